/* h1.c: HTTP/1.1 by h2o: its requests become exchanges, its answers come from them.
 *
 * h2o has read head and body before the handler runs. The entity points into the socket's input
 * buffer, which stays as it is until the answer has left: bodies are decoded in place. Either of
 * request and call may outlive the other: the exchange is held by the handler (until it answers)
 * and by a block of the request's pool (until h2o is done with the request).
 *
 * h2o 2.2.5 hides what smugglers use: of two Content-Length headers the first wins,
 * Transfer-Encoding silently overrides it, and neither is shown. So the raw head, still at the
 * start of the input buffer, is scanned: RFC 9112, sections 6.1 and 6.3. */
#include "base/assert.h"
#include "transport/connection.h"

#include <h2o/http1.h> /* not self-contained: only after h2o.h */
#include <strings.h>

#include "base/no_libc_heap.h"

enum {
    REQUEST_TIMEOUT_MS = 600 * 1000,
    POOL_MAX = 256,
    WRITE_MAX = 64 << 10, /* of a long answer at once: TLS encrypts a whole write */
};

struct h1_exchange {
    struct exchange x;
    struct list_link free_link;
    struct connection *connection; /* NULL once the socket is closed */
    h2o_req_t *req;                /* NULL once h2o is done with it */
    bool answered;
    /* an answer in pieces */
    h2o_generator_t generator;
    struct pdb_text left; /* of the piece, not given to h2o yet */
    int status;
};

/* ---- life of an exchange ---- */

static void recycle(struct h1_exchange *e)
{
    struct transport_core *core = e->x.core;
    core->exchanges--;
    if (core->priv->free_exchange_count < POOL_MAX) {
        arena_reset(&e->x.arena);
        list_push_front(&core->priv->free_exchanges, &e->free_link);
        core->priv->free_exchange_count++;
    } else {
        arena_dispose(&e->x.arena);
        heap_free(&core->reactor->heap, e);
    }
}

static struct h1_exchange *take(struct transport_core *core)
{
    struct list_link *link = list_pop_front(&core->priv->free_exchanges);
    struct h1_exchange *e;
    if (link != NULL) {
        e = container_of(link, struct h1_exchange, free_link);
        core->priv->free_exchange_count--;
        struct arena arena = e->x.arena;
        *e = (struct h1_exchange){.x.arena = arena};
    } else {
        e = heap_calloc(&core->reactor->heap, 1, sizeof(*e));
        if (e == NULL)
            return NULL;
        arena_init(&e->x.arena, 0);
    }
    e->x.core = core;
    core->exchanges++;
    return e;
}

void h1_dispose_pool(struct transport_core *core)
{
    struct list_link *link;
    while ((link = list_pop_front(&core->priv->free_exchanges)) != NULL) {
        struct h1_exchange *e = container_of(link, struct h1_exchange, free_link);
        arena_dispose(&e->x.arena);
        heap_free(&core->reactor->heap, e);
    }
    core->priv->free_exchange_count = 0;
}

static void leave(struct h1_exchange *e)
{
    if (e->x.gone || e->answered)
        return;
    e->x.gone = true;
    if (e->x.on_gone != NULL)
        e->x.on_gone(&e->x);
}

static void on_request_freed(void *hold)
{
    struct h1_exchange *e = *(struct h1_exchange **)hold;
    e->req = NULL;
    if (e->connection != NULL) {
        e->connection->h1_exchange = NULL;
        e->connection->exchanges = 0;
        e->connection->idle_since_ns = 0;
        e->connection->request_since_ns = 0;
        e->connection = NULL;
    }
    if (e->answered)
        recycle(e);
    else
        leave(e);
}

void h1_client_left(struct connection *c)
{
    if (c->h1_exchange == NULL)
        return;
    struct h1_exchange *e = container_of(c->h1_exchange, struct h1_exchange, x);
    leave(e);
}

/* ---- the answer ---- */

static void add_header(h2o_req_t *req, struct pdb_text name, struct pdb_text value)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, name.ptr, name.len, 0, NULL, value.ptr,
                          value.len);
}

const char *h1_reason_phrase(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 412:
        return "Precondition Failed";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 507:
        return "Insufficient Storage";
    default:
        return status < 400 ? "OK" : status < 500 ? "Client Error" : "Server Error";
    }
}

static void begin_answer(struct h1_exchange *e, const struct exchange_response *response,
                         uint64_t body_bytes, h2o_generator_t *generator)
{
    h2o_req_t *req = e->req;
    req->res.status = response->status;
    req->res.reason = h1_reason_phrase(response->status);
    req->res.content_length = body_bytes; /* or else h2o sends chunks */
    if (response->content_type.len != 0)
        h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                       response->content_type.ptr, response->content_type.len);
    add_header(req, TEXT_LIT("x-request-id"), text_of(e->x.call_id));
    for (size_t i = 0; i < response->header_count; i++)
        add_header(req, response->headers[i].name, response->headers[i].value);
    h2o_start_response(req, generator);
}

/* True if the client is still there to be answered. */
static bool answer(struct h1_exchange *e, int status)
{
    ASSERT(!e->answered);
    e->answered = true;
    e->x.on_gone = NULL;
    exchange_count_http(&e->x, status);
    if (e->req != NULL)
        return true;
    recycle(e);
    return false;
}

static void respond(struct exchange *x, const struct exchange_response *response)
{
    static h2o_generator_t generator; /* h2o asks it for nothing: the first send is the last */
    struct h1_exchange *e = container_of(x, struct h1_exchange, x);
    if (!answer(e, response->status))
        return;
    /* The body stays in the arena, which lives until h2o frees the request: nothing is copied. */
    h2o_iovec_t body = {(char *)(uintptr_t)response->body.ptr, response->body.len};
    begin_answer(e, response, response->body.len, &generator);
    h2o_send(e->req, &body, body.len != 0 ? 1 : 0, H2O_SEND_STATE_FINAL);
}

static void send_some(struct h1_exchange *e)
{
    size_t len = e->left.len < WRITE_MAX ? e->left.len : WRITE_MAX;
    h2o_iovec_t part = {(char *)(uintptr_t)e->left.ptr, len};
    e->left = (struct pdb_text){e->left.ptr + len, e->left.len - len};
    h2o_send(e->req, &part, 1, H2O_SEND_STATE_IN_PROGRESS);
}

/* h2o has written what it had. */
static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    (void)req;
    struct h1_exchange *e = container_of(generator, struct h1_exchange, generator);
    reactor_mark_active(e->x.core->reactor);
    if (e->left.len != 0)
        send_some(e);
    else
        e->x.on_sent(&e->x);
}

static void respond_begin(struct exchange *x, const struct exchange_response *response,
                          uint64_t body_bytes)
{
    struct h1_exchange *e = container_of(x, struct h1_exchange, x);
    e->status = response->status;
    e->generator.proceed = on_proceed;
    x->sending_pieces = true;
    if (e->req != NULL)
        begin_answer(e, response, body_bytes, &e->generator);
}

static void respond_piece(struct exchange *x, struct pdb_text piece)
{
    struct h1_exchange *e = container_of(x, struct h1_exchange, x);
    if (e->req == NULL)
        return; /* on_gone was told */
    e->left = piece;
    send_some(e);
}

static void respond_end(struct exchange *x, bool whole)
{
    struct h1_exchange *e = container_of(x, struct h1_exchange, x);
    if (answer(e, e->status))
        h2o_send(e->req, NULL, 0, whole ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_ERROR);
}

static const struct exchange_ops h1_ops = {
    .respond = respond,
    .respond_begin = respond_begin,
    .respond_piece = respond_piece,
    .respond_end = respond_end,
};

/* ---- the request ---- */

static void fail_and_close(struct h1_exchange *e, int code, int http_status, const char *text)
{
    struct pdb_error error = {.code = code, .http_status = http_status};
    (void)snprintf(error.text, sizeof(error.text), "%s", text);
    e->req->http1_is_persistent = 0;
    rest_respond_error(&e->x, &error);
}

struct raw_head {
    size_t bytes; /* 0: its end was not found within the limit */
    unsigned fields, content_lengths, transfer_encodings;
};

static bool line_names(const char *line, size_t len, const char *name)
{
    size_t name_len = strlen(name);
    return len > name_len && strncasecmp(line, name, name_len) == 0 && line[name_len] == ':';
}

/* Reads lines up to the empty one. h2o accepts a bare LF as line end, so this does. */
static struct raw_head scan_head(const char *bytes, size_t size, size_t limit)
{
    struct raw_head head = {0};
    size_t end = size < limit ? size : limit;
    for (size_t at = 0; at < end;) {
        const char *line = bytes + at;
        const char *lf = memchr(line, '\n', end - at);
        if (lf == NULL)
            return head;
        size_t len = (size_t)(lf - line);
        at += len + 1;
        if (len != 0 && line[len - 1] == '\r')
            len--;
        if (len == 0 && at > 2) {
            head.bytes = at;
            return head;
        }
        head.fields++;
        head.content_lengths += line_names(line, len, "content-length");
        head.transfer_encodings += line_names(line, len, "transfer-encoding");
    }
    return head;
}

static bool head_acceptable(struct h1_exchange *e, const h2o_socket_t *sock)
{
    const struct api_limits *limits = e->x.core->limits;
    struct raw_head head = scan_head(sock->input->bytes, sock->input->size, limits->header_bytes);
    if (head.bytes == 0) {
        fail_and_close(e, PDB_RESOURCE_EXHAUSTED, 431,
                       "the header block is larger than limits.header_bytes");
        return false;
    }
    if (head.fields > limits->headers + 1) { /* the first is the request line */
        fail_and_close(e, PDB_RESOURCE_EXHAUSTED, 431,
                       "the header block has more fields than limits.headers");
        return false;
    }
    if (head.content_lengths + head.transfer_encodings > 1) {
        fail_and_close(
            e, PDB_INVALID_ARGUMENT, 400,
            "more than one of content-length and transfer-encoding: the body's end is ambiguous");
        return false;
    }
    if (e->x.path.len + e->x.query.len > limits->url_bytes) {
        fail_and_close(e, PDB_INVALID_ARGUMENT, 414, "the URL is longer than limits.url_bytes");
        return false;
    }
    return true;
}

static struct pdb_text text_of_iovec(h2o_iovec_t v)
{
    return (struct pdb_text){v.base, v.len};
}

/* One pass over the headers that anything here looks at. */
static struct pdb_text read_headers(struct exchange *x, const h2o_req_t *req)
{
    struct pdb_text offered_id = {0};
    for (size_t i = 0; i < req->headers.size; i++) {
        const h2o_header_t *h = &req->headers.entries[i];
        struct pdb_text name = text_of_iovec(*h->name), value = text_of_iovec(h->value);
        if (text_equal(name, TEXT_LIT("content-type")))
            x->content_type = value;
        else if (text_equal(name, TEXT_LIT("content-encoding")))
            x->content_encoding = value;
        else if (text_equal(name, TEXT_LIT("x-request-id")))
            offered_id = value;
        else if (text_equal(name, TEXT_LIT("x-request-timeout")))
            x->timeout = value;
        else if (text_equal(name, TEXT_LIT("origin")))
            x->origin = value;
        else if (text_equal(name, TEXT_LIT("access-control-request-method")))
            x->access_request_method = value;
        else if (text_equal(name, TEXT_LIT("access-control-request-headers")))
            x->access_request_headers = value;
    }
    return offered_id;
}

static void fill(struct exchange *x, const h2o_req_t *req)
{
    size_t path_len = req->input.query_at != SIZE_MAX ? req->input.query_at : req->input.path.len;
    x->method = text_of_iovec(req->input.method);
    x->path = (struct pdb_text){req->input.path.base, path_len};
    if (req->input.query_at != SIZE_MAX)
        x->query = (struct pdb_text){req->input.path.base + path_len + 1,
                                     req->input.path.len - path_len - 1};
    x->authority = text_of_iovec(req->input.authority);
    x->body = text_of_iovec(req->entity);
}

static int on_request(h2o_handler_t *self, h2o_req_t *req)
{
    (void)self;
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
    struct connection *c = connection_of(sock);
    struct h1_exchange *e = take(c->core);
    if (e == NULL) {
        req->res.status = 503;
        h2o_send_inline(req, H2O_STRLIT("out of memory\n"));
        return 0;
    }
    struct h1_exchange **hold =
        h2o_mem_alloc_shared(&req->pool, sizeof(struct h1_exchange *), on_request_freed);
    *hold = e;
    e->req = req;
    e->connection = c;
    e->x.ops = &h1_ops;
    e->x.peer = (struct pdb_text){c->peer, c->peer_len};
    c->h1_exchange = &e->x;
    c->exchanges = 1;
    reactor_mark_active(c->core->reactor);
    if (c->core->draining)
        req->http1_is_persistent = 0;

    struct trail trail = {0};
    fill(&e->x, req);
    struct pdb_text offered_id = read_headers(&e->x, req);
    int rc = exchange_begin(&e->x, offered_id, &trail);
    if (!head_acceptable(e, sock))
        return 0;
    if (rc < 0)
        fail_and_close(e, rc, 0, trail.text);
    else if (!exchange_host_allowed(&e->x, c->loopback_only))
        fail_and_close(
            e, PDB_PERMISSION_DENIED, 403,
            "the Host header must name this machine's loopback while nobody has to sign in");
    else
        rest_dispatch(&e->x);
    return 0;
}

/* ---- errors that h2o finds before there is an exchange ---- */

struct json_error_stream {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static void send_json_error(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                            h2o_send_state_t state)
{
    (void)bufs;
    (void)count;
    h2o_ostream_send_next(self, req, &((struct json_error_stream *)self)->body, 1, state);
}

/* A body over the limit, an unfinished one: h2o answers those itself, in plain text. Its text
 * becomes the JSON that every error has. */
static void on_setup_stream(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    (void)self;
    struct connection *c = connection_of(req->conn->callbacks->get_socket(req->conn));
    if (c->h1_exchange == NULL && req->res.status >= 400) {
        static const char too_large[] =
            "{\"error\":{\"code\":\"RESOURCE_EXHAUSTED\",\"message\":\"the body is larger than "
            "limits.body_bytes\",\"details\":{}}}";
        static const char bad[] = "{\"error\":{\"code\":\"INVALID_ARGUMENT\",\"message\":\"the "
                                  "request is malformed\",\"details\":{}}}";
        bool large = req->res.status == 413;
        struct json_error_stream *stream = (void *)h2o_add_ostream(req, sizeof(*stream), slot);
        slot = &stream->super.next;
        stream->super.do_send = send_json_error;
        stream->body =
            large ? h2o_iovec_init(H2O_STRLIT(too_large)) : h2o_iovec_init(H2O_STRLIT(bad));
        req->res.content_length = stream->body.len;
        h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE,
                       H2O_STRLIT("application/json"), 1);
    }
    h2o_setup_next_ostream(req, slot);
}

void h1_configure(h2o_globalconf_t *config, const struct api_limits *limits)
{
    h2o_config_init(config);
    config->server_name =
        h2o_iovec_init(NULL, 0);        /* no Server header: it tells attackers more than users */
    config->http1.upgrade_to_http2 = 0; /* h2o's own HTTP/2 must never be reached */
    config->http1.req_timeout = REQUEST_TIMEOUT_MS; /* the sweep knows better */
    config->max_request_entity_size = limits->body_bytes;
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX; /* bodies never go to a temporary file */
    h2o_hostconf_t *host =
        h2o_config_register_host(config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    h2o_create_handler(path, sizeof(h2o_handler_t))->on_req = on_request;
    h2o_create_filter(path, sizeof(h2o_filter_t))->on_setup_ostream = on_setup_stream;
    /* A request that fails before its path is known is answered under this one. */
    h2o_create_filter(&host->fallback_path, sizeof(h2o_filter_t))->on_setup_ostream =
        on_setup_stream;
}

void h1_accept(struct connection *c)
{
    h2o_http1_accept(&c->core->priv->h1_accept, c->sock, c->connected_at);
}
