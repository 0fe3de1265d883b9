/* What quantize.c and the kinds (sq8.c, sq4.c) share. */
#ifndef INDEX_QUANTIZE_INTERNAL_H
#define INDEX_QUANTIZE_INTERNAL_H

#include "index/quantize.h"

/* A code's number of one unit is never more than this many units away: squares of sums stay far
 * inside float32. */
#define QUANTIZE_UNITS_MAX 1e14f

/* Writes `columns` numbers: the vector as the metric sees it (normalised, with the column of dot),
 * less the mean, in units of the scale. */
void quantize_centre(const struct quantizer *quantizer, const float *vector, float *centred_out);

void sq8_encode(const struct quantizer *quantizer, const float *centred, const struct codes *codes,
                uint32_t row);
/* centred: becomes the rotated one. nibbles: `columns` bytes of scratch. */
void sq4_encode(const struct quantizer *quantizer, float *centred, uint8_t *nibbles,
                const struct codes *codes, uint32_t row);

/* Orthogonal, the same for the same seed, in place: distances stay what they are, while what was in
 * few dimensions is spread over all. */
void sq4_rotate(uint64_t seed, float *values, uint32_t columns);

#endif
