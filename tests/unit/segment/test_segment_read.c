/* Reading an open segment, against a brute force over the rows that it was made from: look-ups at
 * any version, scans with filters, searches of every metric, over pages of any size and rows
 * without vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/doc.h"
#include "base/rng.h"
#include "base/text.h"
#include "segment/segment_format.h"
#include "segment/segment_index_internal.h"

#include <proximadb/error.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vecmath/elements.h>

enum {
    FIELDS = 12,
    DIMENSION_MAX = 41,
    ROWS_MAX = 2600,
    VERSION_LAST = 400,
    NOW = 1000,
    K_MAX = 700,
    PARQUET_BYTES_MAX = 4 << 20,
};

/* Field 5 has no vector at all. */
static const struct pdb_field fields[FIELDS] = {
    {.name = {"cos", 3}, .dimension = 19, .metric = PDB_METRIC_COSINE},
    {.name = {"dot", 3}, .dimension = 7, .metric = PDB_METRIC_DOT},
    {.name = {"l2", 2}, .dimension = 33, .metric = PDB_METRIC_EUCLIDEAN},
    {.name = {"l1", 2}, .dimension = 5, .metric = PDB_METRIC_MANHATTAN},
    {.name = {"bits", 4}, .dimension = DIMENSION_MAX, .metric = PDB_METRIC_HAMMING},
    {.name = {"none", 4}, .dimension = 3, .metric = PDB_METRIC_DOT},
    {.name = {"cos16", 5},
     .dimension = 21,
     .metric = PDB_METRIC_COSINE,
     .element = PDB_ELEMENT_FLOAT16},
    {.name = {"l2-16", 5},
     .dimension = 9,
     .metric = PDB_METRIC_EUCLIDEAN,
     .element = PDB_ELEMENT_FLOAT16},
    {.name = {"cos8", 4},
     .dimension = 41,
     .metric = PDB_METRIC_COSINE,
     .element = PDB_ELEMENT_INT8},
    {.name = {"dot8", 4}, .dimension = 7, .metric = PDB_METRIC_DOT, .element = PDB_ELEMENT_INT8},
    {.name = {"l2-8", 4},
     .dimension = 33,
     .metric = PDB_METRIC_EUCLIDEAN,
     .element = PDB_ELEMENT_INT8},
    {.name = {"l1-8", 4},
     .dimension = 5,
     .metric = PDB_METRIC_MANHATTAN,
     .element = PDB_ELEMENT_INT8},
};
static const unsigned percent_present[FIELDS] = {100, 70, 100, 3,  97,  0,
                                                 100, 60, 100, 70, 100, 100};

struct source {
    char id[24];
    size_t id_len;
    unsigned group; /* 0..99, in its metadata */
    uint64_t version, ended_at;
    int64_t expires_at_us;
    bool present[FIELDS];
    union {
        float floats[DIMENSION_MAX];
        uint16_t halves[DIMENSION_MAX];
        int8_t bytes[DIMENSION_MAX];
        uint8_t bits[8];
    } vectors[FIELDS];
};

struct world {
    struct rng rng;
    struct arena arena;
    struct heap heap;
    struct source rows[ROWS_MAX];
    uint32_t count;
    struct pdb_text documents[100]; /* by group */
    _Alignas(64) uint8_t parquet[PARQUET_BYTES_MAX];
    size_t parquet_bytes;
    struct buffer index;
    struct segment *segment;
    struct segment_deletes *deletes;
    struct segment_read read;
    struct topk_item items[K_MAX];
    struct scan_query scan;
    union {
        float floats[DIMENSION_MAX];
        uint16_t halves[DIMENSION_MAX];
        int8_t bytes[DIMENSION_MAX];
        uint8_t bits[8];
    } query;
    int8_t room[DIMENSION_MAX];
};

/* ---- rows ---- */

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

static float random_value(struct world *w, enum pdb_element_type element)
{
    if (element == PDB_ELEMENT_INT8)
        return (float)((int)rng_below(&w->rng, 256) - 128);
    return (float)rng_normal(&w->rng);
}

/* Of a query: floats whatever the field stores. */
static void random_vector(struct world *w, uint32_t f, void *to)
{
    if (fields[f].metric == PDB_METRIC_HAMMING) {
        uint64_t bits = rng_next(&w->rng) & (((uint64_t)1 << DIMENSION_MAX) - 1);
        memcpy(to, &bits, sizeof(bits));
        return;
    }
    float *floats = to;
    bool zero = rng_below(&w->rng, 20) == 0;
    for (uint32_t i = 0; i < fields[f].dimension; i++)
        floats[i] = zero ? 0.0f : random_value(w, fields[f].element);
}

/* As the field stores it. */
static void random_stored(struct world *w, uint32_t f, void *to)
{
    float floats[DIMENSION_MAX];
    if (fields[f].element == PDB_ELEMENT_FLOAT32) {
        random_vector(w, f, to);
        return;
    }
    random_vector(w, f, floats);
    if (fields[f].element == PDB_ELEMENT_FLOAT16)
        vecmath_narrow_f16(floats, fields[f].dimension, to);
    else
        vecmath_narrow_i8(floats, fields[f].dimension, to);
}

static double stored_value(const struct source *row, uint32_t f, size_t i)
{
    float value = row->vectors[f].floats[i];
    if (fields[f].element == PDB_ELEMENT_FLOAT16)
        vecmath_widen_f16(&row->vectors[f].halves[i], 1, &value);
    return fields[f].element == PDB_ELEMENT_INT8 ? (double)row->vectors[f].bytes[i] : (double)value;
}

/* The versions of one id, newest first; each ends where the next one begins, or before. */
static void add_versions(struct world *w, uint32_t number, uint32_t versions)
{
    uint64_t end = rng_below(&w->rng, 5) == 0 ? VERSION_LAST : SEGMENT_NEVER;
    uint64_t version = VERSION_LAST - rng_below(&w->rng, versions > 100 ? 10 : 200);
    for (uint32_t i = 0; i < versions && w->count < ROWS_MAX && version > 0; i++) {
        struct source *row = &w->rows[w->count++];
        row->id_len = (size_t)snprintf(row->id, sizeof(row->id), "k%05u%s", number / 2,
                                       number % 2 != 0 ? "\xc3\xa9" : "");
        row->group = (unsigned)rng_below(&w->rng, 100);
        row->version = version;
        row->ended_at = end;
        row->expires_at_us =
            rng_below(&w->rng, 10) == 0 ? NOW - 1 + (int64_t)rng_below(&w->rng, 3) : 0;
        for (uint32_t f = 0; f < FIELDS; f++) {
            row->present[f] = rng_below(&w->rng, 100) < percent_present[f];
            random_stored(w, f, &row->vectors[f]);
        }
        bool deleted = rng_below(&w->rng, 8) == 0 && version > 2;
        end = version - (deleted ? 1 : 0);
        version -=
            rng_below(&w->rng, version > 2 && versions < 100 ? version / 2 : 1) + (deleted ? 2 : 1);
    }
}

static struct pdb_row row_of(const struct world *w, const struct source *source,
                             const void *vectors[FIELDS])
{
    for (uint32_t f = 0; f < FIELDS; f++)
        vectors[f] = source->present[f] ? &source->vectors[f] : NULL;
    return (struct pdb_row){.id = {source->id, source->id_len},
                            .vectors = vectors,
                            .metadata = w->documents[source->group],
                            .version = source->version,
                            .created_at_us = (int64_t)source->group,
                            .updated_at_us = (int64_t)source->version,
                            .expires_at_us = source->expires_at_us};
}

/* ---- the files: pages of random sizes, then something that looks like a footer ---- */

static void put_page(struct world *w, struct segment_index_builder *b, uint32_t f, size_t from,
                     uint32_t count)
{
    uint32_t crc = crc32c(0, w->parquet + from, w->parquet_bytes - from);
    assert_int_equal(segment_index_add_page(b, f, from, count, crc), 0);
    w->parquet_bytes = (w->parquet_bytes + 63) / 64 * 64;
}

static void put_field(struct world *w, struct segment_index_builder *b, uint32_t f, uint32_t most)
{
    size_t bytes = segment_vector_bytes(&fields[f]);
    size_t from = w->parquet_bytes;
    uint32_t count = 0, size = 1 + (uint32_t)rng_below(&w->rng, most);
    for (uint32_t row = 0; row < w->count; row++) {
        if (!w->rows[row].present[f])
            continue;
        memcpy(w->parquet + w->parquet_bytes, &w->rows[row].vectors[f], bytes);
        w->parquet_bytes += bytes;
        if (++count == size) {
            put_page(w, b, f, from, count);
            from = w->parquet_bytes;
            count = 0;
            size = 1 + (uint32_t)rng_below(&w->rng, most);
        }
    }
    if (count > 0)
        put_page(w, b, f, from, count);
}

static void put_files(struct world *w, const struct segment_schema *schema, uint32_t page_most)
{
    struct segment_index_builder builder;
    const void *vectors[FIELDS];
    assert_int_equal(segment_index_init(&builder, NULL, schema), 0);
    for (uint32_t row = 0; row < w->count; row++) {
        struct pdb_row out = row_of(w, &w->rows[row], vectors);
        assert_int_equal(segment_index_add(&builder, &out), 0);
    }
    w->parquet_bytes = 64;
    for (uint32_t f = 0; f < FIELDS; f++)
        put_field(w, &builder, f, page_most);
    static const uint8_t footer[] = {'f', 'o', 'o', 't', 4, 0, 0, 0, 'P', 'A', 'R', '1'};
    memcpy(w->parquet + w->parquet_bytes, footer, sizeof(footer));
    w->parquet_bytes += sizeof(footer);
    struct segment_index_source source = {.parquet_bytes = w->parquet_bytes,
                                          .footer_crc = crc32c(0, footer, sizeof(footer))};
    assert_int_equal(segment_index_write(&builder, &source, 77, &w->index), 0);
    segment_index_dispose(&builder);
}

static void start(struct world *w, uint64_t seed, uint32_t ids, uint32_t page_most)
{
    memset(w, 0, sizeof(*w));
    rng_seed(&w->rng, seed);
    for (unsigned group = 0; group < 100; group++)
        w->documents[group] = group_document(&w->arena, NULL, group);
    for (uint32_t i = 0; i < ids; i++)
        add_versions(w, i,
                     i == ids / 2 ? 300 : 1 + (uint32_t)rng_below(&w->rng, i % 4 == 0 ? 4 : 1));
    struct segment_schema schema = {
        .number = 9, .fields = fields, .field_count = FIELDS, .vectors_in_place = true};
    buffer_init_heap(&w->index, NULL, 0);
    put_files(w, &schema, page_most);
    struct segment_open_options options = {.schema = schema,
                                           .parquet = {w->parquet, w->parquet_bytes},
                                           .index = {(uint8_t *)w->index.ptr, w->index.len},
                                           .heap = &w->heap};
    struct trail trail = {0};
    bool index_bad = false;
    if (segment_open(&options, &w->segment, &index_bad, &trail) != 0)
        fail_msg("%s", trail.text);
    assert_int_equal(segment_deletes_new(&w->heap, w->count, &w->deletes), 0);
    assert_int_equal(segment_deletes_reserve(w->deletes, w->count), 0);
    for (uint32_t row = 0; row < w->count; row++) {
        if (w->rows[row].ended_at != SEGMENT_NEVER)
            segment_deletes_mark(w->deletes, row, w->rows[row].ended_at);
    }
    w->read = (struct segment_read){w->segment, w->deletes, VERSION_LAST, NOW};
}

static void stop(struct world *w)
{
    segment_free(w->segment);
    segment_deletes_free(w->deletes);
    assert_int_equal(w->heap.bytes_used, 0);
    buffer_dispose(&w->index);
    arena_dispose(&w->arena);
}

static bool is_visible(const struct world *w, const struct source *row)
{
    return row->version <= w->read.at_version && row->ended_at > w->read.at_version &&
           (row->expires_at_us == 0 || row->expires_at_us > w->read.now_us);
}

/* ---- rows ---- */

static void expect_widened(const struct world *w, uint32_t f, uint32_t row, const void *stored)
{
    float room[DIMENSION_MAX];
    const float *widened = segment_vector_f32(w->segment, f, row, room);
    if (fields[f].element == PDB_ELEMENT_FLOAT32) {
        assert_ptr_equal(widened, stored);
        return;
    }
    assert_ptr_equal(widened, room);
    for (uint32_t i = 0; i < fields[f].dimension; i++)
        assert_true((double)widened[i] == stored_value(&w->rows[row], f, i));
}

static void rows_come_back_as_they_were_written(void **state)
{
    (void)state;
    static struct world w;
    start(&w, 1, 1000, 90);
    for (uint32_t i = 0; i < w.count; i++) {
        const void *expected[FIELDS], *found[FIELDS];
        struct pdb_row want = row_of(&w, &w.rows[i], expected), row;
        assert_true(segment_row(w.segment, i, &row, found));
        assert_true(text_equal(row.id, want.id) && text_equal(row.metadata, want.metadata));
        assert_true(text_equal(segment_row_id(w.segment, i), want.id));
        assert_int_equal(row.version, want.version);
        assert_int_equal(segment_row_version(w.segment, i), want.version);
        assert_int_equal(row.created_at_us, want.created_at_us);
        assert_int_equal(row.updated_at_us, want.updated_at_us);
        assert_int_equal(row.expires_at_us, want.expires_at_us);
        assert_false(row.deleted);
        for (uint32_t f = 0; f < FIELDS; f++) {
            assert_int_equal(found[f] != NULL, expected[f] != NULL);
            assert_int_equal(segment_has_vector_of(w.segment, f, i), expected[f] != NULL);
            if (found[f] != NULL)
                expect_widened(&w, f, i, found[f]);
            if (found[f] != NULL)
                assert_memory_equal(found[f], expected[f], segment_vector_bytes(&fields[f]));
        }
        assert_true(segment_row(w.segment, i, &row, NULL));
        assert_null(row.vectors);
    }
    stop(&w);
}

static void an_id_is_found_at_every_version_or_not_at_all(void **state)
{
    (void)state;
    static struct world w;
    static const uint64_t versions[] = {0, 1, 100, 203, 301, 350, 399, VERSION_LAST, SEGMENT_NEVER};
    start(&w, 2, 900, 90);
    for (uint32_t i = 0; i < w.count; i++) {
        struct pdb_text id = {w.rows[i].id, w.rows[i].id_len};
        for (size_t v = 0; v < sizeof(versions) / sizeof(versions[0]); v++) {
            uint32_t first = i, found = UINT32_MAX;
            while (first > 0 && strcmp(w.rows[first - 1].id, w.rows[i].id) == 0)
                first--;
            while (first < w.count && strcmp(w.rows[first].id, w.rows[i].id) == 0 &&
                   w.rows[first].version > versions[v])
                first++;
            bool there = first < w.count && strcmp(w.rows[first].id, w.rows[i].id) == 0;
            assert_int_equal(segment_find(w.segment, id, versions[v], &found), there);
            assert_int_equal(found, there ? first : UINT32_MAX);
        }
        /* its own version, and the one just below */
        uint32_t found = UINT32_MAX;
        assert_true(segment_find(w.segment, id, w.rows[i].version, &found));
        assert_int_equal(found, i);
    }
    uint32_t row = 0;
    assert_false(segment_find(w.segment, TEXT_LIT("k0"), SEGMENT_NEVER, &row));
    assert_false(segment_find(w.segment, TEXT_LIT("zz"), SEGMENT_NEVER, &row));
    stop(&w);
}

static void the_lower_bound_is_the_first_greater_id(void **state)
{
    (void)state;
    static struct world w;
    start(&w, 3, 400, 90);
    for (uint32_t i = 0; i < w.count; i++) {
        struct pdb_text id = {w.rows[i].id, w.rows[i].id_len}, head = {id.ptr, id.len - 1};
        uint32_t next = i, first = i;
        while (next < w.count && strcmp(w.rows[next].id, w.rows[i].id) == 0)
            next++;
        assert_int_equal(segment_lower_bound(w.segment, id), next);
        while (first > 0 &&
               text_compare((struct pdb_text){w.rows[first - 1].id, w.rows[first - 1].id_len},
                            head) > 0)
            first--;
        assert_int_equal(segment_lower_bound(w.segment, head), first);
    }
    assert_int_equal(segment_lower_bound(w.segment, (struct pdb_text){NULL, 0}), 0);
    assert_int_equal(segment_lower_bound(w.segment, TEXT_LIT("z")), w.count);
    stop(&w);
}

/* ---- scans ---- */

struct visits {
    uint32_t rows[ROWS_MAX];
    uint32_t count, stop_after;
};

static int visit(void *arg, uint32_t row)
{
    struct visits *visits = arg;
    visits->rows[visits->count++] = row;
    return visits->count % visits->stop_after == 0;
}

static const struct filter *below(struct world *w, unsigned bound)
{
    struct filter *filter = NULL;
    struct pdb_text document = group_document(&w->arena, "$lt", bound);
    assert_int_equal(filter_compile(&w->arena, document, NULL, NULL, &filter), 0);
    return filter;
}

static void a_scan_visits_visible_rows_that_match_in_order(void **state)
{
    (void)state;
    static struct world w;
    static struct visits visits;
    start(&w, 4, 1100, 90);
    for (int round = 0; round < 60; round++) {
        w.read.at_version = rng_below(&w.rng, VERSION_LAST + 5);
        w.read.now_us = NOW - 2 + (int64_t)rng_below(&w.rng, 5);
        unsigned bound = (unsigned)rng_below(&w.rng, 101);
        const struct filter *filter = round % 3 == 0 ? NULL : below(&w, bound);
        uint32_t at = 0, expected = 0;
        visits.count = 0;
        visits.stop_after = 1 + (uint32_t)rng_below(&w.rng, 50);
        while (!segment_scan_step(&w.read, &at, filter, 1 + rng_below(&w.rng, 300), visit, &visits))
            assert_true(at < w.count);
        for (uint32_t row = 0; row < w.count; row++) {
            assert_int_equal(segment_visible(&w.read, row), is_visible(&w, &w.rows[row]));
            if (is_visible(&w, &w.rows[row]) && (filter == NULL || w.rows[row].group < bound)) {
                assert_true(expected < visits.count);
                assert_int_equal(visits.rows[expected++], row);
            }
        }
        assert_int_equal(expected, visits.count);
    }
    stop(&w);
}

static void a_stopped_scan_goes_on_behind_the_row(void **state)
{
    (void)state;
    static struct world w;
    static struct visits visits;
    start(&w, 5, 50, 90);
    w.read.deletes = NULL; /* nothing ended */
    w.read.now_us = 0;
    visits.count = 0;
    visits.stop_after = 1;
    uint32_t at = 0;
    for (uint32_t row = 0; row + 1 < w.count; row++) {
        assert_false(segment_scan_step(&w.read, &at, NULL, 1000, visit, &visits));
        assert_int_equal(at, row + 1);
    }
    assert_true(segment_scan_step(&w.read, &at, NULL, 1000, visit, &visits));
    assert_int_equal(visits.count, w.count);
    stop(&w);
}

/* ---- searches ---- */

static double exact_score(const struct world *w, uint32_t f, const struct source *row)
{
    double dot = 0, a = 0, b = 0, l1 = 0, l2 = 0;
    int bits = 0;
    for (size_t i = 0; i < 6; i++)
        bits += __builtin_popcount((unsigned)(w->query.bits[i] ^ row->vectors[f].bits[i]));
    for (size_t i = 0; i < fields[f].dimension && fields[f].metric != PDB_METRIC_HAMMING; i++) {
        double q = (double)w->query.floats[i], x = stored_value(row, f, i);
        dot += q * x;
        a += q * q;
        b += x * x;
        l1 += fabs(q - x);
        l2 += (q - x) * (q - x);
    }
    switch (fields[f].metric) {
    case PDB_METRIC_COSINE:
        return a == 0 || b == 0 ? 0 : dot / sqrt(a) / sqrt(b);
    case PDB_METRIC_DOT:
        return dot;
    case PDB_METRIC_EUCLIDEAN:
        return sqrt(l2);
    case PDB_METRIC_MANHATTAN:
        return l1;
    case PDB_METRIC_HAMMING:
    case PDB_METRIC_UNSPECIFIED:
        break;
    }
    return bits;
}

static bool higher_is_better(uint32_t f)
{
    return fields[f].metric == PDB_METRIC_COSINE || fields[f].metric == PDB_METRIC_DOT;
}

static int order_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct request {
    uint32_t field;
    unsigned bound; /* of the filter */
    size_t k, budget;
    const char *exclude;
    bool has_limit;
    float limit;
};

static bool belongs(const struct world *w, const struct request *r, const struct source *row)
{
    return is_visible(w, row) && row->present[r->field] && row->group < r->bound &&
           (r->exclude == NULL || strcmp(r->exclude, row->id) != 0);
}

/* The scores that must be found, negated where higher is better, best first. */
static size_t brute(const struct world *w, const struct request *r, double *out)
{
    size_t count = 0;
    double sign = higher_is_better(r->field) ? -1 : 1;
    for (uint32_t i = 0; i < w->count; i++) {
        double score = exact_score(w, r->field, &w->rows[i]);
        if (belongs(w, r, &w->rows[i]) &&
            (!r->has_limit || sign * score <= sign * (double)r->limit))
            out[count++] = sign * score;
    }
    qsort(out, count, sizeof(out[0]), order_doubles);
    return count < r->k ? count : r->k;
}

static bool search(struct world *w, const struct request *r, uint64_t key_tag)
{
    w->scan = (struct scan_query){
        .field = {fields[r->field].dimension, fields[r->field].metric,
                  segment_vector_bytes(&fields[r->field]), fields[r->field].element},
        .field_index = r->field,
        .vector = &w->query,
        .room = r->budget % 2 != 0 ? w->room : NULL,
        .filter = r->bound < 100 ? below(w, r->bound) : NULL,
        .has_score_limit = r->has_limit,
        .score_limit = r->limit,
        .exclude_id = r->exclude != NULL ? text_of(r->exclude) : (struct pdb_text){NULL, 0}};
    topk_init(&w->scan.topk, w->items, r->k);
    scan_query_begin(&w->scan);
    struct segment_search search = {.read = w->read, .key_tag = key_tag, .query = &w->scan};
    segment_search_begin(&search);
    for (uint32_t from = 0; !segment_search_step(&search, r->budget); from = search.next_row) {
        assert_true(search.next_row > from);
        if (percent_present[r->field] ==
            100) /* no gaps: a step ends with the batch that it is in */
            assert_true(search.next_row - from < r->budget + SCAN_BATCH_ROWS);
    }
    topk_sort(&w->scan.topk);
    return !segment_damaged(w->segment);
}

static void expect_results(struct world *w, const struct request *r, uint64_t key_tag)
{
    static double scores[ROWS_MAX];
    size_t expected = brute(w, r, scores);
    double sign = higher_is_better(r->field) ? -1 : 1;
    assert_true(search(w, r, key_tag));
    if (w->scan.topk.count != expected)
        fail_msg("field %u, below %u: %zu results, expected %zu", r->field, r->bound,
                 w->scan.topk.count, expected);
    for (size_t i = 0; i < expected; i++) {
        assert_int_equal(w->items[i].key >> 56, key_tag >> 56);
        uint32_t at = (uint32_t)(w->items[i].key & UINT32_MAX);
        const struct source *row = &w->rows[at];
        double score = (double)scan_score(fields[r->field].metric, w->items[i].distance);
        double exact = exact_score(w, r->field, row);
        double tolerance = 1e-5 * fmax(fabs(exact), 1);
        assert_true(at < w->count && belongs(w, r, row));
        if (fabs(score - exact) > tolerance || fabs(sign * score - scores[i]) > tolerance)
            fail_msg("field %u, below %u: result %zu has %g, exact %g, expected %g", r->field,
                     r->bound, i, score, exact, sign * scores[i]);
        for (size_t j = 0; j < i; j++)
            assert_true(w->items[j].key != w->items[i].key);
    }
}

static void random_request(struct world *w, struct request *r)
{
    static const unsigned bounds[] = {100, 100, 90, 50, 10, 1};
    static const size_t ks[] = {1, 10, 100, K_MAX};
    *r = (struct request){.field = (uint32_t)rng_below(&w->rng, FIELDS),
                          .bound = bounds[rng_below(&w->rng, 6)],
                          .k = ks[rng_below(&w->rng, 4)],
                          .budget = 1 + rng_below(&w->rng, 1000)};
    w->read.at_version =
        rng_below(&w->rng, 3) == 0 ? rng_below(&w->rng, VERSION_LAST) : VERSION_LAST;
    random_vector(w, r->field, &w->query);
    if (fields[r->field].element == PDB_ELEMENT_INT8 && rng_below(&w->rng, 3) == 0)
        w->query.floats[0] += 0.5f; /* is scored as floats */
    const struct source *some = &w->rows[rng_below(&w->rng, w->count)];
    if (rng_below(&w->rng, 4) == 0)
        r->exclude = some->id;
    if (rng_below(&w->rng, 4) == 0) {
        r->has_limit = true; /* between scores: away from any by more than errors of rounding */
        r->limit = (float)exact_score(w, r->field, some);
        r->limit += fields[r->field].metric == PDB_METRIC_HAMMING ? 0.5f : 1e-4f;
    }
}

static void search_equals_brute_force_for_every_field_and_request(void **state)
{
    (void)state;
    static struct world w;
    static const uint32_t page_most[] = {1, 7, 130, 1000, ROWS_MAX};
    for (uint64_t seed = 0; seed < 5; seed++) {
        start(&w, 10 + seed, 1200, page_most[seed]);
        for (uint64_t i = 0; i < 120; i++) {
            struct request request;
            random_request(&w, &request);
            expect_results(&w, &request, i % 3 << 56);
        }
        stop(&w);
    }
}

static void answers_do_not_depend_on_the_budget(void **state)
{
    (void)state;
    static struct world w;
    static struct topk_item first[K_MAX];
    start(&w, 20, 1200, 400);
    for (int i = 0; i < 40; i++) {
        struct request request;
        random_request(&w, &request);
        request.budget = SIZE_MAX;
        assert_true(search(&w, &request, 0));
        uint64_t seen = w.scan.rows_seen, scored = w.scan.rows_scored;
        size_t count = w.scan.topk.count;
        memcpy(first, w.items, sizeof(first));
        for (request.budget = 1; request.budget < 2000; request.budget *= 5) {
            assert_true(search(&w, &request, 0));
            assert_int_equal(w.scan.topk.count, count);
            assert_true(w.scan.rows_seen == seen && w.scan.rows_scored == scored);
            for (size_t h = 0; h < count; h++) { /* by field: padding has no value */
                assert_true(first[h].distance == w.items[h].distance);
                assert_true(first[h].key == w.items[h].key);
            }
        }
    }
    stop(&w);
}

static void a_search_of_no_vectors_or_no_results_is_complete_at_once(void **state)
{
    (void)state;
    static struct world w;
    start(&w, 21, 300, 100);
    struct request request = {.field = 5, .bound = 100, .k = 10, .budget = 1};
    assert_true(search(&w, &request, 0));
    assert_int_equal(w.scan.topk.count, 0);
    assert_int_equal(w.scan.rows_seen, 0);
    request = (struct request){.field = 0, .bound = 100, .k = 0, .budget = 1};
    random_vector(&w, 0, &w.query);
    assert_true(search(&w, &request, 0));
    assert_int_equal(w.scan.rows_seen, 0);
    stop(&w);
}

/* ---- damage ---- */

static void a_damaged_page_ends_a_search_and_marks_the_segment(void **state)
{
    (void)state;
    static struct world w;
    for (uint64_t seed = 30; seed < 40; seed++) {
        start(&w, seed, 500, 60);
        const struct segment_field *field = &w.segment->fields[2];
        const struct segment_page *page = &field->pages[rng_below(&w.rng, field->page_count)];
        size_t bit = rng_below(&w.rng, 8ul * page->count * field->bytes);
        w.parquet[page->offset + bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct request request = {.field = 0, .bound = 100, .k = 10, .budget = 1};
        random_vector(&w, 0, &w.query);
        assert_true(search(&w, &request, 0)); /* other pages are sound */
        request.field = 2;
        assert_false(search(&w, &request, 0));
        assert_true(w.scan.rows_seen <= page->first);

        struct pdb_row row;
        const void *vectors[FIELDS];
        assert_false(segment_row(w.segment, page->first, &row, vectors)); /* every row has one */
        assert_null(segment_vector_f32(w.segment, 2, page->first, NULL));
        assert_true(segment_row(w.segment, page->first, &row, NULL));
        uint64_t at = 0;
        while (!segment_verify_step(w.segment, &at, 100)) {
        }
        assert_true(segment_damaged(w.segment));
        stop(&w);
    }
}

/* ---- several threads ---- */

struct reader {
    const struct world *world;
    struct topk_item items[K_MAX];
    size_t count;
};

static void *reader_main(void *arg)
{
    struct reader *reader = arg;
    const struct world *w = reader->world;
    struct scan_query query = {
        .field = {fields[0].dimension, fields[0].metric, 19 * 4, PDB_ELEMENT_FLOAT32},
        .vector = &w->query};
    topk_init(&query.topk, reader->items, K_MAX);
    scan_query_begin(&query);
    struct segment_search search = {.read = w->read, .query = &query};
    segment_search_begin(&search);
    while (!segment_search_step(&search, 50)) {
    }
    topk_sort(&query.topk);
    reader->count = query.topk.count;
    return NULL;
}

static void several_threads_read_one_segment(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    static struct world w;
    static struct reader readers[THREADS];
    pthread_t threads[THREADS];
    start(&w, 50, 1200, 30); /* none of its pages is verified yet */
    random_vector(&w, 0, &w.query);
    for (int i = 0; i < THREADS; i++) {
        readers[i].world = &w;
        assert_int_equal(pthread_create(&threads[i], NULL, reader_main, &readers[i]), 0);
    }
    uint64_t page = 0;
    while (!segment_verify_step(w.segment, &page, 1000)) {
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_false(segment_damaged(w.segment));
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(readers[i].count, readers[0].count);
        for (size_t h = 0; h < readers[0].count; h++)
            assert_true(readers[i].items[h].key == readers[0].items[h].key);
    }
    assert_true(readers[0].count > 100);
    stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back_as_they_were_written),
        cmocka_unit_test(an_id_is_found_at_every_version_or_not_at_all),
        cmocka_unit_test(the_lower_bound_is_the_first_greater_id),
        cmocka_unit_test(a_scan_visits_visible_rows_that_match_in_order),
        cmocka_unit_test(a_stopped_scan_goes_on_behind_the_row),
        cmocka_unit_test(search_equals_brute_force_for_every_field_and_request),
        cmocka_unit_test(answers_do_not_depend_on_the_budget),
        cmocka_unit_test(a_search_of_no_vectors_or_no_results_is_complete_at_once),
        cmocka_unit_test(a_damaged_page_ends_a_search_and_marks_the_segment),
        cmocka_unit_test(several_threads_read_one_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
