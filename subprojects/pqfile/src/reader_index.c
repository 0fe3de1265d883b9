/* reader_index.c: the page index and the bloom filter of a column chunk. Both lie outside the
 * chunk, found by the footer. Bounds that cannot be values of the column's type, and NaN, take the
 * bounds of the whole index with them, since a search by pages must not pass a page by wrongly. */
#include <string.h>

#include "bloom.h"
#include "error.h"
#include "metadata_internal.h"
#include "reader_internal.h"

enum { BLOOM_HEAD_BYTES_MAX = 64 };

struct pqfile_page_index {
    struct pqfile_allocator allocator;
    struct pq_arena arena;
    struct pqfile_page_index_view view;
};

struct pqfile_bloom {
    struct pqfile_allocator allocator;
    uint8_t *memory; /* NULL when the bits are in the source's */
    const uint8_t *bits;
    uint32_t bits_bytes;
};

/* The chunk, or NULL and an error. */
static const struct pqfile_chunk *find_chunk(const struct pqfile_reader *reader, uint32_t row_group,
                                             uint32_t column, struct pqfile_error *error)
{
    const struct pqfile_metadata *m = &reader->metadata;
    if (row_group < m->row_group_count && column < m->column_count)
        return &m->row_groups[row_group].chunks[column];
    (void)pq_error(error, PQFILE_INVALID, "there is no row group %u, column %u", row_group, column);
    return NULL;
}

/* A piece of the file, in memory or read into *scratch_out, which the caller releases. */
static int get(const struct pqfile_reader *reader, uint64_t offset, size_t len,
               uint8_t **scratch_out, const uint8_t **data_out, struct pqfile_error *error)
{
    uint8_t *scratch = NULL;
    if (len > reader->options.footer_bytes_max)
        return pq_error(error, PQFILE_LIMIT, "%zu bytes", len);
    if (reader->source.memory == NULL && len != 0) {
        scratch = pq_allocate(&reader->allocator, len);
        if (scratch == NULL)
            return pq_error_plain(error, PQFILE_NO_MEMORY);
    }
    int rc = pq_source_get(reader, offset, len, scratch, data_out);
    if (rc < 0) {
        pq_release(&reader->allocator, scratch);
        return pq_error_plain(error, rc);
    }
    *scratch_out = scratch;
    return PQFILE_OK;
}

/* ---- page index ---- */

static int check_entries(const struct pqfile_page_index_view *view,
                         const struct pqfile_chunk *chunk, struct pqfile_error *error)
{
    uint64_t end = chunk->start + chunk->stored_bytes;
    for (uint32_t i = 0; i < view->page_count; i++) {
        const struct pqfile_page_entry *e = &view->entries[i];
        if (e->offset < chunk->start || e->offset > end || e->stored_bytes > end - e->offset)
            return pq_error(error, PQFILE_CORRUPT, "offset index: page %u lies outside its column",
                            i);
    }
    return PQFILE_OK;
}

static void widen(const struct pqfile_node *leaf, struct pqfile_bytes bound, bool is_min)
{
    uint8_t *bytes = NULL;
    memcpy(&bytes, &bound.data, sizeof(bytes)); /* const for callers; it is the arena's */
    pq_bound_widen_zero(leaf, bytes, bound.len, is_min);
}

static void check_bounds(struct pqfile_page_index_view *view, const struct pqfile_node *leaf)
{
    for (uint32_t i = 0; i < view->page_count && view->has_bounds; i++) {
        const struct pqfile_page_entry *e = &view->entries[i];
        if (e->is_null)
            continue;
        if (!pq_bound_is_valid(leaf, e->min) || !pq_bound_is_valid(leaf, e->max)) {
            view->has_bounds = false;
            break;
        }
        widen(leaf, e->min, true);
        widen(leaf, e->max, false);
    }
}

static int load_offsets(const struct pqfile_reader *reader, const struct pqfile_chunk *chunk,
                        uint64_t row_count, struct pqfile_page_index *index,
                        struct pqfile_error *error)
{
    uint8_t *scratch = NULL;
    const uint8_t *data = NULL;
    int rc =
        get(reader, chunk->offset_index_offset, chunk->offset_index_bytes, &scratch, &data, error);
    if (rc < 0)
        return rc;
    rc = pq_offset_index_read(data, chunk->offset_index_bytes, row_count, &index->arena,
                              &index->view, error);
    pq_release(&reader->allocator, scratch);
    return rc < 0 ? rc : check_entries(&index->view, chunk, error);
}

static int load_bounds(const struct pqfile_reader *reader, const struct pqfile_chunk *chunk,
                       const struct pqfile_node *leaf, struct pqfile_page_index *index,
                       struct pqfile_error *error)
{
    uint8_t *scratch = NULL;
    const uint8_t *data = NULL;
    if (chunk->column_index_bytes == 0)
        return PQFILE_OK;
    int rc =
        get(reader, chunk->column_index_offset, chunk->column_index_bytes, &scratch, &data, error);
    if (rc < 0)
        return rc;
    rc = pq_column_index_read(data, chunk->column_index_bytes, &index->arena, &index->view, error);
    pq_release(&reader->allocator, scratch);
    if (rc == 0)
        check_bounds(&index->view, leaf);
    return rc;
}

int pqfile_page_index_open(const struct pqfile_reader *reader, uint32_t row_group, uint32_t column,
                           struct pqfile_page_index **index_out, struct pqfile_error *error_out)
{
    const struct pqfile_chunk *chunk = find_chunk(reader, row_group, column, error_out);
    if (chunk == NULL)
        return PQFILE_INVALID;
    if (chunk->offset_index_bytes == 0)
        return pq_error(error_out, PQFILE_INVALID, "row group %u, column %u: no page index",
                        row_group, column);
    struct pqfile_page_index *index = pq_allocate_zeroed(&reader->allocator, 1, sizeof(*index));
    if (index == NULL)
        return pq_error_plain(error_out, PQFILE_NO_MEMORY);
    index->allocator = reader->allocator;
    pq_arena_init(&index->arena, &index->allocator, reader->options.memory_max);
    const struct pqfile_metadata *m = &reader->metadata;
    int rc = load_offsets(reader, chunk, m->row_groups[row_group].row_count, index, error_out);
    if (rc == 0)
        rc = load_bounds(reader, chunk, &m->nodes[m->columns[column]], index, error_out);
    if (rc < 0) {
        pqfile_page_index_close(index);
        return pq_error_at(error_out, rc, "row group %u, column %u", row_group, column);
    }
    *index_out = index;
    return PQFILE_OK;
}

const struct pqfile_page_index_view *pqfile_page_index(const struct pqfile_page_index *index)
{
    return &index->view;
}

void pqfile_page_index_close(struct pqfile_page_index *index)
{
    if (index == NULL)
        return;
    struct pqfile_allocator allocator = index->allocator;
    pq_arena_dispose(&index->arena);
    pq_release(&allocator, index);
}

/* ---- bloom filters ---- */

static int load_bloom(const struct pqfile_reader *reader, const struct pqfile_chunk *chunk,
                      struct pqfile_bloom *bloom, struct pqfile_error *error)
{
    const uint8_t *data = NULL;
    uint8_t head[BLOOM_HEAD_BYTES_MAX];
    size_t used = 0;
    uint64_t left = reader->source.size - chunk->bloom_offset;
    if (chunk->bloom_bytes != 0 && chunk->bloom_bytes < left)
        left = chunk->bloom_bytes;
    size_t len = left < sizeof(head) ? (size_t)left : sizeof(head);
    int rc = pq_source_get(reader, chunk->bloom_offset, len, head, &data);
    if (rc < 0)
        return pq_error_plain(error, rc);
    rc = pq_bloom_header_read(data, len, &bloom->bits_bytes, &used, error);
    if (rc < 0)
        return rc;
    if (bloom->bits_bytes > left - used)
        return pq_error(error, PQFILE_CORRUPT, "longer than its place");
    return get(reader, chunk->bloom_offset + used, bloom->bits_bytes, &bloom->memory, &bloom->bits,
               error);
}

int pqfile_bloom_open(const struct pqfile_reader *reader, uint32_t row_group, uint32_t column,
                      struct pqfile_bloom **bloom_out, struct pqfile_error *error_out)
{
    const struct pqfile_chunk *chunk = find_chunk(reader, row_group, column, error_out);
    if (chunk == NULL)
        return PQFILE_INVALID;
    if (!chunk->has_bloom || chunk->bloom_offset == 0)
        return pq_error(error_out, PQFILE_INVALID, "row group %u, column %u: no bloom filter",
                        row_group, column);
    struct pqfile_bloom *bloom = pq_allocate_zeroed(&reader->allocator, 1, sizeof(*bloom));
    if (bloom == NULL)
        return pq_error_plain(error_out, PQFILE_NO_MEMORY);
    bloom->allocator = reader->allocator;
    int rc = load_bloom(reader, chunk, bloom, error_out);
    if (rc < 0) {
        pqfile_bloom_close(bloom);
        return pq_error_at(error_out, rc, "row group %u, column %u, bloom filter", row_group,
                           column);
    }
    *bloom_out = bloom;
    return PQFILE_OK;
}

void pqfile_bloom_close(struct pqfile_bloom *bloom)
{
    if (bloom == NULL)
        return;
    struct pqfile_allocator allocator = bloom->allocator;
    pq_release(&allocator, bloom->memory);
    pq_release(&allocator, bloom);
}

bool pqfile_bloom_may_contain(const struct pqfile_bloom *bloom, const void *value, size_t len)
{
    return pq_bloom_contains(bloom->bits, bloom->bits_bytes, pq_bloom_hash(value, len));
}
