/* encoding_split.c: BYTE_STREAM_SPLIT: all first bytes of the values, then all second bytes, and so
 * on; what a codec finds easier. Values are taken in tiles that stay in the first-level cache,
 * because one pass per byte over everything would read the array `width` times.
 *
 * Source: Encodings.md of apache/parquet-format, "Byte Stream Split". */
#include <string.h>

#include "encoding.h"

enum { TILE = 256 }; /* values */

static inline __attribute__((always_inline)) void
scatter(const uint8_t *in, uint8_t *out, size_t count, size_t from, size_t to, size_t width)
{
    for (size_t b = 0; b < width; b++)
        for (size_t i = from; i < to; i++)
            out[b * count + i] = in[i * width + b];
}

static inline __attribute__((always_inline)) void
gather(const uint8_t *in, uint8_t *out, size_t count, size_t from, size_t to, size_t width)
{
    for (size_t b = 0; b < width; b++)
        for (size_t i = from; i < to; i++)
            out[i * width + b] = in[b * count + i];
}

void pq_split_encode(struct pq_buffer *out, const void *values, size_t count, size_t width)
{
    size_t bytes = count * width; /* the caller has them in memory */
    uint8_t *to = pq_buffer_reserve(out, bytes);
    if (to == NULL)
        return;
    for (size_t from = 0; from < count; from += TILE) {
        size_t end = count - from < TILE ? count : from + TILE;
        if (width == 4)
            scatter(values, to, count, from, end, 4);
        else if (width == 8)
            scatter(values, to, count, from, end, 8);
        else
            scatter(values, to, count, from, end, width);
    }
    out->len += bytes;
}

int pq_split_decode(const uint8_t *data, size_t len, size_t count, size_t width, void *out)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, width, &bytes) || bytes > len)
        return PQFILE_CORRUPT;
    for (size_t from = 0; from < count; from += TILE) {
        size_t end = count - from < TILE ? count : from + TILE;
        if (width == 4)
            gather(data, out, count, from, end, 4);
        else if (width == 8)
            gather(data, out, count, from, end, 8);
        else
            gather(data, out, count, from, end, width);
    }
    return PQFILE_OK;
}
