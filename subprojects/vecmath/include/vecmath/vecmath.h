/* vecmath.h: distances between vectors, and the checks a vector passes before it is stored.
 *
 * Call vecmath_select() once at start, before other threads exist; it picks the fastest
 * implementation this processor has, or the one that is asked for by name. Until then, and where
 * nothing better exists, the scalar reference answers. Every other function is pure: no allocation,
 * no lock, no error, safe from any thread.
 *
 * Numbers
 *  - Vectors are float32 in the machine's byte order, or packed bits in bytes. Pointers to void may
 *    hold any address: floats need not even be aligned to 4 bytes. A length of 0 scores 0.
 *  - Nothing is read outside the given elements (prefetches touch only lines of given rows).
 *  - Finite inputs give finite scores: where a float32 sum overflows, the row is computed again in
 *    double and the result saturates at +-FLT_MAX. Inputs with NaN or infinities give any score;
 *    keep them out with vecmath_all_finite().
 *  - Accuracy: scalar sums in double and rounds once. The others sum in float32 in at least 8
 *    partial sums with fused multiply-add (L1: add), so that
 *        |score - exact| <= (n / 8 + 10) * 2^-24 * (sum of the terms' absolute values)
 *    at worst; on ordinary data the error is some hundred times smaller. Hamming is exact.
 *  - A score depends on query, row and implementation only: alone, in a scan or gathered, whatever
 *    its neighbours, a row gets the same bits. A vector against itself scores cosine 1 and L2 0
 *    exactly.
 */
#ifndef VECMATH_VECMATH_H
#define VECMATH_VECMATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vecmath_error {
    VECMATH_OK = 0,
    VECMATH_UNKNOWN_ISA = -1,     /* no implementation has this name */
    VECMATH_UNSUPPORTED_ISA = -2, /* it exists, but not on this processor or in this build */
};

/* How many implementations one build can hold at most; the size of vecmath_isa_list's array. */
enum { VECMATH_ISA_MAX = 4 };

/* What a score means, and which end of the scale is the better one. */
enum vecmath_metric {
    VECMATH_L2_SQUARED, /* squared Euclidean distance; lower is better */
    VECMATH_DOT,        /* inner product; higher is better */
    VECMATH_COSINE,     /* similarity in [-1, 1], 0 when either vector is zero; higher is better */
    VECMATH_L1,         /* manhattan distance; lower is better */
    VECMATH_HAMMING,    /* differing bits over packed bits; lower is better */
};

/* Dot product and both squared norms from one pass. */
struct vecmath_cosine_pieces {
    float dot;
    float norm_squared_a;
    float norm_squared_b;
};

/* ---- choice of implementation ---- */

/* Selects the implementation for the whole process. `forced_name` is scalar, avx2, avx512 or neon;
 * NULL or "" selects the best one. 0, VECMATH_UNKNOWN_ISA or VECMATH_UNSUPPORTED_ISA; on failure
 * the choice stays as it was and `error_out` (may be NULL) receives one sentence of at most
 * `error_bytes` bytes with its terminator. */
int vecmath_select(const char *forced_name, char *error_out, size_t error_bytes);

/* Whether that has happened: for libraries in a program that may have chosen already. */
bool vecmath_selected(void);

/* Name of the implementation in use, a constant string. */
const char *vecmath_isa_name(void);

/* Writes the names that vecmath_select() accepts here, best first, and returns how many. */
size_t vecmath_isa_list(const char *names_out[VECMATH_ISA_MAX]);

/* ---- one to one ---- */

float vecmath_l2_squared_f32(const float *a, const float *b, size_t dimension);
float vecmath_dot_f32(const float *a, const float *b, size_t dimension);
float vecmath_l1_f32(const float *a, const float *b, size_t dimension);

/* Similarity in [-1, 1]; 0 when either vector is zero. Very large and very small vectors are scored
 * as exactly as others (in double). */
float vecmath_cosine_f32(const float *a, const float *b, size_t dimension);

/* The parts of the cosine, for callers that keep norms. Squared norms below 2^-100 lose digits to
 * underflow; those above FLT_MAX saturate. vecmath_cosine_f32() has neither weakness. */
void vecmath_cosine_pieces_f32(const float *a, const float *b, size_t dimension,
                               struct vecmath_cosine_pieces *pieces_out);

/* Bits that differ in `byte_count` bytes. */
uint64_t vecmath_hamming(const void *a, const void *b, size_t byte_count);

/* ---- one to many ---- */

/* Scores `count` rows that lie `stride_bytes` apart. `query` and each row hold `dimension` floats;
 * for VECMATH_HAMMING (dimension + 7) / 8 bytes, whose unused bits must be equal in query and rows.
 * score_out: `count` floats. A hamming score is exact up to 2^24 bits. */
typedef void (*vecmath_scan_fn)(const void *query, const void *rows, size_t stride_bytes,
                                size_t count, size_t dimension, float *score_out);

/* The same for rows anywhere: `rows` is an array of `count` pointers. Rows are prefetched ahead. */
typedef void (*vecmath_gather_fn)(const void *query, const void *const *rows, size_t count,
                                  size_t dimension, float *score_out);

/* Inner products of four vectors with four others, each read once: dot_out[4 x a + b]. Where there
 * are fewer, name one again. Twice as fast as four scans in cache, for many to many; but sums that
 * leave float32's range are infinite or NaN, and the last digits depend on the processor and differ
 * from vecmath_dot_f32()'s: within dimension x 2^-23 x the product of the norms. */
enum { VECMATH_TILE = 4 };
void vecmath_tile_dot_f32(const float *const a[VECMATH_TILE], const float *const b[VECMATH_TILE],
                          size_t dimension, float dot_out[VECMATH_TILE * VECMATH_TILE]);

/* One row. */
typedef float (*vecmath_pair_fn)(const void *query, const void *row, size_t dimension);

/* The functions of a metric; look them up once and keep them. Valid for the life of the process,
 * before and after vecmath_select(). NULL for a value that is no metric. */
vecmath_scan_fn vecmath_scan_of(enum vecmath_metric metric);
vecmath_gather_fn vecmath_gather_of(enum vecmath_metric metric);
vecmath_pair_fn vecmath_pair_of(enum vecmath_metric metric);

/* True for dot and cosine: sort downwards. */
bool vecmath_higher_is_better(enum vecmath_metric metric);

/* ---- checks and helpers ---- */

/* Index of the first NaN or infinity among `count` floats, or `count` when there is none. */
size_t vecmath_first_nonfinite(const void *values, size_t count);

/* True when no value is NaN or infinite. */
bool vecmath_all_finite(const void *values, size_t count);

/* Euclidean norm; right for values whose squares overflow or underflow too. */
float vecmath_norm_f32(const float *values, size_t dimension);

/* Sum of squares, as vecmath_dot_f32(v, v). */
float vecmath_norm_squared_f32(const float *values, size_t dimension);

/* Writes values / norm and returns the norm. A zero vector stays zero and returns 0. `unit_out` may
 * be `values` itself, but must not overlap it otherwise. */
float vecmath_normalise_f32(const float *values, size_t dimension, float *unit_out);

#endif
