/* The retry keys of one shard: which requests it has carried out in the last ten minutes, so that a
 * repeated one gets the first answer instead of happening twice. Rebuilt from the log at start. */
#ifndef ENGINE_DEDUP_H
#define ENGINE_DEDUP_H

#include "base/list.h"
#include "base/map.h"
#include "wal/wal.h"

enum { DEDUP_ENTRIES_MAX = 100000 };
#define DEDUP_KEEP_US ((int64_t)10 * 60 * 1000 * 1000)

struct write_op;

struct dedup_entry {
    struct list_link link; /* by time of completion; not linked while the original is under way */
    struct wal_request request;
    uint32_t count; /* rows of the answer */
    uint64_t version;
    struct write_op *original; /* under way; NULL: done */
};

struct dedup {
    struct heap *heap;
    struct map entries;
    struct list oldest_first;
    uint32_t done_count;
    struct list_link *cursor; /* of dedup_next; moves on when its entry goes */
};

void dedup_init(struct dedup *d, struct heap *heap);
void dedup_dispose(struct dedup *d);

/* The key of a request_id; stable across restarts. `len` > 0. */
void dedup_hash(const void *request_id, size_t len, uint8_t hash_out[16]);
/* NULL: not seen, or forgotten. */
struct dedup_entry *dedup_find(struct dedup *d, const uint8_t hash[16], int64_t now_us);
/* A request that begins. NULL without memory. */
struct dedup_entry *dedup_begin(struct dedup *d, const struct wal_request *request,
                                struct write_op *original);
/* It was logged; forgets the oldest ones past the limits. */
void dedup_finish(struct dedup *d, struct dedup_entry *entry, uint64_t version, uint32_t count,
                  int64_t now_us);
/* All that were carried out, the oldest first, one at each call; they may come and go between two.
 * Only one such walk at a time. NULL: the end. */
void dedup_walk(struct dedup *d);
const struct dedup_entry *dedup_next(struct dedup *d);
/* It was not. */
void dedup_abandon(struct dedup *d, struct dedup_entry *entry);

#endif
