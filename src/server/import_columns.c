/* import_columns.c: which column is the id, which the vectors, and which are metadata.
 *
 * Files of our own say in their footer what is what (docs/formats/segment.md). In those of others
 * names decide first, then types: a vector is a list of floats, and if only one column is, that is
 * it; a guess between several would be found out only by bad results, so it is refused. */
#include "server/import_columns.h"

#include "base/json.h"

#include <string.h>

#include "base/no_libc_heap.h"

struct chooser {
    struct import_columns *columns;
    const struct parquet_rows *rows;
    const struct import_target *target;
    struct arena *arena;
    struct trail *trail;
};

static const struct pqfile_node *node_of(const struct chooser *c,
                                         const struct import_column *column)
{
    return &c->rows->metadata->nodes[column->node];
}

static struct pdb_text name_of(const struct chooser *c, const struct import_column *column)
{
    const struct pqfile_node *node = node_of(c, column);
    return (struct pdb_text){node->name, node->name_len};
}

static struct import_column *find(const struct chooser *c, struct pdb_text name)
{
    for (uint32_t i = 0; i < c->columns->count; i++)
        if (text_equal(name_of(c, &c->columns->all[i]), name))
            return &c->columns->all[i];
    return NULL;
}

static int list_columns(struct chooser *c)
{
    const struct pqfile_node *nodes = c->rows->metadata->nodes;
    struct import_columns *columns = c->columns;
    uint32_t end = nodes[0].end;
    for (uint32_t n = 1; n < end; n = nodes[n].end)
        columns->count++;
    columns->all = arena_array(c->arena, struct import_column, columns->count);
    if (columns->all == NULL)
        return trail_add(c->trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    uint32_t i = 0;
    for (uint32_t n = 1; n < end; n = nodes[n].end)
        columns->all[i++] = (struct import_column){
            .role = IMPORT_VALUE, .node = n, .name = {nodes[n].name, nodes[n].name_len}};
    return 0;
}

/* ---- files of ours ---- */

static struct pdb_text member(const struct doc_value *object, const char *key)
{
    struct doc_value value;
    if (!doc_get(object, text_of(key), &value) || value.type != DOC_STRING)
        return (struct pdb_text){"", 0};
    return value.string;
}

static void take_field(struct chooser *c, const struct doc_value *field)
{
    struct doc_value dimension;
    struct import_column *column = find(c, member(field, "column"));
    struct transfer_collection *schema = &c->columns->schema;
    bool known = doc_get(field, TEXT_LIT("dimension"), &dimension) && dimension.type == DOC_INT &&
                 dimension.integer > 0 && dimension.integer <= PDB_DIMENSION_MAX;
    if (column == NULL || !known || schema->field_count == PDB_FIELD_MAX)
        return;
    column->role = IMPORT_VECTOR;
    column->name = member(field, "name");
    column->dimension = (uint32_t)dimension.integer;
    column->bits = text_equal(member(field, "metric"), TEXT_LIT("hamming"));
    column->whole = text_equal(member(field, "type"), TEXT_LIT("int8"));
    schema->fields[schema->field_count++] =
        (struct transfer_field){.name = column->name,
                                .metric = member(field, "metric"),
                                .type = member(field, "type"),
                                .dimension = column->dimension};
}

static void take_column(struct chooser *c, const struct doc_value *declared)
{
    struct import_column *column = find(c, member(declared, "column"));
    struct transfer_collection *schema = &c->columns->schema;
    if (schema->column_count < PDB_COLUMN_MAX)
        schema->columns[schema->column_count++] =
            (struct transfer_column){member(declared, "name"), member(declared, "type")};
    if (column == NULL)
        return;
    column->name = member(declared, "name");
    column->path = true;
}

static void take_all(struct chooser *c, const struct doc_value *root, const char *key,
                     void (*take)(struct chooser *, const struct doc_value *))
{
    struct doc_value list, value;
    struct pdb_text ignored;
    if (!doc_get(root, text_of(key), &list) || list.type != DOC_ARRAY)
        return;
    struct doc_iter iter = doc_iterate(&list);
    while (doc_next(&iter, &ignored, &value))
        take(c, &value);
}

static void set_role(struct chooser *c, const char *name, enum import_role role)
{
    struct import_column *column = find(c, text_of(name));
    if (column != NULL)
        column->role = role;
}

/* False: the file is not ours. */
static bool choose_ours(struct chooser *c)
{
    const struct pqfile_key_value *key = pqfile_find_key(c->rows->metadata, "proximadb.schema");
    struct pdb_text doc;
    if (key == NULL || !key->has_value)
        return false;
    struct pdb_text json = {(const char *)key->value.data, key->value.len};
    if (!transfer_read_doc(c->arena, json, &doc))
        return false;
    struct doc_value root = doc_root(doc.ptr, doc.len);
    set_role(c, "id", IMPORT_ID);
    set_role(c, "version", IMPORT_VERSION);
    set_role(c, "created_at", IMPORT_CREATED);
    set_role(c, "updated_at", IMPORT_UPDATED);
    set_role(c, "expires_at", IMPORT_EXPIRES);
    set_role(c, "metadata", IMPORT_METADATA);
    take_all(c, &root, "columns", take_column);
    take_all(c, &root, "fields", take_field);
    return true;
}

static bool is_leaf(const struct pqfile_node *node, enum pqfile_type type)
{
    return node->child_count == 0 && node->repetition != PQFILE_REPEATED && node->type == type;
}

/* The footer is only somebody's word: the types must be those of a file of ours. */
static int check_ours(const struct chooser *c)
{
    for (uint32_t i = 0; i < c->columns->count; i++) {
        const struct import_column *column = &c->columns->all[i];
        const struct pqfile_node *node = node_of(c, column);
        bool fits = true;
        if (column->role == IMPORT_ID || column->role == IMPORT_METADATA)
            fits = is_leaf(node, PQFILE_BYTE_ARRAY);
        else if (column->role == IMPORT_VECTOR && column->bits)
            fits = is_leaf(node, PQFILE_FIXED_LEN_BYTE_ARRAY);
        else if (column->role == IMPORT_VECTOR)
            fits = parquet_rows_is_list(c->rows, column->node, column->whole);
        else if (column->role != IMPORT_VALUE)
            fits = is_leaf(node, PQFILE_INT64);
        if (!fits)
            return trail_add(c->trail, PDB_INVALID_ARGUMENT,
                             "column '%s' is not of the type that it has in files of ours",
                             node->name);
    }
    return 0;
}

/* ---- files of others ---- */

static bool is_text(const struct pqfile_node *node)
{
    return is_leaf(node, PQFILE_BYTE_ARRAY);
}

static bool fits_bits(const struct chooser *c, const struct import_column *column, uint32_t bits)
{
    const struct pqfile_node *node = node_of(c, column);
    return node->child_count == 0 && node->repetition != PQFILE_REPEATED &&
           node->type == PQFILE_FIXED_LEN_BYTE_ARRAY &&
           (bits == 0 || node->type_length == (bits + 7) / 8);
}

static bool fits_vector(const struct chooser *c, const struct import_column *column,
                        const struct transfer_field *field, bool named)
{
    if (parquet_rows_is_list(c->rows, column->node, named))
        return true;
    return field != NULL ? field->bits && fits_bits(c, column, field->dimension) : false;
}

static void make_vector(const struct chooser *c, struct import_column *column,
                        struct pdb_text field_name, const struct transfer_field *field)
{
    column->role = IMPORT_VECTOR;
    column->name = field_name;
    column->bits = !parquet_rows_is_list(c->rows, column->node, true);
    column->dimension = field != NULL ? field->dimension : 0;
}

/* The only column that could hold vectors, or NULL with a complaint. */
static struct import_column *only_fit(struct chooser *c, const struct transfer_field *field)
{
    struct import_column *found = NULL;
    for (uint32_t i = 0; i < c->columns->count; i++) {
        struct import_column *column = &c->columns->all[i];
        if (column->role != IMPORT_VALUE || !fits_vector(c, column, field, false))
            continue;
        if (found != NULL) {
            (void)trail_add(c->trail, PDB_INVALID_ARGUMENT,
                            "columns '%s' and '%s' could be the vectors: choose with "
                            "--vector-column",
                            node_of(c, found)->name, node_of(c, column)->name);
            return NULL;
        }
        found = column;
    }
    if (found == NULL)
        (void)trail_add(c->trail, PDB_INVALID_ARGUMENT,
                        "no column is a list of floats%s: choose with --vector-column",
                        field != NULL && field->bits ? ", or bytes of the length of the bits" : "");
    return found;
}

static int choose_vector(struct chooser *c)
{
    static const char *const names[] = {"vector", "embedding", "embeddings", "emb", "vectors"};
    const struct transfer_field *field;
    const char *wanted = c->target->vector_column;
    struct import_column *column = NULL;
    int rc = import_target_field(c->target, &field, c->trail);
    if (rc < 0)
        return rc;
    if (wanted != NULL) {
        column = find(c, text_of(wanted));
        if (column == NULL)
            return trail_add(c->trail, PDB_INVALID_ARGUMENT, "there is no column '%s'", wanted);
        if (!fits_vector(c, column, field, true))
            return trail_add(c->trail, PDB_INVALID_ARGUMENT, "column '%s' is no list of numbers%s",
                             wanted,
                             field != NULL && field->bits ? ", nor bytes of the right length" : "");
    }
    for (size_t i = 0; column == NULL && i < sizeof(names) / sizeof(names[0]); i++) {
        column = find(c, text_of(names[i]));
        if (column != NULL && !fits_vector(c, column, field, false))
            column = NULL;
    }
    if (column == NULL)
        column = only_fit(c, field);
    if (column == NULL)
        return PDB_INVALID_ARGUMENT;
    make_vector(c, column, text_of(c->target->field != NULL ? c->target->field : ""), field);
    return 0;
}

/* Columns "vector_x" are the vectors of a field x that the collection has. */
static void choose_named_vectors(struct chooser *c)
{
    const struct transfer_collection *collection = c->target->collection;
    for (uint32_t i = 0; collection != NULL && i < collection->field_count; i++) {
        const struct transfer_field *field = &collection->fields[i];
        struct pdb_text name = arena_format(c->arena, "vector_%.*s", TEXT_ARG(field->name));
        struct import_column *column = field->name.len > 0 ? find(c, name) : NULL;
        if (column != NULL && column->role == IMPORT_VALUE && fits_vector(c, column, field, true))
            make_vector(c, column, field->name, field);
    }
}

static bool has_vector(const struct import_columns *columns)
{
    for (uint32_t i = 0; i < columns->count; i++)
        if (columns->all[i].role == IMPORT_VECTOR)
            return true;
    return false;
}

static int choose_id(struct chooser *c)
{
    const char *name = c->target->id_column != NULL ? c->target->id_column : "id";
    struct import_column *column = find(c, text_of(name));
    if (column == NULL && c->target->id_column != NULL)
        return trail_add(c->trail, PDB_INVALID_ARGUMENT, "there is no column '%s'", name);
    if (column == NULL)
        return 0;
    const struct pqfile_node *node = node_of(c, column);
    bool fits = is_text(node) || (node->child_count == 0 && node->repetition != PQFILE_REPEATED &&
                                  (node->type == PQFILE_INT32 || node->type == PQFILE_INT64 ||
                                   node->logical.kind == PQFILE_LOGICAL_UUID));
    if (!fits)
        return trail_add(c->trail, PDB_INVALID_ARGUMENT,
                         "column '%s' cannot be the id: neither texts, integers nor UUIDs", name);
    column->role = IMPORT_ID;
    return 0;
}

static int choose_theirs(struct chooser *c)
{
    int rc = choose_id(c);
    if (c->target->vector_column == NULL && c->target->field == NULL)
        choose_named_vectors(c);
    if (rc == 0 && !has_vector(c->columns))
        rc = choose_vector(c);
    struct import_column *metadata = find(c, TEXT_LIT("metadata"));
    if (metadata != NULL && metadata->role == IMPORT_VALUE && is_text(node_of(c, metadata)))
        metadata->role = IMPORT_METADATA;
    return rc;
}

/* Dimensions of the file against those of the collection. */
static int check_fields(const struct chooser *c)
{
    const struct transfer_collection *collection = c->target->collection;
    for (uint32_t i = 0; collection != NULL && i < c->columns->count; i++) {
        const struct import_column *column = &c->columns->all[i];
        if (column->role != IMPORT_VECTOR)
            continue;
        const struct transfer_field *field = transfer_find_field(collection, column->name);
        if (field == NULL)
            return trail_add(c->trail, PDB_INVALID_ARGUMENT,
                             "column '%s': the collection has no vector field '%.*s'",
                             node_of(c, column)->name, TEXT_ARG(column->name));
        if (field->dimension != column->dimension)
            return trail_add(c->trail, PDB_INVALID_ARGUMENT,
                             "column '%s': vectors of dimension %u, but the collection's have %u",
                             node_of(c, column)->name, column->dimension, field->dimension);
    }
    return 0;
}

static int check_values(const struct chooser *c)
{
    int rc = 0;
    for (uint32_t i = 0; i < c->columns->count && rc == 0; i++)
        if (c->columns->all[i].role == IMPORT_VALUE)
            rc = parquet_rows_check(c->rows, c->columns->all[i].node, c->trail);
    return rc;
}

int import_columns_choose(struct import_columns *columns_out, const struct parquet_rows *rows,
                          const struct import_target *target, struct arena *arena,
                          struct trail *trail)
{
    *columns_out = (struct import_columns){0};
    struct chooser c = {columns_out, rows, target, arena, trail};
    int rc = list_columns(&c);
    if (rc < 0)
        return rc;
    columns_out->ours = choose_ours(&c);
    if (!columns_out->ours) {
        rc = choose_theirs(&c);
    } else if (target->field != NULL && columns_out->schema.field_count == 1) {
        struct import_column *only = NULL;
        for (uint32_t i = 0; i < columns_out->count; i++)
            if (columns_out->all[i].role == IMPORT_VECTOR)
                only = &columns_out->all[i];
        if (only != NULL)
            only->name = columns_out->schema.fields[0].name = text_of(target->field);
    }
    if (rc == 0 && columns_out->ours)
        rc = check_ours(&c);
    if (rc == 0 && columns_out->ours)
        rc = check_fields(&c);
    return rc == 0 ? check_values(&c) : rc;
}
