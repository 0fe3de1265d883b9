/* make_probe.c: how much of the truth a query finds in the lists nearest to it, for all numbers of
 * lists and all k, by one pass over half of the lists.
 *
 * A row of the truth is among the candidates if its list is looked at and codes call fewer rows
 * nearer than candidates are wanted. So no candidates are kept: the rows of the truth are scored
 * first, and of every other row that is passed counts only before which of them it lies, which is
 * nothing to do for most, as codes of the truth's farthest row are nearer than theirs. After each
 * step's lists what was counted says what a search would have found that ends there.
 *
 * Few lists find all: once a query's candidates are all right at every k even with the fewest
 * re-ranked, more lists are taken to change nothing, and are not scanned.
 *
 * Rows as near as the k-th by the truth are as good as it; they are known by the distance of their
 * codes. Sums in other orders differ in the last digits: what differs by less than `slack` is the
 * same. */
#include "base/assert.h"
#include "base/bitset.h"
#include "index/make_calibrate_internal.h"
#include "index/pq.h"

#include <float.h>
#include <math.h>

#include "base/no_libc_heap.h"

enum { MARKS = 100 }; /* of the largest k */

/* A row of the truth. */
struct mark {
    float distance;
    uint32_t row, rank;
    bool found;      /* its list has been scanned */
    uint32_t before; /* other rows that are nearer than this mark, but not than the one before */
    uint32_t beside; /* and as near as this one, with smaller numbers, which come first then */
};

struct probe {
    const struct make_calibration *c;
    const struct judge *judge;
    struct index_search search;
    uint32_t count;
    struct mark marks[MARKS];      /* nearest codes first, of those as near the smaller row */
    uint32_t at[MARKS];            /* of each rank, which mark */
    uint32_t ties[CALIBRATION_KS]; /* other rows as near as the k-th */
    float tie[CALIBRATION_KS];
    float bound, slack;
    uint32_t rows; /* scanned */
};

bool probe_fits(const struct make_calibration *c)
{
    const uint32_t lists = c->view.ivf.list_count;
    return c->view.has_lists && !quantize_has_bounds(c->view.quantizer.kind) && lists > 1 &&
           lists <= 2 * INDEX_EF_MAX;
}

/* ---- marks ---- */

static uint32_t list_of_place(const struct ivf *ivf, uint32_t place)
{
    uint32_t low = 0, high = ivf->list_count;
    while (high - low > 1) { /* lists[low] <= place < lists[high]; those between may be empty */
        const uint32_t middle = low + (high - low) / 2;
        if (ivf->lists[middle] <= place)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* PQ: codes are of what rows differ by from their list's centroid. */
static void enter_list(struct probe *probe, uint32_t list)
{
    const struct ivf *ivf = &probe->search.index->ivf;
    if (probe->search.index->quantizer.kind == QUANTIZE_PQ)
        quantize_scan(&ivf->quantizer, &ivf->centroids, &probe->search.lists.coded,
                      ivf->group_count + list, 1, &probe->search.coded.base);
}

static float score_place(struct probe *probe, uint32_t place)
{
    const struct index *index = probe->search.index;
    float distances[VECMATH_PQ4_ROWS];
    enter_list(probe, list_of_place(&index->ivf, place));
    if (index->quantizer.kind == QUANTIZE_PQ) {
        (void)pq_scan(&index->quantizer, &index->codes, &probe->search.coded,
                      place / VECMATH_PQ4_ROWS, FLT_MAX, distances);
        return distances[place % VECMATH_PQ4_ROWS];
    }
    quantize_scan(&index->quantizer, &index->codes, &probe->search.coded, place, 1, distances);
    return distances[0];
}

static void put_mark(struct probe *probe, float distance, uint32_t row, uint32_t rank)
{
    uint32_t at = probe->count++;
    for (; at > 0; at--) {
        const struct mark *before = &probe->marks[at - 1];
        if (before->distance < distance || (before->distance == distance && before->row < row))
            break;
        probe->marks[at] = *before;
    }
    probe->marks[at] = (struct mark){.distance = distance, .row = row, .rank = rank};
}

static void set_marks(struct probe *probe, uint32_t query)
{
    const struct make_calibration *c = probe->c;
    const struct pool_entry *truth = c->truth + (size_t)query * TRUTH;
    const uint32_t most = c->truth_counts[query] < MARKS ? c->truth_counts[query] : MARKS;
    for (uint32_t rank = 0; rank < most; rank++)
        put_mark(probe, score_place(probe, c->places[truth[rank].row]), truth[rank].row, rank);
    for (uint32_t i = 0; i < most; i++)
        probe->at[probe->marks[i].rank] = i;
    const float first = probe->marks[0].distance, last = probe->marks[most - 1].distance;
    probe->slack = 1e-6f * (fabsf(first) + fabsf(last));
    probe->bound = last + probe->slack;
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        if (probe->judge->tied[i])
            probe->tie[i] = probe->marks[probe->at[calibration_ks[i] - 1]].distance;
}

static void open_probe(struct make_calibration *c, uint32_t query, uint32_t probes,
                       struct make_judging *judging, struct probe *probe)
{
    const struct index_query asked = {
        .vector = (const float *)(const void *)query_at(c, query),
        .k = 1,
        .want = 1,
        .gamma = 0,
        .nprobe = probes,
    };
    judge_open(c, query, &judging->judge);
    *probe = (struct probe){.c = c, .judge = &judging->judge};
    index_search_begin(&probe->search, judging->scratch, &c->view, &asked);
    set_marks(probe, query);
}

/* ---- rows ---- */

static void count_row(struct probe *probe, uint32_t place, float distance)
{
    if (!(distance <= probe->bound))
        return;
    const uint32_t row = probe->search.index->ivf.rows[place];
    const uint32_t rank = judge_rank(probe->judge, row);
    if (rank < probe->count) {
        probe->marks[probe->at[rank]].found = true;
        return;
    }
    if (bitset_test(probe->c->excluded, row))
        return;
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        probe->ties[i] += probe->judge->tied[i] && fabsf(distance - probe->tie[i]) <= probe->slack;
    uint32_t low = 0, high = probe->count; /* the first mark that is farther */
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (probe->marks[middle].distance > distance + probe->slack)
            high = middle;
        else
            low = middle + 1;
    }
    if (low < probe->count)
        probe->marks[low].before++;
    for (; low > 0 && probe->marks[low - 1].distance >= distance - probe->slack; low--)
        probe->marks[low - 1].beside += row < probe->marks[low - 1].row;
}

static void scan_pq(struct probe *probe, uint32_t first, uint32_t end)
{
    const struct index *index = probe->search.index;
    float distances[VECMATH_PQ4_ROWS];
    for (uint32_t block = first / VECMATH_PQ4_ROWS; block * VECMATH_PQ4_ROWS < end; block++) {
        const uint32_t at = block * VECMATH_PQ4_ROWS;
        uint32_t near = pq_scan(&index->quantizer, &index->codes, &probe->search.coded, block,
                                probe->bound, distances);
        near &= at < first ? UINT32_MAX << (first - at) : UINT32_MAX;
        near &= end - at < VECMATH_PQ4_ROWS ? ~(UINT32_MAX << (end - at)) : UINT32_MAX;
        for (; near != 0; near &= near - 1) {
            const uint32_t i = (uint32_t)__builtin_ctz(near);
            count_row(probe, at + i, distances[i]);
        }
    }
}

static void scan_codes(struct probe *probe, uint32_t first, uint32_t end)
{
    const struct index *index = probe->search.index;
    float *distances = probe->search.scratch->distances;
    for (uint32_t some; first < end; first += some) {
        some = end - first < SEARCH_SCAN_ROWS ? end - first : SEARCH_SCAN_ROWS;
        quantize_scan(&index->quantizer, &index->codes, &probe->search.coded, first, some,
                      distances);
        for (uint32_t i = 0; i < some; i++)
            count_row(probe, first + i, distances[i]);
    }
}

static uint32_t rows_of_list(const struct probe *probe, uint32_t list)
{
    const struct ivf *ivf = &probe->search.index->ivf;
    return ivf->lists[list + 1] - ivf->lists[list];
}

static void scan_list(struct probe *probe, uint32_t list)
{
    const struct ivf *ivf = &probe->search.index->ivf;
    if (ivf->lists[list] == ivf->lists[list + 1])
        return;
    enter_list(probe, list);
    if (probe->search.index->quantizer.kind == QUANTIZE_PQ)
        scan_pq(probe, ivf->lists[list], ivf->lists[list + 1]);
    else
        scan_codes(probe, ivf->lists[list], ivf->lists[list + 1]);
}

/* All that have not been scanned. */
static void scan_others(struct probe *probe)
{
    const uint32_t count = probe->search.index->ivf.list_count;
    for (uint32_t list = 0; list < count; list++)
        if (!visited_test_and_set(&probe->search.scratch->visited, list))
            scan_list(probe, list);
}

/* ---- what was found ---- */

/* How many of the k nearest are among the first `want`. */
static uint32_t hits_among(const struct probe *probe, uint32_t i, uint32_t want)
{
    const uint32_t k = calibration_ks[i];
    const bool tied = probe->judge->tied[i];
    uint32_t passed = 0, right = 0, copies = 0, room = 0;
    bool met = false;
    for (uint32_t m = 0; m < probe->count; m++) {
        const struct mark *mark = &probe->marks[m];
        passed += mark->before;
        if (passed >= want)
            break;
        const bool copy = tied && fabsf(mark->distance - probe->tie[i]) <= probe->slack;
        if (copy && !met) {
            room = want - passed;
            met = true;
        }
        if (!mark->found)
            continue;
        if (mark->rank < k && passed + mark->beside < want) {
            right++;
            copies += copy;
        }
        passed++;
    }
    room = room > copies ? room - copies : 0;
    right += probe->ties[i] < room ? probe->ties[i] : room;
    return right < k ? right : k;
}

static void take_hits(const struct probe *probe, uint32_t i, uint8_t hits_out[CALIBRATION_WANTS])
{
    for (uint32_t j = 0; j < CALIBRATION_WANTS; j++)
        hits_out[j] = (uint8_t)hits_among(probe, i, index_want(calibration_ks[i]) << j);
}

/* ---- lists ---- */

/* Ranks the lists of near groups. In scratch->best: of each ranked list how many groups are nearer
 * than its own, since a search for fewer lists looks at fewer groups. */
static void rank_lists(struct index_search *search)
{
    const struct ivf *ivf = &search->index->ivf;
    struct index_scratch *scratch = search->scratch;
    uint32_t nearer[IVF_GROUPS_MAX] = {0};
    ivf_search_rank(search);
    for (uint32_t g = 0; g < search->lists.group_count; g++)
        nearer[scratch->groups[g].row] = g;
    for (uint32_t i = 0; i < search->pool_count; i++) {
        uint32_t low = 0, high = ivf->group_count;
        while (high - low > 1) {
            const uint32_t middle = low + (high - low) / 2;
            if (ivf->groups[middle] <= scratch->pool[i].row)
                low = middle;
            else
                high = middle;
        }
        scratch->best[i].row = nearer[low];
    }
}

/* The nearest `probes` lists, of those that a search for so many ranks. done: they are only
 * counted.
 */
static void scan_nearest(struct probe *probe, uint32_t probes, bool done)
{
    struct index_search *search = &probe->search;
    const uint32_t groups = ivf_search_groups(search, probes);
    uint32_t taken = 0;
    for (uint32_t i = 0; i < search->pool_count && taken < probes; i++) {
        if (search->scratch->best[i].row >= groups)
            continue;
        taken++;
        const uint32_t list = search->scratch->pool[i].row;
        if (visited_test_and_set(&search->scratch->visited, list))
            continue;
        probe->rows += rows_of_list(probe, list);
        if (!done)
            scan_list(probe, list);
    }
}

void probe_measure(struct make_calibration *c, const struct calibration *steps, uint32_t query,
                   struct make_judging *judging)
{
    struct measured *measured = &c->measured[query];
    struct probe probe;
    bool done = false, few = false;
    open_probe(c, query, (uint32_t)steps->efforts[steps->step_count - 1], judging, &probe);
    ASSERT(!probe.search.lists.every);
    rank_lists(&probe.search);
    for (uint32_t step = 0; step < steps->step_count; step++) {
        scan_nearest(&probe, (uint32_t)steps->efforts[step], done);
        bool all = true;
        for (uint32_t i = 0; i < CALIBRATION_KS; i++) {
            const uint32_t k = calibration_ks[i];
            take_hits(&probe, i, measured->hits[i][step]);
            measured->distances[i][step] = probe.rows;
            all &= measured->hits[i][step][0] == (k < probe.count ? k : probe.count);
            few |= probe.rows < k;
        }
        done |= all;
    }
    if (!few)
        return;
    /* A search that finds fewer rows than it wants looks at every list. */
    scan_others(&probe);
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        for (uint32_t step = 0; step < steps->step_count; step++)
            if (measured->distances[i][step] < calibration_ks[i]) {
                take_hits(&probe, i, measured->hits[i][step]);
                measured->distances[i][step] = c->view.codes.row_count;
            }
}

void probe_scan(struct make_calibration *c, uint32_t query, struct make_judging *judging)
{
    struct probe probe;
    open_probe(c, query, 1, judging, &probe);
    scan_others(&probe);
    for (uint32_t i = 0; i < CALIBRATION_KS; i++)
        take_hits(&probe, i, c->measured[query].scanned[i]);
}
