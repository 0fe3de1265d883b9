/* statfs tells the kind by a magic number; statx (Linux 6.1) the alignments of direct I/O, for
 * regular files only, so a folder has none. Debian 12's headers know STATX_DIOALIGN only through
 * the kernel's own, whose struct is then the longer one; the fields are read by the system call, to
 * depend on neither. */
#include "os/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { ALIGNMENT_DEFAULT = 4096 };

#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x2000U
#endif
enum { MAGIC_XFS = 0x58465342, MAGIC_ZFS = 0x2fc12fc1, MAGIC_FUSE = 0x65735546 };

/* The layout of struct statx as the kernel documents it; fixed for ever at 256 bytes. */
struct statx_reply {
    uint32_t mask, blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, spare0;
    uint64_t ino, size, blocks, attributes_mask;
    uint64_t times[8];
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t mnt_id;
    uint32_t dio_mem_align, dio_offset_align;
    uint64_t spare[12];
};
_Static_assert(sizeof(struct statx_reply) == 256, "the kernel's size");

static int ask(const char *path, struct statx_reply *reply_out)
{
    *reply_out = (struct statx_reply){0};
    long rc = syscall(SYS_statx, AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_DIOALIGN, reply_out);
    return rc == 0 ? 0 : -errno;
}

static void name_kind(long magic, struct fs_facts *f)
{
    static const struct {
        long magic;
        enum fs_kind kind;
        const char *name;
    } kinds[] = {
        {EXT4_SUPER_MAGIC, FS_EXT, "ext4"},
        {MAGIC_XFS, FS_XFS, "xfs"},
        {BTRFS_SUPER_MAGIC, FS_BTRFS, "btrfs"},
        {TMPFS_MAGIC, FS_TMPFS, "tmpfs"},
        {OVERLAYFS_SUPER_MAGIC, FS_OVERLAY, "overlay"},
        {NFS_SUPER_MAGIC, FS_NFS, "nfs"},
        {MAGIC_FUSE, FS_FUSE, "fuse"},
        {MAGIC_ZFS, FS_ZFS, "zfs"},
    };
    f->kind = FS_OTHER;
    f->name = "other";
    for (size_t i = 0; i != sizeof(kinds) / sizeof(kinds[0]); ++i) {
        if (kinds[i].magic == magic) {
            f->kind = kinds[i].kind;
            f->name = kinds[i].name;
        }
    }
}

int fs_probe(const char *path, struct fs_facts *facts_out)
{
    struct statfs fs;
    struct statvfs vfs;
    struct statx_reply st;
    struct fs_facts f = {0};
    if (statfs(path, &fs) != 0 || statvfs(path, &vfs) != 0)
        return -errno;
    int rc = ask(path, &st);
    if (rc < 0)
        return rc;
    name_kind((long)fs.f_type, &f);
    f.unsafe_sync = f.kind == FS_NFS || f.kind == FS_OVERLAY;
    f.volatile_memory = f.kind == FS_TMPFS;
    f.copy_on_write = f.kind == FS_BTRFS || f.kind == FS_ZFS;
    f.read_only = (vfs.f_flag & ST_RDONLY) != 0;
    f.device = makedev(st.dev_major, st.dev_minor);
    if ((st.mask & STATX_DIOALIGN) != 0) {
        f.direct_memory_align = st.dio_mem_align;
        f.direct_offset_align = st.dio_offset_align;
    }
    *facts_out = f;
    return 0;
}

int io_direct_alignment(const char *path, uint32_t *memory_out, uint32_t *offset_out)
{
    struct statx_reply st;
    int rc = ask(path, &st);
    if (rc < 0)
        return rc;
    if ((st.mask & STATX_DIOALIGN) != 0) {
        if (st.dio_mem_align == 0 || st.dio_offset_align == 0)
            return -EOPNOTSUPP;
        *memory_out = st.dio_mem_align;
        *offset_out = st.dio_offset_align;
        return 0;
    }
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        return errno == EINVAL ? -EOPNOTSUPP : -errno;
    (void)close(fd);
    *memory_out = *offset_out = ALIGNMENT_DEFAULT;
    return 0;
}

int fs_set_no_copy(const char *folder)
{
    int flags = 0;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 ? 0 : -errno;
    flags |= FS_NOCOW_FL;
    if (rc == 0 && ioctl(fd, FS_IOC_SETFLAGS, &flags) != 0)
        rc = -errno;
    (void)close(fd);
    return rc;
}
