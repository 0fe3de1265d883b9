/* Arbitrary bytes as a manifest: an answer, and what is accepted can be walked.
 *
 * Input: a byte of choices, then the file. Checksums would keep the fuzzer at the door, so unless
 * the choice says otherwise they are made right first: the header, and each section that has a
 * plausible length. */
#include "engine/manifest.h"
#include "engine/manifest_format.h"

#include <stdlib.h>

enum { LEN_MAX = 64 << 10, RAW = 1 };

static void mend(uint8_t *bytes, size_t len)
{
    uint32_t count = 0;
    if (len < MANIFEST_HEADER_BYTES)
        return;
    uint64_t number = bytes_get_u64(bytes + MANIFEST_AT_NUMBER);
    for (size_t at = MANIFEST_HEADER_BYTES; len - at >= MANIFEST_SECTION_BYTES; count++) {
        uint8_t *header = bytes + at;
        size_t left = len - at - MANIFEST_SECTION_BYTES;
        uint64_t content_len = bytes_get_u64(header + MANIFEST_SECTION_AT_LEN);
        if (content_len > left) {
            content_len = left;
            bytes_put_u64(header + MANIFEST_SECTION_AT_LEN, left);
        }
        bytes_put_u32(
            header + MANIFEST_SECTION_AT_CONTENT_CRC,
            crc32c(manifest_seed(number), header + MANIFEST_SECTION_BYTES, (size_t)content_len));
        bytes_put_u32(header + MANIFEST_SECTION_AT_CRC,
                      crc32c(manifest_seed(number), header, MANIFEST_SECTION_AT_CRC));
        at += MANIFEST_SECTION_BYTES + (size_t)content_len;
    }
    memcpy(bytes, MANIFEST_MAGIC, 8);
    bytes_put_u32(bytes + MANIFEST_AT_VERSION, MANIFEST_FORMAT_VERSION);
    bytes_put_u32(bytes + MANIFEST_AT_HEADER_LEN, MANIFEST_HEADER_BYTES);
    bytes_put_u64(bytes + MANIFEST_AT_FILE_LEN, len);
    bytes_put_u32(bytes + MANIFEST_AT_SECTION_COUNT, count);
    bytes_put_u32(bytes + MANIFEST_AT_CRC, crc32c(0, bytes, MANIFEST_AT_CRC));
}

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void walk(const struct manifest *m)
{
    for (uint32_t i = 0; i < m->segment_count; i++) {
        const struct manifest_segment *segment = &m->segments[i];
        struct manifest_ended ended;
        uint32_t row, count = 0;
        uint64_t ended_at, next = 0;
        must(segment->rows >= 1 && segment->rows <= SEGMENT_ROWS_MAX);
        must(segment->number < m->next_segment);
        manifest_ended_begin(segment, &ended);
        for (; manifest_ended_next(&ended, &row, &ended_at); count++, next = (uint64_t)row + 1)
            must(row >= next && row < segment->rows && ended_at <= MANIFEST_VERSION_MAX);
        must(count == segment->ended_count);
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->request_count; i++) {
        struct manifest_request request;
        manifest_request_at(m, i, &request);
        sum += request.version;
    }
    must(sum != 1 || m->request_count != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size - 1 > LEN_MAX)
        return 0;
    size_t len = size - 1;
    uint8_t *bytes = malloc(len != 0 ? len : 1); /* exactly as long, for the address sanitizer */
    must(bytes != NULL);
    memcpy(bytes, data + 1, len);
    if ((data[0] & RAW) == 0)
        mend(bytes, len);
    struct arena arena;
    struct manifest m;
    struct trail trail = {0};
    arena_init(&arena, 8 << 20);
    int rc = manifest_decode(bytes, len, &arena, &m, &trail);
    must(rc == 0 || trail.len != 0); /* every refusal says why */
    if (rc == 0)
        walk(&m);
    arena_dispose(&arena);
    free(bytes);
    return 0;
}
