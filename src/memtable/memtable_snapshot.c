/* memtable_snapshot.c: what a reader holds, and the walk over it.
 *
 * A snapshot is a reference to the set of chunks and four numbers: how many chunks and rows of the
 * last one were there, and which rows of the chunk being rewritten were already gone (they are seen
 * where they went to). So it costs the same for a thousand rows and for a million. A row's
 * `ended_at` may still change while a snapshot lives, but only to a version above the snapshot's.
 * */
#include "memtable/memtable_internal.h"

#include "base/assert.h"

#include "base/no_libc_heap.h"

int memtable_snapshot(struct memtable *m, uint64_t at_version, int64_t now_us,
                      struct memtable_snapshot **snapshot_out)
{
    struct memtable_snapshot *s = memtable_alloc(m, alignof(struct memtable_snapshot), sizeof(*s));
    if (s == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    const struct memtable_chunk *tail = memtable_tail(m);
    *s = (struct memtable_snapshot){
        .memtable = m,
        .set = m->set,
        .chunk_count = m->set != NULL ? m->set->count : 0,
        .tail_rows = tail != NULL ? tail->count : 0,
        .gone_chunk = m->collect.rewriting ? m->collect.chunk : UINT32_MAX,
        .gone_rows = m->collect.rewriting ? m->collect.row : 0,
        /* Never ahead of what is there: a later commit must not end rows for this reader. */
        .at_version = at_version < m->version_newest ? at_version : m->version_newest,
        .now_us = now_us,
        .row_count = m->rows_total,
    };
    if (m->set != NULL)
        m->set->refs++;
    m->snapshot_count++;
    *snapshot_out = s;
    return 0;
}

void memtable_snapshot_release(struct memtable_snapshot *s)
{
    if (s == NULL)
        return;
    struct memtable *m = s->memtable;
    ASSERT(m->snapshot_count > 0);
    m->snapshot_count--;
    memtable_set_release(m, s->set);
    memtable_release(m, s, sizeof(*s));
}

uint64_t memtable_snapshot_rows(const struct memtable_snapshot *s)
{
    return s->row_count;
}

static uint32_t rows_of(const struct memtable_snapshot *s, uint32_t chunk)
{
    return chunk + 1 == s->chunk_count ? s->tail_rows : s->set->chunks[chunk]->count;
}

bool memtable_at_end(const struct memtable_snapshot *s, struct memtable_cursor *cursor)
{
    for (; cursor->chunk < s->chunk_count; cursor->chunk++, cursor->row = 0) {
        if (cursor->chunk == s->gone_chunk && cursor->row < s->gone_rows)
            cursor->row = s->gone_rows;
        if (cursor->row < rows_of(s, cursor->chunk))
            return false;
    }
    return true;
}

bool memtable_next_range(const struct memtable_snapshot *s, struct memtable_cursor *cursor,
                         uint32_t batch_rows, struct memtable_range *range_out)
{
    if (memtable_at_end(s, cursor))
        return false;
    uint32_t end = rows_of(s, cursor->chunk), left = batch_rows - cursor->row % batch_rows;
    *range_out = (struct memtable_range){
        .chunk = s->set->chunks[cursor->chunk],
        .chunk_index = cursor->chunk,
        .first = cursor->row,
        .count = end - cursor->row < left ? end - cursor->row : left,
    };
    cursor->row += range_out->count;
    return true;
}

void memtable_snapshot_row(const struct memtable_snapshot *s, uint64_t key, struct pdb_row *row_out,
                           const void **vectors)
{
    uint32_t chunk = memtable_key_chunk(key);
    ASSERT(chunk < s->chunk_count && (uint32_t)key < rows_of(s, chunk));
    memtable_row_out(s->memtable, memtable_row_of_key(s, key), row_out, vectors);
}
