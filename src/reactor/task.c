/* Tasks: long work in short steps, first in, first out.
 *
 * A turn gives tasks one slice. A step may use what is left of it, but at least STEP_MIN_US, so
 * that a task whose turn always comes late in the slice still moves; a turn's tasks thus take at
 * most slice + STEP_MIN_US. The budget that reactor_slice_over enforces lies below the limit at
 * which a step counts as a stall, because a step looks only now and then. */
#include "reactor/reactor_internal.h"

#include "base/log.h"

#include <inttypes.h>

enum {
    BUDGET_US = REACTOR_SLICE_US * 8 / 10,
    STEP_MIN_US = BUDGET_US / 2,
    STALL_LOGGED_US = 20 * REACTOR_SLICE_US,
#ifdef PDB_STRESS
    STEPS_MAX = 1,
#else
    STEPS_MAX = 1024, /* where time does not move, as in simulation */
#endif
};

void task_queue(struct reactor *r, struct task *task)
{
    if (list_linked(&task->link))
        return;
    list_push_back(&r->priv->tasks, &task->link);
    reactor_note_work(r);
}

void task_cancel(struct task *task)
{
    list_remove(&task->link);
}

bool reactor_slice_over(const struct reactor *r)
{
    return r->io->ops->now_ns(r->io) >= r->priv->slice_end_ns;
}

static void note_step(struct reactor *r, const char *name, uint64_t took_ns)
{
    ++r->stats.tasks_run;
    if (took_ns <= REACTOR_SLICE_US * UINT64_C(1000))
        return;
    ++r->stats.stalls;
    if (took_ns > STALL_LOGGED_US * UINT64_C(1000))
        LOG_WARN("reactor", "a step of task %s took %" PRIu64 " us",
                 name != NULL ? name : "without a name", took_ns / 1000);
}

bool tasks_run(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    struct list_link *link;
    if (list_empty(&p->tasks))
        return false;

    uint64_t now = r->io->ops->now_ns(r->io), phase_end = now + BUDGET_US * UINT64_C(1000);
    for (unsigned i = 0; i != STEPS_MAX && now < phase_end; ++i) {
        if ((link = list_pop_front(&p->tasks)) == NULL)
            break;
        struct task *task = container_of(link, struct task, link);
        const char *name = task->name;
        uint64_t step_end = now + STEP_MIN_US * UINT64_C(1000);
        p->slice_end_ns = step_end > phase_end ? step_end : phase_end;
        task->run(task);
        uint64_t after = r->io->ops->now_ns(r->io);
        note_step(r, name, after - now);
        now = after;
    }
    return true;
}
