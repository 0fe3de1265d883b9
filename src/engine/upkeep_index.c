/* upkeep_index.c: when the indexes of a shard's segments are made, and which of them.
 *
 * What there is to do is looked for, never remembered: a segment whose field has not the index that
 * the collection's settings ask for, now, gets one; one that has an index nobody asks for loses it.
 * So a flush, a restart, a change of settings and a failure before all come to the same. An old
 * index stays in use until the new one is there.
 *
 * A core makes few indexes at once, at most one of them large, so that a small one never waits for
 * minutes; shards stand in one line, and who had a place goes to its end. Of a shard the smallest
 * is made first: most rows per second become quick to search by it. Indexes ask for the memory of
 * their making as builds of segments do (memory.h) and wait for it; nothing waits for them. On the
 * workers they take a few milliseconds at a time between the jobs of flushes and merges, which are
 * longer, so that these go first without anybody standing still (docs/decisions/0018). */
#include "base/assert.h"
#include "base/log.h"
#include "engine/ann_build.h"
#include "engine/catalog.h"
#include "engine/upkeep_internal.h"
#include "os/failpoint.h"

#include <inttypes.h>

#include "base/no_libc_heap.h"

enum {
    PLACES = 2, /* of a core */
    RETRY_AFTER_S = 10,
    SHARED_BYTES = 16 << 20, /* whose making takes so much is made by several workers */
    LARGE_BYTES = 128 << 20,
};

static struct shard_part *part_at(struct list_link *link)
{
    return container_of(link, struct shard_part, link);
}

static struct ann_op *op_at(struct list_link *link)
{
    return container_of(link, struct ann_op, link);
}

/* ---- what is wanted ---- */

static bool is_idle(const struct shard *shard)
{
    const struct engine_core *core = shard->core;
    return shard->entry == NULL || core->closing || core->recovery != NULL ||
           core->db->stop != NULL || core->r->now_ns < shard->upkeep->index_retry_ns;
}

static bool wants(const struct shard *shard, const struct shard_part *part, uint32_t field,
                  struct index_spec *spec_out)
{
    return part->segment != NULL && !segment_damaged(part->segment) &&
           ann_wanted(&shard->entry->config.fields[field],
                      segment_vector_count(part->segment, field), spec_out);
}

static const struct ann_op *find_op(const struct shard *shard, const struct shard_part *part,
                                    uint32_t field)
{
    list_each (link, &shard->upkeep->ann_ops) {
        const struct ann_op *op = op_at(link);
        if (op->part == part && op->field == field)
            return op;
    }
    return NULL;
}

static bool is_to_be_made(const struct shard *shard, const struct shard_part *part, uint32_t field,
                          struct index_spec *spec_out)
{
    return wants(shard, part, field, spec_out) &&
           (part->anns[field] == NULL || !ann_spec_equal(&part->anns[field]->spec, spec_out)) &&
           find_op(shard, part, field) == NULL;
}

struct pick {
    struct shard_part *part;
    uint32_t field;
    struct index_spec spec;
    uint64_t need;
    unsigned workers;
};

static void describe(const struct shard *shard, struct pick *pick)
{
    unsigned cores = shard->core->db->core_count;
    uint32_t count = segment_vector_count(pick->part->segment, pick->field);
    uint64_t alone = index_make_bytes(&pick->spec, count, 1);
    pick->workers = alone < SHARED_BYTES ? 1 : cores < ANN_WORKERS_MAX ? cores : ANN_WORKERS_MAX;
    pick->need = pick->workers == 1 ? alone : index_make_bytes(&pick->spec, count, pick->workers);
    pick->need += (uint64_t)count * sizeof(uint32_t);
}

/* The smallest that is to be made. */
static bool pick_next(const struct shard *shard, struct pick *pick)
{
    uint64_t least = UINT64_MAX;
    if (is_idle(shard))
        return false;
    list_each (link, &shard->parts) {
        struct shard_part *part = part_at(link);
        for (uint32_t f = 0; part->segment != NULL && f < shard->field_count; f++) {
            struct index_spec spec;
            if (!is_to_be_made(shard, part, f, &spec))
                continue;
            uint64_t size = (uint64_t)segment_vector_count(part->segment, f) * spec.dimension;
            if (size >= least)
                continue;
            least = size;
            *pick = (struct pick){.part = part, .field = f, .spec = spec};
        }
    }
    if (least != UINT64_MAX)
        describe(shard, pick);
    return least != UINT64_MAX;
}

/* ---- one index ---- */

static void free_op(struct ann_op *op)
{
    list_remove(&op->link);
    memory_release_build(op->shard->core, op->reserved);
    part_let_go(op->part);
    heap_free(&op->shard->core->r->heap, op);
}

static void end(struct ann_op *op)
{
    struct shard *shard = op->shard;
    struct engine_core *core = shard->core;
    core->index_builds--;
    core->index_large -= op->large;
    free_op(op);
    if (shard->entry != NULL)
        upkeep_index_look(shard);
    upkeep_index_move_line(core);
    shard_leave(shard);
    upkeep_leave(core);
}

static bool is_in_list(const struct shard_part *part)
{
    return list_linked(&part->link);
}

static void fail(const struct ann_op *op, int rc)
{
    struct shard *shard = op->shard;
    struct upkeep *u = shard->upkeep;
    if (op->cancelled || rc == PDB_CANCELLED)
        return;
    if (rc == PDB_DATA_LOSS)
        part_log_damage(op->part);
    else
        LOG_WARN("engine",
                 "collection %s: the index of segment %" PRIu64
                 " could not be made and is tried again in %d s: %s",
                 shard->uuid_text, op->part->file->stats.number, RETRY_AFTER_S, pdb_error_text(rc));
    u->index_failed = true;
    u->index_retry_ns = shard->core->r->now_ns + (uint64_t)RETRY_AFTER_S * 1000000000;
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

static void note_made(const struct ann_op *op, const struct ann *ann)
{
    struct shard *shard = op->shard;
    uint64_t took_ns = shard->core->r->now_ns - op->begun_ns;
    uint32_t rows = ann->index.codes.row_count;
    shard->upkeep->index_failed = false;
    shard->upkeep->index_rows_per_s = (double)rows * 1e9 / (double)(took_ns + 1);
    LOG_INFO("engine",
             "collection %s: segment %" PRIu64 " has an index: field=%u kind=%s rows=%u "
             "bytes=%" PRIu64 " took_ms=%" PRIu64,
             shard->uuid_text, op->part->file->stats.number, op->field, kind_text(op->spec.kind),
             rows, ann->bytes, took_ns / 1000000);
}

static void built(struct ann_build *build, int rc, struct ann *ann)
{
    struct ann_op *op = ann_build_arg(build);
    struct shard *shard = op->shard;
    op->build = NULL;
    FAILPOINT("index.built");
    if (rc < 0) {
        fail(op, rc);
    } else if (op->cancelled || !is_in_list(op->part)) {
        ann_let_go(shard, ann);
    } else {
        note_made(op, ann);
        part_set_ann(op->part, op->field, ann);
    }
    end(op);
}

static int begin(struct shard *shard, const struct pick *pick)
{
    struct engine_core *core = shard->core;
    struct ann_op *op = heap_calloc(&core->r->heap, 1, sizeof(*op));
    if (op == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    *op = (struct ann_op){.shard = shard,
                          .part = pick->part,
                          .field = pick->field,
                          .spec = pick->spec,
                          .reserved = pick->need,
                          .begun_ns = core->r->now_ns,
                          .large = pick->need >= LARGE_BYTES};
    struct ann_build_options options = {
        .core = core,
        .worker_count = pick->workers,
        .segment = pick->part->segment,
        .row_count = (uint32_t)pick->part->file->stats.rows,
        .field = pick->field,
        .spec = pick->spec,
        .done = built,
        .arg = op,
    };
    FAILPOINT("index.begin");
    if (ann_build_start(&options, &op->build) < 0) {
        heap_free(&core->r->heap, op);
        return PDB_RESOURCE_EXHAUSTED;
    }
    part_hold(op->part);
    list_push_back(&shard->upkeep->ann_ops, &op->link);
    core->index_builds++;
    core->index_large += op->large;
    shard->users++;
    upkeep_enter(core);
    return 0;
}

/* ---- the line ---- */

/* False: it stays in line, for memory or a large one's place. */
static bool begin_next(struct shard *shard)
{
    struct engine_core *core = shard->core;
    struct pick pick;
    if (!pick_next(shard, &pick)) {
        list_remove(&shard->upkeep->index_link);
        return true;
    }
    if (pick.need >= LARGE_BYTES && core->index_large != 0)
        return false;
    if (!memory_reserve_build(core, pick.need, false))
        return false;
    list_remove(&shard->upkeep->index_link);
    if (begin(shard, &pick) < 0) {
        memory_release_build(core, pick.need);
        shard->upkeep->index_retry_ns = core->r->now_ns + (uint64_t)RETRY_AFTER_S * 1000000000;
        return true;
    }
    upkeep_index_look(shard); /* there may be more */
    return true;
}

void upkeep_index_move_line(struct engine_core *core)
{
    list_each_safe(link, following, &core->index_line)
    {
        if (core->index_builds >= PLACES || core->closing)
            break;
        (void)begin_next(container_of(link, struct upkeep, index_link)->shard);
    }
}

/* ---- looking ---- */

static void cancel(struct ann_op *op)
{
    if (op->cancelled)
        return;
    op->cancelled = true;
    ann_build_cancel(op->build);
}

/* Whose segment is gone, or whose index nobody asks for any more. */
static void cancel_unwanted(struct shard *shard)
{
    list_each (link, &shard->upkeep->ann_ops) {
        struct ann_op *op = op_at(link);
        struct index_spec spec;
        if (!is_in_list(op->part) || !wants(shard, op->part, op->field, &spec) ||
            !ann_spec_equal(&spec, &op->spec))
            cancel(op);
    }
}

static void drop_unwanted(struct shard *shard)
{
    list_each (link, &shard->parts) {
        struct shard_part *part = part_at(link);
        for (uint32_t f = 0; part->segment != NULL && f < shard->field_count; f++) {
            struct index_spec spec;
            if (part->anns[f] != NULL && !segment_damaged(part->segment) &&
                !wants(shard, part, f, &spec))
                part_set_ann(part, f, NULL);
        }
    }
}

void upkeep_index_look(struct shard *shard)
{
    struct upkeep *u = shard->upkeep;
    struct pick pick;
    if (shard->entry == NULL || shard->core->closing || shard->core->recovery != NULL)
        return;
    cancel_unwanted(shard);
    drop_unwanted(shard);
    if (!pick_next(shard, &pick))
        list_remove(&u->index_link);
    else if (!list_linked(&u->index_link))
        list_push_back(&shard->core->index_line, &u->index_link);
}

void upkeep_index_settings(struct shard *shard)
{
    upkeep_index_look(shard);
    upkeep_index_move_line(shard->core);
}

void upkeep_index_cancel(struct shard *shard)
{
    list_remove(&shard->upkeep->index_link);
    list_each (link, &shard->upkeep->ann_ops)
        cancel(op_at(link));
}

void upkeep_index_drop(struct shard *shard)
{
    list_remove(&shard->upkeep->index_link);
    while (!list_empty(&shard->upkeep->ann_ops)) {
        struct ann_op *op = op_at(shard->upkeep->ann_ops.anchor.next);
        ann_build_drop(op->build);
        free_op(op);
    }
}
