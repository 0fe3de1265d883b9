/* toml_tree.c: the document: its memory, its nodes, the index of keys.
 *
 * One index serves all tables. A hash table per table would cost an allocation for each of the many
 * small tables of a usual file, and a scan of siblings would be quadratic for a file with one huge
 * table. The hash is not keyed: who writes the file can slow down its own parsing, and text_max
 * bounds by how much.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "toml_internal.h"

enum { FIRST_CHUNK_NODES = 32, CHUNK_NODES_MAX = 4096, FIRST_SLOTS = 64 };

static void *default_allocate(void *context, size_t size)
{
    (void)context;
    return malloc(size);
}

static void default_release(void *context, void *memory)
{
    (void)context;
    free(memory);
}

int toml_document_new(const struct toml_allocator *allocator, size_t text_len,
                      struct toml_document **doc_out)
{
    struct toml_allocator from = {default_allocate, default_release, NULL};
    if (allocator->allocate != NULL)
        from = *allocator;
    struct toml_document *doc = from.allocate(from.context, sizeof *doc);
    if (doc == NULL)
        return TOML_NO_MEMORY;
    *doc = (struct toml_document){.allocator = from, .strings_capacity = text_len + 1};
    doc->root.value.type = TOML_TABLE;
    doc->root.value.line = 1;
    doc->root.value.column = 1;
    doc->root.origin = TOML_BY_HEADER;
    doc->strings = from.allocate(from.context, doc->strings_capacity);
    if (doc->strings == NULL) {
        from.release(from.context, doc);
        return TOML_NO_MEMORY;
    }
    *doc_out = doc;
    return 0;
}

void toml_free(struct toml_document *doc)
{
    if (doc == NULL)
        return;
    struct toml_allocator from = doc->allocator;
    for (struct toml_chunk *chunk = doc->chunks; chunk != NULL;) {
        struct toml_chunk *next = chunk->next;
        from.release(from.context, chunk);
        chunk = next;
    }
    if (doc->index.slots != NULL)
        from.release(from.context, doc->index.slots);
    from.release(from.context, doc->strings);
    from.release(from.context, doc);
}

/* ---- index ---- */

/* FNV-1a over the key, then the parent's address mixed in (splitmix64's finaliser). */
static size_t hash_key(const struct toml_value *parent, const char *key, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)key[i]) * 0x100000001b3u;
    hash ^= (uint64_t)(uintptr_t)parent;
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
    return (size_t)(hash ^ (hash >> 31));
}

/* The slot of the key, or the free slot where it belongs. There is always a free one. */
static struct toml_node **find_slot(const struct toml_index *index, const struct toml_value *parent,
                                    const char *key, size_t len)
{
    size_t mask = index->slot_count - 1;
    for (size_t i = hash_key(parent, key, len) & mask;; i = (i + 1) & mask) {
        const struct toml_node *node = index->slots[i];
        if (node == NULL || (node->value.parent == parent && node->value.key.len == len &&
                             memcmp(node->value.key.data, key, len) == 0))
            return &index->slots[i];
    }
}

struct toml_node *toml_index_find(const struct toml_document *doc, const struct toml_value *parent,
                                  const char *key, size_t len)
{
    return doc->index.slot_count == 0 ? NULL : *find_slot(&doc->index, parent, key, len);
}

/* Makes room for one more key. */
static int grow_index(struct toml_document *doc)
{
    struct toml_index *old = &doc->index;
    if (2 * (old->key_count + 1) <= old->slot_count)
        return 0;
    struct toml_index grown = {.slot_count =
                                   old->slot_count == 0 ? FIRST_SLOTS : 2 * old->slot_count,
                               .key_count = old->key_count};
    size_t bytes = grown.slot_count * sizeof(void *); /* at most 16 x TOML_TEXT_MAX_CAP */
    grown.slots = doc->allocator.allocate(doc->allocator.context, bytes);
    if (grown.slots == NULL)
        return TOML_NO_MEMORY;
    memset(grown.slots, 0, bytes);
    for (size_t i = 0; i < old->slot_count; i++) {
        struct toml_node *node = old->slots[i];
        if (node != NULL)
            *find_slot(&grown, node->value.parent, node->value.key.data, node->value.key.len) =
                node;
    }
    if (old->slots != NULL)
        doc->allocator.release(doc->allocator.context, old->slots);
    doc->index = grown;
    return 0;
}

/* ---- nodes ---- */

/* A zeroed node, or NULL. */
static struct toml_node *take_node(struct toml_document *doc)
{
    struct toml_chunk *chunk = doc->chunks;
    if (chunk == NULL || chunk->used == chunk->capacity) {
        size_t capacity = chunk == NULL ? FIRST_CHUNK_NODES : 2 * chunk->capacity;
        if (capacity > CHUNK_NODES_MAX)
            capacity = CHUNK_NODES_MAX;
        struct toml_chunk *fresh = doc->allocator.allocate(
            doc->allocator.context, sizeof *fresh + capacity * sizeof fresh->nodes[0]);
        if (fresh == NULL)
            return NULL;
        fresh->next = chunk;
        fresh->used = 0;
        fresh->capacity = capacity;
        doc->chunks = chunk = fresh;
    }
    struct toml_node *node = &chunk->nodes[chunk->used++];
    memset(node, 0, sizeof *node);
    return node;
}

int toml_node_new(struct toml_parser *p, struct toml_node *parent, const struct toml_key *key,
                  struct toml_node **node_out)
{
    assert(parent->value.type == (key == NULL ? TOML_ARRAY : TOML_TABLE));
    const char *at = key == NULL ? p->at : key->at;
    if (parent->depth >= p->depth_max)
        return toml_fail(p, at, TOML_LIMIT, "more than %u levels of tables and arrays",
                         (unsigned)p->depth_max);
    if (key != NULL && grow_index(p->doc) < 0)
        return toml_fail(p, at, TOML_NO_MEMORY, "out of memory");
    struct toml_node *node = take_node(p->doc);
    if (node == NULL)
        return toml_fail(p, at, TOML_NO_MEMORY, "out of memory");

    node->depth = (uint16_t)(parent->depth + 1);
    node->value.parent = &parent->value;
    toml_mark(p, at, &node->value.line, &node->value.column);
    if (key != NULL) {
        node->value.key = key->name;
        node->value.key_line = node->value.line;
        node->value.key_column = node->value.column;
        *find_slot(&p->doc->index, &parent->value, key->name.data, key->name.len) = node;
        p->doc->index.key_count++;
    }
    if (parent->last_child == NULL)
        parent->value.as.children.first = &node->value;
    else
        parent->last_child->value.next = &node->value;
    parent->last_child = node;
    parent->value.as.children.count++;
    *node_out = node;
    return 0;
}
