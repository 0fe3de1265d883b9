/* filter_compile.c: document -> tree -> branching program.
 *
 * The first pass walks the document (recursion limited by depth_max), checks everything and makes
 * nodes with their operands ready. The second gives each leaf its two targets. It goes through the
 * children of AND and OR from last to first, because the first one's targets are the entries of
 * those behind it: so no target is ever patched.
 *
 *   a AND (b OR c):   a: true -> b,      false -> REJECT
 *                     b: true -> ACCEPT, false -> c
 *                     c: true -> ACCEPT, false -> REJECT
 *
 * NOT, $ne, $nin and {"$exists": false} exchange the two targets: that is also why a missing key
 * matches them. */
#include "filter/filter_internal.h"

#include "base/assert.h"

#include "base/no_libc_heap.h"

const char *const filter_op_names[FILTER_OP_COUNT] = {
    [FILTER_EQ] = "$eq",         [FILTER_NE] = "$ne",
    [FILTER_GT] = "$gt",         [FILTER_GTE] = "$gte",
    [FILTER_LT] = "$lt",         [FILTER_LTE] = "$lte",
    [FILTER_IN] = "$in",         [FILTER_NIN] = "$nin",
    [FILTER_EXISTS] = "$exists", [FILTER_CONTAINS] = "$contains",
    [FILTER_PREFIX] = "$prefix"};

struct compiler {
    struct arena *arena;
    const struct filter_options *options;
    struct trail *trail;
    size_t leaf_count;
    unsigned depth_max;
    size_t leaves_max;
};

/* ---- first pass: the tree ---- */

static struct filter_node *add_child(struct compiler *c, struct filter_node *parent,
                                     enum filter_node_kind kind, const struct filter_place *place)
{
    struct filter_node *node = arena_new(c->arena, struct filter_node);
    if (node == NULL) {
        (void)filter_fail(c->trail, PDB_RESOURCE_EXHAUSTED, place, "no memory");
        return NULL;
    }
    node->kind = kind;
    node->prev = parent->last;
    if (parent->last != NULL)
        parent->last->next = node;
    else
        parent->first = node;
    parent->last = node;
    return node;
}

static enum pdb_column_type column_of(const struct compiler *c, struct pdb_text key)
{
    for (size_t i = 0; c->options != NULL && i < c->options->column_count; i++) {
        if (text_equal(c->options->columns[i].name, key))
            return c->options->columns[i].type;
    }
    return PDB_COLUMN_UNSPECIFIED;
}

static int add_leaf(struct compiler *c, struct filter_node *parent, struct pdb_text key,
                    enum filter_op op, const struct doc_value *value,
                    const struct filter_place *place)
{
    if (++c->leaf_count > c->leaves_max)
        return trail_add(c->trail, PDB_INVALID_ARGUMENT, "filter: more than %zu conditions",
                         c->leaves_max);
    struct filter_node *leaf = add_child(c, parent, FILTER_NODE_LEAF, place);
    if (leaf == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    leaf->key = key;
    leaf->op = op;
    int rc = filter_operand_compile(c->arena, op, column_of(c, key), value, place, c->trail,
                                    &leaf->operand);
    leaf->negated = rc == 0 && op == FILTER_EXISTS && !leaf->operand.boolean;
    return rc;
}

static int find_op(struct compiler *c, struct pdb_text name, const struct filter_place *place,
                   enum filter_op *op_out)
{
    static const char *const later[] = {"$geo_radius", "$geo_box", "$match"};
    for (size_t i = 0; i < FILTER_OP_COUNT; i++) {
        if (text_equal(name, text_of(filter_op_names[i]))) {
            *op_out = (enum filter_op)i;
            return 0;
        }
    }
    for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
        if (text_equal(name, text_of(later[i])))
            return filter_fail(c->trail, PDB_UNIMPLEMENTED, place,
                               "this operator is not available yet");
    }
    if (name.len == 0 || name.ptr[0] != '$')
        return filter_fail(c->trail, PDB_INVALID_ARGUMENT, place,
                           "expected an operator such as $gt; to compare with a whole object, "
                           "write {\"$eq\": {...}}");
    return filter_fail(c->trail, PDB_INVALID_ARGUMENT, place, "unknown operator");
}

/* "price": 20 or "price": {"$gt": 10, "$lt": 20} */
static int parse_key(struct compiler *c, struct filter_node *parent, struct pdb_text key,
                     const struct doc_value *value, const struct filter_place *place)
{
    if (value->type != DOC_OBJECT)
        return add_leaf(c, parent, key, FILTER_EQ, value, place);
    if (value->children.count == 0)
        return filter_fail(c->trail, PDB_INVALID_ARGUMENT, place,
                           "an empty object holds no operator");
    struct doc_iter iter = doc_iterate(value);
    struct pdb_text name;
    struct doc_value operand;
    while (doc_next(&iter, &name, &operand)) {
        struct filter_place at = {.up = place, .key = name};
        enum filter_op op = FILTER_EQ;
        int rc = find_op(c, name, &at, &op);
        if (rc == 0)
            rc = add_leaf(c, parent, key, op, &operand, &at);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int parse_object(struct compiler *c, struct filter_node *node, const struct doc_value *value,
                        const struct filter_place *place, unsigned depth);

/* The array of $and and $or. */
static int parse_list(struct compiler *c, struct filter_node *node, const struct doc_value *list,
                      const struct filter_place *place, unsigned depth)
{
    if (list->type != DOC_ARRAY || list->children.count == 0)
        return filter_fail(c->trail, PDB_INVALID_ARGUMENT, place,
                           "expected an array of at least one filter object, found %s",
                           list->type == DOC_ARRAY ? "an empty one" : filter_type_name(list->type));
    struct doc_iter iter = doc_iterate(list);
    struct pdb_text none;
    struct doc_value item;
    for (size_t i = 0; doc_next(&iter, &none, &item); i++) {
        struct filter_place at = {.up = place, .index = i, .is_index = true};
        struct filter_node *child = add_child(c, node, FILTER_NODE_AND, &at);
        int rc =
            child != NULL ? parse_object(c, child, &item, &at, depth + 1) : PDB_RESOURCE_EXHAUSTED;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int parse_member(struct compiler *c, struct filter_node *node, struct pdb_text key,
                        const struct doc_value *value, const struct filter_place *place,
                        unsigned depth)
{
    enum filter_node_kind kind = FILTER_NODE_NOT;
    if (key.len == 0 || key.ptr[0] != '$')
        return parse_key(c, node, key, value, place);
    if (text_equal(key, TEXT_LIT("$and")))
        kind = FILTER_NODE_AND;
    else if (text_equal(key, TEXT_LIT("$or")))
        kind = FILTER_NODE_OR;
    else if (!text_equal(key, TEXT_LIT("$not")))
        return filter_fail(c->trail, PDB_INVALID_ARGUMENT, place,
                           "unknown operator; expected a key, $and, $or or $not");
    struct filter_node *child = add_child(c, node, kind, place);
    if (child == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    if (kind != FILTER_NODE_NOT)
        return parse_list(c, child, value, place, depth);
    struct filter_node *inner = add_child(c, child, FILTER_NODE_AND, place);
    return inner != NULL ? parse_object(c, inner, value, place, depth + 1) : PDB_RESOURCE_EXHAUSTED;
}

/* The members of a filter object become children of `node`, an AND. */
static int parse_object(struct compiler *c, struct filter_node *node, const struct doc_value *value,
                        const struct filter_place *place, unsigned depth)
{
    if (value->type != DOC_OBJECT)
        return filter_fail(c->trail, PDB_INVALID_ARGUMENT, place,
                           "expected a filter object, found %s", filter_type_name(value->type));
    if (depth > c->depth_max)
        return trail_add(c->trail, PDB_INVALID_ARGUMENT, "filter: nested deeper than %u",
                         c->depth_max);
    struct doc_iter iter = doc_iterate(value);
    struct pdb_text key;
    struct doc_value member;
    while (doc_next(&iter, &key, &member)) {
        struct filter_place at = {.up = place, .key = key};
        int rc = parse_member(c, node, key, &member, &at, depth);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- second pass: the program ---- */

/* Returns where evaluation of `node` begins. `next`: the lowest leaf in use; leaves fill the array
 * from its end, so that the entry comes first. Depth as the first pass limited it. */
static int32_t emit(struct filter *filter, const struct filter_node *node, int32_t on_true,
                    int32_t on_false, size_t *next)
{
    int32_t entry = on_true;
    switch (node->kind) {
    case FILTER_NODE_AND:
        for (const struct filter_node *child = node->last; child != NULL; child = child->prev)
            entry = emit(filter, child, entry, on_false, next);
        return entry;
    case FILTER_NODE_OR:
        entry = on_false;
        for (const struct filter_node *child = node->last; child != NULL; child = child->prev)
            entry = emit(filter, child, on_true, entry, next);
        return entry;
    case FILTER_NODE_NOT:
        return emit(filter, node->first, on_false, on_true, next);
    case FILTER_NODE_LEAF:
        break;
    }
    bool opposite = node->negated || node->op == FILTER_NE || node->op == FILTER_NIN;
    enum filter_op op = node->op;
    if (op == FILTER_NE)
        op = FILTER_EQ;
    if (op == FILTER_NIN)
        op = FILTER_IN;
    ASSERT(*next > 0);
    entry = (int32_t)-- * next;
    filter->leaves[entry] = (struct filter_leaf){.key = node->key,
                                                 .op = op,
                                                 .operand = node->operand,
                                                 .on_true = opposite ? on_false : on_true,
                                                 .on_false = opposite ? on_true : on_false};
    return entry;
}

static int link_program(struct compiler *c, struct filter *filter, const struct filter_node *root)
{
    filter->leaf_count = c->leaf_count;
    filter->leaves = arena_array(c->arena, struct filter_leaf, c->leaf_count);
    if (filter->leaves == NULL && c->leaf_count != 0)
        return trail_add(c->trail, PDB_RESOURCE_EXHAUSTED, "filter: no memory");
    size_t next = c->leaf_count;
    filter->entry = emit(filter, root, FILTER_ACCEPT, FILTER_REJECT, &next);
    filter->root = root;
    ASSERT(next == 0);
    return 0;
}

int filter_compile(struct arena *arena, struct pdb_text document,
                   const struct filter_options *options, struct trail *trail,
                   struct filter **filter_out)
{
    struct compiler c = {.arena = arena, .options = options, .trail = trail};
    c.depth_max = options != NULL ? options->depth_max : 0;
    if (c.depth_max == 0 || c.depth_max > FILTER_DEPTH_MAX)
        c.depth_max = FILTER_DEPTH_MAX;
    c.leaves_max =
        options != NULL && options->leaves_max != 0 ? options->leaves_max : FILTER_LEAVES_DEFAULT;
    struct doc_value root = doc_root(document.ptr, document.len);
    if (root.type == DOC_OBJECT && root.children.count == 0) {
        *filter_out = NULL;
        return 0;
    }
    struct filter *filter = arena_new(arena, struct filter);
    struct filter_node *tree = arena_new(arena, struct filter_node);
    if (filter == NULL || tree == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "filter: no memory");
    tree->kind = FILTER_NODE_AND;
    int rc = parse_object(&c, tree, &root, NULL, 1);
    if (rc == 0)
        rc = link_program(&c, filter, tree);
    if (rc == 0)
        *filter_out = filter;
    return rc;
}
