/* elements_neon.c: rows of halves and bytes with NEON. Conversion between halves and floats is part
 * of every AArch64 processor.
 *
 * The template of vecmath_neon.c with another load: the sums, and their order, are the same.
 * Partial vectors go through a zero-filled copy. */
#include <arm_neon.h>

#include "elements_internal.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 4, SUMS = 4, STEP = LANES * SUMS, BYTES = 16 };

INLINE float32x4_t add_term(enum vecmath_sum kind, float32x4_t sum, float32x4_t q, float32x4_t r)
{
    if (kind == SUM_DOT)
        return vfmaq_f32(sum, q, r);
    if (kind == SUM_L1)
        return vaddq_f32(sum, vabdq_f32(q, r));
    float32x4_t difference = vsubq_f32(q, r);
    return vfmaq_f32(sum, difference, difference);
}

INLINE size_t byte_of(enum vecmath_narrow_row kind, size_t i)
{
    return kind == ROW_F16 ? 2 * i : i;
}

INLINE float32x4_t widen(enum vecmath_narrow_row kind, uint64_t bits)
{
    if (kind == ROW_F16)
        return vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(bits)));
    int16x4_t wide = vget_low_s16(vmovl_s8(vreinterpret_s8_u64(vcreate_u64(bits))));
    return vcvtq_f32_s32(vmovl_s16(wide));
}

/* The first `count` of 4, the other lanes 0. */
INLINE float32x4_t load_some(enum vecmath_narrow_row kind, const void *row, size_t i, size_t count)
{
    uint64_t bits = 0;
    memcpy(&bits, (const char *)row + byte_of(kind, i), byte_of(kind, count));
    return widen(kind, bits);
}

INLINE float32x4_t load(enum vecmath_narrow_row kind, const void *row, size_t i)
{
    return load_some(kind, row, i, LANES);
}

INLINE float32x4_t load_floats(const float *values, size_t count)
{
    float lane[LANES] = {0};
    memcpy(lane, values, count * sizeof(float));
    return vld1q_f32(lane);
}

INLINE void score_rows(enum vecmath_narrow_row kind, enum vecmath_sum metric, const size_t rows,
                       const float *query, const void *const *row, const void *const *next,
                       size_t n, float *score_out)
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
                sum[r][s] = add_term(metric, sum[r][s], q, load(kind, row[r], i + s * LANES));
                if (next != NULL && s == 0)
                    VECMATH_PREFETCH((const char *)next[r] + byte_of(kind, i));
            }
        }
    }
    for (size_t s = 0; i < n; i += LANES, s++) {
        size_t count = n - i < LANES ? n - i : LANES;
        float32x4_t q = load_floats(query + i, count);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r][s] = add_term(metric, sum[r][s], q, load_some(kind, row[r], i, count));
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        score_out[r] =
            vaddvq_f32(vaddq_f32(vaddq_f32(sum[r][0], sum[r][1]), vaddq_f32(sum[r][2], sum[r][3])));
}

/* The row's product with itself, in the order of score_rows. */
INLINE float norm_row(enum vecmath_narrow_row kind, const void *row, size_t n)
{
    float32x4_t sum[SUMS] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    for (size_t i = 0; i < n; i += LANES) {
        float32x4_t x = load_some(kind, row, i, n - i < LANES ? n - i : LANES);
        sum[i / LANES % SUMS] = vfmaq_f32(sum[i / LANES % SUMS], x, x);
    }
    return vaddvq_f32(vaddq_f32(vaddq_f32(sum[0], sum[1]), vaddq_f32(sum[2], sum[3])));
}

/* ---- bytes among each other ---- */

INLINE int8x16_t load_bytes(const void *bytes, size_t i, size_t n)
{
    int8_t lanes[BYTES] = {0};
    if (n - i >= BYTES)
        return vld1q_s8((const int8_t *)bytes + i);
    memcpy(lanes, (const int8_t *)bytes + i, n - i);
    return vld1q_s8(lanes);
}

/* An absolute difference takes 8 bits without sign, its square 16; a 32-bit lane gets at most
 * 65,535 / 4 of them: 2^30. */
INLINE void bytes_l2_rows(const size_t rows, const void *query, const void *const *row,
                          const void *const *next, size_t n, uint32_t *sum_out)
{
    uint32x4_t sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = vdupq_n_u32(0);
    for (size_t i = 0; i < n; i += BYTES) {
        int8x16_t q = load_bytes(query, i, n);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            uint8x16_t d = vreinterpretq_u8_s8(vabdq_s8(q, load_bytes(row[r], i, n)));
            sum[r] = vpadalq_u16(sum[r], vmull_u8(vget_low_u8(d), vget_low_u8(d)));
            sum[r] = vpadalq_u16(sum[r], vmull_high_u8(d, d));
            if (next != NULL)
                VECMATH_PREFETCH((const int8_t *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum_out[r] = vaddvq_u32(sum[r]);
}

INLINE void bytes_l1_rows(const size_t rows, const void *query, const void *const *row,
                          const void *const *next, size_t n, uint32_t *sum_out)
{
    uint32x4_t sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = vdupq_n_u32(0);
    for (size_t i = 0; i < n; i += BYTES) {
        int8x16_t q = load_bytes(query, i, n);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            uint8x16_t d = vreinterpretq_u8_s8(vabdq_s8(q, load_bytes(row[r], i, n)));
            sum[r] = vpadalq_u16(sum[r], vpaddlq_u8(d));
            if (next != NULL)
                VECMATH_PREFETCH((const int8_t *)next[r] + i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum_out[r] = vaddvq_u32(sum[r]);
}

/* ---- conversions ---- */

INLINE void widen_halves(const void *halves, size_t count, float *values_out)
{
    for (size_t i = 0; i < count; i += LANES) {
        size_t left = count - i < LANES ? count - i : LANES;
        float lanes[LANES];
        vst1q_f32(lanes, load_some(ROW_F16, halves, i, left));
        memcpy(values_out + i, lanes, left * sizeof(float));
    }
}

INLINE void narrow_floats(const void *values, size_t count, void *halves_out)
{
    for (size_t i = 0; i < count; i += LANES) {
        size_t left = count - i < LANES ? count - i : LANES;
        float lanes[LANES] = {0};
        memcpy(lanes, (const char *)values + 4 * i, left * sizeof(float));
        uint64_t bits = vget_lane_u64(vreinterpret_u64_f16(vcvt_f16_f32(vld1q_f32(lanes))), 0);
        memcpy((char *)halves_out + 2 * i, &bits, left * 2);
    }
}

#define TABLE_TARGET
#define TABLE_NAME neon
#include "elements_table.inc"
