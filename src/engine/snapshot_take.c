/* snapshot_take.c: one collection of a snapshot, on its owner's core.
 *
 *     wait    until all batches that are visible now are in segments
 *     pin     the segments of this moment: their version is what has been flushed, F >= that
 *     link    Parquet file, index (which is synced: a shard leaves it to the page cache), one after
 *             the other; the index's checksum, by the worker
 *     save    the manifest of exactly F: rows that batches above F have ended are in it
 *
 * It ends under any load, because it waits for one flush and not for the writes to end. At the
 * moment of the pin every segment in the shard's list has rows up to F only, and remembers every
 * end above F: nothing forgets those while a reader of F is there. The manifest names the
 * collection as the origin of each file, so that a restore under another uuid need not touch it. */
#include "base/assert.h"
#include "engine/part.h"
#include "engine/snapshot_internal.h"
#include "os/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { STEP_ROWS = 1024 };

static struct pdb_call *call_of_taking(const struct snapshot_taking *t)
{
    return t->create->base.call;
}

static struct engine_core *core_of(const struct snapshot_taking *t)
{
    return call_state(call_of_taking(t))->here;
}

/* ---- the end ---- */

void snapshot_taking_free(struct snapshot_taking *t)
{
    if (t == NULL)
        return;
    for (uint32_t i = 0; i < t->part_count; i++)
        part_let_go(t->parts[i]);
    heap_free(NULL, t->parts);
    buffer_dispose(&t->bytes);
    snapshot_place_dispose(&t->place);
    snapshot_sum_dispose(&t->sum);
    heap_free(NULL, t);
}

/* Done with this collection, well or not. */
static void leave(struct snapshot_create *create)
{
    struct pdb_call *call = create->base.call;
    struct call_state *s = call_state(call);
    struct snapshot_taking *t = create->taking;
    struct shard *shard = s->shard;
    create->taking = NULL;
    s->shard = NULL;
    if (t != NULL && t->pinned) {
        shard_read_end(&t->read);
        upkeep_unpin(shard);
    }
    snapshot_taking_free(t);
    if (shard != NULL)
        shard_leave(shard);
    (void)call_send(call, 0, snapshot_create_taken);
}

static void fail_errno(struct snapshot_taking *t, int64_t result, const char *what)
{
    (void)snapshot_fail_errno(call_of_taking(t), result, what);
    leave(t->create);
}

/* ---- the manifest ---- */

static void summed_manifest(struct snapshot_sum *sum)
{
    struct snapshot_taking *t = container_of(sum, struct snapshot_taking, sum);
    t->part->files[0].bytes = t->bytes.len;
    t->part->files[0].crc32c = sum->crc;
    t->create->image->bytes += snapshot_part_bytes(t->part);
    FAILPOINT("snapshot.taken");
    leave(t->create);
}

static void saved(struct manifest_save *save, int rc, const struct trail *trail)
{
    struct snapshot_taking *t = container_of(save, struct snapshot_taking, save);
    if (rc < 0) {
        (void)call_fail_trail(call_of_taking(t), rc, trail);
        leave(t->create);
        return;
    }
    FAILPOINT("snapshot.manifest");
    snapshot_sum_bytes(&t->sum, core_of(t)->r, t->bytes.ptr, t->bytes.len, summed_manifest);
}

static void save_manifest(struct snapshot_taking *t)
{
    if (manifest_encode_end(&t->encoder) < 0) {
        (void)call_no_memory(call_of_taking(t));
        leave(t->create);
        return;
    }
    t->save = (struct manifest_save){
        .io = core_of(t)->r->io,
        .folder = t->folder,
        .number = SNAPSHOT_NUMBER,
        .bytes = t->bytes.ptr,
        .len = t->bytes.len,
        .done = saved,
    };
    manifest_save_start(&t->save);
}

/* Rows of the segment that have ended by the version: true when all are counted. */
static bool count_ended(struct snapshot_taking *t, const struct shard_part *part)
{
    uint32_t row;
    uint64_t ended_at;
    for (uint32_t i = 0; i < STEP_ROWS; i++) {
        if (!segment_deletes_next(part->deletes, &t->row, &row, &ended_at))
            return true;
        t->part->rows -= ended_at <= t->part->version;
    }
    return false;
}

static void encode_step(struct pdb_call *call)
{
    struct snapshot_taking *t = snapshot_create_of(call)->taking;
    while (t->at < t->part_count) {
        const struct shard_part *part = t->parts[t->at];
        if (!t->counted) {
            t->counted = count_ended(t, part);
        } else if (!manifest_encode_ended(&t->encoder, part->file->stats.number, part->deletes,
                                          STEP_ROWS)) {
            t->at++;
            t->row = 0;
            t->counted = false;
        }
        if (reactor_slice_over(core_of(t)->r)) {
            call_again(call);
            return;
        }
    }
    save_manifest(t);
}

static void begin_manifest(struct snapshot_taking *t)
{
    const struct shard *shard = call_state(call_of_taking(t))->shard;
    struct manifest m = {
        .collection = shard->uuid,
        .number = SNAPSHOT_NUMBER,
        .version = t->part->version,
        .oldest_version = t->part->version,
        .next_segment = upkeep_next_segment(shard),
        .written_at_us = core_of(t)->r->now_realtime_us,
    };
    buffer_init_heap(&t->bytes, NULL, 0);
    manifest_encode_begin(&t->encoder, &t->bytes, &m);
    t->encoder.ended_by = t->part->version;
    for (uint32_t i = 0; i < t->part_count; i++) {
        struct manifest_segment entry;
        segment_file_manifest_entry(t->parts[i]->file, t->parts[i]->schema_version, &entry);
        if (!manifest_segment_is_foreign(&entry))
            entry.origin = shard->uuid;
        manifest_encode_segment(&t->encoder, &entry);
        t->part->rows += entry.rows;
    }
    t->at = 0;
    call_run(call_of_taking(t), encode_step);
}

/* ---- the links ---- */

static void link_parquet(struct snapshot_taking *t);

static void link_next(struct snapshot_taking *t)
{
    if (++t->at < t->part_count)
        link_parquet(t);
    else
        begin_manifest(t);
}

static void summed_index(struct snapshot_sum *sum)
{
    struct snapshot_taking *t = container_of(sum, struct snapshot_taking, sum);
    if (sum->error < 0) {
        fail_errno(t, sum->error, "an index cannot be read");
        return;
    }
    t->part->files[t->part->file_count - 1].crc32c = sum->crc;
    link_next(t);
}

static void linked_index(struct snapshot_place *place, int64_t result)
{
    struct snapshot_taking *t = container_of(place, struct snapshot_taking, place);
    if (result < 0) {
        fail_errno(t, result, "an index cannot be linked");
        return;
    }
    FAILPOINT("snapshot.link_index");
    snapshot_sum_map(&t->sum, core_of(t)->r, &t->parts[t->at]->file->index, summed_index);
}

/* The next file of the image, and where it lies. */
static struct snapshot_file *name_file(struct snapshot_taking *t, enum shard_file_kind kind)
{
    const struct shard_part *part = t->parts[t->at];
    const struct shard *shard = call_state(call_of_taking(t))->shard;
    struct snapshot_file *file = &t->part->files[t->part->file_count++];
    char folder[SHARD_FOLDER_MAX];
    shard_files_folder(folder, core_of(t)->db->options.data_dir, &shard->uuid);
    shard_files_name(file->name, kind, part->file->stats.number);
    (void)snprintf(t->place.path, sizeof(t->place.path), "%.1200s/%s", folder, file->name);
    (void)snprintf(t->place.path_to, sizeof(t->place.path_to), "%.1220s/%s", t->folder, file->name);
    return file;
}

static void linked_parquet(struct snapshot_place *place, int64_t result)
{
    struct snapshot_taking *t = container_of(place, struct snapshot_taking, place);
    if (result < 0) {
        fail_errno(t, result, "a Parquet file cannot be linked");
        return;
    }
    FAILPOINT("snapshot.link");
    const struct segment_file *file = t->parts[t->at]->file;
    if (file->index_in_memory) { /* it is on no disk: a restore makes it again */
        link_next(t);
        return;
    }
    name_file(t, SHARD_FILE_INDEX)->bytes = file->index.len;
    t->place.sync = true;
    snapshot_place_start(&t->place, core_of(t)->r->io, linked_index);
}

static void link_parquet(struct snapshot_taking *t)
{
    const struct segment_file *segment = t->parts[t->at]->file;
    struct snapshot_file *file = name_file(t, SHARD_FILE_PARQUET);
    file->bytes = segment->stats.parquet_bytes;
    file->crc32c = segment->parquet_crc32c;
    t->place.sync = false;
    snapshot_place_start(&t->place, core_of(t)->r->io, linked_parquet);
}

static void folder_made(struct snapshot_step *step, int64_t result)
{
    struct snapshot_taking *t = container_of(step, struct snapshot_taking, step);
    if (result < 0) {
        fail_errno(t, result, "its folder cannot be made");
        return;
    }
    t->at = 0;
    if (t->part_count != 0)
        link_parquet(t);
    else
        begin_manifest(t);
}

/* ---- the pin ---- */

static int by_number(const void *a, const void *b)
{
    const struct shard_part *const *left = a, *const *right = b;
    uint64_t l = (*left)->file->stats.number, r = (*right)->file->stats.number;
    return l < r ? -1 : l > r;
}

static int hold_segments(struct snapshot_taking *t, const struct shard *shard)
{
    uint32_t room = 1;
    list_each (link, &shard->parts)
        room++;
    t->parts = heap_calloc(NULL, room, sizeof(struct shard_part *));
    if (t->parts == NULL)
        return call_no_memory(call_of_taking(t));
    list_each (link, &shard->parts) {
        struct shard_part *part = container_of(link, struct shard_part, link);
        if (part->segment == NULL)
            continue;
        part_hold(part);
        t->parts[t->part_count++] = part;
    }
    qsort(t->parts, t->part_count, sizeof(struct shard_part *), by_number);
    return 0;
}

/* Its part of the image, with room for all files; the manifest is the first. */
static int make_part(struct snapshot_taking *t, const struct shard *shard)
{
    struct snapshot_image *image = t->create->image;
    const struct catalog_entry *entry = shard->entry;
    struct catalog_times times = {entry->created_at_us, entry->updated_at_us,
                                  entry->schema_version};
    struct snapshot_part *part = &image->parts[image->part_count];
    *part = (struct snapshot_part){.version = upkeep_flushed_version(shard), .file_count = 1};
    part->files = arena_array(&image->arena, struct snapshot_file, 1 + 2 * (size_t)t->part_count);
    if (part->files == NULL)
        return call_no_memory(call_of_taking(t));
    part->entry = catalog_entry_new(&entry->uuid, &entry->config, &times);
    if (part->entry == NULL)
        return call_no_memory(call_of_taking(t));
    memset(part->files, 0, (1 + 2 * (size_t)t->part_count) * sizeof(part->files[0]));
    shard_files_name(part->files[0].name, SHARD_FILE_MANIFEST, SNAPSHOT_NUMBER);
    image->part_count++;
    t->part = part;
    return 0;
}

/* A segment that is lost or damaged is told. */
static int check_damage(struct shard *shard, struct pdb_call *call)
{
    bool damaged = shard->lost_segments != 0;
    list_each (link, &shard->parts) {
        const struct shard_part *part = container_of(link, struct shard_part, link);
        damaged = damaged || (part->segment != NULL && segment_damaged(part->segment));
    }
    if (damaged)
        parts_tell_damage(shard, call);
    return call->error.code;
}

/* True when it was dropped: of all collections it is left out. */
static bool was_dropped(struct snapshot_create *create)
{
    struct pdb_call *call = create->base.call;
    const struct shard *shard = call_state(call)->shard;
    if (shard != NULL && shard->entry != NULL)
        return false;
    if (create->single)
        (void)call_fail(call, PDB_NOT_FOUND, "collection '%.*s' does not exist",
                        CALL_TEXT(call_state(call)->entry->config.name));
    return true;
}

static void pin(struct pdb_call *call)
{
    struct snapshot_create *create = snapshot_create_of(call);
    struct snapshot_taking *t = create->taking;
    struct shard *shard = call_state(call)->shard;
    if (call->error.code != 0 || was_dropped(create) || check_damage(shard, call) < 0 ||
        hold_segments(t, shard) < 0 || make_part(t, shard) < 0) {
        leave(create);
        return;
    }
    upkeep_pin(shard);
    shard_read_begin_at(shard, &t->read, t->part->version);
    t->pinned = true;
    FAILPOINT("snapshot.pin");
    snapshot_part_folder(t->folder, create->folder, &shard->uuid);
    (void)snprintf(t->step.path, sizeof(t->step.path), "%s", t->folder);
    snapshot_make_dir(&t->step, core_of(t)->r->io, folder_made);
}

static void flushed(struct upkeep_wait *wait, int rc, const struct trail *trail)
{
    struct snapshot_taking *t = container_of(wait, struct snapshot_taking, wait);
    struct pdb_call *call = call_of_taking(t);
    const struct trail none = {0};
    if (rc < 0 && (rc != PDB_NOT_FOUND || t->create->single))
        (void)call_fail_trail(call, rc, trail != NULL ? trail : &none);
    call_run(call, pin);
}

static void arrive(struct pdb_call *call)
{
    struct snapshot_create *create = snapshot_create_of(call);
    struct shard *shard = call_state(call)->shard;
    if (call->error.code != 0 || was_dropped(create) || check_damage(shard, call) < 0) {
        leave(create);
        return;
    }
    struct snapshot_taking *t = heap_calloc(NULL, 1, sizeof(*t));
    if (t == NULL) {
        (void)call_no_memory(call);
        leave(create);
        return;
    }
    t->create = create;
    create->taking = t;
    t->wait.version = shard->version_visible;
    t->wait.done = flushed;
    upkeep_wait_flushed(shard, &t->wait);
}

void snapshot_take_start(struct snapshot_create *create)
{
    struct pdb_call *call = create->base.call;
    const struct catalog_snapshot *catalog = call_state(call)->catalog;
    call_visit_shard(call, catalog->entries[create->first + create->next], arrive);
}
