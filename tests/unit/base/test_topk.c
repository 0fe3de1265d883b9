#include "base/topk.h"

#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>
static int compare(const void *a, const void *b)
{
    const struct topk_item *x = a, *y = b;
    if (x->distance < y->distance)
        return -1;
    if (x->distance > y->distance)
        return 1;
    return (x->key > y->key) - (x->key < y->key);
}

static void the_k_best_are_those_of_a_full_sort(void **state)
{
    (void)state;
    enum { COUNT = 2000, ROUNDS = 300 };
    static struct topk_item all[COUNT], kept[COUNT];
    struct rng rng;
    rng_seed(&rng, 1);
    for (int round = 0; round < ROUNDS; round++) {
        size_t count = 1 + rng_below(&rng, COUNT), k = rng_below(&rng, 120);
        uint64_t distinct = 1 + rng_below(&rng, 50); /* many ties */
        struct topk topk;
        topk_init(&topk, kept, k);
        for (size_t i = 0; i < count; i++) {
            all[i] = (struct topk_item){(float)rng_below(&rng, distinct), i * 2654435761u % 65537};
            float bound = topk_bound(&topk);
            bool was_kept = topk_push(&topk, all[i].distance, all[i].key);
            if (all[i].distance < bound)
                assert_true(was_kept);
            if (all[i].distance > bound)
                assert_false(was_kept);
        }
        qsort(all, count, sizeof(all[0]), compare);
        topk_sort(&topk);
        assert_int_equal(topk.count, k < count ? k : count);
        for (size_t i = 0; i < topk.count; i++) {
            assert_true(kept[i].distance >= all[i].distance && kept[i].distance <= all[i].distance);
            assert_int_equal(kept[i].key, all[i].key);
        }
    }
}

static void nan_is_never_kept_and_infinity_only_while_there_is_room(void **state)
{
    (void)state;
    struct topk_item items[2];
    struct topk topk;
    topk_init(&topk, items, 2);
    assert_false(topk_push(&topk, NAN, 1));
    assert_int_equal(topk.count, 0);
    assert_true(isinf(topk_bound(&topk)));
    assert_true(topk_push(&topk, INFINITY, 5));
    assert_true(topk_push(&topk, INFINITY, 4));
    assert_false(topk_push(&topk, INFINITY, 6));
    assert_true(topk_push(&topk, INFINITY, 1));
    assert_true(topk_push(&topk, -INFINITY, 9));
    assert_false(topk_push(&topk, NAN, 0));
    topk_sort(&topk);
    assert_int_equal(items[0].key, 9);
    assert_int_equal(items[1].key, 1);
}

static void no_capacity_keeps_nothing(void **state)
{
    (void)state;
    struct topk topk;
    topk_init(&topk, NULL, 0);
    assert_true(topk_bound(&topk) < 0);
    assert_false(topk_push(&topk, -INFINITY, 1));
    topk_sort(&topk);
    assert_int_equal(topk.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_k_best_are_those_of_a_full_sort),
        cmocka_unit_test(nan_is_never_kept_and_infinity_only_while_there_is_room),
        cmocka_unit_test(no_capacity_keeps_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
