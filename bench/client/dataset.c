/* dataset.c: vectors whole in memory, read (vector_file.c) or generated. Rows lie one after the
 * other, so that a batch of consecutive rows is one piece of a request and is never copied
 * (encode.c). */
#include "bench/client/dataset.h"

#include "base/heap.h"
#include "base/rng.h"
#include "bench/client/vector_file.h"

#include <errno.h>
#include <math.h>
#include <proximadb/types.h>
#include <stdbool.h>
#include <string.h>
#include <zlib.h>

enum { ROWS_MAX = 2000000000, CLUSTER_DIRECTIONS = 24 };

static const float CLUSTER_DEVIATION = 0.5f;

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

static void fill_normal(float *values, size_t count, struct rng *rng)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)rng_normal(rng);
}

/* A row within its cluster varies in CLUSTER_DIRECTIONS directions only, as real embeddings do: in
 * all of them neighbours would be equally far. Weights fall, so directions differ in length. */
static void add_deviation(float *row, size_t dimension, const float *directions, struct rng *rng)
{
    for (unsigned i = 0; i < CLUSTER_DIRECTIONS; i++) {
        const float *direction = directions + (size_t)i * dimension;
        float weight = CLUSTER_DEVIATION * (float)rng_normal(rng) / sqrtf(1.0f + (float)i);
        for (size_t d = 0; d < dimension; d++)
            row[d] += weight * direction[d];
    }
}

static int fill_clusters(struct dataset *dataset, const struct dataset_shape *shape,
                         struct trail *trail)
{
    size_t dimension = shape->dimension;
    size_t centre_values = (size_t)shape->cluster_count * dimension;
    size_t direction_values = (size_t)CLUSTER_DIRECTIONS * dimension;
    float *centres = heap_alloc(NULL, (centre_values + direction_values) * sizeof(*centres));
    if (centres == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for the clusters");
    struct rng rng;
    rng_seed(&rng, shape->cluster_seed);
    fill_normal(centres, centre_values + direction_values, &rng);
    rng_seed(&rng, shape->seed);
    for (size_t i = 0; i < shape->row_count; i++) {
        float *row = dataset->values + i * dimension;
        size_t centre = rng_below(&rng, shape->cluster_count);
        memcpy(row, centres + centre * dimension, dimension * sizeof(*row));
        add_deviation(row, dimension, centres + centre_values, &rng);
    }
    heap_free(NULL, centres);
    return 0;
}

int dataset_generate(struct dataset *dataset_out, const struct dataset_shape *shape,
                     struct trail *trail)
{
    struct dataset dataset;
    int rc = reserve(&dataset, shape->row_count, shape->dimension, trail);
    if (rc < 0)
        return rc;
    struct rng rng;
    rng_seed(&rng, shape->seed);
    if (shape->cluster_count != 0)
        rc = fill_clusters(&dataset, shape, trail);
    else
        fill_normal(dataset.values, shape->row_count * shape->dimension, &rng);
    if (rc == 0 && shape->label_count != 0) {
        dataset.labels = heap_calloc(NULL, shape->row_count, sizeof(*dataset.labels));
        if (dataset.labels == NULL)
            rc = trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for labels");
        for (size_t i = 0; i < shape->row_count && rc == 0; i++)
            dataset.labels[i] = (int32_t)rng_below(&rng, shape->label_count);
    }
    if (rc < 0) {
        dataset_dispose(&dataset);
        return rc;
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

/* Makes room for as many rows again: 0 or an error. */
static int grow(struct dataset *dataset, size_t *capacity, struct trail *trail)
{
    if (*capacity > ROWS_MAX / 2)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "more than %d rows", ROWS_MAX);
    float *grown = heap_realloc(NULL, dataset->values,
                                *capacity * 2 * dataset->dimension * sizeof(*dataset->values));
    if (grown == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for the rows");
    dataset->values = grown;
    *capacity *= 2;
    return 0;
}

/* A file that does not say how many rows it has is read into memory that doubles. One row more than
 * wanted is asked for only at the end of the file, so that bytes behind it are noticed. */
static int read_rows(struct dataset *dataset, struct vector_file *file, size_t row_max,
                     struct trail *trail)
{
    bool known = file->row_count != VECTOR_FILE_ROWS_UNKNOWN;
    size_t capacity = known ? (size_t)file->row_count : 1024;
    if (row_max != 0 && row_max < capacity)
        capacity = row_max;
    int rc = reserve(dataset, capacity, file->dimension, trail);
    size_t got = 1;
    dataset->row_count = 0;
    while (rc == 0 && got != 0 && (row_max == 0 || dataset->row_count < row_max)) {
        float extra[PDB_DIMENSION_MAX];
        bool full = dataset->row_count == capacity;
        if (full && !known && (rc = grow(dataset, &capacity, trail)) == 0)
            full = false;
        if (rc == 0)
            rc = vector_file_read(
                file, full ? extra : dataset->values + dataset->row_count * file->dimension,
                full ? 1 : capacity - dataset->row_count, &got, trail);
        if (rc == 0)
            dataset->row_count += got;
    }
    return rc;
}

int dataset_read(struct dataset *dataset_out, const char *path, size_t row_max, struct trail *trail)
{
    enum vector_file_format format = vector_file_format(path);
    if (format == VECTOR_FILE_NONE)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "%s: the name must end with idx3-ubyte, idx3-ubyte.gz, .fvecs or .npy",
                         path);
    struct vector_file file;
    int rc = vector_file_open(&file, path, format, trail);
    if (rc < 0)
        return rc;
    struct dataset dataset = {0};
    rc = read_rows(&dataset, &file, row_max, trail);
    vector_file_close(&file);
    if (rc < 0) {
        dataset_dispose(&dataset);
        return trail_add(trail, rc, "%s", path);
    }
    *dataset_out = dataset;
    return 0;
}

/* Labels are bytes behind a head of 8. 0, or PDB_INVALID_ARGUMENT when the file ends. */
static int take(gzFile file, void *bytes_out, unsigned size, struct trail *trail)
{
    return gzread(file, bytes_out, size) == (int)size
               ? 0
               : trail_add(trail, PDB_INVALID_ARGUMENT, "the file ends too early");
}

int dataset_read_labels(struct dataset *dataset, const char *path, struct trail *trail)
{
    gzFile file = gzopen(path, "rb");
    if (file == NULL)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", path, strerror(errno));
    uint8_t head[8];
    uint32_t count = 0;
    int32_t *labels = NULL;
    int rc = take(file, head, sizeof(head), trail);
    if (rc == 0 && (head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] != 1))
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "not an idx file of bytes with 1 dimension");
    if (rc == 0)
        count =
            (uint32_t)head[4] << 24 | (uint32_t)head[5] << 16 | (uint32_t)head[6] << 8 | head[7];
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
