/* import_columns.h: what each top-level column of a Parquet file is to a record. */
#ifndef SERVER_IMPORT_COLUMNS_H
#define SERVER_IMPORT_COLUMNS_H

#include "server/import_reader.h"
#include "server/parquet_rows.h"

enum import_role {
    IMPORT_ID,
    IMPORT_EXPIRES, /* ours, as the next three */
    IMPORT_VERSION,
    IMPORT_CREATED,
    IMPORT_UPDATED,
    IMPORT_VECTOR,
    IMPORT_METADATA, /* JSON text: its members */
    IMPORT_VALUE,    /* a member of the metadata */
};

struct import_column {
    enum import_role role;
    uint32_t node;        /* of the file's schema */
    struct pdb_text name; /* IMPORT_VECTOR: the field; IMPORT_VALUE: the key */
    bool path;            /* the key is a dotted path: a declared column of ours */
    bool bits;            /* the vector is packed bits */
    bool whole;           /* it is of int8: lists of integers are vectors, too */
    uint32_t dimension;   /* of the vector; 0: not known yet */
    float *values;        /* of the row; the reader's */
};

struct import_columns {
    bool ours; /* the file is a segment, or an export, of ours */
    struct import_column *all;
    uint32_t count;
    struct transfer_collection schema; /* of our own files: their fields and columns */
};

/* Decides by names and types: import-export.md says how. PDB_INVALID_ARGUMENT: no vectors, too many
 * that could be meant, a named column that is not there or of another type. Memory is the
 * arena's. */
int import_columns_choose(struct import_columns *columns_out, const struct parquet_rows *rows,
                          const struct import_target *target, struct arena *arena,
                          struct trail *trail);

#endif
