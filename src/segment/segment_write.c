/* segment_write.c: rows in order become a Parquet file, handed on as it grows, and an .index.
 *
 * A row group is gathered column by column, then written column by column: that is what the format
 * asks for, and it bounds the memory to one row group (32 MiB by default) and, with a census, 8
 * bytes an id for the index; without one the index is held till the end. Texts are not copied
 * twice: ids and documents lie in the index's arrays, and columns refer to them by offset, because
 * the arrays move as they grow. The index learns from pqfile where each page of vectors came to
 * lie, and sums the same memory that was written.
 *
 * Whether a column has nulls is not known when the schema is written, before the first row. So
 * columns that could have some are optional; without nulls that costs a few bytes a page. */
#include "segment/segment_index_internal.h"
#include "segment/segment_parquet_internal.h"

#include "base/bytes.h"
#include "base/crc32c.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

enum {
    ROW_GROUP_BYTES = 32 << 20,
    SINK_BYTES = 256 << 10,
    NUMBERS_BYTES = 64,        /* of a row: version, times, lengths and the like */
    FLUSH_BYTES_MAX = 1 << 20, /* of the index's arrays, before they leave */
#ifdef PDB_STRESS
    ROW_GROUP_ROWS = 16,
#else
    ROW_GROUP_ROWS = 128 << 10,
#endif
};

/* What a row group has of one column that can be null. */
struct column_data {
    struct buffer definition, repetition; /* a byte a level */
    struct buffer values, lon;            /* lon: the second column of a place on earth */
    size_t rows, value_count;
};

/* A text of a row group, until its place in memory is known; as long as a struct pqfile_bytes. */
struct text_ref {
    uint64_t offset, len;
};
_Static_assert(sizeof(struct text_ref) == sizeof(struct pqfile_bytes), "turned over in place");

struct segment_writer {
    struct segment_writer_options options;
    struct heap *heap;
    struct segment_columns columns;
    struct segment_layout layout;
    struct segment_index_builder index;
    struct segment_value *values; /* of the row being added */
    struct column_data *declared; /* as columns.all */
    struct column_data expires, metadata;
    struct buffer json;     /* the metadata's text */
    struct buffer *vectors; /* of each field: those of the row group */
    struct buffer scratch;
    uint32_t group_first, group_rows;
    size_t group_at, group_ids; /* where its rows, and its first id, lie in the index's arrays */
    uint64_t group_bytes, group_bytes_max;
    struct pqfile_writer *parquet;
    struct {                         /* what leaves */
        struct buffer pending, tail; /* tail: all that was written since tail_kept */
        uint64_t bytes;
        uint32_t crc;
        bool tail_kept;
        int rc; /* of options.write */
    } sink;
    bool finished;
    bool streamed; /* the index leaves as it grows */
};

/* ---- what leaves ---- */

static int hand_on(struct segment_writer *w, const void *bytes, size_t len)
{
    if (len != 0 && w->sink.rc == 0)
        w->sink.rc = w->options.write(w->options.arg, bytes, len);
    return w->sink.rc;
}

static int flush_sink(struct segment_writer *w)
{
    int rc = hand_on(w, w->sink.pending.ptr, w->sink.pending.len);
    w->sink.pending.len = 0;
    return rc;
}

static int sink_write(void *context, const void *bytes, size_t len)
{
    struct segment_writer *w = context;
    struct buffer *pending = &w->sink.pending;
    w->sink.crc = crc32c(w->sink.crc, bytes, len);
    w->sink.bytes += len;
    if (w->sink.tail_kept)
        buffer_add(&w->sink.tail, bytes, len);
    if (len > SINK_BYTES - pending->len && flush_sink(w) < 0)
        return -1;
    if (len > SINK_BYTES)
        return hand_on(w, bytes, len);
    buffer_add(pending, bytes, len);
    if (pending->failed || w->sink.tail.failed)
        w->sink.rc = PDB_RESOURCE_EXHAUSTED;
    return w->sink.rc;
}

static int parquet_failed(const struct segment_writer *w, const struct pqfile_error *error,
                          struct trail *trail)
{
    if (error->code == PQFILE_IO)
        return trail_add(trail, w->sink.rc, "write of a Parquet file");
    return segment_pqfile_failed(error, trail);
}

static int no_memory(struct trail *trail)
{
    return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a segment's rows");
}

/* ---- beginning ---- */

static void column_init(struct column_data *data, struct heap *heap)
{
    buffer_init_heap(&data->definition, heap, 0);
    buffer_init_heap(&data->repetition, heap, 0);
    buffer_init_heap(&data->values, heap, 0);
    buffer_init_heap(&data->lon, heap, 0);
}

static void column_dispose(struct column_data *data)
{
    buffer_dispose(&data->definition);
    buffer_dispose(&data->repetition);
    buffer_dispose(&data->values);
    buffer_dispose(&data->lon);
}

static int allocate(struct segment_writer *w)
{
    const struct segment_schema *schema = &w->options.schema;
    int rc = segment_columns_init(&w->columns, w->heap, schema->columns, schema->column_count);
    if (rc == 0)
        rc = segment_layout_init(&w->layout, w->heap, schema, &w->columns);
    if (rc == 0)
        rc = segment_index_init(&w->index, w->heap, schema);
    if (rc < 0)
        return rc;
    w->values = heap_calloc(w->heap, w->columns.count, sizeof(*w->values));
    w->declared = heap_calloc(w->heap, w->columns.count, sizeof(*w->declared));
    w->vectors = heap_calloc(w->heap, schema->field_count, sizeof(*w->vectors));
    if (w->values == NULL || w->declared == NULL || w->vectors == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < w->columns.count; i++)
        column_init(&w->declared[i], w->heap);
    for (uint32_t f = 0; f < schema->field_count; f++)
        buffer_init_heap(&w->vectors[f], w->heap, 0);
    return 0;
}

static struct pqfile_bytes bytes_of(struct pdb_text text)
{
    return (struct pqfile_bytes){(const uint8_t *)text.ptr, text.len};
}

static int open_parquet(struct segment_writer *w, struct trail *trail)
{
    char uuid[UUID_TEXT_LEN + 1], number[24], format[12];
    struct buffer schema;
    struct pqfile_error error = {0};
    uuid_format(&w->options.schema.collection, uuid);
    (void)snprintf(number, sizeof(number), "%" PRIu64, w->options.schema.number);
    (void)snprintf(format, sizeof(format), "%d", segment_schema_format(&w->options.schema));
    buffer_init_heap(&schema, w->heap, 0);
    segment_schema_write(&w->options.schema, &w->layout, &w->columns, &schema);
    struct pdb_text schema_text = {schema.ptr, schema.len};
    const struct pqfile_key_value values[] = {
        {bytes_of(TEXT_LIT(SEGMENT_KEY_FORMAT)), bytes_of(text_of(format)), true},
        {bytes_of(TEXT_LIT(SEGMENT_KEY_COLLECTION)), bytes_of(text_of(uuid)), true},
        {bytes_of(TEXT_LIT(SEGMENT_KEY_NUMBER)), bytes_of(text_of(number)), true},
        {bytes_of(TEXT_LIT(SEGMENT_KEY_SCHEMA)), bytes_of(schema_text), true}};
    struct pqfile_writer_options options = {.allocator = segment_allocator(w->heap),
                                            .key_values = values,
                                            .key_value_count = sizeof(values) / sizeof(values[0]),
                                            .created_by = "ProximaDB " PDB_VERSION};
    struct pqfile_sink sink = {sink_write, w};
    int rc = schema.failed ? no_memory(trail) : 0;
    if (rc == 0 && pqfile_writer_open(w->layout.fields, w->layout.field_count, &options, &sink,
                                      &w->parquet, &error) < 0)
        rc = parquet_failed(w, &error, trail);
    buffer_dispose(&schema);
    return rc;
}

int segment_writer_new(const struct segment_writer_options *options,
                       struct segment_writer **writer_out, struct trail *trail)
{
    struct segment_writer *w = heap_calloc(options->heap, 1, sizeof(*w));
    if (w == NULL)
        return no_memory(trail);
    w->options = *options;
    w->heap = options->heap;
    w->group_bytes_max = options->row_group_bytes != 0 ? options->row_group_bytes : ROW_GROUP_BYTES;
    struct buffer *const buffers[] = {&w->json, &w->scratch, &w->sink.pending, &w->sink.tail};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
        buffer_init_heap(buffers[i], w->heap, 0);
    column_init(&w->expires, w->heap);
    column_init(&w->metadata, w->heap);
    int rc = allocate(w);
    w->streamed = options->census != NULL;
    w->options.census = NULL;
    if (rc == 0 && w->streamed) {
        const struct segment_index_sink sink = {options->write_index, options->arg};
        rc = segment_index_plan(&w->index, options->census, options->hash_seed, &sink);
    }
    rc = rc < 0 ? no_memory(trail) : open_parquet(w, trail);
    if (rc < 0) {
        segment_writer_free(w);
        return rc;
    }
    *writer_out = w;
    return 0;
}

void segment_writer_free(struct segment_writer *w)
{
    if (w == NULL)
        return;
    pqfile_writer_close(w->parquet);
    for (uint32_t f = 0; w->vectors != NULL && f < w->options.schema.field_count; f++)
        buffer_dispose(&w->vectors[f]);
    for (uint32_t i = 0; w->declared != NULL && i < w->columns.count; i++)
        column_dispose(&w->declared[i]);
    column_dispose(&w->metadata);
    column_dispose(&w->expires);
    buffer_dispose(&w->sink.tail);
    buffer_dispose(&w->sink.pending);
    buffer_dispose(&w->scratch);
    buffer_dispose(&w->json);
    heap_free(w->heap, w->vectors);
    heap_free(w->heap, w->declared);
    heap_free(w->heap, w->values);
    segment_index_dispose(&w->index);
    segment_layout_dispose(&w->layout);
    segment_columns_dispose(&w->columns);
    heap_free(w->heap, w);
}

/* ---- one row ---- */

static void add_level(struct column_data *data, uint8_t definition)
{
    buffer_add_byte(&data->definition, (char)definition);
}

/* A row of an optional column: its value, or null. */
static void add_optional(struct column_data *data, const void *value, size_t size)
{
    add_level(data, value != NULL);
    data->rows++;
    if (value == NULL)
        return;
    buffer_add(&data->values, value, size);
    data->value_count++;
}

static void add_items(struct column_data *data, enum pdb_column_type type,
                      const struct doc_value *list, const char *document, uint64_t document_at)
{
    struct doc_iter iter = doc_iterate(list);
    struct doc_value item;
    bool first = true;
    while (doc_next(&iter, NULL, &item)) {
        add_level(data, 2);
        buffer_add_byte(&data->repetition, (char)!first);
        first = false;
        data->value_count++;
        if (type == PDB_COLUMN_STRING_LIST) {
            struct text_ref ref = {document_at + (uint64_t)(item.string.ptr - document),
                                   item.string.len};
            buffer_add(&data->values, &ref, sizeof(ref));
        } else if (type == PDB_COLUMN_INTEGER_LIST) {
            buffer_add(&data->values, &item.integer, sizeof(item.integer));
        } else {
            double number = segment_float_of(&item);
            buffer_add(&data->values, &number, sizeof(number));
        }
    }
    if (first) {
        add_level(data, 1);
        buffer_add_byte(&data->repetition, 0);
    }
}

static bool is_list(enum pdb_column_type type)
{
    return type == PDB_COLUMN_STRING_LIST || type == PDB_COLUMN_INTEGER_LIST ||
           type == PDB_COLUMN_FLOAT_LIST;
}

/* `document_at`: where the row's document lies in the index's array. */
static void add_declared(struct column_data *data, enum pdb_column_type type,
                         const struct segment_value *value, struct pdb_text document,
                         uint64_t document_at)
{
    uint8_t boolean = value->there && type == PDB_COLUMN_BOOLEAN && value->boolean;
    if (!value->there) {
        add_level(data, 0);
        if (is_list(type))
            buffer_add_byte(&data->repetition, 0);
        data->rows++;
    } else if (is_list(type)) {
        add_items(data, type, &value->list, document.ptr, document_at);
        data->rows++;
    } else if (type == PDB_COLUMN_STRING || type == PDB_COLUMN_TEXT) {
        struct text_ref ref = {document_at + (uint64_t)(value->text.ptr - document.ptr),
                               value->text.len};
        add_optional(data, &ref, sizeof(ref));
    } else if (type == PDB_COLUMN_BOOLEAN) {
        add_optional(data, &boolean, sizeof(boolean));
    } else if (type == PDB_COLUMN_FLOAT) {
        add_optional(data, &value->number, sizeof(value->number));
    } else if (type == PDB_COLUMN_GEO) {
        add_optional(data, &value->lat, sizeof(value->lat));
        buffer_add(&data->lon, &value->lon, sizeof(value->lon));
    } else {
        add_optional(data, &value->integer, sizeof(value->integer));
    }
}

static bool column_failed(const struct column_data *data)
{
    return data->definition.failed || data->repetition.failed || data->values.failed ||
           data->lon.failed;
}

static size_t column_bytes(const struct column_data *data)
{
    return data->definition.len + data->repetition.len + data->values.len + data->lon.len;
}

/* Adds to *bytes what it takes beside the document itself. */
static bool add_metadata(struct segment_writer *w, const struct pdb_row *row, uint64_t *bytes)
{
    uint64_t document_at = w->index.docs.len - row->metadata.len;
    segment_columns_split(&w->columns, row->metadata, w->values);
    bool failed = false;
    for (uint32_t i = 0; i < w->columns.count; i++) {
        size_t before = column_bytes(&w->declared[i]);
        add_declared(&w->declared[i], w->columns.all[i].type, &w->values[i], row->metadata,
                     document_at);
        *bytes += column_bytes(&w->declared[i]) - before;
        failed |= column_failed(&w->declared[i]);
    }
    struct text_ref ref = {w->json.len, 0};
    bool rest = segment_columns_rest(&w->columns, row->metadata, w->values, &w->json);
    ref.len = w->json.len - ref.offset;
    *bytes += ref.len;
    add_optional(&w->metadata, rest ? &ref : NULL, sizeof(ref));
    return !failed && !w->json.failed && !column_failed(&w->metadata);
}

static uint64_t row_bytes(const struct segment_writer *w, const struct pdb_row *row)
{
    uint64_t bytes = NUMBERS_BYTES + row->id.len + row->metadata.len;
    for (uint32_t f = 0; f < w->index.field_count && row->vectors != NULL; f++)
        if (row->vectors[f] != NULL)
            bytes += w->index.fields[f].entry.bytes;
    return bytes;
}

static bool follows_last(const struct segment_index_builder *b, const struct pdb_row *row)
{
    struct pdb_text last = {b->seen.last_id, b->seen.last_len};
    int order = text_compare(last, row->id);
    return b->row_count == 0 || order < 0 || (order == 0 && b->last_version > row->version);
}

static int write_group(struct segment_writer *w, struct trail *trail);

int segment_writer_add(struct segment_writer *w, const struct pdb_row *row, struct trail *trail)
{
    ASSERT(!w->finished && !row->deleted && follows_last(&w->index, row));
    uint64_t bytes = row_bytes(w, row);
    if (w->group_rows == ROW_GROUP_ROWS ||
        (w->group_rows > 0 && bytes > w->group_bytes_max - w->group_bytes)) {
        int rc = write_group(w, trail);
        if (rc < 0)
            return rc;
    }
    if (segment_index_add(&w->index, row) < 0)
        return no_memory(trail);
    bool expires = row->expires_at_us != 0;
    add_optional(&w->expires, expires ? &row->expires_at_us : NULL, sizeof(row->expires_at_us));
    if (column_failed(&w->expires) || !add_metadata(w, row, &bytes))
        return no_memory(trail);
    for (uint32_t f = 0; f < w->index.field_count && row->vectors != NULL; f++) {
        if (row->vectors[f] == NULL)
            continue;
        buffer_add(&w->vectors[f], row->vectors[f], w->index.fields[f].entry.bytes);
        if (w->vectors[f].failed)
            return no_memory(trail);
    }
    w->group_rows++;
    w->group_bytes =
        bytes < w->group_bytes_max - w->group_bytes ? w->group_bytes + bytes : w->group_bytes_max;
    return 0;
}

/* ---- one row group ---- */

static int index_failed(int rc, struct trail *trail)
{
    const char *what = rc == PDB_DATA_LOSS            ? "the rows are not those that were counted"
                       : rc == PDB_RESOURCE_EXHAUSTED ? "memory for a segment's rows"
                                                      : "write of an index";
    return trail_add(trail, rc, "%s", what);
}

/* Between two groups nothing refers to the index's arrays. */
static int flush_index(struct segment_writer *w, struct trail *trail)
{
    uint64_t most = w->group_bytes_max / 2;
    int rc = 0;
    if (w->streamed &&
        segment_index_pending(&w->index) >= (most < FLUSH_BYTES_MAX ? most : FLUSH_BYTES_MAX))
        rc = segment_index_flush(&w->index);
    w->group_at = w->index.row_count - w->index.written;
    w->group_ids = w->index.ids.len;
    return rc < 0 ? index_failed(rc, trail) : 0;
}

static int end_column(struct segment_writer *w, struct pqfile_written *written_out,
                      struct trail *trail)
{
    struct pqfile_error error = {0};
    if (pqfile_writer_end_column(w->parquet, written_out, &error) < 0)
        return parquet_failed(w, &error, trail);
    return 0;
}

static int write_batch(struct segment_writer *w, const struct pqfile_batch *batch,
                       struct trail *trail)
{
    struct pqfile_error error = {0};
    if (pqfile_write(w->parquet, batch, &error) < 0)
        return parquet_failed(w, &error, trail);
    return end_column(w, NULL, trail);
}

static int write_ids(struct segment_writer *w, struct trail *trail)
{
    w->scratch.len = 0;
    const char *at = w->index.ids.ptr + w->group_ids;
    const char *lens = w->index.id_lens.ptr + w->group_at * sizeof(uint16_t);
    for (uint32_t i = 0; i < w->group_rows; i++) {
        struct pqfile_bytes id = {(const uint8_t *)at, bytes_get_u16(lens + i * sizeof(uint16_t))};
        buffer_add(&w->scratch, &id, sizeof(id));
        at += id.len;
    }
    if (w->scratch.failed)
        return no_memory(trail);
    struct pqfile_batch batch = {.row_count = w->group_rows,
                                 .level_count = w->group_rows,
                                 .value_count = w->group_rows,
                                 .values = w->scratch.ptr};
    return write_batch(w, &batch, trail);
}

/* `numbers`: of all rows, 8 bytes each. */
static int write_numbers(struct segment_writer *w, const struct buffer *numbers,
                         struct trail *trail)
{
    struct pqfile_batch batch = {.row_count = w->group_rows,
                                 .level_count = w->group_rows,
                                 .value_count = w->group_rows,
                                 .values = numbers->ptr + w->group_at * sizeof(uint64_t)};
    return write_batch(w, &batch, trail);
}

/* References become pointers. */
static void resolve_texts(struct column_data *data, const char *base)
{
    for (size_t i = 0; i < data->value_count; i++) {
        struct text_ref ref;
        char *at = data->values.ptr + i * sizeof(ref);
        memcpy(&ref, at, sizeof(ref));
        struct pqfile_bytes text = {NULL, ref.len};
        if (ref.len != 0)
            text.data = (const uint8_t *)base + ref.offset;
        memcpy(at, &text, sizeof(text));
    }
}

static int write_optional(struct segment_writer *w, struct column_data *data, bool list,
                          const struct buffer *values, struct trail *trail)
{
    struct pqfile_batch batch = {.row_count = data->rows,
                                 .level_count = data->definition.len,
                                 .value_count = data->value_count,
                                 .definition = (const uint8_t *)data->definition.ptr,
                                 .repetition = list ? (const uint8_t *)data->repetition.ptr : NULL,
                                 .values = values->ptr};
    return write_batch(w, &batch, trail);
}

static void column_reset(struct column_data *data)
{
    data->definition.len = data->repetition.len = data->values.len = data->lon.len = 0;
    data->rows = data->value_count = 0;
}

static int write_declared(struct segment_writer *w, struct trail *trail)
{
    for (uint32_t i = 0; i < w->columns.count; i++) {
        struct column_data *data = &w->declared[i];
        enum pdb_column_type type = w->columns.all[i].type;
        if (type == PDB_COLUMN_STRING || type == PDB_COLUMN_TEXT || type == PDB_COLUMN_STRING_LIST)
            resolve_texts(data, w->index.docs.ptr);
        int rc = write_optional(w, data, is_list(type), &data->values, trail);
        if (rc == 0 && type == PDB_COLUMN_GEO)
            rc = write_optional(w, data, false, &data->lon, trail);
        if (rc < 0)
            return rc;
        column_reset(data);
    }
    return 0;
}

static bool has_vector(const struct segment_index_field *field, uint32_t row)
{
    row -= field->present_first;
    return bytes_get_u64(field->present.ptr + row / 64 * sizeof(uint64_t)) >> (row % 64) & 1;
}

/* Float vectors: from one run when every row has one, else by a pointer for each row. */
static int put_floats(struct segment_writer *w, uint32_t f, struct pqfile_error *error)
{
    const struct segment_index_field *field = &w->index.fields[f];
    const struct buffer *vectors = &w->vectors[f];
    if (vectors->len == (size_t)w->group_rows * field->entry.bytes)
        return pqfile_write_vectors(w->parquet, vectors->ptr, NULL, w->group_rows, error);
    const char *at = vectors->ptr;
    w->scratch.len = 0;
    for (uint32_t i = 0; i < w->group_rows; i++) {
        const void *vector = has_vector(field, w->group_first + i) ? at : NULL;
        if (vector != NULL) /* a group may have none, and no buffer */
            at += field->entry.bytes;
        buffer_add(&w->scratch, &vector, sizeof(vector));
    }
    if (w->scratch.failed) {
        error->code = PQFILE_NO_MEMORY;
        return PQFILE_NO_MEMORY;
    }
    return pqfile_write_vectors_at(w->parquet, (const void *const *)(void *)w->scratch.ptr,
                                   w->group_rows, error);
}

static int put_bits(struct segment_writer *w, uint32_t f, struct pqfile_error *error)
{
    const struct segment_index_field *field = &w->index.fields[f];
    w->scratch.len = 0;
    for (uint32_t i = 0; i < w->group_rows; i++)
        buffer_add_byte(&w->scratch, has_vector(field, w->group_first + i));
    if (w->scratch.failed) {
        error->code = PQFILE_NO_MEMORY;
        return PQFILE_NO_MEMORY;
    }
    struct pqfile_batch batch = {.row_count = w->group_rows,
                                 .level_count = w->group_rows,
                                 .value_count = w->vectors[f].len / field->entry.bytes,
                                 .definition = (const uint8_t *)w->scratch.ptr,
                                 .values = w->vectors[f].ptr};
    return pqfile_write(w->parquet, &batch, error);
}

/* Tells the index where the pages of a field came to lie. */
static int note_pages(struct segment_writer *w, uint32_t f, const struct pqfile_written *written,
                      struct trail *trail)
{
    const struct segment_field_entry *entry = &w->index.fields[f].entry;
    uint32_t per_vector = entry->metric == PDB_METRIC_HAMMING ? 1 : entry->dimension;
    size_t at = 0;
    for (uint32_t p = 0; p < written->page_count; p++) {
        const struct pqfile_page *page = &written->pages[p];
        uint32_t count = page->value_count / per_vector;
        size_t bytes = (size_t)count * entry->bytes;
        ASSERT((page->in_place || page->numbers_in_place || !w->layout.in_place) &&
               at + bytes <= w->vectors[f].len);
        if (count == 0)
            continue;
        /* A page that did not get smaller is stored as it is, but read like its neighbours. */
        uint64_t offset = w->layout.in_place ? page->values_offset : 0;
        uint32_t crc = crc32c(0, w->vectors[f].ptr + at, bytes);
        if (segment_index_add_page(&w->index, f, offset, count, crc) < 0)
            return no_memory(trail);
        at += bytes;
    }
    ASSERT(at == w->vectors[f].len);
    return 0;
}

static int write_vectors(struct segment_writer *w, struct trail *trail)
{
    for (uint32_t f = 0; f < w->index.field_count; f++) {
        bool bits = w->index.fields[f].entry.metric == PDB_METRIC_HAMMING;
        struct pqfile_error error = {0};
        struct pqfile_written written;
        if ((bits ? put_bits(w, f, &error) : put_floats(w, f, &error)) < 0)
            return parquet_failed(w, &error, trail);
        int rc = end_column(w, &written, trail);
        if (rc == 0)
            rc = note_pages(w, f, &written, trail);
        if (rc < 0)
            return rc;
        w->vectors[f].len = 0;
    }
    return 0;
}

static int write_columns(struct segment_writer *w, struct trail *trail)
{
    int rc = write_ids(w, trail);
    if (rc == 0)
        rc = write_numbers(w, &w->index.versions, trail);
    if (rc == 0)
        rc = write_numbers(w, &w->index.created, trail);
    if (rc == 0)
        rc = write_numbers(w, &w->index.updated, trail);
    if (rc == 0)
        rc = write_optional(w, &w->expires, false, &w->expires.values, trail);
    if (rc == 0)
        rc = write_declared(w, trail);
    if (rc < 0)
        return rc;
    resolve_texts(&w->metadata, w->json.ptr);
    rc = write_optional(w, &w->metadata, false, &w->metadata.values, trail);
    return rc == 0 ? write_vectors(w, trail) : rc;
}

static int write_group(struct segment_writer *w, struct trail *trail)
{
    struct pqfile_error error = {0};
    int rc = write_columns(w, trail);
    if (rc < 0)
        return rc;
    if (pqfile_writer_end_row_group(w->parquet, &error) < 0)
        return parquet_failed(w, &error, trail);
    column_reset(&w->expires);
    column_reset(&w->metadata);
    w->json.len = 0;
    w->group_first += w->group_rows;
    w->group_rows = 0;
    w->group_bytes = 0;
    return flush_index(w, trail);
}

/* ---- the end ---- */

int segment_writer_finish(struct segment_writer *w, struct trail *trail)
{
    ASSERT(!w->finished);
    struct pqfile_error error = {0};
    if (w->index.row_count == 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "a segment without rows");
    int rc = w->group_rows > 0 ? write_group(w, trail) : 0;
    if (rc < 0)
        return rc;
    w->sink.tail_kept = true;
    if (pqfile_writer_finish(w->parquet, NULL, &error) < 0)
        return parquet_failed(w, &error, trail);
    rc = flush_sink(w);
    if (rc < 0)
        return trail_add(trail, rc, "write of a Parquet file");
    w->finished = true;
    return 0;
}

/* What the index says of the Parquet file. */
static struct segment_index_source index_source(const struct segment_writer *w)
{
    struct segment_index_source source = {.parquet_bytes = w->sink.bytes,
                                          .parquet_crc = w->sink.crc};
    bool found = segment_footer_crc((const uint8_t *)w->sink.tail.ptr, w->sink.tail.len,
                                    &source.footer_crc, NULL);
    ASSERT(found);
    return source;
}

int segment_writer_index(struct segment_writer *w, struct buffer *index_out, struct trail *trail)
{
    ASSERT(w->finished && w->index.row_count > 0 && !w->streamed);
    struct segment_index_source source = index_source(w);
    int rc = segment_index_write(&w->index, &source, w->options.hash_seed, index_out);
    return rc < 0 ? no_memory(trail) : 0;
}

int segment_writer_index_step(struct segment_writer *w, uint64_t budget, struct trail *trail)
{
    ASSERT(w->finished && w->index.row_count > 0 && w->streamed);
    struct segment_index_source source = index_source(w);
    int rc = segment_index_finish(&w->index, &source, budget);
    return rc < 0 ? index_failed(rc, trail) : rc;
}

void segment_writer_stats(const struct segment_writer *w, struct segment_writer_stats *stats_out)
{
    *stats_out = (struct segment_writer_stats){.rows = w->index.row_count,
                                               .parquet_bytes = w->sink.bytes,
                                               .version_min = w->index.version_min,
                                               .version_max = w->index.version_max,
                                               .expires_min_us = w->index.expires_min_us};
}
