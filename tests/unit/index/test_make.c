/* Making indexes of every kind from vectors: src/index/make.c. */
#include "make_fixture.h"

enum { DIMENSION = 24, ROWS = SANITIZED ? 1000 : 3000, QUERIES = 60, CLUSTERS = 30 };

static const struct index_query ten = {.k = 10, .gamma = -1};

static const struct kind {
    enum index_kind kind;
    enum quantize_kind codes;
} kinds[] = {
    {INDEX_FLAT, QUANTIZE_SQ8},    {INDEX_FLAT, QUANTIZE_SQ4},    {INDEX_HNSW, QUANTIZE_SQ8},
    {INDEX_HNSW, QUANTIZE_SQ4},    {INDEX_FLAT, QUANTIZE_NONE},   {INDEX_HNSW, QUANTIZE_NONE},
    {INDEX_FLAT, QUANTIZE_BINARY}, {INDEX_HNSW, QUANTIZE_BINARY}, {INDEX_FLAT, QUANTIZE_PQ},
    {INDEX_HNSW, QUANTIZE_PQ},     {INDEX_IVF, QUANTIZE_SQ8},     {INDEX_IVF, QUANTIZE_SQ4},
    {INDEX_IVF, QUANTIZE_PQ},      {INDEX_IVF, QUANTIZE_NONE},    {INDEX_IVF, QUANTIZE_BINARY},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static struct index_spec kind_spec(size_t i, enum pdb_metric metric)
{
    return spec_of(kinds[i].kind, kinds[i].codes, metric, DIMENSION);
}

static void every_kind_finds_what_the_exact_scan_finds(void **state)
{
    (void)state;
    const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};
    struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 1, 0, false);
    struct data queries = data_clustered(QUERIES, DIMENSION, CLUSTERS, 1, 1, false);
    for (size_t i = 0; i < KINDS; i++)
        for (size_t j = 0; j < 3; j++) {
            const struct index_spec spec = kind_spec(i, metrics[j]);
            struct built built;
            make_built(&built, &data, &spec, 1);
            assert_int_equal(built.index.has_graph, spec.kind == INDEX_HNSW);
            assert_int_equal(built.index.has_lists, spec.kind == INDEX_IVF);
            assert_int_equal(built.index.quantizer.kind, spec.codes);
            if (built.index.has_graph)
                assert_sound(&built.index.graph);
            struct index_query how = ten;
            how.want = spec.codes == QUANTIZE_SQ4 ? 16 : 0;
            assert_recall(recall_of(&built, &data, &queries, &how, NULL), 0.95);
            built_free(&built);
        }
    data_free(&data);
    data_free(&queries);
}

/* Bits packed without a gap, in memory that ends with them. */
static const float *packed_bits(const void *owner, uint32_t row, float *room)
{
    (void)room;
    return (const float *)(const void *)((const uint8_t *)owner + (size_t)row * (DIMENSION / 8));
}

static void full_rows_have_indexes_of_every_metric(void **state)
{
    (void)state;
    const enum pdb_metric metrics[] = {PDB_METRIC_MANHATTAN, PDB_METRIC_HAMMING};
    for (size_t i = 0; i < 2; i++)
        for (enum index_kind kind = INDEX_FLAT; kind <= INDEX_IVF; kind++) {
            const struct index_spec spec = spec_of(kind, QUANTIZE_NONE, metrics[i], DIMENSION);
            struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 1, 0, false);
            struct data queries = data_clustered(QUERIES, DIMENSION, CLUSTERS, 1, 1, false);
            struct built built = {0};
            struct index_rows rows = {.count = ROWS, .vector = packed_bits};
            uint8_t *packed = malloc(ROWS * DIMENSION / 8);
            assert_non_null(packed);
            if (metrics[i] == PDB_METRIC_HAMMING) {
                data_to_bits(&data);
                data_to_bits(&queries);
                for (uint32_t row = 0; row < ROWS; row++)
                    memcpy(packed + row * (DIMENSION / 8), vector_of(&data, row), DIMENSION / 8);
                rows.owner = packed;
                assert_int_equal(make_all(&spec, &rows, 2, &built.heap, &built.index), PDB_OK);
            } else {
                make_built(&built, &data, &spec, 2);
            }
            assert_recall(recall_of(&built, &data, &queries, &ten, NULL), 0.95);
            built_free(&built);
            free(packed);
            data_free(&data);
            data_free(&queries);
        }
}

static void workers_and_order_of_parts_do_not_matter(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 2, 0, false);
    for (size_t i = 0; i < KINDS; i++) {
        const struct index_spec spec = kind_spec(i, PDB_METRIC_COSINE);
        struct built one, two;
        make_built(&one, &data, &spec, 1);
        make_built(&two, &data, &spec, 2);
        assert_same_index(&one.index, &two.index);
        built_free(&one);
        built_free(&two);
    }
    data_free(&data);
}

static void few_rows_are_an_index_too(void **state)
{
    (void)state;
    const uint32_t counts[] = {1, 2, 9, 10, 11};
    for (size_t i = 0; i < KINDS; i++)
        for (size_t j = 0; j < sizeof counts / sizeof counts[0]; j++) {
            const struct index_spec spec = kind_spec(i, PDB_METRIC_EUCLIDEAN);
            struct data data = data_clustered(counts[j], DIMENSION, 2, 3, 0, false);
            struct built built;
            make_built(&built, &data, &spec, 1);
            assert_recall(recall_of(&built, &data, &data, &(struct index_query){.k = 1}, NULL),
                          counts[j] > 10 ? 0.9 : 1);
            built_free(&built);
            data_free(&data);
        }
}

static void what_does_not_exist_is_refused(void **state)
{
    (void)state;
    struct data data = data_clustered(50, DIMENSION, CLUSTERS, 4, 0, false);
    const struct source source = {&data, NOT_BROKEN};
    struct index_rows rows = rows_of(&source);
    struct index_make *make = NULL;
    const struct index_spec good = kind_spec(2, PDB_METRIC_COSINE);
    struct index_spec wrong[] = {good, good, good, good, good};
    wrong[0].metric = PDB_METRIC_MANHATTAN;
    wrong[1].m = 5;
    wrong[2].ef_construction = 4000;
    wrong[3].dimension = 0;
    wrong[4].dimension = PDB_DIMENSION_MAX + 1;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(index_make_begin(&wrong[i], &rows, NULL, &make), PDB_INVALID_ARGUMENT);
    rows.count = 0;
    assert_int_equal(index_make_begin(&good, &rows, NULL, &make), PDB_OUT_OF_RANGE);
    assert_null(make);
    assert_true(index_make_supports(&good));
    assert_false(index_make_supports(&wrong[0]));
    index_make_abandon(NULL);
    index_worker_close(NULL, NULL);
    data_free(&data);
}

static void a_vector_that_cannot_be_read_ends_the_making(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 5, 0, false);
    for (size_t i = 0; i < KINDS; i++)
        for (uint32_t row = 0; row < ROWS; row += ROWS / 3 - 1) {
            const struct index_spec spec = kind_spec(i, PDB_METRIC_DOT);
            const struct source source = {&data, row};
            const struct index_rows rows = rows_of(&source);
            struct heap heap = {0};
            struct index index = {.mapped = false};
            assert_int_equal(make_all(&spec, &rows, 2, &heap, &index), PDB_DATA_LOSS);
            assert_null(index.codes.bytes);
            assert_int_equal(heap.bytes_used, 0);
        }
    data_free(&data);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct data data = data_clustered(520, DIMENSION, CLUSTERS, 6, 0, false);
    const struct source source = {&data, NOT_BROKEN};
    const struct index_rows rows = rows_of(&source);
    for (size_t i = 0; i < KINDS; i++) {
        const struct index_spec spec = kind_spec(i, PDB_METRIC_COSINE);
        uint64_t n = 0;
        int rc;
        do {
            struct heap heap = {.fail_at = ++n};
            struct index index = {.mapped = false};
            rc = make_all(&spec, &rows, 2, &heap, &index);
            assert_true(rc == PDB_OK || rc == PDB_RESOURCE_EXHAUSTED);
            index_dispose(&index, &heap);
            assert_int_equal(heap.bytes_used, 0);
        } while (rc != PDB_OK);
        assert_true(n > 6);
    }
    data_free(&data);
}

static void abandon_everywhere(const struct index_rows *rows, size_t kind)
{
    const struct index_spec spec = kind_spec(kind, PDB_METRIC_COSINE);
    bool finished = false;
    for (uint32_t stop = 0; !finished; stop++) {
        struct heap heap = {0};
        struct index_make *make = NULL;
        struct index_worker *worker = NULL;
        uint32_t phases = 0, parts = 0;
        assert_int_equal(index_make_begin(&spec, rows, &heap, &make), PDB_OK);
        assert_int_equal(index_worker_open(make, &heap, &worker), PDB_OK);
        while (phases++ < stop && (parts = index_make_parts(make)) > 0) {
            for (uint32_t i = 0; i < parts; i++)
                index_make_part(make, i, worker);
            index_make_advance(make);
        }
        finished = index_make_parts(make) == 0;
        index_make_abandon(make);
        index_worker_close(worker, &heap);
        assert_int_equal(heap.bytes_used, 0);
    }
}

static void a_making_may_be_abandoned_in_every_phase(void **state)
{
    (void)state;
    struct data data = data_clustered(300, DIMENSION, CLUSTERS, 7, 0, false);
    const struct source source = {&data, NOT_BROKEN};
    const struct index_rows rows = rows_of(&source);
    for (size_t i = 0; i < KINDS; i++)
        abandon_everywhere(&rows, i);
    data_free(&data);
}

static void follow_progress(const struct index_rows *rows, size_t kind)
{
    const struct index_spec spec = kind_spec(kind, PDB_METRIC_COSINE);
    struct heap heap = {0};
    struct index_make *make = NULL;
    struct index_worker *worker = NULL;
    struct index index;
    uint64_t before = 0, done = 0, total = 0, first_total = 0;
    assert_int_equal(index_make_begin(&spec, rows, &heap, &make), PDB_OK);
    assert_int_equal(index_worker_open(make, &heap, &worker), PDB_OK);
    index_make_progress(make, &done, &first_total);
    assert_true(first_total >= ROWS);
    for (uint32_t parts; (parts = index_make_parts(make)) > 0;) {
        for (uint32_t i = 0; i < parts; i++)
            index_make_part(make, i, worker);
        index_make_advance(make);
        index_make_progress(make, &done, &total);
        assert_true(done >= before && done <= total);
        assert_int_equal(total, first_total);
        before = done;
    }
    assert_int_equal(done, total);
    index_worker_close(worker, &heap);
    assert_int_equal(index_make_end(make, &index), PDB_OK);
    index_dispose(&index, &heap);
    assert_int_equal(heap.bytes_used, 0);
}

static void progress_never_goes_back_and_ends_at_the_whole(void **state)
{
    (void)state;
    struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 8, 0, false);
    const struct source source = {&data, NOT_BROKEN};
    const struct index_rows rows = rows_of(&source);
    for (size_t i = 0; i < KINDS; i++)
        follow_progress(&rows, i);
    data_free(&data);
}

/* Lists of two links on a lump of equal rows lose some, as in test_hnsw. */
static void repairs_of_a_graph_are_counted(void **state)
{
    (void)state;
    struct data data = data_clustered(3000, 3, 500, 9, 0, false);
    struct index_spec spec = spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, 3);
    spec.m = 4;
    spec.ef_construction = 8;
    for (int poor = 0; poor < 2; poor++) {
        const struct source source = {&data, NOT_BROKEN};
        const struct index_rows rows = rows_of(&source);
        struct index_make *make = NULL;
        struct index_worker *worker = NULL;
        struct built built = {0};
        spec.kind = poor ? INDEX_HNSW : INDEX_FLAT;
        assert_int_equal(index_make_begin(&spec, &rows, &built.heap, &make), PDB_OK);
        assert_int_equal(index_worker_open(make, &built.heap, &worker), PDB_OK);
        for (uint32_t parts; (parts = index_make_parts(make)) > 0; index_make_advance(make))
            for (uint32_t i = 0; i < parts; i++)
                index_make_part(make, i, worker);
        assert_int_equal(index_make_repaired(make) > 0, poor);
        index_worker_close(worker, &built.heap);
        assert_int_equal(index_make_end(make, &built.index), PDB_OK);
        built_free(&built);
    }
    data_free(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_finds_what_the_exact_scan_finds),
        cmocka_unit_test(full_rows_have_indexes_of_every_metric),
        cmocka_unit_test(workers_and_order_of_parts_do_not_matter),
        cmocka_unit_test(few_rows_are_an_index_too),
        cmocka_unit_test(what_does_not_exist_is_refused),
        cmocka_unit_test(a_vector_that_cannot_be_read_ends_the_making),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_making_may_be_abandoned_in_every_phase),
        cmocka_unit_test(progress_never_goes_back_and_ends_at_the_whole),
        cmocka_unit_test(repairs_of_a_graph_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
