/* Tests src/thrift.c: what is written is read, unknown fields are skipped whatever they hold, and
 * bytes that lie are failures that end every loop. */
#include "pqfile_fixture.h"

#include "memory.h"
#include "thrift.h"

static struct pqfile_allocator allocator;

static struct pq_thrift_writer begin(struct pq_buffer *out)
{
    struct pq_thrift_writer w;
    allocator = pq_allocator(NULL);
    pq_buffer_init(out, &allocator);
    pq_thrift_writer_open(&w, out);
    pq_thrift_write_begin(&w);
    return w;
}

/* One of everything, with ids that need both forms. */
static void write_everything(struct pq_buffer *out)
{
    struct pq_thrift_writer w = begin(out);
    pq_thrift_write_bool(&w, 1, true);
    pq_thrift_write_bool(&w, 2, false);
    pq_thrift_write_i8(&w, 3, -5);
    pq_thrift_write_i16(&w, 20, INT16_MIN);
    pq_thrift_write_i32(&w, 21, INT32_MIN);
    pq_thrift_write_i64(&w, 100, INT64_MAX);
    pq_thrift_write_binary(&w, 101, "abc", 3);
    pq_thrift_write_binary(&w, 102, NULL, 0);
    pq_thrift_write_list(&w, 103, PQ_THRIFT_I32, 20);
    for (int32_t i = 0; i < 20; i++)
        pq_thrift_write_i32_element(&w, i - 10);
    pq_thrift_write_list(&w, 104, PQ_THRIFT_TRUE, 3);
    for (int i = 0; i < 3; i++)
        pq_thrift_write_bool_element(&w, i == 1);
    pq_thrift_write_list(&w, 105, PQ_THRIFT_BINARY, 1);
    pq_thrift_write_binary_element(&w, "x", 1);
    pq_thrift_write_struct(&w, 106);
    pq_thrift_write_i64(&w, 1, -1);
    pq_thrift_write_end(&w);
    pq_thrift_write_i32(&w, 4, 7); /* ids may go back */
    pq_thrift_write_list(&w, 107, PQ_THRIFT_I64, 1);
    pq_thrift_write_i64_element(&w, INT64_MIN);
    pq_thrift_write_end(&w);
    assert_int_equal(w.depth, 0);
}

static struct pq_thrift_field next(struct pq_thrift_reader *r, int16_t id)
{
    struct pq_thrift_field f = {0};
    assert_true(pq_thrift_next(r, &f));
    assert_int_equal(f.id, id);
    return f;
}

static void everything_written_is_read(void **state)
{
    (void)state;
    struct pq_buffer out;
    struct pq_thrift_reader r;
    struct pq_thrift_field f;
    size_t len = 0;
    uint8_t element = 0;
    write_everything(&out);
    pq_thrift_open(&r, out.data, out.len);
    pq_thrift_begin(&r);
    assert_true(pq_thrift_bool(&r, next(&r, 1).type));
    assert_false(pq_thrift_bool(&r, next(&r, 2).type));
    assert_int_equal(pq_thrift_i32(&r, next(&r, 3).type), -5);
    assert_int_equal(pq_thrift_i32(&r, next(&r, 20).type), INT16_MIN);
    assert_int_equal(pq_thrift_i32(&r, next(&r, 21).type), INT32_MIN);
    assert_true(pq_thrift_i64(&r, next(&r, 100).type) == INT64_MAX);
    assert_memory_equal(pq_thrift_binary(&r, next(&r, 101).type, &len), "abc", 3);
    assert_int_equal(len, 3);
    assert_non_null(pq_thrift_binary(&r, next(&r, 102).type, &len));
    assert_int_equal(len, 0);
    assert_int_equal(pq_thrift_list(&r, next(&r, 103).type, &element), 20);
    for (int32_t i = 0; i < 20; i++)
        assert_int_equal(pq_thrift_i32(&r, element), i - 10);
    assert_int_equal(pq_thrift_list(&r, next(&r, 104).type, &element), 3);
    for (int i = 0; i < 3; i++)
        assert_true(pq_thrift_bool_element(&r) == (i == 1));
    assert_int_equal(pq_thrift_list(&r, next(&r, 105).type, &element), 1);
    assert_memory_equal(pq_thrift_binary(&r, element, &len), "x", 1);
    f = next(&r, 106);
    assert_int_equal(f.type, PQ_THRIFT_STRUCT);
    pq_thrift_begin(&r);
    assert_int_equal(pq_thrift_i64(&r, next(&r, 1).type), -1);
    assert_false(pq_thrift_next(&r, &f));
    assert_int_equal(pq_thrift_i32(&r, next(&r, 4).type), 7);
    assert_int_equal(pq_thrift_list(&r, next(&r, 107).type, &element), 1);
    assert_true(pq_thrift_i64(&r, element) == INT64_MIN);
    assert_false(pq_thrift_next(&r, &f));
    assert_false(r.failed);
    assert_ptr_equal(r.at, r.end);
    pq_buffer_dispose(&out);
}

static void everything_is_skipped(void **state)
{
    (void)state;
    struct pq_buffer out;
    struct pq_thrift_reader r;
    write_everything(&out);
    pq_thrift_open(&r, out.data, out.len);
    pq_thrift_skip(&r, PQ_THRIFT_STRUCT);
    assert_false(r.failed);
    assert_ptr_equal(r.at, r.end);
    pq_buffer_dispose(&out);
}

static void what_is_cut_short_fails_and_says_so(void **state)
{
    (void)state;
    struct pq_buffer out;
    write_everything(&out);
    for (size_t len = 0; len < out.len; len++) {
        struct pq_thrift_reader r;
        uint8_t *data = exact_copy(out.data, len);
        pq_thrift_open(&r, data, len);
        pq_thrift_skip(&r, PQ_THRIFT_STRUCT);
        assert_true(r.failed);
        assert_true(r.is_short);
        free(data);
    }
    pq_buffer_dispose(&out);
}

/* Types nobody writes here: a double, a UUID, a set, maps with and without entries. */
static void unknown_types_of_value_are_skipped(void **state)
{
    (void)state;
    static const uint8_t data[] = {
        0x17, 0,    0,    0, 0, 0,   0, 0xf0, 0x3f,                                /* 1: double */
        0x1d, 1,    2,    3, 4, 5,   6, 7,    8,    9, 10, 11, 12, 13, 14, 15, 16, /* 2: UUID */
        0x1a, 0x23, 5,    6,                       /* 3: a set of two bytes */
        0x1b, 0,                                   /* 4: an empty map */
        0x1b, 2,    0x58, 2, 1, 'a', 4, 1,    'b', /* 5: a map from i32 to binary, two entries */
        0x1b, 1,    0x13, 1, 9,                    /* 6: a map from bool to byte */
        0x00};
    struct pq_thrift_reader r;
    pq_thrift_open(&r, data, sizeof(data));
    pq_thrift_skip(&r, PQ_THRIFT_STRUCT);
    assert_false(r.failed);
    assert_ptr_equal(r.at, r.end);
}

static void bytes_that_lie_fail(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[16];
        size_t len;
    } rows[] = {
        {{0x15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02, 0}, 12}, /* 65 bits */
        {{0x18, 0x7f, 0}, 3},                         /* a string longer than the input */
        {{0x18, 0xff, 0xff, 0xff, 0xff, 0x7f, 0}, 7}, /* a string of gigabytes */
        {{0x19, 0xf5, 0x7f, 0}, 4},                   /* a list longer than the input */
        {{0x19, 0x20, 0, 0}, 4},                      /* a list of nothings */
        {{0x1e, 0}, 2},                               /* no such type */
        {{0x05, 0xff, 0xff, 0x7f, 0, 0}, 6},          /* an id over 16 bits */
        {{0x1b, 0x7f, 0x33, 0}, 4},                   /* a map longer than the input */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pq_thrift_reader r;
        uint8_t *data = exact_copy(rows[i].bytes, rows[i].len);
        pq_thrift_open(&r, data, rows[i].len);
        pq_thrift_skip(&r, PQ_THRIFT_STRUCT);
        assert_true(r.failed);
        free(data);
    }
}

static void values_of_another_type_fail(void **state)
{
    (void)state;
    static const uint8_t data[] = {2, 2, 2, 2};
    struct pq_thrift_reader r;
    uint8_t element = 0;
    size_t len = 0;
    pq_thrift_open(&r, data, sizeof(data));
    assert_int_equal(pq_thrift_i64(&r, PQ_THRIFT_BINARY), 0);
    assert_true(r.failed);
    pq_thrift_open(&r, data, sizeof(data));
    assert_null(pq_thrift_binary(&r, PQ_THRIFT_I32, &len));
    assert_true(r.failed);
    pq_thrift_open(&r, data, sizeof(data));
    assert_false(pq_thrift_bool(&r, PQ_THRIFT_I8));
    assert_true(r.failed);
    pq_thrift_open(&r, data, sizeof(data));
    assert_int_equal(pq_thrift_list(&r, PQ_THRIFT_STRUCT, &element), 0);
    assert_true(r.failed);
    assert_false(r.is_short);
}

static void an_integer_too_wide_for_its_place_fails(void **state)
{
    (void)state;
    static const uint8_t data[] = {0x80, 0x80, 0x80, 0x80, 0x10}; /* 2^31 */
    struct pq_thrift_reader r;
    pq_thrift_open(&r, data, sizeof(data));
    assert_true(pq_thrift_i64(&r, PQ_THRIFT_I64) == INT64_C(1) << 31);
    pq_thrift_open(&r, data, sizeof(data));
    assert_int_equal(pq_thrift_i32(&r, PQ_THRIFT_I64), 0);
    assert_true(r.failed);
}

static void depth_has_a_limit(void **state)
{
    (void)state;
    static uint8_t structs[1000], lists[1000];
    struct pq_thrift_reader r;
    memset(structs, 0x1c, sizeof(structs)); /* 1: a struct, in it 1: a struct, ... */
    memset(lists, 0x19, sizeof(lists));     /* a list of a list of ... */
    pq_thrift_open(&r, structs, sizeof(structs));
    pq_thrift_skip(&r, PQ_THRIFT_STRUCT);
    assert_true(r.failed);
    assert_false(r.is_short);
    pq_thrift_open(&r, lists, sizeof(lists));
    pq_thrift_skip(&r, PQ_THRIFT_LIST);
    assert_true(r.failed);
    assert_false(r.is_short);
}

static void after_a_failure_everything_ends(void **state)
{
    (void)state;
    static const uint8_t data[] = {0x15, 2, 0x15, 4, 0};
    struct pq_thrift_reader r;
    struct pq_thrift_field f;
    size_t len = 0;
    pq_thrift_open(&r, data, sizeof(data));
    pq_thrift_begin(&r);
    f = next(&r, 1);
    assert_false(pq_thrift_bool(&r, f.type));
    assert_false(pq_thrift_next(&r, &f));
    assert_int_equal(pq_thrift_i64(&r, PQ_THRIFT_I64), 0);
    assert_null(pq_thrift_binary(&r, PQ_THRIFT_BINARY, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_written_is_read),
        cmocka_unit_test(everything_is_skipped),
        cmocka_unit_test(what_is_cut_short_fails_and_says_so),
        cmocka_unit_test(unknown_types_of_value_are_skipped),
        cmocka_unit_test(bytes_that_lie_fail),
        cmocka_unit_test(values_of_another_type_fail),
        cmocka_unit_test(an_integer_too_wide_for_its_place_fails),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(after_a_failure_everything_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
