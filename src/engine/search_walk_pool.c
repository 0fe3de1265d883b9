/* search_walk_pool.c: see the header. */
#include "engine/search_walk_pool.h"

#include "base/assert.h"
#include "engine/search_walk.h"

#include "base/no_libc_heap.h"

void walk_pool_init(struct engine_core *core)
{
    list_init(&core->walks.line);
}

void walk_pool_dispose(struct engine_core *core)
{
    struct walk_pool *pool = &core->walks;
    while (pool->idle_count > 0)
        index_scratch_close(pool->idle[--pool->idle_count], &core->r->heap);
    pool->count = 0;
}

/* Some more rows than are asked for: segments grow. */
static bool open_scratch(struct walk *walk, const struct index *index)
{
    struct walk_pool *pool = &walk->core->walks;
    uint32_t rows = index->codes.row_count, dimension = index->quantizer.dimension;
    if (rows > pool->row_max)
        pool->row_max = rows < UINT32_MAX / 2 ? rows + rows / 4 : rows;
    if (dimension > pool->dimension_max)
        pool->dimension_max = dimension;
    return index_scratch_open(&walk->core->r->heap, pool->row_max, pool->dimension_max,
                              &walk->scratch) == 0;
}

/* There is one less, and maybe nobody has one who would hand it on: all try for themselves. */
static void wake_all(struct walk_pool *pool)
{
    for (struct list_link *link; (link = list_pop_front(&pool->line)) != NULL;) {
        struct walk *next = container_of(link, struct walk, line_link);
        task_queue(next->core->r, next->task);
    }
}

enum walk_take walk_pool_take(struct walk *walk, const struct index *index)
{
    struct walk_pool *pool = &walk->core->walks;
    if (walk->scratch == NULL && pool->idle_count > 0) {
        walk->scratch = pool->idle[--pool->idle_count];
    } else if (walk->scratch == NULL && pool->count == WALK_SCRATCHES) {
        if (!list_linked(&walk->line_link))
            list_push_back(&pool->line, &walk->line_link);
        return WALK_IN_LINE;
    }
    if (walk->scratch != NULL && index_scratch_fits(walk->scratch, index))
        return WALK_TAKEN;
    pool->count += walk->scratch == NULL;
    index_scratch_close(walk->scratch, &walk->core->r->heap);
    walk->scratch = NULL;
    if (open_scratch(walk, index))
        return WALK_TAKEN;
    pool->count--;
    wake_all(pool);
    return WALK_NO_MEMORY;
}

void walk_pool_give(struct walk *walk)
{
    struct walk_pool *pool = &walk->core->walks;
    struct index_scratch *scratch = walk->scratch;
    list_remove(&walk->line_link);
    walk->scratch = NULL;
    if (scratch == NULL)
        return;
    struct list_link *link = list_pop_front(&pool->line);
    if (link == NULL) {
        ASSERT(pool->idle_count < WALK_SCRATCHES);
        pool->idle[pool->idle_count++] = scratch;
        return;
    }
    struct walk *next = container_of(link, struct walk, line_link);
    next->scratch = scratch;
    task_queue(next->core->r, next->task);
}
