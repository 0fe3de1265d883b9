/* bits.c: codes packed, queries made ready, rows in blocks of four, and the scalar reference.
 *
 * Rows are asked for ahead as in codes.c: whole, up to their stride, since what belongs to a row
 * may lie behind its code. */
#include <math.h>

#include "bits_internal.h"

enum { AHEAD_LINES = 160, WIDEST = 4 };

/* ---- fields ---- */

/* Walks the fields of a code, the highest first. */
struct field {
    unsigned kind;  /* 0: 4 bits, 1: 2 bits, 2: 1 bit */
    unsigned shift; /* of its lowest bit in a number */
    size_t offset;  /* in the code */
};

static unsigned width_of(unsigned kind)
{
    return WIDEST >> kind;
}

static size_t field_bytes(size_t columns, unsigned kind)
{
    return columns / 8 * width_of(kind);
}

/* Fields of `bits` bits; returns how many, at most three. */
static size_t fields_of(size_t columns, unsigned bits, struct field field_out[BITS_FIELDS])
{
    size_t count = 0, offset = 0;
    unsigned left = bits;
    for (unsigned kind = 0; kind < BITS_FIELDS; kind++)
        while (left >= width_of(kind)) {
            left -= width_of(kind);
            field_out[count++] = (struct field){kind, left, offset};
            offset += field_bytes(columns, kind);
        }
    return count;
}

static void pack_field(const uint8_t *numbers, size_t columns, const struct field *field,
                       uint8_t *bytes_out)
{
    const unsigned width = width_of(field->kind), digits = 8 / width;
    const size_t bytes = field_bytes(columns, field->kind);
    for (size_t from = 0; from < bytes; from += BITS_PIECE) {
        const size_t length = bytes - from < BITS_PIECE ? bytes - from : BITS_PIECE;
        const uint8_t *column = numbers + from * digits;
        memset(bytes_out + from, 0, length);
        for (unsigned digit = 0; digit < digits; digit++)
            for (size_t j = 0; j < length; j++) {
                unsigned number = column[digit * length + j] >> field->shift & ((1u << width) - 1);
                bytes_out[from + j] = (uint8_t)(bytes_out[from + j] | number << digit * width);
            }
    }
}

void vecmath_bits_pack(const uint8_t *numbers, size_t columns, unsigned bits, void *code_out)
{
    struct field fields[BITS_FIELDS];
    const size_t count = fields_of(columns, bits, fields);
    for (size_t i = 0; i < count; i++)
        pack_field(numbers, columns, &fields[i], (uint8_t *)code_out + fields[i].offset);
}

/* ---- queries ---- */

/* A field's numbers: 64 bytes for each digit of each piece. */
static size_t numbers_bytes(size_t columns, unsigned kind)
{
    const size_t pieces = (field_bytes(columns, kind) + BITS_PIECE - 1) / BITS_PIECE;
    return pieces * BITS_PIECE * (8 / width_of(kind));
}

/* Whether a code of so many bits has such fields. */
static bool has_kind(unsigned bits, unsigned kind)
{
    return bits >= 8 ? kind == 0 : (bits & width_of(kind)) != 0;
}

size_t vecmath_bits_query_bytes(size_t columns, unsigned bits)
{
    size_t bytes = columns;
    for (unsigned kind = 0; kind < BITS_FIELDS; kind++)
        bytes += has_kind(bits, kind) ? numbers_bytes(columns, kind) : 0;
    return bytes;
}

/* Whole pieces are the numbers in their order; those of a shorter last one are spread. */
static void arrange(const int8_t *numbers, size_t columns, unsigned kind, int8_t *arranged_out)
{
    const size_t digits = 8 / width_of(kind), bytes = field_bytes(columns, kind);
    const size_t rest = bytes % BITS_PIECE, whole = (bytes - rest) * digits;
    memcpy(arranged_out, numbers, whole);
    for (size_t digit = 0; rest > 0 && digit < digits; digit++) {
        int8_t *to = arranged_out + whole + digit * BITS_PIECE;
        memcpy(to, numbers + whole + digit * rest, rest);
        memset(to + rest, 0, BITS_PIECE - rest);
    }
}

/* To nearest, ties to even, as in codes.c. */
static inline int32_t coded(float value, float factor)
{
    const float limit = VECMATH_BITS_QUERY_MAX;
    float scaled = value * factor;
    scaled = scaled < limit ? scaled : limit;
    scaled = scaled > -limit ? scaled : -limit;
    return (int32_t)((scaled + 0x1.8p23f) - 0x1.8p23f);
}

void vecmath_bits_query_set(const float *values, float factor, size_t columns, unsigned bits,
                            void *memory, struct vecmath_bits_query *query_out)
{
    int8_t *numbers = memory;
    int8_t *next = numbers + columns;
    *query_out = (struct vecmath_bits_query){.bits = bits, .columns = columns};
    int32_t sum = 0;
    for (size_t i = 0; i < columns; i++)
        numbers[i] = (int8_t)coded(vecmath_load(values, i), factor);
    for (size_t i = 0; i < columns; i++)
        sum += numbers[i];
    query_out->sum = sum;
    for (unsigned kind = 0; kind < BITS_FIELDS; kind++) {
        if (!has_kind(bits, kind))
            continue;
        arrange(numbers, columns, kind, next);
        query_out->fields[kind] = next;
        next += numbers_bytes(columns, kind);
    }
}

/* ---- rows ---- */

struct rows {
    const char *codes;
    size_t stride_bytes;
    const uint32_t *rows; /* NULL: side by side */
    size_t count, ahead;
};

static inline const char *row_at(const struct rows *rows, size_t i)
{
    return rows->codes + (rows->rows != NULL ? rows->rows[i] : i) * rows->stride_bytes;
}

/* Inlined, or gcc drops the call: prefetches are no effect in its eyes. */
static inline __attribute__((always_inline)) void ask_for(const struct rows *rows, size_t i)
{
    const char *row = row_at(rows, i);
    for (size_t at = 0; at < rows->stride_bytes; at += 64)
        VECMATH_PREFETCH(row + at);
    VECMATH_PREFETCH(row + rows->stride_bytes - 1);
}

/* 2^31 is not reached: 65,536 x 255 x 127. */
static void add_fields(const struct vecmath_bits_query *query, const struct field *fields,
                       size_t count, bool block, const char *const *row, float *dot_out)
{
    const struct vecmath_bits_kernels *kernels = vecmath_active_bits();
    const size_t rows = block ? VECMATH_BLOCK : 1;
    int32_t all[VECMATH_BLOCK] = {0};
    for (size_t i = 0; i < count; i++) {
        const void *field[VECMATH_BLOCK];
        int32_t sum[VECMATH_BLOCK];
        const unsigned kind = fields[i].kind;
        for (size_t r = 0; r < rows; r++)
            field[r] = row[r] + fields[i].offset;
        (block ? kernels->block : kernels->one)[kind](query->fields[kind], field, NULL,
                                                      field_bytes(query->columns, kind), sum);
        for (size_t r = 0; r < rows; r++)
            all[r] += sum[r] * (1 << fields[i].shift);
    }
    for (size_t r = 0; r < rows; r++)
        dot_out[r] = (float)all[r];
}

static void score(const struct vecmath_bits_query *query, struct rows rows, float *dot_out)
{
    const size_t blocks = AHEAD_LINES / ((rows.stride_bytes / 64 + 1) * VECMATH_BLOCK);
    struct field fields[BITS_FIELDS];
    const size_t count = fields_of(query->columns, query->bits, fields);
    rows.ahead = (blocks > 0 ? blocks : 1) * VECMATH_BLOCK;
    for (size_t i = 0; rows.rows != NULL && i < rows.ahead && i < rows.count; i++)
        ask_for(&rows, i);
    size_t i = 0;
    for (; rows.count - i >= VECMATH_BLOCK; i += VECMATH_BLOCK) {
        const char *row[VECMATH_BLOCK];
        for (size_t r = 0; r < VECMATH_BLOCK; r++) {
            row[r] = row_at(&rows, i + r);
            if (rows.rows != NULL && rows.count - i - r > rows.ahead)
                ask_for(&rows, i + r + rows.ahead);
        }
        add_fields(query, fields, count, true, row, dot_out + i);
    }
    for (; i < rows.count; i++) {
        const char *row = row_at(&rows, i);
        add_fields(query, fields, count, false, &row, dot_out + i);
    }
}

void vecmath_bits_gather(const struct vecmath_bits_query *query, const void *codes,
                         size_t stride_bytes, const uint32_t *rows, size_t count, float *dot_out)
{
    score(query, (struct rows){codes, stride_bytes, rows, count, 0}, dot_out);
}

void vecmath_bits_scan(const struct vecmath_bits_query *query, const void *codes,
                       size_t stride_bytes, size_t count, float *dot_out)
{
    score(query, (struct rows){codes, stride_bytes, NULL, count, 0}, dot_out);
}

void vecmath_hadamard_f32(float *values, size_t count)
{
    vecmath_active_bits()->hadamard(values, count);
}

void vecmath_flip_signs_f32(float *values, size_t count, const uint64_t *bits)
{
    vecmath_active_bits()->flip_signs(values, count, bits);
}

/* ---- the reference ---- */

static inline void rows_scalar(const size_t rows, const unsigned width, const int8_t *numbers,
                               const void *const *row, const void *const *next, size_t bytes,
                               int32_t *sum_out)
{
    (void)next;
    for (size_t r = 0; r < rows; r++) {
        int32_t sum = 0;
        for (size_t i = 0; i < bytes; i++) {
            unsigned byte = ((const uint8_t *)row[r])[i];
            size_t piece = i / BITS_PIECE * (8 / width);
            for (unsigned digit = 0; digit < 8 / width; digit++, byte >>= width)
                sum += numbers[(piece + digit) * BITS_PIECE + i % BITS_PIECE] *
                       (int32_t)(byte & ((1u << width) - 1));
        }
        sum_out[r] = sum;
    }
}

#define TABLE_TARGET
#define TABLE_NAME scalar
#define TABLE_ROWS rows_scalar
#include "bits_table.inc"
