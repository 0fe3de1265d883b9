/* codes_internal.h: what one implementation provides for codes.
 *
 * As in vecmath_internal.h an implementation is a constant table, and how rows lie in memory is
 * codes.c's business. Each kernel scores `rows` rows, 1 or VECMATH_BLOCK; with four it asks for the
 * lines of `next` on the way (never read). All are exact.
 */
#ifndef VECMATH_CODES_INTERNAL_H
#define VECMATH_CODES_INTERNAL_H

#include "vecmath/codes.h"
#include "vecmath_internal.h"

enum {
    CODE_STEP = 64, /* queries are zero-padded to a multiple: vectors of all widths may read it */
    /* Dimensions whose products fit lanes of 32 bits whatever the kernel: with the fewest lanes,
     * four, 2,048 products of at most 128 x 4095 each. */
    CODE_FOLD = 8192,
};

typedef void (*vecmath_sq8_kernel)(const struct vecmath_sq8_query *query, const void *const *row,
                                   const void *const *next, int64_t *dot_out);
typedef void (*vecmath_s8_kernel)(const int8_t *query, const void *const *row,
                                  const void *const *next, size_t n, int32_t *dot_out);
typedef void (*vecmath_sq4_kernel)(const struct vecmath_sq4_query *query, const void *const *row,
                                   const void *const *next, int32_t *dot_out);

struct vecmath_code_kernels {
    const char *name; /* for tests: finer than vecmath_isa_name() */
    vecmath_sq8_kernel sq8_one, sq8_block;
    vecmath_s8_kernel s8_one, s8_block;
    vecmath_sq4_kernel sq4_one, sq4_block;
};

extern const struct vecmath_code_kernels vecmath_codes_scalar;
#if defined(__x86_64__)
extern const struct vecmath_code_kernels vecmath_codes_avx2;
extern const struct vecmath_code_kernels vecmath_codes_avx512;
extern const struct vecmath_code_kernels vecmath_codes_avx512_vnni;
#elif defined(__aarch64__)
extern const struct vecmath_code_kernels vecmath_codes_neon;
extern const struct vecmath_code_kernels vecmath_codes_neon_dotprod;
#endif

/* The table in use; never NULL. */
const struct vecmath_code_kernels *vecmath_active_codes(void);

/* Every table that this processor can run, the best of each implementation and the others; tests
 * hold them all against scalar. Returns how many. */
enum { VECMATH_CODE_TABLES_MAX = 6 };
size_t vecmath_code_tables(const struct vecmath_code_kernels *tables_out[VECMATH_CODE_TABLES_MAX]);

#endif
