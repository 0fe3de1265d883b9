/* Tests src/transport/http/openapi.json against the table of operations (src/api/api.h): every
 * route is described, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/api.h"
#include "base/json.h"

#include <ctype.h>

extern const unsigned char openapi_json[];
extern const size_t openapi_json_len;

static struct doc_value contract(struct arena *arena)
{
    struct json_reader r;
    struct trail trail = {0};
    struct pdb_text bytes = {0};
    const char *what = NULL;
    arena_init(arena, 0);
    struct doc_builder *b = doc_builder_new(arena, 0);
    json_open(&r, (const char *)openapi_json, openapi_json_len, DOC_DEPTH_MAX, &trail);
    if (json_read_doc(&r, b) != 0 || doc_builder_finish(b, &bytes, &what) != 0)
        fail_msg("openapi.json: %s", trail.text);
    return doc_root(bytes.ptr, bytes.len);
}

static struct doc_value member(const struct doc_value *object, const char *key)
{
    struct doc_value value;
    if (!doc_get(object, text_of(key), &value))
        fail_msg("no member '%s'", key);
    return value;
}

static void every_operation_is_described(void **state)
{
    (void)state;
    struct arena arena;
    struct doc_value root = contract(&arena), paths = member(&root, "paths");
    for (int i = 0; i < API_OPERATION_COUNT; i++) {
        const struct api_operation_row *row = &api_operation_rows[i];
        if (row->rest_path[0] == '\0')
            continue;
        char method[8] = {0};
        for (size_t c = 0; row->rest_method[c] != '\0' && c < sizeof(method) - 1; c++)
            method[c] = (char)tolower((unsigned char)row->rest_method[c]);
        struct doc_value path = member(&paths, row->rest_path), operation = member(&path, method),
                         name = member(&operation, "operationId");
        assert_true(text_equal(name.string, text_of(row->name)));
    }
    arena_dispose(&arena);
}

static void nothing_else_is_described(void **state)
{
    (void)state;
    struct arena arena;
    struct doc_value root = contract(&arena), paths = member(&root, "paths"), path, operation;
    struct pdb_text key;
    size_t described = 0, served = 0;
    for (struct doc_iter i = doc_iterate(&paths); doc_next(&i, &key, &path);)
        for (struct doc_iter j = doc_iterate(&path); doc_next(&j, &key, &operation);)
            described++;
    for (int i = 0; i < API_OPERATION_COUNT; i++)
        served += api_operation_rows[i].rest_path[0] != '\0';
    assert_int_equal(described, served);
    arena_dispose(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_is_described),
        cmocka_unit_test(nothing_else_is_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
