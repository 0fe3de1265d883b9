/* The I/O table keeps the same promises on each engine: the ring, the thread and the simulated
 * disk. */
#include "os/io.h"

#include "base/heap.h"
#include "os/sim.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum engine { ENGINE_URING, ENGINE_THREADS, ENGINE_SIM };

struct fixture {
    enum engine engine;
    struct sim_disk *disk;
    struct io *io;
    char dir[64];
};

static struct io *new_io(struct fixture *fx)
{
    struct io *io = NULL;
    const char *reason = NULL;
    if (fx->engine == ENGINE_SIM)
        assert_int_equal(sim_io_create(fx->disk, &io), 0);
    else if (io_create(fx->engine == ENGINE_URING ? IO_ENGINE_URING : IO_ENGINE_THREADS, &io,
                       &reason) != 0)
        return NULL;
    return io;
}

static int set_up(void **state, enum engine engine)
{
    struct fixture *fx = test_calloc(1, sizeof(*fx));
    fx->engine = engine;
    if (engine == ENGINE_SIM)
        fx->disk = sim_disk_new(1);
    fx->io = new_io(fx);
    if (fx->io != NULL && engine == ENGINE_SIM) {
        (void)strcpy(fx->dir, "/t");
        assert_int_equal(io_wait_make_dir(fx->io, fx->dir), 0);
    } else if (fx->io != NULL) {
        /* On a disk and not in /tmp, which may be a tmpfs, when the build folder is on one. */
        (void)strcpy(fx->dir, "test_io_XXXXXX");
        assert_non_null(mkdtemp(fx->dir));
    }
    *state = fx;
    return 0;
}

static int set_up_uring(void **state)
{
    return set_up(state, ENGINE_URING);
}

static int set_up_threads(void **state)
{
    return set_up(state, ENGINE_THREADS);
}

static int set_up_sim(void **state)
{
    return set_up(state, ENGINE_SIM);
}

static void remove_name(void *arg, const char *name)
{
    const struct fixture *fx = arg;
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", fx->dir, name);
    (void)remove(path);
}

static int tear_down(void **state)
{
    struct fixture *fx = *state;
    if (fx->io != NULL) {
        if (fx->engine != ENGINE_SIM) {
            (void)fx->io->ops->list_dir(fx->io, fx->dir, remove_name, fx);
            (void)rmdir(fx->dir);
        }
        fx->io->ops->destroy(fx->io);
    }
    sim_disk_free(fx->disk);
    test_free(fx);
    return 0;
}

/* io_uring may be denied where the tests run; the other engines never are. */
static struct fixture *fixture_of(void **state)
{
    struct fixture *fx = *state;
    if (fx->io == NULL) {
        assert_int_equal(fx->engine, ENGINE_URING);
        skip();
    }
    return fx;
}

static const char *path_in(const struct fixture *fx, const char *name, char out[128])
{
    (void)snprintf(out, 128, "%s/%s", fx->dir, name);
    return out;
}

static int create_file(struct fixture *fx, const char *name, unsigned flags)
{
    char path[128];
    int64_t file =
        io_wait_open(fx->io, path_in(fx, name, path),
                     IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE | flags);
    assert_true(file >= 0);
    return (int)file;
}

static void what_was_written_is_read_back(void **state)
{
    struct fixture *fx = fixture_of(state);
    int file = create_file(fx, "a", 0);
    char buf[16] = {0};
    assert_int_equal(io_wait_write(fx->io, file, "hello", 5, 0, 0), 5);
    assert_int_equal(io_wait_write(fx->io, file, "world", 5, 8, 0), 5);
    assert_int_equal(fx->io->ops->file_size(fx->io, file), 13);
    assert_int_equal(io_wait_read(fx->io, file, buf, sizeof(buf), 0), 13);
    assert_memory_equal(buf, "hello\0\0\0world", 13);
    assert_int_equal(io_wait_read(fx->io, file, buf, 4, 13), 0);
    assert_int_equal(io_wait_close(fx->io, file), 0);
}

static uint64_t ops_done(const struct fixture *fx, unsigned op)
{
    return histogram_count(&fx->io->stats.by_op[op].took);
}

static void a_durable_write_is_one_operation(void **state)
{
    struct fixture *fx = fixture_of(state);
    int file = create_file(fx, "a", 0);
    char buf[8] = {0};
    uint64_t before = ops_done(fx, METRICS_IO_WRITE);
    assert_int_equal(io_wait_write(fx->io, file, "durable!", 8, 0, IO_WRITE_DURABLE), 8);
    assert_int_equal(ops_done(fx, METRICS_IO_WRITE), before + 1);
    assert_int_equal(io_wait_read(fx->io, file, buf, 8, 0), 8);
    assert_memory_equal(buf, "durable!", 8);
    assert_int_equal(io_wait_sync(fx->io, file), 0);
    assert_int_equal(io_wait_close(fx->io, file), 0);
}

static void a_durable_write_that_fails_tells_the_writes_error(void **state)
{
    struct fixture *fx = fixture_of(state);
    char path[128];
    int file = create_file(fx, "a", 0);
    assert_int_equal(io_wait_close(fx->io, file), 0);
    file = (int)io_wait_open(fx->io, path_in(fx, "a", path), IO_OPEN_READ);
    assert_true(file >= 0);
    assert_int_equal(io_wait_write(fx->io, file, "x", 1, 0, IO_WRITE_DURABLE), -EBADF);
    assert_int_equal(io_wait_close(fx->io, file), 0);
}

static void opening_what_is_not_there_tells_enoent(void **state)
{
    struct fixture *fx = fixture_of(state);
    char path[128];
    assert_int_equal(io_wait_open(fx->io, path_in(fx, "none", path), IO_OPEN_READ), -ENOENT);
    assert_int_equal(
        io_wait_open(fx->io, path_in(fx, "no/ne", path), IO_OPEN_WRITE | IO_OPEN_CREATE), -ENOENT);
    assert_int_equal(io_wait_unlink(fx->io, path_in(fx, "none", path)), -ENOENT);
    assert_int_equal(io_wait_sync_dir(fx->io, path_in(fx, "none", path)), -ENOENT);
    assert_int_equal(io_wait_rename(fx->io, path_in(fx, "none", path), "x"), -ENOENT);
    assert_int_equal(io_wait_close(fx->io, 1 << 20), -EBADF);
    assert_int_equal(fx->io->stats.by_op[METRICS_IO_OPEN].errors[METRICS_ERRNO_ENOENT], 2);
    assert_int_equal(fx->io->stats.by_op[METRICS_IO_UNLINK].errors[METRICS_ERRNO_ENOENT], 1);
    assert_int_equal(fx->io->stats.by_op[METRICS_IO_SYNC].errors[METRICS_ERRNO_ENOENT], 1);
    assert_int_equal(fx->io->stats.by_op[METRICS_IO_RENAME].errors[METRICS_ERRNO_ENOENT], 1);
    assert_int_equal(fx->io->stats.by_op[METRICS_IO_OTHER].errors[METRICS_ERRNO_OTHER], 1);
}

static void exclusive_creation_refuses_an_existing_file(void **state)
{
    struct fixture *fx = fixture_of(state);
    char path[128];
    int file = create_file(fx, "a", 0);
    assert_int_equal(io_wait_close(fx->io, file), 0);
    assert_int_equal(io_wait_open(fx->io, path_in(fx, "a", path),
                                  IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE),
                     -EEXIST);
}

static void a_renamed_file_keeps_its_bytes_and_replaces_the_target(void **state)
{
    struct fixture *fx = fixture_of(state);
    char from[128], to[128], buf[4];
    int file = create_file(fx, "old", 0);
    assert_int_equal(io_wait_write(fx->io, file, "new!", 4, 0, 0), 4);
    assert_int_equal(io_wait_close(fx->io, file), 0);
    assert_int_equal(io_wait_close(fx->io, create_file(fx, "name", 0)), 0);
    assert_int_equal(io_wait_rename(fx->io, path_in(fx, "old", from), path_in(fx, "name", to)), 0);
    assert_int_equal(io_wait_sync_dir(fx->io, fx->dir), 0);
    assert_int_equal(io_wait_open(fx->io, from, IO_OPEN_READ), -ENOENT);
    file = (int)io_wait_open(fx->io, to, IO_OPEN_READ);
    assert_true(file >= 0);
    assert_int_equal(io_wait_read(fx->io, file, buf, 4, 0), 4);
    assert_memory_equal(buf, "new!", 4);
    assert_int_equal(io_wait_close(fx->io, file), 0);
}

static void a_link_is_a_second_name_that_outlives_the_first(void **state)
{
    struct fixture *fx = fixture_of(state);
    char from[128], to[128], buf[4];
    int file = create_file(fx, "first", 0);
    assert_int_equal(io_wait_write(fx->io, file, "same", 4, 0, 0), 4);
    assert_int_equal(io_wait_close(fx->io, file), 0);
    path_in(fx, "first", from);
    path_in(fx, "second", to);
    assert_int_equal(io_wait_link(fx->io, from, to), 0);
    assert_int_equal(io_wait_link(fx->io, from, to), -EEXIST);
    assert_int_equal(io_wait_unlink(fx->io, from), 0);
    assert_int_equal(io_wait_link(fx->io, from, to), -ENOENT);
    file = (int)io_wait_open(fx->io, to, IO_OPEN_READ);
    assert_true(file >= 0);
    assert_int_equal(io_wait_read(fx->io, file, buf, 4, 0), 4);
    assert_memory_equal(buf, "same", 4);
    assert_int_equal(io_wait_close(fx->io, file), 0);
}

static void allocation_and_truncation_change_the_size(void **state)
{
    struct fixture *fx = fixture_of(state);
    int file = create_file(fx, "a", 0);
    char buf[16];
    assert_int_equal(io_wait_allocate(fx->io, file, 0, 1 << 20), 0);
    assert_int_equal(fx->io->ops->file_size(fx->io, file), 1 << 20);
    assert_int_equal(io_wait_read(fx->io, file, buf, 16, 4096), 16);
    assert_int_equal(buf[7], 0);
    assert_int_equal(io_wait_truncate(fx->io, file, 100), 0);
    assert_int_equal(fx->io->ops->file_size(fx->io, file), 100);
    assert_int_equal(io_wait_close(fx->io, file), 0);
}

static void folders_are_made_listed_and_removed(void **state)
{
    struct fixture *fx = fixture_of(state);
    char path[128];
    assert_int_equal(io_wait_make_dir(fx->io, path_in(fx, "d", path)), 0);
    assert_int_equal(io_wait_make_dir(fx->io, path), -EEXIST);
    assert_int_equal(io_wait_open(fx->io, path, IO_OPEN_WRITE), -EISDIR);
    int64_t dir = io_wait_open(fx->io, path, IO_OPEN_READ | IO_OPEN_DIRECTORY);
    assert_true(dir >= 0);
    assert_int_equal(io_wait_close(fx->io, (int)dir), 0);
    assert_int_equal(io_wait_close(fx->io, create_file(fx, "d/f", 0)), 0);
    assert_int_equal(io_wait_unlink(fx->io, path), -ENOTEMPTY);
    assert_int_equal(io_wait_unlink(fx->io, path_in(fx, "d/f", path)), 0);
    assert_int_equal(io_wait_unlink(fx->io, path_in(fx, "d", path)), 0);
    assert_int_equal(io_wait_unlink(fx->io, path), -ENOENT);
}

static void count_name(void *arg, const char *name)
{
    unsigned *seen = arg;
    if (strcmp(name, "one") == 0)
        *seen |= 1;
    else if (strcmp(name, "two") == 0)
        *seen |= 2;
    else
        *seen |= 4;
}

static void a_listing_has_every_name_and_no_dots(void **state)
{
    struct fixture *fx = fixture_of(state);
    char path[128];
    unsigned seen = 0;
    assert_int_equal(io_wait_close(fx->io, create_file(fx, "one", 0)), 0);
    assert_int_equal(io_wait_make_dir(fx->io, path_in(fx, "two", path)), 0);
    assert_int_equal(fx->io->ops->list_dir(fx->io, fx->dir, count_name, &seen), 0);
    assert_int_equal(seen, 3);
    assert_int_equal(fx->io->ops->list_dir(fx->io, path_in(fx, "none", path), count_name, &seen),
                     -ENOENT);
    assert_true(fx->io->ops->free_space(fx->io, fx->dir) > 0);
    assert_true(fx->io->ops->used_space(fx->io, fx->dir) >= 0);
}

static void whole_files_are_replaced_and_read(void **state)
{
    struct fixture *fx = fixture_of(state);
    char path[128];
    void *bytes = NULL;
    size_t len = 0;
    assert_int_equal(io_replace_file(fx->io, fx->dir, "CURRENT", "first", 5), 0);
    assert_int_equal(io_replace_file(fx->io, fx->dir, "CURRENT", "second", 6), 0);
    path_in(fx, "CURRENT", path);
    assert_int_equal(io_read_file(fx->io, path, 5, &bytes, &len), -EFBIG);
    assert_int_equal(io_read_file(fx->io, path, 6, &bytes, &len), 0);
    assert_int_equal(len, 6);
    assert_string_equal(bytes, "second");
    heap_free(NULL, bytes);
    assert_int_equal(io_replace_file(fx->io, fx->dir, "empty", NULL, 0), 0);
    assert_int_equal(io_read_file(fx->io, path_in(fx, "empty", path), 6, &bytes, &len), 0);
    assert_int_equal(len, 0);
    heap_free(NULL, bytes);
    assert_int_equal(io_wait_unlink(fx->io, path_in(fx, "CURRENT.tmp", path)), -ENOENT);
}

struct burst {
    struct io_op op;
    struct burst_total *total;
    unsigned left;
    char byte;
    int file;
    uint64_t offset;
};

struct burst_total {
    struct io *io;
    unsigned done, in_start;
    bool starting;
};

static void burst_done(struct io_op *op, int64_t result)
{
    struct burst *b = container_of(op, struct burst, op);
    assert_int_equal(result, 1);
    b->total->in_start += b->total->starting;
    ++b->total->done;
    if (--b->left != 0)
        b->total->io->ops->write(b->total->io, op, b->file, &b->byte, 1, b->offset,
                                 b->left % 2 != 0 ? IO_WRITE_DURABLE : 0);
}

static void more_operations_than_the_engine_holds_all_complete(void **state)
{
    enum { COUNT = 1500 };
    struct fixture *fx = fixture_of(state);
    struct burst *b = test_calloc(COUNT, sizeof(*b));
    struct burst_total total = {.io = fx->io};
    int file = create_file(fx, "a", 0);
    char *buf = test_malloc(COUNT);

    total.starting = true;
    for (unsigned i = 0; i != COUNT; ++i) {
        b[i] = (struct burst){.op = {.done = burst_done},
                              .total = &total,
                              .left = 1 + i % 2,
                              .byte = (char)i,
                              .file = file,
                              .offset = i};
        fx->io->ops->write(fx->io, &b[i].op, file, &b[i].byte, 1, i, 0);
    }
    total.starting = false;
    while (fx->io->ops->submit(fx->io) != 0) {
        if (fx->io->ops->reap(fx->io, 100) == 0)
            fx->io->ops->wait(fx->io, -1);
    }
    assert_int_equal(total.done, COUNT + COUNT / 2);
    assert_int_equal(total.in_start, 0);
    assert_int_equal(io_wait_read(fx->io, file, buf, COUNT, 0), COUNT);
    for (unsigned i = 0; i != COUNT; ++i)
        assert_int_equal(buf[i], (char)i);
    assert_int_equal(io_wait_close(fx->io, file), 0);
    test_free(buf);
    test_free(b);
}

static void reap_runs_no_more_than_it_may(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct burst b[8];
    struct burst_total total = {.io = fx->io};
    int file = create_file(fx, "a", 0);
    for (unsigned i = 0; i != 8; ++i) {
        b[i] = (struct burst){
            .op = {.done = burst_done}, .total = &total, .left = 1, .file = file, .offset = i};
        fx->io->ops->write(fx->io, &b[i].op, file, "x", 1, i, 0);
    }
    while (fx->io->ops->submit(fx->io) != 0) {
        unsigned before = total.done;
        size_t taken = fx->io->ops->reap(fx->io, 3);
        assert_true(taken <= 3 && total.done - before <= taken);
        if (taken == 0)
            fx->io->ops->wait(fx->io, -1);
    }
    assert_int_equal(total.done, 8);
    assert_int_equal(io_wait_close(fx->io, file), 0);
}

static void a_wait_with_nothing_under_way_ends_with_its_time(void **state)
{
    struct fixture *fx = fixture_of(state);
    uint64_t before = fx->io->ops->now_ns(fx->io);
    /* EINTR may end a wait early, but not a hundred in a row. */
    for (int i = 0; i != 100 && fx->io->ops->now_ns(fx->io) < before + 2000000; ++i)
        fx->io->ops->wait(fx->io, 2000000);
    assert_true(fx->io->ops->now_ns(fx->io) >= before + 2000000);
    assert_true(fx->io->ops->realtime_us(fx->io) > INT64_C(1600000000000000));
}

static void random_bytes_differ_from_call_to_call(void **state)
{
    struct fixture *fx = fixture_of(state);
    unsigned char a[32] = {0}, b[32] = {0};
    fx->io->ops->random(fx->io, a, sizeof(a));
    fx->io->ops->random(fx->io, b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
}

static void destroy_finishes_what_is_in_flight(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct io *io = new_io(fx);
    struct burst b[4];
    struct burst_total total = {.io = io};
    int file = create_file(fx, "a", 0);
    for (unsigned i = 0; i != 4; ++i) {
        b[i] = (struct burst){
            .op = {.done = burst_done}, .total = &total, .left = 2, .file = file, .offset = i};
        io->ops->write(io, &b[i].op, file, "x", 1, i, IO_WRITE_DURABLE);
    }
    io->ops->destroy(io);
    assert_int_equal(total.done, 8);
    assert_int_equal(io_wait_close(fx->io, file), 0);
}

/* ---- another core's thread ---- */

enum { WAKE_ROUNDS = 1000 };

struct sleeper {
    struct fixture *fx;
    pthread_t thread;
    struct io *io;
    sem_t awake, may_end;
    _Atomic unsigned sent;
};

static void *sleep_and_answer(void *arg)
{
    struct sleeper *s = arg;
    s->io = new_io(s->fx);
    (void)sem_post(&s->awake);
    for (unsigned seen = 0; seen != WAKE_ROUNDS;) {
        (void)s->io->ops->submit(s->io);
        (void)s->io->ops->reap(s->io, 100);
        if (atomic_load(&s->sent) == seen) {
            s->io->ops->wait(s->io, -1);
            continue;
        }
        ++seen;
        (void)sem_post(&s->awake);
    }
    while (sem_wait(&s->may_end) != 0)
        continue; /* until then this io may be woken */
    s->io->ops->destroy(s->io);
    return NULL;
}

static void a_waiting_engine_is_woken_from_another_thread(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct sleeper s = {.fx = fx};
    (void)sem_init(&s.awake, 0, 0);
    (void)sem_init(&s.may_end, 0, 0);
    assert_int_equal(pthread_create(&s.thread, NULL, sleep_and_answer, &s), 0);
    for (unsigned i = 0; i != WAKE_ROUNDS; ++i) {
        while (sem_wait(&s.awake) != 0)
            continue;
        atomic_fetch_add(&s.sent, 1);
        if (i % 2 == 0)
            fx->io->ops->wake(fx->io, s.io);
        else
            s.io->ops->wake_any(s.io);
        (void)fx->io->ops->submit(fx->io);
        (void)fx->io->ops->reap(fx->io, 100);
    }
    (void)sem_post(&s.may_end);
    assert_int_equal(pthread_join(s.thread, NULL), 0);
    (void)sem_destroy(&s.awake);
    (void)sem_destroy(&s.may_end);
}

static void auto_always_finds_an_engine(void **state)
{
    (void)state;
    struct io *io = NULL;
    const char *reason = "untouched";
    assert_int_equal(io_create(IO_ENGINE_AUTO, &io, &reason), 0);
    if (strcmp(io->ops->name, "uring") == 0)
        assert_null(reason);
    else
        assert_non_null(strstr(reason, "io_uring"));
    io->ops->destroy(io);
}

#define CASE(f, engine) cmocka_unit_test_setup_teardown(f, set_up_##engine, tear_down)
#define CASES(engine)                                                                              \
    CASE(what_was_written_is_read_back, engine), CASE(a_durable_write_is_one_operation, engine),   \
        CASE(a_durable_write_that_fails_tells_the_writes_error, engine),                           \
        CASE(opening_what_is_not_there_tells_enoent, engine),                                      \
        CASE(exclusive_creation_refuses_an_existing_file, engine),                                 \
        CASE(a_renamed_file_keeps_its_bytes_and_replaces_the_target, engine),                      \
        CASE(a_link_is_a_second_name_that_outlives_the_first, engine),                             \
        CASE(allocation_and_truncation_change_the_size, engine),                                   \
        CASE(folders_are_made_listed_and_removed, engine),                                         \
        CASE(a_listing_has_every_name_and_no_dots, engine),                                        \
        CASE(whole_files_are_replaced_and_read, engine),                                           \
        CASE(more_operations_than_the_engine_holds_all_complete, engine),                          \
        CASE(reap_runs_no_more_than_it_may, engine),                                               \
        CASE(a_wait_with_nothing_under_way_ends_with_its_time, engine),                            \
        CASE(random_bytes_differ_from_call_to_call, engine),                                       \
        CASE(destroy_finishes_what_is_in_flight, engine)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASES(uring),
        CASES(threads),
        CASES(sim),
        CASE(a_waiting_engine_is_woken_from_another_thread, uring),
        CASE(a_waiting_engine_is_woken_from_another_thread, threads),
        cmocka_unit_test(auto_always_finds_an_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
