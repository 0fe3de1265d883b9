/* toml_text.c: the text as a sequence of characters, lines and places.
 *
 * Nothing here counts lines while parsing. The cursor is a plain pointer, and a place becomes line
 * and column only when it is asked for: for every value, in rising order, which a cache of the last
 * answer makes linear over the file; and once for an error, from the start. So no parsing function
 * can forget to count a newline.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "toml_internal.h"

static bool is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

void toml_mark(struct toml_parser *p, const char *at, uint32_t *line_out, uint32_t *column_out)
{
    if (p->mark_at == NULL || at < p->mark_at) {
        p->mark_at = p->text;
        p->mark_line = 1;
        p->mark_column = 1;
    }
    for (const char *c = p->mark_at; c < at; c++) {
        if (*c == '\n') {
            p->mark_line++;
            p->mark_column = 1;
        } else if (!is_continuation(*c)) {
            p->mark_column++;
        }
    }
    p->mark_at = at;
    *line_out = p->mark_line;
    *column_out = p->mark_column;
}

size_t toml_whole_characters(const char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && is_continuation(text[start - 1]))
        start--;
    if (start == 0)
        return 0;
    unsigned char lead = (unsigned char)text[--start];
    size_t wanted = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return len - start < wanted ? start : len;
}

int toml_fail(struct toml_parser *p, const char *at, int code, const char *format, ...)
{
    p->mark_at = NULL;
    toml_mark(p, at, &p->error->line, &p->error->column);
    va_list arguments;
    va_start(arguments, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang 14 does not see va_start */
    int len = vsnprintf(p->error->message, sizeof p->error->message, format, arguments);
    va_end(arguments);
    if (len >= TOML_MESSAGE_SIZE)
        p->error->message[toml_whole_characters(p->error->message, TOML_MESSAGE_SIZE - 1)] = '\0';
    return code;
}

const char *toml_describe_next(const struct toml_parser *p, char buffer[16])
{
    if (p->at >= p->end)
        return "the end of the file";
    if (*p->at == '\n' || (*p->at == '\r' && p->end - p->at > 1 && p->at[1] == '\n'))
        return "the end of the line";
    if (toml_is_control(*p->at)) {
        (void)snprintf(buffer, 16, "U+%04X", (unsigned char)*p->at);
        return buffer;
    }
    size_t len = 1;
    while (p->at + len < p->end && is_continuation(p->at[len]))
        len++;
    buffer[0] = '\'';
    memcpy(buffer + 1, p->at, len); /* at most 4 bytes: the text is UTF-8 */
    buffer[len + 1] = '\'';
    buffer[len + 2] = '\0';
    return buffer;
}

/* The length of the well-formed sequence at `s` (Unicode 15, table 3-7), or 0. */
static size_t utf8_sequence(const char *text, size_t left)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    size_t len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (left < len)
        return 0;
    unsigned lowest = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80; /* no overlong forms */
    unsigned highest = s[0] == 0xed   ? 0x9f
                       : s[0] == 0xf4 ? 0x8f
                                      : 0xbf; /* no surrogates, none past U+10FFFF */
    if (s[1] < lowest || s[1] > highest)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

int toml_check_utf8(struct toml_parser *p)
{
    for (const char *c = p->text; c < p->end;) {
        size_t len = utf8_sequence(c, (size_t)(p->end - c));
        if (len == 0)
            return toml_fail(p, c, TOML_SYNTAX, "byte 0x%02x is not valid UTF-8 here",
                             (unsigned char)*c);
        c += len;
    }
    return 0;
}

void toml_skip_blank(struct toml_parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t'))
        p->at++;
}

bool toml_skip_newline(struct toml_parser *p)
{
    if (toml_next_is(p, '\n')) {
        p->at++;
        return true;
    }
    if (p->end - p->at >= 2 && p->at[0] == '\r' && p->at[1] == '\n') {
        p->at += 2;
        return true;
    }
    return false;
}

/* From `#` up to, not over, the end of the line. */
static int skip_comment(struct toml_parser *p)
{
    while (p->at < p->end && *p->at != '\n') {
        if (toml_is_control(*p->at)) {
            if (*p->at == '\r' && p->end - p->at >= 2 && p->at[1] == '\n')
                return 0;
            return toml_fail(p, p->at, TOML_SYNTAX, "control character U+%04X in a comment",
                             (unsigned char)*p->at);
        }
        p->at++;
    }
    return 0;
}

int toml_skip_line_end(struct toml_parser *p)
{
    toml_skip_blank(p);
    if (toml_next_is(p, '#')) {
        int rc = skip_comment(p);
        if (rc < 0)
            return rc;
    }
    if (p->at < p->end && !toml_skip_newline(p)) {
        char buffer[16];
        return toml_fail(p, p->at, TOML_SYNTAX, "expected the end of the line, found %s",
                         toml_describe_next(p, buffer));
    }
    return 0;
}

int toml_skip_lines(struct toml_parser *p)
{
    do {
        toml_skip_blank(p);
        if (toml_next_is(p, '#')) {
            int rc = skip_comment(p);
            if (rc < 0)
                return rc;
        }
    } while (toml_skip_newline(p));
    return 0;
}
