/* index_public_search.c: searches of an index alone, one query after the other on the caller's
 * thread, with scratch that a searcher has from its opening on. */
#include "engine/index_public_internal.h"

#include "base/bitset.h"
#include "base/topk.h"
#include "index/search.h"

#include <math.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum {
    STEP_BUDGET = 1 << 20, /* nobody waits for us to yield */
    EXACT_ROWS = 64,       /* scored by one call */
};

struct pdb_index_searcher {
    const struct pdb_index *index;
    struct index_scratch *scratch; /* NULL: vectors only */
    struct index flat;             /* the same index without its graph: all codes are scanned */
    struct index_candidate candidates[INDEX_WANT_MAX];
    const void *vectors[INDEX_WANT_MAX];
    struct topk_item items[PDB_K_MAX];
};

/* ---- opening ---- */

int pdb_index_searcher_open(const struct pdb_index *index, struct pdb_index_searcher **searcher_out,
                            struct pdb_error *error)
{
    struct trail trail = {0};
    struct pdb_index_searcher *searcher = heap_calloc(NULL, 1, sizeof *searcher);
    int rc = searcher != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
    if (rc == 0) {
        searcher->index = index;
        searcher->flat = index->index;
        searcher->flat.has_graph = false;
        if (index->has_index)
            rc = index_scratch_open(NULL, index->row_count, index->dimension, &searcher->scratch);
    }
    if (rc < 0) {
        heap_free(NULL, searcher);
        (void)trail_add(&trail, rc, "no memory for a searcher");
        return public_index_error(&trail, error);
    }
    *searcher_out = searcher;
    return 0;
}

void pdb_index_searcher_close(struct pdb_index_searcher *searcher)
{
    if (searcher == NULL)
        return;
    index_scratch_close(searcher->scratch, NULL);
    heap_free(NULL, searcher);
}

/* ---- what was asked for ---- */

static bool is_number_within(float value, float least, float most)
{
    return value >= least && value <= most; /* not of NaN */
}

static int check_query(const struct pdb_index *index, const struct pdb_index_query *q,
                       struct trail *trail)
{
    if (q->k < 1 || q->k > PDB_K_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "k: expected 1 to %d, found %u", PDB_K_MAX,
                         q->k);
    const bool target = q->target_recall != 0, gamma = q->gamma != 0;
    if (target + gamma + (q->nprobe != 0) + q->exact > 1 ||
        (q->ef != 0 && (target || q->nprobe != 0 || q->exact)))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "target_recall, gamma, nprobe, ef, exact: one of them, or ef and gamma");
    if (target && !is_number_within(q->target_recall, 0.5f, 1.0f))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "target_recall: expected 0.5 to 1");
    if (gamma && !is_number_within(q->gamma, 0.0f, 1000.0f))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "gamma: expected up to 1000");
    if (q->ef > PDB_EF_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "ef: at most %d", PDB_EF_MAX);
    if (q->nprobe > PDB_NPROBE_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "nprobe: at most %d", PDB_NPROBE_MAX);
    if (q->rerank != 0 && (q->rerank < q->k || q->rerank > INDEX_WANT_MAX))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "rerank: expected k to %d", INDEX_WANT_MAX);
    const bool exact_rows = index->vectors != NULL || index->quantization == PDB_QUANTIZATION_NONE;
    if (q->exact && !exact_rows && index->row_count > 0)
        return trail_add(trail, PDB_FAILED_PRECONDITION,
                         "exact: the index has no full vectors to look at");
    return 0;
}

static int check_vector(const struct pdb_index *index, const void *vector, struct trail *trail)
{
    if (index->metric == PDB_METRIC_HAMMING || vecmath_all_finite(vector, index->dimension))
        return 0;
    return trail_add(trail, PDB_INVALID_ARGUMENT, "vector: a value is not finite");
}

static bool accepted(const void *owner, uint32_t row)
{
    const struct pdb_index_query *query = owner;
    return query->accepts(query->arg, row);
}

/* ---- scores ---- */

/* From a distance, lower is better, to the score of types.h. */
static float score_of(enum pdb_metric metric, float distance)
{
    if (metric == PDB_METRIC_COSINE || metric == PDB_METRIC_DOT)
        return -distance;
    if (metric == PDB_METRIC_EUCLIDEAN)
        return sqrtf(distance > 0 ? distance : 0);
    return distance;
}

static enum vecmath_metric kernel_of(enum pdb_metric metric)
{
    switch (metric) {
    case PDB_METRIC_DOT:
        return VECMATH_DOT;
    case PDB_METRIC_EUCLIDEAN:
        return VECMATH_L2_SQUARED;
    case PDB_METRIC_MANHATTAN:
        return VECMATH_L1;
    case PDB_METRIC_HAMMING:
        return VECMATH_HAMMING;
    case PDB_METRIC_COSINE:
    case PDB_METRIC_UNSPECIFIED:
        break;
    }
    return VECMATH_COSINE;
}

/* ---- every vector ---- */

/* The next rows from `row` on that may be returned, at most EXACT_ROWS, into searcher->vectors and
 * numbers_out. */
static uint32_t gather_allowed(struct pdb_index_searcher *searcher,
                               const struct pdb_index_query *query, uint32_t *row,
                               uint32_t *numbers_out)
{
    const struct pdb_index *index = searcher->index;
    uint32_t count = 0;
    for (; *row < index->row_count && count < EXACT_ROWS; ++*row) {
        if (query->allowed != NULL && !bitset_test(query->allowed, *row))
            continue;
        if (query->accepts != NULL && !query->accepts(query->arg, *row))
            continue;
        numbers_out[count] = *row;
        searcher->vectors[count++] = index->vectors + (size_t)*row * index->stride;
    }
    return count;
}

static void search_exactly(struct pdb_index_searcher *searcher, const struct pdb_index_query *query,
                           const void *vector, struct pdb_index_hit *hits_out,
                           struct pdb_index_result *result_out)
{
    const struct pdb_index *index = searcher->index;
    const enum vecmath_metric metric = kernel_of(index->metric);
    const bool higher = vecmath_higher_is_better(metric);
    struct topk topk;
    uint32_t numbers[EXACT_ROWS];
    float scores[EXACT_ROWS];
    topk_init(&topk, searcher->items, query->k);
    for (uint32_t row = 0; row < index->row_count;) {
        uint32_t count = gather_allowed(searcher, query, &row, numbers);
        vecmath_gather_of(metric)(vector, searcher->vectors, count, index->dimension, scores);
        for (uint32_t i = 0; i < count; i++)
            (void)topk_push(&topk, higher ? -scores[i] : scores[i], numbers[i]);
        result_out->distances += count;
    }
    topk_sort(&topk);
    for (size_t i = 0; i < topk.count; i++)
        hits_out[i] = (struct pdb_index_hit){(uint32_t)topk.items[i].key,
                                             score_of(index->metric, topk.items[i].distance)};
    result_out->count = (uint32_t)topk.count;
    result_out->scanned = true;
}

/* ---- by the index ---- */

static void search_by_index(struct pdb_index_searcher *searcher,
                            const struct pdb_index_query *query, const void *vector,
                            struct pdb_index_hit *hits_out, struct pdb_index_result *result_out)
{
    const struct pdb_index *index = searcher->index;
    struct index_candidate *candidates = searcher->candidates;
    struct index_search search;
    /* Exactly: codes that are the rows themselves. */
    const struct index *view = query->exact ? &searcher->flat : &index->index;
    const struct index_query asked = {
        .vector = vector,
        .k = query->k,
        .want = index->vectors != NULL ? query->rerank : query->k,
        .gamma = query->gamma > 0 ? query->gamma
                 : query->ef > 0  ? 0.0f
                                  : -1.0f,
        .ef = query->ef,
        .target_recall = query->target_recall,
        .nprobe = query->exact && view->has_lists ? view->ivf.list_count : query->nprobe,
        .allowed = query->allowed,
        .accepts = query->accepts != NULL ? accepted : NULL,
        .owner = query,
    };
    index_search_begin(&search, searcher->scratch, view, &asked);
    while (!index_search_step(&search, STEP_BUDGET))
        ;
    uint32_t count = index_search_end(&search, candidates);
    if (index->vectors != NULL) {
        for (uint32_t i = 0; i < count; i++)
            searcher->vectors[i] = index->vectors + (size_t)candidates[i].row * index->stride;
        count =
            index_rerank(&view->quantizer, vector, searcher->vectors, candidates, count, query->k);
    }
    for (uint32_t i = 0; i < count; i++)
        hits_out[i] = (struct pdb_index_hit){candidates[i].row,
                                             score_of(index->metric, candidates[i].distance)};
    *result_out = (struct pdb_index_result){
        .count = count,
        .distances = search.stats.distances,
        .capped = search.stats.capped,
        .scanned = search.stats.scanned,
        .below_target = search.stats.below_target,
    };
}

/* Where codes find too little whatever the effort, a search that does not name one is exact. */
static bool wants_exact(const struct pdb_index *index, const struct pdb_index_query *query)
{
    const bool effort = query->gamma > 0 || query->ef > 0 || query->nprobe > 0;
    return query->exact || !index->has_index || (!effort && index_codes_unfit(&index->index));
}

static int search_one(struct pdb_index_searcher *searcher, const struct pdb_index_query *query,
                      const void *vector, struct pdb_index_hit *hits_out,
                      struct pdb_index_result *result_out, struct trail *trail)
{
    const struct pdb_index *index = searcher->index;
    int rc = check_vector(index, vector, trail);
    if (rc < 0)
        return rc;
    *result_out = (struct pdb_index_result){0};
    if (index->row_count == 0)
        result_out->scanned = true;
    else if (index->vectors != NULL && wants_exact(index, query))
        search_exactly(searcher, query, vector, hits_out, result_out);
    else
        search_by_index(searcher, query, vector, hits_out, result_out);
    return 0;
}

int pdb_index_search(struct pdb_index_searcher *searcher, const struct pdb_index_query *query,
                     struct pdb_index_hit *hits_out, struct pdb_index_result *result_out,
                     struct pdb_error *error)
{
    struct trail trail = {0};
    struct pdb_index_result result;
    if (check_query(searcher->index, query, &trail) == 0 &&
        search_one(searcher, query, query->vector, hits_out, &result, &trail) == 0)
        *result_out = result;
    return public_index_error(&trail, error);
}

int pdb_index_search_batch(struct pdb_index_searcher *searcher, const struct pdb_index_query *query,
                           const void *vectors, size_t stride_bytes, size_t count,
                           struct pdb_index_hit *hits_out, struct pdb_index_result *results_out,
                           struct pdb_error *error)
{
    const struct pdb_index *index = searcher->index;
    const size_t packed = public_index_row_bytes(index->metric, index->dimension);
    const size_t stride = stride_bytes != 0 ? stride_bytes : packed;
    struct trail trail = {0};
    int rc = check_query(index, query, &trail);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = search_one(searcher, query, (const char *)vectors + i * stride,
                        hits_out + i * query->k, results_out + i, &trail);
        if (rc < 0)
            (void)trail_add(&trail, rc, "query %zu", i);
    }
    return public_index_error(&trail, error);
}
