/* bench/encode.c, encode_filter.c, encode_text.c, client/body.c: what is written by hand is read
 * back by the generated code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/heap.h"
#include "base/json.h"
#include "bench/encode.h"

#include "proximadb_v1_proximadb.pb-c.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 10, DIMENSION = 5 };

struct fixture {
    struct dataset rows;
    struct encode_text text;
    struct encode_target target;
    struct body body;
    struct arena arena;
    struct trail trail;
    char *bytes;
};

static int make(void **state)
{
    static struct fixture fx;
    memset(&fx, 0, sizeof(fx));
    body_init(&fx.body);
    *state = &fx;
    if (dataset_generate(
            &fx.rows,
            &(struct dataset_shape){
                .row_count = ROWS, .dimension = DIMENSION, .seed = 3, .label_count = 100},
            NULL) < 0 ||
        encode_text_make(&fx.text, &fx.rows, 3) < 0)
        return 1;
    fx.rows.labels[2] = 0;
    fx.rows.labels[3] = 127;
    fx.rows.labels[4] = 128;
    fx.rows.labels[5] = INT32_MAX;
    fx.target = (struct encode_target){.grpc = true,
                                       .format = ENCODE_PACKED,
                                       .collection = "things",
                                       .rows = &fx.rows,
                                       .text = &fx.text,
                                       .k = 300};
    return 0;
}

static int drop(void **state)
{
    struct fixture *fx = *state;
    free(fx->bytes);
    body_dispose(&fx->body);
    dataset_dispose(&fx->rows);
    encode_text_dispose(&fx->text);
    arena_dispose(&fx->arena);
    return 0;
}

/* The whole body in one piece; for gRPC without its prefix, which must fit. */
static size_t flatten(struct fixture *fx)
{
    free(fx->bytes);
    fx->bytes = malloc(fx->body.bytes + 1);
    assert_non_null(fx->bytes);
    assert_int_equal(body_copy(&fx->body, 0, fx->bytes, fx->body.bytes + 1), fx->body.bytes);
    size_t len = fx->body.bytes;
    if (fx->target.grpc) {
        len -= ENCODE_GRPC_PREFIX;
        char prefix[ENCODE_GRPC_PREFIX];
        encode_grpc_prefix(prefix, (uint32_t)len);
        assert_memory_equal(fx->bytes, prefix, sizeof(prefix));
        memmove(fx->bytes, fx->bytes + ENCODE_GRPC_PREFIX, len);
    }
    fx->bytes[len] = '\0';
    return len;
}

static void check_label(const struct fixture *fx, const Proximadb__V1__MapValue *map, uint64_t id)
{
    assert_int_equal(map->n_fields, 1);
    assert_string_equal(map->fields[0]->key, "label");
    assert_int_equal(map->fields[0]->value->kind_case, PROXIMADB__V1__VALUE__KIND_INTEGER_VALUE);
    assert_int_equal(map->fields[0]->value->integer_value, fx->rows.labels[id % ROWS]);
}

static Proximadb__V1__WriteRequest *encode_write(struct fixture *fx, uint64_t first, size_t count)
{
    assert_int_equal(encode_upsert(&fx->body, &fx->target, first, count), 0);
    size_t len = flatten(fx);
    Proximadb__V1__WriteRequest *request =
        proximadb__v1__write_request__unpack(NULL, len, (uint8_t *)fx->bytes);
    assert_non_null(request);
    assert_string_equal(request->collection, "things");
    return request;
}

static void a_packed_batch_reads_back_also_where_it_wraps_around_the_rows(void **state)
{
    struct fixture *fx = *state;
    static const uint64_t firsts[] = {0, 5, 8, 95, 999999999999};
    for (size_t f = 0; f < sizeof(firsts) / sizeof(firsts[0]); f++) {
        for (size_t count = 1; count <= ROWS; count++) {
            Proximadb__V1__WriteRequest *request = encode_write(fx, firsts[f], count);
            const Proximadb__V1__PackedBatch *packed = request->packed;
            assert_int_equal(packed->n_ids, count);
            assert_int_equal(packed->n_metadata, count);
            assert_int_equal(packed->vectors.len, count * DIMENSION * sizeof(float));
            for (size_t i = 0; i < count; i++) {
                char id[32];
                (void)snprintf(id, sizeof(id), "%llu", (unsigned long long)(firsts[f] + i));
                assert_string_equal(packed->ids[i], id);
                assert_memory_equal(packed->vectors.data + i * DIMENSION * sizeof(float),
                                    fx->rows.values + (firsts[f] + i) % ROWS * DIMENSION,
                                    DIMENSION * sizeof(float));
                check_label(fx, packed->metadata[i], firsts[f] + i);
            }
            proximadb__v1__write_request__free_unpacked(request, NULL);
        }
    }
}

static void the_vectors_of_a_packed_batch_are_pointed_at_not_copied(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(encode_upsert(&fx->body, &fx->target, 2, 4), 0);
    assert_int_equal(fx->body.piece_count, 3);
    assert_ptr_equal(fx->body.pieces[1].ptr, (const char *)(fx->rows.values + 2 * DIMENSION));
}

static void records_read_back_with_and_without_metadata(void **state)
{
    struct fixture *fx = *state;
    fx->target.format = ENCODE_RECORDS;
    for (unsigned with = 0; with < 2; with++) {
        Proximadb__V1__WriteRequest *request = encode_write(fx, 7, 6);
        assert_int_equal(request->n_records, 6);
        for (size_t i = 0; i < 6; i++) {
            const Proximadb__V1__Record *record = request->records[i];
            assert_int_equal(atoi(record->id), 7 + i);
            assert_int_equal(record->n_vector, DIMENSION);
            assert_memory_equal(record->vector, fx->rows.values + (7 + i) % ROWS * DIMENSION,
                                DIMENSION * sizeof(float));
            if (with == 0)
                check_label(fx, record->metadata, 7 + i);
            else
                assert_null(record->metadata);
        }
        proximadb__v1__write_request__free_unpacked(request, NULL);
        heap_free(NULL, fx->rows.labels);
        fx->rows.labels = NULL;
    }
}

static int64_t avro_long(const uint8_t **at)
{
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
    }
}

static void avro_records_follow_the_schema_in_both_doors(void **state)
{
    struct fixture *fx = *state;
    fx->target.format = ENCODE_AVRO;
    for (unsigned grpc = 0; grpc < 2; grpc++) {
        fx->target.grpc = grpc == 1;
        Proximadb__V1__WriteRequest *request = NULL;
        const uint8_t *at = NULL;
        const uint8_t *end = NULL;
        if (grpc == 1) {
            request = encode_write(fx, 1, 5);
            at = request->avro_records.data;
            end = at + request->avro_records.len;
        } else {
            assert_int_equal(encode_upsert(&fx->body, &fx->target, 1, 5), 0);
            size_t len = flatten(fx);
            at = (const uint8_t *)fx->bytes;
            end = at + len;
        }
        assert_int_equal(avro_long(&at), 5);
        for (unsigned i = 0; i < 5; i++) {
            char json[40];
            assert_int_equal(avro_long(&at), 1);
            assert_int_equal(*at++, '1' + i);
            assert_int_equal(avro_long(&at), 1);
            assert_int_equal(avro_long(&at), 0);
            assert_int_equal(avro_long(&at), DIMENSION * sizeof(float));
            assert_memory_equal(at, fx->rows.values + (1 + i) * DIMENSION,
                                DIMENSION * sizeof(float));
            at += DIMENSION * sizeof(float);
            assert_int_equal(avro_long(&at), 0);
            assert_int_equal(avro_long(&at), 1);
            int len = snprintf(json, sizeof(json), "{\"label\":%d}", fx->rows.labels[1 + i]);
            assert_int_equal(avro_long(&at), len);
            assert_memory_equal(at, json, (size_t)len);
            at += len;
            assert_int_equal(avro_long(&at), 0);
            assert_int_equal(avro_long(&at), 0);
        }
        assert_int_equal(avro_long(&at), 0);
        assert_ptr_equal(at, end);
        proximadb__v1__write_request__free_unpacked(request, NULL);
    }
}

static void a_grpc_search_reads_back(void **state)
{
    struct fixture *fx = *state;
    for (unsigned format = ENCODE_PACKED; format <= ENCODE_RECORDS; format++) {
        fx->target.format = format;
        assert_int_equal(
            encode_filter(&fx->arena, TEXT_LIT("{\"label\":3}"), &fx->target.filter, &fx->trail),
            0);
        fx->target.params = TEXT_LIT("\x08\x40"); /* ef = 64 */
        assert_int_equal(encode_search(&fx->body, &fx->target, 4), 0);
        size_t len = flatten(fx);
        Proximadb__V1__SearchRequest *request =
            proximadb__v1__search_request__unpack(NULL, len, (uint8_t *)fx->bytes);
        assert_non_null(request);
        assert_string_equal(request->collection, "things");
        assert_int_equal(request->query->k, 300);
        assert_int_equal(request->query->params->ef, 64);
        const void *vector = format == ENCODE_PACKED
                                 ? (const void *)request->query->packed_vector.data
                                 : (const void *)request->query->vector;
        assert_int_equal(request->query->n_vector, format == ENCODE_PACKED ? 0 : DIMENSION);
        assert_memory_equal(vector, fx->rows.values + 4 * DIMENSION, DIMENSION * sizeof(float));
        assert_int_equal(request->query->filter->node_case, PROXIMADB__V1__FILTER__NODE_CONDITION);
        proximadb__v1__search_request__free_unpacked(request, NULL);
    }
}

static struct doc_value parse(struct fixture *fx, size_t len)
{
    struct json_reader reader;
    struct pdb_text doc;
    struct doc_builder *builder = doc_builder_new(&fx->arena, 1 << 20);
    json_open(&reader, fx->bytes, len, 64, NULL);
    assert_int_equal(json_read_doc(&reader, builder), 0);
    assert_int_equal(json_finish(&reader), 0);
    assert_int_equal(doc_builder_finish(builder, &doc, NULL), 0);
    return doc_root(doc.ptr, doc.len);
}

static struct doc_value member(const struct doc_value *object, const char *name)
{
    struct doc_value value;
    assert_true(doc_get(object, text_of(name), &value));
    return value;
}

static void check_floats(const struct doc_value *array, const float *values)
{
    struct doc_iter iter = doc_iterate(array);
    struct pdb_text key;
    struct doc_value value;
    for (size_t i = 0; i < DIMENSION; i++) {
        assert_true(doc_next(&iter, &key, &value));
        assert_true((float)(value.type == DOC_INT ? (double)value.integer : value.number) ==
                    values[i]);
    }
    assert_false(doc_next(&iter, &key, &value));
}

static void json_bodies_parse_and_floats_keep_every_bit(void **state)
{
    struct fixture *fx = *state;
    fx->target.grpc = false;
    fx->target.format = ENCODE_RECORDS;
    assert_int_equal(encode_upsert(&fx->body, &fx->target, 8, 4), 0);
    struct doc_value root = parse(fx, flatten(fx));
    struct doc_value vectors = member(&root, "vectors");
    struct doc_iter iter = doc_iterate(&vectors);
    struct pdb_text key;
    struct doc_value record;
    uint64_t id = 8;
    for (; doc_next(&iter, &key, &record); id++) {
        struct doc_value vector = member(&record, "vector");
        struct doc_value metadata = member(&record, "metadata");
        check_floats(&vector, fx->rows.values + id % ROWS * DIMENSION);
        assert_int_equal(member(&metadata, "label").integer, fx->rows.labels[id % ROWS]);
    }
    assert_int_equal(id, 12);
    fx->target.filter = TEXT_LIT("{\"label\":{\"$lt\":3}}");
    assert_int_equal(encode_search(&fx->body, &fx->target, 6), 0);
    root = parse(fx, flatten(fx));
    struct doc_value vector = member(&root, "vector");
    check_floats(&vector, fx->rows.values + 6 * DIMENSION);
    assert_int_equal(member(&root, "k").integer, 300);
    assert_int_equal(member(&root, "filter").type, DOC_OBJECT);
}

static void a_packed_json_batch_is_base64_of_the_rows_also_where_it_wraps(void **state)
{
    struct fixture *fx = *state;
    fx->target.grpc = false;
    for (uint64_t first = 0; first < 12; first++) {
        assert_int_equal(encode_upsert(&fx->body, &fx->target, first, 7), 0);
        struct doc_value root = parse(fx, flatten(fx));
        struct doc_value packed = member(&root, "packed");
        struct pdb_text text = member(&packed, "vectors").string;
        float values[7 * DIMENSION + 1];
        size_t len = 0;
        size_t bad = 0;
        assert_int_equal(base64_decode(text.ptr, text.len, false, values, &len, &bad), 0);
        assert_int_equal(len, 7 * DIMENSION * sizeof(float));
        for (size_t i = 0; i < 7; i++)
            assert_memory_equal(values + i * DIMENSION,
                                fx->rows.values + (first + i) % ROWS * DIMENSION,
                                DIMENSION * sizeof(float));
        assert_int_equal(member(&packed, "ids").children.count, 7);
        assert_int_equal(member(&packed, "metadata").children.count, 7);
    }
}

static Proximadb__V1__Filter *filter_of(struct fixture *fx, const char *json)
{
    struct pdb_text message;
    trail_reset(&fx->trail);
    assert_int_equal(encode_filter(&fx->arena, text_of(json), &message, &fx->trail), 0);
    Proximadb__V1__Filter *filter =
        proximadb__v1__filter__unpack(NULL, message.len, (const uint8_t *)message.ptr);
    assert_non_null(filter);
    return filter;
}

static void every_operator_and_kind_of_operand_has_its_message(void **state)
{
    struct fixture *fx = *state;
    static const char *const names[] = {"eq", "ne",  "gt",     "gte",      "lt",    "lte",
                                        "in", "nin", "exists", "contains", "prefix"};
    static const struct {
        const char *json;
        int kind;
    } operands[] = {
        {"null", PROXIMADB__V1__VALUE__KIND_NULL_VALUE},
        {"true", PROXIMADB__V1__VALUE__KIND_BOOL_VALUE},
        {"-5", PROXIMADB__V1__VALUE__KIND_INTEGER_VALUE},
        {"0.5", PROXIMADB__V1__VALUE__KIND_FLOAT_VALUE},
        {"\"x\"", PROXIMADB__V1__VALUE__KIND_STRING_VALUE},
        {"[1,\"y\"]", PROXIMADB__V1__VALUE__KIND_LIST_VALUE},
    };
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        for (size_t i = 0; i < sizeof(operands) / sizeof(operands[0]); i++) {
            char json[80];
            (void)snprintf(json, sizeof(json), "{\"a.b\":{\"$%s\":%s}}", names[n],
                           operands[i].json);
            Proximadb__V1__Filter *filter = filter_of(fx, json);
            assert_int_equal(filter->node_case, PROXIMADB__V1__FILTER__NODE_CONDITION);
            assert_string_equal(filter->condition->key, "a.b");
            assert_int_equal(filter->condition->operator_, n + 1);
            assert_int_equal(filter->condition->value->kind_case, operands[i].kind);
            if (i == 2)
                assert_int_equal(filter->condition->value->integer_value, -5);
            if (i == 5)
                assert_int_equal(filter->condition->value->list_value->n_values, 2);
            proximadb__v1__filter__free_unpacked(filter, NULL);
        }
    }
}

static void several_keys_mean_and_and_groups_nest(void **state)
{
    struct fixture *fx = *state;
    Proximadb__V1__Filter *filter = filter_of(
        fx, "{\"a\":1,\"b\":{\"$gt\":0,\"$lt\":9},\"$or\":[{\"c\":2},{\"$not\":{\"d\":3}}]}");
    assert_int_equal(filter->node_case, PROXIMADB__V1__FILTER__NODE_AND);
    assert_int_equal(filter->and_->n_filters, 3);
    unsigned seen[5] = {0};
    for (size_t i = 0; i < 3; i++) {
        const Proximadb__V1__Filter *part = filter->and_->filters[i];
        assert_true((size_t)part->node_case < 5);
        seen[part->node_case]++;
        if (part->node_case == PROXIMADB__V1__FILTER__NODE_OR)
            assert_int_equal(part->or_->filters[1]->not_->node_case,
                             PROXIMADB__V1__FILTER__NODE_CONDITION);
    }
    assert_int_equal(seen[PROXIMADB__V1__FILTER__NODE_AND], 1);
    assert_int_equal(seen[PROXIMADB__V1__FILTER__NODE_OR], 1);
    assert_int_equal(seen[PROXIMADB__V1__FILTER__NODE_CONDITION], 1);
    proximadb__v1__filter__free_unpacked(filter, NULL);
}

static void a_filter_that_is_wrong_or_too_deep_is_refused(void **state)
{
    struct fixture *fx = *state;
    static const char *const wrong[] = {
        "",        "[]",           "{\"a\":{\"$near\":1}}", "{\"$and\":{}}", "{\"$or\":1}",
        "{\"a\":", "{\"$not\":5}", "{\"a\":{\"$eq\":{}}}",  "{\"a\":1} 2"};
    struct pdb_text message;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(encode_filter(&fx->arena, text_of(wrong[i]), &message, &fx->trail),
                         PDB_INVALID_ARGUMENT);
    char deep[400] = "";
    for (unsigned i = 0; i < 33; i++)
        (void)strcat(deep, "{\"$not\":");
    (void)strcat(deep, "{\"a\":1}");
    for (unsigned i = 0; i < 33; i++)
        (void)strcat(deep, "}");
    assert_int_equal(encode_filter(&fx->arena, text_of(deep), &message, &fx->trail),
                     PDB_INVALID_ARGUMENT);
}

static void memory_that_runs_out_is_an_error_of_the_body(void **state)
{
    struct fixture *fx = *state;
    fx->body.scratch.len_max = 100;
    fx->target.format = ENCODE_RECORDS;
    assert_int_equal(encode_upsert(&fx->body, &fx->target, 0, ROWS), PDB_RESOURCE_EXHAUSTED);
    fx->body.scratch.len_max = 0;
    assert_int_equal(encode_upsert(&fx->body, &fx->target, 0, ROWS), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        TEST(a_packed_batch_reads_back_also_where_it_wraps_around_the_rows),
        TEST(the_vectors_of_a_packed_batch_are_pointed_at_not_copied),
        TEST(records_read_back_with_and_without_metadata),
        TEST(avro_records_follow_the_schema_in_both_doors),
        TEST(a_grpc_search_reads_back),
        TEST(json_bodies_parse_and_floats_keep_every_bit),
        TEST(a_packed_json_batch_is_base64_of_the_rows_also_where_it_wraps),
        TEST(every_operator_and_kind_of_operand_has_its_message),
        TEST(several_keys_mean_and_and_groups_nest),
        TEST(a_filter_that_is_wrong_or_too_deep_is_refused),
        TEST(memory_that_runs_out_is_an_error_of_the_body),
    };
    return cmocka_run_group_tests_name("bench/encode", tests, NULL, NULL);
}
