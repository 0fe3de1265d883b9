/* discard.c: parts that nobody reads any more.
 *
 * Giving back 256 MiB of a memtable takes a core some 20 ms, and unmapping a segment that was read
 * as long again, because page after page leaves the tables. So memtables go chunk by chunk, by a
 * bulk task, mostly into the core's pool for the next ones, and segments are unmapped by the
 * worker. Until they have gone they count as upkeep, which the core's end waits for. */
#include "base/assert.h"
#include "engine/ann.h"
#include "engine/part.h"
#include "engine/upkeep.h"

#include "base/no_libc_heap.h"

enum { POOL_SHARE = 32 }; /* of the memory limit: this one, for all cores together */

static struct shard_part *first_of(const struct list *parts)
{
    return container_of(parts->anchor.next, struct shard_part, link);
}

/* What is small, and the end of all. */
static void free_rest(struct engine_core *core, struct shard_part *part)
{
    struct heap *heap = &core->r->heap;
    list_remove(&part->link);
    memtable_free(part->memtable);
    segment_deletes_free(part->deletes);
    segment_file_close(heap, part->file);
    arena_dispose(&part->schema);
    heap_free(heap, part);
}

/* ---- memtables, and the pool ---- */

/* False: there is nothing left to do. */
static bool discard_step(struct engine_core *core)
{
    if (core->spares_due != 0) {
        core->spares_due--;
        memtable_pool_drop(&core->memtable_pool);
        return true;
    }
    if (list_empty(&core->discards))
        return false;
    struct shard_part *part = first_of(&core->discards);
    if (!memtable_free_step(part->memtable))
        return true;
    part->memtable = NULL;
    free_rest(core, part);
    memory_note_change(core);
    upkeep_leave(core);
    return true;
}

static void discard_run(struct task *task)
{
    struct engine_core *core = container_of(task, struct engine_core, discard_task);
    bool more = true;
    while (more && !reactor_slice_over(core->r))
        more = discard_step(core);
    if (more)
        task_queue(core->r, task);
}

static void queue_task(struct engine_core *core)
{
    core->discard_task.run = discard_run;
    core->discard_task.name = "discard";
    core->discard_task.bulk = true;
    task_queue(core->r, &core->discard_task);
}

void discard_spares(struct engine_core *core)
{
    struct memtable_pool *pool = &core->memtable_pool;
    uint64_t limit = core->db->options.memory_limit;
    bool is_short = memory_used(core) > limit / 2;
    memtable_pool_limit(pool, is_short ? 0 : limit / POOL_SHARE / core->db->core_count);
    core->spares_due = memtable_pool_age(pool);
    if (core->spares_due != 0)
        queue_task(core);
}

/* ---- segments ---- */

static void unmap(struct job *job)
{
    segment_file_unmap(container_of(job, struct shard_part, closing)->file);
}

static void unmapped(struct reactor *here, struct mail *mail)
{
    struct engine_core *core = engine_here(here);
    free_rest(core, container_of(mail, struct shard_part, closing.back));
    upkeep_leave(core);
}

/* ---- both ---- */

void discard_part(struct engine_core *core, struct shard_part *part)
{
    ASSERT(part->refs == 0 && !list_linked(&part->link));
    if (core->closing || core->recovery != NULL) {
        free_rest(core, part);
        return;
    }
    upkeep_enter(core);
    if (part->memtable != NULL) {
        list_push_back(&core->discards, &part->link);
        queue_task(core);
        return;
    }
    list_push_back(&core->unmappings, &part->link);
    part->closing = (struct job){.back.deliver = unmapped, .compute = unmap};
    job_start(core->r, core->id, &part->closing);
}

void discard_rest(struct engine_core *core)
{
    task_cancel(&core->discard_task);
    while (!list_empty(&core->discards))
        free_rest(core, first_of(&core->discards));
    while (!list_empty(&core->unmappings))
        free_rest(core, first_of(&core->unmappings));
    ann_free_rest(core);
    memtable_pool_dispose(&core->memtable_pool);
}
