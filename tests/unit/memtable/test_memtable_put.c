/* Versions, deletes, reservations, and every allocation failing in turn. */
#include "memtable_fixture.h"

enum { ROWS = 60 };

static void a_read_sees_the_newest_row_at_its_version(void **state)
{
    (void)state;
    struct memtable *m = memtable_of(NULL, 0);
    struct pdb_row row;
    uint64_t version = 99;
    assert_false(get_one(m, 1, UINT64_MAX, &row, &version));
    assert_int_equal(version, 0);
    put_one(m, 1, 3, 30);
    put_one(m, 1, 5, 50);
    delete_one(m, 1, 7);
    put_one(m, 1, 9, 90);
    static const struct {
        uint64_t at, version;
        uint32_t payload; /* 0: none */
    } rows[] = {{2, 0, 0}, {3, 3, 30}, {4, 3, 30}, {5, 5, 50},         {6, 5, 50},
                {7, 7, 0}, {8, 7, 0},  {9, 9, 90}, {UINT64_MAX, 9, 90}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(get_one(m, 1, rows[i].at, &row, &version), rows[i].payload != 0);
        assert_int_equal(version, rows[i].version);
        if (rows[i].payload != 0)
            assert_row(&row, rows[i].payload);
        assert_int_equal(get_one(m, 1, rows[i].at, NULL, NULL), rows[i].payload != 0);
    }
    assert_int_equal(live_rows(m), 1);
    assert_sound(m);
    memtable_free(m);
}

static void of_two_rows_with_one_version_the_later_counts(void **state)
{
    (void)state;
    struct memtable *m = memtable_of(NULL, 0);
    struct pdb_row row;
    put_one(m, 1, 3, 30);
    put_one(m, 1, 3, 31);
    put_one(m, 2, 3, 40);
    delete_one(m, 2, 3);
    assert_true(get_one(m, 1, 3, &row, NULL));
    assert_row(&row, 31);
    assert_false(get_one(m, 2, 3, &row, NULL));
    struct memtable_snapshot *s = snapshot_of(m, 3, 0);
    assert_int_equal(count_rows(s, NULL), 1);
    memtable_snapshot_release(s);
    assert_int_equal(live_rows(m), 1);
    assert_sound(m);
    memtable_free(m);
}

static void a_snapshot_of_the_newest_does_not_see_later_writes(void **state)
{
    (void)state;
    struct memtable *m = memtable_of(NULL, 0);
    put_one(m, 1, 3, 30);
    put_one(m, 2, 3, 40);
    struct memtable_snapshot *s = snapshot_of(m, UINT64_MAX, 0);
    put_one(m, 1, 4, 31);
    delete_one(m, 2, 5);
    assert_int_equal(count_rows(s, NULL), 2);
    memtable_snapshot_release(s);
    memtable_free(m);
}

static void deletes_take_no_rows_and_unknown_ids_are_no_error(void **state)
{
    (void)state;
    struct memtable *m = memtable_of(NULL, 0);
    struct memtable_stats before, after;
    uint64_t version = 0;
    put_one(m, 1, 1, 1);
    memtable_stats(m, &before);
    delete_one(m, 2, 2);
    delete_one(m, 1, 3);
    delete_one(m, 1, 4); /* the first delete stands */
    memtable_stats(m, &after);
    assert_int_equal(after.rows_total, before.rows_total);
    assert_int_equal(after.rows_live, 0);
    assert_false(get_one(m, 1, 9, NULL, &version));
    assert_int_equal(version, 3);
    assert_false(get_one(m, 2, 9, NULL, &version));
    assert_int_equal(version, 0);
    assert_sound(m);
    memtable_free(m);
}

static void rows_without_fields_or_metadata_are_rows(void **state)
{
    (void)state;
    struct memtable *m = NULL;
    struct memtable_options options = {0};
    struct pdb_row in = {.id = TEXT_LIT("x"), .version = 1}, out;
    assert_int_equal(memtable_new(&options, &m), 0);
    assert_int_equal(memtable_prepare(m, 1, 1), 0);
    memtable_commit(m, &in);
    assert_true(memtable_get(m, in.id, 1, &out, NULL));
    assert_int_equal(out.metadata.len, 0);
    assert_true(text_equal(out.id, in.id));
    assert_sound(m);
    memtable_free(m);
    memtable_free(NULL);
}

static void one_reservation_covers_rows_of_any_sizes(void **state)
{
    (void)state;
    static char text[20000];
    struct memtable *m = memtable_of(NULL, 0);
    struct rng rng;
    rng_seed(&rng, 5);
    for (uint64_t version = 1; version < 60; version++) {
        struct made_row rows[40];
        size_t count = 1 + rng_below(&rng, 40), bytes = 0;
        for (size_t i = 0; i < count; i++) {
            make_row(&rows[i], (uint32_t)(version * 100 + i), version, 3);
            rows[i].row.metadata =
                (struct pdb_text){text, rng_below(&rng, 2) ? rng_below(&rng, 20000) : 5};
            bytes += text_bytes(&rows[i]);
        }
        assert_int_equal(memtable_prepare(m, count, bytes), 0);
        for (size_t i = 0; i < count; i++)
            memtable_commit(m, &rows[i].row);
        assert_sound(m);
    }
    memtable_free(m);
}

static void a_small_memtable_is_small_and_a_large_one_has_few_chunks(void **state)
{
    (void)state;
    struct heap heap = {0};
    struct memtable *m = memtable_of(&heap, 0);
    struct memtable_stats stats;
    put_one(m, 0, 1, 1);
    assert_true(heap.bytes_used < 12288);
    for (uint32_t i = 1; i < 5000; i++)
        put_one(m, i, 1, i);
    memtable_stats(m, &stats);
#ifndef PDB_STRESS
    assert_true(stats.chunks <= 12);
    assert_in_range(stats.bytes, heap.bytes_used * 95 / 100, heap.bytes_used);
#endif
    memtable_free(m);
    assert_int_equal(heap.bytes_used, 0);
}

static void a_reservation_that_is_given_up_is_given_back(void **state)
{
    (void)state;
    struct heap heap = {0};
    struct memtable *m = memtable_of(&heap, 0);
    put_one(m, 0, 1, 1);
    size_t before = heap.bytes_used;
    assert_int_equal(memtable_prepare(m, 100000, 4 << 20), 0);
    assert_true(heap.bytes_used > before + ((size_t)8 << 20));
    assert_int_equal(memtable_prepare(m, 0, 0), 0);
    assert_true(heap.bytes_used < before + ((size_t)5 << 20)); /* the id map keeps its size */
    heap.bytes_max = heap.bytes_used + ((size_t)1 << 20);
    before = heap.bytes_used;
    assert_int_equal(memtable_prepare(m, 20000, 4 << 20), PDB_RESOURCE_EXHAUSTED);
    assert_in_range(heap.bytes_used, before, before + 4096);
    assert_sound(m);
    put_one(m, 0, 2, 2);
    memtable_free(m);
    assert_int_equal(heap.bytes_used, 0);
}

static void collection_and_reads_leave_a_reservation_whole(void **state)
{
    (void)state;
    struct memtable *m = memtable_of(NULL, 8);
    for (uint32_t round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < 20; i++)
            put_one(m, i, 1 + round, round * 100 + i);
    }
    struct made_row rows[50];
    size_t bytes = 0;
    for (uint32_t i = 0; i < 50; i++) {
        make_row(&rows[i], i, 10, 1000 + i);
        bytes += text_bytes(&rows[i]);
    }
    assert_int_equal(memtable_prepare(m, 50, bytes), 0);
    for (uint32_t i = 0; i < 50; i++) {
        (void)memtable_collect(m, 4, 0, 3);
        assert_sound(m);
        memtable_commit(m, &rows[i].row);
    }
    for (uint32_t i = 0; i < 50; i++) {
        struct pdb_row row;
        assert_true(get_one(m, i, 10, &row, NULL));
        assert_row(&row, 1000 + i);
        assert_int_equal(get_one(m, i, 4, &row, NULL), i < 20);
        if (i < 20)
            assert_row(&row, 300 + i);
    }
    memtable_free(m);
}

struct newest {
    size_t rows, deleted;
};

static void count_newest(void *arg, const struct pdb_row *row)
{
    struct newest *newest = arg;
    newest->rows += !row->deleted;
    newest->deleted += row->deleted;
    assert_int_equal(row->version, row->deleted ? 2 : 1);
    if (!row->deleted)
        assert_row(row, 7 + id_number(row->id));
}

static void each_newest_shows_every_id_once(void **state)
{
    (void)state;
    struct memtable *m = memtable_of(NULL, 0);
    struct newest newest = {0};
    for (uint32_t i = 0; i < 30; i++)
        put_one(m, i, 1, 7 + i);
    for (uint32_t i = 0; i < 10; i++)
        delete_one(m, i, 2);
    memtable_each_newest(m, count_newest, &newest);
    assert_int_equal(newest.rows, 20);
    assert_int_equal(newest.deleted, 10);
    memtable_free(m);
}

/* ---- failing allocations ---- */

/* A life of a memtable in which every call that fails is made again once memory is back. */
static uint64_t live_with_failure_at(uint64_t fail_at)
{
    struct heap heap = {.fail_at = fail_at};
    struct memtable *m = memtable_of(&heap, 8);
    struct memtable_snapshot *old = NULL;
    uint64_t failures = 0;
    if (m == NULL) {
        failures++;
        assert_int_equal(heap.bytes_used, 0);
        heap.fail_at = 0;
        m = memtable_of(&heap, 8);
    }
    for (uint32_t i = 0; i < 3 * ROWS; i++) {
        struct made_row made;
        make_row(&made, i % ROWS, 1 + i / ROWS, i);
        for (int rc = -1; rc < 0;) {
            rc = memtable_prepare(m, 1, text_bytes(&made));
            assert_sound(m);
            failures += rc < 0;
            heap.fail_at = rc < 0 ? 0 : heap.fail_at;
        }
        memtable_commit(m, &made.row);
        if (i == 2 * ROWS - 1) {
            while (memtable_snapshot(m, 2, 0, &old) < 0) {
                failures++;
                heap.fail_at = 0;
            }
        }
        if (i >= ROWS && i % 10 == 0) {
            (void)memtable_collect(m, i / ROWS, 0, 25);
            assert_sound(m);
            failures += heap.fail_at != 0 && heap.allocation_count >= heap.fail_at;
            if (heap.allocation_count >= heap.fail_at)
                heap.fail_at = 0;
        }
    }
    heap.fail_at = 0;
    while (memtable_collect(m, 3, 0, 10)) {
    }
    struct pdb_row row;
    for (uint32_t i = 0; i < ROWS; i++) {
        assert_true(get_one(m, i, 3, &row, NULL));
        assert_row(&row, 2 * ROWS + i);
    }
    assert_int_equal(live_rows(m), ROWS);
    assert_int_equal(count_rows(old, NULL), ROWS);
    memtable_snapshot_release(old);
    assert_sound(m);
    memtable_free(m);
    assert_int_equal(heap.bytes_used, 0);
    return failures;
}

static void every_failing_allocation_leaves_a_sound_memtable(void **state)
{
    (void)state;
    uint64_t n = 1;
    while (live_with_failure_at(n) > 0)
        n++;
    assert_true(n > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_sees_the_newest_row_at_its_version),
        cmocka_unit_test(of_two_rows_with_one_version_the_later_counts),
        cmocka_unit_test(a_snapshot_of_the_newest_does_not_see_later_writes),
        cmocka_unit_test(deletes_take_no_rows_and_unknown_ids_are_no_error),
        cmocka_unit_test(rows_without_fields_or_metadata_are_rows),
        cmocka_unit_test(one_reservation_covers_rows_of_any_sizes),
        cmocka_unit_test(a_small_memtable_is_small_and_a_large_one_has_few_chunks),
        cmocka_unit_test(a_reservation_that_is_given_up_is_given_back),
        cmocka_unit_test(collection_and_reads_leave_a_reservation_whole),
        cmocka_unit_test(each_newest_shows_every_id_once),
        cmocka_unit_test(every_failing_allocation_leaves_a_sound_memtable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
