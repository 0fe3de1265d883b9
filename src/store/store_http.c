/* store_http.c: one exchange with a server, by libcurl.
 *
 * Handles (with their open connections) wait in a small pool and are taken for one exchange each,
 * so that several workers may call at once. What protects us from a server, and from those who can
 * change a name's address:
 *
 *     - certificates and host names are checked; nothing turns that off
 *     - no redirects, no proxies, no other protocol than the URL's
 *     - every address is looked at before it is connected to: link-local ones never, plain HTTP
 *     only
 *       to this machine unless the URL allows it
 *     - bodies of errors and XML are cut at a limit; HTTP/1.1 only
 *
 * An attempt ends when the call is cancelled, past its deadline, or when no byte moves for the
 * store's stall_ms: libcurl asks us at least once a second. */
#include "store/store_http_internal.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/no_libc_heap.h"

enum {
    POOL_MAX = 8,
    ERROR_BODY_MAX = 16 * 1024,
    PATIENT_STALL_MS = 300000,
    UPLOAD_BUFFER_BYTES = 256 * 1024,
};

struct store_http {
    CURL *idle[POOL_MAX];
    unsigned idle_count;
    struct store_credentials credentials;
    struct timespec credentials_mtime; /* of the file that they came from */
};

/* ---- opening ---- */

static struct timespec credentials_mtime(const struct store *store)
{
    struct stat st;
    bool named = store->url.credentials_path[0] != '\0';
    if (!named || stat(store->url.credentials_path, &st) != 0)
        return (struct timespec){0};
    return st.st_mtim;
}

int store_http_open(struct store *store, struct trail *trail)
{
    struct store_http *http = heap_calloc(&store->heap, 1, sizeof(*http));
    if (http == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    http->credentials_mtime = credentials_mtime(store);
    int rc =
        store_credentials_read(&store->url, store->options.environment, trail, &http->credentials);
    if (rc == 0 && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        rc = trail_add(trail, PDB_RESOURCE_EXHAUSTED, "libcurl does not start");
    if (rc != 0) {
        OPENSSL_cleanse(http, sizeof(*http));
        heap_free(&store->heap, http);
        return rc;
    }
    store->ops = &store_remote_ops;
    store->http = http;
    return 0;
}

void store_http_close(struct store *store)
{
    struct store_http *http = store->http;
    for (unsigned i = 0; i < http->idle_count; i++)
        curl_easy_cleanup(http->idle[i]);
    OPENSSL_cleanse(http, sizeof(*http));
    heap_free(&store->heap, http);
    curl_global_cleanup();
}

/* A copy of the credentials for one attempt. A file that changed is read again; while it cannot be
 * read, the old ones serve. */
static void take_credentials(struct store *store, struct store_credentials *copy_out)
{
    struct store_http *http = store->http;
    (void)pthread_mutex_lock(&store->lock);
    struct timespec mtime = credentials_mtime(store);
    bool changed = mtime.tv_sec != http->credentials_mtime.tv_sec ||
                   mtime.tv_nsec != http->credentials_mtime.tv_nsec;
    if (changed && store_credentials_read(&store->url, store->options.environment, NULL,
                                          &http->credentials) == 0)
        http->credentials_mtime = mtime;
    *copy_out = http->credentials;
    (void)pthread_mutex_unlock(&store->lock);
}

static CURL *take_handle(struct store *store)
{
    CURL *curl = NULL;
    (void)pthread_mutex_lock(&store->lock);
    if (store->http->idle_count != 0)
        curl = store->http->idle[--store->http->idle_count];
    (void)pthread_mutex_unlock(&store->lock);
    return curl != NULL ? curl : curl_easy_init();
}

static void give_handle(struct store *store, CURL *curl)
{
    curl_easy_reset(curl); /* forgets our pointers, keeps the connections */
    (void)pthread_mutex_lock(&store->lock);
    bool room = store->http->idle_count < POOL_MAX;
    if (room)
        store->http->idle[store->http->idle_count++] = curl;
    (void)pthread_mutex_unlock(&store->lock);
    if (!room)
        curl_easy_cleanup(curl);
}

/* ---- an attempt and its callbacks ---- */

struct attempt {
    struct store *store;
    const struct store_call *call;
    const struct store_request *request;
    struct store_answer *answer;
    CURL *curl;
    struct arena arena;
    struct buffer error_body;
    uint64_t sent;
    int stopped;       /* the error with which we ended it */
    curl_off_t moved;  /* bytes in both directions, when we were asked last */
    uint64_t moved_ns; /* when that grew last */
    bool stalled;
    const char *why; /* static; what the trail says of it */
};

static size_t end_with(struct attempt *a, int error, const char *why)
{
    if (a->stopped == 0) {
        a->stopped = error;
        a->why = why;
    }
    return 0;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct attempt *a = arg;
    size_t len = size * count;
    struct pdb_text text = {line, len};
    if (text_starts_with(text, TEXT_LIT("HTTP/"))) { /* a new head, after 1xx too */
        *a->answer = (struct store_answer){0};
        return len;
    }
    const char *colon = memchr(line, ':', len);
    if (colon == NULL)
        return len;
    size_t name_len = (size_t)(colon - line);
    const char *value = colon + 1, *end = line + len;
    while (value != end && (*value == ' ' || *value == '\t'))
        value++;
    while (end != value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
        end--;
    store_answer_header(a->answer, (struct pdb_text){line, name_len},
                        (struct pdb_text){value, (size_t)(end - value)});
    return len;
}

static size_t keep_error_body(struct attempt *a, const char *bytes, size_t len)
{
    size_t room = ERROR_BODY_MAX - a->error_body.len;
    buffer_add(&a->error_body, bytes, len < room ? len : room);
    return len;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct attempt *a = arg;
    const struct store_request *r = a->request;
    size_t len = size * count;
    long status = 0;
    (void)curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status >= 300)
        return keep_error_body(a, bytes, len);
    if (r->ranged && (!a->answer->has_range || a->answer->range_first != r->range_first))
        return end_with(a, PDB_UNAVAILABLE, "the server did not answer with the range asked for");
    if (r->sink != NULL && !store_sink_write(r->sink, bytes, len))
        return end_with(a, store_sink_failure(r->sink, NULL), NULL);
    if (r->text != NULL) {
        buffer_add(r->text, bytes, len);
        if (r->text->failed)
            return end_with(a, PDB_RESOURCE_EXHAUSTED, "an answer that is too large, or no memory");
    }
    return len;
}

static size_t on_send(char *to, size_t size, size_t count, void *arg)
{
    struct attempt *a = arg;
    uint64_t left = a->request->body_len - a->sent;
    size_t room = size * count, len = left < room ? (size_t)left : room;
    if (len == 0)
        return 0;
    int rc =
        store_source_read(a->request->body, a->request->body_at + a->sent, to, len, a->call->trail);
    if (rc != 0) {
        (void)end_with(a, rc, NULL);
        return CURL_READFUNC_ABORT;
    }
    a->sent += len;
    return len;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct attempt *a = arg;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > a->request->body_len)
        return CURL_SEEKFUNC_FAIL;
    a->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* libcurl's own limit for slow transfers averages over seconds; this one counts silence. */
static void check_stall(struct attempt *a, curl_off_t moved)
{
    uint64_t now_ns = clock_monotonic_ns();
    uint64_t limit_ms = a->request->patient ? PATIENT_STALL_MS : a->store->options.stall_ms;
    if (moved != a->moved || a->moved_ns == 0) {
        a->moved = moved;
        a->moved_ns = now_ns;
    }
    a->stalled = now_ns - a->moved_ns >= limit_ms * 1000000;
}

static int on_progress(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all,
                       curl_off_t up)
{
    struct attempt *a = arg;
    (void)down_all;
    (void)up_all;
    if (a->stopped == 0) {
        int rc = store_call_check(a->call);
        if (rc != 0)
            (void)end_with(a, rc, NULL);
    }
    check_stall(a, down + up);
    return a->stopped != 0 || a->stalled;
}

/* The last look at an address, whatever name it came from. */
static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct attempt *a = arg;
    char text[INET6_ADDRSTRLEN + 2] = "", host[INET6_ADDRSTRLEN + 2] = "";
    (void)purpose;
    if (address->family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &address->addr, sizeof(in));
        (void)inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
    } else if (address->family == AF_INET6) {
        /* curl's struct has room for it behind the declared sockaddr. */
        struct sockaddr_in6 in;
        memcpy(&in, (const void *)&address->addr, sizeof(in));
        if (inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof(text)) != NULL)
            (void)snprintf(host, sizeof(host), "[%.45s]", text);
    }
    bool plain_out = a->store->url.http && !a->store->url.allow_http && !store_host_loopback(host);
    if (host[0] == '\0' || store_host_forbidden(host) || plain_out) {
        (void)end_with(a, PDB_INVALID_ARGUMENT, "the host has an address that no store may have");
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ---- setting it up ---- */

static const char *make_url(struct attempt *a, struct store_request *r, const char *sas)
{
    const struct store_url *u = &a->store->url;
    struct buffer b;
    buffer_init_arena(&b, &a->arena, 0);
    buffer_format(&b, "%s://%s", u->http ? "http" : "https", u->host);
    if (u->port != 0)
        buffer_format(&b, ":%u", u->port);
    buffer_add_text(&b, r->path);
    if (r->query_count != 0 || sas[0] != '\0')
        buffer_add_byte(&b, '?');
    store_encode_query(&b, r->query, r->query_count);
    if (r->query_count != 0 && sas[0] != '\0')
        buffer_add_byte(&b, '&');
    buffer_add_text(&b, text_of(sas));
    buffer_add_byte(&b, '\0');
    return b.failed ? NULL : b.ptr;
}

/* NULL: no memory. An empty value is written `name;`, which libcurl turns into `name:`. */
static struct curl_slist *make_headers(struct attempt *a, const struct store_request *r)
{
    struct curl_slist *list = NULL;
    for (unsigned i = 0; i < r->header_count; i++) {
        const struct store_pair *h = &r->headers[i];
        struct pdb_text line =
            h->value.len != 0
                ? arena_format(&a->arena, "%.*s: %.*s", TEXT_ARG(h->name), TEXT_ARG(h->value))
                : arena_format(&a->arena, "%.*s;", TEXT_ARG(h->name));
        struct curl_slist *more = line.ptr != NULL ? curl_slist_append(list, line.ptr) : NULL;
        if (more == NULL) {
            curl_slist_free_all(list);
            return NULL;
        }
        list = more;
    }
    struct curl_slist *more = curl_slist_append(list, "Expect:"); /* no wait for 100 */
    if (more == NULL)
        curl_slist_free_all(list);
    return more;
}

/* Options that cannot fail but for memory: the first failure is kept. */
#define SET(option, value)                                                                         \
    (code = code == CURLE_OK ? curl_easy_setopt(a->curl, (option), (value)) : code)

static CURLcode set_rules(struct attempt *a)
{
    const struct store *s = a->store;
    CURLcode code = CURLE_OK;
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROTOCOLS_STR, s->url.http ? "http" : "https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (s->url.ca_file[0] != '\0')
        SET(CURLOPT_CAINFO, s->url.ca_file);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)s->options.connect_ms);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_USERAGENT, "proximadb/" PDB_VERSION);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_socket);
    SET(CURLOPT_OPENSOCKETDATA, a);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, a);
    return code;
}

static CURLcode set_request(struct attempt *a, const char *url, struct curl_slist *headers)
{
    CURLcode code = CURLE_OK;
    const struct store_request *r = a->request;
    bool head = strcmp(r->method, "HEAD") == 0, get = strcmp(r->method, "GET") == 0;
    SET(CURLOPT_URL, url);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, a);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, a);
    if (head) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (get) {
        SET(CURLOPT_HTTPGET, 1L);
    } else {
        if (strcmp(r->method, "DELETE") != 0) {
            SET(CURLOPT_UPLOAD, 1L);
            SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_len);
            SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BUFFER_BYTES);
            SET(CURLOPT_READFUNCTION, on_send);
            SET(CURLOPT_READDATA, a);
            SET(CURLOPT_SEEKFUNCTION, on_seek);
            SET(CURLOPT_SEEKDATA, a);
        }
        SET(CURLOPT_CUSTOMREQUEST, r->method);
    }
    return code;
}

#undef SET

/* ---- understanding how it ended ---- */

/* "SlowDown" and the like, only of letters and digits: it goes into texts that people read. */
static void set_error_code(struct store_answer *answer, struct pdb_text code)
{
    size_t len = 0;
    for (size_t i = 0; i < code.len && len + 1 < sizeof(answer->error_code); i++) {
        char c = code.ptr[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
            answer->error_code[len++] = c;
    }
    answer->error_code[len] = '\0';
}

static void read_error_body(struct attempt *a)
{
    struct store_xml xml;
    struct pdb_text body = {a->error_body.ptr, a->error_body.len};
    if (a->request->patient && a->answer->status < 300 && a->request->text != NULL) {
        body = (struct pdb_text){a->request->text->ptr, a->request->text->len};
        /* An upload that is put together answers 200 at once, and only then whether it worked. */
        if (body.len == 0 || store_xml_parse(body, false, &a->arena, &xml) != 0)
            return;
        if (text_equal(xml.root, TEXT_LIT("Error")))
            a->answer->status = 500;
    }
    if (a->answer->status < 300 || body.len == 0 || a->answer->error_code[0] != '\0')
        return;
    if (store_xml_parse(body, false, &a->arena, &xml) == 0)
        set_error_code(a->answer, xml.error_code);
}

static enum store_outcome outcome_of(struct attempt *a, CURLcode code)
{
    if (a->stopped != 0)
        return STORE_STOPPED;
    if (code == CURLE_OK) {
        (void)curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &a->answer->status);
        read_error_body(a);
        return STORE_ANSWERED;
    }
    a->why = a->stalled ? "no byte moved for too long" : curl_easy_strerror(code);
    if (code == CURLE_OUT_OF_MEMORY) {
        a->stopped = PDB_RESOURCE_EXHAUSTED;
        return STORE_STOPPED;
    }
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
        code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL) {
        a->stopped = PDB_UNAVAILABLE; /* trying again would not help */
        return STORE_STOPPED;
    }
    long sent_bytes = 0;
    (void)curl_easy_getinfo(a->curl, CURLINFO_REQUEST_SIZE, &sent_bytes);
    return sent_bytes == 0 ? STORE_NOT_SENT : STORE_CUT_OFF;
}

static int sign(struct attempt *a, struct store_request *r, const struct store_credentials *c)
{
    const struct store_url *u = &a->store->url;
    struct pdb_text host =
        u->port != 0 ? arena_format(&a->arena, "%s:%u", u->host, u->port) : text_of(u->host);
    if (!store_request_header(r, "host", host))
        return PDB_RESOURCE_EXHAUSTED;
    return store_dialect_of(a->store)->sign(a->store, c, &a->arena, r);
}

/* OpenSSL writes to sockets without MSG_NOSIGNAL: a peer that closed must not end the process. The
 * signal is blocked in this thread, and taken away if it came meanwhile. */
static CURLcode transfer(CURL *curl)
{
    const struct timespec now = {0};
    sigset_t pipe_only, old, pending;
    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    (void)sigpending(&pending);
    bool was_pending = sigismember(&pending, SIGPIPE) == 1;
    (void)pthread_sigmask(SIG_BLOCK, &pipe_only, &old);
    CURLcode code = curl_easy_perform(curl);
    if (!was_pending)
        (void)sigtimedwait(&pipe_only, NULL, &now);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return code;
}

static enum store_outcome perform(struct attempt *a, struct store_request *r)
{
    struct store_credentials c;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    take_credentials(a->store, &c);
    int rc = sign(a, r, &c);
    bool sas = a->store->url.scheme == STORE_AZ;
    const char *url = rc == 0 ? make_url(a, r, sas ? c.token : "") : NULL;
    OPENSSL_cleanse(&c, sizeof(c));
    if (rc != 0) {
        (void)end_with(a, rc, "the request cannot be signed");
        return STORE_STOPPED;
    }
    struct curl_slist *headers = url != NULL ? make_headers(a, r) : NULL;
    a->curl = take_handle(a->store);
    if (a->curl != NULL && headers != NULL) {
        code = set_rules(a);
        if (code == CURLE_OK)
            code = set_request(a, url, headers);
        if (code == CURLE_OK)
            code = transfer(a->curl);
    }
    enum store_outcome outcome = outcome_of(a, code);
    curl_slist_free_all(headers);
    if (a->curl != NULL)
        give_handle(a->store, a->curl);
    return outcome;
}

int store_http_once(struct store *store, const struct store_call *call,
                    const struct store_request *request, struct store_answer *answer_out,
                    enum store_outcome *outcome_out, const char **why_out)
{
    struct attempt a = {.store = store, .call = call, .request = request, .answer = answer_out};
    struct store_request signed_request = *request;
    *answer_out = (struct store_answer){0};
    store_arena_init(store, &a.arena);
    buffer_init_arena(&a.error_body, &a.arena, 0);
    *outcome_out = perform(&a, &signed_request);
    *why_out = a.why != NULL ? a.why : "";
    arena_dispose(&a.arena);
    if (*outcome_out != STORE_STOPPED)
        return 0;
    if (a.why != NULL)
        return trail_add(call->trail, a.stopped, "%s", a.why);
    if (request->sink != NULL && (request->sink->error != 0 || request->sink->full))
        return store_sink_failure(request->sink, call->trail);
    return a.stopped; /* whoever stopped it has told the trail */
}
