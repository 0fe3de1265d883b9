/* The headers of a tar archive (POSIX.1-2001 ustar), as much of them as snapshots need: plain files
 * with short names. Sizes of 8 GiB and more are told in binary, as GNU and BSD tar do. Pure. */
#ifndef ENGINE_SNAPSHOT_TAR_H
#define ENGINE_SNAPSHOT_TAR_H

#include <stdbool.h>
#include <stdint.h>

enum { SNAPSHOT_TAR_BLOCK = 512, SNAPSHOT_TAR_NAME_MAX = 257, SNAPSHOT_TAR_END = 1024 };

enum snapshot_tar_kind {
    SNAPSHOT_TAR_FILE,
    SNAPSHOT_TAR_FOLDER,
    SNAPSHOT_TAR_EXTENSION, /* of the next file: skipped, our names need none */
    SNAPSHOT_TAR_ZEROS,     /* two of these are the end */
    SNAPSHOT_TAR_OTHER,     /* links, devices */
    SNAPSHOT_TAR_WRONG,     /* no header: its checksum does not fit */
};

struct snapshot_tar_entry {
    enum snapshot_tar_kind kind;
    uint64_t bytes; /* that follow, without what fills the last block */
    char name[SNAPSHOT_TAR_NAME_MAX];
};

/* `name`: at most 100 bytes. */
void snapshot_tar_encode(char block_out[SNAPSHOT_TAR_BLOCK], const char *name, uint64_t bytes,
                         int64_t time_s);
void snapshot_tar_decode(const char block[SNAPSHOT_TAR_BLOCK],
                         struct snapshot_tar_entry *entry_out);
/* What fills the last block of a file. */
static inline uint64_t snapshot_tar_padding(uint64_t bytes)
{
    return (0 - bytes) % SNAPSHOT_TAR_BLOCK;
}

#endif
