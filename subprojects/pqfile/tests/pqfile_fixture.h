/* pqfile_fixture.h: what the unit tests share: cmocka, an allocator that fails on demand, and
 * seeded random numbers. */
#ifndef PQFILE_FIXTURE_H
#define PQFILE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pqfile/pqfile.h"

/* Fails the allocation numbered `failing` (from 1; 0: none) and counts what is handed out. */
struct faulty {
    size_t failing;
    size_t calls;
    size_t live;
};

static inline void *faulty_allocate(void *context, size_t size)
{
    struct faulty *faulty = context;
    assert_true(size != 0);
    if (++faulty->calls == faulty->failing)
        return NULL;
    void *memory = malloc(size);
    assert_non_null(memory);
    memset(memory, 0xa5, size); /* nobody may rely on zeros */
    faulty->live++;
    return memory;
}

static inline void faulty_release(void *context, void *memory)
{
    struct faulty *faulty = context;
    assert_non_null(memory);
    faulty->live--;
    free(memory);
}

static inline struct pqfile_allocator faulty_allocator(struct faulty *faulty)
{
    return (struct pqfile_allocator){faulty_allocate, faulty_release, faulty};
}

/* splitmix64: seeded, so that a failing test fails again. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* A copy of exactly `len` bytes on the heap, so that the sanitizers see a read behind its end. */
static inline uint8_t *exact_copy(const void *data, size_t len)
{
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    assert_non_null(copy);
    if (len != 0)
        memcpy(copy, data, len);
    return copy;
}

#endif
