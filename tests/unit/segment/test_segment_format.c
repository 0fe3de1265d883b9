/* Files of every released format stay readable: tests/format/segment holds them. */
#include "segment_fixture.h"

#include "base/json.h"

enum { GOLDEN_ROWS = 9, GOLDEN_FIELDS = 3, NARROW_FIELDS = 5, GOLDEN_BYTES_MAX = 64 << 10 };

/* Format 2 has the last two as well. */
static const struct pdb_field golden_fields[NARROW_FIELDS] = {
    {.name = {"", 0}, .dimension = 4, .metric = PDB_METRIC_COSINE},
    {.name = {"image", 5}, .dimension = 2, .metric = PDB_METRIC_EUCLIDEAN},
    {.name = {"bits", 4}, .dimension = 10, .metric = PDB_METRIC_HAMMING},
    {.name = {"half", 4},
     .dimension = 3,
     .metric = PDB_METRIC_COSINE,
     .element = PDB_ELEMENT_FLOAT16},
    {.name = {"byte", 4}, .dimension = 5, .metric = PDB_METRIC_COSINE, .element = PDB_ELEMENT_INT8},
};
static const struct pdb_column golden_columns[] = {{{"price", 5}, PDB_COLUMN_FLOAT},
                                                   {{"id", 2}, PDB_COLUMN_STRING},
                                                   {{"tags", 4}, PDB_COLUMN_STRING_LIST},
                                                   {{"at", 2}, PDB_COLUMN_DATETIME}};
static const char *const golden_documents[GOLDEN_ROWS] = {
    "{\"price\":1.5,\"id\":\"x\",\"tags\":[\"a\",\"b\"],\"at\":\"2026-01-31T12:00:00Z\"}",
    "{\"price\":1,\"other\":{\"deep\":[null,true,-5]}}",
    "{}",
    "{\"tags\":[],\"at\":\"2026-01-31T12:00:00+01:00\"}",
    "{\"id\":7}",
    "{\"price\":null}",
    "{\"tags\":[\"\"]}",
    "{\"long\":\"\\u0000\\u00e4\"}",
    "{\"price\":-0.0}"};

static struct pdb_text golden_document(struct arena *arena, uint32_t i)
{
    struct json_reader reader;
    struct pdb_text document;
    struct doc_builder *b = doc_builder_new(arena, 0);
    json_open(&reader, golden_documents[i], strlen(golden_documents[i]), DOC_DEPTH_MAX, NULL);
    assert_int_equal(json_read_doc(&reader, b), 0);
    assert_int_equal(doc_builder_finish(b, &document, NULL), 0);
    return document;
}

/* What the golden files of a format hold; numbers 1 and 2. */
static void golden_init(struct fixture *fx, int format, uint64_t number)
{
    *fx = (struct fixture){.hash_seed = 42};
    fx->schema = (struct segment_schema){.collection = {{0xab, 0xcd}},
                                         .number = number,
                                         .fields = golden_fields,
                                         .field_count = format == 1 ? GOLDEN_FIELDS : NARROW_FIELDS,
                                         .columns = golden_columns,
                                         .column_count = 4,
                                         .compression = PDB_COMPRESSION_ZSTD,
                                         .vectors_in_place = number == 1};
    fx->rows = calloc(GOLDEN_ROWS, sizeof(*fx->rows));
    assert_non_null(fx->rows);
    fx->count = GOLDEN_ROWS;
    for (uint32_t i = 0; i < GOLDEN_ROWS; i++) {
        struct fixture_row *row = &fx->rows[i];
        int len = snprintf(row->id, sizeof(row->id), "golden-%u", i / 2);
        for (uint32_t d = 0; d < 4; d++)
            row->values[0].floats[d] = (float)(i * d) / 4;
        row->values[1].floats[0] = -(float)i;
        row->values[2].bits[0] = (uint8_t)(i * 3);
        row->values[2].bits[1] = (uint8_t)(i % 4);
        for (uint32_t d = 0; d < 3; d++)
            row->values[3].halves[d] = (uint16_t)(0x3c00 + 100 * i + d);
        for (uint32_t d = 0; d < 5; d++)
            row->values[4].bytes[d] = (int8_t)(60 * i + d);
        row->vectors[3] = i % 4 != 1 ? &row->values[3] : NULL;
        row->vectors[4] = i != 7 ? &row->values[4] : NULL;
        row->vectors[0] = &row->values[0];
        row->vectors[1] = i % 3 == 1 ? &row->values[1] : NULL;
        row->vectors[2] = i % 4 != 0 ? &row->values[2] : NULL;
        row->row = (struct pdb_row){.id = {row->id, (size_t)len},
                                    .vectors = row->vectors,
                                    .metadata = i == 2 ? (struct pdb_text){NULL, 0}
                                                       : golden_document(&fx->arena, i),
                                    .version = 100 - i % 2,
                                    .created_at_us = 1767225600000000 + (int64_t)i,
                                    .updated_at_us = 1767225600000000 + 2 * (int64_t)i,
                                    .expires_at_us = i % 5 == 0 ? 1900000000000000 : 0};
    }
    buffer_init_heap(&fx->parquet, NULL, 0);
    buffer_init_heap(&fx->index, NULL, 0);
}

static const char *golden_path(char path[512], int format, uint64_t number, const char *kind)
{
    (void)snprintf(path, 512, "%s/tests/format/segment/v%d_%s.%s", SOURCE_ROOT, format,
                   number == 1 ? "in_place" : "compressed", kind);
    return path;
}

static void golden_save(const char *path, const struct buffer *bytes)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes->ptr, 1, bytes->len, out), bytes->len);
    assert_int_equal(fclose(out), 0);
}

static void golden_load(const char *path, struct buffer *bytes)
{
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    bytes->len = 0;
    char *at = buffer_reserve(bytes, GOLDEN_BYTES_MAX);
    assert_non_null(at);
    bytes->len = fread(at, 1, GOLDEN_BYTES_MAX, in);
    (void)fclose(in);
}

/* SEGMENT_GOLDEN=<format> in the environment writes them again: for a new format only. */
static void stays_readable(int format)
{
    const char *wanted = getenv("SEGMENT_GOLDEN");
    for (uint64_t number = 1; number <= 2; number++) {
        struct fixture fx;
        struct trail trail = {0};
        char path[512];
        golden_init(&fx, format, number);
        if (wanted != NULL && wanted[0] == '0' + format) {
            assert_int_equal(fixture_write(&fx, &trail), 0);
            golden_save(golden_path(path, format, number, "parquet"), &fx.parquet);
            golden_save(golden_path(path, format, number, "index"), &fx.index);
        }
        golden_load(golden_path(path, format, number, "parquet"), &fx.parquet);
        golden_load(golden_path(path, format, number, "index"), &fx.index);
        fixture_open(&fx);
        fixture_compare(&fx);
        assert_int_equal(segment_check(fx.segment, fixture_print, NULL, &trail), 0);
        segment_free(fx.segment);
        fx.segment = NULL;
        struct segment_open_options options = fixture_options(&fx);
        fx.index.len = 0;
        assert_int_equal(segment_index_rebuild(&options, 7, &fx.index, &trail), 0);
        fixture_open(&fx);
        fixture_compare(&fx);
        fixture_dispose(&fx);
    }
}

static void the_first_format_stays_readable(void **state)
{
    (void)state;
    stays_readable(1);
}

static void the_second_format_stays_readable(void **state)
{
    (void)state;
    stays_readable(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_first_format_stays_readable),
                                       cmocka_unit_test(the_second_format_stays_readable)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
