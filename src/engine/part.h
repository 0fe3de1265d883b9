/* The parts of a shard: where its rows lie. Oldest first: segments, sealed memtables that are being
 * written into segments, and last the memtable that takes the writes.
 *
 * At every version at most one row of an id is visible in all parts together, because a write ends
 * the older row wherever it lies (shard_end_older). So readers add up what the parts show and look
 * for no duplicates.
 *
 * Parts are replaced, never changed: a view holds those that it began with, and a replaced one goes
 * with its last view. While a replacement is made ready (flush.c), the old part names it as
 * `successor`, and what ends in the one ends in the other. */
#ifndef ENGINE_PART_H
#define ENGINE_PART_H

#include "engine/segment_build.h"
#include "engine/shard.h"

enum { PARTS_MAX = 128 }; /* no memtable is sealed beyond; keys have room for 255 */

struct ann;

struct shard_part {
    struct list_link link; /* shard->parts; not linked once replaced */
    struct shard *shard;
    uint32_t refs;             /* the shard's own while it is linked, views, work on it */
    struct memtable *memtable; /* or, if NULL: */
    struct segment_file *file;
    struct segment *segment; /* of the file */
    struct segment_deletes *deletes;
    struct ann **anns; /* of a segment: for each vector field its index, or NULL (ann.h) */
    /* A bit a field: there may be an index's file that nobody has looked at since the start, or
     * since the index that lies in it was given up. */
    uint64_t ann_files;
    uint64_t sealed_version; /* of a sealed memtable: all its rows are of it or older */
    struct shard_part *successor;
    struct arena schema;   /* what the file's schema points to */
    uint32_t expired_rows; /* of a segment, that a merge would leave out, as last counted */
    uint32_t expiry_next, expiry_found; /* counting them */
    uint64_t schema_version;            /* of the collection when the segment was made */
    uint64_t resident_bytes;            /* counted in core->segment_bytes */
    uint64_t mapped_bytes;              /* of them: pages of files (memory.h) */
    bool damage_told;
    bool coming;        /* a segment that is to take the place of others, and is in no list yet */
    bool merging;       /* a segment that a merge under way is made of */
    bool cold;          /* was there at the start: to be read into memory (upkeep_warm.c) */
    struct job closing; /* discard.c */
};

/* ---- life (part.c) ---- */

/* A part over an empty memtable; not in the list yet, one reference. NULL without memory. */
struct shard_part *part_of_memtable(struct shard *shard);
/* Takes the file over, also on failure. NULL without memory. */
struct shard_part *part_of_segment(struct shard *shard, struct segment_file *file);
/* Takes the arena of the schema that the file was opened with. */
void part_keep_schema(struct shard_part *part, struct arena *arena, uint64_t schema_version);
/* Where a segment of this collection lies and how it is made; `config` must live as long as it. */
void part_file_options(struct segment_file_options *options, const struct uuid *uuid,
                       const struct pdb_collection_config *config, uint64_t number);
/* Its index of a field from now on, whose reference it takes; NULL: none. Tells the sets. */
void part_set_ann(struct shard_part *part, uint32_t field, struct ann *ann);
void part_hold(struct shard_part *part);
void part_let_go(struct shard_part *part);
/* Takes it out of the shard's list, which lets go of it. */
void part_remove(struct shard_part *part);
/* A page of the segment does not fit its checksum: told once in the log. */
void part_log_damage(struct shard_part *part);
/* The same, and PDB_DATA_LOSS in the call. */
int part_tell_damage(struct shard_part *part, struct pdb_call *call);
/* The same for the first part of the shard that is damaged. */
void parts_tell_damage(struct shard *shard, struct pdb_call *call);

/* The newest row of the id that a write finds, in any part; false: none, or deleted. Its vectors
 * are NULL when they lie on a damaged page. */
bool parts_newest_row(struct shard *shard, struct pdb_text id, struct pdb_row *row_out);
/* Room for `row_count` rows of older parts to end. 0 or PDB_RESOURCE_EXHAUSTED. */
int parts_reserve_ends(struct shard *shard, uint64_t row_count);
/* A row of `id` has come into the memtable, or the id was deleted: its older row ends. */
void parts_end_older(struct shard *shard, struct pdb_text id, uint64_t version);

struct parts_stats {
    uint64_t rows_live; /* not deleted, of all parts; expired ones count until they are collected */
    uint64_t memtable_rows, memory_bytes;
    uint32_t segments, damaged;
    uint64_t segment_rows, segment_bytes, tombstones; /* bytes: on disk */
    uint64_t expired_rows; /* of segments, as last counted; they count as live until a merge */
    uint64_t ann_bytes;    /* in memory, part of memory_bytes */
};
void parts_stats(const struct shard *shard, struct parts_stats *stats_out);

/* ---- the end (discard.c) ---- */

/* Nobody looks at the part any more: frees it in steps, off the list of its shard, which may go
 * before. */
void discard_part(struct engine_core *core, struct shard_part *part);
/* Pages that memtables have not needed for a while go, too; every second or so. */
void discard_spares(struct engine_core *core);
/* At the end: frees what is left of both at once. */
void discard_rest(struct engine_core *core);

/* ---- views (view.c): what one reader sees ---- */

struct view_part {
    struct shard_part *part;
    struct memtable_snapshot *snapshot; /* of memtables */
};

struct shard_view {
    struct shard *shard;
    struct shard_read read;
    int64_t now_us;
    uint32_t count;
    struct view_part *parts; /* in the arena */
};

/* Of the call's shard, at its visible version. 0, or told: PDB_RESOURCE_EXHAUSTED; PDB_DATA_LOSS: a
 * segment is lost. Then there is nothing to close. */
int view_open(struct pdb_call *call, struct shard_view *view);
void view_close(struct shard_view *view);
uint64_t view_rows(const struct shard_view *view); /* the work of a full scan */
/* Keys: the part's place in the view << VIEW_KEY_SHIFT | its own key. */
enum { VIEW_KEY_SHIFT = 56 };
static inline uint64_t view_key(uint32_t part, uint32_t segment_row)
{
    return (uint64_t)part << VIEW_KEY_SHIFT | segment_row;
}
/* Whether it shows the row of a segment, its place being `part`. */
bool view_sees(const struct shard_view *view, uint32_t part, uint32_t row);
/* 0, or PDB_DATA_LOSS, told: a part that was read is damaged, so its rows are missing. */
int view_check(const struct shard_view *view, struct pdb_call *call);

struct view_cursor { /* begins as zeros */
    uint32_t part, row;
    struct memtable_cursor memtable;
};
/* As memtable_scan_step, over all parts. */
bool view_scan_step(struct shard_view *view, struct view_cursor *cursor,
                    const struct filter *filter, size_t row_budget,
                    int (*visit)(void *arg, uint64_t key), void *arg);
/* The row behind a key; pointers live as long as the view. `vectors`: field_count pointers, the
 * caller's, or NULL. False: it lies on a damaged page. */
bool view_row(const struct shard_view *view, uint64_t key, struct pdb_row *row_out,
              const void **vectors);

struct fetch;

struct view_search {
    struct shard_view *view;
    struct scan_query query;
    uint64_t skip[PARTS_MAX / 64]; /* parts that are not scanned: an index has answered for them */
    uint32_t part;
    bool begun;                     /* with this part */
    bool asked;                     /* for vectors up to ready_to */
    uint64_t window_from, ready_to; /* in the file of a part on disk */
    union {
        struct memtable_search memtable;
        struct segment_search segment;
    };
};
/* The caller has set what scan_query wants of its caller. No part is skipped. */
void view_search_begin(struct view_search *search, struct shard_view *view);
/* Rows that it has still to look at. */
uint64_t view_search_rows(const struct view_search *search);
/* False with fetch->pending: go on when the task of the fetch runs. */
bool view_search_step(struct view_search *search, size_t row_budget, struct fetch *fetch);

/* The `limit` smallest visible ids greater than `after` that match, in order of id. */
struct view_scroll {
    struct shard_view *view;
    struct pdb_text after;
    const struct filter *filter;
    uint64_t *keys; /* of the answer: `limit` of them, in the arena */
    size_t limit, count;
    /* its own */
    uint64_t **found; /* per part: its smallest, in order */
    size_t *found_count;
    uint32_t part;
    bool begun;
    struct memtable_scroll memtable;
    uint32_t row;
};
/* 0 or PDB_RESOURCE_EXHAUSTED. */
int view_scroll_begin(struct view_scroll *scroll, struct shard_view *view, struct arena *arena);
bool view_scroll_step(struct view_scroll *scroll, size_t row_budget);

struct shard_get {
    uint64_t version;
    int64_t now_us;
    const void **vectors;
    struct fetch *fetch; /* NULL: vectors on disk are waited for */
};

/* Asks for the vectors of the row behind a key, if they are on disk; false: go on when the task of
 * the fetch runs. */
bool view_fetch(const struct shard_view *view, uint64_t key, struct fetch *fetch);

/* The row of `id` at `version`, which is the shard's or an older one that is retained, not
 * expired. `vectors`: field_count pointers, the caller's, or NULL. With a fetch, VIEW_WAITING: the
 * vectors are on disk and were asked for. */
enum view_found { VIEW_MISSING, VIEW_FOUND, VIEW_DAMAGED, VIEW_WAITING };
enum view_found shard_get_row(struct shard *shard, struct pdb_text id, const struct shard_get *how,
                              struct pdb_row *row_out);

#endif
