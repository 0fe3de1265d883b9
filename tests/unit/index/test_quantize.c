/* Codes and their distances against the vectors' own: src/index/quantize.c, sq8.c, sq4.c. */
#include "index_fixture.h"

#include "index/hnsw_internal.h"

#include <float.h>

enum { ROWS = 400, QUERIES = 20, CLUSTERS = 10 };

static const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};

static void *aligned(size_t bytes)
{
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 64, bytes), 0);
    return memory;
}

/* The largest difference between what codes say and what is, as part of the mean distance (dot: of
 * the mean absolute product). */
static double worst_error(const struct built *built, const struct data *data,
                          const struct data *queries)
{
    const struct quantizer *quantizer = &built->index.quantizer;
    void *memory = aligned(quantize_query_bytes(quantizer));
    uint32_t rows[ROWS];
    float scored[ROWS], scanned[ROWS];
    double worst = 0, sum = 0;
    for (uint32_t row = 0; row < data->count; row++)
        rows[row] = data->count - 1 - row;
    for (uint32_t i = 0; i < queries->count; i++) {
        struct coded_query query;
        quantize_query(quantizer, vector_of(queries, i), memory, &query);
        quantize_score(quantizer, &built->index.codes, &query, rows, data->count, scored);
        quantize_scan(quantizer, &built->index.codes, &query, 0, data->count, scanned);
        for (uint32_t row = 0; row < data->count; row++) {
            float distance = scanned[row];
            assert_true(distance == scored[data->count - 1 - row]);
            double exact = exact_distance(quantizer->metric, vector_of(queries, i),
                                          vector_of(data, row), data->dimension);
            double error = fabs((double)quantize_distance(&query, distance) - exact);
            worst = error > worst ? error : worst;
            sum += fabs(quantizer->metric == PDB_METRIC_COSINE ? 1 + exact : exact);
        }
    }
    free(memory);
    return worst * data->count * queries->count / sum;
}

static void assert_error(double error, double most)
{
    if (!(error <= most))
        fail_msg("error %.4f, not at most %.4f", error, most);
}

static void distances_by_codes_are_near_the_exact_ones(void **state)
{
    (void)state;
    const uint32_t dimensions[] = {1, 3, 63, 64, 65, 100, 200, 768};
    for (size_t d = 0; d < sizeof dimensions / sizeof dimensions[0]; d++) {
        struct data data = data_clustered(ROWS, dimensions[d], CLUSTERS, 1, 0, false);
        struct data queries = data_clustered(QUERIES, dimensions[d], CLUSTERS, 1, 1, false);
        for (size_t m = 0; m < 3; m++) {
            struct built wide = {0}, narrow = {0};
            build_codes(&wide, &data, QUANTIZE_SQ8, metrics[m]);
            build_codes(&narrow, &data, QUANTIZE_SQ4, metrics[m]);
            /* In few dimensions clipping is not averaged away; inner products are small beside
             * the lengths that their errors grow with. */
            double more = (dimensions[d] < 100 ? 5 : 2) * (metrics[m] == PDB_METRIC_DOT ? 5 : 1);
            assert_error(worst_error(&wide, &data, &queries), 0.05 * more);
            assert_error(worst_error(&narrow, &data, &queries), 0.6 * more);
            built_free(&wide);
            built_free(&narrow);
        }
        data_free(&data);
        data_free(&queries);
    }
}

/* 65,535 dimensions: sums beyond 32 bits. */
static void the_widest_vectors_have_codes(void **state)
{
    (void)state;
    struct data data = data_clustered(12, PDB_DIMENSION_MAX, 3, 2, 0, false);
    struct data queries = data_clustered(2, PDB_DIMENSION_MAX, 3, 2, 1, false);
    for (size_t m = 0; m < 3; m++) {
        struct built built = {0};
        build_codes(&built, &data, QUANTIZE_SQ8, metrics[m]);
        assert_error(worst_error(&built, &data, &queries), 0.02);
        built_free(&built);
    }
    data_free(&data);
    data_free(&queries);
}

/* From denormal to nearly overflowing: the order of rows stays what it is. */
static void magnitude_does_not_matter(void **state)
{
    (void)state;
    const float magnitudes[] = {1e-30f, 1e-12f, 1.0f, 1e12f, 1e30f};
    for (size_t i = 0; i < sizeof magnitudes / sizeof magnitudes[0]; i++)
        for (size_t m = 0; m < 3; m++) {
            struct data data = data_clustered(ROWS, 32, CLUSTERS, 3, 0, false);
            struct data queries = data_clustered(QUERIES, 32, CLUSTERS, 3, 1, false);
            for (uint32_t j = 0; j < ROWS * 32; j++)
                data.vectors[j] *= magnitudes[i];
            for (uint32_t j = 0; j < QUERIES * 32; j++)
                queries.vectors[j] *= magnitudes[i];
            struct built built = {0};
            build_codes(&built, &data, QUANTIZE_SQ8, metrics[m]);
            /* exact_distance() is in double; the codes only choose who is re-ranked */
            struct index_query query = {.k = 10, .gamma = -1, .want = 14};
            if (fabsf(magnitudes[i]) < 1e15f && fabsf(magnitudes[i]) > 1e-15f)
                assert_recall(recall_of(&built, &data, &queries, &query, NULL), 0.98);
            else /* squares leave float32: what is found is finite and complete */
                (void)recall_of(&built, &data, &queries, &query, NULL);
            built_free(&built);
            data_free(&data);
            data_free(&queries);
        }
}

static void extremes_give_numbers_not_nan(void **state)
{
    (void)state;
    struct data data = data_new(6, 16);
    const float values[] = {FLT_MAX, -FLT_MAX, FLT_MIN, 0, 1e-40f, 1};
    for (uint32_t row = 0; row < 6; row++)
        for (uint32_t j = 0; j < 16; j++)
            vector_of(&data, row)[j] = values[(row + j * (row > 2)) % 6];
    for (uint32_t kind = QUANTIZE_SQ8; kind <= QUANTIZE_SQ4; kind++)
        for (size_t m = 0; m < 3; m++) {
            struct built built = {0};
            float scanned[6];
            build_codes(&built, &data, (enum quantize_kind)kind, metrics[m]);
            void *memory = aligned(quantize_query_bytes(&built.index.quantizer));
            for (uint32_t i = 0; i < 6; i++) {
                struct coded_query query;
                quantize_query(&built.index.quantizer, vector_of(&data, i), memory, &query);
                quantize_scan(&built.index.quantizer, &built.index.codes, &query, 0, 6, scanned);
                for (uint32_t row = 0; row < 6; row++)
                    assert_true(isfinite(scanned[row]));
            }
            free(memory);
            built_free(&built);
        }
    data_free(&data);
}

static void constant_dimensions_do_not_widen_the_steps(void **state)
{
    (void)state;
    struct data plain = data_clustered(ROWS, 32, CLUSTERS, 4, 0, false);
    struct data wide = data_new(ROWS, 40);
    for (uint32_t row = 0; row < ROWS; row++) {
        memcpy(vector_of(&wide, row), vector_of(&plain, row), 32 * sizeof(float));
        for (uint32_t j = 32; j < 40; j++)
            vector_of(&wide, row)[j] = 1000.0f;
    }
    struct built a = {0}, b = {0};
    build_codes(&a, &plain, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
    build_codes(&b, &wide, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
    assert_true(fabsf(a.index.quantizer.scale - b.index.quantizer.scale) <
                0.01f * a.index.quantizer.scale);
    built_free(&a);
    built_free(&b);
    data_free(&plain);
    data_free(&wide);
}

/* Between rows: the sum of squared differences of the codes, exactly, and 0 only for equal ones. */
static void distances_between_rows_are_exact(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, 100, CLUSTERS, 5, 0, false);
    memcpy(vector_of(&data, 7), vector_of(&data, 3), 100 * sizeof(float));
    struct built built = {0};
    uint32_t rows[ROWS];
    float distances[ROWS];
    build_codes(&built, &data, QUANTIZE_SQ8, PDB_METRIC_COSINE);
    const struct quantizer *quantizer = &built.index.quantizer;
    for (uint32_t row = 0; row < ROWS; row++)
        rows[row] = row;
    for (uint32_t from = 0; from < 10; from++) {
        const int8_t *a =
            (const int8_t *)built.index.codes.bytes + (size_t)from * quantizer->stride;
        quantize_score_row(quantizer, &built.index.codes, from, rows, ROWS, distances);
        for (uint32_t row = 0; row < ROWS; row++) {
            const int8_t *b =
                (const int8_t *)built.index.codes.bytes + (size_t)row * quantizer->stride;
            int64_t sum = 0;
            for (uint32_t j = 0; j < quantizer->columns; j++)
                sum += (int64_t)(a[j] - b[j]) * (a[j] - b[j]);
            assert_true(distances[row] == (float)sum);
            assert_true(quantize_between(quantizer, &built.index.codes, from, row) == (float)sum);
        }
    }
    assert_true(quantize_between(quantizer, &built.index.codes, 3, 7) == 0.0f);
    built_free(&built);
    data_free(&data);
}

/* ---- from code to code ---- */

static const enum quantize_kind kinds_in_a_row[] = {QUANTIZE_SQ8, QUANTIZE_SQ4, QUANTIZE_BINARY,
                                                    QUANTIZE_NONE};
enum { KINDS = sizeof kinds_in_a_row / sizeof kinds_in_a_row[0] };

static size_t lines_of(size_t begin, size_t bytes)
{
    return (begin + bytes - 1) / 64 - begin / 64 + 1;
}

static void no_code_touches_more_lines_than_it_has_to(void **state)
{
    (void)state;
    for (uint32_t d = 1; d < 3000; d++)
        for (size_t k = 0; k < KINDS; k++) {
            struct quantizer shape = {.kind = kinds_in_a_row[k],
                                      .metric = PDB_METRIC_EUCLIDEAN,
                                      .dimension = d,
                                      .bits = kinds_in_a_row[k] == QUANTIZE_BINARY ? 1 : 0};
            quantize_shape(&shape);
            struct quantizer in_lines = shape;
            quantize_shape_in_lines(&in_lines);
            assert_in_range(shape.stride, 1, in_lines.stride);
            for (size_t row = 0; row < 64; row++)
                assert_int_equal(lines_of(row * shape.stride, shape.stride),
                                 lines_of(0, shape.stride));
        }
}

static void codes_take_the_bytes_that_are_told(void **state)
{
    (void)state;
    const struct {
        enum quantize_kind kind;
        uint32_t dimension, stride;
    } told[] = {
        {QUANTIZE_SQ8, 768, 768},    {QUANTIZE_SQ8, 784, 784},    {QUANTIZE_SQ8, 100, 128},
        {QUANTIZE_SQ8, 383, 384},    {QUANTIZE_SQ8, 385, 385},    {QUANTIZE_SQ8, 400, 400},
        {QUANTIZE_SQ4, 768, 384},    {QUANTIZE_SQ4, 784, 400},    {QUANTIZE_SQ4, 100, 64},
        {QUANTIZE_NONE, 768, 3072},  {QUANTIZE_NONE, 784, 3136},  {QUANTIZE_NONE, 100, 448},
        {QUANTIZE_BINARY, 768, 128}, {QUANTIZE_BINARY, 784, 128}, {QUANTIZE_BINARY, 100, 32},
    };
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        struct quantizer shape = {.kind = told[i].kind,
                                  .metric = PDB_METRIC_EUCLIDEAN,
                                  .dimension = told[i].dimension,
                                  .bits = told[i].kind == QUANTIZE_BINARY ? 1 : 0};
        quantize_shape(&shape);
        assert_int_equal(shape.stride, told[i].stride);
    }
}

/* Codes of `data` in memory that ends with them. */
static struct codes codes_of(const struct quantizer *quantizer, const struct data *data)
{
    struct codes codes = {.row_count = data->count};
    void *scratch = aligned(quantize_scratch_bytes(quantizer));
    const size_t sums = quantize_sums_bytes(quantizer, data->count);
    codes.bytes = aligned(quantize_codes_bytes(quantizer, data->count));
    memset(codes.bytes, 0xa5, quantize_codes_bytes(quantizer, data->count));
    if (quantizer->kind == QUANTIZE_SQ8)
        codes.norms = malloc(sums);
    else if (sums > 0)
        codes.factors = malloc(sums);
    for (uint32_t row = 0; row < data->count; row++)
        quantize_encode(quantizer, vector_of(data, row), scratch, &codes, row);
    free(scratch);
    return codes;
}

static void codes_free(struct codes *codes)
{
    free(codes->bytes);
    free(codes->norms);
    free(codes->factors);
}

/* The same codes, with zeros behind those of whole lines. */
static void compare_codes(const struct quantizer both[2], const struct codes codes[2])
{
    static const uint8_t zeros[64];
    const size_t rest = both[1].stride - both[0].stride;
    for (size_t row = 0; row < codes[0].row_count; row++) {
        const uint8_t *in_lines = codes[1].bytes + row * both[1].stride;
        assert_memory_equal(codes[0].bytes + row * both[0].stride, in_lines, both[0].stride);
        assert_memory_equal(in_lines + both[0].stride, zeros, rest);
    }
    for (size_t row = 0; both[0].kind == QUANTIZE_SQ4 && row < codes[0].row_count; row++) {
        const size_t bytes = vecmath_sq4_code_bytes(both[0].columns);
        assert_memory_equal(codes[0].bytes + row * both[0].stride + bytes, zeros,
                            both[0].stride - bytes);
    }
}

/* Distances from codes side by side and from codes in whole lines are the same numbers. */
static void compare_strides(const struct quantizer *quantizer, const struct data *data)
{
    struct quantizer both[2] = {*quantizer, *quantizer};
    struct codes codes[2];
    float scored[2][ROWS], scanned[2][ROWS], between[2][ROWS];
    uint32_t rows[ROWS];
    void *memory = aligned(quantize_query_bytes(quantizer));
    assert_true(data->count <= ROWS);
    quantize_shape_in_lines(&both[1]);
    for (uint32_t row = 0; row < data->count; row++)
        rows[row] = data->count - 1 - row;
    for (int i = 0; i < 2; i++) {
        struct coded_query query;
        codes[i] = codes_of(&both[i], data);
        quantize_query(&both[i], vector_of(data, 3), memory, &query);
        quantize_score(&both[i], &codes[i], &query, rows, data->count, scored[i]);
        quantize_scan(&both[i], &codes[i], &query, 0, data->count, scanned[i]);
        if (quantize_builds(quantizer->kind))
            quantize_score_row(&both[i], &codes[i], 5, rows, data->count, between[i]);
    }
    const size_t bytes = data->count * sizeof(float);
    compare_codes(both, codes);
    assert_memory_equal(scored[0], scored[1], bytes);
    assert_memory_equal(scanned[0], scanned[1], bytes);
    if (quantize_builds(quantizer->kind))
        assert_memory_equal(between[0], between[1], bytes);
    for (uint32_t row = 0; row < data->count; row++)
        assert_true(scanned[0][rows[row]] == scored[0][row]);
    codes_free(&codes[0]);
    codes_free(&codes[1]);
    free(memory);
}

static void codes_of_every_dimension_are_read_whole_and_no_further(void **state)
{
    (void)state;
    enum { FEW = 13 }; /* three blocks and one */
    for (uint32_t d = 1; d <= 1100; d = d == 300 ? 380 : d == 450 ? 760 : d + 1) {
        struct data data = data_clustered(FEW, d, 3, d, 0, false);
        for (size_t k = 0; k < KINDS; k++) {
            struct built built = {0};
            build_codes(&built, &data, kinds_in_a_row[k], metrics[d % 3]);
            compare_strides(&built.index.quantizer, &data);
            built_free(&built);
        }
        data_free(&data);
    }
}

/* Goal: at most the dimension and 136 bytes a row, of SQ8 and a graph. */
static void bytes_and_a_graph_take_136_bytes_a_row_beside_the_dimension(void **state)
{
    (void)state;
    enum { MANY = 100000 };
    const uint32_t dimensions[] = {384, 512, 768, 784, 1024, 1536};
    const size_t graph = hnsw_graph_bytes(1, HNSW_M_DEFAULT, MANY);
    for (size_t i = 0; i < sizeof dimensions / sizeof dimensions[0]; i++) {
        struct quantizer shape = {
            .kind = QUANTIZE_SQ8, .metric = PDB_METRIC_COSINE, .dimension = dimensions[i]};
        quantize_shape(&shape);
        const size_t bytes =
            quantize_codes_bytes(&shape, MANY) + quantize_sums_bytes(&shape, MANY) + graph;
        assert_in_range(bytes, 0, (size_t)MANY * (dimensions[i] + 136));
    }
}

/* A rotation keeps lengths and angles. */
static void codes_of_four_bits_estimate_a_row_itself_exactly(void **state)
{
    (void)state;
    struct data data = data_clustered(50, 77, CLUSTERS, 6, 0, false);
    struct built built = {0};
    float distances[50];
    build_codes(&built, &data, QUANTIZE_SQ4, PDB_METRIC_EUCLIDEAN);
    const struct quantizer *quantizer = &built.index.quantizer;
    void *memory = aligned(quantize_query_bytes(quantizer));
    for (uint32_t i = 0; i < 50; i++) {
        struct coded_query query;
        quantize_query(quantizer, vector_of(&data, i), memory, &query);
        quantize_scan(quantizer, &built.index.codes, &query, 0, 50, distances);
        /* only the query's 8 bits are between it and 0 */
        assert_true(fabsf(distances[i]) < 0.03f * query.base);
    }
    free(memory);
    built_free(&built);
    data_free(&data);
}

static void samples_are_in_range_and_differ(void **state)
{
    (void)state;
    const uint32_t counts[] = {1, 2, 100, 16384, 16385, 1000000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint32_t last = 0, samples = quantize_sample_count(counts[i]);
        assert_in_range(samples, 1, QUANTIZE_SAMPLE_MAX);
        for (uint32_t j = 0; j < samples; j++) {
            uint32_t row = quantize_sample_row(9, counts[i], j);
            assert_true(row < counts[i]);
            assert_true(j == 0 || row > last);
            last = row;
        }
    }
}

static void only_metrics_with_codes_are_supported(void **state)
{
    (void)state;
    const enum quantize_kind kinds[] = {QUANTIZE_SQ8, QUANTIZE_SQ4, QUANTIZE_BINARY, QUANTIZE_NONE};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const bool full = kinds[i] == QUANTIZE_NONE;
        assert_true(quantize_supports(kinds[i], PDB_METRIC_EUCLIDEAN));
        assert_true(quantize_supports(kinds[i], PDB_METRIC_COSINE));
        assert_true(quantize_supports(kinds[i], PDB_METRIC_DOT));
        assert_int_equal(quantize_supports(kinds[i], PDB_METRIC_MANHATTAN), full);
        assert_int_equal(quantize_supports(kinds[i], PDB_METRIC_HAMMING), full);
        assert_false(quantize_supports(kinds[i], PDB_METRIC_UNSPECIFIED));
    }
    assert_false(quantize_supports((enum quantize_kind)0, PDB_METRIC_COSINE));
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct data data = data_clustered(50, 10, CLUSTERS, 7, 0, false);
    struct quantize_spec spec = {
        .kind = QUANTIZE_SQ8, .metric = PDB_METRIC_DOT, .dimension = 10, .seed = 1};
    uint64_t n = 0;
    int rc;
    do {
        struct heap heap = {.fail_at = ++n};
        struct quantizer quantizer;
        struct index index = {.mapped = false};
        rc = quantize_train(&spec, data.vectors, 10 * sizeof(float), 50, &heap, &quantizer);
        if (rc == PDB_OK) {
            rc = index_init(&index, &quantizer, 50, &heap);
            if (rc < 0)
                quantize_dispose(&quantizer, &heap);
            index_dispose(&index, &heap);
        }
        assert_true(rc == PDB_OK || rc == PDB_RESOURCE_EXHAUSTED);
        assert_int_equal(heap.bytes_used, 0);
    } while (rc != PDB_OK);
    assert_true(n >= 6);
    data_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances_by_codes_are_near_the_exact_ones),
        cmocka_unit_test(the_widest_vectors_have_codes),
        cmocka_unit_test(magnitude_does_not_matter),
        cmocka_unit_test(extremes_give_numbers_not_nan),
        cmocka_unit_test(constant_dimensions_do_not_widen_the_steps),
        cmocka_unit_test(distances_between_rows_are_exact),
        cmocka_unit_test(no_code_touches_more_lines_than_it_has_to),
        cmocka_unit_test(codes_take_the_bytes_that_are_told),
        cmocka_unit_test(codes_of_every_dimension_are_read_whole_and_no_further),
        cmocka_unit_test(bytes_and_a_graph_take_136_bytes_a_row_beside_the_dimension),
        cmocka_unit_test(codes_of_four_bits_estimate_a_row_itself_exactly),
        cmocka_unit_test(samples_are_in_range_and_differ),
        cmocka_unit_test(only_metrics_with_codes_are_supported),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
