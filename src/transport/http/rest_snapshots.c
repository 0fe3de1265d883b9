/* rest_snapshots.c: snapshots: made, listed, described, deleted and restored. Their archives:
 * rest_archive.c. */
#include "transport/http/rest.h"

#include "base/no_libc_heap.h"

static void on_created(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    json_encode_snapshot(&r->out, &r->snapshot_create.info_out);
    rest_reply_json(r, 201);
}

void rest_snapshot_create(struct rest *r)
{
    struct json_decoder d;
    rest_begin_call(r, &r->snapshot_create.call, on_created);
    json_decoder_open(&d, &r->x->arena, r->x->core->limits, r->x->body, &r->trail);
    int rc = json_decode_snapshot(&d, &r->snapshot_create);
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_snapshot_create(&r->x->api, &r->snapshot_create);
}

static void on_listed(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    json_encode_snapshots(&r->out, &r->snapshot_list);
    rest_reply_json(r, 200);
}

void rest_snapshot_list(struct rest *r)
{
    uint64_t limit = 0;
    bool given;
    rest_begin_call(r, &r->snapshot_list.call, on_listed);
    (void)rest_query_param(r, "cursor", &r->snapshot_list.after);
    int rc = rest_query_number(r, "limit", UINT32_MAX, &given, &limit);
    r->snapshot_list.limit = (uint32_t)limit;
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_snapshot_list(&r->x->api, &r->snapshot_list);
}

static void on_described(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    json_encode_snapshot(&r->out, &r->snapshot_get.info_out);
    rest_reply_json(r, 200);
}

void rest_snapshot_get(struct rest *r)
{
    rest_begin_call(r, &r->snapshot_get.call, on_described);
    r->snapshot_get.name = r->snapshot;
    api_snapshot_get(&r->x->api, &r->snapshot_get);
}

static void on_deleted(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (!rest_end_call(r))
        rest_reply(r, 200, TEXT_LIT("application/json"), TEXT_LIT("{\"deleted\":true}"));
}

void rest_snapshot_delete(struct rest *r)
{
    rest_begin_call(r, &r->snapshot_delete.call, on_deleted);
    r->snapshot_delete.name = r->snapshot;
    api_snapshot_delete(&r->x->api, &r->snapshot_delete);
}

static void on_restored(struct pdb_call *call)
{
    struct rest *r = rest_of(call);
    if (rest_end_call(r))
        return;
    rest_open_out(r);
    json_encode_collection(&r->out, &r->snapshot_restore.info_out);
    rest_reply_json(r, 201);
}

void rest_snapshot_restore(struct rest *r)
{
    struct json_decoder d;
    rest_begin_call(r, &r->snapshot_restore.call, on_restored);
    r->snapshot_restore.name = r->snapshot;
    json_decoder_open(&d, &r->x->arena, r->x->core->limits, r->x->body, &r->trail);
    int rc = json_decode_restore(&d, &r->snapshot_restore);
    if (rc != 0)
        rest_fail(r, rc);
    else
        api_snapshot_restore(&r->x->api, &r->snapshot_restore);
}
