/* metadata.h: the structs of parquet.thrift as this library keeps them, and their bytes, both ways.
 * metadata_read.c parses, metadata_write.c writes; neither touches a file.
 *
 * The footer is the public struct pqfile_metadata. What stands here besides is what only reader and
 * writer need: page headers, page index, and the head of a bloom filter.
 *
 * Everything read points into memory of the arena given, never into the bytes parsed, with one
 * exception: a page header's statistics, which nobody keeps. */
#ifndef PQFILE_METADATA_H
#define PQFILE_METADATA_H

#include "buffer.h"
#include "memory.h"
#include "pqfile/pqfile.h"

enum {
    PQ_MAGIC_BYTES = 4,      /* "PAR1" at both ends */
    PQ_FOOTER_TAIL = 8,      /* length of the footer as four bytes, magic */
    PQ_VERSION = 2,          /* of FileMetaData, as written */
    PQ_PADDING_FIELD = 1000, /* PageHeader's field that nobody knows; see pq_page_header_write() */
};

extern const char pq_magic[PQ_MAGIC_BYTES];

/* ---- page headers ---- */

enum pq_page_type {
    PQ_PAGE_DATA = 0,
    PQ_PAGE_INDEX = 1, /* in the enum, in no file */
    PQ_PAGE_DICTIONARY = 2,
    PQ_PAGE_DATA_V2 = 3,
};

struct pq_page_header {
    enum pq_page_type type;
    uint32_t raw_bytes;    /* after the header, uncompressed; in version 2 with the levels */
    uint32_t stored_bytes; /* after the header, as in the file */
    bool has_crc;
    uint32_t crc;         /* CRC-32 of the stored bytes */
    uint32_t level_count; /* dictionary pages: entries */
    enum pqfile_encoding encoding;
    enum pqfile_encoding definition_encoding; /* version 1 */
    enum pqfile_encoding repetition_encoding; /* version 1 */
    bool is_sorted;                           /* dictionary pages */
    /* version 2: levels stand first, never compressed, without lengths */
    uint32_t null_count;
    uint32_t row_count;
    uint32_t definition_bytes;
    uint32_t repetition_bytes;
    bool is_compressed; /* version 2 may leave single pages uncompressed; version 1: true */
};

/* Parses one header. *used_out: its length. PQFILE_CORRUPT may also mean that `len` cuts it short:
 * then *short_out is set (may be NULL). */
int pq_page_header_read(const uint8_t *data, size_t len, struct pq_page_header *header_out,
                        size_t *used_out, bool *short_out, struct pqfile_error *error);

/* Appends a header. With alignment > 1, adds the field PQ_PADDING_FIELD, a string of zeros which
 * every reader of thrift skips, so long that `file_offset` (where the header will stand) + its
 * length + `levels_bytes` (what stands before the values) is a multiple of alignment. */
void pq_page_header_write(struct pq_buffer *out, const struct pq_page_header *header,
                          uint64_t file_offset, size_t levels_bytes, uint32_t alignment);

/* ---- footer ---- */

struct pq_metadata_limits {
    uint64_t file_bytes; /* offsets and lengths are checked against it */
    uint32_t node_max;
    uint32_t depth_max;
    uint32_t row_group_max;
};

/* Parses FileMetaData (without length and magic) into `metadata_out`, whose memory comes from the
 * arena. Logical types are completed from converted ones; encrypted files and columns are
 * PQFILE_UNSUPPORTED. */
int pq_metadata_read(const uint8_t *data, size_t len, const struct pq_metadata_limits *limits,
                     struct pq_arena *arena, struct pqfile_metadata *metadata_out,
                     struct pqfile_error *error);

/* Appends FileMetaData. Columns' paths come from the nodes. */
void pq_metadata_write(struct pq_buffer *out, const struct pqfile_metadata *metadata);

/* The ConvertedType that stands for a logical type in older readers' eyes, or
 * PQFILE_CONVERTED_NONE. */
int32_t pq_converted_of(const struct pqfile_logical *logical);

/* ---- page index ---- */

/* Both kinds use the public entries: the offset index fills in or takes offset, stored_bytes and
 * first_row (row_count is the difference to the next, `row_count` of the group ends the last); the
 * column index is_null, min, max, null counts. A column index must have as many entries. */
int pq_offset_index_read(const uint8_t *data, size_t len, uint64_t row_count,
                         struct pq_arena *arena, struct pqfile_page_index_view *view_out,
                         struct pqfile_error *error);
int pq_column_index_read(const uint8_t *data, size_t len, struct pq_arena *arena,
                         struct pqfile_page_index_view *view, struct pqfile_error *error);

void pq_offset_index_write(struct pq_buffer *out, const struct pqfile_page_index_view *view);
void pq_column_index_write(struct pq_buffer *out, const struct pqfile_page_index_view *view);

/* ---- bloom filter ---- */

/* The head before a filter's bits: split block, xxHash64 with seed 0, uncompressed; anything else
 * is PQFILE_UNSUPPORTED. *bits_bytes_out is a multiple of 32. The bits themselves: bloom.h. */
int pq_bloom_header_read(const uint8_t *data, size_t len, uint32_t *bits_bytes_out,
                         size_t *used_out, struct pqfile_error *error);

void pq_bloom_header_write(struct pq_buffer *out, uint32_t bits_bytes);

#endif
