/* scan.c: exact search over blocks of vectors, the same for memtables and segments.
 *
 * Late: one kernel call scores a whole block; what a row costs beyond that is one comparison with
 * the worst kept distance, and only rows that beat it are looked at: score limit, visibility,
 * filter. Early: the filter goes first and only rows that pass are scored, by gathering. Which is
 * cheaper depends on the filter's selectivity and on how often rows beat the bound; both are
 * measured during the search (no clock: the decision, and so the answer, is a function of the data
 * alone). The first rows are always taken early, to measure, and so is everything before k rows are
 * found. The query carries what was measured from part to part.
 *
 * Blocks end at multiples of a fixed row count within what holds the vectors, whatever the budget:
 * then the choice between the two ways, and with it the counters, are a function of the data too.
 *
 * Cosine is dot x inverse norm of the row x inverse norm of the query. Where norms are so large or
 * small that the dot product could overflow or lose digits, the row is scored alone by the exact
 * kernel. */
#include "segment/scan.h"

#include "base/assert.h"

#include <math.h>
#include <string.h>
#include <vecmath/elements.h>

#include "base/no_libc_heap.h"

enum {
#ifdef PDB_STRESS
    BATCH_ROWS = 4,
#else
    BATCH_ROWS = SCAN_BATCH_ROWS, /* most rows scored by one kernel call */
#endif
    BATCH_BYTES = 256 * 1024, /* and about as many bytes: long vectors must not stretch a step */
    EARLY_TESTS_MIN = 2 * BATCH_ROWS, /* before selectivity is believed */
    SKIP_ROWS = 32,                   /* compared with the bound at once */
    EVIDENCE_ROWS = 512,              /* seen late weigh as much as the expectation */
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

static enum vecmath_element kernel_element(enum pdb_element_type element)
{
    return element == PDB_ELEMENT_FLOAT16 ? VECMATH_F16
           : element == PDB_ELEMENT_INT8  ? VECMATH_I8
                                          : VECMATH_F32;
}

uint32_t scan_batch_rows(const struct scan_field *field)
{
    ASSERT(field->bytes != 0);
    uint32_t rows = BATCH_BYTES / field->bytes & ~3u; /* kernels take rows by four */
    if (rows > BATCH_ROWS)
        rows = BATCH_ROWS;
    return rows > 4 ? rows : 4;
}

void scan_query_begin(struct scan_query *query)
{
    ASSERT(query->vector != NULL && query->field.dimension != 0);
    query->norm = 0;
    query->rows_scored = query->rows_seen = 0;
    memset(&query->selectivity, 0, sizeof(query->selectivity));
    if (query->field.metric == PDB_METRIC_COSINE)
        query->norm = vecmath_norm_f32(query->vector, query->field.dimension);
    uint32_t dimension = query->field.dimension;
    query->bytes = NULL;
    if (query->field.element == PDB_ELEMENT_INT8 && query->room != NULL &&
        vecmath_first_not_i8(query->vector, dimension) == dimension) {
        vecmath_narrow_i8(query->vector, dimension, query->room);
        query->bytes = query->room;
    }
}

float scan_score(enum pdb_metric metric, float distance)
{
    if (metric == PDB_METRIC_COSINE || metric == PDB_METRIC_DOT)
        return 0.0f - distance; /* never -0 for a distance of 0 */
    return metric == PDB_METRIC_EUCLIDEAN ? sqrtf(distance) : distance;
}

float scan_inverse_norm(const void *vector, uint32_t dimension, enum pdb_element_type element)
{
    float norm = element == PDB_ELEMENT_FLOAT16 ? vecmath_norm_f16(vector, dimension)
                 : element == PDB_ELEMENT_INT8  ? vecmath_norm_i8(vector, dimension)
                                                : vecmath_norm_f32(vector, dimension);
    if (norm == 0.0f)
        return 0.0f;
    return norm >= 0x1p-40f && norm <= 0x1p40f ? 1.0f / norm : NAN;
}

const float *scan_widened(const void *vector, uint32_t count, enum pdb_element_type element,
                          float *room)
{
    if (element == PDB_ELEMENT_FLOAT32)
        return vector;
    if (element == PDB_ELEMENT_FLOAT16)
        vecmath_widen_f16(vector, count, room);
    else
        vecmath_widen_i8(vector, count, room);
    return room;
}

size_t scan_first_nonfinite(const void *vector, uint32_t count, enum pdb_element_type element)
{
    if (element == PDB_ELEMENT_INT8)
        return count;
    return element == PDB_ELEMENT_FLOAT16 ? vecmath_first_nonfinite_f16(vector, count)
                                          : vecmath_first_nonfinite(vector, count);
}

/* ---- the kernels ---- */

static void score_side_by_side(const struct scan_query *query, const struct scan_block *block,
                               float *scores)
{
    const struct scan_field *field = &query->field;
    enum vecmath_metric metric = kernel_of(field->metric);
    bool bytes = query->bytes != NULL;
    vecmath_scan_fn score = bytes ? vecmath_scan_of_bytes(metric)
                                  : vecmath_scan_of_element(metric, kernel_element(field->element));
    score(bytes ? query->bytes : query->vector, block->vectors, field->bytes, block->count,
          field->dimension, scores);
}

static void score_gathered(const struct scan_query *query, const void *const *rows, uint32_t count,
                           float *scores)
{
    const struct scan_field *field = &query->field;
    enum vecmath_metric metric = kernel_of(field->metric);
    bool bytes = query->bytes != NULL;
    vecmath_gather_fn score =
        bytes ? vecmath_gather_of_bytes(metric)
              : vecmath_gather_of_element(metric, kernel_element(field->element));
    score(bytes ? query->bytes : query->vector, rows, count, field->dimension, scores);
}

/* ---- from what the kernel says to distances ---- */

static const char *vector_of(const struct scan_query *query, const struct scan_block *block,
                             uint32_t i)
{
    return block->vectors + (size_t)i * query->field.bytes;
}

static float clamp_to_unit(float value)
{
    float low = value < -1.0f ? -1.0f : value;
    return low > 1.0f ? 1.0f : low; /* NaN stays NaN */
}

/* 0: a zero vector; NaN: always the exact kernel. */
static float inverse_of_query(float norm)
{
    if (norm == 0.0f)
        return 0.0f;
    return norm >= 0x1p-40f && norm <= 0x1p40f ? 1.0f / norm : NAN;
}

static void cosine_distances(const struct scan_query *query, const struct scan_block *block,
                             const uint32_t *rows, uint32_t count, float *scores)
{
    const float *norms = block->inverse_norms;
    float inverse_query = inverse_of_query(query->norm);
    vecmath_pair_fn exact =
        vecmath_pair_of_element(VECMATH_COSINE, kernel_element(query->field.element));
    unsigned unsafe = 0;
    for (uint32_t i = 0; rows == NULL && i < count; i++)
        scores[i] = -clamp_to_unit(scores[i] * inverse_query * norms[i]);
    for (uint32_t i = 0; rows != NULL && i < count; i++)
        scores[i] = -clamp_to_unit(scores[i] * inverse_query * norms[rows[i]]);
    for (uint32_t i = 0; i < count; i++)
        unsafe |= scores[i] != scores[i];
    for (uint32_t i = 0; unsafe != 0 && i < count; i++) {
        if (isnan(scores[i]))
            scores[i] = -exact(query->vector, vector_of(query, block, rows != NULL ? rows[i] : i),
                               query->field.dimension);
    }
}

/* Of all rows of the block, or of those in `rows`. */
static void to_distances(const struct scan_query *query, const struct scan_block *block,
                         const uint32_t *rows, uint32_t count, float *scores)
{
    if (query->field.metric == PDB_METRIC_DOT) {
        for (uint32_t i = 0; i < count; i++)
            scores[i] = -scores[i];
    }
    if (query->field.metric == PDB_METRIC_COSINE)
        cosine_distances(query, block, rows, count, scores);
}

static void single_cosines(const struct scan_query *query, const void *const *vectors,
                           const float *inverse_norms, uint32_t count, float *scores)
{
    float inverse_query = inverse_of_query(query->norm);
    vecmath_pair_fn exact =
        vecmath_pair_of_element(VECMATH_COSINE, kernel_element(query->field.element));
    for (uint32_t i = 0; i < count; i++) {
        scores[i] = -clamp_to_unit(scores[i] * inverse_query * inverse_norms[i]);
        if (isnan(scores[i]))
            scores[i] = -exact(query->vector, vectors[i], query->field.dimension);
    }
}

void scan_distances(const struct scan_query *query, const void *const *vectors,
                    const float *inverse_norms, uint32_t count, float *distances_out)
{
    score_gathered(query, vectors, count, distances_out);
    for (uint32_t i = 0; query->field.metric == PDB_METRIC_DOT && i < count; i++)
        distances_out[i] = -distances_out[i];
    if (query->field.metric == PDB_METRIC_COSINE)
        single_cosines(query, vectors, inverse_norms, count, distances_out);
}

/* ---- which rows may be kept ---- */

bool scan_within_limit(const struct scan_query *query, float distance)
{
    if (!query->has_score_limit)
        return true;
    enum pdb_metric metric = query->field.metric;
    float score = scan_score(metric, distance);
    bool higher = metric == PDB_METRIC_COSINE || metric == PDB_METRIC_DOT;
    return higher ? score >= query->score_limit : score <= query->score_limit;
}

static uint64_t key_of(const struct scan_block *block, uint32_t i)
{
    return block->keys != NULL ? block->keys[i] : block->key + i;
}

static bool matches(const struct scan_query *query, const struct scan_block *block, uint32_t i)
{
    return query->filter == NULL || filter_matches(query->filter, block->metadata(block, i));
}

/* ---- late and early ---- */

/* The rest of the way of a row whose distance beat the bound. */
static void offer(struct scan_query *query, const struct scan_block *block, uint32_t i,
                  float distance)
{
    if (!scan_within_limit(query, distance) || !block->wanted(block, query, i))
        return;
    query->selectivity.late_tested++;
    if (matches(query, block, i))
        topk_push(&query->topk, distance, key_of(block, i));
}

static void score_late(struct scan_query *query, const struct scan_block *block)
{
    float distances[SCAN_BATCH_ROWS];
    score_side_by_side(query, block, distances);
    to_distances(query, block, NULL, block->count, distances);
    query->rows_scored += block->count;
    query->selectivity.late_seen += block->count;

    /* A tie never displaces: keys rise along the scan. Runs without a better row cost no branches.
     * */
    for (uint32_t i = 0; i < block->count; i += SKIP_ROWS) {
        uint32_t end = block->count - i < SKIP_ROWS ? block->count : i + SKIP_ROWS;
        float bound = topk_bound(&query->topk);
        unsigned better = 0;
        for (uint32_t j = i; j < end; j++)
            better |= distances[j] < bound;
        for (uint32_t j = i; better != 0 && j < end; j++) {
            if (distances[j] < topk_bound(&query->topk))
                offer(query, block, j, distances[j]);
        }
    }
}

static void score_early(struct scan_query *query, const struct scan_block *block)
{
    const void *chosen[SCAN_BATCH_ROWS];
    uint32_t rows[SCAN_BATCH_ROWS], count = 0;
    float distances[SCAN_BATCH_ROWS];
    for (uint32_t i = 0; i < block->count; i++) {
        if (!block->wanted(block, query, i))
            continue;
        query->selectivity.early_tested++;
        if (!matches(query, block, i))
            continue;
        chosen[count] = vector_of(query, block, i);
        rows[count++] = i;
    }
    query->selectivity.early_passed += count;
    query->rows_scored += count;
    if (count == 0)
        return;
    score_gathered(query, chosen, count, distances);
    to_distances(query, block, rows, count, distances);
    for (uint32_t i = 0; i < count; i++) {
        if (distances[i] < topk_bound(&query->topk) && scan_within_limit(query, distances[i]))
            topk_push(&query->topk, distances[i], key_of(block, rows[i]));
    }
}

/* Estimated cost per row of the two ways, in nanoseconds as measured on one machine; only their
 * ratio matters. Scoring runs at some 12 GB/s, gathered a little slower; a filter costs a cache
 * miss or two and a look-up per condition. With 768 floats and one condition that half of the rows
 * pass, early is a quarter faster; with 64 floats late wins until one row in a hundred passes. */
static bool early_is_cheaper(const struct scan_query *query)
{
    if (query->filter == NULL)
        return false;
    if (query->topk.count < query->topk.capacity ||
        query->selectivity.early_tested < EARLY_TESTS_MIN)
        return true;
    double leaves = (double)filter_leaf_count(query->filter);
    double score_ns = 2.0 + (double)query->field.bytes / 12.0;
    double filter_ns = 30.0 + 20.0 * (leaves < 8.0 ? leaves : 8.0);
    double passing = ((double)query->selectivity.early_passed + 1.0) /
                     ((double)query->selectivity.early_tested + 1.0);
    /* The bound is the k-th best of the matches so far: about so many of all rows beat it. What was
     * seen late lately corrects that where matches lie near or far on purpose. */
    double passed = passing * (double)query->rows_seen + 1.0;
    double expected = (double)query->topk.capacity / passed;
    double testing = ((double)query->selectivity.late_tested + EVIDENCE_ROWS * expected) /
                     ((double)query->selectivity.late_seen + EVIDENCE_ROWS);
    return filter_ns + 1.25 * passing * score_ns < score_ns + testing * filter_ns;
}

/* The bound gets better: old evidence fades, faster while nothing is seen late. */
static void fade_evidence(struct scan_query *query, bool early)
{
    uint64_t *seen = &query->selectivity.late_seen, *tested = &query->selectivity.late_tested;
    if (early || *seen > 4 * (uint64_t)EVIDENCE_ROWS) {
        *seen -= *seen / 8;
        *tested -= *tested / 8;
    }
}

void scan_block(struct scan_query *query, const struct scan_block *block)
{
    ASSERT(block->count <= SCAN_BATCH_ROWS);
    if (query->topk.capacity == 0)
        return;
    bool early = early_is_cheaper(query);
    if (early)
        score_early(query, block);
    else
        score_late(query, block);
    fade_evidence(query, early);
    query->rows_seen += block->count;
}
