/* jobs.c: what a call of each workload asks, and whether the answer is a plausible one: a reply
 * that cannot be read, or that acknowledges another number of rows than were sent, is an INTERNAL
 * error of the server's. */
#include "bench/jobs.h"

#include "base/heap.h"

#include <inttypes.h>
#include <stdio.h>

static struct pdb_text reply_of(const struct call *call)
{
    return (struct pdb_text){call->reply.ptr, call->reply.len};
}

static uint64_t unreadable(struct call *call)
{
    call->code = CODE_INTERNAL;
    (void)snprintf(call->message, sizeof(call->message), "the reply cannot be read");
    return 0;
}

/* ---- load ---- */

uint64_t load_job_batches(const struct load_job *job)
{
    return (job->row_count + job->batch - 1) / job->batch;
}

static size_t batch_of(const struct load_job *job, uint64_t op, uint64_t *first_out)
{
    uint64_t first = op % load_job_batches(job) * job->batch;
    uint64_t left = job->row_count - first;
    *first_out = first;
    return left < job->batch ? (size_t)left : job->batch;
}

static int load_prepare(void *state, struct call *call)
{
    const struct load_job *job = state;
    uint64_t first = 0;
    size_t count = batch_of(job, call->op, &first);
    call->route = &job->route;
    return encode_upsert(&call->body, &job->target, first, count);
}

static uint64_t load_check(void *state, struct call *call)
{
    const struct load_job *job = state;
    uint64_t first = 0;
    size_t count = batch_of(job, call->op, &first);
    uint64_t written = 0;
    if (decode_write(job->target.grpc, reply_of(call), &call->arena, &written) < 0)
        return unreadable(call);
    if (written != count) {
        call->code = CODE_INTERNAL;
        (void)snprintf(call->message, sizeof(call->message), "%" PRIu64 " of %zu rows acknowledged",
                       written, count);
    }
    return written;
}

struct workload load_job_workload(struct load_job *job)
{
    return (struct workload){load_prepare, load_check, job};
}

/* ---- search ---- */

int search_job_keep_answers(struct search_job *job)
{
    size_t queries = job->target.rows->row_count;
    job->hits = heap_calloc(NULL, queries * job->target.k, sizeof(*job->hits));
    job->counts = heap_calloc(NULL, queries, sizeof(*job->counts));
    if (job->hits == NULL || job->counts == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    for (size_t i = 0; i < queries; i++)
        job->counts[i] = EXACT_ANSWER_NONE;
    return 0;
}

void search_job_dispose(struct search_job *job)
{
    if (job == NULL)
        return;
    heap_free(NULL, job->hits);
    heap_free(NULL, job->counts);
    job->hits = NULL;
    job->counts = NULL;
}

static int search_prepare(void *state, struct call *call)
{
    const struct search_job *job = state;
    call->route = &job->route;
    return encode_search(&call->body, &job->target,
                         (size_t)(call->op % job->target.rows->row_count));
}

static uint64_t search_check(void *state, struct call *call)
{
    const struct search_job *job = state;
    size_t queries = job->target.rows->row_count;
    size_t k = job->target.k;
    bool keep = job->hits != NULL && call->op < queries;
    struct decode_hit *hits = keep ? job->hits + call->op * k : NULL;
    size_t count = 0;
    if (decode_search(job->target.grpc, reply_of(call), &call->arena, hits, keep ? k : 0, &count) <
        0)
        return unreadable(call);
    if (count > k) {
        call->code = CODE_INTERNAL;
        (void)snprintf(call->message, sizeof(call->message), "%zu hits for k = %zu", count, k);
        return 0;
    }
    if (keep)
        job->counts[call->op] = (int32_t)count;
    return 1;
}

struct workload search_job_workload(struct search_job *job)
{
    return (struct workload){search_prepare, search_check, job};
}
