/* Filters over metadata: compiled once per request, then evaluated per row. Pure: no I/O, no clock.
 *
 * The input is a document (base/doc.h) of the shape that docs/api/rest.md gives for every door:
 * {"category":"shoe","price":{"$lt":20}}, {"$or":[..]}, {"$not":{..}}, {"$and":[..]}; several keys
 * in one object mean AND. Operators: $eq $ne $gt $gte $lt $lte $in $nin $exists $contains $prefix.
 * A key is a dotted path.
 *
 * - Numbers compare by value across integer and float, exactly. Text compares bytewise. Only
 *   numbers, text and datetime columns (as time) have an order.
 * - On a declared column the operand must have its type (PDB_INVALID_ARGUMENT, with the path of the
 *   operand); any number fits an integer or float column, null fits all for equality. On an
 *   undeclared key a value of another type simply does not match.
 * - Missing keys match only $ne, $nin, {"$exists": false} and negations. A key that is null exists.
 * - Equality ($eq $ne $in $nin) with an array operand compares the whole array; with a scalar
 *   operand, an array-valued key matches if one of its elements does, as $contains would (as users
 *   of MongoDB and Qdrant expect). $contains on text asks for a substring. An object is compared
 *   whole, and only by an explicit $eq $ne $in $nin $contains, so that a forgotten $ is an error
 *   and not an empty result. */
#ifndef FILTER_FILTER_H
#define FILTER_FILTER_H

#include "base/arena.h"
#include "base/doc.h"
#include "base/trail.h"

#include <proximadb/types.h>

struct filter;

struct filter_column {
    struct pdb_text name;
    enum pdb_column_type type;
};

struct filter_options {
    const struct filter_column *columns;
    size_t column_count;
    unsigned depth_max;  /* objects inside $and, $or and $not; 0: 32, which is also the most */
    unsigned leaves_max; /* conditions; 0: 1,024 */
};

/* `document` must live as long as the filter (operands point into it) and have passed doc_validate.
 * An empty object (also len 0) matches all: *filter_out is then NULL. `options` may be NULL; its
 * columns are not kept. 0, PDB_INVALID_ARGUMENT ("filter.price.$lt: ..."), PDB_UNIMPLEMENTED for
 * operators that are known but not served yet, PDB_RESOURCE_EXHAUSTED: no memory. */
int filter_compile(struct arena *arena, struct pdb_text document,
                   const struct filter_options *options, struct trail *trail,
                   struct filter **filter_out);

/* NULL filter: true. `metadata`: a validated document. Allocates nothing, recurses nowhere. */
bool filter_matches(const struct filter *filter, struct pdb_text metadata);

/* Conditions in it; 0 for NULL. What a planner weighs an evaluation by. */
size_t filter_leaf_count(const struct filter *filter);

/* Keys and operators without values, for logs: "price $lt AND category $eq". Control characters of
 * keys come as '?'. "" for NULL; .ptr is NULL without memory. */
struct pdb_text filter_shape(const struct filter *filter, struct arena *arena);

/* Checks a record's metadata (a validated document) against the declared columns: wrong type ->
 * PDB_INVALID_ARGUMENT, "metadata.price: expected float, found string". null and absent are fine.
 * An integer fits a float column; a float never fits an integer column. */
int filter_check_columns(struct pdb_text metadata, const struct filter_column *columns,
                         size_t column_count, struct trail *trail);

#endif
