/* Tests src/codec.c: what is compressed comes back, and only at the length that was promised. */
#include "pqfile_fixture.h"

#include <zlib.h>

#include "codec.h"
#include "memory.h"

enum { LEN = 20000 };

static const enum pqfile_codec writable[] = {PQFILE_UNCOMPRESSED, PQFILE_SNAPPY, PQFILE_LZ4_RAW,
                                             PQFILE_ZSTD};
enum { WRITABLE_COUNT = sizeof(writable) / sizeof(writable[0]) };

static void fill(uint8_t *data, size_t len)
{
    uint64_t seed = 8;
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i % 100 < 60 ? i / 100 : random_next(&seed));
}

static size_t gzip(const uint8_t *data, size_t len, uint8_t *out, size_t capacity)
{
    z_stream z = {0};
    uint8_t *input = NULL;
    memcpy(&input, &data, sizeof(input));
    assert_int_equal(
        deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY),
        Z_OK);
    z.next_in = input;
    z.avail_in = (unsigned)len;
    z.next_out = out;
    z.avail_out = (unsigned)capacity;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t bytes = z.total_out;
    assert_int_equal(deflateEnd(&z), Z_OK);
    return bytes;
}

/* The bytes come back; at another length, or cut short, they are refused. */
static void assert_comes_back(enum pqfile_codec codec, const uint8_t *stored, size_t stored_len,
                              const uint8_t *raw, size_t raw_len)
{
    uint8_t *from = exact_copy(stored, stored_len);
    uint8_t *out = calloc(1, raw_len + 1);
    assert_non_null(out);
    assert_int_equal(pq_decompress(codec, from, stored_len, out, raw_len), 0);
    assert_memory_equal(out, raw, raw_len);
    assert_int_equal(pq_decompress(codec, from, stored_len, out, raw_len + 1), PQFILE_CORRUPT);
    if (raw_len != 0)
        assert_int_equal(pq_decompress(codec, from, stored_len, out, raw_len - 1), PQFILE_CORRUPT);
    for (size_t len = 1; len < stored_len; len += len < 40 ? 1 : 97) {
        uint8_t *cut = exact_copy(stored, len);
        assert_int_equal(pq_decompress(codec, cut, len, out, raw_len), PQFILE_CORRUPT);
        free(cut);
    }
    free(from);
    free(out);
}

static void every_codec_returns_what_it_was_given(void **state)
{
    (void)state;
    static uint8_t data[LEN];
    static const size_t lengths[] = {0, 1, 100, LEN};
    struct pqfile_allocator allocator = pq_allocator(NULL);
    fill(data, LEN);
    for (size_t c = 0; c < WRITABLE_COUNT; c++)
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            struct pq_buffer out;
            pq_buffer_init(&out, &allocator);
            pq_buffer_add(&out, "head", 4); /* appends */
            assert_int_equal(pq_compress(writable[c], 0, data, lengths[i], &out), 0);
            assert_memory_equal(out.data, "head", 4);
            if (writable[c] != PQFILE_UNCOMPRESSED && lengths[i] == LEN)
                assert_true(out.len < LEN * 3 / 4);
            assert_comes_back(writable[c], out.data + 4, out.len - 4, data, lengths[i]);
            pq_buffer_dispose(&out);
        }
}

static void zstd_levels_count(void **state)
{
    (void)state;
    static uint8_t data[LEN];
    struct pqfile_allocator allocator = pq_allocator(NULL);
    struct pq_buffer fast, small;
    fill(data, LEN);
    pq_buffer_init(&fast, &allocator);
    pq_buffer_init(&small, &allocator);
    assert_int_equal(pq_compress(PQFILE_ZSTD, 1, data, LEN, &fast), 0);
    assert_int_equal(pq_compress(PQFILE_ZSTD, 19, data, LEN, &small), 0);
    assert_int_not_equal(fast.len, small.len);
    assert_comes_back(PQFILE_ZSTD, small.data, small.len, data, LEN);
    pq_buffer_dispose(&fast);
    pq_buffer_dispose(&small);
}

static void gzip_is_read_in_one_member_or_several(void **state)
{
    (void)state;
    static uint8_t data[LEN], stored[LEN * 2];
    fill(data, LEN);
    size_t len = gzip(data, LEN, stored, sizeof(stored));
    assert_comes_back(PQFILE_GZIP, stored, len, data, LEN);
    len = gzip(data, 1000, stored, sizeof(stored));
    len += gzip(data + 1000, LEN - 1000, stored + len, sizeof(stored) - len);
    assert_comes_back(PQFILE_GZIP, stored, len, data, LEN);
}

static void other_bytes_are_refused(void **state)
{
    (void)state;
    static const enum pqfile_codec codecs[] = {PQFILE_SNAPPY, PQFILE_LZ4_RAW, PQFILE_ZSTD,
                                               PQFILE_GZIP};
    uint64_t seed = 11;
    uint8_t out[256];
    for (size_t round = 0; round < 2000; round++) {
        uint8_t bytes[32];
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)random_next(&seed);
        size_t len = 1 + round % sizeof(bytes);
        uint8_t *data = exact_copy(bytes, len);
        for (size_t c = 0; c < 4; c++) {
            int rc = pq_decompress(codecs[c], data, len, out, sizeof(out));
            assert_true(rc == PQFILE_CORRUPT || rc == PQFILE_OK);
        }
        free(data);
    }
}

static void codecs_that_are_not_known_are_said_to_be(void **state)
{
    (void)state;
    uint8_t out[4];
    assert_int_equal(pq_decompress(PQFILE_BROTLI, "abcd", 4, out, 4), PQFILE_UNSUPPORTED);
    assert_false(pq_codec_is_readable(PQFILE_LZO));
    assert_false(pq_codec_is_readable(PQFILE_LZ4));
    assert_true(pq_codec_is_readable(PQFILE_GZIP));
    assert_false(pq_codec_is_writable(PQFILE_GZIP));
}

static void without_memory_nothing_is_added(void **state)
{
    (void)state;
    static uint8_t data[LEN];
    for (size_t c = 0; c < WRITABLE_COUNT; c++) {
        struct faulty faulty = {.failing = 1};
        struct pqfile_allocator allocator = faulty_allocator(&faulty);
        struct pq_buffer out;
        pq_buffer_init(&out, &allocator);
        assert_int_equal(pq_compress(writable[c], 0, data, LEN, &out), PQFILE_NO_MEMORY);
        assert_int_equal(out.len, 0);
        assert_int_equal(faulty.live, 0);
    }
}

static void more_than_two_gigabytes_are_refused(void **state)
{
    (void)state;
    struct pqfile_allocator allocator = pq_allocator(NULL);
    struct pq_buffer out;
    pq_buffer_init(&out, &allocator);
    assert_int_equal(pq_compress(PQFILE_ZSTD, 0, "", (size_t)INT32_MAX + 1, &out), PQFILE_LIMIT);
    assert_null(out.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_codec_returns_what_it_was_given),
        cmocka_unit_test(zstd_levels_count),
        cmocka_unit_test(gzip_is_read_in_one_member_or_several),
        cmocka_unit_test(other_bytes_are_refused),
        cmocka_unit_test(codecs_that_are_not_known_are_said_to_be),
        cmocka_unit_test(without_memory_nothing_is_added),
        cmocka_unit_test(more_than_two_gigabytes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
