/* starting.c: one thread with poll(2) between binding the ports and opening the doors.
 *
 * It is not the reactors that answer, because recovery keeps them busy, and not h2o, because it
 * belongs to them: a request's head is read up to its empty line, its path chooses one of four
 * small bodies, and the connection ends. Anything but HTTP/1 in cleartext (TLS, HTTP/2) is closed,
 * which every client reads as "not there yet"; a listener that takes nothing but TLS is left alone,
 * so that its clients wait in the queue for the doors.
 *
 * Most starts take milliseconds. So the thread first waits: a client of such a start waits in the
 * queue as well and is served by the doors, instead of being sent away.
 *
 * Limits: 64 clients at a time (more wait in the queues), 4 KiB of head, 2 s each. */
#include "transport/starting.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/uuid.h"
#include "transport/codec/json_responses.h"
#include "transport/exchange.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum { CLIENTS_MAX = 64, HEAD_BYTES = 4096, MOMENT_MS = 200 };
static const uint64_t client_ns = 2000000000u;

struct client {
    int fd;
    bool answered; /* what still comes is read and dropped, or closing would reset the answer */
    size_t len;
    uint64_t ends_ns;
    char head[HEAD_BYTES];
};

struct starting {
    pthread_t thread;
    pthread_mutex_t end_lock; /* of `running` */
    bool running;
    pthread_mutex_t progress_lock;
    struct pdb_progress progress;
    int wake_fd; /* eventfd: written to end the thread */
    /* the thread's */
    struct starting_listener *listeners;
    size_t listener_count;
    struct client *clients; /* CLIENTS_MAX */
    size_t client_count;
    struct pollfd *polled; /* the eventfd, the listeners, the clients */
};

/* ---- answers ---- */

void starting_write_progress(struct buffer *out, const struct pdb_progress *progress)
{
    if (progress->phase == NULL)
        return;
    buffer_add_lit(out, ",\"recovery\":{\"phase\":");
    json_write_string(out, text_of(progress->phase));
    buffer_format(out, ",\"done\":%llu,\"total\":%llu}", (unsigned long long)progress->done,
                  (unsigned long long)progress->total);
}

static void write_unready(struct buffer *out, const struct pdb_progress *progress)
{
    buffer_add_lit(out, "\"ready\":false,\"reasons\":[\"the server is starting\"]");
    starting_write_progress(out, progress);
    buffer_add_byte(out, '}');
}

static void write_refusal(struct buffer *out, const struct pdb_progress *progress)
{
    struct pdb_error error = {.code = PDB_UNAVAILABLE};
    if (progress->phase != NULL)
        (void)snprintf(error.text, sizeof(error.text),
                       "the server is starting (%s: %llu of %llu): try again later",
                       progress->phase, (unsigned long long)progress->done,
                       (unsigned long long)progress->total);
    else
        (void)snprintf(error.text, sizeof(error.text), "the server is starting: try again later");
    json_encode_error(out, &error);
}

/* The body for a path; its status. */
static int write_body(struct buffer *out, struct pdb_text path, const struct pdb_progress *progress)
{
    if (text_equal(path, TEXT_LIT("/livez"))) {
        buffer_add_lit(out, "{\"live\":true}");
        return 200;
    }
    if (text_equal(path, TEXT_LIT("/readyz"))) {
        buffer_add_byte(out, '{');
        write_unready(out, progress);
    } else if (text_equal(path, TEXT_LIT("/health"))) {
        buffer_format(out, "{\"status\":\"unavailable\",\"version\":\"%s\",\"live\":true,",
                      pdb_version());
        write_unready(out, progress);
    } else {
        write_refusal(out, progress);
    }
    return 503;
}

/* The path of the request line, without its query. */
static struct pdb_text path_of(struct pdb_text head)
{
    const char *space = memchr(head.ptr, ' ', head.len);
    if (space == NULL)
        return TEXT_LIT("");
    const char *start = space + 1, *end = head.ptr + head.len, *at = start;
    while (at < end && *at != ' ' && *at != '?' && *at != '\r' && *at != '\n')
        at++;
    return (struct pdb_text){start, (size_t)(at - start)};
}

/* The caller's x-request-id, if it sent a good one, else one of ours. */
static struct pdb_text call_id_of(struct pdb_text head, char made[UUID_TEXT_LEN + 1])
{
    static const char name[] = "\r\nx-request-id:";
    size_t name_len = sizeof(name) - 1;
    for (size_t i = 0; i + name_len < head.len; i++) {
        if (strncasecmp(head.ptr + i, name, name_len) != 0)
            continue;
        size_t start = i + name_len, end;
        while (start < head.len && head.ptr[start] == ' ')
            start++;
        for (end = start; end < head.len && head.ptr[end] != '\r';)
            end++;
        struct pdb_text id = {head.ptr + start, end - start};
        if (exchange_call_id_is_good(id))
            return id;
    }
    struct uuid uuid = {{0}};
    (void)uuid_random(&uuid);
    uuid_format(&uuid, made);
    return (struct pdb_text){made, UUID_TEXT_LEN};
}

static void answer(struct starting *s, struct client *c)
{
    struct buffer body, out;
    char made[UUID_TEXT_LEN + 1];
    struct pdb_text head = {c->head, c->len}, id = call_id_of(head, made);
    (void)pthread_mutex_lock(&s->progress_lock);
    struct pdb_progress progress = s->progress;
    (void)pthread_mutex_unlock(&s->progress_lock);
    buffer_init_heap(&body, NULL, 0);
    buffer_init_heap(&out, NULL, 0);
    int status = write_body(&body, path_of(head), &progress);
    buffer_format(&out,
                  "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nx-request-id: %.*s\r\n%s"
                  "connection: close\r\ncontent-length: %zu\r\n\r\n",
                  status, status == 200 ? "OK" : "Service Unavailable", TEXT_ARG(id),
                  status == 200 ? "" : "retry-after: 1\r\n", body.len);
    if (!text_starts_with(head, TEXT_LIT("HEAD ")))
        buffer_add(&out, body.ptr, body.len);
    /* An empty socket buffer takes a few hundred bytes; a client that gets half is told by its
     * end. */
    if (!body.failed && !out.failed)
        (void)send(c->fd, out.ptr, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(c->fd, SHUT_WR);
    buffer_dispose(&body);
    buffer_dispose(&out);
    c->answered = true;
}

/* ---- clients ---- */

static bool is_other_protocol(const struct client *c)
{
    static const char preface[] = "PRI * HTTP/2"; /* RFC 9113 section 3.4 */
    size_t len = c->len < sizeof(preface) - 1 ? c->len : sizeof(preface) - 1;
    return c->head[0] == 0x16 || (len >= 3 && memcmp(c->head, preface, len) == 0);
}

/* False: this client is over. */
static bool read_client(struct starting *s, struct client *c)
{
    char dropped[1024];
    char *into = c->answered ? dropped : c->head + c->len;
    size_t room = c->answered ? sizeof(dropped) : HEAD_BYTES - c->len;
    ssize_t got = recv(c->fd, into, room, MSG_DONTWAIT);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    if (c->answered)
        return true;
    c->len += (size_t)got;
    if (is_other_protocol(c))
        return false;
    if (c->len == HEAD_BYTES || memmem(c->head, c->len, "\r\n\r\n", 4) != NULL)
        answer(s, c);
    return true;
}

static void accept_clients(struct starting *s, int listener)
{
    while (s->client_count < CLIENTS_MAX) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        struct client *c = &s->clients[s->client_count++];
        c->fd = fd;
        c->answered = false;
        c->len = 0;
        c->ends_ns = clock_monotonic_ns() + client_ns;
    }
}

static void drop_client(struct starting *s, size_t index)
{
    (void)close(s->clients[index].fd);
    s->client_count--;
    if (index != s->client_count)
        memcpy(&s->clients[index], &s->clients[s->client_count], sizeof(s->clients[index]));
}

/* ---- the thread ---- */

/* What to wait for, and how long: milliseconds until the first client's time is over, -1: none. */
static int prepare_poll(struct starting *s)
{
    uint64_t now = clock_monotonic_ns(), first = UINT64_MAX;
    bool room = s->client_count < CLIENTS_MAX;
    s->polled[0] = (struct pollfd){.fd = s->wake_fd, .events = POLLIN};
    for (size_t i = 0; i < s->listener_count; i++)
        s->polled[1 + i] = (struct pollfd){
            .fd = room && s->listeners[i].cleartext ? s->listeners[i].fd : -1, .events = POLLIN};
    for (size_t i = 0; i < s->client_count; i++) {
        s->polled[1 + s->listener_count + i] =
            (struct pollfd){.fd = s->clients[i].fd, .events = POLLIN};
        first = s->clients[i].ends_ns < first ? s->clients[i].ends_ns : first;
    }
    if (first == UINT64_MAX)
        return -1;
    return first <= now ? 0 : (int)((first - now) / 1000000) + 1;
}

/* False: the end. */
static bool turn(struct starting *s)
{
    int wait_ms = prepare_poll(s);
    nfds_t count = 1 + s->listener_count + s->client_count;
    if (poll(s->polled, count, wait_ms) < 0)
        return errno == EINTR;
    if (s->polled[0].revents != 0)
        return false;
    uint64_t now = clock_monotonic_ns();
    const struct pollfd *of_clients = &s->polled[1 + s->listener_count];
    for (size_t i = s->client_count; i-- > 0;) { /* from the end: a dropped one is replaced by it */
        bool stays = of_clients[i].revents == 0 || read_client(s, &s->clients[i]);
        if (!stays || s->clients[i].ends_ns <= now)
            drop_client(s, i);
    }
    /* Who has an answer and has not closed yet gives way to who waits for one. */
    for (size_t i = s->client_count; i-- > 0 && s->client_count == CLIENTS_MAX;)
        if (s->clients[i].answered)
            drop_client(s, i);
    for (size_t i = 0; i < s->listener_count; i++)
        if (s->polled[1 + i].revents != 0)
            accept_clients(s, s->listeners[i].fd);
    return true;
}

static void *run(void *arg)
{
    struct starting *s = arg;
    struct pollfd wake = {.fd = s->wake_fd, .events = POLLIN};
    if (poll(&wake, 1, MOMENT_MS) != 0)
        return NULL;
    while (turn(s))
        continue;
    while (s->client_count != 0)
        drop_client(s, s->client_count - 1);
    return NULL;
}

/* ---- life ---- */

int starting_begin(const struct starting_listener *listeners, size_t count,
                   struct starting **starting_out)
{
    struct starting *s = heap_calloc(NULL, 1, sizeof(*s));
    if (s == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    (void)pthread_mutex_init(&s->end_lock, NULL);
    (void)pthread_mutex_init(&s->progress_lock, NULL);
    s->listeners = heap_calloc(NULL, count, sizeof(*s->listeners));
    s->clients = heap_calloc(NULL, CLIENTS_MAX, sizeof(*s->clients));
    s->polled = heap_calloc(NULL, 1 + count + CLIENTS_MAX, sizeof(*s->polled));
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->listeners == NULL || s->clients == NULL || s->polled == NULL || s->wake_fd < 0) {
        starting_free(s);
        return PDB_RESOURCE_EXHAUSTED;
    }
    memcpy(s->listeners, listeners, count * sizeof(*listeners));
    s->listener_count = count;
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        starting_free(s);
        return PDB_RESOURCE_EXHAUSTED;
    }
    s->running = true;
    *starting_out = s;
    return 0;
}

void starting_progress(struct starting *s, const struct pdb_progress *progress)
{
    (void)pthread_mutex_lock(&s->progress_lock);
    s->progress = *progress;
    (void)pthread_mutex_unlock(&s->progress_lock);
}

void starting_end(struct starting *s)
{
    (void)pthread_mutex_lock(&s->end_lock);
    if (s->running) {
        (void)eventfd_write(s->wake_fd, 1);
        (void)pthread_join(s->thread, NULL);
        s->running = false;
    }
    (void)pthread_mutex_unlock(&s->end_lock);
}

void starting_free(struct starting *s)
{
    if (s == NULL)
        return;
    starting_end(s);
    if (s->wake_fd >= 0)
        (void)close(s->wake_fd);
    heap_free(NULL, s->listeners);
    heap_free(NULL, s->clients);
    heap_free(NULL, s->polled);
    (void)pthread_mutex_destroy(&s->end_lock);
    (void)pthread_mutex_destroy(&s->progress_lock);
    heap_free(NULL, s);
}
