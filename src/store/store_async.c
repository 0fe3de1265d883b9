/* store_async.c: a call to a store as a job.
 *
 * The worker sees only the operation's own memory and the store, which locks what threads share. A
 * worker that waits for a network computes nothing meanwhile, so owners spread long transfers over
 * workers, or keep one worker for them. */
#include "store/store_async.h"

#include "base/assert.h"
#include "base/container_of.h"

#include "base/no_libc_heap.h"

static void compute(struct job *job)
{
    struct store_async *op = container_of(job, struct store_async, job);
    const struct store_call call = {
        .cancel = &op->cancel, .deadline_ns = op->deadline_ns, .trail = &op->trail};
    switch (op->kind) {
    case STORE_ASYNC_PUT:
        op->result = store_put(op->store, &call, &op->put, &op->info);
        break;
    case STORE_ASYNC_GET:
        op->result = store_get(op->store, &call, &op->get, &op->len, &op->info);
        break;
    case STORE_ASYNC_HEAD:
        op->result = store_head(op->store, &call, op->key, &op->info);
        break;
    case STORE_ASYNC_DELETE:
        op->result = store_delete(op->store, &call, op->key);
        break;
    case STORE_ASYNC_LIST:
        op->result = store_list_all(op->store, &call, op->list.prefix, op->list.count_max,
                                    op->list.arena, &op->objects, &op->object_count);
        break;
    }
}

static void deliver(struct reactor *here, struct mail *mail)
{
    struct job *job = container_of(mail, struct job, back);
    struct store_async *op = container_of(job, struct store_async, job);
    ASSERT(here->id == job->owner);
    op->done(op);
}

void store_async_start(struct reactor *r, unsigned worker, struct store_async *op)
{
    ASSERT(op->store != NULL && op->done != NULL);
    trail_reset(&op->trail);
    op->result = 0;
    op->info = (struct store_info){0};
    op->len = 0;
    op->objects = NULL;
    op->object_count = 0;
    atomic_store_explicit(&op->cancel.asked, false, memory_order_relaxed);
    op->job.compute = compute;
    op->job.back.deliver = deliver;
    job_start(r, worker, &op->job);
}

void store_async_cancel(struct store_async *op)
{
    store_cancel(&op->cancel);
}
