/* The reactor as a guest of h2o's loop.
 *
 * The thread blocks in h2o's epoll_wait and nowhere else. A duplicate of the I/O engine's
 * descriptor is a socket of the loop (h2o closes the descriptors of its sockets, hence the
 * duplicate), and so is a timerfd.
 *
 * Rules, each with a failure behind it:
 *
 * - Everything that touches a socket runs inside h2o_evloop_run: a write from outside gets its
 *   callback only after the next epoll_wait. So the turn is a zero-length timeout of h2o's,
 *   `turn_end`, which h2o runs after the sockets' callbacks, and which keeps it from blocking while
 *   it is linked.
 * - turn_end is never linked from its own callback: h2o would run it again at once, and sockets
 *   would starve. Work that is left over makes the next wait a short one.
 * - turn_end.registered_at = 0 after linking: h2o's clock is the wall clock, and set back it would
 *   hold the entry.
 * - h2o_evloop_run ends with -1 and EINTR, before any timeout has run, when task work of the ring
 *   interrupts it. That is normal, and the turn is then run by calling it again.
 *
 * Who links turn_end: a wait that may not block; the engine's descriptor or the timerfd when they
 * become readable; the reactor when one of the transport's socket callbacks has queued work. A wait
 * that ends without any of them (sockets were served and had nothing for us) needs no turn, and no
 * second epoll_wait either: reactor_turn_idle hands operations that a callback may have started to
 * the disk. The same is done behind a turn, whose writes have their callbacks after it: an archive
 * that is sent reads its next piece there, and waited for the next timer with each.
 *
 * h2o waits in milliseconds. Deadlines that are near are given to the timerfd instead, because a
 * log's batch window is a millisecond; it is set only when the deadline differs from the one it
 * has. */
#include "reactor/guest_h2o.h"

#include "base/assert.h"
#include "reactor/reactor_internal.h"

#include <errno.h>
#include <h2o.h>
#include <proximadb/error.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum { READ_BYTES = 64 << 10, WAIT_MS_MAX = 1000, NEAR_MS = 20 };

struct guest {
    struct reactor *reactor;
    h2o_evloop_t *loop;
    h2o_timeout_t zero;
    h2o_timeout_entry_t turn_end;
    h2o_socket_t *io_socket, *timer_socket;
    int timer_fd;          /* timer_socket's */
    uint64_t timer_due_ns; /* what the timerfd is set to; 0: not set */
    bool turned;           /* in this wait */
};

static void link_turn(struct guest *g)
{
    if (h2o_timeout_is_linked(&g->turn_end))
        return;
    h2o_timeout_link(g->loop, &g->zero, &g->turn_end);
    g->turn_end.registered_at = 0;
}

static void on_turn_end(h2o_timeout_entry_t *entry)
{
    struct guest *g = container_of(entry, struct guest, turn_end);
    g->turned = true;
    (void)reactor_turn(g->reactor);
}

/* The ring's or the eventfd's: level-triggered, and emptied by the turn. */
static void on_io_readable(h2o_socket_t *sock, const char *err)
{
    ASSERT(err == NULL);
    link_turn(sock->data);
}

static void on_timer_readable(h2o_socket_t *sock, const char *err)
{
    struct guest *g = sock->data;
    uint64_t expirations;
    ASSERT(err == NULL);
    (void)!read(g->timer_fd, &expirations, sizeof(expirations));
    g->timer_due_ns = 0;
    link_turn(g);
}

static void work_came(struct reactor *r, void *host)
{
    (void)r;
    link_turn(host);
}

/* ---- waiting ---- */

static void run_loop(struct guest *g, int32_t wait_ms)
{
    if (h2o_evloop_run(g->loop, wait_ms) != 0)
        ASSERT(errno == EINTR);
}

static void set_timer(struct guest *g, uint64_t due_ns)
{
    if (g->timer_due_ns == due_ns)
        return;
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(due_ns / 1000000000),
                                           .tv_nsec = (long)(due_ns % 1000000000)}};
    int rc = timerfd_settime(g->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    ASSERT(rc == 0);
    g->timer_due_ns = due_ns;
}

/* How long h2o may wait; near deadlines go to the timerfd. */
static int32_t wait_ms_for(struct guest *g, int64_t timeout_ns)
{
    if (timeout_ns < 0)
        return WAIT_MS_MAX;
    int64_t ms = timeout_ns / 1000000;
    if (ms < NEAR_MS) {
        set_timer(g, timers_earliest(g->reactor));
        return WAIT_MS_MAX;
    }
    /* Rounded down, and one less for h2o's own rounding: the rest of the way is near. */
    return ms - 1 < WAIT_MS_MAX ? (int32_t)(ms - 1) : WAIT_MS_MAX;
}

static void wait(struct reactor *r, void *host, int64_t timeout_ns)
{
    struct guest *g = host;
    g->turned = false;
    if (timeout_ns == 0)
        link_turn(g);
    run_loop(g, timeout_ns == 0 ? 0 : wait_ms_for(g, timeout_ns));
    if (!g->turned && timeout_ns != 0 && !reactor_has_work(r)) {
        reactor_turn_idle(r);
        return;
    }
    while (!g->turned) {
        link_turn(g);
        run_loop(g, 0);
    }
    /* What the turn wrote has its callbacks behind it, and what they start has no turn yet. */
    mailbox_end_turn(r);
    (void)r->io->ops->submit(r->io);
}

/* ---- life ---- */

static h2o_socket_t *add_socket(struct guest *g, int fd, h2o_socket_cb on_readable)
{
    h2o_socket_t *sock = h2o_evloop_socket_create(g->loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    sock->data = g;
    h2o_socket_read_start(sock, on_readable);
    return sock;
}

static int start(struct reactor *r, void *arg, void **host_out)
{
    (void)arg;
    struct guest *g = heap_calloc(NULL, 1, sizeof(*g));
    if (g == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    g->reactor = r;
    int io_fd = dup(r->io->ops->event_fd(r->io));
    if (io_fd < 0)
        goto err_free;
    g->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (g->timer_fd < 0)
        goto err_close;

    /* Of this thread: with h2o's 8 KiB, pipelined requests take three times as many reads. */
    h2o_socket_buffer_prototype._initial_buf.capacity = READ_BYTES;
    g->loop = h2o_evloop_create();
    h2o_timeout_init(g->loop, &g->zero, 0);
    g->turn_end.cb = on_turn_end;
    g->io_socket = add_socket(g, io_fd, on_io_readable);
    g->timer_socket = add_socket(g, g->timer_fd, on_timer_readable);
    *host_out = g;
    return 0;

err_close:
    (void)close(io_fd);
err_free:
    heap_free(NULL, g);
    return PDB_RESOURCE_EXHAUSTED;
}

static void stop(struct reactor *r, void *host)
{
    struct guest *g = host;
    (void)r;
    h2o_timeout_unlink(&g->turn_end);
    h2o_socket_close(g->io_socket);
    h2o_socket_close(g->timer_socket);
    (void)h2o_evloop_run(g->loop, 0); /* frees the closed sockets */
    h2o_timeout_dispose(g->loop, &g->zero);
    h2o_evloop_destroy(g->loop); /* but not its epoll descriptor: groups start once a process */
    heap_free(NULL, g);
}

static const struct reactor_host host = {
    .start = start,
    .wait = wait,
    .work_came = work_came,
    .stop = stop,
};

const struct reactor_host *guest_h2o_host(void)
{
    return &host;
}

void *guest_h2o_loop(struct reactor *r)
{
    ASSERT(r->priv->host == &host && r->priv->host_state != NULL);
    return ((struct guest *)r->priv->host_state)->loop;
}
