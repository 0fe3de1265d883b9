/* ivf_search.c: which lists, and the scan of them.
 *
 * The nearer half of the groups of lists is found first, then their lists ranked, and scanned from
 * the nearest on: so the bound that a row has to beat is tight early, and most rows cost nothing
 * but their share of a vector instruction.
 *
 * How many lists. `nprobe` finds the neighbours of a query among all rows. When only a share f of
 * the rows may be returned, the k nearest of them lie as far away as the k / f nearest of all:
 * lists grow as 1 / sqrt(f) with it, which is a guess on the safe side in many dimensions, where a
 * little farther is many more rows. And when all that brings too few rows, every list that is left
 * is scanned, by number. So is every list at once when more of them are wanted than a pool can
 * rank: never are fewer looked at than somebody has asked for.
 *
 * Rows are scored first and asked for second, but where few may be returned and a row's score costs
 * more than asking: then only those are scored. */
#include "base/bytes.h"
#include "index/pq.h"
#include "index/search_internal.h"

#include <float.h>
#include <math.h>

#include "base/no_libc_heap.h"

enum {
    SCAN_EVERY = 1000,     /* rows that may be returned: all lists are looked at */
    RANKED_PER_PROBE = 4,  /* lists are ranked for each that is scanned */
    STRETCH_MAX = 4,       /* times nprobe, where the share is found out on the way */
    LOOK_PER_SCORE = 8,    /* rows are asked for, by one call, for each that it may score */
    SPARSE = 4,            /* fewer than one in so many may be returned: these alone are scored */
    PQ_ROWS_PER_COST = 16, /* rows of PQ scored at the cost of one row of a walk */
};

/* ---- which lists ---- */

static uint32_t wanted_probes(const struct index_search *search, const struct index_query *query,
                              uint32_t matches)
{
    const struct ivf *ivf = &search->index->ivf;
    const uint32_t row_count = search->index->codes.row_count;
    double probes = query->nprobe != 0 ? query->nprobe : ivf_default_probes(ivf);
    double share = (double)matches / row_count;
    if (query->nprobe == 0) { /* more results than the lists looked at would have */
        double rows = 3.0 * search->want;
        double needed = rows * ivf->list_count / row_count;
        probes = probes > needed ? probes : needed;
    }
    if (search->selective)
        probes /= sqrt(share < 1 ? share : 1);
    return probes < ivf->list_count ? (uint32_t)probes : ivf->list_count;
}

uint32_t ivf_search_groups(const struct index_search *search, uint32_t ranked)
{
    const struct ivf *ivf = &search->index->ivf;
    const struct pool_entry *groups = search->scratch->groups;
    const uint64_t enough = (uint64_t)ranked * RANKED_PER_PROBE;
    const uint32_t least = 2 + ivf->group_count / 2;
    uint32_t g = 0, covered = 0;
    for (; g < search->lists.group_count && (g < least || covered < enough); g++)
        covered += ivf->groups[groups[g].row + 1] - ivf->groups[groups[g].row];
    return g;
}

/* Groups in order of distance, as many as have enough lists between them. */
static void rank_groups(struct index_search *search)
{
    const struct ivf *ivf = &search->index->ivf;
    struct index_search_lists *lists = &search->lists;
    struct pool_entry *groups = search->scratch->groups;
    uint32_t count = 0;
    for (uint32_t first = 0; first < ivf->group_count; first += SEARCH_SCAN_ROWS) {
        uint32_t left = ivf->group_count - first;
        uint32_t some = left < SEARCH_SCAN_ROWS ? left : SEARCH_SCAN_ROWS;
        quantize_scan(&ivf->quantizer, &ivf->centroids, &lists->coded, first, some,
                      search->scratch->distances);
        for (uint32_t i = 0; i < some; i++)
            pool_insert(groups, &count, IVF_GROUPS_MAX, search->scratch->distances[i], first + i);
    }
    lists->group_count = count;
    lists->group_count = ivf_search_groups(search, lists->ranked_max);
}

void ivf_search_begin(struct index_search *search, const struct index_query *query,
                      uint32_t matches)
{
    const struct index *index = search->index;
    struct index_search_lists *lists = &search->lists;
    float *room = (float *)(void *)((char *)search->scratch->centroid_memory +
                                    bytes_align_up(quantize_query_bytes(&index->ivf.quantizer),
                                                   VECMATH_CODE_ALIGNMENT));
    const float *vector =
        ivf_vector_of(index->quantizer.metric, index->quantizer.dimension, query->vector, room);
    quantize_query(&index->ivf.quantizer, vector, search->scratch->centroid_memory, &lists->coded);
    visited_next(&search->scratch->visited);
    lists->probes = wanted_probes(search, query, matches);
    lists->every = search->want >= index->codes.row_count ||
                   (search->selective && matches <= SCAN_EVERY) || lists->probes > INDEX_EF_MAX ||
                   lists->probes == index->ivf.list_count || search->exhaustive;
    bool found_out = search->selective && matches == index->codes.row_count;
    uint64_t ranked = (uint64_t)lists->probes * (found_out ? STRETCH_MAX : 1);
    ranked = ranked < index->ivf.list_count ? ranked : index->ivf.list_count;
    lists->ranked_max = ranked < INDEX_EF_MAX ? (uint32_t)ranked : INDEX_EF_MAX;
    search->stats.scanned = lists->every;
    if (!lists->every)
        rank_groups(search);
}

static void rank_group(struct index_search *search, uint32_t *cost)
{
    const struct ivf *ivf = &search->index->ivf;
    struct index_search_lists *lists = &search->lists;
    float *distances = search->scratch->distances;
    const uint32_t group = search->scratch->groups[lists->group++].row;
    const uint32_t end = ivf->groups[group + 1];
    for (uint32_t first = ivf->groups[group]; first < end; first += SEARCH_SCAN_ROWS) {
        uint32_t some = end - first < SEARCH_SCAN_ROWS ? end - first : SEARCH_SCAN_ROWS;
        quantize_scan(&ivf->quantizer, &ivf->centroids, &lists->coded, ivf->group_count + first,
                      some, distances);
        for (uint32_t i = 0; i < some; i++)
            if (distances[i] <= FLT_MAX)
                pool_insert(search->scratch->pool, &search->pool_count, lists->ranked_max,
                            distances[i], first + i);
        *cost += some / 2 + search_insertion_cost(some, search->pool_count);
    }
}

void ivf_search_rank(struct index_search *search)
{
    uint32_t cost = 0;
    while (search->lists.group < search->lists.group_count)
        rank_group(search, &cost);
}

/* ---- rows of a list ---- */

/* The bound of one that enters: as near as the last one, or nearer. */
static float bound_of(const struct index_search *search)
{
    return search->best_count == search->want ? search->scratch->best[search->want - 1].distance
                                              : FLT_MAX;
}

static void keep(struct index_search *search, uint32_t place, float distance, uint32_t *kept)
{
    const uint32_t row = search->index->ivf.rows[place];
    if (!(distance <= bound_of(search)))
        return;
    search->lists.tested++;
    if (search->selective && !search_accepts(search, row))
        return;
    search->lists.accepted++;
    pool_insert(search->scratch->best, &search->best_count, search->want, distance, place);
    ++*kept;
}

/* The rest of one block of PQ codes, as far as it is the list's. */
static uint32_t scan_block(struct index_search *search, uint32_t *kept)
{
    const struct index *index = search->index;
    struct index_search_lists *lists = &search->lists;
    float *distances = search->scratch->distances;
    const uint32_t lane = lists->place % VECMATH_PQ4_ROWS, first = lists->place - lane;
    const uint32_t left = lists->end - first;
    uint32_t near = pq_scan(&index->quantizer, &index->codes, &search->coded,
                            first / VECMATH_PQ4_ROWS, bound_of(search), distances);
    near &= UINT32_MAX << lane;
    near &= left < VECMATH_PQ4_ROWS ? ~(UINT32_MAX << left) : UINT32_MAX;
    for (; near != 0; near &= near - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(near);
        keep(search, first + i, distances[i], kept);
    }
    const uint32_t rows = (left < VECMATH_PQ4_ROWS ? left : VECMATH_PQ4_ROWS) - lane;
    lists->place += rows;
    search->stats.distances += rows;
    return VECMATH_PQ4_ROWS / PQ_ROWS_PER_COST;
}

static uint32_t scan_places(struct index_search *search, uint32_t *kept)
{
    const struct index *index = search->index;
    struct index_search_lists *lists = &search->lists;
    float *distances = search->scratch->distances;
    const uint32_t first = lists->place, left = lists->end - first;
    const uint32_t count = left < SEARCH_SCAN_ROWS ? left : SEARCH_SCAN_ROWS;
    quantize_scan(&index->quantizer, &index->codes, &search->coded, first, count, distances);
    for (uint32_t i = 0; i < count; i++)
        keep(search, first + i, distances[i], kept);
    lists->place += count;
    search->stats.distances += count;
    return count / 2;
}

/* Of the next places those whose rows may be returned. */
static uint32_t score_places(struct index_search *search, uint32_t *kept)
{
    const struct index *index = search->index;
    struct index_search_lists *lists = &search->lists;
    struct index_scratch *scratch = search->scratch;
    const uint32_t first = lists->place;
    uint32_t count = 0;
    for (; lists->place < lists->end && count < SEARCH_SCAN_ROWS; lists->place++) {
        if (lists->place - first >= LOOK_PER_SCORE * SEARCH_SCAN_ROWS)
            break;
        lists->tested++;
        if (search_accepts(search, index->ivf.rows[lists->place]))
            scratch->rows[count++] = lists->place;
    }
    quantize_score(&index->quantizer, &index->codes, &search->coded, scratch->rows, count,
                   scratch->distances);
    for (uint32_t i = 0; i < count; i++)
        if (scratch->distances[i] <= bound_of(search)) {
            pool_insert(scratch->best, &search->best_count, search->want, scratch->distances[i],
                        scratch->rows[i]);
            ++*kept;
        }
    lists->accepted += count;
    search->stats.distances += count;
    return count + (lists->place - first) / 16;
}

static bool is_sparse(const struct index_search *search)
{
    const struct index_search_lists *lists = &search->lists;
    return search->selective && search->index->quantizer.kind != QUANTIZE_PQ &&
           (lists->every || lists->tested > 64) && lists->accepted * SPARSE < lists->tested;
}

static uint32_t scan_some(struct index_search *search)
{
    uint32_t kept = 0, cost;
    if (search->index->quantizer.kind == QUANTIZE_PQ)
        cost = scan_block(search, &kept);
    else if (is_sparse(search))
        cost = score_places(search, &kept);
    else
        cost = scan_places(search, &kept);
    return cost + 1 + search_insertion_cost(kept, search->best_count);
}

/* ---- from list to list ---- */

static void begin_list(struct index_search *search, uint32_t list, float distance)
{
    const struct ivf *ivf = &search->index->ivf;
    search->lists.place = ivf->lists[list];
    search->lists.end = ivf->lists[list + 1];
    if (search->index->quantizer.kind == QUANTIZE_PQ)
        search->coded.base = distance;
    (void)visited_test_and_set(&search->scratch->visited, list);
    search->stats.expanded++;
}

/* Whether the nearest lists that have been looked at are enough. */
static bool is_enough(const struct index_search *search)
{
    const struct index_search_lists *lists = &search->lists;
    if (lists->next < lists->probes)
        return false;
    if (!search->selective)
        return true;
    double share = (double)(lists->accepted + 1) / (double)(lists->tested + 1);
    return lists->next >= lists->probes / sqrt(share < 1 ? share : 1);
}

static bool next_near_list(struct index_search *search)
{
    struct index_search_lists *lists = &search->lists;
    const bool probed =
        lists->next >= search->pool_count ||
        (lists->ranked_max == lists->probes ? lists->next >= lists->probes : is_enough(search));
    if (probed)
        return false;
    const struct pool_entry *near = &search->scratch->pool[lists->next++];
    begin_list(search, near->row, near->distance);
    return true;
}

/* The next list by number that has not been looked at. */
static bool next_list(struct index_search *search)
{
    const struct ivf *ivf = &search->index->ivf;
    struct index_search_lists *lists = &search->lists;
    float distance;
    while (lists->list < ivf->list_count && visited_test(&search->scratch->visited, lists->list))
        lists->list++;
    if (lists->list == ivf->list_count)
        return false;
    quantize_scan(&ivf->quantizer, &ivf->centroids, &lists->coded, ivf->group_count + lists->list,
                  1, &distance);
    begin_list(search, lists->list++, distance);
    return true;
}

bool ivf_search_step(struct index_search *search, uint32_t *budget)
{
    struct index_search_lists *lists = &search->lists;
    while (*budget > 0) {
        uint32_t cost = 1;
        if (lists->place < lists->end) {
            cost = scan_some(search);
        } else if (!lists->every && lists->group < lists->group_count) {
            rank_group(search, &cost);
        } else if (lists->every) {
            if (!next_list(search))
                return true;
        } else if (!next_near_list(search)) {
            if (search->best_count >= search->k)
                return true;
            lists->every = search->stats.scanned = true;
        }
        *budget -= cost < *budget ? cost : *budget;
    }
    return false;
}
