/* h1_upload.c: HTTP/1 requests whose body is taken in pieces: archives, which are larger than
 * memory.
 *
 * h2o 2.2.5 reads a body whole before any handler runs. So the first request line of a connection
 * is looked at before h2o gets it: one whose body goes to its handler in pieces is read here, with
 * all of RFC 9112 that it needs (Content-Length or chunks, Expect), and the connection ends with
 * its answer. Everything else, what looks odd included, is h2o's, untouched in the socket's buffer;
 * so is a later request of a connection, whose body then is under limits.body_bytes.
 *
 * The piece lent to the handler is the socket's own buffer: reading stops until it is used up, and
 * TCP slows the client. What h1.c says of smuggling is kept: two lengths, or a length and a coding,
 * are refused.
 *
 * After an answer that came before the body's end the client is still sending: a closed socket
 * would reset the connection and could take the answer with it. So our side is closed first and the
 * rest read and thrown away, for a while. */
#include "base/assert.h"
#include "transport/connection.h"

#include <strings.h>

#include "base/no_libc_heap.h"

enum { LINGER_S = 10, CHUNK_LINE_MAX = 1024, CHUNK_DIGITS_MAX = 15 };

enum chunk_state { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER };

struct h1_upload {
    struct exchange x;
    struct connection *connection; /* NULL once the socket is closed */
    /* the body */
    bool chunked, expects_continue;
    enum chunk_state chunk;
    uint64_t left;  /* of the body, or of the chunk */
    size_t trailer; /* bytes of trailer fields so far */
    size_t held;    /* bytes of the input that the handler has */
    bool holding;   /* the handler has not asked for more */
    bool pumping;   /* pump is on the stack */
    bool ended;     /* the body is complete, and the handler knows */
    bool broken;
    /* the answer */
    bool answered, writing, written;
    struct buffer head;
    struct pdb_text body;
    uint64_t linger_since_ns; /* 0: not so */
};

static const char prefix[] = "PUT /v1/snapshots/";

static h2o_socket_t *socket_of(const struct h1_upload *u)
{
    return u->connection->sock;
}

/* ---- the end ---- */

static void free_upload(struct h1_upload *u)
{
    struct transport_core *core = u->x.core;
    core->exchanges--;
    arena_dispose(&u->x.arena);
    heap_free(&core->reactor->heap, u);
}

void h1_upload_closed(struct connection *c)
{
    struct h1_upload *u = c->upload;
    c->upload = NULL;
    u->connection = NULL;
    if (u->answered) {
        free_upload(u);
        return;
    }
    u->x.gone = true;
    if (u->x.on_gone != NULL)
        u->x.on_gone(&u->x); /* `u` may be gone */
}

/* ---- the answer ---- */

static void on_written(h2o_socket_t *sock, const char *err);
static void read_on(struct h1_upload *u);

static void write_answer(struct h1_upload *u)
{
    h2o_iovec_t parts[2] = {{u->head.ptr, u->head.len},
                            {(char *)(uintptr_t)u->body.ptr, u->body.len}};
    u->writing = u->written = true;
    h2o_socket_write(socket_of(u), parts, u->body.len != 0 ? 2 : 1, on_written);
}

static void on_thrown_away(h2o_socket_t *sock, const char *err)
{
    h2o_buffer_consume(&sock->input, sock->input->size);
    if (err != NULL)
        h2o_socket_close(sock);
}

static void on_written(h2o_socket_t *sock, const char *err)
{
    struct h1_upload *u = connection_of(sock)->upload;
    u->writing = false;
    if (err != NULL || (u->written && u->ended)) {
        h2o_socket_close(sock);
    } else if (u->written) {
        u->linger_since_ns = u->x.core->reactor->now_ns;
        (void)shutdown(h2o_socket_get_fd(sock), SHUT_WR);
        h2o_buffer_consume(&sock->input, sock->input->size);
        h2o_socket_read_start(sock, on_thrown_away);
    } else if (u->answered) {
        write_answer(u);
    } else {
        read_on(u); /* 100 Continue has left */
    }
}

static void add_header(struct buffer *out, struct pdb_text name, struct pdb_text value)
{
    buffer_add_text(out, name);
    buffer_add_lit(out, ": ");
    buffer_add_text(out, value);
    buffer_add_lit(out, "\r\n");
}

static void respond(struct exchange *x, const struct exchange_response *r)
{
    struct h1_upload *u = container_of(x, struct h1_upload, x);
    ASSERT(!u->answered);
    u->answered = true;
    x->on_gone = NULL;
    exchange_count_http(x, r->status);
    if (u->connection == NULL) {
        free_upload(u);
        return;
    }
    h2o_socket_read_stop(socket_of(u));
    buffer_init_arena(&u->head, &x->arena, 512);
    buffer_format(&u->head, "HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-length: %zu\r\n",
                  r->status, h1_reason_phrase(r->status), r->body.len);
    if (r->content_type.len != 0)
        add_header(&u->head, TEXT_LIT("content-type"), r->content_type);
    add_header(&u->head, TEXT_LIT("x-request-id"), text_of(x->call_id));
    for (size_t i = 0; i < r->header_count; i++)
        add_header(&u->head, r->headers[i].name, r->headers[i].value);
    buffer_add_lit(&u->head, "\r\n");
    u->body = r->body;
    if (u->head.failed) /* without memory the end of the connection is all that can be said */
        connection_cut(u->connection);
    else if (!u->writing)
        write_answer(u);
    if (u->head.failed)
        h2o_socket_read_start(socket_of(u), on_thrown_away);
}

/* ---- the body ---- */

static void break_body(struct h1_upload *u, const char *text)
{
    struct pdb_error error = {.code = PDB_INVALID_ARGUMENT};
    (void)snprintf(error.text, sizeof(error.text), "%s", text);
    u->broken = true;
    u->x.pieces->broken(&u->x, &error);
}

static void end_body(struct h1_upload *u)
{
    u->ended = u->holding = true;
    h2o_socket_read_stop(socket_of(u));
    u->x.pieces->end(&u->x);
}

/* Lends what there is of the body, or of the chunk. False: nothing is there. */
static bool lend(struct h1_upload *u)
{
    const h2o_buffer_t *input = socket_of(u)->input;
    size_t len = u->left < input->size ? (size_t)u->left : input->size;
    if (len == 0)
        return false;
    u->held = len;
    u->holding = true;
    u->x.pace.received += len;
    h2o_socket_read_stop(socket_of(u)); /* or the buffer would move */
    u->x.pieces->piece(&u->x, (struct pdb_text){input->bytes, len});
    return true;
}

static void skip(struct h1_upload *u, size_t len)
{
    h2o_buffer_consume(&socket_of(u)->input, len);
}

/* The next line of the input without its end, and how long it is with it; 0: it is not there
 * yet. */
static size_t next_line(struct h1_upload *u, struct pdb_text *line_out)
{
    const h2o_buffer_t *input = socket_of(u)->input;
    const char *end = input->size != 0 ? memchr(input->bytes, '\n', input->size) : NULL;
    if (end == NULL)
        return 0;
    size_t len = (size_t)(end - input->bytes);
    *line_out =
        (struct pdb_text){input->bytes, len != 0 && input->bytes[len - 1] == '\r' ? len - 1 : len};
    return len + 1;
}

/* "1a2b; extension". False: no such line. */
static bool parse_chunk_size(struct pdb_text line, uint64_t *size_out)
{
    uint64_t size = 0;
    size_t at = 0;
    for (; at < line.len && at <= CHUNK_DIGITS_MAX; at++) {
        char ch = line.ptr[at];
        unsigned digit = ch >= '0' && ch <= '9'   ? (unsigned)(ch - '0')
                         : ch >= 'a' && ch <= 'f' ? (unsigned)(ch - 'a') + 10
                         : ch >= 'A' && ch <= 'F' ? (unsigned)(ch - 'A') + 10
                                                  : 16;
        if (digit == 16)
            break;
        size = size << 4 | digit;
    }
    *size_out = size;
    return at != 0 && at <= CHUNK_DIGITS_MAX &&
           (at == line.len || line.ptr[at] == ';' || line.ptr[at] == ' ' || line.ptr[at] == '\t');
}

/* What lies between the data of chunks. False: more has to come, or it is over. */
static bool read_chunk_line(struct h1_upload *u)
{
    struct pdb_text line = {0};
    size_t len = next_line(u, &line);
    size_t most = u->chunk == CHUNK_DATA_END ? 2 : CHUNK_LINE_MAX;
    if (len == 0 ? socket_of(u)->input->size >= most : len > most) {
        break_body(u, "the body's chunks are malformed");
        return false;
    }
    if (len == 0)
        return false;
    bool good = true, last = false;
    if (u->chunk == CHUNK_SIZE) {
        good = parse_chunk_size(line, &u->left);
        u->chunk = u->left != 0 ? CHUNK_DATA : CHUNK_TRAILER;
    } else if (u->chunk == CHUNK_DATA_END) {
        good = line.len == 0;
        u->chunk = CHUNK_SIZE;
    } else {
        u->trailer += len;
        good = u->trailer <= u->x.core->limits->header_bytes;
        last = line.len == 0;
    }
    skip(u, len);
    if (!good)
        break_body(u, "the body's chunks are malformed");
    else if (last)
        end_body(u);
    return good && !last;
}

/* One step through what has come; false: there is nothing to do before more comes. */
static bool step(struct h1_upload *u)
{
    if (u->chunked && u->chunk != CHUNK_DATA)
        return read_chunk_line(u);
    if (u->left != 0)
        return lend(u);
    end_body(u);
    return false;
}

static void on_body(h2o_socket_t *sock, const char *err);

/* Goes on as far as the handler and the input let it; then reads, if it is the client's turn. */
static void read_on(struct h1_upload *u)
{
    if (u->pumping)
        return;
    u->pumping = true;
    while (!u->holding && !u->answered && !u->broken && step(u))
        continue;
    u->pumping = false;
    if (u->holding || u->answered || u->broken || u->writing)
        return;
    if (u->expects_continue) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        h2o_iovec_t part = {(char *)(uintptr_t)go_on, sizeof(go_on) - 1};
        u->expects_continue = false;
        u->writing = true;
        h2o_socket_write(socket_of(u), &part, 1, on_written);
        return;
    }
    h2o_socket_read_start(socket_of(u), on_body);
}

static void on_body(h2o_socket_t *sock, const char *err)
{
    struct h1_upload *u = connection_of(sock)->upload;
    reactor_mark_active(u->x.core->reactor);
    u->expects_continue = false; /* it did not wait for the word */
    if (err != NULL)
        h2o_socket_close(sock);
    else
        read_on(u);
}

static void body_more(struct exchange *x)
{
    struct h1_upload *u = container_of(x, struct h1_upload, x);
    if (u->connection == NULL)
        return; /* on_gone was told */
    if (u->held != 0) {
        u->left -= u->held;
        skip(u, u->held);
        u->held = 0;
        if (u->chunked && u->left == 0)
            u->chunk = CHUNK_DATA_END;
    }
    u->holding = false;
    read_on(u);
}

bool h1_upload_is_late(struct connection *c, uint64_t now_ns)
{
    struct h1_upload *u = c->upload;
    if (u->linger_since_ns != 0)
        return now_ns - u->linger_since_ns > LINGER_S * 1000000000ull;
    return exchange_too_slow(&u->x, !u->holding && !u->answered && !u->writing, now_ns);
}

static const struct exchange_ops upload_ops = {.respond = respond, .body_more = body_more};

/* ---- the head ---- */

struct head {
    unsigned fields, lengths, codings;
    bool bad;            /* a line that is no field */
    bool unknown_coding; /* other than chunked */
    bool unknown_expect; /* other than 100-continue */
    struct pdb_text offered_id;
};

static struct pdb_text trim(struct pdb_text text)
{
    while (text.len != 0 && (text.ptr[0] == ' ' || text.ptr[0] == '\t'))
        text = (struct pdb_text){text.ptr + 1, text.len - 1};
    while (text.len != 0 && (text.ptr[text.len - 1] == ' ' || text.ptr[text.len - 1] == '\t'))
        text.len--;
    return text;
}

static bool names(struct pdb_text name, const char *wanted)
{
    return name.len == strlen(wanted) && strncasecmp(name.ptr, wanted, name.len) == 0;
}

static void read_length(struct h1_upload *u, struct head *head, struct pdb_text value)
{
    enum { DIGITS_MAX = 18 };
    head->lengths++;
    head->bad |= value.len == 0 || value.len > DIGITS_MAX;
    for (size_t i = 0; i < value.len && !head->bad; i++) {
        head->bad = value.ptr[i] < '0' || value.ptr[i] > '9';
        u->left = u->left * 10 + (uint64_t)(value.ptr[i] - '0');
    }
}

static void read_field(struct h1_upload *u, struct head *head, struct pdb_text name,
                       struct pdb_text value)
{
    struct exchange *x = &u->x;
    const struct {
        const char *name;
        struct pdb_text *place;
    } known[] = {
        {"host", &x->authority},
        {"content-type", &x->content_type},
        {"content-encoding", &x->content_encoding},
        {"x-request-id", &head->offered_id},
        {"x-request-timeout", &x->timeout},
        {"origin", &x->origin},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (names(name, known[i].name))
            *known[i].place = value;
    if (names(name, "content-length")) {
        read_length(u, head, value);
    } else if (names(name, "transfer-encoding")) {
        head->codings++;
        u->chunked = names(value, "chunked");
        head->unknown_coding = !u->chunked;
    } else if (names(name, "expect")) {
        u->expects_continue = names(value, "100-continue");
        head->unknown_expect = !u->expects_continue;
    }
}

/* RFC 9110, section 5.6.2. */
static bool is_token(struct pdb_text name)
{
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.ptr[i];
        bool letter = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
        if (ch == '\0' ||
            (!letter && (ch < '0' || ch > '9') && strchr("!#$%&'*+-.^_`|~", ch) == NULL))
            return false;
    }
    return name.len != 0;
}

static void read_fields(struct h1_upload *u, struct pdb_text text, struct head *head)
{
    while (text.len != 0) {
        const char *end = memchr(text.ptr, '\n', text.len);
        size_t len = end != NULL ? (size_t)(end - text.ptr) : text.len;
        struct pdb_text line = {text.ptr, len};
        size_t used = len + (end != NULL);
        text = (struct pdb_text){text.ptr + used, text.len - used};
        if (line.len != 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (line.len == 0)
            return;
        head->fields++;
        const char *colon = memchr(line.ptr, ':', line.len);
        struct pdb_text name = {line.ptr, colon != NULL ? (size_t)(colon - line.ptr) : 0};
        head->bad |= !is_token(name) || memchr(line.ptr, '\0', line.len) != NULL ||
                     memchr(line.ptr, '\r', line.len) != NULL;
        if (head->bad)
            return;
        read_field(u, head, name, trim((struct pdb_text){colon + 1, line.len - name.len - 1}));
    }
}

struct request_line {
    struct pdb_text method, path, query;
    size_t bytes; /* with its end */
};

/* False: no request of HTTP/1.1 whose body is taken in pieces. */
static bool parse_request_line(struct pdb_text text, struct request_line *out)
{
    static const char version[] = " HTTP/1.1";
    const char *end = memchr(text.ptr, '\n', text.len);
    size_t len = end != NULL ? (size_t)(end - text.ptr) : 0, tail = sizeof(version) - 1;
    out->bytes = len + 1;
    if (len != 0 && text.ptr[len - 1] == '\r')
        len--;
    if (len <= tail + 4 || memcmp(text.ptr + len - tail, version, tail) != 0)
        return false;
    out->method = (struct pdb_text){text.ptr, 3}; /* the prefix was seen */
    struct pdb_text target = {text.ptr + 4, len - tail - 4};
    for (size_t i = 0; i < target.len; i++)
        if (target.ptr[i] <= ' ' || target.ptr[i] == 0x7f)
            return false;
    const char *question = memchr(target.ptr, '?', target.len);
    out->path = target;
    out->query = (struct pdb_text){0};
    if (question != NULL) {
        out->path.len = (size_t)(question - target.ptr);
        out->query = (struct pdb_text){question + 1, target.len - out->path.len - 1};
    }
    return rest_takes_pieces(out->method, out->path);
}

__attribute__((format(printf, 4, 5))) static void fail(struct h1_upload *u, int code,
                                                       int http_status, const char *format, ...)
{
    struct pdb_error error = {.code = code, .http_status = http_status};
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error.text, sizeof(error.text), format, args);
    va_end(args);
    rest_respond_error(&u->x, &error);
}

static void dispatch(struct h1_upload *u, const struct head *head)
{
    struct exchange *x = &u->x;
    const struct api_limits *limits = x->core->limits;
    struct trail trail = {0};
    int rc = exchange_begin(x, head->offered_id, &trail);
    if (head->bad)
        fail(u, PDB_INVALID_ARGUMENT, 400, "the request is malformed");
    else if (head->fields > limits->headers)
        fail(u, PDB_RESOURCE_EXHAUSTED, 431,
             "the header block has more fields than limits.headers");
    else if (head->lengths + head->codings > 1)
        fail(u, PDB_INVALID_ARGUMENT, 400,
             "more than one of content-length and transfer-encoding: the body's end is ambiguous");
    else if (head->unknown_coding)
        fail(u, PDB_UNIMPLEMENTED, 501, "transfer-encoding: only chunked is known");
    else if (head->unknown_expect)
        fail(u, PDB_INVALID_ARGUMENT, 417, "expect: only 100-continue is known");
    else if (x->path.len + x->query.len > limits->url_bytes)
        fail(u, PDB_INVALID_ARGUMENT, 414, "the URL is longer than limits.url_bytes");
    else if (rc < 0)
        fail(u, rc, 0, "%s", trail.text);
    else if (!exchange_host_allowed(x, u->connection->loopback_only))
        fail(u, PDB_PERMISSION_DENIED, 403,
             "the Host header must name this machine's loopback while nobody has to sign in");
    else if (!u->chunked && u->left > limits->archive_bytes)
        fail(u, PDB_RESOURCE_EXHAUSTED, 413,
             "the body of %llu bytes is larger than limits.archive_bytes",
             (unsigned long long)u->left);
    else
        rest_dispatch(x);
}

/* The head is there, `head_bytes` of the input. */
static void begin(struct connection *c, size_t head_bytes)
{
    struct heap *heap = &c->core->reactor->heap;
    struct h1_upload *u = heap_calloc(heap, 1, sizeof(*u));
    struct head head = {0};
    struct request_line line;
    if (u == NULL) {
        h2o_socket_close(c->sock);
        return;
    }
    arena_init(&u->x.arena, 0);
    struct pdb_text text = arena_copy_text(&u->x.arena, c->sock->input->bytes, head_bytes);
    if (text.ptr == NULL || !parse_request_line(text, &line)) {
        arena_dispose(&u->x.arena);
        heap_free(heap, u);
        h2o_socket_close(c->sock);
        return;
    }
    h2o_buffer_consume(&c->sock->input, head_bytes);
    u->x.core = c->core;
    u->x.ops = &upload_ops;
    u->x.peer = (struct pdb_text){c->peer, c->peer_len};
    u->x.method = line.method;
    u->x.path = line.path;
    u->x.query = line.query;
    u->x.body_in_pieces = true;
    u->connection = c;
    u->holding = true;
    c->upload = u;
    c->exchanges = 1;
    c->core->exchanges++;
    read_fields(u, (struct pdb_text){text.ptr + line.bytes, text.len - line.bytes}, &head);
    dispatch(u, &head);
}

/* ---- whose is it ---- */

/* Bytes of the head, 0 if its end has not come. */
static size_t head_end(const h2o_buffer_t *input, size_t most)
{
    size_t size = input->size < most ? input->size : most;
    for (const char *at = input->bytes, *end = at + size; at < end; at++) {
        at = memchr(at, '\n', (size_t)(end - at));
        if (at == NULL)
            return 0;
        if (at + 1 < end && at[1] == '\n')
            return (size_t)(at + 2 - input->bytes);
        if (at + 2 < end && at[1] == '\r' && at[2] == '\n')
            return (size_t)(at + 3 - input->bytes);
    }
    return 0;
}

static void on_head(h2o_socket_t *sock, const char *err)
{
    struct connection *c = connection_of(sock);
    const h2o_buffer_t *input = sock->input;
    reactor_mark_active(c->core->reactor);
    if (err != NULL) {
        h2o_socket_close(sock);
        return;
    }
    size_t len = input->size < sizeof(prefix) - 1 ? input->size : sizeof(prefix) - 1;
    bool may_be = len == 0 || memcmp(input->bytes, prefix, len) == 0;
    size_t head_bytes = may_be && len != 0 ? head_end(input, c->core->limits->header_bytes) : 0;
    struct request_line line;
    if (may_be && head_bytes == 0 && input->size < c->core->limits->header_bytes) {
        h2o_socket_read_start(sock, on_head);
        return;
    }
    h2o_socket_read_stop(sock);
    if (head_bytes != 0 && parse_request_line((struct pdb_text){input->bytes, head_bytes}, &line))
        begin(c, head_bytes);
    else
        h1_accept(c);
}

void h1_upload_accept(struct connection *c)
{
    on_head(c->sock, NULL);
}
