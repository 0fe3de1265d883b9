/* Product quantization: four bits for each part of a vector, which say which of 16 centroids of
 * that part is nearest. Two columns a part by default: two bits a column, half of SQ4.
 *
 * What is coded is a vector as quantize_centre() gives it, in units of the scale, less an origin:
 * nothing, or the centroid of the row's list. With r the decoded rest, c the origin and q the
 * query,
 *
 *     |q - c - r|^2 / 2  =  |q - c|^2 / 2  +  (|r|^2 / 2 + <c, r>)  -  <q, r>
 *
 * the first term belongs to the list and is a by-product of choosing it, the second one to the row
 * and is stored (codes.factors), and only the last one needs tables: one set for a query, whatever
 * lists it looks at. (Tables for each list, or terms of lists by parts that are added into them,
 * cost as much as scanning some hundred rows.) For dot it is -<q, c> - <q, r>. */
#ifndef INDEX_PQ_H
#define INDEX_PQ_H

#include "index/quantize.h"

enum {
    PQ_BITS = 4, /* of a part */
    PQ_PART_COLUMNS = 2,
    PQ_PARTS_MAX = 1024, /* where two columns a part would give more, parts are wider */
    PQ_SAMPLE_MAX = 4096,
};

/* Fills in part_columns (unless it fits), part_count and stride. */
void pq_shape(struct quantizer *quantizer);
/* Whether part_columns is 1 to 16 and not too few, or what pq_shape() chooses itself. */
bool pq_fits(uint32_t dimension, uint32_t part_columns);

/* Columns with those that fill up the last part. */
static inline uint32_t pq_width(const struct quantizer *quantizer)
{
    return quantizer->part_count * quantizer->part_columns;
}

static inline size_t pq_codebook_bytes(const struct quantizer *quantizer)
{
    return (size_t)pq_width(quantizer) * VECMATH_PQ4_CENTROIDS * sizeof(float);
}

static inline struct vecmath_pq4 pq_of(const struct quantizer *quantizer)
{
    return (struct vecmath_pq4){quantizer->codebook, quantizer->part_count,
                                quantizer->part_columns};
}

/* Learns the centroids of one part from `count` rows of pq_width() floats, at most PQ_SAMPLE_MAX
 * (k-means); parts may be trained by several workers at once. scratch: pq_part_scratch_bytes. */
size_t pq_part_scratch_bytes(const struct quantizer *quantizer);
void pq_train_part(const struct quantizer *quantizer, const float *values, uint32_t count,
                   uint32_t part, void *scratch);

/* Learns all of them from vectors: of a quantizer whose mean and scale have been learned. `count`
 * vectors, of which the first PQ_SAMPLE_MAX / 2 are used. PDB_RESOURCE_EXHAUSTED. */
int pq_train(struct quantizer *quantizer, const float *sample, size_t stride_bytes, uint32_t count,
             struct heap *heap);
size_t pq_train_bytes(const struct quantizer *quantizer);

/* centred: pq_width() floats, of which origin (columns numbers, or NULL) is taken off in place.
 * scratch: pq_encode_scratch_bytes. */
size_t pq_encode_scratch_bytes(const struct quantizer *quantizer);
void pq_encode(const struct quantizer *quantizer, float *centred, const int8_t *origin,
               void *scratch, const struct codes *codes, uint32_t row);

/* Distances of the rows of one block, of which there may be fewer than 32, and which of them are at
 * most `bound`. */
static inline uint32_t pq_scan(const struct quantizer *quantizer, const struct codes *codes,
                               const struct coded_query *query, uint32_t block, float bound,
                               float *distance_out)
{
    return vecmath_pq4_scan(&query->pq4, codes->bytes + (size_t)block * quantizer->stride,
                            query->base, codes->factors + (size_t)block * VECMATH_PQ4_ROWS, bound,
                            distance_out);
}

/* quantize_query_bytes() of any quantizer of this kind and so many dimensions. */
size_t pq_query_bytes_max(uint32_t dimension_max);

float pq_score(const struct quantizer *quantizer, const struct codes *codes,
               const struct coded_query *query, uint32_t row);

#endif
