/* conn_h2.c: HTTP/2 (RFC 9113) by nghttp2, for gRPC and for REST.
 *
 * Sending. nghttp2 decides what goes next; this file gathers it. Frames without data are copied
 * into a stash, DATA frames become a copied 9-byte head and pointers into the request's pieces, and
 * all go to the socket in one call, at most GATHER_BYTES at a time. What the socket refuses the
 * channel copies, so that no pointer survives the call and a request may be reused as soon as its
 * answer is there.
 *
 * Receiving. Flow-control windows are opened wide at the start (a load generator is always ready to
 * read), so that the server never waits for us. The answer's message stays as it is, with its gRPC
 * prefix; the outcome of a call is the grpc-status in the trailers or, when the server answers
 * without a body, in the headers.
 *
 * Ending. A server may answer before it has read the request; then the stream is reset, because
 * otherwise the rest of the body would be sent for nothing. */
#include "bench/client/conn.h"

#include "base/assert.h"
#include "base/heap.h"
#include "bench/client/decode.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WINDOW_BYTES = 16 << 20,
    WINDOW_ALL_BYTES = 64 << 20,
    GATHER_MAX = 256,         /* pieces of one write */
    GATHER_BYTES = 512 << 10, /* a socket rarely takes more */
    STASH_BYTES = 64 << 10,
    FRAME_HEAD_BYTES = 9,
    STREAM_ID_LIMIT = 0x7ffffff0,
};

struct conn_impl {
    nghttp2_session *session; /* NULL while not connected */
    nghttp2_session_callbacks *callbacks;
    struct iovec gather[GATHER_MAX];
    int gather_count;
    size_t gather_bytes;
    bool gather_full;
    size_t stash_len;
    uint8_t stash[STASH_BYTES];
};

static struct call *call_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

/* ---- sending ---- */

static bool has_room(const struct conn_impl *impl, size_t stash_bytes)
{
    return impl->gather_count + BODY_PIECE_MAX + 1 <= GATHER_MAX &&
           impl->gather_bytes < GATHER_BYTES && impl->stash_len + stash_bytes <= STASH_BYTES;
}

static void gather(struct conn_impl *impl, const void *ptr, size_t len)
{
    ASSERT(impl->gather_count < GATHER_MAX);
    union {
        const void *in;
        void *out;
    } base = {ptr}; /* iovec has no const; it is only read */
    impl->gather[impl->gather_count++] = (struct iovec){base.out, len};
    impl->gather_bytes += len;
}

static void gather_copy(struct conn_impl *impl, const uint8_t *bytes, size_t len)
{
    ASSERT(impl->stash_len + len <= STASH_BYTES);
    uint8_t *at = impl->stash + impl->stash_len;
    memcpy(at, bytes, len);
    impl->stash_len += len;
    gather(impl, at, len);
}

static ssize_t on_body(nghttp2_session *session, int32_t stream_id, uint8_t *bytes, size_t size,
                       uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)bytes;
    (void)user;
    struct call *call = source->ptr;
    /* given up: its memory has another request now */
    if (call_of(session, stream_id) != call)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t left = call->body.bytes - call->body_at;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (left <= size)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)(left < size ? left : size);
}

/* `len` bytes of the body from call->body_at on, by pointer. */
static void gather_body(struct conn_impl *impl, struct call *call, size_t len)
{
    size_t offset = call->body_at;
    call->body_at += len;
    for (unsigned i = 0; i < call->body.piece_count && len > 0; i++) {
        const struct body_piece *piece = &call->body.pieces[i];
        if (offset >= piece->len) {
            offset -= piece->len;
            continue;
        }
        size_t step = piece->len - offset < len ? piece->len - offset : len;
        gather(impl, piece->ptr + offset, step);
        len -= step;
        offset = 0;
    }
    ASSERT(len == 0);
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t len, nghttp2_data_source *source, void *user)
{
    struct conn *conn = user;
    struct conn_impl *impl = conn->impl;
    /* as in on_body; this frame was planned before */
    if (call_of(session, frame->hd.stream_id) != source->ptr)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (!has_room(impl, FRAME_HEAD_BYTES)) {
        impl->gather_full = true;
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    gather_copy(impl, head, FRAME_HEAD_BYTES);
    gather_body(impl, source->ptr, len);
    return 0;
}

static ssize_t on_frame_length(nghttp2_session *session, uint8_t frame_type, int32_t stream_id,
                               int32_t session_window, int32_t stream_window, uint32_t frame_max,
                               void *user)
{
    (void)session;
    (void)frame_type;
    (void)stream_id;
    (void)user;
    int32_t window = session_window < stream_window ? session_window : stream_window;
    return window < (int32_t)frame_max ? window : (int32_t)frame_max;
}

static int send_gathered(struct conn *conn)
{
    struct conn_impl *impl = conn->impl;
    int rc = 0;
    if (impl->gather_count > 0)
        rc = channel_write(&conn->channel, impl->gather, impl->gather_count);
    impl->gather_count = 0;
    impl->gather_bytes = 0;
    impl->gather_full = false;
    impl->stash_len = 0;
    return rc;
}

static int h2_flush(struct conn *conn)
{
    struct conn_impl *impl = conn->impl;
    int rc = channel_flush(&conn->channel);
    while (rc == 0 && !channel_backed_up(&conn->channel)) {
        const uint8_t *bytes = NULL;
        ssize_t len = nghttp2_session_mem_send(impl->session, &bytes);
        if (len < 0)
            return PDB_UNAVAILABLE;
        if (len > 0) {
            if (!has_room(impl, (size_t)len) && (rc = send_gathered(conn)) < 0)
                return rc;
            if (!has_room(impl, (size_t)len))
                return PDB_UNAVAILABLE; /* a frame of ours that no header block of ours can need */
            gather_copy(impl, bytes, (size_t)len);
            continue;
        }
        bool more = impl->gather_full;
        rc = send_gathered(conn);
        if (!more)
            return rc;
    }
    return rc;
}

/* ---- receiving ---- */

static bool name_is(const uint8_t *name, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* grpc-message is percent-encoded. */
static void take_message(struct call *call, const uint8_t *value, size_t len)
{
    size_t out = 0;
    for (size_t i = 0; i < len && out + 1 < sizeof(call->message); i++) {
        if (value[i] == '%' && i + 2 < len && hex_digit(value[i + 1]) >= 0 &&
            hex_digit(value[i + 2]) >= 0) {
            call->message[out++] = (char)(hex_digit(value[i + 1]) << 4 | hex_digit(value[i + 2]));
            i += 2;
        } else {
            call->message[out++] = (char)value[i];
        }
    }
    call->message[out] = '\0';
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    (void)flags;
    struct conn *conn = user;
    struct call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL || frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    if (name_is(name, name_len, ":status"))
        call->http_status = (int)strtol((const char *)value, NULL, 10);
    if (conn->settings->protocol != PROTOCOL_GRPC)
        return 0;
    if (name_is(name, name_len, "grpc-status"))
        call->code = (int)strtol((const char *)value, NULL, 10);
    else if (name_is(name, name_len, "grpc-message"))
        take_message(call, value, value_len);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *bytes,
                   size_t len, void *user)
{
    (void)flags;
    (void)user;
    struct call *call = call_of(session, stream_id);
    if (call != NULL)
        buffer_add(&call->reply, bytes, len);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)user;
    if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        return 0;
    struct call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL)
        return 0;
    call->reply_ended = true;
    if (call->body_at < call->body.bytes)
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_NO_ERROR);
    return 0;
}

/* The outcome of a call whose answer is complete. */
static int code_of(const struct conn *conn, struct call *call)
{
    if (conn->settings->protocol == PROTOCOL_GRPC) {
        if (call->http_status != 200 && call->code == CODE_UNKNOWN)
            (void)snprintf(call->message, sizeof(call->message),
                           "HTTP status %d without a gRPC status", call->http_status);
        return call->code;
    }
    if (call->http_status >= 200 && call->http_status < 400)
        return CODE_OK;
    return decode_rest_error(call->http_status, (struct pdb_text){call->reply.ptr, call->reply.len},
                             &call->arena, call->message, sizeof(call->message));
}

static int on_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *user)
{
    struct conn *conn = user;
    struct call *call = call_of(session, stream_id);
    if (call == NULL)
        return 0;
    if (call->reply_ended) {
        call_end(call, code_of(conn, call));
        return 0;
    }
    call->lost = error == NGHTTP2_REFUSED_STREAM;
    (void)snprintf(call->message, sizeof(call->message), "the server reset the stream: %s",
                   nghttp2_http2_strerror(error));
    call_end(call, CODE_UNAVAILABLE);
    return 0;
}

static int h2_feed(struct conn *conn, const uint8_t *bytes, size_t size)
{
    ssize_t taken = nghttp2_session_mem_recv(conn->impl->session, bytes, size);
    if (taken < 0 || (size_t)taken != size)
        return PDB_UNAVAILABLE;
    /* GOAWAY and nothing left to do, or a protocol error of the server's. */
    return nghttp2_session_want_read(conn->impl->session) != 0 ||
                   nghttp2_session_want_write(conn->impl->session) != 0
               ? 0
               : PDB_UNAVAILABLE;
}

/* ---- life cycle ---- */

static int h2_make(struct conn *conn)
{
    struct conn_impl *impl = heap_calloc(NULL, 1, sizeof(*impl));
    if (impl == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    if (nghttp2_session_callbacks_new(&impl->callbacks) != 0) {
        heap_free(NULL, impl);
        return PDB_RESOURCE_EXHAUSTED;
    }
    nghttp2_session_callbacks *callbacks = impl->callbacks;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, on_frame_length);
    conn->impl = impl;
    return 0;
}

static int h2_start(struct conn *conn)
{
    struct conn_impl *impl = conn->impl;
    ASSERT(impl->session == NULL);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
    };
    if (nghttp2_session_client_new(&impl->session, impl->callbacks, conn) != 0)
        return PDB_RESOURCE_EXHAUSTED;
    if (nghttp2_submit_settings(impl->session, NGHTTP2_FLAG_NONE, settings,
                                sizeof(settings) / sizeof(settings[0])) != 0 ||
        nghttp2_session_set_local_window_size(impl->session, NGHTTP2_FLAG_NONE, 0,
                                              WINDOW_ALL_BYTES) != 0)
        return PDB_RESOURCE_EXHAUSTED;
    return 0;
}

static void h2_stop(struct conn *conn)
{
    struct conn_impl *impl = conn->impl;
    nghttp2_session_del(impl->session); /* closes streams silently */
    impl->session = NULL;
    impl->gather_count = 0;
    impl->gather_bytes = 0;
    impl->gather_full = false;
    impl->stash_len = 0;
}

static void h2_dispose(struct conn *conn)
{
    nghttp2_session_callbacks_del(conn->impl->callbacks);
    heap_free(NULL, conn->impl);
}

static nghttp2_nv pair(const char *name, const char *value)
{
    /* nghttp2 copies both; its type only lacks the const. */
    union {
        const char *in;
        uint8_t *out;
    } n = {name}, v = {value};
    return (nghttp2_nv){n.out, v.out, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static int h2_submit(struct conn *conn, struct call *call)
{
    nghttp2_nv headers[8];
    size_t count = 0;
    headers[count++] = pair(":method", call->route->method);
    headers[count++] = pair(":scheme", conn->settings->endpoint->tls != NULL ? "https" : "http");
    headers[count++] = pair(":path", call->route->path);
    headers[count++] = pair(":authority", conn->settings->endpoint->authority);
    headers[count++] = pair("user-agent", "proximadb-client/" PDB_VERSION);
    if (conn->settings->protocol == PROTOCOL_GRPC)
        headers[count++] = pair("te", "trailers");
    if (call->body.bytes != 0)
        headers[count++] = pair("content-type", call->route->content_type);
    const nghttp2_data_provider provider = {.source.ptr = call, .read_callback = on_body};
    int32_t stream_id = nghttp2_submit_request(conn->impl->session, NULL, headers, count,
                                               call->body.bytes != 0 ? &provider : NULL, call);
    if (stream_id < 0)
        return PDB_UNAVAILABLE;
    call->stream_id = stream_id;
    /* ids are used up after a thousand million requests: no more on this connection */
    if (stream_id >= STREAM_ID_LIMIT)
        conn->open = false;
    return 0;
}

static void h2_cancel(struct conn *conn, struct call *call)
{
    nghttp2_session *session = conn->impl->session;
    (void)nghttp2_session_set_stream_user_data(session, call->stream_id, NULL);
    (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
}

static void h2_at_end(struct conn *conn)
{
    (void)conn;
}

const struct conn_ops conn_h2_ops = {
    .make = h2_make,
    .start = h2_start,
    .stop = h2_stop,
    .dispose = h2_dispose,
    .submit = h2_submit,
    .feed = h2_feed,
    .flush = h2_flush,
    .cancel = h2_cancel,
    .at_end = h2_at_end,
};
