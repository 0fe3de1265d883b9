/* Random documents and declared columns that meet each other often and in awkward ways. */
#ifndef TESTS_SEGMENT_DOCS_H
#define TESTS_SEGMENT_DOCS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/doc.h"
#include "base/rng.h"
#include "base/text.h"

#include <proximadb/collection.h>

static const char *const docs_names[] = {
    "a", "b", "c", "d", "a.b", "b.c", "a.b.c", "a.b.c.d", "a..b", ".a", "a.", "id", "vector", "ID",
};
enum { DOCS_NAMES = sizeof(docs_names) / sizeof(docs_names[0]), DOCS_DEPTH = 5 };

static inline struct pdb_text docs_name(struct rng *rng)
{
    return text_of(docs_names[rng_below(rng, DOCS_NAMES)]);
}

/* Distinct names, any types. Returns their number. */
static inline uint32_t docs_columns(struct rng *rng, struct pdb_column columns_out[DOCS_NAMES])
{
    uint32_t count = 0;
    for (size_t i = 0; i < DOCS_NAMES; i++)
        if (rng_below(rng, 2) != 0)
            columns_out[count++] =
                (struct pdb_column){text_of(docs_names[i]),
                                    (enum pdb_column_type)(1 + rng_below(rng, PDB_COLUMN_TEXT))};
    return count;
}

static inline void docs_add_text(struct rng *rng, struct doc_builder *b)
{
    static const char *const texts[] = {"",
                                        "plain",
                                        "quote \" and \\ and \n",
                                        "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
                                        "2026-01-31T12:00:00Z",
                                        "2026-01-31T12:00:00.5Z",
                                        "2026-01-31T12:00:00.500Z",
                                        "2026-01-31T12:00:00.000001Z",
                                        "2026-01-31T12:00:00.000000Z",
                                        "2026-01-31t12:00:00z",
                                        "2026-01-31T12:00:00+02:00",
                                        "2026-12-31T23:59:60Z",
                                        "0000-01-01T00:00:00Z",
                                        "9999-12-31T23:59:59-23:59",
                                        "1969-12-31T23:59:59.999Z"};
    size_t which = rng_below(rng, sizeof(texts) / sizeof(texts[0]) + 1);
    if (which == sizeof(texts) / sizeof(texts[0])) {
        char with_nul[200] = {0};
        assert_int_equal(
            doc_add_string(b, (struct pdb_text){with_nul, rng_below(rng, sizeof(with_nul))}), 0);
    } else {
        assert_int_equal(doc_add_string(b, text_of(texts[which])), 0);
    }
}

static inline void docs_add_number(struct rng *rng, struct doc_builder *b)
{
    static const double floats[] = {0.0, -0.0, 1.0, 1.5, -1e-300, 1.7976931348623157e308, 5e-324};
    static const int64_t integers[] = {0, -1, 63, 64, 255, 1 << 20, INT64_MAX, INT64_MIN};
    if (rng_below(rng, 2) != 0)
        assert_int_equal(doc_add_float(b, floats[rng_below(rng, 7)]), 0);
    else
        assert_int_equal(doc_add_int(b, integers[rng_below(rng, 8)]), 0);
}

/* Any value; containers get fewer with depth. */
static inline void docs_add_value(struct rng *rng, struct doc_builder *b, unsigned depth);

static inline void docs_add_members(struct rng *rng, struct doc_builder *b, unsigned depth)
{
    bool used[DOCS_NAMES] = {false};
    for (uint64_t i = rng_below(rng, 6); i > 0; i--) {
        size_t name = rng_below(rng, DOCS_NAMES);
        if (used[name])
            continue;
        used[name] = true;
        assert_int_equal(doc_add_key(b, text_of(docs_names[name])), 0);
        docs_add_value(rng, b, depth + 1);
    }
}

static inline void docs_add_list(struct rng *rng, struct doc_builder *b, unsigned depth)
{
    uint64_t kind = rng_below(rng, 4);
    assert_int_equal(doc_begin_array(b), 0);
    for (uint64_t i = rng_below(rng, 4); i > 0; i--) {
        if (kind == 0)
            assert_int_equal(doc_add_float(b, (double)i + 0.5), 0);
        else if (kind == 1)
            assert_int_equal(doc_add_int(b, (int64_t)i), 0);
        else if (kind == 2)
            docs_add_text(rng, b);
        else
            docs_add_value(rng, b, depth + 1);
    }
    assert_int_equal(doc_end(b), 0);
}

static inline void docs_add_value(struct rng *rng, struct doc_builder *b, unsigned depth)
{
    switch (rng_below(rng, depth < DOCS_DEPTH ? 9 : 5)) {
    case 0:
        assert_int_equal(doc_add_null(b), 0);
        return;
    case 1:
        assert_int_equal(doc_add_bool(b, rng_below(rng, 2) != 0), 0);
        return;
    case 2:
    case 3:
        docs_add_number(rng, b);
        return;
    case 4:
        docs_add_text(rng, b);
        return;
    case 5:
        docs_add_list(rng, b, depth);
        return;
    case 6: /* a place on earth */
        assert_int_equal(doc_begin_object(b), 0);
        assert_int_equal(doc_add_key(b, TEXT_LIT("lat")), 0);
        docs_add_number(rng, b);
        assert_int_equal(doc_add_key(b, TEXT_LIT("lon")), 0);
        docs_add_number(rng, b);
        assert_int_equal(doc_end(b), 0);
        return;
    default:
        assert_int_equal(doc_begin_object(b), 0);
        docs_add_members(rng, b, depth);
        assert_int_equal(doc_end(b), 0);
        return;
    }
}

/* One document in the arena: mostly an object with members, now and then {} or no bytes at all. */
static inline struct pdb_text docs_random(struct rng *rng, struct arena *arena)
{
    struct pdb_text document = {NULL, 0};
    if (rng_below(rng, 16) == 0)
        return document;
    struct doc_builder *b = doc_builder_new(arena, 0);
    assert_non_null(b);
    assert_int_equal(doc_begin_object(b), 0);
    if (rng_below(rng, 16) != 0)
        docs_add_members(rng, b, 0);
    assert_int_equal(doc_end(b), 0);
    assert_int_equal(doc_builder_finish(b, &document, NULL), 0);
    return document;
}

#endif
