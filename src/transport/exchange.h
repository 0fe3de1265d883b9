/* An exchange: one request and its answer, whatever brought it (HTTP/1 through h2o, a stream of
 * HTTP/2, gRPC). The connection code makes it, hands it to rest_dispatch or to a gRPC method, and
 * ends it when it was answered; the handlers see nothing of sockets.
 *
 * Lifetime: the arena holds everything of the request and the answer. It lives until the answer has
 * been handed to the socket AND no engine call is under way: a handler that starts a call keeps the
 * exchange by not answering yet. When the client leaves first, `gone` is set, on_gone is called (it
 * cancels the call), and the handler still answers exactly once; the answer is then dropped. */
#ifndef TRANSPORT_EXCHANGE_H
#define TRANSPORT_EXCHANGE_H

#include "api/api.h"
#include "base/arena.h"
#include "base/buffer.h"
#include "base/text.h"
#include "base/trail.h"

enum { EXCHANGE_CALL_ID_MAX = 64, EXCHANGE_HEADER_MAX = 8 };

struct transport_core; /* what the exchanges of one reactor share: transport.h */
struct exchange;

struct exchange_header {
    struct pdb_text name, value; /* lower-case names; memory of the arena or static */
};

struct exchange_response {
    int status;                   /* HTTP */
    struct pdb_text content_type; /* static or arena; len 0: no body */
    struct pdb_text body;         /* static or in the exchange's arena */
    struct exchange_header headers[EXCHANGE_HEADER_MAX];
    size_t header_count;
};

struct exchange_ops {
    /* REST: the whole answer, exactly once; the handler must not touch the exchange afterwards. */
    void (*respond)(struct exchange *x, const struct exchange_response *response);
    /* REST, in place of respond, for a body that is made while it is sent: status, headers and how
     * long it will be. */
    void (*respond_begin)(struct exchange *x, const struct exchange_response *response,
                          uint64_t body_bytes);
    /* Its next piece. The bytes stay as they are until x->on_sent. */
    void (*respond_piece)(struct exchange *x, struct pdb_text piece);
    /* Ends it, exactly once, like respond. `whole` false: so that the client sees the cut. */
    void (*respond_end)(struct exchange *x, bool whole);
    /* Bodies in pieces: the handler is ready for the first one, or has used up the last one, whose
     * memory goes. */
    void (*body_more)(struct exchange *x);
    /* gRPC: queues one message (without the 5-byte prefix; bytes stay until the exchange ends, or
     * until grpc_sent for streams). */
    void (*grpc_send)(struct exchange *x, struct pdb_text message);
    /* gRPC: ends it, exactly once, like respond. `message` is plain UTF-8; percent-encoding is done
     * below. */
    void (*grpc_finish)(struct exchange *x, int grpc_status, struct pdb_text message);
    /* gRPC client streams: the message given last was used up; its memory goes, the next one may be
     * delivered. */
    void (*grpc_consumed)(struct exchange *x);
};

struct grpc_method;

/* A handler that takes its body in pieces while it comes. */
struct exchange_pieces {
    /* The next one; after ops->body_more only. It stays as it is until the next body_more. */
    void (*piece)(struct exchange *x, struct pdb_text piece);
    /* The body is complete; after ops->body_more only. */
    void (*end)(struct exchange *x);
    /* What the client sends is broken (framing, memory, pace): nothing more comes. The handler
     * answers with the error when what it has under way has ended. */
    void (*broken)(struct exchange *x, const struct pdb_error *error);
};

/* How fast the pieces of a body come: what has come, in the time in which it was waited for. */
struct exchange_pace {
    uint64_t received, waited_ns, looked_ns;
};

struct exchange {
    struct transport_core *core;
    const struct exchange_ops *ops;
    struct arena arena;

    /* the request; texts live as long as the exchange */
    struct pdb_text method, path /* percent-encoded, no query */, query, content_type,
        content_encoding, authority;
    struct pdb_text origin, access_request_method, access_request_headers; /* CORS */
    struct pdb_text timeout; /* x-request-timeout, or grpc-timeout */
    struct pdb_text body;    /* REST: whole */
    bool http2;
    /* The body comes in pieces: the handler sets `pieces` and calls ops->body_more. */
    bool body_in_pieces;
    const struct exchange_pieces *pieces;
    struct exchange_pace pace;
    /* x-request-id: taken over when well-formed, else made */
    char call_id[EXCHANGE_CALL_ID_MAX + 1];
    struct pdb_text peer;
    struct api_context api; /* filled by exchange_begin */
    uint64_t received_ns, deadline_ns;

    bool gone;
    /* set by a handler with a call under way; NULL otherwise */
    void (*on_gone)(struct exchange *x);
    /* What respond_piece or grpc_send took is on its way and its memory free; NULL: nobody asks. */
    void (*on_sent)(struct exchange *x);
    bool sending_pieces;            /* between respond_begin and respond_end */
    void *handler, *handler_more;   /* the handler's own state, in the arena */
    const struct grpc_method *grpc; /* gRPC only */
    /* set by dispatch, for metrics; API_OPERATION_COUNT: none */
    enum api_operation operation;
};

/* True if a client's x-request-id may be taken over: 1 to 64 of A-Z a-z 0-9 - _. */
bool exchange_call_id_is_good(struct pdb_text id);
/* Fills call_id (`offered_id`: the client's x-request-id), api and deadline_ns (from `timeout` and
 * the limits) once the request's fields are set. 0, or PDB_INVALID_ARGUMENT for a malformed
 * timeout; everything is filled in then, too, so that the error can be answered. */
int exchange_begin(struct exchange *x, struct pdb_text offered_id, struct trail *trail);

/* Once a second or so; `waiting`: the next piece is the client's to send. True if the body is
 * slower than 1 KiB/s, not counting 10 seconds. */
bool exchange_too_slow(struct exchange *x, bool waiting, uint64_t now_ns);

/* Count the answer: status and time since the whole request was there. */
void exchange_count_http(const struct exchange *x, int status);
void exchange_count_grpc(const struct exchange *x, int grpc_status);

/* False if the request names a host that is not this machine's loopback although its
 * listener is. */
bool exchange_host_allowed(const struct exchange *x, bool loopback_only);

/* ---- the two ways in; implemented by transport/http/rest*.c and transport/grpc/grpc_*.c ---- */

/* Finds the route, decodes, calls the api, encodes; answers exactly once through ops->respond, now
 * or later. */
void rest_dispatch(struct exchange *x);
/* True if the operation of this method and path takes its body in pieces: it is dispatched as soon
 * as the head is there. */
bool rest_takes_pieces(struct pdb_text method, struct pdb_text path);
/* An error as the REST body of docs/api/errors.md: {"error":{"code":..,"message":..,"details":{}}}.
 * Also used by the connection code itself (413, 431, ...). */
void rest_respond_error(struct exchange *x, const struct pdb_error *error);

/* One gRPC method. */
struct grpc_method {
    const char *path; /* "/proximadb.v1.ProximaDB/Search" */
    enum api_operation operation;
    bool client_streaming, server_streaming;
    /* unary and server streaming: the one message; client streaming: each message, the next only
     * after ops->grpc_consumed. `message` stays valid until the exchange ends (until grpc_consumed
     * for client streams). */
    void (*message)(struct exchange *x, struct pdb_text message);
    /* client streaming: the client has sent its last message (called after that one was consumed).
     * NULL for the others: the connection code checks that there was exactly one message. */
    void (*half_close)(struct exchange *x);
    /* client streaming: what the client sends is broken (framing, size, memory): no more messages
     * come. Called instead of answering once a message was delivered and x->handler is set, because
     * calls may be under way; the handler ends the exchange with the error when they have ended. */
    void (*broken)(struct exchange *x, const struct pdb_error *error);
};
/* NULL: UNIMPLEMENTED. */
const struct grpc_method *grpc_method_find(struct pdb_text path);
void grpc_finish_error(struct exchange *x, const struct pdb_error *error);

#endif
