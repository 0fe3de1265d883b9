/* index.c: who owns what of an index. */
#include "index/index.h"

#include "base/assert.h"
#include "index/pq.h"

#include <proximadb/error.h>
#include <string.h>

#include "base/no_libc_heap.h"

int index_init(struct index *index, const struct quantizer *quantizer, uint32_t row_count,
               struct heap *heap)
{
    const size_t bytes = quantize_codes_bytes(quantizer, row_count);
    const size_t sums = quantize_sums_bytes(quantizer, row_count);
    uint8_t *codes = heap_alloc_huge(heap, bytes);
    void *sums_array = sums > 0 ? heap_calloc(heap, 1, sums) : NULL;
    if (codes == NULL || (sums > 0 && sums_array == NULL)) {
        heap_free(heap, codes);
        heap_free(heap, sums_array);
        return PDB_RESOURCE_EXHAUSTED;
    }
    if (quantizer->kind == QUANTIZE_PQ) /* rows share bytes, and the last block has unused ones */
        memset(codes, 0, bytes);
    *index = (struct index){.quantizer = *quantizer};
    index->codes.row_count = row_count;
    index->codes.bytes = codes;
    if (quantizer->kind == QUANTIZE_SQ8)
        index->codes.norms = sums_array;
    else
        index->codes.factors = sums_array;
    return PDB_OK;
}

void index_dispose(struct index *index, struct heap *heap)
{
    if (!index->mapped) {
        heap_free(heap, index->codes.bytes);
        heap_free(heap, index->codes.norms);
        heap_free(heap, index->codes.factors);
    }
    hnsw_dispose(&index->graph, heap);
    ivf_dispose(&index->ivf, index->mapped, heap);
    quantize_dispose(&index->quantizer, heap);
    *index = (struct index){.mapped = false};
}

void index_set_graph(struct index *index, const struct hnsw *graph)
{
    ASSERT(!index->has_graph && !index->mapped);
    ASSERT(graph->row_count == index->codes.row_count);
    index->graph = *graph;
    index->has_graph = true;
}

void index_set_lists(struct index *index, const struct ivf *ivf)
{
    ASSERT(!index->has_graph && !index->has_lists && !index->mapped);
    index->ivf = *ivf;
    index->has_lists = true;
}

size_t index_bytes(const struct index *index)
{
    const uint32_t n = index->codes.row_count;
    size_t bytes =
        quantize_codes_bytes(&index->quantizer, n) + quantize_sums_bytes(&index->quantizer, n);
    const struct hnsw *graph = &index->graph;
    bytes += index->quantizer.codebook != NULL ? pq_codebook_bytes(&index->quantizer) : 0;
    bytes += index->has_lists ? ivf_bytes(&index->ivf, n) : 0;
    if (!index->has_graph)
        return bytes;
    bytes += (size_t)n * graph->link_max0 * sizeof(uint32_t);
    for (uint32_t level = 1; level <= graph->level_count; level++)
        bytes += (size_t)graph->levels[level].node_count * (graph->link_max + 2) * sizeof(uint32_t);
    return bytes;
}
