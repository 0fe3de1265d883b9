/* archive.c: see the header. A call's time is limited, not the whole transfer's, unless the client
 * set a deadline of its own: how long an archive takes is the network's business, and who neither
 * reads nor sends is ended by the connection's rules. */
#include "transport/archive.h"

#include "base/clock.h"
#include "base/container_of.h"
#include "transport/transport.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

static void prepare(struct exchange *x, struct pdb_call *call, struct arena *arena,
                    void (*done)(struct pdb_call *call))
{
    arena_reset(arena);
    pdb_call_init(call, x->core->db, arena, done);
    call->deadline_ns =
        x->timeout.len != 0
            ? x->deadline_ns
            : clock_monotonic_ns() + x->core->limits->request_deadline_s * 1000000000ull;
}

static void keep_first(struct pdb_error *kept, const struct pdb_error *error)
{
    if (kept->code == 0)
        *kept = *error;
}

static struct pdb_error client_left(void)
{
    return (struct pdb_error){.code = PDB_CANCELLED, .text = "the client left"};
}

/* ---- out ---- */

static void end_out(struct archive_out *a)
{
    struct arena arena = a->arena;
    pdb_snapshot_read_end(a->reader);
    a->reader = NULL;
    a->ended(a, a->error.code != 0 ? &a->error : NULL); /* `a` may be gone */
    arena_dispose(&arena);
}

static void on_read_begun(struct pdb_call *call)
{
    struct archive_out *a = container_of(call, struct archive_out, engine.call);
    a->calling = false;
    if (call->error.code != 0)
        keep_first(&a->error, &call->error);
    else
        a->reader = a->engine.begin.reader_out;
    if (a->error.code != 0)
        end_out(a);
    else
        a->opened(a, a->engine.begin.bytes_out);
}

void archive_out_begin(struct archive_out *a, struct pdb_text name)
{
    arena_init(&a->arena, 0);
    a->engine.begin = (struct pdb_snapshot_read_begin){.name = name};
    prepare(a->x, &a->engine.call, &a->arena, on_read_begun);
    a->calling = true;
    api_snapshot_read_begin(&a->x->api, &a->engine.begin);
}

static void on_read_next(struct pdb_call *call)
{
    struct archive_out *a = container_of(call, struct archive_out, engine.call);
    a->calling = false;
    if (call->error.code != 0)
        keep_first(&a->error, &call->error);
    if (a->error.code != 0 || a->engine.next.len_out == 0)
        end_out(a);
    else
        a->piece(a, (struct pdb_text){a->engine.next.bytes_out, a->engine.next.len_out});
}

void archive_out_next(struct archive_out *a)
{
    a->engine.next = (struct pdb_snapshot_read_next){.reader = a->reader};
    prepare(a->x, &a->engine.call, &a->arena, on_read_next);
    a->calling = true;
    pdb_snapshot_read_next_start(&a->engine.next);
}

void archive_out_stop(struct archive_out *a)
{
    struct pdb_error error = client_left();
    keep_first(&a->error, &error);
    if (a->calling)
        pdb_call_cancel(&a->engine.call);
    else
        end_out(a);
}

/* ---- in ---- */

static void end_in(struct archive_in *a, const struct pdb_snapshot_info *info)
{
    struct arena arena = a->arena;
    pdb_snapshot_write_abandon(a->writer);
    a->writer = NULL;
    a->ended(a, a->error.code != 0 ? &a->error : NULL, info); /* `a` may be gone */
    arena_dispose(&arena);
}

static void go_on(struct archive_in *a)
{
    if (a->error.code != 0)
        end_in(a, NULL);
    else
        a->more(a);
}

static void on_write_begun(struct pdb_call *call)
{
    struct archive_in *a = container_of(call, struct archive_in, engine.call);
    a->calling = false;
    if (call->error.code != 0)
        keep_first(&a->error, &call->error);
    else
        a->writer = a->engine.begin.writer_out;
    go_on(a);
}

void archive_in_begin(struct archive_in *a, struct pdb_text name)
{
    arena_init(&a->arena, 0);
    a->engine.begin = (struct pdb_snapshot_write_begin){.name = name};
    prepare(a->x, &a->engine.call, &a->arena, on_write_begun);
    a->calling = true;
    api_snapshot_write_begin(&a->x->api, &a->engine.begin);
}

static void on_write_next(struct pdb_call *call)
{
    struct archive_in *a = container_of(call, struct archive_in, engine.call);
    a->calling = false;
    if (call->error.code != 0)
        keep_first(&a->error, &call->error);
    go_on(a);
}

void archive_in_piece(struct archive_in *a, struct pdb_text piece)
{
    a->received += piece.len;
    a->engine.next =
        (struct pdb_snapshot_write_next){.writer = a->writer, .bytes = piece.ptr, .len = piece.len};
    prepare(a->x, &a->engine.call, &a->arena, on_write_next);
    a->calling = true;
    api_snapshot_write_next(&a->x->api, &a->engine.next, a->received);
}

static void on_write_ended(struct pdb_call *call)
{
    struct archive_in *a = container_of(call, struct archive_in, engine.call);
    a->calling = false;
    /* A client that left meanwhile changes nothing about what has become of the archive. */
    a->error = call->error;
    end_in(a, call->error.code == 0 ? &a->engine.end.info_out : NULL);
}

void archive_in_finish(struct archive_in *a)
{
    a->engine.end = (struct pdb_snapshot_write_end){.writer = a->writer};
    a->writer = NULL; /* the call frees it, whatever comes out */
    prepare(a->x, &a->engine.call, &a->arena, on_write_ended);
    a->calling = true;
    pdb_snapshot_write_end_start(&a->engine.end);
}

void archive_in_fail(struct archive_in *a, const struct pdb_error *error)
{
    keep_first(&a->error, error);
    if (a->calling)
        pdb_call_cancel(&a->engine.call);
    else
        end_in(a, NULL);
}

void archive_in_stop(struct archive_in *a)
{
    struct pdb_error error = client_left();
    archive_in_fail(a, &error);
}
