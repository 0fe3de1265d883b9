/* filter_eval.c: runs the branching program over one row's metadata. Called for every candidate of
 * a search, so it allocates nothing, looks a key up once for neighbouring conditions on it, and
 * stops at the first decision. */
#include "filter/filter_internal.h"

#include "base/assert.h"
#include "base/clock.h"

#include "base/no_libc_heap.h"

static bool has_number(const struct filter_set *set, const struct filter_number *wanted)
{
    size_t low = 0, high = set->number_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = filter_compare_numbers(&set->numbers[middle], wanted);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool has_text(const struct filter_set *set, struct pdb_text wanted)
{
    size_t low = 0, high = set->text_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = text_compare(set->texts[middle], wanted);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* A value of a datetime column: parsed here, since stored metadata keeps the user's text. */
static bool has_time(const struct filter_set *set, struct pdb_text text)
{
    int64_t wanted = 0;
    if (set->time_count == 0 || clock_parse(text.ptr, text.len, &wanted) < 0)
        return false;
    size_t low = 0, high = set->time_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->times[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->time_count && set->times[low] == wanted;
}

static bool set_has(const struct filter_set *set, const struct doc_value *value)
{
    struct filter_number number;
    switch (value->type) {
    case DOC_NULL:
        return set->has_null;
    case DOC_BOOL:
        return value->boolean ? set->has_true : set->has_false;
    case DOC_INT:
    case DOC_FLOAT:
        return filter_number_of(value, &number) && has_number(set, &number);
    case DOC_STRING:
        return has_text(set, value->string) || has_time(set, value->string);
    case DOC_ARRAY:
    case DOC_OBJECT:
        for (size_t i = 0; i < set->whole_count; i++) {
            if (doc_equal(&set->wholes[i], value))
                return true;
        }
        return false;
    }
    return false;
}

/* <0, 0, >0: the value against a number, text or time; false if they are of different types. */
static bool compare(const struct filter_operand *operand, const struct doc_value *value,
                    int *order_out)
{
    struct filter_number number;
    int64_t time_us = 0;
    if (operand->kind == FILTER_OPERAND_NUMBER) {
        if (!filter_number_of(value, &number))
            return false;
        *order_out = filter_compare_numbers(&number, &operand->number);
        return true;
    }
    if (value->type != DOC_STRING)
        return false;
    if (operand->kind == FILTER_OPERAND_TEXT) {
        *order_out = text_compare(value->string, operand->text);
        return true;
    }
    if (operand->kind != FILTER_OPERAND_TIME ||
        clock_parse(value->string.ptr, value->string.len, &time_us) < 0)
        return false;
    *order_out = (time_us > operand->time_us) - (time_us < operand->time_us);
    return true;
}

/* Equality of one value, without looking into arrays. */
static bool equals(const struct filter_operand *operand, const struct doc_value *value)
{
    int order = 0;
    switch (operand->kind) {
    case FILTER_OPERAND_NULL:
        return value->type == DOC_NULL;
    case FILTER_OPERAND_BOOL:
        return value->type == DOC_BOOL && value->boolean == operand->boolean;
    case FILTER_OPERAND_TEXT:
        return value->type == DOC_STRING && text_equal(value->string, operand->text);
    case FILTER_OPERAND_NUMBER:
    case FILTER_OPERAND_TIME:
        return compare(operand, value, &order) && order == 0;
    case FILTER_OPERAND_WHOLE:
        return doc_equal(&operand->whole, value);
    case FILTER_OPERAND_SET:
        return set_has(operand->set, value);
    }
    return false;
}

/* `scalars_only`: equality looks into an array for scalars alone; $contains also for objects. */
static bool any_element_equals(const struct filter_operand *operand, const struct doc_value *array,
                               bool scalars_only)
{
    struct doc_iter iter = doc_iterate(array);
    struct pdb_text key;
    struct doc_value element;
    while (doc_next(&iter, &key, &element)) {
        bool whole = element.type == DOC_ARRAY || element.type == DOC_OBJECT;
        if (!(whole && scalars_only) && equals(operand, &element))
            return true;
    }
    return false;
}

static bool equals_or_contains(const struct filter_operand *operand, const struct doc_value *value)
{
    return equals(operand, value) ||
           (value->type == DOC_ARRAY && any_element_equals(operand, value, true));
}

static bool contains(const struct filter_operand *operand, const struct doc_value *value)
{
    if (value->type == DOC_ARRAY)
        return any_element_equals(operand, value, false);
    if (value->type != DOC_STRING || operand->kind != FILTER_OPERAND_TEXT)
        return false;
    struct pdb_text all = value->string, part = operand->text;
    return part.len == 0 || (all.len >= part.len && memmem(all.ptr, all.len, part.ptr, part.len));
}

static bool in_order(enum filter_op op, int order)
{
    if (op == FILTER_GT)
        return order > 0;
    if (op == FILTER_GTE)
        return order >= 0;
    return op == FILTER_LT ? order < 0 : order <= 0;
}

/* The condition on a value that exists. */
static bool test_value(const struct filter_leaf *leaf, const struct doc_value *value)
{
    int order = 0;
    switch (leaf->op) {
    case FILTER_EQ:
    case FILTER_IN:
        return equals_or_contains(&leaf->operand, value);
    case FILTER_GT:
    case FILTER_GTE:
    case FILTER_LT:
    case FILTER_LTE:
        return compare(&leaf->operand, value, &order) && in_order(leaf->op, order);
    case FILTER_EXISTS:
        return true;
    case FILTER_CONTAINS:
        return contains(&leaf->operand, value);
    case FILTER_PREFIX:
        return value->type == DOC_STRING && text_starts_with(value->string, leaf->operand.text);
    case FILTER_NE:
    case FILTER_NIN:
    case FILTER_OP_COUNT:
        break;
    }
    ASSERT(leaf->op != FILTER_NE && leaf->op != FILTER_NIN && leaf->op < FILTER_OP_COUNT);
    return false;
}

bool filter_matches(const struct filter *filter, struct pdb_text metadata)
{
    if (filter == NULL)
        return true;
    struct doc_value root = doc_root(metadata.ptr, metadata.len), value = {0};
    const char *looked_up = NULL; /* the key that `value` and `found` belong to */
    bool found = false;
    int32_t at = filter->entry;
    while (at != FILTER_ACCEPT && at != FILTER_REJECT) {
        const struct filter_leaf *leaf = &filter->leaves[at];
        if (looked_up == NULL || leaf->key.ptr != looked_up) {
            found = doc_find(&root, leaf->key, &value);
            looked_up = leaf->key.ptr;
        }
        at = found && test_value(leaf, &value) ? leaf->on_true : leaf->on_false;
    }
    return at == FILTER_ACCEPT;
}

size_t filter_leaf_count(const struct filter *filter)
{
    return filter != NULL ? filter->leaf_count : 0;
}
