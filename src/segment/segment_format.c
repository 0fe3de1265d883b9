/* segment_format.c: header and table of sections of an .index. Byte tables:
 * docs/formats/segment.md. */
#include "segment/segment_format.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"

#include <inttypes.h>

#include "base/no_libc_heap.h"

static const char magic[8] = {'P', 'X', 'D', 'B', 'I', 'D', 'X', '1'};

void segment_header_put(const struct segment_header *header, const struct segment_section *sections,
                        uint8_t *bytes_out)
{
    size_t len = segment_header_bytes(header->section_count);
    memset(bytes_out, 0, len);
    memcpy(bytes_out, magic, sizeof(magic));
    bytes_put_u32(bytes_out + 12, SEGMENT_FORMAT);
    bytes_put_u32(bytes_out + 16, (uint32_t)len);
    bytes_put_u32(bytes_out + 20, header->flags);
    memcpy(bytes_out + 24, header->collection.bytes, sizeof(header->collection.bytes));
    bytes_put_u64(bytes_out + 40, header->number);
    bytes_put_u64(bytes_out + 48, header->row_count);
    bytes_put_u64(bytes_out + 56, header->parquet_bytes);
    bytes_put_u32(bytes_out + 64, header->parquet_crc);
    bytes_put_u32(bytes_out + 68, header->footer_crc);
    bytes_put_u64(bytes_out + 72, header->index_bytes);
    bytes_put_u64(bytes_out + 80, header->hash_seed);
    bytes_put_u64(bytes_out + 88, header->version_min);
    bytes_put_u64(bytes_out + 96, header->version_max);
    bytes_put_u64(bytes_out + 104, (uint64_t)header->expires_min_us);
    bytes_put_u32(bytes_out + 112, header->section_count);
    for (uint32_t i = 0; i < header->section_count; i++) {
        uint8_t *at = bytes_out + SEGMENT_HEADER_BYTES + (size_t)i * SEGMENT_SECTION_BYTES;
        bytes_put_u16(at, sections[i].kind);
        bytes_put_u16(at + 2, sections[i].field);
        bytes_put_u32(at + 4, sections[i].flags);
        bytes_put_u64(at + 8, sections[i].offset);
        bytes_put_u64(at + 16, sections[i].length);
        bytes_put_u32(at + 24, sections[i].crc);
    }
    bytes_put_u32(bytes_out + 8, crc32c(0, bytes_out + 12, len - 12));
}

static void read_header(const uint8_t *bytes, struct segment_header *header)
{
    *header = (struct segment_header){.flags = bytes_get_u32(bytes + 20),
                                      .number = bytes_get_u64(bytes + 40),
                                      .row_count = bytes_get_u64(bytes + 48),
                                      .parquet_bytes = bytes_get_u64(bytes + 56),
                                      .parquet_crc = bytes_get_u32(bytes + 64),
                                      .footer_crc = bytes_get_u32(bytes + 68),
                                      .index_bytes = bytes_get_u64(bytes + 72),
                                      .hash_seed = bytes_get_u64(bytes + 80),
                                      .version_min = bytes_get_u64(bytes + 88),
                                      .version_max = bytes_get_u64(bytes + 96),
                                      .expires_min_us = (int64_t)bytes_get_u64(bytes + 104),
                                      .section_count = bytes_get_u32(bytes + 112)};
    memcpy(header->collection.bytes, bytes + 24, sizeof(header->collection.bytes));
}

int segment_header_get(const uint8_t *bytes, size_t len, struct segment_header *header_out,
                       struct trail *trail)
{
    if (len < SEGMENT_HEADER_BYTES || memcmp(bytes, magic, sizeof(magic)) != 0)
        return trail_add(trail, PDB_DATA_LOSS, "not the index of a segment");
    /* The sum comes before the format: a damaged number must not pass for a newer version's. Every
     * format has its length and its sum at these places. */
    uint32_t header_len = bytes_get_u32(bytes + 16);
    if (header_len < SEGMENT_HEADER_BYTES || header_len > len ||
        bytes_get_u32(bytes + 8) != crc32c(0, bytes + 12, header_len - 12))
        return trail_add(trail, PDB_DATA_LOSS, "header: checksum");
    if (bytes_get_u32(bytes + 12) != SEGMENT_FORMAT)
        return trail_add(trail, PDB_FAILED_PRECONDITION, "written by a newer version: format %u",
                         bytes_get_u32(bytes + 12));
    struct segment_header header;
    read_header(bytes, &header);
    if ((header.flags & SEGMENT_REQUIRED & ~SEGMENT_NARROW) != 0)
        return trail_add(trail, PDB_FAILED_PRECONDITION, "written by a newer version: flags %x",
                         header.flags);
    if (header.section_count > SEGMENT_SECTIONS_MAX ||
        segment_header_bytes(header.section_count) != header_len)
        return trail_add(trail, PDB_DATA_LOSS, "header: %u sections", header.section_count);
    if (header.index_bytes != len)
        return trail_add(trail, PDB_DATA_LOSS, "%zu bytes instead of %" PRIu64, len,
                         header.index_bytes);
    *header_out = header;
    return 0;
}

int segment_section_get(const uint8_t *bytes, const struct segment_header *header, uint32_t i,
                        uint64_t *expected, struct segment_section *section_out,
                        struct trail *trail)
{
    ASSERT(i < header->section_count);
    const uint8_t *at = bytes + SEGMENT_HEADER_BYTES + (size_t)i * SEGMENT_SECTION_BYTES;
    struct segment_section section = {.kind = bytes_get_u16(at),
                                      .field = bytes_get_u16(at + 2),
                                      .flags = bytes_get_u32(at + 4),
                                      .offset = bytes_get_u64(at + 8),
                                      .length = bytes_get_u64(at + 16),
                                      .crc = bytes_get_u32(at + 24)};
    if (section.offset != *expected || section.offset > header->index_bytes ||
        section.length > header->index_bytes - section.offset)
        return trail_add(trail, PDB_DATA_LOSS, "section %u: beyond the file", i);
    uint64_t padded = bytes_align_up(section.length, SEGMENT_ALIGNMENT);
    if (padded > header->index_bytes - section.offset)
        return trail_add(trail, PDB_DATA_LOSS, "section %u: beyond the file", i);
    if (crc32c(0, bytes + section.offset, padded) != section.crc)
        return trail_add(trail, PDB_DATA_LOSS, "section %u (kind %u) at %" PRIu64 ": checksum", i,
                         section.kind, section.offset);
    *expected = section.offset + padded;
    *section_out = section;
    return 0;
}

bool segment_footer_crc(const uint8_t *parquet, size_t len, uint32_t *crc_out,
                        size_t *footer_bytes_out)
{
    enum { TRAILER_BYTES = 8 }; /* the footer's length and "PAR1" */
    if (len < TRAILER_BYTES || memcmp(parquet + len - 4, "PAR1", 4) != 0)
        return false;
    size_t footer_bytes = bytes_get_u32(parquet + len - TRAILER_BYTES);
    if (footer_bytes > len - TRAILER_BYTES)
        return false;
    footer_bytes += TRAILER_BYTES;
    *crc_out = crc32c(0, parquet + len - footer_bytes, footer_bytes);
    if (footer_bytes_out != NULL)
        *footer_bytes_out = footer_bytes;
    return true;
}
