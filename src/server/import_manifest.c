/* import_manifest.c: manifest.json of an exported folder (docs/formats/export.md). Whatever it says
 * is somebody's word: names must be plain ones of Parquet files, numbers must fit each other, and
 * the files are compared with it before they are read. */
#include "server/import_manifest.h"

#include "base/crc32c.h"
#include "base/heap.h"
#include "base/json.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/no_libc_heap.h"

enum { MANIFEST_FORMAT = 1, MANIFEST_JSON_MAX = 256 << 20, VERIFY_BYTES = 1 << 20 };

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
            count.integer <= 0 || (uint64_t)first.integer < next ||
            (uint64_t)first.integer + (uint64_t)count.integer > file->rows)
            return trail_add(trail, PDB_INVALID_ARGUMENT,
                             "ended: not rising pairs of numbers below %llu",
                             (unsigned long long)file->rows);
        ranges[n++] = (struct import_range){(uint64_t)first.integer, (uint64_t)count.integer};
        next = (uint64_t)first.integer + (uint64_t)count.integer;
    }
    file->ended = ranges;
    file->ended_count = n;
    return 0;
}

static bool number_of(const struct doc_value *object, const char *key, uint64_t *number_out)
{
    struct doc_value value;
    if (!doc_get(object, text_of(key), &value) || value.type != DOC_INT || value.integer < 0)
        return false;
    *number_out = (uint64_t)value.integer;
    return true;
}

/* A name and no path: letters, digits, and what stands between, with the end of Parquet files. */
static bool is_plain_name(struct pdb_text name)
{
    static const struct pdb_text end = {".parquet", 8};
    if (name.len <= end.len || name.len > 255 || name.ptr[0] == '.' ||
        memcmp(name.ptr + name.len - end.len, end.ptr, end.len) != 0)
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] == '\0' || strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                          "0123456789_.-",
                                          name.ptr[i]) == NULL)
            return false;
    return true;
}

/* Eight hexadecimal digits. */
static bool sum_of(const struct doc_value *segment, uint32_t *crc32c_out)
{
    struct doc_value value;
    if (!doc_get(segment, TEXT_LIT("crc32c"), &value) || value.type != DOC_STRING ||
        value.string.len != 8)
        return false;
    uint32_t sum = 0;
    for (size_t i = 0; i < 8; i++) {
        char c = value.string.ptr[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            return false;
        sum = sum << 4 | (uint32_t)digit;
    }
    *crc32c_out = sum;
    return true;
}

static uint64_t ended_rows(const struct import_file *file)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < file->ended_count; i++)
        sum += file->ended[i].count;
    return sum;
}

static int take_segment(struct import_file_list *list, const struct import_folder *folder,
                        const struct doc_value *segment, uint64_t *rows, struct trail *trail)
{
    struct doc_value name, ended;
    struct import_file found = {.folder = folder};
    if (segment->type != DOC_OBJECT || !doc_get(segment, TEXT_LIT("file"), &name) ||
        name.type != DOC_STRING || !is_plain_name(name.string))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "a segment without the name of its file");
    if (!number_of(segment, "rows", &found.rows) || !number_of(segment, "bytes", &found.bytes) ||
        !sum_of(segment, &found.crc32c) || !doc_get(segment, TEXT_LIT("ended"), &ended) ||
        ended.type != DOC_ARRAY)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%.*s: rows, bytes, crc32c or ended",
                         TEXT_ARG(name.string));
    found.path = arena_format(list->arena, "%s/%.*s", folder->path, TEXT_ARG(name.string)).ptr;
    int rc = take_ended(list, &found, &ended, trail);
    if (rc < 0)
        return rc;
    struct import_file *file = add(list, found.path, trail);
    if (file == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    *file = found;
    *rows += found.rows - ended_rows(&found);
    return 0;
}

static int take_segments(struct import_file_list *list, const struct import_folder *folder,
                         const struct doc_value *root, struct trail *trail)
{
    struct doc_value segments, segment;
    struct pdb_text key;
    uint64_t rows = 0;
    int rc = 0;
    if (!doc_get(root, TEXT_LIT("segments"), &segments) || segments.type != DOC_ARRAY)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "no segments");
    struct doc_iter iter = doc_iterate(&segments);
    while (rc == 0 && doc_next(&iter, &key, &segment))
        rc = take_segment(list, folder, &segment, &rows, trail);
    if (rc == 0 && rows != folder->rows)
        rc = trail_add(trail, PDB_INVALID_ARGUMENT, "%llu rows are alive, but rows says %llu",
                       (unsigned long long)rows, (unsigned long long)folder->rows);
    return rc;
}

static int take_manifest(struct import_file_list *list, const char *path,
                         const struct doc_value *root, struct trail *trail)
{
    struct doc_value settings;
    uint64_t format = 0;
    struct buffer json;
    struct import_folder *folder = arena_calloc(list->arena, 1, sizeof(*folder));
    if (folder == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    folder->path = path;
    if (!number_of(root, "format", &format) || format == 0)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "no format");
    if (format > MANIFEST_FORMAT)
        return trail_add(trail, PDB_FAILED_PRECONDITION,
                         "format %llu: written by a newer proximadb; this one reads up to %d",
                         (unsigned long long)format, MANIFEST_FORMAT);
    if (!doc_get(root, TEXT_LIT("collection"), &settings) || settings.type != DOC_OBJECT ||
        !number_of(root, "rows", &folder->rows))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "no collection, or no rows");
    buffer_init_arena(&json, list->arena, 0);
    doc_write_json(&json, &settings);
    folder->settings = (struct pdb_text){json.ptr, json.len};
    list->last_folder = folder;
    return json.failed ? trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory")
                       : take_segments(list, folder, root, trail);
}

static int add_folder(struct import_file_list *list, const char *folder, struct trail *trail)
{
    struct pdb_text path = arena_format(list->arena, "%s/manifest.json", folder);
    struct pdb_text json, doc;
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
    rc = take_manifest(list, folder, &root, trail);
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

/* ---- what follows from it ---- */

static int sum_file(FILE *file, const struct import_file *expected, struct trail *trail)
{
    char *bytes = heap_alloc(NULL, VERIFY_BYTES);
    uint64_t size = 0;
    uint32_t sum = 0;
    size_t got;
    if (bytes == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    while ((got = fread(bytes, 1, VERIFY_BYTES, file)) > 0) {
        sum = crc32c(sum, bytes, got);
        size += got;
    }
    heap_free(NULL, bytes);
    if (ferror(file) != 0 || size != expected->bytes || sum != expected->crc32c)
        return trail_add(trail, PDB_DATA_LOSS,
                         "%s: does not fit the length and checksum in manifest.json",
                         expected->path);
    return 0;
}

int import_file_verify(const struct import_file *file, struct trail *trail)
{
    if (file->folder == NULL)
        return 0;
    FILE *open = fopen(file->path, "rb");
    if (open == NULL)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", file->path, strerror(errno));
    int rc = sum_file(open, file, trail);
    (void)fclose(open);
    return rc;
}

void import_write_settings(const struct import_folder *folder, const char *name, const char *sync,
                           struct arena *arena, struct buffer *out)
{
    struct pdb_text doc = {NULL, 0}, key;
    struct doc_value value;
    out->failed = out->failed || !transfer_read_doc(arena, folder->settings, &doc);
    struct doc_value root = doc_root(doc.ptr, doc.len);
    struct doc_iter iter = doc_iterate(&root);
    buffer_add_lit(out, "{\"name\":");
    json_write_string(out, text_of(name));
    if (sync != NULL) {
        buffer_add_lit(out, ",\"sync\":");
        json_write_string(out, text_of(sync));
    }
    while (doc_next(&iter, &key, &value)) {
        if (text_equal(key, TEXT_LIT("name")) ||
            (sync != NULL && text_equal(key, TEXT_LIT("sync"))))
            continue;
        buffer_add_byte(out, ',');
        json_write_string(out, key);
        buffer_add_byte(out, ':');
        doc_write_json(out, &value);
    }
    buffer_add_byte(out, '}');
}
