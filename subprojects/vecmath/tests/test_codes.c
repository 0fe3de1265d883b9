/* test_codes.c: inner products of codes.
 *
 * Everything is integers, so every table of kernels must give what the plainest sum gives, exactly:
 * each of them is called directly, also those that the processor's better ones hide. What calls
 * them (gather, scan, queries) is tested through the public functions, once per implementation.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codes_internal.h"
#include "fixture.h"

enum { ROWS = VECMATH_BLOCK };

static const size_t sizes[] = {0,   1,   2,   15,  16,  17,   31,   32,   33,   47,    63,
                               64,  65,  95,  100, 127, 128,  129,  191,  200,  255,   256,
                               257, 384, 767, 768, 784, 1000, 1536, 4130, 8192, 16385, 65536};

enum { SIZE_COUNT = sizeof sizes / sizeof sizes[0] };

static void *memory_of(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, VECMATH_CODE_ALIGNMENT, bytes + VECMATH_CODE_ALIGNMENT) != 0)
        exit(99);
    return memory;
}

enum { EXTREME_SEED = 0 }; /* instead of random bytes the extremes, which overflow soonest */

static void fill_codes(void *codes, size_t count, uint64_t seed)
{
    if (seed == EXTREME_SEED)
        memset(codes, 0x80, count);
    else
        fill_bytes(codes, count, seed);
}

/* A query of `n` numbers as floats: random, or all -4095 (or -127). */
static float *query_values(size_t n, uint64_t seed, float limit)
{
    float *values = memory_of(n * sizeof(float));
    fill_floats(values, n, DATA_RANDOM, seed + 1);
    for (size_t i = 0; i < n; i++)
        values[i] = seed == EXTREME_SEED ? -limit : values[i] * limit;
    return values;
}

/* Four rows between guard pages, each ending (or beginning) next to one, at odd addresses. */
static void open_rows(struct guarded rows[ROWS], const void *row[ROWS], size_t bytes, uint64_t seed)
{
    for (size_t r = 0; r < ROWS; r++) {
        guarded_open(&rows[r], bytes, r % 2 == 0, r == 1 ? 3 : 0);
        fill_codes(rows[r].data, bytes, seed == EXTREME_SEED ? seed : seed * 10 + r);
        row[r] = rows[r].data;
    }
}

static void close_rows(struct guarded rows[ROWS])
{
    for (size_t r = 0; r < ROWS; r++)
        guarded_close(&rows[r]);
}

static int64_t plain_sq8(const struct vecmath_sq8_query *query, const int8_t *row)
{
    int64_t sum = 0;
    for (size_t i = 0; i < query->dimension; i++)
        sum += (int64_t)query->wide[i] * row[i];
    return sum;
}

static void check_sq8(const struct vecmath_code_kernels *kernels, size_t n, uint64_t seed)
{
    struct guarded rows[ROWS];
    const void *row[ROWS];
    struct vecmath_sq8_query query;
    float *values = query_values(n, seed, VECMATH_SQ8_QUERY_MAX);
    void *memory = memory_of(vecmath_sq8_query_bytes(n));
    vecmath_sq8_query_set(values, 1, n, memory, &query);
    open_rows(rows, row, n, seed);
    int64_t block[ROWS];
    kernels->sq8_block(&query, row, row, block);
    for (size_t r = 0; r < ROWS; r++) {
        int64_t one;
        int64_t plain = plain_sq8(&query, row[r]);
        kernels->sq8_one(&query, row + r, NULL, &one);
        CHECK(one == plain, "%s sq8 n %zu: %lld not %lld", kernels->name, n, (long long)one,
              (long long)plain);
        CHECK(block[r] == plain, "%s sq8 block n %zu row %zu", kernels->name, n, r);
    }
    close_rows(rows);
    free(values);
    free(memory);
}

/* Every set of kernels codes a query as the reference does: fractions, ties, clipped numbers. */
static void check_sq8_query(const struct vecmath_code_kernels *kernels, size_t n, uint64_t seed)
{
    enum { LIMIT = 2 * VECMATH_SQ8_QUERY_MAX };
    float *values = query_values(n, seed, LIMIT);
    struct guarded wide[2], high[2], low[2];
    struct vecmath_sq8_arrays arrays[2];
    for (size_t i = 0; i < 2; i++) {
        guarded_open(&wide[i], n * sizeof(int16_t), true, 0);
        guarded_open(&high[i], n, true, 0);
        guarded_open(&low[i], n, true, 0);
        arrays[i] = (struct vecmath_sq8_arrays){wide[i].data, high[i].data, low[i].data, 0, 0};
        (i == 0 ? &vecmath_codes_scalar : kernels)->sq8_query(values, 0.75f, n, &arrays[i]);
    }
    CHECK(memcmp(wide[0].data, wide[1].data, n * sizeof(int16_t)) == 0, "%s n %zu", kernels->name,
          n);
    CHECK(memcmp(high[0].data, high[1].data, n) == 0, "%s n %zu", kernels->name, n);
    CHECK(memcmp(low[0].data, low[1].data, n) == 0, "%s n %zu", kernels->name, n);
    CHECK(arrays[0].high_sum == arrays[1].high_sum && arrays[0].low_sum == arrays[1].low_sum,
          "%s n %zu", kernels->name, n);
    for (size_t i = 0; i < 2; i++) {
        guarded_close(&wide[i]);
        guarded_close(&high[i]);
        guarded_close(&low[i]);
    }
    free(values);
}

static void check_s8(const struct vecmath_code_kernels *kernels, size_t n, uint64_t seed)
{
    struct guarded rows[ROWS];
    struct guarded query;
    const void *row[ROWS];
    open_rows(rows, row, n, seed);
    guarded_open(&query, n, true, 0);
    fill_codes(query.data, n, seed == EXTREME_SEED ? seed : seed + 77);
    int32_t block[ROWS];
    kernels->s8_block(query.data, row, row, n, block);
    for (size_t r = 0; r < ROWS; r++) {
        int32_t plain = 0;
        int32_t one;
        for (size_t i = 0; i < n; i++)
            plain += ((const int8_t *)query.data)[i] * ((const int8_t *)row[r])[i];
        kernels->s8_one(query.data, row + r, NULL, n, &one);
        CHECK(one == plain, "%s s8 n %zu: %d not %d", kernels->name, n, one, plain);
        CHECK(block[r] == plain, "%s s8 block n %zu row %zu", kernels->name, n, r);
    }
    close_rows(rows);
    guarded_close(&query);
}

/* Codes are random bytes, so the nibbles beyond the dimension are not 0 and must not count. */
static void check_s8_set(const struct vecmath_code_kernels *kernels, size_t n, uint64_t seed)
{
    float *values = query_values(n, seed, 200);
    struct guarded code;
    guarded_open(&code, n, true, 0);
    const uint32_t norm = kernels->s8_set(values, n, code.data);
    uint32_t expected = 0;
    for (size_t i = 0; i < n; i++) {
        const float clipped = fminf(fmaxf(values[i], -127.0f), 127.0f);
        const int number = (int)nearbyintf(clipped);
        CHECK(((int8_t *)code.data)[i] == number, "%s s8 set n %zu: %d not %d of %.9g",
              kernels->name, n, ((int8_t *)code.data)[i], number, (double)values[i]);
        expected += (uint32_t)(number * number);
    }
    CHECK(norm == expected, "%s s8 set n %zu: norm %u not %u", kernels->name, n, norm, expected);
    guarded_close(&code);
    free(values);
}

static void check_sq4_query(const struct vecmath_code_kernels *kernels, size_t n, uint64_t seed)
{
    const float most = VECMATH_SQ4_QUERY_MAX;
    float *values = query_values(n, seed, 2 * most);
    struct guarded numbers;
    guarded_open(&numbers, n, true, 0);
    const int32_t sum = kernels->sq4_query(values, 0.75f, n, numbers.data);
    int32_t expected = 0;
    for (size_t i = 0; i < n; i++) {
        const int number = (int)nearbyintf(fminf(fmaxf(values[i] * 0.75f, -most), most));
        CHECK(((int8_t *)numbers.data)[i] == number, "%s sq4 query n %zu: %d not %d of %.9g",
              kernels->name, n, ((int8_t *)numbers.data)[i], number, (double)values[i]);
        expected += number;
    }
    CHECK(sum == expected, "%s sq4 query n %zu: sum %d not %d", kernels->name, n, sum, expected);
    guarded_close(&numbers);
    free(values);
}

static void check_sq4(const struct vecmath_code_kernels *kernels, size_t n, uint64_t seed)
{
    struct guarded rows[ROWS];
    const void *row[ROWS];
    struct vecmath_sq4_query query;
    float *values = query_values(n, seed, VECMATH_SQ4_QUERY_MAX);
    void *memory = memory_of(vecmath_sq4_query_bytes(n));
    vecmath_sq4_query_set(values, 1, n, memory, &query);
    open_rows(rows, row, vecmath_sq4_code_bytes(n), seed);
    int32_t block[ROWS];
    kernels->sq4_block(&query, row, row, block);
    for (size_t r = 0; r < ROWS; r++) {
        int32_t plain = 0;
        int32_t one;
        for (size_t i = 0; i < n; i++) {
            uint8_t both = ((const uint8_t *)row[r])[i / 128 * 64 + i % 64];
            plain += query.values[i] * (i % 128 < 64 ? both & 15 : both >> 4);
        }
        kernels->sq4_one(&query, row + r, NULL, &one);
        CHECK(one == plain, "%s sq4 n %zu: %d not %d", kernels->name, n, one, plain);
        CHECK(block[r] == plain, "%s sq4 block n %zu row %zu", kernels->name, n, r);
    }
    close_rows(rows);
    free(values);
    free(memory);
}

static void every_table_gives_the_plain_sum(void)
{
    const struct vecmath_code_kernels *tables[VECMATH_CODE_TABLES_MAX];
    const size_t count = vecmath_code_tables(tables);
    for (size_t t = 0; t < count; t++)
        for (size_t s = 0; s < SIZE_COUNT; s++)
            for (uint64_t seed = EXTREME_SEED; seed < 3; seed++) {
                check_sq8(tables[t], sizes[s], seed);
                check_sq8_query(tables[t], sizes[s], seed);
                check_s8(tables[t], sizes[s], seed);
                check_s8_set(tables[t], sizes[s], seed);
                check_sq4_query(tables[t], sizes[s], seed);
                check_sq4(tables[t], sizes[s], seed);
            }
}

static void the_table_in_use_belongs_to_the_implementation(void)
{
    const char *name = vecmath_active_codes()->name;
    CHECK(strncmp(name, vecmath_isa_name(), strlen(vecmath_isa_name())) == 0, "%s", name);
}

static void a_query_is_rounded_clipped_and_split(void)
{
    const float values[] = {0, 1.5f, 2.5f, -1.5f, 4094.6f, 1e30f, -1e30f, 31, 32, 33, -33};
    const int16_t wide[] = {0, 2, 2, -2, 4095, 4095, -4095, 31, 32, 33, -33};
    enum { COUNT = sizeof wide / sizeof wide[0] };
    void *memory = memory_of(vecmath_sq8_query_bytes(COUNT));
    struct vecmath_sq8_query query;
    vecmath_sq8_query_set(values, 1, COUNT, memory, &query);
    int32_t sum = 0;
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(query.wide[i] == wide[i], "%zu: %d", i, query.wide[i]);
        CHECK(64 * query.high[i] + query.low[i] == wide[i], "%zu", i);
        sum += wide[i];
    }
    CHECK(64 * query.high_sum + query.low_sum == sum, "sums");
    for (size_t i = COUNT; i < 64; i++)
        CHECK(query.wide[i] == 0 && query.high[i] == 0 && query.low[i] == 0, "padding %zu", i);
    vecmath_sq8_query_set(values, 0.5f, COUNT, memory, &query);
    CHECK(query.wide[4] == 2047, "%d", query.wide[4]);
    free(memory);
}

static void packed_nibbles_are_where_the_kernels_look(void)
{
    enum { COUNT = 300 };
    uint8_t nibbles[COUNT];
    float values[COUNT] = {0};
    uint8_t code[2 * 64 + 44];
    fill_bytes(nibbles, COUNT, 9);
    CHECK(vecmath_sq4_code_bytes(COUNT) == sizeof code, "%zu", vecmath_sq4_code_bytes(COUNT));
    for (size_t i = 0; i < COUNT; i++)
        nibbles[i] &= 15;
    vecmath_sq4_pack(nibbles, COUNT, code);
    void *memory = memory_of(vecmath_sq4_query_bytes(COUNT));
    for (size_t i = 0; i < COUNT; i++) {
        struct vecmath_sq4_query query;
        float dot;
        values[i] = 1;
        vecmath_sq4_query_set(values, 1, COUNT, memory, &query);
        vecmath_sq4_scan(&query, code, sizeof code, 1, &dot);
        CHECK(dot == nibbles[i], "%zu: %g not %d", i, (double)dot, nibbles[i]);
        values[i] = 0;
    }
    free(memory);
}

/* All shapes of a call against single rows; counts that end in a block and between blocks. */
static void check_shapes(size_t n, size_t count)
{
    enum { TABLE_ROWS = 50 };
    const size_t stride = vecmath_sq4_code_bytes(n) > n ? vecmath_sq4_code_bytes(n) + 1 : n + 1;
    uint8_t *codes = memory_of(TABLE_ROWS * stride);
    uint32_t rows[TABLE_ROWS];
    float got[TABLE_ROWS];
    float scanned[TABLE_ROWS];
    int32_t exact[TABLE_ROWS];
    struct vecmath_sq8_query wide;
    struct vecmath_sq4_query narrow;
    float *values = query_values(n, 4, VECMATH_SQ8_QUERY_MAX);
    void *wide_memory = memory_of(vecmath_sq8_query_bytes(n));
    void *narrow_memory = memory_of(vecmath_sq4_query_bytes(n));
    fill_bytes(codes, TABLE_ROWS * stride, 5);
    for (size_t i = 0; i < count; i++)
        rows[i] = (uint32_t)(i * 37 % TABLE_ROWS);
    vecmath_sq8_query_set(values, 1, n, wide_memory, &wide);
    vecmath_sq4_query_set(values, 0.03f, n, narrow_memory, &narrow);

    vecmath_sq8_gather(&wide, codes, stride, rows, count, got);
    vecmath_sq8_scan(&wide, codes, stride, count, scanned);
    vecmath_s8_gather((int8_t *)codes, codes, stride, rows, count, n, exact);
    for (size_t i = 0; i < count; i++) {
        const int8_t *row = (int8_t *)codes + rows[i] * stride;
        const int8_t *side = (int8_t *)codes + i * stride;
        CHECK(got[i] == (float)plain_sq8(&wide, row), "sq8 gather n %zu row %zu", n, i);
        CHECK(scanned[i] == (float)plain_sq8(&wide, side), "sq8 scan n %zu row %zu", n, i);
        CHECK(exact[i] == vecmath_s8_dot((int8_t *)codes, row, n), "s8 gather n %zu row %zu", n, i);
    }
    vecmath_sq4_gather(&narrow, codes, stride, rows, count, got);
    vecmath_sq4_scan(&narrow, codes, stride, count, scanned);
    for (size_t i = 0; i < count; i++) {
        const void *row[1] = {codes + rows[i] * stride};
        const void *side[1] = {codes + i * stride};
        int32_t dot;
        vecmath_codes_scalar.sq4_one(&narrow, row, NULL, &dot);
        CHECK(got[i] == (float)dot, "sq4 gather n %zu row %zu", n, i);
        vecmath_codes_scalar.sq4_one(&narrow, side, NULL, &dot);
        CHECK(scanned[i] == (float)dot, "sq4 scan n %zu row %zu", n, i);
    }
    free(codes);
    free(values);
    free(wide_memory);
    free(narrow_memory);
}

static void gathers_and_scans_give_what_single_rows_give(void)
{
    static const size_t counts[] = {0, 1, 3, 4, 5, 8, 15, 16, 33, 50};
    for (size_t s = 1; s < SIZE_COUNT && sizes[s] <= 4130; s++)
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
            check_shapes(sizes[s], counts[c]);
}

int main(void)
{
    static const struct test tests[] = {
        TEST(every_table_gives_the_plain_sum),
        TEST(the_table_in_use_belongs_to_the_implementation),
        TEST(a_query_is_rounded_clipped_and_split),
        TEST(packed_nibbles_are_where_the_kernels_look),
        TEST(gathers_and_scans_give_what_single_rows_give),
    };
    const struct vecmath_code_kernels *tables[VECMATH_CODE_TABLES_MAX];
    const size_t count = vecmath_code_tables(tables);
    (void)printf("tables:");
    for (size_t t = 0; t < count; t++)
        (void)printf(" %s", tables[t]->name);
    (void)printf("\n");
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
