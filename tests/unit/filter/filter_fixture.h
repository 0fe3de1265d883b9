/* What the tests of filters share: documents and filters written as JSON. */
#ifndef TESTS_FILTER_FIXTURE_H
#define TESTS_FILTER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "filter/filter.h"

static inline struct pdb_text document_of(struct arena *arena, const char *json)
{
    struct json_reader reader;
    struct trail trail = {0};
    struct pdb_text bytes = {0};
    struct doc_builder *builder = doc_builder_new(arena, 0);
    assert_non_null(builder);
    json_open(&reader, json, strlen(json), 64, &trail);
    if (json_read_doc(&reader, builder) < 0 || json_finish(&reader) < 0)
        fail_msg("%s: %s", json, trail.text);
    assert_int_equal(doc_builder_finish(builder, &bytes, NULL), 0);
    assert_int_equal(doc_validate(bytes.ptr, bytes.len), 0);
    return bytes;
}

#endif
