/* elements_avx512.c: rows of halves and bytes with AVX-512 (F, BW, VL, DQ).
 *
 * The template of vecmath_avx512.c with another load: the sums, and their order, are the same. */
#include <immintrin.h>

#include "elements_internal.h"

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,f16c")))
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, SUMS = 4, STEP = LANES * SUMS, BYTES = 64 };

INLINE AVX512 __m512 add_term(enum vecmath_sum kind, __m512 sum, __m512 q, __m512 r)
{
    if (kind == SUM_DOT)
        return _mm512_fmadd_ps(q, r, sum);
    __m512 difference = _mm512_sub_ps(q, r);
    if (kind == SUM_L2_SQUARED)
        return _mm512_fmadd_ps(difference, difference, sum);
    return _mm512_add_ps(sum, _mm512_abs_ps(difference));
}

INLINE AVX512 float total(__m512 sum)
{
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps(sum, 1));
    __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
}

INLINE __mmask16 tail_mask(size_t lanes)
{
    return (__mmask16)((1u << lanes) - 1);
}

INLINE size_t byte_of(enum vecmath_narrow_row kind, size_t i)
{
    return kind == ROW_F16 ? 2 * i : i;
}

INLINE AVX512 __m512 load(enum vecmath_narrow_row kind, const void *row, size_t i)
{
    const char *at = (const char *)row + byte_of(kind, i);
    if (kind == ROW_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)(const void *)at));
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i_u *)(const void *)at)));
}

INLINE AVX512 __m512 load_some(enum vecmath_narrow_row kind, const void *row, size_t i,
                               __mmask16 mask)
{
    const char *at = (const char *)row + byte_of(kind, i);
    if (kind == ROW_F16)
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, at));
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, at)));
}

INLINE AVX512 void score_rows(enum vecmath_narrow_row kind, enum vecmath_sum metric,
                              const size_t rows, const float *query, const void *const *row,
                              const void *const *next, size_t n, float *score_out)
{
    __m512 sum[VECMATH_BLOCK][SUMS];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        VECMATH_UNROLL
        for (size_t s = 0; s < SUMS; s++)
            sum[r][s] = _mm512_setzero_ps();
    }
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        VECMATH_UNROLL
        for (size_t s = 0; s < SUMS; s++) {
            __m512 q = _mm512_loadu_ps(query + i + s * LANES);
            VECMATH_UNROLL
            for (size_t r = 0; r < rows; r++) {
                sum[r][s] = add_term(metric, sum[r][s], q, load(kind, row[r], i + s * LANES));
                if (next != NULL && byte_of(kind, s * LANES) % 64 == 0)
                    VECMATH_PREFETCH((const char *)next[r] + byte_of(kind, i + s * LANES));
            }
        }
    }
    for (; i + LANES <= n; i += LANES) {
        __m512 q = _mm512_loadu_ps(query + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            sum[r][0] = add_term(metric, sum[r][0], q, load(kind, row[r], i));
            if (next != NULL)
                VECMATH_PREFETCH((const char *)next[r] + byte_of(kind, i));
        }
    }
    if (i < n) {
        __mmask16 mask = tail_mask(n - i);
        __m512 q = _mm512_maskz_loadu_ps(mask, query + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][1] = add_term(metric, sum[r][1], q, load_some(kind, row[r], i, mask));
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        score_out[r] = total(_mm512_add_ps(_mm512_add_ps(sum[r][0], sum[r][1]),
                                           _mm512_add_ps(sum[r][2], sum[r][3])));
}

/* The row's product with itself, in the order of score_rows. */
INLINE AVX512 float norm_row(enum vecmath_narrow_row kind, const void *row, size_t n)
{
    __m512 sum[SUMS];
    for (size_t s = 0; s < SUMS; s++)
        sum[s] = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        VECMATH_UNROLL
        for (size_t s = 0; s < SUMS; s++) {
            __m512 x = load(kind, row, i + s * LANES);
            sum[s] = _mm512_fmadd_ps(x, x, sum[s]);
        }
    }
    for (; i + LANES <= n; i += LANES) {
        __m512 x = load(kind, row, i);
        sum[0] = _mm512_fmadd_ps(x, x, sum[0]);
    }
    if (i < n) {
        __m512 x = load_some(kind, row, i, tail_mask(n - i));
        sum[1] = _mm512_fmadd_ps(x, x, sum[1]);
    }
    return total(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

/* ---- bytes among each other ---- */

/* Differences take 9 bits with sign: 32 a vector of 16-bit lanes, whose squares are added in pairs.
 * A 32-bit lane gets at most 65,535 / 16 squares of 255: 2^28. */
INLINE AVX512 void bytes_l2_rows(const size_t rows, const void *query, const void *const *row,
                                 const void *const *next, size_t n, uint32_t *sum_out)
{
    __m512i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += BYTES / 2) {
        __mmask32 mask = n - i < BYTES / 2 ? ((__mmask32)1 << (n - i)) - 1 : ~(__mmask32)0;
        __m512i q = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, (const int8_t *)query + i));
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i x =
                _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, (const int8_t *)row[r] + i));
            __m512i difference = _mm512_sub_epi16(q, x);
            sum[r] = _mm512_add_epi32(sum[r], _mm512_madd_epi16(difference, difference));
            if (next != NULL && i % BYTES == 0)
                VECMATH_PREFETCH((const int8_t *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum_out[r] = (uint32_t)_mm512_reduce_add_epi32(sum[r]);
}

INLINE AVX512 void bytes_l1_rows(const size_t rows, const void *query, const void *const *row,
                                 const void *const *next, size_t n, uint32_t *sum_out)
{
    const __m512i bias = _mm512_set1_epi8((char)0x80);
    __m512i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += BYTES) {
        __mmask64 mask = n - i < BYTES ? ((__mmask64)1 << (n - i)) - 1 : ~(__mmask64)0;
        __m512i q =
            _mm512_xor_si512(bias, _mm512_maskz_loadu_epi8(mask, (const int8_t *)query + i));
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i x = _mm512_maskz_loadu_epi8(mask, (const int8_t *)row[r] + i);
            sum[r] = _mm512_add_epi64(sum[r], _mm512_sad_epu8(q, _mm512_xor_si512(bias, x)));
            if (next != NULL)
                VECMATH_PREFETCH((const int8_t *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum_out[r] = (uint32_t)_mm512_reduce_add_epi64(sum[r]);
}

/* ---- conversions ---- */

INLINE AVX512 void widen_halves(const void *halves, size_t count, float *values_out)
{
    for (size_t i = 0; i < count; i += LANES) {
        __mmask16 mask = count - i < LANES ? tail_mask(count - i) : (__mmask16)0xffff;
        _mm512_mask_storeu_ps(values_out + i, mask, load_some(ROW_F16, halves, i, mask));
    }
}

INLINE AVX512 void narrow_floats(const void *values, size_t count, void *halves_out)
{
    for (size_t i = 0; i < count; i += LANES) {
        __mmask16 mask = count - i < LANES ? tail_mask(count - i) : (__mmask16)0xffff;
        __m512 x = _mm512_maskz_loadu_ps(mask, (const char *)values + 4 * i);
        __m256i half = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16((char *)halves_out + 2 * i, mask, half);
    }
}

#define TABLE_TARGET AVX512
#define TABLE_NAME   avx512
#include "elements_table.inc"
