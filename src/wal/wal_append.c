/* wal_append.c: gathers the records of many writers into the group that is being built.
 *
 *     wal_append -> waiting -> queue -> encoded into the group (lsn) -> group on disk -> done
 *                   1 s max    4 MiB    budgeted task                   wal_sync.c
 *
 * One group is written while the next one is built: depth 1, self-clocking. While the disk works on
 * group g, whatever arrives joins g+1, so sharing a flush needs no timer, and the more writers
 * there are the larger the groups become. Depth 2 was rejected: on a crash the second could be
 * there without the first, and acknowledgements would need a protocol that depth 1 gets for nothing
 * (a prefix without holes).
 *
 * Nothing is copied twice and nothing is allocated per record: a batch is encoded from the shard's
 * rows straight into the group's aligned buffer, with the checksum taken while the bytes are in the
 * cache. A large batch is encoded in steps, so that it never holds the reactor for longer than its
 * slice; the group stays open until the record is whole.
 *
 * Order. Records reach the disk in the order of wal_append, and successes are told in that order
 * even when a weak mode could be answered earlier: a collection may change its mode while writes
 * are under way, and a shard shows rows in the order of versions. A refusal takes everything that
 * was queued behind it along, because these writes may carry later versions of the same shard, and
 * a version that is missing in the log is damage (rule W13).
 *
 * The first group of a life is written at once and its records are answered when it is durable,
 * whatever their mode (rule W24). Until then the log may still end with the CLOSE of the life
 * before, and a start that finds it so takes every version that was told for one that is in the
 * log.
 *
 * Limits. The queue holds pointers, no copies: it is bounded by the bytes that it would encode to.
 * What finds it full waits at its sender's memory for a second at most. */
#include "base/assert.h"
#include "wal/wal_internal.h"

#include "base/no_libc_heap.h"

static struct wal_append_op *op_of(struct list_link *link)
{
    return container_of(link, struct wal_append_op, link);
}

static bool is_flush(const struct wal_append_op *op)
{
    return op->batch == NULL;
}

/* ---- telling ---- */

void wal_deliver(struct wal *w)
{
    struct list_link *link;
    while (!list_empty(&w->order)) {
        struct wal_append_op *op = op_of(w->order.anchor.next);
        if (!op->priv.settled && op->priv.group_seq > w->durable_group_seq)
            break;
        list_remove(&op->link);
        if (w->metrics != NULL && !op->priv.settled && !is_flush(op))
            metrics_time(w->metrics, METRICS_WAL_COMMIT_IN, w->r->now_ns - op->priv.queued_at_ns);
        op->done(op, op->priv.rc);
    }
    while ((link = list_pop_front(&w->failed)) != NULL) {
        struct wal_append_op *op = op_of(link);
        op->done(op, op->priv.rc);
    }
}

/* A flush is on disk with the newest group that holds or will hold a record. */
static void join_flush(struct wal *w, struct wal_append_op *op)
{
    op->priv.group_seq = w->next_group_seq - 1;
    if (w->filling->open && w->filling->records != 0) {
        op->priv.group_seq = w->filling->group_seq;
        wal_group_due(w, 0);
    }
    list_push_back(&w->order, &op->link);
}

static void refuse(struct wal *w, struct wal_append_op *op, int rc)
{
    if (is_flush(op)) {
        join_flush(w, op);
        return;
    }
    op->priv.rc = rc;
    list_push_back(&w->failed, &op->link);
}

/* The queue's first cannot be logged: it and all behind it are told so. */
static void refuse_queue(struct wal *w, int rc)
{
    struct list_link *link;
    w->encoding = false;
    w->segment_wanted = false;
    w->queue_bytes = 0;
    while ((link = list_pop_front(&w->queue)) != NULL)
        refuse(w, op_of(link), rc);
    while ((link = list_pop_front(&w->waiting)) != NULL)
        refuse(w, op_of(link), rc);
    timer_cancel(w->r, &w->wait_timer);
    if (w->mark_due) /* it waited for the group of these */
        wal_truncate_more(w);
}

/* The same, because no segment could be made for the first. */
static void refuse_queue_full_disk(struct wal *w)
{
    list_each (link, &w->queue) {
        op_of(link)->disk_full = true;
    }
    list_each (link, &w->waiting) {
        op_of(link)->disk_full = true;
    }
    refuse_queue(w, PDB_RESOURCE_EXHAUSTED);
}

/* ---- the queue ---- */

static bool queue_has_room(const struct wal *w, const struct wal_append_op *op)
{
    return is_flush(op) || w->queue_bytes == 0 ||
           w->queue_bytes + op->priv.body_bytes <= w->options.queue_bytes_max;
}

static void enter_queue(struct wal *w, struct wal_append_op *op)
{
    list_push_back(&w->queue, &op->link);
    w->queue_bytes += op->priv.body_bytes;
}

/* The first of those that wait sets the clock. */
static void watch_waiting(struct wal *w)
{
    if (list_empty(&w->waiting)) {
        timer_cancel(w->r, &w->wait_timer);
        return;
    }
    struct wal_append_op *first = op_of(w->waiting.anchor.next);
    if (timer_set(w->r, &w->wait_timer, first->priv.queued_at_ns + WAL_QUEUE_WAIT_NS) == 0)
        return;
    struct list_link *link;
    while ((link = list_pop_front(&w->waiting)) != NULL)
        refuse(w, op_of(link), PDB_RESOURCE_EXHAUSTED);
    wal_encode_more(w);
}

static void admit_waiting(struct wal *w)
{
    bool moved = false;
    while (!list_empty(&w->waiting) && queue_has_room(w, op_of(w->waiting.anchor.next))) {
        enter_queue(w, op_of(list_pop_front(&w->waiting)));
        moved = true;
    }
    if (moved)
        watch_waiting(w);
}

static void on_waited(struct timer *timer)
{
    struct wal *w = container_of(timer, struct wal, wait_timer);
    struct list_link *link;
    admit_waiting(w);
    if (list_empty(&w->waiting) ||
        op_of(w->waiting.anchor.next)->priv.queued_at_ns + WAL_QUEUE_WAIT_NS > w->r->now_ns) {
        watch_waiting(w);
        return;
    }
    while ((link = list_pop_front(&w->waiting)) != NULL)
        refuse(w, op_of(link), PDB_RESOURCE_EXHAUSTED);
    wal_encode_more(w);
}

/* ---- encoding ---- */

static enum wal_encoding encoding_of(const struct wal *w, const struct wal_batch *batch)
{
    return batch->type == WAL_RECORD_ROWS ? w->options.encoding : WAL_ENCODING_BINARY;
}

enum place { PLACED, GROUP_FULL, NO_SEGMENT, NO_SPACE };

/* Finds room for a record in the group being built, opening it if needed. */
static enum place place_record(struct wal *w, const struct wal_append_op *op, uint64_t record_bytes)
{
    struct wal_group *g = w->filling;
    if (!op->priv.delete_only && w->low_space)
        return NO_SPACE;
    if (g->open && !wal_group_fits(w, record_bytes)) {
        if (g->records != 0)
            return GROUP_FULL;
        g->open = false; /* opened for a record that was refused */
    }
    if (!g->open && !wal_group_begin(w, record_bytes)) {
        int rc = wal_roll(w, record_bytes, op->priv.delete_only);
        if (rc == PDB_UNAVAILABLE)
            return NO_SEGMENT;
        if (rc < 0 || !wal_group_begin(w, record_bytes))
            return NO_SPACE;
    }
    return wal_group_reserve(w, record_bytes) ? PLACED : NO_SPACE;
}

/* True: the queue's first may be encoded. */
static bool begin_record(struct wal *w, struct wal_append_op *op)
{
    if (op->priv.body_bytes > WAL_RECORD_BYTES_MAX) {
        refuse_queue(w, PDB_RESOURCE_EXHAUSTED);
        return false;
    }
    uint64_t record_bytes = wal_record_bytes(op->priv.body_bytes);
    bool waited = w->segment_wanted;
    w->segment_wanted = false;
    switch (place_record(w, op, record_bytes)) {
    case GROUP_FULL:
        wal_group_due(w, 0);
        return false;
    case NO_SEGMENT:
        w->segment_wanted = true;
        w->stats.segment_waits += !waited;
        return false;
    case NO_SPACE:
        refuse_queue_full_disk(w);
        return false;
    case PLACED:
        break;
    }
    if (!wal_ledger_prepare(&w->ledger)) {
        refuse_queue(w, PDB_RESOURCE_EXHAUSTED);
        return false;
    }
    bool avro = encoding_of(w, op->batch) == WAL_ENCODING_AVRO;
    wal_encoder_init(&w->encoder, op->batch, avro ? w->avro : NULL,
                     w->filling->bytes + w->filling->len + WAL_RECORD_HEADER_BYTES,
                     op->priv.body_bytes);
    w->encoding = true;
    return true;
}

/* The log shows that this life has written. */
static bool begun(const struct wal *w)
{
    return w->durable_group_seq >= w->life_group_seq;
}

/* When the group that carries it must be closed. */
static void set_due(struct wal *w, const struct wal_append_op *op)
{
    if (op->sync == PDB_SYNC_ALWAYS || (!begun(w) && op->sync != PDB_SYNC_BATCH))
        wal_group_due(w, 0);
    else if (op->sync == PDB_SYNC_BATCH)
        wal_group_due(w, w->r->now_ns + w->options.batch_window_us * 1000);
    else if (op->sync == PDB_SYNC_PERIODIC)
        wal_group_due(w, w->r->now_ns + w->options.period_ms * 1000 * 1000);
}

static void finish_record(struct wal *w, struct wal_append_op *op)
{
    const struct wal_batch *batch = op->batch;
    bool avro = encoding_of(w, batch) == WAL_ENCODING_AVRO;
    struct wal_record_header header = {
        .len = wal_record_bytes(op->priv.body_bytes),
        .body_len = op->priv.body_bytes,
        .type = (uint8_t)batch->type,
        .encoding = (uint8_t)encoding_of(w, batch),
        .collection = batch->collection,
        .shard = batch->shard,
        .row_count = batch->type == WAL_RECORD_ROWS ? batch->row_count : 0,
        .version = batch->version,
        .request = batch->request,
        .body_crc = w->encoder.crc,
        .schema = avro ? WAL_AVRO_FINGERPRINT : 0,
    };
    w->encoding = false;
    list_remove(&op->link);
    w->queue_bytes -= op->priv.body_bytes;
    op->lsn = wal_group_add(w, &header);
    wal_ledger_note(&w->ledger, w->filling->segment->live, &batch->collection, batch->version);
    op->priv.group_seq = w->filling->group_seq;
    op->priv.settled = (op->sync == PDB_SYNC_PERIODIC || op->sync == PDB_SYNC_NEVER) && begun(w);
    list_push_back(&w->order, &op->link);
    set_due(w, op);
    admit_waiting(w);
}

/* One step of the queue's first. False: nothing can be done now. */
static bool encode_step(struct wal *w)
{
    if (list_empty(&w->queue))
        return false;
    struct wal_append_op *op = op_of(w->queue.anchor.next);
    if (is_flush(op)) {
        list_remove(&op->link);
        join_flush(w, op);
        return true;
    }
    if (!w->encoding && !begin_record(w, op))
        return false;
    if (!wal_encode_step(&w->encoder, WAL_STEP_BYTES))
        return true;
    if (w->encoder.failed)
        refuse_queue(w, PDB_RESOURCE_EXHAUSTED);
    else
        finish_record(w, op);
    return true;
}

static void encode(struct task *task)
{
    struct wal *w = container_of(task, struct wal, encode_task);
    while (w->poison == 0 && encode_step(w)) {
        if (reactor_slice_over(w->r)) {
            task_queue(w->r, &w->encode_task);
            break;
        }
    }
    if (w->poison == 0)
        wal_group_close_if_due(w);
    wal_deliver(w);
}

void wal_encode_more(struct wal *w)
{
    task_queue(w->r, &w->encode_task);
}

void wal_append_init(struct wal *w)
{
    list_init(&w->waiting);
    list_init(&w->queue);
    list_init(&w->order);
    list_init(&w->failed);
    w->encode_task = (struct task){.run = encode, .name = "wal encode", .bulk = true};
    w->wait_timer.fire = on_waited;
}

/* ---- the door ---- */

static bool only_deletes(const struct wal_batch *batch)
{
    for (uint32_t i = 0; batch->type == WAL_RECORD_ROWS && i < batch->row_count; i++)
        if (!batch->rows[i].deleted)
            return false;
    return true;
}

static void enter(struct wal *w, struct wal_append_op *op)
{
    op->priv.queued_at_ns = w->r->now_ns;
    if (w->poison != 0) {
        op->priv.rc = PDB_UNAVAILABLE;
        op->priv.settled = true;
        list_push_back(&w->order, &op->link);
    } else if (list_empty(&w->waiting) && queue_has_room(w, op)) {
        enter_queue(w, op);
    } else {
        bool first = list_empty(&w->waiting);
        w->stats.queue_waits++;
        list_push_back(&w->waiting, &op->link);
        if (first)
            watch_waiting(w);
    }
    wal_encode_more(w);
}

void wal_append(struct wal *w, struct wal_append_op *op)
{
    ASSERT(op->batch != NULL && !list_linked(&op->link));
    memset(&op->priv, 0, sizeof(op->priv));
    op->disk_full = false;
    op->priv.delete_only = only_deletes(op->batch);
    wal_space_check(w);
    /* Too large: refused in its turn, with what has been queued behind it by then. */
    if (!wal_body_bytes(op->batch, encoding_of(w, op->batch), &op->priv.body_bytes))
        op->priv.body_bytes = WAL_RECORD_BYTES_MAX + 1;
    enter(w, op);
}

void wal_flush(struct wal *w, struct wal_append_op *op)
{
    ASSERT(!list_linked(&op->link));
    memset(&op->priv, 0, sizeof(op->priv));
    op->disk_full = false;
    op->batch = NULL;
    enter(w, op);
}

bool wal_congested(const struct wal *w)
{
    return !list_empty(&w->waiting) || w->queue_bytes >= w->options.queue_bytes_max;
}

bool wal_would_wait(const struct wal *w, uint64_t body_bytes)
{
    return wal_congested(w) ||
           (w->queue_bytes != 0 && body_bytes > w->options.queue_bytes_max - w->queue_bytes);
}

/* ---- room ---- */

void wal_space_check(struct wal *w)
{
    if (w->options.min_free_bytes == 0 ||
        (w->space_checked_ns != 0 && w->r->now_ns - w->space_checked_ns < WAL_SPACE_CHECK_NS))
        return;
    int64_t bytes = w->io->ops->free_space(w->io, w->dir);
    w->space_checked_ns = w->r->now_ns | 1;
    if (bytes >= 0)
        w->low_space = (uint64_t)bytes < w->options.min_free_bytes;
}

/* No further segment can be made, and the one in use is nearly full. A single failure to make one
 * ahead of its time refuses nobody. */
static bool out_of_segments(const struct wal *w)
{
    return w->maker.error != 0 && w->ready_count < WAL_READY_TARGET &&
           (w->current == NULL || w->current->size - w->current->offset < w->current->size / 4);
}

int wal_room(struct wal *w, bool delete_only, struct trail *trail)
{
    if (w->poison != 0)
        return trail_add(trail, PDB_UNAVAILABLE, "the log of %s failed: writes need a restart",
                         w->dir);
    if (delete_only)
        return 0;
    wal_space_check(w);
    if (w->low_space)
        return trail_add_http(trail, PDB_RESOURCE_EXHAUSTED, 507,
                              "less than %" PRIu64 " bytes free for the log in %s",
                              w->options.min_free_bytes, w->dir);
    if (out_of_segments(w)) {
        const char *name = strerrorname_np(-w->maker.error);
        return trail_add_http(trail, PDB_RESOURCE_EXHAUSTED, 507, "no new log segment in %s: %s",
                              w->dir, name != NULL ? name : "error");
    }
    return 0;
}
