/* Search against a brute force in double precision: every metric, with filters of any selectivity,
 * score limits, more k than rows, zero and missing vectors, deleted and expired rows, and norms far
 * outside the usual. */
#include "memtable_fixture.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { DIMENSION = 37, BITS_BYTES = 5, ROWS = 900, K_MAX = 1000 };

static const enum pdb_metric metrics[] = {PDB_METRIC_COSINE, PDB_METRIC_DOT, PDB_METRIC_EUCLIDEAN,
                                          PDB_METRIC_MANHATTAN, PDB_METRIC_HAMMING};

struct source { /* what the brute force knows of a row */
    char id[12];
    float floats[DIMENSION];
    uint8_t bits[BITS_BYTES];
    unsigned group; /* 0..99, in its metadata */
    bool has_vector, alive;
    double score; /* of the query at hand */
};

struct world {
    struct heap heap;
    struct arena arena;
    struct memtable *m;
    struct rng rng;
    enum pdb_metric metric;
    struct source rows[ROWS];
    union {
        float floats[DIMENSION];
        uint8_t bits[BITS_BYTES];
    } query;
    struct memtable_snapshot *snapshot;
    struct topk_item items[K_MAX];
    struct scan_field field;
    struct scan_query scan;
    struct memtable_search search;
};

static struct pdb_text group_metadata(struct arena *arena, unsigned group)
{
    struct pdb_text bytes = {0};
    struct doc_builder *b = doc_builder_new(arena, 0);
    doc_begin_object(b);
    doc_add_key(b, TEXT_LIT("group"));
    doc_add_int(b, group);
    doc_end(b);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), 0);
    return bytes;
}

/* {"group":{"$lt":bound}}: `bound` per cent of the rows. */
static const struct filter *group_filter(struct arena *arena, unsigned bound)
{
    struct pdb_text bytes = {0};
    struct filter *filter = NULL;
    struct doc_builder *b = doc_builder_new(arena, 0);
    doc_begin_object(b);
    doc_add_key(b, TEXT_LIT("group"));
    doc_begin_object(b);
    doc_add_key(b, TEXT_LIT("$lt"));
    doc_add_int(b, bound);
    doc_end(b);
    doc_end(b);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), 0);
    assert_int_equal(filter_compile(arena, bytes, NULL, NULL, &filter), 0);
    return filter;
}

static void random_vector(struct world *w, float *floats, uint8_t *bits, float scale)
{
    for (size_t i = 0; i < DIMENSION; i++)
        floats[i] = scale * (float)rng_normal(&w->rng);
    for (size_t i = 0; i < BITS_BYTES; i++)
        bits[i] = (uint8_t)rng_next(&w->rng);
    bits[BITS_BYTES - 1] &= 0x1f; /* spare bits are 0 */
}

static void commit_source(struct world *w, const struct source *row, uint64_t version, bool deleted)
{
    const void *vector = w->metric == PDB_METRIC_HAMMING ? (const void *)row->bits : row->floats;
    if (!row->has_vector)
        vector = NULL;
    struct pdb_text metadata = group_metadata(&w->arena, row->group);
    struct pdb_row out = {.id = text_of(row->id),
                          .vectors = &vector,
                          .metadata = metadata,
                          .version = version,
                          .expires_at_us = row->alive || deleted ? 0 : 10,
                          .deleted = deleted};
    assert_int_equal(memtable_prepare(w->m, 1, out.id.len + metadata.len), 0);
    memtable_commit(w->m, &out);
}

/* Every 13th row is zero, every 7th without vector, every 5th dead: deleted, expired or not yet
 * visible. */
static void fill(struct world *w, bool extreme)
{
    static const float scales[] = {1e-30f, 1e-18f, 1.0f, 1e15f, 1e28f};
    for (size_t i = 0; i < ROWS; i++) {
        struct source *row = &w->rows[i];
        *row = (struct source){.group = (unsigned)rng_below(&w->rng, 100)};
        (void)snprintf(row->id, sizeof(row->id), "r%zu", i);
        random_vector(w, row->floats, row->bits, extreme ? scales[rng_below(&w->rng, 5)] : 1.0f);
        if (i % 13 == 0)
            memset(row->floats, 0, sizeof(row->floats));
        row->has_vector = i % 7 != 0;
        row->alive = i % 5 != 0;
        if (row->alive && i % 3 == 0) /* an older version with another vector must not be found */
            commit_source(w, &w->rows[i > 0 ? i - 1 : 0], 1, false);
    }
    for (size_t i = 0; i < ROWS; i++)
        commit_source(w, &w->rows[i], 2, false); /* the dead ones expire at 10 */
    for (size_t i = 0; i < ROWS; i += 10)
        commit_source(w, &w->rows[i], 3, true);
    struct source late = w->rows[1];
    memcpy(late.id, "late", 5);
    commit_source(w, &late, 4, false);
}

static void start(struct world *w, enum pdb_metric metric, bool extreme)
{
    memset(w, 0, sizeof(*w));
    rng_seed(&w->rng, 7 + (uint64_t)metric);
    w->metric = metric;
    w->field = (struct scan_field){DIMENSION, metric, DIMENSION * 4, PDB_ELEMENT_FLOAT32};
    if (metric == PDB_METRIC_HAMMING)
        w->field.bytes = BITS_BYTES;
    struct memtable_options options = {
        .heap = &w->heap, .fields = &w->field, .field_count = 1, .chunk_rows = 200};
    assert_int_equal(memtable_new(&options, &w->m), 0);
    fill(w, extreme);
    w->snapshot = snapshot_of(w->m, 3, 10);
    uint8_t unused[BITS_BYTES];
    if (metric == PDB_METRIC_HAMMING)
        random_vector(w, (float[DIMENSION]){0}, w->query.bits, 1);
    else
        random_vector(w, w->query.floats, unused, extreme ? 1e20f : 1.0f);
}

static void stop(struct world *w)
{
    memtable_snapshot_release(w->snapshot);
    memtable_free(w->m);
    assert_int_equal(w->heap.bytes_used, 0);
    arena_dispose(&w->arena);
}

/* ---- brute force ---- */

static double exact_score(const struct world *w, const struct source *row)
{
    double dot = 0, a = 0, b = 0, l1 = 0, l2 = 0;
    int bits = 0;
    if (w->metric == PDB_METRIC_HAMMING) {
        for (size_t i = 0; i < BITS_BYTES; i++)
            bits += __builtin_popcount((unsigned)(w->query.bits[i] ^ row->bits[i]));
        return bits;
    }
    for (size_t i = 0; i < DIMENSION; i++) {
        double q = (double)w->query.floats[i], x = (double)row->floats[i];
        dot += q * x;
        a += q * q;
        b += x * x;
        l1 += fabs(q - x);
        l2 += (q - x) * (q - x);
    }
    if (w->metric == PDB_METRIC_COSINE)
        return a == 0 || b == 0 ? 0 : dot / sqrt(a) / sqrt(b);
    if (w->metric == PDB_METRIC_DOT)
        return dot;
    return w->metric == PDB_METRIC_EUCLIDEAN ? sqrt(l2) : l1;
}

static bool higher_is_better(const struct world *w)
{
    return w->metric == PDB_METRIC_COSINE || w->metric == PDB_METRIC_DOT;
}

static int order_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The scores of all rows that may be found, best first. */
static size_t brute(struct world *w, unsigned group_bound, const char *exclude, double *scores_out)
{
    size_t count = 0;
    for (size_t i = 0; i < ROWS; i++) {
        struct source *row = &w->rows[i];
        row->score = exact_score(w, row);
        if (row->alive && row->has_vector && row->group < group_bound &&
            (exclude == NULL || strcmp(exclude, row->id) != 0))
            scores_out[count++] = higher_is_better(w) ? -row->score : row->score;
    }
    qsort(scores_out, count, sizeof(double), order_doubles);
    for (size_t i = 0; i < count && higher_is_better(w); i++)
        scores_out[i] = -scores_out[i];
    return count;
}

/* ---- search ---- */

static void search(struct world *w, size_t k, const struct filter *filter, size_t budget)
{
    w->scan.field = w->field;
    w->scan.vector = &w->query;
    w->scan.filter = filter;
    topk_init(&w->scan.topk, w->items, k);
    scan_query_begin(&w->scan);
    w->search = (struct memtable_search){.snapshot = w->snapshot, .query = &w->scan};
    memtable_search_begin(&w->search);
    while (!memtable_search_step(&w->search, budget)) {
    }
    topk_sort(&w->scan.topk);
}

static const struct source *source_of(const struct world *w, uint64_t key)
{
    struct pdb_row row;
    memtable_snapshot_row(w->snapshot, key, &row, NULL);
    assert_int_equal(row.version, 2);
    char number[12] = {0};
    assert_true(row.id.len > 1 && row.id.len < sizeof(number));
    memcpy(number, row.id.ptr + 1, row.id.len - 1);
    return &w->rows[strtoul(number, NULL, 10)];
}

static void expect_results(struct world *w, const double *scores, size_t expected,
                           unsigned group_bound, const char *what)
{
    if (w->scan.topk.count != expected)
        fail_msg("metric %d, %s: %zu results, expected %zu", w->metric, what, w->scan.topk.count,
                 expected);
    for (size_t i = 0; i < expected; i++) {
        const struct source *row = source_of(w, w->items[i].key);
        double score = (double)scan_score(w->metric, w->items[i].distance);
        double tolerance = 1e-5 * fmax(fabs(scores[i]), w->metric == PDB_METRIC_DOT ? 10 : 1);
        assert_true(row->alive && row->has_vector && row->group < group_bound);
        /* its own score is right, and no better row was left out */
        if (fabs(score - row->score) > tolerance || fabs(score - scores[i]) > tolerance)
            fail_msg("metric %d, %s: result %zu is %s with %g, exact %g, expected %g", w->metric,
                     what, i, row->id, score, row->score, scores[i]);
        for (size_t j = 0; j < i; j++)
            assert_true(w->items[j].key != w->items[i].key);
    }
}

static void search_equals_brute_force_for_every_metric_filter_and_k(void **state)
{
    (void)state;
    static const unsigned bounds[] = {100, 90, 50, 10, 1, 0};
    static const size_t ks[] = {1, 10, 100, K_MAX};
    static struct world w;
    static double scores[ROWS];
    for (size_t metric = 0; metric < 5; metric++) {
        start(&w, metrics[metric], false);
        for (size_t b = 0; b < sizeof(bounds) / sizeof(bounds[0]); b++) {
            const struct filter *filter =
                bounds[b] < 100 ? group_filter(&w.arena, bounds[b]) : NULL;
            size_t count = brute(&w, bounds[b], NULL, scores);
            for (size_t i = 0; i < sizeof(ks) / sizeof(ks[0]); i++) {
                search(&w, ks[i], filter, 333);
                expect_results(&w, scores, count < ks[i] ? count : ks[i], bounds[b], "plain");
                assert_int_equal(w.scan.rows_seen, memtable_snapshot_rows(w.snapshot));
            }
        }
        stop(&w);
    }
}

static void expect_same_for_any_budget(struct world *w, const struct filter *filter)
{
    static struct topk_item first[K_MAX];
    search(w, 50, filter, SIZE_MAX);
    size_t count = w->scan.topk.count;
    memcpy(first, w->items, sizeof(first));
    for (size_t budget = 1; budget < 200; budget *= 3) {
        search(w, 50, filter, budget);
        assert_int_equal(w->scan.topk.count, count);
        for (size_t i = 0; i < count; i++) { /* by field: padding has no value */
            assert_true(first[i].distance == w->items[i].distance);
            assert_true(first[i].key == w->items[i].key);
        }
    }
}

static void answers_do_not_depend_on_the_budget(void **state)
{
    (void)state;
    static struct world w;
    for (size_t metric = 0; metric < 5; metric++) {
        start(&w, metrics[metric], false);
        expect_same_for_any_budget(&w, NULL);
        expect_same_for_any_budget(&w, group_filter(&w.arena, 60));
        expect_same_for_any_budget(&w, group_filter(&w.arena, 2));
        stop(&w);
    }
}

static size_t count_within(const struct world *w, const double *scores, size_t count, float limit)
{
    size_t within = 0;
    while (within < count && (higher_is_better(w) ? scores[within] >= (double)limit
                                                  : scores[within] <= (double)limit))
        within++;
    return within;
}

static void a_score_limit_keeps_what_is_at_least_as_good(void **state)
{
    (void)state;
    static struct world w;
    static double scores[ROWS];
    for (size_t metric = 0; metric < 5; metric++) {
        start(&w, metrics[metric], false);
        size_t count = brute(&w, 100, NULL, scores), at = 40;
        while (fabs(scores[at] - scores[at + 1]) < 1e-3) /* zero vectors tie; bits often do */
            at++;
        assert_true(at < count / 2);
        float limit = (float)(scores[at] + scores[at + 1]) / 2;
        if (metrics[metric] == PDB_METRIC_HAMMING) /* exact: the limit itself is good enough */
            limit = (float)scores[at];
        w.scan.has_score_limit = true;
        w.scan.score_limit = limit;
        for (unsigned bound = 100; bound >= 50; bound -= 50) {
            const struct filter *filter = bound < 100 ? group_filter(&w.arena, bound) : NULL;
            size_t expected = count_within(&w, scores, brute(&w, bound, NULL, scores), limit);
            search(&w, K_MAX, filter, 100);
            expect_results(&w, scores, expected, bound, "limit");
            search(&w, 10, filter, 100);
            expect_results(&w, scores, expected < 10 ? expected : 10, bound, "limit and k");
        }
        stop(&w);
    }
}

static void the_excluded_record_is_left_out(void **state)
{
    (void)state;
    static struct world w;
    static double scores[ROWS];
    start(&w, PDB_METRIC_EUCLIDEAN, false);
    memcpy(w.query.floats, w.rows[11].floats, sizeof(w.query.floats));
    search(&w, 1, NULL, 100);
    assert_string_equal(source_of(&w, w.items[0].key)->id, "r11");
    assert_true(scan_score(w.metric, w.items[0].distance) == 0.0f);
    w.scan.exclude_id = text_of("r11");
    size_t count = brute(&w, 100, "r11", scores);
    search(&w, K_MAX, NULL, 100);
    expect_results(&w, scores, count, 100, "without itself");
    const struct filter *filter = group_filter(&w.arena, w.rows[11].group + 1);
    count = brute(&w, w.rows[11].group + 1, "r11", scores);
    search(&w, K_MAX, filter, 100);
    expect_results(&w, scores, count, w.rows[11].group + 1, "without itself, filtered");
    stop(&w);
}

static void cosine_is_right_for_huge_tiny_and_zero_vectors(void **state)
{
    (void)state;
    static struct world w;
    static double scores[ROWS];
    static const float scales[] = {1e20f, 1.0f, 1e-20f, 1e-36f, 1e30f, 0.0f};
    start(&w, PDB_METRIC_COSINE, true);
    float base[DIMENSION];
    memcpy(base, w.query.floats, sizeof(base));
    for (size_t s = 0; s < sizeof(scales) / sizeof(scales[0]); s++) {
        for (size_t i = 0; i < DIMENSION; i++)
            w.query.floats[i] = base[i] / 1e20f * scales[s];
        size_t count = brute(&w, 100, NULL, scores);
        search(&w, K_MAX, NULL, 100);
        expect_results(&w, scores, count, 100, "extreme norms");
        search(&w, 20, group_filter(&w.arena, 3), 100);
        count = brute(&w, 3, NULL, scores);
        expect_results(&w, scores, count < 20 ? count : 20, 3, "extreme norms, filtered");
    }
    stop(&w);
}

static void ties_go_to_the_row_that_arrived_first(void **state)
{
    (void)state;
    static struct world w;
    start(&w, PDB_METRIC_HAMMING, false);
    search(&w, 200, NULL, 100);
    for (size_t i = 1; i < w.scan.topk.count; i++) {
        assert_true(w.items[i - 1].distance <= w.items[i].distance);
        if (w.items[i - 1].distance == w.items[i].distance)
            assert_true(w.items[i - 1].key < w.items[i].key);
    }
    stop(&w);
}

static void an_empty_memtable_and_k_zero_have_no_results(void **state)
{
    (void)state;
    static struct world w;
    struct memtable *m = memtable_of(NULL, 0);
    struct memtable_snapshot *s = snapshot_of(m, 5, 0);
    float query[3] = {1, 2, 3};
    struct scan_query scan = {.field = fixture_fields[0], .vector = query};
    topk_init(&scan.topk, w.items, 10);
    scan_query_begin(&scan);
    struct memtable_search none = {.snapshot = s, .query = &scan};
    memtable_search_begin(&none);
    assert_true(memtable_search_step(&none, 1));
    assert_int_equal(scan.topk.count, 0);
    memtable_snapshot_release(s);
    memtable_free(m);
    start(&w, PDB_METRIC_DOT, false);
    search(&w, 0, NULL, 1);
    assert_int_equal(w.scan.topk.count, 0);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search_equals_brute_force_for_every_metric_filter_and_k),
        cmocka_unit_test(answers_do_not_depend_on_the_budget),
        cmocka_unit_test(a_score_limit_keeps_what_is_at_least_as_good),
        cmocka_unit_test(the_excluded_record_is_left_out),
        cmocka_unit_test(cosine_is_right_for_huge_tiny_and_zero_vectors),
        cmocka_unit_test(ties_go_to_the_row_that_arrived_first),
        cmocka_unit_test(an_empty_memtable_and_k_zero_have_no_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
