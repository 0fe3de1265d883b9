/* ann_save.c: an index into its file. The worker sums every section first; then the loop writes
 * header, table and sections from where they lie in memory, a piece at a time and not faster than
 * merges may write, and names the file once it is durable: what is read at the next start is whole,
 * or not there.
 *
 *     SUM       the worker
 *     OPEN      the temporary name
 *     WRITE     pieces
 *     COMMIT    sync, rename, sync of the folder
 *     UNDO      remove the file, under whichever name it has
 */
#include "engine/ann_file.h"

#include "base/assert.h"
#include "engine/engine_internal.h"
#include "index/image.h"
#include "os/failpoint.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum { PIECE_BYTES = 1 << 20, SYNC_EVERY_BYTES = 16 << 20, HEADER_PART = -2, HEAD_PART = -1 };

struct ann_save {
    struct ann_save_options options;
    bool cancelled, begun, undoing;
    int rc;
    struct trail trail;
    struct job job;
    struct timer timer;
    struct file_write write;
    int64_t part; /* HEADER_PART, HEAD_PART, then those of the plan */
    uint64_t at;  /* in it */
    uint8_t header[ANN_FILE_HEADER_BYTES];
    uint8_t zeros[INDEX_IMAGE_ALIGNMENT];
    struct index_image_plan plan;
};

static void go_on(struct ann_save *s);

/* ---- on the worker ---- */

static void sum(struct job *job)
{
    struct ann_save *s = container_of(job, struct ann_save, job);
    struct ann_header header = {.of = s->options.of, .spec = s->options.ann->spec};
    index_image_plan(&s->options.ann->index, &s->plan);
    header.image_bytes = s->plan.image_bytes;
    ann_header_encode(&header, s->header);
}

/* ---- ending ---- */

static void tell(struct ann_save *s)
{
    struct heap *heap = &s->options.core->r->heap;
    s->options.done(s, s->rc, &s->trail);
    heap_free(heap, s);
}

static void undone(struct file_write *w, int rc)
{
    (void)rc;
    tell(w->arg);
}

static void end(struct ann_save *s)
{
    if (s->cancelled && s->rc == 0)
        s->rc = trail_add(&s->trail, PDB_CANCELLED, "the writing of an index was cancelled");
    if (s->rc == 0 || !s->begun) {
        tell(s);
        return;
    }
    s->undoing = true;
    file_write_abandon(&s->write, undone);
}

/* ---- writing ---- */

static void stepped(struct file_write *w, int rc)
{
    struct ann_save *s = w->arg;
    if (rc < 0)
        s->rc = trail_add(&s->trail, engine_errno_code(rc), "%s: cannot be written: %s", w->path,
                          strerror(-rc));
    go_on(s);
}

static void committed(struct file_write *w, int rc)
{
    struct ann_save *s = w->arg;
    if (rc < 0)
        s->rc = trail_add(&s->trail, engine_errno_code(rc), "%s: cannot be written: %s", w->path,
                          strerror(-rc));
    end(s);
}

/* The bytes that come next, at most PIECE_BYTES; 0: all are written. */
static size_t next_piece(struct ann_save *s, const void **bytes_out)
{
    const struct index_image_plan *plan = &s->plan;
    while (s->part < (int64_t)plan->part_count) {
        struct index_image_part part = {s->header, sizeof(s->header), sizeof(s->header)};
        if (s->part == HEAD_PART)
            part = (struct index_image_part){plan->head, plan->head_bytes, plan->head_bytes};
        else if (s->part >= 0)
            part = plan->parts[s->part];
        bool zeros = s->at >= part.length;
        uint64_t end = zeros ? part.padded : part.length, left = end - s->at;
        if (s->at >= part.padded) {
            s->part++;
            s->at = 0;
            continue;
        }
        uint64_t most = zeros ? sizeof(s->zeros) : PIECE_BYTES;
        size_t len = (size_t)(left < most ? left : most);
        *bytes_out = zeros ? s->zeros : (const uint8_t *)part.bytes + s->at;
        s->at += len;
        return len;
    }
    return 0;
}

static void put(struct ann_save *s)
{
    const void *bytes = NULL;
    size_t len = next_piece(s, &bytes);
    if (len != 0)
        file_write_append(&s->write, bytes, len, stepped);
    else
        file_write_commit(&s->write, FILE_WRITE_SYNC | FILE_WRITE_SYNC_DIR, committed);
}

static void due(struct timer *timer)
{
    put(container_of(timer, struct ann_save, timer));
}

static void go_on(struct ann_save *s)
{
    struct engine_core *core = s->options.core;
    if (s->rc < 0 || s->cancelled) {
        end(s);
        return;
    }
    uint64_t wait_ns = segment_rate_take(&core->compaction_rate, core->r->now_ns, PIECE_BYTES);
    if (wait_ns == 0 || timer_set(core->r, &s->timer, core->r->now_ns + wait_ns) < 0)
        put(s);
}

static void summed(struct reactor *here, struct mail *mail)
{
    static const struct file_write_points points = {.opened = "index.opened",
                                                    .written = "index.written",
                                                    .synced = "index.synced",
                                                    .renamed = "index.renamed",
                                                    .durable = "index.durable",
                                                    .failing = "index.step"};
    struct ann_save *s = container_of(mail, struct ann_save, job.back);
    char name[SHARD_NAME_MAX];
    if (s->cancelled) {
        end(s);
        return;
    }
    shard_files_ann_name(name, s->options.of.segment, s->options.of.field);
    s->begun = true;
    file_write_begin(&s->write, here->io, s->options.folder, name, &points, stepped);
    s->write.arg = s;
    s->write.sync_every = SYNC_EVERY_BYTES;
}

/* ---- the outside ---- */

int ann_save_start(const struct ann_save_options *options, struct ann_save **save_out)
{
    struct ann_save *s = heap_calloc(&options->core->r->heap, 1, sizeof(*s));
    if (s == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    s->options = *options;
    s->part = HEADER_PART;
    s->timer.fire = due;
    s->job = (struct job){.back.deliver = summed, .compute = sum};
    job_start(options->core->r, options->core->id, &s->job);
    *save_out = s;
    return 0;
}

void *ann_save_arg(const struct ann_save *save)
{
    return save->options.arg;
}

void ann_save_cancel(struct ann_save *save)
{
    save->cancelled = true;
    if (save->timer.slot != 0) {
        timer_cancel(save->options.core->r, &save->timer);
        end(save);
    }
}

void ann_save_drop(struct ann_save *save)
{
    if (save == NULL)
        return;
    timer_cancel(save->options.core->r, &save->timer);
    heap_free(&save->options.core->r->heap, save);
}
