/* bench/client/run.c, worker.c, conn.c, conn_h1.c, conn_h2.c, channel.c: against small servers in
 * threads of the test, on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/client/run.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a server: one thread that serves one connection after the other ---- */

enum h2_mode { H2_ECHO, H2_EARLY_ERROR, H2_RESET, H2_TRAILERS_ONLY };

struct peer {
    int listener;
    char url[32];
    pthread_t thread;
    void (*serve)(struct peer *peer, int fd); /* until the client leaves or it closes */
    const char *const *replies; /* HTTP/1.1: sent one after the other, round and round */
    size_t reply_count, reply_next;
    size_t reply_step; /* bytes of a reply sent at once; 0: all */
    /* requests after which a connection is closed, in the middle of the next; 0: never */
    unsigned close_after;
    unsigned connections, requests;
    uint64_t body_bytes, body_sum; /* of all requests */
    enum h2_mode h2_mode;
};

static void *peer_main(void *arg)
{
    struct peer *peer = arg;
    for (;;) {
        int fd = accept(peer->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        peer->connections++;
        peer->serve(peer, fd);
        (void)close(fd);
    }
}

static void peer_start(struct peer *peer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(peer->listener >= 0);
    assert_int_equal(bind(peer->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(peer->listener, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(listen(peer->listener, 16), 0);
    (void)snprintf(peer->url, sizeof(peer->url), "127.0.0.1:%u", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_main, peer), 0);
}

static void peer_stop(struct peer *peer)
{
    (void)shutdown(peer->listener, SHUT_RDWR);
    (void)pthread_join(peer->thread, NULL);
    (void)close(peer->listener);
}

static void take_body(struct peer *peer, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        peer->body_sum = peer->body_sum * 31 + bytes[i];
    peer->body_bytes += size;
}

static bool send_all(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* ---- HTTP/1.1 ---- */

/* Reads one request; false at the end. */
static bool h1_request(struct peer *peer, int fd)
{
    char head[4096];
    size_t len = 0;
    while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0) {
        if (len + 1 >= sizeof(head) || recv(fd, head + len, 1, 0) != 1)
            return false;
        len++;
    }
    head[len] = '\0';
    const char *length = strstr(head, "content-length: ");
    size_t left = length != NULL ? strtoul(length + 16, NULL, 10) : 0;
    while (left > 0) {
        uint8_t bytes[4096];
        ssize_t got = recv(fd, bytes, left < sizeof(bytes) ? left : sizeof(bytes), 0);
        if (got <= 0)
            return false;
        take_body(peer, bytes, (size_t)got);
        left -= (size_t)got;
    }
    peer->requests++;
    return true;
}

static void h1_serve(struct peer *peer, int fd)
{
    for (unsigned served = 0; h1_request(peer, fd); served++) {
        if (peer->close_after != 0 && served == peer->close_after)
            return;
        const char *reply = peer->replies[peer->reply_next++ % peer->reply_count];
        size_t len = strlen(reply);
        size_t step = peer->reply_step != 0 ? peer->reply_step : len;
        for (size_t at = 0; at < len; at += step) {
            if (!send_all(fd, reply + at, len - at < step ? len - at : step))
                return;
        }
        if (strstr(reply, "connection: close") != NULL || strncmp(reply, "HTTP/1.0", 8) == 0)
            return;
    }
}

/* ---- HTTP/2 ---- */

static const char grpc_reply[] = "\0\0\0\0\2\x08\x07";
enum { GRPC_REPLY_BYTES = 7 };

static ssize_t h2_reply_body(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t size,
                             uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)size;
    (void)source;
    (void)user;
    nghttp2_nv trailers[] = {
        {(uint8_t *)(uintptr_t) "grpc-status", (uint8_t *)(uintptr_t) "0", 11, 1, 0}};
    memcpy(out, grpc_reply, GRPC_REPLY_BYTES);
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    (void)nghttp2_submit_trailer(session, stream_id, trailers, 1);
    return GRPC_REPLY_BYTES;
}

static void h2_error(nghttp2_session *session, int32_t stream_id)
{
    nghttp2_nv headers[] = {
        {(uint8_t *)(uintptr_t) ":status", (uint8_t *)(uintptr_t) "200", 7, 3, 0},
        {(uint8_t *)(uintptr_t) "grpc-status", (uint8_t *)(uintptr_t) "8", 11, 1, 0},
        {(uint8_t *)(uintptr_t) "grpc-message", (uint8_t *)(uintptr_t) "too%20much%", 12, 11, 0},
    };
    (void)nghttp2_submit_response(session, stream_id, headers, 3, NULL);
}

static int h2_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct peer *peer = user;
    bool request = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    bool whole = request && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (peer->h2_mode == H2_EARLY_ERROR && frame->hd.type == NGHTTP2_HEADERS)
        h2_error(session, frame->hd.stream_id);
    if (peer->h2_mode == H2_EARLY_ERROR || !whole)
        return 0;
    peer->requests++;
    if (peer->h2_mode == H2_RESET) {
        (void)nghttp2_submit_rst_stream(session, 0, frame->hd.stream_id, NGHTTP2_INTERNAL_ERROR);
    } else if (peer->h2_mode == H2_TRAILERS_ONLY) {
        h2_error(session, frame->hd.stream_id);
    } else {
        nghttp2_nv headers[] = {
            {(uint8_t *)(uintptr_t) ":status", (uint8_t *)(uintptr_t) "200", 7, 3, 0}};
        const nghttp2_data_provider provider = {.read_callback = h2_reply_body};
        (void)nghttp2_submit_response(session, frame->hd.stream_id, headers, 1, &provider);
    }
    return 0;
}

static int h2_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *bytes,
                   size_t len, void *user)
{
    (void)session;
    (void)flags;
    (void)stream_id;
    take_body(user, bytes, len);
    return 0;
}

static bool h2_send(nghttp2_session *session, int fd)
{
    for (;;) {
        const uint8_t *bytes = NULL;
        ssize_t len = nghttp2_session_mem_send(session, &bytes);
        if (len <= 0)
            return len == 0;
        if (!send_all(fd, bytes, (size_t)len))
            return false;
    }
}

static void h2_serve(struct peer *peer, int fd)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_session *session = NULL;
    uint8_t bytes[8192];
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, h2_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, h2_data);
    assert_int_equal(nghttp2_session_server_new(&session, callbacks, peer), 0);
    (void)nghttp2_submit_settings(session, 0, NULL, 0);
    while (h2_send(session, fd)) {
        if (peer->close_after != 0 && peer->requests >= peer->close_after * peer->connections)
            break;
        ssize_t got = recv(fd, bytes, sizeof(bytes), 0);
        if (got <= 0 || nghttp2_session_mem_recv(session, bytes, (size_t)got) != got)
            break;
    }
    nghttp2_session_del(session);
    nghttp2_session_callbacks_del(callbacks);
}

/* ---- the client's side ---- */

struct job {
    struct route route;
    const void *middle; /* pointed at: not copied */
    size_t middle_bytes;
    _Atomic uint64_t checked;
    uint64_t starts[64]; /* start_ns of the first operations */
    char last_reply[64];
};

static int job_prepare(void *state, struct call *call)
{
    const struct job *job = state;
    call->route = &job->route;
    body_reset(&call->body);
    if (job->middle_bytes != 0) {
        buffer_add_lit(&call->body.scratch, "head");
        body_point(&call->body, job->middle, job->middle_bytes);
        buffer_add_lit(&call->body.scratch, "tail");
    }
    return body_finish(&call->body);
}

static uint64_t job_check(void *state, struct call *call)
{
    struct job *job = state;
    (void)atomic_fetch_add(&job->checked, 1);
    if (call->op < sizeof(job->starts) / sizeof(job->starts[0]))
        job->starts[call->op] = call->start_ns;
    (void)snprintf(job->last_reply, sizeof(job->last_reply), "%.*s", (int)call->reply.len,
                   call->reply.len != 0 ? call->reply.ptr : "");
    return 1;
}

struct fixture {
    struct peer peer;
    struct endpoint endpoint;
    struct job job;
    struct run_group group;
    struct run_result *result;
    struct trail trail;
    bool interrupted;
};

static int make(void **state)
{
    struct fixture *fx = calloc(1, sizeof(*fx));
    *state = fx;
    if (fx == NULL)
        return 1;
    fx->result = calloc(1, sizeof(*fx->result));
    fx->peer.serve = h1_serve;
    fx->job.route = (struct route){"PUT", "/v1/x", "application/json"};
    fx->group = (struct run_group){
        .name = "test",
        .endpoint = &fx->endpoint,
        .workload = {job_prepare, job_check, &fx->job},
        .protocol = PROTOCOL_REST,
        .connections = 1,
        .streams = 1,
        .threads = 1,
        .op_max = 10,
        .timeout_s = 30,
        .reply_max = 1 << 20,
    };
    return fx->result == NULL;
}

static int drop(void **state)
{
    struct fixture *fx = *state;
    endpoint_close(&fx->endpoint);
    free(fx->result);
    free(fx);
    return 0;
}

static int go(struct fixture *fx)
{
    const struct endpoint_options options = {.url = fx->peer.url};
    peer_start(&fx->peer);
    assert_int_equal(endpoint_open(&fx->endpoint, &options, &fx->trail), 0);
    int rc = run_groups(&fx->group, 1, NULL, NULL, fx->result, &fx->interrupted, &fx->trail);
    peer_stop(&fx->peer);
    return rc;
}

static const char chunked[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nt: v\r\n\r\n";
static const char not_found[] = "HTTP/1.1 404 Not Found\r\ncontent-length: 47\r\n\r\n"
                                "{\"error\":{\"code\":\"NOT_FOUND\",\"message\":\"gone\"}}";

static void every_framing_of_a_reply_is_read_however_it_is_cut(void **state)
{
    static const char *const replies[] = {
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        chunked,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length:5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
    };
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
        for (size_t step = 1; step < 8; step += 3) {
            struct fixture *fx = *state;
            memset(&fx->peer, 0, sizeof(fx->peer));
            fx->peer.serve = h1_serve;
            fx->peer.replies = &replies[i];
            fx->peer.reply_count = 1;
            fx->peer.reply_step = step;
            fx->group.op_max = 3;
            assert_int_equal(go(fx), 0);
            assert_int_equal(fx->result->tally.op_count, 3);
            assert_int_equal(fx->result->tally.error_count, 0);
            assert_string_equal(fx->job.last_reply, "hello");
            endpoint_close(&fx->endpoint);
        }
    }
}

static void a_large_body_arrives_whole_over_http1(void **state)
{
    static const char *const replies[] = {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"};
    enum { BYTES = 3 << 20 };
    struct fixture *fx = *state;
    uint8_t *middle = calloc(1, BYTES);
    assert_non_null(middle);
    for (size_t i = 0; i < BYTES; i++)
        middle[i] = (uint8_t)(i * 7 + i / 251);
    fx->job.middle = middle;
    fx->job.middle_bytes = BYTES;
    fx->peer.replies = replies;
    fx->peer.reply_count = 1;
    fx->group.op_max = 1;
    assert_int_equal(go(fx), 0);
    struct peer expected = {0};
    take_body(&expected, (const uint8_t *)"head", 4);
    take_body(&expected, middle, BYTES);
    take_body(&expected, (const uint8_t *)"tail", 4);
    assert_int_equal(fx->peer.body_bytes, expected.body_bytes);
    assert_int_equal(fx->peer.body_sum, expected.body_sum);
    free(middle);
}

static void http_errors_are_counted_by_code_with_their_first_message(void **state)
{
    static const char *const replies[] = {
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        not_found,
        "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
    };
    struct fixture *fx = *state;
    fx->peer.replies = replies;
    fx->peer.reply_count = 3;
    fx->group.op_max = 9;
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.op_count, 3);
    assert_int_equal(fx->result->tally.errors[5], 3);
    assert_int_equal(fx->result->tally.errors[14], 3);
    assert_string_equal(fx->result->tally.messages[5], "gone");
    assert_string_equal(fx->result->tally.messages[14], "HTTP status 503");
    assert_int_equal(fx->result->tally.latency.total, 9);
}

static void rubbish_instead_of_http_loses_the_connection_not_the_program(void **state)
{
    static const char *const replies[] = {"SSH-2.0-x\r\n\r\n"};
    struct fixture *fx = *state;
    fx->peer.replies = replies;
    fx->peer.reply_count = 1;
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.op_count, 0);
    assert_int_equal(fx->result->tally.errors[CODE_UNAVAILABLE], 1);
}

static void a_refused_connection_is_an_error_of_the_run(void **state)
{
    struct fixture *fx = *state;
    fx->peer.replies = NULL;
    peer_start(&fx->peer);
    peer_stop(&fx->peer);
    const struct endpoint_options options = {.url = fx->peer.url};
    assert_int_equal(endpoint_open(&fx->endpoint, &options, &fx->trail), 0);
    assert_int_equal(
        run_groups(&fx->group, 1, NULL, NULL, fx->result, &fx->interrupted, &fx->trail),
        PDB_UNAVAILABLE);
    assert_non_null(strstr(fx->trail.text, "refused"));
}

static void with_reconnect_every_request_is_answered_although_connections_break(void **state)
{
    static const char *const replies[] = {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"};
    struct fixture *fx = *state;
    fx->peer.replies = replies;
    fx->peer.reply_count = 1;
    fx->peer.close_after = 3;
    fx->group.reconnect = true;
    fx->group.op_max = 20;
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.op_count, 20);
    assert_true(fx->result->tally.errors[CODE_UNAVAILABLE] > 0);
    assert_int_equal(fx->result->tally.retried, fx->result->tally.errors[CODE_UNAVAILABLE]);
    assert_true(fx->peer.connections > 1);
}

static void without_reconnect_a_broken_connection_ends_the_run_with_an_error(void **state)
{
    static const char *const replies[] = {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"};
    struct fixture *fx = *state;
    fx->peer.replies = replies;
    fx->peer.reply_count = 1;
    fx->peer.close_after = 3;
    fx->group.op_max = 20;
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.op_count, 3);
    assert_int_equal(fx->result->tally.errors[CODE_UNAVAILABLE], 1);
    assert_int_equal(fx->peer.connections, 1);
}

static void
at_a_constant_rate_starts_are_those_of_the_schedule_however_slow_the_server_is(void **state)
{
    static const char *const replies[] = {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"};
    struct fixture *fx = *state;
    fx->peer.replies = replies;
    fx->peer.reply_count = 1;
    fx->group.op_max = 50;
    fx->group.rate = 100000; /* faster than the peer answers: it falls behind */
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.op_count, 50);
    for (unsigned i = 1; i < 50; i++)
        assert_int_equal(fx->job.starts[i] - fx->job.starts[i - 1], 10000);
}

static void a_server_that_never_answers_costs_the_time_limit_and_an_error(void **state)
{
    static const char *const replies[] = {""};
    struct fixture *fx = *state;
    fx->peer.replies = replies;
    fx->peer.reply_count = 1;
    fx->group.op_max = 1;
    fx->group.timeout_s = 0.05;
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.errors[CODE_DEADLINE_EXCEEDED], 1);
    assert_int_equal(fx->result->tally.op_count, 0);
}

static void make_h2(struct fixture *fx, enum h2_mode mode)
{
    fx->peer.serve = h2_serve;
    fx->peer.h2_mode = mode;
    fx->group.protocol = PROTOCOL_GRPC;
    fx->group.streams = 1;
    fx->job.route = (struct route){"POST", "/a.B/C", "application/grpc+proto"};
}

static void a_large_grpc_request_arrives_whole_and_trailers_decide(void **state)
{
    enum { BYTES = 2 << 20 };
    struct fixture *fx = *state;
    uint8_t *middle = calloc(1, BYTES);
    assert_non_null(middle);
    for (size_t i = 0; i < BYTES; i++)
        middle[i] = (uint8_t)(i * 13 + i / 249);
    make_h2(fx, H2_ECHO);
    fx->job.middle = middle;
    fx->job.middle_bytes = BYTES;
    fx->group.op_max = 2;
    assert_int_equal(go(fx), 0);
    struct peer expected = {0};
    for (unsigned i = 0; i < 2; i++) {
        take_body(&expected, (const uint8_t *)"head", 4);
        take_body(&expected, middle, BYTES);
        take_body(&expected, (const uint8_t *)"tail", 4);
    }
    assert_int_equal(fx->peer.body_bytes, expected.body_bytes);
    assert_int_equal(fx->peer.body_sum, expected.body_sum);
    assert_int_equal(fx->result->tally.op_count, 2);
    assert_int_equal(fx->result->tally.reply_bytes, 2 * GRPC_REPLY_BYTES);
    free(middle);
}

static void many_streams_on_one_connection_are_all_answered(void **state)
{
    struct fixture *fx = *state;
    make_h2(fx, H2_ECHO);
    fx->job.middle = "0123456789";
    fx->job.middle_bytes = 10;
    fx->group.streams = 32;
    fx->group.op_max = 2000;
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.op_count, 2000);
    assert_int_equal(fx->peer.requests, 2000);
    assert_int_equal(fx->peer.body_bytes, 2000 * 18);
}

static void a_grpc_error_in_the_headers_has_its_code_and_its_decoded_message(void **state)
{
    struct fixture *fx = *state;
    make_h2(fx, H2_TRAILERS_ONLY);
    fx->job.middle = "x";
    fx->job.middle_bytes = 1;
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.errors[8], 10);
    assert_string_equal(fx->result->tally.messages[8], "too much%");
}

static void an_answer_before_the_request_is_read_ends_the_request_early(void **state)
{
    enum { BYTES = 4 << 20 };
    struct fixture *fx = *state;
    uint8_t *middle = calloc(1, BYTES);
    assert_non_null(middle);
    make_h2(fx, H2_EARLY_ERROR);
    fx->job.middle = middle;
    fx->job.middle_bytes = BYTES;
    fx->group.op_max = 3;
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.errors[8], 3);
    assert_true(fx->peer.body_bytes < 3 * (uint64_t)BYTES);
    free(middle);
}

static void a_reset_stream_is_an_error_of_that_request_only(void **state)
{
    struct fixture *fx = *state;
    make_h2(fx, H2_RESET);
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.errors[CODE_UNAVAILABLE], 10);
    assert_int_equal(fx->peer.connections, 1);
}

static void grpc_requests_are_repeated_on_a_new_connection(void **state)
{
    struct fixture *fx = *state;
    make_h2(fx, H2_ECHO);
    fx->peer.close_after = 5;
    fx->group.reconnect = true;
    fx->group.streams = 4;
    fx->group.op_max = 23;
    assert_int_equal(go(fx), 0);
    assert_int_equal(fx->result->tally.op_count, 23);
    assert_true(fx->peer.connections > 1);
}

static void an_address_must_have_a_host_and_a_port(void **state)
{
    struct fixture *fx = *state;
    static const char *const wrong[] = {"",       "host",        "host:",       ":1",
                                        "host:x", "host:1/path", "host:123456", "[]:1"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const struct endpoint_options options = {.url = wrong[i]};
        trail_reset(&fx->trail);
        assert_int_equal(endpoint_open(&fx->endpoint, &options, &fx->trail), PDB_INVALID_ARGUMENT);
    }
    const struct endpoint_options options = {.url = "http://[::1]:80"};
    assert_int_equal(endpoint_open(&fx->endpoint, &options, &fx->trail), 0);
    assert_string_equal(fx->endpoint.host, "::1");
    assert_string_equal(fx->endpoint.authority, "[::1]:80");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        TEST(every_framing_of_a_reply_is_read_however_it_is_cut),
        TEST(a_large_body_arrives_whole_over_http1),
        TEST(http_errors_are_counted_by_code_with_their_first_message),
        TEST(rubbish_instead_of_http_loses_the_connection_not_the_program),
        TEST(a_refused_connection_is_an_error_of_the_run),
        TEST(with_reconnect_every_request_is_answered_although_connections_break),
        TEST(without_reconnect_a_broken_connection_ends_the_run_with_an_error),
        TEST(at_a_constant_rate_starts_are_those_of_the_schedule_however_slow_the_server_is),
        TEST(a_server_that_never_answers_costs_the_time_limit_and_an_error),
        TEST(a_large_grpc_request_arrives_whole_and_trailers_decide),
        TEST(many_streams_on_one_connection_are_all_answered),
        TEST(a_grpc_error_in_the_headers_has_its_code_and_its_decoded_message),
        TEST(an_answer_before_the_request_is_read_ends_the_request_early),
        TEST(a_reset_stream_is_an_error_of_that_request_only),
        TEST(grpc_requests_are_repeated_on_a_new_connection),
        TEST(an_address_must_have_a_host_and_a_port),
    };
    return cmocka_run_group_tests_name("bench/run", tests, NULL, NULL);
}
