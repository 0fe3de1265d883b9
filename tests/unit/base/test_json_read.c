/* The JSON reader: what RFC 8259 allows is read, everything else is refused where it goes wrong. */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;

static int drop_arena(void **state)
{
    (void)state;
    arena_dispose(&arena);
    return 0;
}

static int skip_all(struct pdb_text json, struct trail *trail)
{
    struct json_reader r;
    json_open(&r, json.ptr, json.len, 64, trail);
    int rc = json_skip(&r);
    return rc < 0 ? rc : json_finish(&r);
}

static int read_all(struct pdb_text json, struct trail *trail)
{
    struct json_reader r;
    json_open(&r, json.ptr, json.len, 64, trail);
    int rc = json_read_doc(&r, doc_builder_new(&arena, 0));
    return rc < 0 ? rc : json_finish(&r);
}

#define ROW(literal)                                                                               \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

static void valid_texts_are_read(void **state)
{
    (void)state;
    static const struct pdb_text rows[] = {
        ROW("null"),
        ROW(" true "),
        ROW("\t\r\nfalse\n"),
        ROW("0"),
        ROW("-0"),
        ROW("-0.0"),
        ROW("123"),
        ROW("1.5e3"),
        ROW("1E5"),
        ROW("1e+5"),
        ROW("1e-5"),
        ROW("0e0"),
        ROW("[]"),
        ROW("{}"),
        ROW("[ ]"),
        ROW("{ }"),
        ROW("[1,2]"),
        ROW(" [ 1 , 2 ] "),
        ROW("[[],[[]]]"),
        ROW("{\"a\":1}"),
        ROW("{ \"a\" : 1 , \"b\" : [ ] }"),
        ROW("\"\""),
        ROW("\"a\""),
        ROW("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
        ROW("\"\\u0041\\u00e4\\u20AC\""),
        ROW("\"\\ud83d\\ude00\""),
        ROW("\"\\u0000\""),
        ROW("\"\x7f\""),
        ROW("\"\xc3\xa4\""),
        ROW("\"\xef\xbf\xbf\""),
        ROW("\"\xf4\x8f\xbf\xbf\""),
        ROW("{\"\":0}"),
        ROW("[123456789012345678901234567890]"),
        ROW("[1e-400]"),
        ROW("\"a longer text, so that eight bytes are seen at once \\n and again\""),
        ROW("[true,false,null,\"x\",{\"y\":[{}]}]"),
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct trail trail = {0};
        if (skip_all(rows[i], &trail) != 0 || read_all(rows[i], &trail) != 0)
            fail_msg("%s: %s", rows[i].ptr, trail.text);
    }
}

static const struct {
    struct pdb_text text;
    size_t offset;
} invalid_rows[] = {
    {ROW(""), 0},
    {ROW(" "), 1},
    {ROW("nul"), 0},
    {ROW("nulL"), 0},
    {ROW("truE"), 0},
    {ROW("fals"), 0},
    {ROW("["), 1},
    {ROW("[1"), 2},
    {ROW("[1,"), 3},
    {ROW("[1,]"), 3},
    {ROW("[,1]"), 1},
    {ROW("[1 2]"), 3},
    {ROW("[1}"), 2},
    {ROW("]"), 0},
    {ROW("{"), 1},
    {ROW("{\"a\""), 4},
    {ROW("{\"a\":"), 5},
    {ROW("{\"a\":}"), 5},
    {ROW("{\"a\":1"), 6},
    {ROW("{\"a\":1,"), 7},
    {ROW("{\"a\":1,}"), 7},
    {ROW("{a:1}"), 1},
    {ROW("{1:1}"), 1},
    {ROW("{\"a\" 1}"), 5},
    {ROW("{\"a\":1]"), 6},
    {ROW("1 1"), 2},
    {ROW("[1]]"), 3},
    {ROW("[1]x"), 3},
    {ROW("\""), 1},
    {ROW("\"abc"), 4},
    {ROW("\"\\"), 2},
    {ROW("\"\\\""), 3},
    {ROW("\"\\x\""), 1},
    {ROW("\"a\\u12\""), 2},
    {ROW("\"\\u12G4\""), 1},
    {ROW("\"\\ud800\""), 1},
    {ROW("\"\\ud800\\u0041\""), 1},
    {ROW("\"\\ud800x\""), 1},
    {ROW("\"\\udc00\""), 1},
    {ROW("\"a\nb\""), 2},
    {ROW("\"a\\\nb\""), 3},
    {ROW("\"a\0b\""), 2},
    {ROW("\"12345678\x1f\""), 9},
    {ROW("\"ab\xff\""), 3},
    {ROW("\"\xc0\x80\""), 1},
    {ROW("\"\xed\xa0\x80\""), 1},
    {ROW("\"x\xf4\x90\x80\x80\""), 2},
    {ROW("\"\xc3\""), 1},
    {ROW("'a'"), 0},
    {ROW("NaN"), 0},
    {ROW("Infinity"), 0},
    {ROW("-Infinity"), 1},
    {ROW("01"), 1},
    {ROW("1."), 2},
    {ROW(".1"), 0},
    {ROW("1e"), 2},
    {ROW("0x1"), 1},
    {ROW("1e400"), 0},
    {ROW("[1,-1e999]"), 3},
    {ROW("\xef\xbb\xbf"
         "1"),
     0},
    {ROW("\xa0"
         "1"),
     0},
    {ROW("\v1"), 0},
    {ROW("// comment\n1"), 0},
    {ROW("[1]\0"), 3},
};

static void invalid_texts_are_refused_with_the_offset(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(invalid_rows) / sizeof(invalid_rows[0]); i++) {
        char want[64];
        (void)snprintf(want, sizeof(want), "JSON at byte %zu: ", invalid_rows[i].offset);
        struct trail skipped = {0}, read = {0};
        int skip_rc = skip_all(invalid_rows[i].text, &skipped),
            read_rc = read_all(invalid_rows[i].text, &read);
        if (skip_rc != PDB_INVALID_ARGUMENT || read_rc != PDB_INVALID_ARGUMENT ||
            strncmp(skipped.text, want, strlen(want)) != 0 ||
            strncmp(read.text, want, strlen(want)) != 0)
            fail_msg("%s: want %s, got %s and %s", invalid_rows[i].text.ptr, want, skipped.text,
                     read.text);
    }
}

static void depth_is_limited_where_it_is_asked_for(void **state)
{
    (void)state;
    char text[2000];
    for (unsigned max = 1; max < 400; max += 7) {
        struct json_reader r;
        struct trail trail = {0};
        unsigned allowed = max < 256 ? max : 256; /* no reader goes deeper */
        memset(text, '[', allowed);
        memset(text + allowed, ']', allowed);
        json_open(&r, text, 2 * (size_t)allowed, max, &trail);
        assert_int_equal(json_skip(&r), 0);
        assert_int_equal(json_finish(&r), 0);
        memset(text, '[', allowed + 1);
        memset(text + allowed + 1, ']', allowed + 1);
        json_open(&r, text, 2 * (size_t)allowed + 2, max, &trail);
        assert_int_equal(json_skip(&r), PDB_INVALID_ARGUMENT);
        assert_non_null(strstr(trail.text, "nested"));
    }
}

static void strings_point_into_the_text_unless_they_have_escapes(void **state)
{
    (void)state;
    static const char text[] = "[\"plain\",\"\\ud83d\\ude00 \\u00e4\\t\\\"\\/x\",\"\\u0000\"]";
    struct json_reader r;
    struct pdb_text value;
    bool first = true;
    json_open(&r, text, strlen(text), 4, NULL);
    assert_int_equal(json_enter_array(&r), 0);
    assert_int_equal(json_array_next(&r, &first), 1);
    assert_int_equal(json_read_string(&r, &arena, &value), 0);
    assert_ptr_equal(value.ptr, text + 2);
    assert_int_equal(value.len, 5);
    assert_int_equal(json_array_next(&r, &first), 1);
    assert_int_equal(json_read_string(&r, &arena, &value), 0);
    static const char want[] = "\xf0\x9f\x98\x80 \xc3\xa4\t\"/x";
    assert_int_equal(value.len, strlen(want));
    assert_memory_equal(value.ptr, want, value.len);
    assert_int_equal(json_array_next(&r, &first), 1);
    assert_int_equal(json_read_string(&r, &arena, &value), 0);
    assert_int_equal(value.len, 1);
    assert_int_equal(value.ptr[0], 0);
    assert_int_equal(json_array_next(&r, &first), 0);
    assert_int_equal(json_finish(&r), 0);
}

static void a_reader_stops_between_values_and_goes_on(void **state)
{
    (void)state;
    static const char text[] = " {\"n\": -5, \"u\": 7, \"b\": true, \"z\": null, \"v\": [1, 2.5], "
                               "\"skip\": {\"x\": [1]}, \"d\": 0.5}";
    struct json_reader r;
    struct pdb_text key;
    bool first = true, boolean = false;
    int64_t i64 = 0;
    uint64_t u64 = 0;
    float floats[2];
    double number = 0;
    size_t count = 0;
    json_open(&r, text, strlen(text), 4, NULL);
    assert_int_equal(json_peek(&r), JSON_OBJECT);
    assert_int_equal(json_enter_object(&r), 0);
    while (json_object_next(&r, &arena, &first, &key) > 0) {
        struct json_reader saved = r; /* a position only: a copy is another reader */
        assert_int_equal(json_skip(&saved), 0);
        switch (key.ptr[0]) {
        case 'n':
            assert_int_equal(json_peek(&r), JSON_NUMBER);
            assert_int_equal(json_read_i64(&r, &i64), 0);
            break;
        case 'u':
            assert_int_equal(json_read_u64(&r, &u64), 0);
            break;
        case 'b':
            assert_int_equal(json_peek(&r), JSON_BOOL);
            assert_int_equal(json_read_bool(&r, &boolean), 0);
            break;
        case 'z':
            assert_int_equal(json_peek(&r), JSON_NULL);
            assert_int_equal(json_read_null(&r), 0);
            break;
        case 'v':
            assert_int_equal(json_peek(&r), JSON_ARRAY);
            assert_int_equal(json_read_floats(&r, floats, 2, &count), 0);
            break;
        case 'd':
            assert_int_equal(json_read_double(&r, &number), 0);
            break;
        default:
            assert_int_equal(json_skip(&r), 0);
        }
        assert_int_equal(json_offset(&r), json_offset(&saved));
    }
    assert_int_equal(json_finish(&r), 0);
    assert_int_equal(i64, -5);
    assert_int_equal(u64, 7);
    assert_true(boolean);
    assert_int_equal(count, 2);
    assert_true(floats[0] >= 1 && floats[1] >= 2.5f && number >= 0.5 && number <= 0.5);
}

static void a_value_of_another_kind_is_refused_and_named(void **state)
{
    (void)state;
    struct json_reader r;
    struct trail trail = {0};
    bool boolean = false;
    json_open(&r, " 5", 2, 4, &trail);
    assert_int_equal(json_read_bool(&r, &boolean), PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "JSON at byte 1: expected true or false");
    assert_int_equal(json_peek(&r), JSON_BAD); /* the failure sticks */
    assert_int_equal(json_finish(&r), PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "JSON at byte 1: expected true or false");

    static const char nested[] = "[1,[2],\"x\",null]";
    float values[8];
    size_t count = 0;
    trail_reset(&trail);
    json_open(&r, nested, strlen(nested), 4, &trail);
    assert_int_equal(json_read_floats(&r, values, 8, &count), PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "JSON at byte 3: malformed number");
    assert_int_equal(count, 0);
}

static void a_failed_allocation_is_not_an_invalid_argument(void **state)
{
    (void)state;
    struct json_reader r;
    struct trail trail = {0};
    struct pdb_text value = {NULL, 0};
    struct arena scarce;
    arena_init(&scarce, 0);
    scarce.fail_at = 1;
    json_open(&r, "\"\\n\"", 4, 4, &trail);
    assert_int_equal(json_read_string(&r, &scarce, &value), PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(trail.code, PDB_RESOURCE_EXHAUSTED);
    json_open(&r, "\"n\"", 3, 4, &trail); /* no escape, no memory */
    assert_int_equal(json_read_string(&r, &scarce, &value), 0);
    arena_dispose(&scarce);
}

static void written_strings_escape_what_must_be(void **state)
{
    (void)state;
    struct buffer out;
    buffer_init_heap(&out, NULL, 0);
    json_write_string(&out, (struct pdb_text)ROW("a\"\\/\b\f\n\r\t\0\x1f\x7f\xc3\xa4"));
    static const char want[] = "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\xc3\xa4\"";
    assert_int_equal(out.len, strlen(want));
    assert_memory_equal(out.ptr, want, out.len);
    buffer_dispose(&out);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, drop_arena)
    const struct CMUnitTest tests[] = {
        TEST(valid_texts_are_read),
        TEST(invalid_texts_are_refused_with_the_offset),
        TEST(depth_is_limited_where_it_is_asked_for),
        TEST(strings_point_into_the_text_unless_they_have_escapes),
        TEST(a_reader_stops_between_values_and_goes_on),
        TEST(a_value_of_another_kind_is_refused_and_named),
        TEST(a_failed_allocation_is_not_an_invalid_argument),
        TEST(written_strings_escape_what_must_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
