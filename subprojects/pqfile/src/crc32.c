/* crc32.c: the checksum of pages, CRC-32 as in gzip (reflected 0x04c11db7); declared in codec.h.
 *
 * Vectors are written and read with nothing but this per byte, so it has to keep up with memory:
 * zlib's tables do about 3 GB/s, folding with carry-less multiplication 15. Four
 * 128-bit lanes are folded 64 bytes at a time into one of 128 bits that has the same remainder;
 * what is left is short and goes through zlib. The constants are x^n mod P, reflected, shifted by
 * one: n = 4*128+32, 4*128-32 for four lanes and 128+32, 128-32 for one. Source: Gopal et al.,
 * "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ", Intel 2009. */
#include "codec.h"

#include <string.h>
#include <zlib.h>

enum { LANE = 16, BLOCK = 4 * LANE };

#if defined(__x86_64__)
#include <immintrin.h>

#define FOLDING __attribute__((target("pclmul,sse2")))

FOLDING static inline __m128i load(const uint8_t *bytes)
{
    return _mm_loadu_si128((const __m128i *)(const void *)bytes);
}

FOLDING static inline __m128i fold(__m128i lane, __m128i by, __m128i next)
{
    __m128i low = _mm_clmulepi64_si128(lane, by, 0x00);
    __m128i high = _mm_clmulepi64_si128(lane, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* len: a multiple of LANE, at least BLOCK. */
FOLDING static uint32_t crc_folding(uint32_t crc, const uint8_t *bytes, size_t len)
{
    const __m128i by_four = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by_one = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    const uint8_t *end = bytes + len;
    __m128i a = _mm_xor_si128(load(bytes), _mm_cvtsi32_si128((int)~crc));
    __m128i b = load(bytes + LANE), c = load(bytes + 2 * LANE), d = load(bytes + 3 * LANE);
    for (bytes += BLOCK; end - bytes >= BLOCK; bytes += BLOCK) {
        a = fold(a, by_four, load(bytes));
        b = fold(b, by_four, load(bytes + LANE));
        c = fold(c, by_four, load(bytes + 2 * LANE));
        d = fold(d, by_four, load(bytes + 3 * LANE));
    }
    a = fold(fold(fold(a, by_one, b), by_one, c), by_one, d);
    for (; bytes < end; bytes += LANE)
        a = fold(a, by_one, load(bytes));
    uint8_t rest[LANE];
    memcpy(rest, &a, sizeof rest);
    return (uint32_t)crc32_z(UINT32_MAX, rest, sizeof rest); /* a register of zeros, not of ones */
}

static bool can_fold(void)
{
    return __builtin_cpu_supports("pclmul");
}
#else
static uint32_t crc_folding(uint32_t crc, const uint8_t *bytes, size_t len)
{
    return (uint32_t)crc32_z(crc, bytes, len);
}

static bool can_fold(void)
{
    return false;
}
#endif

uint32_t pq_crc32(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    size_t folded = len & ~(size_t)(LANE - 1);
    if (len == 0)
        return crc;
    if (len >= BLOCK && can_fold()) {
        crc = crc_folding(crc, bytes, folded);
        bytes += folded;
        len -= folded;
    }
    return (uint32_t)crc32_z(crc, bytes, len);
}
