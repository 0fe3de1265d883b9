/* conn.c: what both protocols share: life cycle of a connection and of its calls. */
#include "bench/client/conn.h"

#include "base/assert.h"
#include "base/heap.h"

#include <stdio.h>
#include <string.h>

enum { READ_BYTES = 65536, READS_MAX = 16 };

int conn_init(struct conn *conn, const struct conn_settings *settings)
{
    *conn = (struct conn){.settings = settings};
    channel_init(&conn->channel);
    conn->ops = settings->protocol == PROTOCOL_REST ? &conn_h1_ops : &conn_h2_ops;
    conn->calls = heap_calloc(NULL, settings->streams, sizeof(*conn->calls));
    if (conn->calls == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (unsigned i = 0; i < settings->streams; i++) {
        struct call *call = &conn->calls[i];
        call->conn = conn;
        body_init(&call->body);
        buffer_init_heap(&call->reply, NULL, settings->reply_max);
    }
    if (conn->ops->make(conn) < 0) {
        conn_dispose(conn);
        return PDB_RESOURCE_EXHAUSTED;
    }
    return 0;
}

void conn_dispose(struct conn *conn)
{
    if (conn == NULL || conn->ops == NULL)
        return;
    if (conn->impl != NULL) {
        conn->ops->stop(conn);
        conn->ops->dispose(conn);
    }
    conn->impl = NULL;
    channel_dispose(&conn->channel);
    for (unsigned i = 0; conn->calls != NULL && i < conn->settings->streams; i++) {
        body_dispose(&conn->calls[i].body);
        buffer_dispose(&conn->calls[i].reply);
        arena_dispose(&conn->calls[i].arena);
    }
    heap_free(NULL, conn->calls);
    conn->calls = NULL;
}

int conn_connect(struct conn *conn, struct trail *trail)
{
    ASSERT(!conn->open && conn->in_flight == 0);
    return channel_connect(&conn->channel, conn->settings->endpoint, trail);
}

static int read_all(struct conn *conn)
{
    uint8_t bytes[READ_BYTES];
    /* Bounded, so that one busy connection does not starve the others; TLS may hold more than the
     * socket shows, and is read until it says later. */
    for (unsigned i = 0; i < READS_MAX || conn->channel.ssl != NULL; i++) {
        long got = channel_read(&conn->channel, bytes, sizeof(bytes));
        if (got == 0)
            return 0;
        if (got < 0) {
            conn->ops->at_end(conn);
            return PDB_UNAVAILABLE;
        }
        int rc = conn->ops->feed(conn, bytes, (size_t)got);
        if (rc < 0)
            return rc;
        if ((size_t)got < sizeof(bytes) && conn->channel.ssl == NULL)
            return 0;
    }
    return 0;
}

int conn_ready(struct conn *conn, bool readable, bool writable, struct trail *trail)
{
    if (!conn->open) {
        int rc = channel_advance(&conn->channel, conn->settings->endpoint, trail);
        if (rc <= 0)
            return rc;
        if (conn->ops->start(conn) < 0)
            return trail_add(trail, PDB_UNAVAILABLE, "the connection cannot start");
        conn->open = true;
        return conn->ops->flush(conn);
    }
    if (readable && read_all(conn) < 0)
        return trail_add(trail, PDB_UNAVAILABLE, "the connection was closed");
    if (writable && channel_flush(&conn->channel) < 0)
        return trail_add(trail, PDB_UNAVAILABLE, "the connection was reset");
    if (conn->ops->flush(conn) < 0)
        return trail_add(trail, PDB_UNAVAILABLE, "the connection was reset");
    return 0;
}

void conn_fail(struct conn *conn, const char *why)
{
    channel_close(&conn->channel);
    conn->ops->stop(conn);
    conn->open = false;
    for (unsigned i = 0; i < conn->settings->streams; i++) {
        struct call *call = &conn->calls[i];
        if (!call->in_flight)
            continue;
        call->lost = true;
        (void)snprintf(call->message, sizeof(call->message), "%s", why);
        call_end(call, CODE_UNAVAILABLE);
    }
    ASSERT(conn->in_flight == 0);
}

int conn_submit(struct conn *conn, struct call *call)
{
    ASSERT(conn->open && !call->in_flight && call->conn == conn);
    call->reply.len = 0;
    call->reply.failed = false;
    call->sunk = 0;
    arena_reset(&call->arena);
    call->code = CODE_UNKNOWN;
    call->http_status = 0;
    call->lost = false;
    call->message[0] = '\0';
    call->body_at = 0;
    call->reply_ended = false;
    int rc = conn->ops->submit(conn, call);
    if (rc < 0)
        return rc;
    call->in_flight = true;
    conn->in_flight++;
    return 0;
}

int conn_flush(struct conn *conn)
{
    return conn->open ? conn->ops->flush(conn) : 0;
}

int conn_give_up(struct conn *conn, struct call *call)
{
    ASSERT(call->in_flight);
    (void)snprintf(call->message, sizeof(call->message), "no answer within the time limit");
    conn->ops->cancel(conn, call);
    bool lose = conn->ops == &conn_h1_ops;
    call_end(call, CODE_DEADLINE_EXCEEDED);
    return lose ? PDB_UNAVAILABLE : conn_flush(conn);
}

void call_end(struct call *call, int code)
{
    struct conn *conn = call->conn;
    ASSERT(call->in_flight && conn->in_flight > 0);
    call->in_flight = false;
    call->stream_id = 0;
    conn->in_flight--;
    if (call->reply.failed && code == CODE_OK) {
        (void)snprintf(call->message, sizeof(call->message), "the reply is too large");
        code = CODE_INTERNAL;
    }
    call->code = code >= 0 && code < CODE_COUNT ? code : CODE_UNKNOWN;
    conn->settings->ended(conn->settings->owner, call);
}
