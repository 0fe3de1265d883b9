/* Every operator against every type, present, null, missing and in arrays; then random filters on
 * random documents against a naive evaluator that walks the filter's document. */
#include "filter_fixture.h"

#include "base/clock.h"
#include "base/rng.h"

/* "place" is geo, "when" a datetime; all other keys are undeclared. */
static const struct filter_column columns[] = {{{"when", 4}, PDB_COLUMN_DATETIME},
                                               {{"tags", 4}, PDB_COLUMN_STRING_LIST},
                                               {{"place", 5}, PDB_COLUMN_GEO},
                                               {{"deep.count", 10}, PDB_COLUMN_INTEGER},
                                               {{"times", 5}, PDB_COLUMN_INTEGER}};
static const struct filter_options options = {.columns = columns, .column_count = 5};

static bool matches(struct arena *arena, const char *filter_json, struct pdb_text metadata)
{
    struct filter *filter = NULL;
    struct trail trail = {0};
    if (filter_compile(arena, document_of(arena, filter_json), &options, &trail, &filter) < 0)
        fail_msg("%s: %s", filter_json, trail.text);
    return filter_matches(filter, metadata);
}

struct row {
    const char *filter, *metadata;
    bool expected;
};

static void check_rows(const struct row *rows, size_t count)
{
    struct arena arena = {0};
    for (size_t i = 0; i < count; i++) {
        struct pdb_text metadata = document_of(&arena, rows[i].metadata);
        if (matches(&arena, rows[i].filter, metadata) != rows[i].expected)
            fail_msg("%s on %s: expected %d", rows[i].filter, rows[i].metadata, rows[i].expected);
        arena_reset(&arena);
    }
    arena_dispose(&arena);
}

static void equality_compares_values_of_one_type_and_looks_into_arrays(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"a\":1}", "{\"a\":1}", true},
        {"{\"a\":1}", "{\"a\":1.0}", true},
        {"{\"a\":1.0}", "{\"a\":1}", true},
        {"{\"a\":1}", "{\"a\":1.5}", false},
        {"{\"a\":1}", "{\"a\":\"1\"}", false},
        {"{\"a\":1}", "{\"a\":true}", false},
        {"{\"a\":1}", "{\"a\":null}", false},
        {"{\"a\":1}", "{}", false},
        {"{\"a\":1}", "{\"a\":[2,1]}", true},
        {"{\"a\":1}", "{\"a\":[2,[1]]}", false},
        {"{\"a\":1}", "{\"a\":[]}", false},
        {"{\"a\":1}", "{\"a\":{\"b\":1}}", false},
        {"{\"a\":0}", "{\"a\":-0.0}", true},
        {"{\"a\":\"x\"}", "{\"a\":\"x\"}", true},
        {"{\"a\":\"x\"}", "{\"a\":\"xy\"}", false},
        {"{\"a\":\"\"}", "{\"a\":\"\"}", true},
        {"{\"a\":\"x\"}", "{\"a\":[\"y\",\"x\"]}", true},
        {"{\"a\":true}", "{\"a\":true}", true},
        {"{\"a\":true}", "{\"a\":false}", false},
        {"{\"a\":false}", "{\"a\":[true,false]}", true},
        {"{\"a\":null}", "{\"a\":null}", true},
        {"{\"a\":null}", "{}", false},
        {"{\"a\":null}", "{\"a\":0}", false},
        {"{\"a\":null}", "{\"a\":[null]}", true},
        {"{\"a\":[1,2]}", "{\"a\":[1,2.0]}", true},
        {"{\"a\":[1,2]}", "{\"a\":[1,2,3]}", false},
        {"{\"a\":[1,2]}", "{\"a\":[[1,2]]}", false},
        {"{\"a\":[]}", "{\"a\":[]}", true},
        {"{\"a\":{\"$eq\":{\"b\":1}}}", "{\"a\":{\"b\":1.0}}", true},
        {"{\"a\":{\"$eq\":{\"b\":1}}}", "{\"a\":{\"b\":1,\"c\":2}}", false},
        {"{\"a\":{\"$eq\":{\"b\":1}}}", "{\"a\":[{\"b\":1}]}", false},
        {"{\"a\":{\"$ne\":1}}", "{\"a\":1}", false},
        {"{\"a\":{\"$ne\":1}}", "{\"a\":2}", true},
        {"{\"a\":{\"$ne\":1}}", "{}", true},
        {"{\"a\":{\"$ne\":1}}", "{\"a\":\"1\"}", true},
        {"{\"a\":{\"$ne\":1}}", "{\"a\":[1,2]}", false},
        {"{\"a\":{\"$ne\":null}}", "{\"a\":null}", false},
        {"{\"a.b\":1}", "{\"a\":{\"b\":1}}", true},
        {"{\"a.b\":1}", "{\"a.b\":1}", true},
        {"{\"a.b\":1}", "{\"a\":1}", false},
        {"{\"place\":{\"$eq\":{\"lat\":1,\"lon\":2}}}", "{\"place\":{\"lat\":1,\"lon\":2}}", true},
    };
    check_rows(rows, sizeof(rows) / sizeof(rows[0]));
}

static void order_is_numeric_or_bytewise_and_false_across_types(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"a\":{\"$gt\":1}}", "{\"a\":2}", true},
        {"{\"a\":{\"$gt\":1}}", "{\"a\":1}", false},
        {"{\"a\":{\"$gt\":1}}", "{\"a\":1.0000001}", true},
        {"{\"a\":{\"$gte\":1}}", "{\"a\":1.0}", true},
        {"{\"a\":{\"$gte\":1}}", "{\"a\":0.999}", false},
        {"{\"a\":{\"$lt\":1}}", "{\"a\":0}", true},
        {"{\"a\":{\"$lt\":1}}", "{\"a\":1}", false},
        {"{\"a\":{\"$lte\":1}}", "{\"a\":1}", true},
        {"{\"a\":{\"$lte\":1}}", "{\"a\":2}", false},
        {"{\"a\":{\"$lt\":1}}", "{\"a\":\"0\"}", false},
        {"{\"a\":{\"$lt\":1}}", "{\"a\":null}", false},
        {"{\"a\":{\"$lt\":1}}", "{\"a\":false}", false},
        {"{\"a\":{\"$lt\":1}}", "{\"a\":[0]}", false},
        {"{\"a\":{\"$lt\":1}}", "{}", false},
        {"{\"$not\":{\"a\":{\"$lt\":1}}}", "{}", true},
        {"{\"a\":{\"$gt\":\"b\"}}", "{\"a\":\"ba\"}", true},
        {"{\"a\":{\"$gt\":\"b\"}}", "{\"a\":\"b\"}", false},
        {"{\"a\":{\"$gte\":\"b\"}}", "{\"a\":\"b\"}", true},
        {"{\"a\":{\"$lt\":\"b\"}}", "{\"a\":\"B\"}", true},
        {"{\"a\":{\"$lt\":\"b\"}}", "{\"a\":1}", false},
        {"{\"a\":{\"$gte\":1,\"$lt\":3}}", "{\"a\":2}", true},
        {"{\"a\":{\"$gte\":1,\"$lt\":3}}", "{\"a\":3}", false},
    };
    check_rows(rows, sizeof(rows) / sizeof(rows[0]));
}

static void integers_and_doubles_compare_exactly_beyond_53_bits(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"a\":9007199254740993}", "{\"a\":9007199254740992.0}", false},
        {"{\"a\":9007199254740992.0}", "{\"a\":9007199254740993}", false},
        {"{\"a\":9007199254740992.0}", "{\"a\":9007199254740992}", true},
        {"{\"a\":{\"$gt\":9007199254740992.0}}", "{\"a\":9007199254740993}", true},
        {"{\"a\":{\"$lt\":9.3e18}}", "{\"a\":9223372036854775807}", true},
        {"{\"a\":{\"$lt\":9223372036854775808.0}}", "{\"a\":9223372036854775807}", true},
        {"{\"a\":9223372036854775808.0}", "{\"a\":9223372036854775807}", false},
        {"{\"a\":-9223372036854775808.0}", "{\"a\":-9223372036854775808}", true},
        {"{\"a\":{\"$gt\":-1e300}}", "{\"a\":-9223372036854775808}", true},
        {"{\"a\":{\"$gt\":-1}}", "{\"a\":-0.5}", true},
        {"{\"a\":{\"$lt\":-1}}", "{\"a\":-1.5}", true},
        {"{\"a\":{\"$in\":[1e300,9007199254740993]}}", "{\"a\":9007199254740993}", true},
        {"{\"a\":{\"$in\":[1e300,9007199254740993]}}", "{\"a\":9007199254740992}", false},
    };
    check_rows(rows, sizeof(rows) / sizeof(rows[0]));
}

static void in_exists_contains_and_prefix(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{\"a\":1}", true},
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{\"a\":3.0}", true},
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{\"a\":2}", false},
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{\"a\":\"x\"}", true},
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{\"a\":null}", true},
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{\"a\":true}", true},
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{\"a\":false}", false},
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{\"a\":[7]}", true},
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{\"a\":[[7]]}", false},
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{\"a\":[9,3]}", true},
        {"{\"a\":{\"$in\":[3,1,\"x\",null,true,[7]]}}", "{}", false},
        {"{\"a\":{\"$in\":[]}}", "{\"a\":1}", false},
        {"{\"a\":{\"$nin\":[]}}", "{\"a\":1}", true},
        {"{\"a\":{\"$nin\":[1,2]}}", "{\"a\":3}", true},
        {"{\"a\":{\"$nin\":[1,2]}}", "{\"a\":2}", false},
        {"{\"a\":{\"$nin\":[1,2]}}", "{}", true},
        {"{\"a\":{\"$nin\":[1,2]}}", "{\"a\":[5,2]}", false},
        {"{\"a\":{\"$exists\":true}}", "{\"a\":null}", true},
        {"{\"a\":{\"$exists\":true}}", "{\"b\":1}", false},
        {"{\"a\":{\"$exists\":false}}", "{\"b\":1}", true},
        {"{\"a\":{\"$exists\":false}}", "{\"a\":null}", false},
        {"{\"a\":{\"$contains\":2}}", "{\"a\":[1,2.0]}", true},
        {"{\"a\":{\"$contains\":2}}", "{\"a\":2}", false},
        {"{\"a\":{\"$contains\":null}}", "{\"a\":[null]}", true},
        {"{\"a\":{\"$contains\":{\"b\":1}}}", "{\"a\":[{\"b\":1}]}", true},
        {"{\"a\":{\"$contains\":\"ell\"}}", "{\"a\":\"hello\"}", true},
        {"{\"a\":{\"$contains\":\"elo\"}}", "{\"a\":\"hello\"}", false},
        {"{\"a\":{\"$contains\":\"ell\"}}", "{\"a\":[\"hello\"]}", false},
        {"{\"a\":{\"$contains\":\"\"}}", "{\"a\":\"\"}", true},
        {"{\"a\":{\"$contains\":\"x\"}}", "{}", false},
        {"{\"a\":{\"$prefix\":\"he\"}}", "{\"a\":\"hello\"}", true},
        {"{\"a\":{\"$prefix\":\"he\"}}", "{\"a\":\"h\"}", false},
        {"{\"a\":{\"$prefix\":\"\"}}", "{\"a\":\"\"}", true},
        {"{\"a\":{\"$prefix\":\"he\"}}", "{\"a\":[\"hello\"]}", false},
        {"{\"a\":{\"$prefix\":\"1\"}}", "{\"a\":1}", false},
        {"{\"tags\":\"red\"}", "{\"tags\":[\"red\",\"blue\"]}", true},
        {"{\"tags\":[\"red\"]}", "{\"tags\":[\"red\",\"blue\"]}", false},
        {"{\"tags\":{\"$contains\":\"blue\"}}", "{\"tags\":[\"red\",\"blue\"]}", true},
    };
    check_rows(rows, sizeof(rows) / sizeof(rows[0]));
}

static void a_datetime_column_compares_as_time(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"when\":\"2026-01-31T12:00:00Z\"}", "{\"when\":\"2026-01-31T13:00:00+01:00\"}", true},
        {"{\"when\":\"2026-01-31T12:00:00Z\"}", "{\"when\":\"2026-01-31T12:00:00.5Z\"}", false},
        {"{\"when\":{\"$lt\":\"2026-01-31T12:00:00Z\"}}",
         "{\"when\":\"2026-01-31T12:30:00+01:00\"}", true},
        {"{\"when\":{\"$gte\":\"2026-01-31T12:00:00Z\"}}",
         "{\"when\":\"2026-01-31T12:30:00+01:00\"}", false},
        {"{\"when\":{\"$in\":[\"2027-01-31T12:00:00Z\",\"2026-01-31T12:00:00Z\"]}}",
         "{\"when\":\"2026-01-31T13:00:00+01:00\"}", true},
        {"{\"when\":{\"$in\":[\"2027-01-31T12:00:00Z\",\"2026-01-31T12:00:00Z\"]}}",
         "{\"when\":\"2026-01-31T13:00:00Z\"}", false},
        {"{\"when\":null}", "{\"when\":null}", true},
        {"{\"when\":{\"$ne\":\"2026-01-31T12:00:00Z\"}}", "{}", true},
        {"{\"when\":{\"$lt\":\"2026-01-31T12:00:00Z\"}}", "{\"when\":5}", false},
        {"{\"when\":{\"$lt\":\"2026-01-31T12:00:00Z\"}}", "{\"when\":\"soon\"}", false},
    };
    check_rows(rows, sizeof(rows) / sizeof(rows[0]));
}

static void and_or_not_nest_and_short_circuit_to_the_right_answer(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{}", "{}", true},
        {"{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":2}", true},
        {"{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":3}", false},
        {"{\"$or\":[{\"a\":1},{\"b\":2}]}", "{\"a\":0,\"b\":2}", true},
        {"{\"$or\":[{\"a\":1},{\"b\":2}]}", "{\"a\":0,\"b\":0}", false},
        {"{\"$and\":[{\"a\":1},{\"b\":2}]}", "{\"a\":1,\"b\":2}", true},
        {"{\"$and\":[{\"a\":1},{\"b\":2}]}", "{\"a\":1}", false},
        {"{\"$not\":{\"a\":1}}", "{\"a\":1}", false},
        {"{\"$not\":{\"a\":1}}", "{}", true},
        {"{\"$not\":{\"a\":1,\"b\":2}}", "{\"a\":1,\"b\":3}", true},
        {"{\"$not\":{\"$not\":{\"a\":1}}}", "{\"a\":1}", true},
        {"{\"$not\":{}}", "{\"a\":1}", false},
        {"{\"$or\":[{\"a\":1},{}]}", "{}", true},
        {"{\"$and\":[{},{\"a\":1}]}", "{\"a\":2}", false},
        {"{\"c\":3,\"$or\":[{\"a\":1},{\"$and\":[{\"a\":2},{\"b\":{\"$ne\":2}}]}]}",
         "{\"a\":2,\"b\":1,\"c\":3}", true},
        {"{\"c\":3,\"$or\":[{\"a\":1},{\"$and\":[{\"a\":2},{\"b\":{\"$ne\":2}}]}]}",
         "{\"a\":2,\"b\":2,\"c\":3}", false},
        {"{\"c\":3,\"$or\":[{\"a\":1},{\"$and\":[{\"a\":2},{\"b\":{\"$ne\":2}}]}]}",
         "{\"a\":1,\"b\":2,\"c\":4}", false},
        {"{\"$not\":{\"$or\":[{\"a\":1},{\"b\":{\"$gt\":5}}]}}", "{\"a\":2,\"b\":5}", true},
        {"{\"$not\":{\"$or\":[{\"a\":1},{\"b\":{\"$gt\":5}}]}}", "{\"a\":2,\"b\":6}", false},
    };
    check_rows(rows, sizeof(rows) / sizeof(rows[0]));
}

static void no_filter_matches_everything_and_empty_metadata_is_an_object(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct pdb_text none = {0};
    assert_true(filter_matches(NULL, none));
    assert_false(matches(&arena, "{\"a\":1}", none));
    assert_true(matches(&arena, "{\"a\":{\"$ne\":1}}", none));
    arena_dispose(&arena);
}

/* ---- random filters against a naive evaluator ---- */

static int naive_order(const struct doc_value *a, const struct doc_value *b, bool *comparable)
{
    bool numbers = (a->type == DOC_INT || a->type == DOC_FLOAT) &&
                   (b->type == DOC_INT || b->type == DOC_FLOAT);
    *comparable = numbers || (a->type == DOC_STRING && b->type == DOC_STRING);
    if (!*comparable)
        return 0;
    if (!numbers)
        return text_compare(a->string, b->string);
    /* long double holds every int64 and every double exactly */
    long double x = a->type == DOC_INT ? (long double)a->integer : (long double)a->number;
    long double y = b->type == DOC_INT ? (long double)b->integer : (long double)b->number;
    return (x > y) - (x < y);
}

static bool naive_equal(const struct doc_value *operand, const struct doc_value *value)
{
    if (doc_equal(operand, value))
        return true;
    if (operand->type == DOC_ARRAY || operand->type == DOC_OBJECT || value->type != DOC_ARRAY)
        return false;
    struct doc_iter iter = doc_iterate(value);
    struct pdb_text key;
    for (struct doc_value element; doc_next(&iter, &key, &element);) {
        if (doc_equal(operand, &element))
            return true;
    }
    return false;
}

static bool naive_in(const struct doc_value *list, const struct doc_value *value)
{
    struct doc_iter iter = doc_iterate(list);
    struct pdb_text key;
    for (struct doc_value member; doc_next(&iter, &key, &member);) {
        if (naive_equal(&member, value))
            return true;
    }
    return false;
}

static bool naive_leaf(struct pdb_text op, const struct doc_value *operand,
                       const struct doc_value *value)
{
    bool comparable = false;
    int order = value != NULL ? naive_order(value, operand, &comparable) : 0;
    if (text_equal(op, TEXT_LIT("$exists")))
        return (value != NULL) == operand->boolean;
    if (text_equal(op, TEXT_LIT("$ne")))
        return value == NULL || !naive_equal(operand, value);
    if (text_equal(op, TEXT_LIT("$nin")))
        return value == NULL || !naive_in(operand, value);
    if (value == NULL)
        return false;
    if (text_equal(op, TEXT_LIT("$eq")))
        return naive_equal(operand, value);
    if (text_equal(op, TEXT_LIT("$in")))
        return naive_in(operand, value);
    if (text_equal(op, TEXT_LIT("$gt")))
        return comparable && order > 0;
    if (text_equal(op, TEXT_LIT("$gte")))
        return comparable && order >= 0;
    if (text_equal(op, TEXT_LIT("$lt")))
        return comparable && order < 0;
    assert_true(text_equal(op, TEXT_LIT("$lte")));
    return comparable && order <= 0;
}

static bool naive(const struct doc_value *filter, const struct doc_value *root);

static bool naive_member(struct pdb_text key, const struct doc_value *value,
                         const struct doc_value *root)
{
    struct doc_iter iter = doc_iterate(value);
    struct pdb_text name;
    struct doc_value item, found;
    if (text_equal(key, TEXT_LIT("$not")))
        return !naive(value, root);
    bool or = text_equal(key, TEXT_LIT("$or")), result = ! or ;
    if (or || text_equal(key, TEXT_LIT("$and"))) {
        while (doc_next(&iter, &name, &item))
            result = or ? result || naive(&item, root) : result && naive(&item, root);
        return result;
    }
    bool there = doc_find(root, key, &found);
    if (value->type != DOC_OBJECT)
        return naive_leaf(TEXT_LIT("$eq"), value, there ? &found : NULL);
    while (doc_next(&iter, &name, &item))
        result = result && naive_leaf(name, &item, there ? &found : NULL);
    return result;
}

static bool naive(const struct doc_value *filter, const struct doc_value *root)
{
    struct doc_iter iter = doc_iterate(filter);
    struct pdb_text key;
    bool result = true;
    for (struct doc_value value; doc_next(&iter, &key, &value);)
        result = naive_member(key, &value, root) && result;
    return result;
}

static void add_random_scalar(struct doc_builder *b, struct rng *rng)
{
    static const char *const texts[] = {"", "a", "ab", "b"};
    static const int64_t large[] = {9007199254740992, 9007199254740993, INT64_MAX, INT64_MIN};
    switch (rng_below(rng, 7)) {
    case 0:
        doc_add_null(b);
        break;
    case 1:
        doc_add_bool(b, rng_below(rng, 2) != 0);
        break;
    case 2:
        doc_add_float(b, (double)rng_below(rng, 6) / 2);
        break;
    case 3:
        doc_add_int(b, large[rng_below(rng, 4)]);
        break;
    case 4:
        doc_add_float(b, (double)large[rng_below(rng, 4)]);
        break;
    case 5:
        doc_add_string(b, text_of(texts[rng_below(rng, 4)]));
        break;
    default:
        doc_add_int(b, (int64_t)rng_below(rng, 3));
    }
}

static void add_random_value(struct doc_builder *b, struct rng *rng)
{
    if (rng_below(rng, 4) != 0) {
        add_random_scalar(b, rng);
        return;
    }
    doc_begin_array(b);
    for (uint64_t n = rng_below(rng, 4); n > 0; n--)
        add_random_scalar(b, rng);
    doc_end(b);
}

static const char *const keys[] = {"a", "b", "c.d", "e"};

static struct pdb_text random_metadata(struct arena *arena, struct rng *rng)
{
    struct pdb_text bytes = {0};
    struct doc_builder *b = doc_builder_new(arena, 0);
    doc_begin_object(b);
    for (size_t i = 0; i < 3; i++) {
        if (rng_below(rng, 4) == 0)
            continue;
        doc_add_key(b, text_of(i == 2 ? "c" : keys[i]));
        if (i == 2) {
            doc_begin_object(b);
            doc_add_key(b, TEXT_LIT("d"));
        }
        add_random_value(b, rng);
        if (i == 2)
            doc_end(b);
    }
    doc_end(b);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), 0);
    return bytes;
}

static void add_random_condition(struct doc_builder *b, struct rng *rng)
{
    static const char *const ops[] = {"$eq",  "$ne", "$gt",  "$gte",   "$lt",
                                      "$lte", "$in", "$nin", "$exists"};
    uint64_t op = rng_below(rng, 9);
    doc_begin_object(b);
    doc_add_key(b, text_of(ops[op]));
    if (op <= 1) {
        add_random_value(b, rng);
    } else if (op <= 5 && rng_below(rng, 2) == 0) {
        doc_add_string(b, TEXT_LIT("a"));
    } else if (op <= 5) {
        doc_add_float(b, (double)rng_below(rng, 5) / 2);
    } else if (op <= 7) {
        doc_begin_array(b);
        for (uint64_t n = rng_below(rng, 9); n > 0; n--)
            add_random_value(b, rng);
        doc_end(b);
    } else {
        doc_add_bool(b, rng_below(rng, 2) != 0);
    }
    doc_end(b);
}

static void add_random_filter(struct doc_builder *b, struct rng *rng, unsigned depth)
{
    static const char *const joins[] = {"$and", "$or"};
    doc_begin_object(b);
    for (size_t i = 0; i < 4; i++) {
        if (rng_below(rng, 3) == 0) {
            doc_add_key(b, text_of(keys[i]));
            add_random_condition(b, rng);
        }
    }
    for (size_t i = 0; i < 2 && depth > 0; i++) {
        if (rng_below(rng, 2) == 0)
            continue;
        doc_add_key(b, text_of(joins[i]));
        doc_begin_array(b);
        for (uint64_t n = 1 + rng_below(rng, 3); n > 0; n--)
            add_random_filter(b, rng, depth - 1);
        doc_end(b);
    }
    if (depth > 0 && rng_below(rng, 3) == 0) {
        doc_add_key(b, TEXT_LIT("$not"));
        add_random_filter(b, rng, depth - 1);
    }
    doc_end(b);
}

static void random_filters_agree_with_a_naive_evaluator(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct rng rng;
    rng_seed(&rng, 20260131);
    size_t hits = 0, total = 0;
    for (unsigned round = 0; round < 4000; round++) {
        struct pdb_text document = {0};
        struct trail trail = {0};
        struct filter *filter = NULL;
        struct doc_builder *b = doc_builder_new(&arena, 0);
        add_random_filter(b, &rng, (unsigned)rng_below(&rng, 4));
        assert_int_equal(doc_builder_finish(b, &document, NULL), 0);
        if (filter_compile(&arena, document, NULL, &trail, &filter) < 0)
            fail_msg("round %u: %s", round, trail.text);
        struct doc_value tree = doc_root(document.ptr, document.len);
        for (unsigned i = 0; i < 20; i++) {
            struct pdb_text metadata = random_metadata(&arena, &rng);
            struct doc_value root = doc_root(metadata.ptr, metadata.len);
            bool expected = naive(&tree, &root);
            if (filter_matches(filter, metadata) != expected)
                fail_msg("round %u, document %u: expected %d", round, i, expected);
            hits += expected;
            total++;
        }
        arena_reset(&arena);
    }
    /* the generator must make both answers common */
    assert_in_range(hits, total / 10, total - total / 10);
    arena_dispose(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equality_compares_values_of_one_type_and_looks_into_arrays),
        cmocka_unit_test(order_is_numeric_or_bytewise_and_false_across_types),
        cmocka_unit_test(integers_and_doubles_compare_exactly_beyond_53_bits),
        cmocka_unit_test(in_exists_contains_and_prefix),
        cmocka_unit_test(a_datetime_column_compares_as_time),
        cmocka_unit_test(and_or_not_nest_and_short_circuit_to_the_right_answer),
        cmocka_unit_test(no_filter_matches_everything_and_empty_metadata_is_an_object),
        cmocka_unit_test(random_filters_agree_with_a_naive_evaluator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
