/* Data with seeds, exact answers by the plainest loop, and an index built by one worker or several:
 * what the tests of the index share. */
#ifndef INDEX_FIXTURE_H
#define INDEX_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "base/rng.h"
#include "index/index.h"
#include "index/search.h"

#include <math.h>
#include <proximadb/error.h>
#include <stdlib.h>
#include <string.h>

/* Sanitizers look at memory, not at recall: there, tests of the latter may have fewer rows. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

struct data {
    uint32_t count, dimension;
    float *vectors;
};

static inline float *vector_of(const struct data *data, uint32_t row)
{
    return data->vectors + (size_t)row * data->dimension;
}

static inline struct data data_new(uint32_t count, uint32_t dimension)
{
    struct data data = {count, dimension, NULL};
    /* room for a row that nobody uses: an empty set is not an error */
    data.vectors = calloc((size_t)(count + 1) * dimension, sizeof(float));
    assert_non_null(data.vectors);
    return data;
}

static inline void data_free(struct data *data)
{
    free(data->vectors);
    data->vectors = NULL;
}

/* Clusters about centres that the seed alone decides, so that data and queries of one seed belong
 * together; `draw` tells them apart. sorted: rows of one cluster lie together. */
static inline struct data data_clustered(uint32_t count, uint32_t dimension, uint32_t clusters,
                                         uint64_t seed, uint64_t draw, bool sorted)
{
    struct data data = data_new(count, dimension);
    struct data centres = data_new(clusters, dimension);
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < (size_t)clusters * dimension; i++)
        centres.vectors[i] = (float)rng_normal(&rng);
    rng_seed(&rng, seed * 1000 + draw);
    for (uint32_t row = 0; row < count; row++) {
        uint32_t cluster = sorted ? (uint32_t)((uint64_t)row * clusters / count)
                                  : (uint32_t)rng_below(&rng, clusters);
        for (uint32_t j = 0; j < dimension; j++)
            vector_of(&data, row)[j] =
                vector_of(&centres, cluster)[j] + 0.6f * (float)rng_normal(&rng);
    }
    data_free(&centres);
    return data;
}

/* The same vectors as bits, one for each dimension: whether its number is above 0. They lie at the
 * front of each vector's memory. */
static inline void data_to_bits(struct data *data)
{
    for (uint32_t row = 0; row < data->count; row++) {
        float *vector = vector_of(data, row);
        uint8_t *bits = calloc(data->dimension, sizeof(float));
        assert_non_null(bits);
        for (uint32_t j = 0; j < data->dimension; j++)
            bits[j / 8] = (uint8_t)(bits[j / 8] | (vector[j] > 0) << j % 8);
        memcpy(vector, bits, data->dimension * sizeof(float));
        free(bits);
    }
}

/* ---- the oracle ---- */

static inline double differing_bits(const void *a, const void *b, uint32_t dimension)
{
    const uint8_t *x = a, *y = b;
    double count = 0;
    for (uint32_t j = 0; j < dimension; j++)
        count += (x[j / 8] ^ y[j / 8]) >> j % 8 & 1;
    return count;
}

/* Lower is better, as index_rerank() has it. */
static inline double exact_distance(enum pdb_metric metric, const float *a, const float *b,
                                    uint32_t dimension)
{
    double dot = 0, aa = 0, bb = 0, sum = 0;
    switch (metric) {
    case PDB_METRIC_HAMMING:
        return differing_bits(a, b, dimension);
    case PDB_METRIC_MANHATTAN:
        for (uint32_t j = 0; j < dimension; j++)
            sum += fabs((double)a[j] - (double)b[j]);
        return sum;
    case PDB_METRIC_EUCLIDEAN:
        for (uint32_t j = 0; j < dimension; j++) {
            double gap = (double)a[j] - (double)b[j];
            sum += gap * gap;
        }
        return sum;
    case PDB_METRIC_DOT:
        for (uint32_t j = 0; j < dimension; j++)
            dot += (double)a[j] * (double)b[j];
        return -dot;
    case PDB_METRIC_UNSPECIFIED:
    case PDB_METRIC_COSINE:
        break;
    }
    for (uint32_t j = 0; j < dimension; j++) {
        double x = (double)a[j], y = (double)b[j];
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    return aa == 0 || bb == 0 ? 0 : -dot / sqrt(aa * bb);
}

/* The k-th smallest exact distance among the rows that `wanted` (NULL: all) lets through, or
 * infinity when there are fewer. */
static inline double exact_kth(const struct data *data, enum pdb_metric metric, const float *query,
                               uint32_t k, const uint64_t *wanted)
{
    double *best = malloc(k * sizeof(double));
    uint32_t count = 0;
    assert_non_null(best);
    for (uint32_t row = 0; row < data->count; row++) {
        if (wanted != NULL && (wanted[row / 64] >> (row % 64) & 1) == 0)
            continue;
        double distance = exact_distance(metric, query, vector_of(data, row), data->dimension);
        uint32_t at = count < k ? count++ : k;
        if (at == k && distance >= best[k - 1])
            continue;
        at = at < k ? at : k - 1;
        for (; at > 0 && best[at - 1] > distance; at--)
            best[at] = best[at - 1];
        best[at] = distance;
    }
    double kth = count == k ? best[k - 1] : (double)INFINITY;
    free(best);
    return kth;
}

/* ---- building ---- */

struct built {
    struct heap heap;
    struct index index;
    uint64_t repaired;
};

static inline void encode_all(struct built *built, const struct data *data)
{
    void *scratch = NULL;
    assert_int_equal(posix_memalign(&scratch, 64, quantize_scratch_bytes(&built->index.quantizer)),
                     0);
    for (uint32_t row = 0; row < data->count; row++)
        quantize_encode(&built->index.quantizer, vector_of(data, row), scratch, &built->index.codes,
                        row);
    free(scratch);
}

static inline void build_codes(struct built *built, const struct data *data,
                               enum quantize_kind kind, enum pdb_metric metric)
{
    struct quantize_spec spec = {
        .kind = kind, .metric = metric, .dimension = data->dimension, .seed = 42};
    struct quantizer quantizer;
    uint32_t samples = quantize_sample_count(data->count);
    struct data sample = data_new(samples, data->dimension);
    for (uint32_t i = 0; i < samples; i++)
        memcpy(vector_of(&sample, i), vector_of(data, quantize_sample_row(1, data->count, i)),
               data->dimension * sizeof(float));
    assert_int_equal(quantize_train(&spec, sample.vectors, data->dimension * sizeof(float), samples,
                                    &built->heap, &quantizer),
                     PDB_OK);
    data_free(&sample);
    assert_int_equal(index_init(&built->index, &quantizer, data->count, &built->heap), PDB_OK);
    encode_all(built, data);
}

/* The graph of an index of SQ8 or full rows, by `workers` workers that take turns, parts last to
 * first. */
static inline void build_graph(struct built *built, const struct hnsw_params *params,
                               uint32_t workers, struct hnsw *graph_out)
{
    struct hnsw_build *build = NULL;
    struct hnsw_worker *worker[4];
    struct hnsw_progress progress;
    assert_in_range(workers, 1, 4);
    assert_int_equal(hnsw_build_begin(params, &built->index.quantizer, &built->index.codes,
                                      &built->heap, &build),
                     PDB_OK);
    for (uint32_t i = 0; i < workers; i++)
        assert_int_equal(hnsw_worker_open(build, &built->heap, &worker[i]), PDB_OK);
    for (uint32_t parts; (parts = hnsw_build_parts(build)) > 0; hnsw_build_advance(build))
        for (uint32_t i = 0; i < parts; i++)
            hnsw_build_part(build, workers == 1 ? i : parts - 1 - i, worker[i % workers]);
    hnsw_build_progress(build, &progress);
    assert_int_equal(progress.rows_done, progress.rows_total);
    built->repaired = progress.repaired;
    for (uint32_t i = 0; i < workers; i++)
        hnsw_worker_close(worker[i], &built->heap);
    hnsw_build_end(build, graph_out);
}

static inline void build_index_on(struct built *built, const struct data *data,
                                  enum quantize_kind kind, enum pdb_metric metric)
{
    struct hnsw_params params = {.seed = 7};
    struct hnsw graph;
    *built = (struct built){0};
    build_codes(built, data, kind, metric);
    build_graph(built, &params, 1, &graph);
    index_set_graph(&built->index, &graph);
}

static inline void build_index(struct built *built, const struct data *data, enum pdb_metric metric)
{
    build_index_on(built, data, QUANTIZE_SQ8, metric);
}

static inline void built_free(struct built *built)
{
    index_dispose(&built->index, &built->heap);
    assert_int_equal(built->heap.bytes_used, 0);
}

/* ---- searching ---- */

enum { HITS_MAX = INDEX_WANT_MAX };

struct hits {
    uint32_t count;
    struct index_candidate hit[HITS_MAX];
    struct index_search_stats stats;
};

/* Search and re-rank, `budget` rows a step. */
static inline void find(const struct index *index, const struct data *data,
                        struct index_scratch *scratch, const struct index_query *query,
                        uint32_t budget, struct hits *hits_out)
{
    struct index_search search;
    const void *vectors[HITS_MAX];
    index_search_begin(&search, scratch, index, query);
    while (!index_search_step(&search, budget))
        ;
    uint32_t count = index_search_end(&search, hits_out->hit);
    assert_in_range(count, 0, HITS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        assert_in_range(hits_out->hit[i].row, 0, data->count - 1);
        vectors[i] = vector_of(data, hits_out->hit[i].row);
    }
    hits_out->count =
        index_rerank(&index->quantizer, query->vector, vectors, hits_out->hit, count, query->k);
    hits_out->stats = search.stats;
}

/* Share of the k results that are as near as the k-th exact one: ties count. */
static inline double recall_of(const struct built *built, const struct data *data,
                               const struct data *queries, const struct index_query *how,
                               const uint64_t *wanted)
{
    struct index_scratch *scratch = NULL;
    struct heap heap = {0};
    static struct hits hits;
    uint64_t good = 0, all = 0;
    enum pdb_metric metric = built->index.quantizer.metric;
    assert_int_equal(index_scratch_open(&heap, data->count, data->dimension, &scratch), PDB_OK);
    for (uint32_t i = 0; i < queries->count; i++) {
        struct index_query query = *how;
        query.vector = vector_of(queries, i);
        find(&built->index, data, scratch, &query, 1500, &hits);
        double kth = exact_kth(data, metric, query.vector, query.k, wanted);
        assert_true(!isfinite(kth) || hits.count == query.k);
        all += query.k;
        for (uint32_t j = 0; j < hits.count; j++) {
            double distance = exact_distance(metric, query.vector, vector_of(data, hits.hit[j].row),
                                             data->dimension);
            good += distance <= kth + 1e-6 * fabs(kth);
        }
    }
    index_scratch_close(scratch, &heap);
    assert_int_equal(heap.bytes_used, 0);
    return (double)good / (double)all;
}

static inline void assert_recall(double recall, double least)
{
    if (recall < least)
        fail_msg("recall %.4f, not at least %.4f", recall, least);
}

static inline void assert_sound(const struct hnsw *graph)
{
    struct heap heap = {0};
    struct hnsw_findings found;
    assert_int_equal(hnsw_check(graph, &heap, &found), PDB_OK);
    assert_int_equal(found.dangling, 0);
    assert_int_equal(found.loops, 0);
    assert_int_equal(found.repeated, 0);
    assert_int_equal(found.behind_end, 0);
    assert_int_equal(found.misplaced, 0);
    assert_int_equal(found.unreached, 0);
    assert_int_equal(found.stuck, 0);
}

#endif
