/* src/wal/wal_scan.c: logs out of an archive, which begin before their live segments, and the times
 * of records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "wal_lab.h"

enum { ROWS = 20, FLOATS = 2000, SEGMENTS = 6, GIVEN_UP = 4 };

struct archived {
    struct lab lab;
    uint64_t last; /* version in the log */
    int64_t opened_us;
};

static void path_of(uint64_t seq, char path_out[WAL_PATH_MAX])
{
    assert_int_equal(wal_segment_path("wal/0", seq, path_out), 0);
}

static void put_back(struct lab *lab, uint64_t seq, const uint8_t *bytes, size_t len)
{
    char path[WAL_PATH_MAX];
    path_of(seq, path);
    int64_t file = io_wait_open(lab->r->io, path, IO_OPEN_WRITE | IO_OPEN_CREATE);
    assert_true(file >= 0);
    assert_int_equal(io_wait_write(lab->r->io, (int)file, bytes, len, 0, 0), len);
    assert_int_equal(io_wait_sync(lab->r->io, (int)file), 0);
    assert_int_equal(io_wait_close(lab->r->io, (int)file), 0);
    assert_int_equal(io_wait_sync_dir(lab->r->io, "wal/0"), 0);
}

/* A log that has given up its segments 1 to 4, which were kept elsewhere and lie there again. */
static void archived_log(struct archived *a, uint64_t seed)
{
    struct lab *lab = &a->lab;
    uint8_t *kept[GIVEN_UP];
    size_t lens[GIVEN_UP];
    lab_init(lab, seed);
    assert_int_equal(lab_open(lab), 0);
    a->opened_us = lab->r->io->ops->realtime_us(lab->r->io);
    while (lab->wal->current == NULL || lab->wal->current->seq < SEGMENTS)
        lab_wait(lab, lab_append(lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
    lab_run_ms(lab, 200);
    for (uint64_t seq = 1; seq <= GIVEN_UP; seq++) {
        char path[WAL_PATH_MAX];
        path_of(seq, path);
        const uint8_t *bytes = sim_disk_bytes(lab->disk, path, &lens[seq - 1]);
        kept[seq - 1] = malloc(lens[seq - 1]);
        memcpy(kept[seq - 1], bytes, lens[seq - 1]);
    }
    a->last = lab->op_count;
    uint64_t from = UINT64_MAX;
    struct lab_found found;
    struct wal_scan *scan = NULL;
    assert_int_equal(lab_scan(lab, &found, &scan), 0);
    for (size_t i = 0; i < found.count; i++)
        if (scan->logs[0].segments[found.infos[i].place.segment].seq == GIVEN_UP + 1 &&
            found.infos[i].version < from)
            from = found.infos[i].version;
    wal_scan_close(scan);
    free(found.infos);
    for (uint64_t i = 0; i < 5; i++) {
        struct uuid uuid = lab_collection(i);
        wal_release(lab->wal, &uuid, from - 1);
    }
    lab_run_ms(lab, 500);
    lab_stop(lab);
    lab_boot(lab);
    for (uint64_t seq = 1; seq <= GIVEN_UP; seq++) {
        put_back(lab, seq, kept[seq - 1], lens[seq - 1]);
        free(kept[seq - 1]);
    }
}

static void remove_segment(struct lab *lab, uint64_t seq)
{
    char path[WAL_PATH_MAX];
    path_of(seq, path);
    assert_int_equal(io_wait_unlink(lab->r->io, path), 0);
}

static int scan_log(struct archived *a, bool from_lowest, struct lab_found *found,
                    struct wal_scan **scan_out)
{
    static const char *const dirs[] = {"wal"};
    struct wal_scan_options options = {.dirs = dirs,
                                       .dir_count = 1,
                                       .stride = 1,
                                       .check_bodies = true,
                                       .from_lowest = from_lowest,
                                       .visit = lab_visit,
                                       .arg = found};
    *found = (struct lab_found){0};
    trail_reset(&a->lab.trail);
    return wal_scan_open(a->lab.r->io, &options, scan_out, &a->lab.trail);
}

/* The version of the first record, after looking at all of them. */
static uint64_t first_version(struct archived *a, bool from_lowest)
{
    struct lab_found found;
    struct wal_scan *scan = NULL;
    assert_int_equal(scan_log(a, from_lowest, &found, &scan), 0);
    uint64_t first = found.infos[0].version, next = first;
    int64_t before_us = a->opened_us;
    for (size_t i = 0; i < found.count; i++) {
        const struct wal_record_info *info = &found.infos[i];
        assert_memory_equal(&info->log, &found.infos[0].log, sizeof(info->log));
        assert_true(info->time_us >= before_us);
        before_us = info->time_us;
        assert_true(info->type != WAL_RECORD_ROWS || info->version == next++);
    }
    assert_int_equal(next, a->last + 1);
    assert_true(before_us > a->opened_us);
    wal_scan_close(scan);
    free(found.infos);
    return first;
}

static void refused(struct archived *a, const char *text)
{
    struct lab_found found;
    struct wal_scan *scan = NULL;
    assert_int_equal(scan_log(a, true, &found, &scan), PDB_DATA_LOSS);
    if (strstr(a->lab.trail.text, text) == NULL)
        fail_msg("%s is not in: %s", text, a->lab.trail.text);
    free(found.infos);
}

static void an_archived_log_begins_with_its_lowest_segment(void **state)
{
    (void)state;
    struct archived a;
    archived_log(&a, 1);
    uint64_t live = first_version(&a, false);
    assert_true(live > 1);
    assert_int_equal(first_version(&a, true), 1);
    uint64_t before = 1;
    for (uint64_t seq = 1; seq <= GIVEN_UP; seq++) {
        remove_segment(&a.lab, seq);
        uint64_t first = first_version(&a, true);
        assert_true(first > before);
        before = first;
    }
    assert_int_equal(before, live);
    lab_dispose(&a.lab);
}

static void a_gap_in_an_archived_log_is_refused(void **state)
{
    (void)state;
    struct archived a;
    archived_log(&a, 2);
    remove_segment(&a.lab, 3);
    refused(&a, "0000000000000003.wal at 0: this file is missing");
    lab_dispose(&a.lab);
}

static void a_damaged_first_group_of_an_archived_log_is_refused(void **state)
{
    (void)state;
    struct archived a;
    size_t len = 0;
    archived_log(&a, 3);
    uint8_t *bytes = sim_disk_bytes(a.lab.disk, "wal/0/0000000000000001.wal", &len);
    bytes[WAL_SEGMENT_HEADER_BYTES + 33] ^= 1;
    refused(&a, "0000000000000001.wal at 4096: not the first group of a log");
    lab_dispose(&a.lab);
}

static void a_damaged_record_of_an_archived_log_is_refused(void **state)
{
    (void)state;
    struct archived a;
    size_t len = 0;
    archived_log(&a, 4);
    uint8_t *bytes = sim_disk_bytes(a.lab.disk, "wal/0/0000000000000002.wal", &len);
    bytes[WAL_SEGMENT_HEADER_BYTES + 128 + 128 + 500] ^= 1; /* in the first one's body */
    refused(&a, "lies behind a missing one");
    lab_dispose(&a.lab);
}

static void an_archived_log_may_begin_with_a_segment_without_groups(void **state)
{
    (void)state;
    struct archived a;
    archived_log(&a, 5);
    remove_segment(&a.lab, 1);
    uint64_t second = first_version(&a, true);
    size_t len = 0;
    uint8_t header[WAL_SEGMENT_HEADER_BYTES];
    struct wal_segment_header fields;
    const uint8_t *bytes = sim_disk_bytes(a.lab.disk, "wal/0/0000000000000002.wal", &len);
    assert_int_equal(wal_segment_header_get(bytes, len, &fields), WAL_VALID);
    fields.seq = 1;
    wal_segment_header_put(&fields, header);
    put_back(&a.lab, 1, header, sizeof(header));
    assert_int_equal(first_version(&a, true), second);
    lab_dispose(&a.lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_archived_log_begins_with_its_lowest_segment),
        cmocka_unit_test(a_gap_in_an_archived_log_is_refused),
        cmocka_unit_test(a_damaged_first_group_of_an_archived_log_is_refused),
        cmocka_unit_test(a_damaged_record_of_an_archived_log_is_refused),
        cmocka_unit_test(an_archived_log_may_begin_with_a_segment_without_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
