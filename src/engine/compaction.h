/* Which segments of a shard to merge next. Pure. See compaction.c for the rule and what it costs. */
#ifndef ENGINE_COMPACTION_H
#define ENGINE_COMPACTION_H

#include <stdbool.h>
#include <stdint.h>

enum {
    COMPACTION_SEGMENTS_MAX = 8,     /* at rest */
    COMPACTION_DEAD_PERCENT = 20,    /* of a segment's rows: worth writing it again alone */
    COMPACTION_CANDIDATES_MAX = 256, /* segments that are looked at: the smallest ones */
};

struct compaction_segment {
    uint64_t number;
    uint64_t rows;
    uint64_t live_rows; /* rows that a merge would keep */
    uint64_t bytes;     /* of the Parquet file */
    uint64_t version_min, version_max;
    bool busy; /* part of a merge under way: not to be picked */
};

struct compaction_options {
    uint32_t segments_max; /* 0: COMPACTION_SEGMENTS_MAX */
    uint64_t rows_max;     /* of a segment; 0: SEGMENT_ROWS_MAX */
    /* The collection has not changed for a while: it may go down to one segment. */
    bool idle;
};

/* Indices into `segments` of what to merge into one, lowest first, into picked_out (room for
 * `count`); returns how many: 0: nothing; 1: write it again without its dead rows (or just drop it,
 * if live_rows is 0). Ask again when that is done, and after every flush. */
uint32_t compaction_pick(const struct compaction_segment *segments, uint32_t count,
                         const struct compaction_options *options, uint32_t *picked_out);

#endif
