/* toml_query.c: what a caller asks of a finished tree. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "toml_internal.h"

const struct toml_value *toml_root(const struct toml_document *doc)
{
    return &doc->root.value;
}

const struct toml_value *toml_get(const struct toml_value *table, const char *key, size_t len)
{
    if (table == NULL || table->type != TOML_TABLE)
        return NULL;
    const struct toml_value *root = table;
    while (root->parent != NULL) /* at most TOML_DEPTH_MAX_CAP steps */
        root = root->parent;
    const struct toml_node *found =
        toml_index_find((const struct toml_document *)root, table, key, len);
    return found == NULL ? NULL : &found->value;
}

const struct toml_value *toml_find(const struct toml_value *table, const char *path)
{
    for (;;) {
        size_t len = strcspn(path, ".");
        table = toml_get(table, path, len);
        if (table == NULL || path[len] == '\0')
            return table;
        path += len + 1;
    }
}

const char *toml_type_name(enum toml_type type)
{
    switch (type) {
    case TOML_STRING:
        return "string";
    case TOML_INTEGER:
        return "integer";
    case TOML_FLOAT:
        return "float";
    case TOML_BOOLEAN:
        return "boolean";
    case TOML_OFFSET_DATETIME:
        return "offset date-time";
    case TOML_LOCAL_DATETIME:
        return "local date-time";
    case TOML_LOCAL_DATE:
        return "local date";
    case TOML_LOCAL_TIME:
        return "local time";
    case TOML_ARRAY:
        return "array";
    case TOML_TABLE:
        return "table";
    }
    return "unknown";
}

/* ---- paths ---- */

struct writer {
    char *out;
    size_t size;
    size_t len; /* needed so far */
};

static void put(struct writer *w, char c)
{
    if (w->len + 1 < w->size)
        w->out[w->len] = c;
    w->len++;
}

static bool is_bare(const struct toml_string *key)
{
    static const char bare[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    return key->len > 0 && strspn(key->data, bare) == key->len;
}

static void put_key(struct writer *w, const struct toml_string *key)
{
    if (is_bare(key)) {
        for (size_t i = 0; i < key->len; i++)
            put(w, key->data[i]);
        return;
    }
    put(w, '"');
    for (size_t i = 0; i < key->len; i++) {
        if (toml_is_control(key->data[i])) {
            char escape[8];
            (void)snprintf(escape, sizeof escape, "\\u%04X", (unsigned char)key->data[i]);
            for (const char *c = escape; *c != '\0'; c++)
                put(w, *c);
            continue;
        }
        if (key->data[i] == '"' || key->data[i] == '\\')
            put(w, '\\');
        put(w, key->data[i]);
    }
    put(w, '"');
}

static void put_position(struct writer *w, const struct toml_value *element)
{
    size_t position = 0;
    for (const struct toml_value *v = element->parent->as.children.first; v != element; v = v->next)
        position++;
    char number[32];
    (void)snprintf(number, sizeof number, "[%zu]", position);
    for (const char *c = number; *c != '\0'; c++)
        put(w, *c);
}

size_t toml_path(const struct toml_value *value, char *out, size_t size)
{
    const struct toml_value *chain[TOML_DEPTH_MAX_CAP];
    size_t depth = 0;
    for (; value->parent != NULL; value = value->parent) {
        assert(depth < TOML_DEPTH_MAX_CAP);
        chain[depth++] = value;
    }
    struct writer w = {out, size, 0};
    while (depth > 0) {
        const struct toml_value *step = chain[--depth];
        if (step->key.data == NULL) {
            put_position(&w, step);
        } else {
            if (w.len > 0)
                put(&w, '.');
            put_key(&w, &step->key);
        }
    }
    if (size > 0)
        out[w.len < size ? w.len : toml_whole_characters(out, size - 1)] = '\0';
    return w.len;
}
