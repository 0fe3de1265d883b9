/* avro_records.c: Avro 1.11 binary encoding, "Arrays" and "Maps", read in place and strictly.
 *
 * A block is a count and so many items; a negative count is followed by the size of the block in
 * bytes; a count of 0 ends the array. A count may claim anything, so it is compared with the bytes
 * that are left before anything is allocated: a record has at least five bytes, a vector at least
 * two. Where a block tells its size, the items must fill it exactly. Longs are zigzag varints of at
 * most ten bytes.
 *
 * Rejected: avro-c, which allocates by the claimed length and copies each value. */
#include "transport/codec/avro_records.h"

#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

enum { RECORD_BYTES_MIN = 5, VECTOR_BYTES_MIN = 2, RECORDS_FIRST = 16 };

void avro_records_open(struct avro_records_decoder *d, struct arena *arena,
                       const struct api_limits *limits, struct pdb_text body, const char *name,
                       struct trail *trail)
{
    *d = (struct avro_records_decoder){
        .limits = limits, .arena = arena, .name = name, .trail = trail};
    d->at = bytes_reader_of(body.len != 0 ? body.ptr : "", body.len);
    d->body = d->at.at;
}

/* ---- errors ---- */

__attribute__((format(printf, 3, 4))) static int fail(struct avro_records_decoder *d,
                                                      const char *member, const char *format, ...)
{
    char what[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    return trail_add(d->trail, PDB_INVALID_ARGUMENT, "%s[%u]%s%s: %s (at byte %zu)", d->name,
                     d->count, member[0] != '\0' ? "." : "", member, what,
                     (size_t)(d->at.at - d->body));
}

static int no_memory(struct avro_records_decoder *d)
{
    return trail_add(d->trail, PDB_RESOURCE_EXHAUSTED, "%s: no memory for the records", d->name);
}

/* ---- values ---- */

static int take_long(struct avro_records_decoder *d, const char *member, int64_t *value_out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint8_t byte = bytes_take_u8(&d->at);
        if (d->at.failed)
            return fail(d, member, "the data ends here");
        if (shift == 63 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value_out = (int64_t)(value >> 1 ^ (0 - (value & 1)));
            return 0;
        }
    }
    return fail(d, member, "a number of more than 64 bits");
}

static int take_bytes(struct avro_records_decoder *d, const char *member,
                      struct pdb_text *bytes_out)
{
    int64_t len = 0;
    int rc = take_long(d, member, &len);
    if (rc < 0)
        return rc;
    if (len < 0 || (uint64_t)len > bytes_left(&d->at))
        return fail(d, member, "a length of %lld with %zu bytes left", (long long)len,
                    bytes_left(&d->at));
    *bytes_out = (struct pdb_text){(const char *)bytes_take(&d->at, (size_t)len), (size_t)len};
    return 0;
}

static int take_string(struct avro_records_decoder *d, const char *member,
                       struct pdb_text *text_out)
{
    int rc = take_bytes(d, member, text_out);
    if (rc == 0 && utf8_invalid_at(text_out->ptr, text_out->len) != text_out->len)
        return fail(d, member, "invalid UTF-8");
    return rc;
}

/* The index of ["null", T]: 1 if there is a T. */
static int take_union(struct avro_records_decoder *d, const char *member)
{
    int64_t index = 0;
    int rc = take_long(d, member, &index);
    if (rc < 0)
        return rc;
    if (index != 0 && index != 1)
        return fail(d, member, "a union has no branch %lld", (long long)index);
    return (int)index;
}

/* The head of a block: how many items; 0 ends the array. */
static int take_block(struct avro_records_decoder *d, const char *member, size_t item_bytes_min,
                      uint64_t *count_out, const uint8_t **end_out)
{
    int64_t count = 0, size = 0;
    int rc = take_long(d, member, &count);
    if (rc < 0)
        return rc;
    *end_out = NULL;
    if (count < 0) {
        if ((rc = take_long(d, member, &size)) < 0)
            return rc;
        if (size < 0 || (uint64_t)size > bytes_left(&d->at))
            return fail(d, member, "a block of %lld bytes with %zu left", (long long)size,
                        bytes_left(&d->at));
        *end_out = d->at.at + size;
    }
    uint64_t items = count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
    size_t room = *end_out != NULL ? (size_t)size : bytes_left(&d->at);
    if (items > room / item_bytes_min)
        return fail(d, member, "a block of %llu items in %zu bytes", (unsigned long long)items,
                    room);
    *count_out = items;
    return 0;
}

static int check_block_end(struct avro_records_decoder *d, const char *member, const uint8_t *end)
{
    return end == NULL || end == d->at.at
               ? 0
               : fail(d, member, "a block does not end where its size says");
}

/* ---- a record ---- */

static int take_vector(struct avro_records_decoder *d, struct pdb_record *r)
{
    struct pdb_text field = {0}, values = {0};
    int rc = take_string(d, "vectors.field", &field);
    if (rc < 0 || (rc = take_bytes(d, "vectors.values", &values)) < 0)
        return rc;
    if (values.len > PDB_DIMENSION_MAX * sizeof(float))
        return fail(d, "vectors.values", "%zu bytes: at most %zu", values.len,
                    PDB_DIMENSION_MAX * sizeof(float));
    if (r->vector_count == PDB_FIELD_MAX)
        return fail(d, "vectors", "more than %d", PDB_FIELD_MAX);
    for (uint32_t i = 0; i < r->vector_count; i++)
        if (text_equal(r->vectors[i].field, field))
            return fail(d, "vectors", "field '%.*s' is given twice",
                        field.len < 64 ? (int)field.len : 64, field.ptr);
    size_t size = r->vector_count * sizeof(struct pdb_vector);
    struct pdb_vector *grown =
        arena_grow(d->arena, (void *)(uintptr_t)r->vectors, size, size + sizeof(struct pdb_vector));
    if (grown == NULL)
        return no_memory(d);
    grown[r->vector_count] = (struct pdb_vector){.field = field,
                                                 .values = values.ptr,
                                                 .count = (uint32_t)values.len,
                                                 .form = PDB_VECTOR_BYTES};
    r->vectors = grown;
    r->vector_count++;
    return 0;
}

static int take_vectors(struct avro_records_decoder *d, struct pdb_record *r)
{
    for (;;) {
        uint64_t left = 0;
        const uint8_t *end = NULL;
        int rc = take_block(d, "vectors", VECTOR_BYTES_MIN, &left, &end);
        if (rc < 0)
            return rc;
        if (left == 0)
            return check_block_end(d, "vectors", end);
        for (; left != 0; left--)
            if ((rc = take_vector(d, r)) < 0)
                return rc;
        if ((rc = check_block_end(d, "vectors", end)) < 0)
            return rc;
    }
}

static int take_metadata(struct avro_records_decoder *d, struct pdb_record *r)
{
    int rc = take_union(d, "metadata");
    if (rc <= 0)
        return rc;
    struct pdb_text json = {0};
    if ((rc = take_bytes(d, "metadata", &json)) < 0) /* the JSON reader checks UTF-8 */
        return rc;
    if (d->docs == NULL && (d->docs = doc_builder_new(d->arena, 0)) == NULL)
        return no_memory(d);
    struct json_reader reader;
    struct trail trail = {0};
    json_open(&reader, json.ptr, json.len, d->limits->json_depth, &trail);
    if (json_peek(&reader) != JSON_OBJECT)
        return fail(d, "metadata", "not a JSON object");
    const char *what = NULL;
    rc = json_read_doc(&reader, d->docs);
    if (rc == 0)
        rc = json_finish(&reader);
    if (rc == 0)
        rc = doc_builder_finish(d->docs, &r->metadata, &what);
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return no_memory(d);
    r->has_metadata = true;
    return rc == 0 ? 0 : fail(d, "metadata", "%s", what != NULL ? what : trail.text);
}

static int take_record(struct avro_records_decoder *d, struct pdb_record *r)
{
    int64_t version = 0;
    int rc = take_string(d, "id", &r->id);
    if (rc < 0 || (rc = take_vectors(d, r)) < 0 || (rc = take_metadata(d, r)) < 0)
        return rc;
    if ((rc = take_union(d, "expires_at_us")) < 0)
        return rc;
    r->has_expires_at = rc == 1;
    if (rc == 1 && (rc = take_long(d, "expires_at_us", &r->expires_at_us)) < 0)
        return rc;
    if ((rc = take_union(d, "if_version")) < 0)
        return rc;
    r->has_if_version = rc == 1;
    if (rc == 1 && (rc = take_long(d, "if_version", &version)) < 0)
        return rc;
    if (version < 0)
        return fail(d, "if_version", "must not be negative");
    r->if_version = (uint64_t)version;
    return 0;
}

/* ---- the body ---- */

static int next_block(struct avro_records_decoder *d)
{
    int rc = take_block(d, "", RECORD_BYTES_MIN, &d->block_left, &d->block_end);
    if (rc < 0)
        return rc;
    if (d->block_left > d->limits->batch_records - d->count)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT, "%s: more than limits.batch_records (%u)",
                         d->name, d->limits->batch_records);
    if (d->block_left != 0)
        return 1;
    if (bytes_left(&d->at) != 0)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT,
                         "%s: %zu bytes follow the block of count 0 that ends the array", d->name,
                         bytes_left(&d->at));
    return 0;
}

static int add_record(struct avro_records_decoder *d, const struct pdb_record *record)
{
    if (d->count == d->capacity) {
        uint32_t wanted = d->capacity != 0 ? d->capacity * 2 : RECORDS_FIRST;
        struct pdb_record *grown =
            arena_grow(d->arena, d->records, d->capacity * sizeof(*grown), wanted * sizeof(*grown));
        if (grown == NULL)
            return no_memory(d);
        d->records = grown;
        d->capacity = wanted;
    }
    d->records[d->count] = *record;
    return 0;
}

int avro_records_step(struct avro_records_decoder *d)
{
    if (d->block_left == 0)
        return next_block(d);
    struct pdb_record record = {0};
    int rc = take_record(d, &record);
    if (rc < 0 || (rc = add_record(d, &record)) < 0)
        return rc;
    if (--d->block_left == 0 && (rc = check_block_end(d, "", d->block_end)) < 0)
        return rc;
    d->count++;
    return 1;
}
