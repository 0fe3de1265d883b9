/* What the commands share: endpoint, data, routes, report. */
#ifndef BENCH_SESSION_H
#define BENCH_SESSION_H

#include "bench/jobs.h"
#include "bench/options.h"
#include "bench/report.h"

struct session {
    struct options options; /* a copy: the demo changes protocol and address */
    struct endpoint endpoint;
    bool endpoint_open;
    struct arena arena;
    struct dataset rows, queries;
    struct encode_text row_text, query_text;
    uint64_t row_count; /* ids written; rows.row_count or more, then rows repeat */
    struct exact exact;
    struct trail trail;
};

/* Exit status of each command: 0 good, 1 errors or too little recall, 2 could not run. */
int command_run(const struct options *options); /* load, search, mixed */
int command_demo(const struct options *options);

void session_init(struct session *session, const struct options *options);
void session_dispose(struct session *session);
/* Connects the options' address (again, after they changed). 0 or an error in session->trail. */
int session_endpoint(struct session *session);
/* The jobs for the options' protocol and format; text is made where REST needs it. 0 or an
 * error. */
int session_load_job(struct session *session, struct load_job *job_out);
int session_search_job(struct session *session, struct search_job *job_out);
struct run_group session_group(const struct session *session, const char *name,
                               struct workload workload);

#endif
