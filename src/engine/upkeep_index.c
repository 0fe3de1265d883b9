/* upkeep_index.c: when the indexes of a shard's segments are made, and which of them.
 *
 * What there is to do is looked for, never remembered: a segment whose field has not the index that
 * the collection's settings ask for, now, gets one; one that has an index nobody asks for loses it.
 * So a flush, a restart, a change of settings and a failure before all come to the same. An old
 * index stays in use until the new one is there.
 *
 *     there may be a file from before    it is read (ann_load.c); what is in it serves, wanted or
 *                                        not, until there is better
 *     there is none, or another          it is made (ann_build.c), then written (ann_save.c)
 *     none is wanted                     it goes, and its file
 *
 * A core makes few indexes at once, at most one of them large, so that a small one never waits for
 * minutes; shards stand in one line, and who had a place goes to its end. Of a shard the smallest
 * is made first: most rows per second become quick to search by it. Indexes ask for the memory of
 * their making (memory.h) and wait for it, after writes and builds of segments. On the workers they
 * take a few milliseconds at a time between the jobs of flushes and merges, which are longer, so
 * that these go first without anybody standing still (docs/decisions/0018).
 *
 * A merge waits for the indexes of its new segment, so that searches never fall back to a scan of
 * what had an index before; meanwhile its sources serve, and other merges go on. It does not wait
 * where waiting would hurt: with too many segments, with memory short, or after a failure. */
#include "base/log.h"
#include "engine/ann_build.h"
#include "engine/catalog.h"
#include "engine/upkeep_internal.h"

#include <inttypes.h>

#include "base/no_libc_heap.h"

enum {
    PLACES = 2, /* of a core */
    RETRY_AFTER_S = 10,
    SHARED_BYTES = 16 << 20, /* whose making takes so much is made by several workers */
    LARGE_BYTES = 128 << 20,
    DETACHED_MAX = 2,    /* merges of a shard that wait, or are being published */
    PRESSING_PARTS = 24, /* with so many, none waits */
    SHORT_WAIT_S = 5,    /* for memory */
};

static struct shard_part *part_at(struct list_link *link)
{
    return container_of(link, struct shard_part, link);
}

static struct ann_op *op_at(struct list_link *link)
{
    return container_of(link, struct ann_op, link);
}

static struct change *detached_at(struct list_link *link)
{
    return container_of(link, struct change, detached_link);
}

/* ---- what is wanted ---- */

static bool is_idle(const struct shard *shard)
{
    const struct engine_core *core = shard->core;
    return shard->entry == NULL || core->closing || core->recovery != NULL || core->db->replays ||
           core->r->now_ns < shard->upkeep->index_retry_ns;
}

bool upkeep_index_wants(const struct shard *shard, const struct shard_part *part, uint32_t field,
                        struct index_spec *spec_out)
{
    const struct pdb_field *settings = &shard->entry->config.fields[field];
    const struct ann *ann = part->anns[field];
    struct index_spec spec, plain;
    if (segment_damaged(part->segment) ||
        !ann_wanted(settings, segment_vector_count(part->segment, field), &spec))
        return false;
    *spec_out = spec;
    /* Codes that were the database's choice, and that do not fit these rows, give way. */
    if (ann == NULL || !ann_plain(settings, &spec, &plain))
        return true;
    if (ann_spec_equal(&ann->spec, &plain) ||
        (ann_spec_equal(&ann->spec, &spec) && index_codes_unfit(&ann->index)))
        *spec_out = plain;
    return true;
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

/* Fills kind and spec. */
static bool is_to_be_done(const struct shard *shard, struct ann_pick *pick)
{
    const struct shard_part *part = pick->part;
    const struct ann *ann = part->anns[pick->field];
    bool has_file = (part->ann_files >> pick->field & 1) != 0;
    bool wanted = upkeep_index_wants(shard, part, pick->field, &pick->spec);
    if (wanted && has_file && ann == NULL)
        pick->kind = ANN_OP_LOAD;
    else if (wanted && (ann == NULL || !ann_spec_equal(&ann->spec, &pick->spec)))
        pick->kind = ANN_OP_BUILD;
    else if (!wanted && has_file && ann == NULL && !segment_damaged(part->segment))
        pick->kind = ANN_OP_REMOVE;
    else
        return false;
    return find_op(shard, part, pick->field) == NULL;
}

static void describe(const struct shard *shard, struct ann_pick *pick)
{
    unsigned cores = shard->core->db->core_count;
    uint32_t count = segment_vector_count(pick->part->segment, pick->field);
    pick->need = 0;
    if (pick->kind != ANN_OP_BUILD)
        return; /* what is read asks when it knows how much it is */
    uint64_t alone = index_make_bytes(&pick->spec, count, 1);
    pick->workers = alone < SHARED_BYTES ? 1 : cores < ANN_WORKERS_MAX ? cores : ANN_WORKERS_MAX;
    pick->need = pick->workers == 1 ? alone : index_make_bytes(&pick->spec, count, pick->workers);
    pick->need += 2 * (uint64_t)count * sizeof(uint32_t); /* ann->rows, rows of a base */
}

/* The least work first: files, then the smallest. */
static void pick_of(const struct shard *shard, struct shard_part *part, uint64_t *least,
                    struct ann_pick *best)
{
    for (uint32_t f = 0; part->segment != NULL && f < shard->field_count; f++) {
        struct ann_pick pick = {.part = part, .field = f};
        if (!is_to_be_done(shard, &pick))
            continue;
        uint64_t size = (uint64_t)segment_vector_count(part->segment, f) * pick.spec.dimension;
        size = pick.kind == ANN_OP_BUILD ? size + 1 : 0;
        if (size >= *least)
            continue;
        *least = size;
        *best = pick;
    }
}

static bool pick_next(const struct shard *shard, struct ann_pick *pick)
{
    uint64_t least = UINT64_MAX;
    if (is_idle(shard))
        return false;
    list_each (link, &shard->parts)
        pick_of(shard, part_at(link), &least, pick);
    list_each (link, &shard->upkeep->detached)
        if (detached_at(link)->waits)
            pick_of(shard, detached_at(link)->part, &least, pick);
    if (least != UINT64_MAX)
        describe(shard, pick);
    return least != UINT64_MAX;
}

/* ---- merges that wait ---- */

static bool is_pressed(const struct shard *shard)
{
    const struct engine_core *core = shard->core;
    uint32_t parts = 0;
    list_each (link, &shard->parts)
        parts++;
    return parts >= PRESSING_PARTS || memory_used(core) > core->db->options.memory_limit / 10 * 9;
}

/* An index of it is still to be made, or being made. */
static bool lacks_index(const struct shard *shard, const struct shard_part *part)
{
    for (uint32_t f = 0; f < shard->field_count; f++) {
        struct ann_pick pick = {.part = (struct shard_part *)(uintptr_t)part, .field = f};
        const struct ann_op *op = find_op(shard, part, f);
        if (is_to_be_done(shard, &pick) || (op != NULL && op->kind == ANN_OP_BUILD))
            return true;
    }
    return false;
}

bool upkeep_index_delays(const struct shard *shard, const struct shard_part *part)
{
    unsigned waiting = 0;
    list_each (link, &shard->upkeep->detached) /* what is published may stay there for a snapshot */
        waiting += detached_at(link)->part->coming;
    return waiting < DETACHED_MAX && !is_idle(shard) && !is_pressed(shard) &&
           lacks_index(shard, part);
}

static bool may_go_on(const struct shard *shard, const struct change *change)
{
    const struct upkeep *u = shard->upkeep;
    uint64_t waited_ns = shard->core->r->now_ns - change->waits_ns;
    bool is_short = u->index_short && waited_ns >= (uint64_t)SHORT_WAIT_S * 1000000000;
    return is_idle(shard) || is_short || is_pressed(shard) || !lacks_index(shard, change->part);
}

static void let_merges_go_on(struct shard *shard)
{
    list_each_safe(link, following, &shard->upkeep->detached)
    {
        struct change *change = detached_at(link);
        if (change->waits && may_go_on(shard, change))
            change_go_on(change);
    }
}

/* ---- the line ---- */

/* Once for every time that it has come to this. */
static void tell_short(const struct shard *shard, const struct ann_pick *pick)
{
    LOG_INFO("engine",
             "collection %s: segment %" PRIu64
             " is searched exactly for now: storage.memory_limit has no room for the making of an "
             "index: field=%u bytes=%" PRIu64,
             shard->uuid_text, pick->part->file->stats.number, pick->field, pick->need);
}

/* False: it stays in line, for memory or a large one's place. */
static bool begin_next(struct shard *shard)
{
    struct engine_core *core = shard->core;
    struct upkeep *u = shard->upkeep;
    struct ann_pick pick;
    if (!pick_next(shard, &pick)) {
        list_remove(&u->index_link);
        return true;
    }
    if (pick.need >= LARGE_BYTES && core->index_large != 0)
        return false;
    bool was_short = u->index_short;
    u->index_short = pick.need != 0 && !memory_reserve_index(core, pick.need);
    if (u->index_short && !was_short)
        tell_short(shard, &pick);
    if (u->index_short)
        return false;
    list_remove(&u->index_link);
    if (ann_op_begin(shard, &pick) < 0)
        u->index_retry_ns = core->r->now_ns + (uint64_t)RETRY_AFTER_S * 1000000000;
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

bool upkeep_index_is_large(uint64_t bytes)
{
    return bytes >= LARGE_BYTES;
}

/* ---- looking ---- */

/* Whose segment is gone, or what nobody asks for any more. */
static bool is_unwanted(const struct shard *shard, const struct ann_op *op)
{
    const struct shard_part *part = op->part;
    struct index_spec spec;
    if (!list_linked(&part->link) && !part->coming)
        return true;
    bool wanted = upkeep_index_wants(shard, part, op->field, &spec);
    switch (op->kind) {
    case ANN_OP_LOAD:
        return !wanted;
    case ANN_OP_BUILD:
        return !wanted || !ann_spec_equal(&spec, &op->spec);
    case ANN_OP_SAVE:
        return part->anns[op->field] != op->ann;
    case ANN_OP_REMOVE:
        break;
    }
    return false;
}

static void cancel_unwanted(struct shard *shard)
{
    list_each_safe(link, following, &shard->upkeep->ann_ops) if (is_unwanted(shard, op_at(link)))
        ann_op_cancel(op_at(link));
}

static void drop_unwanted(struct shard *shard)
{
    list_each (link, &shard->parts) {
        struct shard_part *part = part_at(link);
        for (uint32_t f = 0; part->segment != NULL && f < shard->field_count; f++) {
            struct index_spec spec;
            if (part->anns[f] == NULL || segment_damaged(part->segment) ||
                upkeep_index_wants(shard, part, f, &spec))
                continue;
            part_set_ann(part, f, NULL);
            part->ann_files |= (uint64_t)1 << f;
        }
    }
}

void upkeep_index_look(struct shard *shard)
{
    struct upkeep *u = shard->upkeep;
    struct ann_pick pick;
    if (shard->entry == NULL || shard->core->closing || shard->core->recovery != NULL)
        return;
    drop_unwanted(shard);
    cancel_unwanted(shard);
    let_merges_go_on(shard);
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
    list_each_safe(link, following, &shard->upkeep->ann_ops) ann_op_cancel(op_at(link));
}

void upkeep_index_drop(struct shard *shard)
{
    list_remove(&shard->upkeep->index_link);
    while (!list_empty(&shard->upkeep->ann_ops))
        ann_op_drop(op_at(shard->upkeep->ann_ops.anchor.next));
}
