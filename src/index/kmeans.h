/* k-means over SQ8 codes: the centroids of an IVF index.
 *
 * Points and centroids are codes of one quantizer, so distances and sums are integers and results
 * are the same on every processor, whoever computes which part. What is lost by rounding centroids
 * to codes is half a step, where points lie some ten steps from them.
 *
 * Functions work on a range of points or of centroids, for several workers: all nearest of one
 * round first, then kmeans_sort(), then all moves. */
#ifndef INDEX_KMEANS_H
#define INDEX_KMEANS_H

#include "index/quantize.h"

/* Codes of one shape: number i lies at bytes + i x stride. */
struct kmeans_codes {
    uint8_t *bytes;
    uint32_t *norms; /* squared, of each */
    uint32_t columns, stride;
};

static inline const int8_t *kmeans_code(const struct kmeans_codes *codes, uint32_t i)
{
    return (const int8_t *)codes->bytes + (size_t)i * codes->stride;
}

/* Of centroids `first` to first + count - 1 the nearest to a point, the first of those as near, and
 * (if not NULL) its squared distance less the point's squared norm. count > 0. */
uint32_t kmeans_nearest(const struct kmeans_codes *centroids, uint32_t first, uint32_t count,
                        const int8_t *point, int64_t *distance_out);
/* The same distance to each of them. */
void kmeans_distances(const struct kmeans_codes *centroids, uint32_t first, uint32_t count,
                      const int8_t *point, int64_t *distance_out);

/* Sorts points by where they belong: with nearest[i] < group_count for each of `count` points,
 * starts[g] to starts[g + 1] - 1 are the places in `order` of those of group g, ascending.
 * starts: group_count + 1. */
void kmeans_sort(const uint32_t *nearest, uint32_t count, uint32_t group_count, uint32_t *starts,
                 uint32_t *order);

/* Sums of so many codes fit 32 bits. */
enum { KMEANS_MEMBERS_MAX = INT32_MAX / 128 };

/* Moves a centroid to the mean of some points, at least one. sums: `columns` of scratch. */
void kmeans_move(const struct kmeans_codes *centroids, uint32_t centroid,
                 const struct kmeans_codes *points, const uint32_t *members, uint32_t count,
                 int32_t *sums);
/* Copies a point to a centroid. */
void kmeans_put(const struct kmeans_codes *centroids, uint32_t centroid,
                const struct kmeans_codes *points, uint32_t point);

/* After kmeans_sort(): gives each centroid with few points (less than an eighth of the mean, or
 * none) away to one with more than four times the mean, or to the largest while it is empty: it
 * becomes one of that one's points, drawn by `seed`, so that the next round divides them. Returns
 * how many were moved; `moved` (one byte a centroid) says which: they are not to be moved to their
 * mean. */
uint32_t kmeans_divide(const struct kmeans_codes *centroids, uint32_t first, uint32_t count,
                       const struct kmeans_codes *points, const uint32_t *starts,
                       const uint32_t *order, uint64_t seed, uint8_t *moved);

/* All of it at once, for a small set: divides the `count` points named by `members` among centroids
 * first to first + k - 1. k > 0, count > 0. scratch: kmeans_scratch_bytes(count, k, columns),
 * aligned to 64. */
size_t kmeans_scratch_bytes(uint32_t count, uint32_t k, uint32_t columns);
void kmeans_run(const struct kmeans_codes *centroids, uint32_t first, uint32_t k,
                const struct kmeans_codes *points, const uint32_t *members, uint32_t count,
                uint64_t seed, void *scratch);

#endif
