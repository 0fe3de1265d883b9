/* writer_column.c: batches of a column become pages; see writer_internal.h.
 *
 * A batch is checked whole, then cut into slices of whole rows, each ending where the page is full:
 * page borders depend on the rows alone, not on how they were split into batches. A slice that is a
 * page by itself is not copied if its column is `direct`. */
#include <assert.h>
#include <string.h>

#include "bloom.h"
#include "encoding.h"
#include "error.h"
#include "writer_internal.h"

enum { LENGTH_BYTES = 4 };

/* Whole rows of a batch, from `level` and `value` on. */
struct slice {
    size_t level;
    size_t value;
    size_t rows;
    size_t levels;
    size_t values;
    size_t bytes; /* of its values in PLAIN */
    bool full;    /* the page ends with it */
};

/* ---- checks ---- */

static size_t count_equal(const uint8_t *levels, size_t count, uint8_t wanted, uint8_t *max_out)
{
    size_t found = 0;
    uint8_t max = 0;
    for (size_t i = 0; i < count; i++) {
        found += levels[i] == wanted;
        max = levels[i] > max ? levels[i] : max;
    }
    *max_out = max;
    return found;
}

static int check_levels(const struct pqfile_node *node, const struct pqfile_batch *b,
                        struct pqfile_error *error)
{
    uint8_t max = 0;
    size_t n = b->level_count;
    if (node->repetition_max == 0) {
        if (b->row_count != n)
            return pq_error(error, PQFILE_INVALID, "%zu rows, but %zu levels", b->row_count, n);
    } else if (n > 0) {
        if (b->repetition == NULL || b->repetition[0] != 0)
            return pq_error(error, PQFILE_INVALID, "the first repetition level is not 0");
        if (count_equal(b->repetition, n, 0, &max) != b->row_count || max > node->repetition_max)
            return pq_error(error, PQFILE_INVALID, "repetition levels do not fit rows or schema");
    } else if (b->row_count != 0) {
        return pq_error(error, PQFILE_INVALID, "rows without levels");
    }
    if (node->definition_max == 0) {
        if (b->value_count != n)
            return pq_error(error, PQFILE_INVALID, "%zu values, but %zu rows", b->value_count, n);
        return 0;
    }
    if (n > 0 &&
        (b->definition == NULL ||
         count_equal(b->definition, n, (uint8_t)node->definition_max, &max) != b->value_count ||
         max > node->definition_max))
        return pq_error(error, PQFILE_INVALID, "definition levels do not fit values or schema");
    if (n == 0 && b->value_count != 0)
        return pq_error(error, PQFILE_INVALID, "values without levels");
    return 0;
}

static int check_values(const struct pqfile_node *node, const struct pqfile_batch *b,
                        struct pqfile_error *error)
{
    uint8_t max = 0;
    if (b->value_count > 0 && b->values == NULL)
        return pq_error(error, PQFILE_INVALID, "values are missing");
    if (node->type == PQFILE_BOOLEAN) {
        (void)count_equal(b->values, b->value_count, 0, &max);
        if (max > 1)
            return pq_error(error, PQFILE_INVALID, "a boolean is neither 0 nor 1");
    } else if (node->type == PQFILE_BYTE_ARRAY) {
        const struct pqfile_bytes *texts = b->values;
        for (size_t i = 0; i < b->value_count; i++)
            if (texts[i].len > INT32_MAX - LENGTH_BYTES)
                return pq_error(error, PQFILE_LIMIT, "a value has %zu bytes", texts[i].len);
    }
    return 0;
}

/* Rows of a LIST with a size: that many elements, or the list or a group around it is null. */
static int check_lists(struct pq_column *column, const struct pqfile_batch *b,
                       struct pqfile_error *error)
{
    int absent_max = (int)column->list_absent - (column->list_is_optional ? 0 : 1);
    for (size_t i = 0, row = 0; i < b->level_count; row++) {
        size_t first = i++;
        while (i < b->level_count && b->repetition[i] != 0)
            i++;
        bool has_elements = b->definition[first] > column->list_absent + column->list_is_optional;
        if (i - first == 1 && (int)b->definition[first] <= absent_max)
            column->has_absent = true;
        else if (!has_elements || i - first != column->list_size)
            return pq_error(error, PQFILE_INVALID, "row %zu has %zu elements, not %u", row,
                            has_elements ? i - first : 0, (unsigned)column->list_size);
    }
    return 0;
}

int pq_check_batch(struct pqfile_writer *w, const struct pqfile_batch *batch,
                   struct pqfile_error *error)
{
    struct pq_column *column = &w->columns[w->column];
    int rc = check_levels(column->node, batch, error);
    if (rc == 0)
        rc = check_values(column->node, batch, error);
    if (rc == 0 && column->list_size > 0)
        rc = check_lists(column, batch, error);
    return rc;
}

/* ---- slices ---- */

static bool is_full(const struct pq_column *column, size_t bytes, size_t rows)
{
    return bytes >= column->options.page_bytes || rows >= column->options.page_rows;
}

static size_t plain_bytes(const struct pq_column *column, const struct pqfile_batch *b,
                          size_t value)
{
    if (column->node->type != PQFILE_BYTE_ARRAY)
        return column->width;
    const struct pqfile_bytes *texts = b->values;
    return LENGTH_BYTES + texts[value].len;
}

/* Flat, required, of fixed width: no need to look at anything. */
static void cut_numbers(const struct pqfile_writer *w, const struct pqfile_batch *b,
                        struct slice *slice)
{
    const struct pq_column *column = &w->columns[w->column];
    const struct pq_page *page = &w->page;
    size_t room = column->options.page_bytes - page->value_bytes;
    size_t rows = (room + column->width - 1) / column->width;
    size_t row_room = column->options.page_rows - page->row_count;
    size_t left = b->row_count - slice->level;
    rows = rows < row_room ? rows : row_room;
    rows = rows < left ? rows : left;
    slice->rows = slice->levels = slice->values = rows;
    slice->bytes = rows * column->width;
}

static void cut_levels(const struct pqfile_writer *w, const struct pqfile_batch *b,
                       struct slice *slice)
{
    const struct pq_column *column = &w->columns[w->column];
    const struct pq_page *page = &w->page;
    size_t i = slice->level;
    slice->rows = slice->values = slice->bytes = 0;
    for (; i < b->level_count; i++) {
        if (b->repetition == NULL || b->repetition[i] == 0) {
            if (is_full(column, page->value_bytes + slice->bytes, page->row_count + slice->rows))
                break;
            slice->rows++;
        }
        if (b->definition == NULL || b->definition[i] == column->node->definition_max) {
            slice->bytes += plain_bytes(column, b, slice->value + slice->values);
            slice->values++;
        }
    }
    slice->levels = i - slice->level;
}

static void cut(const struct pqfile_writer *w, const struct pqfile_batch *b, struct slice *slice)
{
    const struct pq_column *column = &w->columns[w->column];
    if (column->node->definition_max == 0 && column->node->type != PQFILE_BYTE_ARRAY)
        cut_numbers(w, b, slice);
    else
        cut_levels(w, b, slice);
    slice->full =
        is_full(column, w->page.value_bytes + slice->bytes, w->page.row_count + slice->rows);
}

/* ---- values ---- */

static int add_hash(struct pqfile_writer *w, uint64_t hash)
{
    struct pq_bloom_bits *bloom = &w->blooms[w->column];
    if (bloom->bits != NULL) {
        pq_bloom_insert(bloom->bits, bloom->bytes, hash);
        return 0;
    }
    int rc =
        pq_grow(&w->allocator, &w->hashes, &w->hash_capacity, w->hash_count + 1, sizeof *w->hashes);
    if (rc == 0)
        w->hashes[w->hash_count++] = hash;
    return rc;
}

static int add_hashes(struct pqfile_writer *w, const void *values, size_t count)
{
    const struct pq_column *column = &w->columns[w->column];
    const struct pqfile_bytes *texts = column->node->type == PQFILE_BYTE_ARRAY ? values : NULL;
    const uint8_t *fixed = values;
    for (size_t i = 0; i < count; i++) {
        int rc =
            add_hash(w, texts != NULL ? pq_bloom_hash(texts[i].data, texts[i].len)
                                      : pq_bloom_hash(fixed + i * column->width, column->width));
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int add_indices(struct pqfile_writer *w, const void *values, size_t count)
{
    struct pq_buffer *out = &w->page.values;
    uint32_t *indices = (uint32_t *)(void *)pq_buffer_reserve(out, count * sizeof *indices);
    if (indices == NULL || pq_dictionary_add(&w->dictionary, values, count, indices) < 0)
        return PQFILE_NO_MEMORY;
    out->len += count * sizeof *indices;
    return 0;
}

int pq_column_add_values(struct pqfile_writer *w, const void *values, size_t count, size_t bytes,
                         bool direct)
{
    const struct pq_column *column = &w->columns[w->column];
    int rc = 0;
    if (count == 0)
        return 0;
    if (!column->options.no_statistics)
        pq_bounds_add(&w->page.bounds, values, count);
    if (column->options.bloom && !w->in_dictionary)
        rc = add_hashes(w, values, count);
    if (rc < 0)
        return rc;
    w->page.value_count += count;
    w->page.value_bytes += bytes;
    if (direct)
        return 0;
    if (w->in_dictionary)
        return add_indices(w, values, count);
    if (column->node->type == PQFILE_BYTE_ARRAY)
        pq_plain_encode_bytes(&w->page.values, values, count);
    else
        pq_buffer_add(&w->page.values, values, count * column->width);
    return w->page.values.failed ? PQFILE_NO_MEMORY : 0;
}

static int take_slice(struct pqfile_writer *w, const struct pqfile_batch *b,
                      const struct slice *slice, struct pqfile_error *error)
{
    const struct pq_column *column = &w->columns[w->column];
    struct pq_page *page = &w->page;
    bool direct = column->direct && slice->full && page->level_count == 0;
    const uint8_t *values = b->values;
    if (slice->value > 0)
        values += slice->value * column->width;
    if (column->node->definition_max > 0)
        pq_buffer_add(&page->definition, b->definition + slice->level, slice->levels);
    if (column->node->repetition_max > 0)
        pq_buffer_add(&page->repetition, b->repetition + slice->level, slice->levels);
    int rc = pq_column_add_values(w, values, slice->values, slice->bytes, direct);
    if (rc < 0)
        return pq_error_plain(error, rc);
    page->row_count += slice->rows;
    page->level_count += slice->levels;
    return slice->full ? pq_column_flush(w, direct ? values : NULL, error) : 0;
}

int pq_column_append(struct pqfile_writer *w, const struct pqfile_batch *batch,
                     struct pqfile_error *error)
{
    const struct pqfile_node *node = w->columns[w->column].node;
    struct pqfile_batch rows = *batch;
    struct slice slice = {0};
    int rc = 0;
    if (node->definition_max == 0)
        rows.definition = NULL; /* levels that the schema has not are not looked at */
    if (node->repetition_max == 0)
        rows.repetition = NULL;
    if (w->page.as_runs) {
        rc = pq_column_flush(w, NULL, error);
        w->page.as_runs = false;
    }
    while (rc == 0 && slice.level < rows.level_count) {
        cut(w, &rows, &slice);
        rc = take_slice(w, &rows, &slice, error);
        slice.level += slice.levels;
        slice.value += slice.values;
    }
    return rc;
}

int pqfile_write(struct pqfile_writer *writer, const struct pqfile_batch *batch,
                 struct pqfile_error *error_out)
{
    int rc = pq_writer_enter_column(writer, error_out);
    if (rc < 0)
        return rc;
    rc = pq_check_batch(writer, batch, error_out);
    if (rc == 0)
        rc = pq_column_append(writer, batch, error_out);
    return rc < 0 ? pq_writer_fail(writer, rc, error_out) : 0;
}

/* ---- pages and chunks ---- */

/* The entries of a dictionary are its column's distinct values so far. */
static int leave_dictionary(struct pqfile_writer *w, struct pqfile_error *error)
{
    if (w->columns[w->column].options.bloom)
        for (uint32_t i = 0; i < w->dictionary.count; i++)
            if (add_hash(w, w->dictionary.hashes[i]) < 0)
                return pq_error_plain(error, PQFILE_NO_MEMORY);
    return pq_page_end_dictionary(w, error);
}

int pq_column_flush(struct pqfile_writer *w, const void *values, struct pqfile_error *error)
{
    int rc = 0;
    if (w->page.level_count > 0)
        rc = pq_page_write(w, values, error);
    if (rc == 0 && w->in_dictionary &&
        w->dictionary.plain.len > w->columns[w->column].options.dictionary_bytes)
        rc = leave_dictionary(w, error);
    return rc;
}

static int begin_bloom(struct pqfile_writer *w, const struct pqfile_column_options *options)
{
    struct pq_bloom_bits *bloom = &w->blooms[w->column];
    w->hash_count = 0;
    if (!options->bloom || options->bloom_distinct == 0)
        return 0;
    bloom->bytes = pq_bloom_bytes(options->bloom_distinct, options->bloom_fpp);
    bloom->bits = pq_allocate_zeroed(&w->allocator, bloom->bytes, 1);
    return bloom->bits == NULL ? PQFILE_NO_MEMORY : 0;
}

/* A filter whose size was not known is made from the hashes that were kept. */
static int end_bloom(struct pqfile_writer *w, const struct pqfile_column_options *options)
{
    struct pq_bloom_bits *bloom = &w->blooms[w->column];
    if (!options->bloom || bloom->bits != NULL || w->chunk_rows == 0)
        return 0;
    bloom->bytes = pq_bloom_bytes(w->hash_count, options->bloom_fpp);
    bloom->bits = pq_allocate_zeroed(&w->allocator, bloom->bytes, 1);
    if (bloom->bits == NULL)
        return PQFILE_NO_MEMORY;
    for (size_t i = 0; i < w->hash_count; i++)
        pq_bloom_insert(bloom->bits, bloom->bytes, w->hashes[i]);
    return 0;
}

int pq_column_begin(struct pqfile_writer *w, struct pqfile_error *error)
{
    const struct pq_column *column = &w->columns[w->column];
    w->chunk_open = true;
    w->chunk_rows = w->chunk_nulls = 0;
    w->page.as_runs = false;
    pq_bounds_dispose(&w->page.bounds);
    pq_bounds_dispose(&w->chunk_bounds);
    pq_bounds_init(&w->page.bounds, column->node, &w->allocator);
    pq_bounds_init(&w->chunk_bounds, column->node, &w->allocator);
    w->in_dictionary =
        column->options.encoding == PQFILE_RLE_DICTIONARY && !column->options.as_bytes;
    if (w->in_dictionary) {
        pq_dictionary_dispose(&w->dictionary);
        pq_dictionary_init(&w->dictionary, &w->allocator, column->node->type,
                           column->node->type_length);
    }
    pq_writer_chunk(w)->codec = column->options.codec;
    int rc = begin_bloom(w, &column->options);
    return rc < 0 ? pq_error_plain(error, rc) : 0;
}

static int end_statistics(struct pqfile_writer *w, const struct pq_column *column,
                          struct pqfile_statistics *out)
{
    if (column->options.no_statistics)
        return 0;
    out->has_null_count = true;
    out->null_count = w->chunk_nulls;
    return pq_bounds_store(&w->chunk_bounds, column->options.bound_bytes, &w->arena, out);
}

int pq_column_end(struct pqfile_writer *w, struct pqfile_error *error)
{
    const struct pq_column *column = &w->columns[w->column];
    struct pqfile_chunk *chunk = pq_writer_chunk(w);
    int rc = pq_column_flush(w, NULL, error);
    if (rc == 0 && w->in_dictionary && w->chunk_rows > 0)
        rc = leave_dictionary(w, error);
    if (rc < 0)
        return rc;
    w->in_dictionary = false;
    rc = end_bloom(w, &column->options);
    if (rc == 0)
        rc = end_statistics(w, column, &chunk->statistics);
    if (rc < 0)
        return pq_error_plain(error, rc);
    if (w->chunk_rows > 0)
        chunk->data_offset = pq_writer_pages(w)->pages[0].offset;
    chunk->start = chunk->dictionary_offset > 0 ? chunk->dictionary_offset : chunk->data_offset;
    if (column->node->definition_max > 0 || column->node->repetition_max > 0)
        chunk->encodings |= 1U << PQFILE_RLE;
    w->chunk_open = false;
    return 0;
}
