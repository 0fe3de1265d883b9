/* toml_internal.h: what the files of the parser share.
 *
 *   toml_parse.c     the grammar of a document: lines, headers, pairs, arrays, inline tables
 *   toml_string.c    keys, the four kinds of string, escapes
 *   toml_scalar.c    numbers and booleans
 *   toml_datetime.c  the four kinds of time
 *   toml_text.c      positions, errors, UTF-8, white space and comments
 *   toml_tree.c      the document: memory, nodes, the index of keys
 *   toml_query.c     what a caller asks of a finished tree
 *
 * Every function that can fail returns 0 or a negative TOML_* code and has then filled in the
 * caller's error.
 */
#ifndef TOML_INTERNAL_H
#define TOML_INTERNAL_H

#include <locale.h>

#include "toml/toml.h"

/* How a table or an array came to be, which decides who may still add to it. */
enum toml_origin {
    TOML_BY_VALUE,    /* `k = {..}` or `k = [..]`: closed once written */
    TOML_BY_HEADER,   /* [t]: complete with its section; headers may add sub-tables */
    TOML_BY_SUBTABLE, /* only on the way to [t.x]: one [t], or dotted keys, may define it */
    TOML_BY_DOTS,     /* t.x = 1: more dotted keys of the same section; never [t], but [t.y] */
    TOML_BY_ELEMENTS, /* [[a]]: the array itself, which grows by more [[a]] */
};

struct toml_node {
    struct toml_value value; /* first, so that a pointer to one is a pointer to the other */
    struct toml_node *last_child;
    uint16_t depth; /* root: 0 */
    uint8_t origin; /* enum toml_origin; only for tables and arrays */
};

/* Nodes come in growing chunks, so that a small file costs little and a large one few
 * allocations. */
struct toml_chunk {
    struct toml_chunk *next;
    size_t used;
    size_t capacity;
    struct toml_node nodes[];
};

/* All keys of the document in one open-addressed table, found by (parent, key). */
struct toml_index {
    struct toml_node **slots; /* NULL: free */
    size_t slot_count;        /* 0 or a power of two, at least twice the keys */
    size_t key_count;
};

struct toml_document {
    struct toml_node root; /* first: the end of every chain of parents leads back to the document */
    struct toml_allocator allocator;
    struct toml_chunk *chunks; /* newest first */
    struct toml_index index;
    /* Every decoded string and key, each with a NUL. Decoding never lengthens, and a NUL fits where
     * a quote, dot, bracket or equals sign stood, so text length + 1 always suffices. */
    char *strings;
    size_t strings_used;
    size_t strings_capacity;
};

struct toml_parser {
    const char *text;
    const char *at; /* the next byte */
    const char *end;
    struct toml_document *doc;
    struct toml_error *error;
    uint32_t depth_max;
    locale_t c_locale; /* made for the first float */
    /* Cache of toml_mark: the place it was asked for last. */
    const char *mark_at;
    uint32_t mark_line;
    uint32_t mark_column;
};

struct toml_key {
    struct toml_string name;
    const char *at; /* in the text */
};

/* ---- toml_text.c ---- */

/* Fills in the error for the place `at` and returns `code`. */
int toml_fail(struct toml_parser *p, const char *at, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Line and column of `at`. Cheap when asked in rising order. */
void toml_mark(struct toml_parser *p, const char *at, uint32_t *line_out, uint32_t *column_out);

/* `len`, less the bytes of a last character that was cut in two. */
size_t toml_whole_characters(const char *text, size_t len);

/* Names the byte or character at the cursor for a message: "'x'", "end of line", "U+0007". Static
 * or `buffer`. */
const char *toml_describe_next(const struct toml_parser *p, char buffer[16]);

/* TOML_SYNTAX at the first byte that is not UTF-8. The rest of the parser then trusts the text. */
int toml_check_utf8(struct toml_parser *p);

void toml_skip_blank(struct toml_parser *p); /* spaces and tabs */

/* Skips one LF or CRLF if it is next. A lone CR is left for others to refuse. */
bool toml_skip_newline(struct toml_parser *p);

/* Blank, an optional comment, then a newline or the end of the text. */
int toml_skip_line_end(struct toml_parser *p);

/* Blanks, newlines and comments, as many as there are. */
int toml_skip_lines(struct toml_parser *p);

static inline bool toml_next_is(const struct toml_parser *p, char c)
{
    return p->at < p->end && *p->at == c;
}

static inline bool toml_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Control characters that neither strings nor comments may hold; tab is allowed. */
static inline bool toml_is_control(char c)
{
    return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}

/* ---- toml_tree.c ---- */

/* Makes an empty document for `text_len` bytes. TOML_NO_MEMORY leaves *doc_out untouched and fills
 * in no error. */
int toml_document_new(const struct toml_allocator *allocator, size_t text_len,
                      struct toml_document **doc_out);

/* Adds an unfinished child to a table (key given) or an array (key NULL); the caller sets its type
 * and place. */
int toml_node_new(struct toml_parser *p, struct toml_node *parent, const struct toml_key *key,
                  struct toml_node **node_out);

/* The child called `key`, or NULL. */
struct toml_node *toml_index_find(const struct toml_document *doc, const struct toml_value *parent,
                                  const char *key, size_t len);

/* ---- toml_string.c ---- */

/* A key part: bare or quoted, never multi-line. */
int toml_parse_key(struct toml_parser *p, struct toml_key *key_out);

/* A string value of any of the four kinds; the cursor is on its quote. */
int toml_parse_string(struct toml_parser *p, struct toml_string *string_out);

/* ---- toml_scalar.c, toml_datetime.c ---- */

/* A boolean, a number or a time; the cursor is on a letter, digit or sign. */
int toml_parse_scalar(struct toml_parser *p, struct toml_value *value);

/* Whether `len` bytes begin as a date (1979-) or a time (07:) does. */
bool toml_looks_like_datetime(const char *token, size_t len);

/* A time whose first token ends at `token_end`; may take a second one after a single space. */
int toml_parse_datetime(struct toml_parser *p, const char *token_end, struct toml_value *value);

/* The end of the run of characters that numbers and times are made of. */
const char *toml_token_end(const struct toml_parser *p, const char *from);

#endif
