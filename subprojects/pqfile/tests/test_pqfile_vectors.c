/* Tests src/writer_vectors.c: lists of fixed size and optional values by bitmap. */
#include "writer_fixture.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 500, SIZE = 24, SHORT = 3 };

static struct pqfile_column_options raw = {.value_alignment = 64, .page_bytes = 9000};

/* OPTIONAL LIST of `size` REQUIRED floats. */
static void list_fields(struct pqfile_field *fields, uint32_t size,
                        enum pqfile_repetition repetition)
{
    fields[0] = (struct pqfile_field){.name = "vector",
                                      .repetition = repetition,
                                      .child_count = 1,
                                      .list_size = size,
                                      .logical.kind = PQFILE_LOGICAL_LIST};
    fields[1] =
        (struct pqfile_field){.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1};
    fields[2] = (struct pqfile_field){.name = "element", .type = PQFILE_FLOAT, .options = &raw};
}

static bool is_absent(size_t row)
{
    return row % 7 == 2 || (row > 200 && row < 240);
}

struct rows {
    float values[ROWS * SIZE];
    uint8_t present[(ROWS + 7) / 8];
    const void *at[ROWS];
};

static struct rows *make_rows(size_t size)
{
    struct rows *rows = calloc(1, sizeof *rows);
    assert_non_null(rows);
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t j = 0; j < size; j++)
            rows->values[i * size + j] = is_absent(i) ? 0.0F : (float)(i * 100 + j);
        if (!is_absent(i))
            rows->present[i / 8] |= (uint8_t)(1U << i % 8);
        rows->at[i] = is_absent(i) ? NULL : &rows->values[i * size];
    }
    return rows;
}

static void assert_vectors(struct maker *m, const struct pqfile_reader *reader,
                           const struct rows *rows, size_t size)
{
    struct pqfile_cursor *cursor = NULL;
    float values[64 * SIZE];
    uint8_t present[8];
    size_t count = 0, row = 0;
    maker_ok(m, pqfile_cursor_open(reader, 0, 0, &cursor, &m->error));
    for (;; row += count) {
        maker_ok(m,
                 pqfile_cursor_read_vectors(cursor, size, 64, values, present, &count, &m->error));
        if (count == 0)
            break;
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(present[i / 8] >> i % 8 & 1, !is_absent(row + i));
            assert_memory_equal(values + i * size, rows->values + (row + i) * size,
                                size * sizeof *values);
        }
    }
    assert_int_equal(row, ROWS);
    pqfile_cursor_close(cursor);
}

static void vectors_come_back_with_their_absent_rows(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, SHORT, SIZE};
    for (size_t s = 0; s < 3; s++) {
        struct maker m;
        struct pqfile_field fields[3];
        struct rows *rows = make_rows(sizes[s]);
        list_fields(fields, (uint32_t)sizes[s], PQFILE_OPTIONAL);
        maker_begin(&m, fields, 3, NULL);
        maker_ok(&m, pqfile_write_vectors(m.writer, rows->values, rows->present, ROWS, &m.error));
        maker_end_column(&m, true);
        struct pqfile_reader *reader = maker_read(&m);
        assert_vectors(&m, reader, rows, sizes[s]);
        maker_end(&m, reader);
        free(rows);
    }
}

static void make_by_pointers(struct maker *m, const struct rows *rows, uint32_t size)
{
    struct pqfile_field fields[3];
    list_fields(fields, size, PQFILE_OPTIONAL);
    maker_begin(m, fields, 3, NULL);
    maker_ok(m, pqfile_write_vectors_at(m->writer, rows->at, ROWS, &m->error));
    maker_end_column(m, true);
    maker_finish(m);
}

static void rows_that_lie_anywhere_give_the_same_file(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {SHORT, SIZE};
    for (size_t s = 0; s < 2; s++) {
        struct maker whole, pointers;
        struct pqfile_field fields[3];
        struct rows *rows = make_rows(sizes[s]);
        list_fields(fields, sizes[s], PQFILE_OPTIONAL);
        maker_begin(&whole, fields, 3, NULL);
        maker_ok(&whole, pqfile_write_vectors(whole.writer, rows->values, rows->present, ROWS,
                                              &whole.error));
        maker_end_column(&whole, true);
        maker_finish(&whole);
        make_by_pointers(&pointers, rows, sizes[s]);
        assert_same_file(&whole, &pointers);
        maker_end(&whole, NULL);
        free(rows);
    }
}

static void vectors_without_absent_rows_lie_in_the_file_as_in_memory(void **state)
{
    (void)state;
    struct maker m;
    struct pqfile_field fields[3];
    struct pqfile_written written;
    struct rows *rows = make_rows(SIZE);
    list_fields(fields, SIZE, PQFILE_OPTIONAL);
    maker_begin(&m, fields, 3, NULL);
    maker_ok(&m, pqfile_write_vectors(m.writer, rows->values, NULL, ROWS, &m.error));
    maker_ok(&m, pqfile_writer_end_column(m.writer, &written, &m.error));
    assert_true(written.page_count > 3);
    for (uint32_t p = 0; p < written.page_count; p++) {
        const struct pqfile_page *page = &written.pages[p];
        assert_true(page->in_place && page->values_offset % 64 == 0);
        assert_int_equal(page->value_count, page->row_count * SIZE);
        assert_memory_equal(m.file.data + page->values_offset,
                            rows->values + page->first_row * SIZE,
                            page->value_count * sizeof(float));
    }
    maker_end(&m, NULL);
    free(rows);
}

static void levels_and_vectors_mix_within_a_column(void **state)
{
    (void)state;
    struct maker m;
    struct pqfile_field fields[3];
    struct rows *rows = make_rows(SIZE);
    uint8_t definition[SIZE], repetition[SIZE];
    list_fields(fields, SIZE, PQFILE_OPTIONAL);
    maker_begin(&m, fields, 3, NULL);
    maker_ok(&m, pqfile_write_vectors(m.writer, rows->values, rows->present, 8, &m.error));
    memset(definition, 2, sizeof definition);
    memset(repetition, 1, sizeof repetition);
    repetition[0] = 0;
    for (size_t i = 8; i < 16; i++) {
        struct pqfile_batch batch = {.row_count = 1,
                                     .level_count = is_absent(i) ? 1 : SIZE,
                                     .value_count = is_absent(i) ? 0 : SIZE,
                                     .definition = definition,
                                     .repetition = repetition,
                                     .values = rows->values + i * SIZE};
        definition[0] = is_absent(i) ? 0 : 2;
        maker_ok(&m, pqfile_write(m.writer, &batch, &m.error));
    }
    maker_ok(&m, pqfile_write_vectors_at(m.writer, rows->at + 16, ROWS - 16, &m.error));
    maker_end_column(&m, true);
    struct pqfile_reader *reader = maker_read(&m);
    assert_vectors(&m, reader, rows, SIZE);
    maker_end(&m, reader);
    free(rows);
}

static void lists_of_another_size_are_refused(void **state)
{
    (void)state;
    static const float values[SIZE] = {0};
    static const uint8_t definitions[][SHORT + 1] = {{2, 2, 2, 2}, {2, 2}, {1}, {0, 2, 2, 2}};
    static const uint8_t repetitions[][SHORT + 1] = {{0, 1, 1, 1}, {0, 1}, {0}, {0, 0, 1, 1}};
    static const size_t levels[] = {4, 2, 1, 4}, counts[] = {4, 2, 0, 3};
    static const char *const within[] = {"row 0 has 4 elements, not 3", "row 0 has 2 elements",
                                         "row 0 has 0 elements", NULL};
    for (size_t i = 0; i < 4; i++) {
        struct maker m;
        struct pqfile_field fields[3];
        struct pqfile_batch batch = {.row_count = i < 3 ? 1 : 2,
                                     .level_count = levels[i],
                                     .value_count = counts[i],
                                     .definition = definitions[i],
                                     .repetition = repetitions[i],
                                     .values = values};
        list_fields(fields, SHORT, PQFILE_OPTIONAL);
        maker_begin(&m, fields, 3, NULL);
        int rc = pqfile_write(m.writer, &batch, &m.error);
        if (within[i] != NULL)
            maker_refused(&m, rc, PQFILE_INVALID, within[i]);
        else
            maker_ok(&m, rc);
        maker_end(&m, NULL);
    }
}

/* Whether the file's Arrow schema is that of a list of `size` elements; 0: of any list. */
static void assert_arrow_list(const struct pqfile_reader *reader, uint32_t size)
{
    struct pqfile_field fields[3];
    char *base64 = NULL;
    size_t len = 0;
    const struct pqfile_key_value *pair = pqfile_find_key(pqfile_metadata(reader), "ARROW:schema");
    assert_non_null(pair);
    list_fields(fields, size, PQFILE_OPTIONAL);
    fields[2].options = NULL;
    assert_int_equal(pqfile_arrow_schema(fields, 3, NULL, &base64, &len, NULL), 0);
    assert_int_equal(pair->value.len, len);
    assert_memory_equal(pair->value.data, base64, len);
    free(base64);
}

static void arrow_is_told_of_plain_lists_where_rows_are_absent_if_asked_to(void **state)
{
    (void)state;
    struct rows *rows = make_rows(SIZE);
    for (int asked = 0; asked <= 1; asked++)
        for (int absent = 0; absent <= 1; absent++)
            for (int levels = 0; levels <= absent; levels++) {
                struct maker m;
                struct pqfile_field fields[3];
                struct pqfile_writer_options options = {.list_when_absent = asked != 0};
                struct pqfile_batch null = {.row_count = 1,
                                            .level_count = 1,
                                            .definition = (const uint8_t[]){0},
                                            .repetition = (const uint8_t[]){0}};
                list_fields(fields, SIZE, PQFILE_OPTIONAL);
                maker_begin(&m, fields, 3, &options);
                maker_ok(&m, pqfile_write_vectors(m.writer, rows->values,
                                                  absent && !levels ? rows->present : NULL, ROWS,
                                                  &m.error));
                if (levels)
                    maker_ok(&m, pqfile_write(m.writer, &null, &m.error));
                maker_end_column(&m, true);
                struct pqfile_reader *reader = maker_read(&m);
                assert_arrow_list(reader, asked && absent ? 0 : SIZE);
                maker_end(&m, reader);
            }
    free(rows);
}

static void a_required_list_refuses_absent_rows(void **state)
{
    (void)state;
    struct maker m;
    struct pqfile_field fields[3];
    struct rows *rows = make_rows(SIZE);
    list_fields(fields, SIZE, PQFILE_REQUIRED);
    maker_begin(&m, fields, 3, NULL);
    maker_refused(&m, pqfile_write_vectors_at(m.writer, rows->at, ROWS, &m.error), PQFILE_INVALID,
                  "absent");
    maker_end(&m, NULL);
    free(rows);
}

static void columns_that_are_no_vectors_refuse_them(void **state)
{
    (void)state;
    struct maker m;
    float value = 1.0F;
    struct pqfile_field field = {.name = "x", .type = PQFILE_FLOAT};
    maker_begin(&m, &field, 1, NULL);
    maker_refused(&m, pqfile_write_vectors(m.writer, &value, NULL, 1, &m.error), PQFILE_INVALID,
                  "fixed size");
    maker_end(&m, NULL);
}

/* ---- optional values ---- */

static void values_by_bitmap_are_values_by_levels(void **state)
{
    (void)state;
    struct maker slots, levels;
    struct pqfile_bytes values[ROWS], packed[ROWS];
    uint8_t present[(ROWS + 7) / 8] = {0}, definition[ROWS];
    struct pqfile_column_options options = {.page_rows = 64};
    struct pqfile_field field = {
        .name = "s", .repetition = PQFILE_OPTIONAL, .type = PQFILE_BYTE_ARRAY, .options = &options};
    size_t count = 0;
    for (size_t i = 0; i < ROWS; i++) {
        values[i] = (struct pqfile_bytes){(const uint8_t *)"abcdefghijkl" + i % 5, i % 7};
        definition[i] = i % 3 != 1;
        if (definition[i] != 0) {
            present[i / 8] |= (uint8_t)(1U << i % 8);
            packed[count++] = values[i];
        } else {
            values[i] = (struct pqfile_bytes){NULL, SIZE_MAX}; /* not looked at */
        }
    }
    maker_begin(&slots, &field, 1, NULL);
    maker_ok(&slots, pqfile_write_optional(slots.writer, values, present, ROWS, &slots.error));
    maker_end_column(&slots, true);
    maker_finish(&slots);
    struct pqfile_batch batch = {.row_count = ROWS,
                                 .level_count = ROWS,
                                 .value_count = count,
                                 .definition = definition,
                                 .values = packed};
    maker_begin(&levels, &field, 1, NULL);
    maker_ok(&levels, pqfile_write(levels.writer, &batch, &levels.error));
    maker_end_column(&levels, true);
    maker_finish(&levels);
    assert_same_file(&slots, &levels);
    maker_end(&slots, NULL);
}

static void a_required_column_takes_values_that_are_all_present(void **state)
{
    (void)state;
    struct maker m;
    int32_t values[] = {1, 2, 3};
    struct pqfile_field field = {.name = "n", .type = PQFILE_INT32};
    maker_begin(&m, &field, 1, NULL);
    maker_ok(&m, pqfile_write_optional(m.writer, values, NULL, 3, &m.error));
    maker_ok(&m, pqfile_write_optional(m.writer, values, (const uint8_t[]){7}, 3, &m.error));
    maker_refused(&m, pqfile_write_optional(m.writer, values, (const uint8_t[]){5}, 3, &m.error),
                  PQFILE_INVALID, "row 1");
    maker_end(&m, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_come_back_with_their_absent_rows),
        cmocka_unit_test(rows_that_lie_anywhere_give_the_same_file),
        cmocka_unit_test(vectors_without_absent_rows_lie_in_the_file_as_in_memory),
        cmocka_unit_test(levels_and_vectors_mix_within_a_column),
        cmocka_unit_test(lists_of_another_size_are_refused),
        cmocka_unit_test(arrow_is_told_of_plain_lists_where_rows_are_absent_if_asked_to),
        cmocka_unit_test(a_required_list_refuses_absent_rows),
        cmocka_unit_test(columns_that_are_no_vectors_refuse_them),
        cmocka_unit_test(values_by_bitmap_are_values_by_levels),
        cmocka_unit_test(a_required_column_takes_values_that_are_all_present),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
