/* codes.h: inner products of queries with short codes of vectors, the currency of an index.
 *
 * A code is what remains of a vector after quantization: one signed byte (SQ8) or half a byte (SQ4)
 * per dimension. What the numbers mean (mean, scale, rotation, norms) is the caller's business;
 * here they are integers, so every result is exact and the same on every processor and
 * implementation. vecmath_select() chooses the implementation, as for vecmath.h. Every function is
 * pure.
 *
 * Three products SQ8  signed bytes x a query of 13 bits    searching: the query is coded finer than
 * the rows S8   signed bytes x signed bytes          building: a row is the query SQ4  nibbles
 * 0..15 x a query of 8 bits
 *
 * and three shapes: one row; rows named by number (gather), prefetched ahead; rows side by side
 * (scan). Row i lies at codes + i * stride_bytes, at any address. Nothing outside the codes of the
 * named rows is read; prefetches touch only lines of named rows.
 *
 * Sums of products are 64-bit where 32 bits could overflow (SQ8 beyond 4,129 dimensions); results
 * are rounded once, to float32, where the type says so. Dimensions up to 65,536.
 */
#ifndef VECMATH_CODES_H
#define VECMATH_CODES_H

#include <stddef.h>
#include <stdint.h>

enum {
    VECMATH_SQ8_QUERY_MAX = 4095, /* of a query's numbers, either sign: 13 bits */
    VECMATH_SQ4_QUERY_MAX = 127,
    VECMATH_SQ4_BLOCK = 128, /* dimensions in the 64 bytes that are the unit of an SQ4 code */
    VECMATH_CODE_ALIGNMENT = 64,
    VECMATH_CODE_DIMENSION_MAX = 65536,
};

/* ---- SQ8: int8 rows, 13-bit query ---- */

/* A query ready for the kernels. Its arrays lie in memory of the caller, zero-padded to whole
 * blocks of 64, and live as long as that. wide = 64 x high + low. */
struct vecmath_sq8_query {
    const int16_t *wide;
    const int8_t *high;
    const int8_t *low;
    int32_t high_sum, low_sum; /* of all numbers: what kernels of unsigned bytes correct by */
    size_t dimension;
};

/* Bytes of memory, aligned to VECMATH_CODE_ALIGNMENT, that a query of this dimension needs. */
size_t vecmath_sq8_query_bytes(size_t dimension);

/* Writes round(value * factor), clipped to +-VECMATH_SQ8_QUERY_MAX, and what follows from it.
 * Values are finite; rounding is to nearest, ties to even. */
void vecmath_sq8_query_set(const float *values, float factor, size_t dimension, void *memory,
                           struct vecmath_sq8_query *query_out);

/* dot_out: one float32 a row. */
void vecmath_sq8_gather(const struct vecmath_sq8_query *query, const void *codes,
                        size_t stride_bytes, const uint32_t *rows, size_t count, float *dot_out);
void vecmath_sq8_scan(const struct vecmath_sq8_query *query, const void *codes, size_t stride_bytes,
                      size_t count, float *dot_out);

/* ---- S8: int8 rows among each other ---- */

/* Rounds values to nearest, ties to even, -127 to 127; returns the squared norm of that. */
uint32_t vecmath_s8_set(const float *values, size_t dimension, int8_t *code_out);
int32_t vecmath_s8_dot(const int8_t *a, const int8_t *b, size_t dimension);
void vecmath_s8_gather(const int8_t *query, const void *codes, size_t stride_bytes,
                       const uint32_t *rows, size_t count, size_t dimension, int32_t *dot_out);

/* ---- SQ4: nibbles, 8-bit query ---- */

/* As vecmath_sq8_query. Beyond the dimension, up to whole blocks, the numbers are 0: nibbles there
 * do not count. */
struct vecmath_sq4_query {
    const int8_t *values;
    int32_t sum; /* of all numbers */
    size_t dimension;
};

size_t vecmath_sq4_query_bytes(size_t dimension);
void vecmath_sq4_query_set(const float *values, float factor, size_t dimension, void *memory,
                           struct vecmath_sq4_query *query_out);

/* Bytes of one code: 64 for each block of 128 dimensions, and of a last, shorter one as many as it
 * has dimensions, 64 at most. Byte j of a block holds dimension j in its low half and dimension 64
 * + j in its high half. */
size_t vecmath_sq4_code_bytes(size_t dimension);
/* nibbles: `dimension` numbers 0..15. Halves of bytes that have no dimension become 0. */
void vecmath_sq4_pack(const uint8_t *nibbles, size_t dimension, void *code_out);

void vecmath_sq4_gather(const struct vecmath_sq4_query *query, const void *codes,
                        size_t stride_bytes, const uint32_t *rows, size_t count, float *dot_out);
void vecmath_sq4_scan(const struct vecmath_sq4_query *query, const void *codes, size_t stride_bytes,
                      size_t count, float *dot_out);

#endif
