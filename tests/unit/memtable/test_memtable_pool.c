/* The pool of chunks: what one memtable leaves the next one takes, up to a limit and not for ever;
 * and a memtable that is freed in steps. */
#include "memtable/memtable_internal.h"
#include "memtable_fixture.h"

static void a_pool_keeps_what_fits_and_gives_it_back_first(void **state)
{
    (void)state;
    struct heap heap = {0};
    struct memtable_pool pool;
    void *blocks[3];
    memtable_pool_init(&pool, &heap);
    memtable_pool_limit(&pool, 2 * MEMTABLE_CHUNK_BYTES + 1);
    for (size_t i = 0; i < 3; i++) {
        blocks[i] = memtable_pool_take(&pool, &heap);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % MEMTABLE_ALIGNMENT, 0);
    }
    for (size_t i = 0; i < 3; i++)
        memtable_pool_give(&pool, &heap, blocks[i]);
    assert_int_equal(pool.count, 2);
    assert_true(heap.bytes_used >= 2 * (size_t)MEMTABLE_CHUNK_BYTES);
    uint64_t allocations = heap.allocation_count;
    void *again = memtable_pool_take(&pool, &heap);
    assert_ptr_equal(again, blocks[1]);
    assert_int_equal(heap.allocation_count, allocations);
    memtable_pool_give(&pool, &heap, again);
    memtable_pool_dispose(&pool);
    assert_int_equal(heap.bytes_used, 0);
}

static void a_pool_forgets_what_nobody_needs(void **state)
{
    (void)state;
    struct heap heap = {0};
    struct memtable_pool pool;
    void *blocks[8];
    memtable_pool_init(&pool, &heap);
    memtable_pool_limit(&pool, (size_t)8 * MEMTABLE_CHUNK_BYTES);
    for (size_t i = 0; i < 8; i++)
        blocks[i] = memtable_pool_take(&pool, &heap);
    for (size_t i = 0; i < 8; i++)
        memtable_pool_give(&pool, &heap, blocks[i]);
    assert_int_equal(memtable_pool_age(&pool), 0); /* they have just come */
    size_t due = memtable_pool_age(&pool), rounds = 0;
    assert_in_range(due, 1, 7);
    for (; pool.count != 0 && rounds < 100; rounds++, due = memtable_pool_age(&pool))
        for (size_t i = 0; i < due; i++)
            memtable_pool_drop(&pool);
    assert_int_equal(heap.bytes_used, 0);
    memtable_pool_drop(&pool); /* none is left */
    memtable_pool_give(&pool, &heap, memtable_pool_take(&pool, &heap));
    memtable_pool_limit(&pool, 0);
    assert_int_equal(memtable_pool_age(&pool), 1); /* beyond the limit: at once */
    memtable_pool_dispose(&pool);
}

static struct memtable *filled(struct heap *heap, struct memtable_pool *pool)
{
    enum { ROWS = 200000, BATCH = 1000 };
    struct memtable *m = NULL;
    struct memtable_options options = {
        .heap = heap, .pool = pool, .fields = fixture_fields, .field_count = 2};
    assert_int_equal(memtable_new(&options, &m), 0);
    for (uint32_t i = 0; i < ROWS; i++) {
        struct made_row made;
        make_row(&made, i, i / BATCH + 1, i);
        if (i % BATCH == 0)
            assert_int_equal(memtable_prepare(m, BATCH, (size_t)BATCH * 32), 0);
        memtable_commit(m, &made.row);
    }
    return m;
}

static void a_memtable_that_goes_in_steps_leaves_its_chunks_to_the_next(void **state)
{
    (void)state;
    struct heap heap = {0};
    struct memtable_pool pool;
    memtable_pool_init(&pool, &heap);
    memtable_pool_limit(&pool, SIZE_MAX);
    struct memtable *m = filled(&heap, &pool);
    struct memtable_stats stats;
    memtable_stats(m, &stats);
    size_t steps = 1;
    while (!memtable_free_step(m))
        steps++;
    assert_int_equal(steps, stats.chunks + 1);
    assert_int_equal(heap.bytes_used >= pool.count * MEMTABLE_CHUNK_BYTES, 1);
    assert_true(MEMTABLE_CHUNK_ROWS_STRESS != 0 || pool.count >= 3);
    size_t kept = pool.count;
    m = filled(&heap, &pool);
    assert_int_equal(pool.count, 0);
    memtable_free(m);
    assert_int_equal(pool.count, kept);
    memtable_pool_dispose(&pool);
    assert_int_equal(heap.bytes_used, 0);
}

static void put_ids(struct memtable *m, uint32_t from, uint32_t to)
{
    assert_int_equal(memtable_prepare(m, to - from, (size_t)(to - from) * 32), 0);
    for (uint32_t i = from; i < to; i++) {
        struct made_row made;
        make_row(&made, i, i + 1, i);
        memtable_commit(m, &made.row);
    }
}

/* Slots of the id map, as the fixture's memtables have them. */
static size_t slots_of(const struct memtable *m)
{
    return m->ids.now.slot_count;
}

static void a_memtable_takes_room_for_the_ids_of_the_one_before_once_it_has_some(void **state)
{
    (void)state;
    enum { IDS = 32768 };
    struct heap heap = {0};
    struct memtable *before = memtable_of(&heap, 0), *m = memtable_of(&heap, 0);
    put_ids(before, 0, IDS);
    memtable_expect(m, before);
    memtable_free(before);
    put_ids(m, 0, IDS / 16 - 1);
    assert_true(slots_of(m) < IDS / 2);
    put_ids(m, IDS / 16 - 1, IDS / 16);
    put_ids(m, IDS / 16, IDS / 16 + 1);
    assert_true(slots_of(m) > IDS);
    size_t slots = slots_of(m);
    put_ids(m, IDS / 16 + 1, IDS);
    assert_int_equal(slots_of(m), slots);
    memtable_free(m);
    m = memtable_of(&heap, 0);
    before = memtable_of(&heap, 0);
    memtable_expect(m, before); /* which had none */
    put_ids(m, 0, 10);
    memtable_free(before);
    memtable_free(m);
    assert_int_equal(heap.bytes_used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_keeps_what_fits_and_gives_it_back_first),
        cmocka_unit_test(a_pool_forgets_what_nobody_needs),
        cmocka_unit_test(a_memtable_that_goes_in_steps_leaves_its_chunks_to_the_next),
        cmocka_unit_test(a_memtable_takes_room_for_the_ids_of_the_one_before_once_it_has_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
