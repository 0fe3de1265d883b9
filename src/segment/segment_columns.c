/* segment_columns.c: a document becomes values of typed columns and the JSON of what is left, and
 * both become the same bytes again. Which value goes where: docs/formats/segment.md.
 *
 * A value is taken out of the JSON only where putting it back needs no memory of where it was: the
 * column can hold it exactly, and its place is the plain path of the column's name, with no key on
 * the way that has dots of its own. Objects are never taken, so that the way is still there when
 * the value returns; a document has one encoding, so that the order of insertion does not matter.
 * Everything else is a copy: the column shows it to whoever queries the file, and the JSON, which
 * has it too, wins. So an exotic document costs some bytes, never its exactness. */
#include "segment/segment_columns_internal.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/json.h"

#include <stdio.h>
#include <strings.h>

#include "base/no_libc_heap.h"

/* ---- names ---- */

/* Names of the file's own columns, and what all names with dots behind "metadata" are kept for. */
static bool is_reserved(struct pdb_text name)
{
    static const char *const own[] = {"id",         "version",  "created_at", "updated_at",
                                      "expires_at", "metadata", "vector"};
    static const char *const prefixes[] = {"vector_", "metadata."};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (strlen(own[i]) == name.len && strncasecmp(own[i], name.ptr, name.len) == 0)
            return true;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        size_t len = strlen(prefixes[i]);
        if (len <= name.len && strncasecmp(prefixes[i], name.ptr, len) == 0)
            return true;
    }
    return false;
}

static char *parquet_name(struct heap *heap, struct pdb_text name)
{
    static const char prefix[] = "metadata.";
    size_t skip = is_reserved(name) ? sizeof(prefix) - 1 : 0;
    char *text = heap_alloc(heap, skip + name.len + 1);
    if (text == NULL)
        return NULL;
    memcpy(text, prefix, skip);
    memcpy(text + skip, name.ptr, name.len);
    text[skip + name.len] = '\0';
    return text;
}

static int init_parts(struct heap *heap, struct segment_column *column)
{
    uint32_t count = 1;
    for (size_t i = 0; i < column->name.len; i++)
        count += column->name.ptr[i] == '.';
    column->parts = heap_calloc(heap, count, sizeof(*column->parts));
    if (column->parts == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    size_t from = 0;
    for (uint32_t p = 0; p < count; p++) {
        size_t to = from;
        while (to < column->name.len && column->name.ptr[to] != '.')
            to++;
        if (to == from || count > DOC_DEPTH_MAX)
            return 0; /* part_count stays 0 */
        column->parts[p] = (struct pdb_text){column->name.ptr + from, to - from};
        from = to + 1;
    }
    column->part_count = count;
    return 0;
}

int segment_columns_init(struct segment_columns *c, struct heap *heap,
                         const struct pdb_column *columns, uint32_t column_count)
{
    *c = (struct segment_columns){.heap = heap};
    c->all = heap_calloc(heap, column_count, sizeof(*c->all));
    if (c->all == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t i = 0; i < column_count; i++) {
        if (columns[i].name.len == 0 || columns[i].type == PDB_COLUMN_UNSPECIFIED ||
            memchr(columns[i].name.ptr, '\0', columns[i].name.len) != NULL)
            continue;
        struct segment_column *column = &c->all[c->count++];
        *column = (struct segment_column){.name = columns[i].name, .type = columns[i].type};
        column->parquet_name = parquet_name(heap, column->name);
        if (column->parquet_name == NULL || init_parts(heap, column) < 0)
            return PDB_RESOURCE_EXHAUSTED;
    }
    return 0;
}

void segment_columns_dispose(struct segment_columns *c)
{
    for (uint32_t i = 0; i < c->count; i++) {
        heap_free(c->heap, c->all[i].parquet_name);
        heap_free(c->heap, c->all[i].parts);
    }
    heap_free(c->heap, c->all);
    *c = (struct segment_columns){0};
}

/* ---- values ---- */

double segment_float_of(const struct doc_value *value)
{
    return value->type == DOC_INT ? (double)value->integer : value->number;
}

/* The one way a time is written that its microseconds bring back: with Z, and with no, three or six
 * digits of a fraction, as few as will do. */
static size_t time_text(int64_t us, char text_out[CLOCK_TEXT_SIZE])
{
    clock_format_us(us, text_out);
    size_t len = us % 1000000 == 0 ? 20 : us % 1000 == 0 ? 24 : 27;
    text_out[len - 1] = 'Z';
    return len;
}

static bool split_time(struct pdb_text text, struct segment_value *out)
{
    char canonical[CLOCK_TEXT_SIZE];
    if (clock_parse(text.ptr, text.len, &out->integer) != 0)
        return false;
    size_t len = 0;
    if (text.len >= 20 && text.len <= 27)
        len = time_text(out->integer, canonical);
    out->taken = text_equal(text, (struct pdb_text){canonical, len});
    return true;
}

static bool is_number(const struct doc_value *value)
{
    return value->type == DOC_INT || value->type == DOC_FLOAT;
}

static bool split_list(enum pdb_column_type type, const struct doc_value *value,
                       struct segment_value *out)
{
    if (value->type != DOC_ARRAY)
        return false;
    struct doc_iter iter = doc_iterate(value);
    struct doc_value item;
    enum doc_type wanted = type == PDB_COLUMN_STRING_LIST    ? DOC_STRING
                           : type == PDB_COLUMN_INTEGER_LIST ? DOC_INT
                                                             : DOC_FLOAT;
    out->taken = true;
    out->list = *value;
    while (doc_next(&iter, NULL, &item)) {
        if (item.type != wanted && !(wanted == DOC_FLOAT && item.type == DOC_INT))
            return false;
        out->taken = out->taken && item.type == wanted;
    }
    return true;
}

static bool split_geo(const struct doc_value *value, struct segment_value *out)
{
    struct doc_value lat, lon;
    if (value->type != DOC_OBJECT || value->children.count != 2 ||
        !doc_get(value, TEXT_LIT("lat"), &lat) || !doc_get(value, TEXT_LIT("lon"), &lon) ||
        !is_number(&lat) || !is_number(&lon))
        return false;
    out->taken = false; /* objects are the way to other columns */
    out->lat = segment_float_of(&lat);
    out->lon = segment_float_of(&lon);
    return true;
}

/* True: the column can show it; out->taken: and give it back as it is. */
static bool split_value(enum pdb_column_type type, const struct doc_value *value,
                        struct segment_value *out)
{
    out->taken = true;
    switch (type) {
    case PDB_COLUMN_STRING:
    case PDB_COLUMN_TEXT:
        out->text = value->string;
        return value->type == DOC_STRING;
    case PDB_COLUMN_INTEGER:
        out->integer = value->integer;
        return value->type == DOC_INT;
    case PDB_COLUMN_FLOAT:
        out->taken = value->type == DOC_FLOAT;
        if (is_number(value))
            out->number = segment_float_of(value);
        return is_number(value);
    case PDB_COLUMN_BOOLEAN:
        out->boolean = value->type == DOC_BOOL && value->boolean;
        return value->type == DOC_BOOL;
    case PDB_COLUMN_DATETIME:
        return value->type == DOC_STRING && split_time(value->string, out);
    case PDB_COLUMN_STRING_LIST:
    case PDB_COLUMN_INTEGER_LIST:
    case PDB_COLUMN_FLOAT_LIST:
        return split_list(type, value, out);
    case PDB_COLUMN_GEO:
        return split_geo(value, out);
    case PDB_COLUMN_UNSPECIFIED:
        break;
    }
    return false;
}

/* The name is found on its plain path, and no key with dots stands beside it on the way. */
static bool on_plain_path(const struct segment_column *column, const struct doc_value *root)
{
    struct doc_value object = *root, value;
    const char *end = column->name.ptr + column->name.len;
    for (uint32_t p = 0; p < column->part_count; p++) {
        const char *from = column->parts[p].ptr;
        for (uint32_t q = p + 1; q < column->part_count; q++) {
            const char *to = q + 1 < column->part_count ? column->parts[q + 1].ptr - 1 : end;
            if (doc_get(&object, (struct pdb_text){from, (size_t)(to - from)}, &value))
                return false;
        }
        if (!doc_get(&object, column->parts[p], &value))
            return false;
        object = value;
    }
    return column->part_count > 0;
}

void segment_columns_split(const struct segment_columns *c, struct pdb_text document,
                           struct segment_value *values_out)
{
    struct doc_value root = doc_root(document.ptr, document.len), value;
    for (uint32_t i = 0; i < c->count; i++) {
        const struct segment_column *column = &c->all[i];
        struct segment_value *out = &values_out[i];
        *out = (struct segment_value){0};
        if (!doc_find(&root, column->name, &value) || !split_value(column->type, &value, out))
            continue;
        out->there = true;
        if (out->taken && column->part_count != 1)
            out->taken = on_plain_path(column, &root);
    }
}

/* ---- walking a document beside the columns' paths ---- */

/* One way down a document: at each depth, which columns have come along. */
struct walk {
    const struct segment_columns *columns;
    const bool *wanted;              /* of each column */
    uint8_t matched[PDB_COLUMN_MAX]; /* parts of its path that lead to where the walk stands */
    struct doc_iter open[DOC_DEPTH_MAX];
    unsigned depth; /* containers open */
};

static void walk_begin(struct walk *w, const struct segment_columns *columns, const bool *wanted,
                       const struct doc_value *root)
{
    ASSERT(columns->count <= PDB_COLUMN_MAX);
    w->columns = columns;
    w->wanted = wanted;
    memset(w->matched, 0, columns->count);
    w->open[0] = doc_iterate(root);
    w->depth = 1;
}

/* A wanted column that stands at the innermost object and whose next part is `key`; `last`: it ends
 * there, else it goes on below. -1: none. */
static int64_t walk_match(const struct walk *w, struct pdb_text key, bool last)
{
    unsigned level = w->depth - 1;
    for (uint32_t i = 0; i < w->columns->count; i++) {
        const struct segment_column *column = &w->columns->all[i];
        if (w->wanted[i] && w->matched[i] == level && column->part_count > level &&
            (column->part_count == level + 1) == last && text_equal(column->parts[level], key))
            return i;
    }
    return -1;
}

static void walk_enter(struct walk *w, struct pdb_text key, const struct doc_value *object)
{
    ASSERT(w->depth < DOC_DEPTH_MAX);
    unsigned level = w->depth - 1;
    for (uint32_t i = 0; i < w->columns->count; i++) {
        const struct segment_column *column = &w->columns->all[i];
        if (w->matched[i] == level && column->part_count > level + 1 &&
            text_equal(column->parts[level], key))
            w->matched[i]++;
    }
    w->open[w->depth++] = doc_iterate(object);
}

static void walk_leave(struct walk *w)
{
    unsigned level = --w->depth;
    for (uint32_t i = 0; i < w->columns->count; i++)
        if (level > 0 && w->matched[i] == level)
            w->matched[i]--;
}

/* ---- the rest as JSON ---- */

static void write_rest(struct walk *w, struct buffer *json)
{
    bool first = true;
    struct pdb_text key;
    struct doc_value value;
    buffer_add_byte(json, '{');
    while (w->depth > 0) {
        if (!doc_next(&w->open[w->depth - 1], &key, &value)) {
            buffer_add_byte(json, '}');
            walk_leave(w);
            first = false;
            continue;
        }
        if (walk_match(w, key, true) >= 0)
            continue;
        if (!first)
            buffer_add_byte(json, ',');
        json_write_string(json, key);
        buffer_add_byte(json, ':');
        first = value.type == DOC_OBJECT && walk_match(w, key, false) >= 0;
        if (first) {
            walk_enter(w, key, &value);
            buffer_add_byte(json, '{');
        } else {
            doc_write_json(json, &value);
        }
    }
}

bool segment_columns_rest(const struct segment_columns *c, struct pdb_text document,
                          const struct segment_value *values, struct buffer *json)
{
    bool taken[PDB_COLUMN_MAX], any = false, nested = false;
    struct doc_value root = doc_root(document.ptr, document.len);
    uint32_t taken_count = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        taken[i] = values[i].there && values[i].taken;
        any |= taken[i];
        taken_count += taken[i];
        nested |= taken[i] && c->all[i].part_count > 1;
    }
    /* Without a taken value a null is the document of no bytes, {} the one that says so. */
    if (document.len == 0 || (any && !nested && root.children.count == taken_count))
        return false;
    if (any) {
        struct walk w;
        walk_begin(&w, c, taken, &root);
        write_rest(&w, json);
    } else {
        doc_write_json(json, &root);
    }
    return true;
}

/* ---- and back ---- */

static void add_items(struct doc_builder *b, enum pdb_column_type type,
                      const struct segment_value *value)
{
    (void)doc_begin_array(b);
    for (size_t i = 0; i < value->items.count; i++) {
        if (type == PDB_COLUMN_STRING_LIST)
            (void)doc_add_string(b, ((const struct pdb_text *)value->items.ptr)[i]);
        else if (type == PDB_COLUMN_INTEGER_LIST)
            (void)doc_add_int(b, ((const int64_t *)value->items.ptr)[i]);
        else
            (void)doc_add_float(b, ((const double *)value->items.ptr)[i]);
    }
    (void)doc_end(b);
}

/* Errors stick in the builder. */
static void add_value(struct doc_builder *b, enum pdb_column_type type,
                      const struct segment_value *value)
{
    char text[CLOCK_TEXT_SIZE];
    switch (type) {
    case PDB_COLUMN_STRING:
    case PDB_COLUMN_TEXT:
        (void)doc_add_string(b, value->text);
        return;
    case PDB_COLUMN_INTEGER:
        (void)doc_add_int(b, value->integer);
        return;
    case PDB_COLUMN_FLOAT:
        (void)doc_add_float(b, value->number);
        return;
    case PDB_COLUMN_BOOLEAN:
        (void)doc_add_bool(b, value->boolean);
        return;
    case PDB_COLUMN_DATETIME: {
        size_t len = time_text(value->integer, text);
        (void)doc_add_string(b, (struct pdb_text){text, len});
        return;
    }
    case PDB_COLUMN_STRING_LIST:
    case PDB_COLUMN_INTEGER_LIST:
    case PDB_COLUMN_FLOAT_LIST:
        add_items(b, type, value);
        return;
    case PDB_COLUMN_GEO:
    case PDB_COLUMN_UNSPECIFIED:
        return;
    }
}

/* Puts what belongs into the innermost object; how many that were. */
static uint32_t add_pending(const struct walk *w, struct doc_builder *b,
                            const struct segment_value *values)
{
    uint32_t added = 0;
    for (uint32_t i = 0; i < w->columns->count; i++) {
        const struct segment_column *column = &w->columns->all[i];
        if (!w->wanted[i] || w->matched[i] != w->depth - 1 || column->part_count != w->depth)
            continue;
        (void)doc_add_key(b, column->parts[w->depth - 1]);
        add_value(b, column->type, &values[i]);
        added++;
    }
    return added;
}

static uint32_t put_back(struct walk *w, struct doc_builder *b, const struct segment_value *values)
{
    uint32_t added = 0;
    struct pdb_text key;
    struct doc_value value;
    (void)doc_begin_object(b);
    while (w->depth > 0) {
        if (!doc_next(&w->open[w->depth - 1], &key, &value)) {
            added += add_pending(w, b, values);
            (void)doc_end(b);
            walk_leave(w);
            continue;
        }
        (void)doc_add_key(b, key);
        if (value.type == DOC_OBJECT && walk_match(w, key, false) >= 0) {
            walk_enter(w, key, &value);
            (void)doc_begin_object(b);
        } else {
            (void)doc_add_value(b, &value);
        }
    }
    return added;
}

static int finish_document(struct doc_builder *b, struct pdb_text *document_out,
                           struct trail *trail)
{
    const char *what = NULL;
    int rc = doc_builder_finish(b, document_out, &what);
    if (rc == PDB_INVALID_ARGUMENT)
        rc = PDB_DATA_LOSS;
    return rc == 0 ? 0 : trail_add(trail, rc, "metadata: %s", what != NULL ? what : "not valid");
}

static int parse_rest(struct pdb_text json, struct arena *arena, struct pdb_text *document_out,
                      struct trail *trail)
{
    struct trail why = {0};
    struct json_reader reader;
    struct doc_builder *b = doc_builder_new(arena, 0);
    if (b == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a document");
    json_open(&reader, json.ptr, json.len, DOC_DEPTH_MAX, &why);
    int rc = json_read_doc(&reader, b);
    if (rc == 0)
        rc = json_finish(&reader);
    if (rc < 0)
        return trail_add(trail, rc == PDB_INVALID_ARGUMENT ? PDB_DATA_LOSS : rc, "metadata: %s",
                         why.text);
    rc = finish_document(b, document_out, trail);
    if (rc == 0 && doc_root(document_out->ptr, document_out->len).type != DOC_OBJECT)
        return trail_add(trail, PDB_DATA_LOSS, "metadata: not an object");
    return rc;
}

int segment_columns_join(const struct segment_columns *c, const struct pdb_text *json,
                         const struct segment_value *values, struct arena *arena,
                         struct pdb_text *document_out, struct trail *trail)
{
    struct pdb_text rest = {NULL, 0};
    int rc = json != NULL ? parse_rest(*json, arena, &rest, trail) : 0;
    if (rc < 0)
        return rc;
    bool pending[PDB_COLUMN_MAX];
    uint32_t pending_count = 0;
    struct doc_value root = doc_root(rest.ptr, rest.len), value;
    for (uint32_t i = 0; i < c->count; i++) {
        const struct segment_column *column = &c->all[i];
        pending[i] = values[i].there && column->type != PDB_COLUMN_GEO && column->part_count > 0 &&
                     !doc_find(&root, column->name, &value);
        pending_count += pending[i];
    }
    if (pending_count == 0) {
        *document_out = rest;
        return 0;
    }
    struct walk w;
    struct doc_builder *b = doc_builder_new(arena, 0);
    if (b == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a document");
    walk_begin(&w, c, pending, &root);
    if (put_back(&w, b, values) != pending_count)
        return trail_add(trail, PDB_DATA_LOSS,
                         "metadata: a column's value has no object to return to");
    return finish_document(b, document_out, trail);
}
