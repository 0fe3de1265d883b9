/* bloom.h: split block bloom filters, as BloomFilter.md of apache/parquet-format says: blocks of
 * eight 32-bit words, one bit a word for each value, xxHash64 (seed 0) of a value's PLAIN bytes. */
#ifndef PQFILE_BLOOM_H
#define PQFILE_BLOOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PQ_BLOOM_BLOCK_BYTES = 32,
    PQ_BLOOM_BYTES_MAX = 128 << 20, /* as other implementations */
};

uint64_t pq_bloom_hash(const void *value, size_t len);

/* Bytes of bits, a power of two between one block and PQ_BLOOM_BYTES_MAX, so that of `distinct`
 * values at most a share of `fpp` (0..1) more seems to be in it. */
uint32_t pq_bloom_bytes(uint64_t distinct, double fpp);

/* bits: bits_bytes, a multiple of PQ_BLOOM_BLOCK_BYTES and not 0, zeroed before the first value.
 * Need no alignment. */
void pq_bloom_insert(uint8_t *bits, uint32_t bits_bytes, uint64_t hash);
bool pq_bloom_contains(const uint8_t *bits, uint32_t bits_bytes, uint64_t hash);

#endif
