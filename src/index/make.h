/* Making an index of any kind from the vectors of a segment: training, codes, a graph or lists, and
 * calibration, in phases of parts that any number of workers compute (as in hnsw.h, which this
 * drives). Pure computation: who drives it decides where vectors come from and where it runs.
 *
 *     index_make_begin(&spec, &rows, heap, &make)
 *     while (index_make_parts(make) > 0) {
 *         for each part, in any order, on any worker:  index_make_part(make, part, worker);
 *         once all have returned, on one thread:       index_make_advance(make);
 *     }
 *     index_make_end(make, &index);
 *
 * What one worker wrote must be visible to all before the next phase. A part takes a few
 * milliseconds, so that a worker can look for other work between two of them. */
#ifndef INDEX_MAKE_H
#define INDEX_MAKE_H

#include "index/index.h"

/* Numbers are on disk. */
enum index_kind { INDEX_FLAT = 1, INDEX_HNSW = 2, INDEX_IVF = 3 };

struct index_spec {
    enum index_kind kind;
    enum quantize_kind codes;
    uint32_t code_bits; /* of BINARY: 1 to 8; 0: the default */
    enum pdb_metric metric;
    uint32_t dimension;
    uint32_t m, ef_construction; /* of graphs; 0: the defaults */
    uint32_t lists;              /* of IVF; 0: by the number of rows */
    uint64_t seed;
};

/* The vectors, numbered 0 to count - 1. */
struct index_rows {
    uint32_t count; /* > 0 */
    /* The vector of a row: in place, or written to `room` (dimension floats). NULL: it cannot be
     * read (a damaged page), which ends the making. Called by several workers at once. */
    const float *(*vector)(const void *owner, uint32_t row, float *room);
    const void *owner;
    /* An index to begin with, of rows that are mostly the same (the largest of merged segments),
     * and what each of its rows is now, or INDEX_ROW_GONE; no two of them the same. Both stay until
     * the end. Its links are kept as far as they lead to rows that are left, and its codes where
     * its quantizer suits the new rows. It is passed over where that would not pay: another m, less
     * than half of the rows, or more than 40 % of its own gone. NULL: none. */
    const struct index *base;
    const uint32_t *base_rows;
};
#define INDEX_ROW_GONE HNSW_NONE

struct index_make;
struct index_worker;

/* Whether vectors of this metric can have such an index: manhattan and hamming only with codes
 * QUANTIZE_NONE. */
bool index_make_supports(const struct index_spec *spec);
/* Bytes that making it takes at most, with so many workers, the finished index included. */
uint64_t index_make_bytes(const struct index_spec *spec, uint32_t row_count, uint32_t worker_count);

/* 0, PDB_RESOURCE_EXHAUSTED, PDB_INVALID_ARGUMENT (a parameter out of its range),
 * PDB_OUT_OF_RANGE (no row, too many). `rows` is copied; what it points to stays until the end. */
int index_make_begin(const struct index_spec *spec, const struct index_rows *rows,
                     struct heap *heap, struct index_make **make_out);
/* Whether it begins with the base. */
bool index_make_merges(const struct index_make *make);
/* Of this phase; 0: finished, or failed. */
uint32_t index_make_parts(const struct index_make *make);
void index_make_part(struct index_make *make, uint32_t part, struct index_worker *worker);
void index_make_advance(struct index_make *make);
/* Rows that no way led to, or from, in a finished graph before they were linked. */
uint64_t index_make_repaired(const struct index_make *make);
/* After the last phase: 0 and the index, to be disposed of with the heap of begin; or, with nothing
 * left, PDB_DATA_LOSS (a vector could not be read), PDB_RESOURCE_EXHAUSTED. Frees `make` in any
 * case. */
int index_make_end(struct index_make *make, struct index *index_out);
void index_make_abandon(struct index_make *make); /* NULL is legal */

/* Scratch of one worker for one making. PDB_RESOURCE_EXHAUSTED. */
int index_worker_open(const struct index_make *make, struct heap *heap,
                      struct index_worker **worker_out);
void index_worker_close(struct index_worker *worker, struct heap *heap); /* NULL is legal */

/* Work done and in all, in a unit of its own: good for a share and an estimate of time. */
void index_make_progress(const struct index_make *make, uint64_t *done_out, uint64_t *total_out);

#endif
