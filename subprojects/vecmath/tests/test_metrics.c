/* test_metrics.c: one vector against one, every implementation against sums in double. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "fixture.h"
#include "vecmath_internal.h"

struct metric_case {
    const char *name;
    float (*score)(const float *a, const float *b, size_t n);
    struct exact (*exact)(const void *a, const void *b, size_t n);
};

static const struct metric_case metric_cases[] = {
    {"l2_squared", vecmath_l2_squared_f32, exact_l2_squared},
    {"dot", vecmath_dot_f32, exact_dot},
    {"l1", vecmath_l1_f32, exact_l1},
};

enum { METRIC_COUNT = sizeof metric_cases / sizeof metric_cases[0] };

/* Calls `visit` with two vectors of every kind and length, against both guard pages and at every
 * alignment to four bytes within a cache line's quarter. */
static void each_pair(void (*visit)(const float *a, const float *b, size_t n, enum data_kind kind))
{
    for (size_t l = 0; l < length_count; l++) {
        const size_t n = lengths[l];
        for (size_t gap = 0; gap < 4; gap++) {
            struct guarded a;
            struct guarded b;
            guarded_open(&a, n * sizeof(float), true, 0);
            guarded_open(&b, n * sizeof(float), gap % 2 == 0, gap * sizeof(float));
            for (unsigned kind = 0; kind < DATA_KIND_COUNT; kind++) {
                fill_floats(a.data, n, (enum data_kind)kind, n + gap);
                fill_floats(b.data, n, (enum data_kind)kind, n + gap + 77);
                visit(a.data, b.data, n, (enum data_kind)kind);
            }
            guarded_close(&a);
            guarded_close(&b);
        }
    }
}

static void check_bound(const float *a, const float *b, size_t n, enum data_kind kind)
{
    for (size_t m = 0; m < METRIC_COUNT; m++) {
        struct exact exact = metric_cases[m].exact(a, b, n);
        float score = metric_cases[m].score(a, b, n);
        CHECK(within_bound(score, exact, n), "%s n %zu kind %d: %.9g instead of %.9g",
              metric_cases[m].name, n, (int)kind, (double)score, exact.value);
        if (kind == DATA_INTEGERS)
            CHECK((double)score == exact.value, "%s n %zu: %.9g instead of %.9g",
                  metric_cases[m].name, n, (double)score, exact.value);
    }
}

static void float_metrics_stay_within_the_stated_bound(void)
{
    each_pair(check_bound);
}

static void check_cosine(const float *a, const float *b, size_t n, enum data_kind kind)
{
    double exact = exact_cosine(a, b, n);
    float score = vecmath_cosine_f32(a, b, n);
    double allowed = 2 * relative_bound(n) + 0x1p-22;
    CHECK(fabs((double)score - exact) <= allowed, "n %zu kind %d: %.9g instead of %.9g", n,
          (int)kind, (double)score, exact);
    CHECK(score <= 1 && score >= -1, "n %zu kind %d: %.9g", n, (int)kind, (double)score);
    float self = vecmath_cosine_f32(a, a, n);
    bool zero = exact_dot(a, a, n).value == 0;
    CHECK(self == (zero ? 0.0F : 1.0F), "n %zu kind %d: %.9g", n, (int)kind, (double)self);
}

static void cosine_is_right_for_every_magnitude_and_1_for_itself(void)
{
    each_pair(check_cosine);
}

static void check_pieces(const float *a, const float *b, size_t n, enum data_kind kind)
{
    struct vecmath_cosine_pieces pieces;
    vecmath_cosine_pieces_f32(a, b, n, &pieces);
    CHECK(within_bound(pieces.dot, exact_dot(a, b, n), n), "n %zu kind %d", n, (int)kind);
    CHECK(within_bound(pieces.norm_squared_a, exact_dot(a, a, n), n), "n %zu kind %d", n,
          (int)kind);
    CHECK(within_bound(pieces.norm_squared_b, exact_dot(b, b, n), n), "n %zu kind %d", n,
          (int)kind);
}

static void cosine_pieces_stay_within_the_stated_bound(void)
{
    each_pair(check_pieces);
}

static void a_zero_vector_has_cosine_0(void)
{
    float zero[67] = {0};
    float other[67];
    fill_floats(other, 67, DATA_RANDOM, 1);
    for (size_t n = 0; n <= 67; n++) {
        CHECK(vecmath_cosine_f32(zero, other, n) == 0, "n %zu", n);
        CHECK(vecmath_cosine_f32(other, zero, n) == 0, "n %zu", n);
        CHECK(vecmath_cosine_f32(zero, zero, n) == 0, "n %zu", n);
    }
}

/* Each element alone decides the sum, so a kernel that skips or repeats one is found out. */
static void every_element_counts_exactly_once(void)
{
    enum { LONGEST = 200 };
    float a[LONGEST] = {0};
    float b[LONGEST] = {0};
    for (size_t n = 1; n <= LONGEST; n++) {
        for (size_t i = 0; i < n; i++) {
            a[i] = 3;
            b[i] = -2;
            CHECK(vecmath_dot_f32(a, b, n) == -6, "n %zu i %zu", n, i);
            CHECK(vecmath_l2_squared_f32(a, b, n) == 25, "n %zu i %zu", n, i);
            CHECK(vecmath_l1_f32(a, b, n) == 5, "n %zu i %zu", n, i);
            a[i] = b[i] = 0;
        }
    }
}

static void overflow_of_both_signs_gives_the_exact_or_saturated_score(void)
{
    const float a[3] = {3e38F, 3e38F, 1};
    const float b[3] = {3e38F, -3e38F, 5};
    CHECK(vecmath_dot_f32(a, b, 3) == 5, "%g", (double)vecmath_dot_f32(a, b, 3));
    CHECK(vecmath_dot_f32(a, b, 1) == FLT_MAX, "%g", (double)vecmath_dot_f32(a, b, 1));
    CHECK(vecmath_l2_squared_f32(a, b, 3) == FLT_MAX, "%g",
          (double)vecmath_l2_squared_f32(a, b, 3));
    CHECK(vecmath_l1_f32(a, b, 3) == FLT_MAX, "%g", (double)vecmath_l1_f32(a, b, 3));
}

static void check_hamming_at(size_t byte_count, size_t gap)
{
    struct guarded a;
    struct guarded b;
    guarded_open(&a, byte_count, true, 0);
    guarded_open(&b, byte_count, gap % 2 == 0, gap);
    fill_bytes(a.data, byte_count, byte_count);
    fill_bytes(b.data, byte_count, byte_count + gap + 9);
    uint64_t exact = exact_hamming(a.data, b.data, byte_count);
    uint64_t bits = vecmath_hamming(a.data, b.data, byte_count);
    CHECK(bits == exact, "%zu bytes: %llu", byte_count, (unsigned long long)bits);
    CHECK(vecmath_hamming(a.data, a.data, byte_count) == 0, "%zu bytes", byte_count);
    memset(a.data, 0xff, byte_count);
    memset(b.data, 0, byte_count);
    CHECK(vecmath_hamming(a.data, b.data, byte_count) == byte_count * 8, "%zu bytes", byte_count);
    guarded_close(&a);
    guarded_close(&b);
}

static void hamming_counts_every_bit(void)
{
    for (size_t gap = 0; gap < 6; gap++) {
        for (size_t byte_count = 0; byte_count <= 200; byte_count++)
            check_hamming_at(byte_count, gap);
        check_hamming_at(8192, gap);
        check_hamming_at(65535, gap);
    }
}

#if defined(__x86_64__)
/* vecmath_select() prefers the table with VPOPCNTDQ; the other one must be right too. */
static void hamming_without_vpopcntdq_counts_every_bit(void)
{
    const char *names[VECMATH_ISA_MAX];
    uint8_t a[300];
    uint8_t b[4][300];
    if (vecmath_isa_list(names) == 0 || strcmp(names[0], "avx512") != 0)
        return;
    fill_bytes(a, sizeof a, 1);
    fill_bytes(b, sizeof b, 2);
    const void *row[VECMATH_BLOCK] = {b[0], b[1], b[2], b[3]};
    for (size_t n = 0; n <= sizeof a; n++) {
        float score[VECMATH_BLOCK];
        vecmath_kernels_avx512.block_hamming(a, row, row, n, score);
        for (size_t r = 0; r < VECMATH_BLOCK; r++) {
            CHECK(vecmath_kernels_avx512.hamming(a, b[r], n) == exact_hamming(a, b[r], n),
                  "%zu bytes", n);
            CHECK(score[r] == (float)exact_hamming(a, b[r], n), "%zu bytes", n);
        }
    }
}
#endif

static void an_empty_vector_scores_0(void)
{
    float one = 1;
    CHECK(vecmath_dot_f32(&one, &one, 0) == 0, "dot");
    CHECK(vecmath_l2_squared_f32(&one, &one, 0) == 0, "l2");
    CHECK(vecmath_l1_f32(&one, &one, 0) == 0, "l1");
    CHECK(vecmath_hamming(&one, &one, 0) == 0, "hamming");
}

int main(void)
{
    static const struct test tests[] = {
        TEST(float_metrics_stay_within_the_stated_bound),
        TEST(cosine_is_right_for_every_magnitude_and_1_for_itself),
        TEST(cosine_pieces_stay_within_the_stated_bound),
        TEST(a_zero_vector_has_cosine_0),
        TEST(every_element_counts_exactly_once),
        TEST(overflow_of_both_signs_gives_the_exact_or_saturated_score),
        TEST(hamming_counts_every_bit),
#if defined(__x86_64__)
        TEST(hamming_without_vpopcntdq_counts_every_bit),
#endif
        TEST(an_empty_vector_scores_0),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
