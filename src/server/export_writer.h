/* export_writer.h: records of a collection, one after the other, into a file. */
#ifndef SERVER_EXPORT_WRITER_H
#define SERVER_EXPORT_WRITER_H

#include "base/json.h"
#include "server/transfer.h"

/* A record as the server gave it; text points into the answer. */
struct export_record {
    struct pdb_text json;    /* all of it */
    struct pdb_text id_json; /* with its quotes */
    struct pdb_text id;
    struct pdb_text metadata;               /* JSON; empty: none */
    struct pdb_text vectors[PDB_FIELD_MAX]; /* JSON of the collection's fields; empty: none */
    uint64_t version;
    int64_t created_at_us, updated_at_us;
    int64_t expires_at_us; /* 0: never */
};

/* Reads one object at the reader; unescaped text lies in the arena. 0 or PDB_INTERNAL. */
int export_record_read(struct json_reader *r, const struct transfer_collection *collection,
                       struct arena *arena, struct export_record *record_out, struct trail *trail);

struct export_writer;
struct export_writer_ops {
    /* 1: written; 0: left out, as it has nothing to write; or an error. */
    int (*add)(struct export_writer *writer, const struct export_record *record,
               struct trail *trail);
    int (*finish)(struct export_writer *writer, struct trail *trail);
    void (*close)(struct export_writer *writer);
};

struct export_writer {
    const struct export_writer_ops *ops;
    FILE *file;
    uint64_t bytes;
};

struct export_settings {
    const struct transfer_collection *collection;
    const char *field;  /* npy, fvecs; NULL: the default one, or the only one */
    const char *format; /* npy or fvecs */
    FILE *file, *ids;   /* written to; not closed by the writer. ids: npy, fvecs */
};

/* Each: 0, PDB_INVALID_ARGUMENT (no such field), PDB_RESOURCE_EXHAUSTED. */
int export_jsonl_open(const struct export_settings *settings, struct export_writer **writer_out,
                      struct trail *trail);
int export_vectors_open(const struct export_settings *settings, struct export_writer **writer_out,
                        struct trail *trail);
int export_parquet_open(const struct export_settings *settings, struct export_writer **writer_out,
                        struct trail *trail);

/* fwrite with an error. */
int export_write(struct export_writer *writer, FILE *file, const void *bytes, size_t len,
                 struct trail *trail);
/* The values of a vector: exactly `dimension`. 0 or PDB_INTERNAL. */
int export_read_vector(struct pdb_text json, float *values_out, size_t dimension,
                       struct trail *trail);

#endif
