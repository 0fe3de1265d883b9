/* What the files of a search share. */
#ifndef INDEX_SEARCH_INTERNAL_H
#define INDEX_SEARCH_INTERNAL_H

#include "base/bitset.h"
#include "index/pool.h"
#include "index/search.h"
#include "index/visited.h"

#include <vecmath/vecmath.h>

enum {
    SEARCH_LIST_MAX = 2 * HNSW_M_MAX,
#ifdef PDB_STRESS
    SEARCH_SCAN_ROWS = 3,
#else
    SEARCH_SCAN_ROWS = 128, /* scored by one call */
#endif
};

struct index_scratch {
    uint32_t row_max, dimension_max;
    struct visited visited;
    struct pool_entry *pool; /* INDEX_EF_MAX + 1 */
    struct pool_entry *best; /* INDEX_EF_MAX + 1; with lists these are places */
    void *query_memory;
    void *centroid_memory;                    /* a query coded for centroids */
    struct pool_entry groups[IVF_GROUPS_MAX]; /* nearest first */
    uint32_t rows[SEARCH_SCAN_ROWS + SEARCH_LIST_MAX];
    float distances[SEARCH_SCAN_ROWS + SEARCH_LIST_MAX];
};

static inline bool search_accepts(const struct index_search *search, uint32_t row)
{
    if (search->dead != NULL && bitset_test(search->dead, row))
        return false;
    if (search->allowed != NULL && !bitset_test(search->allowed, row))
        return false;
    return search->accepts == NULL || search->accepts(search->owner, row);
}

/* Of `inserted` insertions into a pool of `count`, in rows scored: 8 KiB moved are about one. */
static inline uint32_t search_insertion_cost(uint32_t inserted, uint32_t count)
{
    return (uint32_t)((uint64_t)inserted * count / 2048);
}

/* What the stop rule of a walk with this gamma multiplies distances by; 0: the metric has none. */
float search_stretch_of(enum pdb_metric metric, float gamma);
/* What searches of this index are given more or less of. */
enum calibration_effort search_effort_of(const struct index *index);
enum vecmath_metric search_kernel_of(enum pdb_metric metric);
/* What the walk's stop rule allows beyond its ratio, where distances are estimates. */
void search_update_slack(struct index_search *search);
/* Drops from the sorted `list` what by its bound cannot be among the k nearest; returns how many
 * are left. other: room for k. */
uint32_t search_drop_hopeless(const struct index_search *search, struct pool_entry *list,
                              uint32_t count, struct pool_entry *other);

/* Greedily to level 0; the walk's pool then holds where it begins. */
void hnsw_search_begin(struct index_search *search);
/* Expands rows until the budget is spent (false) or the walk ends (true). */
bool hnsw_search_step(struct index_search *search, uint32_t *budget);

/* Ranks the groups of lists; the rest is done by steps. matches: rows that may be returned. */
void ivf_search_begin(struct index_search *search, const struct index_query *query,
                      uint32_t matches);
/* Of the groups that were ranked how many nearest ones a search ranks the lists of when it wants so
 * many of these. */
uint32_t ivf_search_groups(const struct index_search *search, uint32_t ranked);
/* Ranks the lists of all of them at once, for those who measure; steps do it otherwise. */
void ivf_search_rank(struct index_search *search);
bool ivf_search_step(struct index_search *search, uint32_t *budget);

#endif
