/* hnsw_merge.c: a graph that begins as a copy of another one.
 *
 * When segments are merged most rows are in the largest of them, which has a graph. Rows take their
 * links and levels with them (a rehashed level would tear upper levels apart). A node that linked
 * to removed rows keeps its other links, and in place of the lost ones gets some of those that the
 * removed rows had. (FreshDiskANN, Singh et al., 2021, chooses the whole list anew: tried, lists
 * become shorter with every merge, by a fifth and more after all rows have been replaced.)
 * Distances come from the codes, which must be there. Every part writes the lists of its own rows
 * and reads the base, which nobody changes: no lock, and any number of workers give the same graph.
 * Then the other rows are inserted as in any build, and repairing sees to it that all are reached.
 *
 * The entry point is a copied row of the highest level. Should an inserted row have a higher one,
 * then so has the entry point from now on: it has to be on the top level, alone at first. Rejected:
 * capping the levels of new rows, which after many merges leaves a top level of thousands. */
#include "base/assert.h"
#include "index/hnsw_internal.h"

#include <proximadb/error.h>

#include "base/no_libc_heap.h"

/* ---- begin ---- */

static uint32_t base_level(const struct hnsw *base, uint32_t row)
{
    uint32_t level = 0;
    while (level < base->level_count) {
        const struct hnsw_level *above = &base->levels[level + 1];
        uint32_t low = 0, length = above->node_count;
        while (length > 1) {
            uint32_t half = length / 2;
            if (above->rows[low + half] <= row)
                low += half;
            length -= half;
        }
        if (above->rows[low] != row)
            break;
        level++;
    }
    return level;
}

/* Who is who, and who is held back: those are not copied. */
static uint32_t take_rows(struct hnsw_build *build, uint32_t hold)
{
    const uint32_t n = build->graph.row_count;
    const struct hnsw_base *base = &build->base;
    uint32_t copied = 0;
    memset(build->base_rows, 0xff, n * sizeof(uint32_t));
    for (uint32_t row = 0; row < base->graph->row_count; row++) {
        uint32_t now = base->new_rows[row];
        ASSERT(now == HNSW_NONE || (now < n && build->base_rows[now] == HNSW_NONE));
        if (now != HNSW_NONE)
            build->base_rows[now] = row;
    }
    for (uint32_t i = n - hold; i < n; i++)
        build->base_rows[hnsw_permuted(build, i)] = HNSW_NONE;
    for (uint32_t row = 0; row < n; row++) {
        if (build->base_rows[row] == HNSW_NONE)
            continue;
        build->levels[row] = (uint8_t)base_level(base->graph, build->base_rows[row]);
        copied++;
    }
    return copied;
}

/* The first copied row of the highest level, which becomes the highest of all. */
static void choose_entry(struct hnsw_build *build)
{
    const uint32_t n = build->graph.row_count;
    uint32_t entry = HNSW_NONE;
    uint8_t top = 0;
    for (uint32_t row = 0; row < n; row++) {
        top = build->levels[row] > top ? build->levels[row] : top;
        if (build->base_rows[row] != HNSW_NONE &&
            (entry == HNSW_NONE || build->levels[row] > build->levels[entry]))
            entry = row;
    }
    build->levels[entry] = top;
    build->entry_row = entry;
}

static void order_rows(struct hnsw_build *build)
{
    const uint32_t n = build->graph.row_count;
    uint32_t count = 0;
    /* those held back are the last in any case */
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = hnsw_permuted(build, i);
        if (build->base_rows[row] == HNSW_NONE)
            build->order[count++] = row;
    }
    ASSERT(count == n - build->inserted);
}

static int begin(struct hnsw_build *build, const struct hnsw_base *base, uint32_t hold)
{
    const uint32_t n = build->graph.row_count;
    struct hnsw *graph = &build->graph;
    if (base->graph->link_max != graph->link_max)
        return PDB_INVALID_ARGUMENT;
    build->base = *base;
    build->base_rows = heap_alloc(build->heap, n * sizeof(uint32_t));
    if (build->base_rows == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    build->inserted = build->order_first = take_rows(build, hold);
    if (build->inserted == 0)
        return PDB_INVALID_ARGUMENT;
    choose_entry(build);
    build->order = heap_alloc(build->heap, (n - build->inserted) * sizeof(uint32_t));
    if (build->order == NULL || hnsw_allocate(graph, build->levels, build->heap) < 0)
        return PDB_RESOURCE_EXHAUSTED;
    order_rows(build);
    graph->entry = hnsw_node(graph, graph->level_count, build->entry_row);
    build->held = hold;
    build->phase = HNSW_COPY;
    return PDB_OK;
}

int hnsw_build_begin_from(const struct hnsw_params *params, const struct quantizer *quantizer,
                          const struct codes *codes, const struct hnsw_base *base, uint32_t hold,
                          struct heap *heap, struct hnsw_build **build_out)
{
    struct hnsw_build *build;
    ASSERT(hold < codes->row_count);
    int rc = hnsw_build_open(params, quantizer, codes, heap, &build);
    if (rc < 0)
        return rc;
    rc = begin(build, base, hold);
    if (rc < 0) {
        hnsw_build_abandon(build);
        return rc;
    }
    *build_out = build;
    return PDB_OK;
}

/* ---- HNSW_COPY ---- */

/* What a node of the base is now: a node of the same level, or HNSW_NONE. */
static uint32_t node_now(const struct hnsw_build *build, uint32_t level, uint32_t base_node)
{
    uint32_t base_row = hnsw_row(build->base.graph, level, base_node);
    uint32_t row = build->base.new_rows[base_row];
    if (row == HNSW_NONE || build->base_rows[row] == HNSW_NONE) /* removed, or held back */
        return HNSW_NONE;
    return hnsw_node(&build->graph, level, row);
}

/* The links of a node of the base, as far as they are still there and not seen yet, into
 * worker->nodes; `all_out`: whether all of them are there. */
static uint32_t links_now(const struct hnsw_build *build, struct hnsw_worker *worker,
                          uint32_t level, uint32_t base_node, bool *all_out)
{
    const uint32_t *links = hnsw_links(build->base.graph, level, base_node);
    const uint32_t width = hnsw_link_max(&build->graph, level);
    uint32_t count = 0;
    *all_out = true;
    for (uint32_t i = 0; i < width && links[i] != HNSW_NONE; i++) {
        uint32_t now = node_now(build, level, links[i]);
        if (now == HNSW_NONE)
            *all_out = false;
        else if (!visited_test_and_set(&worker->visited, now))
            worker->nodes[count++] = now;
    }
    return count;
}

/* Offers worker->nodes to the pool. */
static void offer(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                  uint32_t row, uint32_t count, uint32_t *pool_count)
{
    for (uint32_t i = 0; i < count; i++)
        worker->rows[i] = hnsw_row(&build->graph, level, worker->nodes[i]);
    quantize_score_row(build->quantizer, build->codes, row, worker->rows, count, worker->distances);
    worker->distance_count += count;
    for (uint32_t i = 0; i < count; i++)
        pool_insert(worker->pool, pool_count, build->ef, worker->distances[i], worker->nodes[i]);
}

static bool is_dominated(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                         const struct pool_entry *candidate, uint32_t kept)
{
    const uint32_t row = hnsw_row(&build->graph, level, candidate->row);
    for (uint32_t i = 0; i < kept; i++) {
        uint32_t other = hnsw_row(&build->graph, level, worker->chosen[i]);
        worker->distance_count++;
        if (quantize_between(build->quantizer, build->codes, row, other) < candidate->distance)
            return true;
    }
    return false;
}

/* worker->chosen has `kept` links that stay; others of the pool are added up to `most`: those in
 * directions that none is in yet, and then simply the nearest. */
static uint32_t fill(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                     uint32_t pool_count, uint32_t kept, uint32_t most)
{
    struct pool_entry *pool = worker->pool;
    uint32_t count = kept;
    for (uint32_t i = 0; i < pool_count && count < most; i++)
        if (!is_dominated(build, worker, level, &pool[i], count)) {
            worker->chosen[count++] = pool[i].row;
            pool[i].row |= POOL_EXPANDED; /* it is taken */
        }
    for (uint32_t i = 0; i < pool_count && count < most; i++)
        if ((pool[i].row & POOL_EXPANDED) == 0)
            worker->chosen[count++] = pool[i].row;
    return count;
}

static void copy_list(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                      uint32_t row, uint32_t base_node)
{
    const struct hnsw *graph = &build->graph;
    const uint32_t self = hnsw_node(graph, level, row), width = hnsw_link_max(graph, level);
    const uint32_t *base_links = hnsw_links(build->base.graph, level, base_node);
    uint32_t *links = hnsw_links(graph, level, self);
    uint32_t pool_count = 0, most = 0;
    bool all, ignored;
    visited_next(&worker->visited);
    (void)visited_test_and_set(&worker->visited, self);
    const uint32_t kept = links_now(build, worker, level, base_node, &all);
    memcpy(worker->chosen, worker->nodes, kept * sizeof(uint32_t));
    for (; most < width && base_links[most] != HNSW_NONE && !all; most++) {
        if (node_now(build, level, base_links[most]) != HNSW_NONE)
            continue;
        uint32_t count = links_now(build, worker, level, base_links[most], &ignored);
        offer(build, worker, level, row, count, &pool_count);
    }
    uint32_t count = fill(build, worker, level, pool_count, kept, most);
    hnsw_write_links(links, width, worker->chosen, count);
}

uint32_t hnsw_copy_parts(const struct hnsw_build *build)
{
    return (build->graph.row_count + BUILD_COPY_ROWS - 1) / BUILD_COPY_ROWS;
}

void hnsw_copy_part(struct hnsw_build *build, uint32_t part, struct hnsw_worker *worker)
{
    const struct hnsw *base = build->base.graph;
    const uint32_t n = build->graph.row_count, first = part * BUILD_COPY_ROWS;
    const uint32_t end = n - first < BUILD_COPY_ROWS ? n : first + BUILD_COPY_ROWS;
    for (uint32_t row = first; row < end; row++) {
        const uint32_t base_row = build->base_rows[row];
        if (base_row == HNSW_NONE)
            continue;
        const uint32_t top = base_level(base, base_row); /* the entry point's may be higher now */
        for (uint32_t level = 0; level <= top; level++)
            copy_list(build, worker, level, row, hnsw_node(base, level, base_row));
    }
}
