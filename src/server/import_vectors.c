/* import_vectors.c: files of nothing but vectors. Their ids stand beside them in "<file>.ids", a
 * JSON string a line, as an export writes them; or are made of the row. */
#include "base/heap.h"
#include "base/json.h"
#include "bench/client/vector_file.h"
#include "server/import_reader.h"
#include "server/line_file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/no_libc_heap.h"

struct vectors {
    struct import_reader reader; /* first */
    struct vector_file file;
    struct line_file ids;
    struct pdb_text field;
    struct arena arena; /* of an id */
    float *row;
    bool has_ids;
};

static struct vectors *of(struct import_reader *reader)
{
    return (struct vectors *)(void *)reader;
}

static int read_id(struct vectors *v, struct pdb_text *id_out, struct trail *trail)
{
    struct pdb_text line;
    struct json_reader r;
    if (!v->has_ids)
        return import_make_id(&v->reader, id_out, trail);
    int rc = line_file_next(&v->ids, &line, trail);
    if (rc <= 0)
        return rc < 0 ? rc : trail_add(trail, PDB_DATA_LOSS, "%s.ids ends here", v->reader.path);
    arena_reset(&v->arena);
    json_open(&r, line.ptr, line.len, 1, NULL);
    if (json_read_string(&r, &v->arena, id_out) < 0 || json_finish(&r) < 0)
        return trail_add(trail, PDB_DATA_LOSS, "%s.ids: not a JSON string", v->reader.path);
    return 0;
}

static int next(struct import_reader *reader, struct import_record *record_out, struct trail *trail)
{
    struct vectors *v = of(reader);
    size_t count = 0;
    int rc = vector_file_read(&v->file, v->row, 1, &count, trail);
    if (rc < 0)
        return trail_add(trail, PDB_DATA_LOSS, "the file is damaged");
    if (count == 0)
        return 0;
    *record_out = (struct import_record){0};
    reader->row++;
    rc = read_id(v, &record_out->id, trail);
    if (rc == 0)
        rc = import_add_floats(reader->target, record_out, v->field, v->row, v->file.dimension,
                               trail);
    return rc < 0 ? rc : 1;
}

static int skip(struct import_reader *reader, uint64_t row_count, struct trail *trail)
{
    struct vectors *v = of(reader);
    struct pdb_text line;
    uint64_t before = v->file.row;
    int rc = vector_file_skip(&v->file, row_count, trail);
    uint64_t skipped = v->file.row - before;
    reader->row += skipped;
    for (uint64_t i = 0; i < skipped && v->has_ids && rc >= 0; i++)
        rc = line_file_next(&v->ids, &line, trail);
    return rc < 0 ? rc : 0;
}

static uint64_t offset(const struct import_reader *reader)
{
    return vector_file_offset(&((const struct vectors *)(const void *)reader)->file);
}

static int shape(struct import_reader *reader, struct arena *arena, struct import_shape *shape_out,
                 struct trail *trail)
{
    const char *name = reader->target->field != NULL ? reader->target->field : "";
    const struct vector_file *file = &of(reader)->file;
    const char *type = file->format != VECTOR_FILE_NPY     ? ""
                       : file->value == VECTOR_FILE_HALVES ? "float16"
                       : file->value == VECTOR_FILE_BYTES  ? "int8"
                                                           : "";
    (void)arena;
    (void)trail;
    shape_out->collection.field_count = 1;
    shape_out->collection.fields[0] = (struct transfer_field){
        .name = text_of(name), .type = text_of(type), .dimension = (uint32_t)file->dimension};
    return 0;
}

static void close_it(struct import_reader *reader)
{
    struct vectors *v = of(reader);
    vector_file_close(&v->file);
    line_file_close(&v->ids);
    heap_free(NULL, v->row);
    arena_dispose(&v->arena);
    heap_free(NULL, v);
}

static const struct import_reader_ops ops = {next, skip, offset, shape, close_it};

static int open_ids(struct vectors *v, const char *path, struct trail *trail)
{
    char ids_path[4096];
    int len = snprintf(ids_path, sizeof(ids_path), "%s.ids", path);
    if (v->reader.target->ids_by_row || len < 0 || (size_t)len >= sizeof(ids_path) ||
        access(ids_path, F_OK) != 0)
        return 0;
    v->has_ids = true;
    return line_file_open(&v->ids, ids_path, trail);
}

static int open_file(struct vectors *v, const char *path, const char *format, struct trail *trail)
{
    const struct transfer_field *field = NULL;
    char suffix[16];
    (void)snprintf(suffix, sizeof(suffix), ".%s", format != NULL ? format : "");
    enum vector_file_format kind = vector_file_format(format != NULL ? suffix : path);
    if (kind == VECTOR_FILE_NONE)
        kind = vector_file_format(path);
    int rc = import_file_bytes(path, &v->reader.bytes, trail);
    if (rc == 0)
        rc = vector_file_open(&v->file, path, kind, trail);
    if (rc == 0 && (v->row = heap_calloc(NULL, v->file.dimension, sizeof(float))) == NULL)
        rc = trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    if (rc == 0)
        rc = import_target_field(v->reader.target, &field, trail);
    if (rc == 0 && field != NULL && field->dimension != v->file.dimension)
        rc = trail_add(trail, PDB_INVALID_ARGUMENT,
                       "%s: vectors of dimension %zu, but the collection's have %u", path,
                       v->file.dimension, field->dimension);
    if (rc == 0)
        rc = open_ids(v, path, trail);
    return rc;
}

int import_vectors_open(const struct import_target *target, const char *path, const char *format,
                        struct import_reader **reader_out, struct trail *trail)
{
    struct vectors *v = heap_calloc(NULL, 1, sizeof(*v));
    if (v == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    v->reader =
        (struct import_reader){.ops = &ops, .target = target, .path = path, .row_word = "row"};
    arena_init(&v->arena, 0);
    v->field = text_of(target->field != NULL ? target->field : "");
    int rc = open_file(v, path, format, trail);
    if (rc < 0) {
        close_it(&v->reader);
        return rc;
    }
    v->reader.row_count = v->file.row_count; /* both have all bits set for: unknown */
    *reader_out = &v->reader;
    return 0;
}
