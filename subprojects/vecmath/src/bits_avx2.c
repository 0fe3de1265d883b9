/* bits_avx2.c: as bits_avx512.c, in halves of a piece; the last bytes go through a zero-filled
 * copy. */
#include <immintrin.h>
#include <math.h>

#include "bits_internal.h"

#define AVX2   __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline))

enum { BYTES = 32 };

INLINE AVX2 __m256i load_up_to(const uint8_t *at, size_t count)
{
    if (count >= BYTES)
        return _mm256_loadu_si256((const __m256i_u *)(const void *)at);
    uint8_t copy[BYTES] = {0};
    memcpy(copy, at, count);
    return _mm256_loadu_si256((const __m256i_u *)(const void *)copy);
}

INLINE AVX2 int32_t total(__m256i sum)
{
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
    return _mm_cvtsi128_si32(half);
}

/* Products of all digits of 32 bytes with the query's numbers, in sums of two, 16 bits wide: at
 * most 4 x 15 x 127 or 16 x 127. */
INLINE AVX2 __m256i products(__m256i bytes, const unsigned width, const int8_t *numbers)
{
    const __m256i mask = _mm256_set1_epi8((char)((1u << width) - 1));
    __m256i pairs = _mm256_setzero_si256();
    for (unsigned shift = 0; shift < 8; shift += width) {
        __m256i q = _mm256_loadu_si256(
            (const __m256i_u *)(const void *)(numbers + shift * BITS_PIECE / width));
        __m256i digit =
            _mm256_and_si256(shift > 0 ? _mm256_srli_epi16(bytes, (int)shift) : bytes, mask);
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(digit, q));
    }
    return pairs;
}

INLINE AVX2 void rows_avx2(const size_t rows, const unsigned width, const int8_t *numbers,
                           const void *const *row, const void *const *next, size_t bytes,
                           int32_t *sum_out)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm256_setzero_si256();
    for (size_t i = 0; i < bytes; i += BYTES) {
        const int8_t *q = numbers + i / BITS_PIECE * BITS_PIECE * 8 / width + i % BITS_PIECE;
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256i piece = load_up_to((const uint8_t *)row[r] + i, bytes - i);
            sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(products(piece, width, q), ones));
            if (next != NULL && i % 64 == 0)
                VECMATH_PREFETCH((const uint8_t *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum_out[r] = total(sum[r]);
}

#define TABLE_TARGET AVX2
#define TABLE_NAME   avx2
#define TABLE_ROWS   rows_avx2
#include "bits_table.inc"
