/* filter_operand.c: operands are read once, at compilation: numbers tagged, times parsed, the
 * members of $in sorted by kind. Types are strict on declared columns and free on other keys.
 *
 * Integers and doubles are compared exactly: converting an integer above 2^53 to double would make
 * neighbours equal. Sorting is our own heap sort, because libc's qsort may allocate behind the heap
 * seam. */
#include "filter/filter_internal.h"

#include "base/clock.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/no_libc_heap.h"

/* ---- messages ---- */

/* The path as "filter.a.$in[3]", cut at the size. Places are at most twice as deep as the filter.
 * */
static void render_place(const struct filter_place *place, char *text, size_t size)
{
    const struct filter_place *chain[4 * FILTER_DEPTH_MAX];
    size_t count = 0;
    for (; place != NULL && count < sizeof(chain) / sizeof(chain[0]); place = place->up)
        chain[count++] = place;
    size_t len = (size_t)snprintf(text, size, "filter");
    while (count > 0 && len < size) {
        const struct filter_place *at = chain[--count];
        int more = at->is_index ? snprintf(text + len, size - len, "[%zu]", at->index)
                                : snprintf(text + len, size - len, ".%.*s", TEXT_ARG(at->key));
        len += more > 0 ? (size_t)more : 0;
    }
}

int filter_fail(struct trail *trail, int code, const struct filter_place *place, const char *format,
                ...)
{
    char path[TRAIL_TEXT_MAX / 2], message[TRAIL_TEXT_MAX / 2];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    render_place(place, path, sizeof(path));
    return trail_add(trail, code, "%s: %s", path, message);
}

/* ---- numbers ---- */

static int compare_integer_double(int64_t integer, double number)
{
    if (number >= 0x1p63)
        return -1;
    if (number < -0x1p63)
        return 1;
    double whole = trunc(number);
    int64_t truncated = (int64_t)whole;
    if (integer != truncated)
        return integer < truncated ? -1 : 1;
    return (whole > number) - (whole < number);
}

int filter_compare_numbers(const struct filter_number *a, const struct filter_number *b)
{
    if (a->is_integer && b->is_integer)
        return (a->integer > b->integer) - (a->integer < b->integer);
    if (a->is_integer)
        return compare_integer_double(a->integer, b->number);
    if (b->is_integer)
        return -compare_integer_double(b->integer, a->number);
    return (a->number > b->number) - (a->number < b->number);
}

bool filter_number_of(const struct doc_value *value, struct filter_number *number_out)
{
    if (value->type == DOC_INT)
        *number_out = (struct filter_number){.is_integer = true, .integer = value->integer};
    else if (value->type == DOC_FLOAT)
        *number_out = (struct filter_number){.is_integer = false, .number = value->number};
    else
        return false;
    return true;
}

/* ---- sorting ---- */

typedef int compare_fn(const void *a, const void *b);

static int order_numbers(const void *a, const void *b)
{
    return filter_compare_numbers(a, b);
}

static int order_texts(const void *a, const void *b)
{
    return text_compare(*(const struct pdb_text *)a, *(const struct pdb_text *)b);
}

static int order_times(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static void swap_bytes(char *a, char *b, size_t size)
{
    char spare[sizeof(struct filter_number) > sizeof(struct pdb_text) ? sizeof(struct filter_number)
                                                                      : sizeof(struct pdb_text)];
    memcpy(spare, a, size);
    memcpy(a, b, size);
    memcpy(b, spare, size);
}

static void sink(char *items, size_t count, size_t size, size_t at, compare_fn *compare)
{
    for (size_t child = 2 * at + 1; child < count; at = child, child = 2 * at + 1) {
        if (child + 1 < count && compare(items + (child + 1) * size, items + child * size) > 0)
            child++;
        if (compare(items + child * size, items + at * size) <= 0)
            return;
        swap_bytes(items + child * size, items + at * size, size);
    }
}

static void sort(void *array, size_t count, size_t size, compare_fn *compare)
{
    char *items = array;
    for (size_t at = count / 2; at-- > 0;)
        sink(items, count, size, at, compare);
    for (size_t end = count; end-- > 1;) {
        swap_bytes(items, items + end * size, size);
        sink(items, end, size, 0, compare);
    }
}

/* ---- one operand ---- */

static int wrong_type(struct trail *trail, const struct filter_place *place, const char *expected,
                      const struct doc_value *value)
{
    return filter_fail(trail, PDB_INVALID_ARGUMENT, place, "expected %s, found %s", expected,
                       filter_type_name(value->type));
}

/* A value without looking at its column, except that text of a datetime becomes a time. */
static struct filter_operand read_value(const struct doc_value *value, enum pdb_column_type column)
{
    struct filter_operand operand = {.kind = FILTER_OPERAND_NULL};
    switch (value->type) {
    case DOC_NULL:
        break;
    case DOC_BOOL:
        operand.kind = FILTER_OPERAND_BOOL;
        operand.boolean = value->boolean;
        break;
    case DOC_INT:
    case DOC_FLOAT:
        operand.kind = FILTER_OPERAND_NUMBER;
        (void)filter_number_of(value, &operand.number);
        break;
    case DOC_STRING:
        operand.kind = FILTER_OPERAND_TEXT;
        operand.text = value->string;
        if (column == PDB_COLUMN_DATETIME) {
            operand.kind = FILTER_OPERAND_TIME;
            operand.time_us = 0;
            (void)clock_parse(value->string.ptr, value->string.len, &operand.time_us);
        }
        break;
    case DOC_ARRAY:
    case DOC_OBJECT:
        operand.kind = FILTER_OPERAND_WHOLE;
        operand.whole = *value;
        break;
    }
    return operand;
}

/* Equality on a declared column: its type, null, and for lists an element or a list of elements. */
static int check_equality(enum pdb_column_type column, const struct doc_value *value,
                          const struct filter_place *place, struct trail *trail)
{
    enum pdb_column_type element = filter_element_type(column);
    if (value->type == DOC_NULL || column == PDB_COLUMN_UNSPECIFIED)
        return 0;
    if (column == PDB_COLUMN_GEO)
        return filter_is_geo(value) ? 0 : wrong_type(trail, place, "geo", value);
    if (element == PDB_COLUMN_UNSPECIFIED)
        return filter_scalar_fits(column, value, true)
                   ? 0
                   : wrong_type(trail, place,
                                column == PDB_COLUMN_DATETIME ? "datetime (RFC 3339)"
                                                              : filter_column_name(column),
                                value);
    if (value->type != DOC_ARRAY)
        return filter_scalar_fits(element, value, true)
                   ? 0
                   : wrong_type(trail, place, filter_column_name(column), value);
    struct doc_iter iter = doc_iterate(value);
    struct pdb_text key;
    struct doc_value item;
    for (size_t i = 0; doc_next(&iter, &key, &item); i++) {
        struct filter_place at = {.up = place, .index = i, .is_index = true};
        if (!filter_scalar_fits(element, &item, true))
            return wrong_type(trail, &at, filter_column_name(element), &item);
    }
    return 0;
}

static int check_order(enum pdb_column_type column, const struct doc_value *value,
                       const struct filter_place *place, struct trail *trail)
{
    switch (column) {
    case PDB_COLUMN_UNSPECIFIED:
        if (value->type == DOC_INT || value->type == DOC_FLOAT || value->type == DOC_STRING)
            return 0;
        return wrong_type(trail, place, "a number or a string", value);
    case PDB_COLUMN_STRING:
    case PDB_COLUMN_TEXT:
    case PDB_COLUMN_INTEGER:
    case PDB_COLUMN_FLOAT:
    case PDB_COLUMN_DATETIME:
        if (value->type == DOC_NULL)
            return wrong_type(trail, place, filter_column_name(column), value);
        return check_equality(column, value, place, trail);
    case PDB_COLUMN_BOOLEAN:
    case PDB_COLUMN_STRING_LIST:
    case PDB_COLUMN_INTEGER_LIST:
    case PDB_COLUMN_FLOAT_LIST:
    case PDB_COLUMN_GEO:
        break;
    }
    return filter_fail(trail, PDB_INVALID_ARGUMENT, place, "a %s column has no order",
                       filter_column_name(column));
}

static int check_contains(enum pdb_column_type column, const struct doc_value *value,
                          const struct filter_place *place, struct trail *trail)
{
    enum pdb_column_type element = filter_element_type(column);
    if (value->type == DOC_ARRAY)
        return wrong_type(trail, place, "one element", value);
    if (column == PDB_COLUMN_UNSPECIFIED)
        return 0;
    if (column == PDB_COLUMN_STRING || column == PDB_COLUMN_TEXT)
        element = PDB_COLUMN_STRING;
    if (element == PDB_COLUMN_UNSPECIFIED)
        return filter_fail(trail, PDB_INVALID_ARGUMENT, place, "a %s column contains nothing",
                           filter_column_name(column));
    return filter_scalar_fits(element, value, true)
               ? 0
               : wrong_type(trail, place, filter_column_name(element), value);
}

static int check_prefix(enum pdb_column_type column, const struct doc_value *value,
                        const struct filter_place *place, struct trail *trail)
{
    if (column != PDB_COLUMN_UNSPECIFIED && column != PDB_COLUMN_STRING &&
        column != PDB_COLUMN_TEXT)
        return filter_fail(trail, PDB_INVALID_ARGUMENT, place, "a %s column has no prefix",
                           filter_column_name(column));
    return value->type == DOC_STRING ? 0 : wrong_type(trail, place, "string", value);
}

/* ---- $in ---- */

static void set_add(struct filter_set *set, const struct filter_operand *member)
{
    switch (member->kind) {
    case FILTER_OPERAND_NULL:
        set->has_null = true;
        break;
    case FILTER_OPERAND_BOOL:
        set->has_true |= member->boolean;
        set->has_false |= !member->boolean;
        break;
    case FILTER_OPERAND_NUMBER:
        set->numbers[set->number_count++] = member->number;
        break;
    case FILTER_OPERAND_TEXT:
        set->texts[set->text_count++] = member->text;
        break;
    case FILTER_OPERAND_TIME:
        set->times[set->time_count++] = member->time_us;
        break;
    case FILTER_OPERAND_WHOLE:
        set->wholes[set->whole_count++] = member->whole;
        break;
    case FILTER_OPERAND_SET:
        break;
    }
}

/* Counts the members of each kind, so that the arrays are no larger than they must be. */
static bool set_alloc(struct arena *arena, const struct doc_value *list, bool times,
                      struct filter_set *set)
{
    size_t numbers = 0, texts = 0, wholes = 0;
    struct doc_iter iter = doc_iterate(list);
    struct pdb_text key;
    struct doc_value value;
    while (doc_next(&iter, &key, &value)) {
        numbers += value.type == DOC_INT || value.type == DOC_FLOAT;
        texts += value.type == DOC_STRING;
        wholes += value.type == DOC_ARRAY || value.type == DOC_OBJECT;
    }
    if (numbers != 0 && (set->numbers = arena_array(arena, struct filter_number, numbers)) == NULL)
        return false;
    if (texts != 0 && times && (set->times = arena_array(arena, int64_t, texts)) == NULL)
        return false;
    if (texts != 0 && !times && (set->texts = arena_array(arena, struct pdb_text, texts)) == NULL)
        return false;
    return wholes == 0 || (set->wholes = arena_array(arena, struct doc_value, wholes)) != NULL;
}

static int compile_set(struct arena *arena, enum pdb_column_type column,
                       const struct doc_value *list, const struct filter_place *place,
                       struct trail *trail, struct filter_operand *operand_out)
{
    if (list->type != DOC_ARRAY)
        return wrong_type(trail, place, "array", list);
    struct filter_set *set = arena_new(arena, struct filter_set);
    if (set == NULL || !set_alloc(arena, list, column == PDB_COLUMN_DATETIME, set))
        return filter_fail(trail, PDB_RESOURCE_EXHAUSTED, place, "no memory");
    struct doc_iter iter = doc_iterate(list);
    struct pdb_text key;
    struct doc_value value;
    for (size_t i = 0; doc_next(&iter, &key, &value); i++) {
        struct filter_place at = {.up = place, .index = i, .is_index = true};
        int rc = check_equality(column, &value, &at, trail);
        if (rc < 0)
            return rc;
        struct filter_operand member = read_value(&value, column);
        set_add(set, &member);
    }
    sort(set->numbers, set->number_count, sizeof(set->numbers[0]), order_numbers);
    sort(set->texts, set->text_count, sizeof(set->texts[0]), order_texts);
    sort(set->times, set->time_count, sizeof(set->times[0]), order_times);
    *operand_out = (struct filter_operand){.kind = FILTER_OPERAND_SET, .set = set};
    return 0;
}

int filter_operand_compile(struct arena *arena, enum filter_op op, enum pdb_column_type column,
                           const struct doc_value *value, const struct filter_place *place,
                           struct trail *trail, struct filter_operand *operand_out)
{
    int rc = 0;
    switch (op) {
    case FILTER_IN:
    case FILTER_NIN:
        return compile_set(arena, column, value, place, trail, operand_out);
    case FILTER_EQ:
    case FILTER_NE:
        rc = check_equality(column, value, place, trail);
        break;
    case FILTER_GT:
    case FILTER_GTE:
    case FILTER_LT:
    case FILTER_LTE:
        rc = check_order(column, value, place, trail);
        break;
    case FILTER_CONTAINS:
        rc = check_contains(column, value, place, trail);
        break;
    case FILTER_PREFIX:
        rc = check_prefix(column, value, place, trail);
        break;
    case FILTER_EXISTS:
        rc = value->type == DOC_BOOL ? 0 : wrong_type(trail, place, "boolean", value);
        break;
    case FILTER_OP_COUNT:
        rc = PDB_INTERNAL;
        break;
    }
    if (rc == 0)
        *operand_out = read_value(value, column);
    return rc;
}
