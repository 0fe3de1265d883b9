/* Latency histogram with three significant digits, from 1 us to 1 h, mergeable. Times are in
 * nanoseconds. */
#ifndef BENCH_HDR_H
#define BENCH_HDR_H

#include <stddef.h>
#include <stdint.h>

enum {
    HDR_SUB_BITS = 10, /* each power of two is cut into 1,024 slots: 0.1 % */
    HDR_SLOT_COUNT = 33 * (1 << HDR_SUB_BITS),
};
#define HDR_VALUE_MAX_NS ((uint64_t)3600 * 1000 * 1000 * 1000)

/* A zeroed one is empty. 270 KiB: keep it on the heap. Merging is adding, so each thread has its
 * own. */
struct hdr {
    uint64_t counts[HDR_SLOT_COUNT];
    uint64_t total;
    uint64_t clipped;        /* of total: values above an hour, counted as an hour */
    uint64_t min_ns, max_ns; /* as recorded, not rounded; 0 when empty */
    double sum_ns;
};

void hdr_reset(struct hdr *hdr);
/* Counts `value_ns` `count` times. */
void hdr_record(struct hdr *hdr, uint64_t value_ns, uint64_t count);
void hdr_merge(struct hdr *into, const struct hdr *from);
/* The smallest recorded time (at most 0.1 % above the true one) which `percent` of all values do
 * not exceed; 0 when empty. 100 gives max_ns. */
uint64_t hdr_percentile(const struct hdr *hdr, double percent);
double hdr_mean(const struct hdr *hdr);

/* The slot of a value and the largest value of a slot: hdr_slot_of(hdr_slot_value(s)) == s. */
size_t hdr_slot_of(uint64_t value_ns);
uint64_t hdr_slot_value(size_t slot);

#endif
