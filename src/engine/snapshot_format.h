/* The list of a snapshot: what it holds, file by file, with lengths and checksums. In memory as one
 * image; on disk as snapshots/<name>/SNAPSHOT. Format: docs/formats/snapshot.md. Pure: no I/O. */
#ifndef ENGINE_SNAPSHOT_FORMAT_H
#define ENGINE_SNAPSHOT_FORMAT_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/list.h"
#include "base/trail.h"
#include "engine/shard_files.h"

struct catalog_entry;

enum {
    SNAPSHOT_HEADER_BYTES = 64,
    SNAPSHOT_LIST_BYTES_MAX = 256 << 20,
    SNAPSHOT_NUMBER = 1, /* of the manifests in snapshots */
};

struct snapshot_file {
    char name[SHARD_NAME_MAX];
    uint64_t bytes;
    uint32_t crc32c; /* of the whole file */
};

struct snapshot_part {           /* a collection */
    struct catalog_entry *entry; /* its uuid, name and settings when it was taken; owned */
    uint64_t version, rows;
    struct snapshot_file *files; /* the manifest, then segments in order of number */
    uint32_t file_count;
};

struct snapshot_image {
    struct list_link link; /* of those that are there, in order of name; then of those to free */
    struct arena arena;    /* all but the entries lies in it */
    struct pdb_text name;
    int64_t created_at_us;
    uint64_t bytes; /* of the files of its parts, without the list */
    bool scheduled;
    bool damaged; /* its list does not validate: it can only be deleted */
    char why[200];
    struct snapshot_part *parts; /* in order of the collections' names */
    uint32_t part_count;
    unsigned readers; /* core 0's: archives being read */
    unsigned refs;    /* core 0's: see snapshot_let_go; 1 when it is made */
};

/* On the heap of nobody: it may travel. NULL without memory. */
struct snapshot_image *snapshot_image_new(struct pdb_text name);
void snapshot_image_free(struct snapshot_image *image); /* NULL is legal */
uint64_t snapshot_part_bytes(const struct snapshot_part *part);

/* In steps: begin, one part at a time, end. buffer->failed tells. */
void snapshot_encode_begin(struct buffer *out, const struct snapshot_image *image);
void snapshot_encode_part(struct buffer *out, const struct snapshot_part *part);
void snapshot_encode_end(struct buffer *out, const struct snapshot_image *image);
/* The same from begin to end, also of the checksum, which a long list may not get in one go. */
struct snapshot_encoder {
    uint32_t part;
    uint32_t crc; /* of the body's first `summed` bytes */
    size_t summed;
};
/* `e` is zeroed at first. Some more; true: that was the end. */
bool snapshot_encode_step(struct snapshot_encoder *e, struct buffer *out,
                          const struct snapshot_image *image);
/* 0; PDB_DATA_LOSS; PDB_FAILED_PRECONDITION: a newer format; PDB_RESOURCE_EXHAUSTED. */
int snapshot_decode(const void *bytes, size_t len, struct snapshot_image **image_out,
                    struct trail *trail);

#endif
