/* elements.c: one query against many rows of halves or bytes, and conversions.
 *
 * The loops are those of vecmath_scan.c: blocks of four rows, with the lines of a later block asked
 * for on the way; scores that left float32's range (a long float32 query against halves) are
 * computed again in double. Sums of bytes are integers that cannot overflow.
 */
#include <math.h>

#include "codes_internal.h"
#include "elements_internal.h"

#define INLINE static inline __attribute__((always_inline))

enum { AHEAD_BYTES = 8192 }; /* as in vecmath_scan.c */

static const struct vecmath_element_kernels *active(void)
{
    return vecmath_active()->elements;
}

size_t vecmath_element_bytes(enum vecmath_element element)
{
    return element == VECMATH_F32 ? sizeof(float) : element == VECMATH_F16 ? 2 : 1;
}

/* ---- which rows, in which order ---- */

/* Rows side by side (`rows`, `stride_bytes`) or anywhere (`pointers`). */
struct table {
    const char *rows;
    size_t stride_bytes;
    const void *const *pointers;
    size_t count, ahead;
};

static size_t rows_ahead(size_t row_bytes)
{
    size_t blocks = AHEAD_BYTES / (row_bytes * VECMATH_BLOCK + 1);
    return (blocks > 0 ? blocks : 1) * VECMATH_BLOCK;
}

INLINE const void *row_of(const struct table *t, size_t i)
{
    return t->pointers != NULL ? t->pointers[i] : t->rows + i * t->stride_bytes;
}

/* The rows of the block at i, and of the one to be prefetched: a later one, or itself. */
INLINE void block_of(const struct table *t, size_t i, const void *row_out[VECMATH_BLOCK],
                     const void *next_out[VECMATH_BLOCK])
{
    size_t later = t->count - i >= t->ahead + VECMATH_BLOCK ? i + t->ahead : i;
    for (size_t r = 0; r < VECMATH_BLOCK; r++) {
        row_out[r] = row_of(t, i + r);
        next_out[r] = row_of(t, later + r);
    }
}

/* ---- float32 queries ---- */

static float pair_score(enum vecmath_narrow_row kind, enum vecmath_sum sum, const void *query,
                        const void *row, size_t n)
{
    float score = active()->pair[kind][sum](query, row, n);
    return isfinite(score) ? score : vecmath_narrow(vecmath_wide_narrow(kind, sum, query, row, n));
}

static void score_table(enum vecmath_narrow_row kind, enum vecmath_sum sum, const void *query,
                        const struct table *t, size_t n, float *score_out)
{
    vecmath_block_kernel kernel = active()->block[kind][sum];
    size_t i = 0;
    for (; t->count - i >= VECMATH_BLOCK; i += VECMATH_BLOCK) {
        const void *row[VECMATH_BLOCK], *next[VECMATH_BLOCK];
        block_of(t, i, row, next);
        kernel(query, row, next, n, score_out + i);
    }
    for (; i < t->count; i++)
        score_out[i] = active()->pair[kind][sum](query, row_of(t, i), n);
    size_t (*const first_bad)(const float *, size_t) = vecmath_active()->first_nonfinite;
    for (i = first_bad(score_out, t->count); i < t->count;
         i += 1 + first_bad(score_out + i + 1, t->count - i - 1))
        score_out[i] = pair_score(kind, sum, query, row_of(t, i), n);
}

static float cosine(enum vecmath_narrow_row kind, const void *query, const void *row, size_t n)
{
    struct vecmath_wide_pieces wide;
    vecmath_wide_narrow_pieces(kind, query, row, n, &wide);
    if (wide.norm_squared_a == 0 || wide.norm_squared_b == 0)
        return 0;
    double score = wide.dot / sqrt(wide.norm_squared_a * wide.norm_squared_b);
    return (float)(score > 1 ? 1 : score < -1 ? -1 : score);
}

static void cosine_table(enum vecmath_narrow_row kind, const void *query, const struct table *t,
                         size_t n, float *score_out)
{
    for (size_t i = 0; i < t->count; i++)
        score_out[i] = cosine(kind, query, row_of(t, i), n);
}

/* One function of each kind, so that callers look a pointer up once. */
#define ROW_FUNCTIONS(name, kind, sum, bytes)                                                      \
    static void scan_##name(const void *query, const void *rows, size_t stride_bytes,              \
                            size_t count, size_t dimension, float *score_out)                      \
    {                                                                                              \
        struct table t = {rows, stride_bytes, NULL, count, rows_ahead(bytes * dimension)};         \
        score_table(kind, sum, query, &t, dimension, score_out);                                   \
    }                                                                                              \
    static void gather_##name(const void *query, const void *const *rows, size_t count,            \
                              size_t dimension, float *score_out)                                  \
    {                                                                                              \
        struct table t = {NULL, 0, rows, count, rows_ahead(bytes * dimension)};                    \
        score_table(kind, sum, query, &t, dimension, score_out);                                   \
    }                                                                                              \
    static float pair_##name(const void *query, const void *row, size_t dimension)                 \
    {                                                                                              \
        return pair_score(kind, sum, query, row, dimension);                                       \
    }

#define COSINE_FUNCTIONS(name, kind)                                                               \
    static void scan_##name(const void *query, const void *rows, size_t stride_bytes,              \
                            size_t count, size_t dimension, float *score_out)                      \
    {                                                                                              \
        struct table t = {rows, stride_bytes, NULL, count, 0};                                     \
        cosine_table(kind, query, &t, dimension, score_out);                                       \
    }                                                                                              \
    static void gather_##name(const void *query, const void *const *rows, size_t count,            \
                              size_t dimension, float *score_out)                                  \
    {                                                                                              \
        struct table t = {NULL, 0, rows, count, 0};                                                \
        cosine_table(kind, query, &t, dimension, score_out);                                       \
    }                                                                                              \
    static float pair_##name(const void *query, const void *row, size_t dimension)                 \
    {                                                                                              \
        return cosine(kind, query, row, dimension);                                                \
    }

ROW_FUNCTIONS(f16_l2, ROW_F16, SUM_L2_SQUARED, 2)
ROW_FUNCTIONS(f16_dot, ROW_F16, SUM_DOT, 2)
ROW_FUNCTIONS(f16_l1, ROW_F16, SUM_L1, 2)
COSINE_FUNCTIONS(f16_cosine, ROW_F16)
ROW_FUNCTIONS(i8_l2, ROW_I8, SUM_L2_SQUARED, 1)
ROW_FUNCTIONS(i8_dot, ROW_I8, SUM_DOT, 1)
ROW_FUNCTIONS(i8_l1, ROW_I8, SUM_L1, 1)
COSINE_FUNCTIONS(i8_cosine, ROW_I8)

/* Order: enum vecmath_metric. */
static const struct {
    vecmath_scan_fn scan;
    vecmath_gather_fn gather;
    vecmath_pair_fn pair;
} functions[ROW_KINDS][VECMATH_HAMMING] = {
    {{scan_f16_l2, gather_f16_l2, pair_f16_l2},
     {scan_f16_dot, gather_f16_dot, pair_f16_dot},
     {scan_f16_cosine, gather_f16_cosine, pair_f16_cosine},
     {scan_f16_l1, gather_f16_l1, pair_f16_l1}},
    {{scan_i8_l2, gather_i8_l2, pair_i8_l2},
     {scan_i8_dot, gather_i8_dot, pair_i8_dot},
     {scan_i8_cosine, gather_i8_cosine, pair_i8_cosine},
     {scan_i8_l1, gather_i8_l1, pair_i8_l1}},
};
_Static_assert(VECMATH_L2_SQUARED == 0 && VECMATH_DOT == 1 && VECMATH_COSINE == 2 &&
                   VECMATH_L1 == 3 && VECMATH_HAMMING == 4,
               "order of functions");

static bool is_narrow(enum vecmath_metric metric, enum vecmath_element element)
{
    return (size_t)metric < VECMATH_HAMMING && (element == VECMATH_F16 || element == VECMATH_I8);
}

vecmath_scan_fn vecmath_scan_of_element(enum vecmath_metric metric, enum vecmath_element element)
{
    if (element == VECMATH_F32)
        return vecmath_scan_of(metric);
    return is_narrow(metric, element) ? functions[element - VECMATH_F16][metric].scan : NULL;
}

vecmath_gather_fn vecmath_gather_of_element(enum vecmath_metric metric,
                                            enum vecmath_element element)
{
    if (element == VECMATH_F32)
        return vecmath_gather_of(metric);
    return is_narrow(metric, element) ? functions[element - VECMATH_F16][metric].gather : NULL;
}

vecmath_pair_fn vecmath_pair_of_element(enum vecmath_metric metric, enum vecmath_element element)
{
    if (element == VECMATH_F32)
        return vecmath_pair_of(metric);
    return is_narrow(metric, element) ? functions[element - VECMATH_F16][metric].pair : NULL;
}

/* ---- queries of bytes ---- */

static void dot_table(const void *query, const struct table *t, size_t n, float *score_out)
{
    const struct vecmath_code_kernels *kernels = vecmath_active_codes();
    int32_t dot[VECMATH_BLOCK];
    size_t i = 0;
    for (; t->count - i >= VECMATH_BLOCK; i += VECMATH_BLOCK) {
        const void *row[VECMATH_BLOCK], *next[VECMATH_BLOCK];
        block_of(t, i, row, next);
        kernels->s8_block(query, row, next, n, dot);
        for (size_t r = 0; r < VECMATH_BLOCK; r++)
            score_out[i + r] = (float)dot[r];
    }
    for (; i < t->count; i++) {
        const void *row = row_of(t, i);
        kernels->s8_one(query, &row, NULL, n, dot);
        score_out[i] = (float)dot[0];
    }
}

static void sum_table(vecmath_bytes_kernel one, vecmath_bytes_kernel block, const void *query,
                      const struct table *t, size_t n, float *score_out)
{
    uint32_t sum[VECMATH_BLOCK];
    size_t i = 0;
    for (; t->count - i >= VECMATH_BLOCK; i += VECMATH_BLOCK) {
        const void *row[VECMATH_BLOCK], *next[VECMATH_BLOCK];
        block_of(t, i, row, next);
        block(query, row, next, n, sum);
        for (size_t r = 0; r < VECMATH_BLOCK; r++)
            score_out[i + r] = (float)sum[r];
    }
    for (; i < t->count; i++) {
        const void *row = row_of(t, i);
        one(query, &row, NULL, n, sum);
        score_out[i] = (float)sum[0];
    }
}

static void l2_table(const void *query, const struct table *t, size_t n, float *score_out)
{
    sum_table(active()->bytes_l2_one, active()->bytes_l2_block, query, t, n, score_out);
}

static void l1_table(const void *query, const struct table *t, size_t n, float *score_out)
{
    sum_table(active()->bytes_l1_one, active()->bytes_l1_block, query, t, n, score_out);
}

#define BYTES_FUNCTIONS(name)                                                                      \
    static void scan_bytes_##name(const void *query, const void *rows, size_t stride_bytes,        \
                                  size_t count, size_t dimension, float *score_out)                \
    {                                                                                              \
        struct table t = {rows, stride_bytes, NULL, count, rows_ahead(dimension)};                 \
        name##_table(query, &t, dimension, score_out);                                             \
    }                                                                                              \
    static void gather_bytes_##name(const void *query, const void *const *rows, size_t count,      \
                                    size_t dimension, float *score_out)                            \
    {                                                                                              \
        struct table t = {NULL, 0, rows, count, rows_ahead(dimension)};                            \
        name##_table(query, &t, dimension, score_out);                                             \
    }

BYTES_FUNCTIONS(l2)
BYTES_FUNCTIONS(dot)
BYTES_FUNCTIONS(l1)

vecmath_scan_fn vecmath_scan_of_bytes(enum vecmath_metric metric)
{
    return metric == VECMATH_L2_SQUARED ? scan_bytes_l2
           : metric == VECMATH_DOT      ? scan_bytes_dot
           : metric == VECMATH_L1       ? scan_bytes_l1
                                        : NULL;
}

vecmath_gather_fn vecmath_gather_of_bytes(enum vecmath_metric metric)
{
    return metric == VECMATH_L2_SQUARED ? gather_bytes_l2
           : metric == VECMATH_DOT      ? gather_bytes_dot
           : metric == VECMATH_L1       ? gather_bytes_l1
                                        : NULL;
}

/* ---- conversions ---- */

void vecmath_widen_f16(const void *halves, size_t count, float *values_out)
{
    active()->widen_f16(halves, count, values_out);
}

void vecmath_widen_i8(const void *bytes, size_t count, float *values_out)
{
    for (size_t i = 0; i < count; i++)
        values_out[i] = (float)((const int8_t *)bytes)[i];
}

void vecmath_narrow_f16(const void *values, size_t count, void *halves_out)
{
    active()->narrow_f16(values, count, halves_out);
}

void vecmath_narrow_i8(const void *values, size_t count, void *bytes_out)
{
    for (size_t i = 0; i < count; i++)
        ((int8_t *)bytes_out)[i] = (int8_t)(int)vecmath_load(values, i);
}

/* Values are looked at in runs without branches, and a run with a bad one once more. */
enum { RUN = 64 };

#define FIRST(name, is_bad)                                                                        \
    size_t name(const void *values, size_t count)                                                  \
    {                                                                                              \
        for (size_t i = 0; i < count; i += RUN) {                                                  \
            size_t end = count - i < RUN ? count : i + RUN;                                        \
            unsigned bad = 0;                                                                      \
            for (size_t j = i; j < end; j++)                                                       \
                bad |= (unsigned)is_bad(values, j);                                                \
            for (size_t j = i; bad != 0 && j < end; j++) {                                         \
                if (is_bad(values, j))                                                             \
                    return j;                                                                      \
            }                                                                                      \
        }                                                                                          \
        return count;                                                                              \
    }

INLINE bool is_beyond_f16(const void *values, size_t i)
{
    uint32_t bits;
    memcpy(&bits, (const char *)values + 4 * i, sizeof(bits));
    return (bits & 0x7fffffff) >= 0x477ff000; /* 65,520 */
}

INLINE bool is_not_i8(const void *values, size_t i)
{
    float value = vecmath_load(values, i);
    bool within = value >= -128 && value <= 127; /* false for NaN */
    return !within || (float)(int)(within ? value : 0) != value;
}

INLINE bool is_nonfinite_f16(const void *values, size_t i)
{
    uint16_t half;
    memcpy(&half, (const char *)values + 2 * i, sizeof(half));
    return (half & 0x7c00) == 0x7c00;
}

FIRST(vecmath_first_beyond_f16, is_beyond_f16)
FIRST(vecmath_first_not_i8, is_not_i8)
FIRST(vecmath_first_nonfinite_f16, is_nonfinite_f16)

/* Squares of halves and bytes neither overflow (2^32 x 65,535) nor underflow (2^-48). */
float vecmath_norm_f16(const void *halves, size_t dimension)
{
    return (float)sqrt((double)active()->norm_squared[ROW_F16](halves, dimension));
}

float vecmath_norm_i8(const void *bytes, size_t dimension)
{
    return (float)sqrt((double)active()->norm_squared[ROW_I8](bytes, dimension));
}
