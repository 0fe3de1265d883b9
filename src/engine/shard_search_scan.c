/* shard_search_scan.c: what of a search is scanned exactly: everything, or what no index answered
 * for; in steps, at one version, and then the winners are copied into the call's arena.
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
 * batches go by themselves, or a search behind a thousand queries would wait for all of them.
 *
 * There are two convoys. Searches by index have only young rows left to scan, and would otherwise
 * wait behind an exact search of everything. */
#include "engine/shard_search_internal.h"

#include "base/assert.h"
#include "engine/recall.h"

#include <string.h>

#include "base/no_libc_heap.h"

/* ---- winners ---- */

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

/* ---- scanning ---- */

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

static void count_walks(struct metrics *m, const struct search_work *work)
{
    const struct walk_stats *stats = &work->walk.stats;
    metrics_add(m, METRICS_SEARCH_WALKS_AT, stats->walks);
    metrics_add(m, METRICS_SEARCH_DISTANCES_AT, stats->distances);
    metrics_add(m, METRICS_SEARCH_EXPANDED_AT, stats->expanded);
    metrics_add(m, METRICS_SEARCH_CAPPED_AT, stats->capped);
    metrics_add(m, METRICS_SEARCH_CODE_SCANS_AT, stats->scanned);
    metrics_add(m, METRICS_SEARCH_RERANKED_AT, stats->reranked);
    metrics_add(m, METRICS_SEARCH_STALE_AT, work->dropped);
    metrics_add(m, METRICS_SEARCH_SETTLED_AGAIN_AT, work->settled_again);
}

static void count_search(struct pdb_search *s, struct search_work *work)
{
    struct call_state *state = call_state(&s->call);
    struct metrics *m = state->here->metrics;
    struct shard *shard = state->shard;
    uint64_t now_ns = state->here->r->now_ns;
    uint64_t took_ns = now_ns > state->started_ns ? now_ns - state->started_ns : 0;
    for (uint32_t i = 0; i < s->query_count; i++) {
        const struct scan_query *query = &work->queries[i].search.query;
        s->rows_scored_out += query->rows_scored + work->queries[i].visited;
        if (state->gives_way)
            continue; /* nobody waits for it */
        recall_note(shard, &s->queries[i], work->queries[i].field);
        histogram_record_count(&m->histograms[METRICS_SEARCH_VISITED_IN],
                               query->rows_seen + work->queries[i].visited);
        if (query->filter != NULL && query->rows_seen != 0)
            histogram_record_ratio(&m->histograms[METRICS_SEARCH_SELECTIVITY_IN],
                                   (double)query->rows_scored / (double)query->rows_seen);
    }
    if (state->gives_way)
        return;
    count_walks(m, work);
    search_next_stage(state->here, work, METRICS_SEARCH_STAGE_FETCH);
    struct histogram **times =
        &shard->search_times[work->walk.stats.walks != 0 ? METRICS_PLAN_INDEX : METRICS_PLAN_FLAT];
    if (*times == NULL)
        *times = heap_calloc(&state->here->r->heap, 1, sizeof(struct histogram));
    if (*times != NULL)
        histogram_record(*times, took_ns);
}

void search_over(struct pdb_search *s)
{
    struct search_work *work = call_state(&s->call)->work;
    search_settle_end(work);
    if (s->call.error.code == 0)
        (void)view_check(&work->view, &s->call); /* a damaged part may hold better rows */
    view_close(&work->view);
    if (s->call.error.code == 0) {
        count_search(s, work);
        s->results_out = work->results;
    }
    call_return(&s->call);
}

/* Hits without vectors are copied in less time than a look at the clock takes for each. */
static bool is_copying_small(const struct pdb_search *s, const struct search_work *work)
{
    enum { HITS_AT_ONCE = 16 };
    return work->scanned && work->next < s->query_count && work->hit % HITS_AT_ONCE != 0 &&
           (s->queries[work->next].include & PDB_INCLUDE_VECTORS) == 0;
}

void search_scan_step(struct pdb_call *call)
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
                search_next_stage(state->here, work, METRICS_SEARCH_STAGE_MEMTABLE);
        } else if (work->next == s->query_count) {
            break;
        } else if (!copy_next(s, work)) {
            if (work->fetch.pending != 0)
                return;
            break;
        }
        if (!is_copying_small(s, work) && reactor_slice_over(state->here->r)) {
            call_again(call);
            return;
        }
    }
    search_over(s);
}

/* ---- convoys ---- */

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
        search_over(s);
    }
}

/* The next convoy: whoever waits, up to its size. */
static void form_convoy(struct search_convoy *convoy)
{
    uint32_t queries = 0;
    while (!list_empty(&convoy->waiting)) {
        struct list_link *link = convoy->waiting.anchor.next;
        struct pdb_search *s = search_of(link);
        const struct search_work *work = call_state(&s->call)->work;
        if (queries != 0 && queries + s->query_count > SEARCH_CONVOY_QUERIES_MAX)
            return;
        list_remove(link);
        if (work->begun || search_begin(s)) {
            queries += s->query_count;
            list_push_back(&convoy->members, link);
        }
    }
}

/* One stretch of one search, all its queries; then it is the next one's turn. False: it waits for
 * the disk. */
static bool scan_member(struct search_convoy *convoy)
{
    struct list_link *link = list_pop_front(&convoy->members);
    struct pdb_search *s = search_of(link);
    struct call_state *state = call_state(&s->call);
    struct search_work *work = state->work;
    for (uint32_t i = 0; i < s->query_count && !work->scanned && work->fetch.pending == 0; i++)
        work->scanned = scan_next(s, work);
    if (!work->scanned) {
        list_push_back(&convoy->members, link);
        return work->fetch.pending == 0;
    }
    search_next_stage(state->here, work, METRICS_SEARCH_STAGE_MEMTABLE);
    work->fetch.task = &state->task;
    call_run(&s->call, search_scan_step);
    return true;
}

static uint32_t member_count(const struct search_convoy *convoy)
{
    uint32_t count = 0;
    list_each (link, &convoy->members)
        count++;
    return count;
}

static void convoy_step(struct task *task)
{
    struct search_convoy *convoy = container_of(task, struct search_convoy, task);
    struct shard *shard = convoy->shard;
    struct reactor *r = shard->core->r;
    shard->users++; /* the last member to leave may be the last to hold the shard */
    drop_stopped(&convoy->members);
    drop_stopped(&convoy->waiting);
    uint32_t waiting =
        0; /* for the disk, one after the other: with all of them nothing can be done */
    do {
        if (list_empty(&convoy->members))
            form_convoy(convoy);
        if (list_empty(&convoy->members))
            break;
        waiting = scan_member(convoy) ? 0 : waiting + 1;
    } while ((waiting == 0 || waiting < member_count(convoy)) && !reactor_slice_over(r));
    bool all_wait = waiting != 0 && waiting >= member_count(convoy);
    if (!all_wait && (!list_empty(&convoy->members) || !list_empty(&convoy->waiting)))
        task_queue(r, task);
    shard_leave(shard);
}

void search_join_convoy(struct pdb_search *s, unsigned number)
{
    struct call_state *state = call_state(&s->call);
    struct search_work *work = state->work;
    struct search_convoy *convoy = &state->shard->convoys[number];
    list_push_back(&convoy->waiting, &state->link);
    work->fetch.task = &convoy->task;
    convoy->task.run = convoy_step;
    convoy->task.name = "search";
    task_queue(state->here->r, &convoy->task);
}
