/* error.h: how a failure gets its sentence, innermost words first, places put before them. */
#ifndef PQFILE_ERROR_H
#define PQFILE_ERROR_H

#include "pqfile/types.h"

/* Writes code and message; returns code, so that `return pq_error(...)` works. error may be
 * NULL. */
__attribute__((format(printf, 3, 4))) int pq_error(struct pqfile_error *error, int code,
                                                   const char *format, ...);

/* Puts a place and ", " before the message that is there; returns code. What no longer fits is cut
 * off at the end. */
__attribute__((format(printf, 3, 4))) int pq_error_at(struct pqfile_error *error, int code,
                                                      const char *format, ...);

/* Code and its plain text: "out of memory". */
int pq_error_plain(struct pqfile_error *error, int code);

#endif
