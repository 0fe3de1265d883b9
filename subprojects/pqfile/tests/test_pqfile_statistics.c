/* Tests src/statistics.c: minima and maxima, their order, and how long ones are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "statistics.h"

struct fixture {
    struct pqfile_allocator allocator;
    struct pq_arena arena;
    struct pq_bounds bounds;
    struct pqfile_statistics stored;
};

static void begin(struct fixture *f, enum pqfile_type type, uint32_t type_length,
                  struct pqfile_logical logical)
{
    struct pqfile_node node = {.type = type, .type_length = type_length, .logical = logical};
    f->allocator = pq_allocator(NULL);
    f->stored = (struct pqfile_statistics){0};
    pq_arena_init(&f->arena, &f->allocator, SIZE_MAX);
    pq_bounds_init(&f->bounds, &node, &f->allocator);
}

static const struct pqfile_statistics *store(struct fixture *f, uint32_t bytes_max)
{
    f->stored = (struct pqfile_statistics){0};
    assert_int_equal(pq_bounds_store(&f->bounds, bytes_max, &f->arena, &f->stored), 0);
    return &f->stored;
}

static void end(struct fixture *f)
{
    pq_bounds_dispose(&f->bounds);
    pq_arena_dispose(&f->arena);
}

static struct pqfile_bytes text(const char *s)
{
    return (struct pqfile_bytes){(const uint8_t *)s, strlen(s)};
}

static void assert_bytes(struct pqfile_bytes bytes, const char *expected)
{
    assert_int_equal(bytes.len, strlen(expected));
    assert_memory_equal(bytes.data, expected, bytes.len);
}

/* Copies a bound of `len` bytes out. */
static void copy_bound(struct pqfile_bytes bytes, void *out, size_t len)
{
    assert_int_equal(bytes.len, len);
    if (bytes.data == NULL)
        fail_msg("a bound is missing");
    else
        memcpy(out, bytes.data, len);
}

static double number(struct pqfile_bytes bytes)
{
    double value = 0.0;
    copy_bound(bytes, &value, sizeof value);
    return value;
}

static void integers_compare_as_their_sign_says(void **state)
{
    (void)state;
    struct fixture f;
    int32_t values[] = {5, -1, 7}, bounds[2] = {0};
    for (int is_signed = 0; is_signed <= 1; is_signed++) {
        begin(&f, PQFILE_INT32, 0,
              (struct pqfile_logical){
                  .kind = PQFILE_LOGICAL_INTEGER, .bits = 32, .is_signed = is_signed != 0});
        pq_bounds_add(&f.bounds, values, 3);
        const struct pqfile_statistics *s = store(&f, 64);
        copy_bound(s->min, &bounds[0], sizeof bounds[0]);
        copy_bound(s->max, &bounds[1], sizeof bounds[1]);
        assert_int_equal(bounds[0], is_signed ? -1 : 5);
        assert_int_equal(bounds[1], is_signed ? 7 : -1);
        end(&f);
    }
}

static void nan_does_not_count_and_zeros_stand_for_both(void **state)
{
    (void)state;
    struct fixture f;
    double values[] = {(double)NAN, 0.0, (double)NAN, -0.0};
    begin(&f, PQFILE_DOUBLE, 0, (struct pqfile_logical){0});
    pq_bounds_add(&f.bounds, values, 1);
    assert_false(store(&f, 64)->has_min);
    pq_bounds_add(&f.bounds, values, 4);
    const struct pqfile_statistics *s = store(&f, 64);
    assert_true(s->has_min && s->has_max);
    assert_true(signbit(number(s->min)) != 0 && signbit(number(s->max)) == 0);
    end(&f);
}

static void infinities_are_values(void **state)
{
    (void)state;
    struct fixture f;
    double values[] = {(double)INFINITY};
    begin(&f, PQFILE_DOUBLE, 0, (struct pqfile_logical){0});
    pq_bounds_add(&f.bounds, values, 1);
    const struct pqfile_statistics *s = store(&f, 64);
    assert_true(s->has_min && isinf(number(s->min)) && isinf(number(s->max)));
    end(&f);
}

static void bytes_compare_unsigned_and_shorter_first(void **state)
{
    (void)state;
    struct fixture f;
    struct pqfile_bytes values[] = {text("b"), text("\xff"), text("a"), text("ab")};
    begin(&f, PQFILE_BYTE_ARRAY, 0, (struct pqfile_logical){0});
    pq_bounds_add(&f.bounds, values, 4);
    assert_bytes(store(&f, 64)->min, "a");
    assert_bytes(store(&f, 64)->max, "\xff");
    end(&f);
}

static void pages_merge_into_their_chunk(void **state)
{
    (void)state;
    struct fixture page, chunk;
    int64_t first[] = {3, 4}, second[] = {1, 9}, min = 0, max = 0;
    begin(&page, PQFILE_INT64, 0, (struct pqfile_logical){0});
    begin(&chunk, PQFILE_INT64, 0, (struct pqfile_logical){0});
    pq_bounds_merge(&chunk.bounds, &page.bounds); /* empty */
    assert_false(chunk.bounds.any);
    pq_bounds_add(&page.bounds, first, 2);
    pq_bounds_merge(&chunk.bounds, &page.bounds);
    pq_bounds_clear(&page.bounds);
    pq_bounds_add(&page.bounds, second, 2);
    pq_bounds_merge(&chunk.bounds, &page.bounds);
    const struct pqfile_statistics *s = store(&chunk, 64);
    copy_bound(s->min, &min, sizeof min);
    copy_bound(s->max, &max, sizeof max);
    assert_int_equal(min, 1);
    assert_int_equal(max, 9);
    end(&page);
    end(&chunk);
}

/* What a maximum of one value becomes when cut to four bytes. */
static void assert_cut(enum pqfile_logical_kind kind, const char *value, const char *min,
                       const char *max, bool inexact)
{
    struct fixture f;
    struct pqfile_bytes bytes = text(value);
    begin(&f, PQFILE_BYTE_ARRAY, 0, (struct pqfile_logical){.kind = kind});
    pq_bounds_add(&f.bounds, &bytes, 1);
    const struct pqfile_statistics *s = store(&f, 4);
    assert_bytes(s->min, min);
    assert_bytes(s->max, max);
    assert_int_equal(s->min_inexact, strlen(min) < strlen(value));
    assert_int_equal(s->max_inexact, inexact);
    assert_true(pq_bounds_compare(PQ_BOUNDS_BYTES, s->min, bytes) <= 0);
    assert_true(pq_bounds_compare(PQ_BOUNDS_BYTES, s->max, bytes) >= 0);
    end(&f);
}

static void long_values_are_cut_to_bounds(void **state)
{
    (void)state;
    enum pqfile_logical_kind bytes = PQFILE_LOGICAL_NONE, utf8 = PQFILE_LOGICAL_STRING;
    assert_cut(bytes, "abcd", "abcd", "abcd", false);
    assert_cut(bytes, "abcde", "abcd", "abce", true);
    assert_cut(bytes, "ab\xff\xff\xff", "ab\xff\xff", "ac", true);
    assert_cut(bytes, "\xff\xff\xff\xff\xff", "\xff\xff\xff\xff", "\xff\xff\xff\xff\xff", false);
    assert_cut(utf8, "abcde", "abcd", "abce", true);
    assert_cut(utf8, "abc\x7f\x7f", "abc\x7f", "abd", true);
    /* U+00FC is c3 bc: not cut in two, and raised as a character */
    assert_cut(utf8, "abc\xc3\xbcz", "abc", "abd", true);
    assert_cut(utf8, "ab\xc3\xbcz", "ab\xc3\xbc", "ab\xc3\xbd", true);
    /* U+00FF is c3 bf: its last byte cannot be raised, so the character goes */
    assert_cut(utf8, "ab\xc3\xbfz", "ab\xc3\xbf", "ac", true);
    /* U+10FFFF twice: nothing is larger */
    assert_cut(utf8, "\xf4\x8f\xbf\xbf\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf",
               "\xf4\x8f\xbf\xbf\xf4\x8f\xbf\xbf", false);
}

static void fixed_values_are_never_cut(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, PQFILE_FIXED_LEN_BYTE_ARRAY, 6, (struct pqfile_logical){0});
    pq_bounds_add(&f.bounds, "bbbbbbaaaaaacccccc", 3);
    assert_bytes(store(&f, 4)->min, "aaaaaa");
    assert_bytes(store(&f, 4)->max, "cccccc");
    end(&f);
}

static void types_without_an_agreed_order_have_no_bounds(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, PQFILE_FIXED_LEN_BYTE_ARRAY, 2,
          (struct pqfile_logical){.kind = PQFILE_LOGICAL_FLOAT16});
    pq_bounds_add(&f.bounds, "abcd", 2);
    assert_false(store(&f, 64)->has_min);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_compare_as_their_sign_says),
        cmocka_unit_test(nan_does_not_count_and_zeros_stand_for_both),
        cmocka_unit_test(infinities_are_values),
        cmocka_unit_test(bytes_compare_unsigned_and_shorter_first),
        cmocka_unit_test(pages_merge_into_their_chunk),
        cmocka_unit_test(long_values_are_cut_to_bounds),
        cmocka_unit_test(fixed_values_are_never_cut),
        cmocka_unit_test(types_without_an_agreed_order_have_no_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
