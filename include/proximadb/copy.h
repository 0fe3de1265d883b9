/* A collection as a folder of plain Parquet files and one manifest.json
 * (docs/formats/export.md): of a closed data directory, or of a snapshot's archive. For programs
 * that are no server: everything here waits for its I/O. */
#ifndef PROXIMADB_COPY_H
#define PROXIMADB_COPY_H

#include <proximadb/call.h>
#include <proximadb/collection.h>
#include <proximadb/export.h>
#include <stddef.h>
#include <stdint.h>

struct buffer;

/* Appends a collection's settings as a JSON object that a create takes. */
typedef void pdb_describe_fn(struct buffer *out, const struct pdb_collection_config *config);

struct pdb_copy_options {
    const char *data_dir;
    const char *const *wal_dirs; /* NULL: "<data_dir>/wal" */
    size_t wal_dir_count;
    const char *collection;
    const char *folder; /* is made; must not be there yet */
    pdb_describe_fn *describe;
    /* After each file; may be NULL. */
    void (*progress)(void *arg, uint64_t rows, uint64_t bytes);
    void *arg;
};

/* Copies the Parquet files of the collection's segments, comparing their checksums, and writes
 * manifest.json beside them at last. Takes the lock of the data directory and changes nothing in
 * it. PDB_NOT_FOUND; PDB_FAILED_PRECONDITION: a server has the data directory open, or the log
 * holds rows that no segment has; PDB_ALREADY_EXISTS: the folder is there; PDB_DATA_LOSS: a file is
 * damaged; PDB_UNAVAILABLE. What was written before an error is removed. */
PDB_API int pdb_copy(const struct pdb_copy_options *options, struct pdb_error *error);

/* ---- the same of an archive that comes in pieces (docs/formats/snapshot.md) ---- */

struct pdb_unpack;

struct pdb_unpack_options {
    const char *folder;     /* is made; must not be there yet */
    const char *collection; /* NULL: the only one in the archive */
    pdb_describe_fn *describe;
};

/* PDB_ALREADY_EXISTS, PDB_UNAVAILABLE, PDB_RESOURCE_EXHAUSTED. Options are copied, what they point
 * to must live until the close. */
PDB_API int pdb_unpack_open(const struct pdb_unpack_options *options,
                            struct pdb_unpack **unpack_out, struct pdb_error *error);
/* The next bytes. Nothing of them is believed: files get names of our own making, each must have
 * the length and checksum that the archive's list says. PDB_INVALID_ARGUMENT: no such archive;
 * PDB_NOT_FOUND: the collection is not in it; PDB_DATA_LOSS; PDB_FAILED_PRECONDITION: written by a
 * newer version; PDB_UNAVAILABLE: the folder cannot be written; PDB_RESOURCE_EXHAUSTED. After an
 * error only the close is legal. */
PDB_API int pdb_unpack_write(struct pdb_unpack *unpack, const void *bytes, size_t len,
                             struct pdb_error *error);
/* All has come: makes the files durable and writes manifest.json. PDB_INVALID_ARGUMENT: something
 * is missing. *rows_out: those that are alive. */
PDB_API int pdb_unpack_finish(struct pdb_unpack *unpack, uint64_t *rows_out,
                              struct pdb_error *error);
/* Removes what was written unless it was finished. NULL is legal. */
PDB_API void pdb_unpack_close(struct pdb_unpack *unpack);

#endif
