/* rotate.c: the rotation before codes of few bits: four rounds of random signs and a Hadamard
 * transform over the largest power of two of the columns, at the front and at the back in turn, so
 * that every column meets every other. That is orthogonal, costs n log n (a microsecond for 768
 * columns), and needs nothing but a seed. */
#include "base/hash.h"
#include "index/quantize_internal.h"

#include "base/no_libc_heap.h"

enum { ROUNDS = 4, WORDS_AT_ONCE = 16 };

static void flip_signs(uint64_t seed, float *values, uint32_t count)
{
    uint64_t words[WORDS_AT_ONCE];
    for (uint32_t from = 0; from < count; from += WORDS_AT_ONCE * 64) {
        uint32_t some = count - from < WORDS_AT_ONCE * 64 ? count - from : WORDS_AT_ONCE * 64;
        for (uint32_t i = 0; i < some; i += 64)
            words[i / 64] = hash_u64(seed + from + i);
        vecmath_flip_signs_f32(values + from, some, words);
    }
}

void quantize_rotate(uint64_t seed, float *values, uint32_t columns)
{
    uint32_t power = 1;
    while (power * 2 <= columns)
        power *= 2;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        flip_signs(hash_u64(seed ^ (round + 1)), values, columns);
        vecmath_hadamard_f32(round % 2 == 1 ? values + (columns - power) : values, power);
    }
}
