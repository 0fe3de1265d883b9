/* test_bits.c: codes of few bits and their rotation.
 *
 * Inner products are integers: every table of kernels must give what the plainest sum over the
 * numbers gives, exactly, and the rotation the same bits as the scalar one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bits_internal.h"
#include "fixture.h"

enum { ROWS = VECMATH_BLOCK, EXTREME_SEED = 0 };

static const size_t sizes[] = {64, 128, 192, 448, 512, 576, 768, 832, 1024, 1088, 4160, 65536};

enum { SIZE_COUNT = sizeof sizes / sizeof sizes[0] };

static void *memory_of(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, VECMATH_BITS_ALIGNMENT, bytes + VECMATH_BITS_ALIGNMENT) != 0)
        exit(99);
    return memory;
}

/* A query as floats, random or all -127, and numbers of rows, random or the largest. */
static float *query_values(size_t n, uint64_t seed)
{
    float *values = memory_of(n * sizeof(float));
    fill_floats(values, n, DATA_RANDOM, seed + 1);
    for (size_t i = 0; i < n; i++)
        values[i] = seed == EXTREME_SEED ? -127.0f : roundf(values[i] * 127.0f);
    return values;
}

static uint8_t *row_numbers(size_t n, unsigned bits, uint64_t seed)
{
    uint8_t *numbers = memory_of(n);
    fill_bytes(numbers, n, seed);
    for (size_t i = 0; i < n; i++)
        numbers[i] = (uint8_t)((seed == EXTREME_SEED ? 255u : numbers[i]) & ((1u << bits) - 1));
    return numbers;
}

static float plain_sum(const float *values, const uint8_t *numbers, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (int64_t)values[i] * numbers[i];
    return (float)sum;
}

/* Rows between guard pages, gathered and scanned by the implementation in use. */
static void check_sums(size_t n, unsigned bits, uint64_t seed)
{
    const uint32_t turned[ROWS + 1] = {4, 3, 2, 1, 0};
    const size_t bytes = vecmath_bits_code_bytes(n, bits);
    struct guarded codes;
    struct vecmath_bits_query query;
    float *values = query_values(n, seed);
    float exact[ROWS + 1], gathered[ROWS + 1], scanned[ROWS + 1];
    void *memory = memory_of(vecmath_bits_query_bytes(n, bits));
    guarded_open(&codes, (ROWS + 1) * bytes, seed % 2 == 0, 0);
    for (size_t r = 0; r <= ROWS; r++) {
        uint8_t *numbers =
            row_numbers(n, bits, seed == EXTREME_SEED ? EXTREME_SEED : seed * 10 + r);
        vecmath_bits_pack(numbers, n, bits, (char *)codes.data + r * bytes);
        exact[r] = plain_sum(values, numbers, n);
        free(numbers);
    }
    vecmath_bits_query_set(values, 1, n, bits, memory, &query);
    vecmath_bits_gather(&query, codes.data, bytes, turned, ROWS + 1, gathered);
    vecmath_bits_scan(&query, codes.data, bytes, ROWS + 1, scanned);
    for (size_t r = 0; r <= ROWS; r++) {
        CHECK(scanned[r] == exact[r], "n %zu bits %u row %zu: %g not %g", n, bits, r,
              (double)scanned[r], (double)exact[r]);
        CHECK(gathered[ROWS - r] == exact[r], "gathered, n %zu bits %u row %zu", n, bits, r);
    }
    guarded_close(&codes);
    free(values);
    free(memory);
}

static void sums_are_those_of_the_numbers(void)
{
    for (size_t s = 0; s < SIZE_COUNT; s++)
        for (unsigned bits = 1; bits <= VECMATH_BITS_MAX; bits++)
            for (uint64_t seed = EXTREME_SEED; seed < 3; seed++)
                check_sums(sizes[s], bits, seed);
}

/* Also those tables that the processor's better ones hide. */
static void check_table(const struct vecmath_bits_kernels *table, unsigned kind, size_t bytes)
{
    const size_t width = 4u >> kind, pieces = (bytes + BITS_PIECE - 1) / BITS_PIECE;
    int8_t *numbers = memory_of(pieces * BITS_PIECE * 8 / width);
    struct guarded rows[ROWS];
    const void *row[ROWS];
    int32_t block[ROWS], one, scalar;
    fill_bytes(numbers, pieces * BITS_PIECE * 8 / width, bytes + kind);
    for (size_t i = 0; i < pieces * BITS_PIECE * 8 / width; i++) {
        bool beyond = i % BITS_PIECE + i / (BITS_PIECE * 8 / width) * BITS_PIECE >= bytes;
        numbers[i] = (int8_t)(beyond ? 0 : numbers[i] == -128 ? -127 : numbers[i]);
    }
    for (size_t r = 0; r < ROWS; r++) {
        guarded_open(&rows[r], bytes, r % 2 == 0, r == 1 ? 3 : 0);
        fill_bytes(rows[r].data, bytes, r + 1);
        row[r] = rows[r].data;
    }
    table->block[kind](numbers, row, row, bytes, block);
    for (size_t r = 0; r < ROWS; r++) {
        table->one[kind](numbers, row + r, NULL, bytes, &one);
        vecmath_bits_scalar.one[kind](numbers, row + r, NULL, bytes, &scalar);
        CHECK(one == scalar, "%s width %zu bytes %zu: %d not %d", table->name, width, bytes, one,
              scalar);
        CHECK(block[r] == scalar, "%s block width %zu bytes %zu", table->name, width, bytes);
        guarded_close(&rows[r]);
    }
    free(numbers);
}

static void every_table_gives_what_scalar_gives(void)
{
    const struct vecmath_bits_kernels *tables[VECMATH_BITS_TABLES_MAX];
    const size_t count = vecmath_bits_tables(tables);
    for (size_t t = 0; t < count; t++)
        for (unsigned kind = 0; kind < BITS_FIELDS; kind++)
            for (size_t bytes = 8; bytes <= 200; bytes += 8)
                check_table(tables[t], kind, bytes);
}

static void a_query_is_rounded_and_clipped(void)
{
    float values[64] = {0, 1.5f, 2.5f, -1.5f, 126.6f, 1e30f, -1e30f};
    const int32_t whole[7] = {0, 2, 2, -2, 127, 127, -127};
    uint8_t numbers[64] = {0};
    uint8_t code[64];
    float dot;
    void *memory = memory_of(vecmath_bits_query_bytes(64, 3));
    struct vecmath_bits_query query;
    vecmath_bits_query_set(values, 1, 64, 3, memory, &query);
    CHECK(query.sum == 129, "%d", query.sum);
    for (size_t i = 0; i < 7; i++) {
        memset(numbers, 0, sizeof numbers);
        numbers[i] = 5;
        vecmath_bits_pack(numbers, 64, 3, code);
        vecmath_bits_scan(&query, code, vecmath_bits_code_bytes(64, 3), 1, &dot);
        CHECK(dot == 5.0f * (float)whole[i], "%zu: %g", i, (double)dot);
    }
    free(memory);
}

static void the_rotation_is_the_plain_sum_and_its_own_inverse(void)
{
    enum { COUNT = 1024 };
    float *values = memory_of(COUNT * sizeof(float));
    float *turned = memory_of(COUNT * sizeof(float));
    for (size_t n = 1; n <= COUNT; n *= 2) {
        fill_floats(values, n, DATA_RANDOM, n);
        memcpy(turned, values, n * sizeof(float));
        vecmath_hadamard_f32(turned, n);
        for (size_t i = 0; i < n; i += n / 16 + 1) {
            double sum = 0;
            for (size_t j = 0; j < n; j++)
                sum += __builtin_parityll(i & j) ? -(double)values[j] : (double)values[j];
            CHECK(fabs(sum / sqrt((double)n) - (double)turned[i]) < 1e-5, "%zu of %zu", i, n);
        }
        vecmath_hadamard_f32(turned, n);
        for (size_t i = 0; i < n; i++)
            CHECK(fabsf(turned[i] - values[i]) < 1e-5f, "back: %zu of %zu", i, n);
    }
    free(values);
    free(turned);
}

static void every_table_rotates_to_the_same_bits(void)
{
    enum { COUNT = 2048 };
    const struct vecmath_bits_kernels *tables[VECMATH_BITS_TABLES_MAX];
    const size_t count = vecmath_bits_tables(tables);
    float *values = memory_of((COUNT + 1) * sizeof(float));
    float *turned = memory_of((COUNT + 1) * sizeof(float));
    uint64_t signs[COUNT / 64];
    fill_bytes(signs, sizeof signs, 3);
    for (size_t t = 0; t < count; t++)
        for (size_t n = 1; n <= COUNT; n *= 2) {
            /* at an address that is no multiple of anything but a float's */
            fill_floats(values + 1, n, DATA_MIXED, n);
            memcpy(turned + 1, values + 1, n * sizeof(float));
            tables[t]->flip_signs(turned + 1, n, signs);
            for (size_t i = 0; i < n; i++) {
                float flipped = signs[i / 64] >> i % 64 & 1 ? -values[1 + i] : values[1 + i];
                CHECK(same_bits(turned[1 + i], flipped), "%s sign %zu of %zu", tables[t]->name, i,
                      n);
            }
            tables[t]->hadamard(turned + 1, n);
            vecmath_bits_scalar.flip_signs(values + 1, n, signs);
            vecmath_bits_scalar.hadamard(values + 1, n);
            CHECK(memcmp(turned + 1, values + 1, n * sizeof(float)) == 0, "%s %zu", tables[t]->name,
                  n);
        }
    free(values);
    free(turned);
}

int main(void)
{
    static const struct test tests[] = {
        TEST(sums_are_those_of_the_numbers),
        TEST(every_table_gives_what_scalar_gives),
        TEST(a_query_is_rounded_and_clipped),
        TEST(the_rotation_is_the_plain_sum_and_its_own_inverse),
        TEST(every_table_rotates_to_the_same_bits),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
