/* import_reader.c: what the readers of all formats share. */
#include "server/import_reader.h"

#include "base/bytes.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
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

/* ---- ids ---- */

enum { PRINT_BYTES = 65536 };

/* The size, and the first and last bytes, of a file. */
static int take_print(struct import_reader *reader, struct trail *trail)
{
    static const struct hash_key keys[2] = {{0x70726f78696d6164, 0x6f66},
                                            {0x70726f78696d6164, 0x65}};
    uint64_t sums[2] = {reader->bytes, reader->bytes};
    char bytes[PRINT_BYTES];
    FILE *file = fopen(reader->path, "rb");
    if (file == NULL)
        return trail_add(trail, PDB_UNAVAILABLE, "%s: %s", reader->path, strerror(errno));
    for (int part = 0; part < 2; part++) {
        if (part == 1 && reader->bytes > PRINT_BYTES)
            (void)fseek(file, -(long)PRINT_BYTES, SEEK_END);
        size_t len = fread(bytes, 1, sizeof(bytes), file);
        for (int i = 0; i < 2; i++)
            sums[i] = hash_u64(sums[i]) ^ hash_bytes(&keys[i], bytes, len);
    }
    bool failed = ferror(file) != 0;
    (void)fclose(file);
    if (failed)
        return trail_add(trail, PDB_UNAVAILABLE, "%s: cannot be read", reader->path);
    reader->print = (struct hash_key){sums[0], sums[1]};
    reader->has_print = true;
    return 0;
}

int import_make_id(struct import_reader *reader, struct pdb_text *id_out, struct trail *trail)
{
    uint64_t row = reader->row - 1;
    struct uuid uuid;
    if (reader->target->ids_by_row) {
        int len = snprintf(reader->id, sizeof(reader->id), "%llu",
                           (unsigned long long)(reader->row_base + row));
        *id_out = (struct pdb_text){reader->id, (size_t)len};
        return 0;
    }
    if (!reader->has_print) {
        int rc = take_print(reader, trail);
        if (rc < 0)
            return rc;
    }
    const struct hash_key other = {~reader->print.k0, reader->print.k1};
    bytes_put_u64(uuid.bytes, hash_bytes(&reader->print, &row, sizeof(row)));
    bytes_put_u64(uuid.bytes + 8, hash_bytes(&other, &row, sizeof(row)));
    uuid.bytes[6] = (uint8_t)((uuid.bytes[6] & 0x0f) | 0x80); /* RFC 9562, version 8: our own way */
    uuid.bytes[8] = (uint8_t)((uuid.bytes[8] & 0x3f) | 0x80);
    uuid_format(&uuid, reader->id);
    *id_out = (struct pdb_text){reader->id, UUID_TEXT_LEN};
    return 0;
}

/* ---- vectors ---- */

static int check_field(const struct import_target *target, struct pdb_text name, size_t count,
                       const struct transfer_field **field_out, struct trail *trail)
{
    *field_out = NULL;
    if (target->collection == NULL)
        return 0;
    const struct transfer_field *field = transfer_find_field(target->collection, name);
    if (field == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         "the collection has no %svector field%s%.*s%s",
                         name.len == 0 ? "default " : "", name.len == 0 ? "" : " '",
                         name.len < 64 ? (int)name.len : 64, name.ptr, name.len == 0 ? "" : "'");
    if (count != field->dimension)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "a vector of dimension %zu, expected %u",
                         count, field->dimension);
    *field_out = field;
    return 0;
}

/* Over the floats, which lie before what they become. */
static int pack_bits(float *values, size_t count, struct trail *trail)
{
    uint8_t *out = (uint8_t *)values;
    for (size_t i = 0; i < count; i += 8) {
        unsigned bits = 0;
        for (size_t j = i; j < count && j < i + 8; j++) {
            if (values[j] != 0.0f && values[j] != 1.0f)
                return trail_add(trail, PDB_INVALID_ARGUMENT, "element %zu is neither 0 nor 1", j);
            bits |= (values[j] != 0.0f ? 1u : 0u) << (j - i);
        }
        out[i / 8] = (uint8_t)bits;
    }
    return 0;
}

int import_add_floats(const struct import_target *target, struct import_record *record,
                      struct pdb_text field_name, float *values, size_t count, struct trail *trail)
{
    const struct transfer_field *field;
    int rc = check_field(target, field_name, count, &field, trail);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return trail_add(trail, PDB_INVALID_ARGUMENT, "element %zu is not a finite number", i);
    if (record->vector_count == PDB_FIELD_MAX)
        return trail_add(trail, PDB_INVALID_ARGUMENT, "more than %d vectors", PDB_FIELD_MAX);
    bool bits = field != NULL && field->bits;
    if (bits && (rc = pack_bits(values, count, trail)) < 0)
        return rc;
    record->vectors[record->vector_count++] =
        (struct import_vector){field_name, values, bits ? (count + 7) / 8 : count * sizeof(float)};
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
