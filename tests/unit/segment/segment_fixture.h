/* Real segments in memory: rows made from a seed, written, opened and compared. */
#ifndef TESTS_SEGMENT_FIXTURE_H
#define TESTS_SEGMENT_FIXTURE_H

#include "segment_docs.h"

#include "segment/segment_index_internal.h"

#include <proximadb/error.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vecmath/elements.h>

enum {
    FIXTURE_FIELDS = 9,
    FIXTURE_ROWS_MAX = 3000,
    FIXTURE_DIMENSION_MAX = 77,
};

/* Every metric; vectors always, often, seldom and never there. */
static const struct pdb_field fixture_fields[FIXTURE_FIELDS] = {
    {.name = {"", 0}, .dimension = 19, .metric = PDB_METRIC_COSINE},
    {.name = {"dot.v-2", 7}, .dimension = 7, .metric = PDB_METRIC_DOT},
    {.name = {"l2", 2}, .dimension = 77, .metric = PDB_METRIC_EUCLIDEAN},
    {.name = {"l1", 2}, .dimension = 1, .metric = PDB_METRIC_MANHATTAN},
    {.name = {"bits", 4}, .dimension = 41, .metric = PDB_METRIC_HAMMING},
    {.name = {"none", 4}, .dimension = 3, .metric = PDB_METRIC_COSINE},
    {.name = {"half", 4},
     .dimension = 33,
     .metric = PDB_METRIC_COSINE,
     .element = PDB_ELEMENT_FLOAT16},
    {.name = {"byte", 4},
     .dimension = 21,
     .metric = PDB_METRIC_EUCLIDEAN,
     .element = PDB_ELEMENT_INT8},
    {.name = {"byte-2", 6},
     .dimension = 3,
     .metric = PDB_METRIC_COSINE,
     .element = PDB_ELEMENT_INT8},
};
static const unsigned fixture_present[FIXTURE_FIELDS] = {100, 70, 100, 3, 95, 0, 60, 90, 100};

struct fixture_row {
    struct pdb_row row;
    char id[40];
    const void *vectors[FIXTURE_FIELDS];
    union {
        float floats[FIXTURE_DIMENSION_MAX];
        uint16_t halves[FIXTURE_DIMENSION_MAX];
        int8_t bytes[FIXTURE_DIMENSION_MAX];
        uint8_t bits[8];
    } values[FIXTURE_FIELDS];
};

struct fixture {
    struct rng rng;
    struct arena arena;
    struct heap heap;
    struct segment_schema schema;
    struct pdb_column columns[DOCS_NAMES];
    struct fixture_row *rows;
    uint32_t count;
    uint64_t hash_seed;
    uint64_t row_group_bytes;
    struct buffer parquet, index;
    uint64_t write_fails_at; /* the n-th call of write returns PDB_UNAVAILABLE; 0: none does */
    bool counted;            /* the rows are counted first, and the index leaves as it grows */
    void (*miscount)(struct segment_census *census); /* NULL: the census is right */
    struct segment_writer_stats stats;
    struct segment *segment;
};

static inline void fixture_vector(struct fixture *fx, struct fixture_row *row, uint32_t f)
{
    const struct pdb_field *field = &fixture_fields[f];
    if (rng_below(&fx->rng, 100) >= fixture_present[f])
        return;
    row->vectors[f] = &row->values[f];
    bool zero = rng_below(&fx->rng, 40) == 0;
    for (uint32_t i = 0; i < field->dimension; i++) {
        float value = zero ? 0.0f : (float)rng_normal(&fx->rng);
        if (field->element == PDB_ELEMENT_FLOAT16)
            vecmath_narrow_f16(&value, 1, &row->values[f].halves[i]);
        else if (field->element == PDB_ELEMENT_INT8)
            row->values[f].bytes[i] = (int8_t)(zero ? 0 : (int)rng_below(&fx->rng, 256) - 128);
        else if (field->metric != PDB_METRIC_HAMMING)
            row->values[f].floats[i] = value;
        else if (rng_below(&fx->rng, 2) != 0)
            row->values[f].bits[i / 8] |= (uint8_t)(1 << (i % 8));
    }
    if (field->metric == PDB_METRIC_COSINE && field->element == PDB_ELEMENT_FLOAT32 &&
        rng_below(&fx->rng, 40) == 0)
        row->values[f].floats[0] = 1e30f; /* its norm is not safe */
}

/* Ids that share beginnings, 1 to 3 versions of each, in the order of a segment. */
static inline void fixture_rows(struct fixture *fx, uint32_t count)
{
    fx->rows = calloc(count + (size_t)1, sizeof(*fx->rows));
    assert_non_null(fx->rows);
    bool expiring = rng_below(&fx->rng, 2) != 0, touched = rng_below(&fx->rng, 2) != 0;
    uint32_t number = 0;
    while (fx->count < count) {
        number += 1 + (uint32_t)rng_below(&fx->rng, 3);
        uint64_t version = 5 + rng_below(&fx->rng, 1000);
        for (uint64_t left = 1 + rng_below(&fx->rng, 3); left > 0 && fx->count < count; left--) {
            struct fixture_row *row = &fx->rows[fx->count++];
            int len = snprintf(row->id, sizeof(row->id), "%06u%s", number,
                               number % 7 == 0 ? "-with-a-longer-end" : "");
            for (uint32_t f = 0; f < fx->schema.field_count; f++)
                fixture_vector(fx, row, f);
            row->row = (struct pdb_row){.id = {row->id, (size_t)len},
                                        .vectors = row->vectors,
                                        .metadata = docs_random(&fx->rng, &fx->arena),
                                        .version = version,
                                        .created_at_us = (int64_t)rng_below(&fx->rng, 1 << 30),
                                        .expires_at_us = 0};
            row->row.updated_at_us = row->row.created_at_us + (touched ? number % 3 : 0);
            if (expiring && rng_below(&fx->rng, 3) == 0)
                row->row.expires_at_us = 1 + (int64_t)rng_below(&fx->rng, 1 << 20);
            version -= 1 + rng_below(&fx->rng, 2);
        }
    }
}

static inline void fixture_init(struct fixture *fx, uint64_t seed, uint32_t count)
{
    *fx = (struct fixture){.hash_seed = seed * 77, .row_group_bytes = 40000};
    rng_seed(&fx->rng, seed);
    fx->schema = (struct segment_schema){.collection = {{(uint8_t)seed, 2, 3}},
                                         .number = 40 + seed,
                                         .fields = fixture_fields,
                                         .field_count = FIXTURE_FIELDS,
                                         .columns = fx->columns,
                                         .column_count = docs_columns(&fx->rng, fx->columns),
                                         .vectors_in_place = true};
    fixture_rows(fx, count);
    buffer_init_heap(&fx->parquet, NULL, 0);
    buffer_init_heap(&fx->index, NULL, 0);
}

static inline void fixture_dispose(struct fixture *fx)
{
    segment_free(fx->segment);
    assert_int_equal(fx->heap.bytes_used, 0);
    buffer_dispose(&fx->parquet);
    buffer_dispose(&fx->index);
    arena_dispose(&fx->arena);
    free(fx->rows);
}

static inline int fixture_sink(void *arg, const void *bytes, size_t len)
{
    struct fixture *fx = arg;
    assert_int_not_equal(len, 0);
    if (fx->write_fails_at != 0 && --fx->write_fails_at == 0)
        return PDB_UNAVAILABLE;
    buffer_add(&fx->parquet, bytes, len);
    return 0;
}

static inline int fixture_index_sink(void *arg, uint64_t offset, const void *bytes, size_t len)
{
    struct fixture *fx = arg;
    assert_int_not_equal(len, 0);
    if (fx->write_fails_at != 0 && --fx->write_fails_at == 0)
        return PDB_UNAVAILABLE;
    while (fx->index.len < offset + len) /* whoever leaves a hole is found out */
        buffer_add_byte(&fx->index, (char)0xee);
    memcpy(fx->index.ptr + offset, bytes, len);
    return 0;
}

/* Writes both files; what the first failing call returned. */
static inline int fixture_write(struct fixture *fx, struct trail *trail)
{
    struct segment_writer *w = NULL;
    struct segment_census census = {0};
    struct segment_writer_options options = {.schema = fx->schema,
                                             .heap = &fx->heap,
                                             .row_group_bytes = fx->row_group_bytes,
                                             .hash_seed = fx->hash_seed,
                                             .write = fixture_sink,
                                             .write_index = fixture_index_sink,
                                             .census = fx->counted ? &census : NULL,
                                             .arg = fx};
    fx->parquet.len = fx->index.len = 0;
    for (uint32_t i = 0; fx->counted && i < fx->count; i++)
        segment_census_add(&census, fx->schema.field_count, &fx->rows[i].row);
    if (fx->miscount != NULL)
        fx->miscount(&census);
    int rc = segment_writer_new(&options, &w, trail);
    for (uint32_t i = 0; rc == 0 && i < fx->count; i++)
        rc = segment_writer_add(w, &fx->rows[i].row, trail);
    if (rc == 0)
        rc = segment_writer_finish(w, trail);
    if (rc == 0 && !fx->counted)
        rc = segment_writer_index(w, &fx->index, trail);
    else if (rc == 0)
        while ((rc = segment_writer_index_step(w, 100, trail)) > 0)
            continue;
    if (rc == 0)
        segment_writer_stats(w, &fx->stats);
    segment_writer_free(w);
    return rc;
}

static inline struct segment_open_options fixture_options(struct fixture *fx)
{
    return (struct segment_open_options){
        .schema = fx->schema,
        .parquet = {(const uint8_t *)fx->parquet.ptr, fx->parquet.len},
        .index = {(const uint8_t *)fx->index.ptr, fx->index.len},
        .heap = &fx->heap};
}

static inline void fixture_open(struct fixture *fx)
{
    struct segment_open_options options = fixture_options(fx);
    struct trail trail = {0};
    bool index_bad = true;
    int rc = segment_open(&options, &fx->segment, &index_bad, &trail);
    if (rc != 0)
        fail_msg("open: %s", trail.text);
    assert_false(index_bad);
}

static inline void fixture_make(struct fixture *fx, uint64_t seed, uint32_t count)
{
    struct trail trail = {0};
    fixture_init(fx, seed, count);
    if (fixture_write(fx, &trail) != 0)
        fail_msg("write: %s", trail.text);
    fixture_open(fx);
}

static inline const void *fixture_vector_of(const struct segment *s, uint32_t f, uint32_t row)
{
    const struct segment_field *field = &s->fields[f];
    if (!segment_has_vector(field, row))
        return NULL;
    uint32_t ordinal = segment_ordinal(field, row), page = segment_page_of(field, ordinal);
    assert_true(segment_page_good(s, f, page));
    return segment_page_vectors(s, f, page) +
           (size_t)(ordinal - field->pages[page].first) * field->bytes;
}

/* Every array of the open segment against the rows that it was made from. */
static inline void fixture_compare(struct fixture *fx)
{
    const struct segment *s = fx->segment;
    assert_int_equal(s->row_count, fx->count);
    for (uint32_t i = 0; i < fx->count; i++) {
        const struct pdb_row *row = &fx->rows[i].row;
        assert_true(text_equal(segment_id(s, i), row->id));
        assert_true(text_equal(segment_doc(s, i), row->metadata));
        assert_true(s->versions[i] == row->version);
        assert_true(s->created_us[i] == row->created_at_us);
        assert_true(s->updated_us[i] == row->updated_at_us);
        assert_true((s->expires_us != NULL ? s->expires_us[i] : 0) == row->expires_at_us);
        uint32_t found = UINT32_MAX;
        assert_true(segment_index_find(s, row->id, &found));
        assert_true(found <= i && text_equal(fx->rows[found].row.id, row->id));
        assert_true(found == 0 || !text_equal(fx->rows[found - 1].row.id, row->id));
        for (uint32_t f = 0; f < s->field_count; f++) {
            const void *vector = fixture_vector_of(s, f, i);
            assert_int_equal(vector != NULL, row->vectors[f] != NULL);
            if (vector == NULL)
                continue;
            assert_memory_equal(vector, row->vectors[f], s->fields[f].bytes);
            if (s->fields[f].inverse_norms == NULL)
                continue;
            float norm = s->fields[f].inverse_norms[segment_ordinal(&s->fields[f], i)];
            float wanted = scan_inverse_norm(vector, s->fields[f].dimension, s->fields[f].element);
            assert_memory_equal(&norm, &wanted, sizeof(norm));
        }
    }
}

static inline void fixture_print(void *arg, const char *line)
{
    (void)arg;
    print_message("%s\n", line);
}

static inline void fixture_ignore(void *arg, const char *line)
{
    *(int *)arg += line[0] != '\0';
}

#endif
