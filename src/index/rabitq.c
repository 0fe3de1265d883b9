/* rabitq.c: codes of 1 to 8 bits a column, with an unbiased estimate and a bound on its error
 * (RaBitQ: Gao and Long, SIGMOD 2024, arXiv 2405.12497; more bits: arXiv 2409.09913).
 *
 * A row x (less the mean, padded with zeros to a multiple of 64 columns, and rotated) becomes
 * numbers u of b bits, which stand for c = u - (2^b - 1) / 2: the signs of x for one bit, else the
 * grid whose step brings c nearest to the direction of x. The inner product with a query is
 * estimated as f <c, q> with f = |x|^2 / <x, c>: f c is x plus something at right angles to x. As
 * the rotation is random, that something points nowhere in particular, so its product with q
 * averages to 0 and deviates by
 *
 *     |f c - x| x |what of q is at right angles to x| / sqrt(columns - 1)
 *
 * of which the first factor, with the root, is kept with the row, and the second follows from the
 * estimate itself: rows in the direction of the query have small ones. Three floats lie at the end
 * of each code's stride, mostly in a line that the code has anyway: half |x|^2, f, and |f c - x| /
 * sqrt(columns - 1).
 *
 * The query has signed bytes, whose rounding adds at most |f c| x step / 2 to the deviation, which
 * counts for codes of many bits. */
#include "index/quantize_internal.h"

#include <math.h>
#include <string.h>
#include <vecmath/vecmath.h>

#include "base/no_libc_heap.h"

enum { STEPS = 9, LANES = 8, FLOATS = 3, FEW_COLUMNS = 6 };

/* So few columns give a rotation too little to mix: what it makes of them repeats itself, and
 * errors add up. Measured deviations: 1.9 times as large for 2 columns, 1.4 for 3, 1 from 7 on. */
static const float few_share = 4.0f;

/* Of so many deviations an estimate is off at most (99.7 % of normal ones). */
static const double deviations = 3.0;

/* The best step for normally distributed numbers, in deviations, by bits. */
static const float normal_steps[VECMATH_BITS_MAX + 1] = {0,      1.596f, 0.996f,  0.586f, 0.335f,
                                                         0.188f, 0.104f, 0.0569f, 0.0308f};

struct factors {
    float half_norm, factor, error;
};
_Static_assert(sizeof(struct factors) == FLOATS * sizeof(float), "on disk");

size_t rabitq_code_bytes(uint32_t width, uint32_t bits)
{
    return vecmath_bits_code_bytes(width, bits) + sizeof(struct factors);
}

static struct factors factors_of(const struct quantizer *quantizer, const struct codes *codes,
                                 uint32_t row)
{
    struct factors factors;
    const uint8_t *end = codes->bytes + ((size_t)row + 1) * quantizer->stride;
    memcpy(&factors, end - sizeof factors, sizeof factors);
    return factors;
}

/* ---- rows ---- */

struct grid {
    float inverse_step, half; /* half: 2^(b - 1); number = floor(x / step + half) */
};

static inline float number_of(const struct grid *grid, float value)
{
    float number = value * grid->inverse_step + grid->half;
    number = number < 2 * grid->half - 1 ? number : 2 * grid->half - 1;
    return (float)(int32_t)(number > 0 ? number : 0);
}

struct agreement {
    float product, norm; /* <x, c>, |c|^2 */
};

static float total(const float lanes[LANES])
{
    float sum = 0;
    for (uint32_t lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    return sum;
}

/* Sums in lanes, which any vector unit can do. width: a multiple of 64. */
static struct agreement agreement_of(const struct grid *grid, const float *x, uint32_t width)
{
    float product[LANES] = {0}, norm[LANES] = {0};
    for (uint32_t i = 0; i < width; i += LANES)
        for (uint32_t lane = 0; lane < LANES; lane++) {
            float c = number_of(grid, x[i + lane]) + 0.5f - grid->half;
            product[lane] += x[i + lane] * c;
            norm[lane] += c * c;
        }
    return (struct agreement){total(product), total(norm)};
}

static float norm_of(const float *x, uint32_t width)
{
    float sum[LANES] = {0};
    for (uint32_t i = 0; i < width; i += LANES)
        for (uint32_t lane = 0; lane < LANES; lane++)
            sum[lane] += x[i + lane] * x[i + lane];
    return total(sum);
}

/* The grid whose code points most nearly the way x does. For one bit all do alike. */
static struct grid choose_grid(uint32_t bits, const float *x, uint32_t width, float norm)
{
    const float deviation = sqrtf(norm / (float)width);
    struct grid grid = {1.0f / (normal_steps[bits] * deviation), (float)(1u << (bits - 1))};
    struct grid best = grid;
    float best_cosine = -1.0f;
    for (int i = 0; bits > 1 && i < STEPS; i++) {
        struct grid one = grid;
        one.inverse_step *= 0.76f + 0.06f * (float)i;
        struct agreement with = agreement_of(&one, x, width);
        float cosine = with.product / sqrtf(with.norm);
        if (cosine > best_cosine) {
            best_cosine = cosine;
            best = one;
        }
    }
    return best;
}

void rabitq_encode(const struct quantizer *quantizer, float *centred, uint8_t *numbers,
                   const struct codes *codes, uint32_t row)
{
    const uint32_t width = quantize_width(quantizer);
    uint8_t *code = codes->bytes + (size_t)row * quantizer->stride;
    struct factors factors = {0};
    memset(centred + quantizer->columns, 0, (width - quantizer->columns) * sizeof *centred);
    memset(code, 0, quantizer->stride);
    quantize_rotate(quantizer->seed, centred, width);
    const float norm = norm_of(centred, width);
    if (norm > 1e-30f) { /* less is as good as 0, for which any code is right */
        struct grid grid = choose_grid(quantizer->bits, centred, width, norm);
        struct agreement with = agreement_of(&grid, centred, width);
        for (uint32_t i = 0; i < width; i++)
            numbers[i] = (uint8_t)number_of(&grid, centred[i]);
        vecmath_bits_pack(numbers, width, quantizer->bits, code);
        factors.half_norm = 0.5f * norm;
        factors.factor = norm / with.product; /* > 0: every c has the sign of its x */
        float across = factors.factor * factors.factor * with.norm - norm;
        factors.error = across > 0 ? sqrtf(across / (float)(width - 1)) : 0.0f;
        if (quantizer->columns < FEW_COLUMNS)
            factors.error *= few_share;
    }
    memcpy(code + quantizer->stride - sizeof factors, &factors, sizeof factors);
}

bool rabitq_is_sound(const struct quantizer *quantizer, const uint8_t *code)
{
    struct factors factors;
    memcpy(&factors, code + quantizer->stride - sizeof factors, sizeof factors);
    return isfinite(factors.half_norm) && isfinite(factors.factor) && isfinite(factors.error);
}

/* ---- queries ---- */

/* placed: room for the width, and as many numbers as columns in it. */
void rabitq_query(const struct quantizer *quantizer, float *placed, void *memory,
                  struct coded_query *query)
{
    const uint32_t width = quantize_width(quantizer);
    memset(placed + quantizer->columns, 0, (width - quantizer->columns) * sizeof *placed);
    query->norm = norm_of(placed, width);
    quantize_rotate(quantizer->seed, placed, width);
    float most = quantize_largest(placed, width);
    float factor = most > 1e-30f ? VECMATH_BITS_QUERY_MAX / most : 0.0f;
    vecmath_bits_query_set(placed, factor, width, quantizer->bits, memory, &query->bits);
    query->unit = factor > 0 ? 1.0f / factor : 0.0f;
    query->bias = (0.5f * (float)(1u << quantizer->bits) - 0.5f) * (float)query->bits.sum;
}

/* dot: <u, q>, becomes the distance. */
static inline float finish(const struct coded_query *query, const struct factors *factors,
                           float dot)
{
    const float half_norm = query->half > 0 ? factors->half_norm : 0.0f; /* it is stored halved */
    return query->base + half_norm - query->unit * factors->factor * (dot - query->bias);
}

void rabitq_score(const struct quantizer *quantizer, const struct codes *codes,
                  const struct coded_query *query, const uint32_t *rows, uint32_t count,
                  float *distance_out)
{
    vecmath_bits_gather(&query->bits, codes->bytes, quantizer->stride, rows, count, distance_out);
    for (uint32_t i = 0; i < count; i++) {
        const struct factors factors = factors_of(quantizer, codes, rows[i]);
        distance_out[i] = finish(query, &factors, distance_out[i]);
    }
}

void rabitq_scan(const struct quantizer *quantizer, const struct codes *codes,
                 const struct coded_query *query, uint32_t first, uint32_t count,
                 float *distance_out)
{
    vecmath_bits_scan(&query->bits, codes->bytes + (size_t)first * quantizer->stride,
                      quantizer->stride, count, distance_out);
    for (uint32_t i = 0; i < count; i++) {
        const struct factors factors = factors_of(quantizer, codes, first + i);
        distance_out[i] = finish(query, &factors, distance_out[i]);
    }
}

/* The largest sine of the angle between a row and the query that an estimated cosine allows: of cos
 * + spread x sin >= estimate. The estimate itself would do where it is about right; but of a row
 * that seems to lie just where the query does it would claim to be without error. */
static double largest_sine(double cosine, double spread)
{
    const double length = sqrt(1 + spread * spread);
    const double c = fabs(cosine) < length ? fabs(cosine) / length : 1;
    const double s = sqrt(1 - c * c);
    return c > spread * s ? (spread * c + s) / length : 1;
}

float rabitq_error(const struct quantizer *quantizer, const struct codes *codes,
                   const struct coded_query *query, uint32_t row, float distance)
{
    const struct factors factors = factors_of(quantizer, codes, row);
    const double half_norm = query->half > 0 ? (double)factors.half_norm : 0;
    const double product = (double)query->base + half_norm - (double)distance;
    const double norm = 2 * (double)factors.half_norm, error = (double)factors.error;
    if (!(norm > 0) || !(query->norm > 0))
        return 0;
    const double length = sqrt((double)query->norm);
    const double sine =
        largest_sine(product / (sqrt(norm) * length), deviations * error / sqrt(norm));
    const double across = error * length * sine;
    const double rounded = 0.5 * (double)query->unit;
    const double width = quantize_width(quantizer);
    const double bound =
        deviations *
        sqrt(across * across + rounded * rounded * (norm + (width - 1) * error * error));
    return bound < 1e37 ? (float)bound : 1e37f;
}
