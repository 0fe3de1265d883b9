/* map.c: linear probing over an array of hashes; values lie in a second array, so that a probe
 * walks eight slots a cache line and touches a value only when all 64 bits of the hash agree.
 *
 * Growth: map_reserve makes the next table, later operations move MOVE_STEP slots each from `old`
 * to `now`. The next table has room for all live entries and those promised, and is large enough
 * that old is empty before it is full. Only a map_reserve for very many entries during a move has
 * to finish that move at once.
 *
 * A slot is empty (0), removed (1) or holds the hash with bit 1 set, which makes it more than 1.
 * Removing before an empty slot gives back the slot and the removed ones in front of it, so queues
 * of short-lived keys leave no litter. The home slot is the top bits of a multiplication: callers
 * may hash badly in any bits. */
#include "base/map.h"

#include "base/assert.h"

#include <proximadb/error.h>

#include "base/no_libc_heap.h"

enum {
    SLOT_EMPTY = 0,
    SLOT_REMOVED = 1,
#ifdef PDB_STRESS
    SLOTS_MIN = 4,
#else
    SLOTS_MIN = 16,
#endif
    MOVE_STEP = 16,
};

static uint64_t mark(uint64_t hash)
{
    return hash | 2;
}

static size_t home_slot(const struct map_table *table, uint64_t marked)
{
    unsigned bits = (unsigned)__builtin_ctzll(table->slot_count);
    return (size_t)(marked * 0x9e3779b97f4a7c15u >> (64 - bits));
}

/* Live and removed slots that a table of this size may hold: three quarters. */
static size_t slots_usable(size_t slot_count)
{
    return slot_count - slot_count / 4;
}

static int table_make(struct heap *heap, size_t slot_count, struct map_table *table_out)
{
    size_t bytes = slot_count * sizeof(uint64_t);
    uint64_t *hashes = heap_zeroes(heap, bytes);
    uint64_t *values = heap_zeroes(heap, bytes);
    if (hashes == NULL || values == NULL) {
        heap_zeroes_free(heap, hashes, bytes);
        heap_zeroes_free(heap, values, bytes);
        return -1;
    }
    *table_out = (struct map_table){hashes, values, slot_count};
    return 0;
}

static void table_drop(struct heap *heap, struct map_table *table)
{
    heap_zeroes_free(heap, table->hashes, table->slot_count * sizeof(uint64_t));
    heap_zeroes_free(heap, table->values, table->slot_count * sizeof(uint64_t));
    *table = (struct map_table){0};
}

/* The slot that holds the key, or SIZE_MAX. *free_out: the first slot an insert may take. */
static size_t table_probe(const struct map *map, const struct map_table *table, uint64_t marked,
                          const void *key, size_t key_len, size_t *free_out)
{
    if (table->slot_count == 0)
        return SIZE_MAX;
    size_t mask = table->slot_count - 1, free_slot = SIZE_MAX;
    for (size_t slot = home_slot(table, marked);; slot = (slot + 1) & mask) {
        uint64_t held = table->hashes[slot];
        if (held == marked && map->equal(map->owner, table->values[slot], key, key_len))
            return slot;
        if (held <= SLOT_REMOVED && free_slot == SIZE_MAX)
            free_slot = slot;
        if (held == SLOT_EMPTY)
            break;
    }
    if (free_out != NULL)
        *free_out = free_slot;
    return SIZE_MAX;
}

/* Puts an entry that is known not to be in `now` into its first free slot. */
static void insert_new(struct map *map, uint64_t marked, uint64_t value)
{
    struct map_table *table = &map->now;
    size_t mask = table->slot_count - 1, slot = home_slot(table, marked);
    while (table->hashes[slot] > SLOT_REMOVED)
        slot = (slot + 1) & mask;
    map->used += table->hashes[slot] == SLOT_EMPTY;
    table->hashes[slot] = marked;
    table->values[slot] = value;
}

static void move_slots(struct map *map, size_t step)
{
    struct map_table *old = &map->old;
    if (old->slot_count == 0)
        return;
    for (; step > 0 && map->old_next < old->slot_count; step--, map->old_next++) {
        uint64_t held = old->hashes[map->old_next];
        if (held <= SLOT_REMOVED)
            continue;
        insert_new(map, held, old->values[map->old_next]);
        old->hashes[map->old_next] = SLOT_REMOVED; /* later probes of old must go on past it */
        map->old_count--;
    }
    if (map->old_next == old->slot_count) {
        ASSERT(map->old_count == 0);
        table_drop(map->heap, old);
    }
}

void map_init(struct map *map, struct heap *heap, map_equal_fn *equal, const void *owner)
{
    *map = (struct map){.heap = heap, .equal = equal, .owner = owner};
}

void map_dispose(struct map *map)
{
    if (map == NULL)
        return;
    table_drop(map->heap, &map->now);
    table_drop(map->heap, &map->old);
    map->count = map->used = map->old_count = map->old_next = 0;
}

int map_reserve(struct map *map, size_t more)
{
    size_t need = 0;
    if (__builtin_add_overflow(map->used + map->old_count, more, &need))
        return PDB_RESOURCE_EXHAUSTED;
    if (need <= slots_usable(map->now.slot_count))
        return 0;

    size_t live = map->count + more, slot_count = SLOTS_MIN;
    if (live > SIZE_MAX / 64)
        return PDB_RESOURCE_EXHAUSTED;
    /* At most half full, and a quarter of the old one at least: a sixteenth of the old table's
     * slots are then left for inserts before the next growth, and each of those moves 16 of its
     * slots. */
    while (slot_count < 2 * live || slot_count < map->now.slot_count / 4)
        slot_count *= 2;
    struct map_table bigger;
    if (table_make(map->heap, slot_count, &bigger) < 0)
        return PDB_RESOURCE_EXHAUSTED;
    move_slots(map, SIZE_MAX);
    map->old = map->now;
    map->old_next = 0;
    map->old_count = map->count;
    map->now = bigger;
    map->used = 0;
    move_slots(map, MOVE_STEP);
    return 0;
}

bool map_find(const struct map *map, uint64_t hash, const void *key, size_t key_len,
              uint64_t *value_out)
{
    uint64_t marked = mark(hash);
    size_t slot = table_probe(map, &map->now, marked, key, key_len, NULL);
    if (slot != SIZE_MAX) {
        *value_out = map->now.values[slot];
        return true;
    }
    slot = table_probe(map, &map->old, marked, key, key_len, NULL);
    if (slot != SIZE_MAX)
        *value_out = map->old.values[slot];
    return slot != SIZE_MAX;
}

static void replace(struct map_table *table, size_t slot, uint64_t value, uint64_t *old_out)
{
    if (old_out != NULL)
        *old_out = table->values[slot];
    table->values[slot] = value;
}

bool map_put(struct map *map, uint64_t hash, const void *key, size_t key_len, uint64_t value,
             uint64_t *old_out)
{
    ASSERT(map->now.slot_count != 0);
    uint64_t marked = mark(hash);
    size_t free_slot = SIZE_MAX;
    move_slots(map, MOVE_STEP);
    size_t slot = table_probe(map, &map->now, marked, key, key_len, &free_slot);
    if (slot != SIZE_MAX) {
        replace(&map->now, slot, value, old_out);
        return true;
    }
    slot = table_probe(map, &map->old, marked, key, key_len, NULL);
    if (slot != SIZE_MAX) {
        replace(&map->old, slot, value, old_out);
        return true;
    }
    bool was_empty = map->now.hashes[free_slot] == SLOT_EMPTY;
    ASSERT(map->used + map->old_count + was_empty <= slots_usable(map->now.slot_count));
    map->now.hashes[free_slot] = marked;
    map->now.values[free_slot] = value;
    map->used += was_empty;
    map->count++;
    return false;
}

/* Marks a slot of `now` removed, or empty together with the removed ones before it when an empty
 * one follows. */
static void give_back_slot(struct map *map, size_t slot)
{
    struct map_table *table = &map->now;
    size_t mask = table->slot_count - 1;
    table->hashes[slot] = SLOT_REMOVED;
    if (table->hashes[(slot + 1) & mask] != SLOT_EMPTY)
        return;
    for (; table->hashes[slot] == SLOT_REMOVED; slot = (slot - 1) & mask) {
        table->hashes[slot] = SLOT_EMPTY;
        map->used--;
    }
}

bool map_remove(struct map *map, uint64_t hash, const void *key, size_t key_len, uint64_t *old_out)
{
    uint64_t marked = mark(hash);
    move_slots(map, MOVE_STEP);
    size_t slot = table_probe(map, &map->now, marked, key, key_len, NULL);
    if (slot != SIZE_MAX) {
        if (old_out != NULL)
            *old_out = map->now.values[slot];
        give_back_slot(map, slot);
        map->count--;
        return true;
    }
    slot = table_probe(map, &map->old, marked, key, key_len, NULL);
    if (slot == SIZE_MAX)
        return false;
    if (old_out != NULL)
        *old_out = map->old.values[slot];
    map->old.hashes[slot] = SLOT_REMOVED;
    map->old_count--;
    map->count--;
    return true;
}

static void table_each(const struct map_table *table, void (*visit)(void *arg, uint64_t value),
                       void *arg)
{
    for (size_t slot = 0; slot < table->slot_count; slot++) {
        if (table->hashes[slot] > SLOT_REMOVED)
            visit(arg, table->values[slot]);
    }
}

void map_each(const struct map *map, void (*visit)(void *arg, uint64_t value), void *arg)
{
    table_each(&map->now, visit, arg);
    table_each(&map->old, visit, arg);
}
