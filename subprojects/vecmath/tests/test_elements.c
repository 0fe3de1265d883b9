/* test_elements.c: rows of halves and of bytes.
 *
 * What is expected of a float32 query is what the float32 kernels give for the widened row, bit by
 * bit; that those are right is test_metrics.c's subject. Sums of bytes are integers: the plainest
 * loop gives them. Conversions are held against arithmetic in double, for every half there is.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "elements_internal.h"
#include "fixture.h"

enum { LENGTH_MAX = 65535, ROWS = 11 };

/* 1 to 300, then two long ones. */
static size_t length_at(size_t i)
{
    return i < 300 ? i + 1 : i == 300 ? 1536 : i == 301 ? LENGTH_MAX : 0;
}

/* The value of a half by its definition. */
static double plain_half(uint16_t half)
{
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double magnitude = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

/* Finite halves of all magnitudes, or bytes; with some seeds the largest and the smallest. */
static void fill_row(enum vecmath_element element, void *row, size_t n, uint64_t seed)
{
    fill_bytes(row, n * vecmath_element_bytes(element), seed);
    for (size_t i = 0; i < n && element == VECMATH_F16; i++) {
        uint16_t half;
        memcpy(&half, (char *)row + 2 * i, sizeof(half));
        half = seed % 5 == 0 ? 0x7bff : seed % 5 == 1 ? (half & 0x83ff) : (half & 0xbfff);
        memcpy((char *)row + 2 * i, &half, sizeof(half));
    }
    if (element == VECMATH_I8 && seed % 5 == 0)
        memset(row, 0x80, n);
}

static void widen_row(enum vecmath_element element, const void *row, size_t n, float *values_out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half = 0;
        if (element == VECMATH_F16)
            memcpy(&half, (const char *)row + 2 * i, sizeof(half));
        values_out[i] =
            element == VECMATH_F16 ? (float)plain_half(half) : (float)((const int8_t *)row)[i];
    }
}

static float *floats_of(size_t n)
{
    float *floats = malloc((n + 1) * sizeof(float));
    if (floats == NULL)
        exit(99);
    return floats;
}

/* Rows that end at a guard page, and their widened copies. */
static void check_rows(enum vecmath_element element, enum vecmath_metric metric, size_t n,
                       size_t count, enum data_kind query_kind)
{
    size_t row_bytes = n * vecmath_element_bytes(element);
    struct guarded rows, query, wide;
    const void *pointers[ROWS];
    float scanned[ROWS], gathered[ROWS], expected[ROWS];
    guarded_open(&rows, row_bytes * count, true, n % 3);
    guarded_open(&query, n * sizeof(float), true, 0);
    guarded_open(&wide, n * sizeof(float) * count, true, 0);
    fill_floats(query.data, n, query_kind, n + 7);
    for (size_t r = 0; r < count; r++) {
        pointers[r] = (char *)rows.data + r * row_bytes;
        fill_row(element, (char *)rows.data + r * row_bytes, n, n * 31 + r);
        widen_row(element, pointers[r], n, (float *)wide.data + r * n);
    }
    vecmath_scan_of(metric)(query.data, wide.data, n * sizeof(float), count, n, expected);
    vecmath_scan_of_element(metric, element)(query.data, rows.data, row_bytes, count, n, scanned);
    vecmath_gather_of_element(metric, element)(query.data, pointers, count, n, gathered);
    for (size_t r = 0; r < count; r++) {
        float pair = vecmath_pair_of_element(metric, element)(query.data, pointers[r], n);
        CHECK(same_bits(scanned[r], expected[r]), "element %d metric %d n %zu row %zu: %g not %g",
              (int)element, (int)metric, n, r, (double)scanned[r], (double)expected[r]);
        CHECK(same_bits(gathered[r], scanned[r]), "gather n %zu row %zu", n, r);
        CHECK(same_bits(pair, scanned[r]), "pair n %zu row %zu", n, r);
    }
    guarded_close(&rows);
    guarded_close(&query);
    guarded_close(&wide);
}

static void narrow_rows_score_as_their_widened_copies(void)
{
    static const enum vecmath_metric metrics[] = {VECMATH_L2_SQUARED, VECMATH_DOT, VECMATH_L1};
    for (size_t i = 0; length_at(i) != 0; i++)
        for (size_t m = 0; m < 3; m++)
            for (int element = VECMATH_F16; element <= VECMATH_I8; element++) {
                check_rows((enum vecmath_element)element, metrics[m], length_at(i), 1 + i % ROWS,
                           DATA_RANDOM);
                check_rows((enum vecmath_element)element, metrics[m], length_at(i), ROWS,
                           DATA_MIXED);
            }
}

static void scores_that_overflow_saturate_as_those_of_widened_copies(void)
{
    static const enum vecmath_metric metrics[] = {VECMATH_L2_SQUARED, VECMATH_DOT, VECMATH_L1};
    for (size_t n = 1; n < 70; n++)
        for (size_t m = 0; m < 3; m++)
            for (int element = VECMATH_F16; element <= VECMATH_I8; element++)
                for (size_t count = 1; count <= ROWS; count++) {
                    struct guarded query;
                    float values[ROWS * 70], score[ROWS];
                    char rows[ROWS * 70 * 2];
                    size_t bytes = n * vecmath_element_bytes((enum vecmath_element)element);
                    guarded_open(&query, n * sizeof(float), true, 0);
                    fill_floats(query.data, n, DATA_HUGE, n);
                    fill_row((enum vecmath_element)element, rows, n * count, 2 * n);
                    vecmath_scan_of_element(metrics[m], (enum vecmath_element)element)(
                        query.data, rows, bytes, count, n, score);
                    widen_row((enum vecmath_element)element, rows, n * count, values);
                    for (size_t r = 0; r < count; r++) {
                        double sum = 0;
                        for (size_t i = 0; i < n; i++) {
                            double x = (double)((float *)query.data)[i];
                            double y = (double)values[r * n + i];
                            sum += m == 1 ? x * y : m == 0 ? (x - y) * (x - y) : fabs(x - y);
                        }
                        CHECK(isfinite(score[r]), "n %zu", n);
                        if (fabs(sum) >= (double)FLT_MAX * 1.001)
                            CHECK(fabsf(score[r]) == FLT_MAX, "n %zu: %g of %g", n,
                                  (double)score[r], sum);
                    }
                    guarded_close(&query);
                }
}

static void cosine_of_narrow_rows_is_that_of_widened_ones(void)
{
    for (size_t n = 1; n <= 300; n++)
        for (int element = VECMATH_F16; element <= VECMATH_I8; element++) {
            float query[300], wide[300], score[2];
            char rows[2 * 300 * 2] = {0};
            size_t bytes = n * vecmath_element_bytes((enum vecmath_element)element);
            fill_floats(query, n, n % 2 == 0 ? DATA_RANDOM : DATA_HUGE, n);
            fill_row((enum vecmath_element)element, rows, n, 5 * n + 3);
            widen_row((enum vecmath_element)element, rows, n, wide);
            vecmath_scan_of_element(VECMATH_COSINE,
                                    (enum vecmath_element)element)(query, rows, bytes, 2, n, score);
            CHECK(fabs((double)score[0] - exact_cosine(query, wide, n)) < 1e-6, "n %zu: %g", n,
                  (double)score[0]);
            CHECK(score[1] == 0, "a row of zeros: %g", (double)score[1]);
        }
}

static void norms_are_those_of_widened_rows(void)
{
    for (size_t i = 0; length_at(i) != 0; i++) {
        size_t n = length_at(i);
        float *wide = floats_of(n);
        for (int element = VECMATH_F16; element <= VECMATH_I8; element++) {
            struct guarded row;
            guarded_open(&row, n * vecmath_element_bytes((enum vecmath_element)element), true, 0);
            fill_row((enum vecmath_element)element, row.data, n, n * 3 + 1);
            widen_row((enum vecmath_element)element, row.data, n, wide);
            float norm = element == VECMATH_F16 ? vecmath_norm_f16(row.data, n)
                                                : vecmath_norm_i8(row.data, n);
            CHECK(same_bits(norm, vecmath_norm_f32(wide, n)), "element %d n %zu: %g", element, n,
                  (double)norm);
            guarded_close(&row);
        }
        free(wide);
    }
}

static double plain_bytes(enum vecmath_metric metric, const int8_t *a, const int8_t *b, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        int difference = a[i] - b[i];
        sum += metric == VECMATH_DOT  ? a[i] * b[i]
               : metric == VECMATH_L1 ? abs(difference)
                                      : difference * difference;
    }
    return (double)sum;
}

static void sums_of_bytes_are_exact(void)
{
    static const enum vecmath_metric metrics[] = {VECMATH_L2_SQUARED, VECMATH_DOT, VECMATH_L1};
    for (size_t i = 0; length_at(i) != 0; i++) {
        size_t n = length_at(i), count = 1 + i % ROWS;
        struct guarded rows, query;
        const void *pointers[ROWS];
        float scanned[ROWS], gathered[ROWS];
        guarded_open(&rows, n * count, true, 0);
        guarded_open(&query, n, true, 0);
        for (size_t m = 0; m < 3; m++) {
            fill_bytes(query.data, n, n);
            if (i % 7 == 0 || n == LENGTH_MAX) /* the largest sums */
                memset(query.data, 0x7f, n);
            for (size_t r = 0; r < count; r++) {
                pointers[r] = (char *)rows.data + r * n;
                fill_row(VECMATH_I8, (char *)rows.data + r * n, n, r + (n == LENGTH_MAX ? 0 : n));
            }
            vecmath_scan_of_bytes(metrics[m])(query.data, rows.data, n, count, n, scanned);
            vecmath_gather_of_bytes(metrics[m])(query.data, pointers, count, n, gathered);
            for (size_t r = 0; r < count; r++) {
                double sum = plain_bytes(metrics[m], query.data, pointers[r], n);
                CHECK(scanned[r] == (float)sum, "metric %d n %zu row %zu: %g not %g",
                      (int)metrics[m], n, r, (double)scanned[r], sum);
                CHECK(gathered[r] == (float)sum, "gather n %zu row %zu", n, r);
            }
        }
        guarded_close(&rows);
        guarded_close(&query);
    }
}

static void every_half_is_widened_and_comes_back(void)
{
    for (uint32_t half = 0; half < 65536; half++) {
        uint16_t in = (uint16_t)half, out = 0;
        float value = 0;
        vecmath_widen_f16(&in, 1, &value);
        if ((half & 0x7c00) == 0x7c00) {
            CHECK(!isfinite(value) && isnan(value) == ((half & 0x3ff) != 0), "%04x", half);
            CHECK(vecmath_first_nonfinite_f16(&in, 1) == 0, "%04x", half);
            continue;
        }
        CHECK((double)value == plain_half(in), "%04x: %g", half, (double)value);
        CHECK(vecmath_first_nonfinite_f16(&in, 1) == 1, "%04x", half);
        CHECK(vecmath_first_beyond_f16(&value, 1) == 1, "%04x", half);
        vecmath_narrow_f16(&value, 1, &out);
        CHECK(out == in, "%04x became %04x", half, out);
    }
}

/* Between two neighbours: just below the middle, the middle, just above. */
static void floats_are_rounded_to_the_nearest_half_and_ties_to_even(void)
{
    for (uint16_t half = 0; half < 0x7bff; half++) {
        double low = plain_half(half), high = plain_half((uint16_t)(half + 1));
        float middle = (float)((low + high) / 2);
        float in[6] = {nextafterf(middle, 0), middle, nextafterf(middle, FLT_MAX)};
        uint16_t out[6], even = (uint16_t)(half % 2 == 0 ? half : half + 1);
        for (size_t i = 0; i < 3; i++)
            in[3 + i] = -in[i];
        vecmath_narrow_f16(in, 6, out);
        CHECK(out[0] == half && out[1] == even && out[2] == half + 1, "%04x: %04x %04x %04x", half,
              out[0], out[1], out[2]);
        for (size_t i = 0; i < 3; i++)
            CHECK(out[3 + i] == (out[i] | 0x8000), "%04x", half);
    }
}

static void what_no_half_holds_is_found(void)
{
    static const float bad[] = {65520, -65520, 65536, 1e30f, -FLT_MAX, INFINITY, -INFINITY, NAN};
    static const float good[] = {65519.996f, -65504, 0, -0.0f, 1e-30f, FLT_MIN};
    for (size_t n = 1; n <= 300; n++) {
        float values[300];
        fill_floats(values, n, DATA_RANDOM, n);
        values[n / 2] = good[n % 6];
        CHECK(vecmath_first_beyond_f16(values, n) == n, "n %zu", n);
        for (size_t at = 0; at < n; at += 1 + n / 9) {
            float kept = values[at];
            values[at] = bad[(n + at) % 8];
            CHECK(vecmath_first_beyond_f16(values, n) == at, "n %zu at %zu", n, at);
            values[at] = kept;
        }
    }
}

static void what_is_no_byte_is_found_and_bytes_come_back(void)
{
    static const float bad[] = {128, -129, 0.5f, -127.25f, 1e30f, INFINITY, -INFINITY, NAN, 1e-30f};
    for (size_t n = 1; n <= 300; n++) {
        float values[300], wide[300];
        int8_t bytes[300];
        for (size_t i = 0; i < n; i++)
            values[i] = (float)((int)((i * 37 + n) % 256) - 128);
        CHECK(vecmath_first_not_i8(values, n) == n, "n %zu", n);
        vecmath_narrow_i8(values, n, bytes);
        vecmath_widen_i8(bytes, n, wide);
        CHECK(memcmp(values, wide, n * sizeof(float)) == 0, "n %zu", n);
        for (size_t at = 0; at < n; at += 1 + n / 9) {
            float kept = values[at];
            values[at] = bad[(n + at) % 9];
            CHECK(vecmath_first_not_i8(values, n) == at, "n %zu at %zu", n, at);
            values[at] = kept;
        }
    }
}

static void conversions_touch_nothing_beside(void)
{
    for (size_t n = 1; n <= 100; n++) {
        struct guarded halves, floats;
        guarded_open(&halves, 2 * n, true, 0);
        guarded_open(&floats, 4 * n, true, 0);
        fill_floats(floats.data, n, DATA_RANDOM, n);
        vecmath_narrow_f16(floats.data, n, halves.data);
        vecmath_widen_f16(halves.data, n, floats.data);
        for (size_t i = 0; i < n; i++)
            CHECK((double)((float *)floats.data)[i] == plain_half(((uint16_t *)halves.data)[i]),
                  "n %zu", n);
        guarded_close(&halves);
        guarded_close(&floats);
    }
}

static void functions_are_there_for_what_exists(void)
{
    CHECK(vecmath_scan_of_element(VECMATH_DOT, VECMATH_F32) == vecmath_scan_of(VECMATH_DOT), "f32");
    CHECK(vecmath_pair_of_element(VECMATH_L1, VECMATH_F32) == vecmath_pair_of(VECMATH_L1), "f32");
    CHECK(vecmath_scan_of_element(VECMATH_HAMMING, VECMATH_F16) == NULL, "hamming of halves");
    CHECK(vecmath_gather_of_element(VECMATH_HAMMING, VECMATH_I8) == NULL, "hamming of bytes");
    CHECK(vecmath_scan_of_bytes(VECMATH_COSINE) == NULL, "cosine of bytes");
    CHECK(vecmath_gather_of_bytes(VECMATH_HAMMING) == NULL, "hamming of bytes");
    CHECK(vecmath_element_bytes(VECMATH_F32) == 4 && vecmath_element_bytes(VECMATH_F16) == 2 &&
              vecmath_element_bytes(VECMATH_I8) == 1,
          "sizes");
}

int main(void)
{
    static const struct test tests[] = {
        TEST(narrow_rows_score_as_their_widened_copies),
        TEST(scores_that_overflow_saturate_as_those_of_widened_copies),
        TEST(cosine_of_narrow_rows_is_that_of_widened_ones),
        TEST(norms_are_those_of_widened_rows),
        TEST(sums_of_bytes_are_exact),
        TEST(every_half_is_widened_and_comes_back),
        TEST(floats_are_rounded_to_the_nearest_half_and_ties_to_even),
        TEST(what_no_half_holds_is_found),
        TEST(what_is_no_byte_is_found_and_bytes_come_back),
        TEST(conversions_touch_nothing_beside),
        TEST(functions_are_there_for_what_exists),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
