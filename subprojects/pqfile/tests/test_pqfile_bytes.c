/* Tests columns of INT32 that are stored as bytes (writer.h, as_bytes): what a reader makes of
 * them, and where the bytes lie. Other readers see such files in the tests of those who write
 * them. */
#include "writer_fixture.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 700, SIZE_MAX_HERE = 300 };

static const struct pqfile_logical byte_type = {
    .kind = PQFILE_LOGICAL_INTEGER, .bits = 8, .is_signed = true};

static void list_fields(struct pqfile_field *fields, uint32_t size,
                        const struct pqfile_column_options *options)
{
    fields[0] = (struct pqfile_field){.name = "vector",
                                      .repetition = PQFILE_OPTIONAL,
                                      .child_count = 1,
                                      .list_size = size,
                                      .logical.kind = PQFILE_LOGICAL_LIST};
    fields[1] =
        (struct pqfile_field){.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1};
    fields[2] = (struct pqfile_field){
        .name = "element", .type = PQFILE_INT32, .logical = byte_type, .options = options};
}

static bool is_absent(size_t row)
{
    return row % 7 == 2 || (row > 200 && row < 260);
}

static int8_t value_at(size_t row, size_t i)
{
    return (int8_t)(row * 31 + i * 7 + i * i);
}

struct rows {
    int8_t values[ROWS][SIZE_MAX_HERE];
    const void *at[ROWS];
};

static struct rows *make_rows(size_t size)
{
    struct rows *rows = calloc(1, sizeof *rows);
    assert_non_null(rows);
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t i = 0; i < size; i++)
            rows->values[row][i] = value_at(row, i);
        rows->at[row] = is_absent(row) ? NULL : rows->values[row];
    }
    return rows;
}

static struct pqfile_column_options bytes_options(enum pqfile_codec codec)
{
    return (struct pqfile_column_options){.encoding = PQFILE_RLE_DICTIONARY,
                                          .codec = codec,
                                          .as_bytes = true,
                                          .no_statistics = true,
                                          .page_rows = 37,
                                          .value_alignment = codec == PQFILE_UNCOMPRESSED ? 64 : 0};
}

/* All rows, as INT32 by the cursor. */
static void check_values(struct maker *m, const struct pqfile_reader *reader, size_t size)
{
    struct pqfile_cursor *cursor = NULL;
    struct pqfile_batch batch;
    size_t row = 0;
    maker_ok(m, pqfile_cursor_open(reader, 0, 0, &cursor, &m->error));
    for (;;) {
        maker_ok(m, pqfile_cursor_read(cursor, 50, &batch, &m->error));
        if (batch.row_count == 0)
            break;
        const int32_t *values = batch.values;
        size_t at = 0;
        for (size_t i = 0; i < batch.row_count; i++, row++) {
            for (size_t j = 0; j < size && !is_absent(row); j++)
                assert_int_equal(values[at++], value_at(row, j));
        }
        assert_int_equal(at, batch.value_count);
    }
    assert_int_equal(row, ROWS);
    pqfile_cursor_close(cursor);
}

static void check_page(const struct maker *m, const struct pqfile_page *page, size_t size)
{
    const int8_t *values = (const int8_t *)m->file.data + page->values_offset;
    assert_true(page->numbers_in_place && !page->in_place && page->values_offset % 64 == 0);
    for (size_t row = page->first_row; row < page->first_row + page->row_count; row++)
        for (size_t i = 0; i < size && !is_absent(row); i++)
            assert_int_equal(*values++, value_at(row, i));
    assert_ptr_equal(values,
                     (const int8_t *)m->file.data + page->values_offset + page->value_count);
}

static void bytes_come_back_as_numbers_and_lie_in_the_file_as_in_memory(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 3, 8, 64, SIZE_MAX_HERE};
    struct pqfile_column_options options = bytes_options(PQFILE_UNCOMPRESSED);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct maker m;
        struct pqfile_field fields[3];
        struct pqfile_written written;
        struct pqfile_pages *pages = NULL;
        struct pqfile_page page;
        struct rows *rows = make_rows(sizes[s]);
        list_fields(fields, sizes[s], &options);
        maker_begin(&m, fields, 3, NULL);
        maker_ok(&m, pqfile_write_vectors_at(m.writer, rows->at, ROWS, &m.error));
        maker_ok(&m, pqfile_writer_end_column(m.writer, &written, &m.error));
        size_t bytes = 0, present = 0;
        for (uint32_t p = 0; p < written.page_count; p++)
            if (written.pages[p].value_count > 0)
                check_page(&m, &written.pages[p], sizes[s]);
        for (uint32_t p = 0; p < written.page_count; p++)
            bytes += written.pages[p].value_count;
        for (size_t row = 0; row < ROWS; row++)
            present += !is_absent(row);
        assert_int_equal(bytes, present * sizes[s]);
        maker_ok(&m, pqfile_writer_end_row_group(m.writer, &m.error));
        struct pqfile_reader *reader = maker_read(&m);
        check_values(&m, reader, sizes[s]);
        maker_ok(&m, pqfile_pages_open(reader, 0, 0, &pages, &m.error));
        for (uint32_t p = 0; p < written.page_count; p++) {
            maker_ok(&m, pqfile_pages_next(pages, &page, &m.error));
            if (page.value_count > 0)
                check_page(&m, &page, sizes[s]);
            maker_ok(&m, pqfile_page_verify(reader, &page, &m.error));
        }
        pqfile_pages_close(pages);
        /* A byte a value, levels, headers and one dictionary. */
        assert_true(written.stored_bytes < bytes + 2048 + 200u * written.page_count + 12u * ROWS);
        maker_end(&m, reader);
        free(rows);
    }
}

static void compressed_bytes_come_back(void **state)
{
    (void)state;
    static const enum pqfile_codec codecs[] = {PQFILE_SNAPPY, PQFILE_LZ4_RAW, PQFILE_ZSTD};
    for (size_t c = 0; c < 3; c++) {
        struct maker m;
        struct pqfile_field fields[3];
        struct pqfile_column_options options = bytes_options(codecs[c]);
        struct rows *rows = make_rows(19);
        list_fields(fields, 19, &options);
        maker_begin(&m, fields, 3, NULL);
        maker_ok(&m, pqfile_write_vectors_at(m.writer, rows->at, ROWS, &m.error));
        maker_end_column(&m, true);
        struct pqfile_reader *reader = maker_read(&m);
        check_values(&m, reader, 19);
        maker_end(&m, reader);
        free(rows);
    }
}

static void rows_without_any_value_are_a_column_too(void **state)
{
    (void)state;
    static const void *const none[5] = {NULL};
    struct maker m;
    struct pqfile_field fields[3];
    struct pqfile_column_options options = bytes_options(PQFILE_UNCOMPRESSED);
    struct pqfile_batch batch;
    struct pqfile_cursor *cursor = NULL;
    list_fields(fields, 4, &options);
    maker_begin(&m, fields, 3, NULL);
    maker_ok(&m, pqfile_write_vectors_at(m.writer, none, 5, &m.error));
    maker_end_column(&m, true);
    struct pqfile_reader *reader = maker_read(&m);
    maker_ok(&m, pqfile_cursor_open(reader, 0, 0, &cursor, &m.error));
    maker_ok(&m, pqfile_cursor_read(cursor, 50, &batch, &m.error));
    assert_int_equal(batch.row_count, 5);
    assert_int_equal(batch.value_count, 0);
    pqfile_cursor_close(cursor);
    maker_end(&m, reader);
}

static void only_bytes_are_stored_as_bytes(void **state)
{
    (void)state;
    struct pqfile_column_options good = bytes_options(PQFILE_UNCOMPRESSED);
    for (int bad = 0; bad < 6; bad++) {
        struct pqfile_column_options options = good;
        struct pqfile_field field = {
            .name = "x", .type = PQFILE_INT32, .logical = byte_type, .options = &options};
        struct file file = {0};
        struct pqfile_sink sink = {.write = file_write, .context = &file};
        struct pqfile_writer *writer = NULL;
        struct pqfile_error error;
        if (bad == 0)
            field.logical = (struct pqfile_logical){.kind = PQFILE_LOGICAL_NONE};
        if (bad == 1)
            field.logical.is_signed = false;
        if (bad == 2)
            options.encoding = PQFILE_PLAIN;
        if (bad == 3)
            options.page_version = 1;
        if (bad == 4)
            options.no_statistics = false;
        if (bad == 5)
            options.bloom = true;
        assert_int_equal(pqfile_writer_open(&field, 1, NULL, &sink, &writer, &error),
                         PQFILE_INVALID);
        file_dispose(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_back_as_numbers_and_lie_in_the_file_as_in_memory),
        cmocka_unit_test(compressed_bytes_come_back),
        cmocka_unit_test(rows_without_any_value_are_a_column_too),
        cmocka_unit_test(only_bytes_are_stored_as_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
