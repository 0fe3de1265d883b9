/* upkeep_warm.c: after a start, segments that are to stay in memory are read and verified by the
 * worker, one piece after the other, while requests are served already. A search that comes first
 * reads and verifies what it needs by itself. Where there is more than storage.memory_limit only so
 * much is read: the rest would push out what was read before. */
#include "base/log.h"
#include "engine/catalog.h"
#include "engine/upkeep_internal.h"

#include "base/no_libc_heap.h"

enum { PIECE_BYTES = 16 << 20 };

struct warming {
    struct job job;
    struct engine_core *core;
    struct shard_part *part; /* held */
    size_t offset;           /* of the file, populated so far */
    uint64_t page;           /* verified so far */
    bool complete;           /* with this part */
    uint64_t bytes_done, bytes_total;
};

static void compute(struct job *job)
{
    struct warming *w = container_of(job, struct warming, job);
    const struct segment_file *file = w->part->file;
    if (w->offset < file->parquet.len) {
        (void)file_map_populate(&file->parquet, w->offset, PIECE_BYTES);
        w->offset += PIECE_BYTES;
        return;
    }
    w->complete = segment_verify_step(file->segment, &w->page, PIECE_BYTES);
}

static bool is_to_be_warmed(const struct shard_part *part)
{
    const struct shard *shard = part->shard;
    return part->segment != NULL && part->cold && shard->entry != NULL &&
           shard->entry->config.vector_storage == PDB_VECTORS_MEMORY;
}

/* More than this core's share of the limit is not read ahead, if all together is too much. */
static bool has_room(const struct warming *w, const struct shard_part *part)
{
    const struct engine_core *core = w->core;
    uint64_t limit = core->db->options.memory_limit;
    return memory_used(core) <= limit ||
           w->bytes_done + part->file->parquet.len <= limit / core->db->core_count;
}

static struct shard_part *next_part(const struct warming *w)
{
    struct engine_core *core = w->core;
    list_each (link, &core->shard_list) {
        struct shard *shard = container_of(link, struct shard, link);
        list_each (at, &shard->parts)
            if (is_to_be_warmed(container_of(at, struct shard_part, link)) &&
                has_room(w, container_of(at, struct shard_part, link)))
                return container_of(at, struct shard_part, link);
    }
    return NULL;
}

static void let_part_go(struct warming *w)
{
    struct shard *shard = w->part->shard;
    if (segment_damaged(w->part->segment))
        part_log_damage(w->part);
    part_let_go(w->part);
    w->part = NULL;
    shard_leave(shard);
}

static void end(struct warming *w)
{
    struct engine_core *core = w->core;
    engine_progress(core, NULL, 0, 0);
    core->warming = NULL;
    heap_free(&core->r->heap, w);
    upkeep_leave(core);
}

static void go_on(struct warming *w)
{
    struct engine_core *core = w->core;
    if (w->part == NULL && !core->closing)
        w->part = next_part(w);
    if (w->part == NULL) {
        end(w);
        return;
    }
    if (w->part->cold) {
        w->part->cold = false;
        part_hold(w->part);
        w->part->shard->users++;
        w->offset = 0;
        w->page = 0;
        w->complete = false;
    }
    engine_progress(core, "warming", w->bytes_done, w->bytes_total);
    job_start(core->r, core->id, &w->job);
}

static void came_back(struct reactor *here, struct mail *mail)
{
    struct warming *w = container_of(mail, struct warming, job.back);
    (void)here;
    if (w->complete || w->core->closing) {
        w->bytes_done += w->part->file->parquet.len;
        let_part_go(w);
    }
    go_on(w);
}

void upkeep_warm_start(struct engine_core *core)
{
    struct warming *w = heap_calloc(&core->r->heap, 1, sizeof(*w));
    list_each (link, &core->shard_list) /* their files are read first */
        upkeep_index_settings(container_of(link, struct shard, link));
    if (w == NULL) /* searches read what they need */
        return;
    list_each (link, &core->shard_list) {
        struct shard *shard = container_of(link, struct shard, link);
        list_each (at, &shard->parts) {
            struct shard_part *part = container_of(at, struct shard_part, link);
            w->bytes_total += is_to_be_warmed(part) ? part->file->parquet.len : 0;
        }
    }
    w->core = core;
    w->job.compute = compute;
    w->job.back.deliver = came_back;
    core->warming = w;
    upkeep_enter(core);
    go_on(w);
}

void upkeep_warm_drop(struct engine_core *core)
{
    struct warming *w = core->warming;
    if (w != NULL && w->part != NULL)
        part_let_go(w->part);
    heap_free(&core->r->heap, w);
    core->warming = NULL;
}
