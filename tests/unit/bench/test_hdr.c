/* bench/client/hdr.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "base/rng.h"
#include "bench/client/hdr.h"

#include <stdlib.h>

static int make(void **state)
{
    *state = heap_calloc(NULL, 2, sizeof(struct hdr));
    return *state == NULL;
}

static int drop(void **state)
{
    heap_free(NULL, *state);
    return 0;
}

static void every_slot_is_the_slot_of_its_own_value(void **state)
{
    (void)state;
    for (size_t slot = 0; slot <= hdr_slot_of(HDR_VALUE_MAX_NS); slot++) {
        if (hdr_slot_value(slot) <= HDR_VALUE_MAX_NS)
            assert_int_equal(hdr_slot_of(hdr_slot_value(slot)), slot);
        if (slot > 0)
            assert_true(hdr_slot_value(slot) > hdr_slot_value(slot - 1));
    }
}

static void slots_have_no_gap_and_are_at_most_a_thousandth_wide(void **state)
{
    (void)state;
    for (size_t slot = 1; slot < hdr_slot_of(HDR_VALUE_MAX_NS); slot++) {
        uint64_t low = hdr_slot_value(slot - 1) + 1;
        uint64_t high = hdr_slot_value(slot);
        assert_int_equal(hdr_slot_of(low), slot);
        assert_true((double)(high - low) <= (double)low / 1000);
    }
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void percentiles_are_those_of_the_sorted_values_within_a_thousandth(void **state)
{
    enum { COUNT = 20000 };
    struct hdr *hdr = *state;
    static uint64_t values[COUNT];
    struct rng rng;
    rng_seed(&rng, 42);
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = 1000 + rng_below(&rng, (uint64_t)1 << (11 + i % 30));
        hdr_record(hdr, values[i], 1);
    }
    qsort(values, COUNT, sizeof(values[0]), ascending);
    for (unsigned tenths = 1; tenths < 1000; tenths++) {
        size_t rank = ((size_t)tenths * COUNT + 999) / 1000;
        double exact = (double)values[rank - 1];
        double got = (double)hdr_percentile(hdr, tenths / 10.0);
        assert_true(got >= exact && got <= exact * 1.001);
    }
    assert_int_equal(hdr_percentile(hdr, 100), values[COUNT - 1]);
    assert_int_equal(hdr->min_ns, values[0]);
}

static void an_empty_histogram_answers_zero(void **state)
{
    struct hdr *hdr = *state;
    assert_int_equal(hdr_percentile(hdr, 50), 0);
    assert_int_equal(hdr_percentile(hdr, 100), 0);
    assert_true(hdr_mean(hdr) == 0);
}

static void merging_is_the_same_as_recording_in_one(void **state)
{
    struct hdr *a = *state;
    struct hdr *b = a + 1;
    struct hdr *both = heap_calloc(NULL, 1, sizeof(*both));
    assert_non_null(both);
    for (uint64_t i = 1; i < 5000; i++) {
        hdr_record(i % 3 == 0 ? a : b, i * i * 100, i);
        hdr_record(both, i * i * 100, i);
    }
    hdr_merge(a, b);
    assert_memory_equal(a->counts, both->counts, sizeof(both->counts));
    assert_int_equal(a->total, both->total);
    assert_int_equal(a->min_ns, both->min_ns);
    assert_int_equal(a->max_ns, both->max_ns);
    heap_free(NULL, both);
}

static void a_value_above_an_hour_is_counted_as_an_hour_and_told(void **state)
{
    struct hdr *hdr = *state;
    hdr_record(hdr, HDR_VALUE_MAX_NS, 1);
    assert_int_equal(hdr->clipped, 0);
    hdr_record(hdr, UINT64_MAX, 2);
    assert_int_equal(hdr->clipped, 2);
    assert_int_equal(hdr->counts[hdr_slot_of(HDR_VALUE_MAX_NS)], 3);
    assert_int_equal(hdr_percentile(hdr, 100), UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_slot_is_the_slot_of_its_own_value),
        cmocka_unit_test(slots_have_no_gap_and_are_at_most_a_thousandth_wide),
        cmocka_unit_test_setup_teardown(
            percentiles_are_those_of_the_sorted_values_within_a_thousandth, make, drop),
        cmocka_unit_test_setup_teardown(an_empty_histogram_answers_zero, make, drop),
        cmocka_unit_test_setup_teardown(merging_is_the_same_as_recording_in_one, make, drop),
        cmocka_unit_test_setup_teardown(a_value_above_an_hour_is_counted_as_an_hour_and_told, make,
                                        drop),
    };
    return cmocka_run_group_tests_name("bench/hdr", tests, NULL, NULL);
}
