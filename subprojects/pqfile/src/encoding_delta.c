/* encoding_delta.c: DELTA_BINARY_PACKED, and the two encodings of byte arrays made of it.
 *
 *   head:   varints: values a block, miniblocks a block, values in all; zigzag: the first value
 *   block:  zigzag: smallest delta; a byte of bit width for every miniblock; the miniblocks
 *   delta:  packed in its miniblock's width, less the block's smallest
 *
 * All arithmetic is modulo 2^64 or 2^32: extremes wrap around and come back. The last miniblock is
 * padded, the ones after it are left out, but their widths are there and mean nothing.
 *
 * The decoder is a stream of pieces of 32 values, since every miniblock holds a multiple of that:
 * DELTA_BYTE_ARRAY walks two streams at once and no array of lengths is needed.
 *
 * Source: Encodings.md of apache/parquet-format, "Delta Encoding"; Lemire and Boytsov (2015). */
#include <assert.h>
#include <string.h>

#include "encoding.h"
#include "unpack.h"

enum {
    PIECE = 32, /* values */
    BLOCK = 128,
    MINIBLOCKS = 4,
    BLOCK_MAX = 1 << 24, /* what is read; nobody writes over a few thousand */
    MINIBLOCK_BYTES_MAX = PIECE * 8,
    VARINT_BYTES_MAX = 10,
    WIDTH_MAX = 64, /* bits */
};

_Static_assert(BLOCK / MINIBLOCKS == PIECE, "the encoder packs a miniblock as one piece");

/* ---- encoder ---- */

static uint64_t zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static unsigned width_of(uint64_t max)
{
    return max == 0 ? 0 : 64 - (unsigned)__builtin_clzll(max);
}

/* One block of 1..BLOCK deltas. `deltas` has room for BLOCK. */
static void put_block(struct pq_buffer *out, uint64_t *deltas, size_t count, int64_t smallest)
{
    memset(deltas + count, 0, (BLOCK - count) * sizeof(*deltas));
    pq_buffer_add_varint(out, zigzag(smallest));
    uint8_t *widths = pq_buffer_reserve(out, MINIBLOCKS + MINIBLOCKS * MINIBLOCK_BYTES_MAX + 8);
    if (widths == NULL)
        return;
    struct pq_packer packer = {.to = widths + MINIBLOCKS};
    memset(widths, 0, MINIBLOCKS);
    for (size_t m = 0; m * PIECE < count; m++) {
        uint64_t all = 0;
        for (size_t i = m * PIECE; i < (m + 1) * PIECE; i++)
            all |= deltas[i];
        widths[m] = (uint8_t)width_of(all);
        for (size_t i = m * PIECE; i < (m + 1) * PIECE; i++)
            pq_pack(&packer, deltas[i], widths[m]);
        pq_pack_flush(&packer);
    }
    out->len += (size_t)(packer.to - widths);
}

static void put_head(struct pq_buffer *out, size_t count, int64_t first)
{
    pq_buffer_add_varint(out, BLOCK);
    pq_buffer_add_varint(out, MINIBLOCKS);
    pq_buffer_add_varint(out, count);
    pq_buffer_add_varint(out, zigzag(first));
}

void pq_delta_encode_i32(struct pq_buffer *out, const int32_t *values, size_t count)
{
    put_head(out, count, count == 0 ? 0 : values[0]);
    for (size_t from = 1; from < count; from += BLOCK) {
        uint64_t deltas[BLOCK];
        size_t len = count - from < BLOCK ? count - from : BLOCK;
        int32_t smallest = INT32_MAX;
        for (size_t i = 0; i < len; i++) {
            /* Wraps as 32 bits, so that no delta needs 33. */
            uint32_t delta = (uint32_t)values[from + i] - (uint32_t)values[from + i - 1];
            deltas[i] = delta;
            smallest = (int32_t)delta < smallest ? (int32_t)delta : smallest;
        }
        for (size_t i = 0; i < len; i++)
            deltas[i] = (uint32_t)deltas[i] - (uint32_t)smallest;
        put_block(out, deltas, len, smallest);
    }
}

void pq_delta_encode_i64(struct pq_buffer *out, const int64_t *values, size_t count)
{
    put_head(out, count, count == 0 ? 0 : values[0]);
    for (size_t from = 1; from < count; from += BLOCK) {
        uint64_t deltas[BLOCK];
        size_t len = count - from < BLOCK ? count - from : BLOCK;
        int64_t smallest = INT64_MAX;
        for (size_t i = 0; i < len; i++) {
            deltas[i] = (uint64_t)values[from + i] - (uint64_t)values[from + i - 1];
            smallest = (int64_t)deltas[i] < smallest ? (int64_t)deltas[i] : smallest;
        }
        for (size_t i = 0; i < len; i++)
            deltas[i] -= (uint64_t)smallest;
        put_block(out, deltas, len, smallest);
    }
}

/* ---- decoder ---- */

struct stream {
    const uint8_t *at;
    const uint8_t *end;
    const uint8_t *widths; /* of the block, one a miniblock */
    size_t miniblocks;     /* a block */
    size_t pieces;         /* a miniblock */
    size_t miniblock;      /* the one being read; == miniblocks: a block must be opened */
    size_t piece;          /* in it, the next */
    size_t left;           /* values to come, less the first */
    uint64_t smallest;     /* of the block */
    uint64_t last;         /* the value before */
    bool has_first;        /* `last` is a value to be given out */
};

static int read_varint(struct stream *s, uint64_t *value_out)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX && s->at < s->end; i++) {
        uint8_t byte = *s->at++;
        if (i == VARINT_BYTES_MAX - 1 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0) {
            *value_out = value;
            return PQFILE_OK;
        }
    }
    return PQFILE_CORRUPT;
}

static int read_zigzag(struct stream *s, uint64_t *value_out)
{
    uint64_t value = 0;
    if (read_varint(s, &value) < 0)
        return PQFILE_CORRUPT;
    *value_out = (value >> 1) ^ (0 - (value & 1));
    return PQFILE_OK;
}

static int stream_open(struct stream *s, const uint8_t *data, size_t len, size_t count)
{
    uint64_t block = 0, miniblocks = 0, total = 0;
    *s = (struct stream){.at = data, .end = data + len};
    if (count == 0 && len == 0)
        return PQFILE_OK;
    if (read_varint(s, &block) < 0 || read_varint(s, &miniblocks) < 0 ||
        read_varint(s, &total) < 0 || read_zigzag(s, &s->last) < 0)
        return PQFILE_CORRUPT;
    if (block == 0 || block > BLOCK_MAX || miniblocks == 0 || block % miniblocks != 0 ||
        block / miniblocks % PIECE != 0 || total != count)
        return PQFILE_CORRUPT;
    s->miniblocks = (size_t)miniblocks;
    s->miniblock = s->miniblocks;
    s->pieces = (size_t)(block / miniblocks) / PIECE;
    s->has_first = count != 0;
    s->left = count == 0 ? 0 : count - 1;
    return PQFILE_OK;
}

static int next_block(struct stream *s)
{
    if (read_zigzag(s, &s->smallest) < 0 || (size_t)(s->end - s->at) < s->miniblocks)
        return PQFILE_CORRUPT;
    s->widths = s->at;
    s->at += s->miniblocks;
    s->miniblock = 0;
    s->piece = 0;
    return PQFILE_OK;
}

/* Where the next piece's deltas lie and how wide they are. Advances. */
static int next_piece(struct stream *s, const uint8_t **data_out, unsigned *width_out)
{
    if (s->miniblock == s->miniblocks && next_block(s) < 0)
        return PQFILE_CORRUPT;
    unsigned width = s->widths[s->miniblock];
    size_t bytes = (size_t)width * PIECE / 8;
    if (width > WIDTH_MAX || (size_t)(s->end - s->at) < bytes)
        return PQFILE_CORRUPT;
    *data_out = s->at;
    *width_out = width;
    s->at += bytes;
    if (++s->piece == s->pieces) {
        s->piece = 0;
        s->miniblock++;
    }
    return PQFILE_OK;
}

/* Steps over the padding of the last miniblock: other streams may begin behind it. */
static int stream_finish(struct stream *s)
{
    assert(s->left == 0);
    while (s->piece != 0) {
        const uint8_t *data;
        unsigned width;
        if (next_piece(s, &data, &width) < 0)
            return PQFILE_CORRUPT;
    }
    return PQFILE_OK;
}

/* Up to PIECE values of 64 bits; the first one comes alone. The stream must have values left. */
static int next_values(struct stream *s, uint64_t out[PIECE], size_t *count_out)
{
    const uint8_t *data;
    unsigned width;
    if (s->has_first) {
        s->has_first = false;
        out[0] = s->last;
        *count_out = 1;
        return PQFILE_OK;
    }
    size_t count = s->left < PIECE ? s->left : PIECE;
    assert(count != 0);
    if (next_piece(s, &data, &width) < 0)
        return PQFILE_CORRUPT;
    pq_unpack_u64(data, s->end, PIECE / 8, width, out);
    uint64_t last = s->last;
    for (size_t i = 0; i < count; i++)
        out[i] = last += s->smallest + out[i];
    s->last = last;
    s->left -= count;
    *count_out = count;
    return PQFILE_OK;
}

/* The same in 32 bits, half the work. Some writers take 32-bit differences in 64 bits, which may
 * need more than 32; modulo 2^32 they come to the same. */
static int next_values_u32(struct stream *s, uint32_t out[PIECE], size_t *count_out)
{
    const uint8_t *data;
    unsigned width;
    size_t count = s->left < PIECE ? s->left : PIECE;
    if (next_piece(s, &data, &width) < 0)
        return PQFILE_CORRUPT;
    if (width <= 32) {
        pq_unpack_u32(data, s->end, PIECE / 8, width, out);
    } else {
        uint64_t wide[PIECE];
        pq_unpack_u64(data, s->end, PIECE / 8, width, wide);
        for (size_t i = 0; i < PIECE; i++)
            out[i] = (uint32_t)wide[i];
    }
    uint32_t last = (uint32_t)s->last, smallest = (uint32_t)s->smallest;
    for (size_t i = 0; i < count; i++)
        out[i] = last += smallest + out[i];
    s->last = last;
    s->left -= count;
    *count_out = count;
    return PQFILE_OK;
}

int pq_delta_decode_i32(const uint8_t *data, size_t len, size_t count, int32_t *out,
                        size_t *used_out)
{
    struct stream s;
    size_t done = 0;
    if (stream_open(&s, data, len, count) < 0)
        return PQFILE_CORRUPT;
    if (count != 0)
        out[done++] = (int32_t)s.last;
    while (done < count) {
        uint32_t values[PIECE];
        size_t got = 0;
        if (next_values_u32(&s, values, &got) < 0)
            return PQFILE_CORRUPT;
        memcpy(out + done, values, got * sizeof(*out));
        done += got;
    }
    if (stream_finish(&s) < 0)
        return PQFILE_CORRUPT;
    *used_out = (size_t)(s.at - data);
    return PQFILE_OK;
}

int pq_delta_decode_i64(const uint8_t *data, size_t len, size_t count, int64_t *out,
                        size_t *used_out)
{
    struct stream s;
    if (stream_open(&s, data, len, count) < 0)
        return PQFILE_CORRUPT;
    for (size_t done = 0; done < count;) {
        uint64_t values[PIECE];
        size_t got = 0;
        if (next_values(&s, values, &got) < 0)
            return PQFILE_CORRUPT;
        memcpy(out + done, values, got * sizeof(*out));
        done += got;
    }
    if (stream_finish(&s) < 0)
        return PQFILE_CORRUPT;
    *used_out = (size_t)(s.at - data);
    return PQFILE_OK;
}

int pq_delta_length_decode(const uint8_t *data, size_t len, size_t count, struct pqfile_bytes *out)
{
    struct stream s;
    if (stream_open(&s, data, len, count) < 0)
        return PQFILE_CORRUPT;
    for (size_t done = 0; done < count;) {
        uint64_t lengths[PIECE];
        size_t got = 0;
        if (next_values(&s, lengths, &got) < 0)
            return PQFILE_CORRUPT;
        for (size_t i = 0; i < got; i++) {
            /* Streams of lengths are of 32 bits, and may have wrapped as such. */
            if ((uint32_t)lengths[i] > INT32_MAX)
                return PQFILE_CORRUPT;
            out[done + i].len = (uint32_t)lengths[i];
        }
        done += got;
    }
    if (stream_finish(&s) < 0)
        return PQFILE_CORRUPT;
    for (size_t i = 0; i < count; i++) {
        if (out[i].len > (size_t)(s.end - s.at))
            return PQFILE_CORRUPT;
        out[i].data = s.at;
        s.at += out[i].len;
    }
    return s.at == s.end ? PQFILE_OK : PQFILE_CORRUPT;
}

/* Finds the end of the prefix lengths, behind which the suffixes stand. */
static int skip_values(struct stream *s, size_t count)
{
    for (size_t done = 0; done < count;) {
        uint64_t values[PIECE];
        size_t got = 0;
        if (next_values(s, values, &got) < 0)
            return PQFILE_CORRUPT;
        done += got;
    }
    return stream_finish(s);
}

/* How long all values are together, prefixes included; `suffixes` are checked against prefixes. */
static int measure(struct stream *prefixes, const struct pqfile_bytes *suffixes, size_t count,
                   size_t text_max, size_t *total_out)
{
    size_t total = 0, before = 0;
    for (size_t done = 0; done < count;) {
        uint64_t lengths[PIECE];
        size_t got = 0;
        if (next_values(prefixes, lengths, &got) < 0)
            return PQFILE_CORRUPT;
        for (size_t i = 0; i < got; i++) {
            if ((uint32_t)lengths[i] > before)
                return PQFILE_CORRUPT;
            before = (uint32_t)lengths[i] + suffixes[done + i].len;
            total += before;
            if (before > INT32_MAX || total > text_max)
                return PQFILE_LIMIT;
        }
        done += got;
    }
    *total_out = total;
    return PQFILE_OK;
}

/* Puts values together at `to`, which has room for all. Everything was checked by measure(). */
static void join(struct stream *prefixes, size_t count, uint8_t *to, struct pqfile_bytes *values)
{
    const uint8_t *before = to;
    for (size_t done = 0; done < count;) {
        uint64_t lengths[PIECE];
        size_t got = 0;
        if (next_values(prefixes, lengths, &got) < 0)
            return; /* not reached: it went well the first time */
        for (size_t i = 0; i < got; i++) {
            struct pqfile_bytes *value = &values[done + i];
            size_t prefix = (uint32_t)lengths[i];
            memcpy(to, before, prefix);
            memcpy(to + prefix, value->data, value->len);
            *value = (struct pqfile_bytes){.data = to, .len = prefix + value->len};
            before = to;
            to += value->len;
        }
        done += got;
    }
}

int pq_delta_bytes_decode(const uint8_t *data, size_t len, size_t count, size_t text_max,
                          struct pq_buffer *text, struct pqfile_bytes *out)
{
    struct stream s;
    size_t total = 0;
    assert(text->len == 0);
    if (stream_open(&s, data, len, count) < 0 || skip_values(&s, count) < 0)
        return PQFILE_CORRUPT;
    int rc = pq_delta_length_decode(s.at, (size_t)(s.end - s.at), count, out);
    if (rc == 0)
        rc = stream_open(&s, data, len, count);
    if (rc == 0)
        rc = measure(&s, out, count, text_max, &total);
    if (rc == 0)
        rc = stream_open(&s, data, len, count);
    if (rc < 0)
        return rc;
    uint8_t *to = pq_buffer_reserve(text, total);
    if (to == NULL)
        return PQFILE_NO_MEMORY;
    join(&s, count, to, out);
    text->len = total;
    return PQFILE_OK;
}
