/* Files of vectors, read row by row: the memory taken does not depend on their size. */
#ifndef BENCH_CLIENT_VECTOR_FILE_H
#define BENCH_CLIENT_VECTOR_FILE_H

#include "base/trail.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VECTOR_FILE_ROWS_UNKNOWN UINT64_MAX

enum vector_file_format { VECTOR_FILE_NONE, VECTOR_FILE_IDX, VECTOR_FILE_FVECS, VECTOR_FILE_NPY };

/* What a value of the file is, whatever it is read into. */
enum vector_file_value {
    VECTOR_FILE_FLOATS,
    VECTOR_FILE_DOUBLES,
    VECTOR_FILE_HALVES,
    VECTOR_FILE_BYTES, /* with a sign, unless in idx */
};

struct vector_file {
    enum vector_file_format format;
    enum vector_file_value value;
    size_t dimension;
    uint64_t row_count; /* what the header says; fvecs: VECTOR_FILE_ROWS_UNKNOWN */
    uint64_t row;       /* the next one */
    /* inside */
    void *file;
    bool head_taken;
};

/* By the end of the name:
 *   idx3-ubyte, idx3-ubyte.gz   images of bytes (the format of MNIST); a pixel becomes a float
 *   .fvecs                      a little-endian int32 dimension before each row
 *   .npy                        NumPy 1.0, 2.0 or 3.0, '<f2', '<f4', '<f8' or '|i1', C order, two
 *                               dimensions
 * VECTOR_FILE_NONE: none of these. */
enum vector_file_format vector_file_format(const char *path);

/* 0; PDB_NOT_FOUND; PDB_INVALID_ARGUMENT: not such a file, or a dimension not in
 * 1..PDB_DIMENSION_MAX. An fvecs file without a row is refused. */
int vector_file_open(struct vector_file *file_out, const char *path, enum vector_file_format format,
                     struct trail *trail);
void vector_file_close(struct vector_file *file);

/* The next rows, at most `row_max`, into row_max x dimension floats; *count_out 0 at the end.
 * PDB_INVALID_ARGUMENT: the file is shorter or longer than it says, a row has another dimension, or
 * its compression is broken. */
int vector_file_read(struct vector_file *file, float *values_out, size_t row_max, size_t *count_out,
                     struct trail *trail);
/* Goes on `row_count` rows later, or at the end. */
int vector_file_skip(struct vector_file *file, uint64_t row_count, struct trail *trail);
/* Bytes of the file (as stored) that were read. */
uint64_t vector_file_offset(const struct vector_file *file);

#endif
