/* metadata_write.c: the structs of parquet.thrift as bytes; see metadata.h. Field numbers are those
 * of parquet.thrift of apache/parquet-format 2.10; fields stand in their order, which keeps the
 * compact protocol's short form.
 *
 * What is deprecated is left out (ColumnChunk.file_offset must be there and is 0), except converted
 * types: readers without logical types still exist. */
#include "metadata.h"

#include <assert.h>
#include <string.h>

#include "thrift.h"

const char pq_magic[PQ_MAGIC_BYTES] = {'P', 'A', 'R', '1'};

/* ---- page headers ---- */

static void write_data_page(struct pq_thrift_writer *w, const struct pq_page_header *h)
{
    pq_thrift_write_struct(w, 5);
    pq_thrift_write_i32(w, 1, (int32_t)h->level_count);
    pq_thrift_write_i32(w, 2, (int32_t)h->encoding);
    pq_thrift_write_i32(w, 3, (int32_t)h->definition_encoding);
    pq_thrift_write_i32(w, 4, (int32_t)h->repetition_encoding);
    pq_thrift_write_end(w);
}

static void write_dictionary_page(struct pq_thrift_writer *w, const struct pq_page_header *h)
{
    pq_thrift_write_struct(w, 7);
    pq_thrift_write_i32(w, 1, (int32_t)h->level_count);
    pq_thrift_write_i32(w, 2, (int32_t)h->encoding);
    pq_thrift_write_bool(w, 3, h->is_sorted);
    pq_thrift_write_end(w);
}

static void write_data_page_v2(struct pq_thrift_writer *w, const struct pq_page_header *h)
{
    pq_thrift_write_struct(w, 8);
    pq_thrift_write_i32(w, 1, (int32_t)h->level_count);
    pq_thrift_write_i32(w, 2, (int32_t)h->null_count);
    pq_thrift_write_i32(w, 3, (int32_t)h->row_count);
    pq_thrift_write_i32(w, 4, (int32_t)h->encoding);
    pq_thrift_write_i32(w, 5, (int32_t)h->definition_bytes);
    pq_thrift_write_i32(w, 6, (int32_t)h->repetition_bytes);
    pq_thrift_write_bool(w, 7, h->is_compressed);
    pq_thrift_write_end(w);
}

/* The padding costs three bytes for the field's number, one or two for the string's length, the
 * string, and what follows is the header's last byte. */
static void write_padding(struct pq_thrift_writer *w, uint64_t end, uint32_t alignment)
{
    static const uint8_t zeros[PQFILE_ALIGNMENT_MAX + 8];
    enum { FIELD_BYTES = 3, STOP_BYTES = 1, SHORT_MAX = 127 };
    assert((alignment & (alignment - 1)) == 0 && alignment <= PQFILE_ALIGNMENT_MAX);
    for (uint32_t len = 0; len < sizeof zeros; len++) {
        uint32_t length_bytes = len <= SHORT_MAX ? 1 : 2;
        if ((end + FIELD_BYTES + length_bytes + len + STOP_BYTES) % alignment == 0) {
            pq_thrift_write_binary(w, PQ_PADDING_FIELD, zeros, len);
            return;
        }
    }
    assert(false); /* `len` walks over all remainders twice */
}

void pq_page_header_write(struct pq_buffer *out, const struct pq_page_header *header,
                          uint64_t file_offset, size_t levels_bytes, uint32_t alignment)
{
    struct pq_thrift_writer w;
    size_t start = out->len;
    pq_thrift_writer_open(&w, out);
    pq_thrift_write_begin(&w);
    pq_thrift_write_i32(&w, 1, (int32_t)header->type);
    pq_thrift_write_i32(&w, 2, (int32_t)header->raw_bytes);
    pq_thrift_write_i32(&w, 3, (int32_t)header->stored_bytes);
    if (header->has_crc)
        pq_thrift_write_i32(&w, 4, (int32_t)header->crc);
    if (header->type == PQ_PAGE_DATA)
        write_data_page(&w, header);
    else if (header->type == PQ_PAGE_DICTIONARY)
        write_dictionary_page(&w, header);
    else
        write_data_page_v2(&w, header);
    if (alignment > 1)
        write_padding(&w, file_offset + (out->len - start) + levels_bytes, alignment);
    pq_thrift_write_end(&w);
}

/* ---- schema ---- */

int32_t pq_converted_of(const struct pqfile_logical *logical)
{
    enum { UTF8 = 0, MAP = 1, LIST = 3, ENUM = 4, DECIMAL = 5, DATE = 6, TIME = 7, TIMESTAMP = 9 };
    enum { UINT_8 = 11, INT_8 = 15, JSON = 19, BSON = 20 };
    bool millis_or_micros = logical->unit == PQFILE_MILLIS || logical->unit == PQFILE_MICROS;
    int32_t unit = logical->unit == PQFILE_MICROS ? 1 : 0;
    switch (logical->kind) {
    case PQFILE_LOGICAL_STRING:
        return UTF8;
    case PQFILE_LOGICAL_MAP:
        return MAP;
    case PQFILE_LOGICAL_LIST:
        return LIST;
    case PQFILE_LOGICAL_ENUM:
        return ENUM;
    case PQFILE_LOGICAL_DECIMAL:
        return DECIMAL;
    case PQFILE_LOGICAL_DATE:
        return DATE;
    case PQFILE_LOGICAL_TIME:
        return logical->utc && millis_or_micros ? TIME + unit : PQFILE_CONVERTED_NONE;
    case PQFILE_LOGICAL_TIMESTAMP:
        return logical->utc && millis_or_micros ? TIMESTAMP + unit : PQFILE_CONVERTED_NONE;
    case PQFILE_LOGICAL_INTEGER: /* 8, 16, 32, 64 bits stand behind each other */
        return (logical->is_signed ? INT_8 : UINT_8) + __builtin_ctz((unsigned)logical->bits | 64) -
               3;
    case PQFILE_LOGICAL_JSON:
        return JSON;
    case PQFILE_LOGICAL_BSON:
        return BSON;
    case PQFILE_LOGICAL_NONE:
    case PQFILE_LOGICAL_UNKNOWN:
    case PQFILE_LOGICAL_UUID:
    case PQFILE_LOGICAL_FLOAT16:
    case PQFILE_LOGICAL_OTHER:
    default:
        return PQFILE_CONVERTED_NONE;
    }
}

static void write_empty(struct pq_thrift_writer *w, int16_t id)
{
    pq_thrift_write_struct(w, id);
    pq_thrift_write_end(w);
}

static void write_logical(struct pq_thrift_writer *w, const struct pqfile_logical *logical)
{
    pq_thrift_write_struct(w, (int16_t)logical->kind);
    if (logical->kind == PQFILE_LOGICAL_DECIMAL) {
        pq_thrift_write_i32(w, 1, logical->scale);
        pq_thrift_write_i32(w, 2, logical->precision);
    } else if (logical->kind == PQFILE_LOGICAL_TIME || logical->kind == PQFILE_LOGICAL_TIMESTAMP) {
        pq_thrift_write_bool(w, 1, logical->utc);
        pq_thrift_write_struct(w, 2);
        write_empty(w, (int16_t)logical->unit);
        pq_thrift_write_end(w);
    } else if (logical->kind == PQFILE_LOGICAL_INTEGER) {
        pq_thrift_write_i8(w, 1, (int8_t)logical->bits);
        pq_thrift_write_bool(w, 2, logical->is_signed);
    }
    pq_thrift_write_end(w);
}

static void write_node(struct pq_thrift_writer *w, const struct pqfile_node *node, bool is_root)
{
    pq_thrift_write_begin(w);
    if (node->child_count == 0 && !is_root) {
        pq_thrift_write_i32(w, 1, (int32_t)node->type);
        if (node->type == PQFILE_FIXED_LEN_BYTE_ARRAY)
            pq_thrift_write_i32(w, 2, (int32_t)node->type_length);
    }
    if (!is_root)
        pq_thrift_write_i32(w, 3, (int32_t)node->repetition);
    pq_thrift_write_binary(w, 4, node->name, node->name_len);
    if (node->child_count > 0 || is_root)
        pq_thrift_write_i32(w, 5, (int32_t)node->child_count);
    if (node->converted != PQFILE_CONVERTED_NONE)
        pq_thrift_write_i32(w, 6, node->converted);
    if (node->logical.kind == PQFILE_LOGICAL_DECIMAL) {
        pq_thrift_write_i32(w, 7, node->logical.scale);
        pq_thrift_write_i32(w, 8, node->logical.precision);
    }
    if (node->has_field_id)
        pq_thrift_write_i32(w, 9, node->field_id);
    if (node->logical.kind != PQFILE_LOGICAL_NONE) {
        pq_thrift_write_struct(w, 10);
        write_logical(w, &node->logical);
        pq_thrift_write_end(w);
    }
    pq_thrift_write_end(w);
}

/* ---- row groups ---- */

static void write_statistics(struct pq_thrift_writer *w, const struct pqfile_statistics *s)
{
    pq_thrift_write_struct(w, 12);
    if (s->has_null_count)
        pq_thrift_write_i64(w, 3, (int64_t)s->null_count);
    if (s->has_distinct_count)
        pq_thrift_write_i64(w, 4, (int64_t)s->distinct_count);
    if (s->has_max)
        pq_thrift_write_binary(w, 5, s->max.data, s->max.len);
    if (s->has_min)
        pq_thrift_write_binary(w, 6, s->min.data, s->min.len);
    if (s->has_max)
        pq_thrift_write_bool(w, 7, !s->max_inexact);
    if (s->has_min)
        pq_thrift_write_bool(w, 8, !s->min_inexact);
    pq_thrift_write_end(w);
}

static void write_encodings(struct pq_thrift_writer *w, uint32_t encodings)
{
    pq_thrift_write_list(w, 2, PQ_THRIFT_I32, (size_t)__builtin_popcount(encodings));
    for (int32_t i = 0; i < 32; i++)
        if (encodings & (1U << i))
            pq_thrift_write_i32_element(w, i);
}

/* The names from below the root to the leaf. */
static void write_path(struct pq_thrift_writer *w, const struct pqfile_metadata *m, uint32_t leaf)
{
    uint32_t path[PQFILE_DEPTH_MAX_CAP];
    size_t depth = 0;
    for (uint32_t i = leaf; i != 0; i = m->nodes[i].parent) {
        assert(depth < PQFILE_DEPTH_MAX_CAP);
        path[depth++] = i;
    }
    pq_thrift_write_list(w, 3, PQ_THRIFT_BINARY, depth);
    while (depth-- > 0) {
        const struct pqfile_node *node = &m->nodes[path[depth]];
        pq_thrift_write_binary_element(w, node->name, node->name_len);
    }
}

static void write_column_metadata(struct pq_thrift_writer *w, const struct pqfile_metadata *m,
                                  uint32_t column, const struct pqfile_chunk *chunk)
{
    pq_thrift_write_struct(w, 3);
    pq_thrift_write_i32(w, 1, (int32_t)m->nodes[m->columns[column]].type);
    write_encodings(w, chunk->encodings);
    write_path(w, m, m->columns[column]);
    pq_thrift_write_i32(w, 4, (int32_t)chunk->codec);
    pq_thrift_write_i64(w, 5, (int64_t)chunk->level_count);
    pq_thrift_write_i64(w, 6, (int64_t)chunk->raw_bytes);
    pq_thrift_write_i64(w, 7, (int64_t)chunk->stored_bytes);
    pq_thrift_write_i64(w, 9, (int64_t)chunk->data_offset);
    if (chunk->dictionary_offset > 0)
        pq_thrift_write_i64(w, 11, (int64_t)chunk->dictionary_offset);
    const struct pqfile_statistics *s = &chunk->statistics;
    if (s->has_min || s->has_max || s->has_null_count || s->has_distinct_count)
        write_statistics(w, s);
    if (chunk->has_bloom) {
        pq_thrift_write_i64(w, 14, (int64_t)chunk->bloom_offset);
        if (chunk->bloom_bytes > 0)
            pq_thrift_write_i32(w, 15, (int32_t)chunk->bloom_bytes);
    }
    pq_thrift_write_end(w);
}

static void write_chunk(struct pq_thrift_writer *w, const struct pqfile_metadata *m,
                        uint32_t column, const struct pqfile_chunk *chunk)
{
    pq_thrift_write_begin(w);
    pq_thrift_write_i64(w, 2, 0);
    write_column_metadata(w, m, column, chunk);
    if (chunk->offset_index_bytes > 0) {
        pq_thrift_write_i64(w, 4, (int64_t)chunk->offset_index_offset);
        pq_thrift_write_i32(w, 5, (int32_t)chunk->offset_index_bytes);
    }
    if (chunk->column_index_bytes > 0) {
        pq_thrift_write_i64(w, 6, (int64_t)chunk->column_index_offset);
        pq_thrift_write_i32(w, 7, (int32_t)chunk->column_index_bytes);
    }
    pq_thrift_write_end(w);
}

static void write_row_group(struct pq_thrift_writer *w, const struct pqfile_metadata *m,
                            uint32_t number)
{
    const struct pqfile_row_group *group = &m->row_groups[number];
    pq_thrift_write_begin(w);
    pq_thrift_write_list(w, 1, PQ_THRIFT_STRUCT, m->column_count);
    for (uint32_t i = 0; i < m->column_count; i++)
        write_chunk(w, m, i, &group->chunks[i]);
    pq_thrift_write_i64(w, 2, (int64_t)group->raw_bytes);
    pq_thrift_write_i64(w, 3, (int64_t)group->row_count);
    pq_thrift_write_i64(w, 5, m->column_count == 0 ? 0 : (int64_t)group->chunks[0].start);
    pq_thrift_write_i64(w, 6, (int64_t)group->stored_bytes);
    if (number <= INT16_MAX)
        pq_thrift_write_i16(w, 7, (int16_t)number);
    pq_thrift_write_end(w);
}

/* ---- footer ---- */

static void write_key_values(struct pq_thrift_writer *w, const struct pqfile_metadata *m)
{
    if (m->key_value_count == 0)
        return;
    pq_thrift_write_list(w, 5, PQ_THRIFT_STRUCT, m->key_value_count);
    for (uint32_t i = 0; i < m->key_value_count; i++) {
        const struct pqfile_key_value *pair = &m->key_values[i];
        pq_thrift_write_begin(w);
        pq_thrift_write_binary(w, 1, pair->key.data, pair->key.len);
        if (pair->has_value)
            pq_thrift_write_binary(w, 2, pair->value.data, pair->value.len);
        pq_thrift_write_end(w);
    }
}

/* All columns are in the order that their type defines; without this list, readers must not trust
 * minima and maxima. */
static void write_column_orders(struct pq_thrift_writer *w, uint32_t column_count)
{
    pq_thrift_write_list(w, 7, PQ_THRIFT_STRUCT, column_count);
    for (uint32_t i = 0; i < column_count; i++) {
        pq_thrift_write_begin(w);
        write_empty(w, 1);
        pq_thrift_write_end(w);
    }
}

void pq_metadata_write(struct pq_buffer *out, const struct pqfile_metadata *metadata)
{
    struct pq_thrift_writer w;
    pq_thrift_writer_open(&w, out);
    pq_thrift_write_begin(&w);
    pq_thrift_write_i32(&w, 1, metadata->version);
    pq_thrift_write_list(&w, 2, PQ_THRIFT_STRUCT, metadata->node_count);
    for (uint32_t i = 0; i < metadata->node_count; i++)
        write_node(&w, &metadata->nodes[i], i == 0);
    pq_thrift_write_i64(&w, 3, (int64_t)metadata->row_count);
    pq_thrift_write_list(&w, 4, PQ_THRIFT_STRUCT, metadata->row_group_count);
    for (uint32_t i = 0; i < metadata->row_group_count; i++)
        write_row_group(&w, metadata, i);
    write_key_values(&w, metadata);
    if (metadata->created_by.len > 0)
        pq_thrift_write_binary(&w, 6, metadata->created_by.data, metadata->created_by.len);
    write_column_orders(&w, metadata->column_count);
    pq_thrift_write_end(&w);
}

/* ---- page index ---- */

void pq_offset_index_write(struct pq_buffer *out, const struct pqfile_page_index_view *view)
{
    struct pq_thrift_writer w;
    pq_thrift_writer_open(&w, out);
    pq_thrift_write_begin(&w);
    pq_thrift_write_list(&w, 1, PQ_THRIFT_STRUCT, view->page_count);
    for (uint32_t i = 0; i < view->page_count; i++) {
        pq_thrift_write_begin(&w);
        pq_thrift_write_i64(&w, 1, (int64_t)view->entries[i].offset);
        pq_thrift_write_i32(&w, 2, (int32_t)view->entries[i].stored_bytes);
        pq_thrift_write_i64(&w, 3, (int64_t)view->entries[i].first_row);
        pq_thrift_write_end(&w);
    }
    pq_thrift_write_end(&w);
}

void pq_column_index_write(struct pq_buffer *out, const struct pqfile_page_index_view *view)
{
    struct pq_thrift_writer w;
    bool null_counts = view->page_count > 0;
    pq_thrift_writer_open(&w, out);
    pq_thrift_write_begin(&w);
    pq_thrift_write_list(&w, 1, PQ_THRIFT_TRUE, view->page_count);
    for (uint32_t i = 0; i < view->page_count; i++) {
        pq_thrift_write_bool_element(&w, view->entries[i].is_null);
        null_counts = null_counts && view->entries[i].has_null_count;
    }
    pq_thrift_write_list(&w, 2, PQ_THRIFT_BINARY, view->page_count);
    for (uint32_t i = 0; i < view->page_count; i++)
        pq_thrift_write_binary_element(&w, view->entries[i].min.data, view->entries[i].min.len);
    pq_thrift_write_list(&w, 3, PQ_THRIFT_BINARY, view->page_count);
    for (uint32_t i = 0; i < view->page_count; i++)
        pq_thrift_write_binary_element(&w, view->entries[i].max.data, view->entries[i].max.len);
    pq_thrift_write_i32(&w, 4, (int32_t)view->order);
    if (null_counts) {
        pq_thrift_write_list(&w, 5, PQ_THRIFT_I64, view->page_count);
        for (uint32_t i = 0; i < view->page_count; i++)
            pq_thrift_write_i64_element(&w, (int64_t)view->entries[i].null_count);
    }
    pq_thrift_write_end(&w);
}

/* ---- bloom filter ---- */

void pq_bloom_header_write(struct pq_buffer *out, uint32_t bits_bytes)
{
    struct pq_thrift_writer w;
    pq_thrift_writer_open(&w, out);
    pq_thrift_write_begin(&w);
    pq_thrift_write_i32(&w, 1, (int32_t)bits_bytes);
    for (int16_t id = 2; id <= 4; id++) { /* split block, xxHash, uncompressed: each the first */
        pq_thrift_write_struct(&w, id);
        write_empty(&w, 1);
        pq_thrift_write_end(&w);
    }
    pq_thrift_write_end(&w);
}
