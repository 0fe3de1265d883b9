/* k-means over codes: src/index/kmeans.c. */
#include "index_fixture.h"

#include "index/kmeans.h"

enum { COLUMNS = 70, STRIDE = 128, POINTS = 600 };

static struct kmeans_codes codes_new(uint32_t count)
{
    struct kmeans_codes codes = {.columns = COLUMNS, .stride = STRIDE};
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, 64, (size_t)count * STRIDE), 0);
    memset(memory, 0, (size_t)count * STRIDE);
    codes.bytes = memory;
    codes.norms = calloc(count, sizeof *codes.norms);
    assert_non_null(codes.norms);
    return codes;
}

static void codes_free(struct kmeans_codes *codes)
{
    free(codes->bytes);
    free(codes->norms);
}

static void set_code(const struct kmeans_codes *codes, uint32_t i, const int8_t *numbers)
{
    memcpy(codes->bytes + (size_t)i * STRIDE, numbers, COLUMNS);
    codes->norms[i] = 0;
    for (uint32_t j = 0; j < COLUMNS; j++)
        codes->norms[i] += (uint32_t)(numbers[j] * numbers[j]);
}

/* Points about `clusters` far apart centres, one after the other. */
static struct kmeans_codes points_about(uint32_t count, uint32_t clusters, uint64_t seed)
{
    struct kmeans_codes codes = codes_new(count);
    struct rng rng, centre;
    rng_seed(&rng, seed);
    for (uint32_t i = 0; i < count; i++) {
        int8_t numbers[COLUMNS];
        rng_seed(&centre, 1000 + i % clusters);
        for (uint32_t j = 0; j < COLUMNS; j++)
            numbers[j] =
                (int8_t)((int)rng_below(&centre, 200) - 100 + (int)rng_below(&rng, 21) - 10);
        set_code(&codes, i, numbers);
    }
    return codes;
}

static int64_t plain_distance(const struct kmeans_codes *a, uint32_t i,
                              const struct kmeans_codes *b, uint32_t j)
{
    int64_t sum = 0;
    for (uint32_t c = 0; c < COLUMNS; c++) {
        int64_t apart = kmeans_code(a, i)[c] - kmeans_code(b, j)[c];
        sum += apart * apart;
    }
    return sum;
}

static void all_points(uint32_t *members, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        members[i] = i;
}

static void run(const struct kmeans_codes *centroids, uint32_t k, const struct kmeans_codes *points,
                uint32_t count, uint64_t seed)
{
    uint32_t members[POINTS];
    void *scratch = NULL;
    all_points(members, count);
    assert_int_equal(posix_memalign(&scratch, 64, kmeans_scratch_bytes(count, k, COLUMNS)), 0);
    kmeans_run(centroids, 0, k, points, members, count, seed, scratch);
    free(scratch);
}

static void the_nearest_is_the_one_that_the_plain_sum_says(void **state)
{
    (void)state;
    struct kmeans_codes points = points_about(50, 50, 1), centroids = points_about(200, 200, 2);
    for (uint32_t count = 1; count <= 200; count += count < 4 ? 1 : 49)
        for (uint32_t i = 0; i < 50; i++) {
            int64_t distance = 0, least = INT64_MAX;
            uint32_t nearest = 0;
            for (uint32_t c = 200 - count; c < 200; c++) {
                int64_t plain = plain_distance(&centroids, c, &points, i);
                nearest = plain < least ? c : nearest;
                least = plain < least ? plain : least;
            }
            assert_int_equal(
                kmeans_nearest(&centroids, 200 - count, count, kmeans_code(&points, i), &distance),
                nearest);
            assert_int_equal(distance + points.norms[i], least);
        }
    codes_free(&points);
    codes_free(&centroids);
}

static void the_largest_distances_do_not_overflow(void **state)
{
    (void)state;
    const uint32_t columns = 65536;
    struct kmeans_codes two = {.columns = columns, .stride = columns};
    uint32_t norms[2] = {columns * 127u * 127u, columns * 127u * 127u};
    void *memory = NULL;
    int64_t distances[2];
    assert_int_equal(posix_memalign(&memory, 64, 2 * (size_t)columns), 0);
    two.bytes = memory;
    two.norms = norms;
    memset(two.bytes, 127, columns);
    memset(two.bytes + columns, (uint8_t)-127, columns);
    kmeans_distances(&two, 0, 2, kmeans_code(&two, 0), distances);
    assert_int_equal(distances[0] + norms[0], 0);
    assert_int_equal(distances[1] + norms[0], (int64_t)columns * 254 * 254);
    free(memory);
}

static void sorting_keeps_points_of_a_group_together_and_in_order(void **state)
{
    (void)state;
    const uint32_t nearest[] = {3, 0, 3, 1, 3, 0};
    const uint32_t wanted[] = {1, 5, 3, 0, 2, 4}, ends[] = {0, 2, 3, 3, 6, 6};
    uint32_t starts[6], order[6];
    kmeans_sort(nearest, 6, 5, starts, order);
    assert_memory_equal(order, wanted, sizeof wanted);
    assert_memory_equal(starts, ends, sizeof ends);
    kmeans_sort(nearest, 0, 5, starts, order);
    for (uint32_t g = 0; g <= 5; g++)
        assert_int_equal(starts[g], 0);
}

static void a_centroid_moves_to_the_rounded_mean(void **state)
{
    (void)state;
    struct kmeans_codes points = codes_new(3), centroids = codes_new(1);
    const int8_t columns[3][4] = {{1, -1, 127, -128}, {2, -2, 127, -128}, {2, -2, 126, -127}};
    const int8_t mean[4] = {2, -2, 127, -128};
    const uint32_t members[] = {0, 1, 2};
    int32_t sums[COLUMNS];
    for (uint32_t i = 0; i < 3; i++) {
        int8_t numbers[COLUMNS] = {0};
        memcpy(numbers, columns[i], 4);
        set_code(&points, i, numbers);
    }
    memset(centroids.bytes, 9, STRIDE);
    kmeans_move(&centroids, 0, &points, members, 3, sums);
    assert_memory_equal(kmeans_code(&centroids, 0), mean, 4);
    for (uint32_t j = 4; j < STRIDE; j++)
        assert_int_equal(kmeans_code(&centroids, 0)[j], 0);
    assert_int_equal(centroids.norms[0], 4 + 4 + 127 * 127 + 128 * 128);
    codes_free(&points);
    codes_free(&centroids);
}

static void clusters_far_apart_are_never_mixed_where_there_are_centroids_enough(void **state)
{
    (void)state;
    struct kmeans_codes points = points_about(POINTS, 8, 3), centroids = codes_new(64);
    for (uint64_t seed = 0; seed < 20; seed++) {
        run(&centroids, 64, &points, POINTS, seed);
        for (uint32_t i = 0; i < POINTS; i++) {
            uint32_t c = kmeans_nearest(&centroids, 0, 64, kmeans_code(&points, i), NULL);
            /* within a cluster points are 70 x 2 x 37 apart, clusters 70 x 2 x 3,333 */
            assert_true(plain_distance(&centroids, c, &points, i) < 70 * 400);
        }
    }
    codes_free(&points);
    codes_free(&centroids);
}

static void the_same_seed_gives_the_same_centroids(void **state)
{
    (void)state;
    struct kmeans_codes points = points_about(POINTS, 30, 4), a = codes_new(20), b = codes_new(20);
    run(&a, 20, &points, POINTS, 5);
    run(&b, 20, &points, POINTS, 5);
    assert_memory_equal(a.bytes, b.bytes, 20 * STRIDE);
    assert_memory_equal(a.norms, b.norms, 20 * sizeof *a.norms);
    codes_free(&points);
    codes_free(&a);
    codes_free(&b);
}

static void fewer_points_than_centroids_and_equal_ones_are_no_trouble(void **state)
{
    (void)state;
    struct kmeans_codes points = codes_new(POINTS), centroids = codes_new(40);
    const int8_t numbers[COLUMNS] = {5, -7};
    for (uint32_t i = 0; i < POINTS; i++)
        set_code(&points, i, numbers);
    for (uint32_t count = 1; count <= POINTS; count += count < 45 ? 1 : 555) {
        run(&centroids, 40, &points, count, 6);
        for (uint32_t c = 0; c < 40; c++)
            assert_int_equal(plain_distance(&centroids, c, &points, 0), 0);
    }
    codes_free(&points);
    codes_free(&centroids);
}

static void an_empty_list_takes_a_point_of_the_longest(void **state)
{
    (void)state;
    struct kmeans_codes points = points_about(100, 100, 7), centroids = codes_new(4);
    /* 0: 90 points, 1: 10, 2: none, 3: none */
    uint32_t starts[] = {0, 90, 100, 100, 100}, order[100];
    uint8_t moved[4];
    all_points(order, 100);
    assert_int_equal(kmeans_divide(&centroids, 0, 4, &points, starts, order, 8, moved), 2);
    assert_int_equal(moved[2], 1);
    assert_int_equal(moved[0], 1); /* its own mean is that of both to come */
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < 90; i++) {
        uint64_t apart = (uint64_t)plain_distance(&centroids, 2, &points, i);
        least = apart < least ? apart : least;
    }
    assert_int_equal(least, 0);
    codes_free(&points);
    codes_free(&centroids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_is_the_one_that_the_plain_sum_says),
        cmocka_unit_test(the_largest_distances_do_not_overflow),
        cmocka_unit_test(sorting_keeps_points_of_a_group_together_and_in_order),
        cmocka_unit_test(a_centroid_moves_to_the_rounded_mean),
        cmocka_unit_test(clusters_far_apart_are_never_mixed_where_there_are_centroids_enough),
        cmocka_unit_test(the_same_seed_gives_the_same_centroids),
        cmocka_unit_test(fewer_points_than_centroids_and_equal_ones_are_no_trouble),
        cmocka_unit_test(an_empty_list_takes_a_point_of_the_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
