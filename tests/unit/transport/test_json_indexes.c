/* Tests src/transport/codec/json_indexes.c and index_names.c, through the requests that have
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/codec/index_names.h"
#include "transport/codec/json_requests.h"
#include "transport/codec/json_responses.h"

#include <stdio.h>
#include <string.h>

static struct arena arena;
static struct trail trail;
static struct json_decoder decoder;

static int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arena_dispose(&arena);
    return 0;
}

static struct json_decoder *open_body(const char *body)
{
    trail_reset(&trail);
    json_decoder_open(&decoder, &arena, &api_limits_default, text_of(body), &trail);
    return &decoder;
}

static void assert_told(const char *text)
{
    if (strstr(trail.text, text) == NULL)
        fail_msg("'%s' does not say '%s'", trail.text, text);
}

static void every_name_is_read_back_as_it_is_written(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= PDB_INDEX_IVF; i++) {
        enum pdb_index_type type = PDB_INDEX_AUTO;
        assert_true(index_type_of(text_of(index_type_name((enum pdb_index_type)i)), &type));
        assert_int_equal(type, i);
        assert_non_null(strstr(INDEX_TYPE_NAMES, index_type_name(type)));
    }
    for (unsigned i = 0; i <= PDB_QUANTIZATION_BINARY; i++) {
        enum pdb_quantization_type type = PDB_QUANTIZATION_AUTO;
        const char *name = quantization_type_name((enum pdb_quantization_type)i);
        assert_true(quantization_type_of(text_of(name), &type));
        assert_int_equal(type, i);
        assert_non_null(strstr(QUANTIZATION_TYPE_NAMES, name));
    }
    enum pdb_index_type type = PDB_INDEX_FLAT;
    assert_false(index_type_of(text_of("HNSW"), &type));
    assert_int_equal(type, PDB_INDEX_FLAT);
}

static void a_collection_says_how_its_fields_are_indexed(void **state)
{
    (void)state;
    struct pdb_collection_config c;
    assert_int_equal(
        json_decode_collection(
            open_body("{\"name\":\"a\",\"dimension\":3,\"metric\":\"dot\",\"target_recall\":0.9,"
                      "\"index\":{\"type\":\"hnsw\",\"m\":16,\"ef_construction\":100},"
                      "\"quantization\":{\"type\":\"binary\",\"bits\":2}}"),
            &c),
        0);
    assert_int_equal(c.fields[0].index, PDB_INDEX_HNSW);
    assert_int_equal(c.fields[0].hnsw_m, 16);
    assert_int_equal(c.fields[0].ef_construction, 100);
    assert_int_equal(c.fields[0].quantization, PDB_QUANTIZATION_BINARY);
    assert_int_equal(c.fields[0].quantization_bits, 2);
    assert_true(c.target_recall == 0.9f);
    assert_int_equal(
        json_decode_collection(
            open_body("{\"name\":\"a\",\"target_recall\":null,\"fields\":[{\"name\":\"x\","
                      "\"dimension\":3,\"metric\":\"dot\"},{\"name\":\"y\",\"dimension\":3,"
                      "\"metric\":\"dot\",\"index\":{\"type\":\"ivf\",\"nlist\":7},"
                      "\"quantization\":{\"type\":\"sq4\"}}]}"),
            &c),
        0);
    assert_int_equal(c.fields[0].index, PDB_INDEX_AUTO);
    assert_int_equal(c.fields[1].index, PDB_INDEX_IVF);
    assert_int_equal(c.fields[1].ivf_lists, 7);
    assert_int_equal(c.fields[1].quantization, PDB_QUANTIZATION_SQ4);
    assert_true(c.target_recall == 0);
}

static void bad_indexes_say_where_and_what(void **state)
{
    (void)state;
    static const struct {
        const char *members, *says;
    } rows[] = {
        {"\"index\":{\"type\":\"hnsw2\"}",
         "index.type: 'hnsw2' is not one of auto, flat, hnsw, ivf"},
        {"\"index\":{\"type\":null}", "expected a string"},
        {"\"index\":\"hnsw\"", "expected an object"},
        {"\"index\":{\"m\":0}", "0 is no value for a parameter"},
        {"\"index\":{\"m\":-2}", "expected an integer"},
        {"\"index\":{\"m\":1.5}", "byte"},
        {"\"index\":{\"m\":4294967296}", "too large"},
        {"\"index\":{\"lists\":3}", "unknown field 'lists'"},
        {"\"index\":{\"m\":4,\"m\":4}", "given twice"},
        {"\"quantization\":{\"type\":\"sq2\"}",
         "quantization.type: 'sq2' is not one of auto, none, sq8, sq4, pq, binary"},
        {"\"quantization\":{\"bits\":0}", "0 is no value for a parameter"},
        {"\"target_recall\":0.3", "target_recall: expected 0.5 to 1"},
        {"\"target_recall\":95", "target_recall: expected 0.5 to 1"},
        {"\"target_recall\":\"0.9\"", "expected a number"},
        {"\"fields\":[{\"name\":\"a\",\"index\":{\"kind\":\"flat\"}}]", "unknown field 'kind'"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pdb_collection_config c;
        struct pdb_collection_update u = {.ttl_s = 0};
        char body[256];
        (void)snprintf(body, sizeof(body), "{\"name\":\"a\",%s}", rows[i].members);
        assert_int_equal(json_decode_collection(open_body(body), &c), PDB_INVALID_ARGUMENT);
        assert_told(rows[i].says);
        (void)snprintf(body, sizeof(body), "{%s}", rows[i].members);
        assert_int_equal(json_decode_collection_update(open_body(body), &u), PDB_INVALID_ARGUMENT);
        assert_told(rows[i].says);
    }
}

static void an_index_beside_named_fields_is_refused(void **state)
{
    (void)state;
    static const char *const members[] = {"\"index\":{\"type\":\"hnsw\"}", "\"index\":{\"m\":8}",
                                          "\"quantization\":{\"type\":\"pq\"}"};
    for (size_t i = 0; i < 3; i++) {
        struct pdb_collection_config c;
        char body[256];
        (void)snprintf(body, sizeof(body),
                       "{\"name\":\"a\",%s,\"fields\":[{\"name\":\"x\",\"dimension\":3,"
                       "\"metric\":\"dot\"}]}",
                       members[i]);
        assert_int_equal(json_decode_collection(open_body(body), &c), PDB_INVALID_ARGUMENT);
        assert_told("index and quantization go with dimension and metric, or into fields");
    }
}

static void a_change_takes_what_it_is_given_of_each_field(void **state)
{
    (void)state;
    struct pdb_collection_update u = {.ttl_s = 0};
    assert_int_equal(json_decode_collection_update(open_body("{}"), &u), 0);
    assert_int_equal(u.field_change_count, 0);
    assert_false(u.has_target_recall);
    assert_int_equal(
        json_decode_collection_update(
            open_body("{\"quantization\":{\"type\":\"sq8\"},\"target_recall\":0.5,\"fields\":["
                      "{\"name\":\"x\",\"index\":{\"type\":\"hnsw\",\"m\":8}}]}"),
            &u),
        0);
    assert_true(u.has_target_recall && u.target_recall == 0.5f);
    assert_int_equal(u.field_change_count, 2);
    const struct pdb_field_change *named = &u.field_changes[0], *first = &u.field_changes[1];
    assert_true(named->name.len == 1 && named->has_index && !named->has_quantization);
    assert_true(named->index == PDB_INDEX_HNSW && named->hnsw_m == 8);
    assert_true(first->name.len == 0 && !first->has_index && first->has_quantization);
    assert_int_equal(first->quantization, PDB_QUANTIZATION_SQ8);
    assert_int_equal(json_decode_collection_update(open_body("{\"target_recall\":null}"), &u), 0);
    assert_true(u.has_target_recall && u.target_recall == 0);
}

static void a_search_takes_its_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *params;
        uint32_t ef, nprobe;
        float target_recall;
        const char *says;
    } rows[] = {
        {"null", 0, 0, 0, NULL},
        {"{}", 0, 0, 0, NULL},
        {"{\"ef\":64}", 64, 0, 0, NULL},
        {"{\"nprobe\":9}", 0, 9, 0, NULL},
        {"{\"target_recall\":1}", 0, 0, 1, NULL},
        {"{\"ef\":0}", 0, 0, 0, "0 is no value for a parameter; leave it out for the default"},
        {"{\"nprobe\":0}", 0, 0, 0, "0 is no value for a parameter"},
        {"{\"target_recall\":0}", 0, 0, 0, "target_recall: expected 0.5 to 1"},
        {"{\"gamma\":1}", 0, 0, 0, "unknown field 'gamma'"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pdb_query q;
        char body[128];
        (void)snprintf(body, sizeof(body), "{\"vector\":[1],\"params\":%s}", rows[i].params);
        int rc = json_decode_search(open_body(body), &q);
        assert_int_equal(rc, rows[i].says == NULL ? 0 : PDB_INVALID_ARGUMENT);
        if (rows[i].says != NULL) {
            assert_told(rows[i].says);
            continue;
        }
        assert_true(q.ef == rows[i].ef && q.nprobe == rows[i].nprobe);
        assert_true(q.target_recall == rows[i].target_recall);
    }
}

static void a_described_field_has_its_parameters_and_state(void **state)
{
    (void)state;
    static const struct pdb_field fields[] = {
        {.name = {"x", 1},
         .dimension = 2,
         .metric = PDB_METRIC_DOT,
         .index = PDB_INDEX_HNSW,
         .hnsw_m = 8,
         .quantization = PDB_QUANTIZATION_BINARY,
         .quantization_bits = 4},
        {.name = {"y", 1}, .dimension = 2, .metric = PDB_METRIC_DOT, .index = PDB_INDEX_IVF}};
    static const struct pdb_index_info indexes[] = {
        {.state = PDB_INDEX_STATE_BUILDING,
         .rows = 10,
         .rows_indexed = 4,
         .rows_wanted = 8,
         .bytes = 77,
         .indexes = 1,
         .progress = 0.5f,
         .eta_s = 3},
        {.state = PDB_INDEX_STATE_READY, .progress = 1, .has_recall = true, .recall_estimate = 1}};
    const struct pdb_collection_info info = {
        .config = {.name = {"c", 1}, .fields = fields, .field_count = 2, .target_recall = 0.95f},
        .indexes = indexes};
    struct buffer out;
    buffer_init_arena(&out, &arena, 0);
    json_encode_collection(&out, &info);
    buffer_add_byte(&out, '\0');
    assert_false(out.failed);
    assert_non_null(strstr(
        out.ptr, "\"index\":{\"type\":\"hnsw\",\"m\":8},\"quantization\":{\"type\":\"binary\","
                 "\"bits\":4},\"index_state\":{\"state\":\"building\",\"rows\":10,"
                 "\"rows_indexed\":4,\"rows_wanted\":8,\"progress\":0.500,\"eta_s\":3,"
                 "\"bytes\":77,\"indexes\":1,\"recall_estimate\":null}}"));
    assert_non_null(strstr(out.ptr, "\"state\":\"ready\""));
    assert_non_null(strstr(out.ptr, "\"recall_estimate\":1.0000}}]"));
    assert_non_null(strstr(out.ptr, ",\"target_recall\":0.95,"));
}

/* What an export writes, a create takes: the state is no setting. */
static void a_config_is_read_back_as_it_is_written(void **state)
{
    (void)state;
    static const struct pdb_field fields[] = {{.name = {"x", 1},
                                               .dimension = 2,
                                               .metric = PDB_METRIC_DOT,
                                               .index = PDB_INDEX_IVF,
                                               .ivf_lists = 77,
                                               .quantization = PDB_QUANTIZATION_PQ}};
    for (int i = 0; i < 2; i++) {
        const struct pdb_collection_config config = {.name = {"c", 1},
                                                     .fields = fields,
                                                     .field_count = 1,
                                                     .target_recall = i == 0 ? 0 : 0.9f};
        struct pdb_collection_config read;
        struct buffer out;
        buffer_init_arena(&out, &arena, 0);
        json_encode_collection_config(&out, &config);
        buffer_add_byte(&out, '\0');
        assert_false(out.failed);
        assert_int_equal(json_decode_collection(open_body(out.ptr), &read), 0);
        assert_true(read.target_recall == config.target_recall);
        assert_int_equal(read.fields[0].index, PDB_INDEX_IVF);
        assert_int_equal(read.fields[0].ivf_lists, 77);
        assert_int_equal(read.fields[0].quantization, PDB_QUANTIZATION_PQ);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(every_name_is_read_back_as_it_is_written),
        TEST(a_collection_says_how_its_fields_are_indexed),
        TEST(bad_indexes_say_where_and_what),
        TEST(an_index_beside_named_fields_is_refused),
        TEST(a_change_takes_what_it_is_given_of_each_field),
        TEST(a_search_takes_its_parameters),
        TEST(a_described_field_has_its_parameters_and_state),
        TEST(a_config_is_read_back_as_it_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
