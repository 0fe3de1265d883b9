/* The .index file as bytes: its header and its table of sections (docs/formats/segment.md). Pure.
 *
 *     header, table of sections, zeros   one checksum, up to a multiple of 64 bytes
 *     section, zeros                     one checksum each, on multiples of 64 bytes, in the order
 *     section, zeros                     of the table, without gaps
 *
 * The sums include the zeros, so that each byte of the file is under one. */
#ifndef SEGMENT_SEGMENT_FORMAT_H
#define SEGMENT_SEGMENT_FORMAT_H

#include "base/trail.h"
#include "base/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SEGMENT_FORMAT = 1,
    SEGMENT_FORMAT_NARROW = 2, /* of a Parquet file with vectors that are not float32 */
    SEGMENT_ALIGNMENT = 64,
    SEGMENT_HEADER_BYTES = 128,
    SEGMENT_SECTION_BYTES = 32,
    SEGMENT_SECTIONS_MAX = 4096,
};

/* Numbers are never used again. */
enum segment_section_kind {
    SEGMENT_FIELDS = 1,
    SEGMENT_ID_OFFSETS = 2,
    SEGMENT_ID_BYTES = 3,
    SEGMENT_ID_HASH = 4,
    SEGMENT_VERSIONS = 5,
    SEGMENT_CREATED = 6,
    SEGMENT_UPDATED = 7, /* absent: the same as SEGMENT_CREATED */
    SEGMENT_EXPIRES = 8, /* absent: no row expires */
    SEGMENT_DOC_OFFSETS = 9,
    SEGMENT_DOC_BYTES = 10,
    /* of a vector field: */
    SEGMENT_PRESENT = 16, /* absent: every row has a vector */
    SEGMENT_RANKS = 17,
    SEGMENT_INVERSE_NORMS = 18,
    SEGMENT_VECTOR_PAGES = 19,
    SEGMENT_KIND_COUNT = 20, /* kinds known here are below */
};

enum { SEGMENT_WIDE = 1 }; /* flag of a section: offsets of 8 bytes instead of 4 */
/* Flags of sections and of the header: a reader that does not know one of these must refuse. */
#define SEGMENT_REQUIRED 0xffff0000u
/* Of the header: a field's vectors are not float32. */
#define SEGMENT_NARROW 0x00010000u

struct segment_section {
    uint16_t kind; /* enum segment_section_kind, or newer */
    uint16_t field;
    uint32_t flags;
    uint64_t offset, length; /* without the zeros behind it */
    uint32_t crc;            /* with them */
};

/* One entry of SEGMENT_FIELDS, as on disk. */
struct segment_field_entry {
    uint32_t dimension;
    uint32_t metric; /* enum pdb_metric */
    uint32_t bytes;  /* of one vector */
    uint32_t vector_count;
    uint32_t page_count;
    uint32_t in_place; /* 1: pages name offsets in the Parquet file; 0: they are compressed */
    uint32_t element;  /* enum pdb_element_type; not 0: SEGMENT_NARROW is set */
    uint32_t zero;
};
_Static_assert(sizeof(struct segment_field_entry) == 32, "on disk");

struct segment_header {
    uint32_t flags;
    struct uuid collection;
    uint64_t number, row_count;
    uint64_t parquet_bytes;
    uint32_t parquet_crc; /* of the whole file */
    uint32_t footer_crc;  /* of its footer, the length and the magic behind it included */
    uint64_t index_bytes;
    uint64_t hash_seed;
    uint64_t version_min, version_max;
    int64_t expires_min_us;
    uint32_t section_count;
};

/* Bytes of header and table, zeros included: where the first section begins. */
static inline size_t segment_header_bytes(uint32_t section_count)
{
    size_t bytes = SEGMENT_HEADER_BYTES + (size_t)section_count * SEGMENT_SECTION_BYTES;
    return (bytes + SEGMENT_ALIGNMENT - 1) & ~(size_t)(SEGMENT_ALIGNMENT - 1);
}

/* Writes segment_header_bytes(header->section_count) bytes. */
void segment_header_put(const struct segment_header *header, const struct segment_section *sections,
                        uint8_t *bytes_out);
/* Magic, format, checksum, lengths. 0, PDB_DATA_LOSS, or PDB_FAILED_PRECONDITION: written by a
 * newer version; the trail says what. */
int segment_header_get(const uint8_t *bytes, size_t len, struct segment_header *header_out,
                       struct trail *trail);
/* Entry i of the table of a header that was accepted, its place and its checksum compared:
 * *expected is where it must begin (at first segment_header_bytes) and moves behind it. Errors as
 * above. */
int segment_section_get(const uint8_t *bytes, const struct segment_header *header, uint32_t i,
                        uint64_t *expected, struct segment_section *section_out,
                        struct trail *trail);

/* The sum of a Parquet file's footer; *footer_bytes_out (may be NULL): its bytes with length and
 * magic. False: there is none. */
bool segment_footer_crc(const uint8_t *parquet, size_t len, uint32_t *crc_out,
                        size_t *footer_bytes_out);

#endif
