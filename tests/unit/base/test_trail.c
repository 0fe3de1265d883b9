/* trail and the error list. */
#include "base/trail.h"

#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void the_outermost_context_comes_first_and_the_first_code_stays(void **state)
{
    (void)state;
    struct trail trail = {0};
    assert_int_equal(trail_add(&trail, PDB_DATA_LOSS, "torn"), PDB_DATA_LOSS);
    assert_int_equal(trail_add(&trail, PDB_INTERNAL, "record at %d", 4096), PDB_INTERNAL);
    trail_add(&trail, PDB_DATA_LOSS, "replay core %u", 3u);
    assert_string_equal(trail.text, "replay core 3: record at 4096: torn");
    assert_int_equal(trail.len, strlen(trail.text));
    assert_int_equal(trail.code, PDB_DATA_LOSS);
    trail_add_http(&trail, PDB_INVALID_ARGUMENT, 413, "body");
    trail_add_http(&trail, PDB_INVALID_ARGUMENT, 415, "type");
    assert_int_equal(trail.http_status, 413);
    trail_reset(&trail);
    assert_int_equal(trail.code, 0);
    assert_int_equal(trail.len, 0);
    assert_string_equal(trail.text, "");
    assert_int_equal(trail_add(NULL, PDB_NOT_FOUND, "x"), PDB_NOT_FOUND);
    assert_int_equal(trail_add_http(NULL, PDB_NOT_FOUND, 410, "x"), PDB_NOT_FOUND);
}

static void long_trails_are_cut_at_whole_characters(void **state)
{
    (void)state;
    static const char *const units[] = {"x", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t unit = 0; unit < 4; unit++) {
        for (size_t shift = 0; shift < 9; shift++) {
            struct trail trail = {0};
            char text[1200] = "";
            for (size_t i = 0; i < shift; i++)
                strcat(text, "-");
            while (strlen(text) < 1000)
                strcat(text, units[unit]);
            trail_add(&trail, PDB_INTERNAL, "%s", text);
            assert_true(trail.len < TRAIL_TEXT_MAX && trail.len > TRAIL_TEXT_MAX - 6);
            for (int level = 0; level < 200; level++) {
                trail_add(&trail, PDB_INTERNAL, "level %d", level);
                assert_true(trail.len < TRAIL_TEXT_MAX);
                assert_int_equal(strlen(trail.text), trail.len);
                assert_int_equal(utf8_invalid_at(trail.text, trail.len), trail.len);
            }
            assert_int_equal(strncmp(trail.text, "level 199: level 198: ", 22), 0);
        }
    }
}

static void a_context_that_fills_the_trail_replaces_what_was_there(void **state)
{
    (void)state;
    struct trail trail = {0};
    char text[TRAIL_TEXT_MAX + 10];
    for (size_t len = TRAIL_TEXT_MAX - 6; len < sizeof(text); len++) {
        trail_reset(&trail);
        trail_add(&trail, PDB_INTERNAL, "inner");
        memset(text, 'o', len);
        text[len] = '\0';
        trail_add(&trail, PDB_INTERNAL, "%s", text);
        assert_true(trail.len < TRAIL_TEXT_MAX);
        assert_int_equal(trail.text[0], 'o');
        assert_int_equal(strlen(trail.text), trail.len);
    }
}

static void the_error_list_speaks_for_every_code(void **state)
{
    (void)state;
    assert_string_equal(pdb_error_name(PDB_NOT_FOUND), "NOT_FOUND");
    assert_string_equal(pdb_error_text(PDB_DATA_LOSS), "data loss");
    assert_int_equal(pdb_error_http(PDB_RESOURCE_EXHAUSTED), 429);
    assert_int_equal(pdb_error_grpc(PDB_UNAUTHENTICATED), 16);
    assert_string_equal(pdb_error_name(0), "OK");
    assert_string_equal(pdb_error_text(0), "ok");
    assert_int_equal(pdb_error_http(0), 200);
    assert_int_equal(pdb_error_grpc(0), 0);
    static const int unknown[] = {1, -2, -10, -17, -1000};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_string_equal(pdb_error_name(unknown[i]), "UNKNOWN");
        assert_string_equal(pdb_error_text(unknown[i]), "unknown error");
        assert_int_equal(pdb_error_http(unknown[i]), 500);
        assert_int_equal(pdb_error_grpc(unknown[i]), 2);
    }
#define CHECK(name, grpc, http, text)                                                              \
    assert_int_equal(pdb_error_grpc(PDB_##name), grpc);                                            \
    assert_int_equal(pdb_error_http(PDB_##name), http);                                            \
    assert_string_equal(pdb_error_name(PDB_##name), #name);                                        \
    assert_string_equal(pdb_error_text(PDB_##name), text);
    PDB_ERRORS(CHECK)
#undef CHECK
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_outermost_context_comes_first_and_the_first_code_stays),
        cmocka_unit_test(long_trails_are_cut_at_whole_characters),
        cmocka_unit_test(a_context_that_fills_the_trail_replaces_what_was_there),
        cmocka_unit_test(the_error_list_speaks_for_every_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
