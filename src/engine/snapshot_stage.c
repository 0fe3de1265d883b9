/* snapshot_stage.c: a restored collection's shard, made ready on its owner's core before the
 * catalog knows it. Segments are opened by the worker, one after the other; their ended rows are
 * marked in steps. shard_open finds the shard in core->staged when the catalog comes. */
#include "engine/part.h"
#include "engine/snapshot_internal.h"
#include "engine/upkeep.h"

#include "base/no_libc_heap.h"

enum { STEP_ROWS = 1024 };

static struct snapshot_restore *restore_of(struct pdb_call *call)
{
    return call_state(call)->work;
}

void snapshot_stage_dispose(struct snapshot_restore *restore)
{
    if (restore->opening != NULL)
        segment_file_close(&call_state(restore->base.call)->here->r->heap, restore->opening);
    restore->opening = NULL;
    arena_dispose(&restore->schema);
}

/* The shard goes, with all that was opened. */
static void unstage(struct snapshot_restore *restore)
{
    snapshot_stage_dispose(restore);
    if (restore->shard != NULL) {
        struct engine_core *core = restore->shard->core;
        restore->shard->entry = NULL;
        shard_free(restore->shard);
        memory_note_change(core);
    }
    restore->shard = NULL;
}

/* The error is told. */
static void give_up(struct snapshot_restore *restore)
{
    unstage(restore);
    (void)call_send(restore->base.call, 0, snapshot_restore_staged);
}

static void fail(struct snapshot_restore *restore, int rc, const struct trail *trail)
{
    (void)call_fail_trail(restore->base.call, rc, trail);
    give_up(restore);
}

static void fail_no_memory(struct snapshot_restore *restore)
{
    struct trail trail = {0};
    fail(restore, trail_add(&trail, PDB_RESOURCE_EXHAUSTED, "out of memory for segments"), &trail);
}

static const struct manifest_segment *segment_of(const struct snapshot_restore *restore)
{
    return &restore->manifest.manifest.segments[restore->segment];
}

/* ---- memory ---- */

/* What part_of_segment will count, as far as a manifest tells. An index that is not there is made
 * again, in memory. */
static uint64_t segment_bytes(const struct catalog_entry *entry, const struct manifest_segment *m)
{
    enum { ENDED_BYTES = 24, INDEX_ROW_BYTES = 64 };
    uint64_t index_bytes = m->index_bytes != 0 ? m->index_bytes : m->rows * INDEX_ROW_BYTES;
    uint64_t bytes = m->rows / 8 + (uint64_t)m->ended_count * ENDED_BYTES;
    if (entry->config.vector_storage == PDB_VECTORS_MEMORY)
        bytes += m->rows * entry->row_bytes + index_bytes;
    else if (m->index_bytes == 0)
        bytes += index_bytes;
    return bytes;
}

int snapshot_stage_admit(struct snapshot_restore *restore, struct engine_core *core, uint32_t first,
                         uint32_t end)
{
    const struct manifest *m = &restore->manifest.manifest;
    struct trail trail = {0};
    uint64_t bytes = 0;
    for (uint32_t i = first; i < end; i++)
        bytes += segment_bytes(restore->entry, &m->segments[i]);
    int rc = memory_admit(core, bytes, &trail);
    return rc < 0 ? call_fail_trail(restore->base.call, rc, &trail) : 0;
}

/* ---- one segment after the other ---- */

static void open_next(struct pdb_call *call);

/* Ended rows of the segment that was opened last. */
static void mark_step(struct pdb_call *call)
{
    struct snapshot_restore *restore = restore_of(call);
    struct shard_part *part =
        container_of(restore->shard->active->link.prev, struct shard_part, link);
    uint32_t row, count = 0;
    uint64_t ended_at;
    while (manifest_ended_next(&restore->ended, &row, &ended_at)) {
        segment_deletes_mark(part->deletes, row, ended_at);
        if (++count % STEP_ROWS == 0 && reactor_slice_over(call_state(call)->here->r)) {
            call_again(call);
            return;
        }
    }
    restore->segment++;
    open_next(call);
}

static void take_segment(struct snapshot_restore *restore)
{
    const struct manifest_segment *entry = segment_of(restore);
    struct segment_file *file = restore->opening;
    restore->opening = NULL;
    struct shard_part *part = part_of_segment(restore->shard, file);
    if (part == NULL) {
        fail_no_memory(restore);
        return;
    }
    memory_note_change(restore->shard->core);
    part_keep_schema(part, &restore->schema, entry->schema_version);
    list_insert_before(&restore->shard->active->link, &part->link);
    if (segment_deletes_reserve(part->deletes, entry->ended_count) < 0) {
        fail_no_memory(restore);
        return;
    }
    manifest_ended_begin(entry, &restore->ended);
    call_run(restore->base.call, mark_step);
}

static void compute(struct job *job)
{
    struct snapshot_restore *restore = container_of(job, struct snapshot_restore, job);
    restore->job_rc = segment_load_on_worker(
        restore->sum.io, &restore->options, segment_of(restore), restore->opening, &restore->trail);
}

static void opened(struct reactor *here, struct mail *mail)
{
    struct snapshot_restore *restore = container_of(mail, struct snapshot_restore, job.back);
    (void)here;
    if (restore->job_rc < 0)
        fail(restore, restore->job_rc, &restore->trail);
    else
        take_segment(restore);
}

static void open_segment(struct snapshot_restore *restore)
{
    struct engine_core *core = call_state(restore->base.call)->here;
    const struct manifest_segment *entry = segment_of(restore);
    if (snapshot_stage_admit(restore, core, restore->segment, restore->segment + 1) < 0) {
        give_up(restore); /* others have grown since it was asked for all */
        return;
    }
    arena_init(&restore->schema, 0);
    struct pdb_collection_config *config =
        arena_new(&restore->schema, struct pdb_collection_config);
    restore->opening = heap_calloc(&core->r->heap, 1, sizeof(*restore->opening));
    if (restore->opening == NULL || config == NULL ||
        !catalog_copy_config(&restore->schema, &restore->entry->config, config)) {
        fail_no_memory(restore);
        return;
    }
    const struct uuid *origin =
        manifest_segment_is_foreign(entry) ? &entry->origin : &restore->uuid;
    part_file_options(&restore->options, origin, config, entry->number);
    restore->options.folder = restore->shard_folder;
    core->r->io->ops->random(core->r->io, &restore->options.hash_seed,
                             sizeof(restore->options.hash_seed));
    restore->sum.io = core->r->io;
    restore->trail = (struct trail){0};
    restore->job = (struct job){.compute = compute, .back.deliver = opened};
    job_start(core->r, core->id, &restore->job);
}

static void open_next(struct pdb_call *call)
{
    struct snapshot_restore *restore = restore_of(call);
    if (restore->segment < restore->manifest.manifest.segment_count)
        open_segment(restore);
    else
        (void)call_send(call, 0, snapshot_restore_staged);
}

static void arrive(struct pdb_call *call)
{
    struct snapshot_restore *restore = restore_of(call);
    const struct manifest *m = &restore->manifest.manifest;
    struct engine_core *core = call_state(call)->here;
    if (shard_stage(core, restore->entry, &restore->shard) < 0) {
        fail_no_memory(restore);
        return;
    }
    upkeep_restore(restore->shard, m);
    restore->shard->version_queued = restore->shard->version_visible = m->version;
    open_next(call);
}

void snapshot_stage_start(struct snapshot_restore *restore)
{
    struct pdb_call *call = restore->base.call;
    (void)call_send(call, catalog_owner(&restore->uuid, call->db->core_count), arrive);
}

static void unstage_arrives(struct pdb_call *call)
{
    unstage(restore_of(call));
    (void)call_send(call, 0, snapshot_restore_unstaged);
}

void snapshot_unstage_start(struct snapshot_restore *restore)
{
    struct pdb_call *call = restore->base.call;
    (void)call_send(call, catalog_owner(&restore->uuid, call->db->core_count), unstage_arrives);
}
