/* Messages for tests, packed by protobuf-c: an encoder that is not ours. */
#ifndef TESTS_PROTOBUF_FIXTURE_H
#define TESTS_PROTOBUF_FIXTURE_H

#include "api/api.h"
#include "base/arena.h"
#include "transport/codec/protobuf_requests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proximadb_v1_proximadb.pb-c.h"

static struct arena arena;
static struct trail trail;

static inline int set_up(void **state)
{
    (void)state;
    arena_init(&arena, 0);
    trail_reset(&trail);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    arena_dispose(&arena);
    return 0;
}

/* A copy without a byte to spare behind it, so that a sanitizer sees a read too far. */
static inline struct pdb_text exact(const void *bytes, size_t len)
{
    char *copy = arena_alloc_aligned(&arena, len + 64, 64);
    assert_non_null(copy);
    copy += 64 - len % 64; /* the end of the block is the end of the message */
    if (len != 0)
        memcpy(copy, bytes, len);
    return (struct pdb_text){copy, len};
}

static inline struct pdb_text pack(const void *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = arena_alloc(&arena, len);
    assert_non_null(bytes);
    assert_int_equal(protobuf_c_message_pack(message, bytes), len);
    return exact(bytes, len);
}

static inline struct protobuf_decoder decoder(void)
{
    return (struct protobuf_decoder){
        .arena = &arena, .limits = &api_limits_default, .trail = &trail};
}

static inline int decode_write(struct protobuf_write_decoder *w, bool update,
                               struct pdb_text message)
{
    int rc = 0;
    protobuf_write_open(w, update, &arena, &api_limits_default, message, &trail);
    while ((rc = protobuf_write_step(w)) > 0)
        continue;
    return rc;
}

static inline void assert_told(const char *text)
{
    if (strstr(trail.text, text) == NULL)
        fail_msg("expected '%s' in '%s'", text, trail.text);
}

static inline void assert_text(struct pdb_text text, const char *expected)
{
    if (!text_equal(text, text_of(expected)))
        fail_msg("expected '%s', found '%.*s'", expected, TEXT_ARG(text));
}

static inline void assert_doc(struct pdb_text doc, const char *json)
{
    struct doc_value root = doc_root(doc.ptr, doc.len);
    struct buffer out;
    assert_int_equal(doc_validate(doc.ptr, doc.len), 0);
    buffer_init_arena(&out, &arena, 0);
    doc_write_json(&out, &root);
    assert_text((struct pdb_text){out.ptr, out.len}, json);
}

#endif
