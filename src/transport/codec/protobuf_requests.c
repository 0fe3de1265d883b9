/* protobuf_requests.c: the small requests. Those on collections are unpacked by protobuf-c; those
 * with ids, filters or vectors are read in place. */
#include "transport/codec/protobuf_requests.h"

#include "transport/codec/element_names.h"
#include "transport/codec/protobuf_indexes.h"
#include "transport/codec/storage_names.h"

#include "base/no_libc_heap.h"

#include "proximadb_v1_proximadb.pb-c.h"

_Static_assert((int)PROXIMADB__V1__METRIC__METRIC_COSINE == (int)PDB_METRIC_COSINE &&
                   (int)PROXIMADB__V1__METRIC__METRIC_HAMMING == (int)PDB_METRIC_HAMMING,
               "metrics have the same numbers on the wire");
_Static_assert((int)PROXIMADB__V1__COLUMN_TYPE__COLUMN_TYPE_STRING == (int)PDB_COLUMN_STRING &&
                   (int)PROXIMADB__V1__COLUMN_TYPE__COLUMN_TYPE_TEXT == (int)PDB_COLUMN_TEXT,
               "column types have the same numbers on the wire");

static const struct protobuf_place whole = {0};

int protobuf_no_memory(struct protobuf_decoder *d)
{
    return trail_add(d->trail, PDB_RESOURCE_EXHAUSTED, "no memory for the request");
}

struct doc_builder *protobuf_docs(struct protobuf_decoder *d)
{
    if (d->docs == NULL && (d->docs = doc_builder_new(d->arena, 0)) == NULL)
        (void)protobuf_no_memory(d);
    return d->docs;
}

int protobuf_text_add(struct protobuf_decoder *d, struct protobuf_text_list *list,
                      struct pdb_text text)
{
    if (list->count == list->capacity) {
        uint32_t wanted = list->capacity != 0 ? list->capacity * 2 : 16;
        struct pdb_text *grown = arena_grow(d->arena, list->texts, list->capacity * sizeof(*grown),
                                            wanted * sizeof(*grown));
        if (grown == NULL)
            return protobuf_no_memory(d);
        list->texts = grown;
        list->capacity = wanted;
    }
    list->texts[list->count++] = text;
    return 0;
}

/* ---- collections ---- */

static enum pdb_sync_mode sync_of(Proximadb__V1__SyncMode mode)
{
    switch ((int)mode) {
    case PROXIMADB__V1__SYNC_MODE__SYNC_MODE_BATCH:
        return PDB_SYNC_BATCH;
    case PROXIMADB__V1__SYNC_MODE__SYNC_MODE_PERIODIC:
        return PDB_SYNC_PERIODIC;
    case PROXIMADB__V1__SYNC_MODE__SYNC_MODE_NEVER:
        return PDB_SYNC_NEVER;
    default:
        return PDB_SYNC_ALWAYS;
    }
}

static int decode_columns(struct protobuf_decoder *d, Proximadb__V1__Column **columns, size_t count,
                          const struct pdb_column **columns_out, uint32_t *count_out)
{
    if (count > PDB_COLUMN_MAX)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT, "columns: %zu are more than %d", count,
                         PDB_COLUMN_MAX);
    struct pdb_column *decoded = arena_array(d->arena, struct pdb_column, count);
    if (decoded == NULL)
        return protobuf_no_memory(d);
    for (size_t i = 0; i < count; i++)
        decoded[i] = (struct pdb_column){.name = text_of(columns[i]->name),
                                         .type = (enum pdb_column_type)columns[i]->type};
    *columns_out = decoded;
    *count_out = (uint32_t)count;
    return 0;
}

static int take_element(struct protobuf_decoder *d, uint64_t number, struct pdb_field *field)
{
    if (element_type_of_wire(number, &field->element))
        return 0;
    return trail_add(d->trail, PDB_INVALID_ARGUMENT, "type: expected one of " ELEMENT_TYPE_NAMES);
}

static int decode_fields(struct protobuf_decoder *d,
                         const Proximadb__V1__CreateCollectionRequest *m,
                         struct pdb_collection_config *config)
{
    bool single = m->dimension != 0 || m->metric != PROXIMADB__V1__METRIC__METRIC_UNSPECIFIED;
    if (single && m->n_fields != 0)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT,
                         "either dimension and metric, or fields: not both");
    if (m->n_fields > PDB_FIELD_MAX)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT, "fields: %zu are more than %d",
                         m->n_fields, PDB_FIELD_MAX);
    size_t count = single ? 1 : m->n_fields;
    struct pdb_field *fields = arena_array(d->arena, struct pdb_field, count);
    if (fields == NULL)
        return protobuf_no_memory(d);
    struct pdb_field_change beside; /* of the default field, beside its dimension */
    protobuf_take_index((int)m->index, m->index_params, &beside);
    protobuf_take_quantization((int)m->quantization, m->quantization_params, &beside);
    if (!single && (beside.has_index || beside.has_quantization))
        return trail_add(d->trail, PDB_INVALID_ARGUMENT,
                         "index and quantization go with dimension and metric, or into fields");
    if (single)
        fields[0] = protobuf_vector_field("", m->dimension, (int)m->metric, &beside);
    if (!single && m->type != PROXIMADB__V1__ELEMENT_TYPE__ELEMENT_TYPE_UNSPECIFIED)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT,
                         "type goes with dimension and metric, or into fields");
    int rc = single ? take_element(d, (uint64_t)m->type, &fields[0]) : 0;
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < m->n_fields; i++) {
        const Proximadb__V1__VectorField *field = m->fields[i];
        struct pdb_field_change how;
        protobuf_take_index((int)field->index, field->index_params, &how);
        protobuf_take_quantization((int)field->quantization, field->quantization_params, &how);
        fields[i] = protobuf_vector_field(field->name, field->dimension, (int)field->metric, &how);
        if ((rc = take_element(d, (uint64_t)field->type, &fields[i])) < 0)
            return rc;
    }
    config->fields = fields;
    config->field_count = (uint32_t)count;
    return 0;
}

/* What is given replaces what is there. */
static int decode_storage(struct protobuf_decoder *d, const Proximadb__V1__Storage *m,
                          struct pdb_collection_update *into)
{
    if (m == NULL)
        return 0;
    struct pdb_text compression = text_of(m->compression), vectors = text_of(m->vectors);
    into->has_compression = compression.len != 0;
    if (into->has_compression && !compression_of(compression, &into->compression))
        return trail_add(d->trail, PDB_INVALID_ARGUMENT,
                         "storage.compression: '%.64s' is not one of " COMPRESSION_NAMES,
                         m->compression);
    into->has_vector_storage = vectors.len != 0;
    if (into->has_vector_storage && !vector_storage_of(vectors, &into->vector_storage))
        return trail_add(d->trail, PDB_INVALID_ARGUMENT,
                         "storage.vectors: '%.64s' is not one of " VECTOR_STORAGE_NAMES,
                         m->vectors);
    into->has_version_retention =
        m->maybe_version_retention_s_case ==
        PROXIMADB__V1__STORAGE__MAYBE_VERSION_RETENTION_S_VERSION_RETENTION_S;
    into->version_retention_s = into->has_version_retention ? m->version_retention_s : 0;
    return 0;
}

int protobuf_decode_collection(struct protobuf_decoder *d, struct pdb_text message,
                               struct pdb_collection_config *config_out)
{
    const Proximadb__V1__CreateCollectionRequest *m = protobuf_unpack(
        &proximadb__v1__create_collection_request__descriptor, message, d->arena, d->trail);
    if (m == NULL)
        return d->trail->code;
    struct pdb_collection_config config = {.name = text_of(m->name),
                                           .sync = sync_of(m->sync),
                                           .description = text_of(m->description),
                                           .target_recall = m->target_recall};
    if (m->maybe_ttl_s_case == PROXIMADB__V1__CREATE_COLLECTION_REQUEST__MAYBE_TTL_S_TTL_S)
        config.ttl_s = m->ttl_s;
    struct pdb_collection_update storage = {.has_compression = false}; /* the defaults */
    int rc = decode_fields(d, m, &config);
    if (rc < 0 ||
        (rc = decode_columns(d, m->columns, m->n_columns, &config.columns, &config.column_count)) <
            0 ||
        (rc = decode_storage(d, m->storage, &storage)) < 0)
        return rc;
    config.compression = storage.compression;
    config.vector_storage = storage.vector_storage;
    config.version_retention_s = storage.version_retention_s;
    *config_out = config;
    return 0;
}

int protobuf_decode_collection_list(struct protobuf_decoder *d, struct pdb_text message,
                                    struct pdb_collection_list *list_out)
{
    const Proximadb__V1__ListCollectionsRequest *m = protobuf_unpack(
        &proximadb__v1__list_collections_request__descriptor, message, d->arena, d->trail);
    if (m == NULL)
        return d->trail->code;
    list_out->limit = m->limit;
    list_out->after = text_of(m->cursor);
    return 0;
}

int protobuf_decode_collection_get(struct protobuf_decoder *d, struct pdb_text message,
                                   struct pdb_text *name_out)
{
    const Proximadb__V1__GetCollectionRequest *m = protobuf_unpack(
        &proximadb__v1__get_collection_request__descriptor, message, d->arena, d->trail);
    if (m == NULL)
        return d->trail->code;
    *name_out = text_of(m->collection);
    return 0;
}

int protobuf_decode_collection_delete(struct protobuf_decoder *d, struct pdb_text message,
                                      struct pdb_text *name_out)
{
    const Proximadb__V1__DeleteCollectionRequest *m = protobuf_unpack(
        &proximadb__v1__delete_collection_request__descriptor, message, d->arena, d->trail);
    if (m == NULL)
        return d->trail->code;
    *name_out = text_of(m->collection);
    return 0;
}

static int decode_field_changes(struct protobuf_decoder *d,
                                const Proximadb__V1__UpdateCollectionRequest *m,
                                struct pdb_collection_update *update_out)
{
    if (m->n_fields > PDB_FIELD_MAX)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT, "fields: %zu are more than %d",
                         m->n_fields, PDB_FIELD_MAX);
    struct pdb_field_change *changes = arena_array(d->arena, struct pdb_field_change, m->n_fields);
    if (changes == NULL)
        return protobuf_no_memory(d);
    for (size_t i = 0; i < m->n_fields; i++) {
        const Proximadb__V1__VectorFieldChange *change = m->fields[i];
        protobuf_take_index((int)change->index, change->index_params, &changes[i]);
        protobuf_take_quantization((int)change->quantization, change->quantization_params,
                                   &changes[i]);
        changes[i].name = text_of(change->name);
    }
    update_out->field_changes = changes;
    update_out->field_change_count = (uint32_t)m->n_fields;
    return 0;
}

int protobuf_decode_collection_update(struct protobuf_decoder *d, struct pdb_text message,
                                      struct pdb_collection_update *update_out)
{
    const Proximadb__V1__UpdateCollectionRequest *m = protobuf_unpack(
        &proximadb__v1__update_collection_request__descriptor, message, d->arena, d->trail);
    if (m == NULL)
        return d->trail->code;
    update_out->name = text_of(m->collection);
    if (m->maybe_sync_case == PROXIMADB__V1__UPDATE_COLLECTION_REQUEST__MAYBE_SYNC_SYNC) {
        if (m->sync == PROXIMADB__V1__SYNC_MODE__SYNC_MODE_UNSPECIFIED)
            return trail_add(d->trail, PDB_INVALID_ARGUMENT,
                             "sync: SYNC_MODE_UNSPECIFIED: leave the field out to keep the mode");
        update_out->has_sync = true;
        update_out->sync = sync_of(m->sync);
    }
    if (m->maybe_ttl_s_case == PROXIMADB__V1__UPDATE_COLLECTION_REQUEST__MAYBE_TTL_S_TTL_S) {
        update_out->has_ttl = true;
        update_out->ttl_s = m->ttl_s;
    }
    if (m->maybe_description_case ==
        PROXIMADB__V1__UPDATE_COLLECTION_REQUEST__MAYBE_DESCRIPTION_DESCRIPTION) {
        update_out->has_description = true;
        update_out->description = text_of(m->description);
    }
    if (m->maybe_target_recall_case ==
        PROXIMADB__V1__UPDATE_COLLECTION_REQUEST__MAYBE_TARGET_RECALL_TARGET_RECALL) {
        update_out->has_target_recall = true;
        update_out->target_recall = m->target_recall;
    }
    int rc = decode_storage(d, m->storage, update_out);
    if (rc < 0 || (rc = decode_field_changes(d, m, update_out)) < 0)
        return rc;
    return decode_columns(d, m->add_columns, m->n_add_columns, &update_out->add_columns,
                          &update_out->add_column_count);
}

/* ---- records by id or filter ---- */

/* A list of includes, packed or not. A list of nothing but INCLUDE_UNSPECIFIED asks for none, which
 * an absent list cannot say. */
static void add_include(struct protobuf_field *f, unsigned *include)
{
    static const unsigned flags[] = {
        [PROXIMADB__V1__INCLUDE__INCLUDE_UNSPECIFIED] = 0,
        [PROXIMADB__V1__INCLUDE__INCLUDE_METADATA] = PDB_INCLUDE_METADATA,
        [PROXIMADB__V1__INCLUDE__INCLUDE_VECTORS] = PDB_INCLUDE_VECTORS,
        [PROXIMADB__V1__INCLUDE__INCLUDE_TIMES] = PDB_INCLUDE_TIMES,
    };
    if (f->type == PROTOBUF_VARINT)
        *include |= flags[f->value & 3]; /* checked to be one of the four */
    for (size_t i = 0; f->type == PROTOBUF_BYTES && i < f->bytes.len; i++)
        if ((uint8_t)f->bytes.ptr[i] < 0x80) /* the last byte of a number */
            *include |= flags[f->bytes.ptr[i] & 3];
}

static unsigned read_include(struct pdb_text message, uint32_t number, unsigned absent)
{
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    unsigned include = 0;
    bool given = false;
    while (protobuf_next(&r, &f) > 0) {
        if (f.number != number)
            continue;
        given = true;
        add_include(&f, &include);
    }
    return given ? include : absent;
}

/* One id or filter of several kinds of request. */
static int add_id(struct protobuf_decoder *d, struct protobuf_text_list *ids, struct pdb_text id)
{
    if (ids->count == d->limits->batch_records)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT, "ids: more than limits.batch_records (%u)",
                         d->limits->batch_records);
    return protobuf_text_add(d, ids, id);
}

static int read_filter(struct protobuf_decoder *d, struct pdb_text message,
                       struct protobuf_place place, struct pdb_text *filter_out)
{
    struct doc_builder *docs = protobuf_docs(d);
    if (docs == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    return protobuf_read_filter(message, docs, place, "filter", d->trail, filter_out);
}

int protobuf_decode_get(struct protobuf_decoder *d, struct pdb_text message,
                        struct pdb_get *get_out)
{
    enum { COLLECTION = 1, IDS, INCLUDE, AS_OF };
    int rc = protobuf_check(&proximadb__v1__get_request__descriptor, message, whole, d->trail);
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_text_list ids = {0};
    struct protobuf_field f;
    while (rc == 0 && protobuf_next(&r, &f) > 0) {
        if (f.number == COLLECTION)
            get_out->collection = f.bytes;
        else if (f.number == IDS)
            rc = add_id(d, &ids, f.bytes);
        else if (f.number == AS_OF) {
            get_out->has_as_of = true;
            get_out->as_of = f.value;
        }
    }
    if (rc < 0)
        return rc;
    get_out->ids = ids.texts;
    get_out->id_count = ids.count;
    get_out->include = read_include(message, INCLUDE,
                                    PDB_INCLUDE_METADATA | PDB_INCLUDE_VECTORS | PDB_INCLUDE_TIMES);
    return 0;
}

int protobuf_decode_delete(struct protobuf_decoder *d, struct pdb_text message,
                           struct pdb_delete *delete_out)
{
    enum { COLLECTION = 1, IDS, FILTER, IF_VERSION, REQUEST_ID };
    int rc = protobuf_check(&proximadb__v1__delete_request__descriptor, message, whole, d->trail);
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_text_list ids = {0};
    struct protobuf_field f;
    while (rc == 0 && protobuf_next(&r, &f) > 0) {
        switch (f.number) {
        case COLLECTION:
            delete_out->collection = f.bytes;
            break;
        case IDS:
            rc = add_id(d, &ids, f.bytes);
            break;
        case FILTER:
            delete_out->has_filter = true;
            rc = read_filter(d, f.bytes, whole, &delete_out->filter);
            break;
        case IF_VERSION:
            delete_out->has_if_version = true;
            delete_out->if_version = f.value;
            break;
        case REQUEST_ID:
            delete_out->request_id = f.bytes;
            break;
        default:
            break;
        }
    }
    delete_out->ids = ids.texts;
    delete_out->id_count = ids.count;
    return rc;
}

int protobuf_decode_scroll(struct protobuf_decoder *d, struct pdb_text message,
                           struct pdb_scroll *scroll_out)
{
    enum { COLLECTION = 1, FILTER, LIMIT, CURSOR, INCLUDE };
    int rc = protobuf_check(&proximadb__v1__scroll_request__descriptor, message, whole, d->trail);
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    while (rc == 0 && protobuf_next(&r, &f) > 0) {
        if (f.number == COLLECTION)
            scroll_out->collection = f.bytes;
        else if (f.number == FILTER)
            rc = read_filter(d, f.bytes, whole, &scroll_out->filter);
        else if (f.number == LIMIT)
            scroll_out->limit = (uint32_t)f.value;
        else if (f.number == CURSOR)
            scroll_out->cursor = f.bytes;
    }
    if (rc == 0)
        scroll_out->include = read_include(message, INCLUDE, PDB_INCLUDE_METADATA);
    return rc;
}

int protobuf_decode_count(struct protobuf_decoder *d, struct pdb_text message,
                          struct pdb_count *count_out)
{
    enum { COLLECTION = 1, FILTER };
    int rc = protobuf_check(&proximadb__v1__count_request__descriptor, message, whole, d->trail);
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    while (rc == 0 && protobuf_next(&r, &f) > 0) {
        if (f.number == COLLECTION)
            count_out->collection = f.bytes;
        else if (f.number == FILTER)
            rc = read_filter(d, f.bytes, whole, &count_out->filter);
    }
    return rc;
}

int protobuf_decode_recall(struct protobuf_decoder *d, struct pdb_text message,
                           struct pdb_recall *recall_out)
{
    const Proximadb__V1__GetRecallRequest *m = protobuf_unpack(
        &proximadb__v1__get_recall_request__descriptor, message, d->arena, d->trail);
    if (m == NULL)
        return d->trail->code;
    recall_out->collection = text_of(m->collection);
    recall_out->field = text_of(m->field);
    recall_out->k = m->k;
    recall_out->queries = m->queries;
    recall_out->target_recall = m->target_recall;
    return 0;
}

/* ---- searches ---- */

enum query_field {
    QUERY_VECTOR = 1,
    QUERY_PACKED,
    QUERY_ID,
    QUERY_FIELD,
    QUERY_K,
    QUERY_FILTER,
    QUERY_INCLUDE,
    QUERY_PARAMS,
    QUERY_MIN_SCORE,
    QUERY_PACKED_TYPE,
};
enum { QUERY_K_DEFAULT = 10 };

static int read_min_score(struct protobuf_decoder *d, struct protobuf_place place,
                          const struct protobuf_field *f, struct pdb_query *q)
{
    uint32_t bits = (uint32_t)f->value;
    memcpy(&q->min_score, &bits, sizeof(bits));
    q->has_min_score = true;
    if (!__builtin_isfinite(q->min_score))
        return protobuf_fail(d->trail, place, PDB_INVALID_ARGUMENT, "min_score", "must be finite");
    return 0;
}

/* Exactly one of vector, packed_vector and id. */
static int read_query_vector(struct protobuf_decoder *d, struct pdb_text message,
                             struct protobuf_place place, struct pdb_text packed,
                             enum pdb_element_type element, struct pdb_query *q)
{
    const void *floats = NULL;
    uint32_t count = 0;
    if (protobuf_floats(message, QUERY_VECTOR, d->arena, &floats, &count) < 0)
        return protobuf_no_memory(d);
    if ((count != 0) + (packed.len != 0) + (q->id.len != 0) != 1)
        return protobuf_fail(d->trail, place, PDB_INVALID_ARGUMENT, "",
                             "exactly one of vector, packed_vector and id must be given");
    if (count != 0)
        q->vector = (struct pdb_vector){
            .field = q->field, .values = floats, .count = count, .form = PDB_VECTOR_F32};
    else if (packed.len != 0)
        q->vector = (struct pdb_vector){.field = q->field,
                                        .values = packed.ptr,
                                        .count = (uint32_t)packed.len,
                                        .form = PDB_VECTOR_BYTES,
                                        .element = element};
    return 0;
}

static int read_query(struct protobuf_decoder *d, struct pdb_text message,
                      struct protobuf_place place, struct pdb_query *q)
{
    int rc = protobuf_check(&proximadb__v1__search_query__descriptor, message, place, d->trail);
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    struct pdb_text packed = {0};
    enum pdb_element_type element = PDB_ELEMENT_FLOAT32;
    *q = (struct pdb_query){.k = QUERY_K_DEFAULT, .field = {"", 0}};
    while (rc == 0 && protobuf_next(&r, &f) > 0) {
        switch (f.number) {
        case QUERY_PACKED:
            packed = f.bytes;
            break;
        case QUERY_PACKED_TYPE:
            rc = protobuf_read_element(d, place, &f, &element);
            break;
        case QUERY_ID:
            q->id = f.bytes;
            break;
        case QUERY_FIELD:
            q->field = f.bytes;
            break;
        case QUERY_K:
            q->k = f.value != 0 ? (uint32_t)f.value : QUERY_K_DEFAULT;
            break;
        case QUERY_FILTER:
            rc = read_filter(d, f.bytes, place, &q->filter);
            break;
        case QUERY_PARAMS:
            rc = protobuf_read_params(d, f.bytes, place, q);
            break;
        case QUERY_MIN_SCORE:
            rc = read_min_score(d, place, &f, q);
            break;
        default:
            break;
        }
    }
    if (rc < 0)
        return rc;
    q->include = read_include(message, QUERY_INCLUDE, PDB_INCLUDE_METADATA);
    return read_query_vector(d, message, place, packed, element, q);
}

void protobuf_search_open(struct protobuf_search_decoder *s, bool batch, struct arena *arena,
                          const struct api_limits *limits, struct pdb_text message,
                          struct trail *trail)
{
    *s = (struct protobuf_search_decoder){
        .d = {.arena = arena, .limits = limits, .trail = trail},
        .batch = batch,
        .at = protobuf_reader_of(message),
    };
}

static int add_query(struct protobuf_search_decoder *s, struct pdb_text message)
{
    struct protobuf_decoder *d = &s->d;
    if (!s->batch && s->count != 0)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT, "query: given twice");
    if (s->count == d->limits->batch_searches)
        return trail_add(d->trail, PDB_INVALID_ARGUMENT,
                         "queries: more than limits.batch_searches (%u)",
                         d->limits->batch_searches);
    if (s->count == s->capacity) {
        uint32_t wanted = s->capacity != 0 ? s->capacity * 2 : s->batch ? 16 : 1;
        struct pdb_query *grown =
            arena_grow(d->arena, s->queries, s->capacity * sizeof(*grown), wanted * sizeof(*grown));
        if (grown == NULL)
            return protobuf_no_memory(d);
        s->queries = grown;
        s->capacity = wanted;
    }
    struct protobuf_place place = {s->batch ? "queries" : "query", s->count, s->batch};
    int rc = read_query(d, message, place, &s->queries[s->count]);
    s->count += rc == 0;
    return rc;
}

/* The message itself has no more than these two fields, which are checked here. */
int protobuf_search_step(struct protobuf_search_decoder *s)
{
    enum { COLLECTION = 1, QUERIES };
    struct protobuf_field f;
    int rc = protobuf_next(&s->at, &f);
    if (rc == 0 && s->count == 0 && !s->batch)
        return trail_add(s->d.trail, PDB_INVALID_ARGUMENT, "query: missing");
    if (rc == 0)
        return 0;
    if (rc < 0)
        return trail_add(s->d.trail, rc, "malformed");
    if ((f.number == COLLECTION || f.number == QUERIES) && f.type != PROTOBUF_BYTES)
        return trail_add(s->d.trail, PDB_INVALID_ARGUMENT,
                         "%s: a wire type that does not fit the field",
                         f.number == COLLECTION ? "collection" : "queries");
    if (f.number == QUERIES)
        rc = add_query(s, f.bytes);
    else if (f.number == COLLECTION)
        rc = protobuf_read_text(&s->d, whole, "collection", f.bytes, &s->collection);
    return rc < 0 ? rc : 1;
}
