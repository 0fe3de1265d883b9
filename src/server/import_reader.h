/* import_reader.h: a file as records, one after the other: vectors as the server stores them,
 * metadata as JSON text. */
#ifndef SERVER_IMPORT_READER_H
#define SERVER_IMPORT_READER_H

#include "base/buffer.h"
#include "base/hash.h"
#include "base/trail.h"
#include "base/uuid.h"
#include "server/transfer.h"

#define IMPORT_ROWS_UNKNOWN UINT64_MAX

/* What the files mean; lives as long as their readers. */
struct import_target {
    const struct transfer_collection *collection; /* NULL: only to ask what the file holds */
    const char *id_column, *vector_column;        /* Parquet; NULL: found by name */
    const char *field;                            /* of the vectors; NULL: the default one */
    bool ids_by_row;                              /* the id is the number of the row */
    bool documents; /* Parquet of our own: metadata as a document, too; not as JSON alone */
};

struct import_vector {
    struct pdb_text field;
    const void *bytes; /* float32, little-endian; packed bits of a field of bits */
    size_t len;
};

/* Everything lies in the reader, until it is asked for the next one. */
struct import_record {
    struct pdb_text id;
    struct import_vector vectors[PDB_FIELD_MAX];
    uint32_t vector_count;
    struct pdb_text metadata; /* JSON of an object, which the server checks; empty: none */
    bool has_expires_at, has_if_version;
    int64_t expires_at_us; /* 0: never */
    uint64_t if_version;
    /* Parquet of our own: what an import passes by */
    struct pdb_text document; /* with target->documents */
    uint64_t version;
    int64_t created_at_us, updated_at_us;
};

/* What a collection for a file would be like. */
struct import_shape {
    struct transfer_collection collection; /* names, dimensions, metrics (may be empty), columns */
};

/* Rows that are left out: `count` from `first` on. */
struct import_range {
    uint64_t first, count;
};

struct import_reader;

struct import_reader_ops {
    /* 1: a record; 0: the end; PDB_INVALID_ARGUMENT: this row is bad, the next one may be asked
     * for; any other error: the file is. Rows count on in all cases but the last. */
    int (*next)(struct import_reader *reader, struct import_record *record_out,
                struct trail *trail);
    /* Passes rows by, fewer at the end. */
    int (*skip)(struct import_reader *reader, uint64_t row_count, struct trail *trail);
    uint64_t (*offset)(const struct import_reader *reader); /* bytes read; for progress */
    int (*shape)(struct import_reader *reader, struct arena *arena, struct import_shape *shape_out,
                 struct trail *trail);
    void (*close)(struct import_reader *reader);
};

struct import_reader {
    const struct import_reader_ops *ops;
    const struct import_target *target;
    const char *path;
    const char *row_word; /* "row", counted from 0; "line", from 1 */
    uint64_t row;         /* the next one, from 0 */
    uint64_t row_base;    /* rows of files before this one: for ids by row */
    uint64_t row_count;   /* IMPORT_ROWS_UNKNOWN */
    uint64_t bytes;       /* of the file */
    /* ids of records that have none; see import_make_id */
    struct hash_key print;
    bool has_print;
    char id[UUID_TEXT_LEN + 1];
    /* sorted rows of a segment that have ended */
    const struct import_range *ended;
    size_t ended_count, ended_at;
};

enum import_format {
    IMPORT_FORMAT_UNKNOWN,
    IMPORT_JSONL,
    IMPORT_VECTORS, /* .npy, .fvecs, idx */
    IMPORT_PARQUET,
};

/* By `name` ("parquet", "jsonl", "npy", "fvecs"), or the end of the path. */
enum import_format import_format_of(const char *path, const char *name);

/* Each: 0; PDB_NOT_FOUND; PDB_INVALID_ARGUMENT: not such a file, or it does not fit the target, and
 * the trail says what would; PDB_RESOURCE_EXHAUSTED. Vectors have their ids in "<path>.ids". */
int import_jsonl_open(const struct import_target *target, const char *path,
                      struct import_reader **reader_out, struct trail *trail);
int import_vectors_open(const struct import_target *target, const char *path, const char *format,
                        struct import_reader **reader_out, struct trail *trail);
int import_parquet_open(const struct import_target *target, const char *path,
                        struct import_reader **reader_out, struct trail *trail);

/* ---- for the readers ---- */

/* The id of a record that has none. By its row over all files; or a UUID made of the row and the
 * file's size, beginning and end, so that who imports the same file again writes the same records,
 * and another file's never meet them. 0 or PDB_UNAVAILABLE: the file cannot be read. */
int import_make_id(struct import_reader *reader, struct pdb_text *id_out, struct trail *trail);
/* Adds a vector of `count` floats, which stay where they are; for a field of bits they are packed
 * in place. PDB_INVALID_ARGUMENT: a value is not finite, or not 0 or 1 for bits; or the collection
 * has another dimension, or no such field. */
int import_add_floats(const struct import_target *target, struct import_record *record,
                      struct pdb_text field, float *values, size_t count, struct trail *trail);
/* The field of the target: PDB_INVALID_ARGUMENT if the collection lacks it. *field_out NULL without
 * a collection. */
int import_target_field(const struct import_target *target, const struct transfer_field **field_out,
                        struct trail *trail);
/* The size of a file: 0, or PDB_NOT_FOUND. */
int import_file_bytes(const char *path, uint64_t *bytes_out, struct trail *trail);

#endif
