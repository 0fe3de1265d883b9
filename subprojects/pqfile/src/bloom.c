/* bloom.c: see bloom.h. The block is chosen by the hash's upper half, the bits by its lower half,
 * so one cache line is touched per value. */
#include "bloom.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include <xxhash.h>

enum { WORDS = PQ_BLOOM_BLOCK_BYTES / 4 };

static const uint32_t salt[WORDS] = {0x47b6137bU, 0x44974d91U, 0x8824ad5bU, 0xa2b7289dU,
                                     0x705495c7U, 0x2df1424bU, 0x9efc4947U, 0x5c6bfb31U};

uint64_t pq_bloom_hash(const void *value, size_t len)
{
    return XXH64(value, len, 0);
}

uint32_t pq_bloom_bytes(uint64_t distinct, double fpp)
{
    /* Eight bits a value in blocks: bits = -8 n / ln(1 - fpp^(1/8)). */
    double bits = -8.0 * (double)distinct / log(1.0 - pow(fpp, 1.0 / 8.0));
    uint32_t bytes = PQ_BLOOM_BLOCK_BYTES;
    while (bytes < PQ_BLOOM_BYTES_MAX && (double)bytes * 8.0 < bits)
        bytes *= 2;
    return bytes;
}

static size_t block_offset(uint32_t bits_bytes, uint64_t hash)
{
    assert(bits_bytes >= PQ_BLOOM_BLOCK_BYTES && bits_bytes % PQ_BLOOM_BLOCK_BYTES == 0);
    uint64_t blocks = bits_bytes / PQ_BLOOM_BLOCK_BYTES;
    return (size_t)(((hash >> 32) * blocks) >> 32) * PQ_BLOOM_BLOCK_BYTES;
}

static uint32_t word_bit(uint64_t hash, unsigned word)
{
    return 1U << (((uint32_t)hash * salt[word]) >> 27);
}

void pq_bloom_insert(uint8_t *bits, uint32_t bits_bytes, uint64_t hash)
{
    uint8_t *block = bits + block_offset(bits_bytes, hash);
    uint32_t words[WORDS];
    memcpy(words, block, sizeof words);
    for (unsigned i = 0; i < WORDS; i++)
        words[i] |= word_bit(hash, i);
    memcpy(block, words, sizeof words);
}

bool pq_bloom_contains(const uint8_t *bits, uint32_t bits_bytes, uint64_t hash)
{
    const uint8_t *block = bits + block_offset(bits_bytes, hash);
    uint32_t words[WORDS];
    memcpy(words, block, sizeof words);
    for (unsigned i = 0; i < WORDS; i++)
        if ((words[i] & word_bit(hash, i)) == 0)
            return false;
    return true;
}
