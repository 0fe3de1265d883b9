/* A small segment that the fuzzers of segments begin with: the same on every run. */
#ifndef TESTS_FUZZ_SEGMENT_MADE_H
#define TESTS_FUZZ_SEGMENT_MADE_H

#include "base/buffer.h"
#include "base/doc.h"
#include "segment/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MADE_ROWS = 12, MADE_FIELDS = 3 };

static const struct pdb_field made_fields[MADE_FIELDS] = {
    {.name = {"", 0}, .dimension = 5, .metric = PDB_METRIC_COSINE},
    {.name = {"l2", 2}, .dimension = 3, .metric = PDB_METRIC_EUCLIDEAN},
    {.name = {"bits", 4}, .dimension = 11, .metric = PDB_METRIC_HAMMING},
};
static const struct pdb_column made_columns[] = {{{"s", 1}, PDB_COLUMN_STRING},
                                                 {{"a.b", 3}, PDB_COLUMN_INTEGER},
                                                 {{"l", 1}, PDB_COLUMN_FLOAT_LIST},
                                                 {{"t", 1}, PDB_COLUMN_DATETIME},
                                                 {{"g", 1}, PDB_COLUMN_GEO}};

static inline struct segment_schema made_schema(bool in_place)
{
    return (struct segment_schema){.collection = {{9, 9}},
                                   .number = 3,
                                   .fields = made_fields,
                                   .field_count = MADE_FIELDS,
                                   .columns = made_columns,
                                   .column_count = sizeof(made_columns) / sizeof(made_columns[0]),
                                   .compression = PDB_COMPRESSION_SNAPPY,
                                   .vectors_in_place = in_place};
}

static inline struct pdb_text made_document(struct arena *arena, uint32_t i)
{
    struct pdb_text document;
    struct doc_builder *b = doc_builder_new(arena, 0);
    if (b == NULL || doc_begin_object(b) < 0)
        abort();
    (void)doc_add_key(b, TEXT_LIT("s"));
    (void)doc_add_string(b, i % 2 != 0 ? TEXT_LIT("one") : TEXT_LIT("two"));
    (void)doc_add_key(b, TEXT_LIT("a"));
    (void)doc_begin_object(b);
    (void)doc_add_key(b, TEXT_LIT("b"));
    (void)doc_add_int(b, (int64_t)i * 1000);
    (void)doc_end(b);
    (void)doc_add_key(b, TEXT_LIT("l"));
    (void)doc_begin_array(b);
    for (uint32_t k = 0; k < i % 4; k++)
        (void)doc_add_float(b, k + 0.5);
    (void)doc_end(b);
    (void)doc_add_key(b, TEXT_LIT("t"));
    (void)doc_add_string(b, TEXT_LIT("2026-01-31T12:00:00Z"));
    (void)doc_add_key(b, TEXT_LIT("x"));
    (void)doc_add_null(b);
    (void)doc_end(b);
    if (doc_builder_finish(b, &document, NULL) < 0)
        abort();
    return document;
}

static inline int made_sink(void *arg, const void *bytes, size_t len)
{
    buffer_add(arg, bytes, len);
    return 0;
}

static inline void made_segment(bool in_place, struct buffer *parquet, struct buffer *index)
{
    struct segment_writer *w = NULL;
    struct segment_writer_options options = {.schema = made_schema(in_place),
                                             .row_group_bytes = 1000,
                                             .write = made_sink,
                                             .arg = parquet};
    buffer_init_heap(parquet, NULL, 0);
    buffer_init_heap(index, NULL, 0);
    if (segment_writer_new(&options, &w, NULL) < 0)
        abort();
    for (uint32_t i = 0; i < MADE_ROWS; i++) {
        char id[16];
        struct arena arena = {0};
        float floats[5] = {(float)i, 1, -2, 3, 4};
        uint8_t bits[2] = {(uint8_t)i, 1};
        const void *vectors[MADE_FIELDS] = {floats, i % 3 != 0 ? floats : NULL,
                                            i % 4 != 0 ? bits : NULL};
        int len = snprintf(id, sizeof(id), "id-%02u", i / 2);
        struct pdb_row row = {.id = {id, (size_t)len},
                              .vectors = vectors,
                              .metadata = made_document(&arena, i),
                              .version = 100 - i % 2,
                              .created_at_us = i,
                              .updated_at_us = i + 1,
                              .expires_at_us = i % 5 == 0 ? 7 : 0};
        if (segment_writer_add(w, &row, NULL) < 0)
            abort();
        arena_dispose(&arena);
    }
    if (segment_writer_finish(w, NULL) < 0 || segment_writer_index(w, index, NULL) < 0)
        abort();
    segment_writer_free(w);
}

static inline void made_report(void *arg, const char *line)
{
    (void)arg;
    if (line[0] == '\0')
        abort();
}

/* Reads everything that a server would read of a row; documents only if they are sound, since
 * serving trusts them to their checksum. */
static inline void made_read_all(const struct segment *s)
{
    struct segment_stats stats;
    uint64_t page = 0, sum = 0;
    while (!segment_verify_step(s, &page, 100))
        ;
    segment_stats(s, &stats);
    for (uint32_t row = 0; row < stats.rows; row++) {
        const void *vectors[MADE_FIELDS];
        struct pdb_row out;
        uint32_t found = 0;
        struct pdb_text id = segment_row_id(s, row);
        if (segment_find(s, id, UINT64_MAX, &found) && found >= stats.rows)
            abort();
        sum += segment_lower_bound(s, id) + segment_row_version(s, row);
        if (!segment_row(s, row, &out, vectors))
            continue;
        for (uint32_t f = 0; f < MADE_FIELDS; f++)
            sum += vectors[f] != NULL ? ((const uint8_t *)vectors[f])[0] : 0;
        if (doc_validate(out.metadata.ptr, out.metadata.len) == 0)
            sum += doc_root(out.metadata.ptr, out.metadata.len).children.count;
    }
    if (sum == UINT64_MAX)
        abort();
    (void)segment_check(s, made_report, NULL, NULL);
}

#endif
