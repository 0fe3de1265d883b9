/* Arbitrary bytes as the image of an index: opening must end with an answer, and what opens must be
 * searched without leaving the image, with any mask of rows.
 *
 * Checksums would keep the fuzzer at the door, so unless the first byte says otherwise they are
 * made right first: what lies behind is taken at its word. The second byte chooses the query. */
#include "base/bytes.h"
#include "base/crc32c.h"
#include "index/image.h"
#include "index/search.h"

#include <stdlib.h>

enum { LEN_MAX = 64 << 10, RAW = 1, BUDGET = 512, DIMENSION_MAX = 4096 };

static void mend(uint8_t *bytes, size_t len)
{
    size_t head = bytes_get_u32(bytes + 16);
    if (head < INDEX_IMAGE_HEADER_BYTES || head > len)
        return;
    size_t count = (head - INDEX_IMAGE_HEADER_BYTES) / INDEX_IMAGE_SECTION_BYTES;
    bytes_put_u64(bytes + 24, len);
    for (size_t i = 0; i < count; i++) {
        uint8_t *at = bytes + INDEX_IMAGE_HEADER_BYTES + i * INDEX_IMAGE_SECTION_BYTES;
        uint64_t offset = bytes_get_u64(at + 8), length = bytes_get_u64(at + 16);
        if (offset < head || offset > len || length > len - offset ||
            bytes_align_up(length, INDEX_IMAGE_ALIGNMENT) > len - offset)
            continue;
        bytes_put_u32(at + 24,
                      crc32c(0, bytes + offset, bytes_align_up(length, INDEX_IMAGE_ALIGNMENT)));
    }
    bytes_put_u32(bytes + 8, crc32c(0, bytes + 12, head - 12));
}

static void search_it(const struct index *index, uint8_t choice)
{
    static float vector[DIMENSION_MAX];
    static uint64_t mask[LEN_MAX / 64 + 1];
    static struct index_candidate candidates[INDEX_WANT_MAX];
    static struct index_scratch *scratch;
    struct index_search search;
    if (scratch == NULL && index_scratch_open(NULL, LEN_MAX, DIMENSION_MAX, &scratch) < 0)
        return;
    if (!index_scratch_fits(scratch, index))
        return;
    for (uint32_t i = 0; i < DIMENSION_MAX; i++)
        vector[i] = (float)((i * 37 + choice) % 19) - 9.0f;
    memset(mask, 0x5a + choice % 3, sizeof mask);
    struct index_query query = {
        .vector = vector,
        .k = 1 + choice % 40,
        .gamma = choice % 2 == 0 ? -1.0f : 0.0f,
        .dead = choice % 5 == 0 ? mask : NULL,
        .allowed = choice % 7 == 0 ? mask : NULL,
    };
    index_search_begin(&search, scratch, index, &query);
    while (!index_search_step(&search, 64))
        ;
    uint32_t count = index_search_end(&search, candidates);
    for (uint32_t i = 0; i < count; i++)
        if (candidates[i].row >= index->codes.row_count)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 + INDEX_IMAGE_HEADER_BYTES || size - 2 > LEN_MAX)
        return 0;
    const size_t len = size - 2;
    uint8_t *bytes = NULL;
    struct index_image_reader reader;
    struct trail trail = {0};
    struct heap heap = {0};
    struct index index;
    bytes = heap_alloc_aligned(&heap, INDEX_IMAGE_ALIGNMENT, len);
    if (bytes == NULL)
        return 0;
    memcpy(bytes, data + 2, len);
    if ((data[0] & RAW) == 0)
        mend(bytes, len);
    int rc = index_image_open(&reader, bytes, len, &trail);
    while (rc == 0 && (rc = index_image_step(&reader, BUDGET, &trail)) == 1)
        rc = 0;
    if (rc == 0 && index_image_finish(&reader, &heap, &index) == 0) {
        search_it(&index, data[1]);
        index_dispose(&index, &heap);
    }
    heap_free(&heap, bytes);
    if (heap.bytes_used != 0)
        abort();
    return 0;
}
