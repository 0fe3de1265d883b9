/* The scratch of searches by index: a few of each core, because each is as large as visited marks
 * of the largest segment are. Who finds none free waits in line; searches that go on while one
 * waits for its turn would only make both later. Made when first needed, kept until the end. */
#ifndef ENGINE_SEARCH_WALK_POOL_H
#define ENGINE_SEARCH_WALK_POOL_H

#include "base/list.h"

#include <stdint.h>

struct engine_core;
struct index;
struct index_scratch;
struct walk;

enum {
#ifdef PDB_STRESS
    WALK_SCRATCHES = 1,
#else
    WALK_SCRATCHES = 4,
#endif
};

struct walk_pool { /* in struct engine_core */
    struct index_scratch *idle[WALK_SCRATCHES];
    unsigned idle_count, count;
    uint32_t row_max, dimension_max; /* of the next that is made: the largest that was asked for */
    struct list line;                /* struct walk.line_link */
};

void walk_pool_init(struct engine_core *core);
void walk_pool_dispose(struct engine_core *core);

enum walk_take { WALK_TAKEN, WALK_IN_LINE, WALK_NO_MEMORY };
/* walk->scratch is one that fits this index; or the walk's task is queued once there is one, and
 * then asks again. */
enum walk_take walk_pool_take(struct walk *walk, const struct index *index);
/* Gives it back, or leaves the line. Legal on a walk that has none. */
void walk_pool_give(struct walk *walk);

#endif
