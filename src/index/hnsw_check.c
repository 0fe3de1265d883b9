/* hnsw_check.c: everything that must hold of a graph, counted. Written without the code that
 * builds, so that the two can disagree. */
#include "base/bitset.h"
#include "index/hnsw_internal.h"

#include <proximadb/error.h>

#include "base/no_libc_heap.h"

struct check {
    const struct hnsw *graph;
    uint64_t *forward, *backward;
    uint32_t *queue;
    struct hnsw_findings found;
};

static uint32_t node_count(const struct hnsw *graph, uint32_t level)
{
    return level == 0 ? graph->row_count : graph->levels[level].node_count;
}

static void check_list(struct check *check, uint32_t level, uint32_t node)
{
    const uint32_t *links = hnsw_links(check->graph, level, node);
    const uint32_t width = hnsw_link_max(check->graph, level);
    bool ended = false;
    for (uint32_t i = 0; i < width; i++) {
        if (links[i] == HNSW_NONE) {
            ended = true;
            continue;
        }
        check->found.behind_end += ended;
        check->found.dangling += links[i] >= node_count(check->graph, level);
        check->found.loops += links[i] == node;
        check->found.links += level == 0;
        for (uint32_t j = 0; j < i; j++)
            check->found.repeated += links[j] == links[i];
    }
}

static void check_levels(struct check *check)
{
    const struct hnsw *graph = check->graph;
    for (uint32_t level = 1; level <= graph->level_count; level++) {
        const struct hnsw_level *at = &graph->levels[level];
        for (uint32_t node = 0; node < at->node_count; node++) {
            bool wrong = at->below[node] >= node_count(graph, level - 1) ||
                         hnsw_row(graph, level - 1, at->below[node]) != at->rows[node] ||
                         (node > 0 && at->rows[node] <= at->rows[node - 1]);
            check->found.misplaced += wrong;
        }
    }
}

static uint32_t entry_row(const struct hnsw *graph)
{
    return hnsw_row(graph, graph->level_count, graph->entry);
}

static void walk_forward(struct check *check)
{
    const struct hnsw *graph = check->graph;
    uint32_t head = 0, tail = 1;
    check->queue[0] = entry_row(graph);
    bitset_set(check->forward, check->queue[0]);
    while (head < tail) {
        const uint32_t *links = hnsw_links(graph, 0, check->queue[head++]);
        for (uint32_t i = 0; i < graph->link_max0 && links[i] != HNSW_NONE; i++) {
            if (bitset_test(check->forward, links[i]))
                continue;
            bitset_set(check->forward, links[i]);
            check->queue[tail++] = links[i];
        }
    }
    check->found.unreached = graph->row_count - tail;
}

static void walk_backward(struct check *check)
{
    const struct hnsw *graph = check->graph;
    bitset_set(check->backward, entry_row(graph));
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t row = 0; row < graph->row_count; row++) {
            const uint32_t *links = hnsw_links(graph, 0, row);
            if (bitset_test(check->backward, row))
                continue;
            for (uint32_t i = 0; i < graph->link_max0 && links[i] != HNSW_NONE; i++)
                if (bitset_test(check->backward, links[i])) {
                    bitset_set(check->backward, row);
                    changed = true;
                    break;
                }
        }
    }
    check->found.stuck = graph->row_count - bitset_count(check->backward, graph->row_count);
}

int hnsw_check(const struct hnsw *graph, struct heap *heap, struct hnsw_findings *findings_out)
{
    const uint32_t n = graph->row_count;
    struct check check = {.graph = graph};
    check.forward = heap_calloc(heap, 2 * bitset_words(n), sizeof(uint64_t));
    check.queue = heap_calloc(heap, n, sizeof(uint32_t));
    int rc = PDB_RESOURCE_EXHAUSTED;
    if (check.forward != NULL && check.queue != NULL) {
        check.backward = check.forward + bitset_words(n);
        for (uint32_t level = 0; level <= graph->level_count; level++)
            for (uint32_t node = 0; node < node_count(graph, level); node++)
                check_list(&check, level, node);
        check_levels(&check);
        if (check.found.dangling == 0 && check.found.misplaced == 0) { /* else walks leave it */
            walk_forward(&check);
            walk_backward(&check);
        }
        *findings_out = check.found;
        rc = PDB_OK;
    }
    heap_free(heap, check.queue);
    heap_free(heap, check.forward);
    return rc;
}
