/* parquet_rows.c: Dremel's record assembly, on the levels that pqfile gives.
 *
 * Each leaf keeps its place in its own batch, because pages of columns end at different rows. A
 * node is null where the definition level of its first leaf is below its own; then every leaf below
 * it has exactly one entry that is passed by. The recursion follows the schema, whose depth the
 * reader bounds. */
#include "server/parquet_rows.h"

#include "base/heap.h"
#include "server/parquet_values.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum { BATCH_ROWS = 1024 };

int parquet_rows_init(struct parquet_rows *rows, struct pqfile_reader *reader)
{
    *rows = (struct parquet_rows){.reader = reader, .metadata = pqfile_metadata(reader)};
    rows->leaves = heap_calloc(NULL, rows->metadata->column_count, sizeof(*rows->leaves));
    return rows->leaves != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
}

static void close_cursors(struct parquet_rows *rows)
{
    for (uint32_t i = 0; rows->leaves != NULL && i < rows->metadata->column_count; i++) {
        pqfile_cursor_close(rows->leaves[i].cursor);
        rows->leaves[i] = (struct parquet_leaf){.used = rows->leaves[i].used};
    }
}

void parquet_rows_dispose(struct parquet_rows *rows)
{
    close_cursors(rows);
    heap_free(NULL, rows->leaves);
    *rows = (struct parquet_rows){0};
}

void parquet_rows_use(struct parquet_rows *rows, uint32_t node)
{
    const struct pqfile_node *nodes = rows->metadata->nodes;
    for (uint32_t n = node; n < nodes[node].end; n++)
        if (nodes[n].child_count == 0)
            rows->leaves[nodes[n].column].used = true;
}

/* ---- rows ---- */

static int damaged(struct trail *trail, const struct pqfile_error *error)
{
    return trail_add(trail,
                     error->code == PQFILE_NO_MEMORY ? PDB_RESOURCE_EXHAUSTED : PDB_DATA_LOSS, "%s",
                     error->message);
}

int parquet_rows_begin(struct parquet_rows *rows, uint32_t row_group, uint64_t row,
                       struct trail *trail)
{
    struct pqfile_error error;
    close_cursors(rows);
    rows->row_group = row_group;
    rows->begun = true;
    rows->row = row;
    rows->row_count = rows->metadata->row_groups[row_group].row_count;
    for (uint32_t i = 0; i < rows->metadata->column_count; i++) {
        struct parquet_leaf *leaf = &rows->leaves[i];
        if (!leaf->used)
            continue;
        if (pqfile_cursor_open(rows->reader, row_group, i, &leaf->cursor, &error) < 0 ||
            (row != 0 && pqfile_cursor_seek(leaf->cursor, row, &error) < 0))
            return damaged(trail, &error);
    }
    return 0;
}

static const struct pqfile_node *leaf_node(const struct parquet_rows *rows, uint32_t column)
{
    return &rows->metadata->nodes[rows->metadata->columns[column]];
}

/* Passes what is left of the row before, and finds the end of the next one. */
static int leaf_next(struct parquet_rows *rows, uint32_t column, struct trail *trail)
{
    struct parquet_leaf *leaf = &rows->leaves[column];
    const struct pqfile_node *node = leaf_node(rows, column);
    struct pqfile_error error;
    for (; leaf->level < leaf->row_end; leaf->level++)
        leaf->value += leaf->batch.definition == NULL ||
                       leaf->batch.definition[leaf->level] == node->definition_max;
    if (leaf->level == leaf->batch.level_count) {
        int rc = pqfile_cursor_read(leaf->cursor, BATCH_ROWS, &leaf->batch, &error);
        if (rc < 0)
            return damaged(trail, &error);
        leaf->level = leaf->value = 0;
        if (leaf->batch.row_count == 0)
            return trail_add(trail, PDB_DATA_LOSS, "column '%s' ends before the others",
                             node->name);
    }
    leaf->row_end = leaf->level + 1;
    if (leaf->batch.repetition != NULL) {
        const uint8_t *from = leaf->batch.repetition + leaf->row_end;
        const uint8_t *next = memchr(from, 0, leaf->batch.level_count - leaf->row_end);
        leaf->row_end =
            next != NULL ? (size_t)(next - leaf->batch.repetition) : leaf->batch.level_count;
    }
    return 0;
}

int parquet_rows_next(struct parquet_rows *rows, struct trail *trail)
{
    if (rows->row >= rows->row_count)
        return 0;
    for (uint32_t i = 0; i < rows->metadata->column_count; i++) {
        int rc = rows->leaves[i].used ? leaf_next(rows, i, trail) : 0;
        if (rc < 0)
            return rc;
    }
    rows->row++;
    return 1;
}

/* ---- one row ---- */

static uint32_t first_leaf(const struct pqfile_node *nodes, uint32_t node)
{
    while (nodes[node].child_count != 0)
        node++;
    return node;
}

static struct parquet_leaf *leaf_of(struct parquet_rows *rows, uint32_t node)
{
    const struct pqfile_node *nodes = rows->metadata->nodes;
    return &rows->leaves[nodes[first_leaf(nodes, node)].column];
}

/* -1 behind the row: what is there belongs to nobody. */
static int definition_at(const struct parquet_leaf *leaf)
{
    if (leaf->level >= leaf->row_end)
        return -1;
    return leaf->batch.definition != NULL ? leaf->batch.definition[leaf->level] : 0;
}

static bool repeats(const struct parquet_leaf *leaf, const struct pqfile_node *node)
{
    return leaf->level < leaf->row_end && leaf->batch.repetition != NULL &&
           leaf->batch.repetition[leaf->level] == node->repetition_max;
}

static void pass(struct parquet_rows *rows, uint32_t node)
{
    const struct pqfile_node *nodes = rows->metadata->nodes;
    for (uint32_t n = node; n < nodes[node].end; n++) {
        if (nodes[n].child_count != 0)
            continue;
        struct parquet_leaf *leaf = &rows->leaves[nodes[n].column];
        if (leaf->level < leaf->row_end)
            leaf->level++;
    }
}

static int add_node(struct parquet_rows *rows, uint32_t n, struct buffer *out, struct trail *trail);

static int add_leaf(struct parquet_rows *rows, uint32_t n, struct buffer *out, struct trail *trail)
{
    const struct pqfile_node *node = &rows->metadata->nodes[n];
    struct parquet_leaf *leaf = &rows->leaves[node->column];
    if (definition_at(leaf) != node->definition_max || leaf->value >= leaf->batch.value_count)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "its levels do not fit the schema");
    size_t size = pqfile_value_size(node->type, node->type_length);
    const char *value = (const char *)leaf->batch.values + leaf->value * size;
    leaf->level++;
    leaf->value++;
    return parquet_value_write(node, value, out, trail);
}

/* What stands in a repeated node: the element itself where the node only wraps it. */
static int add_element(struct parquet_rows *rows, uint32_t repeated, bool wrapped,
                       struct buffer *out, struct trail *trail);

static int add_list(struct parquet_rows *rows, uint32_t repeated, bool wrapped, struct buffer *out,
                    struct trail *trail)
{
    const struct pqfile_node *node = &rows->metadata->nodes[repeated];
    struct parquet_leaf *leaf = leaf_of(rows, repeated);
    buffer_add_byte(out, '[');
    if (definition_at(leaf) < node->definition_max) {
        pass(rows, repeated);
        buffer_add_byte(out, ']');
        return 1;
    }
    bool first = true;
    do {
        if (!first)
            buffer_add_byte(out, ',');
        first = false;
        int rc = add_element(rows, repeated, wrapped, out, trail);
        if (rc < 0)
            return rc;
        if (rc == 0)
            buffer_add_lit(out, "null");
    } while (repeats(leaf, node));
    buffer_add_byte(out, ']');
    return 1;
}

static int add_members(struct parquet_rows *rows, uint32_t n, struct buffer *out,
                       struct trail *trail)
{
    const struct pqfile_node *nodes = rows->metadata->nodes;
    bool first = true;
    buffer_add_byte(out, '{');
    for (uint32_t child = n + 1; child < nodes[n].end; child = nodes[child].end) {
        size_t before = out->len;
        if (!first)
            buffer_add_byte(out, ',');
        parquet_value_key(out, (struct pdb_text){nodes[child].name, nodes[child].name_len});
        int rc = add_node(rows, child, out, trail);
        if (rc < 0)
            return rc;
        if (rc == 0)
            out->len = before;
        else
            first = false;
    }
    buffer_add_byte(out, '}');
    return 1;
}

/* The keys of a map are text; parquet_rows_check has seen to it. */
static int add_map(struct parquet_rows *rows, uint32_t repeated, struct buffer *out,
                   struct trail *trail)
{
    const struct pqfile_node *nodes = rows->metadata->nodes;
    struct parquet_leaf *leaf = leaf_of(rows, repeated);
    bool first = true;
    buffer_add_byte(out, '{');
    if (definition_at(leaf) < nodes[repeated].definition_max) {
        pass(rows, repeated);
        buffer_add_byte(out, '}');
        return 1;
    }
    do {
        size_t before = out->len;
        if (!first)
            buffer_add_byte(out, ',');
        int rc = add_node(rows, repeated + 1, out, trail);
        buffer_add_byte(out, ':');
        if (rc > 0)
            rc = add_node(rows, repeated + 2, out, trail);
        if (rc < 0)
            return rc;
        if (rc == 0)
            out->len = before;
        else
            first = false;
    } while (repeats(leaf, &nodes[repeated]));
    buffer_add_byte(out, '}');
    return 1;
}

/* A group that wraps one element: "list" { "element" }. One called array, or as its list with
 * _tuple, is an element itself (the rules of the format for old writers). */
static bool wraps(const struct pqfile_node *nodes, uint32_t repeated)
{
    const struct pqfile_node *node = &nodes[repeated];
    if (node->child_count != 1 || strcmp(node->name, "array") == 0)
        return false;
    size_t len = node->name_len;
    return len < 6 || strcmp(node->name + len - 6, "_tuple") != 0;
}

static int add_present(struct parquet_rows *rows, uint32_t n, struct buffer *out,
                       struct trail *trail)
{
    const struct pqfile_node *nodes = rows->metadata->nodes;
    const struct pqfile_node *node = &nodes[n];
    if (node->child_count == 0)
        return add_leaf(rows, n, out, trail);
    bool wraps_repeated = node->child_count == 1 && nodes[n + 1].repetition == PQFILE_REPEATED;
    if (node->logical.kind == PQFILE_LOGICAL_LIST && wraps_repeated)
        return add_list(rows, n + 1, wraps(nodes, n + 1), out, trail);
    if (node->logical.kind == PQFILE_LOGICAL_MAP && wraps_repeated && nodes[n + 1].child_count == 2)
        return add_map(rows, n + 1, out, trail);
    return add_members(rows, n, out, trail);
}

static int add_element(struct parquet_rows *rows, uint32_t repeated, bool wrapped,
                       struct buffer *out, struct trail *trail)
{
    return wrapped ? add_node(rows, repeated + 1, out, trail)
                   : add_present(rows, repeated, out, trail);
}

static int add_node(struct parquet_rows *rows, uint32_t n, struct buffer *out, struct trail *trail)
{
    const struct pqfile_node *node = &rows->metadata->nodes[n];
    if (node->repetition == PQFILE_REPEATED)
        return add_list(rows, n, false, out, trail);
    if (node->repetition == PQFILE_OPTIONAL &&
        definition_at(leaf_of(rows, n)) < node->definition_max) {
        pass(rows, n);
        return 0;
    }
    return add_present(rows, n, out, trail);
}

int parquet_rows_value(struct parquet_rows *rows, uint32_t node, struct buffer *out,
                       struct trail *trail)
{
    size_t before = out->len;
    int rc = add_node(rows, node, out, trail);
    if (rc <= 0)
        out->len = before;
    return rc;
}

int parquet_rows_check(const struct parquet_rows *rows, uint32_t node, struct trail *trail)
{
    const struct pqfile_node *nodes = rows->metadata->nodes;
    for (uint32_t n = node; n < nodes[node].end; n++) {
        const struct pqfile_node *at = &nodes[n];
        if (at->logical.kind == PQFILE_LOGICAL_MAP && at->child_count == 1 &&
            nodes[n + 1].child_count == 2 &&
            (nodes[n + 2].child_count != 0 || nodes[n + 2].type != PQFILE_BYTE_ARRAY))
            return trail_add(trail, PDB_INVALID_ARGUMENT,
                             "column '%s': a map whose keys are no texts", nodes[node].name);
        if (at->logical.kind == PQFILE_LOGICAL_BSON)
            return trail_add(trail, PDB_INVALID_ARGUMENT, "column '%s': BSON is not read",
                             nodes[node].name);
    }
    return 0;
}

/* ---- vectors ---- */

bool parquet_rows_is_list(const struct parquet_rows *rows, uint32_t node, bool whole)
{
    const struct pqfile_node *nodes = rows->metadata->nodes;
    const struct pqfile_node *leaf = &nodes[first_leaf(nodes, node)];
    bool integers =
        (leaf->type == PQFILE_INT32 || leaf->type == PQFILE_INT64) &&
        (leaf->logical.kind == PQFILE_LOGICAL_NONE || leaf->logical.kind == PQFILE_LOGICAL_INTEGER);
    bool fits = leaf->type == PQFILE_FLOAT || leaf->type == PQFILE_DOUBLE ||
                leaf->logical.kind == PQFILE_LOGICAL_FLOAT16 || (whole && integers);
    bool single = first_leaf(nodes, node) + 1 == nodes[node].end;
    return single && leaf->repetition_max == 1 && fits;
}

/* All of the row, of which each level has a value; returns how many. */
static size_t take_floats(struct parquet_leaf *leaf, float *values_out, size_t capacity)
{
    size_t count = leaf->row_end - leaf->level;
    const char *from = (const char *)leaf->batch.values + leaf->value * sizeof(float);
    memcpy(values_out, from, (count < capacity ? count : capacity) * sizeof(float));
    leaf->level += count;
    leaf->value += count;
    return count;
}

int parquet_rows_floats(struct parquet_rows *rows, uint32_t node, float *values_out,
                        size_t capacity, size_t *count_out, struct trail *trail)
{
    const struct pqfile_node *nodes = rows->metadata->nodes;
    const struct pqfile_node *leaf_at = &nodes[first_leaf(nodes, node)];
    struct parquet_leaf *leaf = leaf_of(rows, node);
    size_t size = pqfile_value_size(leaf_at->type, leaf_at->type_length);
    size_t count = 0;
    int definition = definition_at(leaf);
    if (nodes[node].repetition == PQFILE_OPTIONAL && definition < nodes[node].definition_max)
        return 0;
    /* an empty list: below the level of an element, null or not */
    int element = leaf_at->definition_max - (leaf_at->repetition == PQFILE_OPTIONAL ? 1 : 0);
    if (definition < element)
        leaf->level++;
    if (leaf_at->type == PQFILE_FLOAT && leaf->batch.value_count == leaf->batch.level_count)
        count = take_floats(leaf, values_out, capacity); /* no nulls: as they lie */
    for (; leaf->level < leaf->row_end; leaf->level++, count++) {
        if (definition_at(leaf) != leaf_at->definition_max)
            return trail_add(trail, PDB_INVALID_ARGUMENT, "element %zu is null", count);
        if (count < capacity)
            values_out[count] =
                parquet_value_float(leaf_at, (const char *)leaf->batch.values + leaf->value * size);
        leaf->value++;
    }
    *count_out = count;
    return 1;
}

int parquet_rows_bytes(struct parquet_rows *rows, uint32_t node, struct pqfile_bytes *bytes_out)
{
    const struct pqfile_node *at = &rows->metadata->nodes[node];
    struct parquet_leaf *leaf = leaf_of(rows, node);
    if (definition_at(leaf) != at->definition_max)
        return 0;
    const char *values = leaf->batch.values;
    if (at->type == PQFILE_BYTE_ARRAY)
        *bytes_out = ((const struct pqfile_bytes *)leaf->batch.values)[leaf->value];
    else
        *bytes_out = (struct pqfile_bytes){(const uint8_t *)values + leaf->value * at->type_length,
                                           at->type_length};
    return 1;
}

int parquet_rows_int64(struct parquet_rows *rows, uint32_t node, int64_t *value_out,
                       struct trail *trail)
{
    const struct pqfile_node *at = &rows->metadata->nodes[node];
    struct parquet_leaf *leaf = leaf_of(rows, node);
    if (at->child_count != 0 || at->type != PQFILE_INT64 || at->repetition == PQFILE_REPEATED)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "not an integer of 64 bits");
    if (definition_at(leaf) != at->definition_max)
        return 0;
    memcpy(value_out, (const char *)leaf->batch.values + leaf->value * sizeof(*value_out),
           sizeof(*value_out));
    return 1;
}
