/* sq4.c: codes of half a byte a dimension.
 *
 * Sixteen steps are too few for dimensions of unlike variance, so rows are rotated first. After
 * that the values of a row are about normal, and one step a row serves all of its columns: of eight
 * candidates the one whose code points most nearly the way the row does.
 *
 * The inner product is estimated as <x, q> = |x|^2 / <x, code> x <code, q>, exact for the row
 * itself and unbiased about it (as RaBitQ's, Gao and Long, SIGMOD 2024). */
#include "index/quantize_internal.h"

#include <math.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { STEPS = 8, NIBBLE_MAX = 15 };

static const float middle = 7.5f;

static float nibble_of(float value, float inverse_step)
{
    float number = value * inverse_step + 8.0f;
    number = number < NIBBLE_MAX ? number : NIBBLE_MAX;
    return (float)(int32_t)(number > 0 ? number : 0);
}

/* <x, code> for a step; with norm_out: |code|^2. */
static float agreement(const float *x, uint32_t columns, float inverse_step, float *norm_out)
{
    float product = 0, norm = 0;
    for (uint32_t i = 0; i < columns; i++) {
        float number = nibble_of(x[i], inverse_step) - middle;
        product += x[i] * number;
        norm += number * number;
    }
    *norm_out = norm;
    return product;
}

void sq4_encode(const struct quantizer *quantizer, float *centred, uint8_t *nibbles,
                const struct codes *codes, uint32_t row)
{
    const uint32_t columns = quantizer->columns;
    float norm = 0, most = 0, code_norm;
    quantize_rotate(quantizer->seed, centred, columns);
    for (uint32_t i = 0; i < columns; i++) {
        norm += centred[i] * centred[i];
        most = fabsf(centred[i]) > most ? fabsf(centred[i]) : most;
    }
    float best = -1.0f, inverse_step = 0;
    for (int i = 0; most > 1e-30f && i < STEPS; i++) { /* less is as good as 0 */
        float inverse = middle / (most * (0.5f + 0.07f * (float)i));
        float product = agreement(centred, columns, inverse, &code_norm);
        float cosine = product / sqrtf(code_norm);
        if (cosine > best) {
            best = cosine;
            inverse_step = inverse;
        }
    }
    for (uint32_t i = 0; i < columns; i++)
        nibbles[i] = (uint8_t)nibble_of(centred[i], inverse_step);
    uint8_t *code = codes->bytes + (size_t)row * quantizer->stride;
    const size_t bytes = vecmath_sq4_code_bytes(columns);
    vecmath_sq4_pack(nibbles, columns, code);
    memset(code + bytes, 0, quantizer->stride - bytes);
    float product = agreement(centred, columns, inverse_step, &code_norm);
    codes->factors[2 * (size_t)row] = 0.5f * norm;
    codes->factors[2 * (size_t)row + 1] = product > 0 ? norm / product : 0.0f;
}
