/* histogram.c: 1, 1.5, 2, 3, 5, 7 and their decades: a percentile is off by a quarter of itself at
 * worst, and the bounds that are shown to Prometheus (1, 2, 5) are among them, so that showing
 * fewer is exact.
 *
 * The bucket is found from the position of the highest bit, which leaves at most 2 bounds to
 * pass. */
#include "metrics/histogram.h"

#define DECADE(unit)                                                                               \
    1 * (uint64_t)(unit), (uint64_t)(unit)*3 / 2, 2 * (uint64_t)(unit), 3 * (uint64_t)(unit),      \
        5 * (uint64_t)(unit), 7 * (uint64_t)(unit)

const uint64_t histogram_bounds_ns[HISTOGRAM_BOUNDS] = {
    DECADE(1000),      DECADE(10000),      DECADE(100000), DECADE(1000000), DECADE(10000000),
    DECADE(100000000), DECADE(1000000000), 10000000000,    15000000000,     20000000000,
    30000000000,       50000000000,        60000000000,
};

/* The first bound that a number of n bits may be under; a test computes it anew. */
static const uint8_t first_bound[65] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  1,  3,  4,  6,  8,  10, 11, 13, 15, 17, 19,
    21, 22, 24, 26, 28, 29, 31, 33, 35, 37, 39, 40, 42, 44, 46, 48, 48, 48, 48, 48, 48, 48,
    48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48,
};

static unsigned bucket_of(uint64_t ns)
{
    unsigned bits = ns != 0 ? 64 - (unsigned)__builtin_clzll(ns) : 0;
    unsigned bucket = first_bound[bits];
    while (bucket < HISTOGRAM_BOUNDS && histogram_bounds_ns[bucket] < ns)
        bucket++;
    return bucket;
}

void histogram_record(struct histogram *h, uint64_t ns)
{
    h->buckets[bucket_of(ns)]++;
    h->sum_ns += ns;
}

void histogram_record_count(struct histogram *h, uint64_t count)
{
    histogram_record(h, count <= UINT64_MAX / 1000 ? count * 1000 : UINT64_MAX);
}

void histogram_record_ratio(struct histogram *h, double ratio)
{
    histogram_record(h, ratio > 0 ? (uint64_t)((ratio < 60 ? ratio : 60) * 1e9) : 0);
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->sum_ns += from->sum_ns;
}

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        count += h->buckets[i];
    return count;
}

uint64_t histogram_percentile(const struct histogram *h, double p)
{
    uint64_t count = histogram_count(h);
    double rank = (p < 0 ? 0 : p > 1 ? 1 : p) * (double)count, before = 0;
    for (unsigned i = 0; i < HISTOGRAM_BOUNDS && count != 0; i++) {
        double here = (double)h->buckets[i];
        if (here > 0 && before + here >= rank) {
            uint64_t low = i > 0 ? histogram_bounds_ns[i - 1] : 0;
            double share = (rank - before) / here;
            return low + (uint64_t)(share * (double)(histogram_bounds_ns[i] - low));
        }
        before += here;
    }
    return count != 0 ? histogram_bounds_ns[HISTOGRAM_BOUNDS - 1] : 0;
}
