/* bits_neon.c: NEON on AArch64, without and with the dot product instructions, in quarters of a
 * piece; the last bytes go through a zero-filled copy. */
#include <arm_neon.h>
#include <math.h>

#include "bits_internal.h"

#define PLAIN
#if defined(__clang__)
#define DOTPROD __attribute__((target("dotprod")))
#else
#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define INLINE static inline __attribute__((always_inline))

enum { BYTES = 16 };

INLINE uint8x16_t load_up_to(const uint8_t *at, size_t count)
{
    if (count >= BYTES)
        return vld1q_u8(at);
    uint8_t copy[BYTES] = {0};
    memcpy(copy, at, count);
    return vld1q_u8(copy);
}

INLINE int8x16_t digit_of(uint8x16_t bytes, unsigned shift, unsigned width)
{
    const uint8x16_t mask = vdupq_n_u8((uint8_t)((1u << width) - 1));
    uint8x16_t moved = vshlq_u8(bytes, vdupq_n_s8((int8_t) - (int)shift));
    return vreinterpretq_s8_u8(vandq_u8(moved, mask));
}

INLINE const int8_t *numbers_at(const int8_t *numbers, size_t i, unsigned shift, unsigned width)
{
    return numbers + (i / BITS_PIECE * BITS_PIECE * 8 + shift * BITS_PIECE) / width +
           i % BITS_PIECE;
}

INLINE int32x4_t add_products(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vpadalq_s16(sum, vmull_s8(vget_high_s8(a), vget_high_s8(b)));
}

/* The instruction by name: clang 14 declares vdotq_s32() only where the whole file may use it. */
INLINE DOTPROD int32x4_t sdot(int32x4_t sum, int8x16_t a, int8x16_t b)
{
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
    return sum;
}

#define ROWS_NEON(name, target, add)                                                               \
    INLINE target void name(const size_t rows, const unsigned width, const int8_t *numbers,        \
                            const void *const *row, const void *const *next, size_t bytes,         \
                            int32_t *sum_out)                                                      \
    {                                                                                              \
        int32x4_t sum[VECMATH_BLOCK];                                                              \
        for (size_t r = 0; r < rows; r++)                                                          \
            sum[r] = vdupq_n_s32(0);                                                               \
        for (size_t i = 0; i < bytes; i += BYTES)                                                  \
            for (size_t r = 0; r < rows; r++) {                                                    \
                uint8x16_t piece = load_up_to((const uint8_t *)row[r] + i, bytes - i);             \
                for (unsigned shift = 0; shift < 8; shift += width)                                \
                    sum[r] = add(sum[r], digit_of(piece, shift, width),                            \
                                 vld1q_s8(numbers_at(numbers, i, shift, width)));                  \
                if (next != NULL && i % 64 == 0)                                                   \
                    VECMATH_PREFETCH((const uint8_t *)next[r] + i);                                \
            }                                                                                      \
        for (size_t r = 0; r < rows; r++)                                                          \
            sum_out[r] = vaddvq_s32(sum[r]);                                                       \
    }

ROWS_NEON(rows_wide, PLAIN, add_products)
ROWS_NEON(rows_sdot, DOTPROD, sdot)

#define TABLE_TARGET PLAIN
#define TABLE_NAME   neon
#define TABLE_ROWS   rows_wide
#include "bits_table.inc"

#define TABLE_TARGET DOTPROD
#define TABLE_NAME   neon_dotprod
#define TABLE_ROWS   rows_sdot
#include "bits_table.inc"
