/* Workers: one companion thread per reactor for long computation, at a priority that takes only
 * what nobody wants, and a few outside workers of no reactor, for calls that wait for a network.
 *
 * A worker with SCHED_IDLE may stand still for long, so it must never hold anything that a reactor
 * waits for: jobs and results travel through rings, and the worker sleeps on a semaphore, whose
 * post is lock-free. It is not pinned: the kernel gives it whichever core is idle. Jobs come in
 * through one ring per reactor, results go out through one ring per owner; both have overflow
 * lists, as between reactors. */
#include "reactor/reactor_internal.h"

#include "base/assert.h"

#include <errno.h>
#include <proximadb/error.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

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
        job->compute(job);
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

/* Some sandboxes refuse SCHED_IDLE; the lowest nice value is nearly as good. */
static void lower_priority(void)
{
    struct sched_param none = {0};
    if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &none) != 0)
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
}

/* One that waits for others most of the time: it may compute when it does, or an archive would fall
 * behind on a busy machine. */
static bool is_outside(const struct worker *w)
{
    return w->id >= reactor_group_count(w->group);
}

static void *run_thread(void *arg)
{
    struct worker *w = arg;
    (void)pthread_setname_np(pthread_self(), is_outside(w) ? "pdb-outside" : "pdb-worker");
    if (is_outside(w))
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 5);
    else
        lower_priority();
    while (!atomic_load_explicit(&w->stop, memory_order_relaxed)) {
        if (!worker_step(w))
            sleep_until_woken(w);
    }
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
    w->jobs = channels_new(count);
    w->results = heap_calloc(NULL, count, sizeof(*w->results));
    return w->jobs != NULL && w->results != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
}

int worker_run(struct worker *w)
{
    return pthread_create(&w->thread, NULL, run_thread, w) == 0 ? 0 : PDB_RESOURCE_EXHAUSTED;
}

void worker_stop(struct worker *w)
{
    atomic_store_explicit(&w->stop, true, memory_order_relaxed);
    (void)sem_post(&w->sleep); /* sticks until it waits */
    (void)pthread_join(w->thread, NULL);
}

void worker_dispose(struct worker *w)
{
    heap_free(NULL, w->jobs);
    heap_free(NULL, w->results);
    (void)sem_destroy(&w->sleep);
}
