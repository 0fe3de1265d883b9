/* json_doc.c: any JSON value into a document. A number is an integer if it is written as one and
 * fits into 64 bits, else a double: what was sent as 1.0 is answered as 1.0. Iterative; the
 * builder's stack of containers is mirrored by one bit a level. */
#include "base/json.h"

#include "base/json_internal.h"

#include <math.h>

#include "base/no_libc_heap.h"

struct doc_reading {
    struct json_reader *r;
    struct doc_builder *builder;
    struct arena texts; /* strings with escapes on their way into the document */
    uint64_t objects;   /* one bit a level: an object */
    unsigned depth;
    bool first;
};

/* The builder's own error, told with the place in the text. */
static int told(struct doc_reading *d, int rc)
{
    if (rc == 0)
        return 0;
    const char *what = NULL;
    struct pdb_text unused;
    (void)doc_builder_finish(d->builder, &unused, &what);
    if (rc == PDB_INVALID_ARGUMENT)
        return json_fail(d->r, "%s", what != NULL ? what : "not a document");
    d->r->failed = true;
    return trail_add(d->r->trail, rc, "JSON at byte %zu: %s", json_offset(d->r),
                     what != NULL ? what : pdb_error_text(rc));
}

static int read_number(struct doc_reading *d)
{
    struct json_reader *r = d->r;
    struct json_number number;
    const char *bad = r->at;
    if (json_scan_number(r->at, r->end, &number, &bad) == NULL) {
        r->at = bad;
        return json_fail(r, "malformed number");
    }
    int64_t integer = 0;
    int rc = 0;
    if (json_number_i64(&number, &integer)) {
        rc = told(d, doc_add_int(d->builder, integer));
    } else {
        double value = json_number_double(&number);
        if (!isfinite(value))
            return json_fail(r, "number out of range");
        rc = told(d, doc_add_float(d->builder, value));
    }
    if (rc == 0)
        r->at = number.end;
    return rc;
}

static int read_string(struct doc_reading *d, bool key)
{
    struct pdb_text value;
    int rc = json_read_string(d->r, &d->texts, &value);
    if (rc < 0)
        return rc;
    rc = told(d, key ? doc_add_key(d->builder, value) : doc_add_string(d->builder, value));
    arena_reset(&d->texts);
    return rc;
}

static int open_container(struct doc_reading *d, bool object)
{
    if (d->depth == DOC_DEPTH_MAX)
        return json_fail(d->r, "nested more than %d deep", (int)DOC_DEPTH_MAX);
    int rc = object ? json_enter_object(d->r) : json_enter_array(d->r);
    if (rc < 0)
        return rc;
    uint64_t bit = (uint64_t)1 << d->depth++;
    d->objects = object ? d->objects | bit : d->objects & ~bit;
    d->first = true;
    return told(d, object ? doc_begin_object(d->builder) : doc_begin_array(d->builder));
}

static int read_value(struct doc_reading *d)
{
    bool boolean = false;
    int rc = 0;
    switch (json_peek(d->r)) {
    case JSON_NULL:
        rc = json_read_null(d->r);
        return rc < 0 ? rc : told(d, doc_add_null(d->builder));
    case JSON_BOOL:
        rc = json_read_bool(d->r, &boolean);
        return rc < 0 ? rc : told(d, doc_add_bool(d->builder, boolean));
    case JSON_NUMBER:
        return read_number(d);
    case JSON_STRING:
        return read_string(d, false);
    case JSON_ARRAY:
        return open_container(d, false);
    case JSON_OBJECT:
        return open_container(d, true);
    case JSON_BAD:
        break;
    }
    return json_fail(d->r, d->r->at == d->r->end ? "expected a value, but the text ends"
                                                 : "expected a value");
}

/* Goes on to where the next value begins: 1, or 0 at the end of all containers. */
static int to_next_value(struct doc_reading *d)
{
    while (d->depth > 0) {
        bool object = d->objects >> (d->depth - 1) & 1;
        struct pdb_text key = {NULL, 0};
        int rc = object ? json_object_next(d->r, &d->texts, &d->first, &key)
                        : json_array_next(d->r, &d->first);
        if (rc < 0)
            return rc;
        if (rc > 0) {
            if (object && (rc = told(d, doc_add_key(d->builder, key))) < 0)
                return rc;
            return 1;
        }
        rc = told(d, doc_end(d->builder));
        if (rc < 0)
            return rc;
        d->depth--;
        d->first = false;
    }
    return 0;
}

int json_read_doc(struct json_reader *r, struct doc_builder *builder)
{
    struct doc_reading d = {.r = r, .builder = builder};
    int rc = 0;
    do {
        rc = read_value(&d);
        if (rc == 0)
            rc = to_next_value(&d);
    } while (rc > 0);
    arena_dispose(&d.texts);
    return rc;
}

/* ---- and back ---- */

static void write_scalar(struct buffer *out, const struct doc_value *value)
{
    switch (value->type) {
    case DOC_NULL:
        buffer_add_lit(out, "null");
        return;
    case DOC_BOOL:
        buffer_add_text(out, value->boolean ? TEXT_LIT("true") : TEXT_LIT("false"));
        return;
    case DOC_INT:
        buffer_add_i64(out, value->integer);
        return;
    case DOC_FLOAT: {
        size_t start = out->len;
        json_write_double(out, value->number);
        if (out->failed)
            return;
        /* A float stays one when it is read again. */
        const char *text = out->ptr + start;
        size_t len = out->len - start;
        if (memchr(text, '.', len) == NULL && memchr(text, 'e', len) == NULL)
            buffer_add_lit(out, ".0");
        return;
    }
    case DOC_STRING:
        json_write_string(out, value->string);
        return;
    case DOC_ARRAY:
    case DOC_OBJECT:
        return;
    }
}

void doc_write_json(struct buffer *out, const struct doc_value *value)
{
    struct doc_iter open[DOC_DEPTH_MAX];
    unsigned depth = 0;
    struct doc_value current = *value;
    for (;;) {
        bool begins = current.type == DOC_ARRAY || current.type == DOC_OBJECT;
        if (begins) {
            buffer_add_byte(out, current.type == DOC_OBJECT ? '{' : '[');
            open[depth++] = doc_iterate(&current);
        } else {
            write_scalar(out, &current);
        }
        struct pdb_text key = {NULL, 0};
        while (depth > 0 && !doc_next(&open[depth - 1], &key, &current)) {
            buffer_add_byte(out, open[depth - 1].object ? '}' : ']');
            depth--;
            begins = false;
        }
        if (depth == 0)
            return;
        if (!begins)
            buffer_add_byte(out, ',');
        if (open[depth - 1].object) {
            json_write_string(out, key);
            buffer_add_byte(out, ':');
        }
    }
}
