/* test_checks.c: finding NaN and infinities, norms, normalising. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "fixture.h"

static void put_bits(void *floats, size_t i, uint32_t bits)
{
    memcpy((char *)floats + i * sizeof bits, &bits, sizeof bits);
}

/* +infinity, -infinity, quiet NaN, negative quiet NaN, signalling NaN, NaN of all ones. */
static const uint32_t bad_bits[] = {0x7f800000, 0xff800000, 0x7fc00000,
                                    0xffc00000, 0x7f800001, 0xffffffff};
/* 0, -0, +-FLT_MAX, smallest normal, denormals, 1. */
static const uint32_t good_bits[] = {0x00000000, 0x80000000, 0x7f7fffff, 0xff7fffff,
                                     0x00800000, 0x00000001, 0x807fffff, 0x3f800000};

enum {
    BAD_COUNT = sizeof bad_bits / sizeof bad_bits[0],
    GOOD_COUNT = sizeof good_bits / sizeof good_bits[0],
};

static void every_place_of_a_bad_value_is_found(void)
{
    enum { LONGEST = 150 };
    for (size_t gap = 0; gap < 6; gap++) {
        for (size_t n = 0; n <= LONGEST; n++) {
            struct guarded values;
            guarded_open(&values, n * sizeof(float), true, gap);
            for (size_t i = 0; i < n; i++)
                put_bits(values.data, i, good_bits[i % GOOD_COUNT]);
            CHECK(vecmath_first_nonfinite(values.data, n) == n, "n %zu", n);
            CHECK(vecmath_all_finite(values.data, n), "n %zu", n);
            for (size_t i = 0; i < n; i++) {
                put_bits(values.data, i, bad_bits[i % BAD_COUNT]);
                CHECK(vecmath_first_nonfinite(values.data, n) == i, "n %zu i %zu", n, i);
                CHECK(!vecmath_all_finite(values.data, n), "n %zu i %zu", n, i);
                put_bits(values.data, i, good_bits[i % GOOD_COUNT]);
            }
            guarded_close(&values);
        }
    }
}

static void each_kind_of_bad_value_is_found_and_the_first_one_is_named(void)
{
    float values[100] = {0};
    for (size_t kind = 0; kind < BAD_COUNT; kind++) {
        put_bits(values, 70, bad_bits[kind]);
        CHECK(vecmath_first_nonfinite(values, 100) == 70, "kind %zu", kind);
        put_bits(values, 99, bad_bits[0]);
        CHECK(vecmath_first_nonfinite(values, 100) == 70, "kind %zu", kind);
        put_bits(values, 3, bad_bits[(kind + 1) % BAD_COUNT]);
        CHECK(vecmath_first_nonfinite(values, 100) == 3, "kind %zu", kind);
        memset(values, 0, sizeof values);
    }
}

static void norms_are_right_for_every_magnitude(void)
{
    for (size_t l = 0; l < length_count; l++) {
        const size_t n = lengths[l];
        struct guarded values;
        guarded_open(&values, n * sizeof(float), true, 0);
        for (unsigned kind = 0; kind < DATA_KIND_COUNT; kind++) {
            fill_floats(values.data, n, (enum data_kind)kind, n);
            struct exact exact = exact_dot(values.data, values.data, n);
            double norm = fmin(sqrt(exact.value), (double)FLT_MAX);
            double allowed = relative_bound(n) * norm + 0x1p-149;
            double got = (double)vecmath_norm_f32(values.data, n);
            CHECK(fabs(got - norm) <= allowed, "n %zu kind %u: %.9g instead of %.9g", n, kind, got,
                  norm);
            CHECK(within_bound(vecmath_norm_squared_f32(values.data, n), exact, n), "n %zu kind %u",
                  n, kind);
        }
        guarded_close(&values);
    }
}

static void check_normalised(float *values, size_t n, enum data_kind kind)
{
    struct guarded unit;
    guarded_open(&unit, n * sizeof(float), true, 0);
    float norm = vecmath_normalise_f32(values, n, unit.data);
    CHECK(norm == vecmath_norm_f32(values, n), "n %zu kind %d", n, (int)kind);
    double exact = sqrt(exact_dot(values, values, n).value);
    double allowed = relative_bound(n) + 0x1p-23;
    for (size_t i = 0; i < n; i++) {
        double wanted = exact > 0 ? (double)values[i] / exact : 0;
        double got = (double)((float *)unit.data)[i];
        CHECK(fabs(got - wanted) <= allowed * fabs(wanted) + 0x1p-149,
              "n %zu kind %d element %zu: %.9g instead of %.9g", n, (int)kind, i, got, wanted);
    }
    vecmath_normalise_f32(values, n, values);
    for (size_t i = 0; i < n; i++)
        CHECK(same_bits(values[i], ((float *)unit.data)[i]), "in place: n %zu kind %d", n,
              (int)kind);
    guarded_close(&unit);
}

static void normalised_vectors_have_norm_1_in_place_or_not(void)
{
    for (size_t l = 0; l < length_count; l++) {
        struct guarded values;
        guarded_open(&values, lengths[l] * sizeof(float), true, 0);
        for (unsigned kind = 0; kind < DATA_KIND_COUNT; kind++) {
            fill_floats(values.data, lengths[l], (enum data_kind)kind, 3);
            check_normalised(values.data, lengths[l], (enum data_kind)kind);
        }
        guarded_close(&values);
    }
}

static void a_zero_vector_stays_zero_and_has_norm_0(void)
{
    float values[33] = {0};
    float unit[33];
    memset(unit, 0xff, sizeof unit);
    CHECK(vecmath_normalise_f32(values, 33, unit) == 0, "norm");
    for (size_t i = 0; i < 33; i++)
        CHECK(same_bits(unit[i], 0), "element %zu", i);
}

int main(void)
{
    static const struct test tests[] = {
        TEST(every_place_of_a_bad_value_is_found),
        TEST(each_kind_of_bad_value_is_found_and_the_first_one_is_named),
        TEST(norms_are_right_for_every_magnitude),
        TEST(normalised_vectors_have_norm_1_in_place_or_not),
        TEST(a_zero_vector_stays_zero_and_has_norm_0),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
