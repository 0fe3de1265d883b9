/* fuzz_h2: one HTTP/2 connection that receives arbitrary bytes: framing, HPACK, streams, gRPC
 * messages and their limits.
 *
 * The session code is the server's own over a real socket pair and h2o's loop; the engine is
 * replaced by handlers that answer at once, later or never. Input: a byte of options, then what the
 * client sends, in pieces whose lengths the input chooses. */
#include "base/hash.h"
#include "transport/connection.h"
#include "transport/grpc/h2_internal.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OPTION_PREFACE = 1, OPTION_LEAVE_EARLY = 2, PENDING_MAX = 64 };

static struct list hooks;
static struct exchange *pending[PENDING_MAX];
static size_t pending_count;

/* ---- what the rest of the server would do ---- */

void turn_hook_queue(struct reactor *r, struct turn_hook *hook)
{
    (void)r;
    if (!list_linked(&hook->link))
        list_push_back(&hooks, &hook->link);
}

void reactor_mark_active(struct reactor *r)
{
    (void)r;
}

struct connection *connection_of(h2o_socket_t *sock)
{
    return sock->on_close.data;
}

static void answer(struct exchange *x)
{
    if (x->grpc != NULL) {
        if (!x->gone)
            x->ops->grpc_send(x, TEXT_LIT("\x0a\x03"
                                          "abc"));
        x->ops->grpc_finish(x, 0, (struct pdb_text){0});
    } else {
        struct exchange_response r = {
            .status = 200, .content_type = TEXT_LIT("text/plain"), .body = x->body};
        x->ops->respond(x, &r);
    }
}

static void forget(struct exchange *x)
{
    for (size_t i = 0; i < pending_count; i++)
        if (pending[i] == x)
            pending[i] = pending[--pending_count];
    answer(x);
}

/* Paths that end in 'l' are answered later. */
static void handle(struct exchange *x)
{
    if (x->path.len != 0 && x->path.ptr[x->path.len - 1] == 'l' && pending_count < PENDING_MAX &&
        !x->gone) {
        x->on_gone = forget;
        pending[pending_count++] = x;
    } else {
        answer(x);
    }
}

/* Bodies in pieces: used up at once, answered at their end. */
static void take_piece(struct exchange *x, struct pdb_text piece)
{
    if (piece.len == 0)
        abort();
    x->ops->body_more(x);
}

static void break_pieces(struct exchange *x, const struct pdb_error *error)
{
    rest_respond_error(x, error);
}

static const struct exchange_pieces pieces = {take_piece, answer, break_pieces};

bool rest_takes_pieces(struct pdb_text method, struct pdb_text path)
{
    return method.len == 3 && path.len != 0 && path.ptr[path.len - 1] == 's';
}

void rest_dispatch(struct exchange *x)
{
    if (!x->body_in_pieces) {
        handle(x);
        return;
    }
    x->pieces = &pieces;
    x->on_gone = answer;
    x->ops->body_more(x);
}

void rest_respond_error(struct exchange *x, const struct pdb_error *error)
{
    struct exchange_response r = {.status = error->http_status != 0 ? error->http_status : 400};
    x->ops->respond(x, &r);
}

static void unary(struct exchange *x, struct pdb_text message)
{
    (void)message;
    handle(x);
}

static void streamed(struct exchange *x, struct pdb_text message)
{
    if (message.len % 3 == 0)
        x->ops->grpc_send(x, TEXT_LIT("x"));
    x->ops->grpc_consumed(x);
}

const struct grpc_method *grpc_method_find(struct pdb_text path)
{
    static const struct grpc_method methods[] = {
        {.path = "/u", .message = unary},
        {.path = "/s",
         .client_streaming = true,
         .server_streaming = true,
         .message = streamed,
         .half_close = handle},
    };
    if (path.len < 2)
        return NULL;
    return path.ptr[1] == 'u' ? &methods[0] : path.ptr[1] == 's' ? &methods[1] : NULL;
}

void grpc_finish_error(struct exchange *x, const struct pdb_error *error)
{
    x->ops->grpc_finish(x, pdb_error_grpc(error->code),
                        (struct pdb_text){error->text, strlen(error->text)});
}

/* ---- the connection ---- */

static struct {
    struct reactor reactor;
    struct transport transport;
    struct transport_core core;
    struct transport_core_private priv;
    struct api_limits limits;
    struct metrics metrics;
} fake;

static void on_closed(void *data)
{
    struct connection *c = data;
    list_remove(&c->link);
    free(c);
}

static void set_up(void)
{
    static h2o_loop_t *loop;
    if (loop == NULL)
        loop = h2o_evloop_create();
    fake.limits = api_limits_default;
    fake.limits.body_bytes = 1 << 16;
    fake.limits.inflight_body_bytes_per_core = 1 << 17;
    fake.limits.streams_per_connection = 20;
    fake.priv.loop = loop;
    list_init(&fake.priv.connections);
    list_init(&fake.priv.free_exchanges);
    list_init(&fake.priv.free_streams);
    fake.core.reactor = &fake.reactor;
    fake.core.transport = &fake.transport;
    fake.core.limits = &fake.limits;
    fake.core.metrics = &fake.metrics;
    fake.core.priv = &fake.priv;
    list_init(&hooks);
    fake.reactor.now_ns += 1000000;
}

static void run_hooks(void)
{
    struct list_link *link;
    while ((link = list_pop_front(&hooks)) != NULL)
        container_of(link, struct turn_hook, link)->run(container_of(link, struct turn_hook, link));
}

/* What the server sends is read and thrown away, so that its writes go on. */
static void settle(int client)
{
    static char sink[1 << 16];
    for (int i = 0; i < 4; i++) {
        (void)h2o_evloop_run(fake.priv.loop, 0);
        run_hooks();
        while (recv(client, sink, sizeof(sink), MSG_DONTWAIT) > 0)
            continue;
    }
}

static void send_all(int client, const uint8_t *bytes, size_t len)
{
    (void)send(client, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    settle(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    int fds[2];
    if (size < 2 || size > 1 << 16 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        return 0;
    set_up();
    uint8_t options = data[0];
    struct connection *c = calloc(1, sizeof(*c));
    if (c == NULL)
        abort();
    c->core = &fake.core;
    c->kind = CONNECTION_HTTP2;
    c->sock = h2o_evloop_socket_create(fake.priv.loop, fds[0], 0);
    c->sock->on_close.cb = on_closed;
    c->sock->on_close.data = c;
    list_push_back(&fake.priv.connections, &c->link);
    h2_accept(c);
    if ((options & OPTION_PREFACE) != 0)
        send_all(fds[1], preface, sizeof(preface) - 1);
    for (size_t at = 1; at < size && !list_empty(&fake.priv.connections);) {
        size_t piece = 1 + (size_t)data[at] * 8;
        at++;
        if (piece > size - at)
            piece = size - at;
        send_all(fds[1], data + at, piece);
        at += piece;
        if ((options & OPTION_LEAVE_EARLY) == 0 && pending_count != 0 && data[0] % 3 == 0)
            answer(pending[--pending_count]);
    }
    if ((options & OPTION_LEAVE_EARLY) == 0)
        while (pending_count != 0) {
            pending[pending_count - 1]->on_gone = NULL;
            answer(pending[--pending_count]);
        }
    settle(fds[1]);
    (void)close(fds[1]);
    for (int i = 0; i < 8 && !list_empty(&fake.priv.connections); i++)
        settle(fds[1]);
    if (!list_empty(&fake.priv.connections) || fake.core.exchanges != 0 ||
        fake.priv.h2_body_bytes != 0)
        abort();                 /* the connection, an exchange or a count leaked */
    h2_dispose_pool(&fake.core); /* what is used again would hide what is used too late */
    return 0;
}
