/* protobuf_docs.c: values between the wire and documents, without trees in between.
 *
 * Both ways walk with a stack of open containers: input was checked to be at most 64 messages deep
 * (a document level takes two or three of them), documents are at most 64 deep by their own
 * rule. */
#include "transport/codec/protobuf_docs.h"

#include "base/assert.h"

#include "base/no_libc_heap.h"

#include "proximadb_v1_proximadb.pb-c.h"

enum value_field {
    VALUE_NULL = 1,
    VALUE_BOOL,
    VALUE_INTEGER,
    VALUE_FLOAT,
    VALUE_STRING,
    VALUE_LIST,
    VALUE_MAP,
};
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2, CONTAINER_ITEMS = 1 };
enum filter_field { FILTER_AND = 1, FILTER_OR, FILTER_NOT, FILTER_CONDITION };
enum { CONDITION_KEY = 1, CONDITION_OPERATOR = 2, CONDITION_VALUE = 3 };

/* ---- values to documents ---- */

struct open_value {
    struct protobuf_reader items;
    bool map;
};

struct value_walk {
    struct doc_builder *docs;
    struct open_value open[PROTOBUF_DEPTH_MAX];
    unsigned depth;
    const char *what; /* is wrong, beyond what the builder knows */
};

/* The last field with this number, as parsers read a singular one; false: none. */
static bool last_field(struct pdb_text message, uint32_t number, struct protobuf_field *field_out)
{
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f;
    bool found = false;
    while (protobuf_next(&r, &f) > 0) {
        if (f.number == number) {
            *field_out = f;
            found = true;
        }
    }
    return found;
}

static void open_container(struct value_walk *walk, struct pdb_text message, bool map)
{
    ASSERT(walk->depth < PROTOBUF_DEPTH_MAX);
    walk->open[walk->depth++] = (struct open_value){protobuf_reader_of(message), map};
}

static int add_value(struct value_walk *walk, struct pdb_text message)
{
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f, kind = {0};
    int rc = 0;
    double number = 0;
    while (protobuf_next(&r, &f) > 0)
        if (f.number >= VALUE_NULL && f.number <= VALUE_MAP)
            kind = f;
    switch (kind.number) {
    case VALUE_NULL:
        return doc_add_null(walk->docs);
    case VALUE_BOOL:
        return doc_add_bool(walk->docs, kind.value != 0);
    case VALUE_INTEGER:
        return doc_add_int(walk->docs, (int64_t)kind.value);
    case VALUE_FLOAT:
        memcpy(&number, &kind.value, sizeof(number));
        return doc_add_float(walk->docs, number);
    case VALUE_STRING:
        return doc_add_string(walk->docs, kind.bytes);
    case VALUE_LIST:
        rc = doc_begin_array(walk->docs);
        open_container(walk, kind.bytes, false);
        return rc;
    case VALUE_MAP:
        rc = doc_begin_object(walk->docs);
        open_container(walk, kind.bytes, true);
        return rc;
    default:
        walk->what = "a Value without a kind";
        return PDB_INVALID_ARGUMENT;
    }
}

static int add_entry(struct value_walk *walk, struct pdb_text entry)
{
    struct protobuf_field key = {.bytes = {"", 0}}, value;
    (void)last_field(entry, ENTRY_KEY, &key);
    int rc = doc_add_key(walk->docs, key.bytes);
    if (rc < 0)
        return rc;
    if (!last_field(entry, ENTRY_VALUE, &value)) {
        walk->what = "a key without a value";
        return PDB_INVALID_ARGUMENT;
    }
    return add_value(walk, value.bytes);
}

/* Until all that is open is closed. */
static int finish_values(struct value_walk *walk)
{
    int rc = 0;
    while (rc == 0 && walk->depth != 0) {
        struct open_value *innermost = &walk->open[walk->depth - 1];
        struct protobuf_field f;
        if (protobuf_next(&innermost->items, &f) <= 0) {
            walk->depth--;
            rc = doc_end(walk->docs);
        } else if (f.number == CONTAINER_ITEMS) {
            rc = innermost->map ? add_entry(walk, f.bytes) : add_value(walk, f.bytes);
        }
    }
    return rc;
}

/* The document, or what was wrong; the builder starts over either way. */
static int finish_doc(struct doc_builder *docs, int rc, const char *what, struct pdb_text *doc_out,
                      const char **what_out)
{
    const char *builder_what = NULL;
    int finished = doc_builder_finish(docs, doc_out, &builder_what);
    *what_out = what != NULL ? what : builder_what != NULL ? builder_what : "not a document";
    return rc < 0 ? rc : finished;
}

int protobuf_read_map(struct pdb_text message, struct doc_builder *docs,
                      struct protobuf_place place, const char *member, struct trail *trail,
                      struct pdb_text *doc_out)
{
    struct value_walk walk;
    walk.docs = docs;
    walk.depth = 0;
    walk.what = NULL;
    int rc = doc_begin_object(docs);
    open_container(&walk, message, true);
    if (rc == 0)
        rc = finish_values(&walk);
    const char *what = NULL;
    rc = finish_doc(docs, rc, walk.what, doc_out, &what);
    return rc == 0 ? 0 : protobuf_fail(trail, place, rc, member, "%s", what);
}

/* ---- filters to documents ---- */

struct open_filter {
    struct protobuf_reader items; /* of a group */
    struct pdb_text inner;        /* of a negation */
    bool negation, entered;
};

struct filter_walk {
    struct doc_builder *docs;
    struct open_filter open[PROTOBUF_DEPTH_MAX];
    unsigned depth;
    const char *what;
};

static int wrong(struct filter_walk *walk, const char *what)
{
    walk->what = what;
    return PDB_INVALID_ARGUMENT;
}

static const char *operator_name(uint64_t value)
{
    static const char *const names[] = {
        [PROXIMADB__V1__OPERATOR__OPERATOR_EQ] = "$eq",
        [PROXIMADB__V1__OPERATOR__OPERATOR_NE] = "$ne",
        [PROXIMADB__V1__OPERATOR__OPERATOR_GT] = "$gt",
        [PROXIMADB__V1__OPERATOR__OPERATOR_GTE] = "$gte",
        [PROXIMADB__V1__OPERATOR__OPERATOR_LT] = "$lt",
        [PROXIMADB__V1__OPERATOR__OPERATOR_LTE] = "$lte",
        [PROXIMADB__V1__OPERATOR__OPERATOR_IN] = "$in",
        [PROXIMADB__V1__OPERATOR__OPERATOR_NIN] = "$nin",
        [PROXIMADB__V1__OPERATOR__OPERATOR_EXISTS] = "$exists",
        [PROXIMADB__V1__OPERATOR__OPERATOR_CONTAINS] = "$contains",
        [PROXIMADB__V1__OPERATOR__OPERATOR_PREFIX] = "$prefix",
    };
    return value < sizeof(names) / sizeof(names[0]) ? names[value] : NULL;
}

/* The operand; an absent one of EXISTS means true. */
static int add_operand(struct filter_walk *walk, struct pdb_text condition, const char *operator)
{
    struct protobuf_field value;
    if (!last_field(condition, CONDITION_VALUE, &value))
        return strcmp(operator, "$exists") == 0 ? doc_add_bool(walk->docs, true)
                                                : wrong(walk, "a condition without a value");
    struct value_walk values;
    values.docs = walk->docs;
    values.depth = 0;
    values.what = NULL;
    int rc = add_value(&values, value.bytes);
    if (rc == 0)
        rc = finish_values(&values);
    if (values.what != NULL)
        walk->what = values.what;
    return rc;
}

/* {"price":{"$lt":20}}. A key that begins with $ would be read as an operator. */
static int add_condition(struct filter_walk *walk, struct pdb_text condition)
{
    struct protobuf_field key = {.bytes = {"", 0}}, operator= {0};
    (void)last_field(condition, CONDITION_KEY, &key);
    (void)last_field(condition, CONDITION_OPERATOR, &operator);
    const char *name = operator_name(operator.value);
    if (key.bytes.len == 0)
        return wrong(walk, "a condition without a key");
    if (key.bytes.ptr[0] == '$')
        return wrong(walk, "the key of a condition must not begin with '$'");
    if (name == NULL)
        return wrong(walk, "a condition without an operator");
    int rc = doc_begin_object(walk->docs);
    if (rc < 0 || (rc = doc_add_key(walk->docs, key.bytes)) < 0 ||
        (rc = doc_begin_object(walk->docs)) < 0 ||
        (rc = doc_add_key(walk->docs, text_of(name))) < 0 ||
        (rc = add_operand(walk, condition, name)) < 0 || (rc = doc_end(walk->docs)) < 0)
        return rc;
    return doc_end(walk->docs);
}

static int add_filter(struct filter_walk *walk, struct pdb_text message)
{
    struct protobuf_reader r = protobuf_reader_of(message);
    struct protobuf_field f, node = {0};
    while (protobuf_next(&r, &f) > 0)
        if (f.number >= FILTER_AND && f.number <= FILTER_CONDITION)
            node = f;
    if (node.number == 0)
        return wrong(walk, "a filter needs one of and, or, not, condition");
    if (node.number == FILTER_CONDITION)
        return add_condition(walk, node.bytes);
    bool negation = node.number == FILTER_NOT;
    int rc = doc_begin_object(walk->docs);
    if (rc == 0)
        rc = doc_add_key(walk->docs, negation                    ? TEXT_LIT("$not")
                                     : node.number == FILTER_AND ? TEXT_LIT("$and")
                                                                 : TEXT_LIT("$or"));
    if (rc == 0 && !negation)
        rc = doc_begin_array(walk->docs);
    ASSERT(walk->depth < PROTOBUF_DEPTH_MAX);
    walk->open[walk->depth++] = (struct open_filter){
        .items = protobuf_reader_of(node.bytes), .inner = node.bytes, .negation = negation};
    return rc;
}

/* One step of what is open: the next inner filter, or its end. */
static int step_filter(struct filter_walk *walk)
{
    struct open_filter *innermost = &walk->open[walk->depth - 1];
    if (innermost->negation) {
        if (!innermost->entered) {
            innermost->entered = true;
            return add_filter(walk, innermost->inner);
        }
        walk->depth--;
        return doc_end(walk->docs);
    }
    struct protobuf_field f;
    if (protobuf_next(&innermost->items, &f) > 0)
        return f.number == CONTAINER_ITEMS ? add_filter(walk, f.bytes) : 0;
    walk->depth--;
    int rc = doc_end(walk->docs);
    return rc < 0 ? rc : doc_end(walk->docs);
}

int protobuf_read_filter(struct pdb_text message, struct doc_builder *docs,
                         struct protobuf_place place, const char *member, struct trail *trail,
                         struct pdb_text *doc_out)
{
    struct filter_walk walk;
    walk.docs = docs;
    walk.depth = 0;
    walk.what = NULL;
    int rc = add_filter(&walk, message);
    while (rc == 0 && walk.depth != 0)
        rc = step_filter(&walk);
    const char *what = NULL;
    rc = finish_doc(docs, rc, walk.what, doc_out, &what);
    return rc == 0 ? 0 : protobuf_fail(trail, place, rc, member, "%s", what);
}

/* ---- documents to values ---- */

struct open_doc {
    struct doc_iter items;
    uint8_t messages; /* to end when it ends */
};

/* Writes the value's kind into the Value that is open. True: a container was begun and its items
 * are to follow. */
static bool put_kind(struct protobuf_writer *w, const struct doc_value *value)
{
    switch (value->type) {
    case DOC_NULL:
        protobuf_put_varint(w, VALUE_NULL, 0);
        return false;
    case DOC_BOOL:
        protobuf_put_varint(w, VALUE_BOOL, value->boolean);
        return false;
    case DOC_INT:
        protobuf_put_varint(w, VALUE_INTEGER, (uint64_t)value->integer);
        return false;
    case DOC_FLOAT:
        protobuf_put_double(w, VALUE_FLOAT, value->number);
        return false;
    case DOC_STRING:
        protobuf_put_bytes(w, VALUE_STRING, value->string.ptr, value->string.len);
        return false;
    case DOC_ARRAY:
        protobuf_begin(w, VALUE_LIST, value->children.body_bytes * 2);
        return true;
    case DOC_OBJECT:
        protobuf_begin(w, VALUE_MAP, value->children.body_bytes * 2);
        return true;
    }
    return false;
}

static size_t expected_size(const struct doc_value *value)
{
    return value->type == DOC_STRING                               ? value->string.len + 3
           : value->type == DOC_ARRAY || value->type == DOC_OBJECT ? value->children.body_bytes * 2
                                                                   : 9;
}

void protobuf_put_map(struct protobuf_writer *w, const struct doc_value *object)
{
    struct open_doc open[DOC_DEPTH_MAX];
    unsigned depth = 1;
    open[0] = (struct open_doc){.items = doc_iterate(object)};
    while (depth != 0) {
        struct open_doc *innermost = &open[depth - 1];
        struct pdb_text key;
        struct doc_value value;
        if (!doc_next(&innermost->items, &key, &value)) {
            for (unsigned i = 0; i < innermost->messages; i++)
                protobuf_end(w);
            depth--;
            continue;
        }
        bool in_map = innermost->items.object;
        size_t expected = expected_size(&value);
        if (in_map) {
            protobuf_begin(w, CONTAINER_ITEMS, expected + key.len + 4);
            protobuf_put_bytes(w, ENTRY_KEY, key.ptr, key.len);
        }
        protobuf_begin(w, in_map ? ENTRY_VALUE : CONTAINER_ITEMS, expected);
        if (put_kind(w, &value)) {
            ASSERT(depth < DOC_DEPTH_MAX);
            open[depth++] =
                (struct open_doc){.items = doc_iterate(&value), .messages = in_map ? 3 : 2};
            continue;
        }
        protobuf_end(w);
        if (in_map)
            protobuf_end(w);
    }
}
