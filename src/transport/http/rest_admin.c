/* rest_admin.c: collections, health, metrics, facts and the contract. */
#include "base/clock.h"
#include "transport/health.h"
#include "transport/http/rest.h"
#include "transport/starting.h"

#include "base/no_libc_heap.h"

extern const unsigned char openapi_json[];
extern const size_t openapi_json_len;

/* ---- collections ---- */

static void on_created(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    json_encode_collection(&r->out, &r->create.info_out);
    rest_reply_json(r, 201);
}

void rest_collection_create(struct rest *r)
{
    struct json_decoder d;
    rest_begin_call(r, &r->create.call, on_created);
    json_decoder_open(&d, &r->x->arena, r->x->core->limits, r->x->body, &r->trail);
    int rc = json_decode_collection(&d, &r->create.config);
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_collection_create(&r->x->api, &r->create);
}

static void on_listed(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    json_encode_collections(&r->out, &r->list);
    rest_reply_json(r, 200);
}

void rest_collection_list(struct rest *r)
{
    uint64_t limit = 0;
    bool given;
    rest_begin_call(r, &r->list.call, on_listed);
    (void)rest_query_param(r, "cursor", &r->list.after);
    int rc = rest_query_number(r, "limit", UINT32_MAX, &given, &limit);
    r->list.limit = (uint32_t)limit;
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_collection_list(&r->x->api, &r->list);
}

static void on_described(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    json_encode_collection(&r->out, &r->describe.info_out);
    rest_reply_json(r, 200);
}

void rest_collection_get(struct rest *r)
{
    rest_begin_call(r, &r->describe.call, on_described);
    r->describe.name = r->collection;
    api_collection_get(&r->x->api, &r->describe);
}

static void on_updated(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    json_encode_collection(&r->out, &r->update.info_out);
    rest_reply_json(r, 200);
}

void rest_collection_update(struct rest *r)
{
    struct json_decoder d;
    rest_begin_call(r, &r->update.call, on_updated);
    r->update.name = r->collection;
    json_decoder_open(&d, &r->x->arena, r->x->core->limits, r->x->body, &r->trail);
    int rc = json_decode_collection_update(&d, &r->update);
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_collection_update(&r->x->api, &r->update);
}

static void on_dropped(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (!rest_end_call(r))
        rest_reply(r, 200, TEXT_LIT("application/json"), TEXT_LIT("{\"deleted\":true}"));
}

void rest_collection_delete(struct rest *r)
{
    rest_begin_call(r, &r->drop.call, on_dropped);
    r->drop.name = r->collection;
    api_collection_delete(&r->x->api, &r->drop);
}

/* ---- health ---- */

void rest_livez(struct rest *r)
{
    if (health_live(r->x->core))
        rest_reply(r, 200, TEXT_LIT("application/json"), TEXT_LIT("{\"live\":true}"));
    else
        rest_reply(r, 503, TEXT_LIT("application/json"), TEXT_LIT("{\"live\":false}"));
}

static void add_readiness(struct rest *r)
{
    const struct transport_core *core = r->x->core;
    buffer_format(&r->out, "\"ready\":%s,\"reasons\":[", core->ready ? "true" : "false");
    if (!core->ready && core->not_ready_reason != NULL)
        json_write_string(&r->out, text_of(core->not_ready_reason));
    buffer_add_lit(&r->out, "]");
    starting_write_progress(&r->out, &core->progress);
}

void rest_readyz(struct rest *r)
{
    rest_open_out(r);
    buffer_add_lit(&r->out, "{");
    add_readiness(r);
    buffer_add_lit(&r->out, "}");
    rest_reply_json(r, r->x->core->ready ? 200 : 503);
}

void rest_health(struct rest *r)
{
    bool live = health_live(r->x->core), ready = r->x->core->ready;
    rest_open_out(r);
    buffer_format(&r->out, "{\"status\":\"%s\",\"version\":\"%s\",\"live\":%s,",
                  live && ready ? "ok" : "unavailable", pdb_version(), live ? "true" : "false");
    add_readiness(r);
    buffer_add_lit(&r->out, "}");
    rest_reply_json(r, live && ready ? 200 : 503);
}

/* ---- facts ---- */

static void on_stats(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (!rest_end_call(r))
        rest_reply(r, 200, TEXT_LIT("text/plain; version=0.0.4; charset=utf-8"),
                   r->stats.metrics_out);
}

void rest_metrics(struct rest *r)
{
    rest_begin_call(r, &r->stats.call, on_stats);
    r->stats.want_metrics = true;
    api_stats(&r->x->api, &r->stats);
}

void rest_info(struct rest *r)
{
    struct pdb_text json;
    uint64_t uptime_s = (clock_monotonic_ns() - r->x->core->started_ns) / 1000000000u;
    if (api_info_json(&r->x->api, r->x->core->db, uptime_s, &r->x->arena, &json) != 0)
        rest_fail(r, trail_add(&r->trail, PDB_RESOURCE_EXHAUSTED, "no memory for the answer"));
    else
        rest_reply(r, 200, TEXT_LIT("application/json"), json);
}

void rest_openapi(struct rest *r)
{
    rest_reply(r, 200, TEXT_LIT("application/json"),
               (struct pdb_text){(const char *)openapi_json, openapi_json_len});
}
