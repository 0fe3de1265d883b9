/* The manifest of a shard: the atomic list of its live segments, with all that lived only in the
 * part of the log that the segments replace: which of their rows have ended, the live retry keys,
 * the version counter. One checksummed file collections/<uuid>/MANIFEST-<n>, replaced by a higher
 * n. Format: docs/formats/manifest.md.
 *
 * The highest-numbered manifest is the one that counts. It appeared by rename after its sync, so
 * one that does not validate is damage, never unfinished work. Lower ones are leftovers. */
#ifndef ENGINE_MANIFEST_H
#define ENGINE_MANIFEST_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"
#include "base/trail.h"
#include "base/uuid.h"
#include "engine/file_write.h"
#include "segment/segment.h"
#include "wal/wal.h"

/* Larger files are refused as damage before memory is asked for. */
#define MANIFEST_BYTES_MAX ((size_t)4 << 30)
/* Versions stay below, so that differences and codes of them cannot overflow. */
#define MANIFEST_VERSION_MAX (UINT64_MAX >> 2)

struct manifest_segment {
    uint64_t number;
    uint64_t rows; /* <= SEGMENT_ROWS_MAX */
    uint64_t parquet_bytes;
    uint64_t index_bytes; /* 0: unknown, it was made again */
    uint64_t version_min, version_max;
    int64_t expires_min_us;  /* INT64_MAX: no row expires */
    uint32_t parquet_crc32c; /* of the whole file */
    uint64_t schema_version; /* of the collection when it was made; 0: unknown */
    /* The collection that its files name, where it was restored from a snapshot of another one;
     * zeros: the manifest's own. */
    struct uuid origin;
    /* Reading only: its rows that have ended, still coded; see manifest_ended_begin. */
    const uint8_t *ended;
    size_t ended_len;
    uint32_t ended_count;
};

static inline bool manifest_segment_is_foreign(const struct manifest_segment *segment)
{
    static const struct uuid own;
    return !uuid_equal(&segment->origin, &own);
}

/* A request that was carried out: what a struct dedup_entry holds. */
struct manifest_request {
    struct wal_request request;
    uint64_t version;
    uint32_t count;
};

struct manifest {
    struct uuid collection;
    uint32_t shard;
    uint64_t number;         /* the <n> of its name */
    uint64_t version;        /* all batches up to it are in the segments: replay skips them */
    uint64_t oldest_version; /* the oldest one that as_of may read */
    uint64_t next_segment;   /* numbers from here on were never given to a segment that is named */
    int64_t written_at_us;
    /* Reading only. */
    struct manifest_segment *segments; /* in order of number */
    uint32_t segment_count;
    const uint8_t *requests; /* see manifest_request_at; in order of their completion */
    uint32_t request_count;
};

/* ---- writing: pure, in steps (manifest_encode.c) ---- */

/* Ended rows and requests may change between the steps: what happens meanwhile has a version above
 * `version` and comes again from the log. Errors of memory stick in `out` (out->failed). */
struct manifest_encoder {
    struct buffer *out;
    uint64_t number;        /* of the manifest */
    size_t section;         /* offset of the open section's header; 0: none */
    size_t summed;          /* bytes of `out` that `crc` covers */
    uint32_t crc;           /* of the open section's content */
    uint32_t section_count; /* closed or open */
    uint64_t entries;       /* of the open section */
    uint64_t last_version;  /* of the ended rows of one segment */
    uint32_t next_row;
    /* Ends above it are left out: they come from the log, and may be lost with it where the sync
     * mode is weak. Set by begin to the highest there is. */
    uint64_t ended_by;
    uint64_t scanning; /* the segment whose ended rows are looked at, up to row `scanned` */
    uint32_t scanned;
};

/* `m`: its scalar fields; `out` is empty. Then all segments in order of number, then for each with
 * ended rows manifest_encode_ended until it returns false, then the requests, then the end. */
void manifest_encode_begin(struct manifest_encoder *e, struct buffer *out,
                           const struct manifest *m);
void manifest_encode_segment(struct manifest_encoder *e, const struct manifest_segment *segment);
/* Adds at most about `budget` rows of `deletes`; true while there is more to do. */
bool manifest_encode_ended(struct manifest_encoder *e, uint64_t segment_number,
                           const struct segment_deletes *deletes, size_t budget);
void manifest_encode_request(struct manifest_encoder *e, const struct manifest_request *request);
/* 0; PDB_RESOURCE_EXHAUSTED: memory ran out. */
int manifest_encode_end(struct manifest_encoder *e);

/* ---- reading: pure (manifest_decode.c) ---- */

/* Everything but the segments' array points into `bytes`, which must outlive *manifest_out.
 * PDB_DATA_LOSS, PDB_FAILED_PRECONDITION (a newer format, or a section that must be understood),
 * PDB_RESOURCE_EXHAUSTED; the trail says where. */
int manifest_decode(const void *bytes, size_t len, struct arena *arena,
                    struct manifest *manifest_out, struct trail *trail);
/* index < request_count. */
void manifest_request_at(const struct manifest *m, uint32_t index,
                         struct manifest_request *request_out);

struct manifest_ended {
    struct bytes_reader r;
    uint64_t row;     /* the next one is at least this */
    uint64_t version; /* of the row before; 0 at first */
};
void manifest_ended_begin(const struct manifest_segment *segment, struct manifest_ended *ended_out);
/* The next row that ended, in order; false at the end. What manifest_decode has accepted has no
 * errors left in it: rows rise and are below segment->rows. */
bool manifest_ended_next(struct manifest_ended *ended, uint32_t *row_out, uint64_t *ended_at_out);

/* ---- on disk (manifest.c) ---- */

/* A manifest that was read, with its bytes. */
struct manifest_file {
    struct manifest manifest;
    void *bytes;
    size_t len;
    struct arena arena;
};

/* The highest-numbered one in a shard's folder. Waits for its I/O: start-up only. PDB_NOT_FOUND:
 * there is none, or no folder (without a line in the trail). PDB_DATA_LOSS naming the file: it does
 * not validate, or is another shard's. */
int manifest_load(struct io *io, const char *folder, const struct uuid *collection, uint32_t shard,
                  struct manifest_file *file_out, struct trail *trail);
void manifest_file_dispose(struct manifest_file *file); /* legal on a zeroed one */

/* A save under way; the caller's memory until `done`. */
struct manifest_save {
    /* Set by the caller. */
    struct io *io;
    const char *folder; /* must outlive the save; at most 4000 bytes */
    uint64_t number;    /* that was encoded; higher than any manifest in the folder */
    uint64_t oldest;    /* the lowest number that may still be in the folder; 0: none is */
    const void *bytes;  /* encoded; must outlive the save */
    size_t len;
    /* rc 0: durable, and the older ones are removed as well as could be (a failure leaves them to
     * the next start). Else nothing that the manifests before name may be removed: with `uncertain`
     * a restart finds this manifest or the one before, and the caller saves again under a higher
     * number before it lets go of anything; without it, the one before is still the one. */
    void (*done)(struct manifest_save *save, int rc, const struct trail *trail);
    bool uncertain;
    /* The save's. */
    struct file_write file;
    struct io_op op;
    uint64_t removing;
    int error;
};

void manifest_save_start(struct manifest_save *save);
/* The same at start-up, waiting; leaves the older ones to shard_files_clean. 0 or a PDB_ code. */
int manifest_save_wait(struct io *io, const char *folder, uint64_t number, const void *bytes,
                       size_t len, struct trail *trail);

#endif
