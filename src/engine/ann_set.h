/* What a core needs to search the segments of a shard that has another owner: the segments, their
 * indexes, and which rows had ended, all as of one moment and immutable. The owner makes such a set
 * and tells every core (also its own) of it by mail; each core then has its share of it.
 *
 *     owner   ann_set_changed ... copies the bits of ended rows, in steps; one mail to each core
 *     a core  the share is the shard's newest there: searches take it and give it back
 *     a core  a newer one has come, or the owner wants it back, and no search uses it: mail back
 *     owner   all shares are back: lets go of parts and indexes, frees the set
 *
 * A share is the only thing that a core changes, and only its own. The owner may not touch it until
 * it is back.
 *
 * A set grows old: rows end after it was made, segments are merged. So what a search has found by
 * it are candidates, which the owner looks at again (search_settle.c); a set is a shortcut, never
 * the truth. The owner is told there how old it is: when candidates had to be dropped, the next
 * one is made soon. */
#ifndef ENGINE_ANN_SET_H
#define ENGINE_ANN_SET_H

#include "engine/ann.h"
#include "engine/engine_internal.h"

struct ann_ended { /* of the rows of one index; shared by sets while nothing ends */
    unsigned refs; /* the owner's */
    uint32_t count;
    uint64_t ended_count; /* of the segment's rows, when it was made */
    uint64_t words[];
};

struct ann_set_field {
    struct ann *ann;         /* held; NULL: the field has no index here */
    struct ann_ended *ended; /* NULL: no row had */
};

struct ann_set_entry {
    struct shard_part *part; /* held; for the owner's eyes */
    uint64_t number;         /* of the segment: names it for ever */
    const struct segment_file *file;
    struct ann_set_field *fields;
};

struct ann_set;

struct ann_share {         /* a core's own */
    struct list_link link; /* of the newest ones: core->ann_shares */
    struct ann_set *set;
    struct mail mail, recall;
    uint64_t users; /* searches */
    bool newest;
} __attribute__((aligned(64)));

struct ann_set {
    struct list_link link; /* core->ann_sets, the owner's */
    struct shard *shard;
    struct uuid uuid;
    unsigned shares_out;
    /* What has ended in it may be so only from this version on. */
    uint64_t version;
    uint32_t count;
    uint32_t next_entry, next_field, next_row; /* while it is made: what is to be copied */
    struct ann_set_entry *entries;
    struct ann_share shares[]; /* of each core */
};

/* In struct shard. */
struct ann_publisher {
    struct task task;
    struct timer timer;
    struct ann_set *newest, *making;
    uint64_t published_ns;
    bool again; /* something has changed since `making` was begun */
};

void ann_set_core_init(struct engine_core *core);

/* Any core: the newest that it knows of a collection, until it is given back; NULL: none. */
struct ann_share *ann_share_take(struct engine_core *core, const struct uuid *uuid);
void ann_share_give(struct engine_core *core, struct ann_share *share);

/* The owner: rows have ended that searches still find: another one is worth it, soon. */
void ann_set_refresh(struct shard *shard);
/* Nobody is to find the shard any more: it was dropped, or the core closes. What is out comes back
 * while the core counts it as upkeep; the shard stays until then. */
void ann_set_withdraw(struct shard *shard);
/* After a crash of a simulated disk: frees all sets of the core. */
void ann_set_abandon(struct engine_core *core);

#endif
