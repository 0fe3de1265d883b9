/* The index of one vector field of one segment: codes of all rows, and, unless it is a flat one, a
 * graph over them, or lists that they lie in. Immutable once built or opened; every core searches
 * it by itself (search.h).
 *
 * Layer `index` is pure computation: no file, no thread, no clock. Rows are numbered from 0; where
 * a segment has rows without a vector, these are the ranks of those that have one.
 *
 * Making one: index_make_... (make.h) does all of this
 *     quantize_train      on a sample                                     quantize.h
 *     quantize_encode     every row, on any number of workers
 *     hnsw_build_...      in phases of parts, on any number of workers    hnsw.h
 *     index_set_graph     a graph is built on SQ8 codes or full rows, and may be searched on others
 *     ivf_build_...       lists, and codes in their order, likewise       ivf_build.h
 *     index_image_...     as bytes, in place                              image.h
 *
 * Manhattan and hamming have no codes but the rows themselves: quantize_supports(). */
#ifndef INDEX_INDEX_H
#define INDEX_INDEX_H

#include "index/calibrate.h"
#include "index/hnsw.h"
#include "index/ivf.h"
#include "index/quantize.h"

struct index {
    struct quantizer quantizer;
    struct codes codes;
    bool has_graph;
    struct hnsw graph; /* of as many rows as there are codes */
    bool has_lists;    /* then codes are numbered by places: ivf.rows says whose they are */
    struct ivf ivf;
    bool mapped; /* arrays lie in an image and are not ours */
    struct calibration calibration;
};

/* Memory for the codes of row_count rows, every one of which must be encoded; the quantizer has
 * been trained and becomes the index's. PDB_RESOURCE_EXHAUSTED, and the quantizer stays the
 * caller's. */
int index_init(struct index *index, const struct quantizer *quantizer, uint32_t row_count,
               struct heap *heap);
/* Frees codes, graph and quantizer. A zeroed index is legal; the second call does nothing. */
void index_dispose(struct index *index, struct heap *heap);

/* Gives a finished graph to the index it was built for, or to another of the same rows. */
void index_set_graph(struct index *index, const struct hnsw *graph);

/* Whether its codes find too little of the truth, so that such rows should be searched exactly. */
static inline bool index_codes_unfit(const struct index *index)
{
    return (index->calibration.flags & CALIBRATION_UNFIT) != 0;
}

/* Gives the lists to the index whose codes lie in their order. */
void index_set_lists(struct index *index, const struct ivf *ivf);

/* Bytes that codes, sums, graph and lists take, without the struct. */
size_t index_bytes(const struct index *index);

#endif
