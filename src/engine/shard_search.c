/* shard_search.c: the exact search: checked and compiled at home, scanned by the shard in steps at
 * one version, the winners copied into the call's arena there.
 *
 * A batch of queries goes over the rows together: each step gives every query the same stretch of
 * rows, small enough to stay in the processor's cache, so that memory is read once for all of them.
 * The stretch is about 128 KiB of vectors, and at most 256 rows where a filter has to look at each:
 * far below the slice of 500 microseconds, which is looked at after every query's stretch.
 *
 * Searches of many callers do the same: those that come while others scan wait, and then go over
 * the rows together, as one convoy. Taking turns instead would read memory once for each. Waiting
 * costs a caller at most the rest of the scan under way, which taking turns would have cost, too:
 * with two searches either way the second is answered after one and a half to two scans. Only large
 * batches go by themselves, or a search behind a thousand queries would wait for all of them. */
#include "base/text.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/fetch.h"
#include "engine/validate.h"

#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum {
    QUERIES_MAX = 1000,
    STRETCH_BYTES = 128 * 1024,
    STRETCH_ROWS_MIN = 16,
    STRETCH_ROWS_MAX = 2048,
    STRETCH_ROWS_FILTERED = 256,
    CONVOY_QUERIES_MAX = 64, /* of one call that joins a convoy, and of a convoy */
};

struct query_work {
    struct view_search search;
    struct filter *filter;
    uint32_t field;
    const void *values; /* as a row holds them; NULL: of a stored record */
    bool complete;
};

struct search_work {
    struct shard_view view;
    struct query_work *queries;
    struct pdb_hits *results;
    uint32_t next;  /* query whose turn it is */
    uint32_t hit;   /* copying: of that query */
    size_t stretch; /* rows */
    bool scanned;
    uint32_t fetched;  /* hits of this query whose vectors were asked for, where they are on disk */
    uint64_t stage_ns; /* when its stage began */
    const void *vectors[PDB_FIELD_MAX];
    struct fetch fetch;
};

/* ---- home ---- */

static struct validate_place place_of(const struct pdb_search *s, uint32_t i)
{
    return (struct validate_place){s->query_path, i};
}

/* "queries[3].<what>" or "<what>". */
static void query_path(const struct pdb_search *s, uint32_t i, const char *what, char path_out[96])
{
    if (s->query_path == NULL || s->query_path[0] == '\0')
        (void)snprintf(path_out, 96, "%s", what);
    else
        (void)snprintf(path_out, 96, "%.48s[%u].%s", s->query_path, i, what);
}

static int check_target(struct pdb_search *s, uint32_t i, struct query_work *work)
{
    const struct pdb_query *query = &s->queries[i];
    const struct catalog_entry *entry = call_state(&s->call)->entry;
    struct trail trail = {0};
    char path[96];
    int rc =
        validate_field(entry, query->field, (struct validate_place){NULL, 0}, &work->field, &trail);
    if (rc < 0) {
        query_path(s, i, "field", path);
        return call_fail(&s->call, rc, "%s: the collection has no %svector field%s%.*s%s", path,
                         query->field.len == 0 ? "default " : "", query->field.len == 0 ? "" : " '",
                         CALL_TEXT(query->field),
                         query->field.len == 0 ? "; name one of its fields" : "'");
    }
    if (query->id.len != 0) {
        query_path(s, i, "id", path);
        rc = validate_id(query->id, path, &trail);
        if (rc == 0 && query->vector.values != NULL)
            rc = trail_add(&trail, PDB_INVALID_ARGUMENT, "%s: give either a vector or an id", path);
        return rc < 0 ? call_fail_trail(&s->call, rc, &trail) : 0;
    }
    if (query->vector.values == NULL) {
        query_path(s, i, "vector", path);
        return call_fail(&s->call, PDB_INVALID_ARGUMENT, "%s: missing; give a vector or an id",
                         path);
    }
    struct pdb_field field = entry->config.fields[work->field];
    field.name.len = 0; /* in a query it is "vector", whatever the field */
    rc = validate_vector(&field, &query->vector, place_of(s, i), s->call.arena, &work->values,
                         &trail);
    return rc < 0 ? call_fail_trail(&s->call, rc, &trail) : 0;
}

static int check_query(struct pdb_search *s, uint32_t i, struct query_work *work)
{
    const struct pdb_query *query = &s->queries[i];
    char path[96];
    int rc = check_target(s, i, work);
    if (rc < 0)
        return rc;
    if (query->k < 1 || query->k > PDB_K_MAX) {
        query_path(s, i, "k", path);
        return call_fail(&s->call, PDB_INVALID_ARGUMENT, "%s: expected 1 to %d, found %u", path,
                         PDB_K_MAX, query->k);
    }
    if (query->has_min_score &&
        !(query->min_score >= -3.4028235e38f && query->min_score <= 3.4028235e38f)) {
        query_path(s, i, "min_score", path);
        return call_fail(&s->call, PDB_INVALID_ARGUMENT, "%s: expected a finite number", path);
    }
    struct trail trail = {0};
    query_path(s, i, "params", path);
    if ((rc = validate_search_params(query, path, &trail)) < 0)
        return call_fail_trail(&s->call, rc, &trail);
    query_path(s, i, "filter", path);
    return call_compile_filter(&s->call, query->filter, path, &work->filter);
}

static int search_check(struct pdb_search *s, struct search_work *work)
{
    struct pdb_call *call = &s->call;
    int rc = call_resolve(call, s->collection);
    if (rc < 0)
        return rc;
    if (s->query_count < 1 || s->query_count > QUERIES_MAX)
        return call_fail(call, PDB_INVALID_ARGUMENT, "queries: expected 1 to %d, found %u",
                         QUERIES_MAX, s->query_count);
    work->queries = arena_calloc(call->arena, s->query_count, sizeof(struct query_work));
    work->results = arena_calloc(call->arena, s->query_count, sizeof(struct pdb_hits));
    s->fields_out = shard_copy_fields(call->arena, call_state(call)->entry);
    s->field_count_out = call_state(call)->entry->config.field_count;
    if (work->queries == NULL || work->results == NULL || s->fields_out == NULL)
        return call_no_memory(call);
    return 0;
}

/* ---- the shard: winners ---- */

static bool copy_hit(struct pdb_search *s, struct search_work *work)
{
    struct query_work *query = &work->queries[work->next];
    struct pdb_hits *result = &work->results[work->next];
    struct shard *shard = call_state(&s->call)->shard;
    unsigned include = s->queries[work->next].include;
    struct topk_item item = query->search.query.topk.items[work->hit];
    struct pdb_hit *hit = (struct pdb_hit *)(uintptr_t)&result->hits[work->hit];
    struct pdb_row row;
    if (!view_row(&work->view, item.key, &row,
                  (include & PDB_INCLUDE_VECTORS) != 0 ? work->vectors : NULL))
        return view_check(&work->view, &s->call) == 0;
    if (!shard_copy_row(s->call.arena, shard, &row, include, &hit->row)) {
        (void)call_no_memory(&s->call);
        return false;
    }
    hit->score = scan_score(s->fields_out[query->field].metric, item.distance);
    work->hit++;
    result->count = work->hit;
    return true;
}

/* The vectors of the next hits, as many as are read at once; false: they have to come first. */
static bool fetch_next(struct search_work *work)
{
    struct query_work *query = &work->queries[work->next];
    const struct topk *topk = &query->search.query.topk;
    if (work->hit < work->fetched)
        return true;
    for (; work->fetched < topk->count && work->fetched < work->hit + FETCH_READS_MAX;
         work->fetched++)
        (void)view_fetch(&work->view, topk->items[work->fetched].key, &work->fetch);
    return work->fetch.pending == 0;
}

/* One hit, or on to the next query. False: it has ended with an error, or waits. */
static bool copy_next(struct pdb_search *s, struct search_work *work)
{
    struct query_work *query = &work->queries[work->next];
    struct pdb_hits *result = &work->results[work->next];
    struct topk *topk = &query->search.query.topk;
    if (work->hit == 0) {
        topk_sort(topk);
        struct pdb_hit *hits = arena_array(s->call.arena, struct pdb_hit, topk->count);
        if (hits == NULL) {
            (void)call_no_memory(&s->call);
            return false;
        }
        result->hits = hits;
    }
    bool vectors = (s->queries[work->next].include & PDB_INCLUDE_VECTORS) != 0;
    if (vectors && work->hit < topk->count && !fetch_next(work))
        return false;
    if (work->hit < topk->count && !copy_hit(s, work))
        return false;
    if (work->hit == topk->count) {
        work->next++;
        work->hit = work->fetched = 0;
    }
    return true;
}

/* ---- the shard: scanning ---- */

/* One stretch of the query whose turn it is; true when all queries are complete. */
static bool scan_next(struct pdb_search *s, struct search_work *work)
{
    struct query_work *query = &work->queries[work->next];
    if (!query->complete)
        query->complete = view_search_step(&query->search, work->stretch, &work->fetch);
    if (work->fetch.pending != 0)
        return false;
    if (++work->next < s->query_count)
        return false;
    work->next = 0;
    for (uint32_t i = 0; i < s->query_count; i++)
        if (!work->queries[i].complete)
            return false;
    return true;
}

static void count_search(struct pdb_search *s, const struct search_work *work)
{
    struct call_state *state = call_state(&s->call);
    struct metrics *m = state->here->metrics;
    uint64_t now_ns = state->here->r->now_ns;
    struct shard *shard = state->shard;
    for (uint32_t i = 0; i < s->query_count; i++) {
        const struct scan_query *query = &work->queries[i].search.query;
        histogram_record_count(&m->histograms[METRICS_SEARCH_VISITED_IN], query->rows_seen);
        if (query->filter != NULL && query->rows_seen != 0)
            histogram_record_ratio(&m->histograms[METRICS_SEARCH_SELECTIVITY_IN],
                                   (double)query->rows_scored / (double)query->rows_seen);
    }
    metrics_time(m, METRICS_SEARCH_STAGE_IN + METRICS_SEARCH_STAGE_FETCH, now_ns - work->stage_ns);
    if (shard->search_times == NULL)
        shard->search_times = heap_calloc(&state->here->r->heap, 1, sizeof(struct histogram));
    if (shard->search_times != NULL)
        histogram_record(shard->search_times, now_ns - state->started_ns);
}

static void search_over(struct pdb_search *s, struct search_work *work)
{
    if (s->call.error.code == 0)
        (void)view_check(&work->view, &s->call); /* a damaged part may hold better rows */
    view_close(&work->view);
    if (s->call.error.code == 0) {
        count_search(s, work);
        s->results_out = work->results;
    }
    call_return(&s->call);
}

static void next_stage(const struct engine_core *core, struct search_work *work, unsigned stage)
{
    metrics_time(core->metrics, METRICS_SEARCH_STAGE_IN + stage, core->r->now_ns - work->stage_ns);
    work->stage_ns = core->r->now_ns;
}

static void search_step(struct pdb_call *call)
{
    struct call_state *state = call_state(call);
    struct pdb_search *s = container_of(call, struct pdb_search, call);
    struct search_work *work = state->work;
    while (!call_stopped(call) && !shard_gone(state->shard, call)) {
        if (!work->scanned) {
            work->scanned = scan_next(s, work);
            if (work->fetch.pending != 0)
                return;
            if (work->scanned)
                next_stage(state->here, work, METRICS_SEARCH_STAGE_MEMTABLE);
        } else if (work->next == s->query_count) {
            break;
        } else if (!copy_next(s, work)) {
            if (work->fetch.pending != 0)
                return;
            break;
        }
        if (reactor_slice_over(state->here->r)) {
            call_again(call);
            return;
        }
    }
    search_over(s, work);
}

/* ---- the shard: beginning ---- */

static int take_stored_vector(struct pdb_search *s, uint32_t i, struct search_work *all)
{
    struct query_work *work = &all->queries[i];
    struct call_state *state = call_state(&s->call);
    struct shard *shard = state->shard;
    const struct pdb_query *query = &s->queries[i];
    struct pdb_row row;
    char path[96];
    query_path(s, i, "id", path);
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
    void *copy = arena_alloc_aligned(s->call.arena, shard->field_bytes[work->field], 64);
    if (copy == NULL)
        return call_no_memory(&s->call);
    memcpy(copy, row.vectors[work->field], shard->field_bytes[work->field]);
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
    struct scan_query *scan = &work->search.query;
    scan->field = call_state(&s->call)->shard->fields[work->field];
    scan->field_index = work->field;
    scan->vector = work->values;
    scan->filter = work->filter;
    scan->has_score_limit = query->has_min_score;
    scan->score_limit = query->min_score;
    scan->exclude_id = query->id;
    topk_init(&scan->topk, items, k);
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

/* Takes the version that it will see. False: it has ended. */
static bool search_begin(struct pdb_search *s)
{
    struct pdb_call *call = &s->call;
    struct call_state *state = call_state(call);
    struct search_work *work = state->work;
    struct shard *shard = state->shard;
    int rc = view_open(call, &work->view);
    for (uint32_t i = 0; rc == 0 && i < s->query_count; i++)
        rc = begin_query(s, i, work);
    if (rc < 0) {
        search_over(s, work);
        return false;
    }
    choose_stretch(s, work);
    work->fetch.core = state->here;
    work->fetch.task = s->query_count > CONVOY_QUERIES_MAX ? &state->task : &shard->search_task;
    work->stage_ns = state->started_ns;
    next_stage(state->here, work, METRICS_SEARCH_STAGE_QUEUE);
    return true;
}

/* ---- the shard: convoys ---- */

static struct pdb_search *search_of(struct list_link *link)
{
    return container_of(call_of(container_of(link, struct call_state, link)), struct pdb_search,
                        call);
}

static bool ended_early(struct pdb_search *s)
{
    return call_stopped(&s->call) || shard_gone(call_state(&s->call)->shard, &s->call);
}

static void drop_stopped(struct list *searches)
{
    list_each_safe(link, following, searches)
    {
        struct pdb_search *s = search_of(link);
        const struct search_work *work = call_state(&s->call)->work;
        if (work->fetch.pending != 0 || !ended_early(s))
            continue;
        list_remove(link);
        search_over(s, call_state(&s->call)->work);
    }
}

/* The next convoy: whoever waits, up to its size. */
static void form_convoy(struct shard *shard)
{
    uint32_t queries = 0;
    while (!list_empty(&shard->searches_waiting)) {
        struct list_link *link = shard->searches_waiting.anchor.next;
        struct pdb_search *s = search_of(link);
        if (queries != 0 && queries + s->query_count > CONVOY_QUERIES_MAX)
            return;
        list_remove(link);
        if (search_begin(s)) {
            queries += s->query_count;
            list_push_back(&shard->searches, link);
        }
    }
}

/* One stretch of one search, all its queries; then it is the next one's turn. False: it waits for
 * the disk. */
static bool scan_member(struct shard *shard)
{
    struct list_link *link = list_pop_front(&shard->searches);
    struct pdb_search *s = search_of(link);
    struct call_state *state = call_state(&s->call);
    struct search_work *work = state->work;
    for (uint32_t i = 0; i < s->query_count && !work->scanned && work->fetch.pending == 0; i++)
        work->scanned = scan_next(s, work);
    if (!work->scanned) {
        list_push_back(&shard->searches, link);
        return work->fetch.pending == 0;
    }
    next_stage(state->here, work, METRICS_SEARCH_STAGE_MEMTABLE);
    work->fetch.task = &state->task;
    call_run(&s->call, search_step);
    return true;
}

static uint32_t member_count(const struct shard *shard)
{
    uint32_t count = 0;
    list_each (link, &shard->searches)
        count++;
    return count;
}

static void convoy_step(struct task *task)
{
    struct shard *shard = container_of(task, struct shard, search_task);
    struct reactor *r = shard->core->r;
    shard->users++; /* the last member to leave may be the last to hold the shard */
    drop_stopped(&shard->searches);
    drop_stopped(&shard->searches_waiting);
    uint32_t waiting =
        0; /* for the disk, one after the other: with all of them nothing can be done */
    do {
        if (list_empty(&shard->searches))
            form_convoy(shard);
        if (list_empty(&shard->searches))
            break;
        waiting = scan_member(shard) ? 0 : waiting + 1;
    } while ((waiting == 0 || waiting < member_count(shard)) && !reactor_slice_over(r));
    bool all_wait = waiting != 0 && waiting >= member_count(shard);
    if (!all_wait && (!list_empty(&shard->searches) || !list_empty(&shard->searches_waiting)))
        task_queue(r, task);
    shard_leave(shard);
}

static void search_now(struct pdb_call *call)
{
    struct call_state *state = call_state(call);
    struct pdb_search *s = container_of(call, struct pdb_search, call);
    struct shard *shard = state->shard;
    if (s->query_count > CONVOY_QUERIES_MAX) {
        state->task.bulk = true; /* ends when it ends: single searches go first */
        if (search_begin(s))
            call_run(call, search_step);
        return;
    }
    list_push_back(&shard->searches_waiting, &state->link);
    shard->search_task.run = convoy_step;
    shard->search_task.name = "search";
    task_queue(state->here->r, &shard->search_task);
}

static struct pdb_text id_of_query(struct pdb_call *call, uint32_t i)
{
    return container_of(call, struct pdb_search, call)->queries[i].id;
}

/* Stored vectors that lie on disk are brought first. */
static void search_at_shard(struct pdb_call *call)
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

/* ---- home: beginning ---- */

static void check_step(struct pdb_call *call)
{
    struct pdb_search *s = container_of(call, struct pdb_search, call);
    struct search_work *work = call_state(call)->work;
    while (work->next < s->query_count) {
        if (check_query(s, work->next, &work->queries[work->next]) < 0) {
            call_return(call);
            return;
        }
        if (++work->next < s->query_count && reactor_slice_over(call_state(call)->here->r)) {
            call_again(call);
            return;
        }
    }
    work->next = 0;
    call_send_to_shard(call, search_at_shard);
}

void pdb_search_start(struct pdb_search *s)
{
    struct pdb_call *call = &s->call;
    if (!call_begin(call))
        return;
    struct search_work *work = arena_new(call->arena, struct search_work);
    if (work == NULL || search_check(s, work) < 0) {
        (void)call_no_memory(call);
        call_return(call);
        return;
    }
    call_state(call)->work = work;
    call_run(call, check_step);
}
