/* Filters over metadata: compiled once per request, then evaluated per row. Pure: no I/O, no clock.
 *
 * The input is a document (base/doc.h) of the shape that api.md gives for every door: {"category":"shoe","price":{"$lt":20}},
 * {"$or":[..]}, {"$not":{..}}, {"$and":[..]}; several keys in one object mean AND. Operators: $eq $ne $gt $gte $lt $lte $in $nin $exists $contains
 * $prefix. A key is a dotted path. Numbers compare by value across integer and float, exactly. On a declared column the operand must have its
 * type (INVALID_ARGUMENT, with the path of the operand); on an undeclared key a value of another type simply does not match. Missing keys match
 * only $ne, $nin, {"$exists": false} and negations. Equality with an array operand compares the whole array; with a scalar operand, an array-valued key matches if
 * $contains would (as users of MongoDB and Qdrant expect). */
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
    unsigned depth_max;  /* 32 */
    unsigned leaves_max; /* 1,024 */
};

/* `document` must live as long as the filter (operands point into it). An empty object matches all (*filter_out is then NULL).
 * 0, PDB_INVALID_ARGUMENT ("filter.price.$lt: ..."), PDB_UNIMPLEMENTED for operators of api.md that are not served yet, PDB_RESOURCE_EXHAUSTED. */
int filter_compile(struct arena *arena, struct pdb_text document, const struct filter_options *options,
                   struct trail *trail, struct filter **filter_out);

/* NULL filter: true. `metadata`: a validated document. */
bool filter_matches(const struct filter *filter, struct pdb_text metadata);

/* Keys and operators without values, for logs: "price $lt AND category $eq". */
struct pdb_text filter_shape(const struct filter *filter, struct arena *arena);

/* Checks a record's metadata against the declared columns: wrong type -> PDB_INVALID_ARGUMENT, "metadata.price: expected float, found string".
 * null and absent are fine. */
int filter_check_columns(struct pdb_text metadata, const struct filter_column *columns, size_t column_count,
                         struct trail *trail);

#endif
