/* The memory limit of the whole process, kept without shared memory: each core knows its own heap
 * exactly and what the others last told it. A core tells when it has moved by 1/1024 of the limit,
 * at most every 50 ms, and at once when it has moved by 1/16; so the sum that a core sees is off by
 * at most count/16 of the limit for the time of one message. */
#ifndef ENGINE_MEMORY_H
#define ENGINE_MEMORY_H

#include "reactor/reactor.h"

struct engine_core;

struct memory_note { /* to one other core; comes back before it is used again */
    struct mail mail;
    uint64_t bytes;
    bool under_way;
};

struct memory_view {
    uint64_t others[REACTOR_MAX]; /* what each core last told; its own entry is unused */
    uint64_t told;                /* what this core last told */
    struct memory_note notes[REACTOR_MAX];
    struct timer timer;
    bool timer_set;
};

/* After this core's heap has changed: tells the others when it is time. */
void memory_note_change(struct engine_core *core);
/* Of the whole process, as far as this core knows. */
uint64_t memory_used(const struct engine_core *core);
/* 0, or PDB_RESOURCE_EXHAUSTED naming storage.memory_limit, when `more` bytes would not fit. */
struct trail;
int memory_admit(struct engine_core *core, uint64_t more, struct trail *trail);
/* The default limit: 70 % of the smaller of the machine's memory and the cgroup's. */
uint64_t memory_default_limit(void);

#endif
