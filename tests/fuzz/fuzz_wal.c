/* Arbitrary bytes as the segments of a log: the scan, the reading of every record and the check
 * must end with an answer.
 *
 * Input: a byte of choices (also: where the log begins, and how the file was made), then the
 * segment's content. Checksums would keep the fuzzer at the
 * door, so unless the choice says otherwise they are made right first: the segment's header is
 * written, and each group and record that has a plausible length gets its sums, with the numbers
 * that the scan will expect. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "os/sim.h"
#include "wal/wal_format.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LEN_MAX = 64 << 10, RAW = 1, SPLIT = 2, LATER = 4, RECYCLED = 8, LEFTOVER = 16, OLD = 32 };

static const struct uuid segment_uuid = {{7, 7, 7}};

static uint32_t seed_of(uint64_t number)
{
    uint8_t seed[24];
    memcpy(seed, segment_uuid.bytes, 16);
    bytes_put_u64(seed + 16, number);
    return crc32c(0, seed, sizeof(seed));
}

/* Makes one record's sums right; its length, 0: not plausible. */
static size_t mend_record(uint8_t *at, size_t len, uint64_t lsn)
{
    if (len < WAL_RECORD_HEADER_BYTES)
        return 0;
    size_t header_len = bytes_get_u32(at + 4), body_len = (size_t)bytes_get_u64(at + 16);
    if (header_len < WAL_RECORD_HEADER_BYTES || header_len > len || body_len > len - header_len)
        return 0;
    size_t record_len = header_len + bytes_align_up(body_len, WAL_ALIGNMENT);
    if (record_len > len)
        return 0;
    bytes_put_u64(at + 8, record_len);
    bytes_put_u32(at + 92, crc32c(0, at + header_len, body_len));
    if (at[29] == WAL_ENCODING_AVRO && bytes_get_u64(at + 96) % 2 == 0)
        bytes_put_u64(at + 96, WAL_AVRO_FINGERPRINT);
    bytes_put_u32(at, crc32c(seed_of(lsn), at + 4, header_len - 4));
    return record_len;
}

static void mend(uint8_t *bytes, size_t len, const struct wal_begin *begin)
{
    uint64_t group_seq = begin->group_seq, lsn = begin->lsn;
    uint32_t prev = begin->prev_group_crc;
    for (size_t at = WAL_SEGMENT_HEADER_BYTES; at + WAL_GROUP_HEADER_BYTES <= len;) {
        uint32_t count = bytes_get_u32(bytes + at + 12) % 8;
        size_t used = WAL_GROUP_HEADER_BYTES, record;
        uint32_t done = 0;
        while (done < count &&
               (record = mend_record(bytes + at + used, len - at - used, lsn + done)) != 0) {
            used += record;
            done++;
        }
        struct wal_group_header header = {.record_count = done,
                                          .group_seq = group_seq++,
                                          .first_lsn = lsn,
                                          .body_len = used - WAL_GROUP_HEADER_BYTES,
                                          .prev_group_crc = prev,
                                          .begin = *begin};
        prev = wal_group_header_put(&header, &segment_uuid, bytes + at);
        lsn += done;
        at += bytes_align_up(used, WAL_BLOCK_BYTES_MIN);
    }
}

static void put_file(struct io *io, const char *path, const uint8_t *bytes, size_t len)
{
    int64_t file = io_wait_open(io, path, IO_OPEN_WRITE | IO_OPEN_CREATE);
    if (file < 0 || io_wait_write(io, (int)file, bytes, len, 0, 0) != (int64_t)len)
        abort();
    (void)io_wait_close(io, (int)file);
}

static void put_segment(struct io *io, uint64_t seq, uint8_t *bytes, size_t len, uint8_t choices)
{
    char path[] = "wal/0/0000000000000001.wal";
    struct wal_segment_header header = {.format = (choices & OLD) != 0 ? 1 : 2,
                                        .flags =
                                            (choices & RECYCLED) != 0 ? WAL_SEGMENT_RECYCLED : 0,
                                        .block_bytes = 4096,
                                        .log = {{1}},
                                        .segment = segment_uuid,
                                        .seq = seq,
                                        .size = LEN_MAX};
    path[21] = (char)('0' + seq);
    wal_segment_header_put(&header, bytes);
    put_file(io, path, bytes, len);
}

struct visit {
    struct wal_scan *scan;
    struct wal_place places[64];
    size_t count;
};

static int visit(void *arg, const struct wal_record_info *info)
{
    struct visit *v = arg;
    if (v->count < sizeof(v->places) / sizeof(v->places[0]))
        v->places[v->count++] = info->place;
    return 0;
}

static void ignore_line(void *arg, const char *line)
{
    (void)arg;
    if (line[0] != '{')
        abort();
}

static void read_all(struct io *io)
{
    static const char *const dirs[] = {"wal"};
    struct visit v = {0};
    struct trail trail = {0};
    struct wal_scan_options options = {
        .dirs = dirs, .dir_count = 1, .check_bodies = true, .visit = visit, .arg = &v};
    struct wal_scan *scan = NULL;
    int rc = wal_scan_open(io, &options, &scan, &trail);
    if (rc != 0 && trail.len == 0)
        abort(); /* every refusal says why */
    for (size_t i = 0; scan != NULL && i < v.count; i++) {
        struct arena arena;
        struct wal_batch batch;
        arena_init(&arena, 8 << 20);
        if (wal_read_batch(scan, &v.places[i], &arena, &batch, NULL) == 0)
            for (uint32_t row = 0; row < batch.row_count; row++)
                if (batch.rows[row].id.len > PDB_ID_BYTES_MAX ||
                    batch.rows[row].version != batch.version)
                    abort();
        arena_dispose(&arena);
    }
    wal_scan_close(scan);
    trail_reset(&trail);
    (void)wal_check(io, dirs, 1, ignore_line, NULL, &trail);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[WAL_SEGMENT_HEADER_BYTES + LEN_MAX];
    if (size < 1 || size - 1 > LEN_MAX)
        return 0;
    size_t len = WAL_SEGMENT_HEADER_BYTES + size - 1;
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes + WAL_SEGMENT_HEADER_BYTES, data + 1, size - 1);
    len = bytes_align_up(len, WAL_BLOCK_BYTES_MIN);

    struct sim_disk *disk = sim_disk_new(1);
    struct io *io = NULL;
    if (disk == NULL || sim_io_create(disk, &io) != 0)
        abort();
    if (io_wait_make_dir(io, "wal") != 0 || io_wait_make_dir(io, "wal/0") != 0)
        abort();
    struct wal_begin begin = {1, 1, 1, 0};
    if ((data[0] & LATER) != 0)
        begin = (struct wal_begin){2, 5, 9, 77};
    if ((data[0] & RAW) == 0)
        mend(bytes, len, &begin);
    if ((data[0] & LEFTOVER) != 0)
        put_segment(io, 1, bytes, len, data[0]);
    put_segment(io, begin.seq, bytes, len, data[0]);
    if ((data[0] & SPLIT) != 0)
        put_segment(io, begin.seq + 1, bytes, len, data[0]);
    read_all(io);
    io->ops->destroy(io);
    sim_disk_free(disk);
    return 0;
}
