/* Tests src/writer*.c: what is written is what is read, pages lie where they should, and calls that
 * make no sense are refused. */
#include "writer_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 1000, SIZE = 24 };

static const struct pqfile_field number_field[] = {{.name = "n", .type = PQFILE_INT64}};

static void write_numbers(struct maker *m, const int64_t *values, size_t count)
{
    struct pqfile_batch batch = {
        .row_count = count, .level_count = count, .value_count = count, .values = values};
    maker_ok(m, pqfile_write(m->writer, &batch, &m->error));
}

/* Reads all rows of a flat INT64 column and compares. */
static void assert_numbers(struct maker *m, const struct pqfile_reader *reader,
                           const int64_t *expected, size_t count)
{
    struct pqfile_cursor *cursor = NULL;
    struct pqfile_batch batch;
    size_t at = 0;
    maker_ok(m, pqfile_cursor_open(reader, 0, 0, &cursor, &m->error));
    for (;;) {
        maker_ok(m, pqfile_cursor_read(cursor, 100, &batch, &m->error));
        if (batch.row_count == 0)
            break;
        assert_true(at + batch.value_count <= count);
        assert_memory_equal(batch.values, expected + at, batch.value_count * sizeof *expected);
        at += batch.value_count;
    }
    assert_int_equal(at, count);
    pqfile_cursor_close(cursor);
}

static void fill_numbers(int64_t *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (int64_t)(i * i % 1009) - 300;
}

/* ---- files ---- */

static void a_file_without_rows_is_readable(void **state)
{
    (void)state;
    struct maker m;
    maker_begin(&m, number_field, 1, NULL);
    struct pqfile_reader *reader = maker_read(&m);
    assert_int_equal(pqfile_metadata(reader)->row_group_count, 0);
    assert_int_equal(pqfile_metadata(reader)->row_count, 0);
    maker_end(&m, reader);
}

static void a_row_group_without_rows_is_left_out(void **state)
{
    (void)state;
    struct maker m;
    int64_t values[] = {1, 2};
    maker_begin(&m, number_field, 1, NULL);
    maker_end_column(&m, true);
    write_numbers(&m, values, 2);
    maker_end_column(&m, true);
    write_numbers(&m, values, 0);
    maker_end_column(&m, true);
    struct pqfile_reader *reader = maker_read(&m);
    assert_int_equal(pqfile_metadata(reader)->row_group_count, 1);
    assert_numbers(&m, reader, values, 2);
    maker_end(&m, reader);
}

static void keys_and_creator_are_in_the_footer(void **state)
{
    (void)state;
    struct maker m;
    struct pqfile_key_value pairs[] = {
        {.key = {(const uint8_t *)"a", 1},
         .value = {(const uint8_t *)"b\0c", 3},
         .has_value = true},
        {.key = {(const uint8_t *)"bare", 4}},
    };
    struct pqfile_writer_options options = {
        .key_values = pairs, .key_value_count = 2, .no_arrow_schema = true};
    maker_begin(&m, number_field, 1, &options);
    struct pqfile_reader *reader = maker_read(&m);
    const struct pqfile_metadata *meta = pqfile_metadata(reader);
    assert_int_equal(meta->key_value_count, 2);
    const struct pqfile_key_value *a = pqfile_find_key(meta, "a");
    assert_true(a != NULL && a->has_value && a->value.len == 3);
    assert_memory_equal(a->value.data, "b\0c", 3);
    assert_false(pqfile_find_key(meta, "bare")->has_value);
    assert_memory_equal(meta->created_by.data, "ProximaDB pqfile " PQFILE_VERSION,
                        meta->created_by.len);
    maker_end(&m, reader);
}

/* pyarrow 26 reads these bytes as v: fixed_size_list<element: float not null>[5]. */
static void the_arrow_schema_is_an_ipc_message_in_base64(void **state)
{
    (void)state;
    static const struct pqfile_field fields[] = {
        {.name = "v",
         .repetition = PQFILE_OPTIONAL,
         .child_count = 1,
         .list_size = 5,
         .logical.kind = PQFILE_LOGICAL_LIST},
        {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
        {.name = "element", .type = PQFILE_FLOAT}};
    static const char expected[] =
        "//////AAAAAYAAAAAAAAAAAAAAAMABgABAAGAAgAEAAMAAAABAABABgAAAAAAAAAAAAAAAAAAAAIAAwABAAIAAgA"
        "AAAAAAAABAAAAAEAAAAYAAAAAAAAABAAFAAEAAgACQAMAAAAEAAQAAAAEAAAAAEQAAAkAAAAKAAAAAEAAAB2AAAA"
        "AAAAAAAAAAAAAAoACAAEAAAAAAAKAAAABQAAAAEAAAAUAAAAEAAUAAQACAAJAAwAAAAQABAAAAAQAAAAAAMAACQA"
        "AAAoAAAABwAAAGVsZW1lbnQAAAAAAAAACgAGAAQAAAAAAAoAAAABAAAAAAAAAAAAAAA=";
    struct maker m;
    char *base64 = NULL;
    size_t len = 0;
    assert_int_equal(pqfile_arrow_schema(fields, 3, NULL, &base64, &len, NULL), 0);
    assert_int_equal(strlen(base64), len);
    assert_string_equal(base64, expected);
    maker_begin(&m, fields, 3, NULL);
    struct pqfile_reader *reader = maker_read(&m);
    const struct pqfile_key_value *pair = pqfile_find_key(pqfile_metadata(reader), "ARROW:schema");
    assert_true(pair != NULL && pair->value.len == len);
    assert_memory_equal(pair->value.data, expected, len);
    maker_end(&m, reader);
    free(base64);
}

static void what_arrow_cannot_be_told_is_an_error(void **state)
{
    (void)state;
    const struct pqfile_field field = {.name = "l", .child_count = 1};
    struct pqfile_error error;
    char *base64 = NULL;
    size_t len = 0;
    int rc = pqfile_arrow_schema(&field, 1, NULL, &base64, &len, &error);
    assert_int_equal(rc, PQFILE_INVALID);
    assert_null(base64);
}

static void several_row_groups_follow_each_other(void **state)
{
    (void)state;
    struct maker m;
    int64_t values[ROWS];
    fill_numbers(values, ROWS);
    maker_begin(&m, number_field, 1, NULL);
    for (size_t i = 0; i < ROWS; i += ROWS / 4) {
        write_numbers(&m, values + i, ROWS / 4);
        maker_end_column(&m, true);
    }
    struct pqfile_reader *reader = maker_read(&m);
    const struct pqfile_metadata *meta = pqfile_metadata(reader);
    assert_int_equal(meta->row_group_count, 4);
    for (uint32_t g = 0; g < 4; g++) {
        assert_int_equal(meta->row_groups[g].first_row, g * ROWS / 4);
        assert_int_equal(meta->row_groups[g].row_count, ROWS / 4);
        assert_true(meta->row_groups[g].chunks[0].statistics.has_min);
    }
    maker_end(&m, reader);
}

static void levels_that_the_schema_lacks_are_not_looked_at(void **state)
{
    (void)state;
    static const uint8_t levels[] = {1, 1};
    struct maker m;
    struct pqfile_bytes values[] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"bc", 2}};
    struct pqfile_field field = {.name = "s", .type = PQFILE_BYTE_ARRAY};
    struct pqfile_batch batch = {.row_count = 2,
                                 .level_count = 2,
                                 .value_count = 2,
                                 .definition = levels,
                                 .repetition = levels,
                                 .values = values};
    struct pqfile_cursor *cursor = NULL;
    maker_begin(&m, &field, 1, NULL);
    maker_ok(&m, pqfile_write(m.writer, &batch, &m.error));
    maker_end_column(&m, true);
    struct pqfile_reader *reader = maker_read(&m);
    maker_ok(&m, pqfile_cursor_open(reader, 0, 0, &cursor, &m.error));
    maker_ok(&m, pqfile_cursor_read(cursor, 10, &batch, &m.error));
    assert_int_equal(batch.value_count, 2);
    assert_memory_equal(((const struct pqfile_bytes *)batch.values)[1].data, "bc", 2);
    assert_null(batch.definition);
    pqfile_cursor_close(cursor);
    maker_end(&m, reader);
}

/* ---- pages ---- */

static void pages_end_with_the_row_that_fills_them(void **state)
{
    (void)state;
    struct maker m;
    int64_t values[ROWS];
    fill_numbers(values, ROWS);
    struct pqfile_column_options small = {.page_bytes = 799}, few = {.page_rows = 70};
    const struct pqfile_column_options *all[] = {&small, &few};
    const uint32_t page_rows[] = {100, 70};
    for (size_t i = 0; i < 2; i++) {
        struct pqfile_field field = {.name = "n", .type = PQFILE_INT64, .options = all[i]};
        struct pqfile_written written;
        maker_begin(&m, &field, 1, NULL);
        write_numbers(&m, values, ROWS);
        maker_ok(&m, pqfile_writer_end_column(m.writer, &written, &m.error));
        assert_int_equal(written.page_count, (ROWS + page_rows[i] - 1) / page_rows[i]);
        for (uint32_t p = 0; p + 1 < written.page_count; p++)
            assert_int_equal(written.pages[p].row_count, page_rows[i]);
        assert_int_equal(written.row_count, ROWS);
        maker_ok(&m, pqfile_writer_end_row_group(m.writer, &m.error));
        struct pqfile_reader *reader = maker_read(&m);
        assert_numbers(&m, reader, values, ROWS);
        maker_end(&m, reader);
    }
}

/* Writes ROWS numbers in batches of `step` with the options. */
static void make_numbers(struct maker *m, const struct pqfile_column_options *options, size_t step,
                         const int64_t *values)
{
    struct pqfile_field field = {.name = "n", .type = PQFILE_INT64, .options = options};
    maker_begin(m, &field, 1, NULL);
    for (size_t i = 0; i < ROWS; i += step)
        write_numbers(m, values + i, ROWS - i < step ? ROWS - i : step);
    maker_end_column(m, true);
    maker_finish(m);
}

static void batches_leave_no_trace_in_the_file(void **state)
{
    (void)state;
    int64_t values[ROWS];
    fill_numbers(values, ROWS);
    const struct pqfile_column_options all[] = {
        {.page_bytes = 500},
        {.page_bytes = 500, .value_alignment = 64, .page_version = 1},
        {.page_bytes = 500, .encoding = PQFILE_RLE_DICTIONARY, .dictionary_bytes = 1200},
        {.page_bytes = 500, .encoding = PQFILE_DELTA_BINARY_PACKED, .codec = PQFILE_ZSTD},
        {.page_bytes = 500, .encoding = PQFILE_BYTE_STREAM_SPLIT, .bloom = true},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct maker whole, parts;
        make_numbers(&whole, &all[i], ROWS, values);
        make_numbers(&parts, &all[i], 7, values);
        assert_same_file(&whole, &parts);
        maker_end(&whole, NULL);
    }
}

static void aligned_values_lie_in_the_file_as_in_memory(void **state)
{
    (void)state;
    static const uint32_t alignments[] = {2, 8, 64, 256, 4096};
    int64_t values[ROWS];
    fill_numbers(values, ROWS);
    for (size_t a = 0; a < 5; a++)
        for (uint8_t version = 1; version <= 2; version++) {
            struct maker m;
            struct pqfile_column_options options = {
                .page_bytes = 1600, .page_version = version, .value_alignment = alignments[a]};
            struct pqfile_field field = {.name = "n",
                                         .repetition = PQFILE_OPTIONAL,
                                         .type = PQFILE_INT64,
                                         .options = &options};
            struct pqfile_written written;
            maker_begin(&m, &field, 1, NULL);
            maker_ok(&m, pqfile_write_optional(m.writer, values, NULL, ROWS, &m.error));
            maker_ok(&m, pqfile_writer_end_column(m.writer, &written, &m.error));
            for (uint32_t p = 0; p < written.page_count; p++) {
                const struct pqfile_page *page = &written.pages[p];
                assert_true(page->in_place);
                assert_int_equal(page->values_offset % alignments[a], 0);
                assert_memory_equal(m.file.data + page->values_offset, values + page->first_row,
                                    page->value_count * sizeof *values);
            }
            maker_ok(&m, pqfile_writer_end_row_group(m.writer, &m.error));
            struct pqfile_reader *reader = maker_read(&m);
            assert_numbers(&m, reader, values, ROWS);
            maker_end(&m, reader);
        }
}

static void what_end_column_tells_is_what_the_reader_finds(void **state)
{
    (void)state;
    int64_t values[ROWS];
    fill_numbers(values, ROWS);
    const struct pqfile_column_options all[] = {
        {.page_bytes = 900, .value_alignment = 64},
        {.page_bytes = 900, .encoding = PQFILE_RLE_DICTIONARY, .dictionary_bytes = 2000},
        {.page_bytes = 900, .codec = PQFILE_SNAPPY, .page_version = 1},
    };
    for (size_t i = 0; i < 3; i++) {
        struct maker m;
        struct pqfile_field field = {.name = "n", .type = PQFILE_INT64, .options = &all[i]};
        struct pqfile_written written;
        struct pqfile_page told[64], page;
        struct pqfile_pages *pages = NULL;
        maker_begin(&m, &field, 1, NULL);
        write_numbers(&m, values, ROWS);
        maker_ok(&m, pqfile_writer_end_column(m.writer, &written, &m.error));
        assert_in_range(written.page_count, 2, 64);
        memcpy(told, written.pages, written.page_count * sizeof *told);
        maker_ok(&m, pqfile_writer_end_row_group(m.writer, &m.error));
        struct pqfile_reader *reader = maker_read(&m);
        assert_int_equal(pqfile_metadata(reader)->row_groups[0].chunks[0].start, written.offset);
        maker_ok(&m, pqfile_pages_open(reader, 0, 0, &pages, &m.error));
        for (uint32_t p = 0; p < written.page_count; p++) {
            maker_ok(&m, pqfile_pages_next(pages, &page, &m.error));
            assert_int_equal(page.offset, told[p].offset);
            assert_int_equal(page.header_bytes, told[p].header_bytes);
            assert_int_equal(page.stored_bytes, told[p].stored_bytes);
            assert_int_equal(page.first_row, told[p].first_row);
            assert_int_equal(page.row_count, told[p].row_count);
            assert_int_equal(page.value_count, told[p].value_count);
            assert_int_equal(page.encoding, told[p].encoding);
            assert_int_equal(page.in_place, told[p].in_place);
            assert_int_equal(page.values_offset, told[p].values_offset);
            maker_ok(&m, pqfile_page_verify(reader, &page, &m.error));
        }
        maker_ok(&m, pqfile_pages_next(pages, &page, &m.error));
        assert_int_equal(page.level_count, 0);
        pqfile_pages_close(pages);
        maker_end(&m, reader);
    }
}

/* ---- dictionaries, indexes, filters ---- */

static void a_dictionary_that_grows_too_large_is_left(void **state)
{
    (void)state;
    int64_t values[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        values[i] = (int64_t)i;
    for (uint32_t limit = 400; limit <= 100000; limit += 99600) {
        struct maker m;
        struct pqfile_column_options options = {
            .encoding = PQFILE_RLE_DICTIONARY, .dictionary_bytes = limit, .page_bytes = 800};
        make_numbers(&m, &options, ROWS, values);
        struct pqfile_source source = {.size = m.file.len, .memory = m.file.data};
        struct pqfile_reader *reader = NULL;
        struct pqfile_pages *pages = NULL;
        struct pqfile_page page;
        uint32_t plain = 0, indices = 0;
        maker_ok(&m, pqfile_open(&source, NULL, &reader, &m.error));
        maker_ok(&m, pqfile_pages_open(reader, 0, 0, &pages, &m.error));
        do {
            maker_ok(&m, pqfile_pages_next(pages, &page, &m.error));
            plain += page.level_count > 0 && page.encoding == PQFILE_PLAIN;
            indices += page.level_count > 0 && page.encoding == PQFILE_RLE_DICTIONARY;
        } while (page.level_count > 0);
        assert_int_equal(indices, limit == 400 ? 1 : 10);
        assert_int_equal(plain, limit == 400 ? 9 : 0);
        assert_numbers(&m, reader, values, ROWS);
        pqfile_pages_close(pages);
        maker_end(&m, reader);
    }
}

static void a_column_of_nothing_but_nulls_is_legal_in_every_encoding(void **state)
{
    (void)state;
    static const enum pqfile_encoding encodings[] = {
        PQFILE_PLAIN, PQFILE_RLE_DICTIONARY, PQFILE_DELTA_BINARY_PACKED, PQFILE_BYTE_STREAM_SPLIT};
    static const uint8_t absent[ROWS / 8];
    int64_t values[ROWS] = {0};
    for (size_t i = 0; i < 4; i++)
        for (uint8_t version = 1; version <= 2; version++) {
            struct maker m;
            struct pqfile_column_options options = {.encoding = encodings[i],
                                                    .page_version = version,
                                                    .page_rows = 300,
                                                    .bloom = true,
                                                    .codec = PQFILE_ZSTD};
            struct pqfile_field field = {.name = "n",
                                         .repetition = PQFILE_OPTIONAL,
                                         .type = PQFILE_INT64,
                                         .options = &options};
            maker_begin(&m, &field, 1, NULL);
            maker_ok(&m, pqfile_write_optional(m.writer, values, absent, ROWS, &m.error));
            maker_end_column(&m, true);
            struct pqfile_reader *reader = maker_read(&m);
            const struct pqfile_statistics *s =
                &pqfile_metadata(reader)->row_groups[0].chunks[0].statistics;
            assert_true(s->has_null_count && !s->has_min);
            assert_int_equal(s->null_count, ROWS);
            assert_numbers(&m, reader, values, 0);
            maker_end(&m, reader);
        }
}

static void the_page_index_bounds_every_page(void **state)
{
    (void)state;
    struct maker m;
    int64_t values[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        values[i] = (int64_t)i;
    struct pqfile_column_options options = {.page_rows = 100};
    make_numbers(&m, &options, ROWS, values);
    struct pqfile_source source = {.size = m.file.len, .memory = m.file.data};
    struct pqfile_reader *reader = NULL;
    struct pqfile_page_index *index = NULL;
    maker_ok(&m, pqfile_open(&source, NULL, &reader, &m.error));
    maker_ok(&m, pqfile_page_index_open(reader, 0, 0, &index, &m.error));
    const struct pqfile_page_index_view *view = pqfile_page_index(index);
    assert_int_equal(view->page_count, 10);
    assert_true(view->has_bounds);
    assert_int_equal(view->order, PQFILE_ASCENDING);
    for (uint32_t p = 0; p < 10; p++) {
        int64_t min, max;
        memcpy(&min, view->entries[p].min.data, sizeof min);
        memcpy(&max, view->entries[p].max.data, sizeof max);
        assert_int_equal(min, p * 100);
        assert_int_equal(max, p * 100 + 99);
        assert_int_equal(view->entries[p].first_row, p * 100);
        assert_true(view->entries[p].has_null_count && view->entries[p].null_count == 0);
    }
    pqfile_page_index_close(index);
    maker_end(&m, reader);
}

static void a_page_of_nan_leaves_no_column_index(void **state)
{
    (void)state;
    struct maker m;
    double values[4] = {1.0, 2.0, (double)NAN, (double)NAN};
    struct pqfile_column_options options = {.page_rows = 2};
    struct pqfile_field field = {.name = "x", .type = PQFILE_DOUBLE, .options = &options};
    struct pqfile_batch batch = {
        .row_count = 4, .level_count = 4, .value_count = 4, .values = values};
    maker_begin(&m, &field, 1, NULL);
    maker_ok(&m, pqfile_write(m.writer, &batch, &m.error));
    maker_end_column(&m, true);
    struct pqfile_reader *reader = maker_read(&m);
    const struct pqfile_chunk *chunk = &pqfile_metadata(reader)->row_groups[0].chunks[0];
    assert_int_equal(chunk->column_index_bytes, 0);
    assert_true(chunk->offset_index_bytes > 0);
    assert_true(chunk->statistics.has_max);
    maker_end(&m, reader);
}

static void a_bloom_filter_knows_every_value(void **state)
{
    (void)state;
    int64_t values[ROWS];
    fill_numbers(values, ROWS);
    const struct pqfile_column_options all[] = {
        {.bloom = true},
        {.bloom = true, .bloom_distinct = ROWS},
        {.bloom = true, .encoding = PQFILE_RLE_DICTIONARY},
        {.bloom = true,
         .encoding = PQFILE_RLE_DICTIONARY,
         .dictionary_bytes = 400,
         .page_bytes = 800},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct maker m;
        struct pqfile_reader *reader = NULL;
        struct pqfile_bloom *bloom = NULL;
        size_t found = 0;
        make_numbers(&m, &all[i], ROWS, values);
        struct pqfile_source source = {.size = m.file.len, .memory = m.file.data};
        maker_ok(&m, pqfile_open(&source, NULL, &reader, &m.error));
        maker_ok(&m, pqfile_bloom_open(reader, 0, 0, &bloom, &m.error));
        for (size_t v = 0; v < ROWS; v++)
            assert_true(pqfile_bloom_may_contain(bloom, &values[v], sizeof values[v]));
        for (int64_t v = 100000; v < 101000; v++)
            found += pqfile_bloom_may_contain(bloom, &v, sizeof v);
        assert_true(found < 50);
        pqfile_bloom_close(bloom);
        maker_end(&m, reader);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_without_rows_is_readable),
        cmocka_unit_test(a_row_group_without_rows_is_left_out),
        cmocka_unit_test(keys_and_creator_are_in_the_footer),
        cmocka_unit_test(the_arrow_schema_is_an_ipc_message_in_base64),
        cmocka_unit_test(what_arrow_cannot_be_told_is_an_error),
        cmocka_unit_test(several_row_groups_follow_each_other),
        cmocka_unit_test(levels_that_the_schema_lacks_are_not_looked_at),
        cmocka_unit_test(pages_end_with_the_row_that_fills_them),
        cmocka_unit_test(batches_leave_no_trace_in_the_file),
        cmocka_unit_test(aligned_values_lie_in_the_file_as_in_memory),
        cmocka_unit_test(what_end_column_tells_is_what_the_reader_finds),
        cmocka_unit_test(a_dictionary_that_grows_too_large_is_left),
        cmocka_unit_test(a_column_of_nothing_but_nulls_is_legal_in_every_encoding),
        cmocka_unit_test(the_page_index_bounds_every_page),
        cmocka_unit_test(a_page_of_nan_leaves_no_column_index),
        cmocka_unit_test(a_bloom_filter_knows_every_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
