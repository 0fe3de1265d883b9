/* make_lists.c: the phases of an IVF index. */
#include "index/make_internal.h"

#include <proximadb/error.h>

#include "base/no_libc_heap.h"

enum { LIST_WORK = 2 }; /* a row is read twice, and compared with some hundred centroids */

/* ---- training ---- */

static int begin_train(struct index_make *make)
{
    (void)make;
    return 1;
}

static uint32_t one_part(const struct index_make *make)
{
    (void)make;
    return 1;
}

/* PQ: mean and scale are the lists' own, since it codes what is left of their distances. */
static int shape_pq(struct index_make *make)
{
    struct quantizer quantizer = make_shape(&make->spec, QUANTIZE_PQ);
    const struct quantizer *coarse = &make->lists_quantizer;
    quantizer.scale = coarse->scale;
    quantizer.seed = make->spec.seed;
    quantizer.mean = heap_alloc(make->heap, quantizer.columns * sizeof(float));
    quantizer.codebook = heap_calloc(make->heap, 1, pq_codebook_bytes(&quantizer));
    if (quantizer.mean == NULL || quantizer.codebook == NULL) {
        quantize_dispose(&quantizer, make->heap);
        return PDB_RESOURCE_EXHAUSTED;
    }
    memcpy(quantizer.mean, coarse->mean, quantizer.columns * sizeof(float));
    int rc = index_init(&make->index, &quantizer, make->rows.count, make->heap);
    if (rc < 0)
        quantize_dispose(&quantizer, make->heap);
    return rc;
}

static int train_part(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    const struct index_spec *spec = &make->spec;
    const struct quantize_spec coarse = {
        .kind = QUANTIZE_SQ8,
        .metric = ivf_metric_of(spec->metric),
        .dimension = spec->dimension,
        .seed = spec->seed,
    };
    int rc = PDB_OK;
    (void)part;
    (void)worker;
    if (spec->codes != QUANTIZE_PQ)
        rc = make_train_codes(make, spec->codes, &make->index);
    for (uint32_t i = 0; i < make->sample_count; i++) {
        float *vector = make->sample + (size_t)i * spec->dimension;
        (void)ivf_vector_of(spec->metric, spec->dimension, vector, vector);
    }
    if (rc == PDB_OK)
        rc = quantize_train(&coarse, make->sample, spec->dimension * sizeof(float),
                            make->sample_count, make->heap, &make->lists_quantizer);
    if (rc == PDB_OK && spec->codes == QUANTIZE_PQ)
        rc = shape_pq(make);
    return rc;
}

static int end_train(struct index_make *make)
{
    heap_free(make->heap, make->sample);
    make->sample = NULL;
    return 0;
}

static uint64_t train_work(const struct index_make *make)
{
    (void)make;
    return 1;
}

const struct make_phase make_lists_train = {
    .begin = begin_train,
    .parts = one_part,
    .part = train_part,
    .end = end_train,
    .work = train_work,
};

/* ---- lists ---- */

static int begin_lists(struct index_make *make)
{
    const struct ivf_params params = make_lists_params(&make->spec);
    int rc = ivf_build_begin(&params, &make->rows, &make->lists_quantizer, &make->index, make->heap,
                             &make->lists);
    if (rc < 0)
        return rc;
    make->lists_quantizer = (struct quantizer){.mean = NULL}; /* the lists' from now on */
    return 1;
}

static uint32_t lists_parts(const struct index_make *make)
{
    return ivf_build_parts(make->lists);
}

static int lists_part(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    return ivf_build_part(make->lists, part, worker->lists);
}

static int end_lists(struct index_make *make)
{
    int rc = ivf_build_advance(make->lists);
    if (rc < 0)
        return rc;
    if (ivf_build_parts(make->lists) > 0)
        return 1;
    ivf_build_end(make->lists);
    make->lists = NULL;
    return 0;
}

static uint64_t lists_work(const struct index_make *make)
{
    return (uint64_t)make->rows.count * LIST_WORK * 2;
}

static uint64_t lists_done(const struct index_make *make)
{
    uint64_t done, total;
    ivf_build_progress(make->lists, &done, &total);
    return (uint64_t)((double)lists_work(make) * (double)done / (double)total);
}

const struct make_phase make_lists_phase = {
    .begin = begin_lists,
    .parts = lists_parts,
    .part = lists_part,
    .end = end_lists,
    .work = lists_work,
    .done = lists_done,
};
