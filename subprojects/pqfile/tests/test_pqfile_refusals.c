/* Tests src/schema.c, src/writer_options.c and what the writer does when something fails: schemas,
 * options and batches that make no sense, calls out of order, sinks and allocators that give up. */
#include "writer_fixture.h"

#include <stdlib.h>
#include <string.h>

#define TEXT .logical.kind = PQFILE_LOGICAL_STRING
#define LIST .logical.kind = PQFILE_LOGICAL_LIST

static void assert_schema_refused(const struct pqfile_field *fields, size_t count,
                                  const char *within)
{
    struct maker m = {0};
    struct pqfile_sink sink = {file_write, &m.file};
    maker_refused(&m, pqfile_writer_open(fields, count, NULL, &sink, &m.writer, &m.error),
                  PQFILE_INVALID, within);
    assert_null(m.writer);
    assert_int_equal(m.file.len, 0);
}

static void assert_field_refused(struct pqfile_field field, const char *within)
{
    assert_schema_refused(&field, 1, within);
}

static void fields_that_make_no_sense_are_refused_by_name(void **state)
{
    (void)state;
    assert_schema_refused(NULL, 0, "fields");
    assert_field_refused((struct pqfile_field){.type = PQFILE_INT32}, "name");
    assert_field_refused((struct pqfile_field){.name = "", .type = PQFILE_INT32}, "name");
    assert_field_refused((struct pqfile_field){.name = "t96", .type = PQFILE_INT96}, "\"t96\"");
    assert_field_refused((struct pqfile_field){.name = "f", .type = PQFILE_FIXED_LEN_BYTE_ARRAY},
                         "type_length");
    assert_field_refused((struct pqfile_field){.name = "f", .type = PQFILE_INT32, .type_length = 4},
                         "type_length");
    assert_field_refused((struct pqfile_field){.name = "f", .type = PQFILE_INT32, TEXT}, "logical");
    assert_field_refused((struct pqfile_field){.name = "f", .type = PQFILE_INT32, LIST}, "logical");
    assert_field_refused((struct pqfile_field){.name = "f", .type = PQFILE_INT32, .list_size = 2},
                         "list_size");
    assert_field_refused((struct pqfile_field){.name = "f",
                                               .type = PQFILE_INT64,
                                               .logical = {PQFILE_LOGICAL_INTEGER, .bits = 32}},
                         "logical");
    assert_field_refused((struct pqfile_field){.name = "f",
                                               .type = PQFILE_INT64,
                                               .logical = {.kind = PQFILE_LOGICAL_TIMESTAMP}},
                         "logical");
    assert_field_refused((struct pqfile_field){.name = "f",
                                               .type = PQFILE_FIXED_LEN_BYTE_ARRAY,
                                               .type_length = 15,
                                               .logical.kind = PQFILE_LOGICAL_UUID},
                         "logical");
}

static void groups_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    const struct pqfile_field missing[] = {{.name = "g", .child_count = 2},
                                           {.name = "a", .type = PQFILE_INT32}};
    const struct pqfile_field twice[] = {{.name = "g", .child_count = 2},
                                         {.name = "a", .type = PQFILE_INT32},
                                         {.name = "a", .type = PQFILE_INT64}};
    const struct pqfile_field flat[] = {{.name = "l", .child_count = 1, LIST},
                                        {.name = "e", .type = PQFILE_INT32}};
    const struct pqfile_field once[] = {{.name = "l", .child_count = 1, LIST},
                                        {.name = "list", .child_count = 1},
                                        {.name = "e", .type = PQFILE_INT32}};
    const struct pqfile_field sized[] = {
        {.name = "l", .child_count = 1, .list_size = 3, LIST},
        {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
        {.name = "e", .child_count = 1},
        {.name = "x", .type = PQFILE_INT32}};
    assert_schema_refused(missing, 2, "\"g\": children");
    assert_schema_refused(twice, 3, "\"a\": the name is taken");
    assert_schema_refused(flat, 2, "LIST");
    assert_schema_refused(once, 3, "LIST");
    assert_schema_refused(sized, 4, "list_size");
}

static void schemas_have_a_deepest_level(void **state)
{
    (void)state;
    struct pqfile_field fields[PQFILE_DEPTH_MAX_DEFAULT + 2];
    for (size_t i = 0; i < FIELD_COUNT(fields); i++)
        fields[i] = (struct pqfile_field){.name = "g", .child_count = 1};
    fields[FIELD_COUNT(fields) - 1] = (struct pqfile_field){.name = "x", .type = PQFILE_INT32};
    assert_schema_refused(fields, FIELD_COUNT(fields), "too deep");
    struct maker m;
    maker_begin(&m, fields + 1, FIELD_COUNT(fields) - 1, NULL);
    maker_end(&m, maker_read(&m));
}

static void assert_options_refused(enum pqfile_type type, struct pqfile_column_options options,
                                   const char *within)
{
    assert_field_refused((struct pqfile_field){.name = "f", .type = type, .options = &options},
                         within);
}

static void options_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct pqfile_column_options o = {.encoding = PQFILE_DELTA_BINARY_PACKED};
    assert_options_refused(PQFILE_DOUBLE, o, "encoding");
    o = (struct pqfile_column_options){.encoding = PQFILE_RLE};
    assert_options_refused(PQFILE_INT32, o, "encoding");
    o = (struct pqfile_column_options){.encoding = PQFILE_BYTE_STREAM_SPLIT};
    assert_options_refused(PQFILE_BYTE_ARRAY, o, "encoding");
    o = (struct pqfile_column_options){.encoding = PQFILE_RLE_DICTIONARY};
    assert_options_refused(PQFILE_BOOLEAN, o, "encoding");
    o = (struct pqfile_column_options){.encoding = PQFILE_DELTA_BYTE_ARRAY};
    assert_options_refused(PQFILE_BYTE_ARRAY, o, "encoding");
    o = (struct pqfile_column_options){.codec = PQFILE_GZIP};
    assert_options_refused(PQFILE_INT32, o, "codec");
    o = (struct pqfile_column_options){.page_version = 3};
    assert_options_refused(PQFILE_INT32, o, "page_version");
    o = (struct pqfile_column_options){.page_bytes = (1U << 30) + 1};
    assert_options_refused(PQFILE_INT32, o, "2^30");
    o = (struct pqfile_column_options){.value_alignment = 48};
    assert_options_refused(PQFILE_INT32, o, "power of two");
    o = (struct pqfile_column_options){.value_alignment = 64, .codec = PQFILE_ZSTD};
    assert_options_refused(PQFILE_INT32, o, "aligned");
    o = (struct pqfile_column_options){.value_alignment = 64};
    assert_options_refused(PQFILE_BYTE_ARRAY, o, "aligned");
    o = (struct pqfile_column_options){.bloom = true};
    assert_options_refused(PQFILE_BOOLEAN, o, "bloom");
    o = (struct pqfile_column_options){.bloom = true, .bloom_fpp = 1.0};
    assert_options_refused(PQFILE_INT32, o, "bloom_fpp");
}

/* ---- calls ---- */

static const struct pqfile_field two_fields[] = {
    {.name = "a", .type = PQFILE_INT32},
    {.name = "b", .repetition = PQFILE_REPEATED, .type = PQFILE_INT32}};

static const int32_t one[] = {1, 2, 3};

static struct pqfile_batch flat_batch(size_t rows)
{
    return (struct pqfile_batch){
        .row_count = rows, .level_count = rows, .value_count = rows, .values = one};
}

static void calls_out_of_order_are_refused(void **state)
{
    (void)state;
    struct maker m;
    struct pqfile_batch batch = flat_batch(1);
    maker_begin(&m, two_fields, 2, NULL);
    maker_refused(&m, pqfile_writer_end_row_group(m.writer, &m.error), PQFILE_INVALID, "missing");
    maker_refused(&m, pqfile_writer_finish(m.writer, NULL, &m.error), PQFILE_INVALID, "before");
    maker_end(&m, NULL);

    maker_begin(&m, two_fields, 1, NULL);
    maker_end_column(&m, false);
    maker_refused(&m, pqfile_write(m.writer, &batch, &m.error), PQFILE_INVALID, "all columns");
    maker_end(&m, NULL);

    maker_begin(&m, two_fields, 1, NULL);
    maker_ok(&m, pqfile_write(m.writer, &batch, &m.error));
    maker_refused(&m, pqfile_writer_finish(m.writer, NULL, &m.error), PQFILE_INVALID, "not ended");
    maker_end(&m, NULL);

    maker_begin(&m, two_fields, 1, NULL);
    maker_ok(&m, pqfile_writer_finish(m.writer, NULL, &m.error));
    maker_refused(&m, pqfile_write(m.writer, &batch, &m.error), PQFILE_INVALID, "finished");
    maker_end(&m, NULL);
}

static void columns_of_a_row_group_have_as_many_rows(void **state)
{
    (void)state;
    struct maker m;
    struct pqfile_batch batch = flat_batch(2);
    maker_begin(&m, two_fields, 2, NULL);
    maker_ok(&m, pqfile_write(m.writer, &batch, &m.error));
    maker_end_column(&m, false);
    maker_refused(&m, pqfile_writer_end_column(m.writer, NULL, &m.error), PQFILE_INVALID,
                  "column 1 (b), has 0 rows, the first column 2");
    maker_end(&m, NULL);
}

static void assert_batch_refused(uint32_t column, struct pqfile_batch batch, const char *within)
{
    struct maker m;
    maker_begin(&m, two_fields, 2, NULL);
    if (column == 1)
        maker_end_column(&m, false);
    maker_refused(&m, pqfile_write(m.writer, &batch, &m.error), PQFILE_INVALID, within);
    maker_end(&m, NULL);
}

static void batches_that_contradict_themselves_are_refused(void **state)
{
    (void)state;
    const uint8_t good[] = {1, 1, 1}, high[] = {1, 2, 1}, begin[] = {0, 1, 0}, late[] = {1, 0, 0};
    struct pqfile_batch batch = flat_batch(2);
    batch.value_count = 1;
    assert_batch_refused(0, batch, "1 values, but 2 rows");
    batch = flat_batch(2);
    batch.level_count = 3;
    assert_batch_refused(0, batch, "2 rows, but 3 levels");
    batch = flat_batch(2);
    batch.values = NULL;
    assert_batch_refused(0, batch, "values are missing");
    struct pqfile_batch nested = {.row_count = 2,
                                  .level_count = 3,
                                  .value_count = 3,
                                  .definition = good,
                                  .repetition = begin,
                                  .values = one};
    batch = nested;
    batch.definition = high;
    assert_batch_refused(1, batch, "definition");
    batch = nested;
    batch.definition = NULL;
    assert_batch_refused(1, batch, "definition");
    batch = nested;
    batch.value_count = 2;
    assert_batch_refused(1, batch, "definition");
    batch = nested;
    batch.repetition = late;
    assert_batch_refused(1, batch, "first repetition");
    batch = nested;
    batch.row_count = 3;
    assert_batch_refused(1, batch, "repetition");
    batch = nested;
    batch.level_count = 0;
    assert_batch_refused(1, batch, "rows without levels");
}

static void a_boolean_is_0_or_1(void **state)
{
    (void)state;
    struct maker m;
    const struct pqfile_field field = {.name = "b", .type = PQFILE_BOOLEAN};
    struct pqfile_batch batch = {
        .row_count = 1, .level_count = 1, .value_count = 1, .values = (const uint8_t[]){2}};
    maker_begin(&m, &field, 1, NULL);
    maker_refused(&m, pqfile_write(m.writer, &batch, &m.error), PQFILE_INVALID, "boolean");
    maker_end(&m, NULL);
}

/* ---- failures from outside ---- */

enum { ROWS = 300, SIZE = 16 };

static const struct pqfile_column_options text_options = {
    .encoding = PQFILE_RLE_DICTIONARY, .dictionary_bytes = 600, .page_bytes = 500, .bloom = true};
static const struct pqfile_column_options number_options = {
    .encoding = PQFILE_DELTA_BINARY_PACKED, .codec = PQFILE_ZSTD, .page_bytes = 500};
static const struct pqfile_column_options vector_options = {.value_alignment = 64,
                                                            .page_bytes = 4000};

/* A file with something of everything; the first failure, or 0. */
static int write_all(struct maker *m, const struct pqfile_allocator *allocator)
{
    static const struct pqfile_field fields[] = {
        {.name = "id", .type = PQFILE_BYTE_ARRAY, TEXT, .options = &text_options},
        {.name = "n",
         .repetition = PQFILE_OPTIONAL,
         .type = PQFILE_INT64,
         .options = &number_options},
        {.name = "v", .repetition = PQFILE_OPTIONAL, .child_count = 1, .list_size = SIZE, LIST},
        {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
        {.name = "element", .type = PQFILE_FLOAT, .options = &vector_options},
    };
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    struct pqfile_writer_options options = {.allocator = *allocator};
    struct pqfile_sink sink = {file_write, &m->file};
    struct pqfile_bytes ids[ROWS];
    int64_t numbers[ROWS];
    uint8_t present[ROWS / 8 + 1];
    static float vectors[ROWS * SIZE];
    memset(present, 0xb7, sizeof present);
    for (size_t i = 0; i < ROWS; i++) {
        ids[i] = (struct pqfile_bytes){(const uint8_t *)letters + i % 26, 1 + i % 23};
        numbers[i] = (int64_t)(i * i);
    }
    struct pqfile_batch batch = {
        .row_count = ROWS, .level_count = ROWS, .value_count = ROWS, .values = ids};
    int rc =
        pqfile_writer_open(fields, FIELD_COUNT(fields), &options, &sink, &m->writer, &m->error);
    if (rc == 0)
        rc = pqfile_write(m->writer, &batch, &m->error);
    if (rc == 0)
        rc = pqfile_writer_end_column(m->writer, NULL, &m->error);
    if (rc == 0)
        rc = pqfile_write_optional(m->writer, numbers, present, ROWS, &m->error);
    if (rc == 0)
        rc = pqfile_writer_end_column(m->writer, NULL, &m->error);
    if (rc == 0)
        rc = pqfile_write_vectors(m->writer, vectors, present, ROWS, &m->error);
    if (rc == 0)
        rc = pqfile_writer_end_column(m->writer, NULL, &m->error);
    if (rc == 0)
        rc = pqfile_writer_end_row_group(m->writer, &m->error);
    return rc == 0 ? pqfile_writer_finish(m->writer, NULL, &m->error) : rc;
}

static void every_allocation_may_fail_and_nothing_leaks(void **state)
{
    (void)state;
    struct maker good = {0};
    struct faulty never = {0};
    struct pqfile_allocator allocator = faulty_allocator(&never);
    maker_ok(&good, write_all(&good, &allocator));
    pqfile_writer_close(good.writer);
    good.writer = NULL;
    assert_int_equal(never.live, 0);
    assert_true(never.calls > 40);
    for (size_t n = 1; n <= never.calls; n++) {
        struct maker m = {0};
        struct faulty faulty = {.failing = n};
        allocator = faulty_allocator(&faulty);
        int rc = write_all(&m, &allocator);
        assert_int_equal(rc, PQFILE_NO_MEMORY);
        assert_int_equal(m.error.code, PQFILE_NO_MEMORY);
        assert_non_null(strstr(m.error.message, "out of memory"));
        maker_end(&m, NULL);
        assert_int_equal(faulty.live, 0);
    }
    struct maker again = {0};
    allocator = faulty_allocator(&never);
    never.failing = 0;
    maker_ok(&again, write_all(&again, &allocator));
    assert_same_file(&good, &again);
    maker_end(&good, NULL);
}

static void every_write_may_fail_and_nothing_goes_on_after_it(void **state)
{
    (void)state;
    struct maker good = {0};
    struct faulty heap = {0};
    struct pqfile_allocator allocator = faulty_allocator(&heap);
    maker_ok(&good, write_all(&good, &allocator));
    for (size_t n = 1; n <= good.file.writes; n++) {
        struct maker m = {.file.failing = n};
        assert_int_equal(write_all(&m, &allocator), PQFILE_IO);
        assert_non_null(strstr(m.error.message, "the sink failed at offset"));
        if (m.writer != NULL) /* else it failed to open */
            maker_refused(&m, pqfile_writer_finish(m.writer, NULL, &m.error), PQFILE_INVALID,
                          "before");
        assert_int_equal(m.file.writes, n);
        maker_end(&m, NULL);
    }
    maker_end(&good, NULL);
    assert_int_equal(heap.live, 0);
}

static void closing_half_way_releases_everything(void **state)
{
    (void)state;
    struct maker m = {0};
    struct faulty heap = {0};
    struct pqfile_writer_options options = {.allocator = faulty_allocator(&heap)};
    struct pqfile_batch batch = flat_batch(3);
    maker_begin(&m, two_fields, 2, &options);
    maker_ok(&m, pqfile_write(m.writer, &batch, &m.error));
    maker_end(&m, NULL);
    assert_int_equal(heap.live, 0);
    pqfile_writer_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_that_make_no_sense_are_refused_by_name),
        cmocka_unit_test(groups_that_make_no_sense_are_refused),
        cmocka_unit_test(schemas_have_a_deepest_level),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(calls_out_of_order_are_refused),
        cmocka_unit_test(columns_of_a_row_group_have_as_many_rows),
        cmocka_unit_test(batches_that_contradict_themselves_are_refused),
        cmocka_unit_test(a_boolean_is_0_or_1),
        cmocka_unit_test(every_allocation_may_fail_and_nothing_leaks),
        cmocka_unit_test(every_write_may_fail_and_nothing_goes_on_after_it),
        cmocka_unit_test(closing_half_way_releases_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
