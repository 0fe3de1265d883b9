/* Indexes that begin with another one: src/index/hnsw_merge.c, make_merge.c. */
#include "make_fixture.h"

enum { DIMENSION = 24, CLUSTERS = 40, QUERIES = 300 };

static const struct index_query ten = {.k = 10, .gamma = 0, .ef = 48};

/* Rows `first` to `first + count` of `all`. */
static struct data slice(const struct data *all, uint32_t first, uint32_t count)
{
    struct data data = data_new(count, all->dimension);
    memcpy(data.vectors, vector_of(all, first), (size_t)count * all->dimension * sizeof(float));
    return data;
}

static void make_from(struct built *built, const struct data *data, const struct index_spec *spec,
                      const struct index *base, const uint32_t *base_rows, uint32_t workers)
{
    const struct source source = {data, NOT_BROKEN};
    struct index_rows rows = rows_of(&source);
    rows.base = base;
    rows.base_rows = base_rows;
    *built = (struct built){0};
    assert_int_equal(make_all(spec, &rows, workers, &built->heap, &built->index), PDB_OK);
    assert_true(built->heap.bytes_peak <= index_make_bytes(spec, data->count, workers));
}

static bool would_merge(const struct data *data, const struct index_spec *spec,
                        const struct index *base, const uint32_t *base_rows)
{
    const struct source source = {data, NOT_BROKEN};
    struct index_rows rows = rows_of(&source);
    struct index_make *make = NULL;
    rows.base = base;
    rows.base_rows = base_rows;
    assert_int_equal(index_make_begin(spec, &rows, NULL, &make), PDB_OK);
    bool merges = index_make_merges(make);
    index_make_abandon(make);
    return merges;
}

/* A segment that loses rows and gains others: rows `from` to `from + lost` are gone, the others
 * move up, and new ones follow. */
struct step {
    struct data data;
    uint32_t *base_rows;
};

static struct step step_of(const struct data *before, uint32_t from, uint32_t lost,
                           const struct data *gained)
{
    struct step step = {data_new(before->count - lost + gained->count, before->dimension), NULL};
    uint32_t count = 0;
    const size_t bytes = before->dimension * sizeof(float);
    step.base_rows = malloc(before->count * sizeof(uint32_t));
    assert_non_null(step.base_rows);
    for (uint32_t row = 0; row < before->count; row++) {
        bool gone = row >= from && row < from + lost;
        step.base_rows[row] = gone ? INDEX_ROW_GONE : count;
        if (!gone)
            memcpy(vector_of(&step.data, count++), vector_of(before, row), bytes);
    }
    for (uint32_t row = 0; row < gained->count; row++)
        memcpy(vector_of(&step.data, count++), vector_of(gained, row), bytes);
    return step;
}

static void step_free(struct step *step)
{
    data_free(&step->data);
    free(step->base_rows);
}

static double recall_now(const struct built *built, const struct data *data, uint64_t seed)
{
    struct data queries = data_clustered(QUERIES, DIMENSION, CLUSTERS, seed, 1, false);
    double *kths = exact_kths(data, &queries, built->index.quantizer.metric, 10);
    double recall = recall_against(built, data, &queries, kths, &ten);
    free(kths);
    data_free(&queries);
    return recall;
}

static void assert_no_worse_than_fresh(const struct built *merged, const struct data *data,
                                       const struct index_spec *spec, uint64_t seed)
{
    struct built fresh;
    make_built(&fresh, data, spec, 1);
    double theirs = recall_now(&fresh, data, seed), ours = recall_now(merged, data, seed);
    if (ours < theirs - 0.01)
        fail_msg("recall %.4f after merging, %.4f fresh", ours, theirs);
    struct heap heap = {0};
    struct hnsw_findings after, before;
    assert_int_equal(hnsw_check(&merged->index.graph, &heap, &after), PDB_OK);
    assert_int_equal(hnsw_check(&fresh.index.graph, &heap, &before), PDB_OK);
    assert_true((double)after.links > 0.8 * (double)before.links);
    built_free(&fresh);
}

/* Once round: in ten steps every row has been replaced. */
static void churn(enum quantize_kind codes, enum pdb_metric metric)
{
    enum { ROWS = SANITIZED ? 1000 : 2500, STEP = ROWS / 10 };
    const struct index_spec spec = spec_of(INDEX_HNSW, codes, metric, DIMENSION);
    struct data data = data_clustered(ROWS, DIMENSION, CLUSTERS, 31, 0, false);
    struct built built;
    make_built(&built, &data, &spec, 1);
    for (uint32_t i = 0; i < 10; i++) {
        struct data gained = data_clustered(STEP, DIMENSION, CLUSTERS, 31, 10 + i, i % 2 == 0);
        struct step step = step_of(&data, 0, STEP, &gained);
        struct built next;
        assert_true(would_merge(&step.data, &spec, &built.index, step.base_rows));
        make_from(&next, &step.data, &spec, &built.index, step.base_rows, 1);
        assert_sound(&next.index.graph);
        built_free(&built);
        built = next;
        data_free(&data);
        data = slice(&step.data, 0, step.data.count);
        step_free(&step);
        data_free(&gained);
    }
    assert_no_worse_than_fresh(&built, &data, &spec, 31);
    built_free(&built);
    data_free(&data);
}

static void after_all_rows_were_replaced_by_merges_recall_is_that_of_a_fresh_build(void **state)
{
    (void)state;
    churn(QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN);
    churn(QUANTIZE_SQ8, PDB_METRIC_DOT);
    churn(QUANTIZE_SQ4, PDB_METRIC_COSINE);
    churn(QUANTIZE_NONE, PDB_METRIC_EUCLIDEAN);
}

static void a_graph_that_grows_by_merges_stays_as_good(void **state)
{
    (void)state;
    const struct index_spec spec =
        spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
    struct data data = data_clustered(300, DIMENSION, CLUSTERS, 32, 0, false);
    struct data none = data_new(0, DIMENSION);
    struct built built;
    make_built(&built, &data, &spec, 1);
    while (data.count < (SANITIZED ? 2000 : 5000)) {
        struct data gained =
            data_clustered(data.count * 2 / 3, DIMENSION, CLUSTERS, 32, data.count, false);
        struct step step = step_of(&data, 0, 0, &gained);
        struct built next;
        make_from(&next, &step.data, &spec, &built.index, step.base_rows, 1);
        assert_sound(&next.index.graph);
        built_free(&built);
        built = next;
        data_free(&data);
        data = slice(&step.data, 0, step.data.count);
        step_free(&step);
        data_free(&gained);
    }
    assert_no_worse_than_fresh(&built, &data, &spec, 32);
    built_free(&built);
    data_free(&data);
    data_free(&none);
}

static void two_workers_merge_to_the_same_graph(void **state)
{
    (void)state;
    const struct index_spec spec = spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_COSINE, DIMENSION);
    struct data data = data_clustered(2000, DIMENSION, CLUSTERS, 33, 0, true);
    struct data gained = data_clustered(700, DIMENSION, CLUSTERS, 33, 1, true);
    struct step step = step_of(&data, 300, 600, &gained);
    struct built built, one, two;
    make_built(&built, &data, &spec, 1);
    make_from(&one, &step.data, &spec, &built.index, step.base_rows, 1);
    make_from(&two, &step.data, &spec, &built.index, step.base_rows, 2);
    assert_same_index(&one.index, &two.index);
    assert_no_worse_than_fresh(&one, &step.data, &spec, 33);
    built_free(&one);
    built_free(&two);
    built_free(&built);
    step_free(&step);
    data_free(&gained);
    data_free(&data);
}

/* The quantizer of the base is kept while it suits, and not when new rows lie far outside. */
static void codes_are_copied_until_values_clip(void **state)
{
    (void)state;
    const struct index_spec spec =
        spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
    struct data data = data_clustered(1500, DIMENSION, CLUSTERS, 34, 0, false);
    struct data near = data_clustered(500, DIMENSION, CLUSTERS, 34, 1, false);
    struct data far = data_clustered(500, DIMENSION, CLUSTERS, 34, 1, false);
    for (size_t i = 0; i < (size_t)far.count * DIMENSION; i++)
        far.vectors[i] *= 4;
    struct built built;
    make_built(&built, &data, &spec, 1);
    const struct data *gained[] = {&near, &far};
    for (int i = 0; i < 2; i++) {
        struct step step = step_of(&data, 0, 0, gained[i]);
        struct built next;
        make_from(&next, &step.data, &spec, &built.index, step.base_rows, 1);
        bool kept = next.index.quantizer.scale == built.index.quantizer.scale;
        assert_int_equal(kept, i == 0);
        assert_sound(&next.index.graph);
        assert_no_worse_than_fresh(&next, &step.data, &spec, 34);
        built_free(&next);
        step_free(&step);
    }
    built_free(&built);
    data_free(&data);
    data_free(&near);
    data_free(&far);
}

static void what_would_not_pay_is_built_anew(void **state)
{
    (void)state;
    const struct index_spec spec =
        spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
    struct data data = data_clustered(600, DIMENSION, CLUSTERS, 35, 0, false);
    struct data few = data_clustered(100, DIMENSION, CLUSTERS, 35, 1, false);
    struct data many = data_clustered(700, DIMENSION, CLUSTERS, 35, 2, false);
    struct step good = step_of(&data, 0, 200, &few), gone = step_of(&data, 0, 300, &few);
    struct step grown = step_of(&data, 0, 0, &many);
    struct index_spec other = spec;
    struct built built;
    make_built(&built, &data, &spec, 1);
    assert_true(would_merge(&good.data, &spec, &built.index, good.base_rows));
    assert_false(would_merge(&gone.data, &spec, &built.index, gone.base_rows));
    assert_false(would_merge(&grown.data, &spec, &built.index, grown.base_rows));
    other.m = 8;
    assert_false(would_merge(&good.data, &other, &built.index, good.base_rows));
    other = spec;
    other.metric = PDB_METRIC_COSINE;
    assert_false(would_merge(&good.data, &other, &built.index, good.base_rows));
    other = spec;
    other.kind = INDEX_FLAT;
    assert_false(would_merge(&good.data, &other, &built.index, good.base_rows));
    struct built next; /* with a base that is passed over */
    make_from(&next, &gone.data, &spec, &built.index, gone.base_rows, 1);
    assert_sound(&next.index.graph);
    built_free(&next);
    built_free(&built);
    step_free(&good);
    step_free(&gone);
    step_free(&grown);
    data_free(&data);
    data_free(&few);
    data_free(&many);
}

/* Whole clusters go, and the entry point with them. */
static void neighbourhoods_may_go_and_the_rest_hangs_together(void **state)
{
    (void)state;
    const struct index_spec spec =
        spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
    struct data data = data_clustered(2000, DIMENSION, 5, 36, 0, true);
    struct data none = data_new(0, DIMENSION);
    struct built built;
    make_built(&built, &data, &spec, 1);
    for (uint32_t from = 0; from + 790 <= 2000; from += 400) {
        struct step step = step_of(&data, from, 790, &none);
        struct built next;
        assert_true(would_merge(&step.data, &spec, &built.index, step.base_rows));
        make_from(&next, &step.data, &spec, &built.index, step.base_rows, 1);
        assert_sound(&next.index.graph);
        built_free(&next);
        step_free(&step);
    }
    built_free(&built);
    data_free(&data);
    data_free(&none);
}

static void copies_of_one_vector_survive_merges(void **state)
{
    (void)state;
    const struct index_spec spec =
        spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
    struct data data = data_clustered(1000, DIMENSION, CLUSTERS, 37, 0, false);
    struct data gained = data_clustered(400, DIMENSION, CLUSTERS, 37, 1, false);
    for (uint32_t row = 100; row < data.count; row++)
        memcpy(vector_of(&data, row), vector_of(&data, 99), DIMENSION * sizeof(float));
    for (uint32_t row = 0; row < 300; row++)
        memcpy(vector_of(&gained, row), vector_of(&data, 99), DIMENSION * sizeof(float));
    struct step step = step_of(&data, 200, 300, &gained);
    struct built built, next;
    make_built(&built, &data, &spec, 1);
    make_from(&next, &step.data, &spec, &built.index, step.base_rows, 1);
    assert_sound(&next.index.graph);
    assert_no_worse_than_fresh(&next, &step.data, &spec, 37);
    built_free(&next);
    built_free(&built);
    step_free(&step);
    data_free(&data);
    data_free(&gained);
}

static void every_allocation_of_a_merge_may_fail(void **state)
{
    (void)state;
    const struct index_spec spec =
        spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
    struct data data = data_clustered(520, DIMENSION, CLUSTERS, 38, 0, false);
    struct data gained = data_clustered(50, DIMENSION, CLUSTERS, 38, 1, false);
    struct step step = step_of(&data, 0, 50, &gained);
    const struct source source = {&step.data, NOT_BROKEN};
    struct index_rows rows = rows_of(&source);
    struct built built;
    make_built(&built, &data, &spec, 1);
    rows.base = &built.index;
    rows.base_rows = step.base_rows;
    uint64_t n = 0;
    int rc;
    do {
        struct heap heap = {.fail_at = ++n};
        struct index index = {.has_graph = false};
        rc = make_all(&spec, &rows, 2, &heap, &index);
        assert_true(rc == PDB_OK || rc == PDB_RESOURCE_EXHAUSTED);
        index_dispose(&index, &heap);
        assert_int_equal(heap.bytes_used, 0);
    } while (rc != PDB_OK);
    assert_true(n > 15);
    built_free(&built);
    step_free(&step);
    data_free(&data);
    data_free(&gained);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_all_rows_were_replaced_by_merges_recall_is_that_of_a_fresh_build),
        cmocka_unit_test(a_graph_that_grows_by_merges_stays_as_good),
        cmocka_unit_test(two_workers_merge_to_the_same_graph),
        cmocka_unit_test(codes_are_copied_until_values_clip),
        cmocka_unit_test(what_would_not_pay_is_built_anew),
        cmocka_unit_test(neighbourhoods_may_go_and_the_rest_hangs_together),
        cmocka_unit_test(copies_of_one_vector_survive_merges),
        cmocka_unit_test(every_allocation_of_a_merge_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
