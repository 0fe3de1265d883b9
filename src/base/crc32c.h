/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the processor's instruction where there is
 * one. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 for a new sum) over `len` bytes. crc32c(crc32c(0, a), b) is the sum of a then
 * b. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);

/* The portable reference; tests hold the fast one against it. */
uint32_t crc32c_reference(uint32_t crc, const void *bytes, size_t len);

#endif
