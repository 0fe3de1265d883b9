/* segment_read.c: rows of an open segment: by id, by number, in order, and by distance.
 *
 * Nothing is copied and nothing allocated: what a reader gets points into the mapped bytes. A row
 * is visible if its version is not above the reader's, it had not ended by then, and it has not
 * expired; only the second comes from outside the files (struct segment_deletes), and for most rows
 * it costs one bit.
 *
 * A search walks the vectors, not the rows: blocks are runs of ordinals of one page, which always
 * lie one behind the other, whichever rows have no vector. They end at multiples of a fixed number
 * within the page, whatever the budget. Before a page is used for the first time it is summed: then
 * a search takes as long as reading it twice. */
#include "segment/segment_internal.h"

#include "base/text.h"

#include "base/no_libc_heap.h"

/* ---- one row ---- */

struct pdb_text segment_row_id(const struct segment *s, uint32_t row)
{
    ASSERT(row < s->row_count);
    return segment_id(s, row);
}

uint64_t segment_row_version(const struct segment *s, uint32_t row)
{
    ASSERT(row < s->row_count);
    return s->versions[row];
}

struct pdb_text segment_row_metadata(const struct segment *s, uint32_t row)
{
    ASSERT(row < s->row_count);
    return segment_doc(s, row);
}

/* NULL: there is none. False: its page is damaged. */
static bool vector_of(const struct segment *s, uint32_t f, uint32_t row, const void **vector_out)
{
    const struct segment_field *field = &s->fields[f];
    *vector_out = NULL;
    if (!segment_has_vector(field, row))
        return true;
    uint32_t ordinal = segment_ordinal(field, row), page = segment_page_of(field, ordinal);
    if (!segment_page_good(s, f, page))
        return false;
    *vector_out = segment_page_vectors(s, f, page) +
                  (size_t)(ordinal - field->pages[page].first) * field->bytes;
    return true;
}

uint32_t segment_vector_count(const struct segment *s, uint32_t field)
{
    ASSERT(field < s->field_count);
    return s->fields[field].vector_count;
}

bool segment_has_vector_of(const struct segment *s, uint32_t field, uint32_t row)
{
    ASSERT(field < s->field_count && row < s->row_count);
    return segment_has_vector(&s->fields[field], row);
}

const float *segment_vector_f32(const struct segment *s, uint32_t field, uint32_t row, float *room)
{
    ASSERT(segment_has_vector_of(s, field, row));
    const struct segment_field *f = &s->fields[field];
    const void *vector;
    if (!vector_of(s, field, row, &vector))
        return NULL;
    return scan_widened(vector, f->dimension, f->element, room);
}

static struct pdb_row row_at(const struct segment *s, uint32_t row, const void **vectors)
{
    return (struct pdb_row){.id = segment_id(s, row),
                            .vectors = vectors,
                            .metadata = segment_doc(s, row),
                            .version = s->versions[row],
                            .created_at_us = s->created_us[row],
                            .updated_at_us = s->updated_us[row],
                            .expires_at_us = s->expires_us != NULL ? s->expires_us[row] : 0};
}

bool segment_row(const struct segment *s, uint32_t row, struct pdb_row *row_out,
                 const void **vectors)
{
    ASSERT(row < s->row_count);
    for (uint32_t f = 0; vectors != NULL && f < s->field_count; f++) {
        if (!vector_of(s, f, row, &vectors[f]))
            return false;
    }
    *row_out = row_at(s, row, vectors);
    return true;
}

void segment_row_unread(const struct segment *s, uint32_t row, struct pdb_row *row_out,
                        const void **vectors)
{
    ASSERT(row < s->row_count);
    for (uint32_t f = 0; f < s->field_count; f++)
        vectors[f] = segment_has_vector(&s->fields[f], row) ? s->parquet.ptr : NULL;
    *row_out = row_at(s, row, vectors);
}

static void prefetch_offsets(const struct segment_offsets *offsets, uint32_t row)
{
    __builtin_prefetch((const char *)offsets->at + (size_t)row * (offsets->wide ? 8 : 4));
}

void segment_prefetch_row(const struct segment *s, uint32_t row)
{
    ASSERT(row < s->row_count);
    __builtin_prefetch(&s->versions[row]);
    __builtin_prefetch(&s->created_us[row]);
    __builtin_prefetch(&s->updated_us[row]);
    if (s->expires_us != NULL)
        __builtin_prefetch(&s->expires_us[row]);
    prefetch_offsets(&s->id_offsets, row);
    prefetch_offsets(&s->doc_offsets, row);
}

void segment_prefetch_texts(const struct segment *s, uint32_t row)
{
    ASSERT(row < s->row_count);
    __builtin_prefetch(s->ids + segment_offset(&s->id_offsets, row));
    __builtin_prefetch(s->docs + segment_offset(&s->doc_offsets, row));
}

/* Inline in the loops below. */
static inline bool is_visible(const struct segment_read *read, uint32_t row)
{
    const struct segment *s = read->segment;
    if (s->versions[row] > read->at_version)
        return false;
    if (s->expires_us != NULL && s->expires_us[row] != 0 && s->expires_us[row] <= read->now_us)
        return false;
    return read->deletes == NULL || segment_deletes_ended_at(read->deletes, row) > read->at_version;
}

bool segment_visible(const struct segment_read *read, uint32_t row)
{
    ASSERT(row < read->segment->row_count);
    return is_visible(read, row);
}

/* ---- by id ---- */

/* True if `row` holds that id, in a version that is too new. */
static bool too_new(const struct segment *s, struct pdb_text id, uint64_t at_version, uint32_t row)
{
    return row < s->row_count && s->versions[row] > at_version &&
           text_equal(segment_id(s, row), id);
}

/* The first row behind `row`, which is too new, that is not. Versions of an id fall from row to
 * row. There are few of them, or, of a record that is written all the time, very many: steps that
 * double find the place in either case. */
static uint32_t old_enough(const struct segment *s, struct pdb_text id, uint64_t at_version,
                           uint32_t row)
{
    uint32_t step = 1;
    while (too_new(s, id, at_version, row + step))
        step *= 2;
    uint32_t low = row + step / 2, high = row + step; /* low is too new, high is not */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (too_new(s, id, at_version, middle))
            low = middle;
        else
            high = middle;
    }
    return high;
}

bool segment_find(const struct segment *s, struct pdb_text id, uint64_t at_version,
                  uint32_t *row_out)
{
    uint32_t row = 0;
    if (!segment_index_find(s, id, &row))
        return false;
    if (s->versions[row] > at_version) {
        row = old_enough(s, id, at_version, row);
        if (row >= s->row_count || !text_equal(segment_id(s, row), id))
            return false;
    }
    *row_out = row;
    return true;
}

uint32_t segment_lower_bound(const struct segment *s, struct pdb_text after)
{
    uint32_t low = 0,
             high = s->row_count; /* rows below low are not greater, those from high on are */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (text_compare(segment_id(s, middle), after) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* ---- in order ---- */

bool segment_scan_step(const struct segment_read *read, uint32_t *next_row,
                       const struct filter *filter, size_t row_budget,
                       int (*visit)(void *arg, uint32_t row), void *arg)
{
    const struct segment *s = read->segment;
    for (; row_budget > 0 && *next_row < s->row_count; row_budget--) {
        uint32_t row = (*next_row)++;
        if (is_visible(read, row) && filter_matches(filter, segment_doc(s, row)) &&
            visit(arg, row) != 0)
            break;
    }
    return *next_row >= s->row_count;
}

/* ---- by distance ---- */

/* What a block's rows are looked up in. */
struct owner {
    const struct segment_read *read;
    uint32_t first;       /* row of the first vector; the others follow, or are in `rows` */
    const uint32_t *rows; /* NULL: every row has a vector */
};

static uint32_t row_of(const struct owner *owner, uint32_t i)
{
    return owner->rows != NULL ? owner->rows[i] : owner->first + i;
}

static bool wanted(const struct scan_block *block, const struct scan_query *query, uint32_t i)
{
    const struct owner *owner = block->owner;
    uint32_t row = row_of(owner, i);
    return is_visible(owner->read, row) &&
           (query->exclude_id.len == 0 ||
            !text_equal(query->exclude_id, segment_id(owner->read->segment, row)));
}

static struct pdb_text metadata(const struct scan_block *block, uint32_t i)
{
    const struct owner *owner = block->owner;
    return segment_doc(owner->read->segment, row_of(owner, i));
}

void segment_search_begin(struct segment_search *search)
{
    const struct segment *s = search->read.segment;
    const struct scan_query *query = search->query;
    ASSERT(query->field_index < s->field_count && search->key_tag << 8 == 0);
    const struct segment_field *field = &s->fields[query->field_index];
    ASSERT(field->dimension == query->field.dimension && field->metric == query->field.metric &&
           field->element == query->field.element && field->bytes == query->field.bytes);
    search->next_row = 0;
}

/* The next `count` rows from `row` on that have a vector; there are so many. */
static void rows_with_vectors(const struct segment_field *field, uint32_t row, uint32_t count,
                              uint32_t *rows_out)
{
    uint32_t found = 0, word = row / 64;
    uint64_t bits = field->present[word] & UINT64_MAX << (row % 64);
    while (found < count) {
        while (bits == 0)
            bits = field->present[++word];
        rows_out[found++] = 64 * word + (uint32_t)__builtin_ctzll(bits);
        bits &= bits - 1;
    }
}

/* The vectors from the search's next row on, up to the next multiple of batch_rows in their page;
 * `rows` are theirs where not every row has one. Moves the search on. False: there is none left, or
 * the page is damaged. */
static bool next_block(struct segment_search *search, uint32_t batch_rows, uint32_t *rows,
                       struct owner *owner_out, struct scan_block *block_out)
{
    const struct segment *s = search->read.segment;
    uint32_t f = search->query->field_index;
    const struct segment_field *field = &s->fields[f];
    uint32_t ordinal = segment_ordinal(field, search->next_row);
    if (ordinal == field->vector_count) {
        search->next_row = s->row_count;
        return false;
    }
    uint32_t page = segment_page_of(field, ordinal);
    if (!segment_page_good(s, f, page))
        return false;
    uint32_t in_page = ordinal - field->pages[page].first;
    uint32_t count = batch_rows - in_page % batch_rows, left = field->pages[page].count - in_page;
    count = count < left ? count : left;
    ASSERT(count > 0);
    *owner_out = (struct owner){.read = &search->read, .first = search->next_row};
    if (field->present != NULL) {
        rows_with_vectors(field, search->next_row, count, rows);
        owner_out->rows = rows;
    }
    *block_out = (struct scan_block){
        .vectors = segment_page_vectors(s, f, page) + (size_t)in_page * field->bytes,
        .inverse_norms = field->inverse_norms != NULL ? field->inverse_norms + ordinal : NULL,
        .count = count,
        .key = search->key_tag | search->next_row,
        .owner = owner_out,
        .wanted = wanted,
        .metadata = metadata,
    };
    search->next_row = row_of(owner_out, count - 1) + 1;
    return true;
}

bool segment_search_step(struct segment_search *search, size_t row_budget)
{
    const struct segment *s = search->read.segment;
    struct scan_query *query = search->query;
    uint32_t batch_rows = scan_batch_rows(&query->field), rows[SCAN_BATCH_ROWS];
    uint64_t keys[SCAN_BATCH_ROWS];
    struct scan_block block;
    struct owner owner;
    while (row_budget > 0 && query->topk.capacity != 0 && !segment_damaged(s) &&
           search->next_row < s->row_count) {
        uint32_t from = search->next_row;
        if (!next_block(search, batch_rows, rows, &owner, &block))
            continue; /* damaged, or all rows were passed */
        for (uint32_t i = 0; owner.rows != NULL && i < block.count; i++)
            keys[i] = search->key_tag | rows[i];
        block.keys = owner.rows != NULL ? keys : NULL;
        scan_block(query, &block);
        uint32_t passed = search->next_row - from;
        row_budget -= row_budget < passed ? row_budget : passed;
    }
    return query->topk.capacity == 0 || segment_damaged(s) || search->next_row >= s->row_count;
}

bool segment_distances(const struct segment *s, const struct scan_query *query,
                       const uint32_t *rows, uint32_t count, float *distances_out)
{
    const struct segment_field *field = &s->fields[query->field_index];
    const void *vectors[SCAN_BATCH_ROWS];
    float norms[SCAN_BATCH_ROWS];
    ASSERT(count <= SCAN_BATCH_ROWS);
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(rows[i] < s->row_count);
        if (!vector_of(s, query->field_index, rows[i], &vectors[i]))
            return false;
        ASSERT(vectors[i] != NULL);
        if (field->inverse_norms != NULL)
            norms[i] = field->inverse_norms[segment_ordinal(field, rows[i])];
    }
    scan_distances(query, vectors, norms, count, distances_out);
    return true;
}
