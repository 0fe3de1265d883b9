/* import_reader.c: what the readers of all formats share. */
#include "server/import_reader.h"

#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "base/no_libc_heap.h"

static bool ends_with(const char *path, const char *end)
{
    size_t path_len = strlen(path), end_len = strlen(end);
    return path_len >= end_len && strcmp(path + path_len - end_len, end) == 0;
}

enum import_format import_format_of(const char *path, const char *name)
{
    static const struct {
        const char *name, *end;
        enum import_format format;
    } formats[] = {
        {"parquet", ".parquet", IMPORT_PARQUET},  {"jsonl", ".jsonl", IMPORT_JSONL},
        {"jsonl", ".ndjson", IMPORT_JSONL},       {"npy", ".npy", IMPORT_VECTORS},
        {"fvecs", ".fvecs", IMPORT_VECTORS},      {"idx", "idx3-ubyte", IMPORT_VECTORS},
        {"idx", "idx3-ubyte.gz", IMPORT_VECTORS},
    };
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (name != NULL ? strcmp(name, formats[i].name) == 0 : ends_with(path, formats[i].end))
            return formats[i].format;
    return IMPORT_FORMAT_UNKNOWN;
}

void import_begin_vector(struct buffer *record, struct pdb_text field)
{
    if (field.len == 0) {
        buffer_add_lit(record, "\"vector\":");
        return;
    }
    buffer_add_lit(record, "\"vectors\":{");
    json_write_string(record, field);
    buffer_add_byte(record, ':');
}

void import_end_vector(struct buffer *record, struct pdb_text field)
{
    if (field.len != 0)
        buffer_add_byte(record, '}');
}

int import_add_floats(struct buffer *record, const float *values, size_t count, struct trail *trail)
{
    buffer_add_byte(record, '[');
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i]))
            return trail_add(trail, PDB_INVALID_ARGUMENT, "element %zu is not a finite number", i);
        if (i != 0)
            buffer_add_byte(record, ',');
        json_write_float(record, values[i]);
    }
    buffer_add_byte(record, ']');
    return 0;
}

static int no_such_field(const struct import_target *target, const char *name, struct trail *trail)
{
    const struct transfer_collection *c = target->collection;
    if (target->field != NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "the collection has no vector field '%s'",
                         name);
    return trail_add(trail, PDB_INVALID_ARGUMENT,
                     "the collection has no default vector field: choose one with --field, such as "
                     "'%.*s'",
                     TEXT_ARG(c->fields[0].name));
}

int import_target_field(const struct import_target *target, const struct transfer_field **field_out,
                        struct trail *trail)
{
    const char *name = target->field != NULL ? target->field : "";
    *field_out = NULL;
    if (target->collection == NULL)
        return 0;
    *field_out = transfer_find_field(target->collection, text_of(name));
    return *field_out != NULL ? 0 : no_such_field(target, name, trail);
}

int import_file_bytes(const char *path, uint64_t *bytes_out, struct trail *trail)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return trail_add(trail, PDB_NOT_FOUND, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return trail_add(trail, PDB_INVALID_ARGUMENT, "%s: a folder without manifest.json", path);
    *bytes_out = (uint64_t)st.st_size;
    return 0;
}
