/* topk.c: a binary heap with the worst kept item at its root: a stream of n items costs one
 * comparison each once the k best are warm. Sorting swaps the root to the end, in place, without a
 * second array. */
#include "base/topk.h"

#include "base/assert.h"

#include <math.h>

/* True if `a` ranks behind `b`. */
static bool worse(const struct topk_item *a, const struct topk_item *b)
{
    return a->distance > b->distance || (a->distance == b->distance && a->key > b->key);
}

static void sift_up(struct topk_item *items, size_t at)
{
    struct topk_item item = items[at];
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!worse(&item, &items[parent]))
            break;
        items[at] = items[parent];
        at = parent;
    }
    items[at] = item;
}

static void sift_down(struct topk_item *items, size_t count, size_t at)
{
    struct topk_item item = items[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && worse(&items[child + 1], &items[child]))
            child++;
        if (!worse(&items[child], &item))
            break;
        items[at] = items[child];
        at = child;
    }
    items[at] = item;
}

void topk_init(struct topk *topk, struct topk_item *items, size_t capacity)
{
    ASSERT(items != NULL || capacity == 0);
    *topk = (struct topk){items, capacity, 0};
}

float topk_bound(const struct topk *topk)
{
    if (topk->count < topk->capacity)
        return INFINITY;
    return topk->count != 0 ? topk->items[0].distance : -INFINITY;
}

bool topk_push(struct topk *topk, float distance, uint64_t key)
{
    struct topk_item item = {distance, key};
    if (isnan(distance) || topk->capacity == 0)
        return false;
    if (topk->count < topk->capacity) {
        topk->items[topk->count] = item;
        sift_up(topk->items, topk->count++);
        return true;
    }
    if (!worse(&topk->items[0], &item))
        return false;
    topk->items[0] = item;
    sift_down(topk->items, topk->count, 0);
    return true;
}

void topk_sort(struct topk *topk)
{
    for (size_t left = topk->count; left > 1; left--) {
        struct topk_item worst = topk->items[0];
        topk->items[0] = topk->items[left - 1];
        topk->items[left - 1] = worst;
        sift_down(topk->items, left - 1, 0);
    }
}
