/* encode_filter.c: the JSON form of a filter as the Filter message of the gRPC door. The shape is
 * the same on both sides:
 *
 *     {"a": 1, "b": {"$lt": 2, "$gt": 0}} -> and { a == 1, and { b < 2, b > 0 } } (a group of one
 *         is the one)
 *
 * Depth is bounded as in the contract, 32. An inner message is written into a buffer of its own in
 * the arena first, because its length comes before it. */
#include "bench/encode.h"

#include "base/bytes.h"
#include "base/json.h"

#include <string.h>

enum { FILTER_DEPTH_MAX = 32, VARINT_MAX = 10 };

/* Fields of Filter. */
enum { FILTER_AND = 1, FILTER_OR = 2, FILTER_NOT = 3, FILTER_CONDITION = 4 };

struct filter_encoder {
    struct arena *arena;
    struct trail *trail;
};

static int add_filter(const struct filter_encoder *e, const struct doc_value *node, unsigned depth,
                      struct buffer *out);

static void add_varint(struct buffer *out, uint64_t value)
{
    while (value >= 0x80) {
        buffer_add_byte(out, (char)(value | 0x80));
        value >>= 7;
    }
    buffer_add_byte(out, (char)value);
}

static void add_field(struct buffer *out, unsigned field, const char *ptr, size_t len)
{
    buffer_add_byte(out, (char)(field << 3 | 2));
    add_varint(out, len);
    buffer_add(out, ptr, len);
}

static int refuse(const struct filter_encoder *e, const char *what, struct pdb_text key)
{
    return trail_add(e->trail, PDB_INVALID_ARGUMENT, "filter: %s '%.*s'", what, TEXT_ARG(key));
}

/* Value: null_value 1, bool_value 2, integer_value 3, float_value 4, string_value 5, list_value
 * 6. */
static int add_value(const struct filter_encoder *e, const struct doc_value *value, unsigned depth,
                     struct buffer *out)
{
    switch (value->type) {
    case DOC_NULL:
        buffer_add(out, "\x08\x00", 2);
        return 0;
    case DOC_BOOL:
        buffer_add_byte(out, 0x10);
        buffer_add_byte(out, value->boolean ? 1 : 0);
        return 0;
    case DOC_INT:
        buffer_add_byte(out, 0x18);
        add_varint(out, (uint64_t)value->integer);
        return 0;
    case DOC_FLOAT: {
        buffer_add_byte(out, 0x21);
        buffer_add(out, &value->number, sizeof(value->number));
        return 0;
    }
    case DOC_STRING:
        add_field(out, 5, value->string.ptr, value->string.len);
        return 0;
    case DOC_ARRAY: {
        if (depth == 0)
            return refuse(e, "too deep", TEXT_LIT("[...]"));
        struct buffer list;
        buffer_init_arena(&list, e->arena, 0);
        struct doc_iter iter = doc_iterate(value);
        struct pdb_text key;
        struct doc_value item;
        while (doc_next(&iter, &key, &item)) {
            struct buffer one;
            buffer_init_arena(&one, e->arena, 0);
            int rc = add_value(e, &item, depth - 1, &one);
            if (rc < 0)
                return rc;
            add_field(&list, 1, one.ptr, one.len);
            list.failed |= one.failed;
        }
        add_field(out, 6, list.ptr, list.len);
        out->failed |= list.failed;
        return 0;
    }
    case DOC_OBJECT:
        break;
    }
    return refuse(e, "an object is no operand", TEXT_LIT("{...}"));
}

static unsigned operator_of(struct pdb_text name)
{
    static const char *const names[] = {"$eq", "$ne",  "$gt",     "$gte",      "$lt",    "$lte",
                                        "$in", "$nin", "$exists", "$contains", "$prefix"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (text_equal(name, text_of(names[i])))
            return i + 1;
    }
    return 0;
}

static int add_condition(const struct filter_encoder *e, struct pdb_text key,
                         unsigned operator_number, const struct doc_value *operand,
                         struct buffer *out)
{
    struct buffer value;
    struct buffer condition;
    buffer_init_arena(&value, e->arena, 0);
    buffer_init_arena(&condition, e->arena, 0);
    int rc = add_value(e, operand, FILTER_DEPTH_MAX, &value);
    if (rc < 0)
        return rc;
    add_field(&condition, 1, key.ptr, key.len);
    buffer_add_byte(&condition, 0x10);
    add_varint(&condition, operator_number);
    add_field(&condition, 3, value.ptr, value.len);
    add_field(out, FILTER_CONDITION, condition.ptr, condition.len);
    out->failed |= value.failed || condition.failed;
    return 0;
}

/* One key of a filter object as one Filter message. */
static int add_member(const struct filter_encoder *e, struct pdb_text key,
                      const struct doc_value *value, unsigned depth, struct buffer *out)
{
    bool all = text_equal(key, TEXT_LIT("$and"));
    struct buffer inner;
    buffer_init_arena(&inner, e->arena, 0);
    struct doc_iter iter;
    struct pdb_text name;
    struct doc_value item;
    int rc = 0;
    if (all || text_equal(key, TEXT_LIT("$or"))) {
        if (value->type != DOC_ARRAY)
            return refuse(e, "needs an array:", key);
        iter = doc_iterate(value);
        while (doc_next(&iter, &name, &item)) {
            struct buffer one;
            buffer_init_arena(&one, e->arena, 0);
            if ((rc = add_filter(e, &item, depth - 1, &one)) < 0)
                return rc;
            add_field(&inner, 1, one.ptr, one.len);
            inner.failed |= one.failed;
        }
        add_field(out, all ? FILTER_AND : FILTER_OR, inner.ptr, inner.len);
    } else if (text_equal(key, TEXT_LIT("$not"))) {
        if ((rc = add_filter(e, value, depth - 1, &inner)) < 0)
            return rc;
        add_field(out, FILTER_NOT, inner.ptr, inner.len);
    } else if (value->type != DOC_OBJECT) {
        return add_condition(e, key, 1, value, out);
    } else {
        iter = doc_iterate(value);
        while (doc_next(&iter, &name, &item)) {
            struct buffer one;
            buffer_init_arena(&one, e->arena, 0);
            if (operator_of(name) == 0)
                return refuse(e, "unknown operator", name);
            if ((rc = add_condition(e, key, operator_of(name), &item, &one)) < 0)
                return rc;
            if (value->children.count == 1) {
                buffer_add(out, one.ptr, one.len);
                out->failed |= one.failed;
                return 0;
            }
            add_field(&inner, 1, one.ptr, one.len);
            inner.failed |= one.failed;
        }
        add_field(out, FILTER_AND, inner.ptr, inner.len);
    }
    out->failed |= inner.failed;
    return 0;
}

static int add_filter(const struct filter_encoder *e, const struct doc_value *node, unsigned depth,
                      struct buffer *out)
{
    if (node->type != DOC_OBJECT)
        return refuse(e, "must be an object", TEXT_LIT(""));
    if (depth == 0)
        return refuse(e, "too deep", TEXT_LIT("{...}"));
    struct buffer group;
    buffer_init_arena(&group, e->arena, 0);
    struct doc_iter iter = doc_iterate(node);
    struct pdb_text key;
    struct doc_value value;
    while (doc_next(&iter, &key, &value)) {
        struct buffer one;
        buffer_init_arena(&one, e->arena, 0);
        int rc = add_member(e, key, &value, depth, &one);
        if (rc < 0)
            return rc;
        if (node->children.count == 1) {
            buffer_add(out, one.ptr, one.len);
            out->failed |= one.failed;
            return 0;
        }
        add_field(&group, 1, one.ptr, one.len);
        group.failed |= one.failed;
    }
    add_field(out, FILTER_AND, group.ptr, group.len);
    out->failed |= group.failed;
    return 0;
}

int encode_filter(struct arena *arena, struct pdb_text json, struct pdb_text *message_out,
                  struct trail *trail)
{
    struct json_reader reader;
    struct doc_builder *builder = doc_builder_new(arena, PDB_METADATA_BYTES_MAX);
    struct pdb_text doc;
    const char *what = NULL;
    if (builder == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for the filter");
    json_open(&reader, json.ptr, json.len, FILTER_DEPTH_MAX * 2, trail);
    int rc = json_read_doc(&reader, builder);
    if (rc == 0)
        rc = json_finish(&reader);
    if (rc < 0)
        return trail_add(trail, rc, "filter");
    if ((rc = doc_builder_finish(builder, &doc, &what)) < 0)
        return trail_add(trail, rc, "filter: %s", what != NULL ? what : "no memory");
    struct doc_value root = doc_root(doc.ptr, doc.len);
    const struct filter_encoder encoder = {arena, trail};
    struct buffer out;
    buffer_init_arena(&out, arena, 0);
    if ((rc = add_filter(&encoder, &root, FILTER_DEPTH_MAX, &out)) < 0)
        return rc;
    if (out.failed)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory for the filter");
    *message_out = (struct pdb_text){out.ptr, out.len};
    return 0;
}
