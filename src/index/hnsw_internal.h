/* What the files of the graph share. */
#ifndef INDEX_HNSW_INTERNAL_H
#define INDEX_HNSW_INTERNAL_H

#include "index/hnsw.h"
#include "index/pool.h"
#include "index/visited.h"

enum {
#ifdef PDB_STRESS
    BUILD_PREPARE_ROWS = 1,
    BUILD_COPY_ROWS = 1,
#else
    BUILD_COPY_ROWS = 64,
    BUILD_PREPARE_ROWS = 8, /* rows of a part: a few milliseconds */
#endif
    BUILD_LINK_PARTS_MAX = 32,
    BUILD_BATCH_MAX = 8192,
    BUILD_BATCH_SHARE = 32, /* a batch is this part of what is there */
};

enum hnsw_phase {
    HNSW_COPY,    /* rows of the base take its links with them */
    HNSW_PREPARE, /* rows of the batch find their neighbours in the graph without the batch */
    HNSW_LINK,    /* the neighbours link back */
    HNSW_HOLD,    /* all are in but those held back */
    HNSW_REACH,   /* a walk from the entry point, and a link to what it does not reach */
    HNSW_RETURN,  /* the same for rows from which no way leads to the entry point */
    HNSW_DONE,
};

/* Progress of the two repairing phases; see hnsw_repair.c. */
struct hnsw_repair {
    uint64_t *tree;    /* row_count masks: which links of a row the walk went by */
    uint32_t *queue;   /* rows in the order of the walk */
    uint64_t *reached; /* bitsets */
    uint64_t *returns;
    uint32_t head, tail; /* of the queue */
    uint32_t cursor;     /* next row looked at */
    bool changed;        /* in this pass */
    bool mending;        /* passes find nothing new: rows left are linked */
    bool more;           /* the last step left something to do */
    uint64_t repaired;
};

struct hnsw_build {
    struct heap *heap;
    const struct quantizer *quantizer;
    const struct codes *codes;
    struct hnsw graph;
    uint32_t ef;
    enum hnsw_phase phase;
    uint32_t order_factor, order_offset; /* of the order of insertion */
    uint32_t entry_row;
    uint32_t inserted;     /* positions of the order that are in the graph */
    uint32_t batch;        /* and how many follow in this batch */
    uint32_t held;         /* at the end of the order, not to be inserted yet */
    uint8_t *levels;       /* of each row */
    struct hnsw_base base; /* of a merge, as the next two */
    uint32_t *base_rows;   /* of each row: what it is in the base, or HNSW_NONE */
    uint32_t *order;       /* rows that are not copied; order_first is the first's position */
    uint32_t order_first;
    struct hnsw_repair repair;
};

struct hnsw_worker {
    struct visited visited;
    struct pool_entry *pool; /* ef + 1 */
    struct pool_entry *near; /* candidates for the links of one node */
    uint32_t *nodes, *rows;  /* of one expansion, or of one list of links */
    float *distances;
    uint32_t *chosen;
    uint64_t distance_count;
};

/* A build with its parameters, levels drawn and memory but for the graph's. */
int hnsw_build_open(const struct hnsw_params *params, const struct quantizer *quantizer,
                    const struct codes *codes, struct heap *heap, struct hnsw_build **build_out);
/* With the next batch, or what comes after the last one. */
void hnsw_build_continue(struct hnsw_build *build);
/* Every row is at one position, spread evenly. */
uint32_t hnsw_permuted(const struct hnsw_build *build, uint32_t i);
void hnsw_write_links(uint32_t *links, uint32_t width, const uint32_t *chosen, uint32_t count);
uint32_t hnsw_copy_parts(const struct hnsw_build *build);
void hnsw_copy_part(struct hnsw_build *build, uint32_t part, struct hnsw_worker *worker);

/* Row of a node. */
static inline uint32_t hnsw_row(const struct hnsw *graph, uint32_t level, uint32_t node)
{
    return level == 0 ? node : graph->levels[level].rows[node];
}

static inline uint32_t hnsw_link_max(const struct hnsw *graph, uint32_t level)
{
    return level == 0 ? graph->link_max0 : graph->link_max;
}

/* Number of a row's node on a level that it is on. */
uint32_t hnsw_node(const struct hnsw *graph, uint32_t level, uint32_t row);

/* Arrays of a graph without links: all levels with their nodes. */
int hnsw_allocate(struct hnsw *graph, const uint8_t *levels, struct heap *heap);
size_t hnsw_graph_bytes(uint64_t seed, uint32_t m, uint32_t row_count);

/* Position `i` of the order of insertion, 0 to row_count - 1; the entry point's row is the
 * first. */
uint32_t hnsw_row_in_order(const struct hnsw_build *build, uint32_t i);

/* The `ef` nodes nearest to a row that a walk on a level finds from `entry`, in worker->pool,
 * sorted; returns how many. */
uint32_t hnsw_beam(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                   uint32_t row, uint32_t entry);
/* Descends greedily from the top to `level`, and returns the node found there. */
uint32_t hnsw_descend(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                      uint32_t row);
/* Chooses at most link_max of `count` candidates, sorted by distance to `self`, that point in
 * different directions; writes worker->chosen, returns how many. */
uint32_t hnsw_choose(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t level,
                     uint32_t self, const struct pool_entry *candidates, uint32_t count);

/* Before the first step. Then one bounded step of a repairing phase; false once there is nothing
 * left to do. */
void hnsw_repair_begin(struct hnsw_build *build);
bool hnsw_repair_reach(struct hnsw_build *build, struct hnsw_worker *worker);
bool hnsw_repair_return(struct hnsw_build *build, struct hnsw_worker *worker);

#endif
