/* shard_remove.c: the beginning of a shard's folder, and giving back its files, on the loop.
 *
 * Removing is never made durable: whatever comes back after a loss of power is named by no manifest
 * or belongs to a dropped collection, and the next start removes it again. Files go one after the
 * other, because freeing the blocks of a large one keeps the disk busy while searches read it. */
#include "engine/shard_files.h"

#include "base/assert.h"
#include "base/container_of.h"
#include "engine/engine_internal.h"
#include "os/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

/* ---- witnesses ---- */

enum { WITNESS_FOLDER, WITNESS_OPEN, WITNESS_CLOSE };

static void witness_path(struct shard_witness *witness)
{
    char text[UUID_TEXT_LEN + 1];
    uuid_format(witness->collection, text);
    shard_witness_path(witness->path, witness->data_dir, text);
}

static void witness_step_done(struct io_op *op, int64_t result)
{
    struct shard_witness *witness = container_of(op, struct shard_witness, op);
    if (witness->step == WITNESS_FOLDER) {
        witness->step = WITNESS_OPEN;
        witness_path(witness);
        witness->io->ops->open(witness->io, op, witness->path, IO_OPEN_WRITE | IO_OPEN_CREATE);
    } else if (witness->step == WITNESS_OPEN && result >= 0) {
        witness->step = WITNESS_CLOSE;
        witness->io->ops->close(witness->io, op, (int)result);
    } else {
        witness->done(witness);
    }
}

void shard_witness_start(struct shard_witness *witness)
{
    witness->op = (struct io_op){.done = witness_step_done};
    witness->step = WITNESS_FOLDER;
    witness_path(witness);
    *strrchr(witness->path, '/') = '\0';
    witness->io->ops->make_dir(witness->io, &witness->op, witness->path);
}

/* ---- beginning ---- */

enum { BEGIN_MAKE, BEGIN_SYNC };

static void begin_over(struct shard_begin *begin, int rc)
{
    begin->done(begin, rc, rc < 0 ? &begin->trail : NULL);
}

static void witnessed(struct shard_witness *witness)
{
    begin_over(container_of(witness, struct shard_begin, witness), 0);
}

static void saved(struct manifest_save *save, int rc, const struct trail *trail)
{
    struct shard_begin *begin = container_of(save, struct shard_begin, save);
    if (rc < 0) {
        begin->trail = *trail;
        (void)trail_add(&begin->trail, rc, "%s", begin->folder);
        begin_over(begin, rc);
        return;
    }
    begin->witness = (struct shard_witness){.io = begin->io,
                                            .data_dir = begin->data_dir,
                                            .collection = &begin->collection,
                                            .done = witnessed};
    shard_witness_start(&begin->witness);
}

/* The folder is there for good: its first manifest. */
static void save_first(struct shard_begin *begin)
{
    struct manifest m = {.collection = begin->collection,
                         .shard = begin->shard,
                         .number = 1,
                         .next_segment = 1,
                         .written_at_us = begin->io->ops->realtime_us(begin->io)};
    struct manifest_encoder encoder;
    struct buffer bytes;
    buffer_init_heap(&bytes, NULL, sizeof(begin->bytes));
    manifest_encode_begin(&encoder, &bytes, &m);
    int rc = manifest_encode_end(&encoder);
    size_t len = bytes.len;
    if (rc == 0)
        memcpy(begin->bytes, bytes.ptr, len);
    buffer_dispose(&bytes);
    if (rc < 0) {
        (void)trail_add(&begin->trail, rc, "%s: out of memory", begin->folder);
        begin_over(begin, rc);
        return;
    }
    begin->save = (struct manifest_save){.io = begin->io,
                                         .folder = begin->folder,
                                         .number = 1,
                                         .bytes = begin->bytes,
                                         .len = len,
                                         .done = saved};
    manifest_save_start(&begin->save);
}

static void begin_step_done(struct io_op *op, int64_t result)
{
    struct shard_begin *begin = container_of(op, struct shard_begin, op);
    if (begin->step == BEGIN_MAKE && result == -EEXIST)
        result = 0;
    if (result < 0) {
        int rc = engine_errno_code(result);
        (void)trail_add_http(&begin->trail, rc, rc == PDB_RESOURCE_EXHAUSTED ? 507 : 0,
                             "%s: cannot be made: %s", begin->folder, strerror((int)-result));
        begin_over(begin, rc);
        return;
    }
    if (begin->step == BEGIN_SYNC) {
        FAILPOINT("folder.durable");
        save_first(begin);
        return;
    }
    FAILPOINT("folder.made");
    begin->step = BEGIN_SYNC;
    begin->io->ops->sync_dir(begin->io, &begin->op, begin->root);
}

void shard_begin_start(struct shard_begin *begin)
{
    shard_files_root(begin->root, begin->data_dir);
    shard_files_folder(begin->folder, begin->data_dir, &begin->collection);
    begin->trail = (struct trail){0};
    begin->op = (struct io_op){.done = begin_step_done};
    begin->step = BEGIN_MAKE;
    begin->io->ops->make_dir(begin->io, &begin->op, begin->folder);
}

/* ---- removing ---- */

static void remove_next(struct shard_remove *remove);

static void keep_ours(void *arg, const char *name)
{
    struct shard_remove *remove = arg;
    uint64_t number;
    size_t size = strlen(name) + 1;
    if (shard_files_parse(name, &number) == SHARD_FILE_OTHER)
        return;
    if (size > sizeof(remove->names) - remove->names_len) {
        remove->more = true;
        return;
    }
    memcpy(remove->names + remove->names_len, name, size);
    remove->names_len += size;
}

/* What cannot be listed stays, and the folder with it, for the next start. */
static void list_ours(struct shard_remove *remove)
{
    remove->next = remove->names_len = 0;
    remove->more = remove->progress = false;
    (void)remove->io->ops->list_dir(remove->io, remove->folder, keep_ours, remove);
}

static void unlinked(struct io_op *op, int64_t result)
{
    struct shard_remove *remove = container_of(op, struct shard_remove, op);
    if (result == 0)
        remove->removed++;
    else if (result != -ENOENT)
        remove->failed++;
    remove->progress |= result == 0;
    FAILPOINT("remove.file");
    remove_next(remove);
}

/* Two files of each number, and the indexes of its vectors, which may be missing. The Parquet file
 * goes last. */
static void remove_numbered(struct shard_remove *remove)
{
    size_t files = 2 + (size_t)remove->field_count, file = remove->next % files;
    if (remove->next == files * remove->count) {
        remove->done(remove);
        return;
    }
    uint64_t number = remove->numbers[remove->next++ / files];
    if (file < remove->field_count)
        shard_files_ann_path(remove->path, remove->folder, number, (uint32_t)file);
    else
        shard_files_path(remove->path, remove->folder,
                         file == files - 1 ? SHARD_FILE_PARQUET : SHARD_FILE_INDEX, number);
    remove->io->ops->unlink(remove->io, &remove->op, remove->path);
}

/* <data_dir>/collections/<uuid> is the folder. */
static void remove_witness(struct shard_remove *remove)
{
    const char *uuid = strrchr(remove->folder, '/');
    int len = (int)(uuid - remove->folder) - (int)strlen("/collections");
    (void)snprintf(remove->path, sizeof(remove->path), "%.*s/catalog/witness%s", len,
                   remove->folder, uuid);
    remove->io->ops->unlink(remove->io, &remove->op, remove->path);
}

static void remove_listed(struct shard_remove *remove)
{
    if (remove->next > remove->names_len + 1) {
        remove->done(remove);
        return;
    }
    if (remove->next > remove->names_len) { /* the folder was the last in it */
        remove->next++;
        remove_witness(remove);
        return;
    }
    if (remove->next == remove->names_len && remove->more && remove->progress)
        list_ours(remove);
    if (remove->next == remove->names_len) {
        remove->next = remove->names_len + 1;
        remove->io->ops->unlink(remove->io, &remove->op, remove->folder);
        return;
    }
    const char *name = remove->names + remove->next;
    remove->next += strlen(name) + 1;
    (void)snprintf(remove->path, sizeof(remove->path), "%.4095s/%s", remove->folder, name);
    remove->io->ops->unlink(remove->io, &remove->op, remove->path);
}

static void remove_next(struct shard_remove *remove)
{
    if (remove->numbers != NULL)
        remove_numbered(remove);
    else
        remove_listed(remove);
}

void shard_remove_start(struct shard_remove *remove)
{
    ASSERT(remove->numbers == NULL || remove->count > 0);
    remove->removed = remove->failed = 0;
    remove->next = 0;
    remove->op = (struct io_op){.done = unlinked};
    if (remove->numbers == NULL)
        list_ours(remove);
    remove_next(remove);
}
