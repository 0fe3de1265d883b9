/* The heap seam: every allocation of src/ goes through a counted heap with a limit, so that memory
 * has an owner and a test can make the n-th allocation fail. A heap belongs to one core; blocks may
 * be freed on another one only through the heap that they came from, on its core. */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_block; /* a large one's record */

struct heap {
    size_t bytes_used; /* sum of the sizes asked for, rounded as malloc_usable_size says */
    size_t bytes_peak;
    size_t bytes_max; /* 0: no limit */
    uint64_t allocation_count;
    /* tests: the allocation with this count (from 1) fails, and all after it; 0: none */
    uint64_t fail_at;
    /* Blocks from HEAP_PAGES_MIN on are the system's own pages and go back to it when they are
     * freed: for what takes much for a while. malloc would keep it, for seconds or, on a thread
     * that rests, until it works again, beside what others have been promised meanwhile. Such
     * blocks are freed and resized by this heap only; each costs up to two pages more. */
    bool large_by_pages;
    struct heap_block *large;
};

/* NULL heap: not counted, never limited. Size 0 gives a valid pointer. NULL result: the limit or
 * the system. */
void *heap_alloc(struct heap *heap, size_t size);
void *heap_calloc(struct heap *heap, size_t count, size_t size); /* checks the product */
void *heap_realloc(struct heap *heap, void *ptr, size_t size);   /* NULL: `ptr` is unchanged */
/* `alignment`: a power of two, at least sizeof(void *). Free with heap_free. */
void *heap_alloc_aligned(struct heap *heap, size_t alignment, size_t size);
/* For tables that searches read all over: aligned to 64, and where it is large on huge pages, if
 * the system has any, so that a row costs no walk of page tables. Not zeroed. Free with
 * heap_free. */
void *heap_alloc_huge(struct heap *heap, size_t size);
void heap_free(struct heap *heap, void *ptr); /* NULL is legal */

/* Zeroes, for tables that are large and filled slowly: from HEAP_PAGES_MIN on the system's own
 * pages, each of which costs nothing before it is touched and goes back at once; calloc would clear
 * all of them in one step, at 2 to 12 us each. These begin on a page. Free with heap_zeroes_free
 * and the same size. */
enum { HEAP_PAGES_MIN = 256 * 1024 };
void *heap_zeroes(struct heap *heap, size_t size);
void heap_zeroes_free(struct heap *heap, void *ptr, size_t size); /* NULL is legal */
/* Such a block is to be on huge pages, as heap_alloc_huge has it. To be said before it is touched;
 * each first touch then clears 2 MiB, so not where a reactor fills it. */
void heap_zeroes_huge(void *ptr, size_t size);

/* A copy of `len` bytes with a NUL behind them. */
char *heap_copy_text(struct heap *heap, const char *ptr, size_t len);

#endif
