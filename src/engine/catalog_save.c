/* catalog_save.c: one version of the catalog onto the disk, as a table of steps that the I/O
 * completions walk through.
 *
 *   new.tmp: open, write, sync, close, rename to <version>.catalog, sync the directory (a crash
 *       here: the old version)
 *   CURRENT.tmp: open, write, sync, close, rename to CURRENT (a crash from here on: either)
 *   sync the directory (durable: `done`)
 *   rename the version before into archive/, unlink those there that are 16 older, but for those
 *       that somebody needs (never fails the change)
 *
 * An error before CURRENT is renamed changes nothing. From the rename on it is not known which
 * version a restart would find: the save says so, and the catalog takes no further change. */
#include "engine/catalog.h"
#include "os/failpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { ARCHIVE_KEEP = 16, UNLINK_MAX = 32 };

enum save_step {
    NEW_OPEN,
    NEW_WRITE,
    NEW_SYNC,
    NEW_CLOSE,
    NEW_RENAME,
    NEW_SYNC_DIR,
    CURRENT_OPEN,
    CURRENT_WRITE,
    CURRENT_SYNC,
    CURRENT_CLOSE,
    CURRENT_RENAME,
    CURRENT_SYNC_DIR,
    OLD_ARCHIVE,
    OLDEST_UNLINK,
    SAVE_OVER,
};

static void take_step(struct catalog_save *save);

/* One that is older than what is kept, and that nobody needs. */
static bool may_unlink(const struct catalog_save *save)
{
    return *save->oldest + ARCHIVE_KEEP + 1 <= save->version && *save->oldest < save->keep_from &&
           save->unlinked < UNLINK_MAX;
}

static void set_path(char *path, const struct catalog_save *save, const char *name)
{
    (void)snprintf(path, sizeof(save->path), "%.4000s/catalog/%s", save->data_dir, name);
}

static void set_version_path(char *path, const struct catalog_save *save, const char *folder,
                             uint64_t version)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "%s%" PRIu64 ".catalog", folder, version);
    set_path(path, save, name);
}

/* What the step that has just ended left to do of itself: true while it must be continued. */
static bool is_write(unsigned step)
{
    return step == NEW_WRITE || step == CURRENT_WRITE;
}

static void fail(struct catalog_save *save, int64_t result)
{
    static const char *const doing[] = {"open",   "write",          "sync",   "close",
                                        "rename", "sync directory", "open",   "write",
                                        "sync",   "close",          "rename", "sync directory"};
    struct trail trail = {0};
    save->uncertain = save->step >= CURRENT_RENAME;
    int rc = engine_errno_code(result);
    (void)trail_add(&trail, rc, "catalog: %s of version %" PRIu64 ": %s", doing[save->step],
                    save->version, strerror((int)-result));
    if (rc == PDB_RESOURCE_EXHAUSTED)
        trail.http_status = 507;
    save->done(save, rc, &trail);
}

static void closed_after_error(struct io_op *op, int64_t result)
{
    struct catalog_save *save = container_of(op, struct catalog_save, op);
    (void)result;
    fail(save, save->error);
}

/* Closes what the failed step leaves open, then tells. */
static void give_up(struct catalog_save *save, int64_t error)
{
    if (save->file < 0) {
        fail(save, error);
        return;
    }
    save->error = error;
    save->op.done = closed_after_error;
    save->io->ops->close(save->io, &save->op, save->file);
    save->file = -1;
}

static void step_done(struct io_op *op, int64_t result)
{
    struct catalog_save *save = container_of(op, struct catalog_save, op);
    if (FAILPOINT_FAILS("catalog.step"))
        result = -EIO;
    if (save->step == NEW_CLOSE || save->step == CURRENT_CLOSE)
        save->file = -1; /* whatever the result */
    if (result < 0 && save->step < OLD_ARCHIVE) {
        give_up(save, result);
        return;
    }
    if (save->step == NEW_OPEN || save->step == CURRENT_OPEN) {
        save->file = (int)result;
        save->written = 0;
    }
    if (is_write(save->step)) {
        size_t len = save->step == NEW_WRITE ? save->len : strlen(save->current_text);
        save->written += (size_t)result;
        if (result == 0) {
            give_up(save, -EIO);
            return;
        }
        if (save->written < len) {
            take_step(save);
            return;
        }
    }
    if (save->step == OLDEST_UNLINK) {
        ++*save->oldest;
        save->unlinked++;
    } else if (++save->step == OLD_ARCHIVE && save->version == 1) {
        save->step = SAVE_OVER;
    }
    if (save->step == OLDEST_UNLINK && !may_unlink(save))
        save->step = SAVE_OVER;
    if (save->step == SAVE_OVER)
        save->done(save, 0, NULL);
    else
        take_step(save);
}

static void write_rest(struct catalog_save *save, const char *bytes, size_t len)
{
    size_t rest = len - save->written;
    if (rest > (size_t)64 << 20)
        rest = (size_t)64 << 20;
    save->io->ops->write(save->io, &save->op, save->file, bytes + save->written, rest,
                         save->written, 0);
}

static void take_step(struct catalog_save *save)
{
    struct io *io = save->io;
    const struct io_ops *ops = io->ops;
    switch ((enum save_step)save->step) {
    case NEW_OPEN:
    case CURRENT_OPEN:
        set_path(save->path, save, save->step == NEW_OPEN ? "new.tmp" : "CURRENT.tmp");
        ops->open(io, &save->op, save->path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE);
        break;
    case NEW_WRITE:
        write_rest(save, save->bytes, save->len);
        break;
    case CURRENT_WRITE:
        write_rest(save, save->current_text, strlen(save->current_text));
        break;
    case NEW_SYNC:
    case CURRENT_SYNC:
        FAILPOINT("catalog.written");
        ops->sync(io, &save->op, save->file);
        break;
    case NEW_CLOSE:
    case CURRENT_CLOSE:
        ops->close(io, &save->op, save->file);
        break;
    case NEW_RENAME:
        FAILPOINT("catalog.synced");
        set_version_path(save->path_to, save, "", save->version);
        ops->rename(io, &save->op, save->path, save->path_to);
        break;
    case CURRENT_RENAME:
        FAILPOINT("catalog.current");
        set_path(save->path_to, save, "CURRENT");
        ops->rename(io, &save->op, save->path, save->path_to);
        break;
    case NEW_SYNC_DIR:
    case CURRENT_SYNC_DIR:
        FAILPOINT("catalog.renamed");
        (void)snprintf(save->path_to, sizeof(save->path_to), "%.4000s/catalog", save->data_dir);
        ops->sync_dir(io, &save->op, save->path_to);
        break;
    case OLD_ARCHIVE:
        FAILPOINT("catalog.durable");
        set_version_path(save->path, save, "", save->version - 1);
        set_version_path(save->path_to, save, "archive/", save->version - 1);
        ops->rename(io, &save->op, save->path, save->path_to);
        break;
    case OLDEST_UNLINK:
        set_version_path(save->path, save, "archive/", *save->oldest);
        ops->unlink(io, &save->op, save->path);
        break;
    case SAVE_OVER:
        break;
    }
}

void catalog_save_start(struct catalog_save *save)
{
    save->op.done = step_done;
    save->step = NEW_OPEN;
    save->uncertain = false;
    save->file = -1;
    save->written = 0;
    save->unlinked = 0;
    (void)catalog_current_format(save->version, save->current_text);
    take_step(save);
}
