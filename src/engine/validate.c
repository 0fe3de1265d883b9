/* validate.c: every rule of a request that can be checked without its shard. The order of checks in
 * a record is fixed (id, vectors, metadata, conditions), so that a record with two mistakes always
 * gets the same message.
 *
 * Duplicate ids in a batch are found with a table of 32-bit slots of at least twice the batch's
 * size, hashed with the process's random key: a batch chosen to collide must not cost quadratic
 * time. */
#include "engine/validate.h"

#include "base/bitset.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/doc.h"
#include "base/text.h"
#include "base/utf8.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "filter/filter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum { DESCRIPTION_BYTES_MAX = 4096, COLUMN_NAME_BYTES_MAX = 512 };
static const uint64_t ttl_s_max = (uint64_t)100 * 365 * 24 * 3600; /* a century */

/* ---- collections ---- */

static bool is_name_char(char c, bool first)
{
    bool word =
        (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    return word || (!first && (c == '.' || c == '-'));
}

static bool is_name(struct pdb_text name)
{
    if (name.len == 0 || name.len > PDB_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (!is_name_char(name.ptr[i], i == 0))
            return false;
    return true;
}

int validate_collection_name(struct pdb_text name, struct trail *trail)
{
    if (is_name(name))
        return 0;
    return trail_add(
        trail, PDB_INVALID_ARGUMENT,
        "name: expected 1 to 128 characters of A-Z a-z 0-9 _ . - that do not start with . or -");
}

static int validate_field_config(const struct pdb_field *field, const char *path,
                                 struct trail *trail)
{
    if (field->name.len != 0 && !is_name(field->name))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%sname: expected 0 to 128 characters of A-Z a-z 0-9 _ . - that do not "
                         "start with . or -",
                         path);
    if (field->dimension < 1 || field->dimension > PDB_DIMENSION_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%sdimension: expected 1 to %d, found %u",
                         path, PDB_DIMENSION_MAX, field->dimension);
    if (field->metric <= PDB_METRIC_UNSPECIFIED || field->metric > PDB_METRIC_HAMMING)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%smetric: expected one of cosine, dot, euclidean, manhattan, hamming",
                         path);
    if ((unsigned)field->element > PDB_ELEMENT_INT8)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%stype: expected one of float32, float16, int8", path);
    if (field->metric == PDB_METRIC_HAMMING && field->element != PDB_ELEMENT_FLOAT32)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%stype: vectors of the metric hamming are bits; leave it out", path);
    return validate_field_index(field, path, trail);
}

static int validate_fields(const struct pdb_collection_config *config, struct trail *trail)
{
    if (config->field_count < 1 || config->field_count > PDB_FIELD_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "fields: expected 1 to %d vector fields, found %u", PDB_FIELD_MAX,
                         config->field_count);
    bool only_default = config->field_count == 1 && config->fields[0].name.len == 0;
    for (uint32_t i = 0; i < config->field_count; i++) {
        char path[32] = "";
        if (!only_default)
            (void)snprintf(path, sizeof(path), "fields[%u].", i);
        int rc = validate_field_config(&config->fields[i], path, trail);
        if (rc < 0)
            return rc;
        for (uint32_t k = 0; k < i; k++)
            if (text_equal(config->fields[k].name, config->fields[i].name))
                return trail_add(trail, PDB_INVALID_ARGUMENT,
                                 "%sname: '%.*s' is the name of fields[%u] too", path,
                                 CALL_TEXT(config->fields[i].name), k);
    }
    return 0;
}

static int validate_columns(const struct pdb_collection_config *config, struct trail *trail)
{
    if (config->column_count > PDB_COLUMN_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "columns: at most %d, found %u",
                         PDB_COLUMN_MAX, config->column_count);
    for (uint32_t i = 0; i < config->column_count; i++) {
        struct pdb_text name = config->columns[i].name;
        if (name.len == 0 || name.len > COLUMN_NAME_BYTES_MAX ||
            utf8_invalid_at(name.ptr, name.len) != name.len || name.ptr[0] == '$')
            return trail_add(
                trail, PDB_INVALID_ARGUMENT,
                "columns[%u].name: expected 1 to %d bytes of UTF-8 that do not start with $", i,
                COLUMN_NAME_BYTES_MAX);
        enum pdb_column_type type = config->columns[i].type;
        if (type <= PDB_COLUMN_UNSPECIFIED || type > PDB_COLUMN_TEXT)
            return trail_add(trail, PDB_INVALID_ARGUMENT,
                             "columns[%u].type: expected one of string, integer, float, boolean, "
                             "datetime, string[], integer[], "
                             "float[], geo, text",
                             i);
        for (uint32_t k = 0; k < i; k++)
            if (text_equal(config->columns[k].name, name))
                return trail_add(trail, PDB_INVALID_ARGUMENT,
                                 "columns[%u].name: '%.*s' is declared already", i,
                                 CALL_TEXT(name));
    }
    return 0;
}

static int validate_storage(const struct pdb_collection_config *config, struct trail *trail)
{
    if ((unsigned)config->compression > PDB_COMPRESSION_ZSTD)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "storage.compression: expected one of none, snappy, lz4, zstd");
    if ((unsigned)config->vector_storage > PDB_VECTORS_DISK)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "storage.vectors: expected one of memory, mmap, disk");
    if (config->version_retention_s > PDB_VERSION_RETENTION_S_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "storage.version_retention_s: at most %d seconds, found %llu",
                         PDB_VERSION_RETENTION_S_MAX,
                         (unsigned long long)config->version_retention_s);
    return 0;
}

int validate_config(const struct pdb_collection_config *config, struct trail *trail)
{
    int rc;
    if ((rc = validate_collection_name(config->name, trail)) < 0 ||
        (rc = validate_fields(config, trail)) < 0 || (rc = validate_columns(config, trail)) < 0 ||
        (rc = validate_storage(config, trail)) < 0 ||
        (rc = validate_target_recall(config->target_recall, trail)) < 0)
        return rc;
    if ((unsigned)config->sync > PDB_SYNC_NEVER)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "sync: expected one of always, batch, periodic, never");
    if (config->ttl_s > ttl_s_max)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "ttl: at most %llu seconds",
                         (unsigned long long)ttl_s_max);
    struct pdb_text description = config->description;
    if (description.len > DESCRIPTION_BYTES_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "description: at most %d bytes, found %zu",
                         DESCRIPTION_BYTES_MAX, description.len);
    if (description.len != 0 &&
        utf8_invalid_at(description.ptr, description.len) != description.len)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "description: not valid UTF-8");
    return 0;
}

/* ---- ids and vectors ---- */

int validate_id(struct pdb_text id, const char *path, struct trail *trail)
{
    if (id.len < 1 || id.len > PDB_ID_BYTES_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: expected 1 to %d bytes, found %zu", path,
                         PDB_ID_BYTES_MAX, id.len);
    size_t at = utf8_invalid_at(id.ptr, id.len);
    if (at != id.len)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: not valid UTF-8 at byte %zu", path, at);
    return 0;
}

int validate_field(const struct catalog_entry *entry, struct pdb_text name,
                   struct validate_place place, uint32_t *index_out, struct trail *trail)
{
    for (uint32_t i = 0; i < entry->config.field_count; i++) {
        if (text_equal(entry->config.fields[i].name, name)) {
            *index_out = i;
            return 0;
        }
    }
    char path[VALIDATE_PATH_BYTES];
    validate_vector_path(place, name, path);
    if (name.len == 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%s: the collection has no default vector field; name one of its fields",
                         path);
    return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: the collection has no vector field '%.*s'",
                     path, CALL_TEXT(name));
}

/* ---- batches ---- */

int validate_batch_begin(struct validate_batch *batch, struct trail *trail)
{
    if (batch->list == NULL)
        batch->list = "records";
    if (batch->record_count < 1 || batch->record_count > PDB_BATCH_RECORDS_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: expected 1 to %d records, found %u",
                         batch->list, PDB_BATCH_RECORDS_MAX, batch->record_count);
    batch->slot_count = 4;
    while (batch->slot_count < (size_t)batch->record_count * 2)
        batch->slot_count *= 2;
    batch->rows_out = arena_calloc(batch->arena, batch->record_count, sizeof(struct pdb_row));
    batch->slots = arena_calloc(batch->arena, batch->slot_count, sizeof(uint32_t));
    if (batch->rows_out == NULL || batch->slots == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory for this request");
    batch->next = 0;
    batch->text_bytes = 0;
    batch->checksum = crc32c(0, &batch->kind, sizeof(batch->kind));
    return 0;
}

static int check_id(struct validate_batch *batch, const struct pdb_record *record,
                    struct trail *trail)
{
    uint32_t index = batch->next;
    if (record->id.len == 0) {
        if (batch->kind != PDB_WRITE_UPDATE)
            return 0; /* made by the owner: 36 bytes */
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s[%u].id: missing", batch->list, index);
    }
    char path[64];
    (void)snprintf(path, sizeof(path), "%.32s[%u].id", batch->list, index);
    int rc = validate_id(record->id, path, trail);
    if (rc < 0)
        return rc;
    size_t slot =
        hash_bytes(batch->hash_key, record->id.ptr, record->id.len) & (batch->slot_count - 1);
    for (; batch->slots[slot] != 0; slot = (slot + 1) & (batch->slot_count - 1)) {
        uint32_t other = batch->slots[slot] - 1;
        if (text_equal(batch->records[other].id, record->id))
            return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: '%.*s' is the id of %s[%u] too",
                             path, CALL_TEXT(record->id), batch->list, other);
    }
    batch->slots[slot] = index + 1;
    return 0;
}

static int check_vectors(struct validate_batch *batch, const struct pdb_record *record,
                         struct pdb_row *row, struct trail *trail)
{
    const struct catalog_entry *entry = batch->entry;
    struct validate_place place = {batch->list, batch->next};
    const void **vectors = arena_calloc(batch->arena, entry->config.field_count, sizeof(void *));
    if (vectors == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "out of memory for this request");
    for (uint32_t i = 0; i < record->vector_count; i++) {
        const struct pdb_vector *vector = &record->vectors[i];
        uint32_t field = 0;
        int rc = validate_field(entry, vector->field, place, &field, trail);
        if (rc < 0)
            return rc;
        if (vectors[field] != NULL) {
            char path[VALIDATE_PATH_BYTES];
            validate_vector_path(place, vector->field, path);
            return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: given twice", path);
        }
        if ((rc = validate_vector(&entry->config.fields[field], vector, place, batch->arena,
                                  &vectors[field], trail)) < 0)
            return rc;
    }
    row->vectors = vectors;
    for (uint32_t i = 0; i < record->unset_vector_count; i++) {
        uint32_t field;
        int rc = validate_field(entry, record->unset_vectors[i], place, &field, trail);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_metadata(struct validate_batch *batch, const struct pdb_record *record,
                          struct pdb_row *row, struct trail *trail)
{
    if (!record->has_metadata || record->metadata.len == 0)
        return 0;
    if (record->metadata.len > PDB_METADATA_BYTES_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s[%u].metadata: %zu bytes, at most %d",
                         batch->list, batch->next, record->metadata.len, PDB_METADATA_BYTES_MAX);
    if (doc_validate(record->metadata.ptr, record->metadata.len) < 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s[%u].metadata: not a valid document",
                         batch->list, batch->next);
    if (doc_root(record->metadata.ptr, record->metadata.len).type != DOC_OBJECT)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s[%u].metadata: expected an object",
                         batch->list, batch->next);
    struct trail why = {0};
    int rc = filter_check_columns(record->metadata, batch->entry->columns,
                                  batch->entry->config.column_count, &why);
    if (rc < 0)
        return trail_add(trail, rc, "%s[%u].%s", batch->list, batch->next, why.text);
    row->metadata = record->metadata;
    return 0;
}

static void add_checksum(struct validate_batch *batch, const struct pdb_record *record,
                         const struct pdb_row *row)
{
    uint32_t crc = batch->checksum;
    uint64_t numbers[6] = {record->id.len,
                           row->metadata.len,
                           record->has_expires_at ? (uint64_t)record->expires_at_us : 1,
                           record->has_if_version ? record->if_version : UINT64_MAX,
                           record->unset_count,
                           record->unset_vector_count};
    crc = crc32c(crc, numbers, sizeof(numbers));
    crc = crc32c(crc, record->id.ptr, record->id.len);
    crc = crc32c(crc, row->metadata.ptr, row->metadata.len);
    for (uint32_t f = 0; f < batch->entry->config.field_count; f++) {
        crc = crc32c(crc, &f, sizeof(f));
        if (row->vectors[f] != NULL)
            crc = crc32c(crc, row->vectors[f], batch->entry->field_bytes[f]);
    }
    for (uint32_t i = 0; i < record->unset_count; i++)
        crc = crc32c(crc, record->unset[i].ptr, record->unset[i].len);
    for (uint32_t i = 0; i < record->unset_vector_count; i++)
        crc = crc32c(crc, record->unset_vectors[i].ptr, record->unset_vectors[i].len);
    batch->checksum = crc;
}

int validate_batch_next(struct validate_batch *batch, struct trail *trail)
{
    const struct pdb_record *record = &batch->records[batch->next];
    struct pdb_row *row = &batch->rows_out[batch->next];
    int rc;
    if ((rc = check_id(batch, record, trail)) < 0 ||
        (rc = check_vectors(batch, record, row, trail)) < 0 ||
        (rc = check_metadata(batch, record, row, trail)) < 0)
        return rc;
    if (record->has_expires_at && record->expires_at_us < 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s[%u].expires_at: before 1970", batch->list,
                         batch->next);
    row->id = record->id;
    uint64_t ttl_us = batch->entry->config.ttl_s * 1000000;
    row->expires_at_us = record->has_expires_at ? record->expires_at_us
                         : ttl_us != 0          ? batch->now_us + (int64_t)ttl_us
                                                : 0;
    batch->text_bytes += (record->id.len != 0 ? record->id.len : 36) + row->metadata.len;
    if (batch->want_checksum)
        add_checksum(batch, record, row);
    batch->next++;
    return 0;
}
