/* file_write.c: one file's way to its name, as steps that the I/O completions walk through.
 *
 *     begin    open <name>.tmp
 *     append   write in pieces of 256 KiB; sync when `sync_every` bytes wait for one
 *     commit   sync, close, rename, sync of the folder (the syncs as asked)
 *     abandon  close, unlink
 *
 * The pieces are small because the kernel's ring copies a buffered write into the page cache on the
 * reactor's own thread when it can (32 MiB would be a stall of 10 ms), and because the threads
 * engine has one thread for the log and for this. A short write is continued; EAGAIN and EINTR are
 * tried again; any other error is kept. There is no preallocation: the size is not known before the
 * last row was seen, and delayed allocation lays a file out well that is written in one go. */
#include "engine/file_write.h"

#include "base/assert.h"
#include "base/container_of.h"
#include "os/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { PIECE_BYTES = 256 << 10 };

enum step {
    OPEN,
    WRITE,
    SYNC_BETWEEN,
    SYNC,
    CLOSE,
    RENAME,
    SYNC_DIR,
    ABANDON_CLOSE,
    ABANDON_UNLINK,
};

static void take_step(struct file_write *w, enum step step);

static void visit(const char *failpoint)
{
    if (failpoint != NULL)
        FAILPOINT(failpoint);
}

static bool must_fail(const char *failpoint)
{
    return failpoint != NULL && FAILPOINT_FAILS(failpoint);
}

static void tell(struct file_write *w, int rc)
{
    w->busy = false;
    w->done(w, rc);
}

static void write_piece(struct file_write *w)
{
    size_t len = w->rest_len < PIECE_BYTES ? w->rest_len : PIECE_BYTES;
    w->io->ops->write(w->io, &w->op, w->file, w->rest, len, w->at, 0);
}

/* `len` bytes were taken. */
static void wrote(struct file_write *w, size_t len)
{
    ASSERT(len <= w->rest_len);
    w->at += len;
    w->bytes = w->at > w->bytes ? w->at : w->bytes;
    w->unsynced += len;
    w->rest += len;
    w->rest_len -= len;
    if (w->sync_every != 0 && w->unsynced >= w->sync_every)
        take_step(w, SYNC_BETWEEN);
    else if (w->rest_len != 0)
        take_step(w, WRITE);
    else
        tell(w, 0);
}

static void after_sync_between(struct file_write *w)
{
    w->unsynced = 0;
    if (w->rest_len != 0)
        take_step(w, WRITE);
    else
        tell(w, 0);
}

/* The step has ended well. */
static void go_on(struct file_write *w, int64_t result)
{
    switch ((enum step)w->step) {
    case OPEN:
        w->file = (int)result;
        visit(w->points->opened);
        tell(w, 0);
        break;
    case WRITE:
        wrote(w, (size_t)result);
        break;
    case SYNC_BETWEEN:
        after_sync_between(w);
        break;
    case SYNC:
        visit(w->points->synced);
        take_step(w, CLOSE);
        break;
    case CLOSE:
        take_step(w, RENAME);
        break;
    case RENAME:
        w->renamed = true;
        visit(w->points->renamed);
        if ((w->flags & FILE_WRITE_SYNC_DIR) != 0)
            take_step(w, SYNC_DIR);
        else
            tell(w, 0);
        break;
    case SYNC_DIR:
        visit(w->points->durable);
        tell(w, 0);
        break;
    case ABANDON_CLOSE:
        take_step(w, ABANDON_UNLINK);
        break;
    case ABANDON_UNLINK:
        tell(w, 0);
        break;
    }
}

static void step_done(struct io_op *op, int64_t result)
{
    struct file_write *w = container_of(op, struct file_write, op);
    if (w->step == CLOSE || w->step == ABANDON_CLOSE)
        w->file = -1; /* whatever the result */
    if (w->step >= ABANDON_CLOSE) {
        go_on(w, 0);
        return;
    }
    if (w->step == WRITE && (result == -EAGAIN || result == -EINTR)) {
        write_piece(w);
        return;
    }
    if (w->step == WRITE && result == 0)
        result = -EIO; /* a disk that takes nothing and does not say why */
    if (must_fail(w->points->failing))
        result = -EIO;
    if (result < 0) {
        w->error = (int)result;
        tell(w, w->error);
        return;
    }
    go_on(w, result);
}

static void take_step(struct file_write *w, enum step step)
{
    const struct io_ops *ops = w->io->ops;
    w->step = step;
    switch (step) {
    case OPEN:
        ops->open(w->io, &w->op, w->temporary, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE);
        break;
    case WRITE:
        write_piece(w);
        break;
    case SYNC_BETWEEN:
    case SYNC:
        ops->sync(w->io, &w->op, w->file);
        break;
    case CLOSE:
    case ABANDON_CLOSE:
        ops->close(w->io, &w->op, w->file);
        break;
    case RENAME:
        w->naming = true;
        ops->rename(w->io, &w->op, w->temporary, w->path);
        break;
    case SYNC_DIR:
        ops->sync_dir(w->io, &w->op, w->directory);
        break;
    case ABANDON_UNLINK:
        ops->unlink(w->io, &w->op, w->renamed ? w->path : w->temporary);
        break;
    }
}

static void start(struct file_write *w, enum step step, file_write_done *done)
{
    ASSERT(!w->busy);
    w->busy = true;
    w->done = done;
    take_step(w, step);
}

void file_write_begin(struct file_write *w, struct io *io, const char *directory, const char *name,
                      const struct file_write_points *points, file_write_done *done)
{
    static const struct file_write_points no_points;
    *w = (struct file_write){
        .op.done = step_done, .io = io, .points = points != NULL ? points : &no_points, .file = -1};
    int len = snprintf(w->directory, sizeof(w->directory), "%s", directory);
    ASSERT(len >= 0 && (size_t)len + strlen(name) + sizeof("/.tmp") <= FILE_WRITE_PATH_MAX);
    (void)snprintf(w->path, sizeof(w->path), "%s/%s", directory, name);
    (void)snprintf(w->temporary, sizeof(w->temporary), "%s/%s.tmp", directory, name);
    start(w, OPEN, done);
}

void file_write_append(struct file_write *w, const void *bytes, size_t len, file_write_done *done)
{
    file_write_at(w, w->bytes, bytes, len, done);
}

void file_write_at(struct file_write *w, uint64_t offset, const void *bytes, size_t len,
                   file_write_done *done)
{
    ASSERT(w->error == 0 && w->file >= 0 && len > 0);
    w->at = offset;
    w->rest = bytes;
    w->rest_len = len;
    start(w, WRITE, done);
}

void file_write_commit(struct file_write *w, unsigned flags, file_write_done *done)
{
    ASSERT(w->error == 0 && w->file >= 0);
    w->flags = flags;
    visit(w->points->written);
    start(w, (flags & FILE_WRITE_SYNC) != 0 ? SYNC : CLOSE, done);
}

void file_write_abandon(struct file_write *w, file_write_done *done)
{
    start(w, w->file >= 0 ? ABANDON_CLOSE : ABANDON_UNLINK, done);
}
