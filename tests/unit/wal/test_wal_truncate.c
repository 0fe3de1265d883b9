/* src/wal/wal_truncate.c, wal_ledger.c and what wal_roll.c, wal_scan.c and wal_recover.c do for
 * them: forgetting, on the simulated disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "metrics/metrics.h"
#include "wal_lab.h"

enum { ROWS = 20, FLOATS = 2000, COLLECTIONS = 5 };

/* Batches of about 130 KiB, versions 1, 2, 3, ..., of five collections in turn, until the log has
 * reached a segment. */
static void fill_to(struct lab *lab, uint64_t seq)
{
    while (lab->wal->current == NULL || lab->wal->current->seq < seq)
        lab_wait(lab, lab_append(lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
    assert_int_equal(lab->failed_count, 0);
}

static void release(struct lab *lab, uint64_t number, uint64_t version)
{
    struct uuid uuid = lab_collection(number);
    wal_release(lab->wal, &uuid, version);
}

static void release_all(struct lab *lab, uint64_t version)
{
    for (uint64_t i = 0; i < COLLECTIONS; i++)
        release(lab, i, version);
}

enum name { LIVE_NAME, FREE_NAME };

static bool exists(struct lab *lab, enum name name, uint64_t seq)
{
    char path[WAL_PATH_MAX];
    int rc = name == LIVE_NAME ? wal_segment_path("wal/0", seq, path)
                               : wal_free_path("wal/0", seq, path);
    assert_int_equal(rc, 0);
    int64_t file = io_wait_open(lab->r->io, path, IO_OPEN_READ);
    if (file >= 0)
        (void)io_wait_close(lab->r->io, (int)file);
    return file >= 0;
}

/* The rows of a scan are `from` to `to`, without a hole and with their bytes; any marks. */
static void holds_exactly(struct lab *lab, uint64_t from, uint64_t to)
{
    struct lab_found found;
    struct wal_scan *scan = NULL;
    uint64_t next = from;
    assert_int_equal(lab_scan(lab, &found, &scan), 0);
    for (size_t i = 0; i < found.count; i++) {
        const struct wal_record_info *info = &found.infos[i];
        if (info->type != WAL_RECORD_ROWS)
            continue;
        struct arena arena = {0};
        struct wal_batch batch;
        struct fixture_batch expected;
        assert_int_equal(info->version, next);
        fixture_batch_make(&expected, next++, ROWS, FLOATS);
        assert_int_equal(wal_read_batch(scan, &info->place, &arena, &batch, NULL), 0);
        assert_true(fixture_batch_equal(&expected.batch, &batch));
        fixture_batch_free(&expected);
        arena_dispose(&arena);
    }
    assert_int_equal(next, to + 1);
    wal_scan_close(scan);
    free(found.infos);
}

/* The lowest version with a record in the segment or behind it, as the model knows it. */
static uint64_t first_version_in(struct lab *lab, uint64_t seq)
{
    struct lab_found found;
    struct wal_scan *scan = NULL;
    uint64_t version = 0;
    assert_int_equal(lab_scan(lab, &found, &scan), 0);
    for (size_t i = found.count; i > 0; i--) {
        const struct wal_record_info *info = &found.infos[i - 1];
        if (info->type == WAL_RECORD_ROWS && scan->logs[0].segments[info->place.segment].seq >= seq)
            version = info->version;
    }
    wal_scan_close(scan);
    free(found.infos);
    return version;
}

static struct wal_stats stats_of(const struct lab *lab)
{
    struct wal_stats stats;
    wal_stats(lab->wal, &stats);
    return stats;
}

static void open_and_fill(struct lab *lab, uint64_t seed, uint64_t seq)
{
    lab_init(lab, seed);
    assert_int_equal(lab_open(lab), 0);
    fill_to(lab, seq);
    lab_run_ms(lab, 300);
}

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

/* ---- failures ---- */

/* A log of which the versions before *keep_out are released, at the moment before that is told. */
static void before_truncation(struct lab *lab, uint64_t seed, uint64_t *keep_out)
{
    open_and_fill(lab, seed, 6);
    *keep_out = first_version_in(lab, 5);
}

static void every_io_failing_once_while_truncating_loses_nothing(void **state)
{
    (void)state;
    static const int errors[] = {EIO, ENOSPC, EINTR};
    uint64_t poisoned = 0, healed = 0;
    for (size_t e = 0; e < 3; e++) {
        for (uint64_t n = 1; n < 24; n++) {
            struct lab lab;
            uint64_t keep;
            before_truncation(&lab, 100, &keep);
            uint64_t last = lab.op_count;
            sim_disk_fail_at(lab.disk, n, errors[e]);
            release_all(&lab, keep - 1);
            lab_run_ms(&lab, 12000);
            sim_disk_fail_at(lab.disk, 0, 0);
            if (wal_poisoned(lab.wal)) {
                poisoned++;
                assert_int_equal(n, 1); /* only the write of the mark is one of the log */
                assert_true(exists(&lab, LIVE_NAME, 1));
            } else {
                healed++;
                assert_false(exists(&lab, LIVE_NAME, 1));
                assert_false(exists(&lab, LIVE_NAME, 4));
                assert_int_equal(stats_of(&lab).live_bytes, 2 << 20);
                lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
                last++;
            }
            bool was_poisoned = wal_poisoned(lab.wal);
            lab_crash(&lab);
            holds_exactly(&lab, was_poisoned ? 1 : keep, last);
            assert_int_equal(lab_open(&lab), 0);
            lab_dispose(&lab);
        }
    }
    assert_int_equal(poisoned, 2); /* EIO, ENOSPC */
    assert_int_equal(healed, 67);
}

static void a_loss_of_power_at_any_moment_of_a_truncation_leaves_a_log_that_opens(void **state)
{
    (void)state;
    bool seen_before = false, seen_after = false, seen_leftovers = false;
    for (uint64_t turns = 0; turns < 60; turns++) {
        for (uint64_t seed = 0; seed < 4; seed++) {
            struct lab lab;
            struct wal_scan_stats stats;
            struct lab_found found;
            struct wal_scan *scan = NULL;
            uint64_t keep;
            before_truncation(&lab, 200 + seed, &keep);
            struct sim_faults faults = {.latency_min_ns = 100000, .latency_max_ns = 900000};
            sim_disk_set_faults(lab.disk, &faults);
            uint64_t last = lab.op_count;
            release_all(&lab, keep - 1);
            for (uint64_t t = 0; t < turns; t++)
                lab_turn(&lab);
            lab_crash(&lab);
            assert_int_equal(lab_scan(&lab, &found, &scan), 0);
            wal_scan_stats(scan, &stats);
            wal_scan_close(scan);
            free(found.infos);
            assert_true(found.count == last || found.count == last - keep + 1);
            seen_before |= found.count == last;
            seen_after |= found.count != last;
            seen_leftovers |= stats.leftovers != 0;
            assert_int_equal(lab_open(&lab), 0);
            for (uint64_t seq = 1; seq < 5; seq++) {
                assert_int_equal(exists(&lab, LIVE_NAME, seq), found.count == last);
                assert_false(exists(&lab, FREE_NAME, seq));
            }
            lab_dispose(&lab);
        }
    }
    assert_true(seen_before && seen_after && seen_leftovers);
}

static void files_of_a_doubtful_directory_are_not_used_again(void **state)
{
    (void)state;
    struct lab lab;
    uint64_t keep;
    before_truncation(&lab, 300, &keep);
    release_all(&lab, keep - 1);
    while (lab.wal->remover.state != WAL_REMOVE_SYNC_DIR)
        lab_turn(&lab);
    struct sim_faults faults = {.sync_error = 1};
    sim_disk_set_faults(lab.disk, &faults);
    lab_run_ms(&lab, 100);
    assert_true(lab.wal->remover.doubtful);
    assert_int_equal(lab.wal->free_count, 0);
    faults.sync_error = 0;
    sim_disk_set_faults(lab.disk, &faults);
    lab_run_ms(&lab, 6000);
    assert_false(lab.wal->remover.doubtful);
    assert_int_equal(lab.wal->free_count, 0);
    assert_false(exists(&lab, FREE_NAME, 1));
    assert_false(exists(&lab, LIVE_NAME, 1));
    lab_dispose(&lab);
}

static void the_nth_allocation_failing_refuses_a_write_or_delays_a_truncation(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 25; n++) {
        struct lab lab;
        open_and_fill(&lab, 400, 3);
        uint64_t last = lab.op_count, good = 0;
        lab.r->heap.fail_at = lab.r->heap.allocation_count + n;
        for (int i = 0; i < 12; i++)
            lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS);
        lab_wait_all(&lab);
        release_all(&lab, last);
        lab_run_ms(&lab, 300);
        lab.r->heap.fail_at = 0;
        for (uint64_t i = last; i < lab.op_count; i++) {
            assert_true(lab.ops[i]->rc == 0 || lab.ops[i]->rc == PDB_RESOURCE_EXHAUSTED);
            good += lab.ops[i]->rc == 0;
        }
        lab_run_ms(&lab, 12000);
        assert_false(exists(&lab, LIVE_NAME, 1));
        lab_crash(&lab);
        uint64_t first = first_version_in(&lab, 1);
        holds_exactly(&lab, good != 0 ? first : 1, good != 0 ? last + good : 0);
        lab_dispose(&lab);
    }
}

/* ---- misplaced ---- */

/* The log of `lab` begins at 4 and has reached 6; the power is off. */
static void truncated_log(struct lab *lab, uint64_t seed, uint64_t *keep_out)
{
    open_and_fill(lab, seed, 6);
    *keep_out = first_version_in(lab, 4);
    release_all(lab, *keep_out - 1);
    lab_run_ms(lab, 300);
    lab_crash(lab);
}

static void refused(struct lab *lab, const char *text)
{
    struct lab_found found;
    struct wal_scan *scan = NULL;
    assert_int_equal(lab_scan(lab, &found, &scan), PDB_DATA_LOSS);
    free(found.infos);
    assert_non_null(strstr(lab->trail.text, text));
    assert_int_equal(lab_open(lab), PDB_DATA_LOSS);
}

static void a_missing_first_segment_is_refused(void **state)
{
    (void)state;
    struct lab lab;
    uint64_t keep;
    truncated_log(&lab, 16, &keep);
    assert_int_equal(io_wait_unlink(lab.r->io, "wal/0/0000000000000004.wal"), 0);
    assert_int_equal(io_wait_sync_dir(lab.r->io, "wal/0"), 0);
    refused(&lab, "0000000000000004.wal at 0: this file is missing");
    lab_dispose(&lab);
}

static void a_damaged_first_group_is_refused_though_nothing_lies_before_it(void **state)
{
    (void)state;
    struct lab lab;
    uint64_t keep;
    size_t len = 0;
    truncated_log(&lab, 17, &keep);
    uint8_t *bytes = sim_disk_bytes(lab.disk, "wal/0/0000000000000004.wal", &len);
    bytes[WAL_SEGMENT_HEADER_BYTES + 17] ^= 4;
    refused(&lab, "lies behind a missing one");
    lab_dispose(&lab);
}

static void a_wholly_wiped_first_segment_is_refused(void **state)
{
    (void)state;
    struct lab lab;
    uint64_t keep;
    size_t len = 0;
    truncated_log(&lab, 18, &keep);
    uint8_t *bytes = sim_disk_bytes(lab.disk, "wal/0/0000000000000004.wal", &len);
    memset(bytes + WAL_SEGMENT_HEADER_BYTES, 0, len - WAL_SEGMENT_HEADER_BYTES);
    refused(&lab, "lies behind a missing one");
    lab_dispose(&lab);
}

static void renamed_and_exchanged_first_segments_are_refused(void **state)
{
    (void)state;
    struct lab lab;
    uint64_t keep;
    truncated_log(&lab, 19, &keep);
    assert_int_equal(
        io_wait_rename(lab.r->io, "wal/0/0000000000000004.wal", "wal/0/0000000000000003.wal"), 0);
    assert_int_equal(io_wait_sync_dir(lab.r->io, "wal/0"), 0);
    refused(&lab, "this file is missing");
    lab_dispose(&lab);

    truncated_log(&lab, 20, &keep);
    size_t len4 = 0, len5 = 0;
    const uint8_t *five = sim_disk_bytes(lab.disk, "wal/0/0000000000000005.wal", &len5);
    uint8_t *copy = malloc(len5);
    memcpy(copy, five, len5);
    uint8_t *four = sim_disk_bytes(lab.disk, "wal/0/0000000000000004.wal", &len4);
    memcpy(four, copy, len4 < len5 ? len4 : len5);
    free(copy);
    refused(&lab, "copied or renamed");
    lab_dispose(&lab);
}

static void leftovers_are_not_read_and_removed_by_a_start(void **state)
{
    (void)state;
    struct lab lab;
    uint64_t keep;
    struct wal_scan_stats stats;
    struct lab_found found;
    struct wal_scan *scan = NULL;
    truncated_log(&lab, 21, &keep);
    uint64_t last = lab.op_count;
    static const char *const names[] = {"wal/0/0000000000000001.wal", "wal/0/0000000000000003.wal"};
    for (size_t i = 0; i < 2; i++) { /* whatever is in them */
        int64_t file = io_wait_open(lab.r->io, names[i], IO_OPEN_WRITE | IO_OPEN_CREATE);
        assert_int_equal(io_wait_write(lab.r->io, (int)file, "rubbish", 7, 0, 0), 7);
        assert_int_equal(io_wait_close(lab.r->io, (int)file), 0);
    }
    assert_int_equal(lab_scan(&lab, &found, &scan), 0);
    wal_scan_stats(scan, &stats);
    assert_int_equal(stats.leftovers, 2);
    assert_int_equal(stats.segments, 5);
    wal_scan_close(scan);
    free(found.infos);
    holds_exactly(&lab, keep, last);
    assert_int_equal(lab_open(&lab), 0);
    assert_false(exists(&lab, LIVE_NAME, 1));
    assert_false(exists(&lab, LIVE_NAME, 3));
    lab_dispose(&lab);
}

static void places_are_the_same_for_a_scan_that_did_not_read_the_log(void **state)
{
    (void)state;
    struct lab lab;
    uint64_t keep;
    struct lab_found found;
    struct wal_scan *scan = NULL, *other = NULL;
    static const char *const dirs[] = {"wal"};
    truncated_log(&lab, 22, &keep);
    int64_t file =
        io_wait_open(lab.r->io, "wal/0/0000000000000002.wal", IO_OPEN_WRITE | IO_OPEN_CREATE);
    assert_int_equal(io_wait_close(lab.r->io, (int)file), 0);
    assert_int_equal(lab_scan(&lab, &found, &scan), 0);
    struct wal_scan_options options = {.dirs = dirs, .dir_count = 1, .first = 3, .stride = 4};
    assert_int_equal(wal_scan_open(lab.r->io, &options, &other, NULL), 0);
    struct arena arena = {0};
    struct wal_batch batch;
    assert_int_equal(wal_read_batch(other, &found.infos[0].place, &arena, &batch, NULL), 0);
    assert_int_equal(batch.version, keep);
    arena_dispose(&arena);
    wal_scan_close(scan);
    wal_scan_close(other);
    free(found.infos);
    lab_dispose(&lab);
}

static void old_groups_of_a_recycled_file_are_no_groups(void **state)
{
    (void)state;
    struct lab lab;
    open_and_fill(&lab, 23, 5);
    uint64_t first = first_version_in(&lab, 5);
    release_all(&lab, first - 1);
    lab_run_ms(&lab, 300);
    fill_to(&lab, 8);
    lab_run_ms(&lab, 300);
    /* 8 is a recycled file, full of old groups behind its few new ones. Each of its old blocks at
     * the place where the next group is due, too. */
    assert_int_equal(lab.wal->current->seq, 8);
    uint64_t last = lab.op_count, due = lab.wal->current->offset;
    lab_crash(&lab);
    size_t len = 0, old_blocks = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, "wal/0/0000000000000008.wal", &len), saved[4096];
    memcpy(saved, bytes + due, 4096);
    for (uint64_t at = due + 4096; at + 4096 <= len; at += 4096) {
        bytes = sim_disk_bytes(lab.disk, "wal/0/0000000000000008.wal", &len);
        if (memcmp(bytes + at, "PXXG", 4) != 0)
            continue;
        old_blocks++;
        memcpy(bytes + due, bytes + at, 4096);
        holds_exactly(&lab, first, last);
    }
    assert_true(old_blocks > 2);
    bytes = sim_disk_bytes(lab.disk, "wal/0/0000000000000008.wal", &len);
    memcpy(bytes + due, saved, 4096);
    /* A new group moved over the old bytes is seen, though. */
    memcpy(bytes + due + 8192, bytes + 4096, 4096);
    holds_exactly(&lab, first, last); /* a copy of one that is there */
    lab_dispose(&lab);
}

static void note_line(void *arg, const char *line)
{
    char *last = arg;
    (void)snprintf(last, 1024, "%s", line);
}

static void check_calls_leftovers_no_damage(void **state)
{
    (void)state;
    struct lab lab;
    uint64_t keep;
    char line[1024] = "";
    static const char *const dirs[] = {"wal"};
    open_and_fill(&lab, 24, 5);
    keep = first_version_in(&lab, 4);
    release_all(&lab, keep - 1);
    lab_run_ms(&lab, 300);
    lab_stop(&lab);
    lab_boot(&lab);
    assert_int_equal(wal_check(lab.r->io, dirs, 1, note_line, line, &lab.trail), 0);
    assert_string_equal(line, "");
    int64_t file =
        io_wait_open(lab.r->io, "wal/0/0000000000000002.wal", IO_OPEN_WRITE | IO_OPEN_CREATE);
    assert_int_equal(io_wait_close(lab.r->io, (int)file), 0);
    assert_int_equal(wal_check(lab.r->io, dirs, 1, note_line, line, &lab.trail), 0);
    assert_non_null(strstr(line, "\"severity\":\"info\""));
    assert_non_null(strstr(line, "truncation"));
    lab_dispose(&lab);
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
        cmocka_unit_test(every_io_failing_once_while_truncating_loses_nothing),
        cmocka_unit_test(a_loss_of_power_at_any_moment_of_a_truncation_leaves_a_log_that_opens),
        cmocka_unit_test(files_of_a_doubtful_directory_are_not_used_again),
        cmocka_unit_test(the_nth_allocation_failing_refuses_a_write_or_delays_a_truncation),
        cmocka_unit_test(a_missing_first_segment_is_refused),
        cmocka_unit_test(a_damaged_first_group_is_refused_though_nothing_lies_before_it),
        cmocka_unit_test(a_wholly_wiped_first_segment_is_refused),
        cmocka_unit_test(renamed_and_exchanged_first_segments_are_refused),
        cmocka_unit_test(leftovers_are_not_read_and_removed_by_a_start),
        cmocka_unit_test(places_are_the_same_for_a_scan_that_did_not_read_the_log),
        cmocka_unit_test(old_groups_of_a_recycled_file_are_no_groups),
        cmocka_unit_test(check_calls_leftovers_no_damage),
        cmocka_unit_test(the_histograms_of_the_log_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
