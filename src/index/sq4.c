/* sq4.c: codes of half a byte a dimension.
 *
 * Sixteen steps are too few for dimensions of unlike variance, so rows are rotated first: four
 * rounds of random signs and a Hadamard transform over the largest power of two of the columns, at
 * the front and at the back in turn, so that every column meets every other. That is orthogonal and
 * costs n log n. After it the values of a row are about normal, and one step a row serves all of
 * its columns: of eight candidates the one whose code points most nearly the way the row does.
 *
 * The inner product is estimated as <x, q> = |x|^2 / <x, code> x <code, q>, exact for the row
 * itself and unbiased about it (as RaBitQ's, Gao and Long, SIGMOD 2024). */
#include "base/hash.h"
#include "index/quantize_internal.h"

#include <math.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { ROUNDS = 4, STEPS = 8, NIBBLE_MAX = 15 };

static const float middle = 7.5f;

static void hadamard(float *values, uint32_t count)
{
    for (uint32_t half = 1; half < count; half *= 2)
        for (uint32_t i = 0; i < count; i += 2 * half)
            for (uint32_t j = i; j < i + half; j++) {
                float a = values[j], b = values[j + half];
                values[j] = a + b;
                values[j + half] = a - b;
            }
    float factor = 1.0f / sqrtf((float)count);
    for (uint32_t i = 0; i < count; i++)
        values[i] *= factor;
}

static void flip_signs(uint64_t seed, float *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += 64) {
        uint64_t bits = hash_u64(seed + i);
        uint32_t end = count - i < 64 ? count : i + 64;
        for (uint32_t j = i; j < end; j++, bits >>= 1)
            values[j] = bits & 1 ? -values[j] : values[j];
    }
}

void sq4_rotate(uint64_t seed, float *values, uint32_t columns)
{
    uint32_t power = 1;
    while (power * 2 <= columns)
        power *= 2;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        flip_signs(hash_u64(seed ^ (round + 1)), values, columns);
        hadamard(round % 2 == 1 ? values + (columns - power) : values, power);
    }
}

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
    sq4_rotate(quantizer->seed, centred, columns);
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
    vecmath_sq4_pack(nibbles, columns, codes->bytes + (size_t)row * quantizer->stride);
    float product = agreement(centred, columns, inverse_step, &code_norm);
    codes->factors[2 * (size_t)row] = 0.5f * norm;
    codes->factors[2 * (size_t)row + 1] = product > 0 ? norm / product : 0.0f;
}
