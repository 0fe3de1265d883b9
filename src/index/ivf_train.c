/* ivf_train.c: centroids of groups and lists, learned from a sample.
 *
 * Groups first, by k-means over some of the points. Each then gets lists by how many points it has
 * (so that lists become about equally long), and divides its own points among them. Last, rounds in
 * which every point may go to a list of any near group, and lists of few points are given to those
 * of their group that have too many. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "index/ivf_build_internal.h"
#include "index/quantize_internal.h"

#include <proximadb/error.h>

#include "base/no_libc_heap.h"

enum {
    GROUP_LISTS_MAX = 4, /* times the mean: else one group of equal rows would get them all */
#ifdef PDB_STRESS
    PART_POINTS = 1,
    PART_CENTROIDS = 1,
#else
    PART_POINTS = 256,
    PART_CENTROIDS = 16,
#endif
};

/* ---- the sample ---- */

uint32_t ivf_sample_count(const struct ivf_params *params, uint32_t row_count)
{
    uint64_t points = (uint64_t)ivf_list_count(params->lists, row_count) * IVF_SAMPLE_PER_LIST;
    points = points > IVF_SAMPLE_LEAST ? points : IVF_SAMPLE_LEAST;
    return points < row_count ? (uint32_t)points : row_count;
}

static size_t order_bytes(uint32_t point_count, uint32_t centroid_count)
{
    return ((size_t)point_count + centroid_count + 1) * sizeof(uint32_t) + centroid_count;
}

uint64_t ivf_sample_bytes(const struct ivf_params *params, const struct quantizer *coarse,
                          uint32_t row_count)
{
    const uint32_t points = ivf_sample_count(params, row_count);
    const uint32_t lists = ivf_list_count(params->lists, row_count);
    return quantize_codes_bytes(coarse, points) + quantize_sums_bytes(coarse, points) +
           order_bytes(points, lists + ivf_group_count(lists)) + VECMATH_CODE_ALIGNMENT;
}

int ivf_begin_sample(struct ivf_build *build)
{
    const struct quantizer *coarse = &build->ivf.quantizer;
    const uint32_t all = build->ivf.list_count + build->ivf.group_count;
    const uint32_t points = ivf_sample_count(&build->params, build->rows.count);
    struct heap *heap = build->heap;
    const uint32_t wanted = build->ivf.group_count * IVF_GROUP_SAMPLE;
    build->point_count = points;
    build->group_point_count = wanted < points ? wanted : points;
    build->points = (struct kmeans_codes){NULL, NULL, coarse->columns, coarse->stride};
    build->points.bytes =
        heap_alloc_aligned(heap, VECMATH_CODE_ALIGNMENT, quantize_codes_bytes(coarse, points));
    build->points.norms = heap_calloc(heap, points, sizeof(uint32_t));
    build->order = heap_calloc(heap, points, sizeof(uint32_t));
    build->starts = heap_calloc(heap, (size_t)all + 1, sizeof(uint32_t));
    build->moved = heap_calloc(heap, all, 1);
    if (build->points.bytes == NULL || build->points.norms == NULL || build->order == NULL ||
        build->starts == NULL || build->moved == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    build->point_codes = (struct codes){
        .bytes = build->points.bytes, .norms = build->points.norms, .row_count = points};
    return PDB_OK;
}

/* The i-th row of the sample: drawn from its own stretch. */
static uint32_t sample_row(const struct ivf_build *build, uint32_t i)
{
    uint64_t first = (uint64_t)build->rows.count * i / build->point_count;
    uint64_t end = (uint64_t)build->rows.count * (i + 1) / build->point_count;
    return (uint32_t)(first + hash_u64(build->params.seed + i + 1) % (end - first));
}

static int read_points(struct ivf_build *build, uint32_t part, struct ivf_worker *worker)
{
    const uint32_t rows = ivf_rows_per_part(build), first = part * rows;
    const uint32_t left = build->point_count - first, count = left < rows ? left : rows;
    for (uint32_t i = first; i < first + count; i++) {
        const float *vector = ivf_vector(build, sample_row(build, i), worker->room);
        if (vector == NULL)
            return PDB_DATA_LOSS;
        vector = ivf_vector_of(build->index->quantizer.metric, build->index->quantizer.dimension,
                               vector, worker->expanded);
        quantize_encode(&build->ivf.quantizer, vector, worker->scratch, &build->point_codes, i);
    }
    return PDB_OK;
}

/* The i-th of the points that groups are learned from. */
static uint32_t group_point(const struct ivf_build *build, uint32_t i)
{
    return (uint32_t)((uint64_t)build->point_count * i / build->group_point_count);
}

static void begin_groups(struct ivf_build *build)
{
    const uint32_t groups = build->ivf.group_count;
    for (uint32_t g = 0; g < groups; g++) {
        uint32_t first = (uint32_t)((uint64_t)build->point_count * g / groups);
        uint32_t end = (uint32_t)((uint64_t)build->point_count * (g + 1) / groups);
        uint64_t random = hash_u64(build->params.seed * 3 + g);
        uint32_t point = end > first ? first + (uint32_t)(random % (end - first)) : 0;
        kmeans_put(&build->centroids, g, &build->points, point);
    }
}

/* ---- nearest and move, for groups and for lists ---- */

static uint32_t points_of_phase(const struct ivf_build *build)
{
    return build->phase == IVF_GROUP_NEAREST ? build->group_point_count : build->point_count;
}

static void find_groups(struct ivf_build *build, uint32_t part)
{
    const uint32_t all = points_of_phase(build), first = part * PART_POINTS;
    const uint32_t end = all - first < PART_POINTS ? all : first + PART_POINTS;
    for (uint32_t i = first; i < end; i++) {
        uint32_t point = build->phase == IVF_GROUP_NEAREST ? group_point(build, i) : i;
        build->nearest[i] = kmeans_nearest(&build->centroids, 0, build->ivf.group_count,
                                           kmeans_code(&build->points, point), NULL);
    }
}

static void find_lists(struct ivf_build *build, uint32_t part, struct ivf_worker *worker)
{
    const uint32_t first = part * PART_POINTS, left = build->point_count - first;
    const uint32_t end = first + (left < PART_POINTS ? left : PART_POINTS);
    for (uint32_t i = first; i < end; i++)
        build->nearest[i] = ivf_nearest_list(build, worker, kmeans_code(&build->points, i));
}

static void move_one(struct ivf_build *build, uint32_t centroid, uint32_t from, uint32_t to,
                     struct ivf_worker *worker)
{
    if (to > from)
        kmeans_move(&build->centroids, centroid, &build->points, build->order + from, to - from,
                    worker->sums);
}

static void move_groups(struct ivf_build *build, uint32_t part, struct ivf_worker *worker)
{
    const uint32_t first = part * PART_CENTROIDS, left = build->ivf.group_count - first;
    const uint32_t end = first + (left < PART_CENTROIDS ? left : PART_CENTROIDS);
    for (uint32_t g = first; g < end; g++)
        if (!build->moved[g])
            move_one(build, g, build->starts[g], build->starts[g + 1], worker);
}

/* Groups come first among the centroids, and move to the mean of all of their lists' points. */
static void move_lists(struct ivf_build *build, uint32_t part, struct ivf_worker *worker)
{
    const struct ivf *ivf = &build->ivf;
    const uint32_t groups = ivf->group_count, all = groups + ivf->list_count;
    const uint32_t first = part * PART_CENTROIDS, left = all - first;
    const uint32_t end = first + (left < PART_CENTROIDS ? left : PART_CENTROIDS);
    for (uint32_t c = first; c < end; c++) {
        if (c < groups)
            move_one(build, c, build->starts[ivf->groups[c]], build->starts[ivf->groups[c + 1]],
                     worker);
        else if (!build->moved[c - groups])
            move_one(build, c, build->starts[c - groups], build->starts[c - groups + 1], worker);
    }
}

/* ---- lists of groups ---- */

/* Shares lists among groups, one after the other to the one with the most points a list. A group
 * without points gets none, and none gets more than its points or than a few times the mean; lists
 * that nobody can take do not come to be. */
static void share_lists(struct ivf_build *build)
{
    struct ivf *ivf = &build->ivf;
    const uint32_t groups = ivf->group_count;
    const uint32_t most =
        groups == 1 ? ivf->list_count : GROUP_LISTS_MAX * (ivf->list_count / groups + 1);
    uint32_t total = 0;
    uint32_t *share = ivf->groups + 1; /* becomes the end of each group's lists */
    for (uint32_t g = 0; g < groups; g++) {
        share[g] = build->starts[g + 1] > build->starts[g];
        total += share[g];
    }
    while (total < ivf->list_count) {
        uint32_t best = groups;
        double fullest = 0;
        for (uint32_t g = 0; g < groups; g++) {
            uint32_t points = build->starts[g + 1] - build->starts[g];
            double each = share[g] > 0 ? (double)points / share[g] : 0;
            if (each > fullest && share[g] < most && share[g] < points) {
                best = g;
                fullest = each;
            }
        }
        if (best == groups)
            break;
        share[best]++;
        total++;
    }
    ivf->groups[0] = 0;
    for (uint32_t g = 0; g < groups; g++)
        ivf->groups[g + 1] += ivf->groups[g];
    ivf->list_count = total;
    ivf->centroids.row_count = groups + total;
}

static void divide_group(struct ivf_build *build, uint32_t g, struct ivf_worker *worker)
{
    const struct ivf *ivf = &build->ivf;
    const uint32_t first = ivf->groups[g], lists = ivf->groups[g + 1] - first;
    const uint32_t *members = build->order + build->starts[g];
    uint32_t count = build->starts[g + 1] - build->starts[g];
    if (lists == 0)
        return;
    /* Members ascend: what is left out of a large group, rounds to come make up for. */
    const uint64_t most = (uint64_t)lists * IVF_SAMPLE_PER_LIST * 2;
    count = count < most ? count : (uint32_t)most;
    kmeans_run(&build->centroids, ivf->group_count + first, lists, &build->points, members, count,
               hash_u64(build->params.seed + g), worker->run);
}

static void give_lists_away(struct ivf_build *build)
{
    const struct ivf *ivf = &build->ivf;
    for (uint32_t g = 0; g < ivf->group_count; g++) {
        const uint32_t first = ivf->groups[g], lists = ivf->groups[g + 1] - first;
        if (lists > 0)
            (void)kmeans_divide(&build->centroids, ivf->group_count + first, lists, &build->points,
                                build->starts + first, build->order,
                                build->params.seed + build->round, build->moved + first);
    }
}

/* ---- phases ---- */

uint32_t ivf_train_parts(const struct ivf_build *build)
{
    const struct ivf *ivf = &build->ivf;
    switch ((int)build->phase) {
    case IVF_SAMPLE:
        return ivf_parts_of(build->point_count, ivf_rows_per_part(build));
    case IVF_GROUP_MOVE:
        return ivf_parts_of(ivf->group_count, PART_CENTROIDS);
    case IVF_LISTS:
        return ivf->group_count;
    case IVF_LIST_MOVE:
        return ivf_parts_of(ivf->group_count + ivf->list_count, PART_CENTROIDS);
    default:
        return ivf_parts_of(points_of_phase(build), PART_POINTS);
    }
}

int ivf_train_part(struct ivf_build *build, uint32_t part, struct ivf_worker *worker)
{
    switch ((int)build->phase) {
    case IVF_SAMPLE:
        return read_points(build, part, worker);
    case IVF_GROUP_MOVE:
        move_groups(build, part, worker);
        break;
    case IVF_LISTS:
        divide_group(build, part, worker);
        break;
    case IVF_LIST_NEAREST:
        find_lists(build, part, worker);
        break;
    case IVF_LIST_MOVE:
        move_lists(build, part, worker);
        break;
    default:
        find_groups(build, part);
        break;
    }
    return PDB_OK;
}

/* Groups of points, by their places among all points. */
static void sort_into_groups(struct ivf_build *build)
{
    kmeans_sort(build->nearest, points_of_phase(build), build->ivf.group_count, build->starts,
                build->order);
    if (build->phase != IVF_GROUP_NEAREST)
        return;
    for (uint32_t i = 0; i < build->group_point_count; i++)
        build->order[i] = group_point(build, build->order[i]);
    (void)kmeans_divide(&build->centroids, 0, build->ivf.group_count, &build->points, build->starts,
                        build->order, build->params.seed + build->round, build->moved);
}

int ivf_train_advance(struct ivf_build *build)
{
    switch ((int)build->phase) {
    case IVF_SAMPLE:
        begin_groups(build);
        build->phase = IVF_GROUP_NEAREST;
        build->round = 0;
        break;
    case IVF_GROUP_NEAREST:
        sort_into_groups(build);
        build->phase = IVF_GROUP_MOVE;
        break;
    case IVF_GROUP_MOVE:
        build->phase = ++build->round < IVF_GROUP_ROUNDS ? IVF_GROUP_NEAREST : IVF_GROUP_ALL;
        break;
    case IVF_GROUP_ALL:
        sort_into_groups(build);
        share_lists(build);
        build->phase = IVF_LISTS;
        break;
    case IVF_LISTS:
        build->phase = IVF_LIST_NEAREST;
        build->round = 0;
        break;
    case IVF_LIST_NEAREST:
        kmeans_sort(build->nearest, build->point_count, build->ivf.list_count, build->starts,
                    build->order);
        give_lists_away(build);
        build->phase = IVF_LIST_MOVE;
        break;
    default:
        ASSERT(build->phase == IVF_LIST_MOVE);
        build->phase = ++build->round < IVF_LIST_ROUNDS ? IVF_LIST_NEAREST : IVF_ASSIGN;
        break;
    }
    return PDB_OK;
}
