/* A folder of copied segments with its manifest.json (docs/formats/export.md), which comes last: a
 * folder without it is unfinished. Everything waits for its I/O. */
#ifndef ENGINE_COPY_FOLDER_H
#define ENGINE_COPY_FOLDER_H

#include "base/buffer.h"
#include "engine/catalog.h"
#include "engine/shard_files.h"

#include <proximadb/copy.h>

struct copy_folder {
    struct io *io;
    const char *path; /* at most DATA_DIR_BYTES_MAX */
    pdb_describe_fn *describe;
    bool made, finished;
    struct buffer json;
    uint32_t segment_count;
    uint64_t rows, bytes; /* copied; rows that have ended do not count */
};

/* `io` and `path` must outlive it. */
void copy_folder_init(struct copy_folder *f, struct io *io, const char *path,
                      pdb_describe_fn *describe);
/* Makes the folder. PDB_ALREADY_EXISTS, PDB_UNAVAILABLE. */
int copy_folder_make(struct copy_folder *f, struct trail *trail);
/* What is in it: the collection at this version. */
void copy_folder_begin(struct copy_folder *f, const struct catalog_entry *entry, uint64_t version);
/* Its file is there and right. `segment` is one of a manifest that was read. */
void copy_folder_segment(struct copy_folder *f, const struct manifest_segment *segment);
/* Writes manifest.json; then all is durable. PDB_UNAVAILABLE, PDB_RESOURCE_EXHAUSTED. */
int copy_folder_end(struct copy_folder *f, struct trail *trail);
/* Frees it; unless it has ended, removes the files of `manifest` (may be NULL) and the folder. */
void copy_folder_dispose(struct copy_folder *f, const struct manifest *manifest);

#endif
