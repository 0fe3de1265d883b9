/* make_merge.c: what a new index takes from the largest of those it replaces.
 *
 * Links, always: hnsw_merge.c. Codes, where the graph is navigated by the codes it was built on,
 * and where the quantizer that the base was trained with still suits: then most rows are not even
 * read. It does not suit when more than 0.1 % of the values would be clipped (training leaves
 * 0.05 %), when rows have become so alike that its steps are half again too coarse, or, for dot,
 * when rows are longer than any it knew. Then all rows are encoded anew; links stay.
 *
 * What is kept of a graph is worth less the more of it is gone: every list with removed rows is
 * chosen again, which costs a third of an insertion at 30 % removed. Beyond 40 %, or when most rows
 * are new, all is built anew. */
#include "base/assert.h"
#include "index/make_internal.h"
#include "index/quantize_internal.h"

#include <math.h>
#include <proximadb/error.h>

#include "base/no_libc_heap.h"

static const double clipped_max = 0.001;
static const float coarser_max = 1.5f;
static const float longer_max = 1.05f;
static const double gone_max = 0.4;

bool make_merge_pays(const struct index_spec *spec, const struct index_rows *rows)
{
    const struct index *base = rows->base;
    const uint32_t m = spec->m != 0 ? spec->m : HNSW_M_DEFAULT;
    uint32_t kept = 0;
    if (base == NULL || spec->kind != INDEX_HNSW || !base->has_graph || base->graph.link_max != m ||
        base->quantizer.metric != spec->metric || base->quantizer.dimension != spec->dimension)
        return false;
    const uint32_t count = base->codes.row_count;
    for (uint32_t row = 0; row < count; row++)
        kept += rows->base_rows[row] != INDEX_ROW_GONE;
    return kept >= rows->count / 2 + 1 && (double)(count - kept) <= gone_max * (double)count;
}

/* ---- the quantizer ---- */

/* centred: room for a row's columns. */
static double clipped_share(const struct index_make *make, const struct quantizer *quantizer,
                            float *centred)
{
    const uint32_t columns = quantizer->columns;
    uint64_t clipped = 0;
    for (uint32_t i = 0; i < make->sample_count; i++) {
        quantize_centre(quantizer, make->sample + (size_t)i * make->spec.dimension, centred);
        for (uint32_t j = 0; j < columns; j++)
            clipped += fabsf(centred[j]) > 127.5f;
    }
    return (double)clipped / ((double)make->sample_count * columns);
}

static bool suits(const struct index_make *make, const struct quantizer *trained, float *centred)
{
    const struct quantizer *old = &make->rows.base->quantizer;
    if (old->kind != make->spec.codes || !quantize_builds(old->kind))
        return false;
    if (trained->norm_max > longer_max * old->norm_max)
        return false;
    return old->mean == NULL || (old->scale <= coarser_max * trained->scale &&
                                 clipped_share(make, old, centred) <= clipped_max);
}

int make_merge_codes(struct index_make *make, struct quantizer *quantizer)
{
    const struct index_rows *rows = &make->rows;
    if (!make->merges)
        return PDB_OK;
    float *centred = heap_calloc(make->heap, quantizer->columns, sizeof *centred);
    if (centred == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    bool keep = suits(make, quantizer, centred);
    heap_free(make->heap, centred);
    if (!keep)
        return PDB_OK;
    make->base_of = heap_alloc(make->heap, rows->count * sizeof *make->base_of);
    if (make->base_of == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    memset(make->base_of, 0xff, rows->count * sizeof *make->base_of);
    for (uint32_t row = 0; row < rows->base->codes.row_count; row++)
        if (rows->base_rows[row] != INDEX_ROW_GONE) {
            ASSERT(rows->base_rows[row] < rows->count);
            make->base_of[rows->base_rows[row]] = row;
        }
    float *mean = quantizer->mean; /* of the same length */
    *quantizer = rows->base->quantizer;
    quantize_shape(quantizer); /* the base may be of an older image, with a longer stride */
    quantizer->mean = mean;
    if (mean != NULL)
        memcpy(mean, rows->base->quantizer.mean, quantizer->columns * sizeof *mean);
    return PDB_OK;
}

void make_copy_code(const struct index_make *make, uint32_t row)
{
    const struct codes *from = &make->rows.base->codes, *to = &make->index.codes;
    const size_t old = make->rows.base->quantizer.stride, stride = make->index.quantizer.stride;
    const size_t at = make->base_of[row];
    ASSERT(stride <= old); /* zeros behind the code, more or fewer */
    memcpy(to->bytes + row * stride, from->bytes + at * old, stride);
    if (to->norms != NULL)
        to->norms[row] = from->norms[at];
}
