/* Timers: a binary heap of pointers by due time, each timer knowing its slot, so that moving and
 * cancelling need no search. Slot 0 is unused: a zeroed timer is one that is not set. */
#include "reactor/reactor_internal.h"

#include "base/assert.h"

#include <proximadb/error.h>

#include "base/no_libc_heap.h"

enum { CAPACITY_FIRST = 64 };

static void put(struct timer_heap *h, uint32_t slot, struct timer *timer)
{
    h->slots[slot] = timer;
    timer->slot = slot;
}

static void rise(struct timer_heap *h, struct timer *timer)
{
    uint32_t slot = timer->slot;
    while (slot > 1 && h->slots[slot / 2]->due_ns > timer->due_ns) {
        put(h, slot, h->slots[slot / 2]);
        slot /= 2;
    }
    put(h, slot, timer);
}

static void sink(struct timer_heap *h, struct timer *timer)
{
    uint32_t slot = timer->slot;
    for (;;) {
        uint32_t child = 2 * slot;
        if (child > h->count)
            break;
        if (child < h->count && h->slots[child + 1]->due_ns < h->slots[child]->due_ns)
            ++child;
        if (h->slots[child]->due_ns >= timer->due_ns)
            break;
        put(h, slot, h->slots[child]);
        slot = child;
    }
    put(h, slot, timer);
}

static int make_room(struct reactor *r)
{
    struct timer_heap *h = &r->priv->timers;
    if (h->count + 1 < h->capacity)
        return 0;
    uint32_t capacity = h->capacity != 0 ? 2 * h->capacity : CAPACITY_FIRST;
    if (capacity < h->capacity)
        return PDB_RESOURCE_EXHAUSTED;
    struct timer **slots = heap_realloc(&r->heap, h->slots, capacity * sizeof(struct timer *));
    if (slots == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    h->slots = slots;
    h->capacity = capacity;
    return 0;
}

int timer_set(struct reactor *r, struct timer *timer, uint64_t due_ns)
{
    struct timer_heap *h = &r->priv->timers;
    if (timer->slot == 0) {
        int rc = make_room(r);
        if (rc < 0)
            return rc;
        timer->due_ns = due_ns;
        put(h, ++h->count, timer);
        rise(h, timer);
        return 0;
    }
    ASSERT(timer->slot <= h->count && h->slots[timer->slot] == timer);
    bool later = due_ns > timer->due_ns;
    timer->due_ns = due_ns;
    if (later)
        sink(h, timer);
    else
        rise(h, timer);
    return 0;
}

void timer_cancel(struct reactor *r, struct timer *timer)
{
    struct timer_heap *h = &r->priv->timers;
    uint32_t slot = timer->slot;
    if (slot == 0)
        return;
    ASSERT(slot <= h->count && h->slots[slot] == timer);
    struct timer *last = h->slots[h->count--];
    timer->slot = 0;
    if (last == timer)
        return;
    put(h, slot, last);
    rise(h, last);
    sink(h, last);
}

uint64_t timers_earliest(const struct reactor *r)
{
    const struct timer_heap *h = &r->priv->timers;
    return h->count != 0 ? h->slots[1]->due_ns : UINT64_MAX;
}

bool timers_run(struct reactor *r)
{
    struct timer_heap *h = &r->priv->timers;
    bool any = false;
    /* As many as are set now: a timer that sets itself to the past cannot hold the turn. */
    for (uint32_t left = h->count; left != 0 && h->count != 0; --left) {
        struct timer *timer = h->slots[1];
        if (timer->due_ns > r->now_ns)
            break;
        timer_cancel(r, timer);
        timer->fire(timer);
        any = true;
    }
    return any;
}

void timers_dispose(struct reactor *r)
{
    heap_free(&r->heap, r->priv->timers.slots);
    r->priv->timers = (struct timer_heap){0};
}
