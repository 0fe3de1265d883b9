/* hnsw_beam.c: how a row finds its neighbours while the graph is built.
 *
 * The walk is the plain one, with a fixed width: its k-th best would mean nothing here, since what
 * is wanted are candidates in all directions. Rows are scored in one call for each expansion, so
 * that memory is asked for ahead.
 *
 * Equal rows. Distances are sums of squares (or of differences), so 0 means the same code. Links to
 * equal rows are worth little: ten thousand copies of one vector would fill each other's lists and
 * close themselves off. They dominate nobody (the rule asks for strictly nearer), and at most a
 * quarter of a list may be such links, which is enough to hang copies together. */
#include "base/assert.h"
#include "index/hnsw_internal.h"
#include "index/prefetch.h"

#include "base/no_libc_heap.h"

static const struct pool_entry *nearest_of(const struct pool_entry *pool, uint32_t count,
                                           uint32_t *cursor)
{
    while (*cursor < count && (pool[*cursor].row & POOL_EXPANDED) != 0)
        ++*cursor;
    return *cursor < count ? pool + *cursor : NULL;
}

static void score(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                  uint32_t row, uint32_t count)
{
    const uint32_t *rows = worker->nodes;
    if (level > 0) {
        for (uint32_t i = 0; i < count; i++)
            worker->rows[i] = hnsw_row(&build->graph, level, worker->nodes[i]);
        rows = worker->rows;
    }
    quantize_score_row(build->quantizer, build->codes, row, rows, count, worker->distances);
    worker->distance_count += count;
}

/* The links of a node that the walk has not seen, into worker->nodes. */
static uint32_t unseen_links(const struct hnsw_build *build, struct hnsw_worker *worker,
                             uint32_t level, uint32_t node)
{
    const uint32_t *links = hnsw_links(&build->graph, level, node);
    uint32_t width = hnsw_link_max(&build->graph, level);
    uint32_t count = 0;
    for (uint32_t i = 0; i < width && links[i] != HNSW_NONE; i++) {
        worker->nodes[count] = links[i];
        count += !visited_test_and_set(&worker->visited, links[i]);
    }
    return count;
}

uint32_t hnsw_beam(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                   uint32_t row, uint32_t entry)
{
    struct pool_entry *pool = worker->pool;
    const uint32_t ef = build->ef;
    uint32_t count = 0, cursor = 0;
    visited_next(&worker->visited);
    worker->nodes[0] = entry;
    (void)visited_test_and_set(&worker->visited, entry);
    score(build, worker, level, row, 1);
    pool_insert(pool, &count, ef, worker->distances[0], entry);
    while (nearest_of(pool, count, &cursor) != NULL) {
        uint32_t node = pool[cursor].row;
        pool[cursor].row |= POOL_EXPANDED;
        uint32_t next = cursor + 1;
        if (nearest_of(pool, count, &next) != NULL)
            prefetch_links(&build->graph, level, pool[next].row);
        uint32_t found = unseen_links(build, worker, level, node);
        score(build, worker, level, row, found);
        for (uint32_t i = 0; i < found; i++) {
            uint32_t at = pool_insert(pool, &count, ef, worker->distances[i], worker->nodes[i]);
            cursor = at < cursor ? at : cursor;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        pool[i].row &= POOL_ROW;
    return count;
}

uint32_t hnsw_descend(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                      uint32_t row)
{
    const struct hnsw *graph = &build->graph;
    uint32_t node = graph->entry;
    for (uint32_t at = graph->level_count; at > level; at--) {
        uint32_t from = hnsw_row(graph, at, node);
        float best;
        quantize_score_row(build->quantizer, build->codes, row, &from, 1, &best);
        for (bool moved = true; moved;) {
            moved = false;
            const uint32_t *links = hnsw_links(graph, at, node);
            uint32_t count = 0;
            while (count < graph->link_max && links[count] != HNSW_NONE) {
                worker->nodes[count] = links[count];
                count++;
            }
            score(build, worker, at, row, count);
            for (uint32_t i = 0; i < count; i++)
                if (worker->distances[i] < best) {
                    best = worker->distances[i];
                    node = worker->nodes[i];
                    moved = true;
                }
        }
        node = graph->levels[at].below[node];
    }
    return node;
}

uint32_t hnsw_choose(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                     uint32_t self, const struct pool_entry *candidates, uint32_t count)
{
    const struct hnsw *graph = &build->graph;
    const uint32_t most = hnsw_link_max(graph, level);
    uint32_t *chosen = worker->chosen;
    uint32_t kept = 0, equal = 0;
    for (uint32_t i = 0; i < count && kept < most; i++) {
        uint32_t node = candidates[i].row;
        if (node == self)
            continue;
        if (candidates[i].distance <= 0.0f) {
            if (equal < most / 4) {
                chosen[kept++] = node;
                equal++;
            }
            continue;
        }
        uint32_t row = hnsw_row(graph, level, node);
        bool dominated = false;
        for (uint32_t j = equal; j < kept && !dominated; j++) {
            float between = quantize_between(build->quantizer, build->codes, row,
                                             hnsw_row(graph, level, chosen[j]));
            dominated = between < candidates[i].distance;
            worker->distance_count++;
        }
        if (!dominated)
            chosen[kept++] = node;
    }
    return kept;
}
