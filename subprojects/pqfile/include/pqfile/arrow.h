/* arrow.h: what Arrow shall make of a schema. Parquet has no lists of fixed size; Arrow's readers
 * (pyarrow, Polars, DuckDB) take that from an Arrow schema in the key "ARROW:schema" of the footer.
 */
#ifndef PQFILE_ARROW_H
#define PQFILE_ARROW_H

#include "pqfile/writer.h"

/* Encodes the Arrow IPC message "schema" of the fields, in base64 with a NUL after it, into memory
 * of `allocator` (NULL: malloc) that the caller releases with it. The writer does this by itself
 * unless told not to. 0; PQFILE_INVALID: not a schema, or a type that Arrow lacks;
 * PQFILE_NO_MEMORY.
 *
 * STRING, ENUM and JSON become utf8, other BYTE_ARRAY binary, FIXED_LEN_BYTE_ARRAY
 * fixed_size_binary (FLOAT16: halffloat), INTEGER ints of their width and sign, DATE date32, TIME
 * and TIMESTAMP their unit with the zone UTC if `utc`, LIST list or fixed_size_list, other groups
 * struct. */
int pqfile_arrow_schema(const struct pqfile_field *fields, size_t field_count,
                        const struct pqfile_allocator *allocator, char **base64_out,
                        size_t *len_out, struct pqfile_error *error_out);

#endif
