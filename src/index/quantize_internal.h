/* What quantize.c and the kinds (sq8.c, sq4.c, full.c) share. */
#ifndef INDEX_QUANTIZE_INTERNAL_H
#define INDEX_QUANTIZE_INTERNAL_H

#include "index/quantize.h"

/* A code's number of one unit is never more than this many units away: squares of sums stay far
 * inside float32. */
#define QUANTIZE_UNITS_MAX 1e14f

/* Writes `columns` numbers: the vector as the metric sees it (normalised, with the column of
 * dot). */
void quantize_place(const struct quantizer *quantizer, const float *vector, float *placed_out);
/* The same less the mean, in units of the scale. */
void quantize_centre(const struct quantizer *quantizer, const float *vector, float *centred_out);

void sq8_encode(const struct quantizer *quantizer, const float *centred, const struct codes *codes,
                uint32_t row);
/* centred: becomes the rotated one. nibbles: `columns` bytes of scratch. */
void sq4_encode(const struct quantizer *quantizer, float *centred, uint8_t *nibbles,
                const struct codes *codes, uint32_t row);

/* Orthogonal, the same for the same seed, in place: distances stay what they are, while what was in
 * few dimensions is spread over all. */
void sq4_rotate(uint64_t seed, float *values, uint32_t columns);

void full_encode(const struct quantizer *quantizer, const float *vector, const struct codes *codes,
                 uint32_t row);
void full_query(const struct quantizer *quantizer, const float *vector, void *memory,
                struct coded_query *query_out);
void full_score(const struct quantizer *quantizer, const struct codes *codes,
                const struct coded_query *query, const uint32_t *rows, uint32_t count,
                float *distance_out);
void full_scan(const struct quantizer *quantizer, const struct codes *codes,
               const struct coded_query *query, uint32_t first, uint32_t count,
               float *distance_out);
void full_score_row(const struct quantizer *quantizer, const struct codes *codes, uint32_t from,
                    const uint32_t *rows, uint32_t count, float *distance_out);
float full_between(const struct quantizer *quantizer, const struct codes *codes, uint32_t a,
                   uint32_t b);

#endif
