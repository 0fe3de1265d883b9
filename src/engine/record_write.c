/* record_write.c: the home side of writes and deletes: checks the request in steps, hands it to the
 * shard, takes the answer home. */
#include "base/crc32c.h"
#include "base/text.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/fetch.h"
#include "engine/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { REQUEST_ID_BYTES_MAX = 512 };

/* ---- shared by writes and deletes ---- */

static int set_request(struct write_op *op, struct pdb_text request_id, uint32_t checksum)
{
    struct reactor *r = call_state(op->call)->here->r;
    op->request_id = request_id;
    op->has_request = request_id.len != 0;
    op->request.body_checksum = checksum;
    if (request_id.len > REQUEST_ID_BYTES_MAX)
        return call_fail(op->call, PDB_INVALID_ARGUMENT, "request_id: at most %d bytes, found %zu",
                         REQUEST_ID_BYTES_MAX, request_id.len);
    if (op->has_request)
        dedup_hash(request_id.ptr, request_id.len, op->request.hash);
    else
        r->io->ops->random(r->io, op->request.hash,
                           sizeof(op->request.hash)); /* what ids made here derive from */
    return 0;
}

static unsigned outcome(int code)
{
    switch (code) {
    case 0:
        return METRICS_RESULT_OK;
    case PDB_RESOURCE_EXHAUSTED:
        return METRICS_RESULT_EXHAUSTED;
    case PDB_CANCELLED:
    case PDB_DEADLINE_EXCEEDED:
        return METRICS_RESULT_CANCELLED;
    case PDB_UNAVAILABLE:
        return METRICS_RESULT_FAILED;
    default:
        return METRICS_RESULT_REFUSED;
    }
}

_Static_assert((int)WRITE_OP_UPSERT == METRICS_WRITE_UPSERT &&
                   (int)WRITE_OP_INSERT == METRICS_WRITE_INSERT &&
                   (int)WRITE_OP_UPDATE == METRICS_WRITE_UPDATE &&
                   (int)WRITE_OP_DELETE == METRICS_WRITE_DELETE,
               "the label of writes_total is the kind of a write");

static void count_outcome(struct write_op *op)
{
    struct engine_core *core = call_state(op->call)->here;
    unsigned place = METRICS_PLACE(RESULT, op->kind, outcome(op->call->error.code));
    metrics_add(core->metrics, METRICS_WRITES_AT + place,
                op->call->error.code == 0 ? op->count_answer : op->input_count);
    metrics_time(core->metrics, METRICS_WRITE_IN,
                 core->r->now_ns - call_state(op->call)->started_ns);
}

static void queue_at_shard(struct pdb_call *call)
{
    struct write_op *op = call_state(call)->work;
    write_op_queue(call_state(call)->shard, op);
}

static struct pdb_text id_of_record(struct pdb_call *call, uint32_t i)
{
    return container_of(call, struct pdb_write, call)->records[i].id;
}

/* An update keeps vectors that may lie on disk: they are brought first. */
static void update_at_shard(struct pdb_call *call)
{
    struct fetch_ids *ids = arena_new(call->arena, struct fetch_ids);
    if (ids == NULL) {
        queue_at_shard(call);
        return;
    }
    ids->count = container_of(call, struct pdb_write, call)->record_count;
    ids->id_at = id_of_record;
    ids->then = queue_at_shard;
    fetch_ids_run(call, ids);
}

/* ---- writes ---- */

struct write_work {
    struct write_op op; /* first: call_state.work is both */
    struct validate_batch batch;
};

static void write_over(struct write_op *op)
{
    struct pdb_write *w = container_of(op->call, struct pdb_write, call);
    count_outcome(op);
    if (op->call->error.code == 0) {
        w->count_out = op->count_answer;
        w->version_out = op->version;
        w->ids_out = op->ids_answer;
    }
    call_return(op->call);
}

static int write_ready(struct pdb_call *call, struct write_work *work)
{
    struct pdb_write *w = container_of(call, struct pdb_write, call);
    static const enum write_op_kind kinds[] = {WRITE_OP_UPSERT, WRITE_OP_INSERT, WRITE_OP_UPDATE};
    struct write_op *op = &work->op;
    write_op_init(op, call, kinds[w->kind]);
    op->over = write_over;
    op->list = work->batch.list;
    op->records = w->records;
    op->input = work->batch.rows_out;
    op->input_count = w->record_count;
    op->rows = op->input;
    if (w->kind == PDB_WRITE_UPDATE)
        op->rows = arena_calloc(call->arena, w->record_count, sizeof(struct pdb_row));
    if (op->rows == NULL)
        return call_no_memory(call);
    return set_request(op, w->request_id, work->batch.checksum);
}

static void validate_step(struct pdb_call *call)
{
    struct write_work *work = call_state(call)->work;
    struct trail trail = {0};
    struct reactor *r = call_state(call)->here->r;
    while (work->batch.next < work->batch.record_count) {
        int rc = validate_batch_next(&work->batch, &trail);
        if (rc < 0) {
            (void)call_fail_trail(call, rc, &trail);
            call_return(call);
            return;
        }
        if (work->batch.next % 8 == 0 && reactor_slice_over(r)) {
            if (call_stopped(call))
                call_return(call);
            else
                call_again(call);
            return;
        }
    }
    bool update = work->batch.kind == PDB_WRITE_UPDATE;
    if (call_stopped(call) || write_ready(call, work) < 0)
        call_return(call);
    else
        call_send_to_shard(call, update ? update_at_shard : queue_at_shard);
}

void pdb_write_start(struct pdb_write *w)
{
    struct pdb_call *call = &w->call;
    struct trail trail = {0};
    if (!call_begin(call))
        return;
    if ((unsigned)w->kind > PDB_WRITE_UPDATE) {
        (void)call_fail(call, PDB_INVALID_ARGUMENT, "kind: unknown");
        call_return(call);
        return;
    }
    struct write_work *work = arena_new(call->arena, struct write_work);
    if (work == NULL || call_resolve(call, w->collection) < 0) {
        (void)call_no_memory(call);
        call_return(call);
        return;
    }
    struct call_state *s = call_state(call);
    s->work = work;
    work->batch = (struct validate_batch){
        .entry = s->entry,
        .kind = w->kind,
        .list = call->batch_name,
        .records = w->records,
        .record_count = w->record_count,
        .want_checksum = w->request_id.len != 0,
        .now_us = s->now_us,
        .hash_key = &call->db->hash_key,
        .arena = call->arena,
    };
    int rc = validate_batch_begin(&work->batch, &trail);
    if (rc < 0) {
        (void)call_fail_trail(call, rc, &trail);
        call_return(call);
        return;
    }
    call_state(call)->task.bulk = true;
    call_run(call, validate_step);
}

/* ---- deletes ---- */

/* By filter: a scan at one version finds the ids, then they are deleted like any others. A row that
 * is written between the scan and the delete is looked at again with its new contents; one that is
 * added in between is left. */
struct delete_work {
    struct write_op op;
    struct filter *filter;
    struct shard_view view;
    struct view_cursor cursor;
    struct pdb_text *ids;
    size_t id_count, id_capacity;
    struct pdb_call *call;
    bool failed;
};

static void delete_over(struct write_op *op)
{
    struct pdb_delete *d = container_of(op->call, struct pdb_delete, call);
    count_outcome(op);
    if (op->call->error.code == 0) {
        d->count_out = op->count_answer;
        d->version_out = op->version;
    }
    call_return(op->call);
}

static uint32_t delete_checksum(const struct pdb_delete *d)
{
    uint32_t crc = crc32c(0, "delete", 6);
    uint64_t numbers[3] = {d->has_filter, d->has_if_version ? d->if_version : UINT64_MAX,
                           d->id_count};
    crc = crc32c(crc, numbers, sizeof(numbers));
    if (d->has_filter)
        crc = crc32c(crc, d->filter.ptr, d->filter.len);
    for (uint32_t i = 0; i < d->id_count; i++) {
        crc = crc32c(crc, &d->ids[i].len, sizeof(d->ids[i].len));
        crc = crc32c(crc, d->ids[i].ptr, d->ids[i].len);
    }
    return crc;
}

static int visit_match(void *arg, uint64_t key)
{
    struct delete_work *work = arg;
    struct arena *arena = work->call->arena;
    struct pdb_row row;
    if (work->id_count == work->id_capacity) {
        size_t capacity = work->id_capacity == 0 ? 64 : work->id_capacity * 2;
        struct pdb_text *ids =
            arena_grow(arena, work->ids, work->id_capacity * sizeof(*ids), capacity * sizeof(*ids));
        if (ids == NULL) {
            work->failed = true;
            return 1;
        }
        work->ids = ids;
        work->id_capacity = capacity;
    }
    (void)view_row(&work->view, key, &row, NULL);
    struct pdb_text id = arena_copy_text(arena, row.id.ptr, row.id.len);
    work->failed = id.ptr == NULL;
    work->ids[work->id_count] = id;
    work->id_count += !work->failed;
    return work->failed;
}

static void scan_over(struct pdb_call *call, struct delete_work *work)
{
    view_close(&work->view);
    if (work->failed)
        (void)call_no_memory(call);
    if (work->id_count > UINT32_MAX)
        (void)call_fail(call, PDB_RESOURCE_EXHAUSTED,
                        "filter: matches too many records for one delete");
    if (call->error.code != 0) {
        call_return(call);
        return;
    }
    work->op.ids = work->ids;
    work->op.input_count = (uint32_t)work->id_count;
    work->op.filter = work->filter;
    write_op_queue(call_state(call)->shard, &work->op);
}

static void scan_step(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct delete_work *work = s->work;
    bool complete = false;
    while (!complete && !work->failed && !call_stopped(call) && !shard_gone(s->shard, call)) {
        complete = view_scan_step(&work->view, &work->cursor, work->filter, 256, visit_match, work);
        if (!complete && reactor_slice_over(s->here->r)) {
            call_again(call);
            return;
        }
    }
    scan_over(call, work);
}

static void delete_at_shard(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct delete_work *work = s->work;
    struct pdb_delete *d = container_of(call, struct pdb_delete, call);
    if (!d->has_filter) {
        queue_at_shard(call);
        return;
    }
    work->op.scanned_version = s->shard->version_visible;
    if (view_open(call, &work->view) < 0) {
        call_return(call);
        return;
    }
    call_state(call)->task.bulk = true;
    call_run(call, scan_step);
}

static int check_ids(struct pdb_delete *d)
{
    struct trail trail = {0};
    if (d->id_count < 1 || d->id_count > PDB_BATCH_RECORDS_MAX)
        return call_fail(&d->call, PDB_INVALID_ARGUMENT, "ids: expected 1 to %d ids, found %u",
                         PDB_BATCH_RECORDS_MAX, d->id_count);
    if (d->has_if_version && d->id_count != 1)
        return call_fail(&d->call, PDB_INVALID_ARGUMENT, "if_version: only with exactly one id");
    for (uint32_t i = 0; i < d->id_count; i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "ids[%u]", i);
        int rc = validate_id(d->ids[i], path, &trail);
        if (rc < 0)
            return call_fail_trail(&d->call, rc, &trail);
    }
    return 0;
}

static int text_order(const void *a, const void *b)
{
    return text_compare(*(const struct pdb_text *)a, *(const struct pdb_text *)b);
}

/* Each id once: twice in the list is legal and counts once. */
static int unique_ids(struct pdb_delete *d, struct write_op *op)
{
    struct pdb_text *ids = arena_array(d->call.arena, struct pdb_text, d->id_count);
    if (ids == NULL)
        return call_no_memory(&d->call);
    memcpy(ids, d->ids, d->id_count * sizeof(*ids));
    qsort(ids, d->id_count, sizeof(*ids), text_order);
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->id_count; i++)
        if (count == 0 || !text_equal(ids[count - 1], ids[i]))
            ids[count++] = ids[i];
    op->ids = ids;
    op->input_count = count;
    return 0;
}

static int compile_delete_filter(struct pdb_delete *d, struct delete_work *work)
{
    if (d->id_count != 0 || d->has_if_version)
        return call_fail(&d->call, PDB_INVALID_ARGUMENT,
                         "give either ids or a filter, and if_version only with one id");
    return call_compile_filter(&d->call, d->filter, "filter", &work->filter);
}

void pdb_delete_start(struct pdb_delete *d)
{
    struct pdb_call *call = &d->call;
    if (!call_begin(call))
        return;
    struct delete_work *work = arena_new(call->arena, struct delete_work);
    if (work == NULL || call_resolve(call, d->collection) < 0) {
        (void)call_no_memory(call);
        call_return(call);
        return;
    }
    call_state(call)->work = work;
    work->call = call;
    write_op_init(&work->op, call, WRITE_OP_DELETE);
    work->op.over = delete_over;
    work->op.has_if_version = d->has_if_version;
    work->op.if_version = d->if_version;
    int rc = d->has_filter ? compile_delete_filter(d, work) : check_ids(d);
    if (rc == 0 && !d->has_filter)
        rc = unique_ids(d, &work->op);
    if (rc == 0)
        rc = set_request(&work->op, d->request_id, d->request_id.len != 0 ? delete_checksum(d) : 0);
    if (rc < 0)
        call_return(call);
    else
        call_send_to_shard(call, delete_at_shard);
}
