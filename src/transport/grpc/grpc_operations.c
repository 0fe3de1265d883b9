/* grpc_operations.c: what each method decodes, starts and encodes: one table a method, one straight
 * road a function. */
#include "transport/grpc/grpc_call.h"

#include "base/clock.h"
#include "base/container_of.h"

#include "base/no_libc_heap.h"

static struct protobuf_decoder decoder_of(struct grpc_call *c)
{
    return (struct protobuf_decoder){
        .arena = c->arena, .limits = c->x->core->limits, .trail = &c->trail};
}

/* ---- collections ---- */

static int decode_create(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_collection(&d, c->message, &c->engine.create.config);
}

static void start_create(struct grpc_call *c)
{
    api_collection_create(&c->x->api, &c->engine.create);
}

static int encode_create(struct grpc_call *c)
{
    protobuf_encode_collection(&c->reply, &c->engine.create.info_out);
    return 0;
}

const struct grpc_operation grpc_create_collection = {decode_create, start_create, encode_create};

static int decode_list(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_collection_list(&d, c->message, &c->engine.list);
}

static void start_list(struct grpc_call *c)
{
    api_collection_list(&c->x->api, &c->engine.list);
}

static int encode_list(struct grpc_call *c)
{
    return protobuf_encode_collections_step(&c->reply, &c->engine.list);
}

const struct grpc_operation grpc_list_collections = {decode_list, start_list, encode_list};

static int decode_describe(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_collection_get(&d, c->message, &c->engine.describe.name);
}

static void start_describe(struct grpc_call *c)
{
    api_collection_get(&c->x->api, &c->engine.describe);
}

static int encode_describe(struct grpc_call *c)
{
    protobuf_encode_collection(&c->reply, &c->engine.describe.info_out);
    return 0;
}

const struct grpc_operation grpc_get_collection = {decode_describe, start_describe,
                                                   encode_describe};

static int decode_change(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_collection_update(&d, c->message, &c->engine.update);
}

static void start_change(struct grpc_call *c)
{
    api_collection_update(&c->x->api, &c->engine.update);
}

static int encode_change(struct grpc_call *c)
{
    protobuf_encode_collection(&c->reply, &c->engine.update.info_out);
    return 0;
}

const struct grpc_operation grpc_update_collection = {decode_change, start_change, encode_change};

static int decode_drop(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_collection_delete(&d, c->message, &c->engine.drop.name);
}

static void start_drop(struct grpc_call *c)
{
    api_collection_delete(&c->x->api, &c->engine.drop);
}

static int encode_drop(struct grpc_call *c)
{
    protobuf_encode_flag(&c->reply, true);
    return 0;
}

const struct grpc_operation grpc_delete_collection = {decode_drop, start_drop, encode_drop};

/* ---- writes ---- */

static void issue_write(struct grpc_call *c)
{
    const struct protobuf_write_decoder *decoded = &c->decoder.write;
    struct pdb_write *w = &c->engine.write;
    w->kind = c->write_kind;
    w->collection = decoded->collection;
    w->request_id = decoded->request_id;
    w->records = decoded->records;
    w->record_count = decoded->count;
    void (*issued)(void *owner) = c->issued;
    void *owner = c->owner;
    if (c->issuing != NULL)
        c->issuing(owner);
    api_write(&c->x->api, w); /* `c` may be gone */
    if (issued != NULL)
        issued(owner);
}

/* How many bytes a vector of the batch's field has; 0: there is no such field. */
static size_t field_bytes(const struct pdb_collection_config *config, struct pdb_text name,
                          enum pdb_element_type element)
{
    for (uint32_t i = 0; i < config->field_count; i++) {
        const struct pdb_field *f = &config->fields[i];
        if (text_equal(f->name, name))
            return pdb_vector_bytes(f->dimension, f->metric, element);
    }
    return 0;
}

/* The collection that a batch without ids goes to is known: now the vectors can be counted. */
static void on_lookup(struct pdb_call *call)
{
    struct grpc_call *c = container_of(call, struct grpc_call, lookup.call);
    struct protobuf_write_decoder *decoded = &c->decoder.write;
    c->looking_up = false;
    if (call->error.code != 0) {
        c->ended(c, &call->error);
        return;
    }
    decoded->packed.vector_bytes =
        field_bytes(&c->lookup.info_out.config, decoded->packed.field, decoded->packed.element);
    struct pdb_error error = {0};
    if (decoded->packed.vector_bytes == 0)
        error.code = trail_add(&c->trail, PDB_INVALID_ARGUMENT,
                               "packed.field: the collection has no field '%.*s'",
                               decoded->packed.field.len < 64 ? (int)decoded->packed.field.len : 64,
                               decoded->packed.field.len != 0 ? decoded->packed.field.ptr : "");
    else
        error.code = protobuf_write_finish(decoded);
    if (error.code == 0) {
        issue_write(c);
        return;
    }
    memcpy(error.text, c->trail.text, sizeof(error.text));
    c->ended(c, &error);
}

static int decode_write(struct grpc_call *c)
{
    if (c->decoder.write.d.arena == NULL)
        protobuf_write_open(&c->decoder.write, c->write_kind == PDB_WRITE_UPDATE, c->arena,
                            c->x->core->limits, c->message, &c->trail);
    return protobuf_write_step(&c->decoder.write);
}

static void start_write(struct grpc_call *c)
{
    if (!c->decoder.write.needs_dimension) {
        issue_write(c);
        return;
    }
    pdb_call_init(&c->lookup.call, c->x->core->db, c->arena, on_lookup);
    c->lookup.call.deadline_ns = c->deadline_ns;
    c->lookup.name = c->decoder.write.collection;
    c->looking_up = true;
    api_collection_get(&c->x->api, &c->lookup);
}

static int encode_write(struct grpc_call *c)
{
    return protobuf_encode_write_step(&c->reply, &c->engine.write);
}

const struct grpc_operation grpc_write = {decode_write, start_write, encode_write};
const struct grpc_operation grpc_bulk_write = {decode_write, start_write, NULL};

static int decode_delete(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_delete(&d, c->message, &c->engine.delete);
}

static void start_delete(struct grpc_call *c)
{
    api_delete(&c->x->api, &c->engine.delete);
}

static int encode_delete(struct grpc_call *c)
{
    protobuf_encode_deleted(&c->reply, c->engine.delete.count_out);
    return 0;
}

const struct grpc_operation grpc_delete = {decode_delete, start_delete, encode_delete};

/* ---- reads ---- */

static int decode_get(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_get(&d, c->message, &c->engine.get);
}

static void start_get(struct grpc_call *c)
{
    api_get(&c->x->api, &c->engine.get);
}

static int encode_get(struct grpc_call *c)
{
    return protobuf_encode_get_step(&c->reply, &c->engine.get);
}

const struct grpc_operation grpc_get = {decode_get, start_get, encode_get};

static int decode_scroll(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_scroll(&d, c->message, &c->engine.scroll);
}

static void start_scroll(struct grpc_call *c)
{
    api_scroll(&c->x->api, &c->engine.scroll);
}

static int encode_scroll(struct grpc_call *c)
{
    return protobuf_encode_scroll_step(&c->reply, &c->engine.scroll);
}

const struct grpc_operation grpc_scroll = {decode_scroll, start_scroll, encode_scroll};

static int decode_count(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_count(&d, c->message, &c->engine.count);
}

static void start_count(struct grpc_call *c)
{
    api_count(&c->x->api, &c->engine.count);
}

static int encode_count(struct grpc_call *c)
{
    protobuf_encode_count(&c->reply, c->engine.count.count_out);
    return 0;
}

const struct grpc_operation grpc_count = {decode_count, start_count, encode_count};

static int decode_recall(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_recall(&d, c->message, &c->engine.recall);
}

static void start_recall(struct grpc_call *c)
{
    api_recall(&c->x->api, &c->engine.recall);
}

static int encode_recall(struct grpc_call *c)
{
    protobuf_encode_recall(&c->reply, &c->engine.recall);
    return 0;
}

const struct grpc_operation grpc_get_recall = {decode_recall, start_recall, encode_recall};

static int decode_queries(struct grpc_call *c, bool batch)
{
    struct protobuf_search_decoder *s = &c->decoder.search;
    if (s->d.arena == NULL)
        protobuf_search_open(s, batch, c->arena, c->x->core->limits, c->message, &c->trail);
    return protobuf_search_step(s);
}

static int decode_search(struct grpc_call *c)
{
    return decode_queries(c, false);
}

static int decode_search_batch(struct grpc_call *c)
{
    return decode_queries(c, true);
}

static void start_search(struct grpc_call *c)
{
    const struct protobuf_search_decoder *decoded = &c->decoder.search;
    struct pdb_search *s = &c->engine.search;
    s->collection = decoded->collection;
    s->queries = decoded->queries;
    s->query_count = decoded->count;
    s->query_path = decoded->batch ? "queries" : "";
    api_search(&c->x->api, s);
}

static int encode_search(struct grpc_call *c)
{
    return protobuf_encode_search_step(&c->reply, &c->engine.search, c->decoder.search.batch);
}

const struct grpc_operation grpc_search = {decode_search, start_search, encode_search};
const struct grpc_operation grpc_search_batch = {decode_search_batch, start_search, encode_search};

/* ---- snapshots ---- */

static int decode_snapshot_create(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_snapshot_create(&d, c->message, &c->engine.snapshot_create);
}

static void start_snapshot_create(struct grpc_call *c)
{
    api_snapshot_create(&c->x->api, &c->engine.snapshot_create);
}

static int encode_snapshot_create(struct grpc_call *c)
{
    protobuf_encode_snapshot(&c->reply, &c->engine.snapshot_create.info_out);
    return 0;
}

const struct grpc_operation grpc_create_snapshot = {decode_snapshot_create, start_snapshot_create,
                                                    encode_snapshot_create};

static int decode_snapshot_list(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_snapshot_list(&d, c->message, &c->engine.snapshot_list);
}

static void start_snapshot_list(struct grpc_call *c)
{
    api_snapshot_list(&c->x->api, &c->engine.snapshot_list);
}

static int encode_snapshot_list(struct grpc_call *c)
{
    return protobuf_encode_snapshots_step(&c->reply, &c->engine.snapshot_list);
}

const struct grpc_operation grpc_list_snapshots = {decode_snapshot_list, start_snapshot_list,
                                                   encode_snapshot_list};

static int decode_snapshot_get(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_snapshot_name(&d, c->message, &c->engine.snapshot_get.name);
}

static void start_snapshot_get(struct grpc_call *c)
{
    api_snapshot_get(&c->x->api, &c->engine.snapshot_get);
}

static int encode_snapshot_get(struct grpc_call *c)
{
    protobuf_encode_snapshot(&c->reply, &c->engine.snapshot_get.info_out);
    return 0;
}

const struct grpc_operation grpc_get_snapshot = {decode_snapshot_get, start_snapshot_get,
                                                 encode_snapshot_get};

static int decode_snapshot_delete(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_snapshot_name(&d, c->message, &c->engine.snapshot_delete.name);
}

static void start_snapshot_delete(struct grpc_call *c)
{
    api_snapshot_delete(&c->x->api, &c->engine.snapshot_delete);
}

static int encode_snapshot_delete(struct grpc_call *c)
{
    protobuf_encode_flag(&c->reply, true);
    return 0;
}

const struct grpc_operation grpc_delete_snapshot = {decode_snapshot_delete, start_snapshot_delete,
                                                    encode_snapshot_delete};

static int decode_snapshot_restore(struct grpc_call *c)
{
    struct protobuf_decoder d = decoder_of(c);
    return protobuf_decode_snapshot_restore(&d, c->message, &c->engine.snapshot_restore);
}

static void start_snapshot_restore(struct grpc_call *c)
{
    api_snapshot_restore(&c->x->api, &c->engine.snapshot_restore);
}

static int encode_snapshot_restore(struct grpc_call *c)
{
    protobuf_encode_collection(&c->reply, &c->engine.snapshot_restore.info_out);
    return 0;
}

const struct grpc_operation grpc_restore_snapshot = {
    decode_snapshot_restore, start_snapshot_restore, encode_snapshot_restore};

/* ---- server ---- */

/* Requests without fields: only well-formed they must be. */
static int decode_empty(struct grpc_call *c)
{
    struct protobuf_reader r = protobuf_reader_of(c->message);
    struct protobuf_field f;
    int rc = 0;
    while ((rc = protobuf_next(&r, &f)) > 0)
        continue;
    return rc < 0 ? trail_add(&c->trail, rc, "malformed") : 0;
}

static void start_metrics(struct grpc_call *c)
{
    c->engine.stats.want_metrics = true;
    api_stats(&c->x->api, &c->engine.stats);
}

static int encode_metrics(struct grpc_call *c)
{
    protobuf_encode_text(&c->reply, c->engine.stats.metrics_out);
    return 0;
}

const struct grpc_operation grpc_get_metrics = {decode_empty, start_metrics, encode_metrics};

/* The facts need no work of the engine: the call is done at once. */
static void start_info(struct grpc_call *c)
{
    c->engine.call.done(&c->engine.call);
}

static int encode_info(struct grpc_call *c)
{
    const struct transport_core *core = c->x->core;
    uint64_t uptime_s = (clock_monotonic_ns() - core->started_ns) / 1000000000u;
    struct pdb_text json;
    int rc = api_info_json(&c->x->api, core->db, uptime_s, c->arena, &json);
    if (rc < 0)
        return trail_add(&c->trail, rc, "no memory for the reply");
    protobuf_encode_text(&c->reply, json);
    return 0;
}

const struct grpc_operation grpc_get_info = {decode_empty, start_info, encode_info};
