/* A reactor: one pinned thread, one loop, and everything that one core owns. It runs in turns of
 * bounded phases:
 *
 *     wait (host)  ->  reap I/O  ->  take mail  ->  timers  ->  tasks for one slice
 *                  ->  end-of-turn hooks  ->  wake peers, submit
 *
 * Callbacks queue work; they do not recurse. Where the thread waits is the host's: h2o's loop in
 * the server (guest_h2o.h; the turn then runs as a zero-length timeout inside h2o_evloop_run), the
 * I/O engine's wait in programs that embed the engine, and nothing at all in
 * simulated tests, which call reactor_turn by hand.
 *
 * Everything here belongs to the reactor's own thread unless it says otherwise. Tasks, timers,
 * mail, hooks and jobs are intrusive: zeroed by the caller before their first use, and alive until
 * they have run or were cancelled. */
#ifndef REACTOR_REACTOR_H
#define REACTOR_REACTOR_H

#include "base/heap.h"
#include "base/list.h"
#include "base/spsc.h"
#include "metrics/histogram.h"
#include "os/io.h"

#include <stdbool.h>
#include <stdint.h>

enum { REACTOR_MAX = 64, REACTOR_OUTSIDE_MAX = 4, REACTOR_SLICE_US = 500 };

struct reactor;
struct reactor_group;

/* ---- tasks: work in budgeted steps ---- */

struct task {
    struct list_link link;
    /* One step. It must return within about 500 us: a longer job checks reactor_slice_over and
     * calls task_queue again. The task may be queued again, or freed, inside. */
    void (*run)(struct task *task);
    const char *name; /* for the stall log; static */
    /* Work that nobody waits for message by message (writes, upkeep): while other tasks are queued,
     * all bulk tasks together get a quarter of the time. Not to be changed while it is queued. */
    bool bulk;
};

/* Queues at the back of its kind; nothing if it is queued already. */
void task_queue(struct reactor *r, struct task *task);
void task_cancel(struct task *task); /* legal on one that is not queued */
/* An answer was made, which the end of this turn will send: bulk tasks let it go first. */
void reactor_hurry(struct reactor *r);
/* True when the running step has used its time: queue again and return. Every call costs one clock
 * read. */
bool reactor_slice_over(const struct reactor *r);

/* ---- timers: monotonic, by a binary heap ---- */

struct timer {
    void (*fire)(struct timer *timer); /* not set any more: it may set it again, or free it */
    uint64_t due_ns;
    uint32_t slot; /* the heap's; 0: not set */
};

/* Sets or moves. 0, or PDB_RESOURCE_EXHAUSTED when the timer heap cannot grow (never when moving).
 * Timers that are due together fire in the order of their times; one that is set by a firing timer
 * fires in a later turn. */
int timer_set(struct reactor *r, struct timer *timer, uint64_t due_ns);
void timer_cancel(struct reactor *r, struct timer *timer); /* legal on one that is not set */

/* ---- mail: values for another core ---- */

/* Embedded in the operation it carries; the operation's memory belongs to the receiver until it is
 * posted back or freed there. */
struct mail {
    struct list_link link; /* the sender's overflow list when the ring is full */
    void (*deliver)(struct reactor *here, struct mail *mail);
    uint16_t from; /* set by mail_post */
};

/* Never fails and never blocks: when the ring to `to` is full, mail waits in order in an overflow
 * list of the sender. Posting to oneself is delivered in the next mail phase. Mail from one core to
 * one other arrives in order. */
void mail_post(struct reactor *r, unsigned to, struct mail *mail);
/* Mail waiting in the overflow list towards `to`: callers that admit new requests refuse above a
 * limit. */
size_t mail_backlog(const struct reactor *r, unsigned to);

/* From any thread that is no reactor (embedders, signal thread): a mutex-guarded inbox of each
 * reactor. `from` is then REACTOR_MAX. The group must not be stopped meanwhile. */
void mail_post_external(struct reactor_group *g, unsigned to, struct mail *mail);

/* ---- end of turn ---- */

struct turn_hook {
    struct list_link link;
    void (*run)(struct turn_hook *hook);
};

/* Runs once at the end of this turn, before submit (log groups are closed here, HTTP/2 sessions are
 * flushed here). Nothing if it is queued already; a hook that queues itself while it runs runs in
 * the next turn. */
void turn_hook_queue(struct reactor *r, struct turn_hook *hook);

/* ---- workers: the companion thread of each reactor ---- */

struct job {
    struct mail back;                 /* deliver = what runs on the owner when it is done */
    void (*compute)(struct job *job); /* on a worker thread; touches only the job's own memory */
    unsigned owner;                   /* set by job_start */
    bool pressed;                     /* set by the worker: it took time from others for it */
    uint64_t took_ns;                 /* set by the worker */
};

/* Hands a job to the worker of core `worker` (its own or another's). Unbounded FIFO per pair;
 * completion by mail whose `from` is the worker's number. A job that has not begun when its group
 * stops is dropped. Numbers from the count of reactors on are the outside workers of
 * reactor_options: only these may wait for something outside this machine. Ending such a job is its
 * owner's business: the group's stop waits for the one that runs. */
void job_start(struct reactor *r, unsigned worker, struct job *job);

/* ---- the reactor ---- */

struct reactor {
    unsigned id, count;
    struct reactor_group *group;
    struct io *io;
    struct heap heap; /* this core's counted heap */
    void *user[8];    /* slots for higher layers: see reactor_slot */
    uint64_t now_ns;  /* monotonic, read once a turn, and by reactor_mark_active after a wait */
    int64_t now_realtime_us;
    struct {
        uint64_t turns, blocked, busy_ns, stalls, mail_taken, wakes_sent, tasks_run;
        uint64_t longest_step_ns, longest_turn_ns; /* of a task; of all phases of a turn */
        struct histogram turn_times; /* of those that found something to do; their sum is busy_ns */
        uint64_t jobs_out;           /* given to workers, and not back yet */
        uint64_t jobs_ns, jobs_pressed_ns; /* that those that are back took; pressed ones of them */
    } stats;
    struct reactor_private *priv;
};

enum reactor_slot {
    REACTOR_SLOT_ENGINE,
    REACTOR_SLOT_TRANSPORT,
    REACTOR_SLOT_METRICS,
    REACTOR_SLOT_TEST,
};

/* The reactor of the calling thread, or NULL. */
struct reactor *reactor_here(void);

/* What a thread waits in. `wait` returns when I/O, mail, a timer or the host's own events are due.
 * Inside whatever context the host needs it calls reactor_turn exactly once per call, or
 * reactor_turn_idle where reactor_has_work says that there is nothing to do. timeout_ns 0: do not
 * block; < 0: no limit. */
struct reactor_host {
    /* On the reactor's thread; 0 or PDB_. */
    int (*start)(struct reactor *r, void *arg, void **host_out);
    void (*wait)(struct reactor *r, void *host, int64_t timeout_ns);
    /* Work was queued outside a turn, from one of the host's own callbacks: a turn must follow. May
     * be NULL. */
    void (*work_came)(struct reactor *r, void *host);
    void (*stop)(struct reactor *r, void *host);
    void *arg;
};
extern const struct reactor_host reactor_host_plain; /* waits in the I/O engine */

struct reactor_options {
    unsigned count; /* 1..REACTOR_MAX; may exceed the machine's cores */
    bool pin;       /* reactor i to the i-th (mod n) core that the process may use */
    unsigned spin_us;
    enum io_engine_choice io_engine;
    const struct reactor_host *host; /* NULL: plain */
    size_t heap_bytes_max;           /* per core; 0: none */
    unsigned outside_workers;        /* 0..REACTOR_OUTSIDE_MAX, for calls that may hang */
    /* Run on each reactor's thread, all cores in parallel, when every reactor can be posted to; a
     * failure stops the group and is told by reactor_group_start. `stop` is the mirror image, at
     * the end, on those that started. */
    int (*start)(struct reactor *r, void *arg);
    void (*stop)(struct reactor *r, void *arg);
    void *arg;
    struct sim_disk *sim; /* tests: no threads, the caller turns the reactors itself; else NULL */
};

/* Makes all reactors and their workers, waits until every `start` has returned. On failure
 * everything is undone and the first error is returned; *reason_out: static or thread-local text,
 * also set to the reason of a fallback to `threads` on success, else NULL. PDB_INVALID_ARGUMENT for
 * a count out of range. */
int reactor_group_start(const struct reactor_options *options, struct reactor_group **group_out,
                        const char **reason_out);
/* Asks all to end after their current turn and joins the threads. The higher layers have drained
 * before. Not from a reactor's thread. NULL is legal. */
void reactor_group_stop(struct reactor_group *g);
unsigned reactor_group_count(const struct reactor_group *g);
struct reactor *reactor_group_at(struct reactor_group *g, unsigned id);

/* One turn without waiting. True if there was anything to do. Used by hosts and simulated tests. */
bool reactor_turn(struct reactor *r);
/* The end of a turn only: touches nothing of the higher layers; hands what was started to the
 * disk. */
void reactor_turn_idle(struct reactor *r);
/* True if a turn would find something to do. */
bool reactor_has_work(struct reactor *r);
/* Nanoseconds until the earliest timer, 0 if work is queued, -1 if there is nothing. */
int64_t reactor_wait_ns(struct reactor *r);
/* What waits at this moment. Looks at every list and ring: for scrapes, on the reactor's thread. */
struct reactor_depths {
    uint64_t mail; /* to be taken here, and to be sent where another core's ring is full */
    uint64_t tasks;
};
struct reactor_depths reactor_depths(const struct reactor *r);
/* A descriptor event of the host (a socket was read): counts as activity, so that spinning goes on,
 * and renews now_ns after a wait. To be called first in every callback that the host's own events
 * run. */
void reactor_mark_active(struct reactor *r);

#endif
