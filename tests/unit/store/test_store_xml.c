/* Answers of servers: XML and header lines, good ones, odd ones and hostile ones. */
#include "store/store_http_internal.h"

#include "store_fixture.h"

static int parse(const char *text, bool generations, struct arena *arena, struct store_xml *xml)
{
    return store_xml_parse(text_of(text), generations, arena, xml);
}

static const char amazon_list[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
    "<IsTruncated>true</IsTruncated><NextContinuationToken>1/x+=&amp;</NextContinuationToken>"
    "<Contents><Key>p/a</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
    "<ETag>&quot;abc&quot;</ETag><Size>434234</Size><Owner><ID>Key</ID></Owner></Contents>"
    "<Contents><Size>0</Size><Key>p/b</Key><Generation>17</Generation></Contents>"
    "<CommonPrefixes><Prefix>p/c/</Prefix></CommonPrefixes></ListBucketResult>";

static void a_list_of_amazon(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct store_xml xml;
    assert_int_equal(parse(amazon_list, false, &arena, &xml), 0);
    assert_string_equal(xml.root.ptr, "ListBucketResult");
    assert_string_equal(xml.next.ptr, "1/x+=&");
    assert_int_equal(xml.object_count, 2);
    assert_string_equal(xml.objects[0].key.ptr, "p/a");
    assert_int_equal(xml.objects[0].info.size, 434234);
    assert_string_equal(xml.objects[0].info.etag, "abc");
    assert_int_equal(xml.objects[0].info.modified_us, 1767323045000000);
    assert_string_equal(xml.objects[1].info.etag, "");
    assert_int_equal(parse(amazon_list, true, &arena, &xml), 0);
    assert_string_equal(xml.objects[0].info.etag, "");
    assert_string_equal(xml.objects[1].info.etag, "17");
    arena_dispose(&arena);
}

static void a_list_of_azure(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct store_xml xml;
    assert_int_equal(parse("<EnumerationResults><Blobs><Blob><Name>x/y</Name><Properties>"
                           "<Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified>"
                           "<Etag>0x8D</Etag><Content-Length>12</Content-Length></Properties>"
                           "</Blob></Blobs><NextMarker/></EnumerationResults>",
                           false, &arena, &xml),
                     0);
    assert_int_equal(xml.object_count, 1);
    assert_string_equal(xml.objects[0].key.ptr, "x/y");
    assert_int_equal(xml.objects[0].info.size, 12);
    assert_string_equal(xml.objects[0].info.etag, "0x8D");
    assert_int_equal(xml.objects[0].info.modified_us, 1767323045000000);
    assert_int_equal(xml.next.len, 0);
    arena_dispose(&arena);
}

static void errors_and_uploads(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct store_xml xml;
    assert_int_equal(
        parse("<Error><Code>SlowDown</Code><Message>m</Message></Error>", false, &arena, &xml), 0);
    assert_string_equal(xml.error_code.ptr, "SlowDown");
    assert_int_equal(parse("<InitiateMultipartUploadResult><Bucket>b</Bucket>"
                           "<UploadId>u.1</UploadId></InitiateMultipartUploadResult>",
                           false, &arena, &xml),
                     0);
    assert_string_equal(xml.upload_id.ptr, "u.1");
    arena_dispose(&arena);
}

static void what_is_no_answer_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "<html><body>proxy</html>",
        "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>99999999999999999999</Size></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>1</Size>",
        "<!DOCTYPE x [<!ENTITY a \"aaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><Error><Code>&b;</Code>"
        "</Error>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a></a>"
        "</a></a></a></a></a></a></a>",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct arena arena = {0};
        struct store_xml xml;
        assert_int_equal(parse(texts[i], false, &arena, &xml), PDB_UNAVAILABLE);
        arena_dispose(&arena);
    }
}

static void long_texts_and_names_are_bounded(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct store_xml xml;
    struct buffer b;
    buffer_init_arena(&b, &arena, 0);
    buffer_add_text(&b, TEXT_LIT("<Error><Message>"));
    for (unsigned i = 0; i < 9000; i++)
        buffer_add_byte(&b, 'x');
    buffer_add_text(&b, TEXT_LIT("</Message></Error>"));
    assert_int_equal(store_xml_parse((struct pdb_text){b.ptr, b.len}, false, &arena, &xml),
                     PDB_UNAVAILABLE);
    b.len = 0;
    buffer_add_text(&b, TEXT_LIT("<Error><"));
    for (unsigned i = 0; i < 300; i++)
        buffer_add_byte(&b, 'n');
    buffer_add_text(&b, TEXT_LIT("><Code>inner</Code></"));
    for (unsigned i = 0; i < 300; i++)
        buffer_add_byte(&b, 'n');
    buffer_add_text(&b, TEXT_LIT("><Code>outer</Code></Error>"));
    assert_int_equal(store_xml_parse((struct pdb_text){b.ptr, b.len}, false, &arena, &xml), 0);
    assert_string_equal(xml.error_code.ptr, "outer");
    arena_dispose(&arena);
}

static void memory_that_runs_out_is_told(void **state)
{
    (void)state;
    int rc = PDB_RESOURCE_EXHAUSTED;
    for (uint64_t n = 1; rc == PDB_RESOURCE_EXHAUSTED; n++) {
        struct arena arena = {.fail_at = n};
        struct store_xml xml;
        rc = parse(amazon_list, false, &arena, &xml);
        arena_dispose(&arena);
        assert_true(n < 100);
    }
    assert_int_equal(rc, 0);
}

/* ---- header lines ---- */

static struct store_answer answer_of(const char *name, const char *value)
{
    struct store_answer answer = {0};
    store_answer_header(&answer, text_of(name), text_of(value));
    return answer;
}

static void header_lines_say_what_came(void **state)
{
    (void)state;
    assert_int_equal(answer_of("Content-Length", "123").info.size, 123);
    assert_false(answer_of("Content-Length", "12x").has_length);
    assert_false(answer_of("Content-Length", "").has_length);
    assert_false(answer_of("Content-Length", "99999999999999999999").has_length);
    assert_string_equal(answer_of("ETag", "\"a-1\"").info.etag, "a-1");
    assert_string_equal(answer_of("etag", "W/\"a\"").info.etag, "W/\"a\"");
    assert_true(answer_of("x-amz-meta-crc32c", "0123abcd").info.has_crc32c);
    assert_int_equal(answer_of("X-Ms-Meta-CRC32C", "0123abcd").info.crc32c, 0x0123abcd);
    assert_false(answer_of("x-goog-meta-crc32c", "0123ABCD").info.has_crc32c);
    assert_false(answer_of("x-other-meta-crc32c", "0123abcd").info.has_crc32c);
    assert_int_equal(answer_of("Retry-After", "2").retry_after_ms, 2000);
    assert_int_equal(answer_of("Retry-After", "86400").retry_after_ms, 30000);
    assert_int_equal(answer_of("Retry-After", "Fri, 02 Jan 2026 03:04:05 GMT").retry_after_ms, 0);
    assert_int_equal(answer_of("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT").info.modified_us,
                     1767323045000000);
    assert_int_equal(answer_of("Last-Modified", "never").info.modified_us, 0);
    /* a year that microseconds cannot hold */
    assert_int_equal(
        answer_of("Last-Modified", "Fri, 02 Jan 2000000000 03:04:05 GMT").info.modified_us, 0);
    struct store_answer a = answer_of("x-goog-generation", "5");
    store_answer_header(&a, TEXT_LIT("etag"), TEXT_LIT("\"x\""));
    assert_string_equal(a.info.etag, "5");
}

static void ranges_must_make_sense(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "bytes 0-9/*", "bytes */10",    "bytes 5-4/10", "bytes 0-10/10",
        "0-9/10",      "bytes 0-9/10x", "bytes -9/10",  ""};
    struct store_answer a = answer_of("Content-Range", "bytes 3-9/10");
    assert_true(a.has_range);
    assert_int_equal(a.range_first, 3);
    assert_int_equal(a.range_total, 10);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(answer_of("Content-Range", bad[i]).has_range);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_amazon),
        cmocka_unit_test(a_list_of_azure),
        cmocka_unit_test(errors_and_uploads),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(long_texts_and_names_are_bounded),
        cmocka_unit_test(memory_that_runs_out_is_told),
        cmocka_unit_test(header_lines_say_what_came),
        cmocka_unit_test(ranges_must_make_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
