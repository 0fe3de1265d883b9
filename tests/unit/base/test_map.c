/* The map against a naive model: an array that says for each key whether it is there. */
#include "base/map.h"

#include "base/hash.h"
#include "base/rng.h"

#include <proximadb/error.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 5000, OPERATIONS = 150000 };

static const char owner_mark;

/* A value names its key: key = value % KEYS, the rest is a generation. */
static bool equal_key(const void *owner, uint64_t value, const void *key, size_t key_len)
{
    uint64_t wanted = 0;
    assert_ptr_equal(owner, &owner_mark);
    assert_int_equal(key_len, sizeof(wanted));
    memcpy(&wanted, key, sizeof(wanted));
    return value % KEYS == wanted;
}

typedef uint64_t hash_fn(uint64_t key);

static uint64_t good_hash(uint64_t key)
{
    return hash_u64(key + 1);
}

static uint64_t few_hashes(uint64_t key)
{
    return key % 37; /* long chains of equal hashes, with the special values 0 and 1 */
}

static uint64_t high_bits_only(uint64_t key)
{
    return key << 48;
}

struct seen {
    uint8_t times[KEYS];
    size_t count;
};

static void see(void *arg, uint64_t value)
{
    struct seen *seen = arg;
    seen->times[value % KEYS]++;
    seen->count++;
}

static void compare_all(const struct map *map, const uint64_t *model, hash_fn *hash)
{
    struct seen seen = {.count = 0};
    size_t live = 0;
    map_each(map, see, &seen);
    for (uint64_t key = 0; key < KEYS; key++) {
        uint64_t value = 0;
        bool found = map_find(map, hash(key), &key, sizeof(key), &value);
        assert_int_equal(found, model[key] != 0);
        if (found)
            assert_int_equal(value, model[key]);
        assert_int_equal(seen.times[key], found);
        live += found;
    }
    assert_int_equal(map->count, live);
    assert_int_equal(seen.count, live);
}

static void run_against_model(hash_fn *hash, uint64_t operations, uint64_t key_count)
{
    static uint64_t model[KEYS];
    struct heap heap = {.bytes_max = 0};
    struct map map;
    struct rng rng;
    memset(model, 0, sizeof(model));
    rng_seed(&rng, 1);
    map_init(&map, &heap, equal_key, &owner_mark);
    for (uint64_t i = 0; i < operations; i++) {
        uint64_t key = rng_below(&rng, key_count), old = 0, value = key + KEYS * (i + 1);
        /* waves: mostly inserts, then mostly removals */
        bool insert = rng_below(&rng, 10) < (i / (operations / 6) % 2 == 0 ? 8 : 2);
        if (insert) {
            assert_int_equal(map_reserve(&map, 1), 0);
            bool replaced = map_put(&map, hash(key), &key, sizeof(key), value, &old);
            assert_int_equal(replaced, model[key] != 0);
            if (replaced)
                assert_int_equal(old, model[key]);
            model[key] = value;
        } else {
            bool removed = map_remove(&map, hash(key), &key, sizeof(key), &old);
            assert_int_equal(removed, model[key] != 0);
            if (removed)
                assert_int_equal(old, model[key]);
            model[key] = 0;
        }
        uint64_t probe = rng_below(&rng, key_count), value_found = 0;
        assert_int_equal(map_find(&map, hash(probe), &probe, sizeof(probe), &value_found),
                         model[probe] != 0);
        if (i % (operations / 20) == 0)
            compare_all(&map, model, hash);
    }
    compare_all(&map, model, hash);
    map_dispose(&map);
    assert_int_equal(heap.bytes_used, 0);
}

static void random_operations_agree_with_the_model(void **state)
{
    (void)state;
    run_against_model(good_hash, OPERATIONS, KEYS);
}

static void bad_hashes_cost_time_and_nothing_else(void **state)
{
    (void)state;
    run_against_model(few_hashes, 20000, 300);
    run_against_model(high_bits_only, 50000, KEYS);
}

/* No insert moves more than its share: seen by the emptied slots of the old table. */
static void growth_is_spread_over_the_operations_that_follow(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    struct map map;
    map_init(&map, NULL, equal_key, &owner_mark);
    size_t growths = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        uint64_t key = i % KEYS;
        size_t old_next = map.old.slot_count != 0 ? map.old_next : 0;
        size_t old_slots = map.old.slot_count, now_slots = map.now.slot_count;
        assert_int_equal(map_reserve(&map, 1), 0);
        if (map.now.slot_count != now_slots) {
            growths++;
            assert_int_equal(old_slots, 0); /* the table before was empty by then */
        } else if (map.old.slot_count != 0) {
            assert_true(map.old_next - old_next <= 16);
        }
        /* equal() says no to all others, so each key is new: the hash differs */
        (void)map_put(&map, hash_u64(i + 1), &key, sizeof(key), key + KEYS * i, NULL);
    }
    assert_int_equal(map.count, COUNT);
    assert_true(growths > 10);
    map_dispose(&map);
}

static void a_table_that_was_full_once_shrinks_without_a_long_step(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct map map;
    map_init(&map, NULL, equal_key, &owner_mark);
    uint64_t key = 5;
    assert_int_equal(map_reserve(&map, COUNT), 0);
    for (uint64_t i = 0; i < COUNT; i++)
        (void)map_put(&map, hash_u64(i + 1), &key, sizeof(key), 5, NULL);
    size_t large = map.now.slot_count;
    for (uint64_t i = 0; i < COUNT; i++)
        assert_true(map_remove(&map, hash_u64(i + 1), &key, sizeof(key), NULL));
    for (uint64_t i = 0; i < 20 * COUNT; i++) { /* short-lived keys, never more than one */
        size_t old_slots = map.old.slot_count, now_slots = map.now.slot_count;
        assert_int_equal(map_reserve(&map, 1), 0);
        if (map.now.slot_count != now_slots)
            assert_int_equal(old_slots, 0);
        (void)map_put(&map, hash_u64(i + 1), &key, sizeof(key), 5, NULL);
        assert_true(map_remove(&map, hash_u64(i + 1), &key, sizeof(key), NULL));
    }
    assert_int_equal(map.count, 0);
    assert_true(map.now.slot_count <= large);
    map_dispose(&map);
}

static void what_was_reserved_fits_without_memory(void **state)
{
    (void)state;
    struct heap heap = {.bytes_max = 0};
    struct map map;
    map_init(&map, &heap, equal_key, &owner_mark);
    for (size_t more = 1; more < 3000; more = more * 2 + 1) {
        assert_int_equal(map_reserve(&map, more), 0);
        heap.fail_at = 1;
        for (uint64_t i = 0; i < more; i++) {
            uint64_t key = (map.count + 1) % KEYS;
            (void)map_put(&map, hash_u64(map.count + 1), &key, sizeof(key), key, NULL);
        }
        heap.fail_at = 0;
    }
    map_dispose(&map);
    assert_int_equal(heap.bytes_used, 0);
}

static void without_memory_nothing_changes(void **state)
{
    (void)state;
    struct heap heap = {.bytes_max = 0};
    struct map map;
    map_init(&map, &heap, equal_key, &owner_mark);
    for (uint64_t key = 0; key < 500; key++) {
        for (uint64_t n = 1; n <= 3; n++) {
            heap.fail_at = heap.allocation_count + n;
            int rc = map_reserve(&map, 1);
            assert_true(rc == 0 || rc == PDB_RESOURCE_EXHAUSTED);
            uint64_t value = 0, last = key - 1;
            assert_true(key == 0 || map_find(&map, hash_u64(key), &last, sizeof(last), &value));
            if (rc == 0)
                break;
            assert_true(n < 3);
        }
        heap.fail_at = 0;
        (void)map_put(&map, hash_u64(key + 1), &key, sizeof(key), key, NULL);
    }
    assert_int_equal(map.count, 500);
    map_dispose(&map);
    assert_int_equal(heap.bytes_used, 0);
    assert_int_equal(map_reserve(&map, SIZE_MAX), PDB_RESOURCE_EXHAUSTED);
}

static void an_empty_map_finds_and_removes_nothing(void **state)
{
    (void)state;
    struct map map;
    uint64_t key = 1, value = 0;
    map_init(&map, NULL, equal_key, &owner_mark);
    assert_false(map_find(&map, 1, &key, sizeof(key), &value));
    assert_false(map_remove(&map, 1, &key, sizeof(key), NULL));
    map_dispose(&map);
    map_dispose(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_the_model),
        cmocka_unit_test(bad_hashes_cost_time_and_nothing_else),
        cmocka_unit_test(growth_is_spread_over_the_operations_that_follow),
        cmocka_unit_test(a_table_that_was_full_once_shrinks_without_a_long_step),
        cmocka_unit_test(what_was_reserved_fits_without_memory),
        cmocka_unit_test(without_memory_nothing_changes),
        cmocka_unit_test(an_empty_map_finds_and_removes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
