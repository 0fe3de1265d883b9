/* dedup.c: a map from the 128-bit hash of a request id to its answer, and a list by age.
 *
 * The hash has fixed keys, because it is logged with the batch and must mean the same after a
 * restart; a caller who makes two ids collide deceives only himself. An entry is in the table from
 * the moment its request is prepared, so that a retry which overtakes the original finds it and
 * waits. */
#include "engine/dedup.h"

#include "base/bytes.h"
#include "base/hash.h"

#include <string.h>

#include "base/no_libc_heap.h"

static bool same_key(const void *owner, uint64_t value, const void *key, size_t key_len)
{
    (void)owner;
    const struct dedup_entry *entry = (const struct dedup_entry *)(uintptr_t)value;
    return key_len == sizeof(entry->request.hash) && memcmp(entry->request.hash, key, key_len) == 0;
}

static uint64_t table_hash(const uint8_t hash[16])
{
    return bytes_get_u64(hash);
}

void dedup_init(struct dedup *d, struct heap *heap)
{
    *d = (struct dedup){.heap = heap};
    map_init(&d->entries, heap, same_key, NULL);
    list_init(&d->oldest_first);
}

static void drop(struct dedup *d, struct dedup_entry *entry)
{
    if (d->cursor == &entry->link)
        d->cursor = entry->link.next;
    if (list_linked(&entry->link)) {
        list_remove(&entry->link);
        d->done_count--;
    }
    (void)map_remove(&d->entries, table_hash(entry->request.hash), entry->request.hash,
                     sizeof(entry->request.hash), NULL);
    heap_free(d->heap, entry);
}

static void free_entry(void *arg, uint64_t value)
{
    struct dedup *d = arg;
    heap_free(d->heap, (void *)(uintptr_t)value);
}

void dedup_dispose(struct dedup *d)
{
    map_each(&d->entries, free_entry, d);
    map_dispose(&d->entries);
}

void dedup_hash(const void *request_id, size_t len, uint8_t hash_out[16])
{
    static const struct hash_key keys[2] = {{0x70726f78696d6164u, 0x627265747279306bu},
                                            {0x6964656d706f7465u, 0x6e63796b65793162u}};
    bytes_put_u64(hash_out, hash_bytes(&keys[0], request_id, len));
    bytes_put_u64(hash_out + 8,
                  hash_bytes(&keys[1], request_id, len) | 1); /* all zero means none */
}

static void forget_old(struct dedup *d, int64_t now_us)
{
    while (!list_empty(&d->oldest_first)) {
        struct dedup_entry *oldest =
            container_of(d->oldest_first.anchor.next, struct dedup_entry, link);
        if (d->done_count <= DEDUP_ENTRIES_MAX && oldest->request.time_us > now_us - DEDUP_KEEP_US)
            return;
        drop(d, oldest);
    }
}

struct dedup_entry *dedup_find(struct dedup *d, const uint8_t hash[16], int64_t now_us)
{
    uint64_t value;
    forget_old(d, now_us);
    if (!map_find(&d->entries, table_hash(hash), hash, 16, &value))
        return NULL;
    return (struct dedup_entry *)(uintptr_t)value;
}

struct dedup_entry *dedup_begin(struct dedup *d, const struct wal_request *request,
                                struct write_op *original)
{
    struct dedup_entry *entry = heap_calloc(d->heap, 1, sizeof(*entry));
    if (entry == NULL || map_reserve(&d->entries, 1) < 0) {
        heap_free(d->heap, entry);
        return NULL;
    }
    entry->request = *request;
    entry->original = original;
    (void)map_put(&d->entries, table_hash(entry->request.hash), entry->request.hash,
                  sizeof(entry->request.hash), (uint64_t)(uintptr_t)entry, NULL);
    return entry;
}

void dedup_finish(struct dedup *d, struct dedup_entry *entry, uint64_t version, uint32_t count,
                  int64_t now_us)
{
    entry->original = NULL;
    entry->version = version;
    entry->count = count;
    list_push_back(&d->oldest_first, &entry->link);
    d->done_count++;
    forget_old(d, now_us);
}

void dedup_abandon(struct dedup *d, struct dedup_entry *entry)
{
    if (entry != NULL)
        drop(d, entry);
}

void dedup_walk(struct dedup *d)
{
    d->cursor = d->oldest_first.anchor.next;
}

const struct dedup_entry *dedup_next(struct dedup *d)
{
    struct list_link *link = d->cursor;
    if (link == NULL || link == &d->oldest_first.anchor)
        return NULL;
    d->cursor = link->next;
    return container_of(link, struct dedup_entry, link);
}
