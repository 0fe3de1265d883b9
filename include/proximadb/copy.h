/* A collection of a closed data directory as plain Parquet files. */
#ifndef PROXIMADB_COPY_H
#define PROXIMADB_COPY_H

#include <proximadb/call.h>
#include <proximadb/export.h>
#include <stddef.h>
#include <stdint.h>

struct pdb_copy_options {
    const char *data_dir;
    const char *const *wal_dirs; /* NULL: "<data_dir>/wal" */
    size_t wal_dir_count;
    const char *collection;
    const char *folder; /* is made; must not be there yet */
    /* After each file; may be NULL. */
    void (*progress)(void *arg, uint64_t rows, uint64_t bytes);
    void *arg;
};

/* Copies the Parquet files of the collection's segments, comparing their checksums, and writes
 * manifest.json beside them at last: the collection, and of each file rows, bytes, crc32c and which
 * rows have ended (docs/operating/import-export.md). Takes the lock of the data directory and
 * changes nothing in it. PDB_NOT_FOUND; PDB_FAILED_PRECONDITION: a server has the data directory
 * open, or the log holds rows that no segment has; PDB_ALREADY_EXISTS: the folder is there;
 * PDB_DATA_LOSS: a file is damaged; PDB_UNAVAILABLE. */
PDB_API int pdb_copy(const struct pdb_copy_options *options, struct pdb_error *error);

#endif
