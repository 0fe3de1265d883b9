#include "base/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void write_everything(struct buffer *b)
{
    buffer_add_lit(b, "lit");
    buffer_add_text(b, TEXT_LIT(" text "));
    buffer_add_byte(b, 'x');
    buffer_add_u64(b, 0);
    buffer_add_byte(b, ' ');
    buffer_add_u64(b, UINT64_MAX);
    buffer_add_byte(b, ' ');
    buffer_add_i64(b, INT64_MIN);
    buffer_add(b, NULL, 0);
    buffer_format(b, " %s=%d", "a", -1);
    buffer_format(b, "%300d", 7);
}

static void check_everything(const struct buffer *b)
{
    char want[512];
    int len = snprintf(want, sizeof(want),
                       "lit text x0 18446744073709551615 -9223372036854775808 a=-1%300d", 7);
    assert_false(b->failed);
    assert_int_equal(b->len, len);
    assert_memory_equal(b->ptr, want, b->len);
}

static void heap_and_arena_hold_the_same(void **state)
{
    (void)state;
    struct heap heap = {.bytes_max = 0};
    struct arena arena = {.bytes_max = 0};
    struct buffer a, b;
    buffer_init_heap(&a, &heap, 0);
    buffer_init_arena(&b, &arena, 0);
    write_everything(&a);
    write_everything(&b);
    check_everything(&a);
    check_everything(&b);
    buffer_dispose(&a);
    buffer_dispose(&b);
    buffer_dispose(NULL);
    assert_int_equal(heap.bytes_used, 0);
    arena_dispose(&arena);
}

static void the_limit_is_exact_and_failure_sticks(void **state)
{
    (void)state;
    for (size_t max = 1; max < 1200; max += 13) {
        struct buffer b;
        buffer_init_heap(&b, NULL, max);
        for (size_t i = 0; i < max; i++)
            buffer_add_byte(&b, 'x');
        assert_false(b.failed);
        assert_int_equal(b.len, max);
        buffer_add_byte(&b, 'x');
        assert_true(b.failed);
        buffer_add_u64(&b, 1);
        buffer_format(&b, "%d", 1);
        assert_null(buffer_reserve(&b, 0));
        assert_int_equal(b.len, max);
        buffer_dispose(&b);
    }
    struct buffer b;
    buffer_init_heap(&b, NULL, 400);
    buffer_format(&b, "%400d", 1);
    assert_false(b.failed);
    assert_int_equal(b.len, 400);
    buffer_dispose(&b);
    buffer_init_heap(&b, NULL, 400);
    buffer_format(&b, "%401d", 1);
    assert_true(b.failed);
    buffer_dispose(&b);
    buffer_init_heap(&b, NULL, 0);
    assert_null(buffer_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    buffer_dispose(&b);
}

static void the_nth_failed_allocation_fails_the_buffer(void **state)
{
    (void)state;
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct heap heap = {.fail_at = n};
        struct buffer b;
        buffer_init_heap(&b, &heap, 0);
        write_everything(&b);
        done = !b.failed;
        if (done)
            check_everything(&b);
        assert_true(done || n < 10);
        buffer_dispose(&b);
        assert_int_equal(heap.bytes_used, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heap_and_arena_hold_the_same),
        cmocka_unit_test(the_limit_is_exact_and_failure_sticks),
        cmocka_unit_test(the_nth_failed_allocation_fails_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
