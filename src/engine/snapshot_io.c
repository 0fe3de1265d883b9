/* snapshot_io.c: steps that several operations on snapshots are made of. Each is one operation of
 * the I/O table, or a short sequence of them, and tells its end from the loop. */
#include "engine/snapshot_internal.h"

#include "base/crc32c.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/no_libc_heap.h"

/* ---- single steps ---- */

static void step_done(struct io_op *op, int64_t result)
{
    struct snapshot_step *step = container_of(op, struct snapshot_step, op);
    step->then(step, result);
}

static void ready(struct snapshot_step *step, struct io *io,
                  void (*then)(struct snapshot_step *step, int64_t result))
{
    step->io = io;
    step->then = then;
    step->op = (struct io_op){.done = step_done};
}

void snapshot_make_dir(struct snapshot_step *step, struct io *io,
                       void (*then)(struct snapshot_step *step, int64_t result))
{
    ready(step, io, then);
    io->ops->make_dir(io, &step->op, step->path);
}

void snapshot_sync_dir(struct snapshot_step *step, struct io *io,
                       void (*then)(struct snapshot_step *step, int64_t result))
{
    ready(step, io, then);
    io->ops->sync_dir(io, &step->op, step->path);
}

void snapshot_rename(struct snapshot_step *step, struct io *io,
                     void (*then)(struct snapshot_step *step, int64_t result))
{
    ready(step, io, then);
    io->ops->rename(io, &step->op, step->path, step->path_to);
}

void snapshot_unlink(struct snapshot_step *step, struct io *io,
                     void (*then)(struct snapshot_step *step, int64_t result))
{
    ready(step, io, then);
    io->ops->unlink(io, &step->op, step->path);
}

/* ---- placing a file ---- */

enum place_stage {
    PLACE_LINK,
    PLACE_OPEN, /* to sync it */
    PLACE_COPY_OPEN,
    PLACE_COPY_MAKE,
    PLACE_COPY_READ,
    PLACE_COPY_WRITE,
    PLACE_SYNC,
    PLACE_CLOSE_TO,
    PLACE_CLOSE_FROM,
};

static void take(struct snapshot_place *place, enum place_stage stage)
{
    const struct io_ops *ops = place->io->ops;
    place->stage = stage;
    switch (stage) {
    case PLACE_LINK:
        ops->link(place->io, &place->op, place->path, place->path_to);
        break;
    case PLACE_OPEN:
        ops->open(place->io, &place->op, place->path_to, IO_OPEN_READ);
        break;
    case PLACE_COPY_OPEN:
        ops->open(place->io, &place->op, place->path, IO_OPEN_READ);
        break;
    case PLACE_COPY_MAKE:
        ops->open(place->io, &place->op, place->path_to,
                  IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE);
        break;
    case PLACE_COPY_READ:
        ops->read(place->io, &place->op, place->from, place->piece, SNAPSHOT_PIECE_BYTES,
                  place->at);
        break;
    case PLACE_COPY_WRITE:
        ops->write(place->io, &place->op, place->to, place->piece + place->written,
                   place->len - place->written, place->at + place->written, 0);
        break;
    case PLACE_SYNC:
        ops->sync(place->io, &place->op, place->to);
        break;
    case PLACE_CLOSE_TO:
        ops->close(place->io, &place->op, place->to);
        break;
    case PLACE_CLOSE_FROM:
        ops->close(place->io, &place->op, place->from);
        break;
    }
}

/* Closes what is open, then tells. */
static void end_place(struct snapshot_place *place)
{
    if (place->to >= 0) {
        take(place, PLACE_CLOSE_TO);
        return;
    }
    if (place->from >= 0) {
        take(place, PLACE_CLOSE_FROM);
        return;
    }
    snapshot_place_dispose(place);
    place->done(place, place->error);
}

static bool cannot_link(int64_t result)
{
    return result == -EXDEV || result == -EPERM || result == -EMLINK || result == -EOPNOTSUPP ||
           result == -ENOSYS;
}

static void begin_copy(struct snapshot_place *place)
{
    place->piece = heap_alloc(NULL, SNAPSHOT_PIECE_BYTES);
    place->copied = true;
    if (place->piece == NULL) {
        place->error = -ENOMEM;
        end_place(place);
        return;
    }
    take(place, PLACE_COPY_OPEN);
}

static void go_on(struct snapshot_place *place, int64_t result)
{
    switch ((enum place_stage)place->stage) {
    case PLACE_LINK:
        if (place->sync)
            take(place, PLACE_OPEN);
        else
            end_place(place);
        break;
    case PLACE_OPEN:
        place->to = (int)result;
        take(place, PLACE_SYNC);
        break;
    case PLACE_COPY_OPEN:
        place->from = (int)result;
        take(place, PLACE_COPY_MAKE);
        break;
    case PLACE_COPY_MAKE:
        place->to = (int)result;
        take(place, PLACE_COPY_READ);
        break;
    case PLACE_COPY_READ:
        place->len = (size_t)result;
        place->written = 0;
        take(place, result == 0 ? PLACE_SYNC : PLACE_COPY_WRITE);
        break;
    case PLACE_COPY_WRITE:
        place->written += (size_t)result;
        if (place->written == place->len) {
            place->at += place->len;
            take(place, PLACE_COPY_READ);
        } else {
            take(place, PLACE_COPY_WRITE);
        }
        break;
    case PLACE_SYNC:
    case PLACE_CLOSE_TO:
    case PLACE_CLOSE_FROM:
        end_place(place);
        break;
    }
}

static void place_done(struct io_op *op, int64_t result)
{
    struct snapshot_place *place = container_of(op, struct snapshot_place, op);
    if (place->stage == PLACE_CLOSE_TO)
        place->to = -1;
    if (place->stage == PLACE_CLOSE_FROM)
        place->from = -1;
    if (place->stage == PLACE_LINK && cannot_link(result)) {
        begin_copy(place);
    } else if (result == -EAGAIN || result == -EINTR) {
        take(place, (enum place_stage)place->stage);
    } else if (result < 0 || (place->stage == PLACE_COPY_WRITE && result == 0)) {
        place->error = place->error != 0 ? place->error : result < 0 ? result : -EIO;
        end_place(place);
    } else {
        go_on(place, result);
    }
}

void snapshot_place_start(struct snapshot_place *place, struct io *io,
                          void (*done)(struct snapshot_place *place, int64_t result))
{
    place->io = io;
    place->done = done;
    place->op = (struct io_op){.done = place_done};
    place->from = place->to = -1;
    place->error = 0;
    place->at = 0;
    place->copied = false;
    take(place, PLACE_LINK);
}

void snapshot_place_dispose(struct snapshot_place *place)
{
    heap_free(NULL, place->piece);
    place->piece = NULL;
}

/* ---- checksums ---- */

enum { SUM_STEP_BYTES = 16 << 20 };

static int sum_piece(struct snapshot_sum *sum)
{
    size_t len = sum->len - sum->at < SUM_STEP_BYTES ? sum->len - sum->at : SUM_STEP_BYTES;
    int rc = sum->map != NULL && len != 0 ? file_map_populate(sum->map, sum->at, len) : 0;
    if (rc < 0)
        return rc == -EFAULT ? -EIO : rc;
    sum->crc = crc32c(sum->crc, sum->ptr + sum->at, len);
    sum->at += len;
    return 0;
}

static void sum_compute(struct job *job)
{
    struct snapshot_sum *sum = container_of(job, struct snapshot_sum, job);
    if (!sum->opened) {
        sum->error = file_map_open(sum->io, sum->path, FILE_MAP_NORMAL, &sum->own);
        if (sum->error < 0)
            return;
        sum->opened = true;
        sum->map = &sum->own;
        sum->ptr = sum->own.ptr;
        sum->len = sum->own.len;
    }
    sum->error = sum_piece(sum);
}

static void sum_comes_back(struct reactor *here, struct mail *mail)
{
    struct snapshot_sum *sum = container_of(mail, struct snapshot_sum, job.back);
    if (sum->error == 0 && sum->at < sum->len) {
        job_start(here, here->id, &sum->job);
        return;
    }
    snapshot_sum_dispose(sum);
    sum->done(sum);
}

static void sum_start(struct snapshot_sum *sum, struct reactor *r,
                      void (*done)(struct snapshot_sum *sum))
{
    sum->r = r;
    sum->io = r->io;
    sum->done = done;
    sum->at = 0;
    sum->crc = 0;
    sum->error = 0;
    sum->job = (struct job){.compute = sum_compute, .back.deliver = sum_comes_back};
    job_start(r, r->id, &sum->job);
}

void snapshot_sum_file(struct snapshot_sum *sum, struct reactor *r,
                       void (*done)(struct snapshot_sum *sum))
{
    sum->own = (struct file_map){0};
    sum->opened = false;
    sum->map = NULL;
    sum->ptr = NULL;
    sum->len = 0;
    sum_start(sum, r, done);
}

void snapshot_sum_map(struct snapshot_sum *sum, struct reactor *r, const struct file_map *map,
                      void (*done)(struct snapshot_sum *sum))
{
    sum->own = (struct file_map){0};
    sum->opened = true;
    sum->map = map;
    sum->ptr = map->ptr;
    sum->len = map->len;
    sum_start(sum, r, done);
}

void snapshot_sum_bytes(struct snapshot_sum *sum, struct reactor *r, const void *bytes, size_t len,
                        void (*done)(struct snapshot_sum *sum))
{
    sum->own = (struct file_map){0};
    sum->opened = true;
    sum->map = NULL;
    sum->ptr = bytes;
    sum->len = len;
    sum_start(sum, r, done);
}

void snapshot_sum_dispose(struct snapshot_sum *sum)
{
    file_map_close(&sum->own);
}

/* ---- removing ---- */

static void remove_next(struct snapshot_remove *remove);

static void removed(struct snapshot_step *step, int64_t result)
{
    (void)result; /* the next start looks again */
    remove_next(container_of(step, struct snapshot_remove, step));
}

/* Of the part: its files, then the folder. Then the list, and the folder of all. */
static void remove_next(struct snapshot_remove *remove)
{
    const struct snapshot_image *image = remove->image;
    struct snapshot_step *step = &remove->step;
    if (remove->part < image->part_count) {
        const struct snapshot_part *part = &image->parts[remove->part];
        char folder[SNAPSHOT_PATH_MAX];
        snapshot_part_folder(folder, remove->folder, &part->entry->uuid);
        if (remove->file < part->file_count) {
            (void)snprintf(step->path, sizeof(step->path), "%.1220s/%s", folder,
                           part->files[remove->file++].name);
        } else {
            (void)snprintf(step->path, sizeof(step->path), "%s", folder);
            remove->part++;
            remove->file = 0;
        }
    } else if (remove->part == image->part_count) {
        (void)snprintf(step->path, sizeof(step->path), "%s/SNAPSHOT", remove->folder);
        remove->part++;
    } else if (remove->part == image->part_count + 1) {
        (void)snprintf(step->path, sizeof(step->path), "%s", remove->folder);
        remove->part++;
    } else {
        remove->done(remove);
        return;
    }
    snapshot_unlink(step, step->io, removed);
}

void snapshot_remove_start(struct snapshot_remove *remove, struct io *io,
                           void (*done)(struct snapshot_remove *remove))
{
    remove->done = done;
    remove->part = remove->file = 0;
    remove->step.io = io;
    remove_next(remove);
}
