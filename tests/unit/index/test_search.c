/* Searches: steps, tombstones, filters, scans, re-ranking: src/index/search.c, hnsw_search.c. */
#include "index_fixture.h"

enum { DIMENSION = 24, ROWS = 3000, QUERIES = 40, CLUSTERS = 30 };

static const struct index_query ten = {.k = 10, .gamma = -1};

struct fixture {
    struct data data, queries;
    struct built built;
    struct index_scratch *scratch;
    uint64_t *mask; /* ROWS bits */
};

static int open_fixture(void **state)
{
    static struct fixture fx;
    fx.data = data_clustered(ROWS, DIMENSION, CLUSTERS, 21, 0, false);
    fx.queries = data_clustered(QUERIES, DIMENSION, CLUSTERS, 21, 1, false);
    build_index(&fx.built, &fx.data, PDB_METRIC_EUCLIDEAN);
    assert_int_equal(index_scratch_open(&fx.built.heap, ROWS, DIMENSION, &fx.scratch), PDB_OK);
    fx.mask = calloc(ROWS / 64 + 1, sizeof(uint64_t));
    *state = &fx;
    return fx.mask == NULL;
}

static int close_fixture(void **state)
{
    struct fixture *fx = *state;
    index_scratch_close(fx->scratch, &fx->built.heap);
    built_free(&fx->built);
    data_free(&fx->data);
    data_free(&fx->queries);
    free(fx->mask);
    return 0;
}

/* Sets the bits of rows drawn with this probability; returns how many. */
static uint32_t draw_mask(struct fixture *fx, double share, uint64_t seed)
{
    struct rng rng;
    uint32_t count = 0;
    rng_seed(&rng, seed);
    memset(fx->mask, 0, (ROWS / 64 + 1) * sizeof(uint64_t));
    for (uint32_t row = 0; row < ROWS; row++)
        if (rng_unit(&rng) < share) {
            fx->mask[row / 64] |= (uint64_t)1 << (row % 64);
            count++;
        }
    return count;
}

static void any_budget_gives_the_same_answer(void **state)
{
    struct fixture *fx = *state;
    static struct hits whole, stepped;
    for (uint32_t i = 0; i < QUERIES; i++) {
        struct index_query query = ten;
        query.vector = vector_of(&fx->queries, i);
        find(&fx->built.index, &fx->data, fx->scratch, &query, UINT32_MAX, &whole);
        find(&fx->built.index, &fx->data, fx->scratch, &query, 1 + i % 3, &stepped);
        assert_int_equal(whole.count, stepped.count);
        assert_memory_equal(whole.hit, stepped.hit, whole.count * sizeof whole.hit[0]);
        assert_int_equal(whole.stats.distances, stepped.stats.distances);
    }
}

static void a_step_stays_near_its_budget(void **state)
{
    struct fixture *fx = *state;
    struct index_search search;
    struct index_candidate candidates[12];
    struct index_query query = {.k = 10, .gamma = 0, .ef = 500};
    query.vector = vector_of(&fx->queries, 0);
    index_search_begin(&search, fx->scratch, &fx->built.index, &query);
    uint64_t before = search.stats.distances;
    uint32_t steps = 0;
    while (!index_search_step(&search, 100)) {
        assert_true(search.stats.distances - before <= 100 + 32);
        before = search.stats.distances;
        steps++;
    }
    assert_true(steps >= 5);
    assert_int_equal(index_search_end(&search, candidates), 12);
}

static void a_wider_search_finds_more(void **state)
{
    struct fixture *fx = *state;
    struct index_query narrow = {.k = 10, .gamma = 0, .ef = 12};
    struct index_query wide = {.k = 10, .gamma = 0, .ef = 400};
    struct index_query far = {.k = 10, .gamma = 0.5f};
    double few = recall_of(&fx->built, &fx->data, &fx->queries, &narrow, NULL);
    assert_recall(recall_of(&fx->built, &fx->data, &fx->queries, &wide, NULL), few);
    assert_recall(recall_of(&fx->built, &fx->data, &fx->queries, &wide, NULL), 0.99);
    assert_recall(recall_of(&fx->built, &fx->data, &fx->queries, &far, NULL), 0.99);
}

static void assert_none_of(const struct fixture *fx, const struct hits *hits)
{
    for (uint32_t i = 0; i < hits->count; i++) {
        uint32_t row = hits->hit[i].row;
        assert_int_equal(fx->mask[row / 64] >> (row % 64) & 1, 0);
    }
}

/* From none to nearly all dead: always ten live ones, and the right ones. */
static void dead_rows_never_come_back_and_live_ones_do(void **state)
{
    struct fixture *fx = *state;
    const double shares[] = {0, 0.1, 0.3, 0.6, 0.9, 0.99};
    static struct hits hits;
    for (size_t s = 0; s < sizeof shares / sizeof shares[0]; s++) {
        struct index_query query = ten;
        uint64_t alive[ROWS / 64 + 1] = {0};
        (void)draw_mask(fx, shares[s], 5);
        query.dead = fx->mask;
        for (uint32_t row = 0; row < ROWS; row++)
            if ((fx->mask[row / 64] >> (row % 64) & 1) == 0)
                alive[row / 64] |= (uint64_t)1 << (row % 64);
        assert_recall(recall_of(&fx->built, &fx->data, &fx->queries, &query, alive), 0.95);
        for (uint32_t i = 0; i < QUERIES; i++) {
            query.vector = vector_of(&fx->queries, i);
            find(&fx->built.index, &fx->data, fx->scratch, &query, 1500, &hits);
            assert_int_equal(hits.count, 10);
            assert_none_of(fx, &hits);
        }
    }
}

static void when_all_are_dead_nothing_is_found(void **state)
{
    struct fixture *fx = *state;
    static struct hits hits;
    struct index_query query = ten;
    assert_int_equal(draw_mask(fx, 2, 1), ROWS);
    query.dead = fx->mask;
    query.vector = vector_of(&fx->queries, 0);
    find(&fx->built.index, &fx->data, fx->scratch, &query, 100, &hits);
    assert_int_equal(hits.count, 0);
}

static void a_filter_of_any_selectivity_is_honoured(void **state)
{
    struct fixture *fx = *state;
    const double shares[] = {0.002, 0.03, 0.35, 0.5, 0.9};
    for (size_t s = 0; s < sizeof shares / sizeof shares[0]; s++)
        for (uint32_t known = 0; known < 2; known++) {
            struct index_query query = ten;
            uint32_t count = draw_mask(fx, shares[s], 6);
            query.allowed = fx->mask;
            query.allowed_count = known ? count : 0;
            query.k = count < 10 ? count : 10;
            assert_recall(recall_of(&fx->built, &fx->data, &fx->queries, &query, fx->mask), 0.95);
        }
}

/* The rows allowed are those of one cluster, the queries are of others. */
static void a_filter_far_from_the_query_is_honoured(void **state)
{
    struct fixture *fx = *state;
    const float *centre = vector_of(&fx->data, 17);
    uint32_t count = 0;
    memset(fx->mask, 0, (ROWS / 64 + 1) * sizeof(uint64_t));
    for (uint32_t row = 0; row < ROWS; row++)
        if (exact_distance(PDB_METRIC_EUCLIDEAN, centre, vector_of(&fx->data, row), DIMENSION) <
            30) {
            fx->mask[row / 64] |= (uint64_t)1 << (row % 64);
            count++;
        }
    assert_in_range(count, 20, ROWS / 4);
    struct index_query query = ten;
    query.allowed = fx->mask; /* the count is unknown, so a walk begins */
    assert_recall(recall_of(&fx->built, &fx->data, &fx->queries, &query, fx->mask), 0.95);
}

static bool is_even(const void *owner, uint32_t row)
{
    ++*(uint64_t *)(uintptr_t)owner;
    return row % 2 == 0;
}

static void a_callback_is_asked_and_obeyed(void **state)
{
    struct fixture *fx = *state;
    static struct hits hits;
    uint64_t asked = 0;
    struct index_query query = ten;
    query.accepts = is_even;
    query.owner = &asked;
    query.vector = vector_of(&fx->queries, 3);
    find(&fx->built.index, &fx->data, fx->scratch, &query, 1500, &hits);
    assert_int_equal(hits.count, 10);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(hits.hit[i].row % 2, 0);
    assert_true(asked > 0);
    (void)draw_mask(fx, 0, 1);
    for (uint32_t row = 0; row < ROWS; row++)
        if (row % 2 == 0)
            fx->mask[row / 64] |= (uint64_t)1 << (row % 64);
    query.vector = NULL;
    assert_recall(recall_of(&fx->built, &fx->data, &fx->queries, &query, fx->mask), 0.95);
}

static void k_larger_than_the_segment_gives_all_rows_in_order(void **state)
{
    (void)state;
    struct data data = data_clustered(300, DIMENSION, 5, 3, 0, false);
    struct built built;
    struct index_scratch *scratch = NULL;
    static struct hits hits;
    build_index(&built, &data, PDB_METRIC_COSINE);
    assert_int_equal(index_scratch_open(&built.heap, 300, DIMENSION, &scratch), PDB_OK);
    struct index_query query = {.vector = vector_of(&data, 0), .k = 500, .gamma = -1};
    find(&built.index, &data, scratch, &query, 7, &hits);
    assert_int_equal(hits.count, 300);
    for (uint32_t i = 1; i < 300; i++)
        assert_true(hits.hit[i - 1].distance <= hits.hit[i].distance);
    index_scratch_close(scratch, &built.heap);
    built_free(&built);
    data_free(&data);
}

/* Codes alone, of both kinds, without a graph. */
static void a_flat_index_is_scanned(void **state)
{
    (void)state;
    const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};
    const enum quantize_kind kinds[] = {QUANTIZE_SQ8, QUANTIZE_SQ4};
    const double least[] = {0.97, 0.85};
    struct data data = data_clustered(1000, 100, 20, 31, 0, false);
    struct data queries = data_clustered(QUERIES, 100, 20, 31, 1, false);
    for (size_t kind = 0; kind < 2; kind++)
        for (size_t metric = 0; metric < 3; metric++) {
            struct built built = {0};
            build_codes(&built, &data, kinds[kind], metrics[metric]);
            struct index_query query = {.k = 10, .gamma = -1, .want = kind == 0 ? 12 : 20};
            assert_recall(recall_of(&built, &data, &queries, &query, NULL), least[kind]);
            built_free(&built);
        }
    data_free(&data);
    data_free(&queries);
}

/* A graph built on bytes navigates by half bytes. */
static void a_graph_may_be_searched_by_codes_of_four_bits(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, 100, CLUSTERS, 32, 0, false);
    struct data queries = data_clustered(QUERIES, 100, CLUSTERS, 32, 1, false);
    struct built wide = {0}, narrow = {0};
    struct hnsw_params params = {.seed = 3};
    struct hnsw graph;
    build_codes(&wide, &data, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
    build_graph(&wide, &params, 1, &graph);
    narrow.heap = wide.heap; /* one heap holds the graph and both sets of codes */
    build_codes(&narrow, &data, QUANTIZE_SQ4, PDB_METRIC_EUCLIDEAN);
    index_set_graph(&narrow.index, &graph);
    struct index_query query = {.k = 10, .gamma = 0.2f, .want = 25};
    assert_recall(recall_of(&narrow, &data, &queries, &query, NULL), 0.95);
    wide.heap = narrow.heap;
    index_dispose(&wide.index, &wide.heap);
    narrow.heap = wide.heap;
    built_free(&narrow);
    data_free(&data);
    data_free(&queries);
}

static void an_empty_index_answers_nothing(void **state)
{
    (void)state;
    struct data data = data_new(0, DIMENSION);
    struct built built = {0};
    struct index_scratch *scratch = NULL;
    static struct hits hits;
    float vector[DIMENSION] = {1};
    build_codes(&built, &data, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
    assert_int_equal(index_scratch_open(&built.heap, 0, DIMENSION, &scratch), PDB_OK);
    struct index_query query = {.vector = vector, .k = 10, .gamma = -1};
    find(&built.index, &data, scratch, &query, 10, &hits);
    assert_int_equal(hits.count, 0);
    index_scratch_close(scratch, &built.heap);
    built_free(&built);
    data_free(&data);
}

static void searching_allocates_nothing(void **state)
{
    struct fixture *fx = *state;
    static struct hits hits;
    struct index_query query = ten;
    uint64_t before = fx->built.heap.allocation_count;
    for (uint32_t i = 0; i < 300; i++) { /* past the point where marks are cleared */
        query.vector = vector_of(&fx->queries, i % QUERIES);
        find(&fx->built.index, &fx->data, fx->scratch, &query, 1500, &hits);
        assert_int_equal(hits.count, 10);
    }
    assert_int_equal(fx->built.heap.allocation_count, before);
}

static void a_scratch_is_made_whole_or_not_at_all(void **state)
{
    (void)state;
    struct heap heap = {.fail_at = 1};
    struct index_scratch *scratch = NULL;
    assert_int_equal(index_scratch_open(&heap, 100, 10, &scratch), PDB_RESOURCE_EXHAUSTED);
    assert_null(scratch);
    assert_int_equal(heap.bytes_used, 0);
    index_scratch_close(NULL, &heap);
}

static void a_dropped_search_leaves_the_scratch_usable(void **state)
{
    struct fixture *fx = *state;
    struct index_search search;
    static struct hits first, again;
    struct index_query query = ten;
    query.vector = vector_of(&fx->queries, 1);
    find(&fx->built.index, &fx->data, fx->scratch, &query, 1500, &first);
    index_search_begin(&search, fx->scratch, &fx->built.index, &query);
    (void)index_search_step(&search, 5);
    find(&fx->built.index, &fx->data, fx->scratch, &query, 1500, &again);
    assert_memory_equal(first.hit, again.hit, first.count * sizeof first.hit[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_budget_gives_the_same_answer),
        cmocka_unit_test(a_step_stays_near_its_budget),
        cmocka_unit_test(a_wider_search_finds_more),
        cmocka_unit_test(dead_rows_never_come_back_and_live_ones_do),
        cmocka_unit_test(when_all_are_dead_nothing_is_found),
        cmocka_unit_test(a_filter_of_any_selectivity_is_honoured),
        cmocka_unit_test(a_filter_far_from_the_query_is_honoured),
        cmocka_unit_test(a_callback_is_asked_and_obeyed),
        cmocka_unit_test(k_larger_than_the_segment_gives_all_rows_in_order),
        cmocka_unit_test(a_flat_index_is_scanned),
        cmocka_unit_test(a_graph_may_be_searched_by_codes_of_four_bits),
        cmocka_unit_test(an_empty_index_answers_nothing),
        cmocka_unit_test(searching_allocates_nothing),
        cmocka_unit_test(a_scratch_is_made_whole_or_not_at_all),
        cmocka_unit_test(a_dropped_search_leaves_the_scratch_usable),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
