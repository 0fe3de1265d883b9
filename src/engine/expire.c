/* expire.c: gives back the space of rows that are expired, superseded or deleted, a few rows at a
 * time and never in a request's way.
 *
 * Whether a row has expired is a function of the row and the clock, read once per request: readers
 * need nobody to remove it. What removes it is the sweep of its core, `ttl.grace_s` later, so that
 * a clock that was wrong for a while has hidden rows but destroyed none. Dead rows of updates and
 * deletes are looked for after writes too, at most every 50 ms a shard. */
#include "engine/engine_internal.h"
#include "engine/recall.h"
#include "engine/upkeep.h"

#include "base/no_libc_heap.h"

enum { COLLECT_ROWS = 256, COLLECT_PAUSE_MS = 50, DEAD_ROWS_MIN = 256 };

static void collect_run(struct task *task)
{
    struct shard *shard = container_of(task, struct shard, collect_task);
    struct reactor *r = shard->core->r;
    int64_t grace_us = ((int64_t)shard->core->db->options.ttl_grace_s_plus_one - 1) * 1000000;
    int64_t expired_before_us = r->now_realtime_us - grace_us;
    bool more = true;
    while (more && !reactor_slice_over(r))
        more = memtable_collect(shard->memtable, shard_oldest_version(shard), expired_before_us,
                                COLLECT_ROWS);
    if (more) {
        task_queue(r, &shard->collect_task);
        return;
    }
    shard->collect_next_ns = r->now_ns + (uint64_t)COLLECT_PAUSE_MS * 1000000;
    memory_note_change(shard->core);
}

static void collect_queue(struct shard *shard)
{
    shard->collect_task.run = collect_run;
    shard->collect_task.name = "shard.collect";
    shard->collect_task.bulk = true;
    task_queue(shard->core->r, &shard->collect_task);
}

static bool has_many_dead(const struct shard *shard)
{
    struct memtable_stats stats;
    memtable_stats(shard->memtable, &stats);
    uint64_t dead = stats.rows_total - stats.rows_live;
    return dead >= DEAD_ROWS_MIN && dead >= stats.rows_total / 4;
}

void shard_collect_later(struct shard *shard)
{
    if (shard->core->r->now_ns >= shard->collect_next_ns && has_many_dead(shard))
        collect_queue(shard);
}

/* The list goes round, so that a step may end anywhere and shards may come and go between two. */
static void sweep_run(struct task *task)
{
    struct engine_core *core = container_of(task, struct engine_core, sweep_task);
    while (core->sweep_left > 0 && !list_empty(&core->shard_list)) {
        struct shard *shard = container_of(list_pop_front(&core->shard_list), struct shard, link);
        list_push_back(&core->shard_list, &shard->link);
        core->sweep_left--;
        if (shard->expiring || has_many_dead(shard))
            collect_queue(shard);
        upkeep_sweep(shard);
        recall_look(shard);
        if (reactor_slice_over(core->r)) {
            task_queue(core->r, task);
            return;
        }
    }
    upkeep_sweep_core(core);
    recall_sweep(core);
    discard_spares(core);
    expire_start(core);
}

static void sweep(struct timer *timer)
{
    struct engine_core *core = container_of(timer, struct engine_core, sweep_timer);
    core->sweep_left = 0;
    list_each (link, &core->shard_list)
        core->sweep_left++;
    core->sweep_task.run = sweep_run;
    core->sweep_task.name = "sweep";
    core->sweep_task.bulk = true;
    task_queue(core->r, &core->sweep_task);
}

void expire_start(struct engine_core *core)
{
    core->sweep_timer.fire = sweep;
    uint64_t pause_ns = (uint64_t)core->db->options.ttl_sweep_ms * 1000000;
    (void)timer_set(core->r, &core->sweep_timer, core->r->now_ns + pause_ns);
}
