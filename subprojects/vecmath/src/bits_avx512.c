/* bits_avx512.c: AVX-512, without and with VNNI. Digits of 64 bytes are masked out and meet 64
 * numbers of the query at once; VNNI adds four products to a lane, without it VPMADDUBSW adds two
 * to 16 bits (at most 2 x 15 x 127), and all digits of a piece before they are widened. */
#include <immintrin.h>
#include <math.h>

#include "bits_internal.h"

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define VNNI   __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,avx512vnni")))
#define INLINE static inline __attribute__((always_inline))

INLINE AVX512 __m512i load_up_to(const void *at, size_t count)
{
    if (count >= BITS_PIECE)
        return _mm512_loadu_si512(at);
    return _mm512_maskz_loadu_epi8(((__mmask64)1 << count) - 1, at);
}

/* Digit `shift / width` of 64 bytes. */
INLINE AVX512 __m512i digit_of(__m512i bytes, unsigned shift, unsigned width)
{
    const __m512i mask = _mm512_set1_epi8((char)((1u << width) - 1));
    return _mm512_and_si512(shift > 0 ? _mm512_srli_epi16(bytes, (uint8_t)shift) : bytes, mask);
}

/* The sums of all lanes: of four rows together, by additions across. */
INLINE AVX512 void put_sums(const size_t rows, const __m512i *sum, int32_t *sum_out)
{
    if (rows < VECMATH_BLOCK) {
        sum_out[0] = _mm512_reduce_add_epi32(sum[0]);
        return;
    }
    __m512i front = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[0], sum[1]),
                                     _mm512_unpackhi_epi32(sum[0], sum[1]));
    __m512i back = _mm512_add_epi32(_mm512_unpacklo_epi32(sum[2], sum[3]),
                                    _mm512_unpackhi_epi32(sum[2], sum[3]));
    __m512i all =
        _mm512_add_epi32(_mm512_unpacklo_epi64(front, back), _mm512_unpackhi_epi64(front, back));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    _mm_storeu_si128(
        (__m128i_u *)(void *)sum_out,
        _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

INLINE AVX512 void rows_wide(const size_t rows, const unsigned width, const int8_t *numbers,
                             const void *const *row, const void *const *next, size_t bytes,
                             int32_t *sum_out)
{
    const __m512i ones = _mm512_set1_epi16(1);
    __m512i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_si512();
    for (size_t i = 0; i < bytes; i += BITS_PIECE) {
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512i piece = load_up_to((const uint8_t *)row[r] + i, bytes - i);
            __m512i pairs = _mm512_setzero_si512();
            for (unsigned shift = 0; shift < 8; shift += width) {
                __m512i q = _mm512_loadu_si512(numbers + (i * 8 + shift * BITS_PIECE) / width);
                pairs =
                    _mm512_add_epi16(pairs, _mm512_maddubs_epi16(digit_of(piece, shift, width), q));
            }
            sum[r] = _mm512_add_epi32(sum[r], _mm512_madd_epi16(pairs, ones));
            if (next != NULL)
                VECMATH_PREFETCH((const uint8_t *)next[r] + i);
        }
    }
    put_sums(rows, sum, sum_out);
}

INLINE VNNI void rows_vnni(const size_t rows, const unsigned width, const int8_t *numbers,
                           const void *const *row, const void *const *next, size_t bytes,
                           int32_t *sum_out)
{
    __m512i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm512_setzero_si512();
    for (size_t i = 0; i < bytes; i += BITS_PIECE) {
        __m512i piece[VECMATH_BLOCK];
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            piece[r] = load_up_to((const uint8_t *)row[r] + i, bytes - i);
            if (next != NULL)
                VECMATH_PREFETCH((const uint8_t *)next[r] + i);
        }
        for (unsigned shift = 0; shift < 8; shift += width) {
            __m512i q = _mm512_loadu_si512(numbers + (i * 8 + shift * BITS_PIECE) / width);
            VECMATH_UNROLL
            for (size_t r = 0; r < rows; r++)
                sum[r] = _mm512_dpbusd_epi32(sum[r], digit_of(piece[r], shift, width), q);
        }
    }
    put_sums(rows, sum, sum_out);
}

#define TABLE_TARGET AVX512
#define TABLE_NAME   avx512
#define TABLE_ROWS   rows_wide
#include "bits_table.inc"

#define TABLE_TARGET VNNI
#define TABLE_NAME   avx512_vnni
#define TABLE_ROWS   rows_vnni
#include "bits_table.inc"
