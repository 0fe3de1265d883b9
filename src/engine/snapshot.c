/* snapshot.c: what core 0 knows of snapshots, and does about them one operation after the other.
 *
 *     snapshots/<name>/SNAPSHOT                       the list: names, lengths, checksums
 *     snapshots/<name>/<uuid>/MANIFEST-0000000001     of exactly the version that the list tells
 *     snapshots/<name>/<uuid>/<n>.parquet, <n>.index  links to immutable files
 *     snapshots/.<name>.<random>.tmp                  being made: appears by its rename, last
 *     snapshots/.<name>.<random>.gone                 deleted: its files are going
 *     snapshots/.restore-<uuid>                       collections/<uuid> is being restored
 *
 * The lists are read at start and kept; a folder changes only by being renamed in or out. A start
 * removes what has a hidden name: none of it was ever told of, or it was told as gone. The folder
 * of a collection that was being restored goes with its mark, unless the catalog knows it: then the
 * restore was through, or the collection was dropped since.
 *
 * A list that does not validate is damage: that snapshot is shown by nothing and restored by
 * nothing, but its name is taken until it is deleted. It never refuses the start. */
#include "engine/snapshot_internal.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/validate.h"
#include "os/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/no_libc_heap.h"

/* ---- names ---- */

void snapshot_root(char path_out[SNAPSHOT_FOLDER_MAX], const struct pdb *db)
{
    (void)snprintf(path_out, SNAPSHOT_FOLDER_MAX, "%.900s/snapshots", db->options.data_dir);
}

void snapshot_folder(char path_out[SNAPSHOT_FOLDER_MAX], const struct pdb *db, struct pdb_text name)
{
    (void)snprintf(path_out, SNAPSHOT_FOLDER_MAX, "%.900s/snapshots/%.*s", db->options.data_dir,
                   (int)name.len, name.ptr);
}

void snapshot_hidden_folder(char path_out[SNAPSHOT_FOLDER_MAX], const struct engine_core *core,
                            struct pdb_text name, const char *suffix)
{
    uint64_t random;
    core->r->io->ops->random(core->r->io, &random, sizeof(random));
    (void)snprintf(path_out, SNAPSHOT_FOLDER_MAX, "%.900s/snapshots/.%.*s.%016llx.%s",
                   core->db->options.data_dir, (int)name.len, name.ptr, (unsigned long long)random,
                   suffix);
}

void snapshot_part_folder(char path_out[SNAPSHOT_PATH_MAX], const char *folder,
                          const struct uuid *collection)
{
    char text[UUID_TEXT_LEN + 1];
    uuid_format(collection, text);
    (void)snprintf(path_out, SNAPSHOT_PATH_MAX, "%.1150s/%s", folder, text);
}

struct pdb_text snapshot_time_name(struct arena *arena, int64_t time_us)
{
    time_t seconds = (time_t)(time_us / 1000000);
    struct tm tm;
    char text[32] = "";
    if (gmtime_r(&seconds, &tm) != NULL)
        (void)strftime(text, sizeof(text), "%Y%m%dT%H%M%S", &tm);
    return arena_format(arena, "%s.%06dZ", text, (int)(time_us % 1000000));
}

/* ---- the list ---- */

static struct snapshot_image *image_at(struct list_link *link)
{
    return container_of(link, struct snapshot_image, link);
}

struct snapshot_image *snapshot_find(const struct snapshots *all, struct pdb_text name)
{
    list_each (link, &all->images)
        if (text_equal(image_at(link)->name, name))
            return image_at(link);
    return NULL;
}

bool snapshot_name_taken(const struct snapshots *all, struct pdb_text name)
{
    list_each (link, &all->uploads)
        if (text_equal(snapshot_upload_name(link), name))
            return true;
    return snapshot_find(all, name) != NULL;
}

void snapshot_insert(struct snapshots *all, struct snapshot_image *image)
{
    struct list_link *at = all->images.anchor.next;
    while (at != &all->images.anchor && text_compare(image_at(at)->name, image->name) < 0)
        at = at->next;
    list_insert_before(at, &image->link);
    snapshot_count(all, image, true);
}

void snapshot_count(struct snapshots *all, const struct snapshot_image *image, bool there)
{
    struct metrics *m = all->core->metrics;
    unsigned kind = image->scheduled ? METRICS_SNAPSHOT_SCHEDULED : METRICS_SNAPSHOT_ASKED;
    uint64_t one = there ? 1 : UINT64_MAX, created_ns = (uint64_t)image->created_at_us * 1000;
    if (image->damaged) {
        metrics_add(m, METRICS_SNAPSHOTS_DAMAGED_AT, one);
        return;
    }
    metrics_add(m, METRICS_SNAPSHOTS_AT + kind, one);
    metrics_add(m, METRICS_SNAPSHOT_BYTES_AT + kind, there ? image->bytes : 0 - image->bytes);
    if (there && image->created_at_us > 0 &&
        created_ns > m->values[METRICS_SNAPSHOT_LAST_AT + kind])
        metrics_set(m, METRICS_SNAPSHOT_LAST_AT + kind, created_ns);
}

int snapshot_usable(struct pdb_call *call, struct pdb_text name, struct snapshot_image **image_out)
{
    struct snapshot_image *image =
        snapshot_find(call_state(call)->here->db->cores[0].snapshots, name);
    if (image == NULL)
        return call_fail(call, PDB_NOT_FOUND, "snapshot '%.*s' does not exist", CALL_TEXT(name));
    if (image->damaged)
        return call_fail(call, PDB_DATA_LOSS, "snapshot '%.*s' is damaged: %s", CALL_TEXT(name),
                         image->why);
    *image_out = image;
    return 0;
}

/* ---- letting go ---- */

enum { STEP_PARTS = 16 };

/* An image of many collections is thousands of blocks of the heap. */
static void bury(struct task *task)
{
    struct snapshots *all = container_of(task, struct snapshots, bury);
    while (!list_empty(&all->dead)) {
        struct snapshot_image *image = image_at(all->dead.anchor.next);
        for (unsigned i = 0; i < STEP_PARTS && image->part_count != 0; i++)
            catalog_entry_free(image->parts[--image->part_count].entry);
        if (image->part_count == 0) {
            list_remove(&image->link);
            snapshot_image_free(image);
        }
        if (reactor_slice_over(all->core->r)) {
            task_queue(all->core->r, task);
            return;
        }
    }
}

void snapshot_let_go(struct snapshots *all, struct snapshot_image *image)
{
    if (image == NULL || --image->refs != 0)
        return;
    ASSERT(!list_linked(&image->link));
    list_push_back(&all->dead, &image->link);
    all->bury.run = bury;
    all->bury.name = "snapshot.bury";
    task_queue(all->core->r, &all->bury);
}

/* ---- what is told of one ---- */

int snapshot_fill_begin(struct snapshot_filling *f, struct pdb_call *call,
                        struct snapshot_image *image)
{
    struct pdb_snapshot_part *parts =
        arena_array(call->arena, struct pdb_snapshot_part, image->part_count);
    struct pdb_text name = arena_copy_text(call->arena, image->name.ptr, image->name.len);
    if (parts == NULL || name.ptr == NULL)
        return call_no_memory(call);
    *f = (struct snapshot_filling){
        .all = call_state(call)->here->snapshots,
        .call = call,
        .image = image,
        .parts = parts,
        .info = {.name = name,
                 .created_at_us = image->created_at_us,
                 .scheduled = image->scheduled,
                 .parts = parts},
    };
    image->refs++;
    return 0;
}

static int fill_part(struct snapshot_filling *f)
{
    const struct snapshot_part *part = &f->image->parts[f->info.part_count];
    struct pdb_snapshot_part *out = &f->parts[f->info.part_count++];
    struct pdb_text name = part->entry->config.name;
    *out = (struct pdb_snapshot_part){
        .collection = arena_copy_text(f->call->arena, name.ptr, name.len),
        .version = part->version,
        .rows = part->rows,
        .bytes = snapshot_part_bytes(part),
    };
    uuid_format(&part->entry->uuid, out->uuid);
    f->info.bytes += out->bytes;
    return out->collection.ptr != NULL ? 0 : call_no_memory(f->call);
}

bool snapshot_fill_more(struct snapshot_filling *f)
{
    int rc = 0;
    while (rc == 0 && f->info.part_count < f->image->part_count) {
        rc = fill_part(f);
        if (rc == 0 && f->info.part_count % STEP_PARTS == 0 && reactor_slice_over(f->all->core->r))
            return false;
    }
    snapshot_let_go(f->all, f->image);
    f->image = NULL;
    return true;
}

int snapshot_fail_errno(struct pdb_call *call, int64_t result, const char *what)
{
    int rc = engine_errno_code(result);
    if (rc == PDB_RESOURCE_EXHAUSTED && result != -ENOMEM && call->error.code == 0)
        call->error.http_status = 507;
    return call_fail(call, rc, "snapshot: %s: %s", what, strerror((int)-result));
}

/* ---- one operation after the other ---- */

static void run_next(struct snapshots *all)
{
    struct list_link *link = all->running == NULL ? list_pop_front(&all->queue) : NULL;
    if (link == NULL)
        return;
    all->running = container_of(link, struct snapshot_op, link);
    all->running->begun_ns = all->core->r->now_ns;
    all->running->run(all->running);
}

void snapshot_op_queue(struct engine_core *core, struct snapshot_op *op)
{
    op->all = core->snapshots;
    list_push_back(&op->all->queue, &op->link);
    run_next(op->all);
}

static unsigned outcome(int code)
{
    switch (code) {
    case 0:
        return METRICS_RESULT_OK;
    case PDB_RESOURCE_EXHAUSTED:
        return METRICS_RESULT_EXHAUSTED;
    case PDB_CANCELLED:
    case PDB_DEADLINE_EXCEEDED:
        return METRICS_RESULT_CANCELLED;
    case PDB_UNAVAILABLE:
    case PDB_DATA_LOSS:
        return METRICS_RESULT_FAILED;
    default:
        return METRICS_RESULT_REFUSED;
    }
}

static void count_end(const struct snapshot_op *op)
{
    const struct engine_core *core = op->all->core;
    if (op->results != 0)
        metrics_add(core->metrics, op->results + outcome(op->call->error.code), 1);
    if (op->duration != 0 && op->call->error.code == 0)
        metrics_time(core->metrics, op->duration - 1, core->r->now_ns - op->begun_ns);
}

void snapshot_op_over(struct snapshot_op *op)
{
    struct snapshots *all = op->all;
    struct pdb_call *call = op->call;
    ASSERT(all->running == op && call_state(call)->here == all->core);
    count_end(op);
    all->running = NULL;
    op->dispose(op);
    call_return(call);
    run_next(all);
}

/* ---- list and get ---- */

struct listing { /* in the call's arena */
    struct snapshot_filling filling;
    struct pdb_text after; /* the last one told */
    struct pdb_snapshot_info *infos;
    uint32_t count, capacity;
};

/* The list may have changed since the last step: it goes on behind what it has told. */
static struct snapshot_image *next_listed(const struct snapshots *all, struct pdb_text after)
{
    list_each (link, &all->images)
        if (!image_at(link)->damaged &&
            (after.len == 0 || text_compare(image_at(link)->name, after) > 0))
            return image_at(link);
    return NULL;
}

static int make_room(struct pdb_call *call, struct listing *at)
{
    if (at->count < at->capacity)
        return 0;
    uint32_t capacity = at->capacity != 0 ? 2 * at->capacity : 16;
    at->infos = arena_grow(call->arena, at->infos, at->capacity * sizeof(*at->infos),
                           capacity * sizeof(*at->infos));
    at->capacity = capacity;
    return at->infos != NULL ? 0 : call_no_memory(call);
}

/* True: all are told, or an error is. */
static bool begin_next(struct pdb_snapshot_list *l, struct listing *at)
{
    struct pdb_call *call = &l->call;
    struct snapshot_image *image = next_listed(call_state(call)->here->snapshots, at->after);
    if (image == NULL)
        return true;
    l->more_out = l->limit != 0 && at->count == l->limit;
    return l->more_out || make_room(call, at) < 0 ||
           snapshot_fill_begin(&at->filling, call, image) < 0;
}

static void list_step(struct pdb_call *call)
{
    struct pdb_snapshot_list *l = container_of(call, struct pdb_snapshot_list, call);
    struct listing *at = call_state(call)->work;
    while (at->filling.image != NULL || !begin_next(l, at)) {
        if (!snapshot_fill_more(&at->filling)) {
            call_again(call);
            return;
        }
        if (call->error.code != 0)
            break;
        at->infos[at->count++] = at->filling.info;
        at->after = at->filling.info.name;
        if (reactor_slice_over(call_state(call)->here->r)) {
            call_again(call);
            return;
        }
    }
    l->infos_out = at->infos;
    l->count_out = at->count;
    call_return(call);
}

static void list_at_core0(struct pdb_call *call)
{
    struct listing *at = arena_new(call->arena, struct listing);
    if (at == NULL) {
        (void)call_no_memory(call);
        call_return(call);
        return;
    }
    at->after = container_of(call, struct pdb_snapshot_list, call)->after;
    call_state(call)->work = at;
    call_run(call, list_step);
}

void pdb_snapshot_list_start(struct pdb_snapshot_list *l)
{
    l->more_out = false;
    l->infos_out = NULL;
    l->count_out = 0;
    if (call_begin(&l->call))
        (void)call_send(&l->call, 0, list_at_core0);
}

static void get_step(struct pdb_call *call)
{
    struct pdb_snapshot_get *g = container_of(call, struct pdb_snapshot_get, call);
    struct snapshot_filling *filling = call_state(call)->work;
    if (!snapshot_fill_more(filling)) {
        call_again(call);
        return;
    }
    g->info_out = filling->info;
    call_return(call);
}

static void get_at_core0(struct pdb_call *call)
{
    const struct pdb_snapshot_get *g = container_of(call, struct pdb_snapshot_get, call);
    struct snapshot_filling *filling = arena_new(call->arena, struct snapshot_filling);
    struct snapshot_image *image = NULL;
    if (filling == NULL)
        (void)call_no_memory(call);
    if (filling == NULL || snapshot_usable(call, g->name, &image) < 0 ||
        snapshot_fill_begin(filling, call, image) < 0) {
        call_return(call);
        return;
    }
    call_state(call)->work = filling;
    call_run(call, get_step);
}

void pdb_snapshot_get_start(struct pdb_snapshot_get *g)
{
    if (call_begin(&g->call))
        (void)call_send(&g->call, 0, get_at_core0);
}

/* ---- delete ---- */

struct delete_op {
    struct snapshot_op base;
    struct snapshot_image *image; /* out of the list, once it is renamed */
    struct snapshot_step step;
    struct snapshot_remove remove;
    char folder[SNAPSHOT_FOLDER_MAX];
};

static void delete_dispose(struct snapshot_op *op)
{
    struct delete_op *d = container_of(op, struct delete_op, base);
    snapshot_let_go(op->all, d->image);
    heap_free(NULL, d);
}

static void delete_removed(struct snapshot_remove *remove)
{
    struct delete_op *d = container_of(remove, struct delete_op, remove);
    FAILPOINT("snapshot.removed");
    snapshot_op_over(&d->base);
}

/* Without this sync a restart may find it again, with files missing: then nothing is removed. */
static void delete_durable(struct snapshot_step *step, int64_t result)
{
    struct delete_op *d = container_of(step, struct delete_op, step);
    if (result < 0) {
        (void)call_fail(d->base.call, PDB_UNAVAILABLE,
                        "snapshot: whether it is deleted is known after a restart: %s",
                        strerror((int)-result));
        d->base.call->error.outcome_unknown = true;
        snapshot_op_over(&d->base);
        return;
    }
    FAILPOINT("snapshot.gone");
    d->remove.image = d->image;
    d->remove.folder = d->folder;
    snapshot_remove_start(&d->remove, d->base.all->core->r->io, delete_removed);
}

static void delete_renamed(struct snapshot_step *step, int64_t result)
{
    struct delete_op *d = container_of(step, struct delete_op, step);
    const struct pdb_snapshot_delete *what =
        container_of(d->base.call, struct pdb_snapshot_delete, call);
    if (result < 0) {
        (void)snapshot_fail_errno(d->base.call, result, "cannot be renamed");
        snapshot_op_over(&d->base);
        return;
    }
    d->image = snapshot_find(d->base.all, what->name);
    ASSERT(d->image != NULL);
    list_remove(&d->image->link);
    snapshot_count(d->base.all, d->image, false);
    snapshot_root(step->path, d->base.all->core->db);
    snapshot_sync_dir(step, d->base.all->core->r->io, delete_durable);
}

static void delete_run(struct snapshot_op *op)
{
    struct delete_op *d = container_of(op, struct delete_op, base);
    const struct pdb_snapshot_delete *what =
        container_of(op->call, struct pdb_snapshot_delete, call);
    struct engine_core *core = op->all->core;
    const struct snapshot_image *image = snapshot_find(op->all, what->name);
    if (image == NULL)
        (void)call_fail(op->call, PDB_NOT_FOUND, "snapshot '%.*s' does not exist",
                        CALL_TEXT(what->name));
    else if (image->readers != 0)
        (void)call_fail(op->call, PDB_FAILED_PRECONDITION,
                        "snapshot '%.*s' is being downloaded; delete it afterwards",
                        CALL_TEXT(what->name));
    if (op->call->error.code != 0) {
        snapshot_op_over(op);
        return;
    }
    snapshot_hidden_folder(d->folder, core, what->name, "gone");
    snapshot_folder(d->step.path, core->db, what->name);
    (void)snprintf(d->step.path_to, sizeof(d->step.path_to), "%s", d->folder);
    snapshot_rename(&d->step, core->r->io, delete_renamed);
}

static void delete_at_core0(struct pdb_call *call)
{
    struct delete_op *d = heap_calloc(NULL, 1, sizeof(*d));
    if (d == NULL) {
        (void)call_no_memory(call);
        call_return(call);
        return;
    }
    d->base = (struct snapshot_op){.call = call, .run = delete_run, .dispose = delete_dispose};
    snapshot_op_queue(call_state(call)->here, &d->base);
}

void pdb_snapshot_delete_start(struct pdb_snapshot_delete *d)
{
    if (!call_begin(&d->call))
        return;
    call_state(&d->call)->touring = true;
    (void)call_send(&d->call, 0, delete_at_core0);
}

/* ---- the life of all this ---- */

void snapshots_free(struct engine_core *core)
{
    struct snapshots *all = core->snapshots;
    if (all == NULL)
        return;
    core->snapshots = NULL;
    snapshot_schedule_free(all);
    if (all->running != NULL)
        all->running->dispose(all->running);
    for (struct list_link *link; (link = list_pop_front(&all->queue)) != NULL;) {
        struct snapshot_op *op = container_of(link, struct snapshot_op, link);
        op->dispose(op);
    }
    for (struct list_link *link; (link = list_pop_front(&all->images)) != NULL;)
        snapshot_image_free(image_at(link));
    task_cancel(&all->bury);
    for (struct list_link *link; (link = list_pop_front(&all->dead)) != NULL;)
        snapshot_image_free(image_at(link));
    heap_free(NULL, all);
}

void snapshots_start(struct engine_core *core)
{
    snapshot_schedule_start(core->snapshots);
}

void snapshots_stop(struct engine_core *core)
{
    if (core->snapshots != NULL)
        snapshot_schedule_stop(core->snapshots);
}
