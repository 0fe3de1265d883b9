/* wal_truncate.c: a log forgets what is durable elsewhere, from its oldest segment on.
 *
 *     release -> [nobody needs the oldest segments] -> mark -> rename or unlink -> sync directory
 *
 * Every group says in its header where the log begins: the number of the first live segment, and
 * the point of the chain at which that one goes on. So the newest whole group is the truth, and
 * moving the beginning on costs no write of its own when there is traffic: the next group carries
 * it. An idle log writes an empty one. The last block of every segment is kept back for that, so
 * giving space up never needs space.
 *
 * Order. Files before the beginning are touched only when a group that says so is durable. A crash
 *
 *     before that         leaves all files, and a log that begins where it did;
 *     between that and
 *     the last unlink     leaves some files before the beginning, in any combination, since names
 *                         change in any order until the directory is synced. A scan skips them
 *                         unread, the next wal_open removes them;
 *     of a renamed file   leaves a free-<n>, which the next wal_open removes.
 *
 * A missing file at or behind the beginning is damage, as a gap always was. The beginning is pinned
 * to the chain (group_seq, lsn and sum of the group before it), so a first file that was damaged or
 * exchanged is seen although nothing lies before it any more.
 *
 * Files. At most two wait under the name free-<n>; the maker (wal_roll.c) gives such a file a new
 * header with a new uuid under that name, syncs it, and only then renames it to its new number: a
 * live name never shows another segment's header, and old bytes need no wiping, since their sums
 * are seeded with the old uuid. The rest, and files of another size, are unlinked. A free file is
 * used only after the directory was synced. When that sync fails nobody knows under which names the
 * disk has the files, so these are not used again but discarded.
 *
 * Errors here are harmless: what could not be renamed, removed or synced is tried again after 5 s,
 * and nothing needed is touched. Only the group that carries the mark is a write of the log, and
 * poisons it as any other.
 *
 * An idle log of which nothing is needed goes on in a fresh segment, so that the used one can go,
 * too: it shrinks to one segment and those made ahead.
 *
 * Rejected: a mark record among the others. Finding the newest would mean reading every record
 * before the first is told. Rejected: a file that names the beginning. Replacing it needs space,
 * which a full disk does not have, and it would be a second truth beside the chain. */
#include "base/assert.h"
#include "base/log.h"
#include "os/failpoint.h"
#include "wal/wal_internal.h"

#include "base/no_libc_heap.h"

/* ---- what is wanted ---- */

/* The first segment that somebody needs, or holds, or that is being written. */
static uint64_t wanted_seq(const struct wal *w)
{
    if (w->current == NULL)
        return w->begin.seq;
    uint64_t seq = wal_ledger_held_from(&w->ledger);
    seq = seq < w->hold_from ? seq : w->hold_from;
    return seq < w->current->seq ? seq : w->current->seq;
}

static void move_begin(struct wal *w)
{
    uint64_t seq = wanted_seq(w);
    if (seq <= w->begin.seq)
        return;
    struct wal_begin begin = {.seq = seq}; /* the next group itself, unless there is one already */
    list_each (link, &w->ledger.segments) {
        const struct wal_live *live = container_of(link, struct wal_live, link);
        if (live->seq < seq || live->first.group_seq == 0)
            continue;
        begin = live->first;
        begin.seq = seq;
        break;
    }
    w->begin = begin;
    w->mark_due = true;
}

/* The mark goes with the next group. Without one to come it gets a group of its own. */
static void write_mark(struct wal *w)
{
    struct wal_group *g = w->filling;
    bool coming = !list_empty(&w->queue) && !w->segment_wanted;
    if (!w->mark_due || (coming && !g->open))
        return;
    if (!g->open && !wal_group_begin(w, 0) && (wal_roll(w, 0, true) < 0 || !wal_group_begin(w, 0)))
        return; /* the maker wakes us */
    if (g->capacity == 0 && !wal_group_reserve(w, 0)) {
        g->open = false;
        (void)timer_set(w->r, &w->remover.retry, w->r->now_ns + WAL_REMOVE_RETRY_NS);
        return;
    }
    wal_group_due(w, 0);
    wal_group_close_if_due(w);
}

/* ---- leaving a segment ---- */

static bool can_leave(const struct wal *w)
{
    return w->ready_count >= WAL_READY_TARGET; /* the last one is for deletes and marks */
}

void wal_roll_if_due(struct wal *w)
{
    if (!w->roll_due || w->filling->open)
        return;
    if (w->current == NULL || w->current->offset == WAL_SEGMENT_HEADER_BYTES)
        w->roll_due = false; /* nothing in it */
    else if (can_leave(w)) {
        w->roll_due = false;
        int rc = wal_roll(w, 0, false);
        ASSERT(rc == 0);
    } else
        wal_make_more(w);
}

static void roll(struct wal *w)
{
    struct wal_group *g = w->filling;
    if (!w->roll_due)
        return;
    if (g->open && g->records == 0 && !g->urgent)
        g->open = false; /* opened for a record that was refused */
    if (g->open) {
        wal_group_due(w, 0);
        wal_group_close_if_due(w);
    } else
        wal_roll_if_due(w);
}

void wal_roll_now(struct wal *w)
{
    w->roll_due = true;
    wal_truncate_more(w);
}

/* Nothing of the log is needed, but there are records in the current segment. */
static bool can_shrink(const struct wal *w)
{
    return w->current != NULL && w->current->live->records != 0 && w->hold_from > w->current->seq &&
           wal_ledger_held_from(&w->ledger) == UINT64_MAX;
}

bool wal_idle_shrink(struct wal *w)
{
    if (!can_shrink(w))
        return false;
    w->roll_due = true;
    wal_truncate_more(w);
    return can_leave(w);
}

/* ---- removing ---- */

static void remove_step(struct wal *w);

static void remove_failed(struct wal *w, int error)
{
    struct wal_remover *m = &w->remover;
    if (m->error == 0) {
        const char *name = strerrorname_np(-error);
        LOG_WARN("wal", "old log segments in %s cannot be removed: %s; tried again every 5 s",
                 w->dir, name != NULL ? name : "error");
    }
    m->error = error;
    if (!w->stopping)
        (void)timer_set(w->r, &m->retry, w->r->now_ns + WAL_REMOVE_RETRY_NS);
}

/* The oldest file is gone from its name. */
static void removed_oldest(struct wal *w, bool kept)
{
    struct wal_remover *m = &w->remover;
    if (kept)
        m->kept[m->kept_count++] = wal_ledger_oldest(&w->ledger)->seq;
    else
        w->stats.segments_removed++;
    wal_ledger_drop_oldest(&w->ledger);
    w->stats.segments_live--;
    m->unsynced = true;
}

static void directory_synced(struct wal *w)
{
    struct wal_remover *m = &w->remover;
    m->unsynced = false;
    while (m->kept_count != 0)
        w->free_seqs[w->free_count++] = m->kept[--m->kept_count];
    wal_make_again(w);
}

static void visit_step(enum wal_remove_state state)
{
    if (state == WAL_REMOVE_RENAME)
        FAILPOINT("wal.freed");
    if (state == WAL_REMOVE_UNLINK)
        FAILPOINT("wal.removed");
    if (state == WAL_REMOVE_SYNC_DIR)
        FAILPOINT("wal.removal_durable");
}

static void on_removed(struct io_op *op, int64_t result)
{
    struct wal *w = container_of(op, struct wal, remover.op);
    struct wal_remover *m = &w->remover;
    enum wal_remove_state state = m->state;
    bool again = result == -EINTR || result == -EAGAIN;
    m->state = WAL_REMOVE_IDLE;
    visit_step(state);
    if (result == -ENOENT && state != WAL_REMOVE_SYNC_DIR) {
        result = 0; /* somebody was faster: there is nothing to use again */
        state = state == WAL_REMOVE_RENAME ? WAL_REMOVE_UNLINK : state;
    }
    if (result < 0 && !again) {
        m->doubtful = m->doubtful || (state == WAL_REMOVE_SYNC_DIR && m->kept_count != 0);
        remove_failed(w, (int)result);
        return;
    }
    if (!again) {
        m->error = 0;
        if (state == WAL_REMOVE_SYNC_DIR)
            directory_synced(w);
        else if (state == WAL_REMOVE_DISCARD)
            m->doubtful = --m->kept_count != 0;
        else
            removed_oldest(w, state == WAL_REMOVE_RENAME);
    }
    remove_step(w);
}

/* One file or one sync; nothing when there is nothing to do, or a retry waits. */
static void remove_step(struct wal *w)
{
    struct wal_remover *m = &w->remover;
    const struct io_ops *ops = w->io->ops;
    const struct wal_live *live = wal_ledger_oldest(&w->ledger);
    bool due = live != NULL && live->seq < w->begin_durable.seq && live->closed;
    if (m->state != WAL_REMOVE_IDLE || w->poison != 0 || w->stopping || m->retry.slot != 0)
        return;
    uint64_t seq = m->doubtful ? m->kept[m->kept_count - 1] : due ? live->seq : 0;
    int rc = wal_segment_path(w->dir, seq, m->path);
    if (rc == 0)
        rc = wal_free_path(w->dir, seq, m->path_free);
    ASSERT(rc == 0); /* wal_open has seen to the length */
    if (m->doubtful) {
        m->state = WAL_REMOVE_DISCARD;
        ops->unlink(w->io, &m->op, m->path_free);
    } else if (due && live->whole && w->free_count + m->kept_count < WAL_FREE_MAX) {
        m->state = WAL_REMOVE_RENAME;
        ops->rename(w->io, &m->op, m->path, m->path_free);
    } else if (due) {
        m->state = WAL_REMOVE_UNLINK;
        ops->unlink(w->io, &m->op, m->path);
    } else if (m->unsynced) {
        m->state = WAL_REMOVE_SYNC_DIR;
        ops->sync_dir(w->io, &m->op, w->dir);
    }
}

/* ---- the task ---- */

bool wal_truncate_wanted(const struct wal *w)
{
    const struct wal_live *live = wal_ledger_oldest(&w->ledger);
    return w->roll_due || w->mark_due || (live != NULL && live->seq < w->begin_durable.seq);
}

static void truncate_run(struct task *task)
{
    struct wal *w = container_of(task, struct wal, truncate_task);
    if (w->poison != 0 || w->stopping)
        return;
    roll(w);
    move_begin(w);
    write_mark(w);
    remove_step(w);
}

void wal_truncate_more(struct wal *w)
{
    if (w->poison == 0 && !w->stopping)
        task_queue(w->r, &w->truncate_task);
}

static void on_retry(struct timer *timer)
{
    wal_truncate_more(container_of(timer, struct wal, remover.retry));
}

void wal_truncate_init(struct wal *w)
{
    wal_ledger_init(&w->ledger, &w->r->heap, w->io);
    w->hold_from = UINT64_MAX;
    w->begin = w->begin_durable = (struct wal_begin){1, 1, 1, 0};
    w->remover.op.done = on_removed;
    w->remover.retry.fire = on_retry;
    w->truncate_task = (struct task){.run = truncate_run, .name = "wal truncate", .bulk = true};
}

static bool removing(const struct wal *w)
{
    return w->remover.state != WAL_REMOVE_IDLE;
}

void wal_truncate_stop(struct wal *w)
{
    ASSERT(w->stopping);
    timer_cancel(w->r, &w->remover.retry);
    wal_pump(w, removing);
}

/* ---- the door ---- */

void wal_release(struct wal *w, const struct uuid *collection, uint64_t version)
{
    if (!wal_ledger_release(&w->ledger, collection, version))
        return;
    wal_truncate_more(w);
    /* If it stays idle. Without the timer the next write sets it. */
    if (can_shrink(w) && w->idle_timer.slot == 0)
        (void)timer_set(w->r, &w->idle_timer, w->r->now_ns + WAL_IDLE_NS);
}

bool wal_holder(const struct wal *w, struct uuid *collection_out, uint64_t *version_out)
{
    return wal_ledger_holder(&w->ledger, collection_out, version_out);
}

void wal_collections(const struct wal *w,
                     void (*visit)(void *arg, const struct uuid *collection, uint64_t version),
                     void *arg)
{
    wal_ledger_collections(&w->ledger, visit, arg);
}

void wal_hold_from(struct wal *w, uint64_t seq)
{
    w->hold_from = seq;
    wal_truncate_more(w);
    if (can_shrink(w) && w->idle_timer.slot == 0)
        (void)timer_set(w->r, &w->idle_timer, w->r->now_ns + WAL_IDLE_NS);
}

void wal_segments(const struct wal *w,
                  void (*visit)(void *arg, const struct wal_segment_info *info), void *arg)
{
    wal_ledger_segments(&w->ledger, w->dir, visit, arg);
}

struct uuid wal_log_uuid(const struct wal *w)
{
    return w->log_uuid;
}

uint64_t wal_written_seq(const struct wal *w)
{
    const struct wal_live *newest = wal_ledger_newest(&w->ledger);
    if (w->current != NULL)
        return w->current->seq;
    return newest != NULL ? newest->seq + 1 : w->begin.seq;
}

uint64_t wal_needed_from(const struct wal *w)
{
    uint64_t held = wal_ledger_held_from(&w->ledger), open = wal_written_seq(w);
    return held < open ? held : open;
}

uint64_t wal_roll_records(struct wal *w)
{
    uint64_t open = wal_written_seq(w);
    bool any = w->current != NULL &&
               (w->current->live->records != 0 || (w->filling->open && w->filling->records != 0));
    if (!any)
        return open;
    wal_roll_now(w);
    return open + 1;
}
