/* bench/client/decode.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/client/decode.h"
#include "bench/encode.h"

#include "proximadb_v1_proximadb.pb-c.h"
#include <string.h>

static size_t pack(const ProtobufCMessage *message, char *out)
{
    size_t size = protobuf_c_message_pack(message, (uint8_t *)out + ENCODE_GRPC_PREFIX);
    encode_grpc_prefix(out, (uint32_t)size);
    return size + ENCODE_GRPC_PREFIX;
}

static size_t make_search(char *out)
{
    Proximadb__V1__SearchHit hits[3];
    Proximadb__V1__SearchHit *list[3] = {&hits[0], &hits[1], &hits[2]};
    static char ids[3][24] = {"42", "4294967294", "not a number"};
    for (unsigned i = 0; i < 3; i++) {
        proximadb__v1__search_hit__init(&hits[i]);
        hits[i].id = ids[i];
        hits[i].score = 0.5f + (float)i;
        hits[i].version = 77;
    }
    Proximadb__V1__SearchResponse response;
    proximadb__v1__search_response__init(&response);
    response.n_results = 3;
    response.results = list;
    response.took_us = 1;
    return pack(&response.base, out);
}

static void grpc_hits_are_read_and_foreign_ids_are_unknown(void **state)
{
    (void)state;
    char reply[256];
    struct decode_hit hits[3];
    size_t count = 0;
    size_t len = make_search(reply);
    assert_int_equal(decode_search(true, (struct pdb_text){reply, len}, NULL, hits, 3, &count), 0);
    assert_int_equal(count, 3);
    assert_int_equal(hits[0].row, 42);
    assert_int_equal(hits[1].row, 4294967294u);
    assert_int_equal(hits[2].row, DECODE_ROW_UNKNOWN);
    assert_true(hits[2].score == 2.5f);
    assert_int_equal(decode_search(true, (struct pdb_text){reply, len}, NULL, hits, 1, &count), 0);
    assert_int_equal(count, 3);
}

static void a_grpc_reply_cut_anywhere_is_refused(void **state)
{
    (void)state;
    char reply[256];
    struct decode_hit hits[3];
    size_t count = 0;
    size_t len = make_search(reply);
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(decode_search(true, (struct pdb_text){reply, cut}, NULL, hits, 3, &count),
                         PDB_INTERNAL);
        if (cut < ENCODE_GRPC_PREFIX)
            continue;
        /* with a prefix that agrees: the message itself is cut; between fields that is legal */
        char shorter[256];
        memcpy(shorter, reply, len);
        encode_grpc_prefix(shorter, (uint32_t)(cut - ENCODE_GRPC_PREFIX));
        (void)decode_search(true, (struct pdb_text){shorter, cut}, NULL, hits, 3, &count);
        assert_true(count <= 3);
    }
    reply[0] = 1; /* compressed */
    assert_int_equal(decode_search(true, (struct pdb_text){reply, len}, NULL, hits, 3, &count),
                     PDB_INTERNAL);
}

static void writes_say_how_many_rows_in_both_doors(void **state)
{
    (void)state;
    char reply[64];
    struct arena arena = {0};
    uint64_t written = 0;
    Proximadb__V1__WriteResponse response;
    proximadb__v1__write_response__init(&response);
    response.upserted = 300;
    size_t len = pack(&response.base, reply);
    assert_int_equal(decode_write(true, (struct pdb_text){reply, len}, &arena, &written), 0);
    assert_int_equal(written, 300);
    assert_int_equal(
        decode_write(false, TEXT_LIT("{\"ids\":[\"a\",\"b\"],\"upserted\":2}"), &arena, &written),
        0);
    assert_int_equal(written, 2);
    assert_int_equal(decode_write(false, TEXT_LIT("{\"ids\":[]}"), &arena, &written), PDB_INTERNAL);
    assert_int_equal(decode_write(false, TEXT_LIT(""), &arena, &written), PDB_INTERNAL);
    arena_dispose(&arena);
}

static void json_hits_are_read_past_members_that_do_not_matter(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct decode_hit hits[2];
    size_t count = 0;
    static const char reply[] =
        "{\"took_us\":4,\"results\":[{\"id\":\"7\",\"score\":-0.25,\"version\":1,"
        "\"metadata\":{\"id\":\"9\",\"a\":[1,{}]}},{\"score\":1,\"id\":\"x\"}]}";
    assert_int_equal(decode_search(false, text_of(reply), &arena, hits, 2, &count), 0);
    assert_int_equal(count, 2);
    assert_int_equal(hits[0].row, 7);
    assert_true(hits[0].score == -0.25f);
    assert_int_equal(hits[1].row, DECODE_ROW_UNKNOWN);
    for (size_t cut = 0; cut < sizeof(reply) - 1; cut++)
        assert_int_equal(
            decode_search(false, (struct pdb_text){reply, cut}, &arena, hits, 2, &count),
            PDB_INTERNAL);
    arena_dispose(&arena);
}

static void a_rest_error_gives_its_code_and_message_or_the_status_decides(void **state)
{
    (void)state;
    struct arena arena = {0};
    char message[64];
    struct pdb_text body = TEXT_LIT(
        "{\"error\":{\"code\":\"NOT_FOUND\",\"message\":\"collection 'x'\",\"details\":{}}}");
    assert_int_equal(decode_rest_error(404, body, &arena, message, sizeof(message)), 5);
    assert_string_equal(message, "collection 'x'");
    assert_int_equal(decode_rest_error(503, TEXT_LIT("<html>"), &arena, message, sizeof(message)),
                     14);
    assert_string_equal(message, "HTTP status 503");
    assert_int_equal(decode_rest_error(413, (struct pdb_text){0}, &arena, message, sizeof(message)),
                     8);
    assert_int_equal(decode_rest_error(418, (struct pdb_text){0}, &arena, message, sizeof(message)),
                     2);
    arena_dispose(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grpc_hits_are_read_and_foreign_ids_are_unknown),
        cmocka_unit_test(a_grpc_reply_cut_anywhere_is_refused),
        cmocka_unit_test(writes_say_how_many_rows_in_both_doors),
        cmocka_unit_test(json_hits_are_read_past_members_that_do_not_matter),
        cmocka_unit_test(a_rest_error_gives_its_code_and_message_or_the_status_decides),
    };
    return cmocka_run_group_tests_name("bench/decode", tests, NULL, NULL);
}
