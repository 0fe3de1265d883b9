/* JSON into a document, the document validated and read, written as JSON and read again: both
 * documents must be the same bytes, and both readers (json_skip and json_read_doc) must agree about
 * what is JSON. The input is also taken as a document itself: what validation accepts must survive
 * the same road. */
#include "base/assert.h"
#include "base/doc.h"
#include "base/json.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_doc(struct arena *arena, struct pdb_text json, struct trail *trail,
                    struct pdb_text *bytes_out)
{
    struct json_reader r;
    struct doc_builder *b = doc_builder_new(arena, 0);
    ASSERT(b != NULL);
    json_open(&r, json.ptr, json.len, DOC_DEPTH_MAX, trail);
    int rc = json_read_doc(&r, b);
    if (rc == 0)
        rc = json_finish(&r);
    return rc < 0 ? rc : doc_builder_finish(b, bytes_out, NULL);
}

/* A valid document must come back from its JSON text. */
static void check_round_trip(struct arena *arena, struct pdb_text bytes)
{
    struct buffer json;
    struct trail trail = {0};
    struct pdb_text again = {NULL, 0};
    struct doc_value root = doc_root(bytes.ptr, bytes.len);
    buffer_init_arena(&json, arena, 0);
    doc_write_json(&json, &root);
    ASSERT(!json.failed);
    ASSERT(read_doc(arena, (struct pdb_text){json.ptr, json.len}, &trail, &again) == 0);
    ASSERT(doc_validate(again.ptr, again.len) == 0);
    ASSERT(text_equal(bytes, again) || bytes.len == 0);
    struct doc_value same = doc_root(again.ptr, again.len);
    ASSERT(doc_equal(&root, &same));
    struct pdb_text merged;
    ASSERT(doc_merge(arena, bytes, again, NULL, 0, &merged) == 0);
    struct doc_value merged_root = doc_root(merged.ptr, merged.len);
    ASSERT(doc_equal(&root, &merged_root));
}

static void check_floats(struct pdb_text json)
{
    struct json_reader r;
    float values[16];
    size_t count = 0;
    json_open(&r, json.ptr, json.len, 1, NULL);
    if (json_read_floats(&r, values, 16, &count) == 0) {
        for (size_t i = 0; i < count && i < 16; i++)
            ASSERT(__builtin_isfinite(values[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct trail trail = {0};
    struct pdb_text json = {(const char *)data, size}, bytes = {NULL, 0};
    arena_init(&arena, 0);
    int rc = read_doc(&arena, json, &trail, &bytes);

    struct json_reader r;
    json_open(&r, json.ptr, json.len, DOC_DEPTH_MAX, NULL);
    int skipped = json_skip(&r);
    if (skipped == 0)
        skipped = json_finish(&r);
    ASSERT(rc == 0 ? skipped == 0 : trail.len != 0);
    if (rc == 0) {
        ASSERT(doc_validate(bytes.ptr, bytes.len) == 0);
        check_round_trip(&arena, bytes);
    }
    check_floats(json);
    if (doc_validate(data, size) == 0)
        check_round_trip(&arena, json);
    arena_dispose(&arena);
    return 0;
}
