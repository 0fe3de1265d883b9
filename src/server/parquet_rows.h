/* parquet_rows.h: the columns of a Parquet file put together again row by row, as JSON values.
 *
 * A row group is begun, then for each row: parquet_rows_next, and any of the values of its
 * top-level columns, each at most once; what is not asked for is passed by. Only a page of each
 * column is in memory at a time. */
#ifndef SERVER_PARQUET_ROWS_H
#define SERVER_PARQUET_ROWS_H

#include "base/buffer.h"
#include "base/trail.h"

#include <pqfile/reader.h>

struct parquet_leaf {
    bool used;
    struct pqfile_cursor *cursor;
    struct pqfile_batch batch;
    size_t level, value; /* the next ones of this row */
    size_t row_end;      /* the level behind this row */
};

struct parquet_rows {
    struct pqfile_reader *reader;
    const struct pqfile_metadata *metadata;
    struct parquet_leaf *leaves; /* one a column of the schema */
    uint32_t row_group;
    bool begun;
    uint64_t row, row_count; /* of the row group */
};

/* `reader` must outlive it. 0 or PDB_RESOURCE_EXHAUSTED. */
int parquet_rows_init(struct parquet_rows *rows, struct pqfile_reader *reader);
void parquet_rows_dispose(struct parquet_rows *rows); /* legal on a zeroed one */
/* Reads all columns below a node of the schema; before the first row group. */
void parquet_rows_use(struct parquet_rows *rows, uint32_t node);

/* Stands before row `row` of a row group. 0 or PDB_DATA_LOSS. */
int parquet_rows_begin(struct parquet_rows *rows, uint32_t row_group, uint64_t row,
                       struct trail *trail);
/* Goes to the next row: 1; 0: the row group has none; PDB_DATA_LOSS: the file is damaged. */
int parquet_rows_next(struct parquet_rows *rows, struct trail *trail);

/* Whether a node can become a JSON value: no maps with keys that are no text, nothing unknown.
 * PDB_INVALID_ARGUMENT with a reason. */
int parquet_rows_check(const struct parquet_rows *rows, uint32_t node, struct trail *trail);

/* Each: 1; 0: it is null, and nothing was written; PDB_INVALID_ARGUMENT: no value of this kind can
 * be made of it.
 *
 * A value as JSON: numbers, texts, booleans, lists, objects (of groups and maps; members that are
 * null are left out), timestamps as RFC 3339 in UTC, dates and times of day as text. */
int parquet_rows_value(struct parquet_rows *rows, uint32_t node, struct buffer *out,
                       struct trail *trail);
/* A list of numbers: at most `capacity` are stored, *count_out counts all. */
int parquet_rows_floats(struct parquet_rows *rows, uint32_t node, float *values_out,
                        size_t capacity, size_t *count_out, struct trail *trail);
/* A BYTE_ARRAY or FIXED_LEN_BYTE_ARRAY that is no list, as it is stored. */
int parquet_rows_bytes(struct parquet_rows *rows, uint32_t node, struct pqfile_bytes *bytes_out);

/* A plain INT64, whatever it stands for. PDB_INVALID_ARGUMENT: it is none. */
int parquet_rows_int64(struct parquet_rows *rows, uint32_t node, int64_t *value_out,
                       struct trail *trail);

/* Whether parquet_rows_floats can read it: a list of FLOAT, DOUBLE, float16 or (`whole`)
 * integers. */
bool parquet_rows_is_list(const struct parquet_rows *rows, uint32_t node, bool whole);

#endif
