/* What a compiled filter is, inside src/filter.
 *
 * The tree of the document becomes a branching program: a row of leaves (one condition each) that
 * name the next leaf for "true" and for "false". AND, OR and NOT are gone after compilation: they
 * only decided where the branches go. So evaluation is a loop that tests no more leaves than it
 * must, and needs no stack. The tree is kept for filter_shape alone. */
#ifndef FILTER_FILTER_INTERNAL_H
#define FILTER_FILTER_INTERNAL_H

#include "filter/filter.h"

/* The names as users write them; negative ones become their opposite with its branches exchanged.
 * */
enum filter_op {
    FILTER_EQ,
    FILTER_NE,
    FILTER_GT,
    FILTER_GTE,
    FILTER_LT,
    FILTER_LTE,
    FILTER_IN,
    FILTER_NIN,
    FILTER_EXISTS,
    FILTER_CONTAINS,
    FILTER_PREFIX,
    FILTER_OP_COUNT,
};

enum filter_kind { /* of an operand */
                   FILTER_OPERAND_NULL,
                   FILTER_OPERAND_BOOL,
                   FILTER_OPERAND_NUMBER,
                   FILTER_OPERAND_TEXT,
                   FILTER_OPERAND_TIME,
                   FILTER_OPERAND_WHOLE, /* an array or object, compared whole */
                   FILTER_OPERAND_SET,   /* of $in and $nin */
};

struct filter_number {
    bool is_integer;
    union {
        int64_t integer;
        double number;
    };
};

/* A scalar of a filter, or a whole array or object. */
struct filter_operand {
    enum filter_kind kind;
    union {
        bool boolean;
        struct filter_number number;
        struct pdb_text text;
        int64_t time_us;
        struct doc_value whole;
        const struct filter_set *set;
    };
};

/* The members of $in, by kind; numbers, texts and times sorted. */
struct filter_set {
    struct filter_number *numbers;
    struct pdb_text *texts;
    int64_t *times;
    struct doc_value *wholes;
    size_t number_count, text_count, time_count, whole_count;
    bool has_null, has_true, has_false;
};

enum { FILTER_ACCEPT = INT32_MAX, FILTER_REJECT = INT32_MAX - 1 };

struct filter_leaf {
    struct pdb_text key;
    enum filter_op op; /* never FILTER_NE, FILTER_NIN */
    struct filter_operand operand;
    int32_t on_true, on_false; /* a leaf, FILTER_ACCEPT or FILTER_REJECT */
};

enum filter_node_kind { FILTER_NODE_AND, FILTER_NODE_OR, FILTER_NODE_NOT, FILTER_NODE_LEAF };

struct filter_node {
    enum filter_node_kind kind;
    struct filter_node *first, *last, *next, *prev; /* children; siblings */
    struct pdb_text key;                            /* FILTER_NODE_LEAF: */
    enum filter_op op;
    bool negated; /* {"$exists": false} */
    struct filter_operand operand;
};

struct filter {
    struct filter_leaf *leaves;
    size_t leaf_count;
    int32_t entry;
    const struct filter_node *root;
};

enum { FILTER_DEPTH_MAX = 32, FILTER_LEAVES_DEFAULT = 1024 };

extern const char *const filter_op_names[FILTER_OP_COUNT];

/* <0, 0, >0, exact also where a double cannot hold the integer. */
int filter_compare_numbers(const struct filter_number *a, const struct filter_number *b);
/* False unless the value is a number. */
bool filter_number_of(const struct doc_value *value, struct filter_number *number_out);

/* Where an operand stands in the filter's document, for messages; lives on the compiler's stack. */
struct filter_place {
    const struct filter_place *up;
    struct pdb_text key;
    size_t index; /* when is_index */
    bool is_index;
};

/* Adds "filter.a.$in[3]: <message>" to the trail; returns code. */
int filter_fail(struct trail *trail, int code, const struct filter_place *place, const char *format,
                ...) __attribute__((format(printf, 4, 5)));

/* One operand as `op` needs it; `column`: UNSPECIFIED when the key is not declared. 0 or an error
 * with its place. */
int filter_operand_compile(struct arena *arena, enum filter_op op, enum pdb_column_type column,
                           const struct doc_value *value, const struct filter_place *place,
                           struct trail *trail, struct filter_operand *operand_out);

/* "integer", "string[]" and so on. */
const char *filter_type_name(enum doc_type type);
const char *filter_column_name(enum pdb_column_type type);
/* The type of a list column's elements; UNSPECIFIED for the others. */
enum pdb_column_type filter_element_type(enum pdb_column_type type);
/* True if a scalar value has the column's type (not for lists and geo). `any_number`: floats fit
 * integer columns. */
bool filter_scalar_fits(enum pdb_column_type type, const struct doc_value *value, bool any_number);
/* True for {"lat": -90..90, "lon": -180..180}. */
bool filter_is_geo(const struct doc_value *value);

#endif
