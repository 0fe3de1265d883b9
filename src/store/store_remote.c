/* store_remote.c: the operations of a store behind a server, in words that all dialects share.
 *
 * Put. The source is read once for its checksums, so that the server can verify what arrives (a
 * signed SHA-256 with S3 and Google, Content-MD5 with Azure) and a later reader what is stored: the
 * crc32c of the whole object travels as metadata. Objects above part_bytes go up in parts, unless a
 * condition is set that the dialect cannot check for parts.
 *
 * A put that may have happened. Every put gives its object a random write id. When the outcome of a
 * conditional put is unknown, or it is refused, a HEAD tells: our id means that it was us.
 *
 * Get. A get that breaks off goes on where it was, on condition that the object is the same.
 * Lengths are checked against the server's words and the crc32c against the metadata; damage is
 * read a second time before it is believed. */
#include "store/store_http_internal.h"

#include "base/assert.h"
#include "base/base64.h"
#include "base/crc32c.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum { DIGEST_CHUNK_BYTES = 1 << 20, GET_ROUNDS = 2, TOKEN_MAX = 4096 };

const struct store_dialect *store_dialect_of(const struct store *store)
{
    switch (store->url.scheme) {
    case STORE_S3:
        return &store_dialect_s3;
    case STORE_GS:
        return &store_dialect_google;
    case STORE_AZ:
        return &store_dialect_azure;
    case STORE_FILE:
    case STORE_MEM:
        break;
    }
    ASSERT(false);
    return NULL;
}

int store_no_memory(const struct store_call *call)
{
    return trail_add(call->trail, PDB_RESOURCE_EXHAUSTED, "no memory for a request");
}

/* ---- requests ---- */

bool store_request_init(const struct store *store, struct arena *arena, const char *method,
                        struct pdb_text key, struct store_request *request_out)
{
    const struct store_url *u = &store->url;
    struct buffer path;
    buffer_init_arena(&path, arena, 0);
    buffer_add_text(&path, text_of(u->base_path));
    buffer_add_byte(&path, '/');
    if (u->path_style) {
        store_encode(&path, text_of(u->bucket), false);
        if (key.len != 0)
            buffer_add_byte(&path, '/');
    }
    if (key.len != 0) {
        store_encode(&path, text_of(u->prefix), true);
        store_encode(&path, key, true);
    }
    *request_out = (struct store_request){.method = method, .path = {path.ptr, path.len}};
    return !path.failed;
}

void store_request_body(struct store_request *request, const struct store_source *source,
                        uint64_t at, uint64_t len, const struct store_digest *digest)
{
    request->body = source;
    request->body_at = at;
    request->body_len = len;
    memcpy(request->body_sha256, digest->sha256, sizeof(request->body_sha256));
}

static struct pdb_text meta_name(const struct store *store, struct arena *arena, const char *name)
{
    return arena_format(arena, "%s%s", store_dialect_of(store)->meta_prefix, name);
}

bool store_put_metadata(const struct store *store, struct arena *arena, uint32_t crc,
                        const char *write_id, struct store_request *request)
{
    struct pdb_text crc_name = meta_name(store, arena, "crc32c");
    struct pdb_text id_name = meta_name(store, arena, "writeid");
    return crc_name.ptr != NULL && id_name.ptr != NULL &&
           store_request_header(request, crc_name.ptr, arena_format(arena, "%08x", crc)) &&
           store_request_header(request, id_name.ptr, text_of(write_id));
}

static bool add_match(const struct store_dialect *d, struct arena *arena, const char *etag,
                      struct store_request *request)
{
    return store_request_header(request, d->match_header,
                                arena_format(arena, d->etag_is_generation ? "%s" : "\"%s\"", etag));
}

bool store_put_condition(const struct store *store, struct arena *arena,
                         const struct store_put_request *put, struct store_request *request)
{
    const struct store_dialect *d = store_dialect_of(store);
    switch (put->condition) {
    case STORE_ALWAYS:
        return true;
    case STORE_IF_ABSENT:
        return store_request_header(request, d->absent_header, text_of(d->absent_value));
    case STORE_IF_MATCH:
        return add_match(d, arena, put->etag, request);
    }
    return false;
}

/* ---- checksums of what is sent ---- */

static int digest_chunks(const struct store_source *source, uint64_t at, uint64_t len,
                         EVP_MD_CTX *md, const struct store_call *call, uint32_t *crc_out)
{
    size_t room = len < DIGEST_CHUNK_BYTES ? (size_t)len : DIGEST_CHUNK_BYTES;
    uint8_t *chunk = heap_alloc(NULL, room);
    if (chunk == NULL)
        return store_no_memory(call);
    uint32_t crc = 0;
    int rc = 0;
    for (uint64_t end = at + len; at != end && rc == 0;) {
        size_t size = end - at < room ? (size_t)(end - at) : room;
        rc = store_call_check(call);
        if (rc == 0)
            rc = store_source_read(source, at, chunk, size, call->trail);
        crc = crc32c(crc, chunk, size);
        if (rc == 0 && md != NULL && EVP_DigestUpdate(md, chunk, size) != 1)
            rc = trail_add(call->trail, PDB_INTERNAL, "OpenSSL cannot hash");
        at += size;
    }
    heap_free(NULL, chunk);
    *crc_out = crc;
    return rc;
}

int store_digest(const struct store_source *source, uint64_t at, uint64_t len,
                 enum store_digest_kind kind, const struct store_call *call,
                 struct store_digest *digest_out)
{
    struct store_digest digest = {0};
    uint8_t hash[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (md == NULL)
        return store_no_memory(call);
    bool md5 = kind == STORE_DIGEST_MD5, sha = kind == STORE_DIGEST_SHA256;
    bool begun = (md5 || sha) && EVP_DigestInit_ex(md, md5 ? EVP_md5() : EVP_sha256(), NULL) == 1;
    int rc = sha && !begun ? trail_add(call->trail, PDB_INTERNAL, "OpenSSL has no SHA-256") : 0;
    if (rc == 0)
        rc = digest_chunks(source, at, len, begun ? md : NULL, call, &digest.crc32c);
    if (rc == 0 && begun && EVP_DigestFinal_ex(md, hash, NULL) != 1)
        rc = trail_add(call->trail, PDB_INTERNAL, "OpenSSL cannot hash");
    EVP_MD_CTX_free(md);
    if (rc != 0)
        return rc;
    if (begun && sha)
        store_hex(hash, 32, digest.sha256);
    if (begun && md5)
        base64_encode(hash, 16, digest.md5_base64);
    uint8_t crc[4] = {(uint8_t)(digest.crc32c >> 24), (uint8_t)(digest.crc32c >> 16),
                      (uint8_t)(digest.crc32c >> 8), (uint8_t)digest.crc32c};
    base64_encode(crc, sizeof(crc), digest.crc32c_base64);
    *digest_out = digest;
    return 0;
}

/* ---- was it us? ---- */

int store_settlement_begin(struct store *store, const struct store_call *call,
                           const struct store_put_request *put, struct store_settlement *s_out)
{
    uint8_t random[16];
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return store_errno(call->trail, errno, "random bytes");
    *s_out = (struct store_settlement){.store = store, .call = call, .put = put};
    store_hex(random, sizeof(random), s_out->write_id);
    return 0;
}

/* HEAD of the key. 0, PDB_NOT_FOUND or another error. */
static int look(struct store *store, const struct store_call *call, struct pdb_text key,
                struct store_answer *answer_out)
{
    struct store_request request;
    struct arena arena;
    store_arena_init(store, &arena);
    int rc = store_request_init(store, &arena, "HEAD", key, &request) ? 0 : store_no_memory(call);
    if (rc == 0)
        rc = store_http_send(store, call, &request, answer_out, NULL);
    arena_dispose(&arena);
    return rc;
}

int store_settle(void *arg, struct store_request *request, bool refused)
{
    struct store_settlement *s = arg;
    struct store_answer there;
    struct trail local = {0};
    struct store_call call = *s->call;
    (void)request;
    call.trail = &local;
    int rc = look(s->store, &call, s->put->key, &there);
    if (rc != 0 && rc != PDB_NOT_FOUND) {
        (void)trail_add(s->call->trail, rc, "%s", local.text);
        return trail_add(s->call->trail, rc, "looking whether it was stored; outcome unknown");
    }
    if (rc == 0 && strcmp(there.write_id, s->write_id) == 0) {
        s->info = there.info;
        return 1;
    }
    if (s->put->condition == STORE_IF_ABSENT && rc == 0)
        return trail_add(s->call->trail, PDB_ALREADY_EXISTS, "exists");
    bool matches = rc == 0 && s->put->condition == STORE_IF_MATCH &&
                   strcmp(there.info.etag, s->put->etag) == 0;
    if (s->put->condition == STORE_IF_MATCH && (refused || !matches))
        return trail_add(s->call->trail, PDB_FAILED_PRECONDITION,
                         rc == 0 ? "the object has another etag" : "there is no object");
    return 0; /* nothing of ours is there: it may be sent; a refusal has another reason */
}

/* ---- put ---- */

uint64_t store_part_bytes(const struct store *store, uint64_t len)
{
    const struct store_dialect *d = store_dialect_of(store);
    uint64_t part = store->options.part_bytes;
    uint64_t least = len / d->parts_max + 1;
    if (part < d->part_bytes_min)
        part = d->part_bytes_min;
    return part > least ? part : least;
}

static bool fill_put(struct store *store, struct arena *arena, const struct store_put_request *put,
                     const struct store_digest *digest, const char *write_id,
                     struct store_request *request)
{
    const struct store_dialect *d = store_dialect_of(store);
    return store_request_init(store, arena, "PUT", put->key, request) &&
           store_request_header(request, "content-type", TEXT_LIT("application/octet-stream")) &&
           store_put_metadata(store, arena, digest->crc32c, write_id, request) &&
           store_put_condition(store, arena, put, request) &&
           d->put_headers(arena, digest, request);
}

static int put_whole(struct store *store, const struct store_call *call, struct arena *arena,
                     const struct store_put_request *put, const struct store_source *source,
                     struct store_info *info_out)
{
    struct store_request request;
    struct store_answer answer;
    struct store_settlement s = {0};
    struct store_digest digest = {0};
    bool settled = false;
    int rc = store_settlement_begin(store, call, put, &s);
    if (rc == 0)
        rc = store_digest(source, 0, source->len, store_dialect_of(store)->digest, call, &digest);
    if (rc != 0)
        return rc;
    if (!fill_put(store, arena, put, &digest, s.write_id, &request))
        return store_no_memory(call);
    store_request_body(&request, source, 0, source->len, &digest);
    if (put->condition != STORE_ALWAYS) {
        request.again = store_settle;
        request.arg = &s;
    }
    rc = store_http_send(store, call, &request, &answer, &settled);
    if (rc != 0)
        return rc;
    *info_out = settled ? s.info : answer.info;
    info_out->size = source->len;
    info_out->crc32c = digest.crc32c;
    info_out->has_crc32c = true;
    return 0;
}

static int put_source(struct store *store, const struct store_call *call, struct arena *arena,
                      const struct store_put_request *put, const struct store_source *source,
                      struct store_info *info_out)
{
    const struct store_dialect *d = store_dialect_of(store);
    struct store_digest digest = {0};
    bool parts = source->len > store_part_bytes(store, source->len) &&
                 (put->condition == STORE_ALWAYS || d->parts_with_condition);
    if (!parts && source->len > d->put_bytes_max)
        return trail_add(call->trail, PDB_INVALID_ARGUMENT, "too large for this kind of store");
    if (!parts)
        return put_whole(store, call, arena, put, source, info_out);
    int rc = store_digest(source, 0, source->len, STORE_DIGEST_CRC32C, call, &digest);
    return rc == 0 ? d->put_parts(store, call, arena, put, source, digest.crc32c, info_out) : rc;
}

static int put(struct store *store, const struct store_call *call,
               const struct store_put_request *request, struct store_info *info_out)
{
    struct store_source source;
    struct arena arena;
    int rc = store_source_open(request, call->trail, &source);
    if (rc != 0)
        return rc;
    store_arena_init(store, &arena);
    rc = put_source(store, call, &arena, request, &source, info_out);
    arena_dispose(&arena);
    store_source_close(&source);
    return rc;
}

/* ---- head, delete ---- */

static int head(struct store *store, const struct store_call *call, struct pdb_text key,
                struct store_info *info_out)
{
    struct store_answer answer;
    int rc = look(store, call, key, &answer);
    if (rc == 0 && !answer.has_length)
        rc = trail_add(call->trail, PDB_UNAVAILABLE, "the server does not say how long it is");
    if (rc == 0)
        *info_out = answer.info;
    return rc;
}

static int remove_object(struct store *store, const struct store_call *call, struct pdb_text key)
{
    struct store_request request;
    struct store_answer answer;
    struct arena arena;
    struct trail local = {0};
    struct store_call inner = *call;
    inner.trail = &local;
    store_arena_init(store, &arena);
    int rc =
        store_request_init(store, &arena, "DELETE", key, &request) ? 0 : store_no_memory(&inner);
    if (rc == 0)
        rc = store_http_send(store, &inner, &request, &answer, NULL);
    arena_dispose(&arena);
    bool no_bucket = rc == PDB_NOT_FOUND && (strcmp(answer.error_code, "NoSuchBucket") == 0 ||
                                             strcmp(answer.error_code, "ContainerNotFound") == 0);
    if (rc == 0 || (rc == PDB_NOT_FOUND && !no_bucket))
        return 0;
    return trail_add_http(call->trail, rc, local.http_status, "%s", local.text);
}

/* ---- get ---- */

struct getting {
    const struct store_dialect *dialect;
    const struct store_get_request *wanted;
    struct arena *arena;
    struct store_sink *sink;
    struct store_answer answer;
    char etag[STORE_ETAG_SIZE]; /* of the version whose first bytes we have */
    unsigned header_count;      /* of the request without range and condition */
};

static bool ask_range(struct getting *g, struct store_request *request)
{
    const struct store_get_request *w = g->wanted;
    uint64_t first = w->offset + g->sink->len;
    struct pdb_text range;
    request->header_count = g->header_count;
    request->ranged = first != 0 || w->len != STORE_TO_END;
    request->range_first = first;
    if (g->sink->len != 0 && !add_match(g->dialect, g->arena, g->etag, request))
        return false;
    if (!request->ranged)
        return true;
    if (w->len == STORE_TO_END || w->len > UINT64_MAX / 4 - w->offset)
        range = arena_format(g->arena, "bytes=%llu-", (unsigned long long)first);
    else
        range = arena_format(g->arena, "bytes=%llu-%llu", (unsigned long long)first,
                             (unsigned long long)(w->offset + w->len - 1));
    return store_request_header(request, "range", range);
}

/* The hook of a get that broke off: goes on behind what is there, if the server names versions. */
static int go_on(void *arg, struct store_request *request, bool refused)
{
    struct getting *g = arg;
    if (refused)
        return 0;
    if (g->etag[0] == '\0')
        memcpy(g->etag, g->answer.info.etag, sizeof(g->etag));
    bool complete = g->wanted->len != STORE_TO_END && g->sink->len >= g->wanted->len;
    if (g->etag[0] == '\0' || complete) {
        g->sink->len = 0;
        g->sink->crc32c = 0;
    }
    return ask_range(g, request) ? 0 : PDB_RESOURCE_EXHAUSTED;
}

/* What the server said about lengths against what came. */
static int check_lengths(struct getting *g, const struct store_request *request,
                         struct trail *trail)
{
    const struct store_get_request *w = g->wanted;
    struct store_answer *a = &g->answer;
    if (!request->ranged) {
        a->info.size = g->sink->len; /* libcurl held it against Content-Length, if there was one */
        return 0;
    }
    uint64_t expected = 0;
    a->info.size = a->range_total;
    int rc = a->has_range ? store_range(a->range_total, w, trail, &expected) : PDB_DATA_LOSS;
    if (rc == 0 && expected != g->sink->len)
        rc = PDB_DATA_LOSS;
    return rc == PDB_DATA_LOSS
               ? trail_add(trail, rc, "%llu bytes came, %llu were due",
                           (unsigned long long)g->sink->len, (unsigned long long)expected)
               : rc;
}

static int get_round(struct store *store, const struct store_call *call,
                     const struct store_get_request *wanted, struct arena *arena,
                     struct store_sink *sink, struct store_answer *answer_out)
{
    struct getting g = {
        .dialect = store_dialect_of(store), .wanted = wanted, .arena = arena, .sink = sink};
    struct store_request request;
    if (!store_request_init(store, arena, "GET", wanted->key, &request))
        return store_no_memory(call);
    g.header_count = request.header_count;
    request.sink = sink;
    request.again = go_on;
    request.arg = &g;
    if (!ask_range(&g, &request))
        return store_no_memory(call);
    int rc = store_http_send(store, call, &request, &g.answer, NULL);
    if (rc == 0)
        rc = check_lengths(&g, &request, call->trail);
    if (rc == 0)
        rc = store_verify(&g.answer.info, wanted, sink, call->trail);
    *answer_out = g.answer;
    return rc;
}

/* Nothing to transfer: an empty range, or one at the very end, which servers answer with 416. */
static int get_nothing(struct store *store, const struct store_call *call,
                       const struct store_get_request *wanted, struct store_info *info_out)
{
    uint64_t len = 0;
    int rc = head(store, call, wanted->key, info_out);
    if (rc == 0)
        rc = store_range(info_out->size, wanted, call->trail, &len);
    if (rc == 0 && len != 0)
        rc = trail_add(call->trail, PDB_UNAVAILABLE, "the server refused a range that it has");
    return rc;
}

static int get_into(struct store *store, const struct store_call *call,
                    const struct store_get_request *wanted, struct store_sink *sink,
                    struct store_info *info_out)
{
    struct store_answer answer = {0};
    struct trail local = {0};
    struct store_call inner = *call;
    struct arena arena;
    int rc = 0;
    if (wanted->len == 0)
        return get_nothing(store, call, wanted, info_out);
    inner.trail = &local;
    store_arena_init(store, &arena);
    bool again = true;
    for (unsigned round = 0; round < GET_ROUNDS && again; round++) {
        trail_reset(&local);
        sink->len = 0;
        sink->crc32c = 0;
        rc = get_round(store, &inner, wanted, &arena, sink, &answer);
        bool changed = rc == PDB_FAILED_PRECONDITION && answer.status == 412;
        if (changed)
            rc = trail_add(&local, PDB_UNAVAILABLE, "the object changes while it is read");
        again = changed || rc == PDB_DATA_LOSS;
    }
    arena_dispose(&arena);
    bool past_end = rc == PDB_OUT_OF_RANGE && answer.status == 416;
    bool nothing_came = rc == PDB_DATA_LOSS && sink->len == 0 && !answer.has_range;
    if (past_end || nothing_came) /* so do some answer a range that begins at the end */
        return get_nothing(store, call, wanted, info_out);
    if (rc != 0)
        return trail_add_http(call->trail, rc, local.http_status, "%s", local.text);
    if (sink->file >= 0 && ftruncate(sink->file, (off_t)sink->len) != 0)
        return store_errno(call->trail, errno, "destination file");
    *info_out = answer.info;
    return 0;
}

static int get(struct store *store, const struct store_call *call,
               const struct store_get_request *request, uint64_t *len_out,
               struct store_info *info_out)
{
    struct store_sink sink;
    int rc = store_sink_open(request, call->trail, &sink);
    if (rc != 0)
        return rc;
    rc = get_into(store, call, request, &sink, info_out);
    *len_out = sink.len;
    return store_sink_close(&sink, rc, call->trail);
}

/* ---- list ---- */

static int show_page(struct store *store, const struct store_list_request *request,
                     const struct store_xml *page)
{
    struct pdb_text prefix = text_of(store->url.prefix);
    for (size_t i = 0; i < page->object_count; i++) {
        struct store_object object = page->objects[i];
        if (!text_starts_with(object.key, prefix))
            continue;
        object.key = (struct pdb_text){object.key.ptr + prefix.len, object.key.len - prefix.len};
        bool wanted = store_key_valid(object.key) &&
                      text_starts_with(object.key, request->prefix) &&
                      (request->after.len == 0 || text_compare(object.key, request->after) > 0);
        int rc = wanted ? request->visit(request->arg, &object) : 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int list(struct store *store, const struct store_call *call,
                const struct store_list_request *request)
{
    char token[TOKEN_MAX];
    size_t token_len = 0;
    struct arena arena;
    int rc = 0;
    store_arena_init(store, &arena);
    do {
        struct store_xml page = {0};
        arena_reset(&arena);
        rc = store_dialect_of(store)->list_page(store, call, &arena, request,
                                                (struct pdb_text){token, token_len}, &page);
        if (rc == 0)
            rc = show_page(store, request, &page);
        bool stuck = page.next.len != 0 &&
                     (page.next.len > sizeof(token) ||
                      (page.next.len == token_len && memcmp(page.next.ptr, token, token_len) == 0));
        if (rc == 0 && stuck)
            rc = trail_add(call->trail, PDB_UNAVAILABLE, "the server's list does not go on");
        token_len = rc == 0 ? page.next.len : 0;
        if (token_len != 0)
            memcpy(token, page.next.ptr, token_len);
    } while (token_len != 0);
    arena_dispose(&arena);
    return rc;
}

const struct store_ops store_remote_ops = {put, get, head, remove_object, list, store_http_close};
