/* Tests src/toml_query.c and the options and limits of toml_parse_with(). */
#include <stdio.h>
#include <stdlib.h>

#include "toml_fixture.h"

static void lookups_of_nothing_give_null(void **state)
{
    (void)state;
    struct toml_document *doc = parse("a.b = 1\nc = [1]\n\"d.e\" = 2\n");
    const struct toml_value *root = toml_root(doc);
    assert_null(toml_find(root, "x"));
    assert_null(toml_find(root, "a.x"));
    assert_null(toml_find(root, "a.b.c"));
    assert_null(toml_find(root, "c.0"));
    assert_null(toml_find(root, "d.e"));
    assert_null(toml_find(root, ""));
    assert_null(toml_find(root, "a."));
    assert_null(toml_get(NULL, "a", 1));
    assert_non_null(toml_get(root, "d.e", 3));
    assert_non_null(toml_find(toml_find(root, "a"), "b"));
    toml_free(doc);
    doc = parse("");
    assert_null(toml_find(toml_root(doc), "a"));
    toml_free(doc);
    toml_free(NULL);
}

static void paths_are_spelled_as_toml_would(void **state)
{
    (void)state;
    struct toml_document *doc = parse("[[s]]\n[[s]]\n\"a \\\"\\u0001b\".c = [[], [1]]\n'' = 1\n");
    const struct toml_value *last = value_at(doc, "s", TOML_ARRAY)->as.children.first->next;
    const struct toml_value *one = last->as.children.first->as.children.first;
    one = one->as.children.first->next->as.children.first;
    char path[64];
    static const char expected[] = "s[1].\"a \\\"\\u0001b\".c[1][0]";
    assert_int_equal(toml_path(one, path, sizeof path), sizeof expected - 1);
    assert_string_equal(path, expected);
    (void)toml_path(toml_get(last, "", 0), path, sizeof path);
    assert_string_equal(path, "s[1].\"\"");
    assert_int_equal(toml_path(toml_root(doc), path, sizeof path), 0);
    assert_string_equal(path, "");

    assert_int_equal(toml_path(one, path, 5), sizeof expected - 1);
    assert_string_equal(path, "s[1]");
    assert_int_equal(toml_path(one, NULL, 0), sizeof expected - 1);
    toml_free(doc);
}

static void paths_and_messages_are_cut_between_characters(void **state)
{
    (void)state;
    struct toml_document *doc = parse("\"\xe2\x82\xac\xe2\x82\xac\" = 1\n");
    const struct toml_value *value = toml_root(doc)->as.children.first;
    char path[16];
    static const char *const cut[] = {"", "\"", "\"", "\"", "\"\xe2\x82\xac"};
    for (size_t size = 1; size <= 5; size++) {
        assert_int_equal(toml_path(value, path, size), 8);
        assert_string_equal(path, cut[size - 1]);
    }
    toml_free(doc);

    /* Messages quote paths of at most 127 bytes. */
    char text[512];
    size_t len = 0;
    for (int line = 0; line < 2; line++) {
        text[len++] = '"';
        for (int i = 0; i < 60; i++)
            len += (size_t)snprintf(text + len, 4, "\xe2\x82\xac");
        len += (size_t)snprintf(text + len, 8, "\" = 1\n");
    }
    struct toml_error error;
    assert_int_equal(toml_parse(text, len, &doc, &error), TOML_SYNTAX);
    struct toml_document *quoted;
    char literal[TOML_MESSAGE_SIZE + 16];
    (void)snprintf(literal, sizeof literal, "# %s\n", error.message);
    assert_int_equal(toml_parse(literal, strlen(literal), &quoted, &error), TOML_OK); /* UTF-8 */
    toml_free(quoted);
}

static void every_type_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(toml_type_name(TOML_STRING), "string");
    assert_string_equal(toml_type_name(TOML_OFFSET_DATETIME), "offset date-time");
    for (int type = TOML_STRING; type <= TOML_TABLE; type++)
        assert_string_not_equal(toml_type_name((enum toml_type)type), "unknown");
}

/* ---- limits ---- */

static int parse_limited(const char *text, uint32_t depth_max, size_t text_max,
                         struct toml_error *error)
{
    struct toml_options options = {.depth_max = depth_max, .text_max = text_max};
    struct toml_document *doc = NULL;
    int rc = toml_parse_with(&options, text, strlen(text), &doc, error);
    toml_free(doc);
    return rc;
}

static void depth_is_limited_for_every_way_of_nesting(void **state)
{
    (void)state;
    static const char *const three[] = {"a = [[1]]",         "a.b.c = 1", "[a.b.c]",
                                        "a = {b = {c = 1}}", "[[a.b]]",   "[[a]]\nb = 1",
                                        "a = [{b = 1}]"};
    struct toml_error error;
    for (size_t i = 0; i < sizeof three / sizeof three[0]; i++) {
        assert_int_equal(parse_limited(three[i], 3, 0, &error), TOML_OK);
        assert_int_equal(parse_limited(three[i], 2, 0, &error), TOML_LIMIT);
        assert_string_equal(error.message, "more than 2 levels of tables and arrays");
        assert_true(error.line > 0);
    }
}

static void a_million_brackets_are_an_error_not_a_crash(void **state)
{
    (void)state;
    enum { COUNT = 1000000 };
    char *text = malloc(COUNT + 8);
    assert_non_null(text);
    static const char *const units[] = {"[", "{a=", "a."};
    for (size_t u = 0; u < 3; u++) {
        size_t len = (size_t)snprintf(text, 8, "%s", u < 2 ? "k = " : "");
        size_t unit_len = strlen(units[u]);
        while (len + unit_len < COUNT) {
            memcpy(text + len, units[u], unit_len);
            len += unit_len;
        }
        text[len] = '\0';
        struct toml_error error;
        assert_int_equal(parse_limited(text, 0, 0, &error), TOML_LIMIT);
        assert_int_equal(parse_limited(text, UINT32_MAX, 0, &error), TOML_LIMIT);
        assert_string_equal(error.message, "more than 256 levels of tables and arrays");
    }
    free(text);
}

static void text_is_limited_before_anything_is_allocated(void **state)
{
    (void)state;
    struct toml_error error;
    assert_int_equal(parse_limited("k = 12", 0, 6, &error), TOML_OK);
    assert_int_equal(parse_limited("k = 123", 0, 6, &error), TOML_LIMIT);
    assert_int_equal(error.line, 0);
    struct toml_document *doc = NULL;
    assert_int_equal(toml_parse("", (size_t)TOML_TEXT_MAX_CAP * 2, &doc, &error), TOML_LIMIT);
    assert_null(doc);
}

static void the_error_may_be_unwanted(void **state)
{
    (void)state;
    struct toml_document *doc = NULL;
    assert_int_equal(toml_parse("a = ", 4, &doc, NULL), TOML_SYNTAX);
    assert_int_equal(toml_parse(NULL, 0, &doc, NULL), TOML_OK);
    toml_free(doc);
}

static void many_keys_are_found_again(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    char *text = malloc((size_t)COUNT * 32);
    assert_non_null(text);
    size_t len = 0;
    for (int i = 0; i < COUNT; i++)
        len += (size_t)sprintf(text + len, "t%d.k%d = %d\n", i % 7, i, i);
    text[len] = '\0';
    struct toml_document *doc = parse(text);
    free(text);
    for (int i = 0; i < COUNT; i++) {
        char path[32];
        (void)snprintf(path, sizeof path, "t%d.k%d", i % 7, i);
        assert_int_equal(value_at(doc, path, TOML_INTEGER)->as.integer, i);
        (void)snprintf(path, sizeof path, "t%d.k%d", (i + 1) % 7, i);
        assert_null(toml_find(toml_root(doc), path));
    }
    toml_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookups_of_nothing_give_null),
        cmocka_unit_test(paths_are_spelled_as_toml_would),
        cmocka_unit_test(paths_and_messages_are_cut_between_characters),
        cmocka_unit_test(every_type_has_a_name),
        cmocka_unit_test(depth_is_limited_for_every_way_of_nesting),
        cmocka_unit_test(a_million_brackets_are_an_error_not_a_crash),
        cmocka_unit_test(text_is_limited_before_anything_is_allocated),
        cmocka_unit_test(the_error_may_be_unwanted),
        cmocka_unit_test(many_keys_are_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
