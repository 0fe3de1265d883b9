/* reader_page.c: one page. Version 1 is compressed as a whole: repetition levels, definition levels
 * (each with four bytes of length, each only if its maximum is not 0), values. In version 2 both
 * stand first, uncompressed, their lengths in the header.
 *
 * Values of fixed width in PLAIN are used where they lie if they are aligned there; from a file in
 * memory that is not compressed, nothing is copied at all. Everything else is decoded into the
 * walker's blocks, whole pages at a time. */
#include <assert.h>
#include <string.h>

#include "codec.h"
#include "encoding.h"
#include "error.h"
#include "reader_internal.h"

enum { LENGTH_BYTES = 4, INDEX_WIDTH_MAX = 32 };

/* ---- levels ---- */

static int decode_levels(struct pq_walker *w, struct pq_block *block, unsigned max,
                         const uint8_t *data, size_t len, const uint8_t **levels_out,
                         struct pqfile_error *error)
{
    size_t used = 0, count = w->head.level_count;
    int rc = pq_walker_fit(w, block, count);
    if (rc < 0)
        return pq_error_plain(error, rc);
    rc = pq_hybrid_decode_u8(data, len, pq_bit_width(max), count, max + 1, block->data, &used);
    if (rc < 0)
        return pq_error(error, rc, "levels");
    *levels_out = block->data;
    return PQFILE_OK;
}

/* Levels of version 1 at the start of data; steps over them. */
static int take_levels(struct pq_walker *w, struct pq_block *block, unsigned max,
                       enum pqfile_encoding encoding, const uint8_t **levels_out,
                       struct pqfile_error *error)
{
    uint32_t len = 0;
    if (max == 0)
        return PQFILE_OK;
    if (encoding != PQFILE_RLE)
        return pq_error(error, PQFILE_UNSUPPORTED, "levels in encoding %s",
                        pqfile_encoding_name(encoding));
    if (w->encoded_len < LENGTH_BYTES)
        return pq_error(error, PQFILE_CORRUPT, "levels cut short");
    memcpy(&len, w->encoded, LENGTH_BYTES);
    if (len > w->encoded_len - LENGTH_BYTES)
        return pq_error(error, PQFILE_CORRUPT, "levels longer than the page");
    int rc = decode_levels(w, block, max, w->encoded + LENGTH_BYTES, len, levels_out, error);
    w->encoded += LENGTH_BYTES + (size_t)len;
    w->encoded_len -= LENGTH_BYTES + (size_t)len;
    w->levels_bytes += LENGTH_BYTES + (size_t)len;
    return rc;
}

static int decompress(struct pq_walker *w, const uint8_t *data, size_t len, size_t raw_len,
                      struct pqfile_error *error)
{
    int rc = pq_walker_fit(w, &w->raw_block, raw_len);
    if (rc < 0)
        return pq_error_plain(error, rc);
    rc = pq_decompress(w->chunk->codec, data, len, w->raw_block.data, raw_len);
    if (rc < 0)
        return pq_error(error, rc, "decompression: %s", pqfile_code_text(rc));
    w->encoded = w->raw_block.data;
    w->encoded_len = raw_len;
    return PQFILE_OK;
}

static int levels_v1(struct pq_walker *w, struct pqfile_error *error)
{
    const struct pq_page_header *h = &w->head;
    int rc = PQFILE_OK;
    w->encoded = w->stored;
    w->encoded_len = h->stored_bytes;
    if (w->chunk->codec != PQFILE_UNCOMPRESSED)
        rc = decompress(w, w->stored, h->stored_bytes, h->raw_bytes, error);
    if (rc == 0)
        rc = take_levels(w, &w->repetition_block, w->leaf->repetition_max, h->repetition_encoding,
                         &w->repetition, error);
    if (rc == 0)
        rc = take_levels(w, &w->definition_block, w->leaf->definition_max, h->definition_encoding,
                         &w->definition, error);
    return rc;
}

/* Leaves the values compressed: whoever lists pages does not need them. */
static int levels_v2(struct pq_walker *w, struct pqfile_error *error)
{
    const struct pq_page_header *h = &w->head;
    int rc = PQFILE_OK;
    if (w->leaf->repetition_max != 0)
        rc = decode_levels(w, &w->repetition_block, w->leaf->repetition_max, w->stored,
                           h->repetition_bytes, &w->repetition, error);
    if (rc == 0 && w->leaf->definition_max != 0)
        rc = decode_levels(w, &w->definition_block, w->leaf->definition_max,
                           w->stored + h->repetition_bytes, h->definition_bytes, &w->definition,
                           error);
    w->levels_bytes = (size_t)h->repetition_bytes + h->definition_bytes;
    w->encoded = w->stored + w->levels_bytes;
    w->encoded_len = h->stored_bytes - w->levels_bytes;
    return rc;
}

/* How often `level` is among them. */
static size_t count_levels(const uint8_t *levels, size_t count, uint8_t level)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += levels[i] == level;
    return found;
}

int pq_page_levels(struct pq_walker *w, struct pqfile_error *error)
{
    const struct pq_page_header *h = &w->head;
    bool is_v2 = h->type == PQ_PAGE_DATA_V2;
    assert(w->stored != NULL || h->stored_bytes == 0);
    w->definition = w->repetition = NULL;
    w->levels_bytes = 0;
    int rc = is_v2 ? levels_v2(w, error) : levels_v1(w, error);
    if (rc < 0)
        return rc;
    w->value_count = w->row_count = h->level_count;
    if (w->definition != NULL)
        w->value_count =
            count_levels(w->definition, h->level_count, (uint8_t)w->leaf->definition_max);
    if (w->repetition != NULL)
        w->row_count = count_levels(w->repetition, h->level_count, 0);
    if (is_v2 &&
        (w->row_count != h->row_count || w->value_count != (size_t)h->level_count - h->null_count))
        return pq_error(error, PQFILE_CORRUPT, "levels do not fit the header's counts");
    if (w->row_count > w->group->row_count - w->next_row)
        return pq_error(error, PQFILE_CORRUPT, "more rows than the row group has");
    if (w->repetition != NULL && h->level_count != 0 && w->repetition[0] != 0 &&
        (is_v2 || w->next_row == 0))
        return pq_error(error, PQFILE_CORRUPT, "begins within a row");
    return PQFILE_OK;
}

/* ---- values ---- */

static bool is_fixed(const struct pq_walker *w)
{
    return w->leaf->type != PQFILE_BOOLEAN && w->leaf->type != PQFILE_BYTE_ARRAY;
}

bool pq_page_is_in_place(const struct pq_walker *w)
{
    bool is_raw = w->chunk->codec == PQFILE_UNCOMPRESSED ||
                  (w->head.type == PQ_PAGE_DATA_V2 && !w->head.is_compressed);
    return is_raw && is_fixed(w) && w->head.encoding == PQFILE_PLAIN;
}

/* The type's alignment as numbers; bytes have none. */
static size_t alignment_of(enum pqfile_type type)
{
    if (type == PQFILE_INT64 || type == PQFILE_DOUBLE)
        return 8;
    return type == PQFILE_INT32 || type == PQFILE_FLOAT ? 4 : 1;
}

/* Makes room for `count` values in a block. */
static int fit_values(struct pq_walker *w, struct pq_block *block, size_t count)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, w->value_size, &bytes))
        return PQFILE_LIMIT;
    return pq_walker_fit(w, block, bytes);
}

/* Whether `len` PLAIN bytes can be `count` values; asked before memory is taken for them. Bytes
 * left over are no padding that anybody writes, but a lie somewhere, such as another width. */
static bool is_plain_length(const struct pq_walker *w, size_t len, size_t count)
{
    size_t bytes = 0;
    if (w->leaf->type == PQFILE_BOOLEAN)
        return len == count / 8 + (count % 8 != 0);
    if (w->leaf->type == PQFILE_BYTE_ARRAY)
        return count <= len / LENGTH_BYTES && (count != 0 || len == 0);
    return !__builtin_mul_overflow(count, w->value_size, &bytes) && bytes == len;
}

static int decode_plain(struct pq_walker *w, const uint8_t *data, size_t len, size_t count,
                        struct pq_block *block, const void **values_out)
{
    if (!is_plain_length(w, len, count))
        return PQFILE_CORRUPT;
    if (is_fixed(w) && (uintptr_t)data % alignment_of(w->leaf->type) == 0) {
        *values_out = data;
        return PQFILE_OK;
    }
    int rc = fit_values(w, block, count);
    if (rc < 0)
        return rc;
    *values_out = block->data;
    if (w->leaf->type == PQFILE_BOOLEAN)
        return pq_plain_decode_bool(data, len, count, block->data);
    if (w->leaf->type == PQFILE_BYTE_ARRAY)
        return pq_plain_decode_bytes(data, len, count, (struct pqfile_bytes *)(void *)block->data);
    return pq_plain_decode_fixed(data, len, count, w->value_size, block->data);
}

int pq_page_dictionary(struct pq_walker *w, const uint8_t *data, size_t len, uint32_t count,
                       struct pqfile_error *error)
{
    w->dictionary_count = count;
    w->dictionary = NULL;
    if (count == 0)
        return PQFILE_OK;
    int rc = decode_plain(w, data, len, count, &w->dictionary_block, &w->dictionary);
    return rc < 0 ? pq_error(error, rc, "values: %s", pqfile_code_text(rc)) : PQFILE_OK;
}

struct bytes12 {
    uint8_t bytes[12];
};

/* One loop a width, so that a value is a register and no call. */
static void gather(const void *from, const uint32_t *indices, size_t count, size_t size, void *to)
{
#define GATHER(TYPE)                                                                               \
    for (size_t i = 0; i < count; i++)                                                             \
    memcpy((uint8_t *)to + i * sizeof(TYPE),                                                       \
           (const uint8_t *)from + (size_t)indices[i] * sizeof(TYPE), sizeof(TYPE))
    if (size == 4)
        GATHER(uint32_t);
    else if (size == 8)
        GATHER(uint64_t);
    else if (size == sizeof(struct bytes12))
        GATHER(struct bytes12);
    else if (size == sizeof(struct pqfile_bytes))
        GATHER(struct pqfile_bytes);
    else
        for (size_t i = 0; i < count; i++)
            memcpy((uint8_t *)to + i * size, (const uint8_t *)from + indices[i] * size, size);
#undef GATHER
}

static int decode_dictionary(struct pq_walker *w)
{
    size_t count = w->value_count, used = 0;
    if (!w->has_dictionary || w->dictionary_count == 0 || w->encoded_len == 0 ||
        w->encoded[0] > INDEX_WIDTH_MAX)
        return PQFILE_CORRUPT;
    int rc = pq_walker_fit(w, &w->indices_block, count * sizeof(uint32_t));
    if (rc == 0)
        rc = fit_values(w, &w->values_block, count);
    if (rc < 0)
        return rc;
    uint32_t *indices = (uint32_t *)(void *)w->indices_block.data;
    rc = pq_hybrid_decode_u32(w->encoded + 1, w->encoded_len - 1, w->encoded[0], count,
                              w->dictionary_count, indices, &used);
    if (rc < 0)
        return rc;
    gather(w->dictionary, indices, count, w->value_size, w->values_block.data);
    w->values = w->values_block.data;
    return PQFILE_OK;
}

static int decode_rle(struct pq_walker *w)
{
    size_t used = 0;
    uint32_t len = 0;
    if (w->leaf->type != PQFILE_BOOLEAN || w->encoded_len < LENGTH_BYTES)
        return PQFILE_CORRUPT;
    memcpy(&len, w->encoded, LENGTH_BYTES);
    if (len > w->encoded_len - LENGTH_BYTES)
        return PQFILE_CORRUPT;
    w->values = w->values_block.data;
    return pq_hybrid_decode_u8(w->encoded + LENGTH_BYTES, len, 1, w->value_count, 2,
                               w->values_block.data, &used);
}

static int decode_delta(struct pq_walker *w)
{
    size_t used = 0;
    void *out = w->values_block.data;
    w->values = out;
    if (w->leaf->type == PQFILE_INT32)
        return pq_delta_decode_i32(w->encoded, w->encoded_len, w->value_count, out, &used);
    if (w->leaf->type == PQFILE_INT64)
        return pq_delta_decode_i64(w->encoded, w->encoded_len, w->value_count, out, &used);
    return PQFILE_CORRUPT;
}

static int decode_delta_length(struct pq_walker *w)
{
    struct pqfile_bytes *out = (struct pqfile_bytes *)(void *)w->values_block.data;
    if (w->leaf->type != PQFILE_BYTE_ARRAY)
        return PQFILE_CORRUPT;
    w->values = out;
    return pq_delta_length_decode(w->encoded, w->encoded_len, w->value_count, out);
}

/* Both types of bytes may be in DELTA_BYTE_ARRAY; those of fixed length are moved together. */
static int decode_delta_bytes(struct pq_walker *w)
{
    bool is_fixed_len = w->leaf->type == PQFILE_FIXED_LEN_BYTE_ARRAY;
    struct pq_block *block = is_fixed_len ? &w->indices_block : &w->values_block;
    if (!is_fixed_len && w->leaf->type != PQFILE_BYTE_ARRAY)
        return PQFILE_CORRUPT;
    int rc = pq_walker_fit(w, block, w->value_count * sizeof(struct pqfile_bytes));
    if (rc < 0)
        return rc;
    struct pqfile_bytes *texts = (struct pqfile_bytes *)(void *)block->data;
    size_t before = w->text.capacity;
    size_t left = w->reader->options.memory_max - (w->memory_used - before);
    pq_buffer_clear(&w->text);
    rc = pq_delta_bytes_decode(w->encoded, w->encoded_len, w->value_count, left / 2, &w->text,
                               texts); /* a buffer may take twice what it needs */
    w->memory_used = w->memory_used - before + w->text.capacity;
    if (rc < 0)
        return rc;
    w->values = w->values_block.data;
    for (size_t i = 0; is_fixed_len && i < w->value_count; i++) {
        if (texts[i].len != w->value_size)
            return PQFILE_CORRUPT;
        memcpy(w->values_block.data + i * w->value_size, texts[i].data, w->value_size);
    }
    return PQFILE_OK;
}

static int decode_split(struct pq_walker *w)
{
    if (!is_fixed(w) || w->leaf->type == PQFILE_INT96 ||
        !is_plain_length(w, w->encoded_len, w->value_count))
        return PQFILE_CORRUPT;
    w->values = w->values_block.data;
    return pq_split_decode(w->encoded, w->encoded_len, w->value_count, w->value_size,
                           w->values_block.data);
}

/* Decodes anything but PLAIN into values_block. */
static int decode_block(struct pq_walker *w)
{
    int rc = fit_values(w, &w->values_block, w->value_count);
    if (rc < 0)
        return rc;
    switch (w->head.encoding) {
    case PQFILE_PLAIN_DICTIONARY:
    case PQFILE_RLE_DICTIONARY:
        return decode_dictionary(w);
    case PQFILE_RLE:
        return decode_rle(w);
    case PQFILE_DELTA_BINARY_PACKED:
        return decode_delta(w);
    case PQFILE_DELTA_LENGTH_BYTE_ARRAY:
        return decode_delta_length(w);
    case PQFILE_DELTA_BYTE_ARRAY:
        return decode_delta_bytes(w);
    case PQFILE_BYTE_STREAM_SPLIT:
        return decode_split(w);
    case PQFILE_PLAIN:
    case PQFILE_BIT_PACKED:
    default:
        return PQFILE_UNSUPPORTED;
    }
}

int pq_page_values(struct pq_walker *w, struct pqfile_error *error)
{
    const struct pq_page_header *h = &w->head;
    int rc = PQFILE_OK;
    w->values = NULL;
    if (w->value_count == 0 && (h->encoding != PQFILE_PLAIN || w->encoded_len == 0))
        return PQFILE_OK;
    if (h->type == PQ_PAGE_DATA_V2 && h->is_compressed && w->chunk->codec != PQFILE_UNCOMPRESSED)
        rc = decompress(w, w->encoded, w->encoded_len, h->raw_bytes - w->levels_bytes, error);
    if (rc < 0)
        return rc;
    if (h->encoding == PQFILE_RLE_DICTIONARY || h->encoding == PQFILE_PLAIN_DICTIONARY) {
        rc = pq_walker_dictionary(w, error);
        if (rc < 0)
            return rc;
    }
    if (h->encoding == PQFILE_PLAIN)
        rc = decode_plain(w, w->encoded, w->encoded_len, w->value_count, &w->values_block,
                          &w->values);
    else
        rc = decode_block(w);
    return rc < 0 ? pq_error(error, rc, "values in encoding %s: %s",
                             pqfile_encoding_name(h->encoding), pqfile_code_text(rc))
                  : PQFILE_OK;
}
