/* fixture.c: see fixture.h. The sums here are deliberately the plainest possible, and share no code
 * with the library. */
#include "fixture.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SHOWN_MAX = 20 };

static size_t failure_count;

void check_that(bool condition, const char *file, int line, const char *text, const char *format,
                ...)
{
    if (condition)
        return;
    if (failure_count++ >= SHOWN_MAX)
        return;
    va_list arguments;
    va_start(arguments, format);
    (void)fprintf(stderr, "%s:%d: [%s] not true: %s: ", file, line, vecmath_isa_name(), text);
    (void)vfprintf(stderr, format, arguments); /* NOLINT(clang-analyzer-valist.Uninitialized) */
    (void)fprintf(stderr, "\n");
    va_end(arguments);
}

int run_tests(const struct test *tests, size_t count)
{
    const char *names[VECMATH_ISA_MAX];
    const size_t isa_count = vecmath_isa_list(names);
    for (size_t isa = 0; isa < isa_count; isa++) {
        for (size_t i = 0; i < count; i++) {
            CHECK(vecmath_select(names[isa], NULL, 0) == VECMATH_OK, "%s", names[isa]);
            CHECK(strcmp(vecmath_isa_name(), names[isa]) == 0, "%s", names[isa]);
            const size_t before = failure_count;
            tests[i].run();
            (void)printf("%s %s %s\n", failure_count == before ? "ok    " : "FAILED", names[isa],
                         tests[i].name);
        }
    }
    if (failure_count > 0)
        (void)fprintf(stderr, "%zu checks failed\n", failure_count);
    return failure_count > 0 || isa_count == 0;
}

static void must(bool condition, const char *what)
{
    if (!condition) {
        perror(what);
        exit(99); /* for meson: the test itself is broken */
    }
}

void guarded_open(struct guarded *guarded, size_t bytes, bool from_end, size_t gap)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t inner = (bytes + gap + page - 1) / page * page + page;
    guarded->page_bytes = inner + 2 * page;
    guarded->pages =
        mmap(NULL, guarded->page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(guarded->pages != MAP_FAILED, "mmap");
    char *first = guarded->pages;
    must(mprotect(first, page, PROT_NONE) == 0, "mprotect");
    must(mprotect(first + page + inner, page, PROT_NONE) == 0, "mprotect");
    /* What surrounds the data is NaN, so that reading too much shows even inside the pages. */
    memset(first + page, 0xff, inner);
    guarded->data = from_end ? first + page + inner - gap - bytes : first + page + gap;
}

void guarded_close(struct guarded *guarded)
{
    must(munmap(guarded->pages, guarded->page_bytes) == 0, "munmap");
}

/* ---- data ---- */

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t mixed = *state;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

static float make_float(enum data_kind kind, uint64_t random)
{
    const float unit = (float)(int32_t)(random >> 32) * 0x1p-31f;
    switch (kind) {
    case DATA_INTEGERS:
        return (float)((int)(random % 7) - 3);
    case DATA_DENORMAL:
        return unit * 0x1p-127f;
    case DATA_TINY:
        return unit * 1e-25f;
    case DATA_LARGE:
        return unit * 1e18f;
    case DATA_HUGE:
        return unit * 3e38f;
    case DATA_MIXED:
        return unit * powf(10, (float)(random % 46) - 30);
    case DATA_RANDOM:
    case DATA_KIND_COUNT:
    default:
        return unit;
    }
}

void fill_floats(void *floats, size_t count, enum data_kind kind, uint64_t seed)
{
    uint64_t state = seed * 1000003;
    for (size_t i = 0; i < count; i++) {
        float value = make_float(kind, next_random(&state));
        memcpy((char *)floats + i * sizeof value, &value, sizeof value);
    }
}

void fill_bytes(void *bytes, size_t count, uint64_t seed)
{
    uint64_t state = seed * 1000003;
    for (size_t i = 0; i < count; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)next_random(&state);
}

const size_t lengths[] = {
    1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,  12,  13,  14,  15,   16,    17, 18, 19,
    20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,  31,  32,  33,  34,   35,    36, 37, 38,
    39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49,  50,  51,  52,  53,   54,    55, 56, 57,
    58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 100, 128, 768, 784, 1536, 65535,
};
const size_t length_count = sizeof lengths / sizeof lengths[0];

/* ---- sums in double ---- */

static double value_at(const void *floats, size_t i)
{
    float value;
    memcpy(&value, (const char *)floats + i * sizeof value, sizeof value);
    return (double)value;
}

struct exact exact_l2_squared(const void *a, const void *b, size_t n)
{
    struct exact sum = {0, 0};
    for (size_t i = 0; i < n; i++)
        sum.value += pow(value_at(a, i) - value_at(b, i), 2);
    sum.magnitude = sum.value;
    return sum;
}

struct exact exact_dot(const void *a, const void *b, size_t n)
{
    struct exact sum = {0, 0};
    for (size_t i = 0; i < n; i++) {
        sum.value += value_at(a, i) * value_at(b, i);
        sum.magnitude += fabs(value_at(a, i) * value_at(b, i));
    }
    return sum;
}

struct exact exact_l1(const void *a, const void *b, size_t n)
{
    struct exact sum = {0, 0};
    for (size_t i = 0; i < n; i++)
        sum.value += fabs(value_at(a, i) - value_at(b, i));
    sum.magnitude = sum.value;
    return sum;
}

double exact_cosine(const void *a, const void *b, size_t n)
{
    double norm_a = sqrt(exact_dot(a, a, n).value);
    double norm_b = sqrt(exact_dot(b, b, n).value);
    return norm_a == 0 || norm_b == 0 ? 0 : exact_dot(a, b, n).value / norm_a / norm_b;
}

uint64_t exact_hamming(const void *a, const void *b, size_t byte_count)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < byte_count * 8; i++) {
        unsigned x = ((const uint8_t *)a)[i / 8];
        unsigned y = ((const uint8_t *)b)[i / 8];
        bits += ((x ^ y) >> (i % 8)) & 1;
    }
    return bits;
}

double relative_bound(size_t n)
{
    return ((double)n / 8 + 10) * 0x1p-24;
}

bool same_bits(float a, float b)
{
    uint32_t x;
    uint32_t y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    return x == y;
}

bool within_bound(float score, struct exact exact, size_t n)
{
    if (fabs(exact.value) >= (double)FLT_MAX)
        return score == (exact.value > 0 ? FLT_MAX : -FLT_MAX);
    /* Products under 2^-149 round to zero or to the smallest denormal. */
    double allowed = relative_bound(n) * exact.magnitude + (double)n * 0x1p-149;
    return fabs((double)score - exact.value) <= allowed;
}
