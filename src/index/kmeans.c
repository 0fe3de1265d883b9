/* kmeans.c: Lloyd's rounds, on integers. */
#include "index/kmeans.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum {
    ROUNDS = 8,
    AT_ONCE = 64,
    TOO_FEW = 8,  /* times fewer than the mean */
    TOO_MANY = 4, /* times the mean */
};

void kmeans_distances(const struct kmeans_codes *centroids, uint32_t first, uint32_t count,
                      const int8_t *point, int64_t *distance_out)
{
    uint32_t rows[AT_ONCE];
    int32_t dots[AT_ONCE];
    for (uint32_t i = 0; i < AT_ONCE; i++)
        rows[i] = i;
    for (uint32_t done = 0; done < count;) {
        uint32_t some = count - done < AT_ONCE ? count - done : AT_ONCE;
        vecmath_s8_gather(point, kmeans_code(centroids, first + done), centroids->stride, rows,
                          some, centroids->columns, dots);
        for (uint32_t i = 0; i < some; i++)
            distance_out[done + i] =
                (int64_t)centroids->norms[first + done + i] - 2 * (int64_t)dots[i];
        done += some;
    }
}

uint32_t kmeans_nearest(const struct kmeans_codes *centroids, uint32_t first, uint32_t count,
                        const int8_t *point, int64_t *distance_out)
{
    int64_t distances[AT_ONCE], least = INT64_MAX;
    uint32_t nearest = first;
    ASSERT(count > 0);
    for (uint32_t done = 0; done < count;) {
        uint32_t some = count - done < AT_ONCE ? count - done : AT_ONCE;
        kmeans_distances(centroids, first + done, some, point, distances);
        for (uint32_t i = 0; i < some; i++)
            if (distances[i] < least) {
                least = distances[i];
                nearest = first + done + i;
            }
        done += some;
    }
    if (distance_out != NULL)
        *distance_out = least;
    return nearest;
}

void kmeans_sort(const uint32_t *nearest, uint32_t count, uint32_t group_count, uint32_t *starts,
                 uint32_t *order)
{
    memset(starts, 0, ((size_t)group_count + 1) * sizeof *starts);
    for (uint32_t i = 0; i < count; i++)
        starts[nearest[i] + 1]++;
    for (uint32_t g = 0; g < group_count; g++)
        starts[g + 1] += starts[g];
    for (uint32_t i = 0; i < count; i++)
        order[starts[nearest[i]]++] = i;
    /* each start has become its end, which is the next one's start */
    memmove(starts + 1, starts, group_count * sizeof *starts);
    starts[0] = 0;
}

static int8_t rounded(int32_t sum, int32_t count)
{
    int32_t half = sum < 0 ? -(count / 2) : count / 2;
    return (int8_t)((sum + half) / count);
}

void kmeans_move(const struct kmeans_codes *centroids, uint32_t centroid,
                 const struct kmeans_codes *points, const uint32_t *members, uint32_t count,
                 int32_t *sums)
{
    const uint32_t columns = centroids->columns;
    int8_t *code = (int8_t *)centroids->bytes + (size_t)centroid * centroids->stride;
    uint32_t norm = 0;
    ASSERT(count > 0 && count <= KMEANS_MEMBERS_MAX);
    memset(sums, 0, columns * sizeof *sums);
    for (uint32_t i = 0; i < count; i++) {
        const int8_t *point = kmeans_code(points, members[i]);
        for (uint32_t j = 0; j < columns; j++)
            sums[j] += point[j];
    }
    for (uint32_t j = 0; j < columns; j++) {
        code[j] = rounded(sums[j], (int32_t)count);
        norm += (uint32_t)(code[j] * code[j]);
    }
    memset(code + columns, 0, centroids->stride - columns);
    centroids->norms[centroid] = norm;
}

void kmeans_put(const struct kmeans_codes *centroids, uint32_t centroid,
                const struct kmeans_codes *points, uint32_t point)
{
    memcpy(centroids->bytes + (size_t)centroid * centroids->stride, kmeans_code(points, point),
           centroids->stride);
    centroids->norms[centroid] = points->norms[point];
}

static uint32_t size_of(const uint32_t *starts, uint32_t group)
{
    return starts[group + 1] - starts[group];
}

/* Of those that have not given anything yet the one with the most points. */
static uint32_t largest_of(const uint32_t *starts, uint32_t count, const uint8_t *moved)
{
    uint32_t largest = 0, most = 0;
    for (uint32_t g = 0; g < count; g++)
        if (!moved[g] && size_of(starts, g) > most) {
            largest = g;
            most = size_of(starts, g);
        }
    return largest;
}

uint32_t kmeans_divide(const struct kmeans_codes *centroids, uint32_t first, uint32_t count,
                       const struct kmeans_codes *points, const uint32_t *starts,
                       const uint32_t *order, uint64_t seed, uint8_t *moved)
{
    const uint32_t mean = (starts[count] - starts[0]) / count;
    uint32_t given = 0;
    memset(moved, 0, count);
    for (uint32_t g = 0; g < count; g++) {
        uint32_t size = size_of(starts, g);
        if (moved[g] || (size > 0 && size * (uint64_t)TOO_FEW >= mean))
            continue;
        uint32_t from = largest_of(starts, count, moved), most = size_of(starts, from);
        if (from == g || most < 2 || (size > 0 && most <= TOO_MANY * mean))
            continue;
        uint32_t point = (uint32_t)(hash_u64(seed + g) % most);
        kmeans_put(centroids, first + g, points, order[starts[from] + point]);
        moved[g] = 1;
        /* its own centroid stays as it is for this round, and nobody else takes from it */
        moved[from] = 1;
        given++;
    }
    return given;
}

/* ---- a whole run ---- */

struct run {
    const struct kmeans_codes *centroids, *points;
    const uint32_t *members;
    uint32_t first, k, count;
    int32_t *sums;
    uint32_t *nearest, *order, *starts;
    uint8_t *moved;
};

size_t kmeans_scratch_bytes(uint32_t count, uint32_t k, uint32_t columns)
{
    return columns * sizeof(int32_t) + (2 * (size_t)count + k + 1) * sizeof(uint32_t) +
           bytes_align_up(k, 8);
}

static struct run run_of(void *scratch, uint32_t count, uint32_t k, uint32_t columns)
{
    struct run run = {.count = count, .k = k};
    run.sums = scratch;
    run.nearest = (uint32_t *)(void *)(run.sums + columns);
    run.order = run.nearest + count;
    run.starts = run.order + count;
    run.moved = (uint8_t *)(run.starts + k + 1);
    return run;
}

static void one_round(const struct run *run, uint64_t seed)
{
    for (uint32_t i = 0; i < run->count; i++)
        run->nearest[i] = kmeans_nearest(run->centroids, run->first, run->k,
                                         kmeans_code(run->points, run->members[i]), NULL) -
                          run->first;
    kmeans_sort(run->nearest, run->count, run->k, run->starts, run->order);
    for (uint32_t i = 0; i < run->count; i++)
        run->order[i] = run->members[run->order[i]];
    (void)kmeans_divide(run->centroids, run->first, run->k, run->points, run->starts, run->order,
                        seed, run->moved);
    for (uint32_t c = 0; c < run->k; c++)
        if (!run->moved[c] && run->starts[c + 1] > run->starts[c])
            kmeans_move(run->centroids, run->first + c, run->points, run->order + run->starts[c],
                        run->starts[c + 1] - run->starts[c], run->sums);
}

void kmeans_run(const struct kmeans_codes *centroids, uint32_t first, uint32_t k,
                const struct kmeans_codes *points, const uint32_t *members, uint32_t count,
                uint64_t seed, void *scratch)
{
    ASSERT(k > 0 && count > 0);
    struct run run = run_of(scratch, count, k, centroids->columns);
    run.centroids = centroids;
    run.points = points;
    run.members = members;
    run.first = first;
    /* begun with points from all over the set, each from a stretch of its own */
    for (uint32_t c = 0; c < k; c++) {
        uint32_t from = (uint32_t)((uint64_t)count * c / k);
        uint32_t to = (uint32_t)((uint64_t)count * (c + 1) / k);
        uint64_t random = hash_u64(seed + c + 1);
        kmeans_put(centroids, first + c, points,
                   members[from + (to > from ? (uint32_t)(random % (to - from)) : 0)]);
    }
    for (uint64_t round = 0; round < ROUNDS; round++)
        one_round(&run, hash_u64(seed + k + round));
}
