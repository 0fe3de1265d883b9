/* export_writer.c: the two plain formats: a line of JSON each, as REST answers it, or nothing but
 * vectors with the ids in a file beside. */
#include "server/export_writer.h"

#include "base/bytes.h"
#include "base/heap.h"
#include "base/json.h"
#include "transport/codec/json_responses.h"

#include <errno.h>
#include <string.h>
#include <vecmath/elements.h>

#include "base/no_libc_heap.h"

int export_write(struct export_writer *writer, FILE *file, const void *bytes, size_t len,
                 struct trail *trail)
{
    writer->bytes += len;
    if (fwrite(bytes, 1, len, file) == len)
        return 0;
    return trail_add(trail, PDB_UNAVAILABLE, "cannot write: %s", strerror(errno));
}

/* ---- vectors ---- */

enum export_value export_value_of(const struct transfer_field *field)
{
    if (field->bits)
        return EXPORT_BITS;
    if (text_equal(field->type, TEXT_LIT("float16")))
        return EXPORT_HALVES;
    return text_equal(field->type, TEXT_LIT("int8")) ? EXPORT_BYTES : EXPORT_FLOATS;
}

size_t export_vector_bytes(const struct transfer_field *field)
{
    size_t dimension = field->dimension;
    switch (export_value_of(field)) {
    case EXPORT_BITS:
        return (dimension + 7) / 8;
    case EXPORT_HALVES:
        return 2 * dimension;
    case EXPORT_BYTES:
        return dimension;
    case EXPORT_FLOATS:
        break;
    }
    return dimension * sizeof(float);
}

void export_vector_copy(const struct transfer_field *field, const void *vector, void *vector_out)
{
    switch (export_value_of(field)) {
    case EXPORT_HALVES:
        vecmath_narrow_f16(vector, field->dimension, vector_out);
        break;
    case EXPORT_BYTES:
        vecmath_narrow_i8(vector, field->dimension, vector_out);
        break;
    case EXPORT_BITS:
    case EXPORT_FLOATS:
        memcpy(vector_out, vector, export_vector_bytes(field));
        break;
    }
}

/* ---- jsonl ---- */

struct jsonl_writer {
    struct export_writer writer; /* first */
    struct pdb_field fields[PDB_FIELD_MAX];
    uint32_t field_count;
    struct buffer line;
};

static struct jsonl_writer *jsonl_of(struct export_writer *writer)
{
    return (struct jsonl_writer *)(void *)writer;
}

static int jsonl_add(struct export_writer *writer, const struct pdb_row *row, struct trail *trail)
{
    struct jsonl_writer *j = jsonl_of(writer);
    j->line.len = 0;
    json_encode_row(&j->line, row, j->fields, j->field_count,
                    PDB_INCLUDE_METADATA | PDB_INCLUDE_VECTORS | PDB_INCLUDE_TIMES);
    buffer_add_byte(&j->line, '\n');
    if (j->line.failed)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    int rc = export_write(writer, writer->file, j->line.ptr, j->line.len, trail);
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
    buffer_dispose(&jsonl_of(writer)->line);
    heap_free(NULL, writer);
}

int export_jsonl_open(const struct export_settings *settings, struct export_writer **writer_out,
                      struct trail *trail)
{
    static const struct export_writer_ops ops = {jsonl_add, jsonl_finish, jsonl_close};
    const struct transfer_collection *c = settings->collection;
    struct jsonl_writer *j = heap_calloc(NULL, 1, sizeof(*j));
    if (j == NULL)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    j->writer = (struct export_writer){.ops = &ops, .file = settings->file};
    buffer_init_heap(&j->line, NULL, 0);
    for (uint32_t i = 0; i < c->field_count; i++) /* of metrics only that counts */
        j->fields[j->field_count++] =
            (struct pdb_field){.name = c->fields[i].name,
                               .dimension = c->fields[i].dimension,
                               .metric = c->fields[i].bits ? PDB_METRIC_HAMMING : PDB_METRIC_DOT};
    *writer_out = &j->writer;
    return 0;
}

/* ---- npy and fvecs ---- */

enum { NPY_HEAD_BYTES = 128 };

struct vectors_writer {
    struct export_writer writer; /* first */
    FILE *ids;
    uint32_t field; /* of the collection */
    const struct transfer_field *kept;
    enum export_value value; /* of the file: what is kept, but of bits 0s and 1s, and fvecs knows
                                float32 only */
    size_t dimension;
    bool npy;
    uint64_t rows;
    float *row;
    struct buffer id;
};

static struct vectors_writer *vectors_of(struct export_writer *writer)
{
    return (struct vectors_writer *)(void *)writer;
}

/* Of a fixed length, so that it can be written again once the rows are counted. */
static int write_npy_head(struct vectors_writer *v, struct trail *trail)
{
    const char *kind = v->value == EXPORT_HALVES ? "<f2" : v->value == EXPORT_BYTES ? "|i1" : "<f4";
    char head[NPY_HEAD_BYTES + 1];
    memset(head, ' ', sizeof(head));
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    bytes_put_u16((uint8_t *)head + 8, NPY_HEAD_BYTES - 10);
    int len = snprintf(head + 10, NPY_HEAD_BYTES - 10,
                       "{'descr': '%s', 'fortran_order': False, 'shape': (%llu, %zu), }", kind,
                       (unsigned long long)v->rows, v->dimension);
    head[10 + len] = ' ';
    head[NPY_HEAD_BYTES - 1] = '\n';
    return export_write(&v->writer, v->writer.file, head, NPY_HEAD_BYTES, trail);
}

static int write_vector(struct vectors_writer *v, const void *vector, struct trail *trail)
{
    const uint8_t *packed = vector;
    const void *bytes = vector;
    size_t len = v->dimension * sizeof(float);
    if (v->value == EXPORT_BITS) {
        for (size_t i = 0; i < v->dimension; i++)
            v->row[i] = (packed[i / 8] >> (i % 8) & 1) != 0 ? 1.0f : 0.0f;
        bytes = v->row;
    } else if (v->value != EXPORT_FLOATS) {
        len = export_vector_bytes(v->kept);
        export_vector_copy(v->kept, vector, v->row);
        bytes = v->row;
    }
    return export_write(&v->writer, v->writer.file, bytes, len, trail);
}

static int vectors_add(struct export_writer *writer, const struct pdb_row *row, struct trail *trail)
{
    struct vectors_writer *v = vectors_of(writer);
    uint8_t dimension[4];
    int rc = 0;
    if (row->vectors[v->field] == NULL)
        return 0;
    v->id.len = 0;
    json_write_string(&v->id, row->id);
    buffer_add_byte(&v->id, '\n');
    if (v->id.failed)
        return trail_add(trail, PDB_RESOURCE_EXHAUSTED, "no memory");
    bytes_put_u32(dimension, (uint32_t)v->dimension);
    if (!v->npy)
        rc = export_write(writer, writer->file, dimension, sizeof(dimension), trail);
    if (rc == 0)
        rc = write_vector(v, row->vectors[v->field], trail);
    if (rc == 0)
        rc = export_write(writer, v->ids, v->id.ptr, v->id.len, trail);
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
    buffer_dispose(&vectors_of(writer)->id);
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
    const struct transfer_field *kept = &settings->collection->fields[field];
    size_t dimension = kept->dimension;
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
                                 .kept = kept,
                                 .value = export_value_of(kept),
                                 .dimension = dimension,
                                 .npy = strcmp(settings->format, "npy") == 0,
                                 .row = row};
    if (!v->npy && v->value != EXPORT_BITS)
        v->value = EXPORT_FLOATS;
    buffer_init_heap(&v->id, NULL, 0);
    rc = v->npy ? write_npy_head(v, trail) : 0;
    if (rc < 0) {
        vectors_close(&v->writer);
        return rc;
    }
    *writer_out = &v->writer;
    return 0;
}
