/* codes.c: queries made ready, and rows of codes in blocks of four.
 *
 * Gathered rows are found by number and lie anywhere, so what a call costs is the wait for memory.
 * Before the first block its rows and as many more as AHEAD_LINES holds are asked for, whole; then
 * each block asks for the rows that many places further on. The last rows, fewer than four, have
 * been asked for like the others. Twelve rows of 768 bytes ahead instead of four made searches of a
 * graph 11 % faster.
 */
#include "codes_internal.h"

/* Rows that are not whole lines are loaded across lines, and such loads wait longer while many
 * lines are on their way: with as many ahead searches over rows of 784 bytes were 4 % slower. */
enum { AHEAD_LINES = 160, AHEAD_LINES_ACROSS = 80 };

/* Rows of one call: numbered, or (rows NULL) side by side. */
struct rows {
    const char *codes;
    size_t stride_bytes;
    const uint32_t *rows;
    size_t count;
    size_t row_bytes;
    size_t ahead; /* rows, a multiple of a block */
};

static struct rows rows_of(const void *codes, size_t stride_bytes, const uint32_t *numbers,
                           size_t count, size_t row_bytes)
{
    size_t lines = row_bytes / 64 + 1;
    size_t most = stride_bytes % 64 == 0 ? AHEAD_LINES : AHEAD_LINES_ACROSS;
    size_t blocks = most / (lines * VECMATH_BLOCK);
    return (struct rows){
        .codes = codes,
        .stride_bytes = stride_bytes,
        .rows = numbers,
        .count = count,
        .row_bytes = row_bytes,
        .ahead = (blocks > 0 ? blocks : 1) * VECMATH_BLOCK,
    };
}

static inline const void *row_at(const struct rows *rows, size_t i)
{
    size_t row = rows->rows != NULL ? rows->rows[i] : i;
    return rows->codes + row * rows->stride_bytes;
}

/* Inlined, or gcc drops the call: prefetches are no effect in its eyes. */
static inline __attribute__((always_inline)) void ask_for_first(const struct rows *rows)
{
    size_t count = rows->count < rows->ahead ? rows->count : rows->ahead;
    for (size_t i = 0; rows->rows != NULL && i < count; i++) {
        const char *row = row_at(rows, i);
        for (size_t at = 0; at < rows->row_bytes; at += 64)
            VECMATH_PREFETCH(row + at);
    }
}

/* The block at `i` and the rows wanted soon; at the end the block's own, which are near anyway. */
static void block_at(const struct rows *rows, size_t i, const void *row[VECMATH_BLOCK],
                     const void *next[VECMATH_BLOCK])
{
    for (size_t r = 0; r < VECMATH_BLOCK; r++) {
        row[r] = row_at(rows, i + r);
        size_t later = i + rows->ahead + r;
        next[r] = later < rows->count ? row_at(rows, later) : row[r];
    }
}

/* The last rows, two or three, as a block: the first of them is there more than once, which costs
 * less than rows one by one. */
static void rest_at(const struct rows *rows, size_t i, const void *row[VECMATH_BLOCK])
{
    for (size_t r = 0; r < VECMATH_BLOCK; r++)
        row[r] = row_at(rows, i + r < rows->count ? i + r : i);
}

/* ---- queries ---- */

static size_t padded(size_t dimension, size_t unit)
{
    return (dimension + unit - 1) / unit * unit;
}

size_t vecmath_sq8_query_bytes(size_t dimension)
{
    return padded(dimension, CODE_STEP) * (sizeof(int16_t) + 2 * sizeof(int8_t));
}

void vecmath_sq8_query_set(const float *values, float factor, size_t dimension, void *memory,
                           struct vecmath_sq8_query *query_out)
{
    const size_t size = padded(dimension, CODE_STEP);
    struct vecmath_sq8_arrays arrays = {.wide = memory};
    arrays.high = (int8_t *)memory + size * sizeof(int16_t);
    arrays.low = arrays.high + size;
    vecmath_active_codes()->sq8_query(values, factor, dimension, &arrays);
    memset(arrays.wide + dimension, 0, (size - dimension) * sizeof *arrays.wide);
    memset(arrays.high + dimension, 0, size - dimension);
    memset(arrays.low + dimension, 0, size - dimension);
    *query_out = (struct vecmath_sq8_query){arrays.wide,     arrays.high,    arrays.low,
                                            arrays.high_sum, arrays.low_sum, dimension};
}

size_t vecmath_sq4_query_bytes(size_t dimension)
{
    return padded(dimension, VECMATH_SQ4_BLOCK);
}

void vecmath_sq4_query_set(const float *values, float factor, size_t dimension, void *memory,
                           struct vecmath_sq4_query *query_out)
{
    int8_t *numbers = memory;
    const int32_t sum = vecmath_active_codes()->sq4_query(values, factor, dimension, numbers);
    memset(numbers + dimension, 0, padded(dimension, VECMATH_SQ4_BLOCK) - dimension);
    *query_out = (struct vecmath_sq4_query){numbers, sum, dimension};
}

size_t vecmath_sq4_code_bytes(size_t dimension)
{
    const size_t half = VECMATH_SQ4_BLOCK / 2, rest = dimension % VECMATH_SQ4_BLOCK;
    return dimension / VECMATH_SQ4_BLOCK * half + (rest < half ? rest : half);
}

void vecmath_sq4_pack(const uint8_t *nibbles, size_t dimension, void *code_out)
{
    const size_t half = VECMATH_SQ4_BLOCK / 2;
    uint8_t *code = code_out;
    memset(code, 0, vecmath_sq4_code_bytes(dimension));
    for (size_t i = 0; i < dimension; i++) {
        size_t in_block = i % VECMATH_SQ4_BLOCK;
        unsigned shift = in_block < half ? 0 : 4;
        uint8_t *at = code + i / VECMATH_SQ4_BLOCK * half + in_block % half;
        *at = (uint8_t)(*at | (unsigned)(nibbles[i] & 15) << shift);
    }
}

/* ---- rows ---- */

static void sq8_score(const struct vecmath_sq8_query *query, const struct rows *rows,
                      float *dot_out)
{
    const struct vecmath_code_kernels *kernels = vecmath_active_codes();
    const void *row[VECMATH_BLOCK];
    const void *next[VECMATH_BLOCK];
    int64_t dot[VECMATH_BLOCK];
    ask_for_first(rows);
    size_t i = 0;
    for (; rows->count - i >= VECMATH_BLOCK; i += VECMATH_BLOCK) {
        block_at(rows, i, row, next);
        kernels->sq8_block(query, row, next, dot);
        for (size_t r = 0; r < VECMATH_BLOCK; r++)
            dot_out[i + r] = (float)dot[r];
    }
    if (rows->count - i == 1) {
        row[0] = row_at(rows, i);
        kernels->sq8_one(query, row, NULL, dot);
        dot_out[i] = (float)dot[0];
    } else if (i < rows->count) {
        rest_at(rows, i, row);
        kernels->sq8_block(query, row, row, dot);
        for (size_t r = 0; i + r < rows->count; r++)
            dot_out[i + r] = (float)dot[r];
    }
}

void vecmath_sq8_gather(const struct vecmath_sq8_query *query, const void *codes,
                        size_t stride_bytes, const uint32_t *rows, size_t count, float *dot_out)
{
    struct rows all = rows_of(codes, stride_bytes, rows, count, query->dimension);
    sq8_score(query, &all, dot_out);
}

void vecmath_sq8_scan(const struct vecmath_sq8_query *query, const void *codes, size_t stride_bytes,
                      size_t count, float *dot_out)
{
    struct rows all = rows_of(codes, stride_bytes, NULL, count, query->dimension);
    sq8_score(query, &all, dot_out);
}

uint32_t vecmath_s8_set(const float *values, size_t dimension, int8_t *code_out)
{
    return vecmath_active_codes()->s8_set(values, dimension, code_out);
}

int32_t vecmath_s8_dot(const int8_t *a, const int8_t *b, size_t dimension)
{
    const void *row[1] = {b};
    int32_t dot;
    vecmath_active_codes()->s8_one(a, row, NULL, dimension, &dot);
    return dot;
}

void vecmath_s8_gather(const int8_t *query, const void *codes, size_t stride_bytes,
                       const uint32_t *rows, size_t count, size_t dimension, int32_t *dot_out)
{
    const struct vecmath_code_kernels *kernels = vecmath_active_codes();
    const struct rows all = rows_of(codes, stride_bytes, rows, count, dimension);
    const void *row[VECMATH_BLOCK];
    const void *next[VECMATH_BLOCK];
    ask_for_first(&all);
    size_t i = 0;
    for (; count - i >= VECMATH_BLOCK; i += VECMATH_BLOCK) {
        block_at(&all, i, row, next);
        kernels->s8_block(query, row, next, dimension, dot_out + i);
    }
    if (count - i == 1) {
        row[0] = row_at(&all, i);
        kernels->s8_one(query, row, NULL, dimension, dot_out + i);
    } else if (i < count) {
        int32_t dot[VECMATH_BLOCK];
        rest_at(&all, i, row);
        kernels->s8_block(query, row, row, dimension, dot);
        memcpy(dot_out + i, dot, (count - i) * sizeof *dot);
    }
}

static void sq4_score(const struct vecmath_sq4_query *query, const struct rows *rows,
                      float *dot_out)
{
    const struct vecmath_code_kernels *kernels = vecmath_active_codes();
    const void *row[VECMATH_BLOCK];
    const void *next[VECMATH_BLOCK];
    int32_t dot[VECMATH_BLOCK];
    ask_for_first(rows);
    size_t i = 0;
    for (; rows->count - i >= VECMATH_BLOCK; i += VECMATH_BLOCK) {
        block_at(rows, i, row, next);
        kernels->sq4_block(query, row, next, dot);
        for (size_t r = 0; r < VECMATH_BLOCK; r++)
            dot_out[i + r] = (float)dot[r];
    }
    if (rows->count - i == 1) {
        row[0] = row_at(rows, i);
        kernels->sq4_one(query, row, NULL, dot);
        dot_out[i] = (float)dot[0];
    } else if (i < rows->count) {
        rest_at(rows, i, row);
        kernels->sq4_block(query, row, row, dot);
        for (size_t r = 0; i + r < rows->count; r++)
            dot_out[i + r] = (float)dot[r];
    }
}

void vecmath_sq4_gather(const struct vecmath_sq4_query *query, const void *codes,
                        size_t stride_bytes, const uint32_t *rows, size_t count, float *dot_out)
{
    struct rows all =
        rows_of(codes, stride_bytes, rows, count, vecmath_sq4_code_bytes(query->dimension));
    sq4_score(query, &all, dot_out);
}

void vecmath_sq4_scan(const struct vecmath_sq4_query *query, const void *codes, size_t stride_bytes,
                      size_t count, float *dot_out)
{
    struct rows all =
        rows_of(codes, stride_bytes, NULL, count, vecmath_sq4_code_bytes(query->dimension));
    sq4_score(query, &all, dot_out);
}
