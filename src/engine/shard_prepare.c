/* shard_prepare.c: from a request to resulting rows, on the owner, in steps.
 *
 * Conditions (if_version, insert, update) are checked against the newest queued state, durable or
 * not. That is safe because what the log later refuses takes with it all that was built on top: an
 * answer that depends on a write still in flight (also a refusal) waits behind it, and is worked
 * out again if that write fails.
 *
 * The parts that may fail come first; the version is given, the rows become pending and the record
 * goes to the log in one go at the end (write_op_launch), which cannot fail. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/doc.h"
#include "base/text.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/part.h"

#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { STALL_MAX_MS = 1000, ROW_OVERHEAD_BYTES = 128 };

/* ---- looking ---- */

bool shard_newest_row(struct shard *shard, struct pdb_text id, int64_t now_us,
                      struct pdb_row *row_out)
{
    uint64_t value, hash = hash_bytes(&shard->core->db->hash_key, id.ptr, id.len);
    if (map_find(&shard->pending, hash, id.ptr, id.len, &value))
        *row_out = *(const struct pdb_row *)(uintptr_t)value;
    else if (!parts_newest_row(shard, id, row_out))
        return false;
    return !row_out->deleted && !shard_row_expired(row_out, now_us);
}

/* ---- retries ---- */

static int make_ids(struct write_op *op)
{
    struct arena *arena = op->call->arena;
    struct pdb_text *ids = arena_array(arena, struct pdb_text, op->input_count);
    if (ids == NULL)
        return call_no_memory(op->call);
    struct hash_key key = {bytes_get_u64(op->request.hash), bytes_get_u64(op->request.hash + 8)};
    for (uint32_t i = 0; i < op->input_count; i++) {
        if (op->records[i].id.len != 0) {
            ids[i] = op->records[i].id;
            continue;
        }
        uint32_t low[2] = {i, 0}, high[2] = {i, 1};
        uint64_t random[2] = {hash_bytes(&key, low, sizeof(low)),
                              hash_bytes(&key, high, sizeof(high))};
        struct uuid uuid;
        uuid_make_v7((uint64_t)op->request.time_us / 1000, random, &uuid);
        char *text = arena_alloc(arena, UUID_TEXT_LEN + 1);
        if (text == NULL)
            return call_no_memory(op->call);
        uuid_format(&uuid, text);
        ids[i] = (struct pdb_text){text, UUID_TEXT_LEN};
        op->input[i].id = ids[i];
    }
    op->ids_answer = ids;
    return 0;
}

/* True when the op is over: answered as its original was, or waiting for it. */
static bool is_retry(struct write_op *op)
{
    struct shard *shard = op->shard;
    struct dedup_entry *entry = op->has_request ? dedup_find(&shard->dedup, op->request.hash,
                                                             shard->core->r->now_realtime_us)
                                                : NULL;
    if (entry == NULL)
        return false;
    metrics_add(shard->core->metrics, METRICS_REQUEST_ID_HITS_AT, 1);
    if (entry->request.body_checksum != op->request.body_checksum) {
        (void)call_fail(op->call, PDB_FAILED_PRECONDITION,
                        "request_id '%.*s' was used before for another request",
                        CALL_TEXT(op->request_id));
        write_op_answer(op);
        return true;
    }
    op->request.time_us = entry->request.time_us;
    if (op->records != NULL && make_ids(op) < 0) {
        write_op_answer(op);
        return true;
    }
    if (entry->original != NULL) {
        list_remove(&op->link);
        list_push_back(&entry->original->followers, &op->link);
        return true;
    }
    op->version = entry->version;
    op->count_answer = entry->count;
    write_op_answer(op);
    return true;
}

/* ---- one row ---- */

static const char *list_name(const struct write_op *op)
{
    return op->list != NULL ? op->list : "records";
}

static int version_conflict(struct write_op *op, const char *where, struct pdb_text id,
                            uint64_t expected, uint64_t current)
{
    struct pdb_error *error = &op->call->error;
    metrics_add(op->shard->core->metrics, METRICS_CONDITIONAL_FAILURES_AT, 1);
    if (current == 0)
        (void)call_fail(op->call, PDB_FAILED_PRECONDITION,
                        "%sif_version: record '%.*s' does not exist, expected version %llu", where,
                        CALL_TEXT(id), (unsigned long long)expected);
    else if (expected == 0)
        (void)call_fail(op->call, PDB_FAILED_PRECONDITION,
                        "%sif_version: record '%.*s' exists with version %llu, expected none",
                        where, CALL_TEXT(id), (unsigned long long)current);
    else
        (void)call_fail(op->call, PDB_FAILED_PRECONDITION,
                        "%sif_version: record '%.*s' has version %llu, expected %llu", where,
                        CALL_TEXT(id), (unsigned long long)current, (unsigned long long)expected);
    error->current_version = current;
    error->has_current_version = true;
    return PDB_FAILED_PRECONDITION;
}

static int check_conditions(struct write_op *op, uint32_t i, bool exists, const struct pdb_row *old)
{
    const struct pdb_record *record = &op->records[i];
    struct pdb_text id = op->input[i].id;
    uint64_t current = exists ? old->version : 0;
    if (record->has_if_version && record->if_version != current) {
        char where[64];
        (void)snprintf(where, sizeof(where), "%.32s[%u].", list_name(op), i);
        return version_conflict(op, where, id, record->if_version, current);
    }
    if (op->kind == WRITE_OP_INSERT && exists)
        return call_fail(op->call, PDB_ALREADY_EXISTS, "%s[%u].id: record '%.*s' already exists",
                         list_name(op), i, CALL_TEXT(id));
    if (op->kind == WRITE_OP_UPDATE && !exists)
        return call_fail(op->call, PDB_NOT_FOUND, "%s[%u].id: record '%.*s' does not exist",
                         list_name(op), i, CALL_TEXT(id));
    return 0;
}

/* Columns that home may not have known when it checked. */
static int check_columns(struct write_op *op, uint32_t i, struct pdb_text metadata, bool merged)
{
    const struct catalog_entry *entry = op->shard->entry, *seen = call_state(op->call)->entry;
    struct trail trail = {0};
    int rc = 0;
    if (merged || entry->schema_version != seen->schema_version)
        rc = filter_check_columns(metadata, entry->columns, entry->config.column_count, &trail);
    list_each (link, &op->shard->guards) {
        const struct shard_guard *guard = container_of(link, struct shard_guard, link);
        if (rc == 0)
            rc = filter_check_columns(metadata, guard->columns, guard->column_count, &trail);
    }
    return rc < 0 ? call_fail(op->call, rc, "%s[%u].%s", list_name(op), i, trail.text) : 0;
}

static bool is_unset(const struct write_op *op, const struct pdb_record *record, uint32_t field)
{
    struct pdb_text name = call_state(op->call)->entry->config.fields[field].name;
    for (uint32_t i = 0; i < record->unset_vector_count; i++)
        if (text_equal(record->unset_vectors[i], name))
            return true;
    return false;
}

static int merge_vectors(struct write_op *op, uint32_t i, const struct pdb_row *old,
                         struct pdb_row *row)
{
    struct shard *shard = op->shard;
    struct arena *arena = op->call->arena;
    const void **vectors = arena_calloc(arena, shard->field_count, sizeof(void *));
    if (vectors == NULL)
        return call_no_memory(op->call);
    if (old->vectors == NULL && shard->field_count != 0) {
        parts_tell_damage(shard, op->call);
        return PDB_DATA_LOSS;
    }
    for (uint32_t f = 0; f < shard->field_count; f++) {
        if (op->input[i].vectors[f] != NULL) {
            vectors[f] = op->input[i].vectors[f];
        } else if (old->vectors[f] != NULL && !is_unset(op, &op->records[i], f)) {
            void *copy = arena_alloc_aligned(arena, shard->field_bytes[f], 64);
            if (copy == NULL)
                return call_no_memory(op->call);
            memcpy(copy, old->vectors[f], shard->field_bytes[f]);
            vectors[f] = copy;
        }
    }
    row->vectors = vectors;
    return 0;
}

static int merge_row(struct write_op *op, uint32_t i, const struct pdb_row *old,
                     struct pdb_row *row)
{
    const struct pdb_record *record = &op->records[i];
    int rc = merge_vectors(op, i, old, row);
    if (rc < 0)
        return rc;
    rc = doc_merge(op->call->arena, old->metadata, op->input[i].metadata, record->unset,
                   record->unset_count, &row->metadata);
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return call_no_memory(op->call);
    if (rc < 0)
        return call_fail(op->call, rc, "%s[%u].metadata: cannot be merged with what is stored",
                         list_name(op), i);
    if (row->metadata.len > PDB_METADATA_BYTES_MAX)
        return call_fail(op->call, PDB_INVALID_ARGUMENT,
                         "%s[%u].metadata: %zu bytes when merged, at most %d", list_name(op), i,
                         row->metadata.len, PDB_METADATA_BYTES_MAX);
    row->expires_at_us = record->has_expires_at ? record->expires_at_us : old->expires_at_us;
    return 0;
}

static int prepare_write(struct write_op *op, uint32_t i)
{
    struct shard *shard = op->shard;
    int64_t now_us = shard->core->r->now_realtime_us;
    struct pdb_row old, *row = &op->rows[i];
    bool exists = shard_newest_row(shard, op->input[i].id, now_us, &old);
    int rc = check_conditions(op, i, exists, &old);
    if (rc < 0)
        return rc;
    int64_t created_at_us = exists ? old.created_at_us : now_us;
    if (op->kind == WRITE_OP_UPDATE) {
        row->id = op->input[i].id;
        if ((rc = merge_row(op, i, &old, row)) < 0)
            return rc;
    }
    if ((rc = check_columns(op, i, row->metadata, op->kind == WRITE_OP_UPDATE)) < 0)
        return rc;
    row->created_at_us = created_at_us;
    row->updated_at_us = now_us;
    row->deleted = false;
    op->row_count = i + 1;
    op->text_bytes += row->id.len + row->metadata.len;
    return 0;
}

static int prepare_delete(struct write_op *op, uint32_t i)
{
    struct shard *shard = op->shard;
    struct pdb_row old;
    bool exists = shard_newest_row(shard, op->ids[i], shard->core->r->now_realtime_us, &old);
    if (op->has_if_version && op->if_version != (exists ? old.version : 0))
        return version_conflict(op, "", op->ids[i], op->if_version, exists ? old.version : 0);
    if (!exists)
        return 0;
    if (op->filter != NULL && old.version > op->scanned_version &&
        !filter_matches(op->filter, old.metadata))
        return 0;
    struct pdb_row *row = &op->rows[op->row_count++];
    *row = (struct pdb_row){
        .id = op->ids[i], .updated_at_us = shard->core->r->now_realtime_us, .deleted = true};
    op->text_bytes += row->id.len;
    return 0;
}

/* ---- admission ---- */

static enum write_op_progress refuse(struct write_op *op)
{
    write_op_answer(op);
    return WRITE_OP_OVER;
}

static uint64_t estimate_bytes(const struct write_op *op)
{
    uint64_t bytes = (uint64_t)op->input_count * (op->shard->row_bytes + ROW_OVERHEAD_BYTES);
    for (uint32_t i = 0; i < op->input_count; i++)
        bytes += op->input[i].id.len + op->input[i].metadata.len;
    return bytes;
}

/* True: refused, the error is told. */
static bool is_refused(struct write_op *op)
{
    struct engine_core *core = op->shard->core;
    struct trail trail = {0};
    if (call_stopped(op->call) || shard_gone(op->shard, op->call))
        return true;
    if (op->shard->lost_segments != 0) {
        parts_tell_damage(op->shard, op->call);
        return true;
    }
    if (wal_poisoned(core->wal)) {
        (void)call_fail(
            op->call, PDB_UNAVAILABLE,
            "the log of core %u has failed and takes no more writes; restart the server", core->id);
        return true;
    }
    bool delete_only = op->kind == WRITE_OP_DELETE;
    int rc = wal_room(core->wal, delete_only, &trail);
    if (rc == 0 && !delete_only)
        rc = memory_admit(core, estimate_bytes(op), &trail);
    if (rc < 0)
        (void)call_fail_trail(op->call, rc, &trail);
    return rc < 0;
}

static void stall_timer_fires(struct timer *timer)
{
    struct engine_core *core = container_of(timer, struct engine_core, stall_timer);
    for (struct list_link *link; (link = list_pop_front(&core->stalled)) != NULL;)
        task_queue(core->r, &container_of(link, struct shard, stall_link)->prepare_task);
}

/* The log's queue is full: woken by its next acknowledgement or by the timer; refused a second
 * after it came here, so that many that wait in line do not each wait a second for the one
 * before. */
static enum write_op_progress stall(struct write_op *op)
{
    struct shard *shard = op->shard;
    struct engine_core *core = shard->core;
    uint64_t now_ns = core->r->now_ns;
    if (now_ns - op->stage_ns > (uint64_t)STALL_MAX_MS * 1000000) {
        (void)call_fail(op->call, PDB_RESOURCE_EXHAUSTED,
                        "the log's queue has been full for a second: the disk does not keep up");
        return refuse(op);
    }
    if (!list_linked(&shard->stall_link))
        list_push_back(&core->stalled, &shard->stall_link);
    core->stall_timer.fire = stall_timer_fires;
    if (timer_set(core->r, &core->stall_timer, now_ns + (uint64_t)20 * 1000000) < 0)
        return WRITE_OP_AGAIN;
    return WRITE_OP_STALLED;
}

/* ---- the whole ---- */

static int make_room(struct write_op *op)
{
    struct shard *shard = op->shard;
    if (map_reserve(&shard->pending, op->row_count) < 0)
        return PDB_RESOURCE_EXHAUSTED;
    int rc = parts_reserve_ends(shard, shard->pending_ends + op->row_count);
    if (rc == 0 &&
        op->kind !=
            WRITE_OP_DELETE) /* deletes take no room, and must not ask for any at the limit */
        rc = memtable_prepare(shard->memtable, shard->pending_rows + op->row_count,
                              shard->pending_text + op->text_bytes);
    if (rc < 0)
        return rc;
    if (op->has_request) {
        op->dedup = dedup_begin(&shard->dedup, &op->request, op);
        if (op->dedup == NULL)
            return PDB_RESOURCE_EXHAUSTED;
    }
    return 0;
}

/* In the log, rather more than less. */
static uint64_t logged_bytes(const struct write_op *op)
{
    return op->text_bytes + op->row_count * (op->shard->row_bytes + ROW_OVERHEAD_BYTES);
}

static int begin(struct write_op *op)
{
    op->next = op->row_count = 0;
    op->text_bytes = 0;
    op->failures_seen = op->shard->flight_failures;
    if (op->begun)
        return 0;
    op->begun = true;
    if (op->request.time_us == 0)
        op->request.time_us = op->shard->core->r->now_realtime_us;
    if (op->kind != WRITE_OP_DELETE)
        return make_ids(op);
    op->rows = arena_array(op->call->arena, struct pdb_row, op->input_count);
    return op->rows != NULL ? 0 : call_no_memory(op->call);
}

enum write_op_progress write_op_prepare(struct write_op *op)
{
    struct shard *shard = op->shard;
    struct reactor *r = shard->core->r;
    if (op->kind == WRITE_OP_BARRIER) {
        write_op_launch(op, false);
        return WRITE_OP_OVER;
    }
    if (!op->begun || op->failures_seen != shard->flight_failures) {
        if (is_retry(op))
            return WRITE_OP_OVER;
        if (is_refused(op) || begin(op) < 0)
            return refuse(op);
    } else if (call_stopped(op->call) || shard_gone(shard, op->call)) { /* between two steps */
        return refuse(op);
    }
    while (op->next < op->input_count) {
        int rc = op->kind == WRITE_OP_DELETE ? prepare_delete(op, op->next)
                                             : prepare_write(op, op->next);
        if (rc < 0) {
            write_op_launch(op, false); /* the refusal may rest on a write in flight */
            return WRITE_OP_OVER;
        }
        if (++op->next % 8 == 0 && op->next < op->input_count && reactor_slice_over(r))
            return WRITE_OP_AGAIN;
    }
    if (call_stopped(op->call) || shard_gone(shard, op->call))
        return refuse(op);
    if (op->row_count == 0 && !op->has_request) {
        op->version = shard->version_queued;
        write_op_launch(op, false);
        return WRITE_OP_OVER;
    }
    if (wal_would_wait(shard->core->wal, logged_bytes(op)))
        return stall(op);
    if (make_room(op) < 0) {
        (void)call_no_memory(op->call);
        return refuse(op);
    }
    write_op_launch(op, true);
    return WRITE_OP_OVER;
}
