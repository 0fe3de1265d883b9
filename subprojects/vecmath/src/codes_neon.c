/* codes_neon.c: NEON on AArch64, without and with the dot product instructions (SDOT).
 *
 * SDOT multiplies signed bytes, four products to a lane, so rows need no correction; a query of 13
 * bits is 64 x high + low, as in codes_avx512.c. Without SDOT bytes are multiplied to 16 bits
 * (SMULL) or widened first. Partial vectors go through zero-filled copies.
 */
#include <arm_neon.h>

#include "codes_internal.h"

#define PLAIN
#if defined(__clang__)
#define DOTPROD __attribute__((target("dotprod")))
#else
#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define INLINE static inline __attribute__((always_inline))

enum { BYTES = 16, SQ4_BYTES = 64 };

INLINE int8x16_t load_up_to(const int8_t *at, size_t count)
{
    if (count >= BYTES)
        return vld1q_s8(at);
    int8_t copy[BYTES] = {0};
    memcpy(copy, at, count);
    return vld1q_s8(copy);
}

INLINE void prefetch_line(const void *const *next, size_t r, size_t i)
{
    if (next != NULL && i % 64 == 0)
        VECMATH_PREFETCH((const uint8_t *)next[r] + i);
}

/* ---- without SDOT ---- */

INLINE int32x4_t add_wide(int32x4_t sum, int8x16_t bytes, const int16_t *wide)
{
    int16x8_t low = vmovl_s8(vget_low_s8(bytes));
    int16x8_t high = vmovl_s8(vget_high_s8(bytes));
    int16x8_t first = vld1q_s16(wide);
    int16x8_t second = vld1q_s16(wide + 8);
    sum = vmlal_s16(sum, vget_low_s16(low), vget_low_s16(first));
    sum = vmlal_s16(sum, vget_high_s16(low), vget_high_s16(first));
    sum = vmlal_s16(sum, vget_low_s16(high), vget_low_s16(second));
    return vmlal_s16(sum, vget_high_s16(high), vget_high_s16(second));
}

/* Products of bytes: 2 x 128 x 128 would just leave 16 bits, so each half is widened alone. */
INLINE int32x4_t add_bytes(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vpadalq_s16(sum, vmull_s8(vget_high_s8(a), vget_high_s8(b)));
}

INLINE void sq8_rows_wide(const size_t rows, const struct vecmath_sq8_query *query,
                          const void *const *row, const void *const *next, int64_t *dot_out)
{
    const size_t n = query->dimension;
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = 0;
    for (size_t from = 0; from < n; from += CODE_FOLD) {
        const size_t to = n - from < CODE_FOLD ? n : from + CODE_FOLD;
        int32x4_t sum[VECMATH_BLOCK];
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++)
            sum[r] = vdupq_n_s32(0);
        for (size_t i = from; i < to; i += BYTES) {
            VECMATH_UNROLL
            for (size_t r = 0; r < rows; r++) {
                int8x16_t bytes = load_up_to((const int8_t *)row[r] + i, n - i);
                sum[r] = add_wide(sum[r], bytes, query->wide + i);
                prefetch_line(next, r, i);
            }
        }
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++)
            dot_out[r] += vaddlvq_s32(sum[r]);
    }
}

INLINE void s8_rows_wide(const size_t rows, const int8_t *query, const void *const *row,
                         const void *const *next, size_t n, int32_t *dot_out)
{
    int32x4_t sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = vdupq_n_s32(0);
    for (size_t i = 0; i < n; i += BYTES) {
        int8x16_t numbers = load_up_to(query + i, n - i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            sum[r] = add_bytes(sum[r], load_up_to((const int8_t *)row[r] + i, n - i), numbers);
            prefetch_line(next, r, i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = vaddvq_s32(sum[r]);
}

INLINE void sq4_rows_wide(const size_t rows, const struct vecmath_sq4_query *query,
                          const void *const *row, const void *const *next, int32_t *dot_out)
{
    const uint8x16_t nibble = vdupq_n_u8(15);
    const size_t size = vecmath_sq4_code_bytes(query->dimension);
    int32x4_t sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = vdupq_n_s32(0);
    for (size_t i = 0; i < size; i += BYTES) {
        const int8_t *values = query->values + i / SQ4_BYTES * VECMATH_SQ4_BLOCK + i % SQ4_BYTES;
        int8x16_t first = vld1q_s8(values);
        int8x16_t second = vld1q_s8(values + SQ4_BYTES);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            int8x16_t bytes = load_up_to((const int8_t *)row[r] + i, size - i);
            uint8x16_t both = vreinterpretq_u8_s8(bytes);
            sum[r] = add_bytes(sum[r], vreinterpretq_s8_u8(vandq_u8(both, nibble)), first);
            sum[r] = add_bytes(sum[r], vreinterpretq_s8_u8(vshrq_n_u8(both, 4)), second);
            prefetch_line(next, r, i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = vaddvq_s32(sum[r]);
}

/* ---- with SDOT ---- */

/* sum + four products a lane. The instruction by name: clang 14 declares vdotq_s32() only where the
 * whole file may use it. */
INLINE DOTPROD int32x4_t sdot(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
    return sum;
}

INLINE DOTPROD void sq8_rows_sdot(const size_t rows, const struct vecmath_sq8_query *query,
                                  const void *const *row, const void *const *next, int64_t *dot_out)
{
    const size_t n = query->dimension;
    int32x4_t high[VECMATH_BLOCK];
    int32x4_t low[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        high[r] = low[r] = vdupq_n_s32(0);
    for (size_t i = 0; i < n; i += BYTES) {
        int8x16_t query_high = vld1q_s8(query->high + i);
        int8x16_t query_low = vld1q_s8(query->low + i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            int8x16_t bytes = load_up_to((const int8_t *)row[r] + i, n - i);
            high[r] = sdot(high[r], bytes, query_high);
            low[r] = sdot(low[r], bytes, query_low);
            prefetch_line(next, r, i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = 64 * vaddlvq_s32(high[r]) + vaddlvq_s32(low[r]);
}

INLINE DOTPROD void s8_rows_sdot(const size_t rows, const int8_t *query, const void *const *row,
                                 const void *const *next, size_t n, int32_t *dot_out)
{
    int32x4_t sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = vdupq_n_s32(0);
    for (size_t i = 0; i < n; i += BYTES) {
        int8x16_t numbers = load_up_to(query + i, n - i);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            sum[r] = sdot(sum[r], load_up_to((const int8_t *)row[r] + i, n - i), numbers);
            prefetch_line(next, r, i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = vaddvq_s32(sum[r]);
}

INLINE DOTPROD void sq4_rows_sdot(const size_t rows, const struct vecmath_sq4_query *query,
                                  const void *const *row, const void *const *next, int32_t *dot_out)
{
    const uint8x16_t nibble = vdupq_n_u8(15);
    const size_t size = vecmath_sq4_code_bytes(query->dimension);
    int32x4_t sum[VECMATH_BLOCK];
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        sum[r] = vdupq_n_s32(0);
    for (size_t i = 0; i < size; i += BYTES) {
        const int8_t *values = query->values + i / SQ4_BYTES * VECMATH_SQ4_BLOCK + i % SQ4_BYTES;
        int8x16_t first = vld1q_s8(values);
        int8x16_t second = vld1q_s8(values + SQ4_BYTES);
        VECMATH_UNROLL
        for (size_t r = 0; r < rows; r++) {
            int8x16_t bytes = load_up_to((const int8_t *)row[r] + i, size - i);
            uint8x16_t both = vreinterpretq_u8_s8(bytes);
            sum[r] = sdot(sum[r], vreinterpretq_s8_u8(vandq_u8(both, nibble)), first);
            sum[r] = sdot(sum[r], vreinterpretq_s8_u8(vshrq_n_u8(both, 4)), second);
            prefetch_line(next, r, i);
        }
    }
    VECMATH_UNROLL
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = vaddvq_s32(sum[r]);
}

#define TABLE_TARGET PLAIN
#define TABLE_NAME   neon
#define TABLE_SQ8    sq8_rows_wide
#define TABLE_S8     s8_rows_wide
#define TABLE_SQ4    sq4_rows_wide
#include "codes_table.inc"

#define TABLE_TARGET DOTPROD
#define TABLE_NAME   neon_dotprod
#define TABLE_SQ8    sq8_rows_sdot
#define TABLE_S8     s8_rows_sdot
#define TABLE_SQ4    sq4_rows_sdot
#include "codes_table.inc"
