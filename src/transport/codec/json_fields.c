/* json_fields.c: objects with a fixed set of fields, read by a table. One loop says what an
 * unknown, a repeated and a mistyped field is, for all requests. */
#include "transport/codec/json_fields.h"
#include "transport/codec/element_names.h"

#include "base/no_libc_heap.h"

int json_no_memory(struct json_decoder *d)
{
    d->reader.failed = true;
    return trail_add(d->reader.trail, PDB_RESOURCE_EXHAUSTED, "no memory for the request");
}

bool json_take_null(struct json_decoder *d)
{
    return json_peek(&d->reader) == JSON_NULL && json_read_null(&d->reader) == 0;
}

int json_match_field(struct json_decoder *d, const struct json_field *fields, size_t count,
                     struct pdb_text key, uint32_t *seen, size_t *index_out)
{
    for (size_t i = 0; i < count; i++) {
        if (!text_equal(key, fields[i].name))
            continue;
        if ((*seen >> i & 1) != 0)
            return json_fail(&d->reader, "field '%.*s' is given twice", TEXT_ARG(key));
        *seen |= (uint32_t)1 << i;
        *index_out = i;
        return 0;
    }
    int shown = key.len < 64 ? (int)key.len : 64;
    return json_fail(&d->reader, "unknown field '%.*s'", shown, key.ptr);
}

int json_read_object(struct json_decoder *d, const struct json_field *fields, size_t count,
                     void *into)
{
    bool first = true;
    uint32_t seen = 0;
    struct pdb_text key;
    int rc = json_enter_object(&d->reader);
    while (rc == 0 && (rc = json_object_next(&d->reader, d->arena, &first, &key)) > 0) {
        size_t i = 0;
        rc = json_match_field(d, fields, count, key, &seen, &i);
        if (rc == 0)
            rc = fields[i].read(d, (char *)into + fields[i].offset);
        if (rc == 0 && d->reader.failed)
            rc = PDB_INVALID_ARGUMENT;
    }
    return rc;
}

int json_read_array(struct json_decoder *d, json_field_reader *read, size_t size,
                    uint32_t count_max, void **elements_out, uint32_t *count_out)
{
    bool first = true;
    char *elements = NULL;
    uint32_t count = 0, capacity = 0;
    int rc = json_enter_array(&d->reader);
    while (rc == 0 && (rc = json_array_next(&d->reader, &first)) > 0) {
        if (count == count_max)
            return json_fail(&d->reader, "more than %u elements", count_max);
        if (count == capacity) {
            uint32_t wanted = capacity == 0 ? 8 : capacity * 2;
            elements = arena_grow(d->arena, elements, capacity * size, wanted * size);
            if (elements == NULL)
                return json_no_memory(d);
            capacity = wanted;
        }
        memset(elements + count * size, 0, size);
        rc = read(d, elements + count * size);
        count++;
    }
    if (rc == 0) {
        *elements_out = elements;
        *count_out = count;
    }
    return rc;
}

int json_text_field(struct json_decoder *d, void *into)
{
    return json_read_string(&d->reader, d->arena, into);
}

int json_bool_field(struct json_decoder *d, void *into)
{
    return json_read_bool(&d->reader, into);
}

int json_u64_field(struct json_decoder *d, void *into)
{
    return json_read_u64(&d->reader, into);
}

int json_u32_field(struct json_decoder *d, void *into)
{
    uint64_t value;
    int rc = json_read_u64(&d->reader, &value);
    if (rc != 0)
        return rc;
    if (value > UINT32_MAX)
        return json_fail(&d->reader, "%llu is too large", (unsigned long long)value);
    *(uint32_t *)into = (uint32_t)value;
    return 0;
}

int json_document_field(struct json_decoder *d, void *into)
{
    if (json_peek(&d->reader) != JSON_OBJECT)
        return json_fail(&d->reader, "expected an object");
    if (d->docs == NULL && (d->docs = doc_builder_new(d->arena, 0)) == NULL)
        return json_no_memory(d);
    int rc = json_read_doc(&d->reader, d->docs);
    if (rc != 0)
        return rc;
    const char *what = NULL;
    rc = doc_builder_finish(d->docs, into, &what);
    if (rc == PDB_RESOURCE_EXHAUSTED)
        return json_no_memory(d);
    return rc != 0 ? json_fail(&d->reader, "%s", what != NULL ? what : "not a document") : 0;
}

/* ---- enumerations ---- */

struct name_value {
    const char *name;
    int value;
};

static int read_name(struct json_decoder *d, const struct name_value *names, size_t count,
                     const char *expected, int *value_out)
{
    struct pdb_text text;
    int rc = json_read_string(&d->reader, d->arena, &text);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < count; i++)
        if (text_equal(text, text_of(names[i].name))) {
            *value_out = names[i].value;
            return 0;
        }
    int shown = text.len < 64 ? (int)text.len : 64;
    return json_fail(&d->reader, "'%.*s' is not one of %s", shown, text.ptr, expected);
}

#define NAME_COUNT(names) (sizeof(names) / sizeof((names)[0]))

int json_metric_field(struct json_decoder *d, void *into)
{
    static const struct name_value names[] = {{"cosine", PDB_METRIC_COSINE},
                                              {"dot", PDB_METRIC_DOT},
                                              {"euclidean", PDB_METRIC_EUCLIDEAN},
                                              {"manhattan", PDB_METRIC_MANHATTAN},
                                              {"hamming", PDB_METRIC_HAMMING}};
    int value = 0;
    int rc = read_name(d, names, NAME_COUNT(names), "cosine, dot, euclidean, manhattan, hamming",
                       &value);
    *(enum pdb_metric *)into = (enum pdb_metric)value;
    return rc;
}

int json_element_field(struct json_decoder *d, void *into)
{
    struct pdb_text name;
    int rc = json_read_string(&d->reader, d->arena, &name);
    if (rc == 0 && !element_type_of(name, into))
        return json_fail(&d->reader, "type: '%.*s' is not one of " ELEMENT_TYPE_NAMES,
                         name.len < 64 ? (int)name.len : 64, name.ptr);
    return rc;
}

int json_column_type_field(struct json_decoder *d, void *into)
{
    static const struct name_value names[] = {{"string", PDB_COLUMN_STRING},
                                              {"integer", PDB_COLUMN_INTEGER},
                                              {"float", PDB_COLUMN_FLOAT},
                                              {"boolean", PDB_COLUMN_BOOLEAN},
                                              {"datetime", PDB_COLUMN_DATETIME},
                                              {"string[]", PDB_COLUMN_STRING_LIST},
                                              {"integer[]", PDB_COLUMN_INTEGER_LIST},
                                              {"float[]", PDB_COLUMN_FLOAT_LIST},
                                              {"geo", PDB_COLUMN_GEO},
                                              {"text", PDB_COLUMN_TEXT}};
    int value = 0;
    int rc = read_name(
        d, names, NAME_COUNT(names),
        "string, integer, float, boolean, datetime, string[], integer[], float[], geo, text",
        &value);
    *(enum pdb_column_type *)into = (enum pdb_column_type)value;
    return rc;
}

int json_sync_field(struct json_decoder *d, void *into)
{
    static const struct name_value names[] = {{"always", PDB_SYNC_ALWAYS},
                                              {"batch", PDB_SYNC_BATCH},
                                              {"periodic", PDB_SYNC_PERIODIC},
                                              {"never", PDB_SYNC_NEVER}};
    int value = 0;
    int rc = read_name(d, names, NAME_COUNT(names), "always, batch, periodic, never", &value);
    *(enum pdb_sync_mode *)into = (enum pdb_sync_mode)value;
    return rc;
}

/* ---- vectors ---- */

/* The last vector's length is the best guess for the next one's; a wrong guess reads again into the
 * scratch. */
int json_vector_field(struct json_decoder *d, void *into)
{
    enum { CAPACITY = PDB_DIMENSION_MAX + 1 };
    struct pdb_vector *vector = into;
    struct json_reader before = d->reader;
    size_t count = 0;
    float *values = NULL;
    if (d->floats_hint != 0) {
        values = arena_array(d->arena, float, d->floats_hint);
        if (values == NULL)
            return json_no_memory(d);
        int rc = json_read_floats(&d->reader, values, d->floats_hint, &count);
        if (rc != 0)
            return rc;
    }
    if (d->floats_hint == 0 || count > d->floats_hint) {
        if (d->scratch == NULL && (d->scratch = arena_array(d->arena, float, CAPACITY)) == NULL)
            return json_no_memory(d);
        d->reader = before;
        int rc = json_read_floats(&d->reader, d->scratch, CAPACITY, &count);
        if (rc != 0)
            return rc;
        if (count > PDB_DIMENSION_MAX)
            return json_fail(&d->reader, "a vector of %zu values: at most %d", count,
                             PDB_DIMENSION_MAX);
        values = arena_array(d->arena, float, count);
        if (values == NULL)
            return json_no_memory(d);
        memcpy(values, d->scratch, count * sizeof(float));
    }
    d->floats_hint = (uint32_t)count;
    vector->values = values;
    vector->count = (uint32_t)count;
    vector->form = PDB_VECTOR_F32;
    return 0;
}
