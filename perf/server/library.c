/* library: what libproximadb's index makes of the rows and queries of a run of pdb-bench, without
 * server, engine and disk.
 *
 *     library [--threads N] [--phases] [options of pdb-bench search that say rows and queries]
 *
 * Makes an index of them (--index, --quantization; all else by default), then asks it all queries,
 * one after the other on this thread, in five rounds, and prints one line of numbers: seconds of
 * building by the wall and of the processor, bytes of the index, processor time and rows scored of
 * a query (the median round), recall. With --phases also the seconds of each phase of the building.
 *
 * The rows are those that pdb-bench makes of the same options (command_run.c), so that a server
 * that was loaded by it is compared with a library that has the same rows. */
#include "base/heap.h"
#include "bench/exact.h"
#include "bench/options.h"

#include <proximadb/index.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { QUERY_SEED = 7919, ROUNDS = 5, ARGUMENTS_MAX = 64 };

struct phases {
    bool shown;
    double began_s;
    uint64_t count;
};

static double seconds(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "library: %s: %s\n", what, why);
    exit(2);
}

static void make_rows(const struct options *o, struct dataset *rows_out,
                      struct dataset *queries_out)
{
    struct trail trail = {0};
    struct dataset_shape shape = {.row_count = (size_t)(o->rows != 0 ? o->rows : 10000),
                                  .dimension = (size_t)o->dimension,
                                  .seed = o->seed,
                                  .cluster_count = (uint32_t)o->cluster_count,
                                  .cluster_seed = o->seed};
    int rc = o->data != NULL ? dataset_read(rows_out, o->data, (size_t)o->rows, &trail)
                             : dataset_generate(rows_out, &shape, &trail);
    if (rc < 0)
        die("rows", trail.text);
    shape.dimension = rows_out->dimension;
    shape.row_count = (size_t)o->queries;
    shape.seed += QUERY_SEED;
    rc = o->query_data != NULL
             ? dataset_read(queries_out, o->query_data, (size_t)o->queries, &trail)
             : dataset_generate(queries_out, &shape, &trail);
    if (rc < 0)
        die("queries", trail.text);
}

static bool show_phase(void *arg, uint64_t done, uint64_t total)
{
    struct phases *phases = arg;
    const double now_s = seconds(CLOCK_MONOTONIC);
    if (phases->shown && now_s - phases->began_s > 0.01)
        (void)printf("phase %llu: %.3f s, %.3f done\n", (unsigned long long)phases->count,
                     now_s - phases->began_s, total > 0 ? (double)done / (double)total : 0.0);
    phases->count++;
    phases->began_s = now_s;
    return true;
}

static struct pdb_index *build(const struct options *o, const struct dataset *rows,
                               uint32_t threads, bool phases_shown)
{
    struct phases phases = {.shown = phases_shown, .began_s = seconds(CLOCK_MONOTONIC)};
    const struct pdb_index_options options = {
        .metric = (enum pdb_metric)o->metric,
        .dimension = (uint32_t)rows->dimension,
        .type = (enum pdb_index_type)o->index,
        .quantization = (enum pdb_quantization_type)o->quantization,
        .threads = threads,
        .progress = show_phase,
        .arg = &phases,
    };
    struct pdb_index *index;
    struct pdb_error error;
    const double wall_s = seconds(CLOCK_MONOTONIC), cpu_s = seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (pdb_index_build(&options, rows->values, 0, rows->row_count, &index, &error) < 0)
        die("build", error.text);
    (void)printf("build_s %.3f build_cpu_s %.3f ", seconds(CLOCK_MONOTONIC) - wall_s,
                 seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_s);
    struct pdb_index_stats stats;
    pdb_index_stats(index, &stats);
    (void)printf("bytes_a_row %.2f ", (double)stats.index_bytes / (double)stats.rows);
    return index;
}

/* ---- searches ---- */

struct answers {
    struct decode_hit *hits;
    int32_t *counts;
    uint64_t distances;
};

static double ask_all(struct pdb_index_searcher *searcher, const struct options *o,
                      const struct dataset *queries, struct answers *answers)
{
    static struct pdb_index_hit hits[PDB_K_MAX];
    struct pdb_index_result result;
    struct pdb_error error;
    const double began_s = seconds(CLOCK_THREAD_CPUTIME_ID);
    answers->distances = 0;
    for (size_t q = 0; q < queries->row_count; q++) {
        const struct pdb_index_query query = {.vector = queries->values + q * queries->dimension,
                                              .k = (uint32_t)o->k,
                                              .ef = (uint32_t)o->ef,
                                              .nprobe = (uint32_t)o->nprobe,
                                              .target_recall = (float)o->target_recall};
        if (pdb_index_search(searcher, &query, hits, &result, &error) < 0)
            die("search", error.text);
        for (uint32_t i = 0; i < result.count; i++)
            answers->hits[q * o->k + i] = (struct decode_hit){hits[i].row, hits[i].score};
        answers->counts[q] = (int32_t)result.count;
        answers->distances += result.distances;
    }
    return seconds(CLOCK_THREAD_CPUTIME_ID) - began_s;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void search(const struct options *o, const struct dataset *rows,
                   const struct dataset *queries, const struct pdb_index *index)
{
    struct pdb_index_searcher *searcher;
    struct pdb_error error;
    struct answers answers = {
        .hits = heap_calloc(NULL, queries->row_count * o->k, sizeof(struct decode_hit)),
        .counts = heap_calloc(NULL, queries->row_count, sizeof(int32_t))};
    if (answers.hits == NULL || answers.counts == NULL)
        die("answers", "no memory");
    if (pdb_index_searcher_open(index, &searcher, &error) < 0)
        die("searcher", error.text);
    double rounds[ROUNDS];
    for (int round = 0; round < ROUNDS; round++)
        rounds[round] = ask_all(searcher, o, queries, &answers);
    qsort(rounds, ROUNDS, sizeof rounds[0], by_value);
    const double count = (double)queries->row_count;
    (void)printf("cpu_us %.2f distances %.1f ", rounds[ROUNDS / 2] * 1e6 / count,
                 (double)answers.distances / count);
    pdb_index_searcher_close(searcher);
    if (o->recall) {
        struct exact exact = {0};
        struct exact_verdict verdict;
        struct trail trail = {0};
        if (exact_compute(&exact, rows, queries, (enum pdb_metric)o->metric, (size_t)o->k,
                          options_cores(), NULL, NULL, &trail) < 0)
            die("exact", trail.text);
        exact_judge(&exact, &(struct exact_answers){answers.hits, answers.counts, (size_t)o->k},
                    &verdict);
        (void)printf("recall %.5f", verdict.recall);
        exact_dispose(&exact);
    }
    (void)printf("\n");
    heap_free(NULL, answers.hits);
    heap_free(NULL, answers.counts);
}

/* What is ours goes; what is left is pdb-bench's. */
static int take_ours(int argc, char **argv, char **left, uint32_t *threads, bool *phases)
{
    static char command[] = "search";
    int count = 0;
    left[count++] = argv[0];
    left[count++] = command;
    for (int i = 1; i < argc && count < ARGUMENTS_MAX - 1; i++) {
        if (strcmp(argv[i], "--phases") == 0)
            *phases = true;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            *threads = (uint32_t)atoi(argv[++i]);
        else
            left[count++] = argv[i];
    }
    left[count] = NULL;
    return count;
}

int main(int argc, char **argv)
{
    char *left[ARGUMENTS_MAX];
    struct options options;
    struct trail trail = {0};
    struct dataset rows, queries;
    uint32_t threads = 1;
    bool phases = false;
    const int count = take_ours(argc, argv, left, &threads, &phases);
    if (options_parse(&options, count, left, &trail) < 0)
        die("options", trail.text);
    make_rows(&options, &rows, &queries);
    struct pdb_index *index = build(&options, &rows, threads, phases);
    search(&options, &rows, &queries, index);
    pdb_index_destroy(index);
    dataset_dispose(&rows);
    dataset_dispose(&queries);
    return 0;
}
