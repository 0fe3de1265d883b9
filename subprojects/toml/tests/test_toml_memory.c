/* Tests src/toml_tree.c: what happens when the n-th allocation fails, for every n. */
#include <stdio.h>
#include <stdlib.h>

#include "toml_fixture.h"

/* Fails the allocation numbered `failing` (from 1), counts what is handed out. */
struct faulty {
    size_t failing;
    size_t calls;
    size_t live;
    size_t bytes;
};

static void *faulty_allocate(void *context, size_t size)
{
    struct faulty *faulty = context;
    if (++faulty->calls == faulty->failing)
        return NULL;
    void *memory = malloc(size);
    if (memory != NULL) {
        memset(memory, 0xa5, size); /* nobody may rely on zeros */
        faulty->live++;
        faulty->bytes += size;
    }
    return memory;
}

static void faulty_release(void *context, void *memory)
{
    struct faulty *faulty = context;
    assert_non_null(memory);
    faulty->live--;
    free(memory);
}

static int parse_faulty(const char *text, struct faulty *faulty, struct toml_error *error)
{
    struct toml_options options = {.allocator = {faulty_allocate, faulty_release, faulty}};
    struct toml_document *doc = NULL;
    int rc = toml_parse_with(&options, text, strlen(text), &doc, error);
    if (rc < 0)
        assert_null(doc);
    toml_free(doc);
    return rc;
}

/* Enough keys and values for several chunks and two growths of the index. */
static char *large_text(void)
{
    char *text = malloc(1 << 16);
    assert_non_null(text);
    size_t len = 0;
    for (int i = 0; i < 200; i++)
        len += (size_t)sprintf(text + len, "[t%d]\na.b = ['x', 1.5, {c = 1979-05-27}]\n", i);
    return text;
}

static void every_allocation_may_fail_and_nothing_leaks(void **state)
{
    (void)state;
    char *text = large_text();
    size_t n = 1;
    for (;; n++) {
        struct faulty faulty = {.failing = n};
        struct toml_error error;
        int rc = parse_faulty(text, &faulty, &error);
        assert_int_equal(faulty.live, 0);
        if (rc == TOML_OK)
            break;
        assert_int_equal(rc, TOML_NO_MEMORY);
        assert_string_equal(error.message, "out of memory");
    }
    assert_true(n > 8); /* document, strings, several chunks, several indexes */
    free(text);
}

static void a_syntax_error_releases_everything(void **state)
{
    (void)state;
    struct faulty faulty = {0};
    struct toml_error error;
    assert_int_equal(parse_faulty("a = [1, {b = 'x'}]\nc = 1.5\n[t]\nd = ?\n", &faulty, &error),
                     TOML_SYNTAX);
    assert_int_equal(faulty.live, 0);
    assert_true(faulty.calls >= 4);
}

static void memory_stays_within_the_promised_factor(void **state)
{
    (void)state;
    enum { COUNT = 300000 };
    static const char *const units[] = {"1,", "[],", "{},", "'',"};
    char *text = malloc(COUNT * 3 + 16);
    assert_non_null(text);
    for (size_t u = 0; u < 4; u++) {
        size_t len = (size_t)sprintf(text, "k=[");
        for (int i = 0; i < COUNT; i++)
            len += (size_t)sprintf(text + len, "%s", units[u]);
        len += (size_t)sprintf(text + len, "]");
        struct faulty faulty = {0};
        struct toml_error error;
        assert_int_equal(parse_faulty(text, &faulty, &error), TOML_OK);
        assert_true(faulty.bytes < 60 * len);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail_and_nothing_leaks),
        cmocka_unit_test(a_syntax_error_releases_everything),
        cmocka_unit_test(memory_stays_within_the_promised_factor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
