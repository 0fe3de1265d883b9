/* What is refused and how it is told; limits; shapes; a failing arena. */
#include "filter_fixture.h"

#include "base/buffer.h"

#include <stdio.h>

static const struct filter_column columns[] = {
    {{"s", 1}, PDB_COLUMN_STRING},        {{"i", 1}, PDB_COLUMN_INTEGER},
    {{"f", 1}, PDB_COLUMN_FLOAT},         {{"b", 1}, PDB_COLUMN_BOOLEAN},
    {{"d", 1}, PDB_COLUMN_DATETIME},      {{"sl", 2}, PDB_COLUMN_STRING_LIST},
    {{"il", 2}, PDB_COLUMN_INTEGER_LIST}, {{"fl", 2}, PDB_COLUMN_FLOAT_LIST},
    {{"g", 1}, PDB_COLUMN_GEO},           {{"t", 1}, PDB_COLUMN_TEXT},
    {{"x.y", 3}, PDB_COLUMN_INTEGER},
};
static const struct filter_options options = {.columns = columns, .column_count = 11};

struct refusal {
    const char *filter;
    int code;
    const char *text;
};

static const struct refusal refusals[] = {
    {"{\"f\":{\"$lt\":\"x\"}}", PDB_INVALID_ARGUMENT, "filter.f.$lt: expected float, found string"},
    {"{\"s\":5}", PDB_INVALID_ARGUMENT, "filter.s: expected string, found integer"},
    {"{\"s\":[\"x\"]}", PDB_INVALID_ARGUMENT, "filter.s: expected string, found array"},
    {"{\"i\":{\"$in\":[1,2.5,\"x\"]}}", PDB_INVALID_ARGUMENT,
     "filter.i.$in[2]: expected integer, found string"},
    {"{\"x.y\":true}", PDB_INVALID_ARGUMENT, "filter.x.y: expected integer, found boolean"},
    {"{\"b\":1}", PDB_INVALID_ARGUMENT, "filter.b: expected boolean, found integer"},
    {"{\"b\":{\"$gt\":true}}", PDB_INVALID_ARGUMENT, "filter.b.$gt: a boolean column has no order"},
    {"{\"f\":{\"$gt\":null}}", PDB_INVALID_ARGUMENT, "filter.f.$gt: expected float, found null"},
    {"{\"d\":{\"$gt\":\"soon\"}}", PDB_INVALID_ARGUMENT,
     "filter.d.$gt: expected datetime (RFC 3339), found string"},
    {"{\"d\":{\"$contains\":\"x\"}}", PDB_INVALID_ARGUMENT,
     "filter.d.$contains: a datetime column contains nothing"},
    {"{\"sl\":3}", PDB_INVALID_ARGUMENT, "filter.sl: expected string[], found integer"},
    {"{\"sl\":[\"a\",3]}", PDB_INVALID_ARGUMENT, "filter.sl[1]: expected string, found integer"},
    {"{\"il\":{\"$contains\":\"a\"}}", PDB_INVALID_ARGUMENT,
     "filter.il.$contains: expected integer, found string"},
    {"{\"fl\":{\"$lt\":2}}", PDB_INVALID_ARGUMENT, "filter.fl.$lt: a float[] column has no order"},
    {"{\"sl\":{\"$prefix\":\"a\"}}", PDB_INVALID_ARGUMENT,
     "filter.sl.$prefix: a string[] column has no prefix"},
    {"{\"g\":{\"$eq\":{\"lat\":1}}}", PDB_INVALID_ARGUMENT,
     "filter.g.$eq: expected geo, found object"},
    {"{\"g\":{\"$lt\":1}}", PDB_INVALID_ARGUMENT, "filter.g.$lt: a geo column has no order"},
    {"{\"t\":{\"$contains\":3}}", PDB_INVALID_ARGUMENT,
     "filter.t.$contains: expected string, found integer"},
    {"{\"a\":{\"$lt\":[1]}}", PDB_INVALID_ARGUMENT,
     "filter.a.$lt: expected a number or a string, found array"},
    {"{\"a\":{\"$exists\":1}}", PDB_INVALID_ARGUMENT,
     "filter.a.$exists: expected boolean, found integer"},
    {"{\"a\":{\"$prefix\":1}}", PDB_INVALID_ARGUMENT,
     "filter.a.$prefix: expected string, found integer"},
    {"{\"a\":{\"$contains\":[1]}}", PDB_INVALID_ARGUMENT,
     "filter.a.$contains: expected one element, found array"},
    {"{\"a\":{\"$in\":1}}", PDB_INVALID_ARGUMENT, "filter.a.$in: expected array, found integer"},
    {"{\"a\":{\"$foo\":1}}", PDB_INVALID_ARGUMENT, "filter.a.$foo: unknown operator"},
    {"{\"a\":{}}", PDB_INVALID_ARGUMENT, "filter.a: an empty object holds no operator"},
    {"{\"a\":{\"gt\":1}}", PDB_INVALID_ARGUMENT,
     "filter.a.gt: expected an operator such as $gt; to compare with a whole object, write "
     "{\"$eq\": {...}}"},
    {"{\"$nor\":[{\"a\":1}]}", PDB_INVALID_ARGUMENT,
     "filter.$nor: unknown operator; expected a key, $and, $or or $not"},
    {"{\"$and\":[]}", PDB_INVALID_ARGUMENT,
     "filter.$and: expected an array of at least one filter object, found an empty one"},
    {"{\"$or\":{\"a\":1}}", PDB_INVALID_ARGUMENT,
     "filter.$or: expected an array of at least one filter object, found object"},
    {"{\"$or\":[{\"a\":1},5]}", PDB_INVALID_ARGUMENT,
     "filter.$or[1]: expected a filter object, found integer"},
    {"{\"$not\":[]}", PDB_INVALID_ARGUMENT, "filter.$not: expected a filter object, found array"},
    {"{\"$or\":[{\"a\":1},{\"$not\":{\"f\":{\"$lt\":\"x\"}}}]}", PDB_INVALID_ARGUMENT,
     "filter.$or[1].$not.f.$lt: expected float, found string"},
    {"[]", PDB_INVALID_ARGUMENT, "filter: expected a filter object, found array"},
    {"{\"g\":{\"$geo_radius\":{}}}", PDB_UNIMPLEMENTED,
     "filter.g.$geo_radius: this operator is not available yet"},
    {"{\"g\":{\"$geo_box\":{}}}", PDB_UNIMPLEMENTED,
     "filter.g.$geo_box: this operator is not available yet"},
    {"{\"t\":{\"$match\":\"x\"}}", PDB_UNIMPLEMENTED,
     "filter.t.$match: this operator is not available yet"},
};

static void each_refusal_names_the_place_and_what_would_be_right(void **state)
{
    (void)state;
    struct arena arena = {0};
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct trail trail = {0};
        struct filter *filter = (void *)&arena;
        int rc = filter_compile(&arena, document_of(&arena, refusals[i].filter), &options, &trail,
                                &filter);
        if (rc != refusals[i].code || strcmp(trail.text, refusals[i].text) != 0)
            fail_msg("%s: %d, %s", refusals[i].filter, rc, trail.text);
        assert_ptr_equal(filter, (void *)&arena);
    }
    arena_dispose(&arena);
}

static void operands_that_fit_their_column_are_taken(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "{\"i\":2.5}",
        "{\"f\":2}",
        "{\"s\":null}",
        "{\"b\":{\"$in\":[true,null]}}",
        "{\"sl\":\"x\"}",
        "{\"sl\":[\"x\",\"y\"]}",
        "{\"il\":{\"$in\":[1,[2,3]]}}",
        "{\"fl\":{\"$contains\":1}}",
        "{\"g\":{\"$exists\":true}}",
        "{\"g\":{\"$ne\":{\"lat\":-90,\"lon\":180.0}}}",
        "{\"d\":{\"$lte\":\"2026-01-31T12:00:00+02:00\"}}",
        "{\"t\":{\"$prefix\":\"x\"}}",
    };
    struct arena arena = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct trail trail = {0};
        struct filter *filter = NULL;
        if (filter_compile(&arena, document_of(&arena, rows[i]), &options, &trail, &filter) < 0)
            fail_msg("%s: %s", rows[i], trail.text);
        assert_non_null(filter);
        assert_int_equal(filter_leaf_count(filter), 1);
    }
    arena_dispose(&arena);
}

static void an_empty_filter_is_no_filter(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct filter *filter = (void *)&arena;
    assert_int_equal(filter_compile(&arena, document_of(&arena, "{}"), NULL, NULL, &filter), 0);
    assert_null(filter);
    filter = (void *)&arena;
    assert_int_equal(filter_compile(&arena, (struct pdb_text){0}, NULL, NULL, &filter), 0);
    assert_null(filter);
    assert_int_equal(filter_leaf_count(NULL), 0);
    arena_dispose(&arena);
}

/* {"$not":{"$not":...{"a":1}}} with `depth` objects in all. */
static struct pdb_text nested(struct arena *arena, unsigned depth)
{
    struct buffer json;
    buffer_init_arena(&json, arena, 0);
    for (unsigned i = 1; i < depth; i++)
        buffer_add_lit(&json, "{\"$not\":");
    buffer_add_lit(&json, "{\"a\":1}");
    for (unsigned i = 1; i < depth; i++)
        buffer_add_lit(&json, "}");
    buffer_add_byte(&json, 0);
    return document_of(arena, json.ptr);
}

static void depth_is_limited(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct trail trail = {0};
    struct filter *filter = NULL;
    assert_int_equal(filter_compile(&arena, nested(&arena, 32), NULL, &trail, &filter), 0);
    /* 31 negations */
    assert_false(filter_matches(filter, document_of(&arena, "{\"a\":1}")));
    assert_int_equal(filter_compile(&arena, nested(&arena, 33), NULL, &trail, &filter),
                     PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "filter: nested deeper than 32");
    struct filter_options three = {.depth_max = 3};
    trail_reset(&trail);
    assert_int_equal(filter_compile(&arena, nested(&arena, 3), &three, &trail, &filter), 0);
    assert_int_equal(filter_compile(&arena, nested(&arena, 4), &three, &trail, &filter),
                     PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "filter: nested deeper than 3");
    arena_dispose(&arena);
}

/* {"$or":[{"a":0},{"a":1},...]} */
static struct pdb_text wide(struct arena *arena, unsigned leaves)
{
    struct buffer json;
    buffer_init_arena(&json, arena, 0);
    buffer_add_lit(&json, "{\"$or\":[");
    for (unsigned i = 0; i < leaves; i++)
        buffer_format(&json, "%s{\"a\":%u}", i != 0 ? "," : "", i);
    buffer_add_lit(&json, "]}");
    buffer_add_byte(&json, 0);
    assert_false(json.failed);
    return document_of(arena, json.ptr);
}

static void the_number_of_conditions_is_limited(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct trail trail = {0};
    struct filter *filter = NULL;
    assert_int_equal(filter_compile(&arena, wide(&arena, 1024), NULL, &trail, &filter), 0);
    assert_true(filter_matches(filter, document_of(&arena, "{\"a\":1023}")));
    assert_false(filter_matches(filter, document_of(&arena, "{\"a\":1024}")));
    assert_int_equal(filter_compile(&arena, wide(&arena, 1025), NULL, &trail, &filter),
                     PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "filter: more than 1024 conditions");
    arena_dispose(&arena);
}

static void a_large_set_is_found_by_search(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct doc_builder *b = doc_builder_new(&arena, 0);
    struct pdb_text document = {0};
    struct filter *filter = NULL;
    doc_begin_object(b);
    doc_add_key(b, TEXT_LIT("a"));
    doc_begin_object(b);
    doc_add_key(b, TEXT_LIT("$in"));
    doc_begin_array(b);
    for (int64_t i = 0; i < 10000; i++) /* even numbers, shuffled */
        doc_add_int(b, i * 7919 % 10000 * 2);
    doc_end(b);
    doc_end(b);
    doc_end(b);
    assert_int_equal(doc_builder_finish(b, &document, NULL), 0);
    assert_int_equal(filter_compile(&arena, document, NULL, NULL, &filter), 0);
    char json[32];
    for (int i = -1; i <= 20000; i += 1 + (i & 3)) {
        (void)snprintf(json, sizeof(json), "{\"a\":%d}", i);
        assert_int_equal(filter_matches(filter, document_of(&arena, json)),
                         i >= 0 && i < 20000 && i % 2 == 0);
    }
    arena_dispose(&arena);
}

static void the_shape_shows_keys_and_operators_but_no_values(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"{\"price\":{\"$lt\":20},\"category\":\"shoe\"}", "category $eq AND price $lt"},
        {"{\"$or\":[{\"a\":1},{\"b\":{\"$ne\":2}}]}", "a $eq OR b $ne"},
        {"{\"$not\":{\"a\":1,\"b\":2}}", "NOT (a $eq AND b $eq)"},
        {"{\"c\":1,\"$or\":[{\"a\":1},{\"b\":2,\"d\":3}]}",
         "(a $eq OR (b $eq AND d $eq)) AND c $eq"},
        {"{\"$not\":{}}", "NOT ANY"},
        {"{\"a\\n\":{\"$exists\":false}}", "a? $exists"},
    };
    struct arena arena = {0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct filter *filter = NULL;
        assert_int_equal(
            filter_compile(&arena, document_of(&arena, rows[i][0]), NULL, NULL, &filter), 0);
        struct pdb_text shape = filter_shape(filter, &arena);
        if (!text_equal(shape, text_of(rows[i][1])))
            fail_msg("%s: %.*s", rows[i][0], TEXT_ARG(shape));
    }
    assert_int_equal(filter_shape(NULL, &arena).len, 0);
    arena_dispose(&arena);
}

static void compilation_survives_every_failing_allocation(void **state)
{
    (void)state;
    struct arena inputs = {0};
    struct pdb_text document = document_of(
        &inputs, "{\"a\":{\"$in\":[1,\"x\",[2]]},\"d\":{\"$in\":[\"2026-01-31T12:00:00Z\"]},"
                 "\"$or\":[{\"b\":true},{\"$not\":{\"c\":{\"$lt\":3}}}]}");
    unsigned failures = 0;
    for (uint64_t n = 1;; n++) {
        struct arena arena = {.fail_at = n};
        struct trail trail = {0};
        struct filter *filter = NULL;
        int rc = filter_compile(&arena, document, &options, &trail, &filter);
        if (rc == 0 && filter_shape(filter, &arena).ptr != NULL) {
            arena_dispose(&arena);
            break;
        }
        failures++;
        if (rc != 0) {
            assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
            assert_non_null(strstr(trail.text, "no memory"));
            assert_null(filter);
        }
        arena_dispose(&arena);
    }
    assert_true(failures >= 10);
    arena_dispose(&inputs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_refusal_names_the_place_and_what_would_be_right),
        cmocka_unit_test(operands_that_fit_their_column_are_taken),
        cmocka_unit_test(an_empty_filter_is_no_filter),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(the_number_of_conditions_is_limited),
        cmocka_unit_test(a_large_set_is_found_by_search),
        cmocka_unit_test(the_shape_shows_keys_and_operators_but_no_values),
        cmocka_unit_test(compilation_survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
