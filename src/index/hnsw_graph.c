/* hnsw_graph.c: the arrays of a graph, and which row is on which level. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "index/hnsw_internal.h"

#include <proximadb/error.h>

#include "base/no_libc_heap.h"

enum { ALIGNMENT = 64 };

/* Malkov and Yashunin take m. A quarter more costs the descent a step or two, and saves a fifth of
 * the upper levels: they are 3.8 bytes a row instead of 4.8. */
static uint64_t rows_a_node(uint32_t m)
{
    return m + m / 4;
}

uint32_t hnsw_level_of(uint64_t seed, uint32_t m, uint32_t row)
{
    uint64_t digits = hash_u64(hash_u64(seed + 0x9e3779b97f4a7c15u) + row);
    const uint64_t base = rows_a_node(m);
    uint32_t level = 0;
    /* a digit is 0 with probability 1 / base, without any logarithm */
    while (level < HNSW_LEVEL_MAX && digits % base == 0) {
        digits /= base;
        level++;
    }
    return level;
}

uint32_t hnsw_node(const struct hnsw *graph, uint32_t level, uint32_t row)
{
    if (level == 0)
        return row;
    const struct hnsw_level *at = &graph->levels[level];
    uint32_t low = 0, length = at->node_count;
    while (length > 1) {
        uint32_t half = length / 2;
        if (at->rows[low + half] <= row)
            low += half;
        length -= half;
    }
    ASSERT(at->rows[low] == row);
    return low;
}

/* Nodes of each level, and the top one. */
static uint32_t count_levels(const uint8_t *levels, uint32_t row_count,
                             uint32_t counts[HNSW_LEVEL_MAX + 1])
{
    uint32_t top = 0;
    for (uint32_t level = 0; level <= HNSW_LEVEL_MAX; level++)
        counts[level] = 0;
    for (uint32_t row = 0; row < row_count; row++) {
        uint32_t level = levels[row];
        top = level > top ? level : top;
        for (; level > 0; level--)
            counts[level]++;
    }
    return top;
}

static size_t level0_bytes(uint32_t m, uint32_t row_count)
{
    return (size_t)row_count * 2 * m * sizeof(uint32_t);
}

static size_t level_bytes(uint32_t m, uint32_t node_count)
{
    return bytes_align_up((size_t)node_count * m * sizeof(uint32_t), ALIGNMENT) +
           2 * bytes_align_up(node_count * sizeof(uint32_t), ALIGNMENT);
}

static size_t graph_bytes(uint32_t m, uint32_t row_count, uint32_t top, const uint32_t *counts)
{
    size_t bytes = level0_bytes(m, row_count) + ALIGNMENT;
    for (uint32_t level = 1; level <= top; level++)
        bytes += level_bytes(m, counts[level]);
    return bytes;
}

size_t hnsw_graph_bytes(uint64_t seed, uint32_t m, uint32_t row_count)
{
    uint32_t counts[HNSW_LEVEL_MAX + 1] = {0};
    uint32_t top = 0;
    for (uint32_t row = 0; row < row_count; row++) {
        uint32_t level = hnsw_level_of(seed, m, row);
        top = level > top ? level : top;
        for (; level > 0; level--)
            counts[level]++;
    }
    return graph_bytes(m, row_count, top, counts);
}

static uint32_t *take(char **next, size_t bytes)
{
    uint32_t *array = (uint32_t *)(void *)*next;
    *next += bytes_align_up(bytes, ALIGNMENT);
    return array;
}

/* Nodes of a level in order of their rows. Level l's are among those of level l - 1. */
static void number_nodes(struct hnsw *graph, const uint8_t *levels, uint32_t level)
{
    struct hnsw_level *at = &graph->levels[level];
    const struct hnsw_level *under = &graph->levels[level - 1];
    uint32_t below_count = level == 1 ? graph->row_count : under->node_count;
    uint32_t count = 0;
    for (uint32_t below = 0; below < below_count; below++) {
        uint32_t row = level == 1 ? below : under->rows[below];
        if (levels[row] < level)
            continue;
        at->rows[count] = row;
        at->below[count++] = below;
    }
    ASSERT(count == at->node_count);
}

int hnsw_allocate(struct hnsw *graph, const uint8_t *levels, struct heap *heap)
{
    uint32_t counts[HNSW_LEVEL_MAX + 1];
    const uint32_t m = graph->link_max;
    graph->level_count = count_levels(levels, graph->row_count, counts);
    graph->memory =
        heap_alloc_huge(heap, graph_bytes(m, graph->row_count, graph->level_count, counts));
    if (graph->memory == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    char *next = graph->memory;
    graph->links = take(&next, level0_bytes(m, graph->row_count));
    memset(graph->links, 0xff, level0_bytes(m, graph->row_count));
    for (uint32_t level = 1; level <= graph->level_count; level++) {
        struct hnsw_level *at = &graph->levels[level];
        at->node_count = counts[level];
        at->links = take(&next, (size_t)counts[level] * m * sizeof(uint32_t));
        at->rows = take(&next, counts[level] * sizeof(uint32_t));
        at->below = take(&next, counts[level] * sizeof(uint32_t));
        memset(at->links, 0xff, (size_t)counts[level] * m * sizeof(uint32_t));
        number_nodes(graph, levels, level);
    }
    graph->entry = 0;
    return PDB_OK;
}

void hnsw_dispose(struct hnsw *graph, struct heap *heap)
{
    heap_free(heap, graph->memory);
    *graph = (struct hnsw){0};
}
