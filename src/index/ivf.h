/* IVF: rows in lists by which of some hundreds or thousands of centroids is nearest, so that a
 * search looks only at the lists nearest to its query.
 *
 * Codes lie in order of lists, each list's rows ascending; `rows` says which row lies where, and a
 * place is what codes are numbered by. Centroids are SQ8 codes themselves (of a quantizer of their
 * own): a quarter of the memory, and integers for k-means. PQ codes are of what a row differs by
 * from its list's centroid (pq.h); others are of the row.
 *
 * Two levels: lists are numbered by groups of about the square root of their number, and each group
 * has a centroid, so neither a row nor a query has to meet every list: a million rows of 768
 * columns against 2,000 centroids one by one would be half a minute.
 *
 * Deterministic: the same rows, parameters and seed give the same lists, with any number of
 * workers. */
#ifndef INDEX_IVF_H
#define INDEX_IVF_H

#include "index/quantize.h"

enum {
    IVF_LISTS_MAX = 65536,
    IVF_GROUPS_MAX = 256,
    IVF_ONE_GROUP = 48,     /* lists: with no more all of them are looked at */
    IVF_LIST_ROWS_MIN = 16, /* on average */
};

struct ivf {
    uint32_t list_count;        /* 1 to IVF_LISTS_MAX */
    uint32_t group_count;       /* 1 to IVF_GROUPS_MAX, at most list_count */
    struct quantizer quantizer; /* SQ8: of the centroids; with its own mean */
    struct codes centroids;     /* of the groups, then of the lists */
    uint32_t *groups;           /* group_count + 1: the first list of each, and list_count */
    uint32_t *lists;            /* list_count + 1: the first place of each, and the row count */
    uint32_t *rows;             /* at each place */
};

/* The code of a list's centroid. */
static inline const int8_t *ivf_centroid(const struct ivf *ivf, uint32_t list)
{
    return (const int8_t *)ivf->centroids.bytes +
           ((size_t)ivf->group_count + list) * ivf->quantizer.stride;
}

/* Centroids are means, which want squares: rows of the other metrics, too, are divided by Euclidean
 * distances, and those of hamming as vectors of zeros and ones, among which that is the same. */
enum pdb_metric ivf_metric_of(enum pdb_metric metric);
/* A row as the centroids' quantizer takes it: itself, or written to `room` (dimension floats). */
const float *ivf_vector_of(enum pdb_metric metric, uint32_t dimension, const float *vector,
                           float *room);

/* Lists for so many rows, unless told: 2 sqrt(n), at least one. */
uint32_t ivf_default_lists(uint32_t row_count);
/* What `wanted` (0: the default) becomes: not so many that lists are all but empty. */
uint32_t ivf_list_count(uint32_t wanted, uint32_t row_count);
uint32_t ivf_group_count(uint32_t list_count);
/* Lists that a search looks at, unless told. */
uint32_t ivf_default_probes(const struct ivf *ivf);

/* Memory for centroids, groups and (row_count) places, with `quantizer`, which becomes the lists'
 * own. PDB_RESOURCE_EXHAUSTED, and the quantizer stays the caller's. */
int ivf_init(struct ivf *ivf, const struct quantizer *quantizer, uint32_t list_count,
             uint32_t row_count, struct heap *heap);
/* mapped: arrays but the quantizer's lie in an image. A zeroed struct is legal. */
void ivf_dispose(struct ivf *ivf, bool mapped, struct heap *heap);
/* Of the arrays. */
size_t ivf_bytes(const struct ivf *ivf, uint32_t row_count);

#endif
