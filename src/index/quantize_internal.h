/* What quantize.c and the kinds (sq8.c, sq4.c, rabitq.c, full.c) share. */
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
void quantize_rotate(uint64_t seed, float *values, uint32_t columns);

/* Largest absolute value. */
float quantize_largest(const float *values, uint32_t count);

/* Columns that a code of BINARY has: with zeros behind the vector's. */
static inline uint32_t quantize_width(const struct quantizer *quantizer)
{
    return (uint32_t)vecmath_bits_columns(quantizer->columns);
}

size_t rabitq_code_bytes(uint32_t width, uint32_t bits);
/* centred: room for the width; becomes the rotated one. numbers: as many bytes of scratch. */
void rabitq_encode(const struct quantizer *quantizer, float *centred, uint8_t *numbers,
                   const struct codes *codes, uint32_t row);
/* Whether the numbers of a code are finite. */
bool rabitq_is_sound(const struct quantizer *quantizer, const uint8_t *code);
/* placed: room for the width; becomes the rotated one. memory: vecmath_bits_query_bytes. */
void rabitq_query(const struct quantizer *quantizer, float *placed, void *memory,
                  struct coded_query *query);
void rabitq_score(const struct quantizer *quantizer, const struct codes *codes,
                  const struct coded_query *query, const uint32_t *rows, uint32_t count,
                  float *distance_out);
void rabitq_scan(const struct quantizer *quantizer, const struct codes *codes,
                 const struct coded_query *query, uint32_t first, uint32_t count,
                 float *distance_out);
/* In units of the code. */
float rabitq_error(const struct quantizer *quantizer, const struct codes *codes,
                   const struct coded_query *query, uint32_t row, float distance);

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
