/* wal_scan.c: reads logs and finds where each of them ends. Pure reading: nothing is changed but
 * for syncing.
 *
 * A log is the segments `<seq>.wal` of one directory. Names are given after their content is
 * durable, one number after the other, so a file that does not validate is damage, and so is a gap
 * in the numbers, from the log's beginning on. Where that is, the newest whole group says: it is
 * looked for first, from the last file backwards, by the headers of one segment. The groups form
 * one chain through all segments: each names its number, and the checksum of the one before it.
 * The walk goes
 *
 *     segment 1: g1 g2 g3 -    segment 2: g4 -    segment 3: - (made ahead, empty)
 *
 * and where a group does not continue the chain, it looks at the first block of each later segment,
 * for a log changes segments without a mark. Where nothing continues, the log ends.
 *
 * What then lies behind the end decides (rule W12). Only one group is ever in flight, so a crash
 * can leave one torn group and nothing behind it. A valid header with a number at or above the
 * expected one anywhere else proves that a completed write is missing: the scan refuses, with file
 * and offset, because cutting there would lose acknowledged data in silence. The torn group itself
 * may well have a whole header; it stands exactly where the next group was due.
 *
 * A group counts only when all its records are whole. With check_bodies that is tested at once.
 * Without, the header chain is trusted up to the last group: its successor was written after its
 * own write had completed. The last one has no successor, so its bodies are tested in either case,
 * and no record is told before its group is proven.
 *
 * A group that does not validate is read twice before it is believed, since a transfer can flip a
 * bit that the medium has right, and the price of believing is acknowledged data.
 *
 * Memory is one window of 1 MiB and a few words per segment, whatever the sizes of records. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "wal/wal_internal.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

enum { HEADER_VIEW = WAL_HEADER_BYTES_MAX, BODY_VIEW = 256 << 10, SEGMENT_MAX = 1 << 24 };

int wal_segment_path(const char *dir, uint64_t seq, char path_out[WAL_PATH_MAX])
{
    int len = snprintf(path_out, WAL_PATH_MAX, "%s/%016" PRIx64 ".wal", dir, seq);
    return len > 0 && len < WAL_PATH_MAX ? 0 : PDB_INVALID_ARGUMENT;
}

static int64_t tolerate_read_only(int64_t result)
{
    return result == -EROFS || result == -EINVAL ? 0 : result;
}

static int io_failed(struct trail *trail, int64_t error, const char *what, const char *path)
{
    const char *name = strerrorname_np((int)-error);
    return trail_add(trail, PDB_UNAVAILABLE, "%s %s: %s", what, path,
                     name != NULL ? name : "error");
}

/* ---- names ---- */

static bool parse_number(const char *name, const char *suffix, int base, uint64_t *number_out)
{
    uint64_t value = 0;
    const char *at = name;
    for (; *at != '\0' && strcmp(at, suffix) != 0; at++) {
        int digit = *at >= '0' && *at <= '9'   ? *at - '0'
                    : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10
                                               : 99;
        if (digit >= base || at - name >= 16)
            return false;
        value = value * (unsigned)base + (unsigned)digit;
    }
    if (at == name || strcmp(at, suffix) != 0)
        return false;
    *number_out = value;
    return true;
}

struct names {
    struct heap *heap;
    uint64_t *numbers;
    size_t count, capacity;
    const char *suffix;
    int base;
    bool failed;
};

static void collect_number(void *arg, const char *name)
{
    struct names *names = arg;
    uint64_t number;
    if (!parse_number(name, names->suffix, names->base, &number) || names->failed)
        return;
    if (names->count == names->capacity) {
        size_t capacity = names->capacity != 0 ? 2 * names->capacity : 16;
        uint64_t *numbers = heap_realloc(names->heap, names->numbers, capacity * sizeof(*numbers));
        if (numbers == NULL) {
            names->failed = true;
            return;
        }
        names->numbers = numbers;
        names->capacity = capacity;
    }
    size_t at = names->count++;
    for (; at > 0 && names->numbers[at - 1] > number; at--)
        names->numbers[at] = names->numbers[at - 1];
    names->numbers[at] = number;
}

/* The sorted numbers of the entries of `path`; the caller frees names->numbers. */
static int list_numbers(struct wal_scan *scan, const char *path, struct names *names,
                        struct trail *trail)
{
    int rc = scan->io->ops->list_dir(scan->io, path, collect_number, names);
    if (names->failed)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for the names in %s", path);
    return rc < 0 && rc != -ENOENT ? io_failed(trail, rc, "list", path) : 0;
}

static int add_log(struct wal_scan *scan, const char *path, struct trail *trail)
{
    if (scan->log_count == scan->log_capacity) {
        uint32_t capacity = scan->log_capacity != 0 ? 2 * scan->log_capacity : 8;
        struct wal_scan_log *logs = heap_realloc(scan->heap, scan->logs, capacity * sizeof(*logs));
        if (logs == NULL)
            return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for the logs");
        scan->logs = logs;
        scan->log_capacity = capacity;
    }
    char *copy = heap_copy_text(scan->heap, path, strlen(path));
    if (copy == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for the logs");
    scan->logs[scan->log_count++] = (struct wal_scan_log){.path = copy, .clean = true};
    return 0;
}

static int list_segments(struct wal_scan *scan, struct wal_scan_log *log, struct trail *trail)
{
    struct names names = {.heap = scan->heap, .suffix = ".wal", .base = 16};
    int rc = list_numbers(scan, log->path, &names, trail);
    if (rc == 0 && names.count != 0) {
        log->segments = heap_calloc(scan->heap, names.count, sizeof(*log->segments));
        if (log->segments == NULL)
            rc = trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for the segments of %s",
                           log->path);
    }
    for (size_t i = 0; rc == 0 && i < names.count; i++)
        log->segments[log->segment_count++].seq = names.numbers[i];
    heap_free(scan->heap, names.numbers);
    return rc;
}

static int list_logs(struct wal_scan *scan, const char *dir, struct trail *trail)
{
    struct names names = {.heap = scan->heap, .suffix = "", .base = 10};
    int rc = list_numbers(scan, dir, &names, trail);
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        char path[WAL_PATH_MAX];
        int len = snprintf(path, sizeof(path), "%s/%" PRIu64, dir, names.numbers[i]);
        if (len <= 0 || len >= WAL_PATH_MAX)
            rc = trail_add(trail, PDB_INVALID_ARGUMENT, "path too long: %s", dir);
        else
            rc = add_log(scan, path, trail);
    }
    heap_free(scan->heap, names.numbers);
    return rc;
}

/* ---- the window ---- */

static void window_close(struct wal_scan *scan)
{
    if (scan->window.file >= 0)
        (void)io_wait_close(scan->io, scan->window.file);
    scan->window.file = -1;
    scan->window.len = 0;
}

/* Makes a segment the one that is read. */
static int window_open(struct wal_scan *scan, uint32_t log, uint32_t segment, struct trail *trail)
{
    if (scan->window.file >= 0 && scan->window.log == log && scan->window.segment == segment)
        return 0;
    window_close(scan);
    struct wal_scan_log *l = &scan->logs[log];
    int rc = wal_segment_path(l->path, l->segments[segment].seq, scan->bad_path);
    if (rc < 0)
        return trail_add(trail, rc, "path too long: %s", l->path);
    int64_t file = io_wait_open(scan->io, scan->bad_path, IO_OPEN_READ);
    if (file < 0)
        return io_failed(trail, file, "open", scan->bad_path);
    scan->window.file = (int)file;
    scan->window.log = log;
    scan->window.segment = segment;
    int64_t size = scan->io->ops->file_size(scan->io, (int)file);
    if (size < 0)
        return io_failed(trail, size, "size of", scan->bad_path);
    l->segments[segment].file_bytes = (uint64_t)size;
    return 0;
}

/* `len` bytes at `offset` of the open segment, in memory; `len` within the window and the file. */
static int window_get(struct wal_scan *scan, uint64_t offset, uint64_t len,
                      const uint8_t **bytes_out, struct trail *trail)
{
    ASSERT(len <= WAL_WINDOW_BYTES - WAL_BLOCK_BYTES_MIN);
    scan->bad_offset = offset;
    if (offset < scan->window.start || offset + len > scan->window.start + scan->window.len) {
        uint64_t start = offset & ~(uint64_t)(WAL_BLOCK_BYTES_MIN - 1), have = 0;
        uint64_t span = scan->window.ahead;
        while (span < offset + len - start)
            span *= 2; /* ends at WAL_WINDOW_BYTES, which is a power of two as well */
        scan->window.len = 0;
        while (have < offset + len - start) {
            int64_t got = io_wait_read(scan->io, scan->window.file, scan->window.bytes + have,
                                       span - have, start + have);
            if (got == -EINTR || got == -EAGAIN)
                continue;
            if (got <= 0)
                return io_failed(trail, got < 0 ? got : -EIO, "read", scan->bad_path);
            have += (uint64_t)got;
        }
        scan->window.start = start;
        scan->window.len = have;
    }
    *bytes_out = scan->window.bytes + (offset - scan->window.start);
    return 0;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- segments ---- */

static int damaged(struct wal_scan *scan, struct trail *trail, const char *what)
{
    return trail_add(trail, PDB_DATA_LOSS,
                     "%s at %" PRIu64 ": %s (proximadb check --salvage saves what is readable)",
                     scan->bad_path, scan->bad_offset, what);
}

static int newer(struct wal_scan *scan, struct trail *trail)
{
    return trail_add(trail, PDB_FAILED_PRECONDITION,
                     "%s at %" PRIu64 ": written by a newer version", scan->bad_path,
                     scan->bad_offset);
}

static int read_segment_header(struct wal_scan *scan, uint32_t log, uint32_t segment,
                               struct trail *trail)
{
    struct wal_scan_segment *s = &scan->logs[log].segments[segment];
    struct wal_segment_header header;
    enum wal_verdict verdict = WAL_INVALID;
    int rc = window_open(scan, log, segment, trail);
    if (rc < 0)
        return rc;
    scan->bad_offset = 0;
    if (s->file_bytes < WAL_SEGMENT_HEADER_BYTES)
        return damaged(scan, trail, "shorter than a segment's header");
    for (int attempt = 0; attempt < 2 && verdict == WAL_INVALID; attempt++) {
        const uint8_t *bytes = NULL;
        scan->window.len = 0;
        rc = window_get(scan, 0, WAL_SEGMENT_HEADER_BYTES, &bytes, trail);
        if (rc < 0)
            return rc;
        verdict = wal_segment_header_get(bytes, WAL_SEGMENT_HEADER_BYTES, &header);
    }
    if (verdict == WAL_NEWER)
        return newer(scan, trail);
    if (verdict == WAL_INVALID)
        return damaged(scan, trail, "not a segment's header");
    if (header.seq != s->seq)
        return damaged(scan, trail, "the header belongs to another segment: copied or renamed");
    s->uuid = header.segment;
    s->block_bytes = header.block_bytes;
    s->size = header.size;
    s->format = header.format;
    s->recycled = (header.flags & WAL_SEGMENT_RECYCLED) != 0;
    s->known = true;
    s->valid_end = s->dirty_end = WAL_SEGMENT_HEADER_BYTES;
    if (!scan->logs[log].known)
        scan->logs[log].uuid = header.log;
    scan->logs[log].known = true;
    if (!uuid_equal(&scan->logs[log].uuid, &header.log))
        return damaged(scan, trail, "a segment of another log");
    return 0;
}

/* Rule W10: what is shown now must not vanish later, so all of it is synced before it is read. */
static int sync_log(struct wal_scan *scan, uint32_t log, struct trail *trail)
{
    struct wal_scan_log *l = &scan->logs[log];
    for (uint32_t i = 0; i < l->segment_count; i++) {
        int rc = window_open(scan, log, i, trail);
        if (rc < 0)
            return rc;
        int64_t result = tolerate_read_only(io_wait_sync(scan->io, scan->window.file));
        if (result < 0)
            return io_failed(trail, result, "sync", scan->bad_path);
    }
    int64_t result =
        l->segment_count != 0 ? tolerate_read_only(io_wait_sync_dir(scan->io, l->path)) : 0;
    return result < 0 ? io_failed(trail, result, "sync", l->path) : 0;
}

/* ---- groups ---- */

struct walk {
    struct wal_scan *scan;
    const struct wal_scan_options *options;
    struct trail *trail;
    uint32_t log;
    struct wal_scan_point at; /* what the next group must be */
    uint64_t begin_seq;       /* as the last accepted group says; 0: there was none */
    bool last_is_close;
};

static int body_matches(struct walk *walk, uint64_t offset, const struct wal_record_header *record,
                        bool *matches_out)
{
    uint32_t crc = 0;
    for (uint64_t done = 0; done < record->body_len;) {
        uint64_t piece = min_u64(BODY_VIEW, record->body_len - done);
        const uint8_t *bytes = NULL;
        int rc = window_get(walk->scan, offset + done, piece, &bytes, walk->trail);
        if (rc < 0)
            return rc;
        crc = crc32c(crc, bytes, piece);
        done += piece;
    }
    *matches_out = crc == record->body_crc;
    return 0;
}

static struct wal_record_info info_of(const struct walk *walk,
                                      const struct wal_record_header *record,
                                      const struct wal_scan_point *at, uint64_t offset,
                                      uint64_t lsn)
{
    return (struct wal_record_info){
        .log = walk->scan->logs[walk->log].uuid,
        .type = (enum wal_record_type)record->type,
        .encoding = (enum wal_encoding)record->encoding,
        .collection = record->collection,
        .shard = record->shard,
        .row_count = record->row_count,
        .version = record->version,
        .lsn = lsn,
        .place =
            {
                .log = walk->log,
                .segment = at->segment,
                .offset = offset,
                .len = record->len,
                .lsn = lsn,
            },
    };
}

enum { CHECK_BODIES = 1, TELL = 2 };

/* Walks the records of a group whose header is valid. *valid_out: all were as they should be. */
static int walk_records(struct walk *walk, const struct wal_scan_point *at,
                        const struct wal_group_header *group, unsigned what, bool *valid_out)
{
    struct wal_scan *scan = walk->scan;
    const struct wal_scan_segment *s = &scan->logs[walk->log].segments[at->segment];
    uint64_t offset = at->offset + group->header_len, end = offset + group->body_len;
    *valid_out = false;
    for (uint32_t i = 0; i < group->record_count; i++) {
        struct wal_record_header record;
        const uint8_t *bytes = NULL;
        uint64_t view = min_u64(HEADER_VIEW, end - offset), lsn = group->first_lsn + i;
        int rc = window_get(scan, offset, view, &bytes, walk->trail);
        if (rc < 0)
            return rc;
        enum wal_verdict verdict = wal_record_header_get(bytes, view, &s->uuid, lsn, &record);
        if (verdict == WAL_NEWER)
            return newer(scan, walk->trail);
        if (verdict == WAL_INVALID || record.len > end - offset)
            return 0;
        bool matches = true;
        if ((what & CHECK_BODIES) != 0)
            rc = body_matches(walk, offset + record.header_len, &record, &matches);
        if (rc < 0 || !matches)
            return rc;
        if ((what & TELL) != 0) {
            struct wal_record_info info = info_of(walk, &record, at, offset, lsn);
            info.time_us = group->time_us;
            walk->last_is_close = record.type == WAL_RECORD_CLOSE;
            scan->stats.records++;
            rc = walk->options->visit != NULL ? walk->options->visit(walk->options->arg, &info) : 0;
            if (rc != 0)
                return rc;
        }
        offset += record.len;
    }
    *valid_out = offset == end;
    return 0;
}

static bool continues(const struct wal_group_header *group, const struct wal_scan_point *at)
{
    return group->group_seq == at->group_seq && group->first_lsn == at->lsn &&
           group->prev_group_crc == at->prev_group_crc;
}

/* Is there the header of a group at `at` that fits into its file? `chained`: and continues what
 * `at` says? */
static int try_header(struct walk *walk, const struct wal_scan_point *at, bool chained,
                      struct wal_group_header *group_out, bool *valid_out)
{
    struct wal_scan *scan = walk->scan;
    const struct wal_scan_segment *s = &scan->logs[walk->log].segments[at->segment];
    *valid_out = false;
    int rc = window_open(scan, walk->log, at->segment, walk->trail);
    if (rc < 0 || at->offset + WAL_GROUP_HEADER_BYTES_MIN > s->file_bytes)
        return rc;
    const uint8_t *bytes = NULL;
    uint64_t left = s->file_bytes - at->offset, view = min_u64(HEADER_VIEW, left);
    rc = window_get(scan, at->offset, view, &bytes, walk->trail);
    if (rc < 0)
        return rc;
    enum wal_verdict verdict = wal_group_header_get(bytes, view, &s->uuid, group_out);
    if (verdict == WAL_NEWER)
        return newer(scan, walk->trail);
    *valid_out = verdict == WAL_VALID && (!chained || continues(group_out, at)) &&
                 group_out->body_len <= left && group_out->header_len + group_out->body_len <= left;
    return 0;
}

/* Does the group at `at` continue the chain? Then *group_out. */
static int try_group(struct walk *walk, const struct wal_scan_point *at, unsigned what,
                     struct wal_group_header *group_out, bool *valid_out)
{
    int rc = try_header(walk, at, true, group_out, valid_out);
    return rc == 0 && *valid_out ? walk_records(walk, at, group_out, what, valid_out) : rc;
}

/* The same, asking the disk again before a "no" is believed. */
static int read_group(struct walk *walk, const struct wal_scan_point *at, unsigned what,
                      struct wal_group_header *group_out, bool *valid_out)
{
    int rc = try_group(walk, at, what, group_out, valid_out);
    if (rc == 0 && !*valid_out) {
        walk->scan->window.len = 0;
        rc = try_group(walk, at, what, group_out, valid_out);
    }
    return rc;
}

/* ---- the chain ---- */

static struct wal_scan_point behind(const struct walk *walk, const struct wal_scan_point *at,
                                    const struct wal_group_header *group)
{
    const struct wal_scan_segment *s = &walk->scan->logs[walk->log].segments[at->segment];
    struct wal_scan_point next = *at;
    next.offset += bytes_align_up(group->header_len + group->body_len, s->block_bytes);
    next.group_seq++;
    next.lsn += group->record_count;
    next.prev_group_crc = group->crc;
    return next;
}

/* The next group, here or at the start of a later segment. */
static int find_next(struct walk *walk, struct wal_scan_point *at, unsigned what,
                     struct wal_group_header *group_out, bool *found_out)
{
    int rc = read_group(walk, at, what, group_out, found_out);
    struct wal_scan_point later = *at;
    while (rc == 0 && !*found_out && ++later.segment < walk->scan->logs[walk->log].segment_count) {
        later.offset = WAL_SEGMENT_HEADER_BYTES;
        rc = read_group(walk, &later, what, group_out, found_out);
        if (rc == 0 && *found_out)
            *at = later;
    }
    return rc;
}

/* A group is proven: tell its records. */
static int accept_group(struct walk *walk, const struct wal_scan_point *at,
                        const struct wal_group_header *group)
{
    struct wal_scan_log *log = &walk->scan->logs[walk->log];
    bool valid;
    struct wal_scan_segment *s = &log->segments[at->segment];
    int rc = window_open(walk->scan, walk->log, at->segment, walk->trail);
    walk->last_is_close = false; /* whatever follows a CLOSE, somebody was at work again */
    if (rc == 0)
        rc = walk_records(walk, at, group, TELL, &valid);
    if (rc != 0)
        return rc;
    struct wal_scan_point next = behind(walk, at, group);
    if (at->offset == WAL_SEGMENT_HEADER_BYTES)
        s->first = (struct wal_begin){s->seq, at->group_seq, at->lsn, at->prev_group_crc};
    s->valid_end = min_u64(next.offset, s->file_bytes);
    log->end = next;
    walk->begin_seq = group->begin.seq;
    walk->scan->stats.groups++;
    walk->scan->stats.bytes += next.offset - at->offset;
    return 0;
}

static int walk_chain(struct walk *walk)
{
    unsigned what = walk->options->check_bodies ? CHECK_BODIES : 0;
    struct wal_scan_point at = walk->at, last = at;
    struct wal_group_header group = {0}, pending = {0};
    bool found = true, have_pending = false;
    while (found) {
        struct wal_scan_point here = at;
        int rc = find_next(walk, &here, what, &group, &found);
        if (rc != 0)
            return rc;
        if (found && have_pending && (rc = accept_group(walk, &last, &pending)) != 0)
            return rc;
        if (found) {
            last = here;
            pending = group;
            have_pending = true;
            at = behind(walk, &here, &group);
        }
    }
    if (!have_pending)
        return 0;
    /* The last group has no successor that proves it. */
    int rc = read_group(walk, &last, CHECK_BODIES, &group, &found);
    return rc == 0 && found ? accept_group(walk, &last, &pending) : rc;
}

/* ---- behind the end ---- */

static bool all_zero(const uint8_t *bytes, uint64_t len)
{
    uint64_t any = 0, i = 0;
    for (; i + 8 <= len; i += 8)
        any |= bytes_get_u64(bytes + i);
    for (; i < len; i++)
        any |= bytes[i];
    return any == 0;
}

/* The torn group stands where the next one was due: at the end, or at the start of a later
 * segment. */
static bool due_here(const struct wal_scan_point *end, uint32_t segment, uint64_t offset,
                     const struct wal_group_header *group)
{
    bool place =
        segment == end->segment ? offset == end->offset : offset == WAL_SEGMENT_HEADER_BYTES;
    return place && continues(group, end);
}

static int look_behind_in(struct walk *walk, uint32_t segment)
{
    struct wal_scan *scan = walk->scan;
    struct wal_scan_log *log = &scan->logs[walk->log];
    struct wal_scan_segment *s = &log->segments[segment];
    int rc = window_open(scan, walk->log, segment, walk->trail);
    if (rc < 0)
        return rc;
    uint64_t offset = segment == log->end.segment ? log->end.offset : WAL_SEGMENT_HEADER_BYTES;
    for (; offset < s->file_bytes; offset += WAL_BLOCK_BYTES_MIN) {
        uint64_t view = min_u64(WAL_BLOCK_BYTES_MIN, s->file_bytes - offset);
        const uint8_t *bytes = NULL;
        struct wal_group_header group;
        rc = window_get(scan, offset, view, &bytes, walk->trail);
        if (rc < 0)
            return rc;
        if (all_zero(bytes, view))
            continue;
        enum wal_verdict verdict = wal_group_header_get(bytes, view, &s->uuid, &group);
        /* What has no header in a recycled file may be of its earlier life. */
        if (!s->recycled || verdict != WAL_INVALID)
            s->dirty_end = offset + view;
        if (verdict == WAL_NEWER)
            return newer(scan, walk->trail);
        if (verdict == WAL_VALID && group.group_seq >= log->end.group_seq &&
            !due_here(&log->end, segment, offset, &group))
            return damaged(
                scan, walk->trail,
                "a whole group lies behind a missing one: acknowledged data may be lost");
    }
    uint64_t valid_end = segment == log->end.segment ? log->end.offset : WAL_SEGMENT_HEADER_BYTES;
    if (s->dirty_end > valid_end)
        scan->stats.torn_bytes += s->dirty_end - valid_end;
    return 0;
}

/* ---- where the log begins ---- */

static int peek_group(struct walk *walk, const struct wal_scan_point *at, bool chained,
                      struct wal_group_header *group_out, bool *found_out)
{
    int rc = try_header(walk, at, chained, group_out, found_out);
    if (rc == 0 && !*found_out) {
        walk->scan->window.len = 0;
        rc = try_header(walk, at, chained, group_out, found_out);
    }
    return rc;
}

/* The newest whole group of a segment, by the headers from its first block on: only the last one's
 * records are read, since the others are proven by what follows them. */
static int newest_in(struct walk *walk, uint32_t segment, struct wal_group_header *group_out,
                     bool *found_out)
{
    struct wal_scan_point at = {.segment = segment, .offset = WAL_SEGMENT_HEADER_BYTES}, next;
    struct wal_group_header group, before = {0};
    bool have_before = false, found = false;
    int rc = peek_group(walk, &at, false, &group, found_out);
    if (rc < 0 || !*found_out)
        return rc;
    at.group_seq = group.group_seq;
    at.lsn = group.first_lsn;
    at.prev_group_crc = group.prev_group_crc;
    for (;;) {
        struct wal_group_header following;
        next = behind(walk, &at, &group);
        if ((rc = peek_group(walk, &next, true, &following, &found)) < 0)
            return rc;
        if (!found)
            break;
        before = group;
        have_before = true;
        group = following;
        at = next;
    }
    if ((rc = read_group(walk, &at, CHECK_BODIES, group_out, found_out)) < 0 || *found_out)
        return rc;
    *found_out = have_before;
    if (have_before)
        *group_out = before;
    return 0;
}

/* From the newest file back to the first that has a whole group. All of these are live, for the
 * group that gave others up lies in one of them. */
static int find_begin(struct walk *walk)
{
    struct wal_scan_log *log = &walk->scan->logs[walk->log];
    struct wal_group_header group;
    bool found = false;
    int rc = 0;
    log->begin = (struct wal_begin){1, 1, 1, 0};
    walk->scan->window.ahead = WAL_PEEK_BYTES;
    for (uint32_t i = log->segment_count; rc == 0 && !found && i > 0; i--) {
        rc = read_segment_header(walk->scan, walk->log, i - 1, walk->trail);
        if (rc == 0)
            rc = newest_in(walk, i - 1, &group, &found);
    }
    walk->scan->window.ahead = WAL_WINDOW_BYTES;
    if (rc == 0 && found)
        log->begin = group.begin;
    return rc;
}

/* With the first group of the lowest file. One without groups ends behind its header. */
static int find_lowest(struct walk *walk)
{
    struct wal_scan_log *log = &walk->scan->logs[walk->log];
    struct wal_group_header group;
    bool found = false;
    int rc = 0;
    log->begin = (struct wal_begin){log->segments[0].seq, 1, 1, 0};
    for (uint32_t i = 0; rc == 0 && !found && i < log->segment_count; i++) {
        struct wal_scan_point at = {.segment = i, .offset = WAL_SEGMENT_HEADER_BYTES};
        rc = read_segment_header(walk->scan, walk->log, i, walk->trail);
        if (rc == 0)
            rc = peek_group(walk, &at, false, &group, &found);
        if (rc == 0 && !found && log->segments[i].file_bytes > WAL_SEGMENT_HEADER_BYTES)
            return damaged(walk->scan, walk->trail, "not the first group of a log");
    }
    if (rc == 0 && found)
        log->begin = (struct wal_begin){log->segments[0].seq, group.group_seq, group.first_lsn,
                                        group.prev_group_crc};
    return rc;
}

/* Leftovers lie before the first live file; from it on none may be missing. */
static int check_names(struct wal_scan *scan, struct wal_scan_log *log, struct trail *trail)
{
    log->first = 0;
    while (log->first < log->segment_count && log->segments[log->first].seq < log->begin.seq)
        log->first++;
    for (uint32_t i = log->first; i == log->first || i < log->segment_count; i++) {
        uint64_t due = log->begin.seq + (i - log->first);
        if (i < log->segment_count && log->segments[i].seq == due)
            continue;
        (void)wal_segment_path(log->path, due, scan->bad_path);
        scan->bad_offset = 0;
        return damaged(scan, trail, "this file is missing");
    }
    return 0;
}

/* Finds the first live segment and reads the headers from there on. */
static int begin_log(struct walk *walk)
{
    struct wal_scan_log *log = &walk->scan->logs[walk->log];
    int rc = sync_log(walk->scan, walk->log, walk->trail);
    if (rc == 0)
        rc = walk->options->from_lowest ? find_lowest(walk) : find_begin(walk);
    if (rc == 0)
        rc = check_names(walk->scan, log, walk->trail);
    for (uint32_t i = log->first; rc == 0 && i < log->segment_count; i++)
        if (!log->segments[i].known)
            rc = read_segment_header(walk->scan, walk->log, i, walk->trail);
    log->end = walk->at = (struct wal_scan_point){.segment = log->first,
                                                  .offset = WAL_SEGMENT_HEADER_BYTES,
                                                  .group_seq = log->begin.group_seq,
                                                  .lsn = log->begin.lsn,
                                                  .prev_group_crc = log->begin.prev_group_crc};
    return rc;
}

int wal_scan_log(struct wal_scan *scan, uint32_t log, const struct wal_scan_options *options,
                 struct trail *trail)
{
    struct wal_scan_log *l = &scan->logs[log];
    l->end = (struct wal_scan_point){
        .segment = 0, .offset = WAL_SEGMENT_HEADER_BYTES, .group_seq = 1, .lsn = 1};
    if (l->segment_count == 0)
        return 0;
    struct walk walk = {.scan = scan, .options = options, .trail = trail, .log = log};
    uint64_t torn = scan->stats.torn_bytes;
    int rc = begin_log(&walk);
    if (rc == 0)
        rc = walk_chain(&walk);
    if (rc == 0 && !options->from_lowest && walk.begin_seq != 0 && walk.begin_seq != l->begin.seq)
        rc = damaged(scan, trail, "the log begins elsewhere than its newest group says");
    for (uint32_t i = l->end.segment; rc == 0 && i < l->segment_count; i++)
        rc = look_behind_in(&walk, i);
    if (rc != 0)
        return rc;
    l->clean = (walk.last_is_close || walk.begin_seq == 0) && scan->stats.torn_bytes == torn;
    scan->stats.clean = scan->stats.clean && l->clean;
    scan->stats.segments += l->segment_count - l->first;
    scan->stats.leftovers += l->first;
    return 0;
}

/* ---- life ---- */

static struct wal_scan *scan_new(struct io *io, struct heap *heap)
{
    struct wal_scan *scan = heap_calloc(heap, 1, sizeof(*scan));
    if (scan == NULL)
        return NULL;
    scan->io = io;
    scan->heap = heap;
    scan->stats.clean = true;
    scan->window.file = -1;
    scan->window.ahead = WAL_WINDOW_BYTES;
    scan->window.bytes = heap_alloc_aligned(heap, WAL_BLOCK_BYTES_MIN, WAL_WINDOW_BYTES);
    if (scan->window.bytes == NULL) {
        heap_free(heap, scan);
        return NULL;
    }
    return scan;
}

void wal_scan_close(struct wal_scan *scan)
{
    if (scan == NULL)
        return;
    window_close(scan);
    for (uint32_t i = 0; i < scan->log_count; i++) {
        heap_free(scan->heap, scan->logs[i].segments);
        heap_free(scan->heap, scan->logs[i].path);
    }
    wal_avro_free(scan->avro);
    heap_free(scan->heap, scan->logs);
    heap_free(scan->heap, scan->window.bytes);
    heap_free(scan->heap, scan);
}

static int begin(struct io *io, struct heap *heap, const char *const *dirs, size_t dir_count,
                 bool is_log, struct wal_scan **scan_out, struct trail *trail)
{
    struct wal_scan *scan = scan_new(io, heap);
    if (scan == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for reading the log");
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < dir_count; i++)
        rc = is_log ? add_log(scan, dirs[i], trail) : list_logs(scan, dirs[i], trail);
    for (uint32_t i = 0; rc == 0 && i < scan->log_count; i++)
        rc = list_segments(scan, &scan->logs[i], trail);
    if (rc < 0) {
        wal_scan_close(scan);
        return rc;
    }
    *scan_out = scan;
    return 0;
}

int wal_scan_begin(struct io *io, struct heap *heap, const char *dir, struct wal_scan **scan_out,
                   struct trail *trail)
{
    return begin(io, heap, &dir, 1, true, scan_out, trail);
}

int wal_scan_list(struct io *io, const struct wal_scan_options *options, struct wal_scan **scan_out,
                  struct trail *trail)
{
    return begin(io, options->heap, options->dirs, options->dir_count, false, scan_out, trail);
}

int wal_scan_open(struct io *io, const struct wal_scan_options *options, struct wal_scan **scan_out,
                  struct trail *trail)
{
    struct wal_scan *scan = NULL;
    unsigned stride = options->stride != 0 ? options->stride : 1;
    int rc = wal_scan_list(io, options, &scan, trail);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; rc == 0 && i < scan->log_count; i++) {
        if (i % stride != options->first)
            continue;
        rc = wal_scan_log(scan, i, options, trail);
        scan->stats.logs++;
    }
    if (rc != 0) {
        wal_scan_close(scan);
        return rc;
    }
    *scan_out = scan;
    return 0;
}

void wal_scan_stats(const struct wal_scan *scan, struct wal_scan_stats *stats_out)
{
    *stats_out = scan->stats;
}

/* ---- one record ---- */

/* Reads and checks; PDB_DATA_LOSS: not what the scan saw. */
static int read_record(struct wal_scan *scan, const struct wal_place *place, uint8_t *bytes,
                       struct wal_record_header *header_out, struct trail *trail)
{
    const struct wal_scan_segment *s = &scan->logs[place->log].segments[place->segment];
    scan->bad_offset = place->offset;
    for (uint64_t have = 0; have < place->len;) {
        int64_t got = io_wait_read(scan->io, scan->window.file, bytes + have, place->len - have,
                                   place->offset + have);
        if (got == -EINTR || got == -EAGAIN)
            continue;
        if (got < 0)
            return io_failed(trail, got, "read", scan->bad_path);
        if (got == 0)
            return PDB_DATA_LOSS;
        have += (uint64_t)got;
    }
    enum wal_verdict verdict =
        wal_record_header_get(bytes, place->len, &s->uuid, place->lsn, header_out);
    if (verdict == WAL_NEWER)
        return newer(scan, trail);
    if (verdict == WAL_INVALID || header_out->len != place->len ||
        crc32c(0, bytes + header_out->header_len, header_out->body_len) != header_out->body_crc)
        return PDB_DATA_LOSS;
    return 0;
}

int wal_read_batch(struct wal_scan *scan, const struct wal_place *place, struct arena *arena,
                   struct wal_batch *batch_out, struct trail *trail)
{
    if (place->log >= scan->log_count || place->segment >= scan->logs[place->log].segment_count ||
        place->len < WAL_RECORD_HEADER_BYTES ||
        place->len > WAL_RECORD_BYTES_MAX + WAL_HEADER_BYTES_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "no such place in the log");
    const struct wal_scan_segment *segments = scan->logs[place->log].segments;
    int rc = 0;
    /* Found by another scan: this one may know nothing of the log. */
    if (!segments[place->segment].known)
        rc = read_segment_header(scan, place->log, place->segment, trail);
    if (rc == 0)
        rc = window_open(scan, place->log, place->segment, trail);
    if (rc < 0)
        return rc;
    uint8_t *bytes = arena_alloc_aligned(arena, place->len, WAL_ALIGNMENT);
    if (bytes == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED,
                         "memory for a log record of %" PRIu64 " bytes", place->len);

    struct wal_record_header header;
    rc = read_record(scan, place, bytes, &header, trail);
    if (rc == PDB_DATA_LOSS)
        rc = read_record(scan, place, bytes, &header, trail);
    if (rc == PDB_DATA_LOSS)
        return damaged(scan, trail, "a record does not match its checksum");
    if (rc < 0)
        return rc;
    rc = wal_body_decode(&header, bytes + header.header_len, &scan->avro, arena, batch_out, trail);
    return rc == PDB_DATA_LOSS ? damaged(scan, trail, "a record's body is malformed") : rc;
}
