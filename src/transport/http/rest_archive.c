/* rest_archive.c: snapshots as one stream of bytes: GET and PUT /v1/snapshots/{s}/archive.
 *
 * A body that HTTP/1 brought whole (a later request of a connection, see h1_upload.c) is one piece.
 */
#include "transport/archive.h"
#include "transport/http/rest.h"

#include "base/no_libc_heap.h"

/* ---- out ---- */

struct download {
    struct archive_out out;
    bool begun;
};

static void on_opened(struct archive_out *a, uint64_t bytes)
{
    struct download *d = container_of(a, struct download, out);
    struct exchange_response response = {.status = 200,
                                         .content_type = TEXT_LIT("application/x-tar")};
    d->begun = true;
    rest_begin_pieces(a->x, &response, bytes);
    archive_out_next(a);
}

static void on_piece(struct archive_out *a, struct pdb_text piece)
{
    a->x->ops->respond_piece(a->x, piece);
}

static void on_sent(struct exchange *x)
{
    struct download *d = x->handler_more;
    archive_out_next(&d->out);
}

static void on_out_ended(struct archive_out *a, const struct pdb_error *error)
{
    struct download *d = container_of(a, struct download, out);
    if (d->begun)
        a->x->ops->respond_end(a->x, error == NULL);
    else
        rest_respond_error(a->x, error);
}

static void on_reader_gone(struct exchange *x)
{
    struct download *d = x->handler_more;
    archive_out_stop(&d->out);
}

void rest_snapshot_download(struct rest *r)
{
    struct exchange *x = r->x;
    struct download *d = arena_new(&x->arena, struct download);
    if (d == NULL) {
        rest_fail(r, trail_add(&r->trail, PDB_RESOURCE_EXHAUSTED, "no memory for the request"));
        return;
    }
    d->out.x = x;
    d->out.opened = on_opened;
    d->out.piece = on_piece;
    d->out.ended = on_out_ended;
    x->handler_more = d;
    x->on_gone = on_reader_gone;
    x->on_sent = on_sent;
    archive_out_begin(&d->out, r->snapshot);
}

/* ---- in ---- */

struct upload {
    struct archive_in in;
    struct rest *r;
    bool whole_given; /* of a body that is here whole */
};

static void on_more(struct archive_in *a)
{
    struct upload *u = container_of(a, struct upload, in);
    struct exchange *x = a->x;
    if (x->body_in_pieces) {
        x->ops->body_more(x);
    } else if (!u->whole_given && x->body.len != 0) {
        u->whole_given = true;
        archive_in_piece(a, x->body);
    } else {
        archive_in_finish(a);
    }
}

static void on_in_ended(struct archive_in *a, const struct pdb_error *error,
                        const struct pdb_snapshot_info *info)
{
    struct upload *u = container_of(a, struct upload, in);
    if (error != NULL) {
        rest_respond_error(a->x, error);
        return;
    }
    rest_open_out(u->r);
    json_encode_snapshot(&u->r->out, info);
    rest_reply_json(u->r, 201);
}

static void on_body_piece(struct exchange *x, struct pdb_text piece)
{
    struct upload *u = x->handler_more;
    archive_in_piece(&u->in, piece);
}

static void on_body_end(struct exchange *x)
{
    struct upload *u = x->handler_more;
    archive_in_finish(&u->in);
}

static void on_body_broken(struct exchange *x, const struct pdb_error *error)
{
    struct upload *u = x->handler_more;
    archive_in_fail(&u->in, error);
}

static void on_writer_gone(struct exchange *x)
{
    struct upload *u = x->handler_more;
    archive_in_stop(&u->in);
}

void rest_snapshot_upload(struct rest *r)
{
    static const struct exchange_pieces pieces = {on_body_piece, on_body_end, on_body_broken};
    struct exchange *x = r->x;
    struct upload *u = arena_new(&x->arena, struct upload);
    if (u == NULL) {
        rest_fail(r, trail_add(&r->trail, PDB_RESOURCE_EXHAUSTED, "no memory for the request"));
        return;
    }
    u->r = r;
    u->in.x = x;
    u->in.more = on_more;
    u->in.ended = on_in_ended;
    x->handler_more = u;
    x->on_gone = on_writer_gone;
    x->pieces = &pieces;
    archive_in_begin(&u->in, r->snapshot);
}
