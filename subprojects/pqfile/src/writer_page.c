/* writer_page.c: one page of a column as bytes; see writer_internal.h.
 *
 *     version 1   header | codec(length repetition length definition values)
 *     version 2   header | repetition definition | codec(values)
 *
 * The checksum is that of everything after the header as it is stored. In version 2 values that a
 * codec does not make smaller stay as they are; version 1 has no way to say so. */
#include <assert.h>
#include <string.h>

#include "codec.h"
#include "encoding.h"
#include "error.h"
#include "writer_internal.h"

/* Where the three pieces of a page lie while it is written. */
struct pieces {
    const void *levels; /* version 2, or uncompressed */
    size_t levels_len;
    const void *values;
    size_t values_len;
};

/* ---- levels ---- */

static void end_run(struct pq_runs *runs)
{
    if (runs->count > 0) {
        pq_buffer_add_varint(&runs->bytes, runs->count << 1);
        pq_buffer_add_byte(&runs->bytes, runs->value);
    }
    runs->count = 0;
}

void pq_runs_add(struct pq_runs *runs, uint8_t value, uint64_t count)
{
    if (runs->count > 0 && runs->value != value)
        end_run(runs);
    runs->value = value;
    runs->count += count;
}

static void add_level_bytes(struct pq_buffer *out, struct pq_buffer *bytes, struct pq_runs *runs,
                            bool as_runs, unsigned bit_width)
{
    if (as_runs) {
        end_run(runs);
        if (runs->bytes.failed)
            out->failed = true;
        pq_buffer_add(out, runs->bytes.data, runs->bytes.len);
    } else {
        pq_hybrid_encode_u8(out, bytes->data, bytes->len, bit_width);
    }
}

/* Fills w->levels, repetition first; the lengths go into the header (version 2) or before each. */
static void encode_levels(struct pqfile_writer *w, const struct pq_column *column,
                          struct pq_page_header *header)
{
    struct pq_page *page = &w->page;
    const struct pqfile_node *node = column->node;
    bool prefixed = column->options.page_version == 1;
    pq_buffer_clear(&w->levels);
    if (node->repetition_max > 0) {
        size_t mark = prefixed ? pq_hybrid_prefix_begin(&w->levels) : 0;
        add_level_bytes(&w->levels, &page->repetition, &page->repetition_runs, page->as_runs,
                        pq_bit_width(node->repetition_max));
        if (prefixed)
            pq_hybrid_prefix_end(&w->levels, mark);
        header->repetition_bytes = (uint32_t)w->levels.len;
    }
    if (node->definition_max > 0) {
        size_t before = w->levels.len;
        size_t mark = prefixed ? pq_hybrid_prefix_begin(&w->levels) : 0;
        add_level_bytes(&w->levels, &page->definition, &page->definition_runs, page->as_runs,
                        pq_bit_width(node->definition_max));
        if (prefixed)
            pq_hybrid_prefix_end(&w->levels, mark);
        header->definition_bytes = (uint32_t)(w->levels.len - before);
    }
}

/* ---- values ---- */

static void encode_indices(struct pqfile_writer *w)
{
    uint32_t count = w->dictionary.count;
    unsigned bit_width = pq_bit_width(count == 0 ? 0 : count - 1);
    pq_buffer_add_byte(&w->encoded, (uint8_t)bit_width);
    pq_hybrid_encode_u32(&w->encoded, (const uint32_t *)(const void *)w->page.values.data,
                         w->page.value_count, bit_width);
}

static void encode_booleans(struct pqfile_writer *w, enum pqfile_encoding encoding)
{
    if (encoding == PQFILE_PLAIN) {
        pq_plain_encode_bool(&w->encoded, w->page.values.data, w->page.value_count);
        return;
    }
    size_t mark = pq_hybrid_prefix_begin(&w->encoded);
    pq_hybrid_encode_u8(&w->encoded, w->page.values.data, w->page.value_count, 1);
    pq_hybrid_prefix_end(&w->encoded, mark);
}

/* Points `pieces` to the values as their encoding stores them, uncompressed. */
static void encode_values(struct pqfile_writer *w, const struct pq_column *column,
                          enum pqfile_encoding encoding, const void *direct, struct pieces *pieces)
{
    struct pq_page *page = &w->page;
    const void *raw = page->values.data;
    pq_buffer_clear(&w->encoded);
    if (direct != NULL) {
        pieces->values = direct;
        pieces->values_len = page->value_count * column->width;
        return;
    }
    if (encoding == PQFILE_RLE_DICTIONARY)
        encode_indices(w);
    else if (column->node->type == PQFILE_BOOLEAN)
        encode_booleans(w, encoding);
    else if (encoding == PQFILE_DELTA_BINARY_PACKED && column->node->type == PQFILE_INT32)
        pq_delta_encode_i32(&w->encoded, raw, page->value_count);
    else if (encoding == PQFILE_DELTA_BINARY_PACKED)
        pq_delta_encode_i64(&w->encoded, raw, page->value_count);
    else if (encoding == PQFILE_BYTE_STREAM_SPLIT)
        pq_split_encode(&w->encoded, raw, page->value_count, column->width);
    bool as_is = encoding == PQFILE_PLAIN && column->node->type != PQFILE_BOOLEAN;
    pieces->values = as_is ? page->values.data : w->encoded.data;
    pieces->values_len = as_is ? page->values.len : w->encoded.len;
}

/* Bytes of columns that are stored as such: the width of a number, the head of the run, the
 * numbers, filled up to a multiple of eight. Uncompressed, what stands before the numbers counts as
 * levels, so that those can be aligned. */
static void encode_bytes(struct pqfile_writer *w, const struct pq_column *column,
                         struct pieces *pieces)
{
    static const uint8_t zeros[8] = {0};
    struct pq_page *page = &w->page;
    size_t eights = (page->value_count + 7) / 8;
    bool as_is = column->options.codec == PQFILE_UNCOMPRESSED;
    pq_buffer_clear(&w->encoded);
    if (page->value_count == 0 && as_is)
        return;
    pq_buffer_add(&page->values, zeros, 8 * eights - page->value_count);
    struct pq_buffer *head = as_is ? &w->levels : &w->encoded;
    pq_buffer_add_byte(head, 8);
    pq_buffer_add_varint(head, eights << 1 | 1);
    if (!as_is)
        pq_buffer_add(&w->encoded, page->values.data, page->values.len);
    pieces->values = as_is ? page->values.data : w->encoded.data;
    pieces->values_len = as_is ? page->values.len : w->encoded.len;
}

/* ---- compression ---- */

/* Version 1: levels and values are compressed as one. */
static int compress_whole(struct pqfile_writer *w, const struct pq_column *column,
                          struct pieces *pieces)
{
    pq_buffer_add(&w->levels, pieces->values, pieces->values_len);
    if (w->levels.failed)
        return PQFILE_NO_MEMORY;
    int rc = pq_compress(column->options.codec, column->options.codec_level, w->levels.data,
                         w->levels.len, &w->packed);
    if (rc < 0)
        return rc;
    *pieces = (struct pieces){.values = w->packed.data, .values_len = w->packed.len};
    return 0;
}

static int compress_values(struct pqfile_writer *w, const struct pq_column *column,
                           struct pieces *pieces, bool *is_compressed_out)
{
    if (pieces->values_len == 0)
        return 0;
    int rc = pq_compress(column->options.codec, column->options.codec_level, pieces->values,
                         pieces->values_len, &w->packed);
    if (rc < 0)
        return rc;
    if (w->packed.len < pieces->values_len) {
        pieces->values = w->packed.data;
        pieces->values_len = w->packed.len;
        *is_compressed_out = true;
    }
    return 0;
}

static int compress(struct pqfile_writer *w, const struct pq_column *column, struct pieces *pieces,
                    struct pq_page_header *header)
{
    pieces->levels = w->levels.data;
    pieces->levels_len = w->levels.len;
    size_t raw = pieces->levels_len + pieces->values_len;
    int rc = 0;
    pq_buffer_clear(&w->packed);
    if (raw > INT32_MAX)
        return PQFILE_LIMIT;
    header->raw_bytes = (uint32_t)raw;
    if (column->options.codec != PQFILE_UNCOMPRESSED)
        rc = header->type == PQ_PAGE_DATA
                 ? compress_whole(w, column, pieces)
                 : compress_values(w, column, pieces, &header->is_compressed);
    if (rc < 0)
        return rc;
    if (w->packed.failed)
        return PQFILE_NO_MEMORY;
    if (pieces->levels_len + pieces->values_len > INT32_MAX)
        return PQFILE_LIMIT;
    header->stored_bytes = (uint32_t)(pieces->levels_len + pieces->values_len);
    return 0;
}

/* ---- output ---- */

/* A page that waits for its dictionary goes into `held`, others into the sink. */
static int put_page(struct pqfile_writer *w, const struct pieces *pieces,
                    struct pqfile_error *error)
{
    if (w->header.failed)
        return pq_error_plain(error, PQFILE_NO_MEMORY);
    if (w->in_dictionary) {
        pq_buffer_add(&w->held, w->header.data, w->header.len);
        pq_buffer_add(&w->held, pieces->levels, pieces->levels_len);
        pq_buffer_add(&w->held, pieces->values, pieces->values_len);
        return w->held.failed ? pq_error_plain(error, PQFILE_NO_MEMORY) : 0;
    }
    int rc = pq_writer_put(w, w->header.data, w->header.len, error);
    if (rc == 0)
        rc = pq_writer_put(w, pieces->levels, pieces->levels_len, error);
    if (rc == 0)
        rc = pq_writer_put(w, pieces->values, pieces->values_len, error);
    return rc;
}

static uint64_t page_offset(const struct pqfile_writer *w)
{
    return w->in_dictionary ? w->held.len : w->offset;
}

/* Keeps what readers in place and the indexes want to know. `offset` is that of `held` for pages
 * that wait; pq_page_end_dictionary() moves them. */
static int record_page(struct pqfile_writer *w, const struct pq_column *column,
                       const struct pq_page_header *header, struct pqfile_error *error)
{
    struct pq_chunk_pages *list = pq_writer_pages(w);
    struct pq_page *page = &w->page;
    size_t need = (size_t)list->page_count + 1;
    struct pqfile_statistics bounds = {0};
    int rc = pq_grow(&w->allocator, &list->pages, &list->page_capacity, need, sizeof *list->pages);
    if (rc == 0)
        rc = pq_grow(&w->allocator, &list->entries, &list->entry_capacity, need,
                     sizeof *list->entries);
    if (rc == 0 && !column->options.no_statistics && !column->options.no_page_index)
        rc = pq_bounds_store(&page->bounds, column->options.bound_bytes, &w->arena, &bounds);
    if (rc < 0)
        return pq_error_plain(error, rc);
    bool in_place = column->direct ||
                    (header->encoding == PQFILE_PLAIN && !header->is_compressed &&
                     header->type == PQ_PAGE_DATA_V2 && column->node->type != PQFILE_BOOLEAN &&
                     column->node->type != PQFILE_BYTE_ARRAY);
    bool numbers_in_place =
        column->options.as_bytes && column->options.codec == PQFILE_UNCOMPRESSED;
    uint64_t offset = page_offset(w);
    list->pages[list->page_count] = (struct pqfile_page){
        .offset = offset,
        .header_bytes = (uint32_t)w->header.len,
        .stored_bytes = header->stored_bytes,
        .raw_bytes = header->raw_bytes,
        .row_count = header->row_count,
        .first_row = w->chunk_rows,
        .level_count = header->level_count,
        .value_count = (uint32_t)page->value_count,
        .encoding = header->encoding,
        .version = column->options.page_version,
        .in_place = in_place,
        .numbers_in_place = numbers_in_place,
        .values_offset = in_place || numbers_in_place ? offset + w->header.len + w->levels.len : 0,
    };
    list->entries[list->page_count] = (struct pqfile_page_entry){
        .offset = offset,
        .stored_bytes = (uint32_t)w->header.len + header->stored_bytes,
        .is_null = page->value_count == 0,
        .first_row = w->chunk_rows,
        .row_count = header->row_count,
        .min = bounds.min,
        .max = bounds.max,
        .has_null_count = true,
        .null_count = header->null_count,
    };
    if (page->value_count > 0 && !bounds.has_min)
        list->unbounded = true;
    list->page_count++;
    return 0;
}

static void count_page(struct pqfile_writer *w, const struct pq_page_header *header)
{
    struct pqfile_chunk *chunk = pq_writer_chunk(w);
    chunk->encodings |= 1U << header->encoding;
    chunk->level_count += header->level_count;
    chunk->raw_bytes += w->header.len + header->raw_bytes;
    chunk->stored_bytes += w->header.len + header->stored_bytes;
    w->chunk_rows += header->row_count;
    w->chunk_nulls += header->null_count;
    pq_bounds_merge(&w->chunk_bounds, &w->page.bounds);
}

static void empty_page(struct pq_page *page)
{
    pq_buffer_clear(&page->definition);
    pq_buffer_clear(&page->repetition);
    pq_buffer_clear(&page->definition_runs.bytes);
    pq_buffer_clear(&page->repetition_runs.bytes);
    pq_buffer_clear(&page->values);
    pq_bounds_clear(&page->bounds);
    page->value_bytes = page->row_count = page->level_count = page->value_count = 0;
}

static bool page_failed(const struct pqfile_writer *w)
{
    const struct pq_page *page = &w->page;
    return page->definition.failed || page->repetition.failed || page->values.failed ||
           page->definition_runs.bytes.failed || page->repetition_runs.bytes.failed ||
           pq_bounds_failed(&page->bounds) || pq_bounds_failed(&w->chunk_bounds);
}

/* ---- dictionary ---- */

/* `plain`: the entries, `count` of them, in PLAIN. */
static int write_dictionary_page(struct pqfile_writer *w, const struct pq_column *column,
                                 struct pqfile_bytes plain, uint32_t count,
                                 struct pqfile_error *error)
{
    struct pqfile_chunk *chunk = pq_writer_chunk(w);
    struct pieces pieces = {.values = plain.data, .values_len = plain.len};
    struct pq_page_header header = {
        .type = PQ_PAGE_DICTIONARY,
        .has_crc = true,
        .level_count = count,
        .encoding = PQFILE_PLAIN,
    };
    if (pieces.values_len > INT32_MAX)
        return pq_error(error, PQFILE_LIMIT, "the dictionary is too large");
    header.raw_bytes = (uint32_t)pieces.values_len;
    pq_buffer_clear(&w->packed);
    pq_buffer_clear(&w->levels);
    if (column->options.codec != PQFILE_UNCOMPRESSED) {
        int rc = compress_whole(w, column, &pieces);
        if (rc < 0 || w->packed.failed)
            return pq_error_plain(error, rc < 0 ? rc : PQFILE_NO_MEMORY);
    }
    header.stored_bytes = (uint32_t)pieces.values_len;
    header.crc = pq_crc32(0, pieces.values, pieces.values_len);
    pq_buffer_clear(&w->header);
    pq_page_header_write(&w->header, &header, 0, 0, 0);
    chunk->dictionary_offset = w->offset;
    chunk->encodings |= 1U << PQFILE_PLAIN;
    chunk->raw_bytes += w->header.len + header.raw_bytes;
    chunk->stored_bytes += w->header.len + header.stored_bytes;
    return put_page(w, &pieces, error);
}

/* That of columns stored as bytes, before their first page. */
static int write_byte_dictionary(struct pqfile_writer *w, const struct pq_column *column,
                                 struct pqfile_error *error)
{
    int32_t values[256];
    if (pq_writer_pages(w)->page_count > 0)
        return 0;
    for (int i = 0; i < 256; i++)
        values[i] = i < 128 ? i : i - 256;
    struct pqfile_bytes plain = {(const uint8_t *)values, sizeof(values)};
    return write_dictionary_page(w, column, plain, 256, error);
}

/* ---- pages ---- */

int pq_page_write(struct pqfile_writer *w, const void *values, struct pqfile_error *error)
{
    const struct pq_column *column = &w->columns[w->column];
    const struct pq_page *page = &w->page;
    struct pieces pieces = {0};
    struct pq_page_header header = {
        .type = column->options.page_version == 1 ? PQ_PAGE_DATA : PQ_PAGE_DATA_V2,
        .has_crc = true,
        .level_count = (uint32_t)page->level_count,
        .encoding = column->options.encoding,
        .definition_encoding = PQFILE_RLE,
        .repetition_encoding = PQFILE_RLE,
        .null_count = (uint32_t)(page->level_count - page->value_count),
        .row_count = (uint32_t)page->row_count,
    };
    bool as_bytes = column->options.as_bytes;
    if (header.encoding == PQFILE_RLE_DICTIONARY && !w->in_dictionary && !as_bytes)
        header.encoding = PQFILE_PLAIN;
    if (page->level_count > INT32_MAX)
        return pq_error(error, PQFILE_LIMIT, "a page has over 2^31 values");
    int rc = as_bytes ? write_byte_dictionary(w, column, error) : 0;
    if (rc < 0)
        return rc;
    encode_levels(w, column, &header);
    if (as_bytes)
        encode_bytes(w, column, &pieces);
    else
        encode_values(w, column, header.encoding, values, &pieces);
    if (page_failed(w) || w->levels.failed || w->encoded.failed)
        return pq_error_plain(error, PQFILE_NO_MEMORY);
    rc = compress(w, column, &pieces, &header);
    if (rc < 0)
        return pq_error(error, rc, "page of %zu values: %s", page->value_count,
                        pqfile_code_text(rc));
    header.crc = pq_crc32(0, pieces.levels, pieces.levels_len);
    header.crc = pq_crc32(header.crc, pieces.values, pieces.values_len);
    pq_buffer_clear(&w->header);
    pq_page_header_write(&w->header, &header, page_offset(w), pieces.levels_len,
                         column->options.value_alignment);
    rc = record_page(w, column, &header, error);
    if (rc == 0)
        rc = put_page(w, &pieces, error);
    if (rc < 0)
        return rc;
    count_page(w, &header);
    empty_page(&w->page);
    return 0;
}

int pq_page_end_dictionary(struct pqfile_writer *w, struct pqfile_error *error)
{
    assert(w->in_dictionary && w->page.level_count == 0);
    w->in_dictionary = false;
    struct pqfile_bytes plain = {w->dictionary.plain.data, w->dictionary.plain.len};
    int rc = write_dictionary_page(w, &w->columns[w->column], plain, w->dictionary.count, error);
    if (rc < 0)
        return rc;
    struct pq_chunk_pages *list = pq_writer_pages(w);
    for (uint32_t i = 0; i < list->page_count; i++) {
        list->pages[i].offset += w->offset;
        list->entries[i].offset += w->offset;
    }
    rc = pq_writer_put(w, w->held.data, w->held.len, error);
    pq_buffer_clear(&w->held);
    return rc;
}
