/* An index alone: built of an array, searched, saved and loaded. The oracle is the plainest loop in
 * double precision. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bitset.h"
#include "base/rng.h"
#include "engine/index_public_internal.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 3000, DIMENSION = 24, QUERIES = 50, K = 10 };

static char folder[] = "/tmp/test_index_public_XXXXXX";

static const char *path_of(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* ---- data ---- */

/* Clusters that seed 1 decides; `draw` tells rows and queries apart. */
static float *clustered(uint32_t count, uint32_t dimension, uint64_t draw)
{
    enum { CLUSTERS = 40 };
    float *vectors = calloc((size_t)count * dimension + 1, sizeof(float));
    float *centres = calloc((size_t)CLUSTERS * dimension, sizeof(float));
    assert_non_null(vectors);
    assert_non_null(centres);
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t i = 0; i < (size_t)CLUSTERS * dimension; i++)
        centres[i] = (float)rng_normal(&rng);
    rng_seed(&rng, 1000 + draw);
    for (uint32_t row = 0; row < count; row++) {
        const float *centre = centres + rng_below(&rng, CLUSTERS) * dimension;
        for (uint32_t j = 0; j < dimension; j++)
            vectors[(size_t)row * dimension + j] = centre[j] + 0.6f * (float)rng_normal(&rng);
    }
    free(centres);
    return vectors;
}

static double score_by_hand(enum pdb_metric metric, const float *a, const float *b,
                            uint32_t dimension)
{
    double dot = 0, aa = 0, bb = 0, squares = 0, differences = 0;
    for (uint32_t j = 0; j < dimension; j++) {
        double x = (double)a[j], y = (double)b[j];
        dot += x * y;
        aa += x * x;
        bb += y * y;
        squares += (x - y) * (x - y);
        differences += fabs(x - y);
    }
    if (metric == PDB_METRIC_COSINE)
        return dot / sqrt(aa * bb);
    if (metric == PDB_METRIC_DOT)
        return dot;
    return metric == PDB_METRIC_EUCLIDEAN ? sqrt(squares) : differences;
}

static bool is_better(enum pdb_metric metric, double a, double b)
{
    return metric == PDB_METRIC_COSINE || metric == PDB_METRIC_DOT ? a > b : a < b;
}

/* Rows that are better than `hit` by more than rounding can explain, of those allowed. */
static uint32_t better_rows(enum pdb_metric metric, const float *rows, uint32_t count,
                            const float *query, const uint64_t *allowed, double score)
{
    uint32_t better = 0;
    for (uint32_t row = 0; row < count; row++) {
        double own = score_by_hand(metric, rows + (size_t)row * DIMENSION, query, DIMENSION);
        bool counts = allowed == NULL || bitset_test(allowed, row);
        better += counts && is_better(metric, own, score) && fabs(own - score) > 1e-4;
    }
    return better;
}

/* ---- shorthands ---- */

static struct pdb_index_options options_of(enum pdb_metric metric, enum pdb_index_type type)
{
    return (struct pdb_index_options){
        .metric = metric, .dimension = DIMENSION, .type = type, .seed = 7, .threads = 2};
}

static struct pdb_index *build(const struct pdb_index_options *options, const void *rows,
                               size_t count)
{
    struct pdb_index *index = NULL;
    struct pdb_error error = {0};
    int rc = pdb_index_build(options, rows, 0, count, &index, &error);
    if (rc < 0)
        print_error("%s\n", error.text);
    assert_int_equal(rc, 0);
    return index;
}

static struct pdb_index_searcher *searcher_of(const struct pdb_index *index)
{
    struct pdb_index_searcher *searcher = NULL;
    assert_int_equal(pdb_index_searcher_open(index, &searcher, NULL), 0);
    return searcher;
}

/* Share of the hits that belong to the true k best. */
static double recall_of(const struct pdb_index *index, const struct pdb_index_query *asked,
                        const float *rows, const float *queries)
{
    struct pdb_index_stats stats;
    struct pdb_index_searcher *searcher = searcher_of(index);
    uint32_t found = 0;
    pdb_index_stats(index, &stats);
    for (uint32_t i = 0; i < QUERIES; i++) {
        struct pdb_index_hit hits[K];
        struct pdb_index_result result;
        struct pdb_index_query query = *asked;
        query.vector = queries + (size_t)i * DIMENSION;
        query.k = K;
        assert_int_equal(pdb_index_search(searcher, &query, hits, &result, NULL), 0);
        assert_int_equal(result.count, K);
        for (uint32_t j = 0; j < K; j++) {
            const float *row = rows + (size_t)hits[j].row * DIMENSION;
            double score = score_by_hand(stats.metric, row, query.vector, DIMENSION);
            assert_true(query.allowed == NULL || bitset_test(query.allowed, hits[j].row));
            assert_true(j == 0 ||
                        !is_better(stats.metric, (double)hits[j].score, (double)hits[j - 1].score));
            found += better_rows(stats.metric, rows, ROWS, query.vector, query.allowed, score) < K;
        }
    }
    pdb_index_searcher_close(searcher);
    return (double)found / (QUERIES * K);
}

/* ---- building and searching ---- */

static void graphs_of_all_metrics_with_codes_find_the_nearest_rows(void **state)
{
    (void)state;
    static const enum pdb_metric metrics[] = {PDB_METRIC_COSINE, PDB_METRIC_DOT,
                                              PDB_METRIC_EUCLIDEAN};
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    for (unsigned i = 0; i < 3; i++) {
        struct pdb_index_options options = options_of(metrics[i], PDB_INDEX_HNSW);
        struct pdb_index *index = build(&options, rows, ROWS);
        struct pdb_index_query usual = {0}, wide = {.ef = 300}, near = {.gamma = 0.3f};
        assert_true(recall_of(index, &usual, rows, queries) >= 0.95);
        assert_true(recall_of(index, &wide, rows, queries) >= 0.97);
        assert_true(recall_of(index, &near, rows, queries) >= 0.95);
        pdb_index_destroy(index);
    }
    free(queries);
    free(rows);
}

static void exact_searches_miss_nothing_whatever_the_metric_and_where_vectors_are(void **state)
{
    (void)state;
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    for (unsigned metric = PDB_METRIC_COSINE; metric <= PDB_METRIC_MANHATTAN; metric++)
        for (unsigned how = PDB_INDEX_VECTORS_COPY; how <= PDB_INDEX_VECTORS_REFERENCE; how++) {
            struct pdb_index_options options = options_of((enum pdb_metric)metric, PDB_INDEX_FLAT);
            options.quantization = PDB_QUANTIZATION_NONE;
            options.vectors = (enum pdb_index_vectors)how;
            struct pdb_index *index = build(&options, rows, ROWS);
            struct pdb_index_query exact = {.exact = true};
            assert_true(recall_of(index, &exact, rows, queries) >= 1.0);
            pdb_index_destroy(index);
        }
    free(queries);
    free(rows);
}

static void graphs_over_the_rows_themselves_keep_no_second_copy(void **state)
{
    (void)state;
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    for (unsigned metric = PDB_METRIC_COSINE; metric <= PDB_METRIC_MANHATTAN; metric++) {
        struct pdb_index_options options = options_of((enum pdb_metric)metric, PDB_INDEX_HNSW);
        options.quantization = PDB_QUANTIZATION_NONE;
        struct pdb_index *index = build(&options, rows, ROWS);
        struct pdb_index_query usual = {0}, exact = {.exact = true};
        struct pdb_index_stats stats;
        pdb_index_stats(index, &stats);
        assert_int_equal(stats.vector_bytes, 0);
        assert_true(recall_of(index, &usual, rows, queries) >= 0.95);
        assert_true(recall_of(index, &exact, rows, queries) >= 1.0);
        pdb_index_destroy(index);
    }
    free(queries);
    free(rows);
}

static void lists_are_probed_as_wished_and_exactly_where_they_hold_the_rows(void **state)
{
    (void)state;
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    struct pdb_index_options options = options_of(PDB_METRIC_EUCLIDEAN, PDB_INDEX_IVF);
    options.quantization = PDB_QUANTIZATION_NONE;
    struct pdb_index *index = build(&options, rows, ROWS);
    struct pdb_index_query usual = {0}, wide = {.nprobe = 4096}, exact = {.exact = true};
    assert_true(recall_of(index, &usual, rows, queries) >= 0.9);
    assert_true(recall_of(index, &wide, rows, queries) >= 1.0);
    assert_true(recall_of(index, &exact, rows, queries) >= 1.0);
    pdb_index_destroy(index);
    free(queries);
    free(rows);
}

static void bits_are_searched_exactly(void **state)
{
    (void)state;
    static const uint8_t rows[][2] = {{0xff, 0x01}, {0x00, 0x00}, {0x0f, 0x00}, {0x0f, 0x01}};
    static const uint8_t query[2] = {0x07, 0x00};
    struct pdb_index_options options = {.metric = PDB_METRIC_HAMMING, .dimension = 9};
    options.type = PDB_INDEX_FLAT;
    options.quantization = PDB_QUANTIZATION_NONE;
    struct pdb_index *index = build(&options, rows, 4);
    struct pdb_index_searcher *searcher = searcher_of(index);
    struct pdb_index_query asked = {.vector = query, .k = 3};
    struct pdb_index_hit hits[3];
    struct pdb_index_result result;
    assert_int_equal(pdb_index_search(searcher, &asked, hits, &result, NULL), 0);
    assert_int_equal(result.count, 3);
    assert_int_equal(hits[0].row, 2);
    assert_int_equal((int)hits[0].score, 1);
    assert_int_equal(hits[1].row, 3);
    assert_int_equal((int)hits[1].score, 2);
    assert_int_equal(hits[2].row, 1);
    pdb_index_searcher_close(searcher);
    pdb_index_destroy(index);
}

static void a_wish_for_recall_is_met_and_its_estimate_told(void **state)
{
    (void)state;
    static const float targets[] = {0.8f, 0.95f, 0.99f};
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    struct pdb_index_options options = options_of(PDB_METRIC_EUCLIDEAN, PDB_INDEX_HNSW);
    struct pdb_index *index = build(&options, rows, ROWS);
    struct pdb_index_stats stats;
    pdb_index_stats(index, &stats);
    assert_true(stats.has_recall);
    assert_true(stats.recall_estimate >= 0.95f && stats.recall_estimate <= 1.0f);
    for (unsigned i = 0; i < 3; i++) {
        struct pdb_index_query query = {.target_recall = targets[i]};
        assert_true(recall_of(index, &query, rows, queries) >= (double)targets[i] - 0.02);
    }
    pdb_index_destroy(index);
    free(queries);
    free(rows);
}

static uint64_t distances_for(const struct pdb_index *index, float target, const float *queries)
{
    struct pdb_index_hit hits[10];
    struct pdb_index_result result;
    struct pdb_index_searcher *searcher = NULL;
    uint64_t sum = 0;
    assert_int_equal(pdb_index_searcher_open(index, &searcher, NULL), PDB_OK);
    for (uint32_t i = 0; i < QUERIES; i++) {
        const struct pdb_index_query query = {
            .vector = queries + (size_t)i * DIMENSION, .k = 10, .target_recall = target};
        assert_int_equal(pdb_index_search(searcher, &query, hits, &result, NULL), PDB_OK);
        sum += result.distances;
    }
    pdb_index_searcher_close(searcher);
    return sum;
}

static void a_higher_wish_for_recall_is_more_effort(void **state)
{
    (void)state;
    static const enum pdb_index_type types[] = {PDB_INDEX_HNSW, PDB_INDEX_IVF};
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    for (unsigned i = 0; i < 2; i++) {
        struct pdb_index_options options = options_of(PDB_METRIC_EUCLIDEAN, types[i]);
        struct pdb_index *index = build(&options, rows, ROWS);
        assert_true(distances_for(index, 0.5f, queries) < distances_for(index, 0.99f, queries));
        pdb_index_destroy(index);
    }
    free(queries);
    free(rows);
}

static bool is_even(void *arg, uint32_t row)
{
    ++*(uint32_t *)arg;
    return row % 2 == 0;
}

static void only_allowed_rows_come_back_and_as_many_as_asked_for(void **state)
{
    (void)state;
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    struct pdb_index_options options = options_of(PDB_METRIC_EUCLIDEAN, PDB_INDEX_HNSW);
    struct pdb_index *index = build(&options, rows, ROWS);
    static uint64_t allowed[ROWS / 64 + 1];
    for (uint32_t share = 2; share <= 128; share *= 8) {
        memset(allowed, 0, sizeof allowed);
        for (uint32_t row = 0; row < ROWS; row += share)
            bitset_set(allowed, row);
        uint32_t asked = 0;
        struct pdb_index_query query = {.allowed = allowed, .accepts = is_even, .arg = &asked};
        struct pdb_index_query exact = query;
        exact.exact = true;
        assert_true(recall_of(index, &query, rows, queries) >= 0.9);
        assert_true(asked > 0);
        assert_true(recall_of(index, &exact, rows, queries) >= 1.0);
    }
    pdb_index_destroy(index);
    free(queries);
    free(rows);
}

static void without_vectors_codes_have_the_last_word_and_exact_is_refused(void **state)
{
    (void)state;
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    struct pdb_index_options options = options_of(PDB_METRIC_COSINE, PDB_INDEX_HNSW);
    options.vectors = PDB_INDEX_VECTORS_NONE;
    struct pdb_index *index = build(&options, rows, ROWS);
    struct pdb_index_query usual = {0};
    struct pdb_index_stats stats;
    pdb_index_stats(index, &stats);
    assert_int_equal(stats.vector_bytes, 0);
    assert_true(stats.index_bytes > (uint64_t)ROWS * DIMENSION);
    assert_true(recall_of(index, &usual, rows, queries) >= 0.9);

    struct pdb_index_searcher *searcher = searcher_of(index);
    struct pdb_index_query exact = {.vector = queries, .k = 1, .exact = true};
    struct pdb_index_hit hit;
    struct pdb_index_result result;
    assert_int_equal(pdb_index_search(searcher, &exact, &hit, &result, NULL),
                     PDB_FAILED_PRECONDITION);
    pdb_index_searcher_close(searcher);
    pdb_index_destroy(index);
    free(queries);
    free(rows);
}

static void an_index_of_no_or_few_rows_answers_with_what_it_has(void **state)
{
    (void)state;
    float *rows = clustered(K, DIMENSION, 1);
    static const enum pdb_index_type types[] = {PDB_INDEX_AUTO, PDB_INDEX_FLAT, PDB_INDEX_HNSW};
    for (unsigned t = 0; t < 3; t++)
        for (uint32_t count = 0; count < K; count++) {
            struct pdb_index_options options = options_of(PDB_METRIC_COSINE, types[t]);
            struct pdb_index *index = build(&options, rows, count);
            struct pdb_index_searcher *searcher = searcher_of(index);
            struct pdb_index_query query = {.vector = rows, .k = K};
            struct pdb_index_hit hits[K];
            struct pdb_index_result result;
            assert_int_equal(pdb_index_search(searcher, &query, hits, &result, NULL), 0);
            assert_int_equal(result.count, count);
            if (count > 0)
                assert_int_equal(hits[0].row, 0);
            pdb_index_searcher_close(searcher);
            pdb_index_destroy(index);
        }
    free(rows);
}

static void a_batch_answers_as_its_queries_do_one_by_one(void **state)
{
    (void)state;
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    struct pdb_index_options options = options_of(PDB_METRIC_COSINE, PDB_INDEX_HNSW);
    struct pdb_index *index = build(&options, rows, ROWS);
    struct pdb_index_searcher *searcher = searcher_of(index);
    static struct pdb_index_hit together[QUERIES * K], alone[K];
    struct pdb_index_result results[QUERIES], result;
    struct pdb_index_query query = {.k = K};
    assert_int_equal(
        pdb_index_search_batch(searcher, &query, queries, 0, QUERIES, together, results, NULL), 0);
    for (uint32_t i = 0; i < QUERIES; i++) {
        query.vector = queries + (size_t)i * DIMENSION;
        assert_int_equal(pdb_index_search(searcher, &query, alone, &result, NULL), 0);
        assert_int_equal(result.count, results[i].count);
        assert_memory_equal(alone, together + i * K, sizeof alone);
    }
    pdb_index_searcher_close(searcher);
    pdb_index_destroy(index);
    free(queries);
    free(rows);
}

/* ---- files ---- */

/* The file's bytes; the caller frees them. */
static char *read_file(const char *path, size_t *length_out)
{
    FILE *file = fopen(path, "rbe");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *length_out = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*length_out);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *length_out, file), *length_out);
    assert_int_equal(fclose(file), 0);
    return bytes;
}

static void write_file(const char *path, const char *bytes, size_t length)
{
    FILE *file = fopen(path, "wbe");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void answers(const struct pdb_index *index, const float *queries,
                    struct pdb_index_hit hits[QUERIES * K])
{
    struct pdb_index_searcher *searcher = searcher_of(index);
    struct pdb_index_result results[QUERIES];
    struct pdb_index_query query = {.k = K};
    assert_int_equal(
        pdb_index_search_batch(searcher, &query, queries, 0, QUERIES, hits, results, NULL), 0);
    pdb_index_searcher_close(searcher);
}

static void a_saved_index_answers_as_before_however_it_is_loaded(void **state)
{
    (void)state;
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    static struct pdb_index_hit before[QUERIES * K], after[QUERIES * K];
    for (unsigned how = PDB_INDEX_VECTORS_COPY; how <= PDB_INDEX_VECTORS_NONE; how++) {
        struct pdb_index_options options = options_of(PDB_METRIC_EUCLIDEAN, PDB_INDEX_HNSW);
        options.vectors = (enum pdb_index_vectors)how;
        struct pdb_index *index = build(&options, rows, ROWS);
        answers(index, queries, before);
        assert_int_equal(pdb_index_save(index, path_of("saved"), NULL), 0);
        pdb_index_destroy(index);
        for (unsigned load = PDB_INDEX_LOAD_READ; load <= PDB_INDEX_LOAD_MAP_VECTORS; load++) {
            struct pdb_index_stats stats;
            assert_int_equal(
                pdb_index_load(path_of("saved"), (enum pdb_index_load)load, &index, NULL), 0);
            pdb_index_stats(index, &stats);
            assert_int_equal(stats.rows, ROWS);
            assert_int_equal(stats.type, PDB_INDEX_HNSW);
            assert_int_equal(stats.quantization, PDB_QUANTIZATION_SQ8);
            assert_int_equal(stats.vector_bytes > 0, how != PDB_INDEX_VECTORS_NONE);
            assert_int_equal(stats.mapped_bytes > 0,
                             load == PDB_INDEX_LOAD_MAP || (load == PDB_INDEX_LOAD_MAP_VECTORS &&
                                                            how != PDB_INDEX_VECTORS_NONE));
            answers(index, queries, after);
            assert_memory_equal(before, after, sizeof before);
            pdb_index_destroy(index);
        }
    }
    assert_int_equal(unlink(path_of("saved")), 0);
    free(queries);
    free(rows);
}

static void files_of_empty_indexes_and_of_vectors_alone_come_back(void **state)
{
    (void)state;
    float *rows = clustered(5, DIMENSION, 1);
    for (uint32_t count = 0; count <= 5; count += 5) {
        struct pdb_index_options options = options_of(PDB_METRIC_MANHATTAN, PDB_INDEX_FLAT);
        options.quantization = PDB_QUANTIZATION_NONE;
        struct pdb_index *index = build(&options, rows, count);
        assert_int_equal(pdb_index_save(index, path_of("few"), NULL), 0);
        pdb_index_destroy(index);
        for (unsigned load = 0; load <= PDB_INDEX_LOAD_WITHOUT_VECTORS; load++) {
            assert_int_equal(
                pdb_index_load(path_of("few"), (enum pdb_index_load)load, &index, NULL), 0);
            struct pdb_index_searcher *searcher = searcher_of(index);
            struct pdb_index_query query = {.vector = rows, .k = 2};
            struct pdb_index_hit hits[2];
            struct pdb_index_result result;
            assert_int_equal(pdb_index_search(searcher, &query, hits, &result, NULL), 0);
            assert_int_equal(result.count, count > 0 ? 2 : 0);
            pdb_index_searcher_close(searcher);
            pdb_index_destroy(index);
        }
    }
    assert_int_equal(unlink(path_of("few")), 0);
    free(rows);
}

static void the_same_input_makes_the_same_file_whatever_the_threads(void **state)
{
    (void)state;
    float *rows = clustered(ROWS, DIMENSION, 1);
    size_t first_length = 0, length;
    char *first = NULL;
    for (uint32_t threads = 1; threads <= 5; threads += 2) {
        struct pdb_index_options options = options_of(PDB_METRIC_COSINE, PDB_INDEX_HNSW);
        options.threads = threads;
        struct pdb_index *index = build(&options, rows, ROWS);
        assert_int_equal(pdb_index_save(index, path_of("same"), NULL), 0);
        pdb_index_destroy(index);
        char *bytes = read_file(path_of("same"), &length);
        if (first == NULL) {
            first = bytes;
            first_length = length;
            continue;
        }
        assert_int_equal(length, first_length);
        assert_memory_equal(bytes, first, length);
        free(bytes);
    }
    assert_int_equal(unlink(path_of("same")), 0);
    free(first);
    free(rows);
}

/* Bytes between the sections are under no checksum; all others are. */
static void a_damaged_or_shortened_file_is_refused(void **state)
{
    (void)state;
    enum { FEW = 40 };
    float *rows = clustered(FEW, DIMENSION, 1);
    struct pdb_index_options options = options_of(PDB_METRIC_COSINE, PDB_INDEX_HNSW);
    struct pdb_index *index = build(&options, rows, FEW);
    assert_int_equal(pdb_index_save(index, path_of("sound"), NULL), 0);
    pdb_index_destroy(index);
    size_t length;
    char *bytes = read_file(path_of("sound"), &length);
    const size_t vectors = length - (size_t)FEW * 128;
    uint64_t image_bytes;
    memcpy(&image_bytes, bytes + 56, sizeof image_bytes);
    for (size_t at = 0; at < length; at += at < 128 ? 1 : 37) {
        bool between = (at >= 128 && at < 4096) || (at >= 4096 + image_bytes && at < vectors);
        if (between)
            continue;
        bytes[at] = (char)(bytes[at] ^ 0x10);
        write_file(path_of("damaged"), bytes, length);
        bytes[at] = (char)(bytes[at] ^ 0x10);
        index = NULL;
        int rc = pdb_index_load(path_of("damaged"), PDB_INDEX_LOAD_READ, &index, NULL);
        assert_int_equal(rc, PDB_DATA_LOSS);
        assert_null(index);
    }
    for (size_t cut = 0; cut < length; cut += 211) {
        write_file(path_of("damaged"), bytes, cut);
        assert_int_equal(pdb_index_load(path_of("damaged"), PDB_INDEX_LOAD_MAP, &index, NULL),
                         PDB_DATA_LOSS);
    }
    assert_int_equal(unlink(path_of("damaged")), 0);
    assert_int_equal(unlink(path_of("sound")), 0);
    free(bytes);
    free(rows);
}

static void what_the_system_refuses_is_told_with_its_path(void **state)
{
    (void)state;
    struct pdb_error error = {0};
    struct pdb_index *index = NULL;
    assert_int_equal(pdb_index_load(path_of("missing"), PDB_INDEX_LOAD_READ, &index, &error),
                     PDB_NOT_FOUND);
    assert_non_null(strstr(error.text, "missing"));
    struct pdb_index_options options = options_of(PDB_METRIC_COSINE, PDB_INDEX_FLAT);
    index = build(&options, NULL, 0);
    assert_int_equal(pdb_index_save(index, path_of("no/such/folder"), &error), PDB_NOT_FOUND);
    assert_non_null(strstr(error.text, "no/such/folder"));
    assert_int_equal(pdb_index_save(index, "", &error), PDB_INVALID_ARGUMENT);
    pdb_index_destroy(index);
}

/* ---- refusals ---- */

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    const struct pdb_index_options sound = options_of(PDB_METRIC_COSINE, PDB_INDEX_HNSW);
    struct pdb_index_options bad[] = {sound, sound, sound, sound, sound, sound, sound};
    bad[0].metric = PDB_METRIC_UNSPECIFIED;
    bad[1].dimension = 0;
    bad[2].dimension = PDB_DIMENSION_MAX + 1;
    bad[3].hnsw_m = 3;
    bad[4].ef_construction = 1;
    bad[5].vectors = (enum pdb_index_vectors)9;
    bad[6].type = PDB_INDEX_FLAT;
    bad[6].quantization = PDB_QUANTIZATION_NONE;
    bad[6].vectors = PDB_INDEX_VECTORS_NONE;
    float *rows = clustered(20, DIMENSION, 1);
    struct pdb_index *index = NULL;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(pdb_index_build(&bad[i], rows, 0, 20, &index, NULL), PDB_INVALID_ARGUMENT);
    assert_int_equal(pdb_index_build(&sound, rows, DIMENSION, 20, &index, NULL),
                     PDB_INVALID_ARGUMENT);
    rows[7 * DIMENSION + 3] = NAN;
    struct pdb_error error = {0};
    assert_int_equal(pdb_index_build(&sound, rows, 0, 20, &index, &error), PDB_INVALID_ARGUMENT);
    assert_non_null(strstr(error.text, "row 7"));
    assert_null(index);
    free(rows);
}

static void queries_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    float *rows = clustered(20, DIMENSION, 1);
    struct pdb_index_options options = options_of(PDB_METRIC_COSINE, PDB_INDEX_HNSW);
    struct pdb_index *index = build(&options, rows, 20);
    struct pdb_index_searcher *searcher = searcher_of(index);
    const struct pdb_index_query bad[] = {
        {.k = 0},
        {.k = PDB_K_MAX + 1},
        {.k = 1, .ef = 5, .exact = true},
        {.k = 1, .gamma = 0.1f, .target_recall = 0.9f},
        {.k = 1, .gamma = -0.1f},
        {.k = 1, .gamma = NAN},
        {.k = 1, .target_recall = 0.4f},
        {.k = 1, .target_recall = 1.1f},
        {.k = 1, .ef = PDB_EF_MAX + 1},
        {.k = 1, .nprobe = PDB_NPROBE_MAX + 1},
        {.k = 5, .rerank = 4},
    };
    struct pdb_index_hit hits[20];
    struct pdb_index_result result;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct pdb_index_query query = bad[i];
        query.vector = rows;
        assert_int_equal(pdb_index_search(searcher, &query, hits, &result, NULL),
                         PDB_INVALID_ARGUMENT);
    }
    float infinite[DIMENSION] = {INFINITY};
    struct pdb_index_query query = {.vector = infinite, .k = 1};
    assert_int_equal(pdb_index_search(searcher, &query, hits, &result, NULL), PDB_INVALID_ARGUMENT);
    pdb_index_searcher_close(searcher);
    pdb_index_destroy(index);
    free(rows);
}

static void building_survives_every_allocation_that_fails(void **state)
{
    (void)state;
    float *rows = clustered(200, DIMENSION, 1);
    struct pdb_index_options options = options_of(PDB_METRIC_DOT, PDB_INDEX_HNSW);
    int rc = PDB_RESOURCE_EXHAUSTED;
    for (uint64_t n = 1; rc == PDB_RESOURCE_EXHAUSTED; n++) {
        struct pdb_index *index = NULL;
        struct trail trail = {0};
        rc = public_index_build(&options, rows, 0, 200, n, &index, &trail);
        assert_true(rc == 0 || (rc == PDB_RESOURCE_EXHAUSTED && index == NULL));
        assert_true(n > 3 || rc < 0);
        pdb_index_destroy(index);
    }
    assert_int_equal(rc, 0);
    free(rows);
}

static bool stop_at_once(void *arg, uint64_t done, uint64_t total)
{
    assert_true(done <= total);
    ++*(unsigned *)arg;
    return false;
}

static void a_caller_may_end_a_build(void **state)
{
    (void)state;
    float *rows = clustered(ROWS, DIMENSION, 1);
    unsigned calls = 0;
    struct pdb_index_options options = options_of(PDB_METRIC_COSINE, PDB_INDEX_HNSW);
    options.progress = stop_at_once;
    options.arg = &calls;
    struct pdb_index *index = NULL;
    assert_int_equal(pdb_index_build(&options, rows, 0, ROWS, &index, NULL), PDB_CANCELLED);
    assert_int_equal(calls, 1);
    assert_null(index);
    free(rows);
}

static void rows_may_lie_at_any_address_and_distance(void **state)
{
    (void)state;
    enum { FEW = 300, STRIDE = DIMENSION * 4 + 3 };
    float *rows = clustered(FEW, DIMENSION, 1);
    char *spread = malloc(FEW * STRIDE + 1);
    assert_non_null(spread);
    for (size_t i = 0; i < FEW; i++)
        memcpy(spread + 1 + i * STRIDE, rows + i * DIMENSION, DIMENSION * sizeof(float));
    for (unsigned how = PDB_INDEX_VECTORS_COPY; how <= PDB_INDEX_VECTORS_REFERENCE; how++) {
        struct pdb_index_options options = options_of(PDB_METRIC_EUCLIDEAN, PDB_INDEX_HNSW);
        options.vectors = (enum pdb_index_vectors)how;
        struct pdb_index *index = NULL;
        assert_int_equal(pdb_index_build(&options, spread + 1, STRIDE, FEW, &index, NULL), 0);
        struct pdb_index_searcher *searcher = searcher_of(index);
        for (uint32_t row = 0; row < FEW; row += 7) {
            /* ef: all rows, since this is not about what a search may miss */
            struct pdb_index_query query = {.vector = spread + 1 + row * STRIDE, .k = 1, .ef = FEW};
            struct pdb_index_hit hit;
            struct pdb_index_result result;
            assert_int_equal(pdb_index_search(searcher, &query, &hit, &result, NULL), 0);
            assert_int_equal(hit.row, row);
        }
        pdb_index_searcher_close(searcher);
        pdb_index_destroy(index);
    }
    free(spread);
    free(rows);
}

/* ---- threads ---- */

struct reader {
    const struct pdb_index *index;
    const float *queries;
    struct pdb_index_hit hits[QUERIES * K];
    pthread_t thread;
};

static void *read_it(void *arg)
{
    struct reader *reader = arg;
    answers(reader->index, reader->queries, reader->hits);
    return NULL;
}

static void threads_search_one_index_with_a_searcher_each(void **state)
{
    (void)state;
    enum { READERS = 4 };
    static struct reader readers[READERS];
    float *rows = clustered(ROWS, DIMENSION, 1), *queries = clustered(QUERIES, DIMENSION, 2);
    struct pdb_index_options options = options_of(PDB_METRIC_COSINE, PDB_INDEX_AUTO);
    struct pdb_index *index = build(&options, rows, ROWS);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].index = index;
        readers[i].queries = queries;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_it, &readers[i]), 0);
    }
    for (unsigned i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        assert_memory_equal(readers[i].hits, readers[0].hits, sizeof readers[0].hits);
    }
    pdb_index_destroy(index);
    free(queries);
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graphs_of_all_metrics_with_codes_find_the_nearest_rows),
        cmocka_unit_test(exact_searches_miss_nothing_whatever_the_metric_and_where_vectors_are),
        cmocka_unit_test(graphs_over_the_rows_themselves_keep_no_second_copy),
        cmocka_unit_test(lists_are_probed_as_wished_and_exactly_where_they_hold_the_rows),
        cmocka_unit_test(bits_are_searched_exactly),
        cmocka_unit_test(a_wish_for_recall_is_met_and_its_estimate_told),
        cmocka_unit_test(a_higher_wish_for_recall_is_more_effort),
        cmocka_unit_test(only_allowed_rows_come_back_and_as_many_as_asked_for),
        cmocka_unit_test(without_vectors_codes_have_the_last_word_and_exact_is_refused),
        cmocka_unit_test(an_index_of_no_or_few_rows_answers_with_what_it_has),
        cmocka_unit_test(a_batch_answers_as_its_queries_do_one_by_one),
        cmocka_unit_test(a_saved_index_answers_as_before_however_it_is_loaded),
        cmocka_unit_test(files_of_empty_indexes_and_of_vectors_alone_come_back),
        cmocka_unit_test(the_same_input_makes_the_same_file_whatever_the_threads),
        cmocka_unit_test(a_damaged_or_shortened_file_is_refused),
        cmocka_unit_test(what_the_system_refuses_is_told_with_its_path),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(queries_that_contradict_themselves_are_refused),
        cmocka_unit_test(building_survives_every_allocation_that_fails),
        cmocka_unit_test(a_caller_may_end_a_build),
        cmocka_unit_test(rows_may_lie_at_any_address_and_distance),
        cmocka_unit_test(threads_search_one_index_with_a_searcher_each),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
