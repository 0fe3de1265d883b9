/* Tests src/transport/codec/json_requests.c, json_write.c and json_fields.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base64.h"
#include "transport/codec/json_requests.h"

struct fixture {
    struct arena arena;
    struct trail trail;
    struct json_decoder decoder;
};

static struct json_decoder *open_body(struct fixture *f, const char *body)
{
    arena_init(&f->arena, 0);
    trail_reset(&f->trail);
    json_decoder_open(&f->decoder, &f->arena, &api_limits_default, text_of(body), &f->trail);
    return &f->decoder;
}

static void close_body(struct fixture *f)
{
    arena_dispose(&f->arena);
}

static void assert_text(struct pdb_text text, const char *expected)
{
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.ptr, expected, text.len);
}

/* Decodes a whole write; the result of the last step. */
static int decode_write(struct json_write_decoder *w, struct fixture *f, enum pdb_write_kind kind,
                        const char *body)
{
    arena_init(&f->arena, 0);
    trail_reset(&f->trail);
    json_write_decoder_open(w, kind, &f->arena, &api_limits_default, text_of(body), &f->trail);
    int rc;
    do
        rc = json_write_decoder_step(w);
    while (rc > 0);
    return rc;
}

static void a_collection_with_top_level_dimension_has_one_default_field(void **state)
{
    (void)state;
    struct fixture f;
    struct pdb_collection_config c;
    assert_int_equal(
        json_decode_collection(open_body(&f, "{\"name\":\"a\",\"dimension\":3,\"metric\":"
                                             "\"cosine\",\"index\":{\"type\":\"auto\"},"
                                             "\"columns\":[{\"name\":\"p\",\"type\":\"float[]\"}],"
                                             "\"sync\":\"batch\",\"ttl_s\":null}"),
                               &c),
        0);
    assert_int_equal(c.field_count, 1);
    assert_int_equal(c.fields[0].dimension, 3);
    assert_int_equal(c.fields[0].metric, PDB_METRIC_COSINE);
    assert_int_equal(c.fields[0].name.len, 0);
    assert_int_equal(c.column_count, 1);
    assert_int_equal(c.columns[0].type, PDB_COLUMN_FLOAT_LIST);
    assert_int_equal(c.sync, PDB_SYNC_BATCH);
    close_body(&f);
}

static void named_fields_and_a_top_level_dimension_exclude_each_other(void **state)
{
    (void)state;
    struct fixture f;
    struct pdb_collection_config c;
    assert_int_equal(json_decode_collection(
                         open_body(&f, "{\"name\":\"a\",\"dimension\":3,\"fields\":[{\"name\":"
                                       "\"i\",\"dimension\":2,\"metric\":\"dot\"}]}"),
                         &c),
                     PDB_INVALID_ARGUMENT);
    assert_string_equal(f.trail.text, "either dimension and metric, or fields: not both");
    close_body(&f);
}

static void storage_settings_are_read_where_they_are_given(void **state)
{
    (void)state;
    struct fixture f;
    struct pdb_collection_config c;
    assert_int_equal(
        json_decode_collection(open_body(&f, "{\"name\":\"a\",\"dimension\":3,\"metric\":\"dot\","
                                             "\"storage\":{\"compression\":\"zstd\",\"vectors\":"
                                             "\"disk\",\"version_retention_s\":60}}"),
                               &c),
        0);
    assert_int_equal(c.compression, PDB_COMPRESSION_ZSTD);
    assert_int_equal(c.vector_storage, PDB_VECTORS_DISK);
    assert_int_equal(c.version_retention_s, 60);
    close_body(&f);

    static const struct {
        const char *body;
        bool has_compression, has_vector_storage, has_version_retention;
    } updates[] = {
        {"{}", false, false, false},
        {"{\"storage\":{}}", false, false, false},
        {"{\"storage\":{\"compression\":\"lz4\"}}", true, false, false},
        {"{\"storage\":{\"vectors\":\"mmap\"}}", false, true, false},
        {"{\"storage\":{\"version_retention_s\":0}}", false, false, true},
    };
    for (size_t i = 0; i < sizeof(updates) / sizeof(updates[0]); i++) {
        struct pdb_collection_update u = {.ttl_s = 0};
        assert_int_equal(json_decode_collection_update(open_body(&f, updates[i].body), &u), 0);
        assert_int_equal(u.has_compression, updates[i].has_compression);
        assert_int_equal(u.has_vector_storage, updates[i].has_vector_storage);
        assert_int_equal(u.has_version_retention, updates[i].has_version_retention);
        assert_true(!u.has_compression || u.compression == PDB_COMPRESSION_LZ4);
        assert_true(!u.has_vector_storage || u.vector_storage == PDB_VECTORS_MMAP);
        close_body(&f);
    }
}

struct bad_body {
    const char *body, *text;
};

static void bad_storage_says_where_and_what(void **state)
{
    (void)state;
    static const struct bad_body rows[] = {
        {"{\"storage\":{\"compression\":\"gzip\"}}",
         "storage.compression: 'gzip' is not one of none, snappy, lz4, zstd"},
        {"{\"storage\":{\"compression\":\"\"}}", "storage.compression: '' is not one of"},
        {"{\"storage\":{\"compression\":null}}", "expected a string"},
        {"{\"storage\":{\"vectors\":\"tape\"}}",
         "storage.vectors: 'tape' is not one of memory, mmap, disk"},
        {"{\"storage\":{\"version_retention_s\":-1}}", "byte"},
        {"{\"storage\":{\"version_retention_s\":1.5}}", "byte"},
        {"{\"storage\":{\"version_retention\":1}}", "unknown field 'version_retention'"},
        {"{\"storage\":[]}", "expected an object"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture f;
        struct pdb_collection_update u = {.ttl_s = 0};
        assert_int_equal(json_decode_collection_update(open_body(&f, rows[i].body), &u),
                         PDB_INVALID_ARGUMENT);
        if (strstr(f.trail.text, rows[i].text) == NULL)
            fail_msg("%s: '%s' does not say '%s'", rows[i].body, f.trail.text, rows[i].text);
        close_body(&f);
    }
}

static void a_get_may_name_a_version(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int rc;
        bool has_as_of;
        uint64_t as_of;
    } rows[] = {
        {"{\"ids\":[\"a\"]}", 0, false, 0},
        {"{\"ids\":[\"a\"],\"as_of\":null}", 0, false, 0},
        {"{\"ids\":[\"a\"],\"as_of\":0}", 0, true, 0},
        {"{\"ids\":[\"a\"],\"as_of\":18446744073709551615}", 0, true, UINT64_MAX},
        {"{\"ids\":[\"a\"],\"as_of\":18446744073709551616}", PDB_INVALID_ARGUMENT, true, 0},
        {"{\"ids\":[\"a\"],\"as_of\":\"7\"}", PDB_INVALID_ARGUMENT, true, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture f;
        struct pdb_get g = {.id_count = 0};
        assert_int_equal(json_decode_get(open_body(&f, rows[i].body), &g), rows[i].rc);
        assert_true(rows[i].rc != 0 ||
                    (g.has_as_of == rows[i].has_as_of && g.as_of == rows[i].as_of));
        close_body(&f);
    }
}

static void bad_searches_say_where_and_what(void **state)
{
    (void)state;
    static const struct bad_body rows[] = {
        {"", "byte 0"},
        {"{", "byte 1"},
        {"{\"k\":1}", "exactly one of vector and id must be given"},
        {"{\"vector\":[1],\"id\":\"a\"}", "exactly one of vector and id must be given"},
        {"{\"vector\":[1],\"limit\":3}", "unknown field 'limit'"},
        {"{\"vector\":[1],\"k\":1,\"k\":2}", "field 'k' is given twice"},
        {"{\"vector\":[1,\"2\"]}", "byte 13"},
        {"{\"vector\":[1e999]}", "byte"},
        {"{\"vector\":[1],\"k\":-1}", "byte"},
        {"{\"vector\":[1],\"k\":4294967296}", "too large"},
        {"{\"vector\":[1],\"include\":[\"colour\"]}",
         "'colour' is not one of metadata, vectors, times"},
        {"{\"vector\":[1],\"filter\":[]}", "expected an object"},
        {"{\"vector\":[1],\"filter\":{\"a\":1,\"a\":2}}", "byte"},
        {"{\"vector\":[1]} x", "byte 15"},
        {"{\"vector\":[1],\"field\":\"\xff\"}", "byte 23"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture f;
        struct pdb_query q;
        assert_int_equal(json_decode_search(open_body(&f, rows[i].body), &q), PDB_INVALID_ARGUMENT);
        if (strstr(f.trail.text, rows[i].text) == NULL)
            fail_msg("%s: '%s' does not say '%s'", rows[i].body, f.trail.text, rows[i].text);
        close_body(&f);
    }
}

static void a_search_has_its_defaults(void **state)
{
    (void)state;
    struct fixture f;
    struct pdb_query q;
    assert_int_equal(json_decode_search(open_body(&f, "{\"vector\":[0.5,-1],\"filter\":null,\"min_"
                                                      "score\":null,\"params\":{\"exact\":true}}"),
                                        &q),
                     0);
    assert_int_equal(q.k, 10);
    assert_int_equal(q.vector.count, 2);
    assert_true(((const float *)q.vector.values)[1] == -1.0f);
    assert_int_equal(q.include, PDB_INCLUDE_METADATA);
    assert_true(q.exact);
    assert_false(q.has_min_score);
    close_body(&f);
}

static void a_write_keeps_ids_vectors_metadata_and_conditions(void **state)
{
    (void)state;
    struct fixture f;
    struct json_write_decoder w;
    assert_int_equal(decode_write(&w, &f, PDB_WRITE_UPSERT,
                                  "{\"vectors\":[{\"id\":\"a\",\"vector\":[1,2],\"metadata\":{"
                                  "\"x\":1},\"if_version\":0,\"expires_at\":5},"
                                  "{\"vectors\":{\"image\":[1,2,3],\"text\":[4]},\"expires_at\":"
                                  "\"1970-01-01T00:00:01Z\"}],\"request_id\":\"r\"}"),
                     0);
    assert_int_equal(w.count, 2);
    assert_text(w.request_id, "r");
    assert_text(w.records[0].id, "a");
    assert_int_equal(w.records[0].vector_count, 1);
    assert_true(w.records[0].has_if_version && w.records[0].if_version == 0);
    assert_true(w.records[0].has_expires_at && w.records[0].expires_at_us == 5);
    assert_true(w.records[0].has_metadata);
    assert_int_equal(w.records[1].id.len, 0);
    assert_int_equal(w.records[1].vector_count, 2);
    assert_text(w.records[1].vectors[0].field, "image");
    assert_int_equal(w.records[1].vectors[0].count, 3);
    assert_int_equal(w.records[1].vectors[1].count, 1);
    assert_true(w.records[1].expires_at_us == 1000000);
    close_body(&f);
}

/* The length of the last vector is the guess for the next: longer and shorter ones must come out
 * whole. */
static void vectors_of_changing_length_come_out_whole(void **state)
{
    (void)state;
    struct fixture f;
    struct json_write_decoder w;
    assert_int_equal(decode_write(&w, &f, PDB_WRITE_UPSERT,
                                  "{\"vectors\":[{\"vector\":[1]},{\"vector\":[1,2,3,4,5]},{"
                                  "\"vector\":[]},{\"vector\":[9,8]}]}"),
                     0);
    static const uint32_t counts[] = {1, 5, 0, 2};
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(w.records[i].vectors[0].count, counts[i]);
    assert_true(((const float *)w.records[1].vectors[0].values)[4] == 5.0f);
    assert_true(((const float *)w.records[3].vectors[0].values)[1] == 8.0f);
    close_body(&f);
}

static void unset_belongs_to_updates_only(void **state)
{
    (void)state;
    static const char body[] =
        "{\"vectors\":[{\"id\":\"a\",\"unset\":[\"x.y\"],\"unset_vectors\":[\"image\"]}]}";
    struct fixture f;
    struct json_write_decoder w;
    assert_int_equal(decode_write(&w, &f, PDB_WRITE_UPDATE, body), 0);
    assert_text(w.records[0].unset[0], "x.y");
    assert_text(w.records[0].unset_vectors[0], "image");
    close_body(&f);
    assert_int_equal(decode_write(&w, &f, PDB_WRITE_UPSERT, body), PDB_INVALID_ARGUMENT);
    assert_non_null(strstr(f.trail.text, "unknown field 'unset'"));
    close_body(&f);
}

static void a_packed_batch_points_into_its_decoded_bytes(void **state)
{
    (void)state;
    struct fixture f;
    struct json_write_decoder w;
    /* [1, 2] and [3, 4] as float32 */
    assert_int_equal(
        decode_write(
            &w, &f, PDB_WRITE_UPSERT,
            "{\"packed\":{\"ids\":[\"a\",\"b\"],\"vectors\":\"AACAPwAAAEAAAEBAAACAQA==\"}}"),
        0);
    assert_int_equal(w.count, 2);
    assert_text(w.records[1].id, "b");
    assert_int_equal(w.records[1].vectors[0].form, PDB_VECTOR_BYTES);
    assert_int_equal(w.records[1].vectors[0].count, 8);
    float value;
    memcpy(&value, (const char *)w.records[1].vectors[0].values + 4, sizeof(value));
    assert_true(value == 4.0f);
    close_body(&f);
}

static void a_packed_batch_may_be_of_the_type_of_its_field(void **state)
{
    (void)state;
    struct fixture f;
    struct json_write_decoder w;
    assert_int_equal(decode_write(&w, &f, PDB_WRITE_UPSERT,
                                  "{\"packed\":{\"ids\":[\"a\",\"b\"],\"type\":\"int8\","
                                  "\"vectors\":\"AQL/gA==\"}}"),
                     0);
    assert_int_equal(w.count, 2);
    assert_int_equal(w.records[1].vectors[0].element, PDB_ELEMENT_INT8);
    assert_int_equal(w.records[1].vectors[0].count, 2);
    assert_memory_equal(w.records[1].vectors[0].values, "\xff\x80", 2);
    close_body(&f);
    assert_int_equal(decode_write(&w, &f, PDB_WRITE_UPSERT,
                                  "{\"packed\":{\"type\":\"int4\",\"vectors\":\"AQL/gA==\"}}"),
                     PDB_INVALID_ARGUMENT);
    assert_non_null(strstr(f.trail.text, "'int4' is not one of float32, float16, int8"));
    close_body(&f);
}

/* 300,000 floats are 1.6 million characters: several pieces. One padding character in the middle is
 * refused, wherever a piece ends. */
static void a_long_packed_batch_is_decoded_in_pieces(void **state)
{
    (void)state;
    enum { ROWS = 6, DIMENSION = 50000, FLOATS = ROWS * DIMENSION };
    static const char head[] =
        "{\"packed\":{\"ids\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"],\"vectors\":\"",
                      tail[] = "\"}}";
    float *values = test_malloc(FLOATS * sizeof(float));
    for (int i = 0; i < FLOATS; i++)
        values[i] = (float)i;
    size_t text_len = base64_encoded_len(FLOATS * sizeof(float)), head_len = sizeof(head) - 1;
    char *body = test_malloc(head_len + text_len + sizeof(tail));
    memcpy(body, head, head_len);
    base64_encode(values, FLOATS * sizeof(float), body + head_len);
    memcpy(body + head_len + text_len, tail, sizeof(tail));
    struct fixture f;
    struct json_write_decoder w;
    assert_int_equal(decode_write(&w, &f, PDB_WRITE_UPSERT, body), 0);
    assert_int_equal(w.count, ROWS);
    for (uint32_t i = 0; i < ROWS; i++)
        assert_memory_equal(w.records[i].vectors[0].values, values + (size_t)i * DIMENSION,
                            DIMENSION * sizeof(float));
    close_body(&f);
    body[head_len + (256 << 10) - 1] = '=';
    assert_int_equal(decode_write(&w, &f, PDB_WRITE_UPSERT, body), PDB_INVALID_ARGUMENT);
    assert_non_null(strstr(f.trail.text, "not base64 at character 26214"));
    close_body(&f);
    test_free(body);
    test_free(values);
}

static int decode_searches(struct json_search_batch_decoder *b, struct fixture *f, const char *body)
{
    arena_init(&f->arena, 0);
    trail_reset(&f->trail);
    json_search_batch_open(b, &f->arena, &api_limits_default, text_of(body), &f->trail);
    int rc;
    do
        rc = json_search_batch_step(b);
    while (rc > 0);
    return rc;
}

static void a_batch_of_searches_is_decoded_one_a_step(void **state)
{
    (void)state;
    static const struct bad_body bad[] = {
        {"{\"searches\":[{\"vector\":[1]}],\"searches\":[]}", "given twice"},
        {"{\"queries\":[]}", "unknown field 'queries'"},
        {"{\"searches\":[{\"vector\":[1]},{\"k\":1}]}", "exactly one of vector and id"},
        {"{\"searches\":[{\"vector\":[1]}", "byte"},
    };
    struct fixture f;
    struct json_search_batch_decoder b;
    assert_int_equal(
        decode_searches(&b, &f, "{\"searches\":[{\"vector\":[1,2],\"k\":3},{\"id\":\"a\"}]}"), 0);
    assert_int_equal(b.count, 2);
    assert_int_equal(b.queries[0].k, 3);
    assert_text(b.queries[1].id, "a");
    close_body(&f);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(decode_searches(&b, &f, bad[i].body), PDB_INVALID_ARGUMENT);
        if (strstr(f.trail.text, bad[i].text) == NULL)
            fail_msg("%s: '%s' does not say '%s'", bad[i].body, f.trail.text, bad[i].text);
        close_body(&f);
    }
}

static void bad_writes_say_where_and_what(void **state)
{
    (void)state;
    static const struct bad_body rows[] = {
        {"{\"vectors\":{}}", "byte 11"},
        {"{\"vectors\":[{\"id\":1}]}", "byte"},
        {"{\"vectors\":[{\"vector\":[1]},]}", "byte"},
        {"{\"vectors\":[{\"vector\":[1]}", "byte"},
        {"{\"vectors\":[{\"expires_at\":\"tomorrow\"}]}", "'tomorrow' is no RFC 3339 time"},
        {"{\"vectors\":[{\"vectors\":{\"a\":[1],\"a\":[2]}}]}", "given twice"},
        {"{\"vectors\":[{\"vector\":[1],\"vector\":[1]}]}", "given twice"},
        {"{\"vectors\":[{\"vector\":[1]}],\"packed\":{\"vectors\":\"AAAA\"}}", "not both"},
        {"{\"packed\":{\"ids\":[\"a\"],\"vectors\":\"A*==\"}}", "not base64 at character 1"},
        {"{\"records\":[]}", "unknown field 'records'"},
        {"{\"packed\":{\"ids\":[\"a\"]}}", "packed"},
        {"{\"packed\":{\"ids\":[\"a\"],\"vectors\":\"\"}}", "packed"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture f;
        struct json_write_decoder w;
        assert_int_equal(decode_write(&w, &f, PDB_WRITE_UPSERT, rows[i].body),
                         PDB_INVALID_ARGUMENT);
        if (strstr(f.trail.text, rows[i].text) == NULL)
            fail_msg("%s: '%s' does not say '%s'", rows[i].body, f.trail.text, rows[i].text);
        close_body(&f);
    }
}

/* Every allocation fails once: an error each time, never a crash, until it succeeds. */
static void running_out_of_memory_is_an_error(void **state)
{
    (void)state;
    static const char body[] = "{\"vectors\":[{\"id\":\"a\\n\",\"vector\":[1,2],\"metadata\":{"
                               "\"x\":[1,{}]}},{\"vector\":[1,2,3]}]}";
    int rc = PDB_RESOURCE_EXHAUSTED;
    for (uint64_t n = 1; rc != 0; n++) {
        struct arena arena;
        struct trail trail = {0};
        struct json_write_decoder w;
        arena_init(&arena, 0);
        arena.fail_at = n;
        json_write_decoder_open(&w, PDB_WRITE_UPSERT, &arena, &api_limits_default, text_of(body),
                                &trail);
        do
            rc = json_write_decoder_step(&w);
        while (rc > 0);
        assert_true(rc == 0 || rc == PDB_RESOURCE_EXHAUSTED);
        arena_dispose(&arena);
        assert_true(n < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_collection_with_top_level_dimension_has_one_default_field),
        cmocka_unit_test(named_fields_and_a_top_level_dimension_exclude_each_other),
        cmocka_unit_test(storage_settings_are_read_where_they_are_given),
        cmocka_unit_test(bad_storage_says_where_and_what),
        cmocka_unit_test(a_get_may_name_a_version),
        cmocka_unit_test(bad_searches_say_where_and_what),
        cmocka_unit_test(a_search_has_its_defaults),
        cmocka_unit_test(a_write_keeps_ids_vectors_metadata_and_conditions),
        cmocka_unit_test(vectors_of_changing_length_come_out_whole),
        cmocka_unit_test(unset_belongs_to_updates_only),
        cmocka_unit_test(a_packed_batch_points_into_its_decoded_bytes),
        cmocka_unit_test(a_packed_batch_may_be_of_the_type_of_its_field),
        cmocka_unit_test(a_long_packed_batch_is_decoded_in_pieces),
        cmocka_unit_test(a_batch_of_searches_is_decoded_one_a_step),
        cmocka_unit_test(bad_writes_say_where_and_what),
        cmocka_unit_test(running_out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
