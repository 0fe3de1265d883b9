/* statistics.c: see statistics.h. Arrays of numbers are searched by plain loops that compilers
 * vectorise; only a block's result is compared with what was there before. */
#include "statistics.h"

#include <math.h>
#include <string.h>

enum pq_bounds_kind pq_bounds_kind_of(const struct pqfile_node *node)
{
    const struct pqfile_logical *logical = &node->logical;
    bool is_unsigned = logical->kind == PQFILE_LOGICAL_INTEGER && !logical->is_signed;
    switch (node->type) {
    case PQFILE_BOOLEAN:
        return PQ_BOUNDS_BOOLEAN;
    case PQFILE_INT32:
        return is_unsigned ? PQ_BOUNDS_U32 : PQ_BOUNDS_I32;
    case PQFILE_INT64:
        return is_unsigned ? PQ_BOUNDS_U64 : PQ_BOUNDS_I64;
    case PQFILE_FLOAT:
        return PQ_BOUNDS_F32;
    case PQFILE_DOUBLE:
        return PQ_BOUNDS_F64;
    case PQFILE_BYTE_ARRAY:
        if (logical->kind == PQFILE_LOGICAL_DECIMAL)
            return PQ_BOUNDS_NONE;
        return logical->kind == PQFILE_LOGICAL_NONE || logical->kind == PQFILE_LOGICAL_BSON
                   ? PQ_BOUNDS_BYTES
                   : PQ_BOUNDS_TEXT;
    case PQFILE_FIXED_LEN_BYTE_ARRAY:
        if (logical->kind == PQFILE_LOGICAL_DECIMAL || logical->kind == PQFILE_LOGICAL_FLOAT16)
            return PQ_BOUNDS_NONE;
        return PQ_BOUNDS_FIXED;
    case PQFILE_INT96:
    default:
        return PQ_BOUNDS_NONE;
    }
}

void pq_bounds_init(struct pq_bounds *b, const struct pqfile_node *node,
                    const struct pqfile_allocator *allocator)
{
    *b = (struct pq_bounds){.kind = pq_bounds_kind_of(node),
                            .width = (uint32_t)pqfile_value_size(node->type, node->type_length)};
    pq_buffer_init(&b->min, allocator);
    pq_buffer_init(&b->max, allocator);
}

void pq_bounds_dispose(struct pq_bounds *b)
{
    pq_buffer_dispose(&b->min);
    pq_buffer_dispose(&b->max);
}

void pq_bounds_clear(struct pq_bounds *b)
{
    b->any = false;
    pq_buffer_clear(&b->min);
    pq_buffer_clear(&b->max);
}

bool pq_bounds_failed(const struct pq_bounds *b)
{
    return b->min.failed || b->max.failed;
}

/* ---- comparing ---- */

/* One comparison of numbers in unaligned bytes, and one search through an aligned array. Floating
 * point starts from infinities, so that what has only NaN leaves min above max. */
#define DEFINE_ORDER(name, type, first_min, first_max)                                             \
    static int compare_##name(const uint8_t *a, const uint8_t *b)                                  \
    {                                                                                              \
        type x, y;                                                                                 \
        memcpy(&x, a, sizeof x);                                                                   \
        memcpy(&y, b, sizeof y);                                                                   \
        return (x > y) - (x < y);                                                                  \
    }                                                                                              \
    static bool range_##name(const type *values, size_t count, type *min_out, type *max_out)       \
    {                                                                                              \
        type min = first_min, max = first_max;                                                     \
        for (size_t i = 0; i < count; i++) {                                                       \
            min = values[i] < min ? values[i] : min;                                               \
            max = values[i] > max ? values[i] : max;                                               \
        }                                                                                          \
        *min_out = min;                                                                            \
        *max_out = max;                                                                            \
        return min <= max;                                                                         \
    }

DEFINE_ORDER(boolean, uint8_t, UINT8_MAX, 0)
DEFINE_ORDER(i32, int32_t, INT32_MAX, INT32_MIN)
DEFINE_ORDER(u32, uint32_t, UINT32_MAX, 0)
DEFINE_ORDER(i64, int64_t, INT64_MAX, INT64_MIN)
DEFINE_ORDER(u64, uint64_t, UINT64_MAX, 0)
DEFINE_ORDER(f32, float, INFINITY, -INFINITY)
DEFINE_ORDER(f64, double, (double)INFINITY, -(double)INFINITY)

static int compare_bytes(struct pqfile_bytes a, struct pqfile_bytes b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.data, b.data, len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

int pq_bounds_compare(enum pq_bounds_kind kind, struct pqfile_bytes a, struct pqfile_bytes b)
{
    switch (kind) {
    case PQ_BOUNDS_BOOLEAN:
        return compare_boolean(a.data, b.data);
    case PQ_BOUNDS_I32:
        return compare_i32(a.data, b.data);
    case PQ_BOUNDS_U32:
        return compare_u32(a.data, b.data);
    case PQ_BOUNDS_I64:
        return compare_i64(a.data, b.data);
    case PQ_BOUNDS_U64:
        return compare_u64(a.data, b.data);
    case PQ_BOUNDS_F32:
        return compare_f32(a.data, b.data);
    case PQ_BOUNDS_F64:
        return compare_f64(a.data, b.data);
    case PQ_BOUNDS_NONE:
    case PQ_BOUNDS_BYTES:
    case PQ_BOUNDS_TEXT:
    case PQ_BOUNDS_FIXED:
    default:
        return compare_bytes(a, b);
    }
}

/* ---- collecting ---- */

static struct pqfile_bytes content(const struct pq_buffer *b)
{
    return (struct pqfile_bytes){b->data, b->len};
}

static void set(struct pq_buffer *b, struct pqfile_bytes value)
{
    b->len = 0;
    pq_buffer_add(b, value.data, value.len);
}

static void take(struct pq_bounds *b, struct pqfile_bytes min, struct pqfile_bytes max)
{
    if (!b->any || pq_bounds_compare(b->kind, min, content(&b->min)) < 0)
        set(&b->min, min);
    if (!b->any || pq_bounds_compare(b->kind, max, content(&b->max)) > 0)
        set(&b->max, max);
    b->any = true;
}

void pq_bounds_merge(struct pq_bounds *b, const struct pq_bounds *from)
{
    if (from->any && !pq_bounds_failed(b) && !pq_bounds_failed(from))
        take(b, content(&from->min), content(&from->max));
}

static void add_bytes(struct pq_bounds *b, const struct pqfile_bytes *values, size_t count)
{
    struct pqfile_bytes min = values[0], max = values[0];
    for (size_t i = 1; i < count; i++) {
        if (compare_bytes(values[i], min) < 0)
            min = values[i];
        else if (compare_bytes(values[i], max) > 0)
            max = values[i];
    }
    take(b, min, max);
}

static void add_fixed(struct pq_bounds *b, const uint8_t *values, size_t count)
{
    const uint8_t *min = values, *max = values;
    for (size_t i = 1; i < count; i++) {
        const uint8_t *value = values + i * b->width;
        if (memcmp(value, min, b->width) < 0)
            min = value;
        else if (memcmp(value, max, b->width) > 0)
            max = value;
    }
    take(b, (struct pqfile_bytes){min, b->width}, (struct pqfile_bytes){max, b->width});
}

union number {
    uint8_t boolean;
    int32_t i32;
    uint32_t u32;
    int64_t i64;
    uint64_t u64;
    float f32;
    double f64;
};

static bool range(enum pq_bounds_kind kind, const void *values, size_t count, union number *min,
                  union number *max)
{
    switch (kind) {
    case PQ_BOUNDS_BOOLEAN:
        return range_boolean(values, count, &min->boolean, &max->boolean);
    case PQ_BOUNDS_I32:
        return range_i32(values, count, &min->i32, &max->i32);
    case PQ_BOUNDS_U32:
        return range_u32(values, count, &min->u32, &max->u32);
    case PQ_BOUNDS_I64:
        return range_i64(values, count, &min->i64, &max->i64);
    case PQ_BOUNDS_U64:
        return range_u64(values, count, &min->u64, &max->u64);
    case PQ_BOUNDS_F32: /* either zero stands for both: the bounds must hold for both */
        if (!range_f32(values, count, &min->f32, &max->f32))
            return false;
        min->f32 = fpclassify(min->f32) == FP_ZERO ? -0.0F : min->f32;
        max->f32 = fpclassify(max->f32) == FP_ZERO ? 0.0F : max->f32;
        return true;
    case PQ_BOUNDS_F64:
        if (!range_f64(values, count, &min->f64, &max->f64))
            return false;
        min->f64 = fpclassify(min->f64) == FP_ZERO ? -0.0 : min->f64;
        max->f64 = fpclassify(max->f64) == FP_ZERO ? 0.0 : max->f64;
        return true;
    case PQ_BOUNDS_NONE:
    case PQ_BOUNDS_BYTES:
    case PQ_BOUNDS_TEXT:
    case PQ_BOUNDS_FIXED:
    default:
        return false;
    }
}

void pq_bounds_add(struct pq_bounds *b, const void *values, size_t count)
{
    if (count == 0 || b->kind == PQ_BOUNDS_NONE || pq_bounds_failed(b))
        return;
    if (b->kind == PQ_BOUNDS_BYTES || b->kind == PQ_BOUNDS_TEXT) {
        add_bytes(b, values, count);
        return;
    }
    if (b->kind == PQ_BOUNDS_FIXED) {
        add_fixed(b, values, count);
        return;
    }
    union number min, max;
    if (range(b->kind, values, count, &min, &max))
        take(b, (struct pqfile_bytes){(const uint8_t *)&min, b->width},
             (struct pqfile_bytes){(const uint8_t *)&max, b->width});
}

/* ---- storing ---- */

static bool continues_character(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* Where to cut so that at most `bytes_max` are left, of text between two characters. */
static size_t cut(enum pq_bounds_kind kind, struct pqfile_bytes value, size_t bytes_max)
{
    size_t len = bytes_max;
    if (kind == PQ_BOUNDS_TEXT)
        while (len > 0 && continues_character(value.data[len]))
            len--;
    return len;
}

/* Makes bytes larger than everything that begins with them; returns their new length, 0 when there
 * is none. Of a character only the last byte is raised, so that it stays one. */
static size_t raise(enum pq_bounds_kind kind, uint8_t *bytes, size_t len)
{
    for (; len > 0; len--) {
        uint8_t *last = &bytes[len - 1];
        uint8_t max = 0xff;
        if (kind == PQ_BOUNDS_TEXT) /* of ASCII, or of a continuation; a lead byte is left alone */
            max = *last < 0x80 ? 0x7f : continues_character(*last) ? 0xbf : 0;
        if (*last < max) {
            *last = (uint8_t)(*last + 1);
            return len;
        }
        if (kind == PQ_BOUNDS_TEXT) /* the whole character goes */
            while (len > 1 && continues_character(bytes[len - 1]))
                len--;
    }
    return 0;
}

static int store_one(struct pqfile_bytes value, size_t len, struct pq_arena *arena,
                     struct pqfile_bytes *out)
{
    char *copy = pq_arena_text(arena, value.data, len);
    if (copy == NULL)
        return pq_arena_code(arena);
    *out = (struct pqfile_bytes){(uint8_t *)copy, len};
    return 0;
}

static int store_max(enum pq_bounds_kind kind, struct pqfile_bytes max, uint32_t bytes_max,
                     struct pq_arena *arena, struct pqfile_statistics *out)
{
    size_t len = cut(kind, max, bytes_max);
    uint8_t *copy = (uint8_t *)pq_arena_text(arena, max.data, len);
    if (copy == NULL)
        return pq_arena_code(arena);
    len = raise(kind, copy, len);
    if (len == 0)
        return store_one(max, max.len, arena, &out->max);
    out->max = (struct pqfile_bytes){copy, len};
    out->max_inexact = true;
    return 0;
}

int pq_bounds_store(const struct pq_bounds *b, uint32_t bytes_max, struct pq_arena *arena,
                    struct pqfile_statistics *statistics_out)
{
    if (!b->any)
        return 0;
    struct pqfile_bytes min = content(&b->min), max = content(&b->max);
    bool cuts = b->kind == PQ_BOUNDS_BYTES || b->kind == PQ_BOUNDS_TEXT;
    struct pqfile_statistics *out = statistics_out;
    out->min_inexact = cuts && min.len > bytes_max;
    int rc =
        store_one(min, out->min_inexact ? cut(b->kind, min, bytes_max) : min.len, arena, &out->min);
    if (rc < 0)
        return rc;
    if (cuts && max.len > bytes_max)
        rc = store_max(b->kind, max, bytes_max, arena, out);
    else
        rc = store_one(max, max.len, arena, &out->max);
    if (rc < 0)
        return rc;
    out->has_min = out->has_max = true;
    return 0;
}
