/* memtable_collect.c: gives the space of dead rows back by rewriting chunks, a few rows at a time.
 *
 * First a chunk is looked for: counters say which ones may be worth it, then its rows are counted
 * exactly, because ended rows that an older reader still needs must not make us rewrite the same
 * chunk for ever. A third dead is enough: two rows are moved for one that goes, and the memtable is
 * at most half as large again as what lives in it.
 *
 * Then its rows are moved one by one to the tail, or dropped. Chains and map follow each row at
 * once, so point reads and new snapshots see it in its new place (M4), while older snapshots, which
 * end before the new place, still see it in the old one. Moving takes room beyond the reservation
 * of a batch under way, never from it.
 *
 * Dead: ended at or before oldest_version; or expired and written at or before oldest_version (else
 * an older row could appear again below it). What is older in the chain is then dead too, so a
 * chain may be cut at a dropped row. How long expired rows are kept for readers whose clock says
 * less is the caller's to decide. */
#include "memtable/memtable_internal.h"

#include "base/assert.h"

#include "base/no_libc_heap.h"

enum { COLLECT_DEAD_FRACTION = 3 };

struct limits {
    uint64_t oldest_version;
    int64_t expired_before_us;
};

static bool is_dead(const struct memtable_row *row, const struct limits *limits)
{
    if (memtable_ended(row) <= limits->oldest_version)
        return true;
    return row->expires_at_us != 0 && row->expires_at_us <= limits->expired_before_us &&
           row->version <= limits->oldest_version;
}

static bool may_be_worth_it(const struct memtable_chunk *chunk, const struct limits *limits)
{
    return (uint64_t)chunk->ended_count * COLLECT_DEAD_FRACTION >= chunk->count ||
           chunk->expires_min_us <= limits->expired_before_us;
}

/* ---- looking for a chunk ---- */

/* The tail is closed, so that its rows can go to another one. False without memory for that. */
static bool close_tail(struct memtable *m, struct memtable_chunk *tail)
{
    uint32_t capacity = tail->capacity;
    tail->capacity = tail->count;
    if (memtable_reserve(m, m->reserved_rows, m->reserved_text) == 0)
        return true;
    tail->capacity = capacity;
    memtable_trim(m);
    return false;
}

static void next_chunk(struct memtable *m)
{
    m->collect.chunk++;
    m->collect.row = m->collect.dead = 0;
}

/* Looks on; true when a chunk was chosen. False: budget or chunks are used up. */
static bool choose_chunk(struct memtable *m, const struct limits *limits, size_t *budget)
{
    uint32_t chunk_count = m->set != NULL ? m->set->count : 0;
    for (; *budget > 0 && m->collect.chunk < chunk_count; --*budget) {
        struct memtable_chunk *chunk = m->set->chunks[m->collect.chunk];
        if (!may_be_worth_it(chunk, limits)) {
            next_chunk(m);
            continue;
        }
        if (m->collect.row < chunk->count) {
            m->collect.dead += is_dead(&chunk->rows[m->collect.row++], limits);
            continue;
        }
        if ((uint64_t)m->collect.dead * COLLECT_DEAD_FRACTION >= chunk->count &&
            (chunk != memtable_tail(m) || close_tail(m, chunk))) {
            m->collect.row = 0;
            m->collect.rewriting = true;
            return true;
        }
        next_chunk(m);
    }
    return false;
}

/* ---- rewriting ---- */

static void drop_row(struct memtable *m, struct memtable_row *row)
{
    struct pdb_text id = memtable_id(row);
    if (row->newer != NULL)
        row->newer->older = NULL;
    if (row->older != NULL)
        row->older->newer = NULL;
    if (row->head) {
        bool removed = map_remove(&m->ids, memtable_hash(m, id), id.ptr, id.len, NULL);
        ASSERT(removed);
        m->rows_live -= memtable_ended(row) == MEMTABLE_NEVER;
    }
}

static void move_row(struct memtable *m, struct memtable_row *row)
{
    struct pdb_row contents;
    memtable_row_out(m, row, &contents, m->vectors_out);
    struct memtable_row *copy = memtable_append(m, &contents);
    copy->older = row->older;
    copy->newer = row->newer;
    copy->head = row->head;
    if (memtable_ended(row) != MEMTABLE_NEVER)
        memtable_end_row(m, copy, memtable_ended(row));
    if (copy->older != NULL)
        copy->older->newer = copy;
    if (copy->newer != NULL)
        copy->newer->older = copy;
    if (copy->head) {
        bool replaced = map_put(&m->ids, memtable_hash(m, contents.id), contents.id.ptr,
                                contents.id.len, memtable_value_of(copy), NULL);
        ASSERT(replaced);
    }
}

/* One row of the chosen chunk. False without memory for moving it. */
static bool take_row(struct memtable *m, struct memtable_row *row, const struct limits *limits)
{
    if (is_dead(row, limits)) {
        drop_row(m, row);
    } else {
        size_t text_bytes = (size_t)row->id_len + row->metadata_len;
        if (memtable_reserve(m, m->reserved_rows + 1, m->reserved_text + text_bytes) < 0) {
            memtable_trim(m);
            return false;
        }
        move_row(m, row);
    }
    row->newer = row->older = NULL;
    row->head = false;
    m->rows_total--;
    m->collect.row++;
    return true;
}

/* False without memory; the rest is done by a later call. */
static bool rewrite(struct memtable *m, const struct limits *limits, size_t *budget)
{
    struct memtable_chunk *chunk = m->set->chunks[m->collect.chunk];
    for (; *budget > 0 && m->collect.row < chunk->count; --*budget) {
        if (!take_row(m, &chunk->rows[m->collect.row], limits))
            return false;
    }
    if (m->collect.row < chunk->count)
        return true;
    if (memtable_set_remove(m, m->collect.chunk) < 0)
        return false;
    m->collect.rewriting = false;
    m->collect.row = m->collect.dead = 0;
    return true;
}

bool memtable_collect(struct memtable *m, uint64_t oldest_version, int64_t expired_before_us,
                      size_t row_budget)
{
    struct limits limits = {oldest_version, expired_before_us};
    if (m->sealed)
        return false;
    while (row_budget > 0) {
        if (!m->collect.rewriting && !choose_chunk(m, &limits, &row_budget)) {
            if (row_budget == 0)
                return true;
            m->collect.chunk = m->collect.row = m->collect.dead = 0;
            return false;
        }
        if (m->collect.rewriting && !rewrite(m, &limits, &row_budget))
            return false;
    }
    return true;
}
