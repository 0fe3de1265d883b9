/* Tests src/toml_datetime.c: the four kinds of time. */
#include <stdio.h>

#include "toml_fixture.h"

static struct toml_datetime time_of(const char *literal, enum toml_type type)
{
    char text[128];
    (void)snprintf(text, sizeof text, "k = %s\n", literal);
    struct toml_document *doc = parse(text);
    struct toml_datetime value = value_at(doc, "k", type)->as.datetime;
    toml_free(doc);
    return value;
}

static void refuse_value(const char *literal, const char *part)
{
    char text[128];
    (void)snprintf(text, sizeof text, "k = %s\n", literal);
    refuse(text, 1, 5, part);
}

static void what_is_written_decides_the_kind(void **state)
{
    (void)state;
    struct toml_datetime t = time_of("1979-05-27T07:32:09Z", TOML_OFFSET_DATETIME);
    assert_int_equal(t.year, 1979);
    assert_int_equal(t.month, 5);
    assert_int_equal(t.day, 27);
    assert_int_equal(t.hour, 7);
    assert_int_equal(t.minute, 32);
    assert_int_equal(t.second, 9);
    assert_int_equal(t.nanosecond, 0);
    assert_int_equal(t.offset_minutes, 0);

    t = time_of("1979-05-27T07:32:09", TOML_LOCAL_DATETIME);
    assert_int_equal(t.second, 9);
    t = time_of("1979-05-27", TOML_LOCAL_DATE);
    assert_int_equal(t.day, 27);
    assert_int_equal(t.hour, 0);
    t = time_of("07:32:09", TOML_LOCAL_TIME);
    assert_int_equal(t.year, 0);
    assert_int_equal(t.hour, 7);
}

static void the_joint_may_be_a_space_and_letters_small(void **state)
{
    (void)state;
    (void)time_of("1979-05-27 07:32:00Z", TOML_OFFSET_DATETIME);
    (void)time_of("1979-05-27 07:32:00", TOML_LOCAL_DATETIME);
    (void)time_of("1979-05-27t07:32:00z", TOML_OFFSET_DATETIME);
    (void)time_of("1979-05-27   # a date and nothing else", TOML_LOCAL_DATE);
    refuse("k = 1979-05-27 x\n", 1, 16, "expected the end of the line");
    refuse("k = 1979-05-27  07:32:00\n", 1, 17, "expected the end of the line");
}

static void offsets_are_minutes_east(void **state)
{
    (void)state;
    assert_int_equal(time_of("2000-01-01T00:00:00-07:30", TOML_OFFSET_DATETIME).offset_minutes,
                     -450);
    assert_int_equal(time_of("2000-01-01T00:00:00+23:59", TOML_OFFSET_DATETIME).offset_minutes,
                     1439);
    refuse_value("2000-01-01T00:00:00+24:00", "offset from UTC");
    refuse_value("2000-01-01T00:00:00+00:60", "offset from UTC");
    refuse_value("2000-01-01T00:00:00+0000", "no date or time");
    refuse_value("2000-01-01T00:00:00+00", "no date or time");
    refuse_value("2000-01-01T00:00:00ZZ", "no date or time");
}

static void fractions_are_cut_after_nanoseconds(void **state)
{
    (void)state;
    assert_int_equal(time_of("00:00:00.5", TOML_LOCAL_TIME).nanosecond, 500000000);
    assert_int_equal(time_of("00:00:00.000001", TOML_LOCAL_TIME).nanosecond, 1000);
    assert_int_equal(time_of("00:00:00.9999999999999", TOML_LOCAL_TIME).nanosecond, 999999999);
    assert_int_equal(
        time_of("2000-01-01T00:00:00.123456789+01:00", TOML_OFFSET_DATETIME).nanosecond, 123456789);
    refuse_value("00:00:00.", "no date or time");
    refuse_value("2000-01-01T00:00:00.Z", "no date or time");
}

static void days_follow_the_calendar(void **state)
{
    (void)state;
    (void)time_of("2000-02-29", TOML_LOCAL_DATE);
    (void)time_of("2024-02-29", TOML_LOCAL_DATE);
    (void)time_of("0000-01-01", TOML_LOCAL_DATE);
    (void)time_of("9999-12-31", TOML_LOCAL_DATE);
    refuse_value("1900-02-29", "1900-02 has 28 days");
    refuse_value("2023-02-29", "2023-02 has 28 days");
    refuse_value("2024-02-30T00:00:00Z", "2024-02 has 29 days");
    refuse_value("2024-04-31", "2024-04 has 30 days");
    refuse_value("2024-01-00", "day 00 does not exist");
    refuse_value("2024-00-01", "month 00 does not exist");
    refuse_value("2024-13-01", "month 13 does not exist");
}

static void times_end_before_midnight(void **state)
{
    (void)state;
    (void)time_of("23:59:60", TOML_LOCAL_TIME); /* a leap second */
    refuse_value("24:00:00", "24:00:00 is not a time of day");
    refuse_value("00:60:00", "is not a time of day");
    refuse_value("00:00:61", "is not a time of day");
}

static void misshapen_times_are_refused(void **state)
{
    (void)state;
    static const char *const literals[] = {"1979-5-27",
                                           "1979-05-2",
                                           "1979-05-277",
                                           "1979-05",
                                           "1979-05-27T",
                                           "1979-05-27T7:32:00",
                                           "07:32",
                                           "07:3:00",
                                           "1979-05-27T07:32Z",
                                           "1979-05-27T07:32:0",
                                           "07:32:00Z",
                                           "1979-05-27Z",
                                           "1979-05-27_07:32:00",
                                           "1979-05-27T07:32:00.1.2"};
    for (size_t i = 0; i < sizeof literals / sizeof literals[0]; i++)
        refuse_value(literals[i], "no date or time; they look like");
    refuse_value("19790-05-27", "is no value");
    refuse_value("7:32:00", "is no value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_decides_the_kind),
        cmocka_unit_test(the_joint_may_be_a_space_and_letters_small),
        cmocka_unit_test(offsets_are_minutes_east),
        cmocka_unit_test(fractions_are_cut_after_nanoseconds),
        cmocka_unit_test(days_follow_the_calendar),
        cmocka_unit_test(times_end_before_midnight),
        cmocka_unit_test(misshapen_times_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
