/* arena.c: chunks of growing size, cut from the front. A block over a quarter of the next chunk's
 * size gets a chunk of its own ("large"), linked behind the current one, so that a 3 MB body does
 * not throw away the rest of a half-used chunk and can be given back early.
 *
 *   chunks -> [current | next ... end] -> [large] -> [older] -> ... -> [first]
 *
 * Chunks double from 8 KiB to 256 KiB: a small request costs one allocation, a large one few. A
 * reset keeps the largest that is still small, so that one owner's requests of one kind soon cost
 * none. Under AddressSanitizer the unused rest is poisoned, so that running over a block is found
 * as it is on the heap. */
#include "base/arena.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/heap.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#endif

#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(ptr, size)   ASAN_POISON_MEMORY_REGION((ptr), (size))
#define UNPOISON(ptr, size) ASAN_UNPOISON_MEMORY_REGION((ptr), (size))
#else
#define POISON(ptr, size)   ((void)(ptr), (void)(size))
#define UNPOISON(ptr, size) ((void)(ptr), (void)(size))
#endif

struct arena_chunk {
    struct arena_chunk *older;
    size_t size; /* of the whole allocation */
    bool large;  /* holds one block only */
};

enum {
    CHUNK_HEADER = 32, /* keeps what follows aligned for any type */
    CHUNK_MIN = 8192,
    CHUNK_MAX = 256 * 1024,
    KEEP_MAX = 32 * 1024, /* a chunk up to this survives a reset */
    ALIGNMENT_MAX = 4096,
};
_Static_assert(sizeof(struct arena_chunk) <= CHUNK_HEADER,
               "the header fits before the first block");
_Static_assert(CHUNK_HEADER % alignof(max_align_t) == 0, "blocks behind the header are aligned");

static char *chunk_body(struct arena_chunk *chunk)
{
    return (char *)chunk + CHUNK_HEADER;
}

static struct arena_chunk *current_chunk(const struct arena *arena)
{
    return arena->chunks != NULL && !arena->chunks->large ? arena->chunks : NULL;
}

/* Tests: one attempt; false when it must fail. */
static bool admit(struct arena *arena)
{
    if (arena->fail_at == 1)
        return false;
    if (arena->fail_at > 1)
        arena->fail_at--;
    return true;
}

static bool within_limit(const struct arena *arena, size_t more)
{
    return arena->bytes_max == 0 ||
           (arena->bytes_used <= arena->bytes_max && more <= arena->bytes_max - arena->bytes_used);
}

static struct arena_chunk *chunk_take(struct arena *arena, size_t size, bool large)
{
    if (!within_limit(arena, size))
        return NULL;
    struct arena_chunk *chunk = heap_alloc(NULL, size);
    if (chunk == NULL)
        return NULL;
    *chunk = (struct arena_chunk){NULL, size, large};
    arena->bytes_used += size;
    return chunk;
}

static void chunk_release(struct arena *arena, struct arena_chunk *chunk)
{
    arena->bytes_used -= chunk->size;
    UNPOISON(chunk, chunk->size);
    heap_free(NULL, chunk);
}

static void use_chunk(struct arena *arena, struct arena_chunk *chunk)
{
    arena->next = chunk_body(chunk);
    arena->end = (char *)chunk + chunk->size;
    POISON(arena->next, (size_t)(arena->end - arena->next));
}

void arena_init(struct arena *arena, size_t bytes_max)
{
    *arena = (struct arena){.bytes_max = bytes_max};
}

void arena_reset(struct arena *arena)
{
    struct arena_chunk *kept = NULL; /* chunks grow: the newest that is small enough */
    for (struct arena_chunk *chunk = arena->chunks, *older; chunk != NULL; chunk = older) {
        older = chunk->older;
        if (kept == NULL && !chunk->large && chunk->size <= KEEP_MAX)
            kept = chunk;
        else
            chunk_release(arena, chunk);
    }
    arena->chunks = kept;
    arena->next = arena->end = NULL;
    if (kept != NULL) {
        kept->older = NULL;
        use_chunk(arena, kept);
    }
}

void arena_dispose(struct arena *arena)
{
    if (arena == NULL)
        return;
    while (arena->chunks != NULL) {
        struct arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->older;
        chunk_release(arena, chunk);
    }
    arena->next = arena->end = NULL;
}

/* A block with a chunk of its own; it stays behind the current chunk. */
static void *alloc_large(struct arena *arena, size_t size, size_t alignment)
{
    size_t slack = alignment > alignof(max_align_t) ? alignment : 0;
    struct arena_chunk *chunk = chunk_take(arena, CHUNK_HEADER + slack + size, true);
    if (chunk == NULL)
        return NULL;
    struct arena_chunk *current = current_chunk(arena);
    struct arena_chunk **link = current != NULL ? &current->older : &arena->chunks;
    chunk->older = *link;
    *link = chunk;
    uintptr_t start = (uintptr_t)chunk_body(chunk);
    return chunk_body(chunk) + (bytes_align_up(start, alignment) - start);
}

static size_t next_chunk_size(const struct arena *arena)
{
    const struct arena_chunk *current = current_chunk(arena);
    if (current == NULL)
        return CHUNK_MIN;
    return current->size < CHUNK_MAX / 2 ? current->size * 2 : CHUNK_MAX;
}

/* A new current chunk with room for `need` bytes: of the usual size, or as small as a near limit
 * forces. */
static bool add_chunk(struct arena *arena, size_t need)
{
    struct arena_chunk *chunk = chunk_take(arena, next_chunk_size(arena), false);
    if (chunk == NULL)
        chunk = chunk_take(arena, CHUNK_HEADER + need, false);
    if (chunk == NULL)
        return false;
    chunk->older = arena->chunks;
    arena->chunks = chunk;
    use_chunk(arena, chunk);
    return true;
}

/* Cuts a block from the current chunk; NULL: it does not fit. */
static void *cut_block(struct arena *arena, size_t size, size_t alignment)
{
    uintptr_t start = (uintptr_t)arena->next;
    size_t room = (size_t)(arena->end - arena->next);
    size_t pad = bytes_align_up(start, alignment) - start;
    if (arena->next == NULL || pad > room || size > room - pad)
        return NULL;
    char *block = arena->next + pad;
    UNPOISON(block, size);
    arena->next = block + size;
    return block;
}

void *arena_alloc_aligned(struct arena *arena, size_t size, size_t alignment)
{
    ASSERT(alignment != 0 && (alignment & (alignment - 1)) == 0 && alignment <= ALIGNMENT_MAX);
    if (!admit(arena) || size > SIZE_MAX / 2)
        return NULL;
    size = size != 0 ? size : 1;
    void *block = cut_block(arena, size, alignment);
    if (block != NULL)
        return block;
    if (size + alignment > next_chunk_size(arena) / 4)
        return alloc_large(arena, size, alignment);
    return add_chunk(arena, size + alignment) ? cut_block(arena, size, alignment) : NULL;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    return arena_alloc_aligned(arena, size, alignof(max_align_t));
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t size, size_t alignment)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return arena_alloc_aligned(arena, total, alignment);
}

void *arena_calloc(struct arena *arena, size_t count, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    void *block = arena_alloc(arena, total);
    if (block != NULL)
        memset(block, 0, total);
    return block;
}

/* The link that leads to the chunk of the large block `ptr`, or NULL. */
static struct arena_chunk **find_large(struct arena *arena, const char *ptr)
{
    struct arena_chunk **link = &arena->chunks;
    for (; *link != NULL; link = &(*link)->older) {
        const char *start = (const char *)*link;
        if ((*link)->large && ptr > start && ptr < start + (*link)->size)
            return link;
    }
    return NULL;
}

/* Grows a large block in its chunk; the kernel may move the pages instead of copying them. */
static void *grow_large(struct arena *arena, struct arena_chunk **link, size_t new_size)
{
    struct arena_chunk *chunk = *link;
    size_t before = chunk->size, size = CHUNK_HEADER + new_size;
    if (size > before && !within_limit(arena, size - before))
        return NULL;
    chunk = heap_realloc(NULL, chunk, size);
    if (chunk == NULL)
        return NULL;
    chunk->size = size;
    *link = chunk;
    arena->bytes_used = arena->bytes_used - before + size;
    return chunk_body(chunk);
}

void *arena_grow(struct arena *arena, void *ptr, size_t old_size, size_t new_size)
{
    if (ptr == NULL)
        return arena_alloc(arena, new_size);
    if (new_size > SIZE_MAX / 2)
        return NULL;
    char *block = ptr;
    size_t old_taken = old_size != 0 ? old_size : 1;
    if (arena->next == block + old_taken && new_size != 0 &&
        (size_t)(arena->end - block) >= new_size) {
        if (!admit(arena))
            return NULL;
        arena->next = block + new_size;
        UNPOISON(block, new_size);
        POISON(arena->next, (size_t)(arena->end - arena->next));
        return block;
    }
    if (new_size <= old_size)
        return block;
    struct arena_chunk **link = old_size >= CHUNK_MIN / 8 ? find_large(arena, block) : NULL;
    if (link != NULL && chunk_body(*link) == block)
        return admit(arena) ? grow_large(arena, link, new_size) : NULL;
    void *moved = arena_alloc(arena, new_size);
    if (moved == NULL)
        return NULL;
    memcpy(moved, block, old_size);
    arena_release_large(arena, block);
    return moved;
}

void arena_release_large(struct arena *arena, void *ptr)
{
    if (ptr == NULL)
        return;
    struct arena_chunk **link = find_large(arena, ptr);
    if (link == NULL)
        return;
    struct arena_chunk *chunk = *link;
    *link = chunk->older;
    chunk_release(arena, chunk);
}

struct pdb_text arena_copy_text(struct arena *arena, const char *ptr, size_t len)
{
    char *copy = len < SIZE_MAX ? arena_alloc_aligned(arena, len + 1, 1) : NULL;
    if (copy == NULL)
        return (struct pdb_text){NULL, 0};
    if (len != 0)
        memcpy(copy, ptr, len);
    copy[len] = '\0';
    return (struct pdb_text){copy, len};
}

struct pdb_text arena_format(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *copy = len >= 0 ? arena_alloc_aligned(arena, (size_t)len + 1, 1) : NULL;
    if (copy != NULL)
        len = vsnprintf(copy, (size_t)len + 1, format, again);
    va_end(again);
    return (struct pdb_text){copy, copy != NULL && len > 0 ? (size_t)len : 0};
}
