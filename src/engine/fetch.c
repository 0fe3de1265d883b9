/* fetch.c: see the header. The target of the reads is one buffer of the core that nobody looks at,
 * shared by all: what counts is that the pages are in the cache afterwards. Reading into buffers of
 * our own instead was rejected: a second cache beside the system's, of a size that somebody would
 * have to choose, and a copy for every row that is there already. */
#include "engine/fetch.h"

#include "engine/call.h"

#include "base/no_libc_heap.h"

static void go_on(struct fetch_read *read)
{
    struct engine_core *core = read->fetch->core;
    uint64_t len = read->end - read->at;
    if (len > FETCH_READ_BYTES)
        len = FETCH_READ_BYTES;
    core->r->io->ops->read(core->r->io, &read->op, read->file, core->fetch_sink, len, read->at);
}

/* An error is not ours to tell: the touch of the page will, and the page's checksum. */
static void read_done(struct io_op *op, int64_t result)
{
    struct fetch_read *read = container_of(op, struct fetch_read, op);
    struct fetch *fetch = read->fetch;
    read->at += result > 0 ? (uint64_t)result : read->end - read->at;
    if (read->at < read->end) {
        go_on(read);
        return;
    }
    read->fetch = NULL;
    if (--fetch->pending == 0)
        task_queue(fetch->core->r, fetch->task);
}

static struct fetch_read *free_read(struct fetch *fetch)
{
    for (unsigned i = 0; i < FETCH_READS_MAX; i++)
        if (fetch->reads[i].fetch == NULL)
            return &fetch->reads[i];
    return NULL;
}

static bool is_asked_for(const struct fetch *fetch, int file, uint64_t from)
{
    for (unsigned i = 0; i < FETCH_READS_MAX; i++) {
        const struct fetch_read *read = &fetch->reads[i];
        if (read->fetch != NULL && read->file == file && read->at <= from && from < read->end)
            return true;
    }
    return false;
}

bool fetch_vectors(struct fetch *fetch, const struct segment_file *file, uint32_t field,
                   uint32_t row, uint64_t bytes, uint64_t *to_out)
{
    const struct file_map *map = &file->parquet;
    uint64_t from;
    *to_out = UINT64_MAX;
    if (map->kept == 0 || !segment_vector_range(file->segment, field, row, bytes, &from, to_out))
        return true;
    if (file_map_resident(map, from, *to_out - from))
        return true;
    struct fetch_read *read = free_read(fetch);
    if (read == NULL || is_asked_for(fetch, map->kept - 1, from))
        return false;
    if (fetch->core->fetch_sink == NULL)
        fetch->core->fetch_sink = heap_alloc(&fetch->core->r->heap, FETCH_READ_BYTES);
    if (fetch->core->fetch_sink == NULL)
        return true; /* without memory the touch waits */
    read->op.done = read_done;
    read->fetch = fetch;
    read->file = map->kept - 1;
    read->at = from;
    read->end = *to_out;
    fetch->pending++;
    go_on(read);
    return false;
}

bool fetch_row(struct fetch *fetch, const struct shard_part *part, uint32_t row)
{
    bool there = true;
    uint64_t to;
    for (uint32_t f = 0; f < part->shard->field_count; f++)
        there = fetch_vectors(fetch, part->file, f, row, 1, &to) && there;
    return there;
}

/* ---- rows by id ---- */

static enum view_found look_at(struct pdb_call *call, struct fetch_ids *ids, uint32_t i,
                               struct fetch *fetch)
{
    struct call_state *s = call_state(call);
    struct shard_get how = {.version = s->shard->version_visible,
                            .now_us = s->now_us,
                            .vectors = ids->vectors,
                            .fetch = fetch};
    struct pdb_text id = ids->id_at(call, i);
    struct pdb_row row;
    return id.len != 0 ? shard_get_row(s->shard, id, &how, &row) : VIEW_MISSING;
}

static void ids_step(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct fetch_ids *ids = s->work;
    while (ids->next < ids->count && !call_stopped(call) && !shard_gone(s->shard, call)) {
        if (!ids->asked && look_at(call, ids, ids->next, &ids->fetch) == VIEW_WAITING) {
            ids->asked = true;
            for (uint32_t i = 1; i < FETCH_READS_MAX && ids->next + i < ids->count; i++)
                (void)look_at(call, ids, ids->next + i, &ids->fetch);
            return;
        }
        ids->asked = false;
        if (++ids->next < ids->count && reactor_slice_over(s->here->r)) {
            call_again(call);
            return;
        }
    }
    s->work = ids->work;
    ids->then(call);
}

static bool has_disk(const struct shard *shard)
{
    list_each (link, &shard->parts) {
        const struct shard_part *part = container_of(link, struct shard_part, link);
        if (part->segment != NULL && part->file->parquet.kept != 0)
            return true;
    }
    return false;
}

void fetch_ids_run(struct pdb_call *call, struct fetch_ids *ids)
{
    struct call_state *s = call_state(call);
    if (!has_disk(s->shard)) {
        ids->then(call);
        return;
    }
    ids->fetch.core = s->here;
    ids->fetch.task = &s->task;
    ids->work = s->work;
    s->work = ids;
    call_run(call, ids_step);
}
