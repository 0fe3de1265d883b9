/* The picker of merges, by what it costs over thousands of flushes and by single decisions. */
#include "engine/compaction.h"

#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SEGMENTS = 256, ROW_BYTES = 600 };
#define MIB ((uint64_t)1 << 20)

struct shard {
    struct compaction_segment segments[SEGMENTS];
    uint32_t count;
    uint64_t next_number, flushed, written;
    uint32_t count_max;
    uint64_t count_sum;
};

static void add(struct shard *s, uint64_t bytes, uint64_t rows)
{
    assert_true(s->count < SEGMENTS);
    s->segments[s->count++] = (struct compaction_segment){
        .number = ++s->next_number, .rows = rows, .live_rows = rows, .bytes = bytes};
}

/* Carries one decision out. */
static void merge(struct shard *s, const uint32_t *picked, uint32_t count)
{
    bool gone[SEGMENTS] = {false};
    uint64_t bytes = 0, rows = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct compaction_segment *one = &s->segments[picked[i]];
        assert_true(picked[i] < s->count && !gone[picked[i]]);
        gone[picked[i]] = true;
        bytes += one->rows != 0 ? one->bytes * one->live_rows / one->rows : 0;
        rows += one->live_rows;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->count; i++)
        if (!gone[i])
            s->segments[kept++] = s->segments[i];
    s->count = kept;
    s->written += bytes;
    if (rows != 0)
        add(s, bytes, rows);
}

static void settle(struct shard *s, enum compaction_pace pace)
{
    struct compaction_options options = {.pace = pace};
    uint32_t picked[SEGMENTS], count;
    for (unsigned i = 0; i < 1000; i++) {
        count = compaction_pick(s->segments, s->count, &options, picked);
        if (count == 0)
            return;
        merge(s, picked, count);
    }
    fail_msg("the merges do not end");
}

static void flush(struct shard *s, uint64_t bytes)
{
    add(s, bytes, bytes / ROW_BYTES + 1);
    s->flushed += bytes;
    s->written += bytes;
    settle(s, COMPACTION_BUSY);
    s->count_sum += s->count;
    if (s->count > s->count_max)
        s->count_max = s->count;
}

static double amplification(const struct shard *s)
{
    return (double)s->written / (double)s->flushed;
}

enum sizes { EVEN, SPREAD, TWO_KINDS };

static uint64_t next_size(struct rng *rng, enum sizes sizes)
{
    if (sizes == EVEN)
        return 64 * MIB + rng_below(rng, 192 * MIB);
    if (sizes == SPREAD)
        return (uint64_t)(exp(rng_unit(rng) * log(256)) * (double)MIB);
    return (rng_below(rng, 2) != 0 ? 200 : 1) * MIB;
}

struct outcome {
    double busy, quiet, idle, count_mean;
    uint32_t count_max, count_quiet;
};

static struct outcome run(uint64_t seed, uint32_t flushes, enum sizes sizes)
{
    struct shard s = {0};
    struct rng rng;
    struct outcome o;
    rng_seed(&rng, seed);
    for (uint32_t i = 0; i < flushes; i++)
        flush(&s, next_size(&rng, sizes));
    o.busy = amplification(&s);
    o.count_max = s.count_max;
    o.count_mean = (double)s.count_sum / flushes;
    settle(&s, COMPACTION_QUIET);
    o.quiet = amplification(&s);
    o.count_quiet = s.count;
    settle(&s, COMPACTION_IDLE);
    o.idle = amplification(&s);
    assert_int_equal(s.count, 1);
    return o;
}

/* Over 20 seeds: the worst of each number. */
static struct outcome worst_of(uint32_t flushes, enum sizes sizes)
{
    struct outcome worst = {0};
    double busy = 0, idle = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct outcome o = run(seed, flushes, sizes);
        busy += o.busy / 20;
        idle += o.idle / 20;
        worst.busy = fmax(worst.busy, o.busy);
        worst.quiet = fmax(worst.quiet, o.quiet);
        worst.idle = fmax(worst.idle, o.idle);
        worst.count_mean = fmax(worst.count_mean, o.count_mean);
        worst.count_max = o.count_max > worst.count_max ? o.count_max : worst.count_max;
        worst.count_quiet = o.count_quiet > worst.count_quiet ? o.count_quiet : worst.count_quiet;
    }
    static const char *const names[] = {"64-256 MiB", "1-256 MiB", "1 or 200 MiB"};
    print_message("    %4u flushes of %-12s written per byte: busy %.2f (worst %.2f), one segment "
                  "%.2f (%.2f); segments: mean %.1f, most %u\n",
                  flushes, names[sizes], busy, worst.busy, idle, worst.idle, worst.count_mean,
                  worst.count_max);
    return worst;
}

static void pure_inserts_are_written_less_than_four_times(void **state)
{
    (void)state;
    static const uint32_t flushes[] = {1, 5, 8, 9, 20, 50, 64, 65, 72, 100};
    for (size_t i = 0; i < sizeof(flushes) / sizeof(flushes[0]); i++) {
        struct outcome o = worst_of(flushes[i], EVEN);
        assert_true(o.idle < 4); /* with the last merge into one */
        assert_true(o.busy < 3);
        assert_true(o.count_max <= 12);
        assert_true(o.count_quiet <= 8);
    }
}

static void thousands_of_flushes_of_any_sizes_stay_cheap_and_few(void **state)
{
    (void)state;
    for (int sizes = EVEN; sizes <= TWO_KINDS; sizes++) {
        for (uint32_t flushes = 100; flushes <= 3000; flushes *= 5) {
            struct outcome o = worst_of(flushes, (enum sizes)sizes);
            /* a constant for each doubling of the number of flushes */
            assert_true(o.busy < 1 + 0.45 * log2((double)flushes));
            assert_true(o.count_max <= 12);
            assert_true(o.count_quiet <= 8);
        }
    }
}

static uint32_t pick(const struct shard *s, enum compaction_pace pace, uint32_t picked[SEGMENTS])
{
    return compaction_pick(s->segments, s->count, &(struct compaction_options){.pace = pace},
                           picked);
}

static void nothing_is_picked_of_nothing_or_of_little(void **state)
{
    (void)state;
    struct shard s = {0};
    uint32_t picked[SEGMENTS];
    assert_int_equal(pick(&s, COMPACTION_IDLE, picked), 0);
    add(&s, 100 * MIB, 1000);
    assert_int_equal(pick(&s, COMPACTION_IDLE, picked), 0);
    for (int i = 0; i < 6; i++)
        add(&s, 100 * MIB, 1000);
    assert_int_equal(pick(&s, COMPACTION_QUIET, picked), 0);
    assert_int_equal(pick(&s, COMPACTION_IDLE, picked), 7);
}

static void a_huge_segment_is_not_written_again_for_a_small_one_unless_idle(void **state)
{
    (void)state;
    struct shard s = {0};
    uint32_t picked[SEGMENTS];
    add(&s, 100000 * MIB, 1000000);
    for (uint64_t i = 0, bytes = 1; i < 13; i++, bytes = bytes * 5 / 2)
        add(&s, bytes * MIB, 1000);
    uint32_t count = pick(&s, COMPACTION_BUSY, picked);
    assert_true(count >= 2);
    for (uint32_t i = 0; i < count; i++)
        assert_int_not_equal(picked[i], 0);
    settle(&s, COMPACTION_QUIET);
    assert_true(s.count <= 8);
    assert_true(s.written < 20000 * MIB);
    assert_int_equal(pick(&s, COMPACTION_IDLE, picked), s.count);
}

static void dead_rows_over_a_fifth_are_worth_a_rewrite_alone(void **state)
{
    (void)state;
    struct shard s = {0};
    uint32_t picked[SEGMENTS];
    add(&s, 100 * MIB, 1000);
    add(&s, 1000 * MIB, 10000);
    s.segments[1].live_rows = 8000;
    assert_int_equal(pick(&s, COMPACTION_BUSY, picked), 0);
    s.segments[1].live_rows = 7999;
    assert_int_equal(pick(&s, COMPACTION_BUSY, picked), 1);
    assert_int_equal(picked[0], 1);
    s.segments[0].live_rows = 700; /* worse */
    assert_int_equal(pick(&s, COMPACTION_BUSY, picked), 1);
    assert_int_equal(picked[0], 0);
    settle(&s, COMPACTION_BUSY);
    assert_int_equal(s.count, 2);
}

static void segments_without_live_rows_go_with_what_is_merged(void **state)
{
    (void)state;
    struct shard s = {0};
    uint32_t picked[SEGMENTS];
    for (int i = 0; i < 20; i++)
        add(&s, 100 * MIB, 1000);
    s.segments[7].live_rows = s.segments[13].live_rows = s.segments[2].live_rows = 0;
    s.segments[2].busy = true;
    assert_int_equal(pick(&s, COMPACTION_BUSY, picked), 19);
    assert_int_equal(picked[0], 7);
    assert_int_equal(picked[1], 13);
    merge(&s, picked, 19);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.segments[1].rows, 17 * 1000);
}

static void segments_without_live_rows_go_alone_when_nothing_is_merged(void **state)
{
    (void)state;
    struct shard s = {0};
    uint32_t picked[SEGMENTS];
    for (int i = 0; i < 3; i++)
        add(&s, 100 * MIB, 1000);
    s.segments[1].live_rows = s.segments[2].live_rows = 0;
    assert_int_equal(pick(&s, COMPACTION_BUSY, picked), 2);
    assert_int_equal(picked[0], 1);
    assert_int_equal(picked[1], 2);
    s.segments[0].live_rows = 0;
    assert_int_equal(pick(&s, COMPACTION_IDLE, picked), 3);
}

/* Few rows that are written again and again: each flush ends the rows of another segment. However
 * slow merges are beside flushes, the others are merged, too. */
static void a_segment_that_dies_with_every_flush_keeps_none_from_being_merged(void **state)
{
    (void)state;
    struct shard s = {0};
    uint32_t picked[SEGMENTS];
    struct compaction_options options = {.pace = COMPACTION_BUSY};
    for (uint32_t i = 0; i < 200; i++) {
        add(&s, MIB, 1000);
        for (uint32_t j = 0; j + 3 < s.count; j++)
            if (s.segments[j].number + 20 == s.next_number)
                s.segments[j].live_rows = 0;
        merge(&s, picked, compaction_pick(s.segments, s.count, &options, picked));
        assert_true(s.count <= 12);
    }
}

static void busy_segments_are_left_alone_and_count_as_one(void **state)
{
    (void)state;
    struct shard s = {0};
    uint32_t picked[SEGMENTS];
    for (uint64_t i = 0; i < 15; i++)
        add(&s, ((uint64_t)1 << (2 * i)) * 5, 1000); /* no tier */
    for (int i = 0; i < 3; i++)
        s.segments[i].busy = true;
    uint32_t count = pick(&s, COMPACTION_BUSY, picked); /* 12 and one being made */
    assert_int_equal(count, 2);
    assert_int_equal(picked[0], 3);
    assert_int_equal(picked[1], 4);
    s.segments[3].busy = true;
    assert_int_equal(pick(&s, COMPACTION_BUSY, picked), 0);
    for (int i = 0; i < 15; i++)
        s.segments[i].busy = true;
    assert_int_equal(pick(&s, COMPACTION_IDLE, picked), 0);
}

static void merges_respect_the_largest_number_of_rows(void **state)
{
    (void)state;
    struct shard s = {0};
    uint32_t picked[SEGMENTS];
    struct compaction_options options = {.rows_max = 2500, .pace = COMPACTION_IDLE};
    for (int i = 0; i < 20; i++)
        add(&s, 100 * MIB, 1000);
    for (uint32_t count; (count = compaction_pick(s.segments, s.count, &options, picked)) != 0;) {
        assert_int_equal(count, 2);
        merge(&s, picked, count);
    }
    assert_int_equal(s.count, 10);
}

static void the_answer_does_not_depend_on_the_order_of_the_segments(void **state)
{
    (void)state;
    struct shard s = {0}, reversed = {0};
    struct rng rng;
    uint32_t a[SEGMENTS], b[SEGMENTS];
    rng_seed(&rng, 5);
    for (int i = 0; i < 30; i++)
        add(&s, (1 + rng_below(&rng, 40)) * MIB, 1000);
    reversed.count = s.count;
    for (uint32_t i = 0; i < s.count; i++)
        reversed.segments[s.count - 1 - i] = s.segments[i];
    uint32_t count = pick(&s, COMPACTION_BUSY, a);
    assert_true(count >= 8);
    assert_int_equal(pick(&reversed, COMPACTION_BUSY, b), count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(s.segments[a[i]].number, reversed.segments[b[i]].number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pure_inserts_are_written_less_than_four_times),
        cmocka_unit_test(thousands_of_flushes_of_any_sizes_stay_cheap_and_few),
        cmocka_unit_test(nothing_is_picked_of_nothing_or_of_little),
        cmocka_unit_test(a_huge_segment_is_not_written_again_for_a_small_one_unless_idle),
        cmocka_unit_test(dead_rows_over_a_fifth_are_worth_a_rewrite_alone),
        cmocka_unit_test(segments_without_live_rows_go_with_what_is_merged),
        cmocka_unit_test(segments_without_live_rows_go_alone_when_nothing_is_merged),
        cmocka_unit_test(a_segment_that_dies_with_every_flush_keeps_none_from_being_merged),
        cmocka_unit_test(busy_segments_are_left_alone_and_count_as_one),
        cmocka_unit_test(merges_respect_the_largest_number_of_rows),
        cmocka_unit_test(the_answer_does_not_depend_on_the_order_of_the_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
