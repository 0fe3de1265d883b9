/* metadata_internal.h: what the files that parse metadata share.
 *
 *   metadata_read.c    FileMetaData: row groups, chunks, keys
 *   metadata_schema.c  the schema tree, its levels and logical types
 *   metadata_bounds.c  statistics: which of them can be trusted
 *   metadata_pages.c   page headers, page index, head of a bloom filter */
#ifndef PQFILE_METADATA_INTERNAL_H
#define PQFILE_METADATA_INTERNAL_H

#include "metadata.h"
#include "thrift.h"

/* Reads the list of SchemaElements, field 2 of FileMetaData, into nodes and columns. */
int pq_schema_read(struct pq_thrift_reader *r, uint8_t type,
                   const struct pq_metadata_limits *limits, struct pq_arena *arena,
                   struct pqfile_metadata *metadata, struct pqfile_error *error);

/* A struct Statistics as it stands in the file; bytes point into the input. */
struct pq_raw_statistics {
    struct pqfile_bytes min; /* data NULL: absent */
    struct pqfile_bytes max;
    struct pqfile_bytes old_min;
    struct pqfile_bytes old_max;
    bool min_inexact;
    bool max_inexact;
    bool has_null_count;
    bool has_distinct_count;
    int64_t null_count;
    int64_t distinct_count;
};

void pq_statistics_parse(struct pq_thrift_reader *r, struct pq_raw_statistics *raw_out);

/* Copies what can be trusted of it. `is_ordered`: the footer says that the new fields are in the
 * order of the column's type. 0 or the arena's code. */
int pq_statistics_take(const struct pq_raw_statistics *raw, const struct pqfile_node *leaf,
                       bool is_ordered, struct pq_arena *arena,
                       struct pqfile_statistics *statistics_out);

/* Whether bytes can be a smallest or largest value of the column: their length fits and they are no
 * NaN; and whether the column has an order at all. */
bool pq_bound_is_valid(const struct pqfile_node *leaf, struct pqfile_bytes bound);

/* Gives a valid bound that is a zero the sign that includes the other one. */
void pq_bound_widen_zero(const struct pqfile_node *leaf, uint8_t *bound, size_t len, bool is_min);

#endif
