/* src/wal/wal_format.c, wal_body.c and wal_avro.c: bytes and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/rng.h"
#include "wal_fixture.h"

#include <avro.h>

static const struct uuid log_uuid = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const struct uuid segment_uuid = {
    {0xa0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xb0}};

static const struct wal_segment_header segment_header = {.format = WAL_FORMAT_VERSION,
                                                         .block_bytes = 4096,
                                                         .log = {{1}},
                                                         .segment = {{2}},
                                                         .seq = 77,
                                                         .size = 64 << 20};
static const struct wal_group_header group_header = {.record_count = 3,
                                                     .group_seq = 9,
                                                     .first_lsn = 100,
                                                     .time_us = 1700000000000000,
                                                     .body_len = 640,
                                                     .prev_group_crc = 0xdeadbeef,
                                                     .begin = {5, 7, 90, 0xfeedf00d}};
static const struct wal_record_header record_header = {.len = 256,
                                                       .body_len = 100,
                                                       .type = 1,
                                                       .encoding = 1,
                                                       .shard = 5,
                                                       .row_count = 2,
                                                       .version = 1234567};

static void a_segment_header_reads_back_as_written(void **state)
{
    (void)state;
    uint8_t block[WAL_SEGMENT_HEADER_BYTES];
    struct wal_segment_header back;
    wal_segment_header_put(&segment_header, block);
    assert_int_equal(wal_segment_header_get(block, sizeof(block), &back), WAL_VALID);
    assert_int_equal(back.seq, 77);
    assert_int_equal(back.size, 64 << 20);
    assert_int_equal(back.block_bytes, 4096);
    assert_memory_equal(&back.log, &segment_header.log, 16);
    assert_memory_equal(&back.segment, &segment_header.segment, 16);
    assert_int_equal(wal_segment_header_get(block, sizeof(block) - 1, &back), WAL_INVALID);
}

static void a_group_header_reads_back_as_written(void **state)
{
    (void)state;
    uint8_t bytes[WAL_GROUP_HEADER_BYTES];
    struct wal_group_header back;
    uint32_t crc = wal_group_header_put(&group_header, &segment_uuid, bytes);
    assert_int_equal(wal_group_header_get(bytes, sizeof(bytes), &segment_uuid, &back), WAL_VALID);
    assert_int_equal(back.crc, crc);
    assert_int_equal(back.record_count, 3);
    assert_int_equal(back.group_seq, 9);
    assert_int_equal(back.first_lsn, 100);
    assert_int_equal(back.time_us, 1700000000000000);
    assert_int_equal(back.body_len, 640);
    assert_int_equal(back.prev_group_crc, 0xdeadbeef);
    assert_int_equal(back.begin.seq, 5);
    assert_int_equal(back.begin.group_seq, 7);
    assert_int_equal(back.begin.lsn, 90);
    assert_int_equal(back.begin.prev_group_crc, 0xfeedf00d);
    assert_int_equal(back.header_len, WAL_GROUP_HEADER_BYTES);
}

static void a_beginning_behind_the_group_itself_is_no_header(void **state)
{
    (void)state;
    uint8_t bytes[WAL_GROUP_HEADER_BYTES];
    static const struct wal_begin begins[] = {
        {5, 10, 90, 0}, {5, 7, 101, 0}, {5, 0, 90, 0}, {5, 7, 0, 0}};
    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
        struct wal_group_header header = group_header, back;
        header.begin = begins[i];
        wal_group_header_put(&header, &segment_uuid, bytes);
        assert_int_equal(wal_group_header_get(bytes, sizeof(bytes), &segment_uuid, &back),
                         WAL_INVALID);
    }
    /* itself is the first */
    struct wal_group_header header = group_header, back;
    header.begin = (struct wal_begin){5, 9, 100, 0xdeadbeef};
    wal_group_header_put(&header, &segment_uuid, bytes);
    assert_int_equal(wal_group_header_get(bytes, sizeof(bytes), &segment_uuid, &back), WAL_VALID);
}

static void a_record_header_reads_back_as_written(void **state)
{
    (void)state;
    uint8_t bytes[WAL_RECORD_HEADER_BYTES];
    struct wal_record_header back;
    wal_record_header_put(&record_header, &segment_uuid, 100, bytes);
    assert_int_equal(wal_record_header_get(bytes, sizeof(bytes), &segment_uuid, 100, &back),
                     WAL_VALID);
    assert_int_equal(back.len, 256);
    assert_int_equal(back.body_len, 100);
    assert_int_equal(back.type, 1);
    assert_int_equal(back.encoding, 1);
    assert_int_equal(back.shard, 5);
    assert_int_equal(back.row_count, 2);
    assert_int_equal(back.version, 1234567);
}

static void every_flipped_bit_of_a_header_is_detected(void **state)
{
    (void)state;
    uint8_t block[WAL_SEGMENT_HEADER_BYTES];
    struct wal_segment_header segment;
    struct wal_group_header group;
    struct wal_record_header record;
    wal_segment_header_put(&segment_header, block);
    for (size_t bit = 0; bit < 8 * sizeof(block); bit++) {
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(wal_segment_header_get(block, sizeof(block), &segment), WAL_INVALID);
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    wal_group_header_put(&group_header, &segment_uuid, block);
    for (size_t bit = 0; bit < 8 * WAL_GROUP_HEADER_BYTES; bit++) {
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(wal_group_header_get(block, sizeof(block), &segment_uuid, &group),
                         WAL_INVALID);
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    wal_record_header_put(&record_header, &segment_uuid, 100, block);
    for (size_t bit = 0; bit < 8 * WAL_RECORD_HEADER_BYTES; bit++) {
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(wal_record_header_get(block, sizeof(block), &segment_uuid, 100, &record),
                         WAL_INVALID);
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void a_header_is_valid_in_its_place_only(void **state)
{
    (void)state;
    uint8_t bytes[WAL_RECORD_HEADER_BYTES];
    struct wal_group_header group;
    struct wal_record_header record;
    struct uuid other = segment_uuid;
    other.bytes[15] ^= 1;
    wal_group_header_put(&group_header, &segment_uuid, bytes);
    assert_int_equal(wal_group_header_get(bytes, sizeof(bytes), &other, &group), WAL_INVALID);
    wal_record_header_put(&record_header, &segment_uuid, 100, bytes);
    assert_int_equal(wal_record_header_get(bytes, sizeof(bytes), &other, 100, &record),
                     WAL_INVALID);
    assert_int_equal(wal_record_header_get(bytes, sizeof(bytes), &segment_uuid, 101, &record),
                     WAL_INVALID);
}

static uint32_t sum_of(const struct uuid *uuid, uint64_t number, const uint8_t *bytes, size_t len)
{
    uint8_t seed[24];
    memcpy(seed, uuid, 16);
    bytes_put_u64(seed + 16, number);
    return crc32c(crc32c(0, seed, sizeof(seed)), bytes, len);
}

static void a_longer_header_of_a_later_version_is_read_and_a_fatal_flag_refused(void **state)
{
    (void)state;
    uint8_t bytes[256];
    struct wal_group_header group;
    struct wal_record_header record;

    memset(bytes, 0x5a, sizeof(bytes));
    wal_group_header_put(&group_header, &segment_uuid, bytes);
    bytes_put_u16(bytes + 8, 128);
    bytes_put_u32(bytes + 4, sum_of(&segment_uuid, 9, bytes + 8, 120));
    assert_int_equal(wal_group_header_get(bytes, sizeof(bytes), &segment_uuid, &group), WAL_VALID);
    assert_int_equal(group.header_len, 128);
    assert_int_equal(wal_group_header_get(bytes, 127, &segment_uuid, &group), WAL_INVALID);
    bytes_put_u16(bytes + 10, 1); /* a flag that may be ignored */
    bytes_put_u32(bytes + 4, sum_of(&segment_uuid, 9, bytes + 8, 120));
    assert_int_equal(wal_group_header_get(bytes, sizeof(bytes), &segment_uuid, &group), WAL_VALID);
    bytes_put_u16(bytes + 10, 0x100);
    bytes_put_u32(bytes + 4, sum_of(&segment_uuid, 9, bytes + 8, 120));
    assert_int_equal(wal_group_header_get(bytes, sizeof(bytes), &segment_uuid, &group), WAL_NEWER);

    wal_record_header_put(&record_header, &segment_uuid, 100, bytes);
    bytes_put_u32(bytes + 4, 192);
    bytes_put_u64(bytes + 8, 192 + 128);
    bytes_put_u32(bytes, sum_of(&segment_uuid, 100, bytes + 4, 188));
    assert_int_equal(wal_record_header_get(bytes, sizeof(bytes), &segment_uuid, 100, &record),
                     WAL_VALID);
    assert_int_equal(record.header_len, 192);
    bytes_put_u32(bytes + 24, 0x10000);
    bytes_put_u32(bytes, sum_of(&segment_uuid, 100, bytes + 4, 188));
    assert_int_equal(wal_record_header_get(bytes, sizeof(bytes), &segment_uuid, 100, &record),
                     WAL_NEWER);
}

static void a_segment_of_a_later_format_is_refused_as_newer(void **state)
{
    (void)state;
    uint8_t block[WAL_SEGMENT_HEADER_BYTES];
    struct wal_segment_header header = segment_header, back;
    header.format = WAL_FORMAT_VERSION + 1;
    wal_segment_header_put(&header, block);
    assert_int_equal(wal_segment_header_get(block, sizeof(block), &back), WAL_NEWER);
    header.format = 1; /* readable for ever */
    wal_segment_header_put(&header, block);
    assert_int_equal(wal_segment_header_get(block, sizeof(block), &back), WAL_VALID);
    header.block_bytes = 5000;
    wal_segment_header_put(&header, block);
    assert_int_equal(wal_segment_header_get(block, sizeof(block), &back), WAL_INVALID);
}

/* ---- bodies ---- */

static uint8_t *encode(const struct wal_batch *batch, enum wal_encoding encoding,
                       struct wal_record_header *header_out)
{
    uint8_t *record = aligned_alloc(64, 1 << 20);
    struct wal_avro *avro = wal_avro_new();
    uint64_t len = fixture_record_put(batch, encoding, avro, &segment_uuid, 5, record);
    wal_avro_free(avro);
    assert_int_equal(wal_record_header_get(record, len, &segment_uuid, 5, header_out), WAL_VALID);
    assert_int_equal(header_out->body_crc, crc32c(0, record + 128, header_out->body_len));
    return record;
}

static void batches_read_back_equal_in_both_encodings(void **state)
{
    (void)state;
    for (uint64_t number = 0; number < 60; number++) {
        struct fixture_batch b;
        fixture_batch_make(&b, number, (uint32_t)(number % 20), (uint32_t)(number * 3));
        for (int e = WAL_ENCODING_BINARY; e <= WAL_ENCODING_AVRO; e++) {
            struct wal_record_header header;
            struct wal_avro *avro = NULL;
            struct arena arena = {0};
            struct wal_batch back;
            struct trail trail = {0};
            uint8_t *record = encode(&b.batch, (enum wal_encoding)e, &header);
            assert_int_equal(wal_body_decode(&header, record + 128, &avro, &arena, &back, &trail),
                             0);
            assert_true(fixture_batch_equal(&b.batch, &back));
            for (uint32_t i = 0; i < back.row_count; i++)
                for (uint32_t f = 0; f < back.field_count; f++)
                    assert_int_equal((uintptr_t)back.rows[i].vectors[f] % 64, 0);
            wal_avro_free(avro);
            arena_dispose(&arena);
            free(record);
        }
        fixture_batch_free(&b);
    }
}

static void marks_have_no_body(void **state)
{
    (void)state;
    struct wal_batch jump = {.type = WAL_RECORD_VERSION_JUMP, .version = 1 << 20, .shard = 3}, back;
    struct wal_record_header header;
    struct wal_avro *avro = NULL;
    struct arena arena = {0};
    uint8_t *record = encode(&jump, WAL_ENCODING_BINARY, &header);
    assert_int_equal(header.body_len, 0);
    assert_int_equal(wal_body_decode(&header, record + 128, &avro, &arena, &back, NULL), 0);
    assert_int_equal(back.version, 1 << 20);
    assert_int_equal(back.row_count, 0);
    free(record);
}

static void a_batch_over_the_record_limit_is_told_before_it_is_encoded(void **state)
{
    (void)state;
    uint32_t field_bytes[1] = {PDB_DIMENSION_MAX * 4};
    const void *vector[1] = {field_bytes}; /* not read: only lengths count here */
    struct pdb_row *rows = calloc(3000, sizeof(*rows));
    for (size_t i = 0; i < 3000; i++)
        rows[i] = (struct pdb_row){.id = {"x", 1}, .vectors = vector};
    struct wal_batch batch = {.type = WAL_RECORD_ROWS,
                              .field_count = 1,
                              .field_bytes = field_bytes,
                              .row_count = 3000,
                              .rows = rows};
    uint64_t bytes = 7;
    assert_false(wal_body_bytes(&batch, WAL_ENCODING_BINARY, &bytes));
    assert_false(wal_body_bytes(&batch, WAL_ENCODING_AVRO, &bytes));
    assert_int_equal(bytes, 7);
    batch.row_count = 2000;
    assert_true(wal_body_bytes(&batch, WAL_ENCODING_BINARY, &bytes));
    free(rows);
}

/* Decodes a copy that ends exactly at its end, so that ASan sees any read behind it. */
static int decode_copy(struct wal_record_header header, const uint8_t *body, size_t len)
{
    uint8_t *copy = NULL;
    assert_int_equal(posix_memalign((void **)&copy, 64, len + 1), 0);
    memcpy(copy, body, len);
    header.body_len = len;
    struct wal_avro *avro = NULL;
    struct arena arena;
    arena_init(&arena, 16 << 20);
    struct wal_batch back;
    int rc = wal_body_decode(&header, copy, &avro, &arena, &back, NULL);
    wal_avro_free(avro);
    arena_dispose(&arena);
    free(copy);
    return rc;
}

static void a_body_cut_anywhere_is_malformed(void **state)
{
    (void)state;
    struct fixture_batch b;
    fixture_batch_make(&b, 12, 3, 9);
    for (int e = WAL_ENCODING_BINARY; e <= WAL_ENCODING_AVRO; e++) {
        struct wal_record_header header;
        uint8_t *record = encode(&b.batch, (enum wal_encoding)e, &header);
        assert_int_equal(decode_copy(header, record + 128, header.body_len), 0);
        for (size_t len = 0; len < header.body_len; len++)
            assert_int_equal(decode_copy(header, record + 128, len), PDB_DATA_LOSS);
        free(record);
    }
    fixture_batch_free(&b);
}

static void random_changes_to_a_body_are_decoded_or_refused_but_never_overrun(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 7);
    struct fixture_batch b;
    fixture_batch_make(&b, 12, 5, 9);
    for (int e = WAL_ENCODING_BINARY; e <= WAL_ENCODING_AVRO; e++) {
        struct wal_record_header header;
        uint8_t *record = encode(&b.batch, (enum wal_encoding)e, &header);
        for (int round = 0; round < 3000; round++) {
            uint8_t changed[4096];
            assert_true(header.body_len < sizeof(changed));
            memcpy(changed, record + 128, header.body_len);
            for (uint64_t n = rng_below(&rng, 3) + 1; n > 0; n--)
                changed[rng_below(&rng, header.body_len)] = (uint8_t)rng_next(&rng);
            int rc = decode_copy(header, changed, header.body_len);
            assert_true(rc == 0 || rc == PDB_DATA_LOSS);
        }
        free(record);
    }
    fixture_batch_free(&b);
}

static void hostile_avro_counts_cost_no_memory(void **state)
{
    (void)state;
    /* field_bytes: empty; rows: a block of 2^62 items, of -2^63 items, of one item whose id has
     * 2^40 bytes */
    static const uint8_t many[] = {0,    0xfe, 0xff, 0xff, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0x7f, 0,    0,    0,    0};
    static const uint8_t negative[] = {0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                       0xff, 0xff, 0xff, 0x01, 2,    0,    0};
    static const uint8_t long_id[] = {0,    2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                      0x01, 0, 0,    0,    0,    0,    0,    0};
    static const uint8_t endless[] = {0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                      0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct wal_record_header header = {.type = WAL_RECORD_ROWS,
                                       .encoding = WAL_ENCODING_AVRO,
                                       .row_count = 1,
                                       .schema = WAL_AVRO_FINGERPRINT};
    assert_int_equal(decode_copy(header, many, sizeof(many)), PDB_DATA_LOSS);
    assert_int_equal(decode_copy(header, negative, sizeof(negative)), PDB_DATA_LOSS);
    assert_int_equal(decode_copy(header, long_id, sizeof(long_id)), PDB_DATA_LOSS);
    assert_int_equal(decode_copy(header, endless, sizeof(endless)), PDB_DATA_LOSS);
    header.row_count = UINT32_MAX;
    assert_int_equal(decode_copy(header, many, sizeof(many)), PDB_DATA_LOSS);
    header.schema ^= 1;
    assert_int_equal(decode_copy(header, many, sizeof(many)), PDB_FAILED_PRECONDITION);
}

static void a_full_arena_is_told_and_not_hidden(void **state)
{
    (void)state;
    struct fixture_batch b;
    fixture_batch_make(&b, 13, 4, 50);
    for (int e = WAL_ENCODING_BINARY; e <= WAL_ENCODING_AVRO; e++) {
        struct wal_record_header header;
        uint8_t *record = encode(&b.batch, (enum wal_encoding)e, &header);
        int rc = PDB_RESOURCE_EXHAUSTED;
        uint64_t n = 1;
        for (; rc == PDB_RESOURCE_EXHAUSTED; n++) {
            struct wal_avro *avro = NULL;
            struct arena arena = {.fail_at = n};
            struct wal_batch back;
            rc = wal_body_decode(&header, record + 128, &avro, &arena, &back, NULL);
            wal_avro_free(avro);
            arena_dispose(&arena);
        }
        assert_int_equal(rc, 0);
        assert_true(n > 3);
        free(record);
    }
    fixture_batch_free(&b);
}

/* ---- the schema and the golden files ---- */

static char *read_whole(const char *path, size_t *len_out)
{
    char name[512];
    snprintf(name, sizeof(name), "%s/%s", SOURCE_ROOT, path);
    FILE *file = fopen(name, "rb");
    if (file == NULL)
        return NULL;
    char *bytes = malloc(1 << 20);
    *len_out = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

/* CRC-64-AVRO, as the Avro specification defines it ("Schema Fingerprints"). */
static uint64_t rabin(const char *text)
{
    const uint64_t empty = 0xc15d213aa4d7a795u;
    uint64_t print = empty;
    for (; *text != '\0'; text++) {
        uint64_t entry = (print ^ (uint8_t)*text) & 0xff;
        for (int bit = 0; bit < 8; bit++)
            entry = entry >> 1 ^ (empty & -(entry & 1));
        print = print >> 8 ^ entry;
    }
    return print;
}

static void the_published_schema_is_the_one_that_is_written(void **state)
{
    (void)state;
    size_t len = 0;
    char *text = read_whole("proto/avro/wal_batch.avsc", &len);
    assert_non_null(text);
    avro_schema_t published, written;
    assert_int_equal(avro_schema_from_json_length(text, len, &published), 0);
    assert_int_equal(
        avro_schema_from_json_length(wal_avro_schema_text, strlen(wal_avro_schema_text), &written),
        0);
    assert_true(avro_schema_equal(published, written));
    /* Stored in every log: a change is a new schema, and the old one must stay readable beside
     * it. */
    assert_true(rabin(wal_avro_schema_text) == WAL_AVRO_FINGERPRINT);
    avro_schema_decref(published);
    avro_schema_decref(written);
    free(text);
}

/* A segment of two groups: two batches, then a batch and CLOSE. `begin`: of the log; the segment is
 * its first. */
static size_t make_golden(enum wal_encoding encoding, const struct wal_begin *begin, uint8_t *out)
{
    struct wal_avro *avro = wal_avro_new();
    struct wal_segment_header segment = {.format = WAL_FORMAT_VERSION,
                                         .flags = begin->seq != 1 ? WAL_SEGMENT_RECYCLED : 0,
                                         .block_bytes = 4096,
                                         .log = log_uuid,
                                         .segment = segment_uuid,
                                         .seq = begin->seq,
                                         .size = 1 << 20};
    wal_segment_header_put(&segment, out);
    uint32_t crc = begin->prev_group_crc;
    uint64_t lsn = begin->lsn, at = WAL_SEGMENT_HEADER_BYTES, number = 1;
    for (uint64_t g = 0; g < 2; g++) {
        uint64_t len = WAL_GROUP_HEADER_BYTES, first = lsn;
        for (uint64_t i = 0; i < 2; i++, lsn++, number++) {
            struct fixture_batch b;
            struct wal_batch close = {.type = WAL_RECORD_CLOSE};
            fixture_batch_make(&b, number, (uint32_t)number, 6);
            len += fixture_record_put(number == 4 ? &close : &b.batch,
                                      number == 4 ? WAL_ENCODING_BINARY : encoding, avro,
                                      &segment_uuid, lsn, out + at + len);
            fixture_batch_free(&b);
        }
        struct wal_group_header group = {.record_count = 2,
                                         .group_seq = begin->group_seq + g,
                                         .begin = *begin,
                                         .first_lsn = first,
                                         .time_us = 1700000000000000,
                                         .body_len = len - WAL_GROUP_HEADER_BYTES,
                                         .prev_group_crc = crc};
        crc = wal_group_header_put(&group, &segment_uuid, out + at);
        at += wal_group_disk_bytes(group.body_len, 4096);
    }
    wal_avro_free(avro);
    return at;
}

static void the_writer_still_makes_the_golden_files(void **state)
{
    (void)state;
    static const char *const names[] = {"tests/format/wal/v2_binary.wal",
                                        "tests/format/wal/v2_avro.wal",
                                        "tests/format/wal/v2_truncated.wal"};
    static const struct wal_begin begins[] = {{1, 1, 1, 0}, {1, 1, 1, 0}, {3, 7, 20, 0xc0ffee}};
    for (int e = 0; e < 3; e++) {
        uint8_t *made = aligned_alloc(64, 1 << 16);
        memset(made, 0, 1 << 16);
        size_t len = make_golden((enum wal_encoding)(e % 2), &begins[e], made), golden_len = 0;
        if (getenv("PDB_WRITE_GOLDEN") != NULL) {
            char name[512];
            snprintf(name, sizeof(name), "%s/%s", SOURCE_ROOT, names[e]);
            FILE *file = fopen(name, "wb");
            assert_non_null(file);
            assert_int_equal(fwrite(made, 1, len, file), len);
            fclose(file);
        }
        char *golden = read_whole(names[e], &golden_len);
        assert_non_null(golden);
        assert_int_equal(golden_len, len);
        assert_memory_equal(golden, made, len);
        free(golden);
        free(made);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_header_reads_back_as_written),
        cmocka_unit_test(a_group_header_reads_back_as_written),
        cmocka_unit_test(a_beginning_behind_the_group_itself_is_no_header),
        cmocka_unit_test(a_record_header_reads_back_as_written),
        cmocka_unit_test(every_flipped_bit_of_a_header_is_detected),
        cmocka_unit_test(a_header_is_valid_in_its_place_only),
        cmocka_unit_test(a_longer_header_of_a_later_version_is_read_and_a_fatal_flag_refused),
        cmocka_unit_test(a_segment_of_a_later_format_is_refused_as_newer),
        cmocka_unit_test(batches_read_back_equal_in_both_encodings),
        cmocka_unit_test(marks_have_no_body),
        cmocka_unit_test(a_batch_over_the_record_limit_is_told_before_it_is_encoded),
        cmocka_unit_test(a_body_cut_anywhere_is_malformed),
        cmocka_unit_test(random_changes_to_a_body_are_decoded_or_refused_but_never_overrun),
        cmocka_unit_test(hostile_avro_counts_cost_no_memory),
        cmocka_unit_test(a_full_arena_is_told_and_not_hidden),
        cmocka_unit_test(the_published_schema_is_the_one_that_is_written),
        cmocka_unit_test(the_writer_still_makes_the_golden_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
