/* src/wal/wal_retired.c: logs without a writer, on the simulated disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "wal_lab.h"

enum { ROWS = 20, FLOATS = 2000, COLLECTIONS = 5 };

struct told {
    int emptied, removed;
    bool obedient; /* the owner says yes at once */
    bool close;    /* inside `removed` */
    struct wal_retired *log;
};

static void on_emptied(void *arg, struct wal_retired *log)
{
    struct told *told = arg;
    told->emptied++;
    if (told->obedient)
        wal_retired_remove(log);
}

static void on_removed(void *arg, struct wal_retired *log)
{
    struct told *told = arg;
    told->removed++;
    if (!told->close)
        return;
    wal_retired_close(log);
    told->log = NULL;
}

/* A log wal/0 of some segments whose writer is gone; `clean` or by a loss of power. */
static void make_log(struct lab *lab, uint64_t seed, bool clean)
{
    lab_init(lab, seed);
    assert_int_equal(lab_open(lab), 0);
    while (lab->wal->current == NULL || lab->wal->current->seq < 3)
        lab_wait(lab, lab_append(lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
    lab_run_ms(lab, 300);
    if (clean) {
        lab_stop(lab);
        lab_boot(lab);
    } else {
        lab_crash(lab);
    }
}

static int open_retired(struct lab *lab, struct told *told)
{
    struct wal_retired_options options = {
        .dir = "wal/0", .emptied = on_emptied, .removed = on_removed, .arg = told};
    trail_reset(&lab->trail);
    return wal_retired_open(lab->r, &options, &told->log, &lab->trail);
}

static void release_all(struct told *told)
{
    for (uint64_t i = 0; i < COLLECTIONS; i++) {
        struct uuid uuid = lab_collection(i);
        wal_retired_release(told->log, &uuid, UINT64_MAX);
    }
}

struct entries {
    int logs, gone, files;
};

static void count_entry(void *arg, const char *name)
{
    struct entries *entries = arg;
    entries->logs += strcmp(name, "0") == 0;
    entries->gone += strncmp(name, "gone-", 5) == 0;
    entries->files++;
}

static struct entries entries_of(struct lab *lab, const char *dir)
{
    struct entries entries = {0};
    (void)lab->r->io->ops->list_dir(lab->r->io, dir, count_entry, &entries);
    return entries;
}

static int sweep(struct lab *lab)
{
    static const char *const dirs[] = {"wal", "nowhere"};
    trail_reset(&lab->trail);
    return wal_sweep(lab->r->io, dirs, 2, &lab->trail);
}

static void a_log_goes_as_a_whole_when_nothing_of_it_is_needed(void **state)
{
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        struct lab lab;
        struct told told = {.obedient = true};
        make_log(&lab, 1, clean != 0);
        uint64_t last = lab.op_count;
        assert_int_equal(open_retired(&lab, &told), 0);
        assert_string_equal(wal_retired_dir(told.log), "wal/0");
        assert_true(wal_retired_bytes(told.log) >= 3 << 20);
        struct uuid holder;
        uint64_t version = 0;
        assert_true(wal_retired_holder(told.log, &holder, &version));
        for (uint64_t i = 0; i < COLLECTIONS; i++) { /* all but the last version */
            struct uuid uuid = lab_collection(i);
            wal_retired_release(told.log, &uuid, last - 1);
        }
        lab_run_ms(&lab, 1000);
        assert_int_equal(told.emptied, 0);
        assert_true(wal_retired_holder(told.log, &holder, &version));
        assert_int_equal(version, last);
        wal_retired_release(told.log, &holder, version);
        assert_int_equal(told.emptied, 0); /* from the loop, not from inside */
        assert_false(wal_retired_holder(told.log, &holder, &version));
        lab_run_ms(&lab, 1000);
        assert_int_equal(told.emptied, 1);
        assert_int_equal(told.removed, 1);
        wal_retired_close(told.log);
        assert_int_equal(entries_of(&lab, "wal").files, 0);
        lab_crash(&lab);
        assert_int_equal(entries_of(&lab, "wal").files, 0); /* durably */
        lab_dispose(&lab);
    }
}

static void nothing_is_touched_before_the_owner_agrees(void **state)
{
    (void)state;
    struct lab lab;
    struct told told = {.obedient = false, .close = true};
    make_log(&lab, 2, true);
    uint64_t last = lab.op_count;
    assert_int_equal(open_retired(&lab, &told), 0);
    release_all(&told);
    lab_run_ms(&lab, 20000);
    assert_int_equal(told.emptied, 1);
    assert_int_equal(lab_count(&lab, ROWS, FLOATS, NULL), (long)last);
    wal_retired_remove(told.log);
    lab_run_ms(&lab, 1000);
    assert_int_equal(told.removed, 1);
    assert_null(told.log); /* closed inside */
    assert_int_equal(entries_of(&lab, "wal").files, 0);
    lab_dispose(&lab);
}

static void a_log_without_records_is_emptied_at_once(void **state)
{
    (void)state;
    struct lab lab;
    struct told told = {.obedient = true};
    lab_init(&lab, 3);
    assert_int_equal(lab_open(&lab), 0);
    lab_stop(&lab); /* only a CLOSE record */
    lab_boot(&lab);
    assert_int_equal(open_retired(&lab, &told), 0);
    lab_run_ms(&lab, 100);
    assert_int_equal(told.removed, 1);
    wal_retired_close(told.log);
    lab_dispose(&lab);
}

static void closing_leaves_the_work_to_a_later_start(void **state)
{
    (void)state;
    bool whole = false, gone = false;
    for (uint64_t turns = 0; turns < 40; turns++) {
        struct lab lab;
        struct told told = {.obedient = true};
        make_log(&lab, 4, true);
        uint64_t last = lab.op_count;
        struct sim_faults faults = {.latency_min_ns = 100000, .latency_max_ns = 200000};
        sim_disk_set_faults(lab.disk, &faults);
        assert_int_equal(open_retired(&lab, &told), 0);
        release_all(&told);
        for (uint64_t t = 0; t < turns; t++)
            lab_turn(&lab);
        wal_retired_close(told.log);
        long rows = lab_count(&lab, ROWS, FLOATS, NULL);
        assert_true(rows == 0 || rows == (long)last);
        whole |= rows != 0;
        gone |= entries_of(&lab, "wal").gone != 0;
        assert_int_equal(sweep(&lab), 0);
        assert_int_equal(entries_of(&lab, "wal").gone, 0);
        lab_dispose(&lab);
    }
    assert_true(whole && gone);
}

static void a_loss_of_power_leaves_the_whole_log_or_none(void **state)
{
    (void)state;
    bool whole = false, gone = false, swept = false;
    for (uint64_t turns = 0; turns < 40; turns++) {
        for (uint64_t seed = 0; seed < 8; seed++) {
            struct lab lab;
            struct told told = {.obedient = true};
            make_log(&lab, 5 + seed, seed % 2 == 0);
            uint64_t last = lab.op_count;
            struct sim_faults faults = {.latency_min_ns = 100000, .latency_max_ns = 900000};
            sim_disk_set_faults(lab.disk, &faults);
            assert_int_equal(open_retired(&lab, &told), 0);
            release_all(&told);
            for (uint64_t t = 0; t < turns; t++)
                lab_turn(&lab);
            sim_disk_crash(lab.disk);
            wal_retired_abandon(told.log);
            reactor_group_stop(lab.group);
            lab_boot(&lab);
            swept |= entries_of(&lab, "wal").gone != 0;
            assert_int_equal(sweep(&lab), 0);
            assert_int_equal(entries_of(&lab, "wal").gone, 0);
            long rows = lab_count(&lab, ROWS, FLOATS, NULL);
            assert_int_equal(rows, entries_of(&lab, "wal").logs != 0 ? (long)last : 0);
            whole |= rows != 0;
            gone |= rows == 0;
            if (told.removed != 0)
                assert_int_equal(rows, 0);
            lab_dispose(&lab);
        }
    }
    assert_true(whole && gone && swept);
}

static void every_io_failing_once_is_tried_again(void **state)
{
    (void)state;
    int stuck = 0;
    for (uint64_t n = 1; n < 12; n++) {
        struct lab lab;
        struct told told = {.obedient = true};
        make_log(&lab, 20, true);
        uint64_t last = lab.op_count;
        assert_int_equal(open_retired(&lab, &told), 0);
        sim_disk_fail_at(lab.disk, n, EIO);
        release_all(&told);
        lab_run_ms(&lab, 20000);
        sim_disk_fail_at(lab.disk, 0, 0);
        if (told.removed == 0) { /* the sync behind the rename: nobody knows the name any more */
            stuck++;
            assert_int_equal(n, 2);
            wal_retired_close(told.log);
            lab_crash(&lab);
            assert_int_equal(sweep(&lab), 0);
            long rows = lab_count(&lab, ROWS, FLOATS, NULL);
            assert_true(rows == 0 || rows == (long)last);
        } else {
            wal_retired_close(told.log);
            assert_int_equal(entries_of(&lab, "wal").files, 0);
        }
        lab_dispose(&lab);
    }
    assert_int_equal(stuck, 1);
}

static void foreign_files_stay_and_block_nothing(void **state)
{
    (void)state;
    struct lab lab;
    struct told told = {.obedient = true};
    static const char name[] =
        "wal/0/a-file-with-a-name-so-long-that-it-cannot-be-one-of-a-log-whatever-happens";
    make_log(&lab, 21, true);
    int64_t file = io_wait_open(lab.r->io, name, IO_OPEN_WRITE | IO_OPEN_CREATE);
    assert_int_equal(io_wait_close(lab.r->io, (int)file), 0);
    assert_int_equal(open_retired(&lab, &told), 0);
    release_all(&told);
    lab_run_ms(&lab, 1000);
    assert_int_equal(told.removed, 1);
    wal_retired_close(told.log);
    struct entries entries = entries_of(&lab, "wal");
    assert_int_equal(entries.gone, 1);
    assert_int_equal(entries.logs, 0);
    assert_int_equal(sweep(&lab), 0);
    assert_int_equal(entries_of(&lab, "wal").gone, 1);
    lab_dispose(&lab);
}

static void a_sweep_removes_many_and_tells_errors(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 22, true);
    for (int i = 0; i < 20; i++) {
        char path[128];
        snprintf(path, sizeof(path), "wal/gone-%d", i);
        assert_int_equal(io_wait_make_dir(lab.r->io, path), 0);
        for (int f = 0; f < 20; f++) {
            snprintf(path, sizeof(path), "wal/gone-%d/%d.wal", i, f);
            int64_t file = io_wait_open(lab.r->io, path, IO_OPEN_WRITE | IO_OPEN_CREATE);
            assert_int_equal(io_wait_close(lab.r->io, (int)file), 0);
        }
    }
    sim_disk_fail_at(lab.disk, 3, EIO);
    assert_int_equal(sweep(&lab), PDB_UNAVAILABLE);
    assert_true(lab.trail.len > 0);
    assert_int_equal(sweep(&lab), 0);
    struct entries entries = entries_of(&lab, "wal");
    assert_int_equal(entries.files, 1);
    assert_int_equal(entries.logs, 1);
    assert_int_equal(sweep(&lab), 0); /* nothing to do */
    lab_dispose(&lab);
}

static void a_damaged_log_is_refused_not_removed(void **state)
{
    (void)state;
    struct lab lab;
    struct told told = {.obedient = true};
    size_t len = 0;
    make_log(&lab, 23, true);
    uint8_t *bytes = sim_disk_bytes(lab.disk, "wal/0/0000000000000002.wal", &len);
    bytes[WAL_SEGMENT_HEADER_BYTES + 3] ^= 1;
    assert_int_equal(open_retired(&lab, &told), PDB_DATA_LOSS);
    assert_non_null(strstr(lab.trail.text, "wal/0/"));
    lab_dispose(&lab);
}

static void the_nth_allocation_of_an_opening_failing_is_told(void **state)
{
    (void)state;
    int rc = PDB_RESOURCE_EXHAUSTED;
    uint64_t n = 1;
    struct lab lab;
    struct told told = {.obedient = true};
    make_log(&lab, 24, true);
    for (; rc == PDB_RESOURCE_EXHAUSTED; n++) {
        size_t before = lab.r->heap.bytes_used;
        lab.r->heap.fail_at = lab.r->heap.allocation_count + n;
        rc = open_retired(&lab, &told);
        lab.r->heap.fail_at = 0;
        if (rc != 0) {
            assert_true(lab.trail.len > 0);
            assert_int_equal(lab.r->heap.bytes_used, before);
        }
    }
    assert_int_equal(rc, 0);
    assert_true(n > 10);
    wal_retired_close(told.log);
    lab_dispose(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_goes_as_a_whole_when_nothing_of_it_is_needed),
        cmocka_unit_test(nothing_is_touched_before_the_owner_agrees),
        cmocka_unit_test(a_log_without_records_is_emptied_at_once),
        cmocka_unit_test(closing_leaves_the_work_to_a_later_start),
        cmocka_unit_test(a_loss_of_power_leaves_the_whole_log_or_none),
        cmocka_unit_test(every_io_failing_once_is_tried_again),
        cmocka_unit_test(foreign_files_stay_and_block_nothing),
        cmocka_unit_test(a_sweep_removes_many_and_tells_errors),
        cmocka_unit_test(a_damaged_log_is_refused_not_removed),
        cmocka_unit_test(the_nth_allocation_of_an_opening_failing_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
