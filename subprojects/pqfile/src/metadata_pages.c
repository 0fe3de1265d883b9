/* metadata_pages.c: parses what stands beside the footer: page headers, page index, and the head of
 * a bloom filter. Sizes in page headers are only brought into unsigned types here; whether they fit
 * the chunk is for the reader, who knows it.
 *
 * Source: parquet.thrift of apache/parquet-format 2.10; PageIndex.md, BloomFilter.md. */
#include "bloom.h"
#include "error.h"
#include "metadata_internal.h"

/* ---- page headers ---- */

/* A count or a size: anything negative is a failure. */
static uint32_t read_size(struct pq_thrift_reader *r, uint8_t type)
{
    int32_t value = pq_thrift_i32(r, type);
    if (value < 0)
        r->failed = true;
    return value < 0 ? 0 : (uint32_t)value;
}

static void read_data_header(struct pq_thrift_reader *r, struct pq_page_header *h)
{
    struct pq_thrift_field f;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        if (f.id == 1)
            h->level_count = read_size(r, f.type);
        else if (f.id == 2)
            h->encoding = (enum pqfile_encoding)read_size(r, f.type);
        else if (f.id == 3)
            h->definition_encoding = (enum pqfile_encoding)read_size(r, f.type);
        else if (f.id == 4)
            h->repetition_encoding = (enum pqfile_encoding)read_size(r, f.type);
        else
            pq_thrift_skip(r, f.type);
    }
}

static void read_dictionary_header(struct pq_thrift_reader *r, struct pq_page_header *h)
{
    struct pq_thrift_field f;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        if (f.id == 1)
            h->level_count = read_size(r, f.type);
        else if (f.id == 2)
            h->encoding = (enum pqfile_encoding)read_size(r, f.type);
        else if (f.id == 3)
            h->is_sorted = pq_thrift_bool(r, f.type);
        else
            pq_thrift_skip(r, f.type);
    }
}

static void read_data_v2_header(struct pq_thrift_reader *r, struct pq_page_header *h)
{
    struct pq_thrift_field f;
    h->is_compressed = true;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        switch (f.id) {
        case 1:
            h->level_count = read_size(r, f.type);
            break;
        case 2:
            h->null_count = read_size(r, f.type);
            break;
        case 3:
            h->row_count = read_size(r, f.type);
            break;
        case 4:
            h->encoding = (enum pqfile_encoding)read_size(r, f.type);
            break;
        case 5:
            h->definition_bytes = read_size(r, f.type);
            break;
        case 6:
            h->repetition_bytes = read_size(r, f.type);
            break;
        case 7:
            h->is_compressed = pq_thrift_bool(r, f.type);
            break;
        default:
            pq_thrift_skip(r, f.type);
        }
    }
}

/* Which of the three inner headers was there, as bits 1 << type. */
static uint32_t read_page_fields(struct pq_thrift_reader *r, struct pq_page_header *h)
{
    struct pq_thrift_field f;
    uint32_t seen = 0;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        if (f.id == 1) {
            h->type = (enum pq_page_type)read_size(r, f.type);
        } else if (f.id == 2) {
            h->raw_bytes = read_size(r, f.type);
        } else if (f.id == 3) {
            h->stored_bytes = read_size(r, f.type);
        } else if (f.id == 4) {
            h->has_crc = true;
            h->crc = (uint32_t)pq_thrift_i32(r, f.type);
        } else if (f.id == 5 && f.type == PQ_THRIFT_STRUCT) {
            seen |= 1u << PQ_PAGE_DATA;
            h->is_compressed = true;
            read_data_header(r, h);
        } else if (f.id == 7 && f.type == PQ_THRIFT_STRUCT) {
            seen |= 1u << PQ_PAGE_DICTIONARY;
            h->is_compressed = true;
            read_dictionary_header(r, h);
        } else if (f.id == 8 && f.type == PQ_THRIFT_STRUCT) {
            seen |= 1u << PQ_PAGE_DATA_V2;
            read_data_v2_header(r, h);
        } else {
            pq_thrift_skip(r, f.type);
        }
    }
    return seen;
}

int pq_page_header_read(const uint8_t *data, size_t len, struct pq_page_header *header_out,
                        size_t *used_out, bool *short_out, struct pqfile_error *error)
{
    struct pq_thrift_reader r;
    struct pq_page_header h = {.type = PQ_PAGE_INDEX};
    pq_thrift_open(&r, data, len);
    uint32_t seen = read_page_fields(&r, &h);
    if (short_out != NULL)
        *short_out = r.is_short;
    if (r.failed)
        return pq_error(error, PQFILE_CORRUPT, "page header: structure");
    bool is_known =
        h.type == PQ_PAGE_DATA || h.type == PQ_PAGE_DICTIONARY || h.type == PQ_PAGE_DATA_V2;
    if (is_known && seen != 1u << h.type)
        return pq_error(error, PQFILE_CORRUPT, "page header: another header than the type's");
    *header_out = h;
    *used_out = (size_t)(r.at - data);
    return PQFILE_OK;
}

/* ---- page index ---- */

static void read_location(struct pq_thrift_reader *r, struct pqfile_page_entry *entry)
{
    struct pq_thrift_field f;
    int64_t offset = -1, first_row = -1;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        if (f.id == 1)
            offset = pq_thrift_i64(r, f.type);
        else if (f.id == 2)
            entry->stored_bytes = read_size(r, f.type);
        else if (f.id == 3)
            first_row = pq_thrift_i64(r, f.type);
        else
            pq_thrift_skip(r, f.type);
    }
    if (offset < 0 || first_row < 0)
        r->failed = true;
    entry->offset = (uint64_t)offset;
    entry->first_row = (uint64_t)first_row;
}

static int check_locations(struct pqfile_page_entry *entries, uint32_t count, uint64_t row_count,
                           struct pqfile_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t end = i + 1 < count ? entries[i + 1].first_row : row_count;
        bool is_behind =
            i == 0 || (entries[i].offset >= entries[i - 1].offset &&
                       entries[i].offset - entries[i - 1].offset >= entries[i - 1].stored_bytes);
        if ((i == 0 && entries[i].first_row != 0) || end < entries[i].first_row || !is_behind)
            return pq_error(error, PQFILE_CORRUPT, "offset index: page %u is out of order", i);
        entries[i].row_count = end - entries[i].first_row;
    }
    if (count == 0 && row_count != 0)
        return pq_error(error, PQFILE_CORRUPT, "offset index: no pages");
    return PQFILE_OK;
}

int pq_offset_index_read(const uint8_t *data, size_t len, uint64_t row_count,
                         struct pq_arena *arena, struct pqfile_page_index_view *view_out,
                         struct pqfile_error *error)
{
    struct pq_thrift_reader r;
    struct pq_thrift_field f;
    struct pqfile_page_entry *entries = NULL;
    uint32_t count = 0;
    pq_thrift_open(&r, data, len);
    pq_thrift_begin(&r);
    while (pq_thrift_next(&r, &f)) {
        uint8_t element = 0;
        if (f.id != 1 || entries != NULL) {
            pq_thrift_skip(&r, f.type);
            continue;
        }
        count = pq_thrift_list(&r, f.type, &element);
        if (count != 0 && element != PQ_THRIFT_STRUCT)
            break;
        entries = pq_arena_zeroed(arena, count, sizeof(*entries));
        if (entries == NULL)
            return pq_error_plain(error, pq_arena_code(arena));
        for (uint32_t i = 0; i < count && !r.failed; i++)
            read_location(&r, &entries[i]);
    }
    if (r.failed || entries == NULL)
        return pq_error(error, PQFILE_CORRUPT, "offset index: structure");
    int rc = check_locations(entries, count, row_count, error);
    if (rc < 0)
        return rc;
    *view_out = (struct pqfile_page_index_view){.page_count = count, .entries = entries};
    return PQFILE_OK;
}

/* One list of the column index, which must have an element for every page. */
static bool list_of(struct pq_thrift_reader *r, uint8_t type, uint32_t page_count,
                    uint8_t *element_out)
{
    if (pq_thrift_list(r, type, element_out) != page_count)
        r->failed = true;
    return !r->failed;
}

enum { SEEN_NULLS = 1, SEEN_MIN = 2, SEEN_MAX = 4, SEEN_ALL = 7 };

/* Reads the field f into the entries; bounds point into the input. Returns what was seen. */
static unsigned read_index_field(struct pq_thrift_reader *r, const struct pq_thrift_field *f,
                                 struct pqfile_page_index_view *view,
                                 struct pqfile_page_entry *entries)
{
    uint8_t element = 0;
    if (f->id == 4) {
        int32_t order = pq_thrift_i32(r, f->type);
        bool is_known = order == PQFILE_ASCENDING || order == PQFILE_DESCENDING;
        view->order = is_known ? (enum pqfile_order)order : PQFILE_UNORDERED;
        return 0;
    }
    if (f->id < 1 || f->id > 5) {
        pq_thrift_skip(r, f->type);
        return 0;
    }
    if (!list_of(r, f->type, view->page_count, &element))
        return 0;
    for (uint32_t i = 0; i < view->page_count && !r->failed; i++) {
        struct pqfile_page_entry *e = &entries[i];
        if (f->id == 1) {
            e->is_null = pq_thrift_bool_element(r);
        } else if (f->id == 2) {
            e->min.data = pq_thrift_binary(r, element, &e->min.len);
        } else if (f->id == 3) {
            e->max.data = pq_thrift_binary(r, element, &e->max.len);
        } else {
            int64_t nulls = pq_thrift_i64(r, element);
            e->has_null_count = nulls >= 0;
            e->null_count = nulls < 0 ? 0 : (uint64_t)nulls;
        }
    }
    return f->id == 5 ? 0 : 1u << (f->id - 1);
}

static int copy_bounds(struct pqfile_page_entry *e, struct pq_arena *arena)
{
    if (e->is_null) {
        e->min = e->max = (struct pqfile_bytes){0};
        return PQFILE_OK;
    }
    e->min.data = (uint8_t *)pq_arena_text(arena, e->min.data, e->min.len);
    e->max.data = (uint8_t *)pq_arena_text(arena, e->max.data, e->max.len);
    return e->min.data == NULL || e->max.data == NULL ? pq_arena_code(arena) : PQFILE_OK;
}

int pq_column_index_read(const uint8_t *data, size_t len, struct pq_arena *arena,
                         struct pqfile_page_index_view *view, struct pqfile_error *error)
{
    struct pq_thrift_reader r;
    struct pq_thrift_field f;
    struct pqfile_page_index_view read = *view;
    unsigned seen = 0;
    struct pqfile_page_entry *entries = pq_arena_zeroed(arena, view->page_count, sizeof(*entries));
    if (entries == NULL)
        return pq_error_plain(error, pq_arena_code(arena));
    for (uint32_t i = 0; i < view->page_count; i++)
        entries[i] = view->entries[i];
    pq_thrift_open(&r, data, len);
    pq_thrift_begin(&r);
    while (pq_thrift_next(&r, &f))
        seen |= read_index_field(&r, &f, &read, entries);
    if (r.failed || seen != SEEN_ALL)
        return pq_error(error, PQFILE_CORRUPT, "column index: structure");
    for (uint32_t i = 0; i < view->page_count; i++) {
        int rc = copy_bounds(&entries[i], arena);
        if (rc < 0)
            return pq_error_plain(error, rc);
    }
    read.has_bounds = true;
    read.entries = entries;
    *view = read;
    return PQFILE_OK;
}

/* ---- bloom filter ---- */

/* A union whose only known member is field 1, an empty struct. */
static bool is_first_member(struct pq_thrift_reader *r, uint8_t type)
{
    struct pq_thrift_field f;
    bool is_first = false;
    if (type != PQ_THRIFT_STRUCT) {
        pq_thrift_skip(r, type);
        return false;
    }
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        is_first = f.id == 1;
        pq_thrift_skip(r, f.type);
    }
    return is_first;
}

int pq_bloom_header_read(const uint8_t *data, size_t len, uint32_t *bits_bytes_out,
                         size_t *used_out, struct pqfile_error *error)
{
    struct pq_thrift_reader r;
    struct pq_thrift_field f;
    uint32_t bytes = 0, known = 0;
    pq_thrift_open(&r, data, len);
    pq_thrift_begin(&r);
    while (pq_thrift_next(&r, &f)) {
        if (f.id == 1)
            bytes = read_size(&r, f.type);
        else if (f.id >= 2 && f.id <= 4)
            known |= is_first_member(&r, f.type) ? 1u << f.id : 0;
        else
            pq_thrift_skip(&r, f.type);
    }
    if (r.failed)
        return pq_error(error, PQFILE_CORRUPT, "bloom filter: structure");
    if (known != (1u << 2 | 1u << 3 | 1u << 4))
        return pq_error(error, PQFILE_UNSUPPORTED, "bloom filter: another kind");
    if (bytes == 0 || bytes % PQ_BLOOM_BLOCK_BYTES != 0)
        return pq_error(error, PQFILE_CORRUPT, "bloom filter: %u bytes", bytes);
    *bits_bytes_out = bytes;
    *used_out = (size_t)(r.at - data);
    return PQFILE_OK;
}
