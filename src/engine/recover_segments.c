/* recover_segments.c: what is there before the logs are replayed: each shard's manifest, and the
 * segments that it names, mapped and not read.
 *
 * A segment whose Parquet file is missing or damaged is left out and told. Its collection then
 * answers only what does not depend on it, takes no writes and keeps its files and log records as
 * they are, until the file is back. A manifest that does not validate refuses the start: nobody
 * could say what the log still has to bring. */
#include "base/log.h"
#include "engine/catalog.h"
#include "engine/dedup.h"
#include "engine/snapshot.h"
#include "engine/upkeep.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/no_libc_heap.h"

static int no_memory(struct trail *trail)
{
    return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "recovery: out of memory for segments");
}

/* ---- one segment ---- */

static int mark_ended(struct shard_part *part, const struct manifest_segment *entry)
{
    struct manifest_ended ended;
    uint32_t row;
    uint64_t ended_at;
    if (segment_deletes_reserve(part->deletes, entry->ended_count) < 0)
        return PDB_RESOURCE_EXHAUSTED;
    manifest_ended_begin(entry, &ended);
    while (manifest_ended_next(&ended, &row, &ended_at))
        segment_deletes_mark(part->deletes, row, ended_at);
    return 0;
}

static void lose(struct shard *shard, const struct manifest_segment *entry,
                 const struct trail *trail)
{
    LOG_ERROR("engine", "collection %s: segment %" PRIu64 " is out of use: %s", shard->uuid_text,
              entry->number, trail->text);
    metrics_add(shard->core->metrics, METRICS_RECOVERY_CORRUPT_AT, 1);
    if (shard->lost_segments++ == 0)
        shard->lost_first = entry->number;
}

static void count_rebuild(struct engine_core *core, const struct segment_file *file)
{
    unsigned reason = file->index_was_missing ? METRICS_REBUILD_MISSING : METRICS_REBUILD_DAMAGED;
    if (file->index_was_missing || file->index_was_bad)
        metrics_add(core->metrics, METRICS_INDEX_REBUILDS_AT + reason, 1);
}

static int load_segment(struct shard *shard, const char *folder,
                        const struct manifest_segment *entry, struct trail *trail)
{
    struct engine_core *core = shard->core;
    struct heap *heap = &core->r->heap;
    struct trail why = {0};
    struct arena arena;
    struct segment_file *file = NULL;
    arena_init(&arena, 0);
    struct pdb_collection_config *config = arena_new(&arena, struct pdb_collection_config);
    if (config == NULL || !catalog_copy_config(&arena, &shard->entry->config, config)) {
        arena_dispose(&arena);
        return no_memory(trail);
    }
    struct segment_file_options options;
    part_file_options(&options, manifest_segment_is_foreign(entry) ? &entry->origin : &shard->uuid,
                      config, entry->number);
    options.folder = folder;
    core->r->io->ops->random(core->r->io, &options.hash_seed, sizeof(options.hash_seed));
    int rc = segment_load(core->r->io, heap, &options, entry, &file, &why);
    if (rc < 0) {
        arena_dispose(&arena);
        if (rc == PDB_DATA_LOSS)
            lose(shard, entry, &why);
        else
            (void)trail_add(trail, rc, "%s", why.text);
        return rc == PDB_DATA_LOSS ? 0 : rc;
    }
    count_rebuild(core, file);
    struct shard_part *part = part_of_segment(shard, file);
    if (part == NULL) {
        arena_dispose(&arena);
        return no_memory(trail);
    }
    part_keep_schema(part, &arena, entry->schema_version);
    part->cold = true;
    list_insert_before(&shard->active->link, &part->link);
    core->rows_recovered += file->stats.rows - entry->ended_count;
    return mark_ended(part, entry) < 0 ? no_memory(trail) : 0;
}

/* ---- one shard ---- */

static int restore_requests(struct shard *shard, const struct manifest *m)
{
    int64_t now_us = shard->core->r->now_realtime_us;
    for (uint32_t i = 0; i < m->request_count; i++) {
        struct manifest_request saved;
        manifest_request_at(m, i, &saved);
        if (saved.request.time_us <= now_us - DEDUP_KEEP_US)
            continue;
        struct dedup_entry *entry = dedup_begin(&shard->dedup, &saved.request, NULL);
        if (entry == NULL)
            return PDB_RESOURCE_EXHAUSTED;
        dedup_finish(&shard->dedup, entry, saved.version, saved.count, now_us);
    }
    return 0;
}

static int load_segments(struct shard *shard, const char *folder, const struct manifest *m,
                         struct trail *trail)
{
    struct engine_core *core = shard->core;
    core->segments_named += m->segment_count;
    for (uint32_t i = 0; i < m->segment_count; i++) {
        int rc = engine_go_on(core, trail);
        if (rc == 0)
            rc = load_segment(shard, folder, &m->segments[i], trail);
        if (rc < 0)
            return rc;
        engine_progress(core, "segments", ++core->segments_loaded, core->segments_named);
    }
    return 0;
}

/* Which indexes have a file; they are read once the doors are open (upkeep_index.c). */
static void see_name(void *arg, const char *name)
{
    struct shard *shard = arg;
    uint64_t number;
    uint32_t field;
    if (!shard_files_parse_ann(name, &number, &field) || field >= shard->field_count)
        return;
    list_each (link, &shard->parts) {
        struct shard_part *part = container_of(link, struct shard_part, link);
        if (part->segment != NULL && part->file->stats.number == number)
            part->ann_files |= (uint64_t)1 << field;
    }
}

/* What is believed now must not vanish later: a killed process may have left a manifest whose name
 * is not durable yet, and what that one does not name is removed next. */
static int sync_folder(struct io *io, const char *folder, struct trail *trail)
{
    int64_t result = io_wait_sync_dir(io, folder);
    if (result >= 0 || result == -ENOENT)
        return 0;
    return trail_add(trail, engine_errno_code(result), "%s: cannot be synced: %s", folder,
                     strerror((int)-result));
}

static int load_shard(struct shard *shard, struct trail *trail)
{
    struct engine_core *core = shard->core;
    struct manifest_file file = {0};
    struct shard_files_cleaned cleaned = {0};
    char folder[SHARD_FOLDER_MAX];
    shard_files_folder(folder, core->db->options.data_dir, &shard->uuid);
    int rc = sync_folder(core->r->io, folder, trail);
    if (rc < 0)
        return rc;
    rc = manifest_load(core->r->io, folder, &shard->uuid, 0, &file, trail);
    bool found = rc == 0;
    if (rc < 0 && rc != PDB_NOT_FOUND)
        return rc;
    if (found)
        shard_witness_keep(core->r->io, core->db->options.data_dir, &shard->uuid);
    rc = shard_files_clean(core->r->io, folder, found ? &file.manifest : NULL, &cleaned, trail);
    if (rc == PDB_DATA_LOSS && found) { /* a missing file is told when it is loaded */
        LOG_ERROR("engine", "%s", trail->text);
        *trail = (struct trail){0};
        rc = 0;
    }
    if (rc == 0 && found) {
        upkeep_restore(shard, &file.manifest);
        shard->version_queued = shard->version_visible = file.manifest.version;
        rc = load_segments(shard, folder, &file.manifest, trail);
    }
    if (rc == 0 && found) /* what cannot be listed is made again */
        (void)core->r->io->ops->list_dir(core->r->io, folder, see_name, shard);
    if (rc == 0 && found && restore_requests(shard, &file.manifest) < 0)
        rc = no_memory(trail);
    manifest_file_dispose(&file);
    return rc;
}

/* ---- the phase ---- */

static enum shard_files_known known(void *arg, const struct uuid *uuid)
{
    const struct engine_core *core = arg;
    const struct catalog_snapshot *snapshot = core->catalog;
    if (catalog_is_dropped(core->db->cores[0].master, uuid))
        return SHARD_FILES_DROPPED;
    for (uint32_t i = 0; i < snapshot->count; i++)
        if (uuid_equal(&snapshot->entries[i]->uuid, uuid))
            return SHARD_FILES_LIVE;
    return SHARD_FILES_UNKNOWN;
}

static int prepare_root(struct engine_core *core, struct trail *trail)
{
    struct shard_files_cleaned cleaned = {0};
    const char *data_dir = core->db->options.data_dir;
    int rc = shard_files_make_root(core->r->io, data_dir, trail);
    if (rc == 0)
        rc = snapshots_load(core, trail);
    if (rc == 0)
        rc = shard_files_sweep(core->r->io, data_dir, known, core, &cleaned, trail);
    return rc;
}

void recover_segments(struct engine_core *core)
{
    struct trail trail = {0};
    int rc = core->id == 0 ? prepare_root(core, &trail) : 0;
    list_each (link, &core->shard_list) {
        if (rc < 0)
            break;
        rc = load_shard(container_of(link, struct shard, link), &trail);
    }
    engine_progress(core, NULL, 0, 0);
    engine_phase_done(core, rc, &trail);
}
