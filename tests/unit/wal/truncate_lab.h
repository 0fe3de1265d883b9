/* Logs of batches that are easy to tell, and what is left of them. Include wal_fixture.h's headers
 * before. */
#ifndef TESTS_UNIT_WAL_TRUNCATE_LAB_H
#define TESTS_UNIT_WAL_TRUNCATE_LAB_H

#include "wal_lab.h"

enum { ROWS = 20, FLOATS = 2000, COLLECTIONS = 5 };

/* Batches of about 130 KiB, versions 1, 2, 3, ..., of five collections in turn, until the log has
 * reached a segment. */
static inline void fill_to(struct lab *lab, uint64_t seq)
{
    while (lab->wal->current == NULL || lab->wal->current->seq < seq)
        lab_wait(lab, lab_append(lab, PDB_SYNC_ALWAYS, ROWS, FLOATS));
    assert_int_equal(lab->failed_count, 0);
}

static inline void release(struct lab *lab, uint64_t number, uint64_t version)
{
    struct uuid uuid = lab_collection(number);
    wal_release(lab->wal, &uuid, version);
}

static inline void release_all(struct lab *lab, uint64_t version)
{
    for (uint64_t i = 0; i < COLLECTIONS; i++)
        release(lab, i, version);
}

enum name { LIVE_NAME, FREE_NAME };

static inline bool exists(struct lab *lab, enum name name, uint64_t seq)
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
static inline void holds_exactly(struct lab *lab, uint64_t from, uint64_t to)
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
static inline uint64_t first_version_in(struct lab *lab, uint64_t seq)
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

static inline struct wal_stats stats_of(const struct lab *lab)
{
    struct wal_stats stats;
    wal_stats(lab->wal, &stats);
    return stats;
}

static inline void open_and_fill(struct lab *lab, uint64_t seed, uint64_t seq)
{
    lab_init(lab, seed);
    assert_int_equal(lab_open(lab), 0);
    fill_to(lab, seq);
    lab_run_ms(lab, 300);
}

#endif
