/* Searching an index: one query, in steps, on one core.
 *
 *     index_search_begin(&search, scratch, index, &query);
 *     while (!index_search_step(&search, budget))
 *         ...;                                           the reactor breathes
 *     count = index_search_end(&search, candidates);     the best by their codes, sorted
 *     count = index_rerank(..., candidates, count, k);   and by the vectors themselves
 *
 * Between end and re-ranking the caller fetches the candidates' vectors from wherever they are:
 * memory, a mapping, or a disk, which takes a turn of its own. Nothing here allocates or can fail:
 * all memory is the scratch, of which a core has a few, one for each search that is under way at a
 * time.
 *
 * What a search does - With a graph: greedily down to level 0, then a walk with one sorted pool
 * that expands the nearest
 *    row not yet expanded, and stops when that lies farther than (1 + gamma) times the k-th best
 *    (Al-Jazzazi et al., NeurIPS 2025, arXiv 2505.15636). Farther rows do not enter the pool. `ef`
 *    caps the pool. For dot there are no true distances and gamma means nothing: `ef` alone. The
 *    ratio is one of distances: on squared ones it is squared.
 * - With lists: those nearest to the query are scanned, `nprobe` of them, more where few of their
 *    rows may be returned, and, if too few were found, all.
 * - Rows that may not be returned (dead, or not allowed) are walked through like others and never
 *    count as the k-th best.
 * - Without a graph, or when few rows are allowed, or when a walk has cost as much as that would
 * have,
 *    or found too few: all codes are scanned. So k rows come back whenever as many may be returned.
 */
#ifndef INDEX_SEARCH_H
#define INDEX_SEARCH_H

#include "index/index.h"

enum {
    INDEX_EF_MAX = 16384,   /* entries of a pool */
    INDEX_EF_CAP = 1000,    /* the default where gamma decides */
    INDEX_EF_DOT = 200,     /* and where it cannot */
    INDEX_WANT_MAX = 12288, /* candidates at most: PDB_K_MAX and what re-ranking adds */
};
#define INDEX_GAMMA_DEFAULT  0.1f  /* where nothing was measured */
#define INDEX_TARGET_DEFAULT 0.97f /* where something was */

struct index_query {
    const float *vector; /* of the index's dimension, finite, at any address; used by begin only */
    uint32_t k;          /* 1 to PDB_K_MAX */
    uint32_t want;       /* candidates to return, at least k; 0: what target_recall takes,
                          * or index_want_of(k): search->want tells after begin */
    float gamma;         /* < 0: the default; 0: no such stop, `ef` alone */
    uint32_t ef;         /* 0: the default; raised to `want` */
    uint32_t nprobe;     /* of lists: how many are looked at; 0: the default */
    /* Share of the results that is to be right, 0 to 1; 0: INDEX_TARGET_DEFAULT. By what was
     * measured at the making (calibrate.h) it decides the effort, unless gamma >= 0 or ef says it,
     * and then also `want` where that is 0. */
    float target_recall;
    /* Which rows may be returned; all that are given must agree. Bitsets cover all rows and stay
     * until the search ends; bits behind the last row are 0. */
    const uint64_t *dead;    /* NULL: none is. Set bit: not this one */
    const uint64_t *allowed; /* NULL: all are. Set bit: this one */
    uint32_t allowed_count;  /* how many rows both leave, where known; 0: unknown */
    bool (*accepts)(const void *owner, uint32_t row); /* NULL: all; asked last, of near rows only */
    const void *owner;
};

/* Candidates for k results of this index: no more where codes are the rows themselves; up to ten
 * for each result where they have one bit, of which a search returns those that their error bounds
 * do not rule out. */
uint32_t index_want_of(const struct index *index, uint32_t k);

struct index_candidate {
    float distance; /* as quantize_distance(): the metric's, lower is better */
    uint32_t row;
};

struct index_scratch;

/* For indexes of at most row_max rows and dimension_max dimensions. PDB_RESOURCE_EXHAUSTED. */
int index_scratch_open(struct heap *heap, uint32_t row_max, uint32_t dimension_max,
                       struct index_scratch **scratch_out);
void index_scratch_close(struct index_scratch *scratch, struct heap *heap); /* NULL is legal */
/* Whether it is large enough for this index. */
bool index_scratch_fits(const struct index_scratch *scratch, const struct index *index);
size_t index_scratch_bytes(uint32_t row_max, uint32_t dimension_max);

enum index_search_phase {
    INDEX_SEARCH_WALK,
    INDEX_SEARCH_LISTS,
    INDEX_SEARCH_SCAN,
    INDEX_SEARCH_DONE,
};

struct index_search_stats {
    uint64_t distances; /* rows scored by codes */
    uint32_t expanded;  /* rows whose links were followed; of lists: those looked at */
    bool capped;        /* the pool was full: `ef` may have cost recall */
    bool scanned;       /* all allowed rows were scored */
    bool complete;      /* after the end: all allowed rows are among the candidates */
    bool below_target;  /* no effort that was measured is known to reach target_recall */
};

/* Of an index with lists. */
struct index_search_lists {
    struct coded_query coded;    /* for centroids */
    uint32_t probes;             /* lists wanted */
    uint32_t ranked_max;         /* and ranked */
    uint32_t group_count, group; /* near groups whose lists are to be ranked; how many have been */
    uint32_t next;               /* of those ranked */
    bool every;                  /* all lists are looked at, by number */
    uint32_t list;               /* and which is next */
    uint32_t place, end;         /* of the list being scanned: what is left */
    uint64_t tested, accepted;   /* rows near enough, and those that may be returned */
};

/* One search under way. The fields are search.c's; stats may be read at any time, and so may
 * `want`: so many candidates there will be at most. */
struct index_search {
    const struct index *index;
    struct index_scratch *scratch;
    enum index_search_phase phase;
    uint32_t k, want, ef;
    float stretch;   /* 1 + gamma, squared where distances are; 0: no such stop */
    bool slackens;   /* distances are estimates, and nobody has measured what gamma they take */
    float slack;     /* then: so much beyond */
    bool exhaustive; /* all codes are to be scanned */
    bool selective;
    const uint64_t *dead, *allowed;
    bool (*accepts)(const void *owner, uint32_t row);
    const void *owner;
    uint64_t walk_max;           /* distances, then a scan is cheaper */
    uint32_t pool_count, cursor; /* of the walk */
    uint32_t best_count;         /* of those that may be returned */
    uint32_t scan_row;           /* next to be scanned */
    struct coded_query coded;
    struct index_search_lists lists;
    struct index_search_stats stats;
};

/* `search` and `scratch` belong together until the end. A search may be dropped at any time. */
void index_search_begin(struct index_search *search, struct index_scratch *scratch,
                        const struct index *index, const struct index_query *query);
/* Scores about `budget` rows (at most one row's links more); true once done. */
bool index_search_step(struct index_search *search, uint32_t budget);
/* Writes at most `want` candidates, nearest first, ties by the smaller row; returns how many. */
uint32_t index_search_end(struct index_search *search, struct index_candidate *candidates_out);

/* Replaces the candidates' distances by exact ones, sorts by them (ties: the smaller row), and
 * returns how many are left of the first k. vectors[i]: the vector of candidates[i], at any
 * address. Distances as an exact scan has them: negated similarity, squared L2. count: at most
 * INDEX_WANT_MAX. */
uint32_t index_rerank(const struct quantizer *quantizer, const float *query,
                      const void *const *vectors, struct index_candidate *candidates,
                      uint32_t count, uint32_t k);

#endif
