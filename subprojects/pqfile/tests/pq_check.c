/* pq_check.c: see pq_check.h. A column is read once from the front, with its levels and values
 * copied; everything else is held against that copy. */
#include "pq_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_ROWS = 97, SEEKS = 24 };

/* All of one column of one row group. */
struct column {
    const struct pqfile_node *leaf;
    size_t value_size;
    size_t row_count, level_count, value_count;
    uint8_t *definition, *repetition;
    uint8_t *values;    /* BYTE_ARRAY: struct pqfile_bytes, each with memory of its own */
    size_t *row_levels; /* where each row's levels begin; row_count + 1 */
    size_t *row_values; /* where its values begin; row_count + 1 */
    struct {
        size_t definition, repetition, values, row_levels, row_values;
    } capacity;
};

static int disagree(struct pqfile_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int disagree(struct pqfile_error *error, const char *format, ...)
{
    char what[128];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    (void)snprintf(error->message, sizeof(error->message), "disagreement: %s", what);
    error->code = PQFILE_INVALID;
    return PQFILE_INVALID;
}

static void *grow(void *memory, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity && memory != NULL)
        return memory;
    *capacity = need * 2 + 16;
    void *grown = realloc(memory, *capacity * size);
    if (grown == NULL)
        abort();
    return grown;
}

static void *copy_of(const void *data, size_t len)
{
    void *copy = malloc(len == 0 ? 1 : len);
    if (copy == NULL)
        abort();
    if (len != 0)
        memcpy(copy, data, len);
    return copy;
}

static void add_batch(struct column *c, const struct pqfile_batch *b)
{
    size_t levels = c->level_count + b->level_count, values = c->value_count + b->value_count;
    size_t rows = c->row_count + b->row_count + 1;
    c->definition = grow(c->definition, &c->capacity.definition, levels, 1);
    c->repetition = grow(c->repetition, &c->capacity.repetition, levels, 1);
    c->values = grow(c->values, &c->capacity.values, values, c->value_size);
    c->row_levels = grow(c->row_levels, &c->capacity.row_levels, rows, sizeof(size_t));
    c->row_values = grow(c->row_values, &c->capacity.row_values, rows, sizeof(size_t));
    for (size_t i = 0; i < b->level_count; i++) {
        uint8_t definition = b->definition == NULL ? 0 : b->definition[i];
        uint8_t repetition = b->repetition == NULL ? 0 : b->repetition[i];
        if (repetition == 0) {
            c->row_levels[c->row_count] = c->level_count;
            c->row_values[c->row_count++] = c->value_count;
        }
        c->definition[c->level_count] = definition;
        c->repetition[c->level_count++] = repetition;
        c->value_count += definition == c->leaf->definition_max;
    }
    c->row_levels[c->row_count] = c->level_count;
    c->row_values[c->row_count] = c->value_count;
    uint8_t *to = c->values + (values - b->value_count) * c->value_size;
    if (b->value_count != 0)
        memcpy(to, b->values, b->value_count * c->value_size);
    struct pqfile_bytes *texts = (struct pqfile_bytes *)(void *)to;
    for (size_t i = 0; c->leaf->type == PQFILE_BYTE_ARRAY && i < b->value_count; i++)
        texts[i].data = copy_of(texts[i].data, texts[i].len);
}

static void column_free(struct column *c)
{
    struct pqfile_bytes *texts = (struct pqfile_bytes *)(void *)c->values;
    for (size_t i = 0; c->leaf->type == PQFILE_BYTE_ARRAY && i < c->value_count; i++) {
        void *memory;
        memcpy(&memory, &texts[i].data, sizeof(memory));
        free(memory);
    }
    free(c->definition);
    free(c->repetition);
    free(c->values);
    free(c->row_levels);
    free(c->row_values);
}

static int read_column(const struct pqfile_reader *reader, uint32_t group, uint32_t column,
                       struct column *c, struct pqfile_error *error)
{
    struct pqfile_cursor *cursor = NULL;
    struct pqfile_batch batch;
    int rc = pqfile_cursor_open(reader, group, column, &cursor, error);
    if (rc < 0)
        return rc;
    while ((rc = pqfile_cursor_read(cursor, BATCH_ROWS, &batch, error)) == 0 &&
           batch.row_count != 0) {
        size_t rows = c->row_count, values = c->value_count;
        if (batch.row_count > BATCH_ROWS)
            rc = disagree(error, "more rows than asked for");
        add_batch(c, &batch);
        if (c->row_count - rows != batch.row_count || c->value_count - values != batch.value_count)
            rc = disagree(error, "a batch's levels do not have its rows and values");
        if (rc == 0 && pqfile_cursor_row(cursor) != c->row_count)
            rc = disagree(error, "the cursor stands on another row");
        if (rc < 0)
            break;
    }
    pqfile_cursor_close(cursor);
    return rc;
}

static struct pqfile_bytes value_at(const struct column *c, size_t i)
{
    const uint8_t *at = c->values + i * c->value_size;
    struct pqfile_bytes bytes = {.data = at, .len = c->value_size};
    if (c->leaf->type == PQFILE_BYTE_ARRAY)
        memcpy(&bytes, at, sizeof(bytes));
    return bytes;
}

static bool same_bytes(struct pqfile_bytes a, struct pqfile_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Whether a batch is the rows from `row` on. */
static bool same_rows(const struct column *c, size_t row, const struct pqfile_batch *b)
{
    if (row + b->row_count > c->row_count)
        return false;
    size_t level = c->row_levels[row], value = c->row_values[row];
    if (c->row_levels[row + b->row_count] - level != b->level_count ||
        c->row_values[row + b->row_count] - value != b->value_count)
        return false;
    for (size_t i = 0; i < b->level_count; i++)
        if ((b->definition != NULL && c->definition[level + i] != b->definition[i]) ||
            (b->repetition != NULL && c->repetition[level + i] != b->repetition[i]))
            return false;
    struct column other = {
        .leaf = c->leaf, .value_size = c->value_size, .value_count = b->value_count};
    other.values = copy_of(b->values, b->value_count * c->value_size);
    bool same = true;
    for (size_t i = 0; i < b->value_count && same; i++)
        same = same_bytes(value_at(c, value + i), value_at(&other, i));
    free(other.values);
    return same;
}

/* ---- the other ways ---- */

static int check_seeks(const struct pqfile_reader *reader, uint32_t group, uint32_t column,
                       const struct column *c, struct pqfile_error *error)
{
    struct pqfile_cursor *cursor = NULL;
    struct pqfile_batch batch;
    uint64_t state = 7;
    int rc = pqfile_cursor_open(reader, group, column, &cursor, error);
    for (size_t i = 0; rc == 0 && i < SEEKS; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        size_t row = (size_t)(state >> 33) % (c->row_count + 1);
        rc = pqfile_cursor_seek(cursor, row, error);
        for (size_t reads = 0; rc == 0 && reads < i % 3 + 1; reads++) {
            rc = pqfile_cursor_read(cursor, 1 + i * 5, &batch, error);
            if (rc == 0 && !same_rows(c, row, &batch))
                rc = disagree(error, "other rows after seeking row %zu", row);
            if (rc == 0 && batch.row_count == 0 && row != c->row_count)
                rc = disagree(error, "no rows at row %zu", row);
            row += rc == 0 ? batch.row_count : 0;
        }
    }
    pqfile_cursor_close(cursor);
    return rc;
}

static int check_page(const struct pqfile_reader *reader, const struct pqfile_page *page,
                      const struct column *c, const uint8_t *file, struct pqfile_error *error)
{
    size_t row = (size_t)page->first_row, value = c->row_values[row];
    if (row + page->row_count > c->row_count)
        return disagree(error, "a page has rows behind the last");
    int rc = pqfile_page_verify(reader, page, error);
    if (rc == PQFILE_CORRUPT)
        return rc;
    for (size_t i = 0; page->in_place && file != NULL && i < page->value_count; i++) {
        struct pqfile_bytes raw = {file + page->values_offset + i * c->value_size, c->value_size};
        if (value + i >= c->value_count || !same_bytes(raw, value_at(c, value + i)))
            return disagree(error, "value %zu in place is another", i);
    }
    return 0;
}

/* Pages in place, and the offset index against the pages. */
static int check_pages(const struct pqfile_reader *reader, uint32_t group, uint32_t column,
                       const struct column *c, const struct pqfile_page_index_view *view,
                       const uint8_t *file, struct pqfile_error *error)
{
    struct pqfile_pages *pages = NULL;
    struct pqfile_page page = {0};
    size_t rows = 0, values = 0, count = 0;
    int rc = pqfile_pages_open(reader, group, column, &pages, error);
    while (rc == 0 && (rc = pqfile_pages_next(pages, &page, error)) == 0 && page.level_count != 0) {
        if (page.first_row != rows)
            rc = disagree(error, "page %zu begins with another row", count);
        /* A page of a repeated column may begin within a row: then values do not line up. */
        if (rc == 0 && (view != NULL || c->leaf->repetition_max == 0))
            rc = check_page(reader, &page, c, file, error);
        if (rc == 0 && view != NULL &&
            (count >= view->page_count || view->entries[count].offset != page.offset ||
             view->entries[count].first_row != page.first_row ||
             view->entries[count].row_count != page.row_count ||
             view->entries[count].stored_bytes != page.header_bytes + page.stored_bytes))
            rc = disagree(error, "the offset index has another page %zu", count);
        rows += page.row_count;
        values += page.value_count;
        count++;
    }
    pqfile_pages_close(pages);
    if (rc == 0 && (rows != c->row_count || values != c->value_count))
        rc = disagree(error, "the pages have %zu rows and %zu values", rows, values);
    return rc;
}

/* -1, 0, 1 in the order of the column's type; bounds of bytes that were cut short included. Columns
 * whose order is another (unsigned, decimals in bytes) are not asked. */
static int compare(const struct pqfile_node *leaf, struct pqfile_bytes a, struct pqfile_bytes b)
{
#define COMPARE(TYPE)                                                                              \
    do {                                                                                           \
        TYPE x, y;                                                                                 \
        memcpy(&x, a.data, sizeof(x));                                                             \
        memcpy(&y, b.data, sizeof(y));                                                             \
        return x < y ? -1 : x > y;                                                                 \
    } while (0)
    size_t len = a.len < b.len ? a.len : b.len;
    int order = 0;
    switch (leaf->type) {
    case PQFILE_INT32:
        COMPARE(int32_t);
    case PQFILE_INT64:
        COMPARE(int64_t);
    case PQFILE_FLOAT:
        COMPARE(float);
    case PQFILE_DOUBLE:
        COMPARE(double);
    case PQFILE_BOOLEAN:
    case PQFILE_INT96:
    case PQFILE_BYTE_ARRAY:
    case PQFILE_FIXED_LEN_BYTE_ARRAY:
        break;
    }
    order = len == 0 ? 0 : memcmp(a.data, b.data, len);
    return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
#undef COMPARE
}

static bool can_compare(const struct pqfile_node *leaf)
{
    enum pqfile_logical_kind kind = leaf->logical.kind;
    return kind != PQFILE_LOGICAL_DECIMAL && kind != PQFILE_LOGICAL_FLOAT16 &&
           (kind != PQFILE_LOGICAL_INTEGER || leaf->logical.is_signed);
}

static int check_bounds(const struct column *c, size_t from, size_t to, struct pqfile_bytes min,
                        struct pqfile_bytes max, struct pqfile_error *error)
{
    for (size_t i = from; i < to && can_compare(c->leaf); i++) {
        struct pqfile_bytes value = value_at(c, i);
        /* Negated, so that a NaN passes. */
        if (compare(c->leaf, value, min) < 0 || compare(c->leaf, value, max) > 0)
            return disagree(error, "value %zu lies outside its bounds", i);
    }
    return 0;
}

static int check_column_index(const struct column *c, const struct pqfile_page_index_view *view,
                              struct pqfile_error *error)
{
    for (uint32_t p = 0; view->has_bounds && p < view->page_count; p++) {
        const struct pqfile_page_entry *e = &view->entries[p];
        if (e->first_row + e->row_count > c->row_count)
            return disagree(error, "the page index has other rows");
        size_t from = c->row_values[e->first_row], to = c->row_values[e->first_row + e->row_count];
        size_t levels = c->row_levels[e->first_row + e->row_count] - c->row_levels[e->first_row];
        if (e->is_null ? from != to : false)
            return disagree(error, "page %u is not all null", p);
        if (e->has_null_count && e->null_count != levels - (to - from))
            return disagree(error, "page %u has another count of nulls", p);
        int rc = e->is_null ? 0 : check_bounds(c, from, to, e->min, e->max, error);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int check_bloom(const struct pqfile_reader *reader, uint32_t group, uint32_t column,
                       const struct column *c, struct pqfile_error *error)
{
    struct pqfile_bloom *bloom = NULL;
    int rc = pqfile_bloom_open(reader, group, column, &bloom, error);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < c->value_count && rc == 0; i++) {
        struct pqfile_bytes value = value_at(c, i);
        if (!pqfile_bloom_may_contain(bloom, value.data, value.len))
            rc = disagree(error, "the bloom filter lacks value %zu", i);
    }
    pqfile_bloom_close(bloom);
    return rc;
}

static int check_statistics(const struct pqfile_chunk *chunk, const struct column *c,
                            struct pqfile_error *error)
{
    const struct pqfile_statistics *s = &chunk->statistics;
    if (s->has_null_count && s->null_count != c->level_count - c->value_count)
        return disagree(error, "the chunk has another count of nulls");
    if (!s->has_min || !s->has_max)
        return 0;
    return check_bounds(c, 0, c->value_count, s->min, s->max, error);
}

static int check_rest(const struct pqfile_reader *reader, uint32_t group, uint32_t column,
                      const struct column *c, const uint8_t *file, struct pqfile_error *error)
{
    const struct pqfile_chunk *chunk = &pqfile_metadata(reader)->row_groups[group].chunks[column];
    struct pqfile_page_index *index = NULL;
    int rc = check_statistics(chunk, c, error);
    if (rc == 0 && chunk->offset_index_bytes != 0)
        rc = pqfile_page_index_open(reader, group, column, &index, error);
    const struct pqfile_page_index_view *view = index == NULL ? NULL : pqfile_page_index(index);
    if (rc == 0)
        rc = check_pages(reader, group, column, c, view, file, error);
    if (rc == 0 && view != NULL)
        rc = check_column_index(c, view, error);
    pqfile_page_index_close(index);
    if (rc == 0)
        rc = check_seeks(reader, group, column, c, error);
    if (rc == 0 && chunk->has_bloom)
        rc = check_bloom(reader, group, column, c, error);
    return rc;
}

static int check_column(const struct pqfile_reader *reader, uint32_t group, uint32_t column,
                        const uint8_t *file, struct pqfile_error *error)
{
    const struct pqfile_metadata *m = pqfile_metadata(reader);
    struct column c = {.leaf = &m->nodes[m->columns[column]]};
    c.value_size = pqfile_value_size(c.leaf->type, c.leaf->type_length);
    c.definition = grow(NULL, &c.capacity.definition, 1, 1);
    c.repetition = grow(NULL, &c.capacity.repetition, 1, 1);
    c.row_levels = grow(NULL, &c.capacity.row_levels, 1, sizeof(size_t));
    c.row_values = grow(NULL, &c.capacity.row_values, 1, sizeof(size_t));
    c.row_levels[0] = c.row_values[0] = 0;
    int rc = read_column(reader, group, column, &c, error);
    if (rc == 0 && c.row_count != m->row_groups[group].row_count)
        rc = disagree(error, "%zu rows were read", c.row_count);
    if (rc == 0)
        rc = check_rest(reader, group, column, &c, file, error);
    column_free(&c);
    return rc;
}

int pq_check_file(const struct pqfile_reader *reader, const void *file, struct pqfile_error *error)
{
    const struct pqfile_metadata *m = pqfile_metadata(reader);
    for (uint32_t g = 0; g < m->row_group_count; g++)
        for (uint32_t c = 0; c < m->column_count; c++) {
            int rc = check_column(reader, g, c, file, error);
            if (rc < 0)
                return rc;
        }
    return 0;
}
