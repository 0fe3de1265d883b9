/* Tests src/toml_string.c and the UTF-8 and comment rules of src/toml_text.c. */
#include <stdio.h>

#include "toml_fixture.h"

/* Parses `k = <literal>` and expects exactly these bytes. */
static void expect_bytes(const char *literal, const char *bytes, size_t len)
{
    char text[256];
    (void)snprintf(text, sizeof text, "k = %s\nafter = 1\n", literal);
    struct toml_document *doc = parse(text);
    const struct toml_value *value = value_at(doc, "k", TOML_STRING);
    assert_int_equal(value->as.string.len, len);
    assert_memory_equal(value->as.string.data, bytes, len);
    assert_int_equal(value->as.string.data[len], 0);
    (void)value_at(doc, "after", TOML_INTEGER); /* the string ended where it should */
    toml_free(doc);
}

static void decodes_to(const char *literal, const char *string)
{
    expect_bytes(literal, string, strlen(string));
}

static void basic_strings_decode_every_escape(void **state)
{
    (void)state;
    decodes_to("\"\"", "");
    decodes_to("\"plain ' text # no comment\"", "plain ' text # no comment");
    decodes_to("\"\\b\\t\\n\\f\\r\\\"\\\\\"", "\b\t\n\f\r\"\\");
    decodes_to("\"\\u00e9\\u20AC\\U0001F600\\U0010FFFF\"",
               "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf");
    decodes_to("\"tab\tis fine\"", "tab\tis fine");
    expect_bytes("\"a\\u0000b\"", "a\0b", 3);
}

static void bad_escapes_are_named(void **state)
{
    (void)state;
    refuse("k = \"ab\\q\"\n", 1, 8, "a backslash before 'q' is no escape");
    refuse("k = \"\\x41\"\n", 1, 6, "'x' is no escape");
    refuse("k = \"\\e\"\n", 1, 6, "'e' is no escape");
    refuse("k = \"\\ \"\n", 1, 6, "' ' is no escape");
    refuse("k = \"\\u12g4\"\n", 1, 6, "\\u needs exactly 4 hexadecimal digits");
    refuse("k = \"\\U0001F60\"\n", 1, 6, "\\U needs exactly 8 hexadecimal digits");
    refuse("k = \"\\ud800\"\n", 1, 6, "U+D800 is no Unicode character");
    refuse("k = \"\\U00110000\"\n", 1, 6, "U+110000 is no Unicode character");
    refuse("k = \"\\", 1, 6, "the file ends inside a string");
    refuse("k = \"\\u12", 1, 6, "\\u needs exactly 4");
}

static void literal_strings_decode_nothing(void **state)
{
    (void)state;
    decodes_to("''", "");
    decodes_to("'C:\\new\\u0041 \"x\"'", "C:\\new\\u0041 \"x\"");
    decodes_to("'''\nit's \\ raw\n'''", "it's \\ raw\n");
}

static void one_line_strings_end_with_their_line(void **state)
{
    (void)state;
    refuse("k = \"ab\ncd\"\n", 1, 8, "three double quotes");
    refuse("k = 'ab\r\ncd'\n", 1, 8, "three single quotes");
    refuse("k = \"ab", 1, 5, "this string is not closed");
    refuse("k = 'ab", 1, 5, "this string is not closed");
    refuse("k = \"\x7f\"\n", 1, 6, "control character U+007F");
    refuse("k = '\x1f'\n", 1, 6, "control character U+001F");
}

static void multi_line_strings_drop_the_first_newline_and_unify_the_rest(void **state)
{
    (void)state;
    decodes_to("\"\"\"\none\r\ntwo\n\"\"\"", "one\ntwo\n");
    decodes_to("\"\"\"\r\n\none\"\"\"", "\none");
    decodes_to("'''\r\none\r\n'''", "one\n");
    decodes_to("\"\"\"\"\"\"", "");
}

static void a_backslash_folds_lines_and_blanks(void **state)
{
    (void)state;
    decodes_to("\"\"\"a \\\n   b\"\"\"", "a b");
    decodes_to("\"\"\"a\\  \t \n\n \r\n  b\"\"\"", "ab");
    decodes_to("\"\"\"\\\n  \"\"\"", "");
    decodes_to("\"\"\"a\\\\\nb\"\"\"", "a\\\nb");
    refuse("k = \"\"\"a\\ b\"\"\"\n", 1, 9, "' ' is no escape");
}

static void up_to_two_quotes_may_touch_the_closing_three(void **state)
{
    (void)state;
    decodes_to("\"\"\"a\"\"\"\"", "a\"");
    decodes_to("\"\"\"a\"\"\"\"\"", "a\"\"");
    decodes_to("\"\"\"\"\"a\"\"\"\"\"", "\"\"a\"\"");
    decodes_to("'''a''b'''''", "a''b''");
    refuse("k = \"\"\"a\"\"\"\"\"\"\n", 1, 14, "expected the end of the line");
    refuse("k = \"\"\"a\"\"\n", 1, 5, "this string is not closed");
    refuse("k = '''a\rb'''\n", 1, 9, "control character U+000D");
}

static void keys_are_bare_or_quoted(void **state)
{
    (void)state;
    struct toml_document *doc =
        parse("a-b_C9 = 1\n\"\" = 2\n'x.y' = 3\n\"\\u0041\" = 4\n1.2 = 5\n");
    const struct toml_value *root = toml_root(doc);
    assert_int_equal(toml_get(root, "a-b_C9", 6)->as.integer, 1);
    assert_int_equal(toml_get(root, "", 0)->as.integer, 2);
    assert_int_equal(toml_get(root, "x.y", 3)->as.integer, 3);
    assert_int_equal(toml_get(root, "A", 1)->as.integer, 4);
    assert_int_equal(value_at(doc, "1.2", TOML_INTEGER)->as.integer, 5);
    toml_free(doc);
    refuse("\xc3\xa9 = 1\n", 1, 1, "expected a key, found '\xc3\xa9'");
    refuse("= 1\n", 1, 1, "expected a key, found '='");
    refuse("\"\"\"a\"\"\" = 1\n", 1, 1, "a key cannot be a multi-line string");
    refuse("a b = 1\n", 1, 3, "expected '=' after a key, found 'b'");
    refuse("a. = 1\n", 1, 4, "expected a key");
    refuse("a\n= 1\n", 1, 2, "found the end of the line");
}

static void text_must_be_utf8(void **state)
{
    (void)state;
    static const char *const wrong[] = {"\x80",
                                        "\xc0\xaf",
                                        "\xc1\xbf",
                                        "\xc3",
                                        "\xe0\x80\x80",
                                        "\xe2\x82",
                                        "\xed\xa0\x80",
                                        "\xf0\x80\x80\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xf5\x80\x80\x80",
                                        "\xff",
                                        "\xe2\x28\xa1",
                                        "\xf0\x9f\x98\x28"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "ok = 1\nk = '%s'\n", wrong[i]);
        refuse(text, 2, 6, "is not valid UTF-8");
        (void)snprintf(text, sizeof text, "ok = 1\n#   %s\n", wrong[i]);
        refuse(text, 2, 5, "is not valid UTF-8");
    }
    decodes_to("'\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80'",
               "\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80");
    refuse("k = '\xe2\x82", 1, 6, "byte 0xe2"); /* cut off at the end of the text */
}

static void comments_hold_no_control_characters(void **state)
{
    (void)state;
    toml_free(parse("# tab\tand \xc3\xa9 are fine\r\nk = 1 # too\r\n# no newline at the end"));
    refuse("k = 1 # a\x01\n", 1, 10, "control character U+0001 in a comment");
    refuse("# a\rb\n", 1, 4, "control character U+000D in a comment");
    refuse("# \x7f\n", 1, 3, "control character U+007F in a comment");
    refuse("k = 1\rj = 2\n", 1, 6, "found U+000D");
}

static void columns_count_characters_not_bytes(void **state)
{
    (void)state;
    refuse("k = '\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80' x\n", 1, 11, "found 'x'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basic_strings_decode_every_escape),
        cmocka_unit_test(bad_escapes_are_named),
        cmocka_unit_test(literal_strings_decode_nothing),
        cmocka_unit_test(one_line_strings_end_with_their_line),
        cmocka_unit_test(multi_line_strings_drop_the_first_newline_and_unify_the_rest),
        cmocka_unit_test(a_backslash_folds_lines_and_blanks),
        cmocka_unit_test(up_to_two_quotes_may_touch_the_closing_three),
        cmocka_unit_test(keys_are_bare_or_quoted),
        cmocka_unit_test(text_must_be_utf8),
        cmocka_unit_test(comments_hold_no_control_characters),
        cmocka_unit_test(columns_count_characters_not_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
