/* A whole immutable file as bytes. Real engines map it, so that its pages come and go with the
 * page cache and are shared with every other reader; a simulated io reads it into memory, so that
 * the simulated disk's faults and crashes reach whoever reads files in this way.
 *
 * The calls block, but shortly: an open, an fstat and an mmap. Nothing of the io is changed (the
 * simulated one excepted, which has one thread anyway), so any thread may call them, a worker's
 * too.
 *
 * Only for files that never change once they have their name. A mapped file that somebody
 * shortens, or whose disk fails, raises SIGBUS at the first touch of a page that is not there. */
#ifndef OS_FILE_MAP_H
#define OS_FILE_MAP_H

#include "os/io.h"

enum file_map_advice {
    FILE_MAP_NORMAL,
    FILE_MAP_RANDOM,   /* no read-ahead: single rows are looked up. Keeps a descriptor. */
    FILE_MAP_WILLNEED, /* reading begins now, in the background */
};

struct file_map {       /* a zeroed one is closed */
    const uint8_t *ptr; /* not NULL while it is open, also of an empty file; page-aligned */
    size_t len;
    bool mapped; /* else a copy in memory: counts as such */
    int kept;    /* the descriptor + 1, for reads through the io; 0: none */
};

/* 0 or a negative errno; -EFBIG: it does not fit into the address space. */
int file_map_open(struct io *io, const char *path, enum file_map_advice advice,
                  struct file_map *map_out);
void file_map_close(struct file_map *map); /* legal on a closed one */

/* Bytes that were made in memory, as a map that owns them (a heap block of no heap); page alignment
 * is not promised. Used when a derived file could not be written. */
void file_map_of_block(void *block, size_t len, struct file_map *map_out);

/* Brings a range into memory: waits for the disk, so it belongs on a worker. Where the kernel
 * cannot (before 5.14) reading is only begun. 0 or a negative errno: -EFAULT when the disk failed,
 * which a later touch would have told by SIGBUS. The range is cut to the file. */
int file_map_populate(const struct file_map *map, size_t offset, size_t len);
/* True when a touch of the range would not wait for the disk, as far as can be told now. */
bool file_map_resident(const struct file_map *map, size_t offset, size_t len);
/* Takes a range out of our tables, so that it does not count as ours; the page cache keeps it. */
void file_map_forget(const struct file_map *map, size_t offset, size_t len);
/* Lets go of a range's pages, now if the kernel will; the next touch reads them again. */
void file_map_drop(const struct file_map *map, size_t offset, size_t len);

#endif
