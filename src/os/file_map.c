/* file_map.c: see the header. The descriptor is closed at once, except for random access: a mapping
 * keeps its file alive, and many segments must not use up the process's descriptors.
 *
 * Rejected: MAP_POPULATE, which would block the caller for the whole file; huge pages, which the
 * page cache of ext4 and xfs does not have for files. */
#include "os/file_map.h"

#include "base/heap.h"
#include "os/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

static const uint8_t nothing[64]; /* an empty file's address */

static bool simulated(const struct io *io)
{
    return strcmp(io->ops->name, "sim") == 0;
}

static int open_simulated(struct io *io, const char *path, struct file_map *map_out)
{
    void *bytes;
    size_t len;
    int rc = sim_read_file(io, path, &bytes, &len);
    if (rc == 0)
        file_map_of_block(bytes, len, map_out);
    return rc;
}

static int open_mapped(const char *path, enum file_map_advice advice, struct file_map *map_out)
{
    static const int advices[] = {MADV_NORMAL, MADV_RANDOM, MADV_WILLNEED};
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fstat(fd, &st) == 0 ? 0 : -errno;
    if (rc == 0 && !S_ISREG(st.st_mode))
        rc = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    if (rc == 0 && (uint64_t)st.st_size > PTRDIFF_MAX)
        rc = -EFBIG;
    if (rc == 0 && st.st_size == 0) {
        *map_out = (struct file_map){.ptr = nothing};
    } else if (rc == 0) {
        void *ptr = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (ptr == MAP_FAILED) {
            rc = -errno;
        } else {
            (void)madvise(ptr, (size_t)st.st_size, advices[advice]); /* speed only */
            *map_out = (struct file_map){.ptr = ptr, .len = (size_t)st.st_size, .mapped = true};
            if (advice == FILE_MAP_RANDOM) {
                map_out->kept = fd + 1;
                return 0;
            }
        }
    }
    (void)close(fd);
    return rc;
}

int file_map_open(struct io *io, const char *path, enum file_map_advice advice,
                  struct file_map *map_out)
{
    return simulated(io) ? open_simulated(io, path, map_out) : open_mapped(path, advice, map_out);
}

void file_map_of_block(void *block, size_t len, struct file_map *map_out)
{
    *map_out = (struct file_map){.ptr = block, .len = len};
}

/* The bytes are const for readers only: what is given back was got as writable memory. */
static void *address(const uint8_t *ptr)
{
    return (void *)(uintptr_t)ptr;
}

void file_map_close(struct file_map *map)
{
    if (map->kept != 0)
        (void)close(map->kept - 1);
    if (map->mapped)
        (void)munmap(address(map->ptr), map->len);
    else if (map->ptr != nothing)
        heap_free(NULL, address(map->ptr));
    *map = (struct file_map){0};
}

/* The whole pages that a range touches; false: none. */
static bool pages_of(const struct file_map *map, size_t offset, size_t len, void **ptr_out,
                     size_t *len_out)
{
    if (!map->mapped || offset >= map->len || len == 0)
        return false;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (len > map->len - offset)
        len = map->len - offset;
    size_t start = offset & ~(page - 1);
    *ptr_out = address(map->ptr + start);
    *len_out = offset + len - start;
    return true;
}

int file_map_populate(const struct file_map *map, size_t offset, size_t len)
{
    void *ptr;
    size_t size;
    if (!pages_of(map, offset, len, &ptr, &size))
        return 0;
    int rc;
    do {
        rc = madvise(ptr, size, MADV_POPULATE_READ) == 0 ? 0 : -errno;
    } while (rc == -EINTR || rc == -EAGAIN);
    if (rc == -EINVAL || rc == -ENOSYS) /* an older kernel, or a sandbox's */
        rc = madvise(ptr, size, MADV_WILLNEED) == 0 ? 0 : -errno;
    return rc;
}

bool file_map_resident(const struct file_map *map, size_t offset, size_t len)
{
    enum { PAGES_MAX = 1024 };
    unsigned char there[PAGES_MAX];
    void *ptr;
    size_t size;
    if (!pages_of(map, offset, len, &ptr, &size))
        return true;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (size + page - 1) / page;
    if (count > PAGES_MAX || mincore(ptr, size, there) != 0)
        return false;
    unsigned all = 1;
    for (size_t i = 0; i < count; i++)
        all &= there[i];
    return (all & 1) != 0;
}

void file_map_forget(const struct file_map *map, size_t offset, size_t len)
{
    void *ptr;
    size_t size;
    if (pages_of(map, offset, len, &ptr, &size))
        (void)madvise(ptr, size, MADV_DONTNEED);
}

/* Out of the page cache first, which works on mapped pages only; then out of our tables, which
 * always works. */
void file_map_drop(const struct file_map *map, size_t offset, size_t len)
{
    void *ptr;
    size_t size;
    if (!pages_of(map, offset, len, &ptr, &size))
        return;
#ifdef MADV_PAGEOUT
    (void)madvise(ptr, size, MADV_PAGEOUT);
#endif
    (void)madvise(ptr, size, MADV_DONTNEED);
}
