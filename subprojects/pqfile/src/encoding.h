/* encoding.h: how values lie in a page, both directions.
 *
 *   encoding_plain.c   PLAIN: values as they are, little-endian
 *   encoding_hybrid.c  RLE/bit-packed hybrid: levels, dictionary indices, booleans; bit unpacking
 *   encoding_delta.c   DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY
 *   encoding_split.c   BYTE_STREAM_SPLIT
 *
 * Encoders take whole arrays and append to a pq_buffer, whose failure sticks: they return nothing.
 * Decoders take the bytes of a page, bounds included, and fill an array of exactly `count` values;
 * bytes that cannot hold as many are PQFILE_CORRUPT. They return how many bytes they used through
 * used_out, because in DELTA_BYTE_ARRAY and in pages of version 1 streams stand behind each other.
 * Only DELTA_BYTE_ARRAY allocates. The host must be little-endian (checked at compile time).
 *
 * Source: Encodings.md of apache/parquet-format. */
#ifndef PQFILE_ENCODING_H
#define PQFILE_ENCODING_H

#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "pqfile/types.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values lie in files as in memory");

/* ---- encoders ---- */

/* PLAIN of numbers and of fixed-length bytes is pq_buffer_add of the array. */
void pq_plain_encode_bool(struct pq_buffer *out, const uint8_t *values, size_t count); /* 0 or 1 */
void pq_plain_encode_bytes(struct pq_buffer *out, const struct pqfile_bytes *values, size_t count);

/* The hybrid's runs without any prefix. Every value must be below 2^bit_width; bit_width 0..32. A
 * page of version 1 wants four bytes of length before levels and booleans: see
 * pq_hybrid_prefix_begin. Dictionary indices want one byte of bit width before them. */
void pq_hybrid_encode_u8(struct pq_buffer *out, const uint8_t *values, size_t count,
                         unsigned bit_width);
void pq_hybrid_encode_u32(struct pq_buffer *out, const uint32_t *values, size_t count,
                          unsigned bit_width);

/* Appends a place for a length of four bytes, and fills it in once what follows was encoded:
 *     size_t mark = pq_hybrid_prefix_begin(out);
 *     pq_hybrid_encode_u8(out, levels, count, width);
 *     pq_hybrid_prefix_end(out, mark); */
size_t pq_hybrid_prefix_begin(struct pq_buffer *out);
void pq_hybrid_prefix_end(struct pq_buffer *out, size_t mark);

/* The bits that a value of at most `max` needs: 0 for 0, 1 for 1, 2 for 2 and 3, ... */
unsigned pq_bit_width(uint32_t max);

void pq_delta_encode_i32(struct pq_buffer *out, const int32_t *values, size_t count);
void pq_delta_encode_i64(struct pq_buffer *out, const int64_t *values, size_t count);

/* values: `count` times `width` bytes; FLOAT, DOUBLE, INT32, INT64 or fixed-length bytes. */
void pq_split_encode(struct pq_buffer *out, const void *values, size_t count, size_t width);

/* ---- decoders ---- */

int pq_plain_decode_fixed(const uint8_t *data, size_t len, size_t count, size_t width, void *out);
int pq_plain_decode_bool(const uint8_t *data, size_t len, size_t count, uint8_t *out); /* 0 or 1 */

/* The values point into `data`, which must be used up. */
int pq_plain_decode_bytes(const uint8_t *data, size_t len, size_t count, struct pqfile_bytes *out);

/* Runs without prefix. A last run may hold more values than asked for; missing ones are
 * PQFILE_CORRUPT. The u8 form fails on bit widths over 8. With `limit` != 0 a value of `limit` or
 * more is PQFILE_CORRUPT: levels above their maximum, indices behind the dictionary. */
int pq_hybrid_decode_u8(const uint8_t *data, size_t len, unsigned bit_width, size_t count,
                        uint32_t limit, uint8_t *out, size_t *used_out);
int pq_hybrid_decode_u32(const uint8_t *data, size_t len, unsigned bit_width, size_t count,
                         uint32_t limit, uint32_t *out, size_t *used_out);

int pq_delta_decode_i32(const uint8_t *data, size_t len, size_t count, int32_t *out,
                        size_t *used_out);
int pq_delta_decode_i64(const uint8_t *data, size_t len, size_t count, int64_t *out,
                        size_t *used_out);

/* DELTA_LENGTH_BYTE_ARRAY: the values point into `data`, which must be used up. */
int pq_delta_length_decode(const uint8_t *data, size_t len, size_t count, struct pqfile_bytes *out);

/* DELTA_BYTE_ARRAY: each value shares a prefix with the one before, so they are put together in
 * `text`, which must have been cleared; it may grow to at most text_max bytes. PQFILE_NO_MEMORY or
 * PQFILE_LIMIT besides. */
int pq_delta_bytes_decode(const uint8_t *data, size_t len, size_t count, size_t text_max,
                          struct pq_buffer *text, struct pqfile_bytes *out);

int pq_split_decode(const uint8_t *data, size_t len, size_t count, size_t width, void *out);

#endif
