/* types.h: what reader and writer of Parquet files share: errors, memory, and the metadata of a
 * file as plain structs (schema, row groups, column chunks, statistics, page index).
 *
 * Numbers of the enums are those of the format (parquet.thrift of apache/parquet-format 2.10), so
 * nothing is translated. What a reader hands out may be read by everybody and written by nobody,
 * and lives until the reader is closed. Text is pointer and length; names of the schema also end in
 * NUL.
 */
#ifndef PQFILE_TYPES_H
#define PQFILE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PQFILE_OK = 0,
    PQFILE_NO_MEMORY = -1,   /* the allocator returned NULL */
    PQFILE_CORRUPT = -2,     /* the bytes are not valid Parquet, or lie */
    PQFILE_UNSUPPORTED = -3, /* valid, but of a kind that this library does not know */
    PQFILE_LIMIT = -4,       /* larger or deeper than the options or the format allow */
    PQFILE_INVALID = -5,     /* the caller's argument or order of calls is wrong */
    PQFILE_IO = -6,          /* the caller's callback failed */
};

enum { PQFILE_MESSAGE_SIZE = 256 };

/* Why a call failed: one sentence without a newline, its places outermost first
 * ("row group 0, column 3 (vector), page 2: checksum"). Every pointer to one may be NULL. */
struct pqfile_error {
    int code; /* PQFILE_*; what the call returned */
    char message[PQFILE_MESSAGE_SIZE];
};

/* Where memory comes from. Both functions are given or none (malloc, free). `allocate` returns
 * memory aligned as malloc's, or NULL; `release` gets only what `allocate` gave, never NULL. Both
 * must be valid until the last object made with them is closed. */
struct pqfile_allocator {
    void *(*allocate)(void *context, size_t size);
    void (*release)(void *context, void *memory);
    void *context;
};

/* How a leaf's values are stored. */
enum pqfile_type {
    PQFILE_BOOLEAN = 0,
    PQFILE_INT32 = 1,
    PQFILE_INT64 = 2,
    PQFILE_INT96 = 3, /* is read, never written: 12 bytes, little endian */
    PQFILE_FLOAT = 4,
    PQFILE_DOUBLE = 5,
    PQFILE_BYTE_ARRAY = 6,
    PQFILE_FIXED_LEN_BYTE_ARRAY = 7,
};

enum pqfile_repetition {
    PQFILE_REQUIRED = 0,
    PQFILE_OPTIONAL = 1,
    PQFILE_REPEATED = 2,
};

enum pqfile_encoding {
    PQFILE_PLAIN = 0,
    PQFILE_PLAIN_DICTIONARY = 2, /* of old writers; same bytes as RLE_DICTIONARY */
    PQFILE_RLE = 3,
    PQFILE_BIT_PACKED = 4, /* old, levels only; not supported */
    PQFILE_DELTA_BINARY_PACKED = 5,
    PQFILE_DELTA_LENGTH_BYTE_ARRAY = 6, /* is read, never written */
    PQFILE_DELTA_BYTE_ARRAY = 7,        /* is read, never written */
    PQFILE_RLE_DICTIONARY = 8,
    PQFILE_BYTE_STREAM_SPLIT = 9,
};

enum pqfile_codec {
    PQFILE_UNCOMPRESSED = 0,
    PQFILE_SNAPPY = 1,
    PQFILE_GZIP = 2,   /* is read, never written */
    PQFILE_LZO = 3,    /* not supported */
    PQFILE_BROTLI = 4, /* not supported */
    PQFILE_LZ4 = 5,    /* Hadoop's framing; not supported */
    PQFILE_ZSTD = 6,
    PQFILE_LZ4_RAW = 7,
};

/* What values mean. The numbers are the fields of the union LogicalType. */
enum pqfile_logical_kind {
    PQFILE_LOGICAL_NONE = 0,
    PQFILE_LOGICAL_STRING = 1,
    PQFILE_LOGICAL_MAP = 2,
    PQFILE_LOGICAL_LIST = 3,
    PQFILE_LOGICAL_ENUM = 4,
    PQFILE_LOGICAL_DECIMAL = 5,   /* scale, precision */
    PQFILE_LOGICAL_DATE = 6,      /* days since 1970 */
    PQFILE_LOGICAL_TIME = 7,      /* unit, utc */
    PQFILE_LOGICAL_TIMESTAMP = 8, /* unit, utc */
    PQFILE_LOGICAL_INTEGER = 10,  /* bits, is_signed */
    PQFILE_LOGICAL_UNKNOWN = 11,  /* always null */
    PQFILE_LOGICAL_JSON = 12,
    PQFILE_LOGICAL_BSON = 13,
    PQFILE_LOGICAL_UUID = 14,
    PQFILE_LOGICAL_FLOAT16 = 15,
    PQFILE_LOGICAL_OTHER = 100, /* newer than this library: values are read as stored */
};

/* The numbers are the fields of the union TimeUnit. */
enum pqfile_unit {
    PQFILE_MILLIS = 1,
    PQFILE_MICROS = 2,
    PQFILE_NANOS = 3,
};

/* Fields beside `kind` mean something only where the kind's line above names them. A reader fills
 * this in from the older ConvertedType where a file has only that. */
struct pqfile_logical {
    enum pqfile_logical_kind kind;
    enum pqfile_unit unit;
    bool utc; /* adjusted to UTC */
    bool is_signed;
    uint8_t bits; /* 8, 16, 32 or 64 */
    int32_t scale;
    int32_t precision;
};

enum { PQFILE_CONVERTED_NONE = -1 };

/* One value of a BYTE_ARRAY. */
struct pqfile_bytes {
    const uint8_t *data; /* may be NULL when len is 0 */
    size_t len;
};

/* A node of the schema. Nodes stand in one array, depth first, a parent before its children; node 0
 * is the root, which is no field. */
struct pqfile_node {
    const char *name;
    size_t name_len;
    uint32_t parent;                   /* index of a node; 0 for the root itself */
    uint32_t child_count;              /* 0: a leaf, which is a column */
    uint32_t end;                      /* index of the first node after this one and all below it */
    uint32_t column;                   /* leaves: which column; groups: UINT32_MAX */
    enum pqfile_repetition repetition; /* the root: PQFILE_REQUIRED */
    enum pqfile_type type;             /* leaves only */
    uint32_t type_length;              /* bytes a value, FIXED_LEN_BYTE_ARRAY and INT96; else 0 */
    uint16_t definition_max;           /* its own and its parents' optional and repeated nodes */
    uint16_t repetition_max;           /* its own and its parents' repeated nodes */
    bool has_field_id;
    int32_t field_id;
    int32_t converted; /* ConvertedType as in the file, or PQFILE_CONVERTED_NONE */
    struct pqfile_logical logical;
};

/* Smallest and largest are single values in PLAIN bytes (without the length of a BYTE_ARRAY), in
 * the order that the column's type defines; NaN never counts. Present only when the flag says so;
 * the reader drops those whose length does not fit the type, those of INT96, and the old fields of
 * types whose order they got wrong. */
struct pqfile_statistics {
    bool has_min;
    bool has_max;
    bool min_inexact; /* cut short: no value is smaller, but it may be no value */
    bool max_inexact;
    bool has_null_count;
    bool has_distinct_count;
    struct pqfile_bytes min;
    struct pqfile_bytes max;
    uint64_t null_count;
    uint64_t distinct_count;
};

/* One column of one row group. Offsets count from the start of the file; 0 with length 0: absent.
 * The reader has checked that all ranges lie within the file. */
struct pqfile_chunk {
    enum pqfile_codec codec;
    uint32_t encodings;         /* bit 1 << enum pqfile_encoding for every one in use */
    uint64_t level_count;       /* values with nulls and empty lists */
    uint64_t raw_bytes;         /* uncompressed, page headers included */
    uint64_t stored_bytes;      /* as in the file, page headers included */
    uint64_t start;             /* of its first page, of dictionary or data */
    uint64_t data_offset;       /* of its first data page */
    uint64_t dictionary_offset; /* 0: none */
    uint64_t column_index_offset;
    uint64_t offset_index_offset;
    uint32_t column_index_bytes;
    uint32_t offset_index_bytes;
    uint64_t bloom_offset;
    uint32_t bloom_bytes; /* header included; 0 with an offset: older writers do not say */
    bool has_bloom;
    struct pqfile_statistics statistics;
};

struct pqfile_row_group {
    uint64_t row_count;
    uint64_t first_row; /* counted from the start of the file */
    uint64_t raw_bytes;
    uint64_t stored_bytes;
    const struct pqfile_chunk *chunks; /* one a column, in the schema's order */
};

struct pqfile_key_value {
    struct pqfile_bytes key;
    struct pqfile_bytes value;
    bool has_value;
};

/* The footer of a file. */
struct pqfile_metadata {
    int32_t version;
    uint64_t row_count;
    struct pqfile_bytes created_by;
    const struct pqfile_node *nodes;
    uint32_t node_count; /* with the root */
    uint32_t column_count;
    const uint32_t *columns; /* index of every column's leaf in `nodes` */
    uint32_t row_group_count;
    uint32_t key_value_count;
    const struct pqfile_row_group *row_groups;
    const struct pqfile_key_value *key_values;
};

/* Values of one column, for reading and for writing alike: whole rows, with the levels of the
 * format (Dremel's). What one reader gives, one writer takes.
 *
 * `values` has value_count values without gaps, nulls have none:
 *     BOOLEAN                one byte each, 0 or 1
 *     INT32, INT64           int32_t, int64_t       FLOAT, DOUBLE   float, double
 *     BYTE_ARRAY             struct pqfile_bytes
 *     FIXED_LEN_BYTE_ARRAY   type_length bytes each; INT96: 12
 * Numbers are aligned as their type. */
struct pqfile_batch {
    size_t row_count;
    size_t level_count; /* row_count when the column is not repeated */
    size_t value_count; /* levels equal to definition_max; level_count when that is 0 */
    /* level_count each; a repetition of 0 begins a row. Where definition_max or repetition_max is
     * 0, a reader gives NULL and a writer does not look. */
    const uint8_t *definition;
    const uint8_t *repetition;
    const void *values;
};

/* One data page. The values of a page `in_place` are raw numbers in the file (PLAIN, uncompressed,
 * of fixed width, not BOOLEAN): value i lies at values_offset + i * width, little endian. */
struct pqfile_page {
    uint64_t offset; /* of its header, from the start of the file */
    uint32_t header_bytes;
    uint32_t stored_bytes; /* after the header, as in the file */
    uint32_t raw_bytes;    /* after the header, uncompressed */
    uint32_t row_count;    /* rows that begin in it */
    uint64_t first_row;    /* counted from the start of the row group */
    uint32_t level_count;
    uint32_t value_count; /* levels less nulls and empty lists: what is stored */
    enum pqfile_encoding encoding;
    uint8_t version; /* of the page header: 1 or 2 */
    bool in_place;
    /* RLE_DICTIONARY, uncompressed, one run of numbers of 8 bits: value i has the number that is
     * byte i from values_offset on. Whether the dictionary is that of a column written `as_bytes`
     * is not looked at. */
    bool numbers_in_place;
    uint64_t values_offset; /* in the file; 0 unless one of both */
};

/* "INT64", "ZSTD", "RLE_DICTIONARY", "corrupt file"; static text for messages, never NULL. */
const char *pqfile_type_name(enum pqfile_type type);
const char *pqfile_codec_name(enum pqfile_codec codec);
const char *pqfile_encoding_name(enum pqfile_encoding encoding);
const char *pqfile_code_text(int code);

/* Bytes of one value in memory and, but for BOOLEAN and BYTE_ARRAY, in a PLAIN page. `type_length`
 * counts for FIXED_LEN_BYTE_ARRAY. BYTE_ARRAY: sizeof(struct pqfile_bytes). */
size_t pqfile_value_size(enum pqfile_type type, uint32_t type_length);

#endif
