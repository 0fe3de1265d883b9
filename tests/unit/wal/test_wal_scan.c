/* src/wal/wal_scan.c, wal_recover.c, wal_check.c: torn, misplaced, stale, missing and damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/rng.h"
#include "wal_lab.h"

static const char first_segment[] = "wal/0/0000000000000001.wal";

/* A log with one group per entry of `records`; the power is off, nothing is open. */
static void make_log(struct lab *lab, uint64_t seed, size_t groups, size_t records, uint32_t rows,
                     uint32_t floats)
{
    lab_init(lab, seed);
    assert_int_equal(lab_open(lab), 0);
    for (size_t g = 0; g < groups; g++) {
        for (size_t i = 0; i < records; i++)
            lab_append(lab, PDB_SYNC_ALWAYS, rows, floats);
        lab_wait_all(lab);
    }
    lab_crash(lab);
}

/* Where the groups of the first segment begin: offsets of headers, and the end. */
static size_t group_offsets(const uint8_t *bytes, size_t len, uint64_t *offsets, size_t max)
{
    struct wal_segment_header segment;
    assert_int_equal(wal_segment_header_get(bytes, len, &segment), WAL_VALID);
    size_t count = 0;
    uint64_t at = WAL_SEGMENT_HEADER_BYTES;
    struct wal_group_header group;
    while (at < len &&
           wal_group_header_get(bytes + at, len - at, &segment.segment, &group) == WAL_VALID) {
        assert_true(count + 1 < max);
        offsets[count++] = at;
        at += wal_group_disk_bytes(group.body_len, segment.block_bytes);
    }
    offsets[count] = at;
    return count;
}

/* After whatever was done to the disk, the log must open, go on, and keep what it showed. */
static void goes_on(struct lab *lab, long kept, uint32_t rows, uint32_t floats)
{
    lab_forget_ops(lab);
    assert_int_equal(lab_open(lab), 0);
    lab->op_count = 0;
    struct lab_op *op = lab_op_new(lab);
    fixture_batch_make(&op->rows, (uint64_t)kept + 1, rows, floats);
    op->op.batch = &op->rows.batch;
    op->op.sync = PDB_SYNC_ALWAYS;
    wal_append(lab->wal, &op->op);
    lab_wait(lab, op);
    assert_int_equal(op->rc, 0);
    lab_crash(lab);
    struct wal_scan_stats stats;
    assert_int_equal(lab_count(lab, rows, floats, &stats), kept + 1);
    assert_int_equal(stats.torn_bytes, 0);
}

static void the_last_group_cut_at_every_byte_is_dropped_and_the_rest_survives(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 1, 3, 2, 2, 20);
    size_t len = 0;
    uint64_t offsets[16];
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    size_t groups = group_offsets(bytes, len, offsets, 16);
#ifndef PDB_STRESS
    assert_int_equal(groups, 3);
#endif
    uint64_t start = offsets[groups - 1], end = offsets[groups];
    uint8_t *saved = malloc(len);
    memcpy(saved, bytes, len);
    long all = lab_count(&lab, 2, 20, NULL);
    assert_int_equal(all, 6);
    struct wal_segment_header segment;
    struct wal_group_header group;
    wal_segment_header_get(saved, len, &segment);
    wal_group_header_get(saved + start, end - start, &segment.segment, &group);
    uint64_t used = start + WAL_GROUP_HEADER_BYTES + group.body_len;
    while (used > start && saved[used - 1] == 0)
        used--; /* zeros at the end are there whether they were written or not */
    for (uint64_t cut = start; cut < end; cut++) {
        bytes = sim_disk_bytes(lab.disk, first_segment, &len);
        memcpy(bytes, saved, len);
        memset(bytes + cut, 0, end - cut);
        struct wal_scan_stats stats;
        long found = lab_count(&lab, 2, 20, &stats);
        assert_int_equal(found, cut >= used ? all : all - (long)group.record_count);
        assert_int_equal(stats.torn_bytes != 0, cut > start && cut < used);
    }
    bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    memcpy(bytes, saved, len);
    memset(bytes + start + 200, 0, end - start - 200);
    goes_on(&lab, all - (long)group.record_count, 2, 20);
    free(saved);
    lab_dispose(&lab);
}

static void a_file_cut_at_every_byte_of_its_last_group_is_a_torn_tail(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 2, 2, 1, 2, 20);
    uint64_t offsets[16];
    size_t len = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    size_t groups = group_offsets(bytes, len, offsets, 16);
    uint8_t *saved = malloc(len);
    memcpy(saved, bytes, len);
    for (uint64_t cut = offsets[groups - 1]; cut < offsets[groups - 1] + 1200; cut += 7) {
        assert_int_equal(sim_disk_resize(lab.disk, first_segment, cut), 0);
        long found = lab_count(&lab, 2, 20, NULL);
        assert_in_range(found, 1, 2);
        assert_int_equal(sim_disk_resize(lab.disk, first_segment, len), 0);
        memcpy(sim_disk_bytes(lab.disk, first_segment, &len), saved, len);
    }
    assert_int_equal(sim_disk_resize(lab.disk, first_segment, offsets[groups - 1] + 100), 0);
    goes_on(&lab, 1, 2, 20);
    free(saved);
    lab_dispose(&lab);
}

static void every_mask_of_sectors_of_a_block_is_whole_or_torn(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 3, 6, 1, 2, 350); /* the last group fills seven of the eight sectors */
    uint64_t offsets[16];
    size_t len = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    size_t groups = group_offsets(bytes, len, offsets, 16);
    uint64_t start = offsets[groups - 1];
    assert_int_equal(offsets[groups] - start, 4096);
    uint8_t *saved = malloc(len);
    memcpy(saved, bytes, len);
    unsigned needed = 0;
    for (unsigned s = 0; s < 8; s++) {
        static const uint8_t zeros[512];
        needed |= (unsigned)(memcmp(saved + start + 512 * s, zeros, 512) != 0) << s;
    }
    assert_int_equal(needed, 0x7f);
    for (unsigned mask = 0; mask < 256; mask++) {
        bytes = sim_disk_bytes(lab.disk, first_segment, &len);
        for (unsigned s = 0; s < 8; s++) {
            if ((mask >> s & 1) != 0)
                memcpy(bytes + start + 512 * s, saved + start + 512 * s, 512);
            else
                memset(bytes + start + 512 * s, 0, 512);
        }
        assert_int_equal(lab_count(&lab, 2, 350, NULL), (mask & needed) == needed ? 6 : 5);
    }
    free(saved);
    lab_dispose(&lab);
}

static void old_bytes_under_a_torn_group_are_no_group(void **state)
{
    (void)state;
    /* Every sector mask again, over the blocks of an earlier group of the same file: as a recycled
     * file would be. */
    struct lab lab;
    make_log(&lab, 4, 6, 1, 2, 350);
    uint64_t offsets[16];
    size_t len = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    size_t groups = group_offsets(bytes, len, offsets, 16);
    uint64_t start = offsets[groups - 1], before = offsets[groups - 2];
    uint8_t *saved = malloc(len);
    memcpy(saved, bytes, len);
    for (unsigned mask = 0; mask < 255; mask++) {
        bytes = sim_disk_bytes(lab.disk, first_segment, &len);
        for (unsigned s = 0; s < 8; s++)
            memcpy(bytes + start + 512 * s,
                   saved + ((mask >> s & 1) != 0 ? start : before) + 512 * s, 512);
        long found = lab_count(&lab, 2, 350, NULL);
        assert_true(found == 5 || (found == 6 && (mask | 0x80) == 0xff));
    }
    free(saved);
    lab_dispose(&lab);
}

static void any_flipped_bit_is_refused_truncated_or_without_effect(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 5, 4, 1, 3, 40);
    uint64_t offsets[16];
    size_t len = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    size_t groups = group_offsets(bytes, len, offsets, 16);
    uint64_t last = offsets[groups - 1], end = offsets[groups];
    long all = lab_count(&lab, 3, 40, NULL);
    struct rng rng;
    rng_seed(&rng, 5);
    for (int round = 0; round < 2000; round++) {
        uint64_t bit = rng_below(&rng, 8 * end);
        bytes = sim_disk_bytes(lab.disk, first_segment, &len);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        long found = lab_count(&lab, 3, 40, NULL);
        bytes = sim_disk_bytes(lab.disk, first_segment, &len);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(found == all || found == -2 || (bit / 8 >= last && found == all - 1));
    }
    lab_dispose(&lab);
}

static void every_flipped_bit_of_the_headers_in_the_middle_is_refused(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 6, 3, 1, 1, 4);
    uint64_t offsets[16];
    size_t len = 0;
    const uint8_t *before = sim_disk_bytes(lab.disk, first_segment, &len);
    assert_int_equal(group_offsets(before, len, offsets, 16), 3);
    uint64_t from = offsets[1], to = from + WAL_GROUP_HEADER_BYTES + WAL_RECORD_HEADER_BYTES;
    for (uint64_t bit = 8 * from; bit < 8 * to; bit++) {
        uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(lab_count(&lab, 1, 4, NULL), -2);
        assert_int_equal(lab.trail.code, PDB_DATA_LOSS);
        bytes = sim_disk_bytes(lab.disk, first_segment, &len);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    lab_dispose(&lab);
}

static void a_group_behind_a_hole_is_refused_with_file_and_offset(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 7, 3, 1, 1, 4);
    uint64_t offsets[16];
    char expected[64];
    size_t len = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    group_offsets(bytes, len, offsets, 16);
    memset(bytes + offsets[1], 0, 4096);
    assert_int_equal(lab_count(&lab, 1, 4, NULL), -2);
    assert_int_equal(lab.trail.code, PDB_DATA_LOSS);
    assert_non_null(strstr(lab.trail.text, first_segment));
    snprintf(expected, sizeof(expected), "at %llu", (unsigned long long)offsets[2]);
    assert_non_null(strstr(lab.trail.text, expected));
    assert_int_equal(lab_open(&lab), PDB_DATA_LOSS); /* the writer refuses too */
    lab_dispose(&lab);
}

static void swapped_and_copied_blocks_are_refused(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 8, 4, 1, 1, 4);
    uint64_t o[16];
    size_t len = 0;
    uint8_t saved[2 * 4096];
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    group_offsets(bytes, len, o, 16);
    memcpy(saved, bytes + o[1], 4096);
    memcpy(saved + 4096, bytes + o[2], 4096);
    memcpy(bytes + o[1], saved + 4096, 4096); /* swapped */
    memcpy(bytes + o[2], saved, 4096);
    assert_int_equal(lab_count(&lab, 1, 4, NULL), -2);
    bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    memcpy(bytes + o[1], saved, 4096);
    assert_int_equal(lab_count(&lab, 1, 4, NULL), -2); /* group 2 twice, group 3 lost */
    bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    memcpy(bytes + o[2], saved + 4096, 4096);
    assert_int_equal(lab_count(&lab, 1, 4, NULL), 4);
    bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    memcpy(bytes + o[4], bytes + o[3], 4096); /* a stale copy behind the end changes nothing */
    assert_int_equal(lab_count(&lab, 1, 4, NULL), 4);
    bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    memcpy(bytes + o[4] + 8192, bytes + o[3], 4096); /* the last group, written to a wrong place */
    memset(bytes + o[3], 0, 8192);
    assert_int_equal(lab_count(&lab, 1, 4, NULL), -2);
    lab_dispose(&lab);
}

/* ---- files ---- */

/* Three full segments and two more. */
static void make_long_log(struct lab *lab, uint64_t seed)
{
    lab_init(lab, seed);
    assert_int_equal(lab_open(lab), 0);
    while (lab->wal->current == NULL || lab->wal->current->seq < 4)
        lab_wait(lab, lab_append(lab, PDB_SYNC_ALWAYS, 20, 2000));
    lab_run_ms(lab, 1000);
    lab_crash(lab);
}

static void path_of(uint64_t seq, char path_out[WAL_PATH_MAX])
{
    assert_int_equal(wal_segment_path("wal/0", seq, path_out), 0);
}

static void a_deleted_segment_is_refused(void **state)
{
    (void)state;
    for (uint64_t seq = 1; seq <= 4; seq++) {
        struct lab lab;
        char path[WAL_PATH_MAX];
        make_long_log(&lab, 9);
        assert_true(lab_count(&lab, 20, 2000, NULL) > 10);
        path_of(seq, path);
        assert_int_equal(io_wait_unlink(lab.r->io, path), 0);
        assert_int_equal(io_wait_sync_dir(lab.r->io, "wal/0"), 0);
        assert_int_equal(lab_count(&lab, 20, 2000, NULL), -2);
        assert_int_equal(lab.trail.code, PDB_DATA_LOSS);
        assert_non_null(strstr(lab.trail.text, path));
        assert_int_equal(lab_open(&lab), PDB_DATA_LOSS);
        lab_dispose(&lab);
    }
}

static void a_renamed_or_copied_segment_is_refused(void **state)
{
    (void)state;
    struct lab lab;
    char from[WAL_PATH_MAX], to[WAL_PATH_MAX], aside[] = "wal/0/aside";
    make_long_log(&lab, 10);
    path_of(2, from);
    path_of(3, to);
    assert_int_equal(io_wait_rename(lab.r->io, from, aside), 0);
    assert_int_equal(io_wait_rename(lab.r->io, to, from), 0);
    assert_int_equal(io_wait_rename(lab.r->io, aside, to), 0);
    assert_int_equal(lab_count(&lab, 20, 2000, NULL), -2);
    assert_non_null(strstr(lab.trail.text, "copied or renamed"));
    lab_dispose(&lab);

    make_long_log(&lab, 11);
    size_t len2 = 0, len3 = 0;
    uint8_t *copy = malloc(4 << 20);
    memcpy(copy, sim_disk_bytes(lab.disk, from, &len2), 1 << 20);
    uint8_t *target = sim_disk_bytes(lab.disk, to, &len3);
    memcpy(target, copy, len2 < len3 ? len2 : len3);
    assert_int_equal(lab_count(&lab, 20, 2000, NULL), -2);
    free(copy);
    lab_dispose(&lab);
}

static void a_segment_of_another_log_is_refused(void **state)
{
    (void)state;
    struct lab lab;
    char path[WAL_PATH_MAX];
    make_long_log(&lab, 12);
    path_of(2, path);
    size_t len = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, path, &len);
    struct wal_segment_header header;
    assert_int_equal(wal_segment_header_get(bytes, len, &header), WAL_VALID);
    header.log.bytes[3] ^= 1;
    wal_segment_header_put(&header, bytes);
    assert_int_equal(lab_count(&lab, 20, 2000, NULL), -2);
    assert_non_null(strstr(lab.trail.text, "another log"));
    lab_dispose(&lab);
}

static void a_newer_format_is_refused_as_such(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 13, 1, 1, 1, 4);
    size_t len = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    struct wal_segment_header header;
    assert_int_equal(wal_segment_header_get(bytes, len, &header), WAL_VALID);
    header.format = WAL_FORMAT_VERSION + 1;
    wal_segment_header_put(&header, bytes);
    assert_int_equal(lab_count(&lab, 1, 4, NULL), -2);
    assert_int_equal(lab.trail.code, PDB_FAILED_PRECONDITION);
    assert_int_equal(lab_open(&lab), PDB_FAILED_PRECONDITION);
    lab_dispose(&lab);
}

static void an_empty_or_short_segment_file_is_refused(void **state)
{
    (void)state;
    static const size_t lens[] = {0, 1, 4095};
    for (size_t i = 0; i < 3; i++) {
        struct lab lab;
        make_log(&lab, 14, 1, 1, 1, 4);
        assert_int_equal(sim_disk_resize(lab.disk, first_segment, lens[i]), 0);
        assert_int_equal(lab_count(&lab, 1, 4, NULL), -2);
        assert_int_equal(lab.trail.code, PDB_DATA_LOSS);
        lab_dispose(&lab);
    }
}

static void unfinished_files_are_removed_by_a_start(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 15, 1, 1, 1, 4);
    for (int i = 0; i < 40; i++) {
        char path[64];
        snprintf(path, sizeof(path), i % 2 != 0 ? "wal/0/tmp-%d" : "wal/0/free-%d", i);
        int64_t file = io_wait_open(lab.r->io, path, IO_OPEN_WRITE | IO_OPEN_CREATE);
        assert_true(file >= 0);
        assert_int_equal(io_wait_close(lab.r->io, (int)file), 0);
    }
    goes_on(&lab, 1, 1, 4);
    assert_int_equal(io_wait_open(lab.r->io, "wal/0/tmp-1", IO_OPEN_READ), -ENOENT);
    assert_int_equal(io_wait_open(lab.r->io, "wal/0/free-38", IO_OPEN_READ), -ENOENT);
    lab_dispose(&lab);
}

/* ---- reading ---- */

static void a_flipped_bit_of_a_single_read_loses_nothing(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 16, 6, 2, 3, 40);
    int damaged = 0;
    for (int round = 0; round < 300; round++) {
        struct sim_faults faults = {.bit_flip = 0.05};
        sim_disk_set_faults(lab.disk, &faults);
        struct lab_found found;
        struct wal_scan *scan = NULL;
        int rc = lab_scan(&lab, &found, &scan);
        if (rc == 0)
            assert_int_equal(found.count, 12);
        damaged += rc != 0;
        wal_scan_close(scan);
        free(found.infos);
    }
    assert_true(damaged < 30); /* two flips in a row at the same place are told, not believed */
    lab_dispose(&lab);
}

static void a_read_error_is_told_as_such(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 17, 3, 1, 1, 4);
    struct sim_faults faults = {.read_error = 1};
    sim_disk_set_faults(lab.disk, &faults);
    assert_int_equal(lab_count(&lab, 1, 4, NULL), -2);
    assert_int_equal(lab.trail.code, PDB_UNAVAILABLE);
    lab_dispose(&lab);
}

static void a_scan_without_bodies_still_proves_the_last_group(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 18, 3, 1, 2, 20);
    uint64_t offsets[16];
    size_t len = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    size_t groups = group_offsets(bytes, len, offsets, 16);
    bytes[offsets[groups - 1] + WAL_GROUP_HEADER_BYTES + WAL_RECORD_HEADER_BYTES + 70] ^= 1;
    struct lab_found found;
    struct wal_scan *scan;
    assert_int_equal(lab_scan_options(&lab, false, &found, &scan), 0);
    assert_int_equal(found.count, 2);
    wal_scan_close(scan);
    free(found.infos);
    /* In the middle it is believed here, and found when the record is read. */
    bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    bytes[offsets[groups - 1] + WAL_GROUP_HEADER_BYTES + WAL_RECORD_HEADER_BYTES + 70] ^= 1;
    bytes[offsets[1] + WAL_GROUP_HEADER_BYTES + WAL_RECORD_HEADER_BYTES + 70] ^= 1;
    assert_int_equal(lab_scan_options(&lab, false, &found, &scan), 0);
    assert_int_equal(found.count, 3);
    struct arena arena = {0};
    struct wal_batch batch;
    assert_int_equal(wal_read_batch(scan, &found.infos[1].place, &arena, &batch, NULL),
                     PDB_DATA_LOSS);
    assert_int_equal(wal_read_batch(scan, &found.infos[2].place, &arena, &batch, NULL), 0);
    arena_dispose(&arena);
    wal_scan_close(scan);
    free(found.infos);
    lab_dispose(&lab);
}

static int stop_at_second(void *arg, const struct wal_record_info *info)
{
    (void)info;
    return ++*(int *)arg == 2 ? PDB_CANCELLED : 0;
}

static void a_visitor_can_stop_the_scan(void **state)
{
    (void)state;
    struct lab lab;
    static const char *const dirs[] = {"wal"};
    int seen = 0;
    make_log(&lab, 19, 3, 1, 1, 4);
    struct wal_scan_options options = {
        .dirs = dirs, .dir_count = 1, .visit = stop_at_second, .arg = &seen};
    struct wal_scan *scan = NULL;
    assert_int_equal(wal_scan_open(lab.r->io, &options, &scan, NULL), PDB_CANCELLED);
    assert_int_equal(seen, 2);
    assert_null(scan);
    lab_dispose(&lab);
}

static void cores_share_the_logs_and_places_are_the_same_for_all(void **state)
{
    (void)state;
    struct lab lab;
    static const char *const dirs[] = {"wal"};
    char dir[16];
    lab_init(&lab, 20);
    for (int core = 0; core < 5; core++) {
        snprintf(dir, sizeof(dir), "wal/%d", core);
        lab.options.dir = dir;
        assert_int_equal(lab_open(&lab), 0);
        lab_append(&lab, PDB_SYNC_ALWAYS, 2, 8);
        lab_wait_all(&lab);
        wal_close(lab.wal);
        lab.wal = NULL;
    }
    size_t total = 0;
    for (unsigned first = 0; first < 2; first++) {
        struct lab_found found = {0};
        struct wal_scan *mine = NULL, *other = NULL;
        struct wal_scan_options options = {.dirs = dirs,
                                           .dir_count = 1,
                                           .first = first,
                                           .stride = 2,
                                           .visit = lab_visit,
                                           .arg = &found};
        struct wal_scan_options foreign = {.dirs = dirs, .dir_count = 1, .first = 7, .stride = 8};
        assert_int_equal(wal_scan_open(lab.r->io, &options, &mine, NULL), 0);
        assert_int_equal(wal_scan_open(lab.r->io, &foreign, &other, NULL), 0);
        for (size_t i = 0; i < found.count; i++) {
            struct arena arena = {0};
            struct wal_batch batch;
            if (found.infos[i].type == WAL_RECORD_ROWS) {
                total++;
                assert_int_equal(found.infos[i].place.log % 2, first);
                /* a scan that read none of it, as another core's */
                assert_int_equal(wal_read_batch(other, &found.infos[i].place, &arena, &batch, NULL),
                                 0);
                assert_int_equal(batch.version, found.infos[i].place.log + 1);
            }
            arena_dispose(&arena);
        }
        free(found.infos);
        wal_scan_close(mine);
        wal_scan_close(other);
    }
    assert_int_equal(total, 5);
    lab_dispose(&lab);
}

static void no_directory_is_an_empty_log(void **state)
{
    (void)state;
    struct lab lab;
    struct wal_scan_stats stats;
    lab_init(&lab, 21);
    assert_int_equal(lab_count(&lab, 1, 1, &stats), 0);
    assert_int_equal(stats.logs, 0);
    assert_true(stats.clean);
    lab_dispose(&lab);
}

static void the_nth_allocation_of_a_scan_failing_is_told(void **state)
{
    (void)state;
    struct lab lab;
    make_log(&lab, 22, 2, 1, 1, 4);
    static const char *const dirs[] = {"wal"};
    int rc = PDB_RESOURCE_EXHAUSTED;
    uint64_t n = 1;
    for (; rc == PDB_RESOURCE_EXHAUSTED; n++) {
        struct heap heap = {.fail_at = n};
        struct wal_scan_options options = {.dirs = dirs, .dir_count = 1, .heap = &heap};
        struct wal_scan *scan = NULL;
        rc = wal_scan_open(lab.r->io, &options, &scan, NULL);
        wal_scan_close(scan);
        assert_int_equal(heap.bytes_used, 0);
    }
    assert_int_equal(rc, 0);
    assert_true(n > 4);
    lab_dispose(&lab);
}

/* ---- check ---- */

struct lines {
    int damage, info;
    char last[1024];
};

static void collect_line(void *arg, const char *line)
{
    struct lines *lines = arg;
    lines->damage += strstr(line, "\"severity\":\"damage\"") != NULL;
    lines->info += strstr(line, "\"severity\":\"info\"") != NULL;
    assert_int_equal(line[0], '{');
    assert_int_equal(line[strlen(line) - 1], '}');
    snprintf(lines->last, sizeof(lines->last), "%s", line);
}

static int check(struct lab *lab, struct lines *lines)
{
    static const char *const dirs[] = {"wal"};
    memset(lines, 0, sizeof(*lines));
    return wal_check(lab->r->io, dirs, 1, collect_line, lines, &lab->trail);
}

static void check_reports_damage_with_file_and_offset(void **state)
{
    (void)state;
    struct lab lab;
    struct lines lines;
    lab_init(&lab, 23);
    assert_int_equal(lab_open(&lab), 0);
    for (int i = 0; i < 3; i++)
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 2, 20));
    lab_stop(&lab);
    lab_boot(&lab);
    assert_int_equal(check(&lab, &lines), 0);
    assert_int_equal(lines.damage + lines.info, 0);

    uint64_t offsets[16];
    size_t len = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    group_offsets(bytes, len, offsets, 16);
    bytes[offsets[1] + 250] ^= 1;
    assert_int_equal(check(&lab, &lines), PDB_DATA_LOSS);
    assert_int_equal(lines.damage, 1);
    assert_non_null(strstr(lines.last, first_segment));
    assert_non_null(strstr(lines.last, "\"offset\":"));
    lab_dispose(&lab);
}

static void check_calls_a_torn_tail_no_damage(void **state)
{
    (void)state;
    struct lab lab;
    struct lines lines;
    make_log(&lab, 24, 3, 1, 2, 20);
    uint64_t offsets[16];
    size_t len = 0;
    uint8_t *bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    size_t groups = group_offsets(bytes, len, offsets, 16);
    assert_int_equal(check(&lab, &lines), 0);
    assert_int_equal(lines.info, 1); /* not stopped cleanly */
    bytes = sim_disk_bytes(lab.disk, first_segment, &len);
    bytes[offsets[groups - 1] + 70] ^= 1;
    assert_int_equal(check(&lab, &lines), 0);
    assert_int_equal(lines.info, 1);
    assert_non_null(strstr(lines.last, "torn"));
    lab_dispose(&lab);
}

/* ---- golden files ---- */

static void put_file(struct lab *lab, const char *path, const uint8_t *bytes, size_t len)
{
    int64_t out = io_wait_open(lab->r->io, path, IO_OPEN_WRITE | IO_OPEN_CREATE);
    assert_true(out >= 0);
    assert_int_equal(io_wait_write(lab->r->io, (int)out, bytes, len, 0, 0), (int64_t)len);
    io_wait_close(lab->r->io, (int)out);
    assert_int_equal(io_wait_sync_dir(lab->r->io, "wal/0"), 0);
}

static void the_golden_segments_stay_readable(void **state)
{
    (void)state;
    static const char *const names[] = {"v1_binary.wal", "v1_avro.wal", "v2_binary.wal",
                                        "v2_avro.wal", "v2_truncated.wal"};
    for (int e = 0; e < 5; e++) {
        struct lab lab;
        char path[512];
        uint8_t bytes[16384];
        lab_init(&lab, 25);
        snprintf(path, sizeof(path), "%s/tests/format/wal/%s", SOURCE_ROOT, names[e]);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        size_t len = fread(bytes, 1, sizeof(bytes), file);
        fclose(file);
        assert_int_equal(io_wait_make_dir(lab.r->io, "wal"), 0);
        assert_int_equal(io_wait_make_dir(lab.r->io, "wal/0"), 0);
        put_file(&lab, e == 4 ? "wal/0/0000000000000003.wal" : first_segment, bytes, len);
        struct lab_found found;
        struct wal_scan *scan;
        assert_int_equal(lab_scan(&lab, &found, &scan), 0);
        assert_int_equal(found.count, 4);
        for (uint64_t i = 0; i < 3; i++) {
            struct fixture_batch expected;
            struct wal_batch batch;
            struct arena arena = {0};
            fixture_batch_make(&expected, i + 1, (uint32_t)i + 1, 6);
            assert_int_equal(wal_read_batch(scan, &found.infos[i].place, &arena, &batch, NULL), 0);
            assert_true(fixture_batch_equal(&expected.batch, &batch));
            assert_int_equal(found.infos[i].encoding, e % 2);
            fixture_batch_free(&expected);
            arena_dispose(&arena);
        }
        assert_int_equal(found.infos[3].type, WAL_RECORD_CLOSE);
        free(found.infos);
        wal_scan_close(scan);
        /* And a log goes on behind it: formats are mixed in one chain then. */
        assert_int_equal(lab_open(&lab), 0);
        lab_wait(&lab, lab_append(&lab, PDB_SYNC_ALWAYS, 1, 4));
        assert_int_equal(lab.failed_count, 0);
        lab_crash(&lab);
        assert_int_equal(lab_scan(&lab, &found, &scan), 0);
        assert_int_equal(found.count, 5);
        free(found.infos);
        wal_scan_close(scan);
        lab_dispose(&lab);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_group_cut_at_every_byte_is_dropped_and_the_rest_survives),
        cmocka_unit_test(a_file_cut_at_every_byte_of_its_last_group_is_a_torn_tail),
        cmocka_unit_test(every_mask_of_sectors_of_a_block_is_whole_or_torn),
        cmocka_unit_test(old_bytes_under_a_torn_group_are_no_group),
        cmocka_unit_test(any_flipped_bit_is_refused_truncated_or_without_effect),
        cmocka_unit_test(every_flipped_bit_of_the_headers_in_the_middle_is_refused),
        cmocka_unit_test(a_group_behind_a_hole_is_refused_with_file_and_offset),
        cmocka_unit_test(swapped_and_copied_blocks_are_refused),
        cmocka_unit_test(a_deleted_segment_is_refused),
        cmocka_unit_test(a_renamed_or_copied_segment_is_refused),
        cmocka_unit_test(a_segment_of_another_log_is_refused),
        cmocka_unit_test(a_newer_format_is_refused_as_such),
        cmocka_unit_test(an_empty_or_short_segment_file_is_refused),
        cmocka_unit_test(unfinished_files_are_removed_by_a_start),
        cmocka_unit_test(a_flipped_bit_of_a_single_read_loses_nothing),
        cmocka_unit_test(a_read_error_is_told_as_such),
        cmocka_unit_test(a_scan_without_bodies_still_proves_the_last_group),
        cmocka_unit_test(a_visitor_can_stop_the_scan),
        cmocka_unit_test(cores_share_the_logs_and_places_are_the_same_for_all),
        cmocka_unit_test(no_directory_is_an_empty_log),
        cmocka_unit_test(the_nth_allocation_of_a_scan_failing_is_told),
        cmocka_unit_test(check_reports_damage_with_file_and_offset),
        cmocka_unit_test(check_calls_a_torn_tail_no_damage),
        cmocka_unit_test(the_golden_segments_stay_readable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
