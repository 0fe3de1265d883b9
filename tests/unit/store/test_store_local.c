/* The contract of store.h, held against a folder and against memory alike. */
#include "base/crc32c.h"
#include "store/store_internal.h"

#include "store_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static const char *const kinds[] = {"file", "mem"};

/* Runs `test` on a fresh store of each kind. */
static void on_each(void (*test)(struct store *store))
{
    for (size_t i = 0; i < 2; i++) {
        fixture_folder(folder);
        struct store *store = fixture_open(i == 0 ? folder : "mem://test");
        print_message("    %s\n", kinds[i]);
        test(store);
        store_close(store);
        fixture_remove(folder);
    }
}

static void roundtrip(struct store *store)
{
    struct store_info put_info, info;
    assert_int_equal(fixture_put(store, "a/b", "hello", STORE_ALWAYS, NULL, &put_info), 0);
    fixture_expect(store, "a/b", "hello");
    assert_int_equal(store_head(store, NULL, TEXT_LIT("a/b"), &info), 0);
    assert_int_equal(info.size, 5);
    assert_true(info.modified_us > 0);
    assert_string_equal(info.etag, put_info.etag);
    assert_true(put_info.has_crc32c);
    assert_int_equal(put_info.crc32c, crc32c(0, "hello", 5));
    assert_int_equal(fixture_put(store, "a/b", "", STORE_ALWAYS, NULL, &info), 0);
    assert_string_not_equal(info.etag, put_info.etag);
    fixture_expect(store, "a/b", "");
    assert_int_equal(store_delete(store, NULL, TEXT_LIT("a/b")), 0);
    assert_int_equal(store_delete(store, NULL, TEXT_LIT("a/b")), 0);
    assert_int_equal(store_delete(store, NULL, TEXT_LIT("x/y/z")), 0);
    assert_int_equal(store_head(store, NULL, TEXT_LIT("a/b"), &info), PDB_NOT_FOUND);
}

static void what_is_put_is_read_until_it_is_deleted(void **state)
{
    (void)state;
    on_each(roundtrip);
}

static void conditions(struct store *store)
{
    struct store_info first, second;
    assert_int_equal(fixture_put(store, "k", "1", STORE_IF_MATCH, "x", NULL),
                     PDB_FAILED_PRECONDITION);
    assert_int_equal(fixture_put(store, "k", "1", STORE_IF_MATCH, NULL, NULL),
                     PDB_INVALID_ARGUMENT);
    assert_int_equal(fixture_put(store, "k", "1", STORE_IF_ABSENT, NULL, &first), 0);
    assert_int_equal(fixture_put(store, "k", "2", STORE_IF_ABSENT, NULL, NULL), PDB_ALREADY_EXISTS);
    fixture_expect(store, "k", "1");
    assert_int_equal(fixture_put(store, "k", "3", STORE_IF_MATCH, first.etag, &second), 0);
    assert_int_equal(fixture_put(store, "k", "4", STORE_IF_MATCH, first.etag, NULL),
                     PDB_FAILED_PRECONDITION);
    fixture_expect(store, "k", "3");
    assert_int_equal(fixture_put(store, "k", "5", STORE_IF_MATCH, second.etag, NULL), 0);
    fixture_expect(store, "k", "5");
}

static void a_condition_that_does_not_hold_changes_nothing(void **state)
{
    (void)state;
    on_each(conditions);
}

static void ranges(struct store *store)
{
    char to[16];
    uint64_t len = 99;
    static const struct {
        uint64_t offset, len, to_size;
        int rc;
        const char *text;
    } rows[] = {
        {0, STORE_TO_END, 16, 0, "0123456789"},
        {3, 4, 16, 0, "3456"},
        {8, 100, 16, 0, "89"},
        {10, STORE_TO_END, 16, 0, ""},
        {10, 1, 0, 0, ""},
        {0, 0, 0, 0, ""},
        {11, 1, 16, PDB_OUT_OF_RANGE, ""},
        {0, STORE_TO_END, 9, PDB_OUT_OF_RANGE, ""},
        {9, UINT64_MAX - 1, 16, 0, "9"},
        {UINT64_MAX, 1, 16, PDB_OUT_OF_RANGE, ""},
    };
    assert_int_equal(fixture_put(store, "k", "0123456789", STORE_ALWAYS, NULL, NULL), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct store_get_request request = {.key = TEXT_LIT("k"),
                                            .offset = rows[i].offset,
                                            .len = rows[i].len,
                                            .to = to,
                                            .to_size = rows[i].to_size};
        assert_int_equal(store_get(store, NULL, &request, &len, NULL), rows[i].rc);
        if (rows[i].rc == 0) {
            assert_int_equal(len, strlen(rows[i].text));
            assert_memory_equal(to, rows[i].text, len);
        }
    }
}

static void ranges_are_cut_at_the_end(void **state)
{
    (void)state;
    on_each(ranges);
}

static void lists(struct store *store)
{
    struct fixture_keys keys = {0};
    static const char *const names[] = {"b",  "a/b",  "a-b",   "a.b",  "a/c/d",
                                        "aa", "a/c-", "z/z/z", "a/c.d"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(fixture_put(store, names[i], "x", STORE_ALWAYS, NULL, NULL), 0);
    assert_string_equal(fixture_list(store, "", "", &keys),
                        "a-b a.b a/b a/c- a/c.d a/c/d aa b z/z/z");
    assert_string_equal(fixture_list(store, "a/", "", &keys), "a/b a/c- a/c.d a/c/d");
    assert_string_equal(fixture_list(store, "a/c", "", &keys), "a/c- a/c.d a/c/d");
    assert_string_equal(fixture_list(store, "a/c/d", "", &keys), "a/c/d");
    assert_string_equal(fixture_list(store, "a/c/d", "a/c/d", &keys), "");
    assert_string_equal(fixture_list(store, "none", "", &keys), "");
    assert_string_equal(fixture_list(store, "", "a/c-", &keys), "a/c.d a/c/d aa b z/z/z");
    assert_string_equal(fixture_list(store, "", "a/c/a", &keys), "a/c/d aa b z/z/z");
    assert_string_equal(fixture_list(store, "a", "a.zzz", &keys), "a/b a/c- a/c.d a/c/d aa");
    keys.stop_at = 2;
    assert_string_equal(fixture_list(store, "", "", &keys), "a-b a.b");
    struct store_list_request bad = {.prefix = TEXT_LIT("../x"), .visit = fixture_collect};
    assert_int_equal(store_list(store, NULL, &bad), PDB_INVALID_ARGUMENT);
}

static void lists_are_in_the_order_of_whole_keys(void **state)
{
    (void)state;
    on_each(lists);
}

static void list_arrays(struct store *store)
{
    struct arena arena = {0};
    struct store_object *objects = NULL;
    size_t count = 0;
    for (unsigned i = 0; i < 100; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k/%02u", i);
        assert_int_equal(fixture_put(store, key, key, STORE_ALWAYS, NULL, NULL), 0);
    }
    assert_int_equal(store_list_all(store, NULL, TEXT_LIT("k/"), 100, &arena, &objects, &count), 0);
    assert_int_equal(count, 100);
    assert_string_equal(objects[42].key.ptr, "k/42");
    assert_int_equal(objects[42].info.size, 4);
    struct trail trail = {0};
    struct store_call call = {.trail = &trail};
    assert_int_equal(store_list_all(store, &call, TEXT_LIT("k/"), 99, &arena, &objects, &count),
                     PDB_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(trail.text, "more than 99"));
    arena_dispose(&arena);
}

static void a_list_as_an_array_has_a_limit(void **state)
{
    (void)state;
    on_each(list_arrays);
}

static void files(struct store *store)
{
    char path[128];
    uint64_t len = 0;
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/../store-test-file-%d", folder, (int)getpid());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs("0123456789", file) >= 0);
    assert_int_equal(fclose(file), 0);
    struct store_put_request put = {
        .key = TEXT_LIT("f"), .path = path, .offset = 2, .len = STORE_TO_END};
    assert_int_equal(store_put(store, NULL, &put, NULL), 0);
    fixture_expect(store, "f", "23456789");
    put.len = 3;
    assert_int_equal(store_put(store, NULL, &put, NULL), 0);
    fixture_expect(store, "f", "234");
    put.len = 9;
    assert_int_equal(store_put(store, NULL, &put, NULL), PDB_OUT_OF_RANGE);
    put.offset = 11;
    assert_int_equal(store_put(store, NULL, &put, NULL), PDB_OUT_OF_RANGE);
    struct store_get_request get = {.key = TEXT_LIT("f"), .len = STORE_TO_END, .path = path};
    assert_int_equal(store_get(store, NULL, &get, &len, NULL), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 3);
    get.key = TEXT_LIT("none");
    assert_int_equal(store_get(store, NULL, &get, &len, NULL), PDB_NOT_FOUND);
    put.path = "/nowhere/at/all";
    assert_int_equal(store_put(store, NULL, &put, NULL), PDB_NOT_FOUND);
    put.path = "/tmp";
    assert_int_equal(store_put(store, NULL, &put, NULL), PDB_INVALID_ARGUMENT);
    get.key = TEXT_LIT("f");
    get.path = "/nowhere/at/all";
    assert_int_equal(store_get(store, NULL, &get, &len, NULL), PDB_NOT_FOUND);
    assert_int_equal(unlink(path), 0);
}

static void files_go_in_and_out_by_range(void **state)
{
    (void)state;
    on_each(files);
}

static void refusals(struct store *store)
{
    struct trail trail = {0};
    struct store_cancel cancel = {0};
    struct store_info info;
    struct store_call call = {.cancel = &cancel, .trail = &trail};
    assert_int_equal(store_head(store, &call, TEXT_LIT("../etc"), &info), PDB_INVALID_ARGUMENT);
    trail_reset(&trail);
    assert_int_equal(store_head(store, &call, TEXT_LIT("none"), &info), PDB_NOT_FOUND);
    assert_non_null(strstr(trail.text, "head 'none'"));
    assert_non_null(strstr(trail.text, store_name(store)));
    call.deadline_ns = 1;
    assert_int_equal(store_head(store, &call, TEXT_LIT("none"), &info), PDB_DEADLINE_EXCEEDED);
    store_cancel(&cancel);
    assert_int_equal(store_delete(store, &call, TEXT_LIT("none")), PDB_CANCELLED);
}

static void refusals_say_what_and_where(void **state)
{
    (void)state;
    on_each(refusals);
}

static void get_all_limits(struct store *store)
{
    void *bytes = NULL;
    size_t len = 0;
    struct heap heap = {.fail_at = 1};
    assert_int_equal(fixture_put(store, "k", "12345", STORE_ALWAYS, NULL, NULL), 0);
    assert_int_equal(store_get_all(store, NULL, TEXT_LIT("k"), 4, NULL, &bytes, &len),
                     PDB_OUT_OF_RANGE);
    assert_int_equal(store_get_all(store, NULL, TEXT_LIT("k"), 5, &heap, &bytes, &len),
                     PDB_RESOURCE_EXHAUSTED);
    heap = (struct heap){0};
    assert_int_equal(store_get_all(store, NULL, TEXT_LIT("k"), 5, &heap, &bytes, &len), 0);
    assert_string_equal(bytes, "12345");
    heap_free(&heap, bytes);
    assert_int_equal(heap.bytes_used, 0);
}

static void a_whole_object_is_read_up_to_a_limit(void **state)
{
    (void)state;
    on_each(get_all_limits);
}

static void memory_that_runs_out_leaves_the_old_object(void **state)
{
    (void)state;
    struct store *store = fixture_open("mem://test");
    int rc = PDB_RESOURCE_EXHAUSTED;
    assert_int_equal(fixture_put(store, "k", "old", STORE_ALWAYS, NULL, NULL), 0);
    for (uint64_t n = 1; rc == PDB_RESOURCE_EXHAUSTED; n++) {
        fixture_expect(store, "k", "old");
        store->heap.fail_at = store->heap.allocation_count + n;
        rc = fixture_put(store, "k", "new", STORE_ALWAYS, NULL, NULL);
        store->heap.fail_at = 0;
        assert_true(n < 10);
    }
    assert_int_equal(rc, 0);
    fixture_expect(store, "k", "new");
    store_close(store);
    struct store_options options = {.memory_bytes_max = 4096};
    char large[8192];
    memset(large, 'x', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    assert_int_equal(store_open(TEXT_LIT("mem://test"), &options, NULL, &store), 0);
    assert_int_equal(fixture_put(store, "k", large, STORE_ALWAYS, NULL, NULL),
                     PDB_RESOURCE_EXHAUSTED);
    assert_int_equal(fixture_put(store, "k", "small", STORE_ALWAYS, NULL, NULL), 0);
    store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_is_read_until_it_is_deleted),
        cmocka_unit_test(a_condition_that_does_not_hold_changes_nothing),
        cmocka_unit_test(ranges_are_cut_at_the_end),
        cmocka_unit_test(lists_are_in_the_order_of_whole_keys),
        cmocka_unit_test(a_list_as_an_array_has_a_limit),
        cmocka_unit_test(files_go_in_and_out_by_range),
        cmocka_unit_test(refusals_say_what_and_where),
        cmocka_unit_test(a_whole_object_is_read_up_to_a_limit),
        cmocka_unit_test(memory_that_runs_out_leaves_the_old_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
