/* index_public_build.c: makes an index of an array, with threads that live as long as the build.
 *
 * The making is divided into phases of parts (index/make.h). The calling thread opens a phase, all
 * threads take its parts one after the other, and when no part is left and nobody works on one, the
 * caller closes it. Phases of a single part, of which a young graph has many, are done by the
 * caller alone: waking somebody would cost more.
 *
 * Threads that cannot be started are not missed: the others do their parts. */
#include "engine/index_public_internal.h"

#include "os/cpu.h"

#include <pthread.h>
#include <string.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum {
    THREADS_MAX = 256,
    ROWS_MAX = 1 << 30,
    /* Fewer numbers than this in all are scanned as fast as a graph would be walked. */
    FLAT_NUMBERS = 1 << 21,
    FLAT_ROWS = 1000,
};

/* ---- what is to be made ---- */

/* Where the rows are while they are indexed. */
struct source {
    const char *rows;
    size_t stride, bytes; /* from row to row; of a row */
};

static const float *vector_at(const void *owner, uint32_t row, float *room)
{
    const struct source *source = owner;
    const char *at = source->rows + (size_t)row * source->stride;
    if ((uintptr_t)at % sizeof(float) == 0)
        return (const float *)(const void *)at;
    return memcpy(room, at, source->bytes);
}

static int check_options(const struct pdb_index_options *o, size_t stride_bytes, size_t count,
                         struct trail *trail)
{
    if (o->metric < PDB_METRIC_COSINE || o->metric > PDB_METRIC_HAMMING)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "metric: unknown");
    if (o->dimension < 1 || o->dimension > PDB_DIMENSION_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "dimension: expected 1 to %d, found %u",
                         PDB_DIMENSION_MAX, o->dimension);
    if ((unsigned)o->type > PDB_INDEX_IVF || (unsigned)o->quantization > PDB_QUANTIZATION_BINARY ||
        (unsigned)o->vectors > PDB_INDEX_VECTORS_NONE)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "options: a choice has an unknown value");
    if (stride_bytes != 0 && stride_bytes < public_index_row_bytes(o->metric, o->dimension))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "stride_bytes: rows overlap");
    if (count > ROWS_MAX)
        return trail_add(trail, PDB_OUT_OF_RANGE, "rows: at most %d", ROWS_MAX);
    return 0;
}

static enum index_kind kind_of(const struct pdb_index_options *o, size_t count)
{
    if (o->type == PDB_INDEX_AUTO)
        return count <= FLAT_ROWS || count * o->dimension <= FLAT_NUMBERS ? INDEX_FLAT : INDEX_HNSW;
    if (o->type == PDB_INDEX_FLAT)
        return INDEX_FLAT;
    return o->type == PDB_INDEX_HNSW ? INDEX_HNSW : INDEX_IVF;
}

static enum quantize_kind codes_of(const struct pdb_index_options *o, enum index_kind kind)
{
    if (o->quantization != PDB_QUANTIZATION_AUTO)
        return public_index_codes(o->quantization);
    if (o->metric == PDB_METRIC_MANHATTAN || o->metric == PDB_METRIC_HAMMING)
        return QUANTIZE_NONE;
    return public_index_codes(kind == INDEX_IVF ? PDB_QUANTIZATION_PQ : PDB_QUANTIZATION_SQ8);
}

static enum pdb_index_type type_of(enum index_kind kind)
{
    if (kind == INDEX_FLAT)
        return PDB_INDEX_FLAT;
    return kind == INDEX_HNSW ? PDB_INDEX_HNSW : PDB_INDEX_IVF;
}

static struct index_spec spec_of(const struct pdb_index_options *o, size_t count)
{
    struct index_spec spec = {
        .kind = kind_of(o, count),
        .code_bits = o->quantization_bits,
        .metric = o->metric,
        .dimension = o->dimension,
        .m = o->hnsw_m,
        .ef_construction = o->ef_construction,
        .lists = o->ivf_lists,
        .seed = o->seed,
    };
    spec.codes = codes_of(o, spec.kind);
    return spec;
}

/* ---- the crew ---- */

struct crew;

struct member {
    struct crew *crew;
    struct index_worker *worker;
    pthread_t thread;
};

/* Who builds. `lock` is held by who looks at or changes the rest. */
struct crew {
    struct index_make *make;
    pthread_mutex_t lock;
    pthread_cond_t opened, idle; /* for members; for the caller */
    uint32_t part_count, next_part, busy;
    bool over;
    uint32_t member_count; /* members[0] is the calling thread */
    struct member members[THREADS_MAX];
};

/* Takes parts until none is left. The lock is held at both ends. */
static void take_parts(struct crew *crew, struct index_worker *worker)
{
    while (crew->next_part < crew->part_count) {
        uint32_t part = crew->next_part++;
        (void)pthread_mutex_unlock(&crew->lock);
        index_make_part(crew->make, part, worker);
        (void)pthread_mutex_lock(&crew->lock);
    }
}

static void *work(void *argument)
{
    struct member *me = argument;
    struct crew *crew = me->crew;
    (void)pthread_mutex_lock(&crew->lock);
    while (!crew->over) {
        crew->busy++;
        take_parts(crew, me->worker);
        if (--crew->busy == 0)
            (void)pthread_cond_signal(&crew->idle);
        while (!crew->over && crew->next_part >= crew->part_count)
            (void)pthread_cond_wait(&crew->opened, &crew->lock);
    }
    (void)pthread_mutex_unlock(&crew->lock);
    return NULL;
}

/* One phase, from its first part to its last. */
static void run_phase(struct crew *crew, uint32_t part_count)
{
    if (part_count == 1) {
        index_make_part(crew->make, 0, crew->members[0].worker);
        return;
    }
    (void)pthread_mutex_lock(&crew->lock);
    crew->part_count = part_count;
    crew->next_part = 0;
    if (crew->member_count > 1)
        (void)pthread_cond_broadcast(&crew->opened);
    take_parts(crew, crew->members[0].worker);
    while (crew->busy > 0)
        (void)pthread_cond_wait(&crew->idle, &crew->lock);
    crew->part_count = crew->next_part = 0;
    (void)pthread_mutex_unlock(&crew->lock);
}

/* The worker of each thread is opened by the caller: a heap belongs to one. */
static int gather_crew(struct crew *crew, uint32_t wanted, struct heap *heap)
{
    (void)pthread_mutex_init(&crew->lock, NULL);
    (void)pthread_cond_init(&crew->opened, NULL);
    (void)pthread_cond_init(&crew->idle, NULL);
    for (uint32_t i = 0; i < wanted; i++) {
        struct member *member = &crew->members[i];
        member->crew = crew;
        int rc = index_worker_open(crew->make, heap, &member->worker);
        if (rc < 0)
            return rc;
        crew->member_count = i + 1;
        if (i > 0 && pthread_create(&member->thread, NULL, work, member) != 0) {
            index_worker_close(member->worker, heap);
            crew->member_count = i;
            return 0;
        }
    }
    return 0;
}

static void dismiss_crew(struct crew *crew, struct heap *heap)
{
    (void)pthread_mutex_lock(&crew->lock);
    crew->over = true;
    (void)pthread_cond_broadcast(&crew->opened);
    (void)pthread_mutex_unlock(&crew->lock);
    for (uint32_t i = 0; i < crew->member_count; i++) {
        if (i > 0)
            (void)pthread_join(crew->members[i].thread, NULL);
        index_worker_close(crew->members[i].worker, heap);
    }
    (void)pthread_cond_destroy(&crew->idle);
    (void)pthread_cond_destroy(&crew->opened);
    (void)pthread_mutex_destroy(&crew->lock);
}

static int run_phases(struct crew *crew, const struct pdb_index_options *options)
{
    for (uint32_t parts; (parts = index_make_parts(crew->make)) > 0;) {
        run_phase(crew, parts);
        index_make_advance(crew->make);
        uint64_t done, total;
        index_make_progress(crew->make, &done, &total);
        if (options->progress != NULL && !options->progress(options->arg, done, total))
            return PDB_CANCELLED;
    }
    return 0;
}

static uint32_t thread_count(const struct pdb_index_options *options)
{
    uint32_t count = options->threads;
    if (count == 0) {
        const unsigned quota = cpu_cgroup_quota();
        count = cpu_allowed(NULL, 0);
        count = quota > 0 && quota < count ? quota : count;
    }
    count = count < THREADS_MAX ? count : THREADS_MAX;
    return count > 0 ? count : 1;
}

/* ---- building ---- */

static int make_index(struct pdb_index *index, const struct pdb_index_options *options,
                      const struct index_spec *spec, const struct source *source)
{
    const struct index_rows rows = {
        .count = index->row_count, .vector = vector_at, .owner = source};
    struct crew *crew = heap_calloc(&index->heap, 1, sizeof *crew);
    if (crew == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    int rc = index_make_begin(spec, &rows, &index->heap, &crew->make);
    if (rc == 0) {
        rc = gather_crew(crew, thread_count(options), &index->heap);
        if (rc == 0)
            rc = run_phases(crew, options);
        dismiss_crew(crew, &index->heap);
        if (rc == 0)
            rc = index_make_end(crew->make, &index->index);
        else
            index_make_abandon(crew->make);
    }
    heap_free(&index->heap, crew);
    index->has_index = rc == 0;
    return rc;
}

/* Every number of every row, before any of them is used. */
static int check_rows(const struct pdb_index *index, const struct source *source,
                      struct trail *trail)
{
    if (index->metric == PDB_METRIC_HAMMING)
        return 0;
    for (uint32_t row = 0; row < index->row_count; row++)
        if (!vecmath_all_finite(source->rows + (size_t)row * source->stride, index->dimension))
            return trail_add(trail, PDB_INVALID_ARGUMENT, "row %u: a value is not finite", row);
    return 0;
}

static int keep_vectors(struct pdb_index *index, enum pdb_index_vectors how,
                        const struct source *source)
{
    if (how == PDB_INDEX_VECTORS_NONE)
        return 0;
    index->vectors = source->rows;
    index->stride = source->stride;
    if (how == PDB_INDEX_VECTORS_REFERENCE || index->row_count == 0)
        return 0;
    const size_t stride = public_index_stride(index->metric, index->dimension);
    char *memory = public_index_memory(index, index->row_count * stride);
    if (memory == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t row = 0; row < index->row_count; row++) {
        char *to = memory + (size_t)row * stride;
        memcpy(to, source->rows + (size_t)row * source->stride, source->bytes);
        memset(to + source->bytes, 0, stride - source->bytes);
    }
    index->vectors = index->vectors_memory = memory;
    index->stride = stride;
    return 0;
}

static int fill(struct pdb_index *index, const struct pdb_index_options *o,
                const struct source *source, struct trail *trail)
{
    struct index_spec spec = spec_of(o, index->row_count);
    int rc = check_rows(index, source, trail);
    if (rc < 0)
        return rc;
    bool wanted = spec.kind != INDEX_FLAT || spec.codes != QUANTIZE_NONE;
    if (wanted && !index_make_supports(&spec)) {
        if (o->type != PDB_INDEX_AUTO)
            return trail_add(trail, PDB_UNIMPLEMENTED, "no such index for this metric");
        wanted = false;
    }
    if (!wanted && o->vectors == PDB_INDEX_VECTORS_NONE)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "vectors: neither these nor codes of them");
    index->type = wanted ? type_of(spec.kind) : PDB_INDEX_FLAT;
    index->quantization = wanted ? public_index_quantization(spec.codes) : PDB_QUANTIZATION_NONE;
    /* Of full rows in the index there is no second copy. */
    const bool twice = wanted && spec.codes == QUANTIZE_NONE;
    rc = keep_vectors(index, twice ? PDB_INDEX_VECTORS_NONE : o->vectors, source);
    if (rc == 0 && wanted && index->row_count > 0)
        rc = make_index(index, o, &spec, source);
    if (rc == PDB_INVALID_ARGUMENT)
        return trail_add(trail, rc,
                         "hnsw_m, ef_construction, ivf_lists or quantization_bits: out "
                         "of range");
    return rc < 0 ? trail_add(trail, rc, rc == PDB_CANCELLED ? "by the caller" : "no memory") : 0;
}

int public_index_build(const struct pdb_index_options *options, const void *rows,
                       size_t stride_bytes, size_t count, uint64_t fail_at,
                       struct pdb_index **index_out, struct trail *trail)
{
    int rc = check_options(options, stride_bytes, count, trail);
    if (rc < 0)
        return rc;
    public_index_select_kernels();
    struct pdb_index *index = public_index_new(fail_at);
    if (index == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    index->metric = options->metric;
    index->dimension = options->dimension;
    index->row_count = (uint32_t)count;
    const size_t packed = public_index_row_bytes(options->metric, options->dimension);
    const struct source source = {rows, stride_bytes != 0 ? stride_bytes : packed, packed};
    if ((rc = fill(index, options, &source, trail)) < 0) {
        pdb_index_destroy(index);
        return rc;
    }
    *index_out = index;
    return 0;
}

int pdb_index_build(const struct pdb_index_options *options, const void *rows, size_t stride_bytes,
                    size_t count, struct pdb_index **index_out, struct pdb_error *error)
{
    struct trail trail = {0};
    (void)public_index_build(options, rows, stride_bytes, count, 0, index_out, &trail);
    return public_index_error(&trail, error);
}
