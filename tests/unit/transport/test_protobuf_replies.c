/* Replies of the gRPC door, read back by protobuf-c. */
#include "protobuf_fixture.h"

#include "base/json.h"
#include "transport/codec/protobuf_replies.h"

static struct pdb_text doc_of(const char *json)
{
    struct json_reader r;
    struct pdb_text doc;
    struct doc_builder *builder = doc_builder_new(&arena, 0);
    json_open(&r, json, strlen(json), 64, &trail);
    assert_int_equal(json_read_doc(&r, builder), 0);
    assert_int_equal(doc_builder_finish(builder, &doc, NULL), 0);
    return doc;
}

static void *read_back(struct protobuf_reply *r, const ProtobufCMessageDescriptor *type)
{
    struct pdb_text bytes;
    assert_int_equal(protobuf_writer_finish(&r->writer, &bytes), 0);
    void *message = protobuf_unpack(type, exact(bytes.ptr, bytes.len), &arena, &trail);
    if (message == NULL)
        fail_msg("%s", trail.text);
    return message;
}

static const float stored_floats[] = {1, -2, 0.5f};
static const uint8_t stored_bits[] = {0x81, 0x01};
static const struct pdb_field fields[] = {
    {.name = {"", 0}, .dimension = 3, .metric = PDB_METRIC_COSINE},
    {.name = {"bits", 4}, .dimension = 9, .metric = PDB_METRIC_HAMMING},
};
static const void *const both_vectors[] = {stored_floats, stored_bits};
static const void *const no_default[] = {NULL, stored_bits};

static struct pdb_row row_of(const char *id, const void *const *vectors)
{
    return (struct pdb_row){.id = text_of(id),
                            .vectors = vectors,
                            .metadata =
                                doc_of("{\"a\":[1,2.5,null,true,\"x\",{\"b\":{}}],\"n\":-9}"),
                            .version = 7,
                            .created_at_us = 1000001,
                            .updated_at_us = 2000002,
                            .expires_at_us = 3000003};
}

static void rows_come_back_whole(void **state)
{
    (void)state;
    const struct pdb_row rows[] = {
        row_of("a", both_vectors), {.id = {"gone", 4}}, row_of("b", no_default)};
    const struct pdb_get get = {.id_count = 3,
                                .include =
                                    PDB_INCLUDE_METADATA | PDB_INCLUDE_VECTORS | PDB_INCLUDE_TIMES,
                                .fields_out = fields,
                                .field_count_out = 2,
                                .rows_out = rows};
    struct protobuf_reply r;
    protobuf_reply_open(&r, &arena);
    while (protobuf_encode_get_step(&r, &get) > 0)
        continue;
    const Proximadb__V1__GetResponse *m = read_back(&r, &proximadb__v1__get_response__descriptor);
    assert_int_equal(m->n_records, 2);
    assert_int_equal(m->n_missing, 1);
    assert_string_equal(m->missing[0], "gone");
    const Proximadb__V1__StoredRecord *a = m->records[0];
    assert_string_equal(a->id, "a");
    assert_int_equal(a->n_vector, 3);
    assert_memory_equal(a->vector, stored_floats, sizeof(stored_floats));
    assert_int_equal(a->n_vectors, 1);
    assert_string_equal(a->vectors[0]->key, "bits");
    assert_int_equal(a->vectors[0]->value->packed.len, 2);
    assert_memory_equal(a->vectors[0]->value->packed.data, stored_bits, 2);
    assert_int_equal(a->version, 7);
    assert_string_equal(a->created_at, "1970-01-01T00:00:01.000001Z");
    assert_string_equal(a->updated_at, "1970-01-01T00:00:02.000002Z");
    assert_string_equal(a->expires_at, "1970-01-01T00:00:03.000003Z");
    assert_int_equal(m->records[1]->n_vector, 0);
    assert_int_equal(a->metadata->n_fields, 2);
    assert_string_equal(a->metadata->fields[0]->key, "a");
    const Proximadb__V1__ListValue *list = a->metadata->fields[0]->value->list_value;
    assert_int_equal(list->n_values, 6);
    assert_int_equal(list->values[0]->integer_value, 1);
    assert_true(list->values[1]->float_value > 2.4 && list->values[1]->float_value < 2.6);
    assert_int_equal(list->values[2]->kind_case, PROXIMADB__V1__VALUE__KIND_NULL_VALUE);
    assert_true(list->values[3]->bool_value);
    assert_string_equal(list->values[4]->string_value, "x");
    assert_string_equal(list->values[5]->map_value->fields[0]->key, "b");
    assert_int_equal(list->values[5]->map_value->fields[0]->value->map_value->n_fields, 0);
    assert_int_equal(a->metadata->fields[1]->value->integer_value, -9);
}

static void what_was_not_asked_for_is_left_out(void **state)
{
    (void)state;
    const struct pdb_row row = row_of("a", NULL);
    const struct pdb_scroll scroll = {.fields_out = fields,
                                      .field_count_out = 2,
                                      .rows_out = &row,
                                      .row_count_out = 1,
                                      .next_cursor_out = {"cur", 3}};
    struct protobuf_reply r;
    protobuf_reply_open(&r, &arena);
    while (protobuf_encode_scroll_step(&r, &scroll) > 0)
        continue;
    const Proximadb__V1__ScrollResponse *m =
        read_back(&r, &proximadb__v1__scroll_response__descriptor);
    assert_string_equal(m->next_cursor, "cur");
    assert_null(m->records[0]->metadata);
    assert_int_equal(m->records[0]->n_vectors, 0);
    assert_string_equal(m->records[0]->created_at, "");
}

static void hits_come_back_by_query(void **state)
{
    (void)state;
    const struct pdb_hit hits[] = {{row_of("a", both_vectors), 0.75f},
                                   {row_of("b", no_default), 0.5f}};
    const struct pdb_hits results[] = {{hits, 2}, {NULL, 0}, {hits + 1, 1}};
    const struct pdb_query queries[] = {
        {.include = PDB_INCLUDE_VECTORS}, {.include = 0}, {.include = PDB_INCLUDE_METADATA}};
    struct pdb_search search = {.queries = queries,
                                .query_count = 3,
                                .fields_out = fields,
                                .field_count_out = 2,
                                .results_out = results};
    search.call.took_us = 412;
    struct protobuf_reply r;
    protobuf_reply_open(&r, &arena);
    while (protobuf_encode_search_step(&r, &search, true) > 0)
        continue;
    const Proximadb__V1__SearchBatchResponse *m =
        read_back(&r, &proximadb__v1__search_batch_response__descriptor);
    assert_int_equal(m->n_results, 3);
    assert_int_equal(m->took_us, 412);
    assert_int_equal(m->results[0]->n_results, 2);
    assert_int_equal(m->results[1]->n_results, 0);
    assert_string_equal(m->results[0]->results[1]->id, "b");
    assert_true(memcmp(&m->results[0]->results[0]->score, &hits[0].score, sizeof(float)) == 0);
    assert_int_equal(m->results[0]->results[0]->n_vector, 3);
    assert_null(m->results[0]->results[0]->metadata);
    assert_non_null(m->results[2]->results[0]->metadata);

    search.query_count = 1;
    protobuf_reply_open(&r, &arena);
    while (protobuf_encode_search_step(&r, &search, false) > 0)
        continue;
    const Proximadb__V1__SearchResponse *one =
        read_back(&r, &proximadb__v1__search_response__descriptor);
    assert_int_equal(one->n_results, 2);
    assert_int_equal(one->took_us, 412);
}

static void a_write_tells_ids_and_versions(void **state)
{
    (void)state;
    static struct pdb_text ids[300];
    for (size_t i = 0; i < 300; i++)
        ids[i] = arena_format(&arena, "id%zu", i);
    struct pdb_write w = {
        .record_count = 300, .count_out = 300, .version_out = 1000, .ids_out = ids};
    struct protobuf_reply r;
    protobuf_reply_open(&r, &arena);
    while (protobuf_encode_write_step(&r, &w) > 0)
        continue;
    const Proximadb__V1__WriteResponse *m =
        read_back(&r, &proximadb__v1__write_response__descriptor);
    assert_int_equal(m->upserted, 300);
    assert_int_equal(m->n_ids, 300);
    assert_int_equal(m->n_versions, 300);
    assert_string_equal(m->ids[299], "id299");
    assert_int_equal(m->versions[299], 1000);
}

static void a_collection_comes_back_whole(void **state)
{
    (void)state;
    const struct pdb_column column = {{"price", 5}, PDB_COLUMN_FLOAT};
    const struct pdb_collection_info infos[] = {{.config = {.name = {"c", 1},
                                                            .fields = fields,
                                                            .field_count = 2,
                                                            .columns = &column,
                                                            .column_count = 1,
                                                            .sync = PDB_SYNC_BATCH,
                                                            .ttl_s = 5,
                                                            .description = {"text", 4},
                                                            .compression = PDB_COMPRESSION_SNAPPY,
                                                            .vector_storage = PDB_VECTORS_MMAP,
                                                            .version_retention_s = 7},
                                                 .uuid = "0190",
                                                 .record_count = 3,
                                                 .version = 9,
                                                 .memtable_rows = 1,
                                                 .segment_count = 2,
                                                 .segment_rows = 4,
                                                 .segment_bytes = (uint64_t)5 << 32,
                                                 .tombstones = 6,
                                                 .owner_core = 1}};
    const struct pdb_collection_list list = {.infos_out = infos, .count_out = 1, .more_out = true};
    struct protobuf_reply r;
    protobuf_reply_open(&r, &arena);
    while (protobuf_encode_collections_step(&r, &list) > 0)
        continue;
    const Proximadb__V1__ListCollectionsResponse *m =
        read_back(&r, &proximadb__v1__list_collections_response__descriptor);
    assert_string_equal(m->next_cursor, "c");
    const Proximadb__V1__Collection *c = m->collections[0];
    assert_string_equal(c->name, "c");
    assert_string_equal(c->uuid, "0190");
    assert_int_equal(c->n_fields, 2);
    assert_int_equal(c->fields[1]->metric, PROXIMADB__V1__METRIC__METRIC_HAMMING);
    assert_int_equal(c->fields[1]->index, PROXIMADB__V1__INDEX_TYPE__INDEX_TYPE_AUTO);
    assert_int_equal(c->columns[0]->type, PROXIMADB__V1__COLUMN_TYPE__COLUMN_TYPE_FLOAT);
    assert_int_equal(c->sync, PROXIMADB__V1__SYNC_MODE__SYNC_MODE_BATCH);
    assert_true(c->ttl_s == 5 && c->record_count == 3 && c->version == 9 && c->owner_core == 1);
    assert_string_equal(c->storage->compression, "snappy");
    assert_string_equal(c->storage->vectors, "mmap");
    assert_int_equal(c->storage->version_retention_s, 7);
    assert_true(c->stats->memtable_rows == 1 && c->stats->segment_count == 2 &&
                c->stats->segment_rows == 4 && c->stats->tombstones == 6);
    assert_true(c->stats->segment_bytes == (uint64_t)5 << 32);
}

static void the_deepest_document_can_be_written(void **state)
{
    (void)state;
    char json[400] = "";
    for (int i = 0; i < 63; i++)
        strcat(json, "{\"k\":");
    strcat(json, "{}");
    for (int i = 0; i < 63; i++)
        strcat(json, "}");
    struct pdb_row row = row_of("a", NULL);
    row.metadata = doc_of(json);
    const struct pdb_scroll scroll = {
        .include = PDB_INCLUDE_METADATA, .rows_out = &row, .row_count_out = 1};
    struct protobuf_reply r;
    struct pdb_text bytes;
    protobuf_reply_open(&r, &arena);
    while (protobuf_encode_scroll_step(&r, &scroll) > 0)
        continue;
    assert_int_equal(protobuf_writer_finish(&r.writer, &bytes), 0);
    unsigned depth = 0; /* of fields that are messages or keys: entries, values, maps */
    struct protobuf_field f = {.bytes = bytes};
    for (;;) {
        struct protobuf_reader reader = protobuf_reader_of(f.bytes);
        struct protobuf_field next = {0}, last = {0};
        while (protobuf_next(&reader, &next) > 0)
            if (next.type == PROTOBUF_BYTES)
                last = next;
        if (last.number == 0)
            break;
        f = last;
        depth++;
    }
    assert_int_equal(depth, 2 + 63 * 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(rows_come_back_whole),          TEST(what_was_not_asked_for_is_left_out),
        TEST(hits_come_back_by_query),       TEST(a_write_tells_ids_and_versions),
        TEST(a_collection_comes_back_whole), TEST(the_deepest_document_can_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
