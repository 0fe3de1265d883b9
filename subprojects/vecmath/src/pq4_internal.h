/* pq4_internal.h: what one implementation provides for product quantization. */
#ifndef VECMATH_PQ4_INTERNAL_H
#define VECMATH_PQ4_INTERNAL_H

#include "vecmath/pq4.h"
#include "vecmath_internal.h"

enum {
    /* Entries of 255 that a sum of 16 bits holds; kernels widen sums at least that often. */
    PQ4_FOLD = 256,
    PQ4_TABLE = 16, /* bytes, also of a part in a block */
};

struct vecmath_pq4_kernels {
    const char *name;
    /* part_count: a multiple of 4. Neither array need be aligned. */
    void (*sums)(const uint8_t *tables, const uint8_t *block, size_t part_count, uint32_t *sum_out);
    /* As vecmath_pq4_encode(); of centroids as near within rounding any. */
    void (*encode)(const struct vecmath_pq4 *pq, const float *values, uint8_t *number_out);
    uint32_t (*finish)(const uint32_t *sums, float base, float unit, const float *terms,
                       float bound, float *distance_out);
};

extern const struct vecmath_pq4_kernels vecmath_pq4_scalar;
void vecmath_pq4_encode_scalar(const struct vecmath_pq4 *pq, const float *values,
                               uint8_t *number_out);
#if defined(__x86_64__)
extern const struct vecmath_pq4_kernels vecmath_pq4_avx2;
extern const struct vecmath_pq4_kernels vecmath_pq4_avx512;
#elif defined(__aarch64__)
extern const struct vecmath_pq4_kernels vecmath_pq4_neon;
#endif

/* The table in use; never NULL. */
const struct vecmath_pq4_kernels *vecmath_active_pq4(void);

/* Every table that this processor can run, best first, for tests. */
enum { VECMATH_PQ4_TABLES_MAX = 4 };
size_t vecmath_pq4_tables(const struct vecmath_pq4_kernels *tables_out[VECMATH_PQ4_TABLES_MAX]);

#endif
