/* heap.c: libc's heap behind counters. Blocks carry no header of ours: malloc_usable_size tells
 * what a block costs when it is freed, which keeps alignment natural and works with any malloc that
 * is linked in. A header of 16 bytes was rejected: it would make small blocks (id map entries) a
 * third larger.
 *
 * The limit is checked against the size asked for, before the allocation; the rounding of malloc
 * may take a heap past its limit by a few bytes. Only this file and tests may name libc's
 * functions. */
#include "base/heap.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE_BYTES = 2 << 20 };

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

void *heap_alloc(struct heap *heap, size_t size)
{
    size = size != 0 ? size : 1;
    return admit(heap, size) ? count_in(heap, malloc(size)) : NULL;
}

void *heap_calloc(struct heap *heap, size_t count, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    total = total != 0 ? total : 1;
    return admit(heap, total) ? count_in(heap, calloc(1, total)) : NULL;
}

void *heap_realloc(struct heap *heap, void *ptr, size_t size)
{
    if (ptr == NULL)
        return heap_alloc(heap, size);
    size = size != 0 ? size : 1;
    size_t before = malloc_usable_size(ptr);
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
    if (!admit(heap, size))
        return NULL;
    void *ptr = NULL;
    return posix_memalign(&ptr, alignment, size) == 0 ? count_in(heap, ptr) : NULL;
}

/* A wish: kernels without huge pages say no. */
static void advise_huge(void *ptr, size_t size)
{
    (void)madvise(ptr, size, MADV_HUGEPAGE);
}

void *heap_alloc_huge(struct heap *heap, size_t size)
{
    enum { LINE_BYTES = 64 };
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
    if (heap != NULL)
        heap->bytes_used -= malloc_usable_size(ptr);
    free(ptr);
}

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
enum { PAGE_BYTES = 4096 };

static void *system_pages(struct heap *heap, size_t size)
{
    if (!admit(heap, size))
        return NULL;
    void *ptr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ptr == MAP_FAILED)
        return NULL;
    add_bytes(heap, size);
    return ptr;
}

void *heap_zeroes(struct heap *heap, size_t size)
{
    if (size > PTRDIFF_MAX)
        return NULL;
    if (size < HEAP_PAGES_MIN)
        return heap_calloc(heap, 1, size);
    if (PAGES_OF_SYSTEM)
        return system_pages(heap, size);
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
