/* Gates: recall at defaults of every metric, kind of index and kind of codes that there is, on data
 * and in states that have broken indexes elsewhere. Graphs are checked in each: every row reached,
 * degrees in bounds, no dangling link (hnsw_check). What takes a server: tests/recall. */
#include "image_fixture.h"
#include "make_fixture.h"

#include <stdio.h>

enum { DIMENSION = 32, ROWS = 1000, QUERIES = 50, CLUSTERS = 25 };

static const enum pdb_metric metrics[] = {PDB_METRIC_COSINE, PDB_METRIC_DOT, PDB_METRIC_EUCLIDEAN,
                                          PDB_METRIC_MANHATTAN, PDB_METRIC_HAMMING};
static const enum quantize_kind codes[] = {QUANTIZE_NONE, QUANTIZE_SQ8, QUANTIZE_SQ4, QUANTIZE_PQ,
                                           QUANTIZE_BINARY};

struct world {
    struct data rows, queries;
    struct built built;
};

/* Rows of one draw; queries are of another. */
static struct data draw(enum pdb_metric metric, uint32_t count, uint64_t number, bool sorted)
{
    struct data data = data_clustered(count, DIMENSION, CLUSTERS, 3, number, sorted);
    if (metric == PDB_METRIC_HAMMING)
        data_to_bits(&data);
    return data;
}

static struct world world_of(enum pdb_metric metric, uint32_t count, bool sorted)
{
    return (struct world){.rows = draw(metric, count, 0, sorted),
                          .queries = draw(metric, QUERIES, 1, false)};
}

static void world_free(struct world *w)
{
    built_free(&w->built);
    data_free(&w->rows);
    data_free(&w->queries);
}

static const char *name_of(const struct index_spec *spec)
{
    static char name[64];
    (void)snprintf(name, sizeof name, "metric %d, index %d, codes %d", (int)spec->metric,
                   (int)spec->kind, (int)spec->codes);
    return name;
}

static void assert_gate(const struct world *w, const struct index *index,
                        const struct index_spec *spec, const uint64_t *dead, const uint64_t *live)
{
    const struct index_query how = {.k = 10, .gamma = -1, .dead = dead};
    struct built view = {.index = *index};
    if (index->has_graph)
        assert_sound(&index->graph);
    double recall = recall_of(&view, &w->rows, &w->queries, &how, live);
    if (recall < 0.95)
        fail_msg("%s: recall %.4f", name_of(spec), recall);
}

/* Calls `check` for each combination that exists, and sees that there are as many as there were.
 * Sanitizers take ten times as long and see memory, not recall: of every three combinations there,
 * each check takes one, the next check the next, so that six checks take each of them twice. */
static void of_all(void (*check)(const struct index_spec *spec))
{
    static unsigned check_count;
    const unsigned turn = check_count++ % 3;
    unsigned count = 0;
    for (size_t m = 0; m < sizeof metrics / sizeof metrics[0]; m++)
        for (enum index_kind kind = INDEX_FLAT; kind <= INDEX_IVF; kind++)
            for (size_t c = 0; c < sizeof codes / sizeof codes[0]; c++) {
                const struct index_spec spec = spec_of(kind, codes[c], metrics[m], DIMENSION);
                if (!index_make_supports(&spec))
                    continue;
                if (!SANITIZED || count % 3 == turn)
                    check(&spec);
                count++;
            }
    assert_int_equal(count, 3 * 3 * 5 + 2 * 3);
}

/* ---- rows ---- */

static void hold_columns(struct data *data, enum pdb_metric metric)
{
    for (uint32_t row = 0; row < data->count; row++) {
        float *vector = vector_of(data, row);
        for (uint32_t j = 0; j < 4 && metric != PDB_METRIC_HAMMING; j++)
            vector[j] = 3.5f;
        if (metric == PDB_METRIC_HAMMING)
            *(uint8_t *)vector = 0x55;
    }
}

static void check_constant_columns(const struct index_spec *spec)
{
    struct world w = world_of(spec->metric, ROWS, false);
    hold_columns(&w.rows, spec->metric);
    hold_columns(&w.queries, spec->metric);
    make_built(&w.built, &w.rows, spec, 1);
    assert_gate(&w, &w.built.index, spec, NULL, NULL);
    world_free(&w);
}

static void columns_that_never_change_do_no_harm(void **state)
{
    (void)state;
    of_all(check_constant_columns);
}

static void check_sorted(const struct index_spec *spec)
{
    struct world w = world_of(spec->metric, ROWS, true);
    make_built(&w.built, &w.rows, spec, 2);
    assert_gate(&w, &w.built.index, spec, NULL, NULL);
    world_free(&w);
}

static void rows_in_order_of_their_clusters_are_found(void **state)
{
    (void)state;
    of_all(check_sorted);
}

/* One row in three is the same, wherever they lie. What is measured by the others needs enough of
 * them. */
static void check_copies(const struct index_spec *spec)
{
    struct world w = world_of(spec->metric, 3 * ROWS / 2, false);
    for (uint32_t row = 0; row < w.rows.count; row += 3)
        memcpy(vector_of(&w.rows, row), vector_of(&w.rows, 0), DIMENSION * sizeof(float));
    make_built(&w.built, &w.rows, spec, 1);
    assert_gate(&w, &w.built.index, spec, NULL, NULL);
    world_free(&w);
}

static void one_row_many_times_hides_no_other(void **state)
{
    (void)state;
    of_all(check_copies);
}

/* 1, 2, and k - 1 rows: all of them come back. No row at all is refused. */
static void check_few(const struct index_spec *spec)
{
    static const uint32_t counts[] = {1, 2, 9};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct data rows = draw(spec->metric, counts[i], 0, false);
        struct index_scratch *scratch = NULL;
        struct heap heap = {0};
        struct built built;
        static struct hits hits;
        const struct index_query all = {.vector = vector_of(&rows, 0), .k = 10, .gamma = -1};
        make_built(&built, &rows, spec, 1);
        if (built.index.has_graph)
            assert_sound(&built.index.graph);
        assert_int_equal(index_scratch_open(&heap, counts[i], DIMENSION, &scratch), PDB_OK);
        find(&built.index, &rows, scratch, &all, 1500, &hits);
        assert_int_equal(hits.count, counts[i]);
        index_scratch_close(scratch, &heap);
        built_free(&built);
        data_free(&rows);
    }
    struct data none = data_new(0, DIMENSION);
    const struct source source = {&none, NOT_BROKEN};
    const struct index_rows rows = rows_of(&source);
    struct index_make *make = NULL;
    assert_int_equal(index_make_begin(spec, &rows, NULL, &make), PDB_OUT_OF_RANGE);
    data_free(&none);
}

static void fewer_rows_than_asked_for_all_come_back(void **state)
{
    (void)state;
    of_all(check_few);
}

/* ---- states ---- */

/* Three of ten rows are dead, in an index that was written and read back. */
static void check_dead(const struct index_spec *spec)
{
    struct world w = world_of(spec->metric, ROWS, false);
    uint64_t dead[ROWS / 64 + 1] = {0}, live[ROWS / 64 + 1] = {0};
    struct heap heap = {0};
    struct index again;
    for (uint32_t row = 0; row < ROWS; row++)
        (row % 10 < 3 ? dead : live)[row / 64] |= (uint64_t)1 << row % 64;
    make_built(&w.built, &w.rows, spec, 1);
    struct image image = image_of(&w.built.index);
    assert_int_equal(open_image(&image, SIZE_MAX, &heap, &again), PDB_OK);
    assert_gate(&w, &again, spec, dead, live);
    index_dispose(&again, &heap);
    free(image.bytes);
    world_free(&w);
}

static void live_rows_are_found_among_dead_ones_after_a_restart(void **state)
{
    (void)state;
    of_all(check_dead);
}

/* Rows from 0 to `lost` are gone, as many others follow. */
static void replace(struct world *w, const struct index_spec *spec, uint32_t lost, uint64_t number)
{
    struct data gained = draw(spec->metric, lost, number, false), rows = data_new(ROWS, DIMENSION);
    const size_t bytes = DIMENSION * sizeof(float);
    uint32_t now[ROWS];
    struct built next = {0};
    for (uint32_t row = 0; row < ROWS; row++)
        now[row] = row < lost ? INDEX_ROW_GONE : row - lost;
    memcpy(rows.vectors, vector_of(&w->rows, lost), (ROWS - lost) * bytes);
    memcpy(vector_of(&rows, ROWS - lost), gained.vectors, lost * bytes);
    const struct source source = {&rows, NOT_BROKEN};
    struct index_rows merged = rows_of(&source);
    merged.base = &w->built.index;
    merged.base_rows = now;
    assert_int_equal(make_all(spec, &merged, 1, &next.heap, &next.index), PDB_OK);
    built_free(&w->built);
    data_free(&w->rows);
    data_free(&gained);
    w->built = next;
    w->rows = rows;
}

/* In three merges, each with a third of other rows. */
static void check_replaced(const struct index_spec *spec)
{
    struct world w = world_of(spec->metric, ROWS, false);
    make_built(&w.built, &w.rows, spec, 1);
    for (uint64_t i = 0; i < 3; i++)
        replace(&w, spec, ROWS / 3 + 1, 10 + i);
    assert_gate(&w, &w.built.index, spec, NULL, NULL);
    struct built fresh;
    const struct index_query how = {.k = 10, .gamma = -1};
    make_built(&fresh, &w.rows, spec, 1);
    double ours = recall_of(&w.built, &w.rows, &w.queries, &how, NULL);
    double theirs = recall_of(&fresh, &w.rows, &w.queries, &how, NULL);
    if (ours < theirs - 0.01 - 0.02) /* 500 places: two deviations of recall 0.95 are 0.02 */
        fail_msg("%s: recall %.4f after merges, %.4f fresh", name_of(spec), ours, theirs);
    built_free(&fresh);
    world_free(&w);
}

static void when_all_rows_were_replaced_they_are_found_as_in_a_fresh_index(void **state)
{
    (void)state;
    of_all(check_replaced);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_that_never_change_do_no_harm),
        cmocka_unit_test(rows_in_order_of_their_clusters_are_found),
        cmocka_unit_test(one_row_many_times_hides_no_other),
        cmocka_unit_test(fewer_rows_than_asked_for_all_come_back),
        cmocka_unit_test(live_rows_are_found_among_dead_ones_after_a_restart),
        cmocka_unit_test(when_all_rows_were_replaced_they_are_found_as_in_a_fresh_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
