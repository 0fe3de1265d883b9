/* segment_schema.c: which columns the Parquet file of a segment has, how they are stored, and what
 * the footer says so that the file can be understood without the catalog
 * (docs/formats/segment.md). */
#include "segment/segment_parquet_internal.h"

#include "base/json.h"
#include "segment/segment_index_internal.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

enum {
    PAGE_BYTES = 256 << 10,
    VECTOR_PAGE_BYTES_MAX = 64 << 20, /* pages of vectors end by rows */
    VECTOR_PAGE_ROWS_UNIT = 128,      /* a scan looks at as many at once */
    FOOTER_BYTES_MAX = 1 << 29,
    FIELDS_BEFORE = 5, /* id, version and times */
    FIELDS_PER_COLUMN_MAX = 3,
};

static const char *const metric_names[] = {[PDB_METRIC_COSINE] = "cosine",
                                           [PDB_METRIC_DOT] = "dot",
                                           [PDB_METRIC_EUCLIDEAN] = "euclidean",
                                           [PDB_METRIC_MANHATTAN] = "manhattan",
                                           [PDB_METRIC_HAMMING] = "hamming"};
enum { METRIC_COUNT = sizeof(metric_names) / sizeof(metric_names[0]) };

static const char *const element_names[] = {[PDB_ELEMENT_FLOAT32] = "float32",
                                            [PDB_ELEMENT_FLOAT16] = "float16",
                                            [PDB_ELEMENT_INT8] = "int8"};
enum { ELEMENT_COUNT = sizeof(element_names) / sizeof(element_names[0]) };

static const char *const type_names[] = {[PDB_COLUMN_STRING] = "string",
                                         [PDB_COLUMN_INTEGER] = "integer",
                                         [PDB_COLUMN_FLOAT] = "float",
                                         [PDB_COLUMN_BOOLEAN] = "boolean",
                                         [PDB_COLUMN_DATETIME] = "datetime",
                                         [PDB_COLUMN_STRING_LIST] = "string[]",
                                         [PDB_COLUMN_INTEGER_LIST] = "integer[]",
                                         [PDB_COLUMN_FLOAT_LIST] = "float[]",
                                         [PDB_COLUMN_GEO] = "geo",
                                         [PDB_COLUMN_TEXT] = "text"};
enum { TYPE_COUNT = sizeof(type_names) / sizeof(type_names[0]) };

static const char *const compression_names[] = {[PDB_COMPRESSION_NONE] = "none",
                                                [PDB_COMPRESSION_SNAPPY] = "snappy",
                                                [PDB_COMPRESSION_LZ4] = "lz4",
                                                [PDB_COMPRESSION_ZSTD] = "zstd"};
enum { COMPRESSION_COUNT = sizeof(compression_names) / sizeof(compression_names[0]) };

static const struct pqfile_logical logical_string = {.kind = PQFILE_LOGICAL_STRING};
static const struct pqfile_logical logical_list = {.kind = PQFILE_LOGICAL_LIST};
static const struct pqfile_logical logical_json = {.kind = PQFILE_LOGICAL_JSON};
static const struct pqfile_logical logical_u64 = {.kind = PQFILE_LOGICAL_INTEGER, .bits = 64};
static const struct pqfile_logical logical_half = {.kind = PQFILE_LOGICAL_FLOAT16};
static const struct pqfile_logical logical_byte = {
    .kind = PQFILE_LOGICAL_INTEGER, .bits = 8, .is_signed = true};
static const struct pqfile_logical logical_time = {
    .kind = PQFILE_LOGICAL_TIMESTAMP, .unit = PQFILE_MICROS, .utc = true};

/* ---- how columns are stored ---- */

static enum pqfile_codec codec_of(enum pdb_compression compression)
{
    switch (compression) {
    case PDB_COMPRESSION_SNAPPY:
        return PQFILE_SNAPPY;
    case PDB_COMPRESSION_LZ4:
        return PQFILE_LZ4_RAW;
    case PDB_COMPRESSION_ZSTD:
        return PQFILE_ZSTD;
    case PDB_COMPRESSION_NONE:
        break;
    }
    return PQFILE_UNCOMPRESSED;
}

static void choose_storage(struct segment_layout *l, enum pqfile_codec codec)
{
    static const enum pqfile_encoding encodings[SEGMENT_STORE_COUNT] = {
        [SEGMENT_STORE_PLAIN] = PQFILE_PLAIN,
        [SEGMENT_STORE_DELTA] = PQFILE_DELTA_BINARY_PACKED,
        [SEGMENT_STORE_DICTIONARY] = PQFILE_RLE_DICTIONARY,
        [SEGMENT_STORE_BOOLEAN] = PQFILE_RLE,
        [SEGMENT_STORE_JSON] = PQFILE_PLAIN};
    for (int i = 0; i < SEGMENT_STORE_COUNT; i++)
        l->storage[i] = (struct pqfile_column_options){.encoding = encodings[i],
                                                       .codec = codec,
                                                       .page_bytes = PAGE_BYTES,
                                                       .no_statistics = i == SEGMENT_STORE_JSON};
}

/* Whole vectors, about 256 KiB a page; where they are short, in multiples of what a scan takes. */
static struct pqfile_column_options vector_storage(const struct pdb_field *field, bool in_place,
                                                   enum pqfile_codec codec)
{
    uint32_t rows = PAGE_BYTES / segment_vector_bytes(field);
    if (rows > VECTOR_PAGE_ROWS_UNIT)
        rows -= rows % VECTOR_PAGE_ROWS_UNIT;
    struct pqfile_column_options options = {.page_bytes = VECTOR_PAGE_BYTES_MAX,
                                            .page_rows = rows > 0 ? rows : 1,
                                            .no_statistics = true};
#ifdef PDB_STRESS
    options.page_rows = 3;
#endif
    if (in_place) {
        options.value_alignment = SEGMENT_ALIGNMENT;
    } else {
        options.codec = codec;
        /* Of halves the split would be smaller, but DuckDB does not read it. */
        bool floats = field->metric != PDB_METRIC_HAMMING && field->element == PDB_ELEMENT_FLOAT32;
        options.encoding = floats ? PQFILE_BYTE_STREAM_SPLIT : PQFILE_PLAIN;
    }
    if (field->element == PDB_ELEMENT_INT8) { /* a byte each, and used in place */
        options.encoding = PQFILE_RLE_DICTIONARY;
        options.as_bytes = true;
    }
    return options;
}

/* ---- which columns there are ---- */

static void add_field(struct segment_layout *l, const struct pqfile_field *field)
{
    l->fields[l->field_count++] = *field;
    l->leaf_count += field->child_count == 0;
}

static void add_leaf(struct segment_layout *l, const char *name, enum pqfile_repetition repetition,
                     enum pqfile_type type, struct pqfile_logical logical,
                     enum segment_storage storage)
{
    add_field(l, &(struct pqfile_field){.name = name,
                                        .repetition = repetition,
                                        .type = type,
                                        .logical = logical,
                                        .options = &l->storage[storage]});
}

static void add_list(struct segment_layout *l, const char *name, uint32_t list_size,
                     const struct pqfile_field *element)
{
    add_field(l, &(struct pqfile_field){.name = name,
                                        .repetition = PQFILE_OPTIONAL,
                                        .child_count = 1,
                                        .list_size = list_size,
                                        .logical = logical_list});
    add_field(
        l, &(struct pqfile_field){.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1});
    add_field(l, element);
}

static void add_declared(struct segment_layout *l, const struct segment_column *column)
{
    static const struct pqfile_logical none = {.kind = PQFILE_LOGICAL_NONE};
    const char *name = column->parquet_name;
    struct pqfile_field element = {.name = "element"};
    switch (column->type) {
    case PDB_COLUMN_STRING:
        add_leaf(l, name, PQFILE_OPTIONAL, PQFILE_BYTE_ARRAY, logical_string,
                 SEGMENT_STORE_DICTIONARY);
        return;
    case PDB_COLUMN_TEXT:
        add_leaf(l, name, PQFILE_OPTIONAL, PQFILE_BYTE_ARRAY, logical_string, SEGMENT_STORE_PLAIN);
        return;
    case PDB_COLUMN_INTEGER:
        add_leaf(l, name, PQFILE_OPTIONAL, PQFILE_INT64, none, SEGMENT_STORE_DELTA);
        return;
    case PDB_COLUMN_FLOAT:
        add_leaf(l, name, PQFILE_OPTIONAL, PQFILE_DOUBLE, none, SEGMENT_STORE_PLAIN);
        return;
    case PDB_COLUMN_BOOLEAN:
        add_leaf(l, name, PQFILE_OPTIONAL, PQFILE_BOOLEAN, none, SEGMENT_STORE_BOOLEAN);
        return;
    case PDB_COLUMN_DATETIME:
        add_leaf(l, name, PQFILE_OPTIONAL, PQFILE_INT64, logical_time, SEGMENT_STORE_DELTA);
        return;
    case PDB_COLUMN_STRING_LIST:
        element.type = PQFILE_BYTE_ARRAY;
        element.logical = logical_string;
        element.options = &l->storage[SEGMENT_STORE_DICTIONARY];
        add_list(l, name, 0, &element);
        return;
    case PDB_COLUMN_INTEGER_LIST:
        element.type = PQFILE_INT64;
        element.options = &l->storage[SEGMENT_STORE_DELTA];
        add_list(l, name, 0, &element);
        return;
    case PDB_COLUMN_FLOAT_LIST:
        element.type = PQFILE_DOUBLE;
        element.options = &l->storage[SEGMENT_STORE_PLAIN];
        add_list(l, name, 0, &element);
        return;
    case PDB_COLUMN_GEO:
        add_field(l, &(struct pqfile_field){
                         .name = name, .repetition = PQFILE_OPTIONAL, .child_count = 2});
        add_leaf(l, "lat", PQFILE_REQUIRED, PQFILE_DOUBLE, none, SEGMENT_STORE_PLAIN);
        add_leaf(l, "lon", PQFILE_REQUIRED, PQFILE_DOUBLE, none, SEGMENT_STORE_PLAIN);
        return;
    case PDB_COLUMN_UNSPECIFIED:
        return;
    }
}

static void add_vectors(struct segment_layout *l, uint32_t f, const struct pdb_field *field)
{
    if (field->metric == PDB_METRIC_HAMMING) {
        add_field(l, &(struct pqfile_field){.name = l->vector_names[f],
                                            .repetition = PQFILE_OPTIONAL,
                                            .type = PQFILE_FIXED_LEN_BYTE_ARRAY,
                                            .type_length = segment_vector_bytes(field),
                                            .options = &l->vectors[f]});
        return;
    }
    struct pqfile_field element = {
        .name = "element", .type = PQFILE_FLOAT, .options = &l->vectors[f]};
    if (field->element == PDB_ELEMENT_FLOAT16) {
        element.type = PQFILE_FIXED_LEN_BYTE_ARRAY;
        element.type_length = 2;
        element.logical = logical_half;
    } else if (field->element == PDB_ELEMENT_INT8) {
        element.type = PQFILE_INT32;
        element.logical = logical_byte;
    }
    add_list(l, l->vector_names[f], field->dimension, &element);
}

static char *vector_name(struct heap *heap, struct pdb_text field)
{
    size_t len = strlen("vector_") + field.len;
    char *name = heap_alloc(heap, len + 1);
    if (name == NULL)
        return NULL;
    if (field.len == 0)
        (void)snprintf(name, len + 1, "vector");
    else
        (void)snprintf(name, len + 1, "vector_%.*s", TEXT_ARG(field));
    return name;
}

static int allocate_layout(struct segment_layout *l, const struct segment_schema *schema,
                           const struct segment_columns *columns)
{
    size_t field_max =
        FIELDS_BEFORE + 1 + (columns->count + (size_t)schema->field_count) * FIELDS_PER_COLUMN_MAX;
    l->fields = heap_calloc(l->heap, field_max, sizeof(*l->fields));
    l->vector_names = heap_calloc(l->heap, schema->field_count, sizeof(*l->vector_names));
    if (l->fields == NULL || l->vector_names == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (uint32_t f = 0; f < schema->field_count; f++) {
        l->vector_names[f] = vector_name(l->heap, schema->fields[f].name);
        if (l->vector_names[f] == NULL)
            return PDB_RESOURCE_EXHAUSTED;
        l->vector_count++;
    }
    return 0;
}

int segment_layout_init(struct segment_layout *l, struct heap *heap,
                        const struct segment_schema *schema, const struct segment_columns *columns)
{
    ASSERT(schema->field_count <= PDB_FIELD_MAX);
    *l = (struct segment_layout){.heap = heap};
    int rc = allocate_layout(l, schema, columns);
    if (rc < 0)
        return rc;
    enum pqfile_codec codec = codec_of(schema->compression);
    l->in_place = schema->vectors_in_place || codec == PQFILE_UNCOMPRESSED;
    choose_storage(l, codec);
    for (uint32_t f = 0; f < schema->field_count; f++)
        l->vectors[f] = vector_storage(&schema->fields[f], l->in_place, codec);
    add_leaf(l, "id", PQFILE_REQUIRED, PQFILE_BYTE_ARRAY, logical_string, SEGMENT_STORE_PLAIN);
    add_leaf(l, "version", PQFILE_REQUIRED, PQFILE_INT64, logical_u64, SEGMENT_STORE_DELTA);
    add_leaf(l, "created_at", PQFILE_REQUIRED, PQFILE_INT64, logical_time, SEGMENT_STORE_DELTA);
    add_leaf(l, "updated_at", PQFILE_REQUIRED, PQFILE_INT64, logical_time, SEGMENT_STORE_DELTA);
    add_leaf(l, "expires_at", PQFILE_OPTIONAL, PQFILE_INT64, logical_time, SEGMENT_STORE_DELTA);
    for (uint32_t i = 0; i < columns->count; i++)
        add_declared(l, &columns->all[i]);
    l->metadata_leaf = l->leaf_count;
    add_leaf(l, "metadata", PQFILE_OPTIONAL, PQFILE_BYTE_ARRAY, logical_json, SEGMENT_STORE_JSON);
    for (uint32_t f = 0; f < schema->field_count; f++)
        add_vectors(l, f, &schema->fields[f]);
    return 0;
}

void segment_layout_dispose(struct segment_layout *l)
{
    for (uint32_t f = 0; f < l->vector_count; f++)
        heap_free(l->heap, l->vector_names[f]);
    heap_free(l->heap, l->vector_names);
    heap_free(l->heap, l->fields);
    *l = (struct segment_layout){0};
}

bool segment_layout_matches(const struct segment_layout *l, const struct pqfile_metadata *metadata)
{
    if (metadata->node_count != l->field_count + 1 || metadata->column_count != l->leaf_count)
        return false;
    for (size_t i = 0; i < l->field_count; i++) {
        const struct pqfile_field *field = &l->fields[i];
        const struct pqfile_node *node = &metadata->nodes[i + 1];
        if (strcmp(node->name, field->name) != 0 || node->child_count != field->child_count ||
            node->repetition != field->repetition ||
            (field->child_count == 0 && node->type != field->type) ||
            (field->type_length != 0 && node->type_length != field->type_length))
            return false;
    }
    return true;
}

/* ---- what the footer says ---- */

int segment_schema_format(const struct segment_schema *schema)
{
    for (uint32_t f = 0; f < schema->field_count; f++)
        if (schema->fields[f].element != PDB_ELEMENT_FLOAT32)
            return SEGMENT_FORMAT_NARROW;
    return SEGMENT_FORMAT;
}

void segment_schema_write(const struct segment_schema *schema, const struct segment_layout *l,
                          const struct segment_columns *columns, struct buffer *json)
{
    buffer_add_lit(json, "{\"fields\":[");
    for (uint32_t f = 0; f < schema->field_count; f++) {
        buffer_add_text(json, f > 0 ? TEXT_LIT(",{\"name\":") : TEXT_LIT("{\"name\":"));
        json_write_string(json, schema->fields[f].name);
        buffer_add_lit(json, ",\"column\":");
        json_write_string(json, text_of(l->vector_names[f]));
        buffer_format(json, ",\"dimension\":%u,\"metric\":\"%s\"", schema->fields[f].dimension,
                      metric_names[schema->fields[f].metric]);
        if (schema->fields[f].element != PDB_ELEMENT_FLOAT32)
            buffer_format(json, ",\"type\":\"%s\"", element_names[schema->fields[f].element]);
        buffer_add_byte(json, '}');
    }
    buffer_add_lit(json, "],\"columns\":[");
    for (uint32_t i = 0; i < columns->count; i++) {
        const struct segment_column *column = &columns->all[i];
        buffer_add_text(json, i > 0 ? TEXT_LIT(",{\"name\":") : TEXT_LIT("{\"name\":"));
        json_write_string(json, column->name);
        buffer_add_lit(json, ",\"column\":");
        json_write_string(json, text_of(column->parquet_name));
        buffer_format(json, ",\"type\":\"%s\"}", type_names[column->type]);
    }
    buffer_format(json, "],\"compression\":\"%s\",\"vectors_in_place\":%s}",
                  compression_names[schema->compression], l->in_place ? "true" : "false");
}

static struct pdb_text key_value(const struct pqfile_metadata *metadata, const char *key)
{
    const struct pqfile_key_value *found = pqfile_find_key(metadata, key);
    if (found == NULL || !found->has_value)
        return (struct pdb_text){NULL, 0};
    return (struct pdb_text){(const char *)found->value.data, found->value.len};
}

static bool get_text(const struct doc_value *object, const char *key, struct pdb_text *text_out)
{
    struct doc_value value;
    if (!doc_get(object, text_of(key), &value) || value.type != DOC_STRING)
        return false;
    *text_out = value.string;
    return true;
}

/* The index of a name among `count`; 0 (which the caller knows to tell from the first): none. */
static uint32_t index_of(struct pdb_text name, const char *const *names, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (names[i] != NULL && text_equal(name, text_of(names[i])))
            return i;
    return 0;
}

static bool read_storage(const struct doc_value *root, struct segment_schema *schema)
{
    struct pdb_text compression;
    struct doc_value in_place;
    if (!get_text(root, "compression", &compression) ||
        !doc_get(root, TEXT_LIT("vectors_in_place"), &in_place) || in_place.type != DOC_BOOL)
        return false;
    uint32_t index = index_of(compression, compression_names, COMPRESSION_COUNT);
    schema->compression = (enum pdb_compression)index;
    schema->vectors_in_place = in_place.boolean;
    return text_equal(compression, text_of(compression_names[index])) &&
           (in_place.boolean || index != PDB_COMPRESSION_NONE);
}

static bool read_field(const struct doc_value *object, struct pdb_field *field)
{
    struct pdb_text metric;
    struct doc_value dimension;
    if (!get_text(object, "name", &field->name) || field->name.len > PDB_NAME_BYTES_MAX ||
        !get_text(object, "metric", &metric) ||
        !doc_get(object, TEXT_LIT("dimension"), &dimension) || dimension.type != DOC_INT ||
        dimension.integer < 1 || dimension.integer > PDB_DIMENSION_MAX)
        return false;
    field->dimension = (uint32_t)dimension.integer;
    field->metric = (enum pdb_metric)index_of(metric, metric_names, METRIC_COUNT);
    if (field->metric == PDB_METRIC_UNSPECIFIED)
        return false;
    struct doc_value type; /* absent: float32 */
    if (!doc_get(object, TEXT_LIT("type"), &type))
        return true;
    if (type.type != DOC_STRING || field->metric == PDB_METRIC_HAMMING)
        return false;
    field->element = (enum pdb_element_type)index_of(type.string, element_names, ELEMENT_COUNT);
    return field->element != PDB_ELEMENT_FLOAT32;
}

static bool read_column(const struct doc_value *object, struct pdb_column *column)
{
    struct pdb_text type;
    if (!get_text(object, "name", &column->name) || !get_text(object, "type", &type))
        return false;
    column->type = (enum pdb_column_type)index_of(type, type_names, TYPE_COUNT);
    return column->type != PDB_COLUMN_UNSPECIFIED;
}

/* The members of root[key], an array of `count_out` objects, at most `max`. */
static bool open_array(const struct doc_value *root, const char *key, uint32_t max,
                       struct doc_iter *iter_out, uint32_t *count_out)
{
    struct doc_value array;
    if (!doc_get(root, text_of(key), &array) || array.type != DOC_ARRAY ||
        array.children.count > max)
        return false;
    *iter_out = doc_iterate(&array);
    *count_out = array.children.count;
    return true;
}

static int read_members(const struct doc_value *root, struct arena *arena,
                        struct segment_schema *schema, struct trail *trail)
{
    struct doc_iter fields, columns;
    struct doc_value object;
    if (!open_array(root, "fields", PDB_FIELD_MAX, &fields, &schema->field_count) ||
        !open_array(root, "columns", PDB_COLUMN_MAX, &columns, &schema->column_count))
        return trail_add(trail, PDB_DATA_LOSS, "%s: fields or columns", SEGMENT_KEY_SCHEMA);
    if (!read_storage(root, schema))
        return trail_add(trail, PDB_DATA_LOSS, "%s: how it is stored", SEGMENT_KEY_SCHEMA);
    struct pdb_field *field = arena_calloc(arena, schema->field_count + 1, sizeof(*field));
    struct pdb_column *column = arena_calloc(arena, schema->column_count + 1, sizeof(*column));
    if (field == NULL || column == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a schema");
    schema->fields = field;
    schema->columns = column;
    while (doc_next(&fields, NULL, &object))
        if (!read_field(&object, field++))
            return trail_add(trail, PDB_DATA_LOSS, "%s: a field", SEGMENT_KEY_SCHEMA);
    while (doc_next(&columns, NULL, &object))
        if (!read_column(&object, column++))
            return trail_add(trail, PDB_DATA_LOSS, "%s: a column", SEGMENT_KEY_SCHEMA);
    return 0;
}

static int parse_schema(struct pdb_text json, struct arena *arena, struct pdb_text *document_out,
                        struct trail *trail)
{
    struct trail why = {0};
    struct json_reader reader;
    struct doc_builder *b = doc_builder_new(arena, 0);
    if (b == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "memory for a schema");
    json_open(&reader, json.ptr, json.len, DOC_DEPTH_MAX, &why);
    int rc = json_read_doc(&reader, b);
    if (rc == 0)
        rc = json_finish(&reader);
    if (rc == 0)
        rc = doc_builder_finish(b, document_out, NULL);
    if (rc == 0)
        return 0;
    return trail_add(trail, rc == PDB_INVALID_ARGUMENT ? PDB_DATA_LOSS : rc, "%s: %s",
                     SEGMENT_KEY_SCHEMA, why.text);
}

static bool read_number(struct pdb_text text, uint64_t *number_out)
{
    uint64_t number = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned char)text.ptr[i] - (unsigned)'0';
        if (digit > 9 || __builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, digit, &number))
            return false;
    }
    *number_out = number;
    return text.len != 0;
}

int segment_schema_read(const struct pqfile_metadata *metadata, struct arena *arena,
                        struct segment_schema *schema_out, struct trail *trail)
{
    struct segment_schema schema = {0};
    struct pdb_text format = key_value(metadata, SEGMENT_KEY_FORMAT), document = {NULL, 0};
    struct pdb_text uuid = key_value(metadata, SEGMENT_KEY_COLLECTION);
    uint64_t version = 0;
    if (!read_number(format, &version) || version == 0)
        return trail_add(trail, PDB_DATA_LOSS, "not a segment: no %s", SEGMENT_KEY_FORMAT);
    if (version > SEGMENT_FORMAT_NARROW)
        return trail_add(trail, PDB_FAILED_PRECONDITION,
                         "written by a newer version: format %" PRIu64, version);
    if (uuid_parse(uuid.ptr, uuid.len, &schema.collection) < 0 ||
        !read_number(key_value(metadata, SEGMENT_KEY_NUMBER), &schema.number))
        return trail_add(trail, PDB_DATA_LOSS, "%s or %s is not valid", SEGMENT_KEY_COLLECTION,
                         SEGMENT_KEY_NUMBER);
    int rc = parse_schema(key_value(metadata, SEGMENT_KEY_SCHEMA), arena, &document, trail);
    if (rc < 0)
        return rc;
    struct doc_value root = doc_root(document.ptr, document.len);
    rc = read_members(&root, arena, &schema, trail);
    if (rc == 0)
        *schema_out = schema;
    return rc;
}

/* ---- pqfile ---- */

static void *pqfile_allocate(void *context, size_t size)
{
    return heap_alloc(context, size);
}

static void pqfile_release(void *context, void *memory)
{
    heap_free(context, memory);
}

struct pqfile_allocator segment_allocator(struct heap *heap)
{
    return (struct pqfile_allocator){pqfile_allocate, pqfile_release, heap};
}

struct pqfile_reader_options segment_reader_options(struct heap *heap)
{
    return (struct pqfile_reader_options){.allocator = segment_allocator(heap),
                                          .footer_bytes_max = FOOTER_BYTES_MAX,
                                          .memory_max = (size_t)8 * FOOTER_BYTES_MAX};
}

int segment_pqfile_failed(const struct pqfile_error *error, struct trail *trail)
{
    int code = error->code == PQFILE_NO_MEMORY ? PDB_RESOURCE_EXHAUSTED
               : error->code == PQFILE_INVALID ? PDB_INTERNAL
                                               : PDB_DATA_LOSS;
    return trail_add(trail, code, "%s", error->message);
}
