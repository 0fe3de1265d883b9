/* A histogram with fixed, log-scaled buckets from 1 microsecond to 60 seconds: six a decade. Fixed
 * buckets make two histograms mergeable by addition, over cores and over time. Written by one core;
 * read by the same core. */
#ifndef METRICS_HISTOGRAM_H
#define METRICS_HISTOGRAM_H

#include <stdint.h>

/* The last bucket is for everything longer than the last bound. */
enum { HISTOGRAM_BOUNDS = 48, HISTOGRAM_BUCKETS = HISTOGRAM_BOUNDS + 1 };

struct histogram {
    uint64_t
        buckets[HISTOGRAM_BUCKETS]; /* how many lay above the bound before and up to this one */
    uint64_t sum_ns;
};

/* Upper bounds in ns, inclusive, ascending. */
extern const uint64_t histogram_bounds_ns[HISTOGRAM_BOUNDS];

void histogram_record(struct histogram *h, uint64_t ns);
/* For plain numbers (rows, records): 1 counts as a microsecond, so the bounds are 1 to 60
 * million. */
void histogram_record_count(struct histogram *h, uint64_t count);
/* For shares of one: 1.0 counts as a second. Below 0 and NaN: 0. */
void histogram_record_ratio(struct histogram *h, double ratio);

void histogram_merge(struct histogram *into, const struct histogram *from);
uint64_t histogram_count(const struct histogram *h);

/* The value in ns under which the share `p` (0..1) of the records lies, interpolated within its
 * bucket; 0 when empty, the last bound at most. */
uint64_t histogram_percentile(const struct histogram *h, double p);

#endif
