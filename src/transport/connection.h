/* Connections of one reactor: from accept to close, and the limits that hold for each. Inside the
 * transport only. */
#ifndef TRANSPORT_CONNECTION_H
#define TRANSPORT_CONNECTION_H

#include "base/list.h"
#include "transport/exchange.h"
#include "transport/starting.h"
#include "transport/transport.h"

#include <h2o.h>

enum connection_kind { CONNECTION_NEW, CONNECTION_TLS, CONNECTION_HTTP1, CONNECTION_HTTP2 };

enum { CONNECTION_PEER_MAX = 64 };

struct h2_session;
struct h1_upload;

/* Lives from accept until the socket is closed (its on_close callback frees it). */
struct connection {
    struct list_link link; /* in transport_core_private.connections */
    struct transport_core *core;
    h2o_socket_t *sock;
    struct h2_session *h2;        /* CONNECTION_HTTP2 */
    struct exchange *h1_exchange; /* CONNECTION_HTTP1: the one under way */
    struct h1_upload *upload;     /* CONNECTION_HTTP1: h2o has not got this connection */
    enum connection_kind kind;
    unsigned exchanges; /* under way */
    /* its listener is on a loopback address and the server is not insecure: Host is checked */
    bool loopback_only;
    bool cut; /* shut down by the sweep; the owner of the socket will close it */
    struct timeval connected_at;
    /* what the sweep remembers; monotonic nanoseconds, 0: not so now */
    uint64_t opened_ns, idle_since_ns, request_since_ns, blocked_since_ns;
    size_t request_start_bytes; /* bytes_read when the request under way began */
    uint64_t acked_bytes;       /* TCP_INFO at the last look */
    size_t seen_read;
    uint64_t address_hash;
    char peer[CONNECTION_PEER_MAX];
    uint8_t peer_len;
};

struct transport {
    struct transport_options options;
    struct ssl_ctx_st *tls;
    h2o_globalconf_t h2o;
    unsigned core_count;
    int *listener_fds; /* [core][listener]; -1 once a core has taken it */
    uint16_t *ports;
    bool *loopback; /* per listener */
    int drained_fd; /* eventfd: each core adds 1 when it has drained */
    unsigned drained_seen;
    uint64_t started_ns;
    struct starting *starting; /* NULL: nobody answers before the doors open */
    struct transport_core **cores;
};

struct listener_socket {
    h2o_socket_t *sock;
    struct transport_core *core;
    bool loopback_only;
};

/* Connections of one address on this core: a small open-addressing table, so that a flood costs no
 * allocation. */
struct address_count {
    uint64_t hash;
    uint32_t connections;
};

struct transport_core_private {
    struct transport_core *core;
    h2o_loop_t *loop;
    h2o_context_t h2o;
    h2o_accept_ctx_t h1_accept;
    struct listener_socket *listeners;
    size_t listener_count;
    struct list connections;
    size_t connection_count;
    struct address_count *addresses; /* limits.connections rounded up to a power of two, x 2 */
    size_t address_slots;
    struct timer sweep;
    uint64_t sweep_due_ns;      /* the next full sweep; looks before it mind only the body budget */
    struct list free_exchanges; /* HTTP/1's, kept with their first arena chunk */
    size_t free_exchange_count;
    uint64_t h2_body_bytes;   /* of unfinished HTTP/2 requests */
    struct list free_streams; /* HTTP/2's, likewise */
    size_t free_stream_count;
    bool accept_paused, drained_told;
    bool windows_held; /* some stream's flow-control window waits for the body budget */
    struct mail drain_mail, health_mail;
    uint64_t health_seen_ns;    /* when core 0's last health word came */
    struct health_probe *probe; /* core 0 only */
    uint64_t call_id_seed, call_id_next;
};

/* ---- connection.c ---- */

/* Accepts what waits on a listener, up to a batch. */
void connection_on_accept(h2o_socket_t *listener, const char *err);
/* Makes a connection's owner close it: directly when it is ours, by shutdown(2) when h2o or nghttp2
 * own the socket. */
void connection_cut(struct connection *c);
struct connection *connection_of(h2o_socket_t *sock);

/* ---- sweep.c ---- */

/* Once a second: enforces header, body rate, idle, stall and handshake times, the body budget, and
 * notices clients that left. */
void sweep_start(struct transport_core *core);

/* ---- transport.c ---- */

/* Tells the drainer when this core has nothing left. */
void transport_check_drained(struct transport_core *core);

/* ---- health.c ---- */

int health_start(struct transport_core *core);
void health_stop(struct transport_core *core);

/* ---- http/h1.c ---- */

void h1_configure(h2o_globalconf_t *config, const struct api_limits *limits);
void h1_accept(struct connection *c);
/* Tells the exchange under way on this connection, if any, that nobody waits for it any more. */
void h1_client_left(struct connection *c);
void h1_dispose_pool(struct transport_core *core);

const char *h1_reason_phrase(int status);

/* ---- http/h1_upload.c ---- */

/* An HTTP/1 connection: if its first request has a body that is taken in pieces, this has it until
 * the end; else h1_accept gets it. */
void h1_upload_accept(struct connection *c);
/* The socket is being closed. */
void h1_upload_closed(struct connection *c);
/* From the sweep: true if the connection is to be cut. */
bool h1_upload_is_late(struct connection *c, uint64_t now_ns);

/* ---- grpc/h2.c ---- */

void h2_accept(struct connection *c);
/* GOAWAY; the connection closes when its last stream has ended. */
void h2_shutdown(struct connection *c);
/* Gives back flow-control windows that were held while the core's body budget was used up. */
void h2_release_windows(struct transport_core *core);
/* Ends bodies in pieces that come too slowly. */
void h2_look_at_bodies(struct connection *c, uint64_t now_ns);
void h2_dispose_pool(struct transport_core *core);

#endif
