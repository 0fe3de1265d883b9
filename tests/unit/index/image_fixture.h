/* Images of indexes, opened and mended: what the tests of images share. */
#ifndef IMAGE_FIXTURE_H
#define IMAGE_FIXTURE_H

#include "index_fixture.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "index/image.h"

struct image {
    uint8_t *bytes;
    size_t length;
};

static inline struct image image_of(const struct index *index)
{
    static struct index_image_plan plan;
    struct image image = {0};
    void *memory = NULL;
    index_image_plan(index, &plan);
    assert_int_equal(plan.image_bytes % INDEX_IMAGE_ALIGNMENT, 0);
    assert_int_equal(posix_memalign(&memory, INDEX_IMAGE_ALIGNMENT, plan.image_bytes), 0);
    image.bytes = memory;
    image.length = plan.image_bytes;
    index_image_write(&plan, image.bytes);
    return image;
}

/* Opens in steps of `budget` bytes. */
static inline int open_image(const struct image *image, size_t budget, struct heap *heap,
                             struct index *index_out)
{
    struct index_image_reader reader;
    struct trail trail = {0};
    int rc = index_image_open(&reader, image->bytes, image->length, &trail);
    while (rc == 0 && (rc = index_image_step(&reader, budget, &trail)) == 1)
        rc = 0;
    assert_true(rc == 0 || trail.len > 0);
    assert_int_equal(trail.code, rc);
    return rc < 0 ? rc : index_image_finish(&reader, heap, index_out);
}

static inline void seal(struct image *image)
{
    size_t head = bytes_get_u32(image->bytes + 16);
    bytes_put_u32(image->bytes + 8, crc32c(0, image->bytes + 12, head - 12));
}

/* Makes the checksums right again. */
static inline void mend(struct image *image)
{
    size_t head = bytes_get_u32(image->bytes + 16);
    uint32_t sections = bytes_get_u32(image->bytes + 32);
    for (uint32_t i = 0; i < sections; i++) {
        uint8_t *at =
            image->bytes + INDEX_IMAGE_HEADER_BYTES + (size_t)i * INDEX_IMAGE_SECTION_BYTES;
        uint64_t offset = bytes_get_u64(at + 8);
        size_t padded = bytes_align_up(bytes_get_u64(at + 16), INDEX_IMAGE_ALIGNMENT);
        if (offset >= head && offset <= image->length && padded <= image->length - offset)
            bytes_put_u32(at + 24, crc32c(0, image->bytes + offset, padded));
    }
    seal(image);
}

static inline uint8_t *section_of(const struct image *image, enum index_image_kind kind,
                                  uint32_t level)
{
    uint32_t sections = bytes_get_u32(image->bytes + 32);
    for (uint32_t i = 0; i < sections; i++) {
        uint8_t *at =
            image->bytes + INDEX_IMAGE_HEADER_BYTES + (size_t)i * INDEX_IMAGE_SECTION_BYTES;
        if (bytes_get_u16(at) == (uint16_t)kind && bytes_get_u16(at + 2) == level)
            return at;
    }
    fail();
    return NULL;
}

static inline uint8_t *contents_of(const struct image *image, enum index_image_kind kind,
                                   uint32_t level)
{
    return image->bytes + bytes_get_u64(section_of(image, kind, level) + 8);
}

static inline void assert_same_answers(const struct index *a, const struct index *b)
{
    struct data queries = data_clustered(20, a->quantizer.dimension, 12, 1, 1, false);
    const struct index *both[] = {a, b};
    struct index_candidate found[2][HITS_MAX];
    struct heap heap = {0};
    struct index_scratch *scratch = NULL;
    assert_int_equal(
        index_scratch_open(&heap, a->codes.row_count, a->quantizer.dimension, &scratch), PDB_OK);
    for (uint32_t i = 0; i < queries.count; i++) {
        uint32_t count[2];
        for (int j = 0; j < 2; j++) {
            struct index_search search;
            struct index_query query = {.vector = vector_of(&queries, i), .k = 10, .gamma = -1};
            index_search_begin(&search, scratch, both[j], &query);
            while (!index_search_step(&search, 1000))
                ;
            count[j] = index_search_end(&search, found[j]);
        }
        assert_int_equal(count[0], count[1]);
        assert_memory_equal(found[0], found[1], count[0] * sizeof found[0][0]);
    }
    index_scratch_close(scratch, &heap);
    data_free(&queries);
}

#endif
