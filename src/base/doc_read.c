/* doc_read.c: reading documents in place. Layout: docs/formats/document.md. Filters call doc_get
 * for each row, so it does no more than a binary search over the offsets of one object; nothing
 * here allocates.
 *
 * These functions trust their bytes: doc_validate.c has looked at what comes from disk or a peer,
 * and the builder makes nothing else. */
#include "base/doc_internal.h"

#include "base/assert.h"

const uint8_t *doc_read(const uint8_t *at, struct doc_value *value_out)
{
    uint8_t tag = *at++;
    if (tag >= DOC_TAG_SHORT_STRING) {
        size_t len = tag & DOC_SHORT_STRING_MAX;
        *value_out = (struct doc_value){.type = DOC_STRING, .string = {(const char *)at, len}};
        return at + len;
    }
    if (tag >= DOC_TAG_SMALL_INT) {
        *value_out = (struct doc_value){.type = DOC_INT, .integer = tag & DOC_SMALL_INT_MAX};
        return at;
    }
    switch (tag) {
    case DOC_TAG_NULL:
        *value_out = (struct doc_value){.type = DOC_NULL};
        return at;
    case DOC_TAG_FALSE:
    case DOC_TAG_TRUE:
        *value_out = (struct doc_value){.type = DOC_BOOL, .boolean = tag == DOC_TAG_TRUE};
        return at;
    case DOC_TAG_INT8:
        *value_out = (struct doc_value){.type = DOC_INT, .integer = (int8_t)*at};
        return at + 1;
    case DOC_TAG_INT16:
        *value_out = (struct doc_value){.type = DOC_INT, .integer = (int16_t)bytes_get_u16(at)};
        return at + 2;
    case DOC_TAG_INT32:
        *value_out = (struct doc_value){.type = DOC_INT, .integer = (int32_t)bytes_get_u32(at)};
        return at + 4;
    case DOC_TAG_INT64:
        *value_out = (struct doc_value){.type = DOC_INT, .integer = (int64_t)bytes_get_u64(at)};
        return at + 8;
    case DOC_TAG_FLOAT:
        *value_out = (struct doc_value){.type = DOC_FLOAT};
        memcpy(&value_out->number, at, sizeof(value_out->number));
        return at + 8;
    case DOC_TAG_STRING: {
        uint32_t len = doc_varint(&at);
        *value_out = (struct doc_value){.type = DOC_STRING, .string = {(const char *)at, len}};
        return at + len;
    }
    default: {
        ASSERT(tag == DOC_TAG_ARRAY || tag == DOC_TAG_OBJECT);
        uint32_t body_bytes = doc_varint(&at), count = doc_varint(&at);
        *value_out = (struct doc_value){.type = tag == DOC_TAG_ARRAY ? DOC_ARRAY : DOC_OBJECT,
                                        .children = {at, body_bytes, count}};
        return at + body_bytes;
    }
    }
}

struct doc_value doc_root(const void *bytes, size_t len)
{
    static const uint8_t nothing;
    struct doc_value value = {.type = DOC_OBJECT, .children = {&nothing, 0, 0}};
    if (len != 0)
        (void)doc_read((const uint8_t *)bytes + 1, &value);
    return value;
}

/* The entry of `key`, or NULL; *value_at_out: its value. */
static const uint8_t *search_entry(const struct doc_value *object, struct pdb_text key,
                                   const uint8_t **value_at_out)
{
    if (object->type != DOC_OBJECT)
        return NULL;
    const uint8_t *table = object->children.body;
    unsigned width = doc_offset_width(object->children.body_bytes);
    const uint8_t *entries = table + (size_t)object->children.count * width;
    uint32_t low = 0, high = object->children.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const uint8_t *entry = entries + doc_offset(table, width, middle), *at = entry;
        int order = text_compare(doc_key(&at), key);
        if (order == 0) {
            *value_at_out = at;
            return entry;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

bool doc_get(const struct doc_value *object, struct pdb_text key, struct doc_value *value_out)
{
    const uint8_t *value_at = NULL;
    if (search_entry(object, key, &value_at) == NULL)
        return false;
    (void)doc_read(value_at, value_out);
    return true;
}

/* The length of the next shorter prefix of `path` that ends before a dot; 0: there is none. */
static size_t shorter_prefix(struct pdb_text path, size_t len)
{
    while (len > 0 && path.ptr[len - 1] != '.')
        len--;
    return len > 0 ? len - 1 : 0;
}

/* A place on the way down: `path` is what is left to find in `object`, `len` the prefix to try
 * next. */
struct path_step {
    struct doc_value object;
    struct pdb_text path;
    size_t len;
};

/* Depth first, the longest key first. Each object is entered at most once, because only one
 * concatenation of keys leads to it, so a hostile document costs no more than its size. */
bool doc_find_entry(const struct doc_value *root, struct pdb_text path, const uint8_t **entry_out,
                    struct doc_value *value_out)
{
    struct path_step steps[DOC_DEPTH_MAX + 1];
    unsigned depth = 0;
    steps[0] = (struct path_step){*root, path, path.len};
    for (;;) {
        struct path_step *step = &steps[depth];
        bool whole = step->len == step->path.len;
        const uint8_t *value_at = NULL, *entry = NULL;
        if (step->len != 0 || whole) /* an empty key is tried only as a whole path */
            entry = search_entry(&step->object, (struct pdb_text){step->path.ptr, step->len},
                                 &value_at);
        size_t taken = step->len;
        step->len = shorter_prefix(step->path, taken);
        if (entry != NULL && whole) {
            *entry_out = entry;
            (void)doc_read(value_at, value_out);
            return true;
        }
        if (entry != NULL && depth < DOC_DEPTH_MAX) {
            struct path_step *below = &steps[depth + 1];
            (void)doc_read(value_at, &below->object);
            below->path = (struct pdb_text){step->path.ptr + taken + 1, step->path.len - taken - 1};
            below->len = below->path.len;
            if (below->object.type == DOC_OBJECT && below->len != 0) {
                depth++;
                continue;
            }
        }
        while (steps[depth].len == 0) {
            if (depth-- == 0)
                return false;
        }
    }
}

bool doc_find(const struct doc_value *root, struct pdb_text path, struct doc_value *value_out)
{
    if (doc_get(root, path, value_out))
        return true;
    if (path.len == 0 || memchr(path.ptr, '.', path.len) == NULL)
        return false;
    const uint8_t *entry = NULL;
    return doc_find_entry(root, path, &entry, value_out);
}

struct doc_iter doc_iterate(const struct doc_value *container)
{
    if (container->type == DOC_ARRAY)
        return (struct doc_iter){container->children.body, container->children.count, false};
    if (container->type != DOC_OBJECT)
        return (struct doc_iter){NULL, 0, false};
    unsigned width = doc_offset_width(container->children.body_bytes);
    const uint8_t *entries = container->children.body + (size_t)container->children.count * width;
    return (struct doc_iter){entries, container->children.count, true};
}

bool doc_next(struct doc_iter *iter, struct pdb_text *key_out, struct doc_value *value_out)
{
    if (iter->left == 0)
        return false;
    iter->left--;
    struct pdb_text key = {NULL, 0};
    if (iter->object)
        key = doc_key(&iter->at);
    if (key_out != NULL)
        *key_out = key;
    iter->at = doc_read(iter->at, value_out);
    return true;
}

/* Exact: an int64 is not rounded to a double first, 2^53 + 1 differs from 2^53. */
static bool equal_int_float(int64_t integer, double number)
{
    return number >= -0x1p63 && number < 0x1p63 && (double)(int64_t)number == number &&
           (int64_t)number == integer;
}

/* Everything but what is inside containers. */
static bool equal_shallow(const struct doc_value *a, const struct doc_value *b)
{
    if (a->type == DOC_INT && b->type == DOC_FLOAT)
        return equal_int_float(a->integer, b->number);
    if (a->type == DOC_FLOAT && b->type == DOC_INT)
        return equal_int_float(b->integer, a->number);
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case DOC_NULL:
        return true;
    case DOC_BOOL:
        return a->boolean == b->boolean;
    case DOC_INT:
        return a->integer == b->integer;
    case DOC_FLOAT:
        return a->number >= b->number && a->number <= b->number;
    case DOC_STRING:
        return text_equal(a->string, b->string);
    case DOC_ARRAY:
    case DOC_OBJECT:
        return a->children.count == b->children.count;
    }
    return false;
}

static bool is_container(const struct doc_value *value)
{
    return value->type == DOC_ARRAY || value->type == DOC_OBJECT;
}

/* Equal bytes are equal values; different ones may be (1 and 1.0), so this only spares the walk. */
static bool same_bytes(const struct doc_value *a, const struct doc_value *b)
{
    return a->children.body_bytes == b->children.body_bytes &&
           memcmp(a->children.body, b->children.body, a->children.body_bytes) == 0;
}

bool doc_equal(const struct doc_value *a, const struct doc_value *b)
{
    struct doc_iter left[DOC_DEPTH_MAX], right[DOC_DEPTH_MAX];
    struct doc_value x = *a, y = *b;
    unsigned depth = 0;
    for (;;) {
        if (!equal_shallow(&x, &y))
            return false;
        if (is_container(&x) && !same_bytes(&x, &y)) {
            ASSERT(depth < DOC_DEPTH_MAX);
            left[depth] = doc_iterate(&x);
            right[depth++] = doc_iterate(&y);
        }
        struct pdb_text x_key = {NULL, 0}, y_key = {NULL, 0};
        while (depth > 0 && !doc_next(&left[depth - 1], &x_key, &x))
            depth--;
        if (depth == 0)
            return true;
        (void)doc_next(&right[depth - 1], &y_key, &y); /* as many as on the left */
        if (!text_equal(x_key, y_key))
            return false;
    }
}
