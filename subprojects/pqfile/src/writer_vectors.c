/* writer_vectors.c: rows as an application has them, one slot a row and a bitmap of presence, or
 * lists of fixed size; see writer_internal.h.
 *
 * The levels of a vector are known before it is seen: repetition 0 1 1 1 ..., definition all the
 * same. They are written as runs, five bytes a row, instead of two bytes a value that are then
 * searched for runs; so a vector costs its copy and its checksum. */
#include <string.h>

#include "error.h"
#include "writer_internal.h"

enum {
    GATHER_ROWS = 4096,
    GATHER_BYTES = 64 << 10,
    RUN_SIZE_MIN = 16, /* shorter lists are smaller as packed bits */
};

static bool is_present(const uint8_t *present, size_t row)
{
    return present == NULL || (present[row / 8] >> (row % 8) & 1) != 0;
}

/* ---- optional values ---- */

/* Copies the values of present rows together, notes all rows' levels; returns how many there
 * are. */
static size_t gather(struct pqfile_writer *w, const uint8_t *values, const uint8_t *present,
                     size_t first, size_t rows, uint8_t *definition)
{
    size_t width = w->columns[w->column].width;
    size_t count = 0;
    uint8_t *out = pq_buffer_reserve(&w->gathered, rows * width);
    if (out == NULL)
        return 0;
    for (size_t i = 0; i < rows; i++) {
        definition[i] = is_present(present, first + i);
        if (definition[i] != 0)
            memcpy(out + width * count++, values + (first + i) * width, width);
    }
    return count;
}

static int write_gathered(struct pqfile_writer *w, const void *values, const uint8_t *present,
                          size_t row_count, struct pqfile_error *error)
{
    uint8_t definition[GATHER_ROWS];
    size_t rows_max = GATHER_BYTES / w->columns[w->column].width;
    rows_max = rows_max < 1 ? 1 : rows_max < GATHER_ROWS ? rows_max : GATHER_ROWS;
    int rc = 0;
    for (size_t first = 0; first < row_count && rc == 0;) {
        size_t rows = row_count - first < rows_max ? row_count - first : rows_max;
        pq_buffer_clear(&w->gathered);
        size_t count = gather(w, values, present, first, rows, definition);
        if (w->gathered.failed)
            return pq_error_plain(error, PQFILE_NO_MEMORY);
        struct pqfile_batch batch = {.row_count = rows,
                                     .level_count = rows,
                                     .value_count = count,
                                     .definition = definition,
                                     .values = w->gathered.data};
        rc = pq_check_batch(w, &batch, error);
        if (rc == 0)
            rc = pq_column_append(w, &batch, error);
        first += rows;
    }
    return rc;
}

static int write_required(struct pqfile_writer *w, const void *values, const uint8_t *present,
                          size_t row_count, struct pqfile_error *error)
{
    struct pqfile_batch batch = {.row_count = row_count,
                                 .level_count = row_count,
                                 .value_count = row_count,
                                 .values = values};
    for (size_t i = 0; i < row_count; i++)
        if (!is_present(present, i))
            return pq_error(error, PQFILE_INVALID, "row %zu of a required column is absent", i);
    int rc = pq_check_batch(w, &batch, error);
    return rc < 0 ? rc : pq_column_append(w, &batch, error);
}

int pqfile_write_optional(struct pqfile_writer *writer, const void *values, const uint8_t *present,
                          size_t row_count, struct pqfile_error *error_out)
{
    int rc = pq_writer_enter_column(writer, error_out);
    if (rc < 0)
        return rc;
    const struct pqfile_node *node = writer->columns[writer->column].node;
    if (node->repetition_max > 0 || node->definition_max > 1 || (row_count > 0 && values == NULL))
        rc = pq_error(error_out, PQFILE_INVALID, "not a flat column, or no values");
    else if (node->definition_max == 0)
        rc = write_required(writer, values, present, row_count, error_out);
    else
        rc = write_gathered(writer, values, present, row_count, error_out);
    return rc < 0 ? pq_writer_fail(writer, rc, error_out) : 0;
}

/* ---- vectors ---- */

static int enter_vectors(struct pqfile_writer *w, struct pqfile_error *error)
{
    int rc = pq_writer_enter_column(w, error);
    if (rc < 0)
        return rc;
    const struct pq_column *column = &w->columns[w->column];
    bool as_runs = column->list_size >= RUN_SIZE_MIN;
    if (column->list_size == 0 || column->node->type == PQFILE_BYTE_ARRAY)
        return pq_error(error, PQFILE_INVALID, "not a list of fixed size and width");
    if (w->page.as_runs != as_runs)
        rc = pq_column_flush(w, NULL, error);
    w->page.as_runs = as_runs;
    return rc;
}

static void add_levels_present(struct pq_page *page, const struct pq_column *column, size_t rows)
{
    uint8_t definition = (uint8_t)column->node->definition_max;
    size_t size = column->list_size;
    page->row_count += rows;
    page->level_count += rows * size;
    if (page->as_runs) {
        pq_runs_add(&page->definition_runs, definition, rows * size);
        for (size_t i = 0; i < rows; i++) {
            pq_runs_add(&page->repetition_runs, 0, 1);
            pq_runs_add(&page->repetition_runs, 1, size - 1);
        }
        return;
    }
    for (size_t i = 0; i < rows * size; i++) {
        pq_buffer_add_byte(&page->definition, definition);
        pq_buffer_add_byte(&page->repetition, i % size != 0);
    }
}

static void add_level_absent(struct pq_page *page, const struct pq_column *column)
{
    page->row_count++;
    page->level_count++;
    if (page->as_runs) {
        pq_runs_add(&page->definition_runs, column->list_absent, 1);
        pq_runs_add(&page->repetition_runs, 0, 1);
    } else {
        pq_buffer_add_byte(&page->definition, column->list_absent);
        pq_buffer_add_byte(&page->repetition, 0);
    }
}

static int end_page_if_full(struct pqfile_writer *w, const void *direct, struct pqfile_error *error)
{
    const struct pqfile_column_options *options = &w->columns[w->column].options;
    if (w->page.value_bytes >= options->page_bytes || w->page.row_count >= options->page_rows)
        return pq_column_flush(w, direct, error);
    return 0;
}

static int add_absent(struct pqfile_writer *w, struct pqfile_error *error)
{
    const struct pq_column *column = &w->columns[w->column];
    if (!column->list_is_optional)
        return pq_error(error, PQFILE_INVALID, "a row of a required list is absent");
    add_level_absent(&w->page, column);
    w->columns[w->column].has_absent = true;
    return end_page_if_full(w, NULL, error);
}

static int add_present(struct pqfile_writer *w, const void *values, size_t rows, bool direct,
                       struct pqfile_error *error)
{
    const struct pq_column *column = &w->columns[w->column];
    size_t count = rows * column->list_size;
    add_levels_present(&w->page, column, rows);
    int rc = pq_column_add_values(w, values, count, count * column->width, direct);
    if (rc < 0)
        return pq_error_plain(error, rc);
    return end_page_if_full(w, direct ? values : NULL, error);
}

/* How many rows the page still takes, at least one. */
static size_t rows_to_full(const struct pqfile_writer *w)
{
    const struct pq_column *column = &w->columns[w->column];
    size_t row_bytes = (size_t)column->list_size * column->width;
    size_t rows = (column->options.page_bytes - w->page.value_bytes + row_bytes - 1) / row_bytes;
    size_t row_room = column->options.page_rows - w->page.row_count;
    return rows < row_room ? rows : row_room;
}

static int write_present(struct pqfile_writer *w, const uint8_t *values, size_t rows,
                         struct pqfile_error *error)
{
    const struct pq_column *column = &w->columns[w->column];
    size_t row_bytes = (size_t)column->list_size * column->width;
    for (int rc = 0; rows > 0;) {
        size_t room = rows_to_full(w);
        size_t count = rows < room ? rows : room;
        bool direct = column->direct && count == room && w->page.level_count == 0;
        rc = add_present(w, values, count, direct, error);
        if (rc < 0)
            return rc;
        values += count * row_bytes;
        rows -= count;
    }
    return 0;
}

static int write_rows(struct pqfile_writer *w, const uint8_t *values, const uint8_t *present,
                      size_t row_count, struct pqfile_error *error)
{
    const struct pq_column *column = &w->columns[w->column];
    size_t row_bytes = (size_t)column->list_size * column->width;
    int rc = 0;
    for (size_t row = 0; row < row_count && rc == 0;) {
        size_t end = row;
        if (present == NULL)
            end = row_count;
        while (end < row_count && is_present(present, end))
            end++;
        if (end > row)
            rc = write_present(w, values + row * row_bytes, end - row, error);
        else
            rc = add_absent(w, error);
        row = end > row ? end : row + 1;
    }
    return rc;
}

int pqfile_write_vectors(struct pqfile_writer *writer, const void *values, const uint8_t *present,
                         size_t row_count, struct pqfile_error *error_out)
{
    int rc = enter_vectors(writer, error_out);
    if (rc == 0 && row_count > 0 && values == NULL)
        rc = pq_error(error_out, PQFILE_INVALID, "values are missing");
    if (rc == 0)
        rc = write_rows(writer, values, present, row_count, error_out);
    return rc < 0 ? pq_writer_fail(writer, rc, error_out) : 0;
}

int pqfile_write_vectors_at(struct pqfile_writer *writer, const void *const *rows, size_t row_count,
                            struct pqfile_error *error_out)
{
    int rc = enter_vectors(writer, error_out);
    for (size_t i = 0; i < row_count && rc == 0; i++)
        rc = rows[i] == NULL ? add_absent(writer, error_out)
                             : add_present(writer, rows[i], 1, false, error_out);
    return rc < 0 ? pq_writer_fail(writer, rc, error_out) : 0;
}
