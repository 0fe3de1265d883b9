/* The two workloads: upserts of consecutive rows, and searches with one query after the other. */
#ifndef BENCH_JOBS_H
#define BENCH_JOBS_H

#include "bench/client/run.h"
#include "bench/encode.h"
#include "bench/exact.h"

struct load_job {
    struct encode_target target;
    struct route route;
    /* ids 0 .. row_count - 1; operation n writes batch n modulo the number of batches */
    uint64_t row_count;
    size_t batch;
};

uint64_t load_job_batches(const struct load_job *job);
struct workload load_job_workload(struct load_job *job);

struct search_job {
    struct encode_target target; /* rows: the queries */
    struct route route;
    /* The first answer to each query, for exact_judge; NULL: not kept. Operation n asks query n
     * modulo their number, so each slot is written by one call only. */
    struct decode_hit *hits; /* queries x target.k */
    int32_t *counts;         /* queries */
};

/* Memory for the answers: 0 or PDB_RESOURCE_EXHAUSTED. */
int search_job_keep_answers(struct search_job *job);
void search_job_dispose(struct search_job *job);
struct workload search_job_workload(struct search_job *job);

#endif
