/* The engine of production: the kernel's ring.
 *
 * One ring a core, made on the thread that uses it, with SUBMIT_ALL, COOP_TASKRUN and SINGLE_ISSUER
 * where the kernel knows them. Never DEFER_TASKRUN: the ring's descriptor is polled by h2o's epoll,
 * and completions that the kernel holds back wake no poller. COOP_TASKRUN holds completions back
 * only until the next system call; TASKRUN_FLAG says so in the ring, so that a thread that spins
 * without system calls sees them too (`ready`).
 *
 *     start   -> an entry of the submission queue; or the `waiting` list, in order, when the queue
 *                is full or so much is in flight that the completion queue could overflow
 *     submit  -> io_uring_enter until the queue is empty; EAGAIN and EBUSY leave the rest for the
 *                next turn
 *     reap    -> completions one by one, each taken off the ring before its callback runs: a
 *                callback may start operations, and even wait for one
 *
 * An entry's user data is the address of its operation and two bits:
 *
 *     0  the operation itself
 *     1  the fdatasync linked behind a durable write
 *     2  a MSG_RING wake-up that failed; the address is the peer to wake (success posts none here)
 *     3  the poll of our eventfd
 *
 * A durable write is a write and a linked fdatasync with one completion to the caller. The two
 * entries are reserved together: a submit between them would end the chain, and the sync could
 * overtake its write. A short or failed write cancels its sync; the write's own result is then the
 * answer. Success needs both.
 *
 * Wake-ups: MSG_RING between rings; an eventfd, polled by the ring all the time, for threads
 * without a ring, for kernels without MSG_RING, and when a MSG_RING has failed.
 *
 * fsync always runs in the kernel's worker threads; their number is capped. They are not tied to
 * cores away from the reactors: with a reactor on every core there is no such core, and a worker
 * that may run anywhere beats one that waits behind a busy reactor. CQE_SKIP_SUCCESS is used on
 * single entries only, never in a chain.
 *
 * Not here: registered buffers and files (operations are few and large), SQPOLL (burns a core). */
#include "os/io_internal.h"

#include "base/assert.h"
#include "base/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum {
#ifdef PDB_STRESS
    RING_ENTRIES = 4,
#else
    RING_ENTRIES = 256,
#endif
    RING_ENTRIES_SMALL = 32, /* where locked memory is short */
    COMPLETIONS_PER_ENTRY = 4,
    COMPLETIONS_SPARE = 8, /* for wake-ups and the eventfd's poll */
    WORKERS_BOUNDED = 8,
    WORKERS_UNBOUNDED = 4,
};

enum { TAG_OP = 0, TAG_LINKED_SYNC = 1, TAG_WAKE = 2, TAG_EVENT = 3, TAG_MASK = 3 };

struct uring {
    struct io io;
    struct io_uring ring;
    struct list waiting;  /* started, without an entry yet */
    struct list finished; /* done by a plain system call; reap tells */
    size_t parts_in_flight, parts_max;
    size_t ops_in_flight; /* all that were started and not told */
    bool stuck;           /* the last submit left entries behind */
    bool event_polled;
    bool can_message, can_rename, can_link, can_unlink, can_make_dir;
    int event_fd;
    _Atomic bool event_signalled; /* somebody has written event_fd, or is about to */
};

static struct uring *uring_of(struct io *io)
{
    return container_of(io, struct uring, io);
}

/* ---- entries ---- */

static void flush_entries(struct uring *u)
{
    u->stuck = false;
    while (io_uring_sq_ready(&u->ring) != 0) {
        int rc = io_uring_submit(&u->ring);
        if (rc > 0 || rc == -EINTR)
            continue; /* it may take fewer than all */
        /* EAGAIN: no memory now. EBUSY: completions must be taken first. Both pass. */
        ASSERT(rc == 0 || rc == -EAGAIN || rc == -EBUSY);
        u->stuck = true;
        return;
    }
}

/* True if `count` entries can be had without a submit in between. */
static bool reserve_entries(struct uring *u, unsigned count)
{
    if (io_uring_sq_space_left(&u->ring) < count)
        flush_entries(u);
    return io_uring_sq_space_left(&u->ring) >= count;
}

static struct io_uring_sqe *next_entry(struct uring *u, const void *ptr, uint64_t tag)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    ASSERT(sqe != NULL); /* reserved before */
    ASSERT(((uintptr_t)ptr & TAG_MASK) == 0);
    memset(sqe, 0, sizeof(*sqe));
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)ptr | tag);
    return sqe;
}

static void set_data(struct io_uring_sqe *sqe, const struct io_op *op, uint64_t tag)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)op | tag);
}

enum { SYNC_DIR_OPEN, SYNC_DIR_SYNC, SYNC_DIR_CLOSE };
enum { UNLINK_FILE, UNLINK_DIR };

static void prepare_sync_dir(struct io_uring_sqe *sqe, const struct io_op *op)
{
    if (op->engine.stage == SYNC_DIR_OPEN)
        io_uring_prep_openat(sqe, AT_FDCWD, op->engine.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    else if (op->engine.stage == SYNC_DIR_SYNC)
        io_uring_prep_fsync(sqe, op->engine.file, 0);
    else
        io_uring_prep_close(sqe, op->engine.file);
}

static void prepare_write(struct uring *u, struct io_uring_sqe *sqe, struct io_op *op)
{
    io_uring_prep_write(sqe, op->engine.file, op->engine.buf, (unsigned)op->engine.len,
                        op->engine.offset);
    set_data(sqe, op, TAG_OP);
    if (op->engine.parts == 1)
        return;
    sqe->flags |= IOSQE_IO_LINK;
    sqe = next_entry(u, op, TAG_LINKED_SYNC);
    io_uring_prep_fsync(sqe, op->engine.file, IORING_FSYNC_DATASYNC);
    set_data(sqe, op, TAG_LINKED_SYNC);
}

static bool ring_can(const struct uring *u, const struct io_op *op)
{
    switch ((enum io_kind)op->engine.kind) {
    case IO_KIND_RENAME:
        return u->can_rename;
    case IO_KIND_LINK:
        return u->can_link;
    case IO_KIND_UNLINK:
        return u->can_unlink;
    case IO_KIND_MAKE_DIR:
        return u->can_make_dir;
    case IO_KIND_TRUNCATE: /* came with Linux 6.9; rare enough for a plain call */
    case IO_KIND_COUNT:
        return false;
    case IO_KIND_OPEN:
    case IO_KIND_CLOSE:
    case IO_KIND_READ:
    case IO_KIND_WRITE:
    case IO_KIND_SYNC:
    case IO_KIND_ALLOCATE:
    case IO_KIND_SYNC_DIR:
        break;
    }
    return true;
}

static void prepare(struct uring *u, struct io_op *op)
{
    struct io_uring_sqe *sqe = next_entry(u, op, TAG_OP);
    ASSERT(ring_can(u, op));
    switch ((enum io_kind)op->engine.kind) {
    case IO_KIND_OPEN:
        io_uring_prep_openat(sqe, AT_FDCWD, op->engine.path, io_system_open_flags(op->engine.flags),
                             IO_FILE_MODE);
        break;
    case IO_KIND_CLOSE:
        io_uring_prep_close(sqe, op->engine.file);
        break;
    case IO_KIND_READ:
        io_uring_prep_read(sqe, op->engine.file, op->engine.buf, (unsigned)op->engine.len,
                           op->engine.offset);
        break;
    case IO_KIND_WRITE:
        prepare_write(u, sqe, op);
        return;
    case IO_KIND_SYNC:
        io_uring_prep_fsync(sqe, op->engine.file, IORING_FSYNC_DATASYNC);
        break;
    case IO_KIND_ALLOCATE:
        io_uring_prep_fallocate(sqe, op->engine.file, 0, (off_t)op->engine.offset,
                                (off_t)op->engine.len);
        break;
    case IO_KIND_RENAME:
        io_uring_prep_renameat(sqe, AT_FDCWD, op->engine.path, AT_FDCWD, op->engine.path_to, 0);
        break;
    case IO_KIND_LINK:
        io_uring_prep_linkat(sqe, AT_FDCWD, op->engine.path, AT_FDCWD, op->engine.path_to, 0);
        break;
    case IO_KIND_UNLINK:
        io_uring_prep_unlinkat(sqe, AT_FDCWD, op->engine.path,
                               op->engine.stage == UNLINK_DIR ? AT_REMOVEDIR : 0);
        break;
    case IO_KIND_MAKE_DIR:
        io_uring_prep_mkdirat(sqe, AT_FDCWD, op->engine.path, IO_DIR_MODE);
        break;
    case IO_KIND_SYNC_DIR:
        prepare_sync_dir(sqe, op);
        break;
    case IO_KIND_TRUNCATE: /* the ring does not have it: see ring_can */
    case IO_KIND_COUNT:
        break;
    }
    set_data(sqe, op, TAG_OP); /* the prep functions clear it in some versions */
}

static bool try_issue(struct uring *u, struct io_op *op)
{
    bool pair = op->engine.kind == IO_KIND_WRITE && (op->engine.flags & IO_WRITE_DURABLE) != 0;
    unsigned parts = pair ? 2 : 1;
    if (u->parts_in_flight + parts > u->parts_max || !reserve_entries(u, parts))
        return false;
    op->engine.parts = parts;
    op->engine.result = 0;
    u->parts_in_flight += parts;
    prepare(u, op);
    return true;
}

/* In order: nothing overtakes what waits. */
static void issue(struct uring *u, struct io_op *op)
{
    if (!list_empty(&u->waiting) || !try_issue(u, op)) {
        ++u->io.stats.overflow_total;
        list_push_back(&u->waiting, &op->link);
    }
}

static void issue_waiting(struct uring *u)
{
    struct io_op *op;
    while ((op = io_list_pop(&u->waiting)) != NULL) {
        if (!try_issue(u, op)) {
            list_push_front(&u->waiting, &op->link);
            return;
        }
    }
}

static void start(struct io *io, struct io_op *op)
{
    struct uring *u = uring_of(io);
    ++u->ops_in_flight;
    if (ring_can(u, op)) {
        issue(u, op);
        return;
    }
    op->engine.result = io_system_run(op);
    list_push_back(&u->finished, &op->link);
}

/* ---- completions ---- */

static void finish(struct uring *u, struct io_op *op, int64_t result)
{
    ASSERT(u->ops_in_flight != 0);
    --u->ops_in_flight;
    io_finish(&u->io, op, result);
}

static void step_sync_dir(struct uring *u, struct io_op *op, int res)
{
    if (op->engine.stage == SYNC_DIR_CLOSE) {
        finish(u, op, op->engine.kept); /* of the sync; closing a directory loses nothing */
        return;
    }
    if (op->engine.stage == SYNC_DIR_OPEN && res < 0) {
        finish(u, op, res);
        return;
    }
    if (op->engine.stage == SYNC_DIR_OPEN)
        op->engine.file = res;
    else
        op->engine.kept = res;
    ++op->engine.stage;
    issue(u, op);
}

static void step_unlink(struct uring *u, struct io_op *op, int res)
{
    if (op->engine.stage == UNLINK_FILE && (res == -EISDIR || res == -EPERM)) {
        op->engine.stage = UNLINK_DIR;
        op->engine.kept = res;
        issue(u, op);
        return;
    }
    bool no_dir_either = op->engine.stage == UNLINK_DIR && res == -ENOTDIR;
    finish(u, op, no_dir_either ? op->engine.kept : res);
}

static void step_write(struct uring *u, struct io_op *op, int res, bool linked_sync)
{
    if (linked_sync)
        op->engine.kept = res;
    else
        op->engine.result = res;
    if (op->engine.parts != 0)
        return;
    /* The sync's word counts only when the write was whole; otherwise it was cancelled. */
    bool whole = op->engine.result >= 0 && (uint64_t)op->engine.result == op->engine.len;
    finish(u, op, whole && op->engine.kept < 0 ? op->engine.kept : op->engine.result);
}

static void part_done(struct uring *u, struct io_op *op, int res, bool linked_sync)
{
    ASSERT(u->parts_in_flight != 0 && op->engine.parts != 0);
    --u->parts_in_flight;
    --op->engine.parts;
    if (op->engine.kind == IO_KIND_WRITE)
        step_write(u, op, res, linked_sync);
    else if (op->engine.kind == IO_KIND_SYNC_DIR)
        step_sync_dir(u, op, res);
    else if (op->engine.kind == IO_KIND_UNLINK)
        step_unlink(u, op, res);
    else
        finish(u, op, res);
}

/* ---- wake-ups ---- */

static void poll_event_fd(struct uring *u)
{
    if (!reserve_entries(u, 1))
        return; /* stuck: submit tries again, because event_polled stays false */
    struct io_uring_sqe *sqe = next_entry(u, NULL, TAG_EVENT);
    io_uring_prep_poll_add(sqe, u->event_fd, POLLIN);
    io_uring_sqe_set_data64(sqe, TAG_EVENT);
    u->event_polled = true;
}

static void event_came(struct uring *u)
{
    eventfd_t count;
    u->event_polled = false;
    (void)eventfd_read(u->event_fd, &count);
    atomic_exchange_explicit(&u->event_signalled, false, memory_order_acq_rel);
    poll_event_fd(u);
}

static void wake_any(struct io *to)
{
    struct uring *u = uring_of(to);
    /* Cleared only after the eventfd was read: whoever finds it set knows that a readable one is
     * seen or to come. */
    if (!atomic_exchange_explicit(&u->event_signalled, true, memory_order_acq_rel))
        (void)eventfd_write(u->event_fd, 1);
}

static void wake(struct io *from, struct io *to)
{
    struct uring *u = uring_of(from);
    if (from->ops != to->ops || !u->can_message || !reserve_entries(u, 1)) {
        to->ops->wake_any(to);
        return;
    }
    struct uring *peer = uring_of(to);
    struct io_uring_sqe *sqe = next_entry(u, peer, TAG_WAKE);
    /* On the peer's ring this is a completion with data TAG_WAKE and no address: "look around". */
    io_uring_prep_msg_ring(sqe, peer->ring.ring_fd, 0, TAG_WAKE, 0);
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)peer | TAG_WAKE);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS; /* here; the peer gets its completion */
}

static void take_completion(struct uring *u, uint64_t data, int res)
{
    uint64_t tag = data & TAG_MASK;
    void *ptr = (void *)(uintptr_t)(data & ~(uint64_t)TAG_MASK);

    if (tag == TAG_EVENT) {
        event_came(u);
    } else if (tag == TAG_WAKE) {
        if (ptr != NULL && res < 0)
            wake_any(&((struct uring *)ptr)->io);
    } else {
        part_done(u, ptr, res, tag == TAG_LINKED_SYNC);
    }
}

/* ---- the turn ---- */

static size_t submit(struct io *io)
{
    struct uring *u = uring_of(io);
    if (!u->event_polled)
        poll_event_fd(u);
    issue_waiting(u);
    flush_entries(u);
    while (!list_empty(&u->waiting) && !u->stuck && u->parts_in_flight + 2 <= u->parts_max) {
        issue_waiting(u);
        flush_entries(u);
    }
    return u->ops_in_flight;
}

static size_t reap(struct io *io, size_t max)
{
    struct uring *u = uring_of(io);
    size_t taken = 0;
    struct io_op *op;
    struct io_uring_cqe *cqe;

    while (taken != max && (op = io_list_pop(&u->finished)) != NULL) {
        ++taken;
        finish(u, op, op->engine.result);
    }
    /* Enters the kernel only when the ring says that it holds completions back. */
    while (taken != max && io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        uint64_t data = io_uring_cqe_get_data64(cqe);
        int res = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        ++taken;
        take_completion(u, data, res);
    }
    return taken;
}

static bool ready(struct io *io)
{
    struct uring *u = uring_of(io);
    if (io_uring_cq_ready(&u->ring) != 0 || !list_empty(&u->finished) || u->stuck)
        return true;
    unsigned held_back = IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN;
    return (IO_URING_READ_ONCE(*u->ring.sq.kflags) & held_back) != 0;
}

static int event_fd(struct io *io)
{
    return uring_of(io)->ring.ring_fd;
}

static void wait(struct io *io, int64_t timeout_ns)
{
    struct uring *u = uring_of(io);
    struct io_uring_cqe *cqe;

    submit(io); /* a wait with a timeout does not submit */
    if (ready(io))
        return;
    if (timeout_ns < 0) {
        (void)io_uring_wait_cqe(&u->ring, &cqe); /* EINTR returns early, which is legal */
        return;
    }
    struct __kernel_timespec ts = {.tv_sec = timeout_ns / 1000000000,
                                   .tv_nsec = timeout_ns % 1000000000};
    (void)io_uring_wait_cqe_timeout(&u->ring, &cqe, &ts);
}

static void destroy(struct io *io)
{
    struct uring *u = uring_of(io);
    while (submit(io) != 0) {
        if (reap(io, SIZE_MAX) == 0)
            wait(io, 100000000);
    }
    io_uring_queue_exit(&u->ring);
    (void)close(u->event_fd);
    heap_free(NULL, u);
}

/* ---- creation ---- */

static const struct io_ops uring_ops = {
    .name = "uring",
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

/* The best set of flags that this kernel knows, then fewer; less memory where little may be
 * locked. */
static int make_ring(struct uring *u, struct io_uring_params *params)
{
    static const unsigned flag_sets[] = {
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
            IORING_SETUP_SINGLE_ISSUER,
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    unsigned entries = RING_ENTRIES;
    for (size_t i = 0; i != sizeof(flag_sets) / sizeof(flag_sets[0]);) {
        *params = (struct io_uring_params){.flags = flag_sets[i] | IORING_SETUP_CQSIZE,
                                           .cq_entries = entries * COMPLETIONS_PER_ENTRY};
        int rc = io_uring_queue_init_params(entries, &u->ring, params);
        if (rc == -ENOMEM && entries > RING_ENTRIES_SMALL)
            entries = RING_ENTRIES_SMALL;
        else if (rc != -EINVAL)
            return rc;
        else
            ++i;
    }
    return -EINVAL;
}

static int check_operations(struct uring *u)
{
    static const int needed[] = {IORING_OP_READ,    IORING_OP_WRITE, IORING_OP_FSYNC,
                                 IORING_OP_OPENAT,  IORING_OP_CLOSE, IORING_OP_FALLOCATE,
                                 IORING_OP_POLL_ADD};
    struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
    if (probe == NULL)
        return -ENOSYS;
    int rc = 0;
    for (size_t i = 0; i != sizeof(needed) / sizeof(needed[0]); ++i) {
        if (!io_uring_opcode_supported(probe, needed[i]))
            rc = -ENOSYS;
    }
    u->can_message = io_uring_opcode_supported(probe, IORING_OP_MSG_RING) != 0 &&
                     (u->ring.features & IORING_FEAT_CQE_SKIP) != 0;
    u->can_link = io_uring_opcode_supported(probe, IORING_OP_LINKAT) != 0;
    u->can_rename = io_uring_opcode_supported(probe, IORING_OP_RENAMEAT) != 0;
    u->can_unlink = io_uring_opcode_supported(probe, IORING_OP_UNLINKAT) != 0;
    u->can_make_dir = io_uring_opcode_supported(probe, IORING_OP_MKDIRAT) != 0;
    io_uring_free_probe(probe);
    return rc;
}

/* Both only make things better; older kernels refuse. */
static void tune_ring(struct uring *u)
{
    unsigned workers[2] = {WORKERS_BOUNDED, WORKERS_UNBOUNDED};
    (void)io_uring_register_ring_fd(&u->ring); /* saves a look-up in every call */
    (void)io_uring_register_iowq_max_workers(&u->ring, workers);
}

int uring_create(struct io **io_out, const char **what_out)
{
    struct io_uring_params params;
    struct uring *u = heap_calloc(NULL, 1, sizeof(*u));
    *what_out = "memory";
    if (u == NULL)
        return -ENOMEM;
    u->io.ops = &uring_ops;
    list_init(&u->waiting);
    list_init(&u->finished);

    *what_out = "io_uring_setup";
    int rc = make_ring(u, &params);
    if (rc < 0)
        goto err_free;
    *what_out = "a kernel feature or operation of io_uring (Linux 5.11 has them)";
    rc = -ENOSYS;
    if ((params.features & IORING_FEAT_NODROP) == 0 || (params.features & IORING_FEAT_EXT_ARG) == 0)
        goto err_ring;
    if ((rc = check_operations(u)) < 0)
        goto err_ring;
    *what_out = "eventfd";
    u->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (u->event_fd < 0) {
        rc = -errno;
        goto err_ring;
    }
    u->parts_max = params.cq_entries - COMPLETIONS_SPARE;

    tune_ring(u);
    poll_event_fd(u);
    flush_entries(u);
    *io_out = &u->io;
    return 0;

err_ring:
    io_uring_queue_exit(&u->ring);
err_free:
    heap_free(NULL, u);
    return rc;
}
