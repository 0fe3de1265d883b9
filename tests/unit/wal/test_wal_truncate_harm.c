/* Forgetting while I/O fails, power is lost and memory ends; and logs whose files are not where
 * they should be: nothing that is needed goes, and what cannot be told from loss is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "truncate_lab.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
