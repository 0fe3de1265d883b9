/* ivf_build.c: rows into lists, and codes in the order of lists.
 *
 * Every row is read twice: to find its list, and, once its place is known, to be coded. Keeping
 * what was read for the second time would be the vectors once more in memory.
 *
 * Places are given by a counting sort over the rows' lists on one thread: some milliseconds for a
 * million rows. No memory is written by two workers in one phase: a part codes whole blocks of 32
 * places, and PQ's rows that share bytes are in one. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "index/ivf_build_internal.h"
#include "index/pq.h"
#include "index/quantize_internal.h"

#include <proximadb/error.h>

#include "base/no_libc_heap.h"

enum { PARTS_AT_ONCE = 4 }; /* of PQ, trained by one part */

bool ivf_params_fit(const struct ivf_params *params)
{
    return params->lists <= IVF_LISTS_MAX;
}

static bool is_pq(const struct ivf_build *build)
{
    return build->index->quantizer.kind == QUANTIZE_PQ;
}

/* ---- workers ---- */

struct worker_sizes {
    size_t room, scratch, code, sums, distances, run;
};

static size_t align(size_t bytes)
{
    return bytes_align_up(bytes, VECMATH_CODE_ALIGNMENT);
}

static struct quantizer coarse_shape(const struct quantizer *shape)
{
    struct quantizer coarse = {.kind = QUANTIZE_SQ8,
                               .metric = ivf_metric_of(shape->metric),
                               .dimension = shape->dimension};
    quantize_shape(&coarse);
    return coarse;
}

static struct worker_sizes sizes_of(const struct quantizer *shape, const struct ivf_params *params,
                                    uint32_t row_count)
{
    const struct quantizer coarse = coarse_shape(shape);
    const size_t a = quantize_scratch_bytes(shape), b = quantize_scratch_bytes(&coarse);
    const size_t run =
        kmeans_scratch_bytes(ivf_sample_count(params, row_count),
                             ivf_list_count(params->lists, row_count), coarse.columns);
    const size_t part = shape->kind == QUANTIZE_PQ ? pq_part_scratch_bytes(shape) : 0;
    return (struct worker_sizes){
        .room = 2 * align(shape->dimension * sizeof(float)), /* and expanded */
        .scratch = align(a > b ? a : b),
        .code = align(coarse.stride),
        .sums = align(coarse.columns * sizeof(int32_t)),
        .distances = align(IVF_GROUPS_MAX * sizeof(int64_t)),
        .run = align(run > part ? run : part),
    };
}

static size_t total_of(const struct worker_sizes *sizes)
{
    return align(sizeof(struct ivf_worker)) + sizes->room + sizes->scratch + sizes->code +
           sizes->sums + sizes->distances + sizes->run;
}

int ivf_worker_open(const struct quantizer *shape, const struct ivf_params *params,
                    uint32_t row_count, struct heap *heap, struct ivf_worker **worker_out)
{
    const struct worker_sizes sizes = sizes_of(shape, params, row_count);
    struct ivf_worker *worker = heap_alloc_aligned(heap, VECMATH_CODE_ALIGNMENT, total_of(&sizes));
    if (worker == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    char *next = (char *)worker + align(sizeof *worker);
    worker->scratch = next;
    worker->code = (uint8_t *)(next += sizes.scratch);
    worker->room = (float *)(void *)(next += sizes.code);
    worker->expanded = (float *)(void *)(next + sizes.room / 2);
    worker->sums = (int32_t *)(void *)(next += sizes.room);
    worker->distances = (int64_t *)(void *)(next += sizes.sums);
    worker->run = next + sizes.distances;
    *worker_out = worker;
    return PDB_OK;
}

void ivf_worker_close(struct ivf_worker *worker, struct heap *heap)
{
    heap_free(heap, worker);
}

/* ---- begin and end ---- */

int ivf_build_begin(const struct ivf_params *params, const struct index_rows *rows,
                    const struct quantizer *quantizer, struct index *index, struct heap *heap,
                    struct ivf_build **build_out)
{
    ASSERT(ivf_params_fit(params) && rows->count > 0);
    struct ivf_build *build = heap_calloc(heap, 1, sizeof *build);
    if (build == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    build->heap = heap;
    build->rows = *rows;
    build->params = *params;
    build->index = index;
    int rc = ivf_init(&build->ivf, quantizer, ivf_list_count(params->lists, rows->count),
                      rows->count, heap);
    if (rc == PDB_OK)
        rc = ivf_begin_sample(build);
    if (rc == PDB_OK) {
        build->nearest = heap_calloc(heap, rows->count, sizeof(uint32_t));
        rc = build->nearest != NULL ? PDB_OK : PDB_RESOURCE_EXHAUSTED;
    }
    if (rc < 0) {
        build->ivf.quantizer = (struct quantizer){.mean = NULL}; /* stays the caller's */
        ivf_build_abandon(build);
        return rc;
    }
    build->centroids = (struct kmeans_codes){build->ivf.centroids.bytes, build->ivf.centroids.norms,
                                             quantizer->columns, quantizer->stride};
    *build_out = build;
    return PDB_OK;
}

static void free_training(struct ivf_build *build)
{
    heap_free(build->heap, build->points.bytes);
    heap_free(build->heap, build->points.norms);
    heap_free(build->heap, build->order);
    heap_free(build->heap, build->starts);
    heap_free(build->heap, build->moved);
    build->points.bytes = build->moved = NULL;
    build->points.norms = build->order = build->starts = NULL;
}

void ivf_build_abandon(struct ivf_build *build)
{
    if (build == NULL)
        return;
    struct heap *heap = build->heap;
    free_training(build);
    heap_free(heap, build->nearest);
    heap_free(heap, build->rests);
    ivf_dispose(&build->ivf, false, heap);
    heap_free(heap, build);
}

void ivf_build_end(struct ivf_build *build)
{
    ASSERT(build->phase == IVF_DONE);
    index_set_lists(build->index, &build->ivf);
    build->ivf = (struct ivf){.list_count = 0};
    ivf_build_abandon(build);
}

/* ---- a row's list ---- */

struct near_group {
    int64_t distance;
    uint32_t group;
};

/* The nearest `most` of the groups, in order. */
static uint32_t near_groups(const struct ivf_build *build, const struct ivf_worker *worker,
                            const int8_t *code, uint32_t most, struct near_group *near_out)
{
    const uint32_t groups = build->ivf.group_count;
    uint32_t count = 0;
    kmeans_distances(&build->centroids, 0, groups, code, worker->distances);
    for (uint32_t g = 0; g < groups; g++) {
        if (build->ivf.groups[g + 1] == build->ivf.groups[g])
            continue;
        const int64_t distance = worker->distances[g];
        if (count == most && distance >= near_out[count - 1].distance)
            continue;
        uint32_t at = count < most ? count++ : count - 1;
        for (; at > 0 && near_out[at - 1].distance > distance; at--)
            near_out[at] = near_out[at - 1];
        near_out[at] = (struct near_group){distance, g};
    }
    return count;
}

uint32_t ivf_nearest_list(const struct ivf_build *build, const struct ivf_worker *worker,
                          const int8_t *code)
{
    const struct ivf *ivf = &build->ivf;
    struct near_group near[IVF_NEAR_GROUPS_MAX];
    uint32_t most = 4 + ivf->group_count / 16;
    most = most < IVF_NEAR_GROUPS_MAX ? most : IVF_NEAR_GROUPS_MAX;
    const uint32_t count = near_groups(build, worker, code, most, near);
    int64_t least = INT64_MAX;
    uint32_t nearest = 0;
    ASSERT(count > 0);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t first = ivf->groups[near[i].group];
        const uint32_t lists = ivf->groups[near[i].group + 1] - first;
        int64_t distance;
        uint32_t list =
            kmeans_nearest(&build->centroids, ivf->group_count + first, lists, code, &distance);
        if (distance < least) {
            least = distance;
            nearest = list - ivf->group_count;
        }
    }
    return nearest;
}

/* The vector's list; its code is left in worker->code. */
static uint32_t list_of(const struct ivf_build *build, struct ivf_worker *worker,
                        const float *vector)
{
    const struct codes one = {.bytes = worker->code, .norms = &worker->norm, .row_count = 1};
    const struct quantizer *quantizer = &build->index->quantizer;
    vector = ivf_vector_of(quantizer->metric, quantizer->dimension, vector, worker->expanded);
    quantize_encode(&build->ivf.quantizer, vector, worker->scratch, &one, 0);
    return ivf_nearest_list(build, worker, (const int8_t *)worker->code);
}

static int assign_part(struct ivf_build *build, uint32_t part, struct ivf_worker *worker)
{
    const uint32_t rows = ivf_rows_per_part(build), first = part * rows;
    const uint32_t left = build->rows.count - first, count = left < rows ? left : rows;
    for (uint32_t row = first; row < first + count; row++) {
        const float *vector = ivf_vector(build, row, worker->room);
        if (vector == NULL)
            return PDB_DATA_LOSS;
        build->nearest[row] = list_of(build, worker, vector);
    }
    return PDB_OK;
}

static void place_rows(struct ivf_build *build)
{
    kmeans_sort(build->nearest, build->rows.count, build->ivf.list_count, build->ivf.lists,
                build->ivf.rows);
    free_training(build);
}

/* ---- PQ ---- */

static uint32_t rest_count_of(uint32_t row_count)
{
    return row_count < PQ_SAMPLE_MAX ? row_count : PQ_SAMPLE_MAX;
}

static int begin_rests(struct ivf_build *build)
{
    build->rest_count = rest_count_of(build->rows.count);
    build->rests = heap_calloc(
        build->heap, (size_t)build->rest_count * pq_width(&build->index->quantizer), sizeof(float));
    return build->rests != NULL ? PDB_OK : PDB_RESOURCE_EXHAUSTED;
}

static uint32_t rest_row(const struct ivf_build *build, uint32_t i)
{
    uint64_t first = (uint64_t)build->rows.count * i / build->rest_count;
    uint64_t end = (uint64_t)build->rows.count * (i + 1) / build->rest_count;
    return (uint32_t)(first + hash_u64(build->params.seed * 5 + i) % (end - first));
}

static int read_rests(struct ivf_build *build, uint32_t part, struct ivf_worker *worker)
{
    const struct quantizer *quantizer = &build->index->quantizer;
    const uint32_t rows = ivf_rows_per_part(build), first = part * rows;
    const uint32_t left = build->rest_count - first, count = left < rows ? left : rows;
    for (uint32_t i = first; i < first + count; i++) {
        const uint32_t row = rest_row(build, i);
        const float *vector = ivf_vector(build, row, worker->room);
        if (vector == NULL)
            return PDB_DATA_LOSS;
        float *rest = build->rests + (size_t)i * pq_width(quantizer);
        const int8_t *centroid = ivf_centroid(&build->ivf, build->nearest[row]);
        quantize_centre(quantizer, vector, rest);
        for (uint32_t j = 0; j < quantizer->columns; j++)
            rest[j] -= (float)centroid[j];
    }
    return PDB_OK;
}

static void train_pq(const struct ivf_build *build, uint32_t part, struct ivf_worker *worker)
{
    const struct quantizer *quantizer = &build->index->quantizer;
    const uint32_t first = part * PARTS_AT_ONCE, left = quantizer->part_count - first;
    const uint32_t count = left < PARTS_AT_ONCE ? left : PARTS_AT_ONCE;
    for (uint32_t i = first; i < first + count; i++)
        pq_train_part(quantizer, build->rests, build->rest_count, i, worker->run);
}

/* ---- codes ---- */

static uint32_t places_per_part(const struct ivf_build *build)
{
    return (uint32_t)bytes_align_up(ivf_rows_per_part(build),
                                    quantize_rows_together(build->index->quantizer.kind));
}

static void encode_pq(const struct ivf_build *build, const float *vector, uint32_t list,
                      uint32_t place, struct ivf_worker *worker)
{
    const struct quantizer *quantizer = &build->index->quantizer;
    float *centred = worker->scratch;
    quantize_centre(quantizer, vector, centred);
    pq_encode(quantizer, centred, ivf_centroid(&build->ivf, list), centred + pq_width(quantizer),
              &build->index->codes, place);
}

static int encode_part(struct ivf_build *build, uint32_t part, struct ivf_worker *worker)
{
    const uint32_t places = places_per_part(build), first = part * places;
    const uint32_t left = build->rows.count - first, count = left < places ? left : places;
    for (uint32_t place = first; place < first + count; place++) {
        const uint32_t row = build->ivf.rows[place];
        const float *vector = ivf_vector(build, row, worker->room);
        if (vector == NULL)
            return PDB_DATA_LOSS;
        if (is_pq(build))
            encode_pq(build, vector, build->nearest[row], place, worker);
        else
            quantize_encode(&build->index->quantizer, vector, worker->scratch, &build->index->codes,
                            place);
    }
    return PDB_OK;
}

/* ---- phases ---- */

uint32_t ivf_build_parts(const struct ivf_build *build)
{
    switch ((int)build->phase) {
    case IVF_ASSIGN:
        return ivf_parts_of(build->rows.count, ivf_rows_per_part(build));
    case IVF_PARTS_READ:
        return ivf_parts_of(build->rest_count, ivf_rows_per_part(build));
    case IVF_PARTS_TRAIN:
        return ivf_parts_of(build->index->quantizer.part_count, PARTS_AT_ONCE);
    case IVF_ENCODE:
        return ivf_parts_of(build->rows.count, places_per_part(build));
    case IVF_DONE:
        return 0;
    default:
        return ivf_train_parts(build);
    }
}

int ivf_build_part(struct ivf_build *build, uint32_t part, struct ivf_worker *worker)
{
    ASSERT(part < ivf_build_parts(build));
    switch ((int)build->phase) {
    case IVF_ASSIGN:
        return assign_part(build, part, worker);
    case IVF_PARTS_READ:
        return read_rests(build, part, worker);
    case IVF_PARTS_TRAIN:
        train_pq(build, part, worker);
        return PDB_OK;
    case IVF_ENCODE:
        return encode_part(build, part, worker);
    default:
        return ivf_train_part(build, part, worker);
    }
}

static uint64_t work_of(const struct ivf_build *build, enum ivf_phase phase)
{
    if (phase == IVF_SAMPLE)
        return build->point_count;
    return phase == IVF_ASSIGN || phase == IVF_ENCODE ? build->rows.count : 0;
}

int ivf_build_advance(struct ivf_build *build)
{
    ASSERT(build->phase != IVF_DONE);
    build->work_done += work_of(build, build->phase);
    switch ((int)build->phase) {
    case IVF_ASSIGN:
        place_rows(build);
        build->phase = is_pq(build) ? IVF_PARTS_READ : IVF_ENCODE;
        return is_pq(build) ? begin_rests(build) : PDB_OK;
    case IVF_PARTS_READ:
        build->phase = IVF_PARTS_TRAIN;
        return PDB_OK;
    case IVF_PARTS_TRAIN:
        heap_free(build->heap, build->rests);
        build->rests = NULL;
        build->phase = IVF_ENCODE;
        return PDB_OK;
    case IVF_ENCODE:
        build->phase = IVF_DONE;
        return PDB_OK;
    default:
        return ivf_train_advance(build);
    }
}

void ivf_build_progress(const struct ivf_build *build, uint64_t *done_out, uint64_t *total_out)
{
    *done_out = build->work_done;
    *total_out = build->point_count + 2 * (uint64_t)build->rows.count;
}

uint64_t ivf_build_bytes(const struct ivf_params *params, const struct quantizer *shape,
                         uint32_t row_count, uint32_t worker_count)
{
    const struct quantizer coarse = coarse_shape(shape);
    const uint32_t lists = ivf_list_count(params->lists, row_count);
    const struct ivf ivf = {
        .list_count = lists, .group_count = ivf_group_count(lists), .quantizer = coarse};
    const struct worker_sizes sizes = sizes_of(shape, params, row_count);
    uint64_t bytes = sizeof(struct ivf_build) + ivf_bytes(&ivf, row_count) +
                     (uint64_t)row_count * sizeof(uint32_t) + VECMATH_CODE_ALIGNMENT;
    /* the sample is gone before the rests are read */
    uint64_t sample = ivf_sample_bytes(params, &coarse, row_count);
    uint64_t rests = shape->kind == QUANTIZE_PQ
                         ? (uint64_t)rest_count_of(row_count) * pq_width(shape) * sizeof(float)
                         : 0;
    bytes += sample > rests ? sample : rests;
    return bytes + worker_count * (uint64_t)(total_of(&sizes) + VECMATH_CODE_ALIGNMENT);
}
