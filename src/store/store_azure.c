/* store_azure.c: Azure Blob Storage's REST API: block blobs, authorised by SharedKey or a shared
 * access signature (SAS).
 *
 * A large object is a list of blocks: PUT ?comp=block for each, then PUT ?comp=blocklist, which
 * alone makes it visible and carries the condition. Blocks that never get a list vanish by
 * themselves after a week. */
#include "store/store_http_internal.h"

#include "base/base64.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/no_libc_heap.h"

enum { LIST_BYTES_MAX = 8 << 20, BLOCK_NAME_SIZE = 48, DATE_SIZE = 40 };

#define SERVICE_VERSION "2020-10-02"

/* ---- signing ---- */

/* RFC 9110, section 5.6.7, in English whatever the locale. */
static void format_date(int64_t time_us, char text_out[DATE_SIZE])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t seconds = (time_t)(time_us / 1000000);
    struct tm tm = {0};
    (void)gmtime_r(&seconds, &tm);
    (void)snprintf(text_out, DATE_SIZE, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
                   days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon,
                   (tm.tm_year + 1900) % 10000, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static int sign(struct store *store, const struct store_credentials *c, struct arena *arena,
                struct store_request *request)
{
    char date[DATE_SIZE];
    format_date(clock_realtime_us(), date);
    if (!store_request_header(request, "x-ms-version", TEXT_LIT(SERVICE_VERSION)) ||
        !store_request_header(request, "x-ms-date", arena_copy_text(arena, date, strlen(date))))
        return PDB_RESOURCE_EXHAUSTED;
    if (store->url.anonymous || c->token[0] != '\0') /* a SAS stands in the query */
        return 0;
    return store_sign_request_azure(store->url.account, c, arena, request);
}

/* ---- one put ---- */

static bool add_md5(struct arena *arena, const struct store_digest *digest,
                    struct store_request *request)
{
    return digest->md5_base64[0] == '\0' ||
           store_request_header(request, "content-md5",
                                arena_format(arena, "%s", digest->md5_base64));
}

static bool put_headers(struct arena *arena, const struct store_digest *digest,
                        struct store_request *request)
{
    return store_request_header(request, "x-ms-blob-type", TEXT_LIT("BlockBlob")) &&
           add_md5(arena, digest, request);
}

/* ---- blocks ---- */

struct upload {
    struct store *store;
    const struct store_call *call;
    struct arena *arena;
    const struct store_put_request *put;
    const struct store_source *source;
    const char *write_id;
    struct buffer list; /* the XML of the block list */
};

static int send_block(struct upload *u, unsigned number, uint64_t at, uint64_t len)
{
    char name[BLOCK_NAME_SIZE], id[BLOCK_NAME_SIZE * 2];
    struct store_request request;
    struct store_answer answer;
    struct store_digest digest = {0};
    int rc = store_digest(u->source, at, len, STORE_DIGEST_MD5, u->call, &digest);
    if (rc != 0)
        return rc;
    /* All ids of a blob have one length, and ours are of this upload alone. */
    int name_len = snprintf(name, sizeof(name), "%s%06u", u->write_id, number);
    base64_encode(name, (size_t)name_len, id);
    struct pdb_text block_id = arena_copy_text(u->arena, id, base64_encoded_len((size_t)name_len));
    bool ok = store_request_init(u->store, u->arena, "PUT", u->put->key, &request) &&
              store_request_query(&request, "comp", TEXT_LIT("block")) &&
              store_request_query(&request, "blockid", block_id) &&
              add_md5(u->arena, &digest, &request);
    if (!ok)
        return store_no_memory(u->call);
    store_request_body(&request, u->source, at, len, &digest);
    rc = store_http_send(u->store, u->call, &request, &answer, NULL);
    if (rc == 0)
        buffer_format(&u->list, "<Latest>%s</Latest>", block_id.ptr);
    return rc != 0 ? trail_add(u->call->trail, rc, "block %u", number) : 0;
}

static int send_list(struct upload *u, uint32_t crc, struct store_settlement *s,
                     struct store_answer *answer_out, bool *settled_out)
{
    struct store_request request;
    struct store_digest digest = {0};
    buffer_add_lit(&u->list, "</BlockList>");
    bool ok = !u->list.failed &&
              store_request_init(u->store, u->arena, "PUT", u->put->key, &request) &&
              store_request_query(&request, "comp", TEXT_LIT("blocklist")) &&
              store_request_header(&request, "content-type", TEXT_LIT("application/xml")) &&
              store_request_header(&request, "x-ms-blob-content-type",
                                   TEXT_LIT("application/octet-stream")) &&
              store_put_metadata(u->store, u->arena, crc, u->write_id, &request) &&
              store_put_condition(u->store, u->arena, u->put, &request);
    if (!ok)
        return store_no_memory(u->call);
    const struct store_source body = {(const uint8_t *)u->list.ptr, -1, 0, u->list.len};
    int rc = store_digest(&body, 0, body.len, STORE_DIGEST_MD5, u->call, &digest);
    if (rc != 0)
        return rc;
    store_request_body(&request, &body, 0, body.len, &digest);
    request.again = store_settle;
    request.arg = s;
    return store_http_send(u->store, u->call, &request, answer_out, settled_out);
}

static int put_parts(struct store *store, const struct store_call *call, struct arena *arena,
                     const struct store_put_request *put, const struct store_source *source,
                     uint32_t crc, struct store_info *info_out)
{
    struct store_settlement s = {0};
    struct store_answer answer;
    bool settled = false;
    uint64_t block = store_part_bytes(store, source->len);
    int rc = store_settlement_begin(store, call, put, &s);
    if (rc != 0)
        return rc;
    struct upload u = {.store = store,
                       .call = call,
                       .arena = arena,
                       .put = put,
                       .source = source,
                       .write_id = s.write_id};
    buffer_init_arena(&u.list, arena, 0);
    buffer_add_lit(&u.list, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    unsigned number = 0;
    for (uint64_t at = 0; at < source->len && rc == 0; at += block) {
        uint64_t len = source->len - at < block ? source->len - at : block;
        rc = send_block(&u, ++number, at, len);
    }
    if (rc == 0)
        rc = send_list(&u, crc, &s, &answer, &settled);
    if (rc != 0)
        return rc;
    *info_out = settled ? s.info : answer.info;
    info_out->size = source->len;
    info_out->crc32c = crc;
    info_out->has_crc32c = true;
    return 0;
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
        store_request_query(&request, "restype", TEXT_LIT("container")) &&
        store_request_query(&request, "comp", TEXT_LIT("list")) &&
        store_request_query(&request, "maxresults", arena_format(arena, "%u", list->page_max)) &&
        store_request_query(&request, "prefix", prefix);
    if (ok && token.len != 0)
        ok = store_request_query(&request, "marker", token);
    buffer_init_arena(&text, arena, LIST_BYTES_MAX);
    request.text = &text;
    int rc = ok ? store_http_send(store, call, &request, &answer, NULL) : store_no_memory(call);
    if (rc != 0)
        return rc;
    rc = store_xml_parse((struct pdb_text){text.ptr, text.len}, false, arena, page_out);
    if (rc == 0 && !text_equal(page_out->root, TEXT_LIT("EnumerationResults")))
        rc = PDB_UNAVAILABLE;
    return rc != 0 ? trail_add(call->trail, rc, "an answer that is no list") : 0;
}

const struct store_dialect store_dialect_azure = {
    .meta_prefix = "x-ms-meta-",
    .absent_header = "if-none-match",
    .absent_value = "*",
    .match_header = "if-match",
    .parts_with_condition = true,
    .digest = STORE_DIGEST_MD5,
    .put_bytes_max = 5000ull << 20,
    .part_bytes_min = 64 * 1024,
    .parts_max = 50000,
    .sign = sign,
    .put_headers = put_headers,
    .put_parts = put_parts,
    .list_page = list_page,
};
