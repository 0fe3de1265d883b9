/* The turn: what a reactor does between two waits, in bounded phases, and when it has something to
 * do.
 *
 * Reading the clock once a turn is enough for everything but budgets. Work that is queued outside a
 * turn can only come from the host's own callbacks (a socket of h2o's loop); the host is told the
 * first time, so that a turn follows before it blocks again. */
#include "reactor/reactor_internal.h"

#include "base/assert.h"

enum { REAP_MAX = 256 };

static _Thread_local struct reactor *here;

struct reactor *reactor_here(void)
{
    return here;
}

struct reactor *reactor_set_here(struct reactor *r)
{
    struct reactor *before = here;
    here = r;
    return before;
}

void reactor_note_work(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    if (p->in_turn || p->noted)
        return;
    p->noted = true;
    if (p->host != NULL && p->host->work_came != NULL && p->opened)
        p->host->work_came(r, p->host_state);
}

void reactor_mark_active(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    ++p->activity;
    if (p->waited) {
        p->waited = false;
        reactor_read_clock(r);
    }
}

static uint64_t list_length(const struct list *list)
{
    uint64_t length = 0;
    list_each (link, list)
        length++;
    return length;
}

struct reactor_depths reactor_depths(const struct reactor *r)
{
    return (struct reactor_depths){.mail = mailbox_depth(r),
                                   .tasks = list_length(&r->priv->tasks) +
                                            list_length(&r->priv->bulk_tasks)};
}

void turn_hook_queue(struct reactor *r, struct turn_hook *hook)
{
    if (list_linked(&hook->link))
        return;
    list_push_back(&r->priv->hooks, &hook->link);
    reactor_note_work(r);
}

/* Only those queued before: a hook that queues itself again waits for the next turn. */
static bool run_hooks(struct reactor *r)
{
    struct list_link *link, last;
    struct list *hooks = &r->priv->hooks;
    if (list_empty(hooks))
        return false;
    list_push_back(hooks, &last);
    while ((link = list_pop_front(hooks)) != &last) {
        struct turn_hook *hook = container_of(link, struct turn_hook, link);
        hook->run(hook);
    }
    return true;
}

bool reactor_has_work(struct reactor *r)
{
    const struct reactor_private *p = r->priv;
    return p->noted || !list_empty(&p->tasks) || !list_empty(&p->bulk_tasks) ||
           !list_empty(&p->hooks) || r->io->ops->ready(r->io) || mailbox_has_work(r);
}

int64_t reactor_wait_ns(struct reactor *r)
{
    if (reactor_has_work(r))
        return 0;
    uint64_t due = timers_earliest(r);
    if (due == UINT64_MAX)
        return -1;
    uint64_t now = r->io->ops->now_ns(r->io);
    if (due <= now)
        return 0;
    return due - now > INT64_MAX ? INT64_MAX : (int64_t)(due - now);
}

static void awake(struct reactor *r)
{
    atomic_store_explicit(&r->priv->sleeping, false, memory_order_relaxed);
}

/* Its own, and on the first core the outside ones. */
static bool simulated_workers(struct reactor *r)
{
    bool any = worker_step(reactor_worker(r->group, r->id));
    for (unsigned i = 0; r->id == 0 && i != reactor_outside_count(r->group); ++i)
        any |= worker_step(reactor_worker(r->group, r->count + i));
    return any;
}

bool reactor_turn(struct reactor *r)
{
    struct reactor_private *p = r->priv;
    struct reactor *before = reactor_set_here(r);

    ASSERT(!p->in_turn); /* callbacks queue work, they do not recurse */
    awake(r);
    p->in_turn = true;
    p->noted = false;
    p->waited = false;
    reactor_read_clock(r);
    p->slice_end_ns = r->now_ns + REACTOR_SLICE_US * UINT64_C(1000);

    bool any = r->io->ops->reap(r->io, REAP_MAX) != 0;
    any |= mailbox_take(r);
    any |= timers_run(r);
    any |= tasks_run(r);
    any |= run_hooks(r);
    p->hurry = false;
    if (reactor_group_simulated(r->group))
        any |= simulated_workers(r);
    mailbox_end_turn(r);
    (void)r->io->ops->submit(r->io);

    p->in_turn = false;
    p->activity += any;
    ++r->stats.turns;
    if (any) {
        uint64_t took_ns = r->io->ops->now_ns(r->io) - r->now_ns;
        r->stats.busy_ns += took_ns;
        histogram_record(&r->stats.turn_times, took_ns);
        if (took_ns > r->stats.longest_turn_ns)
            r->stats.longest_turn_ns = took_ns;
    }
    (void)reactor_set_here(before);
    return any;
}

void reactor_turn_idle(struct reactor *r)
{
    awake(r);
    mailbox_end_turn(r);
    (void)r->io->ops->submit(r->io);
    ++r->stats.turns;
}
