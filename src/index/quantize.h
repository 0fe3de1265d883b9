/* Quantization: what a graph is navigated by and small segments are scanned by, instead of the
 * vectors themselves. Trained once for a segment; the codes never change.
 *
 * SQ8  a byte a dimension: round((x - mean of the dimension) / scale), one scale for all dimensions
 *        (the 99.95 % quantile of the deviations is 127), clipped to +-127
 * SQ4  half a byte a dimension, after a rotation that makes dimensions alike, with a step of its
 *        own for every row
 * PQ   four bits for each part of some columns (two, if not told otherwise): which of 16 centroids
 *        of its own is nearest (pq.h). In an IVF index what is coded is how a row differs from the
 *        centroid of its list
 * BINARY 1 to 8 bits a dimension after the same rotation, with an unbiased estimate and a bound
 *        on its error (RaBitQ-class, rabitq.c)
 * NONE the row itself: float32, or packed bits for hamming. Distances are the metric's own
 *
 * Metrics: a cosine is a Euclidean distance once vectors are normalised, so rows are. For dot an
 * SQ8 code has one column more, sqrt(R^2 - |x|^2): among such rows the Euclidean distance is a true
 * one and the graph is built on it, while a query has 0 there, and is ranked by the inner product
 * alone. Manhattan and hamming have NONE only.
 *
 * Distances of a query are in units of the code, so vectors of any magnitude have codes, and
 * nothing overflows: half the squared distance divided by the squared scale; for dot a negated
 * inner product. Lower is better. Between rows (SQ8 and NONE) SQ8's are sums of squared differences
 * of integers: exact, and the same on every processor, so that the same graph is built everywhere;
 * NONE's are float32 sums, the same for one implementation of vecmath.
 *
 * Vectors are finite float32: who stores them has refused NaN and infinities. Nothing here fails
 * but for want of memory. */
#ifndef INDEX_QUANTIZE_H
#define INDEX_QUANTIZE_H

#include "base/heap.h"

#include <proximadb/types.h>
#include <vecmath/bits.h>
#include <vecmath/codes.h>
#include <vecmath/pq4.h>

/* Numbers are on disk. */
enum quantize_kind {
    QUANTIZE_SQ8 = 1,
    QUANTIZE_SQ4 = 2,
    QUANTIZE_PQ = 3,
    QUANTIZE_BINARY = 4,
    QUANTIZE_NONE = 5,
};

enum { QUANTIZE_BITS_MAX = VECMATH_BITS_MAX, QUANTIZE_BITS_DEFAULT = 1 };

struct quantizer {
    enum quantize_kind kind;
    enum pdb_metric metric;
    uint32_t dimension; /* of the vectors */
    uint32_t columns;   /* of a code: dimension, or one more */
    uint32_t bits;      /* BINARY: of a number, 1 to 8; else 0 */
    uint32_t stride;    /* bytes from code to code, filled with 0; PQ: of 32 rows */
    float scale;        /* what one unit of a code is worth; > 0 */
    float norm_max;     /* dot: R */
    uint64_t seed;      /* of the rotation of SQ4 and BINARY */
    float *mean;        /* one for each column, of the heap that trained or opened it; NONE: NULL */
    uint32_t part_columns, part_count; /* PQ; else 0 */
    float *codebook;                   /* PQ: as vecmath/pq4.h has it, of the same heap */
};

/* The codes of rows 0 to row_count - 1, in memory of the caller or of a file. `bytes` is aligned to
 * 64. The others are NULL where the kind has none. */
struct codes {
    uint8_t *bytes;  /* row_count x stride; PQ: blocks of 32 rows */
    uint32_t *norms; /* SQ8: squared norm of each code */
    /* SQ4: two for each row: half its squared norm, what its step is worth. PQ: one for each, in
     * whole blocks: what its distance has beside the inner product */
    float *factors;
    uint32_t row_count;
};

/* Whether vectors of this metric have such codes. */
bool quantize_supports(enum quantize_kind kind, enum pdb_metric metric);
/* Whether a graph can be built on them: on others of the same rows it can be searched. */
static inline bool quantize_builds(enum quantize_kind kind)
{
    return kind == QUANTIZE_SQ8 || kind == QUANTIZE_NONE;
}
/* Whether its distances are estimates with bounds: quantize_error(). */
static inline bool quantize_has_bounds(enum quantize_kind kind)
{
    return kind == QUANTIZE_BINARY;
}
/* Bytes of a vector as it is stored: float32, or packed bits. */
size_t quantize_vector_bytes(enum pdb_metric metric, uint32_t dimension);
/* Columns, parts and stride, which follow from kind, bits, metric, dimension and (PQ) part_columns;
 * 0 of these: the default. */
void quantize_shape(struct quantizer *quantizer);
/* The same with the longer strides of images of format 1: SQ8 and SQ4, too, have whole lines. */
void quantize_shape_in_lines(struct quantizer *quantizer);

struct quantize_spec {
    enum quantize_kind kind;
    enum pdb_metric metric;
    uint32_t dimension;
    uint64_t seed;
    uint32_t bits;         /* of BINARY; 0: the default */
    uint32_t part_columns; /* PQ; 0: the default */
};
/* Learns mean and scale from a sample: `count` vectors, `stride_bytes` apart, drawn at random from
 * the rows (a few thousand are enough; quantize_sample_row() draws them). count 0 is legal. The
 * result's memory is of `heap`: quantize_dispose. PDB_RESOURCE_EXHAUSTED. */
int quantize_train(const struct quantize_spec *spec, const float *sample, size_t stride_bytes,
                   uint32_t count, struct heap *heap, struct quantizer *quantizer_out);
/* Of memory, at most, its results but the mean included. */
size_t quantize_train_bytes(enum quantize_kind kind, uint32_t dimension);
void quantize_dispose(struct quantizer *quantizer, struct heap *heap);

enum { QUANTIZE_SAMPLE_MAX = 16384 };
/* How many rows to train on, and the i-th of them: evenly spread, each from its own stretch. */
uint32_t quantize_sample_count(uint32_t row_count);
uint32_t quantize_sample_row(uint64_t seed, uint32_t row_count, uint32_t i);

/* Bytes of struct codes' arrays. */
size_t quantize_codes_bytes(const struct quantizer *quantizer, uint32_t row_count);
size_t quantize_sums_bytes(const struct quantizer *quantizer, uint32_t row_count);

/* Rows that share bytes of the codes: a multiple of this must be written by one worker. */
static inline uint32_t quantize_rows_together(enum quantize_kind kind)
{
    return kind == QUANTIZE_PQ ? VECMATH_PQ4_ROWS : 1;
}

/* Writes the code of `vector` as row `row`. scratch: quantize_scratch_bytes, aligned to 64. Rows
 * may be written by several workers at once, each with its own scratch. PQ: where index_init() has
 * cleared the codes. */
size_t quantize_scratch_bytes(const struct quantizer *quantizer);
void quantize_encode(const struct quantizer *quantizer, const float *vector, void *scratch,
                     const struct codes *codes, uint32_t row);

/* ---- distances of a query ---- */

struct coded_query {
    /* distance = base + half x norm of the row - unit x (inner product - bias) x factor of the
     * row */
    float base, half, unit, bias;
    /* distance of the metric, as an exact scan has it = offset + worth x distance */
    float offset, worth;
    struct vecmath_sq8_query sq8;
    struct vecmath_sq4_query sq4;
    struct vecmath_bits_query bits;
    float norm; /* BINARY: squared length of the query as it is coded */
    struct vecmath_pq4_query pq4;
    const void *full; /* NONE: the query as its metric sees it */
};
/* memory: quantize_query_bytes, aligned to 64, lives as long as the query. `vector` may lie at any
 * address and is not kept. */
size_t quantize_query_bytes(const struct quantizer *quantizer);
void quantize_query(const struct quantizer *quantizer, const float *vector, void *memory,
                    struct coded_query *query_out);

/* Of `count` rows by number, and of `count` rows from `first` on. */
void quantize_score(const struct quantizer *quantizer, const struct codes *codes,
                    const struct coded_query *query, const uint32_t *rows, uint32_t count,
                    float *distance_out);
void quantize_scan(const struct quantizer *quantizer, const struct codes *codes,
                   const struct coded_query *query, uint32_t first, uint32_t count,
                   float *distance_out);

/* In the metric's own scale, lower is better: negated similarity, squared L2. As far as codes
 * know. */
static inline float quantize_distance(const struct coded_query *query, float distance)
{
    return query->offset + query->worth * distance;
}

/* By how much the `distance` that quantize_score() gave a row may be wrong, in nearly all cases
 * (more than 99 %), in the same units. 0: kinds that have no bound. */
float quantize_error(const struct quantizer *quantizer, const struct codes *codes,
                     const struct coded_query *query, uint32_t row, float distance);

/* ---- distances between rows, of codes that graphs are built on ---- */

/* From row `from` to each of `rows`. SQ8: exact integers up to 2^24, then rounded. 0 for equal
 * codes, and the same in both directions. */
void quantize_score_row(const struct quantizer *quantizer, const struct codes *codes, uint32_t from,
                        const uint32_t *rows, uint32_t count, float *distance_out);
float quantize_between(const struct quantizer *quantizer, const struct codes *codes, uint32_t a,
                       uint32_t b);

#endif
