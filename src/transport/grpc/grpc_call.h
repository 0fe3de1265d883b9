/* One message of gRPC on its way through the engine: decoded in steps, started, encoded in steps.
 * Inside transport/grpc only. */
#ifndef TRANSPORT_GRPC_GRPC_CALL_H
#define TRANSPORT_GRPC_GRPC_CALL_H

#include "transport/codec/protobuf_replies.h"
#include "transport/codec/protobuf_requests.h"
#include "transport/exchange.h"
#include "transport/transport.h"

struct grpc_call;

/* What differs between the methods. A step returns 1: there is more; 0: done; negative: an error,
 * told in c->trail. */
struct grpc_operation {
    int (*decode)(struct grpc_call *c);
    /* Starts the engine's call in c->engine; it was initialised by the runner. */
    void (*start)(struct grpc_call *c);
    int (*encode)(struct grpc_call *c); /* into c->reply; NULL: there is none */
};

enum grpc_phase { GRPC_DECODING, GRPC_RUNNING, GRPC_ENCODING };

/* The calls all begin with a struct pdb_call. */
union grpc_engine_call {
    struct pdb_call call;
    struct pdb_collection_create create;
    struct pdb_collection_list list;
    struct pdb_collection_get describe;
    struct pdb_collection_update update;
    struct pdb_collection_delete drop;
    struct pdb_write write;
    struct pdb_delete delete;
    struct pdb_get get;
    struct pdb_scroll scroll;
    struct pdb_count count;
    struct pdb_search search;
    struct pdb_recall recall;
    struct pdb_stats stats;
    struct pdb_snapshot_create snapshot_create;
    struct pdb_snapshot_list snapshot_list;
    struct pdb_snapshot_get snapshot_get;
    struct pdb_snapshot_delete snapshot_delete;
    struct pdb_snapshot_restore snapshot_restore;
};

struct grpc_call {
    struct exchange *x;
    struct arena *arena; /* the exchange's, or its own */
    struct pdb_text message;
    const struct grpc_operation *operation;
    uint64_t deadline_ns;
    enum pdb_write_kind write_kind; /* of writes */
    /* The last thing that happens to the call, exactly once: it may be freed inside. error NULL:
     * the reply is in c->reply. */
    void (*ended)(struct grpc_call *c, const struct pdb_error *error);
    /* Both may be NULL. Around the start of a write, so that an owner of several can keep their
     * order; the call may have ended in between. */
    void (*issuing)(void *owner);
    void (*issued)(void *owner);
    void *owner;
    /* the runner's */
    struct task task;
    enum grpc_phase phase;
    struct trail trail;
    union grpc_engine_call engine;
    struct pdb_collection_get lookup; /* of a write that does not tell how many vectors it has */
    bool looking_up;
    union {
        struct protobuf_write_decoder write;
        struct protobuf_search_decoder search;
    } decoder;
    struct protobuf_reply reply;
};

/* Begins: x, arena, message, operation, deadline_ns and ended are set, the rest is zero. */
void grpc_call_begin(struct grpc_call *c);
/* The client left. Only between begin and ended. */
void grpc_call_cancel(struct grpc_call *c);

/* The operations: grpc_operations.c. Tables, so that grpc_methods.c is one list. */
extern const struct grpc_operation grpc_create_collection, grpc_list_collections,
    grpc_get_collection, grpc_update_collection, grpc_delete_collection, grpc_write, grpc_update,
    grpc_get, grpc_delete, grpc_scroll, grpc_count, grpc_search, grpc_search_batch, grpc_get_recall,
    grpc_get_info, grpc_get_metrics, grpc_create_snapshot, grpc_list_snapshots, grpc_get_snapshot,
    grpc_delete_snapshot, grpc_restore_snapshot;
extern const struct grpc_operation grpc_bulk_write; /* as grpc_write, without a reply */

/* ---- handlers of streams ---- */

/* A stream that may stay open for long, in transport_core.watchers: it is told when the health
 * changes and when the server begins to stop, because it would hold up the stop. The first member
 * of its handler's state. */
struct grpc_watcher {
    struct list_link link;
    struct exchange *x;
    /* May end the exchange, and with it the watcher. */
    void (*news)(struct grpc_watcher *w);
};

void grpc_bulk_message(struct exchange *x, struct pdb_text message);
void grpc_bulk_half_close(struct exchange *x);
void grpc_bulk_broken(struct exchange *x, const struct pdb_error *error);
void grpc_download_message(struct exchange *x, struct pdb_text message);
void grpc_upload_message(struct exchange *x, struct pdb_text message);
void grpc_upload_half_close(struct exchange *x);
void grpc_upload_broken(struct exchange *x, const struct pdb_error *error);
void health_check(struct exchange *x, struct pdb_text message);
void health_watch(struct exchange *x, struct pdb_text message);
void reflection_message(struct exchange *x, struct pdb_text message);
void reflection_half_close(struct exchange *x);
void reflection_broken(struct exchange *x, const struct pdb_error *error);

/* Ends the exchange with an error of ours. */
void grpc_finish_code(struct exchange *x, int code, const char *text);
void grpc_finish_trail(struct exchange *x, int code, const struct trail *trail);

#endif
