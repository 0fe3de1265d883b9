/* A group starts wholly or not at all, and a reactor's timers, files and tasks work under every
 * host and engine. */
#include "groups.h"

#include "os/process.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <proximadb/error.h>

static sem_t finished;

static void wait_finished(unsigned count)
{
    while (count != 0)
        count -= sem_wait(&finished) == 0;
}

struct failing {
    unsigned at;
    _Atomic unsigned started, stopped;
    _Atomic bool stopped_unstarted;
};

static int start_or_fail(struct reactor *r, void *arg)
{
    struct failing *f = arg;
    if (r->id == f->at)
        return PDB_DATA_LOSS;
    atomic_fetch_add(&f->started, 1);
    r->user[REACTOR_SLOT_TEST] = f;
    return 0;
}

static void count_stop(struct reactor *r, void *arg)
{
    struct failing *f = arg;
    if (r->user[REACTOR_SLOT_TEST] != f)
        atomic_store(&f->stopped_unstarted, true);
    atomic_fetch_add(&f->stopped, 1);
}

static void a_failing_start_is_told_and_undone(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        for (unsigned at = 0; at != group_kinds[k].count; ++at) {
            struct failing f = {.at = at};
            struct reactor_group *g = NULL;
            const char *reason;
            struct reactor_options options = group_options(&group_kinds[k]);
            options.start = start_or_fail;
            options.stop = count_stop;
            options.arg = &f;
            assert_int_equal(reactor_group_start(&options, &g, &reason), PDB_DATA_LOSS);
            assert_null(g);
            assert_int_equal(f.started, f.stopped);
            assert_false(f.stopped_unstarted);
        }
    }
}

static int fail_host(struct reactor *r, void *arg, void **host_out)
{
    (void)host_out;
    return r->id == *(unsigned *)arg ? PDB_UNAVAILABLE
                                     : reactor_host_plain.start(r, NULL, host_out);
}

static void a_failing_host_is_told_and_undone(void **state)
{
    (void)state;
    for (unsigned at = 0; at != 3; ++at) {
        struct failing f = {.at = REACTOR_MAX};
        struct reactor_group *g = NULL;
        const char *reason;
        struct reactor_host host = reactor_host_plain;
        host.start = fail_host;
        host.arg = &at;
        struct reactor_options options = {.count = 3,
                                          .io_engine = IO_ENGINE_THREADS,
                                          .host = &host,
                                          .start = start_or_fail,
                                          .stop = count_stop,
                                          .arg = &f};
        assert_int_equal(reactor_group_start(&options, &g, &reason), PDB_UNAVAILABLE);
        assert_int_equal(f.started, 0);
        assert_int_equal(f.stopped, 0);
    }
}

static void a_count_out_of_range_is_refused(void **state)
{
    (void)state;
    struct reactor_group *g = NULL;
    const char *reason;
    assert_int_equal(reactor_group_start(&(struct reactor_options){.count = 0}, &g, &reason),
                     PDB_INVALID_ARGUMENT);
    assert_int_equal(
        reactor_group_start(&(struct reactor_options){.count = REACTOR_MAX + 1}, &g, &reason),
        PDB_INVALID_ARGUMENT);
    reactor_group_stop(NULL);
}

/* Each limit of open files that is too low fails at another step; each must be undone. */
static void a_group_without_descriptors_is_refused_and_leaks_nothing(void **state)
{
    (void)state;
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (unsigned k = 0; k != 2; ++k) {
        uint64_t open_before = process_open_fds();
        struct reactor_group *g = NULL;
        unsigned failures = 0;
        for (uint64_t limit = 3; g == NULL; ++limit) {
            const char *reason;
            struct reactor_options options = {
                .count = 2, .io_engine = k == 0 ? IO_ENGINE_URING : IO_ENGINE_THREADS};
            few = (struct rlimit){.rlim_cur = limit, .rlim_max = before.rlim_max};
            assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
            int rc = reactor_group_start(&options, &g, &reason);
            assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
            if (rc == PDB_UNAVAILABLE && k == 0)
                break; /* io_uring is denied here */
            if (rc == 0)
                continue;
            ++failures;
            assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
            assert_true((reason != NULL) == (k == 0));
            assert_int_equal(process_open_fds(), open_before);
        }
        assert_true(failures != 0 || g == NULL);
        reactor_group_stop(g);
        assert_int_equal(process_open_fds(), open_before);
    }
}

static void stopped_groups_leave_no_descriptors(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        uint64_t open_before = process_open_fds();
        struct reactor_group *g = NULL;
        const char *reason;
        struct reactor_options options = group_options(&group_kinds[k]);
        assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
        reactor_group_stop(g);
        /* h2o 2.2.5 does not close its loop's epoll descriptor, and hides it. */
        uint64_t lost = group_kinds[k].h2o ? group_kinds[k].count : 0;
        assert_int_equal(process_open_fds(), open_before + lost);
    }
}

/* ---- timers in a real loop ---- */

struct ticks {
    struct timer timer;
    unsigned left;
    uint64_t step_ns, turns;
};

static void tick(struct timer *timer)
{
    struct ticks *t = container_of(timer, struct ticks, timer);
    struct reactor *r = reactor_here();
    assert_true(r->now_ns >= timer->due_ns);
    if (--t->left == 0)
        (void)sem_post(&finished);
    else
        assert_int_equal(timer_set(r, timer, r->now_ns + t->step_ns), 0);
}

static int start_ticks(struct reactor *r, void *arg)
{
    struct ticks *t = (struct ticks *)arg + r->id;
    /* 300 us, 1.3 ms and 25 ms: below a millisecond, near, and beyond what the timerfd is used
     * for. */
    static const uint64_t steps_ns[3] = {300000, 1300000, 25000000};
    *t = (struct ticks){
        .timer = {.fire = tick}, .left = r->id % 3 == 2 ? 5 : 50, .step_ns = steps_ns[r->id % 3]};
    return timer_set(r, &t->timer, r->now_ns + t->step_ns);
}

static void count_turns(struct reactor *r, void *arg)
{
    ((struct ticks *)arg)[r->id].turns = r->stats.turns;
}

static void timers_fire_in_every_host(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        struct ticks ticks[REACTOR_MAX];
        struct reactor_group *g = NULL;
        const char *reason;
        struct reactor_options options = group_options(&group_kinds[k]);
        options.start = start_ticks;
        options.stop = count_turns;
        options.arg = ticks;
        options.pin = true;
        assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
        wait_finished(options.count);
        reactor_group_stop(g);
        /* Some turns may be empty, but nothing keeps an idle reactor turning. */
        for (unsigned i = 0; group_kinds[k].spin_us == 0 && i != options.count; ++i)
            assert_true(ticks[i].turns < 500);
    }
}

/* ---- files in a real loop ---- */

struct writer {
    struct io_op op;
    struct reactor *r;
    char path[32];
    int file;
    unsigned left;
};

static void write_next(struct io_op *op, int64_t result);

static void file_opened(struct io_op *op, int64_t result)
{
    struct writer *w = container_of(op, struct writer, op);
    assert_true(result >= 0);
    w->file = (int)result;
    op->done = write_next;
    w->r->io->ops->write(w->r->io, op, w->file, "x", 1, 0, IO_WRITE_DURABLE);
}

static void file_closed(struct io_op *op, int64_t result)
{
    (void)op;
    assert_int_equal(result, 0);
    (void)sem_post(&finished);
}

static void write_next(struct io_op *op, int64_t result)
{
    struct writer *w = container_of(op, struct writer, op);
    assert_ptr_equal(reactor_here(), w->r);
    assert_int_equal(result, 1);
    if (--w->left != 0) {
        w->r->io->ops->write(w->r->io, op, w->file, "x", 1, w->left, IO_WRITE_DURABLE);
        return;
    }
    op->done = file_closed;
    w->r->io->ops->close(w->r->io, op, w->file);
}

static int start_writer(struct reactor *r, void *arg)
{
    struct writer *w = (struct writer *)arg + r->id;
    *w = (struct writer){.op = {.done = file_opened}, .r = r, .left = 20};
    (void)snprintf(w->path, sizeof(w->path), "test_core_%d_%u", (int)getpid(), r->id);
    r->io->ops->open(r->io, &w->op, w->path,
                     IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE);
    return 0;
}

static void durable_writes_complete_in_every_host(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        struct writer writers[REACTOR_MAX];
        struct reactor_group *g = NULL;
        const char *reason;
        struct reactor_options options = group_options(&group_kinds[k]);
        options.start = start_writer;
        options.arg = writers;
        assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
        wait_finished(options.count);
        reactor_group_stop(g);
        for (unsigned i = 0; i != options.count; ++i)
            assert_int_equal(unlink(writers[i].path), 0);
    }
}

/* ---- long tasks do not hold mail ---- */

struct endless {
    struct task task;
    struct mail mail;
    bool stop;
};

static void run_endless(struct task *task)
{
    struct endless *e = container_of(task, struct endless, task);
    while (!reactor_slice_over(reactor_here()))
        continue;
    if (!e->stop)
        task_queue(reactor_here(), task);
}

static void stop_endless(struct reactor *r, struct mail *mail)
{
    struct endless *e = container_of(mail, struct endless, mail);
    (void)r;
    e->stop = true;
    (void)sem_post(&finished);
}

static int start_endless(struct reactor *r, void *arg)
{
    if (r->id == 0)
        task_queue(r, &((struct endless *)arg)->task);
    return 0;
}

static void a_task_without_end_lets_mail_through(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        struct endless e = {.task = {.run = run_endless, .name = "endless"},
                            .mail = {.deliver = stop_endless}};
        struct reactor_group *g = NULL;
        const char *reason;
        struct reactor_options options = group_options(&group_kinds[k]);
        options.start = start_endless;
        options.arg = &e;
        assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
        mail_post_external(g, 0, &e.mail);
        wait_finished(1);
        reactor_group_stop(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failing_start_is_told_and_undone),
        cmocka_unit_test(a_failing_host_is_told_and_undone),
        cmocka_unit_test(a_count_out_of_range_is_refused),
        cmocka_unit_test(a_group_without_descriptors_is_refused_and_leaks_nothing),
        cmocka_unit_test(stopped_groups_leave_no_descriptors),
        cmocka_unit_test(timers_fire_in_every_host),
        cmocka_unit_test(durable_writes_complete_in_every_host),
        cmocka_unit_test(a_task_without_end_lets_mail_through),
    };
    (void)sem_init(&finished, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
