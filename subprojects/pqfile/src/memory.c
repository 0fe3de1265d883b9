/* memory.c: see memory.h. */
#include "memory.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 2, CHUNK_BYTES = 16 << 10, ALIGNMENT = alignof(max_align_t) };

struct pq_arena_chunk {
    struct pq_arena_chunk *next;
    max_align_t data[];
};

static void *allocate_malloc(void *context, size_t size)
{
    (void)context;
    return malloc(size);
}

static void release_malloc(void *context, void *memory)
{
    (void)context;
    free(memory);
}

struct pqfile_allocator pq_allocator(const struct pqfile_allocator *given)
{
    if (given != NULL && given->allocate != NULL)
        return *given;
    return (struct pqfile_allocator){.allocate = allocate_malloc, .release = release_malloc};
}

void *pq_allocate(const struct pqfile_allocator *allocator, size_t size)
{
    return size == 0 ? NULL : allocator->allocate(allocator->context, size);
}

void *pq_allocate_zeroed(const struct pqfile_allocator *allocator, size_t count, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *memory = pq_allocate(allocator, bytes);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

void pq_release(const struct pqfile_allocator *allocator, void *memory)
{
    if (memory != NULL)
        allocator->release(allocator->context, memory);
}

int pq_grow(const struct pqfile_allocator *allocator, void *array, size_t *capacity, size_t need,
            size_t size)
{
    if (need <= *capacity)
        return 0;
    size_t count = *capacity < CAPACITY_MIN ? CAPACITY_MIN : *capacity;
    size_t bytes = 0;
    while (count < need)
        if (__builtin_mul_overflow(count, (size_t)2, &count))
            return PQFILE_NO_MEMORY;
    if (__builtin_mul_overflow(count, size, &bytes))
        return PQFILE_NO_MEMORY;
    void *old = NULL;
    memcpy(&old, array, sizeof old); /* any type of pointer */
    void *grown = pq_allocate(allocator, bytes);
    if (grown == NULL)
        return PQFILE_NO_MEMORY;
    if (old != NULL)
        memcpy(grown, old, *capacity * size);
    pq_release(allocator, old);
    memcpy(array, &grown, sizeof grown);
    *capacity = count;
    return 0;
}

void pq_arena_init(struct pq_arena *arena, const struct pqfile_allocator *allocator, size_t max)
{
    *arena = (struct pq_arena){.allocator = allocator, .max = max};
}

void pq_arena_dispose(struct pq_arena *arena)
{
    for (struct pq_arena_chunk *chunk = arena->chunks; chunk != NULL;) {
        struct pq_arena_chunk *next = chunk->next;
        pq_release(arena->allocator, chunk);
        chunk = next;
    }
    pq_arena_init(arena, arena->allocator, arena->max);
}

/* A chunk of its own for what is large, so that the current one's rest is not lost. */
static void *take_chunk(struct pq_arena *arena, size_t bytes)
{
    size_t data = bytes > CHUNK_BYTES / 4 ? bytes : CHUNK_BYTES;
    size_t whole = data + sizeof(struct pq_arena_chunk);
    if (whole < data || whole > arena->max - arena->bytes) {
        arena->over_max = true;
        return NULL;
    }
    struct pq_arena_chunk *chunk = pq_allocate(arena->allocator, whole);
    if (chunk == NULL)
        return NULL;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->bytes += whole;
    uint8_t *memory = (uint8_t *)chunk->data;
    if (data != bytes) {
        arena->at = memory + bytes;
        arena->end = memory + data;
    }
    return memory;
}

void *pq_arena_zeroed(struct pq_arena *arena, size_t count, size_t size)
{
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - ALIGNMENT) {
        arena->over_max = true;
        return NULL;
    }
    bytes = (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    uint8_t *memory = arena->at;
    if (memory != NULL && bytes <= (size_t)(arena->end - memory))
        arena->at += bytes;
    else
        memory = take_chunk(arena, bytes);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

char *pq_arena_text(struct pq_arena *arena, const void *data, size_t len)
{
    char *text = len == SIZE_MAX ? NULL : pq_arena_zeroed(arena, len + 1, 1);
    if (text != NULL && len > 0)
        memcpy(text, data, len);
    return text;
}

int pq_arena_code(const struct pq_arena *arena)
{
    return arena->over_max ? PQFILE_LIMIT : PQFILE_NO_MEMORY;
}
