/* What the files of calibration share: make_calibrate.c has its phases, make_probe.c measures
 * lists. */
#ifndef INDEX_MAKE_CALIBRATE_INTERNAL_H
#define INDEX_MAKE_CALIBRATE_INTERNAL_H

#include "index/make_internal.h"
#include "index/search_internal.h"

enum {
    TRUTH = 101, /* of the largest k, and one more that tells of ties */
    JUDGE_SLOTS = 512,
    LIST_MAX = 120 << (CALIBRATION_WANTS - 1),
};

/* What one query found: how many of the k were right. */
struct measured {
    uint8_t hits[CALIBRATION_KS][CALIBRATION_STEPS][CALIBRATION_WANTS];
    uint8_t scanned[CALIBRATION_KS][CALIBRATION_WANTS];
    uint32_t distances[CALIBRATION_KS][CALIBRATION_STEPS];
};

struct make_calibration {
    uint32_t query_count;
    size_t vector_bytes, stride;
    uint32_t *rows;           /* of the queries */
    uint64_t *excluded;       /* a bit for each row: it is a query */
    char *queries;            /* their vectors */
    bool queries_read;        /* before the truth is begun */
    uint32_t next_row;        /* of the truth */
    struct pool_entry *truth; /* TRUTH nearest rows of each query */
    uint32_t *truth_counts;
    struct measured *measured;
    uint32_t *places;  /* of each row, where it lies in the lists; else NULL */
    struct index view; /* what is searched: arrays of others */
};

/* Of one query: what is right. */
struct judge {
    uint32_t truth_count;
    bool tied[CALIBRATION_KS]; /* rows behind the k-th are as near as it */
    float tie[CALIBRATION_KS]; /* and this is how codes see them */
    uint32_t rows[JUDGE_SLOTS], ranks[JUDGE_SLOTS];
};

struct make_judging {
    struct index_scratch *scratch;
    struct index_candidate candidates[LIST_MAX];
    struct pool_entry list[LIST_MAX];
    struct judge judge;
};

static inline char *query_at(const struct make_calibration *c, uint32_t i)
{
    return c->queries + i * c->stride;
}

/* For a query, what is right. */
void judge_open(const struct make_calibration *c, uint32_t query, struct judge *judge);
/* Rank of a row in the truth; UINT32_MAX: it is not there. */
uint32_t judge_rank(const struct judge *judge, uint32_t row);

/* Whether one pass over a query's lists tells of all numbers of them, and of all k: else they are
 * searched one by one. */
bool probe_fits(const struct make_calibration *c);
/* How many of the truth a query finds with each step's number of lists. */
void probe_measure(struct make_calibration *c, const struct calibration *steps, uint32_t query,
                   struct make_judging *judging);
/* And in all lists, into `scanned`. */
void probe_scan(struct make_calibration *c, uint32_t query, struct make_judging *judging);

#endif
