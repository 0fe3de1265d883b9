/* json_number.c: decimal text to binary numbers, correctly rounded, at hundreds of megabytes a
 * second.
 *
 * Digits are read eight at a time: eight ASCII digits in a 64-bit word become a number by three
 * multiplications. For a float one or two double operations on the exact mantissa and an exact
 * power of ten give the value within a few units of a double's last place; unless a boundary
 * between two floats lies that near (one number in 2^25), both ends of the error interval round to
 * the same float, which is the answer. A double is exact when the mantissa and the power are
 * (Clinger, "How to read floating point numbers accurately", 1990).
 *
 * All else goes through strtod or strtof, on a copy with a NUL. A copy keeps at most 800 digits,
 * because no boundary between two doubles has more than 767; a 1 stands for any digits left out,
 * which keeps the side of a boundary. */
#include "base/json_internal.h"

#include "base/bytes.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/no_libc_heap.h"

enum {
    DIGITS_EXACT = 19, /* decimal digits that always fit into 64 bits */
    POWER_EXACT = 22,  /* the greatest power of ten that is an exact double */
    DIGITS_KEPT = 800,
};

static const int64_t exponent_max = 1000000000000000000; /* more than any text has digits */

static const double power_of_ten[POWER_EXACT + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                     1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                     1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

static inline bool take_eight(const char *at, uint64_t *mantissa)
{
    uint64_t v = bytes_get_u64(at);
    if (((v + 0x4646464646464646u) | (v - 0x3030303030303030u)) & 0x8080808080808080u)
        return false;
    v -= 0x3030303030303030u;
    v = v * 10 + (v >> 8); /* pairs, in every second byte */
    uint64_t low = (v & 0x000000ff000000ffu) * 0x000f424000000064u;
    uint64_t high = (v >> 16 & 0x000000ff000000ffu) * 0x0000271000000001u;
    *mantissa = *mantissa * 100000000u + ((low + high) >> 32);
    return true;
}

static inline const char *take_digits(const char *at, const char *end, uint64_t *mantissa)
{
    while (end - at >= 8 && take_eight(at, mantissa))
        at += 8;
    for (; at != end && is_digit(*at); at++)
        *mantissa = *mantissa * 10 + (uint64_t)(*at - '0');
    return at;
}

/* The e, its sign and its digits; NULL without a digit, and *bad_out is where it was wanted. */
static const char *take_exponent(const char *at, const char *end, int64_t *exponent,
                                 const char **bad_out)
{
    at++;
    bool negative = at != end && *at == '-';
    at += at != end && (*at == '-' || *at == '+');
    int64_t value = 0;
    const char *first = at;
    for (; at != end && is_digit(*at); at++) {
        if (value < exponent_max / 100)
            value = value * 10 + (*at - '0');
    }
    if (at == first) {
        *bad_out = at;
        return NULL;
    }
    *exponent += negative ? -value : value;
    return at;
}

/* Zeros in front say nothing, but were counted. */
static size_t leading_zeros(const char *at)
{
    size_t zeros = 0;
    for (; *at == '0' || *at == '.'; at++)
        zeros += *at == '0';
    return zeros;
}

const char *json_scan_number(const char *at, const char *end, struct json_number *number_out,
                             const char **bad_out)
{
    uint64_t mantissa = 0;
    int64_t exponent = 0;
    const char *start = at;
    bool negative = at != end && *at == '-', integer = true;
    at += negative;
    const char *first = at;
    at = take_digits(at, end, &mantissa);
    size_t digits = (size_t)(at - first);
    if (digits == 0 || (digits > 1 && *first == '0')) {
        *bad_out = digits == 0 ? at : first + 1;
        return NULL;
    }
    if (at != end && *at == '.') {
        const char *fraction = ++at;
        at = take_digits(at, end, &mantissa);
        if (at == fraction) {
            *bad_out = at;
            return NULL;
        }
        digits += (size_t)(at - fraction);
        exponent = fraction - at;
        integer = false;
    }
    if (at != end && (*at | 0x20) == 'e') {
        integer = false;
        at = take_exponent(at, end, &exponent, bad_out);
        if (at == NULL)
            return NULL;
    }
    if (digits > DIGITS_EXACT && mantissa != 0 && *first == '0')
        digits -= leading_zeros(first);
    *number_out = (struct json_number){.start = start,
                                       .end = at,
                                       .mantissa = mantissa,
                                       .exponent = exponent,
                                       .digits = digits,
                                       .negative = negative,
                                       .integer = integer};
    return at;
}

/* ---- the slow road ---- */

/* Room for the sign, the digits kept, the 1 for those left out, e, an exponent and a NUL. */
enum { COPY_SIZE = DIGITS_KEPT + 32 };

/* The number as strtod takes it: significant digits without a point, and an exponent. */
static void copy_number(const struct json_number *n, char copy_out[COPY_SIZE])
{
    char *out = copy_out;
    size_t kept = 0;
    int64_t dropped = 0;
    bool rest = false;
    if (n->negative)
        *out++ = '-';
    for (const char *at = n->start + n->negative; at != n->end && (is_digit(*at) || *at == '.');
         at++) {
        if (*at == '.' || (*at == '0' && kept == 0))
            continue;
        if (kept < DIGITS_KEPT) {
            *out++ = *at;
            kept++;
        } else {
            dropped++;
            rest = rest || *at != '0';
        }
    }
    if (kept == 0)
        *out++ = '0';
    int64_t exponent = n->exponent + dropped;
    if (rest) {
        *out++ = '1';
        exponent--;
    }
    /* Beyond this every number is 0 or infinite, and strtod needs not be trusted with more. */
    exponent = exponent > 99999 ? 99999 : exponent < -99999 ? -99999 : exponent;
    (void)snprintf(out, 16, "e%d", (int)exponent);
}

static double slow_double(const struct json_number *n)
{
    char copy[COPY_SIZE];
    copy_number(n, copy);
    return strtod(copy, NULL);
}

static float slow_float(const struct json_number *n)
{
    char copy[COPY_SIZE];
    copy_number(n, copy);
    return strtof(copy, NULL);
}

/* ---- the fast road ---- */

double json_number_double(const struct json_number *n)
{
    int64_t e = n->exponent;
    if (n->digits > DIGITS_EXACT || n->mantissa > (uint64_t)1 << 53 || e < -POWER_EXACT ||
        e > POWER_EXACT)
        return slow_double(n);
    double value = (double)n->mantissa;
    value = e < 0 ? value / power_of_ten[-e] : value * power_of_ten[e];
    return n->negative ? -value : value;
}

float json_number_float(const struct json_number *n)
{
    int64_t e = n->exponent;
    if (n->digits > DIGITS_EXACT || e < -2 * POWER_EXACT || e > 2 * POWER_EXACT)
        return slow_float(n);
    /* Three roundings at most, each within 2^-53 of the value; the margin is 2^-50. */
    double value = (double)n->mantissa;
    if (e < -POWER_EXACT)
        value = value / power_of_ten[POWER_EXACT] / power_of_ten[-e - POWER_EXACT];
    else if (e < 0)
        value /= power_of_ten[-e];
    else if (e <= POWER_EXACT)
        value *= power_of_ten[e];
    else
        value = value * power_of_ten[POWER_EXACT] * power_of_ten[e - POWER_EXACT];
    float low = (float)(value * (1 - 0x1p-50)), high = (float)(value * (1 + 0x1p-50));
    if (low < high)
        return slow_float(n);
    return n->negative ? -low : low;
}

/* The exact value of an integer's digits, which may be more than 64 bits hold. */
static bool magnitude(const struct json_number *n, uint64_t *value_out)
{
    if (n->digits <= DIGITS_EXACT) {
        *value_out = n->mantissa;
        return true;
    }
    uint64_t value = 0;
    for (const char *at = n->start + n->negative; at != n->end; at++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;
    }
    *value_out = value;
    return true;
}

bool json_number_i64(const struct json_number *n, int64_t *value_out)
{
    uint64_t value = 0;
    if (!n->integer || !magnitude(n, &value) || value > (uint64_t)INT64_MAX + n->negative)
        return false;
    *value_out = (int64_t)(n->negative ? 0 - value : value);
    return true;
}

bool json_number_u64(const struct json_number *n, uint64_t *value_out)
{
    uint64_t value = 0;
    if (!n->integer || !magnitude(n, &value) || (n->negative && value != 0))
        return false;
    *value_out = value;
    return true;
}
