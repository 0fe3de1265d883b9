/* The rows of several segments as one source for segment_build: what compaction merges. In the
 * order that a segment wants, without the rows that nobody can read any more.
 *
 * Made and freed on the owner; in between a build's worker reads from it. That a row has ended and
 * still stays, or ends while the build runs, is the owner's to carry with segment_merge_find. */
#ifndef ENGINE_SEGMENT_MERGE_H
#define ENGINE_SEGMENT_MERGE_H

#include "engine/segment_build.h"

struct segment_merge_input {
    const struct segment_file *file;       /* stays open until the merge is freed */
    const struct segment_deletes *deletes; /* a copy, the worker's meanwhile; NULL: none */
};

struct segment_merge_options {
    const struct segment_merge_input *inputs; /* copied */
    uint32_t input_count;
    uint32_t field_count;
    uint64_t oldest_version;   /* nobody reads below: rows that ended at or before it go */
    int64_t expired_before_us; /* rows that expired at or before it go */
};

struct segment_merge_stats {
    uint64_t rows, rows_ended, rows_expired; /* that stay; that went */
};

struct segment_merge;

/* 0 or PDB_RESOURCE_EXHAUSTED. */
int segment_merge_new(struct heap *heap, const struct segment_merge_options *options,
                      struct segment_merge **merge_out);
void segment_merge_free(struct heap *heap, struct segment_merge *merge); /* NULL is legal */
/* Errors: PDB_DATA_LOSS (a damaged page; the trail names the segment), PDB_RESOURCE_EXHAUSTED. */
struct segment_source segment_merge_source(struct segment_merge *merge);

/* When the build is done. */
void segment_merge_stats(const struct segment_merge *merge, struct segment_merge_stats *stats_out);
/* The row of `to` that is row `row` of `from`: the same id and version. False: it was not taken
 * over. */
bool segment_merge_find(const struct segment *to, const struct segment *from, uint32_t row,
                        uint32_t *row_out);

#endif
