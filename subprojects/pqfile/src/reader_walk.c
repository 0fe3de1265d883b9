/* reader_walk.c: the pages of a column chunk, one after the other. A chunk is an optional
 * dictionary page and data pages, each a header (thrift, of unknown length) and as many bytes as it
 * says.
 *
 * Nothing behind a header is touched before it was checked against what is left of the chunk, the
 * options, and the counts in the footer. The chunk ends where its bytes end or its last value was
 * seen, whichever is first: some writers count padding into a chunk.
 *
 * The dictionary is looked for at the chunk's start only, because old writers tell neither that nor
 * where there is one, and a seek may pass it by. */
#include <assert.h>

#include "codec.h"
#include "error.h"
#include "reader_internal.h"

enum {
    HEAD_BYTES_FIRST = 512,    /* what is read for a header at first, if not from memory */
    HEAD_BYTES_MAX = 16 << 20, /* with statistics of long strings */
    BLOCK_BYTES_MIN = 64,
    NAME_CHARS_MAX = 64, /* in messages */
};

int pq_walker_fit(struct pq_walker *w, struct pq_block *block, size_t bytes)
{
    size_t max = w->reader->options.memory_max;
    if (bytes <= block->capacity && block->data != NULL)
        return PQFILE_OK;
    if (bytes < BLOCK_BYTES_MIN)
        bytes = BLOCK_BYTES_MIN;
    w->memory_used -= block->capacity;
    pq_release(&w->reader->allocator, block->data);
    *block = (struct pq_block){0};
    if (w->memory_used > max || bytes > max - w->memory_used)
        return PQFILE_LIMIT;
    block->data = pq_allocate(&w->reader->allocator, bytes);
    if (block->data == NULL)
        return PQFILE_NO_MEMORY;
    block->capacity = bytes;
    w->memory_used += bytes;
    return PQFILE_OK;
}

int pq_walker_init(struct pq_walker *w, const struct pqfile_reader *reader, uint32_t row_group,
                   uint32_t column, struct pqfile_error *error)
{
    const struct pqfile_metadata *m = &reader->metadata;
    if (row_group >= m->row_group_count)
        return pq_error(error, PQFILE_INVALID, "there is no row group %u", row_group);
    if (column >= m->column_count)
        return pq_error(error, PQFILE_INVALID, "there is no column %u", column);
    *w = (struct pq_walker){
        .reader = reader,
        .group = &m->row_groups[row_group],
        .leaf = &m->nodes[m->columns[column]],
        .group_index = row_group,
        .column = column,
    };
    w->chunk = &w->group->chunks[column];
    w->value_size = pqfile_value_size(w->leaf->type, w->leaf->type_length);
    w->end = w->chunk->start + w->chunk->stored_bytes;
    pq_buffer_init(&w->text, &reader->allocator);
    pq_walker_rewind(w);
    if (!pq_codec_is_readable(w->chunk->codec))
        return pq_walker_place(w,
                               pq_error(error, PQFILE_UNSUPPORTED, "codec %s is not supported",
                                        pqfile_codec_name(w->chunk->codec)),
                               error);
    return PQFILE_OK;
}

void pq_walker_dispose(struct pq_walker *w)
{
    struct pq_block *const blocks[] = {
        &w->head_block,          &w->stored_block,     &w->raw_block,
        &w->definition_block,    &w->repetition_block, &w->values_block,
        &w->indices_block,       &w->dictionary_block, &w->dictionary_stored_block,
        &w->dictionary_raw_block};
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
        pq_release(&w->reader->allocator, blocks[i]->data);
    pq_buffer_dispose(&w->text);
}

void pq_walker_rewind(struct pq_walker *w)
{
    w->offset = w->chunk->start;
    w->next_row = 0;
    w->levels_seen = 0;
    w->levels_known = true;
    w->next_page = 0;
    w->page = UINT32_MAX;
}

int pq_walker_place(const struct pq_walker *w, int rc, struct pqfile_error *error)
{
    const char *name = w->leaf->name;
    if (w->page != UINT32_MAX)
        return pq_error_at(error, rc, "row group %u, column %u (%.*s), page %u", w->group_index,
                           w->column, NAME_CHARS_MAX, name, w->page);
    return pq_error_at(error, rc, "row group %u, column %u (%.*s)", w->group_index, w->column,
                       NAME_CHARS_MAX, name);
}

/* ---- headers ---- */

/* Parses the header at `offset`. From memory at once; else with a first guess of its length that is
 * doubled as long as the header is cut short. */
static int read_head(struct pq_walker *w, uint64_t offset, struct pq_page_header *head_out,
                     uint32_t *head_bytes_out, struct pqfile_error *error)
{
    bool in_memory = w->reader->source.memory != NULL;
    uint64_t left = w->end - offset;
    size_t most = left < HEAD_BYTES_MAX ? (size_t)left : HEAD_BYTES_MAX;
    size_t len = in_memory || most < HEAD_BYTES_FIRST ? most : HEAD_BYTES_FIRST;
    for (;;) {
        const uint8_t *data = NULL;
        bool is_short = false;
        size_t used = 0;
        int rc = in_memory ? PQFILE_OK : pq_walker_fit(w, &w->head_block, len);
        if (rc == 0)
            rc = pq_source_get(w->reader, offset, len, w->head_block.data, &data);
        if (rc < 0)
            return pq_error_plain(error, rc);
        rc = pq_page_header_read(data, len, head_out, &used, &is_short, error);
        *head_bytes_out = (uint32_t)used;
        if (rc == 0 || !is_short || len == most)
            return rc;
        len = most - len < len ? most : len * 2;
    }
}

/* What every page's header must obey. */
static int check_head(const struct pq_walker *w, const struct pq_page_header *h, uint64_t offset,
                      uint32_t head_bytes, struct pqfile_error *error)
{
    if (h->stored_bytes > w->end - offset - head_bytes)
        return pq_error(error, PQFILE_CORRUPT, "goes on behind the end of its column");
    if (h->raw_bytes > w->reader->options.page_bytes_max)
        return pq_error(error, PQFILE_LIMIT, "%u bytes", h->raw_bytes);
    bool is_raw =
        w->chunk->codec == PQFILE_UNCOMPRESSED || (h->type == PQ_PAGE_DATA_V2 && !h->is_compressed);
    if (is_raw && h->stored_bytes != h->raw_bytes)
        return pq_error(error, PQFILE_CORRUPT, "is not compressed, but has two sizes");
    return PQFILE_OK;
}

static int check_data_head(const struct pq_walker *w, const struct pq_page_header *h,
                           struct pqfile_error *error)
{
    bool is_repeated = w->leaf->repetition_max != 0;
    uint64_t seen = w->levels_known ? w->levels_seen : 0;
    uint64_t rows_left = w->group->row_count - w->next_row;
    if (h->level_count > w->chunk->level_count - seen ||
        (!is_repeated && h->level_count > rows_left))
        return pq_error(error, PQFILE_CORRUPT, "more values than the column has");
    if (h->type == PQ_PAGE_DATA)
        return PQFILE_OK;
    if (h->definition_bytes > h->stored_bytes ||
        h->repetition_bytes > h->stored_bytes - h->definition_bytes ||
        h->definition_bytes + h->repetition_bytes > h->raw_bytes ||
        (h->definition_bytes != 0 && w->leaf->definition_max == 0) ||
        (h->repetition_bytes != 0 && !is_repeated))
        return pq_error(error, PQFILE_CORRUPT, "levels longer than the page");
    if (h->null_count > h->level_count || h->row_count > h->level_count ||
        h->row_count > rows_left || (!is_repeated && h->row_count != h->level_count) ||
        (h->null_count != 0 && w->leaf->definition_max == 0))
        return pq_error(error, PQFILE_CORRUPT, "counts that do not fit");
    return PQFILE_OK;
}

bool pq_walker_at_last(const struct pq_walker *w)
{
    return w->offset >= w->end || (w->levels_known && w->levels_seen == w->chunk->level_count) ||
           (w->leaf->repetition_max == 0 && w->next_row == w->group->row_count);
}

static int check_end(const struct pq_walker *w, struct pqfile_error *error)
{
    if (w->next_row != w->group->row_count)
        return pq_error(error, PQFILE_CORRUPT, "fewer rows than its row group");
    if (w->levels_known && w->levels_seen != w->chunk->level_count)
        return pq_error(error, PQFILE_CORRUPT, "fewer values than the footer says");
    return PQFILE_OK;
}

int pq_walker_next(struct pq_walker *w, bool *is_end_out, struct pqfile_error *error)
{
    w->stored = NULL;
    w->values = NULL;
    for (;;) {
        if (pq_walker_at_last(w)) {
            *is_end_out = true;
            return check_end(w, error);
        }
        uint32_t head_bytes = 0;
        w->page = w->next_page;
        int rc = read_head(w, w->offset, &w->head, &head_bytes, error);
        if (rc == 0)
            rc = check_head(w, &w->head, w->offset, head_bytes, error);
        if (rc < 0)
            return rc;
        w->page_offset = w->offset;
        w->head_bytes = head_bytes;
        w->offset += head_bytes + (uint64_t)w->head.stored_bytes;
        if (w->head.type == PQ_PAGE_DATA || w->head.type == PQ_PAGE_DATA_V2)
            break;
    }
    int rc = check_data_head(w, &w->head, error);
    if (rc < 0)
        return rc;
    w->next_page++;
    w->levels_seen += w->head.level_count;
    *is_end_out = false;
    return PQFILE_OK;
}

/* ---- bytes ---- */

static int get_stored(struct pq_walker *w, const struct pq_page_header *h, uint64_t offset,
                      struct pq_block *block, const uint8_t **data_out, struct pqfile_error *error)
{
    int rc = PQFILE_OK;
    if (w->reader->source.memory == NULL)
        rc = pq_walker_fit(w, block, h->stored_bytes);
    if (rc == 0)
        rc = pq_source_get(w->reader, offset, h->stored_bytes, block->data, data_out);
    if (rc < 0)
        return pq_error_plain(error, rc);
    if (h->has_crc && !w->reader->options.skip_checksums &&
        pq_crc32(0, *data_out, h->stored_bytes) != h->crc)
        return pq_error(error, PQFILE_CORRUPT, "checksum");
    return PQFILE_OK;
}

int pq_walker_fetch(struct pq_walker *w, struct pqfile_error *error)
{
    return get_stored(w, &w->head, w->page_offset + w->head_bytes, &w->stored_block, &w->stored,
                      error);
}

static int load_dictionary(struct pq_walker *w, const struct pq_page_header *h, uint64_t offset,
                           struct pqfile_error *error)
{
    const uint8_t *data = NULL;
    if (h->encoding != PQFILE_PLAIN && h->encoding != PQFILE_PLAIN_DICTIONARY)
        return pq_error(error, PQFILE_UNSUPPORTED, "encoding %s",
                        pqfile_encoding_name(h->encoding));
    int rc = get_stored(w, h, offset, &w->dictionary_stored_block, &data, error);
    if (rc < 0)
        return rc;
    if (w->chunk->codec != PQFILE_UNCOMPRESSED) {
        rc = pq_walker_fit(w, &w->dictionary_raw_block, h->raw_bytes);
        if (rc == 0)
            rc = pq_decompress(w->chunk->codec, data, h->stored_bytes, w->dictionary_raw_block.data,
                               h->raw_bytes);
        if (rc < 0)
            return pq_error(error, rc, "decompression: %s", pqfile_code_text(rc));
        data = w->dictionary_raw_block.data;
    }
    return pq_page_dictionary(w, data, h->raw_bytes, h->level_count, error);
}

int pq_walker_dictionary(struct pq_walker *w, struct pqfile_error *error)
{
    struct pq_page_header h = {.type = PQ_PAGE_INDEX};
    uint32_t head_bytes = 0;
    uint64_t offset = w->chunk->start;
    if (w->dictionary_looked)
        return PQFILE_OK;
    int rc = read_head(w, offset, &h, &head_bytes, error);
    if (rc == 0)
        rc = check_head(w, &h, offset, head_bytes, error);
    if (rc == 0 && h.type == PQ_PAGE_DICTIONARY)
        rc = load_dictionary(w, &h, offset + head_bytes, error);
    if (rc < 0)
        return pq_error_at(error, rc, "dictionary");
    w->has_dictionary = h.type == PQ_PAGE_DICTIONARY;
    w->dictionary_looked = true;
    return PQFILE_OK;
}
