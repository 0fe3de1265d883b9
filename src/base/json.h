/* JSON (RFC 8259) as a pull reader over a whole text in memory, and writing helpers.
 *
 * A reader holds a position only, so that a caller can stop between two values and go on in another
 * turn. It refuses invalid UTF-8, control characters, numbers out of range, depth over the limit
 * and (in json_read_doc) duplicate keys; every error names the byte offset. Numbers are read eight
 * digits at a time with one double operation, and by strtod/strtof where the rounding is in doubt.
 * strtof obeys the locale: nobody may call setlocale. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/doc.h"
#include "base/trail.h"

enum json_kind {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
    JSON_BAD
};

struct json_reader {
    const char *start, *at, *end;
    unsigned depth, depth_max;
    struct trail *trail; /* where errors are told, "JSON at byte 17: ..."; may be NULL */
    bool failed;         /* sticks */
};

void json_open(struct json_reader *r, const char *ptr, size_t len, unsigned depth_max,
               struct trail *trail);
size_t json_offset(const struct json_reader *r);

/* What comes next, without consuming it (white space is skipped). JSON_BAD: malformed or the
 * end. */
enum json_kind json_peek(struct json_reader *r);

/* Each reads one value of its kind: 0 or PDB_INVALID_ARGUMENT. Strings without escapes point into
 * the input, else into the arena. */
int json_read_null(struct json_reader *r);
int json_read_bool(struct json_reader *r, bool *value_out);
/* exact; refuses fractions and overflow */
int json_read_i64(struct json_reader *r, int64_t *value_out);
int json_read_u64(struct json_reader *r, uint64_t *value_out);
int json_read_double(struct json_reader *r, double *value_out); /* finite */
int json_read_string(struct json_reader *r, struct arena *arena, struct pdb_text *value_out);
int json_skip(struct json_reader *r); /* any value, checked as strictly as if it were read */

/* An array of numbers into floats: exactly as strtof rounds, finite. Up to `capacity` values are
 * stored, *count_out counts all that were there (so a caller can tell a wrong dimension without an
 * allocation). */
int json_read_floats(struct json_reader *r, float *values_out, size_t capacity, size_t *count_out);

/* json_enter_array / json_enter_object consume the bracket; then json_array_next / json_object_next
 * say whether another element follows (1), the container ended and was left (0), or an error (<0).
 * For objects the key is read; duplicates of keys are the caller's to refuse for fixed schemas
 * (each of its fields is seen twice) - see json_fail. */
int json_enter_array(struct json_reader *r);
int json_array_next(struct json_reader *r, bool *first);
int json_enter_object(struct json_reader *r);
int json_object_next(struct json_reader *r, struct arena *arena, bool *first,
                     struct pdb_text *key_out);

/* Only white space may follow: 0 or an error. */
int json_finish(struct json_reader *r);

/* Any value into a document; duplicate keys refused. */
int json_read_doc(struct json_reader *r, struct doc_builder *builder);

/* Adds "JSON at byte N: message" to the trail, marks the reader failed and returns
 * PDB_INVALID_ARGUMENT. */
int json_fail(struct json_reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- writing ---- */

/* with quotes, escapes; input is valid UTF-8 */
void json_write_string(struct buffer *out, struct pdb_text value);
/* shortest text that reads back the same */
void json_write_double(struct buffer *out, double value);
void json_write_float(struct buffer *out, float value); /* the same for a float */
void json_write_floats(struct buffer *out, const float *values, size_t count);

#endif
