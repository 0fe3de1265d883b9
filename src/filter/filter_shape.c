/* filter_shape.c: a filter as logs may show it: keys and operators, never a value (values are
 * users' data). */
#include "filter/filter_internal.h"

#include "base/buffer.h"

#include "base/no_libc_heap.h"

enum { SHAPE_BYTES_MAX = 64 * 1024 };

static void write_key(struct buffer *out, struct pdb_text key)
{
    for (size_t i = 0; i < key.len; i++) {
        unsigned char byte = (unsigned char)key.ptr[i];
        if (byte < 0x20 || byte == 0x7f)
            buffer_add_byte(out, '?');
        else
            buffer_add_byte(out, key.ptr[i]);
    }
}

/* An AND or OR of one child is that child; compilation makes many of those. */
static const struct filter_node *unwrap(const struct filter_node *node)
{
    while ((node->kind == FILTER_NODE_AND || node->kind == FILTER_NODE_OR) && node->first != NULL &&
           node->first == node->last)
        node = node->first;
    return node;
}

/* Depth as compilation limited it. */
static void write_node(struct buffer *out, const struct filter_node *node, bool nested)
{
    node = unwrap(node);
    if (node->kind == FILTER_NODE_LEAF) {
        write_key(out, node->key);
        buffer_add_byte(out, ' ');
        buffer_add_text(out, text_of(filter_op_names[node->op]));
        return;
    }
    if (node->kind == FILTER_NODE_NOT) {
        buffer_add_lit(out, "NOT ");
        write_node(out, node->first, true);
        return;
    }
    if (node->first == NULL) {
        buffer_add_lit(out, "ANY");
        return;
    }
    if (nested)
        buffer_add_byte(out, '(');
    for (const struct filter_node *child = node->first; child != NULL; child = child->next) {
        if (child != node->first)
            buffer_add_text(out,
                            node->kind == FILTER_NODE_AND ? TEXT_LIT(" AND ") : TEXT_LIT(" OR "));
        write_node(out, child, true);
    }
    if (nested)
        buffer_add_byte(out, ')');
}

struct pdb_text filter_shape(const struct filter *filter, struct arena *arena)
{
    if (filter == NULL)
        return TEXT_LIT("");
    struct buffer out;
    buffer_init_arena(&out, arena, SHAPE_BYTES_MAX);
    write_node(&out, filter->root, false);
    return out.failed ? (struct pdb_text){NULL, 0} : (struct pdb_text){out.ptr, out.len};
}
