/* One thread of a run: its event loop and its connections. */
#ifndef BENCH_WORKER_H
#define BENCH_WORKER_H

#include "bench/client/run.h"

#include <pthread.h>

/* Where threads wait for each other: they arrive, and the main thread lets them go. */
struct worker_gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned arrived;
    bool open;
};

/* What the threads of one group share. */
struct worker_shared {
    _Atomic uint64_t op_next;
    _Atomic bool stop;      /* interrupted */
    _Atomic unsigned alive; /* threads that still run */
};

struct worker {
    const struct run_group *group;
    struct worker_shared *shared;
    unsigned index; /* of group->threads */
    struct conn_settings conn_settings;
    struct conn *conns;
    unsigned conn_count;
    int epoll_fd, timer_fd;

    struct list idle; /* calls that can be submitted now */
    unsigned in_flight, retries;
    unsigned dead_count;

    uint64_t start_ns, count_from_ns, end_ns; /* end_ns: UINT64_MAX without a duration */
    double interval_ns; /* constant rate: between two starts; 0: closed loop */
    uint64_t started;   /* operations taken from the schedule */
    uint64_t tick_ns;
    bool closing; /* nothing new is started */
    uint64_t closing_ns;
    uint64_t last_ns;  /* of the last answer */
    unsigned lost_now; /* calls that were lost with a connection, while it is failed */
    char why[CALL_MESSAGE_MAX];

    pthread_t thread;
    bool thread_started;
    struct worker_gate *gate; /* passed when connected and the clock is set */
    int rc;
    pthread_mutex_t lock; /* of `recent` and `all`, which the main thread reads each second */
    struct tally *recent, *all;
};

/* Threads of a group number from 0; `index` has connections index, index + threads, ... 0 or an
 * error. */
int worker_init(struct worker *worker, const struct run_group *group, struct worker_shared *shared,
                unsigned index, struct trail *trail);
void worker_dispose(struct worker *worker);

/* Opens all connections: 0, or PDB_UNAVAILABLE with worker->why. */
int worker_connect(struct worker *worker);
/* Sends until the group's limits, the schedule or an interruption end it. start_ns .. end_ns are
 * set. */
void worker_run(struct worker *worker);

#endif
