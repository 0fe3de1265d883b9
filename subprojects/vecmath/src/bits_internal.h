/* bits_internal.h: what one implementation provides for codes of few bits. */
#ifndef VECMATH_BITS_INTERNAL_H
#define VECMATH_BITS_INTERNAL_H

#include "vecmath/bits.h"
#include "vecmath_internal.h"

enum { BITS_FIELDS = 3, BITS_PIECE = 64 };

/* Sums of one field of 1 or VECMATH_BLOCK rows. numbers: for each piece of the field 64 bytes for
 * each of its 8 / width digits, zeros behind a shorter last piece. bytes: of the field, a multiple
 * of 8. next: rows wanted soon, never read; NULL: none. */
typedef void (*vecmath_bits_kernel)(const int8_t *numbers, const void *const *row,
                                    const void *const *next, size_t bytes, int32_t *sum_out);

struct vecmath_bits_kernels {
    const char *name;
    vecmath_bits_kernel one[BITS_FIELDS], block[BITS_FIELDS]; /* of fields of 4, 2 and 1 bits */
    void (*hadamard)(float *values, size_t count);
    void (*flip_signs)(float *values, size_t count, const uint64_t *bits);
};

extern const struct vecmath_bits_kernels vecmath_bits_scalar;
#if defined(__x86_64__)
extern const struct vecmath_bits_kernels vecmath_bits_avx2;
extern const struct vecmath_bits_kernels vecmath_bits_avx512;
extern const struct vecmath_bits_kernels vecmath_bits_avx512_vnni;
#elif defined(__aarch64__)
extern const struct vecmath_bits_kernels vecmath_bits_neon;
extern const struct vecmath_bits_kernels vecmath_bits_neon_dotprod;
#endif

/* The table in use; never NULL. */
const struct vecmath_bits_kernels *vecmath_active_bits(void);

/* Every table that this processor can run, best first, for tests. */
enum { VECMATH_BITS_TABLES_MAX = 6 };
size_t vecmath_bits_tables(const struct vecmath_bits_kernels *tables_out[VECMATH_BITS_TABLES_MAX]);

#endif
