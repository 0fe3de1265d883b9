/* Which segments of a shard to merge next. Pure. compaction.c has the rule and what it costs. */
#ifndef ENGINE_COMPACTION_H
#define ENGINE_COMPACTION_H

#include <stdbool.h>
#include <stdint.h>

enum {
    COMPACTION_SEGMENTS_MAX = 8,  /* at rest */
    COMPACTION_DEAD_PERCENT = 20, /* of a segment's rows: worth writing it again alone */
};

struct compaction_segment {
    uint64_t number;
    uint64_t rows;
    uint64_t live_rows; /* rows that a merge would keep; <= rows */
    uint64_t bytes;     /* of the Parquet file */
    bool busy;          /* part of a merge under way: not to be picked */
};

enum compaction_pace {
    COMPACTION_BUSY,  /* rows keep coming: half as many segments again may stand */
    COMPACTION_QUIET, /* no flush for a moment: at most segments_max */
    /* The collection has not changed for a while: one segment. This may write all of it again, so
     * the while should grow with its size. */
    COMPACTION_IDLE,
};

struct compaction_options {
    uint32_t segments_max; /* 0: COMPACTION_SEGMENTS_MAX */
    uint64_t rows_max;     /* of a segment; 0: no limit */
    enum compaction_pace pace;
};

/* Indices into `segments` of what to merge into one, into picked_out (room for `count`, all of it
 * is used): first all that have no live row, which cost nothing and may be merged without the rest,
 * then the others, smallest first. Returns how many; 0: nothing. A single one with live rows is to
 * be written again without its dead ones. Ask again when that is done, and after every flush;
 * merges of disjoint segments may be under way together. */
uint32_t compaction_pick(const struct compaction_segment *segments, uint32_t count,
                         const struct compaction_options *options, uint32_t *picked_out);

#endif
