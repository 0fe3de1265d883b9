/* writer_internal.h: the writer's parts.
 *
 * writer.c          life of a file: schema, row groups, indexes, footer writer_column.c   batches
 * of a column -> pages: checks, cuts at page borders, levels writer_vectors.c  rows with a presence
 * bitmap, lists of fixed size -> the same writer_page.c     one page -> bytes in the sink: encodes,
 * compresses, sums, heads statistics.c dictionary.c bloom.c metadata_write.c arrow_schema.c   what
 * pages and footer need
 *
 * A page under construction (struct pq_page) collects levels and values as they come; columns that
 * are `direct` go from the caller's memory to the sink when a whole page of them is at hand. Pages
 * of a dictionary wait in `held` until the dictionary, which must stand before them, is
 * complete. */
#ifndef PQFILE_WRITER_INTERNAL_H
#define PQFILE_WRITER_INTERNAL_H

#include "buffer.h"
#include "dictionary.h"
#include "memory.h"
#include "metadata.h"
#include "pqfile/pqfile.h"
#include "statistics.h"

/* A leaf of the schema and how it is stored. */
struct pq_column {
    const struct pqfile_node *node;
    struct pqfile_column_options options; /* no defaults left to fill in */
    uint32_t width;                       /* of a value in memory */
    uint32_t list_size;                   /* of its LIST; 0: none, or any */
    uint32_t list_field;                  /* which field that LIST is */
    bool list_is_optional;
    bool has_absent;     /* a row's LIST was null */
    uint8_t list_absent; /* definition level of a row whose LIST is null */
    bool direct;         /* pages store what memory holds: PLAIN, uncompressed, of fixed width */
};

/* Levels as runs, for rows of vectors: one run a row where bytes would be one a value. */
struct pq_runs {
    struct pq_buffer bytes; /* complete runs in the hybrid's form */
    uint64_t count;         /* of the run that goes on */
    uint8_t value;
};

/* A page under construction. */
struct pq_page {
    struct pq_buffer definition; /* a byte a level, unless as_runs */
    struct pq_buffer repetition;
    struct pq_runs definition_runs;
    struct pq_runs repetition_runs;
    bool as_runs;
    struct pq_buffer values; /* PLAIN's bytes, or what the encoding takes: an array, or indices */
    size_t value_bytes;      /* PLAIN's, for page_bytes */
    size_t row_count;
    size_t level_count;
    size_t value_count;
    struct pq_bounds bounds;
};

/* What is kept of a column chunk until the file's end. */
struct pq_chunk_pages {
    struct pqfile_page *pages;
    size_t page_capacity;
    struct pqfile_page_entry *entries;
    size_t entry_capacity;
    uint32_t page_count;
    bool unbounded; /* a page has values but no bounds (NaN): no column index */
};

struct pq_group {
    uint64_t row_count;
    uint64_t first_row;
    struct pqfile_chunk *chunks;  /* one a column */
    struct pq_chunk_pages *pages; /* likewise */
};

/* A bloom filter that is being filled, or waits for the end of its row group. */
struct pq_bloom_bits {
    uint8_t *bits;
    uint32_t bytes;
};

struct pqfile_writer {
    struct pqfile_allocator allocator;
    struct pqfile_sink sink;
    uint64_t offset; /* bytes given to the sink */
    int failed;      /* the first error; nothing goes on after it */
    bool finished;
    struct pq_arena arena; /* schema, texts, bounds: until close */
    struct pqfile_metadata metadata;
    struct pqfile_key_value *pairs; /* the metadata's, with room for one more */
    struct pqfile_field *fields;    /* a copy, for the Arrow schema; NULL: there will be none */
    size_t field_count;
    bool list_when_absent;
    struct pq_column *columns;
    struct pq_bloom_bits *blooms; /* one a column */
    struct pq_group *groups;      /* the last is the current one while group_open */
    size_t group_capacity;
    size_t group_count;

    /* the current row group and column */
    bool group_open;
    uint32_t column;
    bool chunk_open;
    uint64_t chunk_rows;
    uint64_t chunk_nulls;
    struct pq_page page;
    struct pq_bounds chunk_bounds;
    struct pq_dictionary dictionary;
    bool in_dictionary;    /* the column's pages still refer to it */
    struct pq_buffer held; /* those pages, headers included */
    uint64_t *hashes;      /* for a bloom filter whose size is not known yet */
    size_t hash_capacity;
    size_t hash_count;
    struct pq_buffer gathered; /* values of present rows */

    struct pq_buffer header; /* of the page being written */
    struct pq_buffer levels;
    struct pq_buffer encoded;
    struct pq_buffer packed;
};

/* ---- writer.c ---- */

/* Gives bytes to the sink. */
int pq_writer_put(struct pqfile_writer *w, const void *bytes, size_t len,
                  struct pqfile_error *error);

/* Puts the current column's name before the message; marks the writer failed. Returns rc. */
int pq_writer_fail(struct pqfile_writer *w, int rc, struct pqfile_error *error);

struct pqfile_chunk *pq_writer_chunk(struct pqfile_writer *w);
struct pq_chunk_pages *pq_writer_pages(struct pqfile_writer *w);

/* Whether more may be written into the current column; opens it where that was not done. */
int pq_writer_enter_column(struct pqfile_writer *w, struct pqfile_error *error);

/* ---- writer_options.c ---- */

/* Checks what is asked for a column (`node` and `width` are set) and fills in defaults. */
int pq_column_options(struct pq_column *column, const struct pqfile_column_options *given,
                      struct pqfile_error *error);

/* ---- writer_column.c ---- */

/* Whether levels and values agree with the schema and each other. */
int pq_check_batch(struct pqfile_writer *w, const struct pqfile_batch *batch,
                   struct pqfile_error *error);

/* Appends rows of the current column; they have been checked. */
int pq_column_append(struct pqfile_writer *w, const struct pqfile_batch *batch,
                     struct pqfile_error *error);

/* Adds values to the page: bounds, hashes, and unless `direct` the values themselves. `bytes`: what
 * they count for page_bytes. 0 or PQFILE_NO_MEMORY. */
int pq_column_add_values(struct pqfile_writer *w, const void *values, size_t count, size_t bytes,
                         bool direct);

/* Writes the page that was collected, if there is one; `values` as for pq_page_write(). Leaves the
 * dictionary if that is too large by now. */
int pq_column_flush(struct pqfile_writer *w, const void *values, struct pqfile_error *error);

/* Starts and ends a chunk: page state on one side, the chunk's totals on the other. */
int pq_column_begin(struct pqfile_writer *w, struct pqfile_error *error);
int pq_column_end(struct pqfile_writer *w, struct pqfile_error *error);

/* ---- writer_page.c ---- */

void pq_runs_add(struct pq_runs *runs, uint8_t value, uint64_t count);

/* Writes the page collected in w->page; values: NULL, or its values when they are not in
 * w->page.values (direct columns). Empties the page. */
int pq_page_write(struct pqfile_writer *w, const void *values, struct pqfile_error *error);

/* Writes the dictionary and the pages that waited for it; the column goes on in PLAIN. */
int pq_page_end_dictionary(struct pqfile_writer *w, struct pqfile_error *error);

#endif
