/* vecmath_neon.c: NEON on AArch64, where it is always present.
 *
 * The same template as for AVX-512 (vecmath_avx512.c tells why): four sums a row of four lanes
 * each, so a block uses 16 of the 32 registers for sums. NEON has no masked loads; the last,
 * partial vector goes through a zero-filled copy, which reads only what exists and adds nothing
 * else.
 */
#include <arm_neon.h>

#include "elements_internal.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 4, SUMS = 4, STEP = LANES * SUMS, COSINE_STEP = 2 * LANES, BYTES = 16 };

enum metric { L2_SQUARED, DOT, L1 };

INLINE float32x4_t add_term(enum metric metric, float32x4_t sum, float32x4_t q, float32x4_t r)
{
    if (metric == DOT)
        return vfmaq_f32(sum, q, r);
    if (metric == L1)
        return vaddq_f32(sum, vabdq_f32(q, r));
    float32x4_t difference = vsubq_f32(q, r);
    return vfmaq_f32(sum, difference, difference);
}

/* The first `count` (at most 4) floats, the other lanes zero. */
INLINE float32x4_t load_some(const float *values, size_t count)
{
    float lane[LANES] = {0};
    memcpy(lane, values, count * sizeof(float));
    return vld1q_f32(lane);
}

/* Scores R rows. `next` is NULL for pairs, whose rows nobody knows ahead. */
INLINE void score_rows(enum metric metric, const size_t rows, const float *query,
                       const void *const *row, const void *const *next, size_t n, float *score_out)
{
    float32x4_t sum[VECMATH_BLOCK][SUMS];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        VECMATH_UNROLL
        for (size_t s = 0; s < SUMS; s++)
            sum[r][s] = vdupq_n_f32(0);
    }
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        VECMATH_UNROLL
        for (size_t s = 0; s < SUMS; s++) {
            float32x4_t q = vld1q_f32(query + i + s * LANES);
            VECMATH_UNROLL
            for (size_t r = 0; r < rows; r++) {
                const float *at = (const float *)row[r] + i + s * LANES;
                sum[r][s] = add_term(metric, sum[r][s], q, vld1q_f32(at));
                if (next != NULL && s == 0) /* 16 floats are one line */
                    VECMATH_PREFETCH((const float *)next[r] + i);
            }
        }
    }
    for (size_t s = 0; i < n; i += LANES, s++) {
        size_t count = n - i < LANES ? n - i : LANES;
        float32x4_t q = load_some(query + i, count);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            float32x4_t x = load_some((const float *)row[r] + i, count);
            sum[r][s] = add_term(metric, sum[r][s], q, x);
            if (next != NULL && s == 0)
                VECMATH_PREFETCH((const float *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        score_out[r] =
            vaddvq_f32(vaddq_f32(vaddq_f32(sum[r][0], sum[r][1]), vaddq_f32(sum[r][2], sum[r][3])));
}

/* Dot products and the rows' squared norms; score_out: R dots, then R norms. Two sums of each. */
INLINE void cosine_rows(const size_t rows, const float *query, const void *const *row,
                        const void *const *next, size_t n, float *score_out)
{
    float32x4_t dot[VECMATH_BLOCK][2];
    float32x4_t norm[VECMATH_BLOCK][2];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        VECMATH_UNROLL
        for (size_t s = 0; s < 2; s++)
            dot[r][s] = norm[r][s] = vdupq_n_f32(0);
    }
    size_t i = 0;
    for (; i + COSINE_STEP <= n; i += COSINE_STEP) {
        VECMATH_UNROLL
        for (size_t s = 0; s < 2; s++) {
            float32x4_t q = vld1q_f32(query + i + s * LANES);
            VECMATH_UNROLL
            for (size_t r = 0; r < rows; r++) {
                float32x4_t x = vld1q_f32((const float *)row[r] + i + s * LANES);
                dot[r][s] = vfmaq_f32(dot[r][s], q, x);
                norm[r][s] = vfmaq_f32(norm[r][s], x, x);
                if (next != NULL && s == 0)
                    VECMATH_PREFETCH((const float *)next[r] + i);
            }
        }
    }
    for (; i < n; i += LANES) {
        size_t count = n - i < LANES ? n - i : LANES;
        float32x4_t q = load_some(query + i, count);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            float32x4_t x = load_some((const float *)row[r] + i, count);
            dot[r][0] = vfmaq_f32(dot[r][0], q, x);
            norm[r][0] = vfmaq_f32(norm[r][0], x, x);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++) {
        score_out[r] = vaddvq_f32(vaddq_f32(dot[r][0], dot[r][1]));
        score_out[rows + r] = vaddvq_f32(vaddq_f32(norm[r][0], norm[r][1]));
    }
}

/* ---- counting bits ---- */

INLINE uint64x2_t add_bits(uint64x2_t sum, uint8x16_t bits)
{
    return vpadalq_u32(sum, vpaddlq_u16(vpaddlq_u8(vcntq_u8(bits))));
}

INLINE uint8x16_t load_some_bytes(const uint8_t *bytes, size_t count)
{
    uint8_t lane[BYTES] = {0};
    memcpy(lane, bytes, count);
    return vld1q_u8(lane);
}

INLINE void hamming_rows(const size_t rows, const uint8_t *query, const void *const *row,
                         const void *const *next, size_t byte_count, uint64_t *bits_out)
{
    uint64x2_t sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = vdupq_n_u64(0);
    size_t i = 0;
    for (; i + BYTES <= byte_count; i += BYTES) {
        uint8x16_t q = vld1q_u8(query + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            sum[r] = add_bits(sum[r], veorq_u8(q, vld1q_u8((const uint8_t *)row[r] + i)));
            if (next != NULL)
                VECMATH_PREFETCH((const uint8_t *)next[r] + i);
        }
    }
    if (i < byte_count) {
        uint8x16_t q = load_some_bytes(query + i, byte_count - i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            uint8x16_t x = load_some_bytes((const uint8_t *)row[r] + i, byte_count - i);
            sum[r] = add_bits(sum[r], veorq_u8(q, x));
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        bits_out[r] = vaddvq_u64(sum[r]);
}

static uint64_t hamming_neon(const uint8_t *a, const uint8_t *b, size_t byte_count)
{
    const void *row[1] = {b};
    uint64_t bits;
    hamming_rows(1, a, row, NULL, byte_count, &bits);
    return bits;
}

static void block_hamming_neon(const void *query, const void *const row[VECMATH_BLOCK],
                               const void *const next[VECMATH_BLOCK], size_t n, float *score_out)
{
    uint64_t bits[VECMATH_BLOCK];
    hamming_rows(VECMATH_BLOCK, query, row, next, n, bits);
    VECMATH_UNROLL
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        score_out[r] = (float)bits[r];
}

/* ---- the kernels ---- */

#define PAIR_AND_BLOCK(name, metric)                                                               \
    static float name##_neon(const float *a, const float *b, size_t n)                             \
    {                                                                                              \
        const void *row[1] = {b};                                                                  \
        float score;                                                                               \
        score_rows(metric, 1, a, row, NULL, n, &score);                                            \
        return score;                                                                              \
    }                                                                                              \
    static void block_##name##_neon(const void *query, const void *const row[VECMATH_BLOCK],       \
                                    const void *const next[VECMATH_BLOCK], size_t n,               \
                                    float *score_out)                                              \
    {                                                                                              \
        score_rows(metric, VECMATH_BLOCK, query, row, next, n, score_out);                         \
    }

PAIR_AND_BLOCK(l2_squared, L2_SQUARED)
PAIR_AND_BLOCK(dot, DOT)
PAIR_AND_BLOCK(l1, L1)

static void pieces_neon(const float *a, const float *b, size_t n, struct vecmath_cosine_pieces *out)
{
    const void *row[1] = {b};
    const void *self[1] = {a};
    float raw[2];
    float raw_self[2];
    cosine_rows(1, a, row, NULL, n, raw);
    cosine_rows(1, a, self, NULL, n, raw_self);
    *out = (struct vecmath_cosine_pieces){raw[0], raw_self[1], raw[1]};
}

static void block_cosine_neon(const void *query, const void *const row[VECMATH_BLOCK],
                              const void *const next[VECMATH_BLOCK], size_t n, float *score_out)
{
    cosine_rows(VECMATH_BLOCK, query, row, next, n, score_out);
}

/* True when a lane's exponent is all ones, which NaN and infinities share. */
INLINE bool any_bad(const float *values)
{
    const uint32x4_t exponent = vdupq_n_u32(0x7f800000u);
    uint32x4_t bad = vdupq_n_u32(0);
    VECMATH_UNROLL
    for (size_t s = 0; s < SUMS; s++) {
        uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(values + s * LANES));
        bad = vorrq_u32(bad, vceqq_u32(vandq_u32(bits, exponent), exponent));
    }
    return vmaxvq_u32(bad) != 0;
}

static void tile_dot_neon(const float *const query[VECMATH_TILE],
                          const float *const row[VECMATH_TILE], size_t n,
                          float score_out[VECMATH_TILE * VECMATH_TILE])
{
    float32x4_t sum[VECMATH_TILE][VECMATH_TILE];
    VECMATH_UNROLL
    for (size_t q = 0; q < VECMATH_TILE; q++) {
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_TILE; r++)
            sum[q][r] = vdupq_n_f32(0);
    }
    for (size_t i = 0; i < n; i += LANES) {
        const size_t count = n - i < LANES ? n - i : LANES;
        float32x4_t x[VECMATH_TILE];
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_TILE; r++)
            x[r] = count == LANES ? vld1q_f32(row[r] + i) : load_some(row[r] + i, count);
        VECMATH_UNROLL
        for (size_t q = 0; q < VECMATH_TILE; q++) {
            float32x4_t value =
                count == LANES ? vld1q_f32(query[q] + i) : load_some(query[q] + i, count);
            VECMATH_UNROLL
            for (size_t r = 0; r < VECMATH_TILE; r++)
                sum[q][r] = vfmaq_f32(sum[q][r], value, x[r]);
        }
    }
    VECMATH_UNROLL
    for (size_t q = 0; q < VECMATH_TILE; q++) {
        VECMATH_UNROLL
        for (size_t r = 0; r < VECMATH_TILE; r++)
            score_out[q * VECMATH_TILE + r] = vaddvq_f32(sum[q][r]);
    }
}

static size_t first_nonfinite_neon(const float *values, size_t count)
{
    size_t i = 0;
    while (i + STEP <= count && !any_bad(values + i))
        i += STEP;
    return i + vecmath_kernels_scalar.first_nonfinite(values + i, count - i);
}

static void scale_neon(const float *values, float factor, size_t n, float *scaled_out)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vst1q_f32(scaled_out + i, vmulq_n_f32(vld1q_f32(values + i), factor));
    for (; i < n; i++)
        scaled_out[i] = values[i] * factor;
}

const struct vecmath_kernels vecmath_kernels_neon = {
    .name = "neon",
    .l2_squared = l2_squared_neon,
    .dot = dot_neon,
    .l1 = l1_neon,
    .pieces = pieces_neon,
    .hamming = hamming_neon,
    .block_l2_squared = block_l2_squared_neon,
    .block_dot = block_dot_neon,
    .block_cosine = block_cosine_neon,
    .block_l1 = block_l1_neon,
    .block_hamming = block_hamming_neon,
    .tile_dot = tile_dot_neon,
    .first_nonfinite = first_nonfinite_neon,
    .scale = scale_neon,
    .elements = &vecmath_elements_neon,
};
