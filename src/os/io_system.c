/* Operations by plain system calls: what the thread of `threads` executes, what `uring` does where
 * the ring has no operation for it, and the few functions of the table that are synchronous in
 * both.
 *
 * EINTR is retried, except for close: Linux has released the descriptor by then, and closing its
 * number again could hit a stranger's. */
#include "os/io_internal.h"

#include "base/assert.h"
#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

enum { TRANSFER_BYTES_MAX = 1 << 30 };

/* ---- filling ---- */

static void fill(const struct io *io, struct io_op *op, enum io_kind kind, int file, unsigned flags)
{
    ASSERT(op->done != NULL);
    ASSERT(!list_linked(&op->link));
    memset(&op->engine, 0, sizeof(op->engine));
    op->engine.kind = (uint32_t)kind;
    op->engine.file = file;
    op->engine.flags = flags;
    op->engine.started_ns = io->clock_ns;
}

static void fill_paths(const struct io *io, struct io_op *op, enum io_kind kind, const char *path,
                       const char *path_to)
{
    fill(io, op, kind, -1, 0);
    op->engine.path = path;
    op->engine.path_to = path_to;
}

static void fill_range(const struct io *io, struct io_op *op, enum io_kind kind, int file,
                       uint64_t len, uint64_t offset)
{
    ASSERT(offset <= (uint64_t)1 << 62);
    fill(io, op, kind, file, 0);
    op->engine.len = len;
    op->engine.offset = offset;
}

void io_start_open(struct io *io, struct io_op *op, const char *path, unsigned flags)
{
    fill_paths(io, op, IO_KIND_OPEN, path, NULL);
    op->engine.flags = flags;
    io->ops->start(io, op);
}

void io_start_close(struct io *io, struct io_op *op, int file)
{
    fill(io, op, IO_KIND_CLOSE, file, 0);
    io->ops->start(io, op);
}

void io_start_read(struct io *io, struct io_op *op, int file, void *buf, size_t len,
                   uint64_t offset)
{
    ASSERT(len <= TRANSFER_BYTES_MAX);
    fill_range(io, op, IO_KIND_READ, file, len, offset);
    op->engine.buf = buf;
    io->ops->start(io, op);
}

void io_start_write(struct io *io, struct io_op *op, int file, const void *buf, size_t len,
                    uint64_t offset, unsigned flags)
{
    ASSERT(len <= TRANSFER_BYTES_MAX);
    fill_range(io, op, IO_KIND_WRITE, file, len, offset);
    /* The op has one pointer for both directions; a write never stores through it. */
    union {
        const void *in;
        void *kept;
    } pointer = {.in = buf};
    op->engine.buf = pointer.kept;
    op->engine.flags = flags;
    io->ops->start(io, op);
}

void io_start_sync(struct io *io, struct io_op *op, int file)
{
    fill(io, op, IO_KIND_SYNC, file, 0);
    io->ops->start(io, op);
}

void io_start_allocate(struct io *io, struct io_op *op, int file, uint64_t offset, uint64_t len)
{
    fill_range(io, op, IO_KIND_ALLOCATE, file, len, offset);
    io->ops->start(io, op);
}

void io_start_truncate(struct io *io, struct io_op *op, int file, uint64_t len)
{
    fill_range(io, op, IO_KIND_TRUNCATE, file, len, 0);
    io->ops->start(io, op);
}

void io_start_rename(struct io *io, struct io_op *op, const char *from, const char *to)
{
    fill_paths(io, op, IO_KIND_RENAME, from, to);
    io->ops->start(io, op);
}

void io_start_link(struct io *io, struct io_op *op, const char *from, const char *to)
{
    fill_paths(io, op, IO_KIND_LINK, from, to);
    io->ops->start(io, op);
}

void io_start_unlink(struct io *io, struct io_op *op, const char *path)
{
    fill_paths(io, op, IO_KIND_UNLINK, path, NULL);
    io->ops->start(io, op);
}

void io_start_make_dir(struct io *io, struct io_op *op, const char *path)
{
    fill_paths(io, op, IO_KIND_MAKE_DIR, path, NULL);
    io->ops->start(io, op);
}

void io_start_sync_dir(struct io *io, struct io_op *op, const char *path)
{
    fill_paths(io, op, IO_KIND_SYNC_DIR, path, NULL);
    io->ops->start(io, op);
}

void io_finish(struct io *io, struct io_op *op, int64_t result)
{
    static const uint8_t labels[IO_KIND_COUNT] = {
        [IO_KIND_OPEN] = METRICS_IO_OPEN,      [IO_KIND_CLOSE] = METRICS_IO_OTHER,
        [IO_KIND_READ] = METRICS_IO_READ,      [IO_KIND_WRITE] = METRICS_IO_WRITE,
        [IO_KIND_SYNC] = METRICS_IO_SYNC,      [IO_KIND_ALLOCATE] = METRICS_IO_ALLOCATE,
        [IO_KIND_TRUNCATE] = METRICS_IO_OTHER, [IO_KIND_RENAME] = METRICS_IO_RENAME,
        [IO_KIND_UNLINK] = METRICS_IO_UNLINK,  [IO_KIND_MAKE_DIR] = METRICS_IO_OTHER,
        [IO_KIND_SYNC_DIR] = METRICS_IO_SYNC,  [IO_KIND_LINK] = METRICS_IO_OTHER,
    };
    unsigned label = labels[op->engine.kind];
    histogram_record(&io->stats.by_op[label].took, io->clock_ns - op->engine.started_ns);
    if (result < 0)
        ++io->stats.by_op[label].errors[metrics_errno((int)result)];
    else if ((op->engine.kind == IO_KIND_READ || op->engine.kind == IO_KIND_WRITE) &&
             (uint64_t)result < op->engine.len)
        ++io->stats.short_total;
    op->done(op, result);
}

/* ---- executing ---- */

int io_system_open_flags(unsigned flags)
{
    int out = O_CLOEXEC;
    if ((flags & IO_OPEN_WRITE) != 0)
        out |= (flags & IO_OPEN_READ) != 0 ? O_RDWR : O_WRONLY;
    else
        out |= O_RDONLY;
    if ((flags & IO_OPEN_CREATE) != 0)
        out |= O_CREAT;
    if ((flags & IO_OPEN_EXCLUSIVE) != 0)
        out |= O_EXCL;
    if ((flags & IO_OPEN_DIRECT) != 0)
        out |= O_DIRECT;
    if ((flags & IO_OPEN_DSYNC) != 0)
        out |= O_DSYNC;
    if ((flags & IO_OPEN_DIRECTORY) != 0)
        out |= O_DIRECTORY;
    if ((flags & IO_OPEN_TRUNCATE) != 0)
        out |= O_TRUNC;
    return out;
}

static int64_t run_open(const char *path, int flags)
{
    int fd;
    do
        fd = open(path, flags, IO_FILE_MODE);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

static int64_t run_sync(int file)
{
    int rc;
    do
        rc = fdatasync(file);
    while (rc != 0 && errno == EINTR);
    return rc != 0 ? -errno : 0;
}

static int64_t run_sync_dir(const char *path)
{
    int64_t fd = run_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fd;
    int rc;
    do
        rc = fsync((int)fd);
    while (rc != 0 && errno == EINTR);
    int64_t result = rc != 0 ? -errno : 0;
    (void)close((int)fd);
    return result;
}

static int64_t run_read(const struct io_op *op)
{
    ssize_t n;
    do
        n = pread(op->engine.file, op->engine.buf, op->engine.len, (off_t)op->engine.offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int64_t run_write(const struct io_op *op)
{
    const struct iovec part = {.iov_base = op->engine.buf, .iov_len = op->engine.len};
    bool durable = (op->engine.flags & IO_WRITE_DURABLE) != 0;
    ssize_t n;

    do
        n = pwritev2(op->engine.file, &part, 1, (off_t)op->engine.offset, durable ? RWF_DSYNC : 0);
    while (n < 0 && errno == EINTR);
    if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
        return n < 0 ? -errno : n;
    /* A kernel or filter without pwritev2 or this flag: two calls, as the ring does it. */
    do
        n = pwrite(op->engine.file, op->engine.buf, op->engine.len, (off_t)op->engine.offset);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    int64_t synced = durable && (uint64_t)n == op->engine.len ? run_sync(op->engine.file) : 0;
    return synced < 0 ? synced : n;
}

static int64_t run_unlink(const char *path)
{
    if (unlink(path) == 0)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -errno;
    int first = errno;
    if (rmdir(path) == 0)
        return 0;
    return errno == ENOTDIR ? -first : -errno;
}

static int64_t run_allocate(const struct io_op *op)
{
    int rc;
    do
        rc = fallocate(op->engine.file, 0, (off_t)op->engine.offset, (off_t)op->engine.len);
    while (rc != 0 && errno == EINTR);
    return rc != 0 ? -errno : 0;
}

static int64_t run_truncate(const struct io_op *op)
{
    int rc;
    do
        rc = ftruncate(op->engine.file, (off_t)op->engine.len);
    while (rc != 0 && errno == EINTR);
    return rc != 0 ? -errno : 0;
}

int64_t io_system_run(const struct io_op *op)
{
    ASSERT(op->engine.kind < IO_KIND_COUNT);
    switch ((enum io_kind)op->engine.kind) {
    case IO_KIND_OPEN:
        return run_open(op->engine.path, io_system_open_flags(op->engine.flags));
    case IO_KIND_CLOSE:
        return close(op->engine.file) == 0 || errno == EINTR ? 0 : -errno;
    case IO_KIND_READ:
        return run_read(op);
    case IO_KIND_WRITE:
        return run_write(op);
    case IO_KIND_SYNC:
        return run_sync(op->engine.file);
    case IO_KIND_ALLOCATE:
        return run_allocate(op);
    case IO_KIND_TRUNCATE:
        return run_truncate(op);
    case IO_KIND_RENAME:
        return rename(op->engine.path, op->engine.path_to) == 0 ? 0 : -errno;
    case IO_KIND_LINK:
        return link(op->engine.path, op->engine.path_to) == 0 ? 0 : -errno;
    case IO_KIND_UNLINK:
        return run_unlink(op->engine.path);
    case IO_KIND_MAKE_DIR:
        return mkdir(op->engine.path, IO_DIR_MODE) == 0 ? 0 : -errno;
    case IO_KIND_SYNC_DIR:
        return run_sync_dir(op->engine.path);
    case IO_KIND_COUNT:
        break;
    }
    return -EINVAL;
}

/* ---- the synchronous part of the table ---- */

int io_system_list_dir(struct io *io, const char *path, void (*visit)(void *arg, const char *name),
                       void *arg)
{
    (void)io;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -errno;
    int rc = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            rc = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            visit(arg, entry->d_name);
    }
    (void)closedir(dir);
    return rc;
}

int64_t io_system_file_size(struct io *io, int file)
{
    (void)io;
    struct stat st;
    return fstat(file, &st) == 0 ? (int64_t)st.st_size : -errno;
}

static int64_t bytes_of(uint64_t blocks, uint64_t block_bytes)
{
    int64_t bytes;
    return __builtin_mul_overflow(blocks, block_bytes, &bytes) ? INT64_MAX : bytes;
}

int64_t io_system_free_space(struct io *io, const char *path)
{
    (void)io;
    struct statvfs st;
    return statvfs(path, &st) != 0 ? -errno : bytes_of(st.f_bavail, st.f_frsize);
}

int64_t io_system_used_space(struct io *io, const char *path)
{
    (void)io;
    struct statvfs st;
    return statvfs(path, &st) != 0 ? -errno : bytes_of(st.f_blocks - st.f_bfree, st.f_frsize);
}

uint64_t io_system_now_ns(struct io *io)
{
    (void)io;
    return clock_monotonic_ns();
}

int64_t io_system_realtime_us(struct io *io)
{
    (void)io;
    return clock_realtime_us();
}

void io_system_random(struct io *io, void *bytes, size_t len)
{
    (void)io;
    for (size_t done = 0; done != len;) {
        ssize_t n = getrandom((char *)bytes + done, len - done, 0);
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        ASSERT(n < 0 && errno == EINTR); /* the pool of a running kernel does not fail */
    }
}
