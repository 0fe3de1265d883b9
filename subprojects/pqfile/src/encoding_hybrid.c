/* encoding_hybrid.c: the RLE/bit-packed hybrid. A stream is a row of runs, each with a varint head:
 * (count << 1) and one value in whole bytes, or (groups << 1 | 1) and groups of eight packed
 * values.
 *
 * The encoder writes a repeated run where eight or more equal values stand together, and packs what
 * lies between. All but the last packed run must hold whole groups, so a packed run that has begun
 * takes the first few of equal values to fill its last group.
 *
 * Source: Encodings.md of apache/parquet-format, "Run Length Encoding / Bit-Packing Hybrid". */
#include <assert.h>
#include <string.h>

#include "encoding.h"
#include "unpack.h"

enum { GROUP = 8, WIDTH_MAX = 32, VARINT_BYTES_MAX = 10, PREFIX_BYTES = 4 };

unsigned pq_bit_width(uint32_t max)
{
    return max == 0 ? 0 : 32 - (unsigned)__builtin_clz(max);
}

size_t pq_hybrid_prefix_begin(struct pq_buffer *out)
{
    size_t mark = out->len;
    pq_buffer_add_u32(out, 0);
    return mark;
}

void pq_hybrid_prefix_end(struct pq_buffer *out, size_t mark)
{
    if (out->failed)
        return;
    uint32_t len = (uint32_t)(out->len - mark - PREFIX_BYTES);
    memcpy(out->data + mark, &len, sizeof(len));
}

/* ---- encoder, for elements of one or four bytes ---- */

static inline __attribute__((always_inline)) uint32_t get(const void *values, size_t i,
                                                          size_t element)
{
    return element == 1 ? ((const uint8_t *)values)[i] : ((const uint32_t *)values)[i];
}

static inline __attribute__((always_inline)) void put_packed(struct pq_buffer *out,
                                                             const void *values, size_t from,
                                                             size_t to, unsigned width,
                                                             size_t element)
{
    size_t groups = (to - from + GROUP - 1) / GROUP;
    if (groups == 0)
        return;
    pq_buffer_add_varint(out, (uint64_t)groups << 1 | 1);
    /* A packer writes eight bytes at a time. */
    uint8_t *at = pq_buffer_reserve(out, groups * width + sizeof(uint64_t));
    if (at == NULL)
        return;
    struct pq_packer packer = {.to = at};
    for (size_t i = from; i < to; i++)
        pq_pack(&packer, get(values, i, element), width);
    for (size_t i = to; i < from + groups * GROUP; i++)
        pq_pack(&packer, 0, width);
    pq_pack_flush(&packer);
    out->len += groups * width;
}

static void put_repeated(struct pq_buffer *out, uint32_t value, size_t count, unsigned width)
{
    pq_buffer_add_varint(out, (uint64_t)count << 1);
    pq_buffer_add(out, &value, (width + 7) / 8);
}

static inline __attribute__((always_inline)) void
encode(struct pq_buffer *out, const void *values, size_t count, unsigned width, size_t element)
{
    size_t packed_from = 0, at = 0;
    while (at < count) {
        uint32_t value = get(values, at, element);
        size_t end = at + 1;
        while (end < count && get(values, end, element) == value)
            end++;
        size_t fill = (GROUP - (at - packed_from) % GROUP) % GROUP;
        bool is_rest = at == packed_from && end == count;
        if (end - at >= GROUP + fill || is_rest) {
            put_packed(out, values, packed_from, at + fill, width, element);
            put_repeated(out, value, end - at - fill, width);
            packed_from = end;
        }
        at = end;
    }
    put_packed(out, values, packed_from, count, width, element);
}

void pq_hybrid_encode_u8(struct pq_buffer *out, const uint8_t *values, size_t count,
                         unsigned bit_width)
{
    assert(bit_width <= 8);
    encode(out, values, count, bit_width, sizeof(*values));
}

void pq_hybrid_encode_u32(struct pq_buffer *out, const uint32_t *values, size_t count,
                          unsigned bit_width)
{
    assert(bit_width <= WIDTH_MAX);
    encode(out, values, count, bit_width, sizeof(*values));
}

/* ---- decoder ---- */

struct run {
    size_t count; /* values to take from it */
    bool is_packed;
    const uint8_t *data; /* of a packed one */
    size_t bytes;        /* of it, at most what is left of the input */
    uint32_t value;      /* of a repeated one */
};

static int read_varint(const uint8_t **at, const uint8_t *end, uint64_t *value_out)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX && *at < end; i++) {
        uint8_t byte = *(*at)++;
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

/* The next run, cut to `wanted` values. Some writers leave out the padding of the last packed run,
 * so it may be short as long as the values wanted are there. */
static int next_run(const uint8_t **at, const uint8_t *end, unsigned width, size_t wanted,
                    struct run *run_out)
{
    uint64_t head = 0;
    if (read_varint(at, end, &head) < 0 || head >> 1 == 0)
        return PQFILE_CORRUPT;
    size_t left = (size_t)(end - *at);
    uint64_t count = head >> 1;
    *run_out = (struct run){.is_packed = (head & 1) != 0, .data = *at};
    if (run_out->is_packed) {
        uint64_t wanted_groups = wanted / GROUP + (wanted % GROUP != 0);
        run_out->count = count >= wanted_groups ? wanted : (size_t)count * GROUP;
        uint64_t bytes =
            0; /* all of the run; the multiplication of what is wanted cannot overflow */
        if (__builtin_mul_overflow(count, (uint64_t)width, &bytes) || bytes > left)
            bytes = left;
        run_out->bytes = (size_t)bytes;
        if (((uint64_t)run_out->count * width + 7) / 8 > bytes)
            return PQFILE_CORRUPT;
    } else {
        run_out->count = count < wanted ? (size_t)count : wanted;
        run_out->bytes = (width + 7) / 8;
        if (run_out->bytes > left)
            return PQFILE_CORRUPT;
        memcpy(&run_out->value, *at, run_out->bytes);
    }
    *at += run_out->bytes;
    return PQFILE_OK;
}

/* Unpacks the values of a last group that is not whole, or whose bytes are not all there. */
static void unpack_rest(const struct run *run, size_t from, unsigned width, uint32_t out[GROUP])
{
    uint8_t copy[WIDTH_MAX] = {0};
    size_t offset = from / GROUP * width;
    size_t bytes = run->bytes - offset;
    memcpy(copy, run->data + offset, bytes < width ? bytes : width);
    pq_unpack_u32(copy, copy + sizeof(copy), 1, width, out);
}

static uint32_t largest_u8(const uint8_t *values, size_t count)
{
    uint8_t largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = values[i] > largest ? values[i] : largest;
    return largest;
}

static uint32_t largest_u32(const uint32_t *values, size_t count)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = values[i] > largest ? values[i] : largest;
    return largest;
}

int pq_hybrid_decode_u8(const uint8_t *data, size_t len, unsigned bit_width, size_t count,
                        uint32_t limit, uint8_t *out, size_t *used_out)
{
    const uint8_t *at = data, *end = data + len;
    if (bit_width > 8)
        return PQFILE_CORRUPT;
    for (size_t done = 0; done < count;) {
        struct run run;
        if (next_run(&at, end, bit_width, count - done, &run) < 0)
            return PQFILE_CORRUPT;
        uint32_t largest = run.value;
        if (run.is_packed) {
            size_t whole = run.count / GROUP;
            uint32_t rest[GROUP];
            pq_unpack_u8(run.data, end, whole, bit_width, out + done);
            if (run.count % GROUP != 0)
                unpack_rest(&run, whole * GROUP, bit_width, rest);
            for (size_t i = whole * GROUP; i < run.count; i++)
                out[done + i] = (uint8_t)rest[i % GROUP];
            largest = limit == 0 ? 0 : largest_u8(out + done, run.count);
        } else {
            memset(out + done, (int)run.value, run.count);
        }
        if (limit != 0 && largest >= limit)
            return PQFILE_CORRUPT;
        if (bit_width < 8 && run.value >> bit_width != 0)
            return PQFILE_CORRUPT;
        done += run.count;
    }
    *used_out = (size_t)(at - data);
    return PQFILE_OK;
}

int pq_hybrid_decode_u32(const uint8_t *data, size_t len, unsigned bit_width, size_t count,
                         uint32_t limit, uint32_t *out, size_t *used_out)
{
    const uint8_t *at = data, *end = data + len;
    if (bit_width > WIDTH_MAX)
        return PQFILE_CORRUPT;
    for (size_t done = 0; done < count;) {
        struct run run;
        if (next_run(&at, end, bit_width, count - done, &run) < 0)
            return PQFILE_CORRUPT;
        uint32_t largest = run.value;
        if (run.is_packed) {
            size_t whole = run.count / GROUP;
            uint32_t rest[GROUP];
            pq_unpack_u32(run.data, end, whole, bit_width, out + done);
            if (run.count % GROUP != 0)
                unpack_rest(&run, whole * GROUP, bit_width, rest);
            for (size_t i = whole * GROUP; i < run.count; i++)
                out[done + i] = rest[i % GROUP];
            largest = limit == 0 ? 0 : largest_u32(out + done, run.count);
        } else {
            for (size_t i = 0; i < run.count; i++)
                out[done + i] = run.value;
        }
        if (limit != 0 && largest >= limit)
            return PQFILE_CORRUPT;
        done += run.count;
    }
    *used_out = (size_t)(at - data);
    return PQFILE_OK;
}
