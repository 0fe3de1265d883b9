/* json_write.c: strings with their escapes and numbers in the shortest decimals that read back the
 * same.
 *
 * A float needs 6 to 9 significant digits. A candidate of p digits is made by one double operation,
 * and is right if it reads back as the same float, which is judged as in json_number.c, with a
 * margin for that operation's error. More digits are never worse, so 8 is tried first, then 7 and 6
 * or 9; zeros at the end are dropped. Doubles try 15 digits that way (exact when the digits and the
 * power of ten are exact doubles) and else ask printf for 15, 16 and 17. A full shortest-digits
 * algorithm (Ryu and its like) needs kilobytes of tables and was not worth them. */
#include "base/json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/no_libc_heap.h"

enum {
    POWER_EXACT = 22,    /* the greatest power of ten that is an exact double */
    NUMBER_MAX = 32,     /* bytes of any number written here */
    PLAIN_ZEROS_MAX = 6, /* 0.000001 is written plain, 0.0000001 as 1e-7 */
    PLAIN_POINT_MAX = 21,
    FLOAT_DIGITS_SURE = 9, /* always enough for a float */
};

static const double power_of_ten[POWER_EXACT + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                     1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                     1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static char *put_digits(char *at, uint64_t value, unsigned count)
{
    for (unsigned i = count; i-- > 0;) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + count;
}

static unsigned digit_count(uint64_t value)
{
    unsigned count = 1;
    for (; value >= 10; value /= 10)
        count++;
    return count;
}

static char *put_zeros(char *at, int count)
{
    memset(at, '0', (size_t)count);
    return at + count;
}

/* digits x 10^exponent, plain where that is short. Returns the end; NUMBER_MAX bytes are enough. */
static char *put_decimal(char *at, bool negative, uint64_t digits, int exponent)
{
    if (negative)
        *at++ = '-';
    if (digits == 0) {
        *at++ = '0';
        return at;
    }
    for (; digits % 10 == 0; digits /= 10)
        exponent++;
    int count = (int)digit_count(digits), point = count + exponent;
    if (exponent >= 0 && point <= PLAIN_POINT_MAX) {
        at = put_digits(at, digits, (unsigned)count);
        return put_zeros(at, exponent);
    }
    if (point > 0 && point <= PLAIN_POINT_MAX) {
        at = put_digits(at, digits, (unsigned)count);
        memmove(at - count + point + 1, at - count + point, (size_t)(count - point));
        at[point - count] = '.';
        return at + 1;
    }
    if (point <= 0 && point > -PLAIN_ZEROS_MAX) {
        *at++ = '0';
        *at++ = '.';
        at = put_zeros(at, -point);
        return put_digits(at, digits, (unsigned)count);
    }
    char *first = at;
    at = put_digits(at + 1, digits, (unsigned)count);
    first[0] = first[1];
    first[1] = '.';
    if (count == 1)
        at = first + 1;
    *at++ = 'e';
    int power = point - 1;
    *at++ = power < 0 ? '-' : '+';
    power = power < 0 ? -power : power;
    return put_digits(at, (uint64_t)power, digit_count((uint64_t)power));
}

/* ---- floats ---- */

/* True if digits x 10^exponent surely reads back as `value`. */
static bool reads_back(double digits, int exponent, float value)
{
    double power = power_of_ten[exponent < 0 ? -exponent : exponent];
    double d = exponent < 0 ? digits / power : digits * power;
    if ((float)(d * (1 - 0x1p-51)) >= value && (float)(d * (1 + 0x1p-51)) <= value)
        return true;
    if ((float)d < value || (float)d > value)
        return false;
    /* Next to a boundary between two floats, or on it, which whole numbers often are: then d must
     * be exact. */
    return exponent >= 0 ? d < 0x1p53 : fpclassify(fma(d, power, -digits)) == FP_ZERO;
}

static double scaled(double magnitude, int exponent)
{
    return exponent < 0 ? magnitude * power_of_ten[-exponent] : magnitude / power_of_ten[exponent];
}

/* The power of ten of the first digit of a number from 2^-70 to 2^70. It may be one off next to a
 * power of ten, which makes the candidates one digit longer or shorter and nothing wrong. */
static int first_digit(double magnitude)
{
    uint64_t bits = 0;
    memcpy(&bits, &magnitude, sizeof(bits));
    int binary = (int)(bits >> 52) - 1023;
    int decimal = ((binary * 1233 + (1 << 24)) >> 12) - (1 << 12); /* floor(binary x log10(2)) */
    double next = decimal < -1 ? 1 / power_of_ten[-decimal - 1] : power_of_ten[decimal + 1];
    return magnitude >= next ? decimal + 1 : decimal;
}

static char *put_float_slowly(char *at, float value)
{
    char text[NUMBER_MAX];
    int len = 0;
    /* Every float has 6 digits, but a denormal may need fewer. */
    int precision = fabsf(value) < FLT_MIN ? 1 : 6;
    for (; precision <= FLOAT_DIGITS_SURE; precision++) {
        len = snprintf(text, sizeof(text), "%.*g", precision, (double)value);
        float back = strtof(text, NULL);
        if (back >= value && back <= value)
            break;
    }
    memcpy(at, text, (size_t)len);
    return at + len;
}

/* From 2^-33 to 2^63: the fast way; NULL when no candidate is sure. */
static char *put_float_fast(char *at, bool negative, float value)
{
    double magnitude = (double)value;
    int exponent = first_digit(magnitude) - 7;
    double digits = rint(scaled(magnitude, exponent));
    if (reads_back(digits, exponent, value)) {
        for (int tries = 0; tries < 2; tries++) {
            double fewer = rint(scaled(magnitude, exponent + 1));
            if (!reads_back(fewer, exponent + 1, value))
                break;
            digits = fewer;
            exponent++;
        }
    } else {
        exponent--;
        digits = rint(scaled(magnitude, exponent));
        if (!reads_back(digits, exponent, value))
            return NULL;
    }
    return put_decimal(at, negative, (uint64_t)digits, exponent);
}

static char *put_null(char *at)
{
    memcpy(at, "null", 4);
    return at + 4;
}

static char *put_float(char *at, float value)
{
    float magnitude = fabsf(value);
    bool negative = signbit(value) != 0;
    if (!isfinite(value))
        return put_null(at);
    if (magnitude < 0x1p24f && truncf(magnitude) >= magnitude)
        return put_decimal(at, negative, (uint64_t)magnitude, 0);
    char *end = NULL;
    if (magnitude >= 0x1p-33f && magnitude < 0x1p63f)
        end = put_float_fast(at, negative, magnitude);
    return end != NULL ? end : put_float_slowly(at, value);
}

/* ---- doubles ---- */

static char *put_double_slowly(char *at, double value)
{
    char text[NUMBER_MAX];
    int len = 0;
    int precision = fabs(value) < DBL_MIN ? 1 : 15;
    for (; precision <= 17; precision++) {
        len = snprintf(text, sizeof(text), "%.*g", precision, value);
        double back = strtod(text, NULL);
        if (back >= value && back <= value)
            break;
    }
    memcpy(at, text, (size_t)len);
    return at + len;
}

static char *put_double(char *at, double value)
{
    double magnitude = fabs(value);
    bool negative = signbit(value) != 0;
    if (!isfinite(value))
        return put_null(at);
    if (magnitude < 0x1p53 && trunc(magnitude) >= magnitude)
        return put_decimal(at, negative, (uint64_t)magnitude, 0);
    if (magnitude >= 0x1p-20 && magnitude < 0x1p63) {
        int exponent = first_digit(magnitude) - 14;
        double digits = rint(scaled(magnitude, exponent));
        /* Both operands are exact, so this is the double that a correct reader makes of the
         * digits. */
        double back =
            exponent < 0 ? digits / power_of_ten[-exponent] : digits * power_of_ten[exponent];
        if (digits < 0x1p53 && back >= magnitude && back <= magnitude)
            return put_decimal(at, negative, (uint64_t)digits, exponent);
    }
    return put_double_slowly(at, value);
}

/* ---- into a buffer ---- */

void json_write_double(struct buffer *out, double value)
{
    char *at = buffer_reserve(out, NUMBER_MAX);
    if (at != NULL)
        out->len += (size_t)(put_double(at, value) - at);
}

void json_write_float(struct buffer *out, float value)
{
    char *at = buffer_reserve(out, NUMBER_MAX);
    if (at != NULL)
        out->len += (size_t)(put_float(at, value) - at);
}

void json_write_floats(struct buffer *out, const float *values, size_t count)
{
    enum { BLOCK = 64 }; /* one look at the buffer for so many numbers */
    buffer_add_byte(out, '[');
    for (size_t i = 0; i < count;) {
        char *start = buffer_reserve(out, (size_t)BLOCK * (NUMBER_MAX + 1)), *at = start;
        if (at == NULL)
            return;
        for (size_t last = i + BLOCK; i < last && i < count; i++) {
            if (i > 0)
                *at++ = ',';
            at = put_float(at, values[i]);
        }
        out->len += (size_t)(at - start);
    }
    buffer_add_byte(out, ']');
}

static void write_escape(struct buffer *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef", names[] = "\"\\\b\f\n\r\t",
                      letters[] = "\"\\bfnrt";
    const char *name = c != 0 ? strchr(names, c) : NULL;
    if (name != NULL) {
        char escape[2] = {'\\', letters[name - names]};
        buffer_add(out, escape, sizeof(escape));
        return;
    }
    char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    buffer_add(out, escape, sizeof(escape));
}

void json_write_string(struct buffer *out, struct pdb_text value)
{
    buffer_add_byte(out, '"');
    size_t from = 0;
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buffer_add(out, value.ptr + from, i - from);
        write_escape(out, c);
        from = i + 1;
    }
    if (from < value.len)
        buffer_add(out, value.ptr + from, value.len - from);
    buffer_add_byte(out, '"');
}
