/* connection.c: from accept to the protocol that a connection speaks.
 *
 * Every listener serves every protocol. The first bytes decide: a TLS hello (0x16) starts a
 * handshake, after which ALPN decides; the HTTP/2 preface goes to nghttp2; anything else is HTTP/1
 * for h2o. They stay in sock->input meanwhile, so that whoever takes over parses them. A proper
 * prefix of the preface must wait: "P" may become "POST". h2o_accept is never called, because it
 * would start h2o's own HTTP/2 by itself.
 *
 * A connection's record hangs on the socket's on_close callback: h2o owns HTTP/1 sockets and closes
 * them when it likes. Limits at accept: connections in all and per address, each per core, since
 * cores share nothing; past them the socket is closed and counted. */
#include "transport/connection.h"

#include "base/clock.h"
#include "base/hash.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/no_libc_heap.h"

enum {
    ACCEPT_BATCH = 32,
    REJECT_ALL = 0,
    REJECT_ADDRESS = 1,
    REJECT_MEMORY = 2,
    REJECT_CLEARTEXT = 3
};

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
enum { PREFACE_LEN = sizeof(preface) - 1, TLS_HANDSHAKE_RECORD = 0x16 };

struct connection *connection_of(h2o_socket_t *sock)
{
    return sock->on_close.data;
}

/* ---- counting by address ---- */

static uint64_t hash_address(const struct sockaddr_storage *address)
{
    const struct hash_key key = {0x9ae16a3b2f90404fu, 0xc949d7c7509e6557u};
    const void *bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    size_t len = sizeof(struct in_addr);
    if (address->ss_family == AF_INET6) {
        bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
        len = sizeof(struct in6_addr);
    }
    uint64_t hash = hash_bytes(&key, bytes, len);
    return hash != 0 ? hash : 1;
}

static struct address_count *find_address(struct transport_core_private *p, uint64_t hash)
{
    size_t mask = p->address_slots - 1, at = (size_t)hash & mask;
    while (p->addresses[at].hash != 0 && p->addresses[at].hash != hash)
        at = (at + 1) & mask;
    return &p->addresses[at];
}

/* Removes an entry by moving later ones of its run back (Knuth, TAOCP 3, 6.4, algorithm R). */
static void forget_address(struct transport_core_private *p, struct address_count *entry)
{
    size_t mask = p->address_slots - 1, hole = (size_t)(entry - p->addresses);
    for (size_t at = (hole + 1) & mask; p->addresses[at].hash != 0; at = (at + 1) & mask) {
        size_t home = (size_t)p->addresses[at].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            p->addresses[hole] = p->addresses[at];
            hole = at;
        }
    }
    p->addresses[hole] = (struct address_count){0};
}

static bool count_address(struct transport_core *core, uint64_t hash)
{
    struct address_count *entry = find_address(core->priv, hash);
    if (entry->hash != 0 && entry->connections >= core->limits->connections_per_address)
        return false;
    entry->hash = hash;
    entry->connections++;
    return true;
}

/* ---- the record ---- */

static const unsigned kind_label[] = {
    [CONNECTION_NEW] = METRICS_PROTO_NEW,
    [CONNECTION_TLS] = METRICS_PROTO_TLS,
    [CONNECTION_HTTP1] = METRICS_PROTO_HTTP1,
    [CONNECTION_HTTP2] = METRICS_PROTO_HTTP2,
};

static void gauge_move(struct transport_core *core, enum connection_kind kind, int by)
{
    core->metrics->values[METRICS_CONNECTIONS_AT + kind_label[kind]] += (uint64_t)(int64_t)by;
}

static void on_closed(void *data)
{
    struct connection *c = data;
    struct transport_core_private *p = c->core->priv;
    if (c->upload != NULL)
        h1_upload_closed(c);
    else if (c->kind == CONNECTION_HTTP1)
        h1_client_left(c);
    struct address_count *entry = find_address(p, c->address_hash);
    if (entry->hash != 0 && --entry->connections == 0)
        forget_address(p, entry);
    list_remove(&c->link);
    p->connection_count--;
    gauge_move(c->core, c->kind, -1);
    heap_free(&c->core->reactor->heap, c);
}

static void become(struct connection *c, enum connection_kind kind)
{
    gauge_move(c->core, c->kind, -1);
    c->kind = kind;
    gauge_move(c->core, kind, 1);
}

void connection_cut(struct connection *c)
{
    if (c->kind == CONNECTION_NEW) {
        h2o_socket_close(c->sock);
    } else if (!c->cut) {
        /* The owner of the socket reads the end and closes it: closing it here would leave h2o with
         * a dead pointer. */
        c->cut = true;
        (void)shutdown(h2o_socket_get_fd(c->sock), SHUT_RDWR);
    }
}

/* ---- which protocol ---- */

static void start_h1(struct connection *c)
{
    become(c, CONNECTION_HTTP1);
    c->sock->data = NULL;
    h1_upload_accept(c);
}

static void start_h2(struct connection *c)
{
    become(c, CONNECTION_HTTP2);
    c->sock->data = NULL;
    h2_accept(c);
}

static void on_handshake(h2o_socket_t *sock, const char *err)
{
    struct connection *c = connection_of(sock);
    reactor_mark_active(c->core->reactor);
    if (err != NULL) {
        h2o_socket_close(sock);
        return;
    }
    h2o_iovec_t protocol = h2o_socket_ssl_get_selected_protocol(sock);
    if (h2o_memis(protocol.base, protocol.len, H2O_STRLIT("h2")))
        start_h2(c);
    else
        start_h1(c);
}

/* Keys and rows do not travel in the clear beyond this machine when TLS is configured. */
static bool cleartext_allowed(const struct connection *c)
{
    const struct transport *t = c->core->transport;
    return t->tls == NULL || t->options.insecure || c->loopback_only;
}

static void refuse_cleartext(struct connection *c)
{
    metrics_add(c->core->metrics, METRICS_CONNECTIONS_REJECTED_AT + METRICS_REJECT_TLS, 1);
    h2o_socket_close(c->sock);
}

static void on_first_bytes(h2o_socket_t *sock, const char *err)
{
    struct connection *c = connection_of(sock);
    reactor_mark_active(c->core->reactor);
    if (err != NULL) {
        h2o_socket_close(sock);
        return;
    }
    size_t len = sock->input->size < PREFACE_LEN ? sock->input->size : PREFACE_LEN;
    if (len == 0)
        return;
    bool may_be_h2 = memcmp(sock->input->bytes, preface, len) == 0;
    if (may_be_h2 && len < PREFACE_LEN)
        return;
    h2o_socket_read_stop(sock);
    if ((unsigned char)sock->input->bytes[0] == TLS_HANDSHAKE_RECORD &&
        c->core->transport->tls != NULL) {
        become(c, CONNECTION_TLS);
        h2o_socket_ssl_handshake(sock, c->core->transport->tls, NULL, on_handshake);
    } else if (!cleartext_allowed(c)) {
        refuse_cleartext(c);
    } else if (may_be_h2) {
        start_h2(c);
    } else {
        start_h1(c);
    }
}

/* ---- accept ---- */

static void tell_peer(struct connection *c, struct sockaddr_storage *address, socklen_t len)
{
    char host[NI_MAXHOST];
    size_t host_len = h2o_socket_getnumerichost((struct sockaddr *)(void *)address, len, host);
    if (host_len == SIZE_MAX)
        host_len = 0;
    int n = snprintf(c->peer, sizeof(c->peer), "%.*s:%d", (int)(host_len < 46 ? host_len : 46),
                     host, (int)h2o_socket_getport((struct sockaddr *)(void *)address));
    c->peer_len = (uint8_t)(n > 0 ? n : 0);
}

static int reject_reason(struct transport_core *core, uint64_t address_hash)
{
    if (core->priv->connection_count >= core->limits->connections)
        return METRICS_REJECT_LIMIT;
    return count_address(core, address_hash) ? -1 : METRICS_REJECT_ADDRESS;
}

static void admit(struct listener_socket *l, h2o_socket_t *sock)
{
    struct transport_core *core = l->core;
    struct sockaddr_storage address = {0};
    socklen_t len = h2o_socket_getpeername(sock, (struct sockaddr *)(void *)&address);
    uint64_t hash = hash_address(&address);
    int reason = reject_reason(core, hash);
    struct connection *c = reason < 0 ? heap_calloc(&core->reactor->heap, 1, sizeof(*c)) : NULL;
    if (c == NULL) {
        if (reason < 0) { /* it was counted already */
            struct address_count *entry = find_address(core->priv, hash);
            if (--entry->connections == 0)
                forget_address(core->priv, entry);
        }
        metrics_add(core->metrics,
                    METRICS_CONNECTIONS_REJECTED_AT +
                        (unsigned)(reason < 0 ? METRICS_REJECT_MEMORY : reason),
                    1);
        h2o_socket_close(sock);
        return;
    }
    c->core = core;
    c->sock = sock;
    c->loopback_only = l->loopback_only;
    c->address_hash = hash;
    c->opened_ns = core->reactor->now_ns;
    c->connected_at = *h2o_get_timestamp(&core->priv->h2o, NULL, NULL);
    tell_peer(c, &address, len);
    list_push_back(&core->priv->connections, &c->link);
    core->priv->connection_count++;
    gauge_move(core, CONNECTION_NEW, 1);
    sock->on_close.cb = on_closed;
    sock->on_close.data = c;
    h2o_socket_read_start(sock, on_first_bytes);
}

void connection_on_accept(h2o_socket_t *listener, const char *err)
{
    struct listener_socket *l = listener->data;
    if (err != NULL || l->core->priv->accept_paused)
        return;
    reactor_mark_active(l->core->reactor);
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);
        if (sock == NULL)
            break;
        admit(l, sock);
    }
}
