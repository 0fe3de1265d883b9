/* search_walk.c: see the header. */
#include "engine/search_walk.h"

#include "base/assert.h"
#include "engine/part.h"

#include <float.h>

#include "base/no_libc_heap.h"

enum {
    STEP_WORK = 1 << 18, /* dimensions of a step: 50 to 150 us */
    STEP_ROWS_MIN = 32,
    STEP_ROWS_MAX = 2048,
    STEP_ROWS_FILTERED = 64, /* a scan looks at sixteen times as many documents */
    SCORE_ROWS = 64,
    SCORE_BYTES = 1 << 19, /* of vectors at once: of 65,535 dimensions two */
};

bool walk_suits(const struct pdb_query *asked, const struct scan_query *query)
{
    /* A zero vector is as near to all as to any. */
    return !asked->exact && (query->field.metric != PDB_METRIC_COSINE || query->norm > 0);
}

uint32_t walk_list_max(uint32_t k)
{
    return k + (k < 10 ? 2 : k / 5);
}

bool walk_is_fit(const struct ann *ann)
{
    return ann != NULL && !index_codes_unfit(&ann->index);
}

void walk_begin(struct walk *walk)
{
    ASSERT(walk->count == walk->next && walk->stage == WALK_STAGE_NEXT);
    walk->part = 0;
    walk->horizon = FLT_MAX;
    walk->distances_before = walk->stats.distances;
}

uint64_t walk_distances(const struct walk *walk)
{
    return walk->stats.distances - walk->distances_before;
}

void walk_yield(struct walk *walk)
{
    if (!list_empty(&walk->core->walks.line))
        walk_pool_give(walk);
}

void walk_end(struct walk *walk)
{
    if (walk->core == NULL)
        return;
    ASSERT(walk->fetch == NULL || walk->fetch->pending == 0);
    walk_pool_give(walk);
    walk->stage = WALK_STAGE_NEXT;
    walk->count = walk->next = 0;
}

/* ---- which rows ---- */

static bool accepts(const void *owner, uint32_t index_row)
{
    const struct walk *walk = owner;
    const struct filter *filter = walk->query->filter;
    uint32_t row = ann_row(walk->parts[walk->part].ann, index_row);
    if (row == walk->excluded_row || (walk->looks_at_rows && !segment_visible(&walk->read, row)))
        return false;
    return filter == NULL || filter_matches(filter, segment_row_metadata(walk->read.segment, row));
}

static void see_rows(struct walk *walk)
{
    const struct walk_part *part = &walk->parts[walk->part];
    const struct segment_stats *stats = &part->file->stats;
    const struct segment_deletes *deletes = part->deletes;
    walk->read =
        (struct segment_read){part->file->segment, deletes, walk->at_version, walk->now_us};
    walk->looks_at_rows = (deletes != NULL && segment_deletes_count(deletes) != 0) ||
                          stats->expires_min_us <= walk->now_us ||
                          stats->version_max > walk->at_version;
    walk->excluded_row = UINT32_MAX;
    uint32_t row;
    uint64_t version = walk->at_version < SEGMENT_NEVER ? walk->at_version : SEGMENT_NEVER - 1;
    if (walk->query->exclude_id.len != 0 &&
        segment_find(part->file->segment, walk->query->exclude_id, version, &row))
        walk->excluded_row = row;
}

/* ---- the index ---- */

static bool make_room(struct walk *walk, uint32_t count)
{
    if (count <= walk->room_count)
        return true;
    struct index_candidate *room = arena_array(walk->arena, struct index_candidate, count);
    if (room == NULL)
        return false;
    walk->candidates = room;
    walk->room_count = count;
    return true;
}

static bool begin_index(struct walk *walk)
{
    const struct walk_part *part = &walk->parts[walk->part];
    see_rows(walk);
    struct index_query query = {
        .vector = walk->vector,
        .k = walk->k,
        .gamma = walk->asked->ef != 0 ? 0 : -1,
        .ef = walk->asked->ef,
        .nprobe = walk->asked->nprobe,
        .target_recall = walk->target_recall,
    };
    if (part->ann->index.quantizer.kind == QUANTIZE_NONE)
        query.want = walk_list_max(walk->k); /* not k alone: some may have ended */
    if (part->ended != NULL) {
        query.dead = part->ended->words;
        query.allowed_count = part->ann->index.codes.row_count - part->ended->count;
    }
    if (walk->looks_at_rows || walk->excluded_row != UINT32_MAX || walk->query->filter != NULL) {
        query.accepts = accepts;
        query.owner = walk;
        query.allowed_count = 0;
    }
    index_search_begin(&walk->search, walk->scratch, &part->ann->index, &query);
    return make_room(walk, walk->search.want);
}

static enum walk_progress next_part(struct walk *walk)
{
    const struct index *index = &walk->parts[walk->part].ann->index;
    switch (walk_pool_take(walk, index)) {
    case WALK_IN_LINE:
        return WALK_WAITS;
    case WALK_NO_MEMORY:
        return WALK_FAILED;
    case WALK_TAKEN:
        break;
    }
    if (!begin_index(walk))
        return WALK_FAILED;
    walk->stage = WALK_STAGE_INDEX;
    return WALK_DONE;
}

static uint32_t step_rows(const struct walk *walk)
{
    uint32_t rows = STEP_WORK / walk->query->field.dimension;
    rows = rows > STEP_ROWS_MAX ? STEP_ROWS_MAX : rows;
    if (walk->query->filter != NULL && rows > STEP_ROWS_FILTERED)
        rows = STEP_ROWS_FILTERED;
    return rows < STEP_ROWS_MIN ? STEP_ROWS_MIN : rows;
}

static void step_index(struct walk *walk)
{
    if (!index_search_step(&walk->search, step_rows(walk)))
        return;
    const struct index_search_stats *stats = &walk->search.stats;
    walk->count = index_search_end(&walk->search, walk->candidates);
    walk->next = walk->asked_for = 0;
    walk->farthest = -FLT_MAX;
    walk->stats.walks++;
    walk->stats.distances += stats->distances;
    walk->stats.expanded += stats->expanded;
    walk->stats.capped += stats->capped;
    walk->stats.scanned += stats->scanned;
    walk->stats.reranked += walk->count;
    walk->stage = WALK_STAGE_FETCH;
}

/* ---- their vectors ---- */

/* True: all that are not in memory have been read once. Without memory for that a touch waits. */
static bool fetch_all(struct walk *walk)
{
    const struct walk_part *part = &walk->parts[walk->part];
    if (part->file->parquet.kept == 0)
        return true;
    if (walk->fetch == NULL)
        walk->fetch = arena_new(walk->arena, struct fetch);
    if (walk->fetch == NULL)
        return true;
    walk->fetch->core = walk->core;
    walk->fetch->task = walk->task;
    uint64_t to;
    while (walk->asked_for < walk->count && fetch_has_room(walk->fetch)) {
        uint32_t row = ann_row(part->ann, walk->candidates[walk->asked_for].row);
        (void)fetch_vectors(walk->fetch, part->file, walk->query->field_index, row, 1, &to);
        walk->asked_for++;
    }
    if (walk->fetch->pending != 0)
        walk_pool_give(walk); /* others search meanwhile */
    return walk->fetch->pending == 0;
}

/* Some; what lies on a damaged page is left out, and whoever reads the segment tells so. */
static void score_some(struct walk *walk)
{
    const struct walk_part *part = &walk->parts[walk->part];
    uint32_t rows[SCORE_ROWS] = {0}, count = 0;
    float distances[SCORE_ROWS];
    uint32_t most = SCORE_BYTES / walk->query->field.bytes; /* 1 at least */
    most = most < SCORE_ROWS ? most : SCORE_ROWS;
    for (; walk->next < walk->count && count < most; walk->next++)
        rows[count++] = ann_row(part->ann, walk->candidates[walk->next].row);
    if (count == 0 || !segment_distances(part->file->segment, walk->query, rows, count, distances))
        return;
    for (uint32_t i = 0; i < count; i++) {
        walk->farthest = distances[i] > walk->farthest ? distances[i] : walk->farthest;
        if (scan_within_limit(walk->query, distances[i]))
            (void)topk_push(walk->found, distances[i], view_key(part->place, rows[i]));
    }
}

/* What the index did not name, and what the list has no room for, lies farther. */
static void end_part(struct walk *walk)
{
    const struct topk *found = walk->found;
    if (!walk->search.stats.complete && walk->farthest < walk->horizon)
        walk->horizon = walk->farthest;
    if (found->count == found->capacity && topk_bound(found) < walk->horizon)
        walk->horizon = topk_bound(found);
    walk->stage = WALK_STAGE_NEXT;
    walk->part++;
}

static enum walk_progress step_vectors(struct walk *walk)
{
    if (walk->stage == WALK_STAGE_FETCH) {
        if (!fetch_all(walk))
            return WALK_WAITS;
        walk->stage = WALK_STAGE_SCORE;
        return WALK_DONE;
    }
    score_some(walk);
    if (walk->next == walk->count)
        end_part(walk);
    return WALK_DONE;
}

/* ---- all of it ---- */

enum walk_progress walk_step(struct walk *walk)
{
    while (walk->stage != WALK_STAGE_NEXT || walk->part < walk->part_count) {
        enum walk_progress progress = WALK_DONE;         /* with this bit */
        bool long_one = walk->stage != WALK_STAGE_FETCH; /* else it is not worth a clock's time */
        if (walk->stage == WALK_STAGE_NEXT)
            progress = next_part(walk);
        else if (walk->stage == WALK_STAGE_INDEX)
            step_index(walk);
        else
            progress = step_vectors(walk);
        if (progress != WALK_DONE)
            return progress;
        if (long_one && reactor_slice_over(walk->core->r))
            return WALK_AGAIN;
    }
    return WALK_DONE;
}
