/* toml_parse.c: the grammar of a document, and the rules on who may define what.
 *
 *     document   lines, each: [header], [[header]], a pair, or nothing; then a comment or nothing
 *     pair       key.key = value
 *     value      string, scalar, [array], {inline table}
 *
 * Nodes enter the tree as soon as their key is read, because every error discards the whole
 * document. Recursion goes only through arrays and inline tables, and toml_node_new refuses a node
 * below depth_max before its value is read.
 *
 * TOML's prose on defining a table twice comes down to how a table came to be (enum toml_origin)
 * and who asks:
 *
 *     asks \ found      by subtable  by header  by dots  by value  by elements
 *     way to [h]         enter        enter      enter    refuse    enter its last
 *     [h] itself         by header    refuse     refuse   refuse    refuse
 *     [[h]] itself       refuse       refuse     refuse   refuse    one element more
 *     way to k.k         by dots      refuse     enter    refuse    refuse
 *     last key of k.k    refuse       refuse     refuse   refuse    refuse
 *
 * What is missing is made, by subtable, header, elements, dots and value in the order of the rows.
 * Whatever is neither table nor array is always refused.
 *
 * "Enter by dots" needs no check for being in the same section: such a table can be reached by
 * dotted keys only from the section that made it, since that section's own table is by header and
 * cannot be entered a second time.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "toml_internal.h"

static int parse_value(struct toml_parser *p, struct toml_node *node);

static struct toml_node *find_child(const struct toml_parser *p, const struct toml_node *table,
                                    const struct toml_key *key)
{
    return toml_index_find(p->doc, &table->value, key->name.data, key->name.len);
}

static int new_table(struct toml_parser *p, struct toml_node *parent, const struct toml_key *key,
                     enum toml_origin origin, struct toml_node **table_out)
{
    int rc = toml_node_new(p, parent, key, table_out);
    if (rc < 0)
        return rc;
    (*table_out)->value.type = TOML_TABLE;
    (*table_out)->origin = (uint8_t)origin;
    return 0;
}

/* `what` says what was tried with the node that is in the way. */
static int fail_taken(struct toml_parser *p, const struct toml_key *key,
                      const struct toml_node *taken, const char *what)
{
    char path[128];
    (void)toml_path(&taken->value, path, sizeof path);
    bool is_table = taken->value.type == TOML_TABLE;
    bool is_closed =
        (is_table || taken->value.type == TOML_ARRAY) && taken->origin == TOML_BY_VALUE;
    return toml_fail(p, key->at, TOML_SYNTAX, "cannot %s '%s': already defined on line %u (%s%s)",
                     what, path, (unsigned)taken->value.line,
                     is_closed && is_table ? "inline " : "", toml_type_name(taken->value.type));
}

static int expect(struct toml_parser *p, char wanted, const char *where)
{
    if (!toml_next_is(p, wanted)) {
        char buffer[16];
        return toml_fail(p, p->at, TOML_SYNTAX, "expected '%c' %s, found %s", wanted, where,
                         toml_describe_next(p, buffer));
    }
    p->at++;
    return 0;
}

/* Reads one part of a dotted key. *last_out: no further part follows, blanks behind it are
 * skipped. */
static int parse_part(struct toml_parser *p, struct toml_key *key_out, bool *last_out)
{
    toml_skip_blank(p);
    int rc = toml_parse_key(p, key_out);
    if (rc < 0)
        return rc;
    toml_skip_blank(p);
    *last_out = !toml_next_is(p, '.');
    if (!*last_out)
        p->at++;
    return 0;
}

/* ---- pairs ---- */

static int enter_dotted(struct toml_parser *p, struct toml_node **table, const struct toml_key *key)
{
    struct toml_node *found = find_child(p, *table, key);
    if (found == NULL)
        return new_table(p, *table, key, TOML_BY_DOTS, table);
    if (found->value.type != TOML_TABLE ||
        (found->origin != TOML_BY_DOTS && found->origin != TOML_BY_SUBTABLE))
        return fail_taken(p, key, found, "add to");
    found->origin = TOML_BY_DOTS;
    *table = found;
    return 0;
}

/* key.key = value, relative to `table`. */
static int parse_pair(struct toml_parser *p, struct toml_node *table)
{
    struct toml_key key;
    int rc;
    for (;;) {
        bool last;
        if ((rc = parse_part(p, &key, &last)) < 0)
            return rc;
        if (last)
            break;
        if ((rc = enter_dotted(p, &table, &key)) < 0)
            return rc;
    }
    if ((rc = expect(p, '=', "after a key")) < 0)
        return rc;
    toml_skip_blank(p);
    struct toml_node *found = find_child(p, table, &key);
    if (found != NULL)
        return fail_taken(p, &key, found, "set");
    struct toml_node *node;
    if ((rc = toml_node_new(p, table, &key, &node)) < 0)
        return rc;
    return parse_value(p, node);
}

/* ---- values ---- */

/* The cursor is behind the opening bracket. */
static int parse_array(struct toml_parser *p, struct toml_node *array)
{
    int rc;
    bool comma = true;
    for (;;) {
        if ((rc = toml_skip_lines(p)) < 0)
            return rc;
        if (toml_next_is(p, ']')) {
            p->at++;
            return 0;
        }
        if (!comma)
            return expect(p, ',', "or ']' after an array element");
        struct toml_node *element;
        if ((rc = toml_node_new(p, array, NULL, &element)) < 0)
            return rc;
        if ((rc = parse_value(p, element)) < 0)
            return rc;
        if ((rc = toml_skip_lines(p)) < 0)
            return rc;
        comma = toml_next_is(p, ',');
        if (comma)
            p->at++;
    }
}

/* The cursor is behind the opening brace. TOML 1.0 allows neither newlines nor a comma at the
 * end. */
static int parse_inline_table(struct toml_parser *p, struct toml_node *table)
{
    toml_skip_blank(p);
    if (toml_next_is(p, '}')) {
        p->at++;
        return 0;
    }
    for (;;) {
        int rc = parse_pair(p, table);
        if (rc < 0)
            return rc;
        toml_skip_blank(p);
        if (!toml_next_is(p, ','))
            return expect(p, '}', "or ',' in an inline table");
        p->at++;
        toml_skip_blank(p);
        if (toml_next_is(p, '}'))
            return toml_fail(p, p->at, TOML_SYNTAX, "an inline table has no comma before its '}'");
    }
}

static int parse_value(struct toml_parser *p, struct toml_node *node)
{
    toml_mark(p, p->at, &node->value.line, &node->value.column);
    switch (p->at < p->end ? *p->at : 0) {
    case '"':
    case '\'':
        node->value.type = TOML_STRING;
        return toml_parse_string(p, &node->value.as.string);
    case '[':
        p->at++;
        node->value.type = TOML_ARRAY;
        node->origin = TOML_BY_VALUE;
        return parse_array(p, node);
    case '{':
        p->at++;
        node->value.type = TOML_TABLE;
        node->origin = TOML_BY_VALUE;
        return parse_inline_table(p, node);
    default:
        return toml_parse_scalar(p, &node->value);
    }
}

/* ---- headers ---- */

/* Goes one part down on the way to a header's last part. */
static int enter_header(struct toml_parser *p, struct toml_node **table, const struct toml_key *key)
{
    struct toml_node *found = find_child(p, *table, key);
    if (found == NULL)
        return new_table(p, *table, key, TOML_BY_SUBTABLE, table);
    if (found->value.type == TOML_TABLE && found->origin != TOML_BY_VALUE) {
        *table = found;
        return 0;
    }
    if (found->value.type == TOML_ARRAY && found->origin == TOML_BY_ELEMENTS) {
        *table = found->last_child;
        return 0;
    }
    return fail_taken(p, key, found, "add to");
}

static int define_table(struct toml_parser *p, struct toml_node *parent, const struct toml_key *key,
                        struct toml_node **table_out)
{
    struct toml_node *found = find_child(p, parent, key);
    if (found == NULL)
        return new_table(p, parent, key, TOML_BY_HEADER, table_out);
    if (found->value.type != TOML_TABLE || found->origin != TOML_BY_SUBTABLE)
        return fail_taken(p, key, found, "define");
    found->origin = TOML_BY_HEADER;
    *table_out = found;
    return 0;
}

static int add_element(struct toml_parser *p, struct toml_node *parent, const struct toml_key *key,
                       struct toml_node **table_out)
{
    struct toml_node *array = find_child(p, parent, key);
    if (array == NULL) {
        int rc = toml_node_new(p, parent, key, &array);
        if (rc < 0)
            return rc;
        array->value.type = TOML_ARRAY;
        array->origin = TOML_BY_ELEMENTS;
    } else if (array->value.type != TOML_ARRAY || array->origin != TOML_BY_ELEMENTS) {
        return fail_taken(p, key, array, "append to");
    }
    return new_table(p, array, NULL, TOML_BY_HEADER, table_out);
}

/* [key.key] or [[key.key]]; the cursor is on the first bracket. */
static int parse_header(struct toml_parser *p, struct toml_node **section_out)
{
    uint32_t line, column;
    toml_mark(p, p->at, &line, &column); /* now: marks are cheap in rising order only */
    p->at++;
    bool is_element = toml_next_is(p, '[');
    if (is_element)
        p->at++;
    struct toml_node *table = &p->doc->root;
    struct toml_key key;
    int rc;
    for (;;) {
        bool last;
        if ((rc = parse_part(p, &key, &last)) < 0)
            return rc;
        if (last)
            break;
        if ((rc = enter_header(p, &table, &key)) < 0)
            return rc;
    }
    if ((rc = expect(p, ']', "after a table's name")) < 0)
        return rc;
    if (is_element && (rc = expect(p, ']', "right behind the first, as [[ began")) < 0)
        return rc;
    rc = is_element ? add_element(p, table, &key, section_out)
                    : define_table(p, table, &key, section_out);
    if (rc < 0)
        return rc;
    (*section_out)->value.line = line;
    (*section_out)->value.column = column;
    return 0;
}

/* ---- document ---- */

static int parse_document(struct toml_parser *p)
{
    struct toml_node *section = &p->doc->root;
    int rc = toml_check_utf8(p);
    if (rc < 0)
        return rc;
    if (p->end - p->at >= 3 && memcmp(p->at, "\xef\xbb\xbf", 3) == 0) {
        p->text += 3; /* columns count from behind the mark */
        p->at += 3;
        p->mark_at = NULL;
    }
    while (p->at < p->end) {
        if ((rc = toml_skip_lines(p)) < 0)
            return rc;
        if (p->at == p->end)
            break;
        rc = *p->at == '[' ? parse_header(p, &section) : parse_pair(p, section);
        if (rc < 0)
            return rc;
        if ((rc = toml_skip_line_end(p)) < 0)
            return rc;
    }
    return 0;
}

static int fail_early(struct toml_error *error, int code, const char *message)
{
    *error = (struct toml_error){0};
    (void)snprintf(error->message, sizeof error->message, "%s", message);
    return code;
}

int toml_parse_with(const struct toml_options *options, const char *text, size_t len,
                    struct toml_document **doc_out, struct toml_error *error_out)
{
    static const struct toml_options defaults;
    struct toml_error unwanted;
    struct toml_error *error = error_out == NULL ? &unwanted : error_out;
    if (options == NULL)
        options = &defaults;
    assert((options->allocator.allocate == NULL) == (options->allocator.release == NULL));
    assert(text != NULL || len == 0);

    size_t text_max = options->text_max == 0 ? (size_t)TOML_TEXT_MAX_DEFAULT : options->text_max;
    if (len > text_max || len > TOML_TEXT_MAX_CAP)
        return fail_early(error, TOML_LIMIT, "the text is larger than the limit");
    uint32_t depth_max = options->depth_max == 0 ? TOML_DEPTH_MAX_DEFAULT : options->depth_max;
    struct toml_document *doc;
    if (toml_document_new(&options->allocator, len, &doc) < 0)
        return fail_early(error, TOML_NO_MEMORY, "out of memory");
    if (len == 0)
        text = "";

    struct toml_parser parser = {
        .text = text,
        .at = text,
        .end = text + len,
        .doc = doc,
        .error = error,
        .depth_max = depth_max < TOML_DEPTH_MAX_CAP ? depth_max : TOML_DEPTH_MAX_CAP,
    };
    int rc = parse_document(&parser);
    if (parser.c_locale != (locale_t)0)
        freelocale(parser.c_locale);
    if (rc < 0) {
        toml_free(doc);
        return rc;
    }
    *doc_out = doc;
    return 0;
}

int toml_parse(const char *text, size_t len, struct toml_document **doc_out,
               struct toml_error *error_out)
{
    return toml_parse_with(NULL, text, len, doc_out, error_out);
}
