/* metadata_read.c: parses FileMetaData. The schema comes first (metadata_schema.c), because the
 * chunks of a row group are checked against its columns: as many, of the same types, in the same
 * order. Every range that a chunk names must lie within the file, so that nobody behind this file
 * has to ask again. Row counts of row groups must sum up to the file's.
 *
 * Unknown fields are skipped, unknown codecs and encodings kept as numbers: whoever reads such a
 * column is told, the other columns stay readable.
 *
 * Source: parquet.thrift of apache/parquet-format 2.10. */
#include <assert.h>
#include <string.h>

#include "error.h"
#include "metadata_internal.h"

enum { ENCODING_BITS = 32 };

struct context {
    const struct pq_metadata_limits *limits;
    struct pq_arena *arena;
    struct pqfile_error *error;
    struct pqfile_metadata *metadata;
    const bool *is_ordered; /* a column: the footer gives it an order */
};

/* ---- column chunks ---- */

/* A ColumnChunk with its ColumnMetaData as they stand in the file. */
struct raw_chunk {
    bool has_metadata;
    bool is_encrypted;
    bool is_elsewhere; /* in another file */
    int32_t type;
    int32_t codec;
    uint32_t encodings;
    int64_t level_count;
    int64_t raw_bytes;
    int64_t stored_bytes;
    int64_t data_offset;
    int64_t dictionary_offset;
    int64_t column_index_offset;
    int64_t column_index_bytes;
    int64_t offset_index_offset;
    int64_t offset_index_bytes;
    bool has_bloom;
    int64_t bloom_offset;
    int64_t bloom_bytes;
    struct pq_raw_statistics statistics;
};

static uint32_t read_encodings(struct pq_thrift_reader *r, uint8_t type)
{
    uint8_t element = 0;
    uint32_t encodings = 0, count = pq_thrift_list(r, type, &element);
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        int32_t encoding = pq_thrift_i32(r, element);
        if (encoding >= 0 && encoding < ENCODING_BITS)
            encodings |= UINT32_C(1) << encoding;
    }
    return encodings;
}

static void read_chunk_metadata(struct pq_thrift_reader *r, struct raw_chunk *c)
{
    struct pq_thrift_field f;
    c->has_metadata = true;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        switch (f.id) {
        case 1:
            c->type = pq_thrift_i32(r, f.type);
            break;
        case 2:
            c->encodings = read_encodings(r, f.type);
            break;
        case 4:
            c->codec = pq_thrift_i32(r, f.type);
            break;
        case 5:
            c->level_count = pq_thrift_i64(r, f.type);
            break;
        case 6:
            c->raw_bytes = pq_thrift_i64(r, f.type);
            break;
        case 7:
            c->stored_bytes = pq_thrift_i64(r, f.type);
            break;
        case 9:
            c->data_offset = pq_thrift_i64(r, f.type);
            break;
        case 11:
            c->dictionary_offset = pq_thrift_i64(r, f.type);
            break;
        case 12:
            if (f.type == PQ_THRIFT_STRUCT)
                pq_statistics_parse(r, &c->statistics);
            else
                pq_thrift_skip(r, f.type);
            break;
        case 14:
            c->has_bloom = true;
            c->bloom_offset = pq_thrift_i64(r, f.type);
            break;
        case 15:
            c->bloom_bytes = pq_thrift_i32(r, f.type);
            break;
        default:
            pq_thrift_skip(r, f.type);
        }
    }
}

static void parse_chunk(struct pq_thrift_reader *r, struct raw_chunk *c)
{
    struct pq_thrift_field f;
    size_t path_len = 0;
    *c = (struct raw_chunk){.type = -1, .codec = -1};
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        switch (f.id) {
        case 1:
            (void)pq_thrift_binary(r, f.type, &path_len);
            c->is_elsewhere = path_len != 0;
            break;
        case 3:
            if (f.type == PQ_THRIFT_STRUCT)
                read_chunk_metadata(r, c);
            else
                pq_thrift_skip(r, f.type);
            break;
        case 4:
            c->offset_index_offset = pq_thrift_i64(r, f.type);
            break;
        case 5:
            c->offset_index_bytes = pq_thrift_i32(r, f.type);
            break;
        case 6:
            c->column_index_offset = pq_thrift_i64(r, f.type);
            break;
        case 7:
            c->column_index_bytes = pq_thrift_i32(r, f.type);
            break;
        case 8:
        case 9:
            c->is_encrypted = true;
            pq_thrift_skip(r, f.type);
            break;
        default:
            pq_thrift_skip(r, f.type);
        }
    }
}

static bool is_within(int64_t offset, int64_t bytes, uint64_t file_bytes)
{
    return offset >= PQ_MAGIC_BYTES && bytes >= 0 && (uint64_t)offset <= file_bytes &&
           (uint64_t)bytes <= file_bytes - (uint64_t)offset;
}

/* Where a page index or a filter lies; absent ones are zeros. */
static int take_range(int64_t offset, int64_t bytes, uint64_t file_bytes, uint64_t *offset_out,
                      uint32_t *bytes_out)
{
    if (offset == 0 && bytes == 0)
        return PQFILE_OK;
    if (!is_within(offset, bytes, file_bytes))
        return PQFILE_CORRUPT;
    *offset_out = (uint64_t)offset;
    *bytes_out = (uint32_t)bytes;
    return PQFILE_OK;
}

static int take_ranges(const struct raw_chunk *raw, uint64_t file_bytes, struct pqfile_chunk *c)
{
    if (raw->level_count < 0 || raw->raw_bytes < 0 || raw->stored_bytes < 0)
        return PQFILE_CORRUPT;
    c->level_count = (uint64_t)raw->level_count;
    c->raw_bytes = (uint64_t)raw->raw_bytes;
    c->stored_bytes = (uint64_t)raw->stored_bytes;
    if (c->stored_bytes == 0) {
        if (c->level_count != 0)
            return PQFILE_CORRUPT;
    } else {
        /* Some writers leave the data's offset 0 where a dictionary is all there is. */
        bool has_data = raw->data_offset > 0;
        int64_t start = raw->data_offset;
        if (raw->dictionary_offset > 0 && (!has_data || raw->dictionary_offset < start)) {
            start = raw->dictionary_offset;
            c->dictionary_offset = (uint64_t)start;
        }
        if (!is_within(start, raw->stored_bytes, file_bytes) ||
            (has_data ? raw->data_offset - start > raw->stored_bytes : raw->level_count != 0))
            return PQFILE_CORRUPT;
        c->start = (uint64_t)start;
        c->data_offset = has_data ? (uint64_t)raw->data_offset : 0;
    }
    if (take_range(raw->offset_index_offset, raw->offset_index_bytes, file_bytes,
                   &c->offset_index_offset, &c->offset_index_bytes) < 0 ||
        take_range(raw->column_index_offset, raw->column_index_bytes, file_bytes,
                   &c->column_index_offset, &c->column_index_bytes) < 0)
        return PQFILE_CORRUPT;
    c->has_bloom = raw->has_bloom;
    return !raw->has_bloom ? PQFILE_OK
                           : take_range(raw->bloom_offset, raw->bloom_bytes, file_bytes,
                                        &c->bloom_offset, &c->bloom_bytes);
}

static int read_chunk(struct pq_thrift_reader *r, const struct context *x, uint32_t column,
                      struct pqfile_chunk *c)
{
    const struct pqfile_node *leaf = &x->metadata->nodes[x->metadata->columns[column]];
    struct raw_chunk raw;
    parse_chunk(r, &raw);
    if (r->failed)
        return pq_error(x->error, PQFILE_CORRUPT, "structure");
    if (raw.is_encrypted)
        return pq_error(x->error, PQFILE_UNSUPPORTED, "encrypted");
    if (raw.is_elsewhere)
        return pq_error(x->error, PQFILE_UNSUPPORTED, "stored in another file");
    if (!raw.has_metadata)
        return pq_error(x->error, PQFILE_CORRUPT, "no metadata");
    if (raw.type != (int32_t)leaf->type)
        return pq_error(x->error, PQFILE_CORRUPT, "type %d, but %s in the schema", raw.type,
                        pqfile_type_name(leaf->type));
    if (raw.codec < 0)
        return pq_error(x->error, PQFILE_CORRUPT, "no codec");
    c->codec = (enum pqfile_codec)raw.codec;
    c->encodings = raw.encodings;
    if (take_ranges(&raw, x->limits->file_bytes, c) < 0)
        return pq_error(x->error, PQFILE_CORRUPT, "lies outside the file");
    int rc =
        pq_statistics_take(&raw.statistics, leaf, x->is_ordered[column], x->arena, &c->statistics);
    return rc < 0 ? pq_error_plain(x->error, rc) : PQFILE_OK;
}

/* ---- row groups ---- */

static int read_chunks(struct pq_thrift_reader *r, const struct context *x, uint8_t type,
                       struct pqfile_row_group *group)
{
    uint8_t element = 0;
    uint32_t count = pq_thrift_list(r, type, &element);
    if (r->failed || count != x->metadata->column_count ||
        (count != 0 && element != PQ_THRIFT_STRUCT) || group->chunks != NULL)
        return pq_error(x->error, PQFILE_CORRUPT, "%u columns, but %u in the schema", count,
                        x->metadata->column_count);
    struct pqfile_chunk *chunks = pq_arena_zeroed(x->arena, count, sizeof(*chunks));
    if (chunks == NULL)
        return pq_error_plain(x->error, pq_arena_code(x->arena));
    for (uint32_t i = 0; i < count; i++) {
        int rc = read_chunk(r, x, i, &chunks[i]);
        if (rc < 0)
            return pq_error_at(x->error, rc, "column %u", i);
        group->stored_bytes += chunks[i].stored_bytes; /* each is within the file */
    }
    group->chunks = chunks;
    return PQFILE_OK;
}

static int check_counts(const struct context *x, const struct pqfile_row_group *group)
{
    for (uint32_t i = 0; i < x->metadata->column_count; i++) {
        const struct pqfile_node *leaf = &x->metadata->nodes[x->metadata->columns[i]];
        uint64_t levels = group->chunks[i].level_count;
        bool fits =
            leaf->repetition_max == 0 ? levels == group->row_count : levels >= group->row_count;
        if (!fits)
            return pq_error(x->error, PQFILE_CORRUPT, "column %u: values do not fit the rows", i);
    }
    return PQFILE_OK;
}

static int read_row_group(struct pq_thrift_reader *r, const struct context *x,
                          struct pqfile_row_group *group)
{
    struct pq_thrift_field f;
    int64_t rows = -1, raw_bytes = 0;
    int rc = PQFILE_OK;
    pq_thrift_begin(r);
    while (rc == 0 && pq_thrift_next(r, &f)) {
        if (f.id == 1)
            rc = read_chunks(r, x, f.type, group);
        else if (f.id == 2)
            raw_bytes = pq_thrift_i64(r, f.type);
        else if (f.id == 3)
            rows = pq_thrift_i64(r, f.type);
        else
            pq_thrift_skip(r, f.type);
    }
    if (rc < 0)
        return rc;
    if (r->failed || rows < 0 || group->chunks == NULL)
        return pq_error(x->error, PQFILE_CORRUPT, "structure");
    group->row_count = (uint64_t)rows;
    group->raw_bytes = raw_bytes < 0 ? 0 : (uint64_t)raw_bytes;
    return check_counts(x, group);
}

static int read_row_groups(struct pq_thrift_reader *r, const struct context *x, uint8_t type)
{
    uint8_t element = 0;
    uint32_t count = pq_thrift_list(r, type, &element);
    if (r->failed || (count != 0 && element != PQ_THRIFT_STRUCT))
        return pq_error(x->error, PQFILE_CORRUPT, "row groups: structure");
    if (count > x->limits->row_group_max)
        return pq_error(x->error, PQFILE_LIMIT, "%u row groups, more than %u", count,
                        x->limits->row_group_max);
    struct pqfile_row_group *groups = pq_arena_zeroed(x->arena, count, sizeof(*groups));
    if (groups == NULL)
        return pq_error_plain(x->error, pq_arena_code(x->arena));
    uint64_t rows = 0;
    for (uint32_t i = 0; i < count; i++) {
        groups[i].first_row = rows;
        int rc = read_row_group(r, x, &groups[i]);
        if (rc == 0 && __builtin_add_overflow(rows, groups[i].row_count, &rows))
            rc = pq_error(x->error, PQFILE_CORRUPT, "too many rows");
        if (rc < 0)
            return pq_error_at(x->error, rc, "row group %u", i);
    }
    if (rows != x->metadata->row_count)
        return pq_error(x->error, PQFILE_CORRUPT, "row groups have %llu rows, the file %llu",
                        (unsigned long long)rows, (unsigned long long)x->metadata->row_count);
    x->metadata->row_groups = groups;
    x->metadata->row_group_count = count;
    return PQFILE_OK;
}

/* ---- the rest of the footer ---- */

static int read_key_value(struct pq_thrift_reader *r, struct pq_arena *arena,
                          struct pqfile_key_value *pair)
{
    struct pq_thrift_field f;
    const uint8_t *key = NULL, *value = NULL;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        if (f.id == 1)
            key = pq_thrift_binary(r, f.type, &pair->key.len);
        else if (f.id == 2)
            value = pq_thrift_binary(r, f.type, &pair->value.len);
        else
            pq_thrift_skip(r, f.type);
    }
    if (r->failed || key == NULL)
        return PQFILE_CORRUPT;
    pair->has_value = value != NULL;
    pair->key.data = (uint8_t *)pq_arena_text(arena, key, pair->key.len);
    if (value != NULL)
        pair->value.data = (uint8_t *)pq_arena_text(arena, value, pair->value.len);
    if (pair->key.data == NULL || (value != NULL && pair->value.data == NULL))
        return pq_arena_code(arena);
    return PQFILE_OK;
}

static int read_key_values(struct pq_thrift_reader *r, const struct context *x, uint8_t type)
{
    uint8_t element = 0;
    uint32_t count = pq_thrift_list(r, type, &element);
    if (r->failed || (count != 0 && element != PQ_THRIFT_STRUCT))
        return pq_error(x->error, PQFILE_CORRUPT, "keys: structure");
    struct pqfile_key_value *pairs = pq_arena_zeroed(x->arena, count, sizeof(*pairs));
    if (pairs == NULL)
        return pq_error_plain(x->error, pq_arena_code(x->arena));
    for (uint32_t i = 0; i < count; i++) {
        int rc = read_key_value(r, x->arena, &pairs[i]);
        if (rc < 0)
            return pq_error(x->error, rc, "key %u: %s", i, pqfile_code_text(rc));
    }
    x->metadata->key_values = pairs;
    x->metadata->key_value_count = count;
    return PQFILE_OK;
}

/* A ColumnOrder is a union whose field 1 is the order of the type. */
static int read_orders(struct pq_thrift_reader *r, const struct context *x, uint8_t type,
                       bool *is_ordered)
{
    uint8_t element = 0;
    uint32_t count = pq_thrift_list(r, type, &element);
    if (r->failed || count != x->metadata->column_count ||
        (count != 0 && element != PQ_THRIFT_STRUCT))
        return pq_error(x->error, PQFILE_CORRUPT, "column orders: structure");
    for (uint32_t i = 0; i < count; i++) {
        struct pq_thrift_field f;
        pq_thrift_begin(r);
        while (pq_thrift_next(r, &f)) {
            is_ordered[i] = f.id == 1;
            pq_thrift_skip(r, f.type);
        }
    }
    return PQFILE_OK;
}

static int read_created_by(struct pq_thrift_reader *r, const struct context *x, uint8_t type)
{
    size_t len = 0;
    const uint8_t *data = pq_thrift_binary(r, type, &len);
    if (data == NULL)
        return pq_error(x->error, PQFILE_CORRUPT, "structure");
    char *text = pq_arena_text(x->arena, data, len);
    if (text == NULL)
        return pq_error_plain(x->error, pq_arena_code(x->arena));
    x->metadata->created_by = (struct pqfile_bytes){.data = (uint8_t *)text, .len = len};
    return PQFILE_OK;
}

/* Row groups depend on fields that may stand behind them (the orders), so they are skipped here and
 * the place is kept. */
struct places {
    struct pq_thrift_reader row_groups, orders;
    uint8_t row_groups_type, orders_type;
};

static int read_fields(struct pq_thrift_reader *r, const struct context *x, struct places *places)
{
    struct pq_thrift_field f;
    int rc = PQFILE_OK;
    int64_t rows = -1;
    pq_thrift_begin(r);
    while (rc == 0 && pq_thrift_next(r, &f)) {
        switch (f.id) {
        case 1:
            x->metadata->version = pq_thrift_i32(r, f.type);
            break;
        case 2:
            rc = pq_schema_read(r, f.type, x->limits, x->arena, x->metadata, x->error);
            break;
        case 3:
            rows = pq_thrift_i64(r, f.type);
            break;
        case 4:
            places->row_groups = *r;
            places->row_groups_type = f.type;
            pq_thrift_skip(r, f.type);
            break;
        case 5:
            rc = read_key_values(r, x, f.type);
            break;
        case 6:
            rc = read_created_by(r, x, f.type);
            break;
        case 7:
            places->orders = *r;
            places->orders_type = f.type;
            pq_thrift_skip(r, f.type);
            break;
        case 8:
            rc = pq_error(x->error, PQFILE_UNSUPPORTED, "encrypted");
            break;
        default:
            pq_thrift_skip(r, f.type);
        }
    }
    if (rc < 0)
        return rc;
    if (r->failed || rows < 0 || x->metadata->nodes == NULL || places->row_groups_type == 0)
        return pq_error(x->error, PQFILE_CORRUPT, "structure");
    x->metadata->row_count = (uint64_t)rows;
    return PQFILE_OK;
}

int pq_metadata_read(const uint8_t *data, size_t len, const struct pq_metadata_limits *limits,
                     struct pq_arena *arena, struct pqfile_metadata *metadata_out,
                     struct pqfile_error *error)
{
    struct pq_thrift_reader r;
    struct places places = {.row_groups_type = PQ_THRIFT_STOP};
    struct pqfile_metadata metadata = {0};
    struct context x = {.limits = limits, .arena = arena, .error = error, .metadata = &metadata};
    pq_thrift_open(&r, data, len);
    int rc = read_fields(&r, &x, &places);
    if (rc < 0)
        return pq_error_at(error, rc, "footer");
    bool *is_ordered = pq_arena_zeroed(arena, metadata.column_count, sizeof(*is_ordered));
    if (is_ordered == NULL)
        return pq_error_plain(error, pq_arena_code(arena));
    x.is_ordered = is_ordered;
    if (places.orders_type != PQ_THRIFT_STOP)
        rc = read_orders(&places.orders, &x, places.orders_type, is_ordered);
    if (rc == 0)
        rc = read_row_groups(&places.row_groups, &x, places.row_groups_type);
    if (rc < 0)
        return pq_error_at(error, rc, "footer");
    *metadata_out = metadata;
    return PQFILE_OK;
}
