/* wal_fs.c: what the log asks of the filesystem under it.
 *
 * A log is only as good as the sync below it. NFS and an overlay's upper layer promise something
 * else than a disk does, so they are refused unless somebody says that he knows. A container whose
 * data folder is not a volume writes into such a layer; the text says what to do. tmpfs and
 * copy-on-write filesystems are allowed with a warning. */
#include "base/log.h"
#include "os/fs.h"
#include "wal/wal_internal.h"

#include "base/no_libc_heap.h"

static uint32_t block_of(const struct fs_facts *facts)
{
    uint32_t block = WAL_BLOCK_BYTES_MIN;
    uint32_t need = facts->direct_offset_align > facts->direct_memory_align
                        ? facts->direct_offset_align
                        : facts->direct_memory_align;
    while (block < need && block < WAL_BLOCK_BYTES_MAX)
        block *= 2;
    return block;
}

int wal_fs_check(const struct io *io, const struct wal_options *options, uint32_t *block_bytes_out,
                 struct trail *trail)
{
    struct fs_facts facts;
    *block_bytes_out = WAL_BLOCK_BYTES_MIN;
    if (strcmp(io->ops->name, "sim") == 0)
        return 0;
    int rc = fs_probe(options->dir, &facts);
    if (rc < 0) {
        const char *name = strerrorname_np(-rc);
        return trail_add(trail, PDB_UNAVAILABLE, "filesystem of %s: %s", options->dir,
                         name != NULL ? name : "error");
    }
    if (facts.read_only)
        return trail_add(trail, PDB_FAILED_PRECONDITION, "%s is read-only", options->dir);
    if (facts.unsafe_sync && !options->allow_unsafe_fs)
        return trail_add(trail, PDB_FAILED_PRECONDITION,
                         "%s lies on %s, where a completed sync does not promise that data "
                         "survives a loss of power: "
                         "mount a volume or a local disk there, or set wal.allow_unsafe_fs = true",
                         options->dir, facts.name);
    if (facts.unsafe_sync)
        LOG_WARN("wal", "%s lies on %s: acknowledged writes may not survive a loss of power",
                 options->dir, facts.name);
    if (facts.volatile_memory)
        LOG_WARN("wal", "%s lies on %s: nothing in it survives a restart of the machine",
                 options->dir, facts.name);
    if (facts.copy_on_write && fs_set_no_copy(options->dir) < 0)
        LOG_WARN("wal",
                 "%s lies on %s, which allocates on every overwrite: a full disk can stop the log "
                 "at any write",
                 options->dir, facts.name);
    *block_bytes_out = block_of(&facts);
    return 0;
}
