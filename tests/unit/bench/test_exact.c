/* bench/exact.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/exact.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 500, QUERIES = 70, DIMENSION = 33, K = 10 };

static double distance(enum pdb_metric metric, const float *a, const float *b)
{
    double dot = 0;
    double aa = 0;
    double bb = 0;
    double square = 0;
    double absolute = 0;
    for (size_t i = 0; i < DIMENSION; i++) {
        double x = (double)a[i];
        double y = (double)b[i];
        dot += x * y;
        aa += x * x;
        bb += y * y;
        square += (x - y) * (x - y);
        absolute += fabs(x - y);
    }
    if (metric == PDB_METRIC_EUCLIDEAN)
        return square;
    if (metric == PDB_METRIC_MANHATTAN)
        return absolute;
    return metric == PDB_METRIC_DOT ? -dot : -dot / sqrt(aa * bb);
}

struct scored {
    double distance;
    uint32_t row;
};

static int ascending(const void *a, const void *b)
{
    double x = ((const struct scored *)a)->distance;
    double y = ((const struct scored *)b)->distance;
    return (x > y) - (x < y);
}

static float score_of(enum pdb_metric metric, double value)
{
    if (metric == PDB_METRIC_EUCLIDEAN)
        return (float)sqrt(value);
    return (float)(metric == PDB_METRIC_MANHATTAN ? value : -value);
}

/* Perfect answers, by sorting everything. */
static void answer(const struct dataset *rows, const struct dataset *queries,
                   enum pdb_metric metric, struct decode_hit *hits, int32_t *counts)
{
    static struct scored all[ROWS];
    for (size_t q = 0; q < QUERIES; q++) {
        for (uint32_t r = 0; r < ROWS; r++)
            all[r] = (struct scored){
                distance(metric, queries->values + q * DIMENSION, rows->values + r * DIMENSION), r};
        qsort(all, ROWS, sizeof(all[0]), ascending);
        for (size_t i = 0; i < K; i++)
            hits[q * K + i] = (struct decode_hit){all[i].row, score_of(metric, all[i].distance)};
        counts[q] = K;
    }
}

struct fixture {
    struct dataset rows, queries;
    struct exact exact;
    struct decode_hit hits[QUERIES * K];
    int32_t counts[QUERIES];
    struct exact_answers answers;
};

static int make(void **state)
{
    static struct fixture fx;
    memset(&fx, 0, sizeof(fx));
    fx.answers = (struct exact_answers){fx.hits, fx.counts, K};
    *state = &fx;
    return dataset_generate(
               &fx.rows,
               &(struct dataset_shape){.row_count = ROWS, .dimension = DIMENSION, .seed = 1},
               NULL) < 0 ||
           dataset_generate(
               &fx.queries,
               &(struct dataset_shape){.row_count = QUERIES, .dimension = DIMENSION, .seed = 2},
               NULL) < 0;
}

static int drop(void **state)
{
    struct fixture *fx = *state;
    exact_dispose(&fx->exact);
    dataset_dispose(&fx->rows);
    dataset_dispose(&fx->queries);
    return 0;
}

static struct exact_verdict judge(struct fixture *fx)
{
    struct exact_verdict verdict;
    exact_judge(&fx->exact, &fx->answers, &verdict);
    return verdict;
}

static void compute(struct fixture *fx, enum pdb_metric metric, unsigned threads)
{
    exact_dispose(&fx->exact);
    assert_int_equal(
        exact_compute(&fx->exact, &fx->rows, &fx->queries, metric, K, threads, NULL, NULL, NULL),
        0);
}

static void perfect_answers_have_recall_one_in_every_metric(void **state)
{
    struct fixture *fx = *state;
    for (enum pdb_metric metric = PDB_METRIC_COSINE; metric <= PDB_METRIC_MANHATTAN; metric++) {
        compute(fx, metric, metric == PDB_METRIC_DOT ? 1 : 3);
        answer(&fx->rows, &fx->queries, metric, fx->hits, fx->counts);
        struct exact_verdict verdict = judge(fx);
        assert_true(verdict.recall == 1);
        assert_int_equal(verdict.wanted, QUERIES * K);
        assert_int_equal(verdict.wrong_scores, 0);
        assert_int_equal(verdict.wrong_order, 0);
    }
}

static void one_wrong_row_is_seen(void **state)
{
    struct fixture *fx = *state;
    compute(fx, PDB_METRIC_EUCLIDEAN, 2);
    answer(&fx->rows, &fx->queries, PDB_METRIC_EUCLIDEAN, fx->hits, fx->counts);
    for (uint32_t row = 0; row < ROWS; row++) { /* a row that is none of the ten */
        bool used = false;
        for (size_t i = 0; i < K; i++)
            used = used || fx->hits[3 * K + i].row == row;
        if (!used) {
            fx->hits[3 * K + 9].row = row;
            break;
        }
    }
    struct exact_verdict verdict = judge(fx);
    assert_int_equal(verdict.good, QUERIES * K - 1);
    assert_int_equal(verdict.wrong_scores, 1);
}

static void a_row_returned_twice_counts_once(void **state)
{
    struct fixture *fx = *state;
    compute(fx, PDB_METRIC_EUCLIDEAN, 2);
    answer(&fx->rows, &fx->queries, PDB_METRIC_EUCLIDEAN, fx->hits, fx->counts);
    for (size_t i = 1; i < K; i++)
        fx->hits[i] = fx->hits[0];
    assert_int_equal(judge(fx).good, QUERIES * K - (K - 1));
}

static void missing_hits_unknown_ids_and_missing_answers_are_told(void **state)
{
    struct fixture *fx = *state;
    compute(fx, PDB_METRIC_COSINE, 2);
    answer(&fx->rows, &fx->queries, PDB_METRIC_COSINE, fx->hits, fx->counts);
    fx->counts[0] = 4;
    fx->hits[K].row = DECODE_ROW_UNKNOWN;
    fx->counts[2] = EXACT_ANSWER_NONE;
    struct exact_verdict verdict = judge(fx);
    assert_int_equal(verdict.queries, QUERIES - 1);
    assert_int_equal(verdict.wanted, (QUERIES - 1) * K);
    assert_int_equal(verdict.good, (QUERIES - 1) * K - 6 - 1);
}

static void among_rows_at_the_same_distance_any_choice_is_right(void **state)
{
    struct fixture *fx = *state;
    for (size_t r = 0; r < ROWS; r++) /* all rows are the same row */
        memcpy(fx->rows.values + r * DIMENSION, fx->rows.values, DIMENSION * sizeof(float));
    compute(fx, PDB_METRIC_EUCLIDEAN, 2);
    answer(&fx->rows, &fx->queries, PDB_METRIC_EUCLIDEAN, fx->hits, fx->counts);
    for (size_t i = 0; i < QUERIES * K; i++)
        fx->hits[i].row = (uint32_t)(ROWS - 1 - i % K);
    assert_true(judge(fx).recall == 1);
}

static void wrong_scores_and_wrong_order_are_counted(void **state)
{
    struct fixture *fx = *state;
    compute(fx, PDB_METRIC_EUCLIDEAN, 2);
    answer(&fx->rows, &fx->queries, PDB_METRIC_EUCLIDEAN, fx->hits, fx->counts);
    struct decode_hit first = fx->hits[0];
    fx->hits[0] = fx->hits[1];
    fx->hits[1] = first;
    fx->hits[K].score *= fx->hits[K].score; /* squared, as no door may say it */
    struct exact_verdict verdict = judge(fx);
    assert_true(verdict.recall == 1);
    assert_int_equal(verdict.wrong_scores, 1);
    assert_int_equal(verdict.wrong_order, 2);
}

static void fewer_rows_than_k_are_all_that_is_wanted(void **state)
{
    struct fixture *fx = *state;
    fx->rows.row_count = 4;
    compute(fx, PDB_METRIC_EUCLIDEAN, 2);
    assert_int_equal(fx->exact.k, 4);
    fx->rows.row_count = 0;
    struct exact none;
    assert_int_equal(
        exact_compute(&none, &fx->rows, &fx->queries, PDB_METRIC_EUCLIDEAN, K, 1, NULL, NULL, NULL),
        PDB_INVALID_ARGUMENT);
    fx->rows.row_count = ROWS;
    assert_int_equal(
        exact_compute(&none, &fx->rows, &fx->queries, PDB_METRIC_HAMMING, K, 1, NULL, NULL, NULL),
        PDB_INVALID_ARGUMENT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        TEST(perfect_answers_have_recall_one_in_every_metric),
        TEST(one_wrong_row_is_seen),
        TEST(a_row_returned_twice_counts_once),
        TEST(missing_hits_unknown_ids_and_missing_answers_are_told),
        TEST(among_rows_at_the_same_distance_any_choice_is_right),
        TEST(wrong_scores_and_wrong_order_are_counted),
        TEST(fewer_rows_than_k_are_all_that_is_wanted),
    };
    return cmocka_run_group_tests_name("bench/exact", tests, NULL, NULL);
}
