/* Codes of 1 to 8 bits: their estimates, the bounds on them, and what searches make of both:
 * src/index/rabitq.c, rotate.c, search_bound.c. */
#include "make_fixture.h"

#include <float.h>

enum {
    ROWS = 200,
    MANY = SANITIZED ? 1500 : 4000,
    QUERIES = 24,
    CLUSTERS = 10,
    BITS = QUANTIZE_BITS_MAX
};
enum { SEEDS = SANITIZED ? 2 : 6 };

static const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};

static void *aligned(size_t bytes)
{
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 64, bytes), 0);
    return memory;
}

static void code_them(struct built *built, const struct data *data, enum pdb_metric metric,
                      uint32_t bits, uint64_t seed)
{
    struct quantize_spec spec = {.kind = QUANTIZE_BINARY,
                                 .metric = metric,
                                 .dimension = data->dimension,
                                 .seed = seed,
                                 .bits = bits};
    struct quantizer quantizer;
    *built = (struct built){0};
    assert_int_equal(quantize_train(&spec, data->vectors, data->dimension * sizeof(float),
                                    data->count, &built->heap, &quantizer),
                     PDB_OK);
    assert_int_equal(index_init(&built->index, &quantizer, data->count, &built->heap), PDB_OK);
    encode_all(built, data);
}

/* How estimates lie about the truth, in deviations as the bounds claim them. */
struct spread {
    double sum;
    uint64_t count, beyond; /* of the bound, three deviations */
};

static void measure(const struct built *built, const struct data *data, const struct data *queries,
                    struct spread *spread)
{
    const struct quantizer *quantizer = &built->index.quantizer;
    const struct codes *codes = &built->index.codes;
    void *memory = aligned(quantize_query_bytes(quantizer));
    uint32_t rows[ROWS];
    float scored[ROWS], scanned[ROWS];
    for (uint32_t row = 0; row < ROWS; row++)
        rows[row] = ROWS - 1 - row;
    for (uint32_t i = 0; i < queries->count; i++) {
        struct coded_query query;
        const float *vector = vector_of(queries, i);
        quantize_query(quantizer, vector, memory, &query);
        quantize_score(quantizer, codes, &query, rows, ROWS, scored);
        quantize_scan(quantizer, codes, &query, 0, ROWS, scanned);
        for (uint32_t row = 0; row < ROWS; row++) {
            float bound = quantize_error(quantizer, codes, &query, row, scanned[row]);
            double exact =
                exact_distance(quantizer->metric, vector, vector_of(data, row), data->dimension);
            double distance = (double)quantize_distance(&query, scanned[row]);
            /* float32 has its own errors, which matter where the others are next to nothing */
            double least = 1e-4 * (double)query.worth * sqrt((double)query.norm + 1);
            double off = (distance - exact) / ((double)(query.worth * bound) / 3 + least);
            assert_true(scanned[row] == scored[ROWS - 1 - row]);
            assert_true(isfinite(bound) && bound >= 0);
            spread->sum += off;
            spread->beyond += fabs(off) > 3;
            spread->count++;
        }
    }
    free(memory);
}

/* Over several rotations: what one of them does to one row is no accident but a constant. */
static struct spread spread_of(uint32_t dimension, enum pdb_metric metric, uint32_t bits)
{
    struct spread spread = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct data data = data_clustered(ROWS, dimension, CLUSTERS, seed, 0, false);
        struct data queries = data_clustered(QUERIES, dimension, CLUSTERS, seed, 1, false);
        struct built built;
        code_them(&built, &data, metric, bits, seed);
        measure(&built, &data, &queries, &spread);
        built_free(&built);
        data_free(&data);
        data_free(&queries);
    }
    return spread;
}

static void estimates_are_unbiased_and_within_their_bounds(void **state)
{
    (void)state;
    const uint32_t dimensions[] = {1, 2, 3, 7, 65, 100, 300};
    for (size_t d = 0; d < sizeof dimensions / sizeof dimensions[0]; d++)
        for (uint32_t bits = 1; bits <= BITS; bits++) {
            enum pdb_metric metric = metrics[(d + bits) % 3];
            struct spread spread = spread_of(dimensions[d], metric, bits);
            double mean = spread.sum / (double)spread.count;
            double beyond = (double)spread.beyond / (double)spread.count;
            if (!(fabs(mean) < 0.2) || !(beyond <= 0.01))
                fail_msg("d %u metric %d bits %u: mean %.3f, %.4f beyond the bound", dimensions[d],
                         metric, bits, mean, beyond);
        }
}

/* A bound that holds because it is wide would be worth nothing. */
static void bounds_shrink_with_bits(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, 200, CLUSTERS, 1, 0, false);
    double before = HUGE_VAL;
    for (uint32_t bits = 1; bits <= BITS; bits++) {
        struct built built;
        struct coded_query query;
        float distances[ROWS];
        double sum = 0;
        code_them(&built, &data, PDB_METRIC_EUCLIDEAN, bits, 1);
        void *memory = aligned(quantize_query_bytes(&built.index.quantizer));
        quantize_query(&built.index.quantizer, vector_of(&data, 0), memory, &query);
        quantize_scan(&built.index.quantizer, &built.index.codes, &query, 0, ROWS, distances);
        for (uint32_t row = 1; row < ROWS; row++)
            sum += (double)(quantize_error(&built.index.quantizer, &built.index.codes, &query, row,
                                           distances[row]) /
                            query.norm);
        if (!(sum < (bits < 7 ? 0.7 : 1.0) * before))
            fail_msg("%u bits: %.4f after %.4f", bits, sum / ROWS, before / ROWS);
        before = sum;
        free(memory);
        built_free(&built);
    }
    data_free(&data);
}

/* ---- what rows may be ---- */

static void magnitude_does_not_matter(void **state)
{
    (void)state;
    const float magnitudes[] = {1e-30f, 1e-12f, 1.0f, 1e12f, 1e30f};
    for (size_t i = 0; i < sizeof magnitudes / sizeof magnitudes[0]; i++)
        for (uint32_t bits = 1; bits <= BITS; bits += 3) {
            struct data data = data_clustered(ROWS, 48, CLUSTERS, 3, 0, false);
            struct data queries = data_clustered(QUERIES, 48, CLUSTERS, 3, 1, false);
            for (uint32_t j = 0; j < ROWS * 48; j++)
                data.vectors[j] *= magnitudes[i];
            for (uint32_t j = 0; j < QUERIES * 48; j++)
                queries.vectors[j] *= magnitudes[i];
            struct built built;
            struct index_query query = {.k = 10, .gamma = -1};
            code_them(&built, &data, metrics[bits % 3], bits, 1);
            double recall = recall_of(&built, &data, &queries, &query, NULL);
            if (magnitudes[i] < 1e15f && magnitudes[i] > 1e-15f)
                assert_recall(recall, 0.95); /* else squares leave float32 in re-ranking */
            built_free(&built);
            data_free(&data);
            data_free(&queries);
        }
}

static void extremes_zeros_and_equal_rows_give_numbers(void **state)
{
    (void)state;
    const float values[] = {FLT_MAX, -FLT_MAX, FLT_MIN, 0, 1e-40f, 1};
    struct data extremes = data_new(6, 16), zeros = data_new(6, 16), equal = data_new(6, 16);
    for (uint32_t row = 0; row < 6; row++)
        for (uint32_t j = 0; j < 16; j++) {
            vector_of(&extremes, row)[j] = values[(row + j * (row > 2)) % 6];
            vector_of(&equal, row)[j] = (float)j;
        }
    const struct data *all[] = {&extremes, &zeros, &equal};
    for (size_t i = 0; i < 3; i++)
        for (uint32_t bits = 1; bits <= BITS; bits++)
            for (size_t m = 0; m < 3; m++) {
                struct built built;
                float scanned[6];
                code_them(&built, all[i], metrics[m], bits, 1);
                void *memory = aligned(quantize_query_bytes(&built.index.quantizer));
                for (uint32_t row = 0; row < 6; row++) {
                    struct coded_query query;
                    quantize_query(&built.index.quantizer, vector_of(all[i], row), memory, &query);
                    quantize_scan(&built.index.quantizer, &built.index.codes, &query, 0, 6,
                                  scanned);
                    for (uint32_t j = 0; j < 6; j++)
                        assert_true(
                            isfinite(scanned[j]) &&
                            isfinite(quantize_error(&built.index.quantizer, &built.index.codes,
                                                    &query, j, scanned[j])) &&
                            (i == 0 || scanned[j] == scanned[0]));
                }
                free(memory);
                built_free(&built);
            }
    data_free(&extremes);
    data_free(&zeros);
    data_free(&equal);
}

static void the_widest_vectors_have_codes(void **state)
{
    (void)state;
    struct data data = data_clustered(6, PDB_DIMENSION_MAX, 3, 2, 0, false);
    for (uint32_t bits = 1; bits <= BITS; bits += 7) {
        struct built built;
        struct coded_query query;
        float distances[6];
        code_them(&built, &data, PDB_METRIC_EUCLIDEAN, bits, 1);
        void *memory = aligned(quantize_query_bytes(&built.index.quantizer));
        quantize_query(&built.index.quantizer, vector_of(&data, 2), memory, &query);
        quantize_scan(&built.index.quantizer, &built.index.codes, &query, 0, 6, distances);
        for (uint32_t row = 0; row < 6; row++) {
            double exact = exact_distance(PDB_METRIC_EUCLIDEAN, vector_of(&data, 2),
                                          vector_of(&data, row), PDB_DIMENSION_MAX);
            double off = fabs((double)quantize_distance(&query, distances[row]) - exact);
            assert_true(off <= 0.1 * 2 * (double)(query.worth * query.norm));
        }
        free(memory);
        built_free(&built);
    }
    data_free(&data);
}

/* ---- searches ---- */

static void defaults_find_with_any_number_of_bits(void **state)
{
    (void)state;
    for (uint32_t bits = 1; bits <= BITS; bits++)
        for (enum index_kind kind = INDEX_FLAT; kind <= INDEX_HNSW; kind++) {
            const enum pdb_metric metric = metrics[bits % 3];
            struct index_spec spec = spec_of(kind, QUANTIZE_BINARY, metric, 96);
            struct data data = data_clustered(MANY, 96, 40, 1, 0, false);
            struct data queries = data_clustered(40, 96, 40, 1, 1, false);
            struct built built;
            struct index_query query = {.k = 10, .gamma = -1};
            spec.code_bits = bits;
            make_built(&built, &data, &spec, 2);
            assert_int_equal(built.index.quantizer.bits, bits);
            assert_recall(recall_of(&built, &data, &queries, &query, NULL), 0.95);
            built_free(&built);
            data_free(&data);
            data_free(&queries);
        }
}

static void a_target_is_met_on_other_queries(void **state)
{
    (void)state;
    for (uint32_t bits = 1; bits <= BITS; bits *= 2) {
        struct index_spec spec = spec_of(INDEX_HNSW, QUANTIZE_BINARY, PDB_METRIC_COSINE, 64);
        struct data data = data_clustered(MANY, 64, 40, 1, 0, false);
        struct data queries = data_clustered(100, 64, 40, 1, 1, false);
        struct built built;
        struct index_query query = {.k = 10, .gamma = -1, .target_recall = 0.9f};
        spec.code_bits = bits;
        make_built(&built, &data, &spec, 1);
        assert_recall(recall_of(&built, &data, &queries, &query, NULL), 0.88);
        built_free(&built);
        data_free(&data);
        data_free(&queries);
    }
}

/* Rows that a bound rules out are not returned; who is among the k nearest is, whatever the
 * want. */
static void bounds_drop_candidates_but_not_results(void **state)
{
    (void)state;
    struct data data = data_clustered(4000, 128, 400, 1, 0, false);
    struct data queries = data_clustered(QUERIES, 128, 400, 1, 1, false);
    struct index_spec spec = spec_of(INDEX_FLAT, QUANTIZE_BINARY, PDB_METRIC_EUCLIDEAN, 128);
    struct built built;
    struct index_scratch *scratch = NULL;
    static struct index_candidate candidates[500];
    uint64_t returned = 0;
    struct index_query query = {.k = 10, .gamma = -1, .want = 500};
    spec.code_bits = 4;
    make_built(&built, &data, &spec, 1);
    assert_recall(recall_of(&built, &data, &queries, &query, NULL), 0.995);
    assert_int_equal(index_scratch_open(&built.heap, 4000, 128, &scratch), PDB_OK);
    for (uint32_t i = 0; i < QUERIES; i++) {
        struct index_search search;
        query.vector = vector_of(&queries, i);
        index_search_begin(&search, scratch, &built.index, &query);
        while (!index_search_step(&search, 1500))
            ;
        uint32_t count = index_search_end(&search, candidates);
        assert_in_range(count, 10, 500);
        returned += count;
    }
    assert_true(returned < (uint64_t)QUERIES * 60);
    index_scratch_close(scratch, &built.heap);
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

static void the_fewer_bits_the_more_are_ranked_again(void **state)
{
    (void)state;
    struct index index = {.quantizer = {.kind = QUANTIZE_BINARY}};
    uint32_t before = UINT32_MAX;
    for (uint32_t bits = 1; bits <= BITS; bits++) {
        index.quantizer.bits = bits;
        assert_true(index_want_of(&index, 10) <= before);
        before = index_want_of(&index, 10);
        assert_true(index_want_of(&index, 1) >= index_want(1));
    }
    assert_int_equal(before, index_want(10));
}

/* ---- images ---- */

static int opened(uint8_t *image, size_t length, struct heap *heap, struct index *index_out)
{
    struct index_image_reader reader;
    struct trail trail = {0};
    int rc = index_image_open(&reader, image, length, &trail);
    while (rc == PDB_OK && (rc = index_image_step(&reader, 200, &trail)) == 1)
        rc = PDB_OK;
    return rc == PDB_OK ? index_image_finish(&reader, heap, index_out) : rc;
}

static uint8_t *image_of(const struct index *index, size_t *length_out)
{
    static struct index_image_plan plan;
    index_image_plan(index, &plan);
    uint8_t *image = aligned(plan.image_bytes);
    index_image_write(&plan, image);
    *length_out = plan.image_bytes;
    return image;
}

static void an_image_gives_the_same_index_again(void **state)
{
    (void)state;
    for (uint32_t bits = 1; bits <= BITS; bits++) {
        struct data data = data_clustered(ROWS, 70, CLUSTERS, 1, 0, false);
        struct index_spec spec = spec_of(INDEX_HNSW, QUANTIZE_BINARY, PDB_METRIC_COSINE, 70);
        struct built built, again = {0};
        size_t length;
        spec.code_bits = bits;
        make_built(&built, &data, &spec, 1);
        uint8_t *image = image_of(&built.index, &length);
        assert_int_equal(opened(image, length, &again.heap, &again.index), PDB_OK);
        assert_int_equal(again.index.quantizer.bits, bits);
        assert_same_index(&again.index, &built.index);
        built_free(&again);
        built_free(&built);
        free(image);
        data_free(&data);
    }
}

static void damaged_codes_are_found(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, 70, CLUSTERS, 1, 0, false);
    struct heap heap = {0};
    struct index index;
    for (uint32_t row = 0; row < ROWS; row += ROWS - 1)
        for (uint32_t number = 0; number < 3; number++) {
            struct built built;
            const float bad = number == 1 ? NAN : INFINITY;
            size_t length;
            code_them(&built, &data, PDB_METRIC_COSINE, 3, 1);
            uint8_t *end =
                built.index.codes.bytes + ((size_t)row + 1) * built.index.quantizer.stride;
            memcpy(end - (number + 1) * sizeof bad, &bad, sizeof bad);
            uint8_t *image = image_of(&built.index, &length);
            assert_int_equal(opened(image, length, &heap, &index), PDB_DATA_LOSS);
            free(image);
            built_free(&built);
        }
    data_free(&data);
}

static void bits_out_of_range_are_refused(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, 70, CLUSTERS, 1, 0, false);
    const uint32_t wrong[] = {0, 9, 1000, UINT32_MAX};
    struct heap heap = {0};
    struct index index;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct built built;
        size_t length;
        code_them(&built, &data, PDB_METRIC_COSINE, 1, 1);
        built.index.quantizer.bits = wrong[i];
        uint8_t *image = image_of(&built.index, &length);
        assert_int_equal(opened(image, length, &heap, &index), PDB_DATA_LOSS);
        free(image);
        built_free(&built);
    }
    struct index_spec spec = spec_of(INDEX_FLAT, QUANTIZE_BINARY, PDB_METRIC_COSINE, 70);
    const struct source source = {&data, NOT_BROKEN};
    const struct index_rows rows = rows_of(&source);
    struct index_make *make = NULL;
    spec.code_bits = 9;
    assert_int_equal(index_make_begin(&spec, &rows, NULL, &make), PDB_INVALID_ARGUMENT);
    data_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(estimates_are_unbiased_and_within_their_bounds),
        cmocka_unit_test(bounds_shrink_with_bits),
        cmocka_unit_test(magnitude_does_not_matter),
        cmocka_unit_test(extremes_zeros_and_equal_rows_give_numbers),
        cmocka_unit_test(the_widest_vectors_have_codes),
        cmocka_unit_test(defaults_find_with_any_number_of_bits),
        cmocka_unit_test(a_target_is_met_on_other_queries),
        cmocka_unit_test(bounds_drop_candidates_but_not_results),
        cmocka_unit_test(the_fewer_bits_the_more_are_ranked_again),
        cmocka_unit_test(an_image_gives_the_same_index_again),
        cmocka_unit_test(damaged_codes_are_found),
        cmocka_unit_test(bits_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
