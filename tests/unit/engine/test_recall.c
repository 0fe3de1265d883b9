/* src/engine/recall*.c: recall on demand and in the background, what is kept for it, and that
 * nothing of it is left behind. */
#include "ann_fixture.h"

#include "engine/recall.h"

#include <math.h>

FIXTURE_CALL(pdb_recall, do_recall, pdb_recall_start)

enum { ROWS = 600 };

static void begin(struct fixture *fx, struct sim_disk **disk_out)
{
    *disk_out = sim_disk_new(1);
    ann_begin_on(fx, *disk_out, 2);
}

static struct pdb_hits hits_of(struct pdb_hit *hits, const char *ids, const float *scores)
{
    uint32_t count = (uint32_t)strlen(ids);
    for (uint32_t i = 0; i < count; i++)
        hits[i] = (struct pdb_hit){.row.id = {&ids[i], 1}, .score = scores[i]};
    return (struct pdb_hits){hits, count};
}

static void recall_counts_what_is_found_and_ties(void **state)
{
    (void)state;
    static const struct {
        const char *ids, *exact_ids;
        float scores[4], exact_scores[4];
        bool lower;
        double recall;
    } rows[] = {
        {"abc", "abc", {1, 2, 3}, {1, 2, 3}, true, 1},
        {"abd", "abc", {1, 2, 4}, {1, 2, 3}, true, 2.0 / 3},
        {"abd", "abc", {1, 2, 3}, {1, 2, 3}, true, 1}, /* d is as near as c */
        {"abd", "abc", {3, 2, 1}, {3, 2, 1.5f}, false, 2.0 / 3},
        {"abd", "abc", {3, 2, 1.5f}, {3, 2, 1.5f}, false, 1},
        {"", "abc", {0}, {1, 2, 3}, true, 0},
        {"c", "abc", {3.5f}, {1, 2, 3}, true, 1.0 / 3}, /* by its id: scores may differ a little */
        {"abc", "", {1, 2, 3}, {0}, true, 1},
        {"abcd", "abc", {1, 2, 3, 3}, {1, 2, 3}, true, 1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pdb_hit hits[4], exact[4];
        struct pdb_hits found = hits_of(hits, rows[i].ids, rows[i].scores);
        struct pdb_hits all = hits_of(exact, rows[i].exact_ids, rows[i].exact_scores);
        assert_true(fabs(recall_of(&found, &all, rows[i].lower) - rows[i].recall) < 1e-9);
    }
}

static void search_near(struct fixture *fx, const char *name, unsigned row, struct pdb_query how)
{
    float values[ANN_DIMENSION];
    ann_vector(row, values);
    how.vector = (struct pdb_vector){.values = values, .count = ANN_DIMENSION};
    how.k = how.k != 0 ? how.k : 5;
    struct pdb_search s = {.collection = txt(name), .queries = &how, .query_count = 1};
    assert_done(fx, do_search(fx, &s));
    assert_true(s.rows_scored_out >= s.results_out[0].count);
}

static void without_searches_records_are_asked_for(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    ann_create(&fx, "c", PDB_INDEX_FLAT, PDB_QUANTIZATION_NONE);
    ann_put(&fx, "c", 0, ROWS, 3); /* every third has no vector */
    struct pdb_recall r = {.collection = txt("c"), .queries = 20};
    assert_done(&fx, do_recall(&fx, &r));
    assert_false(r.recent_out);
    assert_int_equal(r.queries_out, 20);
    assert_int_equal(r.k, 10);
    assert_true(r.target_recall == PDB_TARGET_RECALL_DEFAULT);
    /* an exact search finds everything */
    assert_true(r.mean_out >= 1 && r.min_out >= 1 && r.p05_out >= 1 && r.p50_out >= 1);
    for (unsigned i = 0; i < 11; i++)
        assert_int_equal(r.histogram_out[i], i == 10 ? 20 : 0);
    assert_true(r.rows_scored_out > 0);
    ann_end(&fx, disk);
}

static void searches_are_kept_and_asked_for_first(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    ann_create(&fx, "c", PDB_INDEX_FLAT, PDB_QUANTIZATION_NONE);
    ann_put(&fx, "c", 0, ROWS, 0);
    struct pdb_text filter = doc(&fx, "{\"a\":{\"$exists\":false}}");
    /* these are not kept */
    search_near(&fx, "c", 1, (struct pdb_query){.exact = true});
    search_near(&fx, "c", 1, (struct pdb_query){.filter = filter});
    search_near(&fx, "c", 1, (struct pdb_query){.has_min_score = true, .min_score = 100});
    struct pdb_recall r = {.collection = txt("c"), .queries = 3, .k = 7};
    assert_done(&fx, do_recall(&fx, &r));
    assert_false(r.recent_out);
    for (unsigned i = 0; i < 3; i++)
        search_near(&fx, "c", i, (struct pdb_query){.ef = 10 * i});
    for (int again = 0; again < 2; again++) { /* what recall searches itself is not kept */
        r = (struct pdb_recall){.collection = txt("c"), .queries = 100, .k = 7};
        assert_done(&fx, do_recall(&fx, &r));
        assert_true(r.recent_out);
        assert_int_equal(r.queries_out, 3);
        assert_true(r.mean_out >= 1);
    }
    r = (struct pdb_recall){.collection = txt("c"), .queries = 2};
    assert_done(&fx, do_recall(&fx, &r));
    assert_int_equal(r.queries_out, 2);
    ann_end(&fx, disk);
}

/* A query is asked again as it was: in the bytes of its element type. */
static void searches_by_bytes_of_halves_are_kept(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    struct pdb_field field = {
        .dimension = 3, .metric = PDB_METRIC_EUCLIDEAN, .element = PDB_ELEMENT_FLOAT16};
    struct pdb_collection_create c = {
        .config = {.name = txt("h"), .fields = &field, .field_count = 1}};
    assert_done(&fx, do_create(&fx, &c));
    const float values[3] = {1, 2, 3};
    assert_done(&fx, put(&fx, "h", "a", values, 3, NULL));
    static const uint8_t halves[6] = {0, 0x3c, 0, 0x40, 0, 0x42};
    const struct pdb_query query = {.k = 1,
                                    .vector = {.values = halves,
                                               .count = sizeof(halves),
                                               .form = PDB_VECTOR_BYTES,
                                               .element = PDB_ELEMENT_FLOAT16}};
    struct pdb_search s = {.collection = txt("h"), .queries = &query, .query_count = 1};
    assert_done(&fx, do_search(&fx, &s));
    struct pdb_recall r = {.collection = txt("h")};
    assert_done(&fx, do_recall(&fx, &r));
    assert_true(r.recent_out && r.queries_out == 1 && r.mean_out >= 1);
    ann_end(&fx, disk);
}

/* The newest are kept, whatever the rate, and no more than the limit. */
static void the_ring_keeps_the_newest(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    ann_create(&fx, "c", PDB_INDEX_FLAT, PDB_QUANTIZATION_NONE);
    struct shard *shard = ann_shard(&fx);
    float values[ANN_DIMENSION] = {0};
    struct pdb_query query = {.vector = {.values = values, .count = ANN_DIMENSION}, .k = 1};
    for (unsigned i = 0; i < RECALL_SAMPLES_MAX; i++) {
        query.ef = i + 1;
        recall_note(shard, &query, 0);
    }
    struct recall_sample *samples = NULL;
    uint32_t count = 0;
    assert_int_equal(recall_recent(shard, 0, fx.arena, 1000, &samples, &count), 0);
    assert_int_equal(count, RECALL_SAMPLES_MAX);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(samples[i].query.ef, count - i);
    for (unsigned i = 0; i < 10; i++) { /* one a second from here on */
        query.ef = 1000 + i;
        recall_note(shard, &query, 0);
    }
    assert_int_equal(recall_recent(shard, 0, fx.arena, 1, &samples, &count), 0);
    assert_int_equal(samples[0].query.ef, RECALL_SAMPLES_MAX);
    sim_run(fx.db, 1100000000);
    recall_note(shard, &query, 0);
    assert_int_equal(recall_recent(shard, 0, fx.arena, 1000, &samples, &count), 0);
    assert_int_equal(count, RECALL_SAMPLES_MAX);
    assert_int_equal(samples[0].query.ef, 1009);
    assert_int_equal(samples[count - 1].query.ef, 2);
    assert_true(shard->core->recall_bytes <= RECALL_SAMPLE_BYTES_MAX + 65536);
    struct recall_sample one;
    assert_int_equal(recall_take_unmeasured(shard, 1, fx.arena, &one), 1);
    assert_int_equal(one.query.ef, 2); /* the oldest has gone */
    assert_int_equal(recall_take_unmeasured(shard, 1, fx.arena, &one), 1);
    assert_int_equal(one.query.ef, 3);
    assert_true(recall_has_unmeasured(shard));
    assert_int_equal(recall_take_unmeasured(shard, 0xfe, fx.arena, &one), 0); /* other fields */
    assert_false(recall_has_unmeasured(shard));
    recall_samples_free(shard);
    assert_int_equal(shard->core->recall_bytes, 0);
    ann_end(&fx, disk);
}

static void without_memory_nothing_is_kept_and_nothing_fails(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    ann_create(&fx, "c", PDB_INDEX_FLAT, PDB_QUANTIZATION_NONE);
    struct shard *shard = ann_shard(&fx);
    struct heap *heap = &shard->core->r->heap;
    float values[ANN_DIMENSION] = {0};
    struct pdb_query query = {.vector = {.values = values, .count = ANN_DIMENSION}, .k = 1};
    unsigned failed = 0;
    for (uint64_t n = 1; !recall_has_unmeasured(shard); n++, failed++) {
        heap->fail_at = heap->allocation_count + n;
        recall_note(shard, &query, 0);
        heap->fail_at = 0;
        assert_true(n < 100);
    }
    assert_true(failed >= 4);
    ann_end(&fx, disk);
}

static void an_index_is_compared_with_the_whole(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_SQ8);
    ann_put(&fx, "c", 0, 1000, 0);
    ann_flush(&fx);
    ann_rest(&fx);
    struct pdb_recall r = {.collection = txt("c"), .queries = 30, .target_recall = 0.9f};
    assert_done(&fx, do_recall(&fx, &r));
    assert_int_equal(r.queries_out, 30);
    assert_true(r.target_recall == 0.9f);
    uint32_t sum = 0;
    for (unsigned i = 0; i < 11; i++)
        sum += r.histogram_out[i];
    assert_int_equal(sum, 30);
    assert_true(r.mean_out > 0.5 && r.mean_out <= 1);
    assert_true(r.min_out <= r.p05_out && r.p05_out <= r.p50_out);
    ann_end(&fx, disk);
}

static void recent_searches_are_measured_in_the_background(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_SQ8);
    ann_put(&fx, "c", 0, 1000, 0);
    struct shard *shard = ann_shard(&fx);
    for (unsigned i = 0; i < 20; i++)
        search_near(&fx, "c", i, (struct pdb_query){.k = 10});
    float recall = 0;
    assert_false(recall_known(shard, 0, &recall));
    ann_flush(&fx);
    ann_rest(&fx);
    for (unsigned i = 0; i < 20; i++)
        search_near(&fx, "c", i, (struct pdb_query){.k = 10});
    ann_pump_until(&fx, recall_known(shard, 0, &recall));
    assert_true(recall > 0.5f && recall <= 1);
    struct pdb_collection_get g = {.name = txt("c")};
    assert_done(&fx, do_describe(&fx, &g));
    assert_true(g.info_out.indexes[0].has_recall);
    ann_pump_until(&fx, !recall_has_unmeasured(shard)); /* then it rests */
    /* under other settings it is not known */
    const struct pdb_field_change change = {.has_index = true, .index = PDB_INDEX_FLAT};
    struct pdb_collection_update u = {
        .name = txt("c"), .field_changes = &change, .field_change_count = 1};
    assert_done(&fx, do_alter(&fx, &u));
    assert_false(recall_known(shard, 0, &recall));
    ann_end(&fx, disk);
}

/* Dropped or closed while something waits to be measured: the leak checks of the fixture and the
 * sanitizers look at what is left. */
static void a_drop_and_a_close_end_it(void **state)
{
    (void)state;
    for (int drops = 0; drops < 2; drops++) {
        struct fixture fx;
        struct sim_disk *disk;
        begin(&fx, &disk);
        ann_create(&fx, "c", PDB_INDEX_HNSW, PDB_QUANTIZATION_SQ8);
        ann_put(&fx, "c", 0, 1000, 0);
        ann_flush(&fx);
        ann_rest(&fx);
        for (unsigned i = 0; i < 20; i++)
            search_near(&fx, "c", i, (struct pdb_query){.k = 10});
        for (unsigned i = 0; i < 7; i++)
            engine_pump(fx.db);
        struct engine_core *core = ann_shard(&fx)->core;
        if (drops) {
            struct pdb_collection_delete d = {.name = txt("c")};
            assert_done(&fx, do_drop(&fx, &d));
            ann_pump_until(&fx, core->recall_bytes == 0);
        }
        ann_end(&fx, disk);
    }
}

/* A look that is under way when its collection is dropped ends with that; one that is cancelled, or
 * under way when the database closes, ends too. */
static void a_look_ends_with_its_collection(void **state)
{
    (void)state;
    enum { DROP, CANCEL, CLOSE, ENDS };
    unsigned early[ENDS] = {0};
    for (int how = 0; how < ENDS; how++) {
        for (unsigned turns = 1; turns < 400; turns = turns * 3 / 2 + 1) {
            struct fixture fx;
            struct sim_disk *disk;
            begin(&fx, &disk);
            ann_create(&fx, "c", PDB_INDEX_FLAT, PDB_QUANTIZATION_NONE);
            ann_put(&fx, "c", 0, 200, 0);
            struct flight *f = flight_new(fx.db, do_recall_start);
            f->recall.collection = txt("c");
            flight_send(fx.db, 1, f);
            for (unsigned i = 0; i < turns; i++)
                sim_turn(fx.db);
            if (how == DROP) {
                struct pdb_collection_delete d = {.name = txt("c")};
                assert_done(&fx, do_drop(&fx, &d));
            } else if (how == CANCEL && !f->done) {
                pdb_call_cancel(&f->call);
            }
            if (how != CLOSE)
                flight_wait(fx.db, f);
            pdb_close(fx.db);
            assert_true(f->done && f->told == 1);
            int code = f->call.error.code;
            assert_true(code == 0 || code == (how == DROP     ? PDB_NOT_FOUND
                                              : how == CANCEL ? PDB_CANCELLED
                                                              : PDB_UNAVAILABLE));
            early[how] += code != 0;
            flight_free(f);
            pdb_arena_free(fx.arena);
            sim_disk_free(disk);
        }
        assert_true(early[how] != 0);
    }
}

static void bad_questions_say_where_and_what(void **state)
{
    (void)state;
    struct fixture fx;
    struct sim_disk *disk;
    begin(&fx, &disk);
    ann_create(&fx, "c", PDB_INDEX_FLAT, PDB_QUANTIZATION_NONE);
    static const struct {
        struct pdb_recall request;
        int code;
        const char *text;
    } rows[] = {
        {{.collection = {"c", 1}, .k = 1001},
         PDB_INVALID_ARGUMENT,
         "k: expected 1 to 1000, found 1001"},
        {{.collection = {"c", 1}, .queries = 1001},
         PDB_INVALID_ARGUMENT,
         "queries: expected 1 to 1000, found 1001"},
        {{.collection = {"c", 1}, .field = {"x", 1}},
         PDB_INVALID_ARGUMENT,
         "field: the collection has no vector field 'x'"},
        {{.collection = {"c", 1}, .target_recall = 0.4f},
         PDB_INVALID_ARGUMENT,
         "target_recall: expected 0.5 to 1"},
        {{.collection = {"d", 1}}, PDB_NOT_FOUND, "collection 'd' does not exist"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pdb_recall r = rows[i].request;
        assert_refused(&fx, do_recall(&fx, &r), rows[i].code, rows[i].text);
    }
    struct pdb_recall r = {.collection = txt("c")}; /* it is empty */
    assert_done(&fx, do_recall(&fx, &r));
    assert_int_equal(r.queries_out, 0);
    ann_end(&fx, disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recall_counts_what_is_found_and_ties),
        cmocka_unit_test(without_searches_records_are_asked_for),
        cmocka_unit_test(searches_are_kept_and_asked_for_first),
        cmocka_unit_test(searches_by_bytes_of_halves_are_kept),
        cmocka_unit_test(the_ring_keeps_the_newest),
        cmocka_unit_test(without_memory_nothing_is_kept_and_nothing_fails),
        cmocka_unit_test(an_index_is_compared_with_the_whole),
        cmocka_unit_test(recent_searches_are_measured_in_the_background),
        cmocka_unit_test(a_drop_and_a_close_end_it),
        cmocka_unit_test(a_look_ends_with_its_collection),
        cmocka_unit_test(bad_questions_say_where_and_what),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
