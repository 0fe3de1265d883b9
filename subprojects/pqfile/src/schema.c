/* schema.c: see schema.h. Fields come depth first with numbers of children; one walk with a stack
 * of open groups gives every node its parent, its levels and its end. */
#include "schema.h"

#include <assert.h>
#include <string.h>

#include "error.h"
#include "metadata.h"
#include "pqfile/reader.h"

enum { FIELD_MAX = PQFILE_NODE_MAX_DEFAULT - 1, VALUE_BYTES_MAX = 1 << 30 };

struct walk {
    struct pqfile_node *nodes;
    uint32_t *columns;
    uint32_t column_count;
    uint32_t depth;                             /* open groups, the root included */
    uint32_t open[PQFILE_DEPTH_MAX_CAP + 1];    /* their nodes */
    uint32_t missing[PQFILE_DEPTH_MAX_CAP + 1]; /* children that must still come */
};

static int refuse(struct pqfile_error *error, const struct pqfile_field *field, const char *why)
{
    const char *name = field->name == NULL ? "" : field->name;
    return pq_error(error, PQFILE_INVALID, "field \"%.80s\": %s", name, why);
}

static bool integer_fits(const struct pqfile_field *field)
{
    if (field->logical.bits == 64)
        return field->type == PQFILE_INT64;
    return field->type == PQFILE_INT32 &&
           (field->logical.bits == 8 || field->logical.bits == 16 || field->logical.bits == 32);
}

static bool unit_fits(const struct pqfile_field *field)
{
    if (field->logical.kind == PQFILE_LOGICAL_TIME && field->logical.unit == PQFILE_MILLIS)
        return field->type == PQFILE_INT32;
    return field->type == PQFILE_INT64 &&
           (field->logical.unit == PQFILE_MILLIS || field->logical.unit == PQFILE_MICROS ||
            field->logical.unit == PQFILE_NANOS);
}

static bool decimal_fits(const struct pqfile_field *field)
{
    const struct pqfile_logical *l = &field->logical;
    bool type = field->type == PQFILE_INT32 || field->type == PQFILE_INT64 ||
                field->type == PQFILE_BYTE_ARRAY || field->type == PQFILE_FIXED_LEN_BYTE_ARRAY;
    return type && l->precision > 0 && l->scale >= 0 && l->scale <= l->precision;
}

/* Whether a leaf's logical type is one of its physical type. */
static bool logical_fits(const struct pqfile_field *field)
{
    bool fixed = field->type == PQFILE_FIXED_LEN_BYTE_ARRAY;
    switch (field->logical.kind) {
    case PQFILE_LOGICAL_NONE:
        return true;
    case PQFILE_LOGICAL_STRING:
    case PQFILE_LOGICAL_ENUM:
    case PQFILE_LOGICAL_JSON:
    case PQFILE_LOGICAL_BSON:
        return field->type == PQFILE_BYTE_ARRAY;
    case PQFILE_LOGICAL_DECIMAL:
        return decimal_fits(field);
    case PQFILE_LOGICAL_DATE:
        return field->type == PQFILE_INT32;
    case PQFILE_LOGICAL_TIME:
    case PQFILE_LOGICAL_TIMESTAMP:
        return unit_fits(field);
    case PQFILE_LOGICAL_INTEGER:
        return integer_fits(field);
    case PQFILE_LOGICAL_UUID:
        return fixed && field->type_length == 16;
    case PQFILE_LOGICAL_FLOAT16:
        return fixed && field->type_length == 2;
    case PQFILE_LOGICAL_UNKNOWN:
        return field->repetition == PQFILE_OPTIONAL;
    case PQFILE_LOGICAL_MAP:
    case PQFILE_LOGICAL_LIST:
    case PQFILE_LOGICAL_OTHER:
    default:
        return false;
    }
}

static int check_leaf(const struct pqfile_field *field, struct pqfile_error *error)
{
    bool fixed = field->type == PQFILE_FIXED_LEN_BYTE_ARRAY;
    if ((unsigned)field->type > PQFILE_FIXED_LEN_BYTE_ARRAY || field->type == PQFILE_INT96)
        return refuse(error, field, "no type that is written");
    if (fixed && (field->type_length == 0 || field->type_length > VALUE_BYTES_MAX))
        return refuse(error, field, "type_length must be 1 to 2^30");
    if (!fixed && field->type_length != 0)
        return refuse(error, field, "type_length is for FIXED_LEN_BYTE_ARRAY");
    if (!logical_fits(field))
        return refuse(error, field, "the logical type does not fit the type");
    if (field->list_size != 0)
        return refuse(error, field, "list_size is for groups that are a LIST");
    return 0;
}

/* `left`: fields from this one on. */
static int check_group(const struct pqfile_field *field, size_t left, struct pqfile_error *error)
{
    enum pqfile_logical_kind kind = field->logical.kind;
    if (field->options != NULL)
        return refuse(error, field, "options are for columns");
    if (kind != PQFILE_LOGICAL_NONE && kind != PQFILE_LOGICAL_LIST && kind != PQFILE_LOGICAL_MAP)
        return refuse(error, field, "the logical type is not for groups");
    if (kind == PQFILE_LOGICAL_NONE)
        return field->list_size == 0 ? 0 : refuse(error, field, "list_size is for a LIST");
    if (field->repetition == PQFILE_REPEATED)
        return refuse(error, field, "a LIST or MAP is not repeated itself");
    if (field->child_count != 1 || left < 3 || field[1].repetition != PQFILE_REPEATED ||
        field[1].child_count != (kind == PQFILE_LOGICAL_LIST ? 1U : 2U))
        return refuse(error, field,
                      "a LIST is a group, in it a repeated group, in that an element");
    if (field->list_size == 0)
        return 0;
    if (kind != PQFILE_LOGICAL_LIST || field[2].child_count != 0)
        return refuse(error, field, "list_size needs a LIST of columns");
    if (field->list_size > VALUE_BYTES_MAX)
        return refuse(error, field, "list_size is too large");
    return 0;
}

static int check_field(const struct pqfile_field *field, size_t left, struct pqfile_error *error)
{
    if (field->name == NULL || field->name[0] == '\0')
        return refuse(error, field, "a field needs a name");
    if ((unsigned)field->repetition > PQFILE_REPEATED)
        return refuse(error, field, "no repetition");
    if (field->child_count > 0)
        return check_group(field, left, error);
    return check_leaf(field, error);
}

/* Two children of a group with one name cannot be told apart by path. Groups are small; the root
 * may have some thousands. */
static int check_siblings(const struct walk *walk, uint32_t parent, uint32_t first, uint32_t node,
                          const struct pqfile_field *field, struct pqfile_error *error)
{
    const struct pqfile_node *nodes = walk->nodes;
    for (uint32_t i = first; i < node; i++)
        if (nodes[i].parent == parent && nodes[i].name_len == nodes[node].name_len &&
            memcmp(nodes[i].name, nodes[node].name, nodes[node].name_len) == 0)
            return refuse(error, field, "the name is taken");
    return 0;
}

static void fill_node(struct pqfile_node *node, const struct pqfile_field *field,
                      const struct pqfile_node *parent)
{
    node->child_count = field->child_count;
    node->repetition = field->repetition;
    node->type = field->type;
    node->type_length = field->type_length;
    node->definition_max =
        (uint16_t)(parent->definition_max + (field->repetition == PQFILE_REQUIRED ? 0 : 1));
    node->repetition_max =
        (uint16_t)(parent->repetition_max + (field->repetition == PQFILE_REPEATED ? 1 : 0));
    node->has_field_id = field->field_id != 0;
    node->field_id = field->field_id;
    node->logical = field->logical;
    node->converted = pq_converted_of(&field->logical);
}

static void close_full_groups(struct walk *walk, uint32_t end)
{
    while (walk->depth > 1 && walk->missing[walk->depth - 1] == 0)
        walk->nodes[walk->open[--walk->depth]].end = end;
}

static int add_node(struct walk *walk, uint32_t number, const struct pqfile_field *field,
                    struct pq_arena *arena, struct pqfile_error *error)
{
    struct pqfile_node *node = &walk->nodes[number];
    uint32_t parent = walk->open[walk->depth - 1];
    node->name_len = strlen(field->name);
    node->name = pq_arena_text(arena, field->name, node->name_len);
    if (node->name == NULL)
        return pq_error_plain(error, pq_arena_code(arena));
    node->parent = parent;
    fill_node(node, field, &walk->nodes[parent]);
    int rc = check_siblings(walk, parent, parent + 1, number, field, error);
    if (rc < 0)
        return rc;
    if (parent == 0)
        walk->nodes[0].child_count++;
    else
        walk->missing[walk->depth - 1]--;
    if (field->child_count == 0) {
        node->column = walk->column_count;
        node->end = number + 1;
        walk->columns[walk->column_count++] = number;
    } else {
        if (walk->depth > PQFILE_DEPTH_MAX_DEFAULT)
            return refuse(error, field, "too deep");
        node->column = UINT32_MAX;
        walk->open[walk->depth] = number;
        walk->missing[walk->depth++] = field->child_count;
    }
    close_full_groups(walk, number + 1);
    return 0;
}

static int walk_fields(struct walk *walk, const struct pqfile_field *fields, size_t field_count,
                       struct pq_arena *arena, struct pqfile_error *error)
{
    for (size_t i = 0; i < field_count; i++) {
        int rc = check_field(&fields[i], field_count - i, error);
        if (rc == 0)
            rc = add_node(walk, (uint32_t)i + 1, &fields[i], arena, error);
        if (rc < 0)
            return rc;
    }
    if (walk->depth != 1)
        return refuse(error, &fields[walk->open[walk->depth - 1] - 1], "children are missing");
    return 0;
}

int pq_schema_build(const struct pqfile_field *fields, size_t field_count, struct pq_arena *arena,
                    struct pqfile_metadata *metadata_out, struct pqfile_error *error)
{
    if (field_count == 0 || field_count > FIELD_MAX)
        return pq_error(error, PQFILE_INVALID, "a schema has 1 to %d fields", FIELD_MAX);
    struct walk walk = {.depth = 1};
    walk.nodes = pq_arena_zeroed(arena, field_count + 1, sizeof *walk.nodes);
    walk.columns = pq_arena_zeroed(arena, field_count, sizeof *walk.columns);
    if (walk.nodes == NULL || walk.columns == NULL)
        return pq_error_plain(error, pq_arena_code(arena));
    walk.nodes[0] = (struct pqfile_node){.name = "schema",
                                         .name_len = sizeof "schema" - 1,
                                         .end = (uint32_t)field_count + 1,
                                         .column = UINT32_MAX,
                                         .converted = PQFILE_CONVERTED_NONE};
    int rc = walk_fields(&walk, fields, field_count, arena, error);
    if (rc < 0)
        return rc;
    metadata_out->nodes = walk.nodes;
    metadata_out->node_count = (uint32_t)field_count + 1;
    metadata_out->columns = walk.columns;
    metadata_out->column_count = walk.column_count;
    return 0;
}
