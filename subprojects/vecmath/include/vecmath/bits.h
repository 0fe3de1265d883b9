/* bits.h: codes of 1 to 8 bits a dimension, and the rotation that such codes want before them.
 *
 * A code is an unsigned number of `bits` bits for each column; a query is a signed byte for each.
 * Inner products of the two are integers, exact and the same on every processor and
 * implementation. What the numbers mean is the caller's business. vecmath_select() chooses the
 * implementation. Every function is pure.
 *
 * Layout. The number of columns is a multiple of 64 (vecmath_bits_columns). A number's bits are
 * split by the binary digits of `bits` into fields of 4, 2 and 1 bits, the highest first (7 is 4 +
 * 2 + 1; 8 is 4 + 4), and each field is an array of its own, one behind the other: columns x width
 * / 8 bytes. An array is cut into pieces of 64 bytes, the last one maybe shorter; in a piece of n
 * bytes column s x n + j is digit s of byte j, from the low end. So a kernel masks and shifts whole
 * registers, and meets the query's numbers in their own order.
 *
 * Rows lie at codes + i x stride_bytes, at any address. Nothing outside the named rows' codes is
 * read; prefetches touch lines of named rows, up to their stride. */
#ifndef VECMATH_BITS_H
#define VECMATH_BITS_H

#include <stddef.h>
#include <stdint.h>

enum {
    VECMATH_BITS_MAX = 8,
    VECMATH_BITS_UNIT = 64,           /* columns are a multiple of this */
    VECMATH_BITS_QUERY_MAX = 127,     /* of a query's numbers, either sign */
    VECMATH_BITS_COLUMNS_MAX = 65536, /* sums of 255 x 127 stay below 2^31 */
    VECMATH_BITS_ALIGNMENT = 64,
};

/* Columns for so many dimensions. */
static inline size_t vecmath_bits_columns(size_t dimension)
{
    return (dimension + VECMATH_BITS_UNIT - 1) / VECMATH_BITS_UNIT * VECMATH_BITS_UNIT;
}

static inline size_t vecmath_bits_code_bytes(size_t columns, unsigned bits)
{
    return columns / 8 * bits;
}

/* numbers: one below 2^bits for each column. */
void vecmath_bits_pack(const uint8_t *numbers, size_t columns, unsigned bits, void *code_out);

/* A query ready for the kernels; its arrays lie in memory of the caller. */
struct vecmath_bits_query {
    const int8_t *fields[3]; /* numbers as fields of 4, 2 and 1 bits meet them; or NULL */
    int32_t sum;             /* of all numbers */
    unsigned bits;
    size_t columns;
};

/* Bytes of memory, aligned to VECMATH_BITS_ALIGNMENT, that a query needs as long as it lives. */
size_t vecmath_bits_query_bytes(size_t columns, unsigned bits);
/* Writes round(value x factor), clipped to +-VECMATH_BITS_QUERY_MAX. */
void vecmath_bits_query_set(const float *values, float factor, size_t columns, unsigned bits,
                            void *memory, struct vecmath_bits_query *query_out);

/* dot_out: one a row, rounded once where float32 has no such integer. Rows by number, or side by
 * side. */
void vecmath_bits_gather(const struct vecmath_bits_query *query, const void *codes,
                         size_t stride_bytes, const uint32_t *rows, size_t count, float *dot_out);
void vecmath_bits_scan(const struct vecmath_bits_query *query, const void *codes,
                       size_t stride_bytes, size_t count, float *dot_out);

/* ---- rotation ---- */

/* In place: the Hadamard transform, divided by the root of `count`, a power of two: orthogonal, and
 * its own inverse. The same bits on every processor. */
void vecmath_hadamard_f32(float *values, size_t count);
/* Negates value i where bit i % 64 of word i / 64 is set. */
void vecmath_flip_signs_f32(float *values, size_t count, const uint64_t *bits);

#endif
