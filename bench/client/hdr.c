/* hdr.c: a log-linear histogram, after the idea of HdrHistogram (G. Tene).
 *
 * Values below 2,048 ns have a slot each. Above, a value is shifted right until it fits 11 bits;
 * its slot is (shift, 11 bits). The top bit is always set there, so each shift needs 1,024 slots
 * only, and slots of increasing values are increasing numbers:
 *
 *     value            shift   slot
 *     0 .. 2047        0       value
 *     2048 .. 4095     1       1 * 1024 + (value >> 1)
 *     ...              n       n * 1024 + (value >> n)
 *
 * A slot is at most 1/1024 of its value wide, which keeps three digits. Recording costs a count of
 * leading zeros and three additions; there is no allocation and nothing to rescale, so that two
 * histograms merge by addition. */
#include "bench/client/hdr.h"

#include "base/assert.h"

#include <math.h>
#include <string.h>

void hdr_reset(struct hdr *hdr)
{
    memset(hdr, 0, sizeof(*hdr));
}

size_t hdr_slot_of(uint64_t value_ns)
{
    if (value_ns > HDR_VALUE_MAX_NS)
        value_ns = HDR_VALUE_MAX_NS;
    unsigned top = 63 - (unsigned)__builtin_clzll(value_ns | 1);
    unsigned shift = top > HDR_SUB_BITS ? top - HDR_SUB_BITS : 0;
    size_t slot = ((size_t)shift << HDR_SUB_BITS) + (size_t)(value_ns >> shift);
    ASSERT(slot < HDR_SLOT_COUNT);
    return slot;
}

uint64_t hdr_slot_value(size_t slot)
{
    ASSERT(slot < HDR_SLOT_COUNT);
    size_t linear = (size_t)2 << HDR_SUB_BITS;
    if (slot < linear)
        return slot;
    unsigned shift = (unsigned)(slot >> HDR_SUB_BITS) - 1;
    uint64_t digits = slot - ((uint64_t)shift << HDR_SUB_BITS);
    return ((digits + 1) << shift) - 1;
}

void hdr_record(struct hdr *hdr, uint64_t value_ns, uint64_t count)
{
    if (count == 0)
        return;
    if (value_ns > HDR_VALUE_MAX_NS)
        hdr->clipped += count;
    hdr->counts[hdr_slot_of(value_ns)] += count;
    if (hdr->total == 0 || value_ns < hdr->min_ns)
        hdr->min_ns = value_ns;
    if (value_ns > hdr->max_ns)
        hdr->max_ns = value_ns;
    hdr->total += count;
    hdr->sum_ns += (double)value_ns * (double)count;
}

void hdr_merge(struct hdr *into, const struct hdr *from)
{
    if (from->total == 0)
        return;
    for (size_t i = 0; i < HDR_SLOT_COUNT; i++)
        into->counts[i] += from->counts[i];
    if (into->total == 0 || from->min_ns < into->min_ns)
        into->min_ns = from->min_ns;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    into->total += from->total;
    into->clipped += from->clipped;
    into->sum_ns += from->sum_ns;
}

uint64_t hdr_percentile(const struct hdr *hdr, double percent)
{
    if (hdr->total == 0)
        return 0;
    if (percent >= 100)
        return hdr->max_ns;
    /* The last factor keeps 99.9 % of 20,000 at 19,980, which in doubles is a little more. */
    double wanted = ceil((percent > 0 ? percent : 0) / 100 * (double)hdr->total * (1 - 1e-12));
    uint64_t rank = wanted < 1 ? 1 : (uint64_t)wanted;
    uint64_t seen = 0;
    for (size_t i = 0; i < HDR_SLOT_COUNT; i++) {
        seen += hdr->counts[i];
        if (seen >= rank) {
            uint64_t value = hdr_slot_value(i);
            return value < hdr->max_ns ? value : hdr->max_ns;
        }
    }
    return hdr->max_ns;
}

double hdr_mean(const struct hdr *hdr)
{
    return hdr->total != 0 ? hdr->sum_ns / (double)hdr->total : 0;
}
