/* doc_merge.c: partial updates of metadata. Both documents have their keys sorted, so merging is a
 * zip of two iterators for each pair of objects; subtrees that only one side has are copied as
 * bytes. Removal goes by the places that the paths lead to, found before anything is written: paths
 * do not see each other's effects. */
#include "base/doc_internal.h"

#include "base/assert.h"

#include <proximadb/error.h>

#include "base/no_libc_heap.h"

/* One side of a zip: the member that comes next. */
struct side {
    struct doc_iter iter;
    struct pdb_text key;
    struct doc_value value;
    bool has;
};

struct zip {
    struct side base, patch;
};

static void advance(struct side *side)
{
    side->has = doc_next(&side->iter, &side->key, &side->value);
}

static struct side side_of(const struct doc_value *object)
{
    struct side side = {.iter = doc_iterate(object)};
    advance(&side);
    return side;
}

/* Puts the next member of the two objects; *deeper_out: both are objects, to be merged
 * themselves. */
static int zip_step(struct doc_builder *b, struct zip *zip, bool *deeper_out)
{
    int order = !zip->base.has    ? 1
                : !zip->patch.has ? -1
                                  : text_compare(zip->base.key, zip->patch.key);
    struct side *from = order < 0 ? &zip->base : &zip->patch;
    int rc = doc_add_key(b, from->key);
    if (rc < 0)
        return rc;
    *deeper_out =
        order == 0 && zip->base.value.type == DOC_OBJECT && zip->patch.value.type == DOC_OBJECT;
    if (*deeper_out)
        return 0;
    rc = doc_add_value(b, &from->value);
    if (order <= 0)
        advance(&zip->base);
    if (order >= 0)
        advance(&zip->patch);
    return rc;
}

static int merge_objects(struct doc_builder *b, const struct doc_value *base,
                         const struct doc_value *patch)
{
    struct zip zips[DOC_DEPTH_MAX];
    unsigned depth = 1;
    int rc = doc_begin_object(b);
    zips[0] = (struct zip){side_of(base), side_of(patch)};
    while (rc == 0 && depth > 0) {
        struct zip *zip = &zips[depth - 1];
        bool deeper = false;
        if (!zip->base.has && !zip->patch.has) {
            rc = doc_end(b);
            depth--;
            continue;
        }
        rc = zip_step(b, zip, &deeper);
        if (rc == 0 && deeper) {
            ASSERT(depth < DOC_DEPTH_MAX);
            zips[depth++] = (struct zip){side_of(&zip->base.value), side_of(&zip->patch.value)};
            rc = doc_begin_object(b);
            advance(&zip->base);
            advance(&zip->patch);
        }
    }
    return rc;
}

/* Entries to leave out, by the address of their keys. */
struct removal {
    const uint8_t **entries;
    size_t count;
};

static bool removed(const struct removal *removal, const uint8_t *entry)
{
    for (size_t i = 0; i < removal->count; i++) {
        if (removal->entries[i] == entry)
            return true;
    }
    return false;
}

static bool touches(const struct removal *removal, const struct doc_value *value)
{
    if (value->type != DOC_OBJECT)
        return false;
    const uint8_t *body = value->children.body;
    for (size_t i = 0; i < removal->count; i++) {
        if (removal->entries[i] >= body && removal->entries[i] < body + value->children.body_bytes)
            return true;
    }
    return false;
}

static int copy_without(struct doc_builder *b, const struct doc_value *root,
                        const struct removal *removal)
{
    struct doc_iter open[DOC_DEPTH_MAX];
    unsigned depth = 1;
    int rc = doc_begin_object(b);
    open[0] = doc_iterate(root);
    while (rc == 0 && depth > 0) {
        struct pdb_text key = {NULL, 0};
        struct doc_value value;
        const uint8_t *entry = open[depth - 1].at;
        if (!doc_next(&open[depth - 1], &key, &value)) {
            rc = doc_end(b);
            depth--;
            continue;
        }
        if (removed(removal, entry))
            continue;
        rc = doc_add_key(b, key);
        if (rc == 0 && touches(removal, &value)) {
            ASSERT(depth < DOC_DEPTH_MAX);
            open[depth++] = doc_iterate(&value);
            rc = doc_begin_object(b);
        } else if (rc == 0) {
            rc = doc_add_value(b, &value);
        }
    }
    return rc;
}

static int remove_paths(struct arena *arena, struct doc_builder *b, const struct pdb_text *unset,
                        size_t unset_count, struct pdb_text *bytes)
{
    struct doc_value root = doc_root(bytes->ptr, bytes->len);
    struct removal removal = {arena_array(arena, const uint8_t *, unset_count), 0};
    if (removal.entries == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (size_t i = 0; i < unset_count; i++) {
        struct doc_value value;
        const uint8_t *entry = NULL;
        if (doc_find_entry(&root, unset[i], &entry, &value))
            removal.entries[removal.count++] = entry;
    }
    if (removal.count == 0)
        return 0;
    int rc = copy_without(b, &root, &removal);
    return rc < 0 ? rc : doc_builder_finish(b, bytes, NULL);
}

int doc_merge(struct arena *arena, struct pdb_text base, struct pdb_text patch,
              const struct pdb_text *unset, size_t unset_count, struct pdb_text *bytes_out)
{
    struct doc_builder *b = doc_builder_new(arena, 0);
    if (b == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    struct doc_value from = doc_root(base.ptr, base.len), over = doc_root(patch.ptr, patch.len);
    bool objects = from.type == DOC_OBJECT && over.type == DOC_OBJECT;
    struct pdb_text bytes = {NULL, 0};
    int rc = objects ? merge_objects(b, &from, &over) : doc_add_value(b, &over);
    if (rc < 0 || (rc = doc_builder_finish(b, &bytes, NULL)) < 0)
        return rc;
    if (unset_count != 0 && (rc = remove_paths(arena, b, unset, unset_count, &bytes)) < 0)
        return rc;
    *bytes_out = bytes;
    return 0;
}
