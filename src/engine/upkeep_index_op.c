/* upkeep_index_op.c: what is done about one index, from its beginning to its end (upkeep_index.c
 * says when).
 *
 *     LOAD      missing: made next. Bad: told once, then made. Else in use
 *     BUILD     in use, then SAVE, which has no place and no memory of the makings'
 *     SAVE      what cannot be written is told, stays in use, and is made again by the next start
 *     REMOVE    a file that nobody asks for
 *
 * An op holds its segment and keeps the core open. The one that ends looks for more. */
#include "base/assert.h"
#include "base/log.h"
#include "engine/ann_build.h"
#include "engine/ann_file.h"
#include "engine/catalog.h"
#include "engine/upkeep_internal.h"
#include "os/failpoint.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

enum { RETRY_AFTER_S = 10 };

static struct engine_core *core_of(const struct ann_op *op)
{
    return op->shard->core;
}

static uint64_t number_of(const struct ann_op *op)
{
    return op->part->file->stats.number;
}

static uint64_t bit_of(const struct ann_op *op)
{
    return (uint64_t)1 << op->field;
}

static struct ann_identity identity_of(const struct ann_op *op)
{
    const struct segment_file *file = op->part->file;
    const struct pdb_field *settings = &op->shard->entry->config.fields[op->field];
    return (struct ann_identity){
        .collection = op->shard->uuid,
        .segment = file->stats.number,
        .parquet_bytes = file->stats.parquet_bytes,
        .parquet_crc32c = file->parquet_crc32c,
        .field = op->field,
        .vector_count = segment_vector_count(op->part->segment, op->field),
        .metric = settings->metric,
        .dimension = settings->dimension,
    };
}

/* The segment is, or will be, one of the shard's. */
static bool is_of_use(const struct ann_op *op)
{
    return !op->cancelled && op->shard->entry != NULL &&
           (list_linked(&op->part->link) || op->part->coming);
}

/* ---- ending ---- */

static void give_place_back(struct ann_op *op)
{
    struct engine_core *core = core_of(op);
    memory_release_index(core, op->reserved);
    op->reserved = 0;
    core->index_builds -= op->placed;
    core->index_large -= op->large;
    op->placed = op->large = false;
}

static void free_op(struct ann_op *op)
{
    list_remove(&op->link);
    give_place_back(op);
    ann_let_go(op->shard, op->ann);
    ann_let_go(op->shard, op->base);
    if (op->base_part != NULL)
        part_let_go(op->base_part);
    part_let_go(op->part);
    heap_free(&core_of(op)->r->heap, op);
}

static void end(struct ann_op *op)
{
    struct shard *shard = op->shard;
    struct engine_core *core = shard->core;
    free_op(op);
    upkeep_index_look(shard);
    upkeep_index_move_line(core);
    shard_leave(shard);
    upkeep_leave(core);
}

static void try_later(const struct ann_op *op)
{
    struct upkeep *u = op->shard->upkeep;
    u->index_retry_ns = core_of(op)->r->now_ns + (uint64_t)RETRY_AFTER_S * 1000000000;
}

/* ---- saving ---- */

/* It came too late: the segment's files are gone, or go. */
static void unlinked(struct io_op *io_op, int64_t result)
{
    struct ann_op *op = container_of(io_op, struct ann_op, unlink);
    (void)result; /* the next start removes it, or reads it and knows better */
    op->part->ann_files &= ~bit_of(op);
    end(op);
}

static void unlink_file(struct ann_op *op)
{
    struct io *io = core_of(op)->r->io;
    shard_files_folder(op->folder, core_of(op)->db->options.data_dir, &op->shard->uuid);
    shard_files_ann_path(op->path, op->folder, number_of(op), op->field);
    op->unlink = (struct io_op){.done = unlinked};
    io->ops->unlink(io, &op->unlink, op->path);
}

static void saved(struct ann_save *save, int rc, const struct trail *trail)
{
    struct ann_op *op = ann_save_arg(save);
    op->save = NULL;
    if (rc < 0 && rc != PDB_CANCELLED)
        LOG_WARN("engine",
                 "collection %s: an index cannot be written, and the next start makes it again: %s",
                 op->shard->uuid_text, trail->text);
    if (rc == 0 && !is_of_use(op))
        unlink_file(op);
    else
        end(op);
}

static void begin_save(struct ann_op *op)
{
    give_place_back(op);
    op->kind = ANN_OP_SAVE;
    struct ann_save_options options = {
        .core = core_of(op),
        .folder = op->folder,
        .of = identity_of(op),
        .ann = op->ann,
        .done = saved,
        .arg = op,
    };
    shard_files_folder(op->folder, core_of(op)->db->options.data_dir, &op->shard->uuid);
    if (ann_save_start(&options, &op->save) < 0) {
        end(op); /* the next start makes it again */
        return;
    }
    upkeep_index_look(op->shard);
    upkeep_index_move_line(core_of(op));
}

/* ---- building ---- */

static void fail(const struct ann_op *op, int rc)
{
    struct shard *shard = op->shard;
    if (op->cancelled || rc == PDB_CANCELLED)
        return;
    metrics_add(shard->core->metrics, METRICS_INDEX_BUILDS_AT + METRICS_MADE_FAILED, 1);
    shard->upkeep->index_failed = true;
    try_later(op);
    if (rc == PDB_DATA_LOSS)
        part_log_damage(op->part);
    else
        LOG_WARN("engine",
                 "collection %s: the index of segment %" PRIu64
                 " could not be made and is tried again in %d s: %s",
                 shard->uuid_text, number_of(op), RETRY_AFTER_S, pdb_error_text(rc));
}

static const char *kind_text(enum index_kind kind)
{
    switch (kind) {
    case INDEX_FLAT:
        return "flat";
    case INDEX_HNSW:
        return "hnsw";
    case INDEX_IVF:
        return "ivf";
    }
    return "";
}

/* What searches of the collection's target are to find of it, by what was measured. */
static void tell_made(const struct ann_op *op, const struct ann *ann, uint32_t rows,
                      uint64_t took_ns)
{
    const struct calibration *c = &ann->index.calibration;
    float target = op->shard->entry->config.target_recall;
    char recall[32] = "unmeasured";
    if (!(target > 0))
        target = PDB_TARGET_RECALL_DEFAULT;
    float expected = c->query_count != 0 ? calibration_expected(c, target) : 0;
    if (expected > 0)
        (void)snprintf(recall, sizeof(recall), "%.4f", (double)expected);
    LOG_INFO("engine",
             "collection %s: segment %" PRIu64 " has an index: field=%u kind=%s rows=%u "
             "bytes=%" PRIu64 " merged=%d repaired=%" PRIu64 " recall=%s target=%.4g "
             "took_ms=%" PRIu64,
             op->shard->uuid_text, number_of(op), op->field, kind_text(op->spec.kind), rows,
             ann->bytes, ann->merged, ann->repaired, recall, (double)target, took_ns / 1000000);
}

static void note_made(const struct ann_op *op, const struct ann *ann)
{
    struct shard *shard = op->shard;
    struct metrics *m = shard->core->metrics;
    uint64_t took_ns = shard->core->r->now_ns - op->begun_ns;
    uint32_t rows = segment_vector_count(op->part->segment, op->field);
    shard->upkeep->index_failed = false;
    shard->upkeep->index_rows_per_s = (double)rows * 1e9 / (double)(took_ns + 1);
    metrics_add(m, METRICS_INDEX_BUILDS_AT + METRICS_MADE_OK, 1);
    metrics_add(m, METRICS_INDEX_BUILD_ROWS_AT, rows);
    metrics_add(m, METRICS_INDEX_BUILD_BYTES_AT, ann->bytes);
    metrics_time(m, METRICS_INDEX_BUILD_IN, took_ns);
    tell_made(op, ann, rows, took_ns);
}

/* In use from now on. */
static void publish(struct ann_op *op, struct ann *ann)
{
    part_set_ann(op->part, op->field, ann);
    op->part->ann_files &= ~bit_of(op);
}

static void built(struct ann_build *build, int rc, struct ann *ann)
{
    struct ann_op *op = ann_build_arg(build);
    op->build = NULL;
    FAILPOINT("index.built");
    if (rc < 0) {
        fail(op, rc);
        end(op);
    } else if (!is_of_use(op)) {
        ann_let_go(op->shard, ann);
        end(op);
    } else {
        note_made(op, ann);
        publish(op, ann);
        op->ann = ann;
        ann_hold(ann);
        begin_save(op);
    }
}

/* Of the segments that this one was merged of, the one with the largest index. */
static void take_base(struct ann_op *op, const struct change *change)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < change->source_count; i++) {
        struct shard_part *source = change->sources[i];
        const struct ann *ann = source->anns[op->field];
        if (ann == NULL || ann->index.codes.row_count <= most)
            continue;
        most = ann->index.codes.row_count;
        op->base_part = source;
    }
    if (op->base_part == NULL)
        return;
    op->base = op->base_part->anns[op->field];
    part_hold(op->base_part);
    ann_hold(op->base);
}

static void find_base(struct ann_op *op)
{
    list_each (link, &op->shard->upkeep->detached) {
        const struct change *change = container_of(link, struct change, detached_link);
        if (change->part == op->part && change->waits)
            take_base(op, change);
    }
}

static int begin_build(struct ann_op *op, const struct ann_pick *pick)
{
    bool on_disk = op->shard->entry->config.vector_storage == PDB_VECTORS_DISK;
    find_base(op);
    struct ann_build_options options = {
        .core = core_of(op),
        .worker_count = pick->workers,
        .segment = pick->part->segment,
        .forget = on_disk ? &pick->part->file->parquet : NULL,
        .row_count = (uint32_t)pick->part->file->stats.rows,
        .field = pick->field,
        .spec = pick->spec,
        .base_segment = op->base_part != NULL ? op->base_part->segment : NULL,
        .base = op->base,
        .done = built,
        .arg = op,
    };
    FAILPOINT("index.begin");
    return ann_build_start(&options, &op->build);
}

/* ---- loading ---- */

static bool admit(struct ann_load *load, uint64_t bytes)
{
    struct ann_op *op = ann_load_arg(load);
    if (!memory_reserve_index_load(core_of(op), bytes))
        return false;
    op->reserved += bytes;
    return true;
}

static void tell_bad(const struct ann_op *op, const struct trail *trail)
{
    metrics_add(core_of(op)->metrics, METRICS_INDEX_REBUILDS_AT + METRICS_REBUILD_DAMAGED, 1);
    LOG_WARN("engine",
             "collection %s: the index of segment %" PRIu64
             ", field %u, is bad and is made again: %s",
             op->shard->uuid_text, number_of(op), op->field, trail->text);
}

static void loaded(struct ann_load *load, int rc, struct ann *ann, const struct trail *trail)
{
    struct ann_op *op = ann_load_arg(load);
    op->load = NULL;
    if (rc == 0 && is_of_use(op)) {
        publish(op, ann);
    } else if (rc == 0) {
        ann_let_go(op->shard, ann);
    } else if (rc == PDB_RESOURCE_EXHAUSTED) {
        op->shard->upkeep->index_short = true;
        try_later(op);
    } else if (rc != PDB_CANCELLED) {
        if (rc != PDB_NOT_FOUND)
            tell_bad(op, trail);
        op->part->ann_files &= ~bit_of(op);
    }
    end(op);
}

static int begin_load(struct ann_op *op)
{
    struct ann_load_options options = {
        .core = core_of(op),
        .folder = op->folder,
        .of = identity_of(op),
        .segment = op->part->segment,
        .row_count = (uint32_t)op->part->file->stats.rows,
        .admit = admit,
        .done = loaded,
        .arg = op,
    };
    shard_files_folder(op->folder, core_of(op)->db->options.data_dir, &op->shard->uuid);
    return ann_load_start(&options, &op->load);
}

/* ---- the outside ---- */

static int start(struct ann_op *op, const struct ann_pick *pick)
{
    switch (op->kind) {
    case ANN_OP_LOAD:
        return begin_load(op);
    case ANN_OP_BUILD:
        return begin_build(op, pick);
    case ANN_OP_SAVE:
        break;
    case ANN_OP_REMOVE:
        unlink_file(op);
        break;
    }
    return 0;
}

int ann_op_begin(struct shard *shard, const struct ann_pick *pick)
{
    struct engine_core *core = shard->core;
    struct ann_op *op = heap_calloc(&core->r->heap, 1, sizeof(*op));
    if (op == NULL) {
        memory_release_index(core, pick->need);
        return PDB_RESOURCE_EXHAUSTED;
    }
    op->kind = pick->kind;
    op->shard = shard;
    op->part = pick->part;
    op->field = pick->field;
    op->spec = pick->spec;
    op->reserved = pick->need;
    op->begun_ns = core->r->now_ns;
    op->placed = true;
    op->large = upkeep_index_is_large(pick->need);
    part_hold(op->part);
    list_push_back(&shard->upkeep->ann_ops, &op->link);
    core->index_builds++;
    core->index_large += op->large;
    if (start(op, pick) < 0) {
        free_op(op);
        return PDB_RESOURCE_EXHAUSTED;
    }
    shard->users++;
    upkeep_enter(core);
    return 0;
}

void ann_op_cancel(struct ann_op *op)
{
    if (op->cancelled)
        return;
    op->cancelled = true;
    if (op->build != NULL)
        ann_build_cancel(op->build);
    if (op->load != NULL)
        ann_load_cancel(op->load);
    if (op->save != NULL)
        ann_save_cancel(op->save);
}

void ann_op_drop(struct ann_op *op)
{
    ann_build_drop(op->build);
    ann_load_drop(op->load);
    ann_save_drop(op->save);
    free_op(op);
}
