/* Jobs run on the worker that they were given to, in order, and come back to their owner. */
#include "groups.h"
#include "os/cpu.h"
#include "os/process.h"
#include "reactor/reactor_internal.h"

#include <proximadb/error.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { MANY = 2 * SPSC_CAPACITY + 3 };

static sem_t finished;

struct work {
    struct job job;
    unsigned number, worker, square;
};

struct owner {
    struct work work[2][MANY];     /* by worker */
    unsigned next[2], left, first; /* of the two workers */
};

static struct owner *owners;

static void square(struct job *job)
{
    struct work *w = container_of(job, struct work, job);
    assert_null(reactor_here());
    w->square = w->number * w->number;
}

static void came_back(struct reactor *r, struct mail *mail)
{
    struct work *w = container_of(mail, struct work, job.back);
    struct owner *owner = &owners[r->id];
    assert_ptr_equal(reactor_here(), r);
    assert_int_equal(w->job.owner, r->id);
    assert_int_equal(mail->from, owner->first + w->worker);
    assert_int_equal(w->number, owner->next[w->worker]);
    assert_int_equal(w->square, w->number * w->number);
    ++owner->next[w->worker];
    if (--owner->left == 0)
        (void)sem_post(&finished);
}

static int hand_out(struct reactor *r, void *arg)
{
    const bool *outside = arg;
    struct owner *owner = &owners[r->id];
    owner->left = 2 * MANY;
    owner->first = *outside ? r->count : 0;
    for (unsigned i = 0; i != MANY; ++i) {
        for (unsigned w = 0; w != 2; ++w) {
            owner->work[w][i] =
                (struct work){.job = {.compute = square, .back = {.deliver = came_back}},
                              .number = i,
                              .worker = w};
            job_start(r, owner->first + w, &owner->work[w][i].job);
        }
    }
    return 0;
}

static void come_back_in_order(bool outside)
{
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        struct reactor_group *g = NULL;
        const char *reason;
        struct reactor_options options = group_options(&group_kinds[k]);
        options.start = hand_out;
        options.arg = &outside;
        options.outside_workers = outside ? 2 : 0;
        owners = test_calloc(options.count, sizeof(*owners));
        print_message("    %s\n", group_kinds[k].name);
        assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
        for (unsigned left = options.count; left != 0;)
            left -= sem_wait(&finished) == 0;
        reactor_group_stop(g);
        test_free(owners);
    }
}

static void jobs_come_back_in_order_from_any_worker(void **state)
{
    (void)state;
    come_back_in_order(false);
}

static void jobs_come_back_in_order_from_outside_workers(void **state)
{
    (void)state;
    come_back_in_order(true);
}

/* ---- a call that hangs ---- */

static sem_t hanging, release;

static void hang(struct job *job)
{
    (void)job;
    (void)sem_post(&hanging);
    while (sem_wait(&release) != 0)
        continue;
}

static void hung_came_back(struct reactor *r, struct mail *mail)
{
    (void)r;
    (void)mail;
    (void)sem_post(&finished);
}

static void nothing(struct job *job)
{
    (void)job;
}

/* In a worker's job, so that it is after the hanging one has begun. */
static void wait_hanging(struct job *job)
{
    (void)job;
    while (sem_wait(&hanging) != 0)
        continue;
}

static int hang_then_work(struct reactor *r, void *arg)
{
    struct job *jobs = arg;
    if (r->id != 0)
        return 0;
    job_start(r, r->count, &jobs[0]);
    job_start(r, 0, &jobs[1]);
    job_start(r, r->count + 1, &jobs[2]);
    return 0;
}

static void a_call_that_hangs_holds_up_only_its_own_worker(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        struct reactor_group *g = NULL;
        const char *reason;
        struct job jobs[3] = {
            {.compute = hang, .back = {.deliver = hung_came_back}},
            {.compute = wait_hanging, .back = {.deliver = hung_came_back}},
            {.compute = nothing, .back = {.deliver = hung_came_back}},
        };
        struct reactor_options options = group_options(&group_kinds[k]);
        options.start = hang_then_work;
        options.arg = jobs;
        options.outside_workers = 2;
        assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
        for (unsigned left = 2; left != 0;)
            left -= sem_wait(&finished) == 0;
        (void)sem_post(&release);
        while (sem_wait(&finished) != 0)
            continue;
        reactor_group_stop(g);
    }
}

static void more_outside_workers_than_there_may_be_are_refused(void **state)
{
    (void)state;
    struct reactor_group *g = NULL;
    const char *reason;
    struct reactor_options options = group_options(&group_kinds[0]);
    options.outside_workers = REACTOR_OUTSIDE_MAX + 1;
    assert_int_equal(reactor_group_start(&options, &g, &reason), PDB_INVALID_ARGUMENT);
}

/* One after the other, so that worker and owner sleep each time. */
static void came_back_again(struct reactor *r, struct mail *mail)
{
    struct work *w = container_of(mail, struct work, job.back);
    if (++w->number == 1000) {
        (void)sem_post(&finished);
        return;
    }
    w->worker = (w->worker + 1) % r->count;
    job_start(r, w->worker, &w->job);
}

static int hand_out_one(struct reactor *r, void *arg)
{
    struct work *w = arg;
    if (r->id == 0)
        job_start(r, 1, &w->job);
    return 0;
}

static void sleeping_workers_and_owners_are_woken(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        struct reactor_group *g = NULL;
        const char *reason;
        struct work work = {.job = {.compute = square, .back = {.deliver = came_back_again}},
                            .worker = 1};
        struct reactor_options options = group_options(&group_kinds[k]);
        options.start = hand_out_one;
        options.arg = &work;
        assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
        while (sem_wait(&finished) != 0)
            continue;
        reactor_group_stop(g);
        assert_int_equal(work.number, 1000);
    }
}

/* ---- processors that others want, too ---- */

static _Atomic bool hogs_end;

static void *want_a_processor(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&hogs_end, memory_order_relaxed))
        continue;
    return NULL;
}

static uint64_t ran_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void take_a_millisecond(struct job *job)
{
    (void)job;
    for (uint64_t until = ran_ns() + 1000000; ran_ns() < until;)
        continue;
}

static void again_unless_pressed(struct reactor *r, struct mail *mail)
{
    struct job *job = container_of(mail, struct job, back);
    assert_true(job->took_ns >= 1000000);
    if (!job->pressed) {
        assert_int_equal(r->stats.jobs_pressed_ns, 0);
        job_start(r, 0, job);
        return;
    }
    assert_int_equal(r->stats.jobs_pressed_ns, job->took_ns);
    assert_true(r->stats.jobs_ns > job->took_ns);
    assert_int_equal(r->stats.jobs_out, 0);
    (void)sem_post(&finished);
}

static int hand_out_a_millisecond(struct reactor *r, void *arg)
{
    if (r->id == 0)
        job_start(r, 0, arg);
    return 0;
}

/* Only this test's threads want the processors for ever: it ends on a machine of any speed. */
static void a_worker_that_others_leave_next_to_nothing_takes_its_share(void **state)
{
    (void)state;
    struct reactor_group *g = NULL;
    const char *reason;
    struct process_thread_times times;
    struct job job = {.compute = take_a_millisecond, .back = {.deliver = again_unless_pressed}};
    struct reactor_options options = group_options(&group_kinds[0]);
    pthread_t hogs[CPU_MAX];
    unsigned count = 0, cpus = cpu_allowed(NULL, 0);
    int fd = process_thread_times_open();
    bool counted = process_thread_times(fd, &times);
    (void)close(fd);
    if (!counted) {
        print_message("    this kernel does not count how long threads wait\n");
        skip();
    }
    while (count < cpus && count < CPU_MAX)
        assert_int_equal(pthread_create(&hogs[count++], NULL, want_a_processor, NULL), 0);
    options.start = hand_out_a_millisecond;
    options.arg = &job;
    assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
    while (sem_wait(&finished) != 0)
        continue;
    reactor_group_stop(g);
    atomic_store(&hogs_end, true);
    while (count != 0)
        (void)pthread_join(hogs[--count], NULL);
}

static void turns_pass_by_what_a_thread_gets_of_what_it_wants(void **state)
{
    (void)state;
    const uint64_t ms = 1000000;
    static const struct {
        enum worker_pace pace, next;
        uint64_t ran_ms, wanted_ms;
    } cases[] = {
        {WORKER_CALM, WORKER_CALM, 0, 499}, /* too little to tell */
        {WORKER_CALM, WORKER_PRESSED, 0, 500},       {WORKER_CALM, WORKER_PRESSED, 99, 1000},
        {WORKER_CALM, WORKER_CALM, 100, 1000},       {WORKER_PRESSED, WORKER_PRESSED, 499, 499},
        {WORKER_PRESSED, WORKER_PRESSED, 400, 1000}, {WORKER_PRESSED, WORKER_CALM, 401, 1000},
        {WORKER_PRESSED, WORKER_PRESSED, 0, 1000}, /* and that is all that it can do */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(worker_judge(cases[i].pace, cases[i].ran_ms * ms, cases[i].wanted_ms * ms),
                         cases[i].next);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_come_back_in_order_from_any_worker),
        cmocka_unit_test(jobs_come_back_in_order_from_outside_workers),
        cmocka_unit_test(sleeping_workers_and_owners_are_woken),
        cmocka_unit_test(a_call_that_hangs_holds_up_only_its_own_worker),
        cmocka_unit_test(more_outside_workers_than_there_may_be_are_refused),
        cmocka_unit_test(a_worker_that_others_leave_next_to_nothing_takes_its_share),
        cmocka_unit_test(turns_pass_by_what_a_thread_gets_of_what_it_wants),
    };
    (void)sem_init(&finished, 0, 0);
    (void)sem_init(&hanging, 0, 0);
    (void)sem_init(&release, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
