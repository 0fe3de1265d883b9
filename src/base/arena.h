/* Memory with one lifetime: a request, a flush, a build. Nothing in it is freed alone; the arena is
 * reset or dropped with its owner. It belongs to whoever holds the operation, and moves between
 * cores with the message that hands the operation over: it counts its own bytes and is bounded by
 * its own limit, not by a core's heap. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/text.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* newest first */
    char *next, *end;           /* the free part of the newest chunk */
    size_t bytes_used;          /* memory taken from the system */
    size_t bytes_max;           /* 0: no limit */
    /* tests: counts down; the allocation that reaches 0 fails, and all after it */
    uint64_t fail_at;
};

/* A zeroed arena is ready; this one has a limit. */
void arena_init(struct arena *arena, size_t bytes_max);
/* Keeps one small chunk for the next use, the largest that it has. */
void arena_reset(struct arena *arena);
void arena_dispose(struct arena *arena);

/* NULL past the limit or without memory. Not zeroed. `alignment`: a power of two, at most 4096. */
void *arena_alloc_aligned(struct arena *arena, size_t size, size_t alignment);
void *arena_alloc(struct arena *arena, size_t size); /* aligned for any type */
void *arena_calloc(struct arena *arena, size_t count, size_t size);
/* Like realloc for the newest block when it is still the last, else a new block and a copy. */
void *arena_grow(struct arena *arena, void *ptr, size_t old_size, size_t new_size);
/* Frees a chunk early when `ptr` is a large block that has a chunk of its own; else does
 * nothing. */
void arena_release_large(struct arena *arena, void *ptr);
/* A copy with a NUL behind it; .ptr is NULL without memory. */
struct pdb_text arena_copy_text(struct arena *arena, const char *ptr, size_t len);
struct pdb_text arena_format(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define arena_new(arena, type) ((type *)arena_calloc((arena), 1, sizeof(type)))
/* `count` of `type`, not zeroed, the product checked. */
#define arena_array(arena, type, count)                                                            \
    ((type *)arena_alloc_array((arena), (count), sizeof(type), alignof(type)))
void *arena_alloc_array(struct arena *arena, size_t count, size_t size, size_t alignment);

#endif
