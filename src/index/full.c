/* full.c: codes that are the rows themselves: float32, or packed bits for hamming.
 *
 * For who wants no quantization, and for manhattan and hamming, which have no shorter codes. A
 * distance is the metric's own, so nothing need be ranked again. Rows are kept as the metric sees
 * them: divided by their norm for cosine, with a column more for dot (as SQ8 has it), which rows
 * have among each other and queries have not.
 *
 * A query's cosine distance is 1 - <q, x>, not half a squared difference: a zero vector then is at
 * 1 from everything, as the metric has it. Rows among each other have squared differences
 * (manhattan and hamming: what they are), which are 0 for equal rows and the same in both
 * directions.
 *
 * vecmath asks for gathered rows some blocks ahead; the first ones are asked for here. */
#include "base/assert.h"
#include "index/prefetch.h"
#include "index/quantize_internal.h"

#include <math.h>
#include <string.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum { ROWS_AT_ONCE = 64, AHEAD_LINES = 160 };

static enum vecmath_metric query_kernel(enum pdb_metric metric)
{
    switch (metric) {
    case PDB_METRIC_COSINE:
    case PDB_METRIC_DOT:
        return VECMATH_DOT;
    case PDB_METRIC_MANHATTAN:
        return VECMATH_L1;
    case PDB_METRIC_HAMMING:
        return VECMATH_HAMMING;
    case PDB_METRIC_EUCLIDEAN:
    case PDB_METRIC_UNSPECIFIED:
        break;
    }
    return VECMATH_L2_SQUARED;
}

static enum vecmath_metric row_kernel(enum pdb_metric metric)
{
    enum vecmath_metric kernel = query_kernel(metric);
    return kernel == VECMATH_DOT ? VECMATH_L2_SQUARED : kernel;
}

static void *row_of(const struct quantizer *quantizer, const struct codes *codes, uint32_t row)
{
    return codes->bytes + (size_t)row * quantizer->stride;
}

/* Bits behind the dimension are no difference. */
static void copy_bits(const struct quantizer *quantizer, const void *vector, void *bits_out)
{
    const uint32_t bytes = (quantizer->dimension + 7) / 8, spare = quantizer->dimension % 8;
    uint8_t *bits = bits_out;
    memcpy(bits, vector, bytes);
    if (spare != 0)
        bits[bytes - 1] = (uint8_t)(bits[bytes - 1] & ((1u << spare) - 1));
}

void full_encode(const struct quantizer *quantizer, const float *vector, const struct codes *codes,
                 uint32_t row)
{
    uint8_t *code = row_of(quantizer, codes, row);
    const size_t bytes = quantize_vector_bytes(quantizer->metric, quantizer->columns);
    if (quantizer->metric == PDB_METRIC_HAMMING)
        copy_bits(quantizer, vector, code);
    else
        quantize_place(quantizer, vector, (float *)(void *)code);
    memset(code + bytes, 0, quantizer->stride - bytes);
}

void full_query(const struct quantizer *quantizer, const float *vector, void *memory,
                struct coded_query *query_out)
{
    const bool cosine = quantizer->metric == PDB_METRIC_COSINE;
    if (quantizer->metric == PDB_METRIC_HAMMING)
        copy_bits(quantizer, vector, memory);
    else if (cosine)
        (void)vecmath_normalise_f32(vector, quantizer->dimension, memory);
    else
        memcpy(memory, vector, quantizer->dimension * sizeof(float));
    query_out->full = memory;
    query_out->base = cosine ? 1.0f : 0.0f;
    query_out->offset = cosine ? -1.0f : 0.0f; /* the metric's is the negated cosine */
    query_out->worth = 1.0f;
}

/* Inner products become distances. */
static void finish(const struct quantizer *quantizer, const struct coded_query *query,
                   uint32_t count, float *distance)
{
    if (query_kernel(quantizer->metric) != VECMATH_DOT)
        return;
    for (uint32_t i = 0; i < count; i++)
        distance[i] = query->base - distance[i];
}

/* `columns` of rows by number against one vector. */
PREFETCH_INLINE void gather(const struct quantizer *quantizer, const struct codes *codes,
                            enum vecmath_metric kernel, const void *vector, uint32_t columns,
                            const uint32_t *rows, uint32_t count, float *score_out)
{
    const vecmath_gather_fn score = vecmath_gather_of(kernel);
    const size_t bytes = quantize_vector_bytes(quantizer->metric, columns);
    const void *vectors[ROWS_AT_ONCE];
    size_t lines = AHEAD_LINES;
    for (uint32_t done = 0; done < count;) {
        uint32_t some = count - done < ROWS_AT_ONCE ? count - done : ROWS_AT_ONCE;
        for (uint32_t i = 0; i < some; i++) {
            vectors[i] = row_of(quantizer, codes, rows[done + i]);
            size_t wanted = bytes < lines * 64 ? bytes : lines * 64;
            prefetch_bytes(vectors[i], wanted);
            lines -= (wanted + 63) / 64;
        }
        score(vector, vectors, some, columns, score_out + done);
        done += some;
    }
}

void full_score(const struct quantizer *quantizer, const struct codes *codes,
                const struct coded_query *query, const uint32_t *rows, uint32_t count,
                float *distance_out)
{
    gather(quantizer, codes, query_kernel(quantizer->metric), query->full, quantizer->dimension,
           rows, count, distance_out);
    finish(quantizer, query, count, distance_out);
}

void full_scan(const struct quantizer *quantizer, const struct codes *codes,
               const struct coded_query *query, uint32_t first, uint32_t count, float *distance_out)
{
    vecmath_scan_of(query_kernel(quantizer->metric))(query->full, row_of(quantizer, codes, first),
                                                     quantizer->stride, count, quantizer->dimension,
                                                     distance_out);
    finish(quantizer, query, count, distance_out);
}

void full_score_row(const struct quantizer *quantizer, const struct codes *codes, uint32_t from,
                    const uint32_t *rows, uint32_t count, float *distance_out)
{
    gather(quantizer, codes, row_kernel(quantizer->metric), row_of(quantizer, codes, from),
           quantizer->columns, rows, count, distance_out);
}

float full_between(const struct quantizer *quantizer, const struct codes *codes, uint32_t a,
                   uint32_t b)
{
    return vecmath_pair_of(row_kernel(quantizer->metric))(
        row_of(quantizer, codes, a), row_of(quantizer, codes, b), quantizer->columns);
}
