/* worker.c: the event loop of a load thread.
 *
 * A turn is: wait for readiness, move bytes (which ends calls), start new calls, flush connections,
 * and every 20 ms look at time limits. Calls are started in one place only (start_calls), never
 * from within the end of another, so that no protocol library is entered twice.
 *
 * Latency is measured from the intended start. In a closed loop that is the moment a call is made;
 * at a constant rate it is the moment the schedule says: start n of thread i is due at t0 + (n *
 * threads + i) / rate, whether or not a stream is free then. A server that stops for a second is
 * charged with every request that was due meanwhile; a generator that waits and then measures from
 * the late start would leave them out ("coordinated omission", G. Tene). What was due but never
 * started before the end is reported as such.
 *
 * A lost connection fails its calls. With `reconnect`, they wait for it to come back and are sent
 * again, at most RETRY_MAX times: upserts of fixed ids and searches may be repeated. A connection
 * that the server closes while it is idle is simply opened again. */
#include "bench/client/worker.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 64,
    RETRY_MAX = 10,
    TICK_MS = 20,
    INTERRUPT_DRAIN_MS = 2000,
    CONNECT_MS = 10000
};

static const uint64_t ms = 1000000;

void tally_add(struct tally *into, const struct tally *from)
{
    hdr_merge(&into->latency, &from->latency);
    into->op_count += from->op_count;
    into->record_count += from->record_count;
    into->error_count += from->error_count;
    for (unsigned i = 0; i < CODE_COUNT; i++) {
        into->errors[i] += from->errors[i];
        if (into->messages[i][0] == '\0')
            memcpy(into->messages[i], from->messages[i], sizeof(into->messages[i]));
    }
    into->request_bytes += from->request_bytes;
    into->reply_bytes += from->reply_bytes;
    into->retried += from->retried;
    into->not_started += from->not_started;
    into->abandoned += from->abandoned;
}

/* ---- outcome of calls ---- */

static void count(struct tally *tally, const struct call *call, uint64_t records,
                  uint64_t latency_ns)
{
    hdr_record(&tally->latency, latency_ns, 1);
    tally->request_bytes += call->body.bytes;
    tally->reply_bytes += call->reply.len;
    if (call->code == CODE_OK) {
        tally->op_count++;
        tally->record_count += records;
        return;
    }
    tally->error_count++;
    tally->errors[call->code]++;
    if (tally->messages[call->code][0] == '\0')
        memcpy(tally->messages[call->code], call->message, sizeof(call->message));
}

static void record(struct worker *w, struct call *call, uint64_t records)
{
    uint64_t now = clock_monotonic_ns();
    w->last_ns = now;
    if (call->start_ns < w->count_from_ns)
        return;
    uint64_t latency = now > call->start_ns ? now - call->start_ns : 0;
    (void)pthread_mutex_lock(&w->lock);
    count(w->recent, call, records, latency);
    count(w->all, call, records, latency);
    (void)pthread_mutex_unlock(&w->lock);
}

static void ended(void *owner, struct call *call)
{
    struct worker *w = owner;
    uint64_t records = 0;
    w->in_flight--;
    if (call->code == CODE_OK)
        records = w->group->workload.check(w->group->workload.state, call);
    record(w, call, records);
    if (call->lost) {
        w->lost_now++;
        if (w->group->reconnect && call->attempts < RETRY_MAX) {
            call->retry = true;
            w->retries++;
            return;
        }
    }
    if (call->conn->open)
        list_push_back(&w->idle, &call->link);
}

/* ---- connections ---- */

static void watch(struct worker *w, struct conn *conn)
{
    if (conn->channel.fd < 0)
        return;
    uint32_t wanted = EPOLLIN | (channel_wants_write(&conn->channel) ? EPOLLOUT : 0u);
    if (wanted == conn->events)
        return;
    struct epoll_event event = {.events = wanted, .data.ptr = conn};
    int operation = conn->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl(w->epoll_fd, operation, conn->channel.fd, &event) == 0)
        conn->events = wanted;
}

/* The connection is gone: its calls end, and it is decided whether it comes back. */
static void lose(struct worker *w, struct conn *conn, const char *why)
{
    w->lost_now = 0;
    conn_fail(conn, why);
    conn->events = 0;
    for (unsigned i = 0; i < conn->settings->streams; i++)
        list_remove(&conn->calls[i].link);
    bool clean = conn->was_up && w->lost_now == 0;
    conn->was_up = false;
    if (!clean && !w->group->reconnect) {
        conn->dead = true;
        w->dead_count++;
        if (w->why[0] == '\0')
            (void)snprintf(w->why, sizeof(w->why), "%s", why);
        return;
    }
    unsigned doublings = conn->failures < 7 ? conn->failures : 7;
    conn->failures++;
    conn->retry_ns = clock_monotonic_ns() + (clean ? 0 : (20 * ms) << doublings);
}

static void connect_again(struct worker *w, struct conn *conn)
{
    struct trail trail = {0};
    if (conn_connect(conn, &trail) < 0)
        lose(w, conn, trail.text);
    else
        watch(w, conn);
}

/* An open connection offers its calls. */
static void offer(struct worker *w, struct conn *conn)
{
    conn->was_up = true;
    conn->failures = 0;
    for (unsigned i = 0; i < conn->settings->streams; i++) {
        struct call *call = &conn->calls[i];
        if (!call->retry && !call->in_flight)
            list_push_back(&w->idle, &call->link);
    }
}

static void on_event(struct worker *w, struct conn *conn, uint32_t events)
{
    struct trail trail = {0};
    if (conn->channel.fd < 0)
        return; /* lost earlier in this turn */
    bool was_open = conn->open;
    bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (conn_ready(conn, (events & EPOLLIN) != 0 || broken, (events & EPOLLOUT) != 0, &trail) < 0) {
        lose(w, conn, trail.text);
        return;
    }
    if (!was_open && conn->open)
        offer(w, conn);
    watch(w, conn);
}

static void flush_all(struct worker *w)
{
    for (unsigned i = 0; i < w->conn_count; i++) {
        struct conn *conn = &w->conns[i];
        if (!conn->open)
            continue;
        if (conn_flush(conn) < 0)
            lose(w, conn, "the connection was reset");
        else
            watch(w, conn);
    }
}

/* ---- starting calls ---- */

static void close_down(struct worker *w)
{
    if (w->closing)
        return;
    w->closing = true;
    w->closing_ns = clock_monotonic_ns();
}

/* How many operations of this thread were due by `at_ns`. */
static uint64_t due_by(const struct worker *w, uint64_t at_ns)
{
    double first = (double)w->start_ns + w->interval_ns * w->index / w->group->threads;
    double passed = (double)at_ns - first;
    return passed < 0 ? 0 : (uint64_t)(passed / w->interval_ns) + 1;
}

static uint64_t due_ns(const struct worker *w, uint64_t number)
{
    double offset = w->interval_ns * ((double)number + (double)w->index / w->group->threads);
    return w->start_ns + (uint64_t)offset;
}

/* False: nothing may start now. start_out: when it was meant to. */
static bool next_start(struct worker *w, uint64_t now, uint64_t *start_out)
{
    uint64_t start = w->interval_ns > 0 ? due_ns(w, w->started) : now;
    if (w->closing || start > now)
        return false;
    if (now >= w->end_ns) {
        close_down(w);
        return false;
    }
    *start_out = start;
    return true;
}

static void submit(struct worker *w, struct call *call)
{
    struct conn *conn = call->conn;
    call->attempts++;
    if (conn_submit(conn, call) == 0) {
        w->in_flight++;
        return;
    }
    call->code = CODE_UNAVAILABLE;
    (void)snprintf(call->message, sizeof(call->message), "the request could not be sent");
    record(w, call, 0);
    lose(w, conn, "the connection was reset");
}

static void start_calls(struct worker *w)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t start = 0;
    while (!list_empty(&w->idle) && next_start(w, now, &start)) {
        uint64_t op = atomic_fetch_add_explicit(&w->shared->op_next, 1, memory_order_relaxed);
        if (w->group->op_max != 0 && op >= w->group->op_max) {
            close_down(w);
            return;
        }
        struct call *call = container_of(list_pop_front(&w->idle), struct call, link);
        ASSERT(!call->in_flight && !call->retry);
        w->started++;
        call->op = op;
        call->start_ns = start;
        call->attempts = 0;
        if (w->group->workload.prepare(w->group->workload.state, call) < 0) {
            (void)snprintf(w->why, sizeof(w->why), "a request could not be made: out of memory");
            list_push_back(&w->idle, &call->link);
            close_down(w);
            return;
        }
        now = clock_monotonic_ns(); /* making a large request takes time */
        if (w->interval_ns <= 0)
            call->start_ns = now;
        call->deadline_ns = now + (uint64_t)(w->group->timeout_s * 1e9);
        submit(w, call);
    }
}

static void drop_retry(struct worker *w, struct call *call)
{
    call->retry = false;
    w->retries--;
}

/* Sends again what was lost, where the connection is back. */
static void retry_calls(struct worker *w, struct conn *conn)
{
    for (unsigned i = 0; i < conn->settings->streams && conn->open; i++) {
        struct call *call = &conn->calls[i];
        if (!call->retry)
            continue;
        drop_retry(w, call);
        (void)pthread_mutex_lock(&w->lock);
        w->all->retried++;
        (void)pthread_mutex_unlock(&w->lock);
        submit(w, call);
    }
}

/* ---- time ---- */

static void check_limits(struct worker *w, struct conn *conn, uint64_t now)
{
    for (unsigned i = 0; i < conn->settings->streams; i++) {
        struct call *call = &conn->calls[i];
        if (now < call->deadline_ns)
            continue;
        if (call->retry) {
            drop_retry(w, call);
            if (conn->open)
                list_push_back(&w->idle, &call->link);
        } else if (call->in_flight && conn_give_up(conn, call) < 0) {
            lose(w, conn, "a request took too long");
            return;
        }
    }
}

static void tick(struct worker *w, uint64_t now)
{
    if (now < w->tick_ns)
        return;
    w->tick_ns = now + TICK_MS * ms;
    for (unsigned i = 0; i < w->conn_count; i++) {
        struct conn *conn = &w->conns[i];
        if (conn->dead)
            continue;
        check_limits(w, conn, now);
        if (conn->channel.state == CHANNEL_CLOSED && !conn->dead && now >= conn->retry_ns &&
            (!w->closing || w->retries > 0))
            connect_again(w, conn);
        if (conn->open)
            retry_calls(w, conn);
    }
    if (atomic_load_explicit(&w->shared->stop, memory_order_relaxed) ||
        w->dead_count == w->conn_count)
        close_down(w);
    if (now >= w->end_ns)
        close_down(w);
}

/* Wakes the loop for the next start of the schedule. */
static void arm(struct worker *w)
{
    if (w->interval_ns <= 0 || w->closing || list_empty(&w->idle))
        return;
    uint64_t due = due_ns(w, w->started);
    struct itimerspec at = {.it_value = {(time_t)(due / 1000000000), (long)(due % 1000000000)}};
    (void)timerfd_settime(w->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void turn(struct worker *w)
{
    struct epoll_event events[EVENTS_MAX];
    int ready = epoll_wait(w->epoll_fd, events, EVENTS_MAX, TICK_MS);
    for (int i = 0; i < ready; i++) {
        if (events[i].data.ptr != NULL) {
            on_event(w, events[i].data.ptr, events[i].events);
            continue;
        }
        uint64_t expirations = 0;
        ssize_t got = read(w->timer_fd, &expirations, sizeof(expirations));
        (void)got; /* it only wakes */
    }
    tick(w, clock_monotonic_ns());
}

static bool finished(const struct worker *w)
{
    if (!w->closing)
        return false;
    if ((w->in_flight == 0 && w->retries == 0) || w->dead_count == w->conn_count)
        return true;
    bool stop = atomic_load_explicit(&w->shared->stop, memory_order_relaxed);
    return stop && clock_monotonic_ns() > w->closing_ns + INTERRUPT_DRAIN_MS * ms;
}

/* ---- life cycle ---- */

int worker_init(struct worker *w, const struct run_group *group, struct worker_shared *shared,
                unsigned index, struct trail *trail)
{
    *w = (struct worker){
        .group = group, .shared = shared, .index = index, .epoll_fd = -1, .timer_fd = -1};
    list_init(&w->idle);
    (void)pthread_mutex_init(&w->lock, NULL);
    w->conn_settings = (struct conn_settings){
        .endpoint = group->endpoint,
        .protocol = group->protocol,
        .streams = group->protocol == PROTOCOL_REST ? 1 : group->streams,
        .reply_max = group->reply_max,
        .ended = ended,
        .owner = w,
    };
    unsigned conn_count = (group->connections - index + group->threads - 1) / group->threads;
    w->recent = heap_calloc(NULL, 1, sizeof(*w->recent));
    w->all = heap_calloc(NULL, 1, sizeof(*w->all));
    w->conns = heap_calloc(NULL, conn_count, sizeof(*w->conns));
    if (w->recent == NULL || w->all == NULL || w->conns == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for a thread");
    for (; w->conn_count < conn_count; w->conn_count++) {
        if (conn_init(&w->conns[w->conn_count], &w->conn_settings) < 0)
            return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for a connection");
    }
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (w->epoll_fd < 0 || w->timer_fd < 0 ||
        epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->timer_fd, &event) != 0)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "event loop: %s", strerror(errno));
    return 0;
}

void worker_dispose(struct worker *w)
{
    if (w == NULL)
        return;
    for (unsigned i = 0; i < w->conn_count; i++)
        conn_dispose(&w->conns[i]);
    heap_free(NULL, w->conns);
    heap_free(NULL, w->recent);
    heap_free(NULL, w->all);
    if (w->epoll_fd >= 0)
        (void)close(w->epoll_fd);
    if (w->timer_fd >= 0)
        (void)close(w->timer_fd);
    (void)pthread_mutex_destroy(&w->lock);
}

int worker_connect(struct worker *w)
{
    uint64_t give_up_ns = clock_monotonic_ns() + CONNECT_MS * ms;
    w->end_ns = UINT64_MAX;
    for (unsigned i = 0; i < w->conn_count; i++)
        connect_again(w, &w->conns[i]);
    for (;;) {
        unsigned open = 0;
        for (unsigned i = 0; i < w->conn_count; i++)
            open += w->conns[i].open ? 1u : 0u;
        if (open == w->conn_count)
            return 0;
        if (w->dead_count > 0)
            return PDB_UNAVAILABLE;
        if (clock_monotonic_ns() > give_up_ns) {
            (void)snprintf(w->why, sizeof(w->why), "no connection to %.128s within %d s",
                           w->group->endpoint->authority, CONNECT_MS / 1000);
            return PDB_UNAVAILABLE;
        }
        turn(w);
    }
}

void worker_run(struct worker *w)
{
    w->interval_ns = w->group->rate > 0 ? 1e9 * w->group->threads / w->group->rate : 0;
    w->last_ns = w->start_ns;
    w->tick_ns = 0;
    while (!finished(w)) {
        start_calls(w);
        flush_all(w);
        arm(w);
        if (finished(w))
            break;
        turn(w);
    }
    (void)pthread_mutex_lock(&w->lock);
    w->all->abandoned = w->in_flight + w->retries;
    if (w->interval_ns > 0 && w->end_ns != UINT64_MAX) {
        uint64_t until = w->closing_ns < w->end_ns ? w->closing_ns : w->end_ns - 1;
        uint64_t due = due_by(w, until);
        w->all->not_started = due > w->started ? due - w->started : 0;
    }
    (void)pthread_mutex_unlock(&w->lock);
}
