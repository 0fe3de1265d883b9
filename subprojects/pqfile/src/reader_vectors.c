/* reader_vectors.c: rows of lists of floats as a matrix. It goes over batches of the cursor: where
 * all rows of a batch are whole vectors, which a look at the levels tells, their values are one
 * copy; else row by row.
 *
 * An element's definition level tells what a missing one means: below the repeated node's parent,
 * the list (or something around it) is null; at the parent, it is empty; above, an element is
 * null. */
#include <assert.h>
#include <string.h>

#include "error.h"
#include "reader_internal.h"

struct vectors {
    const struct pqfile_node *leaf;
    uint8_t element_level; /* definition levels from here on: there is an element */
    size_t dimension;
    float *values;
    uint8_t *present;
    size_t row_count; /* so far */
    uint64_t first_row;
    struct pqfile_error *error;
};

static int prepare(const struct pqfile_metadata *metadata, const struct pqfile_node *leaf,
                   struct vectors *v)
{
    if (leaf->type != PQFILE_FLOAT || leaf->repetition_max != 1)
        return pq_error(v->error, PQFILE_INVALID, "not a column of lists of FLOAT");
    const struct pqfile_node *node = leaf;
    while (node->repetition != PQFILE_REPEATED)
        node = &metadata->nodes[node->parent];
    v->leaf = leaf;
    v->element_level = (uint8_t)node->definition_max;
    return PQFILE_OK;
}

static void set_present(struct vectors *v, bool is_present)
{
    if (v->present == NULL)
        return;
    uint8_t *byte = &v->present[v->row_count / 8];
    uint8_t bit = (uint8_t)(1u << (v->row_count % 8));
    *byte = (uint8_t)(is_present ? *byte | bit : *byte & ~bit);
}

static int refuse(const struct vectors *v, const char *what)
{
    uint64_t row = v->first_row + v->row_count;
    return pq_error(v->error, PQFILE_INVALID, "row %llu %s", (unsigned long long)row, what);
}

/* One row of `level_count` levels from `at` on. */
static int take_row(struct vectors *v, const struct pqfile_batch *batch, size_t at,
                    size_t level_count, size_t *value_at)
{
    const uint8_t *definition = batch->definition + at;
    float *to = v->values + v->row_count * v->dimension;
    bool is_null = definition[0] + 1 < v->element_level;
    bool is_empty = !is_null && definition[0] < v->element_level;
    if (is_null) {
        if (v->present == NULL)
            return refuse(v, "is null");
        memset(to, 0, v->dimension * sizeof(*to));
    } else {
        if ((is_empty ? 0 : level_count) != v->dimension)
            return refuse(v, "has another number of elements");
        for (size_t i = 0; i < v->dimension; i++)
            if (definition[i] != v->leaf->definition_max)
                return refuse(v, "has a null element");
        memcpy(to, (const float *)batch->values + *value_at, v->dimension * sizeof(*to));
        *value_at += v->dimension;
    }
    set_present(v, !is_null);
    v->row_count++;
    return PQFILE_OK;
}

/* Every row of the batch has exactly `dimension` values. */
static bool is_matrix(const struct vectors *v, const struct pqfile_batch *batch)
{
    size_t levels = 0;
    if (__builtin_mul_overflow(batch->row_count, v->dimension, &levels) ||
        batch->level_count != levels || batch->value_count != levels)
        return false;
    for (size_t row = 0; row < batch->row_count; row++)
        if (batch->repetition[row * v->dimension] != 0)
            return false; /* as many rows as levels / dimension, so none begins elsewhere */
    return true;
}

static int take_batch(struct vectors *v, const struct pqfile_batch *batch)
{
    size_t value_at = 0;
    if (is_matrix(v, batch)) {
        memcpy(v->values + v->row_count * v->dimension, batch->values,
               batch->value_count * sizeof(float));
        for (size_t i = 0; i < batch->row_count; i++, v->row_count++)
            set_present(v, true);
        return PQFILE_OK;
    }
    for (size_t at = 0; at < batch->level_count;) {
        size_t end = at + 1;
        while (end < batch->level_count && batch->repetition[end] != 0)
            end++;
        int rc = take_row(v, batch, at, end - at, &value_at);
        if (rc < 0)
            return rc;
        at = end;
    }
    return PQFILE_OK;
}

/* NOLINTBEGIN(readability-non-const-parameter): written through the struct */
int pqfile_cursor_read_vectors(struct pqfile_cursor *cursor, size_t dimension, size_t row_max,
                               float *values_out, uint8_t *present_out, size_t *row_count_out,
                               struct pqfile_error *error_out)
/* NOLINTEND(readability-non-const-parameter) */
{
    const struct pq_walker *w = pq_cursor_walker(cursor);
    struct vectors v = {
        .dimension = dimension,
        .values = values_out,
        .present = present_out,
        .first_row = pqfile_cursor_row(cursor),
        .error = error_out,
    };
    if (dimension == 0 || row_max == 0)
        return pq_error(error_out, PQFILE_INVALID, "no rows or no elements are asked for");
    int rc = prepare(&w->reader->metadata, w->leaf, &v);
    if (rc < 0)
        return pq_walker_place(w, rc, error_out);
    while (v.row_count < row_max) {
        struct pqfile_batch batch;
        rc = pqfile_cursor_read(cursor, row_max - v.row_count, &batch, error_out);
        if (rc < 0)
            return rc;
        if (batch.row_count == 0)
            break;
        rc = take_batch(&v, &batch);
        if (rc < 0)
            return pq_cursor_break(cursor, rc, error_out);
    }
    *row_count_out = v.row_count;
    return PQFILE_OK;
}
