/* Marks of rows that ended, against an array that remembers everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "segment/segment.h"

#include <proximadb/error.h>
#include <string.h>

enum { ROWS_MAX = 5000 };

struct world {
    struct heap heap;
    struct rng rng;
    struct segment_deletes *d;
    uint32_t row_count, reserved;
    uint64_t ended_at[ROWS_MAX], ended_count;
    uint64_t version, forgotten; /* all up to it may be forgotten */
};

static void start(struct world *w, uint64_t seed, uint32_t row_count)
{
    memset(w, 0, sizeof(*w));
    rng_seed(&w->rng, seed);
    w->row_count = row_count;
    w->version = 1;
    for (uint32_t row = 0; row < ROWS_MAX; row++)
        w->ended_at[row] = SEGMENT_NEVER;
    assert_int_equal(segment_deletes_new(&w->heap, row_count, &w->d), 0);
}

static void stop(struct world *w)
{
    segment_deletes_free(w->d);
    assert_int_equal(w->heap.bytes_used, 0);
}

static void mark(struct world *w, uint32_t row, uint64_t version)
{
    segment_deletes_mark(w->d, row, version);
    w->reserved -= w->reserved > 0;
    w->ended_count += w->ended_at[row] == SEGMENT_NEVER;
    if (version < w->ended_at[row])
        w->ended_at[row] = version;
}

/* What may be forgotten is either known or 0; all else is known. */
static void expect_version(const struct world *w, uint32_t row, uint64_t ended_at)
{
    uint64_t expected = w->ended_at[row];
    if (ended_at != expected && (expected > w->forgotten || ended_at != 0))
        fail_msg("row %u ended at %ju, expected %ju, forgotten %ju", row, (uintmax_t)ended_at,
                 (uintmax_t)expected, (uintmax_t)w->forgotten);
}

static void expect_all(const struct world *w, const struct segment_deletes *d)
{
    uint32_t at = 0, found = 0, previous = 0;
    uint64_t ended_at = 0, count = 0;
    assert_int_equal(segment_deletes_count(d), w->ended_count);
    for (uint32_t row = 0; row < w->row_count; row++)
        expect_version(w, row, segment_deletes_ended_at(d, row));
    while (segment_deletes_next(d, &at, &found, &ended_at)) {
        assert_true(count == 0 || found > previous);
        assert_true(at == found + 1 && w->ended_at[found] != SEGMENT_NEVER);
        expect_version(w, found, ended_at);
        previous = found;
        count++;
    }
    assert_int_equal(count, w->ended_count);
    assert_false(segment_deletes_next(d, &at, &found, &ended_at));
}

static void one_operation(struct world *w)
{
    uint32_t more = (uint32_t)rng_below(&w->rng, rng_below(&w->rng, 20) == 0 ? 2000 : 20);
    switch (rng_below(&w->rng, 4)) {
    case 0:
        assert_int_equal(segment_deletes_reserve(w->d, more), 0);
        w->reserved = more;
        break;
    case 1:
        w->forgotten = w->version - rng_below(&w->rng, w->version - w->forgotten + 1);
        (void)segment_deletes_forget(w->d, w->forgotten, rng_below(&w->rng, 500));
        break;
    default:
        for (uint64_t n = rng_below(&w->rng, w->reserved + 1u); n > 0; n--) {
            w->version += rng_below(&w->rng, 3);
            /* mostly now; sometimes late, or of a version that is not known */
            uint64_t back = rng_below(&w->rng, 10) == 0 ? rng_below(&w->rng, w->version + 1) : 0;
            mark(w, (uint32_t)rng_below(&w->rng, w->row_count), w->version - back);
        }
    }
}

static void any_history_of_marks_is_remembered(void **state)
{
    (void)state;
    static struct world w;
    static const uint32_t sizes[] = {1, 63, 64, 65, 1000, ROWS_MAX};
    for (uint64_t seed = 0; seed < 30; seed++) {
        start(&w, seed, sizes[seed % 6]);
        for (int i = 0; i < 200; i++) {
            one_operation(&w);
            if (i % 20 == 0)
                expect_all(&w, w.d);
        }
        expect_all(&w, w.d);
        stop(&w);
    }
}

static void a_copy_is_equal_and_stays_as_it_was(void **state)
{
    (void)state;
    static struct world w, then;
    struct heap heap = {0};
    for (uint64_t seed = 100; seed < 110; seed++) {
        start(&w, seed, ROWS_MAX);
        for (int i = 0; i < 60; i++)
            one_operation(&w);
        struct segment_deletes *copy = segment_deletes_copy(w.d, &heap);
        assert_non_null(copy);
        then = w;
        for (int i = 0; i < 60; i++)
            one_operation(&w);
        expect_all(&then, copy);
        segment_deletes_free(copy);
        assert_int_equal(heap.bytes_used, 0);
        stop(&w);
    }
}

static void forgetting_gives_memory_back_and_keeps_that_rows_ended(void **state)
{
    (void)state;
    static struct world w;
    start(&w, 1, ROWS_MAX);
    size_t empty = w.heap.bytes_used;
    for (uint32_t row = 0; row < ROWS_MAX; row += 2) {
        assert_int_equal(segment_deletes_reserve(w.d, 1), 0);
        mark(&w, row, 10 + row);
    }
    size_t full = w.heap.bytes_used, steps = 0;
    assert_true(full - empty <=
                2500 * 48); /* half a table, while it is being replaced a third more */
    w.forgotten = 10 + ROWS_MAX - 100;
    while (segment_deletes_forget(w.d, w.forgotten, 100))
        steps++;
    assert_in_range(steps, 10, 10000); /* the budget counts */
    assert_true(w.heap.bytes_used - empty < 50 * 64);
    expect_all(&w, w.d);
    assert_int_equal(segment_deletes_ended_at(w.d, 0), 0);
    assert_int_equal(segment_deletes_ended_at(w.d, ROWS_MAX - 2), 10 + ROWS_MAX - 2);
    w.forgotten = 10 + ROWS_MAX;
    while (segment_deletes_forget(w.d, w.forgotten, 100)) {
    }
    assert_int_equal(w.heap.bytes_used, empty);
    expect_all(&w, w.d);
    assert_false(segment_deletes_forget(w.d, w.forgotten, 0)); /* nothing more to do */
    stop(&w);
}

static void the_lower_of_two_marks_stays(void **state)
{
    (void)state;
    static struct world w;
    start(&w, 1, 10);
    assert_int_equal(segment_deletes_reserve(w.d, 8), 0);
    segment_deletes_mark(w.d, 3, 20);
    segment_deletes_mark(w.d, 3, 30);
    assert_int_equal(segment_deletes_ended_at(w.d, 3), 20);
    segment_deletes_mark(w.d, 3, 7);
    assert_int_equal(segment_deletes_ended_at(w.d, 3), 7);
    segment_deletes_mark(w.d, 3, 0); /* at a version that is not remembered */
    assert_int_equal(segment_deletes_ended_at(w.d, 3), 0);
    segment_deletes_mark(w.d, 3, 5);
    assert_int_equal(segment_deletes_ended_at(w.d, 3), 0);
    assert_int_equal(segment_deletes_ended_at(w.d, 4), SEGMENT_NEVER);
    assert_int_equal(segment_deletes_count(w.d), 1);
    stop(&w);
}

/* A failed reservation leaves everything as it was, and the earlier room. */
static void reserve_and_mark(struct world *w)
{
    w->heap.fail_at = rng_below(&w->rng, 3) == 0 ? w->heap.allocation_count + 1 : 0;
    uint32_t more = (uint32_t)rng_below(&w->rng, 30);
    int rc = segment_deletes_reserve(w->d, more);
    assert_true(rc == 0 || (rc == PDB_RESOURCE_EXHAUSTED && w->heap.fail_at != 0));
    if (rc == 0)
        w->reserved = more;
    while (w->reserved > 0)
        mark(w, (uint32_t)rng_below(&w->rng, ROWS_MAX), ++w->version);
}

static void expect_failing_copies(const struct world *w)
{
    for (uint64_t n = 1; n <= 4; n++) {
        struct heap heap = {.fail_at = n};
        struct segment_deletes *copy = segment_deletes_copy(w->d, &heap);
        assert_true(n > 2 || copy == NULL);
        if (copy != NULL)
            expect_all(w, copy);
        segment_deletes_free(copy);
        assert_int_equal(heap.bytes_used, 0);
    }
}

static void every_failing_allocation_leaves_sound_marks(void **state)
{
    (void)state;
    static struct world w;
    struct segment_deletes *d = NULL;
    for (uint64_t n = 1; n <= 2; n++) {
        struct heap heap = {.fail_at = n};
        assert_int_equal(segment_deletes_new(&heap, 100, &d), PDB_RESOURCE_EXHAUSTED);
        assert_null(d);
        assert_int_equal(heap.bytes_used, 0);
    }
    for (uint64_t seed = 200; seed < 210; seed++) {
        start(&w, seed, ROWS_MAX);
        for (uint32_t i = 1; i <= 400; i++) {
            reserve_and_mark(&w);
            if (i % 50 != 0)
                continue;
            w.forgotten = w.version - 20;
            while (segment_deletes_forget(w.d, w.forgotten, 100)) {
            }
            expect_all(&w, w.d);
        }
        w.heap.fail_at = 0;
        expect_failing_copies(&w);
        stop(&w);
    }
}

static void no_rows_and_no_deletes_are_legal(void **state)
{
    (void)state;
    struct segment_deletes *d = NULL;
    uint32_t at = 0, row = 0;
    uint64_t ended_at = 0;
    assert_int_equal(segment_deletes_new(NULL, 0, &d), 0);
    assert_false(segment_deletes_next(d, &at, &row, &ended_at));
    assert_int_equal(segment_deletes_reserve(d, 5), 0);
    assert_false(segment_deletes_forget(d, 5, 5));
    segment_deletes_free(d);
    segment_deletes_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_history_of_marks_is_remembered),
        cmocka_unit_test(a_copy_is_equal_and_stays_as_it_was),
        cmocka_unit_test(forgetting_gives_memory_back_and_keeps_that_rows_ended),
        cmocka_unit_test(the_lower_of_two_marks_stays),
        cmocka_unit_test(every_failing_allocation_leaves_sound_marks),
        cmocka_unit_test(no_rows_and_no_deletes_are_legal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
