/* grpc_call.c: runs one message: decode, start, encode.
 *
 * Decoding and encoding are steps of about a record each. The first steps run at once, which is all
 * that a small request needs; what is longer goes on as a task that gives way when its slice is
 * over. Between steps the call looks whether its client has left or its time is over; while the
 * engine works, it does. */
#include "transport/grpc/grpc_call.h"

#include "base/clock.h"
#include "base/container_of.h"

#include <stdio.h>

#include "base/no_libc_heap.h"

enum { STEPS_AT_ONCE = 32, BULK_BYTES = 64 << 10 };

static void run(struct grpc_call *c, bool in_task);

/* ---- ends ---- */

static void end_with_code(struct grpc_call *c, int code)
{
    struct pdb_error error = {.code = code, .http_status = c->trail.http_status};
    (void)snprintf(error.text, sizeof(error.text), "%s",
                   c->trail.len != 0 ? c->trail.text : pdb_error_text(code));
    c->ended(c, &error);
}

static void end_encoded(struct grpc_call *c)
{
    if (c->reply.writer.out.failed)
        (void)trail_add(&c->trail, PDB_RESOURCE_EXHAUSTED,
                        "no memory for the reply, or it is larger than 2 GiB: ask for less");
    if (c->trail.code != 0)
        end_with_code(c, c->trail.code);
    else
        c->ended(c, NULL);
}

/* ---- the engine's part ---- */

static void on_done(struct pdb_call *call)
{
    struct grpc_call *c = container_of(call, struct grpc_call, engine.call);
    if (call->error.code != 0 || c->operation->encode == NULL) {
        c->ended(c, call->error.code != 0 ? &call->error : NULL);
        return;
    }
    c->phase = GRPC_ENCODING;
    protobuf_reply_open(&c->reply, c->arena);
    run(c, false);
}

static void start(struct grpc_call *c)
{
    c->phase = GRPC_RUNNING;
    c->operation->start(c);
}

void grpc_call_cancel(struct grpc_call *c)
{
    if (c->phase == GRPC_RUNNING)
        pdb_call_cancel(c->looking_up ? &c->lookup.call : &c->engine.call);
    /* else its task sees it */
}

/* ---- steps ---- */

static bool must_stop(struct grpc_call *c)
{
    if (c->x->gone)
        (void)trail_add(&c->trail, PDB_CANCELLED, "the client left");
    else if (c->deadline_ns != 0 && clock_monotonic_ns() > c->deadline_ns)
        (void)trail_add(&c->trail, PDB_DEADLINE_EXCEEDED, "the deadline passed");
    else
        return false;
    end_with_code(c, c->trail.code);
    return true;
}

static void run(struct grpc_call *c, bool in_task)
{
    struct reactor *r = c->x->core->reactor;
    int (*step)(struct grpc_call * c) =
        c->phase == GRPC_DECODING ? c->operation->decode : c->operation->encode;
    int rc = 0;
    for (unsigned steps = 0; (rc = step(c)) > 0; steps++) {
        bool over = in_task ? reactor_slice_over(r) : steps >= STEPS_AT_ONCE;
        if (!over)
            continue;
        task_queue(r, &c->task);
        return;
    }
    if (rc < 0)
        end_with_code(c, rc);
    else if (c->phase == GRPC_ENCODING)
        end_encoded(c);
    else
        start(c);
}

static void run_task(struct task *task)
{
    struct grpc_call *c = container_of(task, struct grpc_call, task);
    if (!must_stop(c))
        run(c, true);
}

void grpc_call_begin(struct grpc_call *c)
{
    c->task = (struct task){.run = run_task, .name = "grpc", .bulk = c->message.len >= BULK_BYTES};
    c->phase = GRPC_DECODING;
    pdb_call_init(&c->engine.call, c->x->core->db, c->arena, on_done);
    c->engine.call.deadline_ns = c->deadline_ns;
    c->engine.call.batch_name = "records";
    run(c, false);
}
