/* pq4_neon.c: NEON on AArch64. TBL looks up 16 rows of one part; entries are widened as they are
 * added. */
#include <arm_neon.h>

#include "pq4_internal.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 4, GROUP = 8 };

INLINE void widen(uint16x8_t sums, uint32_t *sum_out)
{
    vst1q_u32(sum_out, vaddw_u16(vld1q_u32(sum_out), vget_low_u16(sums)));
    vst1q_u32(sum_out + LANES, vaddw_high_u16(vld1q_u32(sum_out + LANES), sums));
}

static void sums_neon(const uint8_t *tables, const uint8_t *block, size_t part_count,
                      uint32_t *sum_out)
{
    const uint8x16_t nibble = vdupq_n_u8(15);
    memset(sum_out, 0, VECMATH_PQ4_ROWS * sizeof *sum_out);
    for (size_t from = 0; from < part_count; from += PQ4_FOLD) {
        const size_t to = part_count - from < PQ4_FOLD ? part_count : from + PQ4_FOLD;
        uint16x8_t a = vdupq_n_u16(0);
        uint16x8_t b = a;
        uint16x8_t c = a;
        uint16x8_t d = a;
        for (size_t part = from; part < to; part++) {
            uint8x16_t table = vld1q_u8(tables + part * PQ4_TABLE);
            uint8x16_t numbers = vld1q_u8(block + part * PQ4_TABLE);
            uint8x16_t low = vqtbl1q_u8(table, vandq_u8(numbers, nibble));
            uint8x16_t high = vqtbl1q_u8(table, vshrq_n_u8(numbers, 4));
            a = vaddw_u8(a, vget_low_u8(low));
            b = vaddw_high_u8(b, low);
            c = vaddw_u8(c, vget_low_u8(high));
            d = vaddw_high_u8(d, high);
        }
        widen(a, sum_out);
        widen(b, sum_out + GROUP);
        widen(c, sum_out + 2 * GROUP);
        widen(d, sum_out + 3 * GROUP);
    }
}

static uint32_t finish_neon(const uint32_t *sums, float base, float unit, const float *terms,
                            float bound, float *distance_out)
{
    static const uint32_t bits[LANES] = {1, 2, 4, 8};
    uint32_t mask = 0;
    for (size_t i = 0; i < VECMATH_PQ4_ROWS; i += LANES) {
        float32x4_t start = vaddq_f32(vdupq_n_f32(base), vld1q_f32(terms + i));
        float32x4_t sum = vcvtq_f32_u32(vld1q_u32(sums + i));
        float32x4_t distance = vfmaq_f32(start, vdupq_n_f32(unit), sum);
        uint32x4_t near = vcleq_f32(distance, vdupq_n_f32(bound));
        vst1q_f32(distance_out + i, distance);
        mask |= vaddvq_u32(vandq_u32(near, vld1q_u32(bits))) << i;
    }
    return mask;
}

const struct vecmath_pq4_kernels vecmath_pq4_neon = {
    .name = "neon",
    .sums = sums_neon,
    .encode = vecmath_pq4_encode_scalar,
    .finish = finish_neon,
};
