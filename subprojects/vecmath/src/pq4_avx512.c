/* pq4_avx512.c: as pq4_avx2.c, with four parts a vector. */
#include <immintrin.h>

#include "pq4_internal.h"

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define INLINE static inline __attribute__((always_inline))

enum { PARTS = 4, LANES = 16 };

struct pairs {
    __m512i both, upper;
};

INLINE AVX512 void add(struct pairs *pairs, __m512i entries)
{
    pairs->both = _mm512_add_epi16(pairs->both, entries);
    pairs->upper = _mm512_add_epi16(pairs->upper, _mm512_srli_epi16(entries, 8));
}

/* The sums of all four quarters' parts, of eight rows. */
INLINE AVX512 __m256i widen(__m512i sums)
{
    __m512i first = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(sums));
    __m512i second = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(sums, 1));
    __m512i both = _mm512_add_epi32(first, second);
    return _mm256_add_epi32(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1));
}

/* Adds them to sum_out, or (first) sets it. */
INLINE AVX512 void unfold(const struct pairs *pairs, bool first, uint32_t *sum_out)
{
    __m512i even = _mm512_sub_epi16(pairs->both, _mm512_slli_epi16(pairs->upper, 8));
    __m256i front = widen(_mm512_unpacklo_epi16(even, pairs->upper));
    __m256i back = widen(_mm512_unpackhi_epi16(even, pairs->upper));
    __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(front), back, 1);
    if (!first)
        all = _mm512_add_epi32(all, _mm512_loadu_si512(sum_out));
    _mm512_storeu_si512(sum_out, all);
}

static AVX512 void sums_avx512(const uint8_t *tables, const uint8_t *block, size_t part_count,
                               uint32_t *sum_out)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    size_t from = 0;
    do { /* once also without parts: zeros */
        const size_t left = part_count - from;
        const size_t to = left < PARTS * PQ4_FOLD ? part_count : from + PARTS * PQ4_FOLD;
        struct pairs low = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        struct pairs high = low;
        for (size_t part = from; part < to; part += PARTS) {
            __m512i table = _mm512_loadu_si512(tables + part * PQ4_TABLE);
            __m512i numbers = _mm512_loadu_si512(block + part * PQ4_TABLE);
            __m512i upper = _mm512_and_si512(_mm512_srli_epi16(numbers, 4), nibble);
            add(&low, _mm512_shuffle_epi8(table, _mm512_and_si512(numbers, nibble)));
            add(&high, _mm512_shuffle_epi8(table, upper));
        }
        unfold(&low, from == 0, sum_out);
        unfold(&high, from == 0, sum_out + VECMATH_PQ4_ROWS / 2);
        from = to;
    } while (from < part_count);
}

static AVX512 void encode_avx512(const struct vecmath_pq4 *pq, const float *values,
                                 uint8_t *number_out)
{
    const float *book = pq->codebook;
    for (size_t part = 0; part < pq->part_count; part++) {
        __m512 distance = _mm512_setzero_ps();
        for (size_t i = 0; i < pq->part_columns; i++, book += LANES) {
            __m512 value = _mm512_set1_ps(values[part * pq->part_columns + i]);
            __m512 apart = _mm512_sub_ps(value, _mm512_loadu_ps(book));
            distance = _mm512_fmadd_ps(apart, apart, distance);
        }
        __m512 least = _mm512_set1_ps(_mm512_reduce_min_ps(distance));
        unsigned nearest = _mm512_cmp_ps_mask(distance, least, _CMP_EQ_OQ);
        number_out[part] = (uint8_t)__builtin_ctz(nearest | 1u << (LANES - 1)); /* of NaN: any */
    }
}

static AVX512 uint32_t finish_avx512(const uint32_t *sums, float base, float unit,
                                     const float *terms, float bound, float *distance_out)
{
    uint32_t mask = 0;
    for (size_t i = 0; i < VECMATH_PQ4_ROWS; i += LANES) {
        __m512 start = _mm512_add_ps(_mm512_set1_ps(base), _mm512_loadu_ps(terms + i));
        __m512 sum = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums + i));
        __m512 distance = _mm512_fmadd_ps(_mm512_set1_ps(unit), sum, start);
        __mmask16 near = _mm512_cmp_ps_mask(distance, _mm512_set1_ps(bound), _CMP_LE_OQ);
        _mm512_storeu_ps(distance_out + i, distance);
        mask |= (uint32_t)near << i;
    }
    return mask;
}

const struct vecmath_pq4_kernels vecmath_pq4_avx512 = {
    .name = "avx512",
    .sums = sums_avx512,
    .encode = encode_avx512,
    .finish = finish_avx512,
};
