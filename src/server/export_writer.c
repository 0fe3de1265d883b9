/* export_writer.c: records out of the server's JSON, and the two plain formats: a line of JSON
 * each, or nothing but vectors with the ids in a file beside. */
#include "server/export_writer.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>
#include <string.h>

#include "base/no_libc_heap.h"

/* ---- records ---- */

static struct pdb_text span(struct json_reader *r, int *rc)
{
    (void)json_peek(r);
    const char *start = r->at;
    if (*rc == 0)
        *rc = json_skip(r);
    return (struct pdb_text){start, *rc == 0 ? (size_t)(r->at - start) : 0};
}

static int read_time(struct json_reader *r, struct arena *arena, int64_t *us_out)
{
    struct pdb_text text;
    if (json_peek(r) == JSON_NULL)
        return json_read_null(r);
    int rc = json_read_string(r, arena, &text);
    return rc == 0 ? clock_parse(text.ptr, text.len, us_out) : rc;
}

static void put_vector(const struct transfer_collection *c, struct pdb_text field,
                       struct pdb_text json, struct export_record *record)
{
    for (uint32_t i = 0; i < c->field_count; i++)
        if (text_equal(c->fields[i].name, field))
            record->vectors[i] = json;
}

static int read_vectors(struct json_reader *r, const struct transfer_collection *c,
                        struct arena *arena, struct export_record *record)
{
    bool first = true;
    struct pdb_text key;
    int rc = json_enter_object(r);
    while (rc == 0 && (rc = json_object_next(r, arena, &first, &key)) > 0) {
        rc = 0;
        struct pdb_text json = span(r, &rc);
        put_vector(c, key, json, record);
    }
    return rc;
}

static int read_member(struct json_reader *r, const struct transfer_collection *c,
                       struct arena *arena, struct pdb_text key, struct export_record *record)
{
    int rc = 0;
    if (text_equal(key, TEXT_LIT("id"))) {
        (void)json_peek(r);
        const char *start = r->at;
        rc = json_read_string(r, arena, &record->id);
        record->id_json = (struct pdb_text){start, (size_t)(r->at - start)};
        return rc;
    }
    if (text_equal(key, TEXT_LIT("version")))
        return json_read_u64(r, &record->version);
    if (text_equal(key, TEXT_LIT("created_at")))
        return read_time(r, arena, &record->created_at_us);
    if (text_equal(key, TEXT_LIT("updated_at")))
        return read_time(r, arena, &record->updated_at_us);
    if (text_equal(key, TEXT_LIT("expires_at")))
        return read_time(r, arena, &record->expires_at_us);
    if (text_equal(key, TEXT_LIT("vectors")))
        return read_vectors(r, c, arena, record);
    struct pdb_text json = span(r, &rc);
    if (text_equal(key, TEXT_LIT("vector")))
        put_vector(c, TEXT_LIT(""), json, record);
    else if (text_equal(key, TEXT_LIT("metadata")))
        record->metadata = json;
    return rc;
}

int export_record_read(struct json_reader *r, const struct transfer_collection *collection,
                       struct arena *arena, struct export_record *record_out, struct trail *trail)
{
    bool first = true;
    struct pdb_text key;
    *record_out = (struct export_record){0};
    (void)json_peek(r);
    const char *start = r->at;
    int rc = json_enter_object(r);
    while (rc == 0 && (rc = json_object_next(r, arena, &first, &key)) > 0)
        rc = read_member(r, collection, arena, key, record_out);
    record_out->json = (struct pdb_text){start, (size_t)(r->at - start)};
    if (rc < 0 || record_out->id.len == 0)
        return trail_add(trail, PDB_INTERNAL, "a record of the server's cannot be read");
    return 0;
}

int export_read_vector(struct pdb_text json, float *values_out, size_t dimension,
                       struct trail *trail)
{
    struct json_reader r;
    size_t count = 0;
    json_open(&r, json.ptr, json.len, 2, NULL);
    if (json_read_floats(&r, values_out, dimension, &count) < 0 || count != dimension)
        return trail_add(trail, PDB_INTERNAL, "a vector of the server's cannot be read");
    return 0;
}

int export_write(struct export_writer *writer, FILE *file, const void *bytes, size_t len,
                 struct trail *trail)
{
    writer->bytes += len;
    if (fwrite(bytes, 1, len, file) == len)
        return 0;
    return trail_add(trail, PDB_UNAVAILABLE, "cannot write: %s", strerror(errno));
}

/* ---- jsonl ---- */

static int jsonl_add(struct export_writer *writer, const struct export_record *record,
                     struct trail *trail)
{
    int rc = export_write(writer, writer->file, record->json.ptr, record->json.len, trail);
    if (rc == 0)
        rc = export_write(writer, writer->file, "\n", 1, trail);
    return rc < 0 ? rc : 1;
}

static int jsonl_finish(struct export_writer *writer, struct trail *trail)
{
    (void)writer;
    (void)trail;
    return 0;
}

static void jsonl_close(struct export_writer *writer)
{
    heap_free(NULL, writer);
}

int export_jsonl_open(const struct export_settings *settings, struct export_writer **writer_out,
                      struct trail *trail)
{
    static const struct export_writer_ops ops = {jsonl_add, jsonl_finish, jsonl_close};
    struct export_writer *writer = heap_calloc(NULL, 1, sizeof(*writer));
    if (writer == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    *writer = (struct export_writer){.ops = &ops, .file = settings->file};
    *writer_out = writer;
    return 0;
}

/* ---- npy and fvecs ---- */

enum { NPY_HEAD_BYTES = 128 };

struct vectors_writer {
    struct export_writer writer; /* first */
    FILE *ids;
    uint32_t field; /* of the collection */
    size_t dimension;
    bool npy;
    uint64_t rows;
    float *row;
};

static struct vectors_writer *vectors_of(struct export_writer *writer)
{
    return (struct vectors_writer *)(void *)writer;
}

/* Of a fixed length, so that it can be written again once the rows are counted. */
static int write_npy_head(struct vectors_writer *v, struct trail *trail)
{
    char head[NPY_HEAD_BYTES + 1];
    memset(head, ' ', sizeof(head));
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    bytes_put_u16((uint8_t *)head + 8, NPY_HEAD_BYTES - 10);
    int len = snprintf(head + 10, NPY_HEAD_BYTES - 10,
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %zu), }",
                       (unsigned long long)v->rows, v->dimension);
    head[10 + len] = ' ';
    head[NPY_HEAD_BYTES - 1] = '\n';
    return export_write(&v->writer, v->writer.file, head, NPY_HEAD_BYTES, trail);
}

static int vectors_add(struct export_writer *writer, const struct export_record *record,
                       struct trail *trail)
{
    struct vectors_writer *v = vectors_of(writer);
    struct pdb_text json = record->vectors[v->field];
    uint8_t dimension[4];
    if (json.len == 0)
        return 0;
    int rc = export_read_vector(json, v->row, v->dimension, trail);
    bytes_put_u32(dimension, (uint32_t)v->dimension);
    if (rc == 0 && !v->npy)
        rc = export_write(writer, writer->file, dimension, sizeof(dimension), trail);
    if (rc == 0)
        rc = export_write(writer, writer->file, v->row, v->dimension * sizeof(float), trail);
    if (rc == 0)
        rc = export_write(writer, v->ids, record->id_json.ptr, record->id_json.len, trail);
    if (rc == 0)
        rc = export_write(writer, v->ids, "\n", 1, trail);
    v->rows++;
    return rc < 0 ? rc : 1;
}

static int vectors_finish(struct export_writer *writer, struct trail *trail)
{
    struct vectors_writer *v = vectors_of(writer);
    if (!v->npy)
        return 0;
    if (fseek(writer->file, 0, SEEK_SET) != 0)
        return trail_add(trail, PDB_UNAVAILABLE, "cannot write: %s", strerror(errno));
    return write_npy_head(v, trail);
}

static void vectors_close(struct export_writer *writer)
{
    heap_free(NULL, vectors_of(writer)->row);
    heap_free(NULL, writer);
}

static int choose_field(const struct export_settings *settings, uint32_t *field_out,
                        struct trail *trail)
{
    const struct transfer_collection *c = settings->collection;
    const char *name = settings->field != NULL ? settings->field : "";
    const struct transfer_field *field = transfer_find_field(c, text_of(name));
    if (field == NULL && settings->field == NULL && c->field_count == 1)
        field = &c->fields[0];
    if (field == NULL)
        return trail_add(trail, PDB_INVALID_ARGUMENT,
                         settings->field != NULL ? "there is no vector field '%s'"
                                                 : "say with --field which vectors%s",
                         name);
    *field_out = (uint32_t)(field - c->fields);
    return 0;
}

int export_vectors_open(const struct export_settings *settings, struct export_writer **writer_out,
                        struct trail *trail)
{
    static const struct export_writer_ops ops = {vectors_add, vectors_finish, vectors_close};
    uint32_t field = 0;
    int rc = choose_field(settings, &field, trail);
    if (rc < 0)
        return rc;
    size_t dimension = settings->collection->fields[field].dimension;
    struct vectors_writer *v = heap_calloc(NULL, 1, sizeof(*v));
    float *row = heap_calloc(NULL, dimension, sizeof(float));
    if (v == NULL || row == NULL) {
        heap_free(NULL, v);
        heap_free(NULL, row);
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    }
    *v = (struct vectors_writer){.writer = {.ops = &ops, .file = settings->file},
                                 .ids = settings->ids,
                                 .field = field,
                                 .dimension = dimension,
                                 .npy = strcmp(settings->format, "npy") == 0,
                                 .row = row};
    rc = v->npy ? write_npy_head(v, trail) : 0;
    if (rc < 0) {
        vectors_close(&v->writer);
        return rc;
    }
    *writer_out = &v->writer;
    return 0;
}
