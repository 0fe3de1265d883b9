/* reader.h: reads Parquet files: footer, page index, bloom filters, values by columns, and where
 * pages lie for those who read vectors straight from a mapped file.
 *
 * The library does no I/O. It sees the file as memory (a mapping; nothing is copied that need not
 * be) or through a callback. A reader is immutable once open, so several threads may use one at a
 * time, each with cursors of its own; an allocator and a callback must then bear that. Nothing in a
 * file is believed: every length, offset and count is checked, and options bound what a hostile
 * file can cost.
 *
 *     struct pqfile_source source = {.size = map_len, .memory = map};
 *     struct pqfile_reader *reader;
 *     struct pqfile_error error;
 *     if (pqfile_open(&source, NULL, &reader, &error) < 0)
 *         fprintf(stderr, "%s\n", error.message);
 *     const struct pqfile_metadata *meta = pqfile_metadata(reader);
 *     struct pqfile_cursor *cursor;
 *     rc = pqfile_cursor_open(reader, 0, 0, &cursor, &error);
 *     while ((rc = pqfile_cursor_read(cursor, 4096, &batch, &error)) == 0 && batch.row_count > 0)
 *         use(&batch);
 *     pqfile_cursor_close(cursor);
 *     pqfile_close(reader);
 */
#ifndef PQFILE_READER_H
#define PQFILE_READER_H

#include "pqfile/types.h"

/* The file. Either `memory` (size bytes, must stay and not change until the reader is closed), or
 * `read_at`, which fills `buffer` with exactly `len` bytes from `offset` or returns anything but 0;
 * it is never asked beyond `size`. */
struct pqfile_source {
    uint64_t size;
    const void *memory; /* NULL: read_at */
    int (*read_at)(void *context, uint64_t offset, size_t len, void *buffer);
    void *context;
};

enum {
    PQFILE_FOOTER_BYTES_MAX_DEFAULT = 64 << 20,
    PQFILE_PAGE_BYTES_MAX_DEFAULT = 256 << 20,
    PQFILE_MEMORY_MAX_DEFAULT = 1 << 30,
    PQFILE_NODE_MAX_DEFAULT = 16384,
    PQFILE_DEPTH_MAX_DEFAULT = 32,
    PQFILE_DEPTH_MAX_CAP = 200, /* levels are bytes */
    PQFILE_ROW_GROUP_MAX_DEFAULT = 65536,
};

/* A zeroed struct means all defaults. */
struct pqfile_reader_options {
    struct pqfile_allocator allocator;
    bool skip_checksums;     /* page checksums are verified where a page has one unless set */
    size_t footer_bytes_max; /* also of one page index or bloom filter */
    size_t page_bytes_max;   /* uncompressed */
    size_t memory_max;       /* of the reader with its metadata, and of each cursor */
    uint32_t node_max;       /* of the schema */
    uint32_t depth_max;      /* of the schema */
    uint32_t row_group_max;
};

struct pqfile_reader;
struct pqfile_cursor;
struct pqfile_pages;
struct pqfile_page_index;
struct pqfile_bloom;

/* Reads and checks the footer. 0, or any PQFILE_* with *reader_out untouched. Options (NULL:
 * defaults) and source are copied. */
int pqfile_open(const struct pqfile_source *source, const struct pqfile_reader_options *options,
                struct pqfile_reader **reader_out, struct pqfile_error *error_out);

/* Cursors, page lists, indexes and filters of it must be closed before. NULL is legal. */
void pqfile_close(struct pqfile_reader *reader);

/* The footer; lives as long as the reader. */
const struct pqfile_metadata *pqfile_metadata(const struct pqfile_reader *reader);

/* The column called by `path`, names joined by dots ("vector.list.element"), or -1. */
int64_t pqfile_find_column(const struct pqfile_metadata *metadata, const char *path);

/* The value of a key of the footer ("ARROW:schema"), or NULL. */
const struct pqfile_key_value *pqfile_find_key(const struct pqfile_metadata *metadata,
                                               const char *key);

/* ---- values ---- */

/* Stands before the first row of one column of one row group. */
int pqfile_cursor_open(const struct pqfile_reader *reader, uint32_t row_group, uint32_t column,
                       struct pqfile_cursor **cursor_out, struct pqfile_error *error_out);

void pqfile_cursor_close(struct pqfile_cursor *cursor);

/* The next rows, at least one and at most `row_max`, whole rows even where they go on in a next
 * page; row_count 0 at the end. What batch_out points to lives until the next call with this
 * cursor; with a source in memory it may point into that. After an error only closing is legal. */
int pqfile_cursor_read(struct pqfile_cursor *cursor, size_t row_max, struct pqfile_batch *batch_out,
                       struct pqfile_error *error_out);

/* Goes to row `row`, counted from the start of the row group; row_count of the row group is the
 * end. With an offset index, pages between are not touched; else they are walked. Backwards is
 * legal. */
int pqfile_cursor_seek(struct pqfile_cursor *cursor, uint64_t row, struct pqfile_error *error_out);

/* Skips `row_count` rows; beyond the end is PQFILE_INVALID. */
int pqfile_cursor_skip(struct pqfile_cursor *cursor, uint64_t row_count,
                       struct pqfile_error *error_out);

/* The row that the next read begins with. */
uint64_t pqfile_cursor_row(const struct pqfile_cursor *cursor);

/* Reads up to `row_max` rows of a column of lists of FLOAT (one repeated level) that all have
 * `dimension` elements or are null, into values_out (row_max x dimension floats, row-major; a null
 * row's are zeros) and present_out (a bit a row, row i is bit i % 8 of byte i / 8; NULL: a null row
 * is PQFILE_INVALID). *row_count_out is 0 at the end. A row of another length or with a null
 * element: PQFILE_INVALID, and the message names it. */
int pqfile_cursor_read_vectors(struct pqfile_cursor *cursor, size_t dimension, size_t row_max,
                               float *values_out, uint8_t *present_out, size_t *row_count_out,
                               struct pqfile_error *error_out);

/* ---- pages in place ---- */

/* Lists the data pages of a column chunk. Page headers are read one by one; where a page does not
 * say how many rows begin in it or how many values it stores (version 1, optional or repeated), its
 * levels are decoded. Values are neither touched nor checked. */
int pqfile_pages_open(const struct pqfile_reader *reader, uint32_t row_group, uint32_t column,
                      struct pqfile_pages **pages_out, struct pqfile_error *error_out);

void pqfile_pages_close(struct pqfile_pages *pages);

/* The next page, or page_out->level_count = 0 at the end. */
int pqfile_pages_next(struct pqfile_pages *pages, struct pqfile_page *page_out,
                      struct pqfile_error *error_out);

/* Verifies the checksum of one page that pqfile_pages_next() gave. 0; PQFILE_CORRUPT; or
 * PQFILE_INVALID when the page has none. */
int pqfile_page_verify(const struct pqfile_reader *reader, const struct pqfile_page *page,
                       struct pqfile_error *error_out);

/* ---- page index ---- */

enum pqfile_order {
    PQFILE_UNORDERED = 0,
    PQFILE_ASCENDING = 1,
    PQFILE_DESCENDING = 2,
};

/* What the column index and the offset index say of one data page. */
struct pqfile_page_entry {
    uint64_t offset;       /* of the page's header */
    uint32_t stored_bytes; /* header included */
    bool is_null;          /* nothing but nulls: min and max say nothing */
    uint64_t first_row;
    uint64_t row_count;
    struct pqfile_bytes min; /* PLAIN bytes; bounds, perhaps cut short */
    struct pqfile_bytes max;
    bool has_null_count;
    uint64_t null_count;
};

struct pqfile_page_index_view {
    uint32_t page_count;
    bool has_bounds; /* there is a column index: is_null, min, max, order are meant */
    enum pqfile_order order;
    const struct pqfile_page_entry *entries;
};

/* Reads the page index of a column chunk. PQFILE_INVALID: it has no offset index. */
int pqfile_page_index_open(const struct pqfile_reader *reader, uint32_t row_group, uint32_t column,
                           struct pqfile_page_index **index_out, struct pqfile_error *error_out);

const struct pqfile_page_index_view *pqfile_page_index(const struct pqfile_page_index *index);

void pqfile_page_index_close(struct pqfile_page_index *index);

/* ---- bloom filters ---- */

/* Reads the filter of a column chunk. PQFILE_INVALID: it has none. */
int pqfile_bloom_open(const struct pqfile_reader *reader, uint32_t row_group, uint32_t column,
                      struct pqfile_bloom **bloom_out, struct pqfile_error *error_out);

void pqfile_bloom_close(struct pqfile_bloom *bloom);

/* False: the value is surely not in the chunk. `value` is what PLAIN stores of it, without a
 * BYTE_ARRAY's length. */
bool pqfile_bloom_may_contain(const struct pqfile_bloom *bloom, const void *value, size_t len);

#endif
