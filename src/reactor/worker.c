/* Workers: one companion thread per reactor for long computation, at a priority that takes only
 * what nobody wants, and a few outside workers of no reactor, for calls that wait for a network.
 *
 * A worker with SCHED_IDLE may stand still for long, so it must never hold anything that a reactor
 * waits for: jobs and results travel through rings, and the worker sleeps on a semaphore, whose
 * post is lock-free. It is not pinned: the kernel gives it whichever core is idle. Jobs come in
 * through one ring per reactor, results go out through one ring per owner; both have overflow
 * lists, as between reactors.
 *
 * Where no core is ever idle, SCHED_IDLE gives a worker a three hundredth of one: memory would
 * fill, segments pile up, and searches slow down for want of an index, which keeps the cores busy.
 * So a worker has two threads, a calm one and a pressed one of nearly usual priority, which take
 * turns, for a process without privileges cannot raise a thread's priority again. The turn goes to
 * the pressed one when the calm one got less than a tenth of the time in which it had something to
 * do, and back when the pressed one gets more than it would on busy cores (docs/decisions/0025). */
#include "reactor/reactor_internal.h"

#include "base/assert.h"
#include "os/process.h"

#include <errno.h>
#include <proximadb/error.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum {
    PRESSED_NICE = 5,
    LOOK_EVERY_MS = 100,
    JUDGE_EVERY_MS = 500, /* of having something to do */
    STARVED_PERCENT = 10, /* of it, running; below: the pressed one's turn */
    FED_PERCENT = 40,     /* above: the calm one's; on busy cores a pressed one gets a quarter */
};

static void post_result(struct worker *w, struct job *job)
{
    unsigned owner = job->owner;
    job->back.from = (uint16_t)w->id;
    outbox_post(&w->results[owner], &job->back);
    outbox_flush(&w->results[owner]); /* marks it starved when it is full */
    atomic_thread_fence(memory_order_seq_cst);
    if (!reactor_group_simulated(w->group))
        reactor_wake_any(reactor_group_at(w->group, owner));
}

/* Pushes results that did not fit, and tells owners. */
static void flush_results(struct worker *w)
{
    unsigned count = reactor_group_count(w->group);
    for (unsigned i = 0; i != count; ++i) {
        if (w->results[i].backlog == 0)
            continue;
        outbox_flush(&w->results[i]);
        atomic_thread_fence(memory_order_seq_cst);
        if (!reactor_group_simulated(w->group))
            reactor_wake_any(reactor_group_at(w->group, i));
    }
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void compute(const struct worker *w, struct job *job)
{
    job->took_ns = 0;
    job->pressed = false;
    if (reactor_group_simulated(w->group)) { /* has a clock of its own, and no priorities */
        job->compute(job);
        return;
    }
    uint64_t begun_ns = clock_ns();
    job->compute(job);
    job->took_ns = clock_ns() - begun_ns;
    job->pressed = w->id < reactor_group_count(w->group) &&
                   atomic_load_explicit(&w->pace, memory_order_relaxed) == WORKER_PRESSED;
}

bool worker_step(struct worker *w)
{
    unsigned count = reactor_group_count(w->group);
    flush_results(w);
    for (unsigned i = 0; i != count; ++i) {
        struct mail *mail = channel_take(&w->jobs[i]);
        if (mail == NULL)
            continue;
        atomic_thread_fence(memory_order_seq_cst);
        if (channel_relieve(&w->jobs[i]) && !reactor_group_simulated(w->group))
            reactor_wake_any(reactor_group_at(w->group, i));
        struct job *job = container_of(mail, struct job, back);
        compute(w, job);
        post_result(w, job);
        return true;
    }
    return false;
}

static bool has_work(struct worker *w)
{
    unsigned count = reactor_group_count(w->group);
    for (unsigned i = 0; i != count; ++i) {
        if (!channel_empty(&w->jobs[i]) || outbox_can_flush(&w->results[i]))
            return true;
    }
    return false;
}

static void sleep_until_woken(struct worker *w)
{
    atomic_store_explicit(&w->sleeping, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (has_work(w) || atomic_load_explicit(&w->stop, memory_order_relaxed)) {
        /* Whoever cleared the flag meanwhile has posted: the next wait returns early once, which is
         * harmless. */
        atomic_store_explicit(&w->sleeping, false, memory_order_relaxed);
        return;
    }
    while (sem_wait(&w->sleep) != 0)
        ASSERT(errno == EINTR);
}

/* ---- whose turn it is ---- */

/* One that waits for others most of the time: it may compute when it does, or an archive would fall
 * behind on a busy machine. */
static bool is_outside(const struct worker *w)
{
    return w->id >= reactor_group_count(w->group);
}

/* Some sandboxes refuse SCHED_IDLE; the lowest nice value is nearly as good. */
static void set_priority(enum worker_pace pace)
{
    struct sched_param none = {0};
    if (pace == WORKER_PRESSED)
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), PRESSED_NICE);
    else if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &none) != 0)
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
}

/* What a thread gets of the processors. */
struct share {
    int fd;
    uint64_t looked_ns;
    struct process_thread_times judged; /* at the last judgement */
};

static uint64_t milliseconds(uint64_t ms)
{
    return ms * 1000000;
}

enum worker_pace worker_judge(enum worker_pace pace, uint64_t ran_ns, uint64_t wanted_ns)
{
    if (wanted_ns < milliseconds(JUDGE_EVERY_MS))
        return pace;
    if (pace == WORKER_CALM)
        return ran_ns < wanted_ns / 100 * STARVED_PERCENT ? WORKER_PRESSED : WORKER_CALM;
    return ran_ns > wanted_ns / 100 * FED_PERCENT ? WORKER_CALM : WORKER_PRESSED;
}

static enum worker_pace judge(struct share *share, enum worker_pace pace)
{
    struct process_thread_times times;
    uint64_t now_ns = clock_ns();
    if (now_ns - share->looked_ns < milliseconds(LOOK_EVERY_MS))
        return pace;
    share->looked_ns = now_ns;
    if (!process_thread_times(share->fd, &times))
        return pace;
    uint64_t ran_ns = times.ran_ns - share->judged.ran_ns;
    uint64_t wanted_ns = ran_ns + times.waited_ns - share->judged.waited_ns;
    if (wanted_ns >= milliseconds(JUDGE_EVERY_MS))
        share->judged = times;
    return worker_judge(pace, ran_ns, wanted_ns);
}

static bool stopped(const struct worker *w)
{
    return atomic_load_explicit(&w->stop, memory_order_relaxed);
}

static void await_turn(struct worker_thread *t)
{
    while (!stopped(t->worker) &&
           atomic_load_explicit(&t->worker->pace, memory_order_acquire) != t->pace) {
        while (sem_wait(&t->turn) != 0)
            ASSERT(errno == EINTR);
    }
}

static void pass_turn(struct worker *w, enum worker_pace pace)
{
    atomic_store_explicit(&w->pace, pace, memory_order_release);
    (void)sem_post(&w->threads[pace].turn);
}

/* ---- its threads ---- */

static void *run_thread(void *arg)
{
    struct worker_thread *t = arg;
    struct worker *w = t->worker;
    struct share share = {.fd = is_outside(w) ? -1 : process_thread_times_open()};
    (void)pthread_setname_np(pthread_self(), is_outside(w) ? "pdb-outside" : "pdb-worker");
    set_priority(t->pace);
    for (await_turn(t); !stopped(w); await_turn(t)) {
        bool worked = worker_step(w);
        enum worker_pace next = worked ? judge(&share, t->pace) : t->pace;
        if (next != t->pace)
            pass_turn(w, next);
        else if (!worked)
            sleep_until_woken(w);
    }
    if (share.fd >= 0)
        (void)close(share.fd);
    return NULL;
}

void worker_wake(struct worker *w)
{
    if (atomic_load_explicit(&w->sleeping, memory_order_relaxed) &&
        atomic_exchange_explicit(&w->sleeping, false, memory_order_relaxed))
        (void)sem_post(&w->sleep);
}

int worker_init(struct worker *w, struct reactor_group *g, unsigned id)
{
    unsigned count = reactor_group_count(g);
    w->group = g;
    w->id = id;
    (void)sem_init(&w->sleep, 0, 0); /* fails only for values that are too large */
    for (unsigned i = 0; i != WORKER_PACES; ++i) {
        w->threads[i] = (struct worker_thread){.worker = w, .pace = (enum worker_pace)i};
        (void)sem_init(&w->threads[i].turn, 0, 0);
    }
    atomic_init(&w->pace, is_outside(w) ? WORKER_PRESSED : WORKER_CALM);
    w->jobs = channels_new(count);
    w->results = heap_calloc(NULL, count, sizeof(*w->results));
    return w->jobs != NULL && w->results != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
}

int worker_run(struct worker *w)
{
    unsigned first = is_outside(w) ? WORKER_PRESSED : WORKER_CALM;
    for (unsigned i = WORKER_PACES; i-- != first;) {
        struct worker_thread *t = &w->threads[i];
        if (pthread_create(&t->thread, NULL, run_thread, t) != 0) {
            worker_stop(w);
            return PDB_RESOURCE_EXHAUSTED;
        }
        ++w->threads_begun;
    }
    return 0;
}

void worker_stop(struct worker *w)
{
    atomic_store_explicit(&w->stop, true, memory_order_relaxed);
    (void)sem_post(&w->sleep); /* sticks until it waits */
    for (unsigned i = 0; i != WORKER_PACES; ++i)
        (void)sem_post(&w->threads[i].turn);
    for (; w->threads_begun != 0; --w->threads_begun)
        (void)pthread_join(w->threads[WORKER_PACES - w->threads_begun].thread, NULL);
}

void worker_dispose(struct worker *w)
{
    heap_free(NULL, w->jobs);
    heap_free(NULL, w->results);
    (void)sem_destroy(&w->sleep);
    for (unsigned i = 0; i != WORKER_PACES; ++i)
        (void)sem_destroy(&w->threads[i].turn);
}
