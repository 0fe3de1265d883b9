/* vecmath_scalar.c: the reference. Plain C, summed in double, rounded once.
 *
 * It is the truth the other files are measured against, the fallback on processors without the wide
 * instructions, and the second opinion when a float32 sum overflows (vecmath.c). Double costs
 * little here, because without vector instructions one addition a cycle is the limit either way.
 * Four sums per loop keep four additions in flight.
 */
#include <float.h>
#include <math.h>

#include "elements_internal.h"

enum metric { L2_SQUARED, DOT, L1 };

static inline __attribute__((always_inline)) double term(enum metric metric, const float *a,
                                                         const float *b, size_t i)
{
    double x = (double)vecmath_load(a, i);
    double y = (double)vecmath_load(b, i);
    if (metric == DOT)
        return x * y;
    return metric == L1 ? fabs(x - y) : (x - y) * (x - y);
}

static inline __attribute__((always_inline)) double sum_terms(enum metric metric, const float *a,
                                                              const float *b, size_t n)
{
    double sum[4] = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t lane = 0; lane < 4; lane++)
            sum[lane] += term(metric, a, b, i + lane);
    for (; i < n; i++)
        sum[0] += term(metric, a, b, i);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

double vecmath_wide_l2_squared(const float *a, const float *b, size_t n)
{
    return sum_terms(L2_SQUARED, a, b, n);
}

double vecmath_wide_dot(const float *a, const float *b, size_t n)
{
    return sum_terms(DOT, a, b, n);
}

double vecmath_wide_l1(const float *a, const float *b, size_t n)
{
    return sum_terms(L1, a, b, n);
}

void vecmath_wide_pieces(const float *a, const float *b, size_t n, struct vecmath_wide_pieces *out)
{
    struct vecmath_wide_pieces sum = {0};
    for (size_t i = 0; i < n; i++) {
        double x = (double)vecmath_load(a, i);
        double y = (double)vecmath_load(b, i);
        sum.dot += x * y;
        sum.norm_squared_a += x * x;
        sum.norm_squared_b += y * y;
    }
    *out = sum;
}

float vecmath_narrow(double value)
{
    if (value > (double)FLT_MAX)
        return FLT_MAX;
    if (value < -(double)FLT_MAX)
        return -FLT_MAX;
    return (float)value;
}

/* Like every kernel these become infinite past FLT_MAX; saturating here would hide the overflow
 * from those who repair it. */
static float dot_scalar(const float *a, const float *b, size_t n)
{
    return (float)vecmath_wide_dot(a, b, n);
}

static float l2_squared_scalar(const float *a, const float *b, size_t n)
{
    return (float)vecmath_wide_l2_squared(a, b, n);
}

static float l1_scalar(const float *a, const float *b, size_t n)
{
    return (float)vecmath_wide_l1(a, b, n);
}

static void pieces_scalar(const float *a, const float *b, size_t n,
                          struct vecmath_cosine_pieces *out)
{
    struct vecmath_wide_pieces wide;
    vecmath_wide_pieces(a, b, n, &wide);
    out->dot = (float)wide.dot;
    out->norm_squared_a = (float)wide.norm_squared_a;
    out->norm_squared_b = (float)wide.norm_squared_b;
}

static uint64_t hamming_scalar(const uint8_t *a, const uint8_t *b, size_t byte_count)
{
    uint64_t bits = 0;
    size_t i = 0;
    for (; i + 8 <= byte_count; i += 8)
        bits += (uint64_t)__builtin_popcountll(vecmath_load_u64(a + i) ^ vecmath_load_u64(b + i));
    for (; i < byte_count; i++)
        bits += (uint64_t)__builtin_popcount((unsigned)(a[i] ^ b[i]));
    return bits;
}

/* Without wide registers four rows at once gain nothing: the blocks are four single rows. */
static void block_l2_squared_scalar(const void *query, const void *const row[VECMATH_BLOCK],
                                    const void *const next[VECMATH_BLOCK], size_t n,
                                    float *score_out)
{
    (void)next;
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        score_out[r] = l2_squared_scalar(query, row[r], n);
}

static void block_dot_scalar(const void *query, const void *const row[VECMATH_BLOCK],
                             const void *const next[VECMATH_BLOCK], size_t n, float *score_out)
{
    (void)next;
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        score_out[r] = dot_scalar(query, row[r], n);
}

static void block_cosine_scalar(const void *query, const void *const row[VECMATH_BLOCK],
                                const void *const next[VECMATH_BLOCK], size_t n, float *score_out)
{
    (void)next;
    for (size_t r = 0; r < VECMATH_BLOCK; r++) {
        struct vecmath_wide_pieces wide;
        vecmath_wide_pieces(query, row[r], n, &wide);
        score_out[r] = (float)wide.dot;
        score_out[VECMATH_BLOCK + r] = (float)wide.norm_squared_b;
    }
}

static void block_l1_scalar(const void *query, const void *const row[VECMATH_BLOCK],
                            const void *const next[VECMATH_BLOCK], size_t n, float *score_out)
{
    (void)next;
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        score_out[r] = l1_scalar(query, row[r], n);
}

static void block_hamming_scalar(const void *query, const void *const row[VECMATH_BLOCK],
                                 const void *const next[VECMATH_BLOCK], size_t n, float *score_out)
{
    (void)next;
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        score_out[r] = (float)hamming_scalar(query, row[r], n);
}

static void tile_dot_scalar(const float *const query[VECMATH_TILE],
                            const float *const row[VECMATH_TILE], size_t n,
                            float score_out[VECMATH_TILE * VECMATH_TILE])
{
    for (size_t i = 0; i < VECMATH_TILE * VECMATH_TILE; i++)
        score_out[i] = dot_scalar(query[i / VECMATH_TILE], row[i % VECMATH_TILE], n);
}

static size_t first_nonfinite_scalar(const float *values, size_t count)
{
    const uint32_t exponent = 0x7f800000u;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, (const char *)values + i * sizeof bits, sizeof bits);
        if ((bits & exponent) == exponent)
            return i;
    }
    return count;
}

static void scale_scalar(const float *values, float factor, size_t n, float *scaled_out)
{
    for (size_t i = 0; i < n; i++)
        scaled_out[i] = values[i] * factor;
}

const struct vecmath_kernels vecmath_kernels_scalar = {
    .name = "scalar",
    .l2_squared = l2_squared_scalar,
    .dot = dot_scalar,
    .l1 = l1_scalar,
    .pieces = pieces_scalar,
    .hamming = hamming_scalar,
    .block_l2_squared = block_l2_squared_scalar,
    .block_dot = block_dot_scalar,
    .block_cosine = block_cosine_scalar,
    .block_l1 = block_l1_scalar,
    .block_hamming = block_hamming_scalar,
    .tile_dot = tile_dot_scalar,
    .first_nonfinite = first_nonfinite_scalar,
    .scale = scale_scalar,
    .elements = &vecmath_elements_scalar,
};
