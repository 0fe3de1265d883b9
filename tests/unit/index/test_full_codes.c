/* Codes that are the rows themselves, alone, in graphs and in images: src/index/full.c. */
#include "make_fixture.h"

#include <float.h>

enum { ROWS = 300, MANY = SANITIZED ? 2000 : 6000, QUERIES = 20, CLUSTERS = 10 };

static const enum pdb_metric metrics[] = {PDB_METRIC_COSINE, PDB_METRIC_DOT, PDB_METRIC_EUCLIDEAN,
                                          PDB_METRIC_MANHATTAN, PDB_METRIC_HAMMING};
enum { METRICS = sizeof metrics / sizeof metrics[0] };

static void *aligned(size_t bytes)
{
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 64, bytes), 0);
    return memory;
}

static struct data made(uint32_t count, uint32_t dimension, uint64_t draw, enum pdb_metric metric)
{
    struct data data = data_clustered(count, dimension, CLUSTERS, 1, draw, false);
    if (metric == PDB_METRIC_HAMMING)
        data_to_bits(&data);
    return data;
}

static void assert_near(double a, double b, double scale)
{
    if (!(fabs(a - b) <= 1e-5 * scale))
        fail_msg("%.9g is not %.9g", a, b);
}

/* Scored, scanned and exact: all the same. */
static void check_distances(uint32_t dimension, enum pdb_metric metric)
{
    struct data data = made(ROWS, dimension, 0, metric);
    struct data queries = made(QUERIES, dimension, 1, metric);
    struct built built = {0};
    uint32_t rows[ROWS];
    float scored[ROWS], scanned[ROWS];
    build_codes(&built, &data, QUANTIZE_NONE, metric);
    const struct quantizer *quantizer = &built.index.quantizer;
    void *memory = aligned(quantize_query_bytes(quantizer));
    for (uint32_t row = 0; row < ROWS; row++)
        rows[row] = ROWS - 1 - row;
    for (uint32_t i = 0; i < QUERIES; i++) {
        struct coded_query query;
        quantize_query(quantizer, vector_of(&queries, i), memory, &query);
        quantize_score(quantizer, &built.index.codes, &query, rows, ROWS, scored);
        quantize_scan(quantizer, &built.index.codes, &query, 5, ROWS - 5, scanned + 5);
        for (uint32_t row = 5; row < ROWS; row++) {
            double exact =
                exact_distance(metric, vector_of(&queries, i), vector_of(&data, row), dimension);
            assert_true(scanned[row] == scored[ROWS - 1 - row]);
            assert_near((double)quantize_distance(&query, scanned[row]), exact,
                        metric == PDB_METRIC_DOT ? 4.0 * dimension : 1 + fabs(exact));
        }
    }
    free(memory);
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

static void distances_are_the_metrics_own(void **state)
{
    (void)state;
    const uint32_t dimensions[] = {1, 3, 7, 8, 9, 63, 64, 65, 100, 257};
    for (size_t d = 0; d < sizeof dimensions / sizeof dimensions[0]; d++)
        for (size_t m = 0; m < METRICS; m++)
            check_distances(dimensions[d], metrics[m]);
}

/* Dot: with the column that makes all rows as long as the longest. */
static double between(enum pdb_metric metric, const struct data *data, double longest, uint32_t a,
                      uint32_t b)
{
    const float *x = vector_of(data, a), *y = vector_of(data, b);
    const float zero[1000] = {0};
    double xx = exact_distance(PDB_METRIC_EUCLIDEAN, x, zero, data->dimension);
    double yy = exact_distance(PDB_METRIC_EUCLIDEAN, y, zero, data->dimension);
    double squares = exact_distance(PDB_METRIC_EUCLIDEAN, x, y, data->dimension);
    if (metric == PDB_METRIC_COSINE)
        return 2 + 2 * exact_distance(metric, x, y, data->dimension);
    if (metric == PDB_METRIC_DOT)
        return squares + pow(sqrt(fabs(longest - xx)) - sqrt(fabs(longest - yy)), 2);
    return exact_distance(metric, x, y, data->dimension);
}

static void distances_between_rows_are_true_ones(void **state)
{
    (void)state;
    const float zero[100] = {0};
    for (size_t m = 0; m < METRICS; m++) {
        struct data data = made(ROWS, 100, 0, metrics[m]);
        struct built built = {0};
        uint32_t rows[ROWS];
        float distances[ROWS];
        double longest = 0;
        memcpy(vector_of(&data, 7), vector_of(&data, 3), 100 * sizeof(float));
        build_codes(&built, &data, QUANTIZE_NONE, metrics[m]);
        const struct quantizer *quantizer = &built.index.quantizer;
        const struct codes *codes = &built.index.codes;
        for (uint32_t row = 0; row < ROWS; row++) {
            double norm =
                exact_distance(PDB_METRIC_EUCLIDEAN, vector_of(&data, row), zero, data.dimension);
            longest = norm > longest ? norm : longest;
            rows[row] = row;
        }
        for (uint32_t from = 0; from < 10; from++) {
            quantize_score_row(quantizer, codes, from, rows, ROWS, distances);
            for (uint32_t row = 0; row < ROWS; row++) {
                double exact = between(metrics[m], &data, longest, from, row);
                assert_near((double)distances[row], exact, 1 + exact);
                assert_true(quantize_between(quantizer, codes, from, row) == distances[row]);
                assert_true(quantize_between(quantizer, codes, row, from) == distances[row]);
            }
            assert_true(distances[from] == 0.0f);
        }
        assert_true(quantize_between(quantizer, codes, 3, 7) == 0.0f);
        built_free(&built);
        data_free(&data);
    }
}

/* A zero vector's cosine is 0 against everything: it is no nearer than what is at right angles. */
static void a_zero_vector_is_at_right_angles_to_everything(void **state)
{
    (void)state;
    struct data data = made(ROWS, 20, 0, PDB_METRIC_COSINE);
    struct built built = {0};
    float distances[ROWS];
    memset(vector_of(&data, 11), 0, 20 * sizeof(float));
    build_codes(&built, &data, QUANTIZE_NONE, PDB_METRIC_COSINE);
    void *memory = aligned(quantize_query_bytes(&built.index.quantizer));
    for (uint32_t i = 0; i < ROWS; i++) {
        struct coded_query query;
        quantize_query(&built.index.quantizer, vector_of(&data, i), memory, &query);
        quantize_scan(&built.index.quantizer, &built.index.codes, &query, 0, ROWS, distances);
        assert_true(quantize_distance(&query, distances[11]) == 0.0f);
        for (uint32_t row = 0; row < ROWS && i == 11; row++)
            assert_true(quantize_distance(&query, distances[row]) == 0.0f);
    }
    free(memory);
    built_free(&built);
    data_free(&data);
}

/* What lies behind the last bit, in a query or in a row, is no difference. */
static void spare_bits_do_not_count(void **state)
{
    (void)state;
    struct data data = made(2, 13, 0, PDB_METRIC_HAMMING);
    struct built built = {0};
    uint8_t *bits = (uint8_t *)vector_of(&data, 0);
    uint8_t query_bits[2] = {bits[0], (uint8_t)(bits[1] ^ 0xe0)};
    memcpy(vector_of(&data, 1), query_bits, 2);
    build_codes(&built, &data, QUANTIZE_NONE, PDB_METRIC_HAMMING);
    void *memory = aligned(quantize_query_bytes(&built.index.quantizer));
    struct coded_query query;
    float distances[2];
    query_bits[1] ^= 0x41;
    quantize_query(&built.index.quantizer, (const float *)(const void *)query_bits, memory, &query);
    quantize_scan(&built.index.quantizer, &built.index.codes, &query, 0, 2, distances);
    assert_true(distances[0] == 1.0f && distances[1] == 1.0f);
    assert_true(quantize_between(&built.index.quantizer, &built.index.codes, 0, 1) == 0.0f);
    free(memory);
    built_free(&built);
    data_free(&data);
}

static void extremes_give_numbers_not_nan(void **state)
{
    (void)state;
    const float values[] = {FLT_MAX, -FLT_MAX, FLT_MIN, 0, 1e-40f, 1};
    for (size_t m = 0; m < METRICS - 1; m++) {
        struct data data = data_new(6, 16);
        for (uint32_t row = 0; row < 6; row++)
            for (uint32_t j = 0; j < 16; j++)
                vector_of(&data, row)[j] = values[(row + j * (row > 2)) % 6];
        struct built built;
        float scanned[6];
        build_index_on(&built, &data, QUANTIZE_NONE, metrics[m]);
        assert_sound(&built.index.graph);
        void *memory = aligned(quantize_query_bytes(&built.index.quantizer));
        for (uint32_t i = 0; i < 6; i++) {
            struct coded_query query;
            quantize_query(&built.index.quantizer, vector_of(&data, i), memory, &query);
            quantize_scan(&built.index.quantizer, &built.index.codes, &query, 0, 6, scanned);
            for (uint32_t row = 0; row < 6; row++)
                assert_true(isfinite(quantize_distance(&query, scanned[row])));
        }
        free(memory);
        built_free(&built);
        data_free(&data);
    }
}

/* ---- graphs ---- */

static void a_scan_of_full_rows_is_exact(void **state)
{
    (void)state;
    for (size_t m = 0; m < METRICS; m++) {
        struct data data = made(MANY / 2, 48, 0, metrics[m]);
        struct data queries = made(QUERIES, 48, 1, metrics[m]);
        struct built built = {0};
        struct index_query query = {.k = 10, .gamma = -1};
        build_codes(&built, &data, QUANTIZE_NONE, metrics[m]);
        assert_int_equal(index_want_of(&built.index, 10), 10);
        assert_recall(recall_of(&built, &data, &queries, &query, NULL), 1.0);
        built_free(&built);
        data_free(&data);
        data_free(&queries);
    }
}

static void graphs_of_full_rows_are_sound_and_find_at_defaults(void **state)
{
    (void)state;
    for (size_t m = 0; m < METRICS; m++) {
        struct data data = made(MANY, 64, 0, metrics[m]);
        struct data queries = made(50, 64, 1, metrics[m]);
        struct built built;
        struct index_query query = {.k = 10, .gamma = -1};
        build_index_on(&built, &data, QUANTIZE_NONE, metrics[m]);
        assert_sound(&built.index.graph);
        assert_recall(recall_of(&built, &data, &queries, &query, NULL), 0.95);
        built_free(&built);
        data_free(&data);
        data_free(&queries);
    }
}

/* Calibrated with the metric's own distances, ties included, of which hamming has many. */
static void a_target_is_met_on_other_queries(void **state)
{
    (void)state;
    const float targets[] = {0.8f, 0.95f};
    for (size_t m = 0; m < METRICS; m++) {
        struct data data = made(MANY, 64, 0, metrics[m]);
        struct data queries = made(100, 64, 1, metrics[m]);
        const struct index_spec spec = spec_of(INDEX_HNSW, QUANTIZE_NONE, metrics[m], 64);
        struct built built;
        make_built(&built, &data, &spec, 1);
        assert_true(built.index.calibration.query_count > 0);
        for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
            struct index_query query = {.k = 10, .gamma = -1, .target_recall = targets[i]};
            /* 100 queries: two standard errors are about .03 at .8 */
            assert_recall(recall_of(&built, &data, &queries, &query, NULL),
                          (double)targets[i] - 0.03);
        }
        built_free(&built);
        data_free(&data);
        data_free(&queries);
    }
}

/* The ratio of the stop rule is one of distances; of squared ones it is the square. */
static void the_stop_rule_knows_what_is_squared(void **state)
{
    (void)state;
    const float stretches[] = {1.21f, 0, 1.21f, 1.1f, 1.1f};
    for (size_t m = 0; m < METRICS; m++) {
        struct data data = made(ROWS, 16, 0, metrics[m]);
        struct built built;
        struct index_scratch *scratch = NULL;
        struct index_search search;
        struct index_query query = {.vector = vector_of(&data, 0), .k = 10, .gamma = 0.1f};
        build_index_on(&built, &data, QUANTIZE_NONE, metrics[m]);
        assert_int_equal(index_scratch_open(&built.heap, ROWS, 16, &scratch), PDB_OK);
        index_search_begin(&search, scratch, &built.index, &query);
        assert_true(fabsf(search.stretch - stretches[m]) < 1e-6f);
        index_scratch_close(scratch, &built.heap);
        built_free(&built);
        data_free(&data);
    }
}

static void one_row_repeated_many_times_is_found_k_times(void **state)
{
    (void)state;
    for (size_t m = 0; m < METRICS; m++) {
        struct data data = made(2000, 24, 0, metrics[m]);
        struct data queries = made(QUERIES, 24, 1, metrics[m]);
        struct built built;
        struct index_query query = {.k = 10, .gamma = -1};
        for (uint32_t row = 500; row < 2000; row++)
            memcpy(vector_of(&data, row), vector_of(&data, 3), 24 * sizeof(float));
        build_index_on(&built, &data, QUANTIZE_NONE, metrics[m]);
        assert_sound(&built.index.graph);
        assert_recall(recall_of(&built, &data, &queries, &query, NULL), 0.95);
        built_free(&built);
        data_free(&data);
        data_free(&queries);
    }
}

static void any_number_of_workers_builds_the_same_graph(void **state)
{
    (void)state;
    struct data data = made(1500, 40, 0, PDB_METRIC_MANHATTAN);
    struct hnsw_params params = {.seed = 7};
    struct built built = {0};
    struct hnsw one, three;
    build_codes(&built, &data, QUANTIZE_NONE, PDB_METRIC_MANHATTAN);
    build_graph(&built, &params, 1, &one);
    build_graph(&built, &params, 3, &three);
    assert_memory_equal(one.links, three.links,
                        (size_t)one.row_count * one.link_max0 * sizeof(uint32_t));
    hnsw_dispose(&one, &built.heap);
    hnsw_dispose(&three, &built.heap);
    built_free(&built);
    data_free(&data);
}

/* ---- images ---- */

static uint8_t *image_of(const struct index *index, size_t *length_out)
{
    static struct index_image_plan plan;
    index_image_plan(index, &plan);
    uint8_t *image = aligned(plan.image_bytes);
    index_image_write(&plan, image);
    *length_out = plan.image_bytes;
    return image;
}

static int opened(uint8_t *image, size_t length, struct heap *heap, struct index *index_out)
{
    struct index_image_reader reader;
    struct trail trail = {0};
    int rc = index_image_open(&reader, image, length, &trail);
    while (rc == PDB_OK && (rc = index_image_step(&reader, 1000, &trail)) == 1)
        rc = PDB_OK;
    return rc == PDB_OK ? index_image_finish(&reader, heap, index_out) : rc;
}

static void an_image_gives_the_same_index_again(void **state)
{
    (void)state;
    for (size_t m = 0; m < METRICS; m++)
        for (uint32_t rows = 0; rows <= ROWS; rows += ROWS) {
            struct data data = made(rows, 33, 0, metrics[m]);
            struct built built = {0}, again = {0};
            size_t length;
            if (rows > 0)
                build_index_on(&built, &data, QUANTIZE_NONE, metrics[m]);
            else
                build_codes(&built, &data, QUANTIZE_NONE, metrics[m]);
            uint8_t *image = image_of(&built.index, &length);
            assert_int_equal(opened(image, length, &again.heap, &again.index), PDB_OK);
            assert_int_equal(again.index.codes.row_count, rows);
            assert_int_equal(again.index.quantizer.columns, built.index.quantizer.columns);
            assert_memory_equal(again.index.codes.bytes != NULL ? again.index.codes.bytes : image,
                                built.index.codes.row_count > 0 ? built.index.codes.bytes : image,
                                quantize_codes_bytes(&built.index.quantizer, rows));
            if (rows > 0) {
                struct index_query query = {.k = 10, .gamma = -1};
                assert_recall(recall_of(&again, &data, &data, &query, NULL), 0.95);
            }
            built_free(&again);
            built_free(&built);
            free(image);
            data_free(&data);
        }
}

/* Infinities in rows would be distances that no order holds for. */
static void rows_that_are_not_finite_are_damage(void **state)
{
    (void)state;
    struct data data = made(20, 33, 0, PDB_METRIC_EUCLIDEAN);
    struct built built = {0};
    struct heap heap = {0};
    struct index index;
    size_t length;
    build_codes(&built, &data, QUANTIZE_NONE, PDB_METRIC_EUCLIDEAN);
    float *first = (float *)(void *)built.index.codes.bytes;
    first[19 * built.index.quantizer.stride / sizeof(float) + 5] = INFINITY;
    uint8_t *image = image_of(&built.index, &length);
    assert_int_equal(opened(image, length, &heap, &index), PDB_DATA_LOSS);
    free(image);
    built_free(&built);
    data_free(&data);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct data data = made(50, 10, 0, PDB_METRIC_DOT);
    struct quantize_spec spec = {
        .kind = QUANTIZE_NONE, .metric = PDB_METRIC_DOT, .dimension = 10, .seed = 1};
    uint64_t n = 0;
    int rc;
    do {
        struct heap heap = {.fail_at = ++n};
        struct quantizer quantizer;
        struct index index = {.mapped = false};
        rc = quantize_train(&spec, data.vectors, 10 * sizeof(float), 50, &heap, &quantizer);
        assert_int_equal(rc, PDB_OK); /* nothing is kept but a number */
        rc = index_init(&index, &quantizer, 50, &heap);
        if (rc < 0)
            quantize_dispose(&quantizer, &heap);
        index_dispose(&index, &heap);
        assert_true(rc == PDB_OK || rc == PDB_RESOURCE_EXHAUSTED);
        assert_int_equal(heap.bytes_used, 0);
    } while (rc != PDB_OK);
    assert_int_equal(n, 2);
    data_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances_are_the_metrics_own),
        cmocka_unit_test(distances_between_rows_are_true_ones),
        cmocka_unit_test(a_zero_vector_is_at_right_angles_to_everything),
        cmocka_unit_test(spare_bits_do_not_count),
        cmocka_unit_test(extremes_give_numbers_not_nan),
        cmocka_unit_test(a_scan_of_full_rows_is_exact),
        cmocka_unit_test(graphs_of_full_rows_are_sound_and_find_at_defaults),
        cmocka_unit_test(a_target_is_met_on_other_queries),
        cmocka_unit_test(the_stop_rule_knows_what_is_squared),
        cmocka_unit_test(one_row_repeated_many_times_is_found_k_times),
        cmocka_unit_test(any_number_of_workers_builds_the_same_graph),
        cmocka_unit_test(an_image_gives_the_same_index_again),
        cmocka_unit_test(rows_that_are_not_finite_are_damage),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
