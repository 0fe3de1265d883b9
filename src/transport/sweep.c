/* sweep.c: once a second, every connection of this core is looked at, because h2o 2.2.5 has one
 * timer for head and body, none for writing, and does not notice clients that leave while their
 * request runs.
 *
 *     handshake or first bytes late            close
 *     head not complete within header_s        close
 *     body slower than 1 KiB/s after 10 s      close
 *     nothing under way for idle_s             close (HTTP/2: GOAWAY)
 *     a write that makes no progress close after blocked_write_s; progress is what the peer has
 *         acknowledged (TCP_INFO)
 *     unfinished bodies over the core's budget stop accepting, close the largest; looked at more
 *         often
 *     POLLRDHUP while a call runs              cancel it
 *
 * Cutting a connection is shutdown(2): its owner then reads the end and closes it by its own
 * way. */
#include "transport/connection.h"

#include <linux/tcp.h> /* netinet/tcp.h has an older tcp_info */
#include <netinet/in.h>
#include <poll.h>

#include "base/no_libc_heap.h"

enum { BODY_RATE_MIN = 1024, BODY_GRACE_S = 10, POLL_BATCH = 256, LOOK_PAUSE_NS = 50000 };
static const uint64_t second_ns = 1000000000u;

static bool older(uint64_t now, uint64_t since, uint32_t seconds)
{
    return since != 0 && now - since >= seconds * second_ns;
}

static void cut(struct connection *c, unsigned limit)
{
    metrics_add(c->core->metrics, METRICS_LIMIT_EXCEEDED_AT + limit, 1);
    connection_cut(c);
}

/* Bytes that the peer has acknowledged, or 0 where the kernel does not tell. */
static uint64_t acknowledged(const struct connection *c)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (getsockopt(h2o_socket_get_fd(c->sock), IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
        len < offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof(info.tcpi_bytes_acked))
        return 0;
    return info.tcpi_bytes_acked;
}

static bool write_stalled(struct connection *c, uint64_t now)
{
    if (!h2o_socket_is_writing(c->sock)) {
        c->blocked_since_ns = 0;
        return false;
    }
    uint64_t acked = acknowledged(c);
    if (c->blocked_since_ns == 0 || acked != c->acked_bytes) {
        c->blocked_since_ns = now;
        c->acked_bytes = acked;
    }
    return older(now, c->blocked_since_ns, c->core->limits->blocked_write_s);
}

/* An HTTP/1 request that h2o is still reading. */
static void look_at_h1_input(struct connection *c, uint64_t now)
{
    const struct api_limits *limits = c->core->limits;
    const h2o_buffer_t *input = c->sock->input;
    if (input->size == 0) {
        c->request_since_ns = 0;
        if (c->idle_since_ns == 0 || c->sock->bytes_read != c->seen_read)
            c->idle_since_ns = now;
        c->seen_read = c->sock->bytes_read;
        if (older(now, c->idle_since_ns, limits->idle_s))
            cut(c, METRICS_LIMIT_IDLE);
        return;
    }
    c->idle_since_ns = 0;
    if (c->request_since_ns == 0) {
        c->request_since_ns = now;
        c->request_start_bytes = c->sock->bytes_read - input->size;
        return;
    }
    size_t head_most = input->size < limits->header_bytes ? input->size : limits->header_bytes;
    bool head_done = memmem(input->bytes, head_most, "\r\n\r\n", 4) != NULL ||
                     memmem(input->bytes, head_most, "\n\n", 2) != NULL;
    uint64_t age_s = (now - c->request_since_ns) / second_ns;
    if (!head_done && age_s >= limits->header_s)
        cut(c, METRICS_LIMIT_HEADER);
    else if (head_done && age_s > BODY_GRACE_S &&
             c->sock->bytes_read - c->request_start_bytes < age_s * BODY_RATE_MIN)
        cut(c, METRICS_LIMIT_BODY);
}

static void look_at_h2(struct connection *c, uint64_t now)
{
    if (c->exchanges != 0) {
        c->idle_since_ns = 0;
        h2_look_at_bodies(c, now);
        return;
    }
    if (c->idle_since_ns == 0 || c->sock->bytes_read != c->seen_read)
        c->idle_since_ns = now;
    c->seen_read = c->sock->bytes_read;
    if (!older(now, c->idle_since_ns, c->core->limits->idle_s))
        return;
    if (older(now, c->idle_since_ns, c->core->limits->idle_s + 5))
        cut(c, METRICS_LIMIT_IDLE); /* GOAWAY did not help */
    else
        h2_shutdown(c);
}

static void look_at(struct connection *c, uint64_t now)
{
    const struct api_limits *limits = c->core->limits;
    if (c->kind == CONNECTION_NEW || c->kind == CONNECTION_TLS) {
        if (older(now, c->opened_ns, limits->handshake_s))
            cut(c, METRICS_LIMIT_DEADLINE);
    } else if (write_stalled(c, now)) {
        cut(c, METRICS_LIMIT_OTHER);
    } else if (c->upload != NULL) {
        if (h1_upload_is_late(c, now))
            cut(c, METRICS_LIMIT_BODY);
    } else if (c->kind == CONNECTION_HTTP2) {
        look_at_h2(c, now);
    } else if (c->exchanges == 0) {
        look_at_h1_input(c, now);
    }
}

/* While the server drains, a connection without work is cut; h2o keeps idle ones. */
static void look_while_draining(struct connection *c, uint64_t now)
{
    if (c->kind != CONNECTION_HTTP2 && c->exchanges == 0 && !h2o_socket_is_writing(c->sock) &&
        (c->kind != CONNECTION_HTTP1 || c->sock->input->size == 0))
        connection_cut(c);
    else
        look_at(c, now);
}

/* While h2o writes a long answer only its own way of closing may end the request. */
static void tell_left(struct connection *c)
{
    if (c->h1_exchange->sending_pieces)
        connection_cut(c);
    else
        h1_client_left(c);
}

/* Clients that left while their HTTP/1 request runs: h2o has taken the socket out of epoll. */
static void notice_leavers(struct transport_core *core)
{
    struct pollfd fds[POLL_BATCH];
    struct connection *who[POLL_BATCH];
    nfds_t count = 0;
    struct list_link *link = core->priv->connections.anchor.next,
                     *end = &core->priv->connections.anchor;
    while (link != end || count != 0) {
        if (link != end) {
            struct connection *c = container_of(link, struct connection, link);
            link = link->next;
            if (c->h1_exchange != NULL && !c->h1_exchange->gone) {
                who[count] = c;
                fds[count++] = (struct pollfd){h2o_socket_get_fd(c->sock), POLLRDHUP, 0};
            }
        }
        if (count == POLL_BATCH || (link == end && count != 0)) {
            if (poll(fds, count, 0) > 0)
                for (nfds_t i = 0; i < count; i++)
                    if ((fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0)
                        tell_left(who[i]);
            count = 0;
        }
    }
}

/* The body that h2o is still reading on a connection, and how large it is by now. */
static size_t unfinished_bytes(const struct connection *c)
{
    bool unfinished = c->exchanges == 0 || c->upload != NULL;
    return c->kind == CONNECTION_HTTP1 && unfinished && !c->cut ? c->sock->input->size : 0;
}

/* Cuts bodies of at least an equal share of the budget until the rest fits: linear, and as long as
 * the sum is too large there is one of them. */
static void cut_large_bodies(struct transport_core *core, size_t sum, size_t share)
{
    list_each (link, &core->priv->connections) {
        struct connection *c = container_of(link, struct connection, link);
        size_t size = unfinished_bytes(c);
        if (sum <= core->limits->inflight_body_bytes_per_core)
            return;
        if (size == 0 || size < share)
            continue;
        cut(c, METRICS_LIMIT_INFLIGHT);
        sum -= size;
    }
}

/* The sum of bodies that are not complete yet; past the budget the largest goes, then other large
 * ones, and no new connection is taken. */
static void hold_body_budget(struct transport_core *core)
{
    uint64_t budget = core->limits->inflight_body_bytes_per_core;
    size_t sum = core->priv->h2_body_bytes, count = 0, largest_size = 0;
    struct connection *largest = NULL;
    list_each (link, &core->priv->connections) {
        struct connection *c = container_of(link, struct connection, link);
        size_t size = unfinished_bytes(c);
        sum += size;
        count += size != 0;
        if (size > largest_size) {
            largest_size = size;
            largest = c;
        }
    }
    bool over = sum > budget;
    if (over && largest != NULL) {
        cut(largest, METRICS_LIMIT_INFLIGHT);
        cut_large_bodies(core, sum - largest_size, budget / count);
    }
    bool was_paused = core->priv->accept_paused;
    core->priv->accept_paused = over;
    for (size_t i = 0; was_paused && !over && i < core->priv->listener_count; i++)
        connection_on_accept(core->priv->listeners[i].sock, NULL);
}

static void on_sweep(struct timer *timer)
{
    struct transport_core_private *p = container_of(timer, struct transport_core_private, sweep);
    struct transport_core *core = p->core;
    uint64_t now = core->reactor->now_ns;
    if (!core->draining && now < p->sweep_due_ns) {
        hold_body_budget(core);
        sweep_start(core);
        return;
    }
    p->sweep_due_ns = now + second_ns;
    list_each_safe(link, following, &p->connections)
    {
        struct connection *c = container_of(link, struct connection, link);
        if (core->draining)
            look_while_draining(c, now);
        else
            look_at(c, now);
    }
    notice_leavers(core);
    hold_body_budget(core);
    h2_release_windows(core);
    transport_check_drained(core);
    sweep_start(core);
}

void sweep_start(struct transport_core *core)
{
    /* Draining is watched more closely: each tick closes what became idle. So are bodies: in a
     * second a network brings more than the budget. A look at one connection costs up to 0.3 us, so
     * many of them are looked at less often. */
    struct transport_core_private *p = core->priv;
    uint64_t pause = second_ns / 20 + p->connection_count * LOOK_PAUSE_NS;
    if (core->draining)
        pause = second_ns / 50;
    p->sweep.fire = on_sweep;
    (void)timer_set(core->reactor, &p->sweep,
                    core->reactor->now_ns + (pause < second_ns ? pause : second_ns));
}
