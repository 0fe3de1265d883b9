/* encoding_plain.c: PLAIN. Numbers and fixed-length bytes lie as in memory; booleans are one bit
 * each, the first in the lowest bit; a BYTE_ARRAY is four bytes of length and its bytes.
 *
 * Source: Encodings.md of apache/parquet-format, "Plain". */
#include <assert.h>
#include <string.h>

#include "encoding.h"
#include "unpack.h"

enum { LENGTH_BYTES = 4 };

void pq_plain_encode_bool(struct pq_buffer *out, const uint8_t *values, size_t count)
{
    uint8_t *to = pq_buffer_reserve(out, count / 8 + 1);
    if (to == NULL)
        return;
    struct pq_packer packer = {.to = to};
    for (size_t i = 0; i < count; i++)
        pq_pack(&packer, values[i] != 0, 1);
    pq_pack_flush(&packer);
    out->len += (size_t)(packer.to - to);
}

void pq_plain_encode_bytes(struct pq_buffer *out, const struct pqfile_bytes *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert(values[i].len <= INT32_MAX);
        uint32_t len = (uint32_t)values[i].len;
        uint8_t *to = pq_buffer_reserve(out, LENGTH_BYTES + (size_t)len);
        if (to == NULL)
            return;
        memcpy(to, &len, LENGTH_BYTES);
        if (len != 0)
            memcpy(to + LENGTH_BYTES, values[i].data, len);
        out->len += LENGTH_BYTES + (size_t)len;
    }
}

int pq_plain_decode_fixed(const uint8_t *data, size_t len, size_t count, size_t width, void *out)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, width, &bytes) || bytes > len)
        return PQFILE_CORRUPT;
    if (bytes != 0)
        memcpy(out, data, bytes);
    return PQFILE_OK;
}

int pq_plain_decode_bool(const uint8_t *data, size_t len, size_t count, uint8_t *out)
{
    size_t groups = count / 8;
    if (groups + (count % 8 != 0) > len)
        return PQFILE_CORRUPT;
    pq_unpack_u8(data, data + len, groups, 1, out);
    for (size_t i = groups * 8; i < count; i++)
        out[i] = (data[i / 8] >> (i % 8)) & 1;
    return PQFILE_OK;
}

int pq_plain_decode_bytes(const uint8_t *data, size_t len, size_t count, struct pqfile_bytes *out)
{
    size_t left = len;
    for (size_t i = 0; i < count; i++) {
        uint32_t value_len = 0;
        if (left < LENGTH_BYTES)
            return PQFILE_CORRUPT;
        memcpy(&value_len, data, LENGTH_BYTES);
        left -= LENGTH_BYTES;
        data += LENGTH_BYTES;
        if (value_len > left)
            return PQFILE_CORRUPT;
        out[i] = (struct pqfile_bytes){.data = data, .len = value_len};
        data += value_len;
        left -= value_len;
    }
    return left == 0 ? PQFILE_OK : PQFILE_CORRUPT;
}
