/* grpc_archive.c: DownloadSnapshot and UploadSnapshot: the streams of REST's archives as messages.
 *
 * A message is copied once into a buffer of its own, because its bytes lie in one piece; the next
 * one is made when that one has been handed to the connection. */
#include "transport/archive.h"
#include "transport/grpc/grpc_call.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

enum { MESSAGE_DATA_MAX = 256 << 10, MESSAGE_HEAD_MAX = 32 };

/* ---- out ---- */

struct download {
    struct archive_out out;
    char *message;
    struct pdb_text left; /* of the piece, not sent yet */
    uint64_t total;       /* told in the first message; 0 afterwards */
};

static size_t put_varint(char *to, uint64_t value)
{
    size_t len = 0;
    for (; value >= 0x80; value >>= 7)
        to[len++] = (char)(value | 0x80);
    to[len++] = (char)value;
    return len;
}

/* DownloadSnapshotResponse: data = 1, total_bytes = 2. */
static void send_message(struct download *d)
{
    enum { DATA_TAG = 1 << 3 | PROTOBUF_BYTES, TOTAL_TAG = 2 << 3 | PROTOBUF_VARINT };
    struct exchange *x = d->out.x;
    size_t n = d->left.len < MESSAGE_DATA_MAX ? d->left.len : MESSAGE_DATA_MAX, len = 0;
    d->message[len++] = DATA_TAG;
    len += put_varint(d->message + len, n);
    memcpy(d->message + len, d->left.ptr, n);
    len += n;
    if (d->total != 0) {
        d->message[len++] = TOTAL_TAG;
        len += put_varint(d->message + len, d->total);
        d->total = 0;
    }
    d->left = (struct pdb_text){d->left.ptr + n, d->left.len - n};
    x->ops->grpc_send(x, (struct pdb_text){d->message, len});
}

static void on_opened(struct archive_out *a, uint64_t bytes)
{
    container_of(a, struct download, out)->total = bytes;
    archive_out_next(a);
}

static void on_piece(struct archive_out *a, struct pdb_text piece)
{
    struct download *d = container_of(a, struct download, out);
    d->left = piece;
    send_message(d);
}

static void on_sent(struct exchange *x)
{
    struct download *d = x->handler;
    if (d->left.len != 0)
        send_message(d);
    else
        archive_out_next(&d->out);
}

static void on_out_ended(struct archive_out *a, const struct pdb_error *error)
{
    if (error != NULL)
        grpc_finish_error(a->x, error);
    else
        a->x->ops->grpc_finish(a->x, 0, (struct pdb_text){"", 0});
}

static void on_reader_gone(struct exchange *x)
{
    struct download *d = x->handler;
    archive_out_stop(&d->out);
}

void grpc_download_message(struct exchange *x, struct pdb_text message)
{
    struct trail trail = {0};
    struct protobuf_decoder decoder = {
        .arena = &x->arena, .limits = x->core->limits, .trail = &trail};
    struct pdb_text name;
    struct download *d = arena_new(&x->arena, struct download);
    int rc = protobuf_decode_snapshot_name(&decoder, message, &name);
    if (rc < 0) {
        grpc_finish_trail(x, rc, &trail);
        return;
    }
    if (d != NULL)
        d->message = arena_alloc(&x->arena, MESSAGE_DATA_MAX + MESSAGE_HEAD_MAX);
    if (d == NULL || d->message == NULL) {
        grpc_finish_code(x, PDB_RESOURCE_EXHAUSTED, "no memory for the stream");
        return;
    }
    d->out.x = x;
    d->out.opened = on_opened;
    d->out.piece = on_piece;
    d->out.ended = on_out_ended;
    x->handler = d;
    x->on_gone = on_reader_gone;
    x->on_sent = on_sent;
    archive_out_begin(&d->out, name);
}

/* ---- in ---- */

struct upload {
    struct archive_in in;
    struct pdb_text first; /* data of the first message, until it is written */
};

/* A message with data is consumed when that is written; one without, at once. */
static void on_more(struct archive_in *a)
{
    struct upload *u = container_of(a, struct upload, in);
    struct pdb_text data = u->first;
    u->first = (struct pdb_text){0};
    if (data.len != 0)
        archive_in_piece(a, data);
    else
        a->x->ops->grpc_consumed(a->x);
}

static void on_in_ended(struct archive_in *a, const struct pdb_error *error,
                        const struct pdb_snapshot_info *info)
{
    struct exchange *x = a->x;
    struct protobuf_reply reply;
    struct pdb_text bytes;
    if (error != NULL) {
        grpc_finish_error(x, error);
        return;
    }
    protobuf_reply_open(&reply, &x->arena);
    protobuf_encode_snapshot(&reply, info);
    if (protobuf_writer_finish(&reply.writer, &bytes) < 0) {
        grpc_finish_code(x, PDB_RESOURCE_EXHAUSTED, "no memory for the reply");
        return;
    }
    x->ops->grpc_send(x, bytes);
    x->ops->grpc_finish(x, 0, (struct pdb_text){"", 0});
}

static void on_writer_gone(struct exchange *x)
{
    struct upload *u = x->handler;
    archive_in_stop(&u->in);
}

static void fail_upload(struct upload *u, int code, const char *text)
{
    struct pdb_error error = {.code = code};
    (void)snprintf(error.text, sizeof(error.text), "%s", text);
    archive_in_fail(&u->in, &error);
}

static void begin_upload(struct exchange *x, struct pdb_text name, struct pdb_text data)
{
    struct upload *u = arena_new(&x->arena, struct upload);
    struct pdb_text copy = arena_copy_text(&x->arena, name.ptr, name.len);
    if (u == NULL || copy.ptr == NULL) {
        grpc_finish_code(x, PDB_RESOURCE_EXHAUSTED, "no memory for the stream");
        return;
    }
    u->in.x = x;
    u->in.more = on_more;
    u->in.ended = on_in_ended;
    u->first = data;
    x->handler = u;
    x->on_gone = on_writer_gone;
    archive_in_begin(&u->in, copy);
}

void grpc_upload_message(struct exchange *x, struct pdb_text message)
{
    struct trail trail = {0};
    struct protobuf_decoder decoder = {
        .arena = &x->arena, .limits = x->core->limits, .trail = &trail};
    struct upload *u = x->handler;
    struct pdb_text name, data;
    int rc = protobuf_decode_snapshot_piece(&decoder, message, &name, &data);
    if (u == NULL && rc == 0 && name.len == 0)
        rc = trail_add(&trail, PDB_INVALID_ARGUMENT, "snapshot: the first message must name it");
    if (u == NULL && rc < 0)
        grpc_finish_trail(x, rc, &trail);
    else if (u == NULL)
        begin_upload(x, name, data);
    else if (rc < 0)
        fail_upload(u, rc, trail.text);
    else if (name.len != 0)
        fail_upload(u, PDB_INVALID_ARGUMENT, "snapshot: only the first message names it");
    else if (data.len != 0)
        archive_in_piece(&u->in, data);
    else
        x->ops->grpc_consumed(x);
}

void grpc_upload_half_close(struct exchange *x)
{
    struct upload *u = x->handler;
    if (u == NULL)
        grpc_finish_code(x, PDB_INVALID_ARGUMENT, "snapshot: the first message must name it");
    else
        archive_in_finish(&u->in);
}

void grpc_upload_broken(struct exchange *x, const struct pdb_error *error)
{
    struct upload *u = x->handler;
    archive_in_fail(&u->in, error);
}
