/* src/wal/wal_truncate.c, wal_ledger.c and what wal_roll.c, wal_scan.c and wal_recover.c do for
 * them: forgetting, on the simulated disk. What harms it: test_wal_truncate_harm.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "metrics/metrics.h"
#include "truncate_lab.h"

/* ---- what goes and what stays ---- */

static void what_is_not_released_stays(void **state)
{
    (void)state;
    struct lab lab;
    open_and_fill(&lab, 1, 6);
    uint64_t last = lab.op_count, bytes = stats_of(&lab).live_bytes;
    assert_int_equal(bytes, 6 << 20);
    for (uint64_t i = 1; i < COLLECTIONS; i++) /* all but one */
        release(&lab, i, UINT64_MAX);
    lab_run_ms(&lab, 10000);
    assert_int_equal(stats_of(&lab).live_bytes, bytes);
    lab_crash(&lab);
    holds_exactly(&lab, 1, last);
    lab_dispose(&lab);
}

static void released_segments_go_and_the_rest_survives_a_crash(void **state)
{
    (void)state;
    struct lab lab;
    open_and_fill(&lab, 2, 6);
    uint64_t last = lab.op_count, keep = first_version_in(&lab, 4);
    release_all(&lab, keep - 1);
    lab_run_ms(&lab, 300);
    assert_false(exists(&lab, LIVE_NAME, 1));
    assert_false(exists(&lab, LIVE_NAME, 3));
    assert_true(exists(&lab, LIVE_NAME, 4));
    struct wal_stats stats = stats_of(&lab);
    assert_int_equal(stats.live_bytes, 3 << 20);
    assert_int_equal(stats.segments_live, 3 + stats.segments_ready);
    assert_int_equal(stats.truncated_lsn, keep - 1);
    assert_false(wal_poisoned(lab.wal));
    lab_crash(&lab);
    holds_exactly(&lab, keep, last);
    /* And once more, by the life after it. */
    assert_int_equal(lab_open(&lab), 0);
    release_all(&lab, keep);
    fill_to(&lab, 9);
    uint64_t keep_later = first_version_in(&lab, 8);
    last = lab.op_count;
    release_all(&lab, keep_later - 1);
    lab_run_ms(&lab, 300);
    assert_false(exists(&lab, LIVE_NAME, 7));
    lab_crash(&lab);
    holds_exactly(&lab, keep_later, last);
    lab_dispose(&lab);
}

static void a_partly_released_segment_holds_all_behind_it(void **state)
{
    (void)state;
    struct lab lab;
    struct uuid holder;
    uint64_t version = 0;
    open_and_fill(&lab, 3, 5);
    uint64_t last = lab.op_count;
    for (uint64_t i = 0; i < COLLECTIONS; i++)
        if (i != 3)
            release(&lab, i, UINT64_MAX);
    assert_true(wal_holder(lab.wal, &holder, &version));
    struct uuid expected = lab_collection(3);
    assert_true(uuid_equal(&holder, &expected));
    assert_true(version % COLLECTIONS == 3 && version < first_version_in(&lab, 2));
    release(&lab, 3, version - 1); /* not enough */
    lab_run_ms(&lab, 300);
    assert_true(exists(&lab, LIVE_NAME, 1));
    release(&lab, 3, version);
    lab_run_ms(&lab, 300);
    assert_false(exists(&lab, LIVE_NAME, 1));
    assert_true(exists(&lab, LIVE_NAME, 2));
    uint64_t next = 0;
    assert_true(wal_holder(lab.wal, &holder, &next));
    assert_true(next > version);
    uint64_t first = first_version_in(&lab, 2);
    lab_crash(&lab);
    holds_exactly(&lab, first, last);
    lab_dispose(&lab);
}

static void count_collection(void *arg, const struct uuid *collection, uint64_t version)
{
    uint64_t *versions = arg;
    for (uint64_t i = 0; i < COLLECTIONS; i++) {
        struct uuid uuid = lab_collection(i);
        if (uuid_equal(&uuid, collection))
            versions[i] = version;
    }
}

static void a_start_knows_who_needs_what(void **state)
{
    (void)state;
    struct lab lab;
    uint64_t versions[COLLECTIONS] = {0}, again[COLLECTIONS] = {0};
    open_and_fill(&lab, 4, 4);
    release(&lab, 2, UINT64_MAX);
    wal_collections(lab.wal, count_collection, versions);
    assert_int_equal(versions[2], 0);
    assert_int_equal(versions[1] % COLLECTIONS, 1);
    lab_crash(&lab);
    assert_int_equal(lab_open(&lab), 0);
    wal_collections(lab.wal, count_collection, again);
    assert_int_equal(again[1], versions[1]);
    assert_int_equal(again[2] % COLLECTIONS, 2); /* the log itself has not forgotten it */
    release_all(&lab, UINT64_MAX);
    memset(again, 0, sizeof(again));
    wal_collections(lab.wal, count_collection, again);
    for (uint64_t i = 0; i < COLLECTIONS; i++)
        assert_int_equal(again[i], 0);
    struct uuid holder;
    uint64_t version;
    assert_false(wal_holder(lab.wal, &holder, &version));
    lab_run_ms(&lab, 300);
    assert_int_equal(stats_of(&lab).live_bytes, 1 << 20);
    lab_dispose(&lab);
}

static void what_is_held_stays_until_it_is_let_go(void **state)
{
    (void)state;
    struct lab lab;
    open_and_fill(&lab, 5, 5);
    wal_hold_from(lab.wal, 3);
    release_all(&lab, UINT64_MAX);
    lab_run_ms(&lab, 5000);
    assert_false(exists(&lab, LIVE_NAME, 2));
    assert_true(exists(&lab, LIVE_NAME, 3));
    assert_int_equal(stats_of(&lab).live_bytes, 3 << 20);
    wal_hold_from(lab.wal, 4);
    lab_run_ms(&lab, 300);
    assert_false(exists(&lab, LIVE_NAME, 3));
    assert_true(exists(&lab, LIVE_NAME, 4));
    wal_hold_from(lab.wal, UINT64_MAX);
    lab_run_ms(&lab, 300);
    assert_int_equal(stats_of(&lab).live_bytes, 1 << 20);
    lab_dispose(&lab);
}

static void an_idle_log_shrinks_to_one_fresh_segment_and_rests(void **state)
{
    (void)state;
    struct lab lab;
    struct wal_scan_stats scanned;
    open_and_fill(&lab, 6, 4);
    release_all(&lab, UINT64_MAX);
    lab_run_ms(&lab, 1000);
    struct wal_stats stats = stats_of(&lab);
    assert_int_equal(stats.live_bytes, 1 << 20);
    assert_int_equal(stats.segments_live, 3);
    assert_int_equal(lab.wal->current->seq, 5);
    assert_true(exists(&lab, LIVE_NAME, 5));
    assert_false(exists(&lab, LIVE_NAME, 4));
    uint64_t groups = stats.groups, ops = sim_disk_op_count(lab.disk);
    lab_run_ms(&lab, 60000);
    assert_int_equal(stats_of(&lab).groups, groups);
    assert_int_equal(sim_disk_op_count(lab.disk), ops);
    lab_crash(&lab);
    assert_int_equal(lab_count(&lab, ROWS, FLOATS, &scanned), 0);
    assert_int_equal(scanned.leftovers, 0);
    /* Numbers go on where they were: a version or an lsn is not given twice. */
    assert_int_equal(lab_open(&lab), 0);
    uint64_t last = lab.op_count;
    struct lab_op *op = lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS);
    lab_wait(&lab, op);
    assert_int_equal(op->op.lsn, last + 1);
    lab_crash(&lab);
    holds_exactly(&lab, last + 1, last + 1);
    lab_dispose(&lab);
}

static void a_log_in_use_is_not_left_for_being_released(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 7);
    assert_int_equal(lab_open(&lab), 0);
    for (int i = 0; i < 200; i++) { /* a flush after each small write, never idle for long */
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
        release_all(&lab, UINT64_MAX);
        lab_run_ms(&lab, 20);
    }
    assert_int_equal(lab.wal->current->seq, 1);
    lab_dispose(&lab);
}

/* ---- files ---- */

static void freed_files_are_used_again_and_the_rest_removed(void **state)
{
    (void)state;
    struct lab lab;
    open_and_fill(&lab, 8, 7);
    release_all(&lab, first_version_in(&lab, 7) - 1);
    lab_run_ms(&lab, 300);
    assert_int_equal(stats_of(&lab).segments_removed, 4);
    assert_true(exists(&lab, FREE_NAME, 1));
    assert_true(exists(&lab, FREE_NAME, 2));
    assert_false(exists(&lab, FREE_NAME, 3));
    uint64_t first = first_version_in(&lab, 7);
    fill_to(&lab, 12);
    lab_run_ms(&lab, 300);
    assert_int_equal(stats_of(&lab).segments_recycled, 2);
    assert_false(exists(&lab, FREE_NAME, 1));
    assert_false(exists(&lab, FREE_NAME, 2));
    uint64_t last = lab.op_count;
    lab_crash(&lab);
    holds_exactly(&lab, first, last); /* with the bytes of earlier lives between and behind them */
    lab_dispose(&lab);
}

static void a_recycled_file_costs_no_allocation(void **state)
{
    (void)state;
    struct lab lab;
    open_and_fill(&lab, 9, 4);
    release_all(&lab, first_version_in(&lab, 4) - 1);
    lab_run_ms(&lab, 300);
    assert_int_equal(lab.wal->free_count, 2);
    /* Not a byte more than there is now: two in the making out of what is free. */
    struct sim_faults faults = {.bytes_max = 1};
    sim_disk_set_faults(lab.disk, &faults);
    fill_to(&lab, 7);
    assert_int_equal(stats_of(&lab).segments_recycled, 2);
    lab_dispose(&lab);
}

static void a_segment_of_another_size_is_removed_not_recycled(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 10);
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
    lab_run_ms(&lab, 300);
    assert_int_equal(lab.wal->ready_count, 2); /* these are passed over and cut */
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 64, 10000)); /* 2.5 MB */
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
    lab_run_ms(&lab, 300);
    wal_roll_now(lab.wal);
    release_all(&lab, UINT64_MAX);
    lab_run_ms(&lab, 1000);
    assert_int_equal(stats_of(&lab).live_bytes, 1 << 20);
    assert_true(stats_of(&lab).segments_removed >= 3);
    assert_true(lab.wal->free_count > 0);
    for (uint32_t i = 0; i < lab.wal->free_count; i++) {
        char path[WAL_PATH_MAX];
        size_t len = 0;
        assert_int_equal(wal_free_path("wal/0", lab.wal->free_seqs[i], path), 0);
        assert_non_null(sim_disk_bytes(lab.disk, path, &len));
        assert_int_equal(len, 1 << 20);
    }
    lab_dispose(&lab);
}

static void segments_made_ahead_of_used_files_get_a_new_uuid_at_a_start(void **state)
{
    (void)state;
    struct lab lab;
    open_and_fill(&lab, 11, 5);
    release_all(&lab, first_version_in(&lab, 5) - 1);
    lab_run_ms(&lab, 300);
    fill_to(&lab, 7); /* 6 and 7 were made before; 8 and 9 are recycled */
    lab_run_ms(&lab, 300);
    uint64_t first = first_version_in(&lab, 1), last = lab.op_count;
    char path[WAL_PATH_MAX];
    struct wal_segment_header before, after;
    size_t len = 0;
    /* 8 is where a write of the killed process may still be under way to: it is cut. */
    assert_int_equal(wal_segment_path("wal/0", 9, path), 0);
    const uint8_t *bytes = sim_disk_bytes(lab.disk, path, &len);
    assert_int_equal(wal_segment_header_get(bytes, len, &before), WAL_VALID);
    assert_int_equal(before.flags, WAL_SEGMENT_RECYCLED);
    lab_crash(&lab);
    assert_int_equal(lab_open(&lab), 0);
    lab_run_ms(&lab, 300);
    bytes = sim_disk_bytes(lab.disk, path, &len);
    assert_int_equal(wal_segment_header_get(bytes, len, &after), WAL_VALID);
    assert_memory_not_equal(&before.segment, &after.segment, sizeof(before.segment));
    assert_non_null(sim_disk_bytes(lab.disk, "wal/0/0000000000000008.wal", &len));
    assert_int_equal(len, WAL_SEGMENT_HEADER_BYTES);
    lab_crash(&lab);
    holds_exactly(&lab, first, last);
    lab_dispose(&lab);
}

/* ---- leaving a segment ---- */

struct closed_list {
    uint64_t seqs[64];
    size_t count;
    struct lab *lab;
};

static void note_closed(void *arg, uint64_t seq, const char *path)
{
    struct closed_list *list = arg;
    char expected[WAL_PATH_MAX];
    assert_int_equal(wal_segment_path("wal/0", seq, expected), 0);
    assert_string_equal(path, expected);
    list->seqs[list->count++] = seq;
}

static void a_closed_segment_is_told_and_durable(void **state)
{
    (void)state;
    struct lab lab;
    struct closed_list list = {.lab = &lab};
    lab_init(&lab, 12);
    lab.options.closed = note_closed;
    lab.options.arg = &list;
    lab.options.poisoned = NULL;
    assert_int_equal(lab_open(&lab), 0);
    wal_roll_now(lab.wal); /* there is nothing in it */
    lab_run_ms(&lab, 300);
    assert_int_equal(list.count, 0);
    lab_append(&lab, PDB_SYNC_NEVER, ROWS, FLOATS);
    lab_append(&lab, PDB_SYNC_NEVER, ROWS, FLOATS);
    lab_wait_all(&lab);
    wal_roll_now(lab.wal);
    lab_run_ms(&lab, 300);
    assert_int_equal(list.count, 1);
    assert_int_equal(list.seqs[0], 1);
    assert_int_equal(lab.wal->current->seq, 2);
    fill_to(&lab, 4);
    lab_run_ms(&lab, 300);
    assert_int_equal(list.count, 3);
    assert_int_equal(list.seqs[2], 3);
    uint64_t last = lab.op_count;
    lab_crash(&lab);
    holds_exactly(&lab, 1, last);
    lab_dispose(&lab);
}

static void files_close_in_any_order_and_are_told_in_theirs(void **state)
{
    (void)state;
    struct lab lab;
    struct closed_list list = {.lab = &lab};
    lab_init(&lab, 26);
    lab.options.closed = note_closed;
    lab.options.arg = &list;
    lab.options.poisoned = NULL;
    assert_int_equal(lab_open(&lab), 0);
    struct sim_faults faults = {.latency_min_ns = 1000, .latency_max_ns = 60000000};
    sim_disk_set_faults(lab.disk, &faults);
    while (list.count < 60) { /* small ones, and released at once: files go while others close */
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
        release_all(&lab, lab.op_count);
        wal_roll_now(lab.wal);
        assert_true(lab.op_count < LAB_OPS_MAX - 1);
    }
    for (size_t i = 1; i < list.count; i++)
        assert_true(list.seqs[i] > list.seqs[i - 1]);
    assert_true(stats_of(&lab).segments_recycled > 20);
    lab_dispose(&lab);

    for (uint64_t seed = 0; seed < 20; seed++) { /* two at once, and either may be faster */
        list.count = 0;
        lab_init(&lab, 30 + seed);
        lab.options.closed = note_closed;
        lab.options.arg = &list;
        lab.options.poisoned = NULL;
        assert_int_equal(lab_open(&lab), 0);
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
        lab_run_ms(&lab, 300);
        sim_disk_set_faults(lab.disk, &faults);
        assert_int_equal(wal_roll(lab.wal, 0, true), 0);
        assert_int_equal(wal_roll(lab.wal, 0, true), 0);
        lab_run_ms(&lab, 500);
        assert_int_equal(list.count, 2);
        assert_int_equal(list.seqs[0], 1);
        assert_int_equal(list.seqs[1], 2);
        lab_dispose(&lab);
    }
}

static void a_mark_behind_a_close_takes_its_meaning_away(void **state)
{
    (void)state;
    struct lab lab;
    struct wal_scan_stats stats;
    open_and_fill(&lab, 27, 3);
    lab_stop(&lab);
    lab_boot(&lab);
    assert_int_equal(lab_open(&lab), 0);
    release_all(&lab, first_version_in(&lab, 2) - 1); /* the CLOSE record stays */
    lab_run_ms(&lab, 300);
    assert_int_equal(stats_of(&lab).groups, 1); /* the mark; no record yet */
    struct lab_op *lost = lab_append(&lab, PDB_SYNC_NEVER, ROWS, FLOATS);
    lab_run_ms(&lab, 1);
    assert_true(lost->done); /* without a trace */
    lab_crash(&lab);
    (void)lab_count(&lab, ROWS, FLOATS, &stats);
    assert_true(stats.records > 0);
    assert_false(stats.clean);
    lab_dispose(&lab);
}

struct seen_segments {
    uint64_t first, count, bytes, complete;
};

static void see_segment(void *arg, const struct wal_segment_info *info)
{
    struct seen_segments *seen = arg;
    seen->first = seen->count == 0 ? info->seq : seen->first;
    assert_int_equal(info->seq, seen->first + seen->count);
    seen->count++;
    seen->bytes += info->file_bytes;
    seen->complete += info->complete;
}

static void the_live_segments_can_be_listed(void **state)
{
    (void)state;
    struct lab lab;
    struct seen_segments seen = {0}, again = {0};
    open_and_fill(&lab, 13, 5);
    release_all(&lab, first_version_in(&lab, 3) - 1);
    lab_run_ms(&lab, 300);
    wal_segments(lab.wal, see_segment, &seen);
    assert_int_equal(seen.first, 3);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.complete, 2);
    assert_int_equal(seen.bytes, stats_of(&lab).live_bytes);
    lab_crash(&lab);
    assert_int_equal(lab_open(&lab), 0);
    wal_segments(lab.wal, see_segment, &again);
    assert_int_equal(again.first, 3);
    assert_int_equal(again.count, 5); /* 6 was cut, 7 is the current one */
    assert_int_equal(again.complete, 4);
    lab_dispose(&lab);
}

/* ---- a full disk ---- */

static struct lab_op *append_delete(struct lab *lab)
{
    struct lab_op *l = lab_op_new(lab);
    fixture_batch_make(&l->rows, lab->op_count, 1, 4);
    l->rows.rows[0].deleted = true;
    l->rows.rows[0].vectors = NULL;
    l->op.batch = &l->rows.batch;
    l->op.sync = PDB_SYNC_ALWAYS;
    wal_append(lab->wal, &l->op);
    return l;
}

static void giving_space_up_needs_no_space(void **state)
{
    (void)state;
    struct lab lab;
    struct lab_op *op;
    open_and_fill(&lab, 14, 3);
    lab_run_ms(&lab, 6000);
    struct sim_faults faults = {.bytes_max = 1};
    sim_disk_set_faults(lab.disk, &faults);
    do
        lab_wait(&lab, op = lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
    while (op->rc == 0);
    assert_int_equal(op->rc, PDB_RESOURCE_EXHAUSTED);
    do /* deletes take the held back segment, to its last block but one */
        lab_wait(&lab, op = append_delete(&lab));
    while (op->rc == 0 && lab.op_count < LAB_OPS_MAX - 100);
    assert_int_equal(op->rc, PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(lab.wal->ready_count, 0);
    assert_int_equal(wal_segment_room(lab.wal->current), 0);
    release_all(&lab, UINT64_MAX);
    lab_run_ms(&lab, 1000);
    assert_false(wal_poisoned(lab.wal));
    assert_false(exists(&lab, LIVE_NAME, 1));
    assert_int_equal(wal_room(lab.wal, false, NULL), 0);
    lab_wait(&lab, op = lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
    assert_int_equal(op->rc, 0);
    lab_dispose(&lab);
}

static void a_filesystem_that_cannot_allocate_gets_written_zeros(void **state)
{
    (void)state;
    static const int errors[] = {EOPNOTSUPP, ENOSYS};
    for (size_t i = 0; i < 2; i++) {
        bool met = false;
        for (uint64_t n = 1; n < 40 && !met; n++) { /* one of the I/Os of an opening is it */
            struct lab lab;
            size_t len = 0;
            lab_init(&lab, 15);
            sim_disk_fail_at(lab.disk, n, errors[i]);
            int rc = lab_open(&lab);
            sim_disk_fail_at(lab.disk, 0, 0);
            met = rc == 0 && lab.wal->maker.must_zero;
            if (met) {
                assert_non_null(sim_disk_bytes(lab.disk, "wal/0/0000000000000001.wal", &len));
                assert_int_equal(len, 1 << 20); /* although there was a hurry */
                lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
                lab_crash(&lab);
                holds_exactly(&lab, 1, 1);
            }
            lab_dispose(&lab);
        }
        assert_true(met);
    }
}

/* ---- figures ---- */

static void the_histograms_of_the_log_move(void **state)
{
    (void)state;
    struct lab lab;
    struct metrics *metrics = calloc(1, sizeof(*metrics));
    lab_init(&lab, 25);
    lab.r->user[REACTOR_SLOT_METRICS] = metrics;
    struct sim_faults faults = {.latency_min_ns = 3000000, .latency_max_ns = 3000000};
    assert_int_equal(lab_open(&lab), 0);
    sim_disk_set_faults(lab.disk, &faults);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    lab_append(&lab, PDB_SYNC_NEVER, 1, 4); /* is answered before its sync: not counted */
    lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4);
    lab_wait_all(&lab);
    const struct histogram *commit = &metrics->histograms[METRICS_WAL_COMMIT_IN];
    const struct histogram *records = &metrics->histograms[METRICS_WAL_GROUP_RECORDS_IN];
    assert_int_equal(histogram_count(commit), 2);
    assert_true(commit->sum_ns >= 6000000);
    assert_int_equal(histogram_count(records), lab.wal->stats.groups);
    lab_dispose(&lab);
    free(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_released_stays),
        cmocka_unit_test(released_segments_go_and_the_rest_survives_a_crash),
        cmocka_unit_test(a_partly_released_segment_holds_all_behind_it),
        cmocka_unit_test(a_start_knows_who_needs_what),
        cmocka_unit_test(what_is_held_stays_until_it_is_let_go),
        cmocka_unit_test(an_idle_log_shrinks_to_one_fresh_segment_and_rests),
        cmocka_unit_test(a_log_in_use_is_not_left_for_being_released),
        cmocka_unit_test(freed_files_are_used_again_and_the_rest_removed),
        cmocka_unit_test(a_recycled_file_costs_no_allocation),
        cmocka_unit_test(a_segment_of_another_size_is_removed_not_recycled),
        cmocka_unit_test(segments_made_ahead_of_used_files_get_a_new_uuid_at_a_start),
        cmocka_unit_test(a_closed_segment_is_told_and_durable),
        cmocka_unit_test(files_close_in_any_order_and_are_told_in_theirs),
        cmocka_unit_test(a_mark_behind_a_close_takes_its_meaning_away),
        cmocka_unit_test(the_live_segments_can_be_listed),
        cmocka_unit_test(giving_space_up_needs_no_space),
        cmocka_unit_test(a_filesystem_that_cannot_allocate_gets_written_zeros),
        cmocka_unit_test(the_histograms_of_the_log_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
