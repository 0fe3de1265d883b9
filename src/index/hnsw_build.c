/* hnsw_build.c: building the graph in phases that several workers share.
 *
 * Rows enter in batches. While a batch is prepared the graph is frozen: each of its rows finds its
 * neighbours among the rows of earlier batches and writes its own links, which nobody can reach yet
 * (HNSW_PREPARE, divided by rows). Then the neighbours link back: the list of a node is changed by
 * one part only, chosen by the node's number, in the order of the batch (HNSW_LINK, divided by who
 * is linked to). No memory is written by two workers in one phase, or read by one and written by
 * another: no lock, no atomic, and the result does not depend on who did what. (The idea of
 * inserting into a frozen prefix: ParlayANN, Manohar et al., PPoPP 2024.)
 *
 * Rows of one batch do not see each other, so a batch must be a small part of what is there: a
 * 32nd. And rows near each other must not fall into one batch, so the order of insertion is not the
 * order of rows, which may be sorted by whatever made them alike: position i is row (i x f + o) mod
 * n, with f near the golden section of n, which spreads any stretch of positions evenly over all
 * rows.
 *
 * Rejected: locks on lists as hnswlib has them (results depend on timing, and lines of memory are
 * shared); lock-free link updates (the same, and readers meet half-written lists); graphs of parts,
 * merged (a part of half the rows costs nearly as much a row as the whole).
 *
 * Linking back appends while there is room, and otherwise chooses anew among the old links and the
 * new one. That leaves some slots free, so it does not come often: about three times for each row.
 *
 * All levels are known before: the entry point is the first node of the top level, enters first,
 * and never changes. */
#include "base/assert.h"
#include "base/bitset.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "index/hnsw_internal.h"

#include <proximadb/error.h>

#include "base/no_libc_heap.h"

/* ---- the order of insertion ---- */

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static void choose_order(struct hnsw_build *build)
{
    const uint32_t n = build->graph.row_count;
    uint64_t random = hash_u64(build->graph.seed + 0x632be59bd9b4e019u);
    uint32_t factor = (uint32_t)((double)n * 0.6180339887498949) + (uint32_t)(random % 16) + 1;
    while (common_divisor(factor, n) != 1)
        factor++;
    build->order_factor = factor % n;
    build->order_offset = (uint32_t)((random >> 32) % n);
}

uint32_t hnsw_permuted(const struct hnsw_build *build, uint32_t i)
{
    const uint64_t n = build->graph.row_count;
    return (uint32_t)(((uint64_t)i * build->order_factor + build->order_offset) % n);
}

uint32_t hnsw_row_in_order(const struct hnsw_build *build, uint32_t i)
{
    if (build->order != NULL)
        return build->order[i - build->order_first];
    /* The entry point changes places with the first. */
    if (i == 0)
        return build->entry_row;
    uint32_t row = hnsw_permuted(build, i);
    return row == build->entry_row ? hnsw_permuted(build, 0) : row;
}

/* ---- begin and end ---- */

static size_t repair_bytes(uint32_t row_count)
{
    return (size_t)row_count * (sizeof(uint64_t) + sizeof(uint32_t)) +
           2 * bitset_words(row_count) * sizeof(uint64_t);
}

static int open_repair(struct hnsw_build *build)
{
    const uint32_t n = build->graph.row_count;
    const size_t words = bitset_words(n);
    struct hnsw_repair *repair = &build->repair;
    repair->tree = heap_calloc(build->heap, 1, repair_bytes(n));
    if (repair->tree == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    repair->reached = repair->tree + n;
    repair->returns = repair->reached + words;
    repair->queue = (uint32_t *)(repair->returns + words);
    return PDB_OK;
}

static struct hnsw_params completed(const struct hnsw_params *params)
{
    struct hnsw_params all = *params;
    all.m = all.m != 0 ? all.m : HNSW_M_DEFAULT;
    all.ef_construction = all.ef_construction != 0 ? all.ef_construction : HNSW_EF_DEFAULT;
    return all;
}

bool hnsw_params_fit(const struct hnsw_params *params)
{
    const struct hnsw_params all = completed(params);
    return all.m >= HNSW_M_MIN && all.m <= HNSW_M_MAX && all.m % 2 == 0 &&
           all.ef_construction >= HNSW_EF_MIN && all.ef_construction <= HNSW_EF_MAX;
}

static uint32_t next_batch(const struct hnsw_build *build)
{
    uint32_t left = build->graph.row_count - build->held - build->inserted;
    uint32_t batch = build->inserted / BUILD_BATCH_SHARE;
    batch = batch < 1 ? 1 : batch;
    batch = batch < BUILD_BATCH_MAX ? batch : BUILD_BATCH_MAX;
    return batch < left ? batch : left;
}

void hnsw_build_continue(struct hnsw_build *build)
{
    build->batch = next_batch(build);
    build->phase = build->batch > 0 ? HNSW_PREPARE : build->held > 0 ? HNSW_HOLD : HNSW_REACH;
    if (build->phase == HNSW_REACH)
        hnsw_repair_begin(build);
}

void hnsw_build_hold(struct hnsw_build *build, uint32_t count)
{
    ASSERT(count < build->graph.row_count && build->inserted == 1);
    build->held = count;
    hnsw_build_continue(build);
}

uint32_t hnsw_build_held(const struct hnsw_build *build)
{
    return build->held;
}

uint32_t hnsw_build_held_row(const struct hnsw_build *build, uint32_t i)
{
    ASSERT(i < build->held);
    return hnsw_row_in_order(build, build->graph.row_count - build->held + i);
}

const struct hnsw *hnsw_build_graph(const struct hnsw_build *build)
{
    return &build->graph;
}

void hnsw_build_release(struct hnsw_build *build)
{
    ASSERT(build->phase == HNSW_HOLD);
    build->held = 0;
    hnsw_build_continue(build);
}

int hnsw_build_open(const struct hnsw_params *params, const struct quantizer *quantizer,
                    const struct codes *codes, struct heap *heap, struct hnsw_build **build_out)
{
    ASSERT(quantize_builds(quantizer->kind));
    const struct hnsw_params all = completed(params);
    if (!hnsw_params_fit(&all))
        return PDB_INVALID_ARGUMENT;
    if (codes->row_count == 0 || codes->row_count > HNSW_ROWS_MAX)
        return PDB_OUT_OF_RANGE;
    struct hnsw_build *build = heap_calloc(heap, 1, sizeof *build);
    if (build == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    build->heap = heap;
    build->quantizer = quantizer;
    build->codes = codes;
    build->ef = all.ef_construction;
    build->graph.row_count = codes->row_count;
    build->graph.link_max = all.m;
    build->graph.link_max0 = 2 * all.m;
    build->graph.seed = all.seed;
    build->levels = heap_alloc(heap, codes->row_count);
    if (build->levels == NULL || open_repair(build) < 0) {
        hnsw_build_abandon(build);
        return PDB_RESOURCE_EXHAUSTED;
    }
    for (uint32_t row = 0; row < codes->row_count; row++)
        build->levels[row] = (uint8_t)hnsw_level_of(all.seed, all.m, row);
    choose_order(build);
    *build_out = build;
    return PDB_OK;
}

int hnsw_build_begin(const struct hnsw_params *params, const struct quantizer *quantizer,
                     const struct codes *codes, struct heap *heap, struct hnsw_build **build_out)
{
    struct hnsw_build *build;
    int rc = hnsw_build_open(params, quantizer, codes, heap, &build);
    if (rc < 0)
        return rc;
    struct hnsw *graph = &build->graph;
    rc = hnsw_allocate(graph, build->levels, heap);
    if (rc < 0) {
        hnsw_build_abandon(build);
        return rc;
    }
    build->entry_row = graph->level_count > 0 ? graph->levels[graph->level_count].rows[0]
                                              : hnsw_permuted(build, 0);
    if (graph->level_count == 0)
        graph->entry = build->entry_row;
    build->inserted = 1; /* the entry point, whom nobody precedes */
    hnsw_build_continue(build);
    *build_out = build;
    return PDB_OK;
}

void hnsw_build_abandon(struct hnsw_build *build)
{
    if (build == NULL)
        return;
    struct heap *heap = build->heap;
    hnsw_dispose(&build->graph, heap);
    heap_free(heap, build->repair.tree);
    heap_free(heap, build->order);
    heap_free(heap, build->base_rows);
    heap_free(heap, build->levels);
    heap_free(heap, build);
}

void hnsw_build_end(struct hnsw_build *build, struct hnsw *graph_out)
{
    ASSERT(build->phase == HNSW_DONE);
    *graph_out = build->graph;
    build->graph = (struct hnsw){0};
    hnsw_build_abandon(build);
}

void hnsw_build_progress(const struct hnsw_build *build, struct hnsw_progress *progress_out)
{
    *progress_out = (struct hnsw_progress){
        .rows_done = build->inserted,
        .rows_total = build->graph.row_count,
        .repaired = build->repair.repaired,
    };
}

/* ---- workers ---- */

static size_t worker_bytes(uint32_t ef, uint32_t link_max0, uint32_t row_count)
{
    const size_t list = link_max0 + 1;
    return sizeof(struct hnsw_worker) + (ef + 1 + list) * sizeof(struct pool_entry) +
           list * (3 * sizeof(uint32_t) + sizeof(float)) + row_count;
}

int hnsw_worker_open_for(const struct hnsw_params *params, uint32_t row_count, struct heap *heap,
                         struct hnsw_worker **worker_out)
{
    const struct hnsw_params all = completed(params);
    const uint32_t ef = all.ef_construction;
    const size_t list = 2 * all.m + 1;
    struct hnsw_worker *worker = heap_calloc(heap, 1, worker_bytes(ef, 2 * all.m, row_count));
    if (worker == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    worker->pool = (struct pool_entry *)(worker + 1);
    worker->near = worker->pool + ef + 1;
    worker->nodes = (uint32_t *)(worker->near + list);
    worker->rows = worker->nodes + list;
    worker->chosen = worker->rows + list;
    worker->distances = (float *)(worker->chosen + list);
    worker->visited.marks = (uint8_t *)(worker->distances + list);
    worker->visited.count = row_count;
    *worker_out = worker;
    return PDB_OK;
}

int hnsw_worker_open(const struct hnsw_build *build, struct heap *heap,
                     struct hnsw_worker **worker_out)
{
    const struct hnsw_params params = {build->graph.link_max, build->ef, build->graph.seed};
    return hnsw_worker_open_for(&params, build->graph.row_count, heap, worker_out);
}

void hnsw_worker_close(struct hnsw_worker *worker, struct heap *heap)
{
    heap_free(heap, worker);
}

uint64_t hnsw_worker_distances(const struct hnsw_worker *worker)
{
    return worker->distance_count;
}

size_t hnsw_build_bytes(const struct hnsw_params *params, uint32_t row_count, uint32_t worker_count)
{
    const struct hnsw_params all = completed(params);
    /* A base brings other levels: some more upper nodes, and two numbers a row. */
    const size_t merge = row_count * (2 * sizeof(uint32_t) + 1) + row_count / 8 + 8192;
    return sizeof(struct hnsw_build) + hnsw_graph_bytes(all.seed, all.m, row_count) + row_count +
           repair_bytes(row_count) + merge +
           worker_count * worker_bytes(all.ef_construction, 2 * all.m, row_count);
}

/* ---- HNSW_PREPARE ---- */

void hnsw_write_links(uint32_t *links, uint32_t width, const uint32_t *chosen, uint32_t count)
{
    memcpy(links, chosen, count * sizeof *links);
    memset(links + count, 0xff, (width - count) * sizeof *links);
}

static void prepare_row(struct hnsw_build *build, struct hnsw_worker *worker, uint32_t row)
{
    const struct hnsw *graph = &build->graph;
    uint32_t top = build->levels[row];
    uint32_t node = hnsw_descend(build, worker, top, row);
    for (uint32_t level = top;; level--) {
        uint32_t self = hnsw_node(graph, level, row);
        uint32_t count = hnsw_beam(build, worker, level, row, node);
        uint32_t chosen = hnsw_choose(build, worker, level, self, worker->pool, count);
        hnsw_write_links(hnsw_links(graph, level, self), hnsw_link_max(graph, level),
                         worker->chosen, chosen);
        if (level == 0)
            break;
        node = graph->levels[level].below[worker->pool[0].row];
    }
}

/* ---- HNSW_LINK ---- */

/* What `self` keeps of its links and the new one. */
static void choose_again(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                         uint32_t self, uint32_t added)
{
    const struct hnsw *graph = &build->graph;
    const uint32_t width = hnsw_link_max(graph, level);
    uint32_t *links = hnsw_links(graph, level, self);
    uint32_t count = 0;
    for (uint32_t i = 0; i <= width; i++) {
        worker->nodes[i] = i < width ? links[i] : added;
        worker->rows[i] = hnsw_row(graph, level, worker->nodes[i]);
    }
    quantize_score_row(build->quantizer, build->codes, hnsw_row(graph, level, self), worker->rows,
                       width + 1, worker->distances);
    worker->distance_count += width + 1;
    for (uint32_t i = 0; i <= width; i++)
        pool_insert(worker->near, &count, width + 1, worker->distances[i], worker->nodes[i]);
    uint32_t chosen = hnsw_choose(build, worker, level, self, worker->near, count);
    hnsw_write_links(links, width, worker->chosen, chosen);
}

static void link_back(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                      uint32_t self, uint32_t added)
{
    uint32_t *links = hnsw_links(&build->graph, level, self);
    const uint32_t width = hnsw_link_max(&build->graph, level);
    uint32_t count = 0;
    while (count < width && links[count] != HNSW_NONE)
        count++;
    if (count < width)
        links[count] = added;
    else
        choose_again(build, worker, level, self, added);
}

/* Those links of a row's node back to which belong to this part. */
static void link_row(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t row,
                     uint32_t part, uint32_t part_count)
{
    const struct hnsw *graph = &build->graph;
    for (uint32_t level = build->levels[row];; level--) {
        uint32_t self = hnsw_node(graph, level, row);
        const uint32_t *links = hnsw_links(graph, level, self);
        const uint32_t width = hnsw_link_max(graph, level);
        for (uint32_t i = 0; i < width && links[i] != HNSW_NONE; i++)
            if (links[i] % part_count == part)
                link_back(build, worker, level, links[i], self);
        if (level == 0)
            break;
    }
}

/* ---- phases ---- */

uint32_t hnsw_build_parts(const struct hnsw_build *build)
{
    uint32_t parts = (build->batch + BUILD_PREPARE_ROWS - 1) / BUILD_PREPARE_ROWS;
    switch (build->phase) {
    case HNSW_COPY:
        return hnsw_copy_parts(build);
    case HNSW_PREPARE:
        return parts;
    case HNSW_LINK:
        return parts < BUILD_LINK_PARTS_MAX ? parts : BUILD_LINK_PARTS_MAX;
    case HNSW_REACH:
    case HNSW_RETURN:
        return 1;
    case HNSW_HOLD:
    case HNSW_DONE:
        break;
    }
    return 0;
}

void hnsw_build_part(struct hnsw_build *build, uint32_t part, struct hnsw_worker *worker)
{
    const uint32_t part_count = hnsw_build_parts(build);
    ASSERT(part < part_count);
    ASSERT(worker->visited.count == build->graph.row_count);
    if (build->phase == HNSW_COPY) {
        hnsw_copy_part(build, part, worker);
    } else if (build->phase == HNSW_PREPARE) {
        uint32_t end = (part + 1) * BUILD_PREPARE_ROWS;
        end = end < build->batch ? end : build->batch;
        for (uint32_t i = part * BUILD_PREPARE_ROWS; i < end; i++)
            prepare_row(build, worker, hnsw_row_in_order(build, build->inserted + i));
    } else if (build->phase == HNSW_LINK) {
        for (uint32_t i = 0; i < build->batch; i++)
            link_row(build, worker, hnsw_row_in_order(build, build->inserted + i), part,
                     part_count);
    } else if (build->phase == HNSW_REACH) {
        build->repair.more = hnsw_repair_reach(build, worker);
    } else {
        build->repair.more = hnsw_repair_return(build, worker);
    }
}

void hnsw_build_advance(struct hnsw_build *build)
{
    ASSERT(build->phase != HNSW_DONE);
    if (build->phase == HNSW_COPY) {
        hnsw_build_continue(build);
    } else if (build->phase == HNSW_PREPARE) {
        build->phase = HNSW_LINK;
    } else if (build->phase == HNSW_LINK) {
        build->inserted += build->batch;
        hnsw_build_continue(build);
    } else if (!build->repair.more) {
        build->phase = build->phase == HNSW_REACH ? HNSW_RETURN : HNSW_DONE;
    }
}
