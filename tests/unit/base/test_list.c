/* list, bytes: the small inline helpers. */
#include "base/bytes.h"
#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct item {
    int number;
    struct list_link link;
};

static int number_of(struct list_link *link)
{
    return container_of(link, struct item, link)->number;
}

static void a_list_keeps_its_order_through_removals(void **state)
{
    (void)state;
    struct list list;
    struct item items[6] = {{.number = 0}, {.number = 1}, {.number = 2},
                            {.number = 3}, {.number = 4}, {.number = 5}};
    list_init(&list);
    assert_true(list_empty(&list));
    assert_null(list_pop_front(&list));
    for (int i = 1; i < 5; i++)
        list_push_back(&list, &items[i].link);
    list_push_front(&list, &items[0].link);
    list_insert_before(&items[3].link, &items[5].link);
    static const int want[] = {0, 1, 2, 5, 3, 4};
    size_t at = 0;
    list_each (link, &list)
        assert_int_equal(number_of(link), want[at++]);
    assert_int_equal(at, 6);
    list_each_safe(link, following, &list)
    {
        if (number_of(link) % 2 == 1)
            list_remove(link);
    }
    assert_false(list_linked(&items[1].link));
    assert_true(list_linked(&items[2].link));
    list_remove(&items[1].link); /* in no list: legal */
    assert_int_equal(number_of(list_pop_front(&list)), 0);
    assert_int_equal(number_of(list_pop_front(&list)), 2);
    assert_int_equal(number_of(list_pop_front(&list)), 4);
    assert_true(list_empty(&list));
}

static void a_reader_never_goes_past_its_end_and_failure_sticks(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9, 8};
    struct bytes_reader r = bytes_reader_of(bytes, sizeof(bytes));
    assert_int_equal(bytes_take_u8(&r), 1);
    assert_int_equal(bytes_take_u16(&r), 2);
    assert_int_equal(bytes_take_u32(&r), 3);
    assert_int_equal(bytes_take_u64(&r), 4);
    assert_int_equal(bytes_left(&r), 2);
    assert_false(r.failed);
    assert_int_equal(bytes_take_u32(&r), 0);
    assert_true(r.failed);
    assert_null(bytes_take(&r, 1));
    assert_int_equal(bytes_take_u8(&r), 0);
    assert_int_equal(bytes_align_up(0, 8), 0);
    assert_int_equal(bytes_align_up(1, 8), 8);
    assert_int_equal(bytes_align_up(4096, 4096), 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_keeps_its_order_through_removals),
        cmocka_unit_test(a_reader_never_goes_past_its_end_and_failure_sticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
