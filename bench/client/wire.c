/* wire.c: the non-blocking connection of conn.c, driven by poll until one call has ended.
 *
 * A server may close a connection that was idle; that is seen before the next request is sent, so
 * that a request is not charged with it. */
#include "bench/client/wire.h"

#include "base/assert.h"
#include "base/clock.h"

#include <poll.h>
#include <stdio.h>
#include <time.h>

enum { CONNECT_MS = 10000, ASK_MS = 1000, PAUSE_FIRST_MS = 50, PAUSE_MAX_MS = 2000 };

static const uint64_t ms = 1000000;

static void ended(void *owner, struct call *call)
{
    struct wire *wire = owner;
    (void)call;
    wire->ended = true;
}

int wire_open(struct wire *wire, const struct endpoint *endpoint, double timeout_s,
              size_t reply_max)
{
    *wire = (struct wire){.timeout_ns = (uint64_t)(timeout_s * 1e9)};
    wire->settings = (struct conn_settings){.endpoint = endpoint,
                                            .protocol = PROTOCOL_REST,
                                            .streams = 1,
                                            .reply_max = reply_max,
                                            .ended = ended,
                                            .owner = wire};
    return conn_init(&wire->conn, &wire->settings);
}

void wire_close(struct wire *wire)
{
    conn_dispose(&wire->conn);
    *wire = (struct wire){0};
}

/* One step: waits for the socket, at most until `deadline_ns`, and moves bytes. 0 or an error. */
static int step(struct wire *wire, uint64_t deadline_ns, struct trail *trail)
{
    struct conn *conn = &wire->conn;
    uint64_t now = clock_monotonic_ns();
    if (now >= deadline_ns)
        return PDB_DEADLINE_EXCEEDED;
    bool writes = !conn->open || channel_wants_write(&conn->channel);
    if (conn->channel.state == CHANNEL_HANDSHAKE)
        writes = channel_wants_write(&conn->channel);
    struct pollfd fd = {.fd = conn->channel.fd, .events = (short)(POLLIN | (writes ? POLLOUT : 0))};
    int count = poll(&fd, 1, (int)((deadline_ns - now) / ms) + 1);
    if (count <= 0)
        return 0;
    bool broken = (fd.revents & (POLLERR | POLLHUP)) != 0;
    return conn_ready(conn, (fd.revents & POLLIN) != 0 || broken, (fd.revents & POLLOUT) != 0,
                      trail);
}

/* Looks whether an idle connection was closed meanwhile. */
static void look(struct wire *wire)
{
    struct pollfd fd = {.fd = wire->conn.channel.fd, .events = POLLIN};
    if (poll(&fd, 1, 0) > 0 && conn_ready(&wire->conn, true, false, NULL) < 0)
        conn_fail(&wire->conn, "the connection was closed");
}

static int be_connected(struct wire *wire, struct trail *trail)
{
    struct conn *conn = &wire->conn;
    if (conn->open)
        look(wire);
    if (conn->open)
        return 0;
    uint64_t deadline_ns = clock_monotonic_ns() + CONNECT_MS * ms;
    int rc = conn_connect(conn, trail);
    while (rc == 0 && !conn->open)
        rc = step(wire, deadline_ns, trail);
    if (rc == PDB_DEADLINE_EXCEEDED)
        (void)trail_add(trail, rc, "no connection within %d s", CONNECT_MS / 1000);
    if (rc < 0)
        conn_fail(conn, trail->text);
    return rc;
}

static int send_body(struct wire *wire, struct call *call, const struct pdb_text *pieces,
                     size_t piece_count)
{
    ASSERT(piece_count <= WIRE_PIECE_MAX);
    body_reset(&call->body);
    for (size_t i = 0; i < piece_count; i++)
        body_point(&call->body, pieces[i].ptr, pieces[i].len);
    int rc = body_finish(&call->body);
    return rc < 0 ? rc : conn_submit(&wire->conn, call);
}

/* Until the call under way has ended; what comes for a sink gives it new time. */
static void wait_for_end(struct wire *wire, struct call *call, struct trail *trail)
{
    uint64_t deadline_ns = clock_monotonic_ns() + wire->timeout_ns, sunk = 0;
    if (conn_flush(&wire->conn) < 0)
        conn_fail(&wire->conn, "the connection was reset");
    while (!wire->ended) {
        uint64_t now = clock_monotonic_ns(), until_ns = now + ASK_MS * ms;
        bool limit = call->sink == NULL || until_ns > deadline_ns;
        int rc = step(wire, limit ? deadline_ns : until_ns, trail);
        if (rc == PDB_DEADLINE_EXCEEDED)
            rc = conn_give_up(&wire->conn, call);
        if (rc == 0 && !wire->ended && call->sink != NULL && call->sunk == sunk &&
            !call->sink(call->sink_arg, NULL, 0))
            rc = trail_add(trail, PDB_CANCELLED, "given up");
        if (rc < 0)
            conn_fail(&wire->conn, trail->text);
        if (call->sunk != sunk)
            deadline_ns = clock_monotonic_ns() + wire->timeout_ns;
        sunk = call->sunk;
    }
}

static void carry_out(struct wire *wire, const struct route *route, const struct pdb_text *pieces,
                      size_t piece_count, struct wire_reply *reply_out)
{
    struct trail trail = {0};
    struct call *call = &wire->conn.calls[0];
    *reply_out = (struct wire_reply){.code = CODE_UNAVAILABLE, .lost = true};
    reply_out->message = call->message;
    int rc = be_connected(wire, &trail);
    if (rc < 0) {
        (void)snprintf(call->message, sizeof(call->message), "%.250s", trail.text);
        return;
    }
    wire->ended = false;
    call->route = route;
    rc = send_body(wire, call, pieces, piece_count);
    if (rc < 0) {
        conn_fail(&wire->conn, "the request could not be sent");
        (void)snprintf(call->message, sizeof(call->message), "the request could not be sent");
        return;
    }
    wait_for_end(wire, call, &trail);
    if (!wire->conn.open && wire->conn.channel.state != CHANNEL_CLOSED)
        conn_fail(&wire->conn, "closed by the server");
    reply_out->code = call->code;
    reply_out->lost = call->lost;
    reply_out->body = (struct pdb_text){call->reply.ptr, call->reply.len};
}

void wire_call(struct wire *wire, const struct route *route, const struct pdb_text *pieces,
               size_t piece_count, struct wire_reply *reply_out)
{
    wire->conn.calls[0].sink = NULL;
    carry_out(wire, route, pieces, piece_count, reply_out);
}

void wire_stream(struct wire *wire, const struct route *route, call_sink_fn *sink, void *arg,
                 struct wire_reply *reply_out)
{
    wire->conn.calls[0].sink = sink;
    wire->conn.calls[0].sink_arg = arg;
    carry_out(wire, route, NULL, 0, reply_out);
    wire->conn.calls[0].sink = NULL;
}

void wire_call_patiently(struct wire *wire, const struct route *route,
                         const struct pdb_text *pieces, size_t piece_count, unsigned tries,
                         struct wire_reply *reply_out)
{
    long pause_ms = PAUSE_FIRST_MS;
    for (unsigned i = 0;; i++) {
        wire_call(wire, route, pieces, piece_count, reply_out);
        bool again = reply_out->lost || reply_out->code == CODE_UNAVAILABLE ||
                     reply_out->code == -PDB_RESOURCE_EXHAUSTED;
        if (!again || i + 1 >= tries)
            return;
        const struct timespec pause = {pause_ms / 1000, pause_ms % 1000 * 1000000};
        (void)nanosleep(&pause, NULL);
        pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
    }
}
