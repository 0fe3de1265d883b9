/* TLS contexts: certificates, versions and ALPN. Source: RFC 8446, RFC 7301. */
#ifndef SECURITY_TLS_H
#define SECURITY_TLS_H

#include "base/trail.h"

struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

/* Reads a certificate chain and its key (PEM). TLS 1.2 or later. ALPN answers "http/1.1" when the
 * client offers it, else "h2": gRPC clients offer only h2, and REST clients must land where REST is
 * cheapest. Freed by tls_context_free. 0, PDB_INVALID_ARGUMENT (what is wrong with which file) or
 * PDB_RESOURCE_EXHAUSTED. */
int tls_context_new(const char *certificate_path, const char *key_path, struct trail *trail,
                    struct ssl_ctx_st **context_out);
void tls_context_free(struct ssl_ctx_st *context);

#endif
