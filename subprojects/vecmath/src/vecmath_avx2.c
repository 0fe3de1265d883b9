/* vecmath_avx2.c: AVX2 with FMA.
 *
 * The same template as for AVX-512 (vecmath_avx512.c tells why), cut to 16 registers: two sums a
 * row, eight for a block. Partial vectors are masked loads, which do not touch memory under a clear
 * mask. Bits are counted by looking up nibbles, since AVX2 has no instruction for it.
 */
#include <immintrin.h>

#include "elements_internal.h"

#define AVX2   __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, SUMS = 2, STEP = LANES * SUMS, CHECK_STEP = 4 * LANES, BYTES = 32 };

enum metric { L2_SQUARED, DOT, L1 };

INLINE AVX2 __m256 add_term(enum metric metric, __m256 sum, __m256 q, __m256 r)
{
    if (metric == DOT)
        return _mm256_fmadd_ps(q, r, sum);
    __m256 difference = _mm256_sub_ps(q, r);
    if (metric == L2_SQUARED)
        return _mm256_fmadd_ps(difference, difference, sum);
    return _mm256_add_ps(sum, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), difference));
}

INLINE AVX2 float total(__m256 sum)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

/* A mask whose first `lanes` lanes are set: a window into eight ones and eight zeros. */
INLINE AVX2 __m256i tail_mask(size_t lanes)
{
    static const int32_t window[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                              0,  0,  0,  0,  0,  0,  0,  0};
    return _mm256_loadu_si256((const __m256i_u *)(const void *)(window + LANES - lanes));
}

/* Scores R rows. `next` is NULL for pairs, whose rows nobody knows ahead. */
INLINE AVX2 void score_rows(enum metric metric, const size_t rows, const float *query,
                            const void *const *row, const void *const *next, size_t n,
                            float *score_out)
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
                const float *at = (const float *)row[r] + i + s * LANES;
                sum[r][s] = add_term(metric, sum[r][s], q, _mm256_loadu_ps(at));
                if (next != NULL && s == 0) /* 16 floats are one line */
                    VECMATH_PREFETCH((const float *)next[r] + i);
            }
        }
    }
    for (; i < n; i += LANES) {
        __m256i mask = tail_mask(n - i < LANES ? n - i : LANES);
        __m256 q = _mm256_maskload_ps(query + i, mask);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256 x = _mm256_maskload_ps((const float *)row[r] + i, mask);
            sum[r][0] = add_term(metric, sum[r][0], q, x);
            if (next != NULL)
                VECMATH_PREFETCH((const float *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        score_out[r] = total(_mm256_add_ps(sum[r][0], sum[r][1]));
}

/* Dot products and the rows' squared norms; score_out: R dots, then R norms. */
INLINE AVX2 void cosine_rows(const size_t rows, const float *query, const void *const *row,
                             const void *const *next, size_t n, float *score_out)
{
    __m256 dot[VECMATH_BLOCK];
    __m256 norm[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot[r] = norm[r] = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256 q = _mm256_loadu_ps(query + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256 x = _mm256_loadu_ps((const float *)row[r] + i);
            dot[r] = _mm256_fmadd_ps(q, x, dot[r]);
            norm[r] = _mm256_fmadd_ps(x, x, norm[r]);
            if (next != NULL)
                VECMATH_PREFETCH((const float *)next[r] + i);
        }
    }
    if (i < n) {
        __m256i mask = tail_mask(n - i);
        __m256 q = _mm256_maskload_ps(query + i, mask);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256 x = _mm256_maskload_ps((const float *)row[r] + i, mask);
            dot[r] = _mm256_fmadd_ps(q, x, dot[r]);
            norm[r] = _mm256_fmadd_ps(x, x, norm[r]);
            if (next != NULL)
                VECMATH_PREFETCH((const float *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        score_out[r] = total(dot[r]);
        score_out[rows + r] = total(norm[r]);
    }
}

/* ---- counting bits ---- */

/* Bits set in each 64-bit lane. */
INLINE AVX2 __m256i count_bits(__m256i bits)
{
    const __m256i counts =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    __m256i low = _mm256_and_si256(bits, nibble);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble);
    __m256i sum =
        _mm256_add_epi8(_mm256_shuffle_epi8(counts, low), _mm256_shuffle_epi8(counts, high));
    return _mm256_sad_epu8(sum, _mm256_setzero_si256());
}

INLINE AVX2 __m256i load_bytes(const uint8_t *bytes)
{
    return _mm256_loadu_si256((const __m256i_u *)(const void *)bytes);
}

INLINE AVX2 uint64_t total_u64(__m256i sum)
{
    __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    return (uint64_t)_mm_cvtsi128_si64(half) + (uint64_t)_mm_extract_epi64(half, 1);
}

/* The last bytes, fewer than 32, go through zero-filled copies: there is no masked load of
 * bytes. */
INLINE AVX2 void hamming_rows(const size_t rows, const uint8_t *query, const void *const *row,
                              const void *const *next, size_t byte_count, uint64_t *bits_out)
{
    __m256i sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + BYTES <= byte_count; i += BYTES) {
        __m256i q = load_bytes(query + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m256i x = load_bytes((const uint8_t *)row[r] + i);
            sum[r] = _mm256_add_epi64(sum[r], count_bits(_mm256_xor_si256(q, x)));
            if (next != NULL)
                VECMATH_PREFETCH((const uint8_t *)next[r] + i);
        }
    }
    if (i < byte_count) {
        uint8_t query_tail[BYTES] = {0};
        memcpy(query_tail, query + i, byte_count - i);
        __m256i q = load_bytes(query_tail);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            uint8_t row_tail[BYTES] = {0};
            memcpy(row_tail, (const uint8_t *)row[r] + i, byte_count - i);
            __m256i x = load_bytes(row_tail);
            sum[r] = _mm256_add_epi64(sum[r], count_bits(_mm256_xor_si256(q, x)));
            if (next != NULL)
                VECMATH_PREFETCH((const uint8_t *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        bits_out[r] = total_u64(sum[r]);
}

static AVX2 uint64_t hamming_avx2(const uint8_t *a, const uint8_t *b, size_t byte_count)
{
    const void *row[1] = {b};
    uint64_t bits;
    hamming_rows(1, a, row, NULL, byte_count, &bits);
    return bits;
}

static AVX2 void block_hamming_avx2(const void *query, const void *const row[VECMATH_BLOCK],
                                    const void *const next[VECMATH_BLOCK], size_t n,
                                    float *score_out)
{
    uint64_t bits[VECMATH_BLOCK];
    hamming_rows(VECMATH_BLOCK, query, row, next, n, bits);
    VECMATH_UNROLL
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        score_out[r] = (float)bits[r];
}

/* ---- the kernels ---- */

#define PAIR_AND_BLOCK(name, metric)                                                               \
    static AVX2 float name##_avx2(const float *a, const float *b, size_t n)                        \
    {                                                                                              \
        const void *row[1] = {b};                                                                  \
        float score;                                                                               \
        score_rows(metric, 1, a, row, NULL, n, &score);                                            \
        return score;                                                                              \
    }                                                                                              \
    static AVX2 void block_##name##_avx2(const void *query, const void *const row[VECMATH_BLOCK],  \
                                         const void *const next[VECMATH_BLOCK], size_t n,          \
                                         float *score_out)                                         \
    {                                                                                              \
        score_rows(metric, VECMATH_BLOCK, query, row, next, n, score_out);                         \
    }

PAIR_AND_BLOCK(l2_squared, L2_SQUARED)
PAIR_AND_BLOCK(dot, DOT)
PAIR_AND_BLOCK(l1, L1)

static AVX2 void pieces_avx2(const float *a, const float *b, size_t n,
                             struct vecmath_cosine_pieces *out)
{
    const void *row[1] = {b};
    const void *self[1] = {a};
    float raw[2];
    float raw_self[2];
    cosine_rows(1, a, row, NULL, n, raw);
    cosine_rows(1, a, self, NULL, n, raw_self);
    *out = (struct vecmath_cosine_pieces){raw[0], raw_self[1], raw[1]};
}

static AVX2 void block_cosine_avx2(const void *query, const void *const row[VECMATH_BLOCK],
                                   const void *const next[VECMATH_BLOCK], size_t n,
                                   float *score_out)
{
    cosine_rows(VECMATH_BLOCK, query, row, next, n, score_out);
}

/* All ones in each lane whose exponent is all ones, which NaN and infinities share. */
INLINE AVX2 __m256i bad_lanes(__m256 values)
{
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_castps_si256(values), exponent), exponent);
}

/* Two queries with four rows: eight of sixteen registers are sums. */
INLINE AVX2 void half_tile(const float *const *query, const float *const *row, size_t n,
                           float *score_out)
{
    __m256 sum[2][VECMATH_TILE];
    VECMATH_UNROLL
    for (size_t q = 0; q < 2; q++) {
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_TILE; r++)
            sum[q][r] = _mm256_setzero_ps();
    }
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256 first = _mm256_loadu_ps(query[0] + i);
        __m256 second = _mm256_loadu_ps(query[1] + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_TILE; r++) {
            __m256 x = _mm256_loadu_ps(row[r] + i);
            sum[0][r] = _mm256_fmadd_ps(first, x, sum[0][r]);
            sum[1][r] = _mm256_fmadd_ps(second, x, sum[1][r]);
        }
    }
    if (i < n) {
        __m256i mask = tail_mask(n - i);
        __m256 first = _mm256_maskload_ps(query[0] + i, mask);
        __m256 second = _mm256_maskload_ps(query[1] + i, mask);
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_TILE; r++) {
            __m256 x = _mm256_maskload_ps(row[r] + i, mask);
            sum[0][r] = _mm256_fmadd_ps(first, x, sum[0][r]);
            sum[1][r] = _mm256_fmadd_ps(second, x, sum[1][r]);
        }
    }
    VECMATH_UNROLL
    for (size_t q = 0; q < 2; q++) {
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_TILE; r++)
            score_out[q * VECMATH_TILE + r] = total(sum[q][r]);
    }
}

static AVX2 void tile_dot_avx2(const float *const query[VECMATH_TILE],
                               const float *const row[VECMATH_TILE], size_t n,
                               float score_out[VECMATH_TILE * VECMATH_TILE])
{
    half_tile(query, row, n, score_out);
    half_tile(query + 2, row, n, score_out + 2 * VECMATH_TILE);
}

static AVX2 size_t first_nonfinite_avx2(const float *values, size_t count)
{
    size_t i = 0;
    for (; i + CHECK_STEP <= count; i += CHECK_STEP) {
        __m256i bad = _mm256_setzero_si256();
        VECMATH_UNROLL
        for (size_t s = 0; s < 4; s++)
            bad = _mm256_or_si256(bad, bad_lanes(_mm256_loadu_ps(values + i + s * LANES)));
        if (!_mm256_testz_si256(bad, bad))
            break;
    }
    for (; i < count; i += LANES) {
        __m256i mask = tail_mask(count - i < LANES ? count - i : LANES);
        __m256i bad = bad_lanes(_mm256_maskload_ps(values + i, mask));
        unsigned lanes = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(bad));
        if (lanes != 0)
            return i + (size_t)__builtin_ctz(lanes);
    }
    return count;
}

static AVX2 void scale_avx2(const float *values, float factor, size_t n, float *scaled_out)
{
    const __m256 f = _mm256_set1_ps(factor);
    for (size_t i = 0; i < n; i += LANES) {
        __m256i mask = tail_mask(n - i < LANES ? n - i : LANES);
        __m256 x = _mm256_maskload_ps(values + i, mask);
        _mm256_maskstore_ps(scaled_out + i, mask, _mm256_mul_ps(x, f));
    }
}

const struct vecmath_kernels vecmath_kernels_avx2 = {
    .name = "avx2",
    .l2_squared = l2_squared_avx2,
    .dot = dot_avx2,
    .l1 = l1_avx2,
    .pieces = pieces_avx2,
    .hamming = hamming_avx2,
    .block_l2_squared = block_l2_squared_avx2,
    .block_dot = block_dot_avx2,
    .block_cosine = block_cosine_avx2,
    .block_l1 = block_l1_avx2,
    .block_hamming = block_hamming_avx2,
    .tile_dot = tile_dot_avx2,
    .first_nonfinite = first_nonfinite_avx2,
    .scale = scale_avx2,
    .elements = &vecmath_elements_avx2,
};
