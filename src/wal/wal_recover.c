/* wal_recover.c: makes a log's directory writable again behind what a scan finds in it.
 *
 *     scan -> remove what has no live name -> cut the torn tail, sync -> keep what is ready -> go
 * on in a new segment
 *
 * The tail is cut off, not overwritten with zeros: a file that ends is as good as one that goes on
 * with zeros, cutting is one journalled step that a second crash cannot tear, and it gives the
 * space back, so that a log that is started often does not grow by a segment each time. The log
 * then goes on in another segment, never behind the cut: a write of the killed process may still be
 * under way in the kernel, and it must find nothing to spoil (rule W11).
 *
 * Segments that were made ahead are kept if nothing was ever written to them, but for the one that
 * a killed process may have gone on in: that is cut, too. Of a recycled one
 * nobody can tell: a sector of a torn group may hide among the bytes of its earlier life, under the
 * same uuid and the same group number that the next group would get. Such a file, and one whose
 * first block a torn group has reached, gives its number back and is recycled once more, newest
 * first, so that the numbers never have a gap; where that cannot be, it is cut to its header and
 * stays as an empty link. */
#include "base/assert.h"
#include "os/failpoint.h"
#include "wal/wal_internal.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

enum { STRAY_MAX = 16, NAME_MAX_BYTES = 64 };

static int failed(struct trail *trail, int64_t error, const char *what, const char *path)
{
    const char *name = strerrorname_np((int)-error);
    return trail_add(trail, PDB_UNAVAILABLE, "%s %s: %s", what, path,
                     name != NULL ? name : "error");
}

int wal_free_path(const char *dir, uint64_t seq, char path_out[WAL_PATH_MAX])
{
    int len = snprintf(path_out, WAL_PATH_MAX, "%s/free-%016" PRIx64, dir, seq);
    return len > 0 && len < WAL_PATH_MAX ? 0 : PDB_INVALID_ARGUMENT;
}

/* ---- files without a live name ---- */

struct strays {
    char names[STRAY_MAX][NAME_MAX_BYTES];
    size_t count;
};

static void collect_stray(void *arg, const char *name)
{
    struct strays *strays = arg;
    bool stray = strncmp(name, "tmp-", 4) == 0 || strncmp(name, "free-", 5) == 0;
    if (stray && strays->count < STRAY_MAX && strlen(name) < NAME_MAX_BYTES)
        memcpy(strays->names[strays->count++], name, strlen(name) + 1);
}

static int remove_strays(struct wal *w, struct trail *trail)
{
    struct strays strays;
    do {
        strays.count = 0;
        int rc = w->io->ops->list_dir(w->io, w->dir, collect_stray, &strays);
        if (rc < 0)
            return failed(trail, rc, "list", w->dir);
        for (size_t i = 0; i < strays.count; i++) {
            char path[WAL_PATH_MAX + NAME_MAX_BYTES];
            (void)snprintf(path, sizeof(path), "%s/%s", w->dir, strays.names[i]);
            int64_t result = io_wait_unlink(w->io, path);
            if (result < 0)
                return failed(trail, result, "remove", path);
            FAILPOINT("wal.stray");
        }
    } while (strays.count != 0);
    return 0;
}

/* ---- cutting ---- */

static int cut(struct wal *w, struct wal_scan_segment *s, uint64_t len, struct trail *trail)
{
    char path[WAL_PATH_MAX];
    if (s->file_bytes <= len)
        return 0;
    int rc = wal_segment_path(w->dir, s->seq, path);
    ASSERT(rc == 0);
    int64_t file = io_wait_open(w->io, path, IO_OPEN_WRITE);
    if (file < 0)
        return failed(trail, file, "open", path);
    int64_t result = io_wait_truncate(w->io, (int)file, len);
    if (result >= 0)
        result = io_wait_sync(w->io, (int)file);
    (void)io_wait_close(w->io, (int)file);
    if (result < 0)
        return failed(trail, result, "cut", path);
    FAILPOINT("wal.cut");
    s->file_bytes = len;
    return 0;
}

/* Never written, and as a new one would be made. */
static bool as_new(const struct wal *w, const struct wal_scan_segment *s)
{
    return s->dirty_end <= WAL_SEGMENT_HEADER_BYTES && s->valid_end <= WAL_SEGMENT_HEADER_BYTES &&
           s->file_bytes == s->size && s->size == w->options.segment_bytes &&
           s->block_bytes == w->block_bytes && s->format == WAL_FORMAT_VERSION && !s->recycled;
}

/* Nothing of the log lies in it or behind it, and it is as large as a new one. */
static bool as_free(const struct wal *w, const struct wal_scan_segment *s)
{
    return s->valid_end <= WAL_SEGMENT_HEADER_BYTES && s->file_bytes == s->size &&
           s->size == w->options.segment_bytes && w->free_count < WAL_FREE_MAX;
}

/* The newest segment gives its name back. */
static int free_newest(struct wal *w, struct wal_scan_log *log, struct trail *trail)
{
    char path[WAL_PATH_MAX], path_free[WAL_PATH_MAX];
    uint64_t seq = log->segments[log->segment_count - 1].seq;
    int rc = wal_segment_path(w->dir, seq, path);
    if (rc == 0)
        rc = wal_free_path(w->dir, seq, path_free);
    ASSERT(rc == 0);
    int64_t result = io_wait_rename(w->io, path, path_free);
    if (result >= 0)
        result = io_wait_sync_dir(w->io, w->dir);
    if (result < 0)
        return failed(trail, result, "rename", path);
    FAILPOINT("wal.given_back");
    w->free_seqs[w->free_count++] = seq;
    log->segment_count--;
    return 0;
}

static int cut_tail(struct wal *w, struct wal_scan_log *log, uint32_t *first_ready_out,
                    struct trail *trail)
{
    /* The first that no write of a killed process can be under way to. After an unclean stop one
     * may be to the file that the log ends in, or to the one behind it; cutting waits for it. */
    uint32_t quiet = log->end.segment + (log->clean ? 1 : 2);
    while (log->segment_count > quiet) {
        const struct wal_scan_segment *s = &log->segments[log->segment_count - 1];
        if (as_new(w, s) || !as_free(w, s))
            break;
        int rc = free_newest(w, log, trail);
        if (rc < 0)
            return rc;
    }
    uint32_t count = log->segment_count, ready = count;
    while (ready > quiet && count - ready < WAL_READY_MAX && as_new(w, &log->segments[ready - 1]))
        ready--;
    for (uint32_t i = log->end.segment; i < ready; i++) {
        int rc = cut(w, &log->segments[i], log->segments[i].valid_end, trail);
        if (rc < 0)
            return rc;
    }
    *first_ready_out = ready;
    return 0;
}

/* ---- keeping ---- */

static int64_t open_live(struct wal *w, const char *path)
{
    int64_t file = io_wait_open(w->io, path, wal_open_flags(w));
    if (file != -EINVAL || !w->direct)
        return file;
    wal_fall_back(w);
    return io_wait_open(w->io, path, wal_open_flags(w));
}

static int keep_ready(struct wal *w, const struct wal_scan_segment *s, struct trail *trail)
{
    char path[WAL_PATH_MAX];
    struct wal_segment *segment = heap_calloc(&w->r->heap, 1, sizeof(*segment));
    struct wal_live *live = heap_calloc(&w->r->heap, 1, sizeof(*live));
    if (segment == NULL || live == NULL) {
        heap_free(&w->r->heap, segment);
        heap_free(&w->r->heap, live);
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a log segment");
    }
    int rc = wal_segment_path(w->dir, s->seq, path);
    ASSERT(rc == 0);
    int64_t file = open_live(w, path);
    if (file < 0) {
        heap_free(&w->r->heap, segment);
        heap_free(&w->r->heap, live);
        return failed(trail, file, "open", path);
    }
    segment->wal = w;
    segment->file = (int)file;
    segment->seq = s->seq;
    segment->size = s->size;
    segment->offset = WAL_SEGMENT_HEADER_BYTES;
    segment->block_bytes = s->block_bytes;
    segment->uuid = s->uuid;
    *live = (struct wal_live){.seq = s->seq, .file_bytes = s->size, .whole = true};
    segment->live = live;
    list_push_back(&w->ready, &segment->link);
    w->ready_count++;
    return 0;
}

static void take_over(struct wal *w, const struct wal_scan_log *log)
{
    if (log->segment_count != 0) {
        w->log_uuid = log->uuid;
        w->last_seq = log->segments[log->segment_count - 1].seq;
    } else {
        w->io->ops->random(w->io, w->log_uuid.bytes, sizeof(w->log_uuid.bytes));
    }
    w->stats.segments_live = log->segment_count - log->first;
    w->begin = w->begin_durable = log->begin;
    const struct wal_live *newest = wal_ledger_newest(&w->ledger);
    w->untold_seq = newest != NULL ? newest->seq + 1 : 1;
    w->next_group_seq = log->end.group_seq;
    w->next_lsn = log->end.lsn;
    w->prev_group_crc = log->end.prev_group_crc;
    w->life_group_seq = log->end.group_seq;
    w->durable_group_seq = log->end.group_seq - 1;
    w->durable_lsn = log->end.lsn - 1;
}

/* What a truncation had given up and a crash has left. */
static int remove_leftovers(struct wal *w, const struct wal_scan_log *log, struct trail *trail)
{
    char path[WAL_PATH_MAX];
    for (uint32_t i = 0; i < log->first; i++) {
        int rc = wal_segment_path(w->dir, log->segments[i].seq, path);
        ASSERT(rc == 0);
        int64_t result = io_wait_unlink(w->io, path);
        if (result < 0)
            return failed(trail, result, "remove", path);
        FAILPOINT("wal.leftover");
    }
    return 0;
}

static int read_log(struct wal *w, struct wal_scan *scan, struct trail *trail)
{
    struct wal_ledger_scan ledger = {&w->ledger, scan};
    const struct wal_scan_options options = {
        .check_bodies = false, .visit = wal_ledger_visit, .arg = &ledger};
    int rc = wal_scan_log(scan, 0, &options, trail);
    if (rc == PDB_RESOURCE_EXHAUSTED && trail != NULL && trail->code == 0)
        return trail_add(trail, rc, "memory for the log of %s", w->dir);
    return rc;
}

int wal_recover(struct wal *w, struct trail *trail)
{
    struct wal_scan *scan = NULL;
    uint32_t ready = 0;
    int rc = remove_strays(w, trail);
    if (rc == 0)
        rc = wal_scan_begin(w->io, &w->r->heap, w->dir, &scan, trail);
    if (rc < 0)
        return rc;
    struct wal_scan_log *log = &scan->logs[0];
    rc = read_log(w, scan, trail);
    if (rc == 0)
        rc = remove_leftovers(w, log, trail);
    if (rc == 0)
        rc = cut_tail(w, log, &ready, trail);
    if (rc == 0 && wal_ledger_finish(&w->ledger, log, ready, w->options.segment_bytes) < 0)
        rc = trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for the log of %s", w->dir);
    for (uint32_t i = ready; rc == 0 && i < log->segment_count; i++)
        rc = keep_ready(w, &log->segments[i], trail);
    if (rc == 0)
        take_over(w, log);
    wal_scan_close(scan);
    if (rc < 0)
        return rc;
    int64_t result = io_wait_sync_dir(w->io, w->dir);
    return result < 0 ? failed(trail, result, "sync", w->dir) : 0;
}
