/* toml.h: reads TOML 1.0.0 (https://toml.io/en/v1.0.0) into a tree whose every value knows where it
 * was written.
 *
 * The whole text is parsed at once into a document that owns everything: no pointer goes into the
 * caller's text, and toml_free() is the only release. The tree is read-only and may be read by
 * several threads at once. There is no global state. Memory is 45 bytes per byte of text in the
 * worst case (`[1,1,1,...]`), so text_max bounds it.
 *
 *     struct toml_document *doc;
 *     struct toml_error error;
 *     if (toml_parse(text, len, &doc, &error) < 0)
 *         fprintf(stderr, "%s:%u:%u: %s\n", name, error.line, error.column, error.message);
 *     const struct toml_value *port = toml_find(toml_root(doc), "server.port");
 *     if (port && port->type == TOML_INTEGER)
 *         listen_on(port->as.integer);
 *     toml_free(doc);
 */
#ifndef TOML_TOML_H
#define TOML_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TOML_OK = 0,
    TOML_SYNTAX = -1,    /* the text is not TOML 1.0.0 */
    TOML_LIMIT = -2,     /* it may be, but is larger or deeper than the options allow */
    TOML_NO_MEMORY = -3, /* the allocator returned NULL */
};

enum {
    TOML_TEXT_MAX_DEFAULT = 16 << 20, /* bytes */
    TOML_TEXT_MAX_CAP = 1 << 30,      /* no option goes higher: line and column are 32 bits */
    TOML_DEPTH_MAX_DEFAULT = 64,
    TOML_DEPTH_MAX_CAP = 256, /* no option goes higher: parsing recurses once per level */
    TOML_MESSAGE_SIZE = 256,
};

enum toml_type {
    TOML_STRING,
    TOML_INTEGER,
    TOML_FLOAT,
    TOML_BOOLEAN,
    TOML_OFFSET_DATETIME,
    TOML_LOCAL_DATETIME,
    TOML_LOCAL_DATE,
    TOML_LOCAL_TIME,
    TOML_ARRAY,
    TOML_TABLE,
};

/* What one of the four kinds of time carries; the fields that a kind lacks are 0. */
struct toml_datetime {
    uint16_t year;          /* 0..9999 */
    uint8_t month;          /* 1..12 */
    uint8_t day;            /* 1..31, checked against month and year */
    uint8_t hour;           /* 0..23 */
    uint8_t minute;         /* 0..59 */
    uint8_t second;         /* 0..60: RFC 3339 allows leap seconds */
    uint32_t nanosecond;    /* digits beyond the ninth are cut off, not rounded */
    int16_t offset_minutes; /* east of UTC is positive; only TOML_OFFSET_DATETIME */
};

struct toml_string {
    const char *data; /* UTF-8, NUL-terminated; may contain further NULs written as \u0000 */
    size_t len;       /* bytes, without the terminator */
};

/* Children of an array or a table, in the order of the file. Tables are indexed: see toml_get(). */
struct toml_children {
    const struct toml_value *first; /* NULL when empty; the rest follow by `next` */
    size_t count;
};

/* One node of the tree. Everything may be read, nothing may be written. */
struct toml_value {
    enum toml_type type;    /* says which member of `as` is valid */
    uint32_t line;          /* from 1: where the value begins; a table's header if it has one */
    uint32_t column;        /* from 1, in code points */
    uint32_t key_line;      /* where its key was written; 0 for array elements and the root */
    uint32_t key_column;    /* in code points, from 1 */
    struct toml_string key; /* data is NULL for array elements and the root */
    const struct toml_value *parent;
    const struct toml_value *next; /* the next sibling, or NULL */
    union {
        struct toml_string string;
        int64_t integer;
        double number; /* TOML_FLOAT */
        bool boolean;
        struct toml_datetime datetime; /* all four kinds of time */
        struct toml_children children; /* TOML_ARRAY, TOML_TABLE */
    } as;
};

struct toml_document;

/* Where the text stopped making sense, and why, as one sentence without a newline. */
struct toml_error {
    uint32_t line; /* from 1; 0 when no place is to blame (the text is too large) */
    uint32_t column;
    char message[TOML_MESSAGE_SIZE];
};

/* Where the document takes memory from. `allocate` returns memory aligned as malloc's, or NULL;
 * `release` gets only what `allocate` gave, never NULL. Both must be valid until toml_free() has
 * returned. */
struct toml_allocator {
    void *(*allocate)(void *context, size_t size);
    void (*release)(void *context, void *memory);
    void *context;
};

/* A zeroed struct means all defaults. */
struct toml_options {
    size_t text_max;    /* bytes; 0: TOML_TEXT_MAX_DEFAULT; at most TOML_TEXT_MAX_CAP */
    uint32_t depth_max; /* levels below the root, dotted keys included; 0: the default; capped */
    struct toml_allocator allocator; /* all NULL: malloc and free */
};

/* Parses `len` bytes of UTF-8 with the default options. 0 and a document to be given to
 * toml_free(); or TOML_SYNTAX, TOML_LIMIT or TOML_NO_MEMORY, with *error_out filled in and *doc_out
 * untouched. error_out may be NULL. A leading byte order mark is skipped. */
int toml_parse(const char *text, size_t len, struct toml_document **doc_out,
               struct toml_error *error_out);

/* The same with options, which are copied. NULL means the defaults. */
int toml_parse_with(const struct toml_options *options, const char *text, size_t len,
                    struct toml_document **doc_out, struct toml_error *error_out);

/* Releases the document and every value in it. NULL is legal. */
void toml_free(struct toml_document *doc);

/* The root table. Lives as long as the document. */
const struct toml_value *toml_root(const struct toml_document *doc);

/* The child of `table` called exactly `key` (`len` bytes), or NULL when there is none or `table` is
 * NULL or no table. Constant time. */
const struct toml_value *toml_get(const struct toml_value *table, const char *key, size_t len);

/* Follows a path of keys joined by dots ("server.tls.cert"), or NULL. Each part is taken as it is:
 * a key that itself contains a dot is out of its reach, use toml_get(). Arrays are not entered. */
const struct toml_value *toml_find(const struct toml_value *table, const char *path);

/* "string", "integer", "float", "boolean", "offset date-time", ... Static text, for messages. */
const char *toml_type_name(enum toml_type type);

/* Writes the path of a value as TOML would spell it, array positions in brackets: servers[2]."a
 * b".port. Returns the length needed, as snprintf does; writes at most size - 1 bytes and a NUL,
 * nothing when size is 0. */
size_t toml_path(const struct toml_value *value, char *out, size_t size);

#endif
