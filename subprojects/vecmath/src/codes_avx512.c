/* codes_avx512.c: AVX-512, without and with VNNI.
 *
 * VNNI multiplies unsigned by signed bytes, four products to a lane. Rows become unsigned by
 * flipping the top bit, which adds 128 to each number: 128 x the query's sum is taken off at the
 * end. A query of 13 bits is two of signed bytes, 64 x high + low, so that nothing is widened: 24
 * multiplications for 768 dimensions, 12 loads of the row. A lane holds 65,536 x 255 x 128 without
 * overflow, so there is nothing to fold either.
 *
 * Without VNNI bytes are widened to 16 bits, as in codes_avx2.c. Partial vectors are masked loads.
 */
#include <immintrin.h>

#include "codes_internal.h"

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define VNNI   __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,avx512vnni")))
#define INLINE static inline __attribute__((always_inline))

/* Up to SHORT_ROW numbers 255 x 4095 times as many fit 32 bits. */
enum { BYTES = 64, SHORT_ROW = 2048 };

INLINE AVX512 __m512i load_up_to(const void *at, size_t count)
{
    if (count >= BYTES)
        return _mm512_loadu_si512(at);
    return _mm512_maskz_loadu_epi8(((__mmask64)1 << count) - 1, at);
}

INLINE AVX512 int64_t total(__m512i sum)
{
    __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(sum));
    __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sum, 1));
    return _mm512_reduce_add_epi64(_mm512_add_epi64(low, high));
}

/* ---- without VNNI ---- */

/* Products of 64 signed bytes with 64 numbers of 16 bits, in sums of two. */
INLINE AVX512 __m512i multiply(__m512i bytes, __m512i low, __m512i high)
{
    __m512i a = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(bytes));
    __m512i b = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(bytes, 1));
    return _mm512_add_epi32(_mm512_madd_epi16(a, low), _mm512_madd_epi16(b, high));
}

INLINE AVX512 void sq8_rows_wide(const size_t rows, const struct vecmath_sq8_query *query,
                                 const void *const *row, const void *const *next, int64_t *dot_out)
{
    const size_t n = query->dimension;
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = 0;
    for (size_t from = 0; from < n; from += CODE_FOLD) {
        const size_t to = n - from < CODE_FOLD ? n : from + CODE_FOLD;
        __m512i sum[VECMATH_BLOCK];
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r] = _mm512_setzero_si512();
        for (size_t i = from; i < to; i += BYTES) {
            __m512i low = _mm512_loadu_si512(query->wide + i);
            __m512i high = _mm512_loadu_si512(query->wide + i + BYTES / 2);
            VECMATH_UNROLL
            for (size_t r = 0; r < rows; r++) {
                __m512i bytes = load_up_to((const uint8_t *)row[r] + i, n - i);
                sum[r] = _mm512_add_epi32(sum[r], multiply(bytes, low, high));
                if (next != NULL)
                    VECMATH_PREFETCH((const uint8_t *)next[r] + i);
            }
        }
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++)
            dot_out[r] += total(sum[r]);
    }
}

INLINE AVX512 void s8_rows_wide(const size_t rows, const int8_t *query, const void *const *row,
                                const void *const *next, size_t n, int32_t *dot_out)
{
    __m512i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += BYTES) {
        __m512i numbers = load_up_to(query + i, n - i);
        __m512i low = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(numbers));
        __m512i high = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(numbers, 1));
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i bytes = load_up_to((const uint8_t *)row[r] + i, n - i);
            sum[r] = _mm512_add_epi32(sum[r], multiply(bytes, low, high));
            if (next != NULL)
                VECMATH_PREFETCH((const uint8_t *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = (int32_t)total(sum[r]);
}

INLINE AVX512 void sq4_rows_wide(const size_t rows, const struct vecmath_sq4_query *query,
                                 const void *const *row, const void *const *next, int32_t *dot_out)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i one = _mm512_set1_epi16(1);
    const size_t bytes = vecmath_sq4_code_bytes(query->dimension);
    __m512i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_si512();
    for (size_t i = 0; i < bytes; i += BYTES) {
        __m512i first = _mm512_loadu_si512(query->values + 2 * i);
        __m512i second = _mm512_loadu_si512(query->values + 2 * i + BYTES);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i both = load_up_to((const uint8_t *)row[r] + i, bytes - i);
            __m512i low = _mm512_and_si512(both, nibble);
            __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
            __m512i pairs = _mm512_add_epi16(_mm512_maddubs_epi16(low, first),
                                             _mm512_maddubs_epi16(high, second));
            sum[r] = _mm512_add_epi32(sum[r], _mm512_madd_epi16(pairs, one));
            if (next != NULL)
                VECMATH_PREFETCH((const uint8_t *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = (int32_t)total(sum[r]);
}

/* ---- with VNNI ---- */

INLINE VNNI __m512i flip(__m512i bytes)
{
    return _mm512_xor_si512(bytes, _mm512_set1_epi8((char)0x80));
}

/* 64 numbers, or the `left` last ones of the rows; queries are padded. */
INLINE VNNI void sq8_step(const size_t rows, const struct vecmath_sq8_query *query,
                          const void *const *row, const void *const *next, size_t i, size_t left,
                          __m512i *high, __m512i *low)
{
    __m512i query_high = _mm512_loadu_si512(query->high + i);
    __m512i query_low = _mm512_loadu_si512(query->low + i);
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        __m512i bytes = flip(load_up_to((const uint8_t *)row[r] + i, left));
        high[r] = _mm512_dpbusd_epi32(high[r], bytes, query_high);
        low[r] = _mm512_dpbusd_epi32(low[r], bytes, query_low);
        if (next != NULL)
            VECMATH_PREFETCH((const uint8_t *)next[r] + i);
    }
}

/* Each row's sum over lanes. Rows are added up side by side: a quarter of the instructions that one
 * after the other would take. */
INLINE VNNI __m128i totals(const __m512i sum[VECMATH_BLOCK])
{
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[0], sum[1]),
                                 _mm512_unpackhi_epi32(sum[0], sum[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[2], sum[3]),
                                 _mm512_unpackhi_epi32(sum[2], sum[3]));
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

INLINE VNNI void sq8_rows_vnni(const size_t rows, const struct vecmath_sq8_query *query,
                               const void *const *row, const void *const *next, int64_t *dot_out)
{
    const size_t n = query->dimension;
    __m512i high[VECMATH_BLOCK];
    __m512i low[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        high[r] = low[r] = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + BYTES <= n; i += BYTES)
        sq8_step(rows, query, row, next, i, BYTES, high, low);
    if (i < n)
        sq8_step(rows, query, row, next, i, n - i, high, low);
    const int64_t excess = 128 * (64 * (int64_t)query->high_sum + query->low_sum);
    if (rows == VECMATH_BLOCK && n <= SHORT_ROW) {
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_BLOCK; r++)
            low[r] = _mm512_add_epi32(_mm512_slli_epi32(high[r], 6), low[r]);
        __m128i dots = _mm_sub_epi32(totals(low), _mm_set1_epi32((int)excess));
        _mm256_storeu_si256((__m256i_u *)dot_out, _mm256_cvtepi32_epi64(dots));
        return;
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = 64 * (int64_t)_mm512_reduce_add_epi32(high[r]) +
                     _mm512_reduce_add_epi32(low[r]) - excess;
}

/* 64 numbers, or the `left` last ones. */
INLINE VNNI void s8_step(const size_t rows, const int8_t *query, const void *const *row,
                         const void *const *next, size_t i, size_t left, __m512i *query_sum,
                         __m512i *sum)
{
    __m512i numbers = load_up_to(query + i, left);
    *query_sum = _mm512_dpbusd_epi32(*query_sum, _mm512_set1_epi8(1), numbers);
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        __m512i bytes = flip(load_up_to((const uint8_t *)row[r] + i, left));
        sum[r] = _mm512_dpbusd_epi32(sum[r], bytes, numbers);
        if (next != NULL)
            VECMATH_PREFETCH((const uint8_t *)next[r] + i);
    }
}

INLINE VNNI void s8_rows_vnni(const size_t rows, const int8_t *query, const void *const *row,
                              const void *const *next, size_t n, int32_t *dot_out)
{
    __m512i query_sum = _mm512_setzero_si512();
    __m512i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + BYTES <= n; i += BYTES)
        s8_step(rows, query, row, next, i, BYTES, &query_sum, sum);
    if (i < n)
        s8_step(rows, query, row, next, i, n - i, &query_sum, sum);
    query_sum = _mm512_slli_epi32(query_sum, 7);
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm512_sub_epi32(sum[r], query_sum);
    if (rows == VECMATH_BLOCK)
        _mm_storeu_si128((__m128i_u *)dot_out, totals(sum));
    else
        dot_out[0] = _mm512_reduce_add_epi32(sum[0]);
}

/* 128 numbers in 64 bytes, or in the `left` last ones; queries are padded. */
INLINE VNNI void sq4_step(const size_t rows, const int8_t *values, const void *const *row,
                          const void *const *next, size_t i, size_t left, __m512i *sum)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i first = _mm512_loadu_si512(values + 2 * i);
    __m512i second = _mm512_loadu_si512(values + 2 * i + BYTES);
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        __m512i both = load_up_to((const uint8_t *)row[r] + i, left);
        __m512i low = _mm512_and_si512(both, nibble);
        __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
        sum[r] = _mm512_dpbusd_epi32(sum[r], low, first);
        sum[r] = _mm512_dpbusd_epi32(sum[r], high, second);
        if (next != NULL)
            VECMATH_PREFETCH((const uint8_t *)next[r] + i);
    }
}

INLINE VNNI void sq4_rows_vnni(const size_t rows, const struct vecmath_sq4_query *query,
                               const void *const *row, const void *const *next, int32_t *dot_out)
{
    const size_t bytes = vecmath_sq4_code_bytes(query->dimension);
    __m512i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + BYTES <= bytes; i += BYTES)
        sq4_step(rows, query->values, row, next, i, BYTES, sum);
    if (i < bytes)
        sq4_step(rows, query->values, row, next, i, bytes - i, sum);
    if (rows == VECMATH_BLOCK)
        _mm_storeu_si128((__m128i_u *)dot_out, totals(sum));
    else
        dot_out[0] = _mm512_reduce_add_epi32(sum[0]);
}

#define TABLE_TARGET AVX512
#define TABLE_NAME   avx512
#define TABLE_SQ8    sq8_rows_wide
#define TABLE_S8     s8_rows_wide
#define TABLE_SQ4    sq4_rows_wide
#include "codes_table.inc"

#define TABLE_TARGET VNNI
#define TABLE_NAME   avx512_vnni
#define TABLE_SQ8    sq8_rows_vnni
#define TABLE_S8     s8_rows_vnni
#define TABLE_SQ4    sq4_rows_vnni
#include "codes_table.inc"
