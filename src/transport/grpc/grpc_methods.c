/* grpc_methods.c: the methods of the gRPC door, by path, and how a unary one is answered. */
#include "transport/grpc/grpc_call.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

/* ---- answers ---- */

/* What REST says in `details` has to be in the text here. */
void grpc_finish_error(struct exchange *x, const struct pdb_error *error)
{
    const char *text = error->text[0] != '\0' ? error->text : pdb_error_text(error->code);
    char with_details[PDB_ERROR_TEXT_MAX + 128];
    if (error->outcome_unknown)
        (void)snprintf(with_details, sizeof(with_details),
                       "%s (the outcome is unknown; repeating it with the same request_id is safe)",
                       text);
    else if (error->has_current_version)
        (void)snprintf(with_details, sizeof(with_details), "%s (current_version %llu)", text,
                       (unsigned long long)error->current_version);
    else
        (void)snprintf(with_details, sizeof(with_details), "%s", text);
    x->ops->grpc_finish(x, pdb_error_grpc(error->code), text_of(with_details));
}

void grpc_finish_code(struct exchange *x, int code, const char *text)
{
    struct pdb_error error = {.code = code};
    (void)snprintf(error.text, sizeof(error.text), "%s", text);
    grpc_finish_error(x, &error);
}

void grpc_finish_trail(struct exchange *x, int code, const struct trail *trail)
{
    grpc_finish_code(x, code, trail->len != 0 ? trail->text : pdb_error_text(code));
}

/* ---- unary methods ---- */

static void unary_gone(struct exchange *x)
{
    grpc_call_cancel(x->handler);
}

static void unary_ended(struct grpc_call *c, const struct pdb_error *error)
{
    struct exchange *x = c->x;
    struct pdb_text bytes;
    x->on_gone = NULL;
    if (error != NULL) {
        grpc_finish_error(x, error);
    } else if (protobuf_writer_finish(&c->reply.writer, &bytes) < 0) {
        grpc_finish_code(x, PDB_RESOURCE_EXHAUSTED, "no memory for the reply");
    } else {
        x->ops->grpc_send(x, bytes);
        x->ops->grpc_finish(x, 0, (struct pdb_text){"", 0});
    }
}

static void run_unary(struct exchange *x, struct pdb_text message,
                      const struct grpc_operation *operation, enum pdb_write_kind kind)
{
    struct grpc_call *c = arena_new(&x->arena, struct grpc_call);
    if (c == NULL) {
        grpc_finish_code(x, PDB_RESOURCE_EXHAUSTED, "no memory for the call");
        return;
    }
    c->x = x;
    c->arena = &x->arena;
    c->message = message;
    c->operation = operation;
    c->write_kind = kind;
    c->deadline_ns = x->deadline_ns;
    c->ended = unary_ended;
    x->handler = c;
    x->on_gone = unary_gone;
    grpc_call_begin(c);
}

#define UNARY(function, operation, kind)                                                           \
    static void function(struct exchange *x, struct pdb_text message)                              \
    {                                                                                              \
        run_unary(x, message, &(operation), kind);                                                 \
    }
UNARY(on_create_collection, grpc_create_collection, PDB_WRITE_UPSERT)
UNARY(on_list_collections, grpc_list_collections, PDB_WRITE_UPSERT)
UNARY(on_get_collection, grpc_get_collection, PDB_WRITE_UPSERT)
UNARY(on_update_collection, grpc_update_collection, PDB_WRITE_UPSERT)
UNARY(on_delete_collection, grpc_delete_collection, PDB_WRITE_UPSERT)
UNARY(on_upsert, grpc_write, PDB_WRITE_UPSERT)
UNARY(on_insert, grpc_write, PDB_WRITE_INSERT)
UNARY(on_update, grpc_write, PDB_WRITE_UPDATE)
UNARY(on_get, grpc_get, PDB_WRITE_UPSERT)
UNARY(on_delete, grpc_delete, PDB_WRITE_UPSERT)
UNARY(on_scroll, grpc_scroll, PDB_WRITE_UPSERT)
UNARY(on_count, grpc_count, PDB_WRITE_UPSERT)
UNARY(on_search, grpc_search, PDB_WRITE_UPSERT)
UNARY(on_search_batch, grpc_search_batch, PDB_WRITE_UPSERT)
UNARY(on_get_recall, grpc_get_recall, PDB_WRITE_UPSERT)
UNARY(on_get_info, grpc_get_info, PDB_WRITE_UPSERT)
UNARY(on_get_metrics, grpc_get_metrics, PDB_WRITE_UPSERT)
UNARY(on_create_snapshot, grpc_create_snapshot, PDB_WRITE_UPSERT)
UNARY(on_list_snapshots, grpc_list_snapshots, PDB_WRITE_UPSERT)
UNARY(on_get_snapshot, grpc_get_snapshot, PDB_WRITE_UPSERT)
UNARY(on_delete_snapshot, grpc_delete_snapshot, PDB_WRITE_UPSERT)
UNARY(on_restore_snapshot, grpc_restore_snapshot, PDB_WRITE_UPSERT)

/* ---- the table ---- */

#define SERVICE          "/proximadb.v1.ProximaDB/"
#define REFLECTION       "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
#define REFLECTION_ALPHA "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

static const struct grpc_method methods[] = {
    {.path = SERVICE "Search", .operation = API_OP_search, .message = on_search},
    {.path = SERVICE "Upsert", .operation = API_OP_upsert, .message = on_upsert},
    {.path = SERVICE "SearchBatch", .operation = API_OP_search_batch, .message = on_search_batch},
    {.path = SERVICE "Get", .operation = API_OP_get, .message = on_get},
    {.path = SERVICE "Insert", .operation = API_OP_insert, .message = on_insert},
    {.path = SERVICE "Update", .operation = API_OP_update, .message = on_update},
    {.path = SERVICE "Delete", .operation = API_OP_delete, .message = on_delete},
    {.path = SERVICE "Scroll", .operation = API_OP_scroll, .message = on_scroll},
    {.path = SERVICE "Count", .operation = API_OP_count, .message = on_count},
    {.path = SERVICE "BulkUpsert",
     .operation = API_OP_bulk_upsert,
     .client_streaming = true,
     .message = grpc_bulk_message,
     .half_close = grpc_bulk_half_close,
     .broken = grpc_bulk_broken},
    {.path = SERVICE "CreateCollection",
     .operation = API_OP_collection_create,
     .message = on_create_collection},
    {.path = SERVICE "ListCollections",
     .operation = API_OP_collection_list,
     .message = on_list_collections},
    {.path = SERVICE "GetCollection",
     .operation = API_OP_collection_get,
     .message = on_get_collection},
    {.path = SERVICE "UpdateCollection",
     .operation = API_OP_collection_update,
     .message = on_update_collection},
    {.path = SERVICE "DeleteCollection",
     .operation = API_OP_collection_delete,
     .message = on_delete_collection},
    {.path = SERVICE "GetRecall", .operation = API_OP_recall, .message = on_get_recall},
    {.path = SERVICE "GetInfo", .operation = API_OP_info, .message = on_get_info},
    {.path = SERVICE "GetMetrics", .operation = API_OP_metrics, .message = on_get_metrics},
    {.path = SERVICE "CreateSnapshot",
     .operation = API_OP_snapshot_create,
     .message = on_create_snapshot},
    {.path = SERVICE "ListSnapshots",
     .operation = API_OP_snapshot_list,
     .message = on_list_snapshots},
    {.path = SERVICE "GetSnapshot", .operation = API_OP_snapshot_get, .message = on_get_snapshot},
    {.path = SERVICE "DeleteSnapshot",
     .operation = API_OP_snapshot_delete,
     .message = on_delete_snapshot},
    {.path = SERVICE "RestoreSnapshot",
     .operation = API_OP_snapshot_restore,
     .message = on_restore_snapshot},
    {.path = SERVICE "DownloadSnapshot",
     .operation = API_OP_snapshot_download,
     .server_streaming = true,
     .message = grpc_download_message},
    {.path = SERVICE "UploadSnapshot",
     .operation = API_OP_snapshot_upload,
     .client_streaming = true,
     .message = grpc_upload_message,
     .half_close = grpc_upload_half_close,
     .broken = grpc_upload_broken},
    {.path = "/grpc.health.v1.Health/Check", .operation = API_OP_health, .message = health_check},
    {.path = "/grpc.health.v1.Health/Watch",
     .operation = API_OP_health,
     .server_streaming = true,
     .message = health_watch},
    {.path = REFLECTION,
     .operation = API_OP_openapi,
     .client_streaming = true,
     .server_streaming = true,
     .message = reflection_message,
     .half_close = reflection_half_close,
     .broken = reflection_broken},
    {.path = REFLECTION_ALPHA,
     .operation = API_OP_openapi,
     .client_streaming = true,
     .server_streaming = true,
     .message = reflection_message,
     .half_close = reflection_half_close,
     .broken = reflection_broken},
};

const struct grpc_method *grpc_method_find(struct pdb_text path)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (text_equal(path, text_of(methods[i].path)))
            return &methods[i];
    return NULL;
}
