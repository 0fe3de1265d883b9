/* elements_scalar.c: the reference for rows of halves and bytes. Summed in double, in the order of
 * vecmath_scalar.c, so that widening before or here gives the same bits.
 *
 * Halves are converted by integer arithmetic, the same on every processor. Half -> float: the
 * exponent is moved by 112; denormals are a number of 2^-24ths. Float -> half: adding just under
 * half of what will be cut off, and its last bit, rounds to nearest even, with the carry going into
 * the exponent as it should (up to infinity). What becomes denormal is rounded by adding 0.5, whose
 * last bit is the half's. */
#include <math.h>

#include "elements_internal.h"

#define INLINE static inline __attribute__((always_inline))

float vecmath_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff, bits;
    float value;
    if (magnitude < 0x0400) {
        value = (float)magnitude * 0x1p-24f;
        memcpy(&bits, &value, sizeof(bits));
    } else {
        bits = (magnitude << 13) + (magnitude < 0x7c00 ? 112u << 23 : 224u << 23);
    }
    bits |= sign;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

uint16_t vecmath_float_to_half(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) /* NaN: quiet, with as much of its number as there is room for */
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x1ff));
    if (magnitude >= 0x47800000)
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* under 2^-14 */
        float small;
        memcpy(&small, &magnitude, sizeof(small));
        small += 0.5f;
        memcpy(&magnitude, &small, sizeof(magnitude));
        return (uint16_t)(sign | (magnitude - 0x3f000000));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (magnitude - (112u << 23)) >> 13);
}

INLINE double value_of(enum vecmath_narrow_row kind, const void *row, size_t i)
{
    if (kind == ROW_I8)
        return (double)((const int8_t *)row)[i];
    uint16_t half;
    memcpy(&half, (const char *)row + 2 * i, sizeof(half));
    return (double)vecmath_half_to_float(half);
}

INLINE double term(enum vecmath_sum sum, double x, double y)
{
    if (sum == SUM_DOT)
        return x * y;
    return sum == SUM_L1 ? fabs(x - y) : (x - y) * (x - y);
}

/* `query` NULL: the row itself. */
INLINE double sum_terms(enum vecmath_narrow_row kind, enum vecmath_sum sum, const float *query,
                        const void *row, size_t n)
{
    double total[4] = {0};
    size_t i = 0;
    for (; i < n; i++) {
        double y = value_of(kind, row, i);
        double x = query != NULL ? (double)vecmath_load(query, i) : y;
        total[i < n / 4 * 4 ? i % 4 : 0] += term(sum, x, y);
    }
    return (total[0] + total[1]) + (total[2] + total[3]);
}

double vecmath_wide_narrow(enum vecmath_narrow_row kind, enum vecmath_sum sum, const float *query,
                           const void *row, size_t n)
{
    return sum_terms(kind, sum, query, row, n);
}

void vecmath_wide_narrow_pieces(enum vecmath_narrow_row kind, const float *query, const void *row,
                                size_t n, struct vecmath_wide_pieces *out)
{
    struct vecmath_wide_pieces sum = {0};
    for (size_t i = 0; i < n; i++) {
        double x = (double)vecmath_load(query, i), y = value_of(kind, row, i);
        sum.dot += x * y;
        sum.norm_squared_a += x * x;
        sum.norm_squared_b += y * y;
    }
    *out = sum;
}

/* ---- the kernels ---- */

INLINE void score_rows(enum vecmath_narrow_row kind, enum vecmath_sum sum, const size_t rows,
                       const float *query, const void *const *row, const void *const *next,
                       size_t n, float *score_out)
{
    (void)next;
    for (size_t r = 0; r < rows; r++)
        score_out[r] = (float)sum_terms(kind, sum, query, row[r], n);
}

INLINE float norm_row(enum vecmath_narrow_row kind, const void *row, size_t n)
{
    return (float)sum_terms(kind, SUM_DOT, NULL, row, n);
}

INLINE void bytes_l2_rows(const size_t rows, const void *query, const void *const *row,
                          const void *const *next, size_t n, uint32_t *sum_out)
{
    (void)next;
    for (size_t r = 0; r < rows; r++) {
        sum_out[r] = 0;
        for (size_t i = 0; i < n; i++) {
            int difference = ((const int8_t *)query)[i] - ((const int8_t *)row[r])[i];
            sum_out[r] += (uint32_t)(difference * difference);
        }
    }
}

INLINE void bytes_l1_rows(const size_t rows, const void *query, const void *const *row,
                          const void *const *next, size_t n, uint32_t *sum_out)
{
    (void)next;
    for (size_t r = 0; r < rows; r++) {
        sum_out[r] = 0;
        for (size_t i = 0; i < n; i++) {
            int difference = ((const int8_t *)query)[i] - ((const int8_t *)row[r])[i];
            sum_out[r] += (uint32_t)(difference < 0 ? -difference : difference);
        }
    }
}

INLINE void widen_halves(const void *halves, size_t count, float *values_out)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, (const char *)halves + 2 * i, sizeof(half));
        values_out[i] = vecmath_half_to_float(half);
    }
}

INLINE void narrow_floats(const void *values, size_t count, void *halves_out)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t half = vecmath_float_to_half(vecmath_load(values, i));
        memcpy((char *)halves_out + 2 * i, &half, sizeof(half));
    }
}

#define TABLE_TARGET
#define TABLE_NAME scalar
#include "elements_table.inc"
