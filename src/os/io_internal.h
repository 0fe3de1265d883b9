/* What the engines share: the kinds of operation, how an operation is filled, and how one is done
 * by plain system calls. Only for src/os. */
#ifndef OS_IO_INTERNAL_H
#define OS_IO_INTERNAL_H

#include "os/io.h"

enum io_kind {
    IO_KIND_OPEN,
    IO_KIND_CLOSE,
    IO_KIND_READ,
    IO_KIND_WRITE,
    IO_KIND_SYNC,
    IO_KIND_ALLOCATE,
    IO_KIND_TRUNCATE,
    IO_KIND_RENAME,
    IO_KIND_UNLINK,
    IO_KIND_MAKE_DIR,
    IO_KIND_SYNC_DIR,
    IO_KIND_LINK,
    IO_KIND_COUNT,
};

enum { IO_FILE_MODE = 0640, IO_DIR_MODE = 0750 };

/* Of the table: fill the op, then io->ops->start. */
void io_start_open(struct io *io, struct io_op *op, const char *path, unsigned flags);
void io_start_close(struct io *io, struct io_op *op, int file);
void io_start_read(struct io *io, struct io_op *op, int file, void *buf, size_t len,
                   uint64_t offset);
void io_start_write(struct io *io, struct io_op *op, int file, const void *buf, size_t len,
                    uint64_t offset, unsigned flags);
void io_start_sync(struct io *io, struct io_op *op, int file);
void io_start_allocate(struct io *io, struct io_op *op, int file, uint64_t offset, uint64_t len);
void io_start_truncate(struct io *io, struct io_op *op, int file, uint64_t len);
void io_start_rename(struct io *io, struct io_op *op, const char *from, const char *to);
void io_start_link(struct io *io, struct io_op *op, const char *from, const char *to);
void io_start_unlink(struct io *io, struct io_op *op, const char *path);
void io_start_make_dir(struct io *io, struct io_op *op, const char *path);
void io_start_sync_dir(struct io *io, struct io_op *op, const char *path);

#define IO_START_FUNCTIONS                                                                         \
    .open = io_start_open, .close = io_start_close, .read = io_start_read,                         \
    .write = io_start_write, .sync = io_start_sync, .allocate = io_start_allocate,                 \
    .truncate = io_start_truncate, .rename = io_start_rename, .link = io_start_link,               \
    .unlink = io_start_unlink, .make_dir = io_start_make_dir, .sync_dir = io_start_sync_dir

/* O_ flags for IO_OPEN_ flags. */
int io_system_open_flags(unsigned flags);
/* Does the whole operation with plain system calls, however long that takes; the result is the
 * op's. */
int64_t io_system_run(const struct io_op *op);

int io_system_list_dir(struct io *io, const char *path, void (*visit)(void *arg, const char *name),
                       void *arg);
int64_t io_system_file_size(struct io *io, int file);
int64_t io_system_free_space(struct io *io, const char *path);
int64_t io_system_used_space(struct io *io, const char *path);
uint64_t io_system_now_ns(struct io *io);
int64_t io_system_realtime_us(struct io *io);
void io_system_random(struct io *io, void *bytes, size_t len);

#define IO_SYSTEM_FUNCTIONS                                                                        \
    .list_dir = io_system_list_dir, .file_size = io_system_file_size,                              \
    .free_space = io_system_free_space, .used_space = io_system_used_space,                        \
    .now_ns = io_system_now_ns, .realtime_us = io_system_realtime_us, .random = io_system_random

/* Counts the result and the time, and runs `done`. The op must be in no list. */
void io_finish(struct io *io, struct io_op *op, int64_t result);

/* Moves all of `from` behind what is in `to`. */
static inline void io_list_move(struct list *from, struct list *to)
{
    if (list_empty(from))
        return;
    struct list_link *first = from->anchor.next, *last = from->anchor.prev;
    first->prev = to->anchor.prev;
    to->anchor.prev->next = first;
    last->next = &to->anchor;
    to->anchor.prev = last;
    list_init(from);
}

static inline struct io_op *io_list_pop(struct list *list)
{
    struct list_link *link = list_pop_front(list);
    return link != NULL ? container_of(link, struct io_op, link) : NULL;
}

/* The engines. 0 or a negative errno; *what_out names the step that failed. */
int uring_create(struct io **io_out, const char **what_out);
int threads_create(struct io **io_out);

#endif
