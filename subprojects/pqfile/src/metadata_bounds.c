/* metadata_bounds.c: statistics, and which of them can be trusted.
 *
 * There are two generations of smallest and largest values. The old fields compared all bytes as
 * signed and all integers as signed, so they are taken only where that is the type's order. The new
 * ones mean something only if the footer gives the column an order.
 *
 * A NaN as a bound says that the writer compared wrongly: both bounds are dropped. Zeros have two
 * signs that are equal in order but not in bits, so +0 as smallest becomes -0 and -0 as largest
 * becomes +0, as the format demands of readers.
 *
 * Source: parquet.thrift of apache/parquet-format 2.10, Statistics, ColumnOrder. */
#include <math.h>
#include <string.h>

#include "metadata_internal.h"

enum {
    CONVERTED_INTERVAL = 21, /* has no order */
    FLOAT16_BYTES = 2,
};

void pq_statistics_parse(struct pq_thrift_reader *r, struct pq_raw_statistics *raw_out)
{
    struct pq_thrift_field f;
    *raw_out = (struct pq_raw_statistics){0};
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        switch (f.id) {
        case 1:
            raw_out->old_max.data = pq_thrift_binary(r, f.type, &raw_out->old_max.len);
            break;
        case 2:
            raw_out->old_min.data = pq_thrift_binary(r, f.type, &raw_out->old_min.len);
            break;
        case 3:
            raw_out->null_count = pq_thrift_i64(r, f.type);
            raw_out->has_null_count = raw_out->null_count >= 0; /* -1: some writers' "unknown" */
            break;
        case 4:
            raw_out->distinct_count = pq_thrift_i64(r, f.type);
            raw_out->has_distinct_count = raw_out->distinct_count >= 0;
            break;
        case 5:
            raw_out->max.data = pq_thrift_binary(r, f.type, &raw_out->max.len);
            break;
        case 6:
            raw_out->min.data = pq_thrift_binary(r, f.type, &raw_out->min.len);
            break;
        case 7:
            raw_out->max_inexact = !pq_thrift_bool(r, f.type);
            break;
        case 8:
            raw_out->min_inexact = !pq_thrift_bool(r, f.type);
            break;
        default:
            pq_thrift_skip(r, f.type);
        }
    }
}

static bool has_order(const struct pqfile_node *leaf)
{
    return leaf->type != PQFILE_INT96 && leaf->converted != CONVERTED_INTERVAL &&
           leaf->logical.kind != PQFILE_LOGICAL_OTHER;
}

/* The order that the old fields were made in is the right one. */
static bool had_right_order(const struct pqfile_node *leaf)
{
    if (leaf->type == PQFILE_BYTE_ARRAY || leaf->type == PQFILE_FIXED_LEN_BYTE_ARRAY)
        return false;
    return leaf->logical.kind != PQFILE_LOGICAL_INTEGER || leaf->logical.is_signed;
}

static bool is_half_float(const struct pqfile_node *leaf)
{
    return leaf->type == PQFILE_FIXED_LEN_BYTE_ARRAY && leaf->type_length == FLOAT16_BYTES &&
           leaf->logical.kind == PQFILE_LOGICAL_FLOAT16;
}

static bool is_nan(const struct pqfile_node *leaf, struct pqfile_bytes bound)
{
    if (leaf->type == PQFILE_FLOAT) {
        float value;
        memcpy(&value, bound.data, sizeof(value));
        return isnan(value);
    }
    if (leaf->type == PQFILE_DOUBLE) {
        double value;
        memcpy(&value, bound.data, sizeof(value));
        return isnan(value);
    }
    if (is_half_float(leaf)) {
        uint16_t bits;
        memcpy(&bits, bound.data, sizeof(bits));
        return (bits & 0x7fff) > 0x7c00;
    }
    return false;
}

bool pq_bound_is_valid(const struct pqfile_node *leaf, struct pqfile_bytes bound)
{
    if (!has_order(leaf))
        return false;
    if (leaf->type == PQFILE_BYTE_ARRAY)
        return true;
    if (leaf->type == PQFILE_BOOLEAN)
        return bound.len == 1 && bound.data[0] <= 1;
    if (leaf->type == PQFILE_FIXED_LEN_BYTE_ARRAY && !is_half_float(leaf))
        return bound.len <= leaf->type_length; /* may have been cut short */
    return bound.len == pqfile_value_size(leaf->type, leaf->type_length) && !is_nan(leaf, bound);
}

void pq_bound_widen_zero(const struct pqfile_node *leaf, uint8_t *bound, size_t len, bool is_min)
{
    bool is_float = leaf->type == PQFILE_FLOAT || leaf->type == PQFILE_DOUBLE;
    if (!is_float && !is_half_float(leaf))
        return;
    bool is_zero = (bound[len - 1] & 0x7f) == 0;
    for (size_t i = 0; i + 1 < len; i++)
        is_zero = is_zero && bound[i] == 0;
    if (is_zero)
        bound[len - 1] = is_min ? 0x80 : 0;
}

static int take_bound(struct pqfile_bytes from, const struct pqfile_node *leaf, bool is_min,
                      struct pq_arena *arena, struct pqfile_bytes *bound_out)
{
    char *copy = pq_arena_text(arena, from.data, from.len);
    if (copy == NULL)
        return pq_arena_code(arena);
    pq_bound_widen_zero(leaf, (uint8_t *)copy, from.len, is_min);
    *bound_out = (struct pqfile_bytes){.data = (uint8_t *)copy, .len = from.len};
    return PQFILE_OK;
}

int pq_statistics_take(const struct pq_raw_statistics *raw, const struct pqfile_node *leaf,
                       bool is_ordered, struct pq_arena *arena,
                       struct pqfile_statistics *statistics_out)
{
    struct pqfile_bytes min = {0}, max = {0};
    bool is_new = raw->min.data != NULL || raw->max.data != NULL;
    if (is_new && is_ordered) {
        min = raw->min;
        max = raw->max;
    } else if (!is_new && had_right_order(leaf)) {
        min = raw->old_min;
        max = raw->old_max;
    }
    bool min_bad = min.data != NULL && !pq_bound_is_valid(leaf, min);
    bool max_bad = max.data != NULL && !pq_bound_is_valid(leaf, max);
    struct pqfile_statistics s = {
        .has_min = min.data != NULL && !min_bad && !max_bad,
        .has_max = max.data != NULL && !min_bad && !max_bad,
        .has_null_count = raw->has_null_count,
        .has_distinct_count = raw->has_distinct_count,
        .null_count = raw->has_null_count ? (uint64_t)raw->null_count : 0,
        .distinct_count = raw->has_distinct_count ? (uint64_t)raw->distinct_count : 0,
    };
    s.min_inexact = s.has_min && raw->min_inexact;
    s.max_inexact = s.has_max && raw->max_inexact;
    int rc = s.has_min ? take_bound(min, leaf, true, arena, &s.min) : PQFILE_OK;
    if (rc == 0 && s.has_max)
        rc = take_bound(max, leaf, false, arena, &s.max);
    if (rc == 0)
        *statistics_out = s;
    return rc;
}
