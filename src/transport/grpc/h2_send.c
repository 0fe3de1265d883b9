/* h2_send.c: answers on a stream of HTTP/2: a REST answer, or gRPC messages and the status in the
 * trailers.
 *
 * What is to be sent is a chain of pieces whose bytes stay where they are (in the exchange's
 * arena); nghttp2 is told with NO_COPY, and each byte is copied once, into the session's write
 * buffer. A gRPC error before any message is one HEADERS frame ("Trailers-Only"). When a stream has
 * nothing to send but is not finished, nghttp2 defers it until the next message. */
#include "base/assert.h"
#include "transport/grpc/h2_internal.h"

#include "base/no_libc_heap.h"

static nghttp2_nv header(struct pdb_text name, struct pdb_text value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.ptr,
                        .value = (uint8_t *)(uintptr_t)value.ptr,
                        .namelen = name.len,
                        .valuelen = value.len,
                        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

/* Its value is new every time: in the peer's table it would only push out what repeats (RFC 7541,
 * section 7.1.3). */
static nghttp2_nv call_id_header(const struct exchange *x)
{
    nghttp2_nv nv = header(TEXT_LIT("x-request-id"), text_of(x->call_id));
    nv.flags |= NGHTTP2_NV_FLAG_NO_INDEX;
    return nv;
}

static struct pdb_text small_number(char text[12], int value)
{
    int n = snprintf(text, 12, "%d", value);
    return (struct pdb_text){text, (size_t)n};
}

static struct h2_stream *stream_of(struct exchange *x)
{
    return container_of(x, struct h2_stream, x);
}

/* ---- reading for nghttp2 ---- */

static size_t piece_left(const struct h2_stream *st)
{
    return st->out_first->prefix_len + st->out_first->len - st->out_offset;
}

static size_t bytes_waiting(const struct h2_stream *st, size_t enough)
{
    if (st->out_first == NULL)
        return 0;
    size_t sum = piece_left(st);
    for (const struct h2_piece *p = st->out_first->next; p != NULL && sum < enough; p = p->next)
        sum += p->prefix_len + p->len;
    return sum;
}

/* "Percent-Encoded" of gRPC over HTTP/2: everything but printable ASCII, and '%'. */
static struct pdb_text percent_encode(struct arena *arena, struct pdb_text text)
{
    static const char digits[] = "0123456789ABCDEF";
    char *out = arena_alloc(arena, text.len * 3 + 1);
    size_t len = 0;
    for (size_t i = 0; out != NULL && i < text.len; i++) {
        unsigned char ch = (unsigned char)text.ptr[i];
        if (ch >= ' ' && ch <= '~' && ch != '%') {
            out[len++] = (char)ch;
        } else {
            out[len++] = '%';
            out[len++] = digits[ch >> 4];
            out[len++] = digits[ch & 15];
        }
    }
    return (struct pdb_text){out, len};
}

static size_t status_headers(struct h2_stream *st, char number[12], nghttp2_nv *nv)
{
    size_t count = 0;
    nv[count++] = header(TEXT_LIT("grpc-status"), small_number(number, st->grpc_status));
    if (st->grpc_message.len != 0)
        nv[count++] = header(TEXT_LIT("grpc-message"), st->grpc_message);
    return count;
}

static ssize_t read_answer(nghttp2_session *ng, int32_t id, uint8_t *buf, size_t len,
                           uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_stream *st = source->ptr;
    (void)buf;
    (void)user;
    size_t waiting = bytes_waiting(st, len + 1);
    if (waiting == 0 && !st->finished) {
        st->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (waiting > len)
        return (ssize_t)len;
    if (st->finished) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (st->is_grpc) {
            char number[12];
            nghttp2_nv nv[2];
            size_t count = status_headers(st, number, nv);
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (nghttp2_submit_trailer(ng, id, nv, count) != 0)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    return (ssize_t)waiting;
}

/* Copies the next `len` bytes of the stream's pieces. */
static void take_bytes(struct h2_stream *st, uint8_t *to, size_t len)
{
    while (len != 0) {
        struct h2_piece *p = st->out_first;
        size_t n;
        if (st->out_offset < p->prefix_len) {
            n = p->prefix_len - st->out_offset < len ? p->prefix_len - st->out_offset : len;
            memcpy(to, p->prefix + st->out_offset, n);
        } else {
            size_t at = st->out_offset - p->prefix_len;
            n = p->len - at < len ? p->len - at : len;
            memcpy(to, p->bytes + at, n);
        }
        to += n;
        len -= n;
        st->out_offset += n;
        if (st->out_offset == p->prefix_len + p->len) {
            st->out_first = p->next;
            st->out_offset = 0;
            if (st->out_first == NULL)
                st->out_last = &st->out_first;
            p->next = st->out_free; /* a long answer has many */
            st->out_free = p;
        }
    }
}

int h2_send_data(nghttp2_session *ng, nghttp2_frame *frame, const uint8_t *frame_head, size_t len,
                 nghttp2_data_source *source, void *user)
{
    (void)ng;
    (void)frame; /* no padding: no select_padding callback is set */
    enum { FRAME_HEAD = 9 };
    uint8_t *at = h2_reserve_out(user, FRAME_HEAD + len);
    if (at == NULL)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    memcpy(at, frame_head, FRAME_HEAD);
    struct h2_stream *st = source->ptr;
    take_bytes(st, at + FRAME_HEAD, len);
    if (st->out_first == NULL && !st->answered && st->x.on_sent != NULL)
        st->x.on_sent(&st->x);
    /* Left alone, nghttp2 goes on for as long as the peer's window lets it. */
    const struct h2_session *s = user;
    return s->out.len < H2_OUT_SOFT ? 0 : NGHTTP2_ERR_PAUSE;
}

/* ---- the handlers' side ---- */

static void give_up(struct h2_stream *st)
{
    st->finished = true;
    (void)nghttp2_submit_rst_stream(st->session->ng, NGHTTP2_FLAG_NONE, st->id,
                                    NGHTTP2_INTERNAL_ERROR);
}

static bool add_piece(struct h2_stream *st, struct pdb_text bytes, bool grpc_prefix)
{
    struct h2_piece *p = st->out_free;
    if (p != NULL)
        st->out_free = p->next;
    else if ((p = arena_new(&st->x.arena, struct h2_piece)) == NULL)
        return false;
    *p = (struct h2_piece){0};
    p->bytes = bytes.ptr;
    p->len = bytes.len;
    if (grpc_prefix) {
        const uint8_t prefix[GRPC_PREFIX] = {0, (uint8_t)(bytes.len >> 24),
                                             (uint8_t)(bytes.len >> 16), (uint8_t)(bytes.len >> 8),
                                             (uint8_t)bytes.len};
        memcpy(p->prefix, prefix, sizeof(prefix));
        p->prefix_len = GRPC_PREFIX;
    }
    *st->out_last = p;
    st->out_last = &p->next;
    return true;
}

/* Ends the handler's part. True if the stream still exists and the answer has to be sent. */
static bool answer(struct h2_stream *st)
{
    ASSERT(!st->answered);
    st->answered = true;
    st->x.on_gone = NULL;
    if (st->closed || st->session == NULL) {
        h2_stream_free(st);
        return false;
    }
    h2_mark_dirty(st->session);
    return true;
}

/* False: it could not be begun, and the stream was given up. */
static bool begin_answer(struct h2_stream *st, const struct exchange_response *r,
                         uint64_t body_bytes)
{
    char status[12], length[24];
    nghttp2_nv nv[4 + EXCHANGE_HEADER_MAX];
    size_t count = 0;
    nv[count++] = header(TEXT_LIT(":status"), small_number(status, r->status));
    if (r->content_type.len != 0)
        nv[count++] = header(TEXT_LIT("content-type"), r->content_type);
    int n = snprintf(length, sizeof(length), "%llu", (unsigned long long)body_bytes);
    nv[count] = header(TEXT_LIT("content-length"), (struct pdb_text){length, (size_t)n});
    nv[count++].flags |= NGHTTP2_NV_FLAG_NO_INDEX;
    nv[count++] = call_id_header(&st->x);
    for (size_t i = 0; i < r->header_count; i++)
        nv[count++] = header(r->headers[i].name, r->headers[i].value);
    nghttp2_data_provider body = {.source.ptr = st, .read_callback = read_answer};
    if (nghttp2_submit_response(st->session->ng, st->id, nv, count,
                                body_bytes != 0 ? &body : NULL) == 0)
        return true;
    give_up(st);
    return false;
}

static void respond(struct exchange *x, const struct exchange_response *r)
{
    struct h2_stream *st = stream_of(x);
    exchange_count_http(x, r->status);
    if (!answer(st))
        return;
    st->finished = true;
    if (r->body.len != 0 && !add_piece(st, r->body, false))
        give_up(st);
    else
        (void)begin_answer(st, r, r->body.len);
}

static void resume(struct h2_stream *st)
{
    if (!st->deferred)
        return;
    st->deferred = false;
    (void)nghttp2_session_resume_data(st->session->ng, st->id);
}

static bool can_send(const struct h2_stream *st)
{
    return !st->closed && st->session != NULL && !st->finished;
}

static void respond_begin(struct exchange *x, const struct exchange_response *r,
                          uint64_t body_bytes)
{
    struct h2_stream *st = stream_of(x);
    x->sending_pieces = true;
    st->status = r->status;
    if (!can_send(st) || !begin_answer(st, r, body_bytes))
        return;
    h2_mark_dirty(st->session);
}

static void respond_piece(struct exchange *x, struct pdb_text piece)
{
    struct h2_stream *st = stream_of(x);
    if (!can_send(st))
        return; /* on_gone was told, or will be */
    if (!add_piece(st, piece, false)) {
        give_up(st);
        return;
    }
    resume(st);
    h2_mark_dirty(st->session);
}

static void respond_end(struct exchange *x, bool whole)
{
    struct h2_stream *st = stream_of(x);
    exchange_count_http(x, st->status);
    if (!answer(st) || st->finished)
        return; /* the client left, or it was given up before */
    if (!whole) {
        give_up(st);
        return;
    }
    st->finished = true;
    resume(st);
}

static void send_grpc_headers(struct h2_stream *st)
{
    const nghttp2_nv nv[] = {
        header(TEXT_LIT(":status"), TEXT_LIT("200")),
        header(TEXT_LIT("content-type"), TEXT_LIT("application/grpc+proto")),
        call_id_header(&st->x),
    };
    nghttp2_data_provider body = {.source.ptr = st, .read_callback = read_answer};
    st->headers_sent = true;
    if (nghttp2_submit_response(st->session->ng, st->id, nv, 3, &body) != 0)
        give_up(st);
}

static void grpc_send(struct exchange *x, struct pdb_text message)
{
    struct h2_stream *st = stream_of(x);
    if (!can_send(st))
        return;
    if (!add_piece(st, message, true)) {
        give_up(st);
        return;
    }
    if (!st->headers_sent)
        send_grpc_headers(st);
    resume(st);
    h2_mark_dirty(st->session);
}

static void trailers_only(struct h2_stream *st)
{
    char number[12];
    nghttp2_nv nv[5];
    size_t count = 0;
    nv[count++] = header(TEXT_LIT(":status"), TEXT_LIT("200"));
    nv[count++] = header(TEXT_LIT("content-type"), TEXT_LIT("application/grpc+proto"));
    nv[count++] = call_id_header(&st->x);
    count += status_headers(st, number, nv + count);
    if (nghttp2_submit_response(st->session->ng, st->id, nv, count, NULL) != 0)
        give_up(st);
}

static void grpc_finish(struct exchange *x, int grpc_status, struct pdb_text message)
{
    struct h2_stream *st = stream_of(x);
    exchange_count_grpc(x, grpc_status);
    if (!answer(st))
        return;
    if (st->finished)
        return; /* given up before */
    st->finished = true;
    st->grpc_status = grpc_status;
    st->grpc_message = percent_encode(&x->arena, message);
    if (!st->headers_sent)
        trailers_only(st);
    else
        resume(st);
}

const struct exchange_ops h2_ops = {
    .respond = respond,
    .respond_begin = respond_begin,
    .respond_piece = respond_piece,
    .respond_end = respond_end,
    .body_more = h2_stream_body_more,
    .grpc_send = grpc_send,
    .grpc_finish = grpc_finish,
    .grpc_consumed = h2_stream_consumed,
};
