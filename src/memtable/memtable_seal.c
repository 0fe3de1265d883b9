/* memtable_seal.c: a memtable that takes no more rows, and the order in which a segment wants them.
 *
 * Sealed, everything about a row but its `ended_at` is constant, and so are chunks and set: a
 * worker reads them without locks while the owner goes on searching, and ending rows.
 *
 * The order is found by a merge sort over 16 bytes a row: eight bytes of the id, from where ids
 * begin to differ, and the row's key. Most comparisons need no more, so that a row is hardly ever
 * visited again. Runs that are in order already are not merged: ids often arrive sorted. */
#include "memtable/memtable_internal.h"

#include "base/assert.h"
#include "base/text.h"

#include "base/no_libc_heap.h"

enum { RUN_ITEMS = 8 }; /* sorted by insertion */

struct item {
    uint64_t prefix; /* of the id behind what all have in common: big-endian, filled with zeros */
    uint64_t key;
};

struct order {
    const struct memtable *memtable;
    uint64_t at_version, oldest_version;
    struct item *items, *scratch;
    size_t count;
};

void memtable_seal(struct memtable *m)
{
    m->reserved_rows = m->reserved_text = 0;
    memtable_trim(m);
    m->sealed = true;
}

static struct memtable_row *row_of(const struct memtable *m, uint64_t key)
{
    uint32_t chunk = memtable_key_chunk(key);
    ASSERT(m->set != NULL && chunk < m->set->count && (uint32_t)key < m->set->chunks[chunk]->count);
    return &m->set->chunks[chunk]->rows[(uint32_t)key];
}

void memtable_row_at(const struct memtable *m, uint64_t key, struct pdb_row *row_out,
                     const void **vectors)
{
    memtable_row_out(m, row_of(m, key), row_out, vectors);
}

uint64_t memtable_ended_at(const struct memtable *m, uint64_t key)
{
    return memtable_ended(row_of(m, key));
}

/* ---- the order ---- */

static bool belongs(const struct order *order, const struct memtable_row *row)
{
    uint64_t ended_at = memtable_ended(row);
    return row->version <= order->at_version && ended_at > order->oldest_version &&
           ended_at > row->version;
}

static void gather(struct order *order)
{
    const struct memtable *m = order->memtable;
    for (uint32_t c = 0; m->set != NULL && c < m->set->count; c++) {
        const struct memtable_chunk *chunk = m->set->chunks[c];
        /* a rewriting that was under way when the memtable was sealed has moved these (M4) */
        uint32_t r = m->collect.rewriting && c == m->collect.chunk ? m->collect.row : 0;
        for (; r < chunk->count; r++) {
            if (belongs(order, &chunk->rows[r]))
                order->items[order->count++].key = memtable_key(c, r);
        }
    }
}

/* Bytes that all ids begin with. */
static size_t common_prefix(const struct order *order)
{
    if (order->count == 0)
        return 0;
    struct pdb_text first = memtable_id(row_of(order->memtable, order->items[0].key));
    size_t common = first.len;
    for (size_t i = 1; i < order->count && common > 0; i++) {
        struct pdb_text id = memtable_id(row_of(order->memtable, order->items[i].key));
        size_t len = 0, most = id.len < common ? id.len : common;
        while (len < most && id.ptr[len] == first.ptr[len])
            len++;
        common = len;
    }
    return common;
}

static void set_prefixes(struct order *order)
{
    size_t common = common_prefix(order);
    for (size_t i = 0; i < order->count; i++) {
        struct pdb_text id = memtable_id(row_of(order->memtable, order->items[i].key));
        uint64_t prefix = 0;
        for (size_t b = 0; b < sizeof(prefix); b++)
            prefix = prefix << 8 | (common + b < id.len ? (unsigned char)id.ptr[common + b] : 0);
        order->items[i].prefix = prefix;
    }
}

static bool comes_before(const struct order *order, const struct item *a, const struct item *b)
{
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix;
    const struct memtable_row *row_a = row_of(order->memtable, a->key);
    const struct memtable_row *row_b = row_of(order->memtable, b->key);
    int compared = text_compare(memtable_id(row_a), memtable_id(row_b));
    return compared != 0 ? compared < 0 : row_a->version > row_b->version;
}

static void sort_run(const struct order *order, struct item *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct item item = items[i];
        size_t at = i;
        for (; at > 0 && comes_before(order, &item, &items[at - 1]); at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

/* Merges items[from, middle) and items[middle, to) into the same places of `into`. */
static void merge(const struct order *order, size_t from, size_t middle, size_t to,
                  struct item *into)
{
    const struct item *items = order->items;
    if (middle == to || !comes_before(order, &items[middle], &items[middle - 1])) {
        memcpy(into + from, items + from, (to - from) * sizeof(*items));
        return;
    }
    size_t left = from, right = middle;
    for (size_t at = from; at < to; at++) {
        bool take_right =
            left == middle || (right < to && comes_before(order, &items[right], &items[left]));
        into[at] = items[take_right ? right++ : left++];
    }
}

static void sort_items(struct order *order)
{
    size_t count = order->count;
    for (size_t from = 0; from < count; from += RUN_ITEMS)
        sort_run(order, order->items + from, count - from < RUN_ITEMS ? count - from : RUN_ITEMS);
    for (size_t width = RUN_ITEMS; width < count; width *= 2) {
        for (size_t from = 0; from < count; from += 2 * width) {
            size_t middle = count - from < width ? count : from + width;
            size_t to = count - middle < width ? count : middle + width;
            merge(order, from, middle, to, order->scratch);
        }
        struct item *sorted = order->scratch;
        order->scratch = order->items;
        order->items = sorted;
    }
}

int memtable_order(const struct memtable *m, uint64_t at_version, uint64_t oldest_version,
                   struct heap *heap, uint64_t **keys_out, size_t *count_out)
{
    ASSERT(m->sealed);
    size_t row_count = 0;
    for (uint32_t c = 0; m->set != NULL && c < m->set->count; c++)
        row_count += m->set->chunks[c]->count;
    struct item *items = heap_calloc(heap, row_count, 2 * sizeof(*items));
    if (items == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    struct order order = {.memtable = m,
                          .at_version = at_version,
                          .oldest_version = oldest_version,
                          .items = items,
                          .scratch = items + row_count};
    gather(&order);
    set_prefixes(&order);
    sort_items(&order);
    /* The keys take the place of the items: forwards, each lies before what is still to be read. */
    uint64_t *keys = (uint64_t *)(void *)items;
    for (size_t i = 0; i < order.count; i++)
        keys[i] = order.items[i].key;
    uint64_t *shrunk = heap_realloc(heap, keys, order.count * sizeof(*keys));
    *keys_out = shrunk != NULL ? shrunk : keys;
    *count_out = order.count;
    return 0;
}
