/* Get, count, scroll and search: what they find, in which order, and what they refuse. */
#include "engine_fixture.h"

#include <math.h>

static void fill(struct fixture *fx, const char *name, int count)
{
    for (int i = 0; i < count; i++) {
        char id[16], json[64];
        const float values[2] = {(float)i, 1};
        (void)snprintf(id, sizeof(id), "%04d", i);
        (void)snprintf(json, sizeof(json), "{\"n\":%d,\"even\":%s}", i,
                       i % 2 == 0 ? "true" : "false");
        assert_done(fx, put(fx, name, id, values, 2, json));
    }
}

static void get_keeps_the_order_of_ids_and_tells_missing_ones(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 2);
    fill(&fx, "c", 3);
    struct pdb_text ids[4] = {txt("0002"), txt("nope"), txt("0000"), txt("0002")};
    struct pdb_get g = {.collection = txt("c"), .ids = ids, .id_count = 4};
    assert_done(&fx, do_get(&fx, &g));
    assert_int_equal(g.rows_out[0].version, 3);
    assert_null(g.rows_out[0].vectors);
    assert_int_equal(g.rows_out[0].metadata.len, 0);
    assert_int_equal(g.rows_out[0].created_at_us, 0);
    assert_int_equal(g.rows_out[1].version, 0);
    assert_true(same_text(g.rows_out[1].id, "nope"));
    assert_int_equal(g.rows_out[2].version, 1);
    assert_int_equal(g.rows_out[3].version, 3);
    assert_int_equal(g.field_count_out, 1);
    assert_int_equal(g.fields_out[0].dimension, 2);
    g.id_count = 0;
    assert_refused(&fx, do_get(&fx, &g), PDB_INVALID_ARGUMENT,
                   "ids: expected 1 to 10000 ids, found 0");
    ids[1] = txt("");
    g.id_count = 4;
    assert_refused(&fx, do_get(&fx, &g), PDB_INVALID_ARGUMENT,
                   "ids[1]: expected 1 to 512 bytes, found 0");
    g.collection = txt("d");
    assert_refused(&fx, do_get(&fx, &g), PDB_NOT_FOUND, "collection 'd' does not exist");
    fixture_end(&fx);
}

static void a_scroll_visits_each_record_once_in_order_of_id(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 2);
    fill(&fx, "c", 100);
    static const struct {
        const char *filter;
        uint32_t limit, pages;
        int step;
    } rows[] = {
        {NULL, 7, 15, 1}, {NULL, 100, 1, 1}, {NULL, 10000, 1, 1}, {"{\"even\":true}", 10, 5, 2}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char cursor[900];
        struct pdb_scroll s = {
            .collection = txt("c"), .limit = rows[i].limit, .include = PDB_INCLUDE_METADATA};
        uint32_t pages = 0;
        int expected = 0;
        do {
            if (rows[i].filter != NULL)
                s.filter = doc(&fx, rows[i].filter);
            assert_done(&fx, do_scroll(&fx, &s));
            pages++;
            for (uint32_t k = 0; k < s.row_count_out; k++, expected += rows[i].step) {
                char id[16];
                (void)snprintf(id, sizeof(id), "%04d", expected);
                assert_true(same_text(s.rows_out[k].id, id));
                assert_true(s.rows_out[k].metadata.len > 0);
            }
            memcpy(cursor, s.next_cursor_out.len != 0 ? s.next_cursor_out.ptr : "",
                   s.next_cursor_out.len);
            s.cursor = (struct pdb_text){cursor, s.next_cursor_out.len};
        } while (s.cursor.len != 0);
        assert_int_equal(expected, 100);
        assert_int_equal(pages, rows[i].pages);
    }
    struct pdb_scroll s = {.collection = txt("c")};
    assert_refused(&fx, do_scroll(&fx, &s), PDB_INVALID_ARGUMENT,
                   "limit: expected 1 to 10000, found 0");
    s.limit = 1;
    static const char *const bad[] = {"x", "####", "MmE=", "MQ==", "Mf8="};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        s.cursor = txt(bad[i]);
        assert_refused(&fx, do_scroll(&fx, &s), PDB_INVALID_ARGUMENT,
                       "cursor: not one that a scroll of this server has returned");
    }
    fixture_end(&fx);
}

static void a_count_obeys_its_filter(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 2);
    fill(&fx, "c", 100);
    assert_int_equal(count_of(&fx, "c", NULL), 100);
    assert_int_equal(count_of(&fx, "c", "{}"), 100);
    assert_int_equal(count_of(&fx, "c", "{\"n\":{\"$lt\":30}}"), 30);
    assert_int_equal(count_of(&fx, "c", "{\"n\":{\"$gte\":30},\"even\":true}"), 35);
    struct pdb_count c = {.collection = txt("c"), .filter = txt("rubbish")};
    assert_refused(&fx, do_count(&fx, &c), PDB_INVALID_ARGUMENT, "filter: not a valid document");
    fixture_end(&fx);
}

static void a_search_finds_the_nearest_in_order(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 2);
    fill(&fx, "c", 500);
    const float wanted[2] = {100.25f, 1};
    struct pdb_query q = {.vector = {.values = wanted, .count = 2},
                          .k = 4,
                          .include = PDB_INCLUDE_METADATA | PDB_INCLUDE_VECTORS};
    struct pdb_search s = {.collection = txt("c"), .queries = &q, .query_count = 1};
    assert_done(&fx, do_search(&fx, &s));
    static const char *const ids[4] = {"0100", "0101", "0099", "0102"};
    static const float scores[4] = {0.25f, 0.75f, 1.25f, 1.75f};
    assert_int_equal(s.results_out[0].count, 4);
    for (int i = 0; i < 4; i++) {
        const struct pdb_hit *hit = &s.results_out[0].hits[i];
        assert_true(same_text(hit->row.id, ids[i]));
        assert_float_equal(hit->score, scores[i], 1e-4);
        assert_true(hit->row.metadata.len != 0);
        assert_float_equal(((const float *)hit->row.vectors[0])[0], (float)atoi(ids[i]), 0);
    }
    q.filter = doc(&fx, "{\"even\":false}");
    assert_done(&fx, do_search(&fx, &s));
    assert_true(same_text(s.results_out[0].hits[0].row.id, "0101"));
    q.filter = (struct pdb_text){NULL, 0};
    q.has_min_score = true;
    q.min_score = 1.3f;
    assert_done(&fx, do_search(&fx, &s));
    assert_int_equal(s.results_out[0].count, 3);
    fixture_end(&fx);
}

static void each_metric_scores_as_the_contract_says(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    const float stored[2] = {3, 4}, wanted[2] = {1, 0}, bits[2] = {1, 1};
    static const struct {
        enum pdb_metric metric;
        float score;
    } rows[] = {{PDB_METRIC_COSINE, 0.6f},
                {PDB_METRIC_DOT, 3},
                {PDB_METRIC_EUCLIDEAN, 4.472136f},
                {PDB_METRIC_MANHATTAN, 6},
                {PDB_METRIC_HAMMING, 1}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char name[8];
        bool hamming = rows[i].metric == PDB_METRIC_HAMMING;
        (void)snprintf(name, sizeof(name), "m%zu", i);
        assert_done(&fx, create_with(&fx, name, 2, rows[i].metric, PDB_SYNC_ALWAYS));
        assert_done(&fx, put(&fx, name, "a", hamming ? bits : stored, 2, NULL));
        struct pdb_query q = {.vector = {.values = wanted, .count = 2}, .k = 1};
        struct pdb_search s = {.collection = txt(name), .queries = &q, .query_count = 1};
        assert_done(&fx, do_search(&fx, &s));
        assert_int_equal(s.results_out[0].count, 1);
        assert_float_equal(s.results_out[0].hits[0].score, rows[i].score, 1e-5);
    }
    fixture_end(&fx);
}

static void a_search_by_id_leaves_that_record_out(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 2);
    fill(&fx, "c", 10);
    struct pdb_query q = {.id = txt("0005"), .k = 2};
    struct pdb_search s = {.collection = txt("c"), .queries = &q, .query_count = 1};
    assert_done(&fx, do_search(&fx, &s));
    assert_int_equal(s.results_out[0].count, 2);
    assert_true(same_text(s.results_out[0].hits[0].row.id, "0004"));
    assert_true(same_text(s.results_out[0].hits[1].row.id, "0006"));
    q.id = txt("nope");
    assert_refused(&fx, do_search(&fx, &s), PDB_NOT_FOUND, "id: record 'nope' does not exist");
    struct pdb_record bare = {.id = txt("bare")};
    struct pdb_write w = {.collection = txt("c"), .records = &bare, .record_count = 1};
    assert_done(&fx, do_write(&fx, &w));
    q.id = txt("bare");
    assert_refused(&fx, do_search(&fx, &s), PDB_FAILED_PRECONDITION,
                   "id: record 'bare' has no vector in the searched field");
    fixture_end(&fx);
}

static void a_batch_of_searches_answers_each(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 2);
    fill(&fx, "c", 300);
    float wanted[50][2];
    struct pdb_query queries[50];
    for (int i = 0; i < 50; i++) {
        wanted[i][0] = (float)(i * 6);
        wanted[i][1] = 1;
        queries[i] =
            (struct pdb_query){.vector = {.values = wanted[i], .count = 2}, .k = (uint32_t)i + 1};
    }
    struct pdb_search s = {
        .collection = txt("c"), .queries = queries, .query_count = 50, .query_path = "queries"};
    assert_done(&fx, do_search(&fx, &s));
    for (int i = 0; i < 50; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "%04d", i * 6);
        assert_int_equal(s.results_out[i].count, i + 1);
        assert_true(same_text(s.results_out[i].hits[0].row.id, id));
    }
    wanted[3][1] = NAN;
    assert_refused(&fx, do_search(&fx, &s), PDB_INVALID_ARGUMENT,
                   "queries[3].vector[1]: NaN is not allowed");
    queries[3] = (struct pdb_query){.k = 1};
    assert_refused(&fx, do_search(&fx, &s), PDB_INVALID_ARGUMENT,
                   "queries[3].vector: missing; give a vector or an id");
    queries[3] = (struct pdb_query){.vector = {.values = wanted[2], .count = 1}, .k = 1};
    assert_refused(&fx, do_search(&fx, &s), PDB_INVALID_ARGUMENT,
                   "queries[3].vector: dimension 1, expected 2");
    queries[3] =
        (struct pdb_query){.field = txt("x"), .vector = {.values = wanted[2], .count = 2}, .k = 1};
    assert_refused(&fx, do_search(&fx, &s), PDB_INVALID_ARGUMENT,
                   "queries[3].field: the collection has no vector field 'x'");
    queries[3] = (struct pdb_query){.vector = {.values = wanted[2], .count = 2}, .k = 10001};
    assert_refused(&fx, do_search(&fx, &s), PDB_INVALID_ARGUMENT,
                   "queries[3].k: expected 1 to 10000, found 10001");
    queries[3] =
        (struct pdb_query){.vector = {.values = wanted[2], .count = 2}, .k = 1, .filter = txt("?")};
    assert_refused(&fx, do_search(&fx, &s), PDB_INVALID_ARGUMENT,
                   "queries[3].filter: not a valid document");
    s.query_count = 0;
    assert_refused(&fx, do_search(&fx, &s), PDB_INVALID_ARGUMENT,
                   "queries: expected 1 to 1000, found 0");
    fixture_end(&fx);
}

static void an_empty_collection_answers(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 2);
    const float wanted[2] = {1, 1};
    struct pdb_query q = {.vector = {.values = wanted, .count = 2}, .k = 10};
    struct pdb_search s = {.collection = txt("c"), .queries = &q, .query_count = 1};
    assert_done(&fx, do_search(&fx, &s));
    assert_int_equal(s.results_out[0].count, 0);
    struct pdb_scroll scroll = {.collection = txt("c"), .limit = 5};
    assert_done(&fx, do_scroll(&fx, &scroll));
    assert_int_equal(scroll.row_count_out, 0);
    assert_int_equal(scroll.next_cursor_out.len, 0);
    assert_int_equal(count_of(&fx, "c", NULL), 0);
    fixture_end(&fx);
}

static void a_passed_deadline_stops_every_call(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 2);
    static const char *const text = "the deadline passed before the work was done";
    struct pdb_count c = {.call.deadline_ns = 1, .collection = txt("c")};
    assert_refused(&fx, do_count(&fx, &c), PDB_DEADLINE_EXCEEDED, text);
    struct pdb_record r = {.id = txt("a")};
    struct pdb_write w = {
        .call.deadline_ns = 1, .collection = txt("c"), .records = &r, .record_count = 1};
    assert_refused(&fx, do_write(&fx, &w), PDB_DEADLINE_EXCEEDED, text);
    assert_int_equal(count_of(&fx, "c", NULL), 0);
    fixture_end(&fx);
}

static void results_respect_the_limit_of_their_arena(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 1);
    create(&fx, "c", 2);
    fill(&fx, "c", 200);
    struct arena *all = fx.arena;
    const float wanted[2] = {1, 1};
    int refused = 0, rc = PDB_RESOURCE_EXHAUSTED;
    for (size_t limit = 4096; rc != 0; limit += 4096) {
        fx.arena = pdb_arena_new(limit);
        struct pdb_query q = {.vector = {.values = wanted, .count = 2}, .k = 200, .include = 7};
        struct pdb_search s = {.collection = txt("c"), .queries = &q, .query_count = 1};
        rc = do_search(&fx, &s);
        refused += rc != 0;
        if (rc != 0)
            assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
        pdb_arena_free(fx.arena);
    }
    assert_true(refused > 2);
    fx.arena = all;
    fixture_end(&fx);
}

static void metrics_tell_of_what_happened(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_begin(&fx, 2);
    create(&fx, "c", 2);
    fill(&fx, "c", 10);
    const float wanted[2] = {1, 1};
    struct pdb_query q = {.vector = {.values = wanted, .count = 2}, .k = 1};
    struct pdb_search s = {.collection = txt("c"), .queries = &q, .query_count = 1};
    assert_done(&fx, do_search(&fx, &s));
    struct pdb_stats stats = {.want_metrics = true};
    pdb_call_init(&stats.call, fx.db, fx.arena, NULL);
    assert_int_equal(pdb_wait(&stats.call, do_stats_start), 0);
    assert_int_equal(stats.collections_out, 1);
    assert_int_equal(stats.records_out, 10);
    assert_true(stats.memory_bytes_out > 0);
    assert_false(stats.poisoned_out);
    char *text = strndup(stats.metrics_out.ptr, stats.metrics_out.len);
    assert_non_null(text);
    static const char *const lines[] = {
        "proximadb_writes_total{op=\"upsert\",result=\"ok\"} 10\n",
        "proximadb_memtable_rows{collection=\"c\"} 10\n",
        "proximadb_search_duration_seconds_count{collection=\"c\",plan=\"flat\"} 1\n",
        "proximadb_search_visited_count 1\n",
        "proximadb_ready 1\n",
        "proximadb_write_duration_seconds_count 10\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (strstr(text, lines[i]) == NULL)
            fail_msg("no line %s in\n%s", lines[i], text);
    free(text);
    fixture_end(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_keeps_the_order_of_ids_and_tells_missing_ones),
        cmocka_unit_test(a_scroll_visits_each_record_once_in_order_of_id),
        cmocka_unit_test(a_count_obeys_its_filter),
        cmocka_unit_test(a_search_finds_the_nearest_in_order),
        cmocka_unit_test(each_metric_scores_as_the_contract_says),
        cmocka_unit_test(a_search_by_id_leaves_that_record_out),
        cmocka_unit_test(a_batch_of_searches_answers_each),
        cmocka_unit_test(an_empty_collection_answers),
        cmocka_unit_test(a_passed_deadline_stops_every_call),
        cmocka_unit_test(results_respect_the_limit_of_their_arena),
        cmocka_unit_test(metrics_tell_of_what_happened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
