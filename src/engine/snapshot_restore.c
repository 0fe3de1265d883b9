/* snapshot_restore.c: core 0's side of a restore.
 *
 *     verify   every file's length and checksum, by the worker; the manifest is decoded and gets
 *              the uuid of the new collection; memory for its segments is asked for
 *     mark     snapshots/.restore-<uuid>, durable: from now on a start removes what follows
 *     place    links (or copies) in collections/<uuid>/, then the manifest, all durable
 *     stage    the owner opens the segments in a shard that nobody sees (snapshot_stage.c)
 *     catalog  one version has the new collection, and not what it replaces: now it is there
 *     unmark
 *
 * Before the catalog's version is durable nothing has changed: an error goes back the same way, and
 * so does the next start after a crash. Behind it the mark says nothing any more, because the
 * catalog knows the uuid. Where it is not known whether that version is durable, files and mark
 * stay, and the next start decides. */
#include "base/crc32c.h"
#include "engine/archive.h"
#include "engine/manifest_format.h"
#include "engine/part.h"
#include "engine/snapshot_internal.h"
#include "engine/validate.h"
#include "os/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

static struct snapshot_restore *restore_of(struct pdb_call *call)
{
    return call_state(call)->work;
}

static struct pdb_snapshot_restore *request_of(const struct snapshot_restore *restore)
{
    return container_of(restore->base.call, struct pdb_snapshot_restore, call);
}

static struct engine_core *core_of(const struct snapshot_restore *restore)
{
    return restore->base.all->core;
}

static void dispose(struct snapshot_op *op)
{
    struct snapshot_restore *restore = container_of(op, struct snapshot_restore, base);
    snapshot_stage_dispose(restore);
    manifest_file_dispose(&restore->manifest);
    snapshot_sum_dispose(&restore->sum);
    snapshot_place_dispose(&restore->place);
    /* once the change is queued it says whether the entry is still ours */
    catalog_entry_free(restore->change.call != NULL ? restore->change.entry_new : restore->entry);
    heap_free(NULL, restore);
}

/* ---- the end ---- */

static void unmarked(struct snapshot_step *step, int64_t result)
{
    (void)result; /* the next start looks at it again */
    snapshot_op_over(&container_of(step, struct snapshot_restore, step)->base);
}

static void unmark(struct snapshot_restore *restore)
{
    if (!restore->marked || restore->keep_files) {
        snapshot_op_over(&restore->base);
        return;
    }
    (void)snprintf(restore->step.path, sizeof(restore->step.path), "%s", restore->mark);
    snapshot_unlink(&restore->step, core_of(restore)->r->io, unmarked);
}

static void removal_synced(struct snapshot_step *step, int64_t result)
{
    struct snapshot_restore *restore = container_of(step, struct snapshot_restore, step);
    restore->keep_files = result < 0; /* the mark must outlive the folder */
    unmark(restore);
}

static void files_removed(struct shard_remove *remove)
{
    struct snapshot_restore *restore = container_of(remove, struct snapshot_restore, remove);
    char root[SHARD_FOLDER_MAX];
    shard_files_root(root, core_of(restore)->db->options.data_dir);
    (void)snprintf(restore->step.path, sizeof(restore->step.path), "%.1200s", root);
    snapshot_sync_dir(&restore->step, core_of(restore)->r->io, removal_synced);
}

/* The error is told. The mark goes last: what could not be removed goes at the next start. */
static void undo(struct snapshot_restore *restore)
{
    if (!restore->folder_made || restore->keep_files) {
        unmark(restore);
        return;
    }
    restore->remove = (struct shard_remove){
        .io = core_of(restore)->r->io, .folder = restore->shard_folder, .done = files_removed};
    shard_remove_start(&restore->remove);
}

static void fail_errno(struct snapshot_restore *restore, int64_t result, const char *what)
{
    (void)snapshot_fail_errno(restore->base.call, result, what);
    undo(restore);
}

void snapshot_restore_unstaged(struct pdb_call *call)
{
    undo(restore_of(call));
}

/* ---- the catalog ---- */

static void told(struct pdb_call *call)
{
    unmark(restore_of(call));
}

static void fill_info(struct pdb_call *call)
{
    struct snapshot_restore *restore = restore_of(call);
    const struct shard *shard = shard_find(call_state(call)->here, &restore->uuid);
    struct pdb_collection_info *info = &request_of(restore)->info_out;
    if (shard != NULL && shard->entry != NULL &&
        collection_fill_info(call, shard->entry, info) == 0)
        collection_fill_live(call, shard, info);
    (void)call_send(call, 0, told);
}

static void changed(struct pdb_call *call)
{
    struct snapshot_restore *restore = restore_of(call);
    restore->entry = restore->change.entry_new;
    if (call->error.code != 0) {
        restore->keep_files = call->error.outcome_unknown;
        snapshot_unstage_start(restore);
        return;
    }
    FAILPOINT("restore.catalog");
    archive_base_wanted(core_of(restore)); /* no log has its rows */
    (void)call_send(call, catalog_owner(&restore->uuid, call->db->core_count), fill_info);
}

void snapshot_restore_staged(struct pdb_call *call)
{
    struct snapshot_restore *restore = restore_of(call);
    if (call->error.code != 0) {
        undo(restore);
        return;
    }
    FAILPOINT("restore.staged");
    restore->change = (struct catalog_change){
        .call = call,
        .kind = request_of(restore)->replace ? CATALOG_REPLACE : CATALOG_CREATE,
        .name = restore->target,
        .entry_new = restore->entry,
        .uuid = restore->uuid,
        .then = changed,
    };
    catalog_change_queue(core_of(restore), &restore->change);
}

/* ---- the folder ---- */

static void witnessed(struct shard_witness *witness)
{
    snapshot_stage_start(container_of(witness, struct snapshot_restore, witness));
}

static void root_synced(struct snapshot_step *step, int64_t result)
{
    struct snapshot_restore *restore = container_of(step, struct snapshot_restore, step);
    if (result < 0) {
        fail_errno(restore, result, "its folder cannot be synced");
        return;
    }
    FAILPOINT("restore.durable");
    restore->witness = (struct shard_witness){.io = core_of(restore)->r->io,
                                              .data_dir = core_of(restore)->db->options.data_dir,
                                              .collection = &restore->uuid,
                                              .done = witnessed};
    shard_witness_start(&restore->witness);
}

static void saved(struct manifest_save *save, int rc, const struct trail *trail)
{
    struct snapshot_restore *restore = container_of(save, struct snapshot_restore, save);
    if (rc < 0) {
        (void)call_fail_trail(restore->base.call, rc, trail);
        undo(restore);
        return;
    }
    FAILPOINT("restore.manifest");
    char root[SHARD_FOLDER_MAX];
    shard_files_root(root, core_of(restore)->db->options.data_dir);
    (void)snprintf(restore->step.path, sizeof(restore->step.path), "%.1200s", root);
    snapshot_sync_dir(&restore->step, core_of(restore)->r->io, root_synced);
}

static void save_manifest(struct snapshot_restore *restore)
{
    restore->save = (struct manifest_save){
        .io = core_of(restore)->r->io,
        .folder = restore->shard_folder,
        .number = SNAPSHOT_NUMBER,
        .bytes = restore->manifest.bytes,
        .len = restore->manifest.len,
        .done = saved,
    };
    manifest_save_start(&restore->save);
}

static void place_next(struct snapshot_restore *restore);

static void placed(struct snapshot_place *place, int64_t result)
{
    struct snapshot_restore *restore = container_of(place, struct snapshot_restore, place);
    if (result < 0) {
        fail_errno(restore, result, "a file cannot be linked");
        return;
    }
    FAILPOINT("restore.link");
    restore->file++;
    place_next(restore);
}

/* All but the manifest, which is the first. */
static void place_next(struct snapshot_restore *restore)
{
    struct snapshot_place *place = &restore->place;
    if (restore->file == restore->part->file_count) {
        save_manifest(restore);
        return;
    }
    const char *name = restore->part->files[restore->file].name;
    (void)snprintf(place->path, sizeof(place->path), "%s/%s", restore->folder, name);
    (void)snprintf(place->path_to, sizeof(place->path_to), "%.1220s/%s", restore->shard_folder,
                   name);
    place->sync = false; /* the snapshot's files are durable */
    snapshot_place_start(place, core_of(restore)->r->io, placed);
}

static void folder_made(struct snapshot_step *step, int64_t result)
{
    struct snapshot_restore *restore = container_of(step, struct snapshot_restore, step);
    if (result < 0) {
        fail_errno(restore, result, "a folder cannot be made");
        return;
    }
    FAILPOINT("restore.folder");
    restore->folder_made = true;
    restore->file = 1;
    place_next(restore);
}

static void mark_durable(struct snapshot_step *step, int64_t result)
{
    struct snapshot_restore *restore = container_of(step, struct snapshot_restore, step);
    if (result < 0) {
        fail_errno(restore, result, "the folder of snapshots cannot be synced");
        return;
    }
    FAILPOINT("restore.mark");
    (void)snprintf(step->path, sizeof(step->path), "%.1220s", restore->shard_folder);
    snapshot_make_dir(step, core_of(restore)->r->io, folder_made);
}

static void marked(struct snapshot_step *step, int64_t result)
{
    struct snapshot_restore *restore = container_of(step, struct snapshot_restore, step);
    if (result < 0) {
        fail_errno(restore, result, "the folder of snapshots cannot be written");
        return;
    }
    restore->marked = true;
    snapshot_root(step->path, core_of(restore)->db);
    snapshot_sync_dir(step, core_of(restore)->r->io, mark_durable);
}

static void mark(struct snapshot_restore *restore)
{
    (void)snprintf(restore->step.path, sizeof(restore->step.path), "%s", restore->mark);
    snapshot_make_dir(&restore->step, core_of(restore)->r->io, marked);
}

/* ---- the manifest ---- */

static bool has_file(const struct snapshot_part *part, const struct manifest_segment *segment)
{
    for (uint32_t i = 1; i < part->file_count; i++) {
        uint64_t number;
        if (shard_files_parse(part->files[i].name, &number) == SHARD_FILE_PARQUET &&
            number == segment->number)
            return part->files[i].bytes == segment->parquet_bytes &&
                   part->files[i].crc32c == segment->parquet_crc32c;
    }
    return false;
}

/* Only the header names the collection: the sums of the sections do not depend on it. */
static int rename_manifest(struct snapshot_restore *restore)
{
    struct manifest_file *file = &restore->manifest;
    char *header = file->bytes;
    struct trail *trail = &restore->trail;
    int rc = manifest_decode(file->bytes, file->len, &file->arena, &file->manifest, trail);
    if (rc < 0)
        return rc;
    const struct manifest *m = &file->manifest;
    if (m->number != SNAPSHOT_NUMBER || m->version != restore->part->version ||
        !uuid_equal(&m->collection, &restore->part->entry->uuid))
        return trail_add(trail, PDB_DATA_LOSS, "the manifest is that of another snapshot");
    for (uint32_t i = 0; i < m->segment_count; i++)
        if (!has_file(restore->part, &m->segments[i]))
            return trail_add(trail, PDB_DATA_LOSS, "the list and the manifest do not agree");
    memcpy(header + MANIFEST_AT_COLLECTION, restore->uuid.bytes, sizeof(restore->uuid.bytes));
    bytes_put_u32(header + MANIFEST_AT_CRC, crc32c(0, header, MANIFEST_AT_CRC));
    return 0;
}

static void read_manifest(struct job *job)
{
    struct snapshot_restore *restore = container_of(job, struct snapshot_restore, job);
    const struct snapshot_file *listed = &restore->part->files[0];
    struct manifest_file *file = &restore->manifest;
    struct file_map map = {0};
    int rc = file_map_open(restore->sum.io, restore->sum.path, FILE_MAP_NORMAL, &map);
    if (rc == 0 && map.len != listed->bytes)
        rc = -EIO;
    if (rc == 0 && (file->bytes = heap_alloc(NULL, map.len)) == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        rc = file_map_populate(&map, 0, map.len);
    if (rc == 0)
        memcpy(file->bytes, map.ptr, map.len);
    file->len = map.len;
    file_map_close(&map);
    if (rc < 0)
        restore->job_rc =
            trail_add(&restore->trail, rc == -ENOMEM ? PDB_RESOURCE_EXHAUSTED : PDB_DATA_LOSS,
                      "the manifest cannot be read: %s", strerror(-rc));
    else
        restore->job_rc = rename_manifest(restore);
}

static void manifest_read(struct reactor *here, struct mail *mail)
{
    struct snapshot_restore *restore = container_of(mail, struct snapshot_restore, job.back);
    (void)here;
    if (restore->job_rc < 0) {
        (void)trail_add(&restore->trail, restore->job_rc, "snapshot '%.*s'",
                        CALL_TEXT(restore->image->name));
        (void)call_fail_trail(restore->base.call, restore->job_rc, &restore->trail);
        undo(restore);
        return;
    }
    /* Before anything is linked, and again before each segment is opened. */
    if (snapshot_stage_admit(restore, core_of(restore), 0,
                             restore->manifest.manifest.segment_count) < 0) {
        undo(restore);
        return;
    }
    mark(restore);
}

/* ---- verifying ---- */

static void verify_next(struct snapshot_restore *restore);

static void verified(struct snapshot_sum *sum)
{
    struct snapshot_restore *restore = container_of(sum, struct snapshot_restore, sum);
    const struct snapshot_file *file = &restore->part->files[restore->file];
    struct pdb_call *call = restore->base.call;
    if (sum->error == -ENOMEM || sum->error == -EMFILE || sum->error == -ENFILE)
        (void)snapshot_fail_errno(call, -ENOMEM, "a file cannot be read");
    else if (sum->error < 0)
        (void)call_fail(call, PDB_DATA_LOSS, "snapshot '%.*s': %s cannot be read: %s",
                        CALL_TEXT(restore->image->name), file->name, strerror(-sum->error));
    else if (sum->len != file->bytes || sum->crc != file->crc32c)
        (void)call_fail(call, PDB_DATA_LOSS,
                        "snapshot '%.*s' is damaged: %s does not fit its checksum",
                        CALL_TEXT(restore->image->name), file->name);
    if (call->error.code != 0) {
        undo(restore);
        return;
    }
    restore->file++;
    verify_next(restore);
}

static void name_file(struct snapshot_restore *restore)
{
    (void)snprintf(restore->sum.path, sizeof(restore->sum.path), "%s/%s", restore->folder,
                   restore->part->files[restore->file].name);
}

static void verify_next(struct snapshot_restore *restore)
{
    struct reactor *r = core_of(restore)->r;
    if (restore->file < restore->part->file_count) {
        name_file(restore);
        snapshot_sum_file(&restore->sum, r, verified);
        return;
    }
    FAILPOINT("restore.verified");
    restore->file = 0;
    name_file(restore);
    arena_init(&restore->manifest.arena, 0);
    restore->job = (struct job){.compute = read_manifest, .back.deliver = manifest_read};
    job_start(r, r->id, &restore->job);
}

/* ---- the beginning ---- */

/* They are in order of their names. NULL: it is not there. */
static const struct snapshot_part *part_named(const struct snapshot_image *image,
                                              struct pdb_text name)
{
    uint32_t low = 0, high = image->part_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = text_compare(image->parts[middle].entry->config.name, name);
        if (order == 0)
            return &image->parts[middle];
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return NULL;
}

static int find_part(struct snapshot_restore *restore)
{
    const struct pdb_snapshot_restore *request = request_of(restore);
    struct pdb_call *call = restore->base.call;
    struct snapshot_image *image = NULL;
    if (snapshot_usable(call, request->name, &image) < 0)
        return call->error.code;
    restore->image = image;
    if (request->collection.len == 0 && image->part_count != 1)
        return call_fail(call, PDB_INVALID_ARGUMENT,
                         "collection: the snapshot has %u collections; one must be named",
                         image->part_count);
    restore->part =
        request->collection.len == 0 ? &image->parts[0] : part_named(image, request->collection);
    if (restore->part == NULL)
        return call_fail(call, PDB_NOT_FOUND, "collection '%.*s' is not in the snapshot",
                         CALL_TEXT(request->collection));
    return 0;
}

static int make_entry(struct snapshot_restore *restore)
{
    const struct pdb_snapshot_restore *request = request_of(restore);
    struct pdb_call *call = restore->base.call;
    struct engine_core *core = core_of(restore);
    const struct catalog_entry *from = restore->part->entry;
    struct pdb_collection_config config = from->config;
    uint64_t random[2];
    if (request->target.len != 0)
        config.name = request->target;
    if (!request->replace && catalog_find(core->catalog, config.name) != NULL)
        return call_fail(call, PDB_ALREADY_EXISTS, "collection '%.*s' already exists",
                         CALL_TEXT(config.name));
    int64_t now_us = call_state(call)->now_us;
    core->r->io->ops->random(core->r->io, random, sizeof(random));
    uuid_make_v7((uint64_t)now_us / 1000, random, &restore->uuid);
    struct catalog_times times = {now_us, now_us, from->schema_version};
    restore->entry = catalog_entry_new(&restore->uuid, &config, &times);
    if (restore->entry == NULL)
        return call_no_memory(call);
    restore->entry->born_version = restore->part->version;
    restore->target = restore->entry->config.name;
    return 0;
}

static void make_paths(struct snapshot_restore *restore)
{
    const struct pdb *db = core_of(restore)->db;
    char folder[SNAPSHOT_FOLDER_MAX], part[SNAPSHOT_PATH_MAX], text[UUID_TEXT_LEN + 1];
    snapshot_folder(folder, db, restore->image->name);
    snapshot_part_folder(part, folder, &restore->part->entry->uuid);
    (void)snprintf(restore->folder, sizeof(restore->folder), "%.1150s", part);
    shard_files_folder(restore->shard_folder, db->options.data_dir, &restore->uuid);
    snapshot_root(folder, db);
    uuid_format(&restore->uuid, text);
    (void)snprintf(restore->mark, sizeof(restore->mark), "%s/.restore-%s", folder, text);
}

static void run(struct snapshot_op *op)
{
    struct snapshot_restore *restore = container_of(op, struct snapshot_restore, base);
    if (call_stopped(op->call) || find_part(restore) < 0 || make_entry(restore) < 0) {
        snapshot_op_over(op);
        return;
    }
    make_paths(restore);
    verify_next(restore);
}

static void restore_at_core0(struct pdb_call *call)
{
    struct snapshot_restore *restore = heap_calloc(NULL, 1, sizeof(*restore));
    if (restore == NULL) {
        (void)call_no_memory(call);
        call_return(call);
        return;
    }
    restore->base = (struct snapshot_op){
        .call = call, .run = run, .dispose = dispose, .results = METRICS_SNAPSHOT_RESTORES_AT};
    call_state(call)->work = restore;
    snapshot_op_queue(call_state(call)->here, &restore->base);
}

void pdb_snapshot_restore_start(struct pdb_snapshot_restore *r)
{
    struct pdb_call *call = &r->call;
    struct trail trail = {0};
    if (!call_begin(call))
        return;
    int rc = r->target.len != 0 ? validate_collection_name(r->target, &trail) : 0;
    if (rc < 0) {
        (void)trail_add(&trail, rc, "target");
        (void)call_fail_trail(call, rc, &trail);
        call_return(call);
        return;
    }
    call_state(call)->touring = true;
    (void)call_send(call, 0, restore_at_core0);
}
