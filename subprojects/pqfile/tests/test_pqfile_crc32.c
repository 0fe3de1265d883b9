/* Tests src/crc32.c against zlib. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <zlib.h>

#include "codec.h"

enum { BYTES = 1024 };

static void fill(uint8_t *bytes, size_t len)
{
    uint32_t state = 1;
    for (size_t i = 0; i < len; i++) {
        state = state * 1664525U + 1013904223U;
        bytes[i] = (uint8_t)(state >> 24);
    }
}

static void it_agrees_with_zlib_for_every_length_and_offset(void **state)
{
    (void)state;
    uint8_t bytes[BYTES + 16];
    fill(bytes, sizeof bytes);
    for (size_t offset = 0; offset < 16; offset++)
        for (size_t len = 0; len <= BYTES; len++)
            assert_int_equal(pq_crc32(0, bytes + offset, len), crc32_z(0, bytes + offset, len));
}

static void pieces_give_what_the_whole_gives(void **state)
{
    (void)state;
    uint8_t bytes[BYTES];
    fill(bytes, sizeof bytes);
    uint32_t whole = pq_crc32(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= BYTES; cut++)
        assert_int_equal(pq_crc32(pq_crc32(0, bytes, cut), bytes + cut, BYTES - cut), whole);
}

static void it_is_the_published_check_value(void **state)
{
    (void)state;
    assert_int_equal(pq_crc32(0, "123456789", 9), 0xcbf43926U);
    assert_int_equal(pq_crc32(0, NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_zlib_for_every_length_and_offset),
        cmocka_unit_test(pieces_give_what_the_whole_gives),
        cmocka_unit_test(it_is_the_published_check_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
