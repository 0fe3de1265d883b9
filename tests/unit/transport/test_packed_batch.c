/* The columnar form of a batch. */
#include "protobuf_fixture.h"

#include "transport/codec/packed_batch.h"

static const struct pdb_text ids[] = {{"a", 1}, {"b", 1}, {"c", 1}};
static struct pdb_record *records;
static uint32_t count;

static int build(struct packed_batch batch)
{
    trail_reset(&trail);
    return packed_batch_records(&batch, &arena, &api_limits_default, &records, &count, &trail);
}

static void each_id_gets_its_slice(void **state)
{
    (void)state;
    static const char bytes[] = "111122223333";
    assert_int_equal(
        build((struct packed_batch){.ids = ids, .id_count = 3, .vectors = {bytes, 12}}), 0);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_true(text_equal(records[i].id, ids[i]));
        assert_int_equal(records[i].vector_count, 1);
        assert_ptr_equal(records[i].vectors[0].values, bytes + 4 * i);
        assert_int_equal(records[i].vectors[0].count, 4);
        assert_false(records[i].has_metadata);
    }
}

static void without_ids_the_count_comes_from_elsewhere(void **state)
{
    (void)state;
    const struct pdb_text docs[] = {{"", 0}, {"", 0}};
    struct packed_batch batch = {.vectors = {"11112222", 8}};
    assert_true(packed_batch_needs_dimension(&batch));
    assert_int_equal(build(batch), PDB_INVALID_ARGUMENT);
    batch.vector_bytes = 2;
    assert_false(packed_batch_needs_dimension(&batch));
    assert_int_equal(build(batch), 0);
    assert_int_equal(count, 4);
    batch.vector_bytes = 0;
    batch.metadata = docs;
    batch.metadata_count = 2;
    assert_false(packed_batch_needs_dimension(&batch));
    assert_int_equal(build(batch), 0);
    assert_int_equal(count, 2);
    assert_int_equal(records[0].id.len, 0);
    assert_true(records[1].has_metadata);
}

static void sizes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    const struct pdb_text docs[] = {{"", 0}, {"", 0}};
    assert_int_equal(build((struct packed_batch){0}), PDB_INVALID_ARGUMENT);
    assert_told("packed: must not be empty");
    assert_int_equal(build((struct packed_batch){.ids = ids, .id_count = 3}), PDB_INVALID_ARGUMENT);
    assert_told("packed.vectors: must not be empty");
    assert_int_equal(
        build((struct packed_batch){.ids = ids, .id_count = 3, .vectors = {"1234", 4}}),
        PDB_INVALID_ARGUMENT);
    assert_told("packed.vectors: 4 bytes do not divide into 3");
    assert_int_equal(build((struct packed_batch){.ids = ids,
                                                 .id_count = 3,
                                                 .vectors = {"123456", 6},
                                                 .metadata = docs,
                                                 .metadata_count = 2}),
                     PDB_INVALID_ARGUMENT);
    assert_told("packed.metadata: 2 documents for 3 ids");
    assert_int_equal(build((struct packed_batch){.vectors = {"1", 1}, .vector_bytes = 4}),
                     PDB_INVALID_ARGUMENT);
    assert_told("not even one whole vector");
    assert_int_equal(build((struct packed_batch){.vectors = {"123456", 6}, .vector_bytes = 4}),
                     PDB_INVALID_ARGUMENT);
    assert_told("packed.vectors: 6 bytes are not 1 vectors of 4 bytes");
    static char many[PDB_BATCH_RECORDS_MAX + 1];
    assert_int_equal(
        build((struct packed_batch){.vectors = {many, sizeof(many)}, .vector_bytes = 1}),
        PDB_INVALID_ARGUMENT);
    assert_told("limits.batch_records (10000)");
    static char large[PDB_DIMENSION_MAX * 4 + 4];
    assert_int_equal(
        build((struct packed_batch){.ids = ids, .id_count = 1, .vectors = {large, sizeof(large)}}),
        PDB_INVALID_ARGUMENT);
    assert_told("at most 262140");
}

static void failing_memory_is_told(void **state)
{
    (void)state;
    const struct packed_batch batch = {.ids = ids, .id_count = 3, .vectors = {"123", 3}};
    for (uint64_t n = 1; n <= 2; n++) {
        arena.fail_at = n;
        assert_int_equal(build(batch), PDB_RESOURCE_EXHAUSTED);
    }
    arena.fail_at = 3;
    assert_int_equal(build(batch), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(each_id_gets_its_slice),
        TEST(without_ids_the_count_comes_from_elsewhere),
        TEST(sizes_that_do_not_fit_are_refused),
        TEST(failing_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
