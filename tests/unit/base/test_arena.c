#include "base/arena.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 3000 };

/* Blocks of all sizes and alignments keep their own bytes. */
static void blocks_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    static unsigned char *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    struct arena arena;
    struct rng rng;
    rng_seed(&rng, 1);
    arena_init(&arena, 0);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            size_t alignment = (size_t)1 << rng_below(&rng, 13);
            sizes[i] =
                (size_t)(rng_below(&rng, 20) == 0 ? rng_below(&rng, 100000) : rng_below(&rng, 200));
            blocks[i] = arena_alloc_aligned(&arena, sizes[i], alignment);
            assert_non_null(blocks[i]);
            assert_int_equal((uintptr_t)blocks[i] % alignment, 0);
            memset(blocks[i], (int)(i & 255), sizes[i]);
        }
        for (size_t i = 0; i < BLOCKS; i++) {
            for (size_t b = 0; b < sizes[i]; b++) {
                if (blocks[i][b] != (i & 255))
                    fail_msg("block %zu was overwritten", i);
            }
        }
        arena_reset(&arena);
        assert_true(arena.bytes_used <= 32768);
    }
    arena_dispose(&arena);
    assert_int_equal(arena.bytes_used, 0);
}

static void a_small_request_costs_one_chunk_that_a_reset_keeps(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 0};
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 20; i++)
            assert_non_null(arena_alloc(&arena, 100));
        assert_int_equal(arena.bytes_used, 8192);
        arena_reset(&arena);
        assert_int_equal(arena.bytes_used, 8192);
    }
    arena_dispose(&arena);
    arena_dispose(NULL);
}

/* The same request again and again: soon one chunk holds all of it. */
static void a_request_of_many_small_blocks_costs_nothing_once_it_is_known(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 0};
    for (int round = 0; round < 10; round++) {
        arena_reset(&arena);
        size_t before = arena.bytes_used;
        for (int i = 0; i < 14; i++)
            assert_non_null(arena_alloc(&arena, 1000));
        assert_true(round < 3 ? arena.bytes_used > 14000 : arena.bytes_used == before);
    }
    for (int i = 0; i < 1000; i++) /* what is large once is not kept */
        assert_non_null(arena_alloc(&arena, 1000));
    arena_reset(&arena);
    assert_true(arena.bytes_used <= 32768);
    arena_dispose(&arena);
}

static void the_limit_holds_and_small_rests_are_usable(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 20000);
    size_t got = 0;
    while (arena_alloc(&arena, 500) != NULL)
        got += 500;
    assert_true(got > 15000);
    assert_true(arena.bytes_used <= 20000);
    assert_null(arena_alloc(&arena, 30000));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_calloc(&arena, SIZE_MAX, 2));
    assert_null(arena_array(&arena, uint64_t, SIZE_MAX / 4));
    arena_reset(&arena);
    assert_non_null(arena_alloc(&arena, 10000));
    arena_dispose(&arena);
    arena_init(&arena, 1000); /* less than a chunk */
    assert_non_null(arena_alloc(&arena, 100));
    assert_null(arena_alloc(&arena, 2000));
    arena_dispose(&arena);
}

static void growing_keeps_the_bytes_wherever_the_block_lies(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 2);
    for (int round = 0; round < 200; round++) {
        struct arena arena = {.bytes_max = 0};
        size_t len = 0;
        unsigned char *block = NULL;
        while (len < 200000) {
            size_t longer = len + 1 + rng_below(&rng, 2 * len + 50);
            block = arena_grow(&arena, block, len, longer);
            assert_non_null(block);
            for (size_t i = len; i < longer; i++)
                block[i] = (unsigned char)(i * 7);
            len = longer;
            if (rng_below(&rng, 4) == 0) /* now it is not the last block */
                memset(arena_alloc(&arena, 50), 0xff, 50);
        }
        for (size_t i = 0; i < len; i++) {
            if (block[i] != (unsigned char)(i * 7))
                fail_msg("byte %zu", i);
        }
        assert_true(arena.bytes_used < 1000000); /* what was outgrown is given back */
        assert_ptr_equal(arena_grow(&arena, block, len, 10), block);
        arena_dispose(&arena);
    }
}

static void the_last_block_grows_and_shrinks_in_place(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 0};
    char *block = arena_alloc(&arena, 10);
    assert_ptr_equal(arena_grow(&arena, block, 10, 1000), block);
    assert_ptr_equal(arena_grow(&arena, block, 1000, 16), block);
    char *next = arena_alloc(&arena, 1);
    assert_ptr_equal(next, block + 16);
    assert_ptr_not_equal(arena_grow(&arena, block, 16, 64), block);
    arena_dispose(&arena);
}

static void large_blocks_can_go_early_and_small_ones_stay(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 0};
    char *small = arena_alloc(&arena, 10);
    char *large = arena_alloc(&arena, 1000000);
    char *aligned = arena_alloc_aligned(&arena, 1000000, 4096);
    size_t used = arena.bytes_used;
    arena_release_large(&arena, small);
    assert_int_equal(arena.bytes_used, used);
    arena_release_large(&arena, large);
    assert_true(arena.bytes_used < used - 900000);
    arena_release_large(&arena, aligned);
    assert_true(arena.bytes_used < 10000);
    small[9] = 1; /* still ours */
    arena_release_large(&arena, NULL);
    arena_dispose(&arena);
}

static void the_chosen_allocation_fails_and_all_after_it(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 0};
    arena.fail_at = 3;
    assert_non_null(arena_alloc(&arena, 1));
    char *block = arena_alloc(&arena, 8);
    assert_non_null(block);
    assert_null(arena_alloc(&arena, 1));
    assert_null(arena_grow(&arena, block, 8, 16));
    assert_null(arena_copy_text(&arena, "a", 1).ptr);
    assert_null(arena_format(&arena, "%d", 1).ptr);
    arena_dispose(&arena);
}

static void text_is_copied_with_a_nul_behind_it(void **state)
{
    (void)state;
    struct arena arena = {.bytes_max = 0};
    struct pdb_text a = arena_copy_text(&arena, "abc", 2), b = arena_copy_text(&arena, NULL, 0);
    struct pdb_text c = arena_format(&arena, "%s-%d", "x", 42);
    assert_string_equal(a.ptr, "ab");
    assert_int_equal(a.len, 2);
    assert_string_equal(b.ptr, "");
    assert_string_equal(c.ptr, "x-42");
    assert_int_equal(c.len, 4);
    arena_dispose(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_do_not_overlap),
        cmocka_unit_test(a_small_request_costs_one_chunk_that_a_reset_keeps),
        cmocka_unit_test(a_request_of_many_small_blocks_costs_nothing_once_it_is_known),
        cmocka_unit_test(the_limit_holds_and_small_rests_are_usable),
        cmocka_unit_test(growing_keeps_the_bytes_wherever_the_block_lies),
        cmocka_unit_test(the_last_block_grows_and_shrinks_in_place),
        cmocka_unit_test(large_blocks_can_go_early_and_small_ones_stay),
        cmocka_unit_test(the_chosen_allocation_fails_and_all_after_it),
        cmocka_unit_test(text_is_copied_with_a_nul_behind_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
