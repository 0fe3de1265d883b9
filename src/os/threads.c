/* The engine where io_uring is denied, and for debuggers and sanitizers: one thread per core that
 * makes plain system calls, one after another.
 *
 *     owner    start -> `started`; submit moves all of it into `queue` under the lock, once a turn
 *     thread   takes one op, runs it without the lock, puts it into `done`
 *     owner    reap moves all of `done` to `finished`, then runs callbacks up to its budget
 *
 * The lock is held for a few pointer moves only. The eventfd is written when `done` stops being
 * empty, and by peers that wake this core; `signalled` keeps that to one write until the owner has
 * looked. The owner clears it only after a successful read: a writer sets the flag first and writes
 * after, so an unsuccessful read means that the write is about to come, and clearing then would
 * leave the descriptor readable for ever with nobody to read it.
 *
 * One thread and not a pool: what needs speed uses the ring, and one thread keeps each core's disk
 * work in order. */
#include "os/io_internal.h"

#include "base/assert.h"
#include "base/heap.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

struct threads {
    struct io io;
    struct list started, finished; /* the owner's */
    size_t ops_in_flight;          /* all that were started and not told */
    int event_fd;
    _Atomic bool signalled;

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work_came;
    /* under the lock */
    struct list queue, done;
    bool idle, stop;
};

static struct threads *threads_of(struct io *io)
{
    return container_of(io, struct threads, io);
}

static void wake_any(struct io *to)
{
    struct threads *t = threads_of(to);
    if (!atomic_exchange_explicit(&t->signalled, true, memory_order_acq_rel))
        (void)eventfd_write(t->event_fd, 1);
}

static void wake(struct io *from, struct io *to)
{
    (void)from;
    to->ops->wake_any(to);
}

/* ---- the thread ---- */

static void *run_thread(void *arg)
{
    struct threads *t = arg;
    (void)pthread_setname_np(pthread_self(), "pdb-io");

    pthread_mutex_lock(&t->lock);
    for (;;) {
        struct io_op *op = io_list_pop(&t->queue);
        if (op == NULL) {
            if (t->stop)
                break;
            t->idle = true;
            pthread_cond_wait(&t->work_came, &t->lock);
            t->idle = false;
            continue;
        }
        pthread_mutex_unlock(&t->lock);
        op->engine.result = io_system_run(op);
        pthread_mutex_lock(&t->lock);
        bool first = list_empty(&t->done);
        list_push_back(&t->done, &op->link);
        if (first)
            wake_any(&t->io);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* ---- the owner ---- */

static void start(struct io *io, struct io_op *op)
{
    struct threads *t = threads_of(io);
    ++t->ops_in_flight;
    list_push_back(&t->started, &op->link);
}

static size_t submit(struct io *io)
{
    struct threads *t = threads_of(io);
    if (!list_empty(&t->started)) {
        pthread_mutex_lock(&t->lock);
        io_list_move(&t->started, &t->queue);
        bool idle = t->idle;
        pthread_mutex_unlock(&t->lock);
        if (idle)
            pthread_cond_signal(&t->work_came);
    }
    return t->ops_in_flight;
}

static void collect(struct threads *t)
{
    eventfd_t count;
    if (!atomic_load_explicit(&t->signalled, memory_order_relaxed))
        return;
    if (eventfd_read(t->event_fd, &count) == 0)
        atomic_exchange_explicit(&t->signalled, false, memory_order_acq_rel);
    pthread_mutex_lock(&t->lock);
    io_list_move(&t->done, &t->finished);
    pthread_mutex_unlock(&t->lock);
}

static size_t reap(struct io *io, size_t max)
{
    struct threads *t = threads_of(io);
    size_t taken = 0;
    struct io_op *op;

    collect(t);
    while (taken != max && (op = io_list_pop(&t->finished)) != NULL) {
        ++taken;
        ASSERT(t->ops_in_flight != 0);
        --t->ops_in_flight;
        io_finish(io, op, op->engine.result);
    }
    return taken;
}

static bool ready(struct io *io)
{
    struct threads *t = threads_of(io);
    return !list_empty(&t->finished) || atomic_load_explicit(&t->signalled, memory_order_relaxed);
}

static int event_fd(struct io *io)
{
    return threads_of(io)->event_fd;
}

static void wait(struct io *io, int64_t timeout_ns)
{
    submit(io);
    if (ready(io))
        return;
    struct pollfd poll_fd = {.fd = threads_of(io)->event_fd, .events = POLLIN};
    struct timespec ts = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    (void)ppoll(&poll_fd, 1, timeout_ns < 0 ? NULL : &ts, NULL); /* EINTR is an early return */
}

static void destroy(struct io *io)
{
    struct threads *t = threads_of(io);
    while (submit(io) != 0) {
        if (reap(io, SIZE_MAX) == 0)
            wait(io, -1);
    }
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->work_came);
    pthread_mutex_unlock(&t->lock);
    (void)pthread_join(t->thread, NULL);
    (void)pthread_cond_destroy(&t->work_came);
    (void)pthread_mutex_destroy(&t->lock);
    (void)close(t->event_fd);
    heap_free(NULL, t);
}

static const struct io_ops threads_ops = {
    .name = "threads",
    IO_START_FUNCTIONS,
    .start = start,
    IO_SYSTEM_FUNCTIONS,
    .submit = submit,
    .reap = reap,
    .ready = ready,
    .event_fd = event_fd,
    .wake = wake,
    .wake_any = wake_any,
    .wait = wait,
    .destroy = destroy,
};

/* Signals are for the program's own threads. */
static int create_thread(struct threads *t)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&t->thread, NULL, run_thread, t);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -rc;
}

int threads_create(struct io **io_out)
{
    int rc = -ENOMEM;
    struct threads *t = heap_calloc(NULL, 1, sizeof(*t));
    if (t == NULL)
        return rc;
    t->io.ops = &threads_ops;
    list_init(&t->started);
    list_init(&t->finished);
    list_init(&t->queue);
    list_init(&t->done);
    t->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (t->event_fd < 0) {
        rc = -errno;
        goto err_free;
    }
    if ((rc = -pthread_mutex_init(&t->lock, NULL)) < 0)
        goto err_close;
    if ((rc = -pthread_cond_init(&t->work_came, NULL)) < 0)
        goto err_mutex;
    if ((rc = create_thread(t)) < 0)
        goto err_cond;
    *io_out = &t->io;
    return 0;

err_cond:
    (void)pthread_cond_destroy(&t->work_came);
err_mutex:
    (void)pthread_mutex_destroy(&t->lock);
err_close:
    (void)close(t->event_fd);
err_free:
    heap_free(NULL, t);
    return rc;
}
