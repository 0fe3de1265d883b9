/* Segments written, opened, rebuilt and checked: whatever goes in comes out, whatever the schema,
 * the compression and the size. */
#include "segment_fixture.h"

static const enum pdb_compression compressions[] = {PDB_COMPRESSION_NONE, PDB_COMPRESSION_SNAPPY,
                                                    PDB_COMPRESSION_LZ4, PDB_COMPRESSION_ZSTD};

static void assert_sound(struct fixture *fx)
{
    struct trail trail = {0};
    uint64_t page = 0;
    while (!segment_verify_step(fx->segment, &page, 1000))
        ;
    assert_int_equal(page, fx->segment->page_total);
    assert_false(segment_damaged(fx->segment));
    if (segment_check(fx->segment, fixture_print, NULL, &trail) != 0)
        fail_msg("check: %s", trail.text);
}

/* A rebuilt index is the lost one, byte for byte, when the seed is the same. */
static void assert_rebuilds(struct fixture *fx)
{
    struct trail trail = {0};
    struct buffer again;
    struct segment_open_options options = fixture_options(fx);
    buffer_init_heap(&again, NULL, 0);
    options.index = (struct segment_bytes){NULL, 0};
    if (segment_index_rebuild(&options, fx->hash_seed, &again, &trail) != 0)
        fail_msg("rebuild: %s", trail.text);
    assert_int_equal(again.len, fx->index.len);
    assert_memory_equal(again.ptr, fx->index.ptr, again.len);
    fx->index.len = 0;
    if (segment_index_rebuild_to(&options, fx->hash_seed, fixture_index_sink, fx, &trail) != 0)
        fail_msg("rebuild: %s", trail.text);
    assert_int_equal(again.len, fx->index.len);
    assert_memory_equal(again.ptr, fx->index.ptr, again.len);
    again.len = 0;
    assert_int_equal(segment_index_rebuild(&options, fx->hash_seed + 1, &again, &trail), 0);
    segment_free(fx->segment);
    fx->segment = NULL;
    struct buffer first = fx->index;
    fx->index = again;
    fixture_open(fx);
    fixture_compare(fx);
    assert_sound(fx);
    buffer_dispose(&first);
}

static void round_trip(uint64_t seed, uint32_t count, enum pdb_compression compression,
                       bool in_place)
{
    struct fixture fx;
    struct trail trail = {0};
    struct segment_stats stats;
    fixture_init(&fx, seed, count);
    fx.schema.compression = compression;
    fx.schema.vectors_in_place = in_place;
    if (count > 2000)
        fx.row_group_bytes = 0; /* one row group of several pages */
    if (fixture_write(&fx, &trail) != 0)
        fail_msg("write: %s", trail.text);
    fixture_open(&fx);
    fixture_compare(&fx);
    assert_sound(&fx);
    segment_stats(fx.segment, &stats);
    assert_true(stats.rows == count && stats.number == fx.schema.number);
    assert_true(stats.parquet_bytes == fx.parquet.len && fx.stats.parquet_bytes == fx.parquet.len);
    assert_true(stats.index_bytes == fx.index.len);
    assert_true(stats.version_min == fx.stats.version_min);
    assert_true(stats.version_max == fx.stats.version_max && stats.version_max > 0);
    assert_true(stats.expires_min_us == fx.stats.expires_min_us);
    bool compressed = compression != PDB_COMPRESSION_NONE && !in_place;
    assert_int_equal(stats.vector_bytes == 0, compressed);
    assert_rebuilds(&fx);
    fixture_dispose(&fx);
}

static void every_row_comes_back_from_both_files(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 63, 64, 65, 511, 512, 513, 1500};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        round_trip(i + 1, counts[i], PDB_COMPRESSION_NONE, true);
    for (uint64_t seed = 20; seed < 40; seed++)
        round_trip(seed, 300, compressions[seed % 4], seed % 3 == 0);
    for (uint64_t seed = 40; seed < 44; seed++)
        round_trip(seed, FIXTURE_ROWS_MAX, compressions[seed % 4], seed % 4 == 1);
}

/* The same bytes at the same places, in whatever portions they leave; and, once it is under way,
 * hardly any memory. */
static void a_counted_segment_is_written_as_it_grows_and_is_the_same(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 63, 64, 65, 511, 512, 513, 1024, 1100, FIXTURE_ROWS_MAX};
    for (uint32_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct fixture fx, counted;
        struct trail trail = {0};
        fixture_init(&fx, 100 + i, counts[i]);
        fixture_init(&counted, 100 + i, counts[i]);
        counted.counted = true;
        fx.row_group_bytes = counted.row_group_bytes = 1000 + 3000 * i;
        assert_int_equal(fixture_write(&fx, &trail), 0);
        assert_int_equal(fixture_write(&counted, &trail), 0);
        assert_int_equal(counted.parquet.len, fx.parquet.len);
        assert_memory_equal(counted.parquet.ptr, fx.parquet.ptr, fx.parquet.len);
        assert_int_equal(counted.index.len, fx.index.len);
        assert_memory_equal(counted.index.ptr, fx.index.ptr, fx.index.len);
        fixture_open(&counted);
        fixture_compare(&counted);
        assert_sound(&counted);
        fixture_dispose(&counted);
        fixture_dispose(&fx);
    }
}

static void one_row_more(struct segment_census *census)
{
    census->rows++;
}

static void one_id_less(struct segment_census *census)
{
    census->ids--;
}

static void a_byte_less(struct segment_census *census)
{
    census->doc_bytes--;
}

static void a_byte_more(struct segment_census *census)
{
    census->id_bytes++;
}

static void a_vector_less(struct segment_census *census)
{
    census->vectors[0]--;
}

/* Nothing is written over a neighbour, and no index is made of what has changed meanwhile. */
static void rows_that_are_not_those_that_were_counted_are_refused(void **state)
{
    (void)state;
    void (*const all[])(struct segment_census *) = {one_row_more, one_id_less, a_byte_less,
                                                    a_byte_more, a_vector_less};
    for (uint32_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct fixture fx;
        struct trail trail = {0};
        fixture_init(&fx, 2 * i, 1000);
        fx.counted = true;
        fx.miscount = all[i];
        assert_int_equal(fixture_write(&fx, &trail), PDB_DATA_LOSS);
        fixture_dispose(&fx);
    }
}

static void rows_without_fields_and_columns_are_rows(void **state)
{
    (void)state;
    struct fixture fx;
    struct trail trail = {0};
    fixture_init(&fx, 3, 100);
    fx.schema.field_count = fx.schema.column_count = 0;
    for (uint32_t i = 0; i < fx.count; i++)
        fx.rows[i].row.vectors = NULL;
    assert_int_equal(fixture_write(&fx, &trail), 0);
    fixture_open(&fx);
    fixture_compare(&fx);
    assert_sound(&fx);
    fixture_dispose(&fx);
}

static void documents_without_a_column_need_none(void **state)
{
    (void)state;
    struct fixture fx;
    struct trail trail = {0};
    fixture_init(&fx, 4, 200);
    fx.schema.column_count = 0;
    assert_int_equal(fixture_write(&fx, &trail), 0);
    fixture_open(&fx);
    fixture_compare(&fx);
    assert_rebuilds(&fx);
    fixture_dispose(&fx);
}

/* The catalog may know more columns by now: the file says itself which ones it has. */
static void a_file_is_rebuilt_by_its_own_schema(void **state)
{
    (void)state;
    struct fixture fx;
    struct trail trail = {0};
    fixture_init(&fx, 5, 200);
    assert_int_equal(fixture_write(&fx, &trail), 0);
    fx.schema.column_count = 0;
    fx.schema.compression = PDB_COMPRESSION_ZSTD;
    fx.schema.vectors_in_place = false;
    fixture_open(&fx);
    fixture_compare(&fx);
    assert_rebuilds(&fx);
    fixture_dispose(&fx);
}

static void a_segment_without_rows_is_refused(void **state)
{
    (void)state;
    struct fixture fx;
    struct trail trail = {0};
    fixture_init(&fx, 1, 0);
    assert_int_equal(fixture_write(&fx, &trail), PDB_INVALID_ARGUMENT);
    fixture_dispose(&fx);
}

static void fail_each_write(bool counted)
{
    struct fixture fx;
    uint64_t n = 1;
    fixture_init(&fx, 6, counted ? 300 : 1200);
    fx.counted = counted;
    for (;; n++) {
        struct trail trail = {0};
        fx.write_fails_at = n;
        int rc = fixture_write(&fx, &trail);
        assert_int_equal(fx.heap.bytes_used, 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, PDB_UNAVAILABLE);
        assert_true(trail.len > 0);
    }
    assert_true(n > 2);
    fixture_dispose(&fx);
}

static void a_failing_write_ends_the_writer_with_its_error(void **state)
{
    (void)state;
    fail_each_write(false);
    fail_each_write(true);
}

static void fail_each_allocation(bool counted)
{
    struct fixture fx;
    uint64_t n = 1;
    fixture_init(&fx, 7, 40);
    fx.counted = counted;
    fx.row_group_bytes = 6000;
    fx.schema.compression = PDB_COMPRESSION_ZSTD;
    for (;; n++) {
        struct trail trail = {0};
        fx.heap.allocation_count = 0;
        fx.heap.fail_at = n;
        int rc = fixture_write(&fx, &trail);
        assert_int_equal(fx.heap.bytes_used, 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, PDB_RESOURCE_EXHAUSTED);
        assert_true(trail.len > 0);
    }
    assert_true(n > 100);
    fx.heap.fail_at = 0;
    fixture_open(&fx);
    fixture_compare(&fx);
    fixture_dispose(&fx);
}

static void a_writer_without_memory_says_so_and_leaks_none(void **state)
{
    (void)state;
    fail_each_allocation(false);
    fail_each_allocation(true);
}

static void opening_and_rebuilding_without_memory_say_so(void **state)
{
    (void)state;
    struct fixture fx;
    struct trail trail = {0};
    fixture_init(&fx, 8, 60);
    fx.schema.compression = PDB_COMPRESSION_LZ4;
    fx.schema.vectors_in_place = false;
    assert_int_equal(fixture_write(&fx, &trail), 0);
    struct segment_open_options options = fixture_options(&fx);
    int rc = PDB_RESOURCE_EXHAUSTED;
    for (uint64_t n = 1; rc != 0; n++) {
        bool index_bad = true;
        fx.heap.allocation_count = 0;
        fx.heap.fail_at = n;
        rc = segment_open(&options, &fx.segment, &index_bad, &trail);
        assert_true(rc == 0 || rc == PDB_RESOURCE_EXHAUSTED);
        assert_true(rc == 0 || fx.heap.bytes_used == 0);
        assert_false(index_bad);
    }
    segment_free(fx.segment);
    fx.segment = NULL;
    rc = PDB_RESOURCE_EXHAUSTED;
    for (uint64_t n = 1; rc != 0; n++) {
        struct buffer again;
        buffer_init_heap(&again, NULL, 0);
        fx.heap.allocation_count = 0;
        fx.heap.fail_at = n;
        rc = segment_index_rebuild(&options, 1, &again, &trail);
        assert_true(rc == 0 || rc == PDB_RESOURCE_EXHAUSTED);
        assert_int_equal(fx.heap.bytes_used, 0);
        buffer_dispose(&again);
    }
    fixture_dispose(&fx);
}

/* Ids that all fall into a few buckets still find their rows, and strangers find none. */
static void strangers_are_not_found(void **state)
{
    (void)state;
    struct fixture fx;
    fixture_make(&fx, 9, 2000);
    for (uint32_t i = 0; i < 20000; i++) {
        char id[16];
        uint32_t row = 0;
        int len = snprintf(id, sizeof(id), "x%u", i);
        assert_false(segment_index_find(fx.segment, (struct pdb_text){id, (size_t)len}, &row));
    }
    fixture_dispose(&fx);
}

static void pages_of_vectors_are_whole_and_aligned(void **state)
{
    (void)state;
    struct fixture fx;
    struct trail trail = {0};
    fixture_init(&fx, 10, FIXTURE_ROWS_MAX);
    fx.row_group_bytes = 300000;
    assert_int_equal(fixture_write(&fx, &trail), 0);
    fixture_open(&fx);
    assert_true(fx.segment->fields[2].page_count > 4);
    for (uint32_t f = 0; f < FIXTURE_FIELDS; f++) {
        const struct segment_field *field = &fx.segment->fields[f];
        for (uint32_t p = 0; p < field->page_count; p++) {
            assert_int_equal(field->pages[p].offset % 64, 0);
            assert_int_equal(segment_page_of(field, field->pages[p].first), p);
            assert_int_equal(
                segment_page_of(field, field->pages[p].first + field->pages[p].count - 1), p);
        }
    }
    fixture_dispose(&fx);
}

/* As many fields, columns and dimensions, and as long ids, as there may be. */
static void what_the_limits_allow_is_stored(void **state)
{
    (void)state;
    enum { ROWS = 5 };
    static struct pdb_field fields[PDB_FIELD_MAX];
    static struct pdb_column columns[PDB_COLUMN_MAX];
    static char names[PDB_FIELD_MAX][8], column_names[PDB_COLUMN_MAX][8], ids[ROWS][600];
    static float values[PDB_DIMENSION_MAX];
    struct fixture fx;
    struct trail trail = {0};
    const void *vectors[PDB_FIELD_MAX] = {NULL};
    fixture_init(&fx, 12, 0);
    free(fx.rows);
    fx.rows = calloc(ROWS, sizeof(*fx.rows));
    for (uint32_t f = 0; f < PDB_FIELD_MAX; f++) {
        int len = snprintf(names[f], sizeof(names[f]), "f%u", f);
        fields[f] = (struct pdb_field){.name = {names[f], (size_t)len},
                                       .dimension = f < 2 ? PDB_DIMENSION_MAX : 1,
                                       .metric = f == 1 ? PDB_METRIC_HAMMING : PDB_METRIC_DOT};
        vectors[f] = f % 3 != 2 ? values : NULL;
    }
    for (uint32_t i = 0; i < PDB_COLUMN_MAX; i++) {
        int len = snprintf(column_names[i], sizeof(column_names[i]), "c%u", i);
        columns[i] = (struct pdb_column){{column_names[i], (size_t)len}, PDB_COLUMN_GEO};
    }
    for (uint32_t i = 0; i < PDB_DIMENSION_MAX; i++)
        values[i] = (float)i;
    for (uint32_t i = 0; i < ROWS; i++) {
        memset(ids[i], 'a' + (int)i, sizeof(ids[i]));
        fx.rows[i].row = (struct pdb_row){
            .id = {ids[i], PDB_ID_BYTES_MAX}, .vectors = vectors, .version = UINT64_MAX - 1};
    }
    fx.count = ROWS;
    fx.schema.fields = fields;
    fx.schema.field_count = PDB_FIELD_MAX;
    fx.schema.columns = columns;
    fx.schema.column_count = PDB_COLUMN_MAX;
    if (fixture_write(&fx, &trail) != 0)
        fail_msg("write: %s", trail.text);
    fixture_open(&fx);
    fixture_compare(&fx);
    assert_sound(&fx);
    assert_rebuilds(&fx);
    fixture_dispose(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_comes_back_from_both_files),
        cmocka_unit_test(a_counted_segment_is_written_as_it_grows_and_is_the_same),
        cmocka_unit_test(rows_that_are_not_those_that_were_counted_are_refused),
        cmocka_unit_test(rows_without_fields_and_columns_are_rows),
        cmocka_unit_test(documents_without_a_column_need_none),
        cmocka_unit_test(a_file_is_rebuilt_by_its_own_schema),
        cmocka_unit_test(a_segment_without_rows_is_refused),
        cmocka_unit_test(a_failing_write_ends_the_writer_with_its_error),
        cmocka_unit_test(a_writer_without_memory_says_so_and_leaks_none),
        cmocka_unit_test(opening_and_rebuilding_without_memory_say_so),
        cmocka_unit_test(strangers_are_not_found),
        cmocka_unit_test(pages_of_vectors_are_whole_and_aligned),
        cmocka_unit_test(what_the_limits_allow_is_stored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
