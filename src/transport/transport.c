/* transport.c: listeners of all cores, start, drain and stop.
 *
 * Every core has a socket of its own per listener (SO_REUSEPORT): the kernel spreads connections,
 * no core hands one to another. All of them are bound before any reactor runs, so that a port in
 * use stops the start, and port 0 gives all cores the same port.
 *
 * Drain: each core first accepts what already waits in its queues (closing a listener resets it),
 * closes the listeners, tells HTTP/1 connections to close after their answer and HTTP/2 ones to
 * make no new streams; when the last exchange is gone it says so through an eventfd, the only thing
 * of a core that another thread reads. */
#include "transport/transport.h"

#include "base/clock.h"
#include "reactor/guest_h2o.h"
#include "security/tls.h"
#include "transport/connection.h"
#include "transport/health.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum { BACKLOG = 4096, FIRST_READ_BYTES = 64 << 10 };

__attribute__((format(printf, 3, 4))) static int fail(struct pdb_error *error, int code,
                                                      const char *format, ...)
{
    va_list args;
    error->code = code;
    va_start(args, format);
    (void)vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    return code;
}

/* ---- listeners ---- */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static int parse_address(const struct transport_listener *l, union address *out, socklen_t *len,
                         bool *loopback)
{
    *out = (union address){0};
    const char *text = strcmp(l->address, "*") == 0           ? "::"
                       : strcmp(l->address, "localhost") == 0 ? "127.0.0.1"
                                                              : l->address;
    if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(l->port);
        *len = sizeof(out->v4);
        *loopback = (ntohl(out->v4.sin_addr.s_addr) >> 24) == 127;
        return 0;
    }
    if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) != 1)
        return -1;
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons(l->port);
    *len = sizeof(out->v6);
    *loopback = IN6_IS_ADDR_LOOPBACK(&out->v6.sin6_addr);
    return 0;
}

static int open_socket(const union address *address, socklen_t len, int *fd_out)
{
    int on = 1, off = 0;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        (address->any.sa_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0) ||
        bind(fd, &address->any, len) != 0 || listen(fd, BACKLOG) != 0) {
        int error = -errno;
        (void)close(fd);
        return error;
    }
    *fd_out = fd;
    return 0;
}

/* SO_REUSEPORT would let a second server of the same user share the port in silence: a probe
 * without it finds out. */
static int probe_free(const union address *address, socklen_t len)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, off = 0;
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->any.sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    int rc = bind(fd, &address->any, len) != 0 ? -errno : 0;
    (void)close(fd);
    return rc;
}

static int open_listener(struct transport *t, size_t index, struct pdb_error *error)
{
    const struct transport_listener *l = &t->options.listeners[index];
    union address address;
    socklen_t len;
    if (parse_address(l, &address, &len, &t->loopback[index]) != 0)
        return fail(error, PDB_INVALID_ARGUMENT,
                    "server.listen: '%s' is not an IPv4 or IPv6 address, localhost or *",
                    l->address);
    if (!t->loopback[index] && t->options.tls_cert == NULL && !t->options.insecure)
        return fail(error, PDB_FAILED_PRECONDITION,
                    "server.listen: '%s' can be reached from other machines: set tls.cert and "
                    "tls.key, or server.insecure = true",
                    l->address);
    int rc = l->port != 0 ? probe_free(&address, len) : 0;
    for (unsigned core = 0; rc == 0 && core < t->core_count; core++) {
        int *fd = &t->listener_fds[core * t->options.listener_count + index];
        rc = open_socket(&address, len, fd);
        socklen_t name_len = len;
        if (rc == 0 && core == 0 && getsockname(*fd, &address.any, &name_len) != 0)
            rc = -errno;
    }
    if (rc != 0)
        return fail(error, PDB_UNAVAILABLE, "cannot listen on %s port %u: %s", l->address, l->port,
                    strerror(-rc));
    t->ports[index] =
        ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
    return 0;
}

int transport_new(const struct transport_options *options, unsigned core_count,
                  struct transport **transport_out, struct pdb_error *error)
{
    struct transport *t = heap_calloc(NULL, 1, sizeof(*t));
    if (t == NULL)
        return fail(error, PDB_RESOURCE_EXHAUSTED, "no memory");
    t->options = *options;
    t->core_count = core_count;
    t->started_ns = clock_monotonic_ns();
    size_t fd_count = core_count * options->listener_count;
    t->listener_fds = heap_alloc(NULL, fd_count * sizeof(int));
    t->ports = heap_calloc(NULL, options->listener_count, sizeof(uint16_t));
    t->loopback = heap_calloc(NULL, options->listener_count, sizeof(bool));
    t->cores = heap_calloc(NULL, core_count, sizeof(struct transport_core *));
    t->drained_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (size_t i = 0; t->listener_fds != NULL && i < fd_count; i++)
        t->listener_fds[i] = -1;
    int rc = 0;
    if (t->listener_fds == NULL || t->ports == NULL || t->loopback == NULL || t->cores == NULL ||
        t->drained_fd < 0)
        rc = fail(error, PDB_RESOURCE_EXHAUSTED, "no memory or descriptors for the listeners");
    struct trail trail = {0};
    if (rc == 0 && options->tls_cert != NULL &&
        (rc = tls_context_new(options->tls_cert, options->tls_key, &trail, &t->tls)) != 0)
        (void)fail(error, rc, "%s", trail.text);
    for (size_t i = 0; rc == 0 && i < options->listener_count; i++)
        rc = open_listener(t, i, error);
    if (rc != 0) {
        transport_free(t);
        return rc;
    }
    h1_configure(&t->h2o, options->limits);
    *transport_out = t;
    return 0;
}

void transport_free(struct transport *t)
{
    if (t == NULL)
        return;
    starting_free(t->starting);
    for (size_t i = 0; t->listener_fds != NULL && i < t->core_count * t->options.listener_count;
         i++)
        if (t->listener_fds[i] >= 0)
            (void)close(t->listener_fds[i]);
    if (t->drained_fd >= 0)
        (void)close(t->drained_fd);
    if (t->h2o.hosts != NULL)
        h2o_config_dispose(&t->h2o);
    tls_context_free(t->tls);
    heap_free(NULL, t->listener_fds);
    heap_free(NULL, t->ports);
    heap_free(NULL, t->loopback);
    heap_free(NULL, t->cores);
    heap_free(NULL, t);
}

/* ---- before the doors open ---- */

int transport_starting(struct transport *t)
{
    size_t count = t->core_count * t->options.listener_count;
    struct starting_listener *listeners = heap_calloc(NULL, count, sizeof(*listeners));
    if (listeners == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (size_t i = 0; i < count; i++) {
        bool loopback = t->loopback[i % t->options.listener_count];
        listeners[i] = (struct starting_listener){
            t->listener_fds[i], t->tls == NULL || t->options.insecure || loopback};
    }
    int rc = starting_begin(listeners, count, &t->starting);
    heap_free(NULL, listeners);
    return rc;
}

void transport_starting_progress(struct transport *t, const struct pdb_progress *progress)
{
    if (t->starting != NULL)
        starting_progress(t->starting, progress);
}

uint16_t transport_port(const struct transport *t, size_t listener_index)
{
    return t->ports[listener_index];
}

/* ---- one core ---- */

static void start_listeners(struct transport_core *core)
{
    struct transport *t = core->transport;
    struct transport_core_private *p = core->priv;
    for (size_t i = 0; i < t->options.listener_count; i++) {
        int *fd = &t->listener_fds[core->reactor->id * t->options.listener_count + i];
        struct listener_socket *l = &p->listeners[p->listener_count++];
        l->core = core;
        l->loopback_only = t->loopback[i] && !t->options.insecure;
        l->sock = h2o_evloop_socket_create(p->loop, *fd, H2O_SOCKET_FLAG_DONT_READ);
        l->sock->data = l;
        *fd = -1;
        h2o_socket_read_start(l->sock, connection_on_accept);
    }
}

static size_t address_slots(uint32_t connections)
{
    size_t slots = 64;
    while (slots < (size_t)connections * 2)
        slots *= 2;
    return slots;
}

static void free_core(struct transport_core *core)
{
    struct heap *heap = &core->reactor->heap;
    if (core->priv != NULL) {
        heap_free(heap, core->priv->listeners);
        heap_free(heap, core->priv->addresses);
    }
    heap_free(heap, core->priv);
    heap_free(heap, core);
}

int transport_core_start(struct transport *t, struct pdb *db, struct reactor *r,
                         struct pdb_error *error)
{
    struct transport_core *core = heap_calloc(&r->heap, 1, sizeof(*core));
    struct transport_core_private *p = heap_calloc(&r->heap, 1, sizeof(*p));
    if (core == NULL || p == NULL) {
        heap_free(&r->heap, core);
        heap_free(&r->heap, p);
        return fail(error, PDB_RESOURCE_EXHAUSTED, "no memory for the listeners of core %u", r->id);
    }
    *core = (struct transport_core){.transport = t,
                                    .db = db,
                                    .reactor = r,
                                    .limits = t->options.limits,
                                    .started_ns = t->started_ns,
                                    .metrics = r->user[REACTOR_SLOT_METRICS],
                                    .priv = p};
    list_init(&core->watchers);
    p->core = core;
    p->loop = guest_h2o_loop(r);
    list_init(&p->connections);
    list_init(&p->free_exchanges);
    list_init(&p->free_streams);
    p->call_id_seed = 0;
    r->io->ops->random(r->io, &p->call_id_seed, sizeof(p->call_id_seed));
    p->address_slots = address_slots(core->limits->connections);
    p->addresses = heap_calloc(&r->heap, p->address_slots, sizeof(*p->addresses));
    p->listeners = heap_calloc(&r->heap, t->options.listener_count, sizeof(*p->listeners));
    if (p->addresses == NULL || p->listeners == NULL || health_start(core) != 0) {
        free_core(core);
        return fail(error, PDB_RESOURCE_EXHAUSTED, "no memory for the listeners of core %u", r->id);
    }
    h2o_socket_buffer_prototype._initial_buf.capacity =
        FIRST_READ_BYTES; /* thread-local; smaller reads tripled the calls */
    if (t->starting != NULL)
        starting_end(t->starting);
    h2o_context_init(&p->h2o, p->loop, &t->h2o);
    p->h1_accept = (h2o_accept_ctx_t){.ctx = &p->h2o, .hosts = t->h2o.hosts};
    t->cores[r->id] = core;
    r->user[REACTOR_SLOT_TRANSPORT] = core;
    start_listeners(core);
    sweep_start(core);
    return 0;
}

static void close_listeners(struct transport_core *core)
{
    for (size_t i = 0; i < core->priv->listener_count; i++) {
        struct listener_socket *l = &core->priv->listeners[i];
        if (l->sock == NULL)
            continue;
        connection_on_accept(l->sock, NULL);
        h2o_socket_close(l->sock);
        l->sock = NULL;
    }
    core->priv->listener_count = 0;
}

void transport_core_stop(struct transport *t, struct pdb *db, struct reactor *r)
{
    (void)db;
    struct transport_core *core = t->cores[r->id];
    if (core == NULL)
        return;
    struct transport_core_private *p = core->priv;
    close_listeners(core);
    timer_cancel(r, &p->sweep);
    health_stop(core);
    list_each_safe(link, following, &p->connections)
        connection_cut(container_of(link, struct connection, link));
    /* The owners read the end of their sockets and close them; a bounded number of turns is enough
     * for that. */
    for (int i = 0; i < 100 && !list_empty(&p->connections); i++)
        (void)h2o_evloop_run(p->loop, 1);
    h1_dispose_pool(core);
    h2_dispose_pool(core);
    t->cores[r->id] = NULL;
    r->user[REACTOR_SLOT_TRANSPORT] = NULL;
    if (list_empty(&p->connections)) {
        h2o_context_dispose(&p->h2o);
        free_core(core);
        /* else a call still holds an exchange that points here: the process is about to end, and
         * the memory with it */
    }
}

/* ---- drain ---- */

void transport_check_drained(struct transport_core *core)
{
    struct transport_core_private *p = core->priv;
    if (!core->draining || p->drained_told || core->exchanges != 0 || !list_empty(&p->connections))
        return;
    p->drained_told = true;
    (void)eventfd_write(core->transport->drained_fd, 1);
}

static void on_drain(struct reactor *here, struct mail *mail)
{
    struct transport_core *core = here->user[REACTOR_SLOT_TRANSPORT];
    (void)mail;
    if (core == NULL || core->draining)
        return;
    core->draining = true;
    close_listeners(core);
    /* h2o_context_request_shutdown is not called: it starts a timer of h2o's own HTTP/2, which then
     * cannot be disposed of. on_request closes after the answer, the sweep what is idle. */
    list_each_safe(link, following, &core->priv->connections)
    {
        struct connection *c = container_of(link, struct connection, link);
        if (c->kind == CONNECTION_HTTP2)
            h2_shutdown(c);
    }
    health_tell_watchers(core); /* they would never end by themselves */
    sweep_start(core);
}

void transport_drain(struct transport *t)
{
    for (unsigned i = 0; i < t->core_count; i++) {
        struct transport_core *core = t->cores[i];
        core->priv->drain_mail.deliver = on_drain;
        mail_post_external(core->reactor->group, i, &core->priv->drain_mail);
    }
}

bool transport_wait_drained(struct transport *t, unsigned timeout_ms)
{
    uint64_t end = clock_monotonic_ns() + timeout_ms * 1000000ull;
    while (t->drained_seen < t->core_count) {
        uint64_t now = clock_monotonic_ns();
        struct pollfd fd = {t->drained_fd, POLLIN, 0};
        eventfd_t told = 0;
        if (now >= end || poll(&fd, 1, (int)((end - now) / 1000000) + 1) < 0)
            return false;
        if (eventfd_read(t->drained_fd, &told) == 0)
            t->drained_seen += (unsigned)told;
    }
    return true;
}
