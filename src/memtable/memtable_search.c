/* memtable_search.c: exact search by scanning a snapshot's vectors in batches.
 *
 * Late: one kernel call scores a whole batch; what a row costs beyond that is one comparison with
 * the worst kept distance, and only rows that beat it are looked at: score limit, visibility,
 * filter. Early: the filter goes first and only rows that pass are scored, by gathering. Which is
 * cheaper depends on the filter's selectivity and on how often rows beat the bound; both are
 * measured during the search (no clock: the decision, and so the answer, is a function of the data
 * alone). The first rows are always taken early, to measure, and so is everything before k rows are
 * found.
 *
 * Batches end at multiples of a fixed row count within a chunk, whatever the budget: kernels sum
 * rows taken together in another order than a single row, so other batches could give scores that
 * differ in their last bits.
 *
 * Cosine is dot x inverse norm of the row x inverse norm of the query. Where norms are so large or
 * small that the dot product could overflow or lose digits, the row is scored alone by the exact
 * kernel. */
#include "memtable/memtable_internal.h"

#include "base/assert.h"

#include <math.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum {
    EARLY_TESTS_MIN = 2 * MEMTABLE_BATCH_ROWS, /* before selectivity is believed */
    SKIP_ROWS = 32,                            /* compared with the bound at once */
    EVIDENCE_ROWS = 512,                       /* seen late weigh as much as the expectation */
};

/* One search in one step: what is looked up once and used per batch. */
struct scorer {
    struct memtable_search *search;
    const struct memtable_snapshot *snapshot;
    const struct memtable_field *field;
    enum vecmath_metric kernel;
    vecmath_scan_fn scan;
    vecmath_gather_fn gather;
    float inverse_query; /* cosine; NaN: always the exact kernel */
    uint32_t batch_rows;
};

static enum vecmath_metric kernel_of(enum pdb_metric metric)
{
    switch (metric) {
    case PDB_METRIC_COSINE: /* the norms are ours */
    case PDB_METRIC_DOT:
        return VECMATH_DOT;
    case PDB_METRIC_EUCLIDEAN:
        return VECMATH_L2_SQUARED;
    case PDB_METRIC_MANHATTAN:
        return VECMATH_L1;
    case PDB_METRIC_HAMMING:
        return VECMATH_HAMMING;
    case PDB_METRIC_UNSPECIFIED:
        break;
    }
    ASSERT(metric != PDB_METRIC_UNSPECIFIED);
    return VECMATH_L2_SQUARED;
}

static uint32_t batch_rows_of(const struct memtable_field *field)
{
    uint32_t rows = MEMTABLE_BATCH_BYTES / field->bytes & ~3u; /* kernels take rows by four */
    if (rows > MEMTABLE_BATCH_ROWS)
        rows = MEMTABLE_BATCH_ROWS;
    return rows > 4 ? rows : 4;
}

static struct scorer scorer_of(struct memtable_search *search)
{
    const struct memtable_field *field = &search->snapshot->memtable->fields[search->field];
    struct scorer sc = {.search = search,
                        .snapshot = search->snapshot,
                        .field = field,
                        .kernel = kernel_of(field->metric),
                        .batch_rows = batch_rows_of(field)};
    sc.scan = vecmath_scan_of(sc.kernel);
    sc.gather = vecmath_gather_of(sc.kernel);
    if (field->metric == PDB_METRIC_COSINE && search->query_norm != 0.0f)
        sc.inverse_query = search->query_norm >= 0x1p-40f && search->query_norm <= 0x1p40f
                               ? 1.0f / search->query_norm
                               : NAN;
    return sc;
}

void memtable_search_begin(struct memtable_search *search)
{
    const struct memtable *m = search->snapshot->memtable;
    ASSERT(search->field < m->field_count && search->query != NULL);
    const struct memtable_field *field = &m->fields[search->field];
    search->cursor = (struct memtable_cursor){0};
    search->query_norm = 0;
    search->rows_scored = search->rows_seen = 0;
    memset(&search->selectivity, 0, sizeof(search->selectivity));
    if (field->metric == PDB_METRIC_COSINE)
        search->query_norm = vecmath_norm_f32(search->query, field->dimension);
}

float memtable_score(enum pdb_metric metric, float distance)
{
    if (metric == PDB_METRIC_COSINE || metric == PDB_METRIC_DOT)
        return 0.0f - distance; /* never -0 for a distance of 0 */
    return metric == PDB_METRIC_EUCLIDEAN ? sqrtf(distance) : distance;
}

/* ---- from what the kernel says to distances ---- */

static float clamp_to_unit(float value)
{
    float low = value < -1.0f ? -1.0f : value;
    return low > 1.0f ? 1.0f : low; /* NaN stays NaN */
}

static void cosine_distances(const struct scorer *sc, const struct memtable_chunk *chunk,
                             uint32_t first, const uint32_t *rows, uint32_t count, float *scores)
{
    const struct memtable_column *column = &chunk->columns[sc->search->field];
    const float *norms = column->inverse_norms;
    float inverse_query = sc->inverse_query;
    unsigned unsafe = 0;
    for (uint32_t i = 0; rows == NULL && i < count; i++)
        scores[i] = -clamp_to_unit(scores[i] * inverse_query * norms[first + i]);
    for (uint32_t i = 0; rows != NULL && i < count; i++)
        scores[i] = -clamp_to_unit(scores[i] * inverse_query * norms[rows[i]]);
    for (uint32_t i = 0; i < count; i++)
        unsafe |= scores[i] != scores[i];
    for (uint32_t i = 0; unsafe != 0 && i < count; i++) {
        const char *row =
            column->vectors + (size_t)(rows != NULL ? rows[i] : first + i) * sc->field->bytes;
        if (isnan(scores[i]))
            scores[i] =
                -vecmath_pair_of(VECMATH_COSINE)(sc->search->query, row, sc->field->dimension);
    }
}

/* Of consecutive rows from `first`, or of those in `rows`. */
static void to_distances(const struct scorer *sc, const struct memtable_chunk *chunk,
                         uint32_t first, const uint32_t *rows, uint32_t count, float *scores)
{
    if (sc->field->metric == PDB_METRIC_DOT) {
        for (uint32_t i = 0; i < count; i++)
            scores[i] = -scores[i];
    }
    if (sc->field->metric == PDB_METRIC_COSINE)
        cosine_distances(sc, chunk, first, rows, count, scores);
}

/* ---- which rows may be kept ---- */

static bool within_limit(const struct scorer *sc, float distance)
{
    const struct memtable_search *search = sc->search;
    if (!search->has_score_limit)
        return true;
    float score = memtable_score(sc->field->metric, distance);
    bool higher = sc->field->metric == PDB_METRIC_COSINE || sc->field->metric == PDB_METRIC_DOT;
    return higher ? score >= search->score_limit : score <= search->score_limit;
}

/* All tests but those of score and filter. */
static bool wanted(const struct scorer *sc, const struct memtable_row *row)
{
    const struct memtable_search *search = sc->search;
    return memtable_visible(sc->snapshot, row) && row->present >> search->field & 1 &&
           (search->exclude_id.len == 0 || !text_equal(search->exclude_id, memtable_id(row)));
}

static uint64_t key_of(const struct memtable_range *range, uint32_t row)
{
    return (uint64_t)range->chunk_index << 32 | row;
}

/* ---- late and early ---- */

/* The rest of the way of a row whose distance beat the bound. */
static void offer(const struct scorer *sc, const struct memtable_range *range, uint32_t index,
                  float distance)
{
    struct memtable_search *search = sc->search;
    const struct memtable_row *row = &range->chunk->rows[index];
    if (!within_limit(sc, distance) || !wanted(sc, row))
        return;
    search->selectivity.late_tested++;
    if (filter_matches(search->filter, memtable_metadata(row)))
        topk_push(&search->topk, distance, key_of(range, index));
}

static void score_late(const struct scorer *sc, const struct memtable_range *range)
{
    struct memtable_search *search = sc->search;
    const struct memtable_chunk *chunk = range->chunk;
    float distances[MEMTABLE_BATCH_ROWS];
    const char *vectors =
        chunk->columns[search->field].vectors + (size_t)range->first * sc->field->bytes;
    sc->scan(search->query, vectors, sc->field->bytes, range->count, sc->field->dimension,
             distances);
    to_distances(sc, chunk, range->first, NULL, range->count, distances);
    search->rows_scored += range->count;
    search->selectivity.late_seen += range->count;

    /* A tie never displaces: keys rise along the scan. Runs without a better row cost no branches.
     * */
    for (uint32_t i = 0; i < range->count; i += SKIP_ROWS) {
        uint32_t end = range->count - i < SKIP_ROWS ? range->count : i + SKIP_ROWS;
        float bound = topk_bound(&search->topk);
        unsigned better = 0;
        for (uint32_t j = i; j < end; j++)
            better |= distances[j] < bound;
        for (uint32_t j = i; better != 0 && j < end; j++) {
            if (distances[j] < topk_bound(&search->topk))
                offer(sc, range, range->first + j, distances[j]);
        }
    }
}

static void score_early(const struct scorer *sc, const struct memtable_range *range)
{
    struct memtable_search *search = sc->search;
    struct memtable_chunk *chunk = range->chunk;
    const char *vectors = chunk->columns[search->field].vectors;
    const void *chosen[MEMTABLE_BATCH_ROWS];
    uint32_t rows[MEMTABLE_BATCH_ROWS], count = 0;
    float distances[MEMTABLE_BATCH_ROWS];
    for (uint32_t i = range->first; i < range->first + range->count; i++) {
        if (!wanted(sc, &chunk->rows[i]))
            continue;
        search->selectivity.early_tested++;
        if (!filter_matches(search->filter, memtable_metadata(&chunk->rows[i])))
            continue;
        chosen[count] = vectors + (size_t)i * sc->field->bytes;
        rows[count++] = i;
    }
    search->selectivity.early_passed += count;
    search->rows_scored += count;
    if (count == 0)
        return;
    sc->gather(search->query, chosen, count, sc->field->dimension, distances);
    to_distances(sc, chunk, 0, rows, count, distances);
    for (uint32_t i = 0; i < count; i++) {
        if (distances[i] < topk_bound(&search->topk) && within_limit(sc, distances[i]))
            topk_push(&search->topk, distances[i], key_of(range, rows[i]));
    }
}

/* Estimated cost per row of the two ways, in nanoseconds as measured on one machine; only their
 * ratio matters. Scoring runs at some 12 GB/s, gathered a little slower; a filter costs a cache
 * miss or two and a look-up per condition. With 768 floats and one condition that half of the rows
 * pass, early is a quarter faster; with 64 floats late wins until one row in a hundred passes. */
static bool early_is_cheaper(const struct scorer *sc)
{
    const struct memtable_search *search = sc->search;
    if (search->filter == NULL)
        return false;
    if (search->topk.count < search->topk.capacity ||
        search->selectivity.early_tested < EARLY_TESTS_MIN)
        return true;
    double leaves = (double)filter_leaf_count(search->filter);
    double score_ns = 2.0 + (double)sc->field->bytes / 12.0;
    double filter_ns = 30.0 + 20.0 * (leaves < 8.0 ? leaves : 8.0);
    double passing = ((double)search->selectivity.early_passed + 1.0) /
                     ((double)search->selectivity.early_tested + 1.0);
    /* The bound is the k-th best of the matches so far: about so many of all rows beat it. What was
     * seen late lately corrects that where matches lie near or far on purpose. */
    double matches = passing * (double)search->rows_seen + 1.0;
    double expected = (double)search->topk.capacity / matches;
    double testing = ((double)search->selectivity.late_tested + EVIDENCE_ROWS * expected) /
                     ((double)search->selectivity.late_seen + EVIDENCE_ROWS);
    return filter_ns + 1.25 * passing * score_ns < score_ns + testing * filter_ns;
}

/* The bound gets better: old evidence fades, faster while nothing is seen late. */
static void fade_evidence(struct memtable_search *search, bool early)
{
    uint64_t *seen = &search->selectivity.late_seen, *tested = &search->selectivity.late_tested;
    if (early || *seen > 4 * (uint64_t)EVIDENCE_ROWS) {
        *seen -= *seen / 8;
        *tested -= *tested / 8;
    }
}

bool memtable_search_step(struct memtable_search *search, size_t row_budget)
{
    struct scorer sc = scorer_of(search);
    struct memtable_range range;
    while (row_budget > 0 && search->topk.capacity != 0 &&
           memtable_next_range(search->snapshot, &search->cursor, sc.batch_rows, &range)) {
        bool early = early_is_cheaper(&sc);
        if (early)
            score_early(&sc, &range);
        else
            score_late(&sc, &range);
        fade_evidence(search, early);
        search->rows_seen += range.count;
        row_budget -= row_budget < range.count ? row_budget : range.count;
    }
    return search->topk.capacity == 0 || memtable_at_end(search->snapshot, &search->cursor);
}
