/* writer.h: writes Parquet files into a sink, row group by row group, column by column, page by
 * page.
 *
 * Memory: one page of the column being written, and some 200 bytes a page for the indexes at the
 * end. A dictionary and, until it is complete, the numbers of a chunk's values come on top for
 * columns that ask for one; hashes of a chunk's values or the filter for those that ask for a bloom
 * filter. Full pages of fixed-width PLAIN values without compression go from the caller's memory to
 * the sink: they are read once, for the checksum. The same rows with the same options give the same
 * bytes, however they are split into calls.
 *
 * Calls for each row group: for every column in the schema's order pqfile_write*() any number of
 * times, then pqfile_writer_end_column(); then pqfile_writer_end_row_group(). At last
 * pqfile_writer_finish(). After any error only pqfile_writer_close() is legal.
 *
 *     static const struct pqfile_column_options raw = {.value_alignment = 64,
 *                                                     .no_statistics = true};
 *     static const struct pqfile_field fields[] = {
 *         {.name = "id", .type = PQFILE_BYTE_ARRAY, .logical = {.kind = PQFILE_LOGICAL_STRING}},
 *         {.name = "vector", .repetition = PQFILE_OPTIONAL, .child_count = 1, .list_size = 128,
 *          .logical = {.kind = PQFILE_LOGICAL_LIST}},
 *         {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
 *         {.name = "element", .type = PQFILE_FLOAT, .options = &raw},
 *     };
 *     rc = pqfile_writer_open(fields, 4, &options, &sink, &writer, &error);
 *     rc = pqfile_write(writer, &(struct pqfile_batch){...}, &error);
 *     rc = pqfile_writer_end_column(writer, NULL, &error);
 *     rc = pqfile_write_vectors(writer, vectors, NULL, n, &error);
 *     rc = pqfile_writer_end_column(writer, &chunk, &error);
 *     rc = pqfile_writer_end_row_group(writer, &error);
 *     rc = pqfile_writer_finish(writer, &file_bytes, &error);
 *     pqfile_writer_close(writer);
 */
#ifndef PQFILE_WRITER_H
#define PQFILE_WRITER_H

#include "pqfile/types.h"

/* Where bytes go, in order, from the first of the file. Anything but 0 ends the writing with
 * PQFILE_IO. Pieces may be of a few bytes: buffer them. */
struct pqfile_sink {
    int (*write)(void *context, const void *bytes, size_t len);
    void *context;
};

enum {
    PQFILE_PAGE_BYTES_DEFAULT = 1 << 20,
    PQFILE_PAGE_ROWS_DEFAULT = 1 << 20,
    PQFILE_DICTIONARY_BYTES_DEFAULT = 1 << 20,
    PQFILE_BOUND_BYTES_DEFAULT = 64, /* of a BYTE_ARRAY's min and max; longer ones are cut */
    PQFILE_ALIGNMENT_MAX = 4096,
};

/* How a column is stored. A zeroed struct means all defaults: PLAIN, uncompressed, version 2 pages
 * of 1 MiB, statistics, page index, no bloom filter, no alignment. */
struct pqfile_column_options {
    /* PLAIN; RLE_DICTIONARY (any type but BOOLEAN; goes on as PLAIN once the dictionary is larger
     * than dictionary_bytes); DELTA_BINARY_PACKED (INT32, INT64); BYTE_STREAM_SPLIT (FLOAT,
     * DOUBLE, INT32, INT64, FIXED_LEN_BYTE_ARRAY); RLE (BOOLEAN). */
    enum pqfile_encoding encoding;
    enum pqfile_codec codec;   /* UNCOMPRESSED, SNAPPY, LZ4_RAW, ZSTD */
    int codec_level;           /* ZSTD; 0: the codec's default */
    uint8_t page_version;      /* 1 or 2; 0: 2 */
    uint32_t page_bytes;       /* a page ends with the row that reaches it, uncompressed */
    uint32_t page_rows;        /* or that many rows */
    uint32_t dictionary_bytes; /* PLAIN size of the dictionary */
    uint32_t bound_bytes;
    /* The first value of every page lies on a multiple of this in the file: a power of two up to
     * PQFILE_ALIGNMENT_MAX; 0: anywhere. Only for columns that are `in_place`: PLAIN,
     * uncompressed, of fixed width. */
    uint32_t value_alignment;
    /* Of INT32 with the logical type INTEGER, 8 bits, signed: values are given as int8_t, a byte
     * each, and stored in as many: RLE_DICTIONARY (which `encoding` must be) with a dictionary of
     * all 256 values, in which each value's number has its bits, and one run of numbers a page.
     * Any reader reads INT32. Uncompressed, the run lies `in_place`, and may be aligned. Version 2
     * pages; wants no_statistics and no bloom filter. */
    bool as_bytes;
    bool no_statistics; /* of chunks and in the column index */
    bool no_page_index;
    bool bloom;
    double bloom_fpp;        /* false positives wanted; 0: 0.01 */
    uint64_t bloom_distinct; /* distinct values in a row group; 0: as many as there are values */
};

/* One field of the schema, depth first: a group is followed by its child_count children. Lists are
 * three levels deep: a group with logical LIST, in it a REPEATED group "list", in that
 * "element". */
struct pqfile_field {
    const char *name;
    enum pqfile_repetition repetition;
    uint32_t child_count; /* 0: a column */
    enum pqfile_type type;
    uint32_t type_length;          /* FIXED_LEN_BYTE_ARRAY */
    uint32_t list_size;            /* LIST: every list has that many elements, or is null; 0: any */
    int32_t field_id;              /* 0: none */
    struct pqfile_logical logical; /* the matching ConvertedType is written as well */
    const struct pqfile_column_options *options; /* columns; NULL: those of the writer */
};

/* A zeroed struct means all defaults. */
struct pqfile_writer_options {
    struct pqfile_allocator allocator;
    struct pqfile_column_options column;       /* for fields without options of their own */
    const struct pqfile_key_value *key_values; /* into the footer; copied */
    uint32_t key_value_count;
    bool no_arrow_schema; /* else the key ARROW:schema says what Arrow makes of the fields */
    /* A LIST with a list_size of which a row turned out to be null is called a list, not a
     * fixed_size_list, in ARROW:schema: pyarrow before 26 cannot read the latter with nulls. */
    bool list_when_absent;
    const char *created_by; /* NULL: "ProximaDB pqfile <version>" */
};

/* Where a column chunk came to lie. `pages` lives until the writer is closed. */
struct pqfile_written {
    uint64_t offset;
    uint64_t stored_bytes;
    uint64_t row_count;
    uint64_t level_count;
    uint64_t null_count; /* levels below definition_max */
    uint32_t page_count; /* data pages */
    const struct pqfile_page *pages;
};

struct pqfile_writer;

/* Checks the schema and writes the magic. Everything is copied. 0; PQFILE_INVALID (a schema or
 * options that make no sense; the message names the field); PQFILE_NO_MEMORY; PQFILE_IO. */
int pqfile_writer_open(const struct pqfile_field *fields, size_t field_count,
                       const struct pqfile_writer_options *options, const struct pqfile_sink *sink,
                       struct pqfile_writer **writer_out, struct pqfile_error *error_out);

/* Gives up or ends; releases everything. NULL is legal. */
void pqfile_writer_close(struct pqfile_writer *writer);

/* Bytes given to the sink so far. */
uint64_t pqfile_writer_offset(const struct pqfile_writer *writer);

/* Appends whole rows to the current column. PQFILE_INVALID when counts and levels do not fit the
 * schema. No rows are legal. A BYTE_ARRAY value and a page must stay under 2 GiB: PQFILE_LIMIT. */
int pqfile_write(struct pqfile_writer *writer, const struct pqfile_batch *batch,
                 struct pqfile_error *error_out);

/* Appends rows of an OPTIONAL column that is not nested: `values` has a slot for every row, as in
 * struct pqfile_batch, and those of absent rows are not looked at. present: a bit a row, row i is
 * bit i % 8 of byte i / 8; NULL: all are present. A REQUIRED column is legal if all are. */
int pqfile_write_optional(struct pqfile_writer *writer, const void *values, const uint8_t *present,
                          size_t row_count, struct pqfile_error *error_out);

/* Appends rows of a column whose LIST has a list_size, not within another list, of numbers,
 * booleans or FIXED_LEN_BYTE_ARRAY: row_count x list_size values, row-major, slots of absent rows
 * not looked at; `present` as above, and needs an OPTIONAL list. */
int pqfile_write_vectors(struct pqfile_writer *writer, const void *values, const uint8_t *present,
                         size_t row_count, struct pqfile_error *error_out);

/* The same from rows that lie anywhere: rows[i] points to list_size values, NULL: absent. */
int pqfile_write_vectors_at(struct pqfile_writer *writer, const void *const *rows, size_t row_count,
                            struct pqfile_error *error_out);

/* Writes what is left of the current column and goes on to the next. written_out may be NULL.
 * PQFILE_INVALID: it has not as many rows as the row group's first column. */
int pqfile_writer_end_column(struct pqfile_writer *writer, struct pqfile_written *written_out,
                             struct pqfile_error *error_out);

/* After the last column: writes the row group's bloom filters. PQFILE_INVALID: columns are missing.
 * A row group without rows is legal and left out of the file. */
int pqfile_writer_end_row_group(struct pqfile_writer *writer, struct pqfile_error *error_out);

/* Writes page indexes and the footer. *file_bytes_out (may be NULL): the file's
 * size. Nothing but closing is legal afterwards. */
int pqfile_writer_finish(struct pqfile_writer *writer, uint64_t *file_bytes_out,
                         struct pqfile_error *error_out);

#endif
