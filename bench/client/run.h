/* A run: threads, each with its share of the connections, that send requests of one or more groups
 * until they are done, and what came of it. */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "bench/client/conn.h"
#include "bench/client/hdr.h"

#include <stdatomic.h>

/* Makes requests and judges replies. Called from several threads, for different calls. */
struct workload {
    /* Sets route and body of call->op. 0, or an error that ends the run. */
    int (*prepare)(void *state, struct call *call);
    /* A reply with code 0: returns how many records it stands for. May set code and message: then
     * it is an error. */
    uint64_t (*check)(void *state, struct call *call);
    void *state;
};

struct run_group {
    const char *name; /* "load", "search" */
    const struct endpoint *endpoint;
    struct workload workload;
    enum protocol protocol;
    bool reconnect;
    unsigned connections, streams, threads; /* threads <= connections */
    double rate;                            /* operations a second; 0: closed loop */
    uint64_t op_max;                        /* 0: until duration_s */
    double duration_s;                      /* 0: until op_max */
    double warmup_s;                        /* at the start, not counted */
    double timeout_s;                       /* of one request */
    size_t reply_max;
};

struct tally {
    struct hdr latency; /* of all answered requests, errors too; from the intended start */
    uint64_t op_count;  /* answered without error */
    uint64_t record_count;
    uint64_t error_count;
    uint64_t errors[CODE_COUNT];
    char messages[CODE_COUNT][CALL_MESSAGE_MAX]; /* the first of each code */
    uint64_t request_bytes, reply_bytes;         /* bodies */
    uint64_t retried;
    uint64_t not_started; /* constant rate: due before the end, but no stream was free in time */
    uint64_t abandoned;   /* in flight when the run was interrupted */
};

void tally_add(struct tally *into, const struct tally *from);

struct run_result {
    struct tally tally;
    double elapsed_s; /* from the end of the warm-up to the last answer */
};

/* What happened since the last call, for each group; `seconds` since the start. From the calling
 * thread, each second and once at the end. */
typedef void run_tick_fn(void *arg, double seconds, const struct run_result *recent,
                         const struct run_result *all, size_t group_count);

/* Runs the groups at once. `results_out`: one for each. SIGINT or SIGTERM ends it early:
 * *interrupted_out. 0, or an error when nothing could be run: no connection, no memory. */
int run_groups(const struct run_group *groups, size_t group_count, run_tick_fn *tick,
               void *tick_arg, struct run_result *results_out, bool *interrupted_out,
               struct trail *trail);

/* One request on a connection of its own: its code, message and reply (in `arena`) in *call_out. 0
 * or PDB_UNAVAILABLE. */
struct run_reply {
    int code;
    int http_status;
    struct pdb_text body; /* gRPC: without the prefix */
    char message[CALL_MESSAGE_MAX];
};
int run_once(const struct endpoint *endpoint, enum protocol protocol, const struct route *route,
             struct pdb_text body, struct arena *arena, struct run_reply *reply_out,
             struct trail *trail);

#endif
