/* The wire format: reading, checking against a type, writing. */
#include "protobuf_fixture.h"

static const struct protobuf_place nowhere = {0};

static int check(const ProtobufCMessageDescriptor *type, const void *bytes, size_t len)
{
    trail_reset(&trail);
    return protobuf_check(type, exact(bytes, len), nowhere, &trail);
}

#define CHECK(type, literal)                                                                       \
    check(&proximadb__v1__##type##__descriptor, literal, sizeof(literal) - 1)

static void malformed_fields_are_refused(void **state)
{
    (void)state;
    static const struct pdb_text rows[] = {
        {"\x08", 1},                                              /* a tag without a value */
        {"\x08\x80", 2},                                          /* a varint that does not end */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11},     /* more than 64 bits */
        {"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12}, /* eleven bytes */
        {"\x00\x01", 2},                                          /* field 0 */
        {"\x0a\x05"
         "abcd",
         6},                                                  /* longer than the message */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* 2^64 - 1 bytes */
        {"\x09\x01\x02\x03\x04\x05\x06\x07", 8},              /* fixed64 of seven bytes */
        {"\x0d\x01\x02\x03", 4},                              /* fixed32 of three */
        {"\x0b\x0c", 2},                                      /* a group */
        {"\x0e", 1},                                          /* wire type 6 */
        {"\xf8\xff\xff\xff\xff\x0f\x01", 7},                  /* a tag of more than 32 bits */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct protobuf_reader r = protobuf_reader_of(exact(rows[i].ptr, rows[i].len));
        struct protobuf_field f;
        if (protobuf_next(&r, &f) != PDB_INVALID_ARGUMENT)
            fail_msg("row %zu", i);
    }
}

static void each_kind_of_field_is_read(void **state)
{
    (void)state;
    static const char bytes[] = "\x08\x96\x01"
                                "\x11\x08\x07\x06\x05\x04\x03\x02\x01"
                                "\x1a\x02hi"
                                "\x25\x04\x03\x02\x01";
    struct protobuf_reader r = protobuf_reader_of(exact(bytes, sizeof(bytes) - 1));
    struct protobuf_field f;
    assert_int_equal(protobuf_next(&r, &f), 1);
    assert_true(f.number == 1 && f.value == 150);
    assert_int_equal(protobuf_next(&r, &f), 1);
    assert_true(f.number == 2 && f.value == 0x0102030405060708u);
    assert_int_equal(protobuf_next(&r, &f), 1);
    assert_int_equal(f.number, 3);
    assert_text(f.bytes, "hi");
    assert_int_equal(protobuf_next(&r, &f), 1);
    assert_true(f.number == 4 && f.value == 0x01020304);
    assert_int_equal(protobuf_next(&r, &f), 0);
}

static void a_check_names_the_path(void **state)
{
    (void)state;
    assert_int_equal(CHECK(get_request, "\x12\x01"
                                        "a"
                                        "\x12\x01\xff"),
                     PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "ids[1]: invalid UTF-8");
    assert_int_equal(CHECK(search_query, "\x32\x07\x22\x05\x0a\x03"
                                         "a\xff"
                                         "b"),
                     PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "filter.condition.key: invalid UTF-8");
    struct protobuf_place place = {"records", 3, true};
    trail_reset(&trail);
    assert_int_equal(
        protobuf_check(&proximadb__v1__record__descriptor, exact("\x0a\x01\xff", 3), place, &trail),
        PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "records[3].id: invalid UTF-8");
}

static void a_wrong_wire_type_is_refused(void **state)
{
    (void)state;
    assert_int_equal(CHECK(get_request, "\x08\x01"), PDB_INVALID_ARGUMENT); /* a string as varint */
    assert_string_equal(trail.text, "collection: a wire type that does not fit the field");
    assert_int_equal(CHECK(search_query, "\x2a\x01\x05"), PDB_INVALID_ARGUMENT); /* k as bytes */
    assert_int_equal(CHECK(search_query, "\x0a\x03\x01\x02\x03"), PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "vector[0]: a packed run that ends within a value");
}

static void numbers_beyond_their_type_are_refused(void **state)
{
    (void)state;
    assert_int_equal(CHECK(search_query, "\x28\xff\xff\xff\xff\x0f"), 0); /* k = 2^32 - 1 */
    assert_int_equal(CHECK(search_query, "\x28\x80\x80\x80\x80\x10"), PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "k: more than 32 bits");
    assert_int_equal(CHECK(create_collection_request, "\x18\x05"), 0);
    assert_int_equal(CHECK(create_collection_request, "\x18\x06"), PDB_INVALID_ARGUMENT);
    assert_string_equal(trail.text, "metric: not a value of this enum");
    assert_int_equal(CHECK(search_query, "\x3a\x02\x01\x04"),
                     PDB_INVALID_ARGUMENT); /* packed includes */
    assert_string_equal(trail.text, "include[0]: not a value of this enum");
}

static void unknown_fields_are_passed_over(void **state)
{
    (void)state;
    assert_int_equal(CHECK(get_request, "\xa2\x06\x02\xff\xff"
                                        "\xa8\x06\x01"
                                        "\x0a\x01"
                                        "c"),
                     0);
}

/* ListValue within Value within ListValue ... `levels` pairs, from the inside out. */
static struct pdb_text nest(unsigned levels)
{
    struct protobuf_writer w;
    struct pdb_text bytes;
    protobuf_writer_open(&w, &arena);
    for (unsigned i = 0; i < levels; i++) {
        protobuf_begin(&w, 1, 1000);
        protobuf_begin(&w, 6, 1000);
    }
    for (unsigned i = 0; i < 2 * levels; i++)
        protobuf_end(&w);
    assert_int_equal(protobuf_writer_finish(&w, &bytes), 0);
    return bytes;
}

static void depth_ends_at_64(void **state)
{
    (void)state;
    const ProtobufCMessageDescriptor *list = &proximadb__v1__list_value__descriptor;
    assert_int_equal(protobuf_check(list, nest(31), nowhere, &trail), 0); /* 63 messages */
    assert_int_equal(protobuf_check(list, nest(32), nowhere, &trail), PDB_INVALID_ARGUMENT);
    assert_told("nested more than 64 deep");
    trail_reset(&trail);
    assert_null(protobuf_unpack(list, nest(90), &arena, &trail));
    assert_int_equal(trail.code, PDB_INVALID_ARGUMENT);
}

/* 100,000 levels by hand: each length counts what is inside. */
static void a_depth_bomb_is_refused_in_constant_stack(void **state)
{
    (void)state;
    enum { LEVELS = 100000 };
    static char bytes[LEVELS * 5];
    size_t at = sizeof(bytes);
    for (size_t i = 0; i < LEVELS; i++) {
        size_t len = sizeof(bytes) - at;
        char head[6];
        size_t n = 0;
        head[n++] = i % 2 != 0 ? 0x0a : 0x32;
        for (; len >= 0x80; len >>= 7)
            head[n++] = (char)(uint8_t)(len | 0x80);
        head[n++] = (char)len;
        if (at < n)
            break;
        at -= n;
        memcpy(bytes + at, head, n);
    }
    const ProtobufCMessageDescriptor *type = bytes[at] == 0x0a
                                                 ? &proximadb__v1__list_value__descriptor
                                                 : &proximadb__v1__value__descriptor;
    assert_int_equal(check(type, bytes + at, sizeof(bytes) - at), PDB_INVALID_ARGUMENT);
    assert_told("nested more than 64 deep");
}

static void text_of_protobuf_c_has_no_nul(void **state)
{
    (void)state;
    assert_null(protobuf_unpack(&proximadb__v1__get_collection_request__descriptor,
                                exact("\x0a\x03"
                                      "a\0b",
                                      5),
                                &arena, &trail));
    assert_string_equal(trail.text, "collection: a NUL character");
    trail_reset(&trail);
    const Proximadb__V1__GetCollectionRequest *m =
        protobuf_unpack(&proximadb__v1__get_collection_request__descriptor,
                        exact("\x0a\x02"
                              "ab",
                              4),
                        &arena, &trail);
    assert_non_null(m);
    assert_string_equal(m->collection, "ab");
}

static void unpacking_survives_each_failing_allocation(void **state)
{
    (void)state;
    Proximadb__V1__CreateCollectionRequest m = PROXIMADB__V1__CREATE_COLLECTION_REQUEST__INIT;
    Proximadb__V1__Column column = PROXIMADB__V1__COLUMN__INIT, *columns[] = {&column, &column};
    char name[] = "products";
    m.name = column.name = name;
    m.n_columns = 2;
    m.columns = columns;
    struct pdb_text message = pack(&m);
    unsigned failures = 0;
    for (uint64_t n = 1;; n++, failures++) {
        struct arena failing;
        arena_init(&failing, 0);
        failing.fail_at = n;
        trail_reset(&trail);
        void *unpacked = protobuf_unpack(&proximadb__v1__create_collection_request__descriptor,
                                         message, &failing, &trail);
        arena_dispose(&failing);
        if (unpacked != NULL)
            break;
        assert_int_equal(trail.code, PDB_RESOURCE_EXHAUSTED);
    }
    assert_true(failures > 3);
}

static void floats_are_found_in_place_or_gathered(void **state)
{
    (void)state;
    const float values[] = {1, 2, 3};
    const void *floats = NULL;
    uint32_t count = 9;
    struct protobuf_writer w;
    struct pdb_text bytes;
    protobuf_writer_open(&w, &arena);
    protobuf_put_bytes(&w, 2, values, sizeof(values));
    assert_int_equal(protobuf_writer_finish(&w, &bytes), 0);
    assert_int_equal(protobuf_floats(bytes, 2, &arena, &floats, &count), 0);
    assert_int_equal(count, 3);
    assert_ptr_equal(floats, bytes.ptr + 2);
    assert_int_equal(protobuf_floats(bytes, 3, &arena, &floats, &count), 0);
    assert_int_equal(count, 0);

    protobuf_writer_open(&w, &arena); /* one by one, and a run between them */
    protobuf_put_float(&w, 2, 1);
    protobuf_put_bytes(&w, 2, values + 1, sizeof(float));
    protobuf_put_u64(&w, 1, 7);
    protobuf_put_float(&w, 2, 3);
    assert_int_equal(protobuf_writer_finish(&w, &bytes), 0);
    assert_int_equal(protobuf_floats(bytes, 2, &arena, &floats, &count), 0);
    assert_int_equal(count, 3);
    assert_memory_equal(floats, values, sizeof(values));

    protobuf_writer_open(&w, &arena);
    protobuf_put_float(&w, 2, 4);
    assert_int_equal(protobuf_writer_finish(&w, &bytes), 0);
    assert_int_equal(protobuf_floats(bytes, 2, &arena, &floats, &count), 0);
    assert_int_equal(count, 1);
    assert_true(memcmp(floats, &(float){4}, sizeof(float)) == 0);
}

static void a_wrong_guess_of_a_length_moves_the_body(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 127, 128, 300, 16383, 16384, 70000};
    static const size_t guesses[] = {0, 127, 128, 16384, 1 << 21};
    static char body[70000];
    memset(body, 'x', sizeof(body));
    for (size_t i = 0; i < 8; i++) {
        for (size_t j = 0; j < 5; j++) {
            struct protobuf_writer w;
            struct pdb_text bytes;
            struct protobuf_field f;
            protobuf_writer_open(&w, &arena);
            protobuf_begin(&w, 4, guesses[j]);
            protobuf_begin(&w, 1000, guesses[j]);
            protobuf_put_bytes(&w, 1, body, lengths[i]);
            protobuf_end(&w);
            protobuf_end(&w);
            protobuf_put_u64(&w, 5, 1);
            assert_int_equal(protobuf_writer_finish(&w, &bytes), 0);
            struct protobuf_reader r = protobuf_reader_of(bytes);
            assert_int_equal(protobuf_next(&r, &f), 1);
            struct protobuf_reader inner = protobuf_reader_of(f.bytes);
            assert_int_equal(protobuf_next(&r, &f), 1);
            assert_true(f.number == 5 && f.value == 1 && protobuf_next(&r, &f) == 0);
            assert_int_equal(protobuf_next(&inner, &f), 1);
            assert_int_equal(f.number, 1000);
            inner = protobuf_reader_of(f.bytes);
            assert_int_equal(protobuf_next(&inner, &f), 1);
            assert_int_equal(f.bytes.len, lengths[i]);
            assert_memory_equal(f.bytes.ptr, body, lengths[i]);
        }
    }
}

static void a_writer_without_memory_says_so_at_its_end(void **state)
{
    (void)state;
    for (uint64_t n = 1; n < 4; n++) {
        struct arena failing;
        struct protobuf_writer w;
        struct pdb_text bytes = {"untouched", 9};
        static char body[100000];
        arena_init(&failing, 0);
        failing.fail_at = n;
        protobuf_writer_open(&w, &failing);
        for (int i = 0; i < 4; i++) {
            protobuf_begin(&w, 1, 0);
            protobuf_put_bytes(&w, 1, body, sizeof(body));
            protobuf_end(&w);
        }
        assert_int_equal(protobuf_writer_finish(&w, &bytes), PDB_RESOURCE_EXHAUSTED);
        assert_text(bytes, "untouched");
        arena_dispose(&failing);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(malformed_fields_are_refused),
        TEST(each_kind_of_field_is_read),
        TEST(a_check_names_the_path),
        TEST(a_wrong_wire_type_is_refused),
        TEST(numbers_beyond_their_type_are_refused),
        TEST(unknown_fields_are_passed_over),
        TEST(depth_ends_at_64),
        TEST(a_depth_bomb_is_refused_in_constant_stack),
        TEST(text_of_protobuf_c_has_no_nul),
        TEST(unpacking_survives_each_failing_allocation),
        TEST(floats_are_found_in_place_or_gathered),
        TEST(a_wrong_guess_of_a_length_moves_the_body),
        TEST(a_writer_without_memory_says_so_at_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
