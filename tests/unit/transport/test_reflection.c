/* Server reflection over the embedded descriptors, and the table of methods. */
#include "protobuf_fixture.h"

#include "transport/exchange.h"
#include "transport/grpc/reflection.h"

#include "grpc_reflection_v1_reflection.pb-c.h"

extern const unsigned char proto_descriptor_set[];
extern const size_t proto_descriptor_set_len;

static struct reflection_set set;

static int open_set(void **state)
{
    reflection_open(
        &set, (struct pdb_text){(const char *)proto_descriptor_set, proto_descriptor_set_len});
    return set_up(state);
}

static const Grpc__Reflection__V1__ServerReflectionResponse *
ask(Grpc__Reflection__V1__ServerReflectionRequest *m)
{
    struct pdb_text answer;
    trail_reset(&trail);
    if (reflection_answer(&set, pack(m), &arena, &trail, &answer) < 0)
        return NULL;
    void *read = protobuf_unpack(&grpc__reflection__v1__server_reflection_response__descriptor,
                                 answer, &arena, &trail);
    assert_non_null(read);
    return read;
}

static int file_of(const char *symbol)
{
    return reflection_find_symbol(&set, text_of(symbol));
}

static void symbols_of_every_kind_are_found(void **state)
{
    (void)state;
    int file = reflection_find_file(&set, text_of("proximadb/v1/proximadb.proto"));
    assert_true(file >= 0);
    static const char *const there[] = {
        "proximadb.v1.ProximaDB",
        "proximadb.v1.ProximaDB.Search",
        "proximadb.v1.Record",
        "proximadb.v1.Record.id",
        "proximadb.v1.Record.VectorsEntry",
        "proximadb.v1.Record.VectorsEntry.key",
        "proximadb.v1.Metric",
        "proximadb.v1.METRIC_COSINE",
        "proximadb.v1.Value.kind",
        ".proximadb.v1.Record",
    };
    for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++)
        if (file_of(there[i]) != file)
            fail_msg("%s", there[i]);
    assert_true(file_of("grpc.health.v1.HealthCheckResponse.ServingStatus") >= 0);
    assert_true(file_of("grpc.health.v1.HealthCheckResponse.SERVING") >= 0);
    assert_int_not_equal(file_of("grpc.health.v1.Health"), file);
    static const char *const missing[] = {
        "",
        ".",
        "proximadb",
        "proximadb.v1",
        "proximadb.v1.",
        "proximadb.v1.Nothing",
        "proximadb.v1.Record.nothing",
        "proximadb.v1.Record.id.x",
        "proximadb.v1.ProximaDB.Search.x",
        "proximadb.v1.Metric.METRIC_COSINE.x",
        "proximadb.v1.Record.",
        "Record",
    };
    for (size_t i = 0; i < sizeof(missing) / sizeof(missing[0]); i++)
        if (file_of(missing[i]) != -1)
            fail_msg("%s", missing[i]);
}

static void a_file_comes_with_its_imports_once(void **state)
{
    (void)state;
    /* a.proto imports b and c, both import d, d imports a. */
    static const char files[] = "\x0a\x19\x0a\x07"
                                "a.proto\x1a\x06"
                                "b.prot\x1a\x06"
                                "c.prot"
                                "\x0a\x10\x0a\x06"
                                "b.prot\x1a\x06"
                                "d.prot"
                                "\x0a\x10\x0a\x06"
                                "c.prot\x1a\x06"
                                "d.prot"
                                "\x0a\x11\x0a\x06"
                                "d.prot\x1a\x07"
                                "a.proto";
    char name[] = "b.prot";
    reflection_open(&set, (struct pdb_text){files, sizeof(files) - 1});
    assert_int_equal(set.count, 4);
    Grpc__Reflection__V1__ServerReflectionRequest m =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    m.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME;
    m.file_by_filename = name;
    const Grpc__Reflection__V1__ServerReflectionResponse *r = ask(&m);
    assert_non_null(r);
    assert_int_equal(r->file_descriptor_response->n_file_descriptor_proto, 4);
    assert_memory_equal(r->file_descriptor_response->file_descriptor_proto[0].data,
                        "\x0a\x06"
                        "b.prot",
                        8);
    assert_memory_equal(r->file_descriptor_response->file_descriptor_proto[1].data,
                        "\x0a\x06"
                        "d.prot",
                        8);
}

static void services_are_listed(void **state)
{
    (void)state;
    char all[] = "*", host[] = "h";
    Grpc__Reflection__V1__ServerReflectionRequest m =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    m.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES;
    m.list_services = all;
    m.host = host;
    const Grpc__Reflection__V1__ServerReflectionResponse *r = ask(&m);
    assert_non_null(r);
    assert_string_equal(r->valid_host, "h");
    assert_string_equal(r->original_request->list_services, "*");
    assert_int_equal(r->list_services_response->n_service, 4);
    unsigned found = 0;
    for (size_t i = 0; i < 4; i++) {
        const char *name = r->list_services_response->service[i]->name;
        found |= strcmp(name, "proximadb.v1.ProximaDB") == 0 ? 1u : 0u;
        found |= strcmp(name, "grpc.health.v1.Health") == 0 ? 2u : 0u;
        found |= strcmp(name, "grpc.reflection.v1.ServerReflection") == 0 ? 4u : 0u;
        found |= strcmp(name, "grpc.reflection.v1alpha.ServerReflection") == 0 ? 8u : 0u;
    }
    assert_int_equal(found, 15);
}

static void what_is_not_there_is_an_error_response(void **state)
{
    (void)state;
    char name[] = "nothing.Here", known[] = "proximadb.v1.Record";
    Grpc__Reflection__V1__ServerReflectionRequest m =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    assert_null(ask(&m)); /* no question */
    assert_int_equal(trail.code, PDB_INVALID_ARGUMENT);
    m.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL;
    m.file_containing_symbol = name;
    const Grpc__Reflection__V1__ServerReflectionResponse *r = ask(&m);
    assert_int_equal(r->error_response->error_code, 5);
    assert_string_equal(r->error_response->error_message, "unknown symbol 'nothing.Here'");
    Grpc__Reflection__V1__ExtensionRequest extension =
        GRPC__REFLECTION__V1__EXTENSION_REQUEST__INIT;
    extension.containing_type = known;
    m.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION;
    m.file_containing_extension = &extension;
    assert_int_equal(ask(&m)->error_response->error_code, 5);
    m.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE;
    m.all_extension_numbers_of_type = known;
    assert_string_equal(ask(&m)->all_extension_numbers_response->base_type_name, known);
    m.all_extension_numbers_of_type = name;
    assert_int_equal(ask(&m)->error_response->error_code, 5);
}

static void a_request_cut_at_every_byte_is_answered(void **state)
{
    (void)state;
    static const char request[] = "\x0a\x01h\x22\x13proximadb.v1.Record";
    for (size_t len = 0; len < sizeof(request); len++) {
        struct pdb_text answer;
        trail_reset(&trail);
        int rc = reflection_answer(&set, exact(request, len), &arena, &trail, &answer);
        assert_true(rc == (len == sizeof(request) - 1 ? 0 : PDB_INVALID_ARGUMENT));
    }
}

static void every_operation_with_a_method_is_found(void **state)
{
    (void)state;
    unsigned found = 0;
    for (int op = 0; op < API_OPERATION_COUNT; op++) {
        if (api_operation_rows[op].grpc_method[0] == '\0')
            continue;
        char path[128];
        (void)snprintf(path, sizeof(path), "/proximadb.v1.ProximaDB/%s",
                       api_operation_rows[op].grpc_method);
        const struct grpc_method *m = grpc_method_find(text_of(path));
        if (m == NULL)
            fail_msg("%s", path);
        assert_int_equal(m->operation, op);
        assert_int_equal(m->client_streaming,
                         op == API_OP_bulk_upsert || op == API_OP_snapshot_upload);
        assert_true(m->client_streaming == (m->half_close != NULL));
        /* and the contract says the same */
        assert_true(file_of(path + 1) == -1);
        path[strlen("/proximadb.v1.ProximaDB")] = '.';
        assert_true(file_of(path + 1) >= 0);
        found++;
    }
    assert_int_equal(found, 25);
    assert_null(grpc_method_find(text_of("/proximadb.v1.ProximaDB/Nothing")));
    assert_null(grpc_method_find(text_of("")));
    assert_non_null(grpc_method_find(text_of("/grpc.health.v1.Health/Watch")));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_set, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(symbols_of_every_kind_are_found),
        TEST(a_file_comes_with_its_imports_once),
        TEST(services_are_listed),
        TEST(what_is_not_there_is_an_error_response),
        TEST(a_request_cut_at_every_byte_is_answered),
        TEST(every_operation_with_a_method_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
