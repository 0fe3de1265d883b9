/* snapshot_create.c: core 0's side of taking a snapshot.
 *
 *     home -> core 0: its turn comes; the hidden folder is made
 *          -> owner of each collection, one after the other: snapshot_take.c
 *          -> core 0: the list, the name (snapshot_finish.c) -> home
 *
 * Which collections there are is what the caller's core knew when the call began. */
#include "base/assert.h"
#include "base/text.h"
#include "engine/snapshot_internal.h"
#include "engine/validate.h"
#include "os/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

static struct pdb_snapshot_create *request_of(const struct snapshot_create *create)
{
    return container_of(create->base.call, struct pdb_snapshot_create, call);
}

struct snapshot_create *snapshot_create_of(struct pdb_call *call)
{
    return call_state(call)->work;
}

static void dispose(struct snapshot_op *op)
{
    struct snapshot_create *create = container_of(op, struct snapshot_create, base);
    snapshot_taking_free(create->taking);
    snapshot_finish_dispose(&create->finish);
    snapshot_let_go(op->all, create->image);
    heap_free(NULL, create);
}

/* ---- the end ---- */

static void removed(struct snapshot_remove *remove)
{
    struct snapshot_create *create = container_of(remove, struct snapshot_create, remove);
    snapshot_op_over(&create->base);
}

/* The error is told. */
static void undo(struct snapshot_create *create)
{
    if (!create->folder_made) {
        snapshot_op_over(&create->base);
        return;
    }
    create->remove.image = create->image;
    create->remove.folder = create->folder;
    snapshot_remove_start(&create->remove, create->base.all->core->r->io, removed);
}

static void tell(struct pdb_call *call)
{
    struct snapshot_create *create = snapshot_create_of(call);
    if (!snapshot_fill_more(&create->filling)) {
        call_again(call);
        return;
    }
    request_of(create)->info_out = create->filling.info;
    snapshot_op_over(&create->base);
}

static void finished(struct snapshot_finish *finish, int rc)
{
    struct snapshot_create *create = container_of(finish, struct snapshot_create, finish);
    if (finish->uncertain) {
        snapshot_op_over(&create->base);
        return;
    }
    if (rc < 0) {
        undo(create);
        return;
    }
    struct snapshot_image *image = create->image;
    snapshot_insert(create->base.all, image);
    create->image = NULL;
    if (snapshot_fill_begin(&create->filling, create->base.call, image) < 0)
        snapshot_op_over(&create->base);
    else
        call_run(create->base.call, tell);
}

static void hand_over(struct snapshot_create *create)
{
    struct snapshot_handover *to = request_of(create)->handover;
    struct engine_core *core = create->base.all->core;
    to->image = create->image;
    create->image = NULL;
    memcpy(to->folder, create->folder, sizeof(to->folder));
    to->ended_us = core->r->io->ops->realtime_us(core->r->io);
    to->catalog_version = catalog_newest(core->master)->version;
    snapshot_op_over(&create->base);
}

/* ---- one collection after the other ---- */

static void take_next(struct snapshot_create *create)
{
    if (create->base.call->error.code != 0) {
        undo(create);
    } else if (create->next == create->count && request_of(create)->handover != NULL) {
        hand_over(create);
    } else if (create->next == create->count) {
        create->finish.image = create->image;
        create->finish.folder = create->folder;
        create->finish.call = create->base.call;
        create->finish.done = finished;
        snapshot_finish_start(&create->finish, create->base.all->core);
    } else {
        snapshot_take_start(create);
    }
}

void snapshot_create_taken(struct pdb_call *call)
{
    struct snapshot_create *create = snapshot_create_of(call);
    create->next++;
    take_next(create);
}

static void folder_made(struct snapshot_step *step, int64_t result)
{
    struct snapshot_create *create = container_of(step, struct snapshot_create, step);
    if (result < 0) {
        (void)snapshot_fail_errno(create->base.call, result, "its folder cannot be made");
        undo(create);
        return;
    }
    FAILPOINT("snapshot.folder");
    create->folder_made = true;
    take_next(create);
}

/* ---- the beginning ---- */

static int make_image(struct snapshot_create *create)
{
    const struct pdb_snapshot_create *request = request_of(create);
    struct snapshot_image *image = snapshot_image_new(request->name);
    create->image = image;
    if (image != NULL)
        image->parts = arena_array(&image->arena, struct snapshot_part, create->count);
    if (image == NULL || image->parts == NULL)
        return call_no_memory(create->base.call);
    image->created_at_us = call_state(create->base.call)->now_us;
    image->scheduled = request->scheduled;
    return 0;
}

static void run(struct snapshot_op *op)
{
    struct snapshot_create *create = container_of(op, struct snapshot_create, base);
    struct pdb_call *call = op->call;
    struct pdb_text name = request_of(create)->name;
    if (snapshot_name_taken(op->all, name))
        (void)call_fail(call, PDB_ALREADY_EXISTS, "snapshot '%.*s' already exists",
                        CALL_TEXT(name));
    if (call->error.code != 0 || call_stopped(call) || make_image(create) < 0) {
        snapshot_op_over(op);
        return;
    }
    snapshot_hidden_folder(create->folder, op->all->core, name, "tmp");
    (void)snprintf(create->step.path, sizeof(create->step.path), "%s", create->folder);
    snapshot_make_dir(&create->step, op->all->core->r->io, folder_made);
}

static void create_at_core0(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct snapshot_create *create = heap_calloc(NULL, 1, sizeof(*create));
    if (create == NULL) {
        (void)call_no_memory(call);
        call_return(call);
        return;
    }
    create->base = (struct snapshot_op){.call = call, .run = run, .dispose = dispose};
    unsigned kind =
        request_of(create)->scheduled ? METRICS_SNAPSHOT_SCHEDULED : METRICS_SNAPSHOT_ASKED;
    if (request_of(create)->handover == NULL) {
        create->base.results = METRICS_SNAPSHOTS_TAKEN_AT + METRICS_PLACE(RESULT, kind, 0);
        create->base.duration = METRICS_SNAPSHOT_IN + 1;
    }
    create->single = s->entry != NULL;
    create->count = create->single ? 1 : s->catalog->count;
    if (create->single) {
        create->first = catalog_after(s->catalog, s->entry->config.name) - 1;
        ASSERT(s->catalog->entries[create->first] == s->entry);
    }
    s->work = create;
    snapshot_op_queue(s->here, &create->base);
}

/* The name, and what is to be taken. */
static int resolve(struct pdb_snapshot_create *c)
{
    struct pdb_call *call = &c->call;
    struct call_state *s = call_state(call);
    struct trail trail = {0};
    if (c->name.len == 0)
        c->name = snapshot_time_name(call->arena, s->now_us);
    if (c->name.ptr == NULL)
        return call_no_memory(call);
    int rc = validate_collection_name(c->name, &trail);
    if (rc < 0)
        return call_fail_trail(call, rc, &trail);
    if (c->collection.len != 0)
        return call_resolve(call, c->collection);
    s->catalog = s->here->catalog;
    catalog_hold(s->here, s->catalog);
    return 0;
}

void pdb_snapshot_create_start(struct pdb_snapshot_create *c)
{
    struct pdb_call *call = &c->call;
    if (!call_begin(call))
        return;
    if (resolve(c) < 0) {
        call_return(call);
        return;
    }
    call_state(call)->touring = true;
    (void)call_send(call, 0, create_at_core0);
}
