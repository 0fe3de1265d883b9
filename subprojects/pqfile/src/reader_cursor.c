/* reader_cursor.c: rows of one column of one row group. A cursor decodes a page at a time and gives
 * out slices of it, so a batch never spans two pages and nothing is copied, with one exception: in
 * pages of version 1 a row of a repeated column may go on in the next page. The last row of such a
 * page is set aside in the carry, and completed with what the next pages begin with, before it is
 * given out alone.
 *
 * Seeking goes by the offset index where there is one; else pages are walked by their headers, and
 * levels are decoded only where a header does not tell rows. */
#include <assert.h>
#include <string.h>

#include "error.h"
#include "reader_internal.h"

/* A row that is being put together. Byte arrays are copied, because their page goes. */
struct carry {
    struct pq_buffer definition;
    struct pq_buffer repetition;
    struct pq_buffer values;
    struct pq_arena bytes;
    size_t level_count;
    size_t value_count;
};

struct pqfile_cursor {
    struct pq_walker walker;
    struct carry carry;
    struct pqfile_page_index *index; /* NULL: not yet asked for, or there is none */
    bool index_looked;

    bool has_page;     /* a page is decoded; what follows is its state */
    bool has_values;   /* its values are decoded too */
    uint64_t row;      /* that the next read begins with */
    size_t level_at;   /* in the page */
    size_t value_at;   /* in the page */
    size_t rows_left;  /* in the page, that begin at level_at or behind */
    bool last_is_open; /* the page's last row may go on in the next page */
    bool is_broken;    /* after an error */
};

int pqfile_cursor_open(const struct pqfile_reader *reader, uint32_t row_group, uint32_t column,
                       struct pqfile_cursor **cursor_out, struct pqfile_error *error_out)
{
    const struct pqfile_allocator *a = &reader->allocator;
    struct pqfile_cursor *c = pq_allocate_zeroed(a, 1, sizeof(*c));
    if (c == NULL)
        return pq_error_plain(error_out, PQFILE_NO_MEMORY);
    int rc = pq_walker_init(&c->walker, reader, row_group, column, error_out);
    if (rc < 0) {
        pq_release(a, c);
        return rc;
    }
    pq_buffer_init(&c->carry.definition, a);
    pq_buffer_init(&c->carry.repetition, a);
    pq_buffer_init(&c->carry.values, a);
    pq_arena_init(&c->carry.bytes, a, reader->options.memory_max);
    *cursor_out = c;
    return PQFILE_OK;
}

void pqfile_cursor_close(struct pqfile_cursor *cursor)
{
    if (cursor == NULL)
        return;
    const struct pqfile_allocator *a = &cursor->walker.reader->allocator;
    pq_walker_dispose(&cursor->walker);
    pq_buffer_dispose(&cursor->carry.definition);
    pq_buffer_dispose(&cursor->carry.repetition);
    pq_buffer_dispose(&cursor->carry.values);
    pq_arena_dispose(&cursor->carry.bytes);
    pqfile_page_index_close(cursor->index);
    pq_release(a, cursor);
}

uint64_t pqfile_cursor_row(const struct pqfile_cursor *cursor)
{
    return cursor->row;
}

const struct pq_walker *pq_cursor_walker(const struct pqfile_cursor *cursor)
{
    return &cursor->walker;
}

int pq_cursor_break(struct pqfile_cursor *cursor, int rc, struct pqfile_error *error)
{
    cursor->is_broken = true;
    return pq_walker_place(&cursor->walker, rc, error);
}

/* ---- pages ---- */

/* Decodes the levels of the page the walker stands on. */
static int open_page(struct pqfile_cursor *c, struct pqfile_error *error)
{
    struct pq_walker *w = &c->walker;
    int rc = pq_walker_fetch(w, error);
    if (rc == 0)
        rc = pq_page_levels(w, error);
    if (rc < 0)
        return rc;
    w->next_row += w->row_count;
    c->has_page = true;
    c->has_values = false;
    c->level_at = 0;
    c->value_at = 0;
    c->rows_left = w->row_count;
    c->last_is_open =
        w->repetition != NULL && w->head.type == PQ_PAGE_DATA && !pq_walker_at_last(w);
    return PQFILE_OK;
}

static int next_page(struct pqfile_cursor *c, bool *is_end_out, struct pqfile_error *error)
{
    c->has_page = false;
    int rc = pq_walker_next(&c->walker, is_end_out, error);
    return rc < 0 || *is_end_out ? rc : open_page(c, error);
}

static int need_values(struct pqfile_cursor *c, struct pqfile_error *error)
{
    if (c->has_values)
        return PQFILE_OK;
    int rc = pq_page_values(&c->walker, error);
    c->has_values = rc == 0;
    return rc;
}

/* Levels from level_at on that belong to the next `row_count` rows of the page; without rows, those
 * that end the row before. */
static size_t levels_of_rows(const struct pqfile_cursor *c, size_t row_count)
{
    const struct pq_walker *w = &c->walker;
    size_t end = w->head.level_count, at = c->level_at, rows = 0;
    if (w->repetition == NULL)
        return row_count;
    if (row_count == c->rows_left)
        return end - at; /* all that is left */
    for (; at < end; at++) {
        rows += w->repetition[at] == 0;
        if (rows > row_count)
            break;
    }
    return at - c->level_at;
}

static size_t values_of_levels(const struct pqfile_cursor *c, size_t level_count)
{
    const struct pq_walker *w = &c->walker;
    size_t values = 0;
    if (w->definition == NULL)
        return level_count;
    if (w->value_count == w->head.level_count)
        return level_count;
    for (size_t i = c->level_at; i < c->level_at + level_count; i++)
        values += w->definition[i] == w->leaf->definition_max;
    return values;
}

/* The next levels of the page as a batch; steps over them. */
static void take(struct pqfile_cursor *c, size_t row_count, size_t level_count,
                 struct pqfile_batch *batch_out)
{
    const struct pq_walker *w = &c->walker;
    size_t values = values_of_levels(c, level_count);
    *batch_out = (struct pqfile_batch){
        .row_count = row_count,
        .level_count = level_count,
        .value_count = values,
        .definition = w->definition == NULL ? NULL : w->definition + c->level_at,
        .repetition = w->repetition == NULL ? NULL : w->repetition + c->level_at,
        .values =
            w->values == NULL ? NULL : (const uint8_t *)w->values + c->value_at * w->value_size,
    };
    c->level_at += level_count;
    c->value_at += values;
    c->rows_left -= row_count;
}

/* ---- rows that span pages ---- */

static void carry_clear(struct carry *k)
{
    pq_buffer_clear(&k->definition);
    pq_buffer_clear(&k->repetition);
    pq_buffer_clear(&k->values);
    pq_arena_dispose(&k->bytes);
    k->level_count = 0;
    k->value_count = 0;
}

static int carry_bytes(struct carry *k, const struct pqfile_batch *batch)
{
    const struct pqfile_bytes *from = batch->values;
    for (size_t i = 0; i < batch->value_count; i++) {
        struct pqfile_bytes copy = {.len = from[i].len};
        copy.data = (uint8_t *)pq_arena_text(&k->bytes, from[i].data, from[i].len);
        if (copy.data == NULL)
            return pq_arena_code(&k->bytes);
        pq_buffer_add(&k->values, &copy, sizeof(copy));
    }
    return PQFILE_OK;
}

static int carry_add(struct pqfile_cursor *c, const struct pqfile_batch *batch)
{
    const struct pq_walker *w = &c->walker;
    struct carry *k = &c->carry;
    int rc = PQFILE_OK;
    size_t bytes = k->value_count + batch->value_count;
    if (__builtin_mul_overflow(bytes, w->value_size, &bytes) ||
        bytes > w->reader->options.memory_max ||
        k->level_count + batch->level_count > w->reader->options.memory_max)
        return PQFILE_LIMIT;
    if (batch->definition != NULL)
        pq_buffer_add(&k->definition, batch->definition, batch->level_count);
    pq_buffer_add(&k->repetition, batch->repetition, batch->level_count);
    if (batch->value_count != 0 && w->leaf->type == PQFILE_BYTE_ARRAY)
        rc = carry_bytes(k, batch);
    else if (batch->value_count != 0)
        pq_buffer_add(&k->values, batch->values, batch->value_count * w->value_size);
    k->level_count += batch->level_count;
    k->value_count += batch->value_count;
    if (k->definition.failed || k->repetition.failed || k->values.failed)
        return PQFILE_NO_MEMORY;
    return rc;
}

static int carry_piece(struct pqfile_cursor *c, size_t row_count, struct pqfile_error *error)
{
    struct pqfile_batch piece;
    int rc = need_values(c, error);
    if (rc < 0)
        return rc;
    take(c, row_count, levels_of_rows(c, row_count), &piece);
    rc = carry_add(c, &piece);
    return rc < 0 ? pq_error_plain(error, rc) : PQFILE_OK;
}

/* Gives out the page's last row, with all that pages behind it add. */
static int read_open_row(struct pqfile_cursor *c, struct pqfile_batch *batch_out,
                         struct pqfile_error *error)
{
    bool is_end = false;
    struct carry *k = &c->carry;
    carry_clear(k);
    int rc = carry_piece(c, 1, error);
    while (rc == 0 && (!c->has_page || c->level_at == c->walker.head.level_count)) {
        rc = next_page(c, &is_end, error);
        if (rc < 0 || is_end)
            break;
        if (levels_of_rows(c, 0) != 0)
            rc = carry_piece(c, 0, error);
    }
    if (rc < 0)
        return rc;
    *batch_out = (struct pqfile_batch){
        .row_count = 1,
        .level_count = k->level_count,
        .value_count = k->value_count,
        .definition = c->walker.leaf->definition_max == 0 ? NULL : k->definition.data,
        .repetition = k->repetition.data,
        .values = k->values.data,
    };
    c->row++;
    return PQFILE_OK;
}

/* ---- reading ---- */

/* Rows of the page that are surely whole. */
static size_t whole_rows(const struct pqfile_cursor *c)
{
    return c->rows_left - (c->last_is_open && c->rows_left != 0 ? 1 : 0);
}

/* Steps over what ends a row of the page before. */
static void skip_begun_row(struct pqfile_cursor *c)
{
    size_t begun = levels_of_rows(c, 0);
    c->value_at += values_of_levels(c, begun);
    c->level_at += begun;
}

/* Goes on until the page has a row. */
static int need_row(struct pqfile_cursor *c, bool *is_end_out, struct pqfile_error *error)
{
    *is_end_out = false;
    while (!c->has_page || c->rows_left == 0) {
        int rc = next_page(c, is_end_out, error);
        if (rc < 0 || *is_end_out)
            return rc;
        skip_begun_row(c);
    }
    return PQFILE_OK;
}

static int read_rows(struct pqfile_cursor *c, size_t row_max, struct pqfile_batch *batch_out,
                     struct pqfile_error *error)
{
    bool is_end = false;
    int rc = need_row(c, &is_end, error);
    if (rc < 0)
        return rc;
    if (is_end) {
        *batch_out = (struct pqfile_batch){0};
        return PQFILE_OK;
    }
    size_t rows = whole_rows(c);
    if (rows == 0)
        return read_open_row(c, batch_out, error);
    rc = need_values(c, error);
    if (rc < 0)
        return rc;
    rows = rows < row_max ? rows : row_max;
    take(c, rows, levels_of_rows(c, rows), batch_out);
    c->row += rows;
    return PQFILE_OK;
}

int pqfile_cursor_read(struct pqfile_cursor *cursor, size_t row_max, struct pqfile_batch *batch_out,
                       struct pqfile_error *error_out)
{
    if (cursor->is_broken || row_max == 0)
        return pq_error(error_out, PQFILE_INVALID, "%s",
                        row_max == 0 ? "no rows are asked for" : "read after an error");
    int rc = read_rows(cursor, row_max, batch_out, error_out);
    return rc < 0 ? pq_cursor_break(cursor, rc, error_out) : PQFILE_OK;
}

/* ---- seeking ---- */

/* Steps over rows within the page. */
static void skip_in_page(struct pqfile_cursor *c, size_t row_count)
{
    struct pqfile_batch ignored;
    take(c, row_count, levels_of_rows(c, row_count), &ignored);
    c->row += row_count;
}

/* Whether the rows of the page the walker stands on are told by its header. */
static bool header_tells_rows(const struct pq_walker *w)
{
    return w->leaf->repetition_max == 0 || w->head.type == PQ_PAGE_DATA_V2;
}

/* Walks pages by their headers up to the one that has row `row`, and opens that. */
static int walk_to(struct pqfile_cursor *c, uint64_t row, struct pqfile_error *error)
{
    struct pq_walker *w = &c->walker;
    for (;;) {
        bool is_end = false;
        c->has_page = false;
        c->rows_left = 0;
        c->row = w->next_row;
        int rc = pq_walker_next(w, &is_end, error);
        if (rc < 0)
            return rc;
        if (is_end)
            return PQFILE_OK; /* the counts were met, so this is row_count */
        if (header_tells_rows(w)) {
            size_t rows = w->leaf->repetition_max == 0 ? w->head.level_count : w->head.row_count;
            if (row - w->next_row >= rows) {
                w->next_row += rows;
                continue;
            }
        }
        rc = open_page(c, error);
        if (rc < 0)
            return rc;
        skip_begun_row(c);
        if (row - c->row < c->rows_left) {
            skip_in_page(c, (size_t)(row - c->row));
            return PQFILE_OK;
        }
    }
}

/* Which page of the index has the row; entries begin with row 0. */
static const struct pqfile_page_entry *find_entry(const struct pqfile_page_index_view *view,
                                                  uint64_t row)
{
    uint32_t low = 0, high = view->page_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (view->entries[middle].first_row <= row)
            low = middle;
        else
            high = middle;
    }
    return &view->entries[low];
}

static int look_for_index(struct pqfile_cursor *c, struct pqfile_error *error)
{
    const struct pq_walker *w = &c->walker;
    if (c->index_looked || w->chunk->offset_index_bytes == 0)
        return PQFILE_OK;
    int rc = pqfile_page_index_open(w->reader, w->group_index, w->column, &c->index, error);
    c->index_looked = rc == 0;
    return rc;
}

/* Opens the page that the offset index gives for the row, and checks that it is what the index
 * says: an index that lies must not give other rows. */
static int jump_to(struct pqfile_cursor *c, uint64_t row, struct pqfile_error *error)
{
    struct pq_walker *w = &c->walker;
    const struct pqfile_page_index_view *view = pqfile_page_index(c->index);
    const struct pqfile_page_entry *entry = find_entry(view, row);
    bool is_end = false;
    c->has_page = false;
    w->offset = entry->offset;
    w->next_row = entry->first_row;
    w->levels_known = false;
    w->next_page = (uint32_t)(entry - view->entries);
    int rc = pq_walker_next(w, &is_end, error);
    if (rc == 0 && (is_end || w->page_offset != entry->offset ||
                    w->offset - w->page_offset != entry->stored_bytes))
        rc = pq_error(error, PQFILE_CORRUPT, "is not where the offset index says");
    if (rc == 0)
        rc = open_page(c, error);
    if (rc == 0 && (w->row_count != entry->row_count || levels_of_rows(c, 0) != 0))
        rc = pq_error(error, PQFILE_CORRUPT, "has other rows than the offset index says");
    if (rc < 0)
        return rc;
    c->row = entry->first_row;
    skip_in_page(c, (size_t)(row - c->row));
    return PQFILE_OK;
}

static int seek(struct pqfile_cursor *c, uint64_t row, struct pqfile_error *error)
{
    struct pq_walker *w = &c->walker;
    if (c->has_page && row >= c->row && row - c->row < c->rows_left) {
        skip_in_page(c, (size_t)(row - c->row));
        return PQFILE_OK;
    }
    int rc = look_for_index(c, error);
    if (rc < 0)
        return rc;
    if (c->index != NULL && row < w->group->row_count)
        return jump_to(c, row, error);
    if (row < w->next_row || row < c->row)
        pq_walker_rewind(w);
    return walk_to(c, row, error);
}

int pqfile_cursor_seek(struct pqfile_cursor *cursor, uint64_t row, struct pqfile_error *error_out)
{
    if (cursor->is_broken)
        return pq_error(error_out, PQFILE_INVALID, "seek after an error");
    if (row > cursor->walker.group->row_count)
        return pq_error(error_out, PQFILE_INVALID, "there is no row %llu", (unsigned long long)row);
    if (row == cursor->row)
        return PQFILE_OK;
    int rc = seek(cursor, row, error_out);
    return rc < 0 ? pq_cursor_break(cursor, rc, error_out) : PQFILE_OK;
}

int pqfile_cursor_skip(struct pqfile_cursor *cursor, uint64_t row_count,
                       struct pqfile_error *error_out)
{
    if (row_count > cursor->walker.group->row_count - cursor->row)
        return pq_error(error_out, PQFILE_INVALID, "not as many rows are left");
    return pqfile_cursor_seek(cursor, cursor->row + row_count, error_out);
}
