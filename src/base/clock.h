/* Time as an interface, so that tests and the simulator can turn it. Monotonic time is for
 * deadlines and durations; realtime only for what people read and for TTL. No clock ever orders
 * writes. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t clock_monotonic_ns(void);
/* Microseconds since 1970, CLOCK_REALTIME. */
int64_t clock_realtime_us(void);

/* RFC 3339 in UTC with microseconds, "2026-01-31T12:00:00.000001Z": 27 bytes and a NUL. The year is
 * clamped to 0..9999. */
enum { CLOCK_TEXT_SIZE = 28 };
void clock_format_us(int64_t realtime_us, char text_out[CLOCK_TEXT_SIZE]);
/* Any RFC 3339 time with offset or Z, up to nanoseconds (cut to microseconds). 0 or
 * PDB_INVALID_ARGUMENT. */
int clock_parse(const char *ptr, unsigned long len, int64_t *realtime_us_out);

#endif
