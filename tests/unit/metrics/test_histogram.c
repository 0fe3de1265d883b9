#include "metrics/histogram.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static unsigned only_bucket(uint64_t ns)
{
    struct histogram h = {.sum_ns = 0};
    histogram_record(&h, ns);
    assert_int_equal(histogram_count(&h), 1);
    unsigned bucket = 0;
    while (h.buckets[bucket] == 0)
        bucket++;
    return bucket;
}

static void bounds_ascend_from_a_microsecond_to_a_minute(void **state)
{
    (void)state;
    assert_int_equal(histogram_bounds_ns[0], 1000);
    assert_int_equal(histogram_bounds_ns[HISTOGRAM_BOUNDS - 1], 60000000000);
    for (unsigned i = 1; i < HISTOGRAM_BOUNDS; i++)
        assert_true(histogram_bounds_ns[i] > histogram_bounds_ns[i - 1]);
}

static void a_value_lies_in_the_first_bucket_whose_bound_it_does_not_pass(void **state)
{
    (void)state;
    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
        assert_int_equal(only_bucket(histogram_bounds_ns[i]), i);
        assert_int_equal(only_bucket(histogram_bounds_ns[i] + 1), i + 1);
    }
    struct rng rng;
    rng_seed(&rng, 1);
    for (int n = 0; n < 100000; n++) {
        uint64_t ns = rng_next(&rng) >> rng_below(&rng, 64);
        unsigned want = 0;
        while (want < HISTOGRAM_BOUNDS && histogram_bounds_ns[want] < ns)
            want++;
        assert_int_equal(only_bucket(ns), want);
    }
    assert_int_equal(only_bucket(0), 0);
    assert_int_equal(only_bucket(UINT64_MAX), HISTOGRAM_BOUNDS);
}

static void counts_and_ratios_use_the_same_bounds(void **state)
{
    (void)state;
    struct histogram h = {.sum_ns = 0};
    histogram_record_count(&h, 1);
    histogram_record_count(&h, 20);
    histogram_record_count(&h, UINT64_MAX);
    assert_int_equal(h.buckets[0], 1);
    assert_int_equal(h.buckets[8], 1);
    assert_int_equal(h.buckets[HISTOGRAM_BOUNDS], 1);
    struct histogram r = {.sum_ns = 0};
    histogram_record_ratio(&r, 1.0);
    histogram_record_ratio(&r, 0.0);
    histogram_record_ratio(&r, -1.0);
    histogram_record_ratio(&r, __builtin_nan(""));
    histogram_record_ratio(&r, 1e300);
    assert_int_equal(r.buckets[36], 1);
    assert_int_equal(r.buckets[0], 3);
    assert_int_equal(r.buckets[HISTOGRAM_BOUNDS - 1], 1);
}

static void merged_halves_are_the_whole(void **state)
{
    (void)state;
    struct histogram whole = {.sum_ns = 0}, halves[2] = {{.sum_ns = 0}, {.sum_ns = 0}};
    struct rng rng;
    rng_seed(&rng, 2);
    for (int i = 0; i < 10000; i++) {
        uint64_t ns = rng_next(&rng) >> (20 + rng_below(&rng, 40));
        histogram_record(&whole, ns);
        histogram_record(&halves[i % 2], ns);
    }
    histogram_merge(&halves[0], &halves[1]);
    assert_memory_equal(&halves[0], &whole, sizeof(whole));
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void percentiles_are_within_a_bucket_of_the_sorted_truth(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static uint64_t values[COUNT];
    struct histogram h = {.sum_ns = 0};
    struct rng rng;
    assert_int_equal(histogram_percentile(&h, 0.5), 0);
    rng_seed(&rng, 3);
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = 2000 + rng_below(&rng, (uint64_t)1 << (10 + rng_below(&rng, 20)));
        histogram_record(&h, values[i]);
    }
    qsort(values, COUNT, sizeof(values[0]), compare);
    static const double shares[] = {0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0};
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        size_t rank = (size_t)(shares[i] * COUNT);
        double truth = (double)values[rank > 0 ? rank - 1 : 0];
        double got = (double)histogram_percentile(&h, shares[i]);
        assert_true(got > truth * 0.6 && got < truth * 1.7);
    }
    struct histogram long_ones = {.sum_ns = 0};
    histogram_record(&long_ones, UINT64_MAX);
    assert_int_equal(histogram_percentile(&long_ones, 0.5), 60000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_ascend_from_a_microsecond_to_a_minute),
        cmocka_unit_test(a_value_lies_in_the_first_bucket_whose_bound_it_does_not_pass),
        cmocka_unit_test(counts_and_ratios_use_the_same_bounds),
        cmocka_unit_test(merged_halves_are_the_whole),
        cmocka_unit_test(percentiles_are_within_a_bucket_of_the_sorted_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
