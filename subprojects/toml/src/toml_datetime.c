/* toml_datetime.c: the four kinds of time: RFC 3339 section 5.6, with the parts that TOML allows to
 * be left out.
 *
 * The kind is what was found: a date, a time, both, both with an offset. RFC 3339 lets a space
 * stand for the T, which makes this the only value of two tokens.
 */
#include <string.h>

#include "toml_internal.h"

struct cursor {
    const char *at;
    const char *end;
};

bool toml_looks_like_datetime(const char *token, size_t len)
{
    size_t digits = 0;
    while (digits < len && toml_is_digit(token[digits]))
        digits++;
    return digits < len && ((digits == 4 && token[4] == '-') || (digits == 2 && token[2] == ':'));
}

/* Exactly `digits` digits, which begin at c->at. */
static bool take_number(struct cursor *c, int digits, unsigned *number_out)
{
    unsigned number = 0;
    for (int i = 0; i < digits; i++) {
        if (c->at + i >= c->end || !toml_is_digit(c->at[i]))
            return false;
        number = number * 10 + (unsigned)(c->at[i] - '0');
    }
    c->at += digits;
    *number_out = number;
    return true;
}

static bool take(struct cursor *c, char wanted)
{
    if (c->at >= c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

/* ---- the parts; false: not of this shape. Ranges are checked afterwards, for better messages.
 * ---- */

static bool take_date(struct cursor *c, struct toml_datetime *time)
{
    unsigned year, month, day;
    if (!take_number(c, 4, &year) || !take(c, '-') || !take_number(c, 2, &month) || !take(c, '-') ||
        !take_number(c, 2, &day))
        return false;
    time->year = (uint16_t)year;
    time->month = (uint8_t)month;
    time->day = (uint8_t)day;
    return true;
}

static bool take_time(struct cursor *c, struct toml_datetime *time)
{
    unsigned hour, minute, second;
    if (!take_number(c, 2, &hour) || !take(c, ':') || !take_number(c, 2, &minute) ||
        !take(c, ':') || !take_number(c, 2, &second))
        return false;
    time->hour = (uint8_t)hour;
    time->minute = (uint8_t)minute;
    time->second = (uint8_t)second;
    if (!take(c, '.'))
        return true;
    if (c->at >= c->end || !toml_is_digit(*c->at))
        return false;
    uint32_t weight = 100000000;
    for (; c->at < c->end && toml_is_digit(*c->at); c->at++, weight /= 10)
        time->nanosecond += (uint32_t)(*c->at - '0') * weight;
    return true;
}

/* Z or +hh:mm. *range_ok_out is false when the numbers make no offset. */
static bool take_offset(struct cursor *c, struct toml_datetime *time, bool *range_ok_out)
{
    if (take(c, 'Z') || take(c, 'z'))
        return true;
    bool west = c->at < c->end && *c->at == '-';
    unsigned hour, minute;
    if (!(take(c, '-') || take(c, '+')) || !take_number(c, 2, &hour) || !take(c, ':') ||
        !take_number(c, 2, &minute))
        return false;
    *range_ok_out = hour <= 23 && minute <= 59;
    int minutes = (int)(hour * 60 + minute);
    time->offset_minutes = (int16_t)(west ? -minutes : minutes);
    return true;
}

/* ---- the ranges ---- */

static int days_in_month(int year, int month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : days[month - 1];
}

static int check_date(struct toml_parser *p, const struct toml_datetime *time)
{
    if (time->month < 1 || time->month > 12)
        return toml_fail(p, p->at, TOML_SYNTAX, "month %02u does not exist", time->month);
    int days = days_in_month(time->year, time->month);
    if (time->day < 1 || time->day > days)
        return toml_fail(p, p->at, TOML_SYNTAX, "day %02u does not exist: %04u-%02u has %d days",
                         time->day, time->year, time->month, days);
    return 0;
}

static int check_time(struct toml_parser *p, const struct toml_datetime *time)
{
    if (time->hour > 23 || time->minute > 59 || time->second > 60)
        return toml_fail(p, p->at, TOML_SYNTAX, "%02u:%02u:%02u is not a time of day", time->hour,
                         time->minute, time->second);
    return 0;
}

/* ---- */

static int fail_shape(struct toml_parser *p, const char *end)
{
    int len = end - p->at < 40 ? (int)(end - p->at) : 40;
    return toml_fail(
        p, p->at, TOML_SYNTAX,
        "'%.*s' is no date or time; they look like 1979-05-27T07:32:00Z, 1979-05-27 or 07:32:00",
        len, p->at);
}

/* Whether a time follows the date that ends at c->at, and steps over what joins them. A space only
 * joins when a digit follows it, else it ends the value. */
static bool take_joint(const struct toml_parser *p, struct cursor *c)
{
    if (take(c, 'T') || take(c, 't'))
        return true;
    if (c->at == c->end && p->end - c->end >= 2 && *c->end == ' ' && toml_is_digit(c->end[1])) {
        c->at++;
        c->end = toml_token_end(p, c->at);
        return true;
    }
    return false;
}

int toml_parse_datetime(struct toml_parser *p, const char *token_end, struct toml_value *value)
{
    struct cursor c = {p->at, token_end};
    struct toml_datetime time = {0};
    bool offset_ok = true;
    bool has_date = p->at[2] != ':';
    bool has_time = !has_date;
    bool has_offset = false;
    if (has_date) {
        if (!take_date(&c, &time))
            return fail_shape(p, c.end);
        has_time = take_joint(p, &c);
    }
    if (has_time && !take_time(&c, &time))
        return fail_shape(p, c.end);
    if (has_date && has_time && c.at < c.end) {
        has_offset = true;
        if (!take_offset(&c, &time, &offset_ok))
            return fail_shape(p, c.end);
    }
    if (c.at != c.end)
        return fail_shape(p, c.end);

    int rc = has_date ? check_date(p, &time) : 0;
    if (rc == 0 && has_time)
        rc = check_time(p, &time);
    if (rc < 0)
        return rc;
    if (!offset_ok)
        return toml_fail(p, p->at, TOML_SYNTAX, "an offset from UTC goes from -23:59 to +23:59");
    value->type = has_offset             ? TOML_OFFSET_DATETIME
                  : has_date && has_time ? TOML_LOCAL_DATETIME
                  : has_date             ? TOML_LOCAL_DATE
                                         : TOML_LOCAL_TIME;
    value->as.datetime = time;
    p->at = c.end;
    return 0;
}
