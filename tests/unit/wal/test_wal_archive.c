/* What src/wal/ offers to archives, on the simulated disk: the used part of every complete segment
 * is the log, wherever it is copied to and whatever becomes of the files; and what lies behind
 * which number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "wal_lab.h"

enum { ROWS = 20, FLOATS = 2000, COLLECTIONS = 5, COPIES_MAX = 64 };

/* An archive: the used bytes of segments, in order. */
struct copies {
    struct lab *lab;
    uint64_t first, count;
    uint8_t *bytes[COPIES_MAX];
    size_t lens[COPIES_MAX];
};

static void copy_segment(void *arg, const struct wal_segment_info *info)
{
    struct copies *copies = arg;
    size_t len;
    if (!info->complete || (copies->count != 0 && info->seq < copies->first + copies->count))
        return;
    copies->first = copies->count == 0 ? info->seq : copies->first;
    assert_int_equal(info->seq, copies->first + copies->count);
    const uint8_t *bytes = sim_disk_bytes(copies->lab->disk, info->path, &len);
    assert_non_null(bytes);
    assert_true(info->used_bytes >= WAL_SEGMENT_HEADER_BYTES && info->used_bytes <= len);
    assert_true(info->used_bytes <= info->file_bytes);
    uint8_t *copy = malloc(info->used_bytes);
    memcpy(copy, bytes, info->used_bytes);
    copies->bytes[copies->count] = copy;
    copies->lens[copies->count++] = info->used_bytes;
}

static void copies_free(struct copies *copies)
{
    for (uint64_t i = 0; i < copies->count; i++)
        free(copies->bytes[i]);
}

static void put(struct io *io, const char *path, const uint8_t *bytes, size_t len)
{
    int64_t file = io_wait_open(io, path, IO_OPEN_WRITE | IO_OPEN_CREATE);
    assert_true(file >= 0);
    assert_int_equal(io_wait_write(io, (int)file, bytes, len, 0, 0), len);
    assert_int_equal(io_wait_sync(io, (int)file), 0);
    assert_int_equal(io_wait_close(io, (int)file), 0);
}

/* Versions 1 to `last`, each with its rows, are what the copies hold, and nothing is torn. */
static void copies_hold(struct copies *copies, uint64_t last)
{
    struct sim_disk *disk = sim_disk_new(1);
    struct io *io = NULL;
    struct lab_found found = {0};
    struct wal_scan *scan = NULL;
    struct wal_scan_stats stats;
    struct trail trail = {0};
    char path[WAL_PATH_MAX];
    static const char *const dirs[] = {"w"};
    assert_int_equal(sim_io_create(disk, &io), 0);
    assert_int_equal(io_wait_make_dir(io, "w"), 0);
    assert_int_equal(io_wait_make_dir(io, "w/7"), 0);
    for (uint64_t i = 0; i < copies->count; i++) {
        assert_int_equal(wal_segment_path("w/7", copies->first + i, path), 0);
        put(io, path, copies->bytes[i], copies->lens[i]);
    }
    struct wal_scan_options options = {.dirs = dirs,
                                       .dir_count = 1,
                                       .stride = 1,
                                       .check_bodies = true,
                                       .from_lowest = true,
                                       .visit = lab_visit,
                                       .arg = &found};
    if (wal_scan_open(io, &options, &scan, &trail) < 0)
        fail_msg("%s", trail.text);
    uint64_t next = 1;
    for (size_t i = 0; i < found.count; i++)
        if (found.infos[i].type == WAL_RECORD_ROWS)
            assert_int_equal(found.infos[i].version, next++);
    assert_int_equal(next, last + 1);
    wal_scan_stats(scan, &stats);
    assert_int_equal(stats.torn_bytes, 0);
    wal_scan_close(scan);
    free(found.infos);
    io->ops->destroy(io);
    sim_disk_free(disk);
}

static void release_all(struct lab *lab, uint64_t version)
{
    for (uint64_t i = 0; i < COLLECTIONS; i++) {
        struct uuid uuid = lab_collection(i);
        wal_release(lab->wal, &uuid, version);
    }
}

/* Writes, rolls, gives up and takes up files again; archives all that is complete in between. */
static void work(struct lab *lab, struct copies *copies, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        for (unsigned n = 0; n <= i % 3; n++)
            lab_wait(lab, lab_append(lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
        (void)wal_roll_records(lab->wal);
        lab_run_ms(lab, 300);
        wal_segments(lab->wal, copy_segment, copies);
        wal_hold_from(lab->wal, copies->first + copies->count);
        release_all(lab, lab->op_count);
        lab_run_ms(lab, 300);
    }
}

static void used_parts_of_segments_are_the_log_also_of_files_used_again(void **state)
{
    (void)state;
    struct lab lab;
    struct copies copies = {.lab = &lab};
    lab_init(&lab, 3);
    assert_int_equal(lab_open(&lab), 0);
    wal_hold_from(lab.wal, 1);
    work(&lab, &copies, 12);
    struct wal_stats stats;
    wal_stats(lab.wal, &stats);
    assert_true(stats.segments_recycled > 3); /* their files held longer segments before */
    copies_hold(&copies, lab.op_count);
    copies_free(&copies);
    lab_dispose(&lab);
}

static void a_crash_and_a_stop_leave_the_rest_to_the_next_start(void **state)
{
    (void)state;
    for (int clean = 0; clean < 2; clean++) {
        for (uint64_t seed = 0; seed < 10; seed++) {
            struct lab lab;
            struct copies copies = {.lab = &lab};
            lab_init(&lab, 100 + seed);
            assert_int_equal(lab_open(&lab), 0);
            wal_hold_from(lab.wal, 1);
            struct uuid uuid = wal_log_uuid(lab.wal);
            work(&lab, &copies, 4);
            lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
            uint64_t last = lab.op_count;
            if (clean) {
                lab_stop(&lab);
                lab_boot(&lab);
            } else {
                lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS); /* never acknowledged */
                lab_turn(&lab);
                lab_crash(&lab);
                lab_forget_ops(&lab);
            }
            assert_int_equal(lab_open(&lab), 0);
            wal_hold_from(lab.wal, copies.first + copies.count);
            struct uuid again = wal_log_uuid(lab.wal);
            assert_true(uuid_equal(&uuid, &again));
            wal_segments(lab.wal, copy_segment, &copies);
            if (lab.wal->next_lsn > last + 1 && !clean)
                last++; /* it was durable all the same */
            copies_hold(&copies, last);
            copies_free(&copies);
            lab_dispose(&lab);
        }
    }
}

static void a_roll_tells_behind_which_number_everything_lies(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 5);
    assert_int_equal(lab_open(&lab), 0);
    wal_hold_from(lab.wal, 1);
    assert_int_equal(wal_roll_records(lab.wal), 1); /* there is nothing */
    lab_run_ms(&lab, 300);
    assert_int_equal(lab.wal->current->seq, 1);
    lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
    assert_int_equal(wal_roll_records(lab.wal), 2);
    lab_run_ms(&lab, 1000); /* an idle log writes an empty group: that is no record */
    assert_int_equal(lab.wal->current->seq, 2);
    assert_true(lab.wal->current->offset > WAL_SEGMENT_HEADER_BYTES);
    assert_int_equal(wal_roll_records(lab.wal), 2);
    lab_run_ms(&lab, 300);
    assert_int_equal(lab.wal->current->seq, 2);
    struct lab_op *weak = lab_append(&lab, PDB_SYNC_NEVER, ROWS, FLOATS); /* in no group yet */
    lab_run_ms(&lab, 1);
    assert_true(weak->done);
    assert_int_equal(wal_roll_records(lab.wal), 3);
    lab_run_ms(&lab, 300);
    assert_int_equal(lab.wal->current->seq, 3);
    lab_dispose(&lab);
}

static void what_is_needed_begins_with_the_first_record_that_is_not_released(void **state)
{
    (void)state;
    struct lab lab;
    lab_init(&lab, 6);
    assert_int_equal(lab_open(&lab), 0);
    assert_int_equal(wal_needed_from(lab.wal), 1);
    for (uint64_t seq = 2; seq <= 4; seq++) {
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
        (void)wal_roll_records(lab.wal);
        lab_run_ms(&lab, 300);
    }
    wal_hold_from(lab.wal, 1);
    assert_int_equal(wal_needed_from(lab.wal), 1);
    release_all(&lab, 1);
    assert_int_equal(wal_needed_from(lab.wal), 2);
    release_all(&lab, 3);
    assert_int_equal(wal_needed_from(lab.wal), 4); /* the one being written */
    lab_stop(&lab);
    lab_boot(&lab);
    struct wal_retired *log = NULL;
    struct wal_retired_options options = {.dir = "wal/0"};
    assert_int_equal(wal_retired_open(lab.r, &options, &log, &lab.trail), 0);
    struct copies copies = {.lab = &lab};
    wal_retired_segments(log, copy_segment, &copies);
    copies_hold(&copies, 3); /* held, so all of them are there */
    uint64_t from = wal_retired_needed_from(log);
    assert_true(from >= 1 && from < copies.first + copies.count);
    for (uint64_t i = 0; i < COLLECTIONS; i++) {
        struct uuid uuid = lab_collection(i);
        wal_retired_release(log, &uuid, UINT64_MAX - 1);
    }
    assert_true(wal_retired_needed_from(log) == UINT64_MAX);
    wal_retired_close(log);
    copies_free(&copies);
    lab_dispose(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(used_parts_of_segments_are_the_log_also_of_files_used_again),
        cmocka_unit_test(a_crash_and_a_stop_leave_the_rest_to_the_next_start),
        cmocka_unit_test(a_roll_tells_behind_which_number_everything_lies),
        cmocka_unit_test(what_is_needed_begins_with_the_first_record_that_is_not_released),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
