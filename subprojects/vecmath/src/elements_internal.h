/* elements_internal.h: what one implementation provides for rows of halves and of bytes.
 *
 * As in vecmath_internal.h an implementation is a constant table, and how rows lie in memory, and
 * what overflows, is elements.c's business.
 */
#ifndef VECMATH_ELEMENTS_INTERNAL_H
#define VECMATH_ELEMENTS_INTERNAL_H

#include "vecmath/elements.h"
#include "vecmath_internal.h"

enum vecmath_narrow_row { ROW_F16, ROW_I8, ROW_KINDS };
enum vecmath_sum { SUM_L2_SQUARED, SUM_DOT, SUM_L1, SUM_KINDS };

typedef float (*vecmath_narrow_kernel)(const void *query, const void *row, size_t n);
/* Scores one row or VECMATH_BLOCK of them; exact. `next` as in vecmath_block_kernel; one row: not
 * looked at. */
typedef void (*vecmath_bytes_kernel)(const void *query, const void *const *row,
                                     const void *const *next, size_t n, uint32_t *sum_out);

struct vecmath_element_kernels {
    vecmath_narrow_kernel pair[ROW_KINDS][SUM_KINDS];
    vecmath_block_kernel block[ROW_KINDS][SUM_KINDS];
    float (*norm_squared[ROW_KINDS])(const void *row, size_t n);
    /* Dot products of bytes are those of codes.h. */
    vecmath_bytes_kernel bytes_l2_one, bytes_l2_block, bytes_l1_one, bytes_l1_block;
    void (*widen_f16)(const void *halves, size_t count, float *values_out);
    void (*narrow_f16)(const void *values, size_t count, void *halves_out);
};

extern const struct vecmath_element_kernels vecmath_elements_scalar;
#if defined(__x86_64__)
extern const struct vecmath_element_kernels vecmath_elements_avx2;
extern const struct vecmath_element_kernels vecmath_elements_avx512;
#elif defined(__aarch64__)
extern const struct vecmath_element_kernels vecmath_elements_neon;
#endif

/* In double, from float32 and row `kind`. */
void vecmath_wide_narrow_pieces(enum vecmath_narrow_row kind, const float *query, const void *row,
                                size_t n, struct vecmath_wide_pieces *out);
double vecmath_wide_narrow(enum vecmath_narrow_row kind, enum vecmath_sum sum, const float *query,
                           const void *row, size_t n);

/* One value each way, bit by bit as the instructions of all processors do it. */
float vecmath_half_to_float(uint16_t half);
uint16_t vecmath_float_to_half(float value);

#endif
