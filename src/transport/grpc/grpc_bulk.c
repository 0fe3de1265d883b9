/* grpc_bulk.c: BulkUpsert: each message of the stream is one batch, atomic by itself.
 *
 * The next message is taken when the last one's write was handed to the engine, so that writes are
 * issued in the order of the messages; up to four are under way, which hides the log's sync behind
 * the network. A message's memory is only lent until it is consumed: a small one is copied into its
 * batch's arena; a large one is worked on in place, and then nothing else is taken meanwhile: its
 * bytes, not the syncs, are what takes the time. The first failure stops the intake; the answer
 * comes when all that was under way has ended. */
#include "base/clock.h"
#include "base/container_of.h"
#include "transport/grpc/grpc_call.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

enum { IN_FLIGHT_MAX = 4, COPY_MAX = 1 << 20 };

struct bulk {
    struct grpc_watcher watcher;
    struct exchange *x;
    struct list batches; /* under way */
    unsigned in_flight;
    bool holding;     /* a message that is not consumed yet */
    bool decoding;    /* its batch is not handed to the engine yet */
    bool in_place;    /* a batch under way points into it */
    bool busy;        /* inside a call that may end batches: decide afterwards */
    bool half_closed; /* the client has sent all */
    uint64_t records, batch_count, next_index;
    struct pdb_error error; /* of the first batch that failed */
    uint64_t error_index;
};

struct bulk_batch {
    struct grpc_call call;
    struct list_link link;
    struct arena arena;
    struct bulk *bulk;
    uint64_t index;
    bool in_place;
};

static struct heap *heap_of(const struct bulk *b)
{
    return &b->x->core->reactor->heap;
}

static void finish(struct bulk *b)
{
    struct exchange *x = b->x;
    list_remove(&b->watcher.link);
    x->on_gone = NULL;
    if (b->error.code != 0) {
        char text[PDB_ERROR_TEXT_MAX];
        (void)snprintf(text, sizeof(text), "%s", b->error.text);
        (void)snprintf(b->error.text, sizeof(b->error.text), "batch %llu: %.*s",
                       (unsigned long long)b->error_index, PDB_ERROR_TEXT_MAX - 32, text);
        grpc_finish_error(x, &b->error);
        return;
    }
    struct protobuf_reply reply;
    struct pdb_text bytes;
    protobuf_reply_open(&reply, &x->arena);
    protobuf_encode_bulk(&reply, b->records, b->batch_count,
                         (clock_monotonic_ns() - x->received_ns) / 1000);
    if (protobuf_writer_finish(&reply.writer, &bytes) < 0) {
        grpc_finish_code(x, PDB_RESOURCE_EXHAUSTED, "no memory for the reply");
        return;
    }
    x->ops->grpc_send(x, bytes);
    x->ops->grpc_finish(x, 0, (struct pdb_text){"", 0});
}

static void fail_stream(struct bulk *b, int code, const char *text)
{
    if (b->error.code != 0)
        return;
    b->error = (struct pdb_error){.code = code};
    (void)snprintf(b->error.text, sizeof(b->error.text), "%s", text);
    b->error_index = b->next_index;
}

/* Decides what comes next. The last thing a caller does with the stream: it may be gone
 * afterwards. */
static void advance(struct bulk *b)
{
    if (b->busy)
        return;
    if (b->x->gone)
        fail_stream(b, PDB_CANCELLED, "the client left");
    if (b->error.code != 0 || b->half_closed) {
        if (b->in_flight == 0)
            finish(b);
        return;
    }
    if (b->holding && !b->decoding && !b->in_place && b->in_flight < IN_FLIGHT_MAX) {
        b->holding = false;
        b->x->ops->grpc_consumed(b->x);
    }
}

static void batch_ended(struct grpc_call *c, const struct pdb_error *error)
{
    struct bulk_batch *batch = container_of(c, struct bulk_batch, call);
    struct bulk *b = batch->bulk;
    if (error == NULL) {
        b->records += c->engine.write.count_out;
        b->batch_count++;
    } else if (b->error.code == 0) {
        b->error = *error;
        b->error_index = batch->index;
    }
    if (c->phase == GRPC_DECODING || c->looking_up)
        b->decoding = false;
    if (batch->in_place)
        b->in_place = false;
    list_remove(&batch->link);
    b->in_flight--;
    arena_dispose(&batch->arena);
    heap_free(heap_of(b), batch);
    advance(b);
}

static void batch_issuing(void *owner)
{
    ((struct bulk *)owner)->busy = true;
}

static void batch_issued(void *owner)
{
    struct bulk *b = owner;
    b->busy = false;
    b->decoding = false;
    advance(b);
}

static void bulk_gone(struct exchange *x)
{
    struct bulk *b = x->handler;
    b->busy = true;
    list_each_safe(link, following, &b->batches)
        grpc_call_cancel(&container_of(link, struct bulk_batch, link)->call);
    b->busy = false;
    advance(b);
}

static void bulk_news(struct grpc_watcher *watcher)
{
    struct bulk *b = container_of(watcher, struct bulk, watcher);
    if (!watcher->x->core->draining || b->half_closed)
        return;
    fail_stream(b, PDB_UNAVAILABLE, "the server is stopping");
    advance(b);
}

static struct bulk *bulk_of(struct exchange *x)
{
    if (x->handler != NULL)
        return x->handler;
    struct bulk *b = arena_new(&x->arena, struct bulk);
    if (b == NULL)
        return NULL;
    b->x = x;
    list_init(&b->batches);
    b->watcher.x = x;
    b->watcher.news = bulk_news;
    list_push_back(&x->core->watchers, &b->watcher.link);
    x->handler = b;
    x->on_gone = bulk_gone;
    return b;
}

/* The batch with its copy of the message, if it is to have one. NULL: no memory. */
static struct bulk_batch *new_batch(struct bulk *b, struct pdb_text message)
{
    struct bulk_batch *batch = heap_calloc(heap_of(b), 1, sizeof(*batch));
    if (batch == NULL)
        return NULL;
    arena_init(&batch->arena, 0);
    batch->in_place = message.len > COPY_MAX;
    batch->call.message =
        batch->in_place ? message : arena_copy_text(&batch->arena, message.ptr, message.len);
    if (batch->call.message.ptr == NULL) {
        arena_dispose(&batch->arena);
        heap_free(heap_of(b), batch);
        return NULL;
    }
    return batch;
}

void grpc_bulk_message(struct exchange *x, struct pdb_text message)
{
    struct bulk *b = bulk_of(x);
    struct bulk_batch *batch = b != NULL ? new_batch(b, message) : NULL;
    if (b == NULL) {
        grpc_finish_code(x, PDB_RESOURCE_EXHAUSTED, "no memory for the stream");
        return;
    }
    b->holding = true;
    if (batch == NULL) {
        fail_stream(b, PDB_RESOURCE_EXHAUSTED, "no memory for the batch");
        advance(b);
        return;
    }
    b->decoding = true;
    b->in_place = batch->in_place;
    b->in_flight++;
    batch->bulk = b;
    batch->index = b->next_index++;
    list_push_back(&b->batches, &batch->link);
    struct grpc_call *c = &batch->call;
    c->x = x;
    c->arena = &batch->arena;
    c->operation = &grpc_bulk_write;
    c->write_kind = PDB_WRITE_UPSERT;
    /* The configured deadline is for a batch, the client's is for the whole stream. */
    c->deadline_ns = x->timeout.len != 0 ? x->deadline_ns
                                         : clock_monotonic_ns() +
                                               x->core->limits->request_deadline_s * 1000000000ull;
    c->ended = batch_ended;
    c->issuing = batch_issuing;
    c->issued = batch_issued;
    c->owner = b;
    grpc_call_begin(c);
}

void grpc_bulk_half_close(struct exchange *x)
{
    struct bulk *b = bulk_of(x);
    if (b == NULL) {
        grpc_finish_code(x, PDB_RESOURCE_EXHAUSTED, "no memory for the stream");
        return;
    }
    b->half_closed = true;
    advance(b);
}

void grpc_bulk_broken(struct exchange *x, const struct pdb_error *error)
{
    struct bulk *b = x->handler;
    fail_stream(b, error->code, error->text);
    advance(b);
}
