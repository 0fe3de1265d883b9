/* json_requests.c: the bodies of REST requests, each a table of its fields. */
#include "base/clock.h"
#include "transport/codec/json_fields.h"
#include "transport/codec/json_indexes.h"
#include "transport/codec/storage_names.h"

#include "base/no_libc_heap.h"

#define COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

void json_decoder_open(struct json_decoder *d, struct arena *arena, const struct api_limits *limits,
                       struct pdb_text body, struct trail *trail)
{
    *d = (struct json_decoder){.arena = arena, .limits = limits};
    json_open(&d->reader, body.ptr, body.len, limits->json_depth, trail);
}

static int read_whole(struct json_decoder *d, const struct json_field *fields, size_t count,
                      void *into)
{
    int rc = json_read_object(d, fields, count, into);
    return rc == 0 ? json_finish(&d->reader) : rc;
}

/* ---- collections ---- */

static int vector_field_object(struct json_decoder *d, void *into)
{
    static const struct json_field fields[] = {
        JSON_FIELD("name", json_text_field, struct pdb_field, name),
        JSON_FIELD("dimension", json_u32_field, struct pdb_field, dimension),
        JSON_FIELD("metric", json_metric_field, struct pdb_field, metric),
        JSON_FIELD("type", json_element_field, struct pdb_field, element),
        JSON_FIELD_WHOLE("index", json_index_field),
        JSON_FIELD_WHOLE("quantization", json_quantization_field),
    };
    return json_read_object(d, fields, COUNT(fields), into);
}

static int column_object(struct json_decoder *d, void *into)
{
    static const struct json_field fields[] = {
        JSON_FIELD("name", json_text_field, struct pdb_column, name),
        JSON_FIELD("type", json_column_type_field, struct pdb_column, type),
    };
    return json_read_object(d, fields, COUNT(fields), into);
}

struct collection_body {
    struct pdb_collection_config config;
    struct pdb_field single; /* top-level dimension, metric, type, index, quantization */
    bool has_sync, has_ttl, has_description;
    bool has_compression, has_vector_storage, has_version_retention;
    bool has_target_recall;
    struct pdb_field_change single_change; /* top-level index, quantization of a change */
    struct pdb_field_change *changes;      /* room for that one behind those of fields */
    uint32_t change_count;
};

static int fields_field(struct json_decoder *d, void *into)
{
    struct collection_body *body = into;
    void *elements = NULL;
    int rc = json_read_array(d, vector_field_object, sizeof(struct pdb_field), PDB_FIELD_MAX,
                             &elements, &body->config.field_count);
    body->config.fields = elements;
    return rc;
}

static int columns_field(struct json_decoder *d, void *into)
{
    struct collection_body *body = into;
    void *elements = NULL;
    int rc = json_read_array(d, column_object, sizeof(struct pdb_column), PDB_COLUMN_MAX, &elements,
                             &body->config.column_count);
    body->config.columns = elements;
    return rc;
}

static int compression_field(struct json_decoder *d, void *into)
{
    struct collection_body *body = into;
    struct pdb_text name;
    int rc = json_text_field(d, &name);
    body->has_compression = true;
    if (rc == 0 && !compression_of(name, &body->config.compression))
        rc = json_fail(&d->reader, "storage.compression: '%.*s' is not one of " COMPRESSION_NAMES,
                       name.len < 64 ? (int)name.len : 64, name.ptr);
    return rc;
}

static int vector_storage_field(struct json_decoder *d, void *into)
{
    struct collection_body *body = into;
    struct pdb_text name;
    int rc = json_text_field(d, &name);
    body->has_vector_storage = true;
    if (rc == 0 && !vector_storage_of(name, &body->config.vector_storage))
        rc = json_fail(&d->reader, "storage.vectors: '%.*s' is not one of " VECTOR_STORAGE_NAMES,
                       name.len < 64 ? (int)name.len : 64, name.ptr);
    return rc;
}

static int version_retention_field(struct json_decoder *d, void *into)
{
    struct collection_body *body = into;
    body->has_version_retention = true;
    return json_u64_field(d, &body->config.version_retention_s);
}

static int storage_field(struct json_decoder *d, void *into)
{
    static const struct json_field fields[] = {
        JSON_FIELD_WHOLE("compression", compression_field),
        JSON_FIELD_WHOLE("vectors", vector_storage_field),
        JSON_FIELD_WHOLE("version_retention_s", version_retention_field),
    };
    return json_read_object(d, fields, COUNT(fields), into);
}

static int sync_field(struct json_decoder *d, void *into)
{
    struct collection_body *body = into;
    body->has_sync = true;
    return json_sync_field(d, &body->config.sync);
}

/* Seconds, or null for none. */
static int ttl_field(struct json_decoder *d, void *into)
{
    struct collection_body *body = into;
    body->has_ttl = true;
    return json_take_null(d) ? 0 : json_u64_field(d, &body->config.ttl_s);
}

static int description_field(struct json_decoder *d, void *into)
{
    struct collection_body *body = into;
    body->has_description = true;
    return json_text_field(d, &body->config.description);
}

/* 0.5 to 1, or null for the default. */
static int target_recall_field(struct json_decoder *d, void *into)
{
    struct collection_body *body = into;
    body->has_target_recall = true;
    return json_take_null(d) ? 0 : json_recall_field(d, &body->config.target_recall);
}

int json_decode_collection(struct json_decoder *d, struct pdb_collection_config *config_out)
{
    static const struct json_field fields[] = {
        JSON_FIELD("name", json_text_field, struct collection_body, config.name),
        JSON_FIELD("dimension", json_u32_field, struct collection_body, single.dimension),
        JSON_FIELD("metric", json_metric_field, struct collection_body, single.metric),
        JSON_FIELD("type", json_element_field, struct collection_body, single.element),
        JSON_FIELD("index", json_index_field, struct collection_body, single),
        JSON_FIELD("quantization", json_quantization_field, struct collection_body, single),
        JSON_FIELD_WHOLE("target_recall", target_recall_field),
        JSON_FIELD_WHOLE("fields", fields_field),
        JSON_FIELD_WHOLE("columns", columns_field),
        JSON_FIELD_WHOLE("sync", sync_field),
        JSON_FIELD_WHOLE("ttl_s", ttl_field),
        JSON_FIELD_WHOLE("description", description_field),
        JSON_FIELD_WHOLE("storage", storage_field),
    };
    struct collection_body *body = arena_new(d->arena, struct collection_body);
    if (body == NULL)
        return json_no_memory(d);
    int rc = read_whole(d, fields, COUNT(fields), body);
    if (rc != 0)
        return rc;
    bool single = body->single.dimension != 0 || body->single.metric != PDB_METRIC_UNSPECIFIED;
    if (single && body->config.field_count != 0)
        return trail_add(d->reader.trail, PDB_INVALID_ARGUMENT,
                         "either dimension and metric, or fields: not both");
    if (!single &&
        (body->single.index != PDB_INDEX_AUTO || body->single.hnsw_m != 0 ||
         body->single.ef_construction != 0 || body->single.ivf_lists != 0 ||
         body->single.quantization != PDB_QUANTIZATION_AUTO || body->single.quantization_bits != 0))
        return trail_add(d->reader.trail, PDB_INVALID_ARGUMENT,
                         "index and quantization go with dimension and metric, or into fields");
    if (!single && body->single.element != PDB_ELEMENT_FLOAT32)
        return trail_add(d->reader.trail, PDB_INVALID_ARGUMENT,
                         "type goes with dimension and metric, or into fields");
    if (single) {
        body->config.fields = &body->single;
        body->config.field_count = 1;
    }
    *config_out = body->config;
    return 0;
}

static int field_changes_field(struct json_decoder *d, void *into)
{
    struct collection_body *body = into;
    void *elements = NULL;
    int rc = json_read_array(d, json_field_change, sizeof(struct pdb_field_change), PDB_FIELD_MAX,
                             &elements, &body->change_count);
    body->changes = elements;
    return rc;
}

/* The default field's, given beside the others, comes behind them. */
static int add_single_change(struct json_decoder *d, struct collection_body *body)
{
    const struct pdb_field_change *single = &body->single_change;
    if (!single->has_index && !single->has_quantization)
        return 0;
    struct pdb_field_change *all =
        arena_array(d->arena, struct pdb_field_change, (size_t)body->change_count + 1);
    if (all == NULL)
        return json_no_memory(d);
    if (body->change_count != 0)
        memcpy(all, body->changes, body->change_count * sizeof(all[0]));
    all[body->change_count++] = *single;
    body->changes = all;
    return 0;
}

int json_decode_collection_update(struct json_decoder *d, struct pdb_collection_update *update_out)
{
    static const struct json_field fields[] = {
        JSON_FIELD_WHOLE("sync", sync_field),
        JSON_FIELD_WHOLE("ttl_s", ttl_field),
        JSON_FIELD_WHOLE("description", description_field),
        JSON_FIELD_WHOLE("storage", storage_field),
        JSON_FIELD_WHOLE("add_columns", columns_field),
        JSON_FIELD("index", json_index_change, struct collection_body, single_change),
        JSON_FIELD("quantization", json_quantization_change, struct collection_body, single_change),
        JSON_FIELD_WHOLE("fields", field_changes_field),
        JSON_FIELD_WHOLE("target_recall", target_recall_field),
    };
    struct collection_body body = {0};
    int rc = read_whole(d, fields, COUNT(fields), &body);
    if (rc != 0 || (rc = add_single_change(d, &body)) != 0)
        return rc;
    update_out->has_sync = body.has_sync;
    update_out->has_ttl = body.has_ttl;
    update_out->has_description = body.has_description;
    update_out->sync = body.config.sync;
    update_out->ttl_s = body.config.ttl_s;
    update_out->description = body.config.description;
    update_out->has_compression = body.has_compression;
    update_out->has_vector_storage = body.has_vector_storage;
    update_out->has_version_retention = body.has_version_retention;
    update_out->compression = body.config.compression;
    update_out->vector_storage = body.config.vector_storage;
    update_out->version_retention_s = body.config.version_retention_s;
    update_out->add_columns = body.config.columns;
    update_out->add_column_count = body.config.column_count;
    update_out->has_target_recall = body.has_target_recall;
    update_out->target_recall = body.config.target_recall;
    update_out->field_changes = body.changes;
    update_out->field_change_count = body.change_count;
    return 0;
}

/* ---- small requests ---- */

struct id_list {
    const struct pdb_text *ids;
    uint32_t count;
};

static int id_list_field(struct json_decoder *d, void *into)
{
    struct id_list *list = into;
    void *elements = NULL;
    int rc = json_read_array(d, json_text_field, sizeof(struct pdb_text), d->limits->batch_records,
                             &elements, &list->count);
    list->ids = elements;
    return rc;
}

static int include_element(struct json_decoder *d, void *into)
{
    struct pdb_text name;
    int rc = json_read_string(&d->reader, d->arena, &name);
    if (rc != 0)
        return rc;
    unsigned *flag = into;
    if (text_equal(name, TEXT_LIT("metadata")))
        *flag = PDB_INCLUDE_METADATA;
    else if (text_equal(name, TEXT_LIT("vectors")) || text_equal(name, TEXT_LIT("vector")))
        *flag = PDB_INCLUDE_VECTORS;
    else if (text_equal(name, TEXT_LIT("times")))
        *flag = PDB_INCLUDE_TIMES;
    else
        return json_fail(&d->reader, "'%.*s' is not one of metadata, vectors, times",
                         name.len < 64 ? (int)name.len : 64, name.ptr);
    return 0;
}

static int include_field(struct json_decoder *d, void *into)
{
    void *elements = NULL;
    uint32_t count = 0;
    int rc = json_read_array(d, include_element, sizeof(unsigned), 16, &elements, &count);
    *(unsigned *)into = 0;
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        *(unsigned *)into |= ((const unsigned *)elements)[i];
    return rc;
}

struct get_body {
    struct id_list ids;
    unsigned include;
    bool has_as_of;
    uint64_t as_of;
};

/* A version, or null for the newest. */
static int as_of_field(struct json_decoder *d, void *into)
{
    struct get_body *body = into;
    body->has_as_of = !json_take_null(d);
    return body->has_as_of ? json_u64_field(d, &body->as_of) : 0;
}

int json_decode_get(struct json_decoder *d, struct pdb_get *get_out)
{
    static const struct json_field fields[] = {
        JSON_FIELD("ids", id_list_field, struct get_body, ids),
        JSON_FIELD("include", include_field, struct get_body, include),
        JSON_FIELD_WHOLE("as_of", as_of_field),
    };
    struct get_body body = {.include =
                                PDB_INCLUDE_METADATA | PDB_INCLUDE_VECTORS | PDB_INCLUDE_TIMES};
    int rc = read_whole(d, fields, COUNT(fields), &body);
    get_out->ids = body.ids.ids;
    get_out->id_count = body.ids.count;
    get_out->include = body.include;
    get_out->has_as_of = body.has_as_of;
    get_out->as_of = body.as_of;
    return rc;
}

struct delete_body {
    struct id_list ids;
    struct pdb_text filter, request_id;
    bool has_filter, has_if_version;
    uint64_t if_version;
};

static int delete_filter_field(struct json_decoder *d, void *into)
{
    struct delete_body *body = into;
    body->has_filter = true;
    return json_document_field(d, &body->filter);
}

static int delete_if_version_field(struct json_decoder *d, void *into)
{
    struct delete_body *body = into;
    body->has_if_version = true;
    return json_u64_field(d, &body->if_version);
}

int json_decode_delete(struct json_decoder *d, struct pdb_delete *delete_out)
{
    static const struct json_field fields[] = {
        JSON_FIELD("ids", id_list_field, struct delete_body, ids),
        JSON_FIELD_WHOLE("filter", delete_filter_field),
        JSON_FIELD_WHOLE("if_version", delete_if_version_field),
        JSON_FIELD("request_id", json_text_field, struct delete_body, request_id),
    };
    struct delete_body body = {0};
    int rc = read_whole(d, fields, COUNT(fields), &body);
    delete_out->ids = body.ids.ids;
    delete_out->id_count = body.ids.count;
    delete_out->filter = body.filter;
    delete_out->has_filter = body.has_filter;
    delete_out->has_if_version = body.has_if_version;
    delete_out->if_version = body.if_version;
    delete_out->request_id = body.request_id;
    return rc;
}

/* A filter, or null for none. */
static int filter_field(struct json_decoder *d, void *into)
{
    return json_take_null(d) ? 0 : json_document_field(d, into);
}

/* Text, or null for none. */
static int cursor_field(struct json_decoder *d, void *into)
{
    return json_take_null(d) ? 0 : json_text_field(d, into);
}

int json_decode_scroll(struct json_decoder *d, struct pdb_scroll *scroll_out)
{
    static const struct json_field fields[] = {
        JSON_FIELD("filter", filter_field, struct pdb_scroll, filter),
        JSON_FIELD("limit", json_u32_field, struct pdb_scroll, limit),
        JSON_FIELD("cursor", cursor_field, struct pdb_scroll, cursor),
        JSON_FIELD("include", include_field, struct pdb_scroll, include),
    };
    scroll_out->include = PDB_INCLUDE_METADATA;
    return read_whole(d, fields, COUNT(fields), scroll_out);
}

int json_decode_count(struct json_decoder *d, struct pdb_count *count_out)
{
    static const struct json_field fields[] = {
        JSON_FIELD("filter", filter_field, struct pdb_count, filter)};
    return read_whole(d, fields, COUNT(fields), count_out);
}

/* ---- snapshots ---- */

int json_decode_snapshot(struct json_decoder *d, struct pdb_snapshot_create *create_out)
{
    static const struct json_field fields[] = {
        JSON_FIELD("name", json_text_field, struct pdb_snapshot_create, name),
        JSON_FIELD("collection", json_text_field, struct pdb_snapshot_create, collection),
    };
    return read_whole(d, fields, COUNT(fields), create_out);
}

int json_decode_restore(struct json_decoder *d, struct pdb_snapshot_restore *restore_out)
{
    static const struct json_field fields[] = {
        JSON_FIELD("collection", json_text_field, struct pdb_snapshot_restore, collection),
        JSON_FIELD("target", json_text_field, struct pdb_snapshot_restore, target),
        JSON_FIELD("replace", json_bool_field, struct pdb_snapshot_restore, replace),
    };
    return read_whole(d, fields, COUNT(fields), restore_out);
}

/* ---- searches ---- */

static int min_score_field(struct json_decoder *d, void *into)
{
    struct pdb_query *q = into;
    double value = 0;
    if (json_take_null(d))
        return 0;
    int rc = json_read_double(&d->reader, &value);
    q->has_min_score = true;
    q->min_score = (float)value;
    return rc;
}

static int query_object(struct json_decoder *d, void *into)
{
    static const struct json_field fields[] = {
        JSON_FIELD("vector", json_vector_field, struct pdb_query, vector),
        JSON_FIELD("id", json_text_field, struct pdb_query, id),
        JSON_FIELD("field", json_text_field, struct pdb_query, field),
        JSON_FIELD("k", json_u32_field, struct pdb_query, k),
        JSON_FIELD("filter", filter_field, struct pdb_query, filter),
        JSON_FIELD("include", include_field, struct pdb_query, include),
        JSON_FIELD_WHOLE("params", json_params_field),
        JSON_FIELD_WHOLE("min_score", min_score_field),
    };
    struct pdb_query *q = into;
    *q = (struct pdb_query){.k = 10, .include = PDB_INCLUDE_METADATA};
    int rc = json_read_object(d, fields, COUNT(fields), q);
    if (rc == 0 && (q->vector.values != NULL) == (q->id.len != 0))
        return json_fail(&d->reader, "exactly one of vector and id must be given");
    return rc;
}

int json_decode_search(struct json_decoder *d, struct pdb_query *query_out)
{
    int rc = query_object(d, query_out);
    return rc == 0 ? json_finish(&d->reader) : rc;
}

void json_search_batch_open(struct json_search_batch_decoder *b, struct arena *arena,
                            const struct api_limits *limits, struct pdb_text body,
                            struct trail *trail)
{
    *b = (struct json_search_batch_decoder){.first_key = true};
    json_decoder_open(&b->d, arena, limits, body, trail);
}

static int next_search(struct json_search_batch_decoder *b)
{
    int rc = json_array_next(&b->d.reader, &b->first_query);
    if (rc < 0)
        return rc;
    if (rc == 0) {
        b->in_queries = false;
        return 1;
    }
    if (b->count == b->d.limits->batch_searches)
        return json_fail(&b->d.reader, "searches: more than limits.batch_searches (%u)",
                         b->d.limits->batch_searches);
    if (b->count == b->capacity) {
        uint32_t wanted = b->capacity == 0 ? 16 : b->capacity * 2;
        struct pdb_query *grown = arena_grow(b->d.arena, b->queries, b->capacity * sizeof(*grown),
                                             wanted * sizeof(*grown));
        if (grown == NULL)
            return json_no_memory(&b->d);
        b->queries = grown;
        b->capacity = wanted;
    }
    struct pdb_query query;
    rc = query_object(&b->d, &query);
    b->queries[b->count++] = query;
    return rc != 0 ? rc : 1;
}

int json_search_batch_step(struct json_search_batch_decoder *b)
{
    static const struct json_field fields[] = {JSON_FIELD_WHOLE("searches", NULL)};
    struct pdb_text key;
    size_t which = 0;
    int rc;
    if (!b->entered) {
        b->entered = true;
        rc = json_enter_object(&b->d.reader);
        return rc != 0 ? rc : 1;
    }
    if (b->in_queries)
        return next_search(b);
    rc = json_object_next(&b->d.reader, b->d.arena, &b->first_key, &key);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return json_finish(&b->d.reader);
    rc = json_match_field(&b->d, fields, COUNT(fields), key, &b->seen, &which);
    if (rc == 0 && (rc = json_enter_array(&b->d.reader)) == 0)
        b->in_queries = b->first_query = true;
    return rc != 0 ? rc : 1;
}
