/* upkeep_publish.c: from a built segment to a part of its shard, one change of a shard at a time.
 *
 * While the worker wrote, rows of the old parts have ended. From now on writes end rows in the new
 * part, too (shard_part.successor), and one pass over the old parts brings over what came before.
 * Both may meet the same row: the lower version stays. Then the manifest is encoded and saved; what
 * ends after its version is in the log and comes again from there.
 *
 * A manifest that cannot be saved is tried again, under a new number, every five seconds: what is
 * not durable replaces nothing, and the log keeps what it has. */
#include "base/assert.h"
#include "base/log.h"
#include "engine/ann.h"
#include "engine/dedup.h"
#include "engine/upkeep_internal.h"
#include "os/failpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { STEP_ROWS = 1024, RETRY_AFTER_S = 5 };

enum stage {
    STAGE_CATCH_UP,
    STAGE_BEGIN,
    STAGE_SEGMENTS,
    STAGE_ENDED,
    STAGE_REQUESTS,
    STAGE_END,
    STAGE_SAVING
};

static struct heap *heap_of(const struct change *change)
{
    return &change->shard->core->r->heap;
}

/* ---- catching up ---- */

static bool attach(struct change *change)
{
    struct shard *shard = change->shard;
    if (change->part == NULL)
        return true;
    /* Writes in flight have room in the parts that they knew. */
    if (segment_deletes_reserve(change->part->deletes, (uint32_t)shard->pending_ends) < 0)
        return false;
    for (uint32_t i = 0; i < change->source_count; i++) {
        change->sources[i]->successor = change->part;
        part_hold(change->part);
    }
    return true;
}

static void detach(struct change *change)
{
    for (uint32_t i = 0; i < change->source_count; i++) {
        struct shard_part *source = change->sources[i];
        if (source->successor != NULL)
            part_let_go(source->successor);
        source->successor = NULL;
    }
}

/* The rows of the segment are the keys, in their order. True when done. */
static bool catch_up_memtable(struct change *change)
{
    const struct memtable *m = change->sources[0]->memtable;
    for (uint32_t i = 0; i < STEP_ROWS && change->row < change->key_count; i++, change->row++) {
        uint64_t ended_at = memtable_ended_at(m, change->keys[change->row]);
        if (ended_at != SEGMENT_NEVER)
            segment_deletes_mark(change->part->deletes, change->row, ended_at);
    }
    return change->row == change->key_count;
}

static void bring_over(struct change *change, const struct shard_part *source, uint32_t row,
                       uint64_t ended_at)
{
    uint32_t there;
    if (segment_merge_find(change->part->segment, source->segment, row, &there))
        segment_deletes_mark(change->part->deletes, there, ended_at);
}

static bool catch_up_segments(struct change *change)
{
    uint32_t row;
    uint64_t ended_at;
    for (uint32_t i = 0; i < STEP_ROWS && change->source < change->source_count; i++) {
        const struct shard_part *source = change->sources[change->source];
        if (segment_deletes_next(source->deletes, &change->row, &row, &ended_at)) {
            bring_over(change, source, row, ended_at);
        } else {
            change->source++;
            change->row = 0;
        }
    }
    return change->source == change->source_count;
}

/* 1: done, 0: more to do, or PDB_RESOURCE_EXHAUSTED. */
static int catch_up(struct change *change)
{
    uint32_t room = STEP_ROWS + (uint32_t)change->shard->pending_ends;
    if (change->part == NULL)
        return 1;
    if (segment_deletes_reserve(change->part->deletes, room) < 0)
        return PDB_RESOURCE_EXHAUSTED;
    return change->kind == CHANGE_FLUSH ? catch_up_memtable(change) : catch_up_segments(change);
}

/* ---- the manifest ---- */

static bool is_source(const struct change *change, const struct shard_part *part)
{
    for (uint32_t i = 0; i < change->source_count; i++)
        if (change->sources[i] == part)
            return true;
    return false;
}

static int by_number(const void *a, const void *b)
{
    const struct shard_part *const *left = a, *const *right = b;
    uint64_t l = (*left)->file->stats.number, r = (*right)->file->stats.number;
    return l < r ? -1 : l > r;
}

/* Which segments there are once the change is in force. Until it is over the list of parts only
 * changes by memtables. */
static int gather_named(struct change *change)
{
    struct shard *shard = change->shard;
    uint32_t room = 1;
    list_each (link, &shard->parts)
        room++;
    heap_free(heap_of(change), change->named);
    change->named_count = 0;
    change->named = heap_calloc(heap_of(change), room, sizeof(*change->named));
    if (change->named == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    if (change->part != NULL)
        change->named[change->named_count++] = change->part;
    list_each (link, &shard->parts) {
        struct shard_part *part = container_of(link, struct shard_part, link);
        if (part->segment != NULL && !is_source(change, part))
            change->named[change->named_count++] = part;
    }
    qsort(change->named, change->named_count, sizeof(*change->named), by_number);
    return 0;
}

static void encode_begin(struct change *change)
{
    struct shard *shard = change->shard;
    struct upkeep *u = shard->upkeep;
    if (change->kind == CHANGE_MERGE)
        change->version = u->flushed_version;
    buffer_dispose(&change->bytes);
    buffer_init_heap(&change->bytes, heap_of(change), 0);
    struct manifest m = {
        .collection = shard->uuid,
        .number = ++u->manifest_given,
        .version = change->version,
        .oldest_version = shard_oldest_version(shard),
        .next_segment = u->next_segment,
        .written_at_us = shard->core->r->now_realtime_us,
    };
    if (m.oldest_version > m.version)
        m.oldest_version = m.version;
    manifest_encode_begin(&change->encoder, &change->bytes, &m);
    change->encoder.ended_by = change->version;
    change->encoded = 0;
}

static void encode_segments(struct change *change)
{
    for (uint32_t i = 0; i < change->named_count; i++) {
        const struct shard_part *part = change->named[i];
        struct manifest_segment entry;
        segment_file_manifest_entry(part->file, part->schema_version, &entry);
        manifest_encode_segment(&change->encoder, &entry);
    }
}

/* True when all are through. */
static bool encode_ended(struct change *change)
{
    if (change->encoded == change->named_count)
        return true;
    const struct shard_part *part = change->named[change->encoded];
    if (segment_deletes_count(part->deletes) == 0 ||
        !manifest_encode_ended(&change->encoder, part->file->stats.number, part->deletes,
                               STEP_ROWS))
        change->encoded++;
    return change->encoded == change->named_count;
}

/* Only what the log may forget needs to be here; more does no harm. True when all are through. */
static bool encode_requests(struct change *change)
{
    for (uint32_t i = 0; i < STEP_ROWS; i++) {
        const struct dedup_entry *entry = dedup_next(&change->shard->dedup);
        if (entry == NULL)
            return true;
        struct manifest_request request = {entry->request, entry->version, entry->count};
        if (entry->version <= change->version)
            manifest_encode_request(&change->encoder, &request);
    }
    return false;
}

/* ---- putting it in force ---- */

static void files_removed(struct shard_remove *remove)
{
    struct change *change = container_of(remove, struct change, remove);
    change_over(change);
}

void change_remove_files(struct change *change)
{
    struct shard *shard = change->shard;
    if (shard->upkeep->pins != 0) {
        list_push_back(&shard->upkeep->unremoved, &change->link);
        return;
    }
    change->dead = heap_calloc(heap_of(change), change->source_count, sizeof(uint64_t));
    if (change->dead == NULL) { /* the next start removes them */
        change_over(change);
        return;
    }
    for (uint32_t i = 0; i < change->source_count; i++)
        change->dead[i] = change->sources[i]->file->stats.number;
    change->remove = (struct shard_remove){.io = shard->core->r->io,
                                           .folder = change->folder,
                                           .numbers = change->dead,
                                           .count = change->source_count,
                                           .field_count = shard->field_count,
                                           .done = files_removed};
    shard_remove_start(&change->remove);
}

static void count_change(const struct change *change)
{
    struct engine_core *core = change->shard->core;
    struct metrics *m = core->metrics;
    uint64_t took_ns = core->r->now_ns - change->begun_ns;
    uint64_t bytes = 0;
    if (change->part != NULL)
        bytes = change->part->file->stats.parquet_bytes + change->part->file->stats.index_bytes;
    metrics_add(m, METRICS_MANIFEST_WRITES_AT, 1);
    if (change->kind == CHANGE_FLUSH) {
        metrics_add(m, METRICS_FLUSHES_AT, 1);
        metrics_add(m, METRICS_FLUSH_BYTES_AT, bytes);
        metrics_time(m, METRICS_FLUSH_IN, took_ns);
    } else {
        metrics_add(m, METRICS_COMPACTIONS_AT, 1);
        metrics_add(m, METRICS_COMPACTION_BYTES_AT + METRICS_MOVED_READ, change->source_bytes);
        metrics_add(m, METRICS_COMPACTION_BYTES_AT + METRICS_MOVED_WRITTEN, bytes);
        metrics_time(m, METRICS_COMPACTION_IN, took_ns);
    }
    LOG_DEBUG("engine", "collection %s: %s of %u into %llu rows, %llu bytes, took_us=%llu",
              change->shard->uuid_text, change->kind == CHANGE_FLUSH ? "flush" : "merge",
              change->source_count,
              change->part != NULL ? (unsigned long long)change->part->file->stats.rows : 0,
              (unsigned long long)bytes, (unsigned long long)took_ns / 1000);
}

static void put_in_force(struct change *change)
{
    struct shard *shard = change->shard;
    struct upkeep *u = shard->upkeep;
    u->flushed_version = change->version;
    u->publishing = NULL;
    if (change->part != NULL) {
        part_hold(change->part);
        change->part->coming = false;
        list_insert_before(&change->sources[0]->link, &change->part->link);
    }
    for (uint32_t i = 0; i < change->source_count; i++)
        part_remove(change->sources[i]);
    ann_set_changed(shard);
    count_change(change);
    memory_note_change(shard->core);
    if (!list_empty(&u->ready))
        task_queue(shard->core->r, &u->publish_task);
    if (change->kind == CHANGE_FLUSH) {
        upkeep_release(shard->core, &shard->uuid, change->version);
        upkeep_tell_waits(shard, 0, NULL);
        change_over(change);
    } else {
        change_remove_files(change);
    }
}

static void retry_fires(struct timer *timer)
{
    struct change *change = container_of(timer, struct change, retry);
    change->stage = STAGE_BEGIN;
    task_queue(change->shard->core->r, &change->shard->upkeep->publish_task);
}

static void saved(struct manifest_save *save, int rc, const struct trail *trail)
{
    struct change *change = container_of(save, struct change, save);
    struct upkeep *u = change->shard->upkeep;
    struct engine_core *core = change->shard->core;
    if (rc == 0) {
        FAILPOINT("publish.saved");
        u->manifest_number = save->number;
        put_in_force(change);
        return;
    }
    metrics_add(core->metrics, METRICS_FLUSH_ERRORS_AT + upkeep_fault(rc), 1);
    LOG_WARN("engine", "collection %s: the manifest cannot be saved, tried again in %d s: %s",
             change->shard->uuid_text, RETRY_AFTER_S, trail->text);
    change->failures++;
    if (change->kind == CHANGE_FLUSH)
        upkeep_tell_waits(change->shard, rc, trail);
    change->retry.fire = retry_fires;
    uint64_t due_ns = core->r->now_ns + (uint64_t)RETRY_AFTER_S * 1000000000;
    if (change->cancelled || core->closing) {
        change_over(change); /* nothing is let go of: the next start finds one or the other */
        return;
    }
    if (timer_set(core->r, &change->retry, due_ns) < 0)
        retry_fires(&change->retry);
}

static void save(struct change *change)
{
    struct upkeep *u = change->shard->upkeep;
    change->save = (struct manifest_save){
        .io = change->shard->core->r->io,
        .folder = change->folder,
        .number = u->manifest_given,
        .oldest = u->manifest_number,
        .bytes = change->bytes.ptr,
        .len = change->bytes.len,
        .done = saved,
    };
    FAILPOINT("publish.save");
    manifest_save_start(&change->save);
}

/* ---- the steps ---- */

/* Without memory: what was written is thrown away, and the whole change begins again later. */
static void give_up(struct change *change)
{
    struct upkeep *u = change->shard->upkeep;
    LOG_WARN("engine", "collection %s: no memory to publish a segment; tried again in %d s",
             change->shard->uuid_text, RETRY_AFTER_S);
    if (change->kind == CHANGE_FLUSH) {
        struct trail trail = {0};
        int rc = trail_add(&trail, PDB_RESOURCE_EXHAUSTED, "no memory to publish a segment");
        upkeep_tell_waits(change->shard, rc, &trail);
    }
    detach(change);
    u->retry_ns = change->shard->core->r->now_ns + (uint64_t)RETRY_AFTER_S * 1000000000;
    change_over(change);
}

static void step(struct change *change)
{
    int rc = 0;
    switch ((enum stage)change->stage) {
    case STAGE_CATCH_UP:
        rc = catch_up(change);
        change->stage += rc == 1;
        break;
    case STAGE_BEGIN:
        rc = gather_named(change);
        encode_begin(change);
        change->stage++;
        break;
    case STAGE_SEGMENTS:
        encode_segments(change);
        change->stage++;
        break;
    case STAGE_ENDED:
        change->stage += encode_ended(change);
        dedup_walk(&change->shard->dedup);
        break;
    case STAGE_REQUESTS:
        change->stage += encode_requests(change);
        break;
    case STAGE_END:
        rc = manifest_encode_end(&change->encoder);
        change->stage++;
        if (rc == 0)
            save(change);
        break;
    case STAGE_SAVING:
        break;
    }
    if (rc < 0)
        give_up(change);
}

static void publish_run(struct task *task)
{
    struct upkeep *u = container_of(task, struct upkeep, publish_task);
    struct shard *shard = u->shard;
    struct reactor *r = shard->core->r;
    shard->users++;
    do {
        if (u->publishing == NULL) {
            struct list_link *link = list_pop_front(&u->ready);
            if (link == NULL)
                break;
            u->publishing = container_of(link, struct change, link);
            if (u->publishing->cancelled) {
                change_over(u->publishing);
                continue;
            }
            if (!attach(u->publishing)) {
                give_up(u->publishing);
                continue;
            }
        }
        step(u->publishing);
        if (u->publishing != NULL && u->publishing->stage == STAGE_SAVING)
            break;
    } while (!reactor_slice_over(r));
    bool waits = u->publishing != NULL && u->publishing->stage == STAGE_SAVING;
    if (!waits && (u->publishing != NULL || !list_empty(&u->ready)))
        task_queue(r, task);
    shard_leave(shard);
}

void change_publish(struct change *change)
{
    struct upkeep *u = change->shard->upkeep;
    list_push_back(&u->ready, &change->link);
    u->publish_task.run = publish_run;
    u->publish_task.name = "shard.publish";
    u->publish_task.bulk = true;
    task_queue(change->shard->core->r, &u->publish_task);
}
