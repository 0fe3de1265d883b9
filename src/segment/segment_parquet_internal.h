/* The Parquet file of a segment: its columns, what its footer says about it, and its rows one by
 * one. Inside src/segment. */
#ifndef SEGMENT_SEGMENT_PARQUET_INTERNAL_H
#define SEGMENT_SEGMENT_PARQUET_INTERNAL_H

#include "base/heap.h"
#include "segment/segment_columns_internal.h"
#include "segment/segment_internal.h"

#include <pqfile/pqfile.h>

/* Columns by their number. Those of declared columns begin at SEGMENT_LEAF_DECLARED; behind them
 * come metadata and one for each vector field. */
enum segment_leaf {
    SEGMENT_LEAF_ID,
    SEGMENT_LEAF_VERSION,
    SEGMENT_LEAF_CREATED,
    SEGMENT_LEAF_UPDATED,
    SEGMENT_LEAF_EXPIRES,
    SEGMENT_LEAF_DECLARED,
};

/* ---- segment_schema.c ---- */

/* How kinds of columns are stored. */
enum segment_storage {
    SEGMENT_STORE_PLAIN,
    SEGMENT_STORE_DELTA,      /* 64-bit integers */
    SEGMENT_STORE_DICTIONARY, /* short text */
    SEGMENT_STORE_BOOLEAN,
    SEGMENT_STORE_JSON,
    SEGMENT_STORE_COUNT,
};

/* The schema in pqfile's words. */
struct segment_layout {
    struct heap *heap;
    struct pqfile_field *fields;
    size_t field_count;
    uint32_t leaf_count, metadata_leaf; /* then one of each vector field */
    char **vector_names;
    uint32_t vector_count;
    bool in_place;
    struct pqfile_column_options storage[SEGMENT_STORE_COUNT];
    struct pqfile_column_options vectors[PDB_FIELD_MAX];
};

/* `columns` must outlive it. 0 or PDB_RESOURCE_EXHAUSTED; to be disposed of in any case. It may not
 * be moved once made. */
int segment_layout_init(struct segment_layout *l, struct heap *heap,
                        const struct segment_schema *schema, const struct segment_columns *columns);
void segment_layout_dispose(struct segment_layout *l);
/* True if the file has exactly these columns. */
bool segment_layout_matches(const struct segment_layout *l, const struct pqfile_metadata *metadata);

/* Values of the footer that say what the file is. */
#define SEGMENT_KEY_FORMAT     "proximadb.format"
#define SEGMENT_KEY_COLLECTION "proximadb.collection"
#define SEGMENT_KEY_NUMBER     "proximadb.segment"
#define SEGMENT_KEY_SCHEMA     "proximadb.schema"

/* The value of SEGMENT_KEY_FORMAT: the lowest that can say it. */
int segment_schema_format(const struct segment_schema *schema);
/* The value of SEGMENT_KEY_SCHEMA: JSON. */
void segment_schema_write(const struct segment_schema *schema, const struct segment_layout *l,
                          const struct segment_columns *columns, struct buffer *json);
/* What the footer says: uuid, number, fields and columns (in the arena). 0, PDB_DATA_LOSS,
 * PDB_FAILED_PRECONDITION (a newer format), PDB_RESOURCE_EXHAUSTED. */
int segment_schema_read(const struct pqfile_metadata *metadata, struct arena *arena,
                        struct segment_schema *schema_out, struct trail *trail);

/* pqfile's memory from a heap. */
struct pqfile_allocator segment_allocator(struct heap *heap);
/* For reading our own files: their footers grow with fields, columns and row groups. */
struct pqfile_reader_options segment_reader_options(struct heap *heap);
/* Adds pqfile's message and returns the PDB_* that its code stands for. */
int segment_pqfile_failed(const struct pqfile_error *error, struct trail *trail);

/* ---- segment_rows.c ---- */

/* A position in one column. */
struct segment_leaf_reader {
    struct pqfile_cursor *cursor;
    const struct pqfile_column_options *options; /* as it was written */
    uint32_t definition_max;
    uint32_t value_bytes; /* in memory */
    uint32_t row_max;     /* of one batch */
    struct pqfile_batch batch;
    size_t rows, levels, values; /* of the batch that were passed */
};

/* Reads a Parquet file in order of rows. */
struct segment_rows {
    struct heap *heap;
    struct arena schema_arena, row_arena;
    struct pqfile_reader *reader;
    struct segment_schema schema; /* as the file has it */
    struct segment_columns columns;
    struct segment_layout layout;
    struct segment_leaf_reader *leaves;
    struct segment_value *values;
    const void *vectors[PDB_FIELD_MAX];
    uint32_t row_group;
    uint64_t row_in_group, row; /* the next one */
    uint64_t chunk_end;         /* of the column before, in the file */
};

/* The bytes must live as long as it does. 0, PDB_DATA_LOSS, PDB_FAILED_PRECONDITION,
 * PDB_RESOURCE_EXHAUSTED; to be closed in any case. It may not be moved. */
int segment_rows_open(struct segment_rows *r, struct heap *heap,
                      const struct segment_bytes *parquet, struct trail *trail);
void segment_rows_close(struct segment_rows *r);
/* The next row: 1, 0 at the end, PDB_DATA_LOSS, PDB_RESOURCE_EXHAUSTED. What it points to lives
 * until the next call. */
int segment_rows_next(struct segment_rows *r, struct pdb_row *row_out, struct trail *trail);
uint64_t segment_rows_total(const struct segment_rows *r);

#endif
