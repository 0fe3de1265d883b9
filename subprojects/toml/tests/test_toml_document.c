/* Tests src/toml_parse.c: lines, tables, arrays, and who may define what. */
#include "toml_fixture.h"

static void an_empty_document_is_an_empty_table(void **state)
{
    (void)state;
    static const char *const texts[] = {"",         "\n",          " \t", "# only a comment",
                                        "\r\n\r\n", "\xef\xbb\xbf"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct toml_document *doc = parse(texts[i]);
        assert_int_equal(toml_root(doc)->type, TOML_TABLE);
        assert_int_equal(toml_root(doc)->as.children.count, 0);
        toml_free(doc);
    }
}

static void a_byte_order_mark_is_skipped_only_at_the_start(void **state)
{
    (void)state;
    struct toml_document *doc = parse("\xef\xbb\xbfk = 1\n");
    assert_int_equal(value_at(doc, "k", TOML_INTEGER)->key_column, 1);
    toml_free(doc);
    refuse("\xef\xbb\xbf\xef\xbb\xbfk = 1\n", 1, 1, "expected a key");
    refuse("k = 1\n\xef\xbb\xbfj = 1\n", 2, 1, "expected a key");
}

static void places_are_kept_for_keys_and_values(void **state)
{
    (void)state;
    struct toml_document *doc = parse("\n  k  =  [1,\n 2]\n[a.b]\n 'x' . y = {z=true}\n[[t]]\n");
    const struct toml_value *k = value_at(doc, "k", TOML_ARRAY);
    assert_int_equal(k->key_line, 2);
    assert_int_equal(k->key_column, 3);
    assert_int_equal(k->line, 2);
    assert_int_equal(k->column, 9);
    const struct toml_value *second = k->as.children.first->next;
    assert_int_equal(second->line, 3);
    assert_int_equal(second->column, 2);
    assert_int_equal(second->key_line, 0);
    assert_null(second->key.data);

    const struct toml_value *b = value_at(doc, "a.b", TOML_TABLE);
    assert_int_equal(b->line, 4);
    assert_int_equal(b->column, 1);
    assert_int_equal(b->key_column, 4);
    const struct toml_value *z = value_at(doc, "a.b.x.y.z", TOML_BOOLEAN);
    assert_int_equal(z->line, 5);
    assert_int_equal(z->key_column, 13);
    assert_int_equal(z->column, 15);
    assert_int_equal(value_at(doc, "t", TOML_ARRAY)->as.children.first->line, 6);
    toml_free(doc);
}

static void children_come_in_the_order_of_the_file(void **state)
{
    (void)state;
    struct toml_document *doc = parse("z = 1\na = 2\n[m]\n[b.c]\n[b]\nq = 1\n");
    static const char *const order[] = {"z", "a", "m", "b"};
    const struct toml_value *child = toml_root(doc)->as.children.first;
    for (size_t i = 0; i < 4; i++, child = child->next)
        assert_string_equal(child->key.data, order[i]);
    assert_null(child);
    assert_int_equal(toml_root(doc)->as.children.count, 4);
    toml_free(doc);
}

static void arrays_take_lines_comments_mixed_types_and_a_last_comma(void **state)
{
    (void)state;
    struct toml_document *doc = parse("a = [ # one\n  1, 'two' # three\n , [3.0], {f = []} ,\n]\n"
                                      "e = [\n\n]\n");
    assert_int_equal(value_at(doc, "a", TOML_ARRAY)->as.children.count, 4);
    assert_int_equal(value_at(doc, "e", TOML_ARRAY)->as.children.count, 0);
    toml_free(doc);
    refuse("a = [1 2]\n", 1, 8, "expected ',' or ']' after an array element, found '2'");
    refuse("a = [,]\n", 1, 6, "expected a value");
    refuse("a = [1,,2]\n", 1, 8, "expected a value");
    refuse("a = [1,\n", 2, 1, "expected a value, found the end of the file");
    refuse("a = [1\n", 2, 1, "expected ','");
}

static void inline_tables_stay_on_their_line(void **state)
{
    (void)state;
    struct toml_document *doc = parse("t = { a.b = 1, a.c = 2, d = [\n 1,\n] }\nu = {}\n");
    assert_int_equal(value_at(doc, "t.a.c", TOML_INTEGER)->as.integer, 2);
    assert_int_equal(value_at(doc, "u", TOML_TABLE)->as.children.count, 0);
    toml_free(doc);
    refuse("t = {a = 1,}\n", 1, 12, "no comma before its '}'");
    refuse("t = {a = 1\n}\n", 1, 11, "expected '}' or ',' in an inline table");
    refuse("t = {\na = 1}\n", 1, 6, "expected a key");
    refuse("t = {a = 1 # x\n}\n", 1, 12, "found '#'");
    refuse("t = {a = 1, a = 2}\n", 1, 13, "cannot set 't.a': already defined on line 1 (integer)");
    refuse("t = {,}\n", 1, 6, "expected a key");
}

static void one_line_holds_one_pair(void **state)
{
    (void)state;
    refuse("a = 1 b = 2\n", 1, 7, "expected the end of the line, found 'b'");
    refuse("[a] b = 1\n", 1, 5, "expected the end of the line");
    refuse("[a]]\n", 1, 4, "expected the end of the line");
    refuse("a\n", 1, 2, "expected '='");
    refuse("[a\n", 1, 3, "expected ']' after a table's name");
    refuse("[]\n", 1, 2, "expected a key, found ']'");
    refuse("[[a]\n", 1, 5, "right behind the first");
    refuse("[[a] ]\n", 1, 5, "right behind the first");
    refuse("[ [a]]\n", 1, 3, "expected a key");
    refuse("[a.]\n", 1, 4, "expected a key");
}

static void a_key_is_set_once(void **state)
{
    (void)state;
    refuse("a = 1\na = 2\n", 2, 1, "cannot set 'a': already defined on line 1 (integer)");
    refuse("a = 1\n'a' = 2\n", 2, 1, "cannot set 'a'");
    refuse("a.b = 1\na.b = 2\n", 2, 3, "cannot set 'a.b'");
    refuse("a = 1\na.b = 2\n", 2, 1, "cannot add to 'a'");
    refuse("a.b = 1\na = 2\n", 2, 1, "cannot set 'a'");
    refuse("[t]\n\"x y\" = 1\n\"x y\" = 2\n", 3, 1, "cannot set 't.\"x y\"'");
}

static void a_table_is_defined_by_one_header(void **state)
{
    (void)state;
    refuse("[a]\n[a]\n", 2, 2, "cannot define 'a': already defined on line 1 (table)");
    refuse("[a.b]\n[a]\n[a]\n", 3, 2, "cannot define 'a': already defined on line 2");
    refuse("a = 1\n[a]\n", 2, 2, "cannot define 'a'");
    refuse("a = 1\n[a.b]\n", 2, 2, "cannot add to 'a'");
    refuse("[[a]]\n[a]\n", 2, 2, "cannot define 'a': already defined on line 1 (array)");
    struct toml_document *doc = parse("[a.b.c]\nx = 1\n[a]\ny = 2\n[a.b]\nz = 3\n");
    (void)value_at(doc, "a.b.c.x", TOML_INTEGER);
    (void)value_at(doc, "a.b.z", TOML_INTEGER);
    assert_int_equal(value_at(doc, "a", TOML_TABLE)->line, 3);
    toml_free(doc);
}

static void dotted_keys_define_tables_that_headers_may_only_pass(void **state)
{
    (void)state;
    struct toml_document *doc = parse("[f]\na.c = 1\na.t.s = 2\n[f.a.x]\ny = 3\n");
    (void)value_at(doc, "f.a.x.y", TOML_INTEGER);
    toml_free(doc);
    refuse("[f]\na.c = 1\n[f.a]\n", 3, 4, "cannot define 'f.a'");
    refuse("[f]\na.t.s = 2\n[f.a.t]\n", 3, 6, "cannot define 'f.a.t'");
    refuse("[a.b]\nz = 1\n[a]\nb.c = 2\n", 4, 1, "cannot add to 'a.b'");
    refuse("[a.b.c]\nz = 1\n[a]\nb.c.t = 2\n", 4, 3, "cannot add to 'a.b.c'");
    refuse("[a.b.c]\n[a]\nb.x = 1\n[a.b]\n", 4, 4, "cannot define 'a.b'");
    refuse("[[a.b]]\n[a]\nb.y = 2\n", 3, 1, "cannot add to 'a.b'");
}

static void values_in_braces_and_brackets_are_closed(void **state)
{
    (void)state;
    refuse("t = {a = 1}\n[t.b]\n", 2, 2, "cannot add to 't': already defined on line 1 (inline");
    refuse("t = {a = 1}\nt.b = 2\n", 2, 1, "cannot add to 't'");
    refuse("t = {a = 1}\n[t]\n", 2, 2, "cannot define 't'");
    refuse("t = {a.b = 1}\n[t.a.c]\n", 2, 2, "cannot add to 't'");
    refuse("t = {a = {}, a.b = 1}\n", 1, 14, "cannot add to 't.a'");
    refuse("a = []\n[[a]]\n", 2, 3, "cannot append to 'a'");
    refuse("a = [{}]\n[a.b]\n", 2, 2, "cannot add to 'a'");
    refuse("[a]\n[[a]]\n", 2, 3, "cannot append to 'a'");
    refuse("[a.b]\n[[a]]\n", 2, 3, "cannot append to 'a'");
}

static void arrays_of_tables_grow_and_headers_mean_the_last(void **state)
{
    (void)state;
    struct toml_document *doc = parse("[[f]]\nn = 1\n[f.p]\nx = 1\n[[f.v]]\nn = 2\n[[f.v]]\n"
                                      "[[f]]\nn = 3\n[f.p]\n[[f.v]]\n");
    const struct toml_value *first = value_at(doc, "f", TOML_ARRAY)->as.children.first;
    assert_int_equal(toml_find(first, "v")->as.children.count, 2);
    assert_int_equal(toml_find(first, "p.x")->as.integer, 1);
    const struct toml_value *second = first->next;
    assert_int_equal(toml_find(second, "n")->as.integer, 3);
    assert_int_equal(toml_find(second, "v")->as.children.count, 1);
    assert_null(toml_find(second, "p.x"));
    assert_null(second->next);
    toml_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_document_is_an_empty_table),
        cmocka_unit_test(a_byte_order_mark_is_skipped_only_at_the_start),
        cmocka_unit_test(places_are_kept_for_keys_and_values),
        cmocka_unit_test(children_come_in_the_order_of_the_file),
        cmocka_unit_test(arrays_take_lines_comments_mixed_types_and_a_last_comma),
        cmocka_unit_test(inline_tables_stay_on_their_line),
        cmocka_unit_test(one_line_holds_one_pair),
        cmocka_unit_test(a_key_is_set_once),
        cmocka_unit_test(a_table_is_defined_by_one_header),
        cmocka_unit_test(dotted_keys_define_tables_that_headers_may_only_pass),
        cmocka_unit_test(values_in_braces_and_brackets_are_closed),
        cmocka_unit_test(arrays_of_tables_grow_and_headers_mean_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
