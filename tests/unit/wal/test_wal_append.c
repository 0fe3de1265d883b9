/* src/wal/wal_append.c, wal_sync.c, wal_roll.c, wal_open.c: writing, on the simulated disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "wal_lab.h"

static void an_acknowledged_batch_survives_a_crash(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 1);
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 3, 10));
    assert_int_equal(lab.ops[0]->rc, 0);
    assert_int_equal(lab.ops[0]->op.lsn, 1);
    lab_crash(&lab);
    struct wal_scan_stats stats;
    assert_int_equal(lab_count(&lab, 3, 10, &stats), 1);
    assert_false(stats.clean);
    lab_dispose(&lab);
}

static void a_clean_stop_is_seen_as_clean(void **state)
{
    (void)state;
    struct lab lab;
    struct wal_scan_stats stats;
    lab_init(&lab, 2);
    assert_int_equal(lab_open(&lab), 0);
    for (int i = 0; i < 20; i++)
        lab_append(&lab, PDB_SYNC_NEVER, 2, 8);
    lab_wait_all(&lab);
    lab_stop(&lab); /* "a clean stop loses nothing" holds for the weakest mode too */
    lab_boot(&lab);
    assert_int_equal(lab_count(&lab, 2, 8, &stats), 20);
    assert_true(stats.clean);
    assert_int_equal(stats.records, 21);
    assert_int_equal(stats.torn_bytes, 0);
    lab_dispose(&lab);
}

static void a_log_goes_on_behind_itself_after_many_starts(void **state)
{
    (void)state;
    struct lab lab;
    struct wal_scan_stats stats;
    lab_init(&lab, 3);
    for (int start = 0; start < 10; start++) {
        assert_int_equal(lab_open(&lab), 0);
        lab_append(&lab, PDB_SYNC_ALWAYS, 2, 8);
        lab_append(&lab, PDB_SYNC_ALWAYS, 2, 8);
        lab_wait_all(&lab);
        if (start % 2 == 0) {
            lab_stop(&lab);
            lab_boot(&lab);
        } else {
            lab_crash(&lab);
        }
        assert_int_equal(lab_count(&lab, 2, 8, &stats), 2 * start + 2);
        assert_int_equal(stats.clean, start % 2 == 0);
    }
    lab_dispose(&lab);
}

static void records_of_one_turn_share_one_group(void **state)
{
    (void)state;
    struct lab lab;
    struct wal_stats stats;
    lab_init(&lab, 4);
    assert_int_equal(lab_open(&lab), 0);
    for (int i = 0; i < 50; i++)
        lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4);
    lab_wait_all(&lab);
    wal_stats(lab.wal, &stats);
#ifndef PDB_STRESS
    assert_int_equal(stats.groups, 1);
#endif
    assert_int_equal(stats.records, 50);
    assert_int_equal(stats.durable_lsn, 50);
    assert_false(lab.out_of_order);
    lab_dispose(&lab);
}

static void batch_mode_waits_for_its_window_and_is_durable(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 5);
    lab.options.batch_window_us = 5000;
    assert_int_equal(lab_open(&lab), 0);
    struct lab_op *first = lab_append(&lab, PDB_SYNC_BATCH, 1, 4);
    lab_run_ms(&lab, 3);
    assert_false(first->done);
    struct lab_op *second = lab_append(&lab, PDB_SYNC_BATCH, 1, 4);
    lab_run_ms(&lab, 3);
    assert_true(first->done && second->done); /* one flush for both */
    assert_int_equal(lab.wal->stats.groups, 1);
    lab_crash(&lab);
    assert_int_equal(lab_count(&lab, 1, 4, NULL), 2);
    lab_dispose(&lab);
}

static void an_always_record_closes_the_group_of_a_batch_record(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 6);
    lab.options.batch_window_us = 1000 * 1000;
    assert_int_equal(lab_open(&lab), 0);
    struct lab_op *batch = lab_append(&lab, PDB_SYNC_BATCH, 1, 4);
    lab_run_ms(&lab, 1);
    assert_false(batch->done);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    assert_true(batch->done);
    lab_dispose(&lab);
}

static void periodic_is_answered_at_once_and_written_within_its_period(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 7);
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    struct lab_op *op = lab_append(&lab, PDB_SYNC_PERIODIC, 1, 4);
    assert_false(op->done); /* never from inside wal_append */
    lab_run_ms(&lab, 1);
    assert_true(op->done);
    assert_int_equal(lab.wal->durable_lsn, 1);
    lab_run_ms(&lab, 150);
    assert_int_equal(lab.wal->durable_lsn, 1);
    lab_run_ms(&lab, 60);
    assert_int_equal(lab.wal->durable_lsn, 2);
    lab_dispose(&lab);
}

static void never_is_written_when_another_record_closes_it(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 8);
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    struct lab_op *op = lab_append(&lab, PDB_SYNC_NEVER, 1, 4);
    lab_run_ms(&lab, 5000);
    assert_true(op->done);
    assert_int_equal(lab.wal->durable_lsn, 1);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    assert_int_equal(lab.wal->durable_lsn, 3);
    lab_crash(&lab);
    assert_int_equal(lab_count(&lab, 1, 4, NULL), 3);
    lab_dispose(&lab);
}

static void a_life_that_has_answered_is_never_taken_for_a_clean_stop(void **state)
{
    (void)state;
    struct lab lab;
    struct wal_scan_stats stats;
    lab_init(&lab, 26);
    for (int life = 0; life < 6; life++) { /* each behind nothing, or behind a CLOSE */
        enum pdb_sync_mode mode = life % 2 == 0 ? PDB_SYNC_NEVER : PDB_SYNC_PERIODIC;
        assert_int_equal(lab_open(&lab), 0);
        lab_wait(&lab, lab_append(&lab, mode, 1, 4));
        struct lab_op *lost = lab_append(&lab, mode, 1, 4);
        lab_wait(&lab, lost); /* of this one the log has no trace */
        assert_int_equal(lost->rc, 0);
        lab_crash(&lab);
        assert_int_equal(lab_count(&lab, 1, 4, &stats), life + 1);
        assert_false(stats.clean);
        lab_forget_ops(&lab);
        for (int i = 0; i <= life; i++) /* the next version */
            lab_op_new(&lab)->done = true;
        lab.done_count = lab.op_count;
        assert_int_equal(lab_open(&lab), 0);
        lab_stop(&lab);
        lab_boot(&lab);
        (void)lab_count(&lab, 1, 4, &stats);
        assert_true(stats.clean);
    }
    lab_dispose(&lab);
}

static void a_flush_makes_weak_records_durable(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 9);
    assert_int_equal(lab_open(&lab), 0);
    struct lab_op *nothing = lab_op_new(&lab);
    wal_flush(lab.wal, &nothing->op);
    assert_false(nothing->done);
    lab_wait(&lab, nothing);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    lab_append(&lab, PDB_SYNC_NEVER, 1, 4);
    lab_run_ms(&lab, 10);
    assert_int_equal(lab.wal->durable_lsn, 1);
    struct lab_op *flush = lab_op_new(&lab);
    wal_flush(lab.wal, &flush->op);
    lab_wait(&lab, flush);
    assert_int_equal(flush->rc, 0);
    assert_int_equal(lab.wal->durable_lsn, 2);
    lab_dispose(&lab);
}

static void acknowledgements_keep_the_order_of_appends_across_modes(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 10);
    struct sim_faults faults = {.latency_min_ns = 100000, .latency_max_ns = 900000};
    sim_disk_set_faults(lab.disk, &faults);
    assert_int_equal(lab_open(&lab), 0);
    for (int i = 0; i < 300; i++) {
        lab_append(&lab, (enum pdb_sync_mode)(fixture_mix((uint64_t)i) % 4), 1 + (uint32_t)i % 5,
                   30);
        if (i % 3 == 0)
            lab_turn(&lab);
    }
    struct lab_op *flush = lab_op_new(&lab);
    wal_flush(lab.wal, &flush->op);
    lab_wait_all(&lab);
    assert_false(lab.out_of_order);
    assert_int_equal(lab.failed_count, 0);
    assert_int_equal(lab.wal->durable_lsn, 300);
    lab_dispose(&lab);
}

static void an_idle_log_writes_one_empty_group(void **state)
{
    (void)state;
    struct lab lab;
    struct wal_scan_stats stats;
    lab_init(&lab, 11);
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    lab_run_ms(&lab, 90);
    assert_int_equal(lab.wal->stats.groups, 1);
    lab_run_ms(&lab, 20);
    assert_int_equal(lab.wal->stats.groups, 2);
    lab_run_ms(&lab, 5000);
    assert_int_equal(lab.wal->stats.groups, 2);
    lab_crash(&lab);
    assert_int_equal(lab_count(&lab, 1, 4, &stats), 1);
    assert_int_equal(stats.groups, 2);
    lab_dispose(&lab);
}

static void segments_follow_each_other_without_a_gap(void **state)
{
    (void)state;
    struct lab lab;
    struct wal_scan_stats stats;
    lab_init(&lab, 12);
    assert_int_equal(lab_open(&lab), 0);
    for (int i = 0; i < 60; i++)
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 20, 2000)); /* 100 KiB and more */
    assert_true(lab.wal->current->seq > 5);
    lab_crash(&lab);
    assert_int_equal(lab_count(&lab, 20, 2000, &stats), 60);
    assert_true(stats.segments > 6);
    lab_dispose(&lab);
}

static void two_segments_are_made_ahead(void **state)
{
    (void)state;
    struct lab lab;
    struct wal_stats stats;
    lab_init(&lab, 13);
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    lab_run_ms(&lab, 1000);
    wal_stats(lab.wal, &stats);
    assert_int_equal(stats.segments_ready, 2);
    assert_int_equal(stats.segments_live, 3);
    uint64_t current = lab.wal->current->seq;
    lab_stop(&lab);
    lab_boot(&lab);
    assert_int_equal(lab_open(&lab), 0);
    assert_int_equal(lab.wal->current->seq, current + 1); /* one of them is used now */
    assert_int_equal(lab.wal->ready_count, 1);
    lab_dispose(&lab);
}

static void a_record_larger_than_a_segment_gets_its_own(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 14);
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab,
             lab_append(&lab, PDB_SYNC_ALWAYS, 64, 10000)); /* 2.5 MB into segments of 1 MiB */
    lab_run_ms(&lab, 500);
    lab_append(&lab, PDB_SYNC_ALWAYS, 64, 10000);
    lab_append(&lab, PDB_SYNC_ALWAYS, 64, 10000);
    lab_wait_all(&lab);
    assert_int_equal(lab.failed_count, 0);
    lab_crash(&lab);
    assert_int_equal(lab_count(&lab, 64, 10000, NULL), 3);
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 64, 10000));
    lab_stop(&lab);
    lab_boot(&lab);
    assert_int_equal(lab_count(&lab, 64, 10000, NULL), 4);
    lab_dispose(&lab);
}

static void both_encodings_stay_readable_in_one_log(void **state)
{
    (void)state;
    struct lab lab;
    struct lab_found found;
    struct wal_scan *scan;
    lab_init(&lab, 15);
    for (int start = 0; start < 4; start++) {
        lab.options.encoding = (enum wal_encoding)(start % 2);
        assert_int_equal(lab_open(&lab), 0);
        for (int i = 0; i < 5; i++)
            lab_append(&lab, PDB_SYNC_ALWAYS, 7, 33);
        lab_wait_all(&lab);
        lab_stop(&lab);
        lab_boot(&lab);
    }
    assert_int_equal(lab_scan(&lab, &found, &scan), 0);
    assert_int_equal(lab_rows_found(scan, &found, 7, 33), 20);
    assert_int_equal(found.infos[0].encoding, WAL_ENCODING_BINARY);
    assert_int_equal(found.infos[6].encoding, WAL_ENCODING_AVRO);
    wal_scan_close(scan);
    free(found.infos);
    lab_dispose(&lab);
}

/* ---- failures ---- */

static void short_writes_are_continued(void **state)
{
    (void)state;
    for (int mode = WAL_IO_DIRECT; mode <= WAL_IO_BUFFERED; mode++) {
        struct lab lab;
        lab_init(&lab, 16);
        lab.options.io_mode = (enum wal_io_mode)mode;
        assert_int_equal(lab_open(&lab), 0);
        struct sim_faults faults = {.short_write = 0.3};
        sim_disk_set_faults(lab.disk, &faults);
        for (int i = 0; i < 40; i++)
            lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 10, 500));
        assert_int_equal(lab.failed_count, 0);
        faults.short_write = 0;
        sim_disk_set_faults(lab.disk, &faults);
        lab_crash(&lab);
        assert_int_equal(lab_count(&lab, 10, 500, NULL), 40);
        lab_dispose(&lab);
    }
}

static void a_failed_write_poisons_the_log_for_ever(void **state)
{
    (void)state;
    static const int errors[] = {EIO, ENOSPC, EDQUOT, EFBIG, EINVAL};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        struct lab lab;
        lab_init(&lab, 17);
        assert_int_equal(lab_open(&lab), 0);
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
        lab_run_ms(&lab, 300); /* the makers are done: the next I/O is the log's */
        sim_disk_fail_at(lab.disk, 1, errors[i]);
        struct lab_op *failing = lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4);
        struct lab_op *same_turn = lab_append(&lab, PDB_SYNC_BATCH, 1, 4);
        lab_turn(&lab);
        struct lab_op *queued = lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4);
        lab_wait_all(&lab);
        assert_int_equal(failing->rc, PDB_UNAVAILABLE);
        assert_int_equal(same_turn->rc, PDB_UNAVAILABLE);
        assert_int_equal(queued->rc, PDB_UNAVAILABLE);
        assert_int_equal(lab.poisoned, -errors[i]);
        assert_true(wal_poisoned(lab.wal));
        uint64_t ops = sim_disk_op_count(lab.disk);
        struct lab_op *later = lab_append(&lab, PDB_SYNC_NEVER, 1, 4);
        assert_false(later->done);
        struct lab_op *flush = lab_op_new(&lab);
        wal_flush(lab.wal, &flush->op);
        lab_run_ms(&lab, 1000);
        assert_int_equal(later->rc, PDB_UNAVAILABLE);
        assert_int_equal(flush->rc, PDB_UNAVAILABLE);
        assert_int_equal(sim_disk_op_count(lab.disk), ops); /* not even a sync "to see" */
        assert_int_equal(wal_room(lab.wal, true, NULL), PDB_UNAVAILABLE);
        lab_stop(&lab);
        lab_boot(&lab);
        assert_int_equal(lab_count(&lab, 1, 4, NULL), 1);
        lab_dispose(&lab);
    }
}

static void eagain_and_eintr_are_submitted_again(void **state)
{
    (void)state;
    static const int errors[] = {EAGAIN, EINTR};
    for (size_t i = 0; i < 2; i++) {
        struct lab lab;
        lab_init(&lab, 18);
        assert_int_equal(lab_open(&lab), 0);
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
        lab_run_ms(&lab, 300);
        sim_disk_fail_at(lab.disk, 1, errors[i]);
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
        assert_int_equal(lab.failed_count, 0);
        lab_crash(&lab);
        assert_int_equal(lab_count(&lab, 1, 4, NULL), 2);
        lab_dispose(&lab);
    }
}

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

static void a_full_disk_refuses_rows_lets_deletes_pass_and_heals(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 19);
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 20, 2000));
    lab_run_ms(&lab, 500);
    assert_int_equal(lab.wal->ready_count, 2);
    struct sim_faults faults = {.bytes_max = 3 << 20}; /* what is allocated now, and nothing more */
    sim_disk_set_faults(lab.disk, &faults);
    struct lab_op *op;
    do
        lab_wait(&lab, op = lab_append(&lab, PDB_SYNC_ALWAYS, 20, 2000));
    while (op->rc == 0 && lab.op_count < 100);
    assert_int_equal(op->rc, PDB_RESOURCE_EXHAUSTED);
    assert_false(wal_poisoned(lab.wal));
    assert_int_equal(lab.wal->ready_count, 1); /* held back */
    trail_reset(&lab.trail);
    assert_int_equal(wal_room(lab.wal, false, &lab.trail), PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(lab.trail.http_status, 507);
    assert_int_equal(wal_room(lab.wal, true, NULL), 0);
    long logged = (long)lab.op_count - 1;
    for (int i = 0; i < 200; i++) {
        struct lab_op *deleted = append_delete(&lab);
        lab_wait(&lab, deleted);
        assert_int_equal(deleted->rc, 0);
    }
    faults.bytes_max = 0;
    sim_disk_set_faults(lab.disk, &faults);
    lab_run_ms(&lab, 6000);
    assert_int_equal(wal_room(lab.wal, false, NULL), 0);
    lab_wait(&lab, op = lab_append(&lab, PDB_SYNC_ALWAYS, 20, 2000));
    assert_int_equal(op->rc, 0);
    struct wal_scan_stats stats;
    struct lab_found found;
    struct wal_scan *scan;
    lab_crash(&lab);
    assert_int_equal(lab_scan(&lab, &found, &scan), 0);
    wal_scan_stats(scan, &stats);
    assert_int_equal(stats.records, logged + 200 + 1);
    wal_scan_close(scan);
    free(found.infos);
    lab_dispose(&lab);
}

static void a_refusal_takes_what_is_queued_behind_it_along(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 20);
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    lab_run_ms(&lab, 500);
    struct sim_faults faults = {.bytes_max = 3 << 20};
    sim_disk_set_faults(lab.disk, &faults);
    struct lab_op *large = lab_append(&lab, PDB_SYNC_ALWAYS, 64, 10000);
    struct lab_op *behind = lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4);
    struct lab_op *flush = lab_op_new(&lab);
    wal_flush(lab.wal, &flush->op);
    lab_wait_all(&lab);
    assert_int_equal(large->rc, PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(behind->rc, PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(flush->rc, 0); /* what was logged is durable */
    lab_dispose(&lab);
}

static void little_free_space_refuses_rows_before_the_disk_does(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 21);
    struct sim_faults faults = {.bytes_max = 64 << 20};
    sim_disk_set_faults(lab.disk, &faults);
    lab.options.min_free_bytes = 62 << 20;
    assert_int_equal(lab_open(&lab), 0);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
    assert_int_equal(lab.ops[0]->rc, 0);
    lab_run_ms(&lab, 2000); /* two more segments: under the limit now */
    struct lab_op *op = lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4), *deleted;
    lab_wait(&lab, op);
    assert_int_equal(op->rc, PDB_RESOURCE_EXHAUSTED);
    lab_wait(&lab, deleted = append_delete(&lab));
    assert_int_equal(deleted->rc, 0);
    lab_dispose(&lab);
}

static void a_full_disk_at_start_is_no_error(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 22);
    struct sim_faults faults = {.bytes_max = 1};
    sim_disk_set_faults(lab.disk, &faults);
    assert_int_equal(lab_open(&lab), 0);
    struct lab_op *op = lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4);
    lab_wait(&lab, op);
    assert_int_equal(op->rc, PDB_RESOURCE_EXHAUSTED);
    faults.bytes_max = 0;
    sim_disk_set_faults(lab.disk, &faults);
    lab_run_ms(&lab, 6000);
    op = lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4);
    lab_wait(&lab, op);
    assert_int_equal(op->rc, 0);
    lab_dispose(&lab);
}

static void a_slow_disk_bounds_the_queue_and_tells_after_a_second(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 23);
    lab.options.segment_bytes = 64 << 20;
    lab.options.queue_bytes_max = 256 << 10;
    assert_int_equal(lab_open(&lab), 0);
    struct sim_faults faults = {.latency_min_ns = 5000000000, .latency_max_ns = 5000000000};
    sim_disk_set_faults(lab.disk, &faults);
    for (int i = 0; i < 200; i++) { /* 20 MB */
        lab_append(&lab, PDB_SYNC_ALWAYS, 10, 2500);
        lab_turn(&lab);
    }
    assert_true(wal_congested(lab.wal));
    assert_true(lab.wal->queue_bytes <= lab.options.queue_bytes_max);
    assert_int_equal(lab.done_count, 0);
    lab_run_ms(&lab, 1500);
    assert_true(lab.failed_count > 50);
    assert_int_equal(lab.done_count, lab.failed_count);
    faults.latency_min_ns = faults.latency_max_ns = 0;
    sim_disk_set_faults(lab.disk, &faults);
    lab_wait_all(&lab);
    assert_int_equal(lab.ops[199]->rc, PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(lab.ops[0]->rc, 0);
    for (size_t i = 1; i < lab.op_count; i++) /* a prefix without holes */
        assert_true(lab.ops[i]->rc == lab.ops[i - 1]->rc || lab.ops[i]->rc != 0);
    lab_crash(&lab);
    lab_dispose(&lab);
}

static void one_record_larger_than_the_queue_may_pass(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 24);
    lab.options.queue_bytes_max = 1000;
    assert_int_equal(lab_open(&lab), 0);
    lab_append(&lab, PDB_SYNC_ALWAYS, 20, 1000);
    lab_append(&lab, PDB_SYNC_ALWAYS, 20, 1000);
    lab_wait_all(&lab);
    assert_int_equal(lab.failed_count, 0);
    lab_dispose(&lab);
}

static void a_record_over_the_format_limit_is_refused(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 25);
    assert_int_equal(lab_open(&lab), 0);
    struct lab_op *l = lab_op_new(&lab);
    uint32_t field_bytes = PDB_DIMENSION_MAX * 4;
    const void *vector[1] = {&field_bytes};
    struct pdb_row *rows = calloc(3000, sizeof(*rows));
    for (size_t i = 0; i < 3000; i++)
        rows[i] = (struct pdb_row){.id = {"x", 1}, .vectors = vector};
    struct wal_batch batch = {.type = WAL_RECORD_ROWS,
                              .field_count = 1,
                              .field_bytes = &field_bytes,
                              .row_count = 3000,
                              .rows = rows};
    l->op.batch = &batch;
    wal_append(lab.wal, &l->op);
    assert_false(l->done);
    lab_wait(&lab, l);
    assert_int_equal(l->rc, PDB_RESOURCE_EXHAUSTED);
    free(rows);
    lab_dispose(&lab);
}

static void the_nth_allocation_failing_leaves_a_sound_log(void **state)
{
    (void)state;
    int opened_at = 0;
    for (uint64_t n = 1; n < 60; n++) {
        struct lab lab;
        lab_init(&lab, 100 + n);
        lab.options.encoding = n % 2 != 0 ? WAL_ENCODING_AVRO : WAL_ENCODING_BINARY;
        lab.r->heap.fail_at = lab.r->heap.allocation_count + n;
        int rc = lab_open(&lab);
        assert_true(rc == 0 || rc == PDB_RESOURCE_EXHAUSTED);
        if (rc == 0) {
            opened_at = opened_at != 0 ? opened_at : (int)n;
            for (int i = 0; i < 5; i++)
                lab_append(&lab, PDB_SYNC_ALWAYS, 30, 2000);
            lab_wait_all(&lab);
            long good = 0;
            for (int i = 0; i < 5; i++) {
                assert_true(lab.ops[i]->rc == 0 || lab.ops[i]->rc == PDB_RESOURCE_EXHAUSTED);
                good += lab.ops[i]->rc == 0;
            }
            lab.r->heap.fail_at = 0;
            lab_stop(&lab);
            lab_boot(&lab);
            struct lab_found found;
            struct wal_scan *scan;
            assert_int_equal(lab_scan(&lab, &found, &scan), 0);
            long rows = 0;
            for (size_t i = 0; i < found.count; i++)
                rows += found.infos[i].type == WAL_RECORD_ROWS;
            assert_int_equal(rows, good);
            wal_scan_close(scan);
            free(found.infos);
        }
        lab_dispose(&lab);
    }
    assert_true(opened_at > 1 && opened_at < 50);
}

static void every_io_failing_once_while_opening_is_told_or_survived(void **state)
{
    (void)state;
    bool opened = false;
    for (uint64_t n = 1; n < 80; n++) {
        struct lab lab;
        lab_init(&lab, 200 + n);
        assert_int_equal(lab_open(&lab), 0);
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 3, 100));
        lab_run_ms(&lab, 300);
        lab_crash(&lab);
        sim_disk_fail_at(lab.disk, n, EIO);
        int rc = lab_open(&lab);
        assert_true(rc == 0 || rc == PDB_UNAVAILABLE);
        opened |= rc == 0;
        sim_disk_fail_at(lab.disk, 0, 0);
        if (rc == 0) {
            lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 3, 100));
            lab_stop(&lab);
        } else {
            assert_true(lab.trail.len > 0);
            reactor_group_stop(lab.group);
        }
        lab_boot(&lab);
        assert_int_equal(lab_count(&lab, 3, 100, NULL), rc == 0 ? 2 : 1);
        lab_dispose(&lab);
    }
    assert_true(opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_acknowledged_batch_survives_a_crash),
        cmocka_unit_test(a_clean_stop_is_seen_as_clean),
        cmocka_unit_test(a_log_goes_on_behind_itself_after_many_starts),
        cmocka_unit_test(records_of_one_turn_share_one_group),
        cmocka_unit_test(batch_mode_waits_for_its_window_and_is_durable),
        cmocka_unit_test(an_always_record_closes_the_group_of_a_batch_record),
        cmocka_unit_test(periodic_is_answered_at_once_and_written_within_its_period),
        cmocka_unit_test(never_is_written_when_another_record_closes_it),
        cmocka_unit_test(a_life_that_has_answered_is_never_taken_for_a_clean_stop),
        cmocka_unit_test(a_flush_makes_weak_records_durable),
        cmocka_unit_test(acknowledgements_keep_the_order_of_appends_across_modes),
        cmocka_unit_test(an_idle_log_writes_one_empty_group),
        cmocka_unit_test(segments_follow_each_other_without_a_gap),
        cmocka_unit_test(two_segments_are_made_ahead),
        cmocka_unit_test(a_record_larger_than_a_segment_gets_its_own),
        cmocka_unit_test(both_encodings_stay_readable_in_one_log),
        cmocka_unit_test(short_writes_are_continued),
        cmocka_unit_test(a_failed_write_poisons_the_log_for_ever),
        cmocka_unit_test(eagain_and_eintr_are_submitted_again),
        cmocka_unit_test(a_full_disk_refuses_rows_lets_deletes_pass_and_heals),
        cmocka_unit_test(a_refusal_takes_what_is_queued_behind_it_along),
        cmocka_unit_test(little_free_space_refuses_rows_before_the_disk_does),
        cmocka_unit_test(a_full_disk_at_start_is_no_error),
        cmocka_unit_test(a_slow_disk_bounds_the_queue_and_tells_after_a_second),
        cmocka_unit_test(one_record_larger_than_the_queue_may_pass),
        cmocka_unit_test(a_record_over_the_format_limit_is_refused),
        cmocka_unit_test(the_nth_allocation_failing_leaves_a_sound_log),
        cmocka_unit_test(every_io_failing_once_while_opening_is_told_or_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
