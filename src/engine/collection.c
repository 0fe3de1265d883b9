/* collection.c: the public calls on collections.
 *
 * A change goes home -> core 0 -> home. Adding columns makes a detour, since the rows that are
 * there must fit them: home -> core 0 -> owner (a guard holds new rows to the new columns from then
 * on; when all older writes are visible the rows are checked) -> core 0 (the change) -> owner (the
 * guard goes: the catalog says it now) -> home. Describing asks the owner for live numbers; a list
 * goes round all cores once, each filling in what it owns. */
#include "base/assert.h"
#include "base/text.h"
#include "engine/ann.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/part.h"
#include "engine/recall.h"
#include "engine/validate.h"

#include <string.h>

#include "base/no_libc_heap.h"

static void end(struct pdb_call *call, int rc)
{
    if (rc < 0)
        (void)call_fail(call, rc, "%s",
                        rc == PDB_RESOURCE_EXHAUSTED ? "out of memory for this request"
                                                     : pdb_error_text(rc));
    call_return(call);
}

/* The schema's part of an info, in the call's arena. */
int collection_fill_info(struct pdb_call *call, const struct catalog_entry *entry,
                         struct pdb_collection_info *info)
{
    *info = (struct pdb_collection_info){
        .created_at_us = entry->created_at_us,
        .updated_at_us = entry->updated_at_us,
        .owner_core = catalog_owner(&entry->uuid, call->db->core_count),
    };
    uuid_format(&entry->uuid, info->uuid);
    return catalog_copy_config(call->arena, &entry->config, &info->config) ? 0
                                                                           : call_no_memory(call);
}

/* Of each field, in the call's arena; none without memory: what a collection is can be told
 * without. */
static void fill_indexes(struct pdb_call *call, const struct shard *shard,
                         struct pdb_collection_info *info)
{
    struct pdb_index_info *indexes =
        arena_array(call->arena, struct pdb_index_info, shard->field_count);
    if (indexes == NULL)
        return;
    for (uint32_t i = 0; i < shard->field_count; i++) {
        ann_state(shard, i, &indexes[i]);
        indexes[i].has_recall = recall_known(shard, i, &indexes[i].recall_estimate);
    }
    info->indexes = indexes;
}

/* The live part, on the owner. */
void collection_fill_live(struct pdb_call *call, const struct shard *shard,
                          struct pdb_collection_info *info)
{
    fill_indexes(call, shard, info);
    struct parts_stats stats;
    parts_stats(shard, &stats);
    info->record_count = stats.rows_live;
    info->memtable_rows = stats.memtable_rows;
    info->memory_bytes = stats.memory_bytes;
    info->segment_count = stats.segments;
    info->segment_rows = stats.segment_rows;
    info->segment_bytes = stats.segment_bytes;
    info->tombstones = stats.tombstones;
    info->version = shard->version_visible;
}

/* ---- create ---- */

struct create_work {
    struct catalog_change change;
};

static void create_over(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct create_work *work = s->work;
    catalog_entry_free(work->change.entry_new); /* refused: still ours */
    struct pdb_collection_create *c = container_of(call, struct pdb_collection_create, call);
    const struct catalog_entry *entry =
        call->error.code == 0 ? catalog_find(s->here->catalog, c->config.name) : NULL;
    if (entry != NULL)
        (void)collection_fill_info(call, entry, &c->info_out);
    call_return(call);
}

static void change_at_core0(struct pdb_call *call)
{
    catalog_change_queue(call_state(call)->here, call_state(call)->work);
}

void pdb_collection_create_start(struct pdb_collection_create *c)
{
    struct pdb_call *call = &c->call;
    struct trail trail = {0};
    if (!call_begin(call))
        return;
    struct call_state *s = call_state(call);
    int rc = validate_config(&c->config, &trail);
    if (rc < 0) {
        end(call, call_fail_trail(call, rc, &trail));
        return;
    }
    struct create_work *work = arena_new(call->arena, struct create_work);
    struct uuid uuid;
    uint64_t random[2];
    s->here->r->io->ops->random(s->here->r->io, random, sizeof(random));
    uuid_make_v7((uint64_t)s->now_us / 1000, random, &uuid);
    struct catalog_times times = {s->now_us, s->now_us, 1};
    struct catalog_entry *entry =
        work != NULL ? catalog_entry_new(&uuid, &c->config, &times) : NULL;
    if (entry == NULL) {
        end(call, PDB_RESOURCE_EXHAUSTED);
        return;
    }
    work->change = (struct catalog_change){.call = call,
                                           .kind = CATALOG_CREATE,
                                           .name = c->config.name,
                                           .entry_new = entry,
                                           .uuid = uuid,
                                           .then = create_over};
    s->work = work;
    s->touring = true;
    if (!call_send(call, 0, change_at_core0))
        catalog_entry_free(entry);
}

/* ---- describe ---- */

static void get_at_shard(struct pdb_call *call)
{
    struct pdb_collection_get *g = container_of(call, struct pdb_collection_get, call);
    collection_fill_live(call, call_state(call)->shard, &g->info_out);
    call_return(call);
}

void pdb_collection_get_start(struct pdb_collection_get *g)
{
    struct pdb_call *call = &g->call;
    if (!call_begin(call))
        return;
    if (call_resolve(call, g->name) < 0 ||
        collection_fill_info(call, call_state(call)->entry, &g->info_out) < 0)
        call_return(call);
    else
        call_send_to_shard(call, get_at_shard);
}

/* ---- list ---- */

struct list_work {
    struct pdb_collection_info *infos;
    struct uuid *uuids;
    uint32_t first, count, next;
};

static void list_at_core(struct pdb_call *call);

static void list_step(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct pdb_collection_list *c = container_of(call, struct pdb_collection_list, call);
    struct list_work *work = s->work;
    while (work->next < work->count) {
        struct pdb_collection_info *info = &work->infos[work->next];
        const struct shard *shard =
            info->owner_core == s->here->id ? shard_find(s->here, &work->uuids[work->next]) : NULL;
        if (shard != NULL)
            collection_fill_live(call, shard, info);
        work->next++; /* its indexes are counted over all its segments */
        if ((shard != NULL || work->next % 64 == 0) && reactor_slice_over(s->here->r)) {
            call_again(call);
            return;
        }
    }
    if (s->here->id + 1 < call->db->core_count) {
        (void)call_send(call, s->here->id + 1, list_at_core);
        return;
    }
    c->infos_out = work->infos;
    c->count_out = work->count;
    call_return(call);
}

static void list_at_core(struct pdb_call *call)
{
    ((struct list_work *)call_state(call)->work)->next = 0;
    call_run(call, list_step);
}

/* Home: copies the schemas, in steps. */
static void list_copy_step(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct list_work *work = s->work;
    while (work->next < work->count) {
        const struct catalog_entry *entry = s->catalog->entries[work->first + work->next];
        work->uuids[work->next] = entry->uuid;
        if (collection_fill_info(call, entry, &work->infos[work->next]) < 0) {
            call_return(call);
            return;
        }
        if (++work->next % 16 == 0 && reactor_slice_over(s->here->r)) {
            call_again(call);
            return;
        }
    }
    s->touring = true;
    (void)call_send(call, 0, list_at_core);
}

void pdb_collection_list_start(struct pdb_collection_list *c)
{
    struct pdb_call *call = &c->call;
    if (!call_begin(call))
        return;
    struct call_state *s = call_state(call);
    s->catalog = s->here->catalog;
    catalog_hold(s->here, s->catalog);
    struct list_work *work = arena_new(call->arena, struct list_work);
    if (work == NULL) {
        end(call, PDB_RESOURCE_EXHAUSTED);
        return;
    }
    work->first = catalog_after(s->catalog, c->after);
    work->count = s->catalog->count - work->first;
    if (c->limit != 0 && work->count > c->limit)
        work->count = c->limit;
    c->more_out = work->first + work->count < s->catalog->count;
    work->infos = arena_array(call->arena, struct pdb_collection_info, work->count);
    work->uuids = arena_array(call->arena, struct uuid, work->count);
    if (work->infos == NULL || work->uuids == NULL) {
        end(call, PDB_RESOURCE_EXHAUSTED);
        return;
    }
    s->work = work;
    call_run(call, list_copy_step);
}

/* ---- update ---- */

struct update_work {
    struct catalog_change change; /* first: call_state.work is both */
    struct write_op barrier;
    struct shard_guard guard;
    struct filter_column *columns;
    struct shard_view view;
    struct view_cursor cursor;
    bool guarded;
};

static void update_finish(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct pdb_collection_update *u = container_of(call, struct pdb_collection_update, call);
    struct update_work *work = s->work;
    list_remove(&work->guard.link);
    if (call->error.code == 0) {
        const struct catalog_entry *entry = catalog_find(s->here->catalog, u->name);
        if (entry != NULL && collection_fill_info(call, entry, &u->info_out) == 0 &&
            s->shard != NULL)
            collection_fill_live(call, s->shard, &u->info_out);
    }
    call_return(call);
}

/* On core 0, the change is over. */
static void update_over(struct pdb_call *call)
{
    call_send_to_shard(call, update_finish);
}

static int visit_row(void *arg, uint64_t key)
{
    struct pdb_call *call = arg;
    struct update_work *work = call_state(call)->work;
    struct pdb_row row;
    struct trail trail = {0};
    (void)view_row(&work->view, key, &row, NULL);
    int rc =
        filter_check_columns(row.metadata, work->guard.columns, work->guard.column_count, &trail);
    if (rc < 0)
        (void)call_fail(call, PDB_FAILED_PRECONDITION, "columns: record '%.*s' does not fit: %s",
                        CALL_TEXT(row.id), trail.text);
    return rc < 0;
}

static void check_rows_step(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct update_work *work = s->work;
    bool complete = false;
    while (!complete && call->error.code == 0 && !shard_gone(s->shard, call)) {
        complete = view_scan_step(&work->view, &work->cursor, NULL, 256, visit_row, call);
        complete = complete || call->error.code != 0;
        if (!complete && reactor_slice_over(s->here->r)) {
            call_again(call);
            return;
        }
    }
    view_close(&work->view);
    if (call->error.code != 0)
        update_finish(call);
    else
        (void)call_send(call, 0,
                        change_at_core0); /* stays a user of the shard: the guard is in its list */
}

/* Every write before the guard is visible. */
static void guard_stands(struct write_op *op)
{
    struct pdb_call *call = op->call;
    struct call_state *s = call_state(call);
    struct update_work *work = s->work;
    if (view_open(call, &work->view) < 0) {
        update_finish(call);
        return;
    }
    call_run(call, check_rows_step);
}

static void guard_at_shard(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct update_work *work = s->work;
    list_push_back(&s->shard->guards, &work->guard.link);
    work->guarded = true;
    write_op_init(&work->barrier, call, WRITE_OP_BARRIER);
    work->barrier.over = guard_stands;
    write_op_queue(s->shard, &work->barrier);
}

/* What can be said before anything moves: the whole config as it would become. */
static int update_check(struct pdb_collection_update *u, struct update_work *work)
{
    struct pdb_call *call = &u->call;
    const struct catalog_entry *entry = call_state(call)->entry;
    struct pdb_collection_config config = entry->config;
    struct trail trail = {0};
    int rc = validate_field_changes(&config, u->field_changes, u->field_change_count, &trail);
    if (rc < 0)
        return call_fail_trail(call, rc, &trail);
    if (catalog_apply_settings(call->arena, &config, u) < 0)
        return call_no_memory(call);
    size_t count = (size_t)config.column_count + u->add_column_count;
    struct pdb_column *columns = arena_array(call->arena, struct pdb_column, count);
    work->columns = arena_array(call->arena, struct filter_column, u->add_column_count);
    if (columns == NULL || work->columns == NULL)
        return call_no_memory(call);
    if (config.column_count != 0)
        memcpy(columns, config.columns, config.column_count * sizeof(columns[0]));
    for (uint32_t i = 0; i < u->add_column_count; i++) {
        columns[config.column_count + i] = u->add_columns[i];
        work->columns[i] = (struct filter_column){u->add_columns[i].name, u->add_columns[i].type};
    }
    config.columns = columns;
    config.column_count = (uint32_t)count;
    work->guard.columns = work->columns;
    work->guard.column_count = u->add_column_count;
    rc = validate_config(&config, &trail);
    return rc < 0 ? call_fail_trail(call, rc, &trail) : 0;
}

void pdb_collection_update_start(struct pdb_collection_update *u)
{
    struct pdb_call *call = &u->call;
    if (!call_begin(call))
        return;
    struct call_state *s = call_state(call);
    struct update_work *work = arena_new(call->arena, struct update_work);
    if (work == NULL || call_resolve(call, u->name) < 0 || update_check(u, work) < 0) {
        end(call, PDB_RESOURCE_EXHAUSTED);
        return;
    }
    work->change = (struct catalog_change){.call = call,
                                           .kind = CATALOG_UPDATE,
                                           .name = u->name,
                                           .update = u,
                                           .uuid = s->entry->uuid,
                                           .then = update_over};
    s->work = work;
    s->touring = true;
    if (u->add_column_count != 0)
        call_send_to_shard(call, guard_at_shard);
    else
        (void)call_send(call, 0, change_at_core0);
}

/* ---- delete ---- */

void pdb_collection_delete_start(struct pdb_collection_delete *d)
{
    struct pdb_call *call = &d->call;
    if (!call_begin(call))
        return;
    struct call_state *s = call_state(call);
    struct catalog_change *change = arena_new(call->arena, struct catalog_change);
    if (change == NULL || call_resolve(call, d->name) < 0) {
        end(call, PDB_RESOURCE_EXHAUSTED);
        return;
    }
    *change = (struct catalog_change){.call = call,
                                      .kind = CATALOG_DELETE,
                                      .name = d->name,
                                      .uuid = s->entry->uuid,
                                      .then = call_return};
    s->work = change;
    s->touring = true;
    (void)call_send(call, 0, change_at_core0);
}
