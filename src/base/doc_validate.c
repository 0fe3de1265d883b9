/* doc_validate.c: accepts exactly what the builder makes, and nothing else: one document has one
 * encoding, so equal bytes mean equal documents, and reading needs no check. One pass, no
 * recursion, an explicit stack of open containers; every read is bounded by the end of the
 * innermost one. Rules D1..D9: docs/formats/document.md. */
#include "base/doc_internal.h"

#include "base/utf8.h"

#include <math.h>
#include <proximadb/error.h>

struct open_container {
    const uint8_t *end;
    const uint8_t *table, *entries; /* objects */
    struct pdb_text last_key;
    uint32_t count, next;
    bool object;
};

struct check {
    const uint8_t *at, *end; /* end: of the innermost container */
    unsigned depth;
    struct open_container open[DOC_DEPTH_MAX];
};

static size_t left(const struct check *c)
{
    return (size_t)(c->end - c->at);
}

/* D2: as few bytes as can be, within 32 bits. */
static bool take_varint(struct check *c, uint32_t *value_out)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < DOC_VARINT_MAX; i++) {
        if (left(c) == 0)
            return false;
        uint8_t byte = *c->at++;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *value_out = (uint32_t)value;
            return value <= UINT32_MAX && (byte != 0 || i == 0);
        }
    }
    return false;
}

/* D3 */
static bool take_text(struct check *c, uint32_t len)
{
    if (len > left(c) || utf8_invalid_at((const char *)c->at, len) != len)
        return false;
    c->at += len;
    return true;
}

/* D4: an integer lies in the shortest form that holds it. */
static bool take_integer(struct check *c, uint8_t tag)
{
    size_t size = (size_t)1 << (tag - DOC_TAG_INT8);
    if (left(c) < size)
        return false;
    struct doc_value value;
    c->at = doc_read(c->at - 1, &value);
    int64_t v = value.integer;
    switch (tag) {
    case DOC_TAG_INT8:
        return v < 0 || v > DOC_SMALL_INT_MAX;
    case DOC_TAG_INT16:
        return v != (int8_t)v;
    case DOC_TAG_INT32:
        return v != (int16_t)v;
    default:
        return v != (int32_t)v;
    }
}

/* D5: finite. */
static bool take_float(struct check *c)
{
    double number = 0;
    if (left(c) < sizeof(number))
        return false;
    memcpy(&number, c->at, sizeof(number));
    c->at += sizeof(number);
    return isfinite(number);
}

static bool enter(struct check *c, bool object)
{
    uint32_t body_bytes = 0, count = 0;
    if (c->depth == DOC_DEPTH_MAX || !take_varint(c, &body_bytes) || !take_varint(c, &count) ||
        body_bytes > left(c))
        return false;
    const uint8_t *body = c->at;
    uint64_t table_bytes = object ? (uint64_t)count * doc_offset_width(body_bytes) : 0;
    if (table_bytes > body_bytes)
        return false;
    c->at += table_bytes;
    c->end = body + body_bytes;
    c->open[c->depth++] = (struct open_container){
        .end = c->end, .table = body, .entries = c->at, .count = count, .object = object};
    return true;
}

static bool take_value(struct check *c)
{
    if (left(c) == 0)
        return false;
    uint8_t tag = *c->at++;
    if (tag >= DOC_TAG_SHORT_STRING)
        return take_text(c, tag & DOC_SHORT_STRING_MAX);
    if (tag >= DOC_TAG_SMALL_INT)
        return true;
    uint32_t len = 0;
    switch (tag) {
    case DOC_TAG_NULL:
    case DOC_TAG_FALSE:
    case DOC_TAG_TRUE:
        return true;
    case DOC_TAG_INT8:
    case DOC_TAG_INT16:
    case DOC_TAG_INT32:
    case DOC_TAG_INT64:
        return take_integer(c, tag);
    case DOC_TAG_FLOAT:
        return take_float(c);
    case DOC_TAG_STRING:
        return take_varint(c, &len) && len > DOC_SHORT_STRING_MAX && take_text(c, len);
    case DOC_TAG_ARRAY:
    case DOC_TAG_OBJECT:
        return enter(c, tag == DOC_TAG_OBJECT);
    default:
        return false;
    }
}

/* D7, D8: the next entry is where the table says, and its key is greater than the one before. */
static bool take_key(struct check *c, struct open_container *object)
{
    uint32_t index = object->next;
    unsigned width = doc_offset_width((uint32_t)(object->end - object->table));
    if (doc_offset(object->table, width, index) != (uint64_t)(c->at - object->entries))
        return false;
    uint32_t len = 0;
    if (!take_varint(c, &len) || !take_text(c, len))
        return false;
    struct pdb_text key = {(const char *)c->at - len, len};
    if (index > 0 && text_compare(object->last_key, key) >= 0)
        return false;
    object->last_key = key;
    return true;
}

int doc_validate(const void *bytes, size_t len)
{
    if (len == 0)
        return 0;
    const uint8_t *start = bytes, *end = start + len;
    struct check c = {.at = start + 1, .end = end};
    if (start[0] != DOC_VERSION || len > UINT32_MAX || !take_value(&c))
        return PDB_DATA_LOSS;
    while (c.depth > 0) {
        struct open_container *innermost = &c.open[c.depth - 1];
        if (innermost->next == innermost->count) {
            if (c.at != innermost->end) /* D6: a container ends with its last child */
                return PDB_DATA_LOSS;
            c.depth--;
            c.end = c.depth > 0 ? c.open[c.depth - 1].end : end;
            continue;
        }
        if (innermost->object && !take_key(&c, innermost))
            return PDB_DATA_LOSS;
        innermost->next++;
        if (!take_value(&c))
            return PDB_DATA_LOSS;
    }
    return c.at == end ? 0 : PDB_DATA_LOSS;
}
