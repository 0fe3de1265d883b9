/* doc_build.c: documents from events. A finished value lies at the end of `out`; when a container
 * ends, its children lie behind each other from the container's start, an object's are put in the
 * order of their keys, and the header is moved in before them. Each level moves its children once
 * more, at most 64 times; building from the back would spare that and would need the events in
 * reverse.
 *
 * Keys that come sorted, as from another document, cost no sorting. Others are sorted by insertion
 * up to 16 and by a heap above: no recursion, no worst case that a client could choose. */
#include "base/doc_internal.h"

#include "base/utf8.h"

#include <math.h>
#include <proximadb/error.h>

enum { INSERTION_MAX = 16, HEADER_MAX = 1 + 2 * DOC_VARINT_MAX, ENTRIES_FIRST = 16 };

/* The bytes of one member in `out`, key first. */
struct entry {
    uint32_t start, end;
};

struct open_container {
    uint32_t start; /* of its children in out */
    uint32_t count;
    uint32_t entry_first; /* objects: its first in entries */
    bool object, has_key; /* has_key: the next event is a value */
};

struct doc_builder {
    struct arena *arena;
    size_t bytes_max;
    struct buffer out, sorted; /* sorted: an object's entries on their way */
    struct entry *entries;     /* of all open objects */
    uint32_t entry_count, entry_capacity;
    unsigned depth;
    bool has_root;
    int rc; /* the first error; sticks until finish */
    const char *what;
    struct open_container open[DOC_DEPTH_MAX];
};

static void start_over(struct doc_builder *b)
{
    buffer_init_arena(&b->out, b->arena, 0);
    b->entry_count = 0;
    b->depth = 0;
    b->has_root = false;
    b->rc = 0;
    b->what = NULL;
}

struct doc_builder *doc_builder_new(struct arena *arena, size_t bytes_max)
{
    struct doc_builder *b = arena_new(arena, struct doc_builder);
    if (b == NULL)
        return NULL;
    b->arena = arena;
    b->bytes_max = bytes_max != 0 && bytes_max < UINT32_MAX / 2 ? bytes_max : UINT32_MAX / 2;
    buffer_init_arena(&b->sorted, arena, 0);
    start_over(b);
    return b;
}

static int fail(struct doc_builder *b, int rc, const char *what)
{
    if (b->rc == 0) {
        b->rc = rc;
        b->what = what;
    }
    return b->rc;
}

static int out_of_memory(struct doc_builder *b)
{
    return fail(b, PDB_RESOURCE_EXHAUSTED, "out of memory");
}

/* Room for `size` more bytes, or NULL and an error. The first byte of all is the version. */
static uint8_t *reserve(struct doc_builder *b, size_t size)
{
    size_t version_bytes = b->out.len == 0;
    if (size > b->bytes_max || b->out.len + version_bytes > b->bytes_max - size) {
        fail(b, PDB_INVALID_ARGUMENT, "document too large");
        return NULL;
    }
    if (version_bytes != 0)
        buffer_add_byte(&b->out, DOC_VERSION);
    char *at = buffer_reserve(&b->out, size);
    if (at == NULL)
        out_of_memory(b);
    return (uint8_t *)at;
}

static size_t put_varint(uint8_t *at, uint32_t value)
{
    size_t size = 0;
    for (; value >= 0x80; value >>= 7)
        at[size++] = (uint8_t)(value | 0x80);
    at[size++] = (uint8_t)value;
    return size;
}

/* Each value begins here: may one come now? */
static int begin_value(struct doc_builder *b)
{
    if (b->rc < 0)
        return b->rc;
    if (b->depth == 0) {
        if (b->has_root)
            return fail(b, PDB_INVALID_ARGUMENT, "more than one value");
        b->has_root = true;
        return 0;
    }
    struct open_container *innermost = &b->open[b->depth - 1];
    if (innermost->object && !innermost->has_key)
        return fail(b, PDB_INVALID_ARGUMENT, "a value without a key");
    innermost->has_key = false;
    innermost->count++;
    return 0;
}

static int add_scalar(struct doc_builder *b, uint8_t tag, const void *payload, size_t size)
{
    int rc = begin_value(b);
    if (rc < 0)
        return rc;
    uint8_t *at = reserve(b, 1 + size);
    if (at == NULL)
        return b->rc;
    at[0] = tag;
    if (size != 0)
        memcpy(at + 1, payload, size);
    b->out.len += 1 + size;
    return 0;
}

int doc_add_null(struct doc_builder *b)
{
    return add_scalar(b, DOC_TAG_NULL, NULL, 0);
}

int doc_add_bool(struct doc_builder *b, bool value)
{
    return add_scalar(b, value ? DOC_TAG_TRUE : DOC_TAG_FALSE, NULL, 0);
}

int doc_add_int(struct doc_builder *b, int64_t value)
{
    if (value >= 0 && value <= DOC_SMALL_INT_MAX)
        return add_scalar(b, (uint8_t)(DOC_TAG_SMALL_INT | value), NULL, 0);
    if (value == (int8_t)value)
        return add_scalar(b, DOC_TAG_INT8, &value, 1); /* little-endian: the low bytes come first */
    if (value == (int16_t)value)
        return add_scalar(b, DOC_TAG_INT16, &value, 2);
    if (value == (int32_t)value)
        return add_scalar(b, DOC_TAG_INT32, &value, 4);
    return add_scalar(b, DOC_TAG_INT64, &value, 8);
}

int doc_add_float(struct doc_builder *b, double value)
{
    if (b->rc == 0 && !isfinite(value))
        return fail(b, PDB_INVALID_ARGUMENT, "a number that is not finite");
    return add_scalar(b, DOC_TAG_FLOAT, &value, sizeof(value));
}

/* A length in front of text, after `prefix` (the tag of a long string) if there is one. */
static int append_text(struct doc_builder *b, const uint8_t *prefix, struct pdb_text value)
{
    if (value.len > b->bytes_max)
        return fail(b, PDB_INVALID_ARGUMENT, "document too large");
    if (utf8_invalid_at(value.ptr, value.len) != value.len)
        return fail(b, PDB_INVALID_ARGUMENT, "text that is not valid UTF-8");
    uint8_t header[1 + DOC_VARINT_MAX];
    size_t header_bytes = 0;
    if (prefix != NULL)
        header[header_bytes++] = *prefix;
    header_bytes += put_varint(header + header_bytes, (uint32_t)value.len);
    uint8_t *at = reserve(b, header_bytes + value.len);
    if (at == NULL)
        return b->rc;
    memcpy(at, header, header_bytes);
    if (value.len != 0)
        memcpy(at + header_bytes, value.ptr, value.len);
    b->out.len += header_bytes + value.len;
    return 0;
}

int doc_add_string(struct doc_builder *b, struct pdb_text value)
{
    static const uint8_t tag = DOC_TAG_STRING;
    if (value.len > DOC_SHORT_STRING_MAX) {
        int rc = begin_value(b);
        return rc < 0 ? rc : append_text(b, &tag, value);
    }
    if (b->rc == 0 && utf8_invalid_at(value.ptr, value.len) != value.len)
        return fail(b, PDB_INVALID_ARGUMENT, "text that is not valid UTF-8");
    return add_scalar(b, (uint8_t)(DOC_TAG_SHORT_STRING | value.len), value.ptr, value.len);
}

static int begin_container(struct doc_builder *b, bool object)
{
    int rc = begin_value(b);
    if (rc < 0)
        return rc;
    if (b->depth == DOC_DEPTH_MAX)
        return fail(b, PDB_INVALID_ARGUMENT, "nested too deeply");
    if (reserve(b, 1) == NULL)
        return b->rc;
    b->open[b->depth++] = (struct open_container){
        .start = (uint32_t)b->out.len, .entry_first = b->entry_count, .object = object};
    return 0;
}

int doc_begin_array(struct doc_builder *b)
{
    return begin_container(b, false);
}

int doc_begin_object(struct doc_builder *b)
{
    return begin_container(b, true);
}

static int push_entry(struct doc_builder *b, uint32_t start)
{
    if (b->entry_count == b->entry_capacity) {
        uint32_t capacity = b->entry_capacity != 0 ? b->entry_capacity * 2 : ENTRIES_FIRST;
        struct entry *entries =
            arena_grow(b->arena, b->entries, b->entry_capacity * sizeof(struct entry),
                       capacity * sizeof(struct entry));
        if (entries == NULL)
            return out_of_memory(b);
        b->entries = entries;
        b->entry_capacity = capacity;
    }
    b->entries[b->entry_count++] = (struct entry){start, start};
    return 0;
}

int doc_add_key(struct doc_builder *b, struct pdb_text key)
{
    if (b->rc < 0)
        return b->rc;
    struct open_container *innermost = b->depth > 0 ? &b->open[b->depth - 1] : NULL;
    if (innermost == NULL || !innermost->object || innermost->has_key)
        return fail(b, PDB_INVALID_ARGUMENT, "a key where none may be");
    innermost->has_key = true;
    int rc = push_entry(b, (uint32_t)b->out.len);
    return rc < 0 ? rc : append_text(b, NULL, key);
}

/* ---- the end of a container ---- */

static int compare_entries(const struct doc_builder *b, const struct entry *x,
                           const struct entry *y)
{
    const uint8_t *x_at = (const uint8_t *)b->out.ptr + x->start;
    const uint8_t *y_at = (const uint8_t *)b->out.ptr + y->start;
    return text_compare(doc_key(&x_at), doc_key(&y_at));
}

static void sift_down(const struct doc_builder *b, struct entry *entries, size_t count, size_t at)
{
    struct entry entry = entries[at];
    for (size_t child = 0; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && compare_entries(b, &entries[child], &entries[child + 1]) < 0)
            child++;
        if (compare_entries(b, &entry, &entries[child]) >= 0)
            break;
        entries[at] = entries[child];
    }
    entries[at] = entry;
}

static void sort_entries(const struct doc_builder *b, struct entry *entries, size_t count)
{
    if (count > INSERTION_MAX) {
        for (size_t i = count / 2; i-- > 0;)
            sift_down(b, entries, count, i);
        for (size_t last = count - 1; last > 0; last--) {
            struct entry greatest = entries[0];
            entries[0] = entries[last];
            entries[last] = greatest;
            sift_down(b, entries, last, 0);
        }
        return;
    }
    for (size_t i = 1; i < count; i++) {
        struct entry entry = entries[i];
        size_t at = i;
        for (; at > 0 && compare_entries(b, &entry, &entries[at - 1]) < 0; at--)
            entries[at] = entries[at - 1];
        entries[at] = entry;
    }
}

/* The children of the ending object in the order of their keys; no key twice. */
static int order_children(struct doc_builder *b, const struct open_container *object)
{
    struct entry *entries = b->entries != NULL ? b->entries + object->entry_first : NULL;
    size_t count = object->count;
    bool in_order = true;
    for (size_t i = 0; i < count; i++) {
        entries[i].end = i + 1 < count ? entries[i + 1].start : (uint32_t)b->out.len;
        in_order = in_order && (i == 0 || compare_entries(b, &entries[i - 1], &entries[i]) < 0);
    }
    if (in_order)
        return 0;
    sort_entries(b, entries, count);
    b->sorted.len = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && compare_entries(b, &entries[i - 1], &entries[i]) == 0)
            return fail(b, PDB_INVALID_ARGUMENT, "duplicate key");
        buffer_add(&b->sorted, b->out.ptr + entries[i].start, entries[i].end - entries[i].start);
    }
    if (b->sorted.failed)
        return out_of_memory(b);
    uint32_t start = object->start;
    for (size_t i = 0; i < count; i++) { /* where they will be */
        uint32_t size = entries[i].end - entries[i].start;
        entries[i] = (struct entry){start, start + size};
        start += size;
    }
    memcpy(b->out.ptr + object->start, b->sorted.ptr, b->sorted.len);
    return 0;
}

static void put_table(uint8_t *table, unsigned width, const struct entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t offset = entries[i].start - entries[0].start;
        memcpy(table + (size_t)i * width, &offset, width);
    }
}

/* Moves the header, and an object's table, in before the children. */
static int put_header(struct doc_builder *b, const struct open_container *container)
{
    uint64_t children = b->out.len - container->start, body = children;
    uint32_t count = container->count;
    unsigned width = 1;
    if (container->object) {
        for (; width <= 4; width *= 2) {
            body = children + (uint64_t)count * width;
            if (width == 4 || doc_offset_width((uint32_t)body) == width)
                break;
        }
    }
    uint8_t header[HEADER_MAX];
    header[0] = container->object ? DOC_TAG_OBJECT : DOC_TAG_ARRAY;
    if (body > b->bytes_max)
        return fail(b, PDB_INVALID_ARGUMENT, "document too large");
    size_t header_bytes = 1 + put_varint(header + 1, (uint32_t)body);
    header_bytes += put_varint(header + header_bytes, count);
    size_t more = header_bytes + (size_t)(body - children);
    if (reserve(b, more) == NULL)
        return b->rc;
    uint8_t *at = (uint8_t *)b->out.ptr + container->start;
    memmove(at + more, at, (size_t)children);
    memcpy(at, header, header_bytes);
    if (container->object && count != 0)
        put_table(at + header_bytes, width, b->entries + container->entry_first, count);
    b->out.len += more;
    return 0;
}

int doc_end(struct doc_builder *b)
{
    if (b->rc < 0)
        return b->rc;
    if (b->depth == 0 || b->open[b->depth - 1].has_key)
        return fail(b, PDB_INVALID_ARGUMENT, "an end where none may be");
    const struct open_container *container = &b->open[--b->depth];
    int rc = container->object ? order_children(b, container) : 0;
    if (rc < 0 || (rc = put_header(b, container)) < 0)
        return rc;
    b->entry_count = container->entry_first;
    return 0;
}

/* ---- copies ---- */

/* Containers within each other, itself included. */
static unsigned container_height(const struct doc_value *container)
{
    struct doc_iter open[DOC_DEPTH_MAX];
    unsigned depth = 1, height = 1;
    open[0] = doc_iterate(container);
    while (depth > 0) {
        struct doc_value value;
        if (!doc_next(&open[depth - 1], NULL, &value)) {
            depth--;
        } else if ((value.type == DOC_ARRAY || value.type == DOC_OBJECT) && depth < DOC_DEPTH_MAX) {
            open[depth++] = doc_iterate(&value);
            height = depth > height ? depth : height;
        }
    }
    return height;
}

/* One value has one encoding, wherever it lies: the body is copied as it is. */
static int add_container(struct doc_builder *b, const struct doc_value *value)
{
    int rc = begin_value(b);
    if (rc < 0)
        return rc;
    if (b->depth + container_height(value) > DOC_DEPTH_MAX)
        return fail(b, PDB_INVALID_ARGUMENT, "nested too deeply");
    uint32_t body_bytes = value->children.body_bytes;
    uint8_t header[HEADER_MAX];
    header[0] = value->type == DOC_OBJECT ? DOC_TAG_OBJECT : DOC_TAG_ARRAY;
    size_t header_bytes = 1 + put_varint(header + 1, body_bytes);
    header_bytes += put_varint(header + header_bytes, value->children.count);
    uint8_t *at = reserve(b, header_bytes + body_bytes);
    if (at == NULL)
        return b->rc;
    memcpy(at, header, header_bytes);
    if (body_bytes != 0)
        memcpy(at + header_bytes, value->children.body, body_bytes);
    b->out.len += header_bytes + body_bytes;
    return 0;
}

int doc_add_value(struct doc_builder *b, const struct doc_value *value)
{
    switch (value->type) {
    case DOC_NULL:
        return doc_add_null(b);
    case DOC_BOOL:
        return doc_add_bool(b, value->boolean);
    case DOC_INT:
        return doc_add_int(b, value->integer);
    case DOC_FLOAT:
        return doc_add_float(b, value->number);
    case DOC_STRING:
        return doc_add_string(b, value->string);
    case DOC_ARRAY:
    case DOC_OBJECT:
        return add_container(b, value);
    }
    return fail(b, PDB_INVALID_ARGUMENT, "a value of no known type");
}

int doc_builder_finish(struct doc_builder *b, struct pdb_text *bytes_out, const char **what_out)
{
    if (b->rc == 0 && (b->depth > 0 || !b->has_root))
        fail(b, PDB_INVALID_ARGUMENT, b->depth > 0 ? "a container without an end" : "no value");
    int rc = b->rc;
    if (what_out != NULL)
        *what_out = b->what;
    if (rc == 0) {
        char *kept = arena_grow(b->arena, b->out.ptr, b->out.capacity, b->out.len);
        *bytes_out = (struct pdb_text){kept != NULL ? kept : b->out.ptr, b->out.len};
    }
    start_over(b);
    return rc;
}
