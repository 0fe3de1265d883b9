/* export_parquet.c: records as a Parquet file with the columns of a segment
 * (docs/formats/segment.md).
 *
 * A row group is gathered in memory, then written column by column. The metadata column holds the
 * whole document; declared columns show what a filter would find under their names, for those who
 * query the file. The key "proximadb.schema" says what is what, so that an import finds fields and
 * columns again. */
#include "base/clock.h"
#include "base/heap.h"
#include "base/json.h"
#include "server/export_writer.h"

#include <pqfile/pqfile.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum {
    GROUP_BYTES = 32 << 20,
    GROUP_ROWS_MAX = 65536,
    FIELDS_BEFORE = 5, /* id, version and times */
    FIELDS_EACH_MAX = 3,
};

struct row {
    struct pdb_text id, metadata, document;
    int64_t version, created_at_us, updated_at_us, expires_at_us;
    const void *vectors[]; /* of each field; NULL: none */
};

struct parquet_writer {
    struct export_writer writer; /* first */
    const struct transfer_collection *collection;
    struct pqfile_writer *file;
    struct trail trail;  /* of the sink */
    struct arena schema; /* of the file */
    struct arena group;
    struct row **rows;
    size_t row_count, group_bytes;
    struct buffer json;
};

static struct parquet_writer *of(struct export_writer *writer)
{
    return (struct parquet_writer *)(void *)writer;
}

/* ---- schema ---- */

struct fields {
    struct pqfile_field *all;
    size_t count;
};

static const struct pqfile_column_options compact = {.codec = PQFILE_ZSTD};
static const struct pqfile_column_options dictionary = {.encoding = PQFILE_RLE_DICTIONARY,
                                                        .codec = PQFILE_ZSTD};
static const struct pqfile_column_options vector_options = {.no_statistics = true};
static const struct pqfile_column_options byte_options = {
    .encoding = PQFILE_RLE_DICTIONARY, .as_bytes = true, .no_statistics = true};
static const struct pqfile_logical logical_half = {.kind = PQFILE_LOGICAL_FLOAT16};
static const struct pqfile_logical logical_byte = {
    .kind = PQFILE_LOGICAL_INTEGER, .bits = 8, .is_signed = true};
static const struct pqfile_logical logical_string = {.kind = PQFILE_LOGICAL_STRING};
static const struct pqfile_logical logical_list = {.kind = PQFILE_LOGICAL_LIST};
static const struct pqfile_logical logical_json = {.kind = PQFILE_LOGICAL_JSON};
static const struct pqfile_logical logical_u64 = {.kind = PQFILE_LOGICAL_INTEGER, .bits = 64};
static const struct pqfile_logical logical_none = {.kind = PQFILE_LOGICAL_NONE};
static const struct pqfile_logical logical_time = {
    .kind = PQFILE_LOGICAL_TIMESTAMP, .unit = PQFILE_MICROS, .utc = true};

static void add_leaf(struct fields *f, const char *name, enum pqfile_repetition repetition,
                     enum pqfile_type type, const struct pqfile_logical *logical)
{
    f->all[f->count++] = (struct pqfile_field){
        .name = name,
        .repetition = repetition,
        .type = type,
        .logical = *logical,
        .options = logical->kind == PQFILE_LOGICAL_STRING ? &dictionary : &compact};
}

static void add_list(struct fields *f, const char *name, uint32_t list_size, enum pqfile_type type,
                     const struct pqfile_logical *logical)
{
    f->all[f->count++] = (struct pqfile_field){.name = name,
                                               .repetition = PQFILE_OPTIONAL,
                                               .child_count = 1,
                                               .list_size = list_size,
                                               .logical = logical_list};
    f->all[f->count++] =
        (struct pqfile_field){.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1};
    add_leaf(f, "element", PQFILE_REQUIRED, type, logical);
    if (list_size != 0)
        f->all[f->count - 1].options = &vector_options;
}

enum kind { KIND_TEXT, KIND_INTEGER, KIND_FLOAT, KIND_BOOLEAN, KIND_DATETIME, KIND_GEO };

/* Of a declared type; *list_out: a list of them. */
static enum kind kind_of(struct pdb_text type, bool *list_out)
{
    *list_out = type.len > 2 && type.ptr[type.len - 1] == ']';
    struct pdb_text element = {type.ptr, type.len - (*list_out ? 2 : 0)};
    if (text_equal(element, TEXT_LIT("integer")))
        return KIND_INTEGER;
    if (text_equal(element, TEXT_LIT("float")))
        return KIND_FLOAT;
    if (text_equal(element, TEXT_LIT("boolean")))
        return KIND_BOOLEAN;
    if (text_equal(element, TEXT_LIT("datetime")))
        return KIND_DATETIME;
    return text_equal(element, TEXT_LIT("geo")) ? KIND_GEO : KIND_TEXT;
}

static enum pqfile_type type_of(enum kind kind)
{
    static const enum pqfile_type types[] = {
        [KIND_TEXT] = PQFILE_BYTE_ARRAY, [KIND_INTEGER] = PQFILE_INT64,
        [KIND_FLOAT] = PQFILE_DOUBLE,    [KIND_BOOLEAN] = PQFILE_BOOLEAN,
        [KIND_DATETIME] = PQFILE_INT64,  [KIND_GEO] = PQFILE_DOUBLE};
    return types[kind];
}

static void add_declared(struct fields *f, const char *name, struct pdb_text type)
{
    bool list;
    enum kind kind = kind_of(type, &list);
    const struct pqfile_logical *logical = kind == KIND_TEXT       ? &logical_string
                                           : kind == KIND_DATETIME ? &logical_time
                                                                   : &logical_none;
    if (list) {
        add_list(f, name, 0, type_of(kind), logical);
    } else if (kind == KIND_GEO) {
        f->all[f->count++] =
            (struct pqfile_field){.name = name, .repetition = PQFILE_OPTIONAL, .child_count = 2};
        add_leaf(f, "lat", PQFILE_REQUIRED, PQFILE_DOUBLE, &logical_none);
        add_leaf(f, "lon", PQFILE_REQUIRED, PQFILE_DOUBLE, &logical_none);
    } else {
        add_leaf(f, name, PQFILE_OPTIONAL, type_of(kind), logical);
    }
}

/* As a segment calls it: names that are ours, or look like it, get a prefix. */
static const char *column_name(struct arena *arena, struct pdb_text name)
{
    static const char *const taken[] = {"id",         "version",  "created_at", "updated_at",
                                        "expires_at", "metadata", "vector"};
    const char *text = arena_copy_text(arena, name.ptr, name.len).ptr;
    bool prefix = text != NULL &&
                  (strncasecmp(text, "vector_", 7) == 0 || strncasecmp(text, "metadata.", 9) == 0);
    for (size_t i = 0; text != NULL && i < sizeof(taken) / sizeof(taken[0]); i++)
        prefix = prefix || strcasecmp(text, taken[i]) == 0;
    return prefix ? arena_format(arena, "metadata.%s", text).ptr : text;
}

static const char *vector_name(struct arena *arena, struct pdb_text field)
{
    return field.len == 0 ? "vector" : arena_format(arena, "vector_%.*s", TEXT_ARG(field)).ptr;
}

/* Names of columns, of declared ones and then of vectors; NULL without memory. */
static const char **make_names(struct parquet_writer *p)
{
    const struct transfer_collection *c = p->collection;
    const char **names =
        arena_array(&p->schema, const char *, (size_t)c->column_count + c->field_count);
    bool ok = names != NULL;
    for (uint32_t i = 0; ok && i < c->column_count; i++)
        ok = (names[i] = column_name(&p->schema, c->columns[i].name)) != NULL;
    for (uint32_t i = 0; ok && i < c->field_count; i++)
        ok = (names[c->column_count + i] = vector_name(&p->schema, c->fields[i].name)) != NULL;
    return ok ? names : NULL;
}

/* As a segment has them (docs/decisions/0024). */
static void add_vectors(struct fields *f, const char *name, const struct transfer_field *field)
{
    switch (export_value_of(field)) {
    case EXPORT_FLOATS:
        add_list(f, name, field->dimension, PQFILE_FLOAT, &logical_none);
        break;
    case EXPORT_HALVES:
        add_list(f, name, field->dimension, PQFILE_FIXED_LEN_BYTE_ARRAY, &logical_half);
        f->all[f->count - 1].type_length = 2;
        break;
    case EXPORT_BYTES:
        add_list(f, name, field->dimension, PQFILE_INT32, &logical_byte);
        f->all[f->count - 1].options = &byte_options;
        break;
    case EXPORT_BITS:
        add_leaf(f, name, PQFILE_OPTIONAL, PQFILE_FIXED_LEN_BYTE_ARRAY, &logical_none);
        f->all[f->count - 1].type_length = (uint32_t)export_vector_bytes(field);
        break;
    }
}

static void make_fields(const struct transfer_collection *c, const char *const *names,
                        struct fields *f)
{
    add_leaf(f, "id", PQFILE_REQUIRED, PQFILE_BYTE_ARRAY, &logical_string);
    f->all[0].options = &compact;
    add_leaf(f, "version", PQFILE_REQUIRED, PQFILE_INT64, &logical_u64);
    add_leaf(f, "created_at", PQFILE_REQUIRED, PQFILE_INT64, &logical_time);
    add_leaf(f, "updated_at", PQFILE_REQUIRED, PQFILE_INT64, &logical_time);
    add_leaf(f, "expires_at", PQFILE_OPTIONAL, PQFILE_INT64, &logical_time);
    for (uint32_t i = 0; i < c->column_count; i++)
        add_declared(f, names[i], c->columns[i].type);
    add_leaf(f, "metadata", PQFILE_OPTIONAL, PQFILE_BYTE_ARRAY, &logical_json);
    for (uint32_t i = 0; i < c->field_count; i++) {
        const char *name = names[c->column_count + i];
        add_vectors(f, name, &c->fields[i]);
    }
}

static void write_schema(const struct transfer_collection *c, const char *const *names,
                         struct buffer *json)
{
    buffer_add_lit(json, "{\"fields\":[");
    for (uint32_t i = 0; i < c->field_count; i++) {
        buffer_add_text(json, i > 0 ? TEXT_LIT(",{\"name\":") : TEXT_LIT("{\"name\":"));
        json_write_string(json, c->fields[i].name);
        buffer_add_lit(json, ",\"column\":");
        json_write_string(json, text_of(names[c->column_count + i]));
        buffer_format(json, ",\"dimension\":%u,\"metric\":", c->fields[i].dimension);
        json_write_string(json, c->fields[i].metric);
        if (c->fields[i].type.len != 0) {
            buffer_add_lit(json, ",\"type\":");
            json_write_string(json, c->fields[i].type);
        }
        buffer_add_byte(json, '}');
    }
    buffer_add_lit(json, "],\"columns\":[");
    for (uint32_t i = 0; i < c->column_count; i++) {
        buffer_add_text(json, i > 0 ? TEXT_LIT(",{\"name\":") : TEXT_LIT("{\"name\":"));
        json_write_string(json, c->columns[i].name);
        buffer_add_lit(json, ",\"column\":");
        json_write_string(json, text_of(names[i]));
        buffer_add_lit(json, ",\"type\":");
        json_write_string(json, c->columns[i].type);
        buffer_add_byte(json, '}');
    }
    buffer_add_lit(json, "]}");
}

/* ---- one row ---- */

static struct pdb_text copy_json(struct parquet_writer *p, struct pdb_text document)
{
    struct doc_value root = doc_root(document.ptr, document.len);
    p->json.len = 0;
    doc_write_json(&p->json, &root);
    if (p->json.failed)
        return (struct pdb_text){NULL, 0};
    return arena_copy_text(&p->group, p->json.ptr, p->json.len);
}

static int write_group(struct parquet_writer *p, struct trail *trail);

static bool copy_vectors(struct parquet_writer *p, const void *const *vectors, struct row *row)
{
    const struct transfer_collection *c = p->collection;
    for (uint32_t i = 0; i < c->field_count; i++) {
        size_t bytes = export_vector_bytes(&c->fields[i]);
        if (vectors[i] == NULL)
            continue;
        void *copy = arena_alloc(&p->group, bytes);
        if (copy == NULL)
            return false;
        export_vector_copy(&c->fields[i], vectors[i], copy);
        row->vectors[i] = copy;
        p->group_bytes += bytes;
    }
    return true;
}

static int add(struct export_writer *writer, const struct pdb_row *from, struct trail *trail)
{
    struct parquet_writer *p = of(writer);
    const struct transfer_collection *c = p->collection;
    struct row *row =
        arena_calloc(&p->group, 1, sizeof(*row) + c->field_count * sizeof(row->vectors[0]));
    if (row == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    row->id = arena_copy_text(&p->group, from->id.ptr, from->id.len);
    row->metadata = copy_json(p, from->metadata);
    if (c->column_count != 0)
        row->document = arena_copy_text(&p->group, from->metadata.ptr, from->metadata.len);
    row->version = (int64_t)from->version;
    row->created_at_us = from->created_at_us;
    row->updated_at_us = from->updated_at_us;
    row->expires_at_us = from->expires_at_us;
    if (row->id.ptr == NULL || row->metadata.ptr == NULL ||
        (c->column_count != 0 && row->document.ptr == NULL) || !copy_vectors(p, from->vectors, row))
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    p->rows[p->row_count++] = row;
    p->group_bytes += sizeof(*row) + row->id.len + row->metadata.len * 2;
    int rc = 0;
    if (p->row_count == GROUP_ROWS_MAX || p->group_bytes >= GROUP_BYTES)
        rc = write_group(p, trail);
    return rc < 0 ? rc : 1;
}

/* ---- columns ---- */

/* Values of one column of a row group, gathered. */
struct gathered {
    uint8_t *definition, *repetition;
    char *values;
    size_t levels, count, capacity, value_size;
    bool failed;
};

static void reserve(struct gathered *g, size_t capacity)
{
    uint8_t *definition = heap_realloc(NULL, g->definition, capacity);
    g->definition = definition != NULL ? definition : g->definition;
    uint8_t *repetition = heap_realloc(NULL, g->repetition, capacity);
    g->repetition = repetition != NULL ? repetition : g->repetition;
    char *values = heap_realloc(NULL, g->values, capacity * g->value_size);
    g->values = values != NULL ? values : g->values;
    g->failed = definition == NULL || repetition == NULL || values == NULL;
    g->capacity = g->failed ? g->capacity : capacity;
}

static void put(struct gathered *g, int definition, int repetition, const void *value)
{
    if (g->levels == g->capacity)
        reserve(g, g->capacity != 0 ? g->capacity * 2 : 1024);
    if (g->failed)
        return;
    g->definition[g->levels] = (uint8_t)definition;
    g->repetition[g->levels++] = (uint8_t)repetition;
    if (value != NULL)
        memcpy(g->values + g->count++ * g->value_size, value, g->value_size);
}

static int pq_fail(struct parquet_writer *p, const struct pqfile_error *error, struct trail *trail)
{
    if (p->trail.code != 0)
        return trail_add(trail, p->trail.code, "%s", p->trail.text);
    return trail_add(trail, error->code == PQFILE_NO_MEMORY ? PDB_RESOURCE_EXHAUSTED : PDB_INTERNAL,
                     "%s", error->message);
}

/* Writes the column and lets go of it. */
static int flush(struct parquet_writer *p, struct gathered *g, struct trail *trail)
{
    struct pqfile_error error;
    const struct pqfile_batch batch = {.row_count = p->row_count,
                                       .level_count = g->levels,
                                       .value_count = g->count,
                                       .definition = g->definition,
                                       .repetition = g->repetition,
                                       .values = g->values};
    int rc = g->failed ? trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory") : 0;
    if (rc == 0 && (pqfile_write(p->file, &batch, &error) < 0 ||
                    pqfile_writer_end_column(p->file, NULL, &error) < 0))
        rc = pq_fail(p, &error, trail);
    heap_free(NULL, g->definition);
    heap_free(NULL, g->repetition);
    heap_free(NULL, g->values);
    return rc;
}

static int write_texts(struct parquet_writer *p, size_t at, bool optional, struct trail *trail)
{
    struct gathered g = {.value_size = sizeof(struct pqfile_bytes)};
    for (size_t i = 0; i < p->row_count; i++) {
        struct pdb_text text;
        memcpy(&text, (const char *)p->rows[i] + at, sizeof(text));
        struct pqfile_bytes bytes = {(const uint8_t *)text.ptr, text.len};
        bool null = optional && text.len == 0;
        put(&g, optional && !null ? 1 : 0, 0, null ? NULL : &bytes);
    }
    return flush(p, &g, trail);
}

static int write_numbers(struct parquet_writer *p, size_t at, bool optional, struct trail *trail)
{
    struct gathered g = {.value_size = sizeof(int64_t)};
    for (size_t i = 0; i < p->row_count; i++) {
        int64_t number;
        memcpy(&number, (const char *)p->rows[i] + at, sizeof(number));
        bool null = optional && number == 0;
        put(&g, optional && !null ? 1 : 0, 0, null ? NULL : &number);
    }
    return flush(p, &g, trail);
}

/* A value of a document as one of a column; false: it is of another type. */
union scalar {
    struct pqfile_bytes bytes;
    int64_t integer;
    double number;
    uint8_t boolean;
};

static bool convert(const struct doc_value *value, enum kind kind, union scalar *scalar_out)
{
    switch (kind) {
    case KIND_TEXT:
        scalar_out->bytes =
            (struct pqfile_bytes){(const uint8_t *)value->string.ptr, value->string.len};
        return value->type == DOC_STRING;
    case KIND_INTEGER:
        scalar_out->integer = value->integer;
        return value->type == DOC_INT;
    case KIND_FLOAT:
    case KIND_GEO:
        scalar_out->number = value->type == DOC_INT ? (double)value->integer : value->number;
        return value->type == DOC_INT || value->type == DOC_FLOAT;
    case KIND_BOOLEAN:
        scalar_out->boolean = value->boolean;
        return value->type == DOC_BOOL;
    case KIND_DATETIME:
        return value->type == DOC_STRING &&
               clock_parse(value->string.ptr, value->string.len, &scalar_out->integer) == 0;
    }
    return false;
}

static void put_list(struct gathered *g, const struct doc_value *list, enum kind kind)
{
    struct doc_iter iter = doc_iterate(list);
    struct pdb_text key;
    struct doc_value value;
    union scalar scalar;
    bool fits = true;
    while (fits && doc_next(&iter, &key, &value))
        fits = convert(&value, kind, &scalar);
    if (!fits || list->children.count == 0) {
        put(g, fits ? 1 : 0, 0, NULL);
        return;
    }
    iter = doc_iterate(list);
    for (int repetition = 0; doc_next(&iter, &key, &value); repetition = 1) {
        (void)convert(&value, kind, &scalar);
        put(g, 2, repetition, &scalar);
    }
}

/* `part`: of a geo value, "lat" or "lon". */
static int write_declared(struct parquet_writer *p, const struct transfer_column *column,
                          const char *part, struct trail *trail)
{
    bool list;
    enum kind kind = kind_of(column->type, &list);
    struct gathered g = {.value_size = pqfile_value_size(type_of(kind), 0)};
    for (size_t i = 0; i < p->row_count; i++) {
        struct doc_value root = doc_root(p->rows[i]->document.ptr, p->rows[i]->document.len);
        struct doc_value value = {0}, lat = {0}, lon = {0};
        union scalar scalar;
        bool there = doc_find(&root, column->name, &value);
        if (list && there && value.type == DOC_ARRAY) {
            put_list(&g, &value, kind);
            continue;
        }
        if (there && part != NULL) { /* both or none */
            there = doc_get(&value, TEXT_LIT("lat"), &lat) &&
                    doc_get(&value, TEXT_LIT("lon"), &lon) && convert(&lat, kind, &scalar) &&
                    convert(&lon, kind, &scalar);
            value = there && strcmp(part, "lat") == 0 ? lat : there ? lon : value;
        }
        there = there && !list && convert(&value, kind, &scalar);
        put(&g, there ? 1 : 0, 0, there ? &scalar : NULL);
    }
    return flush(p, &g, trail);
}

static int write_vectors(struct parquet_writer *p, uint32_t f, struct trail *trail)
{
    struct pqfile_error error;
    const struct transfer_field *field = &p->collection->fields[f];
    if (field->bits) {
        struct gathered g = {.value_size = (field->dimension + 7) / 8};
        for (size_t i = 0; i < p->row_count; i++)
            put(&g, p->rows[i]->vectors[f] != NULL ? 1 : 0, 0, p->rows[i]->vectors[f]);
        return flush(p, &g, trail);
    }
    const void **rows = arena_array(&p->group, const void *, p->row_count);
    if (rows == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    for (size_t i = 0; i < p->row_count; i++)
        rows[i] = p->rows[i]->vectors[f];
    if (pqfile_write_vectors_at(p->file, rows, p->row_count, &error) < 0 ||
        pqfile_writer_end_column(p->file, NULL, &error) < 0)
        return pq_fail(p, &error, trail);
    return 0;
}

static int write_columns(struct parquet_writer *p, struct trail *trail)
{
    const struct transfer_collection *c = p->collection;
    int rc = write_texts(p, offsetof(struct row, id), false, trail);
    if (rc == 0)
        rc = write_numbers(p, offsetof(struct row, version), false, trail);
    if (rc == 0)
        rc = write_numbers(p, offsetof(struct row, created_at_us), false, trail);
    if (rc == 0)
        rc = write_numbers(p, offsetof(struct row, updated_at_us), false, trail);
    if (rc == 0)
        rc = write_numbers(p, offsetof(struct row, expires_at_us), true, trail);
    for (uint32_t i = 0; i < c->column_count && rc == 0; i++) {
        bool list;
        bool geo = kind_of(c->columns[i].type, &list) == KIND_GEO;
        rc = write_declared(p, &c->columns[i], geo ? "lat" : NULL, trail);
        if (rc == 0 && geo)
            rc = write_declared(p, &c->columns[i], "lon", trail);
    }
    if (rc == 0)
        rc = write_texts(p, offsetof(struct row, metadata), true, trail);
    for (uint32_t i = 0; i < c->field_count && rc == 0; i++)
        rc = write_vectors(p, i, trail);
    return rc;
}

static int write_group(struct parquet_writer *p, struct trail *trail)
{
    struct pqfile_error error;
    int rc = p->row_count != 0 ? write_columns(p, trail) : 0;
    if (rc == 0 && p->row_count != 0 && pqfile_writer_end_row_group(p->file, &error) < 0)
        rc = pq_fail(p, &error, trail);
    arena_reset(&p->group);
    p->row_count = 0;
    p->group_bytes = 0;
    return rc;
}

/* ---- life ---- */

static int finish(struct export_writer *writer, struct trail *trail)
{
    struct parquet_writer *p = of(writer);
    struct pqfile_error error;
    int rc = write_group(p, trail);
    if (rc == 0 && pqfile_writer_finish(p->file, NULL, &error) < 0)
        rc = pq_fail(p, &error, trail);
    return rc;
}

static void close_it(struct export_writer *writer)
{
    struct parquet_writer *p = of(writer);
    pqfile_writer_close(p->file);
    heap_free(NULL, p->rows);
    buffer_dispose(&p->json);
    arena_dispose(&p->group);
    arena_dispose(&p->schema);
    heap_free(NULL, p);
}

static int sink(void *context, const void *bytes, size_t len)
{
    struct parquet_writer *p = context;
    return export_write(&p->writer, p->writer.file, bytes, len, &p->trail);
}

static int open_file(struct parquet_writer *p, struct trail *trail)
{
    const struct transfer_collection *c = p->collection;
    struct pqfile_error error;
    struct buffer json;
    size_t most = FIELDS_BEFORE + 1 + ((size_t)c->column_count + c->field_count) * FIELDS_EACH_MAX;
    struct fields fields = {.all = arena_array(&p->schema, struct pqfile_field, most)};
    const char **names = make_names(p);
    p->rows = heap_calloc(NULL, GROUP_ROWS_MAX, sizeof(*p->rows));
    buffer_init_arena(&json, &p->schema, 0);
    if (names != NULL)
        write_schema(c, names, &json);
    if (fields.all == NULL || names == NULL || p->rows == NULL || json.failed)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    make_fields(c, names, &fields);
    const struct pqfile_key_value keys[] = {
        {{(const uint8_t *)"proximadb.format", 16}, {(const uint8_t *)"1", 1}, true},
        {{(const uint8_t *)"proximadb.schema", 16}, {(const uint8_t *)json.ptr, json.len}, true}};
    const struct pqfile_writer_options options = {
        .column = compact, .key_values = keys, .key_value_count = 2, .list_when_absent = true};
    const struct pqfile_sink to = {sink, p};
    if (pqfile_writer_open(fields.all, fields.count, &options, &to, &p->file, &error) < 0)
        return pq_fail(p, &error, trail);
    return 0;
}

int export_parquet_open(const struct export_settings *settings, struct export_writer **writer_out,
                        struct trail *trail)
{
    static const struct export_writer_ops ops = {add, finish, close_it};
    struct parquet_writer *p = heap_calloc(NULL, 1, sizeof(*p));
    if (p == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    p->writer = (struct export_writer){.ops = &ops, .file = settings->file};
    p->collection = settings->collection;
    buffer_init_heap(&p->json, NULL, 0);
    int rc = open_file(p, trail);
    if (rc < 0) {
        close_it(&p->writer);
        return rc;
    }
    *writer_out = &p->writer;
    return 0;
}
