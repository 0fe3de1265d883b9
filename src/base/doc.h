/* A document: one JSON value in a compact binary form that is read in place. It is what metadata is
 * between the doors, in the log and in the memtable: parsed once, when it arrives. Layout:
 * docs/formats/document.md.
 *
 * Objects keep their keys sorted bytewise and unique, so that look-up is a binary search and equal
 * documents are equal bytes. Integers are exact within int64; other numbers are doubles, always
 * finite. */
#ifndef BASE_DOC_H
#define BASE_DOC_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

enum doc_type { DOC_NULL, DOC_BOOL, DOC_INT, DOC_FLOAT, DOC_STRING, DOC_ARRAY, DOC_OBJECT };

enum { DOC_DEPTH_MAX = 64 };

/* A value inside a document's bytes; text and children point into them. */
struct doc_value {
    enum doc_type type;
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct pdb_text string;
        struct {
            const uint8_t *body; /* DOC_ARRAY, DOC_OBJECT */
            uint32_t body_bytes, count;
        } children;
    };
};

/* ---- reading; bytes must have passed doc_validate or come from a builder ---- */

/* 0 or PDB_DATA_LOSS: checks every length, tag, order of keys, UTF-8 and depth, so that reading
 * cannot fail later. */
int doc_validate(const void *bytes, size_t len);
struct doc_value doc_root(const void *bytes, size_t len); /* len 0: an empty object */
/* The member of an object; false if there is none or `object` is not one. */
bool doc_get(const struct doc_value *object, struct pdb_text key, struct doc_value *value_out);
/* Follows a dotted path; a key that itself contains the dots wins over descending. */
bool doc_find(const struct doc_value *root, struct pdb_text path, struct doc_value *value_out);

struct doc_iter {
    const uint8_t *at;
    uint32_t left;
    bool object;
};
struct doc_iter doc_iterate(const struct doc_value *container);
/* False at the end. key_out is set for objects, else empty. */
bool doc_next(struct doc_iter *iter, struct pdb_text *key_out, struct doc_value *value_out);

/* The same value (integers and floats compare by value). */
bool doc_equal(const struct doc_value *a, const struct doc_value *b);

/* ---- building: events in any order of keys, sorted when an object ends ---- */

struct doc_builder;

/* Lives in the arena. NULL without memory. */
struct doc_builder *doc_builder_new(struct arena *arena, size_t bytes_max);
/* Each returns 0, PDB_INVALID_ARGUMENT (duplicate key, depth, NaN, invalid UTF-8, too large) or
 * PDB_RESOURCE_EXHAUSTED; errors stick until doc_builder_finish. */
int doc_add_null(struct doc_builder *b);
int doc_add_bool(struct doc_builder *b, bool value);
int doc_add_int(struct doc_builder *b, int64_t value);
int doc_add_float(struct doc_builder *b, double value);
int doc_add_string(struct doc_builder *b, struct pdb_text value);
int doc_begin_array(struct doc_builder *b);
int doc_begin_object(struct doc_builder *b);
int doc_add_key(struct doc_builder *b, struct pdb_text key); /* in an object, before each value */
int doc_end(struct doc_builder *b);
/* a copy of a whole value */
int doc_add_value(struct doc_builder *b, const struct doc_value *value);
/* The bytes, in the arena; the builder may then be used again. What was wrong is in *what_out
 * (static text; may be NULL). */
int doc_builder_finish(struct doc_builder *b, struct pdb_text *bytes_out, const char **what_out);

/* `base` with the members of `patch` put over it (objects merge deeply, everything else replaces; a
 * null in the patch stays a null) and the dotted paths of `unset` removed. */
int doc_merge(struct arena *arena, struct pdb_text base, struct pdb_text patch,
              const struct pdb_text *unset, size_t unset_count, struct pdb_text *bytes_out);

/* As JSON text, minimal, keys in stored order. */
void doc_write_json(struct buffer *out, const struct doc_value *value);

#endif
