/* Arbitrary bytes as the .index of a sound Parquet file: opening, reading every row and checking
 * must end with an answer.
 *
 * Checksums would keep the fuzzer at the door, so unless the first byte says otherwise they are
 * made right first, and the header names this segment: what lies behind is taken at its word. */
#include "segment_made.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "segment/segment_format.h"

enum { LEN_MAX = 64 << 10, RAW = 1 };

static void mend(uint8_t *bytes, size_t len, const struct buffer *parquet,
                 const struct buffer *index)
{
    size_t header_bytes = bytes_get_u32(bytes + 16);
    memcpy(bytes, index->ptr, 12);
    bytes_put_u32(bytes + 12, SEGMENT_FORMAT);
    memcpy(bytes + 24, index->ptr + 24, 24); /* collection and number */
    memcpy(bytes + 56, index->ptr + 56, 16); /* the Parquet file */
    bytes_put_u64(bytes + 72, len);
    if (header_bytes < SEGMENT_HEADER_BYTES || header_bytes > len || parquet->len == 0)
        return;
    size_t count = (header_bytes - SEGMENT_HEADER_BYTES) / SEGMENT_SECTION_BYTES;
    for (size_t i = 0; i < count; i++) {
        uint8_t *at = bytes + SEGMENT_HEADER_BYTES + i * SEGMENT_SECTION_BYTES;
        uint64_t offset = bytes_get_u64(at + 8), length = bytes_get_u64(at + 16);
        if (offset < header_bytes || offset > len || length > len - offset ||
            bytes_align_up(length, SEGMENT_ALIGNMENT) > len - offset)
            continue;
        bytes_put_u32(at + 24,
                      crc32c(0, bytes + offset, bytes_align_up(length, SEGMENT_ALIGNMENT)));
    }
    bytes_put_u32(bytes + 8, crc32c(0, bytes + 12, header_bytes - 12));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct buffer parquet, index;
    if (parquet.len == 0)
        made_segment(true, &parquet, &index);
    if (size < 1 + SEGMENT_HEADER_BYTES || size - 1 > LEN_MAX)
        return 0;
    size_t len = size - 1;
    uint8_t *bytes = aligned_alloc(SEGMENT_ALIGNMENT, bytes_align_up(len, SEGMENT_ALIGNMENT));
    if (bytes == NULL)
        return 0;
    memcpy(bytes, data + 1, len);
    if ((data[0] & RAW) == 0)
        mend(bytes, len, &parquet, &index);
    struct segment *s = NULL;
    bool index_bad = false;
    struct trail trail = {0};
    struct segment_open_options options = {.schema = made_schema(true),
                                           .parquet = {(const uint8_t *)parquet.ptr, parquet.len},
                                           .index = {bytes, len}};
    int rc = segment_open(&options, &s, &index_bad, &trail);
    if (rc < 0 && trail.len == 0)
        abort(); /* every refusal says why */
    if (rc == 0)
        made_read_all(s);
    segment_free(s);
    free(bytes);
    return 0;
}
