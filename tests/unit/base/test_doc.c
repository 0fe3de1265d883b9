/* Documents: what the builder makes is what validation accepts and reading finds. */
#include "base/doc.h"
#include "base/json.h"
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;

static int reset_arena(void **state)
{
    (void)state;
    arena_dispose(&arena);
    arena_init(&arena, 0);
    return 0;
}

static struct pdb_text doc_of(const char *json)
{
    struct json_reader r;
    struct trail trail = {0};
    struct pdb_text bytes = {NULL, 0};
    struct doc_builder *b = doc_builder_new(&arena, 0);
    assert_non_null(b);
    json_open(&r, json, strlen(json), 64, &trail);
    if (json_read_doc(&r, b) != 0 || json_finish(&r) != 0)
        fail_msg("%s: %s", json, trail.text);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), 0);
    assert_int_equal(doc_validate(bytes.ptr, bytes.len), 0);
    return bytes;
}

static const char *json_of(struct pdb_text bytes)
{
    struct buffer out;
    struct doc_value root = doc_root(bytes.ptr, bytes.len);
    buffer_init_arena(&out, &arena, 0);
    doc_write_json(&out, &root);
    buffer_add_byte(&out, '\0');
    assert_false(out.failed);
    return out.ptr;
}

static void assert_json(struct pdb_text bytes, const char *want)
{
    assert_string_equal(json_of(bytes), want);
}

static void every_kind_of_value_survives_json_to_document_to_json(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "null",
        "true",
        "false",
        "0",
        "63",
        "64",
        "-1",
        "127",
        "128",
        "-128",
        "-129",
        "32767",
        "32768",
        "-32768",
        "-32769",
        "2147483647",
        "2147483648",
        "-2147483648",
        "-2147483649",
        "9223372036854775807",
        "-9223372036854775808",
        "1.5",
        "1.0",
        "-0.0",
        "1e+300",
        "\"\"",
        "\"text\"",
        "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "\"\\u0000\\n\\\"\\\\\"",
        "[]",
        "{}",
        "[1,[2,[3,[]]],{}]",
        "{\"a\":1,\"b\":{\"c\":[true,null,\"x\"]},\"c\":2.5}",
        "{\"\":1,\"a\":2,\"aa\":3,\"b\":4}",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_json(doc_of(rows[i]), rows[i]);
}

static void the_example_of_the_format_page_is_what_is_made(void **state)
{
    (void)state;
    static const char want[] =
        "\x01\x0a\x0d\x02\x00\x05\x01\x61\x04\x2c\x01\x01\x62\x09\x01\x01\x02";
    struct pdb_text bytes = doc_of("{\"b\":[true],\"a\":300}");
    assert_int_equal(bytes.len, sizeof(want) - 1);
    assert_memory_equal(bytes.ptr, want, bytes.len);
}

static void integers_beyond_64_bits_become_doubles(void **state)
{
    (void)state;
    assert_json(doc_of("[9223372036854775808]"), "[9.223372036854776e+18]");
    assert_json(doc_of("[-123456789012345678901234567890]"), "[-1.2345678901234568e+29]");
}

static void keys_are_sorted_whatever_order_they_come_in(void **state)
{
    (void)state;
    struct pdb_text a = doc_of("{\"zeta\":1,\"a\":{\"y\":1,\"x\":2},\"m\":[1]}");
    struct pdb_text b = doc_of("{\"m\":[1],\"a\":{\"x\":2,\"y\":1},\"zeta\":1}");
    assert_json(a, "{\"a\":{\"x\":2,\"y\":1},\"m\":[1],\"zeta\":1}");
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.ptr, b.ptr, a.len);
}

/* Table widths 1, 2 and 4, insertion and heap sort. */
static void objects_of_any_size_are_sorted_and_searched(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 16, 17, 40, 300, 3000, 20000};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        uint32_t count = counts[i];
        struct doc_builder *b = doc_builder_new(&arena, 0);
        assert_int_equal(doc_begin_object(b), 0);
        for (uint32_t n = 0; n < count; n++) {
            char key[32];
            uint32_t shuffled =
                (uint32_t)((uint64_t)n * 7919 % count); /* a permutation: 7919 is prime */
            int len = snprintf(key, sizeof(key), "key%u", shuffled);
            assert_int_equal(doc_add_key(b, (struct pdb_text){key, (size_t)len}), 0);
            assert_int_equal(doc_add_int(b, shuffled), 0);
        }
        assert_int_equal(doc_end(b), 0);
        struct pdb_text bytes;
        assert_int_equal(doc_builder_finish(b, &bytes, NULL), 0);
        assert_int_equal(doc_validate(bytes.ptr, bytes.len), 0);
        struct doc_value root = doc_root(bytes.ptr, bytes.len), value;
        for (uint32_t n = 0; n < count; n++) {
            char key[32];
            int len = snprintf(key, sizeof(key), "key%u", n);
            assert_true(doc_get(&root, (struct pdb_text){key, (size_t)len}, &value));
            assert_int_equal(value.type, DOC_INT);
            assert_int_equal(value.integer, n);
            assert_false(
                doc_get(&root, (struct pdb_text){key, (size_t)len - 1 + (n == 0)}, &value) &&
                value.integer == n && n != 0);
        }
        assert_false(doc_get(&root, TEXT_LIT("key"), &value));
        assert_false(doc_get(&root, TEXT_LIT("zzz"), &value));
        struct doc_iter iter = doc_iterate(&root);
        struct pdb_text key, last = {NULL, 0};
        uint32_t seen = 0;
        for (; doc_next(&iter, &key, &value); seen++, last = key)
            assert_true(seen == 0 || text_compare(last, key) < 0);
        assert_int_equal(seen, count);
    }
}

static void a_duplicate_key_is_refused_at_any_distance(void **state)
{
    (void)state;
    static const char *const rows[] = {"{\"a\":1,\"a\":2}", "{\"a\":1,\"b\":2,\"a\":3}",
                                       "{\"x\":{\"b\":1,\"a\":2,\"b\":3}}",
                                       "{\"a\":1,\"\\u0061\":2}", "{\"\":1,\"\":2}"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct json_reader r;
        struct trail trail = {0};
        json_open(&r, rows[i], strlen(rows[i]), 64, &trail);
        assert_int_equal(json_read_doc(&r, doc_builder_new(&arena, 0)), PDB_INVALID_ARGUMENT);
        assert_non_null(strstr(trail.text, "duplicate key"));
    }
}

static void the_builder_refuses_events_out_of_order(void **state)
{
    (void)state;
    struct pdb_text bytes;
    const char *what = NULL;
    struct doc_builder *b = doc_builder_new(&arena, 100);
    assert_int_equal(doc_builder_finish(b, &bytes, &what), PDB_INVALID_ARGUMENT);
    assert_string_equal(what, "no value");
    assert_int_equal(doc_add_key(b, TEXT_LIT("a")), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_add_null(b), PDB_INVALID_ARGUMENT); /* sticks */
    assert_int_equal(doc_builder_finish(b, &bytes, &what), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_add_null(b), 0); /* and is forgotten by finish */
    assert_int_equal(doc_add_null(b), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_begin_object(b), 0);
    assert_int_equal(doc_add_null(b), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_begin_object(b), 0);
    assert_int_equal(doc_add_key(b, TEXT_LIT("a")), 0);
    assert_int_equal(doc_end(b), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_begin_array(b), 0);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_end(b), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_add_float(b, (double)NAN), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_add_string(b, TEXT_LIT("\xff")), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), PDB_INVALID_ARGUMENT);
}

static void a_document_may_be_as_large_as_its_limit_and_no_larger(void **state)
{
    (void)state;
    static const char text[] = "[\"0123456789\",12345678901]"; /* 1 + 3 + 11 + 9 */
    for (size_t max = 1; max < 30; max++) {
        struct json_reader r;
        struct trail trail = {0};
        json_open(&r, text, strlen(text), 64, &trail);
        struct doc_builder *b = doc_builder_new(&arena, max);
        struct pdb_text bytes;
        int rc = json_read_doc(&r, b);
        assert_int_equal(rc, max < 24 ? PDB_INVALID_ARGUMENT : 0);
        if (rc != 0)
            assert_non_null(strstr(trail.text, "document too large"));
        else
            assert_int_equal(doc_builder_finish(b, &bytes, NULL), 0);
    }
}

static void sixty_four_levels_are_allowed_and_one_more_is_not(void **state)
{
    (void)state;
    struct doc_builder *b = doc_builder_new(&arena, 0);
    struct pdb_text bytes;
    for (int i = 0; i < DOC_DEPTH_MAX; i++)
        assert_int_equal(doc_begin_array(b), 0);
    for (int i = 0; i < DOC_DEPTH_MAX; i++)
        assert_int_equal(doc_end(b), 0);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), 0);
    assert_int_equal(doc_validate(bytes.ptr, bytes.len), 0);
    assert_int_equal(strlen(json_of(bytes)), 2 * DOC_DEPTH_MAX);
    struct doc_value deepest = doc_root(bytes.ptr, bytes.len);
    assert_true(doc_equal(&deepest, &deepest));
    for (int i = 0; i < DOC_DEPTH_MAX; i++)
        assert_int_equal(doc_begin_array(b), 0);
    assert_int_equal(doc_begin_array(b), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), PDB_INVALID_ARGUMENT);
    /* a copy counts with its own depth */
    assert_int_equal(doc_begin_array(b), 0);
    assert_int_equal(doc_add_value(b, &deepest), PDB_INVALID_ARGUMENT);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), PDB_INVALID_ARGUMENT);
    /* and validation refuses what the builder would not make */
    unsigned char deep[300];
    size_t at = sizeof(deep), body = 0;
    for (int i = 0; i < DOC_DEPTH_MAX + 1; i++) {
        deep[--at] = i == 0 ? 0 : 1;
        if (body >= 128)
            deep[--at] = (unsigned char)(body >> 7);
        deep[--at] = (unsigned char)(body >= 128 ? (body & 127) | 128 : body);
        deep[--at] = 0x09;
        body = sizeof(deep) - at;
    }
    deep[--at] = 1;
    assert_int_equal(doc_validate(deep + at, sizeof(deep) - at), PDB_DATA_LOSS);
}

static void paths_descend_and_a_key_with_dots_wins(void **state)
{
    (void)state;
    struct pdb_text bytes =
        doc_of("{\"a\":{\"b\":{\"c\":1},\"b.c\":2,\"d\":7},\"a.b\":{\"x\":3},"
               "\"a.b.c.d\":4,\"\":{\"\":8,\"e\":9},\"p\":{\"q.r\":{\"s\":5}},\"l\":[{\"m\":1}]}");
    struct doc_value root = doc_root(bytes.ptr, bytes.len), value;
    static const struct {
        const char *path;
        int64_t value; /* -1: not found */
    } rows[] = {
        {"a.b.c.d", 4},  {"a.b.c", 2}, {"a.b.x", 3}, {"a.d", 7},        {"p.q.r.s", 5},
        {"a.b.c.e", -1}, {"a.", -1},   {".a", -1},   {"q", -1},         {"l.m", -1},
        {"..", -1},      {"a..b", -1}, {"p.q", -1},  {"p.q.r.s.t", -1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool found = doc_find(&root, text_of(rows[i].path), &value);
        if (found != (rows[i].value >= 0))
            fail_msg("%s", rows[i].path);
        if (found)
            assert_int_equal(value.integer, rows[i].value);
    }
    assert_true(doc_find(&root, TEXT_LIT(""), &value));
    assert_int_equal(value.type, DOC_OBJECT);
    assert_true(doc_find(&root, TEXT_LIT("a.b"), &value));
    assert_true(doc_get(&value, TEXT_LIT("x"), &value));
}

static void equality_is_by_value_and_exact(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool equal;
    } rows[] = {
        {"1", "1.0", true},
        {"9007199254740993", "9007199254740992.0", false},
        {"9007199254740992", "9007199254740992.0", true},
        {"9223372036854775807", "9223372036854775808.0", false},
        {"-9223372036854775808", "-9223372036854775808.0", true},
        {"0", "-0.0", true},
        {"[1,2,3]", "[1,2.0,3]", true},
        {"[1,2,3]", "[1,2,4]", false},
        {"[1,2,3]", "[1,2]", false},
        {"{\"a\":{\"b\":[1,{\"c\":1}]},\"z\":1}", "{\"a\":{\"b\":[1.0,{\"c\":1.0}]},\"z\":1}",
         true},
        {"{\"a\":{\"b\":[1,{\"c\":1}]},\"z\":1}", "{\"a\":{\"b\":[1.0,{\"c\":1.0}]},\"z\":2}",
         false},
        {"{\"a\":1}", "{\"b\":1}", false},
        {"{\"a\":1.0,\"c\":1}", "{\"a\":1,\"b\":1}", false},
        {"{}", "[]", false},
        {"\"1\"", "1", false},
        {"null", "false", false},
        {"true", "false", false},
        {"[]", "[]", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pdb_text a = doc_of(rows[i].a), b = doc_of(rows[i].b);
        struct doc_value x = doc_root(a.ptr, a.len), y = doc_root(b.ptr, b.len);
        if (doc_equal(&x, &y) != rows[i].equal || doc_equal(&y, &x) != rows[i].equal)
            fail_msg("%s %s", rows[i].a, rows[i].b);
    }
}

static void an_empty_text_is_an_empty_object(void **state)
{
    (void)state;
    assert_int_equal(doc_validate(NULL, 0), 0);
    struct doc_value root = doc_root(NULL, 0), value;
    assert_int_equal(root.type, DOC_OBJECT);
    assert_false(doc_get(&root, TEXT_LIT("a"), &value));
    struct doc_iter iter = doc_iterate(&root);
    assert_false(doc_next(&iter, NULL, &value));
    assert_json((struct pdb_text){NULL, 0}, "{}");
}

static void merging_is_deep_and_unset_removes(void **state)
{
    (void)state;
    static const struct {
        const char *base, *patch, *unset, *want;
    } rows[] = {
        {"{\"a\":1,\"b\":2}", "{\"b\":3,\"c\":4}", NULL, "{\"a\":1,\"b\":3,\"c\":4}"},
        {"{\"a\":{\"x\":1,\"y\":2}}", "{\"a\":{\"y\":{\"z\":1}}}", NULL,
         "{\"a\":{\"x\":1,\"y\":{\"z\":1}}}"},
        {"{\"a\":[1,2]}", "{\"a\":[3]}", NULL, "{\"a\":[3]}"},
        {"{\"a\":{\"x\":1}}", "{\"a\":null}", NULL, "{\"a\":null}"},
        {"{\"a\":1}", "{\"a\":{\"x\":1}}", NULL, "{\"a\":{\"x\":1}}"},
        {"{\"a\":{\"x\":1,\"y\":2},\"b\":1}", "{}", "a.x", "{\"a\":{\"y\":2},\"b\":1}"},
        {"{\"a\":{\"x\":1}}", "{}", "a.x", "{\"a\":{}}"},
        {"{\"a\":{\"x\":{\"y\":1,\"z\":2}},\"b\":1}", "{}", "a.x.z",
         "{\"a\":{\"x\":{\"y\":1}},\"b\":1}"},
        {"{\"a.x\":1,\"a\":{\"x\":2}}", "{}", "a.x", "{\"a\":{\"x\":2}}"},
        {"{\"a\":1}", "{\"b\":2}", "b", "{\"a\":1}"},
        {"{\"a\":1}", "{}", "q.r", "{\"a\":1}"},
        {"{}", "{}", NULL, "{}"},
        {"{\"a\":1}", "[1]", NULL, "[1]"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pdb_text bytes, unset = {NULL, 0};
        if (rows[i].unset != NULL)
            unset = text_of(rows[i].unset);
        assert_int_equal(doc_merge(&arena, doc_of(rows[i].base), doc_of(rows[i].patch), &unset,
                                   rows[i].unset != NULL, &bytes),
                         0);
        assert_int_equal(doc_validate(bytes.ptr, bytes.len), 0);
        assert_json(bytes, rows[i].want);
    }
    struct pdb_text bytes, empty = {NULL, 0};
    assert_int_equal(doc_merge(&arena, empty, doc_of("{\"a\":1}"), NULL, 0, &bytes), 0);
    assert_json(bytes, "{\"a\":1}");
    assert_int_equal(doc_merge(&arena, bytes, empty, NULL, 0, &bytes), 0);
    assert_json(bytes, "{\"a\":1}");
}

/* Reads everything there is, so that a sanitizer sees any step outside. */
static uint64_t read_all(struct pdb_text bytes)
{
    uint64_t sum = 0;
    struct doc_iter open[DOC_DEPTH_MAX];
    unsigned depth = 0;
    struct doc_value value = doc_root(bytes.ptr, bytes.len), member;
    struct pdb_text key;
    for (;;) {
        if (value.type == DOC_ARRAY || value.type == DOC_OBJECT)
            open[depth++] = doc_iterate(&value);
        if (value.type == DOC_STRING) {
            for (size_t i = 0; i < value.string.len; i++)
                sum += (unsigned char)value.string.ptr[i];
        }
        (void)doc_get(&value, TEXT_LIT("b"), &member);
        while (depth > 0 && !doc_next(&open[depth - 1], &key, &value))
            depth--;
        if (depth == 0)
            return sum;
    }
}

/* What a random change leaves valid must be readable, and be what the builder makes of it. */
static void check_mutant(const unsigned char *bytes, size_t len)
{
    /* a block of its own size: a read behind it is seen */
    struct arena copy_arena;
    arena_init(&copy_arena, 0);
    char *copy = arena_alloc(&copy_arena, len);
    memcpy(copy, bytes, len);
    if (doc_validate(copy, len) == 0 && len != 0) {
        struct pdb_text text = {copy, len}, again;
        (void)read_all(text);
        struct doc_value root = doc_root(copy, len);
        struct json_reader r;
        struct buffer json;
        buffer_init_arena(&json, &copy_arena, 0);
        doc_write_json(&json, &root);
        struct doc_builder *b = doc_builder_new(&copy_arena, 0);
        json_open(&r, json.ptr, json.len, 64, NULL);
        assert_int_equal(json_read_doc(&r, b), 0);
        assert_int_equal(doc_builder_finish(b, &again, NULL), 0);
        assert_int_equal(again.len, len);
        assert_memory_equal(again.ptr, copy, len);
    }
    arena_dispose(&copy_arena);
}

static const char sample[] = "{\"title\":\"na\xc3\xafve\",\"price\":12.99,\"stock\":300,\"b\":{"
                             "\"c\":[1,-2,70000,5000000000,true,null],"
                             "\"d\":\"\",\"e\":{}},\"tags\":[\"x\",\"yy\",\"zzz\"],\"long\":"
                             "\"0123456789012345678901234567890123456789"
                             "012345678901234567890123456789012345678901234567890123456789012345678"
                             "9012345678901234567890123\"}";

static void every_changed_byte_is_refused_or_readable(void **state)
{
    (void)state;
    struct pdb_text bytes = doc_of(sample);
    unsigned char copy[1024];
    assert_true(bytes.len < sizeof(copy));
    for (size_t i = 0; i < bytes.len; i++) {
        for (unsigned change = 1; change < 256; change++) {
            memcpy(copy, bytes.ptr, bytes.len);
            copy[i] ^= (unsigned char)change;
            check_mutant(copy, bytes.len);
        }
    }
    struct rng rng;
    rng_seed(&rng, 7);
    for (int round = 0; round < 20000; round++) {
        memcpy(copy, bytes.ptr, bytes.len);
        for (uint64_t changes = 1 + rng_below(&rng, 4); changes > 0; changes--)
            copy[rng_below(&rng, bytes.len)] = (unsigned char)rng_below(&rng, 256);
        check_mutant(copy, 1 + rng_below(&rng, bytes.len));
    }
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct pdb_text bytes = doc_of(sample);
    for (size_t len = 1; len < bytes.len; len++)
        assert_int_equal(doc_validate(bytes.ptr, len), PDB_DATA_LOSS);
    char longer[1024];
    memcpy(longer, bytes.ptr, bytes.len);
    longer[bytes.len] = 0;
    assert_int_equal(doc_validate(longer, bytes.len + 1), PDB_DATA_LOSS);
}

static void encodings_that_the_builder_would_not_choose_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
#define ROW(literal) {literal, sizeof(literal) - 1}
        ROW("\x02\x00"),                 /* another version */
        ROW("\x01"),                     /* no value */
        ROW("\x01\x03\x05"),             /* 5 as an int8 */
        ROW("\x01\x04\x7f\x00"),         /* 127 as an int16 */
        ROW("\x01\x05\xff\xff\xff\xff"), /* -1 as an int32 */
        ROW("\x01\x06\x00\x00\x00\x00\x00\x00\x00\x00"),
        ROW("\x01\x07\x00\x00\x00\x00\x00\x00\xf0\x7f"), /* infinity */
        ROW("\x01\x07\x00\x00\x00\x00\x00\x00\xf8\x7f"), /* NaN */
        ROW("\x01\x08\x01x"),                            /* a short string in the long form */
        ROW("\x01\x81\xff"),                             /* not UTF-8 */
        ROW("\x01\x09\x80\x00\x00"),                     /* a varint with a zero behind */
        ROW("\x01\x09\x01\x00\x00"),                     /* a body that no element uses */
        ROW("\x01\x0a\x04\x01\x01\x01\x61\x00"),         /* an offset that is not 0 */
        ROW("\x01\x0a\x08\x02\x00\x03\x01\x62\x00\x01\x61\x00"), /* keys out of order */
        ROW("\x01\x0a\x08\x02\x00\x03\x01\x61\x00\x01\x61\x00"), /* a key twice */
        ROW("\x01\x0b"),
        ROW("\x01\x3f"),
#undef ROW
    };
    assert_int_equal(doc_validate("\x01\x0a\x08\x02\x00\x03\x01\x61\x00\x01\x62\x00", 12), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (doc_validate(rows[i].bytes, rows[i].len) != PDB_DATA_LOSS)
            fail_msg("row %zu", i);
    }
}

static void a_failed_allocation_is_told_and_changes_nothing(void **state)
{
    (void)state;
    struct pdb_text base = doc_of(sample), patch = doc_of("{\"b\":{\"q\":1},\"a\":\"more\"}");
    struct pdb_text unset = TEXT_LIT("b.c");
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        struct arena scarce;
        arena_init(&scarce, 0);
        scarce.fail_at = n;
        struct pdb_text bytes = {NULL, 7};
        int rc = doc_merge(&scarce, base, patch, &unset, 1, &bytes);
        if (rc == 0)
            assert_int_equal(doc_validate(bytes.ptr, bytes.len), 0);
        else
            assert_int_equal(bytes.len, 7);
        arena_dispose(&scarce);
        if (rc == 0)
            break;
        assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
        failures++;
    }
    assert_true(failures >= 3);
    failures = 0;
    for (uint64_t n = 1;; n++) {
        struct arena scarce;
        struct json_reader r;
        struct pdb_text bytes;
        arena_init(&scarce, 0);
        scarce.fail_at = n;
        struct doc_builder *b = doc_builder_new(&scarce, 0);
        int rc = PDB_RESOURCE_EXHAUSTED;
        if (b != NULL) {
            json_open(&r, sample, strlen(sample), 64, NULL);
            rc = json_read_doc(&r, b);
            rc = rc < 0 ? rc : doc_builder_finish(b, &bytes, NULL);
        }
        arena_dispose(&scarce);
        if (rc == 0)
            break;
        assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
        failures++;
    }
    assert_true(failures >= 3);
}

/* A random document by events, and the same as text by hand: two roads that must meet. */
static void random_documents_survive_the_round_trip(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 8);
    for (int round = 0; round < 2000; round++) {
        struct doc_builder *b = doc_builder_new(&arena, 0);
        unsigned depth = 1, made = 0;
        bool objects[16] = {true};
        assert_int_equal(doc_begin_object(b), 0);
        while (depth > 0) {
            uint64_t choice = rng_below(&rng, 10);
            if (choice == 0 || made > 200) {
                assert_int_equal(doc_end(b), 0);
                depth--;
                continue;
            }
            char key[16];
            int len = snprintf(key, sizeof(key), "%x%u", (unsigned)rng_below(&rng, 99999), made++);
            struct pdb_text text = {key, (size_t)len};
            if (objects[depth - 1])
                assert_int_equal(doc_add_key(b, text), 0);
            if (choice < 3 && depth < 16) {
                objects[depth++] = choice == 1;
                assert_int_equal(choice == 1 ? doc_begin_object(b) : doc_begin_array(b), 0);
            } else if (choice < 5) {
                assert_int_equal(doc_add_string(b, text), 0);
            } else if (choice < 8) {
                assert_int_equal(doc_add_int(b, (int64_t)(rng_next(&rng) >> rng_below(&rng, 64))),
                                 0);
            } else {
                assert_int_equal(doc_add_float(b, rng_normal(&rng)), 0);
            }
        }
        struct pdb_text bytes;
        assert_int_equal(doc_builder_finish(b, &bytes, NULL), 0);
        assert_int_equal(doc_validate(bytes.ptr, bytes.len), 0);
        struct pdb_text again = doc_of(json_of(bytes));
        assert_int_equal(again.len, bytes.len);
        assert_memory_equal(again.ptr, bytes.ptr, bytes.len);
        arena_reset(&arena);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, reset_arena, reset_arena)
    const struct CMUnitTest tests[] = {
        TEST(every_kind_of_value_survives_json_to_document_to_json),
        TEST(the_example_of_the_format_page_is_what_is_made),
        TEST(integers_beyond_64_bits_become_doubles),
        TEST(keys_are_sorted_whatever_order_they_come_in),
        TEST(objects_of_any_size_are_sorted_and_searched),
        TEST(a_duplicate_key_is_refused_at_any_distance),
        TEST(the_builder_refuses_events_out_of_order),
        TEST(a_document_may_be_as_large_as_its_limit_and_no_larger),
        TEST(sixty_four_levels_are_allowed_and_one_more_is_not),
        TEST(paths_descend_and_a_key_with_dots_wins),
        TEST(equality_is_by_value_and_exact),
        TEST(an_empty_text_is_an_empty_object),
        TEST(merging_is_deep_and_unset_removes),
        TEST(every_changed_byte_is_refused_or_readable),
        TEST(every_truncation_is_refused),
        TEST(encodings_that_the_builder_would_not_choose_are_refused),
        TEST(a_failed_allocation_is_told_and_changes_nothing),
        TEST(random_documents_survive_the_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
