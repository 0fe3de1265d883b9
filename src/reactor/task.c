/* Tasks: long work in short steps, first in, first out, in two queues.
 *
 * A turn gives tasks one slice. A step may use what is left of it, but at least STEP_MIN_US, so
 * that a task whose turn always comes late in the slice still moves; a turn's tasks thus take at
 * most slice + STEP_MIN_US. The budget that reactor_slice_over enforces lies below the limit at
 * which a step counts as a stall, because a step looks only now and then.
 *
 * Bulk tasks have a queue of their own. While others wait, a bulk step is short and must have been
 * earned: three times its length of their steps before it. So a search takes a quarter longer
 * beside any amount of ingest, and ingest never stands still. Credit ends with the competition; it
 * is not saved up. A step that took no time (a simulated clock) counts as a bulk step's length, so
 * that both queues move there, too. One queue for all was measured first: a search that is one of
 * five tasks takes five times as long.
 *
 * A call changes places through mail, also within its core, and its answer leaves at the end of a
 * turn: with a slice of bulk tasks at each of these a search of 2 ms had waited for 1 ms. So they
 * begin no step while mail of this core to itself or an answer waits, for up to PASSES_MAX turns in
 * a row. */
#include "reactor/reactor_internal.h"

#include "base/log.h"

#include <inttypes.h>

enum {
    BUDGET_US = REACTOR_SLICE_US * 8 / 10,
    STEP_MIN_US = BUDGET_US / 2,
    STALL_LOGGED_US = 20 * REACTOR_SLICE_US,
    BULK_STEP_US = BUDGET_US / 2,
    BULK_PRICE = 3,
    PASSES_MAX = 3,
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
    list_push_back(task->bulk ? &r->priv->bulk_tasks : &r->priv->tasks, &task->link);
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
    if (took_ns > r->stats.longest_step_ns)
        r->stats.longest_step_ns = took_ns;
    if (took_ns <= REACTOR_SLICE_US * UINT64_C(1000))
        return;
    ++r->stats.stalls;
    if (took_ns > STALL_LOGGED_US * UINT64_C(1000))
        LOG_WARN("reactor", "a step of task %s took %" PRIu64 " us",
                 name != NULL ? name : "without a name", took_ns / 1000);
}

void reactor_hurry(struct reactor *r)
{
    r->priv->hurry = true;
}

static bool bulk_earned(const struct reactor_private *p)
{
    return p->bulk_debt_ns <= -BULK_PRICE * BULK_STEP_US * INT64_C(1000);
}

/* Whether bulk tasks let the turn end. */
static bool bulk_passes(struct reactor_private *p)
{
    if ((list_empty(&p->self_mail) && !p->hurry) || p->bulk_passed == PASSES_MAX) {
        p->bulk_passed = 0;
        return false;
    }
    p->bulk_passed++;
    return true;
}

/* The next task; NULL: none in this turn. *competes_out: both queues want the time. */
static struct task *next_task(struct reactor_private *p, bool *competes_out)
{
    bool any = !list_empty(&p->tasks), bulk = !list_empty(&p->bulk_tasks);
    *competes_out = any && bulk;
    if (!*competes_out)
        p->bulk_debt_ns = 0;
    else
        bulk = bulk_earned(p);
    if (bulk && bulk_passes(p)) {
        if (!any)
            return NULL;
        bulk = false;
    }
    if (!any && !bulk)
        return NULL;
    return container_of(list_pop_front(bulk ? &p->bulk_tasks : &p->tasks), struct task, link);
}

static void charge(struct reactor_private *p, bool bulk, uint64_t took_ns)
{
    int64_t ns = took_ns == 0 ? BULK_STEP_US * INT64_C(1000) : (int64_t)took_ns;
    p->bulk_debt_ns += bulk ? BULK_PRICE * ns : -ns;
}

bool tasks_run(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    struct task *task;
    bool competes;
    if (list_empty(&p->tasks) && list_empty(&p->bulk_tasks))
        return false;

    uint64_t now = r->io->ops->now_ns(r->io), phase_end = now + BUDGET_US * UINT64_C(1000);
    r->io->clock_ns = now;
    for (unsigned i = 0; i != STEPS_MAX && now < phase_end; ++i) {
        if ((task = next_task(p, &competes)) == NULL)
            break;
        const char *name = task->name;
        bool bulk = task->bulk;
        uint64_t step_end = now + STEP_MIN_US * UINT64_C(1000);
        bool is_short = step_end > phase_end || (bulk && competes);
        p->slice_end_ns = is_short ? step_end : phase_end;
        task->run(task);
        uint64_t after = r->io->ops->now_ns(r->io);
        note_step(r, name, after - now);
        if (competes)
            charge(p, bulk, after - now);
        now = r->io->clock_ns = after;
    }
    return true;
}
