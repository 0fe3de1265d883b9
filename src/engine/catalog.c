/* catalog.c: entries and snapshots in memory.
 *
 * A snapshot is made by core 0 and read by all; an entry is shared by every snapshot that has it
 * unchanged. How long a snapshot lives is counted per core, in that core's share of it, without
 * atomics: a core whose count has fallen to zero mails its share back, and when all have come back
 * core 0 frees the snapshot. */
#include "engine/catalog.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/text.h"

#include <string.h>

#include "base/no_libc_heap.h"

/* ---- reading ---- */

static uint32_t lower_bound(const struct catalog_snapshot *snapshot, struct pdb_text name,
                            bool after_equal)
{
    uint32_t low = 0, high = snapshot->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = text_compare(snapshot->entries[middle]->config.name, name);
        if (order < 0 || (after_equal && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct catalog_entry *catalog_find(const struct catalog_snapshot *snapshot,
                                         struct pdb_text name)
{
    uint32_t at = lower_bound(snapshot, name, false);
    if (at == snapshot->count || !text_equal(snapshot->entries[at]->config.name, name))
        return NULL;
    return snapshot->entries[at];
}

uint32_t catalog_after(const struct catalog_snapshot *snapshot, struct pdb_text name)
{
    return name.len == 0 ? 0 : lower_bound(snapshot, name, true);
}

unsigned catalog_owner(const struct uuid *uuid, unsigned core_count)
{
    return (
        unsigned)(hash_u64(bytes_get_u64(uuid->bytes) ^ hash_u64(bytes_get_u64(uuid->bytes + 8))) %
                  core_count);
}

/* ---- how long a snapshot lives ---- */

void catalog_hold(struct engine_core *core, struct catalog_snapshot *snapshot)
{
    snapshot->shares[core->id].holds++;
}

static void share_comes_back(struct reactor *here, struct mail *mail)
{
    (void)here;
    struct catalog_snapshot *snapshot = container_of(mail, struct catalog_share, release)->snapshot;
    if (++snapshot->let_go == snapshot->share_count)
        catalog_snapshot_free(snapshot);
}

void catalog_let_go(struct engine_core *core, struct catalog_snapshot *snapshot)
{
    struct catalog_share *share = &snapshot->shares[core->id];
    ASSERT(share->holds > 0);
    if (--share->holds != 0)
        return;
    share->release.deliver = share_comes_back;
    mail_post(core->r, 0, &share->release);
}

void catalog_adopt(struct engine_core *core, struct catalog_snapshot *snapshot)
{
    struct catalog_snapshot *before = core->catalog;
    core->catalog = snapshot;
    catalog_hold(core, snapshot);
    if (before != NULL)
        catalog_let_go(core, before);
}

/* ---- making ---- */

static bool copy_text(struct arena *arena, struct pdb_text from, struct pdb_text *to)
{
    *to = arena_copy_text(arena, from.len != 0 ? from.ptr : "", from.len);
    return to->ptr != NULL;
}

bool catalog_copy_config(struct arena *arena, const struct pdb_collection_config *from,
                         struct pdb_collection_config *to_out)
{
    struct pdb_collection_config to = *from;
    struct pdb_field *fields = arena_array(arena, struct pdb_field, from->field_count);
    struct pdb_column *columns = arena_array(arena, struct pdb_column, from->column_count);
    if (fields == NULL || columns == NULL || !copy_text(arena, from->name, &to.name) ||
        !copy_text(arena, from->description, &to.description))
        return false;
    for (uint32_t i = 0; i < from->field_count; i++) {
        fields[i] = from->fields[i];
        if (!copy_text(arena, from->fields[i].name, &fields[i].name))
            return false;
    }
    for (uint32_t i = 0; i < from->column_count; i++) {
        columns[i] = from->columns[i];
        if (!copy_text(arena, from->columns[i].name, &columns[i].name))
            return false;
    }
    to.fields = fields;
    to.columns = columns;
    *to_out = to;
    return true;
}

/* What is derived from the config. */
static bool complete_entry(struct catalog_entry *entry)
{
    struct filter_column *columns =
        arena_array(&entry->arena, struct filter_column, entry->config.column_count);
    uint32_t *field_bytes = arena_array(&entry->arena, uint32_t, entry->config.field_count);
    if (columns == NULL || field_bytes == NULL)
        return false;
    for (uint32_t i = 0; i < entry->config.column_count; i++)
        columns[i] =
            (struct filter_column){entry->config.columns[i].name, entry->config.columns[i].type};
    for (uint32_t i = 0; i < entry->config.field_count; i++) {
        const struct pdb_field *field = &entry->config.fields[i];
        field_bytes[i] = pdb_vector_bytes(field->dimension, field->metric, field->element);
        entry->row_bytes += field_bytes[i];
    }
    entry->columns = columns;
    entry->field_bytes = field_bytes;
    return true;
}

struct catalog_entry *catalog_entry_new(const struct uuid *uuid,
                                        const struct pdb_collection_config *config,
                                        const struct catalog_times *times)
{
    struct catalog_entry *entry = heap_calloc(NULL, 1, sizeof(*entry));
    if (entry == NULL)
        return NULL;
    arena_init(&entry->arena, 0);
    entry->uuid = *uuid;
    entry->created_at_us = times->created_at_us;
    entry->updated_at_us = times->updated_at_us;
    entry->schema_version = times->schema_version;
    if (!catalog_copy_config(&entry->arena, config, &entry->config) || !complete_entry(entry)) {
        catalog_entry_free(entry);
        return NULL;
    }
    return entry;
}

void catalog_entry_free(struct catalog_entry *entry)
{
    if (entry == NULL)
        return;
    arena_dispose(&entry->arena);
    heap_free(NULL, entry);
}

struct catalog_snapshot *catalog_snapshot_new(uint64_t version,
                                              struct catalog_entry *const *entries, uint32_t count,
                                              unsigned core_count)
{
    size_t share_bytes = core_count * sizeof(struct catalog_share);
    struct catalog_snapshot *snapshot = heap_calloc(NULL, 1, sizeof(*snapshot) + share_bytes);
    if (snapshot == NULL)
        return NULL;
    snapshot->entries = heap_calloc(NULL, count + 1, sizeof(struct catalog_entry *));
    if (snapshot->entries == NULL) {
        heap_free(NULL, snapshot);
        return NULL;
    }
    snapshot->version = version;
    snapshot->count = count;
    snapshot->share_count = core_count;
    for (unsigned i = 0; i < core_count; i++)
        snapshot->shares[i].snapshot = snapshot;
    for (uint32_t i = 0; i < count; i++) {
        snapshot->entries[i] = entries[i];
        entries[i]->refs++;
    }
    return snapshot;
}

void catalog_snapshot_free(struct catalog_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    for (uint32_t i = 0; i < snapshot->count; i++)
        if (--snapshot->entries[i]->refs == 0)
            catalog_entry_free(snapshot->entries[i]);
    heap_free(NULL, snapshot->entries);
    heap_free(NULL, snapshot);
}
