/* bitset.c: what is too long to be inline. */
#include "base/bitset.h"

size_t bitset_count(const uint64_t *words, size_t bit_count)
{
    size_t total = 0;
    for (size_t i = 0; i < bit_count / 64; i++)
        total += (size_t)__builtin_popcountll(words[i]);
    if (bit_count % 64 != 0) {
        /* Bits past the end are nobody's; a caller may have left anything there. */
        uint64_t last = words[bit_count / 64] & (((uint64_t)1 << (bit_count % 64)) - 1);
        total += (size_t)__builtin_popcountll(last);
    }
    return total;
}
