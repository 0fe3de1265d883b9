/* Tests src/transport/codec/protobuf_indexes.c, through the messages that have them. */
#include "protobuf_fixture.h"

#include "transport/codec/protobuf_replies.h"

static Proximadb__V1__IndexParams index_params(uint32_t m, uint32_t nlist)
{
    Proximadb__V1__IndexParams params = PROXIMADB__V1__INDEX_PARAMS__INIT;
    params.m = m;
    params.nlist = nlist;
    return params;
}

static void a_collection_says_how_its_fields_are_indexed(void **state)
{
    (void)state;
    static char name[] = "c", field_name[] = "x";
    Proximadb__V1__IndexParams graph = index_params(16, 0), lists = index_params(0, 9);
    Proximadb__V1__QuantizationParams bits = PROXIMADB__V1__QUANTIZATION_PARAMS__INIT;
    Proximadb__V1__CreateCollectionRequest m = PROXIMADB__V1__CREATE_COLLECTION_REQUEST__INIT;
    Proximadb__V1__VectorField field = PROXIMADB__V1__VECTOR_FIELD__INIT, *fields[] = {&field};
    struct protobuf_decoder d = decoder();
    struct pdb_collection_config c = {0};
    graph.ef_construction = 100;
    bits.bits = 3;
    m.name = name;
    m.dimension = 4;
    m.metric = PROXIMADB__V1__METRIC__METRIC_DOT;
    m.index = PROXIMADB__V1__INDEX_TYPE__INDEX_TYPE_HNSW;
    m.index_params = &graph;
    m.quantization = PROXIMADB__V1__QUANTIZATION_TYPE__QUANTIZATION_TYPE_BINARY;
    m.quantization_params = &bits;
    m.target_recall = 0.75f;
    assert_int_equal(protobuf_decode_collection(&d, pack(&m), &c), 0);
    assert_int_equal(c.fields[0].index, PDB_INDEX_HNSW);
    assert_true(c.fields[0].hnsw_m == 16 && c.fields[0].ef_construction == 100);
    assert_int_equal(c.fields[0].quantization, PDB_QUANTIZATION_BINARY);
    assert_int_equal(c.fields[0].quantization_bits, 3);
    assert_true(c.target_recall == 0.75f);

    m.dimension = 0;
    m.metric = PROXIMADB__V1__METRIC__METRIC_UNSPECIFIED;
    m.n_fields = 1;
    m.fields = fields;
    field.name = field_name;
    field.dimension = 2;
    field.metric = PROXIMADB__V1__METRIC__METRIC_DOT;
    field.index = PROXIMADB__V1__INDEX_TYPE__INDEX_TYPE_IVF;
    field.index_params = &lists;
    assert_int_equal(protobuf_decode_collection(&d, pack(&m), &c), PDB_INVALID_ARGUMENT);
    assert_told("index and quantization go with dimension and metric, or into fields");
    m.index = PROXIMADB__V1__INDEX_TYPE__INDEX_TYPE_UNSPECIFIED;
    m.quantization = PROXIMADB__V1__QUANTIZATION_TYPE__QUANTIZATION_TYPE_UNSPECIFIED;
    m.index_params = NULL;
    m.quantization_params = NULL;
    assert_int_equal(protobuf_decode_collection(&d, pack(&m), &c), 0);
    assert_true(c.fields[0].index == PDB_INDEX_IVF && c.fields[0].ivf_lists == 9);
    assert_int_equal(c.fields[0].quantization, PDB_QUANTIZATION_AUTO);
}

static void an_update_takes_what_it_is_given_of_each_field(void **state)
{
    (void)state;
    static char name[] = "c", field_name[] = "x";
    Proximadb__V1__UpdateCollectionRequest m = PROXIMADB__V1__UPDATE_COLLECTION_REQUEST__INIT;
    Proximadb__V1__VectorFieldChange a = PROXIMADB__V1__VECTOR_FIELD_CHANGE__INIT, b = a,
                                     *changes[] = {&a, &b};
    Proximadb__V1__IndexParams graph = index_params(8, 0);
    struct protobuf_decoder d = decoder();
    struct pdb_collection_update u = {.ttl_s = 0};
    m.collection = name;
    assert_int_equal(protobuf_decode_collection_update(&d, pack(&m), &u), 0);
    assert_int_equal(u.field_change_count, 0);
    assert_false(u.has_target_recall);
    m.n_fields = 2;
    m.fields = changes;
    a.index_params = &graph; /* auto, with parameters */
    b.name = field_name;
    b.quantization = PROXIMADB__V1__QUANTIZATION_TYPE__QUANTIZATION_TYPE_SQ4;
    m.maybe_target_recall_case =
        PROXIMADB__V1__UPDATE_COLLECTION_REQUEST__MAYBE_TARGET_RECALL_TARGET_RECALL;
    assert_int_equal(protobuf_decode_collection_update(&d, pack(&m), &u), 0);
    assert_int_equal(u.field_change_count, 2);
    const struct pdb_field_change *first = &u.field_changes[0], *second = &u.field_changes[1];
    assert_true(first->name.len == 0 && first->has_index && !first->has_quantization);
    assert_true(first->index == PDB_INDEX_AUTO && first->hnsw_m == 8);
    assert_text(second->name, "x");
    assert_true(!second->has_index && second->has_quantization);
    assert_int_equal(second->quantization, PDB_QUANTIZATION_SQ4);
    assert_true(u.has_target_recall && u.target_recall == 0);
}

static int decode_search(struct protobuf_search_decoder *s,
                         const Proximadb__V1__SearchParams *params)
{
    static char id[] = "a";
    Proximadb__V1__SearchQuery q = PROXIMADB__V1__SEARCH_QUERY__INIT, *queries[] = {&q};
    Proximadb__V1__SearchBatchRequest m = PROXIMADB__V1__SEARCH_BATCH_REQUEST__INIT;
    int rc = 0;
    q.id = id;
    q.params = (Proximadb__V1__SearchParams *)(uintptr_t)params;
    m.n_queries = 1;
    m.queries = queries;
    trail_reset(&trail);
    protobuf_search_open(s, true, &arena, &api_limits_default, pack(&m), &trail);
    while ((rc = protobuf_search_step(s)) > 0)
        continue;
    return rc;
}

static void a_search_takes_its_parameters(void **state)
{
    (void)state;
    struct protobuf_search_decoder s;
    const Proximadb__V1__SearchParams none = PROXIMADB__V1__SEARCH_PARAMS__INIT;
    Proximadb__V1__SearchParams params = none;
    params.maybe_nprobe_case = PROXIMADB__V1__SEARCH_PARAMS__MAYBE_NPROBE_NPROBE;
    params.nprobe = 5;
    assert_int_equal(decode_search(&s, &params), 0);
    assert_true(s.queries[0].nprobe == 5 && s.queries[0].ef == 0);
    params.nprobe = 0;
    assert_int_equal(decode_search(&s, &params), PDB_INVALID_ARGUMENT);
    assert_told("queries[0].params.nprobe: 0 is no value for a parameter");
    params = none;
    params.maybe_target_recall_case =
        PROXIMADB__V1__SEARCH_PARAMS__MAYBE_TARGET_RECALL_TARGET_RECALL;
    params.target_recall = 0.9f;
    assert_int_equal(decode_search(&s, &params), 0);
    assert_true(s.queries[0].target_recall == 0.9f);
    params.target_recall = 0;
    assert_int_equal(decode_search(&s, &params), PDB_INVALID_ARGUMENT);
    assert_told("queries[0].params.target_recall: 0 is no value for a parameter");
    params = none;
    params.maybe_ef_case = PROXIMADB__V1__SEARCH_PARAMS__MAYBE_EF_EF;
    assert_int_equal(decode_search(&s, &params), PDB_INVALID_ARGUMENT);
    assert_told("queries[0].params.ef: 0 is no value for a parameter");
}

static const Proximadb__V1__Collection *written(const struct pdb_collection_info *info)
{
    struct protobuf_reply r;
    struct pdb_text bytes;
    protobuf_reply_open(&r, &arena);
    protobuf_encode_collection(&r, info);
    assert_int_equal(protobuf_writer_finish(&r.writer, &bytes), 0);
    const Proximadb__V1__CollectionResponse *m =
        protobuf_unpack(&proximadb__v1__collection_response__descriptor, bytes, &arena, &trail);
    assert_non_null(m);
    return m->collection;
}

static void a_collection_comes_back_with_its_indexes(void **state)
{
    (void)state;
    static const struct pdb_field fields[] = {
        {.name = {"x", 1}, .index = PDB_INDEX_HNSW, .hnsw_m = 8, .ef_construction = 99},
        {.name = {"y", 1}, .quantization = PDB_QUANTIZATION_BINARY, .quantization_bits = 4}};
    static const struct pdb_index_info indexes[] = {{.state = PDB_INDEX_STATE_BUILDING,
                                                     .rows = 10,
                                                     .rows_indexed = 4,
                                                     .rows_wanted = 8,
                                                     .bytes = 77,
                                                     .indexes = 1,
                                                     .progress = 0.5f,
                                                     .eta_s = 3},
                                                    {.has_recall = true, .recall_estimate = 0.25f}};
    struct pdb_collection_info info = {
        .config = {.fields = fields, .field_count = 2, .target_recall = 0.5f}, .indexes = indexes};
    const Proximadb__V1__Collection *c = written(&info);
    assert_int_equal(c->fields[0]->index, PROXIMADB__V1__INDEX_TYPE__INDEX_TYPE_HNSW);
    assert_true(c->fields[0]->index_params->m == 8 &&
                c->fields[0]->index_params->ef_construction == 99);
    assert_null(c->fields[0]->quantization_params);
    assert_null(c->fields[1]->index_params);
    assert_int_equal(c->fields[1]->quantization,
                     PROXIMADB__V1__QUANTIZATION_TYPE__QUANTIZATION_TYPE_BINARY);
    assert_int_equal(c->fields[1]->quantization_params->bits, 4);
    assert_true(c->target_recall == 0.5f);
    assert_int_equal(c->n_index_states, 2);
    const Proximadb__V1__IndexState *first = c->index_states[0], *second = c->index_states[1];
    assert_string_equal(first->field, "x");
    assert_string_equal(first->state, "building");
    assert_true(first->rows == 10 && first->rows_indexed == 4 && first->rows_wanted == 8);
    assert_true(first->bytes == 77 && first->indexes == 1 && first->eta_s == 3);
    assert_true(first->progress == 0.5f);
    assert_int_equal(first->maybe_recall_estimate_case, 0);
    assert_string_equal(second->state, "ready");
    assert_true(second->recall_estimate == 0.25f);
    info.indexes = NULL;
    assert_int_equal(written(&info)->n_index_states, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_collection_says_how_its_fields_are_indexed),
        TEST(an_update_takes_what_it_is_given_of_each_field),
        TEST(a_search_takes_its_parameters),
        TEST(a_collection_comes_back_with_its_indexes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
