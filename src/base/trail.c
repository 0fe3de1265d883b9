/* trail.c: context is put in front of what is there, because the outer levels learn of an error
 * later than the inner ones. What does not fit is cut from the end of the whole text, at a whole
 * UTF-8 character: the outermost context, which names the operation, is what a reader needs first.
 * No allocation: errors are told when memory is what ran out. */
#include "base/trail.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char separator[] = ": ";
enum { SEPARATOR_LEN = sizeof(separator) - 1 };

/* The greatest length up to `len` that does not end within a character. */
static size_t cut_to_character(const char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && len - start < 4 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0)
        return len;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t want = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    return len - (start - 1) >= want ? len : start - 1;
}

void trail_reset(struct trail *trail)
{
    trail->code = 0;
    trail->http_status = 0;
    trail->len = 0;
    trail->text[0] = '\0';
}

__attribute__((format(printf, 2, 0))) static void put_in_front(struct trail *trail,
                                                               const char *format, va_list args)
{
    char context[TRAIL_TEXT_MAX];
    int formatted = vsnprintf(context, sizeof(context), format, args);
    if (formatted <= 0)
        return;
    size_t len = (size_t)formatted;
    if (len >= sizeof(context))
        len = cut_to_character(context, sizeof(context) - 1);

    size_t gap = trail->len != 0 ? SEPARATOR_LEN : 0;
    size_t room = TRAIL_TEXT_MAX - 1 - len;
    if (room <= gap) {
        trail->len = 0; /* not even one byte of the inner text fits */
        gap = 0;
    }
    size_t kept = trail->len <= room - gap ? trail->len : room - gap;
    bool cut = kept < trail->len;
    memmove(trail->text + len + gap, trail->text, kept);
    memcpy(trail->text + len, separator, gap);
    memcpy(trail->text, context, len);
    trail->len = len + gap + kept;
    if (cut)
        trail->len = cut_to_character(trail->text, trail->len);
    trail->text[trail->len] = '\0';
}

int trail_add(struct trail *trail, int code, const char *format, ...)
{
    if (trail == NULL)
        return code;
    va_list args;
    va_start(args, format);
    put_in_front(trail, format, args);
    va_end(args);
    if (trail->code == 0)
        trail->code = code;
    return code;
}

int trail_add_http(struct trail *trail, int code, int http_status, const char *format, ...)
{
    if (trail == NULL)
        return code;
    va_list args;
    va_start(args, format);
    put_in_front(trail, format, args);
    va_end(args);
    if (trail->code == 0)
        trail->code = code;
    if (trail->http_status == 0)
        trail->http_status = http_status;
    return code;
}
