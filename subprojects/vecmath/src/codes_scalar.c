/* codes_scalar.c: the reference. Integers leave nothing to argue about: plain loops. */
#include "codes_internal.h"

static int64_t sq8_sum(const struct vecmath_sq8_query *query, const int8_t *row)
{
    int64_t sum = 0;
    for (size_t i = 0; i < query->dimension; i++)
        sum += query->wide[i] * row[i];
    return sum;
}

static int32_t s8_sum(const int8_t *a, const int8_t *b, size_t n)
{
    int32_t sum = 0; /* 65,536 x 128 x 128 is 2^30 */
    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static int32_t sq4_sum(const struct vecmath_sq4_query *query, const uint8_t *row)
{
    const size_t half = VECMATH_SQ4_BLOCK / 2;
    int32_t sum = 0; /* 65,536 x 15 x 127 is 1.2e8 */
    for (size_t i = 0; i < query->dimension; i++) {
        size_t in_block = i % VECMATH_SQ4_BLOCK;
        uint8_t both = row[i / VECMATH_SQ4_BLOCK * half + in_block % half];
        sum += query->values[i] * (in_block < half ? both & 15 : both >> 4);
    }
    return sum;
}

static void sq8_one_scalar(const struct vecmath_sq8_query *query, const void *const *row,
                           const void *const *next, int64_t *dot_out)
{
    (void)next;
    dot_out[0] = sq8_sum(query, row[0]);
}

static void sq8_block_scalar(const struct vecmath_sq8_query *query, const void *const *row,
                             const void *const *next, int64_t *dot_out)
{
    (void)next;
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        dot_out[r] = sq8_sum(query, row[r]);
}

static void s8_one_scalar(const int8_t *query, const void *const *row, const void *const *next,
                          size_t n, int32_t *dot_out)
{
    (void)next;
    dot_out[0] = s8_sum(query, row[0], n);
}

static void s8_block_scalar(const int8_t *query, const void *const *row, const void *const *next,
                            size_t n, int32_t *dot_out)
{
    (void)next;
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        dot_out[r] = s8_sum(query, row[r], n);
}

static void sq4_one_scalar(const struct vecmath_sq4_query *query, const void *const *row,
                           const void *const *next, int32_t *dot_out)
{
    (void)next;
    dot_out[0] = sq4_sum(query, row[0]);
}

static void sq4_block_scalar(const struct vecmath_sq4_query *query, const void *const *row,
                             const void *const *next, int32_t *dot_out)
{
    (void)next;
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        dot_out[r] = sq4_sum(query, row[r]);
}

static void sq8_query_scalar(const float *values, float factor, size_t dimension,
                             struct vecmath_sq8_arrays *arrays)
{
    vecmath_sq8_query_fill(values, factor, dimension, arrays);
}

static uint32_t s8_set_scalar(const float *values, size_t dimension, int8_t *code_out)
{
    return vecmath_s8_fill(values, dimension, code_out);
}

static int32_t sq4_query_scalar(const float *values, float factor, size_t dimension,
                                int8_t *number_out)
{
    return vecmath_sq4_query_fill(values, factor, dimension, number_out);
}

const struct vecmath_code_kernels vecmath_codes_scalar = {
    .name = "scalar",
    .sq8_query = sq8_query_scalar,
    .s8_set = s8_set_scalar,
    .sq4_query = sq4_query_scalar,
    .sq8_one = sq8_one_scalar,
    .sq8_block = sq8_block_scalar,
    .s8_one = s8_one_scalar,
    .s8_block = s8_block_scalar,
    .sq4_one = sq4_one_scalar,
    .sq4_block = sq4_block_scalar,
};
