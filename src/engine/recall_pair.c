/* recall_pair.c: a query by the index and then exactly, as ordinary searches that give way to all
 * others. A write that comes between the two may cost a hit: over many queries that is little, and
 * it never makes the recall look better than it is. */
#include "engine/recall.h"

#include "base/text.h"
#include "engine/call.h"

#include "base/no_libc_heap.h"

static bool as_good(float score, float last, bool lower)
{
    return lower ? score <= last : score >= last;
}

static bool has_id(const struct pdb_hits *hits, struct pdb_text id)
{
    for (uint32_t i = 0; i < hits->count; i++)
        if (text_equal(hits->hits[i].row.id, id))
            return true;
    return false;
}

double recall_of(const struct pdb_hits *hits, const struct pdb_hits *exact, bool lower)
{
    uint32_t found = 0;
    if (exact->count == 0)
        return 1;
    float last = exact->hits[exact->count - 1].score;
    for (uint32_t i = 0; i < hits->count; i++)
        found += as_good(hits->hits[i].score, last, lower) || has_id(exact, hits->hits[i].row.id);
    return found < exact->count ? (double)found / exact->count : 1;
}

static bool lower_is_better(const struct pdb_search *s, struct pdb_text field)
{
    for (uint32_t i = 0; i < s->field_count_out; i++)
        if (text_equal(s->fields_out[i].name, field))
            return s->fields_out[i].metric != PDB_METRIC_COSINE &&
                   s->fields_out[i].metric != PDB_METRIC_DOT;
    return false;
}

/* ---- running ---- */

static void start(struct recall_pair *pair, unsigned way);

static void searched(struct pdb_call *call)
{
    struct recall_search *mine = container_of(call, struct recall_search, search.call);
    struct recall_pair *pair = mine->pair;
    const struct pdb_search *s = &mine->search;
    pair->took_us[pair->way] = call->took_us;
    if (call->error.code == 0 && pair->cancelled)
        call->error = (struct pdb_error){.code = PDB_CANCELLED};
    if (call->error.code != 0) {
        pair->error = call->error;
        pair->done(pair);
        return;
    }
    if (pair->way == RECALL_BY_INDEX) {
        pair->rows_scored = s->rows_scored_out;
        start(pair, RECALL_EXACT);
        return;
    }
    const struct pdb_hits *exact = &s->results_out[0];
    pair->any = exact->count != 0;
    pair->recall = recall_of(&pair->searches[RECALL_BY_INDEX].search.results_out[0], exact,
                             lower_is_better(s, pair->query.field));
    pair->done(pair);
}

static void start(struct recall_pair *pair, unsigned way)
{
    struct recall_search *mine = &pair->searches[way];
    struct pdb_query *query = &pair->queries[way];
    pair->way = way;
    *query = pair->query;
    query->include = 0;
    if (way == RECALL_EXACT) {
        query->exact = true;
        query->ef = query->nprobe = 0;
        query->target_recall = 0;
    }
    mine->pair = pair;
    mine->search = (struct pdb_search){.query_count = 0};
    pdb_call_init(&mine->search.call, pair->db, &mine->arena, searched);
    call_give_way(&mine->search.call);
    mine->search.call.deadline_ns = pair->deadline_ns;
    mine->search.collection = pair->collection;
    mine->search.queries = query;
    mine->search.query_count = 1;
    pdb_search_start(&mine->search); /* maybe it has ended, and the pair is gone */
}

void recall_pair_start(struct recall_pair *pair)
{
    pair->any = pair->cancelled = false;
    pair->error.code = 0;
    start(pair, RECALL_BY_INDEX);
}

void recall_pair_cancel(struct recall_pair *pair)
{
    pair->cancelled = true;
    pdb_call_cancel(&pair->searches[pair->way].search.call);
}

void recall_pair_dispose(struct recall_pair *pair)
{
    for (unsigned way = 0; way < RECALL_WAYS; way++)
        arena_dispose(&pair->searches[way].arena);
}
