/* make.c: the phases of making an index, one after the other.
 *
 * What kinds have in common comes first: a sample is read and trained on, then every row is read
 * once and encoded. The rest is each kind's own. A graph is built on SQ8 codes, between whose rows
 * distances are exact integers, or on full rows where those are what is kept; where searches shall
 * use other codes, both are made from the one reading, and the SQ8 codes are dropped with the end
 * of the graph.
 *
 * Errors: a part that fails says so in a place of its own, since other parts run at the same time;
 * the making ends with the phase. A part allocates nothing, unless it is alone: heaps know one
 * thread. */
#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "index/make_internal.h"

#include <proximadb/error.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum {
    GRAPH_WORK = 64,     /* inserting a row costs about so many encodings */
    ROUNDING = 64 << 10, /* large blocks are whole pages */
};

/* ---- the sample ---- */

static uint32_t sample_count(const struct index_spec *spec, uint32_t row_count)
{
    uint32_t most = MAKE_SAMPLE_BYTES / (spec->dimension * (uint32_t)sizeof(float));
    most = most > MAKE_SAMPLE_LEAST ? most : MAKE_SAMPLE_LEAST;
    uint32_t count = quantize_sample_count(row_count);
    return count < most ? count : most;
}

static size_t sample_bytes(const struct index_spec *spec, uint32_t row_count)
{
    return (size_t)sample_count(spec, row_count) * spec->dimension * sizeof(float);
}

/* The i-th row of the sample: drawn from its own stretch. */
static uint32_t sample_row(const struct index_make *make, uint32_t i)
{
    uint64_t first = (uint64_t)make->rows.count * i / make->sample_count;
    uint64_t end = (uint64_t)make->rows.count * (i + 1) / make->sample_count;
    return (uint32_t)(first + hash_u64(make->spec.seed + i + 1) % (end - first));
}

static uint32_t parts_of(const struct index_make *make, uint32_t row_count)
{
    const uint32_t rows = make_rows_per_part(make->spec.dimension);
    return row_count / rows + (row_count % rows != 0);
}

static int begin_sample(struct index_make *make)
{
    make->sample_count = sample_count(&make->spec, make->rows.count);
    make->sample = heap_alloc(make->heap, sample_bytes(&make->spec, make->rows.count));
    return make->sample != NULL ? 1 : PDB_RESOURCE_EXHAUSTED;
}

static uint32_t sample_parts(const struct index_make *make)
{
    return parts_of(make, make->sample_count);
}

static int sample_part(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    const uint32_t rows = make_rows_per_part(make->spec.dimension), first = part * rows;
    const uint32_t left = make->sample_count - first, count = left < rows ? left : rows;
    for (uint32_t i = first; i < first + count; i++) {
        const float *vector = make_vector(make, sample_row(make, i), worker->room);
        if (vector == NULL)
            return PDB_DATA_LOSS;
        memcpy(make->sample + (size_t)i * make->spec.dimension, vector,
               quantize_vector_bytes(make->spec.metric, make->spec.dimension));
    }
    return PDB_OK;
}

static int no_end(struct index_make *make)
{
    (void)make;
    return 0;
}

static uint64_t sample_work(const struct index_make *make)
{
    return sample_count(&make->spec, make->rows.count);
}

static const struct make_phase sample_phase = {
    .begin = begin_sample,
    .parts = sample_parts,
    .part = sample_part,
    .end = no_end,
    .work = sample_work,
};

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

int make_train_codes(struct index_make *make, enum quantize_kind kind, struct index *index)
{
    const struct index_spec *spec = &make->spec;
    const struct quantize_spec wanted = {.kind = kind,
                                         .metric = spec->metric,
                                         .dimension = spec->dimension,
                                         .seed = spec->seed,
                                         .bits = spec->code_bits,
                                         .part_columns = make_part_columns(spec)};
    struct quantizer quantizer;
    int rc = quantize_train(&wanted, make->sample, spec->dimension * sizeof(float),
                            make->sample_count, make->heap, &quantizer);
    if (rc < 0)
        return rc;
    if (index == &make->index)
        rc = make_merge_codes(make, &quantizer);
    if (rc == PDB_OK)
        rc = index_init(index, &quantizer, make->rows.count, make->heap);
    if (rc < 0)
        quantize_dispose(&quantizer, make->heap);
    return rc;
}

static bool has_graph(const struct index_spec *spec)
{
    return spec->kind == INDEX_HNSW;
}

static bool has_lists(const struct index_spec *spec)
{
    return spec->kind == INDEX_IVF;
}

/* Whether the graph is built on other codes than searches use. */
static bool has_graph_codes(const struct index_spec *spec)
{
    return has_graph(spec) && !quantize_builds(spec->codes);
}

static int train_part(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    (void)part;
    (void)worker;
    int rc = make_train_codes(make, make->spec.codes, &make->index);
    if (rc == PDB_OK && has_graph_codes(&make->spec))
        rc = make_train_codes(make, QUANTIZE_SQ8, &make->graph_codes);
    return rc;
}

static int end_train(struct index_make *make)
{
    heap_free(make->heap, make->sample);
    make->sample = NULL;
    return 0;
}

static const struct make_phase train_phase = {
    .begin = begin_train,
    .parts = one_part,
    .part = train_part,
    .end = end_train,
    .work = sample_work,
};

/* ---- codes ---- */

static int begin_encode(struct index_make *make)
{
    (void)make;
    return 1;
}

/* Of one part: rows that share bytes are written by one worker. */
static uint32_t encode_rows(const struct index_make *make)
{
    return (uint32_t)bytes_align_up(make_rows_per_part(make->spec.dimension),
                                    quantize_rows_together(make->spec.codes));
}

static uint32_t encode_parts(const struct index_make *make)
{
    const uint32_t rows = encode_rows(make);
    return make->rows.count / rows + (make->rows.count % rows != 0);
}

static int encode_part(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    const uint32_t rows = encode_rows(make), first = part * rows;
    const uint32_t left = make->rows.count - first, count = left < rows ? left : rows;
    const struct index *other = &make->graph_codes;
    for (uint32_t row = first; row < first + count; row++) {
        if (make->base_of != NULL && make->base_of[row] != INDEX_ROW_GONE) {
            make_copy_code(make, row);
            continue;
        }
        const float *vector = make_vector(make, row, worker->room);
        if (vector == NULL)
            return PDB_DATA_LOSS;
        quantize_encode(&make->index.quantizer, vector, worker->scratch, &make->index.codes, row);
        if (has_graph_codes(&make->spec))
            quantize_encode(&other->quantizer, vector, worker->scratch, &other->codes, row);
    }
    return PDB_OK;
}

static uint64_t encode_work(const struct index_make *make)
{
    return make->rows.count;
}

static int end_encode(struct index_make *make)
{
    heap_free(make->heap, make->base_of);
    make->base_of = NULL;
    return 0;
}

static const struct make_phase encode_phase = {
    .begin = begin_encode,
    .parts = encode_parts,
    .part = encode_part,
    .end = end_encode,
    .work = encode_work,
};

/* ---- the graph ---- */

static struct hnsw_params graph_params(const struct index_spec *spec)
{
    return (struct hnsw_params){spec->m, spec->ef_construction, spec->seed};
}

static int begin_graph(struct index_make *make)
{
    const struct index *on = has_graph_codes(&make->spec) ? &make->graph_codes : &make->index;
    const struct hnsw_params params = graph_params(&make->spec);
    const uint32_t queries = make_query_count(&make->spec, make->rows.count);
    int rc;
    if (make->merges) {
        const struct hnsw_base base = {&make->rows.base->graph, make->rows.base_rows};
        rc = hnsw_build_begin_from(&params, &on->quantizer, &on->codes, &base, queries, make->heap,
                                   &make->graph);
        return rc < 0 ? rc : 1;
    }
    rc = hnsw_build_begin(&params, &on->quantizer, &on->codes, make->heap, &make->graph);
    if (rc < 0)
        return rc;
    if (queries > 0)
        hnsw_build_hold(make->graph, queries);
    return 1;
}

static uint32_t graph_parts(const struct index_make *make)
{
    return hnsw_build_parts(make->graph);
}

static int graph_part(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    hnsw_build_part(make->graph, part, worker->graph);
    return PDB_OK;
}

static int end_graph(struct index_make *make)
{
    hnsw_build_advance(make->graph);
    return hnsw_build_parts(make->graph) > 0;
}

static uint64_t graph_work(const struct index_make *make)
{
    return (uint64_t)make->rows.count * GRAPH_WORK;
}

static uint64_t graph_done(const struct index_make *make)
{
    struct hnsw_progress progress;
    hnsw_build_progress(make->graph, &progress);
    return progress.rows_done * GRAPH_WORK;
}

static const struct make_phase graph_phase = {
    .begin = begin_graph,
    .parts = graph_parts,
    .part = graph_part,
    .end = end_graph,
    .work = graph_work,
    .done = graph_done,
};

static int take_graph(struct index_make *make)
{
    struct hnsw graph;
    struct hnsw_progress progress;
    hnsw_build_progress(make->graph, &progress);
    make->repaired = progress.repaired;
    hnsw_build_end(make->graph, &graph);
    make->graph = NULL;
    index_set_graph(&make->index, &graph);
    index_dispose(&make->graph_codes, make->heap);
    return 0;
}

/* What was held back enters, and the graph is the index's. */
static int begin_rest(struct index_make *make)
{
    if (hnsw_build_held(make->graph) > 0)
        hnsw_build_release(make->graph);
    if (hnsw_build_parts(make->graph) > 0)
        return 1;
    return take_graph(make);
}

static int end_rest(struct index_make *make)
{
    hnsw_build_advance(make->graph);
    return hnsw_build_parts(make->graph) > 0 ? 1 : take_graph(make);
}

static uint64_t rest_work(const struct index_make *make)
{
    return (uint64_t)make_query_count(&make->spec, make->rows.count) * GRAPH_WORK;
}

static const struct make_phase rest_phase = {
    .begin = begin_rest,
    .parts = graph_parts,
    .part = graph_part,
    .end = end_rest,
    .work = rest_work,
};

/* ---- kinds ---- */

static const struct make_phase *const flat_phases[] = {
    &sample_phase,       &train_phase,     &encode_phase, &make_truth_phase,
    &make_measure_phase, &make_scan_phase, NULL,
};

static const struct make_phase *const hnsw_phases[] = {
    &sample_phase,       &train_phase,     &encode_phase, &graph_phase, &make_truth_phase,
    &make_measure_phase, &make_scan_phase, &rest_phase,   NULL,
};

static const struct make_phase *const ivf_phases[] = {
    &sample_phase,
    &make_lists_train,
    &make_lists_phase,
    &make_truth_phase,
    &make_measure_phase,
    &make_scan_phase,
    NULL,
};

/* NULL: no such index. */
static const struct make_phase *const *phases_of(const struct index_spec *spec)
{
    const bool codes = quantize_supports(spec->codes, spec->metric);
    switch (spec->kind) {
    case INDEX_FLAT:
        return codes ? flat_phases : NULL;
    case INDEX_HNSW:
        return codes ? hnsw_phases : NULL;
    case INDEX_IVF:
        return codes ? ivf_phases : NULL;
    }
    return NULL;
}

bool index_make_supports(const struct index_spec *spec)
{
    return phases_of(spec) != NULL;
}

/* Codes and sums of one kind, and its quantizer. */
static uint64_t codes_bytes(const struct index_spec *spec, enum quantize_kind kind,
                            uint32_t row_count)
{
    const struct quantizer shape = make_shape(spec, kind);
    return quantize_codes_bytes(&shape, row_count) + quantize_sums_bytes(&shape, row_count) +
           shape.columns * sizeof(float) + VECMATH_CODE_ALIGNMENT;
}

static size_t scratch_bytes(const struct index_spec *spec)
{
    const struct quantizer shape = make_shape(spec, spec->codes);
    const struct quantizer plain = make_shape(spec, QUANTIZE_SQ8);
    size_t bytes = quantize_scratch_bytes(&shape);
    size_t other = has_graph_codes(spec) ? quantize_scratch_bytes(&plain) : 0;
    return bytes > other ? bytes : other;
}

/* Of the graph or the lists, and of what building them takes. */
static uint64_t building_bytes(const struct index_spec *spec, uint32_t row_count,
                               uint32_t worker_count)
{
    const struct hnsw_params params = graph_params(spec);
    const struct ivf_params lists = make_lists_params(spec);
    const struct quantizer shape = make_shape(spec, spec->codes);
    if (has_graph(spec))
        return hnsw_build_bytes(&params, row_count, worker_count);
    return has_lists(spec) ? ivf_build_bytes(&lists, &shape, row_count, worker_count) : 0;
}

uint64_t index_make_bytes(const struct index_spec *spec, uint32_t row_count, uint32_t worker_count)
{
    const struct quantizer shape = make_shape(spec, spec->codes);
    uint64_t bytes = sizeof(struct index_make) + codes_bytes(spec, spec->codes, row_count);
    if (has_graph_codes(spec))
        bytes += codes_bytes(spec, QUANTIZE_SQ8, row_count);
    if (spec->codes == QUANTIZE_PQ)
        bytes += pq_codebook_bytes(&shape);
    /* The sample is gone before graph or lists begin; workers are there all the time. */
    uint64_t sample =
        sample_bytes(spec, row_count) + quantize_train_bytes(spec->codes, spec->dimension);
    if (has_graph(spec)) /* a merge's */
        sample += row_count * sizeof(uint32_t) + scratch_bytes(spec);
    uint64_t building = building_bytes(spec, row_count, 0);
    uint64_t workers = building_bytes(spec, row_count, worker_count) - building;
    building += make_calibration_bytes(spec, row_count);
    bytes += (sample > building ? sample : building) + workers;
    bytes += row_count / make_rows_per_part(spec->dimension) * sizeof(int);
    size_t worker =
        sizeof(struct index_worker) + spec->dimension * (size_t)VECMATH_TILE * sizeof(float);
    if (make_query_count(spec, row_count) > 0)
        worker += make_judging_bytes(spec, row_count);
    return bytes + worker_count * (worker + scratch_bytes(spec)) + ROUNDING;
}

static int check(const struct index_spec *spec, uint32_t row_count)
{
    const struct ivf_params lists = make_lists_params(spec);
    const struct hnsw_params params = graph_params(spec);
    if (phases_of(spec) == NULL || spec->code_bits > QUANTIZE_BITS_MAX || spec->dimension == 0 ||
        spec->dimension > PDB_DIMENSION_MAX || (has_graph(spec) && !hnsw_params_fit(&params)) ||
        (has_lists(spec) && !ivf_params_fit(&lists)))
        return PDB_INVALID_ARGUMENT;
    return row_count == 0 || row_count > HNSW_ROWS_MAX ? PDB_OUT_OF_RANGE : PDB_OK;
}

/* Room for the errors of this phase's parts. */
static int make_room(struct index_make *make)
{
    const uint32_t parts = make->phases[make->phase]->parts(make);
    if (parts <= make->part_max)
        return PDB_OK;
    int *larger = heap_realloc(make->heap, make->part_rc, parts * sizeof *larger);
    if (larger == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    make->part_rc = larger;
    make->part_max = parts;
    return PDB_OK;
}

/* Begins phases from make->phase on, until one has work. */
static int begin_next(struct index_make *make)
{
    for (; make->phases[make->phase] != NULL; make->phase++) {
        int rc = make->phases[make->phase]->begin(make);
        if (rc != 0)
            return rc < 0 ? rc : make_room(make);
        make->work_done += make->phases[make->phase]->work(make);
    }
    return PDB_OK;
}

int index_make_begin(const struct index_spec *spec, const struct index_rows *rows,
                     struct heap *heap, struct index_make **make_out)
{
    int rc = check(spec, rows->count);
    if (rc < 0)
        return rc;
    struct index_make *make = heap_calloc(heap, 1, sizeof *make);
    if (make == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    make->heap = heap;
    make->spec = *spec;
    make->rows = *rows;
    make->phases = phases_of(spec);
    make->merges = make_merge_pays(spec, rows);
    rc = begin_next(make);
    if (rc < 0) {
        index_make_abandon(make);
        return rc;
    }
    *make_out = make;
    return PDB_OK;
}

void index_make_abandon(struct index_make *make)
{
    if (make == NULL)
        return;
    struct heap *heap = make->heap;
    make_calibration_close(make);
    hnsw_build_abandon(make->graph);
    ivf_build_abandon(make->lists);
    quantize_dispose(&make->lists_quantizer, heap);
    index_dispose(&make->graph_codes, heap);
    index_dispose(&make->index, heap);
    heap_free(heap, make->sample);
    heap_free(heap, make->base_of);
    heap_free(heap, make->part_rc);
    heap_free(heap, make);
}

bool index_make_merges(const struct index_make *make)
{
    return make->merges;
}

uint64_t index_make_repaired(const struct index_make *make)
{
    return make->repaired;
}

int index_make_end(struct index_make *make, struct index *index_out)
{
    ASSERT(index_make_parts(make) == 0);
    const int rc = make->rc;
    if (rc == PDB_OK) {
        *index_out = make->index;
        make->index = (struct index){.mapped = false};
    }
    index_make_abandon(make);
    return rc;
}

/* ---- phases ---- */

uint32_t index_make_parts(const struct index_make *make)
{
    const struct make_phase *phase = make->phases[make->phase];
    return make->rc < 0 || phase == NULL ? 0 : phase->parts(make);
}

void index_make_part(struct index_make *make, uint32_t part, struct index_worker *worker)
{
    const struct make_phase *phase = make->phases[make->phase];
    ASSERT(part < index_make_parts(make));
    int rc = phase->part(make, part, worker);
    make->part_rc[part] = rc;
}

static int first_error(const struct index_make *make)
{
    const uint32_t parts = index_make_parts(make);
    for (uint32_t i = 0; i < parts; i++)
        if (make->part_rc[i] < 0)
            return make->part_rc[i];
    return PDB_OK;
}

void index_make_advance(struct index_make *make)
{
    const struct make_phase *phase = make->phases[make->phase];
    ASSERT(index_make_parts(make) > 0);
    int rc = first_error(make);
    if (rc == PDB_OK)
        rc = phase->end(make);
    if (rc > 0) {
        make->rc = make_room(make);
    } else if (rc < 0) {
        make->rc = rc;
    } else {
        make->work_done += phase->work(make);
        make->phase++;
        make->rc = begin_next(make);
    }
}

void index_make_progress(const struct index_make *make, uint64_t *done_out, uint64_t *total_out)
{
    const struct make_phase *now = make->phases[make->phase];
    uint64_t total = make->work_done;
    for (uint32_t i = make->phase; make->phases[i] != NULL; i++)
        total += make->phases[i]->work(make);
    *done_out = make->work_done +
                (now != NULL && now->done != NULL && make->rc == PDB_OK ? now->done(make) : 0);
    *total_out = total;
}

/* ---- workers ---- */

int index_worker_open(const struct index_make *make, struct heap *heap,
                      struct index_worker **worker_out)
{
    const struct index_spec *spec = &make->spec;
    const struct hnsw_params params = graph_params(spec);
    struct index_worker *worker = heap_calloc(heap, 1, sizeof *worker);
    if (worker == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    worker->scratch = heap_alloc_aligned(heap, VECMATH_CODE_ALIGNMENT, scratch_bytes(spec));
    worker->room = heap_calloc(heap, spec->dimension * (size_t)VECMATH_TILE, sizeof(float));
    int rc = worker->scratch == NULL || worker->room == NULL ? PDB_RESOURCE_EXHAUSTED : PDB_OK;
    if (rc == PDB_OK && has_graph(spec))
        rc = hnsw_worker_open_for(&params, make->rows.count, heap, &worker->graph);
    if (rc == PDB_OK && has_lists(spec)) {
        const struct ivf_params lists = make_lists_params(spec);
        const struct quantizer shape = make_shape(spec, spec->codes);
        rc = ivf_worker_open(&shape, &lists, make->rows.count, heap, &worker->lists);
    }
    if (rc == PDB_OK && make_query_count(spec, make->rows.count) > 0)
        rc = make_judging_open(make, heap, &worker->judging);
    if (rc < 0) {
        index_worker_close(worker, heap);
        return rc;
    }
    *worker_out = worker;
    return PDB_OK;
}

void index_worker_close(struct index_worker *worker, struct heap *heap)
{
    if (worker == NULL)
        return;
    make_judging_close(worker->judging, heap);
    hnsw_worker_close(worker->graph, heap);
    ivf_worker_close(worker->lists, heap);
    heap_free(heap, worker->room);
    heap_free(heap, worker->scratch);
    heap_free(heap, worker);
}
