/* The life of a shard below its writes: rows are sealed, flushed, merged, dropped and brought back,
 * and no reader can tell. A model in memory says what every call must answer. */
#include "engine_fixture.h"

#include "base/rng.h"

enum { IDS = 120, DIMENSION = 4, HISTORY_MAX = 4000, WAIT_MS = 240000 };

struct state { /* of one id at one version */
    float values[DIMENSION];
    int number;
    uint64_t version;
    bool live;
};

struct model {
    struct state now[IDS];
    struct rng rng;
    uint64_t version;
};

/* ---- doing ---- */

static const char *id_text(unsigned id, char text[16])
{
    (void)snprintf(text, 16, "id-%03u", id);
    return text;
}

static void upsert(struct fixture *fx, struct model *model, unsigned id)
{
    struct state *s = &model->now[id];
    char text[16], json[64];
    for (int d = 0; d < DIMENSION; d++)
        s->values[d] = (float)rng_normal(&model->rng);
    s->number = (int)rng_below(&model->rng, 10);
    s->live = true;
    (void)snprintf(json, sizeof(json), "{\"number\":%d,\"text\":\"n%u\"}", s->number, id);
    struct pdb_vector vector;
    struct pdb_record r = record(id_text(id, text), &vector, s->values, DIMENSION);
    r.metadata = doc(fx, json);
    r.has_metadata = true;
    struct pdb_write w = {.collection = txt("c"), .records = &r, .record_count = 1};
    assert_done(fx, do_write(fx, &w));
    s->version = model->version = w.version_out;
}

static void erase(struct fixture *fx, struct model *model, unsigned id)
{
    char text[16];
    struct pdb_text ids[1] = {txt(id_text(id, text))};
    struct pdb_delete d = {.collection = txt("c"), .ids = ids, .id_count = 1};
    assert_done(fx, do_delete(fx, &d));
    assert_int_equal(d.count_out, model->now[id].live);
    model->now[id].live = false;
    model->version = d.version_out;
}

static void change(struct fixture *fx, struct model *model)
{
    unsigned id = (unsigned)rng_below(&model->rng, IDS);
    if (rng_below(&model->rng, 4) == 0)
        erase(fx, model, id);
    else
        upsert(fx, model, id);
}

/* ---- comparing ---- */

static void compare_gets(struct fixture *fx, const struct model *model)
{
    for (unsigned id = 0; id < IDS; id++) {
        char text[16];
        const struct state *s = &model->now[id];
        struct pdb_row row = row_of(fx, "c", id_text(id, text));
        if (!s->live) {
            assert_int_equal(row.version, 0);
            continue;
        }
        assert_int_equal(row.version, s->version);
        assert_memory_equal(row.vectors[0], s->values, sizeof(s->values));
    }
}

static void compare_counts(struct fixture *fx, const struct model *model)
{
    uint64_t live = 0, matching = 0;
    for (unsigned id = 0; id < IDS; id++) {
        live += model->now[id].live;
        matching += model->now[id].live && model->now[id].number < 4;
    }
    assert_int_equal(count_of(fx, "c", NULL), live);
    assert_int_equal(count_of(fx, "c", "{\"number\":{\"$lt\":4}}"), matching);
}

/* Pages of 7, in order of id: all live ones that match, and no other. */
static void compare_scroll(struct fixture *fx, const struct model *model)
{
    struct pdb_text cursor = {NULL, 0};
    unsigned id = 0;
    do {
        struct pdb_scroll s = {.collection = txt("c"),
                               .filter = doc(fx, "{\"number\":{\"$gte\":3}}"),
                               .limit = 7,
                               .cursor = cursor,
                               .include = PDB_INCLUDE_METADATA};
        assert_done(fx, do_scroll(fx, &s));
        for (uint32_t i = 0; i < s.row_count_out; i++, id++) {
            char text[16];
            while (id < IDS && !(model->now[id].live && model->now[id].number >= 3))
                id++;
            assert_in_range(id, 0, IDS - 1);
            assert_true(same_text(s.rows_out[i].id, id_text(id, text)));
        }
        cursor = s.next_cursor_out;
    } while (cursor.len != 0);
    for (; id < IDS; id++)
        assert_false(model->now[id].live && model->now[id].number >= 3);
}

static float distance_to(const struct state *s, const float *query)
{
    float sum = 0;
    for (int d = 0; d < DIMENSION; d++)
        sum += (s->values[d] - query[d]) * (s->values[d] - query[d]);
    return sum;
}

/* The k best of those that match, each once: none closer is left out. */
static void compare_search(struct fixture *fx, struct model *model)
{
    float query[DIMENSION];
    for (int d = 0; d < DIMENSION; d++)
        query[d] = (float)rng_normal(&model->rng);
    struct pdb_query q = {
        .vector = {.values = query, .count = DIMENSION, .form = PDB_VECTOR_F32},
        .k = 10,
        .filter = doc(fx, "{\"number\":{\"$lt\":7}}"),
    };
    struct pdb_search s = {.collection = txt("c"), .queries = &q, .query_count = 1};
    assert_done(fx, do_search(fx, &s));
    bool seen[IDS] = {false};
    float worst = 0;
    for (size_t i = 0; i < s.results_out[0].count; i++) {
        const struct pdb_hit *hit = &s.results_out[0].hits[i];
        unsigned id = (unsigned)strtoul(hit->row.id.ptr + 3, NULL, 10);
        assert_in_range(id, 0, IDS - 1);
        assert_true(model->now[id].live && model->now[id].number < 7 && !seen[id]);
        assert_int_equal(hit->row.version, model->now[id].version);
        seen[id] = true;
        worst = distance_to(&model->now[id], query);
    }
    uint64_t matching = 0;
    for (unsigned id = 0; id < IDS; id++) {
        bool matches = model->now[id].live && model->now[id].number < 7;
        matching += matches;
        if (matches && !seen[id] && s.results_out[0].count == 10)
            assert_true(distance_to(&model->now[id], query) >= worst * 0.99999f);
    }
    assert_int_equal(s.results_out[0].count, matching < 10 ? matching : 10);
}

static void compare(struct fixture *fx, struct model *model)
{
    compare_gets(fx, model);
    compare_counts(fx, model);
    compare_scroll(fx, model);
    compare_search(fx, model);
    pdb_arena_free(fx->arena);
    fx->arena = pdb_arena_new(0);
    assert_non_null(fx->arena);
}

/* ---- waiting ---- */

static struct pdb_collection_info info_of(struct fixture *fx)
{
    struct pdb_collection_get g = {.name = txt("c")};
    assert_done(fx, do_describe(fx, &g));
    return g.info_out;
}

/* Until the memtable is flushed and the segments are at rest. */
static void wait_for(struct fixture *fx, bool (*reached)(const struct pdb_collection_info *info))
{
    for (int i = 0; i < WAIT_MS; i++) {
        struct pdb_collection_info info = info_of(fx);
        if (reached(&info))
            return;
        (void)usleep(1000);
    }
    fail_msg("never reached");
}

static bool has_segment(const struct pdb_collection_info *info)
{
    return info->segment_count >= 1;
}

static bool has_one_segment(const struct pdb_collection_info *info)
{
    return info->segment_count == 1 && info->memtable_rows == 0 && info->tombstones == 0;
}

static bool has_no_segment(const struct pdb_collection_info *info)
{
    return info->segment_count == 0 && info->memtable_rows == 0;
}

/* ---- tests ---- */

static void begin(struct fixture *fx, struct model *model, unsigned cores, uint64_t seed)
{
    memset(model, 0, sizeof(*model));
    rng_seed(&model->rng, seed);
    fixture_begin(fx, cores);
    fx->options.flush_rows = 25;
    fx->options.flush_age_s = 1;
    fixture_reopen(fx, cores);
    create(fx, "c", DIMENSION);
}

static void readers_do_not_see_flushes_and_merges(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    begin(&fx, &model, 2, 1);
    for (int i = 0; i < 1500; i++) {
        change(&fx, &model);
        if (i % 50 == 49)
            compare(&fx, &model);
    }
    wait_for(&fx, has_segment);
    compare(&fx, &model);
    fixture_end(&fx);
}

static void a_restart_finds_segments_and_log(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    begin(&fx, &model, 2, 2);
    for (unsigned life = 0; life < 12; life++) {
        for (unsigned i = 0; i < 40 + life * 7; i++)
            change(&fx, &model);
        if (life % 3 == 0)
            wait_for(&fx, has_segment);
        fixture_reopen(&fx, 1 + life % 3);
        compare(&fx, &model);
    }
    fixture_end(&fx);
}

static void a_collection_at_rest_becomes_one_segment(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    begin(&fx, &model, 1, 3);
    for (int i = 0; i < 400; i++)
        change(&fx, &model);
    wait_for(&fx, has_one_segment);
    compare(&fx, &model);
    fixture_reopen(&fx, 2);
    compare(&fx, &model);
    assert_int_equal(info_of(&fx).memtable_rows, 0); /* nothing was left in the log */
    fixture_end(&fx);
}

static void deleted_rows_give_their_segments_back(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    begin(&fx, &model, 1, 4);
    for (unsigned id = 0; id < IDS; id++)
        upsert(&fx, &model, id);
    wait_for(&fx, has_segment);
    for (unsigned id = 0; id < IDS; id++)
        erase(&fx, &model, id);
    wait_for(&fx, has_no_segment);
    compare(&fx, &model);
    fixture_reopen(&fx, 1);
    compare(&fx, &model);
    fixture_end(&fx);
}

static bool folder_is_gone(const struct fixture *fx)
{
    char command[320];
    (void)snprintf(command, sizeof(command), "test -z \"$(ls '%s/collections')\"", fx->dir);
    return system(command) == 0;
}

static void a_dropped_collection_gives_its_files_back(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    begin(&fx, &model, 2, 5);
    for (int i = 0; i < 200; i++)
        change(&fx, &model);
    wait_for(&fx, has_segment);
    assert_false(folder_is_gone(&fx));
    struct pdb_collection_delete d = {.name = txt("c")};
    assert_done(&fx, do_drop(&fx, &d));
    for (int i = 0; i < WAIT_MS && !folder_is_gone(&fx); i++)
        (void)usleep(1000);
    assert_true(folder_is_gone(&fx));
    fixture_reopen(&fx, 2);
    create(&fx, "c", DIMENSION);
    memset(model.now, 0, sizeof(model.now));
    compare(&fx, &model);
    fixture_end(&fx);
}

/* ---- versions ---- */

struct past {
    struct state states[IDS];
    uint64_t version;
};

static void compare_past(struct fixture *fx, const struct past *past)
{
    for (unsigned id = 0; id < IDS; id += 3) {
        char text[16];
        struct pdb_text ids[1] = {txt(id_text(id, text))};
        struct pdb_get g = {.collection = txt("c"),
                            .ids = ids,
                            .id_count = 1,
                            .include = PDB_INCLUDE_VECTORS,
                            .has_as_of = true,
                            .as_of = past->version};
        assert_done(fx, do_get(fx, &g));
        const struct state *s = &past->states[id];
        assert_int_equal(g.rows_out[0].version, s->live ? s->version : 0);
        if (s->live)
            assert_memory_equal(g.rows_out[0].vectors[0], s->values, sizeof(s->values));
    }
}

static void retained_versions_can_be_read(void **state)
{
    (void)state;
    enum { PASTS = 12 };
    struct fixture fx;
    struct model model;
    struct past *pasts = calloc(PASTS, sizeof(*pasts));
    assert_non_null(pasts);
    begin(&fx, &model, 1, 6);
    struct pdb_collection_update u = {
        .name = txt("c"), .has_version_retention = true, .version_retention_s = 3600};
    assert_done(&fx, do_alter(&fx, &u));
    for (unsigned i = 0; i < PASTS; i++) {
        for (int j = 0; j < 60; j++)
            change(&fx, &model);
        memcpy(pasts[i].states, model.now, sizeof(model.now));
        pasts[i].version = model.version;
        if (i % 4 == 3)
            fixture_reopen(&fx, 1 + i % 2);
        for (unsigned j = 0; j <= i; j++)
            compare_past(&fx, &pasts[j]);
    }
    compare(&fx, &model);
    free(pasts);
    fixture_end(&fx);
}

static void versions_out_of_range_are_refused(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    begin(&fx, &model, 1, 7);
    upsert(&fx, &model, 1);
    upsert(&fx, &model, 1);
    struct pdb_text ids[1] = {txt("id-001")};
    struct pdb_get g = {
        .collection = txt("c"), .ids = ids, .id_count = 1, .has_as_of = true, .as_of = 3};
    assert_refused(&fx, do_get(&fx, &g), PDB_OUT_OF_RANGE,
                   "as_of: the collection's newest version is 2, found 3");
    g.as_of = 1;
    assert_refused(&fx, do_get(&fx, &g), PDB_OUT_OF_RANGE,
                   "as_of: the oldest version that is still kept is 2, found 1; see "
                   "version_retention");
    fixture_end(&fx);
}

static void if_version_is_not_fooled_by_a_delete(void **state)
{
    (void)state;
    struct fixture fx;
    struct model model;
    begin(&fx, &model, 1, 8);
    upsert(&fx, &model, 5);
    uint64_t old_version = model.now[5].version;
    for (int i = 0; i < 60; i++)
        upsert(&fx, &model, 10 + (unsigned)i % 40);
    wait_for(&fx, has_segment);
    erase(&fx, &model, 5);
    upsert(&fx, &model, 5);
    float values[DIMENSION] = {0};
    struct pdb_vector vector;
    struct pdb_record r = record("id-005", &vector, values, DIMENSION);
    r.has_if_version = true;
    r.if_version = old_version;
    struct pdb_write w = {.collection = txt("c"), .records = &r, .record_count = 1};
    assert_int_equal(do_write(&fx, &w), PDB_FAILED_PRECONDITION);
    assert_int_equal(fx.error.current_version, model.now[5].version);
    compare(&fx, &model);
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_do_not_see_flushes_and_merges),
        cmocka_unit_test(a_restart_finds_segments_and_log),
        cmocka_unit_test(a_collection_at_rest_becomes_one_segment),
        cmocka_unit_test(deleted_rows_give_their_segments_back),
        cmocka_unit_test(a_dropped_collection_gives_its_files_back),
        cmocka_unit_test(retained_versions_can_be_read),
        cmocka_unit_test(versions_out_of_range_are_refused),
        cmocka_unit_test(if_version_is_not_fooled_by_a_delete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
