/* codes_avx2.c: AVX2. Bytes are widened to 16 bits and multiplied in pairs (VPMADDWD); nibbles are
 * unsigned and go through VPMADDUBSW, whose 16-bit sums of at most 2 x 15 x 127 are added four at a
 * time before they are widened. The last bytes of a row, fewer than a vector, go through a
 * zero-filled copy: the query is zero there, too, and reading past a row is forbidden.
 */
#include <immintrin.h>

#include "codes_internal.h"

#define AVX2   __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline))

enum { BYTES = 32, SQ4_BYTES = 64 };

INLINE AVX2 __m256i load(const void *at)
{
    return _mm256_loadu_si256((const __m256i_u *)at);
}

/* The first `count` bytes, fewer than 32, then zeros. */
INLINE AVX2 __m256i load_some(const uint8_t *at, size_t count)
{
    uint8_t copy[BYTES] = {0};
    memcpy(copy, at, count);
    return load(copy);
}

/* Bytes `from` to `from` + 32 of `count`, then zeros. */
INLINE AVX2 __m256i load_from(const uint8_t *at, size_t from, size_t count)
{
    if (count >= from + BYTES)
        return load(at + from);
    return count > from ? load_some(at + from, count - from) : _mm256_setzero_si256();
}

INLINE AVX2 int64_t total(__m256i sum)
{
    __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(sum));
    __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(sum, 1));
    __m256i both = _mm256_add_epi64(low, high);
    __m128i half = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    return _mm_cvtsi128_si64(half) + _mm_extract_epi64(half, 1);
}

/* Products of 32 signed bytes with 32 numbers of 16 bits, in sums of two. */
INLINE AVX2 __m256i multiply(__m256i bytes, __m256i low, __m256i high)
{
    __m256i a = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(bytes));
    __m256i b = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(bytes, 1));
    return _mm256_add_epi32(_mm256_madd_epi16(a, low), _mm256_madd_epi16(b, high));
}

INLINE AVX2 void sq8_rows(const size_t rows, const struct vecmath_sq8_query *query,
                          const void *const *row, const void *const *next, int64_t *dot_out)
{
    const size_t n = query->dimension;
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = 0;
    for (size_t from = 0; from < n; from += CODE_FOLD) {
        const size_t to = n - from < CODE_FOLD ? n : from + CODE_FOLD;
        __m256i sum[VECMATH_BLOCK];
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r] = _mm256_setzero_si256();
        for (size_t i = from; i < to; i += BYTES) {
            __m256i low = load(query->wide + i);
            __m256i high = load(query->wide + i + BYTES / 2);
            VECMATH_UNROLL
            for (size_t r = 0; r < rows; r++) {
                const uint8_t *at = (const uint8_t *)row[r] + i;
                __m256i bytes = n - i < BYTES ? load_some(at, n - i) : load(at);
                sum[r] = _mm256_add_epi32(sum[r], multiply(bytes, low, high));
                if (next != NULL && i % 64 == 0)
                    VECMATH_PREFETCH((const uint8_t *)next[r] + i);
            }
        }
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++)
            dot_out[r] += total(sum[r]);
    }
}

INLINE AVX2 void s8_rows(const size_t rows, const int8_t *query, const void *const *row,
                         const void *const *next, size_t n, int32_t *dot_out)
{
    __m256i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += BYTES) {
        const uint8_t *q = (const uint8_t *)query + i;
        __m256i numbers = n - i < BYTES ? load_some(q, n - i) : load(q);
        __m256i low = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(numbers));
        __m256i high = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(numbers, 1));
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            const uint8_t *at = (const uint8_t *)row[r] + i;
            __m256i bytes = n - i < BYTES ? load_some(at, n - i) : load(at);
            sum[r] = _mm256_add_epi32(sum[r], multiply(bytes, low, high));
            if (next != NULL && i % 64 == 0)
                VECMATH_PREFETCH((const uint8_t *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = (int32_t)total(sum[r]);
}

/* Sums of two products each of 32 bytes of nibbles, 16 bits wide: low halves and high halves. */
INLINE AVX2 __m256i multiply_nibbles(__m256i bytes, const int8_t *query)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i low = _mm256_and_si256(bytes, nibble);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
    return _mm256_add_epi16(_mm256_maddubs_epi16(low, load(query)),
                            _mm256_maddubs_epi16(high, load(query + SQ4_BYTES)));
}

INLINE AVX2 void sq4_rows(const size_t rows, const struct vecmath_sq4_query *query,
                          const void *const *row, const void *const *next, int32_t *dot_out)
{
    const __m256i one = _mm256_set1_epi16(1);
    const size_t bytes = vecmath_sq4_code_bytes(query->dimension);
    __m256i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm256_setzero_si256();
    for (size_t i = 0; i < bytes; i += SQ4_BYTES) {
        const int8_t *values = query->values + 2 * i;
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            const uint8_t *at = (const uint8_t *)row[r] + i;
            __m256i low = load_from(at, 0, bytes - i), high = load_from(at, BYTES, bytes - i);
            /* four sums of two products: at most 8 x 15 x 127, within 16 bits */
            __m256i pairs = _mm256_add_epi16(multiply_nibbles(low, values),
                                             multiply_nibbles(high, values + BYTES));
            sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(pairs, one));
            if (next != NULL)
                VECMATH_PREFETCH((const uint8_t *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = (int32_t)total(sum[r]);
}

#define TABLE_TARGET AVX2
#define TABLE_NAME   avx2
#include "codes_table.inc"
