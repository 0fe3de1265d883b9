/* h2_stream.c: what one stream of HTTP/2 receives, until it is an exchange with a handler.
 *
 * REST: the body is gathered whole. gRPC: messages are cut out of the DATA by their 5-byte prefix
 * (gRPC over HTTP/2, "Length-Prefixed-Message"); a unary method gets its message when the peer has
 * ended its side, a client stream gets each as it completes, and the next one only after it has
 * used up the last: what arrives meanwhile waits unparsed and keeps its flow-control window, so
 * that a fast sender is stopped by HTTP/2 itself.
 *
 * A REST body in pieces (archives) goes to its handler as it comes: what arrived since the last
 * piece is the next one, and its window is given back when it was used up.
 *
 * A declared length is never believed: a buffer starts at 4 MiB at most and grows as bytes come. A
 * length over the limit is refused from the prefix alone. */
#include "base/clock.h"
#include "transport/grpc/h2_internal.h"

#include "base/no_libc_heap.h"

static struct heap *heap_of(const struct h2_stream *st)
{
    return &st->x.core->reactor->heap;
}

/* ---- begin and end ---- */

enum { POOL_MAX = 512, BODY_KEEP_MAX = 8 << 10 };

/* A stream that was used before keeps a chunk of its arena and a small buffer for the body: most
 * requests then allocate nothing here. */
static struct h2_stream *take(struct transport_core *core)
{
    struct list_link *link = list_pop_front(&core->priv->free_streams);
    if (link == NULL) {
        struct h2_stream *st = heap_calloc(&core->reactor->heap, 1, sizeof(*st));
        if (st != NULL)
            arena_init(&st->x.arena, 0);
        return st;
    }
    struct h2_stream *st = container_of(link, struct h2_stream, link);
    core->priv->free_stream_count--;
    *st = (struct h2_stream){.x.arena = st->x.arena, .in = st->in, .in_capacity = st->in_capacity};
    core->priv->h2_body_bytes += st->in_capacity;
    return st;
}

/* st->in is counted no more. */
static void give_back(struct transport_core *core, struct h2_stream *st)
{
    if (core->priv->free_stream_count < POOL_MAX) {
        arena_reset(&st->x.arena);
        list_push_front(&core->priv->free_streams, &st->link);
        core->priv->free_stream_count++;
    } else {
        arena_dispose(&st->x.arena);
        heap_free(&core->reactor->heap, st->in);
        heap_free(&core->reactor->heap, st);
    }
}

void h2_dispose_pool(struct transport_core *core)
{
    struct list_link *link;
    while ((link = list_pop_front(&core->priv->free_streams)) != NULL) {
        struct h2_stream *st = container_of(link, struct h2_stream, link);
        arena_dispose(&st->x.arena);
        heap_free(&core->reactor->heap, st->in);
        heap_free(&core->reactor->heap, st);
    }
    core->priv->free_stream_count = 0;
}

int h2_stream_begin(struct h2_session *s, int32_t id)
{
    struct h2_stream *st = take(s->core);
    if (st == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    st->session = s;
    st->id = id;
    st->x.core = s->core;
    st->x.ops = &h2_ops;
    st->x.http2 = true;
    st->x.peer = (struct pdb_text){s->connection->peer, s->connection->peer_len};
    st->out_last = &st->out_first;
    list_push_back(&s->streams, &st->link);
    s->stream_count++;
    s->connection->exchanges++;
    s->core->exchanges++;
    (void)nghttp2_session_set_stream_user_data(s->ng, id, st);
    return 0;
}

static void drop_input(struct h2_stream *st)
{
    st->x.core->priv->h2_body_bytes -= st->in_capacity + st->pending_capacity;
    heap_free(heap_of(st), st->in);
    heap_free(heap_of(st), st->pending);
    st->in = st->pending = NULL;
    st->in_len = st->in_capacity = st->pending_len = st->pending_capacity = 0;
}

/* But for a small st->in, which the next request of the stream's place uses. */
static void let_input_go(struct h2_stream *st)
{
    char *in = st->in;
    const size_t capacity = st->in_capacity;
    if (capacity > BODY_KEEP_MAX) {
        drop_input(st);
        return;
    }
    st->in = NULL;
    drop_input(st);
    st->in = in;
    st->in_capacity = capacity;
}

void h2_stream_free(struct h2_stream *st)
{
    struct transport_core *core = st->x.core;
    if (st->session != NULL) {
        list_remove(&st->link);
        st->session->stream_count--;
        st->session->connection->exchanges--;
        h2_mark_dirty(st->session); /* a session that is going away may be done now */
    }
    let_input_go(st);
    give_back(core, st);
    core->exchanges--;
    if (core->priv->windows_held)
        h2_release_windows(core);
}

void h2_stream_closed(struct h2_stream *st)
{
    if (st->closed)
        return;
    st->closed = true;
    if (st->session != NULL)
        (void)nghttp2_session_set_stream_user_data(st->session->ng, st->id, NULL);
    if (!st->dispatched || st->answered) {
        h2_stream_free(st);
        return;
    }
    st->x.gone = true;
    if (st->x.on_gone != NULL)
        st->x.on_gone(&st->x);
}

void h2_stream_detach(struct h2_stream *st)
{
    struct h2_session *s = st->session;
    list_remove(&st->link);
    s->stream_count--;
    s->connection->exchanges--;
    st->session = NULL;
    h2_stream_closed(st);
}

/* ---- headers ---- */

static bool is_grpc_type(struct pdb_text type)
{
    struct pdb_text grpc = TEXT_LIT("application/grpc");
    return text_starts_with(type, grpc) &&
           (type.len == grpc.len || type.ptr[grpc.len] == '+' || type.ptr[grpc.len] == ';');
}

static struct pdb_text *header_place(struct h2_stream *st, struct pdb_text name)
{
    struct exchange *x = &st->x;
    const struct {
        struct pdb_text name;
        struct pdb_text *place;
    } known[] = {
        {TEXT_LIT(":method"), &x->method},
        {TEXT_LIT(":path"), &x->path},
        {TEXT_LIT(":authority"), &x->authority},
        {TEXT_LIT("host"), &x->authority},
        {TEXT_LIT("content-type"), &x->content_type},
        {TEXT_LIT("content-encoding"), &x->content_encoding},
        {TEXT_LIT("grpc-timeout"), &x->timeout},
        {TEXT_LIT("x-request-timeout"), &x->timeout},
        {TEXT_LIT("x-request-id"), &st->offered_id},
        {TEXT_LIT("origin"), &x->origin},
        {TEXT_LIT("access-control-request-method"), &x->access_request_method},
        {TEXT_LIT("access-control-request-headers"), &x->access_request_headers},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (text_equal(name, known[i].name))
            return known[i].place;
    return NULL;
}

int h2_stream_header(struct h2_stream *st, struct pdb_text name, struct pdb_text value)
{
    st->header_count++;
    st->header_bytes += name.len + value.len + 32; /* as RFC 9113, section 10.5.1, counts */
    if (st->header_bytes > st->x.core->limits->header_bytes)
        return 0; /* refused when the block is complete */
    if (text_equal(name, TEXT_LIT("content-length"))) {
        for (size_t i = 0; i < value.len && st->content_length < UINT64_MAX / 16; i++)
            st->content_length = st->content_length * 10 + (uint64_t)(value.ptr[i] - '0');
    } else if (text_equal(name, TEXT_LIT("grpc-encoding"))) {
        st->compressed = !text_equal(value, TEXT_LIT("identity"));
    }
    struct pdb_text *place = header_place(st, name);
    if (place == NULL)
        return 0;
    *place = arena_copy_text(&st->x.arena, value.ptr, value.len);
    return place->ptr != NULL ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* Nobody wants to know what else the peer sends. */
static bool input_over(const struct h2_stream *st)
{
    return st->answered || st->broken;
}

__attribute__((format(printf, 4, 5))) static void refuse(struct h2_stream *st, int code,
                                                         int http_status, const char *format, ...)
{
    if (input_over(st))
        return;
    struct pdb_error error = {.code = code, .http_status = http_status};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error.text, sizeof(error.text), format, args);
    va_end(args);
    if (st->is_grpc && st->x.handler != NULL && st->x.grpc->broken != NULL) {
        st->broken = true; /* the input stays: a call under way may point into it */
        st->x.grpc->broken(&st->x, &error);
        return;
    }
    if (st->x.pieces != NULL) {
        st->broken = true;
        st->x.pieces->broken(&st->x, &error);
        return;
    }
    drop_input(st);
    st->dispatched = true;
    if (st->is_grpc)
        grpc_finish_error(&st->x, &error);
    else
        rest_respond_error(&st->x, &error);
}

static void check_grpc(struct h2_stream *st)
{
    struct exchange *x = &st->x;
    x->grpc = grpc_method_find(x->path);
    if (x->grpc == NULL)
        refuse(st, PDB_UNIMPLEMENTED, 0, "unknown method '%.*s'", TEXT_ARG(x->path));
    else if (st->compressed)
        refuse(st, PDB_UNIMPLEMENTED, 0,
               "compressed messages are not accepted: use grpc-encoding identity");
    else
        x->operation = x->grpc->operation;
}

/* The first piece waits until the handler asks for it. */
static void begin_pieces(struct h2_stream *st)
{
    st->in_pieces = st->delivering = st->dispatched = true;
    st->x.body_in_pieces = true;
    rest_dispatch(&st->x);
}

void h2_stream_headers_done(struct h2_stream *st)
{
    struct exchange *x = &st->x;
    const struct api_limits *limits = x->core->limits;
    struct trail trail = {0};
    st->is_grpc = is_grpc_type(x->content_type);
    const char *question = x->path.len != 0 ? memchr(x->path.ptr, '?', x->path.len) : NULL;
    if (question != NULL) {
        x->query =
            (struct pdb_text){question + 1, x->path.len - (size_t)(question - x->path.ptr) - 1};
        x->path.len = (size_t)(question - x->path.ptr);
    }
    bool pieces = !st->is_grpc && rest_takes_pieces(x->method, x->path);
    uint64_t body_max = pieces ? limits->archive_bytes : limits->body_bytes;
    int rc = exchange_begin(x, st->offered_id, &trail);
    if (st->header_bytes > limits->header_bytes || st->header_count > limits->headers)
        refuse(st, PDB_RESOURCE_EXHAUSTED, 431,
               "the header block is larger than limits.header_bytes or limits.headers");
    else if (rc < 0)
        refuse(st, rc, 0, "%s", trail.text);
    else if (x->path.len + x->query.len > limits->url_bytes)
        refuse(st, PDB_INVALID_ARGUMENT, 414, "the URL is longer than limits.url_bytes");
    else if (!exchange_host_allowed(x, st->session->connection->loopback_only))
        refuse(st, PDB_PERMISSION_DENIED, 403,
               ":authority must name this machine's loopback while nobody has to sign in");
    else if (st->content_length > body_max)
        refuse(st, PDB_RESOURCE_EXHAUSTED, 413, "the body of %llu bytes is larger than limits.%s",
               (unsigned long long)st->content_length, pieces ? "archive_bytes" : "body_bytes");
    else if (st->is_grpc)
        check_grpc(st);
    else if (pieces)
        begin_pieces(st);
}

/* ---- bodies ---- */

/* Appends to a growing buffer of which at most `bytes_max` will be needed. */
static bool grow(struct h2_stream *st, char **buf, size_t *capacity, size_t need, size_t first)
{
    if (need <= *capacity)
        return true;
    size_t wanted = *capacity == 0 ? first : *capacity * 2;
    if (wanted < need)
        wanted = need;
    char *grown = heap_realloc(heap_of(st), *buf, wanted);
    if (grown == NULL)
        return false;
    st->x.core->priv->h2_body_bytes += wanted - *capacity;
    *buf = grown;
    *capacity = wanted;
    return true;
}

static void consume(struct h2_stream *st, size_t len)
{
    if (st->session == NULL || len == 0)
        return;
    const struct transport_core *core = st->x.core;
    if (!st->answered && core->priv->h2_body_bytes > core->limits->inflight_body_bytes_per_core) {
        st->owed += len;
        core->priv->windows_held = true;
        return;
    }
    if (st->closed)
        (void)nghttp2_session_consume_connection(st->session->ng, len);
    else
        (void)nghttp2_session_consume(st->session->ng, st->id, len);
    h2_mark_dirty(st->session);
}

void h2_release_windows(struct transport_core *core)
{
    struct transport_core_private *p = core->priv;
    if (p->h2_body_bytes > core->limits->inflight_body_bytes_per_core)
        return;
    p->windows_held = false;
    list_each (link, &p->connections) {
        struct connection *c = container_of(link, struct connection, link);
        if (c->h2 == NULL)
            continue;
        list_each (stream_link, &c->h2->streams) {
            struct h2_stream *st = container_of(stream_link, struct h2_stream, link);
            size_t owed = st->owed;
            st->owed = 0;
            consume(st, owed);
        }
    }
}

static void rest_data(struct h2_stream *st, const uint8_t *bytes, size_t len)
{
    size_t limit = st->x.core->limits->body_bytes;
    size_t first = st->content_length != 0 && st->content_length < H2_MESSAGE_FIRST_MAX
                       ? (size_t)st->content_length
                       : H2_BODY_FIRST;
    if (len > limit - st->in_len)
        refuse(st, PDB_RESOURCE_EXHAUSTED, 413, "the body is larger than limits.body_bytes (%zu)",
               limit);
    else if (!grow(st, &st->in, &st->in_capacity, st->in_len + len, first))
        refuse(st, PDB_RESOURCE_EXHAUSTED, 0, "no memory for the body");
    else {
        memcpy(st->in + st->in_len, bytes, len);
        st->in_len += len;
    }
    consume(st, len);
}

/* ---- bodies in pieces ---- */

/* Everything that has come is the next piece: the two buffers change places. */
static void give_piece(struct h2_stream *st)
{
    if (st->delivering || input_over(st) || st->closed)
        return;
    if (st->pending_len == 0) {
        if (st->half_closed && !st->body_told) {
            st->body_told = true;
            st->x.pieces->end(&st->x);
        }
        return;
    }
    char *bytes = st->pending;
    size_t capacity = st->pending_capacity;
    st->pending = st->in;
    st->pending_capacity = st->in_capacity;
    st->in = bytes;
    st->in_capacity = capacity;
    st->in_len = st->pending_len;
    st->pending_len = 0;
    st->delivering = true;
    st->x.pieces->piece(&st->x, (struct pdb_text){st->in, st->in_len});
}

static void pieces_data(struct h2_stream *st, const uint8_t *bytes, size_t len)
{
    st->x.pace.received += len;
    if (!grow(st, &st->pending, &st->pending_capacity, st->pending_len + len, H2_BODY_FIRST)) {
        refuse(st, PDB_RESOURCE_EXHAUSTED, 0, "no memory for the body");
        consume(st, len);
        return;
    }
    memcpy(st->pending + st->pending_len, bytes, len);
    st->pending_len += len;
    give_piece(st);
}

void h2_stream_body_more(struct exchange *x)
{
    struct h2_stream *st = container_of(x, struct h2_stream, x);
    size_t used = st->in_len;
    st->delivering = false;
    st->in_len = 0;
    consume(st, used);
    give_piece(st);
}

void h2_look_at_bodies(struct connection *c, uint64_t now_ns)
{
    list_each_safe(link, following, &c->h2->streams)
    {
        struct h2_stream *st = container_of(link, struct h2_stream, link);
        bool upload = st->x.operation == API_OP_snapshot_upload && st->dispatched;
        if (!upload || st->closed || input_over(st))
            continue;
        bool waiting = !st->delivering && !st->half_closed;
        if (!exchange_too_slow(&st->x, waiting, now_ns))
            continue;
        metrics_add(c->core->metrics, METRICS_LIMIT_EXCEEDED_AT + METRICS_LIMIT_BODY, 1);
        refuse(st, PDB_DEADLINE_EXCEEDED, 408, "the body comes too slowly");
    }
}

/* ---- gRPC framing ---- */

static void deliver(struct h2_stream *st)
{
    struct exchange *x = &st->x;
    st->message_count++;
    st->prefix_len = 0;
    if (!x->grpc->client_streaming)
        return; /* kept until the peer's end: there must not be a second one */
    st->delivering = true;
    st->dispatched = true;
    x->grpc->message(x, (struct pdb_text){st->in, st->in_len});
}

static void begin_message(struct h2_stream *st)
{
    size_t limit = st->x.core->limits->body_bytes;
    st->message_len = (size_t)st->prefix[1] << 24 | (size_t)st->prefix[2] << 16 |
                      (size_t)st->prefix[3] << 8 | st->prefix[4];
    st->in_len = 0;
    if (st->prefix[0] != 0)
        refuse(st, PDB_UNIMPLEMENTED, 0, "compressed messages are not accepted");
    else if (st->message_len > limit)
        refuse(st, PDB_RESOURCE_EXHAUSTED, 413,
               "the message of %zu bytes is larger than limits.body_bytes (%zu)", st->message_len,
               limit);
    else if (st->message_count != 0 && !st->x.grpc->client_streaming)
        refuse(st, PDB_INVALID_ARGUMENT, 0, "a unary call has more than one message");
}

/* Takes one step over the bytes; how many it used. */
static size_t grpc_step(struct h2_stream *st, const uint8_t *bytes, size_t len)
{
    if (st->prefix_len < GRPC_PREFIX) {
        size_t missing = (size_t)GRPC_PREFIX - st->prefix_len;
        size_t n = missing < len ? missing : len;
        memcpy(st->prefix + st->prefix_len, bytes, n);
        st->prefix_len = (uint8_t)(st->prefix_len + n);
        if (st->prefix_len == GRPC_PREFIX) {
            begin_message(st);
            if (!input_over(st) && st->message_len == 0)
                deliver(st);
        }
        return n;
    }
    size_t n = st->message_len - st->in_len < len ? st->message_len - st->in_len : len;
    size_t first = st->message_len < H2_MESSAGE_FIRST_MAX ? st->message_len : H2_MESSAGE_FIRST_MAX;
    if (!grow(st, &st->in, &st->in_capacity, st->in_len + n, first)) {
        refuse(st, PDB_RESOURCE_EXHAUSTED, 0, "no memory for the message");
        return len;
    }
    memcpy(st->in + st->in_len, bytes, n);
    st->in_len += n;
    if (st->in_len == st->message_len)
        deliver(st);
    return n;
}

static size_t grpc_feed(struct h2_stream *st, const uint8_t *bytes, size_t len)
{
    size_t used = 0;
    st->feeding = true;
    while (used < len && !st->delivering && !input_over(st))
        used += grpc_step(st, bytes + used, len - used);
    st->feeding = false;
    return input_over(st) ? len : used;
}

static void grpc_data(struct h2_stream *st, const uint8_t *bytes, size_t len)
{
    st->x.pace.received += len;
    size_t used = st->delivering ? 0 : grpc_feed(st, bytes, len);
    consume(st, used);
    if (used == len)
        return;
    if (!grow(st, &st->pending, &st->pending_capacity, st->pending_len + len - used,
              H2_BODY_FIRST)) {
        refuse(st, PDB_RESOURCE_EXHAUSTED, 0, "no memory for the stream");
        consume(st, len - used);
        return;
    }
    memcpy(st->pending + st->pending_len, bytes + used, len - used);
    st->pending_len += len - used;
}

static void end_client_stream(struct h2_stream *st)
{
    if (input_over(st) || st->delivering || !st->half_closed || st->pending_len != 0)
        return;
    if (st->prefix_len != 0) {
        refuse(st, PDB_INVALID_ARGUMENT, 0, "the stream ended inside a message");
        return;
    }
    st->dispatched = true;
    st->x.grpc->half_close(&st->x);
}

void h2_stream_consumed(struct exchange *x)
{
    struct h2_stream *st = container_of(x, struct h2_stream, x);
    st->delivering = false;
    if (st->feeding || input_over(st) || st->closed)
        return; /* the loop that delivered it goes on */
    size_t pending = st->pending_len;
    size_t used = grpc_feed(st, (const uint8_t *)st->pending, pending);
    if (used != 0 && st->pending_len >= used) { /* refusing drops what was pending */
        st->pending_len -= used;
        memmove(st->pending, st->pending + used, st->pending_len);
    }
    consume(st, used);
    end_client_stream(st);
}

/* ---- from the session ---- */

void h2_stream_data(struct h2_stream *st, const uint8_t *bytes, size_t len)
{
    if (input_over(st))
        consume(st, len);
    else if (st->is_grpc)
        grpc_data(st, bytes, len);
    else if (st->in_pieces)
        pieces_data(st, bytes, len);
    else
        rest_data(st, bytes, len);
}

static void end_unary(struct h2_stream *st)
{
    if (st->message_count != 1 || st->prefix_len != 0) {
        refuse(st, PDB_INVALID_ARGUMENT, 0,
               st->message_count == 0 ? "the call has no whole message"
                                      : "the call ends inside a second message");
        return;
    }
    st->dispatched = true;
    st->x.grpc->message(&st->x, (struct pdb_text){st->in, st->in_len});
}

void h2_stream_end(struct h2_stream *st)
{
    st->half_closed = true;
    if (input_over(st))
        return;
    if (st->in_pieces) {
        give_piece(st);
    } else if (!st->is_grpc) {
        st->x.body = (struct pdb_text){st->in, st->in_len};
        st->dispatched = true;
        rest_dispatch(&st->x);
    } else if (st->x.grpc->client_streaming) {
        end_client_stream(st);
    } else {
        end_unary(st);
    }
}
