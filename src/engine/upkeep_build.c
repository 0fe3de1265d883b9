/* upkeep_build.c: what goes into a new segment, and the building of it.
 *
 * A flush writes all rows of a sealed memtable that somebody may still read, in the order that the
 * worker sorts them into. A merge leaves out rows that ended at or before `drop_version` and rows
 * that expired long ago (segment_merge.h).
 *
 * drop_version is not above what is flushed then: a row whose end is only in the log (maybe in a
 * weak sync mode) must survive a crash that loses that end. */
#include "base/assert.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/upkeep_internal.h"
#include "os/failpoint.h"

#include "base/no_libc_heap.h"

enum {
    RETRY_AFTER_S = 5,
    HOLD_PARTS_MAX = 32, /* with so many a merge does not stand aside any more */
    HOLD_MAX_MS = 1000,
    ORDER_BYTES = 32, /* of a row of a memtable, while they are sorted */
};

/* ---- the source of a flush; runs on a worker ---- */

static int begin_memtable(void *arg, bool counting, struct trail *trail)
{
    struct change *change = arg;
    const struct shard_part *part = change->sources[0];
    if (counting && memtable_order(part->memtable, part->sealed_version, change->drop_version, NULL,
                                   &change->keys, &change->key_count) < 0)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "flush: out of memory for the order");
    change->next_key = 0;
    return 0;
}

static int next_of_memtable(void *arg, struct pdb_row *row_out, struct trail *trail)
{
    struct change *change = arg;
    const struct shard_part *part = change->sources[0];
    (void)trail;
    if (change->next_key == change->key_count)
        return 0;
    memtable_row_at(part->memtable, change->keys[change->next_key++], row_out, change->vectors);
    return 1;
}

/* ---- making ---- */

static struct change *new_change(struct shard *shard, enum change_kind kind, uint32_t source_count)
{
    struct engine_core *core = shard->core;
    struct heap *heap = &core->r->heap;
    struct change *change = heap_calloc(heap, 1, sizeof(*change));
    if (change == NULL)
        return NULL;
    change->shard = shard;
    change->kind = kind;
    change->begun_ns = core->r->now_ns;
    change->schema_version = shard->entry->schema_version;
    arena_init(&change->arena, 0);
    shard_files_folder(change->folder, core->db->options.data_dir, &shard->uuid);
    change->sources = heap_calloc(heap, source_count, sizeof(struct shard_part *));
    if (change->sources == NULL ||
        !catalog_copy_config(&change->arena, &shard->entry->config, &change->schema)) {
        change_drop(change);
        return NULL;
    }
    return change;
}

static void add_source(struct change *change, struct shard_part *part)
{
    change->sources[change->source_count++] = part;
    part->merging = change->kind == CHANGE_MERGE;
    part_hold(part);
}

static bool make_merge(struct change *change)
{
    struct heap *heap = &change->shard->core->r->heap;
    struct segment_merge_options options = {
        .input_count = change->source_count,
        .field_count = change->shard->field_count,
        .oldest_version = change->drop_version,
        .expired_before_us = change->expired_before_us,
    };
    struct segment_merge_input *inputs = heap_calloc(heap, change->source_count, sizeof(*inputs));
    change->ended = heap_calloc(heap, change->source_count, sizeof(*change->ended));
    bool made = inputs != NULL && change->ended != NULL;
    for (uint32_t i = 0; made && i < change->source_count; i++) {
        const struct shard_part *part = change->sources[i];
        change->ended[i] = segment_deletes_copy(part->deletes, heap);
        inputs[i] = (struct segment_merge_input){part->file, change->ended[i]};
        change->source_bytes += part->file->stats.parquet_bytes;
        made = change->ended[i] != NULL;
    }
    options.inputs = inputs;
    made = made && segment_merge_new(heap, &options, &change->merge) == 0;
    heap_free(heap, inputs);
    return made;
}

/* ---- memory ---- */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t need_of(const struct shard *shard, struct segment_build_shape *shape)
{
    const struct pdb_collection_config *config = &shard->entry->config;
    struct segment_file_options options;
    part_file_options(&options, &shard->uuid, config, 0);
    shape->schema = &options.schema;
    shape->row_group_bytes = memory_row_group_bytes(shard->core);
    return segment_build_need(shape);
}

uint64_t change_flush_need(const struct shard *shard, const struct shard_part *sealed)
{
    struct memtable_stats stats;
    memtable_stats(sealed->memtable, &stats);
    struct segment_build_shape shape = {.rows = stats.rows_total,
                                        .bytes = stats.bytes,
                                        .row_bytes = min_u64(stats.bytes, PDB_METADATA_BYTES_MAX)};
    return need_of(shard, &shape) + stats.rows_total * ORDER_BYTES;
}

uint64_t change_merge_need(const struct shard *shard, struct shard_part *const *sources,
                           uint32_t count)
{
    struct segment_build_shape shape = {0};
    uint64_t index_bytes = 0, heap_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct segment_stats *stats = &sources[i]->file->stats;
        shape.rows += stats->rows;
        shape.bytes += stats->parquet_bytes;
        index_bytes += stats->index_bytes;
        heap_bytes += stats->heap_bytes; /* compressed vectors: once more in the new segment */
    }
    shape.row_bytes = min_u64(index_bytes, PDB_METADATA_BYTES_MAX);
    return need_of(shard, &shape) + heap_bytes;
}

/* ---- one worker for both ---- */

/* While a flush computes, merges on its worker stand aside: it is what gives memory back. But not
 * for ever, and not when their collection has got too many segments. */
static bool stand_aside(void *arg)
{
    struct change *change = arg;
    struct engine_core *core = change->shard->core;
    uint32_t parts = 0;
    list_each (link, &change->shard->parts)
        parts++;
    if (core->flushes_building == 0 || parts >= HOLD_PARTS_MAX || change->cancelled)
        return false;
    change->held_ns = core->r->now_ns;
    list_push_back(&core->held_merges, &change->held_link);
    return true;
}

static void go_on(struct change *change)
{
    list_remove(&change->held_link);
    if (change->build != NULL)
        segment_build_resume(change->build);
}

void change_hold_no_longer(struct change *change)
{
    if (change != NULL && list_linked(&change->held_link) &&
        change->shard->core->r->now_ns - change->held_ns >= (uint64_t)HOLD_MAX_MS * 1000000)
        go_on(change);
}

static void note_building(struct change *change, bool building)
{
    struct engine_core *core = change->shard->core;
    if (change->kind != CHANGE_FLUSH || change->building == building)
        return;
    change->building = building;
    core->flushes_building += building ? 1 : -1u;
    while (core->flushes_building == 0 && !list_empty(&core->held_merges))
        go_on(container_of(core->held_merges.anchor.next, struct change, held_link));
}

/* ---- building ---- */

struct folder_begin {
    struct shard_begin begin;
    struct change *change;
};

static struct segment_file_options file_options(const struct change *change)
{
    struct engine_core *core = change->shard->core;
    const struct pdb_collection_config *config = &change->schema;
    struct segment_file_options options;
    part_file_options(&options, &change->shard->uuid, config, change->number);
    options.folder = change->folder;
    core->r->io->ops->random(core->r->io, &options.hash_seed, sizeof(options.hash_seed));
    return options;
}

unsigned upkeep_fault(int rc)
{
    switch (rc) {
    case PDB_RESOURCE_EXHAUSTED:
        return METRICS_FAULT_EXHAUSTED;
    case PDB_DATA_LOSS:
        return METRICS_FAULT_DAMAGED;
    case PDB_UNAVAILABLE:
        return METRICS_FAULT_UNAVAILABLE;
    default:
        return METRICS_FAULT_OTHER;
    }
}

static void fail(struct change *change, int rc, const struct trail *trail)
{
    struct shard *shard = change->shard;
    struct engine_core *core = shard->core;
    if (!change->cancelled) {
        metrics_add(core->metrics, METRICS_FLUSH_ERRORS_AT + upkeep_fault(rc), 1);
        LOG_WARN("engine", "collection %s: a %s has failed and is tried again in %d s: %s",
                 shard->uuid_text, change->kind == CHANGE_FLUSH ? "flush" : "merge of segments",
                 RETRY_AFTER_S,
                 trail != NULL && trail->len != 0 ? trail->text : pdb_error_text(rc));
    }
    shard->upkeep->retry_ns = core->r->now_ns + (uint64_t)RETRY_AFTER_S * 1000000000;
    if (change->kind == CHANGE_FLUSH)
        upkeep_tell_waits(shard, rc < 0 ? rc : PDB_CANCELLED, trail);
    change_over(change);
}

/* From now on it stands in nobody's way: the next merge may begin, of other segments. */
static void detach(struct change *change)
{
    struct shard *shard = change->shard;
    struct engine_core *core = shard->core;
    struct heap *heap = &core->r->heap;
    segment_merge_free(heap, change->merge);
    change->merge = NULL;
    for (uint32_t i = 0; i < change->source_count; i++)
        segment_deletes_free(change->ended[i]);
    heap_free(heap, change->ended);
    change->ended = NULL;
    memory_release_build(core, change->reserved);
    change->reserved = 0;
    core->merges--;
    core->large_merges -= change->large;
    change->large = false;
    shard->upkeep->merge = NULL;
    list_push_back(&shard->upkeep->detached, &change->detached_link);
}

static void wait_for_indexes(struct change *change)
{
    struct shard *shard = change->shard;
    detach(change);
    change->waits = true;
    change->waits_ns = shard->core->r->now_ns;
    upkeep_look(shard);
}

void change_go_on(struct change *change)
{
    ASSERT(change->waits);
    change->waits = false;
    change_publish(change);
}

static void built(struct segment_build *build, int rc, struct segment_file *file,
                  const struct trail *trail)
{
    struct change *change = segment_build_arg(build);
    change->build = NULL;
    list_remove(&change->held_link);
    note_building(change, false);
    if (rc == 0 && file != NULL) {
        change->part = part_of_segment(change->shard, file);
        if (change->part == NULL)
            rc = PDB_RESOURCE_EXHAUSTED;
        else
            part_keep_schema(change->part, &change->arena, change->schema_version);
    }
    if (change->part != NULL)
        change->part->coming = true;
    if (rc < 0 || change->cancelled)
        fail(change, rc, trail);
    else if (change->kind == CHANGE_MERGE && change->part != NULL &&
             upkeep_index_delays(change->shard, change->part))
        wait_for_indexes(change);
    else
        change_publish(change);
}

static void build(struct change *change)
{
    struct engine_core *core = change->shard->core;
    struct trail trail = {0};
    struct segment_build_options options = {
        .r = core->r,
        .worker = core->id,
        .file = file_options(change),
        .source = change->kind == CHANGE_FLUSH
                      ? (struct segment_source){begin_memtable, next_of_memtable, change}
                      : segment_merge_source(change->merge),
        .row_group_bytes = memory_row_group_bytes(core),
        .step_bytes = min_u64(memory_row_group_bytes(core) / 2, SEGMENT_BUILD_STEP_BYTES),
        .rate = change->kind == CHANGE_FLUSH ? NULL : &core->compaction_rate,
        .kind = change->kind == CHANGE_FLUSH ? SEGMENT_BUILD_FLUSH : SEGMENT_BUILD_COMPACT,
        .done = built,
        .hold = change->kind == CHANGE_FLUSH ? NULL : stand_aside,
        .arg = change,
    };
    note_building(change, true);
    if (change->cancelled || segment_build_start(&options, &change->build) < 0)
        fail(change, PDB_RESOURCE_EXHAUSTED, &trail);
}

static void folder_is_begun(struct shard_begin *begin, int rc, const struct trail *trail)
{
    struct folder_begin *mine = container_of(begin, struct folder_begin, begin);
    struct change *change = mine->change;
    struct trail why = {0};
    if (rc < 0)
        why = *trail; /* it goes with `mine` */
    heap_free(&change->shard->core->r->heap, mine);
    change->folder_begin = NULL;
    if (rc < 0) {
        fail(change, rc, &why);
        return;
    }
    change->shard->upkeep->folder_begun = true;
    build(change);
}

static void begin(struct change *change)
{
    struct shard *shard = change->shard;
    struct upkeep *u = shard->upkeep;
    struct heap *heap = &shard->core->r->heap;
    shard->users++;
    upkeep_enter(shard->core);
    change->number = u->next_segment++;
    if (change->kind == CHANGE_FLUSH) {
        u->flush = change;
        shard->core->flushes++;
    } else {
        u->merge = change;
        shard->core->merges++;
        change->large = change->source_bytes >= UPKEEP_LARGE_MERGE_BYTES;
        shard->core->large_merges += change->large;
    }
    if (u->folder_begun) {
        build(change);
        return;
    }
    struct folder_begin *mine = heap_calloc(heap, 1, sizeof(*mine));
    if (mine == NULL) {
        struct trail trail = {0};
        fail(change, PDB_RESOURCE_EXHAUSTED, &trail);
        return;
    }
    mine->change = change;
    mine->begin.io = shard->core->r->io;
    mine->begin.data_dir = shard->core->db->options.data_dir;
    mine->begin.collection = shard->uuid;
    mine->begin.done = folder_is_begun;
    change->folder_begin = mine;
    shard_begin_start(&mine->begin);
}

int change_begin_flush(struct shard *shard, struct shard_part *sealed, uint64_t reserved)
{
    struct change *change = new_change(shard, CHANGE_FLUSH, 1);
    if (change == NULL) {
        memory_release_build(shard->core, reserved);
        return PDB_RESOURCE_EXHAUSTED;
    }
    change->reserved = reserved;
    add_source(change, sealed);
    change->version = sealed->sealed_version;
    uint64_t oldest = shard_oldest_version(shard);
    change->drop_version = oldest < change->version ? oldest : change->version;
    FAILPOINT("flush.begin");
    begin(change);
    return 0;
}

int change_begin_merge(struct shard *shard, struct shard_part *const *sources, uint32_t count,
                       uint64_t reserved)
{
    struct engine_core *core = shard->core;
    struct change *change = new_change(shard, CHANGE_MERGE, count);
    if (change == NULL) {
        memory_release_build(core, reserved);
        return PDB_RESOURCE_EXHAUSTED;
    }
    change->reserved = reserved;
    for (uint32_t i = 0; i < count; i++)
        add_source(change, sources[i]);
    uint64_t oldest = shard_oldest_version(shard), flushed = upkeep_flushed_version(shard);
    int64_t grace_us = ((int64_t)core->db->options.ttl_grace_s_plus_one - 1) * 1000000;
    change->drop_version = oldest < flushed ? oldest : flushed;
    change->expired_before_us = core->r->now_realtime_us - grace_us;
    if (!make_merge(change)) {
        change_drop(change);
        return PDB_RESOURCE_EXHAUSTED;
    }
    begin(change);
    return 0;
}

/* ---- ending ---- */

void change_cancel(struct change *change)
{
    if (change == NULL)
        return;
    change->cancelled = true;
    if (change->build != NULL)
        segment_build_cancel(change->build);
    if (change->waits && change->shard->entry != NULL) {
        change->cancelled = false; /* the core is closing: all that is missing is the manifest */
        change_go_on(change);
        return;
    }
    if (change->waits) {
        change->waits = false;
        change_over(change);
        return;
    }
    if (change->retry.slot != 0) { /* what it replaces stays: nothing is lost */
        timer_cancel(change->shard->core->r, &change->retry);
        change_over(change);
    }
}

void change_drop(struct change *change)
{
    struct heap *heap = &change->shard->core->r->heap;
    list_remove(&change->held_link);
    list_remove(&change->detached_link);
    memory_release_build(change->shard->core, change->reserved);
    segment_build_drop(change->build);
    heap_free(heap, change->folder_begin);
    segment_merge_free(heap, change->merge);
    for (uint32_t i = 0; change->ended != NULL && i < change->source_count; i++)
        segment_deletes_free(change->ended[i]);
    heap_free(heap, change->ended);
    for (uint32_t i = 0; i < change->source_count; i++) {
        change->sources[i]->merging = false;
        part_let_go(change->sources[i]);
    }
    heap_free(heap, change->sources);
    heap_free(NULL, change->keys);
    heap_free(heap, change->named);
    heap_free(heap, change->dead);
    timer_cancel(change->shard->core->r, &change->retry);
    buffer_dispose(&change->bytes);
    if (change->part != NULL) {
        change->part->coming = false; /* who works on it need not go on, unless it has come */
        part_let_go(change->part);
    }
    arena_dispose(&change->arena);
    heap_free(heap, change);
}

void change_over(struct change *change)
{
    struct shard *shard = change->shard;
    struct engine_core *core = shard->core;
    struct upkeep *u = shard->upkeep;
    list_remove(&change->link);
    note_building(change, false);
    if (change->kind == CHANGE_FLUSH) {
        u->flush = NULL;
        core->flushes--;
    } else if (u->merge == change) {
        u->merge = NULL;
        core->merges--;
        core->large_merges -= change->large;
    }
    if (u->publishing == change)
        u->publishing = NULL;
    if (u->publishing == NULL && !list_empty(&u->ready)) /* they waited for this one */
        task_queue(core->r, &u->publish_task);
    change_drop(change);
    upkeep_move_lines(core);
    upkeep_look(shard);
    shard_leave(shard);
    upkeep_leave(core);
}
