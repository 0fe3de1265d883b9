/* test_pq4.c: product quantization with four bits a part.
 *
 * Sums of table entries are integers: every table of kernels must give the plainest sum, exactly.
 * What is made of them is float32 and held against the same formula in double. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "pq4_internal.h"

enum { ROWS = VECMATH_PQ4_ROWS, EXTREME_SEED = 0 };

static void *memory_of(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, VECMATH_PQ4_ALIGNMENT, bytes + VECMATH_PQ4_ALIGNMENT) != 0)
        exit(99);
    return memory;
}

static void fill(void *bytes, size_t count, uint64_t seed)
{
    if (seed == EXTREME_SEED)
        memset(bytes, 0xff, count); /* the largest entries everywhere */
    else
        fill_bytes(bytes, count, seed);
}

static uint32_t plain_sum(const uint8_t *tables, const uint8_t *block, size_t parts, size_t row)
{
    uint32_t sum = 0;
    for (size_t part = 0; part < parts; part++) {
        uint8_t both = block[part * 16 + row % 16];
        sum += tables[part * 16 + (row < 16 ? both & 15 : both >> 4)];
    }
    return sum;
}

static void check_sums(const struct vecmath_pq4_kernels *kernels, size_t part_count, uint64_t seed)
{
    const size_t parts = vecmath_pq4_parts(part_count);
    struct guarded tables;
    struct guarded block;
    uint32_t sums[ROWS];
    guarded_open(&tables, parts * 16, true, 0);
    guarded_open(&block, vecmath_pq4_block_bytes(part_count), seed % 2 == 0, seed % 2 == 0 ? 0 : 3);
    fill(tables.data, parts * 16, seed);
    fill(block.data, parts * 16, seed + (seed != EXTREME_SEED));
    kernels->sums(tables.data, block.data, parts, sums);
    for (size_t row = 0; row < ROWS; row++) {
        uint32_t plain = plain_sum(tables.data, block.data, parts, row);
        CHECK(sums[row] == plain, "%s parts %zu row %zu: %u not %u", kernels->name, parts, row,
              sums[row], plain);
    }
    guarded_close(&tables);
    guarded_close(&block);
}

/* Parts as dimensions of 1 to 300 have them, with one and two columns a part, and lengths about
 * each place where sums are folded. */
static void every_table_gives_the_plain_sum(void)
{
    static const size_t more[] = {508,  512,  516,  1020, 1024,  1028, 1032,
                                  1536, 2048, 2052, 3076, 32768, 65536};
    const struct vecmath_pq4_kernels *tables[VECMATH_PQ4_TABLES_MAX];
    const size_t count = vecmath_pq4_tables(tables);
    for (size_t t = 0; t < count; t++)
        for (uint64_t seed = EXTREME_SEED; seed < 3; seed++) {
            for (size_t parts = 0; parts <= 300; parts++)
                check_sums(tables[t], parts, seed);
            for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
                check_sums(tables[t], more[i], seed);
        }
}

static void every_table_finishes_sums_alike(void)
{
    const struct vecmath_pq4_kernels *tables[VECMATH_PQ4_TABLES_MAX];
    const size_t count = vecmath_pq4_tables(tables);
    uint32_t sums[ROWS];
    float terms[ROWS];
    float distance[ROWS];
    fill_floats(terms, ROWS, DATA_RANDOM, 3);
    terms[7] = NAN;
    for (uint32_t i = 0; i < ROWS; i++)
        sums[i] = i * i * 16000; /* up to 2^24 */
    for (size_t t = 0; t < count; t++)
        for (int b = -4; b < 70; b++) {
            const float base = -3.5f;
            const float unit = 2e-6f;
            const float bound = (float)b / 2.0f;
            uint32_t mask = tables[t]->finish(sums, base, unit, terms, bound, distance);
            for (size_t i = 0; i < ROWS; i++) {
                double wanted = (double)base + (double)terms[i] + (double)unit * sums[i];
                CHECK(isnan(terms[i]) || fabs((double)distance[i] - wanted) < 1e-5, "%s row %zu",
                      tables[t]->name, i);
                CHECK((mask >> i & 1) == (distance[i] <= bound), "%s row %zu bound %d",
                      tables[t]->name, i, b);
            }
        }
}

static void the_table_in_use_belongs_to_the_implementation(void)
{
    CHECK(strcmp(vecmath_active_pq4()->name, vecmath_isa_name()) == 0, "%s",
          vecmath_active_pq4()->name);
}

/* ---- rows and queries ---- */

struct book {
    struct vecmath_pq4 pq;
    float *memory;
    size_t columns;
};

static struct book book_of(size_t part_count, size_t part_columns, uint64_t seed)
{
    struct book book = {.columns = part_count * part_columns};
    book.memory = memory_of(book.columns * 16 * sizeof(float));
    fill_floats(book.memory, book.columns * 16, DATA_RANDOM, seed);
    book.pq = (struct vecmath_pq4){book.memory, part_count, part_columns};
    return book;
}

static void check_nearest(const struct book *book, const float *values, const uint8_t *numbers)
{
    const size_t step = book->pq.part_columns;
    for (size_t part = 0; part < book->pq.part_count; part++) {
        double distance[16] = {0};
        for (size_t c = 0; c < 16; c++)
            for (size_t i = 0; i < step; i++) {
                double apart = (double)values[part * step + i] -
                               (double)book->memory[(part * step + i) * 16 + c];
                distance[c] += apart * apart;
            }
        for (size_t c = 0; c < 16; c++)
            CHECK(distance[numbers[part]] <= distance[c] + 1e-6, "part %zu", part);
    }
}

/* All dimensions to 300 with two columns a part, as an index would choose them. */
static void a_row_becomes_its_nearest_centroids_and_is_found_in_its_lane(void)
{
    for (size_t dimension = 1; dimension <= 300; dimension++) {
        const size_t parts = (dimension + 1) / 2;
        struct book book = book_of(parts, 2, dimension);
        float *values = memory_of(book.columns * sizeof(float));
        float *decoded = memory_of(book.columns * sizeof(float));
        uint8_t *numbers = memory_of(parts);
        uint8_t *read = memory_of(parts);
        uint8_t *block = memory_of(vecmath_pq4_block_bytes(parts));
        fill(block, vecmath_pq4_block_bytes(parts), 5);
        for (size_t lane = 0; lane < ROWS; lane++) {
            fill_floats(values, book.columns, DATA_RANDOM, lane + 100);
            vecmath_pq4_encode(&book.pq, values, numbers);
            check_nearest(&book, values, numbers);
            vecmath_pq4_put(numbers, parts, lane, block);
        }
        for (size_t lane = 0; lane < ROWS; lane++) {
            fill_floats(values, book.columns, DATA_RANDOM, lane + 100);
            vecmath_pq4_encode(&book.pq, values, numbers);
            vecmath_pq4_get(block, parts, lane, read);
            CHECK(memcmp(numbers, read, parts) == 0, "lane %zu", lane);
            vecmath_pq4_decode(&book.pq, numbers, decoded);
            CHECK(decoded[0] == book.memory[numbers[0]], "lane %zu", lane);
        }
        free(values);
        free(decoded);
        free(numbers);
        free(read);
        free(block);
        free(book.memory);
    }
}

/* Scan, sums and single rows against products in double: the tables' rounding is at most half a
 * unit a part. */
static void check_query(size_t parts, size_t columns, uint64_t seed)
{
    struct book book = book_of(parts, columns, seed);
    float *values = memory_of(book.columns * sizeof(float));
    float *decoded = memory_of(book.columns * sizeof(float));
    uint8_t *numbers = memory_of(parts);
    uint8_t *block = memory_of(vecmath_pq4_block_bytes(parts));
    void *memory = memory_of(vecmath_pq4_query_bytes(parts));
    struct vecmath_pq4_query query;
    uint32_t sums[ROWS];
    float distance[ROWS];
    const float terms[ROWS] = {0};
    fill(block, vecmath_pq4_block_bytes(parts), seed + 1);
    fill_floats(values, book.columns, DATA_RANDOM, seed + 2);
    vecmath_pq4_query_set(&book.pq, values, memory, &query);
    vecmath_pq4_sums(&query, block, sums);
    (void)vecmath_pq4_scan(&query, block, 2.0f, terms, FLT_MAX, distance);
    for (size_t lane = 0; lane < ROWS; lane++) {
        double product = 0;
        vecmath_pq4_get(block, parts, lane, numbers);
        vecmath_pq4_decode(&book.pq, numbers, decoded);
        for (size_t i = 0; i < book.columns; i++)
            product += (double)values[i] * (double)decoded[i];
        CHECK(sums[lane] == vecmath_pq4_sum(&query, block, lane), "parts %zu lane %zu", parts,
              lane);
        CHECK(fabs((double)distance[lane] - 2.0 + product) <=
                  0.51 * (double)query.unit * (double)parts + 1e-4,
              "parts %zu lane %zu", parts, lane);
    }
    free(values);
    free(decoded);
    free(numbers);
    free(block);
    free(memory);
    free(book.memory);
}

static void a_scan_gives_inner_products_to_half_a_unit_a_part(void)
{
    for (size_t parts = 1; parts <= 150; parts++)
        check_query(parts, 1 + parts % 4, parts);
    check_query(1030, 2, 7);
}

static void a_query_of_zeros_or_a_flat_codebook_has_no_unit(void)
{
    struct book book = book_of(3, 2, 1);
    float values[6] = {0};
    void *memory = memory_of(vecmath_pq4_query_bytes(3));
    uint8_t *block = memory_of(vecmath_pq4_block_bytes(3));
    struct vecmath_pq4_query query;
    uint32_t sums[ROWS];
    fill(block, vecmath_pq4_block_bytes(3), 4);
    for (int flat = 0; flat < 2; flat++) {
        vecmath_pq4_query_set(&book.pq, values, memory, &query);
        vecmath_pq4_sums(&query, block, sums);
        CHECK(query.unit == 0 && sums[5] == 0, "flat %d", flat);
        for (size_t i = 0; i < 6; i++)
            values[i] = 1;
        for (size_t i = 0; i < 6 * 16; i++)
            book.memory[i] = 2;
    }
    CHECK(query.bias == -12, "%g", (double)query.bias);
    free(memory);
    free(block);
    free(book.memory);
}

int main(void)
{
    static const struct test tests[] = {
        TEST(every_table_gives_the_plain_sum),
        TEST(every_table_finishes_sums_alike),
        TEST(the_table_in_use_belongs_to_the_implementation),
        TEST(a_row_becomes_its_nearest_centroids_and_is_found_in_its_lane),
        TEST(a_scan_gives_inner_products_to_half_a_unit_a_part),
        TEST(a_query_of_zeros_or_a_flat_codebook_has_no_unit),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
