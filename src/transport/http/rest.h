/* The REST door's own pieces: inside transport/http only. */
#ifndef TRANSPORT_HTTP_REST_H
#define TRANSPORT_HTTP_REST_H

#include "reactor/reactor.h"
#include "transport/codec/json_requests.h"
#include "transport/codec/json_responses.h"
#include "transport/exchange.h"
#include "transport/transport.h"

/* One REST request under way: in the exchange's arena. The union has the engine's call of the
 * operation. */
struct rest {
    struct trail trail; /* its text is not zeroed */
    struct exchange *x;
    struct pdb_text collection, id, snapshot; /* decoded from the path */
    struct task task;                         /* decoding or encoding in steps */
    struct buffer out;
    struct json_rows_encoder encoder;
    struct pdb_call *call; /* the one under way, else NULL */
    /* Everything from here on is zeroed by rest_begin_call only: probes need none of it. */
    union {
        struct pdb_collection_create create;
        struct pdb_collection_list list;
        struct pdb_collection_get describe;
        struct pdb_collection_update update;
        struct pdb_collection_delete drop;
        struct pdb_write write;
        struct pdb_delete delete_records;
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
    struct pdb_query query;
    union {
        struct json_write_decoder decoder;
        struct json_search_batch_decoder batch_decoder;
    };
};

typedef void rest_handler(struct rest *r);

rest_handler rest_collection_create, rest_collection_list, rest_collection_get,
    rest_collection_update, rest_collection_delete, rest_upsert, rest_insert, rest_update,
    rest_get_one, rest_get, rest_delete_one, rest_delete, rest_scroll, rest_count, rest_search,
    rest_search_batch, rest_recall, rest_health, rest_livez, rest_readyz, rest_metrics, rest_info,
    rest_openapi, rest_snapshot_create, rest_snapshot_list, rest_snapshot_get, rest_snapshot_delete,
    rest_snapshot_restore, rest_snapshot_download, rest_snapshot_upload;

/* Prepares the call of this request: deadline, cancellation, `done`. */
void rest_begin_call(struct rest *r, struct pdb_call *call, void (*done)(struct pdb_call *call));
/* In `done`: ends the cancellation; true if the call failed and the error was answered. */
bool rest_end_call(struct rest *r);
struct rest *rest_of(struct pdb_call *call);

/* Answers. */
void rest_reply(struct rest *r, int status, struct pdb_text content_type, struct pdb_text body);
void rest_reply_json(struct rest *r, int status); /* what is in r->out */
void rest_reply_rows(struct rest *r);             /* r->encoder, in steps */
/* A body that follows in pieces: then ops->respond_piece and respond_end. */
void rest_begin_pieces(struct exchange *x, struct exchange_response *response, uint64_t body_bytes);
void rest_fail(struct rest *r, int code); /* with the trail */
void rest_open_out(struct rest *r);
/* The value of a query parameter, percent-decoded into the arena; false if it is not there. */
bool rest_query_param(struct rest *r, const char *name, struct pdb_text *value_out);
/* The same for a whole number up to `most`: *given_out tells whether it is there. 0 or
 * PDB_INVALID_ARGUMENT. */
int rest_query_number(struct rest *r, const char *name, uint64_t most, bool *given_out,
                      uint64_t *value_out);

#endif
