/* log.c: a line is formatted where it is logged, pushed into that thread's ring of bytes, and
 * written by one thread.
 *
 *   thread -> ring (64 KiB, single producer, single consumer) -> writer -> stderr or file
 *
 * A producer never waits: a line that does not fit is dropped and counted. The writer sleeps on a
 * futex; a producer wakes it only when it says that it sleeps, so a burst costs one system call.
 * Both the ring's `tail` and `sleeping` are accessed in sequentially consistent order: either the
 * producer sees "sleeping", or the writer, which looks at all rings once more after saying so, sees
 * the line.
 *
 * A record in the ring is a 32-bit length and the line; it wraps around the end byte by byte. Rings
 * are listed in a fixed array of slots. A thread that detaches closes its ring; the writer frees it
 * when it is empty.
 *
 * This is the one place of base with a thread and with mutable state of the process: a log that had
 * to be handed to every function would be in every signature. Rejected: one ring for all threads
 * (producers would contend), writing from the reactor with O_NONBLOCK (a slow pipe would still cost
 * a system call a line and cut lines in two). */
#include "base/log.h"

#include "base/clock.h"
#include "base/heap.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <proximadb/error.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

enum {
#ifdef PDB_STRESS
    RING_BYTES = 8192,
#else
    RING_BYTES = 64 * 1024, /* a power of two */
#endif
    RING_SLOTS = 1024,
    MESSAGE_MAX = 2048,
    LINE_MAX = 6 * MESSAGE_MAX + 256, /* each byte may become a six-character escape */
    LINES_PER_WINDOW = 10,
    WRITE_CHUNK = 4096, /* PIPE_BUF: after POLLOUT a pipe takes this much without blocking */
    STOP_PATIENCE_MS = 2000,
};

static const uint64_t window_ns = 1000000000;

struct log_ring {
    alignas(64) _Atomic uint64_t head; /* next byte to take; written by the consumer */
    alignas(64) _Atomic uint64_t tail; /* next byte to fill; written by the producer */
    _Atomic bool closed;               /* the producer is gone; the consumer frees the ring */
    unsigned slot;
    alignas(64) char bytes[RING_BYTES];
};

static struct {
    pthread_mutex_t
        lifecycle;        /* start, stop and what may not overlap them; never taken to log a line */
    _Atomic bool running; /* the writer takes what is in the rings */
    _Atomic bool stopping;
    _Atomic uint32_t sleeping; /* the futex word: 1 while the writer sleeps or is about to */
    _Atomic int level;
    _Atomic bool json;
    _Atomic int fd;
    _Atomic uint64_t dropped;
    _Atomic uint64_t
        give_up_ns; /* a stopping writer gives a blocked output up at this time; 0: never */
    _Atomic(struct log_ring *) rings[RING_SLOTS];
    pthread_t writer;
} log_state = {
    .lifecycle = PTHREAD_MUTEX_INITIALIZER,
    .level = LOG_LEVEL_INFO,
    .fd = STDERR_FILENO,
};

static _Thread_local struct log_ring *thread_ring;
static _Thread_local int thread_core = -1;

/* ---- the ring ---- */

static void ring_copy_in(struct log_ring *ring, uint64_t at, const void *bytes, size_t size)
{
    size_t start = at % RING_BYTES, first = size < RING_BYTES - start ? size : RING_BYTES - start;
    memcpy(ring->bytes + start, bytes, first);
    memcpy(ring->bytes, (const char *)bytes + first, size - first);
}

static void ring_copy_out(const struct log_ring *ring, uint64_t at, void *bytes_out, size_t size)
{
    size_t start = at % RING_BYTES, first = size < RING_BYTES - start ? size : RING_BYTES - start;
    memcpy(bytes_out, ring->bytes + start, first);
    memcpy((char *)bytes_out + first, ring->bytes, size - first);
}

static bool ring_push(struct log_ring *ring, const char *line, uint32_t len)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    if (RING_BYTES - (tail - head) < sizeof(len) + len)
        return false;
    ring_copy_in(ring, tail, &len, sizeof(len));
    ring_copy_in(ring, tail + sizeof(len), line, len);
    atomic_store(&ring->tail, tail + sizeof(len) + len);
    return true;
}

/* The next line, or 0. */
static size_t ring_pop(struct log_ring *ring, char line_out[LINE_MAX])
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == atomic_load(&ring->tail))
        return 0;
    uint32_t len = 0;
    ring_copy_out(ring, head, &len, sizeof(len));
    ring_copy_out(ring, head + sizeof(len), line_out, len);
    atomic_store_explicit(&ring->head, head + sizeof(len) + len, memory_order_release);
    return len;
}

static bool ring_has_lines(struct log_ring *ring)
{
    return atomic_load(&ring->tail) != atomic_load_explicit(&ring->head, memory_order_relaxed);
}

/* ---- the output ---- */

/* Waits until the output takes bytes; false once a stopping writer has waited long enough: for all
 * lines together. */
static bool wait_writable(int fd)
{
    for (;;) {
        uint64_t give_up_ns = atomic_load(&log_state.give_up_ns);
        bool late = give_up_ns != 0 && clock_monotonic_ns() > give_up_ns;
        struct pollfd ready = {.fd = fd, .events = POLLOUT};
        if (poll(&ready, 1, late ? 0 : 100) > 0)
            return true; /* also when the other end is gone: write then says so */
        if (late)
            return false;
    }
}

/* From the writer: patient, but not for ever. A line that cannot be written is counted as
 * dropped. */
static void write_patiently(const char *line, size_t len)
{
    int fd = atomic_load(&log_state.fd);
    while (len > 0) {
        if (!wait_writable(fd))
            break;
        ssize_t written = write(fd, line, len < WRITE_CHUNK ? len : WRITE_CHUNK);
        if (written < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (written <= 0)
            break;
        line += written;
        len -= (size_t)written;
    }
    if (len > 0)
        atomic_fetch_add(&log_state.dropped, 1);
}

/* From a thread without a ring. One write, so that lines of several threads stay whole. */
static void write_now(const char *line, size_t len)
{
    int fd = atomic_load(&log_state.fd);
    ssize_t written = 0;
    do {
        written = write(fd, line, len);
    } while (written < 0 && errno == EINTR);
    if (written != (ssize_t)len)
        atomic_fetch_add(&log_state.dropped, 1);
}

/* ---- the writer ---- */

static void ring_retire(struct log_ring *ring)
{
    atomic_store(&log_state.rings[ring->slot], NULL);
    heap_free(NULL, ring);
}

/* True if there was anything to write. At most a ring's worth of each ring a pass, so that none
 * starves another. */
static bool drain_rings(char *line)
{
    bool any = false;
    for (unsigned slot = 0; slot < RING_SLOTS; slot++) {
        struct log_ring *ring = atomic_load_explicit(&log_state.rings[slot], memory_order_acquire);
        if (ring == NULL)
            continue;
        bool closed = atomic_load_explicit(&ring->closed, memory_order_acquire);
        size_t len = 0;
        for (size_t taken = 0; taken < RING_BYTES && (len = ring_pop(ring, line)) != 0;) {
            write_patiently(line, len);
            taken += len;
            any = true;
        }
        if (closed && !ring_has_lines(ring))
            ring_retire(ring);
    }
    return any;
}

static void sleep_until_woken(void)
{
    atomic_store(&log_state.sleeping, 1);
    for (unsigned slot = 0; slot < RING_SLOTS; slot++) {
        struct log_ring *ring = atomic_load(&log_state.rings[slot]);
        if (ring != NULL && (ring_has_lines(ring) || atomic_load(&ring->closed))) {
            atomic_store(&log_state.sleeping, 0);
            return;
        }
    }
    if (atomic_load(&log_state.stopping)) {
        atomic_store(&log_state.sleeping, 0);
        return;
    }
    /* Returns at once if a producer has already cleared the word. */
    (void)syscall(SYS_futex, &log_state.sleeping, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    atomic_store(&log_state.sleeping, 0);
}

static void wake_writer(void)
{
    if (atomic_load(&log_state.sleeping) != 0 && atomic_exchange(&log_state.sleeping, 0) != 0)
        (void)syscall(SYS_futex, &log_state.sleeping, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *writer_main(void *arg)
{
    char line[LINE_MAX];
    while (!atomic_load(&log_state.stopping)) {
        if (!drain_rings(line))
            sleep_until_woken();
    }
    while (drain_rings(line))
        continue;
    return arg;
}

/* ---- life cycle ---- */

static int open_output(const char *path, int *fd_out)
{
    if (path == NULL) {
        *fd_out = STDERR_FILENO;
        return 0;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0)
        return errno == EACCES || errno == EPERM ? PDB_PERMISSION_DENIED : PDB_UNAVAILABLE;
    *fd_out = fd;
    return 0;
}

static void close_output(int fd)
{
    if (fd != STDERR_FILENO)
        (void)close(fd);
}

/* The writer takes no signals: they belong to the program's own threads. */
static int start_writer(void)
{
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return PDB_INTERNAL;
    int failed = pthread_create(&log_state.writer, NULL, writer_main, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0)
        return PDB_RESOURCE_EXHAUSTED;
    (void)pthread_setname_np(log_state.writer, "log");
    return 0;
}

static int start_locked(const struct log_options *options)
{
    if (atomic_load(&log_state.running))
        return PDB_FAILED_PRECONDITION;
    int fd = -1, rc = open_output(options->path, &fd);
    if (rc < 0)
        return rc;
    atomic_store(&log_state.level, (int)options->level);
    atomic_store(&log_state.json, options->json);
    atomic_store(&log_state.fd, fd);
    atomic_store(&log_state.stopping, false);
    atomic_store(&log_state.give_up_ns, 0);
    rc = start_writer();
    if (rc < 0) {
        atomic_store(&log_state.fd, STDERR_FILENO);
        close_output(fd);
        return rc;
    }
    atomic_store(&log_state.running, true);
    return 0;
}

int log_start(const struct log_options *options)
{
    pthread_mutex_lock(&log_state.lifecycle);
    int rc = start_locked(options);
    pthread_mutex_unlock(&log_state.lifecycle);
    return rc;
}

void log_stop(void)
{
    pthread_mutex_lock(&log_state.lifecycle);
    if (atomic_load(&log_state.running)) {
        /* From here on new lines are written at once; what is in the rings goes before them or
         * between them. */
        atomic_store(&log_state.running, false);
        atomic_store(&log_state.give_up_ns,
                     clock_monotonic_ns() + (uint64_t)STOP_PATIENCE_MS * 1000000);
        atomic_store(&log_state.stopping, true);
        wake_writer();
        (void)pthread_join(log_state.writer, NULL);
        char line[LINE_MAX];
        while (drain_rings(line)) /* a line that met the writer's last look */
            continue;
        int fd = atomic_exchange(&log_state.fd, STDERR_FILENO);
        close_output(fd);
    }
    pthread_mutex_unlock(&log_state.lifecycle);
}

int log_thread_attach(int core)
{
    thread_core = core;
    if (thread_ring != NULL)
        return 0;
    struct log_ring *ring = heap_alloc_aligned(NULL, alignof(struct log_ring), sizeof(*ring));
    if (ring == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    atomic_init(&ring->closed, false);
    for (unsigned slot = 0; slot < RING_SLOTS; slot++) {
        struct log_ring *expected = NULL;
        ring->slot = slot;
        if (atomic_compare_exchange_strong(&log_state.rings[slot], &expected, ring)) {
            thread_ring = ring;
            return 0;
        }
    }
    heap_free(NULL, ring);
    return PDB_RESOURCE_EXHAUSTED;
}

void log_thread_detach(void)
{
    struct log_ring *ring = thread_ring;
    thread_ring = NULL;
    thread_core = -1;
    if (ring == NULL)
        return;
    pthread_mutex_lock(&log_state.lifecycle);
    bool writer_owns = atomic_load(&log_state.running);
    if (writer_owns)
        atomic_store(&ring->closed, true);
    pthread_mutex_unlock(&log_state.lifecycle);
    if (writer_owns)
        wake_writer(); /* frees it, maybe before we return */
    else
        ring_retire(ring); /* log_stop has drained it, or nothing was ever queued */
}

uint64_t log_dropped_total(void)
{
    return atomic_load(&log_state.dropped);
}

/* ---- lines ---- */

/* A place in a fixed line; what does not fit is left out. */
struct line {
    char *at, *end;
};

static void line_add(struct line *line, const char *text, size_t len)
{
    size_t room = (size_t)(line->end - line->at);
    len = len < room ? len : room;
    memcpy(line->at, text, len);
    line->at += len;
}

static void line_add_int(struct line *line, int value)
{
    char digits[16];
    int len = snprintf(digits, sizeof(digits), "%d", value);
    line_add(line, digits, len > 0 ? (size_t)len : 0);
}

/* Invalid UTF-8 becomes U+FFFD: a log line must be readable by every JSON parser, whatever it
 * quotes. Lines for people keep quotes as they are; a line end is escaped there too, so that nobody
 * can forge a line. */
static void line_add_escaped(struct line *line, const char *text, size_t len, bool json)
{
    static const char hex[] = "0123456789abcdef";
    size_t valid = utf8_invalid_at(text, len);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (i == valid) {
            line_add(line, "\xef\xbf\xbd", 3);
            valid = i + 1 + utf8_invalid_at(text + i + 1, len - i - 1);
        } else if (json && (c == '"' || c == '\\')) {
            line_add(line, (char[]){'\\', (char)c}, 2);
        } else if (c == '\n') {
            line_add(line, "\\n", 2);
        } else if (c < 0x20 || c == 0x7f) {
            line_add(line, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        } else {
            line_add(line, text + i, 1);
        }
    }
}

static size_t format_line(char line_out[LINE_MAX], enum log_level level, const char *module,
                          const char *message, size_t len)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    const char *name = names[level <= LOG_LEVEL_ERROR ? level : LOG_LEVEL_ERROR];
    struct line line = {line_out, line_out + LINE_MAX - 3}; /* room for the end: "}\n */
    char ts[CLOCK_TEXT_SIZE];
    clock_format_us(clock_realtime_us(), ts);
    bool json = atomic_load_explicit(&log_state.json, memory_order_relaxed);
    if (json) {
        line_add(&line, "{\"ts\":\"", 7);
        line_add(&line, ts, sizeof(ts) - 1);
        line_add(&line, "\",\"level\":\"", 11);
        line_add(&line, name, strlen(name));
        line_add(&line, "\",\"core\":", 9);
        if (thread_core >= 0)
            line_add_int(&line, thread_core);
        else
            line_add(&line, "null", 4);
        line_add(&line, ",\"module\":\"", 11);
        line_add(&line, module, strlen(module));
        line_add(&line, "\",\"msg\":\"", 9);
    } else {
        line_add(&line, ts, sizeof(ts) - 1);
        line_add(&line, " ", 1);
        line_add(&line, name, strlen(name));
        line_add(&line, strlen(name) == 4 ? "  " : " ", strlen(name) == 4 ? 2 : 1);
        if (thread_core >= 0) {
            line_add(&line, "[", 1);
            line_add_int(&line, thread_core);
            line_add(&line, "] ", 2);
        }
        line_add(&line, module, strlen(module));
        line_add(&line, ": ", 2);
    }
    line_add_escaped(&line, message, len, json);
    line.end += 3;
    line_add(&line, json ? "\"}\n" : "\n", json ? 3 : 1);
    return (size_t)(line.at - line_out);
}

static void emit(enum log_level level, const char *module, const char *message, size_t len)
{
    char line[LINE_MAX];
    size_t line_len = format_line(line, level, module, message, len);
    struct log_ring *ring = thread_ring;
    if (ring == NULL || !atomic_load_explicit(&log_state.running, memory_order_acquire)) {
        write_now(line, line_len);
        return;
    }
    if (ring_push(ring, line, (uint32_t)line_len))
        wake_writer();
    else
        atomic_fetch_add_explicit(&log_state.dropped, 1, memory_order_relaxed);
}

/* False when this site has had its lines for this second. When a new second begins, tells what was
 * left out. */
static bool site_admits(struct log_site *site, enum log_level level, const char *module)
{
    uint64_t now = clock_monotonic_ns();
    if (site->window_start_ns == 0 || now - site->window_start_ns >= window_ns) {
        uint32_t left_out = site->left_out;
        *site = (struct log_site){.window_start_ns = now};
        if (left_out != 0) {
            char text[64];
            int len = snprintf(text, sizeof(text), "left out %u lines like the next one", left_out);
            emit(level, module, text, len > 0 ? (size_t)len : 0);
        }
    }
    if (site->in_window == LINES_PER_WINDOW) {
        site->left_out++;
        return false;
    }
    site->in_window++;
    return true;
}

void log_write(struct log_site *site, enum log_level level, const char *module, const char *format,
               ...)
{
    if ((int)level < atomic_load_explicit(&log_state.level, memory_order_relaxed))
        return;
    if (site != NULL && !site_admits(site, level, module))
        return;
    char message[MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (len < 0)
        return;
    emit(level, module, message, (size_t)len < sizeof(message) ? (size_t)len : sizeof(message) - 1);
}
