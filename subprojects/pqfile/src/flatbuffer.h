/* flatbuffer.h: writes flatbuffers front to back, as far as a schema of Arrow needs them.
 *
 * Offsets of the format only point forward, from a table's slot to what it refers to. So tables are
 * written before their children and each slot is filled in when its child is: no second buffer and
 * nothing is turned around. A table's vtable stands right before it.
 *
 * Everything is aligned from the start of the flatbuffer, which is where the pq_buffer stood at
 * pq_flat_begin(). The buffer's failure sticks. Source: flatbuffers.dev, "FlatBuffer Internals". */
#ifndef PQFILE_FLATBUFFER_H
#define PQFILE_FLATBUFFER_H

#include "buffer.h"

enum { PQ_FLAT_SLOT_MAX = 8 };

struct pq_flat {
    struct pq_buffer *out;
    size_t start;
};

/* A table being written. Its slots are added one after another, all before any child. */
struct pq_flat_table {
    size_t vtable;
    size_t table;
};

void pq_flat_begin(struct pq_flat *flat, struct pq_buffer *out);

/* A place for an offset that is filled in by pq_flat_point(); the first one is the root's. */
size_t pq_flat_place(struct pq_flat *flat);

/* Makes the offset at `place` point to what is written next, aligned to four bytes. */
void pq_flat_point(struct pq_flat *flat, size_t place);

/* Begins a table with `slot_count` slots, all absent; pq_flat_point() comes before it. */
struct pq_flat_table pq_flat_table(struct pq_flat *flat, size_t place, unsigned slot_count);

/* Adds a scalar of 1, 2, 4 or 8 bytes. */
void pq_flat_scalar(struct pq_flat *flat, struct pq_flat_table *t, unsigned slot, uint64_t value,
                    size_t size);

/* Adds an offset; returns its place. */
size_t pq_flat_offset(struct pq_flat *flat, struct pq_flat_table *t, unsigned slot);

/* Writes text for the offset at `place`. */
void pq_flat_text(struct pq_flat *flat, size_t place, const char *text);

/* Writes a vector of `count` offsets for `place`; returns the first one's place, the others follow
 * four bytes apart. */
size_t pq_flat_vector(struct pq_flat *flat, size_t place, uint32_t count);

#endif
