#include "base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static void tables_that_are_read_all_over_are_aligned_and_counted(void **state)
{
    (void)state;
    struct heap heap = {.bytes_max = 64 << 20};
    const size_t sizes[] = {1, 100, 4 << 20, (5 << 20) + 3};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *block = heap_alloc_huge(&heap, sizes[i]);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % (sizes[i] < 4 << 20 ? 64 : 2 << 20), 0);
        memset(block, 1, sizes[i]);
        assert_true(heap.bytes_used >= sizes[i]);
        heap_free(&heap, block);
        assert_int_equal(heap.bytes_used, 0);
    }
    assert_null(heap_alloc_huge(&heap, 65 << 20));
}

static void every_byte_taken_is_given_back(void **state)
{
    (void)state;
    struct heap heap = {.bytes_max = 0};
    void *blocks[6];
    blocks[0] = heap_alloc(&heap, 100);
    blocks[1] = heap_calloc(&heap, 10, 30);
    blocks[2] = heap_alloc_aligned(&heap, 4096, 5000);
    blocks[3] = heap_copy_text(&heap, "text", 3);
    blocks[4] = heap_alloc(&heap, 0);
    blocks[5] = heap_realloc(&heap, NULL, 10);
    assert_true(heap.bytes_used >= 100 + 300 + 5000 + 4 + 10);
    assert_int_equal((uintptr_t)blocks[2] % 4096, 0);
    assert_string_equal(blocks[3], "tex");
    for (size_t i = 0; i < 300; i++)
        assert_int_equal(((char *)blocks[1])[i], 0);
    blocks[0] = heap_realloc(&heap, blocks[0], 100000);
    assert_true(heap.bytes_used >= 105000);
    size_t peak = heap.bytes_peak;
    blocks[0] = heap_realloc(&heap, blocks[0], 10);
    assert_true(heap.bytes_used < 10000);
    assert_int_equal(heap.bytes_peak, peak);
    for (size_t i = 0; i < 6; i++) {
        assert_non_null(blocks[i]);
        heap_free(&heap, blocks[i]);
    }
    heap_free(&heap, NULL);
    assert_int_equal(heap.bytes_used, 0);
    assert_true(heap.allocation_count >= 7);
}

static void zeroes_are_zero_counted_and_refused_like_other_blocks(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, HEAP_PAGES_MIN - 1, HEAP_PAGES_MIN, 3 * HEAP_PAGES_MIN + 5};
    struct heap heap = {.bytes_max = 4 * HEAP_PAGES_MIN};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *block = heap_zeroes(&heap, sizes[i]);
        assert_non_null(block);
        assert_true(heap.bytes_used >= sizes[i]);
        assert_true(block[0] == 0 && block[sizes[i] / 2] == 0 && block[sizes[i] - 1] == 0);
        memset(block, 'x', sizes[i]);
        assert_null(heap_zeroes(&heap, heap.bytes_max));
        heap_zeroes_free(&heap, block, sizes[i]);
        assert_int_equal(heap.bytes_used, 0);
    }
    assert_null(heap_zeroes(NULL, SIZE_MAX));
    heap.fail_at = heap.allocation_count + 1;
    assert_null(heap_zeroes(&heap, HEAP_PAGES_MIN));
    heap_zeroes_free(&heap, NULL, HEAP_PAGES_MIN);
    assert_int_equal(heap.bytes_used, 0);
}

#ifdef __has_feature
#define WITH_ASAN __has_feature(address_sanitizer)
#else
#define WITH_ASAN 0
#endif
#ifdef __SANITIZE_ADDRESS__
static const bool has_pages = false;
#else
static const bool has_pages = !WITH_ASAN;
#endif

static bool is_mapped(void *ptr)
{
    unsigned char resident;
    const uintptr_t page = (uintptr_t)ptr / 4096 * 4096;
    return mincore((void *)page, 1, &resident) == 0;
}

/* malloc would keep them for the next one who asks. A leak check's heap has its own ways. */
static void large_blocks_by_pages_are_the_systems_again_once_they_are_freed(void **state)
{
    (void)state;
    struct heap heap = {.large_by_pages = true};
    const struct {
        size_t alignment, size;
    } cases[] = {{64, HEAP_PAGES_MIN},
                 {64, 3 * HEAP_PAGES_MIN + 5},
                 {4096, HEAP_PAGES_MIN},
                 {2 << 20, 5 << 20}};
    char *blocks[4];
    for (size_t i = 0; i < 4; i++) {
        size_t before = heap.bytes_used;
        blocks[i] = heap_alloc_aligned(&heap, cases[i].alignment, cases[i].size);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % cases[i].alignment, 0);
        memset(blocks[i], (int)i, cases[i].size);
        assert_in_range(heap.bytes_used - before, cases[i].size, cases[i].size + 2 * 4096);
    }
    for (size_t i = 0; i < 4; i++) { /* not in the order of their making, nor the other way round */
        char *block = blocks[(i + 2) % 4];
        assert_int_equal(block[0], (i + 2) % 4);
        assert_int_equal(block[cases[(i + 2) % 4].size - 1], (i + 2) % 4);
        heap_free(&heap, block);
        assert_true(!is_mapped(block) || !has_pages);
    }
    assert_int_equal(heap.bytes_used, 0);
    assert_null(heap.large);
}

static void blocks_by_pages_are_zeroed_resized_and_refused_like_others(void **state)
{
    (void)state;
    struct heap heap = {.large_by_pages = true, .bytes_max = 4 * HEAP_PAGES_MIN};
    char *block = heap_calloc(&heap, 2, HEAP_PAGES_MIN);
    char *small = heap_alloc(&heap, 100);
    assert_non_null(block);
    assert_non_null(small);
    assert_true(block[0] == 0 && block[2 * HEAP_PAGES_MIN - 1] == 0);
    assert_null(heap_alloc(&heap, 3 * HEAP_PAGES_MIN));
    heap_free(&heap, block);
    small[99] = 'x';
    small = heap_realloc(&heap, small, HEAP_PAGES_MIN); /* small, large, larger, small */
    assert_non_null(small);
    assert_int_equal(small[99], 'x');
    small = heap_realloc(&heap, small, HEAP_PAGES_MIN + 10000);
    assert_non_null(small);
    assert_null(heap_realloc(&heap, small, 5 * HEAP_PAGES_MIN));
    assert_int_equal(small[99], 'x');
    small = heap_realloc(&heap, small, 100);
    assert_int_equal(small[99], 'x');
    assert_in_range(heap.bytes_used, 100, 200);
    heap.fail_at = heap.allocation_count + 1;
    assert_null(heap_alloc(&heap, HEAP_PAGES_MIN));
    assert_null(heap_alloc(&heap, SIZE_MAX));
    heap_free(&heap, small);
    assert_int_equal(heap.bytes_used, 0);
}

static void the_limit_refuses_and_leaves_blocks_as_they_were(void **state)
{
    (void)state;
    struct heap heap = {.bytes_max = 4096};
    char *block = heap_alloc(&heap, 3000);
    assert_non_null(block);
    memset(block, 'x', 3000);
    assert_null(heap_alloc(&heap, 2000));
    assert_null(heap_calloc(&heap, 2, 1000));
    assert_null(heap_alloc_aligned(&heap, 64, 2000));
    assert_null(heap_realloc(&heap, block, 6000));
    assert_int_equal(block[2999], 'x');
    char *more = heap_alloc(&heap, 500);
    assert_non_null(more);
    heap_free(&heap, more);
    heap_free(&heap, block);
    assert_non_null(block = heap_alloc(&heap, 4000));
    heap_free(&heap, block);
    assert_int_equal(heap.bytes_used, 0);
}

static void the_chosen_allocation_fails_and_all_after_it(void **state)
{
    (void)state;
    struct heap heap = {.fail_at = 3};
    void *a = heap_alloc(&heap, 1), *b = heap_calloc(&heap, 1, 1);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(heap_alloc(&heap, 1));
    assert_null(heap_realloc(&heap, a, 100));
    assert_null(heap_alloc_aligned(&heap, 16, 1));
    assert_null(heap_copy_text(&heap, "a", 1));
    heap.fail_at = 0;
    void *c = heap_alloc(&heap, 1);
    assert_non_null(c);
    heap_free(&heap, a);
    heap_free(&heap, b);
    heap_free(&heap, c);
    assert_int_equal(heap.bytes_used, 0);
}

static void products_that_overflow_are_refused(void **state)
{
    (void)state;
    struct heap heap = {.bytes_max = 0};
    assert_null(heap_calloc(&heap, SIZE_MAX / 2, 3));
    assert_null(heap_copy_text(&heap, NULL, SIZE_MAX));
}

static void no_heap_means_no_counting(void **state)
{
    (void)state;
    char *block = heap_alloc(NULL, 10);
    block = heap_realloc(NULL, block, 100);
    assert_non_null(block);
    heap_free(NULL, block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_taken_is_given_back),
        cmocka_unit_test(tables_that_are_read_all_over_are_aligned_and_counted),
        cmocka_unit_test(zeroes_are_zero_counted_and_refused_like_other_blocks),
        cmocka_unit_test(large_blocks_by_pages_are_the_systems_again_once_they_are_freed),
        cmocka_unit_test(blocks_by_pages_are_zeroed_resized_and_refused_like_others),
        cmocka_unit_test(the_limit_refuses_and_leaves_blocks_as_they_were),
        cmocka_unit_test(the_chosen_allocation_fails_and_all_after_it),
        cmocka_unit_test(products_that_overflow_are_refused),
        cmocka_unit_test(no_heap_means_no_counting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
