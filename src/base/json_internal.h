/* What the parts of json_*.c share: numbers as they lie in the text. */
#ifndef BASE_JSON_INTERNAL_H
#define BASE_JSON_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A number's text, taken apart: (-1)^negative x mantissa x 10^exponent, where `digits` says how
 * much of it is true. */
struct json_number {
    const char *start, *end;
    uint64_t mantissa; /* all digits, modulo 2^64 when there are more than 19 */
    int64_t exponent;  /* of ten; counts the digits behind the point */
    size_t digits;     /* of the mantissa, without zeros in front when there are more than 19 */
    bool negative, integer; /* integer: neither point nor exponent */
};

/* Reads a number of RFC 8259's grammar at `at`. NULL, or where it stops being one: *bad_out. */
const char *json_scan_number(const char *at, const char *end, struct json_number *number_out,
                             const char **bad_out);

/* Correctly rounded; infinite when out of range. */
double json_number_double(const struct json_number *number);
float json_number_float(const struct json_number *number);

/* False: not an integer, or out of range. */
bool json_number_i64(const struct json_number *number, int64_t *value_out);
bool json_number_u64(const struct json_number *number, uint64_t *value_out);

#endif
