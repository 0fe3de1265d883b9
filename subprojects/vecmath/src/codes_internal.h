/* codes_internal.h: what one implementation provides for codes.
 *
 * As in vecmath_internal.h an implementation is a constant table, and how rows lie in memory is
 * codes.c's business. Each kernel scores `rows` rows, 1 or VECMATH_BLOCK; with four it asks for the
 * lines of `next` on the way (never read). All are exact.
 */
#ifndef VECMATH_CODES_INTERNAL_H
#define VECMATH_CODES_INTERNAL_H

#include "vecmath/codes.h"
#include "vecmath_internal.h"

enum {
    CODE_STEP = 64, /* queries are zero-padded to a multiple: vectors of all widths may read it */
    /* Dimensions whose products fit lanes of 32 bits whatever the kernel: with the fewest lanes,
     * four, 2,048 products of at most 128 x 4095 each. */
    CODE_FOLD = 8192,
};

typedef void (*vecmath_sq8_kernel)(const struct vecmath_sq8_query *query, const void *const *row,
                                   const void *const *next, int64_t *dot_out);
typedef void (*vecmath_s8_kernel)(const int8_t *query, const void *const *row,
                                  const void *const *next, size_t n, int32_t *dot_out);
typedef void (*vecmath_sq4_kernel)(const struct vecmath_sq4_query *query, const void *const *row,
                                   const void *const *next, int32_t *dot_out);

/* What becomes of a query of SQ8. */
struct vecmath_sq8_arrays {
    int16_t *wide;
    int8_t *high, *low;
    int32_t high_sum, low_sum;
};
typedef void (*vecmath_sq8_query_kernel)(const float *values, float factor, size_t dimension,
                                         struct vecmath_sq8_arrays *arrays);

/* Clips, then rounds to nearest, ties to even: what is added puts the fraction beyond float32's
 * digits. Unlike rintf(), which needs SSE4.1 to be more than a call, this is two additions in any
 * vector. NaN, which the contract forbids, becomes some number in range. */
static inline __attribute__((always_inline)) int32_t vecmath_coded(float value, float factor,
                                                                   float limit)
{
    float scaled = value * factor;
    scaled = scaled < limit ? scaled : limit;
    scaled = scaled > -limit ? scaled : -limit;
    return (int32_t)((scaled + 0x1.8p23f) - 0x1.8p23f);
}

/* The template of such a kernel: plain C, of which compilers make vectors where it is instantiated,
 * each loop of one width. Made for the least processor it took a twentieth of a search. */
static inline __attribute__((always_inline)) void
vecmath_sq8_query_fill(const float *values, float factor, size_t dimension,
                       struct vecmath_sq8_arrays *arrays)
{
    int16_t *restrict wide = arrays->wide;
    int8_t *restrict high = arrays->high;
    int8_t *restrict low = arrays->low;
    int32_t high_sum = 0;
    int32_t low_sum = 0;
    for (size_t i = 0; i < dimension; i++)
        wide[i] = (int16_t)vecmath_coded(vecmath_load(values, i), factor, VECMATH_SQ8_QUERY_MAX);
    for (size_t i = 0; i < dimension; i++) {
        int16_t upper = (int16_t)((wide[i] + 32) >> 6); /* nearest multiple: |low| is within 32 */
        high[i] = (int8_t)upper;
        low[i] = (int8_t)(wide[i] - upper * 64);
    }
    for (size_t i = 0; i < dimension; i++) {
        high_sum += high[i];
        low_sum += low[i];
    }
    arrays->high_sum = high_sum;
    arrays->low_sum = low_sum;
}

/* Likewise. */
static inline __attribute__((always_inline)) uint32_t
vecmath_s8_fill(const float *values, size_t dimension, int8_t *restrict code)
{
    uint32_t norm = 0;
    for (size_t i = 0; i < dimension; i++) {
        int32_t number = vecmath_coded(vecmath_load(values, i), 1.0f, 127.0f);
        code[i] = (int8_t)number;
        norm += (uint32_t)(number * number);
    }
    return norm;
}

/* Likewise; returns the sum. */
static inline __attribute__((always_inline)) int32_t
vecmath_sq4_query_fill(const float *values, float factor, size_t dimension, int8_t *restrict number)
{
    int32_t sum = 0;
    for (size_t i = 0; i < dimension; i++)
        number[i] = (int8_t)vecmath_coded(vecmath_load(values, i), factor, VECMATH_SQ4_QUERY_MAX);
    for (size_t i = 0; i < dimension; i++)
        sum += number[i];
    return sum;
}

struct vecmath_code_kernels {
    const char *name; /* for tests: finer than vecmath_isa_name() */
    vecmath_sq8_query_kernel sq8_query;
    uint32_t (*s8_set)(const float *values, size_t dimension, int8_t *code_out);
    int32_t (*sq4_query)(const float *values, float factor, size_t dimension, int8_t *number_out);
    vecmath_sq8_kernel sq8_one, sq8_block;
    vecmath_s8_kernel s8_one, s8_block;
    vecmath_sq4_kernel sq4_one, sq4_block;
};

extern const struct vecmath_code_kernels vecmath_codes_scalar;
#if defined(__x86_64__)
extern const struct vecmath_code_kernels vecmath_codes_avx2;
extern const struct vecmath_code_kernels vecmath_codes_avx512;
extern const struct vecmath_code_kernels vecmath_codes_avx512_vnni;
#elif defined(__aarch64__)
extern const struct vecmath_code_kernels vecmath_codes_neon;
extern const struct vecmath_code_kernels vecmath_codes_neon_dotprod;
#endif

/* The table in use; never NULL. */
const struct vecmath_code_kernels *vecmath_active_codes(void);

/* Every table that this processor can run, the best of each implementation and the others; tests
 * hold them all against scalar. Returns how many. */
enum { VECMATH_CODE_TABLES_MAX = 6 };
size_t vecmath_code_tables(const struct vecmath_code_kernels *tables_out[VECMATH_CODE_TABLES_MAX]);

#endif
