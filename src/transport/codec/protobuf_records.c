/* protobuf_records.c: the batches of a write, decoded in steps.
 *
 * The outer message is walked by hand, because it may be 64 MiB: a step is one record (which is
 * checked by itself), one field of the columnar form, or one Avro record. Vectors stay where they
 * are: a packed repeated float is little-endian float32 on the wire already. Record and
 * RecordUpdate have the same parts under other numbers, hence the table. */
#include "transport/codec/protobuf_requests.h"

#include "base/utf8.h"
#include "transport/codec/element_names.h"

#include "base/no_libc_heap.h"

#include "proximadb_v1_proximadb.pb-c.h"

/* Field numbers; 0: the message does not have it. */
struct record_numbers {
    uint32_t id, vector, vectors, metadata, expires_at_us, if_version, packed_vector, unset,
        unset_vectors, packed_type;
};
static const struct record_numbers record_numbers = {
    .id = 1,
    .vector = 2,
    .vectors = 3,
    .metadata = 4,
    .expires_at_us = 5,
    .if_version = 6,
    .packed_vector = 7,
    .packed_type = 8,
};
static const struct record_numbers update_numbers = {
    .id = 1,
    .vector = 2,
    .vectors = 3,
    .metadata = 4,
    .unset = 5,
    .unset_vectors = 6,
    .expires_at_us = 7,
    .if_version = 8,
};

enum { UNSET_MAX = 1024, RECORDS_FIRST = 16 };

static const struct protobuf_place whole = {0};

int protobuf_read_text(struct protobuf_decoder *d, struct protobuf_place place, const char *member,
                       struct pdb_text bytes, struct pdb_text *text_out)
{
    if (utf8_invalid_at(bytes.ptr, bytes.len) != bytes.len)
        return protobuf_fail(d->trail, place, PDB_INVALID_ARGUMENT, member, "invalid UTF-8");
    *text_out = bytes;
    return 0;
}

int protobuf_read_element(struct protobuf_decoder *d, struct protobuf_place place,
                          const struct protobuf_field *f, enum pdb_element_type *element_out)
{
    if (f->type == PROTOBUF_VARINT && element_type_of_wire(f->value, element_out))
        return 0;
    return protobuf_fail(d->trail, place, PDB_INVALID_ARGUMENT, "packed_type",
                         "expected one of " ELEMENT_TYPE_NAMES);
}

/* ---- one record ---- */

struct record_walk {
    struct protobuf_decoder *d;
    const struct record_numbers *numbers;
    struct protobuf_place place;
    struct pdb_record *record;
    struct pdb_vector *vectors;
    struct protobuf_text_list unset, unset_vectors;
};

static int add_vector(struct record_walk *walk, const struct pdb_vector *vector)
{
    struct pdb_record *r = walk->record;
    for (uint32_t i = 0; i < r->vector_count; i++)
        if (text_equal(walk->vectors[i].field, vector->field))
            return protobuf_fail(walk->d->trail, walk->place, PDB_INVALID_ARGUMENT, "vectors",
                                 "field '%.*s' is given twice",
                                 vector->field.len < 64 ? (int)vector->field.len : 64,
                                 vector->field.len != 0 ? vector->field.ptr : "");
    walk->vectors[r->vector_count++] = *vector;
    return 0;
}

/* A Vector, or the default field of a record: floats under one number or packed bytes under
 * another; not both. */
static int read_vector(struct record_walk *walk, struct pdb_text message, uint32_t floats_number,
                       uint32_t packed_number, uint32_t type_number, struct pdb_vector *vector)
{
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    struct pdb_text packed = {0};
    const void *floats = NULL;
    uint32_t count = 0;
    if (protobuf_floats(message, floats_number, walk->d->arena, &floats, &count) < 0)
        return protobuf_no_memory(walk->d);
    while (packed_number != 0 && protobuf_next(&r, &f) > 0) {
        if (f.number == packed_number)
            packed = f.bytes;
        if (f.number == type_number &&
            protobuf_read_element(walk->d, walk->place, &f, &vector->element) < 0)
            return PDB_INVALID_ARGUMENT;
    }
    if (count != 0 && packed.len != 0)
        return protobuf_fail(walk->d->trail, walk->place, PDB_INVALID_ARGUMENT, "",
                             "a vector has either floats or packed bytes: not both");
    vector->values = count != 0 ? floats : packed.ptr;
    vector->count = count != 0 ? count : (uint32_t)packed.len;
    vector->form = count != 0 ? PDB_VECTOR_F32 : PDB_VECTOR_BYTES;
    return 0;
}

static int add_named_vector(struct record_walk *walk, struct pdb_text entry)
{
    enum { ENTRY_KEY = 1, ENTRY_VALUE, VECTOR_VALUES = 1, VECTOR_PACKED, VECTOR_TYPE };
    struct protobuf_reader r = protobuf_reader_of(entry);
    struct protobuf_field f;
    struct pdb_text value = {0};
    struct pdb_vector vector = {.field = {"", 0}};
    while (protobuf_next(&r, &f) > 0) {
        if (f.number == ENTRY_KEY)
            vector.field = f.bytes;
        else if (f.number == ENTRY_VALUE)
            value = f.bytes;
    }
    int rc = read_vector(walk, value, VECTOR_VALUES, VECTOR_PACKED, VECTOR_TYPE, &vector);
    if (rc < 0)
        return rc;
    if (vector.count == 0)
        return protobuf_fail(walk->d->trail, walk->place, PDB_INVALID_ARGUMENT, "vectors",
                             "field '%.*s' has no values",
                             vector.field.len < 64 ? (int)vector.field.len : 64,
                             vector.field.len != 0 ? vector.field.ptr : "");
    return add_vector(walk, &vector);
}

static int read_metadata(struct record_walk *walk, struct pdb_text message)
{
    if (walk->record->has_metadata)
        return protobuf_fail(walk->d->trail, walk->place, PDB_INVALID_ARGUMENT, "metadata",
                             "given twice");
    struct doc_builder *docs = protobuf_docs(walk->d);
    if (docs == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    walk->record->has_metadata = true;
    return protobuf_read_map(message, docs, walk->place, "metadata", walk->d->trail,
                             &walk->record->metadata);
}

static int add_unset(struct record_walk *walk, struct protobuf_text_list *list, uint32_t max,
                     const char *member, struct pdb_text text)
{
    if (list->count == max)
        return protobuf_fail(walk->d->trail, walk->place, PDB_INVALID_ARGUMENT, member,
                             "more than %u", max);
    return protobuf_text_add(walk->d, list, text);
}

static int read_field(struct record_walk *walk, const struct protobuf_field *f)
{
    const struct record_numbers *n = walk->numbers;
    struct pdb_record *r = walk->record;
    if (f->number == n->id) {
        r->id = f->bytes;
    } else if (f->number == n->vectors) {
        return add_named_vector(walk, f->bytes);
    } else if (f->number == n->metadata) {
        return read_metadata(walk, f->bytes);
    } else if (f->number == n->expires_at_us) {
        r->has_expires_at = true;
        r->expires_at_us = (int64_t)f->value;
    } else if (f->number == n->if_version) {
        r->has_if_version = true;
        r->if_version = f->value;
    } else if (f->number == n->unset) {
        return add_unset(walk, &walk->unset, UNSET_MAX, "unset", f->bytes);
    } else if (f->number == n->unset_vectors) {
        return add_unset(walk, &walk->unset_vectors, PDB_FIELD_MAX, "unset_vectors", f->bytes);
    }
    return 0;
}

/* Room for the default field's vector and the named ones. */
static int make_room(struct record_walk *walk, struct pdb_text message)
{
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    size_t named = 0;
    while (protobuf_next(&r, &f) > 0)
        named += f.number == walk->numbers->vectors;
    if (named > PDB_FIELD_MAX)
        return protobuf_fail(walk->d->trail, walk->place, PDB_INVALID_ARGUMENT, "vectors",
                             "%zu are more than %d", named, PDB_FIELD_MAX);
    walk->vectors = arena_array(walk->d->arena, struct pdb_vector, named + 1);
    return walk->vectors != NULL ? 0 : protobuf_no_memory(walk->d);
}

static int read_record(struct protobuf_decoder *d, bool update, struct pdb_text message,
                       struct protobuf_place place, struct pdb_record *record)
{
    struct record_walk walk = {.d = d,
                               .numbers = update ? &update_numbers : &record_numbers,
                               .place = place,
                               .record = record};
    int rc = protobuf_check(update ? &proximadb__v1__record_update__descriptor
                                   : &proximadb__v1__record__descriptor,
                            message, place, d->trail);
    if (rc < 0 || (rc = make_room(&walk, message)) < 0)
        return rc;
    struct pdb_vector vector = {.field = {"", 0}};
    rc = read_vector(&walk, message, walk.numbers->vector, walk.numbers->packed_vector,
                     walk.numbers->packed_type, &vector);
    if (rc == 0 && vector.count != 0)
        rc = add_vector(&walk, &vector);
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    while (rc == 0 && protobuf_next(&r, &f) > 0)
        rc = read_field(&walk, &f);
    record->vectors = walk.vectors;
    record->unset = walk.unset.texts;
    record->unset_count = walk.unset.count;
    record->unset_vectors = walk.unset_vectors.texts;
    record->unset_vector_count = walk.unset_vectors.count;
    return rc;
}

/* ---- the batch ---- */

void protobuf_write_open(struct protobuf_write_decoder *w, bool update, struct arena *arena,
                         const struct api_limits *limits, struct pdb_text message,
                         struct trail *trail)
{
    *w = (struct protobuf_write_decoder){
        .d = {.arena = arena, .limits = limits, .trail = trail},
        .update = update,
        .at = protobuf_reader_of(message),
    };
}

static int set_form(struct protobuf_write_decoder *w, enum protobuf_write_form form)
{
    if (w->form != PROTOBUF_NO_RECORDS && (w->form != form || form != PROTOBUF_RECORDS))
        return trail_add(w->d.trail, PDB_INVALID_ARGUMENT,
                         "exactly one of records, packed and avro_records must be given, once");
    w->form = form;
    return 0;
}

static int add_record(struct protobuf_write_decoder *w, struct pdb_text message)
{
    struct protobuf_decoder *d = &w->d;
    int rc = set_form(w, PROTOBUF_RECORDS);
    if (rc < 0)
        return rc;
    if (w->count == d->limits->batch_records)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT,
                         "records: more than limits.batch_records (%u)", d->limits->batch_records);
    if (w->count == w->capacity) {
        uint32_t wanted = w->capacity != 0 ? w->capacity * 2 : RECORDS_FIRST;
        struct pdb_record *grown =
            arena_grow(d->arena, w->records, w->capacity * sizeof(*grown), wanted * sizeof(*grown));
        if (grown == NULL)
            return protobuf_no_memory(d);
        w->records = grown;
        w->capacity = wanted;
    }
    struct protobuf_place place = {"records", w->count, true};
    struct pdb_record record = {0};
    rc = read_record(d, w->update, message, place, &record);
    if (rc == 0)
        w->records[w->count++] = record;
    return rc;
}

/* ---- the columnar form ---- */

static int begin_packed(struct protobuf_write_decoder *w, struct pdb_text message)
{
    w->packed_at = protobuf_reader_of(message);
    w->in_packed = true;
    return set_form(w, PROTOBUF_PACKED);
}

static int add_packed_id(struct protobuf_write_decoder *w, struct pdb_text bytes)
{
    struct protobuf_place place = {"packed.ids", w->ids.count, true};
    struct pdb_text id;
    if (w->ids.count == w->d.limits->batch_records)
        return trail_add(w->d.trail, PDB_INVALID_ARGUMENT,
                         "packed.ids: more than limits.batch_records (%u)",
                         w->d.limits->batch_records);
    int rc = protobuf_read_text(&w->d, place, "", bytes, &id);
    return rc < 0 ? rc : protobuf_text_add(&w->d, &w->ids, id);
}

static int add_packed_metadata(struct protobuf_write_decoder *w, struct pdb_text message)
{
    struct protobuf_place place = {"packed.metadata", w->metadata.count, true};
    struct doc_builder *docs = protobuf_docs(&w->d);
    struct pdb_text doc;
    if (docs == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    if (w->metadata.count == w->d.limits->batch_records)
        return trail_add(w->d.trail, PDB_INVALID_ARGUMENT,
                         "packed.metadata: more than limits.batch_records (%u)",
                         w->d.limits->batch_records);
    int rc = protobuf_check(&proximadb__v1__map_value__descriptor, message, place, w->d.trail);
    if (rc < 0 || (rc = protobuf_read_map(message, docs, place, "", w->d.trail, &doc)) < 0)
        return rc;
    return protobuf_text_add(&w->d, &w->metadata, doc);
}

static int end_packed(struct protobuf_write_decoder *w)
{
    w->in_packed = false;
    w->packed.ids = w->ids.texts;
    w->packed.id_count = w->ids.count;
    w->packed.metadata = w->metadata.texts;
    w->packed.metadata_count = w->metadata.count;
    w->needs_dimension = packed_batch_needs_dimension(&w->packed);
    int rc = w->needs_dimension ? 0 : protobuf_write_finish(w);
    return rc < 0 ? rc : 1;
}

static int take_packed_type(struct protobuf_write_decoder *w, const struct protobuf_field *f)
{
    if (f->type == PROTOBUF_VARINT && element_type_of_wire(f->value, &w->packed.element))
        return 0;
    return trail_add(w->d.trail, PDB_INVALID_ARGUMENT,
                     "packed.type: expected one of " ELEMENT_TYPE_NAMES);
}

static int step_packed(struct protobuf_write_decoder *w)
{
    enum { IDS = 1, VECTORS, FIELD, METADATA, TYPE };
    struct protobuf_field f;
    int rc = protobuf_next(&w->packed_at, &f);
    if (rc == 0)
        return end_packed(w);
    if (rc < 0)
        return trail_add(w->d.trail, rc, "packed: malformed");
    if (f.number >= IDS && f.number <= METADATA && f.type != PROTOBUF_BYTES)
        return trail_add(w->d.trail, PDB_INVALID_ARGUMENT,
                         "packed: a wire type that does not fit field %u", f.number);
    rc = 0;
    if (f.number == IDS)
        rc = add_packed_id(w, f.bytes);
    else if (f.number == VECTORS)
        w->packed.vectors = f.bytes;
    else if (f.number == TYPE)
        rc = take_packed_type(w, &f);
    else if (f.number == FIELD)
        rc = protobuf_read_text(&w->d, whole, "packed.field", f.bytes, &w->packed.field);
    else if (f.number == METADATA)
        rc = add_packed_metadata(w, f.bytes);
    return rc < 0 ? rc : 1;
}

int protobuf_write_finish(struct protobuf_write_decoder *w)
{
    return packed_batch_records(&w->packed, w->d.arena, w->d.limits, &w->records, &w->count,
                                w->d.trail);
}

/* ---- Avro ---- */

static int begin_avro(struct protobuf_write_decoder *w, struct pdb_text body)
{
    int rc = set_form(w, PROTOBUF_AVRO);
    if (rc < 0)
        return rc;
    avro_records_open(&w->avro, w->d.arena, w->d.limits, body, "avro_records", w->d.trail);
    w->in_avro = true;
    return 0;
}

static int step_avro(struct protobuf_write_decoder *w)
{
    int rc = avro_records_step(&w->avro);
    if (rc != 0)
        return rc;
    w->in_avro = false;
    w->records = w->avro.records;
    w->count = w->avro.count;
    return 1;
}

/* ---- steps ---- */

static int step_message(struct protobuf_write_decoder *w)
{
    enum { COLLECTION = 1, RECORDS, PACKED, AVRO, REQUEST_ID, UPDATE_REQUEST_ID = 3 };
    struct protobuf_field f;
    int rc = protobuf_next(&w->at, &f);
    if (rc == 0)
        return 0;
    if (rc < 0)
        return trail_add(w->d.trail, rc, "malformed");
    uint32_t last = w->update ? UPDATE_REQUEST_ID : REQUEST_ID;
    if (f.number > last)
        return 1; /* unknown */
    if (f.type != PROTOBUF_BYTES)
        return trail_add(w->d.trail, PDB_INVALID_ARGUMENT,
                         "field %u: a wire type that does not fit the field", f.number);
    if (f.number == COLLECTION)
        rc = protobuf_read_text(&w->d, whole, "collection", f.bytes, &w->collection);
    else if (f.number == RECORDS)
        rc = add_record(w, f.bytes);
    else if (f.number == last)
        rc = protobuf_read_text(&w->d, whole, "request_id", f.bytes, &w->request_id);
    else if (f.number == PACKED)
        rc = begin_packed(w, f.bytes);
    else
        rc = begin_avro(w, f.bytes);
    return rc < 0 ? rc : 1;
}

int protobuf_write_step(struct protobuf_write_decoder *w)
{
    if (w->in_packed)
        return step_packed(w);
    if (w->in_avro)
        return step_avro(w);
    return step_message(w);
}
