/* Shared by upkeep.c (when), upkeep_build.c (what goes into a new segment) and upkeep_publish.c
 * (how it takes the place of the old parts). */
#ifndef ENGINE_UPKEEP_INTERNAL_H
#define ENGINE_UPKEEP_INTERNAL_H

#include "engine/ann.h"
#include "engine/segment_merge.h"
#include "engine/upkeep.h"

enum { RETAINED_MAX = 256, UPKEEP_LARGE_MERGE_BYTES = 256 << 20 };

struct retained { /* at that time the shard had that version */
    int64_t at_us;
    uint64_t version;
};

struct upkeep {
    struct shard *shard;
    struct list_link waiting_link; /* core->flush_line: for a build to end */
    struct list_link merge_link;   /* core->merge_line: for a merge to end, or for memory */
    bool folder_begun;
    /* what the newest durable manifest says */
    uint64_t flushed_version, manifest_number;
    uint64_t manifest_given; /* the highest number that was tried */
    uint64_t next_segment;
    uint64_t changed_ns; /* the last write that became visible */
    uint64_t filled_ns;  /* the first one since the memtable took over; 0: none */
    uint64_t retry_ns;   /* after a failure: nothing is begun before */
    bool flush_soon;
    struct list flush_waits;      /* struct upkeep_wait.link */
    unsigned pins;                /* upkeep_pin */
    struct list unremoved;        /* changes; published, their files wait for the last pin */
    struct change *flush, *merge; /* under way; NULL: none */
    struct list detached;         /* merges that have let the next one begin (detached_link) */
    struct change *publishing;    /* one of them */
    struct list ready;            /* changes whose segment is built */
    struct list_link index_link;  /* core->index_line: for a place, or for memory */
    struct list ann_ops;          /* struct ann_op.link: upkeep_index.c */
    uint64_t index_retry_ns;      /* after a failure: none is begun before */
    double index_rows_per_s;      /* of the last one; 0: none yet */
    bool index_short;             /* memory was not to be had for the next one */
    bool index_failed;            /* the last one; cleared by the next that succeeds */
    struct task publish_task;
    /* versions for as_of */
    uint64_t retained_floor; /* all from here on are readable */
    struct retained *retained;
    uint32_t retained_count;
};

enum change_kind { CHANGE_FLUSH, CHANGE_MERGE };

struct ann_build;
struct ann_load;
struct ann_save;
struct folder_begin;

/* One part that is to take the place of others. */
struct change {
    struct list_link link;          /* upkeep->ready, or ->unremoved */
    struct list_link detached_link; /* upkeep->detached */
    struct shard *shard;
    enum change_kind kind;
    struct shard_part **sources; /* held */
    uint32_t source_count;
    uint64_t number;       /* of the segment */
    uint64_t version;      /* of the manifest, once it is saved: a flush moves it on */
    uint64_t drop_version; /* rows that ended at or before are left out */
    int64_t expired_before_us;
    uint64_t begun_ns, source_bytes;
    uint64_t schema_version;
    struct arena arena; /* the schema: goes with the part */
    struct pdb_collection_config schema;
    char folder[SHARD_FOLDER_MAX];
    struct folder_begin *folder_begin;
    struct segment_build *build;
    uint64_t reserved;          /* memory, until it is over */
    bool building, large;       /* counted in the core's flushes_building, large_merges */
    struct list_link held_link; /* core->held_merges */
    uint64_t held_ns;           /* since when */
    bool cancelled;
    bool waits;        /* for the indexes of its segment: upkeep_index.c */
    uint64_t waits_ns; /* since when */
    /* the worker's, while it builds */
    struct segment_merge *merge;
    struct segment_deletes **ended; /* copies for the worker, of each source */
    uint64_t *keys;                 /* of a sealed memtable's rows, in order of id */
    size_t key_count, next_key;
    const void *vectors[PDB_FIELD_MAX];
    /* publishing */
    struct shard_part *part; /* NULL: there was no row */
    unsigned stage;
    uint32_t source, row; /* catching up */
    struct shard_part **named;
    uint32_t named_count, encoded;
    struct manifest_encoder encoder;
    struct buffer bytes;
    struct manifest_save save;
    struct timer retry;
    uint32_t failures; /* of saves */
    uint64_t *dead;    /* numbers of replaced segments */
    struct shard_remove remove;
};

/* What is being done about the index of one field of one segment. */
enum ann_op_kind {
    ANN_OP_LOAD,   /* read from its file */
    ANN_OP_BUILD,  /* made from the vectors */
    ANN_OP_SAVE,   /* it is in use, and is written to its file */
    ANN_OP_REMOVE, /* the file of one that nobody asks for goes */
};

struct ann_op {
    struct list_link link; /* upkeep->ann_ops */
    enum ann_op_kind kind;
    struct shard *shard;
    struct shard_part *part; /* held */
    uint32_t field;
    struct index_spec spec;      /* BUILD */
    uint64_t reserved, begun_ns; /* memory */
    bool placed, large;          /* it has one of the core's places, that of a large one */
    bool cancelled;
    struct ann_load *load; /* one of these */
    struct ann_build *build;
    struct ann_save *save;
    struct io_op unlink;
    struct ann *ann;              /* SAVE: held */
    struct shard_part *base_part; /* BUILD: held; a source of the merge, whose index is copied */
    struct ann *base;             /* held */
    char path[SHARD_PATH_MAX], folder[SHARD_FOLDER_MAX];
};

struct ann_pick { /* what is to be done next */
    enum ann_op_kind kind;
    struct shard_part *part;
    uint32_t field;
    struct index_spec spec;
    uint64_t need; /* memory */
    unsigned workers;
};

/* ---- upkeep.c ---- */

/* Begins what is to be done for the shard, if there is a place for it. */
void upkeep_look(struct shard *shard);
/* A place is free: those who wait for one begin, in their order. */
void upkeep_move_lines(struct engine_core *core);
/* Tells all logs that the shard's records up to `version` are not needed. */
void upkeep_release(struct engine_core *core, const struct uuid *uuid, uint64_t version);

/* Tells those who wait for a flush: what is flushed now, or (rc < 0) all of them the error. */
void upkeep_tell_waits(struct shard *shard, int rc, const struct trail *trail);
/* Why a change has failed, for the label of flush_errors_total. */
unsigned upkeep_fault(int rc);

/* ---- upkeep_build.c ---- */

/* Memory that building it takes at most. */
uint64_t change_flush_need(const struct shard *shard, const struct shard_part *sealed);
uint64_t change_merge_need(const struct shard *shard, struct shard_part *const *sources,
                           uint32_t count);
/* `reserved`: memory_reserve_build, theirs from now on. 0, or PDB_RESOURCE_EXHAUSTED: nothing has
 * begun. */
int change_begin_flush(struct shard *shard, struct shard_part *sealed, uint64_t reserved);
int change_begin_merge(struct shard *shard, struct shard_part *const *sources, uint32_t count,
                       uint64_t reserved);
/* A merge that has stood aside for flushes for long goes on; NULL is legal. */
void change_hold_no_longer(struct change *change);
/* The indexes that it waited for are there, or will not be soon. */
void change_go_on(struct change *change);
/* Ends as soon as it can; NULL is legal. */
void change_cancel(struct change *change);
/* Lets everything go and looks for more work. */
void change_over(struct change *change);
/* After a crash of a simulated disk. */
void change_drop(struct change *change);

/* ---- upkeep_index.c ---- */

/* Gives up what is not wanted any more, and gets in line if an index is to be made. */
void upkeep_index_look(struct shard *shard);
/* A place is free, or memory: those who wait for one begin, in their order. */
void upkeep_index_move_line(struct engine_core *core);
void upkeep_index_cancel(struct shard *shard);
/* After a crash of a simulated disk. */
void upkeep_index_drop(struct shard *shard);
/* Whether a merge should wait for the indexes of its new segment before it is published. */
bool upkeep_index_delays(const struct shard *shard, const struct shard_part *part);
/* The index that the settings ask for, for this segment; false: none. */
bool upkeep_index_wants(const struct shard *shard, const struct shard_part *part, uint32_t field,
                        struct index_spec *spec_out);

/* Whether a making that takes so much memory needs the place of a large one. */
bool upkeep_index_is_large(uint64_t bytes);

/* ---- upkeep_index_op.c ---- */

/* The memory is reserved, and the op's from now on. 0 or PDB_RESOURCE_EXHAUSTED: nothing has
 * begun, and it is given back. */
int ann_op_begin(struct shard *shard, const struct ann_pick *pick);
/* Ends as soon as it can. */
void ann_op_cancel(struct ann_op *op);
/* After a crash of a simulated disk. */
void ann_op_drop(struct ann_op *op);

/* ---- upkeep_warm.c ---- */

void upkeep_warm_drop(struct engine_core *core);

/* ---- upkeep_publish.c ---- */

/* The segment is built (change->part), or there was no row. */
void change_publish(struct change *change);
/* The files of what it has replaced may go. */
void change_remove_files(struct change *change);

#endif
