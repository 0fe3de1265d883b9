/* A memtable's way into a segment: both answer alike, to look-ups at any version, scans and
 * searches of every metric, before and after rows end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/doc.h"
#include "base/rng.h"
#include "base/text.h"
#include "memtable/memtable.h"
#include "segment/segment.h"

#include <proximadb/error.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vecmath/elements.h>

enum { FIELDS = 9, DIMENSION_MAX = 43, IDS = 700, WRITES = 2500, NOW = 1000, K_MAX = 300 };

static const struct pdb_field fields[FIELDS] = {
    {.name = {"cos", 3}, .dimension = 19, .metric = PDB_METRIC_COSINE},
    {.name = {"dot", 3}, .dimension = 7, .metric = PDB_METRIC_DOT},
    {.name = {"l2", 2}, .dimension = 33, .metric = PDB_METRIC_EUCLIDEAN},
    {.name = {"l1", 2}, .dimension = 5, .metric = PDB_METRIC_MANHATTAN},
    {.name = {"bits", 4}, .dimension = DIMENSION_MAX, .metric = PDB_METRIC_HAMMING},
    {.name = {"cos16", 5},
     .dimension = 17,
     .metric = PDB_METRIC_COSINE,
     .element = PDB_ELEMENT_FLOAT16},
    {.name = {"cos8", 4},
     .dimension = 21,
     .metric = PDB_METRIC_COSINE,
     .element = PDB_ELEMENT_INT8},
    {.name = {"l2-8", 4},
     .dimension = DIMENSION_MAX,
     .metric = PDB_METRIC_EUCLIDEAN,
     .element = PDB_ELEMENT_INT8},
    {.name = {"l1-8", 4},
     .dimension = 3,
     .metric = PDB_METRIC_MANHATTAN,
     .element = PDB_ELEMENT_INT8},
};
static const unsigned percent_present[FIELDS] = {100, 60, 97, 4, 100, 80, 100, 90, 50};
static const struct pdb_column columns[] = {{.name = {"group", 5}, .type = PDB_COLUMN_INTEGER}};

union vector {
    float floats[DIMENSION_MAX];
    uint8_t bits[8];
};

struct world {
    struct rng rng;
    struct arena arena;
    struct heap heap;
    struct scan_field scan_fields[FIELDS];
    struct memtable *m;
    struct pdb_text documents[100]; /* by group */
    uint64_t version;
    uint64_t *keys; /* of the rows of the segment */
    size_t count;
    struct buffer parquet, index;
    uint8_t *mapped; /* the Parquet file, aligned as a mapping is */
    struct segment *segment;
    struct segment_deletes *deletes;
};

/* ---- the memtable ---- */

static struct pdb_text group_document(struct arena *arena, const char *op, unsigned value)
{
    struct pdb_text bytes = {0};
    struct doc_builder *b = doc_builder_new(arena, 0);
    doc_begin_object(b);
    doc_add_key(b, TEXT_LIT("group"));
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

/* Of a query: floats whatever the field stores. */
static void random_vector(struct world *w, uint32_t f, union vector *to)
{
    bool bytes = fields[f].element == PDB_ELEMENT_INT8;
    if (fields[f].metric == PDB_METRIC_HAMMING) {
        uint64_t bits = rng_next(&w->rng) & (((uint64_t)1 << DIMENSION_MAX) - 1);
        memcpy(to->bits, &bits, sizeof(bits));
        return;
    }
    static const float scales[] = {1, 1, 1, 1, 0, 1e15f, 1e-18f};
    float scale = scales[rng_below(&w->rng, f == 0 ? 7 : 5)];
    for (uint32_t i = 0; i < fields[f].dimension; i++)
        to->floats[i] = bytes ? (float)((int)rng_below(&w->rng, 256) - 128)
                              : scale * (float)rng_normal(&w->rng);
}

/* As the field stores it. */
static void random_stored(struct world *w, uint32_t f, union vector *to)
{
    union vector values;
    random_vector(w, f, &values);
    if (fields[f].element == PDB_ELEMENT_FLOAT16)
        vecmath_narrow_f16(values.floats, fields[f].dimension, to);
    else if (fields[f].element == PDB_ELEMENT_INT8)
        vecmath_narrow_i8(values.floats, fields[f].dimension, to);
    else
        *to = values;
}

static struct pdb_text id_of(uint32_t number, char buffer[24])
{
    int len = snprintf(buffer, 24, "k%04u%s", number / 2, number % 2 != 0 ? "\xc3\xa9" : "");
    return (struct pdb_text){buffer, (size_t)len};
}

static void put(struct world *w, uint32_t number)
{
    union vector made[FIELDS];
    const void *vectors[FIELDS];
    char id[24];
    for (uint32_t f = 0; f < FIELDS; f++) {
        random_stored(w, f, &made[f]);
        vectors[f] = rng_below(&w->rng, 100) < percent_present[f] ? &made[f] : NULL;
    }
    struct pdb_row row = {.id = id_of(number, id),
                          .vectors = vectors,
                          .metadata = w->documents[rng_below(&w->rng, 100)],
                          .version = w->version,
                          .created_at_us = (int64_t)number,
                          .updated_at_us = (int64_t)w->version,
                          .expires_at_us = rng_below(&w->rng, 10) == 0
                                               ? NOW - 1 + (int64_t)rng_below(&w->rng, 3)
                                               : 0};
    assert_int_equal(memtable_prepare(w->m, 1, row.id.len + row.metadata.len), 0);
    memtable_commit(w->m, &row);
}

static void fill(struct world *w)
{
    char id[24];
    struct memtable_options options = {
        .fields = w->scan_fields, .field_count = FIELDS, .chunk_rows = 200};
    assert_int_equal(memtable_new(&options, &w->m), 0);
    for (uint32_t i = 0; i < WRITES; i++) {
        uint32_t number =
            (uint32_t)rng_below(&w->rng, i % 10 == 0 ? 1 : IDS); /* one is often written */
        w->version += rng_below(&w->rng, 3);
        w->version += w->version == 0;
        if (rng_below(&w->rng, 5) == 0)
            (void)memtable_end(w->m, id_of(number, id), w->version);
        else
            put(w, number);
    }
    memtable_seal(w->m);
}

/* ---- the segment ---- */

static int take_bytes(void *arg, const void *bytes, size_t len)
{
    struct buffer *to = arg;
    buffer_add(to, bytes, len);
    return to->failed ? PDB_RESOURCE_EXHAUSTED : 0;
}

static struct segment_schema schema_of(bool in_place)
{
    return (struct segment_schema){.number = 4,
                                   .fields = fields,
                                   .field_count = FIELDS,
                                   .columns = columns,
                                   .column_count = 1,
                                   .compression =
                                       in_place ? PDB_COMPRESSION_NONE : PDB_COMPRESSION_ZSTD,
                                   .vectors_in_place = in_place};
}

static void write_segment(struct world *w, bool in_place, uint64_t oldest_version)
{
    struct segment_writer_options options = {.schema = schema_of(in_place),
                                             .heap = &w->heap,
                                             .row_group_bytes = 100000,
                                             .hash_seed = 12345,
                                             .write = take_bytes,
                                             .arg = &w->parquet};
    struct segment_writer *writer = NULL;
    struct trail trail = {0};
    assert_int_equal(memtable_order(w->m, w->version, oldest_version, NULL, &w->keys, &w->count),
                     0);
    assert_int_equal(segment_writer_new(&options, &writer, &trail), 0);
    for (size_t i = 0; i < w->count; i++) {
        struct pdb_row row;
        const void *vectors[FIELDS];
        memtable_row_at(w->m, w->keys[i], &row, vectors);
        assert_int_equal(segment_writer_add(writer, &row, &trail), 0);
    }
    assert_int_equal(segment_writer_finish(writer, &trail), 0);
    assert_int_equal(segment_writer_index(writer, &w->index, &trail), 0);
    segment_writer_free(writer);
}

static void open_segment(struct world *w, bool in_place)
{
    w->mapped = heap_alloc_aligned(NULL, 4096, w->parquet.len);
    assert_non_null(w->mapped);
    memcpy(w->mapped, w->parquet.ptr, w->parquet.len);
    struct segment_open_options options = {.schema = schema_of(in_place),
                                           .parquet = {w->mapped, w->parquet.len},
                                           .index = {(uint8_t *)w->index.ptr, w->index.len},
                                           .heap = &w->heap};
    struct trail trail = {0};
    bool index_bad = false;
    if (segment_open(&options, &w->segment, &index_bad, &trail) != 0)
        fail_msg("%s", trail.text);
    assert_int_equal(segment_deletes_new(&w->heap, (uint32_t)w->count, &w->deletes), 0);
    assert_int_equal(segment_deletes_reserve(w->deletes, (uint32_t)w->count), 0);
}

/* What the owner does when the worker is ready, and again for what ends later. */
static void mark_ended(struct world *w)
{
    assert_int_equal(segment_deletes_reserve(w->deletes, (uint32_t)w->count), 0);
    for (uint32_t row = 0; row < w->count; row++) {
        uint64_t ended_at = memtable_ended_at(w->m, w->keys[row]);
        if (ended_at != MEMTABLE_NEVER)
            segment_deletes_mark(w->deletes, row, ended_at);
    }
}

static void start(struct world *w, uint64_t seed, bool in_place, uint64_t oldest_version)
{
    memset(w, 0, sizeof(*w));
    rng_seed(&w->rng, seed);
    for (unsigned group = 0; group < 100; group++)
        w->documents[group] = group_document(&w->arena, NULL, group);
    for (uint32_t f = 0; f < FIELDS; f++)
        w->scan_fields[f] = (struct scan_field){
            fields[f].dimension, fields[f].metric,
            pdb_vector_bytes(fields[f].dimension, fields[f].metric, fields[f].element),
            fields[f].element};
    buffer_init_heap(&w->parquet, NULL, 0);
    buffer_init_heap(&w->index, NULL, 0);
    fill(w);
    write_segment(w, in_place, oldest_version);
    open_segment(w, in_place);
    mark_ended(w);
}

static void stop(struct world *w)
{
    segment_free(w->segment);
    segment_deletes_free(w->deletes);
    assert_int_equal(w->heap.bytes_used, 0);
    heap_free(NULL, w->mapped);
    heap_free(NULL, w->keys);
    buffer_dispose(&w->parquet);
    buffer_dispose(&w->index);
    memtable_free(w->m);
    arena_dispose(&w->arena);
}

/* ---- both alike ---- */

static void expect_equal_rows(const struct pdb_row *a, const struct pdb_row *b)
{
    assert_true(text_equal(a->id, b->id) && text_equal(a->metadata, b->metadata));
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->created_at_us, b->created_at_us);
    assert_int_equal(a->updated_at_us, b->updated_at_us);
    assert_int_equal(a->expires_at_us, b->expires_at_us);
}

static void expect_equal_gets(struct world *w, uint64_t at_version)
{
    for (uint32_t number = 0; number < IDS + 3; number++) {
        char id[24];
        struct pdb_row from_memtable, from_segment;
        const void *vectors[FIELDS];
        uint32_t row = 0;
        bool there = memtable_get(w->m, id_of(number, id), at_version, &from_memtable, NULL);
        bool found = segment_find(w->segment, id_of(number, id), at_version, &row) &&
                     segment_deletes_ended_at(w->deletes, row) > at_version;
        assert_int_equal(found, there);
        if (!there)
            continue;
        assert_true(segment_row(w->segment, row, &from_segment, vectors));
        expect_equal_rows(&from_segment, &from_memtable);
        for (uint32_t f = 0; f < FIELDS; f++) {
            assert_int_equal(vectors[f] != NULL, from_memtable.vectors[f] != NULL);
            if (vectors[f] != NULL)
                assert_memory_equal(vectors[f], from_memtable.vectors[f], w->scan_fields[f].bytes);
        }
    }
}

struct ids {
    struct pdb_text ids[WRITES];
    size_t count;
    const struct world *world;
    struct memtable_snapshot *snapshot;
};

static int visit_memtable(void *arg, uint64_t key)
{
    struct ids *ids = arg;
    struct pdb_row row;
    memtable_snapshot_row(ids->snapshot, key, &row, NULL);
    ids->ids[ids->count++] = row.id;
    return 0;
}

static int visit_segment(void *arg, uint32_t row)
{
    struct ids *ids = arg;
    ids->ids[ids->count++] = segment_row_id(ids->world->segment, row);
    return 0;
}

static int order_ids(const void *a, const void *b)
{
    return text_compare(*(const struct pdb_text *)a, *(const struct pdb_text *)b);
}

static void expect_equal_scans(struct world *w, struct memtable_snapshot *s,
                               const struct segment_read *read, const struct filter *filter)
{
    static struct ids expected, found;
    expected = (struct ids){.world = w, .snapshot = s};
    found = (struct ids){.world = w};
    struct memtable_cursor cursor = {0};
    uint32_t at = 0;
    while (!memtable_scan_step(s, &cursor, filter, 100, visit_memtable, &expected)) {
    }
    while (!segment_scan_step(read, &at, filter, 100, visit_segment, &found)) {
    }
    qsort(expected.ids, expected.count, sizeof(expected.ids[0]), order_ids);
    assert_int_equal(found.count, expected.count);
    for (size_t i = 0; i < found.count; i++)
        assert_true(text_equal(found.ids[i], expected.ids[i]));
}

struct result {
    struct pdb_text id;
    float score;
};

/* Best first, ties by id: parts number their rows differently. */
static int order_results(const void *a, const void *b)
{
    const struct result *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    return text_compare(x->id, y->id);
}

/* `s` NULL: of the segment. */
static void sort_results(const struct world *w, struct memtable_snapshot *s,
                         const struct scan_query *query, struct result *results)
{
    for (size_t i = 0; i < query->topk.count; i++) {
        struct topk_item item = query->topk.items[i];
        struct pdb_row row;
        if (s != NULL)
            memtable_snapshot_row(s, item.key, &row, NULL);
        results[i].id = s != NULL ? row.id : segment_row_id(w->segment, (uint32_t)item.key);
        results[i].score = item.distance;
    }
    qsort(results, query->topk.count, sizeof(results[0]), order_results);
}

static void expect_equal_searches(struct world *w, struct memtable_snapshot *s,
                                  const struct segment_read *read, const struct filter *filter)
{
    static struct topk_item items[2][K_MAX];
    static struct result expected[K_MAX], found[K_MAX];
    uint32_t f = (uint32_t)rng_below(&w->rng, FIELDS);
    union vector vector;
    struct scan_query a = {
        .field = w->scan_fields[f], .field_index = f, .vector = &vector, .filter = filter};
    char id[24];
    random_vector(w, f, &vector);
    if (rng_below(&w->rng, 3) == 0)
        a.exclude_id = id_of((uint32_t)rng_below(&w->rng, IDS), id);
    if (rng_below(&w->rng, 3) == 0) {
        a.has_score_limit = true;
        a.score_limit = (float)rng_below(&w->rng, 20) - 2.5f;
    }
    struct scan_query b = a;
    int8_t room[DIMENSION_MAX];
    if (fields[f].element == PDB_ELEMENT_INT8 && rng_below(&w->rng, 3) == 0)
        vector.floats[0] += 0.25f; /* no integers: scored as floats in either way */
    a.room = room; /* in integers, if it can be; the other one as floats, with the same scores */
    topk_init(&a.topk, items[0], K_MAX); /* more than there can be: ties cannot be cut */
    topk_init(&b.topk, items[1], K_MAX);
    scan_query_begin(&a);
    scan_query_begin(&b);
    struct memtable_search in_memtable = {.snapshot = s, .query = &a};
    struct segment_search in_segment = {.read = *read, .key_tag = 3ull << 56, .query = &b};
    memtable_search_begin(&in_memtable);
    segment_search_begin(&in_segment);
    while (!memtable_search_step(&in_memtable, 100)) {
    }
    while (!segment_search_step(&in_segment, 100)) {
    }
    assert_false(segment_damaged(w->segment));
    assert_int_equal(a.topk.count, b.topk.count);
    sort_results(w, s, &a, expected);
    sort_results(w, NULL, &b, found);
    size_t same = a.topk.count;
    if (same == K_MAX) { /* of those that tie with the worst, either may have been kept */
        while (same > 0 && expected[same - 1].score == expected[K_MAX - 1].score)
            same--;
    }
    for (size_t i = 0; i < a.topk.count; i++) {
        assert_true(found[i].score == expected[i].score); /* one kernel, one order of sums */
        assert_true(i >= same || text_equal(found[i].id, expected[i].id));
    }
}

static void expect_equal_at(struct world *w, uint64_t at_version, int64_t now_us)
{
    struct memtable_snapshot *s = NULL;
    struct segment_read read = {w->segment, w->deletes, at_version, now_us};
    assert_int_equal(memtable_snapshot(w->m, at_version, now_us, &s), 0);
    expect_equal_gets(w, at_version);
    for (unsigned bound = 120; bound > 0; bound /= 3) {
        struct filter *filter = NULL;
        struct pdb_text document = group_document(&w->arena, "$lt", bound);
        assert_int_equal(filter_compile(&w->arena, document, NULL, NULL, &filter), 0);
        expect_equal_scans(w, s, &read, bound == 120 ? NULL : filter);
        for (int i = 0; i < 4; i++)
            expect_equal_searches(w, s, &read, bound == 120 ? NULL : filter);
    }
    memtable_snapshot_release(s);
}

static void a_segment_answers_as_its_memtable_did(void **state)
{
    (void)state;
    static struct world w;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        uint64_t oldest = seed % 2 == 0 ? 0 : 1500;
        start(&w, seed, seed % 3 != 0, oldest);
        for (int i = 0; i < 6; i++) {
            uint64_t at = oldest + rng_below(&w.rng, w.version - oldest + 1);
            expect_equal_at(&w, at, NOW - 2 + (int64_t)rng_below(&w.rng, 5));
        }
        expect_equal_at(&w, w.version, NOW);
        stop(&w);
    }
}

static void rows_that_end_after_the_order_end_in_both(void **state)
{
    (void)state;
    static struct world w;
    start(&w, 77, true, 0);
    uint64_t before = w.version;
    for (uint32_t number = 0; number < IDS; number += 2) {
        char id[24];
        w.version += number % 3;
        (void)memtable_end(w.m, id_of(number, id), w.version);
    }
    mark_ended(&w);
    expect_equal_at(&w, before, 0);
    expect_equal_at(&w, before + 100, 0);
    expect_equal_at(&w, w.version, 0);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_answers_as_its_memtable_did),
        cmocka_unit_test(rows_that_end_after_the_order_end_in_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
