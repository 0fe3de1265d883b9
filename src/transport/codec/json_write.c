/* json_write.c: the body of a write, decoded one record a step, because it may be as large as the
 * body limit and a reactor must not be held. */
#include "base/base64.h"
#include "base/clock.h"
#include "transport/codec/json_fields.h"
#include "transport/codec/packed_batch.h"

#include "base/no_libc_heap.h"

#define COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

/* ---- one record ---- */

static int add_vector(struct json_decoder *d, struct pdb_record *r, struct pdb_text field)
{
    if (r->vector_count == PDB_FIELD_MAX)
        return json_fail(&d->reader, "more than %d vectors", PDB_FIELD_MAX);
    struct pdb_vector *old = (struct pdb_vector *)(uintptr_t)r->vectors;
    struct pdb_vector *grown = arena_grow(d->arena, old, r->vector_count * sizeof(*grown),
                                          (r->vector_count + 1) * sizeof(*grown));
    if (grown == NULL)
        return json_no_memory(d);
    struct pdb_vector *vector = &grown[r->vector_count];
    *vector = (struct pdb_vector){.field = field};
    r->vectors = grown;
    r->vector_count++;
    struct pdb_vector read =
        *vector; /* reading may use the arena: keep the element out of it meanwhile */
    int rc = json_vector_field(d, &read);
    read.field = field;
    *vector = read;
    return rc;
}

static int vector_of_record(struct json_decoder *d, void *into)
{
    struct pdb_record *r = into;
    return json_take_null(d) ? 0 : add_vector(d, r, (struct pdb_text){"", 0});
}

static int vectors_of_record(struct json_decoder *d, void *into)
{
    struct pdb_record *r = into;
    bool first = true;
    struct pdb_text name;
    int rc = json_enter_object(&d->reader);
    while (rc == 0 && (rc = json_object_next(&d->reader, d->arena, &first, &name)) > 0) {
        for (uint32_t i = 0; i < r->vector_count; i++)
            if (text_equal(r->vectors[i].field, name))
                return json_fail(&d->reader, "vector field '%.*s' is given twice",
                                 name.len < 64 ? (int)name.len : 64, name.ptr);
        rc = add_vector(d, r, name);
    }
    return rc;
}

static int metadata_of_record(struct json_decoder *d, void *into)
{
    struct pdb_record *r = into;
    if (json_take_null(d))
        return 0;
    r->has_metadata = true;
    return json_document_field(d, &r->metadata);
}

/* RFC 3339 text, integer microseconds, or null: never. */
static int expires_of_record(struct json_decoder *d, void *into)
{
    struct pdb_record *r = into;
    r->has_expires_at = true;
    if (json_take_null(d))
        return 0;
    if (json_peek(&d->reader) == JSON_NUMBER)
        return json_read_i64(&d->reader, &r->expires_at_us);
    struct pdb_text text;
    int rc = json_read_string(&d->reader, d->arena, &text);
    if (rc == 0 && clock_parse(text.ptr, text.len, &r->expires_at_us) != 0)
        return json_fail(&d->reader, "expires_at: '%.*s' is no RFC 3339 time",
                         text.len < 64 ? (int)text.len : 64, text.ptr);
    return rc;
}

static int if_version_of_record(struct json_decoder *d, void *into)
{
    struct pdb_record *r = into;
    if (json_take_null(d))
        return 0;
    r->has_if_version = true;
    return json_u64_field(d, &r->if_version);
}

static int unset_of_record(struct json_decoder *d, void *into)
{
    struct pdb_record *r = into;
    void *elements = NULL;
    int rc = json_read_array(d, json_text_field, sizeof(struct pdb_text), 1024, &elements,
                             &r->unset_count);
    r->unset = elements;
    return rc;
}

static int unset_vectors_of_record(struct json_decoder *d, void *into)
{
    struct pdb_record *r = into;
    void *elements = NULL;
    int rc = json_read_array(d, json_text_field, sizeof(struct pdb_text), PDB_FIELD_MAX, &elements,
                             &r->unset_vector_count);
    r->unset_vectors = elements;
    return rc;
}

static int read_record(struct json_decoder *d, enum pdb_write_kind kind, struct pdb_record *record)
{
    static const struct json_field fields[] = {
        JSON_FIELD("id", json_text_field, struct pdb_record, id),
        JSON_FIELD_WHOLE("vector", vector_of_record),
        JSON_FIELD_WHOLE("vectors", vectors_of_record),
        JSON_FIELD_WHOLE("metadata", metadata_of_record),
        JSON_FIELD_WHOLE("expires_at", expires_of_record),
        JSON_FIELD_WHOLE("if_version", if_version_of_record),
        JSON_FIELD_WHOLE("unset", unset_of_record),
        JSON_FIELD_WHOLE("unset_vectors", unset_vectors_of_record),
    };
    size_t count = kind == PDB_WRITE_UPDATE ? COUNT(fields) : COUNT(fields) - 2;
    return json_read_object(d, fields, count, record);
}

/* ---- the columnar form ---- */

struct packed_body {
    struct pdb_text *ids;
    uint32_t id_count;
    struct pdb_text vectors, field;
    enum pdb_element_type element;
    struct pdb_text *metadata;
    uint32_t metadata_count;
};

static int packed_ids(struct json_decoder *d, void *into)
{
    struct packed_body *p = into;
    void *elements = NULL;
    int rc = json_read_array(d, json_text_field, sizeof(struct pdb_text), d->limits->batch_records,
                             &elements, &p->id_count);
    p->ids = elements;
    return rc;
}

static int packed_metadata(struct json_decoder *d, void *into)
{
    struct packed_body *p = into;
    void *elements = NULL;
    int rc = json_read_array(d, json_document_field, sizeof(struct pdb_text),
                             d->limits->batch_records, &elements, &p->metadata_count);
    p->metadata = elements;
    return rc;
}

static int read_packed(struct json_write_decoder *w)
{
    static const struct json_field fields[] = {
        JSON_FIELD_WHOLE("ids", packed_ids),
        JSON_FIELD("vectors", json_text_field, struct packed_body, vectors),
        JSON_FIELD("field", json_text_field, struct packed_body, field),
        JSON_FIELD("type", json_element_field, struct packed_body, element),
        JSON_FIELD_WHOLE("metadata", packed_metadata),
    };
    struct packed_body p = {0};
    int rc = json_read_object(&w->d, fields, COUNT(fields), &p);
    if (rc != 0)
        return rc;
    if (w->count != 0)
        return json_fail(&w->d.reader, "either vectors or packed: not both");
    char *bytes = arena_alloc_aligned(w->d.arena, base64_decoded_max(p.vectors.len) + 1, 64);
    if (bytes == NULL)
        return json_no_memory(&w->d);
    w->packed.batch = (struct packed_batch){.ids = p.ids,
                                            .id_count = p.id_count,
                                            .vectors = {bytes, 0},
                                            .field = p.field,
                                            .element = p.element,
                                            .metadata = p.metadata,
                                            .metadata_count = p.metadata_count};
    w->packed.text = p.vectors.len != 0 ? p.vectors : TEXT_LIT("");
    w->packed.decoding = true;
    return 0;
}

/* One piece of the base64: whole groups of four, so that only the last may have padding. */
static int decode_packed(struct json_write_decoder *w)
{
    enum { PIECE = 256 << 10 };
    struct pdb_text *to = &w->packed.batch.vectors;
    size_t left = w->packed.text.len - w->packed.text_at;
    size_t piece = left > PIECE ? PIECE : left, len = 0, bad = 0;
    const char *from = w->packed.text.ptr + w->packed.text_at;
    int rc = base64_decode(from, piece, false, (char *)(uintptr_t)to->ptr + to->len, &len, &bad);
    if (rc == 0 && piece < left && len != PIECE / 4 * 3) {
        rc = PDB_INVALID_ARGUMENT; /* padding in the middle */
        bad = piece - 1;
    }
    if (rc != 0) {
        w->d.reader.failed = true;
        return trail_add(w->d.reader.trail, rc, "packed.vectors: not base64 at character %zu",
                         w->packed.text_at + bad);
    }
    to->len += len;
    w->packed.text_at += piece;
    if (w->packed.text_at < w->packed.text.len)
        return 1;
    w->packed.decoding = false;
    rc = packed_batch_records(&w->packed.batch, w->d.arena, w->d.limits, &w->records, &w->count,
                              w->d.reader.trail);
    if (rc != 0)
        w->d.reader.failed = true;
    return rc != 0 ? rc : 1;
}

/* ---- the body ---- */

void json_write_decoder_open(struct json_write_decoder *w, enum pdb_write_kind kind,
                             struct arena *arena, const struct api_limits *limits,
                             struct pdb_text body, struct trail *trail)
{
    *w = (struct json_write_decoder){.kind = kind, .first_key = true};
    json_decoder_open(&w->d, arena, limits, body, trail);
}

static int next_record(struct json_write_decoder *w)
{
    int rc = json_array_next(&w->d.reader, &w->first_record);
    if (rc < 0)
        return rc;
    if (rc == 0) {
        w->in_records = false;
        return 1;
    }
    if (w->count == w->d.limits->batch_records)
        return json_fail(&w->d.reader, "vectors: more than limits.batch_records (%u)",
                         w->d.limits->batch_records);
    if (w->count == w->capacity) {
        uint32_t wanted = w->capacity == 0 ? 16 : w->capacity * 2;
        struct pdb_record *grown = arena_grow(w->d.arena, w->records, w->capacity * sizeof(*grown),
                                              wanted * sizeof(*grown));
        if (grown == NULL)
            return json_no_memory(&w->d);
        w->records = grown;
        w->capacity = wanted;
    }
    struct pdb_record record = {0};
    rc = read_record(&w->d, w->kind, &record);
    w->records[w->count++] = record;
    return rc != 0 ? rc : 1;
}

static int next_key(struct json_write_decoder *w)
{
    static const struct json_field fields[] = {JSON_FIELD_WHOLE("vectors", NULL),
                                               JSON_FIELD_WHOLE("request_id", NULL),
                                               JSON_FIELD_WHOLE("packed", NULL)};
    struct pdb_text key;
    size_t which = 0;
    int rc = json_object_next(&w->d.reader, w->d.arena, &w->first_key, &key);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return json_finish(&w->d.reader);
    rc = json_match_field(&w->d, fields, w->kind == PDB_WRITE_UPDATE ? 2 : COUNT(fields), key,
                          &w->seen, &which);
    if (rc != 0)
        return rc;
    if (which == 1)
        rc = json_text_field(&w->d, &w->request_id);
    else if (which == 2)
        rc = read_packed(w);
    else if (w->count != 0)
        rc = json_fail(&w->d.reader, "either vectors or packed: not both");
    else if ((rc = json_enter_array(&w->d.reader)) == 0)
        w->in_records = w->first_record = true;
    return rc != 0 ? rc : 1;
}

int json_write_decoder_step(struct json_write_decoder *w)
{
    if (!w->entered) {
        int rc = json_enter_object(&w->d.reader);
        w->entered = true;
        return rc != 0 ? rc : 1;
    }
    if (w->packed.decoding)
        return decode_packed(w);
    return w->in_records ? next_record(w) : next_key(w);
}
