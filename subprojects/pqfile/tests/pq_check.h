/* pq_check.h: whether all ways to reach the same rows of a file agree; for pq_dump and the fuzzer.
 */
#ifndef PQFILE_TESTS_PQ_CHECK_H
#define PQFILE_TESTS_PQ_CHECK_H

#include "pqfile/pqfile.h"

/* Reads every column and compares with that: the pages in place, the page index and its bounds, the
 * bloom filter, and rows found by seeking. 0; the first error of the library; or PQFILE_INVALID and
 * a message that begins with "disagreement". file: its bytes, or NULL. */
int pq_check_file(const struct pqfile_reader *reader, const void *file, struct pqfile_error *error);

#endif
