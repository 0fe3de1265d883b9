/* Documents as columns and JSON, and back to the same bytes. */
#include "segment_docs.h"

#include "base/json.h"
#include "segment/segment_columns_internal.h"

#include <stdlib.h>

/* What a Parquet file would bring back of a list. */
static void list_as_items(struct arena *arena, enum pdb_column_type type,
                          struct segment_value *value)
{
    struct doc_iter iter = doc_iterate(&value->list);
    struct doc_value item;
    size_t count = value->list.children.count;
    struct pdb_text *texts = arena_array(arena, struct pdb_text, count + 1);
    int64_t *integers = arena_array(arena, int64_t, count + 1);
    double *floats = arena_array(arena, double, count + 1);
    for (size_t i = 0; doc_next(&iter, NULL, &item); i++) {
        if (type == PDB_COLUMN_STRING_LIST)
            texts[i] = item.string;
        else if (type == PDB_COLUMN_INTEGER_LIST)
            integers[i] = item.integer;
        else
            floats[i] = segment_float_of(&item);
    }
    value->items.count = count;
    value->items.ptr = type == PDB_COLUMN_STRING_LIST    ? (void *)texts
                       : type == PDB_COLUMN_INTEGER_LIST ? (void *)integers
                                                         : (void *)floats;
}

/* Splits and joins; false if other bytes come back. json_out (may be NULL): what was left. */
static bool survives(struct segment_columns *c, struct pdb_text document, struct arena *arena,
                     struct segment_value *values, struct buffer *json)
{
    struct trail trail = {0};
    segment_columns_split(c, document, values);
    bool rest = segment_columns_rest(c, document, values, json);
    assert_false(json->failed);
    for (uint32_t i = 0; i < c->count; i++) {
        values[i].taken = false; /* not in a file */
        if (values[i].there && c->all[i].type >= PDB_COLUMN_STRING_LIST &&
            c->all[i].type <= PDB_COLUMN_FLOAT_LIST)
            list_as_items(arena, c->all[i].type, &values[i]);
    }
    struct pdb_text back, text = {json->ptr, json->len};
    int rc = segment_columns_join(c, rest ? &text : NULL, values, arena, &back, &trail);
    assert_int_equal(rc, 0);
    return text_equal(back, document);
}

static void every_document_comes_back_byte_for_byte(void **state)
{
    (void)state;
    enum { SEEDS = 300, DOCUMENTS = 60 };
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct rng rng;
        struct pdb_column columns[DOCS_NAMES];
        struct segment_value values[DOCS_NAMES];
        struct segment_columns c;
        rng_seed(&rng, seed);
        assert_int_equal(segment_columns_init(&c, NULL, columns, docs_columns(&rng, columns)), 0);
        for (int i = 0; i < DOCUMENTS; i++) {
            struct arena arena = {0};
            struct buffer json;
            buffer_init_heap(&json, NULL, 0);
            if (!survives(&c, docs_random(&rng, &arena), &arena, values, &json))
                fail_msg("seed %d, document %d: %.*s", (int)seed, i, (int)json.len, json.ptr);
            buffer_dispose(&json);
            arena_dispose(&arena);
        }
        segment_columns_dispose(&c);
    }
}

/* One document given as JSON against one column. */
struct one {
    const char *column;
    enum pdb_column_type type;
    bool there;
    const char *document, *rest; /* rest NULL: null */
};

static void check_one(const struct one *one)
{
    struct arena arena = {0};
    struct buffer json;
    struct segment_columns c;
    struct segment_value value;
    struct json_reader reader;
    struct pdb_text document;
    struct pdb_column column = {text_of(one->column), one->type};
    buffer_init_heap(&json, NULL, 0);
    struct doc_builder *b = doc_builder_new(&arena, 0);
    json_open(&reader, one->document, strlen(one->document), DOC_DEPTH_MAX, NULL);
    assert_int_equal(json_read_doc(&reader, b), 0);
    assert_int_equal(doc_builder_finish(b, &document, NULL), 0);
    assert_int_equal(segment_columns_init(&c, NULL, &column, 1), 0);
    assert_true(survives(&c, document, &arena, &value, &json));
    assert_int_equal(value.there, one->there);
    if (one->rest == NULL)
        assert_int_equal(json.len, 0);
    else if (!text_equal((struct pdb_text){json.ptr, json.len}, text_of(one->rest)))
        fail_msg("%s: %.*s", one->document, (int)json.len, json.ptr);
    segment_columns_dispose(&c);
    buffer_dispose(&json);
    arena_dispose(&arena);
}

static void only_what_a_column_gives_back_exactly_leaves_the_json(void **state)
{
    (void)state;
    static const struct one ones[] = {
        {"a", PDB_COLUMN_STRING, true, "{\"a\":\"x\"}", NULL},
        {"a", PDB_COLUMN_STRING, true, "{\"a\":\"x\",\"b\":1}", "{\"b\":1}"},
        {"a", PDB_COLUMN_STRING, false, "{\"b\":1}", "{\"b\":1}"},
        {"a", PDB_COLUMN_STRING, false, "{\"a\":null}", "{\"a\":null}"},
        {"a", PDB_COLUMN_STRING, false, "{\"a\":3}", "{\"a\":3}"},
        {"a", PDB_COLUMN_STRING, false, "{}", "{}"},
        {"a", PDB_COLUMN_FLOAT, true, "{\"a\":1.0}", NULL},
        {"a", PDB_COLUMN_FLOAT, true, "{\"a\":1}", "{\"a\":1}"},
        {"a", PDB_COLUMN_INTEGER, true, "{\"a\":1}", NULL},
        {"a", PDB_COLUMN_INTEGER, false, "{\"a\":1.0}", "{\"a\":1.0}"},
        {"a", PDB_COLUMN_DATETIME, true, "{\"a\":\"2026-01-31T12:00:00Z\"}", NULL},
        {"a", PDB_COLUMN_DATETIME, true, "{\"a\":\"2026-01-31T12:00:00.250Z\"}", NULL},
        {"a", PDB_COLUMN_DATETIME, true, "{\"a\":\"2026-01-31T12:00:00.000001Z\"}", NULL},
        {"a", PDB_COLUMN_DATETIME, true, "{\"a\":\"2026-01-31T12:00:00.0Z\"}",
         "{\"a\":\"2026-01-31T12:00:00.0Z\"}"},
        {"a", PDB_COLUMN_DATETIME, true, "{\"a\":\"2026-01-31T12:00:00+00:00\"}",
         "{\"a\":\"2026-01-31T12:00:00+00:00\"}"},
        {"a", PDB_COLUMN_DATETIME, false, "{\"a\":\"soon\"}", "{\"a\":\"soon\"}"},
        {"a", PDB_COLUMN_FLOAT_LIST, true, "{\"a\":[1.0,2.5]}", NULL},
        {"a", PDB_COLUMN_FLOAT_LIST, true, "{\"a\":[1.0,2]}", "{\"a\":[1.0,2]}"},
        {"a", PDB_COLUMN_FLOAT_LIST, true, "{\"a\":[]}", NULL},
        {"a", PDB_COLUMN_STRING_LIST, false, "{\"a\":[\"x\",null]}", "{\"a\":[\"x\",null]}"},
        {"a", PDB_COLUMN_GEO, true, "{\"a\":{\"lat\":1.5,\"lon\":2.5}}",
         "{\"a\":{\"lat\":1.5,\"lon\":2.5}}"},
        {"a.b", PDB_COLUMN_INTEGER, true, "{\"a\":{\"b\":1}}", "{\"a\":{}}"},
        {"a.b", PDB_COLUMN_INTEGER, true, "{\"a\":{\"b\":1,\"c\":2},\"b\":3}",
         "{\"a\":{\"c\":2},\"b\":3}"},
        {"a.b", PDB_COLUMN_INTEGER, true, "{\"a.b\":1}", "{\"a.b\":1}"},
        {"a.b.c", PDB_COLUMN_INTEGER, true, "{\"a\":{\"b\":{\"c\":1}},\"a.b\":2}",
         "{\"a\":{\"b\":{\"c\":1}},\"a.b\":2}"},
        {"a..b", PDB_COLUMN_INTEGER, true, "{\"a..b\":1}", "{\"a..b\":1}"},
    };
    for (size_t i = 0; i < sizeof(ones) / sizeof(ones[0]); i++)
        check_one(&ones[i]);
}

static void names_of_columns_never_meet_those_of_the_file(void **state)
{
    (void)state;
    static const char *const names[][2] = {{"price", "price"},
                                           {"id", "metadata.id"},
                                           {"Version", "metadata.Version"},
                                           {"vector", "metadata.vector"},
                                           {"vector_image", "metadata.vector_image"},
                                           {"vectors", "vectors"},
                                           {"metadata.id", "metadata.metadata.id"},
                                           {"metadata", "metadata.metadata"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct segment_columns c;
        struct pdb_column column = {text_of(names[i][0]), PDB_COLUMN_STRING};
        assert_int_equal(segment_columns_init(&c, NULL, &column, 1), 0);
        assert_string_equal(c.all[0].parquet_name, names[i][1]);
        segment_columns_dispose(&c);
    }
    struct segment_columns c;
    struct pdb_column with_nul = {{"a\0b", 3}, PDB_COLUMN_STRING};
    assert_int_equal(segment_columns_init(&c, NULL, &with_nul, 1), 0);
    assert_int_equal(c.count, 0);
    segment_columns_dispose(&c);
}

static void damaged_rests_are_refused(void **state)
{
    (void)state;
    static const char *const rests[] = {"", "[]", "1", "{\"a\":1", "{\"a\":1,\"a\":2}", "{}x"};
    struct segment_columns c;
    struct pdb_column column = {TEXT_LIT("a.b"), PDB_COLUMN_INTEGER};
    struct segment_value value = {.there = true, .integer = 5};
    assert_int_equal(segment_columns_init(&c, NULL, &column, 1), 0);
    for (size_t i = 0; i <= sizeof(rests) / sizeof(rests[0]); i++) {
        struct arena arena = {0};
        struct trail trail = {0};
        struct pdb_text json = {NULL, 0}, document;
        bool null = i == sizeof(rests) / sizeof(rests[0]); /* and the value has no object */
        if (!null)
            json = text_of(rests[i]);
        int rc = segment_columns_join(&c, null ? NULL : &json, &value, &arena, &document, &trail);
        assert_int_equal(rc, PDB_DATA_LOSS);
        assert_true(trail.len > 0);
        arena_dispose(&arena);
    }
    segment_columns_dispose(&c);
}

static void missing_memory_is_told(void **state)
{
    (void)state;
    struct pdb_column columns[] = {{TEXT_LIT("a.b"), PDB_COLUMN_INTEGER},
                                   {TEXT_LIT("c"), PDB_COLUMN_INTEGER}};
    uint64_t n = 1;
    for (;; n++) {
        struct heap heap = {.fail_at = n};
        struct segment_columns c;
        int rc = segment_columns_init(&c, &heap, columns, 2);
        segment_columns_dispose(&c);
        assert_int_equal(heap.bytes_used, 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
    }
    assert_int_equal(n, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_document_comes_back_byte_for_byte),
        cmocka_unit_test(only_what_a_column_gives_back_exactly_leaves_the_json),
        cmocka_unit_test(names_of_columns_never_meet_those_of_the_file),
        cmocka_unit_test(damaged_rests_are_refused),
        cmocka_unit_test(missing_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
