/* Choosing an engine, and small helpers that run one operation to its end.
 *
 * Containers often deny io_uring: the default seccomp profiles of container runtimes,
 * kernel.io_uring_disabled, and sandboxes that do not have it. `auto` then takes `threads` and says
 * why; the text names what a person would have to change. */
#include "os/io_internal.h"

#include "base/heap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { REASON_SIZE = 320, PATH_SIZE = 4096 };

/* ---- creation ---- */

/* The number behind `key` at a line's start in a small file of /proc; -1 if there is none. "" is
 * the file's start. */
static long proc_number(const char *path, const char *key)
{
    char line[128];
    long value = -1;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            value = strtol(line + strlen(key), NULL, 10);
            break;
        }
    }
    (void)fclose(file);
    return value;
}

static const char *explain(int rc, const char *what)
{
    static _Thread_local char text[REASON_SIZE];
    long disabled = proc_number("/proc/sys/kernel/io_uring_disabled", "");
    long seccomp = proc_number("/proc/self/status", "Seccomp:");
    const char *help = "see the documentation of io.engine";

    if (disabled > 0)
        help = "set the sysctl kernel.io_uring_disabled to 0";
    else if ((rc == -EPERM || rc == -ENOSYS) && seccomp > 0)
        help = "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile";
    else if (rc == -ENOSYS || rc == -EINVAL)
        help = "this kernel is too old or was built without io_uring";
    else if (rc == -ENOMEM)
        help = "raise the limit of locked memory (RLIMIT_MEMLOCK)";
    else if (rc == -EMFILE || rc == -ENFILE)
        help = "raise the limit of open files (RLIMIT_NOFILE)";
    const char *name = strerrorname_np(-rc);
    (void)snprintf(text, sizeof(text),
                   "io_uring: %s at %s (kernel.io_uring_disabled=%ld, seccomp mode %ld): %s",
                   name != NULL ? name : "error", what, disabled, seccomp, help);
    return text;
}

int io_create(enum io_engine_choice choice, struct io **io_out, const char **reason_out)
{
    const char *what = "";
    *reason_out = NULL;
    if (choice == IO_ENGINE_THREADS)
        return threads_create(io_out);
    int rc = uring_create(io_out, &what);
    if (rc == 0)
        return 0;
    *reason_out = explain(rc, what);
    return choice == IO_ENGINE_AUTO ? threads_create(io_out) : rc;
}

/* ---- one operation to its end ---- */

struct waiting {
    struct io_op op;
    bool done;
    int64_t result;
};

static void on_done(struct io_op *op, int64_t result)
{
    struct waiting *w = container_of(op, struct waiting, op);
    w->done = true;
    w->result = result;
}

/* Before each start: nobody else reads the clock here. */
static struct waiting begin(struct io *io)
{
    io->clock_ns = io->ops->now_ns(io);
    return (struct waiting){.op = {.done = on_done}};
}

static int64_t finish(struct io *io, struct waiting *w)
{
    while (!w->done) {
        if (io->ops->submit(io) == 0)
            return -EIO; /* only a dead simulated io forgets what was started */
        io->clock_ns = io->ops->now_ns(io);
        if (io->ops->reap(io, 1) == 0)
            io->ops->wait(io, -1);
    }
    return w->result;
}

int64_t io_wait_open(struct io *io, const char *path, unsigned flags)
{
    struct waiting w = begin(io);
    io->ops->open(io, &w.op, path, flags);
    return finish(io, &w);
}

int64_t io_wait_close(struct io *io, int file)
{
    struct waiting w = begin(io);
    io->ops->close(io, &w.op, file);
    return finish(io, &w);
}

int64_t io_wait_read(struct io *io, int file, void *buf, size_t len, uint64_t offset)
{
    struct waiting w = begin(io);
    io->ops->read(io, &w.op, file, buf, len, offset);
    return finish(io, &w);
}

int64_t io_wait_write(struct io *io, int file, const void *buf, size_t len, uint64_t offset,
                      unsigned flags)
{
    struct waiting w = begin(io);
    io->ops->write(io, &w.op, file, buf, len, offset, flags);
    return finish(io, &w);
}

int64_t io_wait_sync(struct io *io, int file)
{
    struct waiting w = begin(io);
    io->ops->sync(io, &w.op, file);
    return finish(io, &w);
}

int64_t io_wait_allocate(struct io *io, int file, uint64_t offset, uint64_t len)
{
    struct waiting w = begin(io);
    io->ops->allocate(io, &w.op, file, offset, len);
    return finish(io, &w);
}

int64_t io_wait_truncate(struct io *io, int file, uint64_t len)
{
    struct waiting w = begin(io);
    io->ops->truncate(io, &w.op, file, len);
    return finish(io, &w);
}

int64_t io_wait_rename(struct io *io, const char *from, const char *to)
{
    struct waiting w = begin(io);
    io->ops->rename(io, &w.op, from, to);
    return finish(io, &w);
}

int64_t io_wait_link(struct io *io, const char *from, const char *to)
{
    struct waiting w = begin(io);
    io->ops->link(io, &w.op, from, to);
    return finish(io, &w);
}

int64_t io_wait_unlink(struct io *io, const char *path)
{
    struct waiting w = begin(io);
    io->ops->unlink(io, &w.op, path);
    return finish(io, &w);
}

int64_t io_wait_make_dir(struct io *io, const char *path)
{
    struct waiting w = begin(io);
    io->ops->make_dir(io, &w.op, path);
    return finish(io, &w);
}

int64_t io_wait_sync_dir(struct io *io, const char *path)
{
    struct waiting w = begin(io);
    io->ops->sync_dir(io, &w.op, path);
    return finish(io, &w);
}

/* ---- whole files ---- */

static int write_all(struct io *io, int file, const char *bytes, size_t len)
{
    enum { PIECE = 8 << 20 };
    for (size_t done = 0; done != len;) {
        size_t piece = len - done < PIECE ? len - done : PIECE;
        int64_t n = io_wait_write(io, file, bytes + done, piece, done, 0);
        if (n == -EAGAIN)
            continue;
        if (n <= 0)
            return n < 0 ? (int)n : -EIO;
        done += (size_t)n;
    }
    return (int)io_wait_sync(io, file);
}

int io_replace_file(struct io *io, const char *directory, const char *name, const void *bytes,
                    size_t len)
{
    char path[PATH_SIZE], temporary[PATH_SIZE];
    int path_len = snprintf(path, sizeof(path), "%s/%s", directory, name);
    int temporary_len = snprintf(temporary, sizeof(temporary), "%s/%s.tmp", directory, name);
    if (path_len < 0 || temporary_len < 0 || temporary_len >= PATH_SIZE)
        return -ENAMETOOLONG;

    int64_t file = io_wait_open(io, temporary, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE);
    if (file < 0)
        return (int)file;
    int rc = write_all(io, (int)file, bytes, len);
    int64_t closed = io_wait_close(io, (int)file);
    if (rc == 0)
        rc = (int)closed;
    if (rc == 0)
        rc = (int)io_wait_rename(io, temporary, path);
    if (rc < 0) {
        (void)io_wait_unlink(io, temporary);
        return rc;
    }
    return (int)io_wait_sync_dir(io, directory);
}

static int read_all(struct io *io, int file, char *bytes, size_t len)
{
    enum { PIECE = 8 << 20 };
    for (size_t done = 0; done != len;) {
        size_t piece = len - done < PIECE ? len - done : PIECE;
        int64_t n = io_wait_read(io, file, bytes + done, piece, done);
        if (n == -EAGAIN)
            continue;
        if (n <= 0)
            return n < 0 ? (int)n : -EIO; /* it shrank meanwhile */
        done += (size_t)n;
    }
    return 0;
}

int io_read_file(struct io *io, const char *path, size_t len_max, void **bytes_out, size_t *len_out)
{
    int64_t file = io_wait_open(io, path, IO_OPEN_READ);
    if (file < 0)
        return (int)file;
    int rc = 0;
    char *bytes = NULL;
    int64_t size = io->ops->file_size(io, (int)file);
    if (size < 0) {
        rc = (int)size;
    } else if ((uint64_t)size > len_max) {
        rc = -EFBIG;
    } else if ((bytes = heap_alloc(NULL, (size_t)size + 1)) == NULL) {
        rc = -ENOMEM;
    } else {
        rc = read_all(io, (int)file, bytes, (size_t)size);
        bytes[size] = '\0';
    }
    (void)io_wait_close(io, (int)file);
    if (rc < 0) {
        heap_free(NULL, bytes);
        return rc;
    }
    *bytes_out = bytes;
    *len_out = (size_t)size;
    return 0;
}
