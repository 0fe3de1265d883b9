/* Signatures against published examples, and what requests are encoded to. */
#include "store/store_http_internal.h"

#include "store_fixture.h"

/* "Signature Calculations for the Authorization Header", Amazon S3 API reference: the four
 * examples of 24 May 2013. */
static const struct store_credentials amazon_example = {
    .id = "AKIAIOSFODNN7EXAMPLE", .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
#define AMAZON_TIME_US 1369353600000000

static void expect_signature(struct store_request *request, const char *signature)
{
    struct arena arena = {0};
    assert_int_equal(store_sign_request_v4(&store_sign_aws, &amazon_example, "us-east-1",
                                           AMAZON_TIME_US, &arena, request),
                     0);
    const struct store_pair *last = &request->headers[request->header_count - 1];
    assert_true(text_equal(last->name, TEXT_LIT("authorization")));
    const char *found = strstr(last->value.ptr, "Signature=");
    assert_non_null(found);
    assert_string_equal(found + strlen("Signature="), signature);
    assert_non_null(strstr(last->value.ptr, "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"));
    arena_dispose(&arena);
}

static struct store_request example(const char *method, const char *path)
{
    struct store_request request = {.method = method, .path = text_of(path)};
    assert_true(store_request_header(&request, "host", TEXT_LIT("examplebucket.s3.amazonaws.com")));
    return request;
}

static void amazons_get_example_with_a_range(void **state)
{
    (void)state;
    struct store_request request = example("GET", "/test.txt");
    assert_true(store_request_header(&request, "range", TEXT_LIT("bytes=0-9")));
    expect_signature(&request, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void amazons_put_example_with_an_encoded_path(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct buffer path;
    buffer_init_arena(&path, &arena, 0);
    store_encode(&path, TEXT_LIT("/test$file.text"), true);
    buffer_add_byte(&path, '\0');
    struct store_request request = example("PUT", path.ptr);
    assert_true(store_request_header(&request, "date", TEXT_LIT("Fri, 24 May 2013 00:00:00 GMT")));
    assert_true(
        store_request_header(&request, "x-amz-storage-class", TEXT_LIT("REDUCED_REDUNDANCY")));
    assert_int_equal(store_sha256("Welcome to Amazon S3.", 21, request.body_sha256), 0);
    expect_signature(&request, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    arena_dispose(&arena);
}

static void amazons_example_of_a_query_without_value(void **state)
{
    (void)state;
    struct store_request request = example("GET", "/");
    assert_true(store_request_query(&request, "lifecycle", TEXT_LIT("")));
    expect_signature(&request, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void amazons_list_example_in_any_order(void **state)
{
    (void)state;
    struct store_request request = example("GET", "/");
    assert_true(store_request_query(&request, "prefix", TEXT_LIT("J")));
    assert_true(store_request_query(&request, "max-keys", TEXT_LIT("2")));
    expect_signature(&request, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void google_and_tokens_differ_in_names(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct store_credentials c = amazon_example;
    struct store_request aws = example("GET", "/x"), google = example("GET", "/x");
    strcpy(c.token, "session");
    assert_int_equal(store_sign_request_v4(&store_sign_aws, &c, "eu", 0, &arena, &aws), 0);
    assert_int_equal(store_sign_request_v4(&store_sign_google, &c, "auto", 0, &arena, &google), 0);
    const char *a = aws.headers[aws.header_count - 1].value.ptr;
    const char *g = google.headers[google.header_count - 1].value.ptr;
    assert_non_null(strstr(a, "SignedHeaders=host;x-amz-content-sha256;x-amz-date;"
                              "x-amz-security-token,"));
    assert_non_null(strstr(g, "GOOG4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/19700101/auto/"
                              "storage/goog4_request,SignedHeaders=host;x-goog-content-sha256;"
                              "x-goog-date,"));
    arena_dispose(&arena);
}

/* The account and key are the emulator's published ones; the signature was computed apart from this
 * code, by Python's hmac over the text that Azure's reference prescribes. */
static void azures_shared_key_covers_headers_and_query(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct store_credentials c = {
        .secret = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/"
                  "K1SZFPTOtr/KBHBeksoGMGw=="};
    struct store_request request = {.method = "PUT", .path = text_of("/container/a%3Db")};
    request.body_len = 11;
    assert_true(store_request_query(&request, "comp", TEXT_LIT("block")));
    assert_true(store_request_query(&request, "blockid", TEXT_LIT("AAAA/w==")));
    assert_true(store_request_header(&request, "x-ms-version", TEXT_LIT("2020-10-02")));
    assert_true(
        store_request_header(&request, "x-ms-date", TEXT_LIT("Sun, 22 Nov 2026 12:00:00 GMT")));
    assert_true(
        store_request_header(&request, "content-md5", TEXT_LIT("XrY7u+Ae7tCTyyK7j1rNww==")));
    assert_true(store_request_header(&request, "if-none-match", TEXT_LIT("*")));
    assert_int_equal(store_sign_request_azure("devstoreaccount1", &c, &arena, &request), 0);
    const struct store_pair *last = &request.headers[request.header_count - 1];
    assert_string_equal(last->value.ptr,
                        "SharedKey devstoreaccount1:C9bchU97sH3CqJP7yS1/EyYAzCOcg53CaZNdWXxtnNQ=");
    strcpy(c.secret, "no base64!");
    assert_int_equal(store_sign_request_azure("devstoreaccount1", &c, &arena, &request),
                     PDB_PERMISSION_DENIED);
    arena_dispose(&arena);
}

static void queries_are_sorted_and_encoded(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct buffer to;
    struct store_pair pairs[] = {
        {TEXT_LIT("uploadId"), TEXT_LIT("a+b/c==")},
        {TEXT_LIT("partNumber"), TEXT_LIT("7")},
        {TEXT_LIT("delimiter"), TEXT_LIT(" ~\xc3\xa4")},
    };
    buffer_init_arena(&to, &arena, 0);
    store_encode_query(&to, pairs, 3);
    buffer_add_byte(&to, '\0');
    assert_string_equal(to.ptr, "delimiter=%20~%C3%A4&partNumber=7&uploadId=a%2Bb%2Fc%3D%3D");
    arena_dispose(&arena);
}

static void without_memory_nothing_is_signed(void **state)
{
    (void)state;
    int rc = PDB_RESOURCE_EXHAUSTED;
    for (uint64_t n = 1; rc == PDB_RESOURCE_EXHAUSTED; n++) {
        struct arena arena = {.fail_at = n};
        struct store_request request = example("GET", "/x");
        rc = store_sign_request_v4(&store_sign_aws, &amazon_example, "us-east-1", 0, &arena,
                                   &request);
        arena_dispose(&arena);
        assert_true(n < 1000);
    }
    assert_int_equal(rc, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amazons_get_example_with_a_range),
        cmocka_unit_test(amazons_put_example_with_an_encoded_path),
        cmocka_unit_test(amazons_example_of_a_query_without_value),
        cmocka_unit_test(amazons_list_example_in_any_order),
        cmocka_unit_test(google_and_tokens_differ_in_names),
        cmocka_unit_test(azures_shared_key_covers_headers_and_query),
        cmocka_unit_test(queries_are_sorted_and_encoded),
        cmocka_unit_test(without_memory_nothing_is_signed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
