/* quantize.c: training, and what all kinds of codes have in common.
 *
 * One scale for all dimensions keeps distances undistorted: with a scale of their own, dimensions
 * of small variance would cost as many digits of the sum as the others for no gain. What lies
 * beyond the 99.95 % quantile of the deviations is clipped; a wider range would make every step
 * coarser for the sake of a few values. The quantile is read off a histogram of the upper halves of
 * the floats' bits, which order non-negative floats as they are: 0.8 % wide, and no sorting.
 *
 * A query is centred like a row, but keeps 13 bits (SQ8) or 8 (SQ4); its own norm is exact. */
#include "index/quantize.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "index/pq.h"
#include "index/quantize_internal.h"

#include <math.h>
#include <proximadb/error.h>
#include <string.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum {
    LINE = 64,
    MANY_LINES = 6,
    BINARY_ALIGNMENT = 32, /* short codes: two may share a line */
};
enum { BIN_SHIFT = 16, BIN_COUNT = 1 << (31 - BIN_SHIFT) };

static const double quantile = 0.9995;
static const float code_max = 127.0f;

bool quantize_supports(enum quantize_kind kind, enum pdb_metric metric)
{
    bool any =
        metric == PDB_METRIC_COSINE || metric == PDB_METRIC_DOT || metric == PDB_METRIC_EUCLIDEAN;
    bool full = metric == PDB_METRIC_MANHATTAN || metric == PDB_METRIC_HAMMING;
    switch (kind) {
    case QUANTIZE_SQ8:
    case QUANTIZE_SQ4:
    case QUANTIZE_BINARY:
    case QUANTIZE_PQ:
        return any;
    case QUANTIZE_NONE:
        return any || full;
    }
    return false;
}

size_t quantize_vector_bytes(enum pdb_metric metric, uint32_t dimension)
{
    return metric == PDB_METRIC_HAMMING ? (dimension + 7) / 8 : dimension * sizeof(float);
}

static size_t code_bytes(const struct quantizer *quantizer)
{
    switch (quantizer->kind) {
    case QUANTIZE_SQ8:
    case QUANTIZE_PQ:
        break;
    case QUANTIZE_SQ4:
        return vecmath_sq4_code_bytes(quantizer->columns);
    case QUANTIZE_BINARY:
        return rabitq_code_bytes(quantize_width(quantizer), quantizer->bits);
    case QUANTIZE_NONE:
        return quantize_vector_bytes(quantizer->metric, quantizer->columns);
    }
    return quantizer->columns;
}

/* What is left of a code after its whole lines is filled up to a power of two, from which follows
 * that it lies in one line, wherever the code begins: no code touches more lines than one at the
 * beginning of a line does. 784 bytes stay 784.
 *
 * Loads then go across lines. For gathered codes of seven lines and more (388, 784, 1,040 bytes)
 * that cost at most 3 %, for those of two to four (96, 144, 200 bytes) 15 to 20 %: these are whole
 * lines, and so are vectors themselves (400 bytes of 100 dimensions: searches 11 % slower). Codes
 * of 100 bytes side by side, which touch 2.5 lines, made searches of word vectors 13 % slower. */
static size_t stride_of(const struct quantizer *quantizer, bool in_lines)
{
    const size_t bytes = code_bytes(quantizer);
    size_t unit = 1;
    if (quantizer->kind == QUANTIZE_BINARY)
        unit = BINARY_ALIGNMENT;
    else if (quantizer->kind == QUANTIZE_NONE || in_lines || bytes < MANY_LINES * LINE)
        unit = LINE;
    else
        while (unit < bytes % LINE)
            unit *= 2;
    return bytes_align_up(bytes, unit);
}

static void shape(struct quantizer *quantizer, bool in_lines)
{
    const bool wider = quantize_builds(quantizer->kind) && quantizer->metric == PDB_METRIC_DOT;
    quantizer->columns = quantizer->dimension + wider;
    if (quantizer->kind == QUANTIZE_PQ)
        pq_shape(quantizer);
    else
        quantizer->stride = (uint32_t)stride_of(quantizer, in_lines);
}

void quantize_shape(struct quantizer *quantizer)
{
    shape(quantizer, false);
}

void quantize_shape_in_lines(struct quantizer *quantizer)
{
    shape(quantizer, true);
}

uint32_t quantize_sample_count(uint32_t row_count)
{
    return row_count < QUANTIZE_SAMPLE_MAX ? row_count : QUANTIZE_SAMPLE_MAX;
}

uint32_t quantize_sample_row(uint64_t seed, uint32_t row_count, uint32_t i)
{
    uint32_t count = quantize_sample_count(row_count);
    ASSERT(i < count);
    uint64_t first = (uint64_t)row_count * i / count;
    uint64_t end = (uint64_t)row_count * (i + 1) / count;
    return (uint32_t)(first + hash_u64(seed + i + 1) % (end - first));
}

/* ---- vectors as the metric sees them ---- */

static float last_column(const struct quantizer *quantizer, const float *vector)
{
    double norm = (double)vecmath_norm_f32(vector, quantizer->dimension);
    double rest = (double)quantizer->norm_max * (double)quantizer->norm_max - norm * norm;
    return rest > 0 ? (float)sqrt(rest) : 0.0f;
}

/* The vector's `columns` numbers before anything is learned or taken off. */
void quantize_place(const struct quantizer *quantizer, const float *vector, float *placed_out)
{
    if (quantizer->metric == PDB_METRIC_COSINE)
        (void)vecmath_normalise_f32(vector, quantizer->dimension, placed_out);
    else
        memcpy(placed_out, vector, quantizer->dimension * sizeof(float));
    if (quantizer->columns > quantizer->dimension)
        placed_out[quantizer->dimension] = last_column(quantizer, vector);
}

static float clipped(float value)
{
    float low = value < QUANTIZE_UNITS_MAX ? value : QUANTIZE_UNITS_MAX; /* also of infinities */
    return low > -QUANTIZE_UNITS_MAX ? low : -QUANTIZE_UNITS_MAX;
}

/* The columns that fill up the last part. */
static void clear_rest(const struct quantizer *quantizer, float *placed)
{
    for (uint32_t i = quantizer->columns; i < pq_width(quantizer); i++)
        placed[i] = 0;
}

void quantize_centre(const struct quantizer *quantizer, const float *vector, float *centred_out)
{
    const float *mean = quantizer->mean;
    const float scale = quantizer->scale;
    quantize_place(quantizer, vector, centred_out);
    for (uint32_t i = 0; i < quantizer->columns; i++)
        centred_out[i] = clipped((centred_out[i] - mean[i]) / scale);
    if (quantizer->kind == QUANTIZE_PQ)
        clear_rest(quantizer, centred_out);
}

/* ---- training ---- */

struct training {
    struct quantizer *quantizer;
    const float *sample;
    size_t stride_bytes;
    uint32_t count;
    double *sums;   /* columns */
    float *placed;  /* columns */
    uint64_t *bins; /* BIN_COUNT */
    float *mean;    /* columns: the result */
};

static const float *sample_at(const struct training *t, uint32_t i)
{
    return (const float *)(const void *)((const char *)t->sample + i * t->stride_bytes);
}

static void learn_norm_max(const struct training *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        float norm = vecmath_norm_f32(sample_at(t, i), t->quantizer->dimension);
        if (norm > t->quantizer->norm_max)
            t->quantizer->norm_max = norm;
    }
}

static void learn_mean(const struct training *t)
{
    const uint32_t columns = t->quantizer->columns;
    for (uint32_t i = 0; i < t->count; i++) {
        quantize_place(t->quantizer, sample_at(t, i), t->placed);
        for (uint32_t j = 0; j < columns; j++)
            t->sums[j] += (double)t->placed[j];
    }
    for (uint32_t j = 0; j < columns; j++)
        t->mean[j] = t->count > 0 ? (float)(t->sums[j] / t->count) : 0.0f;
}

static uint32_t bin_of(float deviation)
{
    uint32_t bits = bytes_get_u32(&deviation); /* infinity is a bin like others */
    return bits >> BIN_SHIFT;
}

static float bin_end(uint32_t bin)
{
    uint32_t bits = (bin + 1) << BIN_SHIFT;
    float end;
    memcpy(&end, &bits, sizeof end);
    return end;
}

static void learn_scale(const struct training *t)
{
    const uint32_t columns = t->quantizer->columns;
    for (uint32_t i = 0; i < t->count; i++) {
        quantize_place(t->quantizer, sample_at(t, i), t->placed);
        for (uint32_t j = 0; j < columns; j++)
            t->bins[bin_of(fabsf(t->placed[j] - t->mean[j]))]++;
    }
    /* Dimensions that do not vary say nothing about the range of the others. */
    uint64_t all = (uint64_t)t->count * columns - t->bins[0];
    uint64_t wanted = (uint64_t)(quantile * (double)all);
    uint64_t below = 0;
    uint32_t bin = 1;
    while (bin < BIN_COUNT - 1 && below + t->bins[bin] <= wanted)
        below += t->bins[bin++];
    float range = all > 0 && bin_end(bin) < 0x1p126f ? bin_end(bin) : all > 0 ? 0x1p126f : code_max;
    t->quantizer->scale = range / code_max > 0x1p-120f ? range / code_max : 0x1p-120f;
}

int quantize_train(const struct quantize_spec *spec, const float *sample, size_t stride_bytes,
                   uint32_t count, struct heap *heap, struct quantizer *quantizer_out)
{
    ASSERT(quantize_supports(spec->kind, spec->metric) && spec->dimension > 0);
    struct quantizer quantizer = {
        .kind = spec->kind,
        .metric = spec->metric,
        .dimension = spec->dimension,
        .seed = spec->seed,
        .part_columns = spec->kind == QUANTIZE_PQ ? spec->part_columns : 0,
    };
    if (spec->kind == QUANTIZE_BINARY)
        quantizer.bits = spec->bits != 0 ? spec->bits : QUANTIZE_BITS_DEFAULT;
    ASSERT(quantizer.bits <= QUANTIZE_BITS_MAX);
    quantize_shape(&quantizer);
    struct training t = {&quantizer, sample, stride_bytes, count, NULL, NULL, NULL, NULL};
    if (spec->kind == QUANTIZE_NONE) {
        quantizer.scale = 1.0f;
        if (quantizer.columns > quantizer.dimension)
            learn_norm_max(&t);
        *quantizer_out = quantizer;
        return PDB_OK;
    }
    t.sums = heap_calloc(heap, quantizer.columns, sizeof(double));
    t.placed = heap_calloc(heap, quantizer.columns, sizeof(float));
    t.bins = heap_calloc(heap, BIN_COUNT, sizeof(uint64_t));
    t.mean = heap_calloc(heap, quantizer.columns, sizeof(float));
    int rc = PDB_RESOURCE_EXHAUSTED;
    if (t.sums != NULL && t.placed != NULL && t.bins != NULL && t.mean != NULL) {
        if (quantizer.columns > quantizer.dimension)
            learn_norm_max(&t);
        learn_mean(&t);
        learn_scale(&t);
        quantizer.mean = t.mean;
        rc = quantizer.kind == QUANTIZE_PQ ? pq_train(&quantizer, sample, stride_bytes, count, heap)
                                           : PDB_OK;
    }
    if (rc == PDB_OK) {
        t.mean = NULL;
        *quantizer_out = quantizer;
    }
    heap_free(heap, t.mean);
    heap_free(heap, t.bins);
    heap_free(heap, t.placed);
    heap_free(heap, t.sums);
    return rc;
}

size_t quantize_train_bytes(enum quantize_kind kind, uint32_t dimension)
{
    const size_t columns = (size_t)dimension + 1;
    const size_t bytes =
        columns * (sizeof(double) + 2 * sizeof(float)) + BIN_COUNT * sizeof(uint64_t);
    if (kind != QUANTIZE_PQ)
        return bytes;
    /* parts of one column have the largest codebook, and no shape has more than twice its width */
    struct quantizer shape = {.kind = kind, .dimension = dimension};
    quantize_shape(&shape);
    return bytes + 2 * pq_train_bytes(&shape);
}

void quantize_dispose(struct quantizer *quantizer, struct heap *heap)
{
    heap_free(heap, quantizer->mean);
    heap_free(heap, quantizer->codebook);
    quantizer->mean = quantizer->codebook = NULL;
}

/* ---- codes ---- */

static size_t blocks_of(uint32_t row_count)
{
    return ((size_t)row_count + VECMATH_PQ4_ROWS - 1) / VECMATH_PQ4_ROWS;
}

size_t quantize_codes_bytes(const struct quantizer *quantizer, uint32_t row_count)
{
    if (quantizer->kind == QUANTIZE_PQ)
        return blocks_of(row_count) * quantizer->stride;
    return (size_t)row_count * quantizer->stride;
}

size_t quantize_sums_bytes(const struct quantizer *quantizer, uint32_t row_count)
{
    switch (quantizer->kind) {
    case QUANTIZE_SQ8:
        return (size_t)row_count * sizeof(uint32_t);
    case QUANTIZE_SQ4:
        return (size_t)row_count * 2 * sizeof(float);
    case QUANTIZE_PQ:
        return blocks_of(row_count) * VECMATH_PQ4_ROWS * sizeof(float);
    case QUANTIZE_BINARY: /* they lie in the codes */
    case QUANTIZE_NONE:
        break;
    }
    return 0;
}

static size_t centred_bytes(const struct quantizer *quantizer)
{
    uint32_t width =
        quantizer->kind == QUANTIZE_BINARY ? quantize_width(quantizer) : quantizer->columns;
    width = quantizer->kind == QUANTIZE_PQ ? pq_width(quantizer) : width;
    return bytes_align_up(width * sizeof(float), VECMATH_CODE_ALIGNMENT);
}

size_t quantize_scratch_bytes(const struct quantizer *quantizer)
{
    if (quantizer->kind == QUANTIZE_PQ)
        return centred_bytes(quantizer) +
               bytes_align_up(pq_encode_scratch_bytes(quantizer), VECMATH_CODE_ALIGNMENT);
    return centred_bytes(quantizer) + bytes_align_up(quantizer->columns, VECMATH_BITS_UNIT);
}

void quantize_encode(const struct quantizer *quantizer, const float *vector, void *scratch,
                     const struct codes *codes, uint32_t row)
{
    ASSERT(row < codes->row_count);
    if (quantizer->kind == QUANTIZE_NONE) {
        full_encode(quantizer, vector, codes, row);
        return;
    }
    float *centred = scratch;
    quantize_centre(quantizer, vector, centred);
    uint8_t *numbers = (uint8_t *)scratch + centred_bytes(quantizer);
    if (quantizer->kind == QUANTIZE_SQ8)
        sq8_encode(quantizer, centred, codes, row);
    else if (quantizer->kind == QUANTIZE_BINARY)
        rabitq_encode(quantizer, centred, numbers, codes, row);
    else if (quantizer->kind == QUANTIZE_PQ)
        pq_encode(quantizer, centred, NULL, numbers, codes, row);
    else
        sq4_encode(quantizer, centred, numbers, codes, row);
}

/* ---- queries ---- */

size_t quantize_query_bytes(const struct quantizer *quantizer)
{
    size_t coded = quantizer->kind == QUANTIZE_SQ8 ? vecmath_sq8_query_bytes(quantizer->columns)
                                                   : vecmath_sq4_query_bytes(quantizer->columns);
    if (quantizer->kind == QUANTIZE_BINARY)
        coded = vecmath_bits_query_bytes(quantize_width(quantizer), quantizer->bits);
    if (quantizer->kind == QUANTIZE_PQ)
        coded = vecmath_pq4_query_bytes(quantizer->part_count);
    return centred_bytes(quantizer) + bytes_align_up(coded, VECMATH_CODE_ALIGNMENT);
}

/* Largest absolute value of `count` floats; eight at a time, which any vector unit can do. */
float quantize_largest(const float *values, uint32_t count)
{
    float most[8] = {0};
    uint32_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (uint32_t lane = 0; lane < 8; lane++) {
            float value = fabsf(values[i + lane]);
            most[lane] = value > most[lane] ? value : most[lane];
        }
    for (; i < count; i++)
        most[0] = fabsf(values[i]) > most[0] ? fabsf(values[i]) : most[0];
    for (uint32_t lane = 1; lane < 8; lane++)
        most[0] = most[lane] > most[0] ? most[lane] : most[0];
    return most[0];
}

/* An inner product does not care for the query's length: it is ranked by the direction, which has
 * digits whatever the magnitude. Rows are what they are: <q, x> = <q, mean> + scale x <q, code>. */
static void place_dot_query(const struct quantizer *quantizer, const float *vector, float *placed,
                            struct coded_query *query)
{
    memcpy(placed, vector, quantizer->dimension * sizeof(float));
    float length = quantize_largest(placed, quantizer->dimension);
    float divisor = length > 0 ? length : 1.0f;
    for (uint32_t i = 0; i < quantizer->dimension; i++)
        placed[i] /= divisor;
    if (quantizer->columns > quantizer->dimension)
        placed[quantizer->dimension] = 0;
    query->base = query->half = 0;
    query->offset = -vecmath_dot_f32(vector, quantizer->mean, quantizer->dimension);
    query->worth = length * quantizer->scale;
}

static void place_distance_query(const struct quantizer *quantizer, const float *vector,
                                 float *placed, struct coded_query *query)
{
    bool cosine = quantizer->metric == PDB_METRIC_COSINE;
    float squared_scale = quantizer->scale * quantizer->scale;
    quantize_centre(quantizer, vector, placed);
    query->half = 0.5f;
    query->base = 0.5f * vecmath_norm_squared_f32(placed, quantizer->columns);
    /* of unit vectors half the squared distance is 1 - cosine */
    query->offset = cosine ? -1.0f : 0.0f;
    query->worth = cosine ? squared_scale : 2.0f * squared_scale;
}

void quantize_query(const struct quantizer *quantizer, const float *vector, void *memory,
                    struct coded_query *query_out)
{
    float *placed = memory;
    void *coded = (char *)memory + centred_bytes(quantizer);
    const uint32_t columns = quantizer->columns;
    if (quantizer->kind == QUANTIZE_NONE) {
        full_query(quantizer, vector, memory, query_out);
        return;
    }
    if (quantizer->metric == PDB_METRIC_DOT)
        place_dot_query(quantizer, vector, placed, query_out);
    else
        place_distance_query(quantizer, vector, placed, query_out);
    query_out->unit = query_out->bias = 0;
    if (quantizer->kind == QUANTIZE_BINARY) {
        rabitq_query(quantizer, placed, coded, query_out);
        return;
    }
    if (quantizer->kind == QUANTIZE_PQ) {
        const struct vecmath_pq4 pq = pq_of(quantizer);
        clear_rest(quantizer, placed);
        vecmath_pq4_query_set(&pq, placed, coded, &query_out->pq4);
        return;
    }
    if (quantizer->kind == QUANTIZE_SQ4)
        quantize_rotate(quantizer->seed, placed, columns);
    float most = quantize_largest(placed, columns);
    float limit = quantizer->kind == QUANTIZE_SQ8 ? VECMATH_SQ8_QUERY_MAX : VECMATH_SQ4_QUERY_MAX;
    float factor = most > 1e-30f ? limit / most : 0.0f; /* less is as good as 0 */
    query_out->unit = factor > 0 ? 1.0f / factor : 0.0f;
    if (quantizer->kind == QUANTIZE_SQ8) {
        vecmath_sq8_query_set(placed, factor, columns, coded, &query_out->sq8);
    } else {
        vecmath_sq4_query_set(placed, factor, columns, coded, &query_out->sq4);
        query_out->bias = 7.5f * (float)query_out->sq4.sum; /* nibble n stands for n - 7.5 */
    }
}

/* ---- distances ---- */

static void finish_sq8(const struct coded_query *query, const uint32_t *norms, const uint32_t *rows,
                       uint32_t count, float *distance)
{
    const float base = query->base, half = query->half, unit = query->unit;
    for (uint32_t i = 0; rows != NULL && i < count; i++)
        distance[i] = base + half * (float)norms[rows[i]] - unit * distance[i];
    for (uint32_t i = 0; rows == NULL && i < count; i++)
        distance[i] = base + half * (float)norms[i] - unit * distance[i];
}

static void finish_sq4(const struct coded_query *query, const float *factors, const uint32_t *rows,
                       uint32_t count, float *distance)
{
    const bool norms = query->half > 0; /* half the squared norm is stored halved */
    for (uint32_t i = 0; i < count; i++) {
        const float *factor = factors + 2 * (size_t)(rows != NULL ? rows[i] : i);
        float product = query->unit * factor[1] * (distance[i] - query->bias);
        distance[i] = query->base + (norms ? factor[0] : 0.0f) - product;
    }
}

void quantize_score(const struct quantizer *quantizer, const struct codes *codes,
                    const struct coded_query *query, const uint32_t *rows, uint32_t count,
                    float *distance_out)
{
    if (quantizer->kind == QUANTIZE_PQ) {
        for (uint32_t i = 0; i < count; i++)
            distance_out[i] = pq_score(quantizer, codes, query, rows[i]);
    } else if (quantizer->kind == QUANTIZE_SQ8) {
        for (uint32_t i = 0; i < count; i++)
            __builtin_prefetch(codes->norms + rows[i], 0, 3);
        vecmath_sq8_gather(&query->sq8, codes->bytes, quantizer->stride, rows, count, distance_out);
        finish_sq8(query, codes->norms, rows, count, distance_out);
    } else if (quantizer->kind == QUANTIZE_NONE) {
        full_score(quantizer, codes, query, rows, count, distance_out);
    } else if (quantizer->kind == QUANTIZE_BINARY) {
        rabitq_score(quantizer, codes, query, rows, count, distance_out);
    } else {
        for (uint32_t i = 0; i < count; i++)
            __builtin_prefetch(codes->factors + 2 * (size_t)rows[i], 0, 3);
        vecmath_sq4_gather(&query->sq4, codes->bytes, quantizer->stride, rows, count, distance_out);
        finish_sq4(query, codes->factors, rows, count, distance_out);
    }
}

/* Blocks overlap the rows asked for at both ends. */
static void scan_blocks(const struct quantizer *quantizer, const struct codes *codes,
                        const struct coded_query *query, uint32_t first, uint32_t count,
                        float *distance_out)
{
    float distances[VECMATH_PQ4_ROWS];
    for (uint32_t done = 0; done < count;) {
        uint32_t lane = (first + done) % VECMATH_PQ4_ROWS, left = count - done;
        uint32_t some = VECMATH_PQ4_ROWS - lane < left ? VECMATH_PQ4_ROWS - lane : left;
        (void)pq_scan(quantizer, codes, query, (first + done) / VECMATH_PQ4_ROWS, 0, distances);
        memcpy(distance_out + done, distances + lane, some * sizeof(float));
        done += some;
    }
}

void quantize_scan(const struct quantizer *quantizer, const struct codes *codes,
                   const struct coded_query *query, uint32_t first, uint32_t count,
                   float *distance_out)
{
    if (quantizer->kind == QUANTIZE_PQ) {
        scan_blocks(quantizer, codes, query, first, count, distance_out);
        return;
    }
    const uint8_t *bytes = codes->bytes + (size_t)first * quantizer->stride;
    if (quantizer->kind == QUANTIZE_SQ8) {
        vecmath_sq8_scan(&query->sq8, bytes, quantizer->stride, count, distance_out);
        finish_sq8(query, codes->norms + first, NULL, count, distance_out);
    } else if (quantizer->kind == QUANTIZE_NONE) {
        full_scan(quantizer, codes, query, first, count, distance_out);
    } else if (quantizer->kind == QUANTIZE_BINARY) {
        rabitq_scan(quantizer, codes, query, first, count, distance_out);
    } else {
        vecmath_sq4_scan(&query->sq4, bytes, quantizer->stride, count, distance_out);
        finish_sq4(query, codes->factors + 2 * (size_t)first, NULL, count, distance_out);
    }
}

float quantize_error(const struct quantizer *quantizer, const struct codes *codes,
                     const struct coded_query *query, uint32_t row, float distance)
{
    if (!quantize_has_bounds(quantizer->kind))
        return 0;
    return rabitq_error(quantizer, codes, query, row, distance);
}

static const int8_t *code_of(const struct quantizer *quantizer, const struct codes *codes,
                             uint32_t row)
{
    return (const int8_t *)codes->bytes + (size_t)row * quantizer->stride;
}

/* |a|^2 + |b|^2 - 2 <a, b>: at most 65,536 x 254^2, within 32 bits. */
static float between(uint32_t norm_a, uint32_t norm_b, int32_t dot)
{
    return (float)(norm_a + norm_b - 2 * (uint32_t)dot);
}

enum { ROWS_AT_ONCE = 64 };

void quantize_score_row(const struct quantizer *quantizer, const struct codes *codes, uint32_t from,
                        const uint32_t *rows, uint32_t count, float *distance_out)
{
    ASSERT(quantize_builds(quantizer->kind));
    int32_t dots[ROWS_AT_ONCE];
    if (quantizer->kind == QUANTIZE_NONE) {
        full_score_row(quantizer, codes, from, rows, count, distance_out);
        return;
    }
    for (uint32_t done = 0; done < count;) {
        uint32_t some = count - done < ROWS_AT_ONCE ? count - done : ROWS_AT_ONCE;
        for (uint32_t i = 0; i < some; i++)
            __builtin_prefetch(codes->norms + rows[done + i], 0, 3);
        vecmath_s8_gather(code_of(quantizer, codes, from), codes->bytes, quantizer->stride,
                          rows + done, some, quantizer->columns, dots);
        for (uint32_t i = 0; i < some; i++)
            distance_out[done + i] =
                between(codes->norms[from], codes->norms[rows[done + i]], dots[i]);
        done += some;
    }
}

float quantize_between(const struct quantizer *quantizer, const struct codes *codes, uint32_t a,
                       uint32_t b)
{
    if (quantizer->kind == QUANTIZE_NONE)
        return full_between(quantizer, codes, a, b);
    return between(codes->norms[a], codes->norms[b],
                   vecmath_s8_dot(code_of(quantizer, codes, a), code_of(quantizer, codes, b),
                                  quantizer->columns));
}
