/* kernels.c: does a flat scan move memory as fast as this machine can read it?
 *
 * A scan of rows that are in no cache can be no faster than reading them. So the program measures
 * two things on one buffer larger than any cache: the fastest of several plain read loops
 * (bandwidth.c), and the bytes of rows per second that vecmath's scans move. The goal is a ratio of
 * 0.70 or more. Gathered rows in random order are shown beside it, without a goal: no reader is
 * fast at that.
 *
 * Fairness. Both sides read the same pages, with huge pages asked for once. Each round runs
 * everything in turn, so that a neighbour's noise meets all alike; what is reported is the median
 * over rounds, and for ratios the median of the ratios within a round. Time is the thread's CPU
 * time: a virtual machine that takes the processor away does not count, one that takes memory
 * bandwidth away does.
 *
 * A second table shows each instruction set against scalar on rows that stay in the second-level
 * cache, where arithmetic and not memory is the limit.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bandwidth.h"
#include "vecmath/vecmath.h"

enum {
    ROUNDS_MAX = 101,
    READS_MAX = 16,
    DIMENSION_MAX = 1024,
    ROW_BYTES_MIN = 128,     /* hamming over 1024 bits */
    CACHE_BYTES = 512 << 10, /* of rows: inside every second-level cache of today */
    CACHE_REPEAT = 64,
};

struct options {
    size_t buffer_bytes;
    size_t round_count;
    bool huge_pages;
    bool json;
};

struct series {
    double value[ROUNDS_MAX];
    size_t count;
};

struct scan_case {
    const char *name;
    size_t dimension;
    enum vecmath_metric metric;
    bool gathered; /* through pointers in random order, as a graph search meets rows */
};

static const struct scan_case scan_cases[] = {
    {"l2_squared", 128, VECMATH_L2_SQUARED, false},
    {"l2_squared", 768, VECMATH_L2_SQUARED, false},
    {"l2_squared", 784, VECMATH_L2_SQUARED, false},
    {"dot", 128, VECMATH_DOT, false},
    {"dot", 768, VECMATH_DOT, false},
    {"dot", 784, VECMATH_DOT, false},
    {"cosine", 768, VECMATH_COSINE, false},
    {"l1", 128, VECMATH_L1, false},
    {"l1", 768, VECMATH_L1, false},
    {"l1", 784, VECMATH_L1, false},
    {"hamming", 1024, VECMATH_HAMMING, false},
    {"l2, gathered", 128, VECMATH_L2_SQUARED, true},
    {"l2, gathered", 768, VECMATH_L2_SQUARED, true},
};

enum { SCAN_COUNT = sizeof scan_cases / sizeof scan_cases[0] };

struct bench {
    struct options options;
    void *buffer;
    float *score;         /* one per row of the shortest kind */
    const void **pointer; /* to the rows of a gathered case, shuffled anew for each */
    float query[DIMENSION_MAX];
    const struct read_method *reads;
    size_t read_count;
    size_t best_read;
    struct series read[READS_MAX];   /* bytes per second */
    struct series scan[SCAN_COUNT];  /* bytes per second */
    struct series ratio[SCAN_COUNT]; /* scan / best read of the same round */
    uint64_t sink;                   /* what was read, so that it must be */
};

/* What cannot be written shows in the stream's error flag, asked for once at the end. */
static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vprintf(format, arguments); /* NOLINT(clang-analyzer-valist.Uninitialized) */
    va_end(arguments);
}

static void __attribute__((format(printf, 1, 2))) complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments); /* NOLINT(clang-analyzer-valist.Uninitialized) */
    va_end(arguments);
}

static double now_s(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0)
        return 0;
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const struct series *series)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, series->value, series->count * sizeof sorted[0]);
    qsort(sorted, series->count, sizeof sorted[0], compare_doubles);
    return series->count > 0 ? sorted[series->count / 2] : 0;
}

static void add(struct series *series, double value)
{
    series->value[series->count++] = value;
}

static size_t row_bytes(const struct scan_case *scan)
{
    return scan->metric == VECMATH_HAMMING ? scan->dimension / 8 : scan->dimension * sizeof(float);
}

/* ---- the buffer ---- */

/* A xorshift generator. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Floats in [-1, 1). */
static void fill(float *values, size_t count)
{
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(int32_t)(next_random(&state) >> 32) * 0x1p-31f;
}

/* Points at every row once, in random order. */
static void shuffle_rows(struct bench *bench, size_t stride, size_t count)
{
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < count; i++) {
        size_t j = (size_t)(next_random(&state) % (i + 1));
        bench->pointer[i] = bench->pointer[j];
        bench->pointer[j] = (const char *)bench->buffer + i * stride;
    }
}

static void *map_pages(size_t bytes, bool huge_pages)
{
    void *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return NULL;
    if (huge_pages && madvise(pages, bytes, MADV_HUGEPAGE) != 0)
        complain("kernels: no huge pages here (%s); both sides use small ones\n", strerror(errno));
    return pages;
}

static int bench_open(struct bench *bench)
{
    const struct options *options = &bench->options;
    bench->buffer = map_pages(options->buffer_bytes, options->huge_pages);
    bench->score = map_pages(options->buffer_bytes / ROW_BYTES_MIN * sizeof(float), false);
    bench->pointer = map_pages(options->buffer_bytes / ROW_BYTES_MIN * sizeof(void *), false);
    if (bench->buffer == NULL || bench->score == NULL || bench->pointer == NULL) {
        complain("kernels: cannot map %zu MiB: %s\n", options->buffer_bytes >> 20, strerror(errno));
        return -1;
    }
    fill(bench->buffer, options->buffer_bytes / sizeof(float));
    fill(bench->score, options->buffer_bytes / ROW_BYTES_MIN);
    memcpy(bench->query, bench->buffer, sizeof bench->query);
    bench->reads = read_methods(&bench->read_count);
    return 0;
}

/* ---- out of cache ---- */

static void measure_read(struct bench *bench, size_t index)
{
    if (!bench->reads[index].supported())
        return;
    double start = now_s();
    bench->sink += bench->reads[index].read(bench->buffer, bench->options.buffer_bytes);
    add(&bench->read[index], (double)bench->options.buffer_bytes / (now_s() - start));
}

static void measure_scan(struct bench *bench, size_t index)
{
    const struct scan_case *scan = &scan_cases[index];
    const size_t stride = row_bytes(scan);
    const size_t count = bench->options.buffer_bytes / stride;
    if (scan->gathered)
        shuffle_rows(bench, stride, count);
    double start = now_s();
    if (scan->gathered)
        vecmath_gather_of(scan->metric)(bench->query, bench->pointer, count, scan->dimension,
                                        bench->score);
    else
        vecmath_scan_of(scan->metric)(bench->query, bench->buffer, stride, count, scan->dimension,
                                      bench->score);
    add(&bench->scan[index], (double)(count * stride) / (now_s() - start));
}

static void measure_memory(struct bench *bench)
{
    for (size_t round = 0; round < bench->options.round_count; round++) {
        for (size_t i = 0; i < bench->read_count; i++)
            measure_read(bench, i);
        for (size_t i = 0; i < SCAN_COUNT; i++)
            measure_scan(bench, i);
    }
    for (size_t i = 1; i < bench->read_count; i++)
        if (median(&bench->read[i]) > median(&bench->read[bench->best_read]))
            bench->best_read = i;
    const struct series *best = &bench->read[bench->best_read];
    for (size_t i = 0; i < SCAN_COUNT; i++)
        for (size_t round = 0; round < bench->options.round_count; round++)
            add(&bench->ratio[i], bench->scan[i].value[round] / best->value[round]);
}

static void print_memory(const struct bench *bench)
{
    say("reading %zu MiB, one thread, median of %zu rounds\n", bench->options.buffer_bytes >> 20,
        bench->options.round_count);
    for (size_t i = 0; i < bench->read_count; i++)
        if (bench->read[i].count > 0)
            say("  %-38s %7.2f GB/s%s\n", bench->reads[i].name, median(&bench->read[i]) / 1e9,
                i == bench->best_read ? "  <- read bandwidth" : "");
    say("flat scan, %s\n", vecmath_isa_name());
    for (size_t i = 0; i < SCAN_COUNT; i++)
        say("  %-12s %5zu dimensions %17s %7.2f GB/s   ratio %.2f\n", scan_cases[i].name,
            scan_cases[i].dimension, "", median(&bench->scan[i]) / 1e9, median(&bench->ratio[i]));
}

static void print_memory_json(const struct bench *bench)
{
    say("{\"buffer_bytes\":%zu,\"rounds\":%zu,\"isa\":\"%s\",\"reads\":[",
        bench->options.buffer_bytes, bench->options.round_count, vecmath_isa_name());
    bool first = true;
    for (size_t i = 0; i < bench->read_count; i++) {
        if (bench->read[i].count == 0)
            continue;
        say("%s{\"method\":\"%s\",\"bytes_per_second\":%.0f,\"best\":%s}", first ? "" : ",",
            bench->reads[i].name, median(&bench->read[i]),
            i == bench->best_read ? "true" : "false");
        first = false;
    }
    say("],\"scans\":[");
    for (size_t i = 0; i < SCAN_COUNT; i++)
        say("%s{\"metric\":\"%s\",\"dimension\":%zu,\"bytes_per_second\":%.0f,\"ratio\":%.3f}",
            i > 0 ? "," : "", scan_cases[i].name, scan_cases[i].dimension, median(&bench->scan[i]),
            median(&bench->ratio[i]));
    say("],\"cached\":[");
}

/* ---- in cache ---- */

/* Nanoseconds a row, for one case under the selected implementation. */
static double measure_cached(struct bench *bench, const struct scan_case *scan)
{
    const size_t stride = row_bytes(scan);
    const size_t count = CACHE_BYTES / stride;
    vecmath_scan_fn score = vecmath_scan_of(scan->metric);
    struct series series = {.count = 0};
    for (size_t round = 0; round < bench->options.round_count; round++) {
        double start = now_s();
        for (size_t repeat = 0; repeat < CACHE_REPEAT; repeat++)
            score(bench->query, bench->buffer, stride, count, scan->dimension, bench->score);
        add(&series, (now_s() - start) * 1e9 / (double)(count * CACHE_REPEAT));
    }
    return median(&series);
}

static int measure_and_print_cached(struct bench *bench)
{
    const char *names[VECMATH_ISA_MAX];
    const size_t isa_count = vecmath_isa_list(names);
    bool json = bench->options.json;
    if (!json)
        say("rows in cache (%d KiB), ns a row (times faster than scalar)\n", CACHE_BYTES >> 10);
    for (size_t i = 0; i < SCAN_COUNT; i++) {
        if (scan_cases[i].gathered)
            continue;
        if (!json)
            say("  %-12s %5zu dimensions ", scan_cases[i].name, scan_cases[i].dimension);
        double scalar_ns = 0;
        for (size_t isa = isa_count; isa-- > 0;) { /* scalar is last in the list: measured first */
            if (vecmath_select(names[isa], NULL, 0) != VECMATH_OK)
                return -1;
            double ns = measure_cached(bench, &scan_cases[i]);
            scalar_ns = isa == isa_count - 1 ? ns : scalar_ns;
            if (json)
                say("%s{\"metric\":\"%s\",\"dimension\":%zu,\"isa\":\"%s\",\"row_ns\":%.2f}",
                    i == 0 && isa == isa_count - 1 ? "" : ",", scan_cases[i].name,
                    scan_cases[i].dimension, names[isa], ns);
            else
                say("  %s %.1f (%.1fx)", names[isa], ns, scalar_ns / ns);
        }
        if (!json)
            say("\n");
    }
    if (json)
        say("]}\n");
    return 0;
}

/* ---- start ---- */

static const char usage[] =
    "usage: kernels [--mib N] [--rounds N] [--small-pages] [--json]\n"
    "Compares vecmath's flat scans with the memory read bandwidth of one thread.\n"
    "  --mib N        size of the buffer, 64..65536 (1536); must exceed the last cache\n"
    "  --rounds N     1..101 (7)\n"
    "  --small-pages  do not ask for huge pages\n"
    "  --json         one JSON object instead of text\n"
    "PROXIMADB_SIMD=scalar|avx2|avx512|neon forces an implementation.\n";

/* Reads a number in [min, max], or returns false. */
static bool parse_number(const char *text, size_t min, size_t max, size_t *number_out)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = text == NULL ? 0 : strtoull(text, &end, 10);
    if (text == NULL || errno != 0 || end == text || *end != '\0' || number < min || number > max)
        return false;
    *number_out = (size_t)number;
    return true;
}

/* The options that take a number; false for another name or a bad number. */
static bool parse_valued(const char *name, const char *value, size_t *mib, size_t *round_count)
{
    if (strcmp(name, "--mib") == 0)
        return parse_number(value, 64, 65536, mib);
    return strcmp(name, "--rounds") == 0 && parse_number(value, 1, ROUNDS_MAX, round_count);
}

static bool parse_options(int argc, char **argv, struct options *options)
{
    size_t mib = 1536;
    *options = (struct options){.round_count = 7, .huge_pages = true};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--json") == 0)
            options->json = true;
        else if (strcmp(argv[i], "--small-pages") == 0)
            options->huge_pages = false;
        else if (parse_valued(argv[i], value, &mib, &options->round_count))
            i++;
        else
            return false;
    }
    options->buffer_bytes = mib << 20;
    return true;
}

int main(int argc, char **argv)
{
    struct bench bench = {.buffer = NULL};
    char error[160];
    if (!parse_options(argc, argv, &bench.options)) {
        complain("%s", usage);
        return 2;
    }
    if (vecmath_select(getenv("PROXIMADB_SIMD"), error, sizeof error) != VECMATH_OK) {
        complain("kernels: %s\n", error);
        return 2;
    }
    if (bench_open(&bench) != 0)
        return 1;
    measure_memory(&bench);
    if (bench.options.json)
        print_memory_json(&bench);
    else
        print_memory(&bench);
    if (measure_and_print_cached(&bench) != 0)
        return 1;
    complain("kernels: checksum %016llx\n", (unsigned long long)bench.sink);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        complain("kernels: cannot write the result: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
