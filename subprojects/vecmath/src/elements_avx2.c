/* elements_avx2.c: rows of halves and bytes with AVX2, FMA and F16C.
 *
 * The template of vecmath_avx2.c with another load: the sums, and their order, are the same. There
 * are no masked loads of so few bits: partial vectors go through a zero-filled copy. */
#include <immintrin.h>

#include "elements_internal.h"

#define AVX2   __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, SUMS = 2, STEP = LANES * SUMS, BYTES = 32 };

INLINE AVX2 __m256 add_term(enum vecmath_sum kind, __m256 sum, __m256 q, __m256 r)
{
    if (kind == SUM_DOT)
        return _mm256_fmadd_ps(q, r, sum);
    __m256 difference = _mm256_sub_ps(q, r);
    if (kind == SUM_L2_SQUARED)
        return _mm256_fmadd_ps(difference, difference, sum);
    return _mm256_add_ps(sum, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), difference));
}

INLINE AVX2 float total(__m256 sum)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

INLINE size_t byte_of(enum vecmath_narrow_row kind, size_t i)
{
    return kind == ROW_F16 ? 2 * i : i;
}

INLINE AVX2 __m256 widen(enum vecmath_narrow_row kind, __m128i bits)
{
    return kind == ROW_F16 ? _mm256_cvtph_ps(bits) : _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bits));
}

INLINE AVX2 __m256 load(enum vecmath_narrow_row kind, const void *row, size_t i)
{
    const char *at = (const char *)row + byte_of(kind, i);
    if (kind == ROW_F16)
        return widen(kind, _mm_loadu_si128((const __m128i_u *)(const void *)at));
    return widen(kind, _mm_loadl_epi64((const __m128i_u *)(const void *)at));
}

/* The first `count` of 8, the other lanes 0. */
INLINE AVX2 __m256 load_some(enum vecmath_narrow_row kind, const void *row, size_t i, size_t count)
{
    char lanes[16] = {0};
    memcpy(lanes, (const char *)row + byte_of(kind, i), byte_of(kind, count));
    return widen(kind, _mm_loadu_si128((const __m128i_u *)(const void *)lanes));
}

INLINE AVX2 __m256 load_floats(const float *values, size_t count)
{
    float lanes[LANES] = {0};
    memcpy(lanes, values, count * sizeof(float));
    return _mm256_loadu_ps(lanes);
}

INLINE AVX2 void score_rows(enum vecmath_narrow_row kind, enum vecmath_sum metric,
                            const size_t rows, const float *query, const void *const *row,
                            const void *const *next, size_t n, float *score_out)
{
    __m256 sum[VECMATH_BLOCK][SUMS];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        VECMATH_UNROLL
        for (size_t s = 0; s < SUMS; s++)
            sum[r][s] = _mm256_setzero_ps();
    }
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        VECMATH_UNROLL
        for (size_t s = 0; s < SUMS; s++) {
            __m256 q = _mm256_loadu_ps(query + i + s * LANES);
            VECMATH_UNROLL
            for (size_t r = 0; r < rows; r++) {
                sum[r][s] = add_term(metric, sum[r][s], q, load(kind, row[r], i + s * LANES));
                if (next != NULL && s == 0)
                    VECMATH_PREFETCH((const char *)next[r] + byte_of(kind, i));
            }
        }
    }
    if (i + LANES <= n) {
        __m256 q = _mm256_loadu_ps(query + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][0] = add_term(metric, sum[r][0], q, load(kind, row[r], i));
        i += LANES;
    }
    if (i < n) {
        __m256 q = load_floats(query + i, n - i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][0] = add_term(metric, sum[r][0], q, load_some(kind, row[r], i, n - i));
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        score_out[r] = total(_mm256_add_ps(sum[r][0], sum[r][1]));
}

/* The row's product with itself, in the order of score_rows. */
INLINE AVX2 float norm_row(enum vecmath_narrow_row kind, const void *row, size_t n)
{
    __m256 sum[SUMS] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        VECMATH_UNROLL
        for (size_t s = 0; s < SUMS; s++) {
            __m256 x = load(kind, row, i + s * LANES);
            sum[s] = _mm256_fmadd_ps(x, x, sum[s]);
        }
    }
    for (; i < n; i += LANES) {
        __m256 x = load_some(kind, row, i, n - i < LANES ? n - i : LANES);
        sum[0] = _mm256_fmadd_ps(x, x, sum[0]);
    }
    return total(_mm256_add_ps(sum[0], sum[1]));
}

/* ---- bytes among each other ---- */

INLINE AVX2 __m256i load_bytes(const void *bytes, size_t i, size_t n)
{
    uint8_t lanes[BYTES] = {0};
    if (n - i >= BYTES)
        return _mm256_loadu_si256((const __m256i_u *)(const void *)((const char *)bytes + i));
    memcpy(lanes, (const char *)bytes + i, n - i);
    return _mm256_loadu_si256((const __m256i_u *)(const void *)lanes);
}

INLINE AVX2 __m256i squares(__m128i q, __m128i x)
{
    __m256i difference = _mm256_sub_epi16(_mm256_cvtepi8_epi16(q), _mm256_cvtepi8_epi16(x));
    return _mm256_madd_epi16(difference, difference);
}

/* Differences take 9 bits with sign: 16 a vector of 16-bit lanes, whose squares are added in pairs.
 * A 32-bit lane gets at most 65,535 / 8 squares of 255: 2^29. */
INLINE AVX2 void bytes_l2_rows(const size_t rows, const void *query, const void *const *row,
                               const void *const *next, size_t n, uint32_t *sum_out)
{
    __m256i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += BYTES) {
        __m256i q = load_bytes(query, i, n);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256i x = load_bytes(row[r], i, n);
            __m256i low = squares(_mm256_castsi256_si128(q), _mm256_castsi256_si128(x));
            __m256i high = squares(_mm256_extracti128_si256(q, 1), _mm256_extracti128_si256(x, 1));
            sum[r] = _mm256_add_epi32(sum[r], _mm256_add_epi32(low, high));
            if (next != NULL)
                VECMATH_PREFETCH((const int8_t *)next[r] + i);
        }
    }
    for (size_t r = 0; r < rows; r++) {
        uint32_t lanes[8];
        _mm256_storeu_si256((__m256i_u *)(void *)lanes, sum[r]);
        sum_out[r] = 0;
        for (size_t lane = 0; lane < 8; lane++)
            sum_out[r] += lanes[lane];
    }
}

INLINE AVX2 void bytes_l1_rows(const size_t rows, const void *query, const void *const *row,
                               const void *const *next, size_t n, uint32_t *sum_out)
{
    const __m256i bias = _mm256_set1_epi8((char)0x80);
    __m256i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += BYTES) {
        __m256i q = _mm256_xor_si256(bias, load_bytes(query, i, n));
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256i x = _mm256_xor_si256(bias, load_bytes(row[r], i, n));
            sum[r] = _mm256_add_epi64(sum[r], _mm256_sad_epu8(q, x));
            if (next != NULL)
                VECMATH_PREFETCH((const int8_t *)next[r] + i);
        }
    }
    for (size_t r = 0; r < rows; r++) {
        uint64_t lanes[4];
        _mm256_storeu_si256((__m256i_u *)(void *)lanes, sum[r]);
        sum_out[r] = (uint32_t)(lanes[0] + lanes[1] + lanes[2] + lanes[3]);
    }
}

/* ---- conversions ---- */

INLINE AVX2 void widen_halves(const void *halves, size_t count, float *values_out)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        _mm256_storeu_ps(values_out + i, load(ROW_F16, halves, i));
    if (i < count) {
        float lanes[LANES];
        _mm256_storeu_ps(lanes, load_some(ROW_F16, halves, i, count - i));
        memcpy(values_out + i, lanes, (count - i) * sizeof(float));
    }
}

INLINE AVX2 void narrow_floats(const void *values, size_t count, void *halves_out)
{
    for (size_t i = 0; i < count; i += LANES) {
        size_t left = count - i < LANES ? count - i : LANES;
        float lanes[LANES] = {0};
        memcpy(lanes, (const char *)values + 4 * i, left * sizeof(float));
        __m128i half =
            _mm256_cvtps_ph(_mm256_loadu_ps(lanes), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        uint16_t halves[LANES];
        _mm_storeu_si128((__m128i_u *)(void *)halves, half);
        memcpy((char *)halves_out + 2 * i, halves, left * sizeof(uint16_t));
    }
}

#define TABLE_TARGET AVX2
#define TABLE_NAME   avx2
#include "elements_table.inc"
