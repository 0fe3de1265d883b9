/* writer.c: the life of a file that is written; see writer.h and writer_internal.h.
 *
 *     "PAR1"
 *     row group: column chunk ... column chunk, bloom filters of the row group
 *     column indexes of all chunks, offset indexes of all chunks
 *     footer, its length, "PAR1"
 *
 * Offsets are only ever added up, never asked of the sink, so a sink can be anything. */
#include <assert.h>
#include <string.h>

#include "arrow_schema.h"
#include "bloom.h"
#include "error.h"
#include "schema.h"
#include "writer_internal.h"

static const char created_by[] = "ProximaDB pqfile " PQFILE_VERSION;

/* ---- what the parts share ---- */

int pq_writer_put(struct pqfile_writer *w, const void *bytes, size_t len,
                  struct pqfile_error *error)
{
    if (len == 0)
        return 0;
    if (w->sink.write(w->sink.context, bytes, len) != 0)
        return pq_error(error, PQFILE_IO, "the sink failed at offset %llu",
                        (unsigned long long)w->offset);
    w->offset += len;
    return 0;
}

int pq_writer_fail(struct pqfile_writer *w, int rc, struct pqfile_error *error)
{
    w->failed = rc;
    if (w->column >= w->metadata.column_count)
        return rc;
    return pq_error_at(error, rc, "row group %zu, column %u (%.80s)", w->group_count,
                       (unsigned)w->column, w->columns[w->column].node->name);
}

struct pqfile_chunk *pq_writer_chunk(struct pqfile_writer *w)
{
    assert(w->group_open);
    return &w->groups[w->group_count].chunks[w->column];
}

struct pq_chunk_pages *pq_writer_pages(struct pqfile_writer *w)
{
    assert(w->group_open);
    return &w->groups[w->group_count].pages[w->column];
}

uint64_t pqfile_writer_offset(const struct pqfile_writer *writer)
{
    return writer->offset;
}

/* ---- opening ---- */

static void init_buffers(struct pqfile_writer *w)
{
    struct pq_page *page = &w->page;
    struct pq_buffer *all[] = {&page->definition,
                               &page->repetition,
                               &page->definition_runs.bytes,
                               &page->repetition_runs.bytes,
                               &page->values,
                               &page->bounds.min,
                               &page->bounds.max,
                               &w->chunk_bounds.min,
                               &w->chunk_bounds.max,
                               &w->dictionary.plain,
                               &w->held,
                               &w->gathered,
                               &w->header,
                               &w->levels,
                               &w->encoded,
                               &w->packed};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        pq_buffer_init(all[i], &w->allocator);
    w->dictionary.allocator = &w->allocator;
}

/* A leaf whose grandparent is a LIST with a size; schema.c has checked the shape. */
static void find_list(struct pq_column *column, const struct pqfile_metadata *m, uint32_t leaf,
                      const struct pqfile_field *fields)
{
    uint32_t middle = m->nodes[leaf].parent;
    uint32_t list = m->nodes[middle].parent;
    if (middle == 0 || list == 0 || fields[list - 1].list_size == 0)
        return;
    if (m->nodes[leaf].repetition_max != 1 || m->nodes[leaf].repetition == PQFILE_REPEATED)
        return; /* within another list: written by levels alone */
    column->list_size = fields[list - 1].list_size;
    column->list_field = list - 1;
    column->list_is_optional = m->nodes[list].repetition == PQFILE_OPTIONAL;
    column->list_absent =
        (uint8_t)(m->nodes[list].definition_max - (column->list_is_optional ? 1 : 0));
}

static int build_columns(struct pqfile_writer *w, const struct pqfile_field *fields,
                         const struct pqfile_column_options *fallback, struct pqfile_error *error)
{
    const struct pqfile_metadata *m = &w->metadata;
    w->columns = pq_arena_zeroed(&w->arena, m->column_count, sizeof *w->columns);
    w->blooms = pq_arena_zeroed(&w->arena, m->column_count, sizeof *w->blooms);
    if (w->columns == NULL || w->blooms == NULL)
        return pq_error_plain(error, PQFILE_NO_MEMORY);
    for (uint32_t i = 0; i < m->column_count; i++) {
        struct pq_column *column = &w->columns[i];
        uint32_t leaf = m->columns[i];
        const struct pqfile_column_options *given = fields[leaf - 1].options;
        column->node = &m->nodes[leaf];
        column->width = (uint32_t)pqfile_value_size(column->node->type, column->node->type_length);
        int rc = pq_column_options(column, given != NULL ? given : fallback, error);
        if (rc < 0)
            return rc;
        find_list(column, m, leaf, fields);
    }
    return 0;
}

static int copy_bytes(struct pq_arena *arena, struct pqfile_bytes from, struct pqfile_bytes *out)
{
    char *copy = pq_arena_text(arena, from.data, from.len);
    if (copy == NULL)
        return pq_arena_code(arena);
    *out = (struct pqfile_bytes){(const uint8_t *)copy, from.len};
    return 0;
}

static int copy_text(struct pq_arena *arena, const char *text, struct pqfile_bytes *out)
{
    return copy_bytes(arena, (struct pqfile_bytes){(const uint8_t *)text, strlen(text)}, out);
}

static int copy_key_values(struct pqfile_writer *w, const struct pqfile_writer_options *options,
                           struct pqfile_key_value *pairs)
{
    int rc = 0;
    for (uint32_t i = 0; i < options->key_value_count && rc == 0; i++) {
        const struct pqfile_key_value *given = &options->key_values[i];
        pairs[i].has_value = given->has_value;
        rc = copy_bytes(&w->arena, given->key, &pairs[i].key);
        if (rc == 0 && given->has_value)
            rc = copy_bytes(&w->arena, given->value, &pairs[i].value);
    }
    return rc;
}

/* The footer's texts: the caller's keys with room for one more, who wrote it. */
static int build_texts(struct pqfile_writer *w, const struct pqfile_writer_options *options,
                       struct pqfile_error *error)
{
    struct pqfile_metadata *m = &w->metadata;
    uint32_t count = options->key_value_count;
    if (count > 0 && options->key_values == NULL)
        return pq_error(error, PQFILE_INVALID, "key_values are missing");
    struct pqfile_key_value *pairs = pq_arena_zeroed(&w->arena, (size_t)count + 1, sizeof *pairs);
    if (pairs == NULL)
        return pq_error_plain(error, PQFILE_NO_MEMORY);
    int rc = copy_key_values(w, options, pairs);
    if (rc == 0)
        rc = copy_text(&w->arena, options->created_by == NULL ? created_by : options->created_by,
                       &m->created_by);
    if (rc < 0)
        return pq_error_plain(error, rc);
    m->key_values = w->pairs = pairs;
    m->key_value_count = count;
    return 0;
}

/* The Arrow schema waits for the end, when it is known whether lists are absent. */
static int copy_fields(struct pqfile_writer *w, const struct pqfile_field *fields,
                       size_t field_count, struct pqfile_error *error)
{
    w->fields = pq_arena_zeroed(&w->arena, field_count, sizeof *w->fields);
    if (w->fields == NULL)
        return pq_error_plain(error, PQFILE_NO_MEMORY);
    w->field_count = field_count;
    for (size_t i = 0; i < field_count; i++) {
        w->fields[i] = fields[i];
        w->fields[i].name = w->metadata.nodes[i + 1].name;
        w->fields[i].options = NULL;
    }
    return 0;
}

static int open_writer(struct pqfile_writer *w, const struct pqfile_field *fields,
                       size_t field_count, const struct pqfile_writer_options *options,
                       struct pqfile_error *error)
{
    w->metadata.version = PQ_VERSION;
    w->list_when_absent = options->list_when_absent;
    int rc = pq_schema_build(fields, field_count, &w->arena, &w->metadata, error);
    if (rc == 0)
        rc = build_columns(w, fields, &options->column, error);
    if (rc == 0)
        rc = build_texts(w, options, error);
    if (rc == 0 && !options->no_arrow_schema)
        rc = copy_fields(w, fields, field_count, error);
    if (rc == 0)
        rc = pq_writer_put(w, pq_magic, PQ_MAGIC_BYTES, error);
    return rc;
}

int pqfile_writer_open(const struct pqfile_field *fields, size_t field_count,
                       const struct pqfile_writer_options *options, const struct pqfile_sink *sink,
                       struct pqfile_writer **writer_out, struct pqfile_error *error_out)
{
    static const struct pqfile_writer_options defaults;
    if (options == NULL)
        options = &defaults;
    if (fields == NULL || sink == NULL || sink->write == NULL)
        return pq_error(error_out, PQFILE_INVALID, "a writer needs fields and a sink");
    struct pqfile_allocator allocator = pq_allocator(&options->allocator);
    struct pqfile_writer *w = pq_allocate_zeroed(&allocator, 1, sizeof *w);
    if (w == NULL)
        return pq_error_plain(error_out, PQFILE_NO_MEMORY);
    w->allocator = allocator;
    w->sink = *sink;
    pq_arena_init(&w->arena, &w->allocator, SIZE_MAX);
    init_buffers(w);
    int rc = open_writer(w, fields, field_count, options, error_out);
    if (rc < 0) {
        pqfile_writer_close(w);
        return rc;
    }
    *writer_out = w;
    return 0;
}

/* ---- closing ---- */

static void release_blooms(struct pqfile_writer *w)
{
    for (uint32_t i = 0; w->blooms != NULL && i < w->metadata.column_count; i++) {
        pq_release(&w->allocator, w->blooms[i].bits);
        w->blooms[i].bits = NULL;
    }
}

static void release_group(struct pqfile_writer *w, struct pq_group *group)
{
    for (uint32_t i = 0; i < w->metadata.column_count; i++) {
        pq_release(&w->allocator, group->pages[i].pages);
        pq_release(&w->allocator, group->pages[i].entries);
    }
}

static void release_page(struct pq_page *page)
{
    pq_buffer_dispose(&page->definition);
    pq_buffer_dispose(&page->repetition);
    pq_buffer_dispose(&page->definition_runs.bytes);
    pq_buffer_dispose(&page->repetition_runs.bytes);
    pq_buffer_dispose(&page->values);
    pq_bounds_dispose(&page->bounds);
}

void pqfile_writer_close(struct pqfile_writer *writer)
{
    if (writer == NULL)
        return;
    struct pqfile_writer *w = writer;
    struct pqfile_allocator allocator = w->allocator;
    for (size_t i = 0; i < w->group_count + (w->group_open ? 1 : 0); i++)
        release_group(w, &w->groups[i]);
    release_blooms(w);
    release_page(&w->page);
    pq_bounds_dispose(&w->chunk_bounds);
    pq_dictionary_dispose(&w->dictionary);
    pq_buffer_dispose(&w->held);
    pq_buffer_dispose(&w->gathered);
    pq_buffer_dispose(&w->header);
    pq_buffer_dispose(&w->levels);
    pq_buffer_dispose(&w->encoded);
    pq_buffer_dispose(&w->packed);
    pq_release(&allocator, w->groups);
    pq_release(&allocator, w->hashes);
    pq_arena_dispose(&w->arena);
    pq_release(&allocator, w);
}

/* ---- row groups ---- */

static int open_group(struct pqfile_writer *w, struct pqfile_error *error)
{
    int rc = pq_grow(&w->allocator, &w->groups, &w->group_capacity, w->group_count + 1,
                     sizeof *w->groups);
    if (rc < 0)
        return pq_error_plain(error, rc);
    struct pq_group *group = &w->groups[w->group_count];
    uint32_t count = w->metadata.column_count;
    *group = (struct pq_group){.first_row = w->metadata.row_count};
    group->chunks = pq_arena_zeroed(&w->arena, count, sizeof *group->chunks);
    group->pages = pq_arena_zeroed(&w->arena, count, sizeof *group->pages);
    if (group->chunks == NULL || group->pages == NULL)
        return pq_error_plain(error, PQFILE_NO_MEMORY);
    w->group_open = true;
    w->column = 0;
    return 0;
}

/* What every call must ask first. */
static int check_state(const struct pqfile_writer *w, struct pqfile_error *error)
{
    if (w->failed != 0)
        return pq_error(error, PQFILE_INVALID, "the writer has failed before: %s",
                        pqfile_code_text(w->failed));
    if (w->finished)
        return pq_error(error, PQFILE_INVALID, "the file is finished");
    return 0;
}

int pq_writer_enter_column(struct pqfile_writer *w, struct pqfile_error *error)
{
    int rc = check_state(w, error);
    if (rc == 0 && !w->group_open)
        rc = open_group(w, error);
    if (rc == 0 && w->column == w->metadata.column_count)
        rc = pq_error(error, PQFILE_INVALID, "all columns of the row group are written");
    if (rc == 0 && !w->chunk_open)
        rc = pq_column_begin(w, error);
    if (rc < 0 && w->failed == 0)
        w->failed = rc;
    return rc;
}

static int check_rows(struct pqfile_writer *w, struct pqfile_error *error)
{
    struct pq_group *group = &w->groups[w->group_count];
    if (w->column == 0)
        group->row_count = w->chunk_rows;
    if (group->row_count == w->chunk_rows)
        return 0;
    return pq_error(error, PQFILE_INVALID, "has %llu rows, the first column %llu",
                    (unsigned long long)w->chunk_rows, (unsigned long long)group->row_count);
}

int pqfile_writer_end_column(struct pqfile_writer *writer, struct pqfile_written *written_out,
                             struct pqfile_error *error_out)
{
    struct pqfile_writer *w = writer;
    int rc = pq_writer_enter_column(w, error_out);
    if (rc < 0)
        return rc;
    rc = pq_column_end(w, error_out);
    if (rc == 0)
        rc = check_rows(w, error_out);
    if (rc < 0)
        return pq_writer_fail(w, rc, error_out);
    const struct pqfile_chunk *chunk = pq_writer_chunk(w);
    const struct pq_chunk_pages *list = pq_writer_pages(w);
    if (written_out != NULL)
        *written_out = (struct pqfile_written){.offset = chunk->start,
                                               .stored_bytes = chunk->stored_bytes,
                                               .row_count = w->chunk_rows,
                                               .level_count = chunk->level_count,
                                               .null_count = w->chunk_nulls,
                                               .page_count = list->page_count,
                                               .pages = list->pages};
    w->column++;
    return 0;
}

static int write_blooms(struct pqfile_writer *w, struct pq_group *group, struct pqfile_error *error)
{
    int rc = 0;
    for (uint32_t i = 0; i < w->metadata.column_count && rc == 0; i++) {
        struct pqfile_chunk *chunk = &group->chunks[i];
        const struct pq_bloom_bits *bloom = &w->blooms[i];
        if (bloom->bits == NULL)
            continue;
        pq_buffer_clear(&w->header);
        pq_bloom_header_write(&w->header, bloom->bytes);
        if (w->header.failed)
            return pq_error_plain(error, PQFILE_NO_MEMORY);
        chunk->has_bloom = true;
        chunk->bloom_offset = w->offset;
        chunk->bloom_bytes = (uint32_t)w->header.len + bloom->bytes;
        rc = pq_writer_put(w, w->header.data, w->header.len, error);
        if (rc == 0)
            rc = pq_writer_put(w, bloom->bits, bloom->bytes, error);
    }
    return rc;
}

int pqfile_writer_end_row_group(struct pqfile_writer *writer, struct pqfile_error *error_out)
{
    struct pqfile_writer *w = writer;
    int rc = check_state(w, error_out);
    if (rc < 0)
        return rc;
    if (!w->group_open || w->column != w->metadata.column_count) {
        w->failed = PQFILE_INVALID;
        return pq_error(error_out, PQFILE_INVALID, "columns of the row group are missing");
    }
    struct pq_group *group = &w->groups[w->group_count];
    if (group->row_count > 0)
        rc = write_blooms(w, group, error_out);
    if (rc < 0) {
        w->failed = rc;
        return rc;
    }
    release_blooms(w);
    w->group_open = false;
    if (group->row_count == 0)
        release_group(w, group);
    else
        w->group_count++;
    w->metadata.row_count += group->row_count;
    return 0;
}

/* ---- the end ---- */

/* Minima and maxima that both rise, or fall, let readers search by halves. */
static enum pqfile_order order_of(enum pq_bounds_kind kind, const struct pq_chunk_pages *list)
{
    const struct pqfile_page_entry *last = NULL;
    bool rises = true, falls = true;
    for (uint32_t i = 0; i < list->page_count; i++) {
        const struct pqfile_page_entry *entry = &list->entries[i];
        if (entry->is_null)
            continue;
        if (last != NULL) {
            int min = pq_bounds_compare(kind, last->min, entry->min);
            int max = pq_bounds_compare(kind, last->max, entry->max);
            rises = rises && min <= 0 && max <= 0;
            falls = falls && min >= 0 && max >= 0;
        }
        last = entry;
    }
    return rises ? PQFILE_ASCENDING : falls ? PQFILE_DESCENDING : PQFILE_UNORDERED;
}

static int put_index(struct pqfile_writer *w, uint64_t *offset_out, uint32_t *bytes_out,
                     struct pqfile_error *error)
{
    if (w->encoded.failed)
        return pq_error_plain(error, PQFILE_NO_MEMORY);
    if (w->encoded.len > INT32_MAX)
        return pq_error(error, PQFILE_LIMIT, "a page index is too large");
    *offset_out = w->offset;
    *bytes_out = (uint32_t)w->encoded.len;
    return pq_writer_put(w, w->encoded.data, w->encoded.len, error);
}

static int write_column_index(struct pqfile_writer *w, struct pq_group *group, uint32_t column,
                              struct pqfile_error *error)
{
    const struct pq_column *c = &w->columns[column];
    const struct pq_chunk_pages *list = &group->pages[column];
    enum pq_bounds_kind kind = pq_bounds_kind_of(c->node);
    struct pqfile_chunk *chunk = &group->chunks[column];
    if (c->options.no_page_index || c->options.no_statistics || list->unbounded)
        return 0;
    struct pqfile_page_index_view view = {.page_count = list->page_count,
                                          .has_bounds = true,
                                          .order = order_of(kind, list),
                                          .entries = list->entries};
    pq_buffer_clear(&w->encoded);
    pq_column_index_write(&w->encoded, &view);
    return put_index(w, &chunk->column_index_offset, &chunk->column_index_bytes, error);
}

static int write_offset_index(struct pqfile_writer *w, struct pq_group *group, uint32_t column,
                              struct pqfile_error *error)
{
    const struct pq_chunk_pages *list = &group->pages[column];
    struct pqfile_chunk *chunk = &group->chunks[column];
    if (w->columns[column].options.no_page_index)
        return 0;
    struct pqfile_page_index_view view = {.page_count = list->page_count, .entries = list->entries};
    pq_buffer_clear(&w->encoded);
    pq_offset_index_write(&w->encoded, &view);
    return put_index(w, &chunk->offset_index_offset, &chunk->offset_index_bytes, error);
}

static int write_indexes(struct pqfile_writer *w, struct pqfile_error *error)
{
    int rc = 0;
    for (size_t g = 0; g < w->group_count && rc == 0; g++)
        for (uint32_t i = 0; i < w->metadata.column_count && rc == 0; i++)
            rc = write_column_index(w, &w->groups[g], i, error);
    for (size_t g = 0; g < w->group_count && rc == 0; g++)
        for (uint32_t i = 0; i < w->metadata.column_count && rc == 0; i++)
            rc = write_offset_index(w, &w->groups[g], i, error);
    return rc;
}

static int build_row_groups(struct pqfile_writer *w, struct pqfile_error *error)
{
    struct pqfile_row_group *groups =
        pq_arena_zeroed(&w->arena, w->group_count + 1, sizeof *groups);
    if (groups == NULL)
        return pq_error_plain(error, PQFILE_NO_MEMORY);
    if (w->group_count > INT32_MAX)
        return pq_error(error, PQFILE_LIMIT, "too many row groups");
    for (size_t g = 0; g < w->group_count; g++) {
        groups[g] = (struct pqfile_row_group){.row_count = w->groups[g].row_count,
                                              .first_row = w->groups[g].first_row,
                                              .chunks = w->groups[g].chunks};
        for (uint32_t i = 0; i < w->metadata.column_count; i++) {
            groups[g].raw_bytes += w->groups[g].chunks[i].raw_bytes;
            groups[g].stored_bytes += w->groups[g].chunks[i].stored_bytes;
        }
    }
    w->metadata.row_groups = groups;
    w->metadata.row_group_count = (uint32_t)w->group_count;
    return 0;
}

static int add_arrow_schema(struct pqfile_writer *w, struct pqfile_error *error)
{
    struct pqfile_metadata *m = &w->metadata;
    struct pqfile_key_value pair = {.has_value = true};
    if (w->fields == NULL)
        return 0;
    for (uint32_t i = 0; i < m->column_count && w->list_when_absent; i++)
        if (w->columns[i].has_absent)
            w->fields[w->columns[i].list_field].list_size = 0;
    int rc = pq_arrow_schema_encode(w->fields, w->field_count, &w->allocator, &w->encoded, error);
    if (rc < 0)
        return rc;
    rc = copy_text(&w->arena, "ARROW:schema", &pair.key);
    if (rc == 0)
        rc = copy_bytes(&w->arena, (struct pqfile_bytes){w->encoded.data, w->encoded.len},
                        &pair.value);
    if (rc < 0)
        return pq_error_plain(error, rc);
    w->pairs[m->key_value_count++] = pair;
    return 0;
}

static int write_footer(struct pqfile_writer *w, struct pqfile_error *error)
{
    pq_buffer_clear(&w->encoded);
    pq_metadata_write(&w->encoded, &w->metadata);
    size_t len = w->encoded.len;
    pq_buffer_add_u32(&w->encoded, (uint32_t)len);
    pq_buffer_add(&w->encoded, pq_magic, PQ_MAGIC_BYTES);
    if (w->encoded.failed)
        return pq_error_plain(error, PQFILE_NO_MEMORY);
    if (len > INT32_MAX)
        return pq_error(error, PQFILE_LIMIT, "the footer is too large");
    return pq_writer_put(w, w->encoded.data, w->encoded.len, error);
}

int pqfile_writer_finish(struct pqfile_writer *writer, uint64_t *file_bytes_out,
                         struct pqfile_error *error_out)
{
    struct pqfile_writer *w = writer;
    int rc = check_state(w, error_out);
    if (rc < 0)
        return rc;
    if (w->group_open)
        rc = pq_error(error_out, PQFILE_INVALID, "a row group is not ended");
    if (rc == 0)
        rc = write_indexes(w, error_out);
    if (rc == 0)
        rc = build_row_groups(w, error_out);
    if (rc == 0)
        rc = add_arrow_schema(w, error_out);
    if (rc == 0)
        rc = write_footer(w, error_out);
    if (rc < 0) {
        w->failed = rc;
        return rc;
    }
    w->finished = true;
    if (file_bytes_out != NULL)
        *file_bytes_out = w->offset;
    return 0;
}
