/* memtable_scan.c: the unordered scan (count, delete by filter) and the scroll in order of id.
 *
 * A scroll page keeps the `limit` smallest ids in a heap whose root is the largest kept, so that
 * one pass with O(limit) memory answers it; keeping rows sorted by id was rejected: it would cost
 * every write to serve a rare read. */
#include "memtable/memtable_internal.h"

#include "base/assert.h"

#include "base/no_libc_heap.h"

bool memtable_scan_step(struct memtable_snapshot *s, struct memtable_cursor *cursor,
                        const struct filter *filter, size_t row_budget,
                        int (*visit)(void *arg, uint64_t key), void *arg)
{
    struct memtable_range range;
    for (; row_budget > 0 && memtable_next_range(s, cursor, 1, &range); row_budget--) {
        const struct memtable_row *row = &range.chunk->rows[range.first];
        if (!memtable_visible(s, row) || !filter_matches(filter, memtable_metadata(row)))
            continue;
        if (visit(arg, memtable_key(range.chunk_index, range.first)) != 0)
            break;
    }
    return memtable_at_end(s, cursor);
}

/* ---- scroll ---- */

static struct pdb_text id_of(const struct memtable_scroll *scroll, uint64_t key)
{
    return memtable_id(memtable_row_of_key(scroll->snapshot, key));
}

static void sift_up(struct memtable_scroll *scroll, size_t at)
{
    uint64_t key = scroll->keys[at];
    struct pdb_text id = id_of(scroll, key);
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (text_compare(id, id_of(scroll, scroll->keys[parent])) <= 0)
            break;
        scroll->keys[at] = scroll->keys[parent];
        at = parent;
    }
    scroll->keys[at] = key;
}

/* Puts `key` where the root was, in a heap of `count`. */
static void sift_down(struct memtable_scroll *scroll, size_t count, uint64_t key)
{
    size_t at = 0;
    struct pdb_text id = id_of(scroll, key);
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        uint64_t *keys = scroll->keys;
        if (child + 1 < count &&
            text_compare(id_of(scroll, keys[child + 1]), id_of(scroll, keys[child])) > 0)
            child++;
        if (text_compare(id_of(scroll, keys[child]), id) <= 0)
            break;
        keys[at] = keys[child];
        at = child;
    }
    scroll->keys[at] = key;
}

/* The cheap tests first; the filter only for an id that would be kept. */
static void offer(struct memtable_scroll *scroll, const struct memtable_row *row, uint64_t key)
{
    struct pdb_text id = memtable_id(row);
    bool full = scroll->count == scroll->limit;
    if (!memtable_visible(scroll->snapshot, row) ||
        (scroll->after.len != 0 && text_compare(id, scroll->after) <= 0) ||
        (full && text_compare(id, id_of(scroll, scroll->keys[0])) >= 0) ||
        !filter_matches(scroll->filter, memtable_metadata(row)))
        return;
    if (full) {
        sift_down(scroll, scroll->count, key);
        return;
    }
    scroll->keys[scroll->count] = key;
    sift_up(scroll, scroll->count++);
}

static void sort_keys(struct memtable_scroll *scroll)
{
    for (size_t end = scroll->count; end-- > 1;) {
        uint64_t last = scroll->keys[end];
        scroll->keys[end] = scroll->keys[0];
        sift_down(scroll, end, last);
    }
}

bool memtable_scroll_step(struct memtable_scroll *scroll, size_t row_budget)
{
    ASSERT(scroll->keys != NULL || scroll->limit == 0);
    if (scroll->limit == 0)
        return true;
    struct memtable_range range;
    for (; row_budget > 0 && memtable_next_range(scroll->snapshot, &scroll->cursor, 1, &range);
         row_budget--)
        offer(scroll, &range.chunk->rows[range.first],
              memtable_key(range.chunk_index, range.first));
    if (!memtable_at_end(scroll->snapshot, &scroll->cursor))
        return false;
    sort_keys(scroll);
    return true;
}
