/* shard.c: which shards a core has, and when one may go.
 *
 * The catalog decides: a snapshot makes, keeps or drops shards. A dropped shard is out of the table
 * at once (new calls get NOT_FOUND) but stays until its last call has left, because writes of it
 * may still be in the log's hands and readers in the middle of a scan. */
#include "engine/upkeep.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/log.h"
#include "engine/catalog.h"
#include "engine/recall.h"

#include <string.h>

#include "base/no_libc_heap.h"

static uint64_t uuid_hash(const struct uuid *uuid)
{
    return bytes_get_u64(uuid->bytes + 8);
}

struct shard *shard_find(struct engine_core *core, const struct uuid *uuid)
{
    uint64_t value;
    if (!map_find(&core->shards, uuid_hash(uuid), uuid, sizeof(*uuid), &value))
        return NULL;
    return (struct shard *)(uintptr_t)value;
}

static bool uuid_is(const void *owner, uint64_t value, const void *key, size_t key_len)
{
    (void)owner;
    const struct shard *shard = (const struct shard *)(uintptr_t)value;
    return key_len == sizeof(shard->uuid) && memcmp(&shard->uuid, key, key_len) == 0;
}

void shard_table_init(struct engine_core *core)
{
    list_init(&core->shard_list);
    map_init(&core->shards, &core->r->heap, uuid_is, NULL);
}

/* ---- making ---- */

static int make_memtable(struct shard *shard, const struct catalog_entry *entry)
{
    for (uint32_t i = 0; i < entry->config.field_count; i++) {
        const struct pdb_field *field = &entry->config.fields[i];
        shard->fields[i] = (struct scan_field){.dimension = field->dimension,
                                               .metric = field->metric,
                                               .bytes = entry->field_bytes[i],
                                               .element = field->element};
        shard->field_bytes[i] = entry->field_bytes[i];
    }
    shard->active = part_of_memtable(shard);
    if (shard->active == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    shard->memtable = shard->active->memtable;
    list_push_back(&shard->parts, &shard->active->link);
    return 0;
}

static bool pending_equal(const void *owner, uint64_t value, const void *key, size_t key_len)
{
    (void)owner;
    const struct pdb_row *row = (const struct pdb_row *)(uintptr_t)value;
    return row->id.len == key_len && memcmp(row->id.ptr, key, key_len) == 0;
}

static int make(struct engine_core *core, const struct catalog_entry *entry,
                struct shard **shard_out)
{
    struct heap *heap = &core->r->heap;
    struct shard *shard = heap_calloc(heap, 1, sizeof(*shard));
    if (shard == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    shard->core = core;
    shard->uuid = entry->uuid;
    shard->field_count = entry->config.field_count;
    shard->row_bytes = entry->row_bytes;
    shard->entry = entry;
    uuid_format(&entry->uuid, shard->uuid_text);
    list_init(&shard->queue);
    list_init(&shard->flight);
    list_init(&shard->again);
    list_init(&shard->guards);
    list_init(&shard->reads);
    list_init(&shard->parts);
    for (unsigned i = 0; i < CONVOY_COUNT; i++) {
        shard->convoys[i].shard = shard;
        list_init(&shard->convoys[i].members);
        list_init(&shard->convoys[i].waiting);
    }
    map_init(&shard->pending, heap, pending_equal, NULL);
    dedup_init(&shard->dedup, heap);
    shard->field_bytes = heap_calloc(heap, entry->config.field_count, sizeof(uint32_t));
    shard->fields = heap_calloc(heap, entry->config.field_count, sizeof(struct scan_field));
    shard->vectors_out = heap_calloc(heap, entry->config.field_count, sizeof(void *));
    if (shard->field_bytes == NULL || shard->fields == NULL || shard->vectors_out == NULL ||
        make_memtable(shard, entry) < 0 || upkeep_new(shard) < 0) {
        shard_free(shard);
        return PDB_RESOURCE_EXHAUSTED;
    }
    *shard_out = shard;
    return 0;
}

int shard_stage(struct engine_core *core, const struct catalog_entry *entry,
                struct shard **shard_out)
{
    int rc = make(core, entry, shard_out);
    if (rc == 0)
        list_push_back(&core->staged, &(*shard_out)->link);
    return rc;
}

struct shard *shard_find_staged(struct engine_core *core, const struct uuid *uuid)
{
    list_each (link, &core->staged) {
        struct shard *shard = container_of(link, struct shard, link);
        if (uuid_equal(&shard->uuid, uuid))
            return shard;
    }
    return NULL;
}

/* A staged one that finds no room stays where it is: its rows must not be forgotten. */
int shard_open(struct engine_core *core, const struct catalog_entry *entry,
               struct shard **shard_out)
{
    struct shard *shard = shard_find_staged(core, &entry->uuid);
    if (map_reserve(&core->shards, 1) < 0 || (shard == NULL && make(core, entry, &shard) < 0))
        return PDB_RESOURCE_EXHAUSTED;
    shard->entry = entry;
    list_remove(&shard->link);
    list_push_back(&core->shard_list, &shard->link);
    (void)map_put(&core->shards, uuid_hash(&shard->uuid), &shard->uuid, sizeof(shard->uuid),
                  (uint64_t)(uintptr_t)shard, NULL);
    ann_set_changed(shard); /* a staged one may have indexes */
    *shard_out = shard;
    return 0;
}

void shard_free(struct shard *shard)
{
    struct heap *heap = &shard->core->r->heap;
    task_cancel(&shard->prepare_task);
    task_cancel(&shard->commit_task);
    task_cancel(&shard->collect_task);
    task_cancel(&shard->ann.task);
    timer_cancel(shard->core->r, &shard->ann.timer);
    for (unsigned i = 0; i < CONVOY_COUNT; i++)
        task_cancel(&shard->convoys[i].task);
    list_remove(&shard->stall_link);
    list_remove(&shard->link);
    dedup_dispose(&shard->dedup);
    map_dispose(&shard->pending);
    upkeep_free(shard);
    while (!list_empty(&shard->parts))
        part_remove(container_of(shard->parts.anchor.next, struct shard_part, link));
    heap_free(heap, shard->field_bytes);
    heap_free(heap, shard->fields);
    heap_free(heap, (void *)shard->vectors_out);
    for (unsigned i = 0; i < METRICS_PLAN_COUNT; i++)
        heap_free(heap, shard->search_times[i]);
    recall_samples_free(shard);
    heap_free(heap, shard);
}

/* ---- following the catalog ---- */

static void drop(struct engine_core *core, struct shard *shard)
{
    (void)map_remove(&core->shards, uuid_hash(&shard->uuid), &shard->uuid, sizeof(shard->uuid),
                     NULL);
    list_remove(&shard->link);
    shard->entry = NULL;
    shard->users++;
    upkeep_drop(shard);
    shard_leave(shard);
}

void shard_follow_catalog(struct engine_core *core, const struct catalog_snapshot *snapshot)
{
    list_each (link, &core->shard_list)
        container_of(link, struct shard, link)->entry = NULL;
    for (uint32_t i = 0; i < snapshot->count; i++) {
        const struct catalog_entry *entry = snapshot->entries[i];
        if (catalog_owner(&entry->uuid, core->db->core_count) != core->id)
            continue;
        struct shard *shard = shard_find(core, &entry->uuid);
        if (shard != NULL)
            shard->entry = entry;
        else if (shard_open(core, entry, &shard) < 0)
            LOG_ERROR("engine",
                      "no memory for the shard of a new collection; its first call tries again");
    }
    list_each_safe(link, following, &core->shard_list)
    {
        struct shard *shard = container_of(link, struct shard, link);
        if (shard->entry == NULL)
            drop(core, shard);
        else
            upkeep_index_settings(shard);
    }
    memory_note_change(core);
}

void shard_leave(struct shard *shard)
{
    ASSERT(shard->users > 0);
    struct engine_core *core = shard->core;
    if (--shard->users != 0 || shard->entry != NULL)
        return;
    upkeep_forget_collection(core, &shard->uuid);
    shard_free(shard);
    memory_note_change(core);
}

bool shard_gone(const struct shard *shard, struct pdb_call *call)
{
    if (shard->entry != NULL)
        return false;
    (void)call_fail(call, PDB_NOT_FOUND, "collection '%.*s' does not exist",
                    CALL_TEXT(call_state(call)->entry->config.name));
    return true;
}

/* ---- readers ---- */

/* The list is in order of versions. */
void shard_read_begin_at(struct shard *shard, struct shard_read *read, uint64_t version)
{
    struct list_link *before = shard->reads.anchor.prev;
    read->version = version;
    while (before != &shard->reads.anchor &&
           container_of(before, struct shard_read, link)->version > version)
        before = before->prev;
    list_insert_before(before->next, &read->link);
}

void shard_read_begin(struct shard *shard, struct shard_read *read)
{
    shard_read_begin_at(shard, read, shard->version_visible);
}

void shard_read_end(struct shard_read *read)
{
    list_remove(&read->link);
}

uint64_t shard_oldest_version(const struct shard *shard)
{
    uint64_t oldest = upkeep_retained_version(shard);
    if (list_empty(&shard->reads))
        return oldest;
    uint64_t read = container_of(shard->reads.anchor.next, struct shard_read, link)->version;
    return read < oldest ? read : oldest;
}
