/* bandwidth.c: loops that do nothing but read.
 *
 * No single loop is the fastest reader everywhere: it depends on how well the hardware's
 * prefetchers follow one stream or several, and on whether software prefetches help or only cost
 * slots. So several are tried, from a plain 64-bit loop to four streams of the widest registers
 * with prefetches, and the caller takes the best one as "the machine's read bandwidth". The
 * combining operation is XOR, one cycle, so that arithmetic never limits.
 */
#include "bandwidth.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { LINE = 64, PAGE = 4096 };

static bool always(void)
{
    return true;
}

static uint64_t read_u64(const void *buffer, size_t bytes)
{
    const uint64_t *word = buffer;
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < bytes / sizeof *word; i += 8)
        for (size_t lane = 0; lane < 8; lane++)
            sum[lane] ^= word[i + lane];
    uint64_t all = 0;
    for (size_t lane = 0; lane < 8; lane++)
        all ^= sum[lane];
    return all;
}

#if defined(__x86_64__)

#define AVX2   __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f")))
#define INLINE static inline __attribute__((always_inline))

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}

INLINE AVX2 __m256i load_256(const char *at)
{
    return _mm256_load_si256((const __m256i *)(const void *)at);
}

/* Reads `streams` equal parts of the buffer side by side, one line of each in turn. The prefetch
 * runs `ahead` bytes before the read, 0 for none; at the end of a stream it stays on the last
 * line. */
INLINE AVX2 uint64_t read_256(const void *buffer, size_t bytes, size_t streams, size_t ahead)
{
    const size_t part = bytes / streams;
    __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                      _mm256_setzero_si256()};
    for (size_t i = 0; i < part; i += LINE) {
        for (size_t s = 0; s < streams; s++) {
            const char *at = (const char *)buffer + s * part + i;
            if (ahead > 0)
                __builtin_prefetch(i + ahead < part ? at + ahead : at, 0, 3);
            sum[s] = _mm256_xor_si256(sum[s], load_256(at));
            sum[s] = _mm256_xor_si256(sum[s], load_256(at + LINE / 2));
        }
    }
    __m256i all =
        _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
    return (uint64_t)(_mm256_extract_epi64(all, 0) ^ _mm256_extract_epi64(all, 1) ^
                      _mm256_extract_epi64(all, 2) ^ _mm256_extract_epi64(all, 3));
}

/* The same with one load per line. */
INLINE AVX512 uint64_t read_512(const void *buffer, size_t bytes, size_t streams, size_t ahead,
                                bool keep)
{
    const size_t part = bytes / streams;
    __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                      _mm512_setzero_si512()};
    for (size_t i = 0; i < part; i += LINE) {
        for (size_t s = 0; s < streams; s++) {
            const char *at = (const char *)buffer + s * part + i;
            const char *later = i + ahead < part ? at + ahead : at;
            if (ahead > 0 && keep)
                __builtin_prefetch(later, 0, 3);
            if (ahead > 0 && !keep)
                __builtin_prefetch(later, 0, 0);
            sum[s] = _mm512_xor_si512(sum[s], _mm512_load_si512(at));
        }
    }
    __m512i all =
        _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3]));
    return (uint64_t)_mm512_reduce_add_epi64(all);
}

#define READ_256(streams, ahead)                                                                   \
    static AVX2 uint64_t read_256_##streams##_##ahead(const void *buffer, size_t bytes)            \
    {                                                                                              \
        return read_256(buffer, bytes, streams, ahead);                                            \
    }
#define READ_512(streams, ahead, keep)                                                             \
    static AVX512 uint64_t read_512_##streams##_##ahead##_##keep(const void *buffer, size_t bytes) \
    {                                                                                              \
        return read_512(buffer, bytes, streams, ahead, keep);                                      \
    }

READ_256(1, 0)
READ_256(1, 4096)
READ_256(4, 0)
READ_512(1, 0, 1)
READ_512(1, 2048, 1)
READ_512(1, 8192, 1)
READ_512(1, 2048, 0)
READ_512(2, 0, 1)
READ_512(4, 0, 1)
READ_512(4, 2048, 1)

#endif

static const struct read_method methods[] = {
    {"64-bit words", read_u64, always},
#if defined(__x86_64__)
    {"avx2", read_256_1_0, has_avx2},
    {"avx2, prefetch 4 KiB", read_256_1_4096, has_avx2},
    {"avx2, 4 streams", read_256_4_0, has_avx2},
    {"avx512", read_512_1_0_1, has_avx512},
    {"avx512, prefetch 2 KiB", read_512_1_2048_1, has_avx512},
    {"avx512, prefetch 8 KiB", read_512_1_8192_1, has_avx512},
    {"avx512, non-temporal prefetch 2 KiB", read_512_1_2048_0, has_avx512},
    {"avx512, 2 streams", read_512_2_0_1, has_avx512},
    {"avx512, 4 streams", read_512_4_0_1, has_avx512},
    {"avx512, 4 streams, prefetch 2 KiB", read_512_4_2048_1, has_avx512},
#endif
};

const struct read_method *read_methods(size_t *count_out)
{
    *count_out = sizeof methods / sizeof methods[0];
    return methods;
}
