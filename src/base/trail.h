/* The trail of context of one error: each level adds only what it knows, the innermost first.
 * "replay core 3: record at 4096: torn". A trail is a value inside its operation; no allocation. */
#ifndef BASE_TRAIL_H
#define BASE_TRAIL_H

#include <proximadb/error.h>
#include <stddef.h>

enum { TRAIL_TEXT_MAX = 512 };

struct trail {
    int code;        /* the first error added; 0 while there is none */
    int http_status; /* 0: the code's own; else a more exact one (413, 405, 415, 507) */
    size_t len;      /* bytes of text, without the NUL */
    /* NUL-terminated; outermost context first; cut at whole UTF-8 characters */
    char text[TRAIL_TEXT_MAX];
};

/* Forgets everything. A zeroed trail is an empty one. */
void trail_reset(struct trail *trail);

/* Puts "context: " before what is there and remembers `code` if it is the first. Returns `code`, so
 * that a caller can write `return trail_add(trail, rc, ...)`. `trail` may be NULL. */
int trail_add(struct trail *trail, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with a HTTP status that is more exact than the code's own. */
int trail_add_http(struct trail *trail, int code, int http_status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
