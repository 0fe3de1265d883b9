/* reader_internal.h: what the files of the reader share.
 *
 *   reader.c          opening a file, its footer, reading from the source
 *   reader_walk.c     pages of a column chunk one after the other: headers, bytes, checksums
 *   reader_page.c     one page: decompression, levels, values
 *   reader_cursor.c   rows: batches, rows that span pages, seeking
 *   reader_vectors.c  rows of lists of floats, as a matrix
 *   reader_pages.c    where pages lie
 *   reader_index.c    page index and bloom filters
 *
 * A walker stands on one page of one chunk. It owns all memory that reading pages needs and counts
 * it; a cursor and a page list are walkers with something on top. */
#ifndef PQFILE_READER_INTERNAL_H
#define PQFILE_READER_INTERNAL_H

#include "buffer.h"
#include "memory.h"
#include "metadata.h"
#include "pqfile/reader.h"

struct pqfile_reader {
    struct pqfile_allocator allocator;
    struct pqfile_source source;
    struct pqfile_reader_options options; /* no zeros left */
    struct pq_arena arena;                /* what metadata points to */
    struct pqfile_metadata metadata;
};

/* `len` bytes at `offset`, which must lie within the file: in memory, or read into `scratch`, which
 * has room for them. 0 or PQFILE_IO. */
int pq_source_get(const struct pqfile_reader *reader, uint64_t offset, size_t len, uint8_t *scratch,
                  const uint8_t **data_out);

/* Memory whose contents need not survive growing. */
struct pq_block {
    uint8_t *data;
    size_t capacity;
};

struct pq_walker {
    const struct pqfile_reader *reader;
    const struct pqfile_row_group *group;
    const struct pqfile_chunk *chunk;
    const struct pqfile_node *leaf;
    uint32_t group_index;
    uint32_t column;
    size_t value_size; /* in memory */

    /* between pages */
    uint64_t offset;      /* of the next header */
    uint64_t end;         /* of the chunk */
    uint64_t next_row;    /* the next page's first; repeated columns: rows begun so far */
    uint64_t levels_seen; /* in pages so far */
    bool levels_known;    /* levels_seen means something: no page was jumped over */
    uint32_t next_page;   /* counts data pages, for messages */

    /* the page it stands on; valid after pq_walker_next() */
    struct pq_page_header head;
    uint64_t page_offset;
    uint32_t head_bytes;
    uint32_t page; /* UINT32_MAX: none */

    /* valid after pq_walker_fetch() */
    const uint8_t *stored; /* head.stored_bytes */

    /* valid after pq_page_levels() */
    const uint8_t *definition; /* NULL when definition_max is 0 */
    const uint8_t *repetition; /* NULL when repetition_max is 0 */
    size_t value_count;
    size_t row_count;       /* that begin in the page */
    size_t levels_bytes;    /* of the page before its values; uncompressed */
    const uint8_t *encoded; /* the values; version 2: may still be compressed */
    size_t encoded_len;

    const void *values; /* valid after pq_page_values() */

    bool dictionary_looked; /* the chunk's first page was looked at */
    bool has_dictionary;
    uint32_t dictionary_count;
    const void *dictionary;

    size_t memory_used; /* by the blocks and the buffer */
    struct pq_block head_block, stored_block, raw_block, definition_block, repetition_block;
    struct pq_block values_block, indices_block;
    struct pq_block dictionary_stored_block, dictionary_raw_block, dictionary_block;
    struct pq_buffer text; /* of DELTA_BYTE_ARRAY */
};

/* Checks the arguments and stands before the first page. PQFILE_INVALID: no such column. */
int pq_walker_init(struct pq_walker *w, const struct pqfile_reader *reader, uint32_t row_group,
                   uint32_t column, struct pqfile_error *error);

void pq_walker_dispose(struct pq_walker *w);

/* Back before the first page; what is known of the dictionary stays. */
void pq_walker_rewind(struct pq_walker *w);

/* Goes to the next data page and checks its header. *is_end_out: there is none, and the counts of
 * the chunk were met. Does not touch what comes behind the header. */
int pq_walker_next(struct pq_walker *w, bool *is_end_out, struct pqfile_error *error);

/* After the page: no more pages in this chunk. */
bool pq_walker_at_last(const struct pq_walker *w);

/* Gets the page's bytes and verifies its checksum. */
int pq_walker_fetch(struct pq_walker *w, struct pqfile_error *error);

/* The dictionary's values, if the chunk has one; looks only once. */
int pq_walker_dictionary(struct pq_walker *w, struct pqfile_error *error);

/* Puts "row group 0, column 3 (name), page 2" before the message. */
int pq_walker_place(const struct pq_walker *w, int rc, struct pqfile_error *error);

/* Makes a block hold `bytes`; what was in it is lost. PQFILE_LIMIT: over memory_max. */
int pq_walker_fit(struct pq_walker *w, struct pq_block *block, size_t bytes);

/* Decompresses what must be and decodes the levels of the page fetched. */
int pq_page_levels(struct pq_walker *w, struct pqfile_error *error);

/* Decodes the values, after the levels. */
int pq_page_values(struct pq_walker *w, struct pqfile_error *error);

/* Decodes the entries of a dictionary page, `count` PLAIN values, into w->dictionary. */
int pq_page_dictionary(struct pq_walker *w, const uint8_t *data, size_t len, uint32_t count,
                       struct pqfile_error *error);

/* What stands behind the levels is raw numbers that can be used where they lie. */
bool pq_page_is_in_place(const struct pq_walker *w);

/* For reader_vectors.c: the walker under a cursor; and an error after which only closing is
 * legal. */
const struct pq_walker *pq_cursor_walker(const struct pqfile_cursor *cursor);
int pq_cursor_break(struct pqfile_cursor *cursor, int rc, struct pqfile_error *error);

#endif
