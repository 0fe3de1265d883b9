/* memory.h: the caller's allocator, and an arena for what lives and dies together (a footer).
 * Nothing else in this library calls malloc. */
#ifndef PQFILE_MEMORY_H
#define PQFILE_MEMORY_H

#include "pqfile/types.h"

/* The given allocator, or malloc's where it is NULL or zeroed. */
struct pqfile_allocator pq_allocator(const struct pqfile_allocator *given);

/* NULL when there is none left or size is 0. */
void *pq_allocate(const struct pqfile_allocator *allocator, size_t size);

/* count * size zeroed bytes; NULL also when that overflows. */
void *pq_allocate_zeroed(const struct pqfile_allocator *allocator, size_t count, size_t size);

/* NULL is legal. */
void pq_release(const struct pqfile_allocator *allocator, void *memory);

/* Makes an array of *capacity elements hold `need`, doubling; old elements are kept, new ones are
 * not set. 0 or PQFILE_NO_MEMORY with everything untouched. `array` points to the array's
 * pointer. */
int pq_grow(const struct pqfile_allocator *allocator, void *array, size_t *capacity, size_t need,
            size_t size);

struct pq_arena_chunk;

/* Memory that is released at once, never more than `max` bytes. */
struct pq_arena {
    const struct pqfile_allocator *allocator; /* outlives the arena */
    struct pq_arena_chunk *chunks;
    uint8_t *at;
    uint8_t *end;
    size_t bytes; /* taken from the allocator */
    size_t max;
    bool over_max; /* an allocation failed for max's sake: PQFILE_LIMIT, not PQFILE_NO_MEMORY */
};

void pq_arena_init(struct pq_arena *arena, const struct pqfile_allocator *allocator, size_t max);

void pq_arena_dispose(struct pq_arena *arena);

/* count * size zeroed bytes aligned as malloc's; NULL on overflow, over the maximum, or when memory
 * is out: pq_arena_code() says which. A product of 0 gives a pointer that is not NULL. */
void *pq_arena_zeroed(struct pq_arena *arena, size_t count, size_t size);

/* A copy with a NUL behind it. */
char *pq_arena_text(struct pq_arena *arena, const void *data, size_t len);

/* What a NULL meant: PQFILE_LIMIT or PQFILE_NO_MEMORY. */
int pq_arena_code(const struct pq_arena *arena);

#endif
