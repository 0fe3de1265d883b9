/* Ratios of two reports. */
#ifndef BENCH_COMPARE_H
#define BENCH_COMPARE_H

#include "base/trail.h"

#include <stdio.h>

/* Prints, for each group that both files have (by name and protocol), the main numbers of both and
 * B / A. 0 or an error. */
int compare_files(const char *path_a, const char *path_b, FILE *to, struct trail *trail);

#endif
