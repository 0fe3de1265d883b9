/* What import_encode.h writes is what the server's decoder reads. */
#include "server/import_encode.h"

#include "transport/codec/avro_records.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
    struct arena arena;
    struct buffer bytes;
    struct trail trail;
    struct avro_records_decoder decoder;
};

static int setup(void **state)
{
    static struct fixture fx;
    fx = (struct fixture){0};
    arena_init(&fx.arena, 0);
    buffer_init_heap(&fx.bytes, NULL, 0);
    *state = &fx;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fx = *state;
    buffer_dispose(&fx->bytes);
    arena_dispose(&fx->arena);
    return 0;
}

static void decode(struct fixture *fx, const struct import_record *records, uint32_t count)
{
    char head[IMPORT_HEAD_MAX];
    buffer_add(&fx->bytes, head, import_encode_head(head, count));
    for (uint32_t i = 0; i < count; i++)
        import_encode_record(&fx->bytes, &records[i]);
    buffer_add_byte(&fx->bytes, 0);
    assert_false(fx->bytes.failed);
    avro_records_open(&fx->decoder, &fx->arena, &api_limits_default,
                      (struct pdb_text){fx->bytes.ptr, fx->bytes.len}, "vectors", &fx->trail);
    int rc = 1;
    while (rc > 0)
        rc = avro_records_step(&fx->decoder);
    if (rc < 0)
        fail_msg("%s", fx->trail.text);
    assert_int_equal(fx->decoder.count, count);
}

static void every_member_arrives(void **state)
{
    struct fixture *fx = *state;
    const float floats[3] = {-0.0f, 1e-45f, 3.4028235e38f};
    const uint8_t bits[2] = {0xa5, 0x07};
    const struct import_record sent = {
        .id = TEXT_LIT("an id"),
        .vectors = {{TEXT_LIT(""), floats, sizeof(floats)}, {TEXT_LIT("code"), bits, 2}},
        .vector_count = 2,
        .metadata = TEXT_LIT("{\"b\":1,\"a\":[null]}"),
        .has_expires_at = true,
        .expires_at_us = -5,
        .has_if_version = true,
        .if_version = UINT64_C(1) << 62,
    };
    decode(fx, &sent, 1);
    const struct pdb_record *got = &fx->decoder.records[0];
    assert_true(text_equal(got->id, sent.id));
    assert_int_equal(got->vector_count, 2);
    assert_int_equal(got->vectors[0].form, PDB_VECTOR_BYTES);
    assert_int_equal(got->vectors[0].count, sizeof(floats));
    assert_memory_equal(got->vectors[0].values, floats, sizeof(floats));
    assert_true(text_equal(got->vectors[1].field, TEXT_LIT("code")));
    assert_int_equal(got->vectors[1].count, 2);
    assert_memory_equal(got->vectors[1].values, bits, 2);
    assert_true(got->has_metadata && got->has_expires_at && got->has_if_version);
    assert_int_equal(got->expires_at_us, -5);
    assert_true(got->if_version == sent.if_version);
    struct doc_value root = doc_root(got->metadata.ptr, got->metadata.len), value;
    assert_true(doc_get(&root, TEXT_LIT("b"), &value));
    assert_int_equal(value.integer, 1);
}

static void what_is_absent_stays_absent(void **state)
{
    struct fixture *fx = *state;
    const struct import_record sent = {.id = TEXT_LIT("a")};
    decode(fx, &sent, 1);
    const struct pdb_record *got = &fx->decoder.records[0];
    assert_int_equal(got->vector_count, 0);
    assert_false(got->has_metadata || got->has_expires_at || got->has_if_version);
}

static void numbers_of_all_lengths_arrive(void **state)
{
    enum { COUNT = 130 }; /* two bytes of a head */
    struct fixture *fx = *state;
    static struct import_record sent[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        int64_t number = i < 63 ? INT64_C(1) << i : i < 126 ? -(INT64_C(1) << (i - 63)) : INT64_MIN;
        sent[i] = (struct import_record){
            .id = TEXT_LIT("x"), .has_expires_at = true, .expires_at_us = number};
    }
    decode(fx, sent, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_true(fx->decoder.records[i].expires_at_us == sent[i].expires_at_us);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_member_arrives, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_absent_stays_absent, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_of_all_lengths_arrive, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
