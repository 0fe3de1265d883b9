/* HNSW: a graph over the immutable rows of one segment, built once, then only read.
 *
 * Level 0 has every row; a row is also on level l with probability (1.25 m)^-l. On a level each
 * node has links to others near it, chosen so that they point in different directions (Malkov and
 * Yashunin, TPAMI 2020, algorithm 4). A search descends greedily from the one entry point to level
 * 0 and walks there (search.h).
 *
 * Layout
 * - Level 0: `link_max0` row numbers a row, unused slots last and HNSW_NONE: two lines for 32.
 * - An upper level numbers its nodes densely, in order of their rows, and has three arrays: the row
 *    of each node, its number on the level below (level 1: the row), and link_max links by number.
 *    About four bytes a row for all of them; a slot for each row and level would cost ten.
 *
 * Deterministic: a row's level is a hash of seed and row, rows enter in an order that the seed
 * decides, distances of SQ8 codes are integers. The same codes and parameters give the same graph,
 * bit for bit, with any number of workers, on any processor; of full rows (QUANTIZE_NONE), whose
 * distances are float32 sums, with one implementation of vecmath.
 *
 * Building is divided into phases of parts (struct hnsw_build). Who drives it decides how many
 * workers there are and where they meet; there is no thread, lock or atomic here. */
#ifndef INDEX_HNSW_H
#define INDEX_HNSW_H

#include "index/quantize.h"

enum {
    HNSW_LEVEL_MAX = 12, /* upper levels at most */
    HNSW_M_MIN = 4,
    HNSW_M_MAX = 32, /* a level-0 row of 64 links has one bit for each in a word */
    HNSW_M_DEFAULT = 16,
    HNSW_EF_MIN = 8,
    HNSW_EF_MAX = 2000,
    HNSW_EF_DEFAULT = 100,
    HNSW_ROWS_MAX = 1 << 30, /* the two bits above are flags in a search's pool */
};
#define HNSW_NONE 0xffffffffu

struct hnsw_level {
    uint32_t node_count; /* > 0 */
    uint32_t *rows;      /* of each node, ascending */
    uint32_t *below;     /* its number one level down */
    uint32_t *links;     /* node_count x link_max */
};

struct hnsw {
    uint32_t row_count;   /* > 0 */
    uint32_t link_max;    /* m: on upper levels */
    uint32_t link_max0;   /* 2 m: on level 0 */
    uint32_t level_count; /* upper levels: levels[1] to levels[level_count] */
    uint64_t seed;
    uint32_t entry;  /* a node of the top level; without upper levels a row */
    uint32_t *links; /* row_count x link_max0 */
    struct hnsw_level levels[HNSW_LEVEL_MAX + 1]; /* levels[0] is not used */
    void *memory; /* holds all arrays, of the heap that built it; NULL: they lie in an image */
};

struct hnsw_params {
    uint32_t m;               /* 0: the default; HNSW_M_MIN to HNSW_M_MAX, even */
    uint32_t ef_construction; /* 0: the default; HNSW_EF_MIN to HNSW_EF_MAX */
    uint64_t seed;
};

/* Whether each is in its range. */
bool hnsw_params_fit(const struct hnsw_params *params);

/* Frees what a build made. A zeroed graph is legal, and so is one in an image. */
void hnsw_dispose(struct hnsw *graph, struct heap *heap);

/* Level of a row: 0 to HNSW_LEVEL_MAX. */
uint32_t hnsw_level_of(uint64_t seed, uint32_t m, uint32_t row);

/* The links of a node (level 0: of a row), and how many there can be. */
static inline uint32_t *hnsw_links(const struct hnsw *graph, uint32_t level, uint32_t node)
{
    return level == 0 ? graph->links + (size_t)node * graph->link_max0
                      : graph->levels[level].links + (size_t)node * graph->link_max;
}

/* ---- building ---- */

struct hnsw_build;
struct hnsw_worker;

/* A build of a graph over SQ8 codes or full rows (quantize_builds), which must stay until its end.
 * 0, PDB_RESOURCE_EXHAUSTED, PDB_INVALID_ARGUMENT (a parameter out of its range), PDB_OUT_OF_RANGE
 * (no row, too many).
 *
 * The driver:
 *
 *     while (hnsw_build_parts(build) > 0) {
 *         for each part in 0 .. hnsw_build_parts(build) - 1, in any order, on any worker:
 *             hnsw_build_part(build, part, worker);
 *         once all of them have returned, on one thread:
 *             hnsw_build_advance(build);
 *     }
 *     hnsw_build_end(build, &graph);
 *
 * Parts of one phase may run at the same time, each with a worker of its own; what one worker wrote
 * must be visible to all before the next phase (any hand-over by mailbox or join does that). A part
 * takes a few milliseconds at most at usual parameters, so a worker can look for other work, or for
 * a wish to stop, between two of them. Nothing allocates once build and workers exist, so nothing
 * can fail. hnsw_build_abandon() may be called instead of going on.
 *
 * Rows can be held back: the build then says 0 parts when all others are in, and what it has can be
 * searched; after hnsw_build_release() it goes on. */
int hnsw_build_begin(const struct hnsw_params *params, const struct quantizer *quantizer,
                     const struct codes *codes, struct heap *heap, struct hnsw_build **build_out);
uint32_t hnsw_build_parts(const struct hnsw_build *build); /* of this phase; 0: finished */
void hnsw_build_part(struct hnsw_build *build, uint32_t part, struct hnsw_worker *worker);
void hnsw_build_advance(struct hnsw_build *build);
void hnsw_build_end(struct hnsw_build *build, struct hnsw *graph_out);
/* Before the first part: holds back `count` rows, less than there are, spread evenly over all. */
void hnsw_build_hold(struct hnsw_build *build, uint32_t count);
uint32_t hnsw_build_held(const struct hnsw_build *build); /* how many; 0: none now */
uint32_t hnsw_build_held_row(const struct hnsw_build *build, uint32_t i); /* of them */
const struct hnsw *hnsw_build_graph(const struct hnsw_build *build);      /* as far as it is */
void hnsw_build_release(struct hnsw_build *build);
void hnsw_build_abandon(struct hnsw_build *build); /* NULL is legal */

/* What a graph can begin with: one of rows that are mostly the same, with the same m. */
struct hnsw_base {
    const struct hnsw *graph;
    const uint32_t *new_rows; /* what each of its rows is now, or HNSW_NONE: removed */
};
/* The same, but rows of the base take links and levels with them, and only the others are inserted.
 * `hold` of all rows, as hnsw_build_hold() draws them, are held back: they are inserted last. The
 * base stays until hnsw_build_end(). PDB_INVALID_ARGUMENT too: another m, nothing to begin with. */
int hnsw_build_begin_from(const struct hnsw_params *params, const struct quantizer *quantizer,
                          const struct codes *codes, const struct hnsw_base *base, uint32_t hold,
                          struct heap *heap, struct hnsw_build **build_out);

/* Scratch of one worker for one build. PDB_RESOURCE_EXHAUSTED. */
int hnsw_worker_open(const struct hnsw_build *build, struct heap *heap,
                     struct hnsw_worker **worker_out);
/* The same before there is a build: for one with these parameters and so many rows. */
int hnsw_worker_open_for(const struct hnsw_params *params, uint32_t row_count, struct heap *heap,
                         struct hnsw_worker **worker_out);
void hnsw_worker_close(struct hnsw_worker *worker, struct heap *heap); /* NULL is legal */

struct hnsw_progress {
    uint64_t rows_done, rows_total;
    uint64_t repaired; /* rows that no way led to, or from, and that were linked */
};
void hnsw_build_progress(const struct hnsw_build *build, struct hnsw_progress *progress_out);

/* Distances computed so far, for who measures. */
uint64_t hnsw_worker_distances(const struct hnsw_worker *worker);

/* Bytes that a build and `worker_count` workers take, the graph included. Draws the level of each
 * row: some ten milliseconds for a million. */
size_t hnsw_build_bytes(const struct hnsw_params *params, uint32_t row_count,
                        uint32_t worker_count);

/* ---- checking ---- */

struct hnsw_findings {
    uint64_t dangling;   /* links to what does not exist */
    uint64_t loops;      /* links of a node to itself */
    uint64_t repeated;   /* a second link to the same node */
    uint64_t behind_end; /* links behind an unused slot */
    uint64_t unreached;  /* rows that no way on level 0 leads to from the entry point's row */
    uint64_t stuck;      /* rows from which no way on level 0 leads back there */
    uint64_t misplaced;  /* nodes of upper levels whose row or number below is wrong */
    uint64_t links;      /* on level 0, in all */
};
/* Counts everything that is wrong with a graph; a graph built here has only `links`. For tests and
 * for who checks a file on request: reads all of it in one go. PDB_RESOURCE_EXHAUSTED. */
int hnsw_check(const struct hnsw *graph, struct heap *heap, struct hnsw_findings *findings_out);

#endif
