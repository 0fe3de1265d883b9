/* One function per operation, protocol-neutral: limits and rights are checked here, so that no door
 * can forget them; what protects the data itself (dimensions, types, ids) is checked in the engine,
 * for programs that embed it too.
 *
 * A door decodes a request into the engine's call structure, fills in the context, and calls api_*;
 * the call's `done` comes exactly once, maybe before api_* returns. */
#ifndef API_API_H
#define API_API_H

#include <proximadb/proximadb.h>
#include <proximadb/snapshot.h>

enum api_right {
    API_RIGHT_NONE,
    API_RIGHT_READ,
    API_RIGHT_WRITE,
    API_RIGHT_ADMIN,
    API_RIGHT_METRICS
};

/* The one table of operations: routes, gRPC methods, rights and metric labels come from it.
 * X(name, REST method, REST path, gRPC method, right). "" : this door has another way to it (see
 * docs/api). {c}: collection, {id}: record, {s}: snapshot. */
#define API_OPERATIONS(X)                                                                          \
    X(collection_create, "POST", "/v1/collections", "CreateCollection", API_RIGHT_ADMIN)           \
    X(collection_list, "GET", "/v1/collections", "ListCollections", API_RIGHT_READ)                \
    X(collection_get, "GET", "/v1/collections/{c}", "GetCollection", API_RIGHT_READ)               \
    X(collection_update, "PATCH", "/v1/collections/{c}", "UpdateCollection", API_RIGHT_ADMIN)      \
    X(collection_delete, "DELETE", "/v1/collections/{c}", "DeleteCollection", API_RIGHT_ADMIN)     \
    X(upsert, "PUT", "/v1/collections/{c}/vectors", "Upsert", API_RIGHT_WRITE)                     \
    X(bulk_upsert, "", "", "BulkUpsert", API_RIGHT_WRITE)                                          \
    X(insert, "POST", "/v1/collections/{c}/vectors", "Insert", API_RIGHT_WRITE)                    \
    X(update, "PATCH", "/v1/collections/{c}/vectors", "Update", API_RIGHT_WRITE)                   \
    X(get_one, "GET", "/v1/collections/{c}/vectors/{id}", "", API_RIGHT_READ)                      \
    X(get, "POST", "/v1/collections/{c}/vectors/get", "Get", API_RIGHT_READ)                       \
    X(delete_one, "DELETE", "/v1/collections/{c}/vectors/{id}", "", API_RIGHT_WRITE)               \
    X(delete, "POST", "/v1/collections/{c}/vectors/delete", "Delete", API_RIGHT_WRITE)             \
    X(scroll, "POST", "/v1/collections/{c}/vectors/scroll", "Scroll", API_RIGHT_READ)              \
    X(count, "POST", "/v1/collections/{c}/vectors/count", "Count", API_RIGHT_READ)                 \
    X(search, "POST", "/v1/collections/{c}/search", "Search", API_RIGHT_READ)                      \
    X(search_batch, "POST", "/v1/collections/{c}/search/batch", "SearchBatch", API_RIGHT_READ)     \
    X(recall, "GET", "/v1/collections/{c}/recall", "GetRecall", API_RIGHT_READ)                    \
    X(snapshot_create, "POST", "/v1/snapshots", "CreateSnapshot", API_RIGHT_ADMIN)                 \
    X(snapshot_list, "GET", "/v1/snapshots", "ListSnapshots", API_RIGHT_READ)                      \
    X(snapshot_get, "GET", "/v1/snapshots/{s}", "GetSnapshot", API_RIGHT_READ)                     \
    X(snapshot_delete, "DELETE", "/v1/snapshots/{s}", "DeleteSnapshot", API_RIGHT_ADMIN)           \
    X(snapshot_restore, "POST", "/v1/snapshots/{s}/restore", "RestoreSnapshot", API_RIGHT_ADMIN)   \
    X(snapshot_download, "GET", "/v1/snapshots/{s}/archive", "DownloadSnapshot", API_RIGHT_ADMIN)  \
    X(snapshot_upload, "PUT", "/v1/snapshots/{s}/archive", "UploadSnapshot", API_RIGHT_ADMIN)      \
    X(health, "GET", "/health", "", API_RIGHT_NONE)                                                \
    X(livez, "GET", "/livez", "", API_RIGHT_NONE)                                                  \
    X(readyz, "GET", "/readyz", "", API_RIGHT_NONE)                                                \
    X(metrics, "GET", "/metrics", "GetMetrics", API_RIGHT_METRICS)                                 \
    X(info, "GET", "/v1/info", "GetInfo", API_RIGHT_READ)                                          \
    X(openapi, "GET", "/openapi.json", "", API_RIGHT_READ)

enum api_operation {
#define API_OPERATION_ENUM(name, method, path, grpc, right) API_OP_##name,
    API_OPERATIONS(API_OPERATION_ENUM)
#undef API_OPERATION_ENUM
        API_OPERATION_COUNT
};

struct api_operation_row {
    const char *name, *rest_method, *rest_path, *grpc_method;
    enum api_right right;
};
extern const struct api_operation_row api_operation_rows[API_OPERATION_COUNT];

/* Configured limits, shown in /v1/info; units in the names. Filled from the configuration;
 * api_limits_default has the values of docs/api/limits.md. */
struct api_limits {
    uint64_t body_bytes, inflight_body_bytes_per_core;
    uint64_t archive_bytes; /* of an uploaded snapshot, which is not kept in memory */
    uint32_t url_bytes, header_bytes, headers;
    uint32_t connections, connections_per_address, streams_per_connection;
    uint32_t handshake_s, header_s, idle_s, blocked_write_s, request_deadline_s;
    uint32_t batch_records, k, batch_searches, filter_depth, filter_leaves, json_depth;
    uint32_t id_bytes, metadata_bytes, dimension, collections;
    uint32_t scroll_records; /* largest page */
};
extern const struct api_limits api_limits_default;

/* Who asks, and under which limits. One per request, set by the door. */
struct api_context {
    const struct api_limits *limits;
    struct pdb_text call_id;
    struct pdb_text peer; /* the socket's address */
};

/* RESOURCE_EXHAUSTED or INVALID_ARGUMENT at once past a limit (call->error is filled, done is
 * called); else the engine's start. */
void api_collection_create(const struct api_context *ctx, struct pdb_collection_create *c);
void api_collection_list(const struct api_context *ctx, struct pdb_collection_list *c);
void api_collection_get(const struct api_context *ctx, struct pdb_collection_get *c);
void api_collection_update(const struct api_context *ctx, struct pdb_collection_update *c);
void api_collection_delete(const struct api_context *ctx, struct pdb_collection_delete *c);
void api_write(const struct api_context *ctx, struct pdb_write *w);
void api_delete(const struct api_context *ctx, struct pdb_delete *d);
void api_get(const struct api_context *ctx, struct pdb_get *g);
void api_scroll(const struct api_context *ctx, struct pdb_scroll *s);
void api_count(const struct api_context *ctx, struct pdb_count *c);
void api_search(const struct api_context *ctx, struct pdb_search *s); /* one query or a batch */
void api_recall(const struct api_context *ctx, struct pdb_recall *r);
void api_stats(const struct api_context *ctx, struct pdb_stats *s);
void api_snapshot_create(const struct api_context *ctx, struct pdb_snapshot_create *s);
void api_snapshot_list(const struct api_context *ctx, struct pdb_snapshot_list *l);
void api_snapshot_get(const struct api_context *ctx, struct pdb_snapshot_get *g);
void api_snapshot_delete(const struct api_context *ctx, struct pdb_snapshot_delete *d);
void api_snapshot_restore(const struct api_context *ctx, struct pdb_snapshot_restore *r);
/* What follows a begin is the same stream: its calls go to the engine directly, but for the pieces
 * of an upload. `received`: bytes of the archive with this piece. */
void api_snapshot_read_begin(const struct api_context *ctx, struct pdb_snapshot_read_begin *b);
void api_snapshot_write_begin(const struct api_context *ctx, struct pdb_snapshot_write_begin *b);
void api_snapshot_write_next(const struct api_context *ctx, struct pdb_snapshot_write_next *n,
                             uint64_t received);

/* The document of GET /v1/info, JSON in the arena. */
int api_info_json(const struct api_context *ctx, const struct pdb *db, uint64_t uptime_s,
                  struct arena *arena, struct pdb_text *json_out);

#endif
