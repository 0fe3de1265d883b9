/* catalog_format.c: the bytes of a catalog file and of CURRENT; docs/formats/catalog.md has the
 * table. Pure.
 *
 * Everything is little-endian. The header's checksum covers the header, the header holds the
 * checksum of the body: a file is either wholly valid or damaged, there is no partial reading. An
 * entry states its length, so that a later version can add fields at its end and this reader skips
 * them; a change that this reader must not skip raises the format version.
 *
 * Version 2 added how files are stored (compression, vectors): a reader of version 1 would write
 * files of another kind than asked for. Version 3 added the version that a collection was born
 * with: an archive without it could not tell a collection whose rows are in no log from an empty
 * one. Version 4 added the parameters of indexes and the recall aimed at: a reader of version 3
 * would refuse their types as damage. Version 5 added the element types of vectors: a reader of
 * version 4 would take halves for floats. What older versions say is read for ever. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/utf8.h"
#include "engine/catalog.h"
#include "engine/validate.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum {
    FORMAT_VERSION = CATALOG_FORMAT_VERSION,
    FORMAT_WITH_STORAGE = 2,
    FORMAT_WITH_BIRTH = 3,
    FORMAT_WITH_INDEXES = 4,
    FORMAT_WITH_ELEMENTS = 5,
    AT_VERSION = 8,
    AT_HEADER_LEN = 12,
    AT_CATALOG_VERSION = 16,
    AT_WRITTEN_AT = 24,
    AT_BODY_LEN = 32,
    AT_BODY_CRC = 40,
    AT_HEADER_CRC = 60,
};
static const char magic[8] = {'P', 'D', 'B', 'C', 'A', 'T', 'L', 'G'};

/* ---- writing ---- */

static void add_u8(struct buffer *out, unsigned value)
{
    buffer_add_byte(out, (char)(unsigned char)value);
}

static void add_text(struct buffer *out, struct pdb_text text)
{
    buffer_put_u16(out, (uint16_t)text.len);
    buffer_add_text(out, text);
}

void catalog_encode_begin(struct buffer *out, uint32_t entry_count)
{
    char *header = buffer_reserve(out, CATALOG_HEADER_BYTES);
    if (header == NULL)
        return;
    memset(header, 0, CATALOG_HEADER_BYTES);
    out->len += CATALOG_HEADER_BYTES;
    buffer_put_u32(out, entry_count);
}

static void add_indexes(struct buffer *out, const struct pdb_collection_config *config)
{
    uint32_t bits;
    memcpy(&bits, &config->target_recall, sizeof(bits));
    buffer_put_u32(out, bits);
    for (uint32_t i = 0; i < config->field_count; i++) {
        const struct pdb_field *field = &config->fields[i];
        buffer_put_u32(out, field->hnsw_m);
        buffer_put_u32(out, field->ef_construction);
        buffer_put_u32(out, field->ivf_lists);
        add_u8(out, field->quantization_bits);
    }
}

void catalog_encode_entry(struct buffer *out, const struct catalog_entry *entry)
{
    const struct pdb_collection_config *config = &entry->config;
    size_t start = out->len;
    buffer_put_u32(out, 0); /* the length, below */
    buffer_add(out, entry->uuid.bytes, sizeof(entry->uuid.bytes));
    buffer_put_u64(out, (uint64_t)entry->created_at_us);
    buffer_put_u64(out, (uint64_t)entry->updated_at_us);
    buffer_put_u64(out, entry->schema_version);
    buffer_put_u64(out, config->ttl_s);
    buffer_put_u64(out, config->version_retention_s);
    add_u8(out, config->sync);
    add_text(out, config->name);
    add_text(out, config->description);
    buffer_put_u16(out, (uint16_t)config->field_count);
    for (uint32_t i = 0; i < config->field_count; i++) {
        const struct pdb_field *field = &config->fields[i];
        add_text(out, field->name);
        buffer_put_u32(out, field->dimension);
        add_u8(out, field->metric);
        add_u8(out, field->index);
        add_u8(out, field->quantization);
    }
    buffer_put_u16(out, (uint16_t)config->column_count);
    for (uint32_t i = 0; i < config->column_count; i++) {
        add_text(out, config->columns[i].name);
        add_u8(out, config->columns[i].type);
    }
    add_u8(out, config->compression);
    add_u8(out, config->vector_storage);
    buffer_put_u64(out, entry->born_version);
    add_indexes(out, config);
    for (uint32_t i = 0; i < config->field_count; i++)
        add_u8(out, config->fields[i].element);
    if (!out->failed)
        bytes_put_u32(out->ptr + start, (uint32_t)(out->len - start - 4));
}

void catalog_encode_end(struct buffer *out, uint64_t version, int64_t now_us,
                        const struct uuid *dropped, uint32_t dropped_count)
{
    buffer_put_u32(out, dropped_count);
    for (uint32_t i = 0; i < dropped_count; i++)
        buffer_add(out, dropped[i].bytes, sizeof(dropped[i].bytes));
    if (out->failed)
        return;
    char *header = out->ptr;
    size_t body_len = out->len - CATALOG_HEADER_BYTES;
    memcpy(header, magic, sizeof(magic));
    bytes_put_u32(header + AT_VERSION, FORMAT_VERSION);
    bytes_put_u32(header + AT_HEADER_LEN, CATALOG_HEADER_BYTES);
    bytes_put_u64(header + AT_CATALOG_VERSION, version);
    bytes_put_u64(header + AT_WRITTEN_AT, (uint64_t)now_us);
    bytes_put_u64(header + AT_BODY_LEN, body_len);
    bytes_put_u32(header + AT_BODY_CRC, crc32c(0, header + CATALOG_HEADER_BYTES, body_len));
    bytes_put_u32(header + AT_HEADER_CRC, crc32c(0, header, AT_HEADER_CRC));
}

/* ---- reading ---- */

static struct pdb_text take_text(struct bytes_reader *r)
{
    size_t len = bytes_take_u16(r);
    const uint8_t *at = bytes_take(r, len);
    if (at == NULL)
        return (struct pdb_text){NULL, 0};
    if (utf8_invalid_at((const char *)at, len) != len)
        r->failed = true;
    return (struct pdb_text){(const char *)at, len};
}

static int take_fields(struct bytes_reader *r, struct arena *scratch,
                       struct pdb_collection_config *config, struct pdb_field **fields_out)
{
    config->field_count = bytes_take_u16(r);
    struct pdb_field *fields = arena_array(scratch, struct pdb_field, config->field_count);
    if (fields == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < config->field_count; i++) {
        struct pdb_field *field = &fields[i];
        *field = (struct pdb_field){.name = take_text(r)};
        field->dimension = bytes_take_u32(r);
        field->metric = (enum pdb_metric)bytes_take_u8(r);
        field->index = (enum pdb_index_type)bytes_take_u8(r);
        field->quantization = (enum pdb_quantization_type)bytes_take_u8(r);
    }
    config->fields = fields;
    config->column_count = bytes_take_u16(r);
    struct pdb_column *columns = arena_array(scratch, struct pdb_column, config->column_count);
    if (columns == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < config->column_count; i++) {
        columns[i].name = take_text(r);
        columns[i].type = (enum pdb_column_type)bytes_take_u8(r);
    }
    config->columns = columns;
    *fields_out = fields;
    return 0;
}

/* Behind the columns; version 1 had neither these nor a limit of the retention. */
static void take_storage(struct bytes_reader *r, uint32_t format,
                         struct pdb_collection_config *config)
{
    if (format >= FORMAT_WITH_STORAGE) {
        config->compression = (enum pdb_compression)bytes_take_u8(r);
        config->vector_storage = (enum pdb_vector_storage)bytes_take_u8(r);
    } else if (config->version_retention_s > PDB_VERSION_RETENTION_S_MAX) {
        config->version_retention_s = PDB_VERSION_RETENTION_S_MAX;
    }
}

/* Of `fields`, which are the config's. */
static void take_indexes(struct bytes_reader *r, struct pdb_collection_config *config,
                         struct pdb_field *fields)
{
    uint32_t bits = bytes_take_u32(r);
    memcpy(&config->target_recall, &bits, sizeof(bits));
    for (uint32_t i = 0; i < config->field_count; i++) {
        fields[i].hnsw_m = bytes_take_u32(r);
        fields[i].ef_construction = bytes_take_u32(r);
        fields[i].ivf_lists = bytes_take_u32(r);
        fields[i].quantization_bits = bytes_take_u8(r);
    }
}

/* One entry; `r` is exactly it. */
static int decode_entry(struct bytes_reader *r, uint32_t format, struct arena *scratch,
                        struct catalog_entry **entry_out, struct trail *trail)
{
    struct uuid uuid;
    struct pdb_collection_config config = {0};
    const uint8_t *id = bytes_take(r, sizeof(uuid.bytes));
    if (id != NULL)
        memcpy(uuid.bytes, id, sizeof(uuid.bytes));
    struct catalog_times times;
    times.created_at_us = (int64_t)bytes_take_u64(r);
    times.updated_at_us = (int64_t)bytes_take_u64(r);
    times.schema_version = bytes_take_u64(r);
    config.ttl_s = bytes_take_u64(r);
    config.version_retention_s = bytes_take_u64(r);
    config.sync = (enum pdb_sync_mode)bytes_take_u8(r);
    config.name = take_text(r);
    config.description = take_text(r);
    struct pdb_field *fields = NULL;
    int rc = take_fields(r, scratch, &config, &fields);
    if (rc < 0)
        return trail_add(trail, rc, "catalog: out of memory");
    take_storage(r, format, &config);
    uint64_t born_version = format >= FORMAT_WITH_BIRTH ? bytes_take_u64(r) : 0;
    if (format >= FORMAT_WITH_INDEXES)
        take_indexes(r, &config, fields);
    for (uint32_t i = 0; format >= FORMAT_WITH_ELEMENTS && i < config.field_count; i++)
        fields[i].element = (enum pdb_element_type)bytes_take_u8(r);
    if (id == NULL || r->failed)
        return trail_add(trail, PDB_DATA_LOSS, "an entry ends too early");
    struct trail why = {0};
    if (validate_config(&config, &why) < 0)
        return trail_add(trail, PDB_DATA_LOSS, "an entry is not valid: %s", why.text);
    struct catalog_entry *entry = catalog_entry_new(&uuid, &config, &times);
    if (entry == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "catalog: out of memory");
    entry->born_version = born_version;
    *entry_out = entry;
    return 0;
}

int catalog_decode_entry(struct bytes_reader *r, uint32_t format, struct arena *scratch,
                         struct catalog_entry **entry_out, struct trail *trail)
{
    size_t len = bytes_take_u32(r);
    const uint8_t *at = bytes_take(r, len);
    if (at == NULL)
        return trail_add(trail, PDB_DATA_LOSS, "cut off");
    struct bytes_reader one = bytes_reader_of(at, len);
    return decode_entry(&one, format, scratch, entry_out, trail);
}

static int decode_body(struct bytes_reader *r, uint32_t format, struct arena *arena,
                       struct catalog_image *image, struct trail *trail)
{
    uint32_t count = bytes_take_u32(r);
    if (r->failed || count > bytes_left(r) / 4)
        return trail_add(trail, PDB_DATA_LOSS, "the number of collections is wrong");
    image->entries = arena_array(arena, struct catalog_entry *, count);
    if (image->entries == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "catalog: out of memory");
    for (uint32_t i = 0; i < count; i++) {
        int rc = catalog_decode_entry(r, format, arena, &image->entries[i], trail);
        if (rc < 0)
            return trail_add(trail, rc, "collection %" PRIu32 " of %" PRIu32, i, count);
        image->count++;
        if (i > 0 &&
            text_compare(image->entries[i - 1]->config.name, image->entries[i]->config.name) >= 0)
            return trail_add(trail, PDB_DATA_LOSS, "collections are not in order");
    }
    image->dropped_count = bytes_take_u32(r);
    const uint8_t *dropped = bytes_take(r, (size_t)image->dropped_count * sizeof(struct uuid));
    if (dropped == NULL || bytes_left(r) != 0)
        return trail_add(trail, PDB_DATA_LOSS, "the list of dropped collections is wrong");
    image->dropped = arena_array(arena, struct uuid, image->dropped_count);
    if (image->dropped == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "catalog: out of memory");
    memcpy(image->dropped, dropped, (size_t)image->dropped_count * sizeof(struct uuid));
    return 0;
}

int catalog_decode(const void *bytes, size_t len, struct arena *arena,
                   struct catalog_image *image_out, struct trail *trail)
{
    const char *header = bytes;
    if (len < CATALOG_HEADER_BYTES || memcmp(header, magic, sizeof(magic)) != 0)
        return trail_add(trail, PDB_DATA_LOSS, "not a catalog file");
    if (bytes_get_u32(header + AT_HEADER_CRC) != crc32c(0, header, AT_HEADER_CRC))
        return trail_add(trail, PDB_DATA_LOSS, "offset 0: the header's checksum is wrong");
    uint32_t format = bytes_get_u32(header + AT_VERSION);
    if (format > FORMAT_VERSION)
        return trail_add(trail, PDB_FAILED_PRECONDITION,
                         "format version %" PRIu32
                         ": written by a newer proximadb; this one reads up to %d",
                         format, FORMAT_VERSION);
    if (bytes_get_u32(header + AT_HEADER_LEN) != CATALOG_HEADER_BYTES ||
        bytes_get_u64(header + AT_BODY_LEN) != len - CATALOG_HEADER_BYTES)
        return trail_add(trail, PDB_DATA_LOSS, "offset 0: the length is wrong");
    const char *body = header + CATALOG_HEADER_BYTES;
    size_t body_len = len - CATALOG_HEADER_BYTES;
    if (bytes_get_u32(header + AT_BODY_CRC) != crc32c(0, body, body_len))
        return trail_add(trail, PDB_DATA_LOSS, "offset %d: the body's checksum is wrong",
                         CATALOG_HEADER_BYTES);
    struct catalog_image image = {.version = bytes_get_u64(header + AT_CATALOG_VERSION),
                                  .written_at_us = (int64_t)bytes_get_u64(header + AT_WRITTEN_AT)};
    struct bytes_reader r = bytes_reader_of(body, body_len);
    int rc = decode_body(&r, format, arena, &image, trail);
    if (rc < 0) {
        catalog_image_dispose(&image);
        return rc;
    }
    *image_out = image;
    return 0;
}

void catalog_image_dispose(struct catalog_image *image)
{
    for (uint32_t i = 0; i < image->count; i++)
        catalog_entry_free(image->entries[i]);
    image->count = 0;
}

/* ---- CURRENT: "<version> <crc32c of the version's digits, in hex>\n" ---- */

size_t catalog_current_format(uint64_t version, char text_out[64])
{
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, version);
    return (size_t)snprintf(text_out, 64, "%s %08" PRIx32 "\n", digits,
                            crc32c(0, digits, (size_t)n));
}

int catalog_current_parse(const void *bytes, size_t len, uint64_t *version_out, struct trail *trail)
{
    const char *text = bytes;
    uint64_t version = 0;
    size_t digits = 0;
    while (digits < len && digits < 20 && text[digits] >= '0' && text[digits] <= '9') {
        unsigned digit = (unsigned)(text[digits] - '0');
        if (__builtin_mul_overflow(version, 10, &version) ||
            __builtin_add_overflow(version, digit, &version))
            break;
        digits++;
    }
    char expected[64];
    size_t expected_len = catalog_current_format(version, expected);
    if (version == 0 || expected_len != len || memcmp(expected, text, len) != 0)
        return trail_add(trail, PDB_DATA_LOSS, "catalog/CURRENT is damaged");
    *version_out = version;
    return 0;
}
