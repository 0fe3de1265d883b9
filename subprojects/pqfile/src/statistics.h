/* statistics.h: smallest and largest value of pages and chunks, in the order that the column's type
 * defines, as the footer and the column index store them. */
#ifndef PQFILE_STATISTICS_H
#define PQFILE_STATISTICS_H

#include "buffer.h"
#include "memory.h"
#include "pqfile/types.h"

/* How values compare. */
enum pq_bounds_kind {
    PQ_BOUNDS_NONE, /* INT96, FLOAT16, decimals in bytes: no order that all readers agree on */
    PQ_BOUNDS_BOOLEAN,
    PQ_BOUNDS_I32,
    PQ_BOUNDS_U32,
    PQ_BOUNDS_I64,
    PQ_BOUNDS_U64,
    PQ_BOUNDS_F32, /* NaN has no place in it */
    PQ_BOUNDS_F64,
    PQ_BOUNDS_BYTES, /* bytewise, unsigned */
    PQ_BOUNDS_TEXT,  /* the same, but cut between characters */
    PQ_BOUNDS_FIXED, /* bytewise, never cut */
};

enum pq_bounds_kind pq_bounds_kind_of(const struct pqfile_node *node);

/* Collects values; min and max are PLAIN bytes in buffers whose failure sticks. */
struct pq_bounds {
    enum pq_bounds_kind kind;
    uint32_t width; /* of a value in an array; PQ_BOUNDS_BYTES and TEXT: not used */
    bool any;       /* there was a value that counts */
    struct pq_buffer min;
    struct pq_buffer max;
};

void pq_bounds_init(struct pq_bounds *b, const struct pqfile_node *node,
                    const struct pqfile_allocator *allocator);
void pq_bounds_dispose(struct pq_bounds *b);

/* Forgets all values. */
void pq_bounds_clear(struct pq_bounds *b);

/* Values as in struct pqfile_batch. */
void pq_bounds_add(struct pq_bounds *b, const void *values, size_t count);

/* Adds all that `from`, of the same kind, has seen. */
void pq_bounds_merge(struct pq_bounds *b, const struct pq_bounds *from);

bool pq_bounds_failed(const struct pq_bounds *b);

/* <0, 0, >0: two values in PLAIN bytes of the kind's size. */
int pq_bounds_compare(enum pq_bounds_kind kind, struct pqfile_bytes a, struct pqfile_bytes b);

/* Copies the bounds into the arena as statistics: has_min, has_max and what belongs to them are
 * set, nothing else is. Texts and bytes longer than `bytes_max` are cut; a maximum that cannot be
 * cut is left whole. 0, or pq_arena_code() of the arena. */
int pq_bounds_store(const struct pq_bounds *b, uint32_t bytes_max, struct pq_arena *arena,
                    struct pqfile_statistics *statistics_out);

#endif
