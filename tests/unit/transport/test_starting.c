/* Tests src/transport/starting.c: who asks before the doors are open. Clients are sockets of this
 * process; every wait is for a byte or an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transport/starting.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTENERS = 2 };

struct fixture {
    struct starting_listener listeners[LISTENERS];
    struct sockaddr_in addresses[LISTENERS];
    struct starting *s;
};

static int open_listener(struct sockaddr_in *address)
{
    socklen_t len = sizeof(*address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)address, len), 0);
    assert_int_equal(listen(fd, 512), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)address, &len), 0);
    return fd;
}

static int set_up(void **state)
{
    static struct fixture f;
    for (int i = 0; i < LISTENERS; i++)
        f.listeners[i] = (struct starting_listener){open_listener(&f.addresses[i]), true};
    assert_int_equal(starting_begin(f.listeners, LISTENERS, &f.s), 0);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    starting_free(f->s);
    for (int i = 0; i < LISTENERS; i++)
        assert_int_equal(close(f->listeners[i].fd), 0);
    return 0;
}

static int dial(const struct fixture *f, int listener)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in *to = &f->addresses[listener];
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)to, sizeof(*to)), 0);
    return fd;
}

static void say(int fd, const char *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* All that comes until the end. */
static const char *hear(int fd)
{
    static char text[8192];
    size_t len = 0;
    ssize_t got;
    while ((got = recv(fd, text + len, sizeof(text) - 1 - len, 0)) > 0)
        len += (size_t)got;
    text[len] = '\0';
    assert_int_equal(close(fd), 0);
    return text;
}

static const char *ask(const struct fixture *f, int listener, const char *request)
{
    int fd = dial(f, listener);
    say(fd, request, strlen(request));
    return hear(fd);
}

static void assert_starts(const char *text, const char *start)
{
    if (strncmp(text, start, strlen(start)) != 0)
        fail_msg("'%s' does not begin with '%s'", text, start);
}

static void assert_ends(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    if (len < end_len || strcmp(text + len - end_len, end) != 0)
        fail_msg("'%s' does not end with '%s'", text, end);
}

static void readiness_tells_how_far_the_recovery_is(void **state)
{
    struct fixture *f = *state;
    const char *answer = ask(f, 0, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_starts(answer, "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n");
    assert_ends(answer, "\r\n\r\n{\"ready\":false,\"reasons\":[\"the server is starting\"]}");
    assert_non_null(strstr(answer, "\r\nretry-after: 1\r\n"));
    assert_non_null(strstr(answer, "\r\nconnection: close\r\n"));
    starting_progress(f->s, &(struct pdb_progress){"replay", 3, 10});
    assert_ends(ask(f, 1, "GET /readyz?x HTTP/1.0\r\n\r\n"),
                "{\"ready\":false,\"reasons\":[\"the server is starting\"],\"recovery\":{\"phase\":"
                "\"replay\",\"done\":3,\"total\":10}}");
    starting_progress(f->s, &(struct pdb_progress){"index", 1, 0});
    const char *health = ask(f, 1, "GET /health HTTP/1.1\r\n\r\n");
    assert_non_null(strstr(health, "{\"status\":\"unavailable\",\"version\":\""));
    assert_ends(health, "\"live\":true,\"ready\":false,\"reasons\":[\"the server is starting\"],"
                        "\"recovery\":{\"phase\":\"index\",\"done\":1,\"total\":0}}");
}

static void a_process_that_recovers_lives(void **state)
{
    struct fixture *f = *state;
    const char *answer = ask(f, 0, "GET /livez HTTP/1.1\r\n\r\n");
    assert_starts(answer, "HTTP/1.1 200 OK\r\n");
    assert_null(strstr(answer, "retry-after"));
    assert_ends(answer, "\r\ncontent-length: 13\r\n\r\n{\"live\":true}");
    assert_ends(ask(f, 0, "HEAD /livez HTTP/1.1\r\n\r\n"), "content-length: 13\r\n\r\n");
}

static void any_other_request_is_unavailable(void **state)
{
    struct fixture *f = *state;
    starting_progress(f->s, &(struct pdb_progress){"replay", 3, 10});
    const char *answer =
        ask(f, 0, "POST /v1/collections HTTP/1.1\r\ncontent-length: 9\r\n\r\n{\"a\":1}\r\n");
    assert_starts(answer, "HTTP/1.1 503 Service Unavailable\r\n");
    assert_ends(answer, "{\"error\":{\"code\":\"UNAVAILABLE\",\"message\":\"the server is starting "
                        "(replay: 3 of 10): try again later\",\"details\":{}}}");
}

static void a_call_id_is_taken_over_or_made(void **state)
{
    struct fixture *f = *state;
    assert_non_null(strstr(ask(f, 0, "GET / HTTP/1.1\r\nX-Request-Id: ab-1\r\n\r\n"),
                           "\r\nx-request-id: ab-1\r\n"));
    const char *made =
        strstr(ask(f, 0, "GET / HTTP/1.1\r\nx-request-id: a b\r\n\r\n"), "\r\nx-request-id: ");
    assert_non_null(made);
    assert_int_equal(strcspn(made + 2, "\r"), strlen("x-request-id: ") + 36);
}

static void a_request_may_come_in_pieces(void **state)
{
    struct fixture *f = *state;
    static const char request[] = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    int fd = dial(f, 0);
    for (size_t i = 0; i < sizeof(request) - 1; i++)
        say(fd, request + i, 1);
    assert_starts(hear(fd), "HTTP/1.1 200 OK\r\n");
}

static void a_head_without_an_end_is_answered_when_it_is_too_long(void **state)
{
    struct fixture *f = *state;
    char request[4096];
    memset(request, 'a', sizeof(request));
    memcpy(request, "GET /livez HTTP/1.1\r\n", 21);
    int fd = dial(f, 0);
    say(fd, request, sizeof(request));
    assert_starts(hear(fd), "HTTP/1.1 200 OK\r\n");
}

static void other_protocols_are_closed_without_a_word(void **state)
{
    struct fixture *f = *state;
    static const char *const first_bytes[] = {"\x16\x03\x01", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                              "PRI"};
    for (size_t i = 0; i < sizeof(first_bytes) / sizeof(first_bytes[0]); i++)
        assert_string_equal(ask(f, 0, first_bytes[i]), "");
}

static void more_clients_than_places_are_all_answered(void **state)
{
    struct fixture *f = *state;
    int fds[150];
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        fds[i] = dial(f, (int)(i % LISTENERS));
        say(fds[i], "GET /livez HTTP/1.1\r\n\r\n", 23);
    }
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        assert_starts(hear(fds[i]), "HTTP/1.1 200 OK\r\n");
}

static void the_end_closes_who_says_nothing_and_leaves_the_rest_to_the_doors(void **state)
{
    struct fixture *f = *state;
    int silent = dial(f, 0), waiting;
    assert_starts(ask(f, 0, "GET /livez HTTP/1.1\r\n\r\n"), "HTTP/1.1 200"); /* both are accepted */
    starting_end(f->s);
    starting_end(f->s);
    assert_string_equal(hear(silent), "");
    waiting = dial(f, 0);
    int accepted = accept(f->listeners[0].fd, NULL, NULL);
    assert_true(accepted >= 0);
    assert_int_equal(close(accepted), 0);
    assert_int_equal(close(waiting), 0);
}

/* Its clients wait in the queue for a door that speaks TLS. */
static void a_listener_without_cleartext_is_left_alone(void **state)
{
    struct fixture *f = *state;
    starting_free(f->s);
    f->listeners[0].cleartext = false;
    assert_int_equal(starting_begin(f->listeners, LISTENERS, &f->s), 0);
    int waiting = dial(f, 0);
    assert_starts(ask(f, 1, "GET /livez HTTP/1.1\r\n\r\n"), "HTTP/1.1 200");
    starting_end(f->s);
    int accepted = accept(f->listeners[0].fd, NULL, NULL);
    assert_true(accepted >= 0);
    assert_int_equal(close(accepted), 0);
    assert_int_equal(close(waiting), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(readiness_tells_how_far_the_recovery_is),
        TEST(a_process_that_recovers_lives),
        TEST(any_other_request_is_unavailable),
        TEST(a_call_id_is_taken_over_or_made),
        TEST(a_request_may_come_in_pieces),
        TEST(a_head_without_an_end_is_answered_when_it_is_too_long),
        TEST(other_protocols_are_closed_without_a_word),
        TEST(more_clients_than_places_are_all_answered),
        TEST(the_end_closes_who_says_nothing_and_leaves_the_rest_to_the_doors),
        TEST(a_listener_without_cleartext_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
