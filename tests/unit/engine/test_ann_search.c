/* Searches by index: that they find what an exact search finds, wherever they come in and however
 * old the set is that they began with. */
#include "ann_fixture.h"

#include "engine/search_walk.h"
#include "wal/wal_internal.h"

enum { K = 10, ROWS = 3000, QUERY_ROW = 1000000 };

struct world {
    struct fixture fx;
    struct sim_disk *disk;
    struct shard *shard;
    struct arena *arenas[2]; /* of the two answers that are compared */
};

static uint64_t counter(const struct world *w, unsigned at)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < w->fx.db->core_count; i++)
        sum += w->fx.db->cores[i].metrics->values[at];
    return sum;
}

/* Lets everything come to rest: indexes are built and every core has them. */
static bool is_published(const struct shard *shard)
{
    struct pdb *db = shard->core->db;
    if (shard->ann.making != NULL || list_linked(&shard->ann.task.link) ||
        shard->ann.newest == NULL)
        return false;
    for (unsigned i = 0; i < db->core_count; i++)
        if (!shard->ann.newest->shares[i].newest)
            return false;
    return true;
}

static void rest(struct world *w)
{
    ann_rest(&w->fx);
    ann_pump_until(&w->fx, is_published(w->shard));
}

static void begin_field(struct world *w, unsigned cores, struct pdb_field field)
{
    *w = (struct world){.disk = sim_disk_new(7)};
    ann_begin_on(&w->fx, w->disk, cores);
    field.dimension = ANN_DIMENSION;
    struct pdb_collection_create c = {
        .config = {.name = txt("c"), .fields = &field, .field_count = 1}};
    assert_done(&w->fx, do_create(&w->fx, &c));
    w->shard = ann_shard(&w->fx);
    w->arenas[0] = pdb_arena_new(0);
    w->arenas[1] = pdb_arena_new(0);
}

static void begin_empty(struct world *w, unsigned cores, enum pdb_metric metric)
{
    begin_field(w, cores, (struct pdb_field){.metric = metric, .index = PDB_INDEX_HNSW});
}

/* A record's metadata says its number modulo 100. */
static void put_rows(struct world *w, unsigned first, unsigned count)
{
    static float values[ANN_DIMENSION];
    struct pdb_vector vector;
    for (unsigned i = first; i < first + count; i++) {
        char id[16], json[32];
        ann_vector(i, values);
        (void)snprintf(id, sizeof(id), "id-%06u", i);
        (void)snprintf(json, sizeof(json), "{\"m\":%u}", i % 100);
        struct pdb_record r = record(id, &vector, values, ANN_DIMENSION);
        r.metadata = doc(&w->fx, json);
        r.has_metadata = true;
        struct pdb_write write = {.collection = txt("c"), .records = &r, .record_count = 1};
        assert_done(&w->fx, do_write(&w->fx, &write));
        pdb_arena_reset(w->fx.arena);
    }
}

static void begin(struct world *w, unsigned cores)
{
    begin_empty(w, cores, PDB_METRIC_EUCLIDEAN);
    ann_put(&w->fx, "c", 0, ROWS, 0);
    ann_flush(&w->fx);
    rest(w);
}

static void end(struct world *w)
{
    pdb_arena_free(w->arenas[0]);
    pdb_arena_free(w->arenas[1]);
    ann_end(&w->fx, w->disk);
}

static void search_start(struct pdb_call *call)
{
    pdb_search_start(container_of(call, struct pdb_search, call));
}

/* From that core. The hits live in arenas[which]. */
static const struct pdb_hits *search_from(struct world *w, unsigned core, unsigned which,
                                          const struct pdb_query *queries, uint32_t count)
{
    struct flight f = {.start = search_start};
    pdb_arena_reset(w->arenas[which]);
    pdb_call_init(&f.call, w->fx.db, w->arenas[which], flight_done);
    f.search.collection = txt("c");
    f.search.queries = queries;
    f.search.query_count = count;
    flight_send(w->fx.db, core, &f);
    flight_wait(w->fx.db, &f);
    if (f.call.error.code != 0)
        fail_msg("search: %s", f.call.error.text);
    return f.search.results_out;
}

static struct pdb_query query_of(const float *values)
{
    return (struct pdb_query){
        .vector = {.values = values, .count = ANN_DIMENSION, .form = PDB_VECTOR_F32}, .k = K};
}

static unsigned number_of(const struct pdb_hit *hit)
{
    assert_int_equal(hit->row.id.len, 9);
    return (unsigned)strtoul(hit->row.id.ptr + 3, NULL, 10);
}

static uint32_t common(const struct pdb_hits *a, const struct pdb_hits *b)
{
    uint32_t both = 0;
    for (uint32_t i = 0; i < a->count; i++)
        for (uint32_t j = 0; j < b->count; j++)
            if (number_of(&a->hits[i]) == number_of(&b->hits[j])) {
                assert_true(a->hits[i].score == b->hits[j].score);
                both++;
            }
    return both;
}

static void assert_sorted(const struct pdb_hits *hits)
{
    for (uint32_t i = 1; i < hits->count; i++) {
        assert_true(hits->hits[i].score >= hits->hits[i - 1].score); /* of a distance */
        for (uint32_t j = 0; j < i; j++)
            assert_int_not_equal(number_of(&hits->hits[i]), number_of(&hits->hits[j]));
    }
}

/* Recall over `count` queries that differ from all rows, from each core in turn; every answer has
 * as many hits as the exact one. */
static double recall_of(struct world *w, struct pdb_query query, unsigned count)
{
    uint64_t found = 0, all = 0;
    for (unsigned i = 0; i < count; i++) {
        float values[ANN_DIMENSION];
        ann_vector(QUERY_ROW + i, values);
        query.vector.values = values;
        struct pdb_query exact = query;
        exact.exact = true;
        unsigned core = i % w->fx.db->core_count;
        const struct pdb_hits *a = search_from(w, core, 0, &query, 1);
        const struct pdb_hits *b = search_from(w, core, 1, &exact, 1);
        assert_int_equal(a->count, b->count);
        assert_sorted(a);
        found += common(a, b);
        all += b->count;
    }
    return all == 0 ? 1 : (double)found / (double)all;
}

/* ---- finding ---- */

static void an_index_finds_what_an_exact_search_finds_from_every_core(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 3);
    float values[ANN_DIMENSION] = {0};
    double recall = recall_of(&w, query_of(values), 60);
    assert_true(recall >= 0.95);
    assert_int_equal(counter(&w, METRICS_SEARCH_WALKS_AT), 60);
    assert_true(counter(&w, METRICS_SEARCH_DISTANCES_AT) < 60 * ROWS);
    assert_int_equal(counter(&w, METRICS_SEARCH_SETTLED_AGAIN_AT), 0);
    end(&w);
}

static void assert_searched(struct pdb_field field)
{
    struct world w;
    begin_field(&w, 1, field);
    ann_put(&w.fx, "c", 0, ROWS, 7);
    ann_flush(&w.fx);
    rest(&w);
    uint32_t both = 0;
    for (unsigned i = 0; i < 40; i++) {
        float values[ANN_DIMENSION];
        ann_vector(QUERY_ROW + i, values);
        struct pdb_query q = query_of(values), exact = q;
        exact.exact = true;
        q.nprobe = field.index == PDB_INDEX_IVF ? 60 : 0;
        const struct pdb_hits *a = search_from(&w, 0, 0, &q, 1);
        const struct pdb_hits *b = search_from(&w, 0, 1, &exact, 1);
        assert_int_equal(a->count, K);
        both += common(a, b);
    }
    if (both < 380 || counter(&w, METRICS_SEARCH_WALKS_AT) != 40)
        fail_msg("metric %d, index %d, codes %d, elements %d: %u of 400, %u walks", field.metric,
                 field.index, field.quantization, field.element, both,
                 (unsigned)counter(&w, METRICS_SEARCH_WALKS_AT));
    end(&w);
}

static void every_metric_is_searched_by_index(void **state)
{
    (void)state;
    static const enum pdb_metric metrics[] = {PDB_METRIC_COSINE, PDB_METRIC_DOT,
                                              PDB_METRIC_EUCLIDEAN, PDB_METRIC_MANHATTAN};
    for (size_t m = 0; m < sizeof(metrics) / sizeof(metrics[0]); m++)
        assert_searched((struct pdb_field){.metric = metrics[m], .index = PDB_INDEX_HNSW});
}

static void every_kind_of_index_is_searched(void **state)
{
    (void)state;
    static const enum pdb_index_type kinds[] = {PDB_INDEX_HNSW, PDB_INDEX_IVF};
    static const enum pdb_quantization_type codes[] = {PDB_QUANTIZATION_NONE, PDB_QUANTIZATION_SQ8,
                                                       PDB_QUANTIZATION_SQ4};
    for (size_t kind = 0; kind < 2; kind++)
        for (size_t c = 0; c < 3; c++)
            assert_searched((struct pdb_field){
                .metric = PDB_METRIC_EUCLIDEAN, .index = kinds[kind], .quantization = codes[c]});
    assert_searched((struct pdb_field){.metric = PDB_METRIC_COSINE,
                                       .index = PDB_INDEX_FLAT,
                                       .quantization = PDB_QUANTIZATION_SQ8});
}

static void every_element_type_is_searched_by_index(void **state)
{
    (void)state;
    assert_searched((struct pdb_field){
        .metric = PDB_METRIC_COSINE, .index = PDB_INDEX_HNSW, .element = PDB_ELEMENT_FLOAT16});
}

static void young_rows_are_found_beside_those_of_an_index(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    ann_put(&w.fx, "c", ROWS, 500, 0);
    ann_flush(&w.fx);
    ann_put(&w.fx, "c", ROWS + 500, 100, 0);
    float values[ANN_DIMENSION];
    for (unsigned i = 0; i < ROWS + 600; i += 37) {
        ann_vector(i, values);
        struct pdb_query q = query_of(values);
        const struct pdb_hits *hits = search_from(&w, i % 2, 0, &q, 1);
        assert_int_equal(hits->count, K);
        assert_int_equal(number_of(&hits->hits[0]), i);
    }
    assert_true(recall_of(&w, query_of(values), 40) >= 0.95);
    end(&w);
}

static void a_stored_record_is_searched_for_without_itself(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    for (unsigned i = 0; i < 200; i += 10) {
        char id[16];
        (void)snprintf(id, sizeof(id), "id-%06u", i);
        struct pdb_query q = {.id = txt(id), .k = K}, exact = q;
        exact.exact = true;
        const struct pdb_hits *a = search_from(&w, (i / 10) % 2, 0, &q, 1);
        const struct pdb_hits *b = search_from(&w, 0, 1, &exact, 1);
        assert_int_equal(a->count, K);
        assert_true(common(a, b) >= K - 2);
        for (uint32_t h = 0; h < a->count; h++)
            assert_int_not_equal(number_of(&a->hits[h]), i);
    }
    assert_int_equal(counter(&w, METRICS_SEARCH_WALKS_AT), 20);
    end(&w);
}

static void a_batch_is_answered_query_by_query(void **state)
{
    (void)state;
    enum { QUERIES = 150 };
    struct world w;
    begin(&w, 2);
    static float values[QUERIES][ANN_DIMENSION];
    static struct pdb_query queries[QUERIES];
    for (unsigned i = 0; i < QUERIES; i++) {
        ann_vector(i * 3, values[i]);
        queries[i] = query_of(values[i]);
        queries[i].exact = i % 5 == 4;
        queries[i].k = 1 + i % 20;
    }
    for (unsigned core = 0; core < 2; core++)
        for (uint32_t count = 50; count <= QUERIES; count += 100) {
            const struct pdb_hits *hits = search_from(&w, core, 0, queries, count);
            for (unsigned i = 0; i < count; i++) {
                assert_int_equal(hits[i].count, 1 + i % 20);
                assert_int_equal(number_of(&hits[i].hits[0]), i * 3);
            }
        }
    end(&w);
}

static void a_score_limit_holds_for_indexes(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    for (unsigned i = 0; i < 20; i++) {
        float values[ANN_DIMENSION];
        ann_vector(QUERY_ROW + i, values);
        struct pdb_query q = query_of(values);
        const struct pdb_hits *all = search_from(&w, 1, 1, &q, 1);
        q.has_min_score = true;
        q.min_score = all->hits[4].score;
        const struct pdb_hits *near = search_from(&w, i % 2, 0, &q, 1);
        assert_int_equal(near->count, 5);
        assert_int_equal(common(near, all), 5);
    }
    assert_int_equal(counter(&w, METRICS_SEARCH_SETTLED_AGAIN_AT), 0);
    end(&w);
}

static void filters_are_exact_whatever_they_leave(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        unsigned below;
    } filters[] = {{"{\"m\":{\"$lt\":50}}", 50},
                   {"{\"m\":{\"$lt\":10}}", 10},
                   {"{\"m\":3}", 4},
                   {"{\"m\":200}", 0}};
    struct world w;
    begin_empty(&w, 2, PDB_METRIC_EUCLIDEAN);
    put_rows(&w, 0, 2500);
    ann_flush(&w.fx);
    rest(&w);
    for (size_t f = 0; f < 4; f++) {
        float values[ANN_DIMENSION] = {0};
        struct pdb_query q = query_of(values);
        q.filter = doc(&w.fx, filters[f].json);
        assert_true(recall_of(&w, q, 20) >= 0.95);
        ann_vector(QUERY_ROW, values);
        const struct pdb_hits *hits = search_from(&w, 1, 0, &q, 1);
        assert_int_equal(hits->count, filters[f].below == 0 ? 0 : K);
        for (uint32_t h = 0; h < hits->count; h++)
            assert_true(number_of(&hits->hits[h]) % 100 < filters[f].below);
    }
    assert_int_equal(counter(&w, METRICS_SEARCH_WALKS_AT), 4 * 21);
    end(&w);
}

static void k_of_all_rows_are_all_rows(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    float values[ANN_DIMENSION];
    ann_vector(5, values);
    struct pdb_query q = query_of(values);
    q.k = 10000;
    assert_int_equal(search_from(&w, 0, 0, &q, 1)->count, ROWS);
    assert_int_equal(search_from(&w, 1, 0, &q, 1)->count, ROWS);
    end(&w);
}

/* ---- rows that end ---- */

static void delete_number(struct world *w, unsigned number)
{
    char id[16];
    (void)snprintf(id, sizeof(id), "id-%06u", number);
    struct pdb_text ids[1] = {txt(id)};
    struct pdb_delete d = {.collection = txt("c"), .ids = ids, .id_count = 1};
    assert_done(&w->fx, do_delete(&w->fx, &d));
}

static void deleted_rows_are_not_found_though_the_set_is_old(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    float values[ANN_DIMENSION];
    ann_vector(QUERY_ROW, values);
    struct pdb_query q = query_of(values);
    const struct ann_set *set = w.shard->ann.newest;
    unsigned rounds = 0;
    for (; rounds < 5; rounds++) {
        const struct pdb_hits *hits = search_from(&w, rounds % 2, 1, &q, 1);
        assert_int_equal(hits->count, K);
        unsigned gone[K];
        for (uint32_t h = 0; h < K; h++)
            gone[h] = number_of(&hits->hits[h]);
        for (uint32_t h = 0; h < K; h++)
            delete_number(&w, gone[h]);
        hits = search_from(&w, (rounds + 1) % 2, 1, &q, 1);
        assert_int_equal(hits->count, K);
        for (uint32_t h = 0; h < K; h++)
            for (uint32_t g = 0; g < K; g++)
                assert_int_not_equal(number_of(&hits->hits[h]), gone[g]);
    }
    assert_true(counter(&w, METRICS_SEARCH_STALE_AT) >= K);
    assert_true(counter(&w, METRICS_SEARCH_SETTLED_AGAIN_AT) > 0);
    assert_true(recall_of(&w, query_of(values), 20) >= 0.95);
    /* and soon every core knows */
    ann_pump_until(&w.fx, w.shard->ann.newest != set && is_published(w.shard));
    sim_run(w.fx.db, 1000000000);
    ann_pump_until(&w.fx, is_published(w.shard));
    uint64_t stale = counter(&w, METRICS_SEARCH_STALE_AT);
    assert_true(recall_of(&w, query_of(values), 20) >= 0.95);
    assert_int_equal(counter(&w, METRICS_SEARCH_STALE_AT), stale);
    end(&w);
}

/* The k nearest lie close together and all others far away: an index names few more than these k,
 * whatever its kind, and knows no row behind them. */
static void assert_all_found_after_deletes(struct pdb_field field)
{
    enum { NEAR = 40, FAR = 2000, GONE = 15 };
    struct world w;
    begin_field(&w, 2, field);
    ann_put(&w.fx, "c", 0, FAR, 0);
    float near[NEAR][ANN_DIMENSION], middle[ANN_DIMENSION];
    for (int d = 0; d < ANN_DIMENSION; d++)
        middle[d] = 30;
    for (unsigned i = 0; i < NEAR; i++) {
        struct pdb_vector vector;
        char id[16];
        ann_vector(FAR + i, near[i]);
        for (int d = 0; d < ANN_DIMENSION; d++)
            near[i][d] = middle[d] + 0.01f * near[i][d];
        (void)snprintf(id, sizeof(id), "id-%06u", FAR + i);
        struct pdb_record r = record(id, &vector, near[i], ANN_DIMENSION);
        struct pdb_write write = {.collection = txt("c"), .records = &r, .record_count = 1};
        assert_done(&w.fx, do_write(&w.fx, &write));
    }
    ann_flush(&w.fx);
    rest(&w);
    struct pdb_query q = query_of(middle);
    q.k = NEAR;
    q.nprobe = field.index == PDB_INDEX_IVF ? 1 : 0;
    assert_int_equal(search_from(&w, 0, 0, &q, 1)->count, NEAR);
    for (unsigned i = 0; i < GONE; i++)
        delete_number(&w, FAR + i);
    for (unsigned core = 0; core < 2; core++) {
        const struct pdb_hits *hits = search_from(&w, core, 0, &q, 1);
        if (hits->count != NEAR)
            fail_msg("index %d, codes %d: %u hits of %d", field.index, field.quantization,
                     hits->count, NEAR);
        assert_sorted(hits);
    }
    assert_true(counter(&w, METRICS_SEARCH_STALE_AT) >= GONE);
    end(&w);
}

static void rows_that_no_index_named_take_the_place_of_deleted_ones(void **state)
{
    (void)state;
    static const struct pdb_field fields[] = {
        {.index = PDB_INDEX_HNSW, .quantization = PDB_QUANTIZATION_SQ8},
        {.index = PDB_INDEX_HNSW, .quantization = PDB_QUANTIZATION_NONE},
        {.index = PDB_INDEX_HNSW, .quantization = PDB_QUANTIZATION_BINARY},
        {.index = PDB_INDEX_FLAT, .quantization = PDB_QUANTIZATION_BINARY},
        {.index = PDB_INDEX_IVF, .quantization = PDB_QUANTIZATION_SQ8},
        {.index = PDB_INDEX_IVF, .quantization = PDB_QUANTIZATION_BINARY},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        struct pdb_field field = fields[i];
        field.metric = PDB_METRIC_EUCLIDEAN;
        assert_all_found_after_deletes(field);
    }
}

static void an_updated_row_is_found_once_and_where_it_is_now(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    for (unsigned i = 0; i < 300; i += 3) {
        float values[ANN_DIMENSION], before[ANN_DIMENSION];
        char id[16];
        (void)snprintf(id, sizeof(id), "id-%06u", i);
        ann_vector(i, before);
        ann_vector(QUERY_ROW + i, values);
        assert_done(&w.fx, put(&w.fx, "c", id, values, ANN_DIMENSION, NULL));
        struct pdb_query q = query_of(values);
        const struct pdb_hits *hits = search_from(&w, i % 2, 0, &q, 1);
        assert_int_equal(hits->count, K);
        assert_int_equal(number_of(&hits->hits[0]), i);
        assert_true(hits->hits[0].score == 0);
        assert_sorted(hits);
        q = query_of(before);
        hits = search_from(&w, i % 2, 0, &q, 1);
        assert_int_equal(hits->count, K);
        assert_true(hits->hits[0].score > 0);
        assert_sorted(hits);
    }
    float values[ANN_DIMENSION] = {0};
    assert_true(recall_of(&w, query_of(values), 30) >= 0.95);
    end(&w);
}

static void most_rows_may_end(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    for (unsigned i = 0; i < ROWS; i++)
        if (i % 100 != 0)
            delete_number(&w, i);
    float values[ANN_DIMENSION];
    ann_vector(QUERY_ROW, values);
    struct pdb_query q = query_of(values);
    assert_int_equal(search_from(&w, 0, 0, &q, 1)->count, K);
    assert_true(recall_of(&w, q, 20) >= 0.95);
    q.k = 100;
    assert_int_equal(search_from(&w, 1, 0, &q, 1)->count, ROWS / 100);
    for (unsigned i = 0; i < ROWS; i += 100)
        delete_number(&w, i);
    assert_int_equal(search_from(&w, 1, 0, &q, 1)->count, 0);
    end(&w);
}

static void expired_rows_are_not_found(void **state)
{
    (void)state;
    struct world w;
    begin_empty(&w, 2, PDB_METRIC_EUCLIDEAN);
    for (unsigned i = 0; i < 600; i++) {
        float values[ANN_DIMENSION];
        struct pdb_vector vector;
        char id[16];
        ann_vector(i, values);
        (void)snprintf(id, sizeof(id), "id-%06u", i);
        struct pdb_record r = record(id, &vector, values, ANN_DIMENSION);
        r.has_expires_at = i % 2 == 0;
        r.expires_at_us = w.shard->core->r->now_realtime_us + (int64_t)3600 * 1000000;
        struct pdb_write write = {.collection = txt("c"), .records = &r, .record_count = 1};
        assert_done(&w.fx, do_write(&w.fx, &write));
        pdb_arena_reset(w.fx.arena);
    }
    ann_flush(&w.fx);
    rest(&w);
    float values[ANN_DIMENSION];
    ann_vector(10, values);
    struct pdb_query q = query_of(values);
    assert_int_equal(number_of(&search_from(&w, 0, 0, &q, 1)->hits[0]), 10);
    sim_advance(w.disk, (uint64_t)3601 * 1000000000);
    for (unsigned i = 0; i < 40; i++) {
        ann_vector(i, values);
        const struct pdb_hits *hits = search_from(&w, i % 2, 0, &q, 1);
        assert_int_equal(hits->count, K);
        for (uint32_t h = 0; h < K; h++)
            assert_int_equal(number_of(&hits->hits[h]) % 2, 1);
    }
    end(&w);
}

/* ---- sets that come and go ---- */

static struct flight *flying(struct world *w, unsigned core, const struct pdb_query *query)
{
    struct flight *f = flight_new(w->fx.db, search_start);
    f->search.collection = txt("c");
    f->search.queries = query;
    f->search.query_count = 1;
    flight_send(w->fx.db, core, f);
    return f;
}

static void landed(struct flight *f)
{
    pdb_arena_free(f->arena);
    free(f);
}

static unsigned sets_of(const struct shard *shard)
{
    unsigned count = 0;
    list_each (link, &shard->core->ann_sets)
        count++;
    return count;
}

static void a_set_lives_as_long_as_a_search_uses_it(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    unsigned other = 1 - w.shard->core->id;
    struct engine_core *away = &w.fx.db->cores[other];
    assert_int_equal(sets_of(w.shard), 1);
    struct ann_share *share = ann_share_take(away, &w.shard->uuid);
    assert_non_null(share);
    ann_set_changed(w.shard);
    ann_pump_until(&w.fx, w.shard->ann.newest != share->set && is_published(w.shard));
    sim_run(w.fx.db, 10000000);
    assert_int_equal(sets_of(w.shard), 2);
    ann_share_give(away, share);
    ann_pump_until(&w.fx, sets_of(w.shard) == 1);
    end(&w);
}

/* Sets are behind the segments in all ways: with parts that were merged, without new ones. */
static void flushes_and_merges_beside_searches_lose_nothing(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    float values[ANN_DIMENSION];
    ann_vector(QUERY_ROW, values);
    struct pdb_query q = query_of(values), exact = q;
    exact.exact = true;
    unsigned searches = 0;
    for (unsigned part = 0; part < 14; part++) {
        ann_put(&w.fx, "c", ROWS + 300 * part, 300, 0);
        const struct pdb_hits *right = search_from(&w, 0, 1, &exact, 1);
        upkeep_flush_soon(w.shard);
        for (unsigned i = 0; i < 60; i++, searches++) {
            const struct pdb_hits *hits = search_from(&w, i % 2, 0, &q, 1);
            assert_int_equal(hits->count, K);
            assert_true(common(hits, right) >= K - 1);
            for (unsigned turn = 0; turn < i; turn++)
                sim_turn(w.fx.db);
        }
        ann_pump_until(&w.fx, w.shard->upkeep->flushed_version == w.shard->version_visible);
    }
    assert_true(counter(&w, METRICS_COMPACTIONS_AT) > 0);
    assert_true(counter(&w, METRICS_SEARCH_WALKS_AT) >= searches);
    rest(&w);
    sim_run(w.fx.db, 1000000000);
    assert_int_equal(sets_of(w.shard), 1);
    end(&w);
}

static void a_drop_takes_the_sets_back(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    struct engine_core *owner = w.shard->core, *away = &w.fx.db->cores[1 - owner->id];
    float values[ANN_DIMENSION];
    ann_vector(QUERY_ROW, values);
    struct pdb_query q = query_of(values);
    struct ann_share *share = ann_share_take(away, &w.shard->uuid);
    struct uuid uuid = w.shard->uuid;
    struct flight *f[4];
    for (unsigned i = 0; i < 4; i++)
        f[i] = flying(&w, i % 2, &q);
    struct pdb_collection_delete d = {.name = txt("c")};
    assert_done(&w.fx, do_drop(&w.fx, &d));
    for (unsigned i = 0; i < 4; i++) {
        flight_wait(w.fx.db, f[i]);
        assert_true(f[i]->call.error.code == 0 || f[i]->call.error.code == PDB_NOT_FOUND);
        landed(f[i]);
    }
    sim_run(w.fx.db, 1000000000);
    assert_null(ann_share_take(owner, &uuid));
    assert_null(ann_share_take(away, &uuid));
    assert_false(list_empty(&owner->ann_sets));
    ann_share_give(away, share);
    ann_pump_until(&w.fx, owner->upkeep_active == 0);
    assert_true(list_empty(&owner->ann_sets));
    assert_int_equal(owner->segment_bytes, 0);
    end(&w);
}

static void a_search_may_be_cancelled_anywhere(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    float values[ANN_DIMENSION];
    ann_vector(QUERY_ROW, values);
    struct pdb_query q = query_of(values);
    for (unsigned turns = 0; turns < 30; turns++) {
        struct flight *f = flying(&w, turns % 2, &q);
        for (unsigned i = 0; i < turns && !f->done; i++)
            sim_turn(w.fx.db);
        if (!f->done)
            pdb_call_cancel(&f->call);
        flight_wait(w.fx.db, f);
        assert_true(f->call.error.code == 0 || f->call.error.code == PDB_CANCELLED);
        landed(f);
    }
    assert_true(recall_of(&w, q, 10) >= 0.95);
    end(&w);
}

static void a_crash_with_sets_and_searches_leaves_nothing_behind(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    float values[ANN_DIMENSION];
    ann_vector(QUERY_ROW, values);
    (void)ann_share_take(&w.fx.db->cores[0], &w.shard->uuid);
    ann_set_changed(w.shard);
    sim_turn(w.fx.db);
    sim_disk_crash(w.disk);
    engine_abandon_sim(w.fx.db, wal_abandon);
    pdb_arena_free(w.fx.arena);
    pdb_arena_free(w.arenas[0]);
    pdb_arena_free(w.arenas[1]);
    sim_disk_free(w.disk);
}

/* ---- memory ---- */

/* Neither from a core's nor, by an arena that has seen a search, from the process's. */
static void a_search_takes_nothing_from_the_heap(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    float values[ANN_DIMENSION];
    ann_vector(QUERY_ROW, values);
    struct pdb_query q = query_of(values);
    for (unsigned i = 0; i < 600; i++) /* scratch, and samples of recent searches, are there */
        (void)search_from(&w, i % 2, 0, &q, 1);
    uint64_t before[2];
    for (unsigned i = 0; i < 2; i++)
        before[i] = w.fx.db->cores[i].r->heap.allocation_count;
    for (unsigned i = 0; i < 200; i++) {
        ann_vector(QUERY_ROW + i, values);
        pdb_arena_reset(w.arenas[0]);
        size_t arena_bytes = w.arenas[0]->bytes_used;
        (void)search_from(&w, i % 2, 0, &q, 1);
        assert_int_equal(w.arenas[0]->bytes_used, arena_bytes);
    }
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(w.fx.db->cores[i].r->heap.allocation_count, before[i]);
    end(&w);
}

static void without_memory_for_scratch_a_search_is_exact(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 2);
    struct heap *heaps[2] = {&w.fx.db->cores[0].r->heap, &w.fx.db->cores[1].r->heap};
    for (unsigned i = 0; i < 2; i++)
        heaps[i]->bytes_max = heaps[i]->bytes_used + 4096;
    float values[ANN_DIMENSION] = {0};
    assert_true(recall_of(&w, query_of(values), 10) == 1);
    assert_int_equal(counter(&w, METRICS_SEARCH_WALKS_AT), 0);
    for (unsigned i = 0; i < 2; i++)
        heaps[i]->bytes_max = 0;
    assert_true(recall_of(&w, query_of(values), 10) >= 0.9);
    assert_int_equal(counter(&w, METRICS_SEARCH_WALKS_AT), 10);
    end(&w);
}

static void count_run(struct task *task)
{
    task->run = NULL; /* it has run */
}

/* Those that have scratch go on to larger segments, and there is no memory for it. */
static void who_waits_for_scratch_goes_on_when_there_is_none_left(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 1);
    struct engine_core *core = &w.fx.db->cores[0];
    struct index small = {.codes.row_count = 100, .quantizer.dimension = ANN_DIMENSION};
    struct index large = {.codes.row_count = 4000000, .quantizer.dimension = ANN_DIMENSION};
    struct task tasks[WALK_SCRATCHES + 2] = {0};
    struct walk walks[WALK_SCRATCHES + 2] = {0};
    for (unsigned i = 0; i < WALK_SCRATCHES + 2; i++) {
        tasks[i].run = count_run;
        walks[i].core = core;
        walks[i].task = &tasks[i];
        assert_int_equal(walk_pool_take(&walks[i], &small),
                         i < WALK_SCRATCHES ? WALK_TAKEN : WALK_IN_LINE);
    }
    core->r->heap.bytes_max = core->r->heap.bytes_used + 4096;
    for (unsigned i = 0; i < WALK_SCRATCHES; i++)
        assert_int_equal(walk_pool_take(&walks[i], &large), WALK_NO_MEMORY);
    core->r->heap.bytes_max = 0;
    walk_end(&walks[WALK_SCRATCHES]); /* one was cancelled meanwhile */
    sim_run(w.fx.db, 1000000);
    assert_null(tasks[WALK_SCRATCHES + 1].run);
    assert_int_equal(walk_pool_take(&walks[WALK_SCRATCHES + 1], &small), WALK_TAKEN);
    walk_end(&walks[WALK_SCRATCHES + 1]);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_index_finds_what_an_exact_search_finds_from_every_core),
        cmocka_unit_test(every_metric_is_searched_by_index),
        cmocka_unit_test(every_kind_of_index_is_searched),
        cmocka_unit_test(every_element_type_is_searched_by_index),
        cmocka_unit_test(young_rows_are_found_beside_those_of_an_index),
        cmocka_unit_test(a_stored_record_is_searched_for_without_itself),
        cmocka_unit_test(a_batch_is_answered_query_by_query),
        cmocka_unit_test(a_score_limit_holds_for_indexes),
        cmocka_unit_test(filters_are_exact_whatever_they_leave),
        cmocka_unit_test(k_of_all_rows_are_all_rows),
        cmocka_unit_test(deleted_rows_are_not_found_though_the_set_is_old),
        cmocka_unit_test(rows_that_no_index_named_take_the_place_of_deleted_ones),
        cmocka_unit_test(an_updated_row_is_found_once_and_where_it_is_now),
        cmocka_unit_test(most_rows_may_end),
        cmocka_unit_test(expired_rows_are_not_found),
        cmocka_unit_test(a_set_lives_as_long_as_a_search_uses_it),
        cmocka_unit_test(flushes_and_merges_beside_searches_lose_nothing),
        cmocka_unit_test(a_drop_takes_the_sets_back),
        cmocka_unit_test(a_search_may_be_cancelled_anywhere),
        cmocka_unit_test(a_crash_with_sets_and_searches_leaves_nothing_behind),
        cmocka_unit_test(a_search_takes_nothing_from_the_heap),
        cmocka_unit_test(without_memory_for_scratch_a_search_is_exact),
        cmocka_unit_test(who_waits_for_scratch_goes_on_when_there_is_none_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
