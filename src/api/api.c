/* api.c: every operation's limits, checked once for all doors before the engine sees it.
 *
 * Rights: until keys and tokens exist, who can reach a listener may do everything; listeners are on
 * loopback unless the configuration says otherwise. The table of operations carries the right of
 * each already, so that no operation can be added without one. */
#include "api/api.h"

#include <stdarg.h>
#include <stdio.h>

/* Ends the call at once. */
__attribute__((format(printf, 4, 5))) static void refuse(struct pdb_call *call, int code,
                                                         int http_status, const char *format, ...)
{
    va_list args;
    call->error = (struct pdb_error){.code = code, .http_status = http_status};
    va_start(args, format);
    (void)vsnprintf(call->error.text, sizeof(call->error.text), format, args);
    va_end(args);
    call->done(call);
}

static bool too_many(struct pdb_call *call, const char *what, uint64_t count,
                     const char *limit_name, uint64_t limit)
{
    if (count <= limit)
        return false;
    refuse(call, PDB_INVALID_ARGUMENT, 0, "%s: %llu is more than limits.%s (%llu)", what,
           (unsigned long long)count, limit_name, (unsigned long long)limit);
    return true;
}

static bool none(struct pdb_call *call, const char *what, uint64_t count)
{
    if (count != 0)
        return false;
    refuse(call, PDB_INVALID_ARGUMENT, 0, "%s: must not be empty", what);
    return true;
}

void api_collection_create(const struct api_context *ctx, struct pdb_collection_create *c)
{
    for (uint32_t i = 0; i < c->config.field_count; i++)
        if (too_many(&c->call, "dimension", c->config.fields[i].dimension, "dimension",
                     ctx->limits->dimension))
            return;
    pdb_collection_create_start(c);
}

void api_collection_list(const struct api_context *ctx, struct pdb_collection_list *c)
{
    (void)ctx;
    pdb_collection_list_start(c);
}

void api_collection_get(const struct api_context *ctx, struct pdb_collection_get *c)
{
    (void)ctx;
    pdb_collection_get_start(c);
}

void api_collection_update(const struct api_context *ctx, struct pdb_collection_update *c)
{
    (void)ctx;
    pdb_collection_update_start(c);
}

void api_collection_delete(const struct api_context *ctx, struct pdb_collection_delete *c)
{
    (void)ctx;
    pdb_collection_delete_start(c);
}

void api_write(const struct api_context *ctx, struct pdb_write *w)
{
    const struct api_limits *limits = ctx->limits;
    if (none(&w->call, w->call.batch_name, w->record_count) ||
        too_many(&w->call, w->call.batch_name, w->record_count, "batch_records",
                 limits->batch_records))
        return;
    for (uint32_t i = 0; i < w->record_count; i++) {
        const struct pdb_record *r = &w->records[i];
        if (r->id.len > limits->id_bytes) {
            refuse(&w->call, PDB_INVALID_ARGUMENT, 0,
                   "%s[%u].id: %zu bytes is more than limits.id_bytes (%u)", w->call.batch_name, i,
                   r->id.len, limits->id_bytes);
            return;
        }
        if (r->metadata.len > limits->metadata_bytes) {
            refuse(&w->call, PDB_INVALID_ARGUMENT, 0,
                   "%s[%u].metadata: %zu bytes is more than limits.metadata_bytes (%u)",
                   w->call.batch_name, i, r->metadata.len, limits->metadata_bytes);
            return;
        }
    }
    pdb_write_start(w);
}

void api_delete(const struct api_context *ctx, struct pdb_delete *d)
{
    if (d->has_filter == (d->id_count != 0)) {
        refuse(&d->call, PDB_INVALID_ARGUMENT, 0, "exactly one of ids and filter must be given");
        return;
    }
    if (!too_many(&d->call, "ids", d->id_count, "batch_records", ctx->limits->batch_records))
        pdb_delete_start(d);
}

void api_get(const struct api_context *ctx, struct pdb_get *g)
{
    if (!none(&g->call, "ids", g->id_count) &&
        !too_many(&g->call, "ids", g->id_count, "batch_records", ctx->limits->batch_records))
        pdb_get_start(g);
}

void api_scroll(const struct api_context *ctx, struct pdb_scroll *s)
{
    if (s->limit == 0)
        s->limit = 100;
    if (!too_many(&s->call, "limit", s->limit, "scroll_records", ctx->limits->scroll_records))
        pdb_scroll_start(s);
}

void api_count(const struct api_context *ctx, struct pdb_count *c)
{
    (void)ctx;
    pdb_count_start(c);
}

void api_search(const struct api_context *ctx, struct pdb_search *s)
{
    if (none(&s->call, "queries", s->query_count) ||
        too_many(&s->call, "queries", s->query_count, "batch_searches",
                 ctx->limits->batch_searches))
        return;
    for (uint32_t i = 0; i < s->query_count; i++)
        if (none(&s->call, "k", s->queries[i].k) ||
            too_many(&s->call, "k", s->queries[i].k, "k", ctx->limits->k))
            return;
    pdb_search_start(s);
}

void api_recall(const struct api_context *ctx, struct pdb_recall *r)
{
    if (!too_many(&r->call, "k", r->k, "k", ctx->limits->k))
        pdb_recall_start(r);
}

void api_snapshot_create(const struct api_context *ctx, struct pdb_snapshot_create *s)
{
    (void)ctx;
    pdb_snapshot_create_start(s);
}

void api_snapshot_list(const struct api_context *ctx, struct pdb_snapshot_list *l)
{
    (void)ctx;
    pdb_snapshot_list_start(l);
}

void api_snapshot_get(const struct api_context *ctx, struct pdb_snapshot_get *g)
{
    (void)ctx;
    pdb_snapshot_get_start(g);
}

void api_snapshot_delete(const struct api_context *ctx, struct pdb_snapshot_delete *d)
{
    (void)ctx;
    pdb_snapshot_delete_start(d);
}

void api_snapshot_restore(const struct api_context *ctx, struct pdb_snapshot_restore *r)
{
    (void)ctx;
    pdb_snapshot_restore_start(r);
}

void api_snapshot_read_begin(const struct api_context *ctx, struct pdb_snapshot_read_begin *b)
{
    (void)ctx;
    pdb_snapshot_read_begin_start(b);
}

void api_snapshot_write_begin(const struct api_context *ctx, struct pdb_snapshot_write_begin *b)
{
    (void)ctx;
    pdb_snapshot_write_begin_start(b);
}

void api_snapshot_write_next(const struct api_context *ctx, struct pdb_snapshot_write_next *n,
                             uint64_t received)
{
    if (received > ctx->limits->archive_bytes)
        refuse(&n->call, PDB_RESOURCE_EXHAUSTED, 413,
               "the archive is larger than limits.archive_bytes (%llu)",
               (unsigned long long)ctx->limits->archive_bytes);
    else
        pdb_snapshot_write_next_start(n);
}

void api_stats(const struct api_context *ctx, struct pdb_stats *s)
{
    static const char *const names[] = {
#define API_OPERATION_NAME(name, method, path, grpc, right) #name,
        API_OPERATIONS(API_OPERATION_NAME)
#undef API_OPERATION_NAME
    };
    static const char *const methods[] = {
#define API_METHOD_NAME(name, method, path, grpc, right) grpc,
        API_OPERATIONS(API_METHOD_NAME)
#undef API_METHOD_NAME
    };
    (void)ctx;
    s->operation_names = names;
    s->method_names = methods;
    s->operation_count = API_OPERATION_COUNT;
    pdb_stats_start(s);
}
