/* Building the lists of an IVF index, and its codes in their order, in phases of parts (as hnsw.h
 * has them). make.c drives it. */
#ifndef INDEX_IVF_BUILD_H
#define INDEX_IVF_BUILD_H

#include "index/index.h"
#include "index/make.h"

struct ivf_params {
    uint32_t lists; /* 0: by the number of rows; at most IVF_LISTS_MAX */
    uint64_t seed;
};

struct ivf_build;
struct ivf_worker;

bool ivf_params_fit(const struct ivf_params *params);

/* Builds the lists of `index`, whose codes have memory and whose quantizer has been trained; of PQ
 * the mean and the scale are the lists' and the codebook is room for the build to fill.
 * `quantizer` (SQ8) has been trained on the same rows and becomes the lists' own. 0,
 * PDB_RESOURCE_EXHAUSTED (it stays the caller's). `index` and what `rows` points to stay until the
 * end. */
int ivf_build_begin(const struct ivf_params *params, const struct index_rows *rows,
                    const struct quantizer *quantizer, struct index *index, struct heap *heap,
                    struct ivf_build **build_out);
uint32_t ivf_build_parts(const struct ivf_build *build); /* of this phase; 0: finished */
/* 0, or PDB_DATA_LOSS: a vector could not be read; the build is to be abandoned then. */
int ivf_build_part(struct ivf_build *build, uint32_t part, struct ivf_worker *worker);
/* PDB_RESOURCE_EXHAUSTED: as above. */
int ivf_build_advance(struct ivf_build *build);
/* After the last phase: the index has its lists. Frees the build. */
void ivf_build_end(struct ivf_build *build);
void ivf_build_abandon(struct ivf_build *build); /* NULL is legal */

/* Rows read and coded so far, and in all. */
void ivf_build_progress(const struct ivf_build *build, uint64_t *done_out, uint64_t *total_out);

/* Scratch of one worker, for an index with these codes. PDB_RESOURCE_EXHAUSTED. */
int ivf_worker_open(const struct quantizer *shape, const struct ivf_params *params,
                    uint32_t row_count, struct heap *heap, struct ivf_worker **worker_out);
void ivf_worker_close(struct ivf_worker *worker, struct heap *heap); /* NULL is legal */

/* Bytes that a build and its workers take, the lists included, the codes not. shape: the kind,
 * metric and shape of the codes. */
uint64_t ivf_build_bytes(const struct ivf_params *params, const struct quantizer *shape,
                         uint32_t row_count, uint32_t worker_count);

#endif
