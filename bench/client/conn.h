/* One connection with its calls, over HTTP/2 (gRPC or REST) or HTTP/1.1 (REST). A connection
 * belongs to one thread.
 *
 * The owner submits idle calls to an open connection, tells it about readiness, and asks for
 * conn_flush once it has submitted all it wants; each call ends exactly once, by `ended`. */
#ifndef BENCH_CONN_H
#define BENCH_CONN_H

#include "base/arena.h"
#include "base/list.h"
#include "bench/client/body.h"
#include "bench/client/channel.h"

#include <stdbool.h>
#include <stdint.h>

enum protocol { PROTOCOL_GRPC, PROTOCOL_REST, PROTOCOL_REST2 };

/* Where a request goes; constant while calls use it. */
struct route {
    const char *method; /* gRPC: POST */
    const char *path;
    const char *content_type;
};

enum { CALL_MESSAGE_MAX = 256 };
/* Codes are those of gRPC: 0 for success, for all protocols. */
enum {
    CODE_OK = 0,
    CODE_UNKNOWN = 2,
    CODE_DEADLINE_EXCEEDED = 4,
    CODE_INTERNAL = 13,
    CODE_UNAVAILABLE = 14,
    CODE_COUNT = 17
};

struct conn;

/* Takes the bytes of a reply as they come; false: no more are wanted, and the connection is given
 * up. */
typedef bool call_sink_fn(void *arg, const void *bytes, size_t len);

/* One request and its reply; memory is reused from request to request. */
struct call {
    struct list_link link; /* the owner's: idle calls */
    struct conn *conn;
    const struct route *route;
    struct body body;

    struct buffer reply; /* REST: the body; gRPC: prefix and message */
    call_sink_fn *sink;  /* HTTP/1.1: gets the body of a success instead of `reply`; NULL: none */
    void *sink_arg;
    uint64_t sunk;      /* bytes given to it */
    struct arena arena; /* of decoding the reply; reset with each request */
    int code;
    int http_status;
    bool lost; /* the connection went away: nothing is known about the request */
    char message[CALL_MESSAGE_MAX];

    bool in_flight;
    int32_t stream_id; /* HTTP/2 */
    size_t body_at;    /* HTTP/2: bytes handed over */
    bool reply_ended;  /* HTTP/2: END_STREAM was seen */

    /* the owner's */
    uint64_t op;
    uint64_t start_ns;    /* the intended start */
    uint64_t deadline_ns; /* given up then */
    unsigned attempts;
    bool retry; /* to be sent again once the connection is there */
};

typedef void call_ended_fn(void *owner, struct call *call);

struct conn_settings {
    const struct endpoint *endpoint;
    enum protocol protocol;
    unsigned streams; /* calls; 1 for HTTP/1.1 */
    size_t reply_max; /* bytes */
    call_ended_fn *ended;
    void *owner;
};

struct conn_impl; /* of conn_h2.c or conn_h1.c */

struct conn {
    const struct conn_settings *settings;
    struct channel channel;
    const struct conn_ops *ops;
    struct conn_impl *impl;
    struct call *calls;
    unsigned in_flight;
    bool open;

    /* the owner's */
    uint32_t events; /* what the descriptor is watched for */
    uint64_t retry_ns;
    unsigned failures; /* in a row */
    bool was_up;       /* since the last attempt to connect */
    bool dead;         /* will not be connected again */
};

struct conn_ops {
    int (*make)(struct conn *conn);     /* once; 0 or PDB_RESOURCE_EXHAUSTED */
    int (*start)(struct conn *conn);    /* the channel is open */
    void (*stop)(struct conn *conn);    /* the channel is gone; calls are failed by the caller */
    void (*dispose)(struct conn *conn); /* `make` undone */
    int (*submit)(struct conn *conn, struct call *call);
    int (*feed)(struct conn *conn, const uint8_t *bytes, size_t size);
    int (*flush)(struct conn *conn);
    void (*cancel)(struct conn *conn, struct call *call);
    void (*at_end)(
        struct conn *conn); /* the other side closed; may end a call (HTTP/1.1 without a length) */
};

extern const struct conn_ops conn_h1_ops, conn_h2_ops;

/* `settings` must outlive it. 0 or PDB_RESOURCE_EXHAUSTED. */
int conn_init(struct conn *conn, const struct conn_settings *settings);
void conn_dispose(struct conn *conn);

/* Starts to connect; then readiness is told by conn_ready. 0 or PDB_UNAVAILABLE. */
int conn_connect(struct conn *conn, struct trail *trail);
/* The descriptor is ready. 0, or PDB_UNAVAILABLE: call conn_fail. */
int conn_ready(struct conn *conn, bool readable, bool writable, struct trail *trail);
/* Closes it; calls in flight end with UNAVAILABLE and `lost`. */
void conn_fail(struct conn *conn, const char *why);

/* `call` is one of conn->calls and idle, its route and body are set. 0 or an error: the call did
 * not start. */
int conn_submit(struct conn *conn, struct call *call);
int conn_flush(struct conn *conn);
/* Ends the call with DEADLINE_EXCEEDED; on HTTP/1.1 that costs the connection (PDB_UNAVAILABLE:
 * call conn_fail). */
int conn_give_up(struct conn *conn, struct call *call);

/* For the protocols: ends a call. */
void call_end(struct call *call, int code);

#endif
