/* shard_search.c: a search where it came in: checked and compiled, and then, where this core has a
 * set of the shard (ann_set.h), walked through the indexes of its segments. So the costly part of a
 * search runs on the core that has the connection, and cores share a collection's searches without
 * sharing memory that changes. What it finds goes to the owner with the call, as candidates; the
 * owner decides what counts (shard_search_settle.c). Searches that ask for exactness go there at
 * once, and so do those by a stored record, whose vector only the owner knows.
 *
 * docs/decisions/0019 tells why. */
#include "engine/shard_search_internal.h"

#include "base/bitset.h"
#include "base/text.h"
#include "engine/validate.h"

#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

/* ---- checks ---- */

static struct validate_place place_of(const struct pdb_search *s, uint32_t i)
{
    return (struct validate_place){s->query_path, i};
}

void search_query_path(const struct pdb_search *s, uint32_t i, const char *what, char path_out[96])
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
        search_query_path(s, i, "field", path);
        return call_fail(&s->call, rc, "%s: the collection has no %svector field%s%.*s%s", path,
                         query->field.len == 0 ? "default " : "", query->field.len == 0 ? "" : " '",
                         CALL_TEXT(query->field),
                         query->field.len == 0 ? "; name one of its fields" : "'");
    }
    if (query->id.len != 0) {
        search_query_path(s, i, "id", path);
        rc = validate_id(query->id, path, &trail);
        if (rc == 0 && query->vector.values != NULL)
            rc = trail_add(&trail, PDB_INVALID_ARGUMENT, "%s: give either a vector or an id", path);
        return rc < 0 ? call_fail_trail(&s->call, rc, &trail) : 0;
    }
    if (query->vector.values == NULL) {
        search_query_path(s, i, "vector", path);
        return call_fail(&s->call, PDB_INVALID_ARGUMENT, "%s: missing; give a vector or an id",
                         path);
    }
    struct pdb_field field = entry->config.fields[work->field];
    field.name.len = 0; /* in a query it is "vector", whatever the field */
    rc = validate_query_vector(&field, &query->vector, place_of(s, i), s->call.arena, &work->values,
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
        search_query_path(s, i, "k", path);
        return call_fail(&s->call, PDB_INVALID_ARGUMENT, "%s: expected 1 to %d, found %u", path,
                         PDB_K_MAX, query->k);
    }
    if (query->has_min_score &&
        !(query->min_score >= -3.4028235e38f && query->min_score <= 3.4028235e38f)) {
        search_query_path(s, i, "min_score", path);
        return call_fail(&s->call, PDB_INVALID_ARGUMENT, "%s: expected a finite number", path);
    }
    struct trail trail = {0};
    search_query_path(s, i, "params", path);
    if ((rc = validate_search_params(query, path, &trail)) < 0)
        return call_fail_trail(&s->call, rc, &trail);
    search_query_path(s, i, "filter", path);
    return call_compile_filter(&s->call, query->filter, path, &work->filter);
}

static int search_check(struct pdb_search *s, struct search_work *work)
{
    struct pdb_call *call = &s->call;
    int rc = call_resolve(call, s->collection);
    if (rc < 0)
        return rc;
    if (s->query_count < 1 || s->query_count > SEARCH_QUERIES_MAX)
        return call_fail(call, PDB_INVALID_ARGUMENT, "queries: expected 1 to %d, found %u",
                         SEARCH_QUERIES_MAX, s->query_count);
    work->queries = arena_calloc(call->arena, s->query_count, sizeof(struct query_work));
    work->results = arena_calloc(call->arena, s->query_count, sizeof(struct pdb_hits));
    s->rows_scored_out = 0;
    s->fields_out = shard_copy_fields(call->arena, call_state(call)->entry);
    s->field_count_out = call_state(call)->entry->config.field_count;
    if (work->queries == NULL || work->results == NULL || s->fields_out == NULL)
        return call_no_memory(call);
    return 0;
}

/* ---- what both sides need ---- */

void search_next_stage(const struct engine_core *core, struct search_work *work, unsigned stage)
{
    /* A turn's clock may be behind that of the core where the stage began. */
    uint64_t now_ns = core->r->now_ns > work->stage_ns ? core->r->now_ns : work->stage_ns;
    metrics_time(core->metrics, METRICS_SEARCH_STAGE_IN + stage, now_ns - work->stage_ns);
    work->stage_ns = now_ns;
}

void search_set_query(struct pdb_search *s, uint32_t i, struct query_work *work)
{
    const struct catalog_entry *entry = call_state(&s->call)->entry;
    const struct pdb_field *field = &entry->config.fields[work->field];
    const struct pdb_query *query = &s->queries[i];
    struct scan_query *scan = &work->search.query;
    scan->field = (struct scan_field){.dimension = field->dimension,
                                      .metric = field->metric,
                                      .bytes = entry->field_bytes[work->field],
                                      .element = field->element};
    if (field->element == PDB_ELEMENT_INT8 && scan->room == NULL) /* without it, it takes longer */
        scan->room = arena_alloc(s->call.arena, field->dimension);
    scan->field_index = work->field;
    scan->vector = work->values;
    scan->filter = work->filter;
    scan->has_score_limit = query->has_min_score;
    scan->score_limit = query->min_score;
    scan->exclude_id = query->id;
}

static float target_of(const struct pdb_search *s, const struct search_work *work)
{
    float asked = s->queries[work->next].target_recall;
    float usual = call_state((struct pdb_call *)(uintptr_t)&s->call)->entry->config.target_recall;
    if (asked > 0)
        return asked;
    return usual > 0 ? usual : PDB_TARGET_RECALL_DEFAULT;
}

void search_walk_set(struct pdb_search *s, struct search_work *work, uint64_t at_version,
                     struct topk *found)
{
    struct call_state *state = call_state(&s->call);
    struct query_work *query = &work->queries[work->next];
    struct walk *walk = &work->walk;
    walk->core = state->here;
    walk->task = &state->task;
    walk->arena = s->call.arena;
    walk->query = &query->search.query;
    walk->vector = query->values;
    walk->asked = &s->queries[work->next];
    walk->k = s->queries[work->next].k;
    walk->target_recall = target_of(s, work);
    walk->at_version = at_version;
    walk->now_us = state->now_us;
    walk->parts = work->walk_parts;
    walk->part_count = work->walk_part_count;
    walk->found = found;
    walk_begin(walk);
}

/* ---- the walk ---- */

/* The segments of the set that have an index of the field. */
static void choose_parts(struct search_work *work, struct query_work *query)
{
    const struct ann_set *set = work->share->set;
    work->walk_part_count = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        const struct ann_set_field *field = &set->entries[i].fields[query->field];
        if (!walk_is_fit(field->ann))
            continue;
        work->walk_parts[work->walk_part_count++] = (struct walk_part){
            .place = i, .file = set->entries[i].file, .ann = field->ann, .ended = field->ended};
        bitset_set(query->found.places, i);
    }
}

/* False: there is nothing to walk for the query, or no memory: the owner answers it. */
static bool begin_query(struct pdb_search *s, struct search_work *work)
{
    struct query_work *query = &work->queries[work->next];
    const struct pdb_query *asked = &s->queries[work->next];
    if (query->values == NULL || asked->exact)
        return false;
    search_set_query(s, work->next, query);
    scan_query_begin(&query->search.query);
    if (!walk_suits(asked, &query->search.query))
        return false;
    choose_parts(work, query);
    uint32_t room = walk_list_max(asked->k);
    struct topk_item *items =
        work->walk_part_count != 0 ? arena_array(s->call.arena, struct topk_item, room) : NULL;
    if (items == NULL)
        return false;
    topk_init(&query->found.best, items, room);
    search_walk_set(s, work, UINT64_MAX, &query->found.best);
    return true;
}

/* The next query, or a step of this one's walk. */
static enum walk_progress walk_query(struct pdb_search *s, struct search_work *work)
{
    enum walk_progress progress = WALK_FAILED;
    if (work->walking || begin_query(s, work)) {
        work->walking = true;
        progress = walk_step(&work->walk);
        if (progress == WALK_AGAIN || progress == WALK_WAITS)
            return progress;
        if (progress == WALK_FAILED)
            walk_end(&work->walk);
    }
    work->queries[work->next].found.walked = progress == WALK_DONE;
    work->queries[work->next].found.horizon = work->walk.horizon;
    work->queries[work->next].visited = work->walking ? walk_distances(&work->walk) : 0;
    work->walking = false;
    work->next++;
    if (work->walk.core != NULL)
        walk_yield(&work->walk);
    return WALK_DONE;
}

static void leave_set(struct call_state *state, struct search_work *work)
{
    walk_end(&work->walk);
    ann_share_give(state->here, work->share);
    work->share = NULL;
    work->walk_part_count = 0;
    work->next = 0;
}

static void walk_step_of_call(struct pdb_call *call)
{
    struct call_state *state = call_state(call);
    struct pdb_search *s = container_of(call, struct pdb_search, call);
    struct search_work *work = state->work;
    while (work->next < s->query_count) {
        if (call_stopped(call)) {
            leave_set(state, work);
            call_return(call);
            return;
        }
        enum walk_progress progress = walk_query(s, work);
        if (progress == WALK_WAITS)
            return;
        if (progress == WALK_AGAIN || reactor_slice_over(state->here->r)) {
            call_again(call);
            return;
        }
    }
    leave_set(state, work);
    search_next_stage(state->here, work, METRICS_SEARCH_STAGE_SEGMENTS);
    call_send_to_shard(call, search_arrives);
}

/* What the owner must know of the set, which may be gone when the call comes there. False without
 * memory. */
static bool note_set(struct pdb_call *call, struct search_work *work, const struct ann_set *set)
{
    work->home_numbers = arena_array(call->arena, uint64_t, set->count);
    work->walk_parts = arena_array(call->arena, struct walk_part, set->count);
    if (work->home_numbers == NULL || work->walk_parts == NULL)
        return false;
    for (uint32_t i = 0; i < set->count; i++)
        work->home_numbers[i] = set->entries[i].number;
    work->home_count = set->count;
    work->home_version = set->version;
    return true;
}

static bool wants_index(const struct pdb_search *s)
{
    for (uint32_t i = 0; i < s->query_count; i++)
        if (!s->queries[i].exact && s->queries[i].id.len == 0)
            return true;
    return false;
}

/* In a step. False: there is no set here, or nothing to ask it. */
static bool begin_walk(struct pdb_call *call)
{
    struct call_state *state = call_state(call);
    struct pdb_search *s = container_of(call, struct pdb_search, call);
    struct search_work *work = state->work;
    struct ann_share *share =
        wants_index(s) ? ann_share_take(state->here, &state->entry->uuid) : NULL;
    if (share == NULL)
        return false;
    if (!note_set(call, work, share->set)) {
        work->home_count = 0;
        ann_share_give(state->here, share);
        return false;
    }
    work->share = share;
    search_next_stage(state->here, work, METRICS_SEARCH_STAGE_PLAN);
    /* what has many queries ends when it ends: single searches go first */
    state->task.bulk = search_goes_alone(s);
    state->step = walk_step_of_call;
    if (state->task.bulk)
        call_again(call);
    else /* at once: the query is still in the cache */
        walk_step_of_call(call);
    return true;
}

/* ---- beginning ---- */

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
    work->stage_ns = call_state(call)->started_ns;
    if (!begin_walk(call))
        call_send_to_shard(call, search_arrives);
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
