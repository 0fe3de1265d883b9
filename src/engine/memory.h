/* The memory limit of the whole process, kept without shared memory: each core knows its own heap
 * exactly and what the others last told it. A core tells when it has moved by 1/1024 of the limit,
 * at most every 50 ms, and at once when it has moved by 1/16; so the sum that a core sees is off by
 * at most count/16 of the limit for the time of one message.
 *
 * Four things count:
 *
 *     heaps     memtables, maps of ids, marks, what segments need beside their files
 *     mapped    vectors and indexes of collections in mode `memory`: pages of files, which the
 *               system keeps or drops
 *     builds    what flushes and merges hold on a worker, by an upper bound that is reserved before
 *               they begin. A core's first flush is always counted, so that there is room for what
 *               gives memory back.
 *     indexes   what the making or loading of one takes on workers, reserved in the same way. What
 *               is finished counts with the heaps
 *
 * Writes are admitted against all of them; builds against all but mapped pages, because merging is
 * what gives room among those back. The making of an index gives no room to anybody, so it
 * comes last: it begins only where it leaves what writes need beside it, mapped pages counted, and
 * never takes the room of a first flush. Until then its rows are searched exactly. */
#ifndef ENGINE_MEMORY_H
#define ENGINE_MEMORY_H

#include "reactor/reactor.h"

struct engine_core;

struct memory_note { /* to one other core; comes back before it is used again */
    struct mail mail;
    uint64_t bytes, mapped, wanted;
    bool under_way;
};

struct memory_view {
    /* what each core last told; its own entry is unused */
    uint64_t others[REACTOR_MAX], others_mapped[REACTOR_MAX], others_wanted[REACTOR_MAX];
    uint64_t told;   /* what this core last told */
    uint64_t mapped; /* this core's, of its segment_bytes */
    uint64_t builds; /* reserved by this core's */
    uint64_t indexes;
    uint64_t wanted; /* by a merge that waits for memory: writes do not take it */
    struct memory_note notes[REACTOR_MAX];
    struct timer timer;
    bool timer_set;
};

/* After this core's heap has changed: tells the others when it is time. */
void memory_note_change(struct engine_core *core);
/* Of the whole process, as far as this core knows. */
uint64_t memory_used(const struct engine_core *core);
/* Row groups of builds: small where the limit is. */
uint64_t memory_row_group_bytes(const struct engine_core *core);
/* What the first build of a core may take without asking. */
uint64_t memory_first_build_bytes(const struct engine_core *core);
/* A build is about to begin that needs so much; false: there is not so much now. `must`: in any
 * case. */
bool memory_reserve_build(struct engine_core *core, uint64_t bytes, bool must);
void memory_release_build(struct engine_core *core, uint64_t bytes);
/* The same for an index that is made. */
bool memory_reserve_index(struct engine_core *core, uint64_t bytes);
/* The same for one that is read from its file: it takes no more than it will hold. */
bool memory_reserve_index_load(struct engine_core *core, uint64_t bytes);
void memory_release_index(struct engine_core *core, uint64_t bytes);
/* A merge waits for so much; 0: none does. */
void memory_want_build(struct engine_core *core, uint64_t bytes);
/* 0, or PDB_RESOURCE_EXHAUSTED naming storage.memory_limit, when `more` bytes would not fit. */
struct trail;
int memory_admit(struct engine_core *core, uint64_t more, struct trail *trail);
/* The default limit: 70 % of the smaller of the machine's memory and the cgroup's. */
uint64_t memory_default_limit(void);

#endif
