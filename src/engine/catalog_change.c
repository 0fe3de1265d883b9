/* catalog_change.c: core 0's side of every create, update and delete.
 *
 * Changes queue; a round takes all that wait, in order, into one new version: so a thousand creates
 * that arrive together cost a few files, not a thousand. A change that cannot be (the name exists,
 * the name is gone) is answered when the round begins and costs nothing.
 *
 *     apply the queue to a copy -> encode in steps -> save (catalog_save.c) -> publish to every
 *     core -> all have said so -> answers
 *
 * Dropped uuids stay in the catalog, because the log still holds their records: recovery must know
 * them from damage. They are 16 bytes each and kept for as long as the log is, which is never cut
 * yet. */
#include "base/assert.h"
#include "base/text.h"
#include "engine/archive.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/shard.h"
#include "engine/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

struct catalog_master {
    struct engine_core *core;
    struct catalog_snapshot *newest;
    struct uuid *dropped; /* heap */
    uint32_t dropped_count;
    struct list queue, round;
    bool busy, poisoned;
    /* the round under way */
    struct arena arena;
    struct catalog_entry **entries; /* working copy */
    uint32_t count;
    struct uuid *dropped_next;
    uint32_t dropped_next_count;
    struct catalog_snapshot *next;
    struct buffer bytes;
    uint32_t encoded;
    struct task task;
    struct catalog_save save;
    unsigned acknowledged;
    int64_t began_us; /* the round under way */
    uint64_t oldest;  /* version in catalog/archive/, at least */
};

static void round_begin(struct catalog_master *m);

bool catalog_is_dropped(const struct catalog_master *master, const struct uuid *uuid)
{
    for (uint32_t i = 0; i < master->dropped_count; i++)
        if (uuid_equal(&master->dropped[i], uuid))
            return true;
    return false;
}

int64_t catalog_changing_since(const struct catalog_master *master)
{
    return master->busy ? master->began_us : INT64_MAX;
}

struct catalog_snapshot *catalog_newest(const struct catalog_master *master)
{
    return master->newest;
}

/* ---- one change on the working copy ---- */

static uint32_t position(const struct catalog_master *m, struct pdb_text name, bool *found_out)
{
    uint32_t low = 0, high = m->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (text_compare(m->entries[middle]->config.name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found_out = low < m->count && text_equal(m->entries[low]->config.name, name);
    return low;
}

static int apply_create(struct catalog_master *m, struct catalog_change *change)
{
    bool found;
    uint32_t at = position(m, change->name, &found);
    if (found)
        return call_fail(change->call, PDB_ALREADY_EXISTS, "collection '%.*s' already exists",
                         CALL_TEXT(change->name));
    if (m->count >= m->core->db->options.collections_max)
        return call_fail(change->call, PDB_RESOURCE_EXHAUSTED,
                         "limit of collections: there are %u already", m->count);
    memmove(&m->entries[at + 1], &m->entries[at], (m->count - at) * sizeof(m->entries[0]));
    m->entries[at] = change->entry_new;
    m->count++;
    return 0;
}

/* Of a change now. It moves on with every change, whatever the clock says: that it is not the time
 * of creation is how a recovery knows that the mode may once have been a weak one (recover.c). */
static int64_t updated_at(const struct catalog_master *m, const struct catalog_entry *old)
{
    int64_t now_us = m->core->r->now_realtime_us;
    return now_us > old->updated_at_us ? now_us : old->updated_at_us + 1;
}

/* The columns of `entry` and the new ones, in the round's arena. */
static int extend_columns(struct catalog_master *m, struct catalog_change *change,
                          struct pdb_collection_config *config)
{
    const struct pdb_collection_update *update = change->update;
    if (update->add_column_count == 0)
        return 0;
    size_t count = (size_t)config->column_count + update->add_column_count;
    struct pdb_column *columns = arena_array(&m->arena, struct pdb_column, count);
    if (columns == NULL)
        return call_no_memory(change->call);
    memcpy(columns, config->columns, config->column_count * sizeof(columns[0]));
    memcpy(columns + config->column_count, update->add_columns,
           update->add_column_count * sizeof(columns[0]));
    config->columns = columns;
    config->column_count = (uint32_t)count;
    return 0;
}

/* The fields of the config with the changes, in the arena; 0 or PDB_RESOURCE_EXHAUSTED. */
static int change_fields(struct arena *arena, struct pdb_collection_config *config,
                         const struct pdb_collection_update *update)
{
    if (update->field_change_count == 0)
        return 0;
    struct pdb_field *fields = arena_array(arena, struct pdb_field, config->field_count);
    if (fields == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    memcpy(fields, config->fields, config->field_count * sizeof(fields[0]));
    for (uint32_t i = 0; i < config->field_count; i++)
        for (uint32_t k = 0; k < update->field_change_count; k++)
            if (text_equal(fields[i].name, update->field_changes[k].name))
                validate_apply_change(&fields[i], &update->field_changes[k]);
    config->fields = fields;
    return 0;
}

int catalog_apply_settings(struct arena *arena, struct pdb_collection_config *config,
                           const struct pdb_collection_update *update)
{
    if (update->has_sync)
        config->sync = update->sync;
    if (update->has_ttl)
        config->ttl_s = update->ttl_s;
    if (update->has_description)
        config->description = update->description;
    if (update->has_compression)
        config->compression = update->compression;
    if (update->has_vector_storage)
        config->vector_storage = update->vector_storage;
    if (update->has_version_retention)
        config->version_retention_s = update->version_retention_s;
    if (update->has_target_recall)
        config->target_recall = update->target_recall;
    return change_fields(arena, config, update);
}

static int apply_update(struct catalog_master *m, struct catalog_change *change)
{
    const struct pdb_collection_update *update = change->update;
    bool found;
    uint32_t at = position(m, change->name, &found);
    if (!found || !uuid_equal(&m->entries[at]->uuid, &change->uuid))
        return call_fail(change->call, PDB_NOT_FOUND, "collection '%.*s' does not exist",
                         CALL_TEXT(change->name));
    const struct catalog_entry *old = m->entries[at];
    struct pdb_collection_config config = old->config;
    if (catalog_apply_settings(&m->arena, &config, update) < 0)
        return call_no_memory(change->call);
    int rc = extend_columns(m, change, &config);
    if (rc < 0)
        return rc;
    struct trail trail = {0};
    if ((rc = validate_config(&config, &trail)) < 0)
        return call_fail_trail(change->call, rc, &trail);
    struct catalog_times times = {
        .created_at_us = old->created_at_us,
        .updated_at_us = updated_at(m, old),
        .schema_version = old->schema_version + (update->add_column_count != 0),
    };
    struct catalog_entry *entry = catalog_entry_new(&old->uuid, &config, &times);
    if (entry == NULL)
        return call_no_memory(change->call);
    entry->born_version = old->born_version;
    if (old->refs == 0) /* made in this very round */
        catalog_entry_free(m->entries[at]);
    m->entries[at] = entry;
    return 0;
}

static int apply_delete(struct catalog_master *m, struct catalog_change *change)
{
    bool found;
    uint32_t at = position(m, change->name, &found);
    if (!found || !uuid_equal(&m->entries[at]->uuid, &change->uuid))
        return call_fail(change->call, PDB_NOT_FOUND, "collection '%.*s' does not exist",
                         CALL_TEXT(change->name));
    struct catalog_entry *entry = m->entries[at];
    m->dropped_next[m->dropped_next_count++] = entry->uuid;
    memmove(&m->entries[at], &m->entries[at + 1], (m->count - at - 1) * sizeof(m->entries[0]));
    m->count--;
    if (entry->refs == 0)
        catalog_entry_free(entry);
    return 0;
}

static int apply_replace(struct catalog_master *m, struct catalog_change *change)
{
    bool found;
    uint32_t at = position(m, change->name, &found);
    if (!found)
        return apply_create(m, change);
    struct catalog_entry *old = m->entries[at];
    m->dropped_next[m->dropped_next_count++] = old->uuid;
    m->entries[at] = change->entry_new;
    if (old->refs == 0)
        catalog_entry_free(old);
    return 0;
}

static int apply(struct catalog_master *m, struct catalog_change *change)
{
    switch (change->kind) {
    case CATALOG_CREATE:
        return apply_create(m, change);
    case CATALOG_UPDATE:
        return apply_update(m, change);
    case CATALOG_DELETE:
        return apply_delete(m, change);
    case CATALOG_REPLACE:
        return apply_replace(m, change);
    }
    return PDB_INTERNAL;
}

/* ---- the end of a round ---- */

static void answer(struct catalog_change *change)
{
    change->then(change->call);
}

static void free_working_copy(struct catalog_master *m)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (m->entries[i]->refs == 0)
            catalog_entry_free(m->entries[i]);
    m->count = 0;
}

/* Ends the round: all its changes are answered, with this error or well. */
static void round_end(struct catalog_master *m, int rc, const struct trail *trail, bool uncertain)
{
    struct list over;
    list_init(&over);
    for (struct list_link *link; (link = list_pop_front(&m->round)) != NULL;)
        list_push_back(&over, link);
    heap_free(NULL, m->dropped_next);
    m->dropped_next = NULL;
    arena_reset(&m->arena);
    m->busy = false;
    for (struct list_link *link; (link = list_pop_front(&over)) != NULL;) {
        struct catalog_change *change = container_of(link, struct catalog_change, link);
        if (rc < 0) {
            (void)call_fail_trail(change->call, rc, trail);
            change->call->error.outcome_unknown = uncertain;
        }
        answer(change);
    }
    round_begin(m);
}

static void round_fails(struct catalog_master *m, int rc, const struct trail *trail, bool uncertain)
{
    if (m->next != NULL) {
        m->count = 0; /* the entries go with it */
        catalog_snapshot_free(m->next);
        m->next = NULL;
    }
    free_working_copy(m);
    m->poisoned = m->poisoned || uncertain;
    round_end(m, rc, trail, uncertain);
}

static void round_has_no_memory(struct catalog_master *m)
{
    struct trail trail = {0};
    (void)trail_add(&trail, PDB_RESOURCE_EXHAUSTED, "catalog: out of memory");
    round_fails(m, PDB_RESOURCE_EXHAUSTED, &trail, false);
}

/* ---- publishing ---- */

static void core_acknowledges(struct reactor *here, struct mail *mail)
{
    (void)mail;
    struct catalog_master *m = engine_here(here)->master;
    if (++m->acknowledged != m->core->db->core_count)
        return;
    round_end(m, 0, NULL, false);
}

static void core_is_told(struct reactor *here, struct mail *mail)
{
    struct catalog_share *share = container_of(mail, struct catalog_share, publish);
    struct engine_core *core = engine_here(here);
    shard_follow_catalog(core, share->snapshot);
    catalog_adopt(core, share->snapshot);
    call_catalog_arrived(core);
    mail->deliver = core_acknowledges;
    mail_post(here, 0, mail);
}

static void saved(struct catalog_save *save, int rc, const struct trail *trail)
{
    struct catalog_master *m = container_of(save, struct catalog_master, save);
    if (rc < 0) {
        round_fails(m, rc, trail, save->uncertain);
        return;
    }
    m->newest = m->next;
    m->next = NULL;
    archive_catalog_saved(m->core);
    m->count = 0;
    heap_free(NULL, m->dropped);
    m->dropped = m->dropped_next;
    m->dropped_count = m->dropped_next_count;
    m->dropped_next = NULL;
    m->acknowledged = 0;
    for (unsigned i = 0; i < m->core->db->core_count; i++) {
        struct catalog_share *share = &m->newest->shares[i];
        share->publish.deliver = core_is_told;
        mail_post(m->core->r, i, &share->publish);
    }
}

/* ---- a round ---- */

static void encode_step(struct task *task)
{
    struct catalog_master *m = container_of(task, struct catalog_master, task);
    struct reactor *r = m->core->r;
    while (m->encoded < m->next->count) {
        catalog_encode_entry(&m->bytes, m->next->entries[m->encoded++]);
        if (m->encoded % 64 == 0 && reactor_slice_over(r)) {
            task_queue(r, &m->task);
            return;
        }
    }
    /* Not the turn's clock: that may be before the request came. */
    catalog_encode_end(&m->bytes, m->next->version, r->io->ops->realtime_us(r->io), m->dropped_next,
                       m->dropped_next_count);
    if (m->bytes.failed || m->bytes.len > CATALOG_FILE_BYTES_MAX) {
        round_has_no_memory(m);
        return;
    }
    m->save.io = r->io;
    m->save.data_dir = m->core->db->options.data_dir;
    m->save.version = m->next->version;
    m->save.bytes = m->bytes.ptr;
    m->save.len = m->bytes.len;
    m->save.done = saved;
    m->save.keep_from = archive_catalog_from(m->core);
    m->save.oldest = &m->oldest;
    catalog_save_start(&m->save);
}

/* Copies what is there, with room for what the queue may add. */
static int working_copy(struct catalog_master *m, size_t queued)
{
    m->entries = arena_array(&m->arena, struct catalog_entry *, m->newest->count + queued);
    m->dropped_next = heap_calloc(NULL, m->dropped_count + queued + 1, sizeof(struct uuid));
    if (m->entries == NULL || m->dropped_next == NULL) {
        heap_free(NULL, m->dropped_next);
        m->dropped_next = NULL;
        return PDB_RESOURCE_EXHAUSTED;
    }
    memcpy(m->entries, m->newest->entries, m->newest->count * sizeof(m->entries[0]));
    m->count = m->newest->count;
    if (m->dropped_count != 0)
        memcpy(m->dropped_next, m->dropped, m->dropped_count * sizeof(struct uuid));
    m->dropped_next_count = m->dropped_count;
    return 0;
}

/* Answers at once what cannot be; the rest is in m->round. */
static void apply_queue(struct catalog_master *m, bool no_memory)
{
    struct list refused;
    list_init(&refused);
    for (struct list_link *link; (link = list_pop_front(&m->queue)) != NULL;) {
        struct catalog_change *change = container_of(link, struct catalog_change, link);
        int rc = no_memory ? call_no_memory(change->call) : 0;
        if (rc == 0 && m->poisoned)
            rc = call_fail(change->call, PDB_UNAVAILABLE,
                           "the catalog could not be written; restart the server to go on");
        if (rc == 0)
            rc = apply(m, change);
        if (rc == 0)
            change->entry_new = NULL; /* the round's from now on */
        list_push_back(rc < 0 ? &refused : &m->round, link);
    }
    for (struct list_link *link; (link = list_pop_front(&refused)) != NULL;)
        answer(container_of(link, struct catalog_change, link));
}

static void round_begin(struct catalog_master *m)
{
    if (m->busy || list_empty(&m->queue))
        return;
    m->busy = true;
    m->began_us = m->core->r->io->ops->realtime_us(m->core->r->io);
    size_t queued = 0;
    list_each (link, &m->queue)
        queued++;
    apply_queue(m, working_copy(m, queued) < 0);
    if (list_empty(&m->round)) {
        m->count = 0;
        round_end(m, 0, NULL, false);
        return;
    }
    m->next =
        catalog_snapshot_new(m->newest->version + 1, m->entries, m->count, m->core->db->core_count);
    if (m->next == NULL) {
        round_has_no_memory(m);
        return;
    }
    m->encoded = 0;
    buffer_init_arena(&m->bytes, &m->arena, 0);
    catalog_encode_begin(&m->bytes, m->count);
    m->task.run = encode_step;
    m->task.name = "catalog.encode";
    task_queue(m->core->r, &m->task);
}

void catalog_change_queue(struct engine_core *core, struct catalog_change *change)
{
    list_push_back(&core->master->queue, &change->link);
    round_begin(core->master);
}

/* ---- start and stop ---- */

static void see_archived(void *arg, const char *name)
{
    uint64_t *oldest = arg;
    char *end = NULL;
    unsigned long long version = strtoull(name, &end, 10);
    if (end != name && strcmp(end, ".catalog") == 0 && version < *oldest)
        *oldest = version;
}

int catalog_master_start(struct engine_core *core, struct catalog_image *image)
{
    struct catalog_master *m = heap_calloc(NULL, 1, sizeof(*m));
    struct uuid *dropped = heap_calloc(NULL, (size_t)image->dropped_count + 1, sizeof(struct uuid));
    struct catalog_snapshot *snapshot =
        catalog_snapshot_new(image->version, image->entries, image->count, core->db->core_count);
    if (m == NULL || dropped == NULL || snapshot == NULL) {
        heap_free(NULL, m);
        heap_free(NULL, dropped);
        if (snapshot != NULL)
            image->count = 0; /* its entries go with it */
        catalog_snapshot_free(snapshot);
        return PDB_RESOURCE_EXHAUSTED;
    }
    if (image->dropped_count != 0)
        memcpy(dropped, image->dropped, image->dropped_count * sizeof(struct uuid));
    char archive[4200];
    (void)snprintf(archive, sizeof(archive), "%.4000s/catalog/archive", core->db->options.data_dir);
    m->oldest = image->version;
    (void)core->r->io->ops->list_dir(core->r->io, archive, see_archived, &m->oldest);
    m->core = core;
    m->newest = snapshot;
    m->dropped = dropped;
    m->dropped_count = image->dropped_count;
    image->count = 0;
    list_init(&m->queue);
    list_init(&m->round);
    arena_init(&m->arena, 0);
    core->master = m;
    return 0;
}

void catalog_master_stop(struct engine_core *core)
{
    struct catalog_master *m = core->master;
    if (m == NULL)
        return;
    ASSERT(!m->busy || core->db->sim != NULL);
    core->master = NULL;
    task_cancel(&m->task);
    catalog_snapshot_free(m->next); /* of a simulated crash in the middle of a round */
    heap_free(NULL, m->dropped_next);
    catalog_snapshot_free(m->newest);
    heap_free(NULL, m->dropped);
    arena_dispose(&m->arena);
    heap_free(NULL, m);
}
