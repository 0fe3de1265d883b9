/* Indexes made by index_make_...: what the tests of making, calibration and merging share. */
#ifndef MAKE_FIXTURE_H
#define MAKE_FIXTURE_H

#include "index/image.h"
#include "index/make.h"
#include "index_fixture.h"

/* Vectors of `data`, copied to the room that is offered; row `broken` cannot be read. */
struct source {
    const struct data *data;
    uint32_t broken;
};
#define NOT_BROKEN UINT32_MAX

static inline const float *vector_of_source(const void *owner, uint32_t row, float *room)
{
    const struct source *source = owner;
    assert_true(row < source->data->count);
    if (row == source->broken)
        return NULL;
    memcpy(room, vector_of(source->data, row), source->data->dimension * sizeof(float));
    return room;
}

/* All phases by `workers` workers that take turns; with more than one, parts last to first. */
static inline int make_all(const struct index_spec *spec, const struct index_rows *rows,
                           uint32_t workers, struct heap *heap, struct index *index_out)
{
    struct index_make *make = NULL;
    struct index_worker *worker[4] = {NULL};
    int rc = index_make_begin(spec, rows, heap, &make);
    for (uint32_t i = 0; rc == PDB_OK && i < workers; i++)
        rc = index_worker_open(make, heap, &worker[i]);
    if (rc == PDB_OK) {
        for (uint32_t parts; (parts = index_make_parts(make)) > 0; index_make_advance(make))
            for (uint32_t i = 0; i < parts; i++)
                index_make_part(make, workers == 1 ? i : parts - 1 - i, worker[i % workers]);
        rc = index_make_end(make, index_out);
    } else {
        index_make_abandon(make);
    }
    for (uint32_t i = 0; i < workers; i++)
        index_worker_close(worker[i], heap);
    return rc;
}

static inline struct index_rows rows_of(const struct source *source)
{
    return (struct index_rows){
        .count = source->data->count, .vector = vector_of_source, .owner = source};
}

static inline void make_built(struct built *built, const struct data *data,
                              const struct index_spec *spec, uint32_t workers)
{
    const struct source source = {data, NOT_BROKEN};
    const struct index_rows rows = rows_of(&source);
    *built = (struct built){0};
    assert_int_equal(make_all(spec, &rows, workers, &built->heap, &built->index), PDB_OK);
    assert_true(built->heap.bytes_peak <= index_make_bytes(spec, data->count, workers));
}

static inline struct index_spec spec_of(enum index_kind kind, enum quantize_kind codes,
                                        enum pdb_metric metric, uint32_t dimension)
{
    return (struct index_spec){
        .kind = kind, .codes = codes, .metric = metric, .dimension = dimension, .seed = 7};
}

/* Whether two indexes are the same, by the bytes they have as images. */
static inline void assert_same_index(const struct index *a, const struct index *b)
{
    static struct index_image_plan plan[2];
    index_image_plan(a, &plan[0]);
    index_image_plan(b, &plan[1]);
    assert_int_equal(plan[0].head_bytes, plan[1].head_bytes);
    assert_memory_equal(plan[0].head, plan[1].head, plan[0].head_bytes);
    for (uint32_t i = 0; i < plan[0].part_count; i++)
        assert_memory_equal(plan[0].parts[i].bytes, plan[1].parts[i].bytes,
                            plan[0].parts[i].length);
}

/* ---- recall, many times over the same queries ---- */

/* The k-th smallest exact distance to each query. */
static inline double *exact_kths(const struct data *data, const struct data *queries,
                                 enum pdb_metric metric, uint32_t k)
{
    double *kths = malloc(queries->count * sizeof *kths);
    assert_non_null(kths);
    for (uint32_t i = 0; i < queries->count; i++)
        kths[i] = exact_kth(data, metric, vector_of(queries, i), k, NULL);
    return kths;
}

static inline double recall_against(const struct built *built, const struct data *data,
                                    const struct data *queries, const double *kths,
                                    const struct index_query *how)
{
    struct index_scratch *scratch = NULL;
    struct heap heap = {0};
    static struct hits hits;
    const enum pdb_metric metric = built->index.quantizer.metric;
    uint64_t good = 0;
    assert_int_equal(index_scratch_open(&heap, data->count, data->dimension, &scratch), PDB_OK);
    for (uint32_t i = 0; i < queries->count; i++) {
        struct index_query query = *how;
        query.vector = vector_of(queries, i);
        find(&built->index, data, scratch, &query, 1500, &hits);
        assert_int_equal(hits.count, query.k);
        for (uint32_t j = 0; j < hits.count; j++) {
            double distance = exact_distance(metric, query.vector, vector_of(data, hits.hit[j].row),
                                             data->dimension);
            good += distance <= kths[i] + 1e-6 * fabs(kths[i]);
        }
    }
    index_scratch_close(scratch, &heap);
    return (double)good / ((double)queries->count * how->k);
}

#endif
