/* heap.c: libc's heap behind counters. Blocks carry no header of ours: malloc_usable_size tells
 * what a block costs when it is freed, which keeps alignment natural and works with any malloc that
 * is linked in. A header of 16 bytes was rejected: it would make small blocks (id map entries) a
 * third larger.
 *
 * The limit is checked against the size asked for, before the allocation; the rounding of malloc
 * may take a heap past its limit by a few bytes. Only this file and tests may name libc's
 * functions.
 *
 * A heap with large_by_pages has some ten large blocks at most. Their records lie before them and
 * make a list, which heap_free looks through: so a block is told from malloc's without a guess. */
#include "base/heap.h"

#include "base/bytes.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __has_feature
#define WITH_ASAN __has_feature(address_sanitizer)
#else
#define WITH_ASAN 0
#endif

/* A leak check looks for pointers in its own heap's blocks only, not in such pages. */
#if defined(__SANITIZE_ADDRESS__) || WITH_ASAN
enum { PAGES_OF_SYSTEM = false };
#else
enum { PAGES_OF_SYSTEM = true };
#endif
enum { PAGE_BYTES = 4096, HUGE_PAGE_BYTES = 2 << 20, LINE_BYTES = 64 };

/* Counts one attempt and says whether it may go to the system. */
static bool admit(struct heap *heap, size_t size)
{
    if (heap == NULL)
        return true;
    heap->allocation_count++;
    if (heap->fail_at != 0 && heap->allocation_count >= heap->fail_at)
        return false;
    return heap->bytes_max == 0 ||
           (heap->bytes_used <= heap->bytes_max && size <= heap->bytes_max - heap->bytes_used);
}

static void add_bytes(struct heap *heap, size_t size)
{
    if (heap == NULL)
        return;
    heap->bytes_used += size;
    if (heap->bytes_used > heap->bytes_peak)
        heap->bytes_peak = heap->bytes_used;
}

static void *count_in(struct heap *heap, void *ptr)
{
    if (ptr != NULL)
        add_bytes(heap, malloc_usable_size(ptr));
    return ptr;
}

/* ---- the system's pages ---- */

static void *map_pages(size_t size)
{
    void *ptr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return ptr != MAP_FAILED ? ptr : NULL;
}

/* A wish: kernels without huge pages say no. */
static void advise_huge(void *ptr, size_t size)
{
    (void)madvise(ptr, size, MADV_HUGEPAGE);
}

struct heap_block {
    struct heap_block *next;
    void *pages; /* what is mapped, and where it begins */
    size_t bytes;
};
_Static_assert(sizeof(struct heap_block) <= LINE_BYTES, "lies in the line before the block");

static bool is_large(const struct heap *heap, size_t size)
{
    return PAGES_OF_SYSTEM && heap != NULL && heap->large_by_pages && size >= HEAP_PAGES_MIN;
}

static struct heap_block *record_of(void *ptr)
{
    return (struct heap_block *)(void *)((char *)ptr - LINE_BYTES);
}

/* Zeroed. What alignment has left over before and behind it goes back at once. */
static void *alloc_large(struct heap *heap, size_t alignment, size_t size)
{
    if (alignment < LINE_BYTES)
        alignment = LINE_BYTES;
    if (size > PTRDIFF_MAX - 2 * alignment - PAGE_BYTES || !admit(heap, size))
        return NULL;
    size_t mapped = bytes_align_up(size + alignment + LINE_BYTES, PAGE_BYTES);
    char *pages = map_pages(mapped);
    if (pages == NULL)
        return NULL;
    char *ptr = (char *)bytes_align_up((uintptr_t)pages + LINE_BYTES, alignment);
    size_t before = (size_t)(ptr - LINE_BYTES - pages) / PAGE_BYTES * PAGE_BYTES;
    size_t kept = bytes_align_up((size_t)(ptr - pages) + size, PAGE_BYTES) - before;
    if (before != 0)
        (void)munmap(pages, before);
    if (before + kept != mapped)
        (void)munmap(pages + before + kept, mapped - before - kept);
    *record_of(ptr) = (struct heap_block){heap->large, pages + before, kept};
    heap->large = record_of(ptr);
    add_bytes(heap, kept);
    return ptr;
}

/* The place in the list where a large block's record stands; NULL: it is malloc's. */
static struct heap_block **find_large(struct heap *heap, void *ptr)
{
    for (struct heap_block **at = heap != NULL ? &heap->large : NULL; at != NULL && *at != NULL;
         at = &(*at)->next)
        if (*at == record_of(ptr))
            return at;
    return NULL;
}

static void free_large(struct heap *heap, struct heap_block **at)
{
    struct heap_block block = **at;
    *at = block.next;
    heap->bytes_used -= block.bytes;
    (void)munmap(block.pages, block.bytes);
}

static size_t usable_bytes(struct heap *heap, void *ptr)
{
    struct heap_block **at = find_large(heap, ptr);
    return at == NULL ? malloc_usable_size(ptr)
                      : (size_t)((char *)(*at)->pages + (*at)->bytes - (char *)ptr);
}

/* The pages move with what is in them. */
static void *resize_large(struct heap *heap, struct heap_block **at, size_t size)
{
    struct heap_block block = **at;
    size_t offset = (size_t)((char *)*at + LINE_BYTES - (char *)block.pages);
    if (size > PTRDIFF_MAX - offset - PAGE_BYTES)
        return NULL;
    size_t kept = bytes_align_up(offset + size, PAGE_BYTES);
    if (kept > block.bytes && !admit(heap, kept - block.bytes))
        return NULL;
    char *pages = mremap(block.pages, block.bytes, kept, MREMAP_MAYMOVE);
    if (pages == MAP_FAILED)
        return NULL;
    struct heap_block *record = record_of(pages + offset);
    *record = (struct heap_block){block.next, pages, kept};
    *at = record;
    heap->bytes_used -= block.bytes;
    add_bytes(heap, kept);
    return pages + offset;
}

/* From a small block to a large one, or back. */
static void *move_block(struct heap *heap, void *ptr, size_t before, size_t size)
{
    void *moved = heap_alloc(heap, size);
    if (moved == NULL)
        return NULL;
    memcpy(moved, ptr, before < size ? before : size);
    heap_free(heap, ptr);
    return moved;
}

/* ---- blocks ---- */

void *heap_alloc(struct heap *heap, size_t size)
{
    size = size != 0 ? size : 1;
    if (is_large(heap, size))
        return alloc_large(heap, LINE_BYTES, size);
    return admit(heap, size) ? count_in(heap, malloc(size)) : NULL;
}

void *heap_calloc(struct heap *heap, size_t count, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    total = total != 0 ? total : 1;
    if (is_large(heap, total))
        return alloc_large(heap, LINE_BYTES, total);
    return admit(heap, total) ? count_in(heap, calloc(1, total)) : NULL;
}

void *heap_realloc(struct heap *heap, void *ptr, size_t size)
{
    if (ptr == NULL)
        return heap_alloc(heap, size);
    size = size != 0 ? size : 1;
    size_t before = usable_bytes(heap, ptr);
    struct heap_block **large = find_large(heap, ptr);
    if (large != NULL && is_large(heap, size))
        return resize_large(heap, large, size);
    if (large != NULL || is_large(heap, size))
        return move_block(heap, ptr, before, size);
    if (!admit(heap, size > before ? size - before : 0))
        return NULL;
    void *moved = realloc(ptr, size);
    if (moved == NULL)
        return NULL;
    if (heap != NULL)
        heap->bytes_used -= before;
    return count_in(heap, moved);
}

void *heap_alloc_aligned(struct heap *heap, size_t alignment, size_t size)
{
    size = size != 0 ? size : 1;
    if (is_large(heap, size))
        return alloc_large(heap, alignment, size);
    if (!admit(heap, size))
        return NULL;
    void *ptr = NULL;
    return posix_memalign(&ptr, alignment, size) == 0 ? count_in(heap, ptr) : NULL;
}

void *heap_alloc_huge(struct heap *heap, size_t size)
{
    if (size < 2 * HUGE_PAGE_BYTES)
        return heap_alloc_aligned(heap, LINE_BYTES, size);
    void *ptr = heap_alloc_aligned(heap, HUGE_PAGE_BYTES, size);
    if (ptr != NULL) /* whole pages only: what follows belongs to others */
        advise_huge(ptr, size / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES);
    return ptr;
}

void heap_free(struct heap *heap, void *ptr)
{
    if (ptr == NULL)
        return;
    struct heap_block **large = find_large(heap, ptr);
    if (large != NULL) {
        free_large(heap, large);
        return;
    }
    if (heap != NULL)
        heap->bytes_used -= malloc_usable_size(ptr);
    free(ptr);
}

void *heap_zeroes(struct heap *heap, size_t size)
{
    if (size > PTRDIFF_MAX)
        return NULL;
    if (size < HEAP_PAGES_MIN)
        return heap_calloc(heap, 1, size);
    if (PAGES_OF_SYSTEM) {
        void *pages = admit(heap, size) ? map_pages(size) : NULL;
        if (pages != NULL)
            add_bytes(heap, size);
        return pages;
    }
    void *ptr = heap_alloc_aligned(heap, PAGE_BYTES, size);
    return ptr != NULL ? memset(ptr, 0, size) : NULL;
}

void heap_zeroes_huge(void *ptr, size_t size)
{
    if (size >= HEAP_PAGES_MIN && PAGES_OF_SYSTEM)
        advise_huge(ptr, size);
}

void heap_zeroes_free(struct heap *heap, void *ptr, size_t size)
{
    if (ptr == NULL || size < HEAP_PAGES_MIN || !PAGES_OF_SYSTEM) {
        heap_free(heap, ptr);
        return;
    }
    (void)munmap(ptr, size);
    if (heap != NULL)
        heap->bytes_used -= size;
}

char *heap_copy_text(struct heap *heap, const char *ptr, size_t len)
{
    if (len == SIZE_MAX)
        return NULL;
    char *copy = heap_alloc(heap, len + 1);
    if (copy == NULL)
        return NULL;
    if (len != 0)
        memcpy(copy, ptr, len);
    copy[len] = '\0';
    return copy;
}
