/* exact.c: brute force on all cores.
 *
 * Reading all rows once per query would be bound by memory. So a thread takes QUERY_GROUP queries
 * at a time and passes over the rows in blocks that stay in its cache while every query of the
 * group is scored against them. Only the k-th best distance of each query is kept: whether a
 * returned row belongs to the k nearest is decided by its distance, because ties make "the" k
 * nearest rows ambiguous. */
#include "bench/exact.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/topk.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <vecmath/vecmath.h>

enum { QUERY_GROUP = 32, BLOCK_BYTES = 256 << 10, BLOCK_ROWS_MAX = 1024, THREADS_MAX = 256 };

struct exact_job {
    const struct exact *exact;
    vecmath_scan_fn scan;
    bool negate;
    _Atomic uint64_t next; /* query group */
    _Atomic uint64_t done; /* queries */
    _Atomic bool failed;
    exact_progress_fn *progress;
    void *progress_arg;
};

static bool metric_of(enum pdb_metric metric, enum vecmath_metric *out)
{
    switch (metric) {
    case PDB_METRIC_COSINE:
        *out = VECMATH_COSINE;
        return true;
    case PDB_METRIC_DOT:
        *out = VECMATH_DOT;
        return true;
    case PDB_METRIC_EUCLIDEAN:
        *out = VECMATH_L2_SQUARED;
        return true;
    case PDB_METRIC_MANHATTAN:
        *out = VECMATH_L1;
        return true;
    case PDB_METRIC_HAMMING:
    case PDB_METRIC_UNSPECIFIED:
        break;
    }
    return false;
}

static void score_block(const struct exact_job *job, const float *query, size_t first, size_t count,
                        struct topk *best)
{
    const struct dataset *rows = job->exact->rows;
    float scores[BLOCK_ROWS_MAX];
    job->scan(query, rows->values + first * rows->dimension, rows->dimension * sizeof(float), count,
              rows->dimension, scores);
    for (size_t i = 0; i < count; i++)
        (void)topk_push(best, job->negate ? -scores[i] : scores[i], first + i);
}

static void score_group(const struct exact_job *job, size_t first_query, size_t query_count,
                        struct topk_item *items)
{
    const struct exact *exact = job->exact;
    const struct dataset *rows = exact->rows;
    struct topk best[QUERY_GROUP];
    size_t block = BLOCK_BYTES / (rows->dimension * sizeof(float));
    block = block < 1 ? 1 : block > BLOCK_ROWS_MAX ? BLOCK_ROWS_MAX : block;
    for (size_t q = 0; q < query_count; q++)
        topk_init(&best[q], items + q * exact->k, exact->k);
    for (size_t first = 0; first < rows->row_count; first += block) {
        size_t left = rows->row_count - first;
        for (size_t q = 0; q < query_count; q++)
            score_block(job, exact->queries->values + (first_query + q) * rows->dimension, first,
                        left < block ? left : block, &best[q]);
    }
    for (size_t q = 0; q < query_count; q++) {
        ASSERT(best[q].count == exact->k);
        topk_sort(&best[q]);
        exact->bound[first_query + q] = best[q].items[exact->k - 1].distance;
    }
}

static void work(struct exact_job *job, bool tell)
{
    const struct exact *exact = job->exact;
    struct topk_item *items = heap_calloc(NULL, QUERY_GROUP * exact->k, sizeof(*items));
    uint64_t told_ns = 0;
    if (items == NULL) {
        atomic_store(&job->failed, true);
        return;
    }
    for (;;) {
        size_t first = (size_t)atomic_fetch_add(&job->next, 1) * QUERY_GROUP;
        if (first >= exact->queries->row_count)
            break;
        size_t left = exact->queries->row_count - first;
        size_t count = left < QUERY_GROUP ? left : QUERY_GROUP;
        score_group(job, first, count, items);
        uint64_t done = atomic_fetch_add(&job->done, count) + count;
        uint64_t now = clock_monotonic_ns();
        if (tell && job->progress != NULL && now > told_ns + 200000000) {
            job->progress(job->progress_arg, done, exact->queries->row_count);
            told_ns = now;
        }
    }
    heap_free(NULL, items);
}

static void *work_thread(void *arg)
{
    work(arg, false);
    return NULL;
}

static int check(const struct dataset *rows, const struct dataset *queries, size_t k,
                 struct trail *trail)
{
    if (rows->dimension != queries->dimension)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "rows have dimension %zu, queries %zu",
                         rows->dimension, queries->dimension);
    if (rows->row_count == 0 || k == 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "no rows to compare with");
    return 0;
}

int exact_compute(struct exact *exact_out, const struct dataset *rows,
                  const struct dataset *queries, enum pdb_metric metric, size_t k, unsigned threads,
                  exact_progress_fn *progress, void *progress_arg, struct trail *trail)
{
    enum vecmath_metric scanned = VECMATH_L2_SQUARED;
    int rc = check(rows, queries, k, trail);
    if (rc < 0)
        return rc;
    if (!metric_of(metric, &scanned))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "no exact neighbours for this metric");
    struct exact exact = {rows, queries, metric, k < rows->row_count ? k : rows->row_count, NULL};
    exact.bound = heap_calloc(NULL, queries->row_count, sizeof(*exact.bound));
    if (exact.bound == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for exact neighbours");
    struct exact_job job = {.exact = &exact,
                            .scan = vecmath_scan_of(scanned),
                            .negate = vecmath_higher_is_better(scanned),
                            .progress = progress,
                            .progress_arg = progress_arg};
    pthread_t helpers[THREADS_MAX];
    unsigned started = 0;
    while (started + 1 < threads && started < THREADS_MAX &&
           pthread_create(&helpers[started], NULL, work_thread, &job) == 0)
        started++;
    work(&job, true);
    for (unsigned i = 0; i < started; i++)
        (void)pthread_join(helpers[i], NULL);
    if (atomic_load(&job.failed)) {
        exact_dispose(&exact);
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for exact neighbours");
    }
    if (progress != NULL)
        progress(progress_arg, queries->row_count, queries->row_count);
    *exact_out = exact;
    return 0;
}

void exact_dispose(struct exact *exact)
{
    if (exact == NULL)
        return;
    heap_free(NULL, exact->bound);
    exact->bound = NULL;
}

/* ---- judging ---- */

static double tolerance(const struct exact *exact, const float *query, const float *row,
                        float bound)
{
    size_t dimension = exact->rows->dimension;
    switch (exact->metric) {
    case PDB_METRIC_COSINE:
        return EXACT_TOLERANCE;
    case PDB_METRIC_DOT:
        return EXACT_TOLERANCE * (double)vecmath_norm_f32(query, dimension) *
               (double)vecmath_norm_f32(row, dimension);
    case PDB_METRIC_EUCLIDEAN:
    case PDB_METRIC_MANHATTAN:
    case PDB_METRIC_HAMMING:
    case PDB_METRIC_UNSPECIFIED:
        break;
    }
    return EXACT_TOLERANCE * fabs((double)bound);
}

/* What the server should have said the score is, from our distance. */
static double score_of(enum pdb_metric metric, float distance)
{
    if (metric == PDB_METRIC_EUCLIDEAN)
        return sqrt((double)distance);
    return metric == PDB_METRIC_MANHATTAN ? (double)distance : -(double)distance;
}

static bool seen_before(const struct decode_hit *hits, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (hits[i].row == hits[at].row)
            return true;
    }
    return false;
}

static void judge_query(const struct exact *exact, size_t q, const struct decode_hit *hits,
                        size_t count, struct exact_verdict *verdict)
{
    const struct dataset *rows = exact->rows;
    enum vecmath_metric scanned = VECMATH_L2_SQUARED;
    (void)metric_of(exact->metric, &scanned);
    vecmath_pair_fn pair = vecmath_pair_of(scanned);
    bool higher = vecmath_higher_is_better(scanned);
    const float *query = exact->queries->values + q * rows->dimension;
    uint64_t good = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 &&
            (higher ? hits[i].score > hits[i - 1].score : hits[i].score < hits[i - 1].score))
            verdict->wrong_order++;
        if (hits[i].row >= rows->row_count || seen_before(hits, i))
            continue;
        const float *row = rows->values + (size_t)hits[i].row * rows->dimension;
        float distance = pair(query, row, rows->dimension);
        distance = higher ? -distance : distance;
        double slack = tolerance(exact, query, row, exact->bound[q]);
        double score = score_of(exact->metric, distance);
        if ((double)distance <= (double)exact->bound[q] + slack)
            good++;
        double off = fabs((double)hits[i].score - score);
        double allowed = fmax(slack, 1e-4 * fmax(1, fabs(score)));
        if (!(off <= allowed))
            verdict->wrong_scores++;
    }
    verdict->good += good < exact->k ? good : exact->k;
}

void exact_judge(const struct exact *exact, const struct exact_answers *answers,
                 struct exact_verdict *verdict_out)
{
    struct exact_verdict verdict = {0};
    for (size_t q = 0; q < exact->queries->row_count; q++) {
        if (answers->counts[q] == EXACT_ANSWER_NONE)
            continue;
        size_t count = (size_t)answers->counts[q];
        verdict.queries++;
        verdict.wanted += exact->k;
        judge_query(exact, q, answers->hits + q * answers->capacity,
                    count < answers->capacity ? count : answers->capacity, &verdict);
    }
    verdict.recall = verdict.wanted != 0 ? (double)verdict.good / (double)verdict.wanted : 1;
    *verdict_out = verdict;
}
