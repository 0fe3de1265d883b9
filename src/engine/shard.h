/* A shard: a collection's rows on the core that owns them (today one shard per collection).
 * Everything here runs on that core.
 *
 * A write goes through three lists, always in the order of arrival:
 *
 *     queue   waits to be prepared: conditions, merges, memory. One at a time, in steps.
 *     flight  has its version, is in the log's hands, and its rows are `pending`: the newest queued
 *             state, which later writes are checked against. Readers do not see it.
 *     (done)  the log has acknowledged: its rows are put into the memtable in steps, the visible
 *             version moves to it, it is answered.
 *
 * Rows enter the memtable only when the log has acknowledged them. So a write that the log refuses
 * (no space) or loses (poisoned) is forgotten by dropping its pending entries, and no reader or
 * later version can have seen it. */
#ifndef ENGINE_SHARD_H
#define ENGINE_SHARD_H

#include "base/list.h"
#include "base/map.h"
#include "base/uuid.h"
#include "engine/ann_set.h"
#include "engine/call.h"
#include "engine/dedup.h"
#include "memtable/memtable.h"
#include "wal/wal.h"

struct catalog_entry;
struct catalog_snapshot;

/* columns that rows must fit although the catalog does not say so yet: an update checks the old
 * rows */
struct shard_guard {
    struct list_link link;
    const struct filter_column *columns;
    uint32_t column_count;
};

struct recall_samples;
struct shard_part;
struct upkeep;

struct shard_read { /* someone reads rows of this version in several steps */
    struct list_link link;
    uint64_t version;
};

/* Searches that scan together, and those that wait for their turn (shard_search_scan.c). */
struct search_convoy {
    struct shard *shard;
    struct list members, waiting;
    struct task task;
};
/* Exact searches read everything; what the others have left to scan must not wait for them. */
enum { CONVOY_EXACT, CONVOY_INDEXED, CONVOY_COUNT };

struct shard {
    struct engine_core *core;
    struct list_link link; /* core->shard_list */
    struct uuid uuid;
    char uuid_text[UUID_TEXT_LEN + 1];
    const struct catalog_entry
        *entry;        /* of the core's newest catalog; NULL once the collection is dropped */
    struct list parts; /* where its rows lie: part.h */
    struct shard_part *active;
    struct memtable *memtable; /* of the active part */
    uint32_t field_count;
    uint32_t *field_bytes;
    struct scan_field *fields;
    const void **vectors_out; /* of the row that parts_newest_row found */
    uint64_t row_bytes;       /* of the vectors of a full row */
    uint64_t version_queued;  /* given to the newest write in flight */
    uint64_t version_visible; /* what readers see; <= version_queued */
    /* counts writes the log refused: what was prepared on top of them begins again */
    uint64_t flight_failures;
    /* the log has refused one: nothing is prepared until all in flight are told */
    bool flight_broken;
    uint64_t flight_broken_at; /* the first version that was refused */
    struct list queue, flight;
    /* answers that rested on a write the log refused: back to the queue's front */
    struct list again;
    struct map pending; /* id -> struct pdb_row of a write in flight, the newest */
    uint64_t pending_rows, pending_text, pending_ends;
    struct task prepare_task, commit_task, collect_task;
    struct list_link stall_link; /* core->stalled: waits for room in the log */
    struct list guards, reads;
    struct dedup dedup;
    uint64_t users; /* calls here, and upkeep under way */
    /* Damaged at the start: nothing is written or flushed until they are back. */
    uint32_t lost_segments;
    uint64_t lost_first;      /* its number */
    bool committing;          /* the newest rows of the memtable are not visible yet */
    bool expiring;            /* some row has an expiry */
    struct upkeep *upkeep;    /* sealing, flushing, merging: upkeep.h */
    uint64_t collect_next_ns; /* not before */
    struct search_convoy convoys[CONVOY_COUNT];
    struct ann_publisher ann;
    /* By enum metrics_plan; made by the first search. NULL: none, or no memory. */
    struct histogram *search_times[METRICS_PLAN_COUNT];
    struct recall_samples *recall; /* the same: recall.h */
    uint64_t recall_turn;          /* when it was measured last, among the core's */
};

/* ---- life (shard.c) ---- */

void shard_table_init(struct engine_core *core);

struct shard *shard_find(struct engine_core *core, const struct uuid *uuid);
/* 0 or PDB_RESOURCE_EXHAUSTED. */
int shard_open(struct engine_core *core, const struct catalog_entry *entry,
               struct shard **shard_out);
/* Makes the shard of a collection that the catalog does not know yet: in no table, but shard_open
 * finds it in core->staged. 0 or PDB_RESOURCE_EXHAUSTED. */
int shard_stage(struct engine_core *core, const struct catalog_entry *entry,
                struct shard **shard_out);
struct shard *shard_find_staged(struct engine_core *core, const struct uuid *uuid);
/* Makes, updates and drops this core's shards so that they are those of the snapshot. A shard that
 * cannot be made now (no memory) is made when the first call asks for it. */
void shard_follow_catalog(struct engine_core *core, const struct catalog_snapshot *snapshot);
/* A call leaves; a dropped shard goes with its last one. */
void shard_leave(struct shard *shard);
void shard_free(struct shard *shard);
/* True when the collection was dropped meanwhile; the error is told. */
bool shard_gone(const struct shard *shard, struct pdb_call *call);
void shard_read_begin(struct shard *shard, struct shard_read *read);
/* The same at an older version, which must still be readable: shard_oldest_version. */
void shard_read_begin_at(struct shard *shard, struct shard_read *read, uint64_t version);
void shard_read_end(struct shard_read *read);
/* No reader needs rows that ended at or before this. */
uint64_t shard_oldest_version(const struct shard *shard);
/* Queues a collection of dead rows if it may be worth it. */
void shard_collect_later(struct shard *shard);

enum write_op_kind {
    WRITE_OP_UPSERT,
    WRITE_OP_INSERT,
    WRITE_OP_UPDATE,
    WRITE_OP_DELETE,
    WRITE_OP_BARRIER, /* nothing to write: is answered when all before it are visible */
};

enum write_op_stage {
    WRITE_STAGE_QUEUED,
    WRITE_STAGE_LOGGING,
    WRITE_STAGE_LOGGED,
    WRITE_STAGE_FAILED,
    WRITE_STAGE_READY
};

struct write_op { /* in the arena of its call */
    struct list_link link;
    struct pdb_call *call;
    struct shard *shard;
    enum write_op_kind kind;
    enum write_op_stage stage;
    const char *list; /* for messages */
    /* what was asked for */
    const struct pdb_record *records; /* writes */
    struct pdb_row *input;            /* made from them at home */
    const struct pdb_text *ids;       /* deletes */
    uint32_t input_count;
    bool has_if_version; /* deletes */
    uint64_t if_version;
    const struct filter
        *filter; /* deletes by filter: again for rows that changed since `scanned_version` */
    uint64_t scanned_version;
    bool has_request;
    struct pdb_text request_id;
    struct wal_request request;
    /* what it comes to */
    struct pdb_row *rows;
    uint32_t row_count;  /* resulting rows */
    uint32_t next;       /* prepare or commit: the next one */
    bool begun;          /* admitted; its rows are being made */
    uint64_t text_bytes; /* of ids and metadata of the resulting rows */
    uint64_t failures_seen;
    uint64_t version;
    uint64_t stage_ns; /* when its stage began, for the metrics */
    struct dedup_entry *dedup;
    struct list followers; /* retries that wait for this one: struct write_op.link */
    struct wal_batch batch;
    struct wal_append_op append;
    int rc;
    uint64_t count_answer;
    const struct pdb_text *ids_answer;
    void (*over)(struct write_op *op); /* the answer; may free the op */
};

/* ---- what is told of a collection (collection.c) ---- */

/* Its settings, in the call's arena; 0 or told. Then its numbers, on the owner. */
int collection_fill_info(struct pdb_call *call, const struct catalog_entry *entry,
                         struct pdb_collection_info *info);
void collection_fill_live(struct pdb_call *call, const struct shard *shard,
                          struct pdb_collection_info *info);

/* ---- writing (shard_write.c, shard_prepare.c) ---- */

void write_op_init(struct write_op *op, struct pdb_call *call, enum write_op_kind kind);
void write_op_queue(struct shard *shard, struct write_op *op);

enum write_op_progress {
    WRITE_OP_AGAIN,   /* used its time: go on in a later step */
    WRITE_OP_STALLED, /* waits for room in the log */
    WRITE_OP_OVER,    /* in flight, answered, or following its original */
};
/* Works on the queue's first. */
enum write_op_progress write_op_prepare(struct write_op *op);
/* Out of the queue into flight: the log has it, or (nothing to log; maybe an error in the call) it
 * is answered in its turn. */
void write_op_launch(struct write_op *op, bool to_log);
/* Out of the queue; answers at once. */
void write_op_answer(struct write_op *op);
/* The newest queued state: true when a live, unexpired row is there. Pointers live until the next
 * write or collection. */
bool shard_newest_row(struct shard *shard, struct pdb_text id, int64_t now_us,
                      struct pdb_row *row_out);

/* ---- reading (shard_read.c, shard_search.c, shard_delete.c): steps of the public calls ---- */

/* A row as results hold it, in the arena. False without memory. */
bool shard_copy_row(struct arena *arena, const struct shard *shard, const struct pdb_row *row,
                    unsigned include, struct pdb_row *out);
/* The collection's fields for `fields_out`. */
const struct pdb_field *shard_copy_fields(struct arena *arena, const struct catalog_entry *entry);
static inline bool shard_row_expired(const struct pdb_row *row, int64_t now_us)
{
    return row->expires_at_us != 0 && row->expires_at_us <= now_us;
}

#endif
