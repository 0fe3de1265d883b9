/* hnsw_repair.c: no graph is finished before every row can be reached, and left again.
 *
 * Links are directed, and choosing anew can take a row's last incoming one: no width of search
 * finds it again. (Known elsewhere, too: half of the rows in one report.) Outgoing ones can fail as
 * badly: a search that lands in a cluster nothing leads out of finds nothing else. So, on level 0:
 *
 * Reach: a breadth-first walk from the entry point's row marks what it reaches, and in each list
 * the links it went by: the tree. For a row left over, the nearest reached rows are found by the
 * usual walk, which cannot leave what is reached; one of them links to it, in a free slot or
 * instead of the longest link that is not of the tree. As tree links stay, what was reached stays
 * reached; the walk goes on from the new row, so one pass ends with all.
 *
 * Return: rows from which the entry point can be reached are found by passes over all lists until
 * nothing changes. The others are taken in the reverse of the walk's order. One of them has a way
 * back if one of its links now has; else it is given a link to the nearest row that has, again in
 * place of none of the tree. If all of its links are of the tree, they lead to rows later in the
 * order, which have been given ways: so there always is room.
 *
 * After both, every row leads to every other. Steps are bounded: rows walked by, or rows mended. */
#include "base/assert.h"
#include "base/bitset.h"
#include "index/hnsw_internal.h"

#include "base/no_libc_heap.h"

enum {
#ifdef PDB_STRESS
    WALK_ROWS = 3,
    MEND_ROWS = 1,
#else
    WALK_ROWS = 16384,
    MEND_ROWS = 32,
#endif
    FREE_LOOK = 8, /* so many of the nearest rows are looked at for a free slot first */
};

void hnsw_repair_begin(struct hnsw_build *build)
{
    struct hnsw_repair *repair = &build->repair;
    bitset_set(repair->reached, build->entry_row);
    bitset_set(repair->returns, build->entry_row);
    repair->queue[0] = build->entry_row;
    repair->head = 0;
    repair->tail = 1;
    repair->cursor = 0;
}

static uint32_t slot_count(const struct hnsw_build *build, uint32_t row)
{
    const uint32_t *links = hnsw_links(&build->graph, 0, row);
    uint32_t count = 0;
    while (count < build->graph.link_max0 && links[count] != HNSW_NONE)
        count++;
    return count;
}

/* The longest link of a full list that is not of the tree, or link_max0. */
static uint32_t spare_slot(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t row)
{
    const uint32_t width = build->graph.link_max0;
    const uint32_t *links = hnsw_links(&build->graph, 0, row);
    uint32_t longest = width;
    quantize_score_row(build->quantizer, build->codes, row, links, width, worker->distances);
    for (uint32_t i = 0; i < width; i++) {
        bool tree = build->repair.tree[row] >> i & 1;
        if (!tree && (longest == width || worker->distances[i] > worker->distances[longest]))
            longest = i;
    }
    return longest;
}

/* A slot of `row` that may be overwritten, free or spare; link_max0: none. */
static uint32_t open_slot(const struct hnsw_build *build, struct hnsw_worker *worker, uint32_t row)
{
    uint32_t count = slot_count(build, row);
    return count < build->graph.link_max0 ? count : spare_slot(build, worker, row);
}

static void walk_on(struct hnsw_build *build)
{
    struct hnsw_repair *repair = &build->repair;
    uint32_t row = repair->queue[repair->head++];
    const uint32_t *links = hnsw_links(&build->graph, 0, row);
    for (uint32_t i = 0; i < build->graph.link_max0 && links[i] != HNSW_NONE; i++) {
        if (bitset_test(repair->reached, links[i]))
            continue;
        bitset_set(repair->reached, links[i]);
        repair->tree[row] |= (uint64_t)1 << i;
        repair->queue[repair->tail++] = links[i];
    }
}

/* Candidates near `row`, all of them reached, into worker->pool. */
static uint32_t reached_near(const struct hnsw_build *build, struct hnsw_worker *worker,
                             uint32_t row)
{
    uint32_t start = hnsw_descend(build, worker, 0, row);
    if (!bitset_test(build->repair.reached, start))
        start = build->entry_row;
    return hnsw_beam(build, worker, 0, row, start);
}

/* Who shall link to a row that was not reached, and in which slot. */
static uint32_t choose_source(const struct hnsw_build *build, struct hnsw_worker *worker,
                              uint32_t row, uint32_t *slot_out)
{
    const uint32_t width = build->graph.link_max0;
    uint32_t count = reached_near(build, worker, row);
    for (uint32_t i = 0; i < count && i < FREE_LOOK; i++) {
        *slot_out = slot_count(build, worker->pool[i].row);
        if (*slot_out < width)
            return worker->pool[i].row;
    }
    for (uint32_t i = 0; i < count; i++) {
        *slot_out = open_slot(build, worker, worker->pool[i].row);
        if (*slot_out < width)
            return worker->pool[i].row;
    }
    /* A tree of t rows has t - 1 links, and t rows have room for more: somebody has a slot. */
    for (uint32_t i = 0; i < build->repair.tail; i++) {
        *slot_out = open_slot(build, worker, build->repair.queue[i]);
        if (*slot_out < width)
            return build->repair.queue[i];
    }
    const bool some_list_has_room = false;
    ASSERT(some_list_has_room);
    return HNSW_NONE;
}

static void mend_reach(struct hnsw_build *build, struct hnsw_worker *worker, uint32_t row)
{
    struct hnsw_repair *repair = &build->repair;
    uint32_t slot;
    uint32_t source = choose_source(build, worker, row, &slot);
    hnsw_links(&build->graph, 0, source)[slot] = row;
    repair->tree[source] |= (uint64_t)1 << slot;
    bitset_set(repair->reached, row);
    repair->queue[repair->tail++] = row;
    repair->repaired++;
}

bool hnsw_repair_reach(struct hnsw_build *build, struct hnsw_worker *worker)
{
    struct hnsw_repair *repair = &build->repair;
    uint32_t walked = 0, mended = 0;
    while (walked < WALK_ROWS && mended < MEND_ROWS) {
        if (repair->head < repair->tail) {
            walk_on(build);
            walked++;
        } else if (repair->cursor == build->graph.row_count) {
            ASSERT(repair->tail == build->graph.row_count);
            repair->cursor = 0;
            return false;
        } else {
            uint32_t row = repair->cursor++;
            walked++;
            if (!bitset_test(repair->reached, row)) {
                mend_reach(build, worker, row);
                mended++;
            }
        }
    }
    return true;
}

/* ---- the way back ---- */

static bool returns_by_a_link(const struct hnsw_build *build, uint32_t row)
{
    const uint32_t *links = hnsw_links(&build->graph, 0, row);
    for (uint32_t i = 0; i < build->graph.link_max0 && links[i] != HNSW_NONE; i++)
        if (bitset_test(build->repair.returns, links[i]))
            return true;
    return false;
}

static uint32_t nearest_that_returns(const struct hnsw_build *build, struct hnsw_worker *worker,
                                     uint32_t row)
{
    uint32_t count = reached_near(build, worker, row);
    for (uint32_t i = 0; i < count; i++)
        if (bitset_test(build->repair.returns, worker->pool[i].row))
            return worker->pool[i].row;
    uint32_t start = hnsw_descend(build, worker, 0, row);
    return bitset_test(build->repair.returns, start) ? start : build->entry_row;
}

static void mend_return(struct hnsw_build *build, struct hnsw_worker *worker, uint32_t row)
{
    uint32_t target = nearest_that_returns(build, worker, row);
    uint32_t slot = open_slot(build, worker, row);
    ASSERT(slot < build->graph.link_max0);
    hnsw_links(&build->graph, 0, row)[slot] = target;
    build->repair.repaired++;
}

bool hnsw_repair_return(struct hnsw_build *build, struct hnsw_worker *worker)
{
    struct hnsw_repair *repair = &build->repair;
    const uint32_t n = build->graph.row_count;
    uint32_t walked = 0, mended = 0;
    while (walked < WALK_ROWS && mended < MEND_ROWS) {
        if (repair->cursor == n) {
            if (repair->mending || bitset_count(repair->returns, n) == n)
                return false;
            repair->mending = !repair->changed;
            repair->changed = false;
            repair->cursor = 0;
        }
        uint32_t i = repair->cursor++;
        uint32_t row = repair->queue[repair->mending ? n - 1 - i : i];
        walked++;
        if (bitset_test(repair->returns, row))
            continue;
        bool returns = returns_by_a_link(build, row);
        if (!returns && repair->mending) {
            mend_return(build, worker, row);
            mended++;
            returns = true;
        }
        if (returns) {
            bitset_set(repair->returns, row);
            repair->changed = true;
        }
    }
    return true;
}
