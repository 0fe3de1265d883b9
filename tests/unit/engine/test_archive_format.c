/* src/engine/archive_format.c and archive_key.c: what goes in comes out, keys are the stores' kind
 * of keys and say what they are, and whatever is wrong is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "engine/archive_format.h"
#include "engine/catalog.h"
#include "store/store.h"

#include <string.h>

static const struct uuid identity = {{0xaa, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const struct uuid log_a = {{0x0a, 1}}, log_b = {{0x0b, 1}}, collection = {{0xc0, 1, 2}};
static const int64_t begun_us = INT64_C(1767225599123456);

struct file {
    struct buffer bytes;
    struct arena arena;
    struct trail trail;
};

static void begin(struct file *f)
{
    *f = (struct file){0};
    buffer_init_heap(&f->bytes, NULL, 0);
    arena_init(&f->arena, 0);
}

static void end(struct file *f)
{
    buffer_dispose(&f->bytes);
    arena_dispose(&f->arena);
}

/* ---- samples ---- */

static void encode_state(struct file *f)
{
    struct archive_range ranges[] = {{100, 200}, {300, 300}};
    struct archive_log logs[] = {{log_a, 1, 9, true}, {log_b, 4, 4, false}};
    const struct archive_state state = {.identity = identity,
                                        .written_at_us = 1234,
                                        .catalog_first = 3,
                                        .catalog_next = 8,
                                        .ranges = ranges,
                                        .range_count = 2,
                                        .logs = logs,
                                        .log_count = 2,
                                        .closed = true};
    archive_state_encode(&f->bytes, &state);
    assert_false(f->bytes.failed);
}

static void encode_base(struct file *f)
{
    static const struct pdb_field field = {
        .name = {"v", 1}, .dimension = 3, .metric = PDB_METRIC_DOT};
    static const struct pdb_collection_config config = {
        .name = {"shoes", 5}, .fields = &field, .field_count = 1};
    struct snapshot_image *image = snapshot_image_new((struct pdb_text){"x", 1});
    struct snapshot_file files[] = {{"MANIFEST-0000000001", 77, 5},
                                    {"0000000001.parquet", 1000, 0xabcdef01}};
    struct snapshot_part part = {
        .entry = catalog_entry_new(&collection, &config, &(struct catalog_times){1, 2, 1}),
        .version = 12,
        .rows = 3,
        .files = files,
        .file_count = 2};
    struct buffer list;
    struct archive_need needs[] = {{log_a, UINT64_MAX}, {log_b, 7}};
    struct archive_base base = {.identity = identity,
                                .begun_us = begun_us,
                                .ended_us = begun_us + 5,
                                .catalog_version = 6,
                                .needs = needs,
                                .need_count = 2};
    assert_non_null(image);
    assert_non_null(part.entry);
    buffer_init_heap(&list, NULL, 0);
    image->part_count = 1;
    image->parts = &part;
    snapshot_encode_begin(&list, image);
    snapshot_encode_part(&list, &part);
    snapshot_encode_end(&list, image);
    archive_base_name(base.name, base.begun_us);
    archive_base_encode(&f->bytes, &base, list.ptr, list.len);
    assert_false(f->bytes.failed);
    buffer_dispose(&list);
    snapshot_image_free(image); /* and the entry */
}

static int decode_base(struct file *f, size_t len, struct archive_base *base_out)
{
    trail_reset(&f->trail);
    arena_reset(&f->arena);
    return archive_base_decode(f->bytes.ptr, len, &f->arena, base_out, &f->trail);
}

static int decode_state(struct file *f, size_t len, struct archive_state *state_out)
{
    trail_reset(&f->trail);
    arena_reset(&f->arena);
    return archive_state_decode(f->bytes.ptr, len, &f->arena, state_out, &f->trail);
}

/* After a change of the bytes. */
static void sum_again(struct file *f)
{
    char *h = f->bytes.ptr;
    size_t body_len = f->bytes.len - ARCHIVE_HEADER_BYTES;
    bytes_put_u64(h + 24, body_len);
    bytes_put_u32(h + 32, crc32c(0, h + ARCHIVE_HEADER_BYTES, body_len));
    bytes_put_u32(h + 60, crc32c(0, h, 60));
}

/* ---- bytes ---- */

static void an_identity_comes_back(void **state)
{
    (void)state;
    struct file f;
    struct archive_identity out, in = {identity, -5};
    begin(&f);
    archive_identity_encode(&f.bytes, &in);
    assert_int_equal(archive_identity_decode(f.bytes.ptr, f.bytes.len, &out, &f.trail), 0);
    assert_true(uuid_equal(&out.uuid, &identity));
    assert_int_equal(out.created_at_us, -5);
    for (size_t i = 0; i < f.bytes.len; i++) {
        f.bytes.ptr[i] ^= 4;
        assert_true(archive_identity_decode(f.bytes.ptr, f.bytes.len, &out, &f.trail) < 0);
        f.bytes.ptr[i] ^= 4;
    }
    end(&f);
}

static void a_state_comes_back(void **state)
{
    (void)state;
    struct file f;
    struct archive_state s;
    begin(&f);
    encode_state(&f);
    assert_int_equal(decode_state(&f, f.bytes.len, &s), 0);
    assert_true(uuid_equal(&s.identity, &identity));
    assert_int_equal(s.written_at_us, 1234);
    assert_int_equal(s.catalog_first, 3);
    assert_int_equal(s.catalog_next, 8);
    assert_int_equal(s.range_count, 2);
    assert_int_equal(s.ranges[0].from_us, 100);
    assert_int_equal(s.ranges[0].to_us, 200);
    assert_int_equal(s.ranges[1].to_us, 300);
    assert_int_equal(s.log_count, 2);
    assert_true(uuid_equal(&s.logs[0].uuid, &log_a));
    assert_true(s.logs[0].ended);
    assert_int_equal(s.logs[0].next_seq, 9);
    assert_false(s.logs[1].ended);
    assert_int_equal(s.logs[1].first_seq, 4);
    assert_true(s.closed);
    end(&f);
}

static void a_base_comes_back(void **state)
{
    (void)state;
    struct file f;
    struct archive_base b;
    begin(&f);
    encode_base(&f);
    assert_int_equal(decode_base(&f, f.bytes.len, &b), 0);
    assert_true(uuid_equal(&b.identity, &identity));
    assert_string_equal(b.name, "20251231T235959.123456Z");
    assert_int_equal(b.begun_us, begun_us);
    assert_int_equal(b.ended_us, begun_us + 5);
    assert_int_equal(b.catalog_version, 6);
    assert_int_equal(b.need_count, 2);
    assert_true(b.needs[0].seq == UINT64_MAX);
    assert_true(uuid_equal(&b.needs[1].uuid, &log_b));
    assert_int_equal(b.needs[1].seq, 7);
    assert_int_equal(b.image->part_count, 1);
    assert_int_equal(b.image->parts[0].version, 12);
    assert_int_equal(b.image->parts[0].files[1].crc32c, 0xabcdef01);
    archive_base_dispose(&b);
    archive_base_dispose(&b);
    end(&f);
}

static void every_flipped_bit_and_every_cut_is_found(void **state)
{
    (void)state;
    struct file f;
    struct archive_base b;
    struct archive_state s;
    begin(&f);
    encode_base(&f);
    for (size_t i = 0; i < 8 * f.bytes.len; i++) {
        f.bytes.ptr[i / 8] = (char)(f.bytes.ptr[i / 8] ^ (1 << i % 8));
        assert_true(decode_base(&f, f.bytes.len, &b) < 0);
        assert_int_not_equal(f.trail.len, 0);
        f.bytes.ptr[i / 8] = (char)(f.bytes.ptr[i / 8] ^ (1 << i % 8));
    }
    for (size_t len = 0; len < f.bytes.len; len++)
        assert_int_equal(decode_base(&f, len, &b), PDB_DATA_LOSS);
    end(&f);
    begin(&f);
    encode_state(&f);
    for (size_t i = 0; i < 8 * f.bytes.len; i++) {
        f.bytes.ptr[i / 8] = (char)(f.bytes.ptr[i / 8] ^ (1 << i % 8));
        assert_true(decode_state(&f, f.bytes.len, &s) < 0);
        f.bytes.ptr[i / 8] = (char)(f.bytes.ptr[i / 8] ^ (1 << i % 8));
    }
    for (size_t len = 0; len < f.bytes.len; len++)
        assert_int_equal(decode_state(&f, len, &s), PDB_DATA_LOSS);
    end(&f);
}

/* Behind sums that fit: what a hostile writer could send. */
static void nonsense_under_a_right_sum_is_refused_or_read_but_never_followed(void **state)
{
    (void)state;
    struct archive_base b;
    struct archive_state s;
    for (int kind = 0; kind < 2; kind++) {
        struct file f;
        begin(&f);
        if (kind == 0)
            encode_base(&f);
        else
            encode_state(&f);
        for (size_t i = ARCHIVE_HEADER_BYTES; i + 4 <= f.bytes.len; i++) {
            uint32_t kept = bytes_get_u32(f.bytes.ptr + i);
            bytes_put_u32(f.bytes.ptr + i, 0xfffffff0u);
            sum_again(&f);
            if (kind == 1)
                (void)decode_state(&f, f.bytes.len, &s);
            else if (decode_base(&f, f.bytes.len, &b) == 0)
                archive_base_dispose(&b);
            bytes_put_u32(f.bytes.ptr + i, kept);
        }
        end(&f);
    }
}

static void what_a_later_version_adds_is_skipped_and_a_newer_format_is_refused(void **state)
{
    (void)state;
    struct file f;
    struct archive_state s;
    begin(&f);
    encode_state(&f);
    buffer_add(&f.bytes, "later", 5);
    sum_again(&f);
    assert_int_equal(decode_state(&f, f.bytes.len, &s), 0);
    assert_int_equal(s.log_count, 2);
    bytes_put_u32(f.bytes.ptr + 8, ARCHIVE_FORMAT_VERSION + 1);
    sum_again(&f);
    assert_int_equal(decode_state(&f, f.bytes.len, &s), PDB_FAILED_PRECONDITION);
    assert_non_null(strstr(f.trail.text, "newer"));
    end(&f);
}

static void one_kind_is_not_taken_for_another(void **state)
{
    (void)state;
    struct file f;
    struct archive_base b;
    begin(&f);
    encode_state(&f);
    assert_int_equal(decode_base(&f, f.bytes.len, &b), PDB_DATA_LOSS);
    assert_non_null(strstr(f.trail.text, "not BASE"));
    end(&f);
}

static void without_memory_decoding_says_so(void **state)
{
    (void)state;
    struct file f;
    struct archive_state s;
    begin(&f);
    encode_state(&f);
    arena_dispose(&f.arena);
    arena_init(&f.arena, 0);
    f.arena.fail_at = 1;
    trail_reset(&f.trail);
    assert_int_equal(archive_state_decode(f.bytes.ptr, f.bytes.len, &f.arena, &s, &f.trail),
                     PDB_RESOURCE_EXHAUSTED);
    end(&f);
}

/* ---- keys ---- */

static enum archive_object parsed(const char *key, struct archive_parsed *p)
{
    struct trail trail = {0};
    assert_int_equal(store_check_key(text_of(key), &trail), 0);
    return archive_parse(text_of(key), p);
}

static void every_key_is_legal_in_a_store_and_says_what_it_is(void **state)
{
    (void)state;
    char key[ARCHIVE_KEY_SIZE], name[ARCHIVE_NAME_SIZE];
    struct archive_parsed p;
    struct file f;
    struct archive_base b;
    begin(&f);
    encode_base(&f);
    assert_int_equal(decode_base(&f, f.bytes.len, &b), 0);
    archive_base_name(name, begun_us);
    archive_identity_key(key, &identity);
    assert_string_equal(key, "aa020304-0506-0708-090a-0b0c0d0e0f10/IDENTITY");
    assert_int_equal(parsed(key, &p), ARCHIVE_IDENTITY);
    assert_true(uuid_equal(&p.identity, &identity));
    archive_state_key(key, &identity);
    assert_int_equal(parsed(key, &p), ARCHIVE_STATE);
    archive_wal_key(key, &identity, &log_a, UINT64_MAX - 1);
    assert_int_equal(parsed(key, &p), ARCHIVE_WAL);
    assert_true(uuid_equal(&p.log, &log_a) && p.number == UINT64_MAX - 1);
    archive_catalog_key(key, &identity, UINT64_MAX);
    assert_int_equal(parsed(key, &p), ARCHIVE_CATALOG);
    assert_true(p.number == UINT64_MAX);
    archive_base_key(key, &identity, name);
    assert_int_equal(parsed(key, &p), ARCHIVE_BASE);
    assert_string_equal(p.name, name);
    archive_file_key(key, &identity, name, &b.image->parts[0], 0);
    assert_int_equal(parsed(key, &p), ARCHIVE_MANIFEST);
    assert_string_equal(p.name, name);
    archive_file_key(key, &identity, name, &b.image->parts[0], 1);
    assert_non_null(strstr(key, "/segments/c0010200-0000-0000-0000-000000000000/"
                                "0000000001.parquet-abcdef01"));
    assert_int_equal(parsed(key, &p), ARCHIVE_SEGMENT);
    archive_base_dispose(&b);
    end(&f);
}

static void keys_are_listed_in_the_order_of_what_they_name(void **state)
{
    (void)state;
    char low[ARCHIVE_KEY_SIZE], high[ARCHIVE_KEY_SIZE];
    archive_wal_key(low, &identity, &log_a, 15);
    archive_wal_key(high, &identity, &log_a, 16);
    assert_true(strcmp(low, high) < 0);
    archive_catalog_key(low, &identity, 9);
    archive_catalog_key(high, &identity, 10);
    assert_true(strcmp(low, high) < 0);
    archive_base_name(low, begun_us);
    archive_base_name(high, begun_us + 1);
    assert_true(strcmp(low, high) < 0);
}

static void keys_begin_with_their_prefixes(void **state)
{
    (void)state;
    char key[ARCHIVE_KEY_SIZE], prefix[ARCHIVE_KEY_SIZE];
    archive_wal_key(key, &identity, &log_a, 15);
    archive_prefix(prefix, &identity);
    assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
    archive_wal_prefix(prefix, &identity, NULL);
    assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
    archive_wal_prefix(prefix, &identity, &log_a);
    assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
    archive_catalog_key(key, &identity, 15);
    archive_catalog_prefix(prefix, &identity);
    assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
    archive_base_key(key, &identity, "20251231T235959.123456Z");
    archive_base_prefix(prefix, &identity, NULL);
    assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
    archive_base_prefix(prefix, &identity, "20251231T235959.123456Z");
    assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
    archive_segments_prefix(prefix, &identity);
    assert_string_equal(prefix, "aa020304-0506-0708-090a-0b0c0d0e0f10/segments/");
}

static void foreign_keys_are_nothing_of_ours(void **state)
{
    (void)state;
    static const char *const foreign[] = {
        "IDENTITY",
        "aa020304-0506-0708-090a-0b0c0d0e0f1/STATE",
        "AA020304-0506-0708-090a-0b0c0d0e0f10/STATE",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/STATE/x",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/wal",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/wal/x/0000000000000001.wal",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/catalog/1.catalog",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/catalog/99999999999999999999.catalog",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/catalog/0000000000000000000a.catalog",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/bases/2025/BASE",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/bases/20251231T235959.123456Z/BASED",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/bases/20251231T235959.123456Z",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/segments/c0010200-0000-0000-0000-000000000000/"
        "MANIFEST-0000000001-abcdef01",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/segments/c0010200-0000-0000-0000-000000000000/"
        "0000000001.parquet",
        "aa020304-0506-0708-090a-0b0c0d0e0f10/segments/c0010200-0000-0000-0000-000000000000/"
        "0000000001.parquet-abcdef0g",
    };
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        struct archive_parsed p;
        assert_int_equal(archive_parse(text_of(foreign[i]), &p), ARCHIVE_OTHER);
    }
    struct archive_parsed p;
    assert_int_equal(archive_parse((struct pdb_text){NULL, 0}, &p), ARCHIVE_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_identity_comes_back),
        cmocka_unit_test(a_state_comes_back),
        cmocka_unit_test(a_base_comes_back),
        cmocka_unit_test(every_flipped_bit_and_every_cut_is_found),
        cmocka_unit_test(nonsense_under_a_right_sum_is_refused_or_read_but_never_followed),
        cmocka_unit_test(what_a_later_version_adds_is_skipped_and_a_newer_format_is_refused),
        cmocka_unit_test(one_kind_is_not_taken_for_another),
        cmocka_unit_test(without_memory_decoding_says_so),
        cmocka_unit_test(every_key_is_legal_in_a_store_and_says_what_it_is),
        cmocka_unit_test(keys_are_listed_in_the_order_of_what_they_name),
        cmocka_unit_test(keys_begin_with_their_prefixes),
        cmocka_unit_test(foreign_keys_are_nothing_of_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
