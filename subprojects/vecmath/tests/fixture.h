/* fixture.h: what the tests share: checks that count, memory with guard pages, data, and sums in
 * double.
 *
 * The tests also run cross-compiled under an emulator, where no test library is installed; so they
 * bring their own few lines instead of depending on one.
 */
#ifndef VECMATH_FIXTURE_H
#define VECMATH_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vecmath/vecmath.h"

/* Counts a failure and says where, when `condition` is false. Later lines of one test are cut
 * short. */
#define CHECK(condition, ...) check_that((condition), __FILE__, __LINE__, #condition, __VA_ARGS__)

void check_that(bool condition, const char *file, int line, const char *text, const char *format,
                ...) __attribute__((format(printf, 5, 6)));

struct test {
    const char *name;
    void (*run)(void);
};

#define TEST(function)                                                                             \
    {                                                                                              \
#function, function                                                                        \
    }

/* Runs every test once per implementation this processor has, that one being selected. Returns what
 * main() returns. */
int run_tests(const struct test *tests, size_t count);

/* `bytes` of memory between two pages that must not be touched. from_end: the memory ends `gap`
 * bytes before the second page; otherwise it begins `gap` bytes after the first. */
struct guarded {
    void *data;
    void *pages;
    size_t page_bytes;
};

void guarded_open(struct guarded *guarded, size_t bytes, bool from_end, size_t gap);
void guarded_close(struct guarded *guarded);

enum data_kind {
    DATA_RANDOM,   /* uniform in [-1, 1) */
    DATA_INTEGERS, /* -3..3: every sum is exact in float32, so one lost element shows */
    DATA_DENORMAL, /* under 2^-126 */
    DATA_TINY,     /* about 1e-25: squares underflow */
    DATA_LARGE,    /* about 1e18: squares fit, long sums may not */
    DATA_HUGE,     /* about 3e38: everything overflows */
    DATA_MIXED,    /* magnitudes from 1e-30 to 1e15 */
    DATA_KIND_COUNT,
};

/* Writes `count` floats at any address; the same seed gives the same values. */
void fill_floats(void *floats, size_t count, enum data_kind kind, uint64_t seed);
void fill_bytes(void *bytes, size_t count, uint64_t seed);

/* Lengths to test: 1..67, 100, 128, 768, 784, 1536, 65535. */
extern const size_t lengths[];
extern const size_t length_count;

/* A sum in double: its value and the sum of its terms' absolute values. */
struct exact {
    double value;
    double magnitude;
};

struct exact exact_l2_squared(const void *a, const void *b, size_t n);
struct exact exact_dot(const void *a, const void *b, size_t n);
struct exact exact_l1(const void *a, const void *b, size_t n);
double exact_cosine(const void *a, const void *b, size_t n);
uint64_t exact_hamming(const void *a, const void *b, size_t byte_count);

/* The relative part of the bound that vecmath.h states: (n / 8 + 10) * 2^-24. */
double relative_bound(size_t n);

/* True when both have the same bits. */
bool same_bits(float a, float b);

/* True when `score` obeys the bound that vecmath.h states; saturated when the exact value is too
 * big. */
bool within_bound(float score, struct exact exact, size_t n);

#endif
