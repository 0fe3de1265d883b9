/* recall.c: pdb_recall.
 *
 *     home    checks                                   recall_check
 *     owner   which queries: recent searches, or       ask_shard, choose_step
 *             ids of records drawn at random
 *     home    each by the index and exactly            run_next, pair_done
 *     home    the distribution                         sum_up
 *
 * The searches are ordinary ones that give way to others, begun where the call is at home. A call
 * that has a deadline ends before it with the queries that were run until then: a look at the
 * recall of a very large collection is worth more than none.
 *
 * Records are drawn from all visible ones, each with the same chance, by one pass over their keys
 * (reservoir sampling, Vitter's algorithm R), which touches no vector; more are drawn than asked
 * for, since some may have no vector in the field. Between the pass and its search a record may go:
 * it is passed by. */
#include "engine/recall.h"

#include "base/rng.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/part.h"
#include "engine/validate.h"

#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum {
    K_DEFAULT = 10,
    QUERIES_DEFAULT = 64,
    MAX = 1000,
    OVERDRAW = 4, /* records drawn for each query */
    SCAN_ROWS = 256,
    TAKE_ROWS = 256,
};

struct recall_work {
    struct recall_pair pair;
    struct pdb_recall *request;
    uint32_t field;
    /* the queries: of searches, or ids of records */
    struct recall_sample *samples;
    struct pdb_text *ids;
    uint32_t count, next;
    /* drawing records */
    struct shard_view view;
    struct view_cursor cursor;
    struct rng rng;
    uint64_t *keys;
    uint32_t key_max;
    uint64_t rows_seen;
    uint32_t drawn, taken; /* keys; those whose ids were copied */
    /* what came of them */
    double *recalls;
    uint32_t run;
    uint64_t exact_us, index_us, rows_scored;
    uint64_t longest_ns; /* of one pair */
    uint64_t pair_ns;    /* when it began */
};

static struct recall_work *work_of(struct pdb_call *call)
{
    return call_state(call)->work;
}

/* ---- the end ---- */

static int compare_numbers(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

/* The value that this share of the sorted ones does not reach, at least the first. */
static double quantile(const struct recall_work *work, double share)
{
    uint32_t at = (uint32_t)(share * work->run);
    return work->recalls[at < work->run ? at : work->run - 1];
}

static void sum_up(struct recall_work *work)
{
    struct pdb_recall *r = work->request;
    double sum = 0;
    r->queries_out = work->run;
    r->recent_out = work->samples != NULL;
    if (work->run == 0)
        return;
    qsort(work->recalls, work->run, sizeof(work->recalls[0]), compare_numbers);
    for (uint32_t i = 0; i < work->run; i++) {
        double recall = work->recalls[i];
        r->histogram_out[recall >= 1 ? 10 : (unsigned)(recall * 10)]++;
        sum += recall;
    }
    r->mean_out = sum / work->run;
    r->min_out = work->recalls[0];
    r->p05_out = quantile(work, 0.05);
    r->p50_out = quantile(work, 0.5);
    r->exact_us_out = (double)work->exact_us / work->run;
    r->index_us_out = (double)work->index_us / work->run;
    r->rows_scored_out = (double)work->rows_scored / work->run;
}

static void end(struct pdb_call *call)
{
    struct recall_work *work = work_of(call);
    recall_pair_dispose(&work->pair);
    if (call->error.code == 0)
        sum_up(work);
    call_return(call);
}

/* ---- home: the queries ---- */

static void run_next(struct pdb_call *call);

/* The record of a query is not there any more, or has no vector in the field; the collection is. */
static bool is_passed_by(struct pdb_call *call, const struct recall_work *work, int code)
{
    const struct call_state *s = call_state(call);
    const struct catalog_entry *entry = catalog_find(s->here->catalog, work->request->collection);
    return work->ids != NULL && (code == PDB_NOT_FOUND || code == PDB_FAILED_PRECONDITION) &&
           entry != NULL && uuid_equal(&entry->uuid, &s->entry->uuid);
}

static void pair_done(struct recall_pair *pair)
{
    struct recall_work *work = container_of(pair, struct recall_work, pair);
    struct pdb_call *call = &work->request->call;
    uint64_t took_ns = call_state(call)->here->r->now_ns - work->pair_ns;
    int code = pair->error.code;
    work->longest_ns = took_ns > work->longest_ns ? took_ns : work->longest_ns;
    if (code == 0 && pair->any) {
        work->recalls[work->run++] = pair->recall;
        work->index_us += pair->took_us[RECALL_BY_INDEX];
        work->exact_us += pair->took_us[RECALL_EXACT];
        work->rows_scored += pair->rows_scored;
    }
    if (code == PDB_DEADLINE_EXCEEDED && work->run != 0)
        work->next = work->count;
    else if (code != 0 && !is_passed_by(call, work, code))
        (void)call_fail(call, code, "%s",
                        pair->error.text[0] != '\0' ? pair->error.text : pdb_error_text(code));
    recall_pair_dispose(pair);
    call_run(call, run_next);
}

/* Whether another pair would not end before the deadline. */
static bool time_is_up(const struct pdb_call *call, const struct recall_work *work, uint64_t now_ns)
{
    return call->deadline_ns != 0 && work->run != 0 &&
           now_ns + 2 * work->longest_ns >= call->deadline_ns;
}

static void run_next(struct pdb_call *call)
{
    struct recall_work *work = work_of(call);
    struct pdb_recall *r = work->request;
    uint64_t now_ns = call_state(call)->here->r->now_ns;
    if (call->error.code != 0 || work->next >= work->count || work->run == r->queries ||
        time_is_up(call, work, now_ns) || call_stopped(call)) {
        end(call);
        return;
    }
    work->pair = (struct recall_pair){.db = call->db,
                                      .collection = r->collection,
                                      .deadline_ns = call->deadline_ns,
                                      .done = pair_done};
    struct pdb_query *query = &work->pair.query;
    if (work->samples != NULL)
        query->vector = work->samples[work->next].query.vector;
    else
        query->id = work->ids[work->next];
    query->field = query->vector.field = r->field;
    query->k = r->k;
    query->target_recall = r->target_recall;
    work->next++;
    work->pair_ns = now_ns;
    recall_pair_start(&work->pair);
}

static void come_home(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    s->sent = s->touring = false; /* from here on it can be cancelled where it is */
    if (call->error.code != 0)
        end(call);
    else
        call_run(call, run_next);
}

/* ---- the owner: which queries ---- */

static void leave_shard(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct shard *shard = s->shard;
    s->shard = NULL;
    shard_leave(shard);
    (void)call_send(call, s->home->id, come_home);
}

static int draw_row(void *arg, uint64_t key)
{
    struct recall_work *work = arg;
    uint64_t seen = work->rows_seen++;
    uint64_t at = seen < work->key_max ? seen : rng_below(&work->rng, seen + 1);
    if (at < work->key_max)
        work->keys[at] = key;
    return 0;
}

/* In any order: the pass filled the places in that of the rows. */
static void shuffle(struct recall_work *work, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = (uint32_t)rng_below(&work->rng, i);
        uint64_t key = work->keys[i - 1];
        work->keys[i - 1] = work->keys[other];
        work->keys[other] = key;
    }
}

static int begin_ids(struct pdb_call *call, struct recall_work *work)
{
    work->drawn = work->rows_seen < work->key_max ? (uint32_t)work->rows_seen : work->key_max;
    work->ids = arena_array(call->arena, struct pdb_text, work->drawn);
    if (work->ids == NULL)
        return call_no_memory(call);
    shuffle(work, work->drawn);
    return 0;
}

/* Some of them: each lies somewhere else. True: all, or it has ended with an error. */
static bool take_ids(struct pdb_call *call, struct recall_work *work)
{
    uint32_t end = work->drawn - work->taken < TAKE_ROWS ? work->drawn : work->taken + TAKE_ROWS;
    for (; work->taken < end; work->taken++) {
        struct pdb_row row;
        if (!view_row(&work->view, work->keys[work->taken], &row, NULL))
            continue;
        struct pdb_text id = arena_copy_text(call->arena, row.id.ptr, row.id.len);
        if (id.ptr == NULL) {
            (void)call_no_memory(call);
            return true;
        }
        work->ids[work->count++] = id;
    }
    return work->taken == work->drawn;
}

/* True: the queries are chosen, or it has ended with an error. */
static bool draw_some(struct pdb_call *call, struct recall_work *work)
{
    if (work->ids != NULL)
        return take_ids(call, work);
    return view_scan_step(&work->view, &work->cursor, NULL, SCAN_ROWS, draw_row, work) &&
           begin_ids(call, work) < 0;
}

static void draw_step(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct recall_work *work = s->work;
    while (!call_stopped(call) && !shard_gone(s->shard, call) && !draw_some(call, work)) {
        if (reactor_slice_over(s->here->r)) {
            call_again(call);
            return;
        }
    }
    view_close(&work->view);
    leave_shard(call);
}

static void ask_shard(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct recall_work *work = s->work;
    const struct pdb_recall *r = work->request;
    if (recall_recent(s->shard, work->field, call->arena, r->queries, &work->samples,
                      &work->count) < 0) {
        (void)call_no_memory(call);
        leave_shard(call);
        return;
    }
    if (work->count != 0) {
        leave_shard(call);
        return;
    }
    work->samples = NULL;
    work->key_max = r->queries * OVERDRAW;
    work->keys = arena_array(call->arena, uint64_t, work->key_max);
    if (work->keys == NULL)
        (void)call_no_memory(call);
    if (work->keys == NULL || view_open(call, &work->view) < 0) {
        leave_shard(call);
        return;
    }
    uint64_t seed;
    s->here->r->io->ops->random(s->here->r->io, &seed, sizeof(seed));
    rng_seed(&work->rng, seed);
    call_run(call, draw_step);
}

/* ---- home: beginning ---- */

static int check_number(struct pdb_call *call, const char *what, uint32_t *number, uint32_t absent)
{
    if (*number == 0)
        *number = absent;
    return *number <= MAX ? 0
                          : call_fail(call, PDB_INVALID_ARGUMENT, "%s: expected 1 to %d, found %u",
                                      what, MAX, *number);
}

static int recall_check(struct pdb_recall *r, struct recall_work *work)
{
    struct pdb_call *call = &r->call;
    struct trail trail = {0};
    int rc;
    if ((rc = check_number(call, "k", &r->k, K_DEFAULT)) < 0 ||
        (rc = check_number(call, "queries", &r->queries, QUERIES_DEFAULT)) < 0 ||
        (rc = call_resolve(call, r->collection)) < 0)
        return rc;
    if ((rc = validate_target_recall(r->target_recall, &trail)) < 0)
        return call_fail_trail(call, rc, &trail);
    const struct catalog_entry *entry = call_state(call)->entry;
    if (r->target_recall == 0)
        r->target_recall = entry->config.target_recall != 0 ? entry->config.target_recall
                                                            : PDB_TARGET_RECALL_DEFAULT;
    if (validate_field(entry, r->field, (struct validate_place){NULL, 0}, &work->field, &trail) < 0)
        return call_fail(call, PDB_INVALID_ARGUMENT, "field: the collection has no %s%.*s%s",
                         r->field.len == 0 ? "default vector field; name one of its fields"
                                           : "vector field '",
                         CALL_TEXT(r->field), r->field.len == 0 ? "" : "'");
    work->recalls = arena_array(call->arena, double, r->queries);
    return work->recalls != NULL ? 0 : call_no_memory(call);
}

void pdb_recall_start(struct pdb_recall *r)
{
    struct pdb_call *call = &r->call;
    if (!call_begin(call))
        return;
    struct call_state *s = call_state(call);
    struct recall_work *work = arena_new(call->arena, struct recall_work);
    if (work == NULL || recall_check(r, work) < 0) {
        (void)call_no_memory(call); /* if nothing was told */
        call_return(call);
        return;
    }
    memset(r->histogram_out, 0, sizeof(r->histogram_out));
    r->mean_out = r->min_out = r->p05_out = r->p50_out = 0;
    r->exact_us_out = r->index_us_out = r->rows_scored_out = 0;
    work->request = r;
    s->work = work;
    call_give_way(call);
    s->touring = true;
    call_send_to_shard(call, ask_shard);
}
