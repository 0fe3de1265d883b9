/* Exact search over blocks of vectors that lie one behind the other: the part that a memtable and a
 * segment have in common. One struct scan_query is one query on its way over all parts of a shard:
 * it holds the k best so far, so that what one part has found spares the next one work. */
#ifndef SEGMENT_SCAN_H
#define SEGMENT_SCAN_H

#include "base/topk.h"
#include "filter/filter.h"

#include <proximadb/types.h>

struct scan_field {
    uint32_t dimension;
    enum pdb_metric metric;
    uint32_t bytes; /* of one vector: pdb_vector_bytes */
    enum pdb_element_type element;
};

struct scan_query {
    /* set by the caller, then scan_query_begin */
    struct scan_field field;
    uint32_t field_index;
    /* dimension floats, of any element type (cosine: any length, normalised inside), or packed
     * bits */
    const void *vector;
    /* Of an int8 field: room for `dimension` bytes, or NULL. A query that is all integers from -128
     * to 127 is then kept there, too, and scored in integers: the same scores, sooner. */
    int8_t *room;
    const struct filter *filter;
    /* distance: lower is better (negated similarity; euclidean: squared). Ties go to the smaller
     * key; parts are scanned in order of their keys. */
    struct topk topk;
    /* min_score of the request, in the metric's own scale and direction: drop rows worse than it */
    bool has_score_limit;
    float score_limit;
    struct pdb_text exclude_id; /* a search by stored record leaves it out; len 0: none */
    /* set by scan_query_begin and by scanning */
    float norm;
    const int8_t *bytes; /* the query in `room`; NULL: it is scored as floats */
    uint64_t rows_scored, rows_seen;
    struct { /* what filtering has cost so far */
        uint64_t early_tested, early_passed;
        uint64_t late_seen, late_tested;
    } selectivity;
};
void scan_query_begin(struct scan_query *query);

/* Of single rows, wherever their vectors lie: the distances that scan_block would find. Counts no
 * rows. inverse_norms: of each row for cosine (scan_inverse_norm), else NULL. */
void scan_distances(const struct scan_query *query, const void *const *vectors,
                    const float *inverse_norms, uint32_t count, float *distances_out);
/* Whether the request's score limit lets a row of this distance be a result. */
bool scan_within_limit(const struct scan_query *query, float distance);

/* The score as docs/api/rest.md defines it, from a kept distance: similarity for cosine and dot,
 * the distance itself (root taken) for the others. */
float scan_score(enum pdb_metric metric, float distance);

/* What a block's inverse_norms hold of a stored vector: 1 / norm, 0 of a zero vector. Where dot
 * products could overflow or lose digits in float, NaN says so: it is scored the slow exact way. */
float scan_inverse_norm(const void *vector, uint32_t dimension, enum pdb_element_type element);

/* A stored vector of `count` values as floats: in place, or widened into `room`. */
const float *scan_widened(const void *vector, uint32_t count, enum pdb_element_type element,
                          float *room);
/* Index of the first of a stored vector's values that is NaN or infinite, or `count`. */
size_t scan_first_nonfinite(const void *vector, uint32_t count, enum pdb_element_type element);

/* Rows of one batch whose vectors lie one behind the other. */
struct scan_block {
    const char *vectors;        /* count x field bytes */
    const float *inverse_norms; /* cosine: of each; else NULL */
    uint32_t count;             /* at most SCAN_BATCH_ROWS */
    uint64_t key;               /* of the first; the others follow, unless `keys` is set */
    const uint64_t *keys;
    const void *owner; /* for the two functions */
    /* Visible to this reader, has a vector, is not excluded. */
    bool (*wanted)(const struct scan_block *block, const struct scan_query *query, uint32_t i);
    struct pdb_text (*metadata)(const struct scan_block *block, uint32_t i);
};
enum { SCAN_BATCH_ROWS = 128 };

/* Most rows of a block of this field: whole batches keep the answer independent of budgets. */
uint32_t scan_batch_rows(const struct scan_field *field);
/* One block: late (score all, look at those that beat the bound) or early (filter first), as the
 * measured selectivity says. */
void scan_block(struct scan_query *query, const struct scan_block *block);

#endif
