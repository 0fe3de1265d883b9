/* segment_rebuild.c: what is made from a Parquet file alone: the .index when it is lost, and the
 * vectors in memory when their pages are compressed.
 *
 * Rows give the index everything but the pages of vectors; those are listed once more, column by
 * column: pages in place are summed where they lie, others as they are decompressed. With the seed
 * of the lost index the same bytes come out. */
#include "segment/segment_index_internal.h"
#include "segment/segment_parquet_internal.h"

#include "base/crc32c.h"

#include <inttypes.h>

#include "base/no_libc_heap.h"

enum { BATCH_BYTES = 1 << 20, FLUSH_BYTES = 1 << 20, NARROW_VALUES = 4096 };

/* The values of one column of vectors, row group after row group. */
struct stream {
    const struct pqfile_reader *reader;
    uint32_t leaf, row_group;
    uint32_t value_bytes; /* as they are kept */
    bool bytes;           /* the file gives INT32 */
    size_t row_max;
    struct pqfile_cursor *cursor;
    struct pqfile_batch batch;
    size_t used; /* values of the batch */
    int8_t narrow[NARROW_VALUES];
};

static int pqfile_failed(const struct pqfile_error *error, struct trail *trail)
{
    return trail_add(trail, segment_pqfile_failed(error, trail), "Parquet file");
}

static struct stream stream_of(const struct pqfile_reader *reader, uint32_t leaf,
                               const struct segment_field_entry *entry)
{
    bool bits = entry->metric == PDB_METRIC_HAMMING;
    size_t rows = BATCH_BYTES / entry->bytes;
    return (struct stream){.reader = reader,
                           .leaf = leaf,
                           .value_bytes = bits ? entry->bytes : entry->bytes / entry->dimension,
                           .bytes = entry->element == PDB_ELEMENT_INT8,
                           .row_max = rows > 0 ? rows : 1};
}

static void stream_close(struct stream *s)
{
    pqfile_cursor_close(s->cursor);
    s->cursor = NULL;
}

/* As many of the next `count` as there is room for. Who reads rows has refused what is no byte. */
static size_t narrow_values(struct stream *s, size_t count)
{
    const int32_t *values = (const int32_t *)s->batch.values + s->used;
    count = count < NARROW_VALUES ? count : NARROW_VALUES;
    for (size_t i = 0; i < count; i++)
        s->narrow[i] = (int8_t)values[i];
    return count;
}

/* The next values, up to `value_max`; *bytes_out 0 at the end of the row group. */
static int stream_next(struct stream *s, size_t value_max, const void **values_out,
                       size_t *bytes_out, struct trail *trail)
{
    struct pqfile_error error = {0};
    if (s->cursor == NULL &&
        pqfile_cursor_open(s->reader, s->row_group, s->leaf, &s->cursor, &error) < 0)
        return pqfile_failed(&error, trail);
    while (s->used == s->batch.value_count) {
        s->used = 0;
        if (pqfile_cursor_read(s->cursor, s->row_max, &s->batch, &error) < 0)
            return pqfile_failed(&error, trail);
        if (s->batch.row_count == 0) {
            *bytes_out = 0;
            return 0;
        }
    }
    size_t count = s->batch.value_count - s->used;
    count = count < value_max ? count : value_max;
    if (s->bytes) {
        count = narrow_values(s, count);
        *values_out = s->narrow;
    } else {
        *values_out = (const char *)s->batch.values + s->used * s->value_bytes;
    }
    *bytes_out = count * s->value_bytes;
    s->used += count;
    return 0;
}

static void stream_next_group(struct stream *s)
{
    stream_close(s);
    s->batch = (struct pqfile_batch){0};
    s->used = 0;
    s->row_group++;
}

/* ---- pages ---- */

struct rebuild {
    const struct segment_open_options *options;
    const struct segment_index_sink *sink; /* NULL: the index is gathered in memory */
    struct segment_census census;
    struct segment_rows rows;
    struct segment_index_builder index;
    struct buffer last_id; /* of the row before */
    uint64_t last_version;
    struct trail *trail;
};

static int bad_file(struct rebuild *b, const char *what)
{
    return trail_add(b->trail, PDB_DATA_LOSS, "Parquet file: %s", what);
}

/* The sum of the next `bytes` of the stream. */
static int sum_stream(struct rebuild *b, struct stream *s, size_t bytes, uint32_t *crc_out)
{
    uint32_t crc = 0;
    while (bytes > 0) {
        const void *values = NULL;
        size_t got = 0;
        int rc = stream_next(s, bytes / s->value_bytes, &values, &got, b->trail);
        if (rc < 0)
            return rc;
        if (got == 0)
            return bad_file(b, "a page of vectors ends early");
        crc = crc32c(crc, values, got);
        bytes -= got;
    }
    *crc_out = crc;
    return 0;
}

static int add_page(struct rebuild *b, uint32_t f, const struct pqfile_page *page,
                    struct stream *stream)
{
    const struct segment_field_entry *entry = &b->index.fields[f].entry;
    const struct segment_bytes *parquet = &b->options->parquet;
    uint32_t per_vector = entry->metric == PDB_METRIC_HAMMING ? 1 : entry->dimension;
    uint32_t count = page->value_count / per_vector, crc = 0, sum = 0;
    uint64_t bytes = (uint64_t)count * entry->bytes, offset = 0;
    if (page->value_count % per_vector != 0)
        return bad_file(b, "a page of vectors");
    if (count == 0)
        return 0;
    if (b->rows.layout.in_place) {
        offset = page->values_offset;
        if (!(page->in_place || (stream->bytes && page->numbers_in_place)) || offset == 0 ||
            offset > parquet->len || bytes > parquet->len - offset)
            return bad_file(b, "a page of vectors is not where it should be");
        crc = crc32c(0, parquet->ptr + offset, bytes);
    }
    if (!b->rows.layout.in_place || stream->bytes) {
        int rc = sum_stream(b, stream, bytes, &sum);
        if (rc < 0)
            return rc;
        /* Bytes are numbers in a dictionary, too: they must be what the values are. */
        if (b->rows.layout.in_place && sum != crc)
            return bad_file(b, "a page of vectors does not hold its values");
        crc = sum;
    }
    if (segment_index_add_page(&b->index, f, offset, count, crc) < 0)
        return trail_add(b->trail, PDB_RESOURCE_EXHAUSTED, "memory for an index");
    return 0;
}

static int add_group_pages(struct rebuild *b, uint32_t f, struct stream *stream)
{
    struct pqfile_error error = {0};
    struct pqfile_pages *pages = NULL;
    struct pqfile_page page;
    if (pqfile_pages_open(b->rows.reader, stream->row_group, stream->leaf, &pages, &error) < 0)
        return pqfile_failed(&error, b->trail);
    int rc = 0;
    while (rc == 0) {
        if (pqfile_pages_next(pages, &page, &error) < 0)
            rc = pqfile_failed(&error, b->trail);
        else if (page.level_count == 0)
            break;
        else
            rc = add_page(b, f, &page, stream);
    }
    pqfile_pages_close(pages);
    return rc;
}

static int add_pages(struct rebuild *b, uint32_t f)
{
    const struct segment_field_entry *entry = &b->index.fields[f].entry;
    struct stream stream = stream_of(b->rows.reader, b->rows.layout.metadata_leaf + 1 + f, entry);
    const struct pqfile_metadata *metadata = pqfile_metadata(b->rows.reader);
    int rc = 0;
    for (uint32_t group = 0; rc == 0 && group < metadata->row_group_count; group++) {
        rc = add_group_pages(b, f, &stream);
        stream_next_group(&stream);
    }
    stream_close(&stream);
    if (rc < 0)
        return rc;
    uint64_t count = 0;
    if (entry->page_count > 0) {
        struct segment_page last;
        const struct buffer *pages = &b->index.fields[f].pages;
        memcpy(&last, pages->ptr + pages->len - sizeof(last), sizeof(last));
        count = (uint64_t)last.first + last.count;
    }
    return count == entry->vector_count ? 0 : bad_file(b, "pages and rows disagree on vectors");
}

/* ---- rows ---- */

static int check_schema(struct rebuild *b)
{
    const struct segment_schema *wanted = &b->options->schema, *found = &b->rows.schema;
    if (!uuid_equal(&wanted->collection, &found->collection) || wanted->number != found->number)
        return bad_file(b, "of another segment");
    bool same = wanted->field_count == found->field_count;
    for (uint32_t f = 0; same && f < wanted->field_count; f++)
        same = text_equal(wanted->fields[f].name, found->fields[f].name) &&
               wanted->fields[f].dimension == found->fields[f].dimension &&
               wanted->fields[f].metric == found->fields[f].metric &&
               wanted->fields[f].element == found->fields[f].element;
    if (!same)
        return bad_file(b, "its fields differ from the collection's");
    uint64_t total = segment_rows_total(&b->rows);
    return total > 0 && total <= SEGMENT_ROWS_MAX ? 0 : bad_file(b, "number of rows");
}

static int add_row(struct rebuild *b, const struct pdb_row *row)
{
    struct pdb_text last = {b->last_id.ptr, b->last_id.len};
    int order = text_compare(last, row->id);
    if (order > 0 || (order == 0 && row->version >= b->last_version))
        return trail_add(b->trail, PDB_DATA_LOSS, "Parquet file: row %" PRIu64 " is out of order",
                         b->rows.row - 1);
    if (segment_index_add(&b->index, row) < 0)
        return trail_add(b->trail, PDB_RESOURCE_EXHAUSTED, "memory for an index");
    b->last_id.len = 0;
    buffer_add_text(&b->last_id, row->id);
    b->last_version = row->version;
    return b->last_id.failed ? trail_add(b->trail, PDB_RESOURCE_EXHAUSTED, "memory for an id") : 0;
}

static int flush_rows(struct rebuild *b)
{
    int rc = 0;
    if (b->sink != NULL && segment_index_pending(&b->index) >= FLUSH_BYTES)
        rc = segment_index_flush(&b->index);
    return rc == 0 ? 0 : trail_add(b->trail, rc, "the index cannot be written");
}

/* All rows, which are counted, or added to the index. */
static int read_rows(struct rebuild *b, bool counting)
{
    struct pdb_row row;
    int rc = segment_rows_open(&b->rows, b->options->heap, &b->options->parquet, b->trail);
    if (rc == 0)
        rc = check_schema(b);
    if (rc < 0)
        return rc;
    while ((rc = segment_rows_next(&b->rows, &row, b->trail)) > 0) {
        if (counting)
            segment_census_add(&b->census, b->options->schema.field_count, &row);
        else if ((rc = add_row(b, &row)) < 0 || (rc = flush_rows(b)) < 0)
            return rc;
    }
    return rc;
}

static int count_rows(struct rebuild *b, uint64_t hash_seed)
{
    int rc = read_rows(b, true);
    segment_rows_close(&b->rows);
    if (rc < 0)
        return rc;
    if (b->census.rows == 0)
        return bad_file(b, "no rows");
    rc = segment_index_plan(&b->index, &b->census, hash_seed, b->sink);
    return rc == 0 ? 0 : trail_add(b->trail, rc, "memory for an index");
}

static int write_index(struct rebuild *b, uint64_t hash_seed, struct buffer *index_out)
{
    const struct segment_bytes *parquet = &b->options->parquet;
    struct segment_index_source source = {.parquet_bytes = parquet->len};
    int rc = 0;
    if (b->index.row_count == 0 ||
        !segment_footer_crc(parquet->ptr, parquet->len, &source.footer_crc, NULL))
        return bad_file(b, "no rows, or no footer");
    source.parquet_crc = crc32c(0, parquet->ptr, parquet->len);
    if (b->sink == NULL)
        rc = segment_index_write(&b->index, &source, hash_seed, index_out);
    else
        while ((rc = segment_index_finish(&b->index, &source, FLUSH_BYTES)) > 0)
            continue;
    return rc == 0 ? 0 : trail_add(b->trail, rc, "memory for an index, or its file");
}

static int rebuild_steps(struct rebuild *b, uint64_t hash_seed, struct buffer *index_out)
{
    int rc = 0;
    if (segment_index_init(&b->index, b->options->heap, &b->options->schema) < 0)
        return trail_add(b->trail, PDB_RESOURCE_EXHAUSTED, "memory for an index");
    if (b->sink != NULL)
        rc = count_rows(b, hash_seed);
    if (rc == 0)
        rc = read_rows(b, false);
    for (uint32_t f = 0; rc == 0 && f < b->index.field_count; f++)
        rc = add_pages(b, f);
    return rc == 0 ? write_index(b, hash_seed, index_out) : rc;
}

static int run(struct rebuild *b, uint64_t hash_seed, struct buffer *index_out)
{
    buffer_init_heap(&b->last_id, b->options->heap, 0);
    int rc = rebuild_steps(b, hash_seed, index_out);
    segment_index_dispose(&b->index);
    segment_rows_close(&b->rows);
    buffer_dispose(&b->last_id);
    return rc == 0 ? 0 : trail_add(b->trail, rc, "segment %" PRIu64, b->options->schema.number);
}

int segment_index_rebuild(const struct segment_open_options *options, uint64_t hash_seed,
                          struct buffer *index_out, struct trail *trail)
{
    struct rebuild b = {.options = options, .trail = trail};
    return run(&b, hash_seed, index_out);
}

int segment_index_rebuild_to(const struct segment_open_options *options, uint64_t hash_seed,
                             int (*write)(void *arg, uint64_t offset, const void *bytes,
                                          size_t len),
                             void *arg, struct trail *trail)
{
    const struct segment_index_sink sink = {write, arg};
    struct rebuild b = {.options = options, .sink = &sink, .trail = trail};
    return run(&b, hash_seed, NULL);
}

/* ---- compressed vectors ---- */

static int copy_vectors(struct segment_field *field, struct stream *stream, uint32_t group_count,
                        struct trail *trail)
{
    size_t total = (size_t)field->vector_count * field->bytes, done = 0;
    while (stream->row_group < group_count) {
        const void *values = NULL;
        size_t bytes = 0;
        int rc = stream_next(stream, SIZE_MAX, &values, &bytes, trail);
        if (rc < 0)
            return rc;
        if (bytes > total - done)
            return trail_add(trail, PDB_DATA_LOSS, "Parquet file: too many vectors");
        if (bytes == 0) {
            stream_next_group(stream);
            continue;
        }
        memcpy(field->heap_vectors + done, values, bytes);
        done += bytes;
    }
    return done == total ? 0 : trail_add(trail, PDB_DATA_LOSS, "Parquet file: too few vectors");
}

static int load_from(struct segment *s, uint32_t f, const struct pqfile_reader *reader,
                     struct trail *trail)
{
    struct segment_field *field = &s->fields[f];
    const struct pqfile_metadata *metadata = pqfile_metadata(reader);
    struct segment_field_entry entry = {.dimension = field->dimension,
                                        .metric = (uint32_t)field->metric,
                                        .element = (uint32_t)field->element,
                                        .bytes = field->bytes};
    /* Vectors are the last columns. */
    uint32_t leaf = metadata->column_count - s->field_count + f;
    bool fixed = field->metric == PDB_METRIC_HAMMING || field->element == PDB_ELEMENT_FLOAT16;
    enum pqfile_type type = fixed                                ? PQFILE_FIXED_LEN_BYTE_ARRAY
                            : field->element == PDB_ELEMENT_INT8 ? PQFILE_INT32
                                                                 : PQFILE_FLOAT;
    uint32_t value_bytes = field->metric == PDB_METRIC_HAMMING ? field->bytes : 2;
    if (metadata->column_count < s->field_count ||
        metadata->nodes[metadata->columns[leaf]].type != type ||
        (type == PQFILE_FIXED_LEN_BYTE_ARRAY &&
         metadata->nodes[metadata->columns[leaf]].type_length != value_bytes))
        return trail_add(trail, PDB_DATA_LOSS, "Parquet file: no column of such vectors");
    struct stream stream = stream_of(reader, leaf, &entry);
    int rc = copy_vectors(field, &stream, metadata->row_group_count, trail);
    stream_close(&stream);
    for (uint32_t p = 0; rc == 0 && p < field->page_count; p++)
        if (!segment_page_good(s, f, p))
            rc = trail_add(trail, PDB_DATA_LOSS,
                           "Parquet file: vectors differ from the index's checksum");
    return rc;
}

int segment_load_vectors(struct segment *s, uint32_t field, struct trail *trail)
{
    struct segment_field *f = &s->fields[field];
    struct pqfile_error error = {0};
    struct pqfile_reader *reader = NULL;
    struct pqfile_source source = {.size = s->parquet.len, .memory = s->parquet.ptr};
    struct pqfile_reader_options options = segment_reader_options(s->heap);
    size_t bytes = (size_t)f->vector_count * f->bytes;
    f->heap_vectors = heap_alloc_aligned(s->heap, SEGMENT_ALIGNMENT, bytes);
    if (f->heap_vectors == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for %zu bytes of vectors", bytes);
    s->heap_bytes += bytes;
    if (pqfile_open(&source, &options, &reader, &error) < 0)
        return pqfile_failed(&error, trail);
    int rc = load_from(s, field, reader, trail);
    pqfile_close(reader);
    return rc;
}
