/* Product quantization: src/index/pq.c. Tables and blocks are tested with vecmath. */
#include "index_fixture.h"

#include "index/pq.h"

enum { ROWS = 500, CLUSTERS = 10, QUERIES = 20 };

static const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};

static void parts_cover_every_dimension(void **state)
{
    (void)state;
    for (uint32_t dimension = 1; dimension <= PDB_DIMENSION_MAX;
         dimension += dimension < 3000 ? 1 : 1001)
        for (uint32_t columns = 0; columns <= 5; columns++) {
            struct quantizer shape = {.kind = QUANTIZE_PQ,
                                      .metric = PDB_METRIC_DOT,
                                      .dimension = dimension,
                                      .part_columns = columns};
            quantize_shape(&shape);
            assert_int_equal(shape.columns, dimension);
            assert_true(pq_fits(dimension, shape.part_columns));
            assert_in_range(shape.part_count, 1, PQ_PARTS_MAX);
            assert_true(pq_width(&shape) >= dimension);
            assert_true(pq_width(&shape) - dimension < shape.part_columns);
            assert_int_equal(shape.stride % 64, 0);
            if (columns > 0 && pq_fits(dimension, columns))
                assert_int_equal(shape.part_columns, columns);
        }
}

static struct built coded(const struct data *data, enum pdb_metric metric)
{
    struct built built = {0};
    build_codes(&built, data, QUANTIZE_PQ, metric);
    return built;
}

/* What codes say about a row, and the truth, in units of the codes' distance. */
static double deviation(const struct built *built, const struct data *data,
                        const struct data *queries)
{
    const struct quantizer *quantizer = &built->index.quantizer;
    double errors = 0, all = 0;
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 64, quantize_query_bytes(quantizer)), 0);
    for (uint32_t q = 0; q < queries->count; q++) {
        struct coded_query query;
        quantize_query(quantizer, vector_of(queries, q), memory, &query);
        for (uint32_t row = 0; row < data->count; row++) {
            float scanned, scored;
            double exact = exact_distance(quantizer->metric, vector_of(queries, q),
                                          vector_of(data, row), data->dimension);
            quantize_scan(quantizer, &built->index.codes, &query, row, 1, &scanned);
            quantize_score(quantizer, &built->index.codes, &query, &row, 1, &scored);
            assert_true(fabs((double)(scanned - scored)) <= 1e-4 * fabs((double)scored) + 1e-3);
            double error = (double)quantize_distance(&query, scanned) - exact;
            errors += error * error;
            all += exact * exact;
        }
    }
    free(memory);
    return sqrt(errors / all);
}

static void distances_are_near_the_exact_ones_in_every_dimension(void **state)
{
    (void)state;
    for (size_t m = 0; m < 3; m++)
        for (uint32_t dimension = 1; dimension <= 37; dimension += 3) {
            struct data data = data_clustered(ROWS, dimension, CLUSTERS, dimension, 0, false);
            struct data queries = data_clustered(5, dimension, CLUSTERS, dimension, 1, false);
            struct built built = coded(&data, metrics[m]);
            assert_true(deviation(&built, &data, &queries) < 0.35);
            built_free(&built);
            data_free(&data);
            data_free(&queries);
        }
}

static void a_scan_may_begin_and_end_within_a_block(void **state)
{
    (void)state;
    struct data data = data_clustered(100, 9, CLUSTERS, 1, 0, false);
    struct built built = coded(&data, PDB_METRIC_EUCLIDEAN);
    const struct quantizer *quantizer = &built.index.quantizer;
    struct coded_query query;
    float whole[100], piece[101];
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 64, quantize_query_bytes(quantizer)), 0);
    quantize_query(quantizer, vector_of(&data, 3), memory, &query);
    quantize_scan(quantizer, &built.index.codes, &query, 0, 100, whole);
    for (uint32_t first = 0; first < 100; first += 7)
        for (uint32_t count = 0; count <= 100 - first; count += 9) {
            piece[count] = -77;
            quantize_scan(quantizer, &built.index.codes, &query, first, count, piece);
            assert_memory_equal(piece, whole + first, count * sizeof *piece);
            assert_true(piece[count] == -77);
        }
    free(memory);
    built_free(&built);
    data_free(&data);
}

static void sixteen_values_of_a_part_are_kept_exactly(void **state)
{
    (void)state;
    struct data data = data_new(ROWS, 6), queries = data_clustered(QUERIES, 6, 3, 4, 1, false);
    for (uint32_t row = 0; row < ROWS; row++)
        for (uint32_t j = 0; j < 6; j++) /* pairs of a column each with four values */
            vector_of(&data, row)[j] = (float)((row >> (j % 2 * 2)) & 3);
    struct built built = coded(&data, PDB_METRIC_EUCLIDEAN);
    /* random beginnings may meet a value twice, and rounds mend most of it */
    assert_true(deviation(&built, &data, &queries) < 0.1);
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

static void constant_and_no_rows_have_codes(void **state)
{
    (void)state;
    for (uint32_t count = 0; count < 40; count += 13)
        for (size_t m = 0; m < 3; m++) {
            struct data data = data_new(count, 7), queries = data_clustered(3, 7, 3, 4, 1, false);
            for (size_t i = 0; i < (size_t)count * 7; i++)
                data.vectors[i] = 3;
            struct built built = coded(&data, metrics[m]);
            if (count > 0)
                assert_true(deviation(&built, &data, &queries) < 1e-2);
            built_free(&built);
            data_free(&data);
            data_free(&queries);
        }
}

static void training_may_run_out_of_memory(void **state)
{
    (void)state;
    struct data data = data_clustered(100, 10, CLUSTERS, 1, 0, false);
    const struct quantize_spec spec = {
        .kind = QUANTIZE_PQ, .metric = PDB_METRIC_COSINE, .dimension = 10, .seed = 1};
    uint64_t n = 0;
    int rc;
    do {
        struct heap heap = {.fail_at = ++n};
        struct quantizer quantizer = {.mean = NULL};
        rc = quantize_train(&spec, data.vectors, 10 * sizeof(float), 100, &heap, &quantizer);
        assert_true(rc == PDB_OK || rc == PDB_RESOURCE_EXHAUSTED);
        quantize_dispose(&quantizer, &heap);
        assert_int_equal(heap.bytes_used, 0);
    } while (rc != PDB_OK);
    assert_true(n > 6);
    data_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_cover_every_dimension),
        cmocka_unit_test(distances_are_near_the_exact_ones_in_every_dimension),
        cmocka_unit_test(a_scan_may_begin_and_end_within_a_block),
        cmocka_unit_test(sixteen_values_of_a_part_are_kept_exactly),
        cmocka_unit_test(constant_and_no_rows_have_codes),
        cmocka_unit_test(training_may_run_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
