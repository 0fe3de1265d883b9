/* The bytes of a manifest: what goes in comes out, whatever is wrong is found, and what a newer
 * version adds is skipped or refused as it asks. */
#include "engine/manifest_format.h"
#include "manifest_fixture.h"

#include <stdlib.h>

enum { NUMBER = 12 };

struct file {
    struct buffer bytes;
    struct arena arena;
    struct manifest m;
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

static int decode(struct file *f)
{
    trail_reset(&f->trail);
    return manifest_decode(f->bytes.ptr, f->bytes.len, &f->arena, &f->m, &f->trail);
}

static void a_manifest_comes_back_as_it_went_in(void **state)
{
    (void)state;
    struct file f;
    begin(&f);
    assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
    assert_int_equal(decode(&f), 0);
    sample_expect(&f.m, NUMBER);
    end(&f);
}

static void the_steps_it_is_encoded_in_do_not_show(void **state)
{
    (void)state;
    struct file whole;
    begin(&whole);
    assert_int_equal(sample_encode(&whole.bytes, NUMBER, SIZE_MAX), 0);
    for (size_t budget = 1; budget <= 6; budget++) {
        struct file f;
        begin(&f);
        assert_int_equal(sample_encode(&f.bytes, NUMBER, budget), 0);
        assert_int_equal(f.bytes.len, whole.bytes.len);
        assert_memory_equal(f.bytes.ptr, whole.bytes.ptr, whole.bytes.len);
        end(&f);
    }
    end(&whole);
}

static void an_empty_shard_has_a_manifest_too(void **state)
{
    (void)state;
    struct file f;
    struct manifest_encoder e;
    struct manifest m = {.collection = sample_uuid, .number = 1, .next_segment = 1};
    begin(&f);
    manifest_encode_begin(&e, &f.bytes, &m);
    assert_int_equal(manifest_encode_end(&e), 0);
    assert_int_equal(decode(&f), 0);
    assert_int_equal(f.m.segment_count, 0);
    assert_int_equal(f.m.request_count, 0);
    assert_int_equal(f.m.next_segment, 1);
    end(&f);
}

static void rows_that_one_batch_ended_take_two_bytes_each(void **state)
{
    (void)state;
    enum { ROWS = 100000 };
    struct file f;
    struct manifest_encoder e;
    struct manifest m = sample_manifest(1);
    struct manifest_segment segment = {.number = 1, .rows = ROWS, .version_max = 5};
    struct segment_deletes *deletes;
    begin(&f);
    assert_int_equal(segment_deletes_new(NULL, ROWS, &deletes), 0);
    assert_int_equal(segment_deletes_reserve(deletes, ROWS / 3 + 1), 0);
    for (uint32_t row = 0; row < ROWS; row += 3)
        segment_deletes_mark(deletes, row, 9);
    manifest_encode_begin(&e, &f.bytes, &m);
    manifest_encode_segment(&e, &segment);
    while (manifest_encode_ended(&e, 1, deletes, 1000))
        continue;
    assert_int_equal(manifest_encode_end(&e), 0);
    assert_true(f.bytes.len < 2 * (ROWS / 3 + 1) + 400);
    assert_int_equal(decode(&f), 0);
    assert_int_equal(f.m.segments[0].ended_count, ROWS / 3 + 1);
    segment_deletes_free(deletes);
    end(&f);
}

static void every_flipped_bit_is_found(void **state)
{
    (void)state;
    struct file f;
    begin(&f);
    assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
    for (size_t bit = 0; bit < 8 * f.bytes.len; bit++) {
        f.bytes.ptr[bit / 8] = (char)(f.bytes.ptr[bit / 8] ^ (1 << bit % 8));
        assert_int_equal(decode(&f), PDB_DATA_LOSS);
        assert_int_not_equal(f.trail.len, 0);
        f.bytes.ptr[bit / 8] = (char)(f.bytes.ptr[bit / 8] ^ (1 << bit % 8));
        arena_reset(&f.arena);
    }
    assert_int_equal(decode(&f), 0);
    end(&f);
}

static void every_other_length_is_found(void **state)
{
    (void)state;
    struct file f;
    begin(&f);
    assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
    size_t len = f.bytes.len;
    for (f.bytes.len = 0; f.bytes.len < len; f.bytes.len++)
        assert_int_equal(decode(&f), PDB_DATA_LOSS);
    buffer_add(&f.bytes, "", 1);
    assert_int_equal(decode(&f), PDB_DATA_LOSS);
    end(&f);
}

static void sections_of_another_manifest_do_not_fit(void **state)
{
    (void)state;
    struct file a, b;
    begin(&a);
    begin(&b);
    assert_int_equal(sample_encode(&a.bytes, NUMBER, SIZE_MAX), 0);
    assert_int_equal(sample_encode(&b.bytes, NUMBER + 1, SIZE_MAX), 0);
    assert_int_equal(a.bytes.len, b.bytes.len);
    memcpy(a.bytes.ptr + MANIFEST_HEADER_BYTES, b.bytes.ptr + MANIFEST_HEADER_BYTES,
           a.bytes.len - MANIFEST_HEADER_BYTES);
    assert_int_equal(decode(&a), PDB_DATA_LOSS);
    end(&a);
    end(&b);
}

/* ---- files that others have made: the sums are right ---- */

static void mend_header(struct buffer *b, int sections_more)
{
    uint32_t count = bytes_get_u32(b->ptr + MANIFEST_AT_SECTION_COUNT);
    bytes_put_u32(b->ptr + MANIFEST_AT_SECTION_COUNT, count + (uint32_t)sections_more);
    bytes_put_u64(b->ptr + MANIFEST_AT_FILE_LEN, b->len);
    bytes_put_u32(b->ptr + MANIFEST_AT_CRC, crc32c(0, b->ptr, MANIFEST_AT_CRC));
}

static void mend_section(struct buffer *b, size_t at)
{
    char *header = b->ptr + at;
    uint32_t seed = manifest_seed(bytes_get_u64(b->ptr + MANIFEST_AT_NUMBER));
    size_t len = (size_t)bytes_get_u64(header + MANIFEST_SECTION_AT_LEN);
    bytes_put_u32(header + MANIFEST_SECTION_AT_CONTENT_CRC,
                  crc32c(seed, header + MANIFEST_SECTION_BYTES, len));
    bytes_put_u32(header + MANIFEST_SECTION_AT_CRC, crc32c(seed, header, MANIFEST_SECTION_AT_CRC));
}

static void add_section(struct buffer *b, uint32_t type, uint32_t flags, uint64_t number,
                        const void *content, size_t len)
{
    char header[MANIFEST_SECTION_BYTES] = {0};
    size_t at = b->len;
    bytes_put_u32(header, type);
    bytes_put_u32(header + MANIFEST_SECTION_AT_FLAGS, flags);
    bytes_put_u64(header + MANIFEST_SECTION_AT_LEN, len);
    bytes_put_u64(header + MANIFEST_SECTION_AT_NUMBER, number);
    buffer_add(b, header, sizeof(header));
    buffer_add(b, content, len);
    mend_section(b, at);
    mend_header(b, 1);
}

/* Offset of the n-th section's header. */
static size_t section_at(const struct buffer *b, unsigned n)
{
    size_t at = MANIFEST_HEADER_BYTES;
    while (n-- != 0)
        at += MANIFEST_SECTION_BYTES + (size_t)bytes_get_u64(b->ptr + at + MANIFEST_SECTION_AT_LEN);
    return at;
}

enum { STATE, SEGMENTS, ENDED_FIRST, ENDED_LAST, REQUESTS };

static void a_newer_format_is_refused_as_such(void **state)
{
    (void)state;
    struct file f;
    begin(&f);
    assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
    bytes_put_u32(f.bytes.ptr + MANIFEST_AT_VERSION, MANIFEST_FORMAT_VERSION + 1);
    mend_header(&f.bytes, 0);
    assert_int_equal(decode(&f), PDB_FAILED_PRECONDITION);
    assert_non_null(strstr(f.trail.text, "newer"));
    end(&f);
}

static void unknown_sections_are_skipped_unless_they_must_be_understood(void **state)
{
    (void)state;
    struct file f;
    begin(&f);
    assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
    add_section(&f.bytes, 99, 0, 5, "whatever", 8);
    assert_int_equal(decode(&f), 0);
    sample_expect(&f.m, NUMBER);
    add_section(&f.bytes, 99, MANIFEST_SECTION_MANDATORY, 5, "", 0);
    assert_int_equal(decode(&f), PDB_FAILED_PRECONDITION);
    end(&f);
}

static void longer_entries_are_read_as_far_as_they_are_known(void **state)
{
    (void)state;
    struct file f;
    struct manifest m = sample_manifest(NUMBER);
    struct manifest_encoder e;
    char segments[2 * (4 + MANIFEST_SEGMENT_BYTES + 3)] = {0}, requests[4 + 48] = {0};
    for (unsigned i = 0; i < 2; i++) {
        char *at = segments + i * (4 + MANIFEST_SEGMENT_BYTES + 3);
        bytes_put_u32(at, MANIFEST_SEGMENT_BYTES + 3);
        bytes_put_u64(at + 4, 10 + i);
        bytes_put_u64(at + 12, 5);
    }
    bytes_put_u32(requests, 48);
    bytes_put_u64(requests + 4 + 32, 77);
    begin(&f);
    manifest_encode_begin(&e, &f.bytes, &m);
    assert_int_equal(manifest_encode_end(&e), 0);
    f.bytes.len = section_at(&f.bytes, SEGMENTS);
    mend_header(&f.bytes, -1);
    add_section(&f.bytes, MANIFEST_SECTION_SEGMENTS, 1, 2, segments, sizeof(segments));
    add_section(&f.bytes, MANIFEST_SECTION_REQUESTS, 1, 1, requests, sizeof(requests));
    assert_int_equal(decode(&f), 0);
    assert_int_equal(f.m.segment_count, 2);
    assert_int_equal(f.m.segments[1].number, 11);
    struct manifest_request request;
    manifest_request_at(&f.m, 0, &request);
    assert_int_equal(request.version, 77);
    end(&f);
}

struct lie {
    unsigned section;
    size_t offset; /* in the content; SIZE_MAX: the section's number */
    uint64_t value;
    unsigned bytes;
};

static void lies_with_right_checksums_are_found(void **state)
{
    (void)state;
    static const struct lie lies[] = {
        {STATE, 0, UINT64_MAX, 8},           /* version */
        {STATE, 8, UINT64_MAX, 8},           /* oldest_version */
        {STATE, 16, 4, 8},                   /* next_segment below a segment's number */
        {SEGMENTS, SIZE_MAX, 2, 8},          /* fewer than there are */
        {SEGMENTS, SIZE_MAX, 4, 8},          /* more */
        {SEGMENTS, SIZE_MAX, UINT64_MAX, 8}, /* far more */
        {SEGMENTS, 0, MANIFEST_SEGMENT_BYTES - 1, 4},
        {SEGMENTS, 0, UINT32_MAX, 4},
        {SEGMENTS, 4, 4, 8},  /* the next one's number */
        {SEGMENTS, 12, 0, 8}, /* no rows */
        {SEGMENTS, 12, SEGMENT_ROWS_MAX + 1, 8},
        {SEGMENTS, 12, 999, 8},                   /* row 999 has ended */
        {SEGMENTS, 36, 41, 8},                    /* version_min above version_max */
        {ENDED_FIRST, SIZE_MAX, 5, 8},            /* of a segment that is not there */
        {ENDED_FIRST, SIZE_MAX, 900000000000, 8}, /* twice */
        {ENDED_FIRST, SIZE_MAX, 4, 8},            /* rows beyond the end */
        {ENDED_FIRST, 1, 0xff, 1},                /* a varint swallows its neighbours */
        {REQUESTS, SIZE_MAX, 1, 8},
        {REQUESTS, SIZE_MAX, 3, 8},
        {REQUESTS, 0, 39, 4},
        {REQUESTS, 0, 0, 4},
        {REQUESTS, 0, 80, 4},
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct file f;
        begin(&f);
        assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
        size_t at = section_at(&f.bytes, lies[i].section);
        size_t place = lies[i].offset == SIZE_MAX ? at + MANIFEST_SECTION_AT_NUMBER
                                                  : at + MANIFEST_SECTION_BYTES + lies[i].offset;
        memcpy(f.bytes.ptr + place, &lies[i].value, lies[i].bytes); /* little-endian */
        mend_section(&f.bytes, at);
        if (decode(&f) != PDB_DATA_LOSS)
            fail_msg("lie %zu was believed", i);
        assert_int_not_equal(f.trail.len, 0);
        end(&f);
    }
}

static void ended_rows_that_overflow_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
    } lists[] = {
        {"", 0},                                                /* none: no section then */
        {"\0", 1},                                              /* half a pair */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0", 11},     /* 2^64-1 rows skipped */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\0", 11},     /* more than 64 bits */
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\0", 12}, /* longer than any */
        {"\x80\x80\x80\x80\x04\0", 6},                          /* row 2^30 */
        {"\0\x02", 2},                                          /* version -1 */
        {"\0\x01", 2},                                          /* version 0 by difference */
        {"\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},     /* above the highest */
    };
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct file f;
        begin(&f);
        assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
        f.bytes.len = section_at(&f.bytes, ENDED_FIRST);
        mend_header(&f.bytes, -3);
        add_section(&f.bytes, MANIFEST_SECTION_ENDED, 1, 900000000000, lists[i].bytes,
                    lists[i].len);
        if (decode(&f) != PDB_DATA_LOSS)
            fail_msg("list %zu was believed", i);
        end(&f);
    }
}

static void sections_twice_or_missing_are_found(void **state)
{
    (void)state;
    for (unsigned n = STATE; n <= REQUESTS; n++) {
        struct file f;
        begin(&f);
        assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
        size_t at = section_at(&f.bytes, n);
        size_t len = (size_t)bytes_get_u64(f.bytes.ptr + at + MANIFEST_SECTION_AT_LEN);
        char *copy = test_malloc(MANIFEST_SECTION_BYTES + len);
        memcpy(copy, f.bytes.ptr + at, MANIFEST_SECTION_BYTES + len);
        add_section(&f.bytes, bytes_get_u32(copy), 1,
                    bytes_get_u64(copy + MANIFEST_SECTION_AT_NUMBER), copy + MANIFEST_SECTION_BYTES,
                    len);
        assert_int_equal(decode(&f), PDB_DATA_LOSS);
        test_free(copy);
        end(&f);
    }
    for (unsigned keep = 0; keep < 2; keep++) { /* without STATE and SEGMENTS */
        struct file f;
        begin(&f);
        assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
        f.bytes.len = section_at(&f.bytes, keep);
        mend_header(&f.bytes, (int)keep - 5);
        assert_int_equal(decode(&f), PDB_DATA_LOSS);
        end(&f);
    }
}

/* ---- memory, and the file of the first release ---- */

static void memory_that_runs_out_is_an_error_of_each_step(void **state)
{
    (void)state;
    uint64_t n = 1;
    int rc;
    do {
        struct heap heap = {.fail_at = n};
        struct buffer out;
        buffer_init_heap(&out, &heap, 0);
        rc = sample_encode(&out, NUMBER, 1);
        assert_true(rc == 0 || rc == PDB_RESOURCE_EXHAUSTED);
        buffer_dispose(&out);
        assert_int_equal(heap.bytes_used, 0);
        n++;
    } while (rc != 0);
    assert_true(n > 2);

    struct file f;
    begin(&f);
    assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
    f.arena.fail_at = 1;
    assert_int_equal(decode(&f), PDB_RESOURCE_EXHAUSTED);
    end(&f);
}

/* MANIFEST_GOLDEN=1 in the environment writes it again: for a new format only. */
static void the_first_format_stays_readable_and_is_still_written(void **state)
{
    (void)state;
    static const char path[] = SOURCE_ROOT "/tests/format/manifest/v1.manifest";
    struct file f;
    static char golden[4096];
    begin(&f);
    assert_int_equal(sample_encode(&f.bytes, NUMBER, SIZE_MAX), 0);
    if (getenv("MANIFEST_GOLDEN") != NULL) {
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        assert_int_equal(fwrite(f.bytes.ptr, 1, f.bytes.len, out), f.bytes.len);
        assert_int_equal(fclose(out), 0);
    }
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    size_t len = fread(golden, 1, sizeof(golden), in);
    (void)fclose(in);
    assert_int_equal(manifest_decode(golden, len, &f.arena, &f.m, &f.trail), 0);
    sample_expect(&f.m, NUMBER);
    assert_int_equal(len, f.bytes.len);
    assert_memory_equal(golden, f.bytes.ptr, len);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_manifest_comes_back_as_it_went_in),
        cmocka_unit_test(the_steps_it_is_encoded_in_do_not_show),
        cmocka_unit_test(an_empty_shard_has_a_manifest_too),
        cmocka_unit_test(rows_that_one_batch_ended_take_two_bytes_each),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(every_other_length_is_found),
        cmocka_unit_test(sections_of_another_manifest_do_not_fit),
        cmocka_unit_test(a_newer_format_is_refused_as_such),
        cmocka_unit_test(unknown_sections_are_skipped_unless_they_must_be_understood),
        cmocka_unit_test(longer_entries_are_read_as_far_as_they_are_known),
        cmocka_unit_test(lies_with_right_checksums_are_found),
        cmocka_unit_test(ended_rows_that_overflow_are_found),
        cmocka_unit_test(sections_twice_or_missing_are_found),
        cmocka_unit_test(memory_that_runs_out_is_an_error_of_each_step),
        cmocka_unit_test(the_first_format_stays_readable_and_is_still_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
