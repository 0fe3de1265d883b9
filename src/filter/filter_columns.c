/* filter_columns.c: the types of declared columns: what fits them and how they are called in
 * messages. Used for records as they arrive (filter_check_columns) and for the operands of filters,
 * so that both doors say the same. */
#include "filter/filter_internal.h"

#include "base/clock.h"

#include "base/no_libc_heap.h"

const char *filter_type_name(enum doc_type type)
{
    static const char *const names[] = {
        [DOC_NULL] = "null",    [DOC_BOOL] = "boolean",  [DOC_INT] = "integer",
        [DOC_FLOAT] = "float",  [DOC_STRING] = "string", [DOC_ARRAY] = "array",
        [DOC_OBJECT] = "object"};
    return names[type];
}

const char *filter_column_name(enum pdb_column_type type)
{
    static const char *const names[] = {[PDB_COLUMN_UNSPECIFIED] = "any",
                                        [PDB_COLUMN_STRING] = "string",
                                        [PDB_COLUMN_INTEGER] = "integer",
                                        [PDB_COLUMN_FLOAT] = "float",
                                        [PDB_COLUMN_BOOLEAN] = "boolean",
                                        [PDB_COLUMN_DATETIME] = "datetime",
                                        [PDB_COLUMN_STRING_LIST] = "string[]",
                                        [PDB_COLUMN_INTEGER_LIST] = "integer[]",
                                        [PDB_COLUMN_FLOAT_LIST] = "float[]",
                                        [PDB_COLUMN_GEO] = "geo",
                                        [PDB_COLUMN_TEXT] = "text"};
    return names[type];
}

enum pdb_column_type filter_element_type(enum pdb_column_type type)
{
    if (type == PDB_COLUMN_STRING_LIST)
        return PDB_COLUMN_STRING;
    if (type == PDB_COLUMN_INTEGER_LIST)
        return PDB_COLUMN_INTEGER;
    return type == PDB_COLUMN_FLOAT_LIST ? PDB_COLUMN_FLOAT : PDB_COLUMN_UNSPECIFIED;
}

bool filter_scalar_fits(enum pdb_column_type type, const struct doc_value *value, bool any_number)
{
    int64_t time_us = 0;
    switch (type) {
    case PDB_COLUMN_STRING:
    case PDB_COLUMN_TEXT:
        return value->type == DOC_STRING;
    case PDB_COLUMN_INTEGER:
        return value->type == DOC_INT || (any_number && value->type == DOC_FLOAT);
    case PDB_COLUMN_FLOAT:
        return value->type == DOC_INT || value->type == DOC_FLOAT;
    case PDB_COLUMN_BOOLEAN:
        return value->type == DOC_BOOL;
    case PDB_COLUMN_DATETIME:
        return value->type == DOC_STRING &&
               clock_parse(value->string.ptr, value->string.len, &time_us) == 0;
    case PDB_COLUMN_UNSPECIFIED:
        return true;
    case PDB_COLUMN_STRING_LIST:
    case PDB_COLUMN_INTEGER_LIST:
    case PDB_COLUMN_FLOAT_LIST:
    case PDB_COLUMN_GEO:
        return false;
    }
    return false;
}

/* |value| <= limit, for a number. */
static bool within(const struct doc_value *value, double limit)
{
    if (value->type == DOC_INT)
        return (double)value->integer >= -limit && (double)value->integer <= limit;
    return value->type == DOC_FLOAT && value->number >= -limit && value->number <= limit;
}

bool filter_is_geo(const struct doc_value *value)
{
    struct doc_value lat, lon;
    return value->type == DOC_OBJECT && value->children.count == 2 &&
           doc_get(value, TEXT_LIT("lat"), &lat) && doc_get(value, TEXT_LIT("lon"), &lon) &&
           within(&lat, 90) && within(&lon, 180);
}

/* A list: every element has its type; the index of the first that has not is told in the message.
 * */
static int check_list(const struct filter_column *column, const struct doc_value *value,
                      struct trail *trail)
{
    enum pdb_column_type element_type = filter_element_type(column->type);
    struct doc_iter iter = doc_iterate(value);
    struct pdb_text key;
    struct doc_value element;
    for (size_t i = 0; doc_next(&iter, &key, &element); i++) {
        if (!filter_scalar_fits(element_type, &element, false))
            return trail_add(trail, PDB_INVALID_ARGUMENT,
                             "metadata.%.*s[%zu]: expected %s, found %s", TEXT_ARG(column->name), i,
                             filter_column_name(element_type), filter_type_name(element.type));
    }
    return 0;
}

static int check_column(const struct filter_column *column, const struct doc_value *value,
                        struct trail *trail)
{
    if (filter_element_type(column->type) != PDB_COLUMN_UNSPECIFIED) {
        if (value->type == DOC_ARRAY)
            return check_list(column, value, trail);
    } else if (column->type == PDB_COLUMN_GEO) {
        if (filter_is_geo(value))
            return 0;
        if (value->type == DOC_OBJECT)
            return trail_add(trail, PDB_INVALID_ARGUMENT,
                             "metadata.%.*s: geo needs exactly \"lat\" (-90..90) and \"lon\" "
                             "(-180..180)",
                             TEXT_ARG(column->name));
    } else if (filter_scalar_fits(column->type, value, false)) {
        return 0;
    } else if (column->type == PDB_COLUMN_DATETIME && value->type == DOC_STRING) {
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "metadata.%.*s: expected datetime (RFC 3339, as 2026-01-31T12:00:00Z), "
                         "found other text",
                         TEXT_ARG(column->name));
    }
    return trail_add(trail, PDB_INVALID_ARGUMENT, "metadata.%.*s: expected %s, found %s",
                     TEXT_ARG(column->name), filter_column_name(column->type),
                     filter_type_name(value->type));
}

int filter_check_columns(struct pdb_text metadata, const struct filter_column *columns,
                         size_t column_count, struct trail *trail)
{
    struct doc_value root = doc_root(metadata.ptr, metadata.len), value;
    for (size_t i = 0; i < column_count; i++) {
        if (!doc_find(&root, columns[i].name, &value) || value.type == DOC_NULL)
            continue;
        int rc = check_column(&columns[i], &value, trail);
        if (rc < 0)
            return rc;
    }
    return 0;
}
