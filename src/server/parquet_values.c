/* parquet_values.c: numbers, texts and times of Parquet columns as JSON.
 *
 * Times are RFC 3339: a timestamp without a zone is taken for UTC, since JSON has no other way to
 * compare it. Bytes become text where they are UTF-8; others are refused, as no reader could tell a
 * text from an encoding of ours. */
#include "server/parquet_values.h"

#include "base/json.h"
#include "base/utf8.h"
#include "base/uuid.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/no_libc_heap.h"

void parquet_value_key(struct buffer *out, struct pdb_text key)
{
    json_write_string(out, key);
    buffer_add_byte(out, ':');
}

static float half_to_float(uint16_t half)
{
    float sign = (half & 0x8000) != 0 ? -1.0f : 1.0f;
    int exponent = half >> 10 & 31;
    float fraction = (float)(half & 1023);
    if (exponent == 31)
        return fraction == 0.0f ? sign * INFINITY : NAN;
    if (exponent == 0)
        return sign * ldexpf(fraction, -24);
    return sign * ldexpf(fraction + 1024.0f, exponent - 25);
}

static int32_t get_i32(const void *value)
{
    int32_t number;
    memcpy(&number, value, sizeof(number));
    return number;
}

static int64_t get_i64(const void *value)
{
    int64_t number;
    memcpy(&number, value, sizeof(number));
    return number;
}

static double get_double(const void *value)
{
    double number;
    memcpy(&number, value, sizeof(number));
    return number;
}

float parquet_value_float(const struct pqfile_node *leaf, const void *value)
{
    float number;
    uint16_t half;
    if (leaf->type == PQFILE_DOUBLE)
        return (float)get_double(value);
    if (leaf->type == PQFILE_INT32)
        return (float)get_i32(value);
    if (leaf->type == PQFILE_INT64)
        return (float)get_i64(value);
    if (leaf->type == PQFILE_FIXED_LEN_BYTE_ARRAY) {
        memcpy(&half, value, sizeof(half));
        return half_to_float(half);
    }
    memcpy(&number, value, sizeof(number));
    return number;
}

/* ---- times ---- */

/* Seconds and the digits behind them: `digits` of `fraction`. */
static int write_time(int64_t seconds, uint32_t fraction, int digits, struct buffer *out,
                      struct trail *trail)
{
    struct tm tm;
    time_t at = (time_t)seconds;
    if (gmtime_r(&at, &tm) == NULL || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "a time that is not in the years 0 to 9999");
    while (digits > 0 && fraction % 1000 == 0) {
        fraction /= 1000;
        digits -= 3;
    }
    buffer_format(out, "\"%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1,
                  tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    if (digits > 0)
        buffer_format(out, ".%0*" PRIu32, digits, fraction);
    buffer_add_lit(out, "Z\"");
    return 1;
}

static int write_timestamp(int64_t value, int64_t per_second, int digits, struct buffer *out,
                           struct trail *trail)
{
    int64_t seconds = value / per_second, rest = value % per_second;
    if (rest < 0) {
        seconds--;
        rest += per_second;
    }
    return write_time(seconds, (uint32_t)rest, digits, out, trail);
}

int parquet_value_time(int64_t us, struct buffer *out, struct trail *trail)
{
    int rc = write_timestamp(us, 1000000, 6, out, trail);
    return rc < 0 ? rc : 0;
}

static int64_t per_second_of(enum pqfile_unit unit, int *digits_out)
{
    *digits_out = unit == PQFILE_MILLIS ? 3 : unit == PQFILE_NANOS ? 9 : 6;
    return unit == PQFILE_MILLIS ? 1000 : unit == PQFILE_NANOS ? 1000000000 : 1000000;
}

/* "2024-01-31" */
static int write_date(int32_t days, struct buffer *out, struct trail *trail)
{
    size_t before = out->len;
    int rc = write_time((int64_t)days * 86400, 0, 0, out, trail);
    if (rc < 0 || out->failed)
        return rc;
    out->len = before + sizeof("\"2024-01-31") - 1;
    buffer_add_byte(out, '"');
    return 1;
}

/* "13:14:15.5": as a time of 1970-01-01, without that and the zone. */
static int write_time_of_day(int64_t value, enum pqfile_unit unit, struct buffer *out,
                             struct trail *trail)
{
    static const size_t date_len = sizeof("\"1970-01-01T") - 1;
    int digits;
    int64_t per_second = per_second_of(unit, &digits);
    size_t before = out->len;
    if (value < 0 || value / per_second >= 86400)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "a time of day out of range");
    int rc = write_timestamp(value, per_second, digits, out, trail);
    if (rc < 0 || out->failed)
        return rc;
    size_t len = out->len - before - date_len - 2; /* without Z and the quote */
    memmove(out->ptr + before + 1, out->ptr + before + date_len, len);
    out->len = before + 1 + len;
    buffer_add_byte(out, '"');
    return 1;
}

/* INT96: nanoseconds of the day, then the Julian day. */
static int write_int96(const void *value, struct buffer *out, struct trail *trail)
{
    int64_t ns = get_i64(value);
    int64_t days = (int64_t)get_i32((const char *)value + 8) - 2440588;
    if (ns < 0 || ns >= 86400 * (int64_t)1000000000)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "a time of day out of range");
    return write_time(days * 86400 + ns / 1000000000, (uint32_t)(ns % 1000000000), 9, out, trail);
}

/* ---- numbers and texts ---- */

/* A whole number keeps its point: documents tell 1.0 from 1. */
static void keep_point(struct buffer *out, size_t start)
{
    for (size_t i = start; i < out->len && !out->failed; i++)
        if (out->ptr[i] == '.' || out->ptr[i] == 'e')
            return;
    buffer_add_lit(out, ".0");
}

static int write_double(double number, struct buffer *out)
{
    size_t start = out->len;
    if (!isfinite(number))
        return 0;
    json_write_double(out, number);
    keep_point(out, start);
    return 1;
}

static int write_float(float number, struct buffer *out)
{
    size_t start = out->len;
    if (!isfinite(number))
        return 0;
    json_write_float(out, number);
    keep_point(out, start);
    return 1;
}

static int write_decimal(const struct pqfile_node *leaf, double unscaled, struct buffer *out)
{
    return write_double(unscaled / pow(10, leaf->logical.scale), out);
}

static int write_integer(const struct pqfile_node *leaf, int64_t number, struct buffer *out,
                         struct trail *trail)
{
    int digits;
    bool is_unsigned = leaf->logical.kind == PQFILE_LOGICAL_INTEGER && !leaf->logical.is_signed;
    if (leaf->logical.kind == PQFILE_LOGICAL_TIMESTAMP) {
        int64_t per_second = per_second_of(leaf->logical.unit, &digits);
        return write_timestamp(number, per_second, digits, out, trail);
    }
    if (leaf->logical.kind == PQFILE_LOGICAL_TIME)
        return write_time_of_day(number, leaf->logical.unit, out, trail);
    if (leaf->logical.kind == PQFILE_LOGICAL_DATE)
        return write_date((int32_t)number, out, trail);
    if (leaf->logical.kind == PQFILE_LOGICAL_DECIMAL)
        return write_decimal(leaf, (double)number, out);
    if (is_unsigned)
        buffer_add_u64(out, leaf->type == PQFILE_INT32 ? (uint32_t)number : (uint64_t)number);
    else
        buffer_add_i64(out, number);
    return 1;
}

static int write_text(struct pdb_text text, struct buffer *out, struct trail *trail)
{
    if (utf8_invalid_at(text.ptr, text.len) != text.len)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "bytes that are no UTF-8");
    json_write_string(out, text);
    return 1;
}

static int write_bytes(const struct pqfile_node *leaf, struct pdb_text bytes, struct buffer *out,
                       struct trail *trail)
{
    if (leaf->logical.kind == PQFILE_LOGICAL_UUID && bytes.len == sizeof(struct uuid)) {
        struct uuid uuid;
        char text[UUID_TEXT_LEN + 1];
        memcpy(&uuid, bytes.ptr, sizeof(uuid));
        uuid_format(&uuid, text);
        return write_text(text_of(text), out, trail);
    }
    if (leaf->logical.kind == PQFILE_LOGICAL_FLOAT16 && bytes.len == 2)
        return write_double((double)parquet_value_float(leaf, bytes.ptr), out);
    if (leaf->logical.kind == PQFILE_LOGICAL_DECIMAL) {
        double number = 0; /* big-endian, two's complement */
        for (size_t i = 0; i < bytes.len; i++)
            number = number * 256 +
                     (i == 0 ? (double)(int8_t)bytes.ptr[0] : (double)(uint8_t)bytes.ptr[i]);
        return write_decimal(leaf, number, out);
    }
    return write_text(bytes, out, trail);
}

int parquet_value_write(const struct pqfile_node *leaf, const void *value, struct buffer *out,
                        struct trail *trail)
{
    struct pqfile_bytes bytes;
    switch (leaf->type) {
    case PQFILE_BOOLEAN:
        buffer_add_text(out, *(const uint8_t *)value != 0 ? TEXT_LIT("true") : TEXT_LIT("false"));
        return 1;
    case PQFILE_INT32:
        return write_integer(leaf, get_i32(value), out, trail);
    case PQFILE_INT64:
        return write_integer(leaf, get_i64(value), out, trail);
    case PQFILE_INT96:
        return write_int96(value, out, trail);
    case PQFILE_FLOAT:
        return write_float(parquet_value_float(leaf, value), out);
    case PQFILE_DOUBLE:
        return write_double(get_double(value), out);
    case PQFILE_BYTE_ARRAY:
        memcpy(&bytes, value, sizeof(bytes));
        return write_bytes(leaf, (struct pdb_text){(const char *)bytes.data, bytes.len}, out,
                           trail);
    case PQFILE_FIXED_LEN_BYTE_ARRAY:
        return write_bytes(leaf, (struct pdb_text){value, leaf->type_length}, out, trail);
    }
    return trail_add(trail, PDB_INVALID_ARGUMENT, "a type that is not known");
}
