/* store_s3.c: what Amazon's S3 protocol says in its own way, and Google's XML API, which is the
 * same protocol with other names: x-goog- headers, generations instead of etags in conditions,
 * bearer tokens as a second way to authorise, and no conditions on uploads in parts (large objects
 * with a condition go up in one put there).
 *
 * An upload in parts: POST ?uploads, PUT ?partNumber&uploadId for each part, POST ?uploadId with
 * the list of parts. What fails is aborted, because parts cost money until then. */
#include "store/store_http_internal.h"

#include "base/clock.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum { LIST_BYTES_MAX = 8 << 20, ABORT_LIMIT_MS = 10000, ANSWER_BYTES_MAX = 64 * 1024 };

/* ---- signing ---- */

static int sign_s3(struct store *store, const struct store_credentials *c, struct arena *arena,
                   struct store_request *request)
{
    if (store->url.anonymous)
        return 0;
    return store_sign_request_v4(&store_sign_aws, c, store->url.region, clock_realtime_us(), arena,
                                 request);
}

static int sign_google(struct store *store, const struct store_credentials *c, struct arena *arena,
                       struct store_request *request)
{
    if (store->url.anonymous)
        return 0;
    if (c->id[0] != '\0')
        return store_sign_request_v4(&store_sign_google, c, store->url.region, clock_realtime_us(),
                                     arena, request);
    struct pdb_text bearer = arena_format(arena, "Bearer %s", c->token);
    return store_request_header(request, "authorization", bearer) ? 0 : PDB_RESOURCE_EXHAUSTED;
}

/* ---- one put ---- */

static bool put_headers_s3(struct arena *arena, const struct store_digest *digest,
                           struct store_request *request)
{
    return store_request_header(request, "x-amz-checksum-crc32c",
                                arena_format(arena, "%s", digest->crc32c_base64));
}

static bool put_headers_google(struct arena *arena, const struct store_digest *digest,
                               struct store_request *request)
{
    return store_request_header(request, "x-goog-hash",
                                arena_format(arena, "crc32c=%s", digest->crc32c_base64));
}

/* ---- an upload in parts ---- */

struct upload {
    struct store *store;
    const struct store_call *call;
    struct arena *arena;
    const struct store_put_request *put;
    const struct store_source *source;
    struct pdb_text id;
    struct buffer parts; /* the XML that completes it */
};

static int begin_upload(struct upload *u, uint32_t crc, const char *write_id)
{
    struct store_request request;
    struct store_answer answer;
    struct store_xml xml;
    struct buffer text;
    buffer_init_arena(&text, u->arena, ANSWER_BYTES_MAX);
    bool ok =
        store_request_init(u->store, u->arena, "POST", u->put->key, &request) &&
        store_request_query(&request, "uploads", TEXT_LIT("")) &&
        store_request_header(&request, "content-type", TEXT_LIT("application/octet-stream")) &&
        store_put_metadata(u->store, u->arena, crc, write_id, &request);
    request.text = &text;
    int rc =
        ok ? store_http_send(u->store, u->call, &request, &answer, NULL) : store_no_memory(u->call);
    if (rc != 0)
        return rc;
    rc = store_xml_parse((struct pdb_text){text.ptr, text.len}, false, u->arena, &xml);
    if (rc == 0 && xml.upload_id.len == 0)
        rc = PDB_UNAVAILABLE;
    if (rc != 0)
        return trail_add(u->call->trail, rc, "the server began no upload");
    u->id = xml.upload_id;
    return 0;
}

static int send_part(struct upload *u, unsigned number, uint64_t at, uint64_t len)
{
    struct store_request request;
    struct store_answer answer;
    struct store_digest digest = {0};
    int rc = store_digest(u->source, at, len, STORE_DIGEST_SHA256, u->call, &digest);
    if (rc != 0)
        return rc;
    bool ok = store_request_init(u->store, u->arena, "PUT", u->put->key, &request) &&
              store_request_query(&request, "partNumber", arena_format(u->arena, "%u", number)) &&
              store_request_query(&request, "uploadId", u->id);
    if (!ok)
        return store_no_memory(u->call);
    store_request_body(&request, u->source, at, len, &digest);
    rc = store_http_send(u->store, u->call, &request, &answer, NULL);
    if (rc == 0 && answer.info.etag[0] == '\0')
        rc = trail_add(u->call->trail, PDB_UNAVAILABLE, "a part without an etag");
    for (const char *c = answer.info.etag; rc == 0 && *c != '\0'; c++) {
        if (*c == '<' || *c == '>' || *c == '&' || *c == '"')
            rc = trail_add(u->call->trail, PDB_UNAVAILABLE, "a part with a strange etag");
    }
    if (rc == 0)
        buffer_format(&u->parts,
                      "<Part><PartNumber>%u</PartNumber><ETag>&quot;%s&quot;</ETag></Part>", number,
                      answer.info.etag);
    return rc != 0 ? trail_add(u->call->trail, rc, "part %u", number) : 0;
}

static int complete_upload(struct upload *u, struct store_settlement *s, bool *settled_out)
{
    struct store_request request;
    struct store_answer answer;
    struct store_digest digest = {0};
    struct buffer text;
    buffer_add_lit(&u->parts, "</CompleteMultipartUpload>");
    buffer_init_arena(&text, u->arena, ANSWER_BYTES_MAX);
    bool ok = !u->parts.failed &&
              store_request_init(u->store, u->arena, "POST", u->put->key, &request) &&
              store_request_query(&request, "uploadId", u->id) &&
              store_request_header(&request, "content-type", TEXT_LIT("application/xml")) &&
              store_put_condition(u->store, u->arena, u->put, &request);
    if (!ok)
        return store_no_memory(u->call);
    const struct store_source body = {(const uint8_t *)u->parts.ptr, -1, 0, u->parts.len};
    int rc = store_digest(&body, 0, body.len, STORE_DIGEST_SHA256, u->call, &digest);
    if (rc != 0)
        return rc;
    store_request_body(&request, &body, 0, body.len, &digest);
    request.text = &text;
    request.patient = true;
    request.again = store_settle;
    request.arg = s;
    return store_http_send(u->store, u->call, &request, &answer, settled_out);
}

/* Best effort, also for a call that was cancelled. A bucket's rule for unfinished uploads does the
 * rest. */
static void abort_upload(struct upload *u)
{
    struct store_request request;
    struct store_answer answer;
    const struct store_call call = {.deadline_ns =
                                        clock_monotonic_ns() + ABORT_LIMIT_MS * 1000000ull};
    if (store_request_init(u->store, u->arena, "DELETE", u->put->key, &request) &&
        store_request_query(&request, "uploadId", u->id))
        (void)store_http_send(u->store, &call, &request, &answer, NULL);
}

static int put_parts(struct store *store, const struct store_call *call, struct arena *arena,
                     const struct store_put_request *put, const struct store_source *source,
                     uint32_t crc, struct store_info *info_out)
{
    struct upload u = {.store = store, .call = call, .arena = arena, .put = put, .source = source};
    struct store_settlement s = {0};
    uint64_t part = store_part_bytes(store, source->len);
    bool settled = false;
    int rc = store_settlement_begin(store, call, put, &s);
    if (rc == 0)
        rc = begin_upload(&u, crc, s.write_id);
    if (rc != 0)
        return rc;
    buffer_init_arena(&u.parts, arena, 0);
    buffer_add_lit(&u.parts, "<CompleteMultipartUpload>");
    unsigned number = 0;
    for (uint64_t at = 0; at < source->len && rc == 0; at += part) {
        uint64_t len = source->len - at < part ? source->len - at : part;
        rc = send_part(&u, ++number, at, len);
    }
    if (rc == 0)
        rc = complete_upload(&u, &s, &settled);
    if (rc != 0) {
        abort_upload(&u);
        return rc;
    }
    if (settled)
        *info_out = s.info;
    else /* the etag, and proof of the length */
        rc = store_head(store, call, put->key, info_out);
    if (rc == 0 && info_out->size != source->len)
        rc = trail_add(call->trail, PDB_DATA_LOSS, "the parts became %llu bytes, not %llu",
                       (unsigned long long)info_out->size, (unsigned long long)source->len);
    return rc;
}

/* ---- list ---- */

static int list_page(struct store *store, const struct store_call *call, struct arena *arena,
                     const struct store_list_request *list, struct pdb_text token,
                     struct store_xml *page_out)
{
    struct store_request request;
    struct store_answer answer;
    struct buffer text;
    struct pdb_text prefix =
        arena_format(arena, "%s%.*s", store->url.prefix, TEXT_ARG(list->prefix));
    bool ok =
        store_request_init(store, arena, "GET", (struct pdb_text){"", 0}, &request) &&
        store_request_query(&request, "list-type", TEXT_LIT("2")) &&
        store_request_query(&request, "max-keys", arena_format(arena, "%u", list->page_max)) &&
        store_request_query(&request, "prefix", prefix);
    if (ok && token.len != 0)
        ok = store_request_query(&request, "continuation-token", token);
    else if (ok && list->after.len != 0)
        ok = store_request_query(
            &request, "start-after",
            arena_format(arena, "%s%.*s", store->url.prefix, TEXT_ARG(list->after)));
    buffer_init_arena(&text, arena, LIST_BYTES_MAX);
    request.text = &text;
    int rc = ok ? store_http_send(store, call, &request, &answer, NULL) : store_no_memory(call);
    if (rc != 0)
        return rc;
    rc = store_xml_parse((struct pdb_text){text.ptr, text.len},
                         store_dialect_of(store)->etag_is_generation, arena, page_out);
    if (rc == 0 && !text_equal(page_out->root, TEXT_LIT("ListBucketResult")))
        rc = PDB_UNAVAILABLE;
    return rc != 0 ? trail_add(call->trail, rc, "an answer that is no list") : 0;
}

const struct store_dialect store_dialect_s3 = {
    .meta_prefix = "x-amz-meta-",
    .absent_header = "if-none-match",
    .absent_value = "*",
    .match_header = "if-match",
    .parts_with_condition = true,
    .digest = STORE_DIGEST_SHA256,
    .put_bytes_max = 5ull << 30,
    .part_bytes_min = 5 << 20,
    .parts_max = 10000,
    .sign = sign_s3,
    .put_headers = put_headers_s3,
    .put_parts = put_parts,
    .list_page = list_page,
};

const struct store_dialect store_dialect_google = {
    .meta_prefix = "x-goog-meta-",
    .absent_header = "x-goog-if-generation-match",
    .absent_value = "0",
    .match_header = "x-goog-if-generation-match",
    .etag_is_generation = true,
    .digest = STORE_DIGEST_SHA256,
    .put_bytes_max = 5ull << 40,
    .part_bytes_min = 5 << 20,
    .parts_max = 10000,
    .sign = sign_google,
    .put_headers = put_headers_google,
    .put_parts = put_parts,
    .list_page = list_page,
};
