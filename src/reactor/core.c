/* The group: threads, their start in step, their loop, their end in the mirror image.
 *
 *     main                               core i
 *     memory and all threads ----------> (gate)
 *     opens the gate                     engine, pin, host
 *                                        -- all opened: every core can be woken --
 *                                        options.start
 *     <--------------------------------- -- all started, or one failed --
 *                                        loop
 *     stop: tells all                    options.stop
 *     <--------------------------------- -- all ended --
 *     joins the workers
 *     ---------------------------------> -- may close: nobody wakes anybody any more --
 *                                        host, engine
 *     joins the cores
 *
 * A failure anywhere takes the same road with the loop left out. The engine is made before the
 * thread is pinned, so that the thread of the `threads` engine does not inherit the reactor's core.
 *
 * Workers start before the gate opens, because options.start may hand out jobs; they touch a core's
 * engine only for jobs that this core has started. */
#include "reactor/reactor_internal.h"

#include "base/assert.h"
#include "os/cpu.h"
#include "os/sim.h"

#include <errno.h>
#include <proximadb/error.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { REASON_SIZE = 384, SPIN_PAUSES = 32 };

enum gate { GATE_SHUT, GATE_OPEN, GATE_ABANDONED };

struct core {
    struct reactor r;
    struct reactor_private p;
};

struct reactor_group {
    struct reactor_options options;
    unsigned count;
    unsigned worker_count; /* one for each core, then the outside ones */
    struct core *cores;
    struct worker *workers;
    pthread_barrier_t opened, started, ended, may_close;
    pthread_mutex_t lock;
    pthread_cond_t gate_moved;
    /* under the lock */
    enum gate gate;
    int error;
    char reason[REASON_SIZE];
};

unsigned reactor_group_count(const struct reactor_group *g)
{
    return g->count;
}

struct reactor *reactor_group_at(struct reactor_group *g, unsigned id)
{
    ASSERT(id < g->count);
    return &g->cores[id].r;
}

struct worker *reactor_worker(struct reactor_group *g, unsigned id)
{
    ASSERT(id < g->worker_count);
    return &g->workers[id];
}

unsigned reactor_outside_count(const struct reactor_group *g)
{
    return g->worker_count - g->count;
}

bool reactor_group_simulated(const struct reactor_group *g)
{
    return g->options.sim != NULL;
}

/* ---- what threads tell each other at the start ---- */

static void note_failure(struct reactor_group *g, int rc)
{
    pthread_mutex_lock(&g->lock);
    if (g->error == 0)
        g->error = rc;
    pthread_mutex_unlock(&g->lock);
}

static bool failed(struct reactor_group *g)
{
    pthread_mutex_lock(&g->lock);
    bool yes = g->error != 0;
    pthread_mutex_unlock(&g->lock);
    return yes;
}

static void note_reason(struct reactor_group *g, const char *reason)
{
    if (reason == NULL)
        return;
    pthread_mutex_lock(&g->lock);
    (void)snprintf(g->reason, sizeof(g->reason), "%s", reason);
    pthread_mutex_unlock(&g->lock);
}

static void move_gate(struct reactor_group *g, enum gate gate)
{
    pthread_mutex_lock(&g->lock);
    g->gate = gate;
    pthread_cond_broadcast(&g->gate_moved);
    pthread_mutex_unlock(&g->lock);
}

static bool pass_gate(struct reactor_group *g)
{
    pthread_mutex_lock(&g->lock);
    while (g->gate == GATE_SHUT)
        pthread_cond_wait(&g->gate_moved, &g->lock);
    bool open = g->gate == GATE_OPEN;
    pthread_mutex_unlock(&g->lock);
    return open;
}

/* ---- one core's thread ---- */

static int code_of_errno(int rc)
{
    return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE || rc == -EAGAIN ? PDB_RESOURCE_EXHAUSTED
                                                                            : PDB_UNAVAILABLE;
}

static void pin_core(const struct reactor *r)
{
    unsigned cpus[CPU_MAX];
    unsigned count = cpu_allowed(cpus, CPU_MAX);
    if (count != 0)
        (void)cpu_pin(cpus[r->id % count]); /* an unpinned reactor is slower, not wrong */
}

static int open_core(struct reactor *r)
{
    struct reactor_group *g = r->group;
    const char *reason = NULL;
    char name[16];

    (void)snprintf(name, sizeof(name), "pdb-core-%u", r->id % 1000);
    (void)pthread_setname_np(pthread_self(), name);
    int rc = io_create(g->options.io_engine, &r->io, &reason);
    note_reason(g, reason);
    if (rc < 0)
        return code_of_errno(rc);
    if (g->options.pin)
        pin_core(r);
    rc = r->priv->host->start(r, r->priv->host->arg, &r->priv->host_state);
    r->priv->opened = rc == 0;
    return rc;
}

static void close_core(struct reactor *r)
{
    if (r->priv->opened)
        r->priv->host->stop(r, r->priv->host_state);
    r->priv->opened = false;
    if (r->io != NULL)
        r->io->ops->destroy(r->io);
    r->io = NULL;
}

static void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* True while the last useful turn is younger than spin_us. */
static bool keep_spinning(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    uint64_t spin_ns = r->group->options.spin_us * UINT64_C(1000);
    if (spin_ns == 0)
        return false;
    uint64_t now = r->io->ops->now_ns(r->io);
    if (p->activity != p->activity_seen) {
        p->activity_seen = p->activity;
        p->idle_since_ns = now;
    }
    if (now - p->idle_since_ns >= spin_ns)
        return false;
    for (int i = 0; i != SPIN_PAUSES && !reactor_has_work(r); ++i)
        cpu_relax();
    return true;
}

/* Says that this reactor sleeps, then looks once more: a peer either sees the flag and wakes us, or
 * its mail is seen here. */
static bool may_block(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    atomic_store_explicit(&p->sleeping, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (!reactor_has_work(r) && !atomic_load_explicit(&p->stop, memory_order_relaxed))
        return true;
    atomic_store_explicit(&p->sleeping, false, memory_order_relaxed);
    return false;
}

static void loop(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
        int64_t wait_ns = reactor_wait_ns(r);
        if (wait_ns != 0 && (keep_spinning(r) || !may_block(r)))
            wait_ns = 0;
        if (wait_ns != 0) {
            p->waited = true;
            ++r->stats.blocked;
        }
        p->host->wait(r, p->host_state, wait_ns);
    }
}

static void *run_core(void *arg)
{
    struct reactor *r = arg;
    struct reactor_group *g = r->group;
    const struct reactor_options *o = &g->options;
    bool started = false;

    if (!pass_gate(g))
        return NULL;
    (void)reactor_set_here(r);
    int rc = open_core(r);
    if (rc < 0)
        note_failure(g, rc);
    pthread_barrier_wait(&g->opened);
    if (!failed(g)) {
        reactor_read_clock(r);
        rc = o->start != NULL ? o->start(r, o->arg) : 0;
        started = rc == 0;
        if (rc < 0)
            note_failure(g, rc);
    }
    pthread_barrier_wait(&g->started);
    if (!failed(g))
        loop(r);
    if (started && o->stop != NULL)
        o->stop(r, o->arg);
    pthread_barrier_wait(&g->ended);
    pthread_barrier_wait(&g->may_close);
    close_core(r);
    (void)reactor_set_here(NULL);
    return NULL;
}

/* ---- memory ---- */

static void link_outboxes(struct reactor_group *g)
{
    for (unsigned i = 0; i != g->count; ++i) {
        for (unsigned j = 0; j != g->count; ++j) {
            struct reactor_private *p = g->cores[i].r.priv;
            outbox_init(&p->to_peers[j], &g->cores[j].r.priv->inbox[i]);
        }
        for (unsigned j = 0; j != g->worker_count; ++j) {
            struct reactor_private *p = g->cores[i].r.priv;
            outbox_init(&p->to_workers[j], &g->workers[j].jobs[i]);
            outbox_init(&g->workers[j].results[i], &p->results[j]);
        }
    }
}

static int init_core(struct reactor_group *g, unsigned id)
{
    struct core *core = &g->cores[id];
    core->r.id = id;
    core->r.count = g->count;
    core->r.group = g;
    core->r.heap.bytes_max = g->options.heap_bytes_max;
    core->r.priv = &core->p;
    core->p.host = g->options.host != NULL ? g->options.host : &reactor_host_plain;
    core->p.noted = true; /* the first turn does not wait */
    list_init(&core->p.tasks);
    list_init(&core->p.bulk_tasks);
    list_init(&core->p.hooks);
    return mailbox_init(&core->r);
}

static void free_group(struct reactor_group *g)
{
    for (unsigned i = 0; g->cores != NULL && i != g->count; ++i) {
        if (g->cores[i].r.priv == NULL)
            continue;
        timers_dispose(&g->cores[i].r);
        mailbox_dispose(&g->cores[i].r);
    }
    for (unsigned i = 0; g->workers != NULL && i != g->worker_count; ++i) {
        if (g->workers[i].group != NULL)
            worker_dispose(&g->workers[i]);
    }
    heap_free(NULL, g->cores);
    heap_free(NULL, g->workers);
    (void)pthread_barrier_destroy(&g->opened);
    (void)pthread_barrier_destroy(&g->started);
    (void)pthread_barrier_destroy(&g->ended);
    (void)pthread_barrier_destroy(&g->may_close);
    (void)pthread_cond_destroy(&g->gate_moved);
    (void)pthread_mutex_destroy(&g->lock);
    heap_free(NULL, g);
}

static void *alloc_zeroed(size_t alignment, size_t size)
{
    void *ptr = heap_alloc_aligned(NULL, alignment, size);
    return ptr != NULL ? memset(ptr, 0, size) : NULL;
}

static int make_group(const struct reactor_options *options, struct reactor_group **group_out)
{
    struct reactor_group *g = heap_calloc(NULL, 1, sizeof(*g));
    if (g == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    g->options = *options;
    g->count = options->count;
    g->worker_count = options->count + options->outside_workers;
    /* These fail only for arguments that are wrong. */
    (void)pthread_mutex_init(&g->lock, NULL);
    (void)pthread_cond_init(&g->gate_moved, NULL);
    (void)pthread_barrier_init(&g->opened, NULL, g->count);
    (void)pthread_barrier_init(&g->started, NULL, g->count + 1);
    (void)pthread_barrier_init(&g->ended, NULL, g->count + 1);
    (void)pthread_barrier_init(&g->may_close, NULL, g->count + 1);
    g->cores = alloc_zeroed(alignof(struct core), g->count * sizeof(*g->cores));
    g->workers = alloc_zeroed(alignof(struct worker), g->worker_count * sizeof(*g->workers));
    int rc = g->cores != NULL && g->workers != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
    for (unsigned i = 0; rc == 0 && i != g->count; ++i)
        rc = init_core(g, i);
    for (unsigned i = 0; rc == 0 && i != g->worker_count; ++i)
        rc = worker_init(&g->workers[i], g, i);
    if (rc < 0) {
        free_group(g);
        return rc;
    }
    link_outboxes(g);
    *group_out = g;
    return 0;
}

/* ---- start and stop with threads ---- */

/* Returns how many threads exist; on failure the group's error is set. */
static unsigned create_cores(struct reactor_group *g)
{
    for (unsigned i = 0; i != g->count; ++i) {
        struct reactor *r = &g->cores[i].r;
        if (pthread_create(&r->priv->thread, NULL, run_core, r) != 0) {
            note_failure(g, PDB_RESOURCE_EXHAUSTED);
            return i;
        }
    }
    return g->count;
}

static unsigned create_workers(struct reactor_group *g)
{
    for (unsigned i = 0; i != g->worker_count; ++i) {
        int rc = worker_run(&g->workers[i]);
        if (rc < 0) {
            note_failure(g, rc);
            return i;
        }
    }
    return g->worker_count;
}

static void join_cores(struct reactor_group *g, unsigned count)
{
    for (unsigned i = 0; i != count; ++i)
        (void)pthread_join(g->cores[i].r.priv->thread, NULL);
}

/* Signals are for the program's own threads. */
static int start_threads(struct reactor_group *g)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    unsigned workers = create_workers(g);
    unsigned cores = workers == g->worker_count ? create_cores(g) : 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (cores != g->count) {
        move_gate(g, GATE_ABANDONED);
        join_cores(g, cores);
        for (unsigned i = 0; i != workers; ++i)
            worker_stop(&g->workers[i]);
        return g->error;
    }
    move_gate(g, GATE_OPEN);
    pthread_barrier_wait(&g->started);
    return failed(g) ? g->error : 0;
}

static void end_threads(struct reactor_group *g)
{
    pthread_barrier_wait(&g->ended);
    for (unsigned i = 0; i != g->worker_count; ++i)
        worker_stop(&g->workers[i]);
    pthread_barrier_wait(&g->may_close);
    join_cores(g, g->count);
}

/* ---- start and stop in simulation ---- */

static void close_simulated(struct reactor_group *g, unsigned started)
{
    while (started != 0) {
        struct reactor *r = &g->cores[--started].r;
        struct reactor *before = reactor_set_here(r);
        if (g->options.stop != NULL)
            g->options.stop(r, g->options.arg);
        (void)reactor_set_here(before);
    }
    for (unsigned i = 0; i != g->count; ++i) {
        if (g->cores[i].r.io != NULL)
            g->cores[i].r.io->ops->destroy(g->cores[i].r.io);
    }
}

static int start_simulated(struct reactor_group *g)
{
    unsigned started = 0;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i != g->count; ++i) {
        if (sim_io_create(g->options.sim, &g->cores[i].r.io) != 0)
            rc = PDB_RESOURCE_EXHAUSTED;
    }
    for (; rc == 0 && started != g->count; started += rc == 0) {
        struct reactor *r = &g->cores[started].r;
        struct reactor *before = reactor_set_here(r);
        reactor_read_clock(r);
        rc = g->options.start != NULL ? g->options.start(r, g->options.arg) : 0;
        (void)reactor_set_here(before);
    }
    if (rc < 0)
        close_simulated(g, started);
    return rc;
}

/* ---- both ---- */

int reactor_group_start(const struct reactor_options *options, struct reactor_group **group_out,
                        const char **reason_out)
{
    static _Thread_local char reason[REASON_SIZE];
    struct reactor_group *g;

    *reason_out = NULL;
    if (options->count == 0 || options->count > REACTOR_MAX ||
        options->outside_workers > REACTOR_OUTSIDE_MAX)
        return PDB_INVALID_ARGUMENT;
    int rc = make_group(options, &g);
    if (rc < 0)
        return rc;
    if (options->sim != NULL) {
        rc = start_simulated(g);
    } else {
        rc = start_threads(g);
        if (rc < 0 && g->gate == GATE_OPEN)
            end_threads(g);
    }
    pthread_mutex_lock(&g->lock);
    if (g->reason[0] != '\0') {
        memcpy(reason, g->reason, sizeof(reason));
        *reason_out = reason;
    }
    pthread_mutex_unlock(&g->lock);
    if (rc < 0) {
        free_group(g);
        return rc;
    }
    *group_out = g;
    return 0;
}

void reactor_group_stop(struct reactor_group *g)
{
    if (g == NULL)
        return;
    if (g->options.sim != NULL) {
        close_simulated(g, g->count);
    } else {
        for (unsigned i = 0; i != g->count; ++i) {
            struct reactor *r = &g->cores[i].r;
            ASSERT(r != reactor_here());
            atomic_store_explicit(&r->priv->stop, true, memory_order_seq_cst);
            r->io->ops->wake_any(r->io);
        }
        end_threads(g);
    }
    free_group(g);
}
