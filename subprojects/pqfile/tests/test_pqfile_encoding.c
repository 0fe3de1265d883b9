/* Tests src/encoding_*.c and src/unpack.c: what is encoded comes back, bytes of the specification's
 * examples mean what it says, and bytes that lie are refused. */
#include "pqfile_fixture.h"

#include "encoding.h"
#include "memory.h"
#include "unpack.h"

enum { COUNT_MAX = 1000 };

static const size_t counts[] = {0, 1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 128, 129, 130, 257, 1000};

#define each_count(C)                                                                              \
    for (size_t n_##C = 0; n_##C < sizeof(counts) / sizeof(counts[0]); n_##C++)                    \
        for (size_t C = counts[n_##C], once_##C = 1; once_##C; once_##C = 0)

static const struct pqfile_allocator *plain_malloc(void)
{
    static struct pqfile_allocator allocator;
    allocator = pq_allocator(NULL);
    return &allocator;
}

/* Runs of equal values between random ones, all below 2^width. */
static void fill_runs(uint32_t *values, size_t count, unsigned width, uint64_t seed)
{
    uint32_t mask = width == 32 ? UINT32_MAX : (UINT32_C(1) << width) - 1;
    for (size_t i = 0; i < count;) {
        size_t run = random_next(&seed) % 3 == 0 ? random_next(&seed) % 40 : 1;
        uint32_t value = (uint32_t)random_next(&seed) & mask;
        for (size_t end = i + run; i < end && i < count; i++)
            values[i] = value;
    }
}

static void the_hybrid_returns_every_width_and_count(void **state)
{
    (void)state;
    uint32_t values[COUNT_MAX], back[COUNT_MAX];
    for (unsigned width = 0; width <= 32; width++) {
        each_count(count)
        {
            struct pq_buffer out;
            size_t used = 0;
            pq_buffer_init(&out, plain_malloc());
            fill_runs(values, count, width, width * 1000 + count);
            pq_hybrid_encode_u32(&out, values, count, width);
            assert_false(out.failed);
            uint8_t *data = exact_copy(out.data, out.len);
            assert_int_equal(pq_hybrid_decode_u32(data, out.len, width, count, 0, back, &used), 0);
            assert_int_equal(used, out.len);
            assert_memory_equal(values, back, count * sizeof(*values));
            free(data);
            pq_buffer_dispose(&out);
        }
    }
}

static void levels_come_back_at_every_width(void **state)
{
    (void)state;
    uint32_t values[COUNT_MAX];
    uint8_t levels[COUNT_MAX], back[COUNT_MAX];
    for (unsigned width = 0; width <= 8; width++) {
        each_count(count)
        {
            struct pq_buffer out;
            size_t used = 0;
            pq_buffer_init(&out, plain_malloc());
            fill_runs(values, count, width, width * 1000 + count);
            for (size_t i = 0; i < count; i++)
                levels[i] = (uint8_t)values[i];
            size_t mark = pq_hybrid_prefix_begin(&out);
            pq_hybrid_encode_u8(&out, levels, count, width);
            pq_hybrid_prefix_end(&out, mark);
            uint32_t len = 0;
            memcpy(&len, out.data, sizeof(len));
            assert_int_equal(len, out.len - 4);
            uint8_t *data = exact_copy(out.data + 4, len);
            uint32_t limit = UINT32_C(1) << width;
            assert_int_equal(pq_hybrid_decode_u8(data, len, width, count, limit, back, &used), 0);
            assert_int_equal(used, len);
            assert_memory_equal(levels, back, count);
            free(data);
            pq_buffer_dispose(&out);
        }
    }
}

/* Encodings.md: 0 to 7 in three bits are 10001000 11000110 11111010. */
static void the_specifications_bit_packing_is_understood(void **state)
{
    (void)state;
    static const uint8_t data[] = {3, 0x88, 0xc6, 0xfa};
    uint32_t out[8];
    size_t used = 0;
    assert_int_equal(pq_hybrid_decode_u32(data, sizeof(data), 3, 8, 8, out, &used), 0);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(out[i], i);
    assert_int_equal(used, sizeof(data));
}

static void a_long_run_takes_a_few_bytes(void **state)
{
    (void)state;
    struct pq_buffer out;
    uint8_t levels[COUNT_MAX];
    memset(levels, 1, sizeof(levels));
    pq_buffer_init(&out, plain_malloc());
    pq_hybrid_encode_u8(&out, levels, COUNT_MAX, 1);
    assert_int_equal(out.len, 3);
    pq_buffer_dispose(&out);
}

static void a_last_packed_run_without_padding_is_read(void **state)
{
    (void)state;
    static const uint8_t data[] = {3, 0x88, 0x06}; /* one group of three bits, last byte missing */
    uint32_t out[5];
    size_t used = 0;
    assert_int_equal(pq_hybrid_decode_u32(data, sizeof(data), 3, 4, 8, out, &used), 0);
    assert_int_equal(out[3], 3);
    assert_int_equal(pq_hybrid_decode_u32(data, sizeof(data), 3, 5, 8, out, &used), 0);
    assert_int_equal(pq_hybrid_decode_u32(data, sizeof(data), 3, 6, 8, out, &used), PQFILE_CORRUPT);
}

static void hybrid_bytes_that_lie_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[12];
        uint32_t len;
        uint32_t width;
        uint32_t count;
    } rows[] = {
        {{0}, 0, 1, 1},        /* nothing */
        {{0x80}, 1, 1, 1},     /* head cut short */
        {{0, 1}, 2, 1, 1},     /* a run of no values */
        {{1, 1}, 2, 1, 1},     /* no groups */
        {{4}, 1, 1, 2},        /* no value */
        {{4, 1}, 2, 1, 3},     /* two of three values */
        {{4, 1, 0}, 3, 20, 2}, /* value cut short */
        {{3, 0, 0}, 3, 3, 8},  /* group cut short */
        {{4, 2}, 2, 1, 2},     /* at the limit */
        {{3, 0xff}, 2, 1, 8},  /* fine but for the limit */
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, 10, 1, 1}, /* 70 bits */
        {{4, 1}, 2, 33, 1},                                                       /* width */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t *data = exact_copy(rows[i].bytes, rows[i].len);
        uint32_t wide[8];
        uint8_t narrow[8];
        size_t used = 0;
        assert_int_equal(
            pq_hybrid_decode_u32(data, rows[i].len, rows[i].width, rows[i].count, 1, wide, &used),
            PQFILE_CORRUPT);
        assert_int_equal(
            pq_hybrid_decode_u8(data, rows[i].len, rows[i].width, rows[i].count, 1, narrow, &used),
            PQFILE_CORRUPT);
        free(data);
    }
}

static void booleans_come_back(void **state)
{
    (void)state;
    uint8_t values[COUNT_MAX], back[COUNT_MAX];
    uint64_t seed = 5;
    for (size_t i = 0; i < COUNT_MAX; i++)
        values[i] = random_next(&seed) & 1;
    each_count(count)
    {
        struct pq_buffer out;
        pq_buffer_init(&out, plain_malloc());
        pq_plain_encode_bool(&out, values, count);
        assert_int_equal(out.len, (count + 7) / 8);
        uint8_t *data = exact_copy(out.data, out.len);
        assert_int_equal(pq_plain_decode_bool(data, out.len, count, back), 0);
        assert_memory_equal(values, back, count);
        if (count != 0)
            assert_int_equal(pq_plain_decode_bool(data, out.len - 1, count, back), PQFILE_CORRUPT);
        free(data);
        pq_buffer_dispose(&out);
    }
}

static void fill_texts(struct pqfile_bytes *values, size_t count, uint8_t *pool)
{
    uint64_t seed = 9;
    for (size_t i = 0; i < COUNT_MAX + 64; i++)
        pool[i] = (uint8_t)random_next(&seed);
    for (size_t i = 0; i < count; i++)
        values[i] =
            (struct pqfile_bytes){pool + random_next(&seed) % COUNT_MAX, random_next(&seed) % 60};
}

static void assert_texts_equal(const struct pqfile_bytes *a, const struct pqfile_bytes *b,
                               size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(a[i].len, b[i].len);
        assert_memory_equal(a[i].data, b[i].data, a[i].len);
    }
}

static void byte_arrays_come_back_and_short_ones_are_refused(void **state)
{
    (void)state;
    static uint8_t pool[COUNT_MAX + 64];
    static struct pqfile_bytes values[COUNT_MAX], back[COUNT_MAX];
    struct pq_buffer out;
    pq_buffer_init(&out, plain_malloc());
    fill_texts(values, 50, pool);
    pq_plain_encode_bytes(&out, values, 50);
    assert_int_equal(pq_plain_decode_bytes(out.data, out.len, 50, back), 0);
    assert_texts_equal(values, back, 50);
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *data = exact_copy(out.data, len);
        assert_int_equal(pq_plain_decode_bytes(data, len, 50, back), PQFILE_CORRUPT);
        free(data);
    }
    pq_buffer_dispose(&out);
}

/* Of every magnitude, so that miniblocks have every width; extremes wrap. */
static int64_t any_delta_value(uint64_t *seed, size_t i)
{
    uint64_t value = random_next(seed) >> (random_next(seed) % 64);
    if (i % 97 == 5)
        return INT64_MIN;
    if (i % 97 == 6)
        return INT64_MAX;
    return i % 3 == 0 ? -(int64_t)(value >> 1) : (int64_t)(value >> 1);
}

static void deltas_of_64_bits_come_back_and_short_ones_are_refused(void **state)
{
    (void)state;
    static int64_t values[COUNT_MAX], back[COUNT_MAX];
    uint64_t seed = 3;
    for (size_t i = 0; i < COUNT_MAX; i++)
        values[i] = any_delta_value(&seed, i);
    each_count(count)
    {
        struct pq_buffer out;
        size_t used = 0;
        pq_buffer_init(&out, plain_malloc());
        pq_delta_encode_i64(&out, values, count);
        pq_buffer_add_byte(&out, 0xee); /* what comes behind is not touched */
        assert_int_equal(pq_delta_decode_i64(out.data, out.len, count, back, &used), 0);
        assert_int_equal(used, out.len - 1);
        assert_memory_equal(values, back, count * sizeof(*values));
        for (size_t len = count == 0 ? 1 : 0; len < used; len++) {
            uint8_t *data = exact_copy(out.data, len);
            size_t ignored = 0;
            assert_int_equal(pq_delta_decode_i64(data, len, count, back, &ignored), PQFILE_CORRUPT);
            free(data);
        }
        pq_buffer_dispose(&out);
    }
}

static void deltas_of_32_bits_come_back_in_32_bits(void **state)
{
    (void)state;
    static int32_t values[COUNT_MAX], back[COUNT_MAX];
    static int64_t wide[COUNT_MAX];
    uint64_t seed = 4;
    for (size_t i = 0; i < COUNT_MAX; i++)
        values[i] = (int32_t)(i % 50 == 7   ? INT32_MIN
                              : i % 50 == 8 ? INT32_MAX
                                            : any_delta_value(&seed, i));
    each_count(count)
    {
        struct pq_buffer out;
        size_t used = 0;
        pq_buffer_init(&out, plain_malloc());
        pq_delta_encode_i32(&out, values, count);
        uint8_t *data = exact_copy(out.data, out.len);
        assert_int_equal(pq_delta_decode_i32(data, out.len, count, back, &used), 0);
        assert_int_equal(used, out.len);
        assert_memory_equal(values, back, count * sizeof(*values));
        assert_int_equal(pq_delta_decode_i64(data, out.len, count, wide, &used), 0);
        for (size_t i = 0; i < count; i++)
            assert_int_equal((uint32_t)wide[i], (uint32_t)values[i]);
        free(data);
        pq_buffer_dispose(&out);
    }
}

/* Encodings.md: 7, 5, 3, 1, 2, 3, 4, 5 have smallest delta -2 and packed deltas of two bits. */
static void the_specifications_deltas_are_written_and_read(void **state)
{
    (void)state;
    static const int32_t values[] = {7, 5, 3, 1, 2, 3, 4, 5};
    static const uint8_t head[] = {0x80, 1, 4, 8, 14, 3, 2, 0, 0, 0, 0xc0, 0x3f, 0, 0, 0, 0, 0, 0};
    struct pq_buffer out;
    int32_t back[8];
    size_t used = 0;
    pq_buffer_init(&out, plain_malloc());
    pq_delta_encode_i32(&out, values, 8);
    assert_int_equal(out.len, sizeof(head));
    assert_memory_equal(out.data, head, sizeof(head));
    assert_int_equal(pq_delta_decode_i32(head, sizeof(head), 8, back, &used), 0);
    assert_memory_equal(values, back, sizeof(values));
    pq_buffer_dispose(&out);
}

static void delta_heads_that_lie_are_refused(void **state)
{
    (void)state;
    static const uint8_t rows[][8] = {
        {0, 4, 8, 14},                      /* blocks of nothing */
        {0x80, 1, 0, 8, 14},                /* no miniblocks */
        {0x80, 1, 3, 8, 14},                /* that do not divide */
        {0x40, 4, 8, 14},                   /* miniblocks of 16 */
        {0x80, 1, 4, 9, 14},                /* another count than the page's */
        {0x80, 0x80, 0x80, 0x10, 4, 8, 14}, /* a block too large */
        {0x80, 1, 4, 8, 14, 3, 65},         /* wider than the type */
    };
    int32_t out[8];
    size_t used = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(pq_delta_decode_i32(rows[i], sizeof(rows[i]), 8, out, &used),
                         PQFILE_CORRUPT);
}

/* "Hello", "World", "Foobar", "ABCDEF" as Encodings.md has them; then with prefixes. */
static void byte_arrays_of_deltas_are_read(void **state)
{
    (void)state;
    static const int32_t lengths[] = {5, 5, 6, 6}, prefixes[] = {0, 2, 0, 3};
    static const char *const joined[] = {"Hello", "HeWorld", "Foobar", "FooABCDEF"};
    struct pq_buffer out, text;
    struct pqfile_bytes back[4];
    pq_buffer_init(&out, plain_malloc());
    pq_buffer_init(&text, plain_malloc());
    pq_delta_encode_i32(&out, lengths, 4);
    pq_buffer_add(&out, "HelloWorldFoobarABCDEF", 22);
    assert_int_equal(pq_delta_length_decode(out.data, out.len, 4, back), 0);
    assert_int_equal(back[2].len, 6);
    assert_memory_equal(back[2].data, "Foobar", 6);
    for (size_t len = 0; len < out.len; len++)
        assert_int_equal(pq_delta_length_decode(out.data, len, 4, back), PQFILE_CORRUPT);

    pq_buffer_clear(&out);
    pq_delta_encode_i32(&out, prefixes, 4);
    pq_delta_encode_i32(&out, lengths, 4);
    pq_buffer_add(&out, "HelloWorldFoobarABCDEF", 22);
    assert_int_equal(pq_delta_bytes_decode(out.data, out.len, 4, 27, &text, back), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(back[i].len, strlen(joined[i]));
        assert_memory_equal(back[i].data, joined[i], back[i].len);
    }
    pq_buffer_clear(&text);
    assert_int_equal(pq_delta_bytes_decode(out.data, out.len, 4, 26, &text, back), PQFILE_LIMIT);
    for (size_t len = 0; len < out.len; len++)
        assert_int_equal(pq_delta_bytes_decode(out.data, len, 4, 100, &text, back), PQFILE_CORRUPT);
    pq_buffer_dispose(&out);
    pq_buffer_dispose(&text);
}

static void a_prefix_longer_than_the_value_before_is_refused(void **state)
{
    (void)state;
    static const int32_t lengths[] = {2, 2}, prefixes[] = {0, 3};
    struct pq_buffer out, text;
    struct pqfile_bytes back[2];
    pq_buffer_init(&out, plain_malloc());
    pq_buffer_init(&text, plain_malloc());
    pq_delta_encode_i32(&out, prefixes, 2);
    pq_delta_encode_i32(&out, lengths, 2);
    pq_buffer_add(&out, "abcd", 4);
    assert_int_equal(pq_delta_bytes_decode(out.data, out.len, 2, 100, &text, back), PQFILE_CORRUPT);
    pq_buffer_dispose(&out);
    pq_buffer_dispose(&text);
}

static void split_streams_come_back_at_every_width(void **state)
{
    (void)state;
    static uint8_t values[COUNT_MAX * 16], back[COUNT_MAX * 16];
    uint64_t seed = 6;
    for (size_t i = 0; i < sizeof(values); i++)
        values[i] = (uint8_t)random_next(&seed);
    for (size_t width = 1; width <= 16; width++) {
        each_count(count)
        {
            struct pq_buffer out;
            pq_buffer_init(&out, plain_malloc());
            pq_split_encode(&out, values, count, width);
            assert_int_equal(out.len, count * width);
            if (count > 1) {
                assert_int_equal(out.data[1], values[width]);
                assert_int_equal(out.data[count * (width - 1)], values[width - 1]);
            }
            uint8_t *data = exact_copy(out.data, out.len);
            assert_int_equal(pq_split_decode(data, out.len, count, width, back), 0);
            assert_memory_equal(values, back, count * width);
            if (count != 0)
                assert_int_equal(pq_split_decode(data, out.len - 1, count, width, back),
                                 PQFILE_CORRUPT);
            free(data);
            pq_buffer_dispose(&out);
        }
    }
    assert_int_equal(pq_split_decode(values, 16, SIZE_MAX / 2, 4, back), PQFILE_CORRUPT);
}

static void unpacking_reads_nothing_behind_the_end(void **state)
{
    (void)state;
    for (unsigned width = 0; width <= 64; width++) {
        uint64_t values[40], back[40], seed = width;
        uint8_t packed[40 * 8 + 8];
        struct pq_packer packer = {.to = packed};
        for (size_t i = 0; i < 40; i++) {
            values[i] = width == 0 ? 0 : random_next(&seed) >> (64 - width);
            pq_pack(&packer, values[i], width);
        }
        pq_pack_flush(&packer);
        assert_int_equal(packer.to - packed, 5 * width);
        uint8_t *data = exact_copy(packed, 5 * width);
        pq_unpack_u64(data, data + 5 * width, 5, width, back);
        assert_memory_equal(values, back, sizeof(values));
        free(data);
    }
}

static void bit_widths_are_those_of_the_largest_value(void **state)
{
    (void)state;
    assert_int_equal(pq_bit_width(0), 0);
    assert_int_equal(pq_bit_width(1), 1);
    assert_int_equal(pq_bit_width(2), 2);
    assert_int_equal(pq_bit_width(3), 2);
    assert_int_equal(pq_bit_width(255), 8);
    assert_int_equal(pq_bit_width(UINT32_MAX), 32);
}

static void encode_everything(struct pq_buffer *out)
{
    static const uint32_t indices[300] = {1, 2, 3};
    static const int64_t numbers[300] = {1, 2, 3};
    static const struct pqfile_bytes text = {(const uint8_t *)"abc", 3};
    pq_hybrid_encode_u32(out, indices, 300, 12);
    pq_delta_encode_i64(out, numbers, 300);
    pq_plain_encode_bytes(out, &text, 1);
    pq_plain_encode_bool(out, (const uint8_t *)numbers, 1000);
    pq_split_encode(out, numbers, 300, 8);
    size_t mark = pq_hybrid_prefix_begin(out);
    pq_hybrid_prefix_end(out, mark);
}

static void a_failed_allocation_sticks_to_the_buffer(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct faulty faulty = {.failing = n};
        struct pqfile_allocator allocator = faulty_allocator(&faulty);
        struct pq_buffer out;
        pq_buffer_init(&out, &allocator);
        encode_everything(&out);
        bool failed = out.failed;
        pq_buffer_dispose(&out);
        assert_int_equal(faulty.live, 0);
        assert_true(failed == (faulty.calls >= n));
        if (!failed) {
            assert_true(n > 3);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hybrid_returns_every_width_and_count),
        cmocka_unit_test(levels_come_back_at_every_width),
        cmocka_unit_test(the_specifications_bit_packing_is_understood),
        cmocka_unit_test(a_long_run_takes_a_few_bytes),
        cmocka_unit_test(a_last_packed_run_without_padding_is_read),
        cmocka_unit_test(hybrid_bytes_that_lie_are_refused),
        cmocka_unit_test(booleans_come_back),
        cmocka_unit_test(byte_arrays_come_back_and_short_ones_are_refused),
        cmocka_unit_test(deltas_of_64_bits_come_back_and_short_ones_are_refused),
        cmocka_unit_test(deltas_of_32_bits_come_back_in_32_bits),
        cmocka_unit_test(the_specifications_deltas_are_written_and_read),
        cmocka_unit_test(delta_heads_that_lie_are_refused),
        cmocka_unit_test(byte_arrays_of_deltas_are_read),
        cmocka_unit_test(a_prefix_longer_than_the_value_before_is_refused),
        cmocka_unit_test(split_streams_come_back_at_every_width),
        cmocka_unit_test(unpacking_reads_nothing_behind_the_end),
        cmocka_unit_test(bit_widths_are_those_of_the_largest_value),
        cmocka_unit_test(a_failed_allocation_sticks_to_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
