/* manifest.c: manifests on the disk: finding the one that counts at start, and replacing it.
 *
 *     MANIFEST-<n>.tmp: write, sync, rename to MANIFEST-<n>, sync of the folder (durable: `done`
 *     may now give segments and log back), unlink MANIFEST-<n-1>
 *
 * Every manifest has its own name, so a failed attempt never touches the one before, and there is
 * no second file to say which one counts. What an error behind the rename leaves is not removed:
 * an unlink that is not durable either would only make the question harder. The next save has a
 * higher number and settles it. */
#include "engine/manifest.h"

#include "base/assert.h"
#include "base/container_of.h"
#include "engine/engine_internal.h"
#include "engine/shard_files.h"
#include "os/failpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

/* ---- at start ---- */

static void see_name(void *arg, const char *name)
{
    uint64_t *highest = arg, number;
    if (shard_files_parse(name, &number) == SHARD_FILE_MANIFEST && number > *highest)
        *highest = number;
}

static int read_manifest(struct io *io, const char *path, struct manifest_file *file,
                         struct trail *trail)
{
    int rc = io_read_file(io, path, MANIFEST_BYTES_MAX, &file->bytes, &file->len);
    if (rc == -EFBIG)
        return trail_add(trail, PDB_DATA_LOSS, "larger than a manifest can be");
    if (rc < 0)
        return trail_add(trail, engine_errno_code(rc), "cannot be read: %s", strerror(-rc));
    return manifest_decode(file->bytes, file->len, &file->arena, &file->manifest, trail);
}

int manifest_load(struct io *io, const char *folder, const struct uuid *collection, uint32_t shard,
                  struct manifest_file *file_out, struct trail *trail)
{
    uint64_t highest = 0;
    char path[SHARD_PATH_MAX];
    int rc = io->ops->list_dir(io, folder, see_name, &highest);
    if (rc == -ENOENT || (rc == 0 && highest == 0))
        return PDB_NOT_FOUND;
    if (rc < 0)
        return trail_add(trail, engine_errno_code(rc), "%s: cannot be listed: %s", folder,
                         strerror(-rc));
    shard_files_path(path, folder, SHARD_FILE_MANIFEST, highest);
    struct manifest_file file = {0};
    arena_init(&file.arena, 0);
    rc = read_manifest(io, path, &file, trail);
    const struct manifest *m = &file.manifest;
    if (rc == 0 &&
        (m->number != highest || m->shard != shard || !uuid_equal(&m->collection, collection)))
        rc = trail_add(trail, PDB_DATA_LOSS, "the manifest of another shard or of another number");
    if (rc < 0) {
        manifest_file_dispose(&file);
        return trail_add(trail, rc, "%s", path);
    }
    *file_out = file;
    return 0;
}

void manifest_file_dispose(struct manifest_file *file)
{
    heap_free(NULL, file->bytes);
    arena_dispose(&file->arena);
    *file = (struct manifest_file){0};
}

static int fail_save(uint64_t number, int error, struct trail *trail)
{
    char name[SHARD_NAME_MAX];
    shard_files_name(name, SHARD_FILE_MANIFEST, number);
    int rc = engine_errno_code(error);
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return trail_add_http(trail, rc, 507, "%s: cannot be written: %s", name, strerror(-error));
    return trail_add(trail, rc, "%s: cannot be written: %s", name, strerror(-error));
}

int manifest_save_wait(struct io *io, const char *folder, uint64_t number, const void *bytes,
                       size_t len, struct trail *trail)
{
    char name[SHARD_NAME_MAX];
    shard_files_name(name, SHARD_FILE_MANIFEST, number);
    int rc = io_replace_file(io, folder, name, bytes, len);
    return rc < 0 ? fail_save(number, rc, trail) : 0;
}

/* ---- later: on the loop ---- */

static const struct file_write_points points = {
    .opened = "manifest.opened",
    .written = "manifest.written",
    .synced = "manifest.synced",
    .renamed = "manifest.renamed",
    .durable = "manifest.durable",
    .failing = "manifest.step",
};

static void fail(struct manifest_save *save)
{
    struct trail trail = {0};
    int rc = fail_save(save->number, save->error, &trail);
    save->done(save, rc, &trail);
}

static void abandoned(struct file_write *file, int rc)
{
    (void)rc;
    fail(container_of(file, struct manifest_save, file));
}

static void give_up(struct manifest_save *save, int error)
{
    save->error = error;
    save->uncertain = save->file.naming;
    if (save->uncertain)
        fail(save); /* both names may be there: see above */
    else
        file_write_abandon(&save->file, abandoned);
}

static void remove_next(struct manifest_save *save)
{
    if (save->removing >= save->number) {
        save->done(save, 0, NULL);
        return;
    }
    shard_files_path(save->file.path, save->folder, SHARD_FILE_MANIFEST, save->removing++);
    save->io->ops->unlink(save->io, &save->op, save->file.path);
}

static void removed(struct io_op *op, int64_t result)
{
    (void)result; /* the next start cleans up what stays */
    struct manifest_save *save = container_of(op, struct manifest_save, op);
    FAILPOINT("manifest.removed");
    remove_next(save);
}

static void committed(struct file_write *file, int rc)
{
    struct manifest_save *save = container_of(file, struct manifest_save, file);
    if (rc < 0) {
        give_up(save, rc);
        return;
    }
    save->op = (struct io_op){.done = removed};
    save->removing = save->oldest != 0 ? save->oldest : save->number;
    remove_next(save);
}

static void appended(struct file_write *file, int rc)
{
    struct manifest_save *save = container_of(file, struct manifest_save, file);
    if (rc < 0)
        give_up(save, rc);
    else
        file_write_commit(file, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, committed);
}

static void opened(struct file_write *file, int rc)
{
    struct manifest_save *save = container_of(file, struct manifest_save, file);
    if (rc < 0)
        give_up(save, rc);
    else
        file_write_append(file, save->bytes, save->len, appended);
}

void manifest_save_start(struct manifest_save *save)
{
    char name[SHARD_NAME_MAX];
    ASSERT(save->number > 0 && save->oldest <= save->number && save->len > 0);
    save->uncertain = false;
    save->error = 0;
    shard_files_name(name, SHARD_FILE_MANIFEST, save->number);
    file_write_begin(&save->file, save->io, save->folder, name, &points, opened);
}
