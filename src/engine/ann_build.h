/* Makes the index of one vector field of one segment, on workers: drives the phases of index/make.h
 * as jobs of a few milliseconds, so that flushes, merges and other indexes get their turn between
 * any two of them.
 *
 *     owner's core                              workers
 *     start                                     begin: the rows that have a vector, training
 *     hands out the parts of a phase    ->      parts, each worker its own stretch
 *     all are back                      ->      advance, on the first worker
 *     ...
 *     done                              <-      end
 *
 * A large index is shared by the workers of several cores. Whoever makes the owner wait, because
 * its core has other work for it, is left out for a while. */
#ifndef ENGINE_ANN_BUILD_H
#define ENGINE_ANN_BUILD_H

#include "engine/ann.h"
#include "segment/segment.h"

enum { ANN_WORKERS_MAX = 8 };

struct ann_build;
struct file_map;

struct ann_build_options {
    struct engine_core *core;      /* the owner */
    unsigned worker_count;         /* of all cores, the owner's first; 1 to ANN_WORKERS_MAX */
    const struct segment *segment; /* must stay until `done` */
    /* Whose pages are to leave our tables in the end, because they are to be on disk; or NULL. */
    const struct file_map *forget;
    uint32_t row_count, field;
    struct index_spec spec;
    /* One of the segments that it was merged of, and its index, to begin with; or NULL. */
    const struct segment *base_segment;
    const struct ann *base;
    /* rc 0: the index is the receiver's, with one reference. Else PDB_CANCELLED, PDB_DATA_LOSS (a
     * page is damaged), PDB_RESOURCE_EXHAUSTED, PDB_OUT_OF_RANGE (no row has a vector). The build
     * frees itself after it. */
    void (*done)(struct ann_build *build, int rc, struct ann *ann);
    void *arg;
};

/* 0, or PDB_RESOURCE_EXHAUSTED: not started, `done` will not run. */
int ann_build_start(const struct ann_build_options *options, struct ann_build **build_out);
void *ann_build_arg(const struct ann_build *build);
/* Ends after the jobs under way; `done` still runs, once. */
void ann_build_cancel(struct ann_build *build);
/* As index_make_progress, as of the last phase. */
void ann_build_progress(const struct ann_build *build, uint64_t *done_out, uint64_t *total_out);
/* After a crash of a simulated disk: frees it; `done` does not run. NULL is legal. */
void ann_build_drop(struct ann_build *build);

#endif
