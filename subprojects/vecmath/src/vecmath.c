/* vecmath.c: the one-to-one functions, and the rules every score obeys.
 *
 * Kernels sum in float32 and may overflow: two finite vectors can have an infinite inner product,
 * or a NaN when +infinity meets -infinity. A NaN would silently break whatever sorts the scores, so
 * each result is looked at once and, in the rare bad case, computed again in double and saturated.
 * Rejected: summing in double always (half the speed in cache), refusing large values (the API
 * allows them).
 *
 * Cosine divides by norms, so it minds underflow too: a squared norm under 2^-100 has lost digits
 * to denormals or is 0 for a vector that is not. Such rows also take the double path. The limit
 * leaves 2^49 between it and the smallest float32, far more than 65,535 rounding errors fill.
 */
#include <math.h>

#include "vecmath_internal.h"

static const float norm_squared_min = 0x1p-100f;

float vecmath_l2_squared_f32(const float *a, const float *b, size_t dimension)
{
    float score = vecmath_active()->l2_squared(a, b, dimension);
    return isfinite(score) ? score : vecmath_narrow(vecmath_wide_l2_squared(a, b, dimension));
}

float vecmath_dot_f32(const float *a, const float *b, size_t dimension)
{
    float score = vecmath_active()->dot(a, b, dimension);
    return isfinite(score) ? score : vecmath_narrow(vecmath_wide_dot(a, b, dimension));
}

float vecmath_l1_f32(const float *a, const float *b, size_t dimension)
{
    float score = vecmath_active()->l1(a, b, dimension);
    return isfinite(score) ? score : vecmath_narrow(vecmath_wide_l1(a, b, dimension));
}

uint64_t vecmath_hamming(const void *a, const void *b, size_t byte_count)
{
    return vecmath_active()->hamming(a, b, byte_count);
}

static struct vecmath_cosine_pieces repaired(const float *a, const float *b, size_t n)
{
    struct vecmath_wide_pieces wide;
    vecmath_wide_pieces(a, b, n, &wide);
    return (struct vecmath_cosine_pieces){
        .dot = vecmath_narrow(wide.dot),
        .norm_squared_a = vecmath_narrow(wide.norm_squared_a),
        .norm_squared_b = vecmath_narrow(wide.norm_squared_b),
    };
}

void vecmath_cosine_pieces_f32(const float *a, const float *b, size_t dimension,
                               struct vecmath_cosine_pieces *pieces_out)
{
    struct vecmath_cosine_pieces pieces;
    vecmath_active()->pieces(a, b, dimension, &pieces);
    if (!isfinite(pieces.dot) || !isfinite(pieces.norm_squared_a) ||
        !isfinite(pieces.norm_squared_b))
        pieces = repaired(a, b, dimension);
    *pieces_out = pieces;
}

/* The product of two norms is taken in double, where it cannot overflow. Rounding may carry the
 * quotient just past 1. */
static float quotient(double dot, double norm_squared_a, double norm_squared_b)
{
    double score = dot / sqrt(norm_squared_a * norm_squared_b);
    return (float)(score > 1 ? 1 : score < -1 ? -1 : score);
}

static bool is_safe(float norm_squared)
{
    return isfinite(norm_squared) && norm_squared >= norm_squared_min;
}

float vecmath_cosine_finish(const struct vecmath_cosine_pieces *pieces, const float *a,
                            const float *b, size_t n)
{
    if (is_safe(pieces->norm_squared_a) && is_safe(pieces->norm_squared_b) && isfinite(pieces->dot))
        return quotient((double)pieces->dot, (double)pieces->norm_squared_a,
                        (double)pieces->norm_squared_b);
    struct vecmath_wide_pieces wide;
    vecmath_wide_pieces(a, b, n, &wide);
    if (wide.norm_squared_a == 0 || wide.norm_squared_b == 0)
        return 0;
    /* Each square of a denormal is 10^-90; the product of two norms would still fit, sums of both
     * extremes too: 10^82 * 10^82 and 10^-90 * 10^-90 are inside double's range. */
    return quotient(wide.dot, wide.norm_squared_a, wide.norm_squared_b);
}

float vecmath_cosine_f32(const float *a, const float *b, size_t dimension)
{
    struct vecmath_cosine_pieces pieces;
    vecmath_active()->pieces(a, b, dimension, &pieces);
    return vecmath_cosine_finish(&pieces, a, b, dimension);
}

size_t vecmath_first_nonfinite(const void *values, size_t count)
{
    return vecmath_active()->first_nonfinite(values, count);
}

bool vecmath_all_finite(const void *values, size_t count)
{
    return vecmath_active()->first_nonfinite(values, count) == count;
}

float vecmath_norm_squared_f32(const float *values, size_t dimension)
{
    return vecmath_dot_f32(values, values, dimension);
}

static double wide_norm(const float *values, size_t dimension)
{
    float norm_squared = vecmath_active()->dot(values, values, dimension);
    return sqrt(is_safe(norm_squared) ? (double)norm_squared
                                      : vecmath_wide_dot(values, values, dimension));
}

float vecmath_norm_f32(const float *values, size_t dimension)
{
    return vecmath_narrow(wide_norm(values, dimension));
}

float vecmath_normalise_f32(const float *values, size_t dimension, float *unit_out)
{
    double norm = wide_norm(values, dimension);
    if (norm > 0x1p-60 && norm < 0x1p60) {
        vecmath_active()->scale(values, (float)(1 / norm), dimension, unit_out);
    } else {
        /* 1 / norm may be no float32; the quotient always is. */
        for (size_t i = 0; i < dimension; i++)
            unit_out[i] = norm > 0 ? (float)((double)values[i] / norm) : 0;
    }
    return vecmath_narrow(norm);
}
