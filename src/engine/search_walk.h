/* A search through the indexes of segments: one query, any number of segments, in steps, on any
 * core. The segments are those of a set (ann_set.h) where the call came in, or those of a view at
 * the owner; what differs is who knows which rows may be found.
 *
 *     walk_begin(&walk, ...)
 *     loop: walk_step() ->  WALK_AGAIN   the step's time is used up: queue the task
 *                           WALK_WAITS   for scratch or the disk: the task will be queued
 *                           WALK_DONE    walk->found has the best rows, with exact distances
 *                           WALK_FAILED  no memory: scan exactly
 *
 * Of each segment the index gives its best by codes, a few more than are asked for; these are
 * scored by their vectors, in the same way as an exact scan does, and the best of all segments are
 * kept. Vectors on disk are read first, as many at a time as the fetch takes. Nothing is taken from
 * the heap but scratch, which the core keeps. */
#ifndef ENGINE_SEARCH_WALK_H
#define ENGINE_SEARCH_WALK_H

#include "engine/ann_set.h"
#include "engine/fetch.h"
#include "index/search.h"
#include "segment/segment.h"

struct walk_part {
    uint32_t place; /* its keys are view_key(place, row of the segment) */
    const struct segment_file *file;
    const struct ann *ann;
    const struct ann_ended *ended;         /* of a set; or */
    const struct segment_deletes *deletes; /* the owner's. Both NULL: no row has ended */
};

struct walk_stats {
    uint64_t distances, expanded; /* by codes; rows whose links were followed */
    uint32_t walks, capped, scanned, reranked;
};

enum walk_progress { WALK_DONE, WALK_AGAIN, WALK_WAITS, WALK_FAILED };
enum walk_stage { WALK_STAGE_NEXT, WALK_STAGE_INDEX, WALK_STAGE_FETCH, WALK_STAGE_SCORE };

struct walk {
    /* set by the caller; all live until the end */
    struct engine_core *core;
    struct task *task;
    struct arena *arena;
    struct scan_query *query;      /* begun */
    const float *vector;           /* of the query */
    const struct pdb_query *asked; /* effort */
    uint32_t k;
    float target_recall;
    uint64_t at_version; /* the owner's view; UINT64_MAX: all rows that have not ended */
    int64_t now_us;
    const struct walk_part *parts;
    uint32_t part_count;
    struct topk *found; /* initialised */
    /* Its result beside `found`: rows nearer than this are in there; others may have been cut off.
     * FLT_MAX: none was. */
    float horizon;
    /* its own */
    struct list_link line_link;
    struct index_scratch *scratch;
    enum walk_stage stage;
    uint32_t part;
    struct segment_read read; /* of the part that is walked */
    uint32_t excluded_row;
    bool looks_at_rows; /* for their end or expiry */
    struct index_search search;
    struct index_candidate *candidates; /* room_count of them */
    uint32_t room_count, count, next, asked_for;
    float farthest;            /* of them */
    struct fetch *fetch;       /* where vectors are on disk */
    uint64_t distances_before; /* of stats, which add up over all queries */
    struct walk_stats stats;
};

/* Zeroed before its first use; afterwards for the next query, with the fields above set anew: the
 * rest is kept and used again. */
void walk_begin(struct walk *walk);
enum walk_progress walk_step(struct walk *walk);
/* Rows that were scored by codes since its beginning. */
uint64_t walk_distances(const struct walk *walk);
/* Between two queries: lets others go first that wait for scratch. */
void walk_yield(struct walk *walk);
/* Gives back what it has; when its task runs, no longer while it waits. Legal on one that never
 * began. */
void walk_end(struct walk *walk);

/* Whether a query may be answered by an index. */
bool walk_suits(const struct pdb_query *asked, const struct scan_query *query);
/* Whether the index is to be used: its codes may be found to be of no use for the rows. NULL is
 * legal. */
bool walk_is_fit(const struct ann *ann);
/* Candidates that a list of the k best of a set keeps: some may have ended when it comes to the
 * owner. */
uint32_t walk_list_max(uint32_t k);

#endif
