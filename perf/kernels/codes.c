/* codes.c: do scans of codes move memory as fast as this machine can read it?
 *
 * As kernels.c, for what indexes are made of: rows of 8, 4 and 1 bit, and blocks of product
 * quantization. Fewer bytes a row leave less time for arithmetic while the next ones arrive, so the
 * table says for each kind what limits it: a ratio near 1 is memory, a smaller one arithmetic; then
 * the second column, of rows in the second-level cache, is the same speed.
 *
 * Both sides read the same pages in the same round; medians of rounds, thread CPU time. */
#include "bandwidth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <vecmath/bits.h>
#include <vecmath/codes.h>
#include <vecmath/pq4.h>
#include <vecmath/vecmath.h>

enum {
    ROUNDS = 7,
    BUFFER_BYTES = 1 << 30, /* beyond any cache */
    CACHE_BYTES = 512 << 10,
    CACHE_REPEAT = 64,
    DIMENSION = 768,
    PARTS = DIMENSION / 2,
    QUERY_BYTES = 1 << 16,
    ROWS_MAX = BUFFER_BYTES / (DIMENSION / 8),
};

struct queries {
    struct vecmath_sq8_query sq8;
    struct vecmath_sq4_query sq4;
    struct vecmath_bits_query bits;
    struct vecmath_pq4_query pq4;
    uint8_t memory[4][QUERY_BYTES] __attribute__((aligned(64)));
};

static struct queries queries;
static float values[DIMENSION];
static float codebook[DIMENSION * VECMATH_PQ4_CENTROIDS];

/* ---- kinds ---- */

static void scan_sq8(const char *codes, size_t count, float *score)
{
    vecmath_sq8_scan(&queries.sq8, codes, DIMENSION, count, score);
}

static void scan_sq4(const char *codes, size_t count, float *score)
{
    vecmath_sq4_scan(&queries.sq4, codes, DIMENSION / 2, count, score);
}

static void scan_bits(const char *codes, size_t count, float *score)
{
    vecmath_bits_scan(&queries.bits, codes, DIMENSION / 8, count, score);
}

static void scan_pq4(const char *codes, size_t count, float *score)
{
    static const float terms[VECMATH_PQ4_ROWS];
    const size_t block_bytes = vecmath_pq4_block_bytes(PARTS);
    for (size_t row = 0; row + VECMATH_PQ4_ROWS <= count; row += VECMATH_PQ4_ROWS)
        (void)vecmath_pq4_scan(&queries.pq4, codes + row / VECMATH_PQ4_ROWS * block_bytes, 0, terms,
                               0, score + row);
}

static const struct kind {
    const char *name;
    size_t row_bytes;
    void (*scan)(const char *codes, size_t count, float *score);
} kinds[] = {
    {"sq8, 8 bits a dimension", DIMENSION, scan_sq8},
    {"sq4, 4 bits", DIMENSION / 2, scan_sq4},
    {"pq, 4 bits for two dimensions", PARTS / 2, scan_pq4},
    {"binary, 1 bit", DIMENSION / 8, scan_bits},
};
enum { KIND_COUNT = sizeof(kinds) / sizeof(kinds[0]) };

/* ---- measuring ---- */

struct series {
    double value[ROUNDS];
    size_t count;
};

static double now_s(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct series *series)
{
    qsort(series->value, series->count, sizeof(series->value[0]), compare_doubles);
    return series->count != 0 ? series->value[series->count / 2] : 0;
}

static void add(struct series *series, double value)
{
    series->value[series->count++] = value;
}

static double best_read(const void *buffer, uint64_t *sink)
{
    size_t method_count;
    const struct read_method *methods = read_methods(&method_count);
    double best = 0;
    for (size_t i = 0; i < method_count; i++) {
        if (!methods[i].supported())
            continue;
        double start = now_s();
        *sink += methods[i].read(buffer, BUFFER_BYTES);
        double speed = BUFFER_BYTES / (now_s() - start);
        best = speed > best ? speed : best;
    }
    return best;
}

static double memory_speed(const struct kind *kind, const char *buffer, float *score)
{
    const size_t count = BUFFER_BYTES / kind->row_bytes / VECMATH_PQ4_ROWS * VECMATH_PQ4_ROWS;
    double start = now_s();
    kind->scan(buffer, count, score);
    return (double)(count * kind->row_bytes) / (now_s() - start);
}

static double cache_row_ns(const struct kind *kind, const char *buffer, float *score)
{
    const size_t count = CACHE_BYTES / kind->row_bytes / VECMATH_PQ4_ROWS * VECMATH_PQ4_ROWS;
    double start = now_s();
    for (unsigned repeat = 0; repeat < CACHE_REPEAT; repeat++)
        kind->scan(buffer, count, score);
    return (now_s() - start) * 1e9 / (double)(count * CACHE_REPEAT);
}

static void measure(const char *buffer, float *score)
{
    struct series read = {.count = 0}, speed[KIND_COUNT] = {{.count = 0}};
    struct series ratio[KIND_COUNT] = {{.count = 0}}, cached[KIND_COUNT] = {{.count = 0}};
    uint64_t sink = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        double bandwidth = best_read(buffer, &sink);
        add(&read, bandwidth);
        for (size_t i = 0; i < KIND_COUNT; i++) {
            double found = memory_speed(&kinds[i], buffer, score);
            add(&speed[i], found);
            add(&ratio[i], found / bandwidth);
            add(&cached[i], cache_row_ns(&kinds[i], buffer, score));
        }
    }
    (void)printf("%d dimensions, %s, reading %d MiB: %.2f GB/s, median of %d rounds (%d)\n",
                 DIMENSION, vecmath_isa_name(), BUFFER_BYTES >> 20, median(&read) / 1e9, ROUNDS,
                 (int)(sink & 1));
    for (size_t i = 0; i < KIND_COUNT; i++) {
        double bytes_per_s = median(&speed[i]);
        (void)printf("  %-30s %6.2f GB/s  ratio %.2f  %6.1f ns a row; in cache %6.1f\n",
                     kinds[i].name, bytes_per_s / 1e9, median(&ratio[i]),
                     (double)kinds[i].row_bytes / bytes_per_s * 1e9, median(&cached[i]));
    }
}

/* ---- start ---- */

static void fill(void *bytes, size_t length)
{
    uint64_t state = 0x9e3779b97f4a7c15u, *words = bytes;
    for (size_t i = 0; i < length / sizeof(*words); i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        words[i] = state;
    }
}

static void make_queries(const int8_t *random)
{
    for (size_t i = 0; i < DIMENSION; i++)
        values[i] = (float)random[i] / 128;
    for (size_t i = 0; i < sizeof(codebook) / sizeof(codebook[0]); i++)
        codebook[i] = (float)random[i] / 128;
    const struct vecmath_pq4 pq = {codebook, PARTS, 2};
    vecmath_sq8_query_set(values, 4000, DIMENSION, queries.memory[0], &queries.sq8);
    vecmath_sq4_query_set(values, 127, DIMENSION, queries.memory[1], &queries.sq4);
    vecmath_bits_query_set(values, 127, DIMENSION, 1, queries.memory[2], &queries.bits);
    vecmath_pq4_query_set(&pq, values, queries.memory[3], &queries.pq4);
}

int main(void)
{
    char error[160];
    if (vecmath_select(getenv("PROXIMADB_SIMD"), error, sizeof(error)) != VECMATH_OK) {
        (void)fprintf(stderr, "codes: %s\n", error);
        return 2;
    }
    char *buffer =
        mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    float *score = calloc(ROWS_MAX, sizeof(*score));
    if (buffer == MAP_FAILED || score == NULL) {
        (void)fprintf(stderr, "codes: no memory\n");
        return 1;
    }
    (void)madvise(buffer, BUFFER_BYTES, MADV_HUGEPAGE);
    fill(buffer, BUFFER_BYTES);
    make_queries((const int8_t *)buffer);
    measure(buffer, score);
    free(score);
    (void)munmap(buffer, BUFFER_BYTES);
    return 0;
}
