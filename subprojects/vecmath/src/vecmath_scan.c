/* vecmath_scan.c: one query against many rows, for all metrics and both ways rows can lie in
 * memory.
 *
 * Rows are scored in blocks of four by the active block kernel; what is left over is scored row by
 * row. While a block is scored its kernel asks for the lines of a later block, so that memory works
 * ahead of arithmetic. For rows side by side the later block lies a fixed number of bytes ahead;
 * for gathered rows it is found through the pointers. At the end of the array the block itself is
 * named again, whose lines are near anyway: no address outside the caller's rows is ever formed.
 *
 * Scores that left float32's range are computed again at the end (see vecmath.c): one pass over the
 * scores, 4 bytes a row.
 */
#include <math.h>

#include "vecmath_internal.h"

/* How far the prefetches run ahead. */
#ifndef VECMATH_AHEAD_BYTES
#define VECMATH_AHEAD_BYTES 8192
#endif

/* Everything about one scan that does not change from block to block. */
struct scan {
    enum vecmath_metric metric;
    const void *query;
    size_t dimension;         /* floats; bits for hamming */
    size_t length;            /* floats; bytes for hamming */
    size_t row_bytes;         /* bytes read of each row */
    float query_norm_squared; /* cosine only */
    vecmath_block_kernel kernel;
};

static vecmath_block_kernel block_kernel(enum vecmath_metric metric)
{
    const struct vecmath_kernels *active = vecmath_active();
    switch (metric) {
    case VECMATH_L2_SQUARED:
        return active->block_l2_squared;
    case VECMATH_DOT:
        return active->block_dot;
    case VECMATH_COSINE:
        return active->block_cosine;
    case VECMATH_L1:
        return active->block_l1;
    case VECMATH_HAMMING:
        return active->block_hamming;
    default:
        return NULL;
    }
}

static struct scan scan_start(enum vecmath_metric metric, const void *query, size_t dimension)
{
    bool bits = metric == VECMATH_HAMMING;
    struct scan scan = {
        .metric = metric,
        .query = query,
        .dimension = dimension,
        .length = bits ? dimension / 8 + (dimension % 8 != 0) : dimension,
        .kernel = block_kernel(metric),
    };
    scan.row_bytes = bits ? scan.length : scan.length * sizeof(float);
    if (metric == VECMATH_COSINE) {
        struct vecmath_cosine_pieces self; /* not dot(): it may add in another order */
        vecmath_active()->pieces(query, query, dimension, &self);
        scan.query_norm_squared = self.norm_squared_a;
    }
    return scan;
}

/* How many rows ahead to prefetch: at least one block, more when rows are short. */
static size_t rows_ahead(const struct scan *scan)
{
    size_t blocks = VECMATH_AHEAD_BYTES / (scan->row_bytes * VECMATH_BLOCK + 1);
    return (blocks > 0 ? blocks : 1) * VECMATH_BLOCK;
}

static void score_block(const struct scan *scan, const void *const row[VECMATH_BLOCK],
                        const void *const next[VECMATH_BLOCK], float *score_out)
{
    if (scan->metric != VECMATH_COSINE) {
        scan->kernel(scan->query, row, next, scan->length, score_out);
        return;
    }
    float raw[2 * VECMATH_BLOCK];
    scan->kernel(scan->query, row, next, scan->length, raw);
    for (size_t r = 0; r < VECMATH_BLOCK; r++) {
        struct vecmath_cosine_pieces pieces = {
            .dot = raw[r],
            .norm_squared_a = scan->query_norm_squared,
            .norm_squared_b = raw[VECMATH_BLOCK + r],
        };
        score_out[r] = vecmath_cosine_finish(&pieces, scan->query, row[r], scan->length);
    }
}

static float pair_score(enum vecmath_metric metric, const void *query, const void *row,
                        size_t dimension)
{
    switch (metric) {
    case VECMATH_L2_SQUARED:
        return vecmath_l2_squared_f32(query, row, dimension);
    case VECMATH_DOT:
        return vecmath_dot_f32(query, row, dimension);
    case VECMATH_COSINE:
        return vecmath_cosine_f32(query, row, dimension);
    case VECMATH_L1:
        return vecmath_l1_f32(query, row, dimension);
    case VECMATH_HAMMING:
        return (float)vecmath_hamming(query, row, dimension / 8 + (dimension % 8 != 0));
    default:
        return 0;
    }
}

/* Next score from `from` on that overflowed, or `count`. Cosine and hamming cannot. */
static size_t next_overflow(const struct scan *scan, const float *score, size_t from, size_t count)
{
    if (scan->metric == VECMATH_COSINE || scan->metric == VECMATH_HAMMING)
        return count;
    return from + vecmath_active()->first_nonfinite(score + from, count - from);
}

static void scan_rows(enum vecmath_metric metric, const void *query, const void *rows,
                      size_t stride_bytes, size_t count, size_t dimension, float *score_out)
{
    const struct scan scan = scan_start(metric, query, dimension);
    const char *base = rows;
    const size_t ahead = rows_ahead(&scan);
    size_t i = 0;
    for (; count - i >= VECMATH_BLOCK; i += VECMATH_BLOCK) {
        const char *first = base + i * stride_bytes;
        const char *later =
            count - i >= ahead + VECMATH_BLOCK ? first + ahead * stride_bytes : first;
        const void *row[VECMATH_BLOCK] = {first, first + stride_bytes, first + 2 * stride_bytes,
                                          first + 3 * stride_bytes};
        const void *next[VECMATH_BLOCK] = {later, later + stride_bytes, later + 2 * stride_bytes,
                                           later + 3 * stride_bytes};
        score_block(&scan, row, next, score_out + i);
    }
    for (; i < count; i++)
        score_out[i] = pair_score(metric, query, base + i * stride_bytes, dimension);
    for (i = next_overflow(&scan, score_out, 0, count); i < count;
         i = next_overflow(&scan, score_out, i + 1, count))
        score_out[i] = pair_score(metric, query, base + i * stride_bytes, dimension);
}

static void gather_rows(enum vecmath_metric metric, const void *query, const void *const *rows,
                        size_t count, size_t dimension, float *score_out)
{
    const struct scan scan = scan_start(metric, query, dimension);
    const size_t ahead = rows_ahead(&scan);
    size_t i = 0;
    for (; count - i >= VECMATH_BLOCK; i += VECMATH_BLOCK) {
        size_t later = count - i >= ahead + VECMATH_BLOCK ? i + ahead : i;
        score_block(&scan, rows + i, rows + later, score_out + i);
    }
    for (; i < count; i++)
        score_out[i] = pair_score(metric, query, rows[i], dimension);
    for (i = next_overflow(&scan, score_out, 0, count); i < count;
         i = next_overflow(&scan, score_out, i + 1, count))
        score_out[i] = pair_score(metric, query, rows[i], dimension);
}

void vecmath_tile_dot_f32(const float *const a[VECMATH_TILE], const float *const b[VECMATH_TILE],
                          size_t dimension, float dot_out[VECMATH_TILE * VECMATH_TILE])
{
    vecmath_active()->tile_dot(a, b, dimension, dot_out);
}

/* One function of each kind per metric, so that callers look a pointer up once. */
#define VECMATH_METRIC_FUNCTIONS(name, metric)                                                     \
    static void scan_##name(const void *query, const void *rows, size_t stride_bytes,              \
                            size_t count, size_t dimension, float *score_out)                      \
    {                                                                                              \
        scan_rows(metric, query, rows, stride_bytes, count, dimension, score_out);                 \
    }                                                                                              \
    static void gather_##name(const void *query, const void *const *rows, size_t count,            \
                              size_t dimension, float *score_out)                                  \
    {                                                                                              \
        gather_rows(metric, query, rows, count, dimension, score_out);                             \
    }                                                                                              \
    static float pair_##name(const void *query, const void *row, size_t dimension)                 \
    {                                                                                              \
        return pair_score(metric, query, row, dimension);                                          \
    }

VECMATH_METRIC_FUNCTIONS(l2_squared, VECMATH_L2_SQUARED)
VECMATH_METRIC_FUNCTIONS(dot, VECMATH_DOT)
VECMATH_METRIC_FUNCTIONS(cosine, VECMATH_COSINE)
VECMATH_METRIC_FUNCTIONS(l1, VECMATH_L1)
VECMATH_METRIC_FUNCTIONS(hamming, VECMATH_HAMMING)

static const struct {
    vecmath_scan_fn scan;
    vecmath_gather_fn gather;
    vecmath_pair_fn pair;
    bool higher_is_better;
} metrics[] = {
    [VECMATH_L2_SQUARED] = {scan_l2_squared, gather_l2_squared, pair_l2_squared, false},
    [VECMATH_DOT] = {scan_dot, gather_dot, pair_dot, true},
    [VECMATH_COSINE] = {scan_cosine, gather_cosine, pair_cosine, true},
    [VECMATH_L1] = {scan_l1, gather_l1, pair_l1, false},
    [VECMATH_HAMMING] = {scan_hamming, gather_hamming, pair_hamming, false},
};

static bool is_metric(enum vecmath_metric metric)
{
    return (size_t)metric < sizeof metrics / sizeof metrics[0];
}

vecmath_scan_fn vecmath_scan_of(enum vecmath_metric metric)
{
    return is_metric(metric) ? metrics[metric].scan : NULL;
}

vecmath_gather_fn vecmath_gather_of(enum vecmath_metric metric)
{
    return is_metric(metric) ? metrics[metric].gather : NULL;
}

vecmath_pair_fn vecmath_pair_of(enum vecmath_metric metric)
{
    return is_metric(metric) ? metrics[metric].pair : NULL;
}

bool vecmath_higher_is_better(enum vecmath_metric metric)
{
    return is_metric(metric) && metrics[metric].higher_is_better;
}
