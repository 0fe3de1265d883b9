/* config_value.c: one value on its way in: from text (flags, environment, defaults) or from TOML,
 * checked against its row, into the structure. The two ways differ only in how a value is
 * recognised; range, choice and grammar are checked by the same functions, so that no way in is
 * more lenient than another.
 */
#include "server/config_internal.h"

#include "base/assert.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

enum { SHOWN_MAX = 60 }; /* bytes of an offending value that a message quotes */

static const uint64_t whole_mib = UINT64_C(1) << 20;

/* ---- complaints ---- */

__attribute__((format(printf, 2, 3))) static int complain(struct config_complaint *complaint,
                                                          const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang 14 does not see va_start */
    (void)vsnprintf(complaint->text, sizeof complaint->text, format, arguments);
    va_end(arguments);
    return PDB_INVALID_ARGUMENT;
}

static void print_size_short(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"", " KiB", " MiB", " GiB", " TiB"};
    size_t unit = 0;
    while (unit < 4 && bytes >= 1024 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    (void)snprintf(out, 32, "%llu%s", (unsigned long long)bytes, units[unit]);
}

/* What a row takes, for the end of "expected ...". */
static void describe_wanted(const struct config_row *row, char *out, size_t size)
{
    const char *zero = (row->traits & CONFIG_OR_ZERO) != 0 ? "0, or " : "";
    char low[32], high[32];
    int len = 0;
    switch (row->kind) {
    case CONFIG_BOOL:
        (void)snprintf(out, size, "true or false");
        break;
    case CONFIG_INTEGER:
        (void)snprintf(out, size, "%san integer from %llu to %llu", zero,
                       (unsigned long long)row->min, (unsigned long long)row->max);
        break;
    case CONFIG_SIZE:
        print_size_short(row->min, low);
        print_size_short(row->max, high);
        (void)snprintf(out, size, "%s%s in bytes or with a unit (KiB, MiB, GiB, TiB), from %s%s%s",
                       zero,
                       (row->traits & CONFIG_WHOLE_MIB) != 0 ? "a multiple of 1 MiB" : "a size",
                       low, row->max == INT64_MAX ? "" : " to ", row->max == INT64_MAX ? "" : high);
        break;
    case CONFIG_CHOICE:
        for (size_t i = 0; row->choices[i] != NULL && (size_t)len < size; i++)
            len += snprintf(out + len, size - (size_t)len, "%s\"%s\"", i == 0 ? "one of " : ", ",
                            row->choices[i]);
        break;
    case CONFIG_TEXT:
        (void)snprintf(out, size, "%s",
                       (row->traits & CONFIG_NEEDED) != 0 ? "text that is not empty" : "text");
        break;
    case CONFIG_LIST:
        (void)snprintf(out, size, "%s",
                       (row->traits & CONFIG_NEEDED) != 0 ? "at least one text"
                                                          : "a list of texts");
        break;
    }
}

static int complain_found(const struct config_row *row, struct config_complaint *complaint,
                          const char *found)
{
    char wanted[160];
    describe_wanted(row, wanted, sizeof wanted);
    return complain(complaint, "expected %s; found %s", wanted, found);
}

/* Quotes a value, cut when long and left out when secret. */
static void quote(const struct config_row *row, const char *text, char out[SHOWN_MAX + 16])
{
    size_t len = strlen(text);
    if ((row->traits & CONFIG_SECRET) != 0) {
        (void)snprintf(out, SHOWN_MAX + 16, "a secret value");
        return;
    }
    if (len > SHOWN_MAX) {
        len = SHOWN_MAX;
        while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
            len--;
    }
    len = utf8_invalid_at(text, len);
    (void)snprintf(out, SHOWN_MAX + 16, "\"%.*s%s\"", (int)len, text,
                   text[len] == '\0' ? "" : "...");
    for (char *c = out; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?'; /* a message is one line */
    }
}

static int complain_text(const struct config_row *row, struct config_complaint *complaint,
                         const char *text)
{
    char found[SHOWN_MAX + 16];
    quote(row, text, found);
    return complain_found(row, complaint, found);
}

/* ---- checks, the same for both ways in ---- */

static int check_number(const struct config_row *row, uint64_t number,
                        struct config_complaint *complaint)
{
    bool in_range = number >= row->min && number <= row->max;
    if (number == 0 && (row->traits & CONFIG_OR_ZERO) != 0)
        in_range = true;
    if ((row->traits & CONFIG_WHOLE_MIB) != 0 && number % whole_mib != 0)
        in_range = false;
    if (in_range)
        return 0;
    char found[32];
    (void)snprintf(found, sizeof found, "%llu", (unsigned long long)number);
    return complain_found(row, complaint, (row->traits & CONFIG_SECRET) != 0 ? "another" : found);
}

/* A whole text, or one item of a list. */
static int check_text(const struct config_row *row, const char *text, size_t len,
                      struct config_complaint *complaint)
{
    char found[SHOWN_MAX + 16];
    quote(row, text, found);
    if (strlen(text) != len)
        return complain(complaint, "expected text without NUL bytes; found %s and more", found);
    if (utf8_invalid_at(text, len) != len)
        return complain(complaint, "expected valid UTF-8; found a wrong byte after %s", found);
    if (len == 0 && row->kind == CONFIG_LIST)
        return complain(complaint, "expected items that are not empty");
    const char *wanted = row->wrong == NULL ? NULL : row->wrong(text);
    return wanted == NULL ? 0 : complain(complaint, "expected %s; found %s", wanted, found);
}

/* Port 0 lets the system choose: two of them are two listeners. */
static bool may_repeat(const struct config_row *row, const char *item)
{
    size_t len = strlen(item);
    return strcmp(row->name, "server.listen") == 0 && len > 2 && strcmp(item + len - 2, ":0") == 0;
}

static int check_unique(const struct config_row *row, const struct config_list *list,
                        struct config_complaint *complaint)
{
    for (size_t i = 1; i < list->count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(list->items[i], list->items[j]) == 0 && !may_repeat(row, list->items[i]))
                return complain(complaint, "expected different items; found \"%.*s\" twice",
                                SHOWN_MAX, list->items[i]);
        }
    }
    return 0;
}

int config_check_list(const struct config_row *row, const struct config_list *list,
                      struct config_complaint *complaint)
{
    if (list->count == 0 && (row->traits & CONFIG_NEEDED) != 0)
        return complain_found(row, complaint, "none");
    for (size_t i = 0; i < list->count; i++) {
        int rc = check_text(row, list->items[i], strlen(list->items[i]), complaint);
        if (rc < 0)
            return rc;
    }
    return check_unique(row, list, complaint);
}

/* A text that stands alone: copied, NULL when empty. */
static int take_text(const struct config_row *row, const char *text, size_t len,
                     struct arena *arena, struct config_complaint *complaint,
                     struct config_value *value)
{
    int rc = check_text(row, text, len, complaint);
    if (rc < 0)
        return rc;
    if (len == 0)
        return (row->traits & CONFIG_NEEDED) != 0 ? complain_text(row, complaint, text) : 0;
    value->text = arena_copy_text(arena, text, len).ptr;
    return value->text == NULL ? PDB_RESOURCE_EXHAUSTED : 0;
}

static int take_choice(const struct config_row *row, const char *text,
                       struct config_complaint *complaint, struct config_value *value)
{
    for (size_t i = 0; row->choices[i] != NULL; i++) {
        if (strcmp(row->choices[i], text) == 0) {
            value->number = i;
            return 0;
        }
    }
    return complain_text(row, complaint, text);
}

/* ---- from text ---- */

/* Digits; with units, also a unit behind them and blanks between. False: not a number, or beyond 64
 * bits. */
static bool parse_number(const char *text, bool units, uint64_t *number_out)
{
    static const struct {
        const char *name;
        unsigned shift;
    } unit_rows[] = {{"", 0}, {"B", 0}, {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
    uint64_t number = 0;
    size_t digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9'; digits++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text[digits] - '0'), &number))
            return false;
    }
    if (digits == 0)
        return false;
    const char *unit = text + digits;
    while (units && *unit == ' ')
        unit++;
    for (size_t i = 0; i < (units ? sizeof unit_rows / sizeof unit_rows[0] : 1); i++) {
        if (strcmp(unit, unit_rows[i].name) == 0)
            return !__builtin_mul_overflow(number, UINT64_C(1) << unit_rows[i].shift, number_out);
    }
    return false;
}

static int take_number(const struct config_row *row, const char *text,
                       struct config_complaint *complaint, struct config_value *value)
{
    if (!parse_number(text, row->kind == CONFIG_SIZE, &value->number))
        return complain_text(row, complaint, text);
    return check_number(row, value->number, complaint);
}

/* Items between commas, blanks around them dropped. Only an empty text has no items. */
static int take_list(const struct config_row *row, const char *text, struct arena *arena,
                     struct config_complaint *complaint, struct config_value *value)
{
    size_t count = text[strspn(text, " \t")] == '\0' ? 0 : 1;
    for (const char *c = text; count > 0 && *c != '\0'; c++)
        count += *c == ',' ? 1 : 0;
    const char **items = arena_array(arena, const char *, count + 1);
    if (items == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (size_t i = 0; i < count; i++) {
        text += strspn(text, " \t");
        size_t len = strcspn(text, ",");
        const char *next = text + len + 1; /* behind the last item: not used */
        while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
            len--;
        items[i] = arena_copy_text(arena, text, len).ptr;
        if (items[i] == NULL)
            return PDB_RESOURCE_EXHAUSTED;
        text = next;
    }
    value->list = (struct config_list){items, count};
    return config_check_list(row, &value->list, complaint);
}

int config_value_from_text(const struct config_row *row, const char *text, struct arena *arena,
                           struct config_complaint *complaint, struct config_value *value_out)
{
    struct config_value value = {0};
    int rc = 0;
    switch (row->kind) {
    case CONFIG_BOOL:
        value.number = strcmp(text, "true") == 0 ? 1 : 0;
        if (value.number == 0 && strcmp(text, "false") != 0)
            rc = complain_text(row, complaint, text);
        break;
    case CONFIG_INTEGER:
    case CONFIG_SIZE:
        rc = take_number(row, text, complaint, &value);
        break;
    case CONFIG_CHOICE:
        rc = take_choice(row, text, complaint, &value);
        break;
    case CONFIG_TEXT:
        rc = take_text(row, text, strlen(text), arena, complaint, &value);
        break;
    case CONFIG_LIST:
        rc = take_list(row, text, arena, complaint, &value);
        break;
    }
    if (rc == 0)
        *value_out = value;
    return rc;
}

/* ---- from TOML ---- */

static int complain_type(const struct config_row *row, const struct toml_value *toml,
                         struct config_complaint *complaint)
{
    char found[SHOWN_MAX + 48], quoted[SHOWN_MAX + 16];
    bool shown = (row->traits & CONFIG_SECRET) == 0;
    if (toml->type == TOML_STRING && shown) {
        quote(row, toml->as.string.data, quoted);
        (void)snprintf(found, sizeof found, "the string %s", quoted);
    } else if (toml->type == TOML_INTEGER && shown) {
        (void)snprintf(found, sizeof found, "the integer %lld", (long long)toml->as.integer);
    } else {
        const char *name = toml_type_name(toml->type);
        (void)snprintf(found, sizeof found, "%s %s", strchr("aeiou", name[0]) != NULL ? "an" : "a",
                       name);
    }
    return complain_found(row, complaint, found);
}

static int take_toml_number(const struct config_row *row, const struct toml_value *toml,
                            struct config_complaint *complaint, struct config_value *value)
{
    if (toml->type == TOML_STRING && row->kind == CONFIG_SIZE)
        return take_number(row, toml->as.string.data, complaint, value);
    if (toml->type != TOML_INTEGER || toml->as.integer < 0)
        return complain_type(row, toml, complaint);
    value->number = (uint64_t)toml->as.integer;
    return check_number(row, value->number, complaint);
}

static int take_toml_list(const struct config_row *row, const struct toml_value *toml,
                          struct arena *arena, struct config_complaint *complaint,
                          const struct toml_value **at_out, struct config_value *value)
{
    const char **items = arena_array(arena, const char *, toml->as.children.count + 1);
    if (items == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    size_t count = 0;
    for (const struct toml_value *item = toml->as.children.first; item != NULL; item = item->next) {
        *at_out = item;
        if (item->type != TOML_STRING)
            return complain_type(row, item, complaint);
        int rc = check_text(row, item->as.string.data, item->as.string.len, complaint);
        if (rc < 0)
            return rc;
        items[count] = arena_copy_text(arena, item->as.string.data, item->as.string.len).ptr;
        if (items[count++] == NULL)
            return PDB_RESOURCE_EXHAUSTED;
    }
    *at_out = toml;
    value->list = (struct config_list){items, count};
    return config_check_list(row, &value->list, complaint);
}

int config_value_from_toml(const struct config_row *row, const struct toml_value *toml,
                           struct arena *arena, struct config_complaint *complaint,
                           const struct toml_value **at_out, struct config_value *value_out)
{
    static const enum toml_type types[] = {
        [CONFIG_BOOL] = TOML_BOOLEAN, [CONFIG_INTEGER] = TOML_INTEGER,
        [CONFIG_SIZE] = TOML_INTEGER, [CONFIG_CHOICE] = TOML_STRING,
        [CONFIG_TEXT] = TOML_STRING,  [CONFIG_LIST] = TOML_ARRAY,
    };
    struct config_value value = {0};
    int rc = 0;
    *at_out = toml;
    if (toml->type != types[row->kind] && row->kind != CONFIG_SIZE)
        return complain_type(row, toml, complaint);
    switch (row->kind) {
    case CONFIG_BOOL:
        value.number = toml->as.boolean ? 1 : 0;
        break;
    case CONFIG_INTEGER:
    case CONFIG_SIZE:
        rc = take_toml_number(row, toml, complaint, &value);
        break;
    case CONFIG_CHOICE:
        rc = take_choice(row, toml->as.string.data, complaint, &value);
        break;
    case CONFIG_TEXT:
        rc = take_text(row, toml->as.string.data, toml->as.string.len, arena, complaint, &value);
        break;
    case CONFIG_LIST:
        rc = take_toml_list(row, toml, arena, complaint, at_out, &value);
        break;
    }
    if (rc == 0)
        *value_out = value;
    return rc;
}

/* ---- into the structure, and out of it ---- */

void config_store(struct config *config, const struct config_row *row,
                  const struct config_value *value)
{
    char *member = (char *)config + row->offset;
    uint32_t narrow = (uint32_t)value->number;
    bool flag = value->number != 0;
    switch (row->kind) {
    case CONFIG_BOOL:
        ASSERT(row->size == sizeof flag);
        memcpy(member, &flag, sizeof flag);
        break;
    case CONFIG_CHOICE: /* an enum is as wide as an unsigned int */
    case CONFIG_INTEGER:
    case CONFIG_SIZE:
        ASSERT(row->size == sizeof value->number ||
               (row->size == sizeof narrow && value->number <= UINT32_MAX));
        if (row->size == sizeof narrow)
            memcpy(member, &narrow, sizeof narrow);
        else
            memcpy(member, &value->number, sizeof value->number);
        break;
    case CONFIG_TEXT:
        ASSERT(row->size == sizeof value->text);
        memcpy(member, &value->text, sizeof value->text);
        break;
    case CONFIG_LIST:
        ASSERT(row->size == sizeof value->list);
        memcpy(member, &value->list, sizeof value->list);
        break;
    }
}

struct config_value config_fetch(const struct config *config, const struct config_row *row)
{
    const char *member = (const char *)config + row->offset;
    struct config_value value = {0};
    uint32_t narrow;
    bool flag;
    switch (row->kind) {
    case CONFIG_BOOL:
        memcpy(&flag, member, sizeof flag);
        value.number = flag ? 1 : 0;
        break;
    case CONFIG_CHOICE:
    case CONFIG_INTEGER:
    case CONFIG_SIZE:
        if (row->size == sizeof narrow) {
            memcpy(&narrow, member, sizeof narrow);
            value.number = narrow;
        } else {
            memcpy(&value.number, member, sizeof value.number);
        }
        break;
    case CONFIG_TEXT:
        memcpy(&value.text, member, sizeof value.text);
        break;
    case CONFIG_LIST:
        memcpy(&value.list, member, sizeof value.list);
        break;
    }
    return value;
}
