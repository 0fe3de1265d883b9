/* Tests src/bloom.c and src/dictionary.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bloom.h"
#include "dictionary.h"

static uint64_t hash_of(uint32_t number)
{
    return pq_bloom_hash(&number, sizeof number);
}

static void hashes_are_xxhash64_with_seed_0(void **state)
{
    (void)state;
    assert_true(pq_bloom_hash("", 0) == 0xef46db3751d8e999U);
    assert_true(pq_bloom_hash("abc", 3) == 0x44bc2cf5ad770999U);
}

static void no_inserted_value_is_ever_missed(void **state)
{
    (void)state;
    uint8_t bits[4096] = {0};
    for (uint32_t i = 0; i < 3000; i++)
        pq_bloom_insert(bits, sizeof bits, hash_of(i));
    for (uint32_t i = 0; i < 3000; i++)
        assert_true(pq_bloom_contains(bits, sizeof bits, hash_of(i)));
}

static void false_positives_stay_near_what_was_asked_for(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    uint32_t bytes = pq_bloom_bytes(COUNT, 0.01);
    uint8_t *bits = calloc(bytes, 1);
    uint32_t found = 0;
    assert_non_null(bits);
    for (uint32_t i = 0; i < COUNT; i++)
        pq_bloom_insert(bits, bytes, hash_of(i));
    for (uint32_t i = COUNT; i < 2 * COUNT; i++)
        found += pq_bloom_contains(bits, bytes, hash_of(i));
    assert_true(found < COUNT / 50);
    free(bits);
}

static void sizes_are_powers_of_two_within_limits(void **state)
{
    (void)state;
    assert_int_equal(pq_bloom_bytes(0, 0.01), PQ_BLOOM_BLOCK_BYTES);
    assert_int_equal(pq_bloom_bytes(UINT64_MAX, 0.0001), PQ_BLOOM_BYTES_MAX);
    uint32_t bytes = pq_bloom_bytes(1000, 0.01);
    assert_true((bytes & (bytes - 1)) == 0 && bytes >= 1024 && bytes <= 4096);
}

static void a_dictionary_numbers_values_in_order_of_appearance(void **state)
{
    (void)state;
    struct pqfile_allocator allocator = pq_allocator(NULL);
    struct pq_dictionary d;
    const char *words[] = {"b", "a", "b", "", "ab", "a", ""};
    uint32_t expected[] = {0, 1, 0, 2, 3, 1, 2}, indices[7];
    struct pqfile_bytes values[7];
    for (size_t i = 0; i < 7; i++)
        values[i] = (struct pqfile_bytes){(const uint8_t *)words[i], strlen(words[i])};
    pq_dictionary_init(&d, &allocator, PQFILE_BYTE_ARRAY, 0);
    assert_int_equal(pq_dictionary_add(&d, values, 7, indices), 0);
    assert_memory_equal(indices, expected, sizeof expected);
    assert_int_equal(d.count, 4);
    assert_int_equal(d.plain.len, 4 * 4 + 4);
    assert_memory_equal(d.plain.data, "\1\0\0\0b\1\0\0\0a\0\0\0\0\2\0\0\0ab", d.plain.len);
    pq_dictionary_dispose(&d);
}

static void a_dictionary_grows_and_still_finds_everything(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    struct pqfile_allocator allocator = pq_allocator(NULL);
    struct pq_dictionary d;
    uint32_t index;
    pq_dictionary_init(&d, &allocator, PQFILE_INT64, 0);
    for (int round = 0; round < 2; round++)
        for (int64_t i = 0; i < COUNT; i++) {
            int64_t value = i * 0x100000000;
            assert_int_equal(pq_dictionary_add(&d, &value, 1, &index), 0);
            assert_int_equal(index, i);
        }
    assert_int_equal(d.count, COUNT);
    pq_dictionary_clear(&d);
    int64_t value = 5;
    assert_int_equal(pq_dictionary_add(&d, &value, 1, &index), 0);
    assert_int_equal(index, 0);
    pq_dictionary_dispose(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_are_xxhash64_with_seed_0),
        cmocka_unit_test(no_inserted_value_is_ever_missed),
        cmocka_unit_test(false_positives_stay_near_what_was_asked_for),
        cmocka_unit_test(sizes_are_powers_of_two_within_limits),
        cmocka_unit_test(a_dictionary_numbers_values_in_order_of_appearance),
        cmocka_unit_test(a_dictionary_grows_and_still_finds_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
