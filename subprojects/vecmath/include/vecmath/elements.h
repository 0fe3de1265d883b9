/* elements.h: rows that are stored narrower than float32: half precision (IEEE 754 binary16) and
 * signed bytes.
 *
 * Queries are float32 as ever. A row of halves or bytes is widened in registers and scored in the
 * order of the float32 kernels, so that its score has the bits that the widened row would get from
 * vecmath_scan_of() with the same implementation: who keeps narrow rows and who scores copies that
 * were widened before get the same answers. Where query and rows are all bytes there is a second,
 * faster way, in integers: exact sums, rounded once. The rest is as in vecmath.h (which addresses,
 * what is read, saturation); vecmath_select() chooses the implementation. Every function is pure.
 */
#ifndef VECMATH_ELEMENTS_H
#define VECMATH_ELEMENTS_H

#include "vecmath/vecmath.h"

enum vecmath_element {
    VECMATH_F32, /* with VECMATH_HAMMING: packed bits */
    VECMATH_F16,
    VECMATH_I8,
};

/* Bytes of one. */
size_t vecmath_element_bytes(enum vecmath_element element);

/* ---- float32 queries against rows of an element ---- */

/* As vecmath_scan_of() and so on. Cosine of narrow rows is computed in double, one row after the
 * other: fast searches keep norms and use VECMATH_DOT. NULL: not a metric, not an element, or
 * VECMATH_HAMMING with another than VECMATH_F32. */
vecmath_scan_fn vecmath_scan_of_element(enum vecmath_metric metric, enum vecmath_element element);
vecmath_gather_fn vecmath_gather_of_element(enum vecmath_metric metric,
                                            enum vecmath_element element);
vecmath_pair_fn vecmath_pair_of_element(enum vecmath_metric metric, enum vecmath_element element);

/* ---- queries of bytes against rows of bytes ---- */

/* `query` holds `dimension` signed bytes. Sums are exact up to 65,535 dimensions. NULL for cosine
 * and hamming. */
vecmath_scan_fn vecmath_scan_of_bytes(enum vecmath_metric metric);
vecmath_gather_fn vecmath_gather_of_bytes(enum vecmath_metric metric);

/* ---- conversions ---- */

/* Widening is exact. All at any address; they must not overlap. */
void vecmath_widen_f16(const void *halves, size_t count, float *values_out);
void vecmath_widen_i8(const void *bytes, size_t count, float *values_out);
/* Rounds to nearest, ties to even; what is 65,520 or more becomes infinite. */
void vecmath_narrow_f16(const void *values, size_t count, void *halves_out);
/* Of values that vecmath_first_not_i8() has passed. */
void vecmath_narrow_i8(const void *values, size_t count, void *bytes_out);

/* Index of the first of `count` floats that has no finite half (NaN, infinite, 65,520 or more), or
 * that is no integer from -128 to 127; `count`: there is none. */
size_t vecmath_first_beyond_f16(const void *values, size_t count);
size_t vecmath_first_not_i8(const void *values, size_t count);
/* Of the first half that is NaN or infinite. */
size_t vecmath_first_nonfinite_f16(const void *halves, size_t count);

/* Euclidean norm of a row of halves or bytes, with the bits that vecmath_norm_f32() gives for the
 * widened row. */
float vecmath_norm_f16(const void *halves, size_t dimension);
float vecmath_norm_i8(const void *bytes, size_t dimension);

#endif
