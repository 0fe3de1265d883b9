/* rest_records.c: the record operations: decode in steps, call, encode in steps. */
#include "transport/codec/avro_records.h"
#include "transport/http/rest.h"

#include "base/no_libc_heap.h"

/* ---- writes ---- */

static const char *write_verb(enum pdb_write_kind kind)
{
    return kind == PDB_WRITE_UPSERT   ? "upserted"
           : kind == PDB_WRITE_INSERT ? "inserted"
                                      : "updated";
}

static void on_written(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    json_encode_write(&r->out, &r->write, write_verb(r->write.kind));
    rest_reply_json(r, 200);
}

static void start_write(struct rest *r, struct pdb_record *records, uint32_t count,
                        struct pdb_text request_id)
{
    enum pdb_write_kind kind = r->decoder.kind;
    rest_begin_call(r, &r->write.call, on_written);
    r->write.kind = kind;
    r->write.collection = r->collection;
    r->write.records = records;
    r->write.record_count = count;
    r->write.request_id = request_id;
    api_write(&r->x->api, &r->write);
}

static void decode_write(struct task *task)
{
    struct rest *r = container_of(task, struct rest, task);
    int rc = 1;
    while (rc > 0 && !r->x->gone) {
        if (reactor_slice_over(r->x->core->reactor)) {
            task_queue(r->x->core->reactor, task);
            return;
        }
        rc = json_write_decoder_step(&r->decoder);
    }
    if (r->x->gone)
        rest_fail(r, trail_add(&r->trail, PDB_CANCELLED, "the client left"));
    else if (rc < 0)
        rest_fail(r, rc);
    else
        start_write(r, r->decoder.records, r->decoder.count, r->decoder.request_id);
}

/* The schema has no place for a retry key: it comes as a query parameter. */
static void start_write_avro(struct rest *r, const struct avro_records_decoder *avro)
{
    struct pdb_text request_id = {0};
    (void)rest_query_param(r, "request_id", &request_id);
    start_write(r, avro->records, avro->count, request_id);
}

static void decode_avro(struct task *task)
{
    struct rest *r = container_of(task, struct rest, task);
    struct avro_records_decoder *avro = r->x->handler_more;
    int rc = 1;
    while (rc > 0 && !r->x->gone) {
        if (reactor_slice_over(r->x->core->reactor)) {
            task_queue(r->x->core->reactor, task);
            return;
        }
        rc = avro_records_step(avro);
    }
    if (r->x->gone)
        rest_fail(r, trail_add(&r->trail, PDB_CANCELLED, "the client left"));
    else if (rc < 0)
        rest_fail(r, rc);
    else
        start_write_avro(r, avro);
}

static void write_records(struct rest *r, enum pdb_write_kind kind)
{
    struct exchange *x = r->x;
    bool avro = text_starts_with(x->content_type, TEXT_LIT("application/avro"));
    r->task = (struct task){
        .run = avro ? decode_avro : decode_write, .name = "rest_decode", .bulk = true};
    r->decoder.kind = kind;
    if (avro) {
        x->handler_more = arena_new(&x->arena, struct avro_records_decoder);
        if (x->handler_more == NULL) {
            rest_fail(r, trail_add(&r->trail, PDB_RESOURCE_EXHAUSTED, "no memory for the request"));
            return;
        }
        avro_records_open(x->handler_more, &x->arena, x->core->limits, x->body, "vectors",
                          &r->trail);
    } else {
        json_write_decoder_open(&r->decoder, kind, &x->arena, x->core->limits, x->body, &r->trail);
    }
    r->task.run(&r->task);
}

void rest_upsert(struct rest *r)
{
    write_records(r, PDB_WRITE_UPSERT);
}

void rest_insert(struct rest *r)
{
    write_records(r, PDB_WRITE_INSERT);
}

void rest_update(struct rest *r)
{
    write_records(r, PDB_WRITE_UPDATE);
}

/* ---- deletes ---- */

static void on_deleted(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    buffer_format(&r->out, "{\"deleted\":%llu}", (unsigned long long)r->delete_records.count_out);
    rest_reply_json(r, 200);
}

/* The decoder of a body that is read in one step. */
static void open_decoder(struct rest *r, struct json_decoder *d)
{
    json_decoder_open(d, &r->x->arena, r->x->core->limits, r->x->body, &r->trail);
}

void rest_delete(struct rest *r)
{
    struct json_decoder d;
    rest_begin_call(r, &r->delete_records.call, on_deleted);
    r->delete_records.collection = r->collection;
    open_decoder(r, &d);
    int rc = json_decode_delete(&d, &r->delete_records);
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_delete(&r->x->api, &r->delete_records);
}

static void on_one_deleted(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (call->error.code == 0 && r->delete_records.count_out == 0) {
        r->call = NULL;
        rest_fail(r, trail_add(&r->trail, PDB_NOT_FOUND, "record '%.*s' does not exist",
                               TEXT_ARG(r->id)));
        return;
    }
    on_deleted(call);
}

void rest_delete_one(struct rest *r)
{
    rest_begin_call(r, &r->delete_records.call, on_one_deleted);
    r->delete_records.collection = r->collection;
    r->delete_records.ids = &r->id;
    r->delete_records.id_count = 1;
    api_delete(&r->x->api, &r->delete_records);
}

/* ---- reads ---- */

static void on_got(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    r->encoder = (struct json_rows_encoder){.get = &r->get};
    rest_reply_rows(r);
}

void rest_get(struct rest *r)
{
    struct json_decoder d;
    rest_begin_call(r, &r->get.call, on_got);
    r->get.collection = r->collection;
    open_decoder(r, &d);
    int rc = json_decode_get(&d, &r->get);
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_get(&r->x->api, &r->get);
}

static void on_one_got(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    if (r->get.rows_out[0].version == 0) {
        rest_fail(r, trail_add(&r->trail, PDB_NOT_FOUND, "record '%.*s' does not exist",
                               TEXT_ARG(r->id)));
        return;
    }
    rest_open_out(r);
    json_encode_row(&r->out, &r->get.rows_out[0], r->get.fields_out, r->get.field_count_out,
                    r->get.include);
    rest_reply_json(r, 200);
}

void rest_get_one(struct rest *r)
{
    rest_begin_call(r, &r->get.call, on_one_got);
    r->get.collection = r->collection;
    r->get.ids = &r->id;
    r->get.id_count = 1;
    r->get.include = PDB_INCLUDE_METADATA | PDB_INCLUDE_VECTORS | PDB_INCLUDE_TIMES;
    int rc = rest_query_number(r, "as_of", UINT64_MAX, &r->get.has_as_of, &r->get.as_of);
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_get(&r->x->api, &r->get);
}

static void on_scrolled(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    r->encoder = (struct json_rows_encoder){.scroll = &r->scroll};
    rest_reply_rows(r);
}

void rest_scroll(struct rest *r)
{
    struct json_decoder d;
    rest_begin_call(r, &r->scroll.call, on_scrolled);
    r->scroll.collection = r->collection;
    open_decoder(r, &d);
    int rc = json_decode_scroll(&d, &r->scroll);
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_scroll(&r->x->api, &r->scroll);
}

static void on_counted(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    buffer_format(&r->out, "{\"count\":%llu}", (unsigned long long)r->count.count_out);
    rest_reply_json(r, 200);
}

void rest_count(struct rest *r)
{
    struct json_decoder d;
    rest_begin_call(r, &r->count.call, on_counted);
    r->count.collection = r->collection;
    open_decoder(r, &d);
    int rc = json_decode_count(&d, &r->count);
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_count(&r->x->api, &r->count);
}

/* ---- searches ---- */

static void on_found(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    r->encoder =
        (struct json_rows_encoder){.search = &r->search, .batch = r->search.query_path[0] != '\0'};
    rest_reply_rows(r);
}

static void start_search(struct rest *r, int rc)
{
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_search(&r->x->api, &r->search);
}

void rest_search(struct rest *r)
{
    struct json_decoder d;
    rest_begin_call(r, &r->search.call, on_found);
    r->search.collection = r->collection;
    r->search.query_path = "";
    r->search.queries = &r->query;
    r->search.query_count = 1;
    open_decoder(r, &d);
    start_search(r, json_decode_search(&d, &r->query));
}

static void decode_searches(struct task *task)
{
    struct rest *r = container_of(task, struct rest, task);
    int rc = 1;
    while (rc > 0 && !r->x->gone) {
        if (reactor_slice_over(r->x->core->reactor)) {
            task_queue(r->x->core->reactor, task);
            return;
        }
        rc = json_search_batch_step(&r->batch_decoder);
    }
    if (r->x->gone)
        rc = trail_add(&r->trail, PDB_CANCELLED, "the client left");
    r->search.queries = r->batch_decoder.queries;
    r->search.query_count = r->batch_decoder.count;
    start_search(r, rc);
}

void rest_search_batch(struct rest *r)
{
    rest_begin_call(r, &r->search.call, on_found);
    r->search.collection = r->collection;
    r->search.query_path = "searches";
    json_search_batch_open(&r->batch_decoder, &r->x->arena, r->x->core->limits, r->x->body,
                           &r->trail);
    r->task = (struct task){.run = decode_searches, .name = "rest_decode"};
    decode_searches(&r->task);
}
