/* Building and checking graphs, and what they find: src/index/hnsw_*.c. */
#include "index_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

enum { DIMENSION = 24, ROWS = 3000, QUERIES = 60, CLUSTERS = 30 };

static const struct index_query ten = {.k = 10, .gamma = -1};

static void a_graph_finds_what_the_exact_scan_finds(void **state)
{
    (void)state;
    const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};
    for (size_t i = 0; i < 3; i++) {
        struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 1, 0, false);
        struct data queries = data_clustered(QUERIES, DIMENSION, CLUSTERS, 1, 1, false);
        struct built built;
        build_index(&built, &data, metrics[i]);
        assert_sound(&built.index.graph);
        assert_recall(recall_of(&built, &data, &queries, &ten, NULL), 0.95);
        built_free(&built);
        data_free(&data);
        data_free(&queries);
    }
}

static void rows_sorted_by_cluster_are_found_as_well(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 2, 0, true);
    struct data queries = data_clustered(QUERIES, DIMENSION, CLUSTERS, 2, 1, false);
    struct built built;
    build_index(&built, &data, PDB_METRIC_EUCLIDEAN);
    assert_sound(&built.index.graph);
    assert_recall(recall_of(&built, &data, &queries, &ten, NULL), 0.95);
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

static void assert_same_graph(const struct hnsw *a, const struct hnsw *b)
{
    assert_int_equal(a->row_count, b->row_count);
    assert_int_equal(a->level_count, b->level_count);
    assert_int_equal(a->entry, b->entry);
    assert_memory_equal(a->links, b->links, (size_t)a->row_count * a->link_max0 * sizeof(uint32_t));
    for (uint32_t level = 1; level <= a->level_count; level++) {
        const struct hnsw_level *x = &a->levels[level], *y = &b->levels[level];
        assert_int_equal(x->node_count, y->node_count);
        assert_memory_equal(x->rows, y->rows, x->node_count * sizeof(uint32_t));
        assert_memory_equal(x->below, y->below, x->node_count * sizeof(uint32_t));
        assert_memory_equal(x->links, y->links,
                            (size_t)x->node_count * a->link_max * sizeof(uint32_t));
    }
}

static void the_same_seed_gives_the_same_graph_with_any_workers_and_order_of_parts(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 3, 0, false);
    struct hnsw_params params = {.seed = 11};
    struct built built = {0};
    struct hnsw one, three, other;
    build_codes(&built, &data, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
    build_graph(&built, &params, 1, &one);
    build_graph(&built, &params, 3, &three);
    assert_same_graph(&one, &three);
    params.seed = 12;
    build_graph(&built, &params, 1, &other);
    assert_memory_not_equal(one.links, other.links, ROWS * sizeof(uint32_t));
    hnsw_dispose(&one, &built.heap);
    hnsw_dispose(&three, &built.heap);
    hnsw_dispose(&other, &built.heap);
    built_free(&built);
    data_free(&data);
}

/* ---- workers that are threads ---- */

enum { THREADS = 3 };

struct crew {
    struct hnsw_build *build;
    pthread_barrier_t barrier;
    atomic_uint next_part;
    struct member {
        struct crew *crew;
        struct hnsw_worker *worker;
        bool advances;
    } members[THREADS];
};

static void *work(void *argument)
{
    struct member *me = argument;
    struct crew *crew = me->crew;
    for (uint32_t parts; (parts = hnsw_build_parts(crew->build)) > 0;) {
        for (uint32_t part; (part = atomic_fetch_add(&crew->next_part, 1)) < parts;)
            hnsw_build_part(crew->build, part, me->worker);
        (void)pthread_barrier_wait(&crew->barrier);
        if (me->advances) {
            hnsw_build_advance(crew->build);
            atomic_store(&crew->next_part, 0);
        }
        (void)pthread_barrier_wait(&crew->barrier);
    }
    return NULL;
}

/* In the build of the thread sanitizer this also says that parts of a phase share nothing. */
static void threads_build_the_graph_that_one_builds(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 3, 0, false);
    struct hnsw_params params = {.seed = 11};
    struct built built = {0};
    struct hnsw one, many;
    struct crew crew = {0};
    pthread_t threads[THREADS];
    build_codes(&built, &data, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
    build_graph(&built, &params, 1, &one);
    assert_int_equal(hnsw_build_begin(&params, &built.index.quantizer, &built.index.codes,
                                      &built.heap, &crew.build),
                     PDB_OK);
    assert_int_equal(pthread_barrier_init(&crew.barrier, NULL, THREADS), 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        crew.members[i] = (struct member){.crew = &crew, .advances = i == 0};
        assert_int_equal(hnsw_worker_open(crew.build, &built.heap, &crew.members[i].worker),
                         PDB_OK);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &crew.members[i]), 0);
    for (uint32_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        hnsw_worker_close(crew.members[i].worker, &built.heap);
    }
    (void)pthread_barrier_destroy(&crew.barrier);
    hnsw_build_end(crew.build, &many);
    assert_same_graph(&one, &many);
    hnsw_dispose(&one, &built.heap);
    hnsw_dispose(&many, &built.heap);
    built_free(&built);
    data_free(&data);
}

/* 2,000 copies of one vector among others: neither they nor the others close themselves off. */
static void copies_of_one_vector_are_all_reached_and_hide_nobody(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 4, 0, false);
    struct data queries = data_clustered(QUERIES, DIMENSION, CLUSTERS, 4, 1, false);
    for (uint32_t row = 0; row < 2000; row++)
        memcpy(vector_of(&data, (row * 7 + 1) % ROWS), vector_of(&data, 0),
               DIMENSION * sizeof(float));
    memcpy(vector_of(&queries, 0), vector_of(&data, 0), DIMENSION * sizeof(float));
    struct built built;
    build_index(&built, &data, PDB_METRIC_EUCLIDEAN);
    assert_sound(&built.index.graph);
    assert_recall(recall_of(&built, &data, &queries, &ten, NULL), 0.95);
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

static void rows_that_are_all_the_same_make_a_sound_graph(void **state)
{
    (void)state;
    struct data data = data_new(1500, DIMENSION);
    struct data queries = data_clustered(5, DIMENSION, CLUSTERS, 4, 1, false);
    for (uint32_t row = 0; row < data.count; row++)
        for (uint32_t j = 0; j < DIMENSION; j++)
            vector_of(&data, row)[j] = 0.25f;
    struct built built;
    build_index(&built, &data, PDB_METRIC_COSINE);
    assert_sound(&built.index.graph);
    assert_recall(recall_of(&built, &data, &queries, &ten, NULL), 1.0);
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

/* Two clouds so far apart that no row of one is among the candidates of the other. */
static void clouds_far_apart_hang_together(void **state)
{
    (void)state;
    struct data data = data_clustered(2000, DIMENSION, 8, 5, 0, false);
    struct data queries = data_clustered(QUERIES, DIMENSION, 8, 5, 1, false);
    for (uint32_t row = 1000; row < 2000; row++)
        vector_of(&data, row)[0] += 20.0f;
    for (uint32_t row = 0; row < QUERIES; row += 2)
        vector_of(&queries, row)[0] += 20.0f;
    struct built built;
    build_index(&built, &data, PDB_METRIC_EUCLIDEAN);
    assert_sound(&built.index.graph);
    assert_recall(recall_of(&built, &data, &queries, &ten, NULL), 0.95);
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

static void tiny_graphs_are_sound_and_complete(void **state)
{
    (void)state;
    const uint32_t counts[] = {1, 2, 3, 9, 10, 11, 17, 33, 100};
    struct data queries = data_clustered(5, DIMENSION, CLUSTERS, 6, 1, false);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct data data = data_clustered(counts[i], DIMENSION, CLUSTERS, 6, 0, false);
        struct built built;
        static struct hits hits;
        struct index_scratch *scratch = NULL;
        build_index(&built, &data, PDB_METRIC_EUCLIDEAN);
        assert_sound(&built.index.graph);
        assert_int_equal(index_scratch_open(&built.heap, counts[i], DIMENSION, &scratch), PDB_OK);
        struct index_query query = ten;
        query.vector = vector_of(&queries, 0);
        find(&built.index, &data, scratch, &query, 4, &hits);
        assert_int_equal(hits.count, counts[i] < 10 ? counts[i] : 10);
        index_scratch_close(scratch, &built.heap);
        built_free(&built);
        data_free(&data);
    }
    data_free(&queries);
}

static void every_size_of_list_gives_a_sound_graph(void **state)
{
    (void)state;
    struct data data = data_clustered(1200, 8, CLUSTERS, 8, 0, false);
    for (uint32_t m = HNSW_M_MIN; m <= HNSW_M_MAX; m += 14) {
        struct hnsw_params params = {.m = m, .ef_construction = HNSW_EF_MIN, .seed = 3};
        struct built built = {0};
        struct hnsw graph;
        build_codes(&built, &data, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
        build_graph(&built, &params, 2, &graph);
        assert_sound(&graph);
        hnsw_dispose(&graph, &built.heap);
        built_free(&built);
    }
    data_free(&data);
}

/* Narrow lists and a poor search lose rows; without repair this graph has some. */
static void a_poor_build_is_repaired(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, 3, 500, 9, 0, false);
    struct hnsw_params params = {.m = 4, .ef_construction = 8, .seed = 6};
    struct built built = {0};
    struct hnsw graph;
    build_codes(&built, &data, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
    build_graph(&built, &params, 1, &graph);
    assert_true(built.repaired > 0);
    assert_sound(&graph);
    hnsw_dispose(&graph, &built.heap);
    built_free(&built);
    data_free(&data);
}

static void the_checker_sees_what_is_wrong(void **state)
{
    (void)state;
    struct data data = data_clustered(500, DIMENSION, CLUSTERS, 10, 0, false);
    struct built built;
    struct hnsw_findings found;
    build_index(&built, &data, PDB_METRIC_EUCLIDEAN);
    struct hnsw *graph = &built.index.graph;
    uint32_t first = graph->links[0], width = graph->link_max0;
    graph->links[0] = 500;
    assert_int_equal(hnsw_check(graph, &built.heap, &found), PDB_OK);
    assert_int_equal(found.dangling, 1);
    graph->links[0] = 0;
    assert_int_equal(hnsw_check(graph, &built.heap, &found), PDB_OK);
    assert_int_equal(found.loops, 1);
    graph->links[0] = graph->links[1];
    assert_int_equal(hnsw_check(graph, &built.heap, &found), PDB_OK);
    assert_int_equal(found.repeated, 1);
    graph->links[0] = HNSW_NONE;
    assert_int_equal(hnsw_check(graph, &built.heap, &found), PDB_OK);
    assert_true(found.behind_end > 0);
    graph->links[0] = first;
    if (graph->level_count > 0) {
        graph->levels[1].below[0]++;
        assert_int_equal(hnsw_check(graph, &built.heap, &found), PDB_OK);
        assert_int_equal(found.misplaced, 1);
        graph->levels[1].below[0]--;
    }
    /* nobody links to row 7 any more, and row 9 leads nowhere */
    uint32_t entry = graph->level_count > 0 ? graph->levels[graph->level_count].rows[graph->entry]
                                            : graph->entry;
    uint32_t lost = entry == 7 ? 8 : 7, stuck = entry == 9 ? 10 : 9;
    for (uint32_t row = 0; row < 500; row++)
        for (uint32_t i = 0; i < width; i++)
            if (graph->links[(size_t)row * width + i] == lost)
                graph->links[(size_t)row * width + i] = row == entry ? stuck : entry;
    memset(graph->links + (size_t)stuck * width, 0xff, width * sizeof(uint32_t));
    assert_int_equal(hnsw_check(graph, &built.heap, &found), PDB_OK);
    assert_true(found.unreached >= 1);
    assert_true(found.stuck >= 1);
    built_free(&built);
    data_free(&data);
}

static void parameters_out_of_range_are_refused(void **state)
{
    (void)state;
    struct data data = data_clustered(50, DIMENSION, CLUSTERS, 11, 0, false);
    const struct hnsw_params wrong[] = {
        {.m = 2}, {.m = 5}, {.m = 34}, {.ef_construction = 7}, {.ef_construction = 2001}};
    struct built built = {0};
    struct hnsw_build *build = NULL;
    build_codes(&built, &data, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(hnsw_build_begin(&wrong[i], &built.index.quantizer, &built.index.codes,
                                          &built.heap, &build),
                         PDB_INVALID_ARGUMENT);
    struct codes none = built.index.codes;
    none.row_count = 0;
    assert_int_equal(hnsw_build_begin(&(struct hnsw_params){0}, &built.index.quantizer, &none,
                                      &built.heap, &build),
                     PDB_OUT_OF_RANGE);
    assert_null(build);
    hnsw_build_abandon(NULL);
    built_free(&built);
    data_free(&data);
}

static int build_with(struct heap *heap, const struct built *built)
{
    struct hnsw_params params = {.seed = 1};
    struct hnsw_build *build = NULL;
    struct hnsw_worker *worker = NULL;
    int rc = hnsw_build_begin(&params, &built->index.quantizer, &built->index.codes, heap, &build);
    if (rc == PDB_OK)
        rc = hnsw_worker_open(build, heap, &worker);
    hnsw_worker_close(worker, heap);
    hnsw_build_abandon(build); /* legal at any time */
    return rc;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct data data = data_clustered(300, DIMENSION, CLUSTERS, 12, 0, false);
    struct built built = {0};
    struct heap heap = {0};
    uint64_t n = 0;
    build_codes(&built, &data, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
    int rc;
    do {
        heap = (struct heap){.fail_at = ++n};
        rc = build_with(&heap, &built);
        assert_true(rc == PDB_OK || rc == PDB_RESOURCE_EXHAUSTED);
        assert_int_equal(heap.bytes_used, 0);
    } while (rc != PDB_OK);
    assert_true(n > 3);
    assert_true(heap.bytes_peak <=
                hnsw_build_bytes(&(struct hnsw_params){.seed = 1}, 300, 1) + 4096);
    built_free(&built);
    data_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_graph_finds_what_the_exact_scan_finds),
        cmocka_unit_test(rows_sorted_by_cluster_are_found_as_well),
        cmocka_unit_test(the_same_seed_gives_the_same_graph_with_any_workers_and_order_of_parts),
        cmocka_unit_test(threads_build_the_graph_that_one_builds),
        cmocka_unit_test(copies_of_one_vector_are_all_reached_and_hide_nobody),
        cmocka_unit_test(rows_that_are_all_the_same_make_a_sound_graph),
        cmocka_unit_test(clouds_far_apart_hang_together),
        cmocka_unit_test(tiny_graphs_are_sound_and_complete),
        cmocka_unit_test(every_size_of_list_gives_a_sound_graph),
        cmocka_unit_test(a_poor_build_is_repaired),
        cmocka_unit_test(the_checker_sees_what_is_wrong),
        cmocka_unit_test(parameters_out_of_range_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
