/* Vectors to load and to search with: generated, or read from a file, whole in memory. */
#ifndef BENCH_DATASET_H
#define BENCH_DATASET_H

#include "base/trail.h"

#include <stddef.h>
#include <stdint.h>

struct dataset {
    float *values; /* row_count x dimension, row-major */
    size_t row_count, dimension;
    int32_t *labels; /* row_count, or NULL: rows have no metadata */
};

struct dataset_shape {
    size_t row_count, dimension;
    uint64_t seed;
    uint32_t label_count;   /* labels are below it; 0: none */
    uint32_t cluster_count; /* 0: none */
    uint64_t cluster_seed;  /* of the centres: rows and queries share it */
};
/* Standard normal values from the seed; with clusters, each row is one of the centres and a normal
 * deviation along a few directions that all clusters share, as embeddings have. The same arguments
 * give the same rows. 0 or PDB_RESOURCE_EXHAUSTED. */
int dataset_generate(struct dataset *dataset_out, const struct dataset_shape *shape,
                     struct trail *trail);

/* Reads at most `row_max` rows (0: all) of a file; vector_file.h says which.
 * 0, PDB_NOT_FOUND, PDB_INVALID_ARGUMENT (says what is wrong with it) or PDB_RESOURCE_EXHAUSTED. */
int dataset_read(struct dataset *dataset_out, const char *path, size_t row_max,
                 struct trail *trail);

/* Adds the labels of an idx1-ubyte file, which must have one for each row read. */
int dataset_read_labels(struct dataset *dataset, const char *path, struct trail *trail);

/* `rows` row-major floats are copied; for tests. */
int dataset_copy(struct dataset *dataset_out, const float *values, size_t row_count,
                 size_t dimension);

void dataset_dispose(struct dataset *dataset);

#endif
