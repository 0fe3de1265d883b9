/* search_bound.c: what error bounds of codes decide.
 *
 * Who is ranked again. The k-th smallest upper bound is a distance that k rows are sure to be
 * within; a candidate whose lower bound lies beyond it cannot be a result. The others are returned,
 * up to what was asked for: with few bits the bound lets many pass where rows are as near as each
 * other, and few where they are not.
 *
 * When to stop. The k-th best of many estimates is the luckiest rather than the nearest, so the
 * ratio of the stop rule is short of what it is with true distances. A part of the k-th row's bound
 * is added, unless gamma was measured with these estimates, or is the caller's. */
#include "index/search_internal.h"

#include <float.h>

#include "base/no_libc_heap.h"

/* Of the bound, which is three deviations. */
static const float slack_share = 0.5f;

void search_update_slack(struct index_search *search)
{
    const struct index *index = search->index;
    const struct pool_entry *list =
        search->selective ? search->scratch->best : search->scratch->pool;
    const uint32_t count = search->selective ? search->best_count : search->pool_count;
    if (count >= search->k) {
        const struct pool_entry *kth = &list[search->k - 1];
        float error = quantize_error(&index->quantizer, &index->codes, &search->coded,
                                     kth->row & POOL_ROW, kth->distance);
        search->slack = slack_share * error;
    }
}

/* list: what the candidates come from, with distances as codes give them. other: room for k. */
uint32_t search_drop_hopeless(const struct index_search *search, struct pool_entry *list,
                              uint32_t count, struct pool_entry *other)
{
    const struct index *index = search->index;
    uint32_t upper_count = 0, kept = 0;
    if (!quantize_has_bounds(index->quantizer.kind) || count <= search->k)
        return count;
    for (uint32_t i = 0; i < count; i++) {
        float error = quantize_error(&index->quantizer, &index->codes, &search->coded,
                                     list[i].row & POOL_ROW, list[i].distance);
        pool_insert(other, &upper_count, search->k, list[i].distance + error, list[i].row);
    }
    const float bound = other[search->k - 1].distance;
    for (uint32_t i = 0; i < count; i++) {
        float error = quantize_error(&index->quantizer, &index->codes, &search->coded,
                                     list[i].row & POOL_ROW, list[i].distance);
        if (i < search->k || list[i].distance - error <= bound)
            list[kept++] = list[i];
    }
    return kept;
}
