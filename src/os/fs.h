/* What kind of filesystem a path lies on: its promises about sync, and what direct I/O asks for.
 * Start-up only. */
#ifndef OS_FS_H
#define OS_FS_H

#include <stdbool.h>
#include <stdint.h>

enum fs_kind { FS_OTHER, FS_EXT, FS_XFS, FS_BTRFS, FS_TMPFS, FS_OVERLAY, FS_NFS, FS_FUSE, FS_ZFS };

struct fs_facts {
    enum fs_kind kind;
    const char *name;     /* "ext4", "nfs", ...; static */
    bool unsafe_sync;     /* NFS, an overlay's upper layer: sync promises differ */
    bool volatile_memory; /* tmpfs: nothing survives anything */
    bool copy_on_write;   /* every overwrite allocates */
    bool read_only;
    uint64_t device; /* st_dev: equal for paths on one filesystem */
    uint32_t direct_memory_align,
        direct_offset_align; /* 0: no direct I/O here, or unknown (then 4096 is tried) */
};

/* 0 or a negative errno. `path` must exist. */
int fs_probe(const char *path, struct fs_facts *facts_out);
/* The alignments that direct I/O on a file needs, from STATX_DIOALIGN, else 4096 when an open with
 * O_DIRECT works. 0 or a negative errno: -EOPNOTSUPP when the filesystem has no direct I/O. `path`:
 * a regular file. */
int io_direct_alignment(const char *path, uint32_t *memory_out, uint32_t *offset_out);
/* btrfs: asks that new files in a folder be overwritten in place. 0 or a negative errno. */
int fs_set_no_copy(const char *folder);

#endif
