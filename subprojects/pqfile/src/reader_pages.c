/* reader_pages.c: where the data pages of a chunk lie, for those who read values straight from a
 * mapped file. Only headers are read, and levels where no header counts rows and values. */
#include <assert.h>

#include "codec.h"
#include "error.h"
#include "reader_internal.h"

struct pqfile_pages {
    struct pq_walker walker;
    bool is_broken;
};

int pqfile_pages_open(const struct pqfile_reader *reader, uint32_t row_group, uint32_t column,
                      struct pqfile_pages **pages_out, struct pqfile_error *error_out)
{
    struct pqfile_pages *pages = pq_allocate_zeroed(&reader->allocator, 1, sizeof(*pages));
    if (pages == NULL)
        return pq_error_plain(error_out, PQFILE_NO_MEMORY);
    int rc = pq_walker_init(&pages->walker, reader, row_group, column, error_out);
    if (rc < 0) {
        pq_release(&reader->allocator, pages);
        return rc;
    }
    *pages_out = pages;
    return PQFILE_OK;
}

void pqfile_pages_close(struct pqfile_pages *pages)
{
    if (pages == NULL)
        return;
    const struct pqfile_allocator *a = &pages->walker.reader->allocator;
    pq_walker_dispose(&pages->walker);
    pq_release(a, pages);
}

/* Sets what the walker knows of a page only after its levels: rows, values, bytes of levels. */
static int count_page(struct pq_walker *w, struct pqfile_error *error)
{
    const struct pq_page_header *h = &w->head;
    w->row_count = w->value_count = h->level_count;
    w->levels_bytes = 0;
    if (h->type == PQ_PAGE_DATA_V2) {
        w->levels_bytes = (size_t)h->definition_bytes + h->repetition_bytes;
        w->value_count = h->level_count - h->null_count;
        w->row_count = w->leaf->repetition_max == 0 ? h->level_count : h->row_count;
        return PQFILE_OK;
    }
    if (w->leaf->definition_max == 0)
        return PQFILE_OK;
    int rc = pq_walker_fetch(w, error);
    return rc < 0 ? rc : pq_page_levels(w, error);
}

/* A page of version 2 whose values are numbers of a dictionary of INT32, uncompressed. */
static bool may_have_numbers(const struct pq_walker *w)
{
    const struct pq_page_header *h = &w->head;
    return h->type == PQ_PAGE_DATA_V2 && h->encoding == PQFILE_RLE_DICTIONARY &&
           (w->chunk->codec == PQFILE_UNCOMPRESSED || !h->is_compressed) &&
           w->leaf->type == PQFILE_INT32 && w->value_count > 0;
}

/* Looks whether they are one run of 8 bits each: its head is the varint eights * 2 + 1. */
static int find_numbers(struct pq_walker *w, struct pqfile_page *page, struct pqfile_error *error)
{
    const struct pq_page_header *h = &w->head;
    size_t eights = (w->value_count + 7) / 8, at = w->levels_bytes;
    int rc = pq_walker_fetch(w, error);
    if (rc < 0)
        return rc;
    uint64_t head = 0;
    if (at == h->stored_bytes || w->stored[at++] != 8)
        return PQFILE_OK;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (at == h->stored_bytes)
            return PQFILE_OK;
        uint8_t byte = w->stored[at++];
        head |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            break;
    }
    if (head != ((uint64_t)eights << 1 | 1) || h->stored_bytes - at != 8 * eights)
        return PQFILE_OK;
    page->numbers_in_place = true;
    page->values_offset = w->page_offset + w->head_bytes + at;
    return PQFILE_OK;
}

static int describe(struct pq_walker *w, struct pqfile_page *page_out, struct pqfile_error *error)
{
    const struct pq_page_header *h = &w->head;
    int rc = count_page(w, error);
    if (rc < 0)
        return rc;
    struct pqfile_page page = {
        .offset = w->page_offset,
        .header_bytes = w->head_bytes,
        .stored_bytes = h->stored_bytes,
        .raw_bytes = h->raw_bytes,
        .row_count = (uint32_t)w->row_count,
        .first_row = w->next_row,
        .level_count = h->level_count,
        .value_count = (uint32_t)w->value_count,
        .encoding = h->encoding,
        .version = h->type == PQ_PAGE_DATA_V2 ? 2 : 1,
        .in_place = pq_page_is_in_place(w),
    };
    if (page.in_place) {
        size_t bytes = 0;
        if (__builtin_mul_overflow(w->value_count, w->value_size, &bytes) ||
            bytes != h->stored_bytes - w->levels_bytes)
            return pq_error(error, PQFILE_CORRUPT, "its bytes are not those of its values");
        page.values_offset = w->page_offset + w->head_bytes + w->levels_bytes;
    }
    if (may_have_numbers(w)) {
        rc = find_numbers(w, &page, error);
        if (rc < 0)
            return rc;
    }
    w->next_row += w->row_count;
    *page_out = page;
    return PQFILE_OK;
}

int pqfile_pages_next(struct pqfile_pages *pages, struct pqfile_page *page_out,
                      struct pqfile_error *error_out)
{
    struct pq_walker *w = &pages->walker;
    if (pages->is_broken)
        return pq_error(error_out, PQFILE_INVALID, "read after an error");
    for (;;) {
        bool is_end = false;
        int rc = pq_walker_next(w, &is_end, error_out);
        if (rc == 0 && is_end) {
            *page_out = (struct pqfile_page){0};
            return PQFILE_OK;
        }
        if (rc == 0)
            rc = describe(w, page_out, error_out);
        if (rc < 0) {
            pages->is_broken = true;
            return pq_walker_place(w, rc, error_out);
        }
        if (page_out->level_count != 0) /* a page of nothing would look like the end */
            return PQFILE_OK;
    }
}

static int verify(const struct pqfile_reader *reader, const struct pqfile_page *page,
                  uint8_t *scratch, struct pqfile_error *error)
{
    const uint8_t *data = NULL;
    struct pq_page_header h;
    size_t used = 0, len = (size_t)page->header_bytes + page->stored_bytes;
    int rc = pq_source_get(reader, page->offset, len, scratch, &data);
    if (rc < 0)
        return pq_error_plain(error, rc);
    rc = pq_page_header_read(data, page->header_bytes, &h, &used, NULL, error);
    if (rc < 0)
        return rc;
    if (used != page->header_bytes || h.stored_bytes != page->stored_bytes)
        return pq_error(error, PQFILE_INVALID, "there is no such page");
    if (!h.has_crc)
        return pq_error(error, PQFILE_INVALID, "the page has no checksum");
    if (pq_crc32(0, data + used, h.stored_bytes) != h.crc)
        return pq_error(error, PQFILE_CORRUPT, "page at %llu: checksum",
                        (unsigned long long)page->offset);
    return PQFILE_OK;
}

int pqfile_page_verify(const struct pqfile_reader *reader, const struct pqfile_page *page,
                       struct pqfile_error *error_out)
{
    uint64_t size = reader->source.size;
    size_t len = (size_t)page->header_bytes + page->stored_bytes;
    uint8_t *scratch = NULL;
    if (page->offset > size || len > size - page->offset || len == 0)
        return pq_error(error_out, PQFILE_INVALID, "there is no such page");
    if (reader->source.memory == NULL) {
        scratch = pq_allocate(&reader->allocator, len);
        if (scratch == NULL)
            return pq_error_plain(error_out, PQFILE_NO_MEMORY);
    }
    int rc = verify(reader, page, scratch, error_out);
    pq_release(&reader->allocator, scratch);
    return rc;
}
