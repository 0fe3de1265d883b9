/* The pool of a walk: entries sorted by distance in one array, nearest first. One array instead of
 * two heaps: the nearest that is not expanded is found by a cursor, an insertion moves on average a
 * few hundred bytes, and the k-th best, which the stop rule asks for, is an index. */
#ifndef INDEX_POOL_H
#define INDEX_POOL_H

#include <stdint.h>
#include <string.h>

struct pool_entry {
    float distance;
    uint32_t row; /* or node; with flags */
};

#define POOL_EXPANDED 0x80000000u
#define POOL_ROW      0x3fffffffu

/* Inserts behind entries of the same distance; when `capacity` are there the last one falls out.
 * Returns the position, or `capacity` when the new one is no nearer than the last. */
static inline uint32_t pool_insert(struct pool_entry *pool, uint32_t *count, uint32_t capacity,
                                   float distance, uint32_t row)
{
    uint32_t size = *count;
    if (size == capacity && (size == 0 || !(distance < pool[size - 1].distance)))
        return capacity;
    /* halving without branches, which nobody could foretell */
    uint32_t low = 0;
    for (uint32_t length = size; length > 0;) {
        const uint32_t half = length - length / 2;
        low += pool[low + half - 1].distance <= distance ? half : 0;
        length -= half;
    }
    uint32_t kept = size < capacity ? size : capacity - 1;
    memmove(pool + low + 1, pool + low, (kept - low) * sizeof *pool);
    pool[low] = (struct pool_entry){distance, row};
    *count = kept + 1;
    return low;
}

#endif
