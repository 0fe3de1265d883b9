/* pq4_avx2.c: AVX2. A vector has the 16 bytes of two parts, one in each half, and so have the
 * tables: VPSHUFB looks up 32 rows' entries in two instructions.
 *
 * Sums of bytes without widening each: as 16-bit numbers the entries of rows 2 i and 2 i + 1 are
 * one, added whole; the upper ones are also added by themselves, and taken off at the end. */
#include <immintrin.h>

#include "pq4_internal.h"

#define AVX2   __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline))

enum { PARTS = 2, LANES = 8 };

/* Sums of rows 0-15 or 16-31 in 16 bits: of both rows of a pair, of the upper one. */
struct pairs {
    __m256i both, upper;
};

INLINE AVX2 __m256i load(const void *at)
{
    return _mm256_loadu_si256((const __m256i_u *)at);
}

INLINE AVX2 void add(struct pairs *pairs, __m256i entries)
{
    pairs->both = _mm256_add_epi16(pairs->both, entries);
    pairs->upper = _mm256_add_epi16(pairs->upper, _mm256_srli_epi16(entries, 8));
}

/* The sums of both halves' parts, of eight rows. */
INLINE AVX2 void widen(__m256i sums, uint32_t *sum_out)
{
    __m256i first = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sums));
    __m256i second = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sums, 1));
    __m256i all = _mm256_add_epi32(load(sum_out), _mm256_add_epi32(first, second));
    _mm256_storeu_si256((__m256i_u *)sum_out, all);
}

INLINE AVX2 void unfold(const struct pairs *pairs, uint32_t *sum_out)
{
    __m256i even = _mm256_sub_epi16(pairs->both, _mm256_slli_epi16(pairs->upper, 8));
    widen(_mm256_unpacklo_epi16(even, pairs->upper), sum_out);
    widen(_mm256_unpackhi_epi16(even, pairs->upper), sum_out + LANES);
}

static AVX2 void sums_avx2(const uint8_t *tables, const uint8_t *block, size_t part_count,
                           uint32_t *sum_out)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    memset(sum_out, 0, VECMATH_PQ4_ROWS * sizeof *sum_out);
    for (size_t from = 0; from < part_count; from += PARTS * PQ4_FOLD) {
        const size_t left = part_count - from;
        const size_t to = left < PARTS * PQ4_FOLD ? part_count : from + PARTS * PQ4_FOLD;
        struct pairs low = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        struct pairs high = low;
        for (size_t part = from; part < to; part += PARTS) {
            __m256i table = load(tables + part * PQ4_TABLE);
            __m256i numbers = load(block + part * PQ4_TABLE);
            __m256i upper = _mm256_and_si256(_mm256_srli_epi16(numbers, 4), nibble);
            add(&low, _mm256_shuffle_epi8(table, _mm256_and_si256(numbers, nibble)));
            add(&high, _mm256_shuffle_epi8(table, upper));
        }
        unfold(&low, sum_out);
        unfold(&high, sum_out + VECMATH_PQ4_ROWS / 2);
    }
}

/* The smallest of both, in all lanes. */
INLINE AVX2 __m256 least_of(__m256 low, __m256 high)
{
    __m256 least = _mm256_min_ps(low, high);
    least = _mm256_min_ps(least, _mm256_permute2f128_ps(least, least, 1));
    least = _mm256_min_ps(least, _mm256_shuffle_ps(least, least, 0x4e));
    return _mm256_min_ps(least, _mm256_shuffle_ps(least, least, 0xb1));
}

static AVX2 void encode_avx2(const struct vecmath_pq4 *pq, const float *values, uint8_t *number_out)
{
    const float *book = pq->codebook;
    for (size_t part = 0; part < pq->part_count; part++) {
        __m256 low = _mm256_setzero_ps();
        __m256 high = low;
        for (size_t i = 0; i < pq->part_columns; i++, book += VECMATH_PQ4_CENTROIDS) {
            __m256 value = _mm256_set1_ps(values[part * pq->part_columns + i]);
            __m256 first = _mm256_sub_ps(value, _mm256_loadu_ps(book));
            __m256 second = _mm256_sub_ps(value, _mm256_loadu_ps(book + LANES));
            low = _mm256_fmadd_ps(first, first, low);
            high = _mm256_fmadd_ps(second, second, high);
        }
        __m256 least = least_of(low, high);
        unsigned nearest = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(low, least, _CMP_EQ_OQ)) |
                           (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(high, least, _CMP_EQ_OQ))
                               << LANES;
        number_out[part] = (uint8_t)__builtin_ctz(nearest | 1u << 15); /* of NaN: any */
    }
}

static AVX2 uint32_t finish_avx2(const uint32_t *sums, float base, float unit, const float *terms,
                                 float bound, float *distance_out)
{
    uint32_t mask = 0;
    for (size_t i = 0; i < VECMATH_PQ4_ROWS; i += LANES) {
        __m256 start = _mm256_add_ps(_mm256_set1_ps(base), _mm256_loadu_ps(terms + i));
        __m256 sum = _mm256_cvtepi32_ps(load(sums + i));
        __m256 distance = _mm256_fmadd_ps(_mm256_set1_ps(unit), sum, start);
        __m256 near = _mm256_cmp_ps(distance, _mm256_set1_ps(bound), _CMP_LE_OQ);
        _mm256_storeu_ps(distance_out + i, distance);
        mask |= (uint32_t)_mm256_movemask_ps(near) << i;
    }
    return mask;
}

const struct vecmath_pq4_kernels vecmath_pq4_avx2 = {
    .name = "avx2",
    .sums = sums_avx2,
    .encode = encode_avx2,
    .finish = finish_avx2,
};
