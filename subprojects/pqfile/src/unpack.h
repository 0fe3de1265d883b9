/* unpack.h: unsigned integers of a fixed bit width, packed least significant bit first: what the
 * hybrid and DELTA_BINARY_PACKED are made of. Always in groups of eight, which end on a byte. */
#ifndef PQFILE_UNPACK_H
#define PQFILE_UNPACK_H

#include <stddef.h>
#include <stdint.h>

/* Unpacks `groups` times eight values of `width` bits from `in`, where groups * width bytes must be
 * readable; nothing at or behind `end` is read. Width 0 gives zeros. */
void pq_unpack_u8(const uint8_t *in, const uint8_t *end, size_t groups, unsigned width,
                  uint8_t *out); /* width 0..8 */
void pq_unpack_u32(const uint8_t *in, const uint8_t *end, size_t groups, unsigned width,
                   uint32_t *out); /* width 0..32 */
void pq_unpack_u64(const uint8_t *in, const uint8_t *end, size_t groups, unsigned width,
                   uint64_t *out); /* width 0..64 */

/* Collects bits for a packer; starts zeroed. */
struct pq_packer {
    uint8_t *to; /* the next byte to write */
    uint64_t bits;
    unsigned fill; /* < 64 */
};

/* Adds a value below 2^width; width 0..64. */
void pq_pack(struct pq_packer *p, uint64_t value, unsigned width);

/* Writes what is left, up to a whole byte. */
void pq_pack_flush(struct pq_packer *p);

#endif
