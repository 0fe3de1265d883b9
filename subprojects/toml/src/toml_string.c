/* toml_string.c: keys and strings.
 *
 * Decoded bytes go straight into the document's string buffer, which toml_document_new made large
 * enough for all strings of the text together (see struct toml_document), so nothing here
 * allocates.
 */
#include <assert.h>
#include <string.h>

#include "toml_internal.h"

/* ---- output ---- */

static void put(struct toml_parser *p, char c)
{
    assert(p->doc->strings_used < p->doc->strings_capacity);
    p->doc->strings[p->doc->strings_used++] = c;
}

static void put_code_point(struct toml_parser *p, uint32_t code)
{
    if (code < 0x80) {
        put(p, (char)code);
    } else if (code < 0x800) {
        put(p, (char)(0xc0 | code >> 6));
        put(p, (char)(0x80 | (code & 0x3f)));
    } else if (code < 0x10000) {
        put(p, (char)(0xe0 | code >> 12));
        put(p, (char)(0x80 | (code >> 6 & 0x3f)));
        put(p, (char)(0x80 | (code & 0x3f)));
    } else {
        put(p, (char)(0xf0 | code >> 18));
        put(p, (char)(0x80 | (code >> 12 & 0x3f)));
        put(p, (char)(0x80 | (code >> 6 & 0x3f)));
        put(p, (char)(0x80 | (code & 0x3f)));
    }
}

/* What was put since `from`, with its terminator. */
static struct toml_string finish(struct toml_parser *p, size_t from)
{
    struct toml_string string = {p->doc->strings + from, p->doc->strings_used - from};
    put(p, '\0');
    return string;
}

/* ---- escapes ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* \uXXXX or \UXXXXXXXX; the cursor is behind the letter. */
static int parse_unicode_escape(struct toml_parser *p, const char *escape, int digits)
{
    uint32_t code = 0;
    for (int i = 0; i < digits; i++) {
        int value = p->at < p->end ? hex_value(*p->at) : -1;
        if (value < 0)
            return toml_fail(p, escape, TOML_SYNTAX, "\\%c needs exactly %d hexadecimal digits",
                             escape[1], digits);
        code = code << 4 | (uint32_t)value;
        p->at++;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return toml_fail(p, escape, TOML_SYNTAX, "U+%04X is no Unicode character", (unsigned)code);
    put_code_point(p, code);
    return 0;
}

/* The cursor is on the backslash. */
static int parse_escape(struct toml_parser *p)
{
    static const char letters[] = "btnfr\"\\";
    static const char meanings[] = "\b\t\n\f\r\"\\";
    const char *escape = p->at++;
    if (p->at == p->end)
        return toml_fail(p, escape, TOML_SYNTAX, "the file ends inside a string");
    char letter = *p->at;
    const char *found = letter == '\0' ? NULL : strchr(letters, letter);
    if (found != NULL) {
        put(p, meanings[found - letters]);
        p->at++;
        return 0;
    }
    if (letter == 'u' || letter == 'U') {
        p->at++;
        return parse_unicode_escape(p, escape, letter == 'u' ? 4 : 8);
    }
    char buffer[16];
    return toml_fail(p, escape, TOML_SYNTAX,
                     "a backslash before %s is no escape; write \\\\ for a backslash, or use '...'",
                     toml_describe_next(p, buffer));
}

/* A backslash that ends its line takes the newline and all white space behind it away. False: it is
 * an escape. */
static bool skip_folded_newline(struct toml_parser *p)
{
    const char *backslash = p->at++;
    toml_skip_blank(p);
    if (!toml_skip_newline(p)) {
        p->at = backslash;
        return false;
    }
    do
        toml_skip_blank(p);
    while (toml_skip_newline(p));
    return true;
}

/* ---- one line ---- */

static int fail_in_string(struct toml_parser *p, const char *opening)
{
    if (p->at >= p->end)
        return toml_fail(p, opening, TOML_SYNTAX, "this string is not closed");
    if (*p->at == '\n' || *p->at == '\r')
        return toml_fail(p, p->at, TOML_SYNTAX,
                         "the line ends inside a string; %s around it allow more lines",
                         *opening == '"' ? "three double quotes" : "three single quotes");
    return toml_fail(p, p->at, TOML_SYNTAX, "control character U+%04X in a string",
                     (unsigned char)*p->at);
}

/* "basic" or 'literal'; the cursor is on the opening quote. */
static int parse_line_string(struct toml_parser *p, struct toml_string *string_out)
{
    const char *opening = p->at++;
    size_t from = p->doc->strings_used;
    while (p->at < p->end && *p->at != *opening && !toml_is_control(*p->at)) {
        if (*p->at == '\\' && *opening == '"') {
            int rc = parse_escape(p);
            if (rc < 0)
                return rc;
        } else {
            put(p, *p->at++);
        }
    }
    if (!toml_next_is(p, *opening))
        return fail_in_string(p, opening);
    p->at++;
    *string_out = finish(p, from);
    return 0;
}

/* ---- several lines ---- */

static size_t count_quotes(const struct toml_parser *p, char quote)
{
    size_t count = 0;
    while (p->at + count < p->end && p->at[count] == quote)
        count++;
    return count;
}

/* One character, escape or newline from inside a multi-line string. A newline becomes LF however it
 * was written. */
static int parse_lines_character(struct toml_parser *p, const char *opening)
{
    if (toml_skip_newline(p)) {
        put(p, '\n');
        return 0;
    }
    if (toml_is_control(*p->at))
        return toml_fail(p, p->at, TOML_SYNTAX, "control character U+%04X in a string",
                         (unsigned char)*p->at);
    if (*p->at == '\\' && *opening == '"')
        return skip_folded_newline(p) ? 0 : parse_escape(p);
    put(p, *p->at++);
    return 0;
}

/* Three quotes of either kind; the cursor is on the first. */
static int parse_lines_string(struct toml_parser *p, struct toml_string *string_out)
{
    const char *opening = p->at;
    size_t from = p->doc->strings_used;
    p->at += 3;
    (void)toml_skip_newline(p); /* one right after the quotes does not count */
    while (p->at < p->end) {
        size_t quotes = count_quotes(p, *opening);
        if (quotes > 5)
            quotes = 5; /* at most two of the text, then three that close */
        for (size_t i = 0; i < (quotes < 3 ? quotes : quotes - 3); i++)
            put(p, *opening);
        p->at += quotes;
        if (quotes >= 3) {
            *string_out = finish(p, from);
            return 0;
        }
        if (quotes == 0) {
            int rc = parse_lines_character(p, opening);
            if (rc < 0)
                return rc;
        }
    }
    return toml_fail(p, opening, TOML_SYNTAX, "this string is not closed");
}

int toml_parse_string(struct toml_parser *p, struct toml_string *string_out)
{
    assert(*p->at == '"' || *p->at == '\'');
    return count_quotes(p, *p->at) >= 3 ? parse_lines_string(p, string_out)
                                        : parse_line_string(p, string_out);
}

/* ---- keys ---- */

static bool is_bare(char c)
{
    return toml_is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '-';
}

int toml_parse_key(struct toml_parser *p, struct toml_key *key_out)
{
    struct toml_key key = {.at = p->at};
    if (toml_next_is(p, '"') || toml_next_is(p, '\'')) {
        if (count_quotes(p, *p->at) >= 3)
            return toml_fail(p, p->at, TOML_SYNTAX, "a key cannot be a multi-line string");
        int rc = parse_line_string(p, &key.name);
        if (rc < 0)
            return rc;
    } else {
        size_t from = p->doc->strings_used;
        while (p->at < p->end && is_bare(*p->at))
            put(p, *p->at++);
        if (p->doc->strings_used == from) {
            char buffer[16];
            return toml_fail(
                p, p->at, TOML_SYNTAX,
                "expected a key, found %s; keys other than A-Z a-z 0-9 _ - need quotes",
                toml_describe_next(p, buffer));
        }
        key.name = finish(p, from);
    }
    *key_out = key;
    return 0;
}
