/* The memtable of one shard: its fresh rows, on its owner core, scanned exactly. One core, no locks, no I/O.
 *
 * Multi-version by appending: a batch of version v appends a row for each record (a deletion appends a tombstone row) and links it to the id's older
 * row; nothing is overwritten. A reader carries one read version and sees, per id, the newest row with version <= its own. Rows of
 * batches that are queued in the log but not durable are there already (so that if_version and insert see them), with versions above the shard's visible
 * version. Since a failing log group poisons the log, they never have to be taken back one by one.
 *
 * Rows lie in chunks of a fixed number of rows: per chunk one array per vector field, contiguous and 64-byte aligned, so that a scan runs at
 * memory bandwidth; ids and metadata in blocks beside it. A snapshot counts references to chunks; a chunk whose rows are mostly superseded, deleted or expired is rewritten
 * (memtable_collect) by moving its live rows, and freed when no snapshot holds it. */
#ifndef MEMTABLE_MEMTABLE_H
#define MEMTABLE_MEMTABLE_H

#include "base/arena.h"
#include "base/heap.h"
#include "base/topk.h"
#include "base/trail.h"
#include "filter/filter.h"

#include <proximadb/types.h>

struct memtable;

struct memtable_field {
    uint32_t dimension;
    enum pdb_metric metric;
    uint32_t bytes; /* of one vector: dimension x 4, or packed bits */
};

struct memtable_options {
    struct heap *heap;
    const struct memtable_field *fields;
    uint32_t field_count;
    uint32_t chunk_rows; /* 0: chosen from the row size (about 4 MiB a chunk; tiny under PDB_STRESS) */
};

int memtable_new(const struct memtable_options *options, struct memtable **memtable_out);
void memtable_free(struct memtable *m); /* no snapshot may be left */

/* ---- writing: prepare may fail, commit may not ---- */

/* Makes room for `row_count` rows with the given total of id and metadata bytes. Nothing visible changes. 0 or PDB_RESOURCE_EXHAUSTED. */
int memtable_prepare(struct memtable *m, size_t row_count, size_t text_bytes);
/* Appends one row (copied; row->version must not be below any earlier one). Needs a prepare that covered it. */
void memtable_commit(struct memtable *m, const struct pdb_row *row);

/* ---- point reads ---- */

/* The newest row of `id` with version <= at_version. False: none, or it is a tombstone (then *version_out still tells the tombstone's version;
 * 0 for an id never seen). The row's pointers live until the next call that writes or collects, unless a snapshot holds them.
 * `vectors` in the row point to an array owned by the memtable that the next memtable_get overwrites. */
bool memtable_get(struct memtable *m, struct pdb_text id, uint64_t at_version, struct pdb_row *row_out,
                  uint64_t *version_out);

/* ---- scans ---- */

struct memtable_snapshot; /* what a reader of version v sees; pins chunks */

int memtable_snapshot(struct memtable *m, uint64_t at_version, int64_t now_us, struct memtable_snapshot **snapshot_out);
void memtable_snapshot_release(struct memtable_snapshot *s);
/* Rows in it, live or not: the work of a full scan. */
uint64_t memtable_snapshot_rows(const struct memtable_snapshot *s);

/* A cursor of budgeted steps over a snapshot, in order of arrival. */
struct memtable_cursor {
    uint32_t chunk, row; /* next */
};
/* One search: all of it the caller's memory, until done. */
struct memtable_search {
    struct memtable_snapshot *snapshot;
    struct memtable_cursor cursor;
    uint32_t field;
    const void *query; /* dimension floats (cosine: any length, normalised inside) or packed bits */
    float query_norm;  /* set by memtable_search_begin */
    const struct filter *filter;
    struct topk topk; /* key: chunk << 32 | row, for memtable_snapshot_row; distance: lower is better (negated similarity; euclidean: squared) */
    bool has_score_limit; /* min_score of the request, in the metric's own scale and direction: drop rows worse than it */
    float score_limit;
    uint64_t rows_scored, rows_seen;
    struct pdb_text exclude_id; /* search by stored record leaves that record out; len 0: none */
};
void memtable_search_begin(struct memtable_search *search);
/* Scores about `row_budget` rows; true when the scan is complete. Allocates nothing. */
bool memtable_search_step(struct memtable_search *search, size_t row_budget);
/* The score as api.md defines it, from a kept distance: similarity for cosine and dot, the distance itself (root taken) for the others. */
float memtable_score(enum pdb_metric metric, float distance);

/* The row behind a key or cursor position; pointers live as long as the snapshot. */
void memtable_snapshot_row(const struct memtable_snapshot *s, uint64_t key, struct pdb_row *row_out,
                           const void **vectors /* field_count pointers, the caller's */);

/* Visits live rows that match, up to row_budget rows looked at; true when complete. Nonzero from `visit` stops the step after that row (for scroll and count pages). */
bool memtable_scan_step(struct memtable_snapshot *s, struct memtable_cursor *cursor, const struct filter *filter,
                        size_t row_budget, int (*visit)(void *arg, uint64_t key), void *arg);

/* Scroll in order of id: the `limit` smallest ids greater than `after`, live and matching, by one budgeted pass that keeps a bounded heap. Same step pattern as search. */
struct memtable_scroll {
    struct memtable_snapshot *snapshot;
    struct memtable_cursor cursor;
    struct pdb_text after; /* len 0: from the start */
    const struct filter *filter;
    uint64_t *keys; /* caller's memory, `limit` of them; sorted by id when done */
    size_t limit, count;
};
bool memtable_scroll_step(struct memtable_scroll *scroll, size_t row_budget);

/* ---- upkeep ---- */

/* One budgeted step of giving space back: rewrites chunks with many dead rows (superseded below `oldest_version`, tombstones that hide nothing, rows expired before
 * `expired_before_us`). Returns true while there is more to do. `dropped` is called for each expired live row that it removes (may be NULL): so the count stays right. */
bool memtable_collect(struct memtable *m, uint64_t oldest_version, int64_t expired_before_us, size_t row_budget);

struct memtable_stats {
    uint64_t rows_live; /* newest, not deleted, of any version; expired ones still count until collected */
    uint64_t rows_total, chunks, bytes;
};
void memtable_stats(const struct memtable *m, struct memtable_stats *stats_out);

#endif
