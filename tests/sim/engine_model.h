/* What the simulated engine must show: a model of its collections. Every writer has its own ids
 * and one batch under way, so the state at a version is, writer by writer, what the last batch up
 * to that version made of it. */
#ifndef SIM_ENGINE_MODEL_H
#define SIM_ENGINE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MODEL_WRITERS = 3, MODEL_SLOTS = 8 }; /* of a collection; ids of a writer */

struct slot { /* one id */
    bool live;
    float vector;     /* unlike every other that was ever written */
    int number;       /* in the metadata */
    uint64_t version; /* 0: not known */
    int64_t expires_at_us;
};

struct slots {
    struct slot at[MODEL_SLOTS];
};

struct reading { /* what the engine has shown, between two moments of its clock */
    struct slots writers[MODEL_WRITERS];
    int64_t from_us, to_us;
};

struct batch { /* that was acknowledged, or found after a restart */
    uint64_t version;
    unsigned writer;
    struct slots after;
};

struct model { /* of one collection */
    bool exists;
    bool weak;               /* an unclean end may lose the last batches */
    uint64_t told;           /* the highest version that was ever told */
    uint64_t visible_before; /* batches below are in `base` only: nothing is known of versions */
    struct slots base[MODEL_WRITERS];
    struct batch *batches; /* by version */
    size_t count, capacity;
    /* the batch that each writer has under way, and what it would make of its ids */
    bool maybe[MODEL_WRITERS];
    struct slots tried[MODEL_WRITERS];
};

/* The collection is there, and empty. */
void model_begin(struct model *m);
void model_free(struct model *m);
void model_add(struct model *m, unsigned writer, uint64_t version, const struct slots *after);
const struct slots *model_at(const struct model *m, unsigned writer, uint64_t version);
uint64_t model_newest(const struct model *m); /* acknowledged and not lost */

/* True if the reading is the state at one version, at least `least`, the highest of which is told;
 * batches under way may be in it. */
bool model_matches(const struct model *m, const struct reading *reading, uint64_t least,
                   uint64_t *version_out);
bool model_matches_at(const struct model *m, const struct reading *reading, uint64_t version);
/* Where a reading and the state at `version` differ, for the reader of a failed run. */
void model_print(const struct model *m, const struct reading *reading, uint64_t version);
/* After a restart that found `reading`, which matches at `version`, and may at others from `least`
 * on: batches behind it are lost, those under way that are in it count as acknowledged at
 * `visible`. */
void model_settle(struct model *m, const struct reading *reading, uint64_t version, uint64_t least,
                  uint64_t visible);

#endif
