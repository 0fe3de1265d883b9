/* A bounded single-producer single-consumer ring of pointers: the only mutable memory that two
 * cores share.
 *
 * Each side keeps a private copy of the other side's index and rereads the shared one only when the
 * copy says "full" or "empty": in steady state a push or a pop touches one contended cache line at
 * most. The two ends are on cache lines of their own. Release on the index publishes the slot;
 * acquire on it takes over. */
#ifndef BASE_SPSC_H
#define BASE_SPSC_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef PDB_STRESS
enum { SPSC_CAPACITY = 4 };
#else
enum { SPSC_CAPACITY = 1024 }; /* a power of two */
#endif

struct spsc {
    alignas(64) _Atomic size_t head; /* next slot to pop; written by the consumer */
    size_t tail_seen;                /* the consumer's copy of tail */
    alignas(64) _Atomic size_t tail; /* next slot to fill; written by the producer */
    size_t head_seen;                /* the producer's copy of head */
    alignas(64) void *slots[SPSC_CAPACITY];
};

/* Producer only. False: full. */
static inline bool spsc_push(struct spsc *ring, void *item)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - ring->head_seen == SPSC_CAPACITY) {
        ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
        if (tail - ring->head_seen == SPSC_CAPACITY)
            return false;
    }
    ring->slots[tail % SPSC_CAPACITY] = item;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

/* Consumer only. NULL: empty. */
static inline void *spsc_pop(struct spsc *ring)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == ring->tail_seen) {
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head == ring->tail_seen)
            return NULL;
    }
    void *item = ring->slots[head % SPSC_CAPACITY];
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return item;
}

/* Consumer only. */
static inline bool spsc_empty(struct spsc *ring)
{
    return atomic_load_explicit(&ring->head, memory_order_relaxed) ==
           atomic_load_explicit(&ring->tail, memory_order_acquire);
}

/* Consumer only. At least so many can be popped. */
static inline size_t spsc_count(const struct spsc *ring)
{
    return atomic_load_explicit(&ring->tail, memory_order_acquire) -
           atomic_load_explicit(&ring->head, memory_order_relaxed);
}

#endif
