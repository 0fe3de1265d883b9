/* What writing and reading an image share. */
#ifndef INDEX_IMAGE_INTERNAL_H
#define INDEX_IMAGE_INTERNAL_H

#include "index/image.h"

extern const char index_image_magic[8];

/* One line of the table. */
struct section {
    uint32_t kind, level, flags;
    uint64_t offset, length, padded;
    uint32_t crc;
};

/* What is written, in order. */
struct table {
    struct index_image_plan *plan;
    uint16_t kinds[INDEX_IMAGE_PARTS_MAX], levels[INDEX_IMAGE_PARTS_MAX];
};

void image_add(struct table *table, enum index_image_kind kind, uint32_t level, const void *bytes,
               size_t length);

/* quantize_shape() for codes as the image's format has them. */
void image_shape(const struct index_image_reader *reader, struct quantizer *quantizer);

/* Numbers `from` to `to` of an array. */
bool image_finite(const float *values, uint64_t from, uint64_t to);

/* ---- codebook and lists: image_lists.c ---- */

void image_add_lists(struct table *table, const struct index *index);
void image_put_lists(const struct index *index, uint8_t *header);

/* The header's say about them. PDB_DATA_LOSS with a trail. */
int image_read_lists(struct index_image_reader *reader, struct trail *trail);
/* The kind of the section that follows one of these; 0 is before the first, and behind the last. */
uint32_t image_next_list_kind(const struct index_image_reader *reader, uint32_t kind);
static inline bool image_is_list_kind(uint32_t kind)
{
    return kind >= INDEX_IMAGE_CODEBOOK && kind <= INDEX_IMAGE_PLACES;
}
/* Takes the section's array; the length that it must have. */
uint64_t image_take_list_section(struct index_image_reader *reader, uint32_t kind, void *array);
/* Whether 4-byte numbers `from` to `to` of it can be. Called in order, for each section once. */
bool image_lists_are_sound(struct index_image_reader *reader, const struct section *section,
                           uint64_t from, uint64_t to);

#endif
