/* tls.c: one context per process, shared read-only by all reactors.
 *
 * Session caching is off: resumption by ticket needs no state of ours, and a cache would be shared
 * mutable memory. Record buffers are released when idle, since thousands of idle connections are
 * normal here. Rejected: letting h2o register ALPN (it prefers h2 and would start its own
 * HTTP/2). */
#include "security/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <string.h>

/* The length-prefixed list of RFC 7301: true when `name` is in it. */
static bool offers(const unsigned char *list, unsigned list_len, const char *name,
                   unsigned name_len)
{
    for (unsigned at = 0; at < list_len; at += 1u + list[at]) {
        if (list[at] == name_len && at + 1 + name_len <= list_len &&
            memcmp(list + at + 1, name, name_len) == 0)
            return true;
    }
    return false;
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    static const char http1[] = "http/1.1", http2[] = "h2";
    (void)ssl;
    (void)arg;
    const char *chosen = offers(in, in_len, http1, sizeof(http1) - 1)   ? http1
                         : offers(in, in_len, http2, sizeof(http2) - 1) ? http2
                                                                        : NULL;
    if (chosen == NULL)
        return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301, section 3.2: no_application_protocol */
    *out = (const unsigned char *)chosen;
    *out_len = (unsigned char)strlen(chosen);
    return SSL_TLSEXT_ERR_OK;
}

static int fail(struct trail *trail, SSL_CTX *context, const char *what, const char *path)
{
    char reason[256];
    ERR_error_string_n(ERR_peek_last_error(), reason, sizeof(reason));
    ERR_clear_error();
    SSL_CTX_free(context);
    return trail_add(trail, PDB_INVALID_ARGUMENT, "%s '%s': %s", what, path, reason);
}

int tls_context_new(const char *certificate_path, const char *key_path, struct trail *trail,
                    struct ssl_ctx_st **context_out)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for a TLS context");
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
        return fail(trail, context, "TLS version", "1.2");
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    if (SSL_CTX_use_certificate_chain_file(context, certificate_path) != 1)
        return fail(trail, context, "tls.cert", certificate_path);
    if (SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) != 1)
        return fail(trail, context, "tls.key", key_path);
    if (SSL_CTX_check_private_key(context) != 1)
        return fail(trail, context, "tls.key does not belong to tls.cert", key_path);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    *context_out = context;
    return 0;
}

void tls_context_free(struct ssl_ctx_st *context)
{
    SSL_CTX_free(context);
}
