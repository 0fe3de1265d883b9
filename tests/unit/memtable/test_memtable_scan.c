/* Scans, scroll pages and expiry over snapshots. */
#include "memtable_fixture.h"

enum { ROWS = 500 };

/* Ids in shuffled order, every fourth deleted, every fifth updated. */
static struct memtable *shuffled(void)
{
    struct memtable *m = memtable_of(NULL, 64);
    for (uint32_t i = 0; i < ROWS; i++)
        put_one(m, i * 269 % ROWS, 1, i * 269 % ROWS);
    for (uint32_t i = 0; i < ROWS; i += 5)
        put_one(m, i, 2, i);
    for (uint32_t i = 0; i < ROWS; i += 4)
        delete_one(m, i, 3);
    return m;
}

/* One page; returns its size. The ids go to ids_out, whose last one is `after` for the next. */
static size_t page(struct memtable_snapshot *s, const struct filter *filter, struct pdb_text after,
                   size_t limit, size_t budget, struct pdb_text *ids_out)
{
    uint64_t keys[ROWS];
    struct memtable_scroll scroll = {
        .snapshot = s, .after = after, .filter = filter, .keys = keys, .limit = limit};
    while (!memtable_scroll_step(&scroll, budget)) {
    }
    for (size_t i = 0; i < scroll.count; i++) {
        struct pdb_row row;
        memtable_snapshot_row(s, keys[i], &row, NULL);
        ids_out[i] = row.id;
    }
    return scroll.count;
}

/* All live ids, page by page. */
static void expect_all_ids(struct memtable_snapshot *s, size_t limit, size_t budget)
{
    struct pdb_text ids[ROWS], after = {0};
    uint32_t expected = 1;
    for (size_t count; (count = page(s, NULL, after, limit, budget, ids)) > 0;) {
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(id_number(ids[i]), expected);
            expected += expected % 4 == 3 ? 2 : 1;
        }
        after = ids[count - 1];
    }
    assert_int_equal(expected, ROWS + 1);
}

static void scroll_pages_joined_are_all_ids_in_order(void **state)
{
    (void)state;
    static const size_t limits[] = {1, 7, 100, ROWS};
    struct memtable *m = shuffled();
    struct memtable_snapshot *s = snapshot_of(m, 3, 0);
    for (size_t l = 0; l < 4; l++) {
        for (size_t budget = 1; budget <= 1000; budget *= 10)
            expect_all_ids(s, limits[l], budget);
    }
    struct pdb_text none[1];
    assert_int_equal(page(s, NULL, (struct pdb_text){0}, 0, 10, none), 0);
    assert_int_equal(page(s, NULL, TEXT_LIT("z"), 1, 10, none), 0);
    memtable_snapshot_release(s);
    memtable_free(m);
}

static struct pdb_text number_document(struct arena *arena, const char *key, uint32_t value)
{
    struct pdb_text bytes = {0};
    struct doc_builder *b = doc_builder_new(arena, 0);
    doc_begin_object(b);
    doc_add_key(b, text_of(key));
    doc_add_int(b, value);
    doc_end(b);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), 0);
    return bytes;
}

static void scans_and_scrolls_apply_the_filter(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct memtable *m = memtable_of(NULL, 16);
    for (uint32_t i = 0; i < 200; i++) {
        struct made_row made;
        make_row(&made, i, 1, i);
        made.row.metadata = number_document(&arena, "group", i % 10);
        assert_int_equal(memtable_prepare(m, 1, text_bytes(&made)), 0);
        memtable_commit(m, &made.row);
    }
    struct filter *filter = NULL;
    struct pdb_text document = number_document(&arena, "group", 3), ids[ROWS];
    assert_int_equal(filter_compile(&arena, document, NULL, NULL, &filter), 0);
    struct memtable_snapshot *s = snapshot_of(m, 1, 0);
    assert_int_equal(count_rows(s, filter), 20);
    assert_int_equal(count_rows(s, NULL), 200);
    assert_int_equal(page(s, filter, (struct pdb_text){0}, 6, 11, ids), 6);
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(id_number(ids[i]), 3 + 10 * i);
    memtable_snapshot_release(s);
    memtable_free(m);
    arena_dispose(&arena);
}

static int stop_at_third(void *arg, uint64_t key)
{
    (void)key;
    return ++*(size_t *)arg % 3 == 0;
}

static void a_visitor_stops_a_scan_and_the_next_step_goes_on_behind_it(void **state)
{
    (void)state;
    struct memtable *m = memtable_of(NULL, 4);
    for (uint32_t i = 0; i < 10; i++)
        put_one(m, i, 1, i);
    struct memtable_snapshot *s = snapshot_of(m, 1, 0);
    struct memtable_cursor cursor = {0};
    size_t seen = 0;
    for (size_t stops = 1; stops <= 3; stops++) {
        assert_false(memtable_scan_step(s, &cursor, NULL, 1000, stop_at_third, &seen));
        assert_int_equal(seen, 3 * stops);
    }
    assert_true(memtable_scan_step(s, &cursor, NULL, 1000, stop_at_third, &seen));
    assert_int_equal(seen, 10);
    assert_true(memtable_scan_step(s, &cursor, NULL, 1000, stop_at_third, &seen));
    assert_int_equal(seen, 10);
    memtable_snapshot_release(s);
    memtable_free(m);
}

static void expired_rows_are_hidden_at_once_and_collected_later(void **state)
{
    (void)state;
    struct memtable *m = memtable_of(NULL, 0);
    for (uint32_t i = 0; i < 100; i++) {
        struct made_row made;
        make_row(&made, i, 1, i);
        made.row.expires_at_us = i < 60 ? 1000 : 0;
        assert_int_equal(memtable_prepare(m, 1, text_bytes(&made)), 0);
        memtable_commit(m, &made.row);
    }
    struct memtable_snapshot *before = snapshot_of(m, 1, 999), *after = snapshot_of(m, 1, 1000);
    assert_int_equal(count_rows(before, NULL), 100);
    assert_int_equal(count_rows(after, NULL), 40);
    assert_int_equal(live_rows(m), 100);
    while (memtable_collect(m, 1, 999, 10)) {
    }
    assert_int_equal(live_rows(m), 100);
    while (memtable_collect(m, 0, 1000, 10)) { /* version 1 may not be visible yet */
    }
    assert_int_equal(live_rows(m), 100);
    while (memtable_collect(m, 1, 1000, 10)) {
    }
    assert_int_equal(live_rows(m), 40);
    assert_false(get_one(m, 5, 1, NULL, NULL));
    assert_int_equal(count_rows(before, NULL), 100);
    assert_int_equal(count_rows(after, NULL), 40);
    memtable_snapshot_release(before);
    memtable_snapshot_release(after);
    assert_sound(m);
    memtable_free(m);
}

static void a_memtable_of_dead_rows_collects_to_nothing(void **state)
{
    (void)state;
    struct heap heap = {0};
    struct memtable *m = memtable_of(&heap, 0);
    struct memtable_stats stats;
    for (uint32_t i = 0; i < 2000; i++)
        put_one(m, i, 1, i);
    for (uint32_t i = 0; i < 2000; i++)
        delete_one(m, i, 2);
    assert_int_equal(memtable_prepare(m, 0, 0), 0);
    while (memtable_collect(m, 1, 0, 100)) { /* somebody still reads version 1 */
    }
    assert_true(get_one(m, 77, 1, NULL, NULL));
    size_t before = heap.bytes_used;
    while (memtable_collect(m, 2, 0, 100)) {
    }
    memtable_stats(m, &stats);
    assert_int_equal(stats.rows_total, 0);
    assert_int_equal(stats.chunks, 0);
    assert_true(heap.bytes_used < before / 2);
    put_one(m, 77, 3, 78);
    assert_true(get_one(m, 77, 3, NULL, NULL));
    assert_sound(m);
    memtable_free(m);
    assert_int_equal(heap.bytes_used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scroll_pages_joined_are_all_ids_in_order),
        cmocka_unit_test(scans_and_scrolls_apply_the_filter),
        cmocka_unit_test(a_visitor_stops_a_scan_and_the_next_step_goes_on_behind_it),
        cmocka_unit_test(expired_rows_are_hidden_at_once_and_collected_later),
        cmocka_unit_test(a_memtable_of_dead_rows_collects_to_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
