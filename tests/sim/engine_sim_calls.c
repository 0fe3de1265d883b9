/* engine_sim_calls.c: what is written, dropped, made and altered, and what the model makes of the
 * answers. */
#include "engine_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS_MAX = 400000 };

void sim_begin_calls(struct sim *s)
{
    arena_init(&s->arena, 0);
    arena_init(&s->admin.arena, 0);
    for (unsigned i = 0; i < SIM_WRITERS; i++) {
        arena_init(&s->writers[i].arena, 0);
        arena_init(&s->writers[i].again_arena, 0);
    }
}

void sim_dispose_calls(struct sim *s)
{
    arena_dispose(&s->arena);
    arena_dispose(&s->admin.arena);
    for (unsigned i = 0; i < SIM_WRITERS; i++) {
        arena_dispose(&s->writers[i].arena);
        arena_dispose(&s->writers[i].again_arena);
    }
    for (unsigned i = 0; i < SIM_COLLECTIONS; i++)
        model_free(&s->models[i]);
}

static void writer_is_done(struct pdb_call *call)
{
    container_of(call, struct sim_writer, call)->done = true;
}

static void writer_starts(struct reactor *here, struct mail *mail)
{
    struct sim_writer *w = container_of(mail, struct sim_writer, mail);
    (void)here;
    if (w->deletes)
        pdb_delete_start(&w->delete);
    else
        pdb_write_start(&w->write);
}

/* ---- a batch ---- */

static struct pdb_text metadata(struct sim *s, struct sim_writer *w, int number)
{
    struct pdb_text out = {NULL, 0};
    struct pdb_error error;
    uint64_t pad = sim_below(s, 8) == 0 ? sim_below(s, 5000) : sim_below(s, 20);
    char *json = arena_alloc(&w->arena, pad + 64);
    if (json == NULL)
        abort();
    int len = snprintf(json, 64, "{\"n\":%d,\"pad\":\"", number);
    memset(json + len, 'x', pad);
    memcpy(json + (size_t)len + pad, "\"}", 3);
    if (pdb_doc_from_json(&w->arena, sim_text(json), &out, &error) < 0)
        abort();
    return out;
}

void sim_fill_record(struct sim_writer *w, unsigned number, unsigned slot, uint32_t at,
                     const float *value)
{
    (void)snprintf(w->texts[slot], sizeof(w->texts[slot]), "w%u-%u", number % MODEL_WRITERS, slot);
    w->ids[at] = sim_text(w->texts[slot]);
    w->vectors[at] = (struct pdb_vector){.values = value, .count = 1, .form = PDB_VECTOR_F32};
    w->records[at] =
        (struct pdb_record){.id = w->ids[at], .vectors = &w->vectors[at], .vector_count = 1};
}

/* One slot of an upsert or an update; false: it stays out. */
static bool write_slot(struct sim *s, unsigned number, unsigned slot, uint32_t at)
{
    struct sim_writer *w = &s->writers[number];
    struct slot *tried = &s->models[number / MODEL_WRITERS].tried[number % MODEL_WRITERS].at[slot];
    bool update = w->write.kind == PDB_WRITE_UPDATE;
    if (update && (!tried->live || tried->expires_at_us != 0))
        return false;
    sim_fill_record(w, number, slot, at, &w->value);
    struct pdb_record *record = &w->records[at];
    tried->vector = w->value;
    tried->version = 0;
    if (!update || sim_below(s, 2) == 0) {
        tried->number = (int)sim_below(s, 100);
        record->metadata = metadata(s, w, tried->number);
        record->has_metadata = true;
    }
    if (!update) {
        tried->live = true;
        tried->expires_at_us =
            sim_below(s, 8) == 0 ? sim_now_us(s) + (int64_t)sim_below(s, 20000) * 1000 : 0;
        record->has_expires_at = true;
        record->expires_at_us = tried->expires_at_us;
    }
    return true;
}

static uint32_t fill_write(struct sim *s, unsigned number, enum pdb_write_kind kind)
{
    struct sim_writer *w = &s->writers[number];
    uint32_t count = 0;
    w->write.kind = kind;
    w->mask = 0;
    for (unsigned slot = 0; slot < MODEL_SLOTS; slot++) {
        bool last = slot + 1 == MODEL_SLOTS && count == 0;
        if ((last || sim_below(s, 3) == 0) && write_slot(s, number, slot, count)) {
            w->mask |= 1u << slot;
            count++;
        }
    }
    w->write.records = w->records;
    w->write.record_count = count;
    return count;
}

/* Only of rows that are there for sure, so that the answer is known. */
static uint32_t fill_delete(struct sim *s, unsigned number)
{
    struct sim_writer *w = &s->writers[number];
    struct slots *tried = &s->models[number / MODEL_WRITERS].tried[number % MODEL_WRITERS];
    uint32_t count = 0;
    for (unsigned slot = 0; slot < MODEL_SLOTS; slot++) {
        struct slot *at = &tried->at[slot];
        if (!at->live || at->expires_at_us != 0 || sim_below(s, 3) != 0)
            continue;
        sim_fill_record(w, number, slot, count++, &w->value);
        *at = (struct slot){.live = false};
    }
    w->delete.ids = w->ids;
    w->delete.id_count = count;
    return count;
}

static void fill(struct sim *s, unsigned number)
{
    struct sim_writer *w = &s->writers[number];
    uint64_t kind = sim_below(s, 10);
    struct pdb_text collection = sim_text(sim_names[number / MODEL_WRITERS]);
    pdb_call_init(&w->call, s->db, &w->arena, writer_is_done);
    w->deletes = false;
    if (kind < 2) {
        struct pdb_call call = w->call;
        w->delete = (struct pdb_delete){.call = call, .collection = collection};
        w->deletes = fill_delete(s, number) != 0;
    }
    if (w->deletes)
        return;
    struct pdb_call call = w->call;
    w->write = (struct pdb_write){.call = call, .collection = collection};
    if (kind >= 4 || fill_write(s, number, PDB_WRITE_UPDATE) == 0)
        (void)fill_write(s, number, PDB_WRITE_UPSERT);
    if (w->write.kind == PDB_WRITE_UPSERT && sim_below(s, 2) == 0) {
        (void)snprintf(w->request, sizeof(w->request), "r%.0f", (double)w->value);
        w->write.request_id = sim_text(w->request);
    }
}

static void begin_batch(struct sim *s, unsigned number)
{
    struct sim_writer *w = &s->writers[number];
    unsigned collection = number / MODEL_WRITERS, mine = number % MODEL_WRITERS;
    struct model *m = &s->models[collection];
    w->value = ++s->next_value;
    m->tried[mine] = *model_at(m, mine, UINT64_MAX);
    fill(s, number);
    m->maybe[mine] = true;
    w->busy = true;
    w->done = false;
    w->told_before = m->told;
    w->collection_life = s->collection_lives[collection];
    w->mail.deliver = writer_starts;
    mail_post_external(s->db->group, (unsigned)sim_below(s, s->db->core_count), &w->mail);
}

static void note_again(struct sim *s, struct sim_writer *w, uint64_t version)
{
    uint32_t at = 0;
    w->again_version = 0;
    if (w->deletes || w->write.request_id.len == 0)
        return;
    arena_reset(&w->again_arena);
    for (unsigned slot = 0; slot < MODEL_SLOTS; slot++) {
        if ((w->mask & 1u << slot) == 0)
            continue;
        struct pdb_record *record = &w->again[slot];
        *record = w->records[at++];
        record->id = arena_copy_text(&w->again_arena, record->id.ptr, record->id.len);
        record->metadata =
            arena_copy_text(&w->again_arena, record->metadata.ptr, record->metadata.len);
    }
    w->again_mask = w->mask;
    w->again_version = version;
    w->again_life = w->collection_life;
    w->again_us = sim_now_us(s);
    w->again_value = w->value;
    memcpy(w->again_request, w->request, sizeof(w->request));
}

static void acknowledged(struct sim *s, unsigned number)
{
    struct sim_writer *w = &s->writers[number];
    unsigned mine = number % MODEL_WRITERS;
    struct model *m = &s->models[number / MODEL_WRITERS];
    uint64_t version = w->deletes ? w->delete.version_out : w->write.version_out;
    uint64_t count = w->deletes ? w->delete.count_out : w->write.count_out;
    if (version <= w->told_before)
        sim_wrong(s, "a version does not grow");
    if (count != (w->deletes ? w->delete.id_count : w->write.record_count))
        sim_wrong(s, "a write counts wrong");
    struct slots after = m->tried[mine];
    for (unsigned slot = 0; slot < MODEL_SLOTS; slot++)
        if (after.at[slot].live && after.at[slot].version == 0)
            after.at[slot].version = version;
    model_add(m, mine, version, &after);
    note_again(s, w, version);
    s->sum->batches++;
}

static void end_batch(struct sim *s, unsigned number)
{
    struct sim_writer *w = &s->writers[number];
    unsigned collection = number / MODEL_WRITERS, mine = number % MODEL_WRITERS;
    struct model *m = &s->models[collection];
    const struct pdb_error *error = &w->call.error;
    bool same = w->collection_life == s->collection_lives[collection];
    w->busy = false;
    if (same && error->code == 0)
        acknowledged(s, number);
    else if (same && error->code != PDB_RESOURCE_EXHAUSTED && error->code != PDB_UNAVAILABLE &&
             !(error->code == PDB_NOT_FOUND && s->dropping[collection])) {
        printf("write: %d %s\n", error->code, error->text);
        sim_wrong(s, "a write is refused");
    }
    /* A refusal with a known outcome has changed nothing; an unknown one stays a maybe until the
     * next life. */
    if (same)
        m->maybe[mine] = error->outcome_unknown;
    arena_reset(&w->arena);
}

unsigned sim_turn_writers(struct sim *s)
{
    unsigned ended = 0;
    for (unsigned i = 0; i < SIM_WRITERS; i++) {
        struct sim_writer *w = &s->writers[i];
        unsigned collection = i / MODEL_WRITERS;
        if (w->busy && w->done) {
            end_batch(s, i);
            ended++;
        }
        const struct model *m = &s->models[collection];
        if (!w->busy && m->exists && !s->dropping[collection] && !m->maybe[i % MODEL_WRITERS] &&
            sim_below(s, 4) == 0)
            begin_batch(s, i);
    }
    return ended;
}

void sim_pause(struct sim *s, uint64_t ms, uint64_t until_op)
{
    int64_t until_us = sim_now_us(s) + (int64_t)sim_below(s, ms * 1000 + 1);
    for (unsigned turn = 0; turn < TURNS_MAX && sim_now_us(s) < until_us; turn++) {
        engine_pump(s->db);
        if (sim_disk_op_count(s->disk) >= until_op)
            return;
    }
}

/* ---- collections ---- */

static void admin_is_done(struct pdb_call *call)
{
    container_of(call, struct sim_admin, call)->done = true;
}

static void admin_starts(struct reactor *here, struct mail *mail)
{
    struct sim_admin *a = container_of(mail, struct sim_admin, mail);
    (void)here;
    switch (a->kind) {
    case ADMIN_CREATE:
        pdb_collection_create_start(&a->create);
        break;
    case ADMIN_DROP:
        pdb_collection_delete_start(&a->drop);
        break;
    case ADMIN_ALTER:
        pdb_collection_update_start(&a->alter);
        break;
    }
}

static void fill_create(struct sim *s, struct sim_admin *a)
{
    struct pdb_call call = a->call;
    enum pdb_sync_mode sync = (enum pdb_sync_mode)sim_below(s, 4);
    a->field =
        (struct pdb_field){.dimension = 1, .metric = PDB_METRIC_DOT, .index = PDB_INDEX_HNSW};
    a->column = (struct pdb_column){.name = {"n", 1}, .type = PDB_COLUMN_INTEGER};
    a->create = (struct pdb_collection_create){
        .call = call,
        .config = {.name = sim_text(sim_names[a->collection]),
                   .fields = &a->field,
                   .field_count = 1,
                   .columns = &a->column,
                   .column_count = (uint32_t)sim_below(s, 2),
                   .sync = sync,
                   .compression = (enum pdb_compression)sim_below(s, 4),
                   .vector_storage = (enum pdb_vector_storage)sim_below(s, 2),
                   .version_retention_s = sim_below(s, 2) == 0 ? 1 + sim_below(s, 60) : 0}};
    s->models[a->collection].weak = sync == PDB_SYNC_PERIODIC || sync == PDB_SYNC_NEVER;
    s->creating[a->collection] = true;
}

static void fill_alter(struct sim *s, struct sim_admin *a)
{
    struct pdb_call call = a->call;
    a->column = (struct pdb_column){.name = {"n", 1}, .type = PDB_COLUMN_INTEGER};
    a->alter = (struct pdb_collection_update){.call = call,
                                              .name = sim_text(sim_names[a->collection]),
                                              .has_compression = true,
                                              .compression = (enum pdb_compression)sim_below(s, 4)};
    a->alter.has_version_retention = sim_below(s, 2) == 0;
    a->alter.version_retention_s = sim_below(s, 2) == 0 ? sim_below(s, 60) : 0;
    if (sim_below(s, 3) == 0) {
        a->alter.add_columns = &a->column;
        a->alter.add_column_count = 1;
    }
}

static void admin_begins(struct sim *s)
{
    struct sim_admin *a = &s->admin;
    a->collection = (unsigned)sim_below(s, SIM_COLLECTIONS);
    if (s->dropping[a->collection] || s->creating[a->collection])
        return; /* nobody knows what there is, until the next start */
    pdb_call_init(&a->call, s->db, &a->arena, admin_is_done);
    if (!s->models[a->collection].exists) {
        a->kind = ADMIN_CREATE;
        fill_create(s, a);
    } else if (sim_below(s, 4) == 0) {
        struct pdb_call call = a->call;
        a->kind = ADMIN_DROP;
        a->drop = (struct pdb_collection_delete){.call = call,
                                                 .name = sim_text(sim_names[a->collection])};
        s->dropping[a->collection] = true;
    } else {
        a->kind = ADMIN_ALTER;
        fill_alter(s, a);
    }
    a->busy = true;
    a->done = false;
    a->mail.deliver = admin_starts;
    mail_post_external(s->db->group, (unsigned)sim_below(s, s->db->core_count), &a->mail);
}

static void admin_ends(struct sim *s)
{
    struct sim_admin *a = &s->admin;
    const struct pdb_error *error = &a->call.error;
    struct model *m = &s->models[a->collection];
    a->busy = false;
    if (a->kind == ADMIN_DROP && error->code == 0) {
        m->exists = false;
        s->collection_lives[a->collection]++;
        s->sum->drops++;
    }
    if (a->kind == ADMIN_CREATE && error->code == 0) {
        model_begin(m);
        s->collection_lives[a->collection]++;
    }
    if (error->code == 0) {
        s->dropping[a->collection] = s->creating[a->collection] = false;
    } else if (error->code != PDB_RESOURCE_EXHAUSTED && error->code != PDB_UNAVAILABLE &&
               !(a->kind == ADMIN_ALTER && error->code == PDB_INVALID_ARGUMENT)) {
        printf("admin %d: %d %s\n", (int)a->kind, error->code, error->text);
        sim_wrong(s, "a change of collections is refused");
    }
    arena_reset(&a->arena);
}

void sim_turn_admin(struct sim *s)
{
    if (s->admin.busy && s->admin.done)
        admin_ends(s);
    if (s->admin.busy)
        return;
    bool missing = false;
    for (unsigned i = 0; i < SIM_COLLECTIONS; i++)
        missing = missing || !s->models[i].exists;
    if (sim_below(s, missing ? 4 : 400) == 0)
        admin_begins(s);
}

/* ---- the end of a life ---- */

static bool is_under_way(const struct sim *s)
{
    bool any = s->admin.busy && !s->admin.done;
    for (unsigned i = 0; i < SIM_WRITERS; i++)
        any = any || (s->writers[i].busy && !s->writers[i].done);
    return any;
}

void sim_finish_calls(struct sim *s)
{
    for (unsigned turn = 0; is_under_way(s); turn++) {
        if (turn == TURNS_MAX) {
            sim_wrong(s, "a call is never answered");
            return;
        }
        engine_pump(s->db);
    }
    sim_end_calls(s);
}

void sim_end_calls(struct sim *s)
{
    for (unsigned i = 0; i < SIM_WRITERS; i++) {
        if (s->writers[i].busy && !s->writers[i].done)
            sim_wrong(s, "a call was not answered by closing");
        if (s->writers[i].busy)
            end_batch(s, i);
    }
    if (s->admin.busy)
        admin_ends(s);
}

void sim_forget_calls(struct sim *s)
{
    for (unsigned i = 0; i < SIM_WRITERS; i++) {
        s->writers[i].busy = false;
        arena_reset(&s->writers[i].arena);
    }
    s->admin.busy = false;
    arena_reset(&s->admin.arena);
}
