/* wal_truncate.c: what the log may forget. For now nothing is forgotten: a release is noted by
 * nobody, and every segment stays. */
#include "wal/wal_internal.h"

#include "base/no_libc_heap.h"

void wal_release(struct wal *w, const struct uuid *collection, uint64_t version)
{
    (void)w;
    (void)collection;
    (void)version;
}

bool wal_holder(const struct wal *w, struct uuid *collection_out, uint64_t *version_out)
{
    (void)w;
    (void)collection_out;
    (void)version_out;
    return false;
}

void wal_collections(const struct wal *w,
                     void (*visit)(void *arg, const struct uuid *collection, uint64_t version),
                     void *arg)
{
    (void)w;
    (void)visit;
    (void)arg;
}

void wal_hold_from(struct wal *w, uint64_t seq)
{
    (void)w;
    (void)seq;
}

void wal_roll_now(struct wal *w)
{
    (void)w;
}

void wal_segments(const struct wal *w,
                  void (*visit)(void *arg, const struct wal_segment_info *info), void *arg)
{
    (void)w;
    (void)visit;
    (void)arg;
}
