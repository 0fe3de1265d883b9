/* ann_load.c: an index out of its file, on a worker, a few milliseconds at a time:
 *
 *     OPEN      map the file; whose index is it, and how large
 *               (the owner: is there so much memory)
 *     COPY      into memory of our own, in large pages: a page fault in a search would hold the
 *               reactor, and a graph is walked at random
 *     CHECK     every section, every link
 *     FINISH
 *
 * The disk's errors come as codes, because each piece is brought in before it is touched. */
#include "engine/ann_file.h"

#include "base/assert.h"
#include "engine/engine_internal.h"
#include "index/image.h"
#include "os/failpoint.h"
#include "os/file_map.h"

#include <errno.h>
#include <string.h>

#include "base/no_libc_heap.h"

enum { PIECE_BYTES = 8 << 20 };

enum stage { OPEN, COPY, CHECK, FINISH, OVER };

struct ann_load {
    struct ann_load_options options;
    bool cancelled;
    /* the worker's while it computes */
    struct job job;
    enum stage stage;
    int rc;
    struct trail trail;
    struct file_map map;
    struct ann_header header;
    struct ann *ann;
    uint64_t copied;
    struct index_image_reader reader;
};

/* ---- on the worker ---- */

static int open_file(struct ann_load *l)
{
    char path[SHARD_PATH_MAX];
    const struct ann_identity *of = &l->options.of;
    shard_files_ann_path(path, l->options.folder, of->segment, of->field);
    int rc = file_map_open(l->options.core->r->io, path, FILE_MAP_WILLNEED, &l->map);
    if (rc == -ENOENT)
        return PDB_NOT_FOUND;
    if (rc < 0)
        return trail_add(&l->trail, PDB_UNAVAILABLE, "cannot be mapped: %s", strerror(-rc));
    if (file_map_populate(&l->map, 0, ANN_FILE_HEADER_BYTES) < 0)
        return trail_add(&l->trail, PDB_UNAVAILABLE, "cannot be read");
    rc = ann_header_decode(l->map.ptr, l->map.len, &l->header, &l->trail);
    if (rc == 0)
        rc = ann_header_compare(&l->header, of, &l->trail);
    l->stage = COPY;
    return rc;
}

static int copy_piece(struct ann_load *l)
{
    struct ann *ann = l->ann;
    uint64_t left = l->header.image_bytes - l->copied;
    size_t len = (size_t)(left < PIECE_BYTES ? left : PIECE_BYTES);
    size_t from = ANN_FILE_HEADER_BYTES + (size_t)l->copied;
    if (ann->image == NULL && ann_make_room(ann, (size_t)l->header.image_bytes) < 0)
        return trail_add(&l->trail, PDB_RESOURCE_EXHAUSTED, "no memory for it");
    int rc = file_map_populate(&l->map, from, len);
    if (rc < 0)
        return trail_add(&l->trail, PDB_UNAVAILABLE, "cannot be read: %s", strerror(-rc));
    memcpy((uint8_t *)ann->image + l->copied, l->map.ptr + from, len);
    file_map_forget(&l->map, from, len);
    l->copied += len;
    if (l->copied < l->header.image_bytes)
        return 0;
    file_map_close(&l->map);
    l->stage = CHECK;
    return index_image_open(&l->reader, ann->image, ann->image_bytes, &l->trail);
}

static int check_piece(struct ann_load *l)
{
    int rc = index_image_step(&l->reader, PIECE_BYTES, &l->trail);
    if (rc == 0)
        l->stage = FINISH;
    return rc < 0 ? rc : 0;
}

static int finish(struct ann_load *l)
{
    const struct ann_load_options *o = &l->options;
    struct ann *ann = l->ann;
    int rc = index_image_finish(&l->reader, &ann->heap, &ann->index);
    if (rc < 0)
        return trail_add(&l->trail, rc, "no memory for it");
    rc = ann_header_fits(&l->header, &ann->index, &l->trail);
    if (rc < 0)
        return rc;
    rc = ann_list_rows(ann, o->segment, o->of.field, o->row_count);
    if (rc < 0)
        return trail_add(&l->trail, rc, "no memory for its rows");
    ann->spec = l->header.spec;
    ann->bytes = ann->heap.bytes_used;
    l->stage = OVER;
    return 0;
}

static void compute(struct job *job)
{
    struct ann_load *l = container_of(job, struct ann_load, job);
    switch (l->stage) {
    case OPEN:
        l->rc = open_file(l);
        break;
    case COPY:
        l->rc = copy_piece(l);
        break;
    case CHECK:
        l->rc = check_piece(l);
        break;
    case FINISH:
        l->rc = finish(l);
        break;
    case OVER: /* after an error */
        break;
    }
    if (l->rc < 0) {
        file_map_close(&l->map);
        ann_clear(l->ann);
    }
}

/* ---- on the owner ---- */

static void tell(struct ann_load *l)
{
    struct heap *heap = &l->options.core->r->heap;
    if (l->rc < 0) {
        heap_free(heap, l->ann);
        l->ann = NULL;
    }
    l->options.done(l, l->rc, l->ann, &l->trail);
    heap_free(heap, l);
}

static void came_back(struct reactor *here, struct mail *mail)
{
    struct ann_load *l = container_of(mail, struct ann_load, job.back);
    FAILPOINT("index.load");
    if (l->rc < 0 || l->stage == OVER) {
        tell(l);
        return;
    }
    if (l->stage == COPY && l->copied == 0 && !l->options.admit(l, l->header.image_bytes))
        l->rc = trail_add(&l->trail, PDB_RESOURCE_EXHAUSTED, "no memory for it now");
    if (l->cancelled)
        l->rc = PDB_CANCELLED;
    if (l->rc < 0)
        l->stage = OVER; /* one more job, which lets go of it all */
    job_start(here, l->options.core->id, &l->job);
}

/* ---- the outside ---- */

int ann_load_start(const struct ann_load_options *options, struct ann_load **load_out)
{
    struct engine_core *core = options->core;
    struct ann_load *l = heap_calloc(&core->r->heap, 1, sizeof(*l));
    if (l == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    l->ann = ann_new(core);
    if (l->ann == NULL) {
        heap_free(&core->r->heap, l);
        return PDB_RESOURCE_EXHAUSTED;
    }
    l->options = *options;
    l->job = (struct job){.back.deliver = came_back, .compute = compute};
    job_start(core->r, core->id, &l->job);
    *load_out = l;
    return 0;
}

void *ann_load_arg(const struct ann_load *load)
{
    return load->options.arg;
}

void ann_load_cancel(struct ann_load *load)
{
    load->cancelled = true;
}

void ann_load_drop(struct ann_load *load)
{
    if (load == NULL)
        return;
    struct heap *heap = &load->options.core->r->heap;
    file_map_close(&load->map);
    ann_clear(load->ann);
    heap_free(heap, load->ann);
    heap_free(heap, load);
}
