/* Numbers against libc: whatever road a number takes, it must round as strtof and strtod do. */
#include "base/json.h"
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RANDOM_COUNT = 300000 };

static uint32_t float_bits(float value)
{
    uint32_t bits = 0;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static uint64_t double_bits(double value)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static float float_of(uint32_t bits)
{
    float value = 0;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static double double_of(uint64_t bits)
{
    double value = 0;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static void check_float(const char *text)
{
    char array[2048];
    int len = snprintf(array, sizeof(array), "[%s]", text);
    struct json_reader r;
    json_open(&r, array, (size_t)len, 8, NULL);
    float value = 0, want = strtof(text, NULL);
    size_t count = 0;
    int rc = json_read_floats(&r, &value, 1, &count);
    if (isinf(want)) {
        assert_int_equal(rc, PDB_INVALID_ARGUMENT);
        return;
    }
    if (rc != 0 || count != 1 || float_bits(value) != float_bits(want))
        fail_msg("%s: %a, want %a", text, (double)value, (double)want);
}

static void check_double(const char *text)
{
    struct json_reader r;
    json_open(&r, text, strlen(text), 8, NULL);
    double value = 0, want = strtod(text, NULL);
    int rc = json_read_double(&r, &value);
    if (isinf(want)) {
        assert_int_equal(rc, PDB_INVALID_ARGUMENT);
        return;
    }
    if (rc != 0 || double_bits(value) != double_bits(want))
        fail_msg("%s: %a, want %a", text, value, want);
}

static void random_floats_of_all_magnitudes_round_as_strtof(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1);
    for (int i = 0; i < RANDOM_COUNT; i++) {
        char text[512];
        uint32_t bits = (uint32_t)rng_next(&rng);
        if ((bits & 0x7f800000u) == 0x7f800000u)
            continue;
        double value = i % 2 != 0 ? (double)float_of(bits) : rng_normal(&rng);
        if (i % 5 == 4)
            (void)snprintf(text, sizeof(text), "%.25f", value);
        else
            (void)snprintf(text, sizeof(text), "%.*g", 5 + 3 * (i % 5), value);
        check_float(text);
        check_double(text);
    }
}

/* The decimal expansion of the middle between two floats is exact in a double; it and its
 * neighbours by one last digit are the hardest cases there are. */
static void numbers_next_to_the_middle_of_two_floats_round_as_strtof(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 2);
    for (int i = 0; i < RANDOM_COUNT / 6; i++) {
        uint32_t bits = (uint32_t)rng_next(&rng) & 0x7fffffffu;
        if (i % 2 != 0) /* of ordinary size too: 2^-20..2^20 */
            bits = (uint32_t)(107 + rng_below(&rng, 40)) << 23 | (bits & 0x7fffffu);
        if (bits >= 0x7f7fffffu)
            continue;
        double middle = ((double)float_of(bits) + (double)float_of(bits + 1)) / 2;
        char text[512];
        int len = snprintf(text, sizeof(text), "%.160g", middle);
        check_float(text);
        if (strchr(text, 'e') == NULL) {
            if (strchr(text, '.') == NULL)
                (void)snprintf(text + len, sizeof(text) - (size_t)len, ".0000000000000000000001");
            else
                (void)snprintf(text + len, sizeof(text) - (size_t)len, "1");
            check_float(text);
        }
        (void)snprintf(text, sizeof(text), "%.17g", middle);
        check_float(text);
        (void)snprintf(text, sizeof(text), "%.17g", nextafter(middle, 0));
        check_float(text);
        (void)snprintf(text, sizeof(text), "%.18g", nextafter(middle, HUGE_VAL));
        check_float(text);
        (void)snprintf(text, sizeof(text), "%.15g", middle);
        check_float(text);
    }
}

static void random_digits_and_exponents_round_as_strtod(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 3);
    for (int i = 0; i < RANDOM_COUNT; i++) {
        char text[128];
        int at = 0;
        unsigned digits = 1 + (unsigned)rng_below(&rng, 40);
        unsigned point = (unsigned)rng_below(&rng, 45);
        text[at++] = rng_below(&rng, 2) != 0 ? '-' : (char)('1' + rng_below(&rng, 9));
        text[at++] = (char)('1' + rng_below(&rng, 9));
        for (unsigned d = 1; d < digits; d++) {
            if (d == point)
                text[at++] = '.';
            text[at++] = (char)('0' + rng_below(&rng, 10));
        }
        if (rng_below(&rng, 2) != 0)
            at += snprintf(text + at, 16, "e%d", (int)rng_below(&rng, 90) - 45);
        text[at] = '\0';
        check_float(text);
        check_double(text);
    }
}

static void zeros_in_front_do_not_count_as_digits(void **state)
{
    (void)state;
    check_float("0.00000000000000000000001234567");
    check_float("0.000000123456789012345678");
    check_float("-0.0000000000000000000000000000000000000000000000000000000000001");
    check_double("0.0000000000000000000000000000000000000000000000001234567890123456789");
    check_float("0.000000000000000000000000000000000");
    check_float("-0");
    check_float("-0.0e5");
    check_float("0e99999999999999999999999");
}

static void numbers_of_any_length_are_read(void **state)
{
    (void)state;
    enum { LENGTH = 200000 };
    char *text = test_malloc(LENGTH + 64);
    /* 0.000...0001 with an exponent that lifts it back */
    memset(text, '0', LENGTH);
    text[1] = '.';
    (void)snprintf(text + LENGTH, 64, "15e%d", LENGTH - 2);
    struct json_reader r;
    double value = 0;
    json_open(&r, text, strlen(text), 8, NULL);
    assert_int_equal(json_read_double(&r, &value), 0);
    assert_true(value >= 0.15 && value <= 0.15);
    /* the middle of two doubles, and a last digit far behind it that decides */
    int len = snprintf(text, LENGTH, "9007199254740993.");
    memset(text + len, '0', LENGTH - (size_t)len);
    text[LENGTH - 1] = '1';
    text[LENGTH] = '\0';
    json_open(&r, text, LENGTH, 8, NULL);
    assert_int_equal(json_read_double(&r, &value), 0);
    assert_true(value >= 9007199254740994.0 && value <= 9007199254740994.0);
    text[LENGTH - 1] = '0';
    json_open(&r, text, LENGTH, 8, NULL);
    assert_int_equal(json_read_double(&r, &value), 0);
    assert_true(value >= 9007199254740992.0 && value <= 9007199254740992.0);
    memset(text, '9', LENGTH);
    json_open(&r, text, LENGTH, 8, NULL);
    assert_int_equal(json_read_double(&r, &value), PDB_INVALID_ARGUMENT);
    test_free(text);
}

static void the_middle_with_767_digits_is_rounded_by_what_follows(void **state)
{
    (void)state;
    double smallest = 0x1p-1074;
    char text[1200];
    /* half of the smallest double: exact decimal expansion has 751 significant digits */
    int len = snprintf(text, sizeof(text), "%.1074f", smallest);
    assert_true(len > 1000);
    check_double(text);
    check_double(
        "2.4703282292062327208828439643411068618252990130716238221279284125033775363510437593"
        "264991818081799618989828234772285886546332835517796989819938739800539093906315035659"
        "515570226392290858392449105184435931802849936536152500319370457678249219365623669863"
        "658480757001585769269903706311928279558551332927834338409351978015531246597263579574"
        "622766465272827220056374006485499977096599470454020828166226237857393450736339007967"
        "761930577506740176324673600968951340535537458516661134223766678604300156e-324");
}

static void integers_are_exact_to_the_last_bit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_i64, is_u64;
        uint64_t value;
    } rows[] = {
        {"0", true, true, 0},
        {"-0", true, true, 0},
        {"9007199254740993", true, true, 9007199254740993},
        {"9223372036854775807", true, true, INT64_MAX},
        {"9223372036854775808", false, true, (uint64_t)INT64_MAX + 1},
        {"-9223372036854775808", true, false, (uint64_t)INT64_MIN},
        {"-9223372036854775809", false, false, 0},
        {"18446744073709551615", false, true, UINT64_MAX},
        {"18446744073709551616", false, false, 0},
        {"99999999999999999999999", false, false, 0},
        {"1.0", false, false, 0},
        {"1e3", false, false, 0},
        {"-1", true, false, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct json_reader r;
        int64_t i64 = 0;
        uint64_t u64 = 0;
        json_open(&r, rows[i].text, strlen(rows[i].text), 8, NULL);
        assert_int_equal(json_read_i64(&r, &i64), rows[i].is_i64 ? 0 : PDB_INVALID_ARGUMENT);
        if (rows[i].is_i64)
            assert_int_equal((uint64_t)i64, rows[i].value);
        json_open(&r, rows[i].text, strlen(rows[i].text), 8, NULL);
        assert_int_equal(json_read_u64(&r, &u64), rows[i].is_u64 ? 0 : PDB_INVALID_ARGUMENT);
        if (rows[i].is_u64)
            assert_int_equal(u64, rows[i].value);
    }
}

static void numbers_beyond_the_type_are_refused_and_not_infinite(void **state)
{
    (void)state;
    check_double("1e999");
    check_double("-1e309");
    check_double("1.7976931348623157e308");
    check_double("1.7976931348623159e308");
    check_float("3.4028234e38");
    check_float("3.4028235677973366e38"); /* the middle between the greatest float and 2^128 */
    check_float("3.40282356e38");
    check_float("1e39");
    check_float("1e-60");
    check_float("1e44");
    check_float("123456789012345678901234567890123456789012");
}

static void malformed_numbers_are_refused_where_they_go_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"01", "JSON at byte 1: malformed number"},
        {"-", "JSON at byte 1: malformed number"},
        {"-01", "JSON at byte 2: malformed number"},
        {"1.", "JSON at byte 2: malformed number"},
        {"1.e5", "JSON at byte 2: malformed number"},
        {"1e", "JSON at byte 2: malformed number"},
        {"1e+", "JSON at byte 3: malformed number"},
        {"-a", "JSON at byte 1: malformed number"},
        {".5", "JSON at byte 0: expected a number"},
        {"+5", "JSON at byte 0: expected a number"},
        {"NaN", "JSON at byte 0: expected a number"},
        {"Infinity", "JSON at byte 0: expected a number"},
        {"1e999", "JSON at byte 0: number out of range"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct trail trail = {0};
        struct json_reader r;
        double value = 0;
        json_open(&r, rows[i].text, strlen(rows[i].text), 8, &trail);
        assert_int_equal(json_read_double(&r, &value), PDB_INVALID_ARGUMENT);
        assert_string_equal(trail.text, rows[i].message);
    }
}

/* ---- writing ---- */

static size_t significant_digits(const char *text)
{
    size_t count = 0, zeros = 0;
    for (; *text != '\0' && *text != 'e'; text++) {
        if (*text < '0' || *text > '9')
            continue;
        zeros = *text == '0' ? zeros + 1 : 0;
        count += count > 0 || *text != '0';
    }
    return count > zeros ? count - zeros : 1;
}

/* The least number of digits that printf needs for the same float. */
static size_t digits_needed(float value)
{
    char text[64];
    for (int precision = 1;; precision++) {
        (void)snprintf(text, sizeof(text), "%.*e", precision - 1, (double)value);
        if (float_bits(strtof(text, NULL)) == float_bits(value))
            return significant_digits(text);
    }
}

static void written_floats_read_back_the_same_and_none_is_shorter(void **state)
{
    (void)state;
    struct rng rng;
    struct buffer out;
    rng_seed(&rng, 4);
    buffer_init_heap(&out, NULL, 0);
    size_t longer = 0, count = 0;
    for (int i = 0; i < RANDOM_COUNT; i++) {
        float value = float_of((uint32_t)rng_next(&rng));
        if (i % 3 == 0)
            value = (float)rng_normal(&rng);
        else if (i % 3 == 1)
            value = (float)((double)rng_below(&rng, 100000) / 1000);
        if (!isfinite(value))
            continue;
        out.len = 0;
        json_write_float(&out, value);
        buffer_add_byte(&out, '\0');
        if (float_bits(strtof(out.ptr, NULL)) != float_bits(value))
            fail_msg("%a is written %s", (double)value, out.ptr);
        struct json_reader r;
        double read = 0;
        json_open(&r, out.ptr, out.len - 1, 1, NULL);
        assert_int_equal(json_read_double(&r, &read), 0);
        assert_int_equal(json_finish(&r), 0);
        count++;
        if (significant_digits(out.ptr) > digits_needed(value)) {
            longer++;
            print_message("%a is written %s\n", (double)value, out.ptr);
        }
    }
    assert_true(count > RANDOM_COUNT / 2);
    assert_true(longer <= 2); /* a candidate whose margin touches a boundary: one in 2^25 */
    buffer_dispose(&out);
}

static void written_doubles_read_back_the_same(void **state)
{
    (void)state;
    struct rng rng;
    struct buffer out;
    rng_seed(&rng, 5);
    buffer_init_heap(&out, NULL, 0);
    for (int i = 0; i < RANDOM_COUNT / 2; i++) {
        double value = double_of(rng_next(&rng));
        if (i % 4 == 1)
            value = (double)rng_below(&rng, 1000000) / 100;
        else if (i % 4 == 2)
            value = rng_normal(&rng);
        else if (i % 4 == 3)
            value = (double)(int64_t)rng_next(&rng);
        if (!isfinite(value))
            continue;
        out.len = 0;
        json_write_double(&out, value);
        buffer_add_byte(&out, '\0');
        if (double_bits(strtod(out.ptr, NULL)) != double_bits(value))
            fail_msg("%a is written %s", value, out.ptr);
    }
    buffer_dispose(&out);
}

static void numbers_are_written_as_people_write_them(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {12.99, "12.99"},
        {100, "100"},
        {123456789, "123456789"},
        {1e15, "1000000000000000"},
        {0.001, "0.001"},
        {0.000001, "0.000001"},
        {0.0000015, "0.0000015"},
        {1e-7, "1e-07"},
        {1e300, "1e+300"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {0.30000000000000004, "0.30000000000000004"},
        {3.141592653589793, "3.141592653589793"},
    };
    struct buffer out;
    buffer_init_heap(&out, NULL, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        out.len = 0;
        json_write_double(&out, rows[i].value);
        buffer_add_byte(&out, '\0');
        assert_string_equal(out.ptr, rows[i].text);
    }
    static const struct {
        float value;
        const char *text;
    } floats[] = {
        {0.1f, "0.1"},
        {-0.0f, "-0"},
        {0.25f, "0.25"},
        {1e10f, "10000000000"},
        {16777216.0f, "16777216"},
        {0.33333334f, "0.33333334"},
        {1e-7f, "1e-7"},
        {3.4028235e38f, "3.4028235e+38"},
        {1e-45f, "1e-45"},
        {0.0001f, "0.0001"},
        {123.456f, "123.456"},
    };
    for (size_t i = 0; i < sizeof(floats) / sizeof(floats[0]); i++) {
        out.len = 0;
        json_write_float(&out, floats[i].value);
        buffer_add_byte(&out, '\0');
        assert_string_equal(out.ptr, floats[i].text);
    }
    buffer_dispose(&out);
}

static void what_json_cannot_say_is_written_null(void **state)
{
    (void)state;
    struct buffer out;
    buffer_init_heap(&out, NULL, 0);
    const float values[] = {NAN, INFINITY, -INFINITY, 1.5f};
    json_write_floats(&out, values, 4);
    json_write_double(&out, (double)NAN);
    assert_int_equal(out.len, strlen("[null,null,null,1.5]null"));
    assert_memory_equal(out.ptr, "[null,null,null,1.5]null", out.len);
    buffer_dispose(&out);
}

static void an_array_of_floats_is_read_back_as_it_was_written(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    float values[COUNT], read[COUNT];
    struct rng rng;
    struct buffer out;
    rng_seed(&rng, 6);
    buffer_init_heap(&out, NULL, 0);
    for (size_t i = 0; i < COUNT; i++)
        values[i] = (float)rng_normal(&rng);
    json_write_floats(&out, values, COUNT);
    struct json_reader r;
    size_t count = 0;
    json_open(&r, out.ptr, out.len, 1, NULL);
    assert_int_equal(json_read_floats(&r, read, COUNT, &count), 0);
    assert_int_equal(json_finish(&r), 0);
    assert_int_equal(count, COUNT);
    assert_memory_equal(values, read, sizeof(values));
    /* more than there is room for: counted, not stored */
    json_open(&r, out.ptr, out.len, 1, NULL);
    assert_int_equal(json_read_floats(&r, read, 10, &count), 0);
    assert_int_equal(count, COUNT);
    buffer_dispose(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_floats_of_all_magnitudes_round_as_strtof),
        cmocka_unit_test(numbers_next_to_the_middle_of_two_floats_round_as_strtof),
        cmocka_unit_test(random_digits_and_exponents_round_as_strtod),
        cmocka_unit_test(zeros_in_front_do_not_count_as_digits),
        cmocka_unit_test(numbers_of_any_length_are_read),
        cmocka_unit_test(the_middle_with_767_digits_is_rounded_by_what_follows),
        cmocka_unit_test(integers_are_exact_to_the_last_bit),
        cmocka_unit_test(numbers_beyond_the_type_are_refused_and_not_infinite),
        cmocka_unit_test(malformed_numbers_are_refused_where_they_go_wrong),
        cmocka_unit_test(written_floats_read_back_the_same_and_none_is_shorter),
        cmocka_unit_test(written_doubles_read_back_the_same),
        cmocka_unit_test(numbers_are_written_as_people_write_them),
        cmocka_unit_test(what_json_cannot_say_is_written_null),
        cmocka_unit_test(an_array_of_floats_is_read_back_as_it_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
