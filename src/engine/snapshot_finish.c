/* snapshot_finish.c: the last steps of a snapshot that was taken or sent to us, on core 0.
 *
 *     SNAPSHOT.tmp: write, sync, rename to SNAPSHOT, sync of the hidden folder
 *     rename of the folder to its name, sync of snapshots/
 *
 * Everything else in the folder is durable before. Until the folder has its name a start removes
 * it. If the last sync fails it is not known what a restart would find: the files stay. */
#include "engine/snapshot_internal.h"

#include "os/failpoint.h"

#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

static const struct file_write_points points = {
    .opened = "snapshot.list_opened",
    .synced = "snapshot.list_synced",
    .durable = "snapshot.list",
    .failing = "snapshot.list_step",
};

void snapshot_finish_dispose(struct snapshot_finish *finish)
{
    task_cancel(&finish->task);
    buffer_dispose(&finish->bytes);
}

static void end(struct snapshot_finish *finish, int rc)
{
    snapshot_finish_dispose(finish);
    finish->done(finish, rc);
}

static void durable(struct snapshot_step *step, int64_t result)
{
    struct snapshot_finish *finish = container_of(step, struct snapshot_finish, step);
    if (result < 0) {
        finish->uncertain = true;
        finish->call->error.outcome_unknown = true;
        end(finish, call_fail(finish->call, PDB_UNAVAILABLE,
                              "snapshot: whether it was made is known after a restart: %s",
                              strerror((int)-result)));
        return;
    }
    FAILPOINT("snapshot.durable");
    end(finish, 0);
}

static void renamed(struct snapshot_step *step, int64_t result)
{
    struct snapshot_finish *finish = container_of(step, struct snapshot_finish, step);
    if (result < 0) {
        end(finish, snapshot_fail_errno(finish->call, result, "cannot be renamed"));
        return;
    }
    FAILPOINT("snapshot.rename");
    snapshot_root(step->path, finish->core->db);
    snapshot_sync_dir(step, finish->core->r->io, durable);
}

static void abandoned(struct file_write *write, int rc)
{
    struct snapshot_finish *finish = container_of(write, struct snapshot_finish, write);
    (void)rc;
    end(finish, snapshot_fail_errno(finish->call, write->error, "SNAPSHOT cannot be written"));
}

static void committed(struct file_write *write, int rc)
{
    struct snapshot_finish *finish = container_of(write, struct snapshot_finish, write);
    struct snapshot_step *step = &finish->step;
    if (rc < 0) {
        file_write_abandon(write, abandoned);
        return;
    }
    (void)snprintf(step->path, sizeof(step->path), "%s", finish->folder);
    snapshot_folder(step->path_to, finish->core->db, finish->image->name);
    snapshot_rename(step, finish->core->r->io, renamed);
}

static void appended(struct file_write *write, int rc)
{
    if (rc < 0)
        file_write_abandon(write, abandoned);
    else
        file_write_commit(write, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, committed);
}

static void opened(struct file_write *write, int rc)
{
    const struct snapshot_finish *finish = container_of(write, struct snapshot_finish, write);
    if (rc < 0)
        file_write_abandon(write, abandoned);
    else
        file_write_append(write, finish->bytes.ptr, finish->bytes.len, appended);
}

static void encode(struct task *task)
{
    struct snapshot_finish *finish = container_of(task, struct snapshot_finish, task);
    while (!snapshot_encode_step(&finish->encoder, &finish->bytes, finish->image)) {
        if (reactor_slice_over(finish->core->r)) {
            task_queue(finish->core->r, task);
            return;
        }
    }
    if (finish->bytes.failed) {
        end(finish, call_no_memory(finish->call));
        return;
    }
    file_write_begin(&finish->write, finish->core->r->io, finish->folder, "SNAPSHOT", &points,
                     opened);
}

void snapshot_finish_start(struct snapshot_finish *finish, struct engine_core *core)
{
    finish->core = core;
    finish->encoder = (struct snapshot_encoder){0};
    finish->uncertain = false;
    buffer_init_heap(&finish->bytes, NULL, SNAPSHOT_LIST_BYTES_MAX);
    finish->task = (struct task){.run = encode, .name = "snapshot.encode"};
    task_queue(core->r, &finish->task);
}
