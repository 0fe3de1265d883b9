/* vecmath_avx512.c: AVX-512 (F, BW, VL, DQ; VPOPCNTDQ for counting bits where present).
 *
 * One template scores R rows, with R = 1 (pairs) or 4 (blocks). It is inlined with R and the metric
 * constant, so every inner loop unrolls (VECMATH_UNROLL tells gcc to). Both sizes add in the same
 * order, so that a row's score does not depend on how many rows were scored with it. Sixteen sums
 * (4 rows x 4) fit in the 32 registers and keep both multiply-add ports busy; each load of the
 * query serves four rows.
 *
 * The last, partial vector is a masked load: lanes outside the mask are not read and count as zero,
 * which adds nothing under any of these metrics.
 */
#include <immintrin.h>

#include "elements_internal.h"

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define AVX512_POPCNT                                                                              \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,avx512vpopcntdq")))
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16, SUMS = 4, STEP = LANES * SUMS, COSINE_STEP = 2 * LANES, BYTES = 64 };

enum metric { L2_SQUARED, DOT, L1 };

INLINE AVX512 __m512 add_term(enum metric metric, __m512 sum, __m512 q, __m512 r)
{
    if (metric == DOT)
        return _mm512_fmadd_ps(q, r, sum);
    __m512 difference = _mm512_sub_ps(q, r);
    if (metric == L2_SQUARED)
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

/* Scores R rows. `next` is NULL for pairs, whose rows nobody knows ahead. */
INLINE AVX512 void score_rows(enum metric metric, const size_t rows, const float *query,
                              const void *const *row, const void *const *next, size_t n,
                              float *score_out)
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
                const float *at = (const float *)row[r] + i + s * LANES;
                sum[r][s] = add_term(metric, sum[r][s], q, _mm512_loadu_ps(at));
                if (next != NULL)
                    VECMATH_PREFETCH((const float *)next[r] + i + s * LANES);
            }
        }
    }
    for (; i + LANES <= n; i += LANES) {
        __m512 q = _mm512_loadu_ps(query + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            sum[r][0] = add_term(metric, sum[r][0], q, _mm512_loadu_ps((const float *)row[r] + i));
            if (next != NULL)
                VECMATH_PREFETCH((const float *)next[r] + i);
        }
    }
    if (i < n) {
        __mmask16 mask = tail_mask(n - i);
        __m512 q = _mm512_maskz_loadu_ps(mask, query + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512 x = _mm512_maskz_loadu_ps(mask, (const float *)row[r] + i);
            sum[r][1] = add_term(metric, sum[r][1], q, x);
            if (next != NULL)
                VECMATH_PREFETCH((const float *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        score_out[r] = total(_mm512_add_ps(_mm512_add_ps(sum[r][0], sum[r][1]),
                                           _mm512_add_ps(sum[r][2], sum[r][3])));
}

/* Dot products and the rows' squared norms; score_out: R dots, then R norms. Two sums of each. */
INLINE AVX512 void cosine_rows(const size_t rows, const float *query, const void *const *row,
                               const void *const *next, size_t n, float *score_out)
{
    __m512 dot[VECMATH_BLOCK][2];
    __m512 norm[VECMATH_BLOCK][2];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        VECMATH_UNROLL
        for (size_t s = 0; s < 2; s++)
            dot[r][s] = norm[r][s] = _mm512_setzero_ps();
    }
    size_t i = 0;
    for (; i + COSINE_STEP <= n; i += COSINE_STEP) {
        VECMATH_UNROLL
        for (size_t s = 0; s < 2; s++) {
            __m512 q = _mm512_loadu_ps(query + i + s * LANES);
            VECMATH_UNROLL
            for (size_t r = 0; r < rows; r++) {
                __m512 x = _mm512_loadu_ps((const float *)row[r] + i + s * LANES);
                dot[r][s] = _mm512_fmadd_ps(q, x, dot[r][s]);
                norm[r][s] = _mm512_fmadd_ps(x, x, norm[r][s]);
                if (next != NULL)
                    VECMATH_PREFETCH((const float *)next[r] + i + s * LANES);
            }
        }
    }
    for (; i < n; i += LANES) {
        __mmask16 mask = n - i < LANES ? tail_mask(n - i) : (__mmask16)0xffff;
        __m512 q = _mm512_maskz_loadu_ps(mask, query + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            __m512 x = _mm512_maskz_loadu_ps(mask, (const float *)row[r] + i);
            dot[r][0] = _mm512_fmadd_ps(q, x, dot[r][0]);
            norm[r][0] = _mm512_fmadd_ps(x, x, norm[r][0]);
            if (next != NULL)
                VECMATH_PREFETCH((const float *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        score_out[r] = total(_mm512_add_ps(dot[r][0], dot[r][1]));
        score_out[rows + r] = total(_mm512_add_ps(norm[r][0], norm[r][1]));
    }
}

/* ---- counting bits ---- */

/* Bits set in each 64-bit lane, by looking up nibbles. */
INLINE AVX512 __m512i count_by_nibble(__m512i bits)
{
    const __m512i counts =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i nibble = _mm512_set1_epi8(0x0f);
    __m512i low = _mm512_and_si512(bits, nibble);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(bits, 4), nibble);
    __m512i sum =
        _mm512_add_epi8(_mm512_shuffle_epi8(counts, low), _mm512_shuffle_epi8(counts, high));
    return _mm512_sad_epu8(sum, _mm512_setzero_si512());
}

/* A macro, because the two versions differ in their target, which a template cannot take as
 * argument. */
/* clang-format off: it takes VECMATH_UNROLL for a statement */
#define HAMMING_ROWS(name, TARGET, count_bits)                                                     \
    INLINE TARGET void name(const size_t rows, const uint8_t *query, const void *const *row,       \
                            const void *const *next, size_t byte_count, uint64_t *bits_out)        \
    {                                                                                              \
        __m512i sum[VECMATH_BLOCK] = {_mm512_setzero_si512(), _mm512_setzero_si512(),              \
                                      _mm512_setzero_si512(), _mm512_setzero_si512()};             \
        for (size_t i = 0; i < byte_count; i += BYTES) {                                           \
            __mmask64 mask =                                                                       \
                byte_count - i < BYTES ? ((__mmask64)1 << (byte_count - i)) - 1 : ~(__mmask64)0;   \
            __m512i q = _mm512_maskz_loadu_epi8(mask, query + i);                                  \
            VECMATH_UNROLL                                                                         \
            for (size_t r = 0; r < rows; r++) {                                                    \
                __m512i x = _mm512_maskz_loadu_epi8(mask, (const uint8_t *)row[r] + i);            \
                sum[r] = _mm512_add_epi64(sum[r], count_bits(_mm512_xor_si512(q, x)));             \
                if (next != NULL)                                                                  \
                    VECMATH_PREFETCH((const uint8_t *)next[r] + i);                                \
            }                                                                                      \
        }                                                                                          \
        VECMATH_UNROLL                                                                             \
        for (size_t r = 0; r < rows; r++)                                                          \
            bits_out[r] = (uint64_t)_mm512_reduce_add_epi64(sum[r]);                               \
    }
/* clang-format on */

HAMMING_ROWS(hamming_rows_nibble, AVX512, count_by_nibble)
HAMMING_ROWS(hamming_rows_popcnt, AVX512_POPCNT, _mm512_popcnt_epi64)

static AVX512 uint64_t hamming_avx512(const uint8_t *a, const uint8_t *b, size_t byte_count)
{
    const void *row[1] = {b};
    uint64_t bits;
    hamming_rows_nibble(1, a, row, NULL, byte_count, &bits);
    return bits;
}

static AVX512_POPCNT uint64_t hamming_avx512_popcnt(const uint8_t *a, const uint8_t *b,
                                                    size_t byte_count)
{
    const void *row[1] = {b};
    uint64_t bits;
    hamming_rows_popcnt(1, a, row, NULL, byte_count, &bits);
    return bits;
}

static AVX512 void block_hamming_avx512(const void *query, const void *const row[VECMATH_BLOCK],
                                        const void *const next[VECMATH_BLOCK], size_t n,
                                        float *score_out)
{
    uint64_t bits[VECMATH_BLOCK];
    hamming_rows_nibble(VECMATH_BLOCK, query, row, next, n, bits);
    VECMATH_UNROLL
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        score_out[r] = (float)bits[r];
}

static AVX512_POPCNT void block_hamming_avx512_popcnt(const void *query,
                                                      const void *const row[VECMATH_BLOCK],
                                                      const void *const next[VECMATH_BLOCK],
                                                      size_t n, float *score_out)
{
    uint64_t bits[VECMATH_BLOCK];
    hamming_rows_popcnt(VECMATH_BLOCK, query, row, next, n, bits);
    VECMATH_UNROLL
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        score_out[r] = (float)bits[r];
}

/* ---- the kernels ---- */

#define PAIR_AND_BLOCK(name, metric)                                                               \
    static AVX512 float name##_avx512(const float *a, const float *b, size_t n)                    \
    {                                                                                              \
        const void *row[1] = {b};                                                                  \
        float score;                                                                               \
        score_rows(metric, 1, a, row, NULL, n, &score);                                            \
        return score;                                                                              \
    }                                                                                              \
    static AVX512 void block_##name##_avx512(                                                      \
        const void *query, const void *const row[VECMATH_BLOCK],                                   \
        const void *const next[VECMATH_BLOCK], size_t n, float *score_out)                         \
    {                                                                                              \
        score_rows(metric, VECMATH_BLOCK, query, row, next, n, score_out);                         \
    }

PAIR_AND_BLOCK(l2_squared, L2_SQUARED)
PAIR_AND_BLOCK(dot, DOT)
PAIR_AND_BLOCK(l1, L1)

static AVX512 void pieces_avx512(const float *a, const float *b, size_t n,
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

static AVX512 void block_cosine_avx512(const void *query, const void *const row[VECMATH_BLOCK],
                                       const void *const next[VECMATH_BLOCK], size_t n,
                                       float *score_out)
{
    cosine_rows(VECMATH_BLOCK, query, row, next, n, score_out);
}

/* One sum for each pair: sixteen chains, and eight loads for sixteen multiply-adds. */
static AVX512 void tile_dot_avx512(const float *const query[VECMATH_TILE],
                                   const float *const row[VECMATH_TILE], size_t n,
                                   float score_out[VECMATH_TILE * VECMATH_TILE])
{
    __m512 sum[VECMATH_TILE][VECMATH_TILE];
    VECMATH_UNROLL
    for (size_t q = 0; q < VECMATH_TILE; q++) {
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_TILE; r++)
            sum[q][r] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < n; i += LANES) {
        __mmask16 mask = n - i < LANES ? tail_mask(n - i) : (__mmask16)0xffff;
        __m512 x[VECMATH_TILE];
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_TILE; r++)
            x[r] = _mm512_maskz_loadu_ps(mask, row[r] + i);
        VECMATH_UNROLL
        for (size_t q = 0; q < VECMATH_TILE; q++) {
            __m512 value = _mm512_maskz_loadu_ps(mask, query[q] + i);
            VECMATH_UNROLL
            for (size_t r = 0; r < VECMATH_TILE; r++)
                sum[q][r] = _mm512_fmadd_ps(value, x[r], sum[q][r]);
        }
    }
    VECMATH_UNROLL
    for (size_t q = 0; q < VECMATH_TILE; q++) {
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_TILE; r++)
            score_out[q * VECMATH_TILE + r] = total(sum[q][r]);
    }
}

/* fpclass: quiet NaN 0x01, +infinity 0x08, -infinity 0x10, signalling NaN 0x80. */
INLINE AVX512 __mmask16 bad_lanes(__mmask16 mask, const float *values)
{
    return _mm512_fpclass_ps_mask(_mm512_maskz_loadu_ps(mask, values), 0x99);
}

static AVX512 size_t first_nonfinite_avx512(const float *values, size_t count)
{
    size_t i = 0;
    for (; i + STEP <= count; i += STEP) {
        unsigned bad = 0;
        VECMATH_UNROLL
        for (size_t s = 0; s < SUMS; s++)
            bad |= bad_lanes(0xffff, values + i + s * LANES);
        if (bad != 0)
            break;
    }
    for (; i < count; i += LANES) {
        __mmask16 mask = count - i < LANES ? tail_mask(count - i) : (__mmask16)0xffff;
        unsigned bad = bad_lanes(mask, values + i);
        if (bad != 0)
            return i + (size_t)__builtin_ctz(bad);
    }
    return count;
}

static AVX512 void scale_avx512(const float *values, float factor, size_t n, float *scaled_out)
{
    const __m512 f = _mm512_set1_ps(factor);
    for (size_t i = 0; i < n; i += LANES) {
        __mmask16 mask = n - i < LANES ? tail_mask(n - i) : (__mmask16)0xffff;
        __m512 x = _mm512_maskz_loadu_ps(mask, values + i);
        _mm512_mask_storeu_ps(scaled_out + i, mask, _mm512_mul_ps(x, f));
    }
}

#define FLOAT_KERNELS                                                                              \
    .l2_squared = l2_squared_avx512, .dot = dot_avx512, .l1 = l1_avx512, .pieces = pieces_avx512,  \
    .block_l2_squared = block_l2_squared_avx512, .block_dot = block_dot_avx512,                    \
    .block_cosine = block_cosine_avx512, .block_l1 = block_l1_avx512, .tile_dot = tile_dot_avx512, \
    .first_nonfinite = first_nonfinite_avx512, .scale = scale_avx512,                              \
    .elements = &vecmath_elements_avx512

const struct vecmath_kernels vecmath_kernels_avx512 = {
    .name = "avx512",
    FLOAT_KERNELS,
    .hamming = hamming_avx512,
    .block_hamming = block_hamming_avx512,
};

const struct vecmath_kernels vecmath_kernels_avx512_popcnt = {
    .name = "avx512",
    FLOAT_KERNELS,
    .hamming = hamming_avx512_popcnt,
    .block_hamming = block_hamming_avx512_popcnt,
};
