/* Tests src/reader*.c: sources, limits, arguments, seeking, vectors, and what happens when memory
 * or the source fails. That values are right is shown by test_pqfile_random.c and by comparison
 * with other implementations; what damage does by test_pqfile_damage.c. */
#include "writer_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 60, DIMENSION = 4, COLUMN_ID = 0, COLUMN_NUMBER = 1, COLUMN_VECTOR = 2 };

static const struct pqfile_field fields[] = {
    {.name = "id", .type = PQFILE_BYTE_ARRAY, .logical = {.kind = PQFILE_LOGICAL_STRING}},
    {.name = "number", .type = PQFILE_INT64, .repetition = PQFILE_OPTIONAL},
    {.name = "vector",
     .repetition = PQFILE_OPTIONAL,
     .child_count = 1,
     .logical = {.kind = PQFILE_LOGICAL_LIST}},
    {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
    {.name = "element", .type = PQFILE_FLOAT, .repetition = PQFILE_OPTIONAL},
};

/* Which rows of the vector column are odd ones. */
enum { ROW_NULL = 7, ROW_EMPTY = 21, ROW_SHORT = 33, ROW_HOLE = 47 };

static void write_ids(struct maker *m)
{
    static char text[ROWS][16];
    struct pqfile_bytes ids[ROWS];
    for (int i = 0; i < ROWS; i++) {
        int len = snprintf(text[i], sizeof(text[i]), "id-%02d", i % 20);
        ids[i] = (struct pqfile_bytes){(const uint8_t *)text[i], (size_t)len};
    }
    struct pqfile_batch batch = {ROWS, ROWS, ROWS, NULL, NULL, ids};
    maker_ok(m, pqfile_write(m->writer, &batch, &m->error));
    maker_end_column(m, false);
}

static void write_numbers(struct maker *m)
{
    int64_t values[ROWS];
    uint8_t present[ROWS / 8 + 1] = {0};
    for (int i = 0; i < ROWS; i++) {
        values[i] = i * 3;
        if (i % 5 != 0)
            present[i / 8] |= (uint8_t)(1u << (i % 8));
    }
    maker_ok(m, pqfile_write_optional(m->writer, values, present, ROWS, &m->error));
    maker_end_column(m, false);
}

static void write_lists(struct maker *m, bool with_odd_ones)
{
    uint8_t definition[ROWS * DIMENSION], repetition[ROWS * DIMENSION];
    float values[ROWS * DIMENSION];
    struct pqfile_batch b = {
        .row_count = ROWS, .definition = definition, .repetition = repetition, .values = values};
    for (int i = 0; i < ROWS; i++) {
        int len = DIMENSION;
        if (i == ROW_NULL || (with_odd_ones && i == ROW_EMPTY)) {
            definition[b.level_count] = i == ROW_NULL ? 0 : 1;
            repetition[b.level_count++] = 0;
            continue;
        }
        if (with_odd_ones && i == ROW_SHORT)
            len--;
        for (int j = 0; j < len; j++) {
            bool is_hole = with_odd_ones && i == ROW_HOLE && j == 2;
            definition[b.level_count] = is_hole ? 2 : 3;
            repetition[b.level_count++] = j != 0;
            if (!is_hole)
                values[b.value_count++] = (float)(i * 10 + j);
        }
    }
    maker_ok(m, pqfile_write(m->writer, &b, &m->error));
    maker_end_column(m, true);
}

static void make(struct maker *m, const struct pqfile_column_options *column, bool with_odd_ones)
{
    struct pqfile_writer_options options = {.column = *column};
    maker_begin(m, fields, 5, &options);
    write_ids(m);
    write_numbers(m);
    write_lists(m, with_odd_ones);
    maker_finish(m);
}

static struct pqfile_column_options small_pages(uint8_t version)
{
    return (struct pqfile_column_options){.encoding = PQFILE_RLE_DICTIONARY,
                                          .codec = PQFILE_ZSTD,
                                          .page_version = version,
                                          .page_rows = 7,
                                          .bloom = true};
}

static struct pqfile_reader *open_memory(struct maker *m,
                                         const struct pqfile_reader_options *options)
{
    struct pqfile_source source = {.size = m->file.len, .memory = m->file.data};
    struct pqfile_reader *reader = NULL;
    maker_ok(m, pqfile_open(&source, options, &reader, &m->error));
    return reader;
}

static struct pqfile_cursor *open_cursor(struct maker *m, const struct pqfile_reader *reader,
                                         uint32_t column)
{
    struct pqfile_cursor *cursor = NULL;
    maker_ok(m, pqfile_cursor_open(reader, 0, column, &cursor, &m->error));
    return cursor;
}

/* ---- sources ---- */

struct counted {
    const struct file *file;
    size_t calls;
    size_t failing; /* the call, from 1, that fails; 0: none */
    size_t bytes;
};

static int counted_read(void *context, uint64_t offset, size_t len, void *buffer)
{
    struct counted *c = context;
    assert_true(offset <= c->file->len && len <= c->file->len - offset);
    assert_true(len != 0);
    if (++c->calls == c->failing)
        return 1;
    memcpy(buffer, c->file->data + offset, len);
    c->bytes += len;
    return 0;
}

/* Reads some of everything there is. */
static int read_some(const struct pqfile_source *source, const struct pqfile_reader_options *o,
                     struct pqfile_error *error)
{
    struct pqfile_reader *reader = NULL;
    int rc = pqfile_open(source, o, &reader, error);
    for (uint32_t c = 0; rc == 0 && c < 3; c++) {
        struct pqfile_cursor *cursor = NULL;
        struct pqfile_pages *pages = NULL;
        struct pqfile_page_index *index = NULL;
        struct pqfile_bloom *bloom = NULL;
        struct pqfile_page page = {.level_count = 1};
        struct pqfile_batch batch = {.row_count = 1};
        rc = pqfile_cursor_open(reader, 0, c, &cursor, error);
        while (rc == 0 && batch.row_count != 0)
            rc = pqfile_cursor_read(cursor, 10, &batch, error);
        if (rc == 0)
            rc = pqfile_cursor_seek(cursor, 30, error);
        pqfile_cursor_close(cursor);
        if (rc == 0)
            rc = pqfile_pages_open(reader, 0, c, &pages, error);
        while (rc == 0 && page.level_count != 0) {
            rc = pqfile_pages_next(pages, &page, error);
            if (rc == 0 && page.level_count != 0)
                rc = pqfile_page_verify(reader, &page, error);
        }
        pqfile_pages_close(pages);
        if (rc == 0)
            rc = pqfile_page_index_open(reader, 0, c, &index, error);
        pqfile_page_index_close(index);
        if (rc == 0)
            rc = pqfile_bloom_open(reader, 0, c, &bloom, error);
        pqfile_bloom_close(bloom);
    }
    pqfile_close(reader);
    return rc;
}

static void every_call_of_the_source_may_fail(void **state)
{
    (void)state;
    for (uint8_t version = 1; version <= 2; version++) {
        struct maker m;
        struct pqfile_column_options column = small_pages(version);
        make(&m, &column, true);
        size_t n = 1;
        for (;; n++) {
            struct counted counted = {.file = &m.file, .failing = n};
            struct pqfile_source source = {
                .size = m.file.len, .read_at = counted_read, .context = &counted};
            int rc = read_some(&source, NULL, &m.error);
            if (counted.calls < n) {
                maker_ok(&m, rc);
                break;
            }
            maker_refused(&m, rc, PQFILE_IO, "input or output failed");
        }
        assert_true(n > 50);
        maker_end(&m, NULL);
    }
}

static void every_allocation_may_fail_and_nothing_leaks(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < 4; kind++) {
        struct maker m;
        struct pqfile_column_options column = small_pages(kind < 2 ? 1 : 2);
        make(&m, &column, true);
        size_t n = 1;
        for (;; n++) {
            struct faulty faulty = {.failing = n};
            struct pqfile_reader_options options = {.allocator = faulty_allocator(&faulty)};
            struct counted counted = {.file = &m.file};
            struct pqfile_source source = {
                .size = m.file.len, .read_at = counted_read, .context = &counted};
            if (kind % 2 == 0)
                source.memory = m.file.data;
            int rc = read_some(&source, &options, &m.error);
            assert_int_equal(faulty.live, 0);
            if (faulty.calls < n) {
                maker_ok(&m, rc);
                break;
            }
            maker_refused(&m, rc, PQFILE_NO_MEMORY, "out of memory");
        }
        assert_true(n > 20);
        maker_end(&m, NULL);
    }
}

static void assert_refused(struct maker *m, const void *data, size_t len, int code,
                           const char *within)
{
    struct pqfile_source source = {.size = len, .memory = data};
    struct pqfile_reader *reader = NULL;
    maker_refused(m, pqfile_open(&source, NULL, &reader, &m->error), code, within);
    assert_null(reader);
}

static void what_is_no_parquet_file_is_refused(void **state)
{
    (void)state;
    struct maker m = {0};
    assert_refused(&m, "PAR1", 4, PQFILE_CORRUPT, "too short");
    assert_refused(&m, "PAR1\0\0\0\0PAR2", 12, PQFILE_CORRUPT, "does not end");
    assert_refused(&m, "XAR1\0\0\0\0PAR1", 12, PQFILE_CORRUPT, "does not begin");
    assert_refused(&m, "PARE\0\0\0\0PARE", 12, PQFILE_UNSUPPORTED, "encrypted");
    assert_refused(&m, "PAR1\1\0\0\0PAR1", 12, PQFILE_CORRUPT, "longer than the file");
    assert_refused(&m, "PAR1\0\0\0\0PAR1", 12, PQFILE_CORRUPT, "footer");
    struct pqfile_source nothing = {.size = 12};
    struct pqfile_reader *reader = NULL;
    maker_refused(&m, pqfile_open(&nothing, NULL, &reader, &m.error), PQFILE_INVALID, "source");
}

/* ---- limits ---- */

static void options_bound_what_a_file_can_cost(void **state)
{
    (void)state;
    static const struct {
        struct pqfile_reader_options options;
        const char *within;
    } rows[] = {
        {{.footer_bytes_max = 16}, "footer"}, {{.memory_max = 100}, "over a limit"},
        {{.page_bytes_max = 8}, "bytes"},     {{.node_max = 5}, "nodes"},
        {{.depth_max = 1}, "deeper"},
    };
    struct maker m;
    struct pqfile_column_options column = {.codec = PQFILE_SNAPPY, .bloom = true};
    make(&m, &column, true);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct counted counted = {.file = &m.file};
        struct pqfile_source source = {
            .size = m.file.len, .read_at = counted_read, .context = &counted};
        struct pqfile_reader_options options = rows[i].options;
        int rc = read_some(&source, &options, &m.error);
        maker_refused(&m, rc, PQFILE_LIMIT, rows[i].within);
    }
    maker_end(&m, NULL);
}

/* A small page may say that one value comes a million times. */
static void a_page_that_swells_over_the_memory_is_refused(void **state)
{
    (void)state;
    enum { COUNT = 5000, MEMORY = 20000 }; /* the footer takes 16 KiB of it */
    static const struct pqfile_field field = {.name = "n", .type = PQFILE_INT64};
    static int64_t same[COUNT];
    struct maker m;
    struct pqfile_batch batch = {COUNT, COUNT, COUNT, NULL, NULL, same};
    struct pqfile_writer_options options = {.column = {.encoding = PQFILE_RLE_DICTIONARY}};
    struct pqfile_reader_options small = {.memory_max = MEMORY};
    maker_begin(&m, &field, 1, &options);
    maker_ok(&m, pqfile_write(m.writer, &batch, &m.error));
    maker_end_column(&m, true);
    maker_finish(&m);
    assert_true(m.file.len < 1000);
    struct pqfile_reader *reader = open_memory(&m, &small);
    struct pqfile_cursor *cursor = open_cursor(&m, reader, 0);
    maker_refused(&m, pqfile_cursor_read(cursor, COUNT, &batch, &m.error), PQFILE_LIMIT,
                  "page 0, values in encoding RLE_DICTIONARY: over a limit");
    pqfile_cursor_close(cursor);
    maker_end(&m, reader);
}

/* ---- arguments ---- */

static void arguments_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct maker m;
    struct pqfile_cursor *cursor = NULL;
    struct pqfile_pages *pages = NULL;
    struct pqfile_page_index *index = NULL;
    struct pqfile_bloom *bloom = NULL;
    struct pqfile_batch batch;
    struct pqfile_error *e = &m.error;
    struct pqfile_column_options column = {.no_page_index = true};
    make(&m, &column, true);
    struct pqfile_reader *reader = open_memory(&m, NULL);
    maker_refused(&m, pqfile_cursor_open(reader, 1, 0, &cursor, e), PQFILE_INVALID, "row group 1");
    maker_refused(&m, pqfile_cursor_open(reader, 0, 3, &cursor, e), PQFILE_INVALID, "column 3");
    maker_refused(&m, pqfile_pages_open(reader, 0, 3, &pages, e), PQFILE_INVALID, "column 3");
    maker_refused(&m, pqfile_page_index_open(reader, 0, 9, &index, e), PQFILE_INVALID, "column 9");
    maker_refused(&m, pqfile_page_index_open(reader, 0, 0, &index, e), PQFILE_INVALID, "no page");
    maker_refused(&m, pqfile_bloom_open(reader, 0, 0, &bloom, e), PQFILE_INVALID, "no bloom");
    assert_true(cursor == NULL && pages == NULL && index == NULL && bloom == NULL);
    cursor = open_cursor(&m, reader, 0);
    maker_refused(&m, pqfile_cursor_read(cursor, 0, &batch, e), PQFILE_INVALID, "no rows");
    maker_refused(&m, pqfile_cursor_seek(cursor, ROWS + 1, e), PQFILE_INVALID, "no row 61");
    maker_refused(&m, pqfile_cursor_skip(cursor, ROWS + 1, e), PQFILE_INVALID, "left");
    maker_ok(&m, pqfile_cursor_read(cursor, ROWS, &batch, e)); /* none of these broke it */
    pqfile_cursor_close(cursor);
    pqfile_cursor_close(NULL);
    pqfile_pages_close(NULL);
    pqfile_page_index_close(NULL);
    pqfile_bloom_close(NULL);
    maker_end(&m, reader);
}

static void columns_and_keys_are_found_by_name(void **state)
{
    (void)state;
    struct maker m;
    struct pqfile_column_options column = {0};
    make(&m, &column, true);
    struct pqfile_reader *reader = open_memory(&m, NULL);
    const struct pqfile_metadata *meta = pqfile_metadata(reader);
    assert_int_equal(pqfile_find_column(meta, "id"), COLUMN_ID);
    assert_int_equal(pqfile_find_column(meta, "vector.list.element"), COLUMN_VECTOR);
    assert_int_equal(pqfile_find_column(meta, "vector.list"), -1);
    assert_int_equal(pqfile_find_column(meta, "list.element"), -1);
    assert_int_equal(pqfile_find_column(meta, "x.vector.list.element"), -1);
    assert_int_equal(pqfile_find_column(meta, "umber"), -1);
    assert_int_equal(pqfile_find_column(meta, ""), -1);
    assert_non_null(pqfile_find_key(meta, "ARROW:schema"));
    assert_null(pqfile_find_key(meta, "ARROW:schem"));
    maker_end(&m, reader);
}

/* ---- checksums ---- */

static void a_wrong_checksum_is_told_with_its_place_unless_skipped(void **state)
{
    (void)state;
    struct maker m;
    struct pqfile_column_options column = {.page_rows = 20};
    struct pqfile_batch batch;
    struct pqfile_pages *pages = NULL;
    struct pqfile_page page;
    make(&m, &column, true);
    struct pqfile_reader *reader = open_memory(&m, NULL);
    maker_ok(&m, pqfile_pages_open(reader, 0, COLUMN_NUMBER, &pages, &m.error));
    maker_ok(&m, pqfile_pages_next(pages, &page, &m.error));
    maker_ok(&m, pqfile_pages_next(pages, &page, &m.error));
    pqfile_pages_close(pages);
    m.file.data[page.offset + page.header_bytes + page.stored_bytes - 1] ^= 1;
    maker_refused(&m, pqfile_page_verify(reader, &page, &m.error), PQFILE_CORRUPT, "checksum");
    struct pqfile_cursor *cursor = open_cursor(&m, reader, COLUMN_NUMBER);
    maker_ok(&m, pqfile_cursor_read(cursor, 20, &batch, &m.error));
    maker_refused(&m, pqfile_cursor_read(cursor, 20, &batch, &m.error), PQFILE_CORRUPT,
                  "row group 0, column 1 (number), page 1, checksum");
    maker_refused(&m, pqfile_cursor_read(cursor, 20, &batch, &m.error), PQFILE_INVALID,
                  "after an error");
    maker_refused(&m, pqfile_cursor_seek(cursor, 0, &m.error), PQFILE_INVALID, "after an error");
    pqfile_cursor_close(cursor);
    pqfile_close(reader);
    struct pqfile_reader_options options = {.skip_checksums = true};
    reader = open_memory(&m, &options);
    cursor = open_cursor(&m, reader, COLUMN_NUMBER);
    maker_ok(&m, pqfile_cursor_seek(cursor, 20, &m.error));
    maker_ok(&m, pqfile_cursor_read(cursor, 20, &batch, &m.error));
    assert_int_equal(batch.row_count, 20);
    pqfile_cursor_close(cursor);
    maker_end(&m, reader);
}

/* ---- seeking ---- */

static void assert_number_at(struct maker *m, struct pqfile_cursor *cursor, uint64_t row)
{
    struct pqfile_batch batch;
    int64_t value = -1;
    maker_ok(m, pqfile_cursor_seek(cursor, row, &m->error));
    assert_int_equal(pqfile_cursor_row(cursor), row);
    maker_ok(m, pqfile_cursor_read(cursor, 1, &batch, &m->error));
    if (row == ROWS) {
        assert_int_equal(batch.row_count, 0);
        return;
    }
    assert_int_equal(batch.row_count, 1);
    assert_int_equal(batch.value_count, row % 5 != 0);
    if (batch.value_count != 0)
        memcpy(&value, batch.values, sizeof(value));
    assert_int_equal(value, row % 5 != 0 ? (int64_t)row * 3 : -1);
}

static void any_row_is_found_from_any_other_with_and_without_index(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        struct maker m;
        struct pqfile_column_options column = small_pages((uint8_t)(1 + kind % 2));
        column.no_page_index = kind >= 2;
        make(&m, &column, true);
        struct pqfile_reader *reader = open_memory(&m, NULL);
        struct pqfile_cursor *cursor = open_cursor(&m, reader, COLUMN_NUMBER);
        for (uint64_t from = 0; from <= ROWS; from += 4)
            for (uint64_t to = 0; to <= ROWS; to += 3) {
                assert_number_at(&m, cursor, from);
                assert_number_at(&m, cursor, to);
            }
        maker_ok(&m, pqfile_cursor_seek(cursor, 10, &m.error));
        maker_ok(&m, pqfile_cursor_skip(cursor, 25, &m.error));
        assert_int_equal(pqfile_cursor_row(cursor), 35);
        pqfile_cursor_close(cursor);
        maker_end(&m, reader);
    }
}

static void an_offset_index_spares_the_pages_between(void **state)
{
    (void)state;
    struct maker m;
    struct pqfile_column_options column = {.page_rows = 5};
    make(&m, &column, true);
    struct counted counted = {.file = &m.file};
    struct pqfile_source source = {
        .size = m.file.len, .read_at = counted_read, .context = &counted};
    struct pqfile_reader *reader = NULL;
    maker_ok(&m, pqfile_open(&source, NULL, &reader, &m.error));
    struct pqfile_cursor *cursor = open_cursor(&m, reader, COLUMN_NUMBER);
    counted.calls = 0;
    assert_number_at(&m, cursor, 52);
    assert_int_equal(counted.calls, 4); /* both indexes, a header, a page; not eleven headers */
    pqfile_cursor_close(cursor);
    maker_end(&m, reader);
}

/* ---- vectors ---- */

static int read_matrix(struct maker *m, const struct pqfile_reader *reader, uint32_t column,
                       size_t dimension, bool with_present, size_t *row_count_out)
{
    float values[ROWS * DIMENSION] = {0};
    uint8_t present[ROWS / 8 + 1];
    memset(present, 0xff, sizeof(present));
    struct pqfile_cursor *cursor = open_cursor(m, reader, column);
    size_t total = 0, rows = 1;
    int rc = 0;
    while (rc == 0 && rows != 0 && total < ROWS) {
        rc = pqfile_cursor_read_vectors(cursor, dimension, 16, values,
                                        with_present ? present : NULL, &rows, &m->error);
        for (size_t i = 0; rc == 0 && i < rows; i++) {
            bool is_null = total + i == ROW_NULL;
            assert_int_equal(present[i / 8] >> (i % 8) & 1, !is_null);
            for (size_t j = 0; j < dimension; j++) {
                float expected = is_null ? 0.0F : (float)((total + i) * 10 + j);
                assert_true(values[i * dimension + j] == expected);
            }
        }
        total += rc == 0 ? rows : 0;
    }
    pqfile_cursor_close(cursor);
    *row_count_out = total;
    return rc;
}

static void vectors_are_read_as_a_matrix(void **state)
{
    (void)state;
    for (uint8_t version = 1; version <= 2; version++) {
        struct maker m;
        size_t rows = 0;
        struct pqfile_column_options column = small_pages(version);
        make(&m, &column, false);
        struct pqfile_reader *reader = open_memory(&m, NULL);
        maker_ok(&m, read_matrix(&m, reader, COLUMN_VECTOR, DIMENSION, true, &rows));
        assert_int_equal(rows, ROWS);
        maker_refused(&m, read_matrix(&m, reader, COLUMN_VECTOR, DIMENSION, false, &rows),
                      PQFILE_INVALID, "row 7 is null");
        maker_refused(&m, read_matrix(&m, reader, COLUMN_VECTOR, DIMENSION - 1, true, &rows),
                      PQFILE_INVALID, "row 0 has another number");
        maker_refused(&m, read_matrix(&m, reader, COLUMN_NUMBER, DIMENSION, true, &rows),
                      PQFILE_INVALID, "not a column of lists of FLOAT");
        maker_refused(&m, read_matrix(&m, reader, COLUMN_VECTOR, 0, true, &rows), PQFILE_INVALID,
                      "no elements");
        maker_end(&m, reader);
    }
}

static void a_row_that_is_no_vector_is_named(void **state)
{
    (void)state;
    static const struct {
        uint64_t row;
        const char *within;
    } odd[] = {{ROW_EMPTY, "row 21 has another number"},
               {ROW_SHORT, "row 33 has another number"},
               {ROW_HOLE, "row 47 has a null element"}};
    struct maker m;
    struct pqfile_column_options column = {0};
    make(&m, &column, true);
    struct pqfile_reader *reader = open_memory(&m, NULL);
    for (size_t i = 0; i < 3; i++) {
        float values[2 * DIMENSION];
        uint8_t present[1];
        size_t rows = 0;
        struct pqfile_cursor *cursor = open_cursor(&m, reader, COLUMN_VECTOR);
        maker_ok(&m, pqfile_cursor_seek(cursor, odd[i].row - 1, &m.error));
        maker_refused(
            &m, pqfile_cursor_read_vectors(cursor, DIMENSION, 2, values, present, &rows, &m.error),
            PQFILE_INVALID, odd[i].within);
        pqfile_cursor_close(cursor);
    }
    maker_end(&m, reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_of_the_source_may_fail),
        cmocka_unit_test(every_allocation_may_fail_and_nothing_leaks),
        cmocka_unit_test(what_is_no_parquet_file_is_refused),
        cmocka_unit_test(options_bound_what_a_file_can_cost),
        cmocka_unit_test(a_page_that_swells_over_the_memory_is_refused),
        cmocka_unit_test(arguments_that_make_no_sense_are_refused),
        cmocka_unit_test(columns_and_keys_are_found_by_name),
        cmocka_unit_test(a_wrong_checksum_is_told_with_its_place_unless_skipped),
        cmocka_unit_test(any_row_is_found_from_any_other_with_and_without_index),
        cmocka_unit_test(an_offset_index_spares_the_pages_between),
        cmocka_unit_test(vectors_are_read_as_a_matrix),
        cmocka_unit_test(a_row_that_is_no_vector_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
