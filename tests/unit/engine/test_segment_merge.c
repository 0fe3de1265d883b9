/* The merge of segments against a plain list of rows: order, what goes, and which ends stay. */
#include "engine/segment_merge.h"

#include "base/rng.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DIMENSION = 5, FIELDS = 2, ROWS_MAX = 4000, INPUTS_MAX = 9 };

static const struct pdb_field fields[FIELDS] = {
    {.name = {"", 0}, .dimension = DIMENSION, .metric = PDB_METRIC_EUCLIDEAN},
    {.name = {"often", 5}, .dimension = 1, .metric = PDB_METRIC_DOT}};

struct model_row {
    char id[24];
    uint64_t version, ended_at; /* SEGMENT_NEVER: it has not */
    int64_t expires_at_us;
    unsigned segment;
    bool second; /* has the second field */
};

struct model {
    struct rng rng;
    unsigned count, inputs;
    struct model_row rows[ROWS_MAX]; /* in the order of a segment */
    struct segment_file files[INPUTS_MAX + 1];
    struct segment_deletes *deletes[INPUTS_MAX];
};

static float value_of(const struct model_row *row, unsigned i)
{
    return (float)row->version + (float)i / 8;
}

static struct segment_schema schema(uint64_t number)
{
    return (struct segment_schema){.collection = {{1}},
                                   .number = number,
                                   .fields = fields,
                                   .field_count = FIELDS,
                                   .vectors_in_place = true};
}

/* ---- segments in memory ---- */

static int to_buffer(void *arg, const void *bytes, size_t len)
{
    struct buffer *out = arg;
    buffer_add(out, bytes, len);
    return out->failed ? PDB_RESOURCE_EXHAUSTED : 0;
}

struct making {
    struct buffer parquet, index;
    struct segment_writer *writer;
    uint64_t number;
};

static void making_begin(struct making *m, uint64_t number)
{
    m->number = number;
    buffer_init_heap(&m->parquet, NULL, 0);
    buffer_init_heap(&m->index, NULL, 0);
    struct segment_writer_options options = {
        .schema = schema(number), .row_group_bytes = 5000, .write = to_buffer, .arg = &m->parquet};
    assert_int_equal(segment_writer_new(&options, &m->writer, NULL), 0);
}

static void making_end(struct making *m, struct segment_file *file)
{
    bool index_bad;
    assert_int_equal(segment_writer_finish(m->writer, NULL), 0);
    assert_int_equal(segment_writer_index(m->writer, &m->index, NULL), 0);
    segment_writer_free(m->writer);
    *file = (struct segment_file){0};
    file_map_of_block(m->parquet.ptr, m->parquet.len, &file->parquet);
    file_map_of_block(m->index.ptr, m->index.len, &file->index);
    struct segment_open_options options = {.schema = schema(m->number),
                                           .parquet = {file->parquet.ptr, file->parquet.len},
                                           .index = {file->index.ptr, file->index.len},
                                           .heap = &file->heap};
    assert_int_equal(segment_open(&options, &file->segment, &index_bad, NULL), 0);
    segment_stats(file->segment, &file->stats);
}

static void close_file(struct segment_file *file)
{
    segment_free(file->segment);
    file_map_close(&file->parquet);
    file_map_close(&file->index);
}

static void write_row(struct making *m, const struct model_row *row)
{
    float values[DIMENSION];
    const void *vectors[FIELDS] = {values, row->second ? &values[1] : NULL};
    for (unsigned i = 0; i < DIMENSION; i++)
        values[i] = value_of(row, i);
    struct pdb_row as_row = {.id = text_of(row->id),
                             .vectors = vectors,
                             .version = row->version,
                             .created_at_us = 1,
                             .updated_at_us = 2,
                             .expires_at_us = row->expires_at_us};
    assert_int_equal(segment_writer_add(m->writer, &as_row, NULL), 0);
}

/* ---- the model ---- */

/* Up to five versions of each id; each ends with the next one, the last perhaps by a delete. */
static void model_rows(struct model *m)
{
    for (unsigned id = 0; m->count + 5 < ROWS_MAX && id < 900; id++) {
        unsigned versions = 1 + (unsigned)rng_below(&m->rng, 5);
        uint64_t version = 10 + rng_below(&m->rng, 900);
        uint64_t end =
            rng_below(&m->rng, 4) == 0 ? version + 1 + rng_below(&m->rng, 300) : SEGMENT_NEVER;
        for (unsigned i = 0; i < versions && version != 0; i++) {
            struct model_row *row = &m->rows[m->count++];
            (void)snprintf(row->id, sizeof(row->id), "%s%05u", id % 2 != 0 ? "a/" : "a", id / 2);
            row->version = version;
            row->ended_at = rng_below(&m->rng, 50) == 0 ? 0 : end;
            row->expires_at_us =
                rng_below(&m->rng, 3) == 0 ? 1 + (int64_t)rng_below(&m->rng, 1000) : 0;
            row->segment = (unsigned)rng_below(&m->rng, m->inputs);
            row->second = rng_below(&m->rng, 2) != 0;
            end = version;
            version -= 1 + rng_below(&m->rng, version < 20 ? version : 20);
        }
    }
}

static int compare_rows(const void *a, const void *b)
{
    const struct model_row *left = a, *right = b;
    int order = strcmp(left->id, right->id);
    return order != 0 ? order : (left->version < right->version) - (left->version > right->version);
}

static struct model *model_new(uint64_t seed, unsigned inputs)
{
    struct model *m = test_calloc(1, sizeof(*m));
    rng_seed(&m->rng, seed);
    m->inputs = inputs;
    model_rows(m);
    qsort(m->rows, m->count, sizeof(m->rows[0]), compare_rows);
    for (unsigned s = 0; s < inputs; s++) {
        struct making making;
        uint32_t row = 0;
        making_begin(&making, s + 1);
        for (unsigned i = 0; i < m->count; i++)
            if (m->rows[i].segment == s)
                write_row(&making, &m->rows[i]);
        making_end(&making, &m->files[s]);
        uint32_t rows = (uint32_t)m->files[s].stats.rows;
        assert_int_equal(segment_deletes_new(NULL, rows, &m->deletes[s]), 0);
        assert_int_equal(segment_deletes_reserve(m->deletes[s], rows), 0);
        for (unsigned i = 0; i < m->count; i++) {
            if (m->rows[i].segment != s)
                continue;
            if (m->rows[i].ended_at != SEGMENT_NEVER)
                segment_deletes_mark(m->deletes[s], row, m->rows[i].ended_at);
            row++;
        }
    }
    return m;
}

static void model_free(struct model *m)
{
    for (unsigned i = 0; i <= INPUTS_MAX; i++)
        close_file(&m->files[i]);
    for (unsigned i = 0; i < INPUTS_MAX; i++)
        segment_deletes_free(m->deletes[i]);
    test_free(m);
}

static struct segment_merge *merge_new(struct model *m, uint64_t oldest, int64_t expired)
{
    struct segment_merge_input inputs[INPUTS_MAX];
    struct segment_merge *merge;
    for (unsigned i = 0; i < m->inputs; i++)
        inputs[i] = (struct segment_merge_input){&m->files[i], m->deletes[i]};
    struct segment_merge_options options = {.inputs = inputs,
                                            .input_count = m->inputs,
                                            .field_count = FIELDS,
                                            .oldest_version = oldest,
                                            .expired_before_us = expired};
    assert_int_equal(segment_merge_new(NULL, &options, &merge), 0);
    return merge;
}

static bool stays(const struct model_row *row, uint64_t oldest, int64_t expired)
{
    return row->ended_at > oldest && (row->expires_at_us == 0 || row->expires_at_us > expired);
}

static void expect_row(const struct pdb_row *row, const struct model_row *want)
{
    assert_true(text_equal(row->id, text_of(want->id)));
    assert_int_equal(row->version, want->version);
    assert_int_equal(row->created_at_us, 1);
    assert_int_equal(row->updated_at_us, 2);
    assert_int_equal(row->expires_at_us, want->expires_at_us);
    assert_true(((const float *)row->vectors[0])[4] == value_of(want, 4));
    assert_int_equal(row->vectors[1] != NULL, want->second);
}

/* All but the values of vectors. */
static void expect_counted(const struct pdb_row *row, const struct model_row *want)
{
    assert_true(text_equal(row->id, text_of(want->id)));
    assert_int_equal(row->version, want->version);
    assert_int_equal(row->created_at_us, 1);
    assert_int_equal(row->updated_at_us, 2);
    assert_int_equal(row->expires_at_us, want->expires_at_us);
    assert_non_null(row->vectors[0]);
    assert_int_equal(row->vectors[1] != NULL, want->second);
}

/* ---- the tests ---- */

static void a_merge_is_the_sorted_rows_without_those_that_nobody_reads(void **state)
{
    (void)state;
    static const struct {
        uint64_t oldest;
        int64_t expired;
    } limits[] = {{0, 0}, {300, 0}, {0, 500}, {500, 700}, {UINT64_MAX - 1, INT64_MAX}};
    for (unsigned inputs = 1; inputs <= INPUTS_MAX; inputs += 4) {
        struct model *m = model_new(inputs, inputs);
        for (size_t l = 0; l < sizeof(limits) / sizeof(limits[0]); l++) {
            struct segment_merge *merge = merge_new(m, limits[l].oldest, limits[l].expired);
            struct segment_source source = segment_merge_source(merge);
            struct segment_merge_stats stats;
            struct pdb_row row;
            for (unsigned pass = 0; pass < 2; pass++) {
                uint64_t kept = 0;
                assert_int_equal(source.begin(source.arg, pass == 0, NULL), 0);
                for (unsigned i = 0; i < m->count; i++) {
                    if (!stays(&m->rows[i], limits[l].oldest, limits[l].expired))
                        continue;
                    assert_int_equal(source.next(source.arg, &row, NULL), 1);
                    if (pass == 0)
                        expect_counted(&row, &m->rows[i]);
                    else
                        expect_row(&row, &m->rows[i]);
                    kept++;
                }
                assert_int_equal(source.next(source.arg, &row, NULL), 0);
                assert_int_equal(source.next(source.arg, &row, NULL), 0);
                segment_merge_stats(merge, &stats);
                assert_int_equal(stats.rows, kept);
                assert_int_equal(stats.rows + stats.rows_ended + stats.rows_expired, m->count);
            }
            segment_merge_free(NULL, merge);
        }
        model_free(m);
    }
}

static void rows_that_stay_are_found_under_their_new_numbers(void **state)
{
    (void)state;
    struct model *m = model_new(77, 5);
    struct segment_file *merged = &m->files[INPUTS_MAX];
    struct segment_merge *merge = merge_new(m, 400, 200);
    struct segment_source source = segment_merge_source(merge);
    struct making making;
    struct pdb_row row;
    making_begin(&making, 99);
    assert_int_equal(source.begin(source.arg, false, NULL), 0);
    while (source.next(source.arg, &row, NULL) == 1)
        assert_int_equal(segment_writer_add(making.writer, &row, NULL), 0);
    making_end(&making, merged);
    uint32_t at = 0, in_segment[INPUTS_MAX] = {0};
    for (unsigned i = 0; i < m->count; i++) {
        uint32_t found, old = in_segment[m->rows[i].segment]++;
        bool kept = stays(&m->rows[i], 400, 200);
        assert_int_equal(
            segment_merge_find(merged->segment, m->files[m->rows[i].segment].segment, old, &found),
            kept);
        if (!kept)
            continue;
        assert_int_equal(found, at);
        at++;
    }
    assert_int_equal(at, merged->stats.rows);
    segment_merge_free(NULL, merge);
    model_free(m);
}

static void a_damaged_page_ends_it_and_the_segment_is_named(void **state)
{
    (void)state;
    struct model *m = model_new(5, 2);
    uint8_t *bytes = (uint8_t *)(uintptr_t)m->files[1].parquet.ptr;
    struct pdb_row row;
    const void *vectors[FIELDS];
    struct trail trail = {0};
    assert_true(segment_row(m->files[1].segment, 0, &row, vectors)); /* where a page begins */
    size_t at = (size_t)((const uint8_t *)vectors[0] - bytes);
    close_file(&m->files[1]);
    m->files[1] = (struct segment_file){0};

    struct making making; /* the same again, and its first page unverified */
    making_begin(&making, 2);
    for (unsigned i = 0; i < m->count; i++)
        if (m->rows[i].segment == 1)
            write_row(&making, &m->rows[i]);
    making_end(&making, &m->files[1]);
    ((uint8_t *)(uintptr_t)m->files[1].parquet.ptr)[at] ^= 4;
    struct segment_merge *merge = merge_new(m, 0, 0);
    struct segment_source source = segment_merge_source(merge);
    int rc;
    assert_int_equal(source.begin(source.arg, true, &trail), 0);
    while ((rc = source.next(source.arg, &row, &trail)) == 1) /* no page is looked at */
        continue;
    assert_int_equal(rc, 0);
    assert_int_equal(source.begin(source.arg, false, &trail), 0);
    while ((rc = source.next(source.arg, &row, &trail)) == 1)
        continue;
    assert_int_equal(rc, PDB_DATA_LOSS);
    assert_non_null(strstr(trail.text, "segment 2"));
    segment_merge_free(NULL, merge);
    model_free(m);
}

static void without_memory_nothing_is_made(void **state)
{
    (void)state;
    struct model *m = model_new(6, 3);
    struct heap heap = {.fail_at = 1};
    struct segment_merge_input input = {&m->files[0], NULL};
    struct segment_merge_options options = {
        .inputs = &input, .input_count = 1, .field_count = FIELDS};
    struct segment_merge *merge;
    assert_int_equal(segment_merge_new(&heap, &options, &merge), PDB_RESOURCE_EXHAUSTED);
    heap.fail_at = 0;
    assert_int_equal(segment_merge_new(&heap, &options, &merge), 0);
    segment_merge_free(&heap, merge);
    assert_int_equal(heap.bytes_used, 0);
    model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_merge_is_the_sorted_rows_without_those_that_nobody_reads),
        cmocka_unit_test(rows_that_stay_are_found_under_their_new_numbers),
        cmocka_unit_test(a_damaged_page_ends_it_and_the_segment_is_named),
        cmocka_unit_test(without_memory_nothing_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
