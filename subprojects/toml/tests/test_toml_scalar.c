/* Tests src/toml_scalar.c: booleans, integers, floats. */
#include <locale.h>
#include <math.h>
#include <stdio.h>

#include "toml_fixture.h"

static int64_t integer(const char *literal)
{
    char text[128];
    (void)snprintf(text, sizeof text, "k = %s\n", literal);
    struct toml_document *doc = parse(text);
    int64_t value = value_at(doc, "k", TOML_INTEGER)->as.integer;
    toml_free(doc);
    return value;
}

static double number(const char *literal)
{
    char text[128];
    (void)snprintf(text, sizeof text, "k = %s # c\n", literal);
    struct toml_document *doc = parse(text);
    double value = value_at(doc, "k", TOML_FLOAT)->as.number;
    toml_free(doc);
    return value;
}

static void refuse_value(const char *literal, const char *part)
{
    char text[512];
    (void)snprintf(text, sizeof text, "k = %s\n", literal);
    refuse(text, 1, 5, part);
}

static void booleans_are_lower_case_words(void **state)
{
    (void)state;
    struct toml_document *doc = parse("t = true\nf = false # no\n");
    assert_true(value_at(doc, "t", TOML_BOOLEAN)->as.boolean);
    assert_false(value_at(doc, "f", TOML_BOOLEAN)->as.boolean);
    toml_free(doc);
    refuse_value("True", "'True' is no value; text needs quotes");
    refuse_value("truee", "'truee'");
    refuse_value("tru", "'tru'");
}

static void integers_reach_both_ends_of_64_bits_in_every_base(void **state)
{
    (void)state;
    assert_int_equal(integer("0"), 0);
    assert_int_equal(integer("-0"), 0);
    assert_int_equal(integer("+99"), 99);
    assert_int_equal(integer("1_000_000"), 1000000);
    assert_true(integer("9223372036854775807") == INT64_MAX);
    assert_true(integer("-9223372036854775808") == INT64_MIN);
    assert_true(integer("0x7FFF_ffff_FFFF_ffff") == INT64_MAX);
    assert_true(integer("0o777777777777777777777") == INT64_MAX);
    assert_int_equal(integer("0o0755"), 0755);
    assert_int_equal(integer("0b1101_0110"), 0xd6);
    assert_int_equal(integer("0x00dead"), 0xdead);
}

static void integers_out_of_range_are_refused_not_wrapped(void **state)
{
    (void)state;
    refuse_value("9223372036854775808", "out of range");
    refuse_value("-9223372036854775809", "out of range");
    refuse_value("0x8000000000000000", "out of range");
    refuse_value("99999999999999999999999999999999999999999999999999", "out of range");
    refuse_value("0b1111111111111111111111111111111111111111111111111111111111111111", "range");
}

static void misshapen_integers_are_refused(void **state)
{
    (void)state;
    static const char *const literals[] = {"+",    "-",    "_1",  "1_",  "1__2", "0x",   "0x_1",
                                           "0x1_", "0xg",  "0o8", "0b2", "0X1F", "1a",   "--1",
                                           "+-1",  "0b1_", "1:2", "1-2", "0o_7", "0b__1"};
    for (size_t i = 0; i < sizeof literals / sizeof literals[0]; i++)
        refuse_value(literals[i], "is no value");
    refuse_value("012", "cannot begin with 0");
    refuse_value("-007", "cannot begin with 0");
    refuse_value("0_1", "cannot begin with 0");
    refuse_value("+0x1", "only decimal");
    refuse_value("1_", "needs a digit on either side");
}

static void floats_are_read_to_the_last_bit(void **state)
{
    (void)state;
    assert_true(number("1.0") == 1.0);
    assert_true(number("3.141592653589793") == 3.141592653589793);
    assert_true(number("-0.01") == -0.01);
    assert_true(number("5e+22") == 5e22);
    assert_true(number("1E06") == 1e6);
    assert_true(number("6.626e-34") == 6.626e-34);
    assert_true(number("224_617.445_991_228") == 224617.445991228);
    assert_true(number("1_0e1_0") == 10e10);
    assert_true(number("1.7976931348623157e308") == 1.7976931348623157e308);
    assert_true(number("4.9406564584124654e-324") > 0);
    assert_true(signbit(number("-0.0")) && !signbit(number("+0.0")));
}

static void infinities_and_nan_keep_their_sign(void **state)
{
    (void)state;
    assert_true(isinf(number("inf")) && number("inf") > 0);
    assert_true(isinf(number("+inf")) && number("+inf") > 0);
    assert_true(isinf(number("-inf")) && number("-inf") < 0);
    assert_true(isnan(number("nan")) && !signbit(number("nan")));
    assert_true(isnan(number("-nan")) && signbit(number("-nan")));
    refuse_value("Inf", "'Inf'");
    refuse_value("infinity", "'infinity'");
    refuse_value("nan0", "'nan0'");
}

static void misshapen_floats_are_refused(void **state)
{
    (void)state;
    static const char *const literals[] = {".7",    "7.",      "3.e+20", "1e",   "1e+",   "1.e1",
                                           "1._0",  "1_.0",    "1.0_",   "1e_1", "1e1_",  "1.2.3",
                                           "1e2.3", "0x1.8p1", "1.0f",   "+.5",  "1e1e1", "1.5-"};
    for (size_t i = 0; i < sizeof literals / sizeof literals[0]; i++)
        refuse_value(literals[i], "is no value");
    refuse_value("03.14", "cannot begin with 0");
    refuse_value("1e999", "out of range for a 64-bit float");
    refuse_value("-1e999", "out of range for a 64-bit float");
}

static void a_locale_with_a_decimal_comma_changes_nothing(void **state)
{
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "ru_RU.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (setlocale(LC_NUMERIC, names[i]) != NULL)
            break; /* where none is installed, this is one more test in the C locale */
    }
    double value = number("1.5");
    (void)setlocale(LC_NUMERIC, "C");
    assert_true(value == 1.5);
}

static void a_missing_value_is_named(void **state)
{
    (void)state;
    refuse("k = # none\n", 1, 5, "expected a value, found '#'");
    refuse("k =", 1, 4, "expected a value, found the end of the file");
    refuse("k = \r\n", 1, 5, "expected a value, found the end of the line");
    refuse("k = \xe2\x82\xac\n", 1, 5, "expected a value, found '\xe2\x82\xac'");
    refuse("k = \x01\n", 1, 5, "found U+0001");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(booleans_are_lower_case_words),
        cmocka_unit_test(integers_reach_both_ends_of_64_bits_in_every_base),
        cmocka_unit_test(integers_out_of_range_are_refused_not_wrapped),
        cmocka_unit_test(misshapen_integers_are_refused),
        cmocka_unit_test(floats_are_read_to_the_last_bit),
        cmocka_unit_test(infinities_and_nan_keep_their_sign),
        cmocka_unit_test(misshapen_floats_are_refused),
        cmocka_unit_test(a_locale_with_a_decimal_comma_changes_nothing),
        cmocka_unit_test(a_missing_value_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
