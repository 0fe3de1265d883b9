/* The budget of memory: what builds reserve, what writes may take, and who goes before whom. */
#include "engine/engine_internal.h"

#include "engine_fixture.h"

enum { MIB = 1 << 20, LIMIT = 64 * MIB };

struct lab {
    struct pdb db;
    struct engine_core core;
    struct reactor r;
    struct metrics metrics;
};

static struct lab *lab_new(void)
{
    struct lab *lab = test_calloc(1, sizeof(*lab));
    lab->db.options.memory_limit = LIMIT;
    lab->db.core_count = 1;
    lab->core.db = &lab->db;
    lab->core.r = &lab->r;
    lab->core.closing = true; /* no flush is begun when a write is refused */
    lab->core.metrics = &lab->metrics;
    return lab;
}

static bool admitted(struct lab *lab, uint64_t bytes)
{
    struct trail trail = {0};
    return memory_admit(&lab->core, bytes, &trail) == 0;
}

static void room_for_a_first_flush_is_never_given_to_writes(void **state)
{
    (void)state;
    struct lab *lab = lab_new();
    uint64_t first = memory_first_build_bytes(&lab->core);
    assert_in_range(first, MIB, LIMIT / 8);
    assert_int_equal(memory_used(&lab->core), first);
    assert_true(admitted(lab, LIMIT - first));
    assert_false(admitted(lab, LIMIT - first + 1));
    lab->r.heap.bytes_used = LIMIT - first;
    assert_true(memory_reserve_build(&lab->core, first, false));
    assert_int_equal(memory_used(&lab->core), LIMIT);
    assert_false(memory_reserve_build(&lab->core, MIB, false));
    memory_release_build(&lab->core, first);
    assert_int_equal(memory_used(&lab->core), LIMIT);
    test_free(lab);
}

static void a_second_build_needs_room_unless_it_must_be(void **state)
{
    (void)state;
    struct lab *lab = lab_new();
    lab->r.heap.bytes_used = LIMIT - 20 * MIB;
    assert_true(memory_reserve_build(&lab->core, 12 * MIB, false));
    assert_false(memory_reserve_build(&lab->core, 12 * MIB, false));
    assert_true(memory_reserve_build(&lab->core, 8 * MIB, false));
    assert_true(memory_reserve_build(&lab->core, 8 * MIB, true));
    assert_int_equal(memory_used(&lab->core), LIMIT + 8 * MIB);
    assert_false(admitted(lab, 1));
    memory_release_build(&lab->core, 28 * MIB);
    test_free(lab);
}

static void pages_of_files_end_writes_but_not_merges(void **state)
{
    (void)state;
    struct lab *lab = lab_new();
    lab->core.segment_bytes = lab->core.memory.mapped = 2 * (uint64_t)LIMIT;
    assert_false(admitted(lab, 1));
    assert_true(memory_reserve_build(&lab->core, 10 * MIB, false));
    memory_release_build(&lab->core, 10 * MIB);
    test_free(lab);
}

static void writes_leave_what_a_merge_waits_for(void **state)
{
    (void)state;
    struct lab *lab = lab_new();
    lab->r.heap.bytes_used = LIMIT - 20 * MIB;
    assert_true(admitted(lab, 4 * MIB));
    memory_want_build(&lab->core, 10 * MIB);
    assert_false(admitted(lab, 4 * MIB));
    assert_true(memory_reserve_build(&lab->core, 10 * MIB, false));
    memory_want_build(&lab->core, 0);
    assert_true(admitted(lab, 4 * MIB));
    test_free(lab);
}

static void an_index_is_made_where_a_quarter_stays_for_writes(void **state)
{
    (void)state;
    struct lab *lab = lab_new();
    uint64_t first = memory_first_build_bytes(&lab->core);
    lab->db.options.flush_bytes = 256 * (uint64_t)MIB;
    lab->r.heap.bytes_used = 10 * MIB;
    assert_false(memory_reserve_index(&lab->core, LIMIT / 4 * 3 - 10 * MIB - first + 1));
    assert_true(memory_reserve_index(&lab->core, LIMIT / 4 * 3 - 10 * MIB - first));
    assert_int_equal(memory_used(&lab->core), LIMIT / 4 * 3);
    assert_false(memory_reserve_index(&lab->core, 1));
    assert_true(admitted(lab, LIMIT / 4));
    memory_release_index(&lab->core, LIMIT / 4 * 3 - 10 * MIB - first);
    lab->core.segment_bytes = lab->core.memory.mapped = LIMIT / 4 * 3;
    assert_false(memory_reserve_index(&lab->core, 1)); /* mapped pages are writes', too */
    test_free(lab);
}

static void small_memtables_leave_more_to_indexes(void **state)
{
    (void)state;
    struct lab *lab = lab_new();
    uint64_t first = memory_first_build_bytes(&lab->core);
    lab->db.options.flush_bytes = 2 * MIB;
    assert_false(memory_reserve_index(&lab->core, LIMIT - 4 * MIB - first + 1));
    assert_true(memory_reserve_index(&lab->core, LIMIT - 4 * MIB - first));
    test_free(lab);
}

static void an_index_does_not_take_the_room_of_a_first_flush(void **state)
{
    (void)state;
    struct lab *lab = lab_new();
    uint64_t first = memory_first_build_bytes(&lab->core);
    lab->db.options.flush_bytes = 8 * MIB;
    assert_true(memory_reserve_index(&lab->core, 2 * first));
    assert_true(admitted(lab, LIMIT - 3 * first));
    assert_false(admitted(lab, LIMIT - 3 * first + 1));
    lab->r.heap.bytes_used = LIMIT - 3 * first;
    assert_true(memory_reserve_build(&lab->core, first, false));
    assert_int_equal(memory_used(&lab->core), LIMIT);
    memory_release_build(&lab->core, first);
    memory_release_index(&lab->core, 2 * first);
    assert_true(admitted(lab, 2 * first));
    test_free(lab);
}

static void an_index_is_read_up_to_the_limit_whatever_is_mapped(void **state)
{
    (void)state;
    struct lab *lab = lab_new();
    uint64_t first = memory_first_build_bytes(&lab->core);
    lab->core.segment_bytes = lab->core.memory.mapped = 2 * (uint64_t)LIMIT;
    assert_false(memory_reserve_index_load(&lab->core, LIMIT - first + 1));
    assert_true(memory_reserve_index_load(&lab->core, LIMIT - first));
    assert_false(memory_reserve_index_load(&lab->core, 1));
    memory_release_index(&lab->core, LIMIT - first);
    test_free(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(room_for_a_first_flush_is_never_given_to_writes),
        cmocka_unit_test(a_second_build_needs_room_unless_it_must_be),
        cmocka_unit_test(pages_of_files_end_writes_but_not_merges),
        cmocka_unit_test(an_index_is_made_where_a_quarter_stays_for_writes),
        cmocka_unit_test(small_memtables_leave_more_to_indexes),
        cmocka_unit_test(an_index_does_not_take_the_room_of_a_first_flush),
        cmocka_unit_test(an_index_is_read_up_to_the_limit_whatever_is_mapped),
        cmocka_unit_test(writes_leave_what_a_merge_waits_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
