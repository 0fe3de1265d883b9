/* segment_make FOLDER: real segment files for other readers of Parquet, one for each way that a
 * collection can store them, and rows.jsonl: what is in all of them. Read by
 * tests/format/test_segment.py. */
#include "base/buffer.h"
#include "base/json.h"
#include "segment/segment.h"

#include <proximadb/error.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vecmath/elements.h>

enum {
    ROWS = 700,
    FIELDS = 5,
    DIMENSION = 8,
    IMAGE_DIMENSION = 4,
    BITS = 12,
    HALF_DIMENSION = 5,
    BYTE_DIMENSION = 3
};

static const struct pdb_field fields[FIELDS] = {
    {.name = {"", 0}, .dimension = DIMENSION, .metric = PDB_METRIC_COSINE},
    {.name = {"image", 5}, .dimension = IMAGE_DIMENSION, .metric = PDB_METRIC_EUCLIDEAN},
    {.name = {"bits", 4}, .dimension = BITS, .metric = PDB_METRIC_HAMMING},
    {.name = {"half", 4},
     .dimension = HALF_DIMENSION,
     .metric = PDB_METRIC_DOT,
     .element = PDB_ELEMENT_FLOAT16},
    {.name = {"byte", 4},
     .dimension = BYTE_DIMENSION,
     .metric = PDB_METRIC_EUCLIDEAN,
     .element = PDB_ELEMENT_INT8},
};
static const struct pdb_column columns[] = {
    {{"category", 8}, PDB_COLUMN_STRING},     {{"price", 5}, PDB_COLUMN_FLOAT},
    {{"stock", 5}, PDB_COLUMN_INTEGER},       {{"live", 4}, PDB_COLUMN_BOOLEAN},
    {{"at", 2}, PDB_COLUMN_DATETIME},         {{"tags", 4}, PDB_COLUMN_STRING_LIST},
    {{"sizes", 5}, PDB_COLUMN_INTEGER_LIST},  {{"weights", 7}, PDB_COLUMN_FLOAT_LIST},
    {{"place", 5}, PDB_COLUMN_GEO},           {{"body", 4}, PDB_COLUMN_TEXT},
    {{"id", 2}, PDB_COLUMN_STRING},           {{"maker.name", 10}, PDB_COLUMN_STRING},
    {{"never.there", 11}, PDB_COLUMN_INTEGER}};

struct made {
    struct pdb_row row;
    char id[32];
    const void *vectors[FIELDS];
    float vector[DIMENSION], image[IMAGE_DIMENSION];
    uint8_t bits[2];
    float half[HALF_DIMENSION], byte[BYTE_DIMENSION]; /* the values, and as they are kept: */
    uint16_t halves[HALF_DIMENSION];
    int8_t bytes[BYTE_DIMENSION];
};

__attribute__((noreturn)) static void stop(const char *what)
{
    (void)fprintf(stderr, "segment_make: %s\n", what);
    exit(1);
}

/* The document of row i, as JSON. */
static void document_text(struct buffer *out, uint32_t i)
{
    out->len = 0;
    if (i % 11 == 10) {
        buffer_add_lit(out, "{}");
        return;
    }
    buffer_format(out, "{\"category\":\"kind-%u\"", i % 5);
    if (i % 2 == 0)
        buffer_format(out, ",\"price\":%u.25", i);
    else
        buffer_format(out, ",\"price\":%u", i); /* an integer in a float column */
    if (i % 3 != 0)
        buffer_format(out, ",\"stock\":%u,\"live\":%s", i * 7, i % 2 != 0 ? "true" : "false");
    if (i % 4 == 0)
        buffer_format(out, ",\"at\":\"2026-01-%02uT12:00:00.%03uZ\"", 1 + i % 28, i + 1);
    else if (i % 4 == 1)
        buffer_format(out, ",\"at\":\"2026-01-%02uT12:00:00+02:00\"", 1 + i % 28);
    if (i % 5 == 0)
        buffer_format(out, ",\"tags\":[],\"sizes\":[%u,-1],\"weights\":[0.5,%u.5]", i, i);
    else if (i % 5 == 1)
        buffer_format(out, ",\"tags\":[\"a\",\"\",\"\xc3\xa4%u\"],\"sizes\":[]", i);
    if (i % 7 == 0)
        buffer_format(out, ",\"place\":{\"lat\":%u.5,\"lon\":-%u}", i % 90, i % 180);
    if (i % 6 == 0)
        buffer_format(out, ",\"body\":\"text \\u0001 of %u\",\"id\":\"own %u\"", i, i);
    if (i % 8 == 0)
        buffer_format(out, ",\"maker\":{\"name\":\"m%u\",\"since\":%u}", i, i);
    buffer_format(out, ",\"other\":{\"n\":[null,%u,{\"x\":1e100}]}}", i);
}

static struct pdb_text document_of(struct pdb_text json, struct arena *arena)
{
    struct json_reader reader;
    struct pdb_text document;
    struct doc_builder *b = doc_builder_new(arena, 0);
    json_open(&reader, json.ptr, json.len, DOC_DEPTH_MAX, NULL);
    if (b == NULL || json_read_doc(&reader, b) != 0 || doc_builder_finish(b, &document, NULL) != 0)
        stop("a document");
    return document;
}

static void make_row(struct made *made, uint32_t i, struct pdb_text document)
{
    *made = (struct made){0};
    int len = snprintf(made->id, sizeof(made->id), "row-%05u", i / 2 * 2);
    for (uint32_t d = 0; d < DIMENSION; d++)
        made->vector[d] = (float)i + (float)d / 8;
    for (uint32_t d = 0; d < IMAGE_DIMENSION; d++)
        made->image[d] = -(float)i * (float)(d + 1);
    made->bits[0] = (uint8_t)i;
    made->bits[1] = (uint8_t)(i >> 8 & 0xf);
    for (uint32_t d = 0; d < HALF_DIMENSION; d++)
        made->half[d] = (float)(i % 100) + (float)d / 8; /* a half has it exactly */
    for (uint32_t d = 0; d < BYTE_DIMENSION; d++)
        made->byte[d] = (float)((int)((i * 7 + d * 50) % 256) - 128);
    vecmath_narrow_f16(made->half, HALF_DIMENSION, made->halves);
    vecmath_narrow_i8(made->byte, BYTE_DIMENSION, made->bytes);
    made->vectors[3] = i % 20 != 0 ? made->halves : NULL;
    made->vectors[4] = i % 30 != 0 ? made->bytes : NULL;
    made->vectors[0] = made->vector;
    made->vectors[1] = i % 3 != 0 ? made->image : NULL;
    made->vectors[2] = i % 50 != 0 ? made->bits : NULL;
    made->row = (struct pdb_row){.id = {made->id, (size_t)len},
                                 .vectors = made->vectors,
                                 .metadata = document,
                                 .version = UINT64_C(1) << 63 | (1000 - i % 2),
                                 .created_at_us = INT64_C(1767225600000000) + i,
                                 .updated_at_us = INT64_C(1767225600000000) + 2 * (int64_t)i,
                                 .expires_at_us = i % 9 == 0 ? INT64_C(1800000000000000) + i : 0};
}

static void put_line(struct buffer *out, const struct made *made, struct pdb_text json)
{
    const struct pdb_row *row = &made->row;
    buffer_format(out,
                  "{\"id\":\"%s\",\"version\":%" PRIu64 ",\"created_at\":%" PRId64
                  ",\"updated_at\":%" PRId64 ",\"expires_at\":%" PRId64 ",\"vector\":",
                  made->id, row->version, row->created_at_us, row->updated_at_us,
                  row->expires_at_us);
    json_write_floats(out, made->vector, DIMENSION);
    buffer_add_lit(out, ",\"vector_image\":");
    if (made->vectors[1] != NULL)
        json_write_floats(out, made->image, IMAGE_DIMENSION);
    else
        buffer_add_lit(out, "null");
    buffer_add_lit(out, ",\"vector_bits\":");
    if (made->vectors[2] != NULL)
        buffer_format(out, "\"%02x%02x\"", made->bits[0], made->bits[1]);
    else
        buffer_add_lit(out, "null");
    buffer_add_lit(out, ",\"vector_half\":");
    if (made->vectors[3] != NULL)
        json_write_floats(out, made->half, HALF_DIMENSION);
    else
        buffer_add_lit(out, "null");
    buffer_add_lit(out, ",\"vector_byte\":");
    if (made->vectors[4] != NULL)
        json_write_floats(out, made->byte, BYTE_DIMENSION);
    else
        buffer_add_lit(out, "null");
    buffer_add_lit(out, ",\"document\":");
    buffer_add_text(out, json);
    buffer_add_lit(out, "}\n");
}

static void save(const char *folder, const char *name, const struct buffer *bytes)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (bytes->failed || file == NULL || fwrite(bytes->ptr, 1, bytes->len, file) != bytes->len ||
        fclose(file) != 0)
        stop(path);
}

static int append(void *arg, const void *bytes, size_t len)
{
    buffer_add(arg, bytes, len);
    return 0;
}

/* Writes one segment; `lines` (may be NULL) gets its rows. */
static void make_segment(const struct segment_schema *schema, struct buffer *parquet,
                         struct buffer *index, struct buffer *lines)
{
    struct trail trail = {0};
    struct segment_writer *w = NULL;
    struct buffer json;
    struct segment_writer_options options = {
        .schema = *schema, .row_group_bytes = 40000, .write = append, .arg = parquet};
    buffer_init_heap(&json, NULL, 0);
    if (segment_writer_new(&options, &w, &trail) != 0)
        stop(trail.text);
    for (uint32_t i = 0; i < ROWS; i++) {
        struct made made;
        struct arena arena = {0};
        document_text(&json, i);
        struct pdb_text text = {json.ptr, json.len};
        make_row(&made, i, i % 13 == 12 ? (struct pdb_text){NULL, 0} : document_of(text, &arena));
        if (segment_writer_add(w, &made.row, &trail) != 0)
            stop(trail.text);
        if (lines != NULL)
            put_line(lines, &made, made.row.metadata.len == 0 ? TEXT_LIT("{}") : text);
        arena_dispose(&arena);
    }
    if (segment_writer_finish(w, &trail) != 0 || segment_writer_index(w, index, &trail) != 0)
        stop(trail.text);
    segment_writer_free(w);
    buffer_dispose(&json);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        enum pdb_compression compression;
        bool in_place;
    } files[] = {{"none", PDB_COMPRESSION_NONE, true},
                 {"snappy", PDB_COMPRESSION_SNAPPY, false},
                 {"lz4", PDB_COMPRESSION_LZ4, false},
                 {"zstd", PDB_COMPRESSION_ZSTD, false},
                 {"zstd-in-place", PDB_COMPRESSION_ZSTD, true}};
    if (argc != 2)
        stop("expected a folder");
    struct buffer lines;
    buffer_init_heap(&lines, NULL, 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char name[64];
        struct buffer parquet, index;
        struct segment_schema schema = {.collection = {{0xc0, 0xff, 0xee}},
                                        .number = 17 + i,
                                        .fields = fields,
                                        .field_count = FIELDS,
                                        .columns = columns,
                                        .column_count = sizeof(columns) / sizeof(columns[0]),
                                        .compression = files[i].compression,
                                        .vectors_in_place = files[i].in_place};
        buffer_init_heap(&parquet, NULL, 0);
        buffer_init_heap(&index, NULL, 0);
        make_segment(&schema, &parquet, &index, i == 0 ? &lines : NULL);
        (void)snprintf(name, sizeof(name), "%s.parquet", files[i].name);
        save(argv[1], name, &parquet);
        (void)snprintf(name, sizeof(name), "%s.index", files[i].name);
        save(argv[1], name, &index);
        buffer_dispose(&parquet);
        buffer_dispose(&index);
    }
    save(argv[1], "rows.jsonl", &lines);
    buffer_dispose(&lines);
    return 0;
}
