/* engine_sim_reads.c: what is read, and compared with the model. */
#include "engine_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IDS = MODEL_WRITERS * MODEL_SLOTS, KEEP_US = 9 * 60 * 1000000 };

int64_t sim_now_us(struct sim *s)
{
    if (s->db != NULL) {
        struct io *io = s->db->cores[0].r->io;
        s->now_us = io->ops->realtime_us(io);
    }
    return s->now_us;
}

/* ---- reading ---- */

static void get_start(struct pdb_call *call)
{
    pdb_get_start(container_of(call, struct pdb_get, call));
}

static void scroll_start(struct pdb_call *call)
{
    pdb_scroll_start(container_of(call, struct pdb_scroll, call));
}

static void count_start(struct pdb_call *call)
{
    pdb_count_start(container_of(call, struct pdb_count, call));
}

static void search_start(struct pdb_call *call)
{
    pdb_search_start(container_of(call, struct pdb_search, call));
}

static void describe_start(struct pdb_call *call)
{
    pdb_collection_get_start(container_of(call, struct pdb_collection_get, call));
}

static void write_start(struct pdb_call *call)
{
    pdb_write_start(container_of(call, struct pdb_write, call));
}

static int refused(struct sim *s, const struct pdb_call *call, const char *what)
{
    printf("%s: %d %s\n", what, call->error.code, call->error.text);
    sim_wrong(s, what);
    return call->error.code;
}

static int number_of(struct sim *s, struct pdb_text metadata)
{
    struct pdb_text json;
    if (pdb_doc_to_json(&s->arena, metadata, &json) < 0)
        return -1;
    for (size_t i = 0; i + 4 < json.len; i++)
        if (memcmp(json.ptr + i, "\"n\":", 4) == 0)
            return atoi(json.ptr + i + 4);
    return -1;
}

static void note_row(struct sim *s, struct reading *reading, const struct pdb_row *row)
{
    char text[16] = {0};
    unsigned writer, slot;
    memcpy(text, row->id.ptr, row->id.len < 15 ? row->id.len : 15);
    if (sscanf(text, "w%u-%u", &writer, &slot) != 2 || writer >= MODEL_WRITERS ||
        slot >= MODEL_SLOTS || reading->writers[writer].at[slot].live) {
        sim_wrong(s, "a row that nobody wrote, or one of an id twice");
        return;
    }
    reading->writers[writer].at[slot] = (struct slot){.live = true,
                                                      .vector = *(const float *)row->vectors[0],
                                                      .number = number_of(s, row->metadata),
                                                      .version = row->version,
                                                      .expires_at_us = row->expires_at_us};
}

static void begin_reading(struct sim *s, struct reading *reading)
{
    arena_reset(&s->arena);
    *reading = (struct reading){.from_us = sim_now_us(s)};
}

enum { ALL = PDB_INCLUDE_METADATA | PDB_INCLUDE_VECTORS | PDB_INCLUDE_TIMES };

/* `as_of` UINT64_MAX: now. 0 or the error. */
static int read_by_get(struct sim *s, unsigned collection, uint64_t as_of, struct reading *reading)
{
    char texts[IDS][16];
    struct pdb_text ids[IDS];
    struct pdb_get g = {.id_count = IDS};
    begin_reading(s, reading);
    for (unsigned i = 0; i < IDS; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "w%u-%u", i / MODEL_SLOTS, i % MODEL_SLOTS);
        ids[i] = sim_text(texts[i]);
    }
    pdb_call_init(&g.call, s->db, &s->arena, NULL);
    g.collection = sim_text(sim_names[collection]);
    g.ids = ids;
    g.include = ALL;
    g.has_as_of = as_of != UINT64_MAX;
    g.as_of = as_of;
    int rc = pdb_wait(&g.call, get_start);
    reading->to_us = sim_now_us(s);
    if (rc < 0)
        return rc == PDB_OUT_OF_RANGE ? rc : refused(s, &g.call, "a get failed");
    for (unsigned i = 0; i < IDS; i++)
        if (g.rows_out[i].version != 0)
            note_row(s, reading, &g.rows_out[i]);
    return 0;
}

static bool comes_after(struct pdb_text a, struct pdb_text b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = memcmp(a.ptr, b.ptr, len);
    return order > 0 || (order == 0 && a.len > b.len);
}

/* One page sees one version; several need not. */
static int read_by_scroll(struct sim *s, unsigned collection, uint32_t limit,
                          struct reading *reading)
{
    struct pdb_text cursor = {NULL, 0}, last = {NULL, 0};
    begin_reading(s, reading);
    do {
        struct pdb_scroll c = {.limit = limit};
        pdb_call_init(&c.call, s->db, &s->arena, NULL);
        c.collection = sim_text(sim_names[collection]);
        c.cursor = cursor;
        c.include = ALL;
        if (pdb_wait(&c.call, scroll_start) < 0)
            return refused(s, &c.call, "a scroll failed");
        for (uint32_t i = 0; i < c.row_count_out; i++) {
            note_row(s, reading, &c.rows_out[i]);
            if (last.len != 0 && !comes_after(c.rows_out[i].id, last))
                sim_wrong(s, "a scroll is out of order");
            last = c.rows_out[i].id;
        }
        cursor = c.next_cursor_out;
    } while (cursor.len != 0 && s->wrong == NULL);
    reading->to_us = sim_now_us(s);
    return 0;
}

/* exact: else indexes may leave out one of the best, as long as there are enough. */
static int read_by_search(struct sim *s, unsigned collection, uint32_t k, bool exact,
                          struct reading *reading)
{
    static const float one = 1;
    struct pdb_query q = {.vector = {.values = &one, .count = 1, .form = PDB_VECTOR_F32},
                          .k = k,
                          .include = ALL,
                          .exact = exact};
    struct pdb_search c = {.queries = &q, .query_count = 1};
    begin_reading(s, reading);
    pdb_call_init(&c.call, s->db, &s->arena, NULL);
    c.collection = sim_text(sim_names[collection]);
    if (pdb_wait(&c.call, search_start) < 0)
        return refused(s, &c.call, "a search failed");
    const struct pdb_hits *hits = &c.results_out[0];
    for (uint32_t i = 0; i < hits->count; i++) {
        note_row(s, reading, &hits->hits[i].row);
        if (i > 0 && hits->hits[i].score > hits->hits[i - 1].score)
            sim_wrong(s, "hits are out of order");
    }
    reading->to_us = sim_now_us(s);
    return 0;
}

/* ---- after a start ---- */

static unsigned live_rows(const struct reading *reading, bool certain)
{
    unsigned count = 0;
    for (unsigned i = 0; i < IDS; i++) {
        const struct slot *slot = &reading->writers[i / MODEL_SLOTS].at[i % MODEL_SLOTS];
        count += slot->live && (!certain || slot->expires_at_us == 0);
    }
    return count;
}

static void compare_count(struct sim *s, unsigned collection, const struct reading *reading)
{
    struct pdb_count c = {.count_out = 0};
    pdb_call_init(&c.call, s->db, &s->arena, NULL);
    c.collection = sim_text(sim_names[collection]);
    if (pdb_wait(&c.call, count_start) < 0)
        (void)refused(s, &c.call, "a count failed");
    else if (c.count_out > live_rows(reading, false) || c.count_out < live_rows(reading, true))
        sim_wrong(s, "a count is not the number of rows");
}

static void compare_best(struct sim *s, unsigned collection, const struct model *m,
                         uint64_t version)
{
    struct reading best;
    uint32_t k = 1 + (uint32_t)sim_below(s, 5);
    bool exact = sim_below(s, 2) == 0;
    if (read_by_search(s, collection, k, exact, &best) < 0)
        return;
    float worst = 0;
    for (unsigned i = 0; i < IDS; i++) {
        const struct slot *slot = &best.writers[i / MODEL_SLOTS].at[i % MODEL_SLOTS];
        if (slot->live && (worst == 0 || slot->vector < worst))
            worst = slot->vector;
    }
    unsigned better = 0;
    for (unsigned i = 0; i < IDS; i++) {
        const struct slot *slot = &model_at(m, i / MODEL_SLOTS, version)->at[i % MODEL_SLOTS];
        better += slot->live && slot->expires_at_us == 0 && slot->vector > worst;
    }
    if (exact && better >= k)
        sim_wrong(s, "a search leaves out a better row");
}

static void compare_old_version(struct sim *s, unsigned collection)
{
    struct model *m = &s->models[collection];
    struct reading reading;
    if (m->count == 0)
        return;
    uint64_t as_of = m->batches[sim_below(s, m->count)].version - sim_below(s, 2);
    if (as_of < m->visible_before || read_by_get(s, collection, as_of, &reading) < 0)
        return;
    s->sum->old_reads++;
    bool maybe[MODEL_WRITERS];
    memcpy(maybe, m->maybe, sizeof(maybe));
    if (as_of < m->batches[0].version || as_of + 1 < model_newest(m))
        memset(m->maybe, 0, sizeof(m->maybe));
    if (!model_matches_at(m, &reading, as_of)) {
        model_print(m, &reading, as_of);
        sim_wrong(s, "an old version is not as it was");
    }
    memcpy(m->maybe, maybe, sizeof(maybe));
}

static bool describe(struct sim *s, unsigned collection, uint64_t *version_out)
{
    struct pdb_collection_get g = {.name = sim_text(sim_names[collection])};
    arena_reset(&s->arena);
    pdb_call_init(&g.call, s->db, &s->arena, NULL);
    g.name = sim_text(sim_names[collection]);
    int rc = pdb_wait(&g.call, describe_start);
    if (rc < 0 && rc != PDB_NOT_FOUND)
        (void)refused(s, &g.call, "a collection is not described");
    *version_out = g.info_out.version;
    return rc == 0;
}

/* What was made or dropped when the life before ended is there or not. */
static void settle_existence(struct sim *s, unsigned collection, bool exists)
{
    struct model *m = &s->models[collection];
    if (m->exists && !exists && s->dropping[collection]) {
        m->exists = false;
        s->collection_lives[collection]++;
    } else if (!m->exists && exists && s->creating[collection]) {
        model_begin(m);
        s->collection_lives[collection]++;
    } else if (m->exists != exists) {
        sim_wrong(s, exists ? "a dropped collection is back" : "a collection is gone");
    }
    s->dropping[collection] = s->creating[collection] = false;
}

/* A batch that was acknowledged, and is there, is sent again under its request id. */
static void repeat_batch(struct sim *s, unsigned number, uint64_t version)
{
    struct sim_writer *w = &s->writers[number];
    uint32_t count = 0;
    if (w->again_version > version || s->models[number / MODEL_WRITERS].count == 0)
        w->again_version = 0; /* lost: sent again it would be another batch */
    if (w->again_version == 0 || sim_below(s, 2) == 0 ||
        w->again_life != s->collection_lives[number / MODEL_WRITERS] ||
        sim_now_us(s) - w->again_us > KEEP_US)
        return;
    for (unsigned slot = 0; slot < MODEL_SLOTS; slot++)
        if ((w->again_mask & 1u << slot) != 0) {
            w->records[count] = w->again[slot];
            w->records[count].vectors = &w->vectors[count];
            w->vectors[count] =
                (struct pdb_vector){.values = &w->again_value, .count = 1, .form = PDB_VECTOR_F32};
            count++;
        }
    struct pdb_write again = {.kind = PDB_WRITE_UPSERT};
    pdb_call_init(&again.call, s->db, &s->arena, NULL);
    again.collection = sim_text(sim_names[number / MODEL_WRITERS]);
    again.records = w->records;
    again.record_count = count;
    again.request_id = sim_text(w->again_request);
    s->sum->retries++;
    if (pdb_wait(&again.call, write_start) < 0)
        (void)refused(s, &again.call, "a retry is refused");
    else if (again.version_out != w->again_version || again.count_out != count) {
        printf("%s of %s: version %llu, not %llu\n", w->again_request,
               sim_names[number / MODEL_WRITERS], (unsigned long long)again.version_out,
               (unsigned long long)w->again_version);
        sim_wrong(s, "a retry is not answered as the first one was");
    }
}

static void compare(struct sim *s, unsigned collection)
{
    struct model *m = &s->models[collection];
    struct reading reading, other;
    uint64_t visible, version;
    bool exists = describe(s, collection, &visible);
    settle_existence(s, collection, exists);
    uint64_t least = m->weak && !s->clean ? 0 : model_newest(m);
    if (!exists || s->wrong != NULL || read_by_get(s, collection, UINT64_MAX, &reading) < 0)
        return;
    if (!model_matches(m, &reading, least, &version)) {
        model_print(m, &reading, UINT64_MAX);
        sim_wrong(s, "what is there is not what was acknowledged, whole and in order");
        return;
    }
    model_settle(m, &reading, version, least, visible);
    version = model_newest(m);
    compare_count(s, collection, &reading);
    if (read_by_scroll(s, collection, 1 + (uint32_t)sim_below(s, 30), &other) == 0 &&
        !model_matches_at(m, &other, version))
        sim_wrong(s, "a scroll shows something else");
    if (read_by_search(s, collection, 1 + IDS, false, &other) == 0 &&
        !model_matches_at(m, &other, version))
        sim_wrong(s, "a search shows something else");
    compare_best(s, collection, m, version);
    for (unsigned i = 0; i < 3; i++)
        compare_old_version(s, collection);
    for (unsigned i = 0; i < MODEL_WRITERS; i++)
        repeat_batch(s, collection * MODEL_WRITERS + i, version);
    if (s->wrong == NULL && read_by_get(s, collection, UINT64_MAX, &other) == 0 &&
        !model_matches_at(m, &other, version))
        sim_wrong(s, "a retry has changed something");
}

void sim_compare_all(struct sim *s)
{
    for (unsigned i = 0; i < SIM_COLLECTIONS && s->wrong == NULL; i++)
        compare(s, i);
}

/* ---- in the middle of life ---- */

void sim_read_something(struct sim *s)
{
    unsigned collection = (unsigned)sim_below(s, SIM_COLLECTIONS);
    struct model *m = &s->models[collection];
    struct reading reading;
    uint64_t version, least = model_newest(m), life = s->collection_lives[collection];
    if (!m->exists || s->dropping[collection])
        return;
    switch (sim_below(s, 3)) {
    case 0:
        compare_old_version(s, collection);
        return;
    case 1:
        (void)read_by_scroll(s, collection, 1 + IDS, &reading);
        break;
    default:
        (void)read_by_search(s, collection, 1 + IDS, false, &reading);
        break;
    }
    if (s->wrong == NULL && life == s->collection_lives[collection] &&
        !model_matches(m, &reading, least, &version))
        sim_wrong(s, "a reader sees no version that there ever was");
}
