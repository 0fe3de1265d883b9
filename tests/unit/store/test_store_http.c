/* Stores behind a server without any server: addresses that are refused when they are connected to,
 * and memory that runs out at each allocation of a call. What needs a server is in tests/store. */
#include "store/store_internal.h"

#include "store_fixture.h"

static const char *const environment[] = {"AWS_ACCESS_KEY_ID",
                                          "A",
                                          "AWS_SECRET_ACCESS_KEY",
                                          "hunter2",
                                          "GOOGLE_OAUTH_ACCESS_TOKEN",
                                          "hunter2",
                                          "AZURE_STORAGE_KEY",
                                          "aHVudGVyMg==",
                                          NULL};
static const struct store_options once = {.attempts_max = 1, .environment = fixture_getenv};

static struct store *open_store(const char *url)
{
    struct store *store = NULL;
    struct trail trail = {0};
    fixture_environment = environment;
    if (store_open(text_of(url), &once, &trail, &store) != 0)
        fail_msg("%s: %s", url, trail.text);
    return store;
}

/* inet_aton's other spellings of 169.254.169.254 and 0.0.0.0 pass for names until they resolve. */
static void addresses_in_disguise_are_refused_when_they_resolve(void **state)
{
    (void)state;
    static const char *const hosts[] = {"2852039166", "0xa9fea9fe", "169.254.43518",
                                        "0251.0376.0251.0376", "0x0"};
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        char url[128];
        struct store_info info;
        struct trail trail = {0};
        const struct store_call call = {.trail = &trail};
        (void)snprintf(url, sizeof(url), "s3://bucket?allow_http=true&endpoint=http://%s",
                       hosts[i]);
        struct store *store = open_store(url);
        assert_int_equal(store_head(store, &call, TEXT_LIT("k"), &info), PDB_INVALID_ARGUMENT);
        assert_non_null(strstr(trail.text, "address that no store may have"));
        store_close(store);
    }
}

static void nobody_there_is_unavailable_and_known_not_to_have_happened(void **state)
{
    (void)state;
    struct store *store = open_store("s3://bucket?endpoint=http://127.0.0.1:1");
    struct trail trail = {0};
    const struct store_call call = {.trail = &trail};
    const struct store_put_request put = {
        .key = TEXT_LIT("k"), .bytes = "x", .len = 1, .condition = STORE_IF_ABSENT};
    assert_int_equal(store_put(store, &call, &put, NULL), PDB_UNAVAILABLE);
    assert_null(strstr(trail.text, "unknown"));
    assert_null(strstr(trail.text, "hunter2"));
    store_close(store);
}

static int run_call(struct store *store, unsigned which)
{
    struct store_info info;
    struct fixture_keys keys = {0};
    char to[8];
    uint64_t len = 0;
    const struct store_put_request put = {
        .key = TEXT_LIT("k"), .bytes = "x", .len = 1, .condition = STORE_IF_ABSENT};
    const struct store_get_request get = {
        .key = TEXT_LIT("k"), .len = 5, .to = to, .to_size = sizeof(to)};
    const struct store_list_request list = {.visit = fixture_collect, .arg = &keys};
    switch (which) {
    case 0:
        return store_put(store, NULL, &put, NULL);
    case 1:
        return store_get(store, NULL, &get, &len, NULL);
    case 2:
        return store_head(store, NULL, TEXT_LIT("k"), &info);
    case 3:
        return store_delete(store, NULL, TEXT_LIT("k"));
    default:
        return store_list(store, NULL, &list);
    }
}

static void each_allocation_of_a_call_may_fail(void **state)
{
    (void)state;
    static const char *const urls[] = {"s3://bucket/p?endpoint=http://127.0.0.1:1",
                                       "gs://bucket/p?endpoint=http://127.0.0.1:1",
                                       "az://account/container/p?endpoint=http://127.0.0.1:1"};
    for (size_t i = 0; i < 3; i++) {
        for (unsigned which = 0; which < 5; which++) {
            struct store *store = open_store(urls[i]);
            int rc = PDB_RESOURCE_EXHAUSTED;
            for (uint64_t n = 1; rc == PDB_RESOURCE_EXHAUSTED; n++) {
                store->arena_fail_at = n;
                rc = run_call(store, which);
                assert_true(n < 1000);
            }
            assert_int_equal(rc, PDB_UNAVAILABLE); /* nobody listens */
            store_close(store);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_in_disguise_are_refused_when_they_resolve),
        cmocka_unit_test(nobody_there_is_unavailable_and_known_not_to_have_happened),
        cmocka_unit_test(each_allocation_of_a_call_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
