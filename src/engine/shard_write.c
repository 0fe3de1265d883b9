/* shard_write.c: the three lists of a shard's writes, and what moves an op from one to the next.
 * See shard.h for the picture.
 *
 *     queue -- prepare_task --> flight -- the log's done, then commit_task, in order --> answered
 *
 * A step of either task holds the shard alive by counting itself as a user: an answer may let the
 * last call of a dropped shard go. */
#include "base/assert.h"
#include "base/log.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/upkeep.h"
#include "os/failpoint.h"

#include <string.h>

#include "base/no_libc_heap.h"

/* ---- the queue ---- */

/* What begins again comes before what came later, in its old order. */
static void take_again(struct shard *shard)
{
    while (!list_empty(&shard->again)) {
        struct list_link *last = shard->again.anchor.prev;
        list_remove(last);
        list_push_front(&shard->queue, last);
    }
}

static void prepare_run(struct task *task)
{
    struct shard *shard = container_of(task, struct shard, prepare_task);
    struct reactor *r = shard->core->r;
    shard->users++;
    if (!shard->flight_broken)
        take_again(shard);
    while (!list_empty(&shard->queue) && !shard->flight_broken) {
        struct write_op *op = container_of(shard->queue.anchor.next, struct write_op, link);
        enum write_op_progress progress = write_op_prepare(op);
        if (progress == WRITE_OP_STALLED)
            break;
        if (progress == WRITE_OP_AGAIN || (!list_empty(&shard->queue) && reactor_slice_over(r))) {
            task_queue(r, &shard->prepare_task);
            break;
        }
    }
    shard_leave(shard);
}

void write_op_init(struct write_op *op, struct pdb_call *call, enum write_op_kind kind)
{
    memset(op, 0, sizeof(*op));
    op->call = call;
    op->kind = kind;
    list_init(&op->followers);
}

void write_op_queue(struct shard *shard, struct write_op *op)
{
    op->shard = shard;
    op->stage = WRITE_STAGE_QUEUED;
    op->stage_ns = shard->core->r->now_ns;
    list_push_back(&shard->queue, &op->link);
    shard->prepare_task.run = prepare_run;
    shard->prepare_task.name = "shard.prepare";
    shard->prepare_task.bulk = true;
    task_queue(shard->core->r, &shard->prepare_task);
}

/* ---- answers ---- */

/* A retry that waited gets what its original got. */
static void answer_follower(struct write_op *op, const struct write_op *original)
{
    op->version = original->version;
    op->count_answer = original->count_answer;
    if (original->call->error.code != 0 && op->call->error.code == 0)
        op->call->error = original->call->error;
    op->over(op);
}

void write_op_answer(struct write_op *op)
{
    struct list followers;
    list_init(&followers);
    for (struct list_link *link; (link = list_pop_front(&op->followers)) != NULL;)
        list_push_back(&followers, link);
    list_remove(&op->link);
    FAILPOINT("write.answer");
    for (struct list_link *link; (link = list_pop_front(&followers)) != NULL;)
        answer_follower(container_of(link, struct write_op, link), op);
    op->over(op);
}

/* ---- flight ---- */

static uint64_t id_hash(const struct shard *shard, struct pdb_text id)
{
    return hash_bytes(&shard->core->db->hash_key, id.ptr, id.len);
}

/* Forgets the op's rows as newest queued state, where they still are. */
static void drop_pending(struct write_op *op)
{
    struct shard *shard = op->shard;
    for (uint32_t i = 0; i < op->row_count; i++) {
        struct pdb_text id = op->rows[i].id;
        uint64_t hash = id_hash(shard, id), value;
        if (map_find(&shard->pending, hash, id.ptr, id.len, &value) &&
            value == (uint64_t)(uintptr_t)&op->rows[i])
            (void)map_remove(&shard->pending, hash, id.ptr, id.len, NULL);
    }
}

/* A row that is in the memtable now, or never will be: deletes need no room in it. */
static void unreserve(struct shard *shard, const struct pdb_row *row)
{
    shard->pending_ends--;
    if (row->deleted)
        return;
    shard->pending_rows--;
    shard->pending_text -= row->id.len + row->metadata.len;
}

/* Puts rows into the memtable; true when all are there. */
static bool commit_rows(struct write_op *op)
{
    struct shard *shard = op->shard;
    struct reactor *r = shard->core->r;
    while (op->next < op->row_count) {
        const struct pdb_row *row = &op->rows[op->next++];
        memtable_commit(shard->memtable, row);
        parts_end_older(shard, row->id, row->version);
        unreserve(shard, row);
        shard->expiring = shard->expiring || row->expires_at_us != 0;
        if (op->next % 8 == 0 && op->next < op->row_count && reactor_slice_over(r))
            return false;
    }
    return true;
}

static void finish_logged(struct write_op *op)
{
    struct shard *shard = op->shard;
    drop_pending(op);
    shard->version_visible = op->version;
    shard->committing = false;
    op->count_answer = op->kind == WRITE_OP_DELETE ? op->row_count : op->input_count;
    if (op->dedup != NULL)
        dedup_finish(&shard->dedup, op->dedup, op->version, op->row_count,
                     shard->core->r->now_realtime_us);
    metrics_time(shard->core->metrics, METRICS_WRITE_STAGE_IN + METRICS_WRITE_STAGE_PUBLISH,
                 shard->core->r->now_ns - op->stage_ns);
    memory_note_change(shard->core);
    shard_collect_later(shard);
    upkeep_after_commit(shard);
    write_op_answer(op);
}

static void finish_failed(struct write_op *op)
{
    struct shard *shard = op->shard;
    struct trail trail = {0};
    drop_pending(op);
    for (uint32_t i = op->next; i < op->row_count; i++) {
        unreserve(shard, &op->rows[i]);
    }
    dedup_abandon(&shard->dedup, op->dedup);
    shard->flight_failures++;
    if (op->rc == PDB_UNAVAILABLE) {
        (void)call_fail(
            op->call, op->rc,
            "the log failed under this write: whether it survives a restart is unknown");
        op->call->error.outcome_unknown = true;
    } else if (wal_room(shard->core->wal, false, &trail) < 0) {
        (void)call_fail_trail(op->call, op->rc, &trail);
    } else if (op->append.disk_full) {
        (void)call_fail(op->call, op->rc, "no log segment can be made for this write: no space");
        op->call->error.http_status = 507;
    } else {
        (void)call_fail(op->call, op->rc,
                        "the log could not take this write: too large, or its queue stayed full");
    }
    write_op_answer(op);
}

/* Nothing was logged; if what it rests on has failed meanwhile, it is worked out again. */
static void finish_ready(struct write_op *op)
{
    struct shard *shard = op->shard;
    if (op->kind == WRITE_OP_BARRIER || op->failures_seen == shard->flight_failures) {
        op->count_answer = op->row_count;
        write_op_answer(op);
        return;
    }
    op->call->error = (struct pdb_error){0};
    list_remove(&op->link);
    list_push_back(&shard->again, &op->link);
    op->stage = WRITE_STAGE_QUEUED;
    task_queue(shard->core->r, &shard->prepare_task);
}

static void commit_run(struct task *task)
{
    struct shard *shard = container_of(task, struct shard, commit_task);
    struct reactor *r = shard->core->r;
    shard->users++;
    while (!list_empty(&shard->flight)) {
        struct write_op *op = container_of(shard->flight.anchor.next, struct write_op, link);
        if (op->stage == WRITE_STAGE_LOGGING)
            break;
        shard->committing = op->stage == WRITE_STAGE_LOGGED;
        if ((op->stage == WRITE_STAGE_LOGGED && !commit_rows(op)) || reactor_slice_over(r)) {
            task_queue(r, &shard->commit_task);
            break;
        }
        if (op->stage == WRITE_STAGE_LOGGED)
            finish_logged(op);
        else if (op->stage == WRITE_STAGE_FAILED)
            finish_failed(op);
        else
            finish_ready(op);
    }
    if (shard->flight_broken && list_empty(&shard->flight)) {
        shard->flight_broken = false;
        shard->version_queued = shard->version_visible;
        task_queue(r, &shard->prepare_task);
    }
    shard_leave(shard);
}

static void log_has_room(struct engine_core *core)
{
    for (struct list_link *link; (link = list_pop_front(&core->stalled)) != NULL;)
        task_queue(core->r, &container_of(link, struct shard, stall_link)->prepare_task);
}

static void log_is_done(struct wal_append_op *append, int rc)
{
    struct write_op *op = container_of(append, struct write_op, append);
    struct shard *shard = op->shard;
    FAILPOINT("wal.acknowledged");
    /* What the log has refused must take all behind it along: else versions in it would have a
     * gap. */
    ASSERT(rc < 0 || !shard->flight_broken || op->version < shard->flight_broken_at);
    uint64_t now_ns = shard->core->r->now_ns;
    metrics_time(shard->core->metrics, METRICS_WRITE_STAGE_IN + METRICS_WRITE_STAGE_LOG,
                 now_ns - op->stage_ns);
    op->stage_ns = now_ns;
    op->rc = rc;
    op->stage = rc == 0 ? WRITE_STAGE_LOGGED : WRITE_STAGE_FAILED;
    op->next = 0;
    if (rc < 0 && (!shard->flight_broken || op->version < shard->flight_broken_at)) {
        shard->flight_broken = true;
        shard->flight_broken_at = op->version;
    }
    task_queue(shard->core->r, &shard->commit_task);
    log_has_room(shard->core);
}

static void fill_batch(struct write_op *op)
{
    struct shard *shard = op->shard;
    op->batch = (struct wal_batch){
        .type = WAL_RECORD_ROWS,
        .collection = shard->uuid,
        .version = op->version,
        .field_count = shard->field_count,
        .field_bytes = shard->field_bytes,
        .row_count = op->row_count,
        .rows = op->rows,
    };
    if (op->has_request)
        op->batch.request = op->request;
    op->append.batch = &op->batch;
    op->append.sync = shard->entry->config.sync;
    op->append.done = log_is_done;
}

void write_op_launch(struct write_op *op, bool to_log)
{
    struct shard *shard = op->shard;
    list_remove(&op->link);
    list_push_back(&shard->flight, &op->link);
    shard->commit_task.run = commit_run;
    shard->commit_task.name = "shard.commit";
    shard->commit_task.bulk = true;
    if (!to_log) {
        op->stage = WRITE_STAGE_READY;
        task_queue(shard->core->r, &shard->commit_task);
        return;
    }
    uint64_t now_ns = shard->core->r->now_ns;
    metrics_time(shard->core->metrics, METRICS_WRITE_STAGE_IN + METRICS_WRITE_STAGE_PREPARE,
                 now_ns - op->stage_ns);
    op->stage_ns = now_ns;
    op->version = ++shard->version_queued;
    op->stage = WRITE_STAGE_LOGGING;
    for (uint32_t i = 0; i < op->row_count; i++) {
        struct pdb_row *row = &op->rows[i];
        row->version = op->version;
        (void)map_put(&shard->pending, id_hash(shard, row->id), row->id.ptr, row->id.len,
                      (uint64_t)(uintptr_t)row, NULL);
    }
    shard->pending_ends += op->row_count;
    if (op->kind != WRITE_OP_DELETE) {
        shard->pending_rows += op->row_count;
        shard->pending_text += op->text_bytes;
    }
    fill_batch(op);
    FAILPOINT("wal.append");
    wal_append(shard->core->wal, &op->append);
}
