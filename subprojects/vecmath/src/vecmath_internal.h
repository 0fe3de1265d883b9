/* vecmath_internal.h: what one implementation (one file per instruction set) provides.
 *
 * An implementation is a constant table of kernels. Kernels are the inner loops only: they do not
 * care about overflow, zero vectors or how rows lie in memory. That is done once, for all of them,
 * in vecmath.c (one to one) and vecmath_scan.c (one to many); an indirect call for four rows costs
 * nothing next to reading them. So each instruction set is one short file, and a rule about scores
 * has one place.
 */
#ifndef VECMATH_INTERNAL_H
#define VECMATH_INTERNAL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "vecmath/vecmath.h"

/* Rows scored together by the block kernels. Four rows share each load of the query and give eight
 * independent sums, which is what hides the latency of fused multiply-add on two ports. */
enum { VECMATH_BLOCK = 4 };

typedef float (*vecmath_pair_kernel)(const float *a, const float *b, size_t n);

/* Scores the four rows of `row`, and asks for the lines of `next` (rows wanted soon; never read).
 * n: floats, or bytes for hamming. score_out: 4 floats; cosine: 4 dots, then 4 squared norms. */
typedef void (*vecmath_block_kernel)(const void *query, const void *const row[VECMATH_BLOCK],
                                     const void *const next[VECMATH_BLOCK], size_t n,
                                     float *score_out);

struct vecmath_element_kernels;

struct vecmath_kernels {
    const char *name;
    vecmath_pair_kernel l2_squared;
    vecmath_pair_kernel dot;
    vecmath_pair_kernel l1;
    void (*pieces)(const float *a, const float *b, size_t n, struct vecmath_cosine_pieces *out);
    uint64_t (*hamming)(const uint8_t *a, const uint8_t *b, size_t byte_count);
    vecmath_block_kernel block_l2_squared;
    vecmath_block_kernel block_dot;
    vecmath_block_kernel block_cosine;
    vecmath_block_kernel block_l1;
    vecmath_block_kernel block_hamming;
    /* Inner products of four queries with four rows: score_out[4 x query + row]. */
    void (*tile_dot)(const float *const query[VECMATH_TILE], const float *const row[VECMATH_TILE],
                     size_t n, float score_out[VECMATH_TILE * VECMATH_TILE]);
    size_t (*first_nonfinite)(const float *values, size_t count);
    void (*scale)(const float *values, float factor, size_t n, float *scaled_out);
    const struct vecmath_element_kernels *elements; /* elements_internal.h */
};

extern const struct vecmath_kernels vecmath_kernels_scalar;
#if defined(__x86_64__)
extern const struct vecmath_kernels vecmath_kernels_avx2;
extern const struct vecmath_kernels vecmath_kernels_avx512;
extern const struct vecmath_kernels vecmath_kernels_avx512_popcnt; /* with VPOPCNTDQ */
#elif defined(__aarch64__)
extern const struct vecmath_kernels vecmath_kernels_neon;
#endif

/* The table in use; never NULL. */
const struct vecmath_kernels *vecmath_active(void);

/* The same sums in double: what scalar rounds, and what repairs a float32 sum that overflowed. They
 * cannot overflow: 65,535 squares of FLT_MAX are 10^82. */
struct vecmath_wide_pieces {
    double dot;
    double norm_squared_a;
    double norm_squared_b;
};

double vecmath_wide_l2_squared(const float *a, const float *b, size_t n);
double vecmath_wide_dot(const float *a, const float *b, size_t n);
double vecmath_wide_l1(const float *a, const float *b, size_t n);
void vecmath_wide_pieces(const float *a, const float *b, size_t n, struct vecmath_wide_pieces *out);

/* Rounds to float32, saturating at +-FLT_MAX instead of becoming infinite. NaN stays NaN. */
float vecmath_narrow(double value);

/* Cosine from its pieces; goes back to the vectors when a piece left float32's safe range. */
float vecmath_cosine_finish(const struct vecmath_cosine_pieces *pieces, const float *a,
                            const float *b, size_t n);

/* Before a loop over rows or sums, whose bounds are constant once inlined. Left alone, gcc 12
 * unrolls such loops so late that the sums stay on the stack; clang 14 does the opposite: unrolls
 * by itself and spills when told. */
#if defined(__clang__)
#define VECMATH_UNROLL
#else
#define VECMATH_UNROLL _Pragma("GCC unroll 4")
#endif

/* Asks for the line at `address`, which is never read. */
#define VECMATH_PREFETCH(address) __builtin_prefetch((address), 0, 3)

/* Reads float i of an array at any address. */
static inline float vecmath_load(const float *values, size_t i)
{
    float value;
    memcpy(&value, (const char *)values + i * sizeof(float), sizeof value);
    return value;
}

/* Reads 8 bytes at any address. */
static inline uint64_t vecmath_load_u64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

#endif
