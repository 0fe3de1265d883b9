/* A hash table from bytes to a 64-bit value: open addressing over tags, the key's bytes live with
 * the caller. The table stores only hash and value; `equal` says whether the entry with `value` has
 * the looked-up key. Used for id maps (value = row), catalogs (value = pointer) and dedup tables.
 * Grows by moving a bounded number of slots per operation, so that no insert stalls a reactor. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/heap.h"

#include <stdbool.h>
#include <stdint.h>

/* True if the entry holding `value` has the key `key`; `owner` is what map_init got. */
typedef bool map_equal_fn(const void *owner, uint64_t value, const void *key, size_t key_len);

struct map_table {
    uint64_t *hashes; /* 0: empty, 1: removed; else the hash with its low bits made > 1 */
    uint64_t *values;
    size_t slot_count; /* a power of two, or 0 */
};

struct map {
    struct heap *heap;
    map_equal_fn *equal;
    const void *owner;
    struct map_table now, old; /* old: being emptied step by step after a growth */
    size_t old_next;           /* first slot of old that was not moved yet */
    size_t old_count;          /* live entries of old */
    size_t count;              /* live entries of both */
    size_t used;               /* live and removed slots of now */
};

void map_init(struct map *map, struct heap *heap, map_equal_fn *equal, const void *owner);
void map_dispose(struct map *map);

/* Makes sure that the next `more` inserts cannot fail. 0 or PDB_RESOURCE_EXHAUSTED. */
int map_reserve(struct map *map, size_t more);
/* True and *value_out when found. */
bool map_find(const struct map *map, uint64_t hash, const void *key, size_t key_len,
              uint64_t *value_out);
/* Inserts or replaces. Needs a map_reserve before; cannot fail. True if a value was replaced
 * (*old_out, may be NULL). */
bool map_put(struct map *map, uint64_t hash, const void *key, size_t key_len, uint64_t value,
             uint64_t *old_out);
bool map_remove(struct map *map, uint64_t hash, const void *key, size_t key_len, uint64_t *old_out);
/* Calls `visit` for each value in no order; the map must not change meanwhile. */
void map_each(const struct map *map, void (*visit)(void *arg, uint64_t value), void *arg);

#endif
