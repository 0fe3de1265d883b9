/* hnsw_search.c: the walk.
 *
 * Waiting for memory is what it costs, so everything is asked for early: the links of the row that
 * will probably be expanded next while this one's neighbours are scored, neighbours' codes a few
 * rows ahead (vecmath), their norms before their codes. Tried without gain: asking for the codes
 * behind the row that will be expanded next as well.
 *
 * Two lists. The pool has every row worth expanding. When all rows may be returned its head is the
 * answer; else `best` holds those that may, and decides when to stop, while the pool may grow to
 * its full capacity: with nine of ten rows dead it is the rest that leads on.
 *
 * Distances can be a little below 0 where codes are all but equal; the stop rule takes them as
 * 0. */
#include "index/prefetch.h"
#include "index/search_internal.h"

#include <float.h>

#include "base/no_libc_heap.h"

static void score(struct index_search *search, const uint32_t *rows, uint32_t count)
{
    const struct index *index = search->index;
    quantize_score(&index->quantizer, &index->codes, &search->coded, rows, count,
                   search->scratch->distances);
    search->stats.distances += count;
}

static void admit_best(struct index_search *search, float distance, uint32_t row)
{
    struct pool_entry *best = search->scratch->best;
    if (search->best_count == search->ef && !(distance < best[search->ef - 1].distance))
        return;
    if (search_accepts(search, row))
        pool_insert(best, &search->best_count, search->ef, distance, row);
}

/* Rows farther than this can neither be a result nor be expanded. */
static float bound_of(const struct index_search *search)
{
    const struct pool_entry *list =
        search->selective ? search->scratch->best : search->scratch->pool;
    uint32_t count = search->selective ? search->best_count : search->pool_count;
    float bound = FLT_MAX;
    if (count == search->ef)
        bound = list[count - 1].distance;
    if (search->stretch > 0 && count >= search->k) {
        float kth = list[search->k - 1].distance;
        float stop = search->stretch * (kth > 0 ? kth : 0) + search->slack;
        bound = stop < bound ? stop : bound;
    }
    return bound;
}

static uint32_t next_unexpanded(const struct index_search *search, uint32_t cursor)
{
    const struct pool_entry *pool = search->scratch->pool;
    while (cursor < search->pool_count && (pool[cursor].row & POOL_EXPANDED) != 0)
        cursor++;
    return cursor;
}

/* Links of a row that the walk has not seen, into scratch->rows. What is read is in variables of
 * its own: marks are bytes, which for all the compiler knows may be any of it. */
static uint32_t unseen_links(struct index_search *search, uint32_t row)
{
    const struct hnsw *graph = &search->index->graph;
    struct visited *visited = &search->scratch->visited;
    uint32_t *rows = search->scratch->rows;
    const uint32_t *links = hnsw_links(graph, 0, row);
    const uint32_t width = graph->link_max0;
    const uint8_t epoch = visited->epoch;
    uint8_t *marks = visited->marks;
    uint32_t count = 0;
    for (uint32_t i = 0; i < width && links[i] != HNSW_NONE; i++) {
        const uint32_t link = links[i];
        rows[count] = link;
        count += marks[link] != epoch;
        marks[link] = epoch;
    }
    return count;
}

/* Keeps of `count` scored rows those within the bound, at the head of scratch->rows and distances;
 * without branches, which nobody could foretell. */
static uint32_t drop_far(struct index_scratch *scratch, uint32_t count, float bound)
{
    uint32_t *rows = scratch->rows;
    float *distances = scratch->distances;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        const float distance = distances[i];
        const uint32_t row = rows[i];
        distances[kept] = distance;
        rows[kept] = row;
        kept += distance <= bound; /* nor NaN, which damaged sums could make */
    }
    return kept;
}

/* Who is nearest of those just scored will mostly be expanded next: its links are asked for before
 * the others are sorted in, which takes about as long as they do to arrive. */
PREFETCH_INLINE void prefetch_nearest(const struct index_search *search, uint32_t count)
{
    const struct index_scratch *scratch = search->scratch;
    uint32_t nearest = 0;
    for (uint32_t i = 1; i < count; i++)
        nearest = scratch->distances[i] < scratch->distances[nearest] ? i : nearest;
    if (count > 0 && (search->cursor >= search->pool_count ||
                      scratch->distances[nearest] < scratch->pool[search->cursor].distance))
        prefetch_links(&search->index->graph, 0, scratch->rows[nearest]);
}

/* Offers scored rows to the pool; the cursor moves to the nearest that is not expanded. */
static void admit(struct index_search *search, uint32_t count, uint32_t capacity)
{
    struct index_scratch *scratch = search->scratch;
    float bound = bound_of(search);
    uint32_t first = search->cursor;
    const uint32_t near = drop_far(scratch, count, bound);
    prefetch_nearest(search, near);
    for (uint32_t i = 0; i < near; i++) {
        float distance = scratch->distances[i];
        if (distance > bound)
            continue;
        if (search->selective)
            admit_best(search, distance, scratch->rows[i]);
        search->stats.capped |= search->pool_count == capacity;
        uint32_t at =
            pool_insert(scratch->pool, &search->pool_count, capacity, distance, scratch->rows[i]);
        first = at < first ? at : first;
        bound = bound_of(search);
    }
    search->cursor = next_unexpanded(search, first);
}

static uint32_t capacity_of(const struct index_search *search)
{
    return search->selective ? INDEX_EF_MAX : search->ef;
}

/* Scores the links of a node of an upper level that have not been scored above. Returns the nearest
 * node, which is the node itself unless one of them is nearer than *best. */
static uint32_t step_above(struct index_search *search, uint32_t level, uint32_t node, float *best)
{
    const struct hnsw *graph = &search->index->graph;
    struct index_scratch *scratch = search->scratch;
    const uint32_t *links = hnsw_links(graph, level, node);
    uint32_t nodes[HNSW_M_MAX], count = 0, nearest = node;
    for (uint32_t i = 0; i < graph->link_max && links[i] != HNSW_NONE; i++) {
        const uint32_t row = graph->levels[level].rows[links[i]];
        scratch->rows[count] = row;
        nodes[count] = links[i];
        count += !visited_test_and_set(&scratch->visited, row);
    }
    score(search, scratch->rows, count);
    for (uint32_t i = 0; i < count; i++)
        if (scratch->distances[i] < *best) {
            *best = scratch->distances[i];
            nearest = nodes[i];
        }
    return nearest;
}

/* Greedily from the top to level 0. Whom it scored before cannot be nearer than the best so far, so
 * the way is the same as if it scored all links of all nodes that it comes by. Tried: putting those
 * scored on the way into the pool, which costs more than it saves. */
void hnsw_search_begin(struct index_search *search)
{
    const struct hnsw *graph = &search->index->graph;
    struct index_scratch *scratch = search->scratch;
    uint32_t node = graph->entry;
    uint32_t row = graph->level_count > 0 ? graph->levels[graph->level_count].rows[node] : node;
    visited_next(&scratch->visited);
    (void)visited_test_and_set(&scratch->visited, row);
    search->pool_count = search->cursor = 0;
    scratch->rows[0] = row;
    score(search, &row, 1);
    float best = scratch->distances[0];
    for (uint32_t level = graph->level_count; level > 0; level--) {
        for (uint32_t from = HNSW_NONE; from != node;) {
            from = node;
            node = step_above(search, level, node, &best);
        }
        node = graph->levels[level].below[node];
    }
    visited_next(&scratch->visited);
    (void)visited_test_and_set(&scratch->visited, node);
    prefetch_links(graph, 0, node);
    scratch->pool[0] = (struct pool_entry){best, node};
    search->pool_count = 1;
    search->cursor = 0;
    if (search->selective)
        admit_best(search, best, node);
}

bool hnsw_search_step(struct index_search *search, uint32_t *budget)
{
    struct pool_entry *pool = search->scratch->pool;
    const uint32_t capacity = capacity_of(search);
    while (*budget > 0) {
        if (search->cursor >= search->pool_count ||
            pool[search->cursor].distance > bound_of(search))
            return true;
        if (search->stats.distances > search->walk_max)
            return true;
        uint32_t row = pool[search->cursor].row;
        pool[search->cursor].row |= POOL_EXPANDED;
        search->stats.expanded++;
        uint32_t next = next_unexpanded(search, search->cursor + 1);
        if (next < search->pool_count)
            prefetch_links(&search->index->graph, 0, pool[next].row);
        search->cursor = next;
        uint32_t count = unseen_links(search, row);
        score(search, search->scratch->rows, count);
        admit(search, count, capacity);
        if (search->slackens)
            search_update_slack(search);
        uint32_t cost = count + 1 + search_insertion_cost(count, search->pool_count);
        *budget -= cost < *budget ? cost : *budget;
    }
    return false;
}
