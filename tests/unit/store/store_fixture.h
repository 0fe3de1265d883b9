/* What the tests of stores share: an environment that a test writes, and short ways to call. */
#ifndef TESTS_UNIT_STORE_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_STORE_FIXTURE_H

#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* NULL-ended pairs of name and value. */
static const char *const *fixture_environment;

static inline const char *fixture_getenv(const char *name)
{
    for (size_t i = 0; fixture_environment != NULL && fixture_environment[i] != NULL; i += 2) {
        if (strcmp(fixture_environment[i], name) == 0)
            return fixture_environment[i + 1];
    }
    return NULL;
}

static inline int fixture_put(struct store *store, const char *key, const char *text,
                              enum store_condition condition, const char *etag,
                              struct store_info *info_out)
{
    struct store_put_request request = {.key = text_of(key),
                                        .bytes = text,
                                        .len = strlen(text),
                                        .condition = condition,
                                        .etag = etag};
    return store_put(store, NULL, &request, info_out);
}

static inline void fixture_expect(struct store *store, const char *key, const char *text)
{
    void *bytes = NULL;
    size_t len = 0;
    assert_int_equal(store_get_all(store, NULL, text_of(key), 1 << 20, NULL, &bytes, &len), 0);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(bytes, text, len);
    heap_free(NULL, bytes);
}

/* The keys of a list, joined by blanks. */
struct fixture_keys {
    char text[4096];
    unsigned count, stop_at;
};

static inline int fixture_collect(void *arg, const struct store_object *object)
{
    struct fixture_keys *keys = arg;
    size_t len = strlen(keys->text);
    (void)snprintf(keys->text + len, sizeof(keys->text) - len, "%s%.*s", len != 0 ? " " : "",
                   TEXT_ARG(object->key));
    keys->count++;
    return keys->count == keys->stop_at ? 77 : 0;
}

static inline const char *fixture_list(struct store *store, const char *prefix, const char *after,
                                       struct fixture_keys *keys)
{
    *keys = (struct fixture_keys){.stop_at = keys->stop_at};
    struct store_list_request request = {
        .prefix = text_of(prefix), .after = text_of(after), .visit = fixture_collect, .arg = keys};
    int rc = store_list(store, NULL, &request);
    assert_int_equal(rc, keys->stop_at != 0 && keys->count == keys->stop_at ? 77 : 0);
    return keys->text;
}

/* A new folder for a test; fixture_remove takes it away with what is in it. */
static inline void fixture_folder(char path_out[64])
{
    strcpy(path_out, "/tmp/store-test-XXXXXX");
    assert_non_null(mkdtemp(path_out));
}

static inline void fixture_remove(const char *path)
{
    char command[256];
    (void)snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", path, path);
    assert_int_equal(system(command), 0);
}

static inline struct store *fixture_open(const char *url)
{
    struct store *store = NULL;
    struct trail trail = {0};
    int rc = store_open(text_of(url), NULL, &trail, &store);
    if (rc != 0)
        fail_msg("%s: %s", url, trail.text);
    return store;
}

#endif
