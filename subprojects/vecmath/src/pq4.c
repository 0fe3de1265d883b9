/* pq4.c: coding rows and queries, and the scalar reference of the scan.
 *
 * Coding a row or a query meets every centroid of every part: 16 at a time, side by side, which
 * compilers turn into vectors by themselves. Only the scan needs kernels, and finding the nearest
 * of 16.
 *
 * The 8-bit tables. Each part's smallest entry is taken off (their sum is the bias) and all parts
 * share one unit, the widest part's range / 255, since sums of unlike units would mean nothing. */
#include "pq4_internal.h"

enum { CENTROIDS = VECMATH_PQ4_CENTROIDS };

static const float table_max = 255.0f;

void vecmath_pq4_encode(const struct vecmath_pq4 *pq, const float *values, uint8_t *number_out)
{
    vecmath_active_pq4()->encode(pq, values, number_out);
}

void vecmath_pq4_encode_scalar(const struct vecmath_pq4 *pq, const float *values,
                               uint8_t *number_out)
{
    const float *book = pq->codebook;
    for (size_t part = 0; part < pq->part_count; part++) {
        float distance[CENTROIDS] = {0};
        for (size_t i = 0; i < pq->part_columns; i++, book += CENTROIDS)
            for (size_t c = 0; c < CENTROIDS; c++) {
                float apart = values[part * pq->part_columns + i] - book[c];
                distance[c] += apart * apart;
            }
        uint8_t nearest = 0;
        for (uint8_t c = 1; c < CENTROIDS; c++)
            nearest = distance[c] < distance[nearest] ? c : nearest;
        number_out[part] = nearest;
    }
}

void vecmath_pq4_decode(const struct vecmath_pq4 *pq, const uint8_t *numbers, float *value_out)
{
    for (size_t part = 0; part < pq->part_count; part++)
        for (size_t i = 0; i < pq->part_columns; i++) {
            size_t at = part * pq->part_columns + i;
            value_out[at] = pq->codebook[at * CENTROIDS + (numbers[part] & 15)];
        }
}

void vecmath_pq4_put(const uint8_t *numbers, size_t part_count, size_t lane, void *block)
{
    const bool high = lane >= PQ4_TABLE;
    uint8_t *at = (uint8_t *)block + lane % PQ4_TABLE;
    for (size_t part = 0; part < part_count; part++, at += PQ4_TABLE)
        *at = high ? (uint8_t)((*at & 15) | numbers[part] << 4)
                   : (uint8_t)((*at & 240) | (numbers[part] & 15));
}

void vecmath_pq4_get(const void *block, size_t part_count, size_t lane, uint8_t *number_out)
{
    const unsigned shift = lane >= PQ4_TABLE ? 4 : 0;
    const uint8_t *at = (const uint8_t *)block + lane % PQ4_TABLE;
    for (size_t part = 0; part < part_count; part++, at += PQ4_TABLE)
        number_out[part] = (uint8_t)(*at >> shift & 15);
}

/* ---- queries ---- */

static size_t tables_bytes(size_t part_count)
{
    size_t bytes = vecmath_pq4_parts(part_count) * PQ4_TABLE;
    return (bytes + VECMATH_PQ4_ALIGNMENT - 1) / VECMATH_PQ4_ALIGNMENT * VECMATH_PQ4_ALIGNMENT;
}

size_t vecmath_pq4_query_bytes(size_t part_count)
{
    return tables_bytes(part_count) + part_count * CENTROIDS * sizeof(float);
}

/* Negated inner products of one part, 0 for the smallest; returns that, and the range. */
static float part_products(const float *book, const float *values, size_t columns,
                           float product_out[CENTROIDS], float *range_out)
{
    float product[CENTROIDS] = {0};
    for (size_t i = 0; i < columns; i++, book += CENTROIDS)
        for (size_t c = 0; c < CENTROIDS; c++)
            product[c] -= values[i] * book[c];
    float least = product[0];
    float most = product[0];
    for (size_t c = 1; c < CENTROIDS; c++) {
        least = product[c] < least ? product[c] : least;
        most = product[c] > most ? product[c] : most;
    }
    for (size_t c = 0; c < CENTROIDS; c++)
        product_out[c] = product[c] - least;
    *range_out = most - least;
    return least;
}

void vecmath_pq4_query_set(const struct vecmath_pq4 *pq, const float *values, void *memory,
                           struct vecmath_pq4_query *query_out)
{
    uint8_t *tables = memory;
    float *products = (float *)(void *)((char *)memory + tables_bytes(pq->part_count));
    const size_t entries = pq->part_count * CENTROIDS;
    const size_t step = pq->part_columns;
    double bias = 0;
    float widest = 0;
    for (size_t part = 0; part < pq->part_count; part++) {
        float range;
        bias += (double)part_products(pq->codebook + part * step * CENTROIDS, values + part * step,
                                      step, products + part * CENTROIDS, &range);
        widest = range > widest ? range : widest;
    }
    const float factor = widest > 1e-30f ? table_max / widest : 0.0f; /* less is as good as 0 */
    for (size_t i = 0; i < entries; i++) {
        float number = products[i] * factor + 0.5f;
        tables[i] = (uint8_t)(int32_t)(number < table_max ? number : table_max); /* also of NaN */
    }
    memset(tables + entries, 0, tables_bytes(pq->part_count) - entries);
    *query_out = (struct vecmath_pq4_query){
        .tables = tables,
        .part_count = pq->part_count,
        .bias = (float)bias,
        .unit = factor > 0 ? widest / table_max : 0.0f,
    };
}

/* ---- the scan ---- */

void vecmath_pq4_sums(const struct vecmath_pq4_query *query, const void *block, uint32_t *sum_out)
{
    vecmath_active_pq4()->sums(query->tables, block, vecmath_pq4_parts(query->part_count), sum_out);
}

uint32_t vecmath_pq4_scan(const struct vecmath_pq4_query *query, const void *block, float base,
                          const float *terms, float bound, float *distance_out)
{
    const struct vecmath_pq4_kernels *kernels = vecmath_active_pq4();
    uint32_t sums[VECMATH_PQ4_ROWS];
    kernels->sums(query->tables, block, vecmath_pq4_parts(query->part_count), sums);
    return kernels->finish(sums, base + query->bias, query->unit, terms, bound, distance_out);
}

uint32_t vecmath_pq4_sum(const struct vecmath_pq4_query *query, const void *block, size_t lane)
{
    const unsigned shift = lane >= PQ4_TABLE ? 4 : 0;
    const uint8_t *at = (const uint8_t *)block + lane % PQ4_TABLE;
    uint32_t sum = 0;
    for (size_t part = 0; part < query->part_count; part++)
        sum += query->tables[part * PQ4_TABLE + (at[part * PQ4_TABLE] >> shift & 15)];
    return sum;
}

/* ---- the reference ---- */

static void sums_scalar(const uint8_t *tables, const uint8_t *block, size_t part_count,
                        uint32_t *sum_out)
{
    memset(sum_out, 0, VECMATH_PQ4_ROWS * sizeof *sum_out);
    for (size_t part = 0; part < part_count; part++)
        for (size_t j = 0; j < PQ4_TABLE; j++) {
            const uint8_t both = block[part * PQ4_TABLE + j];
            sum_out[j] += tables[part * PQ4_TABLE + (both & 15)];
            sum_out[PQ4_TABLE + j] += tables[part * PQ4_TABLE + (both >> 4)];
        }
}

static uint32_t finish_scalar(const uint32_t *sums, float base, float unit, const float *terms,
                              float bound, float *distance_out)
{
    uint32_t mask = 0;
    for (size_t i = 0; i < VECMATH_PQ4_ROWS; i++) {
        distance_out[i] = base + vecmath_load(terms, i) + unit * (float)sums[i];
        mask |= (uint32_t)(distance_out[i] <= bound) << i;
    }
    return mask;
}

const struct vecmath_pq4_kernels vecmath_pq4_scalar = {
    .name = "scalar",
    .sums = sums_scalar,
    .encode = vecmath_pq4_encode_scalar,
    .finish = finish_scalar,
};
