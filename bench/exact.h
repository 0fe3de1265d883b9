/* The truth: nearest neighbours by comparing everything, computed here and not by the server. */
#ifndef BENCH_EXACT_H
#define BENCH_EXACT_H

#include "base/trail.h"
#include "bench/client/dataset.h"
#include "bench/client/decode.h"

#include <proximadb/types.h>
#include <stdbool.h>

struct exact {
    const struct dataset *rows, *queries; /* of exact_compute; must outlive this */
    enum pdb_metric metric;
    size_t k; /* min(k, rows) */
    /* per query: the distance of its k-th best row; lower is better, similarities are negated */
    float *bound;
};

/* Told by the calling thread a few times a second. */
typedef void exact_progress_fn(void *arg, uint64_t done, uint64_t total);

/* Metrics: cosine, dot, euclidean, manhattan. 0, PDB_INVALID_ARGUMENT or PDB_RESOURCE_EXHAUSTED. */
int exact_compute(struct exact *exact_out, const struct dataset *rows,
                  const struct dataset *queries, enum pdb_metric metric, size_t k, unsigned threads,
                  exact_progress_fn *progress, void *progress_arg, struct trail *trail);
void exact_dispose(struct exact *exact);

/* Answers to judge: of query q, `counts[q]` hits at hits[q * capacity]; counts[q] is ANSWER_NONE
 * without an answer. */
enum { EXACT_ANSWER_NONE = -1 };
struct exact_answers {
    const struct decode_hit *hits;
    const int32_t *counts;
    size_t capacity;
};

struct exact_verdict {
    uint64_t queries;      /* that were answered */
    uint64_t wanted, good; /* rows that should be and that were among the k nearest */
    uint64_t wrong_scores; /* scores that are not the row's */
    uint64_t wrong_order;  /* hits better than the one before */
    double recall;         /* good / wanted; 1 when nothing was wanted */
};

/* A returned row counts as right when it is a row of the data set, was not returned twice for this
 * query, and its exact distance is not above the exact k-th one plus EXACT_TOLERANCE of the scale
 * of the metric's numbers: so that among rows at the same distance any choice is right. The scale
 * is the k-th distance itself (euclidean: squared; manhattan), 1
 * (cosine) or |query| * |row| (dot): what float32 sums of some thousand terms are exact to. */
#define EXACT_TOLERANCE 1e-5
void exact_judge(const struct exact *exact, const struct exact_answers *answers,
                 struct exact_verdict *verdict_out);

#endif
