/* The exact scan by itself: blocks by hand. What it finds in memtables and segments is tested
 * there, against brute forces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/doc.h"
#include "base/rng.h"
#include "base/text.h"
#include "segment/scan.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { DIMENSION = 3, ROWS = 512, K = 10 };

struct world {
    struct arena arena;
    struct rng rng;
    float vectors[ROWS][DIMENSION];
    float inverse_norms[ROWS];
    uint64_t keys[ROWS];
    bool hidden[ROWS];
    struct pdb_text documents[ROWS];
    unsigned looked_at; /* calls of wanted */
    float vector[DIMENSION];
    struct topk_item items[ROWS];
    struct scan_query query;
};

struct owner {
    struct world *world;
    uint32_t first;
};

static bool wanted(const struct scan_block *block, const struct scan_query *query, uint32_t i)
{
    const struct owner *owner = block->owner;
    assert_ptr_equal(query, &owner->world->query);
    owner->world->looked_at++;
    return !owner->world->hidden[owner->first + i];
}

static struct pdb_text metadata(const struct scan_block *block, uint32_t i)
{
    const struct owner *owner = block->owner;
    return owner->world->documents[owner->first + i];
}

static struct pdb_text document(struct arena *arena, const char *op, unsigned value)
{
    struct pdb_text bytes = {0};
    struct doc_builder *b = doc_builder_new(arena, 0);
    doc_begin_object(b);
    doc_add_key(b, TEXT_LIT("n"));
    if (op != NULL) {
        doc_begin_object(b);
        doc_add_key(b, text_of(op));
    }
    doc_add_int(b, value);
    if (op != NULL)
        doc_end(b);
    doc_end(b);
    assert_int_equal(doc_builder_finish(b, &bytes, NULL), 0);
    return bytes;
}

static void start(struct world *w, enum pdb_metric metric)
{
    memset(w, 0, sizeof(*w));
    rng_seed(&w->rng, 3);
    for (uint32_t i = 0; i < ROWS; i++) {
        for (uint32_t d = 0; d < DIMENSION; d++)
            w->vectors[i][d] = (float)rng_normal(&w->rng);
        w->inverse_norms[i] = scan_inverse_norm(w->vectors[i], DIMENSION, PDB_ELEMENT_FLOAT32);
        w->keys[i] = 5 + 3 * (uint64_t)i;
        w->documents[i] = document(&w->arena, NULL, i);
    }
    w->vector[0] = 1;
    w->query = (struct scan_query){
        .field = {DIMENSION, metric, sizeof(w->vector), PDB_ELEMENT_FLOAT32}, .vector = w->vector};
}

/* All blocks of `rows` rows; with `keys`, of their own keys, else 1000 and on. */
static void run(struct world *w, uint32_t rows, size_t k, bool keys)
{
    topk_init(&w->query.topk, w->items, k);
    w->looked_at = 0;
    scan_query_begin(&w->query);
    for (uint32_t first = 0; first < ROWS; first += rows) {
        struct owner owner = {w, first};
        struct scan_block block = {
            .vectors = (const char *)w->vectors[first],
            .inverse_norms =
                w->query.field.metric == PDB_METRIC_COSINE ? w->inverse_norms + first : NULL,
            .count = ROWS - first < rows ? ROWS - first : rows,
            .key = 1000 + first,
            .keys = keys ? w->keys + first : NULL,
            .owner = &owner,
            .wanted = wanted,
            .metadata = metadata,
        };
        scan_block(&w->query, &block);
    }
    topk_sort(&w->query.topk);
}

static void scores_are_similarities_or_distances(void **state)
{
    (void)state;
    assert_true(scan_score(PDB_METRIC_COSINE, -0.5f) == 0.5f);
    assert_true(scan_score(PDB_METRIC_DOT, 3.0f) == -3.0f);
    assert_false(signbit(scan_score(PDB_METRIC_DOT, 0.0f)));
    assert_true(scan_score(PDB_METRIC_EUCLIDEAN, 16.0f) == 4.0f);
    assert_true(scan_score(PDB_METRIC_MANHATTAN, 16.0f) == 16.0f);
    assert_true(scan_score(PDB_METRIC_HAMMING, 7.0f) == 7.0f);
}

static void inverse_norms_say_what_is_not_safe(void **state)
{
    (void)state;
    const float plain[2] = {3, 4}, zero[2] = {0, 0}, huge[2] = {1e30f, 0}, tiny[2] = {1e-30f, 0};
    assert_true(scan_inverse_norm(plain, 2, PDB_ELEMENT_FLOAT32) == 1.0f / 5.0f);
    assert_true(scan_inverse_norm(zero, 2, PDB_ELEMENT_FLOAT32) == 0.0f);
    assert_true(isnan(scan_inverse_norm(huge, 2, PDB_ELEMENT_FLOAT32)));
    assert_true(isnan(scan_inverse_norm(tiny, 2, PDB_ELEMENT_FLOAT32)));
}

static void batches_are_bounded_in_rows_and_bytes(void **state)
{
    (void)state;
    for (uint32_t bytes = 1; bytes < 300000; bytes = bytes * 3 / 2 + 1) {
        struct scan_field field = {bytes, PDB_METRIC_HAMMING, bytes, PDB_ELEMENT_FLOAT32};
        uint32_t rows = scan_batch_rows(&field);
        assert_in_range(rows, 4, SCAN_BATCH_ROWS);
        assert_int_equal(rows % 4, 0);
        assert_true(rows == 4 || rows * bytes <= 256 * 1024);
    }
}

static void keys_follow_the_first_or_are_given(void **state)
{
    (void)state;
    static struct world w;
    static struct topk_item given[K];
    start(&w, PDB_METRIC_EUCLIDEAN);
    run(&w, 100, K, true);
    memcpy(given, w.items, sizeof(given));
    run(&w, 100, K, false);
    assert_int_equal(w.query.topk.count, K);
    assert_int_equal(w.query.rows_seen, ROWS);
    assert_int_equal(w.query.rows_scored, ROWS);
    for (int i = 0; i < K; i++) {
        assert_true(given[i].distance == w.items[i].distance);
        assert_int_equal((given[i].key - 5) / 3, w.items[i].key - 1000);
    }
    arena_dispose(&w.arena);
}

static void only_rows_that_beat_the_bound_are_looked_at(void **state)
{
    (void)state;
    static struct world w;
    start(&w, PDB_METRIC_COSINE);
    run(&w, 128, 1, false);
    assert_in_range(w.looked_at, 1, 40); /* about the logarithm of the rows */
    uint64_t best = w.items[0].key - 1000;
    w.hidden[best] = true;
    run(&w, 128, 1, false);
    assert_true(w.items[0].key - 1000 != best);
    arena_dispose(&w.arena);
}

static void ties_go_to_the_smaller_key_whichever_way_rows_are_scored(void **state)
{
    (void)state;
    static struct world w;
    start(&w, PDB_METRIC_MANHATTAN);
    for (uint32_t i = 0; i < ROWS; i++)
        memcpy(w.vectors[i], w.vectors[0], sizeof(w.vectors[0]));
    struct filter *filter = NULL;
    assert_int_equal(filter_compile(&w.arena, document(&w.arena, "$gte", 100), NULL, NULL, &filter),
                     0);
    for (int way = 0; way < 2; way++) {
        w.query.filter = way == 0 ? NULL : filter;
        run(&w, 64, K, false);
        assert_int_equal(w.query.topk.count, K);
        for (uint32_t i = 0; i < K; i++)
            assert_int_equal(w.items[i].key, 1000 + i + (way == 0 ? 0u : 100u));
    }
    arena_dispose(&w.arena);
}

static void a_filter_goes_first_until_it_is_known_and_then_if_it_is_cheaper(void **state)
{
    (void)state;
    static struct world w;
    start(&w, PDB_METRIC_DOT);
    struct filter *filter = NULL;
    assert_int_equal(filter_compile(&w.arena, document(&w.arena, "$gte", 0), NULL, NULL, &filter),
                     0);
    w.query.filter = filter;
    run(&w, SCAN_BATCH_ROWS, K, false); /* everything passes: late, once two batches were tested */
    assert_in_range(w.query.selectivity.early_tested, 1, ROWS / 2);
    assert_int_equal(w.query.selectivity.early_passed, w.query.selectivity.early_tested);
    assert_int_equal(w.query.rows_scored, ROWS);
    assert_int_equal(filter_compile(&w.arena, document(&w.arena, "$lt", 3), NULL, NULL, &filter),
                     0);
    w.query.filter = filter;
    run(&w, SCAN_BATCH_ROWS, K, false); /* never k rows: early to the end */
    assert_int_equal(w.query.topk.count, 3);
    assert_int_equal(w.query.selectivity.early_tested, ROWS);
    assert_int_equal(w.query.rows_scored, 3);
    arena_dispose(&w.arena);
}

static void nothing_is_scored_where_nothing_is_asked_for(void **state)
{
    (void)state;
    static struct world w;
    start(&w, PDB_METRIC_DOT);
    run(&w, 128, 0, false);
    assert_int_equal(w.query.rows_seen, 0);
    assert_int_equal(w.looked_at, 0);
    arena_dispose(&w.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_similarities_or_distances),
        cmocka_unit_test(inverse_norms_say_what_is_not_safe),
        cmocka_unit_test(batches_are_bounded_in_rows_and_bytes),
        cmocka_unit_test(keys_follow_the_first_or_are_given),
        cmocka_unit_test(only_rows_that_beat_the_bound_are_looked_at),
        cmocka_unit_test(ties_go_to_the_smaller_key_whichever_way_rows_are_scored),
        cmocka_unit_test(a_filter_goes_first_until_it_is_known_and_then_if_it_is_cheaper),
        cmocka_unit_test(nothing_is_scored_where_nothing_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
