/* Timers fire in the order of their times, each once, and no timer holds a turn. */
#include "os/sim.h"
#include "reactor/reactor.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <proximadb/error.h>

enum { COUNT = 500 };

struct fixture {
    struct sim_disk *disk;
    struct reactor_group *group;
    struct reactor *r;
    uint64_t last_due_ns;
    unsigned fired;
};

struct item {
    struct timer timer;
    struct fixture *fx;
    unsigned fired;
};

static int set_up(void **state)
{
    struct fixture *fx = test_calloc(1, sizeof(*fx));
    const char *reason;
    fx->disk = sim_disk_new(1);
    struct reactor_options options = {.count = 1, .sim = fx->disk};
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

static void note(struct timer *timer)
{
    struct item *item = container_of(timer, struct item, timer);
    assert_int_equal(timer->slot, 0);
    assert_true(timer->due_ns <= item->fx->r->now_ns);
    assert_true(timer->due_ns >= item->fx->last_due_ns);
    item->fx->last_due_ns = timer->due_ns;
    ++item->fired;
    ++item->fx->fired;
}

static void init_items(struct fixture *fx, struct item *items, unsigned count)
{
    for (unsigned i = 0; i != count; ++i)
        items[i] = (struct item){.timer = {.fire = note}, .fx = fx};
}

/* Turns until no timer is set; time moves to each timer's own. */
static void run_all(struct fixture *fx)
{
    int64_t wait_ns;
    while ((wait_ns = reactor_wait_ns(fx->r)) >= 0) {
        sim_advance(fx->disk, (uint64_t)wait_ns);
        (void)reactor_turn(fx->r);
    }
}

static void timers_fire_in_the_order_of_their_times(void **state)
{
    struct fixture *fx = *state;
    struct item items[COUNT];
    struct rng rng;
    rng_seed(&rng, 3);
    init_items(fx, items, COUNT);
    uint64_t now = fx->r->now_ns;
    for (unsigned i = 0; i != COUNT; ++i)
        assert_int_equal(timer_set(fx->r, &items[i].timer, now + rng_below(&rng, 1000)), 0);
    for (unsigned i = 0; i < COUNT; i += 3) /* moved, to both sides */
        assert_int_equal(timer_set(fx->r, &items[i].timer, now + rng_below(&rng, 1000)), 0);
    unsigned cancelled = 0;
    for (unsigned i = 0; i < COUNT; i += 7, ++cancelled)
        timer_cancel(fx->r, &items[i].timer);
    timer_cancel(fx->r, &items[0].timer);
    run_all(fx);
    assert_int_equal(fx->fired, COUNT - cancelled);
    for (unsigned i = 0; i != COUNT; ++i)
        assert_int_equal(items[i].fired, i % 7 != 0);
}

static void a_timer_does_not_fire_before_its_time(void **state)
{
    struct fixture *fx = *state;
    struct item item;
    init_items(fx, &item, 1);
    assert_int_equal(reactor_wait_ns(fx->r), 0); /* the first turn waits for nothing */
    (void)reactor_turn(fx->r);
    assert_int_equal(reactor_wait_ns(fx->r), -1);
    assert_int_equal(timer_set(fx->r, &item.timer, fx->r->now_ns + 100), 0);
    assert_int_equal(reactor_wait_ns(fx->r), 100);
    sim_advance(fx->disk, 99);
    (void)reactor_turn(fx->r);
    assert_int_equal(item.fired, 0);
    assert_int_equal(reactor_wait_ns(fx->r), 1);
    sim_advance(fx->disk, 1);
    assert_true(reactor_turn(fx->r));
    assert_int_equal(item.fired, 1);
    assert_int_equal(reactor_wait_ns(fx->r), -1);
}

static void set_again_to_now(struct timer *timer)
{
    struct item *item = container_of(timer, struct item, timer);
    if (++item->fired != 5)
        assert_int_equal(timer_set(item->fx->r, timer, 0), 0);
}

static void a_timer_that_sets_itself_to_the_past_fires_once_a_turn(void **state)
{
    struct fixture *fx = *state;
    struct item item = {.timer = {.fire = set_again_to_now}, .fx = fx};
    assert_int_equal(timer_set(fx->r, &item.timer, 0), 0);
    for (unsigned turn = 1; turn <= 5; ++turn) {
        assert_int_equal(reactor_wait_ns(fx->r), 0);
        (void)reactor_turn(fx->r);
        assert_int_equal(item.fired, turn);
    }
    assert_int_equal(reactor_wait_ns(fx->r), -1);
}

static void a_heap_without_memory_refuses_new_timers_and_moves_old_ones(void **state)
{
    struct fixture *fx = *state;
    struct item items[COUNT];
    unsigned set = 0;
    init_items(fx, items, COUNT);
    fx->r->heap.fail_at = fx->r->heap.allocation_count + 2; /* the first growth works */
    while (set != COUNT && timer_set(fx->r, &items[set].timer, 1000 - set) == 0)
        ++set;
    assert_true(set > 10 && set < COUNT);
    assert_int_equal(timer_set(fx->r, &items[set].timer, 1), PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(items[set].timer.slot, 0);
    assert_int_equal(timer_set(fx->r, &items[0].timer, 1), 0);
    timer_cancel(fx->r, &items[1].timer);
    assert_int_equal(timer_set(fx->r, &items[set].timer, 2), 0);
    (void)reactor_turn(fx->r);
    assert_int_equal(fx->fired, set);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(timers_fire_in_the_order_of_their_times),
        CASE(a_timer_does_not_fire_before_its_time),
        CASE(a_timer_that_sets_itself_to_the_past_fires_once_a_turn),
        CASE(a_heap_without_memory_refuses_new_timers_and_moves_old_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
