#include "base/crc32c.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* RFC 3720 appendix B.4, and the check value of the polynomial. */
static void known_sums_come_out(void **state)
{
    (void)state;
    unsigned char bytes[32];
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
    for (size_t i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(crc32c(0, bytes, 32), 0x46dd794e);
    assert_int_equal(crc32c_reference(0, bytes, 32), 0x46dd794e);
    for (size_t i = 0; i < 32; i++)
        bytes[i] = (unsigned char)(31 - i);
    assert_int_equal(crc32c(0, bytes, 32), 0x113fdb5c);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, NULL, 0), 0);
}

static void the_fast_way_is_the_reference_at_all_lengths_and_offsets(void **state)
{
    (void)state;
    static unsigned char bytes[8192];
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)rng_next(&rng);
    for (size_t len = 0; len < 1200; len++)
        assert_int_equal(crc32c(7, bytes + len % 9, len),
                         crc32c_reference(7, bytes + len % 9, len));
    for (int round = 0; round < 2000; round++) {
        size_t offset = rng_below(&rng, 64), len = rng_below(&rng, sizeof(bytes) - offset);
        uint32_t crc = (uint32_t)rng_next(&rng);
        assert_int_equal(crc32c(crc, bytes + offset, len),
                         crc32c_reference(crc, bytes + offset, len));
    }
}

static void a_sum_goes_on_where_it_stopped(void **state)
{
    (void)state;
    static unsigned char bytes[5000];
    struct rng rng;
    rng_seed(&rng, 2);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)rng_next(&rng);
    uint32_t whole = crc32c(0, bytes, sizeof(bytes));
    for (size_t cut = 0; cut <= sizeof(bytes); cut += 37)
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof(bytes) - cut), whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_sums_come_out),
        cmocka_unit_test(the_fast_way_is_the_reference_at_all_lengths_and_offsets),
        cmocka_unit_test(a_sum_goes_on_where_it_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
