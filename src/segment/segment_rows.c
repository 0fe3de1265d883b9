/* segment_rows.c: the Parquet file of a segment, read back row by row. Every column has a cursor of
 * its own, and all cursors go ahead together: batches end where pages end, so that each is refilled
 * when it runs out. Nothing of the file is believed: pqfile checks its structure and sums, this
 * file its shape (exactly the columns that the footer's schema asks for) and each row's values. */
#include "segment/segment_index_internal.h"
#include "segment/segment_parquet_internal.h"

#include <inttypes.h>

#include "base/no_libc_heap.h"

enum { BATCH_ROWS_MAX = 1024, BATCH_BYTES = 1 << 20, PARQUET_MAGIC_BYTES = 4 };

/* What one column has for one row. */
struct leaf_row {
    const uint8_t *definition; /* of its first level; NULL: required */
    size_t level_count, value_count;
    const void *values;
};

static int pqfile_failed(const struct pqfile_error *error, struct trail *trail)
{
    return trail_add(trail, segment_pqfile_failed(error, trail), "Parquet file");
}

static int bad_row(const struct segment_rows *r, const char *what, struct trail *trail)
{
    return trail_add(trail, PDB_DATA_LOSS, "Parquet file: row %" PRIu64 ": %s", r->row, what);
}

/* ---- open and close ---- */

static int open_schema(struct segment_rows *r, struct trail *trail)
{
    const struct pqfile_metadata *metadata = pqfile_metadata(r->reader);
    int rc = segment_schema_read(metadata, &r->schema_arena, &r->schema, trail);
    if (rc < 0)
        return trail_add(trail, rc, "Parquet file");
    if (segment_columns_init(&r->columns, r->heap, r->schema.columns, r->schema.column_count) < 0 ||
        segment_layout_init(&r->layout, r->heap, &r->schema, &r->columns) < 0)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a schema");
    if (!segment_layout_matches(&r->layout, metadata))
        return trail_add(trail, PDB_DATA_LOSS,
                         "Parquet file: its columns are not those of a segment");
    return 0;
}

static int open_leaves(struct segment_rows *r, struct trail *trail)
{
    const struct pqfile_metadata *metadata = pqfile_metadata(r->reader);
    r->leaves = heap_calloc(r->heap, r->layout.leaf_count, sizeof(*r->leaves));
    r->values = heap_calloc(r->heap, r->columns.count, sizeof(*r->values));
    if (r->leaves == NULL || r->values == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for columns");
    uint32_t leaf = 0;
    for (size_t i = 0; i < r->layout.field_count; i++)
        if (r->layout.fields[i].child_count == 0)
            r->leaves[leaf++].options = r->layout.fields[i].options;
    for (uint32_t i = 0; i < r->layout.leaf_count; i++) {
        const struct pqfile_node *node = &metadata->nodes[metadata->columns[i]];
        r->leaves[i].definition_max = node->definition_max;
        r->leaves[i].value_bytes = (uint32_t)pqfile_value_size(node->type, node->type_length);
        r->leaves[i].row_max = BATCH_ROWS_MAX;
    }
    for (uint32_t f = 0; f < r->schema.field_count; f++) {
        const struct pdb_field *field = &r->schema.fields[f];
        uint32_t bytes = segment_vector_bytes(field);
        if (field->element == PDB_ELEMENT_INT8) /* read as INT32 */
            bytes *= (uint32_t)sizeof(int32_t);
        uint32_t rows = BATCH_BYTES / bytes;
        r->leaves[r->layout.metadata_leaf + 1 + f].row_max = rows == 0 ? 1
                                                             : rows < BATCH_ROWS_MAX
                                                                 ? rows
                                                                 : BATCH_ROWS_MAX;
    }
    return 0;
}

int segment_rows_open(struct segment_rows *r, struct heap *heap,
                      const struct segment_bytes *parquet, struct trail *trail)
{
    *r = (struct segment_rows){.heap = heap, .chunk_end = PARQUET_MAGIC_BYTES};
    struct pqfile_error error = {0};
    struct pqfile_source source = {.size = parquet->len, .memory = parquet->ptr};
    struct pqfile_reader_options options = segment_reader_options(heap);
    if (parquet->len == 0)
        return trail_add(trail, PDB_DATA_LOSS, "Parquet file: empty");
    if (pqfile_open(&source, &options, &r->reader, &error) < 0)
        return pqfile_failed(&error, trail);
    int rc = open_schema(r, trail);
    return rc == 0 ? open_leaves(r, trail) : rc;
}

static void close_cursors(struct segment_rows *r)
{
    for (uint32_t i = 0; r->leaves != NULL && i < r->layout.leaf_count; i++) {
        pqfile_cursor_close(r->leaves[i].cursor);
        r->leaves[i].cursor = NULL;
    }
}

void segment_rows_close(struct segment_rows *r)
{
    close_cursors(r);
    heap_free(r->heap, r->leaves);
    heap_free(r->heap, r->values);
    segment_layout_dispose(&r->layout);
    segment_columns_dispose(&r->columns);
    pqfile_close(r->reader);
    arena_dispose(&r->schema_arena);
    arena_dispose(&r->row_arena);
    *r = (struct segment_rows){0};
}

uint64_t segment_rows_total(const struct segment_rows *r)
{
    return pqfile_metadata(r->reader)->row_count;
}

/* ---- columns of one row ---- */

/* The sums cover pages, not their headers and not the footer. Another encoding in a header could
 * make other numbers of sound bytes, and another offset in the footer other rows of sound pages. So
 * pages are read only as they are written: column behind column without gaps, in one encoding. */
static int check_storage(struct segment_rows *r, uint32_t leaf, struct trail *trail)
{
    struct pqfile_error error = {0};
    struct pqfile_pages *pages = NULL;
    struct pqfile_page page;
    const struct pqfile_column_options *options = r->leaves[leaf].options;
    const struct pqfile_row_group *group = &pqfile_metadata(r->reader)->row_groups[r->row_group];
    const struct pqfile_chunk *chunk = &group->chunks[leaf];
    if (chunk->codec != options->codec)
        return bad_row(r, "a column is compressed in another way", trail);
    if (chunk->start != r->chunk_end)
        return bad_row(r, "a column begins in another place", trail);
    r->chunk_end = chunk->start + chunk->stored_bytes;
    if (pqfile_pages_open(r->reader, r->row_group, leaf, &pages, &error) < 0)
        return pqfile_failed(&error, trail);
    int rc = 0;
    while (rc == 0) {
        if (pqfile_pages_next(pages, &page, &error) < 0)
            rc = pqfile_failed(&error, trail);
        else if (page.level_count == 0)
            break;
        else if (page.encoding != options->encoding &&
                 !(options->encoding == PQFILE_RLE_DICTIONARY && page.encoding == PQFILE_PLAIN))
            rc = bad_row(r, "a page is encoded in another way", trail);
    }
    pqfile_pages_close(pages);
    return rc;
}

/* Moves to the row group that has the next row: 1, 0 at the end, or an error. */
static int to_row_group(struct segment_rows *r, struct trail *trail)
{
    const struct pqfile_metadata *metadata = pqfile_metadata(r->reader);
    while (r->row_group < metadata->row_group_count &&
           r->row_in_group == metadata->row_groups[r->row_group].row_count) {
        close_cursors(r);
        r->row_group++;
        r->row_in_group = 0;
    }
    if (r->row_group == metadata->row_group_count)
        return 0;
    if (r->row_in_group != 0)
        return 1;
    for (uint32_t i = 0; i < r->layout.leaf_count; i++) {
        struct segment_leaf_reader *leaf = &r->leaves[i];
        struct pqfile_error error = {0};
        leaf->batch = (struct pqfile_batch){0};
        leaf->rows = leaf->levels = leaf->values = 0;
        int rc = check_storage(r, i, trail);
        if (rc < 0)
            return rc;
        if (pqfile_cursor_open(r->reader, r->row_group, i, &leaf->cursor, &error) < 0)
            return pqfile_failed(&error, trail);
    }
    return 1;
}

static int refill(struct segment_rows *r, struct segment_leaf_reader *leaf, struct trail *trail)
{
    struct pqfile_error error = {0};
    if (pqfile_cursor_read(leaf->cursor, leaf->row_max, &leaf->batch, &error) < 0)
        return pqfile_failed(&error, trail);
    leaf->rows = leaf->levels = leaf->values = 0;
    return leaf->batch.row_count > 0 ? 0 : bad_row(r, "a column ends early", trail);
}

static int next_of(struct segment_rows *r, uint32_t number, struct leaf_row *out,
                   struct trail *trail)
{
    struct segment_leaf_reader *leaf = &r->leaves[number];
    const struct pqfile_batch *batch = &leaf->batch;
    int rc = leaf->rows == batch->row_count ? refill(r, leaf, trail) : 0;
    if (rc < 0)
        return rc;
    size_t level = leaf->levels, end = level + 1, values = 0;
    if (end > batch->level_count)
        return bad_row(r, "its levels", trail);
    while (batch->repetition != NULL && end < batch->level_count && batch->repetition[end] != 0)
        end++;
    for (size_t i = level; i < end; i++)
        values += batch->definition == NULL || batch->definition[i] == leaf->definition_max;
    if (values > batch->value_count - leaf->values || (values > 0 && batch->values == NULL))
        return bad_row(r, "its levels", trail);
    *out = (struct leaf_row){
        .definition = batch->definition != NULL ? batch->definition + level : NULL,
        .level_count = end - level,
        .value_count = values,
        .values = batch->values != NULL
                      ? (const char *)batch->values + leaf->values * leaf->value_bytes
                      : NULL};
    leaf->rows++;
    leaf->levels = end;
    leaf->values += values;
    return 0;
}

static struct pdb_text text_at(const void *values, size_t i)
{
    const struct pqfile_bytes *bytes = (const struct pqfile_bytes *)values + i;
    return (struct pdb_text){(const char *)bytes->data, bytes->len};
}

static int read_numbers(struct segment_rows *r, struct pdb_row *row, struct trail *trail)
{
    struct leaf_row id, version, created, updated, expires;
    int rc = next_of(r, SEGMENT_LEAF_ID, &id, trail);
    if (rc == 0)
        rc = next_of(r, SEGMENT_LEAF_VERSION, &version, trail);
    if (rc == 0)
        rc = next_of(r, SEGMENT_LEAF_CREATED, &created, trail);
    if (rc == 0)
        rc = next_of(r, SEGMENT_LEAF_UPDATED, &updated, trail);
    if (rc == 0)
        rc = next_of(r, SEGMENT_LEAF_EXPIRES, &expires, trail);
    if (rc < 0)
        return rc;
    ASSERT(id.value_count == 1 && version.value_count == 1 && created.value_count == 1 &&
           updated.value_count == 1);
    row->id = text_at(id.values, 0);
    row->version = *(const uint64_t *)version.values;
    row->created_at_us = *(const int64_t *)created.values;
    row->updated_at_us = *(const int64_t *)updated.values;
    row->expires_at_us = expires.value_count > 0 ? *(const int64_t *)expires.values : 0;
    if (row->id.len == 0 || row->id.len > PDB_ID_BYTES_MAX)
        return bad_row(r, "the length of its id", trail);
    return 0;
}

static int set_items(struct segment_rows *r, enum pdb_column_type type, const struct leaf_row *from,
                     struct segment_value *value, struct trail *trail)
{
    value->there = from->definition[0] > 0;
    value->items.count = from->value_count;
    value->items.ptr = from->values;
    if (type != PDB_COLUMN_STRING_LIST || from->value_count == 0)
        return 0;
    struct pdb_text *texts = arena_array(&r->row_arena, struct pdb_text, from->value_count);
    if (texts == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a list");
    for (size_t i = 0; i < from->value_count; i++)
        texts[i] = text_at(from->values, i);
    value->items.ptr = texts;
    return 0;
}

/* The value of a declared column; *leaf: its number, moved behind it. */
static int read_value(struct segment_rows *r, enum pdb_column_type type, uint32_t *leaf,
                      struct segment_value *value, struct trail *trail)
{
    struct leaf_row from;
    int rc = next_of(r, (*leaf)++, &from, trail);
    if (rc < 0)
        return rc;
    *value = (struct segment_value){.there = from.value_count > 0};
    switch (type) {
    case PDB_COLUMN_STRING_LIST:
    case PDB_COLUMN_INTEGER_LIST:
    case PDB_COLUMN_FLOAT_LIST:
        return set_items(r, type, &from, value, trail);
    case PDB_COLUMN_GEO: /* a copy of what is in the JSON */
        return next_of(r, (*leaf)++, &from, trail);
    case PDB_COLUMN_STRING:
    case PDB_COLUMN_TEXT:
        if (value->there)
            value->text = text_at(from.values, 0);
        return 0;
    case PDB_COLUMN_INTEGER:
    case PDB_COLUMN_DATETIME:
        if (value->there)
            value->integer = *(const int64_t *)from.values;
        return 0;
    case PDB_COLUMN_FLOAT:
        if (value->there)
            value->number = *(const double *)from.values;
        return 0;
    case PDB_COLUMN_BOOLEAN:
        value->boolean = value->there && *(const uint8_t *)from.values != 0;
        return 0;
    case PDB_COLUMN_UNSPECIFIED:
        break;
    }
    return 0;
}

static int read_metadata(struct segment_rows *r, struct pdb_row *row, struct trail *trail)
{
    uint32_t leaf = SEGMENT_LEAF_DECLARED;
    struct trail why = {0};
    for (uint32_t i = 0; i < r->columns.count; i++) {
        int rc = read_value(r, r->columns.all[i].type, &leaf, &r->values[i], trail);
        if (rc < 0)
            return rc;
    }
    ASSERT(leaf == r->layout.metadata_leaf);
    struct leaf_row from;
    int rc = next_of(r, leaf, &from, trail);
    if (rc < 0)
        return rc;
    struct pdb_text json = {NULL, 0};
    if (from.value_count > 0)
        json = text_at(from.values, 0);
    rc = segment_columns_join(&r->columns, from.value_count > 0 ? &json : NULL, r->values,
                              &r->row_arena, &row->metadata, &why);
    if (rc < 0)
        return rc == PDB_DATA_LOSS ? bad_row(r, why.text, trail)
                                   : trail_add(trail, rc, "%s", why.text);
    return 0;
}

/* A vector of bytes, which the file gives as INT32. */
static int take_bytes(struct segment_rows *r, const struct leaf_row *from, const void **vector_out,
                      struct trail *trail)
{
    const int32_t *values = from->values;
    int8_t *bytes = arena_array(&r->row_arena, int8_t, from->value_count);
    if (bytes == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a vector");
    int32_t beyond = 0;
    for (size_t i = 0; i < from->value_count; i++) {
        bytes[i] = (int8_t)values[i];
        beyond |= values[i] ^ bytes[i];
    }
    *vector_out = bytes;
    return beyond == 0 ? 0 : bad_row(r, "a value of a vector is no byte", trail);
}

static int read_vectors(struct segment_rows *r, struct trail *trail)
{
    for (uint32_t f = 0; f < r->schema.field_count; f++) {
        const struct pdb_field *field = &r->schema.fields[f];
        uint32_t wanted = field->metric == PDB_METRIC_HAMMING ? 1 : field->dimension;
        struct leaf_row from;
        int rc = next_of(r, r->layout.metadata_leaf + 1 + f, &from, trail);
        if (rc < 0)
            return rc;
        bool null = from.definition[0] == 0;
        if (!null && from.value_count != wanted)
            return bad_row(r, "a vector of another length", trail);
        r->vectors[f] = null ? NULL : from.values;
        if (!null && field->element == PDB_ELEMENT_INT8 &&
            (rc = take_bytes(r, &from, &r->vectors[f], trail)) < 0)
            return rc;
    }
    return 0;
}

int segment_rows_next(struct segment_rows *r, struct pdb_row *row_out, struct trail *trail)
{
    int rc = to_row_group(r, trail);
    if (rc <= 0)
        return rc;
    arena_reset(&r->row_arena);
    *row_out = (struct pdb_row){.vectors = r->vectors};
    rc = read_numbers(r, row_out, trail);
    if (rc == 0)
        rc = read_metadata(r, row_out, trail);
    if (rc == 0)
        rc = read_vectors(r, trail);
    if (rc < 0)
        return rc;
    r->row++;
    r->row_in_group++;
    return 1;
}
