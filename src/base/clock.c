/* clock.c: reads the two clocks, and turns realtime into RFC 3339 text and back without libc's
 * calendar, which would look at TZ and locales. Days are counted in eras of 400 years that begin on
 * 1 March, so that the leap day is the last day of a year and needs no case of its own. */
#include "base/clock.h"

#include <proximadb/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

enum {
    DAYS_PER_ERA = 146097, /* 400 years */
    DAYS_TO_1970 = 719468, /* from 1 March of year 0 */
    SECONDS_PER_DAY = 86400,
};

static const int64_t us_per_day = 86400000000;
static const int64_t us_min = -62167219200000000; /* 0000-01-01T00:00:00Z */
static const int64_t us_max = 253402300799999999; /* 9999-12-31T23:59:59.999999Z */

uint64_t clock_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int64_t clock_realtime_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t days_from_date(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * DAYS_PER_ERA + day_of_era - DAYS_TO_1970;
}

static void date_from_days(int64_t days, unsigned *year_out, unsigned *month_out, unsigned *day_out)
{
    /* From us_min on, days counted from 1 March of the year -400 are never negative. */
    uint64_t d = (uint64_t)(days + DAYS_TO_1970 + DAYS_PER_ERA);
    uint64_t era = d / DAYS_PER_ERA, day_of_era = d % DAYS_PER_ERA;
    uint64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t shifted_month = (5 * day_of_year + 2) / 153; /* 0 is March */
    *day_out = (unsigned)(day_of_year - (153 * shifted_month + 2) / 5 + 1);
    *month_out = (unsigned)(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
    *year_out = (unsigned)(era * 400 + year_of_era - 400 + (*month_out <= 2));
}

static void put_digits(char *at, unsigned count, uint64_t value)
{
    while (count-- > 0) {
        at[count] = (char)('0' + value % 10);
        value /= 10;
    }
}

void clock_format_us(int64_t realtime_us, char text_out[CLOCK_TEXT_SIZE])
{
    int64_t us = realtime_us < us_min ? us_min : realtime_us > us_max ? us_max : realtime_us;
    int64_t days = us / us_per_day - (us % us_per_day < 0);
    uint64_t in_day = (uint64_t)(us - days * us_per_day), seconds = in_day / 1000000;
    unsigned year = 0, month = 0, day = 0;
    date_from_days(days, &year, &month, &day);
    memcpy(text_out, "0000-00-00T00:00:00.000000Z", CLOCK_TEXT_SIZE);
    put_digits(text_out, 4, year);
    put_digits(text_out + 5, 2, month);
    put_digits(text_out + 8, 2, day);
    put_digits(text_out + 11, 2, seconds / 3600);
    put_digits(text_out + 14, 2, seconds / 60 % 60);
    put_digits(text_out + 17, 2, seconds % 60);
    put_digits(text_out + 20, 6, in_day % 1000000);
}

struct cursor {
    const char *at, *end;
};

/* `count` digits, between `min` and `max`. */
static bool take_number(struct cursor *c, unsigned count, unsigned min, unsigned max,
                        unsigned *value_out)
{
    if ((size_t)(c->end - c->at) < count)
        return false;
    unsigned value = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned digit = (unsigned)(unsigned char)c->at[i] - '0';
        if (digit > 9)
            return false;
        value = value * 10 + digit;
    }
    c->at += count;
    *value_out = value;
    return value >= min && value <= max;
}

static bool take_char(struct cursor *c, char lower)
{
    if (c->at == c->end || (*c->at != lower && (*c->at | 0x20) != lower))
        return false;
    c->at++;
    return true;
}

/* Up to nine digits behind a point; what is finer than a microsecond is cut. */
static bool take_fraction(struct cursor *c, unsigned *us_out)
{
    unsigned us = 0, digits = 0;
    for (; c->at != c->end && *c->at >= '0' && *c->at <= '9'; c->at++, digits++) {
        if (digits < 6)
            us = us * 10 + (unsigned)(*c->at - '0');
    }
    if (digits == 0 || digits > 9)
        return false;
    for (; digits < 6; digits++)
        us *= 10;
    *us_out = us;
    return true;
}

static bool take_offset(struct cursor *c, int *minutes_out)
{
    *minutes_out = 0;
    if (take_char(c, 'z'))
        return true;
    if (c->at == c->end || (*c->at != '+' && *c->at != '-'))
        return false;
    int sign = *c->at++ == '-' ? -1 : 1;
    unsigned hours = 0, minutes = 0;
    if (!take_number(c, 2, 0, 23, &hours) || !take_char(c, ':') ||
        !take_number(c, 2, 0, 59, &minutes))
        return false;
    *minutes_out = sign * (int)(hours * 60 + minutes);
    return true;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : days[month - 1];
}

int clock_parse(const char *ptr, unsigned long len, int64_t *realtime_us_out)
{
    struct cursor c = {ptr, ptr + len};
    unsigned year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, us = 0;
    int offset_minutes = 0;
    bool ok = take_number(&c, 4, 0, 9999, &year) && take_char(&c, '-') &&
              take_number(&c, 2, 1, 12, &month) && take_char(&c, '-') &&
              take_number(&c, 2, 1, days_in_month(year, month), &day) &&
              (take_char(&c, 't') || take_char(&c, ' ')) && take_number(&c, 2, 0, 23, &hour) &&
              take_char(&c, ':') && take_number(&c, 2, 0, 59, &minute) && take_char(&c, ':') &&
              take_number(&c, 2, 0, 60, &second) &&
              (!take_char(&c, '.') || take_fraction(&c, &us)) && take_offset(&c, &offset_minutes) &&
              c.at == c.end;
    if (!ok)
        return PDB_INVALID_ARGUMENT;
    /* A leap second (60) counts as the first second of the next minute: POSIX time has no other
     * name for it. */
    int64_t seconds = days_from_date(year, month, day) * SECONDS_PER_DAY + hour * 3600 +
                      minute * 60 + second - (int64_t)offset_minutes * 60;
    *realtime_us_out = seconds * 1000000 + us;
    return 0;
}
