/* toml_fixture.h: what the unit tests share: parsing a literal, and complaining usefully. */
#ifndef TOML_FIXTURE_H
#define TOML_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "toml/toml.h"

/* Parses `text`, which must be valid. */
static inline struct toml_document *parse(const char *text)
{
    struct toml_document *doc = NULL;
    struct toml_error error;
    if (toml_parse(text, strlen(text), &doc, &error) < 0)
        fail_msg("%u:%u: %s in: %s", (unsigned)error.line, (unsigned)error.column, error.message,
                 text);
    return doc;
}

/* Expects a syntax error at `line`:`column` whose message contains `part`. */
static inline void refuse(const char *text, uint32_t line, uint32_t column, const char *part)
{
    struct toml_document *doc = NULL;
    struct toml_error error;
    if (toml_parse(text, strlen(text), &doc, &error) != TOML_SYNTAX) {
        toml_free(doc);
        fail_msg("accepted: %s", text);
    }
    assert_null(doc);
    if (error.line != line || error.column != column || strstr(error.message, part) == NULL)
        fail_msg("%u:%u: %s; expected %u:%u: ...%s... in: %s", (unsigned)error.line,
                 (unsigned)error.column, error.message, (unsigned)line, (unsigned)column, part,
                 text);
}

/* The value at `path`, which must be there with this type. */
static inline const struct toml_value *value_at(const struct toml_document *doc, const char *path,
                                                enum toml_type type)
{
    const struct toml_value *value = toml_find(toml_root(doc), path);
    if (value == NULL) {
        fail_msg("no value at %s", path);
        return NULL; /* not reached, which static analysis cannot know */
    }
    if (value->type != type)
        fail_msg("%s is a %s, not a %s", path, toml_type_name(value->type), toml_type_name(type));
    return value;
}

#endif
