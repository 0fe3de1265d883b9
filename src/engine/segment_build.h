/* Makes a segment's two files from rows, and opens it: flush and compaction are this with another
 * source. The rows are counted first, so that both files can be written as they grow. The worker
 * computes in jobs of a few MiB of output while the owner's loop writes what the job before made;
 * then both files are named and mapped, and the segment is opened by a last job.
 *
 *     job: count    job: rows -> bytes ...    job: the rest of the index            job: map, open
 *     loop: open    write the bytes before ...   sync, rename, rename, sync folder          done
 *
 * Memory: a row group, the output of two jobs and 8 bytes an id, all in a heap of the build's own,
 * which the worker and the owner never touch at the same time. segment_build_need bounds it; who
 * starts a build sees to it that there is so much. */
#ifndef ENGINE_SEGMENT_BUILD_H
#define ENGINE_SEGMENT_BUILD_H

#include "base/buffer.h"
#include "engine/file_write.h"
#include "engine/manifest.h"
#include "engine/shard_files.h"
#include "os/file_map.h"
#include "reactor/reactor.h"
#include "segment/segment.h"

/* ---- a segment with its files (segment_file.c) ---- */

/* Owns all that it points to. Its heap counts the segment's memory beside the mapped files and
 * belongs to whoever owns the whole: made on a worker, used and freed on the owner's core. */
struct segment_file {
    struct heap heap;
    struct segment *segment;
    struct file_map parquet, index;
    struct segment_stats stats;
    uint32_t parquet_crc32c;               /* of the whole file */
    struct uuid origin;                    /* as in its manifest's entry */
    bool index_in_memory;                  /* it was made again, and could not be written */
    bool index_was_missing, index_was_bad; /* segment_load has made it again */
};

/* Unmaps both files and frees the segment, on any thread; segment_file_close must still follow. */
void segment_file_unmap(struct segment_file *file);
/* NULL is legal. On the thread whose heap it was made from, when no core reads it any more. */
void segment_file_close(struct heap *heap, struct segment_file *file);
/* Memory that is not the page cache's. */
uint64_t segment_file_heap_bytes(const struct segment_file *file);
/* What a manifest says of it (no ended rows). */
void segment_file_manifest_entry(const struct segment_file *file, uint64_t schema_version,
                                 struct manifest_segment *entry_out);

struct segment_file_options {
    const char *folder;
    struct segment_schema schema; /* its number names the files */
    uint64_t hash_seed;           /* of an index that is made */
    enum file_map_advice parquet_advice, index_advice;
};

/* At start, waiting for its I/O: opens the segment that a manifest names. A missing or bad index is
 * made again with one WARN and written back; where that fails it stays in memory, with another
 * WARN. PDB_DATA_LOSS naming the file: the Parquet file is missing, of another length, or damaged.
 * `heap` takes the struct itself. */
int segment_load(struct io *io, struct heap *heap, const struct segment_file_options *options,
                 const struct manifest_segment *entry, struct segment_file **file_out,
                 struct trail *trail);

/* The same on a worker: `file` is zeroed, and an index that is made again stays in memory. After an
 * error nothing is left open. */
int segment_load_on_worker(struct io *io, const struct segment_file_options *options,
                           const struct manifest_segment *entry, struct segment_file *file,
                           struct trail *trail);

/* Maps both files and opens the segment; `file` is zeroed. Any thread; blocks as file_map_open
 * does. PDB_DATA_LOSS with *index_bad_out: only the index is missing or bad. After an error nothing
 * is left open. */
int segment_file_open(struct io *io, const struct segment_file_options *options,
                      struct segment_file *file, bool *index_bad_out, struct trail *trail);

/* ---- rate limit ---- */

/* Bytes per second of several builds of one core together; a zeroed one has no limit. */
struct segment_rate {
    uint64_t bytes_per_s; /* 0: no limit; may be changed at any time */
    uint64_t free_at_ns;
};
/* Takes `bytes` now; returns the nanoseconds to wait before writing them. */
uint64_t segment_rate_take(struct segment_rate *rate, uint64_t now_ns, uint64_t bytes);

/* ---- building (segment_build.c) ---- */

enum { SEGMENT_BUILD_STEP_BYTES = 8 << 20, SEGMENT_BUILD_STEP_ROWS = 1 << 15 };

/* What the memory of a build depends on. */
struct segment_build_shape {
    const struct segment_schema *schema;
    uint64_t row_group_bytes; /* as in the options; not 0 */
    uint64_t rows, bytes;     /* at most: of the segment, and of its Parquet file */
    uint64_t row_bytes;       /* at most: the document of a row */
};
/* Bytes of memory that such a build never exceeds. */
uint64_t segment_build_need(const struct segment_build_shape *shape);

enum segment_build_kind { SEGMENT_BUILD_FLUSH, SEGMENT_BUILD_COMPACT };

struct segment_source {
    /* Back to the first row. The rows are read twice: at first they are counted, and then their
     * vectors are only compared with NULL. 0, or an error as below. On a worker. */
    int (*begin)(void *arg, bool counting, struct trail *trail);
    /* The next row in the order that segment_writer_add wants: 1 and *row_out, 0 at the end, or a
     * negative PDB_ code, with a line in the trail. On a worker. What the row points to lives until
     * the next call. */
    int (*next)(void *arg, struct pdb_row *row_out, struct trail *trail);
    void *arg;
};

struct segment_build;

struct segment_build_options {
    struct reactor *r; /* the owner; calls `done` */
    unsigned worker;   /* of which core */
    struct segment_file_options file;
    struct segment_source source;
    uint64_t row_group_bytes;     /* 0: the writer's default */
    uint64_t step_bytes;          /* output of a job; 0: SEGMENT_BUILD_STEP_BYTES */
    struct segment_rate *rate;    /* may be NULL */
    size_t heap_bytes_max;        /* of the build; 0: no limit */
    enum segment_build_kind kind; /* what its failpoints are called */
    /* rc 0: *file is the caller's; NULL if the source had no row, and then no file was made. Else
     * nothing is left of it but what could not be removed. PDB_CANCELLED after cancel, also when it
     * was too late to stop anything. The build frees itself after `done`; the source is not used
     * any more once it runs. */
    void (*done)(struct segment_build *build, int rc, struct segment_file *file,
                 const struct trail *trail);
    /* Asked before each job: true, and it waits for segment_build_resume. May be NULL. */
    bool (*hold)(void *arg);
    void *arg;
};

/* 0, or PDB_RESOURCE_EXHAUSTED: not started, `done` will not run. Texts and arrays of the schema
 * must live until the segment is closed, the folder until `done`. */
int segment_build_start(const struct segment_build_options *options,
                        struct segment_build **build_out);
void *segment_build_arg(const struct segment_build *build);
/* Stops after the step under way; `done` still runs, once. Jobs that have not begun when their
 * group stops never come back: builds must be over before reactor_group_stop. */
void segment_build_cancel(struct segment_build *build);
/* The most memory that it has held so far, as of its last job. */
uint64_t segment_build_heap_peak(const struct segment_build *build);
/* Goes on if it was held; harmless else. */
void segment_build_resume(struct segment_build *build);
/* After a crash of a simulated disk: frees it without any I/O; `done` does not run. No reactor may
 * turn any more. NULL is legal. */
void segment_build_drop(struct segment_build *build);

#endif
