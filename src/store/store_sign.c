/* store_sign.c: requests signed by shared secrets.
 *
 *     SigV4 "Authenticating Requests: Using the Authorization Header", Amazon S3 API reference;
 *                Google's "V4 signing process" is the same with other names.
 *     SharedKey  "Authorize with Shared Key", Azure Storage REST API reference, versions from
 *                2015-02-21 on.
 *
 * libcurl can sign SigV4 too (CURLOPT_AWS_SIGV4), but the version that we build with neither sorts
 * nor encodes query strings, so lists and uploads in parts fail. Tests hold this file against the
 * examples of Amazon's reference. */
#include "store/store_http_internal.h"

#include "base/base64.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/no_libc_heap.h"

enum { SHA256_BYTES = 32, TIME_TEXT_SIZE = 32 };

static const char empty_sha256[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const struct store_sign_v4 store_sign_aws = {"AWS4-HMAC-SHA256", "AWS4", "s3", "aws4_request",
                                             "x-amz-"};
const struct store_sign_v4 store_sign_google = {"GOOG4-HMAC-SHA256", "GOOG4", "storage",
                                                "goog4_request", "x-goog-"};

/* ---- text ---- */

bool store_request_header(struct store_request *request, const char *name, struct pdb_text value)
{
    if (request->header_count == STORE_HEADERS_MAX || value.ptr == NULL)
        return false;
    request->headers[request->header_count++] = (struct store_pair){text_of(name), value};
    return true;
}

bool store_request_query(struct store_request *request, const char *name, struct pdb_text value)
{
    if (request->query_count == STORE_QUERY_MAX || value.ptr == NULL)
        return false;
    request->query[request->query_count++] = (struct store_pair){text_of(name), value};
    return true;
}

void store_hex(const uint8_t *bytes, size_t len, char *text_out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        *text_out++ = digits[bytes[i] >> 4];
        *text_out++ = digits[bytes[i] & 15];
    }
    *text_out = '\0';
}

void store_encode(struct buffer *to, struct pdb_text text, bool path)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~' || (path && c == '/');
        if (plain) {
            buffer_add_byte(to, c);
            continue;
        }
        buffer_add_byte(to, '%');
        buffer_add_byte(to, digits[(unsigned char)c >> 4]);
        buffer_add_byte(to, digits[(unsigned char)c & 15]);
    }
}

/* Our names need no encoding, so that encoded order is their order. */
static int compare_names(const void *a, const void *b)
{
    const struct store_pair *x = a, *y = b;
    return text_compare(x->name, y->name);
}

void store_encode_query(struct buffer *to, struct store_pair *pairs, unsigned count)
{
    if (count > 1)
        qsort(pairs, count, sizeof(*pairs), compare_names);
    for (unsigned i = 0; i < count; i++) {
        if (i != 0)
            buffer_add_byte(to, '&');
        store_encode(to, pairs[i].name, false);
        buffer_add_byte(to, '=');
        store_encode(to, pairs[i].value, false);
    }
}

/* ---- hashes ---- */

int store_sha256(const void *bytes, size_t len, char hex_out[STORE_SHA256_HEX_SIZE])
{
    uint8_t hash[SHA256_BYTES];
    if (EVP_Digest(bytes, len, hash, NULL, EVP_sha256(), NULL) != 1)
        return PDB_INTERNAL;
    store_hex(hash, sizeof(hash), hex_out);
    return 0;
}

int store_hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len,
                      uint8_t out[32])
{
    unsigned out_len = 0;
    const unsigned char *mac = HMAC(EVP_sha256(), key, (int)key_len, bytes, len, out, &out_len);
    return mac != NULL && out_len == SHA256_BYTES ? 0 : PDB_INTERNAL;
}

/* ---- SigV4 ---- */

static int hmac_text(uint8_t key[SHA256_BYTES], const char *text)
{
    return store_hmac_sha256(key, SHA256_BYTES, text, strlen(text), key);
}

/* The key of one day, region and service. */
static int day_key(const struct store_sign_v4 *names, const struct store_credentials *c,
                   const char *day, const char *region, uint8_t key_out[SHA256_BYTES])
{
    char secret[sizeof(c->secret) + 8];
    int len = snprintf(secret, sizeof(secret), "%s%s", names->key_prefix, c->secret);
    int rc = store_hmac_sha256(secret, (size_t)len, day, strlen(day), key_out);
    OPENSSL_cleanse(secret, sizeof(secret));
    if (rc == 0)
        rc = hmac_text(key_out, region);
    if (rc == 0)
        rc = hmac_text(key_out, names->service);
    if (rc == 0)
        rc = hmac_text(key_out, names->terminator);
    return rc;
}

/* All our headers are signed; they have no blanks to fold. */
static void add_canonical(struct buffer *b, struct store_request *request,
                          struct pdb_text *signed_out, struct arena *arena, const char *payload)
{
    struct buffer names;
    buffer_init_arena(&names, arena, 0);
    buffer_format(b, "%s\n%.*s\n", request->method, TEXT_ARG(request->path));
    store_encode_query(b, request->query, request->query_count);
    buffer_add_byte(b, '\n');
    qsort(request->headers, request->header_count, sizeof(request->headers[0]), compare_names);
    for (unsigned i = 0; i < request->header_count; i++) {
        const struct store_pair *h = &request->headers[i];
        buffer_format(b, "%.*s:%.*s\n", TEXT_ARG(h->name), TEXT_ARG(h->value));
        if (i != 0)
            buffer_add_byte(&names, ';');
        buffer_add_text(&names, h->name);
    }
    *signed_out = (struct pdb_text){names.ptr, names.len};
    b->failed |= names.failed;
    buffer_format(b, "\n%.*s\n%s", TEXT_ARG(*signed_out), payload);
}

static struct pdb_text prefixed(struct arena *arena, const struct store_sign_v4 *names,
                                const char *rest)
{
    return arena_format(arena, "%s%s", names->header_prefix, rest);
}

static bool add_v4_headers(const struct store_sign_v4 *names, const struct store_credentials *c,
                           const char *stamp, const char *payload, struct arena *arena,
                           struct store_request *request)
{
    struct pdb_text date = prefixed(arena, names, "date");
    struct pdb_text hash = prefixed(arena, names, "content-sha256");
    bool ok =
        date.ptr != NULL && hash.ptr != NULL &&
        store_request_header(request, date.ptr, arena_copy_text(arena, stamp, strlen(stamp))) &&
        store_request_header(request, hash.ptr, text_of(payload));
    if (ok && c->token[0] != '\0' && names == &store_sign_aws)
        ok = store_request_header(request, "x-amz-security-token", text_of(c->token));
    return ok;
}

int store_sign_request_v4(const struct store_sign_v4 *names, const struct store_credentials *c,
                          const char *region, int64_t time_us, struct arena *arena,
                          struct store_request *request)
{
    char stamp[TIME_TEXT_SIZE], day[TIME_TEXT_SIZE], hash[STORE_SHA256_HEX_SIZE];
    char signature[STORE_SHA256_HEX_SIZE];
    uint8_t key[SHA256_BYTES];
    struct pdb_text signed_names;
    struct buffer b;
    struct tm tm;
    const char *payload = request->body_sha256[0] != '\0' ? request->body_sha256 : empty_sha256;
    time_t seconds = (time_t)(time_us / 1000000);
    if (gmtime_r(&seconds, &tm) == NULL ||
        strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm) == 0)
        return PDB_INTERNAL;
    memcpy(day, stamp, 8);
    day[8] = '\0';
    if (!add_v4_headers(names, c, stamp, payload, arena, request))
        return PDB_RESOURCE_EXHAUSTED;
    buffer_init_arena(&b, arena, 0);
    add_canonical(&b, request, &signed_names, arena, payload);
    struct pdb_text scope =
        arena_format(arena, "%s/%s/%s/%s", day, region, names->service, names->terminator);
    if (b.failed || scope.ptr == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    int rc = store_sha256(b.ptr, b.len, hash);
    struct pdb_text to_sign =
        arena_format(arena, "%s\n%s\n%s\n%s", names->algorithm, stamp, scope.ptr, hash);
    if (to_sign.ptr == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    if (rc == 0)
        rc = day_key(names, c, day, region, key);
    if (rc == 0)
        rc = store_hmac_sha256(key, sizeof(key), to_sign.ptr, to_sign.len, key);
    if (rc != 0)
        return rc;
    store_hex(key, sizeof(key), signature);
    struct pdb_text value =
        arena_format(arena, "%s Credential=%s/%s,SignedHeaders=%.*s,Signature=%s", names->algorithm,
                     c->id, scope.ptr, TEXT_ARG(signed_names), signature);
    return store_request_header(request, "authorization", value) ? 0 : PDB_RESOURCE_EXHAUSTED;
}

/* ---- Azure ---- */

static struct pdb_text header_of(const struct store_request *request, const char *name)
{
    for (unsigned i = 0; i < request->header_count; i++) {
        if (text_equal(request->headers[i].name, text_of(name)))
            return request->headers[i].value;
    }
    return (struct pdb_text){"", 0};
}

static void add_azure_text(struct buffer *b, const char *account, struct store_request *request)
{
    /* In the order of the reference; `date` stays empty, because x-ms-date is there. */
    static const char *const standard[] = {"content-encoding",
                                           "content-language",
                                           NULL,
                                           "content-md5",
                                           "content-type",
                                           "date",
                                           "if-modified-since",
                                           "if-match",
                                           "if-none-match",
                                           "if-unmodified-since",
                                           "range"};
    buffer_format(b, "%s\n", request->method);
    for (size_t i = 0; i < sizeof(standard) / sizeof(standard[0]); i++) {
        if (standard[i] != NULL)
            buffer_add_text(b, header_of(request, standard[i]));
        else if (request->body_len != 0)
            buffer_add_u64(b, request->body_len); /* nothing at all for an empty body */
        buffer_add_byte(b, '\n');
    }
    qsort(request->headers, request->header_count, sizeof(request->headers[0]), compare_names);
    for (unsigned i = 0; i < request->header_count; i++) {
        const struct store_pair *h = &request->headers[i];
        if (text_starts_with(h->name, TEXT_LIT("x-ms-")))
            buffer_format(b, "%.*s:%.*s\n", TEXT_ARG(h->name), TEXT_ARG(h->value));
    }
    buffer_format(b, "/%s%.*s", account, TEXT_ARG(request->path));
    if (request->query_count > 1)
        qsort(request->query, request->query_count, sizeof(request->query[0]), compare_names);
    for (unsigned i = 0; i < request->query_count; i++)
        buffer_format(b, "\n%.*s:%.*s", TEXT_ARG(request->query[i].name),
                      TEXT_ARG(request->query[i].value));
}

int store_sign_request_azure(const char *account, const struct store_credentials *c,
                             struct arena *arena, struct store_request *request)
{
    uint8_t key[sizeof(c->secret)], mac[SHA256_BYTES];
    char text[SHA256_BYTES * 2];
    size_t key_len = 0, bad = 0;
    struct buffer b;
    buffer_init_arena(&b, arena, 0);
    add_azure_text(&b, account, request);
    if (b.failed)
        return PDB_RESOURCE_EXHAUSTED;
    if (base64_decode(c->secret, strlen(c->secret), false, key, &key_len, &bad) != 0)
        return PDB_PERMISSION_DENIED; /* the key is no base64 */
    int rc = store_hmac_sha256(key, key_len, b.ptr, b.len, mac);
    OPENSSL_cleanse(key, sizeof(key));
    if (rc != 0)
        return rc;
    base64_encode(mac, sizeof(mac), text);
    struct pdb_text value = arena_format(arena, "SharedKey %s:%.*s", account,
                                         (int)base64_encoded_len(sizeof(mac)), text);
    return store_request_header(request, "authorization", value) ? 0 : PDB_RESOURCE_EXHAUSTED;
}
