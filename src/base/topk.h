/* The k best of a stream of scored items: a bounded heap whose root is the worst kept. Ties are
 * broken by the smaller key, so that results do not depend on the order of arrival. */
#ifndef BASE_TOPK_H
#define BASE_TOPK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct topk_item {
    float distance; /* lower is better; a caller negates similarities */
    uint64_t key;   /* what the caller identifies the item by */
};

struct topk {
    struct topk_item *items; /* memory of the caller: `capacity` items */
    size_t capacity, count;
};

void topk_init(struct topk *topk, struct topk_item *items, size_t capacity);

/* The distance that a further item must beat (or tie with a smaller key): +infinity while there is
 * room. */
float topk_bound(const struct topk *topk);

/* True if it was kept. NaN distances are never kept. */
bool topk_push(struct topk *topk, float distance, uint64_t key);

/* Sorts the items best first; afterwards the heap is used up: only items and count are valid. */
void topk_sort(struct topk *topk);

#endif
