/* shard_search_settle.c: a search at the owner of the shard. It takes its version there, and looks
 * at what the call's home has found by its set:
 *
 * - Candidates that this version does not show are dropped: they have ended since the set was made.
 * - Segments that the set did not have, but that have an index now, are walked here. So are those
 *    that it had, with the ends as they are now, if of a list that was cut off too few candidates
 *    are left: the k best of what is alive may lie behind its end.
 * - All other rows are scanned exactly (shard_search_scan.c): memtables, small segments, and large
 *    ones whose index is being built.
 *
 * So an answer is never incomplete because a set was old; it only took longer. */
#include "engine/shard_search_internal.h"

#include "base/assert.h"
#include "base/bitset.h"

#include <float.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum {
    STRETCH_BYTES = 128 * 1024,
    STRETCH_ROWS_MIN = 16,
    STRETCH_ROWS_MAX = 2048,
    STRETCH_ROWS_FILTERED = 256,
    ALONE_BYTES = 1 << 20, /* of vectors: in the cache anyway, nothing is gained by a convoy */
};

/* ---- beginning ---- */

static int take_stored_vector(struct pdb_search *s, uint32_t i, struct search_work *all)
{
    struct query_work *work = &all->queries[i];
    struct call_state *state = call_state(&s->call);
    struct shard *shard = state->shard;
    const struct pdb_query *query = &s->queries[i];
    struct pdb_row row;
    char path[96];
    search_query_path(s, i, "id", path);
    struct shard_get how = {
        .version = shard->version_visible, .now_us = state->now_us, .vectors = all->vectors};
    enum view_found found = shard_get_row(shard, query->id, &how, &row);
    if (found == VIEW_DAMAGED) {
        parts_tell_damage(shard, &s->call);
        return PDB_DATA_LOSS;
    }
    if (found == VIEW_MISSING)
        return call_fail(&s->call, PDB_NOT_FOUND, "%s: record '%.*s' does not exist", path,
                         CALL_TEXT(query->id));
    if (row.vectors[work->field] == NULL)
        return call_fail(&s->call, PDB_FAILED_PRECONDITION,
                         "%s: record '%.*s' has no vector in the searched field", path,
                         CALL_TEXT(query->id));
    const struct scan_field *field = &shard->fields[work->field];
    size_t bytes =
        field->metric == PDB_METRIC_HAMMING ? field->bytes : field->dimension * sizeof(float);
    void *copy = arena_alloc_aligned(s->call.arena, bytes, 64);
    if (copy == NULL)
        return call_no_memory(&s->call);
    const void *values =
        scan_widened(row.vectors[work->field], field->dimension, field->element, copy);
    if (values != copy)
        memcpy(copy, values, bytes);
    work->values = copy;
    return 0;
}

static int begin_query(struct pdb_search *s, uint32_t i, struct search_work *all)
{
    struct query_work *work = &all->queries[i];
    const struct pdb_query *query = &s->queries[i];
    int rc = query->id.len != 0 ? take_stored_vector(s, i, all) : 0;
    if (rc < 0)
        return rc;
    uint64_t rows = view_rows(&all->view);
    size_t k = query->k < rows ? query->k : (size_t)rows;
    struct topk_item *items = arena_array(s->call.arena, struct topk_item, k + 1);
    if (items == NULL)
        return call_no_memory(&s->call);
    search_set_query(s, i, work);
    topk_init(&work->search.query.topk, items, k);
    view_search_begin(&work->search, &all->view);
    work->complete = k == 0;
    return 0;
}

static void choose_stretch(struct pdb_search *s, struct search_work *work)
{
    const struct shard *shard = call_state(&s->call)->shard;
    size_t rows = STRETCH_ROWS_MAX;
    for (uint32_t i = 0; i < s->query_count; i++) {
        size_t fit = STRETCH_BYTES / shard->field_bytes[work->queries[i].field];
        rows = fit < rows ? fit : rows;
        if (work->queries[i].filter != NULL && rows > STRETCH_ROWS_FILTERED)
            rows = STRETCH_ROWS_FILTERED;
    }
    work->stretch = rows < STRETCH_ROWS_MIN ? STRETCH_ROWS_MIN : rows;
}

/* Where the segments of home's set lie in the view; what has been merged since is in none. */
static void find_places(struct search_work *work)
{
    memset(work->home_places, SEARCH_PLACE_NONE, sizeof(work->home_places));
    for (uint32_t i = 0; i < work->view.count; i++) {
        const struct shard_part *part = work->view.parts[i].part;
        for (uint32_t h = 0; part->segment != NULL && h < work->home_count; h++)
            if (work->home_numbers[h] == part->file->stats.number)
                work->home_places[h] = (uint8_t)i;
    }
}

bool search_begin(struct pdb_search *s)
{
    struct pdb_call *call = &s->call;
    struct call_state *state = call_state(call);
    struct search_work *work = state->work;
    int rc = view_open(call, &work->view);
    for (uint32_t i = 0; rc == 0 && i < s->query_count; i++)
        rc = begin_query(s, i, work);
    if (rc < 0) {
        search_over(s);
        return false;
    }
    work->begun = true;
    choose_stretch(s, work);
    find_places(work);
    work->fetch.core = state->here;
    search_next_stage(state->here, work, METRICS_SEARCH_STAGE_QUEUE);
    return true;
}

/* ---- what home has found ---- */

/* Of the first candidates: what the next loops read of their rows lies all over the segment, and
 * was read long ago, if at all. One line after the other would cost a tenth of a search. */
static void prefetch_found(const struct search_work *work, const struct query_work *query,
                           void (*prefetch)(const struct segment *segment, uint32_t row))
{
    enum { AHEAD = 64 };
    const struct topk *best = &query->found.best;
    for (size_t i = 0; i < best->count && i < AHEAD; i++) {
        uint64_t key = best->items[i].key;
        uint32_t place = work->home_places[key >> VIEW_KEY_SHIFT];
        if (place != SEARCH_PLACE_NONE)
            prefetch(work->view.parts[place].part->segment, (uint32_t)key);
    }
}

/* Its segments need not be scanned any more. */
static void take_found(struct search_work *work, struct query_work *query)
{
    struct search_found *found = &query->found;
    prefetch_found(work, query, segment_prefetch_row);
    for (uint32_t h = 0; h < work->home_count; h++)
        if (bitset_test(found->places, h) && work->home_places[h] != SEARCH_PLACE_NONE)
            bitset_set(query->search.skip, work->home_places[h]);
    for (size_t i = 0; i < found->best.count; i++) {
        struct topk_item item = found->best.items[i];
        uint32_t place = work->home_places[item.key >> VIEW_KEY_SHIFT], row = (uint32_t)item.key;
        if (place == SEARCH_PLACE_NONE)
            continue; /* its segment was merged: what it has become is searched here */
        if (view_sees(&work->view, place, row))
            (void)topk_push(&query->search.query.topk, item.distance, view_key(place, row));
        else
            work->dropped++;
    }
    prefetch_found(work, query, segment_prefetch_texts);
}

/* Whether rows that home did not name could be among the k best: the k-th best now lies farther
 * than its list reaches. */
static bool is_cut_short(const struct query_work *query)
{
    const struct scan_query *scan = &query->search.query;
    return query->found.walked && query->found.horizon < FLT_MAX &&
           topk_bound(&scan->topk) > query->found.horizon &&
           scan_within_limit(scan, query->found.horizon);
}

/* ---- walks of our own ---- */

static struct ann *index_of(const struct search_work *work, uint32_t place, uint32_t field)
{
    const struct shard_part *part = work->view.parts[place].part;
    return part->segment != NULL && part->anns != NULL ? part->anns[field] : NULL;
}

/* Indexes may be replaced while we walk. */
static void add_part(struct search_work *work, uint32_t place, struct ann *ann)
{
    const struct shard_part *part = work->view.parts[place].part;
    ann_hold(ann);
    work->walk_anns[work->walk_part_count] = ann;
    work->walk_parts[work->walk_part_count++] = (struct walk_part){
        .place = place, .file = part->file, .ann = ann, .deletes = part->deletes};
}

static void let_parts_go(struct search_work *work)
{
    for (uint32_t i = 0; work->walk_anns != NULL && i < work->walk_part_count; i++)
        ann_let_go(work->view.shard, work->walk_anns[i]);
    work->walk_part_count = 0;
}

/* Nothing, most of the time: home has walked all there is. False without memory. */
static bool make_room_for_parts(struct pdb_search *s, struct search_work *work)
{
    if (work->walk_anns != NULL)
        return true;
    struct walk_part *parts = arena_array(s->call.arena, struct walk_part, work->view.count);
    struct ann **anns = arena_array(s->call.arena, struct ann *, work->view.count);
    if (parts == NULL || anns == NULL)
        return false;
    work->walk_parts = parts; /* in place of home's */
    work->walk_anns = anns;
    return true;
}

/* `all`: also what home has walked. False without memory. */
static bool choose_parts(struct pdb_search *s, struct search_work *work, bool all)
{
    const struct query_work *query = &work->queries[work->next];
    ASSERT(work->walk_part_count == 0);
    for (uint32_t i = 0; i < work->view.count; i++) {
        struct ann *ann = index_of(work, i, query->field);
        if (!walk_is_fit(ann) || (!all && bitset_test(query->search.skip, i)))
            continue;
        if (!make_room_for_parts(s, work))
            return false;
        add_part(work, i, ann);
    }
    return true;
}

/* Of the query whose turn it is: everything by scanning. */
static void scan_all(struct search_work *work)
{
    struct query_work *query = &work->queries[work->next];
    query->search.query.topk.count = 0;
    memset(query->search.skip, 0, sizeof(query->search.skip));
}

static void begin_own_walk(struct pdb_search *s, struct search_work *work)
{
    struct query_work *query = &work->queries[work->next];
    search_walk_set(s, work, work->view.read.version, &query->search.query.topk);
    work->walking = true;
}

/* False: the query is for a scan alone. */
static bool begin_settling(struct pdb_search *s, struct search_work *work)
{
    struct query_work *query = &work->queries[work->next];
    if (query->complete || !walk_suits(&s->queries[work->next], &query->search.query))
        return false;
    query->found.walked = query->found.walked && work->home_version <= work->view.read.version;
    if (query->found.walked)
        take_found(work, query);
    if (!choose_parts(s, work, false)) {
        scan_all(work);
        return false;
    }
    begin_own_walk(s, work);
    return true;
}

/* All indexes are walked once more, with what is known here. False without memory. */
static bool settle_again(struct pdb_search *s, struct search_work *work)
{
    work->queries[work->next].found.walked = false;
    work->settled_again = true;
    scan_all(work);
    if (!choose_parts(s, work, true))
        return false;
    begin_own_walk(s, work);
    return true;
}

/* `done`: else there was no memory, and what was found would be found twice. */
static void end_own_walk(struct search_work *work, bool done)
{
    struct query_work *query = &work->queries[work->next];
    query->visited += walk_distances(&work->walk);
    for (uint32_t i = 0; done && i < work->walk_part_count; i++)
        bitset_set(query->search.skip, work->walk_parts[i].place);
    if (!done) {
        walk_end(&work->walk);
        scan_all(work);
    }
    let_parts_go(work);
    work->walking = false;
}

/* Settles the query whose turn it is: WALK_DONE once it is, WALK_AGAIN: there is more to do. */
static enum walk_progress settle_query(struct pdb_search *s, struct search_work *work)
{
    if (!work->walking && !begin_settling(s, work))
        return WALK_DONE;
    enum walk_progress progress = walk_step(&work->walk);
    if (progress == WALK_AGAIN || progress == WALK_WAITS)
        return progress;
    end_own_walk(work, progress == WALK_DONE);
    bool again =
        progress == WALK_DONE && is_cut_short(&work->queries[work->next]) && settle_again(s, work);
    if (!again)
        walk_yield(&work->walk);
    return again ? WALK_AGAIN : WALK_DONE;
}

void search_settle_end(struct search_work *work)
{
    walk_end(&work->walk);
    let_parts_go(work);
}

/* ---- all of it ---- */

static uint64_t bytes_to_scan(const struct pdb_search *s, const struct search_work *work)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->query_count; i++)
        if (!work->queries[i].complete)
            sum += view_search_rows(&work->queries[i].search) *
                   work->queries[i].search.query.field.bytes;
    return sum;
}

static bool any_exact(const struct pdb_search *s)
{
    for (uint32_t i = 0; i < s->query_count; i++)
        if (s->queries[i].exact)
            return true;
    return false;
}

static void settled(struct pdb_search *s, struct search_work *work)
{
    struct call_state *state = call_state(&s->call);
    walk_end(&work->walk);
    work->next = 0;
    search_next_stage(state->here, work, METRICS_SEARCH_STAGE_MERGE);
    if (work->dropped != 0)
        ann_set_refresh(state->shard);
    uint64_t bytes = bytes_to_scan(s, work);
    if (bytes > ALONE_BYTES && !search_goes_alone(s)) {
        search_join_convoy(s, any_exact(s) ? CONVOY_EXACT : CONVOY_INDEXED);
        return;
    }
    work->scanned = bytes == 0;
    state->step = search_scan_step;
    search_scan_step(&s->call);
}

static void settle_step(struct pdb_call *call)
{
    struct call_state *state = call_state(call);
    struct pdb_search *s = container_of(call, struct pdb_search, call);
    struct search_work *work = state->work;
    if (!work->begun && !search_begin(s))
        return;
    while (work->next < s->query_count) {
        if (call_stopped(call) || shard_gone(state->shard, call)) {
            search_over(s);
            return;
        }
        enum walk_progress progress = settle_query(s, work);
        if (progress == WALK_WAITS)
            return;
        work->next += progress == WALK_DONE;
        if (work->next < s->query_count && reactor_slice_over(state->here->r)) {
            call_again(call);
            return;
        }
    }
    settled(s, work);
}

/* ---- arriving ---- */

/* Some query may be answered by an index, of some segment at least. */
static bool is_indexed(const struct pdb_search *s, const struct shard *shard,
                       const struct search_work *work)
{
    list_each (link, &shard->parts) {
        const struct shard_part *part = container_of(link, struct shard_part, link);
        for (uint32_t i = 0; part->anns != NULL && i < s->query_count; i++)
            if (!s->queries[i].exact && walk_is_fit(part->anns[work->queries[i].field]))
                return true;
    }
    return false;
}

static void search_now(struct pdb_call *call)
{
    struct call_state *state = call_state(call);
    struct pdb_search *s = container_of(call, struct pdb_search, call);
    struct search_work *work = state->work;
    bool alone = search_goes_alone(s);
    state->task.bulk = alone; /* single searches go first */
    work->fetch.task = &state->task;
    if (is_indexed(s, state->shard, work))
        call_run(call, settle_step);
    else if (!alone)
        search_join_convoy(s, CONVOY_EXACT);
    else if (search_begin(s))
        call_run(call, search_scan_step);
}

static struct pdb_text id_of_query(struct pdb_call *call, uint32_t i)
{
    return container_of(call, struct pdb_search, call)->queries[i].id;
}

/* Stored vectors that lie on disk are brought first. */
void search_arrives(struct pdb_call *call)
{
    const struct pdb_search *s = container_of(call, struct pdb_search, call);
    bool any = false;
    for (uint32_t i = 0; i < s->query_count; i++)
        any = any || s->queries[i].id.len != 0;
    struct fetch_ids *ids = any ? arena_new(call->arena, struct fetch_ids) : NULL;
    if (ids == NULL) {
        search_now(call);
        return;
    }
    ids->count = s->query_count;
    ids->id_at = id_of_query;
    ids->then = search_now;
    fetch_ids_run(call, ids);
}
