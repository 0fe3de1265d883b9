/* Tasks take turns, hooks come after them, and a job in a simulated group runs on its worker's
 * turn. */
#include "os/sim.h"
#include "reactor/reactor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct sim_disk *disk;
    struct reactor_group *group;
    struct reactor *r;
    char trace[64];
};

static int set_up(void **state)
{
    struct fixture *fx = test_calloc(1, sizeof(*fx));
    const char *reason;
    fx->disk = sim_disk_new(1);
    struct reactor_options options = {.count = 2, .sim = fx->disk};
    assert_int_equal(reactor_group_start(&options, &fx->group, &reason), 0);
    fx->r = reactor_group_at(fx->group, 0);
    *state = fx;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fx = *state;
    reactor_group_stop(fx->group);
    sim_disk_free(fx->disk);
    test_free(fx);
    return 0;
}

struct item {
    struct task task;
    struct turn_hook hook;
    struct mail mail;
    struct timer timer;
    struct job job;
    struct io_op op;
    struct fixture *fx;
    char letter;
    unsigned again;
};

static void trace(struct fixture *fx, char letter)
{
    size_t len = strlen(fx->trace);
    assert_true(len + 1 < sizeof(fx->trace));
    fx->trace[len] = letter;
}

static void run_task(struct task *task)
{
    struct item *item = container_of(task, struct item, task);
    assert_ptr_equal(reactor_here(), item->fx->r);
    trace(item->fx, item->letter);
    if (item->again != 0) {
        --item->again;
        task_queue(item->fx->r, task);
        task_queue(item->fx->r, task); /* queued already: nothing */
    }
}

/* Also in the stress build, where a turn is one step. */
static void turn_until_idle(struct fixture *fx)
{
    while (reactor_has_work(fx->r))
        (void)reactor_turn(fx->r);
}

static void tasks_that_queue_themselves_take_turns(void **state)
{
    struct fixture *fx = *state;
    struct item a = {.task = {.run = run_task}, .fx = fx, .letter = 'a', .again = 3};
    struct item b = {.task = {.run = run_task}, .fx = fx, .letter = 'b', .again = 1};
    struct item c = {.task = {.run = run_task}, .fx = fx, .letter = 'c'};
    task_queue(fx->r, &a.task);
    task_queue(fx->r, &b.task);
    task_queue(fx->r, &c.task);
    turn_until_idle(fx);
    assert_string_equal(fx->trace, "abcabaa");
    assert_int_equal(fx->r->stats.tasks_run, 7);
    assert_null(reactor_here());
}

/* A step costs the same whatever it does, as time stands still here. */
static void bulk_tasks_get_a_quarter_of_the_steps_beside_others(void **state)
{
    struct fixture *fx = *state;
    struct item a = {.task = {.run = run_task}, .fx = fx, .letter = 'a', .again = 8};
    struct item b = {.task = {.run = run_task, .bulk = true}, .fx = fx, .letter = 'b', .again = 4};
    task_queue(fx->r, &b.task);
    task_queue(fx->r, &a.task);
    turn_until_idle(fx);
    assert_string_equal(fx->trace, "aaabaaabaaabbb");
}

static void bulk_tasks_take_turns_and_save_up_nothing(void **state)
{
    struct fixture *fx = *state;
    struct item b = {.task = {.run = run_task, .bulk = true}, .fx = fx, .letter = 'b', .again = 3};
    struct item c = {.task = {.run = run_task, .bulk = true}, .fx = fx, .letter = 'c', .again = 3};
    struct item a = {.task = {.run = run_task}, .fx = fx, .letter = 'a'};
    task_queue(fx->r, &b.task);
    task_queue(fx->r, &c.task);
    turn_until_idle(fx);
    assert_string_equal(fx->trace, "bcbcbcbc");
    b.again = 1;
    task_queue(fx->r, &b.task);
    task_queue(fx->r, &a.task);
    turn_until_idle(fx);
    assert_string_equal(fx->trace, "bcbcbcbcabb");
}

static void a_cancelled_bulk_task_does_not_run(void **state)
{
    struct fixture *fx = *state;
    struct item b = {.task = {.run = run_task, .bulk = true}, .fx = fx, .letter = 'b'};
    task_queue(fx->r, &b.task);
    assert_true(reactor_has_work(fx->r));
    task_cancel(&b.task);
    turn_until_idle(fx);
    assert_string_equal(fx->trace, "");
}

static void a_cancelled_task_does_not_run(void **state)
{
    struct fixture *fx = *state;
    struct item a = {.task = {.run = run_task}, .fx = fx, .letter = 'a'};
    struct item b = {.task = {.run = run_task}, .fx = fx, .letter = 'b'};
    task_queue(fx->r, &a.task);
    task_queue(fx->r, &b.task);
    task_cancel(&a.task);
    task_cancel(&a.task);
    turn_until_idle(fx);
    assert_string_equal(fx->trace, "b");
}

static void run_hook(struct turn_hook *hook)
{
    struct item *item = container_of(hook, struct item, hook);
    trace(item->fx, item->letter);
    if (item->again != 0) {
        --item->again;
        turn_hook_queue(item->fx->r, hook);
    }
}

static void deliver(struct reactor *r, struct mail *mail)
{
    struct item *item = container_of(mail, struct item, mail);
    assert_ptr_equal(r, item->fx->r);
    assert_int_equal(mail->from, 0);
    trace(item->fx, item->letter);
    if (item->again != 0) {
        --item->again;
        mail_post(r, 0, mail);
    }
}

static void fire(struct timer *timer)
{
    struct item *item = container_of(timer, struct item, timer);
    trace(item->fx, item->letter);
}

static void io_done(struct io_op *op, int64_t result)
{
    struct item *item = container_of(op, struct item, op);
    assert_int_equal(result, 0);
    trace(item->fx, item->letter);
}

/* Time stands still and every turn has an answer to send: they wait, but not for ever. */
static void bulk_tasks_let_an_answer_go_first_for_three_turns(void **state)
{
    struct fixture *fx = *state;
    struct item b = {.task = {.run = run_task, .bulk = true}, .fx = fx, .letter = 'b', .again = 1};
    struct item hook = {.hook = {.run = run_hook}, .fx = fx, .letter = 'h', .again = 3};
    task_queue(fx->r, &b.task);
    turn_hook_queue(fx->r, &hook.hook);
    for (int i = 0; i < 3; i++) {
        reactor_hurry(fx->r);
        (void)reactor_turn(fx->r);
    }
    assert_string_equal(fx->trace, "hhh");
    reactor_hurry(fx->r);
    (void)reactor_turn(fx->r);
    assert_string_equal(fx->trace, "hhhbh");
    turn_until_idle(fx);
    assert_string_equal(fx->trace, "hhhbhb");
}

static void bulk_tasks_let_mail_to_oneself_go_first(void **state)
{
    struct fixture *fx = *state;
    struct item mail = {.mail = {.deliver = deliver}, .fx = fx, .letter = 'm', .again = 2};
    struct item b = {.task = {.run = run_task, .bulk = true}, .fx = fx, .letter = 'b'};
    mail_post(fx->r, 0, &mail.mail);
    task_queue(fx->r, &b.task);
    turn_until_idle(fx);
    assert_string_equal(fx->trace, "mmmb");
}

static void a_turn_reaps_then_mail_then_timers_then_tasks_then_hooks(void **state)
{
    struct fixture *fx = *state;
    struct item io = {.op = {.done = io_done}, .fx = fx, .letter = 'i'};
    struct item mail = {.mail = {.deliver = deliver}, .fx = fx, .letter = 'm', .again = 1};
    struct item timer = {.timer = {.fire = fire}, .fx = fx, .letter = 't'};
    struct item task = {.task = {.run = run_task}, .fx = fx, .letter = 'k'};
    struct item hook = {.hook = {.run = run_hook}, .fx = fx, .letter = 'h', .again = 1};
    turn_hook_queue(fx->r, &hook.hook);
    turn_hook_queue(fx->r, &hook.hook);
    task_queue(fx->r, &task.task);
    assert_int_equal(timer_set(fx->r, &timer.timer, 0), 0);
    mail_post(fx->r, 0, &mail.mail);
    fx->r->io->ops->make_dir(fx->r->io, &io.op, "/d");
    assert_int_equal(fx->r->io->ops->submit(fx->r->io), 1);
    (void)reactor_turn(fx->r);
    assert_string_equal(fx->trace, "imtkh");
    (void)reactor_turn(fx->r); /* what queued itself comes now, and only now */
    assert_string_equal(fx->trace, "imtkhmh");
    assert_false(reactor_has_work(fx->r));
}

static void compute(struct job *job)
{
    struct item *item = container_of(job, struct item, job);
    trace(item->fx, 'x');
}

static void job_done(struct reactor *r, struct mail *mail)
{
    struct item *item = container_of(mail, struct item, job.back);
    assert_ptr_equal(r, item->fx->r);
    assert_int_equal(mail->from, 1);
    trace(item->fx, 'y');
}

static void a_simulated_job_runs_on_the_turn_of_its_worker(void **state)
{
    struct fixture *fx = *state;
    struct item item = {.job = {.compute = compute, .back = {.deliver = job_done}}, .fx = fx};
    job_start(fx->r, 1, &item.job);
    (void)reactor_turn(fx->r);
    assert_string_equal(fx->trace, "");
    (void)reactor_turn(reactor_group_at(fx->group, 1));
    assert_string_equal(fx->trace, "x");
    (void)reactor_turn(fx->r);
    assert_string_equal(fx->trace, "xy");
}

static void work_for_3_ms(struct task *task)
{
    struct item *item = container_of(task, struct item, task);
    sim_advance(item->fx->disk, 3000000);
}

static void turns_that_had_work_are_timed(void **state)
{
    struct fixture *fx = *state;
    struct item item = {.task = {.run = work_for_3_ms}, .fx = fx};
    turn_until_idle(fx);
    uint64_t turns = histogram_count(&fx->r->stats.turn_times);
    uint64_t sum_ns = fx->r->stats.turn_times.sum_ns;
    (void)reactor_turn(fx->r);
    assert_int_equal(histogram_count(&fx->r->stats.turn_times), turns);
    task_queue(fx->r, &item.task);
    (void)reactor_turn(fx->r);
    assert_int_equal(histogram_count(&fx->r->stats.turn_times), turns + 1);
    assert_int_equal(fx->r->stats.turn_times.sum_ns, sum_ns + 3000000);
    assert_int_equal(fx->r->stats.busy_ns, fx->r->stats.turn_times.sum_ns);
}

static struct reactor_depths seen[4];

static void look_at_depths(struct reactor *r, struct mail *mail)
{
    struct item *item = container_of(mail, struct item, mail);
    seen[item->again] = reactor_depths(r);
}

static void what_waits_is_counted(void **state)
{
    struct fixture *fx = *state;
    struct reactor *peer = reactor_group_at(fx->group, 1);
    struct item task = {.task = {.run = run_task}, .fx = fx, .letter = 'k'};
    struct item bulk = {.task = {.run = run_task, .bulk = true}, .fx = fx, .letter = 'b'};
    struct item mails[4];
    assert_int_equal(reactor_depths(fx->r).mail, 0);
    assert_int_equal(reactor_depths(fx->r).tasks, 0);
    task_queue(fx->r, &task.task);
    task_queue(fx->r, &bulk.task);
    assert_int_equal(reactor_depths(fx->r).tasks, 2);
    for (unsigned i = 0; i != 4; ++i) {
        mails[i] = (struct item){.mail = {.deliver = look_at_depths}, .fx = fx, .again = i};
        mail_post(i < 2 ? fx->r : peer, 0, &mails[i].mail);
    }
    assert_int_equal(reactor_depths(fx->r).mail, 4);
    assert_int_equal(reactor_depths(peer).mail, 0);
    (void)reactor_turn(fx->r);
    for (unsigned i = 0; i != 4; ++i) /* one that is being delivered does not wait */
        assert_int_equal(seen[i].mail, 3 - i);
    turn_until_idle(fx);
    assert_int_equal(reactor_depths(fx->r).mail, 0);
    assert_int_equal(reactor_depths(fx->r).tasks, 0);
}

static void mail_that_finds_the_ring_full_waits_at_its_sender(void **state)
{
    enum { MANY = SPSC_CAPACITY + 3 };
    struct fixture *fx = *state;
    struct reactor *peer = reactor_group_at(fx->group, 1);
    struct item *mails = test_calloc(MANY, sizeof(*mails));
    for (unsigned i = 0; i != MANY; ++i) {
        mails[i].mail.deliver = look_at_depths;
        mail_post(fx->r, 1, &mails[i].mail);
    }
    assert_int_equal(reactor_depths(fx->r).mail, 3);
    assert_int_equal(reactor_depths(peer).mail, SPSC_CAPACITY);
    while (reactor_depths(fx->r).mail != 0 || reactor_depths(peer).mail != 0) {
        (void)reactor_turn(fx->r);
        (void)reactor_turn(peer);
    }
    test_free(mails);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(tasks_that_queue_themselves_take_turns),
        CASE(bulk_tasks_get_a_quarter_of_the_steps_beside_others),
        CASE(bulk_tasks_take_turns_and_save_up_nothing),
        CASE(bulk_tasks_let_an_answer_go_first_for_three_turns),
        CASE(bulk_tasks_let_mail_to_oneself_go_first),
        CASE(a_cancelled_bulk_task_does_not_run),
        CASE(a_cancelled_task_does_not_run),
        CASE(a_turn_reaps_then_mail_then_timers_then_tasks_then_hooks),
        CASE(turns_that_had_work_are_timed),
        CASE(what_waits_is_counted),
        CASE(mail_that_finds_the_ring_full_waits_at_its_sender),
        CASE(a_simulated_job_runs_on_the_turn_of_its_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
