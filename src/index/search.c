/* search.c: what a search consists of, and the scan of all codes.
 *
 * Which plan: with few allowed rows a scan of them is cheaper than any walk; where few is, depends
 * on data (3,000 rows of 100,000 clustered ones, 34,000 of 340,000 word vectors), so the walk
 * begins unless they are very few, with the price of the scan as its budget. At worst both are
 * paid. */
#include "index/search.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "index/pq.h"
#include "index/search_internal.h"

#include <float.h>
#include <proximadb/error.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum {
    SCAN_AT_ONCE = 1000, /* allowed rows: no walk is begun */
    /* A row of a walk costs two to three times as much as a row of a scan. */
    SCANNED_PER_WALKED = 2,
    WALK_LEAST = 512,
    RERANK_ROWS = 64,
    PQ_WANT_LEAST = 20, /* four bits for two columns: order is much coarser than the other codes' */
    PQ_WANT_FACTOR = 3,
};

/* ---- scratch ---- */

static size_t query_bytes(uint32_t dimension_max)
{
    /* one column more than dimensions; any kind: NONE's needs no more than the numbers of SQ8's */
    const uint32_t columns = dimension_max + 1;
    struct quantizer wide = {.kind = QUANTIZE_SQ8, .columns = columns};
    struct quantizer narrow = {.kind = QUANTIZE_SQ4, .columns = columns};
    size_t most = quantize_query_bytes(&wide), bytes = quantize_query_bytes(&narrow);
    most = bytes > most ? bytes : most;
    for (uint32_t bits = 1; bits <= QUANTIZE_BITS_MAX; bits++) {
        struct quantizer binary = {.kind = QUANTIZE_BINARY, .columns = columns, .bits = bits};
        bytes = quantize_query_bytes(&binary);
        most = bytes > most ? bytes : most;
    }
    bytes = pq_query_bytes_max(dimension_max);
    most = bytes > most ? bytes : most;
    return bytes_align_up(most, VECMATH_CODE_ALIGNMENT);
}

/* A query for centroids, and the vector that it is made of where that is not the query's own. */
static size_t centroid_query_bytes(uint32_t dimension_max)
{
    struct quantizer wide = {.kind = QUANTIZE_SQ8, .columns = dimension_max + 1};
    return bytes_align_up(quantize_query_bytes(&wide), VECMATH_CODE_ALIGNMENT) +
           bytes_align_up(dimension_max * sizeof(float), VECMATH_CODE_ALIGNMENT);
}

static size_t pools_bytes(void)
{
    return bytes_align_up(2 * (INDEX_EF_MAX + 1) * sizeof(struct pool_entry), 64);
}

size_t index_scratch_bytes(uint32_t row_max, uint32_t dimension_max)
{
    return bytes_align_up(sizeof(struct index_scratch), 64) + query_bytes(dimension_max) +
           centroid_query_bytes(dimension_max) + pools_bytes() + row_max;
}

int index_scratch_open(struct heap *heap, uint32_t row_max, uint32_t dimension_max,
                       struct index_scratch **scratch_out)
{
    size_t bytes = index_scratch_bytes(row_max, dimension_max);
    struct index_scratch *scratch = heap_alloc_aligned(heap, 64, bytes);
    if (scratch == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    memset(scratch, 0, bytes);
    char *next = (char *)scratch + bytes_align_up(sizeof *scratch, 64);
    scratch->row_max = row_max;
    scratch->dimension_max = dimension_max;
    scratch->query_memory = next;
    next += query_bytes(dimension_max);
    scratch->centroid_memory = next;
    next += centroid_query_bytes(dimension_max);
    scratch->pool = (struct pool_entry *)(void *)next;
    scratch->best = scratch->pool + INDEX_EF_MAX + 1;
    next += pools_bytes();
    scratch->visited.marks = (uint8_t *)next;
    scratch->visited.count = row_max;
    *scratch_out = scratch;
    return PDB_OK;
}

void index_scratch_close(struct index_scratch *scratch, struct heap *heap)
{
    heap_free(heap, scratch);
}

bool index_scratch_fits(const struct index_scratch *scratch, const struct index *index)
{
    return index->codes.row_count <= scratch->row_max &&
           index->quantizer.dimension <= scratch->dimension_max;
}

/* ---- begin ---- */

uint32_t index_want_of(const struct index *index, uint32_t k)
{
    /* In tenths for each result, by the bits of codes with bounds: .95 at least on clustered data
     * of 64 dimensions; more dimensions need less, and bounds see to that. */
    static const uint8_t tenths[QUANTIZE_BITS_MAX + 1] = {0, 100, 60, 35, 20, 15, 12, 12, 12};
    if (index->quantizer.kind == QUANTIZE_PQ)
        return PQ_WANT_LEAST + PQ_WANT_FACTOR * k < INDEX_WANT_MAX
                   ? PQ_WANT_LEAST + PQ_WANT_FACTOR * k
                   : INDEX_WANT_MAX;
    if (index->quantizer.kind == QUANTIZE_NONE)
        return k;
    if (index->quantizer.kind != QUANTIZE_BINARY)
        return index_want(k);
    uint32_t more = (uint32_t)((uint64_t)k * tenths[index->quantizer.bits] / 10);
    more = more > index_want(k) ? more : index_want(k);
    return more < INDEX_WANT_MAX ? more : INDEX_WANT_MAX;
}

/* Of what codes give as distances; 0: they are none. */
float search_stretch_of(enum pdb_metric metric, float gamma)
{
    if (metric == PDB_METRIC_DOT || !(gamma > 0))
        return 0;
    bool squared = metric == PDB_METRIC_EUCLIDEAN || metric == PDB_METRIC_COSINE;
    return squared ? (1 + gamma) * (1 + gamma) : 1 + gamma;
}

enum calibration_effort search_effort_of(const struct index *index)
{
    if (index->has_lists)
        return EFFORT_PROBES;
    if (!index->has_graph)
        return EFFORT_NONE;
    return search_stretch_of(index->quantizer.metric, 1) > 0 ? EFFORT_GAMMA : EFFORT_EF;
}

/* What was measured tells what the target takes: fills in of a query what it leaves open. */
static void choose_effort(struct index_search *search, struct index_query *query)
{
    const struct calibration *calibration = &search->index->calibration;
    const float target = query->target_recall > 0 ? query->target_recall : INDEX_TARGET_DEFAULT;
    struct calibration_choice choice;
    search->stats.below_target = query->target_recall > 0;
    if (calibration->query_count == 0 || query->gamma >= 0 || query->ef != 0 || query->nprobe != 0)
        return;
    calibration_choose(calibration, query->k, target, &choice);
    search->stats.below_target = query->target_recall > 0 && !choice.met;
    search->exhaustive = choice.scan;
    const enum quantize_kind kind = search->index->quantizer.kind;
    if (query->want == 0 &&
        (choice.want > index_want(query->k) || quantize_has_bounds(kind) || kind == QUANTIZE_PQ))
        query->want = choice.want;
    if (choice.scan)
        return;
    if (calibration->effort_kind == EFFORT_GAMMA) {
        query->gamma = choice.effort;
        query->ef = CALIBRATION_EF;
    } else if (calibration->effort_kind == EFFORT_EF) {
        query->ef = (uint32_t)(choice.effort + 0.999f);
    } else if (calibration->effort_kind == EFFORT_PROBES) {
        query->nprobe = (uint32_t)(choice.effort + 0.999f);
    }
}

static void choose_stop(struct index_search *search, const struct index_query *query)
{
    float gamma = query->gamma < 0 ? INDEX_GAMMA_DEFAULT : query->gamma;
    search->stretch = search_stretch_of(search->index->quantizer.metric, gamma);
    search->slackens = search->stretch > 0 && query->gamma < 0 &&
                       quantize_has_bounds(search->index->quantizer.kind);
    search->ef = query->ef != 0 ? query->ef : search->stretch > 0 ? INDEX_EF_CAP : INDEX_EF_DOT;
    search->want = query->want != 0 ? query->want : index_want_of(search->index, query->k);
    search->want = search->want < query->k ? query->k : search->want;
    search->want = search->want < INDEX_WANT_MAX ? search->want : INDEX_WANT_MAX;
    search->ef = search->ef < search->want ? search->want : search->ef;
    search->ef = search->ef < INDEX_EF_MAX ? search->ef : INDEX_EF_MAX;
}

void index_search_begin(struct index_search *search, struct index_scratch *scratch,
                        const struct index *index, const struct index_query *query)
{
    ASSERT(index_scratch_fits(scratch, index));
    ASSERT(query->k > 0 && query->k <= PDB_K_MAX);
    *search = (struct index_search){
        .index = index,
        .scratch = scratch,
        .k = query->k,
        .dead = query->dead,
        .allowed = query->allowed,
        .accepts = query->accepts,
        .owner = query->owner,
        .phase = INDEX_SEARCH_SCAN,
    };
    search->selective = query->dead != NULL || query->allowed != NULL || query->accepts != NULL;
    struct index_query all = *query;
    choose_effort(search, &all);
    choose_stop(search, &all);
    const uint32_t row_count = index->codes.row_count;
    if (row_count == 0) {
        search->phase = INDEX_SEARCH_DONE;
        return;
    }
    quantize_query(&index->quantizer, query->vector, scratch->query_memory, &search->coded);
    uint32_t matches =
        search->selective && query->allowed_count > 0 ? query->allowed_count : row_count;
    search->walk_max = WALK_LEAST + matches / SCANNED_PER_WALKED;
    if (!search->selective)
        search->walk_max = UINT64_MAX; /* a wide walk is what was asked for */
    if (index->has_lists) {
        search->phase = INDEX_SEARCH_LISTS;
        ivf_search_begin(search, &all, matches);
        return;
    }
    if (!index->has_graph || search->exhaustive || (search->selective && matches <= SCAN_AT_ONCE) ||
        search->want >= row_count)
        return;
    search->phase = INDEX_SEARCH_WALK;
    hnsw_search_begin(search);
}

/* ---- the scan ---- */

/* Rows from `scan_row` on that may be returned by the bitsets, at most SEARCH_SCAN_ROWS, into
 * scratch->rows; looks at no more than `look` rows. */
static uint32_t allowed_rows(struct index_search *search, uint32_t look)
{
    const uint32_t row_count = search->index->codes.row_count;
    uint32_t count = 0;
    for (; search->scan_row < row_count && count < SEARCH_SCAN_ROWS && look > 0; look--) {
        uint32_t row = search->scan_row;
        if (row % 64 == 0 && search->allowed != NULL && search->allowed[row / 64] == 0) {
            search->scan_row = row_count - row < 64 ? row_count : row + 64;
            continue;
        }
        search->scan_row++;
        if (search_accepts(search, row))
            search->scratch->rows[count++] = row;
    }
    return count;
}

/* Returns what that cost, in rows: large pools are moved by kilobytes. */
static uint32_t keep_best(struct index_search *search, uint32_t first, uint32_t count)
{
    struct index_scratch *scratch = search->scratch;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool full = search->best_count == search->want;
        float bound = full ? scratch->best[search->want - 1].distance : FLT_MAX;
        if (!(scratch->distances[i] <= bound)) /* nor NaN, which damaged sums could make */
            continue;
        pool_insert(scratch->best, &search->best_count, search->want, scratch->distances[i],
                    search->selective ? scratch->rows[i] : first + i);
        kept++;
    }
    return search_insertion_cost(kept, search->best_count);
}

static bool scan_step(struct index_search *search, uint32_t *budget)
{
    const struct index *index = search->index;
    struct index_scratch *scratch = search->scratch;
    const uint32_t row_count = index->codes.row_count;
    while (*budget > 0 && search->scan_row < row_count) {
        uint32_t first = search->scan_row, count, cost;
        if (search->selective) {
            count = allowed_rows(search, 8 * SEARCH_SCAN_ROWS);
            cost = count + (search->scan_row - first) / 16;
            quantize_score(&index->quantizer, &index->codes, &search->coded, scratch->rows, count,
                           scratch->distances);
        } else {
            count = row_count - first < SEARCH_SCAN_ROWS ? row_count - first : SEARCH_SCAN_ROWS;
            cost = count / SCANNED_PER_WALKED;
            search->scan_row += count;
            quantize_scan(&index->quantizer, &index->codes, &search->coded, first, count,
                          scratch->distances);
        }
        search->stats.distances += count;
        cost += keep_best(search, first, count) + 1;
        *budget -= cost < *budget ? cost : *budget;
    }
    return search->scan_row == row_count;
}

/* ---- step and end ---- */

/* Whether the walk ended for want of rows or money, not because it was done. */
static bool must_scan(const struct index_search *search)
{
    if (search->stats.distances > search->walk_max)
        return true;
    return search->selective && search->best_count < search->k;
}

bool index_search_step(struct index_search *search, uint32_t budget)
{
    if (search->phase == INDEX_SEARCH_WALK && hnsw_search_step(search, &budget)) {
        search->phase = must_scan(search) ? INDEX_SEARCH_SCAN : INDEX_SEARCH_DONE;
        if (search->phase == INDEX_SEARCH_SCAN)
            search->best_count = 0;
    }
    if (search->phase == INDEX_SEARCH_LISTS && ivf_search_step(search, &budget))
        search->phase = INDEX_SEARCH_DONE;
    if (search->phase == INDEX_SEARCH_SCAN) {
        search->stats.scanned = true;
        if (scan_step(search, &budget))
            search->phase = INDEX_SEARCH_DONE;
    }
    return search->phase == INDEX_SEARCH_DONE;
}

static bool is_before(const struct index_candidate *a, const struct index_candidate *b)
{
    return a->distance < b->distance || (a->distance == b->distance && a->row < b->row);
}

static void sift_down(struct index_candidate *heap, uint32_t root, uint32_t count)
{
    struct index_candidate moved = heap[root];
    for (uint32_t child = 2 * root + 1; child < count; child = 2 * root + 1) {
        if (child + 1 < count && is_before(&heap[child], &heap[child + 1]))
            child++;
        if (!is_before(&moved, &heap[child]))
            break;
        heap[root] = heap[child];
        root = child;
    }
    heap[root] = moved;
}

/* A heap sort: in place, and never quadratic. By distance, ties by row. */
static void sort_candidates(struct index_candidate *candidates, uint32_t count)
{
    for (uint32_t i = count / 2; i > 0; i--)
        sift_down(candidates, i - 1, count);
    for (uint32_t end = count; end > 1; end--) {
        struct index_candidate last = candidates[0];
        candidates[0] = candidates[end - 1];
        candidates[end - 1] = last;
        sift_down(candidates, 0, end - 1);
    }
}

uint32_t index_search_end(struct index_search *search, struct index_candidate *candidates_out)
{
    ASSERT(search->phase == INDEX_SEARCH_DONE);
    bool from_best = search->selective || search->stats.scanned || search->index->has_lists;
    struct pool_entry *list = from_best ? search->scratch->best : search->scratch->pool;
    struct pool_entry *other = from_best ? search->scratch->pool : search->scratch->best;
    uint32_t count = from_best ? search->best_count : search->pool_count;
    const bool all =
        search->index->codes.row_count == 0 || (search->stats.scanned && count < search->want);
    const uint32_t most = count < search->want ? count : search->want;
    count = search_drop_hopeless(search, list, most, other);
    search->stats.complete = all && count == most;
    const uint32_t *rows = search->index->has_lists ? search->index->ivf.rows : NULL;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t row = list[i].row & POOL_ROW;
        candidates_out[i] = (struct index_candidate){
            quantize_distance(&search->coded, list[i].distance), rows != NULL ? rows[row] : row};
    }
    sort_candidates(candidates_out, count); /* ties in order of rows, however they were met */
    return count;
}

/* ---- re-ranking ---- */

enum vecmath_metric search_kernel_of(enum pdb_metric metric)
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

uint32_t index_rerank(const struct quantizer *quantizer, const float *query,
                      const void *const *vectors, struct index_candidate *candidates,
                      uint32_t count, uint32_t k)
{
    ASSERT(count <= INDEX_WANT_MAX);
    const enum vecmath_metric metric = search_kernel_of(quantizer->metric);
    const float sign = vecmath_higher_is_better(metric) ? -1.0f : 1.0f;
    float distances[RERANK_ROWS];
    for (uint32_t done = 0; done < count;) {
        uint32_t some = count - done < RERANK_ROWS ? count - done : RERANK_ROWS;
        vecmath_gather_of(metric)(query, vectors + done, some, quantizer->dimension, distances);
        for (uint32_t i = 0; i < some; i++)
            candidates[done + i].distance = sign * distances[i];
        done += some;
    }
    sort_candidates(candidates, count);
    return count < k ? count : k;
}
