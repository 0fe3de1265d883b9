/* metadata_schema.c: the schema. In the file it is a list, depth first, in which a group says how
 * many children follow; here it becomes nodes that know parent, end, column and levels. The tree is
 * built with a stack of the open groups, so depth costs no recursion.
 *
 * Source: parquet.thrift of apache/parquet-format 2.10, SchemaElement, LogicalType, ConvertedType;
 * LogicalTypes.md. */
#include <assert.h>
#include <string.h>

#include "error.h"
#include "metadata_internal.h"

/* A SchemaElement as it stands in the file. */
struct element {
    bool has_type;
    int32_t type;
    int32_t type_length;
    bool has_repetition;
    int32_t repetition;
    const uint8_t *name;
    size_t name_len;
    int32_t child_count;
    int32_t converted;
    int32_t scale;
    int32_t precision;
    bool has_field_id;
    int32_t field_id;
    struct pqfile_logical logical;
};

/* ---- logical types ---- */

static void read_decimal(struct pq_thrift_reader *r, struct pqfile_logical *logical)
{
    struct pq_thrift_field f;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        if (f.id == 1)
            logical->scale = pq_thrift_i32(r, f.type);
        else if (f.id == 2)
            logical->precision = pq_thrift_i32(r, f.type);
        else
            pq_thrift_skip(r, f.type);
    }
}

static void read_unit(struct pq_thrift_reader *r, struct pqfile_logical *logical)
{
    struct pq_thrift_field f;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        if (f.id == PQFILE_MILLIS)
            logical->unit = PQFILE_MILLIS;
        else if (f.id == PQFILE_MICROS)
            logical->unit = PQFILE_MICROS;
        else if (f.id == PQFILE_NANOS)
            logical->unit = PQFILE_NANOS;
        pq_thrift_skip(r, f.type);
    }
}

static void read_time(struct pq_thrift_reader *r, struct pqfile_logical *logical)
{
    struct pq_thrift_field f;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        if (f.id == 1)
            logical->utc = pq_thrift_bool(r, f.type);
        else if (f.id == 2 && f.type == PQ_THRIFT_STRUCT)
            read_unit(r, logical);
        else
            pq_thrift_skip(r, f.type);
    }
}

static void read_integer(struct pq_thrift_reader *r, struct pqfile_logical *logical)
{
    struct pq_thrift_field f;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        if (f.id == 1)
            logical->bits = (uint8_t)pq_thrift_i32(r, f.type);
        else if (f.id == 2)
            logical->is_signed = pq_thrift_bool(r, f.type);
        else
            pq_thrift_skip(r, f.type);
    }
}

static enum pqfile_logical_kind kind_of(int16_t id)
{
    static const enum pqfile_logical_kind kinds[] = {
        [PQFILE_LOGICAL_STRING] = PQFILE_LOGICAL_STRING,
        [PQFILE_LOGICAL_MAP] = PQFILE_LOGICAL_MAP,
        [PQFILE_LOGICAL_LIST] = PQFILE_LOGICAL_LIST,
        [PQFILE_LOGICAL_ENUM] = PQFILE_LOGICAL_ENUM,
        [PQFILE_LOGICAL_DECIMAL] = PQFILE_LOGICAL_DECIMAL,
        [PQFILE_LOGICAL_DATE] = PQFILE_LOGICAL_DATE,
        [PQFILE_LOGICAL_TIME] = PQFILE_LOGICAL_TIME,
        [PQFILE_LOGICAL_TIMESTAMP] = PQFILE_LOGICAL_TIMESTAMP,
        [PQFILE_LOGICAL_INTEGER] = PQFILE_LOGICAL_INTEGER,
        [PQFILE_LOGICAL_UNKNOWN] = PQFILE_LOGICAL_UNKNOWN,
        [PQFILE_LOGICAL_JSON] = PQFILE_LOGICAL_JSON,
        [PQFILE_LOGICAL_BSON] = PQFILE_LOGICAL_BSON,
        [PQFILE_LOGICAL_UUID] = PQFILE_LOGICAL_UUID,
        [PQFILE_LOGICAL_FLOAT16] = PQFILE_LOGICAL_FLOAT16,
    };
    if (id <= 0 || (size_t)id >= sizeof(kinds) / sizeof(kinds[0]) ||
        kinds[id] == PQFILE_LOGICAL_NONE)
        return PQFILE_LOGICAL_OTHER;
    return kinds[id];
}

static void read_logical(struct pq_thrift_reader *r, struct pqfile_logical *logical)
{
    struct pq_thrift_field f;
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        *logical = (struct pqfile_logical){.kind = kind_of(f.id)};
        bool is_struct = f.type == PQ_THRIFT_STRUCT;
        bool is_time =
            logical->kind == PQFILE_LOGICAL_TIME || logical->kind == PQFILE_LOGICAL_TIMESTAMP;
        if (is_struct && logical->kind == PQFILE_LOGICAL_DECIMAL)
            read_decimal(r, logical);
        else if (is_struct && is_time)
            read_time(r, logical);
        else if (is_struct && logical->kind == PQFILE_LOGICAL_INTEGER)
            read_integer(r, logical);
        else
            pq_thrift_skip(r, f.type);
    }
}

#define INTEGER(BITS, SIGNED)                                                                      \
    {                                                                                              \
        .kind = PQFILE_LOGICAL_INTEGER, .bits = (BITS), .is_signed = (SIGNED)                      \
    }

/* What a ConvertedType means, by its number. Its times have always been in UTC. */
static const struct pqfile_logical converted_meanings[] = {
    [0] = {.kind = PQFILE_LOGICAL_STRING},
    [1] = {.kind = PQFILE_LOGICAL_MAP},
    [2] = {.kind = PQFILE_LOGICAL_NONE}, /* MAP_KEY_VALUE: see below */
    [3] = {.kind = PQFILE_LOGICAL_LIST},
    [4] = {.kind = PQFILE_LOGICAL_ENUM},
    [5] = {.kind = PQFILE_LOGICAL_DECIMAL},
    [6] = {.kind = PQFILE_LOGICAL_DATE},
    [7] = {.kind = PQFILE_LOGICAL_TIME, .unit = PQFILE_MILLIS, .utc = true},
    [8] = {.kind = PQFILE_LOGICAL_TIME, .unit = PQFILE_MICROS, .utc = true},
    [9] = {.kind = PQFILE_LOGICAL_TIMESTAMP, .unit = PQFILE_MILLIS, .utc = true},
    [10] = {.kind = PQFILE_LOGICAL_TIMESTAMP, .unit = PQFILE_MICROS, .utc = true},
    [11] = INTEGER(8, false),
    [12] = INTEGER(16, false),
    [13] = INTEGER(32, false),
    [14] = INTEGER(64, false),
    [15] = INTEGER(8, true),
    [16] = INTEGER(16, true),
    [17] = INTEGER(32, true),
    [18] = INTEGER(64, true),
    [19] = {.kind = PQFILE_LOGICAL_JSON},
    [20] = {.kind = PQFILE_LOGICAL_BSON},
    [21] = {.kind = PQFILE_LOGICAL_NONE}, /* INTERVAL has no logical type */
};

static struct pqfile_logical logical_of(const struct element *e)
{
    struct pqfile_logical logical = {0};
    if (e->logical.kind != PQFILE_LOGICAL_NONE || e->converted < 0 ||
        (size_t)e->converted >= sizeof(converted_meanings) / sizeof(converted_meanings[0]))
        return e->logical;
    logical = converted_meanings[e->converted];
    if (logical.kind == PQFILE_LOGICAL_DECIMAL) {
        logical.scale = e->scale;
        logical.precision = e->precision;
    }
    return logical;
}

/* ---- elements ---- */

static void read_element(struct pq_thrift_reader *r, struct element *e)
{
    struct pq_thrift_field f;
    *e = (struct element){.converted = PQFILE_CONVERTED_NONE};
    pq_thrift_begin(r);
    while (pq_thrift_next(r, &f)) {
        switch (f.id) {
        case 1:
            e->has_type = true;
            e->type = pq_thrift_i32(r, f.type);
            break;
        case 2:
            e->type_length = pq_thrift_i32(r, f.type);
            break;
        case 3:
            e->has_repetition = true;
            e->repetition = pq_thrift_i32(r, f.type);
            break;
        case 4:
            e->name = pq_thrift_binary(r, f.type, &e->name_len);
            break;
        case 5:
            e->child_count = pq_thrift_i32(r, f.type);
            break;
        case 6:
            e->converted = pq_thrift_i32(r, f.type);
            break;
        case 7:
            e->scale = pq_thrift_i32(r, f.type);
            break;
        case 8:
            e->precision = pq_thrift_i32(r, f.type);
            break;
        case 9:
            e->has_field_id = true;
            e->field_id = pq_thrift_i32(r, f.type);
            break;
        case 10:
            if (f.type == PQ_THRIFT_STRUCT)
                read_logical(r, &e->logical);
            else
                pq_thrift_skip(r, f.type);
            break;
        default:
            pq_thrift_skip(r, f.type);
        }
    }
}

/* What can be wrong with an element by itself. */
static int check_element(const struct element *e, uint32_t index, struct pqfile_error *error)
{
    bool is_leaf = index != 0 && e->child_count == 0;
    if (e->name == NULL)
        return pq_error(error, PQFILE_CORRUPT, "schema: node %u has no name", index);
    if (e->child_count < 0)
        return pq_error(error, PQFILE_CORRUPT, "schema: node %u: negative children", index);
    if (index != 0 &&
        (!e->has_repetition || e->repetition < PQFILE_REQUIRED || e->repetition > PQFILE_REPEATED))
        return pq_error(error, PQFILE_CORRUPT, "schema: node %u: repetition", index);
    if (is_leaf && !e->has_type)
        return pq_error(error, PQFILE_CORRUPT, "schema: node %u has neither type nor children",
                        index);
    if (!is_leaf && e->has_type)
        return pq_error(error, PQFILE_CORRUPT, "schema: node %u has type and children", index);
    if (is_leaf && (e->type < PQFILE_BOOLEAN || e->type > PQFILE_FIXED_LEN_BYTE_ARRAY))
        return pq_error(error, PQFILE_UNSUPPORTED, "schema: node %u: type %d", index, e->type);
    if (is_leaf && e->type == PQFILE_FIXED_LEN_BYTE_ARRAY && e->type_length <= 0)
        return pq_error(error, PQFILE_CORRUPT, "schema: node %u: values of %d bytes", index,
                        e->type_length);
    return PQFILE_OK;
}

/* ---- the tree ---- */

struct tree {
    struct pqfile_node *nodes;
    uint32_t *columns;
    uint32_t count;
    uint32_t column_count;
    uint32_t depth; /* of open groups */
    uint32_t depth_max;
    struct {
        uint32_t node;
        uint32_t children_left;
    } open[PQFILE_DEPTH_MAX_CAP + 1];
};

static int set_node(struct tree *t, const struct element *e, struct pq_arena *arena)
{
    bool is_leaf = t->count != 0 && e->child_count == 0;
    uint32_t parent = t->count == 0 ? 0 : t->open[t->depth - 1].node;
    const struct pqfile_node *above = &t->nodes[parent];
    char *name = pq_arena_text(arena, e->name, e->name_len);
    if (name == NULL)
        return pq_arena_code(arena);
    struct pqfile_node node = {
        .name = name,
        .name_len = e->name_len,
        .parent = parent,
        .child_count = (uint32_t)e->child_count,
        .end = t->count + 1,
        .column = is_leaf ? t->column_count : UINT32_MAX,
        .repetition = t->count == 0 ? PQFILE_REQUIRED : (enum pqfile_repetition)e->repetition,
        .definition_max = above->definition_max,
        .repetition_max = above->repetition_max,
        .has_field_id = e->has_field_id,
        .field_id = e->field_id,
        .converted = e->converted,
        .logical = logical_of(e),
    };
    node.definition_max = (uint16_t)(node.definition_max + (node.repetition != PQFILE_REQUIRED));
    node.repetition_max = (uint16_t)(node.repetition_max + (node.repetition == PQFILE_REPEATED));
    if (is_leaf) {
        node.type = (enum pqfile_type)e->type;
        if (node.type == PQFILE_FIXED_LEN_BYTE_ARRAY)
            node.type_length = (uint32_t)e->type_length;
        if (node.type == PQFILE_INT96)
            node.type_length = 12;
        t->columns[t->column_count++] = t->count;
    }
    t->nodes[t->count++] = node;
    return PQFILE_OK;
}

/* Opens the node if it is a group, and closes all groups that are now complete. */
static int descend(struct tree *t, struct pqfile_error *error)
{
    uint32_t index = t->count - 1;
    if (t->depth != 0)
        t->open[t->depth - 1].children_left--;
    if (t->nodes[index].child_count != 0) {
        if (t->depth > t->depth_max)
            return pq_error(error, PQFILE_LIMIT, "schema: deeper than %u levels", t->depth_max);
        t->open[t->depth].node = index;
        t->open[t->depth].children_left = t->nodes[index].child_count;
        t->depth++;
    }
    for (; t->depth != 0 && t->open[t->depth - 1].children_left == 0; t->depth--)
        t->nodes[t->open[t->depth - 1].node].end = t->count;
    return PQFILE_OK;
}

static int build(struct pq_thrift_reader *r, uint32_t count, struct tree *t, struct pq_arena *arena,
                 struct pqfile_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        struct element e;
        read_element(r, &e);
        if (r->failed)
            return pq_error(error, PQFILE_CORRUPT, "schema: node %u: structure", i);
        if (i != 0 && t->depth == 0)
            return pq_error(error, PQFILE_CORRUPT, "schema: more nodes than children");
        int rc = check_element(&e, i, error);
        if (rc < 0)
            return rc;
        if ((rc = set_node(t, &e, arena)) < 0)
            return pq_error_plain(error, rc);
        if ((rc = descend(t, error)) < 0)
            return rc;
    }
    if (t->depth != 0)
        return pq_error(error, PQFILE_CORRUPT, "schema: fewer nodes than children");
    return PQFILE_OK;
}

int pq_schema_read(struct pq_thrift_reader *r, uint8_t type,
                   const struct pq_metadata_limits *limits, struct pq_arena *arena,
                   struct pqfile_metadata *metadata, struct pqfile_error *error)
{
    uint8_t element = 0;
    uint32_t count = pq_thrift_list(r, type, &element);
    assert(limits->depth_max <= PQFILE_DEPTH_MAX_CAP);
    if (r->failed || count == 0 || element != PQ_THRIFT_STRUCT || metadata->nodes != NULL)
        return pq_error(error, PQFILE_CORRUPT, "schema: structure");
    if (count > limits->node_max)
        return pq_error(error, PQFILE_LIMIT, "schema: %u nodes, more than %u", count,
                        limits->node_max);
    struct tree t = {.depth_max = limits->depth_max};
    t.nodes = pq_arena_zeroed(arena, count, sizeof(*t.nodes));
    t.columns = pq_arena_zeroed(arena, count, sizeof(*t.columns));
    if (t.nodes == NULL || t.columns == NULL)
        return pq_error_plain(error, pq_arena_code(arena));
    int rc = build(r, count, &t, arena, error);
    if (rc < 0)
        return rc;
    metadata->nodes = t.nodes;
    metadata->node_count = t.count;
    metadata->columns = t.columns;
    metadata->column_count = t.column_count;
    return PQFILE_OK;
}
