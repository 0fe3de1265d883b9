/* pq4.h: product quantization with four bits a part, scanned in registers.
 *
 * A vector is cut into parts of `part_columns` numbers, and each part is replaced by the nearest of
 * 16 centroids of its own. For a query, the 16 inner products of each part with its centroids are
 * coded as bytes, which is a table that fits one vector register: a shuffle looks up 16 rows at a
 * time (André, Kermarrec, Le Scouarnec, VLDB 2015; as "fast scan" in later libraries). Sums of
 * table entries are integers and the same on every processor and implementation; vecmath_select()
 * chooses the implementation. Every function is pure.
 *
 * Blocks. 32 rows lie together: 16 bytes a part, byte j with the number of row j in its low half
 * and that of row 16 + j in its high half. The number of parts is rounded up to a multiple of four
 * (`vecmath_pq4_parts`), so that a block is whole lines and vectors of all widths need no
 * remainder; tables of parts that do not exist are 0.
 *
 * Codebook: for each part, for each of its columns, 16 floats, one a centroid. The columns of a
 * vector that are missing in the last part are taken as 0. */
#ifndef VECMATH_PQ4_H
#define VECMATH_PQ4_H

#include <stddef.h>
#include <stdint.h>

enum {
    VECMATH_PQ4_ROWS = 32, /* of a block */
    VECMATH_PQ4_CENTROIDS = 16,
    VECMATH_PQ4_PARTS_MAX = 65536, /* sums of 255 stay below 2^24, exact as float32 */
    VECMATH_PQ4_ALIGNMENT = 64,
};

/* Parts in a block for `part_count` of them. */
static inline size_t vecmath_pq4_parts(size_t part_count)
{
    return (part_count + 3) / 4 * 4;
}

static inline size_t vecmath_pq4_block_bytes(size_t part_count)
{
    return vecmath_pq4_parts(part_count) * (VECMATH_PQ4_ROWS / 2);
}

/* A codebook and what it is for. */
struct vecmath_pq4 {
    const float *codebook; /* part_count x part_columns x 16 */
    size_t part_count, part_columns;
};

/* values: part_count x part_columns floats. number_out: one of 0..15 for each part, the nearest
 * centroid's; of those as near within float32's rounding any one. */
void vecmath_pq4_encode(const struct vecmath_pq4 *pq, const float *values, uint8_t *number_out);
/* What numbers stand for: part_count x part_columns floats. */
void vecmath_pq4_decode(const struct vecmath_pq4 *pq, const uint8_t *numbers, float *value_out);

/* Writes the numbers of row `lane` of a block, or reads them. Other rows stay as they are. */
void vecmath_pq4_put(const uint8_t *numbers, size_t part_count, size_t lane, void *block);
void vecmath_pq4_get(const void *block, size_t part_count, size_t lane, uint8_t *number_out);

/* A query ready for blocks: -<query, row> is about bias + unit x sum of the tables' entries. */
struct vecmath_pq4_query {
    const uint8_t *tables; /* parts of a block x 16 */
    size_t part_count;
    float bias, unit; /* unit >= 0 */
};

/* Bytes of memory, aligned to VECMATH_PQ4_ALIGNMENT, that a query needs as long as it lives. */
size_t vecmath_pq4_query_bytes(size_t part_count);
void vecmath_pq4_query_set(const struct vecmath_pq4 *pq, const float *values, void *memory,
                           struct vecmath_pq4_query *query_out);

/* Sums of one block's 32 rows. */
void vecmath_pq4_sums(const struct vecmath_pq4_query *query, const void *block, uint32_t *sum_out);

/* distance_out of 32 rows: base + terms[i] + unit x sum; bit i of the result: whether that is at
 * most `bound`. NaN is not. terms: 32 floats at any address. */
uint32_t vecmath_pq4_scan(const struct vecmath_pq4_query *query, const void *block, float base,
                          const float *terms, float bound, float *distance_out);

/* The sum of one row. */
uint32_t vecmath_pq4_sum(const struct vecmath_pq4_query *query, const void *block, size_t lane);

#endif
