/* wal_open.c: the life of a log and what it tells of itself.
 *
 * Opening and closing happen while no turn runs: they drive the I/O engine themselves until their
 * work is done.
 *
 * A clean stop (rule W17) writes what weak modes have answered but not yet written, and a CLOSE
 * record behind it: the next start then knows that nothing is missing, and that the last group
 * before it was whole. Whatever is written behind a CLOSE, and be it a group without records, says
 * that somebody was at work again. */
#include "base/assert.h"
#include "base/bytes.h"
#include "wal/wal_internal.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

void wal_pump(struct wal *w, bool (*busy)(const struct wal *w))
{
    const struct io_ops *ops = w->io->ops;
    while (busy(w)) {
        (void)ops->submit(w->io);
        if (ops->reap(w->io, 64) == 0)
            ops->wait(w->io, -1);
    }
}

/* ---- opening ---- */

static int check_options(const struct wal_options *options, struct trail *trail)
{
    enum { MIB = 1 << 20 };
    if (options->dir == NULL || strlen(options->dir) + 32 > WAL_PATH_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "the log's path is missing or too long");
    if (options->segment_bytes < MIB || options->segment_bytes % MIB != 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "a log segment has a multiple of 1 MiB");
    return 0;
}

static int failed_to_make(const char *dir, int64_t error, struct trail *trail)
{
    const char *name = strerrorname_np((int)-error);
    return trail_add(trail, PDB_UNAVAILABLE, "make %s: %s", dir, name != NULL ? name : "error");
}

static int64_t sync_above(struct io *io, char *path)
{
    char *slash = strrchr(path, '/');
    if (slash == NULL)
        return io_wait_sync_dir(io, ".");
    if (slash == path)
        return io_wait_sync_dir(io, "/");
    *slash = '\0';
    return io_wait_sync_dir(io, path);
}

/* The directory and those above it that are missing, each made durable in its parent. One that is
 * there may have been made by a process that was killed before its sync: the log's own is synced
 * every time, and the one above it, which may be ours, too, where that is allowed. */
static int make_dirs(struct io *io, const char *dir, struct trail *trail)
{
    char path[WAL_PATH_MAX];
    size_t len = strlen(dir);
    const char *last = strrchr(dir, '/');
    size_t above = last != NULL ? (size_t)(last - dir) : 0;
    for (size_t i = 1; i <= len; i++) {
        if (dir[i] != '/' && dir[i] != '\0')
            continue;
        memcpy(path, dir, i);
        path[i] = '\0';
        int64_t result = io_wait_make_dir(io, path);
        bool made = result >= 0;
        if (!made && i < above)
            continue; /* the next step tells whether it matters */
        if (i == len && result < 0 && result != -EEXIST)
            return failed_to_make(dir, result, trail);
        result = sync_above(io, path);
        if (result < 0 && (made || i == len))
            return failed_to_make(dir, result, trail);
    }
    return 0;
}

static bool closing(const struct wal *w)
{
    return !list_empty(&w->closing);
}

static void dispose(struct wal *w)
{
    struct heap *heap = &w->r->heap;
    timer_cancel(w->r, &w->close_timer);
    timer_cancel(w->r, &w->idle_timer);
    timer_cancel(w->r, &w->wait_timer);
    timer_cancel(w->r, &w->maker.retry);
    timer_cancel(w->r, &w->remover.retry);
    task_cancel(&w->encode_task);
    task_cancel(&w->truncate_task);
    list_remove(&w->close_hook.link);
    heap_free(heap, w->groups[0].bytes);
    heap_free(heap, w->groups[1].bytes);
    heap_free(heap, w->maker.zeros);
    wal_avro_free(w->avro);
    wal_ledger_dispose(&w->ledger);
    heap_free(heap, w);
}

/* Closes all files; waits for it. */
static void close_segments(struct wal *w)
{
    struct list_link *link;
    w->stopping = true;
    wal_truncate_stop(w);
    wal_make_stop(w);
    if (w->current != NULL)
        wal_segment_retire(w, w->current, false);
    w->current = NULL;
    while ((link = list_pop_front(&w->ready)) != NULL)
        wal_segment_retire(w, container_of(link, struct wal_segment, link), false);
    w->ready_count = 0;
    wal_pump(w, closing);
}

static struct wal *wal_new(struct reactor *r, const struct wal_options *options)
{
    struct wal *w = heap_calloc(&r->heap, 1, sizeof(*w));
    if (w == NULL)
        return NULL;
    w->r = r;
    w->io = r->io;
    w->options = *options;
    w->metrics = r->user[REACTOR_SLOT_METRICS];
    memcpy(w->dir, options->dir, strlen(options->dir) + 1);
    w->options.dir = w->dir;
    w->direct = options->io_mode == WAL_IO_DIRECT;
    wal_append_init(w);
    wal_sync_init(w);
    wal_roll_init(w);
    wal_truncate_init(w);
    return w;
}

/* The segment that the log goes on in. A full disk leaves it without one. */
static int first_segment(struct wal *w, struct trail *trail)
{
    if (w->ready_count != 0)
        return wal_roll(w, 0, true) == 0 ? 0 : PDB_INTERNAL;
    int rc = wal_make_now(w);
    if (rc == 0 || wal_no_space_error(rc))
        return 0;
    const char *name = strerrorname_np(-rc);
    return trail_add(trail, rc == -ENOMEM ? PDB_RESOURCE_EXHAUSTED : PDB_UNAVAILABLE,
                     "first log segment in %s: %s", w->dir, name != NULL ? name : "error");
}

int wal_open(struct reactor *r, const struct wal_options *options, struct wal **wal_out,
             struct trail *trail)
{
    int rc = check_options(options, trail);
    if (rc < 0)
        return rc;
    struct wal *w = wal_new(r, options);
    if (w == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for the log");
    rc = make_dirs(w->io, w->dir, trail);
    if (rc == 0)
        rc = wal_fs_check(w->io, &w->options, &w->block_bytes, trail);
    if (rc < 0)
        goto err_dispose;
    if (options->encoding == WAL_ENCODING_AVRO && (w->avro = wal_avro_new()) == NULL) {
        rc = trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for the log's Avro schema");
        goto err_dispose;
    }
    rc = wal_recover(w, trail);
    if (rc == 0)
        rc = first_segment(w, trail);
    if (rc < 0)
        goto err_close;
    wal_truncate_more(w); /* some of what was found may be needed by nobody */
    *wal_out = w;
    return 0;
err_close:
    close_segments(w);
err_dispose:
    dispose(w);
    return rc;
}

/* ---- closing ---- */

static bool writing(const struct wal *w)
{
    return w->writing != NULL;
}

/* Adds the CLOSE record if there is room for it in this or a ready segment. */
static void add_close(struct wal *w)
{
    uint64_t record_bytes = wal_record_bytes(0);
    struct wal_record_header header = {.len = record_bytes, .type = WAL_RECORD_CLOSE};
    if (w->filling->open && !wal_group_fits(w, record_bytes)) {
        wal_group_close(w);
        wal_pump(w, writing);
    }
    if (w->poison != 0)
        return;
    if (!w->filling->open && !wal_group_begin(w, record_bytes) &&
        (wal_roll(w, record_bytes, true) < 0 || !wal_group_begin(w, record_bytes)))
        return;
    if (wal_group_reserve(w, record_bytes))
        (void)wal_group_add(w, &header);
}

void wal_close(struct wal *w)
{
    if (w == NULL)
        return;
    ASSERT(list_empty(&w->queue) && list_empty(&w->waiting) && !w->encoding);
    w->maker.stop = true; /* nothing new is made */
    w->stopping = true;
    wal_pump(w, writing);
    if (w->poison == 0)
        add_close(w);
    if (w->poison == 0 && w->filling->open && w->filling->records != 0) {
        wal_group_close(w);
        wal_pump(w, writing);
    }
    wal_deliver(w);
    close_segments(w);
    dispose(w);
}

static void abandon_segment(struct wal *w, struct wal_segment *segment)
{
    if (segment != NULL && !list_linked(&segment->live->link))
        heap_free(&w->r->heap, segment->live);
    heap_free(&w->r->heap, segment);
}

static void abandon_segments(struct wal *w, struct list *list)
{
    struct list_link *link;
    while ((link = list_pop_front(list)) != NULL)
        abandon_segment(w, container_of(link, struct wal_segment, link));
}

void wal_abandon(struct wal *w)
{
    if (w->writing != NULL && w->writing->last)
        abandon_segment(w, w->writing->segment);
    abandon_segment(w, w->current);
    abandon_segment(w, w->maker.segment);
    abandon_segments(w, &w->ready);
    abandon_segments(w, &w->closing);
    dispose(w);
}

/* ---- figures ---- */

bool wal_poisoned(const struct wal *w)
{
    return w->poison != 0;
}

static uint64_t needed_bytes(const struct wal *w)
{
    uint64_t from = wal_needed_from(w), bytes = w->ledger.bytes;
    list_each (link, &w->ledger.segments) {
        const struct wal_live *live = container_of(link, struct wal_live, link);
        if (live->seq >= from)
            break;
        bytes -= live->file_bytes;
    }
    return bytes;
}

void wal_stats(const struct wal *w, struct wal_stats *stats_out)
{
    *stats_out = w->stats;
    stats_out->segments_ready = w->ready_count;
    stats_out->queue_bytes = w->queue_bytes;
    stats_out->durable_lsn = w->durable_lsn;
    stats_out->live_bytes = w->ledger.bytes;
    stats_out->needed_bytes = needed_bytes(w);
    stats_out->truncated_lsn = w->begin_durable.lsn - 1;
}
