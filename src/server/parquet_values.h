/* parquet_values.h: single values of Parquet as JSON. Pure. */
#ifndef SERVER_PARQUET_VALUES_H
#define SERVER_PARQUET_VALUES_H

#include "base/buffer.h"
#include "base/trail.h"

#include <pqfile/types.h>

/* The value at `value`, which is stored as `leaf` says. 1; 0: it has no JSON (NaN, infinity) and
 * counts as null; PDB_INVALID_ARGUMENT. */
int parquet_value_write(const struct pqfile_node *leaf, const void *value, struct buffer *out,
                        struct trail *trail);
/* A number of a vector. */
float parquet_value_float(const struct pqfile_node *leaf, const void *value);
/* "key": with its quotes. */
void parquet_value_key(struct buffer *out, struct pdb_text key);
/* Microseconds since 1970 as RFC 3339 in UTC, with none, three or six digits, as few as will do,
 * within quotes. PDB_INVALID_ARGUMENT: not in the years 0 to 9999. */
int parquet_value_time(int64_t us, struct buffer *out, struct trail *trail);

#endif
