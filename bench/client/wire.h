/* One connection with one request at a time, waited for: HTTP/1.1, for programs that have nothing
 * else to do meanwhile. A lost connection is made again by the next call. */
#ifndef BENCH_CLIENT_WIRE_H
#define BENCH_CLIENT_WIRE_H

#include "bench/client/conn.h"

struct wire {
    struct conn_settings settings;
    struct conn conn;
    uint64_t timeout_ns;
    bool ended; /* the call under way */
};

struct wire_reply {
    int code;             /* CODE_*, as gRPC counts them */
    bool lost;            /* the connection went away: nothing is known about the request */
    const char *message;  /* of an error */
    struct pdb_text body; /* until the next call */
};

/* It must not move, and `endpoint` must outlive it. Does not connect yet. `reply_max`: bytes. 0 or
 * PDB_RESOURCE_EXHAUSTED. */
int wire_open(struct wire *wire, const struct endpoint *endpoint, double timeout_s,
              size_t reply_max);
void wire_close(struct wire *wire); /* legal on a zeroed one */

enum { WIRE_PIECE_MAX = 4 };
/* Sends a request whose body is the pieces one after the other, and waits for the answer: whatever
 * that is stands in *reply_out. */
void wire_call(struct wire *wire, const struct route *route, const struct pdb_text *pieces,
               size_t piece_count, struct wire_reply *reply_out);
/* The same without a body, and that of a success goes to `sink` as it comes, however long it is;
 * the time limit counts from the last bytes. While nothing comes the sink is asked about each
 * second, with no bytes. Where the answer is cut off, or the sink wants no more, `lost` is set. */
void wire_stream(struct wire *wire, const struct route *route, call_sink_fn *sink, void *arg,
                 struct wire_reply *reply_out);
/* The same for requests that may be repeated: again after a lost connection, UNAVAILABLE or
 * RESOURCE_EXHAUSTED, up to `tries` times with growing pauses, at most two seconds each. */
void wire_call_patiently(struct wire *wire, const struct route *route,
                         const struct pdb_text *pieces, size_t piece_count, unsigned tries,
                         struct wire_reply *reply_out);

#endif
