/* fuzz_toml.c: a libFuzzer target. Any bytes must parse or be refused; what parses is walked, so
 * that the sanitizers see every pointer, and everything is looked up again the way a program would.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "toml/toml.h"

/* NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_place(const struct toml_value *value)
{
    assert(value->line >= 1 && value->column >= 1);
    char path[64];
    assert(toml_path(value, path, sizeof path) > 0);
    assert(strlen(path) < sizeof path);
}

/* Depth first without recursion: down to the first child, else on to the next, else up. */
static void walk(const struct toml_value *root)
{
    const struct toml_value *value = root->as.children.first;
    while (value != NULL && value != root) {
        check_place(value);
        if (value->key.data != NULL) {
            assert(toml_get(value->parent, value->key.data, value->key.len) == value);
            assert(value->key.data[value->key.len] == '\0');
        }
        if (value->type == TOML_STRING)
            assert(value->as.string.data[value->as.string.len] == '\0');
        bool has_children = value->type == TOML_TABLE || value->type == TOML_ARRAY;
        if (has_children && value->as.children.first != NULL) {
            value = value->as.children.first;
            continue;
        }
        while (value != root && value->next == NULL)
            value = value->parent;
        if (value != root)
            value = value->next;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct toml_document *doc = NULL;
    struct toml_error error;
    int rc = toml_parse((const char *)data, size, &doc, &error);
    if (rc < 0) {
        assert(doc == NULL && error.message[0] != '\0');
        return 0;
    }
    walk(toml_root(doc));
    toml_free(doc);
    return 0;
}
