/* wal_retired.c: logs without a writer. For now none is emptied: they stay where they are. */
#include "wal/wal_internal.h"

#include "base/no_libc_heap.h"

struct wal_retired {
    struct reactor *r;
    char dir[WAL_PATH_MAX];
};

int wal_retired_open(struct reactor *r, const struct wal_retired_options *options,
                     struct wal_retired **log_out, struct trail *trail)
{
    struct wal_retired *log;
    size_t len = strlen(options->dir);
    if (len + 64 > WAL_PATH_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "the log's path is too long");
    if ((log = heap_calloc(&r->heap, 1, sizeof(*log))) == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a log without a core");
    log->r = r;
    memcpy(log->dir, options->dir, len + 1);
    *log_out = log;
    return 0;
}

void wal_retired_release(struct wal_retired *log, const struct uuid *collection, uint64_t version)
{
    (void)log;
    (void)collection;
    (void)version;
}

bool wal_retired_holder(const struct wal_retired *log, struct uuid *collection_out,
                        uint64_t *version_out)
{
    (void)log;
    (void)collection_out;
    (void)version_out;
    return false;
}

void wal_retired_collections(const struct wal_retired *log,
                             void (*visit)(void *arg, const struct uuid *collection,
                                           uint64_t version),
                             void *arg)
{
    (void)log;
    (void)visit;
    (void)arg;
}

uint64_t wal_retired_bytes(const struct wal_retired *log)
{
    (void)log;
    return 0;
}

const char *wal_retired_dir(const struct wal_retired *log)
{
    return log->dir;
}

void wal_retired_remove(struct wal_retired *log)
{
    (void)log;
}

void wal_retired_close(struct wal_retired *log)
{
    if (log != NULL)
        heap_free(&log->r->heap, log);
}

int wal_sweep(struct io *io, const char *const *dirs, size_t dir_count, struct trail *trail)
{
    (void)io;
    (void)dirs;
    (void)dir_count;
    (void)trail;
    return 0;
}
