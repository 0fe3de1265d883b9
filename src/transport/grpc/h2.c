/* h2.c: one HTTP/2 session by nghttp2 over a socket of h2o's loop. RFC 9113.
 *
 * Reading: what the socket has is given to nghttp2 whole; its callbacks fill streams (h2_stream.c).
 * Writing: at the end of a turn, frames of all streams are collected into one buffer of about 64
 * KiB and written with one call; the write's callback collects again. A second h2o_socket_write
 * before that callback is not allowed by h2o.
 *
 * Back-pressure: nghttp2 would open windows by itself; that is switched off. Bytes of a request are
 * acknowledged when they are kept within the body limit and the core's budget of unfinished bodies
 * allows it, so a core that is behind stops its senders instead of growing.
 *
 * Abuse: nghttp2 limits resets by the peer, CONTINUATION frames, SETTINGS entries and queued
 * acknowledgements; it counts neither invalid frames nor resets that the peer provokes from us
 * (MadeYouReset, CVE-2025-8671), so those are counted here. A stream counts until its call has
 * ended, not only until it was reset: else a reset would free the slot but not the work
 * (CVE-2023-44487). */
#include "transport/grpc/h2_internal.h"

#include "base/no_libc_heap.h"

enum {
    RESET_BURST = 1000,
    RESETS_PER_S = 33,
    CONTINUATIONS_MAX = 8,
    SETTINGS_MAX = 32,
    ACKS_MAX = 1000
};

static void close_session(struct h2_session *s)
{
    struct connection *c = s->connection;
    h2o_socket_t *sock = c->sock;
    list_each_safe(link, following, &s->streams)
        h2_stream_detach(container_of(link, struct h2_stream, link));
    nghttp2_session_del(s->ng);
    list_remove(&s->flush.link);
    heap_free(&s->core->reactor->heap, s->out.bytes);
    heap_free(&s->core->reactor->heap, s);
    c->h2 = NULL;
    h2o_socket_close(sock);
}

void h2_mark_dirty(struct h2_session *s)
{
    turn_hook_queue(s->core->reactor, &s->flush);
}

void h2_abuse(struct h2_session *s)
{
    uint64_t now = s->core->reactor->now_ns;
    s->abuse_tokens += (double)(now - s->abuse_seen_ns) * 1e-9 * H2_ABUSE_PER_S;
    if (s->abuse_tokens > H2_ABUSE_BURST)
        s->abuse_tokens = H2_ABUSE_BURST;
    s->abuse_seen_ns = now;
    s->abuse_tokens -= 1;
    if (s->abuse_tokens >= 0)
        return;
    metrics_add(s->core->metrics, METRICS_H2_ABUSE_AT + METRICS_ABUSE_WINDOW, 1);
    (void)nghttp2_session_terminate_session(s->ng, NGHTTP2_ENHANCE_YOUR_CALM);
    h2_mark_dirty(s);
}

/* ---- writing ---- */

uint8_t *h2_reserve_out(struct h2_session *s, size_t size)
{
    if (s->out.capacity - s->out.len < size) {
        size_t least = H2_OUT_SOFT + (32 << 10);
        size_t capacity = s->out.len + size < least ? least : s->out.len + size;
        uint8_t *grown = heap_realloc(&s->core->reactor->heap, s->out.bytes, capacity);
        if (grown == NULL) {
            s->failed = true;
            return NULL;
        }
        s->out.bytes = grown;
        s->out.capacity = capacity;
    }
    uint8_t *at = s->out.bytes + s->out.len;
    s->out.len += size;
    return at;
}

static void on_written(h2o_socket_t *sock, const char *err);

static void flush_session(struct h2_session *s)
{
    h2o_socket_t *sock = s->connection->sock;
    if (h2o_socket_is_writing(sock))
        return; /* on_written goes on */
    s->out.len = 0;
    while (s->out.len < H2_OUT_SOFT && !s->failed) {
        const uint8_t *frame;
        ssize_t n = nghttp2_session_mem_send(s->ng, &frame);
        if (n < 0)
            s->failed = true;
        if (n <= 0)
            break;
        uint8_t *at = h2_reserve_out(s, (size_t)n);
        if (at != NULL)
            memcpy(at, frame, (size_t)n);
    }
    if (s->failed) {
        close_session(s);
    } else if (s->out.len != 0) {
        h2o_iovec_t vec = {(char *)s->out.bytes, s->out.len};
        h2o_socket_write(sock, &vec, 1, on_written);
    } else if (!nghttp2_session_want_read(s->ng) && !nghttp2_session_want_write(s->ng)) {
        close_session(s);
    } else if (s->out.bytes != NULL) {
        heap_free(&s->core->reactor->heap, s->out.bytes); /* an idle connection keeps no buffer */
        s->out.bytes = NULL;
        s->out.capacity = 0;
    }
}

static void on_written(h2o_socket_t *sock, const char *err)
{
    struct h2_session *s = connection_of(sock)->h2;
    if (err != NULL)
        close_session(s);
    else
        flush_session(s);
}

static void on_turn_end(struct turn_hook *hook)
{
    flush_session(container_of(hook, struct h2_session, flush));
}

/* ---- nghttp2's callbacks ---- */

static int on_begin_headers(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    struct h2_session *s = user;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    if (s->stream_count >= s->core->limits->streams_per_connection) {
        /* Calls of streams that were reset still run: the peer has used up its share. */
        return nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                         NGHTTP2_REFUSED_STREAM);
    }
    return h2_stream_begin(s, frame->hd.stream_id);
}

static int on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    (void)flags;
    (void)user;
    struct h2_stream *st = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    if (st == NULL || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0; /* trailers of a request say nothing that we read */
    return h2_stream_header(st, (struct pdb_text){(const char *)name, name_len},
                            (struct pdb_text){(const char *)value, value_len});
}

static int on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len,
                   void *user)
{
    (void)flags;
    (void)user;
    struct h2_stream *st = nghttp2_session_get_stream_user_data(ng, id);
    if (st != NULL)
        h2_stream_data(st, bytes, len);
    else
        (void)nghttp2_session_consume(ng, id, len);
    return 0;
}

static int on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    (void)user;
    bool headers = frame->hd.type == NGHTTP2_HEADERS;
    if (!headers && frame->hd.type != NGHTTP2_DATA)
        return 0;
    struct h2_stream *st = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    if (st == NULL)
        return 0;
    if (headers && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        h2_stream_headers_done(st);
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
        h2_stream_end(st);
    return 0;
}

static int on_stream_close(nghttp2_session *ng, int32_t id, uint32_t h2_error, void *user)
{
    (void)h2_error;
    (void)user;
    struct h2_stream *st = nghttp2_session_get_stream_user_data(ng, id);
    if (st != NULL)
        h2_stream_closed(st);
    return 0;
}

static int on_invalid_frame(nghttp2_session *ng, const nghttp2_frame *frame, int error, void *user)
{
    (void)ng;
    (void)frame;
    (void)error;
    h2_abuse(user);
    return 0;
}

/* Resets that we send although the peer asked for nothing of the kind: it made us. */
static int on_frame_sent(nghttp2_session *ng, const nghttp2_frame *frame, void *user)
{
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
        (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)) {
        /* RFC 9113, section 8.1: a whole answer before the whole request ends the stream without
         * blame. */
        struct h2_stream *st = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
        if (st != NULL && !st->half_closed)
            return nghttp2_submit_rst_stream(ng, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                             NGHTTP2_NO_ERROR);
    }
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR &&
        frame->rst_stream.error_code != NGHTTP2_CANCEL)
        h2_abuse(user);
    else if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code == NGHTTP2_INTERNAL_ERROR)
        /* what nghttp2 says when the peer resets too much; nothing of ours says it */
        metrics_add(((struct h2_session *)user)->core->metrics,
                    METRICS_H2_ABUSE_AT + METRICS_ABUSE_RESET, 1);
    return 0;
}

/* ---- the connection ---- */

/* Of what nghttp2 ends a connection for. */
static unsigned abuse_of(ssize_t error)
{
    enum { TOO_MANY_CONTINUATIONS = -905 }; /* in 1.61, and in older ones that were repaired */
    if (error == NGHTTP2_ERR_FLOODED)
        return METRICS_ABUSE_CONTROL;
    return error == TOO_MANY_CONTINUATIONS ? METRICS_ABUSE_CONTINUATION : METRICS_ABUSE_OTHER;
}

static void on_read(h2o_socket_t *sock, const char *err)
{
    struct h2_session *s = connection_of(sock)->h2;
    if (err != NULL) {
        close_session(s);
        return;
    }
    reactor_mark_active(s->core->reactor);
    ssize_t n =
        nghttp2_session_mem_recv(s->ng, (const uint8_t *)sock->input->bytes, sock->input->size);
    if (n < 0) {
        metrics_add(s->core->metrics, METRICS_H2_ABUSE_AT + abuse_of(n), 1);
        (void)nghttp2_session_terminate_session(
            s->ng, n == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR);
        h2o_socket_read_stop(sock);
    } else {
        h2o_buffer_consume(&sock->input, (size_t)n);
    }
    h2_mark_dirty(s);
}

static int new_callbacks(nghttp2_session_callbacks **callbacks_out, nghttp2_option **option_out)
{
    if (nghttp2_session_callbacks_new(callbacks_out) != 0)
        return -1;
    if (nghttp2_option_new(option_out) != 0) {
        nghttp2_session_callbacks_del(*callbacks_out);
        return -1;
    }
    nghttp2_session_callbacks *cb = *callbacks_out;
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, on_invalid_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
    nghttp2_session_callbacks_set_send_data_callback(cb, h2_send_data);
    nghttp2_option_set_no_auto_window_update(*option_out, 1);
    nghttp2_option_set_stream_reset_rate_limit(*option_out, RESET_BURST, RESETS_PER_S);
    nghttp2_option_set_max_continuations(*option_out, CONTINUATIONS_MAX);
    nghttp2_option_set_max_settings(*option_out, SETTINGS_MAX);
    nghttp2_option_set_max_outbound_ack(*option_out, ACKS_MAX);
    return 0;
}

static int new_session(struct h2_session *s)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    if (new_callbacks(&callbacks, &option) != 0)
        return -1;
    int rc = nghttp2_session_server_new2(&s->ng, callbacks, s, option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    if (rc != 0)
        return -1;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, s->core->limits->streams_per_connection},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, s->core->limits->header_bytes},
    };
    if (nghttp2_submit_settings(s->ng, NGHTTP2_FLAG_NONE, settings, 3) != 0 ||
        nghttp2_session_set_local_window_size(s->ng, NGHTTP2_FLAG_NONE, 0, H2_CONNECTION_WINDOW) !=
            0) {
        nghttp2_session_del(s->ng);
        return -1;
    }
    return 0;
}

void h2_accept(struct connection *c)
{
    struct heap *heap = &c->core->reactor->heap;
    struct h2_session *s = heap_calloc(heap, 1, sizeof(*s));
    if (s != NULL) {
        s->connection = c;
        s->core = c->core;
        s->abuse_tokens = H2_ABUSE_BURST;
        s->abuse_seen_ns = c->core->reactor->now_ns;
        s->flush.run = on_turn_end;
        list_init(&s->streams);
    }
    if (s == NULL || new_session(s) != 0) {
        heap_free(heap, s);
        h2o_socket_close(c->sock);
        return;
    }
    c->h2 = s;
    h2_mark_dirty(s);
    h2o_socket_read_start(c->sock, on_read);
    if (c->sock->input->size != 0)
        on_read(c->sock, NULL); /* after TLS the preface may be here already */
    if (c->core->draining)
        h2_shutdown(c);
}

void h2_shutdown(struct connection *c)
{
    struct h2_session *s = c->h2;
    (void)nghttp2_submit_goaway(s->ng, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(s->ng), NGHTTP2_NO_ERROR,
                                NULL, 0);
    h2_mark_dirty(s);
}
