/* The I/O table on a disk in memory, for thousands of crashes a second.
 *
 * Time is virtual: it moves only by sim_advance, and by `wait`, which has nobody to wait for and
 * moves it on to the next completion. An operation gets a due time when it is submitted (a latency
 * drawn from the seed) and takes effect when it is reaped at or after that time, so operations that
 * are in flight together take effect in any order, as on a real disk. Nothing is random but the
 * seed: the same calls give the same bytes, results and order.
 *
 *     started --submit--> flying, ordered by due time --reap--> executed, done
 *
 * A crash executes a random part of what is flying, without its durability, then lets sim_disk.c
 * tear what is not durable. Ios of that life are dead: they forget what they are given. */
#include "os/sim_internal.h"

#include "base/assert.h"
#include "base/heap.h"

#include <errno.h>
#include <string.h>

#include "base/no_libc_heap.h"

static const uint64_t START_NS = UINT64_C(1000000000);
static const int64_t START_REALTIME_US = INT64_C(1700000000000000);

struct sim_io {
    struct io io;
    struct sim_disk *disk;
    struct list_link link; /* of the disk's; none when dead */
    struct list started, flying;
    size_t ops_in_flight;
};

static struct sim_io *sim_of(struct io *io)
{
    return container_of(io, struct sim_io, io);
}

static bool dead(const struct sim_io *s)
{
    return !list_linked(&s->link);
}

/* An operation in flight keeps its due time where its result will be, and a planned failure in
 * `kept`. */
static uint64_t due_of(const struct io_op *op)
{
    return (uint64_t)op->engine.result;
}

static struct io_op *first_flying(struct sim_io *s)
{
    return list_empty(&s->flying) ? NULL : container_of(s->flying.anchor.next, struct io_op, link);
}

bool sim_coin(struct sim_disk *disk, double probability)
{
    return probability > 0 && rng_unit(&disk->coins) < probability;
}

/* ---- the table ---- */

static void start(struct io *io, struct io_op *op)
{
    struct sim_io *s = sim_of(io);
    if (dead(s))
        return; /* the power is off: it will never complete */
    ++s->ops_in_flight;
    list_push_back(&s->started, &op->link);
}

/* Counts an I/O; 0, or the negative error that it is to fail with. */
static int planned_failure(struct sim_disk *disk)
{
    ++disk->op_count;
    if (disk->fail_at != 0 && --disk->fail_at == 0)
        return -disk->fail_error;
    return disk->break_at != 0 && disk->op_count >= disk->break_at ? -EIO : 0;
}

static void fly(struct sim_io *s, struct io_op *op)
{
    struct sim_disk *disk = s->disk;
    const struct sim_faults *f = &disk->faults;
    uint64_t latency = f->latency_min_ns;

    if (f->latency_max_ns > f->latency_min_ns)
        latency += rng_below(&disk->coins, f->latency_max_ns - f->latency_min_ns + 1);
    op->engine.result = (int64_t)(disk->now_ns + latency);
    int failure = planned_failure(disk);
    if (failure != 0)
        op->engine.kept = failure;

    struct list_link *at = &s->flying.anchor;
    while (at->prev != &s->flying.anchor &&
           due_of(container_of(at->prev, struct io_op, link)) > due_of(op))
        at = at->prev;
    list_insert_before(at, &op->link);
}

static size_t submit(struct io *io)
{
    struct sim_io *s = sim_of(io);
    struct io_op *op;
    while ((op = io_list_pop(&s->started)) != NULL)
        fly(s, op);
    return s->ops_in_flight;
}

static bool ready(struct io *io)
{
    struct sim_io *s = sim_of(io);
    struct io_op *op = first_flying(s);
    return op != NULL && due_of(op) <= s->disk->now_ns;
}

static size_t reap(struct io *io, size_t max)
{
    struct sim_io *s = sim_of(io);
    size_t taken = 0;
    while (taken != max && !dead(s) && ready(io)) {
        struct io_op *op = io_list_pop(&s->flying);
        int64_t result = op->engine.kept != 0 ? op->engine.kept : sim_execute(s->disk, op, false);
        ++taken;
        --s->ops_in_flight;
        io_finish(io, op, result);
    }
    return taken;
}

static int event_fd(struct io *io)
{
    (void)io;
    return -1;
}

static void wake(struct io *from, struct io *to)
{
    (void)from;
    (void)to; /* nobody sleeps: the test turns every reactor */
}

static void wake_any(struct io *to)
{
    (void)to;
}

static void wait(struct io *io, int64_t timeout_ns)
{
    struct sim_io *s = sim_of(io);
    submit(io);
    const struct io_op *op = first_flying(s);
    uint64_t now = s->disk->now_ns;
    uint64_t until = timeout_ns >= 0 ? now + (uint64_t)timeout_ns : op != NULL ? UINT64_MAX : now;
    if (op != NULL && due_of(op) < until)
        until = due_of(op);
    if (until > now)
        s->disk->now_ns = until;
}

static int list_dir(struct io *io, const char *path, void (*visit)(void *arg, const char *name),
                    void *arg)
{
    struct sim_io *s = sim_of(io);
    return dead(s) ? -EIO : sim_disk_list(s->disk, path, visit, arg);
}

static int64_t file_size(struct io *io, int file)
{
    struct sim_io *s = sim_of(io);
    return dead(s) ? -EIO : sim_disk_file_size(s->disk, file);
}

static int64_t free_space(struct io *io, const char *path)
{
    (void)path;
    struct sim_disk *disk = sim_of(io)->disk;
    uint64_t max = disk->faults.bytes_max, used = sim_disk_bytes_used(disk);
    if (max == 0)
        return INT64_C(1) << 40;
    return used < max ? (int64_t)(max - used) : 0;
}

static int64_t used_space(struct io *io, const char *path)
{
    (void)path;
    return (int64_t)sim_disk_bytes_used(sim_of(io)->disk);
}

static uint64_t now_ns(struct io *io)
{
    return sim_of(io)->disk->now_ns;
}

static int64_t realtime_us(struct io *io)
{
    return START_REALTIME_US + (int64_t)(sim_of(io)->disk->now_ns / 1000);
}

static void random_bytes(struct io *io, void *bytes, size_t len)
{
    struct rng *rng = &sim_of(io)->disk->randoms;
    for (size_t i = 0; i != len; ++i)
        ((uint8_t *)bytes)[i] = (uint8_t)(rng_next(rng) >> 56);
}

static void destroy(struct io *io)
{
    struct sim_io *s = sim_of(io);
    while (!dead(s) && submit(io) != 0) {
        if (reap(io, SIZE_MAX) == 0)
            wait(io, -1);
    }
    list_remove(&s->link);
    heap_free(NULL, s);
}

static const struct io_ops sim_ops = {
    .name = "sim",
    IO_START_FUNCTIONS,
    .start = start,
    .list_dir = list_dir,
    .file_size = file_size,
    .free_space = free_space,
    .used_space = used_space,
    .now_ns = now_ns,
    .realtime_us = realtime_us,
    .random = random_bytes,
    .submit = submit,
    .reap = reap,
    .ready = ready,
    .event_fd = event_fd,
    .wake = wake,
    .wake_any = wake_any,
    .wait = wait,
    .destroy = destroy,
};

int sim_io_create(struct sim_disk *disk, struct io **io_out)
{
    struct sim_io *s = heap_calloc(NULL, 1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->io.ops = &sim_ops;
    s->disk = disk;
    list_init(&s->started);
    list_init(&s->flying);
    list_push_back(&disk->ios, &s->link);
    *io_out = &s->io;
    return 0;
}

/* ---- a file at once ---- */

static int64_t read_open_file(struct sim_disk *disk, int file, void **bytes_out)
{
    int64_t size = sim_disk_file_size(disk, file);
    if (size < 0)
        return size;
    uint8_t *bytes = heap_alloc(NULL, (size_t)size + 1);
    if (bytes == NULL)
        return -ENOMEM;
    struct io_op op = {
        .engine = {.kind = IO_KIND_READ, .file = file, .buf = bytes, .len = (uint64_t)size}};
    int64_t result = sim_execute(disk, &op, false); /* also of no bytes: a folder refuses */
    if (result < 0) {
        heap_free(NULL, bytes);
        return result;
    }
    *bytes_out = bytes;
    return result;
}

int sim_read_file(struct io *io, const char *path, void **bytes_out, size_t *len_out)
{
    struct sim_io *s = sim_of(io);
    struct sim_disk *disk = s->disk;
    if (dead(s))
        return -EIO;
    int failure = planned_failure(disk);
    if (failure != 0)
        return failure;
    struct io_op op = {.engine = {.kind = IO_KIND_OPEN, .path = path, .flags = IO_OPEN_READ}};
    int64_t file = sim_execute(disk, &op, false);
    if (file < 0)
        return (int)file;
    int64_t result = read_open_file(disk, (int)file, bytes_out);
    op.engine.kind = IO_KIND_CLOSE;
    op.engine.file = (int)file;
    (void)sim_execute(disk, &op, false);
    if (result < 0)
        return (int)result;
    *len_out = (size_t)result;
    return 0;
}

/* ---- the disk ---- */

struct sim_disk *sim_disk_new(uint64_t seed)
{
    struct sim_disk *disk = heap_calloc(NULL, 1, sizeof(*disk));
    if (disk == NULL)
        return NULL;
    rng_seed(&disk->coins, seed);
    rng_seed(&disk->randoms, ~seed);
    disk->now_ns = START_NS;
    list_init(&disk->ios);
    if (!sim_disk_open_store(disk)) {
        heap_free(NULL, disk);
        return NULL;
    }
    return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
    if (disk == NULL)
        return;
    ASSERT(list_empty(&disk->ios));
    sim_disk_close_store(disk);
    heap_free(NULL, disk);
}

void sim_disk_set_faults(struct sim_disk *disk, const struct sim_faults *faults)
{
    disk->faults = *faults;
}

void sim_disk_fail_at(struct sim_disk *disk, uint64_t nth, int error)
{
    disk->fail_at = nth;
    disk->fail_error = error;
}

uint64_t sim_disk_op_count(const struct sim_disk *disk)
{
    return disk->op_count;
}

void sim_disk_break_at(struct sim_disk *disk, uint64_t nth)
{
    disk->break_at = nth != 0 ? disk->op_count + nth : 0;
}

/* Ends all ios; of what is flying each operation is done by a coin. */
static void end_ios(struct sim_disk *disk, bool crashing)
{
    struct list_link *link;
    while ((link = list_pop_front(&disk->ios)) != NULL) {
        struct sim_io *s = container_of(link, struct sim_io, link);
        struct io_op *op;
        while ((op = io_list_pop(&s->flying)) != NULL) {
            if (op->engine.kept == 0 && sim_coin(disk, 0.5))
                (void)sim_execute(disk, op, crashing);
        }
        while ((op = io_list_pop(&s->started)) != NULL)
            continue; /* never left the core */
        s->ops_in_flight = 0;
    }
}

void sim_disk_crash(struct sim_disk *disk)
{
    end_ios(disk, true);
    sim_disk_lose_power(disk);
}

void sim_disk_kill(struct sim_disk *disk)
{
    end_ios(disk, false);
    sim_disk_forget_files(disk);
}

void sim_advance(struct sim_disk *disk, uint64_t ns)
{
    uint64_t until = disk->now_ns + ns;
    list_each (link, &disk->ios) {
        const struct io_op *op = first_flying(container_of(link, struct sim_io, link));
        if (op != NULL && due_of(op) < until)
            until = due_of(op);
    }
    if (until > disk->now_ns)
        disk->now_ns = until;
}
