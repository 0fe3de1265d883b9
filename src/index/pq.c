/* pq.c: learning the centroids of parts, and coding rows by them.
 *
 * Sixteen centroids in two dimensions: a few rounds of k-means over some thousand rows, for each
 * part by itself. Begun with rows drawn at random; a centroid that nobody is nearest to takes the
 * row that is worst off. */
#include "index/pq.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "index/quantize_internal.h"

#include <proximadb/error.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { CENTROIDS = VECMATH_PQ4_CENTROIDS, ROUNDS = 10, CHOSEN_COLUMNS_MAX = 16 };

/* ---- shape ---- */

static uint32_t default_columns(uint32_t dimension)
{
    uint32_t columns = (dimension + PQ_PARTS_MAX - 1) / PQ_PARTS_MAX;
    return columns > PQ_PART_COLUMNS ? columns : PQ_PART_COLUMNS;
}

void pq_shape(struct quantizer *quantizer)
{
    if (!pq_fits(quantizer->dimension, quantizer->part_columns))
        quantizer->part_columns = default_columns(quantizer->dimension);
    const uint32_t columns = quantizer->part_columns;
    quantizer->part_count = (quantizer->dimension + columns - 1) / columns;
    quantizer->stride = (uint32_t)vecmath_pq4_block_bytes(quantizer->part_count);
}

bool pq_fits(uint32_t dimension, uint32_t part_columns)
{
    if (part_columns == default_columns(dimension))
        return true;
    return part_columns > 0 && part_columns <= CHOSEN_COLUMNS_MAX &&
           (dimension + part_columns - 1) / part_columns <= PQ_PARTS_MAX;
}

/* ---- training ---- */

/* Of one part: its rows, column after column of one row, who is nearest, and how far that is. */
struct part {
    float *values; /* PQ_SAMPLE_MAX x columns */
    float *apart;  /* PQ_SAMPLE_MAX */
    uint8_t *nearest;
    double *sums; /* CENTROIDS x columns */
    uint32_t members[CENTROIDS];
    uint32_t columns, count;
    float *book;
};

size_t pq_part_scratch_bytes(const struct quantizer *quantizer)
{
    const size_t columns = quantizer->part_columns;
    return CENTROIDS * columns * sizeof(double) +
           PQ_SAMPLE_MAX * ((columns + 1) * sizeof(float) + sizeof(uint8_t));
}

static void put_centroid(const struct part *part, uint32_t centroid, uint32_t row)
{
    for (uint32_t i = 0; i < part->columns; i++)
        part->book[i * CENTROIDS + centroid] = part->values[(size_t)row * part->columns + i];
}

static void find_nearest(const struct part *part)
{
    const struct vecmath_pq4 one = {part->book, 1, part->columns};
    for (uint32_t row = 0; row < part->count; row++)
        vecmath_pq4_encode(&one, part->values + (size_t)row * part->columns, part->nearest + row);
}

/* How far each row is from its centroid. */
static void find_apart(const struct part *part)
{
    for (uint32_t row = 0; row < part->count; row++) {
        const float *values = part->values + (size_t)row * part->columns;
        float distance = 0;
        for (uint32_t i = 0; i < part->columns; i++) {
            float apart = values[i] - part->book[i * CENTROIDS + part->nearest[row]];
            distance += apart * apart;
        }
        part->apart[row] = distance;
    }
}

static uint32_t worst_off(const struct part *part)
{
    uint32_t worst = 0;
    for (uint32_t row = 1; row < part->count; row++)
        worst = part->apart[row] > part->apart[worst] ? row : worst;
    part->apart[worst] = 0;
    return worst;
}

static void move_centroids(struct part *part)
{
    const uint32_t columns = part->columns;
    memset(part->sums, 0, CENTROIDS * columns * sizeof *part->sums);
    memset(part->members, 0, sizeof part->members);
    for (uint32_t row = 0; row < part->count; row++) {
        double *sums = part->sums + part->nearest[row] * columns;
        part->members[part->nearest[row]]++;
        for (uint32_t i = 0; i < columns; i++)
            sums[i] += (double)part->values[(size_t)row * columns + i];
    }
    bool measured = false;
    for (uint32_t c = 0; c < CENTROIDS; c++) {
        if (part->members[c] == 0) {
            if (!measured)
                find_apart(part);
            measured = true;
            put_centroid(part, c, worst_off(part));
            continue;
        }
        for (uint32_t i = 0; i < columns; i++)
            part->book[i * CENTROIDS + c] = (float)(part->sums[c * columns + i] / part->members[c]);
    }
}

void pq_train_part(const struct quantizer *quantizer, const float *values, uint32_t count,
                   uint32_t number, void *scratch)
{
    ASSERT(count <= PQ_SAMPLE_MAX);
    const uint32_t columns = quantizer->part_columns, width = pq_width(quantizer);
    struct part part = {.columns = columns, .count = count};
    part.sums = scratch;
    part.values = (float *)(void *)(part.sums + CENTROIDS * columns);
    part.apart = part.values + (size_t)PQ_SAMPLE_MAX * columns;
    part.nearest = (uint8_t *)(part.apart + PQ_SAMPLE_MAX);
    part.book = quantizer->codebook + (size_t)number * columns * CENTROIDS;
    if (count == 0) {
        memset(part.book, 0, CENTROIDS * columns * sizeof(float));
        return;
    }
    for (uint32_t row = 0; row < count; row++)
        memcpy(part.values + (size_t)row * columns,
               values + (size_t)row * width + (size_t)number * columns, columns * sizeof(float));
    for (uint32_t c = 0; c < CENTROIDS; c++)
        put_centroid(&part, c,
                     (uint32_t)(hash_u64(quantizer->seed + number * CENTROIDS + c) % count));
    for (int round = 0; round < ROUNDS; round++) {
        find_nearest(&part);
        move_centroids(&part);
    }
}

static uint32_t trained_on(uint32_t count)
{
    return count < PQ_SAMPLE_MAX / 2 ? count : PQ_SAMPLE_MAX / 2;
}

size_t pq_train_bytes(const struct quantizer *quantizer)
{
    return pq_codebook_bytes(quantizer) + pq_part_scratch_bytes(quantizer) +
           (size_t)PQ_SAMPLE_MAX / 2 * pq_width(quantizer) * sizeof(float);
}

int pq_train(struct quantizer *quantizer, const float *sample, size_t stride_bytes, uint32_t count,
             struct heap *heap)
{
    const uint32_t width = pq_width(quantizer), rows = trained_on(count);
    float *values = heap_calloc(heap, (size_t)rows * width, sizeof(float));
    void *scratch = heap_alloc(heap, pq_part_scratch_bytes(quantizer));
    quantizer->codebook = heap_alloc(heap, pq_codebook_bytes(quantizer));
    int rc = PDB_RESOURCE_EXHAUSTED;
    if (values != NULL && scratch != NULL && quantizer->codebook != NULL) {
        for (uint32_t i = 0; i < rows; i++) {
            const char *at = (const char *)sample + i * stride_bytes;
            quantize_centre(quantizer, (const float *)(const void *)at, values + (size_t)i * width);
        }
        for (uint32_t part = 0; part < quantizer->part_count; part++)
            pq_train_part(quantizer, values, rows, part, scratch);
        rc = PDB_OK;
    } else {
        heap_free(heap, quantizer->codebook);
        quantizer->codebook = NULL;
    }
    heap_free(heap, scratch);
    heap_free(heap, values);
    return rc;
}

size_t pq_query_bytes_max(uint32_t dimension_max)
{
    const uint32_t rest = default_columns(dimension_max) + CHOSEN_COLUMNS_MAX;
    const uint32_t parts = dimension_max < PQ_PARTS_MAX ? dimension_max : PQ_PARTS_MAX;
    return bytes_align_up((dimension_max + rest) * sizeof(float), VECMATH_CODE_ALIGNMENT) +
           vecmath_pq4_query_bytes(parts);
}

/* ---- rows ---- */

size_t pq_encode_scratch_bytes(const struct quantizer *quantizer)
{
    return pq_width(quantizer) * sizeof(float) + quantizer->part_count;
}

static float term_of(const struct quantizer *quantizer, const float *decoded, const int8_t *origin)
{
    float norm = 0, product = 0;
    if (quantizer->metric == PDB_METRIC_DOT)
        return 0;
    for (uint32_t i = 0; i < quantizer->columns; i++)
        norm += decoded[i] * decoded[i];
    for (uint32_t i = 0; origin != NULL && i < quantizer->columns; i++)
        product += decoded[i] * (float)origin[i];
    return 0.5f * norm + product;
}

void pq_encode(const struct quantizer *quantizer, float *centred, const int8_t *origin,
               void *scratch, const struct codes *codes, uint32_t row)
{
    const struct vecmath_pq4 pq = pq_of(quantizer);
    float *decoded = scratch;
    uint8_t *numbers = (uint8_t *)(decoded + pq_width(quantizer));
    for (uint32_t i = 0; origin != NULL && i < quantizer->columns; i++)
        centred[i] -= (float)origin[i];
    vecmath_pq4_encode(&pq, centred, numbers);
    vecmath_pq4_decode(&pq, numbers, decoded);
    vecmath_pq4_put(numbers, pq.part_count, row % VECMATH_PQ4_ROWS,
                    codes->bytes + (size_t)(row / VECMATH_PQ4_ROWS) * quantizer->stride);
    codes->factors[row] = term_of(quantizer, decoded, origin);
}

float pq_score(const struct quantizer *quantizer, const struct codes *codes,
               const struct coded_query *query, uint32_t row)
{
    const uint8_t *block = codes->bytes + (size_t)(row / VECMATH_PQ4_ROWS) * quantizer->stride;
    uint32_t sum = vecmath_pq4_sum(&query->pq4, block, row % VECMATH_PQ4_ROWS);
    return query->base + query->pq4.bias + codes->factors[row] + query->pq4.unit * (float)sum;
}
