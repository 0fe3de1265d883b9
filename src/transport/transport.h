/* The doors of one reactor: listeners, connections, and what their exchanges share. */
#ifndef TRANSPORT_TRANSPORT_H
#define TRANSPORT_TRANSPORT_H

#include "api/api.h"
#include "base/list.h"
#include "metrics/metrics.h"
#include "reactor/reactor.h"

struct transport; /* one per process */

struct transport_listener {
    const char *address; /* "127.0.0.1", "::1", "0.0.0.0", "*" */
    uint16_t port;       /* 0: the system chooses one (tests); see transport_port */
};

struct transport_options {
    const struct transport_listener *listeners;
    size_t listener_count;
    /* paths; NULL: cleartext only. With TLS, cleartext is refused on non-loopback listeners unless
     * insecure. */
    const char *tls_cert, *tls_key;
    bool insecure;
    const struct api_limits *limits;
    const char *const *cors_origins;
    size_t cors_origin_count;
    unsigned shutdown_timeout_s;
};

/* Opens every listener (one SO_REUSEPORT socket per listener and core). 0 or PDB_ with the text in
 * error. */
int transport_new(const struct transport_options *options, unsigned core_count,
                  struct transport **transport_out, struct pdb_error *error);
void transport_free(struct transport *t);
/* The port a listener really has. */
uint16_t transport_port(const struct transport *t, size_t listener_index);

/* From here until the first core starts, one thread answers probes on the ports: the process lives,
 * is not ready, and is so far. 0 or PDB_RESOURCE_EXHAUSTED, without which the server starts as
 * well. */
int transport_starting(struct transport *t);
/* From any thread (pdb_options.progress): what it says. */
void transport_starting_progress(struct transport *t, const struct pdb_progress *progress);

/* On each reactor's thread (pdb_options.core_start / core_stop). */
int transport_core_start(struct transport *t, struct pdb *db, struct reactor *r,
                         struct pdb_error *error);
void transport_core_stop(struct transport *t, struct pdb *db, struct reactor *r);

/* From any thread: no new connections, requests in flight finish. transport_drained is true once
 * every core has no exchange left, or when the time is over. */
void transport_drain(struct transport *t);
bool transport_wait_drained(struct transport *t, unsigned timeout_ms);

/* What exchanges of one core share. */
struct transport_core {
    struct transport *transport;
    struct pdb *db;
    struct reactor *reactor;
    const struct api_limits *limits;
    uint64_t started_ns; /* of the process, for uptime */
    bool draining;
    /* Health as last seen, refreshed at least every second by pdb_stats; Watch streams are told on
     * a change. */
    bool ready;
    const char *not_ready_reason; /* static; NULL when ready */
    struct pdb_progress progress; /* what is still read behind the doors, as last seen */
    struct list watchers;         /* of grpc health Watch exchanges */
    size_t exchanges;             /* under way */
    struct metrics *metrics;      /* this core's; the engine made it */
    struct transport_core_private *priv;
};

#endif
