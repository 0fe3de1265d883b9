/* import_manifest.c: reads manifest.json of an exported folder
 * (docs/operating/import-export.md). */
#include "server/import_manifest.h"

#include "base/json.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/no_libc_heap.h"

enum { MANIFEST_JSON_MAX = 256 << 20 };

static struct import_file *add(struct import_file_list *list, const char *path, struct trail *trail)
{
    struct import_file *grown = arena_grow(list->arena, list->files, list->count * sizeof(*grown),
                                           (list->count + 1) * sizeof(*grown));
    if (grown == NULL || path == NULL) {
        (void)trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
        return NULL;
    }
    list->files = grown;
    grown[list->count] = (struct import_file){.path = path};
    return &grown[list->count++];
}

static int read_all(struct arena *arena, const char *path, struct pdb_text *text_out,
                    struct trail *trail)
{
    uint64_t bytes = 0;
    int rc = import_file_bytes(path, &bytes, trail);
    if (rc < 0)
        return rc;
    if (bytes > MANIFEST_JSON_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: too large", path);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", path, strerror(errno));
    char *text = arena_alloc(arena, (size_t)bytes + 1);
    size_t got = text != NULL ? fread(text, 1, (size_t)bytes, file) : 0;
    (void)fclose(file);
    if (text == NULL || got != bytes)
        return trail_add(trail, PDB_UNAVAILABLE, "%s: cannot be read", path);
    *text_out = (struct pdb_text){text, got};
    return 0;
}

/* [[first,count],...], rising. */
static int take_ended(struct import_file_list *list, struct import_file *file,
                      const struct doc_value *ended, struct trail *trail)
{
    struct doc_iter iter = doc_iterate(ended), pair;
    struct pdb_text key;
    struct doc_value value, first, count;
    uint64_t next = 0;
    size_t n = 0;
    struct import_range *ranges =
        arena_array(list->arena, struct import_range, (size_t)ended->children.count + 1);
    if (ranges == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    while (doc_next(&iter, &key, &value)) {
        if (value.type != DOC_ARRAY || value.children.count != 2)
            return trail_add(trail, PDB_INVALID_ARGUMENT, "ended: not pairs of numbers");
        pair = doc_iterate(&value);
        (void)doc_next(&pair, &key, &first);
        (void)doc_next(&pair, &key, &count);
        if (first.type != DOC_INT || count.type != DOC_INT || first.integer < 0 ||
            count.integer <= 0 || (uint64_t)first.integer < next)
            return trail_add(trail, PDB_INVALID_ARGUMENT, "ended: not rising pairs of numbers");
        ranges[n++] = (struct import_range){(uint64_t)first.integer, (uint64_t)count.integer};
        next = (uint64_t)first.integer + (uint64_t)count.integer;
    }
    file->ended = ranges;
    file->ended_count = n;
    return 0;
}

static int take_segment(struct import_file_list *list, const char *folder,
                        const struct doc_value *segment, struct trail *trail)
{
    struct doc_value name, ended;
    if (segment->type != DOC_OBJECT || !doc_get(segment, TEXT_LIT("file"), &name) ||
        name.type != DOC_STRING || memchr(name.string.ptr, '/', name.string.len) != NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "a segment without the name of its file");
    struct pdb_text path = arena_format(list->arena, "%s/%.*s", folder, TEXT_ARG(name.string));
    struct import_file *file = add(list, path.ptr, trail);
    if (file == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    if (!doc_get(segment, TEXT_LIT("ended"), &ended) || ended.type != DOC_ARRAY)
        return 0;
    return take_ended(list, file, &ended, trail);
}

static int add_folder(struct import_file_list *list, const char *folder, struct trail *trail)
{
    struct pdb_text path = arena_format(list->arena, "%s/manifest.json", folder);
    struct pdb_text json, doc, key;
    struct doc_value segments, segment;
    struct stat st;
    if (path.ptr == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    if (stat(path.ptr, &st) != 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: a folder without manifest.json", folder);
    int rc = read_all(list->arena, path.ptr, &json, trail);
    if (rc < 0)
        return rc;
    if (!transfer_read_doc(list->arena, json, &doc))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: not JSON", path.ptr);
    struct doc_value root = doc_root(doc.ptr, doc.len);
    if (!doc_get(&root, TEXT_LIT("segments"), &segments) || segments.type != DOC_ARRAY)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: no segments", path.ptr);
    struct doc_iter iter = doc_iterate(&segments);
    while (rc == 0 && doc_next(&iter, &key, &segment))
        rc = take_segment(list, folder, &segment, trail);
    return rc < 0 ? trail_add(trail, rc, "%s", path.ptr) : 0;
}

int import_files_add(struct import_file_list *list, const char *path, struct trail *trail)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return add_folder(list, path, trail);
    return add(list, path, trail) != NULL ? 0 : PDB_RESOURCE_EXHAUSTED;
}
