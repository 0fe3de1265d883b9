/* segment_deletes.c: which rows of a segment ended, and from which version on.
 *
 * A bit per row says that it ended: all that a search looks at for most rows, and all that is left
 * once nobody can read from before. The versions of the rows that ended lately lie in a hash table
 * with open addressing over rows: 12 bytes a slot, at most three in four slots in use. Removal
 * shifts back what follows, so that there are no removed slots to grow old with. A sorted array was
 * rejected, because a mark in the middle moves half of it, and so was a list in order of marks,
 * which would be searched from the start by each reader.
 *
 * A table grows, and shrinks, into a new one: entries move a few at a time, with each mark and with
 * segment_deletes_forget, so that no mark stalls its core. Until the old table is empty, look-ups
 * ask both. Only a reservation that needs a third table moves the rest at once. */
#include "segment/segment_internal.h"

#include "base/bitset.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum {
    SLOTS_MIN = 16,
    MOVES_PER_MARK =
        8, /* slots looked at: a table twice as large is empty long before it is full */
    SHRINK_FRACTION = 8, /* a table of which less is used is replaced by a smaller one */
};

struct table {
    uint64_t *versions; /* one allocation with rows, which lie behind */
    uint32_t *rows;     /* row + 1; 0: empty */
    size_t slot_count;  /* a power of two, or 0 */
    size_t count;
};

struct segment_deletes {
    struct heap *heap;
    uint32_t row_count;
    uint64_t ended_count;
    uint64_t *ended; /* a bit per row */
    struct table now, old;
    size_t old_next; /* slots of old below it are empty */
    size_t reserved; /* marks that have been promised room */
    size_t sweep;    /* forgetting: next slot of now */
    /* Versions up to it are forgotten; or will be, once the sweep under way is through. */
    uint64_t forgotten, sweep_version;
};

/* ---- tables ---- */

static size_t home_of(const struct table *t, uint32_t row)
{
    unsigned bits = (unsigned)__builtin_ctzll(t->slot_count);
    return (size_t)((uint64_t)(row + 1) * 0x9e3779b97f4a7c15u >> (64 - bits));
}

static size_t room_of(const struct table *t)
{
    return t->slot_count / 4 * 3;
}

/* The slot of the row, or the empty one where it would go. The table must have an empty slot. */
static size_t slot_of(const struct table *t, uint32_t row)
{
    size_t at = home_of(t, row);
    while (t->rows[at] != 0 && t->rows[at] != row + 1)
        at = (at + 1) & (t->slot_count - 1);
    return at;
}

static uint64_t *find(const struct table *t, uint32_t row)
{
    if (t->count == 0)
        return NULL;
    size_t at = slot_of(t, row);
    return t->rows[at] != 0 ? &t->versions[at] : NULL;
}

static void insert(struct table *t, uint32_t row, uint64_t version)
{
    ASSERT(t->count < room_of(t));
    size_t at = slot_of(t, row);
    ASSERT(t->rows[at] == 0);
    t->rows[at] = row + 1;
    t->versions[at] = version;
    t->count++;
}

/* Empties a slot; what was pushed past it moves closer to its home. */
static void remove_at(struct table *t, size_t at)
{
    size_t mask = t->slot_count - 1;
    for (size_t next = (at + 1) & mask; t->rows[next] != 0; next = (next + 1) & mask) {
        size_t home = home_of(t, t->rows[next] - 1);
        if (((next - home) & mask) < ((next - at) & mask))
            continue;
        t->rows[at] = t->rows[next];
        t->versions[at] = t->versions[next];
        at = next;
    }
    t->rows[at] = 0;
    t->count--;
}

static size_t table_bytes(size_t slot_count)
{
    return slot_count * (sizeof(uint64_t) + sizeof(uint32_t));
}

static bool table_new(struct heap *heap, size_t slot_count, struct table *table_out)
{
    uint64_t *versions = heap_zeroes(heap, table_bytes(slot_count));
    if (versions == NULL)
        return false;
    *table_out = (struct table){.versions = versions,
                                .rows = (uint32_t *)(void *)(versions + slot_count),
                                .slot_count = slot_count};
    return true;
}

static void table_free(struct heap *heap, struct table *t)
{
    heap_zeroes_free(heap, t->versions, table_bytes(t->slot_count));
    *t = (struct table){0};
}

/* ---- from the old table to the new one ---- */

/* Looks at up to `slots` slots of the old table; returns how many are left of the budget. */
static size_t move_entries(struct segment_deletes *d, size_t slots)
{
    struct table *old = &d->old;
    for (; slots > 0 && old->count > 0; slots--) {
        size_t at = d->old_next;
        if (old->rows[at] == 0) {
            d->old_next++;
            continue;
        }
        if (old->versions[at] > d->forgotten)
            insert(&d->now, old->rows[at] - 1, old->versions[at]);
        remove_at(old, at); /* another one may have come here: the slot is looked at again */
    }
    if (old->count == 0)
        table_free(d->heap, old);
    return slots;
}

/* Begins to move all entries to a table with room for `room` entries. False: without memory. */
static bool replace_table(struct segment_deletes *d, size_t room)
{
    size_t slot_count = SLOTS_MIN;
    struct table table;
    while (slot_count / 4 * 3 < room)
        slot_count *= 2;
    if (!table_new(d->heap, slot_count, &table))
        return false;
    (void)move_entries(d, SIZE_MAX);
    d->old = d->now;
    d->old_next = 0;
    d->now = table;
    d->sweep = 0;
    (void)move_entries(d, MOVES_PER_MARK);
    return true;
}

/* ---- life ---- */

int segment_deletes_new(struct heap *heap, uint32_t row_count, struct segment_deletes **out)
{
    ASSERT(row_count <= SEGMENT_ROWS_MAX);
    struct segment_deletes *d = heap_calloc(heap, 1, sizeof(*d));
    uint64_t *ended = heap_calloc(heap, bitset_words(row_count), sizeof(*ended));
    if (d == NULL || ended == NULL) {
        heap_free(heap, d);
        heap_free(heap, ended);
        return PDB_RESOURCE_EXHAUSTED;
    }
    d->heap = heap;
    d->row_count = row_count;
    d->ended = ended;
    *out = d;
    return 0;
}

void segment_deletes_free(struct segment_deletes *d)
{
    if (d == NULL)
        return;
    table_free(d->heap, &d->now);
    table_free(d->heap, &d->old);
    heap_free(d->heap, d->ended);
    heap_free(d->heap, d);
}

static bool table_copy(struct heap *heap, const struct table *from, struct table *table_out)
{
    *table_out = (struct table){0};
    if (from->count == 0)
        return true;
    if (!table_new(heap, from->slot_count, table_out))
        return false;
    table_out->count = from->count;
    memcpy(table_out->versions, from->versions, table_bytes(from->slot_count));
    return true;
}

struct segment_deletes *segment_deletes_copy(const struct segment_deletes *d, struct heap *heap)
{
    struct segment_deletes *copy = NULL;
    if (segment_deletes_new(heap, d->row_count, &copy) < 0)
        return NULL;
    if (!table_copy(heap, &d->now, &copy->now) || !table_copy(heap, &d->old, &copy->old)) {
        segment_deletes_free(copy);
        return NULL;
    }
    memcpy(copy->ended, d->ended, bitset_words(d->row_count) * sizeof(d->ended[0]));
    copy->ended_count = d->ended_count;
    copy->forgotten = d->forgotten;
    copy->old_next = d->old_next;
    return copy;
}

/* ---- marks ---- */

int segment_deletes_reserve(struct segment_deletes *d, uint32_t more)
{
    size_t room = d->now.count + d->old.count + more;
    if (room > d->row_count)
        room = d->row_count;
    if (room > room_of(&d->now) && !replace_table(d, room))
        return PDB_RESOURCE_EXHAUSTED;
    d->reserved = more;
    return 0;
}

/* The row's version is not needed any more. */
static void drop_version(struct segment_deletes *d, uint32_t row)
{
    if (find(&d->now, row) != NULL)
        remove_at(&d->now, slot_of(&d->now, row));
    else if (find(&d->old, row) != NULL)
        remove_at(&d->old, slot_of(&d->old, row));
}

static uint64_t *remembered(const struct segment_deletes *d, uint32_t row)
{
    uint64_t *version = find(&d->now, row);
    return version != NULL ? version : find(&d->old, row);
}

void segment_deletes_mark(struct segment_deletes *d, uint32_t row, uint64_t version)
{
    ASSERT(row < d->row_count && version != SEGMENT_NEVER);
    bool first = !bitset_test(d->ended, row), kept = version > d->forgotten;
    (void)move_entries(d, MOVES_PER_MARK);
    d->reserved -= d->reserved > 0;
    bitset_set(d->ended, row);
    d->ended_count += first;
    uint64_t *other = first ? NULL : remembered(d, row);
    if (first && kept) {
        ASSERT(d->now.count + d->old.count < room_of(&d->now));
        insert(&d->now, row, version);
    } else if (other != NULL && !kept) {
        drop_version(d, row);
    } else if (other != NULL && version < *other) {
        *other = version;
    }
}

uint64_t segment_deletes_ended_at(const struct segment_deletes *d, uint32_t row)
{
    ASSERT(row < d->row_count);
    if (!bitset_test(d->ended, row))
        return SEGMENT_NEVER;
    const uint64_t *version = remembered(d, row);
    return version != NULL ? *version : 0;
}

uint64_t segment_deletes_count(const struct segment_deletes *d)
{
    return d->ended_count;
}

uint64_t segment_deletes_remembered(const struct segment_deletes *d)
{
    return d->now.count + d->old.count;
}

const uint64_t *segment_deletes_bits(const struct segment_deletes *d)
{
    return d->ended;
}

bool segment_deletes_next(const struct segment_deletes *d, uint32_t *row, uint32_t *row_out,
                          uint64_t *ended_at_out)
{
    if (*row >= d->row_count)
        return false;
    size_t word = *row / 64, words = bitset_words(d->row_count);
    uint64_t bits = d->ended[word] & UINT64_MAX << (*row % 64);
    while (bits == 0 && ++word < words)
        bits = d->ended[word];
    if (bits == 0) {
        *row = d->row_count;
        return false;
    }
    uint32_t found = (uint32_t)(64 * word) + (uint32_t)__builtin_ctzll(bits);
    *row = found + 1;
    *row_out = found;
    *ended_at_out = segment_deletes_ended_at(d, found);
    return true;
}

/* ---- forgetting ---- */

/* Gives back a table that has become far too large; without memory it stays. */
static void shrink(struct segment_deletes *d)
{
    size_t room = d->now.count + d->reserved;
    if (d->old.count != 0 || room >= d->now.slot_count / SHRINK_FRACTION)
        return;
    if (room == 0)
        table_free(d->heap, &d->now);
    else if (d->now.slot_count > SLOTS_MIN)
        (void)replace_table(d, 2 * room);
}

/* Sweeps on through the table; returns how much is left of the budget. */
static size_t sweep(struct segment_deletes *d, size_t budget)
{
    struct table *t = &d->now;
    for (; budget > 0 && d->sweep < t->slot_count && t->count > 0; budget--) {
        if (t->rows[d->sweep] != 0 && t->versions[d->sweep] <= d->sweep_version)
            remove_at(t, d->sweep); /* another one may have come here */
        else
            d->sweep++;
    }
    return budget;
}

bool segment_deletes_forget(struct segment_deletes *d, uint64_t oldest_version, size_t budget)
{
    ASSERT(oldest_version != SEGMENT_NEVER);
    while (d->old.count > 0 || d->forgotten < oldest_version) {
        budget = move_entries(d, budget);
        if (d->forgotten >= oldest_version)
            return d->old.count > 0;
        if (d->sweep == 0)
            d->sweep_version = oldest_version;
        budget = sweep(d, budget);
        if (d->old.count > 0 || (d->sweep < d->now.slot_count && d->now.count > 0))
            return true;
        d->sweep = 0;
        d->forgotten = d->sweep_version;
        shrink(d);
    }
    return false;
}
