/* bench.c: the index as a shared library for perf/index/compare.py, which runs it and other indexes
 * in one process. Times are CPU time of the calling thread; several workers of a build are timed by
 * the wall. Not part of the product; errors are returned, and the driver gives up. */
#include "index/index.h"
#include "index/search.h"

#include <proximadb/error.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <vecmath/vecmath.h>

#define BENCH_API __attribute__((visibility("default")))

enum { WORKERS_MAX = 16 };

struct bench {
    const float *vectors; /* of the caller */
    uint32_t count, dimension;
    struct index index;  /* graph and SQ8 codes */
    struct index narrow; /* SQ4 codes, where asked for */
    struct index_scratch *scratch;
    double encode_s, build_s, build_wall_s;
    uint64_t build_distances, repaired;
};

struct bench_result {
    double seconds; /* CPU, all queries */
    uint64_t distances, expanded, capped;
};

BENCH_API struct bench *bench_build(const float *vectors, uint32_t count, uint32_t dimension,
                                    int metric, uint32_t m, uint32_t ef, uint32_t workers);
BENCH_API int bench_add_sq4(struct bench *bench);
BENCH_API void bench_facts(const struct bench *bench, double *facts_out);
BENCH_API void bench_search(struct bench *bench, const float *queries, uint32_t query_count,
                            uint32_t k, uint32_t want, float gamma, uint32_t ef, int sq4,
                            uint32_t *rows_out, struct bench_result *result_out);
BENCH_API double bench_score(struct bench *bench, const float *query, uint32_t rounds);
BENCH_API void bench_close(struct bench *bench);

static double seconds(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* As the engine does for what is resident: of the whole pages within. */
static void want_huge_pages(void *bytes, size_t length)
{
    uintptr_t from = ((uintptr_t)bytes + 4095) & ~(uintptr_t)4095;
    uintptr_t to = ((uintptr_t)bytes + length) & ~(uintptr_t)4095;
    if (from < to)
        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
}

static int encode(struct bench *bench, enum quantize_kind kind, enum pdb_metric metric,
                  struct index *index_out)
{
    struct quantize_spec spec = {
        .kind = kind, .metric = metric, .dimension = bench->dimension, .seed = 1};
    struct quantizer quantizer;
    uint32_t samples = quantize_sample_count(bench->count);
    float *sample = malloc((size_t)samples * bench->dimension * sizeof(float));
    if (sample == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < samples; i++)
        memcpy(sample + (size_t)i * bench->dimension,
               bench->vectors + (size_t)quantize_sample_row(1, bench->count, i) * bench->dimension,
               bench->dimension * sizeof(float));
    int rc =
        quantize_train(&spec, sample, bench->dimension * sizeof(float), samples, NULL, &quantizer);
    free(sample);
    if (rc == PDB_OK)
        rc = index_init(index_out, &quantizer, bench->count, NULL);
    if (rc < 0)
        return rc;
    want_huge_pages(index_out->codes.bytes, quantize_codes_bytes(&quantizer, bench->count));
    void *scratch = aligned_alloc(64, quantize_scratch_bytes(&quantizer));
    if (scratch == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t row = 0; row < bench->count; row++)
        quantize_encode(&quantizer, bench->vectors + (size_t)row * bench->dimension, scratch,
                        &index_out->codes, row);
    free(scratch);
    return PDB_OK;
}

/* What the threads of a build share: each takes the next part, all meet after each phase. */
struct crew {
    struct hnsw_build *build;
    uint32_t worker_count;
    atomic_uint next_part;
    atomic_bool stop;
    pthread_barrier_t barrier;
    struct member {
        struct crew *crew;
        struct hnsw_worker *worker;
        pthread_t thread;
        double cpu_s;
        bool first;
    } members[WORKERS_MAX];
};

static void *work(void *argument)
{
    struct member *me = argument;
    struct crew *crew = me->crew;
    double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    for (;;) {
        uint32_t parts = hnsw_build_parts(crew->build);
        uint32_t part;
        while ((part = atomic_fetch_add(&crew->next_part, 1)) < parts)
            hnsw_build_part(crew->build, part, me->worker);
        (void)pthread_barrier_wait(&crew->barrier);
        if (me->first) {
            hnsw_build_advance(crew->build);
            atomic_store(&crew->next_part, 0);
            atomic_store(&crew->stop, hnsw_build_parts(crew->build) == 0);
        }
        (void)pthread_barrier_wait(&crew->barrier);
        if (atomic_load(&crew->stop))
            break;
    }
    me->cpu_s = seconds(CLOCK_THREAD_CPUTIME_ID) - start;
    return NULL;
}

static int run_crew(struct bench *bench, struct crew *crew)
{
    for (uint32_t i = 0; i < crew->worker_count; i++) {
        crew->members[i].crew = crew;
        crew->members[i].first = i == 0;
        if (hnsw_worker_open(crew->build, NULL, &crew->members[i].worker) < 0)
            return PDB_RESOURCE_EXHAUSTED;
    }
    if (pthread_barrier_init(&crew->barrier, NULL, crew->worker_count) != 0)
        return PDB_INTERNAL;
    double start = seconds(CLOCK_MONOTONIC);
    for (uint32_t i = 1; i < crew->worker_count; i++)
        if (pthread_create(&crew->members[i].thread, NULL, work, &crew->members[i]) != 0)
            abort();
    (void)work(&crew->members[0]);
    for (uint32_t i = 1; i < crew->worker_count; i++)
        (void)pthread_join(crew->members[i].thread, NULL);
    bench->build_wall_s = seconds(CLOCK_MONOTONIC) - start;
    for (uint32_t i = 0; i < crew->worker_count; i++) {
        bench->build_s += crew->members[i].cpu_s;
        bench->build_distances += hnsw_worker_distances(crew->members[i].worker);
        hnsw_worker_close(crew->members[i].worker, NULL);
    }
    (void)pthread_barrier_destroy(&crew->barrier);
    return PDB_OK;
}

static int build_graph(struct bench *bench, uint32_t m, uint32_t ef, uint32_t workers)
{
    struct hnsw_params params = {m, ef, 1};
    static struct crew crew;
    crew = (struct crew){.worker_count = workers};
    int rc =
        hnsw_build_begin(&params, &bench->index.quantizer, &bench->index.codes, NULL, &crew.build);
    if (rc == PDB_OK && hnsw_build_parts(crew.build) > 0)
        rc = run_crew(bench, &crew);
    if (rc < 0)
        return rc;
    struct hnsw_progress progress;
    struct hnsw graph;
    hnsw_build_progress(crew.build, &progress);
    bench->repaired = progress.repaired;
    hnsw_build_end(crew.build, &graph);
    index_set_graph(&bench->index, &graph);
    return PDB_OK;
}

BENCH_API struct bench *bench_build(const float *vectors, uint32_t count, uint32_t dimension,
                                    int metric, uint32_t m, uint32_t ef, uint32_t workers)
{
    struct bench *bench = calloc(1, sizeof *bench);
    char error[160];
    if (bench == NULL || workers == 0 || workers > WORKERS_MAX ||
        vecmath_select(getenv("PROXIMADB_SIMD"), error, sizeof error) < 0)
        return NULL;
    bench->vectors = vectors;
    bench->count = count;
    bench->dimension = dimension;
    double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    if (encode(bench, QUANTIZE_SQ8, (enum pdb_metric)metric, &bench->index) < 0)
        return NULL;
    bench->encode_s = seconds(CLOCK_THREAD_CPUTIME_ID) - start;
    if (build_graph(bench, m, ef, workers) < 0 ||
        index_scratch_open(NULL, count, dimension, &bench->scratch) < 0)
        return NULL;
    return bench;
}

BENCH_API int bench_add_sq4(struct bench *bench)
{
    return encode(bench, QUANTIZE_SQ4, bench->index.quantizer.metric, &bench->narrow);
}

/* encode s, build CPU s, build wall s, distances of the build, repaired rows, bytes, links a row */
BENCH_API void bench_facts(const struct bench *bench, double *facts_out)
{
    struct hnsw_findings found = {0};
    (void)hnsw_check(&bench->index.graph, NULL, &found);
    facts_out[0] = bench->encode_s;
    facts_out[1] = bench->build_s;
    facts_out[2] = bench->build_wall_s;
    facts_out[3] = (double)bench->build_distances;
    facts_out[4] = (double)bench->repaired;
    facts_out[5] = (double)index_bytes(&bench->index);
    facts_out[6] = (double)found.links / bench->count;
    facts_out[7] = (double)(found.unreached + found.stuck);
}

BENCH_API void bench_search(struct bench *bench, const float *queries, uint32_t query_count,
                            uint32_t k, uint32_t want, float gamma, uint32_t ef, int sq4,
                            uint32_t *rows_out, struct bench_result *result_out)
{
    static struct index_candidate candidates[INDEX_WANT_MAX];
    static const void *vectors[INDEX_WANT_MAX];
    struct index view = bench->index;
    if (sq4) {
        view.quantizer = bench->narrow.quantizer;
        view.codes = bench->narrow.codes;
    }
    *result_out = (struct bench_result){0};
    double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    for (uint32_t i = 0; i < query_count; i++) {
        struct index_search search;
        struct index_query query = {.vector = queries + (size_t)i * bench->dimension,
                                    .k = k,
                                    .want = want,
                                    .gamma = gamma,
                                    .ef = ef};
        index_search_begin(&search, bench->scratch, &view, &query);
        while (!index_search_step(&search, 1500))
            ;
        uint32_t count = index_search_end(&search, candidates);
        for (uint32_t j = 0; j < count; j++)
            vectors[j] = bench->vectors + (size_t)candidates[j].row * bench->dimension;
        count = index_rerank(&view.quantizer, query.vector, vectors, candidates, count, k);
        for (uint32_t j = 0; j < k; j++)
            rows_out[(size_t)i * k + j] = j < count ? candidates[j].row : HNSW_NONE;
        result_out->distances += search.stats.distances;
        result_out->expanded += search.stats.expanded;
        result_out->capped += search.stats.capped;
    }
    result_out->seconds = seconds(CLOCK_THREAD_CPUTIME_ID) - start;
}

/* Nanoseconds a row of a scan of all codes. */
BENCH_API double bench_score(struct bench *bench, const float *query, uint32_t rounds)
{
    struct index flat = bench->index;
    struct index_candidate candidates[12];
    flat.has_graph = false;
    double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    for (uint32_t i = 0; i < rounds; i++) {
        struct index_search search;
        struct index_query one = {.vector = query, .k = 10, .want = 12, .gamma = -1};
        index_search_begin(&search, bench->scratch, &flat, &one);
        while (!index_search_step(&search, 1500))
            ;
        (void)index_search_end(&search, candidates);
    }
    return 1e9 * (seconds(CLOCK_THREAD_CPUTIME_ID) - start) / rounds / bench->count;
}

BENCH_API void bench_close(struct bench *bench)
{
    if (bench == NULL)
        return;
    index_scratch_close(bench->scratch, NULL);
    index_dispose(&bench->index, NULL);
    index_dispose(&bench->narrow, NULL);
    free(bench);
}
