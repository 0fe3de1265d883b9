/* compaction.c: which segments to merge next.
 *
 * A search visits every segment, so there must be few; a merge writes rows again, so there must be
 * few merges. With the segments in order of size, the first rule that finds something decides:
 *
 *   1. Idle: all of them.
 *   2. Tiers: eight or more in a row, none of them over four times the first one's size. A row is
 *      so written again about once for each factor of eight.
 *   3. Too many (twelve while busy, eight when quiet): the smallest two, and on from there as long
 *      as the next one is not larger than all before it together. What is merged has then at least
 *      doubled for most of its rows, whatever the sizes, and a huge segment is not written again
 *      for a few small ones.
 *   4. One with more than a fifth of dead rows, alone.
 *
 * Segments without a live row are no part of this: all of them go with whatever is merged, or by
 * themselves if nothing is. Dropped one by one before all else, as they once were, they kept a slow
 * machine from ever merging: where few rows are written again and again, each flush ends another
 * segment.
 *
 * A size is what a merge would write: the bytes of the live rows.
 *
 * Measured (tests/unit/engine/test_compaction.c): bytes written by flushes and merges for each byte
 * flushed, 100 flushes of 64 to 256 MiB: 2.5; with the last merge into one: 3.6 (3.9 at worst).
 * 2,500 flushes: 4.6 and 5.0, 8.9 segments on average; never over 12. Rejected, by the same
 * simulation: rule 4 alone with 8 (3.0 and 4.0; 3.6 and 4.6 at worst), tiers alone (21 segments
 * after 1,000 flushes), the cheapest merge per segment saved (4.0 and 5.0: it feeds one segment
 * that only grows), and twice eight while busy (a third of a write less, for a quarter more
 * segments to search).
 */
#include "engine/compaction.h"

#include "base/assert.h"

#include "base/no_libc_heap.h"

enum { TIER_COUNT = 8, TIER_RATIO = 4 };

struct picking {
    const struct compaction_segment *segments;
    const struct compaction_options *options;
    uint32_t *order; /* of those that are free and have live rows, by size */
    uint32_t count;  /* of them */
    uint32_t busy;
};

static uint64_t size_of(const struct compaction_segment *s)
{
    if (s->rows == 0)
        return 0;
    return (uint64_t)((double)s->bytes * ((double)s->live_rows / (double)s->rows));
}

static const struct compaction_segment *at(const struct picking *p, uint32_t i)
{
    return &p->segments[p->order[i]];
}

/* By size, then by number, so that the answer does not depend on the caller's order. */
static bool smaller(const struct compaction_segment *a, const struct compaction_segment *b)
{
    uint64_t a_size = size_of(a), b_size = size_of(b);
    return a_size != b_size ? a_size < b_size : a->number < b->number;
}

/* There are tens of them, and thousands only after merging had stopped: insertion will do. */
static void sort(struct picking *p, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct compaction_segment *s = &p->segments[i];
        ASSERT(s->live_rows <= s->rows);
        p->busy += s->busy;
        if (s->busy || s->live_rows == 0)
            continue;
        uint32_t slot = p->count++;
        for (; slot > 0 && smaller(s, at(p, slot - 1)); slot--)
            p->order[slot] = p->order[slot - 1];
        p->order[slot] = i;
    }
}

/* Those without a live row, in the caller's order. */
static uint32_t take_dead(const struct compaction_segment *segments, uint32_t count,
                          uint32_t *picked_out)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!segments[i].busy && segments[i].live_rows == 0)
            picked_out[taken++] = i;
    return taken;
}

/* Keeps `count` from `first` on; fewer if a segment would get too many rows, and none if that
 * leaves nothing to merge. */
static uint32_t take(struct picking *p, uint32_t first, uint32_t count)
{
    uint64_t rows = 0, rows_max = p->options->rows_max;
    uint32_t taken = 0;
    for (; taken < count; taken++) {
        rows += at(p, first + taken)->live_rows;
        if (rows_max != 0 && rows > rows_max)
            break;
        p->order[taken] = p->order[first + taken];
    }
    return taken >= 2 || count == 1 ? taken : 0;
}

static uint32_t pick_tier(struct picking *p)
{
    for (uint32_t first = 0; first + TIER_COUNT <= p->count; first++) {
        uint64_t limit = TIER_RATIO * size_of(at(p, first));
        uint32_t end = first + 1;
        while (end < p->count && size_of(at(p, end)) <= limit)
            end++;
        if (end - first >= TIER_COUNT)
            return take(p, first, end - first);
    }
    return 0;
}

static uint32_t pick_smallest(struct picking *p)
{
    if (p->count < 2)
        return 0;
    uint64_t sum = size_of(at(p, 0)) + size_of(at(p, 1));
    uint32_t end = 2;
    for (; end < p->count && size_of(at(p, end)) <= sum; end++)
        sum += size_of(at(p, end));
    return take(p, 0, end);
}

/* The one with the largest part of dead rows, if that is large enough. */
static uint32_t pick_partly_dead(struct picking *p)
{
    uint32_t worst = 0;
    double worst_part = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct compaction_segment *s = at(p, i);
        double part = s->rows != 0 ? (double)(s->rows - s->live_rows) / (double)s->rows : 0;
        if (part > worst_part) {
            worst_part = part;
            worst = i;
        }
    }
    if (worst_part * 100 <= COMPACTION_DEAD_PERCENT)
        return 0;
    p->order[0] = p->order[worst];
    return 1;
}

/* Segments that may stand; those being merged will be one. */
static uint32_t limit_of(const struct compaction_options *options)
{
    uint32_t rest = options->segments_max != 0 ? options->segments_max : COMPACTION_SEGMENTS_MAX;
    return options->pace == COMPACTION_BUSY ? rest + rest / 2 : rest;
}

uint32_t compaction_pick(const struct compaction_segment *segments, uint32_t count,
                         const struct compaction_options *options, uint32_t *picked_out)
{
    uint32_t dead = take_dead(segments, count, picked_out), picked = 0;
    struct picking p = {.segments = segments, .options = options, .order = picked_out + dead};
    sort(&p, count);
    if (options->pace == COMPACTION_IDLE && p.count > 1)
        picked = take(&p, 0, p.count);
    if (picked == 0)
        picked = pick_tier(&p);
    if (picked == 0 && p.count + (p.busy != 0) > limit_of(options))
        picked = pick_smallest(&p);
    if (picked == 0 && p.count != 0)
        picked = pick_partly_dead(&p);
    return dead + picked;
}
