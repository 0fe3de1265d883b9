/* The memtable of one shard: its fresh rows, on its owner core, scanned exactly. One core, no
 * locks, no I/O, no clock.
 *
 * Multi-version by appending: a batch of version v appends a row for each record and links it to
 * the id's older row; of an older row nothing changes but `ended_at`, the version from which it is
 * no longer seen. A delete appends nothing: it ends the newest row of its id, and so needs no
 * memory. A reader carries one read version v and sees the rows with version <= v < ended_at. Rows
 * of batches that are queued in the log but not durable are there already (so that if_version and
 * insert see them), with versions above the shard's visible version. Since a failing log group
 * poisons the log, they never have to be taken back one by one.
 *
 * Rows lie in chunks of a limited number of rows: per chunk one array per vector field, contiguous
 * and 64-byte aligned, so that a scan runs at memory bandwidth; ids and metadata in blocks beside
 * it. A snapshot counts references to chunks; a chunk with many dead rows is rewritten
 * (memtable_collect) by moving its live rows, and freed when no snapshot holds it. */
#ifndef MEMTABLE_MEMTABLE_H
#define MEMTABLE_MEMTABLE_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/heap.h"
#include "base/trail.h"
#include "filter/filter.h"
#include "segment/scan.h"

#include <proximadb/types.h>

#define MEMTABLE_NEVER UINT64_MAX /* ended_at of a row that did not end */

struct memtable;

/* Chunks of memtables that are gone, for the next ones of the same core: memory that was touched
 * before is there at once, while fresh pages are cleared as they are written, which costs a core
 * that takes rows at full speed up to half of its time. Belongs to one core, outlives its
 * memtables.
 */
struct memtable_pool {
    struct heap *heap; /* its chunks stay counted here */
    struct memtable_spare *spares;
    size_t count, count_max; /* what is given beyond count_max is freed */
    size_t count_least;      /* since the last memtable_pool_age */
};
void memtable_pool_init(struct memtable_pool *pool, struct heap *heap);
void memtable_pool_limit(struct memtable_pool *pool, size_t bytes_max); /* 0 at first */
/* To be called every now and then: how many chunks should go now, each by a memtable_pool_drop:
 * what is beyond the limit, and a share of those that nobody has needed since the last call. */
size_t memtable_pool_age(struct memtable_pool *pool);
void memtable_pool_drop(struct memtable_pool *pool); /* one chunk, if there is one */
void memtable_pool_dispose(struct memtable_pool *pool);

struct memtable_options {
    struct heap *heap;
    struct memtable_pool *pool;      /* with the same heap; NULL: none */
    struct hash_key hash_key;        /* of the id map: random per process */
    const struct scan_field *fields; /* copied */
    uint32_t field_count;            /* 0..PDB_FIELD_MAX */
    /* Most rows of a chunk; 0: chosen from the row size (about 4 MiB a chunk). The first chunks are
     * smaller, so that a collection of ten rows costs kilobytes. */
    uint32_t chunk_rows;
};

/* 0 or PDB_RESOURCE_EXHAUSTED. */
int memtable_new(const struct memtable_options *options, struct memtable **memtable_out);
void memtable_free(struct memtable *m); /* no snapshot may be left */
/* The same in steps: frees one chunk (about 4 MiB), or in the end the rest. True: it is gone. */
bool memtable_free_step(struct memtable *m);

/* ---- writing: prepare may fail, commit may not ---- */

/* Reserves room for `row_count` commits whose ids and metadata have the given total of bytes; it
 * replaces an earlier reservation (so a caller that gives up need not say so; 0, 0 gives the memory
 * back). Nothing visible changes. Reads, snapshots and memtable_collect between the commits leave
 * the reservation whole. 0 or PDB_RESOURCE_EXHAUSTED: then the earlier reservation still stands. */
int memtable_prepare(struct memtable *m, size_t row_count, size_t text_bytes);
/* It may get as many ids as the memtable before had: once it has a sixteenth of them, its id map
 * takes room for all, instead of growing through all sizes again. */
void memtable_expect(struct memtable *m, const struct memtable *before);
/* Appends one row (copied; row->version must not be below any earlier one), or ends the newest of
 * its id (row->deleted; an id that is not there is no error). A row needs a prepare that covered
 * it, a delete needs none. Of two rows with one id and version the later counts. */
void memtable_commit(struct memtable *m, const struct pdb_row *row);

/* Ends the newest row of `id` at `version`, which must not be below the row's, if it has not ended;
 * true if it did. What memtable_commit does with a deleted row; also of a sealed memtable, whose
 * rows are superseded elsewhere. */
bool memtable_end(struct memtable *m, struct pdb_text id, uint64_t version);

/* ---- point reads ---- */

/* The newest row of `id` with version <= at_version, expired or not. False: there is none, or it is
 * deleted at that version; *version_out (may be NULL) is the row's version, or that of the delete,
 * or 0 for an id that is not known (a delete is forgotten once collected). The row's pointers live
 * until the next call that writes or collects, unless a snapshot holds them. `vectors` in the row
 * point to an array owned by the memtable that the next memtable_get overwrites. row_out may be
 * NULL. */
bool memtable_get(struct memtable *m, struct pdb_text id, uint64_t at_version,
                  struct pdb_row *row_out, uint64_t *version_out);

/* Visits the newest state of every id, in no order: a row, or for a deleted id one with `deleted`,
 * the id and the version of the delete. The memtable must not change meanwhile; the row's pointers
 * live as for memtable_get. */
void memtable_each_newest(struct memtable *m, void (*visit)(void *arg, const struct pdb_row *row),
                          void *arg);

/* ---- scans ---- */

struct memtable_snapshot; /* what a reader of version v sees; pins chunks */

/* All batches with versions <= at_version must be complete; later commits and collections do not
 * change what it shows. Costs one small allocation, however many rows. 0 or PDB_RESOURCE_EXHAUSTED.
 * */
int memtable_snapshot(struct memtable *m, uint64_t at_version, int64_t now_us,
                      struct memtable_snapshot **snapshot_out);
void memtable_snapshot_release(struct memtable_snapshot *s); /* NULL is legal */
/* Rows in it, live or not: the work of a full scan. */
uint64_t memtable_snapshot_rows(const struct memtable_snapshot *s);

/* A cursor of budgeted steps over a snapshot, in order of arrival; begins as zeros. (Rows that
 * memtable_collect moved have arrived again.) */
struct memtable_cursor {
    uint32_t chunk, row; /* next */
};
/* One query on its way over this memtable: all of it the caller's memory, until done. */
struct memtable_search {
    struct memtable_snapshot *snapshot;
    struct memtable_cursor cursor; /* set by begin and step */
    uint64_t key_tag;              /* or'ed into the keys: only its top 8 bits may be set */
    /* Begun by the caller (scan_query_begin). Its keys: tag | chunk << 32 | row, for
     * memtable_snapshot_row; ties go to the row that arrived first. */
    struct scan_query *query;
};
/* The caller has set snapshot, key_tag and query. */
void memtable_search_begin(struct memtable_search *search);
/* Looks at about `row_budget` rows (whole batches, so that the answer does not depend on the
 * budget); true when the scan is complete. Allocates nothing. */
bool memtable_search_step(struct memtable_search *search, size_t row_budget);

/* The row behind a key, whose top 8 bits are not looked at; pointers live as long as the snapshot.
 * `vectors`: field_count pointers, the caller's; NULL: row_out->vectors is NULL. */
void memtable_snapshot_row(const struct memtable_snapshot *s, uint64_t key, struct pdb_row *row_out,
                           const void **vectors);

/* Visits live rows that match, up to row_budget rows looked at; true when no row is left. Nonzero
 * from `visit` stops the step after that row (for scroll and count pages). */
bool memtable_scan_step(struct memtable_snapshot *s, struct memtable_cursor *cursor,
                        const struct filter *filter, size_t row_budget,
                        int (*visit)(void *arg, uint64_t key), void *arg);

/* Scroll in order of id: the `limit` smallest ids greater than `after`, live and matching, by one
 * budgeted pass that keeps a bounded heap. Same step pattern as search; cursor and count begin as
 * zeros. */
struct memtable_scroll {
    struct memtable_snapshot *snapshot;
    struct memtable_cursor cursor;
    struct pdb_text after; /* len 0: from the start */
    const struct filter *filter;
    uint64_t *keys; /* caller's memory, `limit` of them; sorted by id when done */
    size_t limit, count;
};
bool memtable_scroll_step(struct memtable_scroll *scroll, size_t row_budget);

/* ---- sealing: the way into a segment ---- */

/* From now on no row is appended or moved: prepare and commit of rows are bugs, memtable_collect
 * does nothing, and a reservation is given back. Rows still end, and everything that reads goes on.
 * Meanwhile a worker thread may call memtable_order and memtable_row_at; all else stays with the
 * owner core. */
void memtable_seal(struct memtable *m);

/* The keys of the rows that a segment must hold: version <= at_version, not ended at or before
 * oldest_version, and seen by somebody (a row that was superseded within its own version is not),
 * sorted by id (bytewise), then falling version. An array from `heap`, the caller's to free; not
 * NULL when empty. The memtable must be sealed. 0 or PDB_RESOURCE_EXHAUSTED (at its peak it needs
 * 32 bytes a row). */
int memtable_order(const struct memtable *m, uint64_t at_version, uint64_t oldest_version,
                   struct heap *heap, uint64_t **keys_out, size_t *count_out);
/* The row behind a key of memtable_order; pointers live as long as the memtable. `vectors`:
 * field_count pointers, the caller's; NULL: row_out->vectors is NULL. */
void memtable_row_at(const struct memtable *m, uint64_t key, struct pdb_row *row_out,
                     const void **vectors);
/* The version from which that row is no longer seen; MEMTABLE_NEVER: it has not ended. */
uint64_t memtable_ended_at(const struct memtable *m, uint64_t key);

/* ---- upkeep ---- */

/* One budgeted step of giving space back. Rewrites chunks of which a third is dead: rows that ended
 * at or before `oldest_version` (below which nobody will read or take a snapshot), and rows that
 * expired at or before `expired_before_us`. True while there is more to do; false also without
 * memory for moving: try later. */
bool memtable_collect(struct memtable *m, uint64_t oldest_version, int64_t expired_before_us,
                      size_t row_budget);

struct memtable_stats {
    uint64_t
        rows_live; /* newest, not deleted, of any version; expired ones count until collected */
    uint64_t rows_total, chunks;
    /* Lowest version of a commit, and highest of a commit or end; 0: none yet. */
    uint64_t version_oldest, version_newest;
    uint64_t bytes; /* all memory of it, also what only snapshots hold */
};
void memtable_stats(const struct memtable *m, struct memtable_stats *stats_out);

/* Checks every invariant by walking all rows: for tests and stress builds. 0 or PDB_INTERNAL, told
 * in the trail. */
int memtable_check(const struct memtable *m, struct trail *trail);

#endif
