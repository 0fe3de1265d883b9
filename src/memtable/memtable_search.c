/* memtable_search.c: exact search of a snapshot: hands its vectors to segment/scan.h in blocks that
 * end at multiples of a fixed row count within a chunk, whatever the budget. Here is only what a
 * memtable knows: where the rows lie, who sees them, and what their keys are. */
#include "memtable/memtable_internal.h"

#include "base/assert.h"

#include "base/no_libc_heap.h"

/* What a block's rows are looked up in. */
struct owner {
    const struct memtable_snapshot *snapshot;
    const struct memtable_row *rows; /* of the block */
};

static bool wanted(const struct scan_block *block, const struct scan_query *query, uint32_t i)
{
    const struct owner *owner = block->owner;
    const struct memtable_row *row = &owner->rows[i];
    return memtable_visible(owner->snapshot, row) && row->present >> query->field_index & 1 &&
           (query->exclude_id.len == 0 || !text_equal(query->exclude_id, memtable_id(row)));
}

static struct pdb_text metadata(const struct scan_block *block, uint32_t i)
{
    const struct owner *owner = block->owner;
    return memtable_metadata(&owner->rows[i]);
}

void memtable_search_begin(struct memtable_search *search)
{
    const struct memtable *m = search->snapshot->memtable;
    const struct scan_query *query = search->query;
    ASSERT(query->field_index < m->field_count && search->key_tag << 8 == 0);
    const struct scan_field *field = &m->fields[query->field_index];
    ASSERT(field->dimension == query->field.dimension && field->metric == query->field.metric &&
           field->bytes == query->field.bytes);
    search->cursor = (struct memtable_cursor){0};
}

bool memtable_search_step(struct memtable_search *search, size_t row_budget)
{
    struct scan_query *query = search->query;
    uint32_t batch_rows = scan_batch_rows(&query->field);
    struct memtable_range range;
    while (row_budget > 0 && query->topk.capacity != 0 &&
           memtable_next_range(search->snapshot, &search->cursor, batch_rows, &range)) {
        const struct memtable_column *column = &range.chunk->columns[query->field_index];
        struct owner owner = {search->snapshot, range.chunk->rows + range.first};
        struct scan_block block = {
            .vectors = column->vectors + (size_t)range.first * query->field.bytes,
            .inverse_norms =
                column->inverse_norms != NULL ? column->inverse_norms + range.first : NULL,
            .count = range.count,
            .key = search->key_tag | memtable_key(range.chunk_index, range.first),
            .owner = &owner,
            .wanted = wanted,
            .metadata = metadata,
        };
        scan_block(query, &block);
        row_budget -= row_budget < range.count ? row_budget : range.count;
    }
    return query->topk.capacity == 0 || memtable_at_end(search->snapshot, &search->cursor);
}
