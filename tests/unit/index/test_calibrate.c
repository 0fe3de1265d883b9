/* Recall that is asked for: src/index/calibrate.c, make_calibrate.c. */
#include "make_fixture.h"

enum { DIMENSION = 32, ROWS = 8000, QUERIES = 400, CLUSTERS = 60 };

/* Every dimension as likely as any other: the hardest there is. */
static struct data data_uniform(uint32_t count, uint64_t seed)
{
    struct data data = data_new(count, DIMENSION);
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < (size_t)count * DIMENSION; i++)
        data.vectors[i] = (float)rng_normal(&rng);
    return data;
}

/* Dimensions of ever smaller variance, and clusters of very unlike sizes. */
static struct data data_skewed(uint32_t count, uint64_t draw)
{
    struct data data = data_new(count, DIMENSION);
    struct data centres = data_uniform(CLUSTERS, 99);
    struct rng rng;
    rng_seed(&rng, 1234 + draw);
    for (uint32_t row = 0; row < count; row++) {
        uint32_t cluster = (uint32_t)rng_below(&rng, 1 + rng_below(&rng, CLUSTERS));
        float scale = 1;
        for (uint32_t j = 0; j < DIMENSION; j++, scale *= 0.9f)
            vector_of(&data, row)[j] =
                scale * (2 * vector_of(&centres, cluster)[j] +
                         0.1f * (float)(1 + cluster) * (float)rng_normal(&rng));
    }
    data_free(&centres);
    return data;
}

static struct data data_of(uint32_t shape, uint32_t count, uint64_t draw)
{
    if (shape == 0)
        return data_clustered(count, DIMENSION, CLUSTERS, 21, draw, true);
    return shape == 1 ? data_uniform(count, 22 + draw) : data_skewed(count, draw);
}

static const enum pdb_metric metrics[] = {PDB_METRIC_EUCLIDEAN, PDB_METRIC_COSINE, PDB_METRIC_DOT};

static void assert_targets_met(const struct built *built, const struct data *data,
                               const struct data *queries, uint32_t k)
{
    const float targets[] = {0.8f, 0.9f, 0.95f, 0.99f};
    double *kths = exact_kths(data, queries, built->index.quantizer.metric, k);
    for (size_t t = 0; t < sizeof targets / sizeof targets[0]; t++) {
        const struct index_query how = {.k = k, .gamma = -1, .target_recall = targets[t]};
        struct calibration_choice choice;
        calibration_choose(&built->index.calibration, k, targets[t], &choice);
        if (!choice.met && built->index.quantizer.kind == QUANTIZE_PQ)
            continue; /* so coarse that the caller is told so */
        double recall = recall_against(built, data, queries, kths, &how);
        if (recall < (double)targets[t] - 0.01)
            fail_msg("k %u, metric %d, target %.2f: recall %.4f", k,
                     (int)built->index.quantizer.metric, (double)targets[t], recall);
    }
    free(kths);
}

static void a_target_is_met_on_queries_nobody_has_seen(void **state)
{
    (void)state;
    for (uint32_t shape = 0; shape < 3; shape++) {
        struct data data = data_of(shape, SANITIZED ? ROWS / 2 : ROWS, 0);
        struct data queries = data_of(shape, QUERIES, 1);
        for (size_t m = 0; m < 3; m++) {
            if (SANITIZED && m != shape)
                continue;
            const struct index_spec spec = spec_of(INDEX_HNSW, QUANTIZE_SQ8, metrics[m], DIMENSION);
            struct built built;
            make_built(&built, &data, &spec, 1);
            assert_false(index_codes_unfit(&built.index));
            assert_targets_met(&built, &data, &queries, 10);
            built_free(&built);
        }
        data_free(&data);
        data_free(&queries);
    }
}

static void every_k_has_its_effort(void **state)
{
    (void)state;
    struct data data = data_of(2, ROWS / 2, 0), queries = data_of(2, QUERIES, 1);
    const struct index_spec spec =
        spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
    struct built built;
    make_built(&built, &data, &spec, 1);
    const uint32_t ks[] = {1, 30, 150};
    for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++)
        assert_targets_met(&built, &data, &queries, ks[i]);
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

static void lists_are_probed_as_the_target_takes(void **state)
{
    (void)state;
    struct data data = data_of(2, ROWS / 2, 0), queries = data_of(2, QUERIES, 1);
    const enum quantize_kind codes[] = {QUANTIZE_SQ8, QUANTIZE_PQ};
    for (size_t i = 0; i < 2; i++) {
        const struct index_spec spec =
            spec_of(INDEX_IVF, codes[i], PDB_METRIC_EUCLIDEAN, DIMENSION);
        struct built built;
        make_built(&built, &data, &spec, 1);
        assert_int_equal(built.index.calibration.effort_kind, EFFORT_PROBES);
        assert_targets_met(&built, &data, &queries, 10);
        built_free(&built);
    }
    data_free(&data);
    data_free(&queries);
}

static void coarse_codes_are_ranked_again_from_more_candidates(void **state)
{
    (void)state;
    const enum index_kind kinds[] = {INDEX_FLAT, INDEX_HNSW};
    struct data data = data_of(0, ROWS / 2, 0), queries = data_of(0, QUERIES, 1);
    double *kths = exact_kths(&data, &queries, PDB_METRIC_EUCLIDEAN, 10);
    for (size_t i = 0; i < 2; i++) {
        const struct index_spec spec =
            spec_of(kinds[i], QUANTIZE_SQ4, PDB_METRIC_EUCLIDEAN, DIMENSION);
        struct built built;
        make_built(&built, &data, &spec, 1);
        assert_int_not_equal(built.index.calibration.query_count, 0);
        const struct index_query fixed = {.k = 10, .want = index_want(10), .gamma = -1};
        const struct index_query chosen = {.k = 10, .gamma = -1, .target_recall = 0.99f};
        assert_true(recall_against(&built, &data, &queries, kths, &fixed) < 0.97);
        assert_recall(recall_against(&built, &data, &queries, kths, &chosen), 0.98);
        built_free(&built);
    }
    free(kths);
    data_free(&data);
    data_free(&queries);
}

/* One dimension of a thousand times the others' range leaves a code nothing to tell rows by. */
static void codes_that_say_nothing_are_called_unfit(void **state)
{
    (void)state;
    const enum index_kind kinds[] = {INDEX_FLAT, INDEX_HNSW};
    struct data data = data_uniform(2000, 5);
    for (uint32_t row = 0; row < data.count; row++)
        for (uint32_t j = 1; j < DIMENSION; j++)
            vector_of(&data, row)[j] *= 1e-4f;
    for (uint32_t row = 0; row < data.count; row++) /* few values: the rest has to decide */
        vector_of(&data, row)[0] = roundf(vector_of(&data, row)[0]);
    for (size_t i = 0; i < 2; i++) {
        const struct index_spec spec =
            spec_of(kinds[i], QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
        struct built built;
        make_built(&built, &data, &spec, 1);
        assert_true(index_codes_unfit(&built.index));
        built_free(&built);
    }
    data_free(&data);
}

static void copies_of_the_right_rows_are_right(void **state)
{
    (void)state;
    struct data data = data_of(0, 4000, 0);
    for (uint32_t row = 0; row < data.count; row++) /* each 500 times */
        memcpy(vector_of(&data, row), vector_of(&data, row % 8), DIMENSION * sizeof(float));
    const struct index_spec spec =
        spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
    struct built built;
    make_built(&built, &data, &spec, 1);
    const struct calibration *c = &built.index.calibration;
    assert_int_not_equal(c->query_count, 0);
    assert_true(c->points[1][c->step_count - 1].recall.recall[0] > 0.999f);
    assert_false(index_codes_unfit(&built.index));
    built_free(&built);
    data_free(&data);
}

/* Five of six queries are such copies, which anything finds: few are left that tell. */
static void copies_do_not_hide_what_others_need(void **state)
{
    (void)state;
    struct data data = data_of(1, 6000, 0), queries = data_of(1, QUERIES, 1);
    for (uint32_t row = 1000; row < data.count; row++)
        memcpy(vector_of(&data, row), vector_of(&data, 0), DIMENSION * sizeof(float));
    struct index_spec spec = spec_of(INDEX_FLAT, QUANTIZE_BINARY, PDB_METRIC_COSINE, DIMENSION);
    spec.code_bits = 1;
    struct built built;
    make_built(&built, &data, &spec, 1);
    assert_int_not_equal(built.index.calibration.query_count, 0);
    double *kths = exact_kths(&data, &queries, PDB_METRIC_COSINE, 10);
    const struct index_query how = {.k = 10, .gamma = -1, .target_recall = 0.95f};
    assert_recall(recall_against(&built, &data, &queries, kths, &how), 0.94);
    free(kths);
    built_free(&built);
    data_free(&data);
    data_free(&queries);
}

static void few_rows_are_not_calibrated(void **state)
{
    (void)state;
    struct data data = data_of(0, 511, 0);
    const struct index_spec spec =
        spec_of(INDEX_HNSW, QUANTIZE_SQ8, PDB_METRIC_EUCLIDEAN, DIMENSION);
    struct built built;
    make_built(&built, &data, &spec, 1);
    assert_int_equal(built.index.calibration.query_count, 0);
    const struct index_query how = {.k = 10, .gamma = -1, .target_recall = 0.9f};
    assert_recall(recall_of(&built, &data, &data, &how, NULL), 0.95);
    built_free(&built);
    data_free(&data);
}

/* ---- choosing ---- */

/* Recall grows with the step, by candidates: 0.5 + step / 30 + j / 20; efforts 1, 2, 3 ... */
static struct calibration some_calibration(void)
{
    struct calibration c = {.query_count = 100, .effort_kind = EFFORT_EF, .step_count = 12};
    for (uint32_t step = 0; step < c.step_count; step++) {
        c.efforts[step] = (float)(step + 1);
        for (uint32_t i = 0; i < CALIBRATION_KS; i++) {
            c.points[i][step].distances = (float)(1000 * (step + 1));
            for (uint32_t j = 0; j < CALIBRATION_WANTS; j++)
                c.points[i][step].recall.recall[j] =
                    fminf(0.5f + (float)step / 30 + (float)j / 20, 1.0f);
        }
    }
    return c;
}

static void an_effort_between_two_is_chosen_by_recall(void **state)
{
    (void)state;
    struct calibration c = some_calibration();
    struct calibration_choice choice;
    for (uint32_t i = 0; i < CALIBRATION_KS; i++) /* candidates bring nothing more */
        for (uint32_t step = 0; step < c.step_count; step++)
            for (uint32_t j = 1; j < CALIBRATION_WANTS; j++)
                c.points[i][step].recall.recall[j] = c.points[i][step].recall.recall[0];
    calibration_choose(&c, 10, 0.55f, &choice);
    assert_true(choice.met && !choice.scan);
    assert_float_equal(choice.effort, 2.5, 0.01);
    assert_int_equal(choice.want, 12);
    calibration_choose(&c, 10, 0.3f, &choice);
    assert_float_equal(choice.effort, 1, 0.01);
    for (uint32_t i = 0; i < CALIBRATION_KS; i++) /* less what it may be wrong by */
        for (uint32_t step = 0; step < c.step_count; step++)
            for (uint32_t j = 0; j < CALIBRATION_WANTS; j++)
                c.points[i][step].recall.error[j] = 1.0f / 30 / 1.5f;
    calibration_choose(&c, 10, 0.55f, &choice);
    assert_float_equal(choice.effort, 3.5, 0.01);
    calibration_choose(&c, 200, 0.55f, &choice); /* twice the largest k: a pool twice as wide */
    assert_float_equal(choice.effort, 7, 0.01);
}

static void candidates_are_bought_where_they_are_cheaper_than_effort(void **state)
{
    (void)state;
    struct calibration c = some_calibration();
    struct calibration_choice choice;
    calibration_choose(&c, 10, 0.7f, &choice);
    assert_true(choice.met);
    assert_int_equal(choice.want, 192);
    assert_float_equal(choice.effort, 1, 0.01);
}

static void what_no_walk_reaches_is_scanned(void **state)
{
    (void)state;
    struct calibration c = some_calibration();
    struct calibration_choice choice;
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        for (uint32_t step = 0; step < c.step_count; step++)
            c.points[i][step].recall = (struct calibration_recall){.recall = {0.5f, 0.5f}};
    calibration_choose(&c, 10, 0.9f, &choice);
    assert_true(choice.scan && !choice.met); /* nothing is known of it */
    assert_int_equal(choice.want, 12);
    c.points[1][c.step_count - 1].recall.recall[1] = 0.6f; /* and then no more is found with more */
    c.points[1][c.step_count - 1].recall.recall[2] = 0.6f;
    c.points[1][c.step_count - 1].recall.recall[3] = 0.6f;
    c.points[1][c.step_count - 1].recall.recall[4] = 0.6f;
    calibration_choose(&c, 10, 0.9f, &choice);
    assert_int_equal(choice.want, 24);
    c.flags = CALIBRATION_SCANNED;
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        c.scan[i] = (struct calibration_recall){.recall = {0.8f, 0.85f, 0.95f, 0.97f, 0.98f}};
    calibration_choose(&c, 10, 0.9f, &choice);
    assert_true(choice.scan && choice.met);
    assert_int_equal(choice.want, 48);
    calibration_choose(&c, 10, 0.99f, &choice);
    assert_true(choice.scan && !choice.met);
    assert_int_equal(choice.want, 192);
}

static void what_is_expected_lies_between_what_was_measured(void **state)
{
    (void)state;
    struct calibration c = some_calibration();
    for (uint32_t step = 0; step < c.step_count; step++) {
        for (uint32_t i = 0; i < CALIBRATION_KS; i++)
            for (uint32_t j = 0; j < CALIBRATION_WANTS; j++) { /* candidates bring nothing more */
                c.points[i][step].recall.recall[j] = c.points[i][step].recall.recall[0];
                c.points[i][step].recall.error[j] = 1.0f / 30 / 1.5f;
            }
    }
    assert_float_equal(calibration_expected(&c, 0.55f), 0.5833f, 0.001f); /* to be sure */
    assert_float_equal(calibration_expected(&c, 0.3f), 0.5, 0.001);
    assert_float_equal(calibration_expected(&c, 1), 0, 0.001); /* a scan, and nothing is known */
    c.flags = CALIBRATION_SCANNED;
    c.scan[1] = (struct calibration_recall){.recall = {0.8f, 0.85f, 0.95f, 0.97f, 0.98f}};
    c.scan[0] = c.scan[1];
    assert_float_equal(calibration_expected(&c, 1), 0.98, 0.001);
}

static void impossible_numbers_are_noticed(void **state)
{
    (void)state;
    struct calibration c = some_calibration();
    assert_true(calibration_is_sound(&c));
    c.efforts[3] = c.efforts[2];
    assert_false(calibration_is_sound(&c));
    c = some_calibration();
    c.points[1][2].recall.recall[0] = NAN;
    assert_false(calibration_is_sound(&c));
    c = some_calibration();
    c.points[2][0].distances = -1;
    assert_false(calibration_is_sound(&c));
    c = some_calibration();
    c.step_count = CALIBRATION_STEPS + 1;
    assert_false(calibration_is_sound(&c));
    c = some_calibration();
    c.scan[0].error[4] = 2;
    assert_false(calibration_is_sound(&c));
    c = some_calibration();
    c.effort_kind = 4;
    assert_false(calibration_is_sound(&c));
    c = some_calibration();
    c.efforts[c.step_count - 1] = 1e8f; /* for 10,000 results a hundred times that: no uint32_t */
    assert_false(calibration_is_sound(&c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_is_met_on_queries_nobody_has_seen),
        cmocka_unit_test(every_k_has_its_effort),
        cmocka_unit_test(lists_are_probed_as_the_target_takes),
        cmocka_unit_test(coarse_codes_are_ranked_again_from_more_candidates),
        cmocka_unit_test(codes_that_say_nothing_are_called_unfit),
        cmocka_unit_test(copies_of_the_right_rows_are_right),
        cmocka_unit_test(copies_do_not_hide_what_others_need),
        cmocka_unit_test(few_rows_are_not_calibrated),
        cmocka_unit_test(an_effort_between_two_is_chosen_by_recall),
        cmocka_unit_test(candidates_are_bought_where_they_are_cheaper_than_effort),
        cmocka_unit_test(what_no_walk_reaches_is_scanned),
        cmocka_unit_test(what_is_expected_lies_between_what_was_measured),
        cmocka_unit_test(impossible_numbers_are_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
