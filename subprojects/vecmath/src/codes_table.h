/* codes_table.h: included at the end of each file of kernels: instances of its templates for one
 * row and for four, and their table. Wants TABLE_TARGET, TABLE_NAME and the functions sq8_rows,
 * s8_rows and sq4_rows (or TABLE_SQ8 and so on, where a file has several sets). */
/* no include guard: a file with two sets includes it twice */
#ifndef TABLE_SQ8
#define TABLE_SQ8 sq8_rows
#define TABLE_S8  s8_rows
#define TABLE_SQ4 sq4_rows
#endif

#define TABLE_PASTE(a, b)  a##_##b
#define TABLE_JOIN(a, b)   TABLE_PASTE(a, b)
#define TABLE_QUOTE(name)  #name
#define TABLE_STRING(name) TABLE_QUOTE(name)
#define TABLE_OWN(name)    TABLE_JOIN(name, TABLE_NAME)

static TABLE_TARGET void TABLE_OWN(sq8_one)(const struct vecmath_sq8_query *query,
                                            const void *const *row, const void *const *next,
                                            int64_t *dot_out)
{
    (void)next;
    TABLE_SQ8(1, query, row, NULL, dot_out);
}

static TABLE_TARGET void TABLE_OWN(sq8_block)(const struct vecmath_sq8_query *query,
                                              const void *const *row, const void *const *next,
                                              int64_t *dot_out)
{
    TABLE_SQ8(VECMATH_BLOCK, query, row, next, dot_out);
}

static TABLE_TARGET void TABLE_OWN(s8_one)(const int8_t *query, const void *const *row,
                                           const void *const *next, size_t n, int32_t *dot_out)
{
    (void)next;
    TABLE_S8(1, query, row, NULL, n, dot_out);
}

static TABLE_TARGET void TABLE_OWN(s8_block)(const int8_t *query, const void *const *row,
                                             const void *const *next, size_t n, int32_t *dot_out)
{
    TABLE_S8(VECMATH_BLOCK, query, row, next, n, dot_out);
}

static TABLE_TARGET void TABLE_OWN(sq4_one)(const struct vecmath_sq4_query *query,
                                            const void *const *row, const void *const *next,
                                            int32_t *dot_out)
{
    (void)next;
    TABLE_SQ4(1, query, row, NULL, dot_out);
}

static TABLE_TARGET void TABLE_OWN(sq4_block)(const struct vecmath_sq4_query *query,
                                              const void *const *row, const void *const *next,
                                              int32_t *dot_out)
{
    TABLE_SQ4(VECMATH_BLOCK, query, row, next, dot_out);
}

const struct vecmath_code_kernels TABLE_JOIN(vecmath_codes, TABLE_NAME) = {
    .name = TABLE_STRING(TABLE_NAME),
    .sq8_one = TABLE_OWN(sq8_one),
    .sq8_block = TABLE_OWN(sq8_block),
    .s8_one = TABLE_OWN(s8_one),
    .s8_block = TABLE_OWN(s8_block),
    .sq4_one = TABLE_OWN(sq4_one),
    .sq4_block = TABLE_OWN(sq4_block),
};

#undef TABLE_PASTE
#undef TABLE_JOIN
#undef TABLE_QUOTE
#undef TABLE_STRING
#undef TABLE_OWN
#undef TABLE_SQ8
#undef TABLE_S8
#undef TABLE_SQ4
#undef TABLE_TARGET
#undef TABLE_NAME
