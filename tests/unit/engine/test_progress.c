/* engine_progress (src/engine/stats.c): what a program is told of the shares of all cores. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/engine_internal.h"

#include <string.h>

enum { CORES = 2, TOLD_MAX = 16 };

static struct {
    struct pdb_progress all[TOLD_MAX];
    unsigned count;
} told;
static uint64_t now_ns;

static uint64_t read_clock(struct io *io)
{
    (void)io;
    return now_ns;
}

static void hear(const struct pdb_progress *progress, void *arg)
{
    assert_ptr_equal(arg, &told);
    assert_true(told.count < TOLD_MAX);
    told.all[told.count++] = *progress;
}

struct fixture {
    struct pdb db;
    struct engine_core cores[CORES];
    struct reactor reactor;
    struct io io;
    struct io_ops ops;
};

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    memset(&told, 0, sizeof(told));
    now_ns = 1000000000;
    f->ops.now_ns = read_clock;
    f->io.ops = &f->ops;
    f->reactor.io = &f->io;
    f->db.cores = f->cores;
    f->db.core_count = CORES;
    f->db.options.progress = hear;
    f->db.options.arg = &told;
    (void)pthread_mutex_init(&f->db.phase_lock, NULL);
    for (unsigned i = 0; i < CORES; i++) {
        f->cores[i].db = &f->db;
        f->cores[i].id = i;
        f->cores[i].r = &f->reactor;
    }
}

static void assert_told(unsigned at, const char *phase, uint64_t done, uint64_t total)
{
    assert_true(at < told.count);
    if (phase == NULL)
        assert_null(told.all[at].phase);
    else
        assert_string_equal(told.all[at].phase, phase);
    assert_int_equal(told.all[at].done, done);
    assert_int_equal(told.all[at].total, total);
}

static void the_cores_in_one_phase_are_added(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    engine_progress(&f.cores[0], "replay", 0, 100);
    engine_progress(&f.cores[1], "replay", 50, 300);
    assert_int_equal(told.count, 2);
    assert_told(0, "replay", 0, 100);
    assert_told(1, "replay", 50, 400);
}

static void a_core_that_left_its_phase_counts_no_more(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    engine_progress(&f.cores[0], "replay", 10, 100);
    engine_progress(&f.cores[1], "replay", 50, 300);
    engine_progress(&f.cores[0], NULL, 0, 0);
    assert_told(2, "replay", 50, 300);
    engine_progress(&f.cores[1], NULL, 0, 0);
    assert_told(3, NULL, 0, 0);
    assert_int_equal(told.count, 4);
}

/* The phase of the first core that is in one is what all are in, or will be soon. */
static void cores_in_two_phases_are_not_added(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    engine_progress(&f.cores[1], "indexes", 1, 2);
    engine_progress(&f.cores[0], "replay", 10, 100);
    assert_told(1, "replay", 10, 100);
}

static void small_steps_are_told_twenty_times_a_second(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    for (unsigned ms = 0; ms < 1000; ms++, now_ns += 1000000) {
        told.count = told.count == TOLD_MAX ? 0 : told.count;
        unsigned before = told.count;
        engine_progress(&f.cores[0], "replay", ms, 1000);
        assert_int_equal(told.count - before, ms % 50 == 0);
    }
    unsigned before = told.count;
    engine_progress(&f.cores[0], "replay", 1000, 1000); /* the end of a phase at once */
    engine_progress(&f.cores[0], "replay", 1000, 1000);
    assert_int_equal(told.count - before, 2);
}

static void nobody_needs_to_listen(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f);
    f.db.options.progress = NULL;
    engine_progress(&f.cores[0], "replay", 3, 4);
    assert_int_equal(f.cores[0].progress.done, 3);
    assert_int_equal(told.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cores_in_one_phase_are_added),
        cmocka_unit_test(a_core_that_left_its_phase_counts_no_more),
        cmocka_unit_test(cores_in_two_phases_are_not_added),
        cmocka_unit_test(small_steps_are_told_twenty_times_a_second),
        cmocka_unit_test(nobody_needs_to_listen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
