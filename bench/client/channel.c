/* channel.c: sockets and TLS below the two protocols.
 *
 * Writing takes pieces and hands them to the socket in one call; only what the socket refuses is
 * copied, so that in steady state a batch goes from the data set into the kernel directly. TLS has
 * to copy anyway: its pieces are gathered first. Nothing here blocks, and the owner asks
 * channel_wants_write after each step whether to watch for writability. */
#include "bench/client/channel.h"

#include "base/assert.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- endpoint ---- */

static int split_url(struct endpoint *endpoint, const char *url, bool *tls, struct trail *trail)
{
    if (strncmp(url, "http://", 7) == 0) {
        url += 7;
    } else if (strncmp(url, "https://", 8) == 0) {
        url += 8;
        *tls = true;
    }
    size_t len = strcspn(url, "/");
    const char *colon = memrchr(url, ':', len);
    if (colon == NULL || colon == url || url[len] != '\0')
        return trail_add(trail, PDB_INVALID_ARGUMENT, "'%s' is not HOST:PORT", url);
    const char *host = url;
    size_t host_len = (size_t)(colon - url);
    size_t port_len = len - host_len - 1;
    if (host[0] == '[' && host_len >= 2 && host[host_len - 1] == ']') {
        host++;
        host_len -= 2;
    }
    if (host_len == 0 || host_len >= sizeof(endpoint->host) || port_len == 0 || port_len > 5 ||
        strspn(colon + 1, "0123456789") != port_len)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "'%s' is not HOST:PORT", url);
    (void)snprintf(endpoint->host, sizeof(endpoint->host), "%.*s", (int)host_len, host);
    (void)snprintf(endpoint->port, sizeof(endpoint->port), "%.*s", (int)port_len, colon + 1);
    (void)snprintf(endpoint->authority, sizeof(endpoint->authority), "%.*s", (int)len, url);
    return 0;
}

static int make_tls(struct endpoint *endpoint, const struct endpoint_options *options,
                    struct trail *trail)
{
    static const unsigned char h2[] = "\x02h2";
    static const unsigned char h1[] = "\x08http/1.1";
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (tls == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "TLS");
    const unsigned char *alpn = options->h2 ? h2 : h1;
    bool ok = SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) == 1 &&
              SSL_CTX_set_alpn_protos(tls, alpn, (unsigned)strlen((const char *)alpn)) == 0;
    (void)SSL_CTX_set_mode(tls,
                           SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(tls, options->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (options->ca_path != NULL)
        ok = ok && SSL_CTX_load_verify_locations(tls, options->ca_path, NULL) == 1;
    else if (!options->insecure)
        ok = ok && SSL_CTX_set_default_verify_paths(tls) == 1;
    if (!ok) {
        SSL_CTX_free(tls);
        return trail_add(trail, PDB_INVALID_ARGUMENT, "TLS: cannot use the certificates of '%s'",
                         options->ca_path != NULL ? options->ca_path : "the system");
    }
    endpoint->tls = tls;
    return 0;
}

int endpoint_open(struct endpoint *endpoint_out, const struct endpoint_options *options,
                  struct trail *trail)
{
    struct endpoint endpoint = {0};
    bool tls = options->tls;
    int rc = split_url(&endpoint, options->url, &tls, trail);
    if (rc < 0)
        return rc;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(endpoint.host, endpoint.port, &hints, &found);
    if (failed != 0)
        return trail_add(trail, PDB_UNAVAILABLE, "%s: %s", endpoint.host, gai_strerror(failed));
    memcpy(&endpoint.address, found->ai_addr, found->ai_addrlen);
    endpoint.address_bytes = found->ai_addrlen;
    freeaddrinfo(found);
    if (tls && (rc = make_tls(&endpoint, options, trail)) < 0)
        return rc;
    *endpoint_out = endpoint;
    return 0;
}

void endpoint_close(struct endpoint *endpoint)
{
    if (endpoint == NULL)
        return;
    SSL_CTX_free(endpoint->tls);
    endpoint->tls = NULL;
}

/* ---- connecting ---- */

void channel_init(struct channel *channel)
{
    *channel = (struct channel){.fd = -1};
    buffer_init_heap(&channel->pending, NULL, 0);
}

void channel_close(struct channel *channel)
{
    SSL_free(channel->ssl);
    channel->ssl = NULL;
    if (channel->fd >= 0)
        (void)close(channel->fd);
    channel->fd = -1;
    channel->state = CHANNEL_CLOSED;
    channel->pending.len = 0;
    channel->pending.failed = false;
    channel->pending_at = 0;
    channel->tls_wants_write = false;
}

void channel_dispose(struct channel *channel)
{
    if (channel == NULL)
        return;
    channel_close(channel);
    buffer_dispose(&channel->pending);
}

int channel_connect(struct channel *channel, const struct endpoint *endpoint, struct trail *trail)
{
    ASSERT(channel->state == CHANNEL_CLOSED);
    int fd = socket(endpoint->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return trail_add(trail, PDB_UNAVAILABLE, "socket: %s", strerror(errno));
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const struct sockaddr *address = (const struct sockaddr *)&endpoint->address;
    if (connect(fd, address, endpoint->address_bytes) != 0 && errno != EINPROGRESS) {
        int error = errno;
        (void)close(fd);
        return trail_add(trail, PDB_UNAVAILABLE, "connect to %s: %s", endpoint->authority,
                         strerror(error));
    }
    channel->fd = fd;
    channel->state = CHANNEL_CONNECTING;
    return 0;
}

static int tls_start(struct channel *channel, const struct endpoint *endpoint)
{
    SSL *ssl = SSL_new(endpoint->tls);
    if (ssl == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    channel->ssl = ssl;
    /* An address is checked as such, a name also chooses the certificate (SNI). */
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    bool is_address = X509_VERIFY_PARAM_set1_ip_asc(param, endpoint->host) == 1;
    char name[sizeof(endpoint->host)];
    memcpy(name, endpoint->host, sizeof(name)); /* the macro for SNI wants it without const */
    if (!is_address && (SSL_set1_host(ssl, name) != 1 || SSL_set_tlsext_host_name(ssl, name) != 1))
        return PDB_RESOURCE_EXHAUSTED;
    if (SSL_set_fd(ssl, channel->fd) != 1)
        return PDB_RESOURCE_EXHAUSTED;
    SSL_set_connect_state(ssl);
    return 0;
}

/* What a call of OpenSSL's that did not succeed means: 0 (later) or PDB_UNAVAILABLE. */
static int tls_later(struct channel *channel, int result)
{
    int why = SSL_get_error(channel->ssl, result);
    channel->tls_wants_write = why == SSL_ERROR_WANT_WRITE;
    return why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? 0 : PDB_UNAVAILABLE;
}

static int tls_handshake(struct channel *channel, struct trail *trail)
{
    ERR_clear_error();
    int result = SSL_do_handshake(channel->ssl);
    if (result == 1) {
        channel->state = CHANNEL_OPEN;
        channel->tls_wants_write = false;
        return 1;
    }
    if (tls_later(channel, result) == 0)
        return 0;
    char text[160] = "the connection was closed";
    unsigned long code = ERR_peek_last_error();
    if (code != 0)
        ERR_error_string_n(code, text, sizeof(text));
    return trail_add(trail, PDB_UNAVAILABLE, "TLS handshake: %s", text);
}

int channel_advance(struct channel *channel, const struct endpoint *endpoint, struct trail *trail)
{
    if (channel->state == CHANNEL_CONNECTING) {
        int error = 0;
        socklen_t size = sizeof(error);
        struct sockaddr_storage peer;
        socklen_t peer_bytes = sizeof(peer);
        if (getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
            error = errno;
        if (error != 0)
            return trail_add(trail, PDB_UNAVAILABLE, "connect to %s: %s", endpoint->authority,
                             strerror(error));
        if (getpeername(channel->fd, (struct sockaddr *)&peer, &peer_bytes) != 0)
            return 0; /* woken too early */
        if (endpoint->tls == NULL) {
            channel->state = CHANNEL_OPEN;
        } else {
            if (tls_start(channel, endpoint) < 0)
                return trail_add(trail, PDB_UNAVAILABLE, "TLS cannot start");
            channel->state = CHANNEL_HANDSHAKE;
        }
    }
    if (channel->state == CHANNEL_HANDSHAKE)
        return tls_handshake(channel, trail);
    return channel->state == CHANNEL_OPEN ? 1 : PDB_UNAVAILABLE;
}

/* ---- moving bytes ---- */

bool channel_backed_up(const struct channel *channel)
{
    return channel->pending_at < channel->pending.len;
}

bool channel_wants_write(const struct channel *channel)
{
    return channel->state == CHANNEL_CONNECTING || channel->tls_wants_write ||
           channel_backed_up(channel);
}

static int keep(struct channel *channel, const void *bytes, size_t size)
{
    buffer_add(&channel->pending, bytes, size);
    return channel->pending.failed ? PDB_RESOURCE_EXHAUSTED : 0;
}

int channel_flush(struct channel *channel)
{
    while (channel_backed_up(channel)) {
        const char *at = channel->pending.ptr + channel->pending_at;
        size_t left = channel->pending.len - channel->pending_at;
        ssize_t sent = 0;
        if (channel->ssl != NULL) {
            ERR_clear_error();
            int size = left < INT_MAX ? (int)left : INT_MAX;
            sent = SSL_write(channel->ssl, at, size);
            if (sent <= 0)
                return tls_later(channel, (int)sent);
        } else {
            sent = send(channel->fd, at, left, MSG_NOSIGNAL);
            if (sent < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : PDB_UNAVAILABLE;
        }
        channel->pending_at += (size_t)sent;
        channel->bytes_out += (size_t)sent;
    }
    channel->tls_wants_write = false;
    channel->pending.len = 0;
    channel->pending_at = 0;
    return 0;
}

int channel_write(struct channel *channel, const struct iovec *pieces, int piece_count)
{
    ASSERT(piece_count <= IOV_MAX);
    size_t sent = 0;
    if (channel->ssl == NULL && !channel_backed_up(channel)) {
        struct iovec copy[IOV_MAX];
        memcpy(copy, pieces, (size_t)piece_count * sizeof(*pieces));
        struct msghdr message = {.msg_iov = copy, .msg_iovlen = (size_t)piece_count};
        ssize_t result = sendmsg(channel->fd, &message, MSG_NOSIGNAL);
        if (result < 0 && errno != EAGAIN && errno != EINTR)
            return PDB_UNAVAILABLE;
        sent = result > 0 ? (size_t)result : 0;
        channel->bytes_out += sent;
    }
    for (int i = 0; i < piece_count; i++) {
        if (sent >= pieces[i].iov_len) {
            sent -= pieces[i].iov_len;
            continue;
        }
        if (keep(channel, (const char *)pieces[i].iov_base + sent, pieces[i].iov_len - sent) < 0)
            return PDB_RESOURCE_EXHAUSTED;
        sent = 0;
    }
    return channel->ssl != NULL ? channel_flush(channel) : 0;
}

long channel_read(struct channel *channel, void *bytes_out, size_t size)
{
    ssize_t got = 0;
    if (channel->ssl != NULL) {
        ERR_clear_error();
        got = SSL_read(channel->ssl, bytes_out, size < INT_MAX ? (int)size : INT_MAX);
        if (got <= 0)
            return tls_later(channel, (int)got);
    } else {
        got = recv(channel->fd, bytes_out, size, 0);
        if (got == 0)
            return PDB_UNAVAILABLE;
        if (got < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : PDB_UNAVAILABLE;
    }
    channel->bytes_in += (size_t)got;
    return got;
}
