/* The numbers of the manifest's format that writer and reader share: docs/formats/manifest.md. */
#ifndef ENGINE_MANIFEST_FORMAT_H
#define ENGINE_MANIFEST_FORMAT_H

#include "base/bytes.h"
#include "base/crc32c.h"

enum {
    MANIFEST_FORMAT_VERSION = 1,
    MANIFEST_AT_VERSION = 8,
    MANIFEST_AT_HEADER_LEN = 12,
    MANIFEST_AT_NUMBER = 16,
    MANIFEST_AT_WRITTEN_AT = 24,
    MANIFEST_AT_FILE_LEN = 32,
    MANIFEST_AT_SECTION_COUNT = 40,
    MANIFEST_AT_SHARD = 44,
    MANIFEST_AT_COLLECTION = 48,
    MANIFEST_AT_CRC = 76,
    MANIFEST_HEADER_BYTES = 80,
};

enum {
    MANIFEST_SECTION_AT_TYPE = 0,
    MANIFEST_SECTION_AT_FLAGS = 4,
    MANIFEST_SECTION_AT_LEN = 8,
    MANIFEST_SECTION_AT_NUMBER = 16,
    MANIFEST_SECTION_AT_CONTENT_CRC = 24,
    MANIFEST_SECTION_AT_CRC = 28,
    MANIFEST_SECTION_BYTES = 32,
};

enum manifest_section_type {
    MANIFEST_SECTION_STATE = 1,
    MANIFEST_SECTION_SEGMENTS = 2,
    MANIFEST_SECTION_ENDED = 3,
    MANIFEST_SECTION_REQUESTS = 4,
};

enum manifest_section_flags {
    MANIFEST_SECTION_MANDATORY = 1, /* a reader that does not know the type must refuse the file */
};

enum {
    MANIFEST_STATE_BYTES = 24,
    MANIFEST_SEGMENT_BYTES = 68, /* without the length before it */
    MANIFEST_SEGMENT_ORIGIN_BYTES = MANIFEST_SEGMENT_BYTES + 16,
    MANIFEST_REQUEST_BYTES = 40,
};

#define MANIFEST_MAGIC "PDBMNFST"

/* What the sums of one manifest's sections start from: a section of another one, or of another
 * version of this file, does not fit. */
static inline uint32_t manifest_seed(uint64_t number)
{
    uint8_t bytes[8];
    bytes_put_u64(bytes, number);
    return crc32c(0, bytes, sizeof(bytes));
}

#endif
