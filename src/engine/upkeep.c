/* upkeep.c: when a shard seals, flushes and merges, and what a core does for all of its shards.
 *
 * A memtable is sealed when it has many rows or bytes, when its oldest row gets old, when memory is
 * short, or when it holds the oldest segment of a log that has got too large. Sealed ones are
 * flushed in order, one at a time; merges are picked by compaction.h, one at a time too. A core
 * builds few segments at once. What a build holds is reserved before it begins (memory.h); a core's
 * first flush always begins. Shards stand in one line for flushes and in one for merges, and who
 * had a place goes to the end, so that no collection keeps the others waiting. A large merge leaves
 * one place for small ones. A flush never waits for a merge: there are places that merges do not
 * take, and while it computes they stand aside on the worker (upkeep_build.c).
 *
 * as_of: with version_retention every version of the last so many seconds stays readable. Which
 * version was the newest at which time is sampled by the sweep; a start begins with one sample, so
 * it may keep versions for longer, never for less. */
#include "engine/upkeep.h"

#include "base/assert.h"
#include "base/log.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/compaction.h"
#include "engine/old_logs.h"
#include "engine/upkeep_internal.h"
#include "os/failpoint.h"

#include <string.h>

#include "base/no_libc_heap.h"

enum {
    BUILDS_MAX = 4,      /* of a core at once */
    MERGES_MAX = 2,      /* of these */
    LOOKS_MAX = 8,       /* at those who stand in line, for a place that got free */
    SEALED_MAX = 4,      /* of a shard, waiting */
    PRESSING_PARTS = 24, /* with so many, a merge that needs memory keeps writes from taking it */
    ROW_BYTES = 16 * 9,  /* of the limit for each row of a segment: its build takes 9 */
    FREE_EVERY_MS = 20,
    FREED_MIN = 64 << 10, /* a memtable of less waits a second before it is flushed for memory */
    EXPIRY_ROWS = 16384,  /* looked at in one sweep */
    FORGET_ENTRIES = 16384,
    QUIET_S = 5,
    IDLE_BYTES_PER_S = 32 << 20,
};

static uint64_t seconds_ns(uint64_t seconds)
{
    return seconds * 1000000000u;
}

static struct shard_part *part_at(struct list_link *link)
{
    return container_of(link, struct shard_part, link);
}

/* ---- life ---- */

int upkeep_new(struct shard *shard)
{
    struct upkeep *u = heap_calloc(&shard->core->r->heap, 1, sizeof(*u));
    shard->upkeep = u;
    if (u == NULL)
        return PDB_RESOURCE_EXHAUSTED;
    u->shard = shard;
    u->next_segment = 1;
    u->manifest_number = u->manifest_given = 1; /* the folder is begun with MANIFEST-1 */
    u->changed_ns = shard->core->r->now_ns;
    list_init(&u->ready);
    list_init(&u->flush_waits);
    list_init(&u->ann_ops);
    list_init(&u->unremoved);
    list_init(&u->detached);
    return 0;
}

void upkeep_free(struct shard *shard)
{
    struct heap *heap = &shard->core->r->heap;
    struct upkeep *u = shard->upkeep;
    if (u == NULL)
        return;
    task_cancel(&u->publish_task);
    list_remove(&u->waiting_link);
    list_remove(&u->merge_link);
    if (u->flush != NULL)
        change_drop(u->flush);
    if (u->merge != NULL)
        change_drop(u->merge);
    while (!list_empty(&u->detached))
        change_drop(container_of(u->detached.anchor.next, struct change, detached_link));
    upkeep_index_drop(shard);
    heap_free(heap, u->retained);
    heap_free(heap, u);
    shard->upkeep = NULL;
}

void upkeep_restore(struct shard *shard, const struct manifest *m)
{
    struct upkeep *u = shard->upkeep;
    u->folder_begun = true;
    u->flushed_version = m->version;
    u->manifest_number = u->manifest_given = m->number;
    u->next_segment = m->next_segment;
    u->retained_floor = m->oldest_version;
}

uint64_t upkeep_flushed_version(const struct shard *shard)
{
    return shard->upkeep->flushed_version;
}

/* ---- a core's places ---- */

void upkeep_enter(struct engine_core *core)
{
    core->upkeep_active++;
}

void upkeep_leave(struct engine_core *core)
{
    ASSERT(core->upkeep_active > 0);
    if (--core->upkeep_active == 0 && core->quieting) {
        core->quieting = false;
        engine_phase_done(core, 0, NULL);
    }
}

/* ---- those who wait for a flush ---- */

void upkeep_tell_waits(struct shard *shard, int rc, const struct trail *trail)
{
    struct upkeep *u = shard->upkeep;
    list_each_safe(link, following, &u->flush_waits)
    {
        struct upkeep_wait *wait = container_of(link, struct upkeep_wait, link);
        if (rc == 0 && wait->version > u->flushed_version)
            continue;
        list_remove(link);
        wait->done(wait, rc, trail);
    }
}

static void refuse_waits(struct shard *shard, int rc, const char *why)
{
    struct trail trail = {0};
    (void)trail_add(&trail, rc, "%s", why);
    upkeep_tell_waits(shard, rc, &trail);
}

/* ---- sealing ---- */

static bool may_seal(const struct shard *shard)
{
    uint32_t sealed = 0, parts = 0;
    list_each (link, &shard->parts) {
        const struct shard_part *part = part_at(link);
        sealed += part->memtable != NULL && part != shard->active;
        parts++;
    }
    return !shard->committing && sealed < SEALED_MAX && parts < PARTS_MAX;
}

/* Between two writes. What is prepared for the old memtable is prepared for the new one first. */
static void seal(struct shard *shard)
{
    struct upkeep *u = shard->upkeep;
    if (!may_seal(shard))
        return;
    struct shard_part *part = part_of_memtable(shard);
    if (part != NULL &&
        memtable_prepare(part->memtable, shard->pending_rows, shard->pending_text) < 0) {
        part_let_go(part);
        part = NULL;
    }
    if (part == NULL) { /* the next sweep tries again */
        refuse_waits(shard, PDB_RESOURCE_EXHAUSTED, "out of memory for a flush");
        return;
    }
    FAILPOINT("seal");
    memtable_expect(part->memtable, shard->memtable);
    memtable_seal(shard->memtable);
    shard->active->sealed_version = shard->version_visible;
    list_push_back(&shard->parts, &part->link);
    shard->active = part;
    shard->memtable = part->memtable;
    u->filled_ns = 0;
    u->flush_soon = false;
    metrics_add(shard->core->metrics, METRICS_SEALS_AT, 1);
    upkeep_look(shard);
}

/* The last version that is not in the memtable. */
static bool has_unsealed(const struct shard *shard)
{
    uint64_t sealed = shard->upkeep->flushed_version;
    list_each (link, &shard->parts) {
        const struct shard_part *part = part_at(link);
        if (part->memtable != NULL && part != shard->active)
            sealed = part->sealed_version;
    }
    return shard->version_visible > sealed;
}

static bool memory_is_short(const struct engine_core *core, uint64_t memtable_bytes)
{
    uint64_t limit = core->db->options.memory_limit;
    uint64_t least = limit / 64 > 1 << 20 ? limit / 64 : 1 << 20;
    return memtable_bytes >= least && memory_used(core) > limit / 10 * 6;
}

void upkeep_after_commit(struct shard *shard)
{
    const struct pdb_options *o = &shard->core->db->options;
    struct upkeep *u = shard->upkeep;
    struct memtable_stats stats;
    u->changed_ns = shard->core->r->now_ns;
    if (u->filled_ns == 0)
        u->filled_ns = u->changed_ns;
    memtable_stats(shard->memtable, &stats);
    if (u->flush_soon || stats.rows_total >= o->flush_rows || stats.bytes >= o->flush_bytes ||
        memory_is_short(shard->core, stats.bytes))
        seal(shard);
}

void upkeep_flush_soon(struct shard *shard)
{
    if (!has_unsealed(shard) || shard->entry == NULL)
        return;
    shard->upkeep->flush_soon = true;
    seal(shard);
}

/* ---- waiting for a flush ---- */

void upkeep_wait_flushed(struct shard *shard, struct upkeep_wait *wait)
{
    list_push_back(&shard->upkeep->flush_waits, &wait->link);
    if (shard->entry == NULL)
        refuse_waits(shard, PDB_NOT_FOUND, "the collection was dropped");
    else if (shard->core->closing)
        refuse_waits(shard, PDB_UNAVAILABLE, "the database is closing");
    upkeep_tell_waits(shard, 0, NULL);
    upkeep_flush_soon(shard);
}

void upkeep_end_waits(struct engine_core *core)
{
    list_each (link, &core->shard_list)
        refuse_waits(container_of(link, struct shard, link), PDB_UNAVAILABLE,
                     "the database is closing");
}

void upkeep_pin(struct shard *shard)
{
    shard->upkeep->pins++;
}

void upkeep_unpin(struct shard *shard)
{
    struct upkeep *u = shard->upkeep;
    ASSERT(u->pins > 0);
    if (--u->pins != 0)
        return;
    for (struct list_link *link; (link = list_pop_front(&u->unremoved)) != NULL;)
        change_remove_files(container_of(link, struct change, link));
}

uint64_t upkeep_next_segment(const struct shard *shard)
{
    return shard->upkeep->next_segment;
}

/* ---- what to do next ---- */

static struct shard_part *oldest_sealed(const struct shard *shard)
{
    list_each (link, &shard->parts) {
        struct shard_part *part = part_at(link);
        if (part->memtable != NULL)
            return part != shard->active ? part : NULL;
    }
    return NULL;
}

static struct compaction_segment describe(const struct shard_part *part)
{
    const struct segment_stats *stats = &part->file->stats;
    uint64_t ended = segment_deletes_count(part->deletes);
    uint64_t kept = segment_deletes_remembered(part->deletes);
    uint64_t dead = ended - kept + part->expired_rows;
    return (struct compaction_segment){
        .number = stats->number,
        .rows = stats->rows,
        .live_rows = dead < stats->rows ? stats->rows - dead : 0,
        .bytes = stats->parquet_bytes,
        .busy = part->merging || segment_damaged(part->segment),
    };
}

/* Going down to one segment may write everything again: the more there is, the longer it waits. */
static enum compaction_pace pace_of(const struct shard *shard, uint64_t bytes)
{
    const struct engine_core *core = shard->core;
    uint64_t quiet_ns = core->r->now_ns - shard->upkeep->changed_ns;
    uint64_t age_s = core->db->options.flush_age_s;
    if (quiet_ns > seconds_ns(age_s + bytes / IDLE_BYTES_PER_S))
        return COMPACTION_IDLE;
    return quiet_ns > seconds_ns(QUIET_S) ? COMPACTION_QUIET : COMPACTION_BUSY;
}

static uint64_t segment_rows_max(const struct engine_core *core)
{
    uint64_t most = core->db->options.memory_limit / ROW_BYTES;
    return most < SEGMENT_ROWS_MAX ? most : SEGMENT_ROWS_MAX;
}

struct picked_merge {
    struct shard_part *sources[PARTS_MAX]; /* those without a live row first */
    uint32_t count, dead;
};

/* What to merge next; a count of 0: nothing. */
static void pick_merge(struct shard *shard, struct picked_merge *out)
{
    struct engine_core *core = shard->core;
    struct compaction_segment segments[PARTS_MAX];
    struct shard_part *parts[PARTS_MAX];
    uint32_t picked[PARTS_MAX], count = 0;
    uint64_t bytes = 0;
    list_each (link, &shard->parts) {
        struct shard_part *part = part_at(link);
        if (part->segment == NULL)
            continue;
        parts[count] = part;
        segments[count] = describe(part);
        bytes += segments[count++].bytes;
    }
    struct compaction_options options = {
        .segments_max = core->db->options.segments_max,
        .rows_max = segment_rows_max(core),
        .pace = pace_of(shard, bytes),
    };
    out->count = compaction_pick(segments, count, &options, picked);
    out->dead = 0;
    for (uint32_t i = 0; i < out->count; i++) {
        out->sources[i] = parts[picked[i]];
        out->dead += segments[picked[i]].live_rows == 0;
    }
}

static bool is_idle(const struct shard *shard)
{
    const struct engine_core *core = shard->core;
    return shard->entry == NULL || core->closing || core->recovery != NULL ||
           shard->lost_segments != 0 || core->r->now_ns < shard->upkeep->retry_ns;
}

/* ---- the line for flushes ---- */

static bool has_place(const struct engine_core *core)
{
    return core->flushes + core->merges < BUILDS_MAX;
}

/* Without memory for it the first in line waits for what is under way to give some back; there is
 * always something under way then. */
static void flush_if_first(struct shard *shard, struct shard_part *sealed)
{
    struct engine_core *core = shard->core;
    struct list_link *mine = &shard->upkeep->waiting_link;
    if (!list_linked(mine))
        list_push_back(&core->flush_line, mine);
    if (!has_place(core) || core->flush_line.anchor.next != mine)
        return;
    uint64_t need = change_flush_need(shard, sealed);
    if (!memory_reserve_build(core, need, core->flushes == 0))
        return;
    list_remove(mine);
    if (change_begin_flush(shard, sealed, need) < 0) {
        shard->upkeep->retry_ns = core->r->now_ns + seconds_ns(5);
        refuse_waits(shard, PDB_RESOURCE_EXHAUSTED, "out of memory for a flush");
    }
}

static void look_for_flush(struct shard *shard)
{
    struct upkeep *u = shard->upkeep;
    struct shard_part *sealed = !is_idle(shard) && u->flush == NULL ? oldest_sealed(shard) : NULL;
    if (sealed != NULL)
        flush_if_first(shard, sealed);
    else
        list_remove(&u->waiting_link);
}

static void move_flush_line(struct engine_core *core)
{
    while (!list_empty(&core->flush_line) && has_place(core)) {
        struct list_link *first = core->flush_line.anchor.next;
        look_for_flush(container_of(first, struct upkeep, waiting_link)->shard);
        if (core->flush_line.anchor.next == first)
            break; /* it waits for memory */
    }
}

/* ---- the line for merges ---- */

/* The memory that it takes, reserved; 0: there is none, or enough large merges are under way. What
 * it would take is added to *wanted. */
static uint64_t reserve_merge(struct shard *shard, const struct picked_merge *m, uint64_t *wanted)
{
    struct engine_core *core = shard->core;
    struct shard_part *const *live = m->sources + m->dead;
    uint32_t live_count = m->count - m->dead, parts = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < live_count; i++)
        bytes += live[i]->file->stats.parquet_bytes;
    if (bytes >= UPKEEP_LARGE_MERGE_BYTES && core->large_merges >= MERGES_MAX - 1)
        return 0;
    uint64_t need = change_merge_need(shard, live, live_count);
    if (memory_reserve_build(core, need, false))
        return need;
    list_each (link, &shard->parts)
        parts++;
    if (parts >= PRESSING_PARTS && need < core->db->options.memory_limit / 4 && need > *wanted)
        *wanted = need;
    return 0;
}

/* Begins what is to be merged, or at least lets go of what has no live row. */
static void begin_merge(struct shard *shard, uint64_t *wanted)
{
    struct engine_core *core = shard->core;
    struct upkeep *u = shard->upkeep;
    struct picked_merge m = {.count = 0};
    if (!is_idle(shard) && u->merge == NULL)
        pick_merge(shard, &m);
    if (m.count == 0) {
        list_remove(&u->merge_link);
        return;
    }
    uint64_t need = reserve_merge(shard, &m, wanted);
    if (need == 0 && m.dead != 0 && m.dead < m.count) {
        m.count = m.dead;
        need = reserve_merge(shard, &m, wanted);
    }
    if (need == 0)
        return;
    list_remove(&u->merge_link);
    if (change_begin_merge(shard, m.sources, m.count, need) < 0)
        u->retry_ns = core->r->now_ns + seconds_ns(5);
}

static void move_merge_line(struct engine_core *core)
{
    uint64_t wanted = 0;
    unsigned looks = 0;
    list_each_safe(link, following, &core->merge_line)
    {
        if (core->merges >= MERGES_MAX || !has_place(core) || ++looks > LOOKS_MAX)
            break;
        begin_merge(container_of(link, struct upkeep, merge_link)->shard, &wanted);
    }
    memory_want_build(core, wanted);
}

static void look_for_merge(struct shard *shard)
{
    struct upkeep *u = shard->upkeep;
    struct picked_merge m = {.count = 0};
    if (!is_idle(shard) && u->merge == NULL)
        pick_merge(shard, &m);
    if (m.count == 0)
        list_remove(&u->merge_link);
    else if (!list_linked(&u->merge_link))
        list_push_back(&shard->core->merge_line, &u->merge_link);
}

/* ---- both ---- */

void upkeep_move_lines(struct engine_core *core)
{
    if (core->lines_move) /* a begin that fails comes by here: the loops go on */
        return;
    core->lines_move = true;
    move_flush_line(core);
    move_merge_line(core);
    core->lines_move = false;
}

void upkeep_look(struct shard *shard)
{
    if (list_linked(&shard->upkeep->waiting_link) || oldest_sealed(shard) != NULL)
        look_for_flush(shard);
    look_for_merge(shard);
    upkeep_move_lines(shard->core);
    upkeep_index_look(shard);
    upkeep_index_move_line(shard->core);
}

/* ---- the sweep of a shard ---- */

static void count_expired(struct shard *shard, struct shard_part *part)
{
    const struct engine_core *core = shard->core;
    int64_t grace_us = ((int64_t)core->db->options.ttl_grace_s_plus_one - 1) * 1000000;
    int64_t before_us = core->r->now_realtime_us - grace_us;
    if (part->file->stats.expires_min_us > before_us)
        return;
    for (uint32_t i = 0; i < EXPIRY_ROWS && part->expiry_next < part->file->stats.rows; i++) {
        if (i % 256 == 255 && reactor_slice_over(core->r))
            return; /* the next sweep goes on */
        struct pdb_row row;
        uint32_t at = part->expiry_next++;
        (void)segment_row(part->segment, at, &row, NULL);
        part->expiry_found += row.expires_at_us != 0 && row.expires_at_us <= before_us &&
                              segment_deletes_ended_at(part->deletes, at) == SEGMENT_NEVER;
    }
    if (part->expiry_next < part->file->stats.rows)
        return;
    part->expired_rows = part->expiry_found;
    part->expiry_next = part->expiry_found = 0;
}

static void sweep_segments(struct shard *shard)
{
    uint64_t oldest = shard_oldest_version(shard), flushed = shard->upkeep->flushed_version;
    list_each (link, &shard->parts) {
        struct shard_part *part = part_at(link);
        if (part->segment == NULL)
            continue;
        (void)segment_deletes_forget(part->deletes, oldest < flushed ? oldest : flushed,
                                     FORGET_ENTRIES);
        count_expired(shard, part);
    }
}

/* ---- versions for as_of ---- */

static uint64_t max_version(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void sample_version(struct shard *shard)
{
    struct upkeep *u = shard->upkeep;
    int64_t now_us = shard->core->r->now_realtime_us;
    int64_t keep_us = (int64_t)shard->entry->config.version_retention_s * 1000000;
    if (keep_us == 0) {
        u->retained_count = 0;
        return;
    }
    if (u->retained == NULL)
        u->retained = heap_calloc(&shard->core->r->heap, RETAINED_MAX, sizeof(*u->retained));
    uint32_t passed = 0;
    while (passed < u->retained_count && u->retained[passed].at_us <= now_us - keep_us)
        u->retained_floor = max_version(u->retained_floor, u->retained[passed++].version);
    u->retained_count -= passed;
    if (u->retained == NULL)
        return;
    memmove(u->retained, u->retained + passed, u->retained_count * sizeof(*u->retained));
    const struct retained *last =
        u->retained_count != 0 ? &u->retained[u->retained_count - 1] : NULL;
    if (u->retained_count < RETAINED_MAX &&
        (last == NULL || now_us - last->at_us >= keep_us / (RETAINED_MAX - 8)))
        u->retained[u->retained_count++] = (struct retained){now_us, shard->version_visible};
}

uint64_t upkeep_retained_version(const struct shard *shard)
{
    struct upkeep *u = shard->upkeep;
    /* Noted at every look: what is given up before a PATCH asks for more stays given up. */
    if (shard->entry == NULL || shard->entry->config.version_retention_s == 0) {
        u->retained_floor = max_version(u->retained_floor, shard->version_visible);
        u->retained_count = 0; /* older samples would take the floor back */
    }
    return u->retained_floor;
}

void upkeep_sweep(struct shard *shard)
{
    const struct pdb_options *o = &shard->core->db->options;
    struct upkeep *u = shard->upkeep;
    uint64_t now_ns = shard->core->r->now_ns;
    if (shard->entry == NULL)
        return;
    sample_version(shard);
    sweep_segments(shard);
    if (u->flush_soon || (u->filled_ns != 0 && now_ns - u->filled_ns > seconds_ns(o->flush_age_s)))
        seal(shard);
    change_hold_no_longer(u->merge);
    upkeep_look(shard);
}

/* ---- memory that is short ---- */

/* What a flush would give back; 0: nothing, or not yet. A memtable of few bytes may hold deletes:
 * rows that they ended can be left out by a merge once the deletes are flushed. */
static uint64_t gain_of(const struct shard *shard)
{
    const struct upkeep *u = shard->upkeep;
    struct memtable_stats stats;
    if (shard->entry == NULL || !has_unsealed(shard) || !may_seal(shard))
        return 0;
    memtable_stats(shard->memtable, &stats);
    bool waited = u->filled_ns != 0 && shard->core->r->now_ns - u->filled_ns >= seconds_ns(1);
    return stats.bytes >= FREED_MIN || waited ? stats.bytes + 1 : 0;
}

static void free_memory_run(struct task *task)
{
    struct engine_core *core = container_of(task, struct engine_core, memory_task);
    struct shard *largest = NULL;
    uint64_t most = 0;
    if (core->closing || core->flushes != 0 || !list_empty(&core->flush_line))
        return; /* a flush is on its way */
    list_each (link, &core->shard_list) {
        struct shard *shard = container_of(link, struct shard, link);
        uint64_t gain = gain_of(shard);
        if (gain > most) {
            most = gain;
            largest = shard;
        }
    }
    if (largest != NULL)
        seal(largest);
}

void upkeep_free_memory(struct engine_core *core)
{
    uint64_t now_ns = core->r->now_ns;
    if (core->closing || now_ns - core->memory_looked_ns < FREE_EVERY_MS * 1000000ull)
        return;
    core->memory_looked_ns = now_ns;
    core->memory_task.run = free_memory_run;
    core->memory_task.name = "core.memory";
    task_queue(core->r, &core->memory_task);
}

/* ---- dropping and closing ---- */

void upkeep_drop(struct shard *shard)
{
    refuse_waits(shard, PDB_NOT_FOUND, "the collection was dropped");
    change_cancel(shard->upkeep->flush);
    change_cancel(shard->upkeep->merge);
    list_each_safe(link, following, &shard->upkeep->detached)
        change_cancel(container_of(link, struct change, detached_link));
    upkeep_index_cancel(shard);
    ann_set_withdraw(shard);
}

void upkeep_abandon(struct engine_core *core)
{
    ann_set_abandon(core);
    for (struct list_link *link; (link = list_pop_front(&core->upkeep_ops)) != NULL;)
        heap_free(&core->r->heap, link);
    upkeep_warm_drop(core);
}

void upkeep_quiet(struct engine_core *core)
{
    core->closing = true;
    list_each_safe(link, following, &core->shard_list)
        upkeep_drop(container_of(link, struct shard, link));
    if (core->upkeep_active == 0)
        engine_phase_done(core, 0, NULL);
    else
        core->quieting = true;
}

/* ---- what logs may forget ---- */

/* Goes round the cores and back: each tells its own log. */
struct release_round {
    struct list_link link; /* home's upkeep_ops */
    struct mail mail;
    struct engine_core *home;
    struct uuid uuid;
    uint64_t version;
    unsigned next;
};

static void end_round(struct release_round *round)
{
    struct engine_core *core = round->home;
    list_remove(&round->link);
    heap_free(&core->r->heap, round);
    upkeep_leave(core);
}

static void round_arrives(struct reactor *here, struct mail *mail)
{
    struct release_round *round = container_of(mail, struct release_round, mail);
    struct engine_core *core = engine_here(here);
    if (core->wal != NULL)
        wal_release(core->wal, &round->uuid, round->version);
    old_logs_release(core, &round->uuid, round->version);
    if (++round->next < core->db->core_count) {
        mail_post(here, round->next, mail);
        return;
    }
    round->next = UINT16_MAX;
    if (core != round->home) {
        mail_post(here, round->home->id, mail);
        return;
    }
    end_round(round);
}

static void round_over(struct reactor *here, struct mail *mail)
{
    struct release_round *round = container_of(mail, struct release_round, mail);
    if (round->next != UINT16_MAX) {
        round_arrives(here, mail);
        return;
    }
    end_round(round);
}

void upkeep_release(struct engine_core *core, const struct uuid *uuid, uint64_t version)
{
    /* Without memory the next flush tells. */
    struct release_round *round = heap_calloc(&core->r->heap, 1, sizeof(*round));
    if (round == NULL)
        return;
    FAILPOINT("log.release");
    *round = (struct release_round){.home = core, .uuid = *uuid, .version = version};
    round->mail.deliver = round_over;
    list_push_back(&core->upkeep_ops, &round->link);
    upkeep_enter(core);
    mail_post(core->r, 0, &round->mail);
}

void upkeep_release_all(struct engine_core *core)
{
    list_each (link, &core->shard_list) {
        const struct shard *shard = container_of(link, struct shard, link);
        if (shard->upkeep->flushed_version != 0)
            upkeep_release(core, &shard->uuid, shard->upkeep->flushed_version);
    }
}

/* ---- a dropped collection ---- */

struct folder_remove {
    struct list_link link; /* the core's upkeep_ops */
    struct shard_remove remove;
    struct engine_core *core;
    char folder[SHARD_FOLDER_MAX];
};

static void folder_removed(struct shard_remove *remove)
{
    struct folder_remove *mine = container_of(remove, struct folder_remove, remove);
    struct engine_core *core = mine->core;
    list_remove(&mine->link);
    heap_free(&core->r->heap, mine);
    upkeep_leave(core);
}

void upkeep_forget_collection(struct engine_core *core, const struct uuid *uuid)
{
    upkeep_release(core, uuid, UINT64_MAX);
    struct folder_remove *mine = heap_calloc(&core->r->heap, 1, sizeof(*mine));
    if (mine == NULL) /* the next start removes it */
        return;
    mine->core = core;
    shard_files_folder(mine->folder, core->db->options.data_dir, uuid);
    mine->remove =
        (struct shard_remove){.io = core->r->io, .folder = mine->folder, .done = folder_removed};
    list_push_back(&core->upkeep_ops, &mine->link);
    upkeep_enter(core);
    shard_remove_start(&mine->remove);
}

/* ---- logs that have got too large ---- */

static void flush_told(struct reactor *here, struct mail *mail)
{
    container_of(mail, struct flush_note, mail)->under_way = false;
    upkeep_leave(engine_here(here));
}

static void flush_asked(struct reactor *here, struct mail *mail)
{
    struct flush_note *note = container_of(mail, struct flush_note, mail);
    struct shard *shard = shard_find(engine_here(here), &note->uuid);
    if (shard != NULL)
        upkeep_flush_soon(shard);
    mail->deliver = flush_told;
    mail_post(here, note->home->id, mail);
}

/* Some shard that a log waits for; false: none is in the way. */
static bool find_holder(const struct engine_core *core, struct uuid *uuid_out)
{
    struct wal_stats stats;
    uint64_t version;
    wal_stats(core->wal, &stats);
    if (stats.needed_bytes > core->db->options.wal_max_bytes &&
        wal_holder(core->wal, uuid_out, &version))
        return true;
    return old_logs_holder(core, uuid_out);
}

void upkeep_sweep_core(struct engine_core *core)
{
    struct flush_note *note = &core->flush_note;
    upkeep_move_lines(core);
    upkeep_index_move_line(core);
    if (memory_used(core) > core->db->options.memory_limit / 10 * 9)
        upkeep_free_memory(core);
    if (core->wal == NULL || core->closing || note->under_way || !find_holder(core, &note->uuid))
        return;
    note->home = core;
    note->under_way = true;
    note->mail.deliver = flush_asked;
    upkeep_enter(core);
    mail_post(core->r, catalog_owner(&note->uuid, core->db->core_count), &note->mail);
}
