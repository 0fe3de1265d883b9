/* Avro batches: what the schema allows is read in place, everything else is refused where it goes
 * wrong. */
#include "protobuf_fixture.h"

#include "transport/codec/avro_records.h"

static int decode_within(struct arena *memory, struct avro_records_decoder *d, struct pdb_text body)
{
    int rc = 0;
    trail_reset(&trail);
    avro_records_open(d, memory, &api_limits_default, body, "vectors", &trail);
    while ((rc = avro_records_step(d)) > 0)
        continue;
    return rc;
}

static int decode(struct avro_records_decoder *d, const void *bytes, size_t len)
{
    return decode_within(&arena, d, exact(bytes, len));
}
#define DECODE(d, literal) decode(d, literal, sizeof(literal) - 1)

/* One record: id "a", field "" of four bytes, metadata {"k":1}, expires_at_us -2, if_version 5. */
#define RECORD                                                                                     \
    "\x02"                                                                                         \
    "a"                                                                                            \
    "\x02\x00\x08"                                                                                 \
    "1234"                                                                                         \
    "\x00"                                                                                         \
    "\x02\x0e{\"k\":1}"                                                                            \
    "\x02\x03"                                                                                     \
    "\x02\x0a"
/* The least there is: an empty id and nothing else. */
#define EMPTY "\x00\x00\x00\x00\x00"

static void a_record_is_read_in_place(void **state)
{
    (void)state;
    struct avro_records_decoder d;
    assert_int_equal(DECODE(&d, "\x02" RECORD "\x00"), 0);
    assert_int_equal(d.count, 1);
    const struct pdb_record *r = &d.records[0];
    assert_text(r->id, "a");
    assert_int_equal(r->vector_count, 1);
    assert_int_equal(r->vectors[0].form, PDB_VECTOR_BYTES);
    assert_int_equal(r->vectors[0].count, 4);
    assert_memory_equal(r->vectors[0].values, "1234", 4);
    const uint8_t *at = r->vectors[0].values;
    assert_true(at > d.body && at < d.at.end);
    assert_doc(r->metadata, "{\"k\":1}");
    assert_true(r->has_metadata && r->has_expires_at && r->has_if_version);
    assert_int_equal(r->expires_at_us, -2);
    assert_int_equal(r->if_version, 5);
}

static void blocks_may_follow_and_tell_their_size(void **state)
{
    (void)state;
    struct avro_records_decoder d;
    assert_int_equal(DECODE(&d, "\x04" EMPTY EMPTY "\x01\x0a" EMPTY "\x03\x14" EMPTY EMPTY "\x00"),
                     0);
    assert_int_equal(d.count, 5);
    assert_false(d.records[4].has_metadata || d.records[4].has_expires_at ||
                 d.records[4].has_if_version);
    assert_int_equal(DECODE(&d, "\x00"), 0);
    assert_int_equal(d.count, 0);
}

static void a_block_that_tells_a_wrong_size_is_refused(void **state)
{
    (void)state;
    struct avro_records_decoder d;
    assert_int_equal(DECODE(&d, "\x01\x0c" EMPTY "\x00\x00"), PDB_INVALID_ARGUMENT);
    assert_told("does not end where its size says");
    assert_int_equal(DECODE(&d, "\x01\x7e" EMPTY "\x00"),
                     PDB_INVALID_ARGUMENT); /* more than there is */
    assert_int_equal(DECODE(&d, "\x01\x01" EMPTY "\x00"), PDB_INVALID_ARGUMENT); /* negative */
}

static void hostile_counts_and_lengths_allocate_nothing(void **state)
{
    (void)state;
    static const struct pdb_text rows[] = {
        {"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10},     /* 2^63 - 1 records */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", 11}, /* -2^63, in 0 bytes */
        {"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x03", 10},     /* more than 64 bits */
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 11}, /* eleven bytes */
        {"\x02\xfe\xff\xff\xff\x0f\x00\x00\x00\x00\x00", 11}, /* an id of 2 GiB */
        {"\x02\x01\x00\x00\x00\x00\x00", 7},                  /* of -1 bytes */
        {"\x02\x00\xfe\xff\xff\xff\x0f\x00\x00\x00\x00", 11}, /* 2^31 vectors */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct arena none;
        struct avro_records_decoder d;
        arena_init(&none, 0);
        if (decode_within(&none, &d, exact(rows[i].ptr, rows[i].len)) != PDB_INVALID_ARGUMENT)
            fail_msg("row %zu", i);
        assert_int_equal(none.bytes_used, 0);
        arena_dispose(&none);
    }
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    struct avro_records_decoder d;
    assert_int_equal(DECODE(&d, "\x04" EMPTY "\x02\xff\x00\x00\x00\x00\x00"), PDB_INVALID_ARGUMENT);
    assert_told("vectors[1].id: invalid UTF-8");
    assert_int_equal(DECODE(&d, "\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
                     PDB_INVALID_ARGUMENT);
    assert_told("vectors[0].vectors: field '' is given twice");
    assert_int_equal(DECODE(&d, "\x02\x00\x00\x04\x00\x00\x00\x00"), PDB_INVALID_ARGUMENT);
    assert_told("vectors[0].metadata: a union has no branch 2");
    assert_int_equal(DECODE(&d, "\x02\x00\x00\x02\x04[]\x00\x00\x00"), PDB_INVALID_ARGUMENT);
    assert_told("vectors[0].metadata: not a JSON object");
    assert_int_equal(DECODE(&d, "\x02\x00\x00\x02\x1a{\"k\":1,\"k\":2}\x00\x00\x00"),
                     PDB_INVALID_ARGUMENT);
    assert_told("vectors[0].metadata: ");
    assert_int_equal(DECODE(&d, "\x02\x00\x00\x02\x06{}]\x00\x00\x00"), PDB_INVALID_ARGUMENT);
    assert_int_equal(DECODE(&d, "\x02\x00\x00\x00\x00\x02\x01\x00"), PDB_INVALID_ARGUMENT);
    assert_told("vectors[0].if_version: must not be negative");
    assert_int_equal(DECODE(&d, "\x02" EMPTY "\x00\x00"), PDB_INVALID_ARGUMENT);
    assert_told("1 bytes follow");
}

static void a_body_cut_at_every_byte_is_refused(void **state)
{
    (void)state;
    static const char body[] = "\x04" RECORD EMPTY "\x02" RECORD "\x00";
    struct avro_records_decoder d;
    for (size_t len = 0; len < sizeof(body) - 1; len++)
        assert_int_equal(decode(&d, body, len), PDB_INVALID_ARGUMENT);
    assert_int_equal(decode(&d, body, sizeof(body) - 1), 0);
    assert_int_equal(d.count, 3);
}

static void more_records_than_the_limit_are_refused(void **state)
{
    (void)state;
    enum { BLOCKS = PDB_BATCH_RECORDS_MAX + 1 };
    static char body[BLOCKS * 6 + 1];
    for (size_t i = 0; i < BLOCKS; i++)
        body[i * 6] = 2; /* blocks of one empty record */
    struct avro_records_decoder d;
    assert_int_equal(decode(&d, body, sizeof(body) - 7), PDB_INVALID_ARGUMENT); /* no end */
    assert_int_equal(decode(&d, body, sizeof(body)), PDB_INVALID_ARGUMENT);
    assert_told("limits.batch_records (10000)");
    body[(BLOCKS - 1) * 6] = 0;
    assert_int_equal(decode(&d, body, (BLOCKS - 1) * 6 + 1), 0);
    assert_int_equal(d.count, PDB_BATCH_RECORDS_MAX);
}

static void every_failing_allocation_is_told(void **state)
{
    (void)state;
    unsigned failures = 0;
    for (uint64_t n = 1;; n++, failures++) {
        struct arena failing;
        struct avro_records_decoder d;
        arena_init(&failing, 0);
        failing.fail_at = n;
        int rc = decode_within(&failing, &d, exact("\x02" RECORD "\x00", sizeof(RECORD) + 1));
        arena_dispose(&failing);
        if (rc == 0)
            break;
        assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
    }
    assert_true(failures >= 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_record_is_read_in_place),
        TEST(blocks_may_follow_and_tell_their_size),
        TEST(a_block_that_tells_a_wrong_size_is_refused),
        TEST(hostile_counts_and_lengths_allocate_nothing),
        TEST(what_is_wrong_is_named),
        TEST(a_body_cut_at_every_byte_is_refused),
        TEST(more_records_than_the_limit_are_refused),
        TEST(every_failing_allocation_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
