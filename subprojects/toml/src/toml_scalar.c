/* toml_scalar.c: booleans, integers and floats.
 *
 * A scalar is first cut out as one token (letters, digits, + - _ . :), then judged whole, so that
 * `1_000abc` is one bad number and not a number with something behind it. Floats are checked
 * against TOML's grammar here and only converted by strtod_l, in the C locale whatever the program
 * has set: strtod itself would accept hexadecimal floats, "infinity" and, under some locales, read
 * 1.5 as 1.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "toml_internal.h"

struct token {
    const char *at;
    size_t len;
};

/* Precision for printing a token in a message: enough to be recognised. */
static int shown(const struct token *token)
{
    return token->len < 40 ? (int)token->len : 40;
}

static bool is_token(char c)
{
    return toml_is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
           c == '-' || c == '_' || c == '.' || c == ':';
}

const char *toml_token_end(const struct toml_parser *p, const char *from)
{
    while (from < p->end && is_token(*from))
        from++;
    return from;
}

static bool token_is(const struct token *token, const char *text)
{
    return token->len == strlen(text) && memcmp(token->at, text, token->len) == 0;
}

/* ---- the shape of digits ---- */

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 99;
}

/* The length of the run of digits and single underscores between them; 0 when it does not start
 * with a digit. A trailing or double underscore ends the run before it, where the caller then finds
 * what does not belong. */
static size_t digit_run(const char *at, const char *end, int base)
{
    const char *c = at;
    while (c < end && digit_value(*c) < base) {
        c++;
        if (end - c >= 2 && *c == '_' && digit_value(c[1]) < base)
            c++;
    }
    return (size_t)(c - at);
}

static int fail_number(struct toml_parser *p, const struct token *token)
{
    if (memchr(token->at, '_', token->len) != NULL)
        return toml_fail(
            p, token->at, TOML_SYNTAX,
            "'%.*s' is no value; an underscore in a number needs a digit on either side",
            shown(token), token->at);
    return toml_fail(p, token->at, TOML_SYNTAX, "'%.*s' is no value; text needs quotes",
                     shown(token), token->at);
}

static int fail_leading_zero(struct toml_parser *p, const struct token *token)
{
    return toml_fail(p, token->at, TOML_SYNTAX,
                     "'%.*s': a number cannot begin with 0 (octal is 0o17)", shown(token),
                     token->at);
}

/* ---- integers ---- */

/* Adds digits up to INT64_MAX, or INT64_MIN when negative. False: out of range. */
static bool add_digits(const char *at, size_t len, int base, bool negative, int64_t *integer_out)
{
    int64_t integer = 0;
    for (size_t i = 0; i < len; i++) {
        if (at[i] == '_')
            continue;
        int digit = digit_value(at[i]);
        if (__builtin_mul_overflow(integer, base, &integer) ||
            __builtin_add_overflow(integer, negative ? -digit : digit, &integer))
            return false;
    }
    *integer_out = integer;
    return true;
}

static int parse_integer(struct toml_parser *p, const struct token *token, const char *digits,
                         int base, struct toml_value *value)
{
    size_t len = (size_t)(token->at + token->len - digits);
    if (len == 0 || digit_run(digits, digits + len, base) != len)
        return fail_number(p, token);
    int64_t integer;
    if (!add_digits(digits, len, base, token->at[0] == '-', &integer))
        return toml_fail(p, token->at, TOML_SYNTAX,
                         "%.*s is out of range; integers go from %lld to %lld", shown(token),
                         token->at, (long long)INT64_MIN, (long long)INT64_MAX);
    value->type = TOML_INTEGER;
    value->as.integer = integer;
    return 0;
}

/* ---- floats ---- */

/* Whether the token, without its sign, is digits [. digits] [e [sign] digits]. */
static bool is_float(const char *at, const char *end)
{
    size_t len = digit_run(at, end, 10);
    if (len == 0)
        return false;
    at += len;
    if (at < end && *at == '.') {
        len = digit_run(at + 1, end, 10);
        if (len == 0)
            return false;
        at += 1 + len;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        len = digit_run(at, end, 10);
        if (len == 0)
            return false;
        at += len;
    }
    return at == end;
}

static int parse_float(struct toml_parser *p, const struct token *token, struct toml_value *value)
{
    if (p->c_locale == (locale_t)0) {
        p->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        if (p->c_locale == (locale_t)0)
            return toml_fail(p, token->at, TOML_NO_MEMORY, "out of memory");
    }
    /* The unused end of the string buffer is longer than the text that is left. */
    struct toml_document *doc = p->doc;
    assert(doc->strings_capacity - doc->strings_used > token->len);
    char *copy = doc->strings + doc->strings_used;
    size_t len = 0;
    for (size_t i = 0; i < token->len; i++) {
        if (token->at[i] != '_')
            copy[len++] = token->at[i];
    }
    copy[len] = '\0';
    double number = strtod_l(copy, NULL, p->c_locale);
    if (isinf(number))
        return toml_fail(p, token->at, TOML_SYNTAX, "%.*s is out of range for a 64-bit float",
                         shown(token), token->at);
    value->type = TOML_FLOAT;
    value->as.number = number;
    return 0;
}

/* inf and nan, whose sign is kept. */
static bool parse_special(const char *at, const char *end, bool negative, struct toml_value *value)
{
    if (end - at != 3)
        return false;
    double number;
    if (memcmp(at, "inf", 3) == 0)
        number = (double)INFINITY;
    else if (memcmp(at, "nan", 3) == 0)
        number = (double)NAN;
    else
        return false;
    value->type = TOML_FLOAT;
    value->as.number = negative ? -number : number;
    return true;
}

/* ---- */

static int parse_number(struct toml_parser *p, const struct token *token, struct toml_value *value)
{
    const char *end = token->at + token->len;
    bool is_signed = token->at[0] == '+' || token->at[0] == '-';
    const char *digits = token->at + (is_signed ? 1 : 0);
    if (parse_special(digits, end, token->at[0] == '-', value))
        return 0;
    if (end - digits >= 2 && digits[0] == '0') {
        int base = digits[1] == 'x' ? 16 : digits[1] == 'o' ? 8 : digits[1] == 'b' ? 2 : 10;
        if (base != 10) {
            if (is_signed)
                return toml_fail(p, token->at, TOML_SYNTAX,
                                 "'%.*s': only decimal numbers can have a sign", shown(token),
                                 token->at);
            return parse_integer(p, token, digits + 2, base, value);
        }
        if (toml_is_digit(digits[1]) || digits[1] == '_')
            return fail_leading_zero(p, token);
    }
    if (digit_run(digits, end, 10) == (size_t)(end - digits))
        return parse_integer(p, token, digits, 10, value);
    return is_float(digits, end) ? parse_float(p, token, value) : fail_number(p, token);
}

int toml_parse_scalar(struct toml_parser *p, struct toml_value *value)
{
    const char *end = toml_token_end(p, p->at);
    struct token token = {p->at, (size_t)(end - p->at)};
    if (token.len == 0) {
        char buffer[16];
        return toml_fail(p, p->at, TOML_SYNTAX, "expected a value, found %s",
                         toml_describe_next(p, buffer));
    }
    if (toml_looks_like_datetime(token.at, token.len))
        return toml_parse_datetime(p, end, value);
    int rc = 0;
    if (token_is(&token, "true") || token_is(&token, "false")) {
        value->type = TOML_BOOLEAN;
        value->as.boolean = token.at[0] == 't';
    } else {
        rc = parse_number(p, &token, value);
    }
    p->at = end;
    return rc;
}
