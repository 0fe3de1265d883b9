/* wal_roll.c: segments are made ahead, in the background, so that changing to the next one costs
 * nothing.
 *
 *     open tmp-<seq> -> allocate -> header -> zeros in steps -> sync -> rename to <seq>.wal -> sync
 * directory
 *     -> close -> open for writing -> ready
 *
 * A file that a truncation has freed (wal_truncate.c) goes the same way without allocation and
 * zeros: its header is written under the name free-<n>.
 *
 * Two are kept ready. Their names are given in order and only when the content is durable, so a
 * live name never holds a half-made file and the numbers have no gap. The last one ready is held
 * back for deletes and marks: on a full disk these are what makes room again.
 *
 * Zeros. Overwriting written blocks needs no extent conversion and no journal commit, which halves
 * the tail of small commits. But every byte then goes to the disk twice, and measured with large
 * groups that costs more than it gives (1.9 GB/s zeros then 1.9 GB/s data is 0.95; merely allocated
 * files take 1.6). So zero-filling has the lowest priority: 256 KiB at a time, while no group is in
 * flight, else one step behind each group; and it is given up for a segment that is needed before
 * it is full of them: the one being written is half used and only the held back one is ready. Both
 * kinds read the same.
 *
 * Errors (rule W15). ENOSPC, EDQUOT and EFBIG are harmless here, and so is everything else: the
 * unfinished file is dropped, rows are refused while there is no segment for them, and making is
 * tried again every 5 s. Nothing that was acknowledged ever lies in a file that failed. Where the
 * filesystem cannot allocate, all zeros are written, hurry or not: else a later write could find
 * the disk full, and that poisons.
 *
 * A record larger than a segment gets a segment of its own size. Its number follows those that are
 * ready; these are passed over, cut to their header, and stay as empty links of the chain.
 * Rejected: putting it before them. Then live names would change owners, or have gaps for a
 * while. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/log.h"
#include "os/failpoint.h"
#include "wal/wal_internal.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

enum { SEGMENT_ROUND = 1 << 20 };

bool wal_no_space_error(int error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG;
}

unsigned wal_open_flags(const struct wal *w)
{
    return IO_OPEN_WRITE | (w->direct ? IO_OPEN_DIRECT | IO_OPEN_DSYNC : 0);
}

void wal_fall_back(struct wal *w)
{
    LOG_WARN("wal",
             "no O_DIRECT in %s: the log writes through the page cache, each write with its sync",
             w->dir);
    w->direct = false;
}

/* ---- on the way out ---- */

/* Files are closed in any order, and told in theirs. */
static void tell_closed(struct wal *w)
{
    char path[WAL_PATH_MAX];
    list_each (link, &w->ledger.segments) {
        struct wal_live *live = container_of(link, struct wal_live, link);
        if (!live->closed)
            return;
        if (live->seq < w->untold_seq)
            continue;
        w->untold_seq = live->seq + 1;
        if (w->options.closed != NULL && !w->stopping && w->poison == 0 &&
            wal_segment_path(w->dir, live->seq, path) == 0)
            w->options.closed(w->options.arg, live->seq, path);
    }
}

static void on_closed(struct io_op *op, int64_t result)
{
    struct wal_segment *segment = container_of(op, struct wal_segment, op);
    struct wal *w = segment->wal;
    struct wal_live *live = segment->live;
    (void)result; /* all that was acknowledged in it is durable */
    list_remove(&segment->link);
    heap_free(&w->r->heap, segment);
    if (!list_linked(&live->link)) { /* ready only */
        heap_free(&w->r->heap, live);
        return;
    }
    live->closed = true;
    wal_truncate_more(w);
    tell_closed(w);
}

static void on_cut(struct io_op *op, int64_t result)
{
    struct wal_segment *segment = container_of(op, struct wal_segment, op);
    if (result >= 0) /* else nothing is lost but space */
        wal_ledger_resize(&segment->wal->ledger, segment->live, WAL_SEGMENT_HEADER_BYTES);
    op->done = on_closed;
    segment->wal->io->ops->close(segment->wal->io, op, segment->file);
}

/* Nothing more is written to it. `cut`: it is empty; its space is given back. */
void wal_segment_retire(struct wal *w, struct wal_segment *segment, bool cut)
{
    list_push_back(&w->closing, &segment->link);
    segment->live->whole = segment->live->whole && !cut;
    segment->live->used_bytes = segment->offset;
    segment->op.done = cut ? on_cut : on_closed;
    if (cut)
        w->io->ops->truncate(w->io, &segment->op, segment->file, WAL_SEGMENT_HEADER_BYTES);
    else
        w->io->ops->close(w->io, &segment->op, segment->file);
}

/* ---- making ---- */

static void make_step(struct wal *w);

/* The one being written is half used and only the one that is held back is ready: no time for
 * zeros. */
static bool in_hurry(const struct wal *w)
{
    return w->segment_wanted || w->maker.large_bytes != 0 || w->current == NULL ||
           (w->ready_count < WAL_READY_TARGET && w->current->offset > w->current->size / 2);
}

static void make_done(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    struct wal_segment *segment = m->segment;
    m->segment = NULL;
    m->state = WAL_MAKE_IDLE;
    m->error = 0;
    m->large_bytes = 0;
    heap_free(&w->r->heap, m->zeros);
    m->zeros = NULL;
    w->last_seq = segment->seq;
    w->stats.segments_live++;
    w->stats.segments_recycled += m->recycled;
    list_push_back(&w->ready, &segment->link);
    w->ready_count++;
    if (wal_truncate_wanted(w))
        wal_truncate_more(w);
    if (w->segment_wanted)
        wal_encode_more(w);
    else if (w->current != NULL)
        wal_make_more(w);
}

static void make_dropped(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    if (m->segment != NULL)
        heap_free(&w->r->heap, m->segment->live);
    heap_free(&w->r->heap, m->segment);
    heap_free(&w->r->heap, m->zeros);
    m->segment = NULL;
    m->zeros = NULL;
    m->state = WAL_MAKE_IDLE;
    m->large_bytes = 0;
    if (m->stop)
        return;
    /* Without a timer the next append asks again. */
    (void)timer_set(w->r, &m->retry, w->r->now_ns + WAL_MAKE_RETRY_NS);
    if (w->segment_wanted)
        wal_encode_more(w); /* is refused now */
}

/* Undoes what there is of the file: close, unlink. */
static void make_drop(struct wal *w, int error)
{
    struct wal_maker *m = &w->maker;
    if (error != 0 && m->error == 0) {
        const char *name = strerrorname_np(-error);
        LOG_WARN("wal", "no new log segment in %s: %s; tried again every 5 s", w->dir,
                 name != NULL ? name : "error");
    }
    m->error = error;
    if (m->segment->file >= 0) {
        m->state = WAL_MAKE_DROP_CLOSE;
        w->io->ops->close(w->io, &m->op, m->segment->file);
        return;
    }
    m->state = WAL_MAKE_DROP_UNLINK;
    w->io->ops->unlink(w->io, &m->op, m->path_temporary);
}

static void put_header(struct wal *w)
{
    const struct wal_segment *segment = w->maker.segment;
    struct wal_segment_header header = {
        .format = WAL_FORMAT_VERSION,
        .flags = w->maker.recycled ? WAL_SEGMENT_RECYCLED : 0,
        .block_bytes = segment->block_bytes,
        .log = w->log_uuid,
        .segment = segment->uuid,
        .seq = segment->seq,
        .size = segment->size,
    };
    wal_segment_header_put(&header, w->maker.zeros);
}

static uint64_t zero_step(const struct wal_maker *m)
{
    uint64_t left = m->segment->size - m->zero_at;
    return left < WAL_ZERO_STEP_BYTES ? left : WAL_ZERO_STEP_BYTES;
}

/* Starts what the state says. */
static void make_step(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    struct wal_segment *s = m->segment;
    const struct io_ops *ops = w->io->ops;
    unsigned direct = w->direct ? IO_OPEN_DIRECT : 0;
    switch (m->state) {
    case WAL_MAKE_OPEN:
        ops->open(w->io, &m->op, m->path_temporary,
                  IO_OPEN_WRITE | direct | (m->recycled ? 0 : IO_OPEN_CREATE | IO_OPEN_TRUNCATE));
        return;
    case WAL_MAKE_ALLOCATE:
        ops->allocate(w->io, &m->op, s->file, 0, s->size);
        return;
    case WAL_MAKE_HEADER:
        put_header(w);
        ops->write(w->io, &m->op, s->file, m->zeros, WAL_SEGMENT_HEADER_BYTES, 0, 0);
        return;
    case WAL_MAKE_ZERO:
        m->paused = w->writing != NULL && !in_hurry(w);
        if (m->paused)
            return;
        if ((!in_hurry(w) || m->must_zero) && m->zero_at < s->size && !m->stop) {
            ops->write(w->io, &m->op, s->file, m->zeros, zero_step(m), m->zero_at, 0);
            return;
        }
        m->state = WAL_MAKE_SYNC;
        ops->sync(w->io, &m->op, s->file);
        return;
    case WAL_MAKE_SYNC: /* interrupted */
        ops->sync(w->io, &m->op, s->file);
        return;
    case WAL_MAKE_IDLE:
    case WAL_MAKE_DROP_CLOSE:
    case WAL_MAKE_DROP_UNLINK:
        break;
    case WAL_MAKE_RENAME:
        ops->rename(w->io, &m->op, m->path_temporary, m->path);
        return;
    case WAL_MAKE_SYNC_DIR:
        ops->sync_dir(w->io, &m->op, w->dir);
        return;
    case WAL_MAKE_CLOSE:
        ops->close(w->io, &m->op, s->file);
        return;
    case WAL_MAKE_REOPEN:
        ops->open(w->io, &m->op, m->path, wal_open_flags(w));
        return;
    }
    ASSERT(false);
}

/* A write of the maker: 0, a negative errno, or -EIO for one that came to nothing. */
static int64_t after_write(struct wal_maker *m, int64_t result)
{
    if (m->state == WAL_MAKE_HEADER)
        return result == WAL_SEGMENT_HEADER_BYTES ? 0 : result < 0 ? result : -EIO;
    if (result < 0)
        return result;
    /* Whole blocks count; a short one is a sign of a full disk, which the next step then tells. */
    m->zero_at += (uint64_t)result & ~(uint64_t)(WAL_BLOCK_BYTES_MIN - 1);
    return result >= WAL_BLOCK_BYTES_MIN ? 0 : -ENOSPC;
}

/* What tests call the steps that last. */
struct make_points {
    const char *written, *synced, *renamed, *durable;
};

static void visit_step(const struct wal_maker *m)
{
    static const struct make_points new_file = {
        .written = "wal.segment_written",
        .synced = "wal.segment_synced",
        .renamed = "wal.segment_renamed",
        .durable = "wal.segment_durable",
    };
    static const struct make_points recycled = {
        .written = "wal.recycled_written",
        .synced = "wal.recycled_synced",
        .renamed = "wal.recycled_renamed",
        .durable = "wal.recycled_durable",
    };
    const struct make_points *points = m->recycled ? &recycled : &new_file;
    const char *name = m->state == WAL_MAKE_HEADER     ? points->written
                       : m->state == WAL_MAKE_SYNC     ? points->synced
                       : m->state == WAL_MAKE_RENAME   ? points->renamed
                       : m->state == WAL_MAKE_SYNC_DIR ? points->durable
                                                       : NULL;
    if (name != NULL)
        FAILPOINT(name);
}

/* The state behind a success. */
static void make_next(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    visit_step(m);
    switch (m->state) {
    case WAL_MAKE_OPEN:
        m->state = m->recycled ? WAL_MAKE_HEADER : WAL_MAKE_ALLOCATE;
        break;
    case WAL_MAKE_ALLOCATE:
        m->state = WAL_MAKE_HEADER;
        break;
    case WAL_MAKE_HEADER:
        memset(m->zeros, 0, WAL_SEGMENT_HEADER_BYTES);
        m->zero_at = WAL_SEGMENT_HEADER_BYTES;
        m->state = m->recycled ? WAL_MAKE_SYNC : WAL_MAKE_ZERO;
        break;
    case WAL_MAKE_SYNC:
        m->state = WAL_MAKE_RENAME;
        break;
    case WAL_MAKE_RENAME:
        m->state = WAL_MAKE_SYNC_DIR;
        break;
    case WAL_MAKE_SYNC_DIR:
        m->state = WAL_MAKE_CLOSE;
        break;
    case WAL_MAKE_CLOSE:
        m->state = WAL_MAKE_REOPEN;
        break;
    case WAL_MAKE_REOPEN:
        make_done(w);
        return;
    case WAL_MAKE_IDLE:
    case WAL_MAKE_ZERO:
    case WAL_MAKE_DROP_CLOSE:
    case WAL_MAKE_DROP_UNLINK:
        break;
    }
    make_step(w);
}

/* Not every filesystem knows preallocation; then the space is taken by writing all of it. */
static bool cannot_allocate(int64_t result)
{
    return result == -EOPNOTSUPP || result == -ENOSYS;
}

static void on_made(struct io_op *op, int64_t result)
{
    struct wal *w = container_of(op, struct wal, maker.op);
    struct wal_maker *m = &w->maker;
    if (m->state == WAL_MAKE_DROP_UNLINK) {
        make_dropped(w);
        return;
    }
    if (m->state == WAL_MAKE_DROP_CLOSE) {
        m->segment->file = -1;
        make_drop(w, m->error);
        return;
    }
    bool opening = m->state == WAL_MAKE_OPEN || m->state == WAL_MAKE_REOPEN;
    if (m->state == WAL_MAKE_CLOSE) {
        m->segment->file = -1; /* the descriptor is gone, whatever the result */
        result = result == -EINTR ? 0 : result;
    } else if (result == -EINTR || result == -EAGAIN) {
        make_step(w);
        return;
    }
    if (opening && result == -EINVAL && w->direct) {
        wal_fall_back(w);
        make_step(w);
        return;
    }
    if (m->state == WAL_MAKE_ALLOCATE && cannot_allocate(result)) {
        m->must_zero = true;
        result = 0;
    }
    if (result >= 0 && opening)
        m->segment->file = (int)result;
    if (m->state == WAL_MAKE_HEADER || m->state == WAL_MAKE_ZERO)
        result = after_write(m, result);
    /* Behind the rename the file has its name. It must not stay: the number is given again. */
    if (result < 0 && m->state > WAL_MAKE_RENAME)
        memcpy(m->path_temporary, m->path, sizeof(m->path));
    if (result < 0 || m->stop)
        make_drop(w, (int)(result < 0 ? result : 0));
    else
        make_next(w);
}

static void make_names(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    int rc = wal_segment_path(w->dir, m->segment->seq, m->path);
    ASSERT(rc == 0); /* wal_open has seen to the length */
    m->recycled = m->large_bytes == 0 && w->free_count != 0;
    m->must_zero = false;
    if (m->recycled)
        rc = wal_free_path(w->dir, w->free_seqs[--w->free_count], m->path_temporary);
    else
        rc = snprintf(m->path_temporary, sizeof(m->path_temporary), "%s/tmp-%016" PRIx64, w->dir,
                      m->segment->seq) >= WAL_PATH_MAX;
    ASSERT(rc == 0);
}

static bool make_prepare(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    struct wal_segment *segment = heap_calloc(&w->r->heap, 1, sizeof(*segment));
    struct wal_live *live = heap_calloc(&w->r->heap, 1, sizeof(*live));
    m->zeros = heap_alloc_aligned(&w->r->heap, w->block_bytes, WAL_ZERO_STEP_BYTES);
    if (segment == NULL || live == NULL || m->zeros == NULL) {
        heap_free(&w->r->heap, segment);
        heap_free(&w->r->heap, live);
        heap_free(&w->r->heap, m->zeros);
        m->zeros = NULL;
        return false;
    }
    memset(m->zeros, 0, WAL_ZERO_STEP_BYTES);
    segment->wal = w;
    segment->file = -1;
    segment->seq = w->last_seq + 1;
    segment->size = m->large_bytes != 0 ? m->large_bytes : w->options.segment_bytes;
    segment->offset = WAL_SEGMENT_HEADER_BYTES;
    segment->block_bytes = w->block_bytes;
    w->io->ops->random(w->io, segment->uuid.bytes, sizeof(segment->uuid.bytes));
    *live = (struct wal_live){
        .seq = segment->seq, .file_bytes = segment->size, .whole = m->large_bytes == 0};
    segment->live = live;
    m->segment = segment;
    make_names(w);
    return true;
}

static void make_start(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    timer_cancel(w->r, &m->retry);
    if (!make_prepare(w)) {
        m->error = -ENOMEM;
        make_dropped(w);
        return;
    }
    m->state = WAL_MAKE_OPEN;
    make_step(w);
}

void wal_make_more(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    bool waits = m->error != 0 && m->retry.slot != 0;
    bool enough = w->ready_count >= WAL_READY_TARGET && m->large_bytes == 0;
    if (m->state == WAL_MAKE_IDLE && !enough && !waits && !m->stop &&
        w->ready_count < WAL_READY_MAX + 1)
        make_start(w);
}

void wal_make_again(struct wal *w)
{
    timer_cancel(w->r, &w->maker.retry);
    wal_make_more(w);
}

void wal_make_resume(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    if (m->state == WAL_MAKE_ZERO && m->paused) {
        m->paused = false;
        if (!in_hurry(w) && m->zero_at < m->segment->size)
            w->io->ops->write(w->io, &m->op, m->segment->file, m->zeros, zero_step(m), m->zero_at,
                              0);
        else
            make_step(w);
        return;
    }
    wal_make_more(w);
}

static void on_retry(struct timer *timer)
{
    struct wal *w = container_of(timer, struct wal, maker.retry);
    wal_make_more(w);
}

void wal_roll_init(struct wal *w)
{
    list_init(&w->ready);
    list_init(&w->closing);
    w->maker.op.done = on_made;
    w->maker.retry.fire = on_retry;
}

/* ---- taking ---- */

static void take(struct wal *w, struct wal_segment *segment)
{
    struct wal_segment *old = w->current;
    list_remove(&segment->link);
    wal_ledger_push(&w->ledger, segment->live);
    w->ready_count--;
    w->current = segment;
    if (old != NULL && w->writing != NULL && w->writing->segment == old)
        w->writing->last = true;
    else if (old != NULL)
        wal_segment_retire(w, old, false);
}

static int no_segment(struct wal *w)
{
    wal_make_more(w);
    if (w->maker.state != WAL_MAKE_IDLE)
        return PDB_UNAVAILABLE;
    w->maker.large_bytes = 0;
    return PDB_RESOURCE_EXHAUSTED;
}

/* One whose size was made for it; those before it are passed over. */
static int roll_large(struct wal *w, uint64_t group_bytes)
{
    struct wal_segment *found = NULL;
    list_each (link, &w->ready) {
        struct wal_segment *segment = container_of(link, struct wal_segment, link);
        if (found == NULL && wal_segment_room(segment) >= group_bytes)
            found = segment;
    }
    if (found == NULL) {
        if (w->maker.state == WAL_MAKE_IDLE)
            w->maker.large_bytes = bytes_align_up(
                WAL_SEGMENT_HEADER_BYTES + group_bytes + w->block_bytes, SEGMENT_ROUND);
        return no_segment(w);
    }
    list_each_safe(link, following, &w->ready)
    {
        struct wal_segment *segment = container_of(link, struct wal_segment, link);
        if (segment == found)
            break;
        list_remove(&segment->link);
        wal_ledger_push(&w->ledger, segment->live);
        w->ready_count--;
        wal_segment_retire(w, segment, true);
    }
    take(w, found);
    return 0;
}

int wal_roll(struct wal *w, uint64_t record_bytes, bool reserve)
{
    uint64_t group_bytes = wal_group_disk_bytes(record_bytes, w->block_bytes);
    if (group_bytes > w->options.segment_bytes - WAL_SEGMENT_HEADER_BYTES - w->block_bytes) {
        int rc = roll_large(w, group_bytes);
        if (rc < 0)
            return rc;
    } else {
        if (w->ready_count < (reserve || w->current == NULL ? 1 : 2))
            return no_segment(w);
        take(w, container_of(w->ready.anchor.next, struct wal_segment, link));
    }
    wal_make_more(w);
    return 0;
}

/* ---- blocking ---- */

static bool making(const struct wal *w)
{
    return w->maker.state != WAL_MAKE_IDLE;
}

static bool making_first(const struct wal *w)
{
    return making(w) && w->ready_count == 0;
}

int wal_make_now(struct wal *w)
{
    make_start(w);
    wal_pump(w, making_first);
    if (w->ready_count == 0)
        return w->maker.error;
    take(w, container_of(w->ready.anchor.next, struct wal_segment, link));
    return 0;
}

static bool closing(const struct wal *w)
{
    return !list_empty(&w->closing);
}

void wal_make_stop(struct wal *w)
{
    struct wal_maker *m = &w->maker;
    m->stop = true;
    timer_cancel(w->r, &m->retry);
    if (m->state == WAL_MAKE_ZERO && m->paused) {
        m->paused = false;
        make_drop(w, 0);
    }
    wal_pump(w, making);
    wal_pump(w, closing);
}
