/* snapshot_schedule.c: snapshots of everything, taken by the clock, and the removal of old ones.
 *
 * The first is due one interval after the last one that was taken, so restarts neither skip nor
 * repeat any. One that fails is logged and tried again an interval later; one that is still under
 * way when the next is due makes it wait. Only scheduled ones count and are removed. */
#include "engine/snapshot_internal.h"

#include "base/log.h"

#include "base/no_libc_heap.h"

enum { RETRY_S = 60 };

struct snapshot_schedule {
    struct timer timer;
    struct snapshots *all;
    struct arena arena; /* of the call */
    bool stopped;
    union {
        struct pdb_snapshot_create create;
        struct pdb_snapshot_delete delete;
    };
};

static void arm(struct snapshot_schedule *s, uint64_t in_s)
{
    struct reactor *r = s->all->core->r;
    uint64_t due_ns = (uint64_t)r->now_realtime_us * 1000 + in_s * 1000000000u;
    if (s->stopped)
        return;
    if (timer_set(r, &s->timer, r->now_ns + in_s * 1000000000u) < 0) {
        LOG_ERROR("engine", "no memory for the timer of scheduled snapshots; none will be taken");
        due_ns = 0;
    }
    metrics_set(s->all->core->metrics, METRICS_SNAPSHOT_NEXT_AT, due_ns);
}

static uint64_t interval_s(const struct snapshot_schedule *s)
{
    return s->all->core->db->options.snapshot_interval_s;
}

static struct snapshot_image *image_at(struct list_link *link)
{
    return container_of(link, struct snapshot_image, link);
}

/* The oldest scheduled one if there are more than are to be kept; names do not count, times do. */
static const struct snapshot_image *oldest_beyond(const struct snapshot_schedule *s)
{
    const struct snapshot_image *oldest = NULL;
    uint32_t count = 0;
    list_each (link, &s->all->images) {
        const struct snapshot_image *image = image_at(link);
        if (!image->scheduled || image->damaged)
            continue;
        count++;
        if (oldest == NULL || image->created_at_us < oldest->created_at_us)
            oldest = image;
    }
    return count > s->all->core->db->options.snapshot_keep ? oldest : NULL;
}

static void remove_old(struct snapshot_schedule *s);

static void removed(struct pdb_call *call)
{
    struct snapshot_schedule *s = container_of(call, struct snapshot_schedule, delete.call);
    if (call->error.code != 0) {
        LOG_WARN("engine", "a scheduled snapshot cannot be removed: %s", call->error.text);
        arm(s, interval_s(s));
        return;
    }
    remove_old(s);
}

static void remove_old(struct snapshot_schedule *s)
{
    const struct snapshot_image *oldest = oldest_beyond(s);
    arena_reset(&s->arena);
    struct pdb_text name = {0};
    if (oldest != NULL && !s->stopped)
        name = arena_copy_text(&s->arena, oldest->name.ptr, oldest->name.len);
    if (name.ptr == NULL) {
        arm(s, interval_s(s));
        return;
    }
    s->delete = (struct pdb_snapshot_delete){0};
    pdb_call_init(&s->delete.call, s->all->core->db, &s->arena, removed);
    s->delete.name = name;
    pdb_snapshot_delete_start(&s->delete);
}

static void taken(struct pdb_call *call)
{
    struct snapshot_schedule *s = container_of(call, struct snapshot_schedule, create.call);
    if (call->error.code != 0) {
        LOG_WARN("engine", "a scheduled snapshot was not taken: %s", call->error.text);
        arm(s, interval_s(s) < RETRY_S ? interval_s(s) : RETRY_S);
        return;
    }
    LOG_INFO("engine", "scheduled snapshot %.*s: %u collections, %llu bytes, took_us=%llu",
             (int)s->create.info_out.name.len, s->create.info_out.name.ptr,
             s->create.info_out.part_count, (unsigned long long)s->create.info_out.bytes,
             (unsigned long long)call->took_us);
    remove_old(s);
}

static void fire(struct timer *timer)
{
    struct snapshot_schedule *s = container_of(timer, struct snapshot_schedule, timer);
    arena_reset(&s->arena);
    s->create = (struct pdb_snapshot_create){.scheduled = true};
    pdb_call_init(&s->create.call, s->all->core->db, &s->arena, taken);
    pdb_snapshot_create_start(&s->create);
}

void snapshot_schedule_start(struct snapshots *all)
{
    const struct engine_core *core = all->core;
    uint64_t interval = core->db->options.snapshot_interval_s;
    if (interval == 0)
        return;
    struct snapshot_schedule *s = heap_calloc(NULL, 1, sizeof(*s));
    if (s == NULL) {
        LOG_ERROR("engine", "no memory for scheduled snapshots; none will be taken");
        return;
    }
    s->all = all;
    s->timer.fire = fire;
    metrics_set(core->metrics, METRICS_SNAPSHOT_INTERVAL_AT, interval * 1000000000u);
    all->schedule = s;
    int64_t last_us = 0, now_us = core->r->now_realtime_us;
    list_each (link, &all->images)
        if (image_at(link)->scheduled && image_at(link)->created_at_us > last_us)
            last_us = image_at(link)->created_at_us;
    uint64_t since_s = last_us < now_us ? (uint64_t)(now_us - last_us) / 1000000 : 0;
    arm(s, last_us != 0 && since_s < interval ? interval - since_s
           : interval < RETRY_S               ? interval
                                              : RETRY_S);
}

void snapshot_schedule_stop(struct snapshots *all)
{
    if (all->schedule == NULL)
        return;
    all->schedule->stopped = true;
    timer_cancel(all->core->r, &all->schedule->timer);
}

void snapshot_schedule_free(struct snapshots *all)
{
    if (all->schedule == NULL)
        return;
    timer_cancel(all->core->r, &all->schedule->timer);
    arena_dispose(&all->schedule->arena);
    heap_free(NULL, all->schedule);
    all->schedule = NULL;
}
