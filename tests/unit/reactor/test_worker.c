/* Jobs run on the worker that they were given to, in order, and come back to their owner. */
#include "groups.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { MANY = 2 * SPSC_CAPACITY + 3 };

static sem_t finished;

struct work {
    struct job job;
    unsigned number, worker, square;
};

struct owner {
    struct work work[2][MANY]; /* by worker */
    unsigned next[2], left;
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
    assert_int_equal(mail->from, w->worker);
    assert_int_equal(w->number, owner->next[w->worker]);
    assert_int_equal(w->square, w->number * w->number);
    ++owner->next[w->worker];
    if (--owner->left == 0)
        (void)sem_post(&finished);
}

static int hand_out(struct reactor *r, void *arg)
{
    (void)arg;
    struct owner *owner = &owners[r->id];
    owner->left = 2 * MANY;
    for (unsigned i = 0; i != MANY; ++i) {
        for (unsigned w = 0; w != 2; ++w) {
            owner->work[w][i] =
                (struct work){.job = {.compute = square, .back = {.deliver = came_back}},
                              .number = i,
                              .worker = w};
            job_start(r, w, &owner->work[w][i].job);
        }
    }
    return 0;
}

static void jobs_come_back_in_order_from_any_worker(void **state)
{
    (void)state;
    for (unsigned k = 0; k != GROUP_KIND_COUNT; ++k) {
        struct reactor_group *g = NULL;
        const char *reason;
        struct reactor_options options = group_options(&group_kinds[k]);
        options.start = hand_out;
        owners = test_calloc(options.count, sizeof(*owners));
        print_message("    %s\n", group_kinds[k].name);
        assert_int_equal(reactor_group_start(&options, &g, &reason), 0);
        for (unsigned left = options.count; left != 0;)
            left -= sem_wait(&finished) == 0;
        reactor_group_stop(g);
        test_free(owners);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_come_back_in_order_from_any_worker),
        cmocka_unit_test(sleeping_workers_and_owners_are_woken),
    };
    (void)sem_init(&finished, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
