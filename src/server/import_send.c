/* import_send.c: a thread a connection; the reader fills batches while they are under way.
 *
 * There are two batches a connection, so memory is bounded and the reader waits when the server is
 * slower. A batch that the server cannot take now (busy, out of memory or disk, starting) or whose
 * answer was lost is sent again with the same request_id: the server carries it out once. One that
 * it refuses is halved until the bad rows are alone, if they are to be left out; else it ends the
 * import, and nothing of it is stored, since a batch is all or nothing. */
#include "server/import_send.h"

#include "base/heap.h"
#include "base/uuid.h"
#include "server/import_encode.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/no_libc_heap.h"

struct import_send {
    struct import_send_options options;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct import_batch *batches;
    unsigned batch_count;
    uint64_t next_number;
    bool ending; /* no more batches come */
    bool failed;
    uint64_t failed_first; /* the first row of the batch that failed */
    struct trail trail;
    struct import_counts counts;
    pthread_t threads[IMPORT_CONNECTIONS_MAX];
    unsigned thread_count;
};

/* ---- one batch ---- */

enum { PATH_BYTES = 512 };

struct sending {
    struct import_send *send;
    struct wire wire;
};

static struct pdb_text bytes_between(const struct import_batch *b, uint32_t from, uint32_t to)
{
    size_t start = b->origins[from].start;
    size_t end = to < b->count ? b->origins[to].start : b->bytes.len;
    return (struct pdb_text){b->bytes.ptr + start, end - start};
}

/* Without a key (no randomness) a repetition writes the same rows again: they have their ids. */
static void make_path(const struct sending *s, char path_out[PATH_BYTES])
{
    char key[UUID_TEXT_LEN + 1] = "";
    struct uuid uuid;
    if (uuid_random(&uuid) == 0)
        uuid_format(&uuid, key);
    (void)snprintf(path_out, PATH_BYTES, "%.400s%s%s", s->send->options.path,
                   key[0] != '\0' ? "?request_id=" : "", key);
}

static void call(struct sending *s, const struct import_batch *b, uint32_t from, uint32_t to,
                 struct wire_reply *reply)
{
    char head[IMPORT_HEAD_MAX], path[PATH_BYTES];
    const struct route route = {"PUT", path, "application/avro"};
    size_t head_len = import_encode_head(head, to - from);
    const struct pdb_text pieces[] = {{head, head_len}, bytes_between(b, from, to), {"", 1}};
    make_path(s, path);
    wire_call_patiently(&s->wire, &route, pieces, 3, TRANSFER_TRIES, reply);
    if (reply->code != CODE_OK)
        return;
    (void)pthread_mutex_lock(&s->send->lock);
    s->send->counts.rows += to - from;
    s->send->counts.request_bytes += pieces[1].len;
    (void)pthread_mutex_unlock(&s->send->lock);
}

/* What is wrong with the rows, and not with the server or the right to write. */
static bool is_about_rows(int code)
{
    return code == -PDB_INVALID_ARGUMENT || code == -PDB_FAILED_PRECONDITION ||
           code == -PDB_OUT_OF_RANGE || code == -PDB_ALREADY_EXISTS;
}

static void leave_out(struct import_send *send, const struct import_batch *b, uint32_t row,
                      const char *why)
{
    (void)fprintf(stderr, "\r%s: %s %llu: %s\n", b->path, b->row_word,
                  (unsigned long long)b->origins[row].row, why);
    import_send_count_bad(send);
}

/* Halves until the refused rows are alone. 0, or the code of another error. */
static int send_halves(struct sending *s, const struct import_batch *b, struct wire_reply *reply)
{
    struct {
        uint32_t from, to;
    } stack[64] = {{0, b->count}};
    int depth = 1;
    while (depth > 0) {
        uint32_t from = stack[--depth].from, to = stack[depth].to;
        call(s, b, from, to, reply);
        if (reply->code == CODE_OK)
            continue;
        if (!is_about_rows(reply->code))
            return reply->code;
        if (to - from == 1) {
            leave_out(s->send, b, from, reply->message);
            continue;
        }
        uint32_t middle = from + (to - from) / 2;
        stack[depth].from = middle;
        stack[depth++].to = to;
        stack[depth].from = from;
        stack[depth++].to = middle;
    }
    return 0;
}

static void fail(struct import_send *send, const struct import_batch *b, int code,
                 const char *message)
{
    (void)pthread_mutex_lock(&send->lock);
    if (!send->failed || b->first < send->failed_first) {
        send->failed = true;
        send->failed_first = b->first;
        trail_reset(&send->trail);
        (void)trail_add(&send->trail, -code, "%s: %ss %llu to %llu: %s", b->path, b->row_word,
                        (unsigned long long)b->origins[0].row,
                        (unsigned long long)b->origins[b->count - 1].row, message);
    }
    (void)pthread_mutex_unlock(&send->lock);
}

static void send_batch(struct sending *s, const struct import_batch *b)
{
    struct wire_reply reply;
    int code = CODE_OK;
    if (s->send->options.go_on) {
        code = send_halves(s, b, &reply);
    } else {
        call(s, b, 0, b->count, &reply);
        code = reply.code;
    }
    if (code != CODE_OK)
        fail(s->send, b, code, reply.message);
}

/* ---- threads ---- */

/* The batch that was filled first; the lock is held. */
static struct import_batch *first_ready(struct import_send *send)
{
    struct import_batch *found = NULL;
    for (unsigned i = 0; i < send->batch_count; i++) {
        struct import_batch *b = &send->batches[i];
        if (b->state == BATCH_READY && (found == NULL || b->number < found->number))
            found = b;
    }
    return found;
}

static void *thread_main(void *arg)
{
    struct import_send *send = arg;
    struct sending s = {.send = send};
    int rc = wire_open(&s.wire, send->options.endpoint, TRANSFER_TIMEOUT_S, 64 << 20);
    (void)pthread_mutex_lock(&send->lock);
    if (rc < 0) {
        send->failed = true;
        (void)trail_add(&send->trail, rc, "no memory for a connection");
    }
    for (;;) {
        struct import_batch *b = send->failed ? NULL : first_ready(send);
        if (b == NULL && (send->ending || send->failed))
            break;
        if (b == NULL) {
            (void)pthread_cond_wait(&send->changed, &send->lock);
            continue;
        }
        b->state = BATCH_SENDING;
        (void)pthread_mutex_unlock(&send->lock);
        send_batch(&s, b);
        (void)pthread_mutex_lock(&send->lock);
        b->state = BATCH_EMPTY;
        (void)pthread_cond_broadcast(&send->changed);
    }
    (void)pthread_cond_broadcast(&send->changed);
    (void)pthread_mutex_unlock(&send->lock);
    wire_close(&s.wire);
    return NULL;
}

static void dispose(struct import_send *send)
{
    for (unsigned i = 0; i < send->batch_count; i++) {
        buffer_dispose(&send->batches[i].bytes);
        heap_free(NULL, send->batches[i].origins);
    }
    heap_free(NULL, send->batches);
    (void)pthread_cond_destroy(&send->changed);
    (void)pthread_mutex_destroy(&send->lock);
    heap_free(NULL, send);
}

static int make_batches(struct import_send *send)
{
    unsigned count = send->options.connections * 2;
    send->batches = heap_calloc(NULL, count, sizeof(*send->batches));
    if (send->batches == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (unsigned i = 0; i < count; i++) {
        struct import_batch *b = &send->batches[i];
        send->batch_count++;
        buffer_init_heap(&b->bytes, NULL, 0);
        b->capacity = send->options.batch_rows;
        b->origins = heap_calloc(NULL, b->capacity, sizeof(*b->origins));
        if (b->origins == NULL)
            return PDB_RESOURCE_EXHAUSTED;
    }
    return 0;
}

int import_send_start(const struct import_send_options *options, struct import_send **send_out,
                      struct trail *trail)
{
    struct import_send *send = heap_calloc(NULL, 1, sizeof(*send));
    if (send == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    send->options = *options;
    pthread_condattr_t attributes; /* waits must not depend on the time of day */
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&send->lock, NULL);
    (void)pthread_cond_init(&send->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    if (make_batches(send) < 0) {
        dispose(send);
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for the batches");
    }
    while (send->thread_count < options->connections &&
           pthread_create(&send->threads[send->thread_count], NULL, thread_main, send) == 0)
        send->thread_count++;
    if (send->thread_count == 0) {
        dispose(send);
        return trail_add(trail, PDB_UNAVAILABLE, "cannot start a thread");
    }
    *send_out = send;
    return 0;
}

/* ---- the reader's side ---- */

struct import_batch *import_send_take(struct import_send *send, unsigned wait_ms)
{
    struct import_batch *found = NULL;
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    until.tv_sec += wait_ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&send->lock);
    while (found == NULL && !send->failed) {
        for (unsigned i = 0; i < send->batch_count && found == NULL; i++)
            if (send->batches[i].state == BATCH_EMPTY)
                found = &send->batches[i];
        if (found == NULL &&
            pthread_cond_timedwait(&send->changed, &send->lock, &until) == ETIMEDOUT)
            break;
    }
    if (found != NULL) {
        found->state = BATCH_FILLING;
        found->number = send->next_number++;
        found->count = 0;
        found->bytes.len = 0;
        found->bytes.failed = false;
    }
    (void)pthread_mutex_unlock(&send->lock);
    return found;
}

void import_send_put(struct import_send *send, struct import_batch *batch)
{
    (void)pthread_mutex_lock(&send->lock);
    batch->state = batch->count != 0 ? BATCH_READY : BATCH_EMPTY;
    (void)pthread_cond_broadcast(&send->changed);
    (void)pthread_mutex_unlock(&send->lock);
}

bool import_send_failed(struct import_send *send)
{
    (void)pthread_mutex_lock(&send->lock);
    bool failed = send->failed;
    (void)pthread_mutex_unlock(&send->lock);
    return failed;
}

void import_send_counts(struct import_send *send, struct import_counts *counts_out)
{
    (void)pthread_mutex_lock(&send->lock);
    *counts_out = send->counts;
    (void)pthread_mutex_unlock(&send->lock);
}

void import_send_count_bad(struct import_send *send)
{
    (void)pthread_mutex_lock(&send->lock);
    send->counts.bad_rows++;
    (void)pthread_mutex_unlock(&send->lock);
}

int import_send_finish(struct import_send *send, bool drop, uint64_t end,
                       struct import_counts *counts_out, uint64_t *stored_out, struct trail *trail)
{
    uint64_t stored = end;
    (void)pthread_mutex_lock(&send->lock);
    send->ending = true;
    for (unsigned i = 0; i < send->batch_count; i++) {
        struct import_batch *b = &send->batches[i];
        if (b->state == BATCH_READY && (drop || send->failed)) {
            b->state = BATCH_EMPTY;
            stored = b->first < stored ? b->first : stored;
        }
    }
    (void)pthread_cond_broadcast(&send->changed);
    (void)pthread_mutex_unlock(&send->lock);
    for (unsigned i = 0; i < send->thread_count; i++)
        (void)pthread_join(send->threads[i], NULL);
    for (unsigned i = 0; i < send->batch_count; i++) /* left when another one failed */
        if (send->batches[i].state == BATCH_READY && send->batches[i].first < stored)
            stored = send->batches[i].first;
    int rc = 0;
    if (send->failed) {
        stored = send->failed_first < stored ? send->failed_first : stored;
        rc = trail_add(trail, send->trail.code, "%s", send->trail.text);
    }
    *counts_out = send->counts;
    *stored_out = stored;
    dispose(send);
    return rc;
}
