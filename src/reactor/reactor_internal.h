/* The insides of a reactor, for src/reactor only. */
#ifndef REACTOR_REACTOR_INTERNAL_H
#define REACTOR_REACTOR_INTERNAL_H

#include "reactor/reactor.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdalign.h>
#include <stdatomic.h>

/* ---- channels: one direction between two threads (mailbox.c) ---- */

struct channel { /* the receiver's; items are struct mail * */
    struct spsc ring;
    _Atomic bool starved; /* the sender has more than fits: tell it when there is room */
};

struct outbox { /* the sender's end */
    struct channel *channel;
    struct list overflow;
    size_t backlog;
};

/* `count` channels in one block; NULL: no memory. Free with heap_free(NULL, ...). */
struct channel *channels_new(unsigned count);
void outbox_init(struct outbox *out, struct channel *channel);
void outbox_post(struct outbox *out, struct mail *mail);
void outbox_flush(struct outbox *out);
/* True if a flush would move something. */
bool outbox_can_flush(const struct outbox *out);
struct mail *channel_take(struct channel *channel);
bool channel_empty(struct channel *channel);
/* Receiver, after taking and after a seq_cst fence: true once if the sender waits for room. */
bool channel_relieve(struct channel *channel);

/* ---- workers (worker.c) ---- */

enum worker_pace {
    WORKER_CALM,    /* takes only processor time that nobody else wants */
    WORKER_PRESSED, /* takes its share of it */
    WORKER_PACES,
};

struct worker;

struct worker_thread {
    struct worker *worker;
    enum worker_pace pace;
    pthread_t thread;
    sem_t turn;
};

/* One at a time of its threads takes its jobs: the one whose turn it is. */
struct worker {
    struct reactor_group *group;
    unsigned id;
    struct channel *jobs;   /* [count], by reactor */
    struct outbox *results; /* [count], by owner */
    struct worker_thread threads[WORKER_PACES];
    unsigned threads_begun; /* the last ones; an outside worker has no calm one */
    sem_t sleep;
    alignas(64) _Atomic bool sleeping;
    _Atomic bool stop;
    _Atomic unsigned pace; /* whose turn it is */
};

/* 0 or PDB_. Its threads start only with worker_run. */
int worker_init(struct worker *w, struct reactor_group *g, unsigned id);
int worker_run(struct worker *w);
void worker_stop(struct worker *w); /* joins; only after worker_run */
void worker_dispose(struct worker *w);
/* Sender, after a seq_cst fence: wakes it if it sleeps. */
void worker_wake(struct worker *w);
/* Runs at most one job on the calling thread (simulated groups). True if there was one. */
bool worker_step(struct worker *w);
/* Whose turn it is next, after a thread that had something to do for `wanted_ns` ran for `ran_ns`
 * of it. Pure. */
enum worker_pace worker_judge(enum worker_pace pace, uint64_t ran_ns, uint64_t wanted_ns);

/* ---- timers (timer.c) ---- */

struct timer_heap {
    struct timer **slots; /* from 1 */
    uint32_t count, capacity;
};

void timers_dispose(struct reactor *r);
bool timers_run(struct reactor *r);
/* UINT64_MAX: none. */
uint64_t timers_earliest(const struct reactor *r);

/* ---- one core ---- */

struct reactor_private {
    struct list tasks, bulk_tasks, hooks;
    int64_t bulk_debt_ns; /* of others' time that bulk steps have still to let pass; < 0: earned */
    unsigned bulk_passed; /* turns in a row in which they let others go first */
    bool hurry;           /* this turn has an answer to send */
    struct timer_heap timers;
    uint64_t slice_end_ns;

    struct channel *inbox;   /* [count], by sending reactor */
    struct channel *results; /* [count + outside], by worker */
    struct outbox *to_peers, *to_workers;
    struct list self_mail;
    size_t self_waiting; /* in it; the mark that deliver_list puts there is none */
    /* Whom this turn concerns, one bit each. */
    uint64_t posted, taken, overflowing;
    uint64_t jobs_posted, results_taken, jobs_overflowing;
    uint64_t outside_posted, outside_taken, outside_overflowing; /* of the outside workers */

    const struct reactor_host *host;
    void *host_state;
    bool in_turn;
    bool noted;  /* work was queued outside a turn, and the host was told */
    bool waited; /* now_ns may be old */
    bool opened; /* host_state is valid */
    uint64_t activity, activity_seen, idle_since_ns;
    pthread_t thread;

    pthread_mutex_t external_lock;
    struct list external; /* under the lock */

    /* What other threads read and write, away from the rest. */
    alignas(64) _Atomic bool sleeping;
    _Atomic bool external_waiting;
    _Atomic bool stop;
};

/* The one place where a reactor's clock moves: operations are timed by it, too. */
static inline void reactor_read_clock(struct reactor *r)
{
    r->now_ns = r->io->clock_ns = r->io->ops->now_ns(r->io);
    r->now_realtime_us = r->io->ops->realtime_us(r->io);
}

/* Tells the host once that a turn must follow. */
void reactor_note_work(struct reactor *r);
/* Sets what reactor_here says on this thread; returns what it said before. */
struct reactor *reactor_set_here(struct reactor *r);

/* The turn's phases that are elsewhere. */
bool tasks_run(struct reactor *r);    /* task.c */
bool mailbox_take(struct reactor *r); /* mailbox.c */
bool mailbox_has_work(struct reactor *r);
uint64_t mailbox_depth(const struct reactor *r);
void mailbox_end_turn(struct reactor *r); /* flushes overflow lists, wakes who sleeps */
int mailbox_init(struct reactor *r);      /* 0 or PDB_RESOURCE_EXHAUSTED */
void mailbox_dispose(struct reactor *r);
/* From any thread, after publishing and a seq_cst fence. */
void reactor_wake_any(struct reactor *r);

/* Of the cores and, behind them, the outside ones. */
struct worker *reactor_worker(struct reactor_group *g, unsigned id);
unsigned reactor_outside_count(const struct reactor_group *g);
bool reactor_group_simulated(const struct reactor_group *g);
unsigned reactor_group_spin_us(const struct reactor_group *g);

#endif
