/* src/server/parquet_rows.c, parquet_values.c, import_columns.c: columns put together as rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "server/import_columns.h"
#include "server/parquet_rows.h"
#include "server/parquet_values.h"

#include <pqfile/pqfile.h>
#include <string.h>

struct fixture {
    struct buffer file; /* the Parquet file */
    struct pqfile_writer *writer;
    struct pqfile_reader *reader;
    struct parquet_rows rows;
    struct buffer out;
    struct arena arena;
    struct trail trail;
};

static int take(void *context, const void *bytes, size_t len)
{
    buffer_add(context, bytes, len);
    return 0;
}

static int make(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){0};
    buffer_init_heap(&fixture.file, NULL, 0);
    buffer_init_heap(&fixture.out, NULL, 0);
    *state = &fixture;
    return 0;
}

static int drop(void **state)
{
    struct fixture *fx = *state;
    parquet_rows_dispose(&fx->rows);
    pqfile_close(fx->reader);
    pqfile_writer_close(fx->writer);
    buffer_dispose(&fx->file);
    buffer_dispose(&fx->out);
    arena_dispose(&fx->arena);
    return 0;
}

static void begin(struct fixture *fx, const struct pqfile_field *fields, size_t count)
{
    const struct pqfile_sink sink = {take, &fx->file};
    assert_int_equal(pqfile_writer_open(fields, count, NULL, &sink, &fx->writer, NULL), 0);
}

static void column(struct fixture *fx, const struct pqfile_batch *batch)
{
    assert_int_equal(pqfile_write(fx->writer, batch, NULL), 0);
    assert_int_equal(pqfile_writer_end_column(fx->writer, NULL, NULL), 0);
}

static void open_file(struct fixture *fx)
{
    assert_int_equal(pqfile_writer_end_row_group(fx->writer, NULL), 0);
    assert_int_equal(pqfile_writer_finish(fx->writer, NULL, NULL), 0);
    struct pqfile_source source = {.size = fx->file.len, .memory = fx->file.ptr};
    assert_int_equal(pqfile_open(&source, NULL, &fx->reader, NULL), 0);
    assert_int_equal(parquet_rows_init(&fx->rows, fx->reader), 0);
}

static void use_all(struct fixture *fx)
{
    const struct pqfile_node *nodes = fx->rows.metadata->nodes;
    for (uint32_t n = 1; n < nodes[0].end; n = nodes[n].end)
        parquet_rows_use(&fx->rows, n);
    assert_int_equal(parquet_rows_begin(&fx->rows, 0, 0, &fx->trail), 0);
}

/* The value of a node in the next row; "" for null. */
static const char *next_value(struct fixture *fx, uint32_t node)
{
    assert_int_equal(parquet_rows_next(&fx->rows, &fx->trail), 1);
    fx->out.len = 0;
    int rc = parquet_rows_value(&fx->rows, node, &fx->out, &fx->trail);
    assert_true(rc >= 0);
    assert_true(rc > 0 || fx->out.len == 0);
    buffer_add_byte(&fx->out, '\0');
    return fx->out.ptr;
}

/* ---- nesting ---- */

static void lists_of_lists_keep_empty_and_null_apart(void **state)
{
    struct fixture *fx = *state;
    static const struct pqfile_field fields[] = {
        {.name = "l",
         .repetition = PQFILE_OPTIONAL,
         .child_count = 1,
         .logical.kind = PQFILE_LOGICAL_LIST},
        {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
        {.name = "element",
         .repetition = PQFILE_OPTIONAL,
         .child_count = 1,
         .logical.kind = PQFILE_LOGICAL_LIST},
        {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
        {.name = "element", .repetition = PQFILE_OPTIONAL, .type = PQFILE_INT32},
    };
    /* null, [], [null], [[]], [[1,null],[2]], [[3]] */
    static const uint8_t definition[] = {0, 1, 2, 3, 5, 4, 5, 5};
    static const uint8_t repetition[] = {0, 0, 0, 0, 0, 2, 1, 0};
    static const int32_t values[] = {1, 2, 3};
    begin(fx, fields, 5);
    column(fx, &(struct pqfile_batch){6, 8, 3, definition, repetition, values});
    open_file(fx);
    use_all(fx);
    static const char *const expected[] = {"", "[]", "[null]", "[[]]", "[[1,null],[2]]", "[[3]]"};
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(next_value(fx, 1), expected[i]);
    assert_int_equal(parquet_rows_next(&fx->rows, &fx->trail), 0);
}

static void groups_are_objects_without_their_nulls(void **state)
{
    struct fixture *fx = *state;
    static const struct pqfile_field fields[] = {
        {.name = "s", .repetition = PQFILE_OPTIONAL, .child_count = 2},
        {.name = "x", .repetition = PQFILE_OPTIONAL, .type = PQFILE_BOOLEAN},
        {.name = "y \"z\"",
         .repetition = PQFILE_OPTIONAL,
         .type = PQFILE_BYTE_ARRAY,
         .logical.kind = PQFILE_LOGICAL_STRING},
    };
    static const uint8_t x_definition[] = {0, 1, 2, 2}, y_definition[] = {0, 1, 1, 2};
    static const uint8_t x[] = {1, 0};
    static const struct pqfile_bytes y[] = {{(const uint8_t *)"a\n", 2}};
    begin(fx, fields, 3);
    column(fx, &(struct pqfile_batch){4, 4, 2, x_definition, NULL, x});
    column(fx, &(struct pqfile_batch){4, 4, 1, y_definition, NULL, y});
    open_file(fx);
    use_all(fx);
    assert_string_equal(next_value(fx, 1), "");
    assert_string_equal(next_value(fx, 1), "{}");
    assert_string_equal(next_value(fx, 1), "{\"x\":true}");
    assert_string_equal(next_value(fx, 1), "{\"x\":false,\"y \\\"z\\\"\":\"a\\n\"}");
}

static void values_that_are_not_asked_for_are_passed_by(void **state)
{
    struct fixture *fx = *state;
    static const struct pqfile_field fields[] = {
        {.name = "r", .repetition = PQFILE_REPEATED, .type = PQFILE_INT64},
        {.name = "n", .repetition = PQFILE_OPTIONAL, .type = PQFILE_INT64},
    };
    /* [7,8], [], [9]; null, 5, 6 */
    static const uint8_t definition[] = {1, 1, 0, 1}, repetition[] = {0, 1, 0, 0};
    static const uint8_t n_definition[] = {0, 1, 1};
    static const int64_t r[] = {7, 8, 9}, n[] = {5, 6};
    begin(fx, fields, 2);
    column(fx, &(struct pqfile_batch){3, 4, 3, definition, repetition, r});
    column(fx, &(struct pqfile_batch){3, 3, 2, n_definition, NULL, n});
    open_file(fx);
    use_all(fx);
    assert_int_equal(parquet_rows_next(&fx->rows, &fx->trail), 1);
    assert_string_equal(next_value(fx, 2), "5");
    assert_string_equal(next_value(fx, 1), "[9]");
    assert_int_equal(parquet_rows_begin(&fx->rows, 0, 1, &fx->trail), 0);
    assert_string_equal(next_value(fx, 1), "[]");
    assert_string_equal(next_value(fx, 2), "6");
}

/* ---- vectors ---- */

static void vectors_tell_null_short_and_null_elements(void **state)
{
    struct fixture *fx = *state;
    static const struct pqfile_field fields[] = {
        {.name = "v",
         .repetition = PQFILE_OPTIONAL,
         .child_count = 1,
         .logical = {.kind = PQFILE_LOGICAL_LIST}},
        {.name = "list", .repetition = PQFILE_REPEATED, .child_count = 1},
        {.name = "element", .repetition = PQFILE_OPTIONAL, .type = PQFILE_DOUBLE},
    };
    /* [1,2], null, [], [null], [3] */
    static const uint8_t definition[] = {3, 3, 0, 1, 2, 3}, repetition[] = {0, 1, 0, 0, 0, 0};
    static const double values[] = {1, 2, 3};
    float found[2];
    size_t count = 99;
    begin(fx, fields, 3);
    column(fx, &(struct pqfile_batch){5, 6, 3, definition, repetition, values});
    open_file(fx);
    use_all(fx);
    static const int results[] = {1, 0, 1, PDB_INVALID_ARGUMENT, 1};
    static const size_t counts[] = {2, 99, 0, 99, 1};
    for (size_t i = 0; i < 5; i++) {
        count = 99;
        assert_int_equal(parquet_rows_next(&fx->rows, &fx->trail), 1);
        assert_int_equal(parquet_rows_floats(&fx->rows, 1, found, 2, &count, &fx->trail),
                         results[i]);
        assert_int_equal(count, counts[i]);
    }
    assert_true(found[0] == 3.0f && found[1] == 2.0f);
    assert_true(parquet_rows_is_list(&fx->rows, 1, false));
}

/* ---- which column is what ---- */

static void the_only_list_of_floats_is_the_vector_and_the_rest_metadata(void **state)
{
    struct fixture *fx = *state;
    static const struct pqfile_field fields[] = {
        {.name = "price", .type = PQFILE_DOUBLE},
        {.name = "what", .repetition = PQFILE_REPEATED, .type = PQFILE_FLOAT},
        {.name = "id", .type = PQFILE_INT64},
    };
    static const float one[] = {1};
    static const double price[] = {2};
    static const int64_t id[] = {3};
    static const uint8_t definition[] = {1}, repetition[] = {0};
    const struct import_target target = {0};
    struct import_columns columns;
    begin(fx, fields, 3);
    column(fx, &(struct pqfile_batch){1, 1, 1, NULL, NULL, price});
    column(fx, &(struct pqfile_batch){1, 1, 1, definition, repetition, one});
    column(fx, &(struct pqfile_batch){1, 1, 1, NULL, NULL, id});
    open_file(fx);
    assert_int_equal(import_columns_choose(&columns, &fx->rows, &target, &fx->arena, &fx->trail),
                     0);
    assert_int_equal(columns.count, 3);
    assert_int_equal(columns.all[0].role, IMPORT_VALUE);
    assert_int_equal(columns.all[1].role, IMPORT_VECTOR);
    assert_int_equal(columns.all[2].role, IMPORT_ID);
    const struct import_target wrong = {.vector_column = "price"};
    assert_int_equal(import_columns_choose(&columns, &fx->rows, &wrong, &fx->arena, &fx->trail),
                     PDB_INVALID_ARGUMENT);
    const struct import_target bad_id = {.id_column = "price"};
    assert_int_equal(import_columns_choose(&columns, &fx->rows, &bad_id, &fx->arena, &fx->trail),
                     PDB_INVALID_ARGUMENT);
}

/* ---- single values ---- */

static void check_value(struct fixture *fx, const struct pqfile_node *leaf, const void *value,
                        const char *expected)
{
    fx->out.len = 0;
    int rc = parquet_value_write(leaf, value, &fx->out, &fx->trail);
    assert_true(rc == (expected[0] != '\0' ? 1 : 0));
    buffer_add_byte(&fx->out, '\0');
    assert_string_equal(fx->out.ptr, expected);
}

static void times_are_rfc_3339_with_as_few_digits_as_will_do(void **state)
{
    struct fixture *fx = *state;
    struct pqfile_node leaf = {
        .type = PQFILE_INT64, .logical = {.kind = PQFILE_LOGICAL_TIMESTAMP, .unit = PQFILE_MICROS}};
    static const struct {
        enum pqfile_unit unit;
        int64_t value;
        const char *text;
    } rows[] = {
        {PQFILE_MICROS, 0, "\"1970-01-01T00:00:00Z\""},
        {PQFILE_MICROS, -1, "\"1969-12-31T23:59:59.999999Z\""},
        {PQFILE_MICROS, 1500, "\"1970-01-01T00:00:00.001500Z\""},
        {PQFILE_MICROS, 2000, "\"1970-01-01T00:00:00.002Z\""},
        {PQFILE_MILLIS, 253402300799999, "\"9999-12-31T23:59:59.999Z\""},
        {PQFILE_NANOS, 1000000001, "\"1970-01-01T00:00:01.000000001Z\""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        leaf.logical.unit = rows[i].unit;
        check_value(fx, &leaf, &rows[i].value, rows[i].text);
    }
    leaf.logical.unit = PQFILE_MILLIS;
    const int64_t late = 253402300800000;
    assert_int_equal(parquet_value_write(&leaf, &late, &fx->out, &fx->trail), PDB_INVALID_ARGUMENT);
    const int32_t day = -1;
    const struct pqfile_node date = {.type = PQFILE_INT32,
                                     .logical = {.kind = PQFILE_LOGICAL_DATE}};
    check_value(fx, &date, &day, "\"1969-12-31\"");
    const int64_t half_past = 1800000000;
    const struct pqfile_node of_day = {
        .type = PQFILE_INT64, .logical = {.kind = PQFILE_LOGICAL_TIME, .unit = PQFILE_MICROS}};
    check_value(fx, &of_day, &half_past, "\"00:30:00\"");
}

static void numbers_keep_their_kind_and_what_is_no_number_is_null(void **state)
{
    struct fixture *fx = *state;
    static const struct pqfile_node real = {.type = PQFILE_DOUBLE};
    static const struct pqfile_node whole = {.type = PQFILE_INT64};
    static const struct pqfile_node high = {
        .type = PQFILE_INT64, .logical = {.kind = PQFILE_LOGICAL_INTEGER, .bits = 64}};
    static const struct pqfile_node decimal = {
        .type = PQFILE_FIXED_LEN_BYTE_ARRAY,
        .type_length = 2,
        .logical = {.kind = PQFILE_LOGICAL_DECIMAL, .scale = 2, .precision = 4}};
    static const struct pqfile_node half = {.type = PQFILE_FIXED_LEN_BYTE_ARRAY,
                                            .type_length = 2,
                                            .logical = {.kind = PQFILE_LOGICAL_FLOAT16}};
    const double one = 1, nan = __builtin_nan("");
    const int64_t minus = -1;
    check_value(fx, &real, &one, "1.0");
    check_value(fx, &real, &nan, "");
    check_value(fx, &whole, &minus, "-1");
    check_value(fx, &high, &minus, "18446744073709551615");
    check_value(fx, &decimal, "\xff\x38", "-2.0");
    check_value(fx, &half, "\x01\xc0", "-2.001953125");
    const struct pqfile_node bytes = {.type = PQFILE_BYTE_ARRAY};
    const struct pqfile_bytes bad = {(const uint8_t *)"\xff", 1};
    assert_int_equal(parquet_value_write(&bytes, &bad, &fx->out, &fx->trail), PDB_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lists_of_lists_keep_empty_and_null_apart, make, drop),
        cmocka_unit_test_setup_teardown(groups_are_objects_without_their_nulls, make, drop),
        cmocka_unit_test_setup_teardown(values_that_are_not_asked_for_are_passed_by, make, drop),
        cmocka_unit_test_setup_teardown(vectors_tell_null_short_and_null_elements, make, drop),
        cmocka_unit_test_setup_teardown(the_only_list_of_floats_is_the_vector_and_the_rest_metadata,
                                        make, drop),
        cmocka_unit_test_setup_teardown(times_are_rfc_3339_with_as_few_digits_as_will_do, make,
                                        drop),
        cmocka_unit_test_setup_teardown(numbers_keep_their_kind_and_what_is_no_number_is_null, make,
                                        drop),
    };
    return cmocka_run_group_tests_name("server/parquet_rows", tests, NULL, NULL);
}
