/* utf8, base64, text, clock: what is written and read as text. */
#include "base/base64.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/text.h"
#include "base/utf8.h"

#include <proximadb/error.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ROW(literal)                                                                               \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

static void invalid_utf8_is_found_where_it_begins(void **state)
{
    (void)state;
    static const struct {
        struct pdb_text text;
        size_t invalid_at; /* SIZE_MAX: valid */
    } rows[] = {
        {ROW(""), SIZE_MAX},
        {ROW("ascii \x7f\0"), SIZE_MAX},
        {ROW("\xc2\x80\xdf\xbf"), SIZE_MAX},
        {ROW("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"), SIZE_MAX},
        {ROW("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"), SIZE_MAX},
        {ROW("a\x80"), 1},
        {ROW("ab\xbf"), 2},
        {ROW("\xc0\xaf"), 0},
        {ROW("\xc1\xbf"), 0},
        {ROW("\xe0\x9f\xbf"), 0},
        {ROW("\xed\xa0\x80"), 0},
        {ROW("\xed\xbf\xbf"), 0},
        {ROW("\xf0\x8f\xbf\xbf"), 0},
        {ROW("\xf4\x90\x80\x80"), 0},
        {ROW("\xf5\x80\x80\x80"), 0},
        {ROW("\xfe"), 0},
        {ROW("\xff"), 0},
        {ROW("x\xc3"), 1},
        {ROW("x\xe2\x82"), 1},
        {ROW("x\xf0\x9f\x98"), 1},
        {ROW("\xc3\x41"), 0},
        {ROW("\xe2\x82\x41"), 0},
        {ROW("\xf0\x9f\x98\x41"), 0},
        {ROW("0123456789012345678901234567890123456789\xff"), 40},
        {ROW("012345678901234567890123456789\xc3\xa4\xff"), 32},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t want = rows[i].invalid_at == SIZE_MAX ? rows[i].text.len : rows[i].invalid_at;
        if (utf8_invalid_at(rows[i].text.ptr, rows[i].text.len) != want)
            fail_msg("row %zu", i);
    }
}

static void every_scalar_value_is_encoded_validly_and_no_surrogate_is_valid(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char bytes[4];
        size_t len = utf8_encode(c, bytes);
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        assert_int_equal(len, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
        if ((utf8_invalid_at(bytes, len) == len) == surrogate)
            fail_msg("U+%04x", (unsigned)c);
        if (len > 1)
            assert_int_equal(utf8_invalid_at(bytes, len - 1), 0);
    }
}

/* RFC 4648 section 10. */
static void base64_has_the_vectors_of_its_rfc(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"", ""},
                                          {"f", "Zg=="},
                                          {"fo", "Zm8="},
                                          {"foo", "Zm9v"},
                                          {"foob", "Zm9vYg=="},
                                          {"fooba", "Zm9vYmE="},
                                          {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[64] = "", bytes[64];
        size_t len = strlen(rows[i][0]), text_len = strlen(rows[i][1]), decoded = 99, bad = 99;
        assert_int_equal(base64_encoded_len(len), text_len);
        base64_encode(rows[i][0], len, text);
        assert_string_equal(text, rows[i][1]);
        assert_true(base64_decoded_max(text_len) >= len);
        assert_int_equal(base64_decode(text, text_len, false, bytes, &decoded, &bad), 0);
        assert_int_equal(decoded, len);
        assert_memory_equal(bytes, rows[i][0], len);
    }
}

static void base64_refuses_what_is_not_exactly_it(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool url;
        size_t bad;
    } rows[] = {
        {"Zg=", false, 3},      {"Zg", false, 2},       {"Z", false, 1},
        {"Zg==Zg==", false, 2}, {"Zh==", false, 1},     {"Zm9=", false, 2},
        {"====", false, 0},     {"Z===", false, 1},     {"Zm9v\n", false, 5},
        {"Zm v", false, 2},     {"Zm9v!m9v", false, 4}, {"-_-_", false, 0},
        {"+/+/", true, 0},      {"Zm9vZm9*", false, 7}, {"Zm=v", false, 2},
        {"Zm9vZ=9v", false, 5},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char bytes[64];
        size_t len = 77, bad = 77;
        if (base64_decode(rows[i].text, strlen(rows[i].text), rows[i].url, bytes, &len, &bad) !=
                PDB_INVALID_ARGUMENT ||
            bad != rows[i].bad || len != 77)
            fail_msg("%s: at %zu", rows[i].text, bad);
    }
    char bytes[3];
    size_t len = 0, bad = 0;
    assert_int_equal(base64_decode("-_-_", 4, true, bytes, &len, &bad), 0);
    assert_memory_equal(bytes, "\xfb\xff\xbf", 3);
}

static void random_bytes_survive_base64(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1);
    for (int round = 0; round < 3000; round++) {
        unsigned char in[200], out[203];
        char text[300];
        size_t len = rng_below(&rng, sizeof(in)), decoded = 0, bad = 0;
        for (size_t i = 0; i < len; i++)
            in[i] = (unsigned char)rng_next(&rng);
        base64_encode(in, len, text);
        assert_int_equal(base64_decode(text, base64_encoded_len(len), false, out, &decoded, &bad),
                         0);
        assert_int_equal(decoded, len);
        assert_memory_equal(in, out, len);
    }
}

static void times_are_written_as_rfc_3339(void **state)
{
    (void)state;
    static const struct {
        int64_t us;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {-1, "1969-12-31T23:59:59.999999Z"},
        {951827696789012, "2000-02-29T12:34:56.789012Z"},
        {1709251199000000, "2024-02-29T23:59:59.000000Z"},
        {4107542400000000, "2100-03-01T00:00:00.000000Z"},
        {-62167219200000000, "0000-01-01T00:00:00.000000Z"},
        {253402300799999999, "9999-12-31T23:59:59.999999Z"},
    };
    char text[CLOCK_TEXT_SIZE];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t us = 0;
        clock_format_us(rows[i].us, text);
        assert_string_equal(text, rows[i].text);
        assert_int_equal(clock_parse(text, strlen(text), &us), 0);
        assert_int_equal(us, rows[i].us);
    }
    clock_format_us(INT64_MIN, text);
    assert_string_equal(text, "0000-01-01T00:00:00.000000Z");
    clock_format_us(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
}

static void every_day_of_ten_thousand_years_survives(void **state)
{
    (void)state;
    char text[CLOCK_TEXT_SIZE], last[CLOCK_TEXT_SIZE] = "";
    for (int64_t day = -719528; day < 2932897; day++) { /* 0000-01-01 to 9999-12-31 */
        int64_t us = day * 86400000000 + (day & 0xffff) * 1000001, back = 0;
        clock_format_us(us, text);
        if (clock_parse(text, CLOCK_TEXT_SIZE - 1, &back) != 0 || back != us ||
            strcmp(last, text) >= 0)
            fail_msg("%s", text);
        memcpy(last, text, sizeof(last));
    }
}

static void other_forms_of_a_time_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us; /* INT64_MIN: refused */
    } rows[] = {
        {"1970-01-01T00:00:01Z", 1000000},          {"1970-01-01t00:00:01z", 1000000},
        {"1970-01-01 00:00:01Z", 1000000},          {"1970-01-01T01:00:01+01:00", 1000000},
        {"1969-12-31T18:30:01-05:30", 1000000},     {"1970-01-01T00:00:00.1Z", 100000},
        {"1970-01-01T00:00:00.123456789Z", 123456}, {"1970-01-01T00:00:00.000000999Z", 0},
        {"1990-12-31T23:59:60Z", 662688000000000},  {"1970-01-01T00:00:00.1234567890Z", INT64_MIN},
        {"1970-01-01T00:00:00.Z", INT64_MIN},       {"1970-01-01T00:00:00", INT64_MIN},
        {"1970-01-01T00:00:00+0100", INT64_MIN},    {"1970-01-01T00:00:00+24:00", INT64_MIN},
        {"1970-01-01T24:00:00Z", INT64_MIN},        {"1970-01-01T00:60:00Z", INT64_MIN},
        {"1970-01-01T00:00:61Z", INT64_MIN},        {"1970-13-01T00:00:00Z", INT64_MIN},
        {"1970-00-01T00:00:00Z", INT64_MIN},        {"1970-02-29T00:00:00Z", INT64_MIN},
        {"1900-02-29T00:00:00Z", INT64_MIN},        {"1970-04-31T00:00:00Z", INT64_MIN},
        {"1970-01-00T00:00:00Z", INT64_MIN},        {"1970-01-01", INT64_MIN},
        {"70-01-01T00:00:00Z", INT64_MIN},          {"1970-01-01T00:00:00Zx", INT64_MIN},
        {"1970-01-01T0a:00:00Z", INT64_MIN},        {"", INT64_MIN},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t us = INT64_MIN;
        int rc = clock_parse(rows[i].text, strlen(rows[i].text), &us);
        if (rc != (rows[i].us == INT64_MIN ? PDB_INVALID_ARGUMENT : 0) || us != rows[i].us)
            fail_msg("%s", rows[i].text);
    }
}

static void clocks_run_forward(void **state)
{
    (void)state;
    uint64_t before = clock_monotonic_ns();
    int64_t wall = clock_realtime_us();
    assert_true(clock_monotonic_ns() >= before);
    assert_true(wall > 1700000000000000); /* after 2023 */
}

static void text_is_compared_bytewise(void **state)
{
    (void)state;
    assert_true(text_equal(TEXT_LIT("ab"), text_of("ab")));
    assert_false(text_equal(TEXT_LIT("ab"), TEXT_LIT("abc")));
    assert_true(text_equal(TEXT_LIT(""), (struct pdb_text){NULL, 0}));
    assert_true(text_compare(TEXT_LIT("a"), TEXT_LIT("ab")) < 0);
    assert_true(text_compare(TEXT_LIT("\xff"), TEXT_LIT("a")) > 0);
    assert_int_equal(text_compare(TEXT_LIT("a"), TEXT_LIT("a")), 0);
    assert_true(text_starts_with(TEXT_LIT("abc"), TEXT_LIT("ab")));
    assert_false(text_starts_with(TEXT_LIT("a"), TEXT_LIT("ab")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invalid_utf8_is_found_where_it_begins),
        cmocka_unit_test(every_scalar_value_is_encoded_validly_and_no_surrogate_is_valid),
        cmocka_unit_test(base64_has_the_vectors_of_its_rfc),
        cmocka_unit_test(base64_refuses_what_is_not_exactly_it),
        cmocka_unit_test(random_bytes_survive_base64),
        cmocka_unit_test(times_are_written_as_rfc_3339),
        cmocka_unit_test(every_day_of_ten_thousand_years_survives),
        cmocka_unit_test(other_forms_of_a_time_are_read),
        cmocka_unit_test(clocks_run_forward),
        cmocka_unit_test(text_is_compared_bytewise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
