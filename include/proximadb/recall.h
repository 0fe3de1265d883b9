/* Recall: how many of the true k nearest records searches find, as measured on this collection. */
#ifndef PROXIMADB_RECALL_H
#define PROXIMADB_RECALL_H

#include <proximadb/record.h>

/* Runs queries twice, by the index and exactly, and compares. Queries are recent searches of the
 * collection where there were any (at most 256 are kept), else vectors of its own records, each
 * without itself. Takes about as long as that many exact searches; gives way to other work. */
struct pdb_recall {
    struct pdb_call call;
    struct pdb_text collection;
    struct pdb_text field; /* "" is the default field */
    uint32_t k;            /* 1 to 1000; 0: 10 */
    uint32_t queries;      /* 1 to 1000; 0: 64 */
    float target_recall;   /* 0: the collection's */
    /* results */
    uint32_t queries_out; /* that were run: fewer where there are not so many */
    bool recent_out;      /* they were searches of users, not records */
    double mean_out, min_out, p05_out, p50_out; /* of the recall of single queries */
    uint32_t histogram_out[11];                 /* queries with recall in [0, .1), ..., 1 */
    double exact_us_out, index_us_out;          /* mean time of a query, each way */
    double rows_scored_out;                     /* by the index, mean of a query */
};
PDB_API void pdb_recall_start(struct pdb_recall *r);

#endif
