/* conn_h1.c: HTTP/1.1 (RFC 9112), one request at a time.
 *
 * Requests have a Content-Length and no other framing. Replies may have a length, be chunked, or
 * end with the connection. The parser takes bytes as they come and keeps lines (status, headers,
 * chunk sizes) in one bounded buffer; body bytes go straight to the call. No pipelining: servers
 * and proxies treat it badly and it would make a latency mean something else; more connections do
 * the same job. */
#include "bench/client/conn.h"

#include "base/assert.h"
#include "base/heap.h"
#include "bench/client/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { LINE_MAX_BYTES = 16384, HEADER_LINES_MAX = 256 };

enum h1_state {
    H1_STATUS,
    H1_HEADER,
    H1_BODY,
    H1_UNTIL_END,
    H1_CHUNK_SIZE,
    H1_CHUNK,
    H1_CHUNK_END,
    H1_TRAILER
};

struct conn_impl {
    enum h1_state state;
    struct call *call; /* NULL: none is in flight */
    char line[LINE_MAX_BYTES];
    size_t line_len;
    unsigned line_count;
    uint64_t left; /* of the body or of the chunk */
    bool has_length, chunked, close;
};

static int h1_make(struct conn *conn)
{
    conn->impl = heap_calloc(NULL, 1, sizeof(*conn->impl));
    return conn->impl != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
}

static void h1_clear(struct conn_impl *impl)
{
    impl->state = H1_STATUS;
    impl->call = NULL;
    impl->line_len = 0;
    impl->line_count = 0;
    impl->left = 0;
    impl->has_length = impl->chunked = impl->close = false;
}

static int h1_start(struct conn *conn)
{
    h1_clear(conn->impl);
    return 0;
}

static void h1_stop(struct conn *conn)
{
    h1_clear(conn->impl);
}

static void h1_dispose(struct conn *conn)
{
    heap_free(NULL, conn->impl);
}

static int h1_submit(struct conn *conn, struct call *call)
{
    ASSERT(conn->impl->call == NULL);
    char head[1024];
    int len = snprintf(head, sizeof(head),
                       "%s %s HTTP/1.1\r\nhost: %s\r\nuser-agent: proximadb-client/" PDB_VERSION
                       "\r\naccept: application/json\r\n",
                       call->route->method, call->route->path, conn->settings->endpoint->authority);
    if (len > 0 && (size_t)len < sizeof(head) && call->body.bytes != 0)
        len += snprintf(head + len, sizeof(head) - (size_t)len,
                        "content-type: %s\r\ncontent-length: %zu\r\n", call->route->content_type,
                        call->body.bytes);
    if (len > 0 && (size_t)len < sizeof(head))
        len += snprintf(head + len, sizeof(head) - (size_t)len, "\r\n");
    if (len < 0 || (size_t)len >= sizeof(head))
        return PDB_INVALID_ARGUMENT;
    struct iovec pieces[BODY_PIECE_MAX + 1];
    pieces[0] = (struct iovec){head, (size_t)len};
    for (unsigned i = 0; i < call->body.piece_count; i++) {
        const struct body_piece *piece = &call->body.pieces[i];
        union {
            const char *in;
            void *out;
        } base = {piece->ptr}; /* iovec has no const; it is only read */
        pieces[i + 1] = (struct iovec){base.out, piece->len};
    }
    h1_clear(conn->impl);
    conn->impl->call = call;
    return channel_write(&conn->channel, pieces, (int)call->body.piece_count + 1);
}

/* The reply is complete. */
static int finish(struct conn *conn)
{
    struct conn_impl *impl = conn->impl;
    struct call *call = impl->call;
    bool close = impl->close;
    h1_clear(impl);
    int code = CODE_OK;
    if (call->http_status >= 400 || call->http_status < 200)
        code = decode_rest_error(call->http_status,
                                 (struct pdb_text){call->reply.ptr, call->reply.len}, &call->arena,
                                 call->message, sizeof(call->message));
    if (close)
        conn->open = false; /* nothing more may be submitted from within `ended` */
    call_end(call, code);
    return close ? PDB_UNAVAILABLE : 0;
}

static bool header_is(const char *line, const char *name, const char **value_out)
{
    size_t len = strlen(name);
    if (strncasecmp(line, name, len) != 0 || line[len] != ':')
        return false;
    *value_out = line + len + 1 + strspn(line + len + 1, " \t");
    return true;
}

static int take_header(struct conn_impl *impl, const char *line)
{
    const char *value = NULL;
    if (header_is(line, "content-length", &value)) {
        char *end = NULL;
        impl->left = strtoull(value, &end, 10);
        impl->has_length = true;
        return end != value && *end == '\0' ? 0 : PDB_INTERNAL;
    }
    if (header_is(line, "transfer-encoding", &value))
        impl->chunked = strcasecmp(value, "chunked") == 0;
    else if (header_is(line, "connection", &value))
        impl->close = impl->close || strcasecmp(value, "close") == 0;
    return 0;
}

/* After the empty line behind the headers (RFC 9112, section 6.3). */
static int begin_body(struct conn *conn)
{
    struct conn_impl *impl = conn->impl;
    int status = impl->call->http_status;
    if (status >= 100 && status < 200) { /* interim: the real one follows */
        impl->state = H1_STATUS;
        impl->has_length = impl->chunked = false;
        return 0;
    }
    if (status == 204 || status == 304)
        return finish(conn);
    if (impl->chunked) {
        impl->state = H1_CHUNK_SIZE;
    } else if (impl->has_length) {
        impl->state = H1_BODY;
        if (impl->left == 0)
            return finish(conn);
    } else {
        impl->state = H1_UNTIL_END;
        impl->close = true;
    }
    return 0;
}

static int take_line(struct conn *conn, const char *line)
{
    struct conn_impl *impl = conn->impl;
    char *end = NULL;
    if (++impl->line_count > HEADER_LINES_MAX && impl->state != H1_CHUNK_SIZE &&
        impl->state != H1_CHUNK_END)
        return PDB_INTERNAL;
    switch (impl->state) {
    case H1_STATUS:
        if (strncmp(line, "HTTP/1.", 7) != 0 || strlen(line) < 12)
            return PDB_INTERNAL;
        impl->close = line[7] == '0';
        impl->call->http_status = (int)strtol(line + 9, NULL, 10);
        impl->state = H1_HEADER;
        return 0;
    case H1_HEADER:
        return line[0] == '\0' ? begin_body(conn) : take_header(impl, line);
    case H1_CHUNK_SIZE:
        impl->left = strtoull(line, &end, 16);
        if (end == line || (impl->left > conn->settings->reply_max && impl->call->sink == NULL))
            return PDB_INTERNAL;
        impl->state = impl->left == 0 ? H1_TRAILER : H1_CHUNK;
        return 0;
    case H1_CHUNK_END:
        impl->state = H1_CHUNK_SIZE;
        return line[0] == '\0' ? 0 : PDB_INTERNAL;
    case H1_TRAILER:
        return line[0] == '\0' ? finish(conn) : 0;
    case H1_BODY:
    case H1_UNTIL_END:
    case H1_CHUNK:
        break;
    }
    return PDB_INTERNAL;
}

static int feed_line(struct conn *conn, uint8_t byte)
{
    struct conn_impl *impl = conn->impl;
    if (byte != '\n') {
        if (impl->line_len + 1 >= sizeof(impl->line))
            return PDB_INTERNAL;
        impl->line[impl->line_len++] = (char)byte;
        return 0;
    }
    if (impl->line_len > 0 && impl->line[impl->line_len - 1] == '\r')
        impl->line_len--;
    impl->line[impl->line_len] = '\0';
    impl->line_len = 0;
    return take_line(conn, impl->line);
}

static int take_body(struct call *call, const uint8_t *bytes, size_t len)
{
    if (call->sink == NULL || call->http_status != 200) {
        buffer_add(&call->reply, bytes, len);
        return 0;
    }
    call->sunk += len;
    return call->sink(call->sink_arg, bytes, len) ? 0 : PDB_CANCELLED;
}

static int h1_feed(struct conn *conn, const uint8_t *bytes, size_t size)
{
    struct conn_impl *impl = conn->impl;
    size_t at = 0;
    while (at < size) {
        if (impl->call == NULL)
            return PDB_INTERNAL; /* an answer that nobody asked for */
        if (impl->state != H1_BODY && impl->state != H1_CHUNK && impl->state != H1_UNTIL_END) {
            int rc = feed_line(conn, bytes[at++]);
            if (rc < 0)
                return rc;
            continue;
        }
        size_t step = size - at;
        if (impl->state != H1_UNTIL_END && step > impl->left)
            step = (size_t)impl->left;
        int taken = take_body(impl->call, bytes + at, step);
        if (taken < 0)
            return taken;
        at += step;
        if (impl->state == H1_UNTIL_END)
            continue;
        impl->left -= step;
        if (impl->left > 0)
            continue;
        if (impl->state == H1_CHUNK) {
            impl->state = H1_CHUNK_END;
            continue;
        }
        int rc = finish(conn);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int h1_flush(struct conn *conn)
{
    return channel_flush(&conn->channel);
}

static void h1_cancel(struct conn *conn, struct call *call)
{
    ASSERT(conn->impl->call == call);
    h1_clear(conn->impl);
    conn->open = false;
}

static void h1_at_end(struct conn *conn)
{
    if (conn->impl->call != NULL && conn->impl->state == H1_UNTIL_END)
        (void)finish(conn);
}

const struct conn_ops conn_h1_ops = {
    .make = h1_make,
    .start = h1_start,
    .stop = h1_stop,
    .dispose = h1_dispose,
    .submit = h1_submit,
    .feed = h1_feed,
    .flush = h1_flush,
    .cancel = h1_cancel,
    .at_end = h1_at_end,
};
