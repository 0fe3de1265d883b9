/* image_lists.c: the sections of a codebook and of lists, written and read.
 *
 * Lists are sound when the groups' and the lists' first numbers ascend from nothing to all of them,
 * and rows lie in range and ascend within each list. That every row has one place is not proved
 * (it would take a bit for each); the sum of all rows is compared, which finds any one mistake. */
#include "base/bytes.h"
#include "index/image_internal.h"
#include "index/pq.h"

#include <math.h>
#include <proximadb/error.h>

#include "base/no_libc_heap.h"

/* In the header. */
enum { LIST_COUNT = 96, GROUP_COUNT = 100, PART_COLUMNS = 104, SCALE = 108, NORM_MAX = 112 };

/* ---- writing ---- */

static size_t first_bytes(uint32_t count)
{
    return ((size_t)count + 1) * sizeof(uint32_t);
}

void image_add_lists(struct table *table, const struct index *index)
{
    const struct ivf *ivf = &index->ivf;
    const struct quantizer *coarse = &ivf->quantizer;
    if (index->quantizer.kind == QUANTIZE_PQ)
        image_add(table, INDEX_IMAGE_CODEBOOK, 0, index->quantizer.codebook,
                  pq_codebook_bytes(&index->quantizer));
    if (!index->has_lists)
        return;
    const uint32_t all = ivf->centroids.row_count;
    image_add(table, INDEX_IMAGE_LIST_MEAN, 0, coarse->mean, coarse->columns * sizeof(float));
    image_add(table, INDEX_IMAGE_CENTROIDS, 0, ivf->centroids.bytes,
              quantize_codes_bytes(coarse, all));
    image_add(table, INDEX_IMAGE_CENTROID_NORMS, 0, ivf->centroids.norms,
              quantize_sums_bytes(coarse, all));
    image_add(table, INDEX_IMAGE_GROUPS, 0, ivf->groups, first_bytes(ivf->group_count));
    image_add(table, INDEX_IMAGE_LISTS, 0, ivf->lists, first_bytes(ivf->list_count));
    image_add(table, INDEX_IMAGE_PLACES, 0, ivf->rows,
              (size_t)index->codes.row_count * sizeof(uint32_t));
}

void image_put_lists(const struct index *index, uint8_t *header)
{
    const struct ivf *ivf = &index->ivf;
    bytes_put_u32(header + PART_COLUMNS, index->quantizer.part_columns);
    if (!index->has_lists)
        return;
    bytes_put_u32(header + LIST_COUNT, ivf->list_count);
    bytes_put_u32(header + GROUP_COUNT, ivf->group_count);
    memcpy(header + SCALE, &ivf->quantizer.scale, sizeof(float));
    memcpy(header + NORM_MAX, &ivf->quantizer.norm_max, sizeof(float));
}

/* ---- reading ---- */

static int damaged(struct trail *trail, const char *what)
{
    return trail_add(trail, PDB_DATA_LOSS, "index image: %s", what);
}

int image_read_lists(struct index_image_reader *reader, struct trail *trail)
{
    const uint8_t *at = reader->bytes;
    struct ivf *ivf = &reader->index.ivf;
    struct quantizer *coarse = &ivf->quantizer;
    const bool lists = (bytes_get_u32(at + 20) & INDEX_IMAGE_WITH_LISTS) != 0;
    reader->index.has_lists = lists;
    if (!lists)
        return PDB_OK;
    ivf->list_count = bytes_get_u32(at + LIST_COUNT);
    ivf->group_count = bytes_get_u32(at + GROUP_COUNT);
    if (ivf->list_count == 0 || ivf->list_count > IVF_LISTS_MAX || ivf->group_count == 0 ||
        ivf->group_count > IVF_GROUPS_MAX || ivf->list_count > reader->row_count ||
        reader->index.has_graph)
        return damaged(trail, "number of lists");
    coarse->kind = QUANTIZE_SQ8;
    coarse->metric = ivf_metric_of(reader->index.quantizer.metric);
    coarse->dimension = reader->index.quantizer.dimension;
    image_shape(reader, coarse);
    memcpy(&coarse->scale, at + SCALE, sizeof(float));
    memcpy(&coarse->norm_max, at + NORM_MAX, sizeof(float));
    if (!isfinite(coarse->scale) || !(coarse->scale > 0) || !isfinite(coarse->norm_max))
        return damaged(trail, "scale of the lists");
    ivf->centroids.row_count = ivf->list_count + ivf->group_count;
    return PDB_OK;
}

uint32_t image_next_list_kind(const struct index_image_reader *reader, uint32_t kind)
{
    const struct index *index = &reader->index;
    if (kind == 0 && index->quantizer.kind == QUANTIZE_PQ)
        return INDEX_IMAGE_CODEBOOK;
    if (kind == 0 || kind == INDEX_IMAGE_CODEBOOK)
        return index->has_lists ? INDEX_IMAGE_LIST_MEAN : 0;
    return kind < INDEX_IMAGE_PLACES ? kind + 1 : 0;
}

uint64_t image_take_list_section(struct index_image_reader *reader, uint32_t kind, void *array)
{
    struct ivf *ivf = &reader->index.ivf;
    const struct quantizer *coarse = &ivf->quantizer;
    const uint32_t all = ivf->centroids.row_count;
    switch (kind) {
    case INDEX_IMAGE_CODEBOOK:
        reader->codebook = array;
        return pq_codebook_bytes(&reader->index.quantizer);
    case INDEX_IMAGE_LIST_MEAN:
        reader->list_mean = array;
        return coarse->columns * sizeof(float);
    case INDEX_IMAGE_CENTROIDS:
        ivf->centroids.bytes = array;
        return quantize_codes_bytes(coarse, all);
    case INDEX_IMAGE_CENTROID_NORMS:
        ivf->centroids.norms = array;
        return quantize_sums_bytes(coarse, all);
    case INDEX_IMAGE_GROUPS:
        ivf->groups = array;
        return first_bytes(ivf->group_count);
    case INDEX_IMAGE_LISTS:
        ivf->lists = array;
        return first_bytes(ivf->list_count);
    default:
        ivf->rows = array;
        return (uint64_t)reader->row_count * sizeof(uint32_t);
    }
}

/* First numbers, from 0 to `all`, which is the last one's. */
static bool firsts_are_sound(const uint32_t *firsts, uint32_t count, uint32_t all, uint64_t from,
                             uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        if (firsts[i] > all || (i == 0 && firsts[i] != 0) || (i == count && firsts[i] != all))
            return false;
        if (i > 0 && firsts[i] < firsts[i - 1])
            return false;
    }
    return true;
}

/* The list that a place is in: the last one that begins no later. */
static uint32_t list_at(const struct ivf *ivf, uint64_t place)
{
    uint32_t low = 0, high = ivf->list_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (ivf->lists[middle] <= place)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static bool places_are_sound(struct index_image_reader *reader, uint64_t from, uint64_t to)
{
    const struct ivf *ivf = &reader->index.ivf;
    const uint64_t row_count = reader->row_count;
    uint32_t list = list_at(ivf, from);
    for (uint64_t place = from; place < to; place++) {
        while (list < ivf->list_count && ivf->lists[list + 1] <= place)
            list++;
        const uint32_t row = ivf->rows[place];
        if (row >= row_count || (place > ivf->lists[list] && row <= ivf->rows[place - 1]))
            return false;
        reader->row_sum += row;
    }
    return to < row_count || reader->row_sum == row_count * (row_count - 1) / 2;
}

bool image_lists_are_sound(struct index_image_reader *reader, const struct section *section,
                           uint64_t from, uint64_t to)
{
    const struct ivf *ivf = &reader->index.ivf;
    switch (section->kind) {
    case INDEX_IMAGE_CODEBOOK:
        return image_finite(reader->codebook, from, to);
    case INDEX_IMAGE_LIST_MEAN:
        return image_finite(reader->list_mean, from, to);
    case INDEX_IMAGE_GROUPS:
        return firsts_are_sound(ivf->groups, ivf->group_count, ivf->list_count, from, to);
    case INDEX_IMAGE_LISTS:
        return firsts_are_sound(ivf->lists, ivf->list_count, reader->row_count, from, to);
    case INDEX_IMAGE_PLACES:
        return places_are_sound(reader, from, to);
    default:
        return true; /* any byte is a code */
    }
}
