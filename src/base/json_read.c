/* json_read.c: a pull reader. It keeps a position and a depth, nothing else: what a caller has read
 * it knows by its own place in its code, so there is no tree, no event object and no state machine
 * to feed.
 *
 * Strings are found by looking for the quote, a backslash, a control character or a byte over 0x7f,
 * eight bytes at a time; only text with the last kind is checked as UTF-8, and only text with
 * escapes is copied. */
#include "base/json.h"

#include "base/bytes.h"
#include "base/json_internal.h"
#include "base/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

enum { DEPTH_LIMIT = 256 };

int json_fail(struct json_reader *r, const char *format, ...)
{
    if (r->failed) /* the first one counts; what follows is its consequence */
        return PDB_INVALID_ARGUMENT;
    r->failed = true;
    char message[256];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    return trail_add(r->trail, PDB_INVALID_ARGUMENT, "JSON at byte %zu: %s", json_offset(r),
                     len >= 0 ? message : "malformed");
}

void json_open(struct json_reader *r, const char *ptr, size_t len, unsigned depth_max,
               struct trail *trail)
{
    static const char nothing;
    ptr = ptr != NULL ? ptr : &nothing;
    *r = (struct json_reader){.start = ptr,
                              .at = ptr,
                              .end = ptr + len,
                              .depth_max = depth_max < DEPTH_LIMIT ? depth_max : DEPTH_LIMIT,
                              .trail = trail};
}

size_t json_offset(const struct json_reader *r)
{
    return (size_t)(r->at - r->start);
}

static inline void skip_space(struct json_reader *r)
{
    const char *at = r->at;
    while (at != r->end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r'))
        at++;
    r->at = at;
}

/* The next byte behind white space, or 0 at the end. */
static inline char peek_byte(struct json_reader *r)
{
    skip_space(r);
    return r->at != r->end ? *r->at : '\0';
}

static int fail_expected(struct json_reader *r, const char *what)
{
    if (peek_byte(r) == '\0' && r->at == r->end)
        return json_fail(r, "expected %s, but the text ends", what);
    return json_fail(r, "expected %s", what);
}

enum json_kind json_peek(struct json_reader *r)
{
    if (r->failed)
        return JSON_BAD;
    char c = peek_byte(r);
    switch (c) {
    case 'n':
        return JSON_NULL;
    case 't':
    case 'f':
        return JSON_BOOL;
    case '"':
        return JSON_STRING;
    case '[':
        return JSON_ARRAY;
    case '{':
        return JSON_OBJECT;
    default:
        return c == '-' || (c >= '0' && c <= '9') ? JSON_NUMBER : JSON_BAD;
    }
}

static bool take_word(struct json_reader *r, const char *word, size_t len)
{
    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0)
        return false;
    r->at += len;
    return true;
}

int json_read_null(struct json_reader *r)
{
    if (json_peek(r) != JSON_NULL || !take_word(r, "null", 4))
        return fail_expected(r, "null");
    return 0;
}

int json_read_bool(struct json_reader *r, bool *value_out)
{
    if (json_peek(r) == JSON_BOOL) {
        bool value = *r->at == 't';
        if (value ? take_word(r, "true", 4) : take_word(r, "false", 5)) {
            *value_out = value;
            return 0;
        }
    }
    return fail_expected(r, "true or false");
}

/* ---- numbers ---- */

static int scan_number(struct json_reader *r, struct json_number *number_out)
{
    if (json_peek(r) != JSON_NUMBER)
        return fail_expected(r, "a number");
    const char *bad = r->at;
    if (json_scan_number(r->at, r->end, number_out, &bad) == NULL) {
        r->at = bad;
        return json_fail(r, "malformed number");
    }
    return 0;
}

int json_read_i64(struct json_reader *r, int64_t *value_out)
{
    struct json_number number;
    int rc = scan_number(r, &number);
    if (rc < 0)
        return rc;
    if (!json_number_i64(&number, value_out))
        return json_fail(r, "expected an integer within 64 bits");
    r->at = number.end;
    return 0;
}

int json_read_u64(struct json_reader *r, uint64_t *value_out)
{
    struct json_number number;
    int rc = scan_number(r, &number);
    if (rc < 0)
        return rc;
    if (!json_number_u64(&number, value_out))
        return json_fail(r, "expected an integer from 0 to 18446744073709551615");
    r->at = number.end;
    return 0;
}

int json_read_double(struct json_reader *r, double *value_out)
{
    struct json_number number;
    int rc = scan_number(r, &number);
    if (rc < 0)
        return rc;
    double value = json_number_double(&number);
    if (!isfinite(value))
        return json_fail(r, "number out of range");
    *value_out = value;
    r->at = number.end;
    return 0;
}

/* One float; kept apart from the array's loop, which stays small. */
static int read_float(struct json_reader *r, float *value_out)
{
    struct json_number number;
    const char *bad = r->at;
    if (json_scan_number(r->at, r->end, &number, &bad) == NULL) {
        r->at = bad;
        return bad == r->end ? fail_expected(r, "a number") : json_fail(r, "malformed number");
    }
    float value = json_number_float(&number);
    if (!isfinite(value))
        return json_fail(r, "number out of range for a 32-bit float");
    *value_out = value;
    r->at = number.end;
    return 0;
}

int json_read_floats(struct json_reader *r, float *values_out, size_t capacity, size_t *count_out)
{
    size_t count = 0;
    bool first = true;
    int rc = json_enter_array(r);
    if (rc < 0)
        return rc;
    while ((rc = json_array_next(r, &first)) > 0) {
        float value = 0;
        rc = read_float(r, &value);
        if (rc < 0)
            return rc;
        if (count < capacity)
            values_out[count] = value;
        count++;
    }
    if (rc == 0)
        *count_out = count;
    return rc;
}

/* ---- strings ---- */

/* True if one of eight bytes is a quote, a backslash, a control character or over 0x7f. */
static inline bool eight_special(uint64_t v)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    uint64_t quote = v ^ ones * '"', backslash = v ^ ones * '\\';
    uint64_t found = (quote - ones) | (backslash - ones) | (v - ones * 0x20) | v;
    return (found & highs) != 0;
}

/* The first byte from `at` on that is not plain ASCII text; the end if there is none. */
static const char *skip_plain(const char *at, const char *end)
{
    while (end - at >= 8 && !eight_special(bytes_get_u64(at)))
        at += 8;
    while (at != end && *at != '"' && *at != '\\' && (signed char)*at >= 0x20)
        at++;
    return at;
}

/* From behind the opening quote to the closing one, still raw: *escapes_out counts its backslashes'
 * presence. */
static int scan_string(struct json_reader *r, struct pdb_text *raw_out, bool *escapes_out)
{
    if (json_peek(r) != JSON_STRING)
        return fail_expected(r, "a string");
    const char *start = r->at + 1, *at = start;
    bool escapes = false, high = false;
    for (;;) {
        at = skip_plain(at, r->end);
        if (at == r->end)
            break;
        if (*at == '"') {
            size_t len = (size_t)(at - start), valid = high ? utf8_invalid_at(start, len) : len;
            r->at = start + valid;
            if (valid != len)
                return json_fail(r, "invalid UTF-8");
            r->at = at + 1;
            *raw_out = (struct pdb_text){start, len};
            *escapes_out = escapes;
            return 0;
        }
        if (*at == '\\') {
            escapes = true;
            at++; /* the escaped byte cannot end the string; it is judged when it is decoded */
            if (at == r->end)
                break;
            at += (unsigned char)*at >= 0x20;
        } else if ((unsigned char)*at < 0x20) {
            r->at = at;
            return json_fail(r, "control character in a string");
        } else {
            high = true;
            while (at != r->end && (signed char)*at < 0)
                at++;
        }
    }
    r->at = r->end;
    return json_fail(r, "a string without an end");
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hexadecimal digits; negative if they are not. */
static int32_t take_hex(const char **at, const char *end)
{
    if (end - *at < 4)
        return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit((*at)[i]);
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    *at += 4;
    return value;
}

/* What follows \u: one code unit, or a surrogate pair (RFC 8259 section 7). NULL: none, or half a
 * pair. */
static char *take_unicode(const char **at, const char *end, char *out)
{
    int32_t unit = take_hex(at, end);
    if (unit < 0 || (unit >= 0xdc00 && unit <= 0xdfff))
        return NULL;
    if (unit >= 0xd800 && unit <= 0xdbff) {
        if (end - *at < 2 || (*at)[0] != '\\' || (*at)[1] != 'u')
            return NULL;
        *at += 2;
        int32_t low = take_hex(at, end);
        if (low < 0xdc00 || low > 0xdfff)
            return NULL;
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    }
    return out + utf8_encode((uint32_t)unit, out);
}

static char *take_escape(const char **at, const char *end, char *out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char c = *(*at)++;
    if (c == 'u')
        return take_unicode(at, end, out);
    const char *name = c != '\0' ? strchr(names, c) : NULL;
    if (name == NULL)
        return NULL;
    *out = values[name - names];
    return out + 1;
}

/* The text that `raw` stands for, written to `out`, which has raw.len bytes: escapes only make it
 * shorter. With `out` NULL it is checked only. Negative at the first bad escape, where r->at then
 * stands. */
static int unescape(struct json_reader *r, struct pdb_text raw, char *out, size_t *len_out)
{
    char scratch[4];
    const char *at = raw.ptr, *end = raw.ptr + raw.len;
    char *to = out;
    while (at != end) {
        const char *plain = memchr(at, '\\', (size_t)(end - at));
        size_t size = (size_t)((plain != NULL ? plain : end) - at);
        if (out != NULL) {
            memcpy(to, at, size);
            to += size;
        }
        at += size;
        if (at == end)
            break;
        const char *escape = at++;
        char *next = take_escape(&at, end, out != NULL ? to : scratch);
        if (next == NULL) {
            r->at = escape;
            return json_fail(r, "malformed escape in a string");
        }
        to = out != NULL ? next : to;
    }
    if (out != NULL)
        *len_out = (size_t)(to - out);
    return 0;
}

int json_read_string(struct json_reader *r, struct arena *arena, struct pdb_text *value_out)
{
    struct pdb_text raw;
    bool escapes = false;
    int rc = scan_string(r, &raw, &escapes);
    if (rc < 0)
        return rc;
    if (escapes) {
        const char *behind = r->at;
        char *copy = arena_alloc_aligned(arena, raw.len, 1);
        if (copy == NULL) {
            r->failed = true;
            return trail_add(r->trail, PDB_RESOURCE_EXHAUSTED, "JSON at byte %zu: out of memory",
                             json_offset(r));
        }
        rc = unescape(r, raw, copy, &raw.len);
        if (rc < 0)
            return rc;
        raw.ptr = copy;
        r->at = behind;
    }
    *value_out = raw;
    return 0;
}

static int skip_string(struct json_reader *r)
{
    struct pdb_text raw;
    bool escapes = false;
    int rc = scan_string(r, &raw, &escapes);
    if (rc < 0 || !escapes)
        return rc;
    const char *behind = r->at;
    rc = unescape(r, raw, NULL, NULL);
    if (rc == 0)
        r->at = behind;
    return rc;
}

/* ---- containers ---- */

static int enter(struct json_reader *r, enum json_kind kind)
{
    if (json_peek(r) != kind)
        return fail_expected(r, kind == JSON_ARRAY ? "an array" : "an object");
    if (r->depth == r->depth_max)
        return json_fail(r, "nested more than %u deep", r->depth_max);
    r->at++;
    r->depth++;
    return 0;
}

/* 1: another element; 0: the container has ended. */
static inline int next_element(struct json_reader *r, bool *first, char close)
{
    if (r->failed)
        return PDB_INVALID_ARGUMENT;
    char c = peek_byte(r);
    if (c == close) {
        r->at++;
        r->depth--;
        return 0;
    }
    if (!*first) {
        if (c != ',')
            return fail_expected(r, close == ']' ? "a comma or ]" : "a comma or }");
        r->at++;
        skip_space(r);
    }
    *first = false;
    return 1;
}

int json_enter_array(struct json_reader *r)
{
    return enter(r, JSON_ARRAY);
}

int json_enter_object(struct json_reader *r)
{
    return enter(r, JSON_OBJECT);
}

int json_array_next(struct json_reader *r, bool *first)
{
    return next_element(r, first, ']');
}

static int take_colon(struct json_reader *r)
{
    if (peek_byte(r) != ':')
        return fail_expected(r, "a colon");
    r->at++;
    return 1;
}

int json_object_next(struct json_reader *r, struct arena *arena, bool *first,
                     struct pdb_text *key_out)
{
    int rc = next_element(r, first, '}');
    if (rc <= 0)
        return rc;
    rc = json_read_string(r, arena, key_out);
    return rc < 0 ? rc : take_colon(r);
}

/* Which of the open containers are objects, one bit each. */
struct nesting {
    uint64_t objects[DEPTH_LIMIT / 64];
    unsigned depth;
    bool first; /* of the innermost: no element yet */
};

static bool in_object(const struct nesting *n)
{
    unsigned level = n->depth - 1;
    return n->objects[level / 64] >> (level % 64) & 1;
}

static int nest(struct json_reader *r, struct nesting *n, bool object)
{
    int rc = enter(r, object ? JSON_OBJECT : JSON_ARRAY);
    if (rc < 0)
        return rc;
    unsigned level = n->depth++;
    uint64_t bit = (uint64_t)1 << (level % 64);
    n->objects[level / 64] = (n->objects[level / 64] & ~bit) | (object ? bit : 0);
    n->first = true;
    return 0;
}

static int skip_scalar(struct json_reader *r, enum json_kind kind)
{
    bool boolean = false;
    double number = 0;
    switch (kind) {
    case JSON_NULL:
        return json_read_null(r);
    case JSON_BOOL:
        return json_read_bool(r, &boolean);
    case JSON_NUMBER:
        return json_read_double(r, &number);
    case JSON_STRING:
        return skip_string(r);
    case JSON_ARRAY:
    case JSON_OBJECT:
    case JSON_BAD:
        break;
    }
    return fail_expected(r, "a value");
}

int json_skip(struct json_reader *r)
{
    struct nesting n = {.depth = 0};
    for (;;) {
        enum json_kind kind = json_peek(r);
        bool container = kind == JSON_ARRAY || kind == JSON_OBJECT;
        int rc = container ? nest(r, &n, kind == JSON_OBJECT) : skip_scalar(r, kind);
        if (rc < 0)
            return rc;
        for (;;) {
            if (n.depth == 0)
                return 0;
            bool object = in_object(&n);
            rc = next_element(r, &n.first, object ? '}' : ']');
            if (rc < 0)
                return rc;
            if (rc > 0) {
                if (object && ((rc = skip_string(r)) < 0 || (rc = take_colon(r)) < 0))
                    return rc;
                break;
            }
            n.depth--;
            n.first = false; /* the container that ended was an element of the outer one */
        }
    }
}

int json_finish(struct json_reader *r)
{
    if (r->failed)
        return PDB_INVALID_ARGUMENT;
    skip_space(r);
    return r->at == r->end ? 0 : json_fail(r, "text behind the value");
}
