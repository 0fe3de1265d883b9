/* dataset.c: reads vector files and generates vectors.
 *
 * Files come from outside: each length is checked before memory is taken for it, and a file that is
 * shorter or longer than it says is refused. Everything is read through zlib, which passes
 * uncompressed files through, so that there is one way to read. Rows lie one after the other in
 * memory, so that a batch of consecutive rows is one piece of a request and is never copied
 * (encode.c).
 *
 *   idx    2 zero bytes, type (8: byte), number of dimensions; a big-endian u32 for each; the bytes
 *   fvecs  per row: int32 dimension, then so many float32
 *   npy    "\x93NUMPY" major minor, length of the header, the header as a Python dictionary, the
 *          values */
#include "bench/dataset.h"

#include "base/bytes.h"
#include "base/heap.h"
#include "base/rng.h"
#include "base/text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { ROWS_MAX = 2000000000, HEADER_MAX = 65536, READ_MAX = 1 << 30 };

/* Memory for the rows; nothing is taken on failure. */
static int reserve(struct dataset *dataset, size_t row_count, size_t dimension, struct trail *trail)
{
    *dataset = (struct dataset){0};
    if (dimension == 0 || dimension > PDB_DIMENSION_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "dimension %zu, must be 1..%d", dimension,
                         PDB_DIMENSION_MAX);
    if (row_count > ROWS_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%zu rows, at most %d", row_count, ROWS_MAX);
    size_t bytes = 0;
    float *values = NULL;
    if (!__builtin_mul_overflow(row_count, dimension * sizeof(float), &bytes))
        values = heap_alloc(NULL, bytes);
    if (values == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for %zu x %zu floats", row_count,
                         dimension);
    *dataset = (struct dataset){values, row_count, dimension, NULL};
    return 0;
}

int dataset_generate(struct dataset *dataset_out, size_t row_count, size_t dimension, uint64_t seed,
                     uint32_t label_count, struct trail *trail)
{
    struct dataset dataset;
    int rc = reserve(&dataset, row_count, dimension, trail);
    if (rc < 0)
        return rc;
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < row_count * dimension; i++)
        dataset.values[i] = (float)rng_normal(&rng);
    if (label_count != 0) {
        dataset.labels = heap_calloc(NULL, row_count, sizeof(*dataset.labels));
        if (dataset.labels == NULL) {
            dataset_dispose(&dataset);
            return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for labels");
        }
        for (size_t i = 0; i < row_count; i++)
            dataset.labels[i] = (int32_t)rng_below(&rng, label_count);
    }
    *dataset_out = dataset;
    return 0;
}

int dataset_copy(struct dataset *dataset_out, const float *values, size_t row_count,
                 size_t dimension)
{
    int rc = reserve(dataset_out, row_count, dimension, NULL);
    if (rc == 0 && row_count != 0)
        memcpy(dataset_out->values, values, row_count * dimension * sizeof(float));
    return rc;
}

void dataset_dispose(struct dataset *dataset)
{
    if (dataset == NULL)
        return;
    heap_free(NULL, dataset->values);
    heap_free(NULL, dataset->labels);
    *dataset = (struct dataset){0};
}

/* ---- reading ---- */

/* Exactly `size` bytes: 0, or PDB_INVALID_ARGUMENT when the file ends or its compression is
 * broken. */
static int take(gzFile file, void *bytes_out, size_t size, struct trail *trail)
{
    char *at = bytes_out;
    while (size > 0) {
        unsigned step = size < READ_MAX ? (unsigned)size : READ_MAX;
        int got = gzread(file, at, step);
        if (got <= 0) {
            int code = 0;
            const char *text = gzerror(file, &code);
            return trail_add(trail, PDB_INVALID_ARGUMENT, "%s",
                             got < 0 && code != Z_OK ? text : "the file ends too early");
        }
        at += got;
        size -= (size_t)got;
    }
    return 0;
}

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Reads the head of an idx file of bytes; size_out: `dimension_count` sizes. */
static int take_idx_head(gzFile file, unsigned dimension_count, uint32_t *size_out,
                         struct trail *trail)
{
    uint8_t head[4 + 4 * 4];
    int rc = take(file, head, 4 + 4 * (size_t)dimension_count, trail);
    if (rc < 0)
        return rc;
    if (head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] != dimension_count)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "not an idx file of bytes with %u dimension%s", dimension_count,
                         dimension_count == 1 ? "" : "s");
    for (unsigned i = 0; i < dimension_count; i++)
        size_out[i] = big_endian(head + 4 + 4 * (size_t)i);
    return 0;
}

static int read_idx(struct dataset *dataset, gzFile file, size_t row_max, struct trail *trail)
{
    uint32_t size[3];
    int rc = take_idx_head(file, 3, size, trail);
    if (rc < 0)
        return rc;
    uint64_t dimension = (uint64_t)size[1] * size[2];
    bool all = row_max == 0 || row_max >= size[0];
    rc = reserve(dataset, all ? size[0] : row_max,
                 dimension <= PDB_DIMENSION_MAX ? (size_t)dimension : SIZE_MAX, trail);
    if (rc < 0)
        return rc;
    uint8_t pixels[PDB_DIMENSION_MAX];
    float *at = dataset->values;
    for (size_t i = 0; i < dataset->row_count && rc == 0; i++) {
        rc = take(file, pixels, dataset->dimension, trail);
        for (size_t j = 0; j < dataset->dimension && rc == 0; j++)
            *at++ = (float)pixels[j];
    }
    if (rc == 0 && all && gzgetc(file) != -1)
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "bytes after the last image");
    return rc;
}

/* The number of rows is not in a fvecs file: memory doubles while it is read. */
static int read_fvecs(struct dataset *dataset, gzFile file, size_t row_max, struct trail *trail)
{
    uint8_t head[4];
    int rc = take(file, head, sizeof(head), trail);
    if (rc < 0)
        return rc;
    uint32_t dimension = bytes_get_u32(head);
    size_t capacity = row_max != 0 && row_max < 1024 ? row_max : 1024;
    rc = reserve(dataset, capacity, dimension, trail);
    if (rc < 0)
        return rc;
    size_t count = 0;
    for (;;) {
        if (count == capacity) {
            if (capacity > ROWS_MAX / 2)
                return trail_add(trail, PDB_INVALID_ARGUMENT, "more than %d rows", ROWS_MAX);
            float *grown =
                heap_realloc(NULL, dataset->values, capacity * 2 * dimension * sizeof(float));
            if (grown == NULL)
                return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for the rows");
            dataset->values = grown;
            capacity *= 2;
        }
        rc = take(file, dataset->values + count * dimension, dimension * sizeof(float), trail);
        if (rc < 0)
            return rc;
        dataset->row_count = ++count;
        if (count == row_max)
            return 0;
        int first = gzgetc(file); /* the end may come here, and only here */
        if (first == -1)
            return gzeof(file) ? 0 : trail_add(trail, PDB_INVALID_ARGUMENT, "unreadable");
        head[0] = (uint8_t)first;
        rc = take(file, head + 1, sizeof(head) - 1, trail);
        if (rc < 0)
            return rc;
        if (bytes_get_u32(head) != dimension)
            return trail_add(trail, PDB_INVALID_ARGUMENT, "row %zu has dimension %u, the first %u",
                             count, bytes_get_u32(head), dimension);
    }
}

/* Finds "(rows, columns)" behind 'shape'. */
static bool parse_npy_shape(const char *header, size_t *rows_out, size_t *columns_out)
{
    const char *at = strstr(header, "'shape'");
    at = at != NULL ? strchr(at, '(') : NULL;
    if (at == NULL)
        return false;
    char *end = NULL;
    unsigned long long rows = strtoull(at + 1, &end, 10);
    if (end == at + 1 || *end != ',')
        return false;
    at = end + 1;
    unsigned long long columns = strtoull(at, &end, 10);
    if (end == at || *end != ')' || rows > ROWS_MAX || columns > PDB_DIMENSION_MAX)
        return false;
    *rows_out = (size_t)rows;
    *columns_out = (size_t)columns;
    return true;
}

static int read_npy(struct dataset *dataset, gzFile file, size_t row_max, struct trail *trail)
{
    uint8_t head[12];
    int rc = take(file, head, 10, trail);
    if (rc < 0)
        return rc;
    if (memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 || head[6] > 2)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "not a .npy file of version 1 or 2");
    size_t header_bytes = bytes_get_u16(head + 8);
    if (head[6] == 2) {
        if ((rc = take(file, head + 10, 2, trail)) < 0)
            return rc;
        header_bytes = bytes_get_u32(head + 8);
    }
    if (header_bytes > HEADER_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "header of %zu bytes", header_bytes);
    char header[HEADER_MAX + 1];
    if ((rc = take(file, header, header_bytes, trail)) < 0)
        return rc;
    header[header_bytes] = '\0';
    size_t rows = 0;
    size_t columns = 0;
    if (strstr(header, "'descr': '<f4'") == NULL ||
        strstr(header, "'fortran_order': False") == NULL ||
        !parse_npy_shape(header, &rows, &columns))
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "must be a two-dimensional '<f4' array in C order");
    if (row_max != 0 && rows > row_max)
        rows = row_max;
    if ((rc = reserve(dataset, rows, columns, trail)) < 0)
        return rc;
    return take(file, dataset->values, rows * columns * sizeof(float), trail);
}

static bool ends_with(const char *path, const char *end)
{
    size_t path_len = strlen(path);
    size_t end_len = strlen(end);
    return path_len >= end_len && strcmp(path + path_len - end_len, end) == 0;
}

int dataset_read(struct dataset *dataset_out, const char *path, size_t row_max, struct trail *trail)
{
    int (*read_rows)(struct dataset *, gzFile, size_t, struct trail *) = NULL;
    if (ends_with(path, "idx3-ubyte") || ends_with(path, "idx3-ubyte.gz"))
        read_rows = read_idx;
    else if (ends_with(path, ".fvecs"))
        read_rows = read_fvecs;
    else if (ends_with(path, ".npy"))
        read_rows = read_npy;
    else
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%s: the name must end with idx3-ubyte, idx3-ubyte.gz, .fvecs or .npy",
                         path);
    gzFile file = gzopen(path, "rb");
    if (file == NULL)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", path, strerror(errno));
    (void)gzbuffer(file, 1 << 18);
    struct dataset dataset = {0};
    int rc = read_rows(&dataset, file, row_max, trail);
    (void)gzclose(file);
    if (rc < 0) {
        dataset_dispose(&dataset);
        return trail_add(trail, rc, "%s", path);
    }
    *dataset_out = dataset;
    return 0;
}

int dataset_read_labels(struct dataset *dataset, const char *path, struct trail *trail)
{
    gzFile file = gzopen(path, "rb");
    if (file == NULL)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", path, strerror(errno));
    uint32_t count = 0;
    int32_t *labels = NULL;
    int rc = take_idx_head(file, 1, &count, trail);
    if (rc == 0 && count < dataset->row_count)
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "%u labels for %zu rows", count,
                       dataset->row_count);
    if (rc == 0 && (labels = heap_calloc(NULL, dataset->row_count, sizeof(*labels))) == NULL)
        rc = trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for labels");
    for (size_t i = 0; i < dataset->row_count && rc == 0; i++) {
        uint8_t label = 0;
        rc = take(file, &label, 1, trail);
        labels[i] = label;
    }
    (void)gzclose(file);
    if (rc < 0) {
        heap_free(NULL, labels);
        return trail_add(trail, rc, "%s", path);
    }
    heap_free(NULL, dataset->labels);
    dataset->labels = labels;
    return 0;
}
