/* stats.c: one look at all cores, for health and for metrics.
 *
 * The call goes round the cores once. Each copies its own counters into the call's arena (about 40
 * KB) and adds its shards to the collections of the home's catalog; home joins and renders them. A
 * scrape so costs each core one copy and one step over its shards, and no core ever reads another's
 * memory. */
#include "base/log.h"
#include "engine/archive.h"
#include "engine/call.h"
#include "engine/catalog.h"
#include "engine/part.h"
#include "engine/recall.h"
#include "os/failpoint.h"
#include "os/process.h"

#include <inttypes.h>
#include <string.h>

#include "base/no_libc_heap.h"

struct stats_work {
    struct metrics **cores; /* copies; NULL when no text is wanted */
    struct metrics_collection *collections;
    uint32_t collection_count;
    uint32_t next;
    uint64_t heap_bytes;
};

/* ---- a core's part ---- */

static void set_io(struct metrics *m, const struct io *io)
{
    for (unsigned op = 0; op < METRICS_IO_END; op++) {
        const struct histogram *took = &io->stats.by_op[op].took;
        metrics_set(m, METRICS_IO_OPS_AT + op, histogram_count(took));
        m->histograms[METRICS_IO_DURATION_IN + op] = *took;
        for (unsigned error = 0; error < METRICS_ERRNO_END; error++)
            metrics_set(m, METRICS_IO_ERRORS_AT + METRICS_PLACE(ERRNO, op, error),
                        io->stats.by_op[op].errors[error]);
    }
    metrics_set(m, METRICS_IO_SHORT_AT, io->stats.short_total);
    metrics_set(m, METRICS_URING_CQ_OVERFLOW_AT, io->stats.overflow_total);
}

static void set_wal(struct metrics *m, const struct wal *w)
{
    struct wal_stats s;
    wal_stats(w, &s);
    metrics_set(m, METRICS_WAL_GROUPS_AT, s.groups);
    metrics_set(m, METRICS_WAL_RECORDS_AT, s.records);
    metrics_set(m, METRICS_WAL_BYTES_AT, s.bytes);
    metrics_set(m, METRICS_WAL_PAD_BYTES_AT, s.pad_bytes);
    metrics_set(m, METRICS_WAL_QUEUE_BYTES_AT, s.queue_bytes);
    metrics_set(m, METRICS_WAL_QUEUE_WAITS_AT, s.queue_waits);
    metrics_set(m, METRICS_WAL_SEGMENT_WAITS_AT, s.segment_waits);
    metrics_set(m, METRICS_WAL_SEGMENTS_AT + METRICS_SEGMENT_LIVE, s.segments_live);
    metrics_set(m, METRICS_WAL_SEGMENTS_AT + METRICS_SEGMENT_READY, s.segments_ready);
    metrics_set(m, METRICS_WAL_DURABLE_LSN_AT, s.durable_lsn);
    metrics_set(m, METRICS_WAL_TRUNCATED_LSN_AT, s.truncated_lsn);
    metrics_set(m, METRICS_WAL_LIVE_BYTES_AT, s.live_bytes);
    metrics_set(m, METRICS_WAL_POISONED_AT, wal_poisoned(w));
}

static void set_archive(struct metrics *m, const struct engine_core *core)
{
    struct archive_stats s;
    if (core->archive == NULL)
        return;
    archive_stats(core, &s);
    metrics_set(m, METRICS_WAL_ARCHIVE_LAG_AT, s.lag_bytes);
    if (core->id != 0)
        return;
    const struct reactor *r = core->r;
    uint64_t lag_us = s.covered_us != 0 ? (uint64_t)(r->now_realtime_us - s.covered_us)
                                        : (r->now_ns - core->db->opened_at_ns) / 1000;
    metrics_set(m, METRICS_ARCHIVE_COVERED_AT, (uint64_t)s.covered_us * 1000);
    metrics_set(m, METRICS_ARCHIVE_LAG_AT, lag_us < INT64_MAX / 1000 ? lag_us * 1000 : 0);
    metrics_set(m, METRICS_ARCHIVE_BASES_AT, s.bases);
    metrics_set(m, METRICS_ARCHIVE_BASE_TIME_AT, (uint64_t)s.base_us * 1000);
}

static void copy_metrics(const struct engine_core *core, struct metrics *m)
{
    const struct reactor *r = core->r;
    struct reactor_depths depths = reactor_depths(r);
    memcpy(m, core->metrics, sizeof(*m));
    metrics_set(m, METRICS_INDEX_BUILDS_RUNNING_AT, core->index_builds);
    metrics_set(m, METRICS_REACTOR_BUSY_AT, r->stats.busy_ns);
    metrics_set(m, METRICS_REACTOR_STALLS_AT, r->stats.stalls);
    metrics_set(m, METRICS_REACTOR_STEP_AT, r->stats.longest_step_ns);
    metrics_set(m, METRICS_REACTOR_TURN_AT, r->stats.longest_turn_ns);
    metrics_set(m, METRICS_MAILBOX_MESSAGES_AT, r->stats.mail_taken);
    metrics_set(m, METRICS_MAILBOX_DEPTH_AT, depths.mail);
    metrics_set(m, METRICS_TASK_QUEUE_DEPTH_AT, depths.tasks);
    m->histograms[METRICS_REACTOR_LOOP_IN] = r->stats.turn_times;
    metrics_set(m, METRICS_WORKER_BUSY_AT, r->stats.jobs_ns);
    metrics_set(m, METRICS_WORKER_PRESSED_AT, r->stats.jobs_pressed_ns);
    metrics_set(m, METRICS_WORKER_JOBS_AT, r->stats.jobs_out);
    set_io(m, r->io);
    set_wal(m, core->wal);
    set_archive(m, core);
}

static void count_segments(struct metrics *m, const struct shard *shard,
                           const struct parts_stats *p)
{
    unsigned state = shard->entry->config.vector_storage == PDB_VECTORS_MEMORY
                         ? METRICS_STATE_MEMORY
                         : METRICS_STATE_DISK;
    metrics_add(m, METRICS_SEGMENTS_AT + state, p->segments - p->damaged);
    metrics_add(m, METRICS_SEGMENTS_AT + METRICS_STATE_QUARANTINED,
                p->damaged + shard->lost_segments);
    metrics_add(m, METRICS_SEGMENT_ROWS_AT, p->segment_rows);
    metrics_add(m, METRICS_SEGMENT_BYTES_AT, p->segment_bytes);
    metrics_add(m, METRICS_TOMBSTONES_AT, p->tombstones);
    metrics_add(m, METRICS_EXPIRED_ROWS_AT, p->expired_rows);
    metrics_add(m, METRICS_INDEX_BYTES_AT, p->ann_bytes);
}

/* Of fields where it is known. Without memory there is none: the rest can be told without. */
static void add_recalls(struct metrics_collection *c, const struct shard *shard,
                        struct arena *arena)
{
    float recall;
    uint32_t known = 0;
    for (uint32_t i = 0; i < shard->field_count; i++)
        known += recall_known(shard, i, &recall);
    struct metrics_recall *recalls =
        known != 0 ? arena_array(arena, struct metrics_recall, known) : NULL;
    if (recalls == NULL)
        return;
    c->recalls = recalls;
    for (uint32_t i = 0; i < shard->field_count; i++) {
        if (!recall_known(shard, i, &recall))
            continue;
        struct pdb_text name = shard->entry->config.fields[i].name;
        name = arena_copy_text(arena, name.len != 0 ? name.ptr : "", name.len);
        if (name.ptr != NULL)
            recalls[c->recall_count++] = (struct metrics_recall){name, (double)recall};
    }
}

static void add_shard(struct stats_work *work, uint32_t index, const struct shard *shard,
                      struct pdb_stats *stats)
{
    struct parts_stats p;
    parts_stats(shard, &p);
    stats->records_out += p.rows_live;
    if (work->collections == NULL)
        return;
    uint32_t slot = index < METRICS_COLLECTIONS_MAX ? index : (uint32_t)METRICS_COLLECTIONS_MAX;
    struct metrics_collection *c = &work->collections[slot];
    c->rows += p.rows_live;
    c->bytes += p.memory_bytes;
    count_segments(work->cores[shard->core->id], shard, &p);
    for (unsigned i = 0; i < METRICS_PLAN_COUNT; i++)
        if (shard->search_times[i] != NULL)
            histogram_merge(&c->search[i], shard->search_times[i]);
    if (index < METRICS_COLLECTIONS_MAX)
        add_recalls(c, shard, stats->call.arena);
}

/* ---- what goes on ---- */

/* Cores that are through with a phase leave it before others do: what counts is who is still in
 * it. */
static void add_progress(const struct engine_core *core, struct pdb_progress *sum)
{
    const struct pdb_progress *p = &core->progress;
    if (p->phase == NULL)
        return;
    if (sum->phase != NULL && strcmp(sum->phase, p->phase) == 0) {
        sum->done += p->done;
        sum->total += p->total;
    } else if (sum->phase == NULL) {
        *sum = *p;
    }
}

static bool same_phase(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

void engine_progress(struct engine_core *core, const char *phase, uint64_t done, uint64_t total)
{
    enum { TELL_NS = 50000000, LOG_NS = 2000000000 };
    struct pdb *db = core->db;
    uint64_t now_ns = core->r->io->ops->now_ns(core->r->io);
    bool news = !same_phase(core->progress.phase, phase);
    FAILPOINT("recovery.progress");
    (void)pthread_mutex_lock(&db->phase_lock);
    core->progress = (struct pdb_progress){phase, done, total};
    if (db->options.progress != NULL &&
        (news || (total != 0 && done == total) || now_ns - core->progress_told_ns >= TELL_NS)) {
        struct pdb_progress sum = {.phase = NULL};
        for (unsigned i = 0; i < db->core_count; i++)
            add_progress(&db->cores[i], &sum);
        db->options.progress(&sum, db->options.arg);
        core->progress_told_ns = now_ns;
    }
    (void)pthread_mutex_unlock(&db->phase_lock);
    if (news)
        core->progress_logged_ns = now_ns;
    if (phase == NULL || now_ns - core->progress_logged_ns < LOG_NS)
        return;
    core->progress_logged_ns = now_ns;
    LOG_INFO("engine", "progress phase=%s done=%" PRIu64 " total=%" PRIu64, phase, done, total);
}

int engine_go_on(const struct engine_core *core, struct trail *trail)
{
    const struct pdb_options *o = &core->db->options;
    FAILPOINT("recovery.progress");
    if (o->stop == NULL || !o->stop(o->arg))
        return 0;
    return trail == NULL ? PDB_CANCELLED
                         : trail_add(trail, PDB_CANCELLED, "stopped before recovery was over");
}

/* ---- home: the text ---- */

/* Unless one with less free space was set before. What cannot be asked has none. */
static void set_disk(struct metrics *m, struct io *io, unsigned dir, const char *path,
                     int64_t *free_least)
{
    int64_t free_bytes = io->ops->free_space(io, path), used_bytes = io->ops->used_space(io, path);
    unsigned slot = METRICS_DISK_AT + METRICS_PLACE(DISK, dir, 0);
    if (free_bytes >= *free_least)
        return;
    *free_least = free_bytes;
    metrics_set(m, slot + METRICS_DISK_FREE, free_bytes > 0 ? (uint64_t)free_bytes : 0);
    metrics_set(m, slot + METRICS_DISK_USED, used_bytes > 0 ? (uint64_t)used_bytes : 0);
}

static void process_metrics(struct pdb_call *call, const struct stats_work *work, struct metrics *m)
{
    struct pdb *db = call->db;
    struct reactor *r = call_state(call)->here->r;
    int64_t free_bytes = INT64_MAX;
    metrics_set(m, METRICS_UPTIME_AT, r->now_ns - db->opened_at_ns);
    metrics_set(m, METRICS_READY_AT, !container_of(call, struct pdb_stats, call)->poisoned_out);
    metrics_set(m, METRICS_MEMORY_AT + METRICS_MEMORY_RSS, process_rss_bytes());
    metrics_set(m, METRICS_MEMORY_AT + METRICS_MEMORY_HEAP, work->heap_bytes);
    metrics_set(m, METRICS_MEMORY_AT + METRICS_MEMORY_LIMIT, db->options.memory_limit);
    set_disk(m, r->io, METRICS_DIR_DATA, db->options.data_dir, &free_bytes);
    free_bytes = INT64_MAX;
    for (size_t i = 0; i < db->wal_dir_count; i++)
        set_disk(m, r->io, METRICS_DIR_WAL, db->wal_dirs[i], &free_bytes);
    metrics_set(m, METRICS_OPEN_FDS_AT, process_open_fds());
    metrics_set(m, METRICS_RECOVERY_DURATION_AT, db->facts.recovery_us * 1000);
    metrics_set(m, METRICS_RECOVERY_RECORDS_AT, db->facts.recovered_records);
    metrics_set(m, METRICS_RECOVERY_TRUNCATED_AT, db->recovered_torn_bytes);
    metrics_set(m, METRICS_LOG_DROPPED_AT, log_dropped_total());
}

static int render(struct pdb_stats *stats, struct stats_work *work)
{
    struct pdb_call *call = &stats->call;
    const struct pdb_facts *facts = &call->db->facts;
    struct metrics *process = arena_new(call->arena, struct metrics);
    if (process == NULL)
        return call_no_memory(call);
    process_metrics(call, work, process);
    struct metrics_snapshot snapshot = {
        .cores = (const struct metrics *const *)work->cores,
        .core_count = call->db->core_count,
        .process = process,
        .collections = work->collections,
        .collection_count = work->collection_count,
        .operations = stats->operation_names,
        .methods = stats->method_names,
        .operation_count = stats->operation_names != NULL ? stats->operation_count : 0,
        .version = text_of(facts->version),
        .io_engine = text_of(facts->io_engine),
        .io_reason = text_of(facts->io_engine_reason),
    };
    struct buffer out;
    buffer_init_arena(&out, call->arena, 0);
    metrics_write_prometheus(&out, &snapshot);
    if (out.failed)
        return call_no_memory(call);
    stats->metrics_out = (struct pdb_text){out.ptr, out.len};
    return 0;
}

/* Home again: the call has returned by its own way round, so it ends here. */
static void stats_home(struct pdb_call *call)
{
    struct pdb_stats *stats = container_of(call, struct pdb_stats, call);
    struct stats_work *work = call_state(call)->work;
    stats->memory_bytes_out = work->heap_bytes;
    if (work->cores != NULL && render(stats, work) == 0) {
        struct reactor *r = call_state(call)->here->r;
        metrics_time(call_state(call)->here->metrics, METRICS_SCRAPE_IN,
                     r->io->ops->now_ns(r->io) - call_state(call)->started_ns);
    }
    call_return(call);
}

/* ---- the round ---- */

static void stats_at_core(struct pdb_call *call);

static void stats_step(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct pdb_stats *stats = container_of(call, struct pdb_stats, call);
    struct stats_work *work = s->work;
    while (work->next < s->catalog->count) {
        uint32_t i = work->next++;
        const struct catalog_entry *entry = s->catalog->entries[i];
        if (catalog_owner(&entry->uuid, call->db->core_count) == s->here->id) {
            const struct shard *shard = shard_find(s->here, &entry->uuid);
            if (shard != NULL)
                add_shard(work, i, shard, stats);
        }
        if (i % 64 == 63 && reactor_slice_over(s->here->r)) {
            call_again(call);
            return;
        }
    }
    if (s->here->id + 1 < call->db->core_count)
        (void)call_send(call, s->here->id + 1, stats_at_core);
    else
        (void)call_send(call, s->home->id, stats_home);
}

static void stats_at_core(struct pdb_call *call)
{
    struct call_state *s = call_state(call);
    struct pdb_stats *stats = container_of(call, struct pdb_stats, call);
    struct stats_work *work = s->work;
    struct trail trail = {0};
    work->next = 0;
    work->heap_bytes += s->here->r->heap.bytes_used;
    add_progress(s->here, &stats->progress_out);
    stats->poisoned_out = stats->poisoned_out || wal_poisoned(s->here->wal);
    stats->disk_full_out =
        stats->disk_full_out || wal_room(s->here->wal, false, &trail) == PDB_RESOURCE_EXHAUSTED;
    if (work->cores != NULL)
        copy_metrics(s->here, work->cores[s->here->id]);
    call_run(call, stats_step);
}

static int make_room(struct pdb_call *call, struct stats_work *work)
{
    struct call_state *s = call_state(call);
    unsigned cores = call->db->core_count;
    work->cores = arena_calloc(call->arena, cores, sizeof(struct metrics *));
    for (unsigned i = 0; work->cores != NULL && i < cores; i++)
        if ((work->cores[i] = arena_alloc(call->arena, sizeof(struct metrics))) == NULL)
            return call_no_memory(call);
    uint32_t count = s->catalog->count;
    uint32_t named = count < METRICS_COLLECTIONS_MAX ? count : (uint32_t)METRICS_COLLECTIONS_MAX;
    work->collection_count = named + (count > named);
    work->collections =
        arena_calloc(call->arena, (size_t)named + 1, sizeof(struct metrics_collection));
    if (work->cores == NULL || work->collections == NULL)
        return call_no_memory(call);
    for (uint32_t i = 0; i < named; i++)
        work->collections[i].name = s->catalog->entries[i]->config.name;
    work->collections[named].name = TEXT_LIT("other");
    return 0;
}

void pdb_stats_start(struct pdb_stats *stats)
{
    struct pdb_call *call = &stats->call;
    if (!call_begin(call))
        return;
    struct call_state *s = call_state(call);
    stats->collections_out = s->here->catalog->count;
    stats->records_out = stats->memory_bytes_out = 0;
    stats->poisoned_out = stats->disk_full_out = false;
    stats->progress_out = (struct pdb_progress){0};
    stats->metrics_out = (struct pdb_text){NULL, 0};
    s->catalog = s->here->catalog;
    catalog_hold(s->here, s->catalog);
    struct stats_work *work = arena_new(call->arena, struct stats_work);
    if (work == NULL || (stats->want_metrics && make_room(call, work) < 0)) {
        (void)call_no_memory(call);
        call_return(call);
        return;
    }
    s->work = work;
    s->touring = true;
    (void)call_send(call, 0, stats_at_core);
}
