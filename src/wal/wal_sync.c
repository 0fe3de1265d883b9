/* wal_sync.c: closes a group, writes it, and says what that write has proven.
 *
 * One write carries a whole group: header, records, zeros up to the block. It is durable when it
 * completes: files are opened O_DIRECT|O_DSYNC, or, in buffered mode, the write comes with its
 * fdatasync. A group is closed at the end of a turn, so that all records of the turn share it, and
 * only when the one before it is on disk.
 *
 *     always     due at once                     batch      due within batch_window_us
 *     periodic   due within period_ms            never      due when it is full or another record
 * makes it due
 *
 * The cap of a group is soft and 4 MiB. Measured with records of 256 rows of 768 floats (786 KB),
 * 16 appends in flight, O_DIRECT|O_DSYNC, best of three on a busy 2-core machine whose disk takes
 * 0.8 to 1.6 GB/s of such writes: 1 MiB 0.54 GB/s, 2 MiB 0.69, 4 MiB 0.89, 8 MiB 0.78; alone, 4 MiB
 * reached 1.17. Below it a second such record does not fit beside the first, so every record pays
 * its own flush; above it encoding and writing overlap less. The price: a small write that meets a
 * full group waits 2 to 3 ms for it, instead of 0.6.
 *
 * Rule W14: success is the full length, nothing else. A short write is continued (direct) or
 * repeated (buffered, where only a sync over all of it proves all of it). Any error but EAGAIN and
 * EINTR poisons the log: never an acknowledgement again, and never a second sync to see whether it
 * works now, because after a failed one the kernel may have dropped the dirty pages, and the next
 * one succeeds over nothing.
 *
 * Rule W16: a log that is idle for 100 ms after data writes one empty group. It proves the group
 * before it: from then on rot in that group cannot be taken for a torn tail. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/log.h"
#include "os/failpoint.h"
#include "wal/wal_internal.h"

#include <unistd.h>

#include "base/no_libc_heap.h"

enum { EXIT_LOG_FAILED = 70 };

/* ---- the group being built ---- */

uint64_t wal_segment_room(const struct wal_segment *segment)
{
    uint64_t left = segment->size - segment->offset;
    return left > segment->block_bytes ? left - segment->block_bytes : 0;
}

bool wal_group_begin(struct wal *w, uint64_t record_bytes)
{
    struct wal_group *g = w->filling;
    ASSERT(!g->open);
    wal_roll_if_due(w);
    struct wal_segment *segment = w->current;
    if (segment == NULL)
        return false;
    /* The next life goes on in another segment: a CLOSE record may have the last block, too. */
    bool mark = (record_bytes == 0 && w->mark_due) || w->stopping;
    uint64_t left = mark ? segment->size - segment->offset : wal_segment_room(segment);
    if (wal_group_disk_bytes(record_bytes, segment->block_bytes) > left)
        return false;
    uint64_t room = WAL_GROUP_HEADER_BYTES + record_bytes;
    room = room < WAL_GROUP_BYTES ? WAL_GROUP_BYTES : room;
    g->open = true;
    g->urgent = false;
    g->last = false;
    g->due_ns = UINT64_MAX;
    g->len = WAL_GROUP_HEADER_BYTES;
    g->room = room < left ? room : left;
    g->records = 0;
    g->group_seq = w->next_group_seq;
    g->first_lsn = w->next_lsn;
    g->segment = segment;
    return true;
}

bool wal_group_fits(const struct wal *w, uint64_t record_bytes)
{
    const struct wal_group *g = w->filling;
    return g->len + record_bytes <= g->room;
}

bool wal_group_reserve(struct wal *w, uint64_t record_bytes)
{
    struct wal_group *g = w->filling;
    size_t need = bytes_align_up(g->len + record_bytes, w->block_bytes);
    if (need <= g->capacity)
        return true;
    size_t capacity = g->capacity != 0 ? 2 * g->capacity : WAL_GROUP_BYTES_FIRST;
    while (capacity < need && capacity < WAL_GROUP_BYTES)
        capacity *= 2;
    capacity = capacity < need ? need : capacity;
    uint8_t *bytes = heap_alloc_aligned(&w->r->heap, w->block_bytes, capacity);
    if (bytes == NULL)
        return false;
    if (g->len != 0 && g->bytes != NULL)
        memcpy(bytes, g->bytes, g->len);
    heap_free(&w->r->heap, g->bytes);
    g->bytes = bytes;
    g->capacity = capacity;
    return true;
}

uint64_t wal_group_add(struct wal *w, struct wal_record_header *header)
{
    struct wal_group *g = w->filling;
    uint8_t *record = g->bytes + g->len;
    uint64_t used = WAL_RECORD_HEADER_BYTES + header->body_len, lsn = w->next_lsn++;
    memset(record + used, 0, header->len - used);
    wal_record_header_put(header, &g->segment->uuid, lsn, record);
    g->len += header->len;
    g->records++;
    return lsn;
}

void wal_group_due(struct wal *w, uint64_t due_ns)
{
    struct wal_group *g = w->filling;
    if (due_ns == 0)
        g->urgent = true;
    if (g->urgent || due_ns >= g->due_ns)
        return;
    g->due_ns = due_ns;
    if (timer_set(w->r, &w->close_timer, due_ns) != 0)
        g->urgent = true;
}

/* ---- closing ---- */

static bool should_close(const struct wal *w)
{
    const struct wal_group *g = w->filling;
    return g->open && !w->encoding && w->writing == NULL && w->poison == 0 &&
           (g->urgent || g->due_ns <= w->r->now_ns);
}

void wal_group_close_if_due(struct wal *w)
{
    if (should_close(w))
        turn_hook_queue(w->r, &w->close_hook);
}

static void on_turn_end(struct turn_hook *hook)
{
    struct wal *w = container_of(hook, struct wal, close_hook);
    if (should_close(w))
        wal_group_close(w);
}

static void on_due(struct timer *timer)
{
    struct wal *w = container_of(timer, struct wal, close_timer);
    if (w->filling->open && w->filling->due_ns <= w->r->now_ns)
        w->filling->urgent = true;
    else if (w->filling->open && w->filling->due_ns != UINT64_MAX &&
             timer_set(w->r, &w->close_timer, w->filling->due_ns) != 0)
        w->filling->urgent = true;
    wal_group_close_if_due(w);
}

static uint64_t disk_bytes(const struct wal_group *g)
{
    return bytes_align_up(g->len, g->segment->block_bytes);
}

static void submit(struct wal *w)
{
    struct wal_group *g = w->writing;
    FAILPOINT("wal.write");
    w->io->ops->write(w->io, &w->write_op, g->segment->file, g->bytes + w->write_done,
                      disk_bytes(g) - w->write_done, g->offset + w->write_done,
                      w->direct ? 0 : IO_WRITE_DURABLE);
}

/* The beginning of the log as this group says it. */
static struct wal_begin begin_of(struct wal *w, const struct wal_group *g)
{
    if (w->begin.group_seq == 0)
        w->begin = (struct wal_begin){w->begin.seq, g->group_seq, g->first_lsn, w->prev_group_crc};
    return w->begin;
}

/* The segment's place in the chain, and what lies in it. */
static void note_group(struct wal *w, struct wal_group *g)
{
    struct wal_live *live = g->segment->live;
    if (g->offset == WAL_SEGMENT_HEADER_BYTES)
        live->first = (struct wal_begin){live->seq, g->group_seq, g->first_lsn, w->prev_group_crc};
    live->records += g->records;
}

void wal_group_close(struct wal *w)
{
    struct wal_group *g = w->filling;
    ASSERT(g->open && w->writing == NULL && !w->encoding);
    if (g->capacity == 0 && !wal_group_reserve(w, 0)) {
        g->open = false; /* an empty group, and no memory for it: it was only a courtesy */
        return;
    }
    g->begin = begin_of(w, g);
    w->mark_due = false;
    struct wal_group_header header = {
        .begin = g->begin,
        .record_count = g->records,
        .group_seq = g->group_seq,
        .first_lsn = g->first_lsn,
        /* Not the turn's clock: that may be before the requests that came in this turn. */
        .time_us = w->io->ops->realtime_us(w->io),
        .body_len = g->len - WAL_GROUP_HEADER_BYTES,
        .prev_group_crc = w->prev_group_crc,
    };
    ASSERT(g->group_seq == w->next_group_seq && disk_bytes(g) <= g->capacity);
    memset(g->bytes + g->len, 0, disk_bytes(g) - g->len);
    g->offset = g->segment->offset;
    note_group(w, g);
    w->prev_group_crc = wal_group_header_put(&header, &g->segment->uuid, g->bytes);
    w->next_group_seq++;
    g->segment->offset += disk_bytes(g);
    w->idle_due = g->records != 0;
    g->open = false;
    timer_cancel(w->r, &w->close_timer);
    w->writing = g;
    w->filling = g == &w->groups[0] ? &w->groups[1] : &w->groups[0];
    w->write_done = 0;
    w->resubmits = 0;
    submit(w);
}

/* ---- the end of a write ---- */

static void move_all(struct list *from, struct list *to)
{
    struct list_link *link;
    while ((link = list_pop_front(from)) != NULL)
        list_push_back(to, link);
}

static void poison(struct wal *w, int error)
{
    const char *name = strerrorname_np(-error);
    w->poison = error;
    w->encoding = false;
    w->queue_bytes = 0;
    if (w->metrics != NULL)
        metrics_add(w->metrics, METRICS_WAL_ERRORS_AT + metrics_errno(error), 1);
    LOG_ERROR("wal", "write of %s failed with %s: the log takes no more writes until a restart",
              w->dir, name != NULL ? name : "an error");
    if (w->options.on_error == WAL_ON_ERROR_ABORT) {
        log_stop();
        _exit(EXIT_LOG_FAILED);
    }
    timer_cancel(w->r, &w->close_timer);
    timer_cancel(w->r, &w->idle_timer);
    timer_cancel(w->r, &w->wait_timer);
    move_all(&w->queue, &w->order);
    move_all(&w->waiting, &w->order);
    list_each (link, &w->order) {
        struct wal_append_op *op = container_of(link, struct wal_append_op, link);
        /* Also those of weak modes: what still stands here has not been told. */
        op->priv.settled = true;
        op->priv.rc = PDB_UNAVAILABLE;
    }
    if (w->options.poisoned != NULL)
        w->options.poisoned(w->options.arg, error);
    wal_encode_more(w);
}

static void release_segment(struct wal *w, struct wal_group *g)
{
    if (g->last)
        wal_segment_retire(w, g->segment, false);
    g->segment = NULL;
}

static void group_is_durable(struct wal *w)
{
    struct wal_group *g = w->writing;
    uint64_t bytes = disk_bytes(g);
    w->writing = NULL;
    w->durable_group_seq = g->group_seq;
    w->durable_lsn = g->first_lsn + g->records - 1;
    w->stats.groups++;
    w->stats.records += g->records;
    w->stats.bytes += bytes;
    w->stats.pad_bytes += bytes - g->len;
    if (g->begin.seq != w->begin_durable.seq)
        FAILPOINT("wal.mark");
    w->begin_durable = g->begin;
    if (w->metrics != NULL)
        histogram_record_count(&w->metrics->histograms[METRICS_WAL_GROUP_RECORDS_IN], g->records);
    release_segment(w, g);
    if (wal_truncate_wanted(w))
        wal_truncate_more(w);
    if (w->idle_due && timer_set(w->r, &w->idle_timer, w->r->now_ns + WAL_IDLE_NS) != 0)
        w->idle_due = false;
    wal_make_resume(w);
    wal_deliver(w);
    wal_encode_more(w); /* closes what has gathered, after what this turn still adds */
}

static void on_written(struct io_op *op, int64_t result)
{
    struct wal *w = container_of(op, struct wal, write_op);
    uint64_t left = disk_bytes(w->writing) - w->write_done;
    if (result >= 0 && (uint64_t)result == left) {
        FAILPOINT("wal.written");
        group_is_durable(w);
        return;
    }
    ASSERT(result < 0 || (uint64_t)result < left);
    bool again = result >= 0 || result == -EAGAIN || result == -EINTR;
    uint64_t whole =
        result > 0 && w->direct ? (uint64_t)result & ~(uint64_t)(w->block_bytes - 1) : 0;
    w->write_done += whole;
    w->resubmits = whole != 0 ? 0 : w->resubmits + 1;
    if (again && w->resubmits <= WAL_RESUBMIT_MAX) {
        submit(w);
        return;
    }
    struct wal_group *g = w->writing;
    w->writing = NULL;
    release_segment(w, g);
    poison(w, result < 0 ? (int)result : -EIO);
}

/* ---- idle ---- */

/* Large buffers were needed by a burst; an idle log does not hold them. */
static void shrink(struct wal *w, struct wal_group *g)
{
    if (g->capacity <= WAL_GROUP_BYTES_FIRST)
        return;
    heap_free(&w->r->heap, g->bytes);
    g->bytes = NULL;
    g->capacity = 0;
}

static void on_idle(struct timer *timer)
{
    struct wal *w = container_of(timer, struct wal, idle_timer);
    if (w->writing != NULL || w->filling->open || !list_empty(&w->queue) || w->poison != 0)
        return;
    shrink(w, &w->groups[0]);
    shrink(w, &w->groups[1]);
    if (!wal_idle_shrink(w) && w->idle_due && wal_group_begin(w, 0)) {
        wal_group_due(w, 0);
        wal_group_close_if_due(w);
    }
}

void wal_sync_init(struct wal *w)
{
    w->filling = &w->groups[0];
    w->write_op.done = on_written;
    w->close_hook.run = on_turn_end;
    w->close_timer.fire = on_due;
    w->idle_timer.fire = on_idle;
}
