/* test_select.c: choosing an implementation by name, and refusing what is not there. */
#include <string.h>

#include "fixture.h"

/* run_tests() selects each name of the list before each test, and checks vecmath_isa_name(). */

static void nothing_asked_for_selects_the_best(void)
{
    const char *names[VECMATH_ISA_MAX];
    CHECK(vecmath_isa_list(names) >= 1, "scalar is always there");
    CHECK(vecmath_select(NULL, NULL, 0) == VECMATH_OK, "NULL");
    CHECK(strcmp(vecmath_isa_name(), names[0]) == 0, "%s", vecmath_isa_name());
    CHECK(vecmath_select("scalar", NULL, 0) == VECMATH_OK, "scalar");
    CHECK(vecmath_select("", NULL, 0) == VECMATH_OK, "empty");
    CHECK(strcmp(vecmath_isa_name(), names[0]) == 0, "%s", vecmath_isa_name());
}

static void the_list_ends_with_scalar_and_names_nothing_twice(void)
{
    const char *names[VECMATH_ISA_MAX];
    size_t count = vecmath_isa_list(names);
    CHECK(strcmp(names[count - 1], "scalar") == 0, "%s", names[count - 1]);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(names[i], names[j]) != 0, "%s", names[i]);
}

static void an_unknown_name_is_refused_with_a_text_and_changes_nothing(void)
{
    char text[160] = "";
    const char *before = vecmath_isa_name();
    CHECK(vecmath_select("sse9", text, sizeof text) == VECMATH_UNKNOWN_ISA, "%s", text);
    CHECK(strstr(text, "\"sse9\" is not known") != NULL, "%s", text);
    CHECK(strstr(text, "usable: ") != NULL && strstr(text, "scalar") != NULL, "%s", text);
    CHECK(vecmath_isa_name() == before, "%s", vecmath_isa_name());
    CHECK(vecmath_select("AVX2", NULL, 0) == VECMATH_UNKNOWN_ISA, "names are lower case");
}

static void another_machines_name_is_refused_as_unsupported(void)
{
#if defined(__aarch64__)
    const char *foreign = "avx2";
#else
    const char *foreign = "neon";
#endif
    char text[160] = "";
    const char *before = vecmath_isa_name();
    CHECK(vecmath_select(foreign, text, sizeof text) == VECMATH_UNSUPPORTED_ISA, "%s", text);
    CHECK(strstr(text, "is not supported by this processor") != NULL, "%s", text);
    CHECK(vecmath_isa_name() == before, "%s", vecmath_isa_name());
}

static void a_long_name_and_a_short_buffer_are_cut_not_overrun(void)
{
    char name[500];
    char text[8] = "";
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK(vecmath_select(name, text, sizeof text) == VECMATH_UNKNOWN_ISA, "%s", text);
    CHECK(memchr(text, '\0', sizeof text) == text + sizeof text - 1, "cut to fit");
    CHECK(vecmath_select(name, NULL, 0) == VECMATH_UNKNOWN_ISA, "no buffer");
}

int main(void)
{
    static const struct test tests[] = {
        TEST(nothing_asked_for_selects_the_best),
        TEST(the_list_ends_with_scalar_and_names_nothing_twice),
        TEST(an_unknown_name_is_refused_with_a_text_and_changes_nothing),
        TEST(another_machines_name_is_refused_as_unsupported),
        TEST(a_long_name_and_a_short_buffer_are_cut_not_overrun),
    };
    return run_tests(tests, sizeof tests / sizeof tests[0]);
}
