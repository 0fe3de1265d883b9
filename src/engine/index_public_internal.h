/* What the files of pdb_index_* share. */
#ifndef ENGINE_INDEX_PUBLIC_INTERNAL_H
#define ENGINE_INDEX_PUBLIC_INTERNAL_H

#include "base/heap.h"
#include "base/trail.h"
#include "index/index.h"
#include "index/make.h"

#include <proximadb/index.h>

_Static_assert((int)QUANTIZE_SQ8 + 1 == (int)PDB_QUANTIZATION_SQ8 &&
                   (int)QUANTIZE_SQ4 + 1 == (int)PDB_QUANTIZATION_SQ4,
               "one list under two names");

struct pdb_index {
    /* Of all that follows; used by who makes and destroys it only. */
    struct heap heap;
    enum pdb_metric metric;
    uint32_t dimension, row_count;
    enum pdb_index_type type; /* what it is, never AUTO */
    enum pdb_quantization_type quantization;
    bool has_index; /* else vectors only */
    struct index index;
    /* Row r at vectors + r x stride; NULL: there are none. */
    const char *vectors;
    size_t stride;
    void *vectors_memory; /* of the heap: our own; NULL: the caller's, or mapped, or none */
    void *image_memory;   /* of the heap: the index lies in it */
    void *map;            /* of a file, whole; NULL: none */
    size_t map_bytes;
    uint64_t mapped_bytes; /* of index and vectors that are used there */
};

/* Bytes of a vector. */
static inline size_t public_index_row_bytes(enum pdb_metric metric, uint32_t dimension)
{
    return metric == PDB_METRIC_HAMMING ? ((size_t)dimension + 7) / 8
                                        : (size_t)dimension * sizeof(float);
}

/* From row to row of the index's own vectors: whole lines, or a row would touch one more. */
static inline size_t public_index_stride(enum pdb_metric metric, uint32_t dimension)
{
    return (public_index_row_bytes(metric, dimension) + 63) & ~(size_t)63;
}

/* What programs call codes, and what the index does. */
static inline enum pdb_quantization_type public_index_quantization(enum quantize_kind kind)
{
    return kind == QUANTIZE_NONE ? PDB_QUANTIZATION_NONE
                                 : (enum pdb_quantization_type)((unsigned)kind + 1);
}
static inline enum quantize_kind public_index_codes(enum pdb_quantization_type quantization)
{
    return quantization == PDB_QUANTIZATION_NONE ? QUANTIZE_NONE
                                                 : (enum quantize_kind)((unsigned)quantization - 1);
}

/* A zeroed index; NULL: no memory. fail_at as in heap.h, for tests. */
struct pdb_index *public_index_new(uint64_t fail_at);
/* Large memory of the index's heap, on huge pages where the system has them. */
void *public_index_memory(struct pdb_index *index, size_t bytes);
/* Kernels are chosen before anything is computed; by whoever comes first. */
void public_index_select_kernels(void);
/* Tells the caller; returns the trail's code. */
int public_index_error(const struct trail *trail, struct pdb_error *error);

/* Builds with the threads of the options. fail_at as above. */
int public_index_build(const struct pdb_index_options *options, const void *rows,
                       size_t stride_bytes, size_t count, uint64_t fail_at,
                       struct pdb_index **index_out, struct trail *trail);

#endif
