/* run.c: starts the threads of a run, looks at them each second, and adds up what they counted.
 *
 * The threads connect first and meet at a gate; then the clock is set, and they go on together:
 * connecting is not measured. SIGINT and SIGTERM are blocked while a run lasts and taken by the
 * main thread, which needs no handler and no global flag for that; a second one ends the program at
 * once. */
#include "bench/client/run.h"

#include "base/clock.h"
#include "base/heap.h"
#include "bench/client/decode.h"
#include "bench/client/worker.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MS = 50, GROUPS_MAX = 4 };

struct run {
    const struct run_group *groups;
    size_t group_count;
    struct worker_shared shared[GROUPS_MAX];
    struct worker *workers; /* of all groups, group by group */
    unsigned worker_count;
    struct worker_gate gate;
    struct run_result *recent; /* group_count each */
    struct run_result *results;
    uint64_t start_ns;
    uint64_t told_ns; /* when `recent` was last taken */
    bool interrupted;
};

static void *thread_main(void *arg)
{
    struct worker *w = arg;
    struct worker_gate *gate = w->gate;
    int rc = worker_connect(w);
    (void)pthread_mutex_lock(&gate->lock);
    w->rc = rc;
    gate->arrived++;
    (void)pthread_cond_broadcast(&gate->changed);
    while (!gate->open) /* meanwhile the main thread sets the clock, or rc */
        (void)pthread_cond_wait(&gate->changed, &gate->lock);
    rc = w->rc;
    (void)pthread_mutex_unlock(&gate->lock);
    if (rc == 0)
        worker_run(w);
    (void)atomic_fetch_sub_explicit(&w->shared->alive, 1, memory_order_release);
    return NULL;
}

static size_t group_of(const struct run *run, const struct worker *w)
{
    return (size_t)(w->group - run->groups);
}

static int make_workers(struct run *run, struct trail *trail)
{
    unsigned count = 0;
    for (size_t g = 0; g < run->group_count; g++)
        count += run->groups[g].threads;
    run->workers = heap_calloc(NULL, count, sizeof(*run->workers));
    run->recent = heap_calloc(NULL, run->group_count, sizeof(*run->recent));
    if (run->workers == NULL || run->recent == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for the threads");
    for (size_t g = 0; g < run->group_count; g++) {
        const struct run_group *group = &run->groups[g];
        for (unsigned i = 0; i < group->threads; i++) {
            struct worker *w = &run->workers[run->worker_count++];
            int rc = worker_init(w, group, &run->shared[g], i, trail);
            if (rc < 0)
                return rc;
            w->gate = &run->gate;
        }
        atomic_store(&run->shared[g].alive, group->threads);
    }
    return 0;
}

/* Sets the clock of every thread; `why` (not NULL) instead makes them end. The gate's lock is
 * held. */
static void set_clock(struct run *run, const char *why)
{
    run->start_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < run->worker_count; i++) {
        struct worker *w = &run->workers[i];
        const struct run_group *group = w->group;
        double seconds = group->duration_s + group->warmup_s;
        w->start_ns = run->start_ns;
        w->count_from_ns = run->start_ns + (uint64_t)(group->warmup_s * 1e9);
        w->end_ns = group->duration_s > 0 ? run->start_ns + (uint64_t)(seconds * 1e9) : UINT64_MAX;
        if (why != NULL)
            w->rc = PDB_UNAVAILABLE;
    }
}

/* Starts all threads, waits until they are connected, and lets them go: 0, or an error and they all
 * end. */
static int start_threads(struct run *run, struct trail *trail)
{
    unsigned started = 0;
    for (unsigned i = 0; i < run->worker_count; i++) {
        struct worker *w = &run->workers[i];
        w->thread_started = pthread_create(&w->thread, NULL, thread_main, w) == 0;
        started += w->thread_started ? 1u : 0u;
    }
    const char *why = started < run->worker_count ? "cannot start a thread" : NULL;
    (void)pthread_mutex_lock(&run->gate.lock);
    while (run->gate.arrived < started)
        (void)pthread_cond_wait(&run->gate.changed, &run->gate.lock);
    for (unsigned i = 0; i < run->worker_count && why == NULL; i++) {
        if (run->workers[i].rc < 0)
            why = run->workers[i].why;
    }
    set_clock(run, why);
    run->gate.open = true;
    (void)pthread_cond_broadcast(&run->gate.changed);
    (void)pthread_mutex_unlock(&run->gate.lock);
    return why == NULL ? 0 : trail_add(trail, PDB_UNAVAILABLE, "%s", why);
}

/* Sums up: `recent` since the last time, `results` since the start. */
static void collect(struct run *run)
{
    for (size_t g = 0; g < run->group_count; g++) {
        memset(&run->recent[g], 0, sizeof(run->recent[g]));
        memset(&run->results[g], 0, sizeof(run->results[g]));
    }
    for (unsigned i = 0; i < run->worker_count; i++) {
        struct worker *w = &run->workers[i];
        size_t g = group_of(run, w);
        (void)pthread_mutex_lock(&w->lock);
        tally_add(&run->recent[g].tally, w->recent);
        memset(w->recent, 0, sizeof(*w->recent));
        tally_add(&run->results[g].tally, w->all);
        (void)pthread_mutex_unlock(&w->lock);
    }
}

static void tell(struct run *run, uint64_t now, run_tick_fn *on_tick, void *tick_arg)
{
    collect(run);
    for (size_t g = 0; g < run->group_count; g++)
        run->recent[g].elapsed_s = (double)(now - run->told_ns) / 1e9;
    on_tick(tick_arg, (double)(now - run->start_ns) / 1e9, run->recent, run->results,
            run->group_count);
    run->told_ns = now;
}

static unsigned threads_alive(struct run *run)
{
    unsigned alive = 0;
    for (size_t g = 0; g < run->group_count; g++)
        alive += atomic_load_explicit(&run->shared[g].alive, memory_order_acquire);
    return alive;
}

/* The main thread's part: until all threads have ended. */
static void watch_threads(struct run *run, const sigset_t *signals, run_tick_fn *on_tick,
                          void *tick_arg)
{
    const struct timespec wait = {.tv_nsec = POLL_MS * 1000000L};
    const uint64_t second = 1000000000;
    run->told_ns = run->start_ns;
    while (threads_alive(run) > 0) {
        if (sigtimedwait(signals, NULL, &wait) > 0) {
            if (run->interrupted)
                _exit(130);
            run->interrupted = true;
            for (size_t g = 0; g < run->group_count; g++)
                atomic_store_explicit(&run->shared[g].stop, true, memory_order_relaxed);
        }
        uint64_t now = clock_monotonic_ns();
        if (on_tick != NULL && now >= run->told_ns + second)
            tell(run, now, on_tick, tick_arg);
    }
}

static void finish(struct run *run, run_tick_fn *on_tick, void *tick_arg)
{
    if (on_tick != NULL)
        tell(run, clock_monotonic_ns(), on_tick, tick_arg);
    collect(run);
    for (unsigned i = 0; i < run->worker_count; i++) {
        const struct worker *w = &run->workers[i];
        struct run_result *result = &run->results[group_of(run, w)];
        uint64_t counted = w->last_ns > w->count_from_ns ? w->last_ns - w->count_from_ns : 0;
        if ((double)counted / 1e9 > result->elapsed_s)
            result->elapsed_s = (double)counted / 1e9;
        /* A thread whose last connection went away reports why, if no call of its did. */
        if (w->why[0] != '\0' && result->tally.error_count == 0) {
            result->tally.error_count++;
            result->tally.errors[CODE_UNAVAILABLE]++;
            memcpy(result->tally.messages[CODE_UNAVAILABLE], w->why, sizeof(w->why));
        }
    }
}

int run_groups(const struct run_group *groups, size_t group_count, run_tick_fn *on_tick,
               void *tick_arg, struct run_result *results_out, bool *interrupted_out,
               struct trail *trail)
{
    if (group_count == 0 || group_count > GROUPS_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%zu groups", group_count);
    struct run run = {.groups = groups, .group_count = group_count, .results = results_out};
    sigset_t signals;
    sigset_t before;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_mutex_init(&run.gate.lock, NULL);
    (void)pthread_cond_init(&run.gate.changed, NULL);
    int rc = make_workers(&run, trail);
    (void)pthread_sigmask(SIG_BLOCK, &signals, &before);
    if (rc == 0) {
        rc = start_threads(&run, trail);
        if (rc == 0)
            watch_threads(&run, &signals, on_tick, tick_arg);
        for (unsigned i = 0; i < run.worker_count; i++) {
            if (run.workers[i].thread_started)
                (void)pthread_join(run.workers[i].thread, NULL);
        }
    }
    if (rc == 0) {
        finish(&run, on_tick, tick_arg);
        *interrupted_out = run.interrupted;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_cond_destroy(&run.gate.changed);
    (void)pthread_mutex_destroy(&run.gate.lock);
    for (unsigned i = 0; i < run.worker_count; i++)
        worker_dispose(&run.workers[i]);
    heap_free(NULL, run.workers);
    heap_free(NULL, run.recent);
    return rc;
}

/* ---- one request ---- */

enum { ONCE_REPLY_MAX = 16 << 20 };

struct once {
    const struct route *route;
    struct pdb_text body;
    bool grpc;
    struct arena *arena;
    struct run_reply *reply;
};

static int once_prepare(void *state, struct call *call)
{
    const struct once *once = state;
    call->route = once->route;
    body_reset(&call->body);
    if (once->grpc) {
        const uint32_t len = (uint32_t)once->body.len;
        const char prefix[5] = {0, (char)(len >> 24), (char)(len >> 16), (char)(len >> 8),
                                (char)len};
        buffer_add(&call->body.scratch, prefix, sizeof(prefix));
    }
    body_point(&call->body, once->body.ptr, once->body.len);
    return body_finish(&call->body);
}

static uint64_t once_check(void *state, struct call *call)
{
    struct once *once = state;
    struct pdb_text body = {call->reply.ptr, call->reply.len};
    if (once->grpc && decode_grpc_prefix(body, &body) < 0) {
        call->code = CODE_INTERNAL;
        (void)snprintf(call->message, sizeof(call->message), "the reply is not one gRPC message");
        return 0;
    }
    once->reply->code = CODE_OK;
    once->reply->http_status = call->http_status;
    once->reply->body = arena_copy_text(once->arena, body.ptr, body.len);
    return 1;
}

int run_once(const struct endpoint *endpoint, enum protocol protocol, const struct route *route,
             struct pdb_text body, struct arena *arena, struct run_reply *reply_out,
             struct trail *trail)
{
    struct run_reply reply = {.code = CODE_UNKNOWN};
    struct once once = {route, body, protocol == PROTOCOL_GRPC, arena, &reply};
    struct run_result *result = heap_calloc(NULL, 1, sizeof(*result));
    if (result == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for a request");
    const struct run_group group = {
        .name = "once",
        .endpoint = endpoint,
        .workload = {once_prepare, once_check, &once},
        .protocol = protocol,
        .connections = 1,
        .streams = 1,
        .threads = 1,
        .op_max = 1,
        .timeout_s = 60,
        .reply_max = ONCE_REPLY_MAX,
    };
    bool interrupted = false;
    int rc = run_groups(&group, 1, NULL, NULL, result, &interrupted, trail);
    for (int code = 1; code < CODE_COUNT && rc == 0; code++) {
        if (result->tally.errors[code] == 0)
            continue;
        reply.code = code;
        (void)snprintf(reply.message, sizeof(reply.message), "%s", result->tally.messages[code]);
    }
    if (rc == 0 && interrupted)
        rc = trail_add(trail, PDB_CANCELLED, "interrupted");
    heap_free(NULL, result);
    if (rc == 0)
        *reply_out = reply;
    return rc;
}
