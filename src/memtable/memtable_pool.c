/* memtable_pool.c: chunks between two memtables.
 *
 * Blocks come straight from the system, as heap_zeroes makes them: malloc would give their pages
 * back behind our backs, and take them anew, page by page, for the next memtable. The pool ages: an
 * eighth of what has not been needed since the last look goes, so that after a burst of writes its
 * memory returns within half a minute of looks that are a second apart. */
#include "memtable/memtable_internal.h"

#include "base/assert.h"

#include "base/no_libc_heap.h"

enum { AGE_SHARE = 8 };

struct memtable_spare { /* lies in its own block */
    struct memtable_spare *following;
};

void memtable_pool_init(struct memtable_pool *pool, struct heap *heap)
{
    *pool = (struct memtable_pool){.heap = heap};
}

void memtable_pool_limit(struct memtable_pool *pool, size_t bytes_max)
{
    pool->count_max = bytes_max / MEMTABLE_CHUNK_BYTES;
}

static void *pop(struct memtable_pool *pool)
{
    struct memtable_spare *spare = pool->spares;
    pool->spares = spare->following;
    if (--pool->count < pool->count_least)
        pool->count_least = pool->count;
    return spare;
}

void *memtable_pool_take(struct memtable_pool *pool, struct heap *heap)
{
    ASSERT(pool == NULL || pool->heap == heap);
    if (pool != NULL && pool->spares != NULL)
        return pop(pool);
    return heap_zeroes(heap, MEMTABLE_CHUNK_BYTES);
}

void memtable_pool_give(struct memtable_pool *pool, struct heap *heap, void *ptr)
{
    if (pool == NULL || pool->count >= pool->count_max) {
        heap_zeroes_free(heap, ptr, MEMTABLE_CHUNK_BYTES);
        return;
    }
    struct memtable_spare *spare = ptr;
    spare->following = pool->spares;
    pool->spares = spare;
    pool->count++;
}

size_t memtable_pool_age(struct memtable_pool *pool)
{
    size_t beyond = pool->count > pool->count_max ? pool->count - pool->count_max : 0;
    size_t aged = (pool->count_least + AGE_SHARE - 1) / AGE_SHARE;
    pool->count_least = pool->count;
    return beyond > aged ? beyond : aged;
}

void memtable_pool_drop(struct memtable_pool *pool)
{
    if (pool->spares != NULL)
        heap_zeroes_free(pool->heap, pop(pool), MEMTABLE_CHUNK_BYTES);
}

void memtable_pool_dispose(struct memtable_pool *pool)
{
    while (pool->spares != NULL)
        memtable_pool_drop(pool);
}
