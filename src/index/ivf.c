/* ivf.c: how many lists, and who owns what of them. */
#include "index/ivf.h"

#include "base/assert.h"

#include <math.h>
#include <proximadb/error.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum pdb_metric ivf_metric_of(enum pdb_metric metric)
{
    bool other = metric == PDB_METRIC_MANHATTAN || metric == PDB_METRIC_HAMMING;
    return other ? PDB_METRIC_EUCLIDEAN : metric;
}

const float *ivf_vector_of(enum pdb_metric metric, uint32_t dimension, const float *vector,
                           float *room)
{
    if (metric != PDB_METRIC_HAMMING)
        return vector;
    const uint8_t *bits = (const uint8_t *)vector;
    for (uint32_t i = dimension; i-- > 0;) /* from behind: `room` may be the vector's own place */
        room[i] = (float)(bits[i / 8] >> (i % 8) & 1);
    return room;
}

uint32_t ivf_default_lists(uint32_t row_count)
{
    uint32_t lists = (uint32_t)(2.0 * sqrt((double)row_count));
    return lists > 0 ? lists : 1;
}

uint32_t ivf_list_count(uint32_t wanted, uint32_t row_count)
{
    uint32_t most = row_count / IVF_LIST_ROWS_MIN;
    uint32_t lists = wanted != 0 ? wanted : ivf_default_lists(row_count);
    most = most < IVF_LISTS_MAX ? most : IVF_LISTS_MAX;
    lists = lists < most ? lists : most;
    return lists > 0 ? lists : 1;
}

uint32_t ivf_group_count(uint32_t list_count)
{
    if (list_count <= IVF_ONE_GROUP)
        return 1;
    uint32_t groups = (uint32_t)sqrt((double)list_count);
    return groups < IVF_GROUPS_MAX ? groups : IVF_GROUPS_MAX;
}

uint32_t ivf_default_probes(const struct ivf *ivf)
{
    uint32_t probes = 8 + ivf->list_count / 24;
    return probes < ivf->list_count ? probes : ivf->list_count;
}

int ivf_init(struct ivf *ivf, const struct quantizer *quantizer, uint32_t list_count,
             uint32_t row_count, struct heap *heap)
{
    const uint32_t groups = ivf_group_count(list_count), all = list_count + groups;
    struct ivf made = {.list_count = list_count, .group_count = groups, .quantizer = *quantizer};
    ASSERT(quantizer->kind == QUANTIZE_SQ8);
    made.centroids.row_count = all;
    made.centroids.bytes =
        heap_alloc_aligned(heap, VECMATH_CODE_ALIGNMENT, quantize_codes_bytes(quantizer, all));
    made.centroids.norms = heap_calloc(heap, all, sizeof(uint32_t));
    made.groups = heap_calloc(heap, groups + 1, sizeof(uint32_t));
    made.lists = heap_calloc(heap, (size_t)list_count + 1, sizeof(uint32_t));
    made.rows = heap_calloc(heap, row_count, sizeof(uint32_t));
    if (made.centroids.bytes == NULL || made.centroids.norms == NULL || made.groups == NULL ||
        made.lists == NULL || made.rows == NULL) {
        made.quantizer = (struct quantizer){.mean = NULL};
        ivf_dispose(&made, false, heap);
        return PDB_RESOURCE_EXHAUSTED;
    }
    memset(made.centroids.bytes, 0, quantize_codes_bytes(quantizer, all));
    *ivf = made;
    return PDB_OK;
}

void ivf_dispose(struct ivf *ivf, bool mapped, struct heap *heap)
{
    if (!mapped) {
        heap_free(heap, ivf->centroids.bytes);
        heap_free(heap, ivf->centroids.norms);
        heap_free(heap, ivf->groups);
        heap_free(heap, ivf->lists);
        heap_free(heap, ivf->rows);
    }
    quantize_dispose(&ivf->quantizer, heap);
    *ivf = (struct ivf){.list_count = 0};
}

size_t ivf_bytes(const struct ivf *ivf, uint32_t row_count)
{
    const uint32_t all = ivf->list_count + ivf->group_count;
    return quantize_codes_bytes(&ivf->quantizer, all) + quantize_sums_bytes(&ivf->quantizer, all) +
           ((size_t)all + 2 + row_count) * sizeof(uint32_t);
}
