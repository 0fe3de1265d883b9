/* export_writer.h: records of a collection, one after the other, into a file. Vectors of a row are
 * those of the collection's fields, in their order. */
#ifndef SERVER_EXPORT_WRITER_H
#define SERVER_EXPORT_WRITER_H

#include "server/transfer.h"

struct export_writer;
struct export_writer_ops {
    /* 1: written; 0: left out, as it has nothing to write; or an error. */
    int (*add)(struct export_writer *writer, const struct pdb_row *row, struct trail *trail);
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

/* Vectors of a row come as float32 (or packed bits); the files have what the collection keeps. */
enum export_value { EXPORT_FLOATS, EXPORT_HALVES, EXPORT_BYTES, EXPORT_BITS };
enum export_value export_value_of(const struct transfer_field *field);
/* Bytes of a vector, and the vector, which may lie anywhere. It holds what it is narrowed to, for
 * that is where it comes from. */
size_t export_vector_bytes(const struct transfer_field *field);
void export_vector_copy(const struct transfer_field *field, const void *vector, void *vector_out);

/* fwrite with an error. */
int export_write(struct export_writer *writer, FILE *file, const void *bytes, size_t len,
                 struct trail *trail);

#endif
