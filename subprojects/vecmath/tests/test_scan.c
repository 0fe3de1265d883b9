/* test_scan.c: one query against many rows, side by side and gathered.
 *
 * The expected score of a row is the pair's, bit by bit: vecmath.h promises that a row's neighbours
 * do not change its score. That the pair is right is test_metrics.c's subject.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "vecmath_internal.h"

enum { ROW_MAX = 41, METRIC_COUNT = VECMATH_HAMMING + 1 };

static const size_t dimensions[] = {1,  2,  3,  7,  8,   9,   15,  16,  17,
                                    31, 33, 64, 67, 100, 128, 784, 1536};
static const size_t counts[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 40, ROW_MAX};

enum {
    DIMENSION_COUNT = sizeof dimensions / sizeof dimensions[0],
    COUNT_COUNT = sizeof counts / sizeof counts[0],
};

static size_t row_bytes_of(enum vecmath_metric metric, size_t dimension)
{
    return metric == VECMATH_HAMMING ? (dimension + 7) / 8 : dimension * sizeof(float);
}

static void fill_vector(enum vecmath_metric metric, void *vector, size_t dimension, uint64_t seed)
{
    if (metric == VECMATH_HAMMING)
        fill_bytes(vector, row_bytes_of(metric, dimension), seed);
    else
        fill_floats(vector, dimension, DATA_RANDOM, seed);
}

/* A query and rows `pad` bytes apart, the last one ending at the guard page or `gap` bytes
 * before. */
static void check_scan(enum vecmath_metric metric, size_t dimension, size_t count, size_t pad,
                       size_t gap)
{
    const size_t row_bytes = row_bytes_of(metric, dimension);
    const size_t stride = row_bytes + pad;
    struct guarded query;
    struct guarded rows;
    struct guarded score;
    guarded_open(&query, row_bytes, true, gap);
    guarded_open(&rows, count > 0 ? (count - 1) * stride + row_bytes : 0, true, gap);
    guarded_open(&score, count * sizeof(float), true, 0);
    fill_vector(metric, query.data, dimension, 5);
    for (size_t i = 0; i < count; i++)
        fill_vector(metric, (char *)rows.data + i * stride, dimension, 100 + i);

    vecmath_scan_of(metric)(query.data, rows.data, stride, count, dimension, score.data);
    for (size_t i = 0; i < count; i++) {
        float expected =
            vecmath_pair_of(metric)(query.data, (char *)rows.data + i * stride, dimension);
        CHECK(same_bits(((float *)score.data)[i], expected),
              "metric %d dimension %zu row %zu of %zu pad %zu gap %zu: %.9g instead of %.9g",
              (int)metric, dimension, i, count, pad, gap, (double)((float *)score.data)[i],
              (double)expected);
    }
    guarded_close(&query);
    guarded_close(&rows);
    guarded_close(&score);
}

static void a_scan_scores_each_row_as_alone(void)
{
    for (unsigned m = 0; m < METRIC_COUNT; m++)
        for (size_t d = 0; d < DIMENSION_COUNT; d++)
            for (size_t c = 0; c < COUNT_COUNT; c++)
                for (size_t pad = 0; pad <= 8; pad += 4)
                    check_scan((enum vecmath_metric)m, dimensions[d], counts[c], pad, 0);
}

/* Floats in a received message may begin at any byte. */
static void a_scan_takes_rows_at_any_address(void)
{
    for (unsigned m = 0; m < METRIC_COUNT; m++)
        for (size_t d = 0; d < DIMENSION_COUNT; d++)
            for (size_t gap = 1; gap <= 3; gap++)
                check_scan((enum vecmath_metric)m, dimensions[d], 13, gap, gap);
}

static void check_gather(enum vecmath_metric metric, size_t dimension, size_t count)
{
    const size_t row_bytes = row_bytes_of(metric, dimension);
    struct guarded query;
    struct guarded row[ROW_MAX];
    const void *pointers[ROW_MAX];
    float score[ROW_MAX];
    guarded_open(&query, row_bytes, true, 0);
    fill_vector(metric, query.data, dimension, 5);
    for (size_t i = 0; i < count; i++) {
        guarded_open(&row[i], row_bytes, i % 3 != 0, i % 5);
        fill_vector(metric, row[i].data, dimension, 100 + i);
        pointers[i] = row[i].data;
    }
    if (count > 2)
        pointers[2] = pointers[0]; /* the same row twice is legal */

    vecmath_gather_of(metric)(query.data, pointers, count, dimension, score);
    for (size_t i = 0; i < count; i++) {
        float expected = vecmath_pair_of(metric)(query.data, pointers[i], dimension);
        CHECK(same_bits(score[i], expected),
              "metric %d dimension %zu row %zu of %zu: %.9g instead of %.9g", (int)metric,
              dimension, i, count, (double)score[i], (double)expected);
    }
    for (size_t i = 0; i < count; i++)
        guarded_close(&row[i]);
    guarded_close(&query);
}

static void check_tile(size_t dimension, size_t gap)
{
    struct guarded vector[2 * VECMATH_TILE];
    const float *a[VECMATH_TILE];
    const float *b[VECMATH_TILE];
    float dot[VECMATH_TILE * VECMATH_TILE];
    for (size_t i = 0; i < 2 * VECMATH_TILE; i++) {
        guarded_open(&vector[i], dimension * sizeof(float), i % 3 != 0, gap);
        fill_floats(vector[i].data, dimension, DATA_RANDOM, 200 + i);
        (i < VECMATH_TILE ? a : b)[i % VECMATH_TILE] = vector[i].data;
    }
    vecmath_tile_dot_f32(a, b, dimension, dot);
    for (size_t i = 0; i < VECMATH_TILE * VECMATH_TILE; i++) {
        const float *x = a[i / VECMATH_TILE];
        const float *y = b[i % VECMATH_TILE];
        double exact = vecmath_wide_dot(x, y, dimension);
        double norms =
            sqrt(vecmath_wide_dot(x, x, dimension)) * sqrt(vecmath_wide_dot(y, y, dimension));
        CHECK(fabs((double)dot[i] - exact) <= (double)dimension * 0x1p-23 * norms,
              "dimension %zu pair %zu gap %zu: %.9g instead of %.9g", dimension, i, gap,
              (double)dot[i], exact);
    }
    for (size_t i = 0; i < 2 * VECMATH_TILE; i++)
        guarded_close(&vector[i]);
}

static void a_tile_has_the_products_of_all_pairs(void)
{
    for (size_t d = 0; d < DIMENSION_COUNT; d++)
        for (size_t gap = 0; gap <= 8; gap += 4)
            check_tile(dimensions[d], gap);
}

static void a_gather_scores_each_row_as_alone(void)
{
    for (unsigned m = 0; m < METRIC_COUNT; m++)
        for (size_t d = 0; d < DIMENSION_COUNT; d++)
            for (size_t c = 0; c < COUNT_COUNT; c++)
                check_gather((enum vecmath_metric)m, dimensions[d], counts[c]);
}

/* One row overflows in float32; it must saturate, and its neighbours in the block must not
 * notice. */
static void one_overflowing_row_is_repaired_and_its_neighbours_are_untouched(void)
{
    enum { DIMENSION = 100, COUNT = 11 };
    float query[DIMENSION];
    float rows[COUNT][DIMENSION];
    const void *pointers[COUNT];
    fill_floats(query, DIMENSION, DATA_HUGE, 1);
    for (size_t bad = 0; bad < COUNT; bad++) {
        for (size_t i = 0; i < COUNT; i++) {
            fill_floats(rows[i], DIMENSION, i == bad ? DATA_HUGE : DATA_TINY, 10 + i);
            pointers[i] = rows[i];
        }
        for (unsigned m = 0; m < VECMATH_HAMMING; m++) {
            enum vecmath_metric metric = (enum vecmath_metric)m;
            float score[COUNT];
            float gathered[COUNT];
            vecmath_scan_of(metric)(query, rows, sizeof rows[0], COUNT, DIMENSION, score);
            vecmath_gather_of(metric)(query, pointers, COUNT, DIMENSION, gathered);
            CHECK(vecmath_all_finite(score, COUNT), "metric %u bad %zu", m, bad);
            for (size_t i = 0; i < COUNT; i++) {
                float expected = vecmath_pair_of(metric)(query, rows[i], DIMENSION);
                CHECK(same_bits(score[i], expected), "metric %u row %zu bad %zu", m, i, bad);
                CHECK(same_bits(gathered[i], expected), "metric %u row %zu bad %zu", m, i, bad);
            }
        }
    }
}

static void pair_functions_are_the_named_ones(void)
{
    float a[50];
    float b[50];
    fill_floats(a, 50, DATA_RANDOM, 1);
    fill_floats(b, 50, DATA_RANDOM, 2);
    CHECK(vecmath_pair_of(VECMATH_L2_SQUARED)(a, b, 50) == vecmath_l2_squared_f32(a, b, 50), "l2");
    CHECK(vecmath_pair_of(VECMATH_DOT)(a, b, 50) == vecmath_dot_f32(a, b, 50), "dot");
    CHECK(vecmath_pair_of(VECMATH_COSINE)(a, b, 50) == vecmath_cosine_f32(a, b, 50), "cosine");
    CHECK(vecmath_pair_of(VECMATH_L1)(a, b, 50) == vecmath_l1_f32(a, b, 50), "l1");
    CHECK(vecmath_pair_of(VECMATH_HAMMING)(a, b, 1591) == (float)vecmath_hamming(a, b, 199),
          "hamming counts the bytes that hold the bits");
}

static void metrics_know_their_better_end(void)
{
    CHECK(!vecmath_higher_is_better(VECMATH_L2_SQUARED), "l2");
    CHECK(vecmath_higher_is_better(VECMATH_DOT), "dot");
    CHECK(vecmath_higher_is_better(VECMATH_COSINE), "cosine");
    CHECK(!vecmath_higher_is_better(VECMATH_L1), "l1");
    CHECK(!vecmath_higher_is_better(VECMATH_HAMMING), "hamming");
}

int main(void)
{
    static const struct test tests[] = {
        TEST(a_scan_scores_each_row_as_alone),
        TEST(a_scan_takes_rows_at_any_address),
        TEST(a_gather_scores_each_row_as_alone),
        TEST(a_tile_has_the_products_of_all_pairs),
        TEST(one_overflowing_row_is_repaired_and_its_neighbours_are_untouched),
        TEST(pair_functions_are_the_named_ones),
        TEST(metrics_know_their_better_end),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
